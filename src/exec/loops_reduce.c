/* loops_reduce.c - folds one axis: sum, prod, max, min, argmax, argmin.
 *
 * The order of a sum or product is the contract (DESIGN §6): 16 lanes in blocks of 512, lanes
 * folded by halves, blocks added in adjacent pairs.  Two ways of walking keep that order for every
 * output:
 *
 *   lines     the axis is contiguous: lanes are vectors, and so many blocks or outputs go side by
 *             side that the additions' latency is hidden.
 *   columns   the outputs are contiguous: the lanes of a panel of outputs are rows of a table in
 *             the first-level cache, and eight rows of x pass over one row of it at a time.
 *
 * An absent lane or block is left out, which is the same as folding in its identity (-0, 1, -inf).
 * max and min take the same paths, as any order gives the same bits there.
 *
 * SPDX-License-Identifier: MIT */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "codegen/vector.h"
#include "exec/loops_isa.h"

#define NIZ_REDUCE_LANES 16
#define NIZ_REDUCE_BLOCK 512
#define NIZ_REDUCE_LEVELS 56    /* log2 of more blocks than any memory holds */
#define NIZ_REDUCE_PANEL 1024   /* bytes of a row in a panel of columns */
#define NIZ_REDUCE_SOME 256     /* columns of a panel where order is free */
#define NIZ_REDUCE_PIECE 4096   /* elements of a line searched for their extreme value at once */

/* One call's share along the innermost outer axis: count outputs, each from n elements. */
typedef struct niz_reduce_row {
    int64_t n, stride;     /* along the folded axis */
    int64_t count, x_step; /* along the outputs */
    int64_t y_step;
} niz_reduce_row;

static inline int64_t niz_reduce_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- scalar forms of the vector prelude's max and min ---------------------------------------- */

#define EXTREME(T, suffix)                                                                         \
    static inline T niz_reduce_max_##suffix(T a, T b)                                              \
    {                                                                                              \
        if (a != a || b != b) return (T)NAN;                                                       \
        if (a == b) return signbit(a) ? b : a;                                                     \
        return a > b ? a : b;                                                                      \
    }                                                                                              \
    static inline T niz_reduce_min_##suffix(T a, T b)                                              \
    {                                                                                              \
        if (a != a || b != b) return (T)NAN;                                                       \
        if (a == b) return signbit(a) ? a : b;                                                     \
        return a < b ? a : b;                                                                      \
    }
EXTREME(float, f32)
EXTREME(double, f64)

/* ---- floating: one body an operation and type ------------------------------------------------ */

#define ADD(a, b) ((a) + (b))
#define TIMES(a, b) ((a) * (b))

#define T float
#define V niz_vf
#define TYPE(f) f##_f32
#define LANE_BYTES 4
#include "exec/reduce_types.h"
#undef T
#undef V
#undef TYPE
#undef LANE_BYTES

#define T double
#define V niz_vd
#define TYPE(f) f##_f64
#define LANE_BYTES 8
#include "exec/reduce_types.h"
#undef T
#undef V
#undef TYPE
#undef LANE_BYTES

/* ---- where order is free: integers ----------------------------------------------------------- */

#define WRAP_ADD(U, a, b) ((U)(a) + (U)(b))
#define WRAP_TIMES(U, a, b) ((U)(a) * (U)(b))
#define GREATER(U, a, b) ((a) > (b) ? (a) : (b))
#define LESSER(U, a, b) ((a) < (b) ? (a) : (b))

#define FREE(name, T, U, OP, EMPTY)                                                                \
    static void niz_reduce_run_##name(const niz_reduce_row *r, const void *from, void *to)         \
    {                                                                                              \
        const T *x = from;                                                                         \
        T *y = to, acc[NIZ_REDUCE_SOME];                                                           \
        bool lines = r->stride == 1 || r->x_step != 1;                                             \
        int64_t width = lines ? 1 : NIZ_REDUCE_SOME;                                               \
        for (int64_t o = 0; o < r->count; o += width) {                                            \
            int64_t w = niz_reduce_min(width, r->count - o);                                       \
            const T *p = x + o * r->x_step;                                                        \
            for (int64_t j = 0; j < w; j++) acc[j] = EMPTY;                                        \
            if (lines && r->stride == 1) {                                                         \
                T a = EMPTY;                                                                       \
                for (int64_t i = 0; i < r->n; i++) a = (T)OP(U, a, p[i]);                          \
                acc[0] = a;                                                                        \
            } else if (lines) {                                                                    \
                for (int64_t i = 0; i < r->n; i++)                                                 \
                    acc[0] = (T)OP(U, acc[0], p[i * r->stride]);                                   \
            } else {                                                                               \
                for (int64_t i = 0; i < r->n; i++)                                                 \
                    for (int64_t j = 0; j < w; j++)                                                \
                        acc[j] = (T)OP(U, acc[j], p[i * r->stride + j]);                           \
            }                                                                                      \
            for (int64_t j = 0; j < w; j++) y[(o + j) * r->y_step] = acc[j];                       \
        }                                                                                          \
    }
FREE(sum_i32, int32_t, uint32_t, WRAP_ADD, 0)
FREE(sum_i64, int64_t, uint64_t, WRAP_ADD, 0)
FREE(sum_u8, uint8_t, unsigned, WRAP_ADD, 0)
FREE(prod_i32, int32_t, uint32_t, WRAP_TIMES, 1)
FREE(prod_i64, int64_t, uint64_t, WRAP_TIMES, 1)
FREE(prod_u8, uint8_t, unsigned, WRAP_TIMES, 1)
FREE(max_i32, int32_t, uint32_t, GREATER, INT32_MIN)
FREE(max_i64, int64_t, uint64_t, GREATER, INT64_MIN)
FREE(max_u8, uint8_t, unsigned, GREATER, 0)
FREE(min_i32, int32_t, uint32_t, LESSER, INT32_MAX)
FREE(min_i64, int64_t, uint64_t, LESSER, INT64_MAX)
FREE(min_u8, uint8_t, unsigned, LESSER, UINT8_MAX)
FREE(min_bool, uint8_t, unsigned, LESSER, 1)

/* ---- positions ------------------------------------------------------------------------------- */

/* NO is "not better": false where one side is a NaN, so that a NaN is met at once; it ends the
 * search, as it comes first of all. */
#define LINE(name, T, NO)                                                                          \
    static int64_t niz_reduce_line_##name(const T *x, int64_t n, int64_t stride)                   \
    {                                                                                              \
        T best = n > 0 ? *x : 0;                                                                   \
        int64_t at = 0;                                                                            \
        if (best != best) return 0;                                                                \
        for (int64_t i = 1; i < n; i++) {                                                          \
            T v = x[i * stride];                                                                   \
            if (__builtin_expect(v NO best, 1)) continue;                                          \
            at = i;                                                                                \
            if (v != v) break;                                                                     \
            best = v;                                                                              \
        }                                                                                          \
        return at;                                                                                 \
    }

/* Contiguous numbers: a piece's extreme value by vectors, and a search only where it is better. */
#define FLOATING_LINE(name, fold, T, NO)                                                           \
    LINE(name##_strided, T, NO)                                                                    \
    static int64_t niz_reduce_line_##name(const T *x, int64_t n, int64_t stride)                   \
    {                                                                                              \
        if (stride != 1 || n < 64) return niz_reduce_line_##name##_strided(x, n, stride);          \
        T best = 0;                                                                                \
        int64_t at = -1;                                                                           \
        for (int64_t i = 0; i < n && best == best; i += NIZ_REDUCE_PIECE) {                        \
            T v = niz_reduce_line_##fold(x + i, niz_reduce_min(NIZ_REDUCE_PIECE, n - i), 1);       \
            if (at >= 0 && v NO best) continue;                                                    \
            best = v;                                                                              \
            for (at = i; !(x[at] == v || x[at] != x[at]);) at++;                                   \
        }                                                                                          \
        return at;                                                                                 \
    }

#define POSITION(name, T, NO)                                                                      \
    static void niz_reduce_run_##name(const niz_reduce_row *r, const void *from, void *to)         \
    {                                                                                              \
        const T *x = from;                                                                         \
        int64_t *y = to, at[NIZ_REDUCE_SOME];                                                      \
        T best[NIZ_REDUCE_SOME];                                                                   \
        if (r->stride == 1 || r->x_step != 1 || r->n == 0) {                                       \
            for (int64_t o = 0; o < r->count; o++)                                                 \
                y[o * r->y_step] = niz_reduce_line_##name(x + o * r->x_step, r->n, r->stride);     \
            return;                                                                                \
        }                                                                                          \
        for (int64_t o = 0; o < r->count; o += NIZ_REDUCE_SOME) {                                  \
            int64_t w = niz_reduce_min(NIZ_REDUCE_SOME, r->count - o);                             \
            for (int64_t j = 0; j < w; j++) best[j] = x[o + j], at[j] = 0;                         \
            for (int64_t i = 1; i < r->n; i++) {                                                   \
                const T *p = x + i * r->stride + o;                                                \
                for (int64_t j = 0; j < w; j++) {                                                  \
                    bool take = !(p[j] NO best[j]) & (best[j] == best[j]);                         \
                    best[j] = take ? p[j] : best[j];                                               \
                    at[j] = take ? i : at[j];                                                      \
                }                                                                                  \
            }                                                                                      \
            for (int64_t j = 0; j < w; j++) y[(o + j) * r->y_step] = at[j];                        \
        }                                                                                          \
    }
FLOATING_LINE(argmax_f32, max_f32, float, <=)
FLOATING_LINE(argmax_f64, max_f64, double, <=)
FLOATING_LINE(argmin_f32, min_f32, float, >=)
FLOATING_LINE(argmin_f64, min_f64, double, >=)
LINE(argmax_i32, int32_t, <=)
LINE(argmax_i64, int64_t, <=)
LINE(argmax_u8, uint8_t, <=)
LINE(argmin_i32, int32_t, >=)
LINE(argmin_i64, int64_t, >=)
LINE(argmin_u8, uint8_t, >=)
POSITION(argmax_f32, float, <=)
POSITION(argmax_f64, double, <=)
POSITION(argmax_i32, int32_t, <=)
POSITION(argmax_i64, int64_t, <=)
POSITION(argmax_u8, uint8_t, <=)
POSITION(argmin_f32, float, >=)
POSITION(argmin_f64, double, >=)
POSITION(argmin_i32, int32_t, >=)
POSITION(argmin_i64, int64_t, >=)
POSITION(argmin_u8, uint8_t, >=)

/* ---- the call -------------------------------------------------------------------------------- */

typedef void niz_reduce_function(const niz_reduce_row *r, const void *x, void *y);

#define ALL(op, boolean)                                                                           \
    {niz_reduce_run_##op##_f32, niz_reduce_run_##op##_f64, niz_reduce_run_##op##_i32,              \
     niz_reduce_run_##op##_i64, niz_reduce_run_##op##_u8, niz_reduce_run_##boolean}

/* By niz_combine and niz_dtype. */
static niz_reduce_function *const niz_reduce_table[][NIZ_N_DTYPES] = {
    [NIZ_COMBINE_SUM] = ALL(sum, sum_u8),
    [NIZ_COMBINE_PROD] = ALL(prod, prod_u8),
    [NIZ_COMBINE_MAX] = ALL(max, max_u8),
    [NIZ_COMBINE_MIN] = ALL(min, min_bool),
    [NIZ_COMBINE_ARGMAX] = ALL(argmax, argmax_u8),
    [NIZ_COMBINE_ARGMIN] = ALL(argmin, argmin_u8),
};

static int64_t niz_reduce_size(niz_dtype d)
{
    return d == NIZ_F64 || d == NIZ_I64 ? 8 : d == NIZ_U8 || d == NIZ_BOOL ? 1 : 4;
}

void NIZ_ISA_NAME(niz_reduce_run)(const niz_reduce_loop *l, const void *x, void *y, int64_t begin,
                                  int64_t end)
{
    const niz_loop_space *s = &l->space;
    int last = s->rank - 1;
    bool position = l->combine == NIZ_COMBINE_ARGMAX || l->combine == NIZ_COMBINE_ARGMIN;
    int64_t x_size = niz_reduce_size(l->dtype), y_size = position ? 8 : x_size;
    niz_reduce_row r = {l->n, l->stride, 1, 1, 1};
    if (last >= 0) r.x_step = s->stride[0][last], r.y_step = s->stride[1][last];
    while (begin < end) {
        int64_t rest = begin, x_off = 0, y_off = 0, first = 0;
        for (int d = last; d >= 0; d--) {
            int64_t i = rest % s->dim[d];
            rest /= s->dim[d];
            if (d == last) first = i;
            x_off += i * s->stride[0][d];
            y_off += i * s->stride[1][d];
        }
        r.count = last < 0 ? 1 : niz_reduce_min(end - begin, s->dim[last] - first);
        niz_reduce_table[l->combine][l->dtype](&r, (const char *)x + x_off * x_size,
                                               (char *)y + y_off * y_size);
        begin += r.count;
    }
}
