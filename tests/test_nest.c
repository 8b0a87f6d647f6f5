/* test_nest.c - every form of fused kernel against the interpreter, bit for bit: small graphs of
 * floating tensors over awkward shapes, on each instruction set and on several threads.
 *
 * SPDX-License-Identifier: MIT */
#include <unistd.h>

#include "random_graph.h"

/* ---- one form at a time ---------------------------------------------------------------------- */

/* A small graph of the tensors a, b [shape] and c [the last axis]: outputs to y; how many. */
typedef struct form {
    const char *name;
    int (*make)(niz_t a, niz_t b, niz_t c, niz_t *y);
} form;

static int make_column_folds(niz_t a, niz_t b, niz_t c, niz_t *y)
{
    (void)c;
    y[0] = niz_sum(a, .axis = 0);
    y[1] = niz_max(niz_mul(a, b), .axis = 0);
    y[2] = niz_min(a, .axis = 0);
    y[3] = niz_prod(niz_add(niz_mul(b, 0.01), 1.0), .axis = 0);
    y[4] = niz_mean(niz_square(niz_sub(a, b)), .axis = 0);
    return 5;
}

static int make_column_updates(niz_t a, niz_t b, niz_t c, niz_t *y)
{
    y[0] = niz_mul(a, b); /* stored, and summed over lines */
    y[1] = niz_sub(c, niz_mul(niz_sum(y[0], .axis = 0), 0.1));
    y[2] = niz_where(niz_gt(niz_sum(a, .axis = 0), c), c, 2.0);
    return niz_shape_of(a).rank == 2 ? 3 : 1;
}

/* Column values go back into elements: a batch norm, whose first sums are another stage. */
static int make_column_stages(niz_t a, niz_t b, niz_t c, niz_t *y)
{
    niz_t d = niz_sub(a, niz_mean(a, .axis = 0, .keepdims = true));
    niz_t v = niz_mean(niz_square(d), .axis = 0, .keepdims = true);
    niz_t e =
        niz_exp(niz_mul(d, niz_rsqrt(niz_add(v, 1e-5)))); /* costly: kept for the next stage */
    y[0] = niz_div(e, niz_sum(e, .axis = 0, .keepdims = true));
    y[1] = niz_mul(niz_add(d, c), b);
    return 2;
}

/* One value a line, and strides other than 1. */
static int make_column_views(niz_t a, niz_t b, niz_t c, niz_t *y)
{
    int last = niz_shape_of(a).rank - 1;
    niz_t line = niz_max(b, .axis = last, .keepdims = true);
    y[0] = niz_sum(niz_mul(a, line), .axis = 0);
    y[1] = niz_sum(niz_broadcast(niz_exp(line), niz_shape_of(a)), .axis = 0);
    y[2] = niz_sum(niz_slice(a, last, 0, NIZ_END, 2), .axis = 0);
    y[3] = niz_sum(niz_transpose(niz_mul(a, c), 0, last), .axis = 0);
    y[4] = niz_sum(niz_where(niz_gt(a, b), niz_flip(a, last), line), .axis = 0);
    return 5;
}

static int make_middle_axis(niz_t a, niz_t b, niz_t c, niz_t *y)
{
    int rank = niz_shape_of(a).rank;
    y[0] = niz_sum(niz_mul(a, b), .axis = rank - 2);
    y[1] = niz_max(niz_add(a, c), .axis = rank - 2, .keepdims = true);
    y[2] = niz_sub(b, niz_mul(niz_sum(b, .axis = rank - 2, .keepdims = true), 0.01));
    return 3;
}

/* What is cheap is computed by two kernels: rows and columns of the same differences. */
static int make_again(niz_t a, niz_t b, niz_t c, niz_t *y)
{
    int last = niz_shape_of(a).rank - 1;
    niz_t d = niz_sub(a, niz_mean(a, .axis = last, .keepdims = true));
    niz_t r = niz_rsqrt(niz_add(niz_mean(niz_square(d), .axis = last, .keepdims = true), 1e-5));
    niz_t n = niz_mul(d, r);
    y[0] = niz_sum(niz_mul(niz_mul(n, b), c), .axis = last);
    y[1] = niz_sum(niz_mul(n, b), .axis = 0);
    y[2] = niz_sum(niz_mul(niz_tanh(n), niz_sub(b, c)), .axis = 0);
    y[3] = niz_max(niz_mul(b, niz_sub(b, c)), .axis = last);
    return 4;
}

/* Two dear values of the first stage are kept for the second, one of the second for the third. */
static int make_row_stages(niz_t a, niz_t b, niz_t c, niz_t *y)
{
    int last = niz_shape_of(a).rank - 1;
    niz_t e = niz_exp(a), t = niz_tanh(b);
    niz_t s = niz_sum(niz_mul(e, t), .axis = last, .keepdims = true);
    niz_t m = niz_max(e, .axis = last, .keepdims = true);
    niz_t u = niz_div(niz_add(niz_mul(e, s), t), niz_add(m, 1.0));
    niz_t p = niz_prod(niz_add(niz_mul(u, 1e-3), 1.0), .axis = last, .keepdims = true);
    y[0] = niz_add(niz_mul(u, p), niz_mul(e, c));
    y[1] = niz_min(niz_sub(niz_mul(t, p), u), .axis = last);
    return 2;
}

/* Where both axes are as long, a row's value may not pass for a column's, nor a transposed element
 * for its own. */
static int make_square(niz_t a, niz_t b, niz_t c, niz_t *y)
{
    niz_shape s = niz_shape_of(a);
    if (s.rank != 2 || s.dim[0] != s.dim[1]) return y[0] = niz_add(a, c), 1;
    niz_t u = niz_mul(a, b);
    y[0] = niz_sub(u, niz_sum(u, .axis = 1)); /* of another row */
    y[1] = niz_sub(u, niz_sum(u, .axis = 0, .keepdims = true));
    y[2] = niz_sub(a, niz_reshape(niz_max(a, .axis = 0), NIZ_SHAPE(s.dim[0], 1)));
    y[3] = niz_sum(niz_add(u, niz_transpose(u, 0, 1)), .axis = 0);
    return 4;
}

/* ---- numbers of other types, converted as they are loaded -------------------------------------
 */

static niz_dtype other_float(niz_dtype dtype)
{
    return dtype == NIZ_F32 ? NIZ_F64 : NIZ_F32;
}

/* A whole number of each size, both signs; those of i64 need two roundings done as one: just above
 * a tie of f32 by less than f64 can tell. */
static int64_t whole_number(util_rng *r, niz_dtype dtype)
{
    int64_t sign = util_below(r, 2) ? 1 : -1;
    if (dtype == NIZ_U8) return util_below(r, 256);
    if (dtype == NIZ_I32) return util_below(r, 9) ? sign * util_below(r, 40000000) : INT32_MIN;
    int64_t high = (int64_t)1 << (24 + util_below(r, 39)), tie = high >> 24;
    if (util_below(r, 9) == 0) return util_below(r, 2) ? INT64_MIN : INT64_MAX;
    return sign * (high + (util_below(r, 3) - 1) * (tie + 2 * tie * util_below(r, 99)) +
                   util_below(r, 3) - 1);
}

/* A real number of each kind: ordinary, a tie of f32 or near one, too large or too small for f32.
 */
static double real_number(util_rng *r)
{
    double v = util_real(r, -2, 2), tie = 1 + 0x1p-24;
    switch (util_below(r, 8)) {
    case 0: return tie + 0x1p-23 * util_below(r, 1000);
    case 1: return -tie - 0x1p-52;
    case 2: return v * 1e-42;
    case 3: return v * 1e39;
    case 4: return util_below(r, 2) ? v / 0.0 : -0.0;
    default: return v;
    }
}

static niz_t other_leaf(niz *z, niz_dtype dtype, niz_shape s)
{
    int64_t n = niz_shape_count(&s);
    char *bytes = malloc(8 * (size_t)(n + 1));
    util_rng r = {(uint64_t)n * 31 + (uint64_t)dtype};
    for (int64_t i = 0; i < n; i++) switch (dtype) {
        case NIZ_U8: ((uint8_t *)bytes)[i] = (uint8_t)whole_number(&r, dtype); break;
        case NIZ_I32: ((int32_t *)bytes)[i] = (int32_t)whole_number(&r, dtype); break;
        case NIZ_I64: ((int64_t *)bytes)[i] = whole_number(&r, dtype); break;
        case NIZ_F32: ((float *)bytes)[i] = (float)real_number(&r); break;
        default: ((double *)bytes)[i] = real_number(&r);
        }
    niz_t t = niz_copy_from(z, dtype, s, bytes);
    free(bytes);
    return t;
}

static niz_t cast_like(niz_t a, niz_dtype from, niz_shape s)
{
    return niz_cast(other_leaf(a.z, from, s), niz_dtype_of(a));
}

/* Every type as it is, summed over rows and columns, and a value of all rows. */
static int make_casts(niz_t a, niz_t b, niz_t c, niz_t *y)
{
    niz_shape s = niz_shape_of(a), line = niz_shape_of(c);
    niz_dtype from[] = {NIZ_U8, NIZ_I32, NIZ_I64, other_float(niz_dtype_of(a))};
    niz_t x[4];
    for (int i = 0; i < 4; i++) {
        x[i] = cast_like(a, from[i], s);
        y[i] = niz_add(niz_mul(x[i], 0.75), i < 2 ? a : cast_like(a, from[i], line));
    }
    y[4] = niz_sum(niz_div(niz_sub(x[0], 33.3), 78.6), .axis = s.rank - 1);
    y[5] = niz_sum(niz_mul(niz_add(x[1], b), x[2]), .axis = 0);
    y[6] = niz_sum(niz_flatten(niz_minimum(niz_maximum(x[3], b), a), 0));
    return 7;
}

/* One value a row or column, one for all, and elements that are not neighbours in memory. */
static int make_cast_views(niz_t a, niz_t b, niz_t c, niz_t *y)
{
    niz_shape s = niz_shape_of(a), rows = s, turned = s;
    int last = s.rank - 1;
    rows.dim[last] = 1;
    turned.dim[0] = s.dim[last];
    turned.dim[last] = s.dim[0];
    niz_dtype to = niz_dtype_of(a), real = other_float(to);
    y[0] = niz_sum(niz_mul(a, cast_like(a, NIZ_I64, rows)), .axis = 0);
    y[1] = niz_max(niz_sub(cast_like(a, NIZ_U8, rows), niz_mul(b, c)), .axis = last);
    y[2] = niz_mul(niz_add(a, cast_like(a, real, NIZ_SCALAR)), cast_like(a, NIZ_I32, NIZ_SCALAR));
    y[3] = niz_sub(b, niz_transpose(cast_like(a, NIZ_U8, turned), 0, last));
    y[4] = niz_sum(niz_transpose(cast_like(a, NIZ_I64, turned), 0, last), .axis = last);
    niz_t even = niz_slice(other_leaf(a.z, real, s), last, 0, NIZ_END, 2);
    niz_t odd = niz_slice(other_leaf(a.z, NIZ_I32, s), last, 1, NIZ_END, 2);
    y[5] = niz_mul(niz_cast(even, to), 1.5);
    y[6] = niz_sum(niz_mul(niz_cast(odd, to), 0.5), .axis = 0);
    return 7;
}

/* What is cast is computed: by kernels of another type, or by none. */
static int make_casts_of_results(niz_t a, niz_t b, niz_t c, niz_t *y)
{
    niz_dtype to = niz_dtype_of(a), from = other_float(to);
    int last = niz_shape_of(a).rank - 1;
    niz_t x = niz_mul(niz_cast(a, from), 1.1), r = niz_sum(x, .axis = last, .keepdims = true);
    y[0] = niz_add(niz_mul(niz_cast(x, to), b), niz_cast(r, to));
    y[1] = niz_sum(niz_mul(niz_cast(x, to), c), .axis = 0);
    y[2] = niz_sum(niz_cast(niz_cast(niz_mul(a, 1000.0), NIZ_I32), to), .axis = last);
    y[3] = niz_mul(niz_cast(niz_gt(niz_cast(niz_gt(a, b), NIZ_U8), 0), to), b);
    return 4;
}

/* A contraction's results are finished with numbers of other types, and its operands are made of
 * them. */
static int make_casts_of_tiles(niz_t a, niz_t b, niz_t c, niz_t *y)
{
    niz_shape s = niz_shape_of(a);
    if (s.rank != 2 || s.dim[0] > 600 || s.dim[1] > 600) return y[0] = niz_add(a, c), 1;
    niz_t bytes = niz_div(niz_sub(cast_like(a, NIZ_U8, s), 33.3), 78.6);
    niz_t product = niz_matmul(a, niz_transpose(b, 0, 1)); /* [rows,rows] */
    niz_t whole = cast_like(a, NIZ_I32, niz_shape_of(product));
    y[0] = niz_add(niz_mul(product, 2.0), whole);
    y[1] = niz_matmul(bytes, niz_transpose(b, 0, 1));
    y[2] = niz_matmul(niz_transpose(cast_like(a, NIZ_I64, s), 0, 1), a);
    return 3;
}

static const form forms[] = {
    {"column_folds", make_column_folds},   {"column_updates", make_column_updates},
    {"column_stages", make_column_stages}, {"column_views", make_column_views},
    {"middle_axis", make_middle_axis},     {"again", make_again},
    {"row_stages", make_row_stages},       {"square", make_square},
};

static const form cast_forms[] = {
    {"casts", make_casts},
    {"cast_views", make_cast_views},
    {"casts_of_results", make_casts_of_results},
    {"casts_of_tiles", make_casts_of_tiles},
};

static const niz_shape shapes[] = {
    {2, {10, 128}}, {2, {3, 70}},      {2, {16, 64}},    {2, {17, 200}},   {2, {513, 33}},
    {2, {1100, 7}}, {2, {2600, 65}},   {3, {5, 40, 31}}, {3, {31, 2, 90}}, {3, {2, 530, 18}},
    {2, {64, 2}},   {4, {3, 9, 4, 5}}, {2, {300, 128}},  {2, {6, 9000}},   {2, {40, 40}},
    {2, {70, 3}},   {3, {7, 30, 5}},   {2, {1000, 2}},   {3, {2, 3, 4}},   {3, {40, 4, 3}},
};

static const niz_shape cast_shapes[] = {
    {2, {10, 128}}, {2, {17, 200}}, {2, {513, 33}},  {3, {5, 40, 31}}, {2, {64, 2}},
    {2, {6, 9000}}, {2, {40, 40}},  {3, {7, 30, 5}}, {2, {500, 590}},
};

static niz_t form_leaf(niz *z, niz_dtype dtype, niz_shape s, int salt)
{
    random_graph g = {.z = z, .dtype = dtype, .n = salt};
    return rg_leaf(&g, s);
}

static rg_outcome run_form(niz *z, const form *f, niz_dtype dtype, niz_shape s)
{
    NIZ_STEP(z);
    niz_t y[8];
    niz_t a = form_leaf(z, dtype, s, 1), b = form_leaf(z, dtype, s, 2);
    int n = f->make(a, b, form_leaf(z, dtype, NIZ_SHAPE(s.dim[s.rank - 1]), 3), y);
    ck_assert_msg(niz_run(z, n, y) == NIZ_OK, "%s: %s", f->name, niz_message(z));
    return rg_outcome_of(dtype, n, y);
}

/* Forms over shapes. */
typedef struct form_set {
    const form *form;
    const niz_shape *shape;
    size_t n_forms, n_shapes;
} form_set;

static void forms_same(const form_set *t, const char *isa, int threads, size_t every)
{
    niz *a = util_open_jit(NIZ_JIT_OFF, isa, 1), *b = util_open_jit(NIZ_JIT_SYNC, isa, threads);
    for (size_t k = 0; k < t->n_forms * t->n_shapes * 2; k += every) {
        const form *f = &t->form[k / 2 % t->n_forms];
        niz_dtype dtype = k % 2 ? NIZ_F64 : NIZ_F32;
        size_t shape = k / 2 / t->n_forms;
        rg_outcome p = run_form(a, f, dtype, t->shape[shape]),
                   q = run_form(b, f, dtype, t->shape[shape]);
        int64_t at = rg_differ(dtype, p.bytes, q.bytes, p.n, 0);
        ck_assert_msg(at < 0, "%s of shape %d, %s, isa %s: element %lld of %lld differs", f->name,
                      (int)shape, niz_dtype_name(dtype), isa ? isa : "best", (long long)at,
                      (long long)p.n);
        free(p.bytes);
        free(q.bytes);
    }
    niz_close(a);
    niz_close(b);
}

START_TEST(every_form_gives_the_same_bits)
{
    form_set t = {forms, shapes, NIZ_COUNT(forms), NIZ_COUNT(shapes)};
    forms_same(&t, NULL, 1, 1);
    forms_same(&t, NULL, 4, 3);
    forms_same(&t, "avx2", 2, (size_t)util_cases(3, 1));
    forms_same(&t, "sse2", 1, (size_t)util_cases(11, 1));
}
END_TEST

START_TEST(every_cast_gives_the_same_bits)
{
    form_set t = {cast_forms, cast_shapes, NIZ_COUNT(cast_forms), NIZ_COUNT(cast_shapes)};
    forms_same(&t, NULL, 1, 1);
    forms_same(&t, NULL, 4, 5);
    forms_same(&t, "avx2", 2, (size_t)util_cases(3, 1));
    forms_same(&t, "sse2", 1, (size_t)util_cases(5, 1));
}
END_TEST

START_TEST(every_cast_gives_the_same_bits_with_clang)
{
    if (system("command -v clang >/dev/null")) {
        puts("nest: no clang here");
        return;
    }
    setenv("NIZ_CC", "clang", 1);
    form_set t = {cast_forms, cast_shapes, NIZ_COUNT(cast_forms), NIZ_COUNT(cast_shapes)};
    forms_same(&t, NULL, 1, (size_t)util_cases(5, 1));
    forms_same(&t, "avx2", 1, (size_t)util_cases(7, 1));
    forms_same(&t, "sse2", 1, (size_t)util_cases(11, 1));
    unsetenv("NIZ_CC");
}
END_TEST

/* ---- parameters ------------------------------------------------------------------------------ */

/* The update is of rows; columns of what it was made of are summed by a later kernel, which
 * computes them again: from the old version. */
static void update_rows(niz *z, double *out)
{
    float w[40 * 64], seen[64];
    {
        NIZ_STEP(z);
        niz_t p = niz_param(z, "w", NIZ_F32, NIZ_SHAPE(40, 64), niz_uniform_init(.lo = -1));
        niz_t b = form_leaf(z, NIZ_F32, NIZ_SHAPE(40, 64), 2);
        niz_t half = niz_mul(niz_sub(p, 0.25), b);
        niz_assign(p, niz_add(half, p));
        niz_t columns = niz_sum(niz_sub(half, p), .axis = 0);
        ck_assert_int_eq(niz_read(columns, seen, sizeof seen), NIZ_OK);
        expect_ok(z);
    }
    NIZ_STEP(z);
    ck_assert_int_eq(niz_read(niz_find(z, "w"), w, sizeof w), NIZ_OK);
    for (int i = 0; i < 64; i++) out[i] = (double)seen[i];
    for (int i = 0; i < 40 * 64; i++) out[64 + i] = (double)w[i];
}

START_TEST(a_later_kernel_reads_the_old_version)
{
    static double a[64 + 40 * 64], b[64 + 40 * 64];
    niz *z = util_open_jit(NIZ_JIT_OFF, NULL, 1);
    for (int i = 0; i < 3; i++) update_rows(z, a);
    niz_close(z);
    z = util_open_jit(NIZ_JIT_SYNC, NULL, 1);
    for (int i = 0; i < 3; i++) update_rows(z, b);
    niz_close(z);
    ck_assert_mem_eq(a, b, sizeof a);
}
END_TEST

/* ---- buffers written over -------------------------------------------------------------------- */

/* In no nest: what it reads and gives is in memory. */
static niz_t through_integers(niz_t x)
{
    return niz_cast(niz_cast(x, NIZ_I64), NIZ_F64);
}

/* y could be written over x, of which a row's value reads an element of another row ... */
static int overwritten_rows(niz *z, niz_t *want)
{
    niz_t x = through_integers(niz_mul(form_leaf(z, NIZ_F64, NIZ_SHAPE(64, 8), 1), 1000.0));
    niz_t y = niz_mul(x, 3.75); /* [64,8] */
    niz_t first = niz_slice(niz_flatten(x, 0), 0, 0, 64, 1);
    want[0] = through_integers(y);
    want[1] = niz_add(y, niz_unsqueeze(niz_mul(first, 3.0), 1));
    return 2;
}

/* ... or, where values are small, a shorter one its first elements. */
static int overwritten_values(niz *z, niz_t *want)
{
    niz_t x = through_integers(niz_mul(form_leaf(z, NIZ_F64, NIZ_SHAPE(8), 1), 1000.0));
    want[0] = through_integers(niz_mul(x, 3.75)); /* [8] */
    want[1] = niz_mul(niz_slice(x, 0, 0, 4, 1), 2.0);
    return 2;
}

static void read_whole(int (*make)(niz *z, niz_t *want))
{
    double got[2][2 * 64 * 8];
    int64_t n = 0;
    for (int compiled = 0; compiled < 2; compiled++) {
        niz *z = util_open_jit(compiled ? NIZ_JIT_SYNC : NIZ_JIT_OFF, NULL, 1);
        NIZ_STEP(z);
        niz_t want[2];
        make(z, want);
        ck_assert_int_eq(niz_run(z, 2, want), NIZ_OK);
        n = 0;
        for (int i = 0; i < 2; n += rg_count(want[i++]))
            ck_assert_int_eq(
                niz_read(want[i], got[compiled] + n, sizeof **got * (size_t)rg_count(want[i])),
                NIZ_OK);
        niz_close(z);
    }
    ck_assert_mem_eq(got[0], got[1], sizeof **got * (size_t)n);
}

START_TEST(what_others_read_in_part_is_not_written_over)
{
    read_whole(overwritten_rows);
    read_whole(overwritten_values);
}
END_TEST

/* ---- what the dumps say ---------------------------------------------------------------------- */

/* What running y prints to standard error with NIZ_DUMP=what; to be freed. */
static char *dump_of(const char *what, niz_t (*make)(niz *z))
{
    niz *z = util_open_jit(NIZ_JIT_SYNC, NULL, 1);
    niz_t y = make(z);
    expect_ok(z);
    char path[] = "/tmp/niz-dump-XXXXXX";
    int fd = mkstemp(path), kept = dup(STDERR_FILENO);
    ck_assert(fd >= 0 && kept >= 0);
    unlink(path);
    fflush(stderr);
    dup2(fd, STDERR_FILENO);
    setenv("NIZ_DUMP", what, 1);
    niz_status status = niz_run(z, 1, &y);
    unsetenv("NIZ_DUMP");
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    ck_assert_int_eq(status, NIZ_OK);
    niz_close(z);
    off_t n = lseek(fd, 0, SEEK_END);
    char *text = calloc(1, (size_t)n + 1);
    ck_assert_int_eq(pread(fd, text, (size_t)n, 0), n);
    close(fd);
    return text;
}

static niz_t leaf(niz *z, int64_t rows, int64_t columns, int salt)
{
    return form_leaf(z, NIZ_F32, NIZ_SHAPE(rows, columns), salt);
}

static void says(const char *text, const char *what)
{
    ck_assert_msg(strstr(text, what) != NULL, "no \"%s\" in\n%s", what, text);
}

static void says_not(const char *text, const char *what)
{
    ck_assert_msg(strstr(text, what) == NULL, "\"%s\" in\n%s", what, text);
}

/* Rows and columns of the same centred values: these are computed twice, and not stored. */
static niz_t make_rows_and_columns(niz *z)
{
    niz_t a = leaf(z, 40, 64, 1), b = leaf(z, 40, 64, 2);
    niz_t d = niz_sub(a, niz_mean(a, .axis = 1, .keepdims = true));
    niz_t v = niz_sum(niz_square(d), .axis = 1); /* [40] */
    niz_t c = niz_sum(niz_mul(d, b), .axis = 0); /* [64] */
    return niz_add(niz_sum(v), niz_sum(niz_mul(c, c)));
}

START_TEST(the_dump_of_fuse_names_groups_and_copies)
{
    char *text = dump_of("fuse", make_rows_and_columns);
    says(text, "bytes not moved");
    says(text, "rows f32[40,64]");
    says(text, "columns f32[40,64]");
    says(text, " sub, element, again");
    says_not(text, " sub, element, stored");
    says(text, " mul, element\n"); /* moved into the columns */
    says(text, "it folds another axis");
    free(text);
}
END_TEST

/* The exponential is too dear to compute twice. */
static niz_t make_dear(niz *z)
{
    niz_t a = leaf(z, 40, 64, 1), e = niz_exp(a);
    niz_t r = niz_sum(e, .axis = 1), c = niz_sum(e, .axis = 0);
    return niz_add(niz_sum(r), niz_sum(c));
}

START_TEST(what_is_dear_is_stored)
{
    char *text = dump_of("fuse", make_dear);
    says(text, " exp, element, stored");
    says_not(text, " exp, element, again");
    free(text);
}
END_TEST

/* A mask and a factor of a large operand, which is used for nothing else. */
static niz_t make_packed(niz *z)
{
    niz_t a = leaf(z, 600, 600, 1), b = leaf(z, 600, 40, 2);
    return niz_sum(niz_matmul(niz_relu(niz_mul(niz_add(a, 0.5), 3.0)), b));
}

/* A factor and a mask of weights that 2000 rows go through: three times, or where several blocks of
 * a sum are held until they are finished, nine times. */
static niz_t make_packed_often(niz *z)
{
    niz_t b = niz_relu(niz_mul(leaf(z, 400, 700, 2), 2.0));
    return niz_matmul(leaf(z, 2000, 400, 1), b);
}

static niz_t make_packed_too_often(niz *z)
{
    return niz_relu(make_packed_often(z));
}

/* The same beside another reader, and summed over axes that are no neighbours in memory. */
static niz_t make_not_packed(niz *z)
{
    niz_t a = niz_relu(form_leaf(z, NIZ_F32, NIZ_SHAPE(40, 50, 200), 1));
    niz_t b = form_leaf(z, NIZ_F32, NIZ_SHAPE(30, 200, 50), 2);
    return niz_sum(niz_einsum("ijk,lkj->il", a, niz_relu(b)));
}

START_TEST(a_large_operand_is_computed_while_it_is_packed)
{
    char *text = dump_of("fuse", make_packed);
    says(text, "panel f32[600,600]");
    says(text, "packed along as operand 0 of");
    says(text, " relu, element\n");
    says_not(text, " relu, element, stored");
    free(text);
    text = dump_of("fuse", make_packed_often);
    says(text, "packed across as operand 1 of");
    free(text);
    text = dump_of("fuse", make_packed_too_often);
    says_not(text, "panel");
    free(text);
    text = dump_of("fuse", make_not_packed);
    says_not(text, "panel f32[30,200,50]");
    says(text, "the contraction reads it in an order that has no rows");
    free(text);
}
END_TEST

/* Bytes, normalised for a contraction that uses a part of them, and another reader of them. */
static niz_t make_of_bytes(niz *z)
{
    niz_t image = other_leaf(z, NIZ_U8, NIZ_SHAPE(40, 640)), b = leaf(z, 640, 30, 1);
    niz_t x = niz_div(niz_sub(niz_cast(image, NIZ_F32), 33.3), 78.6);
    niz_t labels = niz_cast(other_leaf(z, NIZ_I64, NIZ_SHAPE(40, 30)), NIZ_F32);
    return niz_add(niz_sum(niz_mul(niz_matmul(x, b), labels)), niz_sum(niz_sin(x)));
}

START_TEST(a_cast_is_a_load)
{
    char *text = dump_of("fuse", make_of_bytes);
    says(text, " cast, element\n");
    says_not(text, " cast, element, stored");
    says_not(text, "in no nest");
    free(text);
    text = dump_of("nest", make_of_bytes);
    says(text, " = load.element @0 u8");
    says(text, " i64  # stage 0");
    says_not(text, " = cast.");
    free(text);
}
END_TEST

/* Casts to what no nest computes, and one of what another group computes. */
static niz_t make_casts_refused(niz *z)
{
    niz_t x = niz_mul(niz_tanh(form_leaf(z, NIZ_F64, NIZ_SHAPE(40, 64), 1)), 100.0);
    niz_t y = niz_mul(niz_cast(x, NIZ_F32), 0.5);
    return niz_add(niz_sum(y), niz_sum(niz_cast(niz_cast(y, NIZ_I32), NIZ_F32)));
}

START_TEST(a_cast_in_lanes_is_refused)
{
    char *text = dump_of("fuse", make_casts_refused);
    says(text, " mul, element, stored"); /* in f64 */
    says(text, " cast, stored\n      in no nest: its values are not all of one floating type");
    says(text, " cast, element");
    says(text, "it is of another type");
    free(text);
}
END_TEST

static niz_t make_refused(niz *z)
{
    static const int32_t index[3] = {1, 0, 2};
    niz_t a = leaf(z, 40, 64, 1), b = leaf(z, 8, 30, 2);
    niz_t x = niz_add(niz_sum(niz_tanh(a)), niz_sum(niz_sin(b)));
    niz_t i = niz_copy_from(z, NIZ_I32, NIZ_SHAPE(3), index);
    return niz_add(x, niz_sum(niz_take(niz_tanh(a), 0, i)));
}

START_TEST(the_dump_of_fuse_says_who_refused_and_why)
{
    char *text = dump_of("fuse", make_refused);
    says(text, "not in group 0: it has another shape");
    says(text, "in no nest: its values are not all of one floating type");
    free(text);
}
END_TEST

/* A flat sum is complete when all threads are. */
static niz_t make_flat(niz *z)
{
    niz_t a = form_leaf(z, NIZ_F32, NIZ_SHAPE(20000), 1);
    return niz_sum(niz_square(niz_sub(a, niz_sum(a))));
}

/* Two nodes may be one value of a nest: here they differ by an axis of size 1. */
START_TEST(a_flat_sum_that_is_two_nodes_reaches_both)
{
    float a[20000], y[2];
    for (int i = 0; i < NIZ_COUNT(a); i++) a[i] = (float)sin(i);
    for (int compiled = 0; compiled < 2; compiled++) {
        niz *z = util_open_jit(compiled ? NIZ_JIT_SYNC : NIZ_JIT_OFF, NULL, 1);
        NIZ_STEP(z);
        niz_t x = niz_from(z, NIZ_F32, NIZ_SHAPE(1, 20000), a);
        niz_t p = niz_sum(niz_tanh(x), .axis = 1);
        niz_t q = niz_sum(niz_tanh(niz_reshape(x, NIZ_SHAPE(20000))));
        ck_assert_int_eq(NIZ_RUN(z, p, q), NIZ_OK);
        ck_assert_int_eq(niz_statistics(z).runs_compiled, compiled);
        float now[2] = {(float)niz_item(p), (float)niz_item(q)};
        ck_assert(now[0] == now[1]);
        ck_assert(!compiled || now[0] == y[0]);
        memcpy(y, now, sizeof y);
        niz_close(z);
    }
}
END_TEST

START_TEST(the_dump_of_fuse_tells_flat_sums)
{
    char *text = dump_of("fuse", make_flat);
    says(text, "flat f32[20000]");
    says(text, "what it reads there is complete only at the group's end");
    free(text);
}
END_TEST

#define HOSTILE "x*/ #error \n\"${IFS}`reboot`?\?/\\.c"

static niz_t make_hostile(niz *z)
{
    niz_at at = {HOSTILE, 41};
    return niz_exp_at(at, leaf(z, 9, 40, 1));
}

START_TEST(a_kernel_says_what_it_computes_and_no_name_escapes)
{
    char *text = dump_of("kernel", make_hostile);
    says(text, "/* niz_k0: 1 operations on f32[9,40]\n");
    says(text, "__reboot__");
    says(text, ".c:41: exp */");
    says_not(text, "#error");
    says_not(text, "x*/");
    says_not(text, "`");
    free(text);
}
END_TEST

int main(void)
{
    UTIL_MAIN("nest", every_form_gives_the_same_bits, every_cast_gives_the_same_bits,
              every_cast_gives_the_same_bits_with_clang, a_later_kernel_reads_the_old_version,
              what_others_read_in_part_is_not_written_over,
              the_dump_of_fuse_names_groups_and_copies, what_is_dear_is_stored,
              a_large_operand_is_computed_while_it_is_packed, a_cast_is_a_load,
              a_cast_in_lanes_is_refused, the_dump_of_fuse_says_who_refused_and_why,
              a_flat_sum_that_is_two_nodes_reaches_both, the_dump_of_fuse_tells_flat_sums,
              a_kernel_says_what_it_computes_and_no_name_escapes);
}
