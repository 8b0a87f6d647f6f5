/* timing.h - a clock and medians for the benchmarks.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TIMING_H
#define TIMING_H

/** Nanoseconds on a clock that only goes forward. */
double timing_ns(void);

/** The median of n values, which it sorts. */
double timing_median(double *value, int n);

#endif
