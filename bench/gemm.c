/* gemm.c - products of matrices by one library, in a process of its own.
 *
 *   gemm LIBRARY [THREADS]
 *
 * prints a line of JSON a shape; bench/gemm.py runs all libraries in turn and prints the ratios.
 * libniz is there twice: "graph", what a user runs, recording included, the result in place; and
 * "kernel", the interpreter's contraction alone.
 *
 * SPDX-License-Identifier: MIT */
#include "gemm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"
#include "timing.h"

/* A timed call multiplies until it lasts about so long: the clock costs, too. */
#define CALL_NS 20e3

/* M, K, N: the large ones, then the small */
static const int64_t shape[][3] = {
    {64, 784, 128},     {128, 784, 128},    {784, 64, 128}, {256, 256, 256}, {512, 512, 512},
    {1024, 1024, 1024}, {2048, 2048, 2048}, {16, 16, 16},   {32, 32, 32},    {64, 64, 64},
    {128, 128, 128},    {32, 10, 128},      {1, 512, 512}};

static const gemm_library *const library[] = {
    &gemm_graph,    &gemm_kernel,
#ifdef BENCH_OPENBLAS
    &gemm_openblas,
#endif
#ifdef BENCH_ONEDNN
    &gemm_onednn,   &gemm_onednn_sgemm,
#endif
};
#define LIBRARIES (sizeof library / sizeof *library)

typedef struct timed {
    const gemm_library *library;
    gemm g;
    int times;
} timed;

static void multiply(void *state)
{
    timed *t = state;
    for (int i = 0; i < t->times; i++) t->library->run(&t->g);
}

/* The largest difference from a sum in double, over some of the elements. */
static double error_of(const gemm *g)
{
    double worst = 0;
    for (int64_t at = 0; at < g->m * g->n; at += 1 + g->m * g->n / 997) {
        int64_t i = at / g->n, j = at % g->n;
        double sum = 0;
        for (int64_t q = 0; q < g->k; q++) sum += (double)g->a[i * g->k + q] * g->b[q * g->n + j];
        worst = fmax(worst, fabs(sum - g->y[at]));
    }
    return worst;
}

static void measure(timed *t)
{
    multiply(t); /* once: makes what is made at the first */
    for (double ns = 0; ns < CALL_NS; t->times *= 2) {
        double start = timing_ns();
        multiply(t);
        ns = timing_ns() - start;
    }
    double error = error_of(&t->g);
    timing_result r = timing_short_blocks(multiply, t);
    printf("{\"m\": %lld, \"k\": %lld, \"n\": %lld, \"median_us\": %.4f, \"min_us\": %.4f, "
           "\"error\": %.3g}\n",
           (long long)t->g.m, (long long)t->g.k, (long long)t->g.n, r.median / 1e3 / t->times,
           r.min / 1e3 / t->times, error);
    fflush(stdout);
}

static float *room(int64_t n)
{
    float *p = aligned_alloc(64, ((size_t)n * sizeof *p + 63) / 64 * 64);
    if (!p) exit(1);
    memset(p, 0, (size_t)n * sizeof *p);
    return p;
}

static bool measure_shape(const gemm_library *l, const int64_t s[3], int threads)
{
    float *a = numbers_f32(1, s[0] * s[1], -1, 1), *b = numbers_f32(2, s[1] * s[2], -1, 1);
    float *y = room(s[0] * s[2]);
    timed t = {l, {.m = s[0], .k = s[1], .n = s[2], .threads = threads, .a = a, .b = b, .y = y}, 1};
    bool ok = l->open(&t.g);
    if (ok) {
        measure(&t);
        l->close(&t.g);
    }
    free(a);
    free(b);
    free(y);
    return ok;
}

int main(int argc, char **argv)
{
    const gemm_library *l = NULL;
    for (size_t i = 0; i < LIBRARIES && argc > 1; i++)
        if (!strcmp(argv[1], library[i]->name)) l = library[i];
    if (!l || argc > 3) {
        fprintf(stderr, "usage: gemm LIBRARY [THREADS]; built with:");
        for (size_t i = 0; i < LIBRARIES; i++) fprintf(stderr, " %s", library[i]->name);
        fprintf(stderr, "\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        if (!measure_shape(l, shape[i], argc > 2 ? atoi(argv[2]) : 1)) return 1;
    return 0;
}
