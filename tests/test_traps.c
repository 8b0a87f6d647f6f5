/* What is easy to get wrong with the library: edges of pow, numbers that a dtype cannot hold,
 * operands that are missing, and the messages about them.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>

#include "util.h"

/* With one operand: the message begins "name at this_file:line: ". */
#define expect_said(z, status, name, part)                                                         \
    do {                                                                                           \
        char said[300];                                                                            \
        snprintf(said, sizeof said, "%s %s: ", name, util_place(__FILE__, __LINE__));              \
        ck_assert_msg(niz_error(z) == (status) && !strncmp(niz_message(z), said, strlen(said)) &&  \
                          strstr(niz_message(z), part),                                            \
                      "no \"%s\" or no \"%s\" in \"%s\"", said, part, niz_message(z));             \
        niz_clear_error(z);                                                                        \
    } while (0)

static bool same(double got, double want, double tolerance)
{
    return got == want || (isnan(got) && isnan(want)) || fabs(got - want) <= tolerance * fabs(want);
}

/* ---- pow ------------------------------------------------------------------------------------ */

static const double edges[] = {0, -0.0, -2, INFINITY, -INFINITY, 1e-200, 2, 3e-160, 1e150};
#define N_EDGES NIZ_COUNT(edges)

/* ±0.5 is sqrt and rsqrt, which differ from C99's pow at -0 and -inf. */
static bool sqrt_differs(double a, double exponent)
{
    return fabs(exponent) == 0.5 && signbit(a) && (a == 0 || isinf(a));
}

START_TEST(pow_of_a_number_and_its_derivative)
{
    static const double exponent[] = {-8.5, -8, -3, -2, -1.5, -1, -.5, .5, 1, 1.5,
                                      2,    2.5, 3, 7, 8, 8.5, 9, 20};
    niz *z = util_open();
    for (int i = 0; i < NIZ_COUNT(exponent); i++) {
        NIZ_STEP(z);
        double e = exponent[i], value[N_EDGES], slope[N_EDGES];
        niz_t x = niz_copy_from(z, NIZ_F64, NIZ_SHAPE(N_EDGES), edges), y = niz_pow(x, e), g;
        niz_grad(niz_sum(y), 1, &x, &g);
        niz_read(y, value, sizeof value);
        niz_read(g, slope, sizeof slope);
        expect_ok(z);
        for (int k = 0; k < N_EDGES; k++) {
            double a = edges[k], v = pow(a, e), d = e * pow(a, e - 1);
            if (sqrt_differs(a, e)) continue;
            ck_assert_msg(same(value[k], v, 1e-14), "pow(%g, %g) = %g, not %g", a, e, value[k], v);
            ck_assert_msg(same(slope[k], d, 1e-13), "pow(%g, %g)' = %g, not %g", a, e, slope[k], d);
        }
    }
    niz_close(z);
}
END_TEST

/* ∂/∂a and ∂²/∂a² at a = 0 with exponents 0, 1, 2, 3; both finite. */
START_TEST(pow_with_a_tensor_exponent_at_zero)
{
    static const double a[] = {0, 0, 0, 0, 2}, b[] = {0, 1, 2, 3, 0};
    static const double want[] = {0, 1, 0, 0, 0}, second[] = {0, 0, 2, 0, 0};
    niz *z = util_open();
    {
        NIZ_STEP(z);
        double got[5];
        niz_t x = niz_copy_from(z, NIZ_F64, NIZ_SHAPE(5), a), g, h;
        niz_t e = niz_copy_from(z, NIZ_F64, NIZ_SHAPE(5), b);
        niz_grad(niz_sum(niz_pow(x, e)), 1, &x, &g);
        niz_read(g, got, sizeof got);
        expect_ok(z);
        for (int i = 0; i < 5; i++) ck_assert_msg(got[i] == want[i], "%d: %g", i, got[i]);
        niz_grad(niz_sum(g), 1, &x, &h);
        niz_read(h, got, sizeof got);
        expect_ok(z);
        for (int i = 0; i < 5; i++) ck_assert_msg(got[i] == second[i], "second %d: %g", i, got[i]);
        niz_grad(niz_sum(g), 1, &e, &h); /* a^(b-1) + b a^(b-1) ln a: 1/2 at (2, 0) */
        niz_read(h, got, sizeof got);
        ck_assert_msg(same(got[4], 0.5, 1e-14), "mixed: %g", got[4]);
    }
    niz_close(z);
}
END_TEST

START_TEST(pow_by_its_exponent_twice_at_zero)
{
    niz *z = util_open();
    {
        NIZ_STEP(z);
        static const double b[] = {1, 2, 0.5};
        double got[3];
        niz_t e = niz_copy_from(z, NIZ_F64, NIZ_SHAPE(3), b), g, h;
        niz_t y = niz_add(niz_pow(0.0, e), niz_pow(2.0, e));
        niz_grad(niz_sum(y), 1, &e, &g);
        niz_grad(niz_sum(g), 1, &e, &h);
        niz_read(h, got, sizeof got);
        expect_ok(z);
        for (int i = 0; i < 3; i++) {
            double want = pow(2, b[i]) * log(2) * log(2);
            ck_assert_msg(same(got[i], want, 1e-13), "%g, not %g", got[i], want);
        }
    }
    niz_close(z);
}
END_TEST

/* ---- missing operands ----------------------------------------------------------------------- */

START_TEST(an_empty_operand_is_reported)
{
    niz *z = util_open();
    {
        NIZ_STEP(z);
        niz_t x = niz_ones(z, NIZ_F32, NIZ_SHAPE(3)), none = NIZ_NO_TENSOR;
        niz_t c = niz_gt(x, 0);
        ck_assert(!niz_is_valid(niz_add(none, x)));
        niz_clear_error(z);
        niz_add(none, x); expect_said(z, NIZ_E_STALE, "add", "a is an empty handle");
        niz_add(x, none); expect_said(z, NIZ_E_STALE, "add", "b is an empty handle");
        niz_pow(none, x); expect_said(z, NIZ_E_STALE, "pow", "a is an empty handle");
        niz_where(c, none, 1); expect_said(z, NIZ_E_STALE, "where", "a is an empty handle");
        niz_where(c, x, none); expect_said(z, NIZ_E_STALE, "where", "b is an empty handle");
        niz_where(none, x, 1); expect_said(z, NIZ_E_STALE, "where", "condition is an empty handle");
        niz_where(c, 1.0, 0.0); expect_said(z, NIZ_E_DTYPE, "where", "niz_number_like");
        niz_add(x, niz_add(1, 2));
        expect_error(z, NIZ_E_STALE, "numbers alone");
    }
    niz_close(z);
}
END_TEST

START_TEST(messages_name_the_call)
{
    static const float v[3] = {1, 2, 3};
    niz *z = util_open();
    niz_t stale;
    {
        NIZ_STEP(z);
        stale = niz_ones(z, NIZ_F32, NIZ_SHAPE(3));
    }
    {
        NIZ_STEP(z);
        niz_t x = niz_ones(z, NIZ_F32, NIZ_SHAPE(3)), two[2] = {x, x};
        niz_t w = niz_param(z, "w", NIZ_F32, NIZ_SHAPE(3), niz_constant_init(1));
        float out[3];
        const char *ended = "of a step that has ended";
        niz_exp(stale); expect_said(z, NIZ_E_STALE, "exp", ended);
        niz_add(stale, 1); expect_said(z, NIZ_E_STALE, "add", ended);
        niz_add(x, stale); expect_said(z, NIZ_E_STALE, "add", ended);
        niz_where(niz_gt(x, 0), stale, 1); expect_said(z, NIZ_E_STALE, "where", ended);
        niz_find(z, "nobody"); expect_said(z, NIZ_E_ARGUMENT, "find", "no parameter \"nobody\"");
        niz_param(z, "w", NIZ_F32, NIZ_SHAPE(4), niz_constant_init(1));
        expect_error(z, NIZ_E_SHAPE, "param at ");
        niz_state(z, "", NIZ_F32, NIZ_SHAPE(4), niz_constant_init(1));
        expect_error(z, NIZ_E_ARGUMENT, "state at ");
        niz_assign(x, x); expect_said(z, NIZ_E_ARGUMENT, "assign", "only parameters");
        niz_assign(w, stale); expect_said(z, NIZ_E_STALE, "assign", ended);
        niz_from(z, NIZ_F32, NIZ_SHAPE(-3), v); expect_said(z, NIZ_E_SHAPE, "from", "not a shape");
        niz_from(z, NIZ_F32, NIZ_SHAPE(3), NULL); expect_said(z, NIZ_E_ARGUMENT, "from", "no data");
        niz_copy_from(z, (niz_dtype)77, NIZ_SHAPE(3), v);
        expect_error(z, NIZ_E_DTYPE, "copy_from at ");
        niz_scalar(z, NIZ_I32, 1.5); expect_said(z, NIZ_E_DTYPE, "scalar", "1.5 does not fit");
        niz_mul(niz_cast(x, NIZ_I32), 1.5); expect_said(z, NIZ_E_DTYPE, "mul", "1.5 does not fit");
        (void)niz_item(stale); expect_said(z, NIZ_E_STALE, "item", ended);
        (void)niz_item(x); expect_said(z, NIZ_E_SHAPE, "item", "needs one element");
        niz_read(stale, out, sizeof out); expect_said(z, NIZ_E_STALE, "read", ended);
        niz_read(x, out, 4); expect_said(z, NIZ_E_ARGUMENT, "read", "has 12 bytes");
        niz_run(z, 1, &stale); expect_said(z, NIZ_E_STALE, "run", ended);
        const niz_op *op = niz_op_find("exp");
        niz_apply(op, 2, two, NULL); expect_said(z, NIZ_E_ARGUMENT, "exp", "takes 1 operand, not");
        NIZ_SCOPE(z, "net");
        niz_exp(stale); expect_error(z, NIZ_E_STALE, "(net): a is a tensor of a step");
    }
    niz_close(z);
}
END_TEST

/* ---- numbers -------------------------------------------------------------------------------- */

START_TEST(integers_that_no_double_holds_are_refused)
{
    niz *z = util_open();
    {
        NIZ_STEP(z);
        const int64_t most = (1ll << 53) - 1, more = (1ll << 53) + 1;
        niz_t n = niz_copy_from(z, NIZ_I64, NIZ_SCALAR, &most), x = niz_cast(n, NIZ_F64);
        ck_assert(niz_item(niz_sub(n, most)) == 0);
        ck_assert(niz_item(niz_add(niz_mul(x, 0), 1ull << 60)) == 0x1p60);
        niz_add(n, more); expect_said(z, NIZ_E_ARGUMENT, "add", "no double holds");
        niz_add(x, more); expect_said(z, NIZ_E_ARGUMENT, "add", "no double holds");
        niz_add(x, -more); expect_said(z, NIZ_E_ARGUMENT, "add", "no double holds");
        niz_add(x, UINT64_MAX); expect_said(z, NIZ_E_ARGUMENT, "add", "no double holds");
        niz_add(n, 0x1p53); expect_said(z, NIZ_E_DTYPE, "add", "9007199254740992");
        niz_scalar(z, NIZ_I64, 0x1p53); expect_said(z, NIZ_E_DTYPE, "scalar", "9007199254740992");
        niz_full(z, NIZ_I64, NIZ_SCALAR, -0x1p53);
        expect_error(z, NIZ_E_DTYPE, "9007199254740992");
        ck_assert(niz_item(niz_scalar(z, NIZ_I64, (double)most)) == (double)most);
    }
    niz_close(z);
}
END_TEST

/* Every arithmetic type, and none of them is converted behind the compiler's back. */
START_TEST(every_type_of_number_is_an_operand)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wconversion"
#pragma GCC diagnostic error "-Wdouble-promotion"
    niz *z = util_open();
    {
        NIZ_STEP(z);
        signed char a = 1;
        unsigned char b = 2;
        short c = 3;
        unsigned short d = 4;
        int e = 5;
        unsigned f = 6;
        long g = 7;
        unsigned long h = 8;
        long long i = 9;
        unsigned long long j = 10;
        float k = 0.5f;
        double l = 11;
        long double m = 12;
        char n = 13;
        bool o = true;
        niz_t x = niz_ones(z, NIZ_F64, NIZ_SCALAR);
        x = niz_add(niz_add(niz_add(niz_add(x, a), b), c), d);
        x = niz_add(niz_add(niz_add(niz_add(x, e), f), g), h);
        x = niz_add(niz_add(niz_add(niz_add(x, i), j), k), l);
        x = niz_add(niz_add(niz_add(x, m), n), o);
        double sum = niz_item(niz_mul(x, sizeof sum));
        ck_assert_msg(sum == 8 * 93.5, "%g", sum);
    }
    niz_close(z);
#pragma GCC diagnostic pop
}
END_TEST

START_TEST(values_out_of_range_are_refused)
{
    niz *z = util_open();
    {
        NIZ_STEP(z);
        niz_normal(z, NIZ_F32, NIZ_SHAPE(3), 0, -1);
        expect_error(z, NIZ_E_ARGUMENT, "normal at ");
        niz_normal(z, NIZ_F32, NIZ_SHAPE(3), 0, NAN);
        expect_error(z, NIZ_E_ARGUMENT, "normal at ");
        niz_param(z, "w", NIZ_F32, NIZ_SHAPE(3), niz_normal_init(.std = -1));
        expect_error(z, NIZ_E_ARGUMENT, "standard deviation");
        niz_scalar(z, NIZ_BOOL, 2); expect_said(z, NIZ_E_DTYPE, "scalar", "does not fit");
        niz_scalar(z, NIZ_U8, 256); expect_said(z, NIZ_E_DTYPE, "scalar", "does not fit");
        niz_scalar(z, (niz_dtype)9, 1.5); expect_said(z, NIZ_E_DTYPE, "scalar", "not a dtype");
        niz_t yes = niz_full(z, NIZ_BOOL, NIZ_SHAPE(2), 1);
        niz_lt(yes, yes); expect_said(z, NIZ_E_DTYPE, "lt", "bool has no order");
        niz_ge(yes, 1); expect_said(z, NIZ_E_DTYPE, "ge", "bool has no order");
    }
    niz_close(z);
}
END_TEST

/* ---- macros --------------------------------------------------------------------------------- */

/* Commas in braces are no ends of arguments. */
START_TEST(compound_literals_are_arguments)
{
    niz *z = util_open();
    {
        NIZ_STEP(z);
        niz_t a = niz_ones(z, NIZ_F32, (niz_shape){1, {3}}), b = niz_add(a, 1), g;
        niz_t y = niz_concat(2, (niz_t[]){a, b}, 0);
        y = niz_reshape(y, (niz_shape){2, {2, 3}});
        y = niz_permute(y, (niz_axes){2, {1, 0}});
        y = niz_add(niz_sum(y), niz_sum(niz_stack(2, (niz_t[]){a, b}, 0)));
        niz_grad(y, 1, (niz_t[]){a}, &g);
        niz_run(z, 2, (niz_t[]){y, g});
        ck_assert(niz_item(y) == 18);
        y = niz_apply(niz_op_find("add"), 2, (niz_t[]){a, b}, &(niz_attrs){0, NULL});
        y = niz_copy_from(z, NIZ_F32, (niz_shape){2, {1, 2}}, (float[]){1, 2});
        ck_assert(niz_item(niz_sum(y)) == 3);
        expect_ok(z);
    }
    niz_close(z);
}
END_TEST

/* Whether a compiler takes a statement; skipped (as wanted) where there is no such compiler. */
static bool compiles(const char *compiler, const char *statement, bool wanted)
{
    char command[1024];
    snprintf(command, sizeof command,
             "command -v %s >/dev/null || exit %d; echo 'niz_t f(niz *z, niz_t x); "
             "niz_t f(niz *z, niz_t x) { (void)z; %s; return x; }' | %s -std=gnu11 -Wall -Wextra "
             "-Wpedantic -Wconversion -Werror -fsyntax-only -I'%s/include' -include niz.h -x c - "
             "2>/dev/null",
             compiler, !wanted, statement, compiler, NIZ_SOURCE_ROOT);
    return system(command) == 0;
}

/* An option without its name would silently be another one. */
START_TEST(options_need_their_names)
{
    static const char *const compiler[] = {"gcc", "clang"};
    static const char *const good[] = {
        "x = niz_sum(x, .axis = 1)", "x = niz_conv(x, x, .stride = 2, .strides = {2, 1})",
        "niz_csv_load(z, \"a\", .target = \"b\")", "x = niz_mul(x, sizeof x)", "x = niz_gelu(x)"};
    static const char *const bad[] = {
        "x = niz_sum(x, 1)", "x = niz_var(x, 1)", "x = niz_gelu(x, 1)", "x = niz_conv(x, x, 2)",
        "niz_csv_load(z, \"a\", \"b\")", "niz_split(z, (niz_part){0}, 0.5)",
        "niz_batches_open(z, ((niz_part){0}), 8, 3)", "niz_normal_init(1)", "x = niz_mul(x, &x)"};
    for (int c = 0; c < 2; c++) {
        for (int i = 0; i < NIZ_COUNT(good); i++)
            ck_assert_msg(compiles(compiler[c], good[i], true), "%s: %s", compiler[c], good[i]);
        for (int i = 0; i < NIZ_COUNT(bad); i++)
            ck_assert_msg(!compiles(compiler[c], bad[i], false), "%s: %s", compiler[c], bad[i]);
    }
}
END_TEST

/* ---- records -------------------------------------------------------------------------------- */

START_TEST(a_record_that_changes_is_reported)
{
    niz *z = util_open();
    {
        NIZ_STEP(z);
        niz_t x = niz_ones(z, NIZ_F32, NIZ_SHAPE(3));
        niz_op mine = {.name = "twice", .arity = 1, .infer = niz_infer_same_float, .map = "a * 2"};
        niz_t y = niz_apply(&mine, 1, &x, NULL);
        ck_assert(niz_item(niz_sum(y)) == 6);
        mine.map = "a * 3";
        niz_apply(&mine, 1, &x, NULL);
        expect_error(z, NIZ_E_ARGUMENT, "\"twice\"");
        mine.map = "a * 2", mine.name = "thrice";
        niz_apply(&mine, 1, &x, NULL);
        expect_error(z, NIZ_E_ARGUMENT, "never change");
    }
    niz_close(z);
}
END_TEST

int main(void)
{
    UTIL_MAIN("traps", pow_of_a_number_and_its_derivative, pow_with_a_tensor_exponent_at_zero,
              pow_by_its_exponent_twice_at_zero, an_empty_operand_is_reported,
              messages_name_the_call, integers_that_no_double_holds_are_refused,
              every_type_of_number_is_an_operand, values_out_of_range_are_refused,
              compound_literals_are_arguments, options_need_their_names,
              a_record_that_changes_is_reported);
}
