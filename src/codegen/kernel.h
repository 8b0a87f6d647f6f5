/* SPDX-License-Identifier: 0BSD */
/*
 * kernel.h - what emitted kernels use beside vector.h and math.h: parts of rows, masks, folds.
 *
 * A strip is 16 elements, the lanes of the summation order; it is 16 / lanes vectors ("parts").  A
 * row's last strip may have only m of them.  Like vector.h it includes nothing.
 */
#ifndef NIZ_CODEGEN_KERNEL_H
#define NIZ_CODEGEN_KERNEL_H

/* Only the lanes of a mask are read or written: what lies behind a row may not be touched. */
#if NIZ_VECTOR_BYTES >= 32
typedef long long niz_vll __attribute__((vector_size(NIZ_VECTOR_BYTES))); /* as the builtins say */
#endif
#if NIZ_VECTOR_BYTES == 64
#define NIZ_BITS_F32(m) __builtin_ia32_cvtd2mask512(m)
#define NIZ_BITS_F64(m) __builtin_ia32_cvtq2mask512((niz_vll)(m))
#define niz_tail_load_f32(x, m) __builtin_ia32_loadups512_mask(x, (niz_vf){0}, NIZ_BITS_F32(m))
#define niz_tail_load_f64(x, m) __builtin_ia32_loadupd512_mask(x, (niz_vd){0}, NIZ_BITS_F64(m))
#define niz_tail_store_f32(y, m, v) __builtin_ia32_storeups512_mask(y, v, NIZ_BITS_F32(m))
#define niz_tail_store_f64(y, m, v) __builtin_ia32_storeupd512_mask(y, v, NIZ_BITS_F64(m))
#elif NIZ_VECTOR_BYTES == 32
#define niz_tail_load_f32(x, m) __builtin_ia32_maskloadps256((const niz_vf *)(x), m)
#define niz_tail_load_f64(x, m) __builtin_ia32_maskloadpd256((const niz_vd *)(x), (niz_vll)(m))
#define niz_tail_store_f32(y, m, v) __builtin_ia32_maskstoreps256((niz_vf *)(y), m, v)
#define niz_tail_store_f64(y, m, v) __builtin_ia32_maskstorepd256((niz_vd *)(y), (niz_vll)(m), v)
#else
#define NIZ_TAIL(S, V, M, f, L)                                                                    \
    NIZ_VEC V niz_tail_load_##f(const S *x, M m)                                                   \
    {                                                                                              \
        V v = {0};                                                                                 \
        for (int l = 0; l < L; l++)                                                                \
            if (m[l]) v[l] = x[l];                                                                 \
        return v;                                                                                  \
    }                                                                                              \
    NIZ_VEC void niz_tail_store_##f(S *y, M m, V v)                                                \
    {                                                                                              \
        for (int l = 0; l < L; l++)                                                                \
            if (m[l]) y[l] = v[l];                                                                 \
    }
NIZ_TAIL(float, niz_vf, niz_vi, f32, NIZ_LANES_F32)
NIZ_TAIL(double, niz_vd, niz_vl, f64, NIZ_LANES_F64)
#endif

/* name_LANES(...), for as many lanes as vectors of f have. */
#if NIZ_VECTOR_BYTES == 64
#define NIZ_LANED_f32(name) name##_16
#define NIZ_LANED_f64(name) name##_8
#elif NIZ_VECTOR_BYTES == 32
#define NIZ_LANED_f32(name) name##_8
#define NIZ_LANED_f64(name) name##_4
#else
#define NIZ_LANED_f32(name) name##_4
#define NIZ_LANED_f64(name) name##_2
#endif
#define NIZ_LANED(name, f) NIZ_LANED_##f(name)

/* Does something for each place at, s apart, of the first n that are among m.  Of a whole part,
 * which is known when a kernel is compiled, that is no loop; gcc must not see where the first place
 * comes from, or it computes all others ahead of the loop around it and has no registers for them.
 */
#ifdef __clang__
#define NIZ_UNROLL
#else
#define NIZ_UNROLL _Pragma("GCC unroll 16")
#endif
#define NIZ_EACH(n, x, s, m, what)                                                                 \
    {                                                                                              \
        __typeof__(x) at = x;                                                                      \
        if (m >= n) {                                                                              \
            __asm__("" : "+r"(at));                                                                \
            NIZ_UNROLL for (long l = 0; l < n; l++, at += s) what;                                 \
        } else {                                                                                   \
            for (long l = 0; l < m; l++, at += s) what;                                            \
        }                                                                                          \
    }

/* Truth in memory, a byte an element: lanes of a mask. */
#if NIZ_VECTOR_BYTES == 64
typedef char niz_vc __attribute__((vector_size(16)));
typedef char niz_vc_half __attribute__((vector_size(8)));
#define niz_bytes_load(x, bits)                                                                    \
    __builtin_ia32_loaddquqi128_mask((const void *)(x), (niz_vc){0}, bits)
#define niz_bytes_store(y, bits, v) __builtin_ia32_storedquqi128_mask((void *)(y), v, bits)
NIZ_VEC niz_vc niz_bytes_load_f32(const signed char *x, niz_vi m)
{
    return niz_bytes_load(x, NIZ_BITS_F32(m));
}
NIZ_VEC niz_vc_half niz_bytes_load_f64(const signed char *x, niz_vl m)
{
    niz_vc v = niz_bytes_load(x, NIZ_BITS_F64(m));
    return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
}
NIZ_VEC void niz_bytes_store_f32(signed char *y, niz_vi m, niz_vc v)
{
    niz_bytes_store(y, NIZ_BITS_F32(m), v);
}
NIZ_VEC void niz_bytes_store_f64(signed char *y, niz_vl m, niz_vc_half v)
{
    niz_vc w = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
    niz_bytes_store(y, NIZ_BITS_F64(m), w);
}
#define NIZ_BYTES_LOAD(f, L, x, m, p) (niz_b_##f) niz_bytes_load_##f(x + p * L, niz_first_##f(m, p))
#define NIZ_BYTES_STORE(f, L, y, v, m, p)                                                          \
    niz_bytes_store_##f(y + p * L, niz_first_##f(m, p),                                            \
                        (__typeof__(niz_bytes_load_##f(y, niz_first_##f(m, p))))(v))
#else
/* The first n bytes at x, no others touched, as the low ones of a word: of four and more the first
 * and the last four, which may overlap. */
NIZ_VEC __UINT64_TYPE__ niz_few_bytes(const void *from, long n)
{
    typedef __UINT32_TYPE__ four __attribute__((aligned(1), may_alias));
    typedef __UINT64_TYPE__ eight __attribute__((aligned(1), may_alias));
    const unsigned char *x = from;
    if (n <= 0) return 0;
    if (n >= 8) return *(const eight *)x;
    if (n < 4)
        return x[0] | (__UINT64_TYPE__)x[n / 2] << 8 * (n / 2) |
               (__UINT64_TYPE__)x[n - 1] << 8 * (n - 1);
    return *(const four *)x | (__UINT64_TYPE__)(*(const four *)(x + n - 4)) << 8 * (n - 4);
}
#define NIZ_BYTES_LOAD(f, L, x, m, p)                                                              \
    (niz_b_##f) NIZ_LANED(NIZ_WORDS, f)(niz_few_bytes(x + p * L, m - p * L < L ? m - p * L : L), 0)
#define NIZ_BYTES_STORE(f, L, y, v, m, p)                                                          \
    for (int l = 0; l < L && p * L + l < m; l++) y[p * L + l] = v[l]
#endif
/* Up to eight bytes of the first m, s apart, as the low ones of a word. */
NIZ_VEC __INT64_TYPE__ niz_word_apart(const signed char *x, long s, long m, int n)
{
    __UINT64_TYPE__ word = 0;
    NIZ_EACH(n, x, s, m, word |= (__UINT64_TYPE__)(unsigned char)*at << 8 * l)
    __asm__("" : "+r"(word)); /* or gcc joins two words byte by byte, at five times the price */
    return (__INT64_TYPE__)word;
}
/* Words as so many bytes. */
typedef __INT64_TYPE__ niz_words __attribute__((vector_size(16)));
#define NIZ_WORDS_16(a, b) ((niz_words){a, b})
#define NIZ_WORDS_8(a, b) (a)
#define NIZ_WORDS_4(a, b) ((__INT32_TYPE__)(a))
#define NIZ_WORDS_2(a, b) ((__INT16_TYPE__)(a))
#define NIZ_BYTES_APART(f, L, x, s, m)                                                             \
    (niz_b_##f) NIZ_LANED(NIZ_WORDS, f)(niz_word_apart(x, s, m, L < 8 ? L : 8),                    \
                                        niz_word_apart(x + 8 * s, s, m - 8, L - 8))

/* Those of part p that are among the first m elements, s apart from x on. */
#if NIZ_VECTOR_BYTES == 64
NIZ_VEC niz_vd niz_apart_f64(const double *x, long s, niz_vl m)
{
    niz_vl at = (niz_vl){0, 1, 2, 3, 4, 5, 6, 7} * niz_splat_i64(s);
    return __builtin_ia32_gatherdiv8df((niz_vd){0}, x, (niz_vll)at, NIZ_BITS_F64(m), 8);
}
NIZ_VEC niz_vf niz_apart_f32(const float *x, long s, niz_vi m)
{
    niz_vll at = (niz_vll)((niz_vl){0, 1, 2, 3, 4, 5, 6, 7} * niz_splat_i64(s));
    unsigned bits = (unsigned short)NIZ_BITS_F32(m);
    niz_vf_half none = {0};
    return niz_join_f32(__builtin_ia32_gatherdiv16sf(none, x, at, bits & 255, 4),
                        __builtin_ia32_gatherdiv16sf(none, x + 8 * s, at, bits >> 8, 4));
}
#define NIZ_APART(S, f, L, x, s, m, p) niz_apart_##f(x + p * L * s, s, niz_first_##f(m, p))
#else
#define NIZ_APART(S, f, L, x, s, m, p)                                                             \
    __extension__({                                                                                \
        S t[L] = {0};                                                                              \
        NIZ_EACH(L, (x + p * L * s), s, (m - p * L), t[l] = *at)                                   \
        niz_load_##f(t);                                                                           \
    })
#endif

/* Bytes as whole numbers: as wide as the lanes of f, or of 32 bits.  gcc 12 takes them one by one
 * where they become four times as wide; its builtins are one instruction. */
#if NIZ_VECTOR_BYTES >= 32 && !defined(__clang__)
typedef char niz_q __attribute__((vector_size(16)));
typedef __INT32_TYPE__ niz_q4 __attribute__((vector_size(16)));
#define NIZ_Q8(a) ((niz_q)(niz_words){(__INT64_TYPE__)(a)})
#define NIZ_Q4(a) ((niz_q)(niz_q4){(__INT32_TYPE__)(a)})
#endif
#if NIZ_VECTOR_BYTES == 64 && !defined(__clang__)
#define NIZ_WIDE_f32(a) ((niz_vi)__builtin_ia32_pmovzxbd512_mask((niz_q)(a), (niz_vi){0}, -1))
#define NIZ_WIDE_f64(a) ((niz_vl)__builtin_ia32_pmovzxbq512_mask(NIZ_Q8(a), (niz_vll){0}, -1))
#define NIZ_HALF_OF_U8(a) __builtin_ia32_pmovzxbd256(NIZ_Q8(a))
#define NIZ_F64_OF_I32(a) __builtin_ia32_cvtdq2pd512_mask(a, (niz_vd){0}, -1)
#elif NIZ_VECTOR_BYTES == 32 && !defined(__clang__)
#define NIZ_WIDE_f32(a) ((niz_vi)__builtin_ia32_pmovzxbd256(NIZ_Q8(a)))
#define NIZ_WIDE_f64(a) ((niz_vl)__builtin_ia32_pmovzxbq256(NIZ_Q4(a)))
#define NIZ_HALF_OF_U8(a) __builtin_ia32_pmovzxbd128(NIZ_Q4(a))
#define NIZ_F64_OF_I32(a) __builtin_ia32_cvtdq2pd256(a)
#else
typedef unsigned char niz_u_f32 __attribute__((vector_size(NIZ_LANES_F32)));
typedef unsigned char niz_u_f64 __attribute__((vector_size(NIZ_LANES_F64)));
#define NIZ_WIDE_f32(a) __builtin_convertvector((niz_u_f32)(a), niz_vi)
#define NIZ_WIDE_f64(a) __builtin_convertvector((niz_u_f64)(a), niz_vl)
#define NIZ_HALF_OF_U8(a) __builtin_convertvector((niz_u_f64)(a), niz_vi_half)
#define NIZ_F64_OF_I32(a) __builtin_convertvector(a, niz_vd)
#endif

/* Indices in lanes; what does not fit them is of no use. */
#define NIZ_INDEX(T, t, M, I, f, L)                                                                \
    NIZ_VEC M niz_index_##t##_##f(const T *x, long s, long m, int p)                               \
    {                                                                                              \
        M v = {0};                                                                                 \
        for (int l = 0; l < L && p * L + l < m; l++) v[l] = (I)x[(p * L + l) * s];                 \
        return v;                                                                                  \
    }

/* Blocks' results meet in adjacent pairs, an odd one moving up: niz_tree is a binary counter of
 * partial results, each a vector of all rows in step. */

#define NIZ_KERNEL(S, V, M, I, f, i, L)                                                            \
    typedef signed char niz_b_##f __attribute__((vector_size(L)));                                 \
    typedef niz_b_##f niz_b_mem_##f __attribute__((aligned(1), may_alias));                        \
    /* lanes of part p that are among the first m elements */                                      \
    NIZ_VEC M niz_first_##f(long m, int p)                                                         \
    {                                                                                              \
        M lane = {0};                                                                              \
        for (int l = 0; l < L; l++) lane[l] = (I)(p * L + l);                                      \
        return (M)(lane < niz_splat_##i((I)m));                                                    \
    }                                                                                              \
    /* places in a row of part p of the strip at j */                                              \
    NIZ_VEC M niz_places_##f(long j, int p)                                                        \
    {                                                                                              \
        M lane = {0};                                                                              \
        for (int l = 0; l < L; l++) lane[l] = (I)(p * L + l);                                      \
        return lane + niz_splat_##i((I)j);                                                         \
    }                                                                                              \
    NIZ_INDEX(__INT32_TYPE__, i32, M, I, f, L)                                                     \
    NIZ_INDEX(__INT64_TYPE__, i64, M, I, f, L)                                                     \
    NIZ_VEC V niz_part_load_##f(const S *x, long s, long m, int p)                                 \
    {                                                                                              \
        if (s == 1) return niz_tail_load_##f(x + p * L, niz_first_##f(m, p));                      \
        return NIZ_APART(S, f, L, x, s, m, p);                                                     \
    }                                                                                              \
    NIZ_VEC void niz_part_store_##f(S *y, V v, long m, int p)                                      \
    {                                                                                              \
        niz_tail_store_##f(y + p * L, niz_first_##f(m, p), v);                                     \
    }                                                                                              \
    /* elements s apart */                                                                         \
    NIZ_VEC void niz_spread_##f(S *y, long s, V v, long m, int p)                                  \
    {                                                                                              \
        S t[L];                                                                                    \
        niz_store_##f(t, v);                                                                       \
        NIZ_EACH(L, (y + p * L * s), s, (m - p * L), *at = t[l])                                   \
    }                                                                                              \
    NIZ_VEC M niz_mask_load_##f(const signed char *x)                                              \
    {                                                                                              \
        return (M)(NIZ_WIDE_##f(*(const niz_b_mem_##f *)x) != 0);                                  \
    }                                                                                              \
    NIZ_VEC niz_b_##f niz_bytes_##f(const signed char *x, long s, long m, int p)                   \
    {                                                                                              \
        if (s == 1) return NIZ_BYTES_LOAD(f, L, x, m, p);                                          \
        return NIZ_BYTES_APART(f, L, (x + p * L * s), s, (m - p * L));                             \
    }                                                                                              \
    NIZ_VEC M niz_mask_part_load_##f(const signed char *x, long s, long m, int p)                  \
    {                                                                                              \
        return (M)(NIZ_WIDE_##f(niz_bytes_##f(x, s, m, p)) != 0);                                  \
    }                                                                                              \
    NIZ_VEC void niz_mask_store_##f(signed char *y, M v)                                           \
    {                                                                                              \
        *(niz_b_mem_##f *)y = __builtin_convertvector(v & 1, niz_b_##f);                           \
    }                                                                                              \
    NIZ_VEC void niz_mask_part_store_##f(signed char *y, M a, long m, int p)                       \
    {                                                                                              \
        niz_b_##f v = __builtin_convertvector(a & 1, niz_b_##f);                                   \
        NIZ_BYTES_STORE(f, L, y, v, m, p);                                                         \
    }                                                                                              \
    NIZ_VEC void niz_mask_spread_##f(signed char *y, long s, M v, long m, int p)                   \
    {                                                                                              \
        signed char t[L];                                                                          \
        niz_mask_store_##f(t, v);                                                                  \
        NIZ_EACH(L, (y + p * L * s), s, (m - p * L), *at = t[l])                                   \
    }                                                                                              \
    NIZ_VEC S niz_add1_##f(S a, S b)                                                               \
    {                                                                                              \
        return a + b;                                                                              \
    }                                                                                              \
    NIZ_VEC S niz_mul1_##f(S a, S b)                                                               \
    {                                                                                              \
        return a * b;                                                                              \
    }                                                                                              \
    NIZ_VEC S niz_max1_##f(S a, S b)                                                               \
    {                                                                                              \
        return a != a ? a : b != b ? b : a > b ? a : a < b ? b : __builtin_signbit(a) ? b : a;     \
    }                                                                                              \
    NIZ_VEC S niz_min1_##f(S a, S b)                                                               \
    {                                                                                              \
        return a != a ? a : b != b ? b : a < b ? a : a > b ? b : __builtin_signbit(a) ? a : b;     \
    }                                                                                              \
    typedef struct {                                                                               \
        V s[64];                                                                                   \
        unsigned long n;                                                                           \
        int d;                                                                                     \
    } niz_tree_##f;

/* v folded onto itself: what the upper lanes hold after a turn is not used. */
#define NIZ_TURN(C, v, ...) v = C(v, __builtin_shufflevector(v, v, __VA_ARGS__));
#define NIZ_TURNS_2(C, v) NIZ_TURN(C, v, 1, 0)
#define NIZ_TURNS_4(C, v) NIZ_TURN(C, v, 2, 3, 0, 1) NIZ_TURN(C, v, 1, 0, 3, 2)
#define NIZ_TURNS_8(C, v)                                                                          \
    NIZ_TURN(C, v, 4, 5, 6, 7, 0, 1, 2, 3)                                                         \
    NIZ_TURN(C, v, 2, 3, 0, 1, 6, 7, 4, 5) NIZ_TURN(C, v, 1, 0, 3, 2, 5, 4, 7, 6)
#define NIZ_TURNS_16(C, v)                                                                         \
    NIZ_TURN(C, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)                           \
    NIZ_TURN(C, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)                           \
    NIZ_TURN(C, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)                           \
    NIZ_TURN(C, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
#if NIZ_VECTOR_BYTES == 64
#define NIZ_TURNS_f32 NIZ_TURNS_16
#define NIZ_TURNS_f64 NIZ_TURNS_8
#elif NIZ_VECTOR_BYTES == 32
#define NIZ_TURNS_f32 NIZ_TURNS_8
#define NIZ_TURNS_f64 NIZ_TURNS_4
#else
#define NIZ_TURNS_f32 NIZ_TURNS_4
#define NIZ_TURNS_f64 NIZ_TURNS_2
#endif
#define niz_vadd(a, b) ((a) + (b))
#define niz_vmul(a, b) ((a) * (b))

/* The folded lanes of rows, row u in lane NIZ_ROW_LANE(u): one after another, or of four at once,
 * where upper and lower halves meet in one vector, then the quarters. */
#define NIZ_ROWS_EACH(f, name, l, rows)                                                            \
    a = niz_fold_lanes_##name##_##f(l);                                                            \
    if (rows == 2) a[1] = niz_fold_lanes_##name##_##f(l + 16)[0];
#define NIZ_ROWS_f64(C, name, l, rows) NIZ_ROWS_EACH(f64, name, l, rows)
#define NIZ_ROW_LANE_f64(u) (u)
#if NIZ_VECTOR_BYTES == 64
#define NIZ_PAIRS(C, a, b, x, y, z, w)                                                             \
    C(__builtin_shufflevector(a, b, x, (x) + 1, (x) + 2, (x) + 3, y, (y) + 1, (y) + 2, (y) + 3,    \
                              (x) + 16, (x) + 17, (x) + 18, (x) + 19, (y) + 16, (y) + 17,          \
                              (y) + 18, (y) + 19),                                                 \
      __builtin_shufflevector(a, b, z, (z) + 1, (z) + 2, (z) + 3, w, (w) + 1, (w) + 2, (w) + 3,    \
                              (z) + 16, (z) + 17, (z) + 18, (z) + 19, (w) + 16, (w) + 17,          \
                              (w) + 18, (w) + 19))
#define NIZ_ROWS_f32(C, name, l, rows)                                                             \
    if (rows == 4) {                                                                               \
        niz_vf b = niz_load_f32(l + 16), c = niz_load_f32(l + 32), d = niz_load_f32(l + 48);       \
        a = niz_load_f32(l);                                                                       \
        a = NIZ_PAIRS(C, a, b, 0, 4, 8, 12);                                                       \
        c = NIZ_PAIRS(C, c, d, 0, 4, 8, 12);                                                       \
        a = NIZ_PAIRS(C, a, c, 0, 8, 4, 12);                                                       \
        NIZ_TURN(C, a, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)                       \
        NIZ_TURN(C, a, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)                       \
    } else {                                                                                       \
        NIZ_ROWS_EACH(f32, name, l, rows)                                                          \
    }
#define NIZ_ROW_LANE_f32(u) (4 * (u))
#else
#define NIZ_ROWS_f32(C, name, l, rows) NIZ_ROWS_EACH(f32, name, l, rows)
#define NIZ_ROW_LANE_f32(u) (u)
#endif

/* Not in place: a kernel has many, and to compile each of them anew takes long. */
#define NIZ_FOLD static __attribute__((noinline, unused))

/* Folds 16 lanes of L-lane vectors, l with l+8, +4, +2, +1, and combines blocks. */
#define NIZ_KERNEL_FOLD(S, V, f, L, name, C)                                                       \
    NIZ_VEC V niz_fold_lanes_##name##_##f(const S *t) /* left in lane 0 */                         \
    {                                                                                              \
        V v[16 / L];                                                                               \
        for (int p = 0; p < 16 / L; p++) v[p] = niz_load_##f(t + p * L);                           \
        for (int h = 8 / L; h; h /= 2)                                                             \
            for (int p = 0; p < h; p++) v[p] = C(v[p], v[p + h]);                                  \
        NIZ_TURNS_##f(C, v[0]) return v[0];                                                        \
    }                                                                                              \
    NIZ_VEC S niz_lanes_##name##_##f(const S *t)                                                   \
    {                                                                                              \
        return niz_fold_lanes_##name##_##f(t)[0];                                                  \
    }                                                                                              \
    NIZ_FOLD void niz_push_##name##_##f(niz_tree_##f *t, const S *l, int rows)                     \
    {                                                                                              \
        V a;                                                                                       \
        NIZ_ROWS_##f(C, name, l, rows);                                                            \
        for (unsigned long k = t->n++; k & 1; k >>= 1) a = C(t->s[--t->d], a);                     \
        t->s[t->d++] = a;                                                                          \
    }                                                                                              \
    /* left in s[0] */                                                                             \
    NIZ_FOLD void niz_total_##name##_##f(niz_tree_##f *t)                                          \
    {                                                                                              \
        while (--t->d > 0) t->s[t->d - 1] = C(t->s[t->d - 1], t->s[t->d]);                         \
    }

/* The same for columns: up to four vectors side by side, lanes and blocks alike (columns.c). */
#define NIZ_COLUMNS(V, f)                                                                          \
    typedef struct {                                                                               \
        V s[64][4];                                                                                \
        unsigned long n;                                                                           \
        int d;                                                                                     \
    } niz_columns_##f;
#define NIZ_COLUMNS_FOLD(V, f, name, combine)                                                      \
    NIZ_VEC void niz_columns_push_##name##_##f(niz_columns_##f *t, int parts, V a, V b, V c, V d)  \
    {                                                                                              \
        for (unsigned long k = t->n++; k & 1; k >>= 1) {                                           \
            const V *s = t->s[--t->d];                                                             \
            a = combine(s[0], a);                                                                  \
            if (parts > 1) b = combine(s[1], b);                                                   \
            if (parts > 2) c = combine(s[2], c), d = combine(s[3], d);                             \
        }                                                                                          \
        V *s = t->s[t->d++];                                                                       \
        s[0] = a;                                                                                  \
        if (parts > 1) s[1] = b;                                                                   \
        if (parts > 2) s[2] = c, s[3] = d;                                                         \
    }                                                                                              \
    /* left in s[0] */                                                                             \
    NIZ_VEC void niz_columns_total_##name##_##f(niz_columns_##f *t, int parts)                     \
    {                                                                                              \
        while (--t->d > 0)                                                                         \
            for (int p = 0; p < parts; p++)                                                        \
                t->s[t->d - 1][p] = combine(t->s[t->d - 1][p], t->s[t->d][p]);                     \
    }
static const signed char niz_lane_order[16]
    __attribute__((unused)) = {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15};
/* From lane to lane in that order, where those of n lines are all there is: the first 8, 4, 2, 1.
 */
NIZ_VEC long niz_lane_step(long n)
{
    return n > 8 ? 1 : n > 4 ? 2 : n > 2 ? 4 : n > 1 ? 8 : 16;
}

NIZ_KERNEL(float, niz_vf, niz_vi, __INT32_TYPE__, f32, i32, NIZ_LANES_F32)
NIZ_KERNEL(double, niz_vd, niz_vl, __INT64_TYPE__, f64, i64, NIZ_LANES_F64)

NIZ_VEC niz_vf niz_f32_of_u8(niz_b_f32 a)
{
    return niz_f32_of_i32(NIZ_WIDE_f32(a));
}
NIZ_VEC niz_vd niz_f64_of_u8(niz_b_f64 a)
{
    return NIZ_F64_OF_I32((niz_vi_half)NIZ_HALF_OF_U8(a));
}

/* Numbers of another type, of a whole part and of part p of the first m, s apart: each rounded
 * once, to nearest.  What is of four or eight bytes comes as the bits of floating numbers do. */
typedef niz_vf_half niz_vf_half_mem __attribute__((aligned(4), may_alias));
typedef niz_vi_half niz_vi_half_mem __attribute__((aligned(4), may_alias));
NIZ_VEC niz_vf_half niz_part_load_half(const void *x, long s, long m, int p)
{
    niz_vf v = niz_part_load_f32((const float *)x, s, m, p / 2);
    return p & 1 ? niz_upper_f32(v) : niz_lower_f32(v);
}
NIZ_VEC niz_vf niz_f32_of_i64(niz_vl lower, niz_vl upper)
{
    return niz_join_f32(__builtin_convertvector(lower, niz_vf_half),
                        __builtin_convertvector(upper, niz_vf_half));
}
#define NIZ_OTHER(T, t, V, f, all, some)                                                           \
    NIZ_VEC V niz_##t##_load_##f(const T *x)                                                       \
    {                                                                                              \
        return all;                                                                                \
    }                                                                                              \
    NIZ_VEC V niz_##t##_part_load_##f(const T *x, long s, long m, int p)                           \
    {                                                                                              \
        return some;                                                                               \
    }
#define NIZ_SOME_f32(p) niz_part_load_f32((const float *)x, s, m, p)
#define NIZ_SOME_f64(p) niz_part_load_f64((const double *)x, s, m, p)
#define NIZ_SOME_u8(f) niz_bytes_##f((const signed char *)x, s, m, p)
NIZ_OTHER(unsigned char, u8, niz_vf, f32, niz_f32_of_u8(*(const niz_b_mem_f32 *)x),
          niz_f32_of_u8(NIZ_SOME_u8(f32)))
NIZ_OTHER(unsigned char, u8, niz_vd, f64, niz_f64_of_u8(*(const niz_b_mem_f64 *)x),
          niz_f64_of_u8(NIZ_SOME_u8(f64)))
NIZ_OTHER(__INT32_TYPE__, i32, niz_vf, f32, niz_f32_of_i32(niz_load_i32(x)),
          niz_f32_of_i32((niz_vi)NIZ_SOME_f32(p)))
NIZ_OTHER(__INT32_TYPE__, i32, niz_vd, f64, NIZ_F64_OF_I32(*(const niz_vi_half_mem *)x),
          NIZ_F64_OF_I32((niz_vi_half)niz_part_load_half(x, s, m, p)))
NIZ_OTHER(__INT64_TYPE__, i64, niz_vf, f32,
          niz_f32_of_i64(niz_load_i64(x), niz_load_i64(x + NIZ_LANES_F64)),
          niz_f32_of_i64((niz_vl)NIZ_SOME_f64(2 * p), (niz_vl)NIZ_SOME_f64(2 * p + 1)))
NIZ_OTHER(__INT64_TYPE__, i64, niz_vd, f64, __builtin_convertvector(niz_load_i64(x), niz_vd),
          __builtin_convertvector((niz_vl)NIZ_SOME_f64(p), niz_vd))
NIZ_OTHER(float, f32, niz_vd, f64, niz_f64_of_half(*(const niz_vf_half_mem *)x),
          niz_f64_of_half(niz_part_load_half(x, s, m, p)))
NIZ_OTHER(double, f64, niz_vf, f32,
          niz_f32_of_f64(niz_load_f64(x), niz_load_f64(x + NIZ_LANES_F64)),
          niz_f32_of_f64(NIZ_SOME_f64(2 * p), NIZ_SOME_f64(2 * p + 1)))

NIZ_KERNEL_FOLD(float, niz_vf, f32, NIZ_LANES_F32, sum, niz_vadd)
NIZ_KERNEL_FOLD(float, niz_vf, f32, NIZ_LANES_F32, prod, niz_vmul)
NIZ_KERNEL_FOLD(float, niz_vf, f32, NIZ_LANES_F32, max, niz_max_f32)
NIZ_KERNEL_FOLD(float, niz_vf, f32, NIZ_LANES_F32, min, niz_min_f32)
NIZ_KERNEL_FOLD(double, niz_vd, f64, NIZ_LANES_F64, sum, niz_vadd)
NIZ_KERNEL_FOLD(double, niz_vd, f64, NIZ_LANES_F64, prod, niz_vmul)
NIZ_KERNEL_FOLD(double, niz_vd, f64, NIZ_LANES_F64, max, niz_max_f64)
NIZ_KERNEL_FOLD(double, niz_vd, f64, NIZ_LANES_F64, min, niz_min_f64)
NIZ_COLUMNS(niz_vf, f32)
NIZ_COLUMNS(niz_vd, f64)
NIZ_COLUMNS_FOLD(niz_vf, f32, sum, niz_vadd)
NIZ_COLUMNS_FOLD(niz_vf, f32, prod, niz_vmul)
NIZ_COLUMNS_FOLD(niz_vf, f32, max, niz_max_f32)
NIZ_COLUMNS_FOLD(niz_vf, f32, min, niz_min_f32)
NIZ_COLUMNS_FOLD(niz_vd, f64, sum, niz_vadd)
NIZ_COLUMNS_FOLD(niz_vd, f64, prod, niz_vmul)
NIZ_COLUMNS_FOLD(niz_vd, f64, max, niz_max_f64)
NIZ_COLUMNS_FOLD(niz_vd, f64, min, niz_min_f64)

#endif
