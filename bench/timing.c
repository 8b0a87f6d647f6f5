/* timing.c - a clock, medians and memory for the benchmarks.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "timing.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#define BLOCKS 15
#define BLOCK_NS 50e6
#define SHORT_BLOCKS 5
#define SHORT_BLOCK_NS 8e6
#define CALLS_MIN 3
#define CALLS_MAX 20000

double timing_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double timing_median(double *value, int n)
{
    qsort(value, (size_t)n, sizeof *value, compare);
    return n % 2 ? value[n / 2] : (value[n / 2 - 1] + value[n / 2]) / 2;
}

static double call_ns(void (*call)(void *), void *state)
{
    double start = timing_ns();
    call(state);
    return timing_ns() - start;
}

static timing_result blocks_of(void (*call)(void *), void *state, int blocks, int calls)
{
    static double ns[CALLS_MAX];
    double block[BLOCKS];
    for (int b = 0; b < blocks; b++) {
        for (int i = 0; i < calls; i++) ns[i] = call_ns(call, state);
        block[b] = timing_median(ns, calls);
    }
    double median = timing_median(block, blocks); /* which sorts */
    return (timing_result){median, block[0]};
}

static int calls_in(double block_ns, double ns, int least)
{
    double fill = block_ns / ns;
    return fill < least ? least : fill > CALLS_MAX ? CALLS_MAX : (int)fill;
}

timing_result timing_blocks(void (*call)(void *), void *state)
{
    double once[5];
    for (int i = 0; i < 5; i++) once[i] = call_ns(call, state);
    return blocks_of(call, state, BLOCKS, calls_in(BLOCK_NS, timing_median(once, 5), CALLS_MIN));
}

timing_result timing_short_blocks(void (*call)(void *), void *state)
{
    int calls = calls_in(SHORT_BLOCK_NS, call_ns(call, state), 1);
    return blocks_of(call, state, SHORT_BLOCKS, calls);
}

long timing_peak_kib(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) ? 0 : u.ru_maxrss;
}
