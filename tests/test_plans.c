/* test_plans.c - plans are found again; literals become data; what a run may and may not change;
 * the control word; long chains on a small stack.
 *
 * SPDX-License-Identifier: MIT */
#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <time.h>
#ifdef __SSE2__
#include <xmmintrin.h>
#endif

#include "util.h"

static niz *z;

static void open_context(void)
{
    z = util_open();
}

static niz_stats stats(void)
{
    return niz_statistics(z);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const float data[64] = {1, 2, 3, 4, 5, 6, 7, 8};

static niz_t batch(int64_t n)
{
    return niz_from(z, NIZ_F32, NIZ_SHAPE(n, 4), data);
}

/* ---- the cache ------------------------------------------------------------------------------- */

static void train(int64_t n, double lr)
{
    NIZ_STEP(z);
    niz_t w = niz_param(z, "w", NIZ_F32, NIZ_SHAPE(4, 2), niz_normal_init()), g;
    niz_t loss = niz_mean(niz_square(niz_matmul(batch(n), w)));
    niz_grad(loss, 1, &w, &g);
    niz_assign(w, niz_sub(w, niz_mul(g, niz_scalar(z, NIZ_F32, lr))));
    niz_item(loss);
}

START_TEST(a_second_step_of_a_form_plans_nothing)
{
    open_context();
    train(8, .1);
    niz_stats s = stats();
    for (int i = 0; i < 20; i++) train(8, .1 / (i + 1));
    ck_assert_int_eq(stats().plans_made, s.plans_made);
    ck_assert_int_eq(stats().plans_found, s.plans_found + 20);
    ck_assert_int_eq(stats().runs, s.runs + 20);
    expect_ok(z);
    niz_close(z);
}
END_TEST

START_TEST(another_batch_size_is_another_plan)
{
    open_context();
    train(8, .1);
    niz_stats s = stats();
    train(7, .1);
    train(8, .1);
    train(7, .1);
    ck_assert_int_eq(stats().plans_made, s.plans_made + 1);
    niz_close(z);
}
END_TEST

START_TEST(what_else_was_recorded_makes_no_difference)
{
    open_context();
    train(8, .1);
    niz_stats s = stats();
    for (int i = 0; i < 5; i++) {
        NIZ_STEP(z);
        for (int k = 0; k < i; k++) niz_exp(niz_scalar(z, NIZ_F32, k)); /* never run */
        train(8, .1);
    }
    ck_assert_int_eq(stats().plans_made, s.plans_made);
    expect_ok(z);
    niz_close(z);
}
END_TEST

START_TEST(the_same_graph_of_other_leaves_differs)
{
    open_context();
    niz_t x = niz_copy_from(z, NIZ_F32, NIZ_SHAPE(2), data);
    niz_t y = niz_copy_from(z, NIZ_F32, NIZ_SHAPE(2), data + 2);
    float v[2];
    niz_read(niz_sub(x, y), v, sizeof v);
    ck_assert_double_eq((double)v[0], -2);
    niz_read(niz_sub(y, x), v, sizeof v);
    ck_assert_double_eq((double)v[0], 2);
    niz_read(niz_add(niz_sub(x, x), 1.0), v, sizeof v);
    ck_assert_double_eq((double)v[0], 1);
    niz_read(niz_add(niz_sub(y, x), 1.0), v, sizeof v);
    ck_assert_double_eq((double)v[0], 3);
    expect_ok(z);
    niz_close(z);
}
END_TEST

/* Reading x then y of equal forms, wanted values in another order, the same value twice. */
START_TEST(wanted_values_are_told_apart)
{
    open_context();
    for (int order = 0; order < 4; order++) {
        NIZ_STEP(z);
        niz_t x = niz_copy_from(z, NIZ_F32, NIZ_SHAPE(2), data);
        niz_t a = niz_sum(niz_add(x, 1.0)), b = niz_sum(niz_mul(x, 3.0));
        switch (order) {
        case 0: NIZ_RUN(z, a, b); break;
        case 1: NIZ_RUN(z, b, a); break;
        case 2: NIZ_RUN(z, a, a, b, a); break;
        default: NIZ_RUN(z, b);
        }
        ck_assert_double_eq(niz_item(a), 5);
        ck_assert_double_eq(niz_item(b), 9);
    }
    expect_ok(z);
    niz_close(z);
}
END_TEST

START_TEST(changing_a_scalar_plans_nothing_anew)
{
    open_context();
    for (int i = 0; i < 20; i++) {
        NIZ_STEP(z);
        niz_t y = niz_sum(niz_mul(batch(2), niz_scalar(z, NIZ_F32, i)));
        ck_assert_double_eq(niz_item(y), 36.0 * i);
    }
    ck_assert_int_eq(stats().plans_made, 1);
    ck_assert_int_eq(stats().literals_made_data, 0);
    niz_close(z);
}
END_TEST

/* What a changing literal gives, and how many plans are made for it. */
static int64_t literal_loop(bool one_context, float v[30][8])
{
    if (one_context) open_context();
    for (int i = 0; i < 30; i++) {
        if (!one_context) open_context();
        {
            NIZ_STEP(z);
            double c = i % 3 == 0 ? 1 : i % 3 == 1 ? -0.0 : 0.1 * i;
            niz_t x = niz_from(z, NIZ_F32, NIZ_SHAPE(2, 4), data);
            niz_t y = niz_mul(niz_add(niz_tanh(niz_mul(x, c)), c), niz_full_like(x, c + .3));
            y = niz_where(niz_gt(y, c), niz_sub(y, c), niz_div(y, 7.0));
            niz_read(y, v[i], sizeof v[i]);
        }
        expect_ok(z);
        if (!one_context) niz_close(z);
    }
    int64_t made = one_context ? stats().plans_made : 0;
    if (one_context) {
        ck_assert_int_gt(stats().literals_made_data, 0);
        niz_close(z);
    }
    return made;
}

START_TEST(a_changing_literal_becomes_data_with_the_same_bits)
{
    static float as_literal[30][8], as_data[30][8];
    literal_loop(false, as_literal);
    int64_t made = literal_loop(true, as_data);
    ck_assert_int_le(made, 3);
    ck_assert_mem_eq(as_literal, as_data, sizeof as_data);
}
END_TEST

START_TEST(literals_of_every_dtype_become_data)
{
    open_context();
    for (int i = 0; i < 6; i++) {
        NIZ_STEP(z);
        niz_t l = niz_full(z, NIZ_I64, NIZ_SHAPE(2), 1 + i);
        niz_t n = niz_full(z, NIZ_I32, NIZ_SHAPE(2), -i);
        niz_t d = niz_full(z, NIZ_F64, NIZ_SHAPE(2), 0.1 * i);
        niz_t u = niz_full(z, NIZ_U8, NIZ_SHAPE(2), i);
        niz_t b = niz_full(z, NIZ_BOOL, NIZ_SHAPE(2), i % 2);
        niz_t y = niz_add(niz_cast(l, NIZ_F64), niz_cast(n, NIZ_F64));
        y = niz_add(niz_add(y, d), niz_add(niz_cast(u, NIZ_F64), niz_cast(b, NIZ_F64)));
        double v[2];
        niz_read(y, v, sizeof v);
        ck_assert_double_eq(v[1], ((1 + i - i) + 0.1 * i) + (i + i % 2));
    }
    ck_assert_int_le(stats().plans_made, 2);
    expect_ok(z);
    niz_close(z);
}
END_TEST

START_TEST(the_cache_is_bounded)
{
    z = niz_open(&(niz_options){.threads = 1, .max_plan_nodes = 100});
    for (int round = 0; round < 2; round++)
        for (int n = 1; n < 30; n++) {
            NIZ_STEP(z);
            niz_t y = niz_scalar(z, NIZ_F32, 1);
            for (int i = 0; i < n; i++) y = niz_exp(niz_neg(y));
            niz_item(y);
            ck_assert_int_le(stats().plan_nodes, 100 > 2 * n + 1 ? 100 : 2 * n + 1);
            ck_assert_int_gt(stats().plans_cached, 0);
        }
    ck_assert_int_gt(stats().plans_made, 40); /* evicted ones were made again */
    {
        NIZ_STEP(z);
        niz_t y = niz_scalar(z, NIZ_F32, 1); /* larger than the bound: works all the same */
        for (int i = 0; i < 300; i++) y = niz_cos(y);
        ck_assert_double_eq_tol(niz_item(y), 0.739085, 1e-5);
        ck_assert_int_eq(stats().plans_cached, 1);
    }
    expect_ok(z);
    niz_close(z);
}
END_TEST

/* ---- printed --------------------------------------------------------------------------------- */

START_TEST(a_plan_can_be_printed)
{
    open_context();
    NIZ_STEP(z);
    niz_t w = niz_param(z, "net.w", NIZ_F32, NIZ_SHAPE(100, 100), niz_normal_init());
    niz_t x = niz_ones(z, NIZ_F32, NIZ_SHAPE(100, 100)), y = niz_matmul(x, w);
    for (int i = 0; i < 20; i++) y = niz_tanh(niz_matmul(y, w));
    niz_assign(w, niz_mul(niz_transpose(y, 0, 1), 0.5));
    niz_t loss = niz_sum(y);
    char *text = NULL, tail[128];
    size_t size = 0;
    niz_plan_summary s;
    FILE *f = open_memstream(&text, &size);
    ck_assert_int_eq(niz_plan_print(f, z, 1, &loss, &s), NIZ_OK);
    fclose(f);
    ck_assert_int_eq(util_count(text, "\n"), s.nodes + 2);
    snprintf(tail, sizeof tail, "peak %lld bytes", (long long)s.peak_bytes);
    ck_assert_msg(strstr(text, tail), "%.2000s", text);
    ck_assert_ptr_nonnull(strstr(text, "net.w"));
    ck_assert_ptr_nonnull(strstr(text, "in place"));
    ck_assert_int_le(s.peak_bytes, 3 * 40064);
    ck_assert_int_ge(s.naive_bytes, 40 * 40000);
    free(text);
    ck_assert_int_eq(niz_statistics(z).runs, 1); /* of the parameter's start: nothing has run */
    ck_assert(isfinite(niz_item(loss)));
    expect_ok(z);
}
END_TEST

/* Forward, backward and update of a network with convolutions. */
START_TEST(a_networks_peak_is_at_most_half)
{
    open_context();
    NIZ_STEP(z);
    niz_optim opt = niz_adam();
    niz_t x = niz_normal(z, NIZ_F32, NIZ_SHAPE(32, 1, 8, 8), 0, 1);
    niz_t h = niz_relu(niz_conv2d(x, 16, 3, "conv1", .pad = 1));
    h = niz_max_pool2d(niz_relu(niz_conv2d(h, 32, 3, "conv2", .pad = 1)), 2);
    h = niz_relu(niz_linear(niz_flatten(h, 1), 64, "fc1"));
    niz_t classes = niz_full(z, NIZ_I32, NIZ_SHAPE(32), 3);
    niz_t loss = niz_cross_entropy(niz_linear(h, 10, "fc2"), classes);
    niz_minimize(&opt, loss);
    niz_plan_summary s;
    ck_assert_int_eq(niz_plan_print(NULL, z, 1, &loss, &s), NIZ_OK);
    ck_assert_msg(2 * s.peak_bytes <= s.naive_bytes, "peak %lld, one buffer a node %lld",
                  (long long)s.peak_bytes, (long long)s.naive_bytes);
    ck_assert(isfinite(niz_item(loss)));
    expect_ok(z);
}
END_TEST

/* ---- what a run finds ------------------------------------------------------------------------ */

START_TEST(trap_nan_names_the_first_operation)
{
    z = niz_open(&(niz_options){.threads = 1, .trap_nan = true});
    char before[33], after[33];
    NIZ_STEP(z);
    niz_t w = niz_param(z, "w", NIZ_F32, NIZ_SHAPE(3), niz_constant_init(1));
    niz_param_hash(z, before);
    niz_assign(w, niz_sub(w, 0.5));
    niz_t x = niz_copy_from(z, NIZ_F32, NIZ_SHAPE(3), ((float[]){1, -1, 2}));
    niz_t y = niz_mul(x, 2.0);
    niz_t s = niz_sqrt(y);
    int line = __LINE__ - 1;
    ck_assert(isnan(niz_item(niz_sum(niz_exp(niz_add(s, w))))));
    ck_assert_ptr_nonnull(strstr(niz_message(z), util_place(__FILE__, line)));
    expect_error(z, NIZ_E_NAN, "sqrt");
    niz_param_hash(z, after);
    ck_assert_str_eq(before, after);
    ck_assert_double_eq(niz_item(niz_sum(y)), 4);
    expect_ok(z);
}
END_TEST

START_TEST(trap_nan_names_a_derivative)
{
    z = niz_open(&(niz_options){.threads = 1, .trap_nan = true});
    NIZ_STEP(z);
    niz_t x = niz_copy_from(z, NIZ_F64, NIZ_SHAPE(2), ((double[]){0, 1})), g;
    niz_t y = niz_sum(niz_sqrt(x));
    int line = __LINE__ - 1;
    niz_grad(y, 1, &x, &g);
    ck_assert_double_eq(niz_item(y), 1);
    niz_item(niz_sum(g));
    ck_assert_ptr_nonnull(strstr(niz_message(z), "d/"));
    expect_error(z, NIZ_E_NAN, util_place(__FILE__, line));
}
END_TEST

START_TEST(without_trap_nan_flows)
{
    open_context();
    niz_t x = niz_copy_from(z, NIZ_F32, NIZ_SHAPE(2), ((float[]){-1, 0}));
    ck_assert(isnan(niz_item(niz_sum(niz_sqrt(x)))));
    ck_assert_double_eq(niz_item(niz_min(niz_log(niz_abs(x)))), -INFINITY);
    expect_ok(z);
    niz_close(z);
}
END_TEST

/* ---- the control word ------------------------------------------------------------------------ */

typedef struct tiny {
    float f[12];
    double d[12];
    double item[6];
} tiny;

/* Values around the smallest normal number, by every way in: data, literals, folded literals,
 * scalars; and out again: read, item. */
static tiny tiny_values(void)
{
    tiny t = {{0}, {0}, {0}};
    float few[4] = {1e-40f, -3e-39f, 1e-38f, 0x1p-149f};
    double dew[4] = {1e-310, -3e-309, 1e-308, 0x1p-1074};
    open_context();
    niz_t f = niz_from(z, NIZ_F32, NIZ_SHAPE(4), few), d = niz_from(z, NIZ_F64, NIZ_SHAPE(4), dew);
    niz_t one = niz_full_like(f, 1), lit = niz_full(z, NIZ_F32, NIZ_SCALAR, 1e-20);
    niz_read(niz_mul(f, 0.5), t.f, 16);
    niz_read(niz_add(niz_mul(one, 1e-40), f), t.f + 4, 16);
    niz_read(niz_mul(one, niz_mul(lit, lit)), t.f + 8, 16);
    niz_read(niz_mul(d, 0.5), t.d, 32);
    niz_read(niz_sub(d, 1e-310), t.d + 4, 32);
    niz_read(niz_mul(niz_cast(f, NIZ_F64), 1.0), t.d + 8, 32);
    t.item[0] = niz_item(niz_select(f, 0, 0));
    t.item[1] = niz_item(niz_scalar(z, NIZ_F32, 1e-40));
    t.item[2] = niz_item(niz_full(z, NIZ_F32, NIZ_SCALAR, 1e-40));
    t.item[3] = niz_item(niz_mul(niz_scalar(z, NIZ_F64, 1e-310), 3.0));
    niz_t p = niz_param(z, "p", NIZ_F32, NIZ_SHAPE(3), niz_constant_init(1e-40));
    t.item[4] = niz_item(niz_sum(p));
    niz_t more = niz_full(z, NIZ_F32, NIZ_SCALAR, 1.1);
    t.item[5] = niz_item(niz_mul(more, niz_full(z, NIZ_F32, NIZ_SCALAR, 1.3)));
    expect_ok(z);
    niz_close(z);
    return t;
}

START_TEST(a_program_that_flushes_denormals_gets_the_same_bits)
{
#ifdef __SSE2__
    unsigned modes[] = {0x8000, 0x0040, 0x8040, 0x2000, 0x4000, 0xe040};
    tiny want = tiny_values();
    for (int i = 0; i < NIZ_COUNT(modes); i++) {
        unsigned mine = 0x1f80 | modes[i];
        _mm_setcsr(mine);
        tiny got = tiny_values();
        unsigned after = _mm_getcsr();
        _mm_setcsr(0x1f80);
        ck_assert_uint_eq(after & 0xffc0, mine);
        ck_assert_msg(!memcmp(want.f, got.f, sizeof want.f), "f32, control word %x", mine);
        ck_assert_msg(!memcmp(want.d, got.d, sizeof want.d), "f64, control word %x", mine);
        ck_assert_msg(!memcmp(want.item, got.item, sizeof want.item), "item, control word %x",
            mine);
    }
#else
    tiny_values();
#endif
}
END_TEST

/* ---- long chains ----------------------------------------------------------------------------- */

#define CHAIN 200000

static void *chain(void *none)
{
    (void)none;
    open_context();
    {
        NIZ_STEP(z);
        niz_t x = niz_copy_from(z, NIZ_F64, NIZ_SHAPE(2), ((double[]){0.5, 1})), y = x, g;
        double start = seconds();
        for (int i = 0; i < CHAIN / 2; i++) y = niz_add(niz_mul(y, 0.999), x);
        niz_t loss = niz_sum(y);
        niz_grad(loss, 1, &x, &g);
        NIZ_RUN(z, loss, g);
        expect_ok(z);
        ck_assert_double_eq_tol(niz_item(loss), 1500, 1e-6);
        double v[2];
        niz_read(g, v, sizeof v);
        ck_assert_double_eq_tol(v[0], 1000, 1e-6);
        ck_assert_double_le(seconds() - start, 60);
    }
    {
        NIZ_STEP(z); /* views, and a value wanted at each end */
        niz_t x = niz_copy_from(z, NIZ_F32, NIZ_SHAPE(4, 3), data), y = x, t;
        for (int i = 0; i < CHAIN / 4; i++) {
            y = niz_reshape(y, i % 2 ? NIZ_SHAPE(3, 4) : NIZ_SHAPE(4, 3));
            y = niz_flip(niz_transpose(y, 0, 1), 0);
        }
        niz_jvp(1, &x, &x, 1, &y, &t);
        NIZ_RUN(z, y, t);
        char *text = util_text(y);
        free(text);
        expect_ok(z);
    }
    niz_close(z);
    return NULL;
}

START_TEST(a_chain_of_200000_needs_no_stack)
{
    pthread_attr_t small;
    pthread_t thread;
    ck_assert_int_eq(pthread_attr_init(&small), 0);
#ifdef __SANITIZE_ADDRESS__
    size_t stack = 1 << 20;
#else
    size_t stack = 256 << 10;
#endif
    ck_assert_int_eq(pthread_attr_setstacksize(&small, stack), 0);
    ck_assert_int_eq(pthread_create(&thread, &small, chain, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&small);
}
END_TEST

int main(void)
{
    UTIL_MAIN("plans", a_second_step_of_a_form_plans_nothing, another_batch_size_is_another_plan,
              what_else_was_recorded_makes_no_difference, the_same_graph_of_other_leaves_differs,
              wanted_values_are_told_apart, changing_a_scalar_plans_nothing_anew,
              a_changing_literal_becomes_data_with_the_same_bits,
              literals_of_every_dtype_become_data, the_cache_is_bounded, a_plan_can_be_printed,
              a_networks_peak_is_at_most_half,
              trap_nan_names_the_first_operation, trap_nan_names_a_derivative,
              without_trap_nan_flows, a_program_that_flushes_denormals_gets_the_same_bits,
              a_chain_of_200000_needs_no_stack);
}
