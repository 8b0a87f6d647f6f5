/* op_case.c - operands for the tests of a record.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <niz/ops.h>
#include <string.h>

#include "check/op.h"

/* ---- shapes --------------------------------------------------------------------------------- */

/* Awkward ones, for elementwise records that leave them to us: nothing, one, odd, longer than a
 * block, enough for several threads; and the same with broadcasting. */
static const niz_shape niz_case_alone[] = {
    {0}, {1, {0}}, {1, {1}}, {1, {3}}, {1, {17}}, {1, {513}}, {2, {2, 3}}, {3, {3, 1, 5}},
    {2, {67, 1031}},
};
static const niz_shape niz_case_beside[][3] = {
    {{0}, {0}, {0}},
    {{0}, {1, {5}}, {1, {1}}},
    {{1, {0}}, {1, {1}}, {0}},
    {{1, {17}}, {1, {17}}, {1, {17}}},
    {{1, {513}}, {1, {1}}, {1, {513}}},
    {{2, {2, 3}}, {1, {3}}, {2, {2, 1}}},
    {{2, {2, 3}}, {2, {1, 3}}, {0}},
    {{2, {2, 1}}, {2, {1, 3}}, {1, {3}}},
    {{3, {4, 1, 3}}, {2, {5, 1}}, {3, {4, 5, 3}}},
    {{2, {67, 1031}}, {2, {67, 1}}, {2, {67, 1031}}},
};

static bool niz_case_chooses(const niz_op *op, const niz_sample *s)
{
    if (niz_op_form(op) != NIZ_FORM_MAP || s->in || s->refused) return false;
    for (int i = 0; i < NIZ_CASE_OPERANDS; i++)
        if (s->x[i].rank) return false;
    return true;
}

int niz_case_shapes(const niz_op *op, const niz_sample *s)
{
    if (!niz_case_chooses(op, s)) return 1;
    return op->arity == 1 ? NIZ_COUNT(niz_case_alone) : NIZ_COUNT(niz_case_beside);
}

void niz_case_shape(niz_case *c, int i)
{
    const niz_sample *s = c->sample;
    c->n = s->n ? s->n : c->op->arity;
    bool chooses = niz_case_chooses(c->op, s);
    for (int k = 0; k < c->n; k++)
        c->shape[k] = !chooses       ? s->x[k]
                      : c->n == 1 ? niz_case_alone[i]
                                  : niz_case_beside[i][k % 3];
    c->attr = (niz_attrs){s->n_attr, s->attr};
}

/* ---- dtypes --------------------------------------------------------------------------------- */

#define NIZ_CASE_LARGE 10000 /* elements: enough for threads, which one dtype shows */

/* All operands of one dtype, or the first a bool; indices are i32 or i64. */
bool niz_case_dtype(niz_case *c, int i)
{
    niz_dtype d = (niz_dtype)(i % NIZ_N_DTYPES);
    bool condition = i / NIZ_N_DTYPES % 2, wide = i / NIZ_N_DTYPES / 2;
    bool has_index = false, has_value = false;
    for (int k = 0; k < c->n; k++) {
        bool index = c->sample->below[k] > 0;
        has_index = has_index || index;
        has_value = has_value || (!index && !(condition && k == 0));
        c->dtype[k] = index ? (wide ? NIZ_I64 : NIZ_I32) : condition && k == 0 ? NIZ_BOOL : d;
    }
    if (wide && !has_index) return false;
    if (condition && (c->n < 2 || c->sample->below[0] || d == NIZ_BOOL)) return false;
    if (niz_shape_count(&c->shape[0]) > NIZ_CASE_LARGE && d != NIZ_F32) return false;
    return has_value || d == NIZ_F32;
}

/* ---- values --------------------------------------------------------------------------------- */

static bool niz_case_holds(niz_dtype d, double v)
{
    switch (d) {
    case NIZ_F32:
    case NIZ_F64: return true;
    case NIZ_I32: return v == trunc(v) && fabs(v) < 0x1p31;
    case NIZ_I64: return v == trunc(v) && fabs(v) < 0x1p53;
    case NIZ_U8: return v == trunc(v) && v >= 0 && v < 256;
    default: return v == 0 || v == 1;
    }
}

static bool niz_case_draw(niz_op_test *t, const niz_case *c, int k, double *v)
{
    niz_dtype d = c->dtype[k];
    double lo = c->sample->lo[k], hi = c->sample->hi[k];
    if (lo == 0 && hi == 0) lo = -2, hi = 2;
    if (c->sample->below[k]) lo = 0, hi = (double)c->sample->below[k] - 1;
    if (d == NIZ_BOOL) lo = 0, hi = 1;
    if (d == NIZ_U8) lo = fmax(lo, 0);
    if (niz_dtype_is_float(d)) {
        *v = niz_probe_uniform(&t->random, lo, hi);
        if (d == NIZ_F32) *v = (float)*v;
        return true;
    }
    lo = ceil(lo), hi = floor(hi);
    *v = lo + floor(niz_probe_uniform(&t->random, 0, 1) * (hi - lo + 1));
    return hi >= lo;
}

bool niz_case_values(niz_op_test *t, niz_case *c)
{
    niz_recording *r = niz_recording_of(t->z[0]);
    const double *in = c->sample->in;
    c->exact = in != NULL;
    for (int k = 0; k < c->n; k++) {
        int64_t n = niz_shape_count(&c->shape[k]);
        c->x[k] = niz_arena_alloc(&r->g.arena, sizeof(double) * ((size_t)n + 1));
        if (!c->x[k]) return false;
        for (int64_t i = 0; i < n; i++) {
            double *v = &c->x[k][i];
            if (!in && !niz_case_draw(t, c, k, v)) return false;
            if (!in) continue;
            *v = *in++;
            if (!niz_case_holds(c->dtype[k], *v)) return false;
            if (c->dtype[k] == NIZ_F32 && (double)(float)*v != *v && !isnan(*v)) c->exact = false;
            if (c->dtype[k] == NIZ_F32) *v = (float)*v;
        }
    }
    return true;
}

/* ---- layouts -------------------------------------------------------------------------------- */

bool niz_case_has_layout(const niz_case *c, niz_case_layout layout)
{
    int most = 0;
    for (int k = 0; k < c->n; k++)
        if (c->shape[k].rank > most) most = c->shape[k].rank;
    return layout == NIZ_LAYOUT_PLAIN || most >= (layout == NIZ_LAYOUT_PERMUTED ? 2 : 1);
}

/* The layout of one operand: those without axes are plain. */
static niz_case_layout niz_case_layout_of(const niz_case *c, int k)
{
    return c->shape[k].rank ? c->layout : NIZ_LAYOUT_PLAIN;
}

static niz_shape niz_case_memory(const niz_case *c, int k)
{
    niz_shape s = c->shape[k], m = s;
    niz_case_layout layout = niz_case_layout_of(c, k);
    if (layout == NIZ_LAYOUT_PERMUTED)
        for (int d = 0; d < s.rank; d++) m.dim[d] = s.dim[s.rank - 1 - d];
    if (layout == NIZ_LAYOUT_STRIDED) m.dim[s.rank - 1] = 2 * s.dim[s.rank - 1] + 1;
    return m;
}

/* Where element i of operand k lies in memory of shape m. */
static int64_t niz_case_position(const niz_case *c, int k, const niz_shape *m, int64_t i)
{
    const niz_shape *s = &c->shape[k];
    niz_case_layout layout = niz_case_layout_of(c, k);
    int64_t at[NIZ_MAX_RANK] = {0}, p = 0;
    for (int d = s->rank; d-- > 0; i /= s->dim[d]) {
        int64_t v = i % s->dim[d];
        if (layout == NIZ_LAYOUT_FLIPPED && d == 0) v = s->dim[0] - 1 - v;
        if (layout == NIZ_LAYOUT_STRIDED && d == s->rank - 1) v = 1 + 2 * v;
        at[layout == NIZ_LAYOUT_PERMUTED ? s->rank - 1 - d : d] = v;
    }
    for (int d = 0; d < m->rank; d++) p = p * m->dim[d] + at[d];
    return p;
}

static niz_t niz_case_view(const niz_case *c, int k, niz_t x)
{
    int rank = c->shape[k].rank;
    niz_axes axes = {.n = rank};
    switch (niz_case_layout_of(c, k)) {
    case NIZ_LAYOUT_PERMUTED:
        for (int d = 0; d < rank; d++) axes.axis[d] = rank - 1 - d;
        return niz_permute(x, axes);
    case NIZ_LAYOUT_STRIDED: return niz_slice(x, rank - 1, 1, NIZ_END, 2);
    case NIZ_LAYOUT_FLIPPED: return niz_flip(x, 0);
    default: return x;
    }
}

niz_t niz_case_operand(niz_recording *r, const niz_case *c, int k)
{
    niz_shape m = niz_case_memory(c, k);
    niz_dtype d = c->dtype[k];
    int64_t n = niz_shape_count(&m), count = niz_shape_count(&c->shape[k]);
    void *p = niz_arena_alloc(&r->g.arena, (size_t)n * niz_dtype_size(d) + 1);
    if (!p) return niz_inert(r->z);
    for (int64_t i = 0; i < n && n != count; i++)
        niz_probe_store(d, p, i, niz_dtype_is_float(d) ? NAN : d == NIZ_BOOL ? 1 : 99);
    for (int64_t i = 0; i < count; i++)
        niz_probe_store(d, p, niz_case_position(c, k, &m, i), c->x[k][i]);
    return niz_case_view(c, k, niz_from_at(NIZ_OP_AT, r->z, d, m, p));
}

niz_t niz_case_apply(niz_recording *r, const niz_case *c, niz_t *x)
{
    for (int k = 0; k < c->n; k++) x[k] = niz_case_operand(r, c, k);
    return niz_apply_in(r->z, NIZ_OP_AT, c->op, c->n, x, &c->attr);
}
