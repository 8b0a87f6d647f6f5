/* scalars.c - graphs of very many operations on single numbers: how long planning, compiling and
 * running take, and whether that is linear.
 *
 *   scalars [OPERATIONS...]      (default: 50000 200000)
 *
 * Two graphs: a seeded random DAG, where nothing repeats, and repeats of one block of 1,000.
 *
 * SPDX-License-Identifier: MIT */
#include <niz.h>

#include <stdlib.h>

#include "timing.h"

#define BLOCK 1000
#define INPUTS 16
#define RECENT 64 /* operands are among so many values before: a program's, not a noise's */
#define RUNS 20

static uint64_t state;

static int64_t draw(int64_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)(state >> 33) % n;
}

/* One operation of six.  Half of them bring a value back to ±1, so that none runs away or fades. */
static niz_t operation(niz_t a, niz_t b)
{
    switch (draw(6)) {
    case 0: return niz_tanh(a);
    case 1: return niz_sin(a);
    case 2: return niz_cos(a);
    case 3: return niz_add(a, b);
    case 4: return niz_sub(a, b);
    default: return niz_mul(a, b);
    }
}

/* v[0..RECENT-1] are the newest values, in a ring; n operations more.  Each takes the oldest, so that
 * none is dead, and a random one. */
static int64_t grow(niz_t *v, int64_t at, int64_t n)
{
    for (int64_t i = 0; i < n; i++, at++)
        v[at % RECENT] = operation(v[at % RECENT], v[draw(RECENT)]);
    return at;
}

static niz_t sum_of(const niz_t *v)
{
    niz_t y = v[0];
    for (int i = 1; i < RECENT; i++) y = niz_add(y, v[i]);
    return y;
}

/* n operations: one random DAG, or (block < n) the same block again and again. */
static niz_t record(niz *z, int64_t n, int64_t block)
{
    niz_t v[RECENT];
    int64_t at = 0;
    for (int i = 0; i < RECENT; i++) v[i] = niz_scalar(z, NIZ_F64, 0.1 * (i % INPUTS) - 0.7);
    for (int64_t left = n; left > 0; left -= block) {
        if (block < n) {
            state = 7;
            at = 0;
        }
        at = grow(v, at, left < block ? left : block);
    }
    return sum_of(v);
}

typedef struct times {
    double record, first, again, value; /* s, s, s */
} times;

/* The first run plans; with NIZ_JIT=sync it compiles, too. */
static times measure(int64_t n, int64_t block)
{
    times t = {0};
    double ns[RUNS];
    niz *z = niz_open(NULL);
    if (!z) exit(1);
    for (int i = 0; i <= RUNS; i++) {
        NIZ_STEP(z);
        state = 7;
        double start = timing_ns();
        niz_t y = record(z, n, block);
        double recorded = timing_ns();
        t.value = niz_item(y);
        double end = timing_ns();
        if (i == 0) t.first = (end - recorded) / 1e9;
        if (i > 0) ns[i - 1] = end - recorded;
        t.record = (recorded - start) / 1e9;
    }
    t.again = timing_median(ns, RUNS) / 1e9;
    if (niz_error(z)) fprintf(stderr, "scalars: %s\n", niz_message(z));
    niz_close(z);
    return t;
}

static void report(const char *what, int64_t n, int64_t block)
{
    times t = measure(n, block);
    printf("%-24s %9lld %10.1f %12.3f %10.3f %10.1f   %.9g\n", what, (long long)n,
           1e9 * t.record / (double)n, t.first, 1e3 * t.again, 1e9 * t.again / (double)n, t.value);
}

int main(int argc, char **argv)
{
    static const int64_t usual[] = {50000, 200000};
    int count = argc > 1 ? argc - 1 : 2;
    const char *mode = getenv("NIZ_JIT");
    printf("NIZ_JIT=%s; goals for 200,000 with sync: first run 10 s (DAG), 2 s (blocks)\n",
           mode ? mode : "(default)");
    printf("%-24s %9s %10s %12s %10s %10s   %s\n", "graph", "ops", "record ns", "first run s",
           "a run ms", "ns an op", "value");
    for (int i = 0; i < count; i++) {
        int64_t n = argc > 1 ? atoll(argv[i + 1]) : usual[i];
        if (n < 1) return fprintf(stderr, "usage: scalars [OPERATIONS...]\n"), 2;
        report("random DAG", n, n);
        report("blocks of 1,000", n, BLOCK);
    }
    return 0;
}
