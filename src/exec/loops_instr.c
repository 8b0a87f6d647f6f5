/* loops_instr.c - the loop of every instruction of a map, for every dtype.  Compiled three times.
 *
 * Floating arithmetic is written in the vectors of codegen/vector.h and math.h, the text that
 * generated kernels use too: one definition of every function, so the same bits everywhere.  These
 * loops take whole vectors; the rest of a buffer goes through a padded copy (niz_instr_run), so
 * that no byte outside is touched and a last element is computed like a first.  Integers,
 * comparisons, selections and casts have one right answer, so plain loops are left to the
 * compiler's vectoriser (gcc needs -O3 for it: at -O2 a cast takes 26 times as long).
 *
 * Fast because the choice of code and dtype is made once for hundreds of elements, in a table, and
 * because no loop has a branch inside.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/loops_instr.h"

#include <string.h>

#include "codegen/vector.h"

#include "codegen/math.h"

typedef void niz_instr_loop(void *restrict y, const void *const *x, int64_t n);

/* What the tables hold: a loop, and whether it takes whole vectors only. */
typedef struct niz_instr_entry {
    niz_instr_loop *loop;
    bool whole;
} niz_instr_entry;

/* Names of the C type, the vector and its lanes, by the name of a dtype. */
#define C_f32 float
#define C_f64 double
#define C_i32 int32_t
#define C_i64 int64_t
#define C_u8 uint8_t
#define C_bool uint8_t
#define U_i32 uint32_t
#define U_i64 uint64_t
#define V_f32 niz_vf
#define V_f64 niz_vd
#define M_f32 niz_vi
#define M_f64 niz_vl
#define LANES_f32 NIZ_LANES_F32
#define LANES_f64 NIZ_LANES_F64

/* ---- floating: whole vectors ---------------------------------------------------------------- */

/* Operands beyond the code's own are aliases of the first; the compiler drops their loads. */
#define FLOAT_LOOP(name, t, expression)                                                            \
    static void niz_instr_##name##_##t(void *y_, const void *const *x, int64_t n)                  \
    {                                                                                              \
        C_##t *y = y_;                                                                             \
        const C_##t *pa = x[0], *pb = x[1], *pc = x[2];                                            \
        for (int64_t i = 0; i < n; i += LANES_##t) {                                               \
            V_##t a = niz_load_##t(pa + i), b = niz_load_##t(pb + i), c = niz_load_##t(pc + i);    \
            (void)b, (void)c;                                                                      \
            niz_store_##t(y + i, expression);                                                      \
        }                                                                                          \
    }

/* SIGN keeps zeros and NaNs as they are. */
#define FLOAT_SIGN(t)                                                                              \
    niz_select_##t((M_##t)(a == 0) | (M_##t)(a != a), a, niz_copysign_##t(niz_splat_##t(1), a))

#define FLOAT_LOOPS(t)                                                                             \
    FLOAT_LOOP(neg, t, -a)                                                                         \
    FLOAT_LOOP(add, t, a + b)                                                                      \
    FLOAT_LOOP(sub, t, a - b)                                                                      \
    FLOAT_LOOP(mul, t, a *b)                                                                       \
    FLOAT_LOOP(div, t, a / b)                                                                      \
    FLOAT_LOOP(abs, t, niz_abs_##t(a))                                                             \
    FLOAT_LOOP(sign, t, FLOAT_SIGN(t))                                                             \
    FLOAT_LOOP(max, t, niz_max_##t(a, b))                                                          \
    FLOAT_LOOP(min, t, niz_min_##t(a, b))                                                          \
    FLOAT_LOOP(sqrt, t, niz_sqrt_##t(a))                                                           \
    FLOAT_LOOP(floor, t, niz_floor_##t(a))                                                         \
    FLOAT_LOOP(ceil, t, niz_ceil_##t(a))                                                           \
    FLOAT_LOOP(round, t, niz_rint_##t(a))                                                          \
    FLOAT_LOOP(trunc, t, niz_trunc_##t(a))                                                         \
    FLOAT_LOOP(fma, t, niz_fma_##t(a, b, c))                                                       \
    FLOAT_LOOP(exp, t, niz_exp_##t(a))                                                             \
    FLOAT_LOOP(expm1, t, niz_expm1_##t(a))                                                         \
    FLOAT_LOOP(log, t, niz_log_##t(a))                                                             \
    FLOAT_LOOP(log1p, t, niz_log1p_##t(a))                                                         \
    FLOAT_LOOP(sin, t, niz_sin_##t(a))                                                             \
    FLOAT_LOOP(cos, t, niz_cos_##t(a))                                                             \
    FLOAT_LOOP(tanh, t, niz_tanh_##t(a))                                                           \
    FLOAT_LOOP(erf, t, niz_erf_##t(a))                                                             \
    FLOAT_LOOP(pow, t, niz_pow_##t(a, b))

FLOAT_LOOPS(f32)
FLOAT_LOOPS(f64)

/* ---- exact: plain loops --------------------------------------------------------------------- */

/* y[i] = expression in a and b, which are elements of type X. */
#define HINTED_LOOP(hint, name, Y, X, expression)                                                  \
    static void niz_instr_##name(void *y_, const void *const *x, int64_t n)                        \
    {                                                                                              \
        Y *y = y_;                                                                                 \
        const X *pa = x[0], *pb = x[1];                                                            \
        hint for (int64_t i = 0; i < n; i++)                                                       \
        {                                                                                          \
            X a = pa[i], b = pb[i];                                                                \
            (void)b;                                                                               \
            y[i] = (Y)(expression);                                                                \
        }                                                                                          \
    }
#define PLAIN_LOOP(name, Y, X, expression) HINTED_LOOP(NIZ_INDEPENDENT, name, Y, X, expression)

/* Unsigned arithmetic wraps.  No processor divides integer vectors: clang would say so if asked. */
#define INTEGER_LOOPS(t)                                                                           \
    PLAIN_LOOP(neg_##t, C_##t, U_##t, 0 - a)                                                       \
    PLAIN_LOOP(add_##t, C_##t, U_##t, a + b)                                                       \
    PLAIN_LOOP(sub_##t, C_##t, U_##t, a - b)                                                       \
    PLAIN_LOOP(mul_##t, C_##t, U_##t, a *b)                                                        \
    HINTED_LOOP(, div_##t, C_##t, C_##t,                                                           \
                b == 0 ? 0 : b == -1 ? (C_##t)(0 - (U_##t)a) : a / b)                              \
    HINTED_LOOP(, mod_##t, C_##t, C_##t, b == 0 || b == -1 ? 0 : a % b)                            \
    PLAIN_LOOP(abs_##t, C_##t, C_##t, a < 0 ? (C_##t)(0 - (U_##t)a) : a)                           \
    PLAIN_LOOP(sign_##t, C_##t, C_##t, (a > 0) - (a < 0))                                          \
    PLAIN_LOOP(max_##t, C_##t, C_##t, a > b ? a : b)                                               \
    PLAIN_LOOP(min_##t, C_##t, C_##t, a < b ? a : b)

INTEGER_LOOPS(i32)
INTEGER_LOOPS(i64)

#define COMPARE_LOOPS(t)                                                                           \
    PLAIN_LOOP(lt_##t, uint8_t, C_##t, a < b)                                                      \
    PLAIN_LOOP(le_##t, uint8_t, C_##t, a <= b)                                                     \
    PLAIN_LOOP(gt_##t, uint8_t, C_##t, a > b)                                                      \
    PLAIN_LOOP(ge_##t, uint8_t, C_##t, a >= b)                                                     \
    PLAIN_LOOP(eq_##t, uint8_t, C_##t, a == b)                                                     \
    PLAIN_LOOP(ne_##t, uint8_t, C_##t, a != b)

COMPARE_LOOPS(f32)
COMPARE_LOOPS(f64)
COMPARE_LOOPS(i32)
COMPARE_LOOPS(i64)
COMPARE_LOOPS(u8)

PLAIN_LOOP(not_bool, uint8_t, uint8_t, a == 0)
PLAIN_LOOP(and_bool, uint8_t, uint8_t, (a != 0) & (b != 0))
PLAIN_LOOP(or_bool, uint8_t, uint8_t, (a | b) != 0)

/* Bits are selected, whatever they mean: one loop a width. */
#define SELECT_LOOP(name, U)                                                                       \
    static void niz_instr_##name(void *y_, const void *const *x, int64_t n)                        \
    {                                                                                              \
        U *y = y_;                                                                                 \
        const uint8_t *pc = x[0];                                                                  \
        const U *pa = x[1], *pb = x[2];                                                            \
        NIZ_INDEPENDENT                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            U mask = (U)(0 - (U)(pc[i] != 0));                                                     \
            y[i] = (U)((pa[i] & mask) | (pb[i] & (U)~mask));                                       \
        }                                                                                          \
    }

SELECT_LOOP(select_1, uint8_t)
SELECT_LOOP(select_4, uint32_t)
SELECT_LOOP(select_8, uint64_t)

/* ---- casts ---------------------------------------------------------------------------------- */

/* Truncates and saturates; NaN gives 0.  `top` is the largest X below 2^bits: what is converted is
 * always in range, and the two ends and NaN are put in afterwards. */
#define SATURATE(X, Y, bottom, top, least, most)                                                   \
    (a != a         ? (Y)0                                                                         \
     : a > (X)(top) ? (Y)(most)                                                                    \
                    : (Y)(a > (X)(bottom) ? a : (X)(bottom)))

#define FLOAT_CAST_LOOPS(t, top32, top64)                                                          \
    PLAIN_LOOP(t##_to_i32, int32_t, C_##t,                                                         \
               SATURATE(C_##t, int32_t, -0x1p31, top32, INT32_MIN, INT32_MAX))                     \
    PLAIN_LOOP(t##_to_i64, int64_t, C_##t,                                                         \
               SATURATE(C_##t, int64_t, -0x1p63, top64, INT64_MIN, INT64_MAX))                     \
    PLAIN_LOOP(t##_to_u8, uint8_t, C_##t, SATURATE(C_##t, int32_t, 0, 255, 0, 255))                \
    PLAIN_LOOP(t##_to_bool, uint8_t, C_##t, a != 0)

FLOAT_CAST_LOOPS(f32, 0x1.fffffep30, 0x1.fffffep62)
FLOAT_CAST_LOOPS(f64, 0x1.fffffffcp30, 0x1.fffffffffffffp62)
PLAIN_LOOP(f32_to_f64, double, float, a)
PLAIN_LOOP(f64_to_f32, float, double, a)

#define INTEGER_CAST_LOOPS(t)                                                                      \
    PLAIN_LOOP(t##_to_f32, float, C_##t, a)                                                        \
    PLAIN_LOOP(t##_to_f64, double, C_##t, a)                                                       \
    PLAIN_LOOP(t##_to_i32, int32_t, C_##t, a)                                                      \
    PLAIN_LOOP(t##_to_i64, int64_t, C_##t, a)                                                      \
    PLAIN_LOOP(t##_to_u8, uint8_t, C_##t, a)                                                       \
    PLAIN_LOOP(t##_to_bool, uint8_t, C_##t, a != 0)

INTEGER_CAST_LOOPS(i32)
INTEGER_CAST_LOOPS(i64)
INTEGER_CAST_LOOPS(u8) /* a bool is a u8 of 0 or 1 */

/* ---- tables --------------------------------------------------------------------------------- */

#define FLOAT_ENTRY(name) {[NIZ_F32] = {niz_instr_##name##_f32, true},                             \
                           [NIZ_F64] = {niz_instr_##name##_f64, true}}
#define NUMBER_ENTRY(name)                                                                         \
    {[NIZ_F32] = {niz_instr_##name##_f32, true},                                                   \
     [NIZ_F64] = {niz_instr_##name##_f64, true},                                                   \
     [NIZ_I32] = {niz_instr_##name##_i32, false},                                                  \
     [NIZ_I64] = {niz_instr_##name##_i64, false}}
#define INTEGER_ENTRY(name)                                                                        \
    {[NIZ_I32] = {niz_instr_##name##_i32, false}, [NIZ_I64] = {niz_instr_##name##_i64, false}}
#define COMPARE_ENTRY(name)                                                                        \
    {[NIZ_F32] = {niz_instr_##name##_f32, false}, [NIZ_F64] = {niz_instr_##name##_f64, false},     \
     [NIZ_I32] = {niz_instr_##name##_i32, false}, [NIZ_I64] = {niz_instr_##name##_i64, false},     \
     [NIZ_U8] = {niz_instr_##name##_u8, false},   [NIZ_BOOL] = {niz_instr_##name##_u8, false}}
#define BOOL_ENTRY(name) {[NIZ_BOOL] = {niz_instr_##name##_bool, false}}

static const niz_instr_entry niz_instr_table[NIZ_MAP_N_CODES][NIZ_N_DTYPES] = {
    [NIZ_MAP_NEG] = NUMBER_ENTRY(neg),     [NIZ_MAP_NOT] = BOOL_ENTRY(not),
    [NIZ_MAP_ADD] = NUMBER_ENTRY(add),     [NIZ_MAP_SUB] = NUMBER_ENTRY(sub),
    [NIZ_MAP_MUL] = NUMBER_ENTRY(mul),     [NIZ_MAP_DIV] = NUMBER_ENTRY(div),
    [NIZ_MAP_MOD] = INTEGER_ENTRY(mod),    [NIZ_MAP_LT] = COMPARE_ENTRY(lt),
    [NIZ_MAP_LE] = COMPARE_ENTRY(le),      [NIZ_MAP_GT] = COMPARE_ENTRY(gt),
    [NIZ_MAP_GE] = COMPARE_ENTRY(ge),      [NIZ_MAP_EQ] = COMPARE_ENTRY(eq),
    [NIZ_MAP_NE] = COMPARE_ENTRY(ne),      [NIZ_MAP_AND] = BOOL_ENTRY(and),
    [NIZ_MAP_OR] = BOOL_ENTRY(or),         [NIZ_MAP_ABS] = NUMBER_ENTRY(abs),
    [NIZ_MAP_SIGN] = NUMBER_ENTRY(sign),   [NIZ_MAP_MAX] = NUMBER_ENTRY(max),
    [NIZ_MAP_MIN] = NUMBER_ENTRY(min),     [NIZ_MAP_SQRT] = FLOAT_ENTRY(sqrt),
    [NIZ_MAP_FLOOR] = FLOAT_ENTRY(floor),  [NIZ_MAP_CEIL] = FLOAT_ENTRY(ceil),
    [NIZ_MAP_ROUND] = FLOAT_ENTRY(round),  [NIZ_MAP_TRUNC] = FLOAT_ENTRY(trunc),
    [NIZ_MAP_FMA] = FLOAT_ENTRY(fma),      [NIZ_MAP_EXP] = FLOAT_ENTRY(exp),
    [NIZ_MAP_EXPM1] = FLOAT_ENTRY(expm1),  [NIZ_MAP_LOG] = FLOAT_ENTRY(log),
    [NIZ_MAP_LOG1P] = FLOAT_ENTRY(log1p),  [NIZ_MAP_SIN] = FLOAT_ENTRY(sin),
    [NIZ_MAP_COS] = FLOAT_ENTRY(cos),      [NIZ_MAP_TANH] = FLOAT_ENTRY(tanh),
    [NIZ_MAP_ERF] = FLOAT_ENTRY(erf),      [NIZ_MAP_POW] = FLOAT_ENTRY(pow),
    [NIZ_MAP_SELECT] = {[NIZ_F32] = {niz_instr_select_4, false},
                        [NIZ_F64] = {niz_instr_select_8, false},
                        [NIZ_I32] = {niz_instr_select_4, false},
                        [NIZ_I64] = {niz_instr_select_8, false},
                        [NIZ_U8] = {niz_instr_select_1, false},
                        [NIZ_BOOL] = {niz_instr_select_1, false}},
};

#define CAST_ROW(t)                                                                                \
    [NIZ_I32] = niz_instr_##t##_to_i32, [NIZ_I64] = niz_instr_##t##_to_i64,                        \
    [NIZ_U8] = niz_instr_##t##_to_u8, [NIZ_BOOL] = niz_instr_##t##_to_bool
#define FLOATS_OF(t) [NIZ_F32] = niz_instr_##t##_to_f32, [NIZ_F64] = niz_instr_##t##_to_f64

/* From, to.  A cast to the same dtype is no instruction. */
static niz_instr_loop *const niz_instr_casts[NIZ_N_DTYPES][NIZ_N_DTYPES] = {
    [NIZ_F32] = {[NIZ_F64] = niz_instr_f32_to_f64, CAST_ROW(f32)},
    [NIZ_F64] = {[NIZ_F32] = niz_instr_f64_to_f32, CAST_ROW(f64)},
    [NIZ_I32] = {FLOATS_OF(i32), CAST_ROW(i32)},
    [NIZ_I64] = {FLOATS_OF(i64), CAST_ROW(i64)},
    [NIZ_U8] = {FLOATS_OF(u8), CAST_ROW(u8)},
    [NIZ_BOOL] = {FLOATS_OF(u8), CAST_ROW(u8)},
};

/* ---- running -------------------------------------------------------------------------------- */

/* The elements that fill no vector, through padded copies of one vector each. */
static void niz_instr_tail(niz_instr_loop *loop, void *y, const void *const *x, int arity,
                           size_t bytes)
{
    unsigned char padded[3][NIZ_VECTOR_BYTES], result[NIZ_VECTOR_BYTES];
    const void *from[3] = {padded[0], padded[arity > 1 ? 1 : 0], padded[arity > 2 ? 2 : 0]};
    for (int k = 0; k < arity; k++) {
        memset(padded[k], 0, NIZ_VECTOR_BYTES);
        memcpy(padded[k], x[k], bytes);
    }
    loop(result, from, 1);
    memcpy(y, result, bytes);
}

void NIZ_ISA_NAME(niz_instr_run)(const niz_map_instr *in, void *y, const void *const *x,
                                 int64_t n)
{
    int arity = niz_map_arity((niz_map_code)in->code);
    const void *from[3] = {x[0], x[arity > 1 ? 1 : 0], x[arity > 2 ? 2 : 0]};
    niz_instr_entry e = niz_instr_table[in->code][in->type];
    if (in->code == NIZ_MAP_CAST) e.loop = niz_instr_casts[in->type][in->dtype];
    if (!e.whole) {
        e.loop(y, from, n);
        return;
    }
    size_t size = in->type == NIZ_F32 ? sizeof(float) : sizeof(double);
    int64_t lanes = NIZ_VECTOR_BYTES / (int64_t)size, whole = n - n % lanes;
    if (whole) e.loop(y, from, whole);
    if (whole == n) return;
    for (int k = 0; k < arity; k++) from[k] = (const char *)x[k] + (size_t)whole * size;
    niz_instr_tail(e.loop, (char *)y + (size_t)whole * size, from, arity,
                   (size_t)(n - whole) * size);
}

#define FILL(T)                                                                                    \
    do {                                                                                           \
        T v = (T)in->value, *p = y;                                                                \
        for (int64_t i = 0; i < n; i++) p[i] = v;                                                  \
    } while (0)

void NIZ_ISA_NAME(niz_instr_fill)(const niz_map_instr *in, void *y, int64_t n)
{
    switch ((niz_dtype)in->dtype) {
    case NIZ_F32: FILL(float); break;
    case NIZ_F64: FILL(double); break;
    case NIZ_I32: FILL(int32_t); break;
    case NIZ_I64: FILL(int64_t); break;
    case NIZ_U8:
    case NIZ_BOOL: FILL(uint8_t); break;
    }
}
