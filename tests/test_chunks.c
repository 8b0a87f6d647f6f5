/* test_chunks.c - straight-line kernels: the same bits as interpreted, shared where a graph repeats
 * itself, planned in linear time.
 *
 * SPDX-License-Identifier: MIT */
#include <time.h>

#include "exec/jit.h"
#include "util.h"

static niz *open_with(niz_jit_mode jit, const char *isa, const char *cc)
{
    if (isa)
        setenv("NIZ_ISA", isa, 1);
    else
        unsetenv("NIZ_ISA");
    if (cc)
        setenv("NIZ_CC", cc, 1);
    else
        unsetenv("NIZ_CC");
    niz *z = niz_open(&(niz_options){.threads = 1, .max_plan_nodes = 4000000, .jit = jit});
    ck_assert_ptr_nonnull(z);
    return z;
}

static const niz_plan *last_plan(niz *z)
{
    return niz_exec_of(z)->newest;
}

static int chunk_tasks(const niz_plan *p)
{
    int n = 0;
    for (size_t i = 0; i < p->compiled.n_tasks; i++)
        n += p->compiled.task[i].kind == NIZ_TASK_CHUNK;
    return n;
}

/* ---- random graphs of small values ----------------------------------------------------------- */

#define SMALL_MAX 3000

typedef struct small_graph {
    niz *z;
    util_rng rng;
    niz_dtype dtype;
    int width; /* elements of vectors; 1: scalars only */
    int n;
    niz_t node[SMALL_MAX];
} small_graph;

static bool is_scalar(niz_t x)
{
    return niz_shape_of(x).rank == 0;
}

static niz_t near(small_graph *g)
{
    int back = util_below(&g->rng, 8) ? 40 : g->n;
    return g->node[g->n - 1 - util_below(&g->rng, back < g->n ? back : g->n)];
}

static niz_t small_unary(small_graph *g, niz_t x)
{
    switch (util_below(&g->rng, 16)) {
    case 0: return niz_tanh(x);
    case 1: return niz_sigmoid(x);
    case 2: return niz_sin(x);
    case 3: return niz_neg(x);
    case 4: return niz_abs(x);
    case 5: return niz_erf(x);
    case 6: return niz_sqrt(niz_add(niz_abs(x), 0.5));
    case 7: return niz_relu(x);
    case 8: return niz_sign(x);
    case 9: return niz_log1p(niz_abs(x));
    case 10: return niz_floor(niz_mul(x, 3.0));
    case 11: return niz_pow(niz_add(niz_abs(x), 0.1), 0.3);
    case 12: return niz_cast(niz_gt(x, 0.25), g->dtype);
    case 13: return niz_mul(x, -0.0);
    default: return niz_add(niz_mul(x, 0.5), 0.1);
    }
}

static niz_t small_binary(small_graph *g, niz_t a, niz_t b)
{
    switch (util_below(&g->rng, 9)) {
    case 0: return niz_mul(niz_tanh(a), b);
    case 1: return niz_maximum(a, b);
    case 2: return niz_minimum(a, b);
    case 3: return niz_div(a, niz_add(niz_abs(b), 1.0));
    case 4: return niz_where(niz_gt(a, b), a, niz_mul(b, 0.5));
    case 5: return niz_where(niz_le(a, 0.5), niz_cos(b), niz_tanh(a));
    case 6: return niz_mul(niz_sub(a, b), 0.5);
    default: return niz_mul(niz_add(a, b), 0.5);
    }
}

/* What only vectors can: folds, single elements, parts, a scalar for all elements. */
static niz_t small_moved(small_graph *g, niz_t x)
{
    if (is_scalar(x)) return niz_broadcast(x, NIZ_SHAPE(g->width));
    switch (util_below(&g->rng, 7)) {
    case 0: return niz_tanh(niz_sum(x));
    case 1: return niz_max(x);
    case 2: return niz_min(x);
    case 3: return niz_prod(niz_tanh(x));
    case 4: return niz_flip(x, 0);
    default: return niz_select(x, 0, util_below(&g->rng, g->width));
    }
}

static void small_make(small_graph *g, niz *z, uint64_t seed, niz_dtype dtype, int width, int nodes)
{
    *g = (small_graph){.z = z, .rng.state = seed, .dtype = dtype, .width = width};
    double v[16 * 3];
    for (int i = 0; i < 16 * 3; i++) v[i] = util_real(&g->rng, -2, 2);
    v[3] = 0, v[5] = -0.0;
    niz_t all = niz_cast(niz_copy_from(z, NIZ_F64, NIZ_SHAPE(3, 16), v), dtype);
    for (int i = 0; i < 3; i++) g->node[g->n++] = niz_slice(niz_select(all, 0, i), 0, 0, width, 1);
    g->node[g->n++] = niz_cast(niz_copy_from(z, NIZ_F64, NIZ_SCALAR, v + 7), dtype);
    if (width == 1)
        for (int i = 0; i < 3; i++) g->node[i] = niz_select(g->node[i], 0, 0);
    while (g->n < nodes) {
        niz_t x = near(g), y = near(g);
        int what = util_below(&g->rng, 12);
        g->node[g->n++] = what < 4                 ? small_unary(g, x)
                          : what == 4 && width > 1 ? small_moved(g, x)
                                                   : small_binary(g, x, y);
    }
    ck_assert_msg(!niz_error(z), "%s", niz_message(z));
}

/* The elements of every seventh node and of a gradient, as doubles. */
static int small_run(niz *z, uint64_t seed, niz_dtype dtype, int width, int nodes, double *out)
{
    NIZ_STEP(z);
    static small_graph g;
    small_make(&g, z, seed, dtype, width, nodes);
    niz_t want[SMALL_MAX / 7 + 4];
    int n = 0, at = 0;
    niz_t loss = niz_sum(g.node[g.n - 1]);
    for (int i = g.n - 2; i > 0; i -= 5) loss = niz_add(loss, niz_sum(niz_tanh(g.node[i])));
    for (int i = 4; i < g.n; i += 7) want[n++] = g.node[i];
    want[n++] = loss;
    if (nodes <= 1000) {
        niz_grad(loss, 2, g.node, want + n);
        n += 2;
    }
    ck_assert_msg(niz_run(z, n, want) == NIZ_OK, "seed %d: %s", (int)seed, niz_message(z));
    for (int i = 0; i < n; i++) {
        niz_shape s = niz_shape_of(want[i]);
        int64_t count = niz_shape_count(&s);
        float f[16];
        niz_read(want[i], dtype == NIZ_F32 ? (void *)f : (void *)(out + at),
                 (size_t)count * niz_dtype_size(dtype));
        for (int k = 0; k < count && dtype == NIZ_F32; k++) out[at + k] = (double)f[k];
        at += (int)count;
    }
    return at;
}

static void check_same(const char *isa, const char *cc, int graphs, int nodes)
{
    static const int width[] = {1, 14, 1, 5, 16, 8, 3, 2, 14, 9};
    static double p[SMALL_MAX * 4], q[SMALL_MAX * 4];
    niz *a = open_with(NIZ_JIT_OFF, isa, NULL), *b = open_with(NIZ_JIT_SYNC, isa, cc);
    for (int i = 0; i < graphs; i++) {
        niz_dtype dtype = i % 4 < 2 ? NIZ_F64 : NIZ_F32;
        int w = width[i % NIZ_COUNT(width)];
        int n = small_run(a, (uint64_t)i + 1, dtype, w, nodes, p);
        ck_assert_int_eq(small_run(b, (uint64_t)i + 1, dtype, w, nodes, q), n);
        ck_assert_int_gt(chunk_tasks(last_plan(b)), 1);
        ck_assert(last_plan(b)->ready && !last_plan(a)->ready);
        for (int k = 0; k < n; k++) {
            bool nan = p[k] != p[k] && q[k] != q[k];
            ck_assert_msg(nan || !memcmp(&p[k], &q[k], sizeof *p),
                          "graph %d, %d wide, %s: element %d of %d is %a, interpreted %a", i, w,
                          isa ? isa : "best", k, n, q[k], p[k]);
        }
    }
    niz_close(a);
    niz_close(b);
}

START_TEST(small_values_give_the_same_bits)
{
    check_same(NULL, NULL, util_cases(10, 200), 400);
}
END_TEST

START_TEST(small_values_give_the_same_bits_on_avx2)
{
    check_same("avx2", NULL, util_cases(6, 60), 300);
}
END_TEST

START_TEST(small_values_give_the_same_bits_on_sse2)
{
    check_same("sse2", NULL, util_cases(4, 40), 200);
}
END_TEST

START_TEST(small_values_give_the_same_bits_with_clang)
{
    if (system("command -v clang >/dev/null")) {
        puts("chunks: no clang here");
        return;
    }
    check_same(NULL, "clang", util_cases(6, 60), 300);
    check_same("avx2", "clang", util_cases(3, 30), 300);
    check_same("sse2", "clang", util_cases(2, 20), 150);
}
END_TEST

/* ---- numbers of other types ------------------------------------------------------------------ */

static const int64_t whole_numbers[] = {0,
                                        -1,
                                        255,
                                        ((int64_t)1 << 53) + 1,
                                        ((int64_t)1 << 54) + ((int64_t)1 << 30) +
                                            1, /* just no tie */
                                        -((int64_t)1 << 54) - ((int64_t)1 << 30) - 1,
                                        INT64_MAX,
                                        INT64_MIN,
                                        16777217,
                                        -33554435,
                                        7,
                                        8};

/* The first n of them, as another type. */
static niz_t small_other(niz *z, niz_dtype from, niz_dtype to, int n)
{
    char bytes[8 * NIZ_COUNT(whole_numbers)];
    for (int i = 0; i < n; i++) switch (from) {
        case NIZ_U8: ((uint8_t *)bytes)[i] = (uint8_t)whole_numbers[i]; break;
        case NIZ_I32: ((int32_t *)bytes)[i] = (int32_t)whole_numbers[i]; break;
        case NIZ_I64: ((int64_t *)bytes)[i] = whole_numbers[i]; break;
        case NIZ_F32: ((float *)bytes)[i] = (float)whole_numbers[i] * 0x1p-70f; break;
        default: ((double *)bytes)[i] = (double)whole_numbers[i] * 0x1p-170;
        }
    return niz_cast(niz_copy_from(z, from, n == 1 ? NIZ_SCALAR : NIZ_SHAPE(n), bytes), to);
}

/* Vectors, single elements, and one of them for all. */
static int run_others(niz *z, niz_dtype to, double *out)
{
    NIZ_STEP(z);
    int n = NIZ_COUNT(whole_numbers), got = 0;
    niz_dtype from[] = {NIZ_U8, NIZ_I32, NIZ_I64, to == NIZ_F32 ? NIZ_F64 : NIZ_F32};
    for (int i = 0; i < 4; i++, got += n) {
        niz_t x = niz_mul(small_other(z, from[i], to, n), 0.75),
              one = small_other(z, from[i], to, 3);
        niz_t y = niz_add(niz_sub(x, niz_select(one, 0, 2)), small_other(z, from[3 - i], to, 1));
        y = niz_cast(niz_add(y, niz_mul(niz_sum(x), 1e-3)), NIZ_F64);
        ck_assert_int_eq(niz_read(y, out + got, sizeof *out * (size_t)n), NIZ_OK);
        ck_assert_int_gt(last_plan(z)->ready ? chunk_tasks(last_plan(z)) : 1, 0);
    }
    return got;
}

static void others_same(const char *isa, const char *cc)
{
    double p[4 * NIZ_COUNT(whole_numbers)], q[4 * NIZ_COUNT(whole_numbers)];
    niz *a = open_with(NIZ_JIT_OFF, isa, NULL), *b = open_with(NIZ_JIT_SYNC, isa, cc);
    for (int k = 0; k < 2; k++) {
        int n = run_others(a, k ? NIZ_F64 : NIZ_F32, p);
        ck_assert_int_eq(run_others(b, k ? NIZ_F64 : NIZ_F32, q), n);
        for (int i = 0; i < n; i++)
            ck_assert_msg(!memcmp(p + i, q + i, sizeof *p),
                          "%s, isa %s: element %d is %a, interpreted %a", k ? "f64" : "f32",
                          isa ? isa : "best", i, q[i], p[i]);
    }
    niz_close(a);
    niz_close(b);
}

START_TEST(small_numbers_of_other_types_are_converted)
{
    static const char *const isa[] = {NULL, "avx2", "sse2"};
    bool clang = !system("command -v clang >/dev/null");
    for (size_t i = 0; i < NIZ_COUNT(isa); i++) {
        others_same(isa[i], NULL);
        if (clang) others_same(isa[i], "clang");
    }
}
END_TEST

/* ---- graphs that repeat themselves ----------------------------------------------------------- */

/* A cell whose gates are elementwise, unrolled: the gradient of its weights. */
static int record_cell(niz *z, int steps, niz_t *want)
{
    niz_t w[6], h = niz_zeros(z, NIZ_F64, NIZ_SHAPE(14)), c = h;
    double v[14];
    for (int k = 0; k < 14; k++) v[k] = 0.1 * (k - 6);
    for (int k = 0; k < 6; k++) {
        char name[8];
        snprintf(name, sizeof name, "w%d", k);
        w[k] = niz_param(z, name, NIZ_F64, NIZ_SHAPE(14), niz_uniform_init(.lo = -1));
    }
    niz_t x = niz_copy_from(z, NIZ_F64, NIZ_SHAPE(14), v);
    for (int t = 0; t < steps; t++) {
        niz_t i = niz_sigmoid(niz_add(niz_add(niz_mul(w[0], x), niz_mul(w[1], h)), w[2]));
        niz_t f = niz_tanh(niz_add(niz_add(niz_mul(w[3], x), niz_mul(w[4], h)), w[5]));
        c = niz_add(niz_mul(c, i), niz_mul(niz_sub(1.0, i), f));
        h = niz_mul(niz_tanh(c), i);
    }
    niz_grad(niz_sum(niz_square(h)), 6, w, want);
    return 6;
}

START_TEST(steps_share_kernels)
{
    niz *z = open_with(NIZ_JIT_SYNC, NULL, NULL);
    niz_t want[6];
    for (int steps = 100; steps <= 200; steps += 100) {
        NIZ_STEP(z);
        int n = record_cell(z, steps, want);
        ck_assert_int_eq(niz_run(z, n, want), NIZ_OK);
        const niz_plan *p = last_plan(z);
        ck_assert_int_ge(chunk_tasks(p), steps / 10);
        ck_assert_msg(p->n_chunk_kernels <= 9, "%d steps: %u kernels for %d tasks", steps,
                      p->n_chunk_kernels, chunk_tasks(p));
    }
    niz_close(z);
}
END_TEST

/* One block of scalar operations, again and again. */
static niz_t record_blocks(niz *z, int blocks, int nodes)
{
    double v = 0.3;
    niz_t s = niz_copy_from(z, NIZ_F64, NIZ_SCALAR, &v), node[400];
    for (int b = 0; b < blocks; b++) {
        util_rng rng = {5};
        int n = 0;
        node[n++] = s;
        while (n < nodes) {
            niz_t x = node[n - 1 - util_below(&rng, n < 30 ? n : 30)], y = node[n - 1];
            int what = util_below(&rng, 4);
            node[n++] = what == 0   ? niz_tanh(niz_add(x, y))
                        : what == 1 ? niz_mul(niz_sub(x, y), 0.7)
                        : what == 2 ? niz_maximum(x, niz_neg(y))
                                    : niz_add(niz_mul(x, 0.5), y);
        }
        s = niz_tanh(node[nodes - 1]);
    }
    return s;
}

START_TEST(blocks_share_kernels)
{
    niz *z = open_with(NIZ_JIT_SYNC, NULL, NULL);
    NIZ_STEP(z);
    niz_t y = record_blocks(z, 60, 300);
    ck_assert_int_eq(niz_run(z, 1, &y), NIZ_OK);
    const niz_plan *p = last_plan(z);
    ck_assert_int_ge(chunk_tasks(p), 20);
    ck_assert_msg(p->n_chunk_kernels <= 12, "%u kernels for %d tasks", p->n_chunk_kernels,
                  chunk_tasks(p));
    niz_close(z);
}
END_TEST

/* So much text that it is compiled statement by statement. */
START_TEST(very_long_graphs_give_the_same_bits)
{
    double value[2];
    for (int i = 0; i < 2; i++) {
        niz *z = open_with(i ? NIZ_JIT_SYNC : NIZ_JIT_OFF, NULL, NULL);
        NIZ_STEP(z);
        double v[8];
        util_rng rng = {3};
        niz_t node[8];
        for (int k = 0; k < 8; k++) {
            v[k] = 0.1 * k;
            node[k] = niz_copy_from(z, NIZ_F64, NIZ_SHAPE(k % 4 ? 1 : 14), (double[14]){v[k]});
        }
        for (int n = 0; n < 24000; n++) {
            int a = util_below(&rng, 8), b = a < 4 ? 4 + util_below(&rng, 4) : util_below(&rng, 4);
            if (a % 4 == 0 && b % 4 != 0) b = 4 - a; /* keep widths apart */
            if (a % 4 && b % 4 == 0) b++;
            int what = util_below(&rng, 8);
            node[a] = what == 0   ? niz_tanh(node[b])
                      : what == 1 ? niz_maximum(node[a], niz_mul(node[b], -0.5))
                      : what == 2 ? niz_where(niz_gt(node[a], node[b]), node[a], niz_abs(node[b]))
                                  : niz_mul(niz_add(node[a], niz_mul(node[b], 0.9)), 0.5);
        }
        niz_t s = niz_sum(node[0]);
        for (int k = 1; k < 8; k++) s = niz_add(s, niz_sum(node[k]));
        value[i] = niz_item(s);
        if (i) ck_assert(last_plan(z)->ready);
        if (i) ck_assert_uint_gt(last_plan(z)->n_texts, 2);
        niz_close(z);
    }
    ck_assert(!memcmp(&value[0], &value[1], sizeof *value));
}
END_TEST

/* ---- planning -------------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Recording and planning blocks of scalars, with a compiler that fails at once. */
static double planning(int blocks)
{
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        niz *z = open_with(NIZ_JIT_SYNC, NULL, "false");
        NIZ_STEP(z);
        double begin = seconds();
        niz_t y = record_blocks(z, blocks, 300);
        ck_assert_int_eq(niz_run(z, 1, &y), NIZ_OK);
        double now = seconds() - begin;
        if (now < best) best = now;
        niz_close(z);
    }
    return best;
}

START_TEST(planning_is_linear)
{
    double few = planning(50), many = planning(400);
    ck_assert_msg(many < 8 * 2.5 * few, "%.1f ms for 8 times what takes %.1f ms", 1e3 * many,
                  1e3 * few);
}
END_TEST

/* ---- parameters ------------------------------------------------------------------------------ */

/* Parameters that are exchanged, read after they were assigned and read in part. */
static void train(niz *z, double *out)
{
    for (int step = 0; step < 3; step++) {
        NIZ_STEP(z);
        niz_t a = niz_param(z, "a", NIZ_F64, NIZ_SHAPE(14), niz_uniform_init(.lo = -1));
        niz_t b = niz_param(z, "b", NIZ_F64, NIZ_SHAPE(14), niz_uniform_init(.lo = -1));
        niz_t c = niz_param(z, "c", NIZ_F64, NIZ_SCALAR, niz_uniform_init(.lo = -1));
        niz_t next = niz_mul(b, 0.9); /* before the old version is read */
        niz_t g = niz_mul(niz_tanh(niz_add(a, c)), 0.5);
        niz_assign(a, next);
        niz_assign(b, niz_add(a, niz_mul(g, c)));
        niz_t later = niz_add(niz_mul(a, b), niz_select(a, 0, 3));
        niz_assign(c, niz_mul(niz_sum(later), 0.1));
        niz_t want[] = {later, niz_sub(b, niz_flip(a, 0))};
        ck_assert_int_eq(niz_run(z, 2, want), NIZ_OK);
        niz_read(want[0], out, 14 * sizeof *out);
        niz_read(want[1], out + 14, 14 * sizeof *out);
        out += 28;
    }
    for (int i = 0; i < 3; i++)
        niz_read(niz_find(z, (const char *[]){"a", "b", "c"}[i]), out + 14 * i,
                 (i < 2 ? 14 : 1) * sizeof *out);
}

START_TEST(parameters_are_safe)
{
    double p[3 * 28 + 29], q[3 * 28 + 29];
    niz *a = open_with(NIZ_JIT_OFF, NULL, NULL), *b = open_with(NIZ_JIT_SYNC, NULL, NULL);
    train(a, p);
    train(b, q);
    ck_assert(!memcmp(p, q, sizeof p));
    niz_close(a);
    niz_close(b);
}
END_TEST

/* The new version is made before the old one is read, by the same kernel. */
START_TEST(old_versions_are_read_first)
{
    double got[2][14];
    for (int i = 0; i < 2; i++) {
        niz *z = open_with(i ? NIZ_JIT_SYNC : NIZ_JIT_OFF, NULL, NULL);
        NIZ_STEP(z);
        niz_t a = niz_param(z, "a", NIZ_F64, NIZ_SHAPE(14), niz_uniform_init(.lo = -1));
        niz_t b = niz_param(z, "b", NIZ_F64, NIZ_SHAPE(14), niz_uniform_init(.lo = -1));
        niz_t next = niz_mul(b, 0.9), old = niz_tanh(niz_add(a, 0.5));
        niz_assign(a, next);
        ck_assert_int_eq(niz_run(z, 1, &old), NIZ_OK);
        niz_read(old, got[i], sizeof got[i]);
        niz_close(z);
    }
    ck_assert(!memcmp(got[0], got[1], sizeof got[0]));
}
END_TEST

/* An index that is refused leaves the parameter as it was, though its new value comes first. */
START_TEST(a_failing_run_assigns_nothing)
{
    niz *z = open_with(NIZ_JIT_SYNC, NULL, NULL);
    double before[14], after[14];
    int32_t bad[2] = {1, 99};
    {
        NIZ_STEP(z);
        niz_t a = niz_param(z, "a", NIZ_F64, NIZ_SHAPE(14), niz_uniform_init(.lo = -1));
        niz_read(a, before, sizeof before);
        niz_assign(a, niz_tanh(niz_add(niz_mul(a, 0.5), 1.0)));
        niz_t y =
            niz_take(niz_tanh(niz_mul(a, 2.0)), 0, niz_copy_from(z, NIZ_I32, NIZ_SHAPE(2), bad));
        ck_assert_int_eq(niz_run(z, 1, &y), NIZ_E_INDEX);
        niz_clear_error(z);
    }
    NIZ_STEP(z);
    niz_read(niz_find(z, "a"), after, sizeof after);
    ck_assert(!memcmp(before, after, sizeof before));
    niz_close(z);
}
END_TEST

/* ---- memory ---------------------------------------------------------------------------------- */

static niz_status run_small(util_memory *m)
{
    niz *z = util_open_counting(m);
    if (!z) return NIZ_E_MEMORY;
    {
        NIZ_STEP(z);
        niz_t want[7];
        int n = record_cell(z, 12, want);
        want[n++] = niz_tanh(niz_select(want[0], 0, 2));
        niz_run(z, n, want);
    }
    niz_status status = niz_error(z);
    niz_close(z);
    return status;
}

START_TEST(every_allocation_may_fail)
{
    util_memory m = {0};
    setenv("NIZ_JIT", "sync", 1);
    ck_assert_int_eq(run_small(&m), NIZ_OK);
    long all = m.asked, step = 1 + all / util_cases(300, 5000);
    for (long at = 1; at <= all; at += step) {
        m = (util_memory){.fail_at = at};
        niz_status status = run_small(&m);
        ck_assert_msg(status == NIZ_OK || status == NIZ_E_MEMORY, "%ld: status %d", at, status);
        ck_assert_int_eq(m.live, 0);
    }
}
END_TEST

int main(void)
{
    UTIL_MAIN("chunks", small_values_give_the_same_bits, small_values_give_the_same_bits_on_avx2,
              small_values_give_the_same_bits_on_sse2, small_values_give_the_same_bits_with_clang,
              small_numbers_of_other_types_are_converted, steps_share_kernels, blocks_share_kernels,
              very_long_graphs_give_the_same_bits, planning_is_linear, parameters_are_safe,
              old_versions_are_read_first, a_failing_run_assigns_nothing,
              every_allocation_may_fail);
}
