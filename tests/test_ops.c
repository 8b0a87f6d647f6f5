/* test_ops.c - every operation, by its record.  No operation is named here, and none is known: the
 * records say what is computed, on what, and what must be refused.  niz_check_op does the work; the
 * second half of this file breaks records on purpose and sees each mechanism catch it.
 *
 * SPDX-License-Identifier: MIT */
#include <check.h>
#include <math.h>
#include <niz/check.h>
#include <niz/ops.h>
#include <stdlib.h>
#include <string.h>

/* ---- all records ---------------------------------------------------------------------------- */

static int64_t records, comparisons;

/* Leaves, and what belongs to a context's parameters (an attribute of kind p): graph tests. */
static bool is_operation(const niz_op *op)
{
    return op->form != NIZ_FORM_LEAF && !(op->attrs && strstr(op->attrs, ":p"));
}

START_TEST(every_record_is_right)
{
    const niz_op *op = niz_op_get(_i);
    if (!is_operation(op)) return;
    niz_check_report r = niz_check_op(op);
    ck_assert_msg(r.verdict == NIZ_CHECK_OK, "%s", r.text);
    ck_assert_int_gt(r.checks, 50);
    records++;
    comparisons += r.checks;
}
END_TEST

/* The same without the optional passes: what they rewrite has the reference's value both times. */
START_TEST(every_record_is_right_unoptimised)
{
    const niz_op *op = niz_op_get(_i);
    if (!is_operation(op)) return;
    setenv("NIZ_SKIP", "all", 1);
    niz_check_report r = niz_check_op(op);
    unsetenv("NIZ_SKIP");
    ck_assert_msg(r.verdict == NIZ_CHECK_OK, "%s", r.text);
    comparisons += r.checks;
}
END_TEST

/* Known values and values drawn, something refused where typing has more to say than a dtype. */
START_TEST(every_record_has_what_tests_need)
{
    const niz_op *op = niz_op_get(_i);
    if (!is_operation(op)) return;
    int drawn = 0, known = 0, refused = 0;
    for (int s = 0; s < op->n_samples; s++) {
        drawn += !op->samples[s].in && !op->samples[s].refused;
        known += op->samples[s].out != NULL;
        refused += op->samples[s].refused != NULL;
    }
    ck_assert_msg(drawn > 0, "%s has no sample to be drawn", op->name);
    ck_assert_msg(op->ref || op->ref_tensor, "%s has no reference", op->name);
    ck_assert_msg(op->no_gradient || op->partial || op->adjoint || op->vjp,
                  "%s has neither a derivative rule nor .no_gradient", op->name);
    ck_assert_msg(op->map || op->no_gradient || refused > 0, "%s refuses nothing", op->name);
    ck_assert_msg(known > 0 || op->no_gradient || !op->partial, "%s has no known value", op->name);
}
END_TEST

START_TEST(names_are_found_and_unique)
{
    for (int i = 0; niz_op_get(i); i++) {
        ck_assert_ptr_eq(niz_op_find(niz_op_get(i)->name), niz_op_get(i));
        for (int j = 0; j < i; j++)
            ck_assert_str_ne(niz_op_get(i)->name, niz_op_get(j)->name);
    }
    ck_assert_ptr_null(niz_op_find("no such operation"));
    ck_assert_ptr_null(niz_op_find(NULL));
    ck_assert_ptr_null(niz_op_get(-1));
}
END_TEST

/* The caller's own line is in a refusal's message, through the macro. */
START_TEST(refusals_name_the_caller)
{
    niz *z = niz_open(NULL);
    niz_step_guard step = niz_step_begin(z);
    niz_t x = niz_zeros(z, NIZ_F32, NIZ_SHAPE(2));
    for (int i = 0; niz_op_get(i); i++) {
        const niz_op *op = niz_op_get(i);
        if (!is_operation(op)) continue;
        niz_t many[70];
        for (int k = 0; k < 70; k++) many[k] = x;
        char where[64];
        niz_t y = niz_apply(op, 70, many, NULL); snprintf(where, 64, "test_ops.c:%d", __LINE__);
        ck_assert(!niz_is_valid(y));
        ck_assert_int_eq(niz_error(z), NIZ_E_ARGUMENT);
        ck_assert_msg(strstr(niz_message(z), where) != NULL, "%s", niz_message(z));
        ck_assert_msg(strstr(niz_message(z), op->name) != NULL, "%s", niz_message(z));
        niz_clear_error(z);
    }
    niz_step_end(&step);
    niz_close(z);
}
END_TEST

/* ---- broken records ------------------------------------------------------------------------- */

/* y = a² + b/2, elementwise, and what may be wrong with its record */
static niz_t sum_d(const niz_app *p, int i)
{
    return i ? niz_number_like(p->y, 0.5) : niz_mul(p->x[0], 2);
}
static niz_t sum_wrong_d(const niz_app *p, int i)
{
    return i ? niz_number_like(p->y, 0.5) : p->x[0];
}
static double sum_ref(const double *x)
{
    return x[0] * x[0] + x[1] / 2;
}
static double sum_wrong_ref(const double *x)
{
    return x[0] * x[0] + x[1] / 2 + 1e-5 * (x[1] > 1.9);
}
static const double known_in[] = {3, 2}, known_out[] = {10}, known_wrong[] = {9};
#define SHAPED .n = 2, .x = {{1, {1}}, {1, {1}}}
#define DRAWN .lo = {0.5, 0.5}, .hi = {2, 2}
static const niz_sample right_samples[] = {
    {DRAWN}, {SHAPED, .in = known_in, .out = known_out},
    {.n = 2, .x = {{1, {2}}, {1, {3}}}, .refused = "do not broadcast"},
};
static const niz_sample wrong_value[] = {{DRAWN}, {SHAPED, .in = known_in, .out = known_wrong}};
static const niz_sample not_refused[] = {
    {DRAWN}, {.n = 2, .x = {{1, {3}}, {1, {3}}}, .refused = "no"}};
static const niz_sample other_message[] = {
    {DRAWN}, {.n = 2, .x = {{1, {2}}, {1, {3}}}, .refused = "it is Tuesday"}};
static const niz_sample only_refusals[] = {
    {.n = 2, .x = {{1, {2}}, {1, {3}}}, .refused = "do not broadcast"}};
static const niz_sample only_known[] = {{SHAPED, .in = known_in, .out = known_out}};

#define SUM(...)                                                                                   \
    {                                                                                              \
        .name = "sum2", .arity = 2, .infer = niz_infer_same_float, .map = "a * a + 0.5 * b",       \
        .partial = sum_d, .ref = sum_ref, .ulp = 4e6, .samples = right_samples,                    \
        .n_samples = NIZ_COUNT(right_samples), __VA_ARGS__                                         \
    }
#define WITH(list) .samples = list, .n_samples = NIZ_COUNT(list)

/* y = x reversed, by .eval, with the mistakes of evaluation */
static bool copy_infer(niz_infer *f)
{
    f->dtype = f->x[0].dtype;
    f->shape = f->x[0].shape;
    return f->shape->rank == 1 || niz_infer_fail(f, NIZ_E_SHAPE, "needs one axis");
}
static void copy_row(niz_eval *e, int64_t stride)
{
    size_t size = niz_dtype_size(e->y.dtype);
    for (int64_t i = e->begin; i < e->end; i++)
        memcpy((char *)e->y.data + (size_t)i * size,
               (const char *)e->x[0].data + (size_t)(i * stride) * size, size);
}
static void copy_eval(niz_eval *e)
{
    copy_row(e, e->x[0].stride[0]);
}
static void copy_ignores_stride(niz_eval *e)
{
    copy_row(e, 1);
}
/* depends on how the range was cut */
static void copy_marks_piece(niz_eval *e)
{
    copy_eval(e);
    if (e->y.dtype == NIZ_F32 && e->begin > 0) ((float *)e->y.data)[e->begin] *= 1.000001f;
}
static niz_t copy_adjoint(const niz_app *p, int i, niz_t gy)
{
    (void)p, (void)i;
    return gy;
}
static void copy_ref(const niz_ref *r)
{
    memcpy(r->y, r->x[0], sizeof *r->y * (size_t)niz_shape_count(&r->shape));
}
static const niz_sample copy_samples[] = {
    {.x = {{1, {200000}}}}, {.x = {{1, {5}}}}, {.x = {{2, {5, 1}}}, .refused = "needs one axis"},
};
static bool no_name_infer(niz_infer *f)
{
    return niz_infer_same_float(f) && f->n > 0;
}
static double square_ref(const double *x)
{
    return x[0] * x[0];
}
static const niz_sample any_sample[] = {{0}};

#define COPY(...)                                                                                  \
    {                                                                                              \
        .name = "copy1", .arity = 1, .infer = copy_infer, .form = NIZ_FORM_INDEX,                  \
        .eval = copy_eval, .parallel = true, .adjoint = copy_adjoint, .ref_tensor = copy_ref,      \
        .ulp = 0, .samples = copy_samples, .n_samples = NIZ_COUNT(copy_samples), __VA_ARGS__       \
    }
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Woverride-init"
#else
#pragma clang diagnostic ignored "-Winitializer-overrides"
#endif

/* f32 alone: the wrong reference is off by 1e-5 relative to values of 1 to 5 */
static bool single_infer(niz_infer *f)
{
    if (f->x[0].dtype == NIZ_F64) return niz_infer_fail(f, NIZ_E_DTYPE, "needs f32");
    return niz_infer_same_float(f);
}

static const struct {
    const char *what;
    niz_op op;
    niz_check_verdict verdict;
    const char *says;
} record[] = {
    {"right", SUM(.ulp = 2), NIZ_CHECK_OK, "right"},
    {"right, f32 only", SUM(.ulp = 2, .infer = single_infer), NIZ_CHECK_OK, "right"},
    {"right copy", COPY(.ulp = 1), NIZ_CHECK_OK, "right"},
    {"reference", SUM(.ulp = 2, .ref = sum_wrong_ref), NIZ_CHECK_WRONG, "the reference says"},
    {"expression", SUM(.ulp = 2, .map = "a * a + 0.5000001 * b"), NIZ_CHECK_WRONG, "reference"},
    {"expression's syntax", SUM(.map = "a * a + FOO(b)"), NIZ_CHECK_ERROR, "column"},
    {"bound", SUM(.ulp = 0), NIZ_CHECK_WRONG, ".ulp is 0"},
    {"known value", SUM(.ulp = 2, WITH(wrong_value)), NIZ_CHECK_WRONG, "the known value is 9"},
    {"refusal", SUM(WITH(not_refused)), NIZ_CHECK_WRONG, "is not refused"},
    {"message", SUM(WITH(other_message)), NIZ_CHECK_WRONG, "not with \"it is Tuesday\""},
    {"rule", SUM(.ulp = 2, .partial = sum_wrong_d), NIZ_CHECK_WRONG, "ratio 0.5"},
    {"no rule", SUM(.partial = NULL), NIZ_CHECK_ERROR, "no derivative rule"},
    {"no gradient", SUM(.ulp = 2, .partial = NULL, .no_gradient = true), NIZ_CHECK_WRONG,
     "reverse 0"},
    {"no reference", SUM(.ref = NULL), NIZ_CHECK_ERROR, "no reference"},
    {"no samples", SUM(.n_samples = 0), NIZ_CHECK_ERROR, "no .samples"},
    {"no typing", SUM(.infer = NULL), NIZ_CHECK_ERROR, "no .infer"},
    {"nothing computed", SUM(WITH(only_refusals)), NIZ_CHECK_ERROR, "all its samples are refusals"},
    {"rule never checked", SUM(.ulp = 2, WITH(only_known)), NIZ_CHECK_ERROR,
     "no sample checked its derivative"},
    {"strides", COPY(.eval = copy_ignores_stride), NIZ_CHECK_WRONG, "every second element"},
    {"pieces", COPY(.eval = copy_marks_piece), NIZ_CHECK_WRONG, "threads, but"},
    {"no name", SUM(.name = "", .infer = no_name_infer), NIZ_CHECK_ERROR, "no name"},
    {"another's name", SUM(.name = "add", .ulp = 2), NIZ_CHECK_WRONG, "two different operations"},
    {"any values",
     {.name = "square2", .arity = 1, .infer = niz_infer_same_float, .map = "a * a",
      .partial = sum_d, .ref = square_ref, .ulp = 1, WITH(any_sample)},
     NIZ_CHECK_OK, "right"},
};

START_TEST(broken_records_are_caught)
{
    niz_check_report r = niz_check_op(&record[_i].op);
    ck_assert_msg(r.verdict == record[_i].verdict, "%s: %s, not %s: %s", record[_i].what,
                  niz_check_verdict_name(r.verdict), niz_check_verdict_name(record[_i].verdict),
                  r.text);
    ck_assert_msg(strstr(r.text, record[_i].says) != NULL, "%s: no \"%s\" in: %s", record[_i].what,
                  record[_i].says, r.text);
}
END_TEST

START_TEST(no_record)
{
    niz_check_report r = niz_check_op(NULL);
    ck_assert_int_eq(r.verdict, NIZ_CHECK_ERROR);
}
END_TEST

int main(void)
{
    int n = 0;
    while (niz_op_get(n)) n++;
    Suite *s = suite_create("ops");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, every_record_is_right, 0, n);
    tcase_add_loop_test(t, every_record_is_right_unoptimised, 0, n);
    tcase_add_loop_test(t, every_record_has_what_tests_need, 0, n);
    tcase_add_test(t, names_are_found_and_unique);
    tcase_add_test(t, refusals_name_the_caller);
    tcase_add_loop_test(t, broken_records_are_caught, 0, NIZ_COUNT(record));
    tcase_add_test(t, no_record);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK); /* the counts below are of all tests */
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    printf("%lld records, %lld comparisons\n", (long long)records, (long long)comparisons);
    return failed != 0;
}
