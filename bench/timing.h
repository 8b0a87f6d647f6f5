/* timing.h - a clock, medians and memory for the benchmarks.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TIMING_H
#define TIMING_H

/** Nanoseconds on a clock that only goes forward. */
double timing_ns(void);

/** The median of n values, which it sorts. */
double timing_median(double *value, int n);

/** The statistic of every table: a block is as many calls as fill about 50 ms, at least 3; of 15
 *  blocks the median of the blocks' medians, and the least of them.  Nanoseconds a call. */
typedef struct timing_result {
    double median, min;
} timing_result;
timing_result timing_blocks(void (*call)(void *state), void *state);
/** The same of 5 blocks of about 8 ms, at least one call each: for many calls that are warm and do
 *  one thing, in many rounds. */
timing_result timing_short_blocks(void (*call)(void *state), void *state);

/** The most memory this process has had resident, in KiB. */
long timing_peak_kib(void);

#endif
