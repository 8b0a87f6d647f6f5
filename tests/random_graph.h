/* random_graph.h - graphs of random operations, the same from the same seed: for comparing one way
 * of computing with another.
 *
 * Values stay small and every operation is continuous, so that where two ways may differ in the
 * last bits (a contraction rewritten as product and sum) they still agree within a bound.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_RANDOM_GRAPH_H
#define NIZ_RANDOM_GRAPH_H

#include "util.h"

#define GRAPH_MAX 80

typedef struct random_graph {
    niz *z;
    util_rng rng;
    niz_dtype dtype;
    bool thin;    /* contractions with a free size of 1 as well */
    bool wide;    /* rows long enough for the compiler's nests */
    double shift; /* added to some literals: another graph of the same form */
    int n;
    niz_t node[GRAPH_MAX];
} random_graph;

static inline int64_t rg_count(niz_t x)
{
    niz_shape s = niz_shape_of(x);
    return niz_shape_count(&s);
}

static inline niz_t rg_any(random_graph *g)
{
    return g->node[util_below(&g->rng, g->n)];
}

/* Data whose values depend on its size alone. */
static inline niz_t rg_leaf(random_graph *g, niz_shape s)
{
    int64_t n = niz_shape_count(&s);
    double *v = malloc(sizeof *v * (size_t)(n + 1));
    util_rng values = {(uint64_t)n * 77 + (uint64_t)s.rank + (uint64_t)g->n};
    for (int64_t i = 0; i < n; i++) {
        v[i] = util_real(&values, -2, 2);
        if (util_below(&values, 11) == 0) v[i] = util_below(&values, 2) ? 0.0 : -0.0;
        if (g->dtype == NIZ_F32) ((float *)v)[i] = (float)v[i];
    }
    niz_t t = niz_copy_from(g->z, g->dtype, s, v);
    free(v);
    return t;
}

static inline niz_shape rg_shape(random_graph *g)
{
    niz_shape s = {.rank = util_below(&g->rng, 4)};
    for (int d = 0; d < s.rank; d++) s.dim[d] = 1 + util_below(&g->rng, 5);
    static const int rows[] = {6, 16, 17, 40, 131, 513};
    if (s.rank && g->wide) s.dim[s.rank - 1] = rows[util_below(&g->rng, NIZ_COUNT(rows))];
    static const int lines[] = {15, 17, 64, 515};
    if (s.rank > 1 && g->wide && util_below(&g->rng, 3) == 0) {
        s.dim[0] = lines[util_below(&g->rng, NIZ_COUNT(lines))];
        s.dim[s.rank - 1] = 2 + util_below(&g->rng, 40);
    }
    if (s.rank && util_below(&g->rng, 40) == 0) s.dim[0] = 0;
    if (s.rank == 1 && util_below(&g->rng, 8) == 0) s.dim[0] = g->wide ? 9000 : 700;
    return s;
}

static inline niz_t rg_unary(random_graph *g, niz_t x)
{
    switch (util_below(&g->rng, 12)) {
    case 0: return niz_neg(x);
    case 1: return niz_abs(x);
    case 2: return niz_tanh(x);
    case 3: return niz_sigmoid(x);
    case 4: return niz_sin(x);
    case 5: return niz_relu(x);
    case 6: return niz_erf(x);
    case 7: return niz_cos(x);
    case 8: return niz_square(niz_tanh(x));
    case 9: return niz_sqrt(niz_add(niz_abs(x), 0.5));
    case 10: return niz_neg(niz_neg(x));
    default: return niz_cast(niz_cast(x, NIZ_F64), g->dtype);
    }
}

/* Numbers that rewrites look for. */
static inline double rg_number(random_graph *g)
{
    static const double some[] = {0, -0.0, 1, -1, 0.5, 2, 0.1};
    double v = some[util_below(&g->rng, NIZ_COUNT(some))];
    return util_below(&g->rng, 2) ? v : v + g->shift;
}

static inline niz_t rg_binary(random_graph *g, niz_t a, niz_t b)
{
    switch (util_below(&g->rng, 8)) {
    case 0: return niz_add(a, b);
    case 1: return niz_sub(a, b);
    case 2: return niz_mul(niz_tanh(a), b);
    case 3: return niz_maximum(a, b);
    case 4: return niz_minimum(a, b);
    case 5: return niz_div(a, niz_add(niz_abs(b), 1.0));
    case 6: return niz_where(niz_gt(a, b), a, b);
    default: return niz_add(a, niz_neg(b));
    }
}

static inline niz_t rg_with_number(random_graph *g, niz_t x)
{
    double v = rg_number(g);
    switch (util_below(&g->rng, 9)) {
    case 0: return niz_add(x, v);
    case 1: return niz_sub(x, v);
    case 2: return niz_sub(v, x);
    case 3: return niz_mul(x, v);
    case 4: return niz_div(x, v == 0 ? 1.0 : v);
    case 5: return niz_maximum(x, v);
    case 6: return niz_mul(x, niz_full_like(x, v));
    case 7: return niz_add(x, niz_mul(niz_number_like(x, v), niz_number_like(x, 0.3)));
    default: return niz_where(niz_lt(x, v), x, v);
    }
}

static inline niz_t rg_fold(random_graph *g, niz_t x, int axis)
{
    bool keep = util_below(&g->rng, 2);
    switch (util_below(&g->rng, 7)) {
    case 0: return niz_mul(niz_sum(x, .axis = axis, .keepdims = keep), 0.25);
    case 1: return niz_tanh(niz_mean(x, .axis = axis, .keepdims = keep));
    case 2: return niz_maximum(niz_max(x, .axis = axis, .keepdims = keep), -3.0);
    case 3: return niz_minimum(niz_min(x, .axis = axis, .keepdims = keep), 3.0);
    case 4: return niz_prod(niz_tanh(x), .axis = axis, .keepdims = keep);
    case 5: return niz_softmax(x, axis);
    default: return niz_tanh(niz_sum(x));
    }
}

static inline niz_t rg_permuted(random_graph *g, niz_t x)
{
    int rank = niz_shape_of(x).rank;
    niz_axes a = {.n = rank};
    for (int d = 0; d < rank; d++) a.axis[d] = d;
    for (int d = rank; d-- > 1;) {
        int k = util_below(&g->rng, d + 1), t = a.axis[d];
        a.axis[d] = a.axis[k];
        a.axis[k] = t;
    }
    return niz_permute(x, a);
}

/* Other sizes for the same elements: two neighbours joined, or one split. */
static inline niz_t rg_reshaped(random_graph *g, niz_t x)
{
    niz_shape s = niz_shape_of(x), t = s;
    if (s.rank == 0) return niz_unsqueeze(x, 0);
    int d = util_below(&g->rng, s.rank);
    if (d + 1 < s.rank && util_below(&g->rng, 2)) {
        t.dim[d] *= t.dim[d + 1];
        for (int i = d + 1; i + 1 < s.rank; i++) t.dim[i] = t.dim[i + 1];
        t.rank--;
        return niz_reshape(x, t);
    }
    if (s.rank > 4) return niz_flatten(x, 0);
    int64_t part = s.dim[d] % 3 == 0 && s.dim[d] ? 3 : s.dim[d] % 2 == 0 && s.dim[d] ? 2 : 1;
    for (int i = t.rank++; i > d; i--) t.dim[i] = t.dim[i - 1];
    t.dim[d] = part;
    t.dim[d + 1] = s.dim[d] / part;
    return niz_reshape(x, t);
}

static inline niz_t rg_moved(random_graph *g, niz_t x)
{
    niz_shape s = niz_shape_of(x);
    if (!s.rank) return niz_unsqueeze(x, 0);
    int d = util_below(&g->rng, s.rank);
    niz_shape wide = s;
    switch (util_below(&g->rng, 11)) {
    case 0: return rg_permuted(g, x);
    case 1:
    case 2: return rg_reshaped(g, x);
    case 3: return niz_slice(x, d, util_below(&g->rng, 2), NIZ_END, 1 + util_below(&g->rng, 2));
    case 4: return niz_pad(x, d, util_below(&g->rng, 2), util_below(&g->rng, 3), 0.25);
    case 5: return niz_flip(x, d);
    case 6: return niz_concat(2, ((niz_t[]){x, niz_flip(x, d)}), d);
    case 7: return s.rank < 4 ? niz_stack(2, ((niz_t[]){x, niz_neg(x)}), d) : x;
    case 8: return s.rank < 4 && s.dim[d] >= 2 ? niz_window(x, d, 2, 1, 1) : x;
    case 9:
        if (s.rank > 3) return x;
        for (int i = wide.rank++; i > 0; i--) wide.dim[i] = wide.dim[i - 1];
        wide.dim[0] = 2;
        return niz_broadcast(x, wide);
    default: return rg_permuted(g, rg_reshaped(g, rg_permuted(g, x)));
    }
}

/* A product of two of the graph's values, made to fit. */
static inline niz_t rg_contracted(random_graph *g, niz_t x)
{
    niz_shape s = niz_shape_of(x);
    int64_t n = rg_count(x), m = n % 3 == 0 ? 3 : n % 2 == 0 ? 2 : 1, k = n ? n / m : 0;
    if (!n || n > 400 || s.rank == 0) return x;
    if (!g->thin && (m < 2 || k < 2)) return x;
    niz_t a = niz_tanh(niz_reshape(x, NIZ_SHAPE(m, k)));
    switch (util_below(&g->rng, g->thin ? 5 : 3)) {
    case 0: return niz_mul(niz_matmul(a, niz_transpose(a, 0, 1)), 0.5);
    case 1: return niz_mul(niz_matmul(niz_transpose(a, 0, 1), a), 0.5);
    case 2: return niz_contract(niz_stack(2, ((niz_t[]){a, niz_sin(a)}), 0),
                                niz_stack(2, ((niz_t[]){niz_cos(a), a}), 0), 1, 1);
    case 3: return niz_matmul(a, niz_reshape(niz_slice(a, 0, 0, 1, 1), NIZ_SHAPE(k)));
    default: return niz_matmul(niz_select(a, 0, 0), niz_transpose(a, 0, 1));
    }
}

/* One index a row along axis d: data, or a number of the program. */
static inline niz_t rg_picked(random_graph *g, niz_t x, int d)
{
    niz_shape line = niz_shape_of(x);
    int places = (int)line.dim[d];
    line.dim[d] = 1;
    niz_t i = niz_full(g->z, NIZ_I32, line, util_below(&g->rng, places));
    if (util_below(&g->rng, 2)) {
        int64_t n = niz_shape_count(&line);
        int32_t *index = malloc(sizeof *index * (size_t)(n + 1));
        for (int64_t k = 0; k < n; k++) index[k] = (int32_t)util_below(&g->rng, places);
        i = niz_copy_from(g->z, NIZ_I32, line, index);
        free(index);
    }
    niz_t y = niz_gather(x, d, i);
    return util_below(&g->rng, 2) ? niz_mul(y, 0.5) : niz_scatter_add(x, d, i, niz_tanh(y));
}

static inline niz_t rg_indexed(random_graph *g, niz_t x)
{
    niz_shape s = niz_shape_of(x);
    int32_t index[3];
    if (!s.rank) return x;
    int d = util_below(&g->rng, s.rank);
    if (!s.dim[d]) return x;
    if (util_below(&g->rng, 2)) return rg_picked(g, x, d);
    for (int i = 0; i < 3; i++) index[i] = (int32_t)util_below(&g->rng, (int)s.dim[d]);
    niz_t i = niz_copy_from(g->z, NIZ_I32, NIZ_SHAPE(3), index), y = niz_take(x, d, i);
    if (util_below(&g->rng, 2)) return y;
    niz_shape line = {.rank = s.rank};
    for (int k = 0; k < s.rank; k++) line.dim[k] = k == d ? 3 : 1;
    return niz_scatter_add(x, d, niz_broadcast(niz_reshape(i, line), niz_shape_of(y)), y);
}

static inline niz_t rg_next(random_graph *g)
{
    niz_t x = rg_any(g);
    niz_shape s = niz_shape_of(x);
    switch (util_below(&g->rng, 14)) {
    case 0:
    case 1: return rg_unary(g, x);
    case 2: {
        niz_t y = rg_any(g);
        niz_shape t = niz_shape_of(y);
        bool fits = true; /* broadcast together */
        for (int i = 1; i <= s.rank && i <= t.rank; i++) {
            int64_t p = s.dim[s.rank - i], q = t.dim[t.rank - i];
            fits = fits && (p == q || p == 1 || q == 1);
        }
        return fits ? rg_binary(g, x, y) : rg_unary(g, x);
    }
    case 3: return rg_binary(g, x, rg_unary(g, x));
    case 4:
    case 5: return rg_with_number(g, x);
    case 6:
    case 7: return s.rank ? rg_fold(g, x, util_below(&g->rng, s.rank)) : rg_unary(g, x);
    case 8:
    case 9:
    case 10: return rg_moved(g, x);
    case 11: return rg_contracted(g, x);
    case 12: return rg_indexed(g, x);
    default: {
        niz_shape last = {.rank = s.rank ? 1 : 0, .dim = {s.rank ? s.dim[s.rank - 1] : 0}};
        return rg_binary(g, x, rg_leaf(g, last));
    }
    }
}

/* Fills g->node; false (a bug of the generator) if the library refuses something. */
static inline bool rg_make(random_graph *g, niz *z, uint64_t seed, int nodes)
{
    g->z = z;
    g->rng.state = seed;
    g->n = 0;
    g->dtype = util_below(&g->rng, 2) ? NIZ_F32 : NIZ_F64;
    for (int i = 0; i < 3; i++) g->node[g->n++] = rg_leaf(g, rg_shape(g));
    char name[16];
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "p%d", i);
        g->node[g->n++] = niz_param(z, name, g->dtype, rg_shape(g), niz_uniform_init(.lo = -1));
    }
    while (g->n < nodes && !niz_error(z)) {
        niz_t y = rg_next(g);
        if (rg_count(y) <= (g->wide ? 40000 : 3000)) g->node[g->n++] = y;
    }
    return !niz_error(z);
}

/* Σ of everything, as a loss. */
static inline niz_t rg_loss(random_graph *g)
{
    niz_t sum = niz_tanh(niz_sum(g->node[g->n - 1]));
    for (int i = g->n - 2; i >= 0; i -= 3) sum = niz_add(sum, niz_sum(niz_tanh(g->node[i])));
    return sum;
}

/* The first element in which two results differ by more than bound (0: in any bit; all NaNs are
 * one), or -1. */
static inline int64_t rg_differ(niz_dtype dtype, const void *a, const void *b, int64_t n,
                                double bound)
{
    for (int64_t i = 0; i < n; i++) {
        double p = dtype == NIZ_F32 ? (double)((const float *)a)[i] : ((const double *)a)[i];
        double q = dtype == NIZ_F32 ? (double)((const float *)b)[i] : ((const double *)b)[i];
        if (p != p && q != q) continue;
        if (!memcmp(&p, &q, sizeof p)) continue;
        double size = (p < 0 ? -p : p) + 1, d = p - q;
        if (!((d < 0 ? -d : d) <= bound * size) || bound == 0) return i;
    }
    return -1;
}

/* All outputs of a graph, one after another. */
typedef struct rg_outcome {
    niz_dtype dtype;
    int64_t n;
    unsigned char *bytes; /* elements of dtype; to be freed */
} rg_outcome;

static inline rg_outcome rg_outcome_of(niz_dtype dtype, int n, const niz_t *y)
{
    rg_outcome o = {.dtype = dtype};
    size_t size = niz_dtype_size(dtype), at = 0;
    for (int i = 0; i < n; i++) o.n += rg_count(y[i]);
    o.bytes = malloc((size_t)o.n * size + 1);
    for (int i = 0; i < n; i++) {
        size_t bytes = (size_t)rg_count(y[i]) * size;
        ck_assert_int_eq(niz_read(y[i], o.bytes + at, bytes), NIZ_OK);
        at += bytes;
    }
    return o;
}

#endif
