/* SPDX-License-Identifier: 0BSD */
/*
 * straight.h - what straight-line kernels use beside vector.h, math.h and kernel.h: functions of
 * one element, and calls of what is too long to be repeated in place.
 *
 * A function of one element is lane 0 of the function of vectors, so its bits are the same.
 * NIZ_STRAIGHT stands before each kernel; it may ask the compiler not to optimise it.
 */
#ifndef NIZ_CODEGEN_STRAIGHT_H
#define NIZ_CODEGEN_STRAIGHT_H

#if !defined(NIZ_PLAIN)
#define NIZ_STRAIGHT
#elif defined(__clang__)
#define NIZ_STRAIGHT __attribute__((optnone, noinline))
#else
#define NIZ_STRAIGHT __attribute__((optimize("O0")))
#endif

/* Short functions are used in place, unless that would leave them without optimisation as well. */
#ifdef NIZ_PLAIN
#define NIZ_NEAR(name) niz_far_##name
#else
#define NIZ_NEAR(name) niz_##name
#endif

#define NIZ_FAR static __attribute__((noinline, unused))

#define NIZ_FAR1(S, V, f, name)                                                                    \
    NIZ_FAR V niz_far_##name##_##f(V a)                                                            \
    {                                                                                              \
        return niz_##name##_##f(a);                                                                \
    }                                                                                              \
    NIZ_FAR S niz_one_##name##_##f(S a)                                                            \
    {                                                                                              \
        return niz_##name##_##f(niz_splat_##f(a))[0];                                              \
    }
#define NIZ_FAR2(S, V, f, name)                                                                    \
    NIZ_FAR V niz_far_##name##_##f(V a, V b)                                                       \
    {                                                                                              \
        return niz_##name##_##f(a, b);                                                             \
    }                                                                                              \
    NIZ_FAR S niz_one_##name##_##f(S a, S b)                                                       \
    {                                                                                              \
        return niz_##name##_##f(niz_splat_##f(a), niz_splat_##f(b))[0];                            \
    }
/* n <= 16 lanes into one: absent ones change nothing. */
#define NIZ_FAR_FOLD(S, f, name, combine)                                                          \
    NIZ_FAR S niz_fold_##name##_##f(S *t, long n)                                                  \
    {                                                                                              \
        for (long h = 8; h; h /= 2) {                                                              \
            for (long l = 0; l < h && l + h < n; l++) t[l] = combine(t[l], t[l + h]);              \
            n = n < h ? n : h;                                                                     \
        }                                                                                          \
        return t[0];                                                                               \
    }
#define NIZ_FAR_ALL(S, V, M, f, i)                                                                 \
    NIZ_FAR1(S, V, f, exp)                                                                         \
    NIZ_FAR1(S, V, f, expm1)                                                                       \
    NIZ_FAR1(S, V, f, log)                                                                         \
    NIZ_FAR1(S, V, f, log1p)                                                                       \
    NIZ_FAR1(S, V, f, sin)                                                                         \
    NIZ_FAR1(S, V, f, cos)                                                                         \
    NIZ_FAR1(S, V, f, tanh)                                                                        \
    NIZ_FAR1(S, V, f, erf)                                                                         \
    NIZ_FAR1(S, V, f, floor)                                                                       \
    NIZ_FAR1(S, V, f, ceil)                                                                        \
    NIZ_FAR1(S, V, f, rint)                                                                        \
    NIZ_FAR1(S, V, f, trunc)                                                                       \
    NIZ_FAR1(S, V, f, abs)                                                                         \
    NIZ_FAR1(S, V, f, sqrt)                                                                        \
    NIZ_FAR2(S, V, f, pow)                                                                         \
    NIZ_FAR2(S, V, f, max)                                                                         \
    NIZ_FAR2(S, V, f, min)                                                                         \
    NIZ_FAR V niz_far_fma_##f(V a, V b, V c)                                                       \
    {                                                                                              \
        return niz_fma_##f(a, b, c);                                                               \
    }                                                                                              \
    NIZ_FAR S niz_one_fma_##f(S a, S b, S c)                                                       \
    {                                                                                              \
        return niz_fma_##f(niz_splat_##f(a), niz_splat_##f(b), niz_splat_##f(c))[0];               \
    }                                                                                              \
    NIZ_FAR V niz_far_select_##f(M m, V a, V b)                                                    \
    {                                                                                              \
        return niz_select_##f(m, a, b);                                                            \
    }                                                                                              \
    NIZ_FAR M niz_far_select_##i(M m, M a, M b)                                                    \
    {                                                                                              \
        return niz_select_##i(m, a, b);                                                            \
    }                                                                                              \
    NIZ_FAR V niz_far_sign_##f(V a)                                                                \
    {                                                                                              \
        V down = niz_select_##f((M)(a < 0), niz_splat_##f(-1), a);                                 \
        return niz_select_##f((M)(a > 0), niz_splat_##f(1), down);                                 \
    }                                                                                              \
    NIZ_FAR V niz_far_number_##f(M m)                                                              \
    {                                                                                              \
        return niz_select_##f(m, niz_splat_##f(1), niz_splat_##f(0));                              \
    }                                                                                              \
    NIZ_FAR M niz_far_load_##i(const signed char *x, long n)                                       \
    {                                                                                              \
        M m = {0};                                                                                 \
        for (long l = 0; l < n; l++) m[l] = -(x[l] != 0);                                          \
        return m;                                                                                  \
    }                                                                                              \
    NIZ_FAR void niz_far_store_##i(signed char *y, M m, long n)                                    \
    {                                                                                              \
        for (long l = 0; l < n; l++) y[l] = (signed char)(m[l] != 0);                              \
    }                                                                                              \
    NIZ_FAR_FOLD(S, f, sum, niz_add1_##f)                                                          \
    NIZ_FAR_FOLD(S, f, prod, niz_mul1_##f)                                                         \
    NIZ_FAR_FOLD(S, f, max, niz_max1_##f)                                                          \
    NIZ_FAR_FOLD(S, f, min, niz_min1_##f)

NIZ_FAR_ALL(float, niz_vf, niz_vi, f32, i32)
NIZ_FAR_ALL(double, niz_vd, niz_vl, f64, i64)

#endif
