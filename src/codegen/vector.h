/* SPDX-License-Identifier: 0BSD */
/*
 * vector.h - the vector prelude: types and primitives for one instruction set.
 *
 * One text serves the interpreter (compiled once per instruction set) and the kernels that libniz
 * writes (embedded ahead of them), so it includes nothing: immintrin.h alone costs a kernel 160 ms
 * of compile time.  NIZ_VECTOR_BYTES chooses the width:
 *
 *     16  any GNU C target; on x86-64 the SSE2 baseline, which has no fused multiply-add
 *     32  AVX2 and FMA        (-march=x86-64-v3)
 *     64  AVX-512 F, VL, DQ   (-march=x86-64-v4 -mprefer-vector-width=512)
 *
 * Invariants:
 *   - Every primitive gives the same bits at every width and with gcc and clang, NaN payloads
 *     aside.  Each rounds once; the text must be compiled with -ffp-contract=off and without
 *     -ffast-math.
 *   - A mask is an integer vector whose lanes are 0 or -1: niz_vi beside niz_vf, niz_vl beside
 *     niz_vd.  Any other value in a mask is an error of the caller.
 *   - Rounding is to nearest and subnormals are kept; whoever runs the code sets the control word.
 *
 * Fused multiply-add, square root and rounding are compiler builtins and never loops over lanes
 * where the machine has the instruction: whether such a loop becomes one instruction is a lottery.
 */
#ifndef NIZ_CODEGEN_VECTOR_H
#define NIZ_CODEGEN_VECTOR_H

#ifndef NIZ_VECTOR_BYTES
#error "define NIZ_VECTOR_BYTES as 16, 32 or 64"
#elif NIZ_VECTOR_BYTES != 16 && NIZ_VECTOR_BYTES != 32 && NIZ_VECTOR_BYTES != 64
#error "NIZ_VECTOR_BYTES must be 16, 32 or 64"
#elif NIZ_VECTOR_BYTES == 32 && !(defined(__AVX2__) && defined(__FMA__))
#error "NIZ_VECTOR_BYTES 32 needs AVX2 and FMA: -march=x86-64-v3"
#elif NIZ_VECTOR_BYTES == 64 && !(defined(__AVX512F__) && defined(__AVX512DQ__))
#error "NIZ_VECTOR_BYTES 64 needs AVX-512: -march=x86-64-v4"
#endif

#define NIZ_LANES_F32 (NIZ_VECTOR_BYTES / 4)
#define NIZ_LANES_F64 (NIZ_VECTOR_BYTES / 8)

#define NIZ_VEC static inline __attribute__((always_inline, unused))

/* ---- Types -------------------------------------------------------------------------------- */

typedef float niz_vf __attribute__((vector_size(NIZ_VECTOR_BYTES)));
typedef double niz_vd __attribute__((vector_size(NIZ_VECTOR_BYTES)));
typedef __INT32_TYPE__ niz_vi __attribute__((vector_size(NIZ_VECTOR_BYTES)));
typedef __INT64_TYPE__ niz_vl __attribute__((vector_size(NIZ_VECTOR_BYTES)));
typedef __UINT32_TYPE__ niz_vui __attribute__((vector_size(NIZ_VECTOR_BYTES)));
typedef __UINT64_TYPE__ niz_vul __attribute__((vector_size(NIZ_VECTOR_BYTES)));

/* Half as wide: as many floats, or 32-bit integers, as a niz_vd has doubles. */
typedef float niz_vf_half __attribute__((vector_size(NIZ_VECTOR_BYTES / 2)));
typedef __INT32_TYPE__ niz_vi_half __attribute__((vector_size(NIZ_VECTOR_BYTES / 2)));

/* In memory: aligned only as their elements are, and free to alias them. */
typedef niz_vf niz_vf_mem __attribute__((aligned(4), may_alias));
typedef niz_vd niz_vd_mem __attribute__((aligned(8), may_alias));
typedef niz_vi niz_vi_mem __attribute__((aligned(4), may_alias));
typedef niz_vl niz_vl_mem __attribute__((aligned(8), may_alias));

/* ---- Load, store, broadcast --------------------------------------------------------------- */

NIZ_VEC niz_vf niz_load_f32(const float *p)
{
    return *(const niz_vf_mem *)p;
}

NIZ_VEC niz_vd niz_load_f64(const double *p)
{
    return *(const niz_vd_mem *)p;
}

NIZ_VEC niz_vi niz_load_i32(const __INT32_TYPE__ *p)
{
    return *(const niz_vi_mem *)p;
}

NIZ_VEC niz_vl niz_load_i64(const __INT64_TYPE__ *p)
{
    return *(const niz_vl_mem *)p;
}

NIZ_VEC void niz_store_f32(float *p, niz_vf a)
{
    *(niz_vf_mem *)p = a;
}

NIZ_VEC void niz_store_f64(double *p, niz_vd a)
{
    *(niz_vd_mem *)p = a;
}

NIZ_VEC void niz_store_i32(__INT32_TYPE__ *p, niz_vi a)
{
    *(niz_vi_mem *)p = a;
}

NIZ_VEC void niz_store_i64(__INT64_TYPE__ *p, niz_vl a)
{
    *(niz_vl_mem *)p = a;
}

/* a - (+0) is a for every a, -0 included, so the subtraction folds away and leaves a broadcast. */
NIZ_VEC niz_vf niz_splat_f32(float a)
{
    return a - (niz_vf){0};
}

NIZ_VEC niz_vd niz_splat_f64(double a)
{
    return a - (niz_vd){0};
}

NIZ_VEC niz_vi niz_splat_i32(__INT32_TYPE__ a)
{
    return a - (niz_vi){0};
}

NIZ_VEC niz_vl niz_splat_i64(__INT64_TYPE__ a)
{
    return a - (niz_vl){0};
}

/* ---- Masks -------------------------------------------------------------------------------- */

/* mask ? a : b, lane by lane; bits are moved and never computed with. */
NIZ_VEC niz_vi niz_select_i32(niz_vi mask, niz_vi a, niz_vi b)
{
    return (a & mask) | (b & ~mask);
}

NIZ_VEC niz_vl niz_select_i64(niz_vl mask, niz_vl a, niz_vl b)
{
    return (a & mask) | (b & ~mask);
}

#if NIZ_VECTOR_BYTES == 32
/* gcc does not recognise the blend in and/andnot/or; the builtin reads each lane's top bit. */
NIZ_VEC niz_vf niz_select_f32(niz_vi mask, niz_vf a, niz_vf b)
{
    return __builtin_ia32_blendvps256(b, a, (niz_vf)mask);
}

NIZ_VEC niz_vd niz_select_f64(niz_vl mask, niz_vd a, niz_vd b)
{
    return __builtin_ia32_blendvpd256(b, a, (niz_vd)mask);
}
#else
NIZ_VEC niz_vf niz_select_f32(niz_vi mask, niz_vf a, niz_vf b)
{
    return (niz_vf)niz_select_i32(mask, (niz_vi)a, (niz_vi)b);
}

NIZ_VEC niz_vd niz_select_f64(niz_vl mask, niz_vd a, niz_vd b)
{
    return (niz_vd)niz_select_i64(mask, (niz_vl)a, (niz_vl)b);
}
#endif

/* 1 if any lane of the mask is set. */
#if NIZ_VECTOR_BYTES == 64
NIZ_VEC int niz_any_i32(niz_vi mask)
{
    return (__UINT16_TYPE__)__builtin_ia32_cvtd2mask512(mask) != 0;
}

NIZ_VEC int niz_any_i64(niz_vl mask)
{
    typedef long long v8di __attribute__((vector_size(64)));
    return (__UINT8_TYPE__)__builtin_ia32_cvtq2mask512((v8di)mask) != 0;
}
#elif NIZ_VECTOR_BYTES == 32
NIZ_VEC int niz_any_i32(niz_vi mask)
{
    return __builtin_ia32_movmskps256((niz_vf)mask) != 0;
}

NIZ_VEC int niz_any_i64(niz_vl mask)
{
    return __builtin_ia32_movmskpd256((niz_vd)mask) != 0;
}
#else
NIZ_VEC int niz_any_i64(niz_vl mask)
{
    return (mask[0] | mask[1]) != 0;
}

NIZ_VEC int niz_any_i32(niz_vi mask)
{
    return niz_any_i64((niz_vl)mask);
}
#endif

/* ---- Sign bits ---------------------------------------------------------------------------- */

NIZ_VEC niz_vf niz_abs_f32(niz_vf a)
{
    return (niz_vf)((niz_vi)a & 0x7fffffff);
}

NIZ_VEC niz_vd niz_abs_f64(niz_vd a)
{
    return (niz_vd)((niz_vl)a & 0x7fffffffffffffff);
}

/* The sign bit alone, the rest of the lane 0. */
NIZ_VEC niz_vi niz_sign_f32(niz_vf a)
{
    return (niz_vi)a & (-0x7fffffff - 1);
}

NIZ_VEC niz_vl niz_sign_f64(niz_vd a)
{
    return (niz_vl)a & (-0x7fffffffffffffff - 1);
}

/* The magnitude of a with the sign of b. */
NIZ_VEC niz_vf niz_copysign_f32(niz_vf a, niz_vf b)
{
    return (niz_vf)((niz_vi)niz_abs_f32(a) | niz_sign_f32(b));
}

NIZ_VEC niz_vd niz_copysign_f64(niz_vd a, niz_vd b)
{
    return (niz_vd)((niz_vl)niz_abs_f64(a) | niz_sign_f64(b));
}

/* ---- Fused multiply-add: a*b + c, rounded once -------------------------------------------- */

#if NIZ_VECTOR_BYTES == 64
NIZ_VEC niz_vf niz_fma_f32(niz_vf a, niz_vf b, niz_vf c)
{
    return __builtin_ia32_vfmaddps512_mask(a, b, c, -1, 4); /* 4: the rounding in force */
}

NIZ_VEC niz_vd niz_fma_f64(niz_vd a, niz_vd b, niz_vd c)
{
    return __builtin_ia32_vfmaddpd512_mask(a, b, c, -1, 4);
}
#elif NIZ_VECTOR_BYTES == 32
NIZ_VEC niz_vf niz_fma_f32(niz_vf a, niz_vf b, niz_vf c)
{
    return __builtin_ia32_vfmaddps256(a, b, c);
}

NIZ_VEC niz_vd niz_fma_f64(niz_vd a, niz_vd b, niz_vd c)
{
    return __builtin_ia32_vfmaddpd256(a, b, c);
}
#else
/* SSE2 has no such instruction: the C library's function gives the same bits, slowly. */
NIZ_VEC niz_vf niz_fma_f32(niz_vf a, niz_vf b, niz_vf c)
{
    return (niz_vf){__builtin_fmaf(a[0], b[0], c[0]), __builtin_fmaf(a[1], b[1], c[1]),
                    __builtin_fmaf(a[2], b[2], c[2]), __builtin_fmaf(a[3], b[3], c[3])};
}

NIZ_VEC niz_vd niz_fma_f64(niz_vd a, niz_vd b, niz_vd c)
{
    return (niz_vd){__builtin_fma(a[0], b[0], c[0]), __builtin_fma(a[1], b[1], c[1])};
}
#endif

/* a*b + c with a constant c: a step of Horner's scheme. */
NIZ_VEC niz_vf niz_step_f32(niz_vf a, niz_vf b, float c)
{
    return niz_fma_f32(a, b, niz_splat_f32(c));
}

NIZ_VEC niz_vd niz_step_f64(niz_vd a, niz_vd b, double c)
{
    return niz_fma_f64(a, b, niz_splat_f64(c));
}

/* ---- Square root -------------------------------------------------------------------------- */

#if NIZ_VECTOR_BYTES == 64 && defined(__clang__)
NIZ_VEC niz_vf niz_sqrt_f32(niz_vf a)
{
    return __builtin_ia32_sqrtps512(a, 4);
}

NIZ_VEC niz_vd niz_sqrt_f64(niz_vd a)
{
    return __builtin_ia32_sqrtpd512(a, 4);
}
#elif NIZ_VECTOR_BYTES == 64
NIZ_VEC niz_vf niz_sqrt_f32(niz_vf a)
{
    return __builtin_ia32_sqrtps512_mask(a, a, -1, 4);
}

NIZ_VEC niz_vd niz_sqrt_f64(niz_vd a)
{
    return __builtin_ia32_sqrtpd512_mask(a, a, -1, 4);
}
#elif NIZ_VECTOR_BYTES == 32
NIZ_VEC niz_vf niz_sqrt_f32(niz_vf a)
{
    return __builtin_ia32_sqrtps256(a);
}

NIZ_VEC niz_vd niz_sqrt_f64(niz_vd a)
{
    return __builtin_ia32_sqrtpd256(a);
}
#elif defined(__SSE2__)
NIZ_VEC niz_vf niz_sqrt_f32(niz_vf a)
{
    return __builtin_ia32_sqrtps(a);
}

NIZ_VEC niz_vd niz_sqrt_f64(niz_vd a)
{
    return __builtin_ia32_sqrtpd(a);
}
#else
NIZ_VEC niz_vf niz_sqrt_f32(niz_vf a)
{
    return (niz_vf){__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]),
                    __builtin_sqrtf(a[3])};
}

NIZ_VEC niz_vd niz_sqrt_f64(niz_vd a)
{
    return (niz_vd){__builtin_sqrt(a[0]), __builtin_sqrt(a[1])};
}
#endif

/* ---- Rounding to an integer value; the sign of zero is kept ------------------------------- */

#if NIZ_VECTOR_BYTES == 64
/* How: 0 nearest even, 1 down, 2 up, 3 toward zero; the high nibble scales by nothing. */
#define NIZ_ROUND_F32(a, how) __builtin_ia32_rndscaleps_mask(a, how, a, -1, 4)
#define NIZ_ROUND_F64(a, how) __builtin_ia32_rndscalepd_mask(a, how, a, -1, 4)
#elif NIZ_VECTOR_BYTES == 32
#define NIZ_ROUND_F32(a, how) __builtin_ia32_roundps256(a, how)
#define NIZ_ROUND_F64(a, how) __builtin_ia32_roundpd256(a, how)
#endif

#ifdef NIZ_ROUND_F32
NIZ_VEC niz_vf niz_rint_f32(niz_vf a)
{
    return NIZ_ROUND_F32(a, 0);
}

NIZ_VEC niz_vd niz_rint_f64(niz_vd a)
{
    return NIZ_ROUND_F64(a, 0);
}

NIZ_VEC niz_vf niz_floor_f32(niz_vf a)
{
    return NIZ_ROUND_F32(a, 1);
}

NIZ_VEC niz_vd niz_floor_f64(niz_vd a)
{
    return NIZ_ROUND_F64(a, 1);
}

NIZ_VEC niz_vf niz_ceil_f32(niz_vf a)
{
    return NIZ_ROUND_F32(a, 2);
}

NIZ_VEC niz_vd niz_ceil_f64(niz_vd a)
{
    return NIZ_ROUND_F64(a, 2);
}

NIZ_VEC niz_vf niz_trunc_f32(niz_vf a)
{
    return NIZ_ROUND_F32(a, 3);
}

NIZ_VEC niz_vd niz_trunc_f64(niz_vd a)
{
    return NIZ_ROUND_F64(a, 3);
}
#else
/* |a| + 2^23 has no bits below 1, so adding and taking 2^23 rounds to nearest even.  From 2^23 on
 * every float is an integer; the comparison is false for a NaN, which stays. */
NIZ_VEC niz_vf niz_rint_f32(niz_vf a)
{
    niz_vf b = niz_abs_f32(a);
    niz_vf r = niz_copysign_f32((b + 0x1p23f) - 0x1p23f, a);

    return niz_select_f32((niz_vi)(b < 0x1p23f), r, a);
}

NIZ_VEC niz_vd niz_rint_f64(niz_vd a)
{
    niz_vd b = niz_abs_f64(a);
    niz_vd r = niz_copysign_f64((b + 0x1p52) - 0x1p52, a);

    return niz_select_f64((niz_vl)(b < 0x1p52), r, a);
}

/* The nearest integer, less one where it lies above a. */
NIZ_VEC niz_vf niz_floor_f32(niz_vf a)
{
    niz_vf r = niz_rint_f32(a);
    niz_vi above = (niz_vi)(r > a) & (niz_vi)niz_splat_f32(1.0f);

    return niz_copysign_f32(r - (niz_vf)above, a);
}

NIZ_VEC niz_vd niz_floor_f64(niz_vd a)
{
    niz_vd r = niz_rint_f64(a);
    niz_vl above = (niz_vl)(r > a) & (niz_vl)niz_splat_f64(1.0);

    return niz_copysign_f64(r - (niz_vd)above, a);
}

NIZ_VEC niz_vf niz_ceil_f32(niz_vf a)
{
    return -niz_floor_f32(-a);
}

NIZ_VEC niz_vd niz_ceil_f64(niz_vd a)
{
    return -niz_floor_f64(-a);
}

NIZ_VEC niz_vf niz_trunc_f32(niz_vf a)
{
    return niz_copysign_f32(niz_floor_f32(niz_abs_f32(a)), a);
}

NIZ_VEC niz_vd niz_trunc_f64(niz_vd a)
{
    return niz_copysign_f64(niz_floor_f64(niz_abs_f64(a)), a);
}
#endif

/* ---- Maximum and minimum ------------------------------------------------------------------ */

/* NaN if an operand is NaN, and -0 < +0.  Equal operands differ at most in the sign of a zero, so
 * the bits' conjunction is the greater and their disjunction the smaller of the two. */
NIZ_VEC niz_vf niz_max_f32(niz_vf a, niz_vf b)
{
    niz_vf r = niz_select_f32((niz_vi)(a > b), a, b);

    r = niz_select_f32((niz_vi)(a == b), (niz_vf)((niz_vi)a & (niz_vi)b), r);
    return niz_select_f32((niz_vi)(a != a), a, r);
}

NIZ_VEC niz_vd niz_max_f64(niz_vd a, niz_vd b)
{
    niz_vd r = niz_select_f64((niz_vl)(a > b), a, b);

    r = niz_select_f64((niz_vl)(a == b), (niz_vd)((niz_vl)a & (niz_vl)b), r);
    return niz_select_f64((niz_vl)(a != a), a, r);
}

NIZ_VEC niz_vf niz_min_f32(niz_vf a, niz_vf b)
{
    niz_vf r = niz_select_f32((niz_vi)(a < b), a, b);

    r = niz_select_f32((niz_vi)(a == b), (niz_vf)((niz_vi)a | (niz_vi)b), r);
    return niz_select_f32((niz_vi)(a != a), a, r);
}

NIZ_VEC niz_vd niz_min_f64(niz_vd a, niz_vd b)
{
    niz_vd r = niz_select_f64((niz_vl)(a < b), a, b);

    r = niz_select_f64((niz_vl)(a == b), (niz_vd)((niz_vl)a | (niz_vl)b), r);
    return niz_select_f64((niz_vl)(a != a), a, r);
}

/* a below lo becomes lo, a above hi becomes hi, a NaN stays: the machine's maximum of l and a is
 * l > a ? l : a, of which clang makes one instruction and gcc has to be told. */
#if NIZ_VECTOR_BYTES == 64 && !defined(__clang__)
#define NIZ_ABOVE_F32(l, a) __builtin_ia32_maxps512_mask(l, a, a, -1, 4)
#define NIZ_BELOW_F32(h, a) __builtin_ia32_minps512_mask(h, a, a, -1, 4)
#define NIZ_ABOVE_F64(l, a) __builtin_ia32_maxpd512_mask(l, a, a, -1, 4)
#define NIZ_BELOW_F64(h, a) __builtin_ia32_minpd512_mask(h, a, a, -1, 4)
#elif NIZ_VECTOR_BYTES == 32 && !defined(__clang__)
#define NIZ_ABOVE_F32(l, a) __builtin_ia32_maxps256(l, a)
#define NIZ_BELOW_F32(h, a) __builtin_ia32_minps256(h, a)
#define NIZ_ABOVE_F64(l, a) __builtin_ia32_maxpd256(l, a)
#define NIZ_BELOW_F64(h, a) __builtin_ia32_minpd256(h, a)
#else
#define NIZ_ABOVE_F32(l, a) niz_select_f32((niz_vi)((l) > (a)), l, a)
#define NIZ_BELOW_F32(h, a) niz_select_f32((niz_vi)((h) < (a)), h, a)
#define NIZ_ABOVE_F64(l, a) niz_select_f64((niz_vl)((l) > (a)), l, a)
#define NIZ_BELOW_F64(h, a) niz_select_f64((niz_vl)((h) < (a)), h, a)
#endif

NIZ_VEC niz_vf niz_clamp_f32(niz_vf a, float lo, float hi)
{
    niz_vf l = niz_splat_f32(lo), h = niz_splat_f32(hi);

    a = NIZ_ABOVE_F32(l, a);
    return NIZ_BELOW_F32(h, a);
}

NIZ_VEC niz_vd niz_clamp_f64(niz_vd a, double lo, double hi)
{
    niz_vd l = niz_splat_f64(lo), h = niz_splat_f64(hi);

    a = NIZ_ABOVE_F64(l, a);
    return NIZ_BELOW_F64(h, a);
}

/* ---- Conversions -------------------------------------------------------------------------- */

NIZ_VEC niz_vf niz_f32_of_i32(niz_vi a)
{
    return __builtin_convertvector(a, niz_vf);
}

#if NIZ_VECTOR_BYTES == 64
NIZ_VEC niz_vd niz_f64_of_half(niz_vf_half a)
{
    return __builtin_ia32_cvtps2pd512_mask(a, (niz_vd){0}, -1, 4);
}

NIZ_VEC niz_vf_half niz_half_of_f64(niz_vd a)
{
    return __builtin_ia32_cvtpd2ps512_mask(a, (niz_vf_half){0}, -1, 4);
}

NIZ_VEC niz_vf_half niz_lower_f32(niz_vf a)
{
    return __builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7);
}

NIZ_VEC niz_vf_half niz_upper_f32(niz_vf a)
{
    return __builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15);
}

NIZ_VEC niz_vf niz_join_f32(niz_vf_half a, niz_vf_half b)
{
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
#else
/* gcc 12 splits the 32-byte conversions into 16-byte pieces; its builtins are one instruction. */
#if NIZ_VECTOR_BYTES == 32 && !defined(__clang__)
NIZ_VEC niz_vd niz_f64_of_half(niz_vf_half a)
{
    return __builtin_ia32_cvtps2pd256(a);
}

NIZ_VEC niz_vf_half niz_half_of_f64(niz_vd a)
{
    return __builtin_ia32_cvtpd2ps256(a);
}
#else
NIZ_VEC niz_vd niz_f64_of_half(niz_vf_half a)
{
    return __builtin_convertvector(a, niz_vd);
}

NIZ_VEC niz_vf_half niz_half_of_f64(niz_vd a)
{
    return __builtin_convertvector(a, niz_vf_half);
}
#endif

#if NIZ_VECTOR_BYTES == 32
NIZ_VEC niz_vf_half niz_lower_f32(niz_vf a)
{
    return __builtin_shufflevector(a, a, 0, 1, 2, 3);
}

NIZ_VEC niz_vf_half niz_upper_f32(niz_vf a)
{
    return __builtin_shufflevector(a, a, 4, 5, 6, 7);
}

NIZ_VEC niz_vf niz_join_f32(niz_vf_half a, niz_vf_half b)
{
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
}
#else
NIZ_VEC niz_vf_half niz_lower_f32(niz_vf a)
{
    return __builtin_shufflevector(a, a, 0, 1);
}

NIZ_VEC niz_vf_half niz_upper_f32(niz_vf a)
{
    return __builtin_shufflevector(a, a, 2, 3);
}

NIZ_VEC niz_vf niz_join_f32(niz_vf_half a, niz_vf_half b)
{
    return __builtin_shufflevector(a, b, 0, 1, 2, 3);
}
#endif
#endif

/* The lower and the upper half of a's lanes as doubles (exact), and back (rounded once). */
NIZ_VEC niz_vd niz_f64_lower(niz_vf a)
{
    return niz_f64_of_half(niz_lower_f32(a));
}

NIZ_VEC niz_vd niz_f64_upper(niz_vf a)
{
    return niz_f64_of_half(niz_upper_f32(a));
}

NIZ_VEC niz_vf niz_f32_of_f64(niz_vd lower, niz_vd upper)
{
    return niz_join_f32(niz_half_of_f64(lower), niz_half_of_f64(upper));
}

/* ---- Scaling by a power of two: a * 2^n, rounded once ------------------------------------- */

/* n holds integers, |n| <= 250 (f32) and |n| <= 2000 (f64), and |a| is in [1/4, 4].  2^n itself
 * may not be a normal number, so it is applied as two halves; the first product is exact. */
#if NIZ_VECTOR_BYTES == 64
NIZ_VEC niz_vf niz_scale_f32(niz_vf a, niz_vf n)
{
    return __builtin_ia32_scalefps512_mask(a, n, a, -1, 4);
}

NIZ_VEC niz_vd niz_scale_f64(niz_vd a, niz_vd n)
{
    return __builtin_ia32_scalefpd512_mask(a, n, a, -1, 4);
}
#else
/* Adding 1.5 * 2^23 (or 2^52) leaves the rounded integer in the low bits; the bias is added with
 * it, and the shift drops everything above the exponent field. */
NIZ_VEC niz_vf niz_scale_f32(niz_vf a, niz_vf n)
{
    niz_vf m = (n * 0.5f + 0x1.8p23f) - 0x1.8p23f;
    niz_vi p = (niz_vi)(m + (0x1.8p23f + 127.0f)) << 23;
    niz_vi q = (niz_vi)((n - m) + (0x1.8p23f + 127.0f)) << 23;

    return a * (niz_vf)p * (niz_vf)q;
}

NIZ_VEC niz_vd niz_scale_f64(niz_vd a, niz_vd n)
{
    niz_vd m = (n * 0.5 + 0x1.8p52) - 0x1.8p52;
    niz_vl p = (niz_vl)(m + (0x1.8p52 + 1023.0)) << 52;
    niz_vl q = (niz_vl)((n - m) + (0x1.8p52 + 1023.0)) << 52;

    return a * (niz_vd)p * (niz_vd)q;
}
#endif

/* 2^n for integers n within the normal range. */
NIZ_VEC niz_vf niz_exp2i_f32(niz_vf n)
{
    return (niz_vf)((niz_vi)(n + (0x1.8p23f + 127.0f)) << 23);
}

NIZ_VEC niz_vd niz_exp2i_f64(niz_vd n)
{
    return (niz_vd)((niz_vl)(n + (0x1.8p52 + 1023.0)) << 52);
}

#endif
