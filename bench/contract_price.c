/* contract_price.c - the price of the contract: loops whose order of sums is fixed, beside the same
 * loops free to contract and reassociate; one thread.
 *
 * "kept" is libniz as it is.  "free" is the best of: the same source built with -O3 -ffast-math
 * (for products: with blocks of k of 256, 512 and 4096, too), and plain C built so.  The price is
 * kept / free - 1: what a user pays for the same bits everywhere.
 *
 * SPDX-License-Identifier: MIT */
#include <niz.h>

#include <math.h>
#include <stdlib.h>

#include "exec/exec.h"
#include "numbers.h"
#include "price.h"
#include "timing.h"

#define SUM_N (1 << 16) /* 256 KiB: in the second-level cache, so that arithmetic counts */
#define ROWS 256
#define COLUMNS 512

static void report(const char *what, double kept, double unbound, double difference)
{
    printf("%-28s %10.2f %10.2f %8.1f %%   %.1e\n", what, kept / 1e3, unbound / 1e3,
           100 * (kept / unbound - 1), difference);
}

static double median_of(void (*call)(void *), void *state)
{
    return timing_blocks(call, state).median;
}

/* The largest difference of n numbers, relative to the largest of them. */
static double difference(int64_t n, const float *a, const float *b)
{
    double worst = 0, top = 0;
    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)a[i] - b[i]));
        top = fmax(top, fabs((double)a[i]));
    }
    return top > 0 ? worst / top : worst;
}

/* ---- a product ------------------------------------------------------------------------------- */

typedef void contract_run(const niz_contract_loop *, const void *, const void *, void *, int64_t,
                          int64_t, void *, const niz_fused *);
typedef struct product {
    niz_contract_loop loop;
    contract_run *run;
    const float *a, *b;
    float *y;
    void *scratch;
    int64_t units;
} product;

static niz_loop_space axis(int64_t size, int64_t first, int64_t second)
{
    niz_loop_space s = {.rank = 1, .dim = {size}, .n = 2};
    s.stride[0][0] = first;
    s.stride[1][0] = second;
    return s;
}

static void multiply(void *state)
{
    product *p = state;
    p->run(&p->loop, p->a, p->b, p->y, 0, p->units, p->scratch, NULL);
}

static double product_ns(product *p, contract_run *run, void (*prepare)(niz_contract_loop *))
{
    prepare(&p->loop);
    p->run = run;
    p->units = p->loop.plan.units;
    p->scratch = aligned_alloc(64, (p->loop.plan.scratch + 63) / 64 * 64);
    if (!p->scratch) exit(1);
    double ns = median_of(multiply, p);
    free(p->scratch);
    return ns;
}

#define FREE_NS(k) product_ns(&p, niz_contract_run_free_##k, niz_contract_prepare_free_##k)

static void measure_product(int64_t n)
{
    const niz_loops *l = niz_isa_loops();
    float *a = numbers_f32(1, n * n, -1, 1), *b = numbers_f32(2, n * n, -1, 1);
    float *y = numbers_f32(3, n * n, 0, 0), *kept = numbers_f32(3, n * n, 0, 0);
    product p = {.a = a, .b = b, .y = kept};
    p.loop = (niz_contract_loop){.dtype = NIZ_F32,
                                 .batch = {.n = 3},
                                 .m = axis(n, n, n),
                                 .n = axis(n, 1, 1),
                                 .k = axis(n, 1, n)};
    double ours = product_ns(&p, l->contract, l->contract_prepare);
    p.y = y;
    double best = fmin(fmin(FREE_NS(256), FREE_NS(512)), FREE_NS(4096));
    char what[64];
    snprintf(what, sizeof what, "product %lld x %lld x %lld", (long long)n, (long long)n,
             (long long)n);
    report(what, ours, best, difference(n * n, kept, y));
    free(a);
    free(b);
    free(y);
    free(kept);
}

/* ---- a sum ----------------------------------------------------------------------------------- */

typedef struct sum {
    niz_reduce_loop loop;
    void (*run)(const niz_reduce_loop *, const void *, void *, int64_t, int64_t);
    const float *x;
    float y;
} sum;

static void fold(void *state)
{
    sum *s = state;
    s->run(&s->loop, s->x, &s->y, 0, 1);
}

static void plain_sum(void *state)
{
    sum *s = state;
    s->y = price_sum(SUM_N, s->x);
}

static void measure_sum(void)
{
    float *x = numbers_f32(1, SUM_N, 0, 1);
    sum s = {.x = x, .run = niz_isa_loops()->reduce};
    s.loop = (niz_reduce_loop){
        .dtype = NIZ_F32, .combine = NIZ_COMBINE_SUM, .n = SUM_N, .stride = 1, .space = {.n = 2}};
    double ours = median_of(fold, &s), kept = s.y;
    s.run = niz_reduce_run_free;
    double same = median_of(fold, &s), plain = median_of(plain_sum, &s);
    report("sum of 65,536", ours, fmin(same, plain), fabs(kept - s.y) / fabs(kept));
    free(x);
}

/* ---- softmax --------------------------------------------------------------------------------- */

typedef struct rows {
    niz *z;
    float *x, *y;
} rows;

static void recorded(void *state)
{
    rows *r = state;
    NIZ_STEP(r->z);
    niz_t x = niz_from(r->z, NIZ_F32, NIZ_SHAPE(ROWS, COLUMNS), r->x);
    niz_t y = niz_state(r->z, "y", NIZ_F32, NIZ_SHAPE(ROWS, COLUMNS), niz_constant_init(0));
    niz_assign(y, niz_softmax(x, -1));
}

static void plain_softmax(void *state)
{
    rows *r = state;
    price_softmax(ROWS, COLUMNS, r->x, r->y);
}

static bool measure_softmax(void)
{
    rows r = {.z = niz_open(&(niz_options){.threads = 1}),
              .x = numbers_f32(1, ROWS * COLUMNS, -4, 4),
              .y = numbers_f32(2, ROWS * COLUMNS, 0, 0)};
    if (!r.z) return false;
    double ours = median_of(recorded, &r), plain = median_of(plain_softmax, &r);
    bool ok = !niz_error(r.z);
    if (ok)
        report("softmax 256 x 512, recorded", ours, plain,
               difference(ROWS * COLUMNS, niz_param_get(r.z, 0).data, r.y));
    else
        fprintf(stderr, "contract_price: %s\n", niz_message(r.z));
    niz_close(r.z);
    free(r.x);
    free(r.y);
    return ok;
}

int main(void)
{
    printf("%-28s %10s %10s %10s   %s\n", "one thread", "kept us", "free us", "price",
           "difference");
    measure_product(256);
    measure_product(512);
    measure_product(1024);
    measure_sum();
    return measure_softmax() ? 0 : 1;
}
