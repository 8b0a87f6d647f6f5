/* gemm_niz.c - products by libniz: a graph as a user runs it, and the bare kernel.
 *
 * The kernel is inside libniz (src/exec), and is called as src/exec/run.c calls it.
 *
 * SPDX-License-Identifier: MIT */
#include <niz.h>

#include <stdlib.h>

#include "exec/exec.h"
#include "gemm.h"

/* ---- a graph, recorded anew each time -------------------------------------------------------- */

static void graph_run(gemm *g)
{
    niz *z = g->own;
    NIZ_STEP(z);
    niz_t a = niz_from(z, NIZ_F32, NIZ_SHAPE(g->m, g->k), g->a);
    niz_t b = niz_from(z, NIZ_F32, NIZ_SHAPE(g->k, g->n), g->b);
    niz_t y = niz_state(z, "y", NIZ_F32, NIZ_SHAPE(g->m, g->n), niz_constant_init(0));
    niz_assign(y, niz_matmul(a, b)); /* into the state's own memory */
}

static bool graph_open(gemm *g)
{
    niz *z = g->own = niz_open(&(niz_options){.threads = g->threads});
    if (!z) return false;
    for (int i = 0; i < 3; i++) graph_run(g);
    if (niz_error(z)) return fprintf(stderr, "gemm: %s\n", niz_message(z)), false;
    g->y = (float *)(uintptr_t)niz_param_get(z, 0).data;
    return true;
}

static void graph_close(gemm *g)
{
    niz_close(g->own);
}

const gemm_library gemm_graph = {"graph", graph_open, graph_run, graph_close};

/* ---- the kernel alone ------------------------------------------------------------------------ */

typedef struct kernel {
    const niz_loops *loops;
    niz_contract_loop loop;
    gemm *g;
    char *scratch;
    size_t scratch_bytes; /* a thread */
    int64_t units;
    int threads;
    niz *z;
    struct niz_pool *pool;
} kernel;

static niz_loop_space axis(int64_t size, int64_t first, int64_t second)
{
    niz_loop_space s = {.rank = 1, .dim = {size}, .n = 2};
    s.stride[0][0] = first;
    s.stride[1][0] = second;
    return s;
}

static void kernel_piece(void *state, int thread, int64_t begin, int64_t end)
{
    kernel *c = state;
    c->loops->contract(&c->loop, c->g->a, c->g->b, c->g->y, begin, end,
                       c->scratch + (size_t)thread * c->scratch_bytes, NULL);
}

static void kernel_run(gemm *g)
{
    kernel *c = g->own;
    c->g = g;
    niz_parallel(c->pool, c->threads, c->units, kernel_piece, c);
}

static bool kernel_open(gemm *g)
{
    kernel *c = calloc(1, sizeof *c);
    if (!c) return false;
    c->loops = niz_isa_loops();
    c->loop = (niz_contract_loop){.dtype = NIZ_F32,
                                  .batch = {.n = 3},
                                  .m = axis(g->m, g->k, g->n),
                                  .n = axis(g->n, 1, 1),
                                  .k = axis(g->k, 1, g->n)};
    double grains = (double)g->m * (double)g->k * (double)g->n / 8 / 200000; /* as run.c counts */
    c->threads = grains + 1 < g->threads ? (int)grains + 1 : g->threads;
    c->loops->contract_prepare(&c->loop);
    c->units = c->loop.plan.units;
    c->scratch_bytes = (c->loop.plan.scratch + 63) / 64 * 64;
    c->scratch = aligned_alloc(64, c->scratch_bytes * (size_t)c->threads);
    g->own = c;
    c->z = niz_open(NULL);
    c->pool = c->z && c->threads > 1 ? niz_pool_open(c->z, c->threads) : NULL;
    return c->scratch && c->z && (c->pool || c->threads == 1);
}

static void kernel_close(gemm *g)
{
    kernel *c = g->own;
    niz_pool_close(c->z, c->pool);
    niz_close(c->z);
    free(c->scratch);
    free(c);
}

const gemm_library gemm_kernel = {"kernel", kernel_open, kernel_run, kernel_close};
