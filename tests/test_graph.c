/* test_graph.c - handles, messages, hash-consing, shapes: what a recording promises, whatever it is
 * given.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>

#include "util.h"

static niz *z;

static void open_context(void)
{
    z = util_open();
}

static void close_context(void)
{
    niz_close(z);
}

static niz_t vector(niz *in, int64_t n)
{
    return niz_full(in, NIZ_F32, NIZ_SHAPE(n), 2);
}

/* ---- handles --------------------------------------------------------------------------------- */

START_TEST(a_handle_is_stale_after_its_step)
{
    open_context();
    niz_t x, out[1];
    float v[3];
    {
        NIZ_STEP(z);
        x = vector(z, 3);
        ck_assert(niz_is_valid(x));
    }
    ck_assert(!niz_is_valid(x));
    ck_assert_int_eq(niz_shape_of(x).rank, 0);
    niz_t y = niz_exp(x);
    ck_assert(!niz_is_valid(y));
    expect_error(z, NIZ_E_STALE, "step that has ended");
    ck_assert_int_eq(niz_read(x, v, sizeof v), NIZ_E_STALE);
    expect_error(z, NIZ_E_STALE, util_place(__FILE__, __LINE__ - 1));
    ck_assert(isnan(niz_item(x)));
    expect_error(z, NIZ_E_STALE, util_place(__FILE__, __LINE__ - 1));
    niz_grad(x, 1, &x, out);
    ck_assert(!niz_is_valid(out[0]));
    expect_error(z, NIZ_E_STALE, util_place(__FILE__, __LINE__ - 2));
    ck_assert_int_eq(NIZ_RUN(z, x), NIZ_E_STALE);
    expect_error(z, NIZ_E_STALE, util_place(__FILE__, __LINE__ - 1));
    close_context();
}
END_TEST

START_TEST(a_handle_of_another_context_is_refused)
{
    open_context();
    niz *other = util_open();
    niz_t x = vector(z, 3), y = vector(other, 3);
    ck_assert(!niz_is_valid(niz_add(x, y)));
    expect_error(z, NIZ_E_STALE, "b is a tensor of another context");
    expect_ok(other);
    ck_assert_int_eq(NIZ_RUN(z, y), NIZ_E_STALE);
    expect_error(z, NIZ_E_STALE, "another context");
    niz_close(other);
    close_context();
}
END_TEST

START_TEST(an_empty_handle_is_refused)
{
    open_context();
    niz_t none = {0}, x = vector(z, 3);
    ck_assert(!niz_is_valid(none));
    niz_add(x, none);
    expect_error(z, NIZ_E_STALE, "empty handle");
    niz_exp(none);
    expect_ok(z);
    close_context();
}
END_TEST

START_TEST(inert_handles_propagate_without_a_second_message)
{
    open_context();
    niz_t x = niz_add(vector(z, 3), vector(z, 4));
    char first[256];
    snprintf(first, sizeof first, "%s", niz_message(z));
    niz_t y = niz_sum(niz_mul(niz_tanh(x), 3.0));
    ck_assert(!niz_is_valid(y));
    ck_assert(isnan(niz_item(y)));
    ck_assert_str_eq(niz_message(z), first);
    niz_clear_error(z);
    niz_exp(y);
    expect_error(z, NIZ_E_STALE, "earlier error made inert");
    close_context();
}
END_TEST

START_TEST(a_reused_id_has_another_generation)
{
    open_context();
    niz_t old, fresh;
    {
        NIZ_STEP(z);
        old = vector(z, 3);
    }
    {
        NIZ_STEP(z);
        fresh = vector(z, 3);
        ck_assert_uint_eq(old.id, fresh.id);
        ck_assert(niz_is_valid(fresh));
        ck_assert(!niz_is_valid(old));
    }
    close_context();
}
END_TEST

START_TEST(inner_steps_end_before_outer_ones)
{
    open_context();
    {
        NIZ_STEP(z);
        niz_t x = vector(z, 3), inner = x;
        for (int i = 0; i < 3; i++) {
            NIZ_STEP(z);
            inner = niz_sum(niz_mul(x, (double)i));
            ck_assert_double_eq(niz_item(inner), 6.0 * i);
        }
        ck_assert(!niz_is_valid(inner));
        ck_assert(niz_is_valid(x));
        ck_assert_double_eq(niz_item(niz_sum(x)), 6);
    }
    expect_ok(z);
    close_context();
}
END_TEST

static niz_t left_by_return(int how)
{
    niz_t x = {0};
    for (int i = 0; i < 2; i++) {
        NIZ_STEP(z);
        NIZ_SCOPE(z, "s%d", i);
        x = vector(z, 3);
        if (how == 0) break;
        if (how == 1) continue;
        if (how == 2) return x;
        goto out;
    }
out:
    return x;
}

START_TEST(a_step_left_in_any_way_ends)
{
    open_context();
    for (int how = 0; how < 4; how++) {
        ck_assert(!niz_is_valid(left_by_return(how)));
        niz_t p = niz_param(z, "p", NIZ_F32, NIZ_SCALAR, niz_constant_init(1));
        ck_assert_str_eq(niz_param_of(p).name, "p"); /* no scope is left over */
    }
    expect_ok(z);
    close_context();
}
END_TEST

/* ---- errors ---------------------------------------------------------------------------------- */

START_TEST(the_first_error_sticks_until_it_is_cleared)
{
    open_context();
    niz_add(vector(z, 3), vector(z, 4));
    niz_matmul(vector(z, 3), vector(z, 4));
    ck_assert_int_eq(niz_error(z), NIZ_E_SHAPE);
    ck_assert_ptr_nonnull(strstr(niz_message(z), "add at"));
    ck_assert_int_eq(NIZ_RUN(z, vector(z, 3)), NIZ_E_SHAPE);
    niz_clear_error(z);
    ck_assert_str_eq(niz_message(z), "");
    ck_assert_double_eq(niz_item(niz_sum(vector(z, 3))), 6);
    expect_ok(z);
    close_context();
}
END_TEST

START_TEST(matmul_of_wrong_shapes_names_everything)
{
    open_context();
    int line;
    {
        NIZ_SCOPE(z, "net");
        NIZ_SCOPE(z, "fc1");
        niz_t x = niz_full(z, NIZ_F32, NIZ_SHAPE(32, 784), 0);
        niz_t w = niz_full(z, NIZ_F32, NIZ_SHAPE(728, 128), 0);
        niz_t y = niz_matmul(x, w);
        line = __LINE__ - 1;
        ck_assert(isnan(niz_item(y)));
    }
    ck_assert_ptr_nonnull(strstr(niz_message(z), "matmul"));
    ck_assert_ptr_nonnull(strstr(niz_message(z), "784 and 728"));
    ck_assert_ptr_nonnull(strstr(niz_message(z), "f32[32,784]"));
    ck_assert_ptr_nonnull(strstr(niz_message(z), "f32[728,128]"));
    ck_assert_ptr_nonnull(strstr(niz_message(z), util_place(__FILE__, line)));
    expect_error(z, NIZ_E_SHAPE, "(net/fc1)");
    ck_assert_double_eq(niz_item(niz_sum(vector(z, 3))), 6);
    expect_ok(z);
    close_context();
}
END_TEST

START_TEST(a_derivative_names_the_operation_it_is_of)
{
    open_context();
    niz_t x = niz_copy_from(z, NIZ_F32, NIZ_SHAPE(3), ((float[]){1, 2, 3})), g;
    niz_t y = niz_sum(niz_tanh(x));
    int line = __LINE__ - 1;
    niz_grad(y, 1, &x, &g);
    char *text = util_text(g), place[300];
    snprintf(place, sizeof place, "# d/tanh %s:%d", __FILE__, line);
    ck_assert_msg(strstr(text, place) != NULL, "no \"%s\" in\n%s", place, text);
    ck_assert_int_eq(util_count(text, "src/"), 0);
    free(text);
    expect_ok(z);
    close_context();
}
END_TEST

/* Everything a composition records is at the user's line, whatever is done with it. */
static void only_this_file(niz_t y)
{
    char *text = util_text(y);
    ck_assert_msg(!strstr(text, "src/"), "%s", text);
    ck_assert_int_gt(util_count(text, "test_graph.c:"), 0);
    free(text);
}

START_TEST(compositions_stand_at_the_users_line)
{
    open_context();
    niz_t x = niz_uniform(z, NIZ_F32, NIZ_SHAPE(3, 4), -1, 1), y = niz_exp(x), g[2];
    niz_t all[] = {niz_softmax(x, 1), niz_log_softmax(x, 0), niz_gelu(x), niz_var(x), niz_mean(x),
                   niz_logsumexp(x), niz_matmul(x, niz_transpose(y, 0, 1)), niz_pow(x, 3.5),
                   niz_einsum("ij,ij->i", x, y), niz_stack(2, ((niz_t[]){x, y}), 2), niz_flip(x, 0),
                   niz_normal(z, NIZ_F32, NIZ_SHAPE(3), 0, 2), niz_bernoulli(z, NIZ_SHAPE(3), .5),
                   niz_clamp(x, -1, 1), niz_silu(x), niz_select(x, 0, 1)};
    for (int i = 0; i < NIZ_COUNT(all); i++) {
        only_this_file(all[i]);
        if (niz_dtype_of(all[i]) == NIZ_BOOL) continue;
        niz_grad(niz_sum(all[i]), 1, &x, g);
        only_this_file(g[0]);
        niz_grad(niz_sum(g[0]), 1, &x, g + 1);
        only_this_file(g[1]);
    }
    expect_ok(z);
    close_context();
}
END_TEST

START_TEST(sweeps_record_at_the_users_line)
{
    open_context();
    niz_t x = niz_copy_from(z, NIZ_F32, NIZ_SHAPE(3), ((float[]){1, 2, 3}));
    niz_t y[2] = {niz_square(x)}, gy[2] = {niz_exp(x), niz_sin(x)}, gx, ty;
    y[1] = y[0];
    niz_vjp(2, y, gy, 1, &x, &gx);
    only_this_file(gx);
    niz_jvp(1, &x, gy, 1, y, &ty);
    only_this_file(ty);
    niz_t b = niz_broadcast(x, NIZ_SHAPE(2, 3));
    niz_jvp(1, &x, gy, 1, &b, &ty);
    only_this_file(ty);
    expect_ok(z);
    close_context();
}
END_TEST

static void twice_eval(niz_eval *e)
{
    const float *x = e->x[0].data;
    float *y = e->y.data;
    for (int64_t i = 0; i < e->end; i++) y[i] = 2 * x[i];
}
static const niz_op twice = {
    .name = "twice", .arity = 1, .infer = niz_infer_same_float, .eval = twice_eval,
};

START_TEST(a_missing_rule_is_an_error_that_names_it)
{
    open_context();
    niz_t x = niz_copy_from(z, NIZ_F32, NIZ_SHAPE(2), ((float[]){1, 2})), g;
    niz_t y = niz_sum(niz_apply(&twice, 1, &x, NULL));
    ck_assert_double_eq(niz_item(y), 6);
    niz_grad(y, 1, &x, &g);
    ck_assert(!niz_is_valid(g));
    expect_error(z, NIZ_E_RULE, "twice at");
    niz_jvp(1, &x, &x, 1, &y, &g);
    expect_error(z, NIZ_E_RULE, "twice at");
    niz_grad(niz_sum(niz_stop_gradient(y)), 1, &x, &g);
    ck_assert_double_eq(niz_item(niz_sum(g)), 0);
    expect_ok(z);
    close_context();
}
END_TEST

/* ---- the whole public interface, with handles that are none ---------------------------------- */

typedef struct bad {
    const char *name;
    niz *z;       /* for functions that take a context */
    niz_t x;      /* for those that take a tensor */
    niz_t good;   /* a usable tensor beside it, or none */
    bool reports; /* an error must be set in z */
} bad;

static void after_builder(const bad *b, niz_t y, const char *call)
{
    ck_assert_msg(!niz_is_valid(y), "%s of a handle %s is valid", call, b->name);
    if (!b->z) return;
    ck_assert_msg(!b->reports || niz_error(b->z) == NIZ_E_STALE, "%s of a handle %s: %d, %s", call,
                  b->name, (int)niz_error(b->z), niz_message(b->z));
    ck_assert_msg(!strstr(niz_message(b->z), "src/"), "%s", niz_message(b->z));
    niz_clear_error(b->z);
}

#define BUILD(call) after_builder(b, call, #call)

static void bad_elementwise(const bad *b)
{
    niz_t x = b->x;
#define UNARY(name) BUILD(niz_##name(x));
#define BINARY(name)                                                                               \
    BUILD(niz_##name(x, x));                                                                       \
    BUILD(niz_##name(x, 2.0));                                                                     \
    BUILD(niz_##name(2, x));                                                                       \
    if (b->good.z) {                                                                               \
        BUILD(niz_##name(b->good, x));                                                             \
        BUILD(niz_##name(x, b->good));                                                             \
    }
    NIZ_UNARY_OPS(UNARY)
    NIZ_BINARY_OPS(BINARY)
    BUILD(niz_gelu(x));
    BUILD(niz_gelu(x, .tanh = true));
    BUILD(niz_silu(x));
    BUILD(niz_where(x, x, x));
    BUILD(niz_where(x, 1.0, x));
    BUILD(niz_cast(x, NIZ_F64));
    BUILD(niz_clamp(x, 0, 1));
    BUILD(niz_full_like(x, 1));
    BUILD(niz_number_like(x, 1));
    BUILD(niz_stop_gradient(x));
}

static void bad_shapes(const bad *b)
{
    niz_t x = b->x, two[2] = {x, x};
    BUILD(niz_sum(x));
    BUILD(niz_sum(x, .axis = 1, .keepdims = true));
    BUILD(niz_mean(x));
    BUILD(niz_prod(x));
    BUILD(niz_max(x));
    BUILD(niz_min(x));
    BUILD(niz_argmax(x));
    BUILD(niz_argmin(x));
    BUILD(niz_logsumexp(x));
    BUILD(niz_var(x, .axes = NIZ_AXES(0, 1)));
    BUILD(niz_softmax(x, 0));
    BUILD(niz_log_softmax(x, -1));
    BUILD(niz_contract(x, x, 0, 1));
    BUILD(niz_matmul(x, x));
    BUILD(niz_einsum("ij,jk->ik", x, x));
    BUILD(niz_einsum("ij->ji", x, NIZ_NO_TENSOR));
    BUILD(niz_conv(x, x));
    BUILD(niz_conv(x, x, .stride = 2));
    BUILD(niz_reshape(x, NIZ_SHAPE(2, -1)));
    BUILD(niz_permute(x, NIZ_AXES(1, 0)));
    BUILD(niz_transpose(x, 0, 1));
    BUILD(niz_broadcast(x, NIZ_SHAPE(2, 2)));
    BUILD(niz_slice(x, 0, 0, NIZ_END, 1));
    BUILD(niz_select(x, 0, 0));
    BUILD(niz_pad(x, 0, 1, 1, 0));
    BUILD(niz_flip(x, 0));
    BUILD(niz_concat(2, two, 0));
    BUILD(niz_stack(2, two, 0));
    BUILD(niz_window(x, 0, 2, 1, 1));
    BUILD(niz_unsqueeze(x, 0));
    BUILD(niz_squeeze(x, 0));
    BUILD(niz_flatten(x, 0));
    BUILD(niz_gather(x, 0, x));
    BUILD(niz_take(x, 0, x));
    BUILD(niz_scatter_add(x, 0, x, x));
    BUILD(niz_one_hot(x, 3, NIZ_F32));
    BUILD(niz_apply(niz_op_find("add"), 2, two, NULL));
}

static void bad_layers(const bad *b)
{
    niz_t x = b->x;
    BUILD(niz_linear(x, 3, "l"));
    BUILD(niz_conv1d(x, 3, 3, "c"));
    BUILD(niz_conv2d(x, 3, 3, "c"));
    BUILD(niz_conv3d(x, 3, 3, "c"));
    BUILD(niz_max_pool2d(x, 2));
    BUILD(niz_avg_pool1d(x, 2));
    BUILD(niz_dropout(x, .5));
    BUILD(niz_batch_norm(x, "b"));
    BUILD(niz_layer_norm(x, "n"));
    BUILD(niz_embedding(x, 3, 3, "e"));
    BUILD(niz_rnn(x, 3, "r"));
    BUILD(niz_lstm(x, 3, "r"));
    BUILD(niz_gru(x, 3, "r"));
    BUILD(niz_rnn_cell(x, x, "r"));
    BUILD(niz_gru_cell(x, x, "r"));
    BUILD(niz_lstm_cell(x, ((niz_lstm_state){x, x}), "r").h);
    BUILD(niz_mse(x, x));
    BUILD(niz_cross_entropy(x, x));
    BUILD(niz_binary_cross_entropy(x, x));
    BUILD(niz_accuracy(x, x));
    niz_optim opt = niz_sgd(.lr = 1);
    niz_minimize(&opt, x);
    BUILD(niz_inert(b->z));
    niz_t g[1] = {x};
    BUILD(niz_clip_by_norm(1, g, 1));
}

static void bad_sweeps(const bad *b)
{
    niz_t x = b->x, g[2] = {x, x}, many[2] = {x, x};
    niz_grad(x, 1, &x, g);
    BUILD(g[0]);
    niz_vjp(1, &x, &x, 1, &x, g);
    BUILD(g[0]);
    niz_jvp(1, &x, &x, 1, &x, g);
    BUILD(g[0]);
    niz_vjp(2, many, many, 2, many, g);
    BUILD(g[1]);
    if (b->good.z) {
        niz_grad(niz_sum(b->good), 1, &x, g);
        BUILD(g[0]);
        niz_grad(x, 1, &b->good, g);
        BUILD(g[0]);
        niz_vjp(1, &b->good, &x, 1, &b->good, g);
        BUILD(g[0]);
        niz_jvp(1, &b->good, &x, 1, &b->good, g);
        BUILD(g[0]);
    }
}

static void bad_actions(const bad *b)
{
    float v[4];
    niz_t x = b->x;
    ck_assert_int_ne(niz_read(x, v, sizeof v), NIZ_OK);
    BUILD(x);
    ck_assert(isnan(niz_item(x)));
    BUILD(x);
    ck_assert_int_ne(niz_run(b->z, 1, &x), NIZ_OK);
    BUILD(x);
    niz_assign(x, x);
    BUILD(x);
    FILE *f = fopen("/dev/null", "w");
    niz_print(f, 1, &x);
    BUILD(x);
    niz_dot(f, 1, &x);
    BUILD(x);
    niz_plan_print(f, b->z, 1, &x, NULL);
    BUILD(x);
    fclose(f);
    ck_assert_int_eq(niz_params_of(x, 1, &x), 0);
    BUILD(x);
    ck_assert_str_eq(niz_param_of(x).name, "");
    ck_assert_int_eq(niz_shape_of(x).rank, 0);
    ck_assert_int_eq(niz_dtype_of(x), NIZ_F32);
}

static void all_bad(const bad *b)
{
    bad_elementwise(b);
    bad_shapes(b);
    bad_layers(b);
    bad_sweeps(b);
    bad_actions(b);
}

START_TEST(every_call_survives_an_empty_handle)
{
    open_context();
    all_bad(&(bad){"empty", NULL, {0}, {0}, false});
    all_bad(&(bad){"empty", z, {0}, {0}, false});
    close_context();
}
END_TEST

START_TEST(every_call_survives_an_inert_handle)
{
    open_context();
    niz_t good = niz_full(z, NIZ_F32, NIZ_SHAPE(2, 2), 1);
    all_bad(&(bad){"inert", z, niz_inert(z), good, true});
    ck_assert_double_eq(niz_item(niz_sum(good)), 4);
    close_context();
}
END_TEST

START_TEST(every_call_survives_a_stale_handle)
{
    open_context();
    niz_t stale, good;
    {
        NIZ_STEP(z);
        vector(z, 1);
        stale = niz_full(z, NIZ_F32, NIZ_SHAPE(2, 2), 1);
    }
    all_bad(&(bad){"stale", z, stale, {0}, true});
    good = niz_full(z, NIZ_F32, NIZ_SHAPE(2, 2), 1);
    for (int i = 0; i < 8; i++) good = niz_exp(good); /* its id is used again */
    all_bad(&(bad){"stale, its id reused,", z, stale, good, true});
    close_context();
}
END_TEST

START_TEST(every_call_survives_a_context_that_is_none)
{
    const bad none = {"of no context", NULL, {0}, {0}, false}, *b = &none;
    niz *n = NULL;
    float v = 1;
    char hex[33];
    BUILD(niz_from(n, NIZ_F32, NIZ_SCALAR, &v));
    BUILD(niz_copy_from(n, NIZ_F32, NIZ_SCALAR, &v));
    BUILD(niz_full(n, NIZ_F32, NIZ_SCALAR, 1));
    BUILD(niz_scalar(n, NIZ_F32, 1));
    BUILD(niz_scalar(n, NIZ_I32, 1.5));
    BUILD(niz_iota(n, NIZ_F32, NIZ_SHAPE(3), 0));
    BUILD(niz_uniform(n, NIZ_F32, NIZ_SHAPE(3), 0, 1));
    BUILD(niz_normal(n, NIZ_F32, NIZ_SHAPE(3), 0, 1));
    BUILD(niz_bernoulli(n, NIZ_SHAPE(3), .5));
    BUILD(niz_param(n, "p", NIZ_F32, NIZ_SCALAR, niz_constant_init(0)));
    BUILD(niz_state(n, "p", NIZ_F32, NIZ_SCALAR, niz_constant_init(0)));
    BUILD(niz_find(n, "p"));
    BUILD(niz_inert(n));
    NIZ_STEP(n);
    NIZ_SCOPE(n, "s%d", 1);
    NIZ_FUNCTION(n, NIZ_HERE, "f");
    niz_clear_error(n);
    niz_set_training(n, true);
    ck_assert(!niz_is_training(n));
    niz_seed(n, 1);
    ck_assert_int_ne(niz_error(n), NIZ_OK);
    ck_assert_ptr_nonnull(niz_message(n));
    niz_fail(n, NIZ_HERE, NIZ_E_SHAPE, "x");
    ck_assert_ptr_null(niz_realloc(n, NULL, 10));
    niz_free(n, NULL);
    ck_assert_int_eq(niz_statistics(n).runs, 0);
    ck_assert_int_eq(niz_param_count(n), 0);
    ck_assert_str_eq(niz_param_get(n, 0).name, "");
    ck_assert_int_ne(niz_param_set(n, "p", NIZ_F32, NIZ_SCALAR, true, &v), NIZ_OK);
    ck_assert_int_ne(niz_param_set_all(n, 0, NULL), NIZ_OK);
    niz_param_hash(n, hex);
    ck_assert_ptr_null(niz_snapshot_take(n));
    ck_assert_int_ne(niz_snapshot_restore(n, NULL), NIZ_OK);
    niz_snapshot_free(n, NULL);
    niz_counters_set(n, niz_counters_get(n));
    ck_assert_int_ne(niz_run(n, 0, NULL), NIZ_OK);
    ck_assert_int_ne(niz_parse(n, "return", 0, NULL, 0, NULL), NIZ_OK);
    niz_plan_print(stdout, n, 0, NULL, NULL);
    niz_print(stdout, 0, NULL);
    niz_dot(stdout, 0, NULL);
    niz_close(n);
}
END_TEST

START_TEST(sweeps_take_empty_lists)
{
    open_context();
    niz_t x = vector(z, 3), g = niz_inert(z);
    niz_grad(niz_sum(x), 0, NULL, NULL);
    niz_vjp(1, &x, &x, 0, NULL, NULL);
    niz_vjp(0, NULL, NULL, 1, &x, &g);
    ck_assert_double_eq(niz_item(niz_sum(g)), 0);
    niz_jvp(0, NULL, NULL, 1, &x, &g);
    ck_assert_double_eq(niz_item(niz_sum(g)), 0);
    niz_jvp(1, &x, &x, 0, NULL, NULL);
    expect_ok(z);
    close_context();
}
END_TEST

/* ---- hash-consing ---------------------------------------------------------------------------- */

START_TEST(the_same_operation_is_the_same_node)
{
    open_context();
    niz_t x = niz_copy_from(z, NIZ_F32, NIZ_SHAPE(3), ((float[]){1, 2, 3}));
    ck_assert_uint_eq(niz_tanh(x).id, niz_tanh(x).id);
    ck_assert_uint_eq(niz_add(x, 1.0).id, niz_add(x, 1.0).id);
    ck_assert_uint_ne(niz_add(x, 0.0).id, niz_add(x, -0.0).id);
    ck_assert_uint_ne(niz_sub(x, 1.0).id, niz_sub(1.0, x).id);
    ck_assert_uint_ne(niz_sum(x, .axis = 0).id, niz_max(x, .axis = 0).id);
    ck_assert_uint_eq(niz_softmax(x, 0).id, niz_softmax(x, 0).id);
    close_context();
}
END_TEST

/* Thousands of users of one operand, and steps within steps that end with few or most of the nodes:
 * the table of equal nodes is right after each. */
START_TEST(equal_nodes_are_found_after_inner_steps_end)
{
    open_context();
    enum { USERS = 5000 };
    NIZ_STEP(z);
    niz_t x = vector(z, 3), before[USERS];
    for (int i = 0; i < USERS; i++) before[i] = niz_add(x, 1 + i);
    const int inner[] = {3, 20000, 100};
    for (int round = 0; round < 3; round++) {
        niz_t y = x;
        {
            NIZ_STEP(z);
            for (int i = 0; i < inner[round]; i++) y = niz_mul(y, niz_add(x, USERS + 1 + i));
        }
        for (int i = 0; i < USERS; i++) {
            niz_t again = niz_add(x, 1 + i);
            ck_assert_uint_eq(again.id, before[i].id);
        }
        niz_t first = niz_add(x, USERS + 1);
        ck_assert_uint_gt(first.id, before[USERS - 1].id);
    }
    expect_ok(z);
    close_context();
}
END_TEST

/* A tensor's only user ends with its step and nothing is recorded in its place: the next one is a
 * node of its own, not what is left in memory of the first. */
START_TEST(an_operation_of_an_ended_step_is_made_again)
{
    open_context();
    NIZ_STEP(z);
    niz_t y = niz_neg(vector(z, 3));
    for (int round = 0; round < 3; round++) {
        {
            NIZ_STEP(z);
            niz_exp(y);
        }
        niz_t again = niz_exp(y);
        ck_assert(niz_is_valid(again));
        ck_assert_uint_eq(niz_exp(y).id, again.id);
        y = niz_neg(again);
    }
    niz_item(niz_sum(y));
    expect_ok(z);
    close_context();
}
END_TEST

START_TEST(leaves_and_draws_are_never_the_same_node)
{
    open_context();
    float v[3] = {1, 2, 3};
    ck_assert_uint_ne(niz_from(z, NIZ_F32, NIZ_SHAPE(3), v).id,
                      niz_from(z, NIZ_F32, NIZ_SHAPE(3), v).id);
    ck_assert_uint_ne(niz_scalar(z, NIZ_F32, 1).id, niz_scalar(z, NIZ_F32, 1).id);
    niz_t a = niz_uniform(z, NIZ_F32, NIZ_SHAPE(3), 0, 1);
    niz_t b = niz_uniform(z, NIZ_F32, NIZ_SHAPE(3), 0, 1);
    ck_assert_uint_ne(a.id, b.id);
    ck_assert_double_ne(niz_item(niz_sum(a)), niz_item(niz_sum(b)));
    close_context();
}
END_TEST

/* Many nodes, and rewinds in between: the table of equal nodes forgets what has ended. */
START_TEST(merging_survives_growth_and_rewinds)
{
    open_context();
    util_rng r = {7};
    niz_t x = vector(z, 3);
    for (int round = 0; round < 30; round++) {
        NIZ_STEP(z);
        niz_t node[300] = {x};
        int n = 100 + util_below(&r, 200);
        for (int i = 1; i < n; i++) node[i] = niz_add(node[util_below(&r, i)], (double)i);
        for (int outer = 0; outer < 3; outer++) {
            NIZ_STEP(z);
            niz_t y = node[n - 1];
            for (int i = 0; i < 1000; i++) y = niz_mul(y, (double)(i + outer));
        }
        uint32_t top = niz_exp(node[n - 1]).id;
        for (int i = 1; i < n; i++) niz_tanh(niz_add(node[i], 0.5));
        for (int i = 1; i < n; i++)
            ck_assert_uint_eq(niz_tanh(niz_add(node[i], 0.5)).id,
                              niz_tanh(niz_add(node[i], 0.5)).id);
        ck_assert_uint_eq(niz_exp(node[n - 1]).id, top);
    }
    expect_ok(z);
    close_context();
}
END_TEST

START_TEST(two_operations_of_one_name_are_refused)
{
    open_context();
    static const niz_op mine = {.name = "tanh", .arity = 1, .infer = niz_infer_same_float,
                                .map = "a"};
    niz_t x = vector(z, 3);
    ck_assert(!niz_is_valid(niz_apply(&mine, 1, &x, NULL)));
    expect_error(z, NIZ_E_ARGUMENT, "the name \"tanh\"");
    close_context();
}
END_TEST

START_TEST(a_record_without_what_it_needs_is_refused)
{
    open_context();
    static const niz_op no_infer = {.name = "t_no_infer", .arity = 1, .map = "a"};
    static const niz_op no_work = {.name = "t_no_work", .arity = 1, .infer = niz_infer_same};
    static const niz_op bad_map = {.name = "t_bad_map", .arity = 1, .infer = niz_infer_same,
                                   .map = "a + (2"};
    niz_t x = vector(z, 3);
    niz_apply(&no_infer, 1, &x, NULL);
    expect_error(z, NIZ_E_ARGUMENT, ".infer");
    niz_apply(&no_work, 2, ((niz_t[]){x, x}), NULL);
    expect_error(z, NIZ_E_ARGUMENT, "takes 1 operand");
    NIZ_RUN(z, niz_apply(&no_work, 1, &x, NULL));
    expect_error(z, NIZ_E_ARGUMENT, "t_no_work");
    NIZ_RUN(z, niz_apply(&bad_map, 1, &x, NULL));
    expect_error(z, NIZ_E_FORMAT, "t_bad_map");
    ck_assert_double_eq(niz_item(niz_sum(x)), 6);
    close_context();
}
END_TEST

/* ---- records given anything ------------------------------------------------------------------ */

static int64_t odd_word(util_rng *r)
{
    static const int64_t odd[] = {INT64_MAX, INT64_MIN, INT32_MAX, -1, 1 << 20, INT64_MAX - 1};
    return util_below(r, 4) ? util_below(r, 5) : odd[util_below(r, NIZ_COUNT(odd))];
}

/* Every record on random operands with random attributes: refused, or run if it is small. */
START_TEST(any_operands_and_attributes_are_refused_or_run)
{
    open_context();
    util_rng r = {11};
    int cases = util_cases(400, 4000), ran = 0;
    for (int i = 0; niz_op_get(i); i++)
        for (int c = 0; c < cases; c++) {
            NIZ_STEP(z);
            const niz_op *op = niz_op_get(i);
            niz_t x[4];
            int64_t word[NIZ_MAX_ATTR];
            niz_shape common = {.rank = util_below(&r, 4)};
            for (int d = 0; d < common.rank; d++) common.dim[d] = util_below(&r, 4);
            int n = op->arity >= 0 && op->arity <= 4 ? op->arity : util_below(&r, 4);
            niz_dtype dtype = (niz_dtype)util_below(&r, NIZ_N_DTYPES);
            for (int k = 0; k < n; k++) {
                niz_shape s = common;
                if (!util_below(&r, 3)) s.rank = util_below(&r, 5);
                for (int d = 0; d < s.rank; d++)
                    if (!util_below(&r, 6)) s.dim[d] = util_below(&r, 4);
                if (!util_below(&r, 4)) dtype = (niz_dtype)util_below(&r, NIZ_N_DTYPES);
                x[k] = niz_full(z, dtype, s, 1);
            }
            int n_attr = util_below(&r, util_below(&r, 8) ? 8 : NIZ_MAX_ATTR);
            for (int a = 0; a < n_attr; a++) word[a] = odd_word(&r);
            niz_t y = niz_apply(op, n, x, &((niz_attrs){n_attr, word}));
            niz_shape s = niz_shape_of(y);
            if (niz_is_valid(y) && niz_shape_count(&s) < 4096) ran += NIZ_RUN(z, y) == NIZ_OK;
            niz_clear_error(z);
        }
    ck_assert_int_gt(ran, 100);
    close_context();
}
END_TEST

/* ---- shapes ---------------------------------------------------------------------------------- */

START_TEST(impossible_shapes_are_refused)
{
    open_context();
    float v = 0;
    niz_shape wide = {.rank = 9}, negative = NIZ_SHAPE(2, -1);
    niz_shape huge = NIZ_SHAPE(1LL << 32, 1LL << 32);
    niz_shape less = {.rank = -1}, hidden = NIZ_SHAPE(0, 1LL << 40, 1LL << 40);
    niz_shape all[] = {wide, negative, huge, less, hidden};
    for (int i = 0; i < NIZ_COUNT(all); i++) {
        niz_from(z, NIZ_F32, all[i], &v);
        expect_error(z, NIZ_E_SHAPE, util_place(__FILE__, __LINE__ - 1));
        niz_full(z, NIZ_F32, all[i], 1);
        expect_error(z, NIZ_E_SHAPE, util_place(__FILE__, __LINE__ - 1));
        niz_uniform(z, NIZ_F32, all[i], 0, 1);
        expect_error(z, NIZ_E_SHAPE, util_place(__FILE__, __LINE__ - 1));
        niz_iota(z, NIZ_F32, all[i], 0);
        expect_error(z, NIZ_E_SHAPE, util_place(__FILE__, __LINE__ - 1));
        niz_param(z, "p", NIZ_F32, all[i], niz_constant_init(0));
        expect_error(z, NIZ_E_SHAPE, util_place(__FILE__, __LINE__ - 1));
        niz_reshape(vector(z, 3), all[i]);
        if (i != 1) expect_error(z, NIZ_E_SHAPE, util_place(__FILE__, __LINE__ - 1));
        niz_clear_error(z);
        niz_broadcast(vector(z, 1), all[i]);
        expect_error(z, NIZ_E_SHAPE, util_place(__FILE__, __LINE__ - 1));
        ck_assert_int_ne(niz_param_set(z, "p", NIZ_F32, all[i], true, &v), NIZ_OK);
        niz_clear_error(z);
    }
    ck_assert_int_eq(niz_param_count(z), 0);
    close_context();
}
END_TEST

START_TEST(results_too_large_are_refused)
{
    open_context();
    niz_t x = niz_full(z, NIZ_F32, NIZ_SHAPE(1LL << 30), 1);
    niz_t a = niz_reshape(x, NIZ_SHAPE(1LL << 30, 1)), b = niz_reshape(x, NIZ_SHAPE(1, 1LL << 30));
    niz_mul(a, b);
    expect_error(z, NIZ_E_SHAPE, "memory");
    niz_pad(x, 0, INT64_MAX, INT64_MAX, 0);
    ck_assert_int_ne(niz_error(z), NIZ_OK);
    niz_clear_error(z);
    niz_t many[64];
    for (int i = 0; i < 64; i++) many[i] = niz_full(z, NIZ_F32, NIZ_SHAPE(1LL << 57), 1);
    niz_concat(64, many, 0);
    ck_assert_int_ne(niz_error(z), NIZ_OK);
    niz_clear_error(z);
    niz_t y = vector(z, 2);
    for (int i = 0; i < 8; i++) y = niz_unsqueeze(y, 0);
    expect_error(z, NIZ_E_SHAPE, "8 axes");
    close_context();
}
END_TEST

START_TEST(empty_tensors_are_legal_everywhere)
{
    open_context();
    niz_t e = niz_from(z, NIZ_F32, NIZ_SHAPE(0, 3), NULL), g, index;
    index = niz_from(z, NIZ_I32, NIZ_SHAPE(0), NULL);
    float v[8] = {0};
    ck_assert_int_eq(niz_read(e, v, 0), NIZ_OK);
    ck_assert_int_eq(niz_read(niz_exp(niz_add(e, 1.0)), v, 0), NIZ_OK);
    ck_assert_double_eq(niz_item(niz_sum(e)), 0);
    ck_assert_double_eq(niz_item(niz_prod(e)), 1);
    ck_assert(isnan(niz_item(niz_mean(e))));
    ck_assert_double_eq(niz_item(niz_max(e)), -INFINITY);
    ck_assert_int_eq(niz_read(niz_sum(e, .axis = 0), v, 12), NIZ_OK);
    ck_assert_int_eq(niz_read(niz_sum(e, .axis = 1), v, 0), NIZ_OK);
    ck_assert_double_eq(niz_item(niz_sum(niz_matmul(niz_transpose(e, 0, 1), e))), 0);
    ck_assert_int_eq(niz_read(niz_softmax(e, 1), v, 0), NIZ_OK);
    ck_assert_int_eq(niz_read(niz_concat(2, ((niz_t[]){e, e}), 0), v, 0), NIZ_OK);
    niz_t row[2] = {e, niz_ones(z, NIZ_F32, NIZ_SHAPE(1, 3))};
    ck_assert_int_eq(niz_read(niz_concat(2, row, 0), v, 12), NIZ_OK);
    ck_assert_double_eq((double)v[2], 1);
    ck_assert_int_eq(niz_read(niz_pad(e, 0, 1, 1, 5), v, 24), NIZ_OK);
    ck_assert_double_eq((double)v[5], 5);
    ck_assert_int_eq(niz_read(niz_take(e, 1, index), v, 0), NIZ_OK);
    ck_assert_int_eq(niz_read(niz_flip(e, 0), v, 0), NIZ_OK);
    ck_assert_int_eq(niz_read(niz_reshape(e, NIZ_SHAPE(3, 0, 7)), v, 0), NIZ_OK);
    ck_assert_int_eq(niz_read(niz_uniform(z, NIZ_F32, NIZ_SHAPE(0), 0, 1), v, 0), NIZ_OK);
    niz_grad(niz_sum(niz_square(e)), 1, &e, &g);
    ck_assert_int_eq(niz_read(g, v, 0), NIZ_OK);
    expect_ok(z);
    niz_argmax(e, .axis = 0);
    expect_error(z, NIZ_E_SHAPE, "argmax");
    niz_t p = niz_param(z, "empty", NIZ_F32, NIZ_SHAPE(0, 4), niz_normal_init());
    niz_assign(p, niz_add(p, 1.0));
    niz_run(z, 0, NULL);
    expect_ok(z);
    close_context();
}
END_TEST

/* ---- reading --------------------------------------------------------------------------------- */

START_TEST(item_of_a_large_i64_is_an_error)
{
    open_context();
    int64_t big[3] = {((int64_t)1 << 53) + 1, (int64_t)1 << 53, -((int64_t)1 << 53)}, back;
    niz_t x = niz_copy_from(z, NIZ_I64, NIZ_SHAPE(3), big);
    ck_assert(isnan(niz_item(niz_select(x, 0, 0))));
    expect_error(z, NIZ_E_ARGUMENT, "2^53");
    ck_assert_double_eq(niz_item(niz_select(x, 0, 1)), 0x1p53);
    ck_assert_double_eq(niz_item(niz_select(x, 0, 2)), -0x1p53);
    ck_assert_int_eq(niz_read(niz_select(x, 0, 0), &back, 8), NIZ_OK);
    ck_assert_int_eq(back, big[0]);
    expect_ok(z);
    close_context();
}
END_TEST

START_TEST(reading_wrong_sizes_is_an_error)
{
    open_context();
    float v[4];
    niz_t x = vector(z, 3);
    ck_assert_int_eq(niz_read(x, v, 16), NIZ_E_ARGUMENT);
    expect_error(z, NIZ_E_ARGUMENT, "12 bytes");
    niz_item(x);
    expect_error(z, NIZ_E_SHAPE, "one element");
    niz_from(z, NIZ_F32, NIZ_SHAPE(3), NULL);
    expect_error(z, NIZ_E_ARGUMENT, "NULL");
    niz_from(z, (niz_dtype)17, NIZ_SHAPE(3), v);
    expect_error(z, NIZ_E_DTYPE, "not a dtype");
    niz_add(niz_full(z, NIZ_I32, NIZ_SHAPE(2), 1), 1.5);
    expect_error(z, NIZ_E_DTYPE, "niz_cast");
    niz_add(niz_full(z, NIZ_I32, NIZ_SHAPE(2), 1), vector(z, 2));
    expect_error(z, NIZ_E_DTYPE, "niz_cast");
    close_context();
}
END_TEST

START_TEST(a_value_read_becomes_a_leaf)
{
    open_context();
    float v[3] = {1, 2, 3};
    niz_t x = niz_copy_from(z, NIZ_F32, NIZ_SHAPE(3), v), y = niz_exp(x), g;
    niz_item(niz_sum(y));
    niz_read(y, v, sizeof v);
    int64_t runs = niz_statistics(z).runs;
    niz_read(y, v, sizeof v);
    ck_assert_int_eq(niz_statistics(z).runs, runs);
    niz_grad(niz_sum(y), 1, &x, &g); /* and can still be differentiated */
    float w[3];
    niz_read(g, w, sizeof w);
    ck_assert_mem_eq(v, w, sizeof v);
    expect_ok(z);
    close_context();
}
END_TEST

int main(void)
{
    UTIL_MAIN("graph", a_handle_is_stale_after_its_step, a_handle_of_another_context_is_refused,
              an_empty_handle_is_refused, inert_handles_propagate_without_a_second_message,
              a_reused_id_has_another_generation, inner_steps_end_before_outer_ones,
              a_step_left_in_any_way_ends, the_first_error_sticks_until_it_is_cleared,
              matmul_of_wrong_shapes_names_everything, a_derivative_names_the_operation_it_is_of,
              compositions_stand_at_the_users_line, sweeps_record_at_the_users_line,
              a_missing_rule_is_an_error_that_names_it, every_call_survives_an_empty_handle,
              every_call_survives_an_inert_handle, every_call_survives_a_stale_handle,
              every_call_survives_a_context_that_is_none, sweeps_take_empty_lists,
              the_same_operation_is_the_same_node, equal_nodes_are_found_after_inner_steps_end,
              an_operation_of_an_ended_step_is_made_again, leaves_and_draws_are_never_the_same_node,
              merging_survives_growth_and_rewinds, two_operations_of_one_name_are_refused,
              a_record_without_what_it_needs_is_refused,
              any_operands_and_attributes_are_refused_or_run, impossible_shapes_are_refused,
              results_too_large_are_refused, empty_tensors_are_legal_everywhere,
              item_of_a_large_i64_is_an_error, reading_wrong_sizes_is_an_error,
              a_value_read_becomes_a_leaf);
}
