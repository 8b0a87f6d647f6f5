/* gemm_blas.c - products by OpenBLAS and oneDNN, where they are installed.
 *
 * SPDX-License-Identifier: MIT */
#include "gemm.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef BENCH_OPENBLAS
#include <cblas.h>

static bool openblas_open(gemm *g)
{
    openblas_set_num_threads(g->threads);
    return true;
}

static void openblas_run(gemm *g)
{
    blasint m = (blasint)g->m, n = (blasint)g->n, k = (blasint)g->k;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, g->a, k, g->b, n, 0, g->y,
                n);
}

static void openblas_close(gemm *g)
{
    (void)g;
}

const gemm_library gemm_openblas = {"openblas", openblas_open, openblas_run, openblas_close};
#endif

#ifdef BENCH_ONEDNN
#include <dnnl.h>

#ifdef _OPENMP
#include <omp.h>
#endif

static void set_threads(int n)
{
#ifdef _OPENMP
    omp_set_num_threads(n); /* Debian's oneDNN is threaded by OpenMP */
#else
    (void)n;
#endif
}

/* ---- its BLAS call --------------------------------------------------------------------------- */

static bool sgemm_open(gemm *g)
{
    set_threads(g->threads);
    return true;
}

static void sgemm_run(gemm *g)
{
    dnnl_sgemm('N', 'N', g->m, g->n, g->k, 1, g->a, g->k, g->b, g->n, 0, g->y, g->n);
}

static void sgemm_close(gemm *g)
{
    (void)g;
}

const gemm_library gemm_onednn_sgemm = {"onednn_sgemm", sgemm_open, sgemm_run, sgemm_close};

/* ---- its matmul primitive, made once --------------------------------------------------------- */

typedef struct matmul {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arg[3];
} matmul;

static bool memory(matmul *c, int i, int what, const dnnl_memory_desc_t *d, const float *data)
{
    c->arg[i].arg = what;
    return !dnnl_memory_create(&c->arg[i].memory, d, c->engine, (void *)(uintptr_t)data);
}

static bool make(matmul *c, const gemm *g)
{
    dnnl_memory_desc_t a, b, y;
    dnnl_matmul_desc_t d;
    dnnl_primitive_desc_t p;
    if (dnnl_engine_create(&c->engine, dnnl_cpu, 0) ||
        dnnl_stream_create(&c->stream, c->engine, dnnl_stream_default_flags) ||
        dnnl_memory_desc_init_by_tag(&a, 2, (dnnl_dims_t){g->m, g->k}, dnnl_f32, dnnl_ab) ||
        dnnl_memory_desc_init_by_tag(&b, 2, (dnnl_dims_t){g->k, g->n}, dnnl_f32, dnnl_ab) ||
        dnnl_memory_desc_init_by_tag(&y, 2, (dnnl_dims_t){g->m, g->n}, dnnl_f32, dnnl_ab) ||
        dnnl_matmul_desc_init(&d, &a, &b, NULL, &y) ||
        dnnl_primitive_desc_create(&p, &d, NULL, c->engine, NULL) ||
        dnnl_primitive_create(&c->primitive, p))
        return false;
    dnnl_primitive_desc_destroy(p);
    return memory(c, 0, DNNL_ARG_SRC, &a, g->a) && memory(c, 1, DNNL_ARG_WEIGHTS, &b, g->b) &&
           memory(c, 2, DNNL_ARG_DST, &y, g->y);
}

static bool matmul_open(gemm *g)
{
    set_threads(g->threads);
    matmul *c = g->own = calloc(1, sizeof *c);
    if (c && make(c, g)) return true;
    fprintf(stderr, "gemm: oneDNN refuses\n");
    return false;
}

static void matmul_run(gemm *g)
{
    matmul *c = g->own;
    dnnl_primitive_execute(c->primitive, c->stream, 3, c->arg);
    dnnl_stream_wait(c->stream);
}

static void matmul_close(gemm *g)
{
    matmul *c = g->own;
    for (int i = 0; i < 3; i++) dnnl_memory_destroy(c->arg[i].memory);
    dnnl_primitive_destroy(c->primitive);
    dnnl_stream_destroy(c->stream);
    dnnl_engine_destroy(c->engine);
    free(c);
}

const gemm_library gemm_onednn = {"onednn", matmul_open, matmul_run, matmul_close};
#endif
