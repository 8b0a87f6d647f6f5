/* probe.c - a graph as a function of its leaves.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check/check.h"
#include "core/context.h"

/* ---- numbers -------------------------------------------------------------------------------- */

/* SplitMix64 (Steele, Lea, Flood 2014) */
uint64_t niz_probe_bits(uint64_t *state)
{
    uint64_t v = *state += 0x9E3779B97F4A7C15u;
    v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9u;
    v = (v ^ v >> 27) * 0x94D049BB133111EBu;
    return v ^ v >> 31;
}

double niz_probe_uniform(uint64_t *state, double lo, double hi)
{
    return lo + (hi - lo) * (double)(niz_probe_bits(state) >> 11) * 0x1p-53;
}

double niz_probe_sign(uint64_t *state)
{
    double size = niz_probe_uniform(state, 0.5, 1.5);
    return niz_probe_bits(state) & 1 ? size : -size;
}

double niz_probe_load(niz_dtype dtype, const void *p, int64_t i)
{
    switch (dtype) {
    case NIZ_F32: return ((const float *)p)[i];
    case NIZ_F64: return ((const double *)p)[i];
    case NIZ_I32: return ((const int32_t *)p)[i];
    case NIZ_I64: return (double)((const int64_t *)p)[i];
    default: return ((const uint8_t *)p)[i];
    }
}

void niz_probe_store(niz_dtype dtype, void *p, int64_t i, double v)
{
    switch (dtype) {
    case NIZ_F32: ((float *)p)[i] = (float)v; break;
    case NIZ_F64: ((double *)p)[i] = v; break;
    case NIZ_I32: ((int32_t *)p)[i] = (int32_t)v; break;
    case NIZ_I64: ((int64_t *)p)[i] = (int64_t)v; break;
    default: ((uint8_t *)p)[i] = (uint8_t)v; break;
    }
}

/* ---- leaves and values ---------------------------------------------------------------------- */

niz_t niz_probe_leaf(niz_recording *r, niz_dtype dtype, const niz_shape *shape, niz_dtype from,
                     const void *data)
{
    int64_t n = niz_shape_count(shape);
    size_t size = niz_dtype_size(dtype);
    void *copy = niz_arena_alloc(&r->g.arena, (size_t)n * size + 1);
    if (!copy) return niz_inert(r->z);
    if (dtype == from && n) memcpy(copy, data, (size_t)n * size);
    for (int64_t i = 0; i < n && dtype != from; i++)
        niz_probe_store(dtype, copy, i, niz_probe_load(from, data, i));
    return niz_from_at((niz_at){0}, r->z, dtype, *shape, copy);
}

void niz_probe_forget(niz_recording *r)
{
    for (uint32_t id = 0; id < r->g.n; id++) {
        niz_node *n = &r->g.node[id];
        if (!(n->flags & NIZ_NODE_OWNED) || n->op == &niz_op_data) continue;
        niz_free(r->z, n->data);
        n->data = NULL;
        n->flags &= (uint8_t)~NIZ_NODE_OWNED;
    }
}

static bool niz_probe_read_one(niz_recording *r, niz_t t, double *out)
{
    niz_dtype dtype = niz_dtype_of(t);
    niz_shape shape = niz_shape_of(t);
    int64_t n = niz_shape_count(&shape);
    size_t bytes = (size_t)n * niz_dtype_size(dtype);
    if (dtype == NIZ_F64) return !niz_read_at((niz_at){0}, t, out, bytes);
    void *raw = niz_realloc(r->z, NULL, bytes + 1);
    bool ok = raw && !niz_read_at((niz_at){0}, t, raw, bytes);
    for (int64_t i = 0; i < n && ok; i++) out[i] = niz_probe_load(dtype, raw, i);
    niz_free(r->z, raw);
    return ok;
}

bool niz_probe_read(niz_recording *r, int n, const niz_t *t, double *const *out)
{
    if (niz_run_at((niz_at){0}, r->z, n, t)) return false;
    for (int i = 0; i < n; i++)
        if (!niz_probe_read_one(r, t[i], out[i])) return false;
    return true;
}

/* ---- the probe ------------------------------------------------------------------------------ */

static double *niz_probe_doubles(niz_probe *p, int64_t n)
{
    double *d = niz_arena_alloc(&p->r->g.arena, sizeof *d * ((size_t)n + 1));
    if (d) memset(d, 0, sizeof *d * ((size_t)n + 1));
    return d;
}

static int niz_probe_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median size of the elements that are not 0; 1 if there is none. */
static double niz_probe_typical(const niz_probe_in *in, double *sizes)
{
    int64_t n = 0;
    for (int64_t i = 0; i < in->n; i++)
        if (in->x[i] != 0 && isfinite(in->x[i])) sizes[n++] = fabs(in->x[i]);
    if (!n) return 1;
    qsort(sizes, (size_t)n, sizeof *sizes, niz_probe_order);
    return sizes[n / 2];
}

/* A step of 1 moves an element by about its own size; one that is small among its neighbours moves
 * by a share of theirs. */
static void niz_probe_units(niz_probe_in *in)
{
    double typical = niz_probe_typical(in, in->along);
    for (int64_t i = 0; i < in->n; i++) in->unit[i] = fmax(fabs(in->x[i]), 0.01 * typical);
    memset(in->along, 0, sizeof *in->along * (size_t)in->n);
}

static bool niz_probe_begin_in(niz_probe *p, niz_probe_in *in)
{
    const niz_node *n = &p->r->g.node[in->t.id];
    in->n = niz_shape_count(n->shape);
    in->data = n->data;
    in->x = niz_probe_doubles(p, in->n);
    in->unit = niz_probe_doubles(p, in->n);
    in->gx = niz_probe_doubles(p, in->n);
    in->along = niz_probe_doubles(p, in->n);
    if (!in->x || !in->unit || !in->gx || !in->along) return false;
    for (int64_t i = 0; i < in->n; i++)
        in->x[i] = niz_probe_load((niz_dtype)n->dtype, in->data, i);
    niz_probe_units(in);
    if (n->dtype == NIZ_F32) p->eps = 0x1p-23;
    return true;
}

static bool niz_probe_begin_out(niz_probe *p, niz_probe_out *out)
{
    niz_shape s = niz_shape_of(out->t);
    out->n = niz_shape_count(&s);
    out->w = niz_probe_doubles(p, out->n);
    out->y = niz_probe_doubles(p, out->n);
    out->plus = niz_probe_doubles(p, out->n);
    out->minus = niz_probe_doubles(p, out->n);
    if (!out->w || !out->y || !out->plus || !out->minus) return false;
    for (int64_t i = 0; i < out->n; i++)
        out->w[i] = out->n == 1 && p->n_out == 1 ? 1 : niz_probe_sign(&p->random);
    if (niz_dtype_of(out->t) == NIZ_F32) {
        p->eps = 0x1p-23; /* and what the graph can hold is what is compared */
        for (int64_t i = 0; i < out->n; i++) out->w[i] = (float)out->w[i];
    }
    return true;
}

static bool niz_probe_gradient(niz_probe *p)
{
    niz_t *y = niz_arena_alloc(&p->r->g.arena, sizeof *y * (size_t)p->n_out);
    niz_t *w = niz_arena_alloc(&p->r->g.arena, sizeof *w * (size_t)p->n_out);
    niz_t *x = niz_arena_alloc(&p->r->g.arena, sizeof *x * (size_t)p->n_in);
    double **gx = niz_arena_alloc(&p->r->g.arena, sizeof *gx * (size_t)p->n_in);
    p->grad = niz_arena_alloc(&p->r->g.arena, sizeof *p->grad * (size_t)p->n_in);
    if (!y || !w || !x || !gx || !p->grad) return false;
    for (int j = 0; j < p->n_out; j++) {
        niz_shape s = niz_shape_of(y[j] = p->out[j].t);
        w[j] = niz_probe_leaf(p->r, niz_dtype_of(y[j]), &s, NIZ_F64, p->out[j].w);
    }
    for (int i = 0; i < p->n_in; i++) {
        x[i] = p->in[i].t;
        gx[i] = p->in[i].gx;
    }
    niz_vjp_at((niz_at){0}, p->n_out, y, w, p->n_in, x, p->grad);
    bool ok = !p->z->status && niz_probe_read(p->r, p->n_in, p->grad, gx);
    niz_probe_forget(p->r);
    return ok;
}

/* The values at the leaves' present contents. */
static bool niz_probe_values(niz_probe *p, int which)
{
    niz_t *y = niz_realloc(p->z, NULL, (sizeof *y + sizeof(double *)) * (size_t)p->n_out);
    if (!y) return false;
    double **to = (double **)(y + p->n_out);
    for (int j = 0; j < p->n_out; j++) {
        y[j] = p->out[j].t;
        to[j] = which == 0 ? p->out[j].y : which > 0 ? p->out[j].plus : p->out[j].minus;
    }
    bool ok = niz_probe_read(p->r, p->n_out, y, to);
    niz_free(p->z, y);
    niz_probe_forget(p->r);
    return ok;
}

bool niz_probe_begin(niz_probe *p)
{
    p->eps = 0x1p-52;
    for (int i = 0; i < p->n_in; i++)
        if (!niz_probe_begin_in(p, &p->in[i])) return false;
    for (int j = 0; j < p->n_out; j++)
        if (!niz_probe_begin_out(p, &p->out[j])) return false;
    return niz_probe_gradient(p) && niz_probe_values(p, 0);
}

static void niz_probe_place(niz_probe *p, double step)
{
    for (int i = 0; i < p->n_in; i++) {
        niz_probe_in *in = &p->in[i];
        niz_dtype dtype = niz_dtype_of(in->t);
        for (int64_t e = 0; e < in->n; e++)
            if (in->along[e] != 0)
                niz_probe_store(dtype, in->data, e, in->x[e] + step * in->along[e]);
    }
}

bool niz_probe_move(niz_probe *p, double step, bool minus)
{
    niz_probe_place(p, minus ? -step : step);
    bool ok = niz_probe_values(p, minus ? -1 : 1);
    niz_probe_place(p, 0);
    return ok;
}

void niz_probe_direct(niz_probe *p, bool random)
{
    for (int i = 0; i < p->n_in; i++) {
        niz_probe_in *in = &p->in[i];
        bool single = niz_dtype_of(in->t) == NIZ_F32;
        for (int64_t e = 0; e < in->n; e++) {
            in->along[e] = random ? in->unit[e] * niz_probe_sign(&p->random) : 0;
            if (single) in->along[e] = (float)in->along[e];
        }
    }
}

double niz_probe_analytic(const niz_probe *p)
{
    long double sum = 0;
    for (int i = 0; i < p->n_in; i++)
        for (int64_t e = 0; e < p->in[i].n; e++) /* 0 · inf is no share */
            if (p->in[i].along[e] != 0) sum += (long double)p->in[i].gx[e] * p->in[i].along[e];
    return (double)sum;
}
