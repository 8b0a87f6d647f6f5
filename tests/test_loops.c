/* test_loops.c - reductions, copies, contractions and convolutions of every table this processor
 * runs, bit for bit against tests/reference.c: awkward sizes, strides, special values, cut ranges.
 *
 * Everything is drawn from a fixed seed; NIZ_TEST_SEED takes another, NIZ_TEST_ROUNDS more rounds.
 *
 * SPDX-License-Identifier: MIT */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "exec/exec.h"
#include "reference.h"

#define EXACT_MARGIN 64 /* elements of a known pattern around every result */

static uint64_t state;

static uint64_t draw(void)
{
    state += 0x9e3779b97f4a7c15u;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int64_t below(int64_t n)
{
    return (int64_t)(draw() % (uint64_t)n);
}

static int64_t between(int64_t lo, int64_t hi)
{
    return lo + below(hi - lo + 1);
}

static int64_t rounds(int64_t usual)
{
    const char *s = getenv("NIZ_TEST_ROUNDS");
    return s ? usual * atoi(s) : usual;
}

static void start(void)
{
    const char *s = getenv("NIZ_TEST_SEED");
    state = s ? strtoull(s, NULL, 0) : 20240229;
}

/* ---- buffers --------------------------------------------------------------------------------- */

static size_t size_of(niz_dtype d)
{
    static const size_t size[] = {4, 8, 4, 8, 1, 1};
    return size[d];
}

static double special(void)
{
    static const double value[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 1e-40, -1e-42, 0x1p-149,
                                   3e38, -3e38, 5e-324, 1e308};
    return value[below(NIZ_COUNT(value))];
}

/* Values whose sums round at every step; one in `odd` is special (0: none). */
static double value(int64_t odd)
{
    if (odd && below(odd) == 0) return special();
    double v = (double)(draw() >> 11) * 0x1p-53 * 4 - 2;
    return below(9) == 0 ? round(v) : v;
}

static void put(niz_dtype d, void *x, int64_t i, int64_t odd)
{
    switch (d) {
    case NIZ_F32: ((float *)x)[i] = (float)value(odd); break;
    case NIZ_F64: ((double *)x)[i] = value(odd); break;
    case NIZ_I32: ((int32_t *)x)[i] = (int32_t)(odd ? draw() : draw() % 5); break;
    case NIZ_I64: ((int64_t *)x)[i] = (int64_t)(odd ? draw() : draw() % 5); break;
    case NIZ_U8: ((uint8_t *)x)[i] = (uint8_t)draw(); break;
    case NIZ_BOOL: ((uint8_t *)x)[i] = draw() % 8 != 0; break;
    }
}

/* An operand as large as what is read of it, so that the sanitizers see a step too far.  Offsets
 * from base lie in [low, high]. */
typedef struct operand {
    char *memory, *base;
    int64_t low, high;
    niz_dtype dtype;
} operand;

static void reach(operand *o, int64_t n, int64_t stride)
{
    if (n < 1) return;
    if (stride < 0) o->low += (n - 1) * stride;
    else o->high += (n - 1) * stride;
}

static void reach_space(operand *o, const niz_loop_space *s, int buffer)
{
    for (int d = 0; d < s->rank; d++) reach(o, s->dim[d], s->stride[buffer][d]);
}

static void fill(operand *o, int64_t odd)
{
    size_t size = size_of(o->dtype);
    int64_t n = o->high - o->low + 1;
    o->memory = malloc((size_t)n * size);
    ck_assert_ptr_nonnull(o->memory);
    for (int64_t i = 0; i < n; i++) put(o->dtype, o->memory, i, odd);
    o->base = o->memory - o->low * (int64_t)size;
}

static void *make_result(int64_t n, size_t size)
{
    char *p = malloc(((size_t)n + 2 * EXACT_MARGIN) * size);
    ck_assert_ptr_nonnull(p);
    memset(p, 0xa5, ((size_t)n + 2 * EXACT_MARGIN) * size);
    return p + EXACT_MARGIN * size;
}

static void free_result(void *y, size_t size)
{
    free((char *)y - EXACT_MARGIN * size);
}

/* That y has want's n values and nothing around it was written. */
static void compare(const char *what, const char *isa, niz_dtype d, const void *y, const void *want,
                    int64_t n)
{
    size_t size = size_of(d);
    for (size_t i = 1; i <= EXACT_MARGIN * size; i++) {
        const unsigned char *p = y;
        ck_assert_msg(p[-(ptrdiff_t)i] == 0xa5 && p[(size_t)n * size + i - 1] == 0xa5,
                      "%s %s wrote outside its result", isa, what);
    }
    for (int64_t i = 0; i < n; i++) {
        bool same;
        double a = 0, b = 0;
        if (d == NIZ_F32) {
            a = (double)((const float *)y)[i], b = (double)((const float *)want)[i];
            same = niz_ref_same_f32(((const float *)y)[i], ((const float *)want)[i]);
        } else if (d == NIZ_F64) {
            a = ((const double *)y)[i], b = ((const double *)want)[i];
            same = niz_ref_same_f64(a, b);
        } else {
            size_t at = (size_t)i * size;
            same = !memcmp((const char *)y + at, (const char *)want + at, size);
        }
        ck_assert_msg(same, "%s %s: element %lld of %lld is %a, not %a", isa, what, (long long)i,
                      (long long)n, a, b);
    }
}

/* Of exactly that size for the sanitizers; full of NaNs, so that a result that depends on stale
 * scratch shows. */
static void *make_scratch(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    ck_assert_ptr_nonnull(p);
    memset(p, 0xff, bytes);
    return p;
}

/* ---- reductions ------------------------------------------------------------------------------ */

static int64_t wrap(niz_combine c, int64_t a, int64_t b)
{
    switch (c) {
    case NIZ_COMBINE_SUM: return (int64_t)((uint64_t)a + (uint64_t)b);
    case NIZ_COMBINE_PROD: return (int64_t)((uint64_t)a * (uint64_t)b);
    case NIZ_COMBINE_MAX: return a > b ? a : b;
    default: return a < b ? a : b;
    }
}

static int64_t integer_at(niz_dtype d, const void *x, int64_t i)
{
    return d == NIZ_I32   ? ((const int32_t *)x)[i]
           : d == NIZ_I64 ? ((const int64_t *)x)[i]
                          : ((const uint8_t *)x)[i];
}

static int64_t integer_nothing(niz_dtype d, niz_combine c)
{
    static const int64_t least[] = {0, 0, INT32_MIN, INT64_MIN, 0, 0};
    static const int64_t greatest[] = {0, 0, INT32_MAX, INT64_MAX, UINT8_MAX, 1};
    if (c == NIZ_COMBINE_SUM) return 0;
    if (c == NIZ_COMBINE_PROD) return 1;
    return c == NIZ_COMBINE_MAX ? least[d] : greatest[d];
}

static void reduce_integer(const niz_reduce_loop *l, const void *x, int64_t from, void *y,
                           int64_t i)
{
    int64_t best = integer_nothing(l->dtype, l->combine), at = 0;
    bool position = l->combine >= NIZ_COMBINE_ARGMAX;
    for (int64_t k = 0; k < l->n; k++) {
        int64_t v = integer_at(l->dtype, x, from + k * l->stride);
        if (!position) {
            best = wrap(l->combine, best, v);
        } else if (k == 0 || (l->combine == NIZ_COMBINE_ARGMAX ? v > best : v < best)) {
            best = v;
            at = k;
        }
    }
    if (position) ((int64_t *)y)[i] = at;
    else if (l->dtype == NIZ_I32) ((int32_t *)y)[i] = (int32_t)(uint32_t)best;
    else if (l->dtype == NIZ_I64) ((int64_t *)y)[i] = best;
    else ((uint8_t *)y)[i] = (uint8_t)best;
}

#define REDUCE_FLOATING(T, suffix)                                                                 \
    static void reduce_##suffix(const niz_reduce_loop *l, const T *x, void *y, int64_t i)          \
    {                                                                                              \
        T *v = y;                                                                                  \
        switch (l->combine) {                                                                      \
        case NIZ_COMBINE_SUM: v[i] = niz_ref_sum_##suffix(x, l->n, l->stride); break;              \
        case NIZ_COMBINE_PROD: v[i] = niz_ref_prod_##suffix(x, l->n, l->stride); break;            \
        case NIZ_COMBINE_MAX: v[i] = niz_ref_max_##suffix(x, l->n, l->stride); break;              \
        case NIZ_COMBINE_MIN: v[i] = niz_ref_min_##suffix(x, l->n, l->stride); break;              \
        case NIZ_COMBINE_ARGMAX:                                                                   \
            ((int64_t *)y)[i] = niz_ref_argmax_##suffix(x, l->n, l->stride);                       \
            break;                                                                                 \
        case NIZ_COMBINE_ARGMIN:                                                                   \
            ((int64_t *)y)[i] = niz_ref_argmin_##suffix(x, l->n, l->stride);                       \
            break;                                                                                 \
        }                                                                                          \
    }
REDUCE_FLOATING(float, f32)
REDUCE_FLOATING(double, f64)

static void reduce_reference(const niz_reduce_loop *l, const void *x, void *y, int64_t i)
{
    int64_t from = niz_ref_offset(&l->space, 0, i);
    if (l->dtype == NIZ_F32) reduce_f32(l, (const float *)x + from, y, i);
    else if (l->dtype == NIZ_F64) reduce_f64(l, (const double *)x + from, y, i);
    else reduce_integer(l, x, from, y, i);
}

/* One loop, whose y is contiguous, on every table, whole and cut at random. */
static void check_reduce(niz_reduce_loop *l, int64_t odd)
{
    operand x = {.dtype = l->dtype};
    int64_t n = niz_ref_count(&l->space);
    niz_dtype out = l->combine >= NIZ_COMBINE_ARGMAX ? NIZ_I64 : l->dtype;
    size_t size = size_of(out);
    reach_space(&x, &l->space, 0);
    reach(&x, l->n, l->stride);
    fill(&x, odd);
    char what[96];
    snprintf(what, sizeof what, "reduce %d of dtype %d, n %lld by %lld, %lld results",
             (int)l->combine, (int)l->dtype, (long long)l->n, (long long)l->stride, (long long)n);
    void *want = make_result(n, size);
    for (int64_t i = 0; i < n; i++) reduce_reference(l, x.base, want, i);
    const niz_loops *t;
    for (int i = 0; (t = niz_isa_get(i)) != NULL; i++)
        for (int cut = 0; cut < 2; cut++) {
            void *y = make_result(n, size);
            int64_t at = cut ? below(n + 1) : n;
            t->reduce(l, x.base, y, at, n);
            t->reduce(l, x.base, y, 0, at);
            compare(what, t->isa, out, y, want, n);
            free_result(y, size);
        }
    free_result(want, size);
    free(x.memory);
}

static void space_dim(niz_loop_space *s, int64_t n, int64_t first, int64_t second, int64_t third)
{
    s->dim[s->rank] = n;
    s->stride[0][s->rank] = first;
    s->stride[1][s->rank] = second;
    s->stride[2][s->rank++] = third;
}

/* y of a reduction is contiguous over its space. */
static void contiguous(niz_loop_space *s, int buffer)
{
    int64_t stride = 1;
    for (int d = s->rank - 1; d >= 0; d--) {
        s->stride[buffer][d] = stride;
        stride *= s->dim[d];
    }
}

static bool reducible(niz_dtype d, niz_combine c)
{
    return d != NIZ_BOOL || c == NIZ_COMBINE_MAX || c == NIZ_COMBINE_MIN;
}

static const int64_t lengths[] = {0,   1,   2,   7,    8,    9,    15,   16,   17,   31,  32,
                                  33,  63,  127, 128,  129,  255,  256,  257,  383,  384, 385,
                                  511, 512, 513, 1023, 1025, 1536, 2048, 2049, 2561, 3100};

START_TEST(reduce_lengths)
{
    start();
    for (int i = 0; i < NIZ_COUNT(lengths); i++)
        for (int c = 0; c <= NIZ_COMBINE_ARGMIN; c++)
            for (int d = 0; d < NIZ_N_DTYPES; d++) {
                if (!reducible((niz_dtype)d, (niz_combine)c)) continue;
                int64_t n = lengths[i], odd = below(2) ? 97 : 0;
                niz_reduce_loop last = {(niz_dtype)d, (niz_combine)c, n, 1, {.n = 2}};
                space_dim(&last.space, between(1, 6), n, 1, 0);
                check_reduce(&last, odd);
                int64_t m = between(1, n < 600 ? 90 : 40);
                niz_reduce_loop first = {(niz_dtype)d, (niz_combine)c, n, m, {.n = 2}};
                space_dim(&first.space, m, 1, 1, 0);
                check_reduce(&first, odd);
            }
}
END_TEST

START_TEST(reduce_strides)
{
    start();
    for (int64_t round = 0; round < rounds(600); round++) {
        niz_reduce_loop l = {.space = {.n = 2}};
        do {
            l.dtype = (niz_dtype)below(NIZ_N_DTYPES);
            l.combine = (niz_combine)below(NIZ_COMBINE_ARGMIN + 1);
        } while (!reducible(l.dtype, l.combine));
        l.n = below(4) ? below(40) : below(1100);
        l.stride = between(-3, 20);
        for (int64_t r = below(4); r > 0; r--) {
            int64_t stride = below(2) ? 1 : between(-20, 20);
            space_dim(&l.space, between(1, 12), stride, 0, 0);
        }
        if (l.space.rank && below(3) == 0) l.space.dim[l.space.rank - 1] = between(200, 300);
        contiguous(&l.space, 1);
        check_reduce(&l, below(2) ? 50 : 0);
    }
}
END_TEST

START_TEST(reduce_many_blocks)
{
    start();
    for (int d = 0; d < 2; d++)
        for (int64_t round = 0; round < 3; round++) {
            int64_t n = between(5000, 90000), m = between(4000, 9000);
            niz_reduce_loop last = {(niz_dtype)d, NIZ_COMBINE_SUM, n, 1, {.n = 2}};
            check_reduce(&last, 0);
            niz_reduce_loop first = {(niz_dtype)d, NIZ_COMBINE_SUM, m, 37, {.n = 2}};
            space_dim(&first.space, 37, 1, 1, 0);
            check_reduce(&first, 0);
        }
}
END_TEST

/* ---- copies ---------------------------------------------------------------------------------- */

/* The same elements whatever the order of the axes, whole and cut. */
static void check_copy(niz_copy_loop *l, niz_dtype d)
{
    operand x = {.dtype = d};
    int64_t n = niz_ref_count(&l->space);
    reach_space(&x, &l->space, 0);
    fill(&x, 97);
    char what[96];
    snprintf(what, sizeof what, "copy of dtype %d, rank %d, %lld elements", (int)d, l->space.rank,
             (long long)n);
    char *want = make_result(n, (size_t)l->bytes);
    for (int64_t i = 0; i < n; i++)
        memcpy(want + niz_ref_offset(&l->space, 1, i) * l->bytes,
               x.base + niz_ref_offset(&l->space, 0, i) * l->bytes, (size_t)l->bytes);
    niz_copy_loop sorted = *l;
    niz_space_for_copy(&sorted.space);
    const niz_loops *t;
    for (int i = 0; (t = niz_isa_get(i)) != NULL; i++)
        for (int cut = 0; cut < 4; cut++) {
            void *y = make_result(n, (size_t)l->bytes);
            int64_t at = cut & 1 ? below(n + 1) : n;
            const niz_copy_loop *loop = cut & 2 ? &sorted : l;
            t->copy(loop, x.base, y, at, n);
            t->copy(loop, x.base, y, 0, at);
            compare(what, t->isa, d, y, want, n);
            free_result(y, (size_t)l->bytes);
        }
    free_result(want, (size_t)l->bytes);
    free(x.memory);
}

/* Strides of a source that is a permutation with gaps, broadcast or turned around in places. */
static void scattered(niz_loop_space *s)
{
    int64_t stride = 1;
    bool done[NIZ_MAX_RANK] = {false};
    for (int left = s->rank; left > 0; left--) {
        int d = (int)below(s->rank);
        while (done[d]) d = (d + 1) % s->rank;
        done[d] = true;
        s->stride[0][d] = below(12) == 0 ? 0 : below(12) == 0 ? -stride : stride;
        stride *= s->dim[d] + (below(6) == 0);
    }
}

START_TEST(copy_random)
{
    start();
    for (int64_t round = 0; round < rounds(500); round++) {
        niz_dtype d = (niz_dtype)below(NIZ_N_DTYPES);
        niz_copy_loop l = {.bytes = (int)size_of(d), .space = {.n = 2, .rank = (int)below(7)}};
        int64_t room = 40000;
        for (int i = 0; i < l.space.rank; i++) {
            int64_t most = below(3) == 0 ? 90 : 6, dim = between(below(40) != 0, most);
            l.space.dim[i] = dim <= room ? dim : 1;
            room /= l.space.dim[i] ? l.space.dim[i] : 1;
        }
        scattered(&l.space);
        contiguous(&l.space, 1);
        check_copy(&l, d);
    }
}
END_TEST

/* The rule in space.c: the innermost axis stays; next to it comes the axis that is contiguous in
 * the source, unless the innermost is; else, if rows are shorter than 16, the one with the least
 * reach. */
static const struct {
    const char *what;
    int rank;
    int64_t dim[4], x[4], y[4];
    int order[4]; /* the axes as they were, from the outermost on */
} copies[] = {
    {"one element", 0, {0}, {0}, {0}, {0}},
    {"a row", 1, {9}, {3}, {1}, {0}},
    {"two axes", 2, {9, 4}, {1, 9}, {4, 1}, {0, 1}},
    {"a transpose from outside", 3, {5, 30, 20}, {1, 5, 150}, {600, 20, 1}, {1, 0, 2}},
    {"a transpose in place", 3, {30, 5, 20}, {5, 1, 150}, {100, 20, 1}, {0, 1, 2}},
    {"not the nearest", 4, {9, 2, 3, 4}, {1, 9, 72, 18}, {24, 12, 4, 1}, {1, 2, 0, 3}},
    {"the nearest of pooling", 4, {64, 14, 2, 2}, {56, 2, 28, 1}, {56, 4, 2, 1}, {0, 2, 1, 3}},
    {"the nearest from outside", 4, {3, 5, 4, 2}, {8, 48, 240, 24}, {40, 8, 2, 1}, {1, 2, 0, 3}},
    {"turned around", 3, {3, 10, 15}, {-100, -4000, -1}, {150, 15, 1}, {1, 0, 2}},
    {"a row of 15", 3, {3, 10, 15}, {100, 4000, 1}, {150, 15, 1}, {1, 0, 2}},
    {"a row of 16", 3, {3, 10, 16}, {100, 4000, 1}, {160, 16, 1}, {0, 1, 2}},
    {"overlapping windows", 3, {6, 3, 20}, {1, 90, 1}, {60, 20, 1}, {0, 1, 2}},
    {"as near in the result", 3, {2, 3, 4}, {0, 12, 3}, {12, 4, 1}, {0, 1, 2}},
};

START_TEST(copy_order)
{
    for (int i = 0; i < NIZ_COUNT(copies); i++) {
        niz_loop_space s = {.n = 2, .rank = copies[i].rank};
        memcpy(s.dim, copies[i].dim, sizeof copies[i].dim);
        memcpy(s.stride[0], copies[i].x, sizeof copies[i].x);
        memcpy(s.stride[1], copies[i].y, sizeof copies[i].y);
        niz_space_for_copy(&s);
        ck_assert_int_eq(s.rank, copies[i].rank);
        for (int d = 0; d < s.rank; d++) {
            int from = copies[i].order[d];
            bool same = s.dim[d] == copies[i].dim[from] && s.stride[0][d] == copies[i].x[from] &&
                        s.stride[1][d] == copies[i].y[from];
            ck_assert_msg(same, "%s: place %d has not axis %d but the one of %lld elements",
                          copies[i].what, d, from, (long long)s.dim[d]);
        }
    }
}
END_TEST

/* ---- contractions ---------------------------------------------------------------------------- */

static void contract_integer(const niz_contract_loop *l, const void *a, const void *b, void *y)
{
    int64_t rows = niz_ref_count(&l->m), cols = niz_ref_count(&l->n);
    int64_t terms = niz_ref_count(&l->k), n = niz_ref_count(&l->batch) * rows * cols;
    for (int64_t i = 0; i < n; i++) {
        int64_t e = i / cols / rows, sum = 0;
        int64_t u = niz_ref_offset(&l->batch, 0, e) + niz_ref_offset(&l->m, 0, i / cols % rows);
        int64_t v = niz_ref_offset(&l->batch, 1, e) + niz_ref_offset(&l->n, 0, i % cols);
        for (int64_t k = 0; k < terms; k++)
            sum = wrap(NIZ_COMBINE_SUM, sum,
                       wrap(NIZ_COMBINE_PROD,
                            integer_at(l->dtype, a, u + niz_ref_offset(&l->k, 0, k)),
                            integer_at(l->dtype, b, v + niz_ref_offset(&l->k, 1, k))));
        if (l->dtype == NIZ_I32) ((int32_t *)y)[i] = (int32_t)(uint32_t)(uint64_t)sum;
        else ((int64_t *)y)[i] = sum;
    }
}

static void contract_reference(const niz_contract_loop *l, const void *a, const void *b, void *y)
{
    if (l->dtype == NIZ_F32) niz_ref_contract_f32(l, a, b, y);
    else if (l->dtype == NIZ_F64) niz_ref_contract_f64(l, a, b, y);
    else contract_integer(l, a, b, y);
}

static const char nothing[1]; /* where a made operand would lie */

/* Makes an operand of a contraction from its memory. */
typedef struct contract_maker {
    niz_make base;
    const niz_contract_loop *l;
    const operand *from;
    int side;
} contract_maker;

static void contract_make(niz_make *base, void *out, int64_t stride, int64_t row, int64_t rows,
                          int64_t col, int64_t cols)
{
    const contract_maker *m = (const contract_maker *)base;
    const niz_loop_space *free = m->side ? &m->l->n : &m->l->m;
    bool across = m->l->made[m->side] == NIZ_MADE_ACROSS;
    int64_t each = niz_ref_count(across ? &m->l->k : free), size = (int64_t)size_of(m->l->dtype);
    ck_assert_int_le(cols, stride);
    for (int64_t i = row; i < row + rows; i++)
        for (int64_t j = col; j < col + cols; j++) {
            int64_t at = niz_ref_offset(&m->l->batch, m->side, i / each) +
                         niz_ref_offset(free, 0, across ? j : i % each) +
                         niz_ref_offset(&m->l->k, m->side, across ? i % each : j);
            memcpy((char *)out + ((i - row) * stride + j - col) * size,
                   (const char *)m->from->base + at * size, (size_t)size);
        }
}

/* The same product with one operand or both made, whose memory is then not to be read. */
static void check_contract_made(niz_contract_loop *l, const operand *a, const operand *b,
                                const void *want, const char *what)
{
    contract_maker m[2] = {{{contract_make}, l, a, 0}, {{contract_make}, l, b, 1}};
    int64_t n = niz_ref_count(&l->batch) * niz_ref_count(&l->m) * niz_ref_count(&l->n);
    const niz_loops *t;
    for (int i = 0; (t = niz_isa_get(i)) != NULL; i++) {
        int64_t how = between(1, 8);
        l->made[0] = (niz_made)(how % 3);
        l->made[1] = (niz_made)(how / 3);
        t->contract_prepare(l);
        niz_fused fused = {.make = {l->made[0] ? &m[0].base : NULL, l->made[1] ? &m[1].base : NULL}};
        void *y = make_result(n, size_of(l->dtype)), *scratch = make_scratch(l->plan.scratch);
        int64_t at = below(l->plan.units + 1);
        const void *p = l->made[0] ? nothing : a->base, *q = l->made[1] ? nothing : b->base;
        t->contract(l, p, q, y, at, l->plan.units, scratch, &fused);
        t->contract(l, p, q, y, 0, at, scratch, &fused);
        char made[160];
        snprintf(made, sizeof made, "%s, made %d %d", what, (int)l->made[0], (int)l->made[1]);
        compare(made, t->isa, l->dtype, y, want, n);
        free(scratch);
        free_result(y, size_of(l->dtype));
    }
    l->made[0] = l->made[1] = NIZ_MADE_NOT;
}

static void check_contract(niz_contract_loop *l, int64_t odd)
{
    operand a = {.dtype = l->dtype}, b = {.dtype = l->dtype};
    int64_t rows = niz_ref_count(&l->m), cols = niz_ref_count(&l->n);
    int64_t n = niz_ref_count(&l->batch) * rows * cols;
    size_t size = size_of(l->dtype);
    reach_space(&a, &l->batch, 0), reach_space(&a, &l->m, 0), reach_space(&a, &l->k, 0);
    reach_space(&b, &l->batch, 1), reach_space(&b, &l->n, 0), reach_space(&b, &l->k, 1);
    fill(&a, odd);
    fill(&b, odd);
    void *want = make_result(n, size);
    contract_reference(l, a.base, b.base, want);
    char what[96];
    snprintf(what, sizeof what, "contract of dtype %d, %lld rows, %lld columns, k %lld",
             (int)l->dtype, (long long)rows, (long long)cols, (long long)niz_ref_count(&l->k));
    const niz_loops *t;
    for (int i = 0; (t = niz_isa_get(i)) != NULL; i++)
        for (int cut = 0; cut < 2; cut++) {
            t->contract_prepare(l);
            void *y = make_result(n, size), *scratch = make_scratch(l->plan.scratch);
            int64_t units = l->plan.units, at = cut ? below(units + 1) : units;
            int64_t first = cut ? below(at + 1) : 0;
            t->contract(l, a.base, b.base, y, at, units, scratch, NULL);
            t->contract(l, a.base, b.base, y, first, at, scratch, NULL);
            t->contract(l, a.base, b.base, y, 0, first, scratch, NULL);
            compare(what, t->isa, l->dtype, y, want, n);
            free(scratch);
            free_result(y, size);
        }
    if (l->dtype == NIZ_F32 || l->dtype == NIZ_F64) check_contract_made(l, &a, &b, want, what);
    free_result(want, size);
    free(a.memory);
    free(b.memory);
}

/* y[m, n] of matrices a [m, k] and b [k, n], each in either order in memory. */
static niz_contract_loop matrices(niz_dtype d, int64_t m, int64_t n, int64_t k, bool turn_a,
                                  bool turn_b)
{
    niz_contract_loop l = {.dtype = d};
    space_dim(&l.m, m, turn_a ? 1 : k, n, 0);
    space_dim(&l.n, n, turn_b ? k : 1, 1, 0);
    space_dim(&l.k, k, turn_a ? m : 1, turn_b ? 1 : n, 0);
    return l;
}

START_TEST(contract_matrices)
{
    start();
    static const int64_t sizes[] = {0, 1, 2, 3, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 65};
    static const int64_t depths[] = {0, 1, 2, 5, 16, 64, 383, 384, 385, 769};
    for (int i = 0; i < NIZ_COUNT(sizes); i++)
        for (int j = 0; j < NIZ_COUNT(sizes); j++) {
            int64_t k = depths[below(NIZ_COUNT(depths))];
            if (sizes[i] * sizes[j] > 300 && k > 64) k %= 100;
            niz_dtype d = (niz_dtype)below(below(4) ? 2 : 4);
            niz_contract_loop l = matrices(d, sizes[i], sizes[j], k, below(2), below(2));
            check_contract(&l, below(3) ? 0 : 40);
        }
    for (int turns = 0; turns < 8; turns++) {
        niz_dtype d = turns & 4 ? NIZ_F64 : NIZ_F32;
        niz_contract_loop deep = matrices(d, 9, 33, 1200, turns & 1, turns & 2);
        check_contract(&deep, 0);
        niz_contract_loop wide = matrices(d, 11, 300, 20, turns & 1, turns & 2);
        check_contract(&wide, 0);
        niz_contract_loop tall = matrices(d, 270, 20, 13, turns & 1, turns & 2);
        check_contract(&tall, 0);
        niz_contract_loop both = matrices(d, 150, 300, 5, turns & 1, turns & 2);
        check_contract(&both, 0); /* with a transposed cut by rows first */
    }
}
END_TEST

/* Every number of rows, by columns that fill vectors and do not. */
START_TEST(contract_rows)
{
    start();
    for (int64_t rows = 1; rows < 30; rows++)
        for (int cols = 96; cols < 107; cols += 5) {
            niz_dtype d = below(2) ? NIZ_F64 : NIZ_F32;
            niz_contract_loop l = matrices(d, rows, cols, between(1, 20), below(2), below(2));
            check_contract(&l, below(3) ? 0 : 40);
        }
    for (int64_t rows = 1; rows < 4; rows++) /* few, over long columns, in blocks of k */
        for (int turned = 0; turned < 2; turned++) {
            niz_contract_loop f = matrices(NIZ_F32, rows, 300, 500, false, turned);
            check_contract(&f, 0);
            niz_contract_loop d = matrices(NIZ_F64, rows, 150, 500, false, turned);
            check_contract(&d, 0);
        }
}
END_TEST

START_TEST(contract_depths)
{
    start();
    for (int i = 0; i < NIZ_COUNT(lengths); i++)
        for (int d = 0; d < 2; d++) {
            niz_contract_loop l = matrices((niz_dtype)d, between(1, 9), between(1, 4), lengths[i],
                                           below(2), below(2));
            check_contract(&l, below(2) ? 200 : 0);
        }
}
END_TEST

static void draw_space(niz_loop_space *s, int64_t most, int64_t rank)
{
    for (int64_t r = below(rank + 1); r > 0; r--)
        space_dim(s, between(below(20) ? 1 : 0, most), between(-9, 9), between(-9, 9), 0);
    if (s->rank && below(2)) s->stride[below(2)][s->rank - 1] = 1;
}

START_TEST(contract_strides)
{
    start();
    for (int64_t round = 0; round < rounds(250); round++) {
        niz_contract_loop l = {.dtype = (niz_dtype)below(4)};
        draw_space(&l.batch, 3, 2);
        draw_space(&l.m, 7, 2);
        draw_space(&l.n, 7, 2);
        draw_space(&l.k, 9, 3);
        check_contract(&l, below(3) ? 0 : 60);
    }
}
END_TEST

/* ---- convolutions ---------------------------------------------------------------------------- */

static void conv_reach(const niz_conv_loop *l, operand *x, operand *w)
{
    reach(x, l->batch, l->x_stride[0]), reach(x, l->groups, l->x_stride[1]);
    reach(x, l->in, l->x_stride[2]);
    reach(w, l->groups, l->w_stride[0]), reach(w, l->out, l->w_stride[1]);
    reach(w, l->in, l->w_stride[2]);
    for (int d = 0; d < l->spatial; d++) {
        reach(x, l->x_size[d], l->x_stride[3 + d]);
        reach(w, l->w_size[d], l->w_stride[3 + d]);
    }
}

static int64_t conv_outputs(const niz_conv_loop *l)
{
    int64_t n = l->batch * l->groups * l->out;
    for (int d = 0; d < l->spatial; d++) n *= l->y_size[d];
    return n;
}

static double *as_doubles(const operand *o)
{
    int64_t n = o->high - o->low + 1;
    double *p = malloc((size_t)n * sizeof(double));
    ck_assert_ptr_nonnull(p);
    for (int64_t i = 0; i < n; i++) p[i] = (double)integer_at(o->dtype, o->memory, i);
    return p;
}

/* Small integers are exact in doubles, in any order. */
static void conv_integer(const niz_conv_loop *l, const operand *x, const operand *w, void *y)
{
    int64_t n = conv_outputs(l);
    double *u = as_doubles(x), *v = as_doubles(w), *sum = malloc((size_t)(n + 1) * sizeof(double));
    ck_assert_ptr_nonnull(sum);
    niz_ref_conv_f64(l, u - x->low, v - w->low, sum);
    for (int64_t i = 0; i < n; i++) {
        if (l->dtype == NIZ_I32) ((int32_t *)y)[i] = (int32_t)sum[i];
        else ((int64_t *)y)[i] = (int64_t)sum[i];
    }
    free(u);
    free(v);
    free(sum);
}

/* Makes x of a convolution from its memory: rows [b, g, c, all axes but the last]. */
typedef struct conv_maker {
    niz_make base;
    const niz_conv_loop *l;
    const operand *from;
} conv_maker;

static void conv_make(niz_make *base, void *out, int64_t stride, int64_t row, int64_t rows,
                      int64_t col, int64_t cols)
{
    const conv_maker *m = (const conv_maker *)base;
    const niz_conv_loop *l = m->l;
    int64_t size = (int64_t)size_of(l->dtype);
    int last = l->spatial - 1;
    ck_assert_int_le(cols, stride);
    ck_assert(col >= 0 && col + cols <= l->x_size[last]);
    for (int64_t i = 0; i < rows; i++) {
        int64_t at = 0, left = row + i;
        for (int d = last - 1; d >= 0; left /= l->x_size[d], d--)
            at += left % l->x_size[d] * l->x_stride[3 + d];
        at += left % l->in * l->x_stride[2] + left / l->in % l->groups * l->x_stride[1] +
              left / l->in / l->groups * l->x_stride[0];
        ck_assert_int_lt(left / l->in / l->groups, l->batch);
        for (int64_t j = 0; j < cols; j++)
            memcpy((char *)out + (i * stride + j) * size,
                   (const char *)m->from->base + (at + (col + j) * l->x_stride[3 + last]) * size,
                   (size_t)size);
    }
}

static void check_conv_made(niz_conv_loop *l, const operand *x, const operand *w, const void *want,
                            const char *what)
{
    conv_maker m = {{conv_make}, l, x};
    niz_fused fused = {.make = {&m.base}};
    const niz_loops *t;
    l->made = true;
    for (int i = 0; (t = niz_isa_get(i)) != NULL; i++) {
        int64_t n = conv_outputs(l), units = t->conv_units(l), at = below(units + 1);
        void *y = make_result(n, size_of(l->dtype)), *scratch = make_scratch(t->conv_scratch(l));
        t->conv(l, nothing, w->base, y, at, units, scratch, &fused);
        t->conv(l, nothing, w->base, y, 0, at, scratch, &fused);
        char made[200];
        snprintf(made, sizeof made, "%s, made", what);
        compare(made, t->isa, l->dtype, y, want, n);
        free(scratch);
        free_result(y, size_of(l->dtype));
    }
    l->made = false;
}

static void check_conv(niz_conv_loop *l, int64_t odd)
{
    operand x = {.dtype = l->dtype}, w = {.dtype = l->dtype};
    int64_t n = conv_outputs(l);
    l->threads = (int)between(1, 5);
    size_t size = size_of(l->dtype);
    conv_reach(l, &x, &w);
    fill(&x, odd);
    fill(&w, odd);
    void *want = make_result(n, size);
    if (l->dtype == NIZ_F32) niz_ref_conv_f32(l, (void *)x.base, (void *)w.base, want);
    else if (l->dtype == NIZ_F64) niz_ref_conv_f64(l, (void *)x.base, (void *)w.base, want);
    else conv_integer(l, &x, &w, want);
    char what[160];
    int64_t last = l->spatial - 1;
    snprintf(what, sizeof what,
             "conv%d B%lld G%lld C%lld K%lld, last axis %lld * %lld -> %lld, step %lld, "
             "dilation %lld, lo %lld, hole %lld",
             l->spatial, (long long)l->batch, (long long)l->groups, (long long)l->in,
             (long long)l->out, (long long)l->x_size[last], (long long)l->w_size[last],
             (long long)l->y_size[last], (long long)l->step[last], (long long)l->dilation[last],
             (long long)l->lo[last], (long long)l->hole[last]);
    const niz_loops *t;
    for (int i = 0; (t = niz_isa_get(i)) != NULL; i++)
        for (int cut = 0; cut < 2; cut++) {
            void *y = make_result(n, size), *scratch = make_scratch(t->conv_scratch(l));
            int64_t units = t->conv_units(l), at = cut ? below(units + 1) : units;
            t->conv(l, x.base, w.base, y, at, units, scratch, NULL);
            t->conv(l, x.base, w.base, y, 0, at, scratch, NULL);
            compare(what, t->isa, l->dtype, y, want, n);
            free(scratch);
            free_result(y, size);
        }
    bool holes = false;
    for (int d = 0; d < l->spatial; d++) holes = holes || l->hole[d] > 1;
    if (!holes && (l->dtype == NIZ_F32 || l->dtype == NIZ_F64))
        check_conv_made(l, &x, &w, want, what);
    free_result(want, size);
    free(x.memory);
    free(w.memory);
}

/* Sizes and paddings of one dimension; its output is what fits, or less. */
static void draw_dimension(niz_conv_loop *l, int d, int64_t x_most, int64_t w_most)
{
    l->x_size[d] = between(1, x_most);
    l->w_size[d] = between(1, w_most);
    l->step[d] = between(1, below(2) ? 1 : 4);
    l->dilation[d] = between(1, below(2) ? 1 : 3);
    l->hole[d] = between(1, below(2) ? 1 : 4);
    l->lo[d] = between(-2, 5);
    int64_t hi = between(-2, 5);
    int64_t padded = (l->x_size[d] - 1) * l->hole[d] + 1 + l->lo[d] + hi;
    int64_t span = (l->w_size[d] - 1) * l->dilation[d] + 1;
    l->y_size[d] = padded < span ? 0 : (padded - span) / l->step[d] + 1;
}

/* Row-major strides over the dims, in the order given; some lie backwards or are repeated. */
static void draw_strides(int64_t *stride, const int64_t *size, int n)
{
    bool natural = below(2);
    int64_t s = natural ? 1 : between(1, 2);
    for (int left = n, done[3 + NIZ_CONV_MAX] = {0}; left > 0; left--) {
        int d = natural ? left - 1 : (int)below(n);
        while (done[d]) d = (d + 1) % n;
        done[d] = 1;
        stride[d] = !natural && below(6) == 0 ? -s : !natural && below(12) == 0 ? 0 : s;
        s *= size[d] > 0 ? size[d] : 1;
    }
}

static void conv_strides(niz_conv_loop *l)
{
    int64_t x[3 + NIZ_CONV_MAX] = {l->batch, l->groups, l->in};
    int64_t w[3 + NIZ_CONV_MAX] = {l->groups, l->out, l->in};
    for (int d = 0; d < l->spatial; d++) {
        x[3 + d] = l->x_size[d];
        w[3 + d] = l->w_size[d];
    }
    draw_strides(l->x_stride, x, 3 + l->spatial);
    draw_strides(l->w_stride, w, 3 + l->spatial);
}

START_TEST(conv_random)
{
    start();
    for (int64_t round = 0; round < rounds(500); round++) {
        niz_conv_loop l = {.dtype = (niz_dtype)below(below(5) ? 2 : 4),
                           .spatial = (int)between(1, 3)};
        static const int64_t x_most[] = {0, 60, 14, 6};
        l.batch = between(below(15) ? 1 : 0, 4);
        l.groups = between(1, 2);
        l.in = between(below(15) ? 1 : 0, 5);
        l.out = between(1, 11);
        for (int d = 0; d < l.spatial; d++)
            draw_dimension(&l, d, x_most[l.spatial], l.spatial == 3 ? 3 : 5);
        conv_strides(&l);
        check_conv(&l, l.dtype > NIZ_F64 || below(3) ? 0 : 80);
    }
}
END_TEST

static niz_conv_loop plane(niz_dtype d, int64_t batch, int64_t in, int64_t out, int64_t size,
                           int64_t kernel, int64_t pad)
{
    niz_conv_loop l = {.dtype = d, .spatial = 2, .batch = batch, .groups = 1, .in = in, .out = out};
    for (int i = 0; i < 2; i++) {
        l.x_size[i] = size;
        l.w_size[i] = kernel;
        l.lo[i] = pad;
        l.step[i] = l.dilation[i] = l.hole[i] = 1;
        l.y_size[i] = size + 2 * pad - kernel + 1;
    }
    l.x_stride[0] = in * size * size, l.x_stride[2] = size * size;
    l.x_stride[3] = size, l.x_stride[4] = 1;
    l.w_stride[1] = in * kernel * kernel, l.w_stride[2] = kernel * kernel;
    l.w_stride[3] = kernel, l.w_stride[4] = 1;
    return l;
}

/* As for a gradient of the input: weights [in, out, taps], the taps from the last to the first.
 * Terms of more than a block of 384 do not lie side by side, for many chunks of two groups. */
static niz_conv_loop turned(niz_dtype d)
{
    enum { IN = 50, OUT = 3, TAPS = 9, SIZE = 34 };
    niz_conv_loop l = plane(d, 2, IN, OUT, SIZE, 3, 1);
    l.groups = 2;
    l.x_stride[1] = l.x_stride[0];
    l.x_stride[0] *= 2;
    l.w_stride[0] = IN * OUT * TAPS, l.w_stride[1] = TAPS, l.w_stride[2] = OUT * TAPS;
    l.w_stride[3] = -3, l.w_stride[4] = -1;
    return l;
}

/* Many channels, pieces of an image, several images to a chunk, kernels longer than a block,
 * weights to be gathered. */
START_TEST(conv_layers)
{
    start();
    for (int d = 0; d < 2; d++) {
        niz_conv_loop many = plane((niz_dtype)d, 2, 90, 9, 5, 3, 1);
        check_conv(&many, 0);
        niz_conv_loop pieces = plane((niz_dtype)d, 2, 2, 3, 40, 3, 1);
        check_conv(&pieces, 0);
        niz_conv_loop images = plane((niz_dtype)d, 41, 3, 3, 4, 2, 0);
        check_conv(&images, 0);
        niz_conv_loop gradient = plane((niz_dtype)d, 3, 5, 7, 23, 21, 0);
        check_conv(&gradient, 0);
        niz_conv_loop rows = plane((niz_dtype)d, 1, 2, 300, 3, 3, 1);
        check_conv(&rows, 0);
        niz_conv_loop gathered = turned((niz_dtype)d);
        check_conv(&gathered, 0);
        niz_conv_loop wide = {.dtype = (niz_dtype)d, .spatial = 1, .batch = 2, .groups = 2, .in = 2,
                              .out = 3, .x_size = {900}, .w_size = {400}, .y_size = {520},
                              .step = {1}, .dilation = {1}, .lo = {9}, .hole = {1},
                              .x_stride = {3600, 1800, 900, 1}, .w_stride = {2400, 800, 400, 1}};
        check_conv(&wide, 0);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("loops");
    TCase *t = tcase_create("against the reference");
    tcase_set_timeout(t, 600);
    tcase_add_test(t, reduce_lengths);
    tcase_add_test(t, reduce_strides);
    tcase_add_test(t, reduce_many_blocks);
    tcase_add_test(t, copy_random);
    tcase_add_test(t, copy_order);
    tcase_add_test(t, contract_matrices);
    tcase_add_test(t, contract_rows);
    tcase_add_test(t, contract_depths);
    tcase_add_test(t, contract_strides);
    tcase_add_test(t, conv_random);
    tcase_add_test(t, conv_layers);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
