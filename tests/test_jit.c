/* test_jit.c - compiled kernels against the interpreter, bit for bit.
 *
 * SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exec/jit.h"
#include "random_graph.h"

static rg_outcome run_graph(niz *z, uint64_t seed, int nodes)
{
    NIZ_STEP(z);
    NIZ_SCOPE(z, "g%d", (int)seed);
    random_graph g = {.wide = seed % 3 != 0, .thin = true};
    ck_assert_msg(rg_make(&g, z, seed, nodes), "seed %d: %s", (int)seed, niz_message(z));
    niz_t all[GRAPH_MAX + 2];
    int n = 0;
    /* with few outputs, buffers are written over while others are still read */
    for (int i = 0; i < g.n; i += seed % 2 ? 2 : 9) all[n++] = g.node[i];
    all[n] = rg_loss(&g);
    niz_grad(all[n], 1, &g.node[0], &all[n + 1]);
    n += 2;
    ck_assert_msg(niz_run(z, n, all) == NIZ_OK, "seed %d: %s", (int)seed, niz_message(z));
    return rg_outcome_of(g.dtype, n, all);
}

/* Graphs of more nodes than test_bits has, and therefore fewer. */
static void same_as_interpreted(const char *isa, int threads, int graphs)
{
    niz *a = util_open_jit(NIZ_JIT_OFF, isa, 1), *b = util_open_jit(NIZ_JIT_SYNC, isa, threads);
    for (int seed = 1; seed <= graphs; seed++) {
        rg_outcome p = run_graph(a, (uint64_t)seed, 30), q = run_graph(b, (uint64_t)seed, 30);
        ck_assert_int_eq(p.n, q.n);
        int64_t at = rg_differ(p.dtype, p.bytes, q.bytes, p.n, 0);
        ck_assert_msg(at < 0, "seed %d, isa %s: element %lld of %lld differs", seed,
                      isa ? isa : "best", (long long)at, (long long)p.n);
        free(p.bytes);
        free(q.bytes);
    }
    niz_close(a);
    niz_close(b);
}

START_TEST(random_graphs_give_the_same_bits)
{
    same_as_interpreted(NULL, 1, util_cases(24, 700));
}
END_TEST

START_TEST(random_graphs_give_the_same_bits_with_threads)
{
    same_as_interpreted(NULL, 3, util_cases(5, 200));
}
END_TEST

/* Whatever can be computed where it is needed is: operands while they are packed, too. */
START_TEST(random_graphs_give_the_same_bits_when_all_is_computed_again)
{
    setenv("NIZ_FORCE", "recompute", 1);
    same_as_interpreted(NULL, 2, util_cases(12, 300));
    unsetenv("NIZ_FORCE");
}
END_TEST

START_TEST(random_graphs_give_the_same_bits_on_avx2)
{
    same_as_interpreted("avx2", 2, util_cases(4, 200));
}
END_TEST

START_TEST(random_graphs_give_the_same_bits_on_sse2)
{
    same_as_interpreted("sse2", 1, util_cases(3, 100));
}
END_TEST

/* ---- when plans are compiled ----------------------------------------------------------------- */

static double step(niz *z, uint64_t seed)
{
    NIZ_STEP(z);
    niz_t x = niz_full(z, NIZ_F32, NIZ_SHAPE(20, 30), .01 * (double)seed);
    niz_t loss = niz_mean(niz_square(niz_tanh(niz_linear(x, 40, "fc"))));
    niz_optim sgd = niz_sgd(.lr = .5);
    niz_minimize(&sgd, loss);
    return niz_item(loss);
}

/* How many texts a context has asked for so far. */
static int64_t requests(niz *z)
{
    return niz_kernels_counts(niz_exec_of(z)->jit->kernels).requests;
}

START_TEST(a_plan_is_compiled_when_it_is_met_again)
{
    niz *a = util_open_jit(NIZ_JIT_OFF, NULL, 1), *b = util_open_jit(NIZ_JIT_ASYNC, NULL, 1);
    for (int i = 1; i <= 200; i++) {
        double p = step(a, 3), q = step(b, 3);
        ck_assert_msg(p == q, "step %d: %.17g and %.17g", i, p, q);
        if (i == 1) ck_assert_int_eq(requests(b), 0);
        if (i == 3) ck_assert_int_ge(requests(b), 1);
        for (int wait = 0; i == 5 && wait < 2000 && niz_statistics(b).plans_pending; wait++) {
            usleep(10000);
            step(a, 3);
            step(b, 3);
        }
    }
    ck_assert_int_ge(niz_statistics(b).runs_compiled, 190);
    ck_assert_int_eq(niz_statistics(a).runs_compiled, 0);
    niz_close(a);
    niz_close(b);
}
END_TEST

/* Runs of one plan until it is compiled, at most n. */
static int runs_until_compiled(niz *z, int n)
{
    float v[64] = {0};
    for (int i = 1; i <= n; i++) {
        v[i % 64] = (float)i;
        niz_item(niz_mean(niz_tanh(niz_copy_from(z, NIZ_F32, NIZ_SHAPE(64), v))));
        if (requests(z)) return i;
    }
    return n + 1;
}

static int runs_in_a_step(niz *z, int n)
{
    NIZ_STEP(z);
    return runs_until_compiled(z, n);
}

/* Layers of one shape are initialised by one plan, a few times in one step; a loop without steps
 * meets its plan many times. */
START_TEST(a_plan_met_often_in_one_step_is_compiled)
{
    for (int steps = 0; steps < 2; steps++) {
        niz *z = util_open_jit(NIZ_JIT_ASYNC, NULL, 1);
        int n = steps ? runs_in_a_step(z, 40) : runs_until_compiled(z, 40);
        ck_assert_msg(n > 10 && n <= 40, "%d steps: compiled at run %d", steps, n);
        expect_ok(z);
        niz_close(z);
    }
}
END_TEST

/* ---- several texts --------------------------------------------------------------------------- */

/* Kernels that differ, enough of them for more than one text. */
static double many_kernels(niz *z)
{
    NIZ_STEP(z);
    niz_t x = niz_full(z, NIZ_F32, NIZ_SHAPE(6, 20), .3);
    for (int i = 0; i < 8; i++) {
        NIZ_SCOPE(z, "l%d", i);
        x = niz_linear(niz_softmax(x, -1), 20, "fc");
        if (i & 1) x = niz_tanh(x);
        if (i & 2) x = niz_exp(niz_neg(niz_square(x)));
        if (i & 4) x = niz_sigmoid(niz_mul(x, x));
    }
    return niz_item(niz_mean(niz_square(x)));
}

/* An empty cache on disk of this test's own. */
static void fresh_cache(void)
{
    static char dir[32];
    strcpy(dir, "/tmp/niz-test-jit-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    setenv("NIZ_CACHE_DIR", dir, 1);
}

static void drop_cache(void)
{
    char command[80];
    snprintf(command, sizeof command, "rm -rf '%s'", getenv("NIZ_CACHE_DIR"));
    ck_assert_int_eq(system(command), 0);
    unsetenv("NIZ_CACHE_DIR");
}

START_TEST(a_large_plan_is_compiled_in_several_texts)
{
    fresh_cache();
    niz *a = util_open_jit(NIZ_JIT_OFF, NULL, 1);
    double y = many_kernels(a);
    int64_t texts = 0;
    for (int i = 0; i < 2; i++) {
        niz *b = util_open_jit(NIZ_JIT_SYNC, NULL, 1);
        int64_t before = requests(b);
        ck_assert(many_kernels(b) == y);
        const niz_plan *p = niz_exec_of(b)->newest;
        ck_assert(p->ready);
        ck_assert_uint_ge(p->n_nest_texts, 2);
        ck_assert_int_ge(requests(b) - before, p->n_nest_texts);
        niz_kernel_counts n = niz_kernels_counts(niz_exec_of(b)->jit->kernels);
        if (i) /* each text is found again */
            ck_assert_int_eq(n.compiled, 0);
        else
            texts = p->n_texts;
        ck_assert_int_eq(p->n_texts, texts);
        niz_close(b);
    }
    niz_close(a);
    drop_cache();
}
END_TEST

/* A compiler that first does this with kernel.c at hand. */
static void write_compiler(char *path, const char *does)
{
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    FILE *f = fdopen(fd, "w");
    fprintf(f, "#!/bin/sh\nself='%s'\n%s\nexec cc \"$@\"\n", path, does);
    fclose(f);
    chmod(path, 0700);
    setenv("NIZ_CC", path, 1);
}

/* Fails at the first text with an exponential of a kernel's. */
#define PICKY "grep -q 'niz_exp_f32(e' kernel.c && mkdir \"$self.one\" 2>/dev/null && exit 3"

static void fails_in_part(niz_jit_mode mode)
{
    char cc[] = "/tmp/niz-picky-cc-XXXXXX", one[sizeof cc + 4];
    fresh_cache();
    write_compiler(cc, PICKY);
    snprintf(one, sizeof one, "%s.one", cc);
    niz *a = util_open_jit(NIZ_JIT_OFF, NULL, 1), *b = util_open_jit(mode, NULL, 1);
    double y = many_kernels(a);
    ck_assert(many_kernels(b) == y); /* parameters are made, by plans of their own */
    int64_t compiled = niz_statistics(b).runs_compiled;
    if (mode == NIZ_JIT_ASYNC) ck_assert_int_eq(requests(b), 0); /* which are not worth it */
    for (int i = 0; i < 3 || (niz_statistics(b).plans_pending && i < 3000); i++) {
        if (i > 2) usleep(10000);
        ck_assert(many_kernels(b) == y);
    }
    const niz_plan *p = niz_exec_of(b)->newest;
    niz_kernel_counts n = niz_kernels_counts(niz_exec_of(b)->jit->kernels);
    ck_assert_int_eq(access(one, F_OK), 0);
    ck_assert_int_eq(n.failed, 1);
    ck_assert(!p->ready && p->tried);
    ck_assert_uint_eq(p->n_texts, 0); /* given back */
    ck_assert_int_eq(niz_statistics(b).plans_pending, 0);
    ck_assert_int_eq(niz_statistics(b).runs_compiled, compiled);
    ck_assert_int_eq(niz_error(b), NIZ_OK);
    niz_close(a);
    niz_close(b);
    rmdir(one);
    unlink(cc);
    unsetenv("NIZ_CC");
    drop_cache();
}

START_TEST(a_plan_of_which_a_text_fails_stays_interpreted)
{
    fails_in_part(NIZ_JIT_SYNC);
    fails_in_part(NIZ_JIT_ASYNC);
}
END_TEST

START_TEST(without_a_compiler_plans_are_interpreted)
{
    niz *a = util_open_jit(NIZ_JIT_OFF, NULL, 1);
    double y = many_kernels(a);
    setenv("NIZ_CC", "/nowhere/cc", 1);
    for (int sync = 0; sync < 2; sync++) {
        niz *b = util_open_jit(sync ? NIZ_JIT_SYNC : NIZ_JIT_ASYNC, NULL, 1);
        for (int i = 0; i < 4; i++) ck_assert(many_kernels(b) == y);
        ck_assert_int_eq(niz_statistics(b).plans_pending, 0);
        ck_assert_int_eq(niz_statistics(b).runs_compiled, 0);
        ck_assert_int_eq(niz_error(b), NIZ_OK);
        niz_close(b);
    }
    unsetenv("NIZ_CC");
    niz_close(a);
}
END_TEST

/* What is compiled is used, if it can be kept or not. */
START_TEST(a_cache_that_vanishes_between_texts_harms_nothing)
{
    char cc[] = "/tmp/niz-tidy-cc-XXXXXX";
    fresh_cache();
    char does[80];
    snprintf(does, sizeof does, "rm -rf '%s'", getenv("NIZ_CACHE_DIR"));
    write_compiler(cc, does);
    niz *a = util_open_jit(NIZ_JIT_OFF, NULL, 1), *b = util_open_jit(NIZ_JIT_SYNC, NULL, 1);
    double y = many_kernels(a);
    for (int i = 0; i < 2; i++) ck_assert(many_kernels(b) == y);
    niz_kernel_counts n = niz_kernels_counts(niz_exec_of(b)->jit->kernels);
    ck_assert(niz_exec_of(b)->newest->ready);
    ck_assert_int_ge(n.compiled, 2);
    ck_assert_int_eq(n.failed, 0);
    ck_assert_int_eq(n.kept, 0);
    ck_assert_int_eq(niz_error(b), NIZ_OK);
    niz_close(a);
    niz_close(b);
    unlink(cc);
    unsetenv("NIZ_CC");
    drop_cache();
}
END_TEST

typedef struct twin {
    double y;
    int64_t compiled;
    bool ready;
} twin;

static void *run_twin(void *state)
{
    twin *t = state;
    niz *z = niz_open(&(niz_options){.threads = 1, .jit = NIZ_JIT_SYNC});
    t->y = many_kernels(z);
    t->ready = niz_exec_of(z)->newest->ready;
    t->compiled = niz_kernels_counts(niz_exec_of(z)->jit->kernels).compiled;
    niz_close(z);
    return NULL;
}

/* Two contexts that want the same texts at once. */
START_TEST(two_threads_share_what_they_compile)
{
    pthread_t thread[2];
    twin t[2];
    fresh_cache();
    niz *a = util_open_jit(NIZ_JIT_OFF, NULL, 1);
    double y = many_kernels(a);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, run_twin, &t[i]), 0);
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    twin last; /* by now everything is on disk */
    run_twin(&last);
    ck_assert_int_eq(last.compiled, 0);
    for (int i = 0; i < 2; i++) {
        ck_assert(t[i].y == y);
        ck_assert(t[i].ready);
    }
    niz_close(a);
    drop_cache();
}
END_TEST

/* ---- what the profile says ------------------------------------------------------------------- */

static char *file_text(const char *path)
{
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    char *text = calloc(1, 1 << 20);
    ck_assert_int_gt(fread(text, 1, (1 << 20) - 1, f), 0);
    fclose(f);
    return text;
}

static int count_of(const char *text, const char *what)
{
    int n = 0;
    for (; (text = strstr(text, what)); text++) n++;
    return n;
}

/* Training with another batch size needs no other kernels from the second size on. */
START_TEST(another_batch_size_compiles_nothing)
{
    static float x[40 * 20];
    static int32_t y[40];
    niz *z = util_open_jit(NIZ_JIT_SYNC, NULL, 1);
    niz_optim opt = niz_sgd(.lr = .1);
    int64_t texts[12];
    for (int i = 0; i < NIZ_COUNT(texts); i++) {
        NIZ_STEP(z);
        niz_t a = niz_from(z, NIZ_F32, NIZ_SHAPE(20 + i, 20), x);
        niz_t b = niz_from(z, NIZ_I32, NIZ_SHAPE(20 + i), y);
        niz_t h = niz_relu(niz_linear(a, 30, "a"));
        niz_minimize(&opt, niz_cross_entropy(niz_linear(h, 10, "b"), b));
        ck_assert_int_eq(niz_run(z, 0, NULL), NIZ_OK);
        niz_kernel_counts k = niz_kernels_counts(niz_exec_of(z)->jit->kernels);
        texts[i] = k.on_disk + k.compiled;
    }
    ck_assert_int_gt(texts[1], 0);
    ck_assert_int_eq(texts[NIZ_COUNT(texts) - 1], texts[1]);
    niz_close(z);
}
END_TEST

START_TEST(a_trace_names_kernels_and_lines)
{
    char path[] = "/tmp/niz-trace-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    setenv("NIZ_TRACE", path, 1);
    niz *z = util_open_jit(NIZ_JIT_SYNC, NULL, 2);
    for (int i = 0; i < 3; i++) step(z, 1);
    niz_close(z);
    unsetenv("NIZ_TRACE");
    char *text = file_text(path);
    ck_assert_int_eq(count_of(text, "{"), count_of(text, "}"));
    ck_assert_int_ge(count_of(text, "\"run, compiled\""), 3);
    /* the update finishes the contraction: no weight's gradient is stored */
    ck_assert_int_ge(count_of(text, "\"contract+mul+sub f32[40,30]\""), 3);
    ck_assert_int_eq(count_of(text, "\"contract f32[40,30]\""), 0);
    ck_assert_int_ge(count_of(text, "test_jit.c:"), 6);
    ck_assert_ptr_nonnull(strstr(text, "\n]}\n"));
    free(text);
    unlink(path);
}
END_TEST

static void keep_remark(void *user, const char *message)
{
    snprintf(user, 200, "%s", message);
}

/* Takes steps with a variable in the environment that is no good: what is remarked, and how many
 * runs were compiled or wait for it. */
static int64_t remark_of(const char *variable, const char *value, char remark[200])
{
    remark[0] = '\0';
    setenv(variable, value, 1);
    niz *z = niz_open(&(niz_options){.log = keep_remark, .user = remark});
    for (int i = 0; i < 3; i++) step(z, 1);
    ck_assert_int_eq(niz_error(z), NIZ_OK);
    int64_t n = niz_statistics(z).runs_compiled + niz_statistics(z).plans_pending;
    niz_close(z);
    unsetenv(variable);
    return n;
}

START_TEST(a_trace_that_cannot_be_written_is_a_remark)
{
    char remark[200];
    remark_of("NIZ_TRACE", "/nowhere/at/all", remark);
    ck_assert_ptr_nonnull(strstr(remark, "NIZ_TRACE"));
}
END_TEST

START_TEST(an_unknown_mode_is_a_remark)
{
    char remark[200];
    ck_assert_int_gt(remark_of("NIZ_JIT", "Sync", remark), 0);
    ck_assert_str_eq(remark, "NIZ_JIT is async, sync or off, not Sync: async it is");
    ck_assert_int_eq(remark_of("NIZ_JIT", "off", remark), 0);
    ck_assert_str_eq(remark, "");
}
END_TEST

/* What NIZ_STATS=1 says of a context that wanted kernels; to be freed. */
static char *stats_of(void)
{
    char path[] = "/tmp/niz-stats-XXXXXX";
    int fd = mkstemp(path), kept = dup(STDERR_FILENO);
    ck_assert(fd >= 0 && kept >= 0);
    fflush(stderr);
    dup2(fd, STDERR_FILENO);
    setenv("NIZ_STATS", "1", 1);
    niz *z = util_open_jit(NIZ_JIT_SYNC, NULL, 1);
    step(z, 1);
    niz_close(z);
    unsetenv("NIZ_STATS");
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(fd);
    char *text = file_text(path);
    unlink(path);
    return text;
}

static void stats_say(const char *what, bool says)
{
    char *text = stats_of();
    ck_assert_msg(!strstr(text, what) != says, "\"%s\": %s in\n%s", what, says ? "not" : "is",
                  text);
    free(text);
}

/* Interpreted for want of a compiler, or compiled in each run anew, is slow; the user learns why.
 */
START_TEST(the_statistics_say_what_is_missing)
{
    char cc[] = "/tmp/niz-no-cc-XXXXXX";
    fresh_cache();
    stats_say("niz: no", false);
    setenv("NIZ_CC", "/nowhere/cc", 1);
    stats_say("niz: no C compiler: NIZ_CC=/nowhere/cc is not a program\n", true);
    write_compiler(cc, "printf 'one\\ntwo\\n' >&2; exit 3");
    stats_say(": status 3: one\nniz:   two\n", true);
    unlink(cc);
    unsetenv("NIZ_CC");
    ck_assert_int_eq(chmod(getenv("NIZ_CACHE_DIR"), 0755), 0);
    stats_say("niz: no kernel cache: the mode of ", true);
    drop_cache();
}
END_TEST

/* ---- kernels of another compiler ------------------------------------------------------------- */

START_TEST(random_graphs_give_the_same_bits_with_clang)
{
    if (system("command -v clang >/dev/null")) {
        puts("jit: no clang here: kernels were compared with those of one compiler");
        return;
    }
    setenv("NIZ_CC", "clang", 1);
    same_as_interpreted(NULL, 2, util_cases(4, 200));
    same_as_interpreted("avx2", 1, util_cases(2, 100));
    unsetenv("NIZ_CC");
}
END_TEST

int main(void)
{
    UTIL_MAIN(
        "jit", random_graphs_give_the_same_bits_with_clang, a_plan_is_compiled_when_it_is_met_again,
        a_plan_met_often_in_one_step_is_compiled, a_large_plan_is_compiled_in_several_texts,
        a_plan_of_which_a_text_fails_stays_interpreted, without_a_compiler_plans_are_interpreted,
        a_cache_that_vanishes_between_texts_harms_nothing, two_threads_share_what_they_compile,
        another_batch_size_compiles_nothing, a_trace_names_kernels_and_lines,
        a_trace_that_cannot_be_written_is_a_remark, an_unknown_mode_is_a_remark,
        the_statistics_say_what_is_missing, random_graphs_give_the_same_bits,
        random_graphs_give_the_same_bits_with_threads,
        random_graphs_give_the_same_bits_when_all_is_computed_again,
        random_graphs_give_the_same_bits_on_avx2, random_graphs_give_the_same_bits_on_sse2);
}
