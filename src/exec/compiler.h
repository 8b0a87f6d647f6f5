/* compiler.h - the system's C compiler: which one, its flags, one run of it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_COMPILER_H
#define NIZ_COMPILER_H

#include <niz/core.h>

/** What a kernel is compiled for. */
typedef enum niz_isa { NIZ_ISA_SSE2, NIZ_ISA_AVX2, NIZ_ISA_AVX512 } niz_isa;

typedef struct niz_target {
    niz_isa isa;
    bool straight_line; /* a long chunk without loops: -O1, where -O2 gains little and costs much */
} niz_target;

/** A compiler and who it is.  Found once a context; reads nothing of the environment afterwards, so
 *  it may be used by another thread. */
typedef struct niz_compiler {
    char *path;    /* absolute; NULL: there is none, and why says the reason */
    char *search;  /* PATH for its own children: ours without relative entries */
    char *scratch; /* TMPDIR if that is an absolute name, else /tmp */
    uint64_t size, inode; /* of the program file, with mtime its identity */
    int64_t mtime_ns;
    int limit_ms;  /* NIZ_CC_TIMEOUT in seconds; one minute by default */
    char why[256];
} niz_compiler;

/** Looks for NIZ_CC (an absolute name, or one on PATH), else for cc, gcc, clang on PATH.  A NIZ_CC
 *  that is not there is not replaced by another one: then there is no compiler. */
void niz_compiler_find(niz *z, niz_compiler *c);
void niz_compiler_drop(niz *z, niz_compiler *c);

/** "sse2", "avx2" or "avx512"; anything else is sse2. */
niz_isa niz_compiler_isa(const char *name);

/** All arguments after the program's name, file names included, then NULL: what a key hashes. */
#define NIZ_COMPILER_ARGS 24
void niz_compiler_args(niz_target t, const char *arg[NIZ_COMPILER_ARGS]);

/** What a run yields: an object file's bytes (malloc: it is a worker's thread), or why not. */
typedef struct niz_compiled {
    unsigned char *bytes;
    size_t n;
    bool cancelled;
    char why[1024];
} niz_compiled;

/** Compiles text into a shared object, in a directory of its own that is gone afterwards.  False:
 *  out says why.  `cancel` is a descriptor: when it becomes readable the compiler is killed; -1:
 *  none. */
bool niz_compiler_run(const niz_compiler *c, niz_target t, const char *text, int cancel,
                      niz_compiled *out);

/** Removes what compilers left where they work if their masters were killed an hour ago or more. */
void niz_compiler_tidy(const niz_compiler *c);

#endif
