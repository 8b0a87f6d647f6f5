/* jit.h - whether plans are compiled, and the kernels they wait for.  SPDX-License-Identifier: MIT
 */
#ifndef NIZ_JIT_H
#define NIZ_JIT_H

#include "exec/kernel_cache.h"
#include "exec/exec.h"

typedef struct niz_jit {
    niz_kernels *kernels;
    niz_target target;
    niz_kernel_mode mode;
    int vector_bytes;
    niz_plan *waiting; /* plans whose kernels are not all made yet */
} niz_jit;

/** NIZ_JIT=async|sync|off: makes e->jit, or leaves it NULL.  False (error set) without memory. */
bool niz_jit_open(niz_exec *e);
void niz_jit_close(niz_exec *e);

int niz_jit_vector_bytes(const niz_exec *e);

#endif
