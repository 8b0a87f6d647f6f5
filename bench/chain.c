/* chain.c - a chain of eight elementwise operations on 2^24 floats, against the loop that one would
 * write by hand: the same expression, the same buffers, the same kind of store.
 *
 *   chain [THREADS]
 *
 * The value is assigned to a state, so that libniz writes where it wrote before, as the loop does;
 * both read 64 MiB and write 64 MiB, through the cache.
 *
 * SPDX-License-Identifier: MIT */
#include <niz.h>

#include <math.h>
#include <stdlib.h>

#include "chain_loop.h"
#include "numbers.h"
#include "timing.h"

#define N (1 << 24)

typedef struct chain {
    niz *z;
    float *x;
    const float *y; /* where the state's values are */
    int threads;
} chain;

/* y = max(0.5 - ((1.5 x + 0.25)² - x) · 0.125, 0) x, one rounding an operation */
static niz_t expression(niz_t x)
{
    niz_t a = niz_add(niz_mul(x, 1.5), 0.25);
    niz_t b = niz_sub(niz_square(a), x);
    return niz_mul(niz_maximum(niz_sub(0.5, niz_mul(b, 0.125)), 0.0), x);
}

static void recorded(void *state)
{
    chain *c = state;
    NIZ_STEP(c->z);
    niz_t x = niz_from(c->z, NIZ_F32, NIZ_SHAPE(N), c->x);
    niz_t y = niz_state(c->z, "y", NIZ_F32, NIZ_SHAPE(N), niz_constant_init(0));
    niz_assign(y, expression(x));
}

static void by_hand(void *state)
{
    chain *c = state;
    chain_loop(c->threads, N, c->x, (float *)(uintptr_t)c->y);
}

/* How many of the state's values are not what the loop makes. */
static int64_t different(const chain *c)
{
    float *want = malloc(sizeof *want * N);
    int64_t n = 0;
    if (!want) exit(1);
    chain_loop(1, N, c->x, want);
    for (int64_t i = 0; i < N; i++) n += want[i] != c->y[i];
    free(want);
    return n;
}

static double report(const char *what, timing_result t)
{
    printf("%-22s %9.0f %9.0f %7.1f\n", what, t.median / 1e3, t.min / 1e3, 8.0 * N / t.median);
    return t.median;
}

int main(int argc, char **argv)
{
    chain c = {.threads = argc > 1 ? atoi(argv[1]) : 1, .x = numbers_f32(1, N, -2, 2)};
    c.z = niz_open(&(niz_options){.threads = c.threads});
    if (!c.z) return 1;
    for (int i = 0; i < 5; i++) recorded(&c);
    if (niz_error(c.z)) return fprintf(stderr, "chain: %s\n", niz_message(c.z)), 1;
    c.y = niz_param_get(c.z, 0).data;
    printf("8 operations on 2^24 floats, %d threads; elements that differ: %lld\n", c.threads,
           (long long)different(&c));
    printf("%-22s %9s %9s %7s\n", "", "median us", "min", "GB/s");
    double hand = report("the loop by hand", timing_blocks(by_hand, &c));
    double ours = report("libniz, recorded anew", timing_blocks(recorded, &c));
    printf("ratio of medians, loop / libniz: %.3f (goal: 0.95)\n", hand / ours);
    bool failed = niz_error(c.z);
    if (failed) fprintf(stderr, "chain: %s\n", niz_message(c.z));
    niz_close(c.z);
    free(c.x);
    return failed;
}
