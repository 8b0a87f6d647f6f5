/* SPDX-License-Identifier: MIT */
/*
 * math_isa.h - the functions of src/codegen/math.h applied to arrays, one table per instruction
 * set.  math_isa.c is compiled three times; who uses a table asks the CPU first.
 */
#ifndef NIZ_TESTS_MATH_ISA_H
#define NIZ_TESTS_MATH_ISA_H

#include <stdint.h>

enum {
    MATH_EXP,
    MATH_EXPM1,
    MATH_LOG,
    MATH_LOG1P,
    MATH_SIN,
    MATH_COS,
    MATH_TANH,
    MATH_ERF,
    MATH_ERFC,
    MATH_POW, /* of two arguments, as those below from MATH_MAX on */
    MATH_SQRT,
    MATH_RINT,
    MATH_FLOOR,
    MATH_CEIL,
    MATH_TRUNC,
    MATH_ABS,
    MATH_MAX,
    MATH_MIN,
    MATH_COPYSIGN,
    MATH_FMA, /* x*y + x */
    MATH_COUNT
};

/* z[i] = f(x[i], y[i]); functions of one argument ignore y, which may not be NULL even so. */
typedef void math_f32(const float *x, const float *y, float *z, int64_t n);
typedef void math_f64(const double *x, const double *y, double *z, int64_t n);

typedef struct {
    const char *name;
    math_f32 *f32[MATH_COUNT];
    math_f64 *f64[MATH_COUNT];
} math_isa;

extern const math_isa math_isa_16, math_isa_32, math_isa_64;

static const char *const math_names[MATH_COUNT] __attribute__((unused)) = {
    "exp",  "expm1", "log",   "log1p", "sin",   "cos", "tanh", "erf", "erfc",     "pow",
    "sqrt", "rint",  "floor", "ceil",  "trunc", "abs", "max",  "min", "copysign", "fma",
};

/* The table for so many bytes, or NULL where this CPU cannot run it. */
static inline const math_isa *math_isa_find(int bytes)
{
    __builtin_cpu_init();
    if (bytes == 64)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")
                   ? &math_isa_64
                   : 0;
    if (bytes == 32)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &math_isa_32 : 0;
    return bytes == 16 ? &math_isa_16 : 0;
}

#endif
