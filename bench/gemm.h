/* gemm.h - y = a b in several libraries: a [M,K], b [K,N], y [M,N], f32, row-major.
 *
 * SPDX-License-Identifier: MIT */
#ifndef GEMM_H
#define GEMM_H

#include <stdbool.h>
#include <stdint.h>

typedef struct gemm {
    int64_t m, k, n;
    int threads;
    const float *a, *b;
    float *y; /* what `run` has written; libniz's graph has memory of its own */
    void *own;
} gemm;

/** One way to multiply.  open prepares (false: it cannot), run multiplies once, close frees. */
typedef struct gemm_library {
    const char *name;
    bool (*open)(gemm *g);
    void (*run)(gemm *g);
    void (*close)(gemm *g);
} gemm_library;

extern const gemm_library gemm_graph, gemm_kernel;
extern const gemm_library gemm_openblas, gemm_onednn, gemm_onednn_sgemm; /* if built with them */

#endif
