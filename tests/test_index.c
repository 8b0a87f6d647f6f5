/* test_index.c - one index a row: what the compiler makes of gather and scatter_add against the
 * interpreter, bit for bit, and the same errors for an index outside its axis.
 *
 * SPDX-License-Identifier: MIT */
#include <niz/nn.h>

#include "random_graph.h"

/* ---- graphs ---------------------------------------------------------------------------------- */

/* What a graph is made of: x of shape s, floating; one index a row along `axis`, all below n. */
typedef struct given {
    niz *z;
    niz_t x, index; /* index has x's shape, but 1 along the axis */
    int axis;
} given;

/* Outputs to y, how many returned. */
typedef struct form {
    const char *name;
    int (*make)(const given *g, niz_t *y);
} form;

static niz_t classes_of(const given *g)
{
    return niz_squeeze(g->index, g->axis);
}

static int make_loss(const given *g, niz_t *y)
{
    if (g->axis != (niz_shape_of(g->x).rank > 1)) return y[0] = niz_neg(g->x), 1;
    y[0] = niz_cross_entropy(g->x, classes_of(g));
    niz_grad(y[0], 1, &g->x, &y[1]);
    return 2;
}

static int make_smooth_losses(const given *g, niz_t *y)
{
    if (g->axis != (niz_shape_of(g->x).rank > 1)) return y[0] = niz_neg(g->x), 1;
    niz_t x = niz_mul(g->x, 30.0);
    y[0] =
        niz_cross_entropy(x, classes_of(g), .label_smoothing = 0.1, .reduction = NIZ_REDUCE_NONE);
    niz_grad(niz_sum(niz_square(y[0])), 1, &g->x, &y[1]);
    return 2;
}

/* The sign of zeros, infinities and NaNs are picked as they are. */
static int make_picks(const given *g, niz_t *y)
{
    niz_t x = niz_mul(g->x, -1.5), strange = niz_div(x, niz_abs(g->x)), own;
    y[0] = niz_mul(niz_gather(x, g->axis, g->index), 2.0);
    y[1] = niz_neg(niz_gather(strange, g->axis, g->index)); /* 0 / 0 */
    own = niz_gather(niz_div(1.0, x), g->axis, g->index);   /* 1 / 0, 1 / -0 */
    y[2] = niz_sub(x, own);
    y[3] = niz_gather(niz_abs(x), g->axis, g->index); /* leaves as it is */
    y[4] = niz_gather(g->x, g->axis, g->index);       /* of memory */
    return 5;
}

static int make_scatters(const given *g, niz_t *y)
{
    niz_t v = niz_gather(g->x, g->axis, g->index), zero = niz_full_like(g->x, 0);
    y[0] = niz_scatter_add(zero, g->axis, g->index, v); /* 0 + -0 = +0 */
    y[1] = niz_scatter_add(g->x, g->axis, g->index, niz_neg(v));
    y[2] = niz_mul(niz_scatter_add(niz_full_like(g->x, -0.0), g->axis, g->index, v), 3.0);
    y[3] = niz_sum(niz_mul(niz_scatter_add(zero, g->axis, g->index, niz_exp(v)), g->x),
                   .axis = g->axis);
    return 4;
}

/* What the same places are folded with, along this axis and along another. */
static int make_mixed(const given *g, niz_t *y)
{
    int rank = niz_shape_of(g->x).rank, other = rank > 1 && g->axis == 0 ? 1 : 0;
    niz_t m = niz_max(g->x, .axis = g->axis, .keepdims = true);
    niz_t s = niz_scatter_add(niz_tanh(g->x), g->axis, g->index, m);
    y[0] = niz_sum(niz_mul(s, g->x), .axis = other);
    y[1] = niz_max(niz_add(s, m), .axis = g->axis);
    y[2] = niz_add(s, niz_gather(s, g->axis, g->index));
    return 3;
}

/* All rows share an index: a view that stands still. */
static int make_shared_index(const given *g, niz_t *y)
{
    niz_t first = g->index;
    niz_shape s = niz_shape_of(g->index);
    for (int d = 0; d < s.rank; d++) first = niz_slice(first, d, 0, 1, 1);
    first = niz_broadcast(first, s);
    niz_t x = niz_add(g->x, 1.0);
    y[0] = niz_exp(niz_scatter_add(x, g->axis, first, niz_gather(x, g->axis, first)));
    y[1] = niz_neg(niz_gather(niz_square(x), g->axis, first));
    return 2;
}

/* The index is computed, from bytes as labels of images are. */
static int make_computed_index(const given *g, niz_t *y)
{
    niz_t index = niz_cast(niz_cast(g->index, NIZ_U8), NIZ_I32);
    niz_t x = niz_square(g->x);
    y[0] = niz_neg(niz_gather(x, g->axis, index));
    y[1] = niz_scatter_add(x, g->axis, index, y[0]);
    return 2;
}

static const form forms[] = {
    {"loss", make_loss},
    {"smooth_losses", make_smooth_losses},
    {"picks", make_picks},
    {"scatters", make_scatters},
    {"mixed", make_mixed},
    {"shared_index", make_shared_index},
    {"computed", make_computed_index},
};

/* Shapes of x, and the axis of the index. */
static const struct {
    niz_shape s;
    int axis;
} shapes[] = {
    {{2, {64, 10}}, 1},     {{2, {1, 10}}, 1},       {{2, {5, 2}}, 1},     {{2, {7, 3}}, 1},
    {{2, {33, 17}}, 1},     {{2, {3, 1000}}, 1},     {{2, {130, 6}}, 1},   {{2, {1, 2}}, 1},
    {{1, {10}}, 0},         {{1, {9001}}, 0},        {{2, {40, 70}}, 0},   {{2, {2, 33}}, 0},
    {{3, {3, 11, 5}}, 1},   {{4, {2, 10, 7, 9}}, 1}, {{3, {4, 5, 40}}, 2}, {{3, {4, 1, 21}}, 2},
    {{4, {3, 2, 8, 8}}, 1}, {{2, {9000, 3}}, 1},     {{2, {16, 16}}, 1},   {{2, {16, 16}}, 0},
    {{3, {600, 5, 20}}, 1}, {{2, {4, 9000}}, 1},     {{2, {1, 9000}}, 1},  {{2, {700, 40}}, 1},
};

/* One index a row below n; the first and the last place are among them. */
static niz_t index_leaf(niz *z, niz_dtype dtype, niz_shape s, int axis)
{
    int64_t n = s.dim[axis];
    s.dim[axis] = 1;
    int64_t count = niz_shape_count(&s);
    int64_t *wide = malloc(sizeof *wide * (size_t)count);
    int32_t *narrow = malloc(sizeof *narrow * (size_t)count);
    util_rng rng = {(uint64_t)(count * 31 + n)};
    for (int64_t i = 0; i < count; i++)
        narrow[i] = (int32_t)(wide[i] = i == 1   ? 0
                                        : i == 2 ? n - 1
                                                 : (int64_t)util_below(&rng, (int)n));
    niz_t t = niz_copy_from(z, dtype, s, dtype == NIZ_I32 ? (void *)narrow : (void *)wide);
    free(wide);
    free(narrow);
    return t;
}

/* All outputs, one after another; to be freed. */
static char *run_form(niz *z, size_t k, niz_dtype dtype, niz_dtype index, int64_t *n)
{
    NIZ_STEP(z);
    const form *f = &forms[k % NIZ_COUNT(forms)];
    niz_shape s = shapes[k / NIZ_COUNT(forms)].s;
    random_graph leaves = {.z = z, .dtype = dtype, .n = 1};
    given g = {z, rg_leaf(&leaves, s), .axis = shapes[k / NIZ_COUNT(forms)].axis};
    g.index = index_leaf(z, index, s, g.axis);
    niz_t y[8];
    int count = f->make(&g, y);
    ck_assert_msg(niz_run(z, count, y) == NIZ_OK, "%s: %s", f->name, niz_message(z));
    size_t size = niz_dtype_size(dtype), at = 0;
    *n = 0;
    for (int i = 0; i < count; i++) *n += rg_count(y[i]);
    char *bytes = malloc((size_t)*n * size + 1);
    for (int i = 0; i < count; i++) {
        size_t all = (size_t)rg_count(y[i]) * size;
        ck_assert_int_eq(niz_read(y[i], bytes + at, all), NIZ_OK);
        at += all;
    }
    return bytes;
}

static void forms_same(const char *isa, int threads, size_t from, size_t every)
{
    niz *a = util_open_jit(NIZ_JIT_OFF, isa, 1), *b = util_open_jit(NIZ_JIT_SYNC, isa, threads);
    for (size_t k = from; k < NIZ_COUNT(forms) * NIZ_COUNT(shapes) * 4; k += every) {
        niz_dtype dtype = k & 1 ? NIZ_F64 : NIZ_F32, index = k & 2 ? NIZ_I64 : NIZ_I32;
        int64_t n, m;
        char *p = run_form(a, k / 4, dtype, index, &n), *q = run_form(b, k / 4, dtype, index, &m);
        ck_assert_int_eq(n, m);
        int64_t at = rg_differ(dtype, p, q, n, 0);
        size_t f = k / 4 % NIZ_COUNT(forms);
        ck_assert_msg(at < 0, "%s of shape %d, %s by %s, isa %s: element %lld of %lld differs",
                      forms[f].name, (int)(k / 4 / NIZ_COUNT(forms)), niz_dtype_name(dtype),
                      niz_dtype_name(index), isa ? isa : "best", (long long)at, (long long)n);
        free(p);
        free(q);
    }
    niz_stats s = niz_statistics(b);
    ck_assert_int_gt(s.runs_compiled, 0);
    niz_close(a);
    niz_close(b);
}

START_TEST(one_index_a_row_gives_the_same_bits)
{
    forms_same(NULL, 1, 0, (size_t)util_cases(3, 1));
    forms_same(NULL, 4, 1, (size_t)util_cases(5, 3));
}
END_TEST

/* Tests of their own, for the time that compiling takes. */
START_TEST(avx2_gives_the_same_bits)
{
    forms_same("avx2", 2, 0, (size_t)util_cases(11, 1));
}
END_TEST

START_TEST(sse2_gives_the_same_bits)
{
    forms_same("sse2", 1, (size_t)util_cases(2, 0), (size_t)util_cases(13, 1));
}
END_TEST

/* ---- an index outside its axis --------------------------------------------------------------- */

#define ROWS 37
#define CLASSES 10

/* Trains one step; the message, and the parameter's hash after it. */
static void train(niz_jit_mode jit, niz_dtype dtype, int64_t at, int64_t bad, char message[512],
                  char hash[33])
{
    niz *z = util_open_jit(jit, NULL, 1);
    niz_optim sgd = niz_sgd(.lr = 0.1);
    for (int step = 0; step < 3; step++) {
        NIZ_STEP(z);
        int64_t wide[ROWS];
        int32_t narrow[ROWS];
        for (int i = 0; i < ROWS; i++) narrow[i] = (int32_t)(wide[i] = i % CLASSES);
        if (step == 2) narrow[at] = (int32_t)(wide[at] = bad);
        random_graph leaves = {.z = z, .dtype = NIZ_F32, .n = 1};
        niz_t x = rg_leaf(&leaves, (niz_shape){2, {ROWS, 20}});
        niz_t y = niz_copy_from(z, dtype, NIZ_SHAPE(ROWS),
                                dtype == NIZ_I32 ? (void *)narrow : (void *)wide);
        niz_t w = niz_param(z, "w", NIZ_F32, NIZ_SHAPE(20, CLASSES), niz_uniform_init(.lo = -1));
        niz_t loss = niz_cross_entropy(niz_matmul(x, w), y);
        niz_minimize(&sgd, loss);
        ck_assert_int_eq(niz_run(z, 1, &loss), step == 2 && bad ? NIZ_E_INDEX : NIZ_OK);
    }
    snprintf(message, 512, "%s", niz_message(z));
    niz_clear_error(z);
    niz_param_hash(z, hash);
    niz_close(z);
}

START_TEST(a_wrong_label_is_the_same_error_and_changes_nothing)
{
    static const int64_t wrong[] = {CLASSES, -1, INT32_MAX, INT32_MIN};
    char plain[512], compiled[512], before[33], after[33];
    for (size_t k = 0; k < NIZ_COUNT(wrong) * 4; k++) {
        niz_dtype dtype = k & 1 ? NIZ_I64 : NIZ_I32;
        int64_t at = k & 2 ? ROWS - 1 : 0, bad = wrong[k / 4];
        train(NIZ_JIT_OFF, dtype, at, bad, plain, before);
        train(NIZ_JIT_SYNC, dtype, at, bad, compiled, after);
        ck_assert_str_eq(plain, compiled);
        ck_assert_str_eq(before, after);
        ck_assert_ptr_nonnull(strstr(plain, "outside its axis"));
    }
    train(NIZ_JIT_SYNC, NIZ_I64, 0, ((int64_t)1 << 32) + 3, compiled, after); /* 3 in 32 bits */
    ck_assert_ptr_nonnull(strstr(compiled, "the index 4294967299 is outside its axis"));
    ck_assert_str_eq(before, after);
}
END_TEST

/* Loss and gradient of two rows, all of one class that the program names. */
static double loss_of_class(niz_jit_mode jit, double class, char message[512])
{
    niz *z = util_open_jit(jit, NULL, 1);
    double y;
    {
        NIZ_STEP(z);
        random_graph leaves = {.z = z, .dtype = NIZ_F64, .n = 1};
        niz_t x = rg_leaf(&leaves, NIZ_SHAPE(2, 20)), g;
        niz_t loss = niz_cross_entropy(niz_tanh(x), niz_full(z, NIZ_I32, NIZ_SHAPE(2), class));
        niz_grad(loss, 1, &x, &g);
        y = niz_item(niz_sum(niz_mul(niz_add(g, loss), niz_iota(z, NIZ_F64, NIZ_SHAPE(20), 0))));
    }
    strcpy(message, niz_message(z));
    niz_close(z);
    return y;
}

START_TEST(an_index_may_be_a_literal)
{
    char plain[512], compiled[512];
    for (int class = 0; class < 20; class += 19) {
        double y = loss_of_class(NIZ_JIT_OFF, class, plain);
        ck_assert_str_eq(plain, "");
        double p = loss_of_class(NIZ_JIT_SYNC, class, compiled);
        ck_assert_msg(y == p, "class %d: %.17g and %.17g; %s", class, y, p, compiled);
    }
    loss_of_class(NIZ_JIT_OFF, 20, plain);
    loss_of_class(NIZ_JIT_SYNC, 20, compiled);
    ck_assert_ptr_nonnull(strstr(plain, "the index 20 is outside its axis"));
    ck_assert_str_eq(plain, compiled);
}
END_TEST

/* ---- without memory -------------------------------------------------------------------------- */

/* Loss and gradient of [9,7] with request fail_at refused. */
static niz_status loss_without(util_memory *m)
{
    niz *z = niz_open(
        &(niz_options){.threads = 1, .jit = NIZ_JIT_SYNC, .realloc = util_realloc, .user = m});
    if (!z) return NIZ_E_MEMORY;
    {
        NIZ_STEP(z);
        random_graph leaves = {.z = z, .dtype = NIZ_F32, .n = 1};
        given g = {z, rg_leaf(&leaves, (niz_shape){2, {9, 7}}), .axis = 1};
        g.index = index_leaf(z, NIZ_I64, NIZ_SHAPE(9, 7), 1);
        niz_t y[2] = {g.x, g.x};
        if (niz_error(z) == NIZ_OK) make_loss(&g, y);
        niz_run(z, 2, y);
    }
    niz_status status = niz_error(z);
    niz_close(z);
    return status;
}

START_TEST(planning_without_memory_is_an_error_and_leaks_nothing)
{
    util_memory m = {0};
    ck_assert_int_eq(loss_without(&m), NIZ_OK);
    for (long n = 1, all = m.asked; n <= all; n++) {
        m = (util_memory){.fail_at = n};
        niz_status status = loss_without(&m);
        ck_assert_msg(status == NIZ_OK || status == NIZ_E_MEMORY, "request %ld: status %d", n,
                      (int)status);
        ck_assert_msg(m.live == 0, "request %ld: %ld blocks are left", n, m.live);
    }
}
END_TEST

int main(void)
{
    UTIL_MAIN("index", one_index_a_row_gives_the_same_bits, avx2_gives_the_same_bits,
              sse2_gives_the_same_bits, a_wrong_label_is_the_same_error_and_changes_nothing,
              an_index_may_be_a_literal, planning_without_memory_is_an_error_and_leaks_nothing);
}
