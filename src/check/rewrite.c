/* rewrite.c - from a user's graph to the same function in f64.
 *
 * Every node that depends on the inputs is applied again, in the checker's context, to operands in
 * f64; an attribute that names f32 becomes f64.  What does not depend on the inputs (parameters,
 * data, draws) is a constant: its value is computed in the user's context and copied.  Integers and
 * bools stay.  A record that takes only f32 makes the whole graph stay as it was.
 *
 * A view without a derivative (niz_stop_gradient) is a constant by its user's intent, so it keeps
 * its value when the inputs move.
 *
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "check/check.h"
#include "core/context.h"
#include "core/hash.h"
#include "graph/spec.h"

typedef enum niz_role { NIZ_UNUSED, NIZ_INPUT, NIZ_MOVING, NIZ_FIXED, NIZ_LITERAL } niz_role;

typedef struct niz_rewriter {
    niz_rewrite_job *job;
    uint32_t n;     /* nodes looked at: ids below */
    uint8_t *role;  /* of each */
    uint32_t *made; /* its node in job->to */
} niz_rewriter;

/* ---- roles ---------------------------------------------------------------------------------- */

static bool niz_rewrite_is_fixed(const niz_node *n)
{
    return n->op->no_gradient && niz_op_form(n->op) == NIZ_FORM_VIEW;
}

/* What moves with the inputs; a literal and views of it. */
static void niz_rewrite_spread(niz_rewriter *w, const niz_recording *r)
{
    for (uint32_t id = 0; id < w->n; id++) {
        const niz_node *n = &r->g.node[id];
        if (w->role[id] == NIZ_INPUT) continue;
        bool moving = false, literal = niz_op_form(n->op) == NIZ_FORM_VIEW && n->n_arg;
        for (int i = 0; i < n->n_arg; i++) {
            uint8_t role = w->role[n->arg[i]];
            moving = moving || role == NIZ_INPUT || role == NIZ_MOVING;
            literal = literal && role == NIZ_LITERAL;
        }
        literal = literal || n->op == &niz_op_literal;
        w->role[id] = moving && !niz_rewrite_is_fixed(n) ? NIZ_MOVING
                      : literal                         ? NIZ_LITERAL
                                                        : NIZ_FIXED;
    }
}

/* Only what y needs; below a fixed node nothing is. */
static void niz_rewrite_prune(niz_rewriter *w, const niz_recording *r, uint32_t y)
{
    bool *needed = (bool *)w->made; /* not used for its own purpose yet */
    memset(needed, 0, w->n);
    needed[y] = true;
    for (uint32_t id = w->n; id-- > 0;) {
        const niz_node *n = &r->g.node[id];
        if (!needed[id] && w->role[id] != NIZ_INPUT) w->role[id] = NIZ_UNUSED;
        if (w->role[id] != NIZ_MOVING && w->role[id] != NIZ_LITERAL) continue;
        for (int i = 0; i < n->n_arg; i++) needed[n->arg[i]] = true;
    }
    memset(w->made, 0xff, sizeof *w->made * w->n);
}

static bool niz_rewriter_begin(niz_rewriter *w, niz_recording *r, niz_t y, int n, const niz_t *x)
{
    w->n = y.id + 1;
    for (int i = 0; i < n; i++)
        if (x[i].id >= w->n) w->n = x[i].id + 1;
    w->role = niz_realloc(r->z, NULL, w->n);
    w->made = niz_realloc(r->z, NULL, sizeof *w->made * w->n);
    if (!w->role || !w->made) return false;
    memset(w->role, NIZ_UNUSED, w->n);
    for (int i = 0; i < n; i++) w->role[x[i].id] = NIZ_INPUT;
    niz_rewrite_spread(w, r);
    niz_rewrite_prune(w, r, y.id);
    return true;
}

static void niz_rewriter_end(niz_rewriter *w, niz *z)
{
    niz_free(z, w->role);
    niz_free(z, w->made);
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static niz_dtype niz_rewrite_dtype(const niz_rewriter *w, niz_dtype d)
{
    return w->job->widen && d == NIZ_F32 ? NIZ_F64 : d;
}

/* Attributes that are dtypes. */
static void niz_rewrite_attrs(const niz_rewriter *w, const niz_node *n, int64_t *attr)
{
    const char *spec = n->op->attrs;
    niz_field f;
    memcpy(attr, n->attr, sizeof *attr * n->n_attr);
    for (int i = 0; i < n->n_attr && niz_spec_next(&spec, &f) && !f.list; i++)
        if (f.kind == 't') attr[i] = niz_rewrite_dtype(w, (niz_dtype)attr[i]);
}

static niz_t niz_rewrite_apply(niz_rewriter *w, const niz_node *n)
{
    niz_recording *to = w->job->to;
    niz_t x[NIZ_MAX_ARITY];
    int64_t attr[NIZ_MAX_ATTR] = {0};
    for (int i = 0; i < n->n_arg; i++) x[i] = niz_handle(to, w->made[n->arg[i]]);
    if (n->op == &niz_op_assign) return x[0]; /* parameters do not exist here */
    if (n->n_attr) niz_rewrite_attrs(w, n, attr);
    niz_place_state s = niz_place_begin(to, n->place, NULL);
    niz_t y = niz_apply_in(to->z, n->place->at, n->op, n->n_arg, x, &(niz_attrs){n->n_attr, attr});
    niz_place_end(to, s);
    return y;
}

/* A constant: its value is there after niz_rewrite_run_fixed, but for parameters. */
static niz_t niz_rewrite_copy(niz_rewriter *w, uint32_t id)
{
    niz_recording *from = w->job->from;
    const niz_node *n = &from->g.node[id];
    niz_dtype dtype = (niz_dtype)n->dtype, wide = niz_rewrite_dtype(w, dtype);
    if (n->data) return niz_probe_leaf(w->job->to, wide, n->shape, dtype, n->data);
    size_t bytes = niz_node_bytes(n);
    void *value = niz_realloc(from->z, NULL, bytes + 1);
    niz_t y = niz_inert(w->job->to->z);
    if (value && !niz_read_at((niz_at){0}, niz_handle(from, id), value, bytes))
        y = niz_probe_leaf(w->job->to, wide, n->shape, dtype, value);
    niz_free(from->z, value);
    return y;
}

static niz_t niz_rewrite_node(niz_rewriter *w, uint32_t id)
{
    const niz_node *n = &w->job->from->g.node[id];
    double v;
    if (w->role[id] == NIZ_FIXED || w->role[id] == NIZ_INPUT) return niz_rewrite_copy(w, id);
    if (n->op != &niz_op_literal) return niz_rewrite_apply(w, n);
    memcpy(&v, n->attr, sizeof v);
    return niz_literal(w->job->to->z, n->place->at, niz_rewrite_dtype(w, (niz_dtype)n->dtype), v);
}

/* All constants in one run, rather than one after another. */
static bool niz_rewrite_run_fixed(const niz_rewriter *w)
{
    niz_recording *r = w->job->from;
    niz_t *t = niz_realloc(r->z, NULL, sizeof *t * w->n);
    int n = 0;
    for (uint32_t id = 0; id < w->n && t; id++)
        if (w->role[id] == NIZ_FIXED) t[n++] = niz_handle(r, id);
    bool ok = t && !niz_run_at((niz_at){0}, r->z, n, t);
    niz_free(r->z, t);
    return ok;
}

bool niz_rewrite_graph(niz_rewrite_job *job)
{
    niz_rewriter w = {.job = job};
    niz *z = job->from->z;
    bool ok = niz_rewriter_begin(&w, job->from, job->y, job->n, job->x) &&
              niz_rewrite_run_fixed(&w);
    for (uint32_t id = 0; id < w.n && ok; id++) {
        if (w.role[id] == NIZ_UNUSED) continue;
        w.made[id] = niz_rewrite_node(&w, id).id;
        ok = w.made[id] != NIZ_NONE && !z->status && !job->to->z->status;
    }
    for (int i = 0; i < job->n && ok; i++)
        job->new_x[i] = niz_handle(job->to, w.made[job->x[i].id]);
    if (ok) job->new_y = niz_handle(job->to, w.made[job->y.id]);
    niz_rewriter_end(&w, z);
    return ok;
}

/* ---- the form of a graph -------------------------------------------------------------------- */

static uint64_t niz_rewrite_mix(uint64_t h, const void *p, size_t bytes)
{
    return XXH3_64bits_withSeed(p, bytes, h);
}

/* What y needs, down to the inputs. */
static void niz_form_mark(const niz_recording *r, bool *needed, uint32_t count, uint32_t y, int n,
                          const niz_t *x)
{
    memset(needed, 0, count);
    needed[y] = true;
    for (uint32_t id = count; id-- > 0;) {
        bool input = false;
        for (int i = 0; i < n; i++) input = input || x[i].id == id;
        if (input) needed[id] = false;
        for (int i = 0; needed[id] && i < r->g.node[id].n_arg; i++)
            needed[r->g.node[id].arg[i]] = true;
    }
}

/* A node's hash is of its operands' hashes, not of their ids: what an earlier recording left for
 * this one to share has no part in it. */
static uint64_t niz_form_node(const niz_recording *r, const uint64_t *hash, uint32_t id)
{
    const niz_node *n = &r->g.node[id];
    uint64_t h = niz_rewrite_mix(0, &n->sig, sizeof n->sig);
    if (n->op == &niz_op_data && n->data) h = niz_rewrite_mix(h, n->data, niz_node_bytes(n));
    for (int i = 0; i < n->n_arg; i++) h = niz_rewrite_mix(h, &hash[n->arg[i]], sizeof *hash);
    return h;
}

uint64_t niz_rewrite_form(niz_recording *r, niz_t y, int n, const niz_t *x)
{
    uint32_t count = y.id + 1;
    for (int i = 0; i < n; i++)
        if (x[i].id >= count) count = x[i].id + 1;
    uint64_t form = 0, *hash = niz_realloc(r->z, NULL, sizeof *hash * count);
    bool *needed = niz_realloc(r->z, NULL, count);
    if (hash && needed) {
        niz_form_mark(r, needed, count, y.id, n, x);
        for (int i = 0; i < n; i++) hash[x[i].id] = (uint64_t)i;
        for (uint32_t id = 0; id < count; id++)
            if (needed[id]) hash[id] = niz_form_node(r, hash, id);
        form = hash[y.id];
    }
    niz_free(r->z, needed);
    niz_free(r->z, hash);
    return form;
}
