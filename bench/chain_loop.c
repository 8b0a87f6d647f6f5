/* chain_loop.c - the loop that one would write by hand.
 *
 * SPDX-License-Identifier: MIT */
#include "chain_loop.h"

void chain_loop(int threads, int64_t n, const float *restrict x, float *restrict y)
{
    (void)threads; /* without OpenMP */
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < n; i++) {
        float a = 1.5f * x[i] + 0.25f;
        float b = 0.5f - (a * a - x[i]) * 0.125f;
        y[i] = (b > 0 ? b : 0) * x[i];
    }
}
