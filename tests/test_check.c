/* test_check.c - the gradient checker: right derivatives pass, each kind of wrong one is caught and
 * blamed on the operation that has it, points without a derivative are told apart.
 *
 * SPDX-License-Identifier: MIT */
#include <check.h>
#include <math.h>
#include <niz/check.h>
#include <niz/grad.h>
#include <niz/nn.h>
#include <niz/ops.h>
#include <stdlib.h>
#include <string.h>

static niz *z;

static void setup(void)
{
    z = niz_open(NULL);
}

static void teardown(void)
{
    ck_assert_msg(!niz_error(z), "left behind: %s", niz_message(z));
    niz_close(z);
}

static niz_t draw(niz_shape s, double lo, double hi)
{
    return niz_uniform(z, NIZ_F64, s, lo, hi);
}

static void expect(const niz_check_report *r, niz_check_verdict verdict, const char *what)
{
    ck_assert_msg(r->verdict == verdict, "%s: %s, not %s\n%s", what,
                  niz_check_verdict_name(r->verdict), niz_check_verdict_name(verdict), r->text);
    ck_assert_msg(r->text[0], "%s: no text", what);
}

/* ---- broken rules --------------------------------------------------------------------------- */

#define RULE(name) static niz_t name(const niz_app *p, int i)

/* y = a² b, elementwise, broadcasting: 2ab and a² */
static niz_t weigh_right(const niz_app *p, int i)
{
    return i ? niz_square(p->x[0]) : niz_mul(niz_mul(p->x[0], p->x[1]), 2);
}
RULE(wrong_sign) { return i ? niz_neg(weigh_right(p, i)) : weigh_right(p, i); }
RULE(wrong_factor) { return i ? weigh_right(p, i) : niz_mul(p->x[0], p->x[1]); }
RULE(slightly_wrong) { return i ? niz_mul(weigh_right(p, i), 1.001) : weigh_right(p, i); }
RULE(ignores_one) { return i ? niz_inert(p->y.z) : weigh_right(p, i); }
RULE(wrong_second)
{
    niz_t a = niz_stop_gradient(p->x[0]);
    return i ? niz_square(a) : niz_mul(niz_mul(a, p->x[1]), 2);
}
/* wrong only for one element, the greatest a */
RULE(wrong_at_one)
{
    niz_t d = weigh_right(p, i);
    return i ? d : niz_where(niz_eq(p->x[0], niz_max(p->x[0])), niz_mul(d, 1.5), d);
}

#define WEIGH(rule)                                                                                \
    static const niz_op weigh_##rule = {                                                           \
        .name = "weigh", .arity = 2, .infer = niz_infer_same_float, .map = "a * a * b",            \
        .partial = rule,                                                                           \
    };
WEIGH(weigh_right)
WEIGH(wrong_sign)
WEIGH(wrong_factor)
WEIGH(slightly_wrong)
WEIGH(ignores_one)
WEIGH(wrong_second)
WEIGH(wrong_at_one)

/* the share of b is not summed over the axes along which b was broadcast, but taken from one row */
static niz_t no_sum_vjp(const niz_app *p, int i, niz_t gy)
{
    niz_t d = niz_mul(gy, weigh_right(p, i));
    niz_shape s = niz_shape_of(p->x[i]);
    while (niz_shape_of(d).rank > s.rank) d = niz_select(d, 0, 0);
    return d;
}
static niz_t right_jvp(const niz_app *p, int i, niz_t tx)
{
    return niz_mul(tx, weigh_right(p, i));
}
static const niz_op weigh_no_sum = {
    .name = "weigh", .arity = 2, .infer = niz_infer_same_float, .map = "a * a * b",
    .vjp = no_sum_vjp, .jvp = right_jvp,
};

/* reverse mode right, forward mode not */
static niz_t right_vjp(const niz_app *p, int i, niz_t gy)
{
    niz_t d = niz_mul(gy, weigh_right(p, i));
    niz_shape s = niz_shape_of(p->x[i]);
    while (niz_shape_of(d).rank > s.rank) d = niz_sum(d, .axis = 0);
    return d;
}
static niz_t wrong_jvp(const niz_app *p, int i, niz_t tx)
{
    return niz_mul(right_jvp(p, i, tx), 1 + i);
}
static const niz_op weigh_wrong_jvp = {
    .name = "weigh", .arity = 2, .infer = niz_infer_same_float, .map = "a * a * b",
    .vjp = right_vjp, .jvp = wrong_jvp,
};
static const niz_op weigh_no_jvp = {
    .name = "weigh", .arity = 2, .infer = niz_infer_same_float, .map = "a * a * b",
    .vjp = right_vjp,
};

/* y = x reversed along both axes of [R,C]: an index operation with several broken adjoints */
static bool turn_infer(niz_infer *f)
{
    f->dtype = f->x[0].dtype;
    f->shape = f->x[0].shape;
    return f->shape->rank == 2 || niz_infer_fail(f, NIZ_E_SHAPE, "needs 2 axes");
}
static void turn_eval(niz_eval *e)
{
    size_t size = niz_dtype_size(e->y.dtype);
    for (int64_t i = 0; i < e->end; i++)
        memcpy((char *)e->y.data + (size_t)i * size,
               (const char *)e->x[0].data + (size_t)(e->end - 1 - i) * size, size);
}
static niz_t turn_adjoint(const niz_app *p, int i, niz_t gy)
{
    (void)p, (void)i;
    return niz_flip(niz_flip(gy, 0), 1);
}
static niz_t turn_wrong_axis(const niz_app *p, int i, niz_t gy)
{
    (void)p, (void)i;
    return niz_flip(gy, 1);
}
static niz_t turn_drops_row(const niz_app *p, int i, niz_t gy)
{
    niz_t g = turn_adjoint(p, i, gy);
    return niz_pad(niz_slice(g, 0, 0, -1, 1), 0, 0, 1, 0);
}
#define TURN(rule)                                                                                 \
    static const niz_op op_##rule = {                                                              \
        .name = "turn", .arity = 1, .infer = turn_infer, .eval = turn_eval, .adjoint = rule,       \
    };
TURN(turn_adjoint)
TURN(turn_wrong_axis)
TURN(turn_drops_row)

/* The operation in the midst of others: x[0] [3,4], x[1] [4]. */
static int apply_line;
static niz_t around(niz *c, int n, const niz_t *x, void *arg)
{
    const niz_op *op = arg;
    (void)c;
    niz_t a[2] = {niz_sin(x[0]), n > 1 ? niz_exp(x[1]) : x[0]};
    apply_line = __LINE__ + 1;
    niz_t y = niz_apply(op, op->arity, a, NULL);
    return niz_logsumexp(niz_mul(niz_tanh(y), 1.7), .axis = 1);
}

static niz_check_report check_around(const niz_op *op, niz_shape s0, niz_shape s1)
{
    NIZ_STEP(z);
    niz_t x[2] = {draw(s0, 0.2, 1.4), draw(s1, -1, 0.5)};
    return niz_check_grad(around, (void *)op, op->arity == 1 ? 1 : 2, x, .order = 2);
}

static const struct {
    const char *what;
    const niz_op *op;
    int order;
} broken[] = {
    {"sign", &weigh_wrong_sign, 1},
    {"factor 1/2", &weigh_wrong_factor, 1},
    {"missing broadcast sum", &weigh_no_sum, 1},
    {"dropped row", &op_turn_drops_row, 1},
    {"wrong axis", &op_turn_wrong_axis, 1},
    {"second derivative", &weigh_wrong_second, 2},
    {"a thousandth", &weigh_slightly_wrong, 1},
    {"one element", &weigh_wrong_at_one, 1},
    {"forward mode", &weigh_wrong_jvp, 1},
    {"an operand ignored", &weigh_ignores_one, 1},
};

START_TEST(wrong_is_caught)
{
    niz_check_report r = check_around(broken[_i].op, NIZ_SHAPE(3, 4), NIZ_SHAPE(4));
    expect(&r, NIZ_CHECK_WRONG, broken[_i].what);
    ck_assert_ptr_nonnull(r.op);
    ck_assert_str_eq(r.op, broken[_i].op->name);
    ck_assert_ptr_nonnull(strstr(r.at.file, "test_check.c"));
    ck_assert_int_eq(r.at.line, apply_line);
    ck_assert_int_eq(r.order, broken[_i].order);
    char where[64];
    snprintf(where, sizeof where, "test_check.c:%d", apply_line);
    ck_assert_msg(strstr(r.text, where) != NULL, "no %s in: %s", where, r.text);
}
END_TEST

/* Inputs too large for every element: found along a direction, the element by halving. */
START_TEST(wrong_is_caught_in_large_inputs)
{
    niz_check_report r = check_around(broken[_i].op, NIZ_SHAPE(30, 40), NIZ_SHAPE(40));
    expect(&r, NIZ_CHECK_WRONG, broken[_i].what);
    ck_assert_ptr_nonnull(r.op);
    ck_assert_str_eq(r.op, broken[_i].op->name);
    if (broken[_i].op == &weigh_wrong_at_one) ck_assert_int_ge(r.element, 0);
}
END_TEST

START_TEST(right_passes)
{
    const niz_op *op[] = {&weigh_weigh_right, &op_turn_adjoint, &weigh_no_jvp};
    for (int i = 0; i < NIZ_COUNT(op); i++) {
        teardown(), setup(); /* an operation's name is its own in a context */
        niz_check_report r = check_around(op[i], NIZ_SHAPE(3, 4), NIZ_SHAPE(4));
        expect(&r, NIZ_CHECK_OK, op[i]->name);
        ck_assert_int_gt(r.checks, 20);
        ck_assert(!r.op);
        ck_assert_int_eq(strstr(r.text, "no .jvp") != NULL, op[i] == &weigh_no_jvp);
        r = check_around(op[i], NIZ_SHAPE(30, 40), NIZ_SHAPE(40));
        expect(&r, NIZ_CHECK_OK, op[i]->name);
    }
}
END_TEST

/* around() wants two axes. */
START_TEST(refusals_go_to_the_report)
{
    NIZ_STEP(z);
    niz_t x[2] = {draw(NIZ_SHAPE(3), 0, 1), draw(NIZ_SHAPE(3), 0, 1)};
    niz_check_report r = niz_check_grad(around, (void *)&weigh_weigh_right, 2, x);
    expect(&r, NIZ_CHECK_ERROR, "logsumexp over axis 1 of a vector");
    ck_assert_ptr_nonnull(strstr(r.text, "axis 1 is outside"));
    ck_assert(!niz_error(z));
}
END_TEST

static niz_t just_weigh(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c;
    return niz_sum(niz_apply((const niz_op *)arg, n, x, NULL));
}

START_TEST(ratio)
{
    NIZ_STEP(z);
    const float a[] = {0.5f, 1.5f, -2}, b[] = {1, 2, 3};
    niz_t x[2] = {niz_from(z, NIZ_F32, NIZ_SHAPE(3), a), niz_from(z, NIZ_F32, NIZ_SHAPE(3), b)};
    niz_check_report r = niz_check_grad(just_weigh, (void *)&weigh_wrong_factor, 2, x);
    expect(&r, NIZ_CHECK_WRONG, "factor");
    ck_assert_int_eq(r.input, 0);
    ck_assert_int_eq(r.element, 2); /* the largest difference: 2ab = -12 */
    ck_assert_double_eq_tol(r.numeric, -12, 1e-8);
    ck_assert_double_eq_tol(r.analytic, -6, 1e-12);
    ck_assert(r.error < 1e-6);
    ck_assert_ptr_nonnull(strstr(r.text, "ratio 0.5"));
}
END_TEST

START_TEST(ratio_of_signs)
{
    niz_check_report r = check_around(&weigh_wrong_sign, NIZ_SHAPE(3, 4), NIZ_SHAPE(4));
    ck_assert_ptr_nonnull(strstr(r.text, "ratio -1: the sign"));
}
END_TEST

/* ---- right functions ------------------------------------------------------------------------ */

static niz_t f_softmax(niz *c, int n, const niz_t *x, void *arg)
{
    const int32_t y[] = {1, 0, 4};
    (void)n, (void)arg;
    return niz_cross_entropy(x[0], niz_copy_from(c, NIZ_I32, NIZ_SHAPE(3), y));
}

static niz_t f_softmax_only(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_softmax(x[0], -1);
}

static niz_t f_layer_norm(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_layer_norm(x[0], "norm");
}

static niz_t f_batch_norm(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_batch_norm(x[0], "norm");
}

/* x [3,5], h and c [3,4], w [9,16] */
static niz_t f_lstm(niz *z_, int n, const niz_t *x, void *arg)
{
    (void)z_, (void)n, (void)arg;
    niz_t in[2] = {x[0], x[1]}, gate[4];
    niz_t all = niz_matmul(niz_concat(2, in, 1), x[3]);
    for (int i = 0; i < 4; i++) gate[i] = niz_slice(all, 1, 4 * i, 4 * i + 4, 1);
    niz_t c = niz_add(niz_mul(niz_sigmoid(gate[1]), x[2]),
                      niz_mul(niz_sigmoid(gate[0]), niz_tanh(gate[2])));
    return niz_mul(niz_sigmoid(gate[3]), niz_tanh(c));
}

static niz_t f_conv(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_max_pool2d(niz_tanh(niz_conv(x[0], x[1], .pad = 1)), 2);
}

static niz_t f_robust(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    niz_t r = niz_sub(x[0], x[1]);
    return niz_mean(niz_sub(niz_sqrt(niz_add(niz_square(r), 1.0)), 1.0));
}

static niz_t f_dropout(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_add(niz_dropout(x[0], 0.5), niz_square(x[0]));
}

static niz_t f_embedding(niz *c, int n, const niz_t *x, void *arg)
{
    const int64_t at[] = {2, 0, 2};
    (void)n, (void)arg;
    return niz_square(niz_take(x[0], 0, niz_copy_from(c, NIZ_I64, NIZ_SHAPE(3), at)));
}

static niz_t f_gelu(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_mul(niz_gelu(x[0]), niz_cast(niz_cast(niz_silu(x[0]), NIZ_F32), niz_dtype_of(x[0])));
}

static niz_t f_stopped(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_mul(x[0], niz_stop_gradient(niz_square(x[0])));
}

static niz_t f_scales(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_div(niz_square(x[0]), niz_add(niz_abs(x[1]), 1e-12));
}

static const struct {
    const char *name;
    niz_check_function *f;
    niz_shape x[4];
    int n;
} right[] = {
    {"softmax cross-entropy", f_softmax, {{2, {3, 5}}}, 1},
    {"softmax", f_softmax_only, {{2, {3, 5}}}, 1},
    {"layer norm", f_layer_norm, {{2, {3, 5}}}, 1},
    {"batch norm", f_batch_norm, {{2, {6, 3}}}, 1},
    {"lstm", f_lstm, {{2, {3, 5}}, {2, {3, 4}}, {2, {3, 4}}, {2, {9, 16}}}, 4},
    {"convolution and pool", f_conv, {{4, {2, 2, 6, 6}}, {4, {3, 2, 3, 3}}}, 2},
    {"robust loss", f_robust, {{2, {3, 5}}, {1, {5}}}, 2},
    {"dropout", f_dropout, {{2, {3, 5}}}, 1},
    {"embedding", f_embedding, {{2, {4, 3}}}, 1},
    {"gelu, silu, casts", f_gelu, {{1, {7}}}, 1},
    {"stop_gradient", f_stopped, {{1, {7}}}, 1},
    {"scales", f_scales, {{1, {7}}, {1, {7}}}, 2},
};

START_TEST(functions_pass)
{
    NIZ_STEP(z);
    for (int dtype = NIZ_F32; dtype <= NIZ_F64; dtype++) {
        niz_t x[4];
        bool norm = right[_i].f == f_layer_norm || right[_i].f == f_batch_norm;
        if (norm && dtype == NIZ_F64) continue; /* their parameters are f32 by now */
        for (int i = 0; i < right[_i].n; i++)
            x[i] = niz_normal(z, (niz_dtype)dtype, right[_i].x[i], 0.1, 1);
        niz_check_report r = niz_check_grad(right[_i].f, NULL, right[_i].n, x, .order = 2);
        expect(&r, NIZ_CHECK_OK, right[_i].name);
    }
}
END_TEST

/* Values of very different sizes, tiny and huge: the steps are relative. */
START_TEST(scales_pass)
{
    NIZ_STEP(z);
    const double a[] = {1e-9, 1, 1e9}, b[] = {1e-3, 1, 1e6};
    niz_t x[2] = {niz_from(z, NIZ_F64, NIZ_SHAPE(3), a), niz_from(z, NIZ_F64, NIZ_SHAPE(3), b)};
    niz_check_report r = niz_check_grad(f_scales, NULL, 2, x, .order = 2);
    expect(&r, NIZ_CHECK_OK, "mixed");
    niz_t y[2] = {niz_from(z, NIZ_F64, NIZ_SHAPE(1), a), niz_from(z, NIZ_F64, NIZ_SHAPE(1), b)};
    r = niz_check_grad(f_scales, NULL, 2, y, .order = 2);
    expect(&r, NIZ_CHECK_OK, "tiny");
    niz_t v[2] = {niz_from(z, NIZ_F64, NIZ_SHAPE(1), a + 2),
                  niz_from(z, NIZ_F64, NIZ_SHAPE(1), b + 2)};
    r = niz_check_grad(f_scales, NULL, 2, v, .order = 2);
    expect(&r, NIZ_CHECK_OK, "huge");
}
END_TEST

/* ---- kinks ---------------------------------------------------------------------------------- */

static niz_t f_relu(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_relu(x[0]);
}

static niz_t f_abs(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_abs(x[0]);
}

static niz_t f_max(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_max(x[0]);
}

static niz_t f_maximum(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_maximum(x[0], niz_scalar(c, NIZ_F64, 0.75));
}

static niz_t f_sqrt(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_sqrt(x[0]);
}

static const struct {
    const char *name;
    niz_check_function *f;
    double kink[4], smooth[4];
    int64_t element;
} kinks[] = {
    {"relu", f_relu, {1, -1, 0, 2}, {1, -1, 0.1, 2}, 2},
    {"abs", f_abs, {1, 0, -3, 2}, {1, 0.5, -3, 2}, 1},
    {"max", f_max, {1, 3, 2, 3}, {1, 3, 2, 3.5}, -1},
    {"maximum", f_maximum, {1, 3, 2, 0.75}, {1, 3, 2, 0.5}, 3},
    {"sqrt", f_sqrt, {0, 3, 2, 3}, {1, 3, 2, 3}, 0},
};

START_TEST(kinks_are_told_apart)
{
    NIZ_STEP(z);
    niz_t x = niz_from(z, NIZ_F64, NIZ_SHAPE(4), kinks[_i].kink);
    niz_check_report r = niz_check_grad(kinks[_i].f, NULL, 1, &x);
    expect(&r, NIZ_CHECK_KINK, kinks[_i].name);
    if (kinks[_i].element >= 0) ck_assert_int_eq(r.element, kinks[_i].element);
    ck_assert_ptr_nonnull(strstr(r.text, "not differentiable here"));
    ck_assert_ptr_nonnull(r.op);
    ck_assert_str_eq(r.op, kinks[_i].name);
    x = niz_from(z, NIZ_F64, NIZ_SHAPE(4), kinks[_i].smooth);
    r = niz_check_grad(kinks[_i].f, NULL, 1, &x, .order = 2);
    expect(&r, NIZ_CHECK_OK, kinks[_i].name);
}
END_TEST

/* In a large input the element is found by halving. */
START_TEST(a_kink_among_many)
{
    NIZ_STEP(z);
    static double v[1000];
    for (int i = 0; i < 1000; i++) v[i] = (i % 2 ? 1 : -1) * (1 + 0.001 * i);
    v[617] = 0;
    niz_t x = niz_from(z, NIZ_F64, NIZ_SHAPE(1000), v);
    niz_check_report r = niz_check_grad(f_relu, NULL, 1, &x);
    expect(&r, NIZ_CHECK_KINK, "relu");
    ck_assert_int_eq(r.element, 617);
}
END_TEST

/* ---- nothing checked, values read, errors --------------------------------------------------- */

static niz_t f_first(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_square(x[0]);
}

static niz_t f_constant(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_sum(niz_softmax(x[0], 0)); /* 1, whatever x */
}

START_TEST(vacuous)
{
    NIZ_STEP(z);
    niz_t x[2] = {draw(NIZ_SHAPE(4), -1, 1), draw(NIZ_SHAPE(4), -1, 1)};
    niz_check_report r = niz_check_grad(f_first, NULL, 2, x);
    expect(&r, NIZ_CHECK_VACUOUS, "an input that is not used");
    ck_assert_int_eq(r.input, 1);
    r = niz_check_grad(f_constant, NULL, 1, x);
    expect(&r, NIZ_CHECK_VACUOUS, "a sum of probabilities");
    niz_t negative = draw(NIZ_SHAPE(4), -2, -1);
    r = niz_check_grad(f_relu, NULL, 1, &negative);
    expect(&r, NIZ_CHECK_VACUOUS, "relu of negative numbers");
    niz_t none = draw(NIZ_SHAPE(0), 0, 1);
    r = niz_check_grad(f_first, NULL, 1, &none);
    expect(&r, NIZ_CHECK_VACUOUS, "no elements");
}
END_TEST

static niz_t f_branch(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    double v = niz_item(niz_sum(x[0]));
    return v > 1 ? niz_square(x[0]) : niz_exp(x[0]);
}

static niz_t f_constant_from_value(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_mul(x[0], niz_item(niz_sum(x[0])));
}

static niz_t f_data_from_value(niz *c, int n, const niz_t *x, void *arg)
{
    (void)n, (void)arg;
    return niz_mul(x[0], niz_exp(niz_scalar(c, NIZ_F64, niz_item(niz_sum(x[0])))));
}

START_TEST(values_that_decide)
{
    NIZ_STEP(z);
    const double near[] = {0.5, 0.49}, far[] = {0.5, 3};
    niz_t x = niz_from(z, NIZ_F64, NIZ_SHAPE(2), near);
    niz_check_report r = niz_check_grad(f_branch, NULL, 1, &x);
    expect(&r, NIZ_CHECK_BRANCHES, "a branch nearby");
    r = niz_check_grad(f_constant_from_value, NULL, 1, &x);
    expect(&r, NIZ_CHECK_BRANCHES, "a value that becomes a literal");
    r = niz_check_grad(f_data_from_value, NULL, 1, &x);
    expect(&r, NIZ_CHECK_BRANCHES, "a value that becomes data");
    x = niz_from(z, NIZ_F64, NIZ_SHAPE(2), far);
    r = niz_check_grad(f_branch, NULL, 1, &x);
    expect(&r, NIZ_CHECK_OK, "a branch far away");
}
END_TEST

static niz_t f_refused(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_reshape(x[0], NIZ_SHAPE(77));
}

static niz_t f_inert(niz *c, int n, const niz_t *x, void *arg)
{
    (void)n, (void)arg, (void)x;
    return niz_inert(c);
}

static const niz_op without_rule = {
    .name = "without_rule", .arity = 1, .infer = niz_infer_same_float, .map = "a * a",
};

static niz_t f_whole(niz *c, int n, const niz_t *x, void *arg)
{
    (void)c, (void)n, (void)arg;
    return niz_cast(x[0], NIZ_I32);
}

START_TEST(errors_go_to_the_report)
{
    NIZ_STEP(z);
    niz_t x = draw(NIZ_SHAPE(4), 1, 2);
    niz_check_report r = niz_check_grad(f_refused, NULL, 1, &x);
    expect(&r, NIZ_CHECK_ERROR, "a refused reshape");
    ck_assert_ptr_nonnull(strstr(r.text, "reshape"));
    ck_assert_ptr_nonnull(strstr(r.text, "test_check.c"));
    ck_assert(!niz_error(z));
    r = niz_check_grad(f_inert, NULL, 1, &x);
    expect(&r, NIZ_CHECK_ERROR, "an inert result");
    r = niz_check_grad(just_weigh, (void *)&without_rule, 1, &x);
    expect(&r, NIZ_CHECK_ERROR, "no rule");
    ck_assert_ptr_nonnull(strstr(r.text, "without_rule"));
    r = niz_check_grad(f_whole, NULL, 1, &x);
    expect(&r, NIZ_CHECK_ERROR, "an integer result");
    r = niz_check_grad(f_first, NULL, 1, &x, .order = 3);
    expect(&r, NIZ_CHECK_ERROR, "order 3");
    r = niz_check_grad(f_first, NULL, 0, &x);
    expect(&r, NIZ_CHECK_ERROR, "no inputs");
    niz_t whole = niz_cast(x, NIZ_I64);
    r = niz_check_grad(f_first, NULL, 1, &whole);
    expect(&r, NIZ_CHECK_ERROR, "no floating input");
    ck_assert(!niz_error(z));
    ck_assert_double_gt(niz_item(niz_sum(x)), 4); /* the context works on */
}
END_TEST

START_TEST(an_error_of_before_stays)
{
    NIZ_STEP(z);
    niz_t x = draw(NIZ_SHAPE(4), 1, 2);
    niz_reshape(x, NIZ_SHAPE(5));
    ck_assert(niz_error(z));
    niz_check_report r = niz_check_grad(f_first, NULL, 1, &x);
    expect(&r, NIZ_CHECK_ERROR, "an error of before");
    ck_assert(niz_error(z));
    niz_clear_error(z);
}
END_TEST

START_TEST(stale_inputs)
{
    niz_t x;
    {
        NIZ_STEP(z);
        x = draw(NIZ_SHAPE(4), 1, 2);
    }
    niz_check_report r = niz_check_grad(f_first, NULL, 1, &x);
    expect(&r, NIZ_CHECK_ERROR, "a handle of a step that ended");
    ck_assert(!niz_error(z));
}
END_TEST

/* ---- the context stays as it was ------------------------------------------------------------ */

static niz_t f_updates(niz *c, int n, const niz_t *x, void *arg)
{
    (void)n, (void)arg;
    niz_t w = niz_find(c, "w");
    niz_assign(w, niz_add(w, 10)); /* dropped */
    return niz_mul(x[0], w);
}

START_TEST(parameters_and_updates_stay)
{
    char before[33], after[33];
    const double w[] = {1, 2, 3};
    niz_param_set(z, "w", NIZ_F64, NIZ_SHAPE(3), true, w);
    niz_param_hash(z, before);
    niz_counters counters = niz_counters_get(z);
    niz_step_guard step = niz_step_begin(z);
    {
        niz_t p = niz_find(z, "w"), x = draw(NIZ_SHAPE(3), 1, 2);
        niz_assign(p, niz_mul(p, 2)); /* pending */
        niz_check_report r = niz_check_grad(f_updates, NULL, 1, &x, .order = 2);
        expect(&r, NIZ_CHECK_OK, "a function with a parameter");
        niz_param_hash(z, after);
        ck_assert_str_eq(before, after);
        ck_assert_msg(niz_item(niz_sum(niz_find(z, "w"))) == 12, "%s", niz_message(z));
        ck_assert_double_eq(((const double *)niz_param_get(z, 0).data)[2], 6);
    }
    niz_step_end(&step);
    ck_assert_double_eq(((const double *)niz_param_get(z, 0).data)[2], 6);
    ck_assert_uint_eq(niz_counters_get(z).train_steps, counters.train_steps + 1);
}
END_TEST

START_TEST(draws_and_steps_stay)
{
    double drawn[2];
    for (int i = 0; i < 2; i++) {
        niz_seed(z, 7);
        NIZ_STEP(z);
        niz_t x = draw(NIZ_SHAPE(5), 0, 1);
        if (i) {
            niz_check_report r = niz_check_grad(f_dropout, NULL, 1, &x);
            expect(&r, NIZ_CHECK_OK, "dropout");
        }
        drawn[i] = niz_item(niz_sum(draw(NIZ_SHAPE(5), 0, 1)));
    }
    ck_assert_double_eq(drawn[0], drawn[1]);
}
END_TEST

START_TEST(outside_a_step)
{
    niz_t x = draw(NIZ_SHAPE(5), 0, 1);
    niz_check_report r = niz_check_grad(f_first, NULL, 1, &x, .order = 2);
    expect(&r, NIZ_CHECK_OK, "outside");
    ck_assert_double_gt(niz_item(niz_sum(x)), 0);
}
END_TEST

/* All points of a check share a few plans. */
START_TEST(the_same_seed_gives_the_same_report)
{
    NIZ_STEP(z);
    niz_t x[2] = {draw(NIZ_SHAPE(3, 5), -1, 1), draw(NIZ_SHAPE(5), -1, 1)};
    niz_check_report a = niz_check_grad(f_robust, NULL, 2, x, .order = 2);
    niz_check_report b = niz_check_grad(f_robust, NULL, 2, x, .order = 2);
    niz_check_report c = niz_check_grad(f_robust, NULL, 2, x, .order = 2, .seed = 5);
    ck_assert_str_eq(a.text, b.text);
    expect(&c, NIZ_CHECK_OK, "another seed");
}
END_TEST

/* A record that takes only f32 is checked in f32, with a tolerance that fits. */
static bool single_infer(niz_infer *f)
{
    if (f->x[0].dtype != NIZ_F32) return niz_infer_fail(f, NIZ_E_DTYPE, "needs f32");
    return niz_infer_same_float(f);
}
RULE(cube_d) { return (void)i, niz_mul(niz_square(p->x[0]), 3); }
RULE(cube_wrong) { return (void)i, niz_mul(niz_square(p->x[0]), 2); }
static const niz_op single = {
    .name = "single", .arity = 1, .infer = single_infer, .map = "a * a * a", .partial = cube_d,
};
static const niz_op single_wrong = {
    .name = "single_wrong", .arity = 1, .infer = single_infer, .map = "a * a * a",
    .partial = cube_wrong,
};

START_TEST(single_precision)
{
    NIZ_STEP(z);
    niz_t x = niz_uniform(z, NIZ_F32, NIZ_SHAPE(5), 1, 2);
    niz_check_report r = niz_check_grad(just_weigh, (void *)&single, 1, &x, .order = 2);
    expect(&r, NIZ_CHECK_OK, "f32 only");
    r = niz_check_grad(just_weigh, (void *)&single_wrong, 1, &x);
    expect(&r, NIZ_CHECK_WRONG, "f32 only, wrong");
    ck_assert_str_eq(r.op, "single_wrong");
}
END_TEST

/* ---- no memory ------------------------------------------------------------------------------ */

typedef struct counter {
    int64_t blocks, calls, refuse; /* the call that gets nothing, from 1; 0: none */
} counter;

static void *counting_realloc(void *user, void *p, size_t bytes)
{
    counter *c = user;
    if (!bytes) {
        c->blocks -= p != NULL;
        free(p);
        return NULL;
    }
    if (++c->calls == c->refuse) return NULL;
    void *q = realloc(p, bytes);
    c->blocks += q && !p;
    return q;
}

/* Every n-th allocation fails once: the report says so, nothing is lost, the context works on. */
START_TEST(no_memory)
{
    const niz_op *op = _i ? &weigh_wrong_factor : &weigh_weigh_right;
    niz_check_verdict whole = _i ? NIZ_CHECK_WRONG : NIZ_CHECK_OK;
    int64_t failed = 0;
    for (int64_t n = 1;; n += n < 300 ? 1 : 17) {
        counter c = {0};
        niz *other = niz_open(
            &(niz_options){.threads = 1, .realloc = counting_realloc, .user = &c});
        niz_step_guard step = niz_step_begin(other);
        niz_shape three = NIZ_SHAPE(3);
        niz_t x[2] = {niz_ones(other, NIZ_F64, three), niz_ones(other, NIZ_F64, three)};
        niz_run(other, 2, x);
        c.refuse = c.calls + n;
        niz_check_report r = niz_check_grad(just_weigh, (void *)op, 2, x, .order = 2);
        bool reached = c.calls >= c.refuse;
        c.refuse = 0;
        failed += r.verdict == NIZ_CHECK_ERROR;
        ck_assert_msg(r.verdict == whole || (reached && r.verdict == NIZ_CHECK_ERROR),
                      "allocation %lld: %s", (long long)n, r.text);
        ck_assert_int_eq(niz_error(other), NIZ_OK);
        ck_assert_double_eq(niz_item(niz_sum(niz_add(x[0], x[1]))), 6);
        niz_step_end(&step);
        niz_close(other);
        ck_assert_int_eq(c.blocks, 0);
        if (!reached) break;
    }
    ck_assert_int_gt(failed, 20);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("check");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, wrong_is_caught, 0, NIZ_COUNT(broken));
    tcase_add_loop_test(t, wrong_is_caught_in_large_inputs, 0, NIZ_COUNT(broken));
    tcase_add_test(t, right_passes);
    tcase_add_test(t, refusals_go_to_the_report);
    tcase_add_test(t, ratio);
    tcase_add_test(t, ratio_of_signs);
    tcase_add_loop_test(t, functions_pass, 0, NIZ_COUNT(right));
    tcase_add_test(t, scales_pass);
    tcase_add_loop_test(t, kinks_are_told_apart, 0, NIZ_COUNT(kinks));
    tcase_add_test(t, a_kink_among_many);
    tcase_add_test(t, vacuous);
    tcase_add_test(t, values_that_decide);
    tcase_add_test(t, errors_go_to_the_report);
    tcase_add_test(t, an_error_of_before_stays);
    tcase_add_test(t, stale_inputs);
    tcase_add_test(t, parameters_and_updates_stay);
    tcase_add_test(t, draws_and_steps_stay);
    tcase_add_test(t, outside_a_step);
    tcase_add_test(t, the_same_seed_gives_the_same_report);
    tcase_add_test(t, single_precision);
    tcase_add_loop_test(t, no_memory, 0, 2);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
