/* verify.c - the rules' derivatives against the values': every element of small inputs, random
 * directions through all inputs, forward mode against reverse, and the gradient's own derivative.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "check/check.h"

typedef struct niz_verifier {
    niz_probe p;
    const niz_check_options *o;
    int order;
    double tolerance;
    double size;  /* Σ |w y| */
    niz_finding f;
} niz_verifier;

/* ---- one comparison ------------------------------------------------------------------------- */

static int niz_verify_rank(niz_check_verdict v)
{
    static const int rank[] = {[NIZ_CHECK_OK] = 0,       [NIZ_CHECK_VACUOUS] = 1,
                               [NIZ_CHECK_UNSTEADY] = 2, [NIZ_CHECK_KINK] = 3,
                               [NIZ_CHECK_WRONG] = 4,    [NIZ_CHECK_ERROR] = 5};
    return rank[v];
}

/* A difference within what the numeric value's error and the tolerance allow is right - if the
 * error is small enough for that to mean something.  A derivative that can hardly be seen in the
 * values that it changes is as good as zero.  A wrong derivative's difference does not shrink with
 * the step: one that does belongs to a function that is too steep for the larger steps. */
static niz_check_verdict niz_verify_slope(niz_verifier *v, double analytic, const niz_slope *s)
{
    if (s->kink) return NIZ_CHECK_KINK;
    double size = fmax(fabs(analytic) + fabs(s->value), 1e-6 * s->size);
    double difference = fabs(analytic - s->value);
    if (!(difference <= fmax(v->tolerance * size, 10 * s->error)))
        return s->last < difference / 2 ? NIZ_CHECK_UNSTEADY : NIZ_CHECK_WRONG;
    if (10 * s->error > 100 * v->tolerance * size) return NIZ_CHECK_UNSTEADY;
    if (size > 0 && difference / size > v->f.worst) v->f.worst = difference / size;
    return NIZ_CHECK_OK;
}

/* Along p.in[].along; input and element are -1 for a direction.  False: error set. */
static bool niz_verify_along(niz_verifier *v, int input, int64_t element, niz_check_verdict *found)
{
    niz_slope s;
    double analytic = niz_probe_analytic(&v->p);
    if (!niz_slope_find(&v->p, analytic, &s)) return false;
    *found = niz_verify_slope(v, analytic, &s);
    v->f.checks++;
    double unit = element < 0 ? 1 : v->p.in[input].along[element];
    double difference = fabs(analytic - s.value) / fabs(unit);
    bool worse = niz_verify_rank(*found) > niz_verify_rank(v->f.verdict);
    bool same = *found == v->f.verdict && *found != NIZ_CHECK_OK && element >= 0;
    if (!worse && !(same && (v->f.element < 0 || difference > fabs(v->f.analytic - v->f.numeric))))
        return true;
    v->f.verdict = *found;
    v->f.order = v->order;
    v->f.input = input < 0 ? -1 : v->p.in[input].input;
    v->f.element = element;
    v->f.analytic = analytic / unit;
    v->f.numeric = s.value / unit;
    v->f.error = s.error / fabs(unit);
    v->f.left = (unit < 0 ? s.right : s.left) / unit;
    v->f.right = (unit < 0 ? s.left : s.right) / unit;
    v->f.shrinks = s.order;
    return true;
}

/* ---- elements and directions ---------------------------------------------------------------- */

static bool niz_verify_element(niz_verifier *v, int i, int64_t e, niz_check_verdict *found)
{
    niz_probe_in *in = &v->p.in[i];
    niz_probe_direct(&v->p, false);
    in->along[e] = in->unit[e];
    if (niz_dtype_of(in->t) == NIZ_F32) in->along[e] = (float)in->along[e];
    return niz_verify_along(v, i, e, found);
}

static bool niz_verify_elements(niz_verifier *v)
{
    niz_check_verdict found;
    for (int i = 0; i < v->p.n_in; i++)
        for (int64_t e = 0; e < v->p.in[i].n && v->p.in[i].n <= v->o->elements; e++)
            if (!niz_verify_element(v, i, e, &found)) return false;
    return true;
}

/* Keeps of the saved direction only the elements [lo, hi), counted through all inputs. */
static void niz_verify_window(niz_verifier *v, const double *saved, int64_t lo, int64_t hi)
{
    int64_t at = 0;
    for (int i = 0; i < v->p.n_in; i++)
        for (int64_t e = 0; e < v->p.in[i].n; e++, at++)
            v->p.in[i].along[e] = at >= lo && at < hi ? saved[at] : 0;
}

/* Halves a direction in which something was found until one element is left. */
static bool niz_verify_halve(niz_verifier *v, const double *saved, int64_t n)
{
    niz_check_verdict wanted = v->f.verdict, found;
    int64_t lo = 0, hi = n;
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        niz_slope s;
        niz_verify_window(v, saved, lo, mid);
        double analytic = niz_probe_analytic(&v->p);
        if (!niz_slope_find(&v->p, analytic, &s)) return false;
        bool here = niz_verify_slope(v, analytic, &s) == wanted;
        *(here ? &hi : &lo) = mid;
    }
    for (int i = 0; i < v->p.n_in; lo -= v->p.in[i++].n)
        if (lo < v->p.in[i].n) return niz_verify_element(v, i, lo, &found);
    return true;
}

static bool niz_verify_locate(niz_verifier *v)
{
    int64_t n = 0;
    for (int i = 0; i < v->p.n_in; i++) n += v->p.in[i].n;
    double *saved = niz_arena_alloc(&v->p.r->g.arena, sizeof *saved * (size_t)n);
    if (!saved) return false;
    double *to = saved;
    for (int i = 0; i < v->p.n_in; to += v->p.in[i++].n)
        memcpy(to, v->p.in[i].along, sizeof *to * (size_t)v->p.in[i].n);
    double worst = v->f.worst;
    bool ok = niz_verify_halve(v, saved, n);
    v->f.worst = worst;
    return ok;
}

static bool niz_verify_directions(niz_verifier *v)
{
    for (int d = 0; d < v->o->directions; d++) {
        niz_check_verdict found;
        niz_probe_direct(&v->p, true);
        if (!niz_verify_along(v, -1, -1, &found)) return false;
        if (found == NIZ_CHECK_OK || v->f.element >= 0) continue;
        if (!niz_verify_locate(v)) return false;
    }
    return true;
}

/* ---- forward mode: <vjp(w), t> = <w, jvp(t)> ------------------------------------------------ */

/* The tangents' leaves and the outputs' tangents; false with .no_forward set if a rule is
 * missing. */
static bool niz_verify_forward(niz_verifier *v, niz_t *tx, niz_t *ty)
{
    niz_probe *p = &v->p;
    niz_t *x = niz_arena_alloc(&p->r->g.arena, sizeof *x * (size_t)p->n_in);
    niz_t *y = niz_arena_alloc(&p->r->g.arena, sizeof *y * (size_t)p->n_out);
    if (!x || !y) return false;
    for (int i = 0; i < p->n_in; i++) {
        niz_shape s = niz_shape_of(x[i] = p->in[i].t);
        tx[i] = niz_probe_leaf(p->r, niz_dtype_of(x[i]), &s, NIZ_F64, p->in[i].along);
    }
    for (int j = 0; j < p->n_out; j++) y[j] = p->out[j].t;
    niz_jvp_at((niz_at){0}, p->n_in, x, tx, p->n_out, y, ty);
    if (p->z->status != NIZ_E_RULE) return !p->z->status;
    niz_clear_error(p->z);
    v->f.no_forward = true;
    return false;
}

/* Σ a b and its size. */
static double niz_verify_dot(int64_t n, const double *a, const double *b, double *size)
{
    long double sum = 0, all = 0;
    for (int64_t i = 0; i < n; i++) {
        if (a[i] == 0 || b[i] == 0) continue;
        sum += (long double)a[i] * b[i];
        all += fabsl((long double)a[i] * b[i]);
    }
    *size += (double)all;
    return (double)sum;
}

static void niz_verify_modes(niz_verifier *v)
{
    double size = 0, reverse = 0, forward = 0;
    for (int i = 0; i < v->p.n_in; i++)
        reverse += niz_verify_dot(v->p.in[i].n, v->p.in[i].gx, v->p.in[i].along, &size);
    for (int j = 0; j < v->p.n_out; j++)
        forward += niz_verify_dot(v->p.out[j].n, v->p.out[j].w, v->p.out[j].plus, &size);
    double allowed = (v->p.eps > 0x1p-40 ? 1e-3 : 1e-9) * size + 16 * v->p.eps * v->size;
    v->f.checks++;
    if (fabs(reverse - forward) <= allowed || (!isfinite(reverse) && !isfinite(forward))) return;
    if (niz_verify_rank(v->f.verdict) >= niz_verify_rank(NIZ_CHECK_WRONG)) return;
    v->f.verdict = NIZ_CHECK_WRONG;
    v->f.order = v->order;
    v->f.input = -1;
    v->f.element = -1;
    v->f.analytic = reverse;
    v->f.numeric = forward;
    v->f.error = allowed;
    v->f.shrinks = NAN;
    v->f.modes = true;
}

static bool niz_verify_transposed(niz_verifier *v)
{
    niz_probe *p = &v->p;
    niz_t *tx = niz_arena_alloc(&p->r->g.arena, sizeof *tx * (size_t)p->n_in);
    niz_t *ty = niz_arena_alloc(&p->r->g.arena, sizeof *ty * (size_t)p->n_out);
    double **to = niz_arena_alloc(&p->r->g.arena, sizeof *to * (size_t)p->n_out);
    if (!tx || !ty || !to) return false;
    if (!niz_verify_forward(v, tx, ty)) return !p->z->status;
    for (int j = 0; j < p->n_out; j++) to[j] = p->out[j].plus;
    for (int d = 0; d < 2; d++) {
        niz_probe_direct(p, true);
        for (int i = 0; i < p->n_in; i++)
            for (int64_t e = 0; e < p->in[i].n; e++)
                niz_probe_store(niz_dtype_of(tx[i]), p->r->g.node[tx[i].id].data, e,
                                p->in[i].along[e]);
        if (!niz_probe_read(p->r, p->n_out, ty, to)) return false;
        niz_probe_forget(p->r);
        niz_verify_modes(v);
    }
    return true;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static bool niz_verify_order(niz_verifier *v)
{
    if (!niz_probe_begin(&v->p)) return false;
    v->tolerance = v->o->tolerance * (v->p.eps > 0x1p-40 ? 5000 : 1);
    v->size = 0;
    for (int j = 0; j < v->p.n_out; j++)
        niz_verify_dot(v->p.out[j].n, v->p.out[j].w, v->p.out[j].y, &v->size);
    return niz_verify_elements(v) && niz_verify_directions(v) && niz_verify_transposed(v);
}

/* The first input without any influence; the derivative's rounding is none. */
static void niz_verify_influence(niz_verifier *v)
{
    const niz_probe *p = &v->p;
    for (int i = 0; i < p->n_in && v->f.verdict == NIZ_CHECK_OK; i++) {
        double most = 0;
        for (int64_t e = 0; e < p->in[i].n; e++)
            most = fmax(most, fabs(p->in[i].gx[e] * p->in[i].unit[e]));
        if (most > 1e-13 * v->size) continue;
        v->f.verdict = NIZ_CHECK_VACUOUS;
        v->f.order = 1;
        v->f.input = p->in[i].input;
    }
}

static bool niz_verify_probe(niz_verifier *v, niz_recording *r, int n_in, const niz_t *in,
                             const int *number, int n_out, const niz_t *out)
{
    niz_probe *p = &v->p;
    *p = (niz_probe){.z = r->z, .r = r, .n_in = n_in, .n_out = n_out,
                     .random = v->o->seed + (uint64_t)v->order};
    p->in = niz_arena_alloc(&r->g.arena, sizeof *p->in * (size_t)n_in);
    p->out = niz_arena_alloc(&r->g.arena, sizeof *p->out * (size_t)n_out);
    if (!p->in || !p->out) return false;
    for (int i = 0; i < n_in; i++)
        p->in[i] = (niz_probe_in){.t = in[i], .input = number ? number[i] : i};
    for (int j = 0; j < n_out; j++) p->out[j] = (niz_probe_out){.t = out[j]};
    return true;
}

niz_finding niz_verify_gradient(niz_recording *r, int n_in, const niz_t *in, const int *number,
                                niz_t y, const niz_check_options *o)
{
    niz_verifier v = {.o = o, .order = 1};
    v.f = (niz_finding){.order = 1, .input = -1, .element = -1, .shrinks = NAN};
    bool ok = niz_verify_probe(&v, r, n_in, in, number, 1, &y) && niz_verify_order(&v);
    niz_verifier first = v;
    if (ok && o->order >= 2 && v.f.verdict == NIZ_CHECK_OK) {
        v.order = 2;
        ok = niz_verify_probe(&v, r, n_in, in, number, n_in, first.p.grad) && niz_verify_order(&v);
    }
    first.f = v.f;
    if (ok) niz_verify_influence(&first);
    if (!ok) first.f.verdict = NIZ_CHECK_ERROR;
    return first.f;
}
