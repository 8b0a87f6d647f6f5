/* chain_loop.h - the loop that one would write by hand.  It is compiled by itself, with
 * -O3 -march=native -ffp-contract=off.  SPDX-License-Identifier: MIT */
#ifndef CHAIN_LOOP_H
#define CHAIN_LOOP_H

#include <stdint.h>

/** y[i] = max(0.5 - ((1.5 x[i] + 0.25)² - x[i]) · 0.125, 0) x[i] by so many threads. */
void chain_loop(int threads, int64_t n, const float *restrict x, float *restrict y);

#endif
