#include <time.h>
#include <unistd.h>
#include "exec/kernel_cache.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dlfcn.h>
struct niz_kernels { int x; };
struct niz_kernel { struct niz_kernel_head head; void *so; };
niz_isa niz_isa_of(const char *n){ return !strcmp(n,"avx512")?NIZ_ISA_AVX512:!strcmp(n,"avx2")?NIZ_ISA_AVX2:NIZ_ISA_SSE2; }
niz_kernels *niz_kernels_open(niz *z, const niz_kernel_options *o){ static niz_kernels k; return &k; }
void niz_kernels_close(niz_kernels*k){}
niz_kernel *niz_kernel_request(niz_kernels *k, const char *text, niz_target t, niz_kernel_mode mode){ static int c; char n[64],cmd[512]; snprintf(n,64,"/tmp/me/k%d_%d.c",getpid(),c++); FILE*f=fopen(n,"w"); fputs(text,f); fclose(f);
 const char*fl[]={"-march=x86-64","-march=x86-64-v3","-march=x86-64-v4 -mprefer-vector-width=512"};
 snprintf(cmd,512,"%s -O2 -ffp-contract=off -fno-math-errno -fno-trapping-math -fwrapv -fno-strict-aliasing %s -shared -fPIC -w %s -o %s.so -lm", getenv("NIZ_CC")?getenv("NIZ_CC"):"gcc", fl[t.isa],n,n); struct timespec a,b; clock_gettime(CLOCK_MONOTONIC,&a); int r=system(cmd); clock_gettime(CLOCK_MONOTONIC,&b); if(getenv("KT"))fprintf(stderr,"cc %.0f ms\n",(b.tv_sec-a.tv_sec)*1e3+(b.tv_nsec-a.tv_nsec)*1e-6); strcat(n,".so"); niz_kernel*q=calloc(1,sizeof*q); q->so=r?0:dlopen(n,RTLD_NOW); q->head.state=q->so?NIZ_KERNEL_READY:NIZ_KERNEL_FAILED; if(!q->so) fprintf(stderr,"FAIL %s\n",r?"cc":dlerror()); else if(!getenv("KEEP")){unlink(n); n[strlen(n)-3]=0; unlink(n);} return q; }
void niz_kernel_release(niz_kernels*k,niz_kernel*q){ free(q);} 
void *niz_kernel_symbol(const niz_kernel*k,const char*n){ return dlsym(k->so,n);} 
