/* test_call.c - fixed functions: the bits of recorded steps, whatever they are made of and whatever
 * happens between the calls; refusals; memory.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <unistd.h>

#include "util.h"

#define BATCH 8
#define IN 12
#define CLASSES 5
#define STEPS 25

#define PTRS(...) ((const void *const[]){__VA_ARGS__})
#define OUTS(...) ((void *const[]){__VA_ARGS__})

static float image[STEPS][BATCH * IN];
static int32_t label[STEPS][BATCH];

static void fill_data(void)
{
    util_rng r = {11};
    for (int s = 0; s < STEPS; s++) {
        for (int i = 0; i < BATCH * IN; i++) image[s][i] = (float)util_real(&r, -1, 1);
        for (int i = 0; i < BATCH; i++) label[s][i] = util_below(&r, CLASSES);
    }
}

/* ---- training: recorded each time, and fixed ------------------------------------------------- */

typedef struct job {
    niz_optim opt;
    bool scheduled; /* the learning rate is input 2 */
} job;

static niz_t loss_of(niz_t x, niz_t y)
{
    niz_t h = niz_gelu(niz_linear(x, 16, "fc1"));
    h = niz_batch_norm(niz_dropout(h, 0.3), "norm");
    NIZ_SCOPE(x.z, "top");
    h = niz_dropout(h, 0.1);
    return niz_cross_entropy(niz_linear(h, CLASSES, "fc2"), y);
}

static void train(niz *z, void *arg, const niz_t *in, niz_t *out)
{
    job *j = arg;
    (void)z;
    niz_optim opt = j->opt;
    if (j->scheduled) opt.rate = in[2];
    out[0] = loss_of(in[0], in[1]);
    niz_minimize(&opt, out[0]);
}

static double rate_at(const job *j, int step)
{
    return j->scheduled ? j->opt.lr / (1 + step) : j->opt.lr;
}

typedef struct trained {
    float loss[STEPS];
    char hash[33];
    niz_counters counters;
} trained;

/* Between steps: a parameter is overwritten, an evaluation draws, a seed is set. */
static void disturb(niz *z, int step)
{
    float bias[CLASSES] = {0.1f * (float)step, 0, -1, 2, 0};
    if (step == 7) niz_param_set(z, "net.top.fc2.bias", NIZ_F32, NIZ_SHAPE(CLASSES), true, bias);
    if (step == 11) {
        NIZ_STEP(z);
        niz_item(niz_sum(niz_uniform(z, NIZ_F32, NIZ_SHAPE(3), 0, 1)));
    }
    if (step == 17) niz_seed(z, 5);
}

static trained train_recorded(const job *j, int threads)
{
    trained t;
    niz *z = niz_open(&(niz_options){.threads = threads, .seed = 3});
    for (int s = 0; s < STEPS; s++) {
        {
            NIZ_STEP(z);
            NIZ_SCOPE(z, "net");
            niz_optim opt = j->opt;
            opt.lr = rate_at(j, s);
            niz_t x = niz_from(z, NIZ_F32, NIZ_SHAPE(BATCH, IN), image[s]);
            niz_t loss = loss_of(x, niz_from(z, NIZ_I32, NIZ_SHAPE(BATCH), label[s]));
            niz_minimize(&opt, loss);
            niz_read(loss, &t.loss[s], sizeof t.loss[s]);
        }
        disturb(z, s);
    }
    expect_ok(z);
    niz_param_hash(z, t.hash);
    t.counters = niz_counters_get(z);
    niz_close(z);
    return t;
}

static niz_fn *compile_training(niz *z, job *j)
{
    NIZ_SCOPE(z, "net");
    const niz_type_spec in[] = {
        {NIZ_F32, NIZ_SHAPE(BATCH, IN)}, {NIZ_I32, NIZ_SHAPE(BATCH)}, {NIZ_F64, NIZ_SCALAR}};
    return niz_compile(z, train, j, 2 + j->scheduled, in, 1);
}

static trained train_fixed(job *j, int threads, bool in_step)
{
    trained t;
    niz *z = niz_open(&(niz_options){.threads = threads, .seed = 3});
    niz_fn *f = compile_training(z, j);
    expect_ok(z);
    ck_assert_ptr_nonnull(f);
    for (int s = 0; s < STEPS; s++) {
        double rate = rate_at(j, s);
        {
            niz_step_guard guard = {NULL};
            if (in_step) guard = niz_step_begin(z);
            niz_call(f, PTRS(image[s], label[s], &rate), OUTS(&t.loss[s]));
            niz_step_end(&guard);
        }
        disturb(z, s);
    }
    expect_ok(z);
    niz_param_hash(z, t.hash);
    t.counters = niz_counters_get(z);
    niz_close(z);
    return t;
}

static void same_training(job j, int threads, bool in_step)
{
    trained a = train_recorded(&j, 1), b = train_fixed(&j, threads, in_step);
    for (int s = 0; s < STEPS; s++)
        ck_assert_msg(!memcmp(&a.loss[s], &b.loss[s], sizeof(float)), "step %d: %.9g, not %.9g", s,
                      (double)b.loss[s], (double)a.loss[s]);
    ck_assert_str_eq(a.hash, b.hash);
    ck_assert_mem_eq(&a.counters, &b.counters, sizeof a.counters);
}

START_TEST(calls_train_as_recorded_steps_do)
{
    fill_data();
    const niz_optim opt[] = {niz_sgd(.lr = 0.1), niz_sgd(.lr = 0.05, .momentum = 0.9, .l2 = 1e-3),
                             niz_adam(.lr = 0.01), niz_adamw(.lr = 0.01, .clip_norm = 0.5)};
    for (int i = 0; i < NIZ_COUNT(opt); i++)
        for (int scheduled = 0; scheduled < 2; scheduled++)
            same_training((job){opt[i], scheduled}, 1 + 2 * scheduled, i == 1);
}
END_TEST

START_TEST(compiled_kernels_change_no_bit)
{
    fill_data();
    setenv("NIZ_JIT", "sync", 1);
    same_training((job){niz_adam(.lr = 0.01), false}, 2, false);
    setenv("NIZ_JIT", "async", 1);
    same_training((job){niz_adam(.lr = 0.01), true}, 2, false);
    setenv("NIZ_JIT", "off", 1);
}
END_TEST

/* ---- kernels --------------------------------------------------------------------------------- */

static void hidden(niz *z, void *arg, const niz_t *in, niz_t *out)
{
    (void)z;
    (void)arg;
    out[0] = niz_tanh(niz_mul(in[0], 0.5));
}

/* No plan cache meets its plan again, yet it is there to be called again. */
START_TEST(a_function_is_compiled_in_the_background)
{
    static float x[100], y[100];
    niz *z = niz_open(&(niz_options){.jit = NIZ_JIT_ASYNC});
    niz_type_spec in = {NIZ_F32, NIZ_SHAPE(100)};
    niz_fn *f = niz_compile(z, hidden, NULL, 1, &in, 1);
    expect_ok(z);
    for (int i = 0; i < 1000 && !niz_statistics(z).runs_compiled; i++) {
        ck_assert_int_eq(niz_call(f, PTRS(x), OUTS(y)), NIZ_OK);
        usleep(10000);
    }
    ck_assert_int_gt(niz_statistics(z).runs_compiled, 0);
    niz_close(z);
}
END_TEST

/* ---- outputs of every kind ------------------------------------------------------------------- */

static const float three[3] = {1, 2, 3};

static void every_output(niz *z, void *arg, const niz_t *in, niz_t *out)
{
    (void)arg;
    niz_t w = niz_param(z, "w", NIZ_F32, NIZ_SHAPE(3), niz_constant_init(10));
    niz_t v = niz_param(z, "v", NIZ_F32, NIZ_SHAPE(3), niz_constant_init(7));
    out[0] = niz_add(in[0], w);
    out[1] = in[0];
    out[2] = niz_copy_from(z, NIZ_F32, NIZ_SHAPE(3), three);
    out[3] = v;
    out[4] = w; /* as it was before the update */
    niz_assign(w, niz_mul(w, 2));
    out[5] = niz_param(z, "w", NIZ_F32, NIZ_SHAPE(3), niz_constant_init(10));
    out[6] = out[0];
    out[7] = niz_full(z, NIZ_F32, NIZ_SHAPE(3), 4);
    out[8] = niz_scalar(z, NIZ_F64, 2.5);
    out[9] = in[1];
}

START_TEST(outputs_may_be_anything)
{
    niz *z = util_open();
    const niz_type_spec in[] = {{NIZ_F32, NIZ_SHAPE(3)}, {NIZ_I64, NIZ_SHAPE(0, 2)}};
    niz_fn *f = niz_compile(z, every_output, NULL, 2, in, 10);
    expect_ok(z);
    ck_assert_int_eq(niz_fn_type(f, 8).dtype, NIZ_F64);
    ck_assert_int_eq(niz_fn_type(f, 8).shape.rank, 0);
    ck_assert_int_eq(niz_fn_type(f, 9).shape.dim[1], 2);
    ck_assert_int_eq(niz_fn_type(f, 10).dtype, NIZ_F32);
    ck_assert_int_eq(niz_fn_type(f, -1).shape.rank, 0);
    ck_assert_int_eq(niz_fn_type(NULL, 0).shape.rank, 0);
    unsigned char memory[9][16]; /* at odd places: any that its dtype allows */
    float x[4] = {0, 0.5f, -1, 8}, w = 10;
    double scalar = 0;
    for (int call = 0; call < 3; call++, w *= 2) {
        void *out[10];
        for (int i = 0; i < 10; i++) out[i] = i == 8 ? (void *)&scalar : &memory[i % 9][4];
        out[9] = NULL;
        if (call == 1) out[0] = out[5] = NULL; /* not wanted: the update happens all the same */
        ck_assert_int_eq(niz_call(f, PTRS(x + 1, NULL), out), NIZ_OK);
        for (int i = 0; i < 3; i++) {
            const float want[8] = {x[i + 1] + w, x[i + 1], three[i], 7, w, 2 * w, x[i + 1] + w, 4};
            for (int k = 0; k < 8; k++) {
                float got;
                memcpy(&got, &memory[k][4 + 4 * i], sizeof got);
                if (out[k]) ck_assert_msg(got == want[k], "output %d: %g", k, (double)got);
            }
        }
        ck_assert_double_eq(scalar, 2.5);
    }
    ck_assert_int_eq(niz_call(f, PTRS(x, NULL), NULL), NIZ_OK);
    NIZ_STEP(z);
    ck_assert_double_eq(niz_item(niz_sum(niz_find(z, "w"))), 3 * 160);
    niz_close(z);
}
END_TEST

static void none(niz *z, void *arg, const niz_t *in, niz_t *out)
{
    (void)z, (void)arg, (void)in, (void)out;
}

static void same(niz *z, void *arg, const niz_t *in, niz_t *out)
{
    (void)z, (void)arg;
    out[0] = in[0];
}

START_TEST(a_function_may_do_nothing)
{
    niz *z = util_open();
    niz_fn *f = niz_compile(z, none, NULL, 0, NULL, 0);
    ck_assert_int_eq(niz_call(f, NULL, NULL), NIZ_OK);
    niz_fn *g = niz_compile(z, same, NULL, 1, &(niz_type_spec){NIZ_I32, NIZ_SCALAR}, 1);
    int32_t a = 5, b = 0;
    ck_assert_int_eq(niz_call(g, PTRS(&a), OUTS(&b)), NIZ_OK);
    ck_assert_int_eq(b, 5);
    expect_ok(z);
    niz_close(z);
}
END_TEST

/* ---- within steps ---------------------------------------------------------------------------- */

static void double_w(niz *z, void *arg, const niz_t *in, niz_t *out)
{
    niz_t w = niz_find(z, "w");
    (void)in;
    out[0] = niz_sum(w);
    niz_assign(w, niz_mul(w, 2));
    if (arg) *(niz_t *)arg = out[0];
}

START_TEST(calls_and_steps_see_each_others_updates)
{
    niz *z = util_open();
    const float one[2] = {1, 1};
    float sum;
    niz_t leaked;
    niz_param_set(z, "w", NIZ_F32, NIZ_SHAPE(2), true, one);
    {
        NIZ_STEP(z);
        niz_t before = niz_find(z, "w"), y = niz_sum(niz_square(before));
        niz_t kept = niz_sum(before); /* an equal node of the function is not this one */
        ck_assert_double_eq(niz_item(kept), 2);
        niz_assign(before, niz_mul(before, 3)); /* pending: the compiling runs it */
        niz_fn *f = niz_compile(z, double_w, &leaked, 0, NULL, 1);
        expect_ok(z);
        ck_assert(!niz_is_valid(leaked));
        ck_assert_int_eq(niz_call(f, NULL, OUTS(&sum)), NIZ_OK);
        ck_assert(sum == 6);
        niz_t now = niz_find(z, "w");
        ck_assert_double_eq(niz_item(niz_sum(now)), 12);
        niz_assign(now, niz_add(now, 1)); /* pending: the call runs it */
        ck_assert_int_eq(niz_call(f, NULL, OUTS(&sum)), NIZ_OK);
        ck_assert(sum == 14);
        ck_assert_double_eq(niz_item(niz_sum(niz_find(z, "w"))), 28);
        ck_assert_double_eq(niz_item(kept), 2);
        niz_item(y);
        expect_error(z, NIZ_E_VERSION, "as it was before the update at");
        niz_t p = niz_find(z, "w"), g;
        niz_grad(niz_sum(niz_square(niz_find(z, "w"))), 1, &p, &g); /* both are one node */
        ck_assert_double_eq(niz_item(niz_sum(g)), 56);
    }
    expect_ok(z);
    niz_close(z);
}
END_TEST

static void draw(niz *z, void *arg, const niz_t *in, niz_t *out)
{
    (void)in;
    niz_set_training(z, !*(bool *)arg);
    out[0] = niz_uniform(z, NIZ_F64, NIZ_SCALAR, 0, 1);
    niz_set_training(z, true);
    out[1] = niz_uniform(z, NIZ_F64, NIZ_SCALAR, 0, 1);
}

START_TEST(draws_of_training_and_evaluation_go_on_apart)
{
    for (int eval = 0; eval < 2; eval++) {
        bool is_eval = eval;
        niz *a = util_open(), *b = util_open();
        niz_fn *f = niz_compile(a, draw, &is_eval, 0, NULL, 2);
        for (int i = 0; i < 5; i++) {
            double p[2], q[2];
            niz_t t[2];
            ck_assert_int_eq(niz_call(f, NULL, OUTS(&p[0], &p[1])), NIZ_OK);
            NIZ_STEP(b);
            draw(b, &is_eval, NULL, t);
            q[0] = niz_item(t[0]);
            q[1] = niz_item(t[1]);
            ck_assert_mem_eq(p, q, sizeof p);
        }
        niz_counters p = niz_counters_get(a), q = niz_counters_get(b);
        ck_assert_mem_eq(&p, &q, sizeof p);
        niz_close(a);
        niz_close(b);
    }
}
END_TEST

/* ---- refusals -------------------------------------------------------------------------------- */

typedef struct wrong {
    int what;
    niz_t outside;
    niz_fn *other;
} wrong;

static void do_wrong(niz *z, void *arg, const niz_t *in, niz_t *out)
{
    wrong *w = arg;
    float v[3];
    out[0] = niz_neg(in[0]);
    switch (w->what) {
    case 0: niz_item(niz_sum(in[0])); break;
    case 1: niz_read(in[0], v, sizeof v); break;
    case 2: NIZ_RUN(z, out[0]); break;
    case 3: {
        NIZ_STEP(z);
        break;
    }
    case 4: niz_call(w->other, PTRS(v), OUTS(v)); break;
    case 5: out[0] = niz_add(in[0], w->outside); break;
    case 6: niz_seed(z, 4); break;
    case 7: out[0] = NIZ_NO_TENSOR; break;
    case 8: out[0] = niz_add(in[0], niz_ones(z, NIZ_F32, NIZ_SHAPE(4))); break;
    case 9: out[0] = w->outside; break;
    case 10: niz_snapshot_take(z); break;
    case 11: niz_fail(z, NIZ_HERE, NIZ_E_IO, "as the user says"); break;
    }
}

START_TEST(what_needs_values_or_is_from_outside_is_refused)
{
    const struct {
        niz_status status;
        const char *part;
    } want[] = {
        {NIZ_E_ARGUMENT, "nothing can be run or read in a function that is compiled"},
        {NIZ_E_ARGUMENT, "nothing can be run"},
        {NIZ_E_ARGUMENT, "nothing can be run"},
        {NIZ_E_ARGUMENT, "is one step: none can begin in it"},
        {NIZ_E_ARGUMENT, "a fixed function cannot be called in one that is compiled"},
        {NIZ_E_STALE, "is not a tensor of the function being compiled: give it as an input"},
        {NIZ_E_ARGUMENT, "cannot set the counters of draws"},
        {NIZ_E_ARGUMENT, "has not set output 0 of its 1"},
        {NIZ_E_SHAPE, "broadcast"},
        {NIZ_E_ARGUMENT, "has not set output 0 of its 1"},
        {NIZ_E_ARGUMENT, "nothing can be run"},
        {NIZ_E_IO, "as the user says"}};
    const niz_type_spec in = {NIZ_F32, NIZ_SHAPE(3)};
    niz *z = util_open();
    float x[3] = {1, 2, 3}, y[3];
    niz_fn *good = niz_compile(z, same, NULL, 1, &in, 1);
    NIZ_STEP(z);
    wrong w = {.outside = niz_from(z, NIZ_F32, NIZ_SHAPE(3), x), .other = good};
    for (w.what = 0; w.what < NIZ_COUNT(want); w.what++) {
        ck_assert_ptr_null(niz_compile(z, do_wrong, &w, 1, &in, 1));
        ck_assert_ptr_null(niz_compile(z, same, NULL, 1, &in, 1)); /* the error sticks */
        ck_assert_int_eq(niz_call(good, PTRS(x), OUTS(y)), want[w.what].status);
        expect_error(z, want[w.what].status, want[w.what].part);
        ck_assert(niz_is_valid(w.outside));
        ck_assert_double_eq(niz_item(niz_sum(w.outside)), 6);
        expect_ok(z);
    }
    niz_close(z);
}
END_TEST

START_TEST(wrong_arguments_are_refused)
{
    niz *z = util_open();
    niz_type_spec in[2] = {{NIZ_F32, NIZ_SHAPE(3)}, {NIZ_F32, NIZ_SHAPE(3)}};
    float x[3] = {1, 2, 3}, y[3];
    ck_assert_ptr_null(niz_compile(NULL, same, NULL, 1, in, 1));
    ck_assert_ptr_null(niz_compile(z, NULL, NULL, 1, in, 1));
    expect_error(z, NIZ_E_ARGUMENT, util_place(__FILE__, __LINE__ - 1));
    ck_assert_ptr_null(niz_compile(z, same, NULL, 1, NULL, 1));
    expect_error(z, NIZ_E_ARGUMENT, "needs a function, the types of 1 inputs");
    ck_assert_ptr_null(niz_compile(z, same, NULL, -1, in, 1));
    expect_error(z, NIZ_E_ARGUMENT, "compile");
    ck_assert_ptr_null(niz_compile(z, same, NULL, 1, in, -1));
    expect_error(z, NIZ_E_ARGUMENT, "compile");
    in[1].shape.dim[0] = -3;
    ck_assert_ptr_null(niz_compile(z, same, NULL, 2, in, 1));
    expect_error(z, NIZ_E_SHAPE, "a size is negative");
    in[1] = (niz_type_spec){(niz_dtype)77, NIZ_SCALAR};
    ck_assert_ptr_null(niz_compile(z, same, NULL, 2, in, 1));
    expect_error(z, NIZ_E_DTYPE, "77 is not a dtype");
    niz_fn *f = niz_compile(z, same, NULL, 1, in, 1);
    ck_assert_int_eq(niz_call(f, PTRS(NULL), OUTS(y)), NIZ_E_ARGUMENT);
    expect_error(z, NIZ_E_ARGUMENT, "no data: input 0 is NULL");
    ck_assert_int_eq(niz_call(f, NULL, OUTS(y)), NIZ_E_ARGUMENT);
    expect_error(z, NIZ_E_ARGUMENT, util_place(__FILE__, __LINE__ - 1));
    ck_assert_int_eq(niz_call(NULL, PTRS(x), OUTS(y)), NIZ_E_ARGUMENT);
    ck_assert_int_eq(niz_call(f, PTRS(x), OUTS(y)), NIZ_OK);
    niz_fn_free(NULL);
    niz_close(z);
}
END_TEST

static void rate_of_wrong_type(niz *z, void *arg, const niz_t *in, niz_t *out)
{
    niz_optim opt = niz_sgd();
    (void)arg, (void)out;
    opt.rate = in[0];
    niz_minimize(&opt, niz_sum(niz_find(z, "w")));
}

START_TEST(a_rate_of_another_type_is_refused)
{
    niz *z = util_open();
    const float one[2] = {1, 1};
    niz_param_set(z, "w", NIZ_F32, NIZ_SHAPE(2), true, one);
    const niz_type_spec type[] = {{NIZ_F32, NIZ_SCALAR}, {NIZ_F64, NIZ_SHAPE(1)}};
    for (int i = 0; i < 2; i++) {
        ck_assert_ptr_null(niz_compile(z, rate_of_wrong_type, NULL, 1, &type[i], 0));
        expect_error(z, NIZ_E_ARGUMENT, ".rate is f64 []");
    }
    niz_close(z);
}
END_TEST

/* ---- errors while running -------------------------------------------------------------------- */

static void gather_and_count(niz *z, void *arg, const niz_t *in, niz_t *out)
{
    niz_t n = niz_state(z, "n", NIZ_I64, NIZ_SCALAR, niz_constant_init(0));
    (void)arg;
    niz_assign(n, niz_add(n, 1));
    out[0] = niz_sum(niz_log(niz_gather(in[0], 0, in[1])));
}

static int64_t count_of(niz *z)
{
    NIZ_STEP(z);
    return (int64_t)niz_item(niz_find(z, "n"));
}

START_TEST(a_failing_call_commits_nothing)
{
    for (int trap = 0; trap < 2; trap++) {
        niz *z = niz_open(&(niz_options){.threads = 1, .trap_nan = trap});
        const niz_type_spec in[] = {{NIZ_F32, NIZ_SHAPE(3)}, {NIZ_I32, NIZ_SHAPE(2)}};
        niz_fn *f = niz_compile(z, gather_and_count, NULL, 2, in, 1);
        const float x[3] = {1, 1, 1}, zeros[3] = {0};
        const int32_t good[2] = {0, 2}, bad[2] = {0, 3};
        float y;
        ck_assert_int_eq(niz_call(f, PTRS(x, good), OUTS(&y)), NIZ_OK);
        ck_assert(y == 0 && count_of(z) == 1);
        ck_assert_int_eq(niz_call(f, PTRS(x, bad), OUTS(&y)), NIZ_E_INDEX);
        expect_error(z, NIZ_E_INDEX, "the index 3 is outside its axis");
        ck_assert_int_eq(count_of(z), 1);
        if (trap) {
            ck_assert_int_eq(niz_call(f, PTRS(zeros, good), OUTS(&y)), NIZ_E_NAN);
            expect_error(z, NIZ_E_NAN, "log at " __FILE__);
            ck_assert_int_eq(count_of(z), 1);
        }
        ck_assert_int_eq(niz_call(f, PTRS(x, good), OUTS(&y)), NIZ_OK);
        ck_assert_int_eq(count_of(z), 2);
        niz_close(z);
    }
}
END_TEST

/* ---- lives ----------------------------------------------------------------------------------- */

static void times(niz *z, void *arg, const niz_t *in, niz_t *out)
{
    (void)z;
    out[0] = niz_mul(in[0], *(double *)arg);
}

START_TEST(functions_outlive_the_plan_cache_and_die_with_the_context)
{
    niz *z = niz_open(&(niz_options){.threads = 1, .max_plan_nodes = 20});
    niz_fn *f[6];
    const niz_type_spec in = {NIZ_F32, NIZ_SHAPE(2)};
    float x[2] = {1, 2}, y[2];
    for (int i = 0; i < 6; i++) {
        double factor = i;
        f[i] = niz_compile(z, times, &factor, 1, &in, 1);
    }
    int64_t made = niz_statistics(z).plans_made;
    for (int i = 0; i < 10; i++) { /* each puts the one before it out */
        NIZ_STEP(z);
        niz_t t = niz_from(z, NIZ_F32, NIZ_SHAPE(2), x);
        for (int k = 0; k <= i; k++) t = niz_tanh(t);
        niz_item(niz_sum(t));
    }
    ck_assert_int_eq(niz_statistics(z).plans_made, made + 10);
    niz_fn_free(f[5]);
    niz_fn_free(f[0]);
    niz_fn_free(f[2]);
    int64_t recorded = niz_statistics(z).nodes_recorded;
    for (int i = 0; i < 6; i++) {
        if (i == 5 || i == 0 || i == 2) continue;
        ck_assert_int_eq(niz_call(f[i], PTRS(x), OUTS(y)), NIZ_OK);
        ck_assert(y[0] == (float)i && y[1] == 2 * (float)i);
    }
    ck_assert_int_eq(niz_statistics(z).plans_made, made + 10);
    ck_assert_int_eq(niz_statistics(z).nodes_recorded, recorded);
    expect_ok(z);
    niz_close(z);
}
END_TEST

static void closing(niz *z, void *arg, const niz_t *in, niz_t *out)
{
    (void)arg;
    out[0] = in[0];
    niz_close(z);
}

START_TEST(a_context_closed_meanwhile_refuses)
{
    util_memory m = {0};
    const niz_type_spec in = {NIZ_F32, NIZ_SHAPE(2)};
    float x[2] = {1, 2}, y[2];
    niz *z = util_open_counting(&m);
    ck_assert_ptr_null(niz_compile(z, closing, NULL, 1, &in, 1));
    ck_assert_int_eq(m.live, 0);
    z = util_open_counting(&m);
    niz_fn *f = niz_compile(z, same, NULL, 1, &in, 1);
    {
        NIZ_STEP(z);
        niz_close(z);
        ck_assert_int_eq(niz_call(f, PTRS(x), OUTS(y)), NIZ_E_STALE);
        ck_assert_ptr_null(niz_compile(z, same, NULL, 1, &in, 1));
    }
    ck_assert_int_eq(m.live, 0);
}
END_TEST

START_TEST(calls_take_no_memory)
{
    fill_data();
    util_memory m = {0};
    niz *z = util_open_counting(&m);
    job j = {niz_adam(.lr = 0.01), false};
    niz_fn *f = compile_training(z, &j);
    niz_call(f, PTRS(image[0], label[0]), NULL);
    long asked = m.asked;
    for (int i = 0; i < 100; i++) niz_call(f, PTRS(image[0], label[0]), NULL);
    expect_ok(z);
    ck_assert_int_eq(m.asked, asked);
    niz_close(z);
    ck_assert_int_eq(m.live, 0);
}
END_TEST

static void compile_and_call(niz *z)
{
    job j = {niz_adam(.lr = 0.01), false};
    float loss;
    niz_fn *f = compile_training(z, &j);
    for (int s = 0; s < 3 && f; s++)
        if (niz_call(f, PTRS(image[s], label[s]), s == 1 ? NULL : OUTS(&loss))) break;
    niz_fn_free(f);
}

START_TEST(every_allocation_may_fail)
{
    fill_data();
    util_memory m = {0};
    niz *z = util_open_counting(&m);
    compile_and_call(z);
    expect_ok(z);
    niz_close(z);
    long total = m.asked;
    for (int all = 0; all < 2; all++)
        for (long n = 1; n <= total; n++) {
            m = (util_memory){.fail_at = n, .fail_all = all};
            z = util_open_counting(&m);
            if (!z) continue;
            compile_and_call(z);
            ck_assert_int_gt(m.failed, 0);
            ck_assert_msg(niz_error(z) == NIZ_E_MEMORY, "request %ld: %s", n, niz_message(z));
            m.fail_at = 0;
            niz_clear_error(z);
            compile_and_call(z);
            ck_assert_msg(niz_error(z) == NIZ_OK, "after request %ld: %s", n, niz_message(z));
            niz_close(z);
            ck_assert_msg(m.live == 0, "request %ld: %ld blocks are left", n, m.live);
        }
}
END_TEST

int main(void)
{
    UTIL_MAIN("call", calls_train_as_recorded_steps_do, compiled_kernels_change_no_bit,
              a_function_is_compiled_in_the_background,
              outputs_may_be_anything, a_function_may_do_nothing,
              calls_and_steps_see_each_others_updates, draws_of_training_and_evaluation_go_on_apart,
              what_needs_values_or_is_from_outside_is_refused, wrong_arguments_are_refused,
              a_rate_of_another_type_is_refused, a_failing_call_commits_nothing,
              functions_outlive_the_plan_cache_and_die_with_the_context,
              a_context_closed_meanwhile_refuses, calls_take_no_memory, every_allocation_may_fail);
}
