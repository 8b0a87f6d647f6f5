/* test_bits.c - one meaning, many executors: the same bits from every way of running.
 *
 * Every sample of every record, the networks of examples/digits in training, and random graphs with
 * their gradients run interpreted and with kernels by gcc and by clang, each for AVX-512, AVX2 and
 * SSE2 and on 1, 2 and 4 threads, and every element is compared with the interpreter's.  As
 * compiling takes most of the time, all samples of a record are one plan, and ten graphs are.  What
 * this machine cannot run is counted in the last line.  NIZ_FULL=1: a thousand graphs, and samples
 * in all ways rather than in some of them by turns.
 *
 * SPDX-License-Identifier: MIT */
#include <unistd.h>

#include "check/op.h"
#include "core/context.h"
#include "exec/jit.h"
#include "exec/loops.h"
#include "random_graph.h"

/* ---- ways of running ------------------------------------------------------------------------- */

typedef struct way {
    const char *cc, *isa; /* cc NULL: the interpreter */
    int threads;
} way;

static way ways[27];
static int n_ways, n_absent;
static char absent[64];

static bool has_isa(const char *isa)
{
    for (int i = 0; niz_isa_get(i); i++)
        if (!strcmp(niz_isa_get(i)->isa, isa)) return true;
    return false;
}

static bool has_compiler(const char *cc)
{
    niz_compiler c;
    niz *z = niz_open(NULL);
    setenv("NIZ_CC", cc, 1);
    niz_compiler_find(z, &c);
    bool found = c.path != NULL;
    niz_compiler_drop(z, &c);
    niz_close(z);
    unsetenv("NIZ_CC");
    return found;
}

static void note_absent(const char *what)
{
    if (strstr(absent, what)) return;
    size_t n = strlen(absent);
    snprintf(absent + n, sizeof absent - n, "%s%s", n ? ", " : "", what);
}

/* The best instruction set that is there comes first, interpreted: the others are compared with
 * it. */
static void find_ways(void)
{
    static const char *const isa[] = {"avx512", "avx2", "sse2"}, *const cc[] = {NULL, "gcc",
                                                                                "clang"};
    bool found[3];
    for (int c = 0; c < 3; c++) found[c] = !cc[c] || has_compiler(cc[c]);
    for (int i = 0; i < 27; i++) {
        way w = {cc[i / 9], isa[i / 3 % 3], 1 << i % 3};
        bool runs = has_isa(w.isa);
        if (!runs) note_absent(w.isa);
        if (!found[i / 9]) note_absent(w.cc);
        if (runs && found[i / 9])
            ways[n_ways++] = w;
        else
            n_absent++;
    }
}

/* ---- what comes out -------------------------------------------------------------------------- */

typedef struct outcome {
    unsigned char *bytes;
    size_t n, room;
    bool kernels; /* there is something to compile, so kernels must have been used */
} outcome;

/* All NaNs count as one value. */
static void one_nan(niz_dtype d, void *p, int64_t n)
{
    for (int64_t i = 0; i < n && d == NIZ_F32; i++)
        if (((float *)p)[i] != ((float *)p)[i]) memset((float *)p + i, 255, sizeof(float));
    for (int64_t i = 0; i < n && d == NIZ_F64; i++)
        if (((double *)p)[i] != ((double *)p)[i]) memset((double *)p + i, 255, sizeof(double));
}

static void note(outcome *o, niz_t y)
{
    int64_t count = rg_count(y);
    niz_dtype d = niz_dtype_of(y);
    size_t bytes = (size_t)count * niz_dtype_size(d);
    void *value = malloc(bytes + 1);
    ck_assert_msg(niz_read(y, value, bytes) == NIZ_OK, "%s", niz_message(y.z));
    one_nan(d, value, count);
    o->kernels = o->kernels || niz_dtype_is_float(d);
    if (o->n + bytes >= o->room) o->bytes = realloc(o->bytes, o->room = 2 * (o->n + bytes) + 1);
    memcpy(o->bytes + o->n, value, bytes);
    o->n += bytes;
    free(value);
}

typedef void job(niz *z, int which, outcome *o);

/* That kernels were compiled and used is seen to as well: nothing is compared with itself. */
static outcome run_way(const way *w, job *f, int which)
{
    outcome o = {0};
    if (w->cc) setenv("NIZ_CC", w->cc, 1);
    niz *z = util_open_jit(w->cc ? NIZ_JIT_SYNC : NIZ_JIT_OFF, w->isa, w->threads);
    ck_assert_str_eq(niz_exec_of(z)->loops->isa, w->isa);
    int64_t before = niz_statistics(z).runs_compiled;
    f(z, which, &o);
    expect_ok(z);
    if (w->cc) {
        ck_assert_int_eq(niz_kernels_counts(niz_exec_of(z)->jit->kernels).failed, 0);
        ck_assert_int_eq(niz_statistics(z).plans_refused, 0);
        ck_assert(!o.kernels || niz_statistics(z).runs_compiled > before);
    }
    niz_close(z);
    unsetenv("NIZ_CC");
    return o;
}

static void same_in(const way *w, job *f, int which, const char *what, const outcome *first)
{
    outcome o = run_way(w, f, which);
    ck_assert_uint_eq(o.n, first->n);
    size_t at = 0;
    while (at < o.n && o.bytes[at] == first->bytes[at]) at++;
    ck_assert_msg(at == o.n, "%s: byte %zu of %zu differs: %s, %s, %d threads", what, at, o.n,
                  w->cc ? w->cc : "interpreter", w->isa, w->threads);
    free(o.bytes);
}

/* With `some`, those ways alone that are it by turns. */
static void same_every_way(job *f, int which, const char *what, bool (*some)(const way *, int))
{
    outcome first = run_way(&ways[0], f, which);
    for (int i = 1; i < n_ways; i++)
        if (!some || some(&ways[i], which)) same_in(&ways[i], f, which, what, &first);
    free(first.bytes);
}

/* ---- records --------------------------------------------------------------------------------- */

typedef struct results {
    niz_t *y;
    int n;
} results;

/* What moves elements is no kernel alone, and a product is the library's: with something to compute
 * on the result it is read as a view, copied beside one, or finished by one. */
static bool moves(const niz_op *op)
{
    return op->form != NIZ_FORM_MAP && op->form != NIZ_FORM_REDUCE && !op->map;
}

/* Notes its result for operands that lie in memory so, if it takes their dtypes. */
static void apply_case(niz *z, niz_case *c, niz_case_layout layout, results *r)
{
    niz_t x[NIZ_CASE_OPERANDS];
    c->layout = layout;
    if (!niz_case_has_layout(c, layout)) return;
    niz_t y = niz_case_apply(niz_recording_of(z), c, x);
    bool takes = niz_error(z) == NIZ_OK;
    niz_clear_error(z);
    if (!takes) return;
    if (moves(c->op) && niz_dtype_is_float(niz_dtype_of(y))) y = niz_neg(y);
    r->y = realloc(r->y, sizeof *r->y * (size_t)(r->n + 1));
    r->y[r->n++] = y;
}

/* For each choice of shapes and dtypes, operands that lie plainly in memory, and in one of the
 * other ways in turn: all of them are niz_check_op's. */
static void run_samples(niz *z, int which, outcome *o)
{
    const niz_op *op = niz_op_get(which);
    niz_op_test t = {.op = op, .random = 1, .z = {z}};
    results r = {0};
    NIZ_STEP(z);
    for (int s = 0; s < op->n_samples; s++) {
        niz_case c = {.op = op, .sample = &op->samples[s], .number = s};
        for (int i = 0, n = c.sample->refused ? 0 : niz_case_shapes(op, c.sample); i < n; i++) {
            niz_case_shape(&c, i);
            for (int d = 0; d < NIZ_CASE_DTYPES; d++) {
                if (!niz_case_dtype(&c, d) || !niz_case_values(&t, &c)) continue;
                apply_case(z, &c, NIZ_LAYOUT_PLAIN, &r);
                apply_case(z, &c, (niz_case_layout)(1 + (s + i + d) % (NIZ_N_LAYOUTS - 1)), &r);
            }
        }
    }
    ck_assert_int_gt(r.n, 0);
    ck_assert_msg(niz_run(z, r.n, r.y) == NIZ_OK, "%s: %s", op->name, niz_message(z));
    for (int i = 0; i < r.n; i++) note(o, r.y[i]);
    o->kernels = o->kernels && !moves(op); /* some of these the interpreter's loops do as well */
    free(r.y);
}

/* Compiling all samples six times takes minutes: of clang's kernels those for one instruction set
 * are among the compared, and gcc's for a lower one at every second record; gcc's for the best are
 * test_ops's. */
static bool in_turn(const way *w, int which)
{
    int isa = !strcmp(w->isa, "avx512") ? 0 : !strcmp(w->isa, "avx2") ? 1 : 2;
    if (!w->cc || util_cases(0, 1)) return true;
    if (!strcmp(w->cc, "clang")) return isa == which % 3;
    return isa && isa == which % 4;
}

START_TEST(samples_have_the_same_bits_every_way)
{
    const niz_op *op = niz_op_get(_i);
    /* leaves, and what belongs to a context's parameters: the graphs below have them */
    if (op->form == NIZ_FORM_LEAF || (op->attrs && strstr(op->attrs, ":p"))) return;
    same_every_way(run_samples, _i, op->name, in_turn);
}
END_TEST

/* ---- networks: those of examples/digits ------------------------------------------------------ */

static niz_t fnn(niz_t x)
{
    x = niz_dropout(niz_relu(niz_linear(niz_flatten(x, 1), 128, "fc1")), 0.2);
    return niz_linear(x, 10, "fc2");
}

static niz_t cnn(niz_t x)
{
    x = niz_relu(niz_conv2d(niz_unsqueeze(x, 1), 16, 3, "conv1", .pad = 1));
    x = niz_relu(niz_conv2d(niz_max_pool2d(x, 2), 32, 3, "conv2", .pad = 1));
    x = niz_dropout(niz_flatten(niz_max_pool2d(x, 2), 1), 0.25);
    return niz_linear(x, 10, "fc");
}

static niz_t rnn(niz_t x)
{
    x = niz_select(niz_gru(x, 64, "gru"), 1, -1);
    return niz_linear(niz_dropout(x, 0.2), 10, "fc");
}

static const struct network {
    niz_t (*record)(niz_t x);
    const char *params[8];
} networks[] = {
    {fnn, {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}},
    {cnn, {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "fc.weight", "fc.bias"}},
    {rnn,
     {"gru.weight_ih_l0", "gru.weight_hh_l0", "gru.bias_ih_l0", "gru.bias_hh_l0", "fc.weight",
      "fc.bias"}},
};

#define BATCH 24

static void train_step(niz *z, const struct network *net, const niz_batch *b, outcome *o)
{
    NIZ_STEP(z);
    niz_optim opt = niz_adam(.lr = 3e-3);
    niz_t x = niz_from(z, NIZ_F32, NIZ_SHAPE(BATCH, 8, 8), b->x);
    niz_t loss =
        niz_cross_entropy(net->record(x), niz_from(z, NIZ_I32, NIZ_SHAPE(BATCH), b->label));
    niz_minimize(&opt, loss);
    note(o, loss);
}

static void train(niz *z, int which, outcome *o)
{
    niz_dataset *d = niz_digits(z);
    niz_batches *batches = niz_batches_open(z, niz_all(d), BATCH, .seed = 1);
    niz_batch b;
    niz_batches_start(batches, 0);
    for (int i = 0; i < 4 && niz_batches_next(batches, &b); i++)
        train_step(z, &networks[which], &b, o);
    NIZ_STEP(z);
    for (int i = 0; i < 8 && networks[which].params[i]; i++)
        note(o, niz_find(z, networks[which].params[i]));
    niz_batches_free(z, batches);
    niz_dataset_free(z, d);
}

START_TEST(networks_have_the_same_bits_every_way)
{
    static const char *const name[] = {"fnn", "cnn", "rnn"};
    same_every_way(train, _i, name[_i], NULL);
}
END_TEST

/* ---- random graphs --------------------------------------------------------------------------- */

#define GRAPHS 10 /* of one recording */

static void run_graphs(niz *z, int which, outcome *o)
{
    static random_graph g[GRAPHS];
    niz_t all[GRAPHS * (GRAPH_MAX + 2)];
    int n = 0;
    NIZ_STEP(z);
    for (int i = 0; i < GRAPHS; i++) {
        uint64_t seed = (uint64_t)(5000 + which * GRAPHS + i);
        NIZ_SCOPE(z, "g%d", i);
        g[i] = (random_graph){.wide = seed % 3 == 0, .thin = true};
        ck_assert_msg(rg_make(&g[i], z, seed, 12), "seed %d: %s", (int)seed, niz_message(z));
        for (int k = 0; k < g[i].n; k += seed % 2 ? 2 : 5) all[n++] = g[i].node[k];
        all[n] = rg_loss(&g[i]);
        niz_grad(all[n], 1, &g[i].node[0], &all[n + 1]);
        n += 2;
    }
    ck_assert_msg(niz_run(z, n, all) == NIZ_OK, "%s", niz_message(z));
    for (int i = 0; i < n; i++) note(o, all[i]);
}

START_TEST(graphs_have_the_same_bits_every_way)
{
    char what[40];
    snprintf(what, sizeof what, "graphs %d to %d", GRAPHS * _i, GRAPHS * _i + GRAPHS - 1);
    same_every_way(run_graphs, _i, what, NULL);
}
END_TEST

/* ---- all of it ------------------------------------------------------------------------------- */

static int n_records(void)
{
    int n = 0;
    while (niz_op_get(n)) n++;
    return n;
}

static void add_case(Suite *s, const char *name, const TTest *test, int n)
{
    TCase *c = tcase_create(name);
    tcase_set_timeout(c, 600);
    tcase_add_loop_test(c, test, 0, n);
    suite_add_tcase(s, c);
}

int main(void)
{
    find_ways();
    Suite *s = suite_create("bits");
    int groups = util_cases(6, 100);
    add_case(s, "samples", samples_have_the_same_bits_every_way, n_records());
    add_case(s, "networks", networks_have_the_same_bits_every_way, NIZ_COUNT(networks));
    add_case(s, "graphs", graphs_have_the_same_bits_every_way, groups);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    printf("%d graphs and all samples in %d ways; %d of 27 could not be run on this machine%s%s\n",
           groups * GRAPHS, n_ways, n_absent, *absent ? ": no " : "", absent);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
