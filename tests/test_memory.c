/* test_memory.c - memory does not grow with steps; every allocation may fail, in every kind of
 * call, and nothing is lost or spoiled.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>

#include "exec/exec.h"
#include "util.h"

/* ---- no growth ------------------------------------------------------------------------------- */

static const float data[64] = {1, -2, 3, 4, -5, 6, 7, 8};

static niz_t loss_of(niz *z, int64_t batch)
{
    niz_t x = niz_from(z, NIZ_F32, NIZ_SHAPE(batch, 8), data);
    niz_t h = niz_tanh(niz_linear(x, 4, "fc1"));
    niz_t mask = niz_bernoulli(z, NIZ_SHAPE(batch, 4), .8);
    h = niz_where(mask, h, 0.0);
    return niz_mean(niz_square(niz_linear(h, 2, "fc2")));
}

static void plain_step(niz *z, int i)
{
    NIZ_STEP(z);
    niz_optim opt = niz_adam(.lr = 1e-3);
    niz_t loss = loss_of(z, 4 + i % 3);
    niz_minimize(&opt, loss);
    if (i % 2) niz_item(loss);
}

static void scoped_step(niz *z, int i)
{
    NIZ_SCOPE(z, "net%d", i % 2); /* outside the step */
    NIZ_SCOPE(z, "body");
    NIZ_STEP(z);
    NIZ_SCOPE(z, "inside");
    niz_item(niz_sum(niz_uniform(z, NIZ_F32, NIZ_SHAPE(3), 0, 1)));
}

static void nested_step(niz *z, int i)
{
    NIZ_STEP(z);
    niz_t x = niz_uniform(z, NIZ_F32, NIZ_SHAPE(100), 0, 1);
    for (int k = 0; k < 3; k++) {
        NIZ_STEP(z);
        NIZ_SCOPE(z, "k%d", k);
        niz_t y = niz_mul(x, niz_uniform(z, NIZ_F32, NIZ_SHAPE(100), 0, 1));
        if ((i + k) % 2) niz_item(niz_sum(y));
    }
    if (i % 3 == 0) return;
    niz_item(niz_sum(x));
}

static void failing_step(niz *z, int i)
{
    NIZ_STEP(z);
    niz_t w = niz_param(z, "w", NIZ_F32, NIZ_SHAPE(4), niz_constant_init(1));
    niz_assign(w, niz_add(w, 1.0));
    switch (i % 4) {
    case 0: niz_add(w, niz_ones(z, NIZ_F32, NIZ_SHAPE(5))); break;
    case 1: niz_param(z, "bad", NIZ_I32, NIZ_SHAPE(3), niz_normal_init()); break;
    case 2: niz_item(niz_sum(niz_take(w, 0, niz_full(z, NIZ_I32, NIZ_SHAPE(1), 99)))); break;
    default: niz_parse(z, "%0 = nonsense", 0, NULL, 0, NULL); break;
    }
    niz_clear_error(z);
}

static void literal_step(niz *z, int i)
{
    NIZ_STEP(z);
    niz_item(niz_sum(niz_mul(niz_from(z, NIZ_F32, NIZ_SHAPE(64), data), 0.1 * i)));
}

static void snapshot_step(niz *z, int i)
{
    plain_step(z, i);
    niz_snapshot *s = niz_snapshot_take(z);
    niz_snapshot_restore(z, s);
    niz_snapshot_free(z, s);
    NIZ_STEP(z);
    niz_t y;
    niz_parse(z, "%0 = literal value=2 : f32[]\n%1 = exp %0 : f32[]\nreturn %1\n", 0, NULL, 1, &y);
    niz_item(y);
}

static void expect_no_growth(void (*step)(niz *, int))
{
    util_memory m = {0};
    niz *z = util_open_counting(&m);
    int i = 0;
    for (; i < 120; i++) step(z, i);
    int64_t bytes = niz_statistics(z).bytes_now;
    long live = m.live;
    for (; i < 10020; i++) step(z, i);
    expect_ok(z);
    ck_assert_int_eq(niz_statistics(z).bytes_now, bytes);
    ck_assert_int_eq(m.live, live);
    niz_close(z);
    ck_assert_int_eq(m.live, 0);
}

START_TEST(training_steps_do_not_grow)
{
    expect_no_growth(plain_step);
}
END_TEST

START_TEST(scopes_around_steps_do_not_grow)
{
    expect_no_growth(scoped_step);
}
END_TEST

START_TEST(nested_steps_do_not_grow)
{
    expect_no_growth(nested_step);
}
END_TEST

START_TEST(steps_with_errors_do_not_grow)
{
    expect_no_growth(failing_step);
}
END_TEST

START_TEST(changing_literals_do_not_grow)
{
    expect_no_growth(literal_step);
}
END_TEST

START_TEST(snapshots_and_texts_do_not_grow)
{
    expect_no_growth(snapshot_step);
}
END_TEST

START_TEST(inner_steps_of_one_long_step_do_not_grow)
{
    util_memory m = {0};
    niz *z = util_open_counting(&m);
    {
        NIZ_STEP(z);
        int64_t bytes = 0;
        for (int i = 0; i < 5000; i++) {
            if (i == 100) bytes = niz_statistics(z).bytes_now;
            NIZ_STEP(z);
            niz_item(niz_sum(niz_uniform(z, NIZ_F32, NIZ_SHAPE(3), 0, 1)));
        }
        ck_assert_int_eq(niz_statistics(z).bytes_now, bytes);
    }
    niz_close(z);
    ck_assert_int_eq(m.live, 0);
}
END_TEST

START_TEST(a_context_closed_within_a_step_goes_with_it)
{
    util_memory m = {0};
    niz *z = util_open_counting(&m);
    {
        NIZ_STEP(z);
        NIZ_SCOPE(z, "s");
        niz_optim opt = niz_sgd(.lr = 1);
        niz_t loss = loss_of(z, 3);
        niz_minimize(&opt, loss);
        niz_item(loss);
        niz_copy_from(z, NIZ_F32, NIZ_SHAPE(64), data);
        niz_minimize(&opt, loss_of(z, 4)); /* pending for ever */
        niz_close(z);
        ck_assert(!niz_is_valid(niz_exp(loss)));
        ck_assert(isnan(niz_item(loss)));
        niz_close(z);
    }
    ck_assert_int_eq(m.live, 0);
}
END_TEST

/* ---- every allocation fails once ------------------------------------------------------------- */

#define STATES 64

/* The hashes of parameters that a run without failures goes through. */
typedef struct states {
    char hash[STATES][33];
    int n;
} states;

static void note(states *s, niz *z)
{
    if (!s) return;
    ck_assert_int_lt(s->n, STATES);
    niz_param_hash(z, s->hash[s->n++]);
}

static void record_and_run(niz *z, states *s)
{
    for (int i = 0; i < 3; i++) {
        NIZ_STEP(z);
        NIZ_SCOPE(z, "scope");
        niz_t x = niz_from(z, NIZ_F32, NIZ_SHAPE(4, 8), data), g[2], t;
        note(s, z);
        niz_t w = niz_param(z, "w", NIZ_F32, NIZ_SHAPE(8, 3), niz_normal_init());
        note(s, z);
        niz_t b = niz_param(z, "b", NIZ_F32, NIZ_SHAPE(3), niz_uniform_init());
        note(s, z);
        niz_t y = niz_add(niz_matmul(x, w), b), p[2] = {w, b};
        niz_t loss = niz_mean(niz_softmax(niz_tanh(y), 1));
        niz_grad(loss, 2, p, g);
        niz_jvp(1, p, g, 1, &loss, &t);
        niz_assign(w, niz_sub(w, niz_mul(g[0], 0.1 * i)));
        niz_assign(b, niz_sub(b, niz_mul(g[1], niz_scalar(z, NIZ_F32, .1))));
        niz_t kernel = niz_ones(z, NIZ_F32, NIZ_SHAPE(3, 2, 3, 3));
        niz_t c = niz_conv(niz_reshape(x, NIZ_SHAPE(1, 2, 4, 4)), kernel);
        niz_t u = niz_concat(2, ((niz_t[]){x, niz_uniform(z, NIZ_F32, NIZ_SHAPE(4, 8), 0, 1)}), 0);
        NIZ_RUN(z, loss, t, c);
        note(s, z);
        niz_item(niz_sum(niz_take(u, 0, niz_full(z, NIZ_I32, NIZ_SHAPE(2), i))));
        niz_copy_from(z, NIZ_F32, NIZ_SHAPE(64), data);
        niz_params_of(loss, 2, p);
    }
    note(s, z);
}

static void texts_and_snapshots(niz *z, states *s)
{
    float v[6] = {1, 2, 3, 4, 5, 6};
    note(s, z);
    niz_param_info all[2] = {{"one", NIZ_F32, NIZ_SHAPE(6), true, v},
                             {"two", NIZ_F32, NIZ_SHAPE(2, 3), false, v}};
    niz_param_set_all(z, 2, all);
    note(s, z);
    niz_snapshot *kept = niz_snapshot_take(z);
    {
        NIZ_STEP(z);
        niz_t w = niz_param(z, "one", NIZ_F32, NIZ_SHAPE(6), niz_constant_init(0)), y;
        FILE *f = fopen("/dev/null", "w");
        y = niz_exp(niz_stack(2, ((niz_t[]){w, niz_neg(w)}), 1));
        niz_print(f, 1, &y);
        niz_dot(f, 1, &y);
        niz_plan_print(f, z, 1, &y, NULL);
        fclose(f);
        niz_parse(z,
                  "%0 = param of=\"three\" : f32[4]\n%1 = exp %0 : f32[4]\n"
                  "%2 = reshape %1 dims=[2,2] : f32[2,2]\nreturn %2\n",
                  0, NULL, 1, &y);
        note(s, z);
        niz_item(niz_sum(y));
        niz_assign(w, niz_add(w, 1.0));
    }
    note(s, z);
    if (kept) niz_snapshot_restore(z, kept);
    note(s, z);
    niz_snapshot_free(z, kept);
    for (int i = 0; i < 40; i++) { /* tables grow */
        char name[32];
        snprintf(name, sizeof name, "many%d", i);
        niz_param_set(z, name, NIZ_F32, NIZ_SHAPE(6), true, v);
        if (s && i < 40) note(s, z);
    }
}

typedef void work(niz *z, states *s);

static bool is_state(const states *s, niz *z)
{
    char now[33];
    niz_param_hash(z, now);
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->hash[i], now)) return true;
    return niz_param_count(z) == 0;
}

static void fail_everywhere(work *f, bool all_later)
{
    states s = {.n = 0};
    util_memory m = {0};
    niz *z = util_open_counting(&m);
    f(z, &s);
    expect_ok(z);
    char end[33];
    niz_param_hash(z, end);
    niz_close(z);
    ck_assert_int_eq(m.live, 0);
    long total = m.asked;
    ck_assert_int_gt(total, 20);
    for (long n = 1; n <= total; n++) {
        m = (util_memory){.fail_at = n, .fail_all = all_later};
        z = util_open_counting(&m);
        if (!z) {
            ck_assert_int_eq(m.live, 0);
            continue;
        }
        f(z, NULL);
        ck_assert_int_gt(m.failed, 0);
        ck_assert_msg(niz_error(z) == NIZ_OK || niz_error(z) == NIZ_E_MEMORY, "request %ld: %s", n,
                      niz_message(z));
        ck_assert_msg(is_state(&s, z), "request %ld: the parameters are in no known state", n);
        m.fail_at = 0;
        niz_clear_error(z);
        f(z, NULL);
        ck_assert_msg(niz_error(z) == NIZ_OK, "after request %ld: %s", n, niz_message(z));
        niz_close(z);
        ck_assert_msg(m.live == 0, "request %ld: %ld blocks are left", n, m.live);
    }
}

START_TEST(one_refusal_while_recording_and_running)
{
    fail_everywhere(record_and_run, false);
}
END_TEST

START_TEST(refusals_from_one_on_while_recording_and_running)
{
    fail_everywhere(record_and_run, true);
}
END_TEST

START_TEST(one_refusal_with_texts_and_snapshots)
{
    fail_everywhere(texts_and_snapshots, false);
}
END_TEST

START_TEST(refusals_from_one_on_with_texts_and_snapshots)
{
    fail_everywhere(texts_and_snapshots, true);
}
END_TEST

static void train_layers(niz *z, states *s)
{
    for (int i = 0; i < 3; i++) {
        note(s, z);
        plain_step(z, i);
    }
    note(s, z);
}

/* Layers make parameters in the middle of a step: known states are too many to list here. */
START_TEST(layers_and_optimisers_survive_refusals)
{
    util_memory m = {0};
    niz *z = util_open_counting(&m);
    train_layers(z, NULL);
    niz_close(z);
    long total = m.asked;
    for (int all = 0; all < 2; all++)
        for (long n = 1; n <= total; n++) {
            m = (util_memory){.fail_at = n, .fail_all = all};
            if (!(z = util_open_counting(&m))) continue;
            train_layers(z, NULL);
            ck_assert(niz_error(z) == NIZ_OK || niz_error(z) == NIZ_E_MEMORY);
            m.fail_at = 0;
            niz_clear_error(z);
            train_layers(z, NULL);
            ck_assert_msg(niz_error(z) == NIZ_OK, "after request %ld: %s", n, niz_message(z));
            niz_close(z);
            ck_assert_msg(m.live == 0, "request %ld: %ld blocks are left", n, m.live);
        }
}
END_TEST

START_TEST(an_absurd_request_is_an_error)
{
    util_memory m = {0};
    niz *z = util_open_counting(&m);
    niz_t x = niz_full(z, NIZ_F64, NIZ_SHAPE(1LL << 55), 1);
    expect_ok(z);
    ck_assert_int_eq(NIZ_RUN(z, niz_exp(x), niz_cast(x, NIZ_F32)), NIZ_E_MEMORY);
    expect_error(z, NIZ_E_MEMORY, "bytes");
    ck_assert_double_eq(niz_item(niz_select(x, 0, 12345)), 1);
    ck_assert_ptr_null(niz_realloc(z, NULL, SIZE_MAX - 8));
    expect_error(z, NIZ_E_MEMORY, "bytes");
    niz_close(z);
}
END_TEST

/* A large result is freed with its step; the next step's takes its place without asking. */
START_TEST(large_results_are_not_asked_for_again)
{
    util_memory m = {0};
    niz *z = util_open_counting(&m);
    long large = 0;
    for (int i = 0; i < 30; i++) {
        NIZ_STEP(z);
        niz_t y = niz_add(niz_iota(z, NIZ_F32, NIZ_SHAPE(1 << 19), 0), (double)i); /* 2 MB */
        NIZ_RUN(z, y);
        if (i == 5) large = m.large;
    }
    ck_assert_int_ge(large, 1);
    ck_assert_int_eq(m.large, large);
    ck_assert_int_lt(niz_statistics(z).bytes_now, 6 << 20);
    niz_close(z);
    ck_assert_int_eq(m.live, 0);
}
END_TEST

/* An allocator whose blocks lie at any multiple of 16: each has its own address before it. */
static void *odd_realloc(void *user, void *p, size_t bytes)
{
    int *count = user;
    void *old = p ? ((void **)p)[-1] : NULL;
    ptrdiff_t at = old ? (char *)p - (char *)old : 0;
    if (!bytes) {
        free(old);
        return NULL;
    }
    char *block = realloc(old, bytes + 96);
    ptrdiff_t to = 16 + 16 * (++*count % 5);
    if (at && block) memmove(block + to, block + at, bytes);
    if (block) ((void **)(void *)(block + to))[-1] = block;
    return block ? block + to : NULL;
}

/* From a kilobyte on, wherever the allocator puts its blocks; what was in them stays in them. */
START_TEST(large_blocks_begin_with_a_cache_line)
{
    int count = 0;
    niz_options o = {.realloc = odd_realloc, .user = &count};
    niz *z = niz_open(&o);
    unsigned char *p = NULL;
    size_t before = 0;
    static const size_t sizes[] = {1000, 1024, 5000, 5001, 100000, 30, 2000, 7, 1023, 1024};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        p = niz_realloc(z, p, sizes[i]);
        ck_assert_ptr_nonnull(p);
        if (sizes[i] >= 1024) ck_assert_uint_eq((uintptr_t)p % 64, 0);
        for (size_t k = 0; k < before && k < sizes[i]; k++) ck_assert_uint_eq(p[k], k % 251);
        for (size_t k = 0; k < sizes[i]; k++) p[k] = (unsigned char)(k % 251);
        before = sizes[i];
    }
    niz_free(z, p);
    niz_param_info w =
        niz_param_of(niz_param(z, "w", NIZ_F32, NIZ_SHAPE(100, 7), niz_constant_init(1)));
    ck_assert_uint_eq((uintptr_t)w.data % 64, 0);
    niz_close(z);
}
END_TEST

/* So do what a run computes in and its loops' scratch, each thread's, be they ever so small. */
START_TEST(runs_compute_on_cache_lines)
{
    int count = 0;
    niz *z = niz_open(&(niz_options){.threads = 3, .realloc = odd_realloc, .user = &count});
    for (int64_t n = 1; n < 100000; n *= 7) {
        NIZ_STEP(z);
        niz_t x = niz_iota(z, NIZ_F32, NIZ_SHAPE(n), 0);
        double sum = niz_item(niz_sum(niz_tanh(niz_sqrt(niz_add(x, niz_mean(x))))));
        ck_assert(isfinite(sum));
        const niz_exec *e = niz_exec_of(z);
        ck_assert_uint_eq((uintptr_t)e->arena % 64, 0);
        ck_assert_uint_eq((uintptr_t)e->scratch % 64, 0);
        ck_assert_uint_eq(e->scratch_bytes % 64, 0);
    }
    niz_close(z);
}
END_TEST

int main(void)
{
    UTIL_MAIN(
        "memory", training_steps_do_not_grow, scopes_around_steps_do_not_grow,
        nested_steps_do_not_grow, steps_with_errors_do_not_grow, changing_literals_do_not_grow,
        snapshots_and_texts_do_not_grow, inner_steps_of_one_long_step_do_not_grow,
        a_context_closed_within_a_step_goes_with_it, one_refusal_while_recording_and_running,
        refusals_from_one_on_while_recording_and_running, one_refusal_with_texts_and_snapshots,
        refusals_from_one_on_with_texts_and_snapshots, layers_and_optimisers_survive_refusals,
        large_results_are_not_asked_for_again, an_absurd_request_is_an_error,
        large_blocks_begin_with_a_cache_line, runs_compute_on_cache_lines);
}
