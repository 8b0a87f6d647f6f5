/* price_plain.c - a sum and a softmax in plain C, compiled with -O3 -ffast-math for this machine;
 * and libniz's own fold, compiled so.
 *
 * SPDX-License-Identifier: MIT */
#include "price.h"

#include <math.h>

float price_sum(int64_t n, const float *x)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

void price_softmax(int64_t rows, int64_t n, const float *restrict x, float *restrict y)
{
    for (int64_t r = 0; r < rows; r++, x += n, y += n) {
        float top = x[0], sum = 0;
        for (int64_t i = 1; i < n; i++) top = x[i] > top ? x[i] : top;
        for (int64_t i = 0; i < n; i++) sum += y[i] = expf(x[i] - top);
        for (int64_t i = 0; i < n; i++) y[i] *= 1 / sum;
    }
}

#if defined(__AVX512F__)
#define NIZ_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define NIZ_VECTOR_BYTES 32
#else
#define NIZ_VECTOR_BYTES 16
#endif
#include "exec/loops_isa.h"
#undef NIZ_ISA_NAME
#define NIZ_ISA_NAME(f) f##_free

#include "exec/loops_reduce.c"
