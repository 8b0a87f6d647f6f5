/* elementwise.c - operations that treat every element alike.
 *
 * A record says what is computed (.map), how it changes (.partial), and what it is tested against
 * (.ref, .samples).  Everything else - broadcasting, both modes of differentiation, the
 * interpreter's loops, compiled kernels, the checks - follows from these.  Formulas and edge cases
 * are documented in niz/ops.h.
 *
 * SPDX-License-Identifier: MIT */
#include <float.h>

#include "ops/families.h"
#include "ops/infer.h"
#include "ops/record.h"

#define RANGE(from, to) .lo = {from, from, from}, .hi = {to, to, to}

/* In a rule p->x[0] is the first operand and p->y the result. */
#define RULE(name) static niz_t name(const niz_app *p, int i)
#define REF(name, expression)                                                                      \
    static double name##_ref(const double *x)                                                      \
    {                                                                                              \
        return expression;                                                                         \
    }

/* ---- one operand ---------------------------------------------------------------------------- */

RULE(neg_d) { return (void)i, niz_number_like(p->y, -1); }
REF(neg, -x[0])
const niz_op niz_op_neg = {
    .name = "neg", .arity = 1, .infer = niz_infer_same_number, .map = "-a",
    .partial = neg_d, .ref = neg_ref,
    SAMPLES({0}, {.n = 1, .x = {{1, {3}}}, .in = VALUES(-0.0, 2, -3), .out = VALUES(0, -2, 3)}),
};

/* Rules that select pass g = gy or tx on, or drop it; 0 · inf never arises.  Both modes agree. */
#define SELECTS(name) static niz_t name(const niz_app *p, int i, niz_t g)

SELECTS(abs_select)
{
    niz_t x = p->x[0];
    (void)i;
    return niz_where(niz_gt(x, 0), g, niz_where(niz_lt(x, 0), niz_neg(g), 0));
}
REF(abs, fabs(x[0]))
const niz_op niz_op_abs = {
    .name = "abs", .arity = 1, .infer = niz_infer_same_number, .map = "ABS(a)",
    .vjp = abs_select, .jvp = abs_select, .ref = abs_ref,
    SAMPLES({0}, {.n = 1, .x = {{1, {4}}}, .in = VALUES(-0.0, 2, -3, -INFINITY),
                  .out = VALUES(0, 2, 3, INFINITY)}),
};

REF(sign, x[0] > 0 ? 1 : x[0] < 0 ? -1 : x[0])
const niz_op niz_op_sign = {
    .name = "sign", .arity = 1, .infer = niz_infer_same_number, .map = "SIGN(a)",
    .no_gradient = true, .ref = sign_ref,
    SAMPLES({0}, {.n = 1, .x = {{1, {3}}}, .in = VALUES(-7, 0, 4), .out = VALUES(-1, 0, 1)}),
};

RULE(exp_d) { return (void)i, p->y; }
REF(exp, exp(x[0]))
const niz_op niz_op_exp = {
    .name = "exp", .arity = 1, .infer = niz_infer_same_float, .map = "EXP(a)",
    .partial = exp_d, .ref = exp_ref, .ulp = 2,
    SAMPLES({RANGE(-10, 10)},
            {.n = 1, .x = {{1, {4}}}, .in = VALUES(0, 1, -INFINITY, INFINITY),
             .out = VALUES(1, 2.718281828459045, 0, INFINITY)}),
};

RULE(expm1_d) { return (void)i, niz_add(p->y, 1); }
REF(expm1, expm1(x[0]))
const niz_op niz_op_expm1 = {
    .name = "expm1", .arity = 1, .infer = niz_infer_same_float, .map = "EXPM1(a)",
    .partial = expm1_d, .ref = expm1_ref, .ulp = 2,
    SAMPLES({RANGE(-3, 3)}, {.n = 1, .x = {{1, {3}}}, .in = VALUES(0, 1, -INFINITY),
                             .out = VALUES(0, 1.718281828459045, -1)}),
};

RULE(log_d) { return (void)i, niz_reciprocal(p->x[0]); }
REF(log, log(x[0]))
const niz_op niz_op_log = {
    .name = "log", .arity = 1, .infer = niz_infer_same_float, .map = "LOG(a)",
    .partial = log_d, .ref = log_ref, .ulp = 2,
    SAMPLES({RANGE(0.1, 20)}, {.n = 1, .x = {{1, {4}}}, .in = VALUES(1, 0, -1, 2),
                               .out = VALUES(0, -INFINITY, NAN, 0.6931471805599453)}),
};

RULE(log1p_d) { return (void)i, niz_reciprocal(niz_add(p->x[0], 1)); }
REF(log1p, log1p(x[0]))
const niz_op niz_op_log1p = {
    .name = "log1p", .arity = 1, .infer = niz_infer_same_float, .map = "LOG1P(a)",
    .partial = log1p_d, .ref = log1p_ref, .ulp = 2,
    SAMPLES({RANGE(-0.5, 5)}, {.n = 1, .x = {{1, {3}}}, .in = VALUES(0, -1, 1),
                               .out = VALUES(0, -INFINITY, 0.6931471805599453)}),
};

RULE(sqrt_d) { return (void)i, niz_div(0.5, p->y); }
REF(sqrt, sqrt(x[0]))
const niz_op niz_op_sqrt = {
    .name = "sqrt", .arity = 1, .infer = niz_infer_same_float, .map = "SQRT(a)",
    .partial = sqrt_d, .ref = sqrt_ref, .ulp = 0.5,
    SAMPLES({RANGE(0.1, 9)}, {.n = 1, .x = {{1, {4}}}, .in = VALUES(0, 4, -1, 2),
                              .out = VALUES(0, 2, NAN, 1.4142135623730951)}),
};

RULE(rsqrt_d) { return (void)i, niz_div(niz_mul(p->y, -0.5), p->x[0]); }
REF(rsqrt, 1 / sqrt(x[0]))
const niz_op niz_op_rsqrt = {
    .name = "rsqrt", .arity = 1, .infer = niz_infer_same_float, .map = "1 / SQRT(a)",
    .partial = rsqrt_d, .ref = rsqrt_ref, .ulp = 1.5,
    SAMPLES({RANGE(0.1, 9)}, {.n = 1, .x = {{1, {2}}}, .in = VALUES(4, 0),
                              .out = VALUES(0.5, INFINITY)}),
};

RULE(square_d) { return (void)i, niz_mul(p->x[0], 2); }
REF(square, x[0] * x[0])
const niz_op niz_op_square = {
    .name = "square", .arity = 1, .infer = niz_infer_same_number, .map = "a * a",
    .partial = square_d, .ref = square_ref, .ulp = 0.5,
    SAMPLES({0}, {.n = 1, .x = {{1, {2}}}, .in = VALUES(-3, 0.5), .out = VALUES(9, 0.25)}),
};

RULE(reciprocal_d) { return (void)i, niz_neg(niz_square(p->y)); }
REF(reciprocal, 1 / x[0])
const niz_op niz_op_reciprocal = {
    .name = "reciprocal", .arity = 1, .infer = niz_infer_same_float, .map = "1 / a",
    .partial = reciprocal_d, .ref = reciprocal_ref, .ulp = 0.5,
    SAMPLES({RANGE(0.2, 4)}, {.n = 1, .x = {{1, {3}}}, .in = VALUES(0, -4, INFINITY),
                              .out = VALUES(INFINITY, -0.25, 0)}),
};

RULE(sin_d) { return (void)i, niz_cos(p->x[0]); }
REF(sin, sin(x[0]))
const niz_op niz_op_sin = {
    .name = "sin", .arity = 1, .infer = niz_infer_same_float, .map = "SIN(a)",
    .partial = sin_d, .ref = sin_ref, .ulp = 2,
    SAMPLES({RANGE(-7, 7)}, {.n = 1, .x = {{1, {3}}}, .in = VALUES(0, 1, INFINITY),
                             .out = VALUES(0, 0.8414709848078965, NAN)}),
};

RULE(cos_d) { return (void)i, niz_neg(niz_sin(p->x[0])); }
REF(cos, cos(x[0]))
const niz_op niz_op_cos = {
    .name = "cos", .arity = 1, .infer = niz_infer_same_float, .map = "COS(a)",
    .partial = cos_d, .ref = cos_ref, .ulp = 2,
    SAMPLES({RANGE(-7, 7)}, {.n = 1, .x = {{1, {3}}}, .in = VALUES(0, 1, INFINITY),
                             .out = VALUES(1, 0.5403023058681398, NAN)}),
};

RULE(tanh_d) { return (void)i, niz_sub(1, niz_square(p->y)); }
REF(tanh, tanh(x[0]))
const niz_op niz_op_tanh = {
    .name = "tanh", .arity = 1, .infer = niz_infer_same_float, .map = "TANH(a)",
    .partial = tanh_d, .ref = tanh_ref, .ulp = 2,
    SAMPLES({RANGE(-3, 3)}, {.n = 1, .x = {{1, {4}}}, .in = VALUES(0, 0.5, INFINITY, -INFINITY),
                             .out = VALUES(0, 0.46211715726000975, 1, -1)}),
};

RULE(sigmoid_d) { return (void)i, niz_mul(p->y, niz_sub(1, p->y)); }
REF(sigmoid, 1 / (1 + exp(-x[0])))
const niz_op niz_op_sigmoid = {
    .name = "sigmoid", .arity = 1, .infer = niz_infer_same_float, .map = "1 / (1 + EXP(-a))",
    .partial = sigmoid_d, .ref = sigmoid_ref, .ulp = 4,
    SAMPLES({RANGE(-5, 5)}, {.n = 1, .x = {{1, {3}}}, .in = VALUES(0, INFINITY, -INFINITY),
                             .out = VALUES(0.5, 1, 0)}),
};

/* y > 0 where x > 0: asking y lets x be overwritten */
SELECTS(relu_select) { return (void)i, niz_where(niz_gt(p->y, 0), g, 0); }
REF(relu, x[0] > 0 ? x[0] : isnan(x[0]) ? x[0] : 0)
const niz_op niz_op_relu = {
    .name = "relu", .arity = 1, .infer = niz_infer_same_number, .map = "MAX(a, 0)",
    .vjp = relu_select, .jvp = relu_select, .ref = relu_ref,
    SAMPLES({0}, {.n = 1, .x = {{1, {4}}}, .in = VALUES(-1, 0, 3, NAN), .out = VALUES(0, 0, 3, NAN)}),
};

RULE(erf_d)
{
    (void)i;
    return niz_mul(niz_exp(niz_neg(niz_square(p->x[0]))), 1.1283791670955126); /* 2 / √π */
}
REF(erf, erf(x[0]))
const niz_op niz_op_erf = {
    .name = "erf", .arity = 1, .infer = niz_infer_same_float, .map = "ERF(a)",
    .partial = erf_d, .ref = erf_ref, .ulp = 2,
    SAMPLES({RANGE(-3, 3)}, {.n = 1, .x = {{1, {3}}}, .in = VALUES(0, 0.5, INFINITY),
                             .out = VALUES(0, 0.5204998778130465, 1)}),
};

RULE(softplus_d) { return (void)i, niz_sigmoid(p->x[0]); }
REF(softplus, x[0] > 0 ? x[0] + log1p(exp(-x[0])) : log1p(exp(x[0])))
const niz_op niz_op_softplus = {
    .name = "softplus", .arity = 1, .infer = niz_infer_same_float,
    .map = "MAX(a, 0) + LOG1P(EXP(-ABS(a)))", .partial = softplus_d, .ref = softplus_ref, .ulp = 4,
    SAMPLES({RANGE(-5, 5)}, {.n = 1, .x = {{1, {3}}}, .in = VALUES(0, 100, -INFINITY),
                             .out = VALUES(0.6931471805599453, 100, 0)}),
};

/* ---- rounding: piecewise constant ----------------------------------------------------------- */

REF(floor, floor(x[0]))
const niz_op niz_op_floor = {
    .name = "floor", .arity = 1, .infer = niz_infer_same_float, .map = "FLOOR(a)",
    .no_gradient = true, .ref = floor_ref,
    SAMPLES({0}, {.n = 1, .x = {{1, {3}}}, .in = VALUES(-1.5, 1.5, 2), .out = VALUES(-2, 1, 2)}),
};

REF(ceil, ceil(x[0]))
const niz_op niz_op_ceil = {
    .name = "ceil", .arity = 1, .infer = niz_infer_same_float, .map = "CEIL(a)",
    .no_gradient = true, .ref = ceil_ref,
    SAMPLES({0}, {.n = 1, .x = {{1, {3}}}, .in = VALUES(-1.5, 1.5, 2), .out = VALUES(-1, 2, 2)}),
};

REF(round, nearbyint(x[0]))
const niz_op niz_op_round = {
    .name = "round", .arity = 1, .infer = niz_infer_same_float, .map = "ROUND(a)",
    .no_gradient = true, .ref = round_ref,
    SAMPLES({0}, {.n = 1, .x = {{1, {4}}}, .in = VALUES(-1.5, 1.5, 2.5, 0.2),
                  .out = VALUES(-2, 2, 2, 0)}),
};

/* ---- two operands --------------------------------------------------------------------------- */

RULE(add_d) { return (void)i, niz_number_like(p->y, 1); }
REF(add, x[0] + x[1])
const niz_op niz_op_add = {
    .name = "add", .arity = 2, .infer = niz_infer_same_number, .map = "a + b",
    .partial = add_d, .ref = add_ref, .ulp = 0.5,
    SAMPLES({0}, {.n = 2, .x = {{1, {2}}, {1, {2}}}, .in = VALUES(1, 2, 3, 4), .out = VALUES(4, 6)},
            {.n = 2, .x = {{1, {2}}, {1, {3}}}, .refused = "do not broadcast"}),
};

RULE(sub_d) { return niz_number_like(p->y, i ? -1 : 1); }
REF(sub, x[0] - x[1])
const niz_op niz_op_sub = {
    .name = "sub", .arity = 2, .infer = niz_infer_same_number, .map = "a - b",
    .partial = sub_d, .ref = sub_ref, .ulp = 0.5,
    SAMPLES({0}, {.n = 2, .x = {{1, {2}}, {1, {2}}}, .in = VALUES(1, 2, 3, 5),
                  .out = VALUES(-2, -3)}),
};

RULE(mul_d) { return p->x[1 - i]; }
REF(mul, x[0] * x[1])
const niz_op niz_op_mul = {
    .name = "mul", .arity = 2, .infer = niz_infer_same_number, .map = "a * b",
    .partial = mul_d, .ref = mul_ref, .ulp = 0.5,
    SAMPLES({0}, {.n = 2, .x = {{1, {2}}, {1, {2}}}, .in = VALUES(1, 2, 3, 5), .out = VALUES(3, 10)}),
};

RULE(div_d)
{
    niz_t r = niz_reciprocal(p->x[1]);
    return i == 0 ? r : niz_neg(niz_mul(p->y, r));
}
REF(div, x[0] / x[1])
const niz_op niz_op_div = {
    .name = "div", .arity = 2, .infer = niz_infer_same_number, .map = "a / b",
    .partial = div_d, .ref = div_ref, .ulp = 0.5,
    SAMPLES({RANGE(0.3, 3)}, {.n = 2, .x = {{1, {3}}, {1, {3}}}, .in = VALUES(1, 6, 0, 4, 3, 0),
                              .out = VALUES(0.25, 2, NAN)}),
};

static bool is_nonzero_literal(niz_t t)
{
    const niz_node *n = niz_is_valid(t) ? &niz_recording_of(t.z)->g.node[t.id] : NULL;
    return n && n->op == &niz_op_literal && niz_attr_double(n->attr[0]) != 0;
}

/* dy/da = b a^(b-1), which is 0 where b = 0 although a^-1 may be infinite (a below the smallest
 * normal number); dy/db = y ln a, which is 0 where a = 0 and b > 0 (y = 0 there).  What is selected
 * away is finite too, so that higher derivatives hold. */
RULE(pow_d)
{
    niz_t a = p->x[0], b = p->x[1], zero = niz_number_like(p->y, 0);
    double least = niz_dtype_of(p->y) == NIZ_F32 ? FLT_MIN : DBL_MIN;
    if (i == 0 && is_nonzero_literal(b)) return niz_mul(b, niz_pow(a, niz_sub(b, 1)));
    if (i == 0) {
        niz_t flat = niz_and(niz_eq(b, 0), niz_lt(niz_abs(a), least));
        niz_t safe = niz_where(flat, 1, b);
        return niz_where(flat, zero, niz_mul(b, niz_pow(a, niz_sub(safe, 1))));
    }
    niz_t gone = niz_eq(a, 0);
    return niz_where(gone, zero, niz_mul(p->y, niz_log(niz_where(gone, 1, a))));
}
REF(pow, pow(x[0], x[1]))
const niz_op niz_op_pow = {
    .name = "pow", .arity = 2, .infer = niz_infer_same_float, .map = "POW(a, b)",
    .partial = pow_d, .ref = pow_ref, .ulp = 4,
    SAMPLES({RANGE(0.3, 3)}, {.n = 2, .x = {{1, {4}}, {1, {4}}},
                              .in = VALUES(2, -2, 0, 9, 10, 3, 0, 0.5),
                              .out = VALUES(1024, -8, 1, 3)}),
};

/* Ties share the derivative evenly: the only choice that is the same for both operands. */
static niz_t extreme_select(const niz_app *p, int i, niz_t g, bool greater)
{
    niz_t a = p->x[i], b = p->x[1 - i];
    niz_t wins = greater ? niz_gt(a, b) : niz_lt(a, b);
    return niz_where(wins, g, niz_where(niz_eq(a, b), niz_mul(g, 0.5), 0));
}
SELECTS(maximum_select) { return extreme_select(p, i, g, true); }
REF(maximum, isnan(x[0]) || isnan(x[1]) ? NAN : fmax(x[0], x[1]))
const niz_op niz_op_maximum = {
    .name = "maximum", .arity = 2, .infer = niz_infer_same_number, .map = "MAX(a, b)",
    .vjp = maximum_select, .jvp = maximum_select, .ref = maximum_ref,
    SAMPLES({0}, {.n = 2, .x = {{1, {3}}, {1, {3}}}, .in = VALUES(1, 4, NAN, 2, 3, 1),
                  .out = VALUES(2, 4, NAN)}),
};

SELECTS(minimum_select) { return extreme_select(p, i, g, false); }
REF(minimum, isnan(x[0]) || isnan(x[1]) ? NAN : fmin(x[0], x[1]))
const niz_op niz_op_minimum = {
    .name = "minimum", .arity = 2, .infer = niz_infer_same_number, .map = "MIN(a, b)",
    .vjp = minimum_select, .jvp = minimum_select, .ref = minimum_ref,
    SAMPLES({0}, {.n = 2, .x = {{1, {3}}, {1, {3}}}, .in = VALUES(1, 4, NAN, 2, 3, 1),
                  .out = VALUES(1, 3, NAN)}),
};

/* ---- comparisons and logic: bool results, no derivative ------------------------------------- */

static bool order_infer(niz_infer *f)
{
    if (f->x[0].dtype == NIZ_BOOL)
        return niz_infer_fail(f, NIZ_E_DTYPE, "bool has no order; niz_cast it");
    return niz_infer_compare(f);
}

#define COMPARE(op_name, text, expression, typing)                                                 \
    REF(op_name, expression)                                                                       \
    const niz_op niz_op_##op_name = {                                                              \
        .name = #op_name, .arity = 2, .infer = typing, .map = text, .no_gradient = true,           \
        .ref = op_name##_ref,                                                                      \
        SAMPLES({RANGE(-1, 1)}, {.n = 2, .x = {{1, {2}}, {1, {3}}}, .refused = "do not broadcast"}), \
    };

COMPARE(lt, "a < b", x[0] < x[1], order_infer)
COMPARE(le, "a <= b", x[0] <= x[1], order_infer)
COMPARE(gt, "a > b", x[0] > x[1], order_infer)
COMPARE(ge, "a >= b", x[0] >= x[1], order_infer)
COMPARE(eq, "a == b", x[0] == x[1], niz_infer_compare)
COMPARE(ne, "a != b", x[0] != x[1], niz_infer_compare)
COMPARE(and, "a && b", x[0] != 0 && x[1] != 0, niz_infer_logic)
COMPARE(or, "a || b", x[0] != 0 || x[1] != 0, niz_infer_logic)

REF(not, x[0] == 0)
const niz_op niz_op_not = {
    .name = "not", .arity = 1, .infer = niz_infer_logic, .map = "!a", .no_gradient = true,
    .ref = not_ref, SAMPLES({0}),
};

/* ---- where, cast ---------------------------------------------------------------------------- */

static bool where_infer(niz_infer *f)
{
    if (f->x[0].dtype != NIZ_BOOL)
        return niz_infer_fail(f, NIZ_E_DTYPE, "the condition must be bool, not %s",
                              niz_dtype_name(f->x[0].dtype));
    if (!niz_infer_one_dtype(f, 1) || !niz_infer_broadcast(f)) return false;
    f->dtype = f->x[1].dtype;
    return true;
}

SELECTS(where_select)
{
    if (i == 0) return niz_inert(g.z);
    return i == 1 ? niz_where(p->x[0], g, 0) : niz_where(p->x[0], niz_number_like(g, 0), g);
}
REF(where, x[0] != 0 ? x[1] : x[2])
const niz_op niz_op_where = {
    .name = "where", .arity = 3, .infer = where_infer, .map = "a ? b : c",
    .vjp = where_select, .jvp = where_select, .ref = where_ref, SAMPLES({0}),
};

static bool cast_infer(niz_infer *f)
{
    if (f->attr.n != 1 || (uint64_t)f->attr.value[0] >= NIZ_N_DTYPES)
        return niz_infer_fail(f, NIZ_E_DTYPE, "not a dtype");
    f->dtype = (niz_dtype)f->attr.value[0];
    f->shape = f->x[0].shape;
    return true;
}

static niz_t cast_adjoint(const niz_app *p, int i, niz_t gy)
{
    niz_dtype from = niz_dtype_of(p->x[0]);
    (void)i;
    return niz_dtype_is_float(from) ? niz_cast(gy, from) : niz_inert(gy.z);
}
REF(cast, x[0])
const niz_op niz_op_cast = {
    .name = "cast", .arity = 1, .attrs = "to:t", .infer = cast_infer, .map = "CAST(a)",
    .adjoint = cast_adjoint, .ref = cast_ref,
    SAMPLES({.n_attr = 1, .attr = {NIZ_F64}}, {.n_attr = 1, .attr = {NIZ_F32}},
            {.n = 1, .x = {{1, {4}}}, .n_attr = 1, .attr = {NIZ_I32},
             .in = VALUES(1.9, -1.9, 1e30, NAN), .out = VALUES(1, -1, 2147483647, 0)}),
};

const niz_op *const niz_ops_elementwise[] = {
    &niz_op_neg, &niz_op_abs, &niz_op_sign, &niz_op_exp, &niz_op_expm1, &niz_op_log, &niz_op_log1p,
    &niz_op_sqrt, &niz_op_rsqrt, &niz_op_square, &niz_op_reciprocal, &niz_op_sin, &niz_op_cos,
    &niz_op_tanh, &niz_op_sigmoid, &niz_op_relu, &niz_op_erf, &niz_op_softplus, &niz_op_floor,
    &niz_op_ceil, &niz_op_round, &niz_op_add, &niz_op_sub, &niz_op_mul, &niz_op_div, &niz_op_pow,
    &niz_op_maximum, &niz_op_minimum, &niz_op_lt, &niz_op_le, &niz_op_gt, &niz_op_ge, &niz_op_eq,
    &niz_op_ne, &niz_op_and, &niz_op_or, &niz_op_not, &niz_op_where, &niz_op_cast, NULL,
};

/* ---- builders ------------------------------------------------------------------------------- */

static niz_t binary(niz_at at, const niz_op *op, niz_arg a, niz_arg b)
{
    niz_t x[2];
    niz *z = niz_operands_context(a, b);
    if (!niz_operands(z, at, op->name, a, b, x)) return niz_inert(z);
    return niz_apply_in(z, at, op, 2, x, NULL);
}

#define UNARY(name)                                                                                \
    niz_t niz_##name##_at(niz_at at, niz_t x)                                                      \
    {                                                                                              \
        return niz_apply_at(at, &niz_op_##name, 1, &x, NULL);                                      \
    }
NIZ_UNARY_OPS(UNARY)

#define BINARY(name)                                                                               \
    niz_t niz_##name##_at(niz_at at, niz_arg a, niz_arg b)                                         \
    {                                                                                              \
        return binary(at, &niz_op_##name, a, b);                                                   \
    }
NIZ_PLAIN_BINARY_OPS(BINARY) /* pow, which looks at its exponent, is in compose.c */

niz_t niz_where_at(niz_at at, niz_t condition, niz_arg a, niz_arg b)
{
    niz_t x[3] = {condition};
    niz *z = condition.z ? condition.z : niz_operands_context(a, b);
    niz_recording *r = niz_recording_of(z);
    if (!r || z->status || !niz_handle_node_of(r, at, "where", condition, "the condition") ||
        !niz_operands(z, at, "where", a, b, x + 1))
        return niz_inert(z);
    return niz_apply_at(at, &niz_op_where, 3, x, NULL);
}

niz_t niz_cast_at(niz_at at, niz_t x, niz_dtype to)
{
    if (niz_is_valid(x) && niz_dtype_of(x) == to) return x;
    int64_t word = to;
    return niz_apply_at(at, &niz_op_cast, 1, &x, &(niz_attrs){1, &word});
}
