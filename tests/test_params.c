/* test_params.c - parameters by name, assignments and versions, snapshots, random draws.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>

#include "util.h"

static niz *z;
static char said[1024];
static int times_said;

static void hear(void *user, const char *message)
{
    (void)user;
    times_said++;
    snprintf(said, sizeof said, "%s", message);
}

static void open_context(void)
{
    said[0] = 0;
    times_said = 0;
    z = niz_open(&(niz_options){.threads = 1, .log = hear});
}

static niz_t param(const char *name, double value)
{
    return niz_param(z, name, NIZ_F32, NIZ_SHAPE(2, 3), niz_constant_init(value));
}

/* The first committed element of a parameter. */
static double committed(const char *name)
{
    for (int64_t i = 0; i < niz_param_count(z); i++) {
        niz_param_info p = niz_param_get(z, i);
        if (!strcmp(p.name, name)) return (double)((const float *)p.data)[0];
    }
    return NAN;
}

static double first(niz_t t)
{
    float v[6];
    return niz_read(t, v, sizeof v) ? (double)NAN : (double)v[0];
}

/* ---- names ----------------------------------------------------------------------------------- */

START_TEST(a_parameter_is_found_by_its_name)
{
    open_context();
    {
        NIZ_STEP(z);
        niz_t a = param("w", 5), b = param("w", 7);
        ck_assert_uint_eq(a.id, b.id);
        ck_assert_double_eq(first(a), 5);
    }
    NIZ_STEP(z);
    ck_assert_double_eq(first(param("w", 7)), 5);
    ck_assert_double_eq(first(niz_find(z, "w")), 5);
    ck_assert_int_eq(niz_param_count(z), 1);
    expect_ok(z);
}
END_TEST

START_TEST(another_shape_or_dtype_is_an_error)
{
    open_context();
    param("w", 1);
    niz_param(z, "w", NIZ_F32, NIZ_SHAPE(3, 2), niz_constant_init(0));
    expect_error(z, NIZ_E_SHAPE, "\"w\" is f32[2,3], asked for as f32[3,2]");
    niz_param(z, "w", NIZ_F64, NIZ_SHAPE(2, 3), niz_constant_init(0));
    expect_error(z, NIZ_E_DTYPE, "f64[2,3]");
    niz_find(z, "v");
    expect_error(z, NIZ_E_ARGUMENT, "no parameter \"v\"");
    niz_find(z, NULL);
    expect_error(z, NIZ_E_ARGUMENT, "no parameter");
    niz_param(z, NULL, NIZ_F32, NIZ_SCALAR, niz_constant_init(0));
    expect_error(z, NIZ_E_ARGUMENT, "name");
    niz_param(z, "", NIZ_F32, NIZ_SCALAR, niz_constant_init(0));
    expect_error(z, NIZ_E_ARGUMENT, "name");
    niz_param(z, "/", NIZ_F32, NIZ_SCALAR, niz_constant_init(0));
    expect_error(z, NIZ_E_ARGUMENT, "name");
    niz_close(z);
}
END_TEST

START_TEST(scopes_prefix_names)
{
    open_context();
    {
        NIZ_SCOPE(z, "net");
        NIZ_SCOPE(z, "block%d", 3);
        ck_assert_str_eq(niz_param_of(param("w", 1)).name, "net.block3.w");
        ck_assert_str_eq(niz_param_of(param("/w", 1)).name, "w");
        ck_assert_uint_eq(niz_find(z, "net.block3.w").id, param("w", 1).id);
    }
    ck_assert_str_eq(niz_param_of(param("v", 1)).name, "v");
    expect_ok(z);
    niz_close(z);
}
END_TEST

START_TEST(many_names_are_all_found_again)
{
    open_context();
    char name[32];
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 500; i++) {
            NIZ_STEP(z);
            snprintf(name, sizeof name, "p%d", i);
            ck_assert_double_eq(
                niz_item(niz_param(z, name, NIZ_F32, NIZ_SCALAR, niz_constant_init(i))), i);
        }
    ck_assert_int_eq(niz_param_count(z), 500);
    niz_close(z);
}
END_TEST

START_TEST(one_name_at_two_places_is_said_once)
{
    open_context();
    for (int i = 0; i < 3; i++) {
        NIZ_STEP(z);
        param("a", 1);
        niz_param(z, "w", NIZ_F32, NIZ_SCALAR, niz_constant_init(0));
        int line = __LINE__ + 1;
        niz_param(z, "w", NIZ_F32, NIZ_SCALAR, niz_constant_init(0));
        ck_assert_int_eq(times_said, 1);
        ck_assert_ptr_nonnull(strstr(said, "\"w\""));
        ck_assert_ptr_nonnull(strstr(said, util_place(__FILE__, line)));
        ck_assert_ptr_nonnull(strstr(said, util_place(__FILE__, line - 2)));
    }
    expect_ok(z);
    niz_close(z);
}
END_TEST

START_TEST(one_place_in_many_steps_is_no_clash)
{
    open_context();
    for (int i = 0; i < 3; i++) {
        NIZ_STEP(z);
        if (i % 2)
            niz_param(z, "w", NIZ_F32, NIZ_SCALAR, niz_constant_init(0));
        else
            niz_param(z, "w", NIZ_F32, NIZ_SCALAR, niz_constant_init(0));
    }
    ck_assert_int_eq(times_said, 0);
    niz_close(z);
}
END_TEST

START_TEST(optimisers_are_not_shown_states)
{
    open_context();
    niz_t w = param("w", 1), v = param("v", 1), found[4];
    niz_t s = niz_state(z, "s", NIZ_F32, NIZ_SHAPE(2, 3), niz_constant_init(1));
    niz_t i = niz_param(z, "i", NIZ_I32, NIZ_SHAPE(2, 3), niz_constant_init(1));
    niz_t y = niz_sum(niz_add(niz_mul(w, s), niz_cast(i, NIZ_F32)));
    ck_assert_int_eq(niz_params_of(y, 4, found), 1);
    ck_assert_uint_eq(found[0].id, w.id);
    ck_assert_int_eq(niz_params_of(niz_add(y, niz_sum(v)), 1, found), 2);
    ck_assert(!niz_param_of(s).trainable);
    ck_assert(niz_param_of(w).trainable);
    expect_ok(z);
    niz_close(z);
}
END_TEST

/* ---- assignments ----------------------------------------------------------------------------- */

START_TEST(a_loop_that_reads_nothing_trains)
{
    open_context();
    for (int i = 0; i < 10; i++) {
        NIZ_STEP(z);
        niz_t w = param("w", 0);
        niz_assign(w, niz_add(w, 1.0));
    }
    ck_assert_double_eq(committed("w"), 10);
    expect_ok(z);
    niz_close(z);
}
END_TEST

START_TEST(an_update_is_committed_once)
{
    open_context();
    {
        NIZ_STEP(z);
        niz_t w = param("w", 0);
        niz_assign(w, niz_add(w, 1.0));
        niz_t loss = niz_sum(niz_full(z, NIZ_F32, NIZ_SHAPE(3), 1));
        for (int i = 0; i < 3; i++) niz_item(loss);
        ck_assert_double_eq(committed("w"), 1);
        niz_item(niz_exp(loss));
    }
    ck_assert_double_eq(committed("w"), 1);
    expect_ok(z);
    niz_close(z);
}
END_TEST

START_TEST(assignments_follow_each_other)
{
    open_context();
    {
        NIZ_STEP(z);
        for (int i = 0; i < 4; i++) {
            niz_t w = param("w", 1);
            niz_assign(w, niz_mul(w, 2.0)); /* of the newest version */
        }
        ck_assert_double_eq(committed("w"), 1);
        ck_assert_double_eq(first(param("w", 1)), 16);
        niz_t w = niz_find(z, "w");
        niz_assign(w, niz_add(w, 1.0));
        niz_assign(w, niz_add(w, 2.0)); /* of the version behind the handle */
    }
    ck_assert_double_eq(committed("w"), 18);
    expect_ok(z);
    niz_close(z);
}
END_TEST

START_TEST(a_value_of_an_overwritten_version_is_an_error)
{
    open_context();
    for (int run = 0; run < 2; run++) {
        NIZ_STEP(z);
        niz_t w = param("w", 3);
        niz_t loss = niz_sum(w), acc = niz_mean(niz_square(w));
        int acc_line = __LINE__ - 1;
        niz_assign(w, niz_sub(w, 1.0));
        int update_line = __LINE__ - 1;
        double before = committed("w");
        if (run) {
            NIZ_RUN(z, loss, acc);
            ck_assert_double_eq(niz_item(acc), before * before);
            expect_ok(z);
            continue;
        }
        ck_assert_double_eq(niz_item(loss), 6 * before);
        ck_assert(isnan(niz_item(acc)));
        ck_assert_ptr_nonnull(strstr(niz_message(z), util_place(__FILE__, acc_line)));
        ck_assert_ptr_nonnull(strstr(niz_message(z), util_place(__FILE__, update_line)));
        expect_error(z, NIZ_E_VERSION, "needs w as it was before the update");
    }
    niz_close(z);
}
END_TEST

/* Its handle is of the old version, whenever it is read. */
START_TEST(a_parameter_read_with_its_update_pending_is_the_old_one)
{
    open_context();
    for (int i = 0; i < 3; i++) {
        NIZ_STEP(z);
        niz_t w = param("w", 2);
        niz_assign(w, niz_add(w, 1.0));
        if (i == 0) ck_assert_double_eq(first(w), 2 + i);
        if (i == 1) NIZ_RUN(z, niz_sum(w), w);
        if (i == 2) niz_run(z, 0, NULL);
        ck_assert_double_eq(committed("w"), 3 + i);
        ck_assert_double_eq(first(param("w", 2)), 3 + i);
        if (i < 2) {
            ck_assert_double_eq(first(w), 2 + i);
            ck_assert_double_eq(niz_item(niz_sum(niz_mul(w, 2.0))), 12 * (2 + i));
            expect_ok(z);
            continue;
        }
        first(w);
        expect_error(z, NIZ_E_VERSION, "needs w as it was before the update");
    }
    niz_close(z);
}
END_TEST

START_TEST(the_new_version_is_used_later_in_the_step)
{
    open_context();
    NIZ_STEP(z);
    niz_t old = param("w", 2), before = niz_sum(old);
    niz_assign(old, niz_mul(old, 10.0));
    niz_t now = param("w", 2);
    ck_assert_uint_ne(old.id, now.id);
    niz_t after = niz_sum(niz_add(now, 1.0));
    NIZ_RUN(z, before, after);
    ck_assert_double_eq(niz_item(before), 12);
    ck_assert_double_eq(niz_item(after), 126);
    ck_assert_double_eq(first(now), 20);
    ck_assert_double_eq(first(param("w", 2)), 20);
    expect_ok(z);
}
END_TEST

START_TEST(gradients_flow_through_an_assignment_in_both_modes)
{
    open_context();
    NIZ_STEP(z);
    niz_t w = param("w", 2), x = niz_full(z, NIZ_F32, NIZ_SHAPE(2, 3), 3), g, t;
    niz_assign(w, niz_mul(w, x));
    niz_t y = niz_sum(niz_square(param("w", 2))); /* Σ w² x² */
    niz_grad(y, 1, &w, &g);
    niz_jvp(1, &w, &x, 1, &y, &t);
    NIZ_RUN(z, y, g, t);
    ck_assert_double_eq(first(g), 2 * 2 * 9);
    ck_assert_double_eq(niz_item(t), 6 * 36 * 3);
    expect_ok(z);
}
END_TEST

/* The handle is of a version that the value knows nothing of: zeros, and said once. */
START_TEST(a_gradient_for_a_newer_version_is_said)
{
    open_context();
    NIZ_STEP(z);
    niz_t w = param("w", 3), y = niz_sum(niz_square(w)), g[2], v = param("v", 1);
    niz_grad(y, 1, &v, g);
    ck_assert_int_eq(times_said, 0);
    niz_assign(w, niz_add(w, 1));
    niz_grad(y, 1, &w, g);
    ck_assert_int_eq(times_said, 0);
    niz_t now = niz_find(z, "w");
    niz_grad(y, 1, &now, g);
    ck_assert_int_eq(times_said, 1);
    ck_assert_ptr_nonnull(strstr(said, util_place(__FILE__, __LINE__ - 2) + 3));
    ck_assert_ptr_nonnull(strstr(said, "\"w\" has been assigned"));
    niz_grad(y, 1, &now, g);
    ck_assert_int_eq(times_said, 1);
    ck_assert_double_eq(first(g[0]), 0);
}
END_TEST

START_TEST(errors_of_derivatives_have_their_name_and_kind)
{
    open_context();
    NIZ_STEP(z);
    niz_t w = param("w", 3), y = niz_sum(w), none = {0}, g, d = niz_cast(y, NIZ_F64);
    niz_t whole = niz_cast(w, NIZ_I32);
    niz_grad(y, 1, &whole, &g);
    expect_error(z, NIZ_E_DTYPE, "grad: a variable must be");
    niz_grad(y, 1, &none, &g);
    expect_error(z, NIZ_E_STALE, "grad: a variable is");
    niz_vjp(1, &y, &d, 1, &w, &g);
    expect_error(z, NIZ_E_DTYPE, "vjp: the cotangent f64[]");
    niz_vjp(1, &y, &w, 1, &w, &g);
    expect_error(z, NIZ_E_SHAPE, "vjp: the cotangent f32[2,3]");
    niz_t dw = niz_cast(w, NIZ_F64);
    niz_jvp(1, &w, &dw, 1, &y, &g);
    expect_error(z, NIZ_E_DTYPE, "jvp: the tangent f64[2,3]");
    niz_jvp(1, &w, &y, 1, &y, &g);
    expect_error(z, NIZ_E_SHAPE, "jvp: the tangent f32[]");
    float v;
    ck_assert_int_eq(niz_read(none, &v, sizeof v), NIZ_E_STALE);
    expect_ok(z);
}
END_TEST

START_TEST(two_parameters_can_be_swapped)
{
    open_context();
    for (int order = 0; order < 2; order++) {
        NIZ_STEP(z);
        niz_t a = param("a", 1), b = param("b", 2);
        if (order) {
            niz_assign(b, a);
            niz_assign(a, b);
        } else {
            niz_assign(a, b);
            niz_assign(b, a);
        }
        niz_run(z, 0, NULL);
        ck_assert_double_eq(committed("a"), order ? 1 : 2);
        ck_assert_double_eq(committed("b"), order ? 2 : 1);
    }
    expect_ok(z);
    niz_close(z);
}
END_TEST

START_TEST(parameters_can_go_round)
{
    open_context();
    static const char *name[] = {"a", "b", "c", "d"};
    for (int i = 0; i < 9; i++) {
        NIZ_STEP(z);
        niz_t p[4], sum = niz_scalar(z, NIZ_F32, 0);
        for (int k = 0; k < 4; k++) p[k] = param(name[k], k);
        for (int k = 0; k < 4; k++) {
            niz_assign(p[k], niz_mul(p[(k + 1) % 4], i % 2 ? 0.5 : 2.0));
            sum = niz_add(sum, niz_mul(niz_sum(p[k]), (double)k));
        }
        if (i % 3 == 0) niz_item(sum);
    }
    for (int k = 0; k < 4; k++) ck_assert_double_eq(committed(name[k]), 2.0 * ((k + 9) % 4));
    expect_ok(z);
    niz_close(z);
}
END_TEST

static void set_matrix(const char *name)
{
    float v[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    ck_assert_int_eq(niz_param_set(z, name, NIZ_F32, NIZ_SHAPE(3, 3), true, v), NIZ_OK);
}

static void expect_matrix(const char *name, const float *want)
{
    niz_param_info p = niz_param_of(niz_find(z, name));
    ck_assert_mem_eq(p.data, want, 9 * sizeof(float));
}

START_TEST(any_value_can_be_assigned)
{
    open_context();
    float leaf[9] = {9, 8, 7, 6, 5, 4, 3, 2, 1};
    struct {
        const char *what;
        float want[9];
    } all[] = {
        {"transposed", {1, 4, 7, 2, 5, 8, 3, 6, 9}},
        {"itself", {1, 2, 3, 4, 5, 6, 7, 8, 9}},
        {"leaf", {9, 8, 7, 6, 5, 4, 3, 2, 1}},
        {"flipped", {7, 8, 9, 4, 5, 6, 1, 2, 3}},
        {"own row", {4, 5, 6, 4, 5, 6, 4, 5, 6}},
        {"own row plus itself", {5, 7, 9, 8, 10, 12, 11, 13, 15}},
        {"literal", {3, 3, 3, 3, 3, 3, 3, 3, 3}},
        {"itself plus its transpose", {2, 6, 10, 6, 10, 14, 10, 14, 18}},
        {"product", {30, 36, 42, 66, 81, 96, 102, 126, 150}},
        {"other", {1, 2, 3, 4, 5, 6, 7, 8, 9}},
        {"rows above", {1, 2, 3, 1, 2, 3, 4, 5, 6}},
    };
    set_matrix("other");
    for (int i = 0; i < NIZ_COUNT(all); i++) {
        set_matrix("m");
        NIZ_STEP(z);
        niz_t m = niz_find(z, "m"), v[] = {
            niz_transpose(m, 0, 1), m, niz_from(z, NIZ_F32, NIZ_SHAPE(3, 3), leaf), niz_flip(m, 0),
            niz_broadcast(niz_slice(m, 0, 1, 2, 1), NIZ_SHAPE(3, 3)),
            niz_add(m, niz_slice(m, 0, 1, 2, 1)), niz_full(z, NIZ_F32, NIZ_SHAPE(3, 3), 3),
            niz_add(m, niz_transpose(m, 0, 1)), niz_matmul(m, m), niz_find(z, "other"),
            niz_concat(2, ((niz_t[]){niz_slice(m, 0, 0, 1, 1), niz_slice(m, 0, 0, 2, 1)}), 0)};
        /* "own row plus itself": row 1 is [4,5,6] */
        niz_assign(m, v[i]);
        niz_run(z, 0, NULL);
        expect_ok(z);
        ck_assert_msg(!memcmp(niz_param_of(m).data, all[i].want, sizeof all[i].want), "%s",
                      all[i].what);
    }
    expect_matrix("other", all[1].want);
    niz_close(z);
}
END_TEST

START_TEST(a_value_may_be_wanted_and_assigned_to_two)
{
    open_context();
    NIZ_STEP(z);
    niz_t a = param("a", 1), b = param("b", 2), v = niz_add(a, b);
    niz_assign(a, v);
    niz_assign(b, v);
    NIZ_RUN(z, v, niz_reshape(v, NIZ_SHAPE(6)));
    ck_assert_double_eq(first(v), 3);
    ck_assert_double_eq(committed("a"), 3);
    ck_assert_double_eq(committed("b"), 3);
    expect_ok(z);
}
END_TEST

START_TEST(only_parameters_of_the_same_type_are_assigned)
{
    open_context();
    niz_t w = param("w", 1), x = niz_full(z, NIZ_F32, NIZ_SHAPE(2, 3), 1);
    niz_assign(x, w);
    expect_error(z, NIZ_E_ARGUMENT, "only parameters");
    niz_assign(w, niz_sum(x));
    expect_error(z, NIZ_E_SHAPE, "\"w\"");
    niz_assign(w, niz_cast(x, NIZ_F64));
    expect_error(z, NIZ_E_DTYPE, "f64");
    niz_run(z, 0, NULL);
    ck_assert_double_eq(committed("w"), 1);
    niz_close(z);
}
END_TEST

START_TEST(an_error_drops_what_is_pending)
{
    open_context();
    {
        NIZ_STEP(z);
        niz_t w = param("w", 1);
        niz_assign(w, niz_add(w, 1.0));
        niz_add(w, niz_full(z, NIZ_F32, NIZ_SHAPE(7), 0));
    }
    ck_assert_double_eq(committed("w"), 1);
    niz_clear_error(z);
    {
        NIZ_STEP(z);
        niz_t w = param("w", 1);
        niz_assign(w, niz_add(w, 5.0));
        niz_fail(z, NIZ_HERE, NIZ_E_ARGUMENT, "mine");
        niz_clear_error(z); /* inside the step */
        niz_assign(w, niz_add(w, 7.0));
    }
    ck_assert_double_eq(committed("w"), 8);
    expect_ok(z);
    niz_close(z);
}
END_TEST

/* The value of a dropped assignment is still that value, not the parameter's next one. */
START_TEST(a_dropped_version_is_never_taken_for_another)
{
    open_context();
    NIZ_STEP(z);
    niz_t w = param("w", 1);
    niz_assign(w, niz_mul(niz_full(z, NIZ_F32, NIZ_SHAPE(2, 3), 3), 1.5));
    niz_t dropped = param("w", 1);
    niz_fail(z, NIZ_HERE, NIZ_E_ARGUMENT, "mine");
    niz_clear_error(z);
    niz_assign(w, niz_full(z, NIZ_F32, NIZ_SHAPE(2, 3), 9));
    niz_run(z, 0, NULL);
    ck_assert_double_eq(committed("w"), 9);
    ck_assert_double_eq(first(niz_add(dropped, 0.0)), 4.5);
    ck_assert_double_eq(first(dropped), 4.5);
    expect_ok(z);
}
END_TEST

START_TEST(a_failing_run_commits_nothing)
{
    open_context();
    char before[33], after[33];
    {
        NIZ_STEP(z);
        param("a", 1), param("b", 2);
        niz_param_hash(z, before);
    }
    for (int late = 0; late < 2; late++) {
        NIZ_STEP(z);
        int32_t bad[2] = {0, 17};
        niz_t a = param("a", 1), b = param("b", 2);
        niz_t index = niz_copy_from(z, NIZ_I32, NIZ_SHAPE(2), bad), rows, line;
        if (!late) rows = niz_take(a, 0, index);
        niz_assign(a, niz_add(a, 1.0));
        niz_assign(b, niz_mul(b, 3.0));
        if (late) rows = niz_take(b, 0, index);
        int place = __LINE__ - (late ? 1 : 4);
        line = niz_sum(rows);
        ck_assert(isnan(niz_item(line)));
        ck_assert_ptr_nonnull(strstr(niz_message(z), util_place(__FILE__, place)));
        expect_error(z, NIZ_E_INDEX, "17");
        niz_param_hash(z, after);
        ck_assert_str_eq(before, after);
    }
    expect_ok(z);
    niz_close(z);
}
END_TEST

/* ---- from outside ---------------------------------------------------------------------------- */

START_TEST(setting_all_is_all_or_nothing)
{
    open_context();
    float v[6] = {1, 2, 3, 4, 5, 6}, w[6] = {7, 7, 7, 7, 7, 7};
    param("old", 1);
    niz_param_info two[] = {{"old", NIZ_F32, NIZ_SHAPE(2, 3), true, v},
                            {"new", NIZ_F32, NIZ_SHAPE(6), false, v}};
    ck_assert_int_eq(niz_param_set_all(z, 2, two), NIZ_OK);
    ck_assert_int_eq(niz_param_count(z), 2);
    ck_assert(!niz_param_get(z, 1).trainable);
    niz_param_info wrong[] = {{"old", NIZ_F32, NIZ_SHAPE(2, 3), true, w},
                              {"third", NIZ_F32, NIZ_SHAPE(6), true, w},
                              {"new", NIZ_F32, NIZ_SHAPE(5), true, w}};
    ck_assert_int_eq(niz_param_set_all(z, 3, wrong), NIZ_E_SHAPE);
    niz_clear_error(z);
    ck_assert_int_eq(niz_param_count(z), 2);
    ck_assert_double_eq(committed("old"), 1);
    niz_param_info twice[] = {{"fresh", NIZ_F32, NIZ_SHAPE(100), true, (float[100]){0}},
                              {"fresh", NIZ_F32, NIZ_SHAPE(6), true, w}};
    ck_assert_int_ne(niz_param_set_all(z, 2, twice), NIZ_OK);
    niz_clear_error(z);
    ck_assert_int_eq(niz_param_count(z), 2);
    niz_close(z);
}
END_TEST

START_TEST(setting_makes_old_values_stale)
{
    open_context();
    NIZ_STEP(z);
    float v[6] = {7, 7, 7, 7, 7, 7};
    niz_t w = param("w", 1), y = niz_sum(w);
    ck_assert_int_eq(niz_param_set(z, "w", NIZ_F32, NIZ_SHAPE(2, 3), true, v), NIZ_OK);
    ck_assert(isnan(niz_item(y)));
    expect_error(z, NIZ_E_VERSION, "w");
    ck_assert_double_eq(first(param("w", 1)), 7);
    w = param("w", 1);
    niz_assign(w, niz_add(w, 1.0));
    ck_assert_int_ne(niz_param_set(z, "w", NIZ_F32, NIZ_SHAPE(2, 3), true, v), NIZ_OK);
    expect_error(z, NIZ_E_ARGUMENT, "no run has committed");
}
END_TEST

static void train(int steps)
{
    for (int i = 0; i < steps; i++) {
        NIZ_STEP(z);
        niz_t w = param("w", 1);
        niz_assign(w, niz_add(w, niz_uniform(z, NIZ_F32, NIZ_SHAPE(2, 3), 0, 1)));
    }
}

START_TEST(a_snapshot_brings_everything_back)
{
    open_context();
    char before[33], one[33], two[33];
    train(3);
    niz_param_hash(z, before);
    niz_snapshot *s = niz_snapshot_take(z);
    train(5);
    niz_param_hash(z, one);
    ck_assert_str_ne(one, before);
    ck_assert_int_eq(niz_snapshot_restore(z, s), NIZ_OK);
    niz_param_hash(z, two);
    ck_assert_str_eq(two, before);
    train(5);
    niz_param_hash(z, two);
    ck_assert_str_eq(two, one);
    niz_snapshot_free(z, s);
    niz_close(z);
}
END_TEST

START_TEST(a_foreign_snapshot_is_refused)
{
    open_context();
    param("w", 1);
    niz_snapshot *s = niz_snapshot_take(z);
    niz *other = util_open();
    niz_param(other, "big", NIZ_F32, NIZ_SHAPE(10000), niz_constant_init(0));
    ck_assert_int_eq(niz_snapshot_restore(other, s), NIZ_E_ARGUMENT);
    ck_assert_int_eq(niz_snapshot_restore(z, NULL), NIZ_E_ARGUMENT);
    niz_snapshot_free(z, s);
    niz_close(other);
    niz_close(z);
}
END_TEST

START_TEST(the_hash_sees_names_types_and_bits)
{
    char h[5][33];
    float v[6] = {0}, w[6] = {-0.0f};
    struct {
        const char *name;
        niz_shape shape;
        const float *data;
    } all[] = {{"w", NIZ_SHAPE(2, 3), v}, {"v", NIZ_SHAPE(2, 3), v}, {"w", NIZ_SHAPE(3, 2), v},
               {"w", NIZ_SHAPE(2, 3), w}, {"w", NIZ_SHAPE(2, 3), v}};
    for (int i = 0; i < 5; i++) {
        open_context();
        niz_param_set(z, all[i].name, NIZ_F32, all[i].shape, true, all[i].data);
        niz_param_hash(z, h[i]);
        for (int k = 0; k < i; k++) ck_assert_int_eq(!strcmp(h[i], h[k]), k == 0 && i == 4);
        niz_close(z);
    }
}
END_TEST

START_TEST(a_snapshot_has_what_was_pending)
{
    open_context();
    NIZ_STEP(z);
    niz_t w = param("w", 1);
    niz_assign(w, niz_add(w, 1));
    niz_snapshot *s = niz_snapshot_take(z);
    ck_assert_double_eq(committed("w"), 2);
    niz_assign(niz_find(z, "w"), niz_mul(niz_find(z, "w"), 10));
    niz_run(z, 0, NULL);
    ck_assert_double_eq(committed("w"), 20);
    ck_assert_int_eq(niz_snapshot_restore(z, s), NIZ_OK);
    ck_assert_double_eq(committed("w"), 2);
    niz_snapshot_free(z, s);
}
END_TEST

START_TEST(an_assignment_of_this_step_is_known)
{
    open_context();
    niz_t w;
    {
        NIZ_STEP(z);
        ck_assert(!niz_param_is_assigned(w = param("w", 1)));
        niz_assign(w, niz_add(w, 1));
        ck_assert(niz_param_is_assigned(w));
        {
            NIZ_STEP(z);
            ck_assert(!niz_param_is_assigned(param("w", 1)));
        }
        niz_run(z, 0, NULL);
        ck_assert(niz_param_is_assigned(w));
    }
    NIZ_STEP(z);
    ck_assert(!niz_param_is_assigned(w = param("w", 1)));
    niz_assign(w, niz_add(w, 1));
    niz_fail(z, (niz_at){0}, NIZ_E_ARGUMENT, "stop");
    niz_clear_error(z);
    ck_assert(!niz_param_is_assigned(param("w", 1)));
}
END_TEST

START_TEST(what_was_set_from_outside_says_so)
{
    open_context();
    NIZ_STEP(z);
    niz_t y = niz_square(param("w", 1));
    float v[6] = {0};
    niz_param_set(z, "w", NIZ_F32, NIZ_SHAPE(2, 3), true, v);
    first(y);
    expect_error(z, NIZ_E_VERSION, "needs w as it was before it was set from outside");
}
END_TEST

/* ---- scopes ---------------------------------------------------------------------------------- */

static const char *long_name(int n)
{
    static char name[8192];
    memset(name, 'n', (size_t)n);
    name[n] = 0;
    return name;
}

START_TEST(long_scopes_are_not_cut)
{
    open_context();
    for (int i = 0; i < 2; i++) {
        NIZ_SCOPE(z, "%s%d", long_name(300), i);
        ck_assert_str_eq(strrchr(niz_param_of(param("w", i)).name, 'n'), i ? "n1.w" : "n0.w");
    }
    ck_assert_int_eq(niz_param_count(z), 2);
    expect_ok(z);
    for (int i = 0; i < 2; i++) {
        NIZ_SCOPE(z, i ? "%s" : "%s!", long_name(1024));
        expect_error(z, NIZ_E_ARGUMENT, "a scope's name has at most 1023 characters");
        param("v", 1);
        ck_assert_str_eq(niz_param_of(niz_find(z, "v")).name, "v");
    }
    {
        NIZ_SCOPE(z, "%s", long_name(1000));
        NIZ_SCOPE(z, "%s", long_name(1000));
        NIZ_SCOPE(z, "%s", long_name(1000));
        NIZ_SCOPE(z, "%s", long_name(1000));
        expect_ok(z);
        param("w", 1);
        expect_error(z, NIZ_E_ARGUMENT, "at most 511");
        NIZ_SCOPE(z, "%s", long_name(1000));
        expect_error(z, NIZ_E_ARGUMENT, "with those around it 4095");
    }
    ck_assert_str_eq(niz_param_of(param("last", 1)).name, "last");
    expect_ok(z);
    niz_close(z);
}
END_TEST

START_TEST(an_empty_scope_is_none)
{
    open_context();
    NIZ_SCOPE(z, "%s", "");
    ck_assert_str_eq(niz_param_of(param("w", 1)).name, "w");
    NIZ_SCOPE(z, "a");
    NIZ_SCOPE(z, "%s", "");
    NIZ_SCOPE(z, "b");
    ck_assert_str_eq(niz_param_of(param("w", 1)).name, "a.b.w");
    expect_ok(z);
}
END_TEST

/* New names at every step: the memory of 10,000 steps is that of 100. */
START_TEST(scopes_leave_no_memory)
{
    open_context();
    int64_t bytes = 0;
    for (int i = 0; i < 10000; i++) {
        if (i == 100) bytes = niz_statistics(z).bytes_now;
        NIZ_STEP(z);
        for (int k = 0; k < 3; k++) {
            NIZ_SCOPE(z, "step%05d", i);
            NIZ_SCOPE(z, "part%d", k);
            niz_uniform(z, NIZ_F32, NIZ_SHAPE(3), 0, 1);
        }
    }
    expect_ok(z);
    ck_assert_int_eq(niz_statistics(z).bytes_now, bytes);
    niz_close(z);
}
END_TEST

/* ---- closing --------------------------------------------------------------------------------- */

/* The guards' ends come after niz_close; the address sanitiser sees to it that they find memory. */
START_TEST(closing_within_a_step_waits_for_its_end)
{
    util_memory m = {0};
    {
        niz *c = util_open_counting(&m);
        NIZ_STEP(c);
        NIZ_SCOPE(c, "a");
        NIZ_STEP(c);
        niz_t w = niz_param(c, "w", NIZ_F32, NIZ_SHAPE(3), niz_constant_init(1));
        niz_assign(w, niz_add(w, 1));
        niz_close(c);
        ck_assert_int_eq(niz_error(c), NIZ_E_STALE);
        ck_assert_ptr_nonnull(strstr(niz_message(c), "closed"));
        niz_clear_error(c);
        ck_assert_int_eq(niz_error(c), NIZ_E_STALE);
        ck_assert(!niz_is_valid(niz_add(w, 1)));
        NIZ_SCOPE(c, "b");
        NIZ_STEP(c);
        niz_close(c);
        ck_assert_int_gt(m.live, 0);
    }
    ck_assert_int_eq(m.live, 0);
}
END_TEST

START_TEST(closing_after_steps_is_at_once)
{
    util_memory m = {0};
    niz *c = util_open_counting(&m);
    {
        NIZ_STEP(c);
        niz_t x = niz_ones(c, NIZ_F32, NIZ_SHAPE(2, 3));
        niz_item(niz_sum(niz_linear(x, 2, "a")));
        niz_linear(x, 2, "");
    }
    niz_close(c);
    ck_assert_int_eq(m.live, 0);
}
END_TEST

/* ---- random draws ---------------------------------------------------------------------------- */

#define DRAWN 64

static void draw(float *v)
{
    ck_assert_int_eq(niz_read(niz_uniform(z, NIZ_F32, NIZ_SHAPE(DRAWN), 0, 1), v,
                              DRAWN * sizeof *v), NIZ_OK);
}

#define SAME(a, b) (!memcmp(a, b, sizeof(a)))

START_TEST(the_same_seed_draws_the_same)
{
    float v[3][2][DRAWN];
    for (int i = 0; i < 3; i++) {
        z = niz_open(&(niz_options){.threads = 1 + i, .seed = i == 2 ? 6 : 5});
        for (int s = 0; s < 2; s++) {
            NIZ_STEP(z);
            draw(v[i][s]);
        }
        niz_close(z);
    }
    ck_assert(SAME(v[0], v[1]));
    ck_assert(!SAME(v[0][0], v[0][1]));
    ck_assert(!SAME(v[0], v[2]));
}
END_TEST

START_TEST(draws_differ_by_scope_ordinal_and_step)
{
    open_context();
    float v[8][DRAWN];
    int n = 0;
    for (int s = 0; s < 2; s++) {
        NIZ_STEP(z);
        draw(v[n++]);
        draw(v[n++]);
        NIZ_SCOPE(z, "a");
        draw(v[n++]);
        NIZ_STEP(z);
        draw(v[n++]);
    }
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++) ck_assert_msg(!SAME(v[i], v[k]), "draws %d and %d", k, i);
    niz_close(z);
}
END_TEST

START_TEST(a_new_parameter_does_not_repeat_draws)
{
    open_context();
    float v[4][DRAWN];
    {
        NIZ_STEP(z);
        draw(v[0]);
        niz_param(z, "w", NIZ_F32, NIZ_SHAPE(5), niz_normal_init());
        draw(v[1]);
        NIZ_STEP(z);
        draw(v[2]);
    }
    ck_assert(!SAME(v[0], v[1]));
    niz_close(z);
    open_context(); /* and whether it is new makes no difference */
    float one[5] = {0};
    niz_param_set(z, "w", NIZ_F32, NIZ_SHAPE(5), true, one);
    {
        NIZ_STEP(z);
        draw(v[3]);
        ck_assert(SAME(v[0], v[3]));
        niz_param(z, "w", NIZ_F32, NIZ_SHAPE(5), niz_normal_init());
        draw(v[3]);
        ck_assert(SAME(v[1], v[3]));
    }
    niz_close(z);
}
END_TEST

START_TEST(draws_outside_steps_never_repeat)
{
    open_context();
    float v[3][DRAWN];
    for (int i = 0; i < 3; i++) {
        draw(v[i]);
        NIZ_STEP(z);
    }
    ck_assert(!SAME(v[0], v[1]));
    ck_assert(!SAME(v[1], v[2]));
    niz_close(z);
}
END_TEST

START_TEST(evaluation_does_not_shift_training)
{
    float v[2][3][DRAWN], e[3][DRAWN];
    for (int with = 0; with < 2; with++) {
        open_context();
        for (int i = 0; i < 3; i++) {
            {
                NIZ_STEP(z);
                draw(v[with][i]);
            }
            if (!with) continue;
            niz_set_training(z, false);
            for (int k = 0; k <= i; k++) {
                NIZ_STEP(z);
                draw(e[i]);
            }
            niz_set_training(z, true);
        }
        niz_close(z);
    }
    ck_assert(SAME(v[0], v[1]));
    for (int i = 0; i < 3; i++) ck_assert(!SAME(e[i], v[0][i]));
}
END_TEST

/* Whether a step counts is told by its first draw, whatever was set before or around it. */
START_TEST(steps_without_draws_do_not_shift_training)
{
    float v[4][3][DRAWN], e[DRAWN];
    for (int how = 0; how < 4; how++) {
        open_context();
        for (int i = 0; i < 3; i++) {
            if (how == 1) {
                NIZ_STEP(z);
                NIZ_STEP(z);
            }
            if (how == 2) {
                NIZ_STEP(z);
                niz_set_training(z, false);
                draw(e);
                niz_set_training(z, true);
            }
            NIZ_STEP(z);
            if (how == 3) {
                NIZ_STEP(z);
                niz_set_training(z, false);
                draw(e);
                niz_set_training(z, true);
            }
            draw(v[how][i]);
        }
        ck_assert_uint_eq(niz_counters_get(z).train_steps, 3);
        ck_assert_uint_eq(niz_counters_get(z).eval_steps, how < 2 ? 0 : 3);
        niz_close(z);
    }
    for (int how = 1; how < 4; how++) ck_assert(SAME(v[how], v[0]));
}
END_TEST

START_TEST(both_modes_draw_in_one_step)
{
    open_context();
    float v[4][DRAWN];
    NIZ_STEP(z);
    for (int i = 0; i < 4; i++) {
        niz_set_training(z, i % 2 == 0);
        draw(v[i]);
    }
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < i; k++) ck_assert(!SAME(v[i], v[k]));
    ck_assert_uint_eq(niz_counters_get(z).train_steps, 1);
    ck_assert_uint_eq(niz_counters_get(z).eval_steps, 1);
}
END_TEST

START_TEST(seeding_within_a_step_repeats_no_draw)
{
    open_context();
    float v[4][DRAWN];
    {
        NIZ_STEP(z);
        draw(v[0]);
        niz_seed(z, 0);
        draw(v[1]);
        {
            NIZ_STEP(z);
            draw(v[2]);
        }
    }
    NIZ_STEP(z);
    draw(v[3]);
    ck_assert(SAME(v[0], v[1])); /* it restarts */
    ck_assert(!SAME(v[1], v[2]) && !SAME(v[2], v[3]) && !SAME(v[1], v[3]));
}
END_TEST

/* Many scopes, twice each: every draw its own, and the time linear. */
START_TEST(many_scopes_draw_apart)
{
    open_context();
    enum { N = 3000 };
    static int64_t key[2 * N];
    for (int step = 0; step < 2; step++) {
        NIZ_STEP(z);
        for (int i = 0; i < 2 * N; i++) {
            NIZ_SCOPE(z, "s%d", i % N);
            float v[2];
            if (i % 100 == 0) {
                NIZ_STEP(z);
                niz_read(niz_uniform(z, NIZ_F32, NIZ_SHAPE(2), 0, 1), v, sizeof v);
            }
            niz_read(niz_uniform(z, NIZ_F32, NIZ_SHAPE(2), 0, 1), v, sizeof v);
            memcpy(&key[i], v, sizeof key[i]);
        }
        for (int i = 0; i < N; i++) ck_assert(key[i] != key[N + i]);
    }
    niz_close(z);
}
END_TEST

/* "a/b" and "a", "b" are one path: their draws are counted together. */
START_TEST(one_path_counts_once)
{
    open_context();
    float v[2][DRAWN];
    NIZ_STEP(z);
    {
        NIZ_SCOPE(z, "a/b");
        draw(v[0]);
    }
    NIZ_SCOPE(z, "a");
    NIZ_SCOPE(z, "b");
    draw(v[1]);
    ck_assert(!SAME(v[0], v[1]));
}
END_TEST

START_TEST(counters_bring_draws_back)
{
    open_context();
    float v[2][DRAWN];
    for (int i = 0; i < 4; i++) {
        NIZ_STEP(z);
        draw(v[0]);
    }
    niz_counters c = niz_counters_get(z);
    for (int i = 0; i < 2; i++) {
        NIZ_STEP(z);
        draw(v[i]);
    }
    ck_assert_uint_eq(c.train_steps, 4);
    niz_counters_set(z, c);
    {
        NIZ_STEP(z);
        draw(v[1]);
    }
    ck_assert(SAME(v[0], v[1]));
    niz_seed(z, 0);
    ck_assert_uint_eq(niz_counters_get(z).train_steps, 0);
    niz_close(z);
}
END_TEST

START_TEST(draws_stay_in_their_range)
{
    open_context();
    enum { N = 20000 };
    static float f[N];
    static double d[N];
    static uint8_t b[N];
    struct {
        double lo, hi;
    } range[] = {{0, 1}, {-1, 1}, {1, 1 + 0x1p-20}, {-1e-30, 1e-30}, {5, 5}, {-3, 0}};
    for (int i = 0; i < NIZ_COUNT(range); i++) {
        double lo = range[i].lo, hi = range[i].hi, sum = 0;
        niz_read(niz_uniform(z, NIZ_F32, NIZ_SHAPE(N), lo, hi), f, sizeof f);
        niz_read(niz_uniform(z, NIZ_F64, NIZ_SHAPE(N), lo, hi), d, sizeof d);
        expect_ok(z);
        for (int k = 0; k < N; k++) {
            ck_assert((double)f[k] >= (double)(float)lo && (double)f[k] <= (double)(float)hi);
            ck_assert(d[k] >= lo && (d[k] < hi || lo == hi));
            if (lo < hi && i < 2) ck_assert((double)f[k] < hi);
            sum += d[k];
        }
        ck_assert_double_le(fabs(sum / N - (lo + hi) / 2), (hi - lo) * 0.02);
    }
    niz_read(niz_bernoulli(z, NIZ_SHAPE(N), 0), b, sizeof b);
    for (int k = 0; k < N; k++) ck_assert_uint_eq(b[k], 0);
    niz_read(niz_bernoulli(z, NIZ_SHAPE(N), 1), b, sizeof b);
    for (int k = 0; k < N; k++) ck_assert_uint_eq(b[k], 1);
    niz_read(niz_normal(z, NIZ_F32, NIZ_SHAPE(N), 3, 2), f, sizeof f);
    double sum = 0, square = 0;
    for (int k = 0; k < N; k++) sum += (double)f[k], square += (double)f[k] * (double)f[k];
    ck_assert_double_le(fabs(sum / N - 3), 0.1);
    ck_assert_double_le(fabs(square / N - 13), 0.6);
    expect_ok(z);
    niz_uniform(z, NIZ_F32, NIZ_SHAPE(2), 1, 0);
    expect_error(z, NIZ_E_ARGUMENT, "range");
    niz_uniform(z, NIZ_I32, NIZ_SHAPE(2), 0, 1);
    expect_error(z, NIZ_E_DTYPE, "draws");
    niz_bernoulli(z, NIZ_SHAPE(2), NAN);
    expect_error(z, NIZ_E_ARGUMENT, "probability");
    niz_close(z);
}
END_TEST

int main(void)
{
    UTIL_MAIN("params", a_parameter_is_found_by_its_name, another_shape_or_dtype_is_an_error,
              scopes_prefix_names, many_names_are_all_found_again,
              one_name_at_two_places_is_said_once, one_place_in_many_steps_is_no_clash,
              optimisers_are_not_shown_states, a_loop_that_reads_nothing_trains,
              an_update_is_committed_once, assignments_follow_each_other,
              a_value_of_an_overwritten_version_is_an_error,
              a_parameter_read_with_its_update_pending_is_the_old_one,
              the_new_version_is_used_later_in_the_step,
              gradients_flow_through_an_assignment_in_both_modes, two_parameters_can_be_swapped,
              parameters_can_go_round, any_value_can_be_assigned,
              a_value_may_be_wanted_and_assigned_to_two,
              only_parameters_of_the_same_type_are_assigned, an_error_drops_what_is_pending,
              a_dropped_version_is_never_taken_for_another, a_failing_run_commits_nothing,
              setting_all_is_all_or_nothing, setting_makes_old_values_stale,
              a_snapshot_brings_everything_back, a_foreign_snapshot_is_refused,
              the_hash_sees_names_types_and_bits, the_same_seed_draws_the_same,
              draws_differ_by_scope_ordinal_and_step, a_new_parameter_does_not_repeat_draws,
              draws_outside_steps_never_repeat, evaluation_does_not_shift_training,
              counters_bring_draws_back, draws_stay_in_their_range,
              a_snapshot_has_what_was_pending, an_assignment_of_this_step_is_known,
              what_was_set_from_outside_says_so, long_scopes_are_not_cut, an_empty_scope_is_none,
              scopes_leave_no_memory, closing_within_a_step_waits_for_its_end,
              closing_after_steps_is_at_once, steps_without_draws_do_not_shift_training,
              both_modes_draw_in_one_step, seeding_within_a_step_repeats_no_draw,
              many_scopes_draw_apart, one_path_counts_once, a_gradient_for_a_newer_version_is_said,
              errors_of_derivatives_have_their_name_and_kind);
}
