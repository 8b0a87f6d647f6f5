/* SPDX-License-Identifier: MIT */
/*
 * math_isa.c - src/codegen/math.h for one instruction set, behind a table.  Compile with
 * -DNIZ_VECTOR_BYTES=16, 32 or 64 and that instruction set's flags.
 */
#include "../src/codegen/vector.h"
#include "../src/codegen/math.h"

#include "math_isa.h"

/* A loop over arrays of any length; the last vector goes through a padded copy. */
#define LOOP(name, type, vec, lanes, load, store, call)                                            \
    static void name(const type *x, const type *y, type *z, int64_t n)                             \
    {                                                                                              \
        int64_t i = 0;                                                                             \
        (void)y;                                                                                   \
        for (; i + lanes <= n; i += lanes) {                                                       \
            vec a = load(x + i), b = load(y + i);                                                  \
            (void)b;                                                                               \
            store(z + i, call);                                                                    \
        }                                                                                          \
        if (i < n) {                                                                               \
            type s[3][lanes] = {{0}};                                                              \
            for (int64_t j = i; j < n; j++) {                                                      \
                s[0][j - i] = x[j];                                                                \
                s[1][j - i] = y[j];                                                                \
            }                                                                                      \
            vec a = load(s[0]), b = load(s[1]);                                                    \
            (void)b;                                                                               \
            store(s[2], call);                                                                     \
            for (int64_t j = i; j < n; j++)                                                        \
                z[j] = s[2][j - i];                                                                \
        }                                                                                          \
    }

#define F32(f, call) LOOP(f##_f32, float, niz_vf, NIZ_LANES_F32, niz_load_f32, niz_store_f32, call)
#define F64(f, call) LOOP(f##_f64, double, niz_vd, NIZ_LANES_F64, niz_load_f64, niz_store_f64, call)
#define UNARY(f) F32(f, niz_##f##_f32(a)) F64(f, niz_##f##_f64(a))
#define BINARY(f) F32(f, niz_##f##_f32(a, b)) F64(f, niz_##f##_f64(a, b))

UNARY(exp)
UNARY(expm1)
UNARY(log)
UNARY(log1p)
UNARY(sin)
UNARY(cos)
UNARY(tanh)
UNARY(erf)
UNARY(erfc)
BINARY(pow)
UNARY(sqrt)
UNARY(rint)
UNARY(floor)
UNARY(ceil)
UNARY(trunc)
UNARY(abs)
BINARY(max)
BINARY(min)
BINARY(copysign)
F32(fma, niz_fma_f32(a, b, a))
F64(fma, niz_fma_f64(a, b, a))

#define ALL(t)                                                                                     \
    {                                                                                              \
        exp_##t, expm1_##t, log_##t, log1p_##t, sin_##t, cos_##t, tanh_##t, erf_##t, erfc_##t,     \
            pow_##t, sqrt_##t, rint_##t, floor_##t, ceil_##t, trunc_##t, abs_##t, max_##t,         \
            min_##t, copysign_##t, fma_##t                                                         \
    }

#if NIZ_VECTOR_BYTES == 64
const math_isa math_isa_64 = {"avx512", ALL(f32), ALL(f64)};
#elif NIZ_VECTOR_BYTES == 32
const math_isa math_isa_32 = {"avx2", ALL(f32), ALL(f64)};
#else
const math_isa math_isa_16 = {"sse2", ALL(f32), ALL(f64)};
#endif
