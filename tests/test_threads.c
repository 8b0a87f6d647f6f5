/* test_threads.c - contexts in threads of their own; one context with any number of threads: the
 * same bits.
 *
 * SPDX-License-Identifier: MIT */
#include <pthread.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util.h"

typedef struct job {
    uint64_t seed;
    int threads, steps;
    char hash[33];
    double loss;
    niz_status status;
} job;

/* Trains a small network with everything in it: layers, draws, plans, evaluation in between. */
static void *train(void *arg)
{
    job *j = arg;
    niz *z = niz_open(&(niz_options){.threads = j->threads, .seed = j->seed});
    niz_optim opt = niz_adam(.lr = 1e-2);
    for (int i = 0; i < j->steps; i++) {
        NIZ_STEP(z);
        niz_set_training(z, i % 5 != 4);
        niz_t x = niz_normal(z, NIZ_F32, NIZ_SHAPE(24 + i % 2, 3, 16, 16), 0, 1);
        niz_t h = niz_relu(niz_conv2d(x, 8, 3, "c", .pad = 1));
        h = niz_max_pool2d(niz_batch_norm(h, "n"), 2);
        h = niz_dropout(niz_gelu(niz_linear(niz_flatten(h, 1), 32, "fc")), .1);
        niz_t loss = niz_mean(niz_square(niz_sub(niz_linear(h, 4, "out"), 1.0)));
        if (niz_is_training(z)) niz_minimize(&opt, loss);
        j->loss = niz_item(loss);
    }
    j->status = niz_error(z);
    niz_param_hash(z, j->hash);
    niz_close(z);
    return NULL;
}

static void at_once(job *j, int n)
{
    pthread_t thread[8];
    for (int i = 0; i < n; i++) ck_assert_int_eq(pthread_create(&thread[i], NULL, train, &j[i]), 0);
    for (int i = 0; i < n; i++) ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
}

static void expect_alone(const job *j)
{
    job alone = {.seed = j->seed, .threads = 1, .steps = j->steps};
    train(&alone);
    ck_assert_int_eq(alone.status, NIZ_OK);
    ck_assert_int_eq(j->status, NIZ_OK);
    ck_assert_str_eq(alone.hash, j->hash);
    ck_assert_mem_eq(&alone.loss, &j->loss, sizeof j->loss);
}

START_TEST(two_contexts_run_in_two_threads)
{
    job j[4] = {{.seed = 1, .threads = 1, .steps = 8},
                {.seed = 2, .threads = 1, .steps = 9},
                {.seed = 1, .threads = 1, .steps = 8},
                {.seed = 3, .threads = 1, .steps = 7}};
    at_once(j, 4);
    for (int i = 0; i < 4; i++) expect_alone(&j[i]);
    ck_assert_str_eq(j[0].hash, j[2].hash);
    ck_assert_str_ne(j[0].hash, j[1].hash);
}
END_TEST

START_TEST(any_number_of_threads_gives_the_same_bits)
{
    for (int threads = 2; threads <= 5; threads++) {
        job j = {.seed = 4, .threads = threads, .steps = 6};
        train(&j);
        expect_alone(&j);
    }
}
END_TEST

START_TEST(threaded_contexts_run_at_once)
{
    job j[2] = {{.seed = 5, .threads = 2, .steps = 5}, {.seed = 6, .threads = 3, .steps = 5}};
    at_once(j, 2);
    for (int i = 0; i < 2; i++) expect_alone(&j[i]);
}
END_TEST

/* A context moves from thread to thread, one at a time. */
static void *one_step(void *arg)
{
    niz *z = arg;
    NIZ_STEP(z);
    niz_t w = niz_param(z, "w", NIZ_F32, NIZ_SHAPE(1000), niz_constant_init(0));
    niz_assign(w, niz_add(w, 1.0));
    return NULL;
}

START_TEST(a_context_may_change_its_thread)
{
    niz *z = niz_open(&(niz_options){.threads = 2});
    for (int i = 0; i < 10; i++) {
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, one_step, z), 0);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
    }
    expect_ok(z);
    ck_assert_double_eq((double)((const float *)niz_param_get(z, 0).data)[999], 10);
    niz_close(z);
}
END_TEST

/* ---- a context's own threads ----------------------------------------------------------------- */

static double sum_of_many(niz *z, double add)
{
    NIZ_STEP(z);
    niz_t x = niz_add(niz_iota(z, NIZ_F64, NIZ_SHAPE(1 << 19), 0), add);
    return niz_item(niz_sum(niz_sqrt(niz_abs(x))));
}

/* The child has a copy of the context and none of its threads: it does all work itself. */
START_TEST(a_forked_process_goes_on_alone)
{
    niz *z = niz_open(&(niz_options){.threads = 4});
    double before = sum_of_many(z, 1);
    pid_t child = fork();
    if (child == 0) {
        bool same = sum_of_many(z, 1) == before && sum_of_many(z, 2) != before;
        niz_close(z);
        _exit(same ? 0 : 1);
    }
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_assert(sum_of_many(z, 1) == before);
    niz_close(z);
}
END_TEST

/* Threads sleep between far-apart runs and are woken again; far more threads than cores. */
START_TEST(threads_sleep_and_wake)
{
    niz *z = niz_open(&(niz_options){.threads = 13}), *one = niz_open(&(niz_options){.threads = 1});
    for (int i = 0; i < 40; i++) {
        ck_assert(sum_of_many(z, i) == sum_of_many(one, i));
        if (i % 4 == 0) usleep(1000 * (i % 3));
    }
    niz_close(z);
    niz_close(one);
}
END_TEST

/* Signals go to the program's own threads: the pool's block them all. */
static volatile sig_atomic_t signals;
static pthread_t here;
static void on_signal(int number)
{
    (void)number;
    if (pthread_equal(pthread_self(), here)) signals++;
}

START_TEST(signals_do_not_reach_the_threads)
{
    here = pthread_self();
    signal(SIGUSR1, on_signal);
    niz *z = niz_open(&(niz_options){.threads = 4});
    for (int i = 0; i < 20; i++) {
        sum_of_many(z, i);
        kill(getpid(), SIGUSR1);
    }
    ck_assert_int_eq(signals, 20);
    niz_close(z);
    signal(SIGUSR1, SIG_DFL);
}
END_TEST

int main(void)
{
    UTIL_MAIN("threads", a_forked_process_goes_on_alone, threads_sleep_and_wake,
              signals_do_not_reach_the_threads, two_contexts_run_in_two_threads,
              any_number_of_threads_gives_the_same_bits, threaded_contexts_run_at_once,
              a_context_may_change_its_thread);
}
