/* grad.c - niz_check_grad: the user's side.
 *
 * The function is recorded in a step of its own, in the user's context, with everything noted that
 * recording may change and put back afterwards: parameters' newest versions and pending
 * assignments, counters of steps and draws, the error.  What is run and differentiated is a copy of
 * the graph in another context.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "check/check.h"
#include "core/context.h"

/* ---- putting the context back --------------------------------------------------------------- */

typedef struct niz_kept {
    niz_param *param;
    size_t n_params, n_draws;
    niz_counters counters;
    uint64_t step[2];
    int64_t steps;
    niz_place_state place;
} niz_kept;

static bool niz_keep(niz_recording *r, niz_kept *k)
{
    *k = (niz_kept){.n_params = r->n_params, .n_draws = r->n_draws, .counters = r->counters,
                    .step = {r->step[0], r->step[1]},
                    .steps = r->z->stats.steps,
                    .place = {r->function_depth, r->function, r->place}};
    k->param = niz_realloc(r->z, NULL, sizeof *k->param * (r->n_params + 1));
    if (!k->param) return false;
    if (r->n_params) memcpy(k->param, r->param, sizeof *k->param * r->n_params);
    r->hold_assignments++;
    r->function_depth = 0; /* the places of f's nodes are its own lines */
    return true;
}

/* As it was before f: also between its calls, so that each finds the same parameters and draws the
 * same numbers. */
static void niz_rewind(niz_recording *r, const niz_kept *k)
{
    if (k->n_params) memcpy(r->param, k->param, sizeof *k->param * k->n_params);
    for (size_t i = k->n_params; i < r->n_params; i++)
        r->param[i].node = r->param[i].pending = NIZ_NONE;
    r->counters = k->counters;
    niz_draws_rewind(r, k->n_draws);
    memcpy(r->step, k->step, sizeof r->step);
    r->z->stats.steps = k->steps;
    r->z->status = NIZ_OK; /* pending assignments stay: niz_clear_error would drop them */
    r->z->message[0] = 0;
}

/* A value that was computed of a pending assignment: it is still to be run and committed. */
static void niz_forget_pending(niz_recording *r)
{
    for (size_t i = 0; i < r->n_params; i++) {
        niz_node *n = r->param[i].pending < r->g.n ? &r->g.node[r->param[i].pending] : NULL;
        if (!n || !(n->flags & NIZ_NODE_OWNED)) continue;
        niz_free(r->z, n->data);
        n->data = NULL;
        n->flags &= (uint8_t)~NIZ_NODE_OWNED;
    }
}

static void niz_put_back(niz_recording *r, niz_kept *k)
{
    niz_rewind(r, k);
    niz_forget_pending(r);
    niz_free(r->z, k->param);
    niz_place_end(r, k->place);
    r->hold_assignments--;
}

/* ---- recording the function ----------------------------------------------------------------- */

typedef struct niz_checked {
    niz_at at;
    niz_check_function *f;
    void *arg;
    int n;
    const niz_t *inputs; /* the user's */
    niz_t *x;            /* leaves that stand for them */
    niz_check_options o;
    niz_recording *r;
    const niz_kept *kept;
} niz_checked;

/* Leaves at the point, or beside it: each floating element moved by a part of its size. */
static bool niz_checked_leaves(niz_checked *c, double move)
{
    uint64_t random = c->o.seed;
    for (int i = 0; i < c->n; i++) {
        niz_dtype dtype = niz_dtype_of(c->inputs[i]);
        niz_shape shape = niz_shape_of(c->inputs[i]);
        int64_t n = niz_shape_count(&shape);
        size_t bytes = (size_t)n * niz_dtype_size(dtype);
        void *p = niz_arena_alloc(&c->r->g.arena, bytes + 1);
        if (!p || niz_read_at(c->at, c->inputs[i], p, bytes)) return false;
        for (int64_t e = 0; e < n && move != 0 && niz_dtype_is_float(dtype); e++) {
            double v = niz_probe_load(dtype, p, e);
            v += move * (v != 0 ? fabs(v) : 1) * niz_probe_sign(&random);
            niz_probe_store(dtype, p, e, v);
        }
        c->x[i] = niz_from_at(c->at, c->r->z, dtype, shape, p);
    }
    return !c->r->z->status;
}

static niz_t niz_checked_record(niz_checked *c, double move)
{
    niz *z = c->r->z;
    if (!niz_checked_leaves(c, move)) return niz_inert(z);
    niz_t y = c->f(z, c->n, c->x, c->arg);
    if (!z->status) niz_handle_node(c->r, c->at, y, "the result of the function to check");
    return z->status ? niz_inert(z) : y;
}

/* Whether f records the same graph at a near point; an error there decides nothing. */
static bool niz_checked_same_form(niz_checked *c, double move, uint64_t form)
{
    bool same;
    niz_rewind(c->r, c->kept);
    {
        NIZ_STEP(c->r->z);
        niz_t y = niz_checked_record(c, move);
        uint64_t here = c->r->z->status ? form : niz_rewrite_form(c->r, y, c->n, c->x);
        same = c->r->z->status || here == form;
    }
    niz_rewind(c->r, c->kept);
    return same;
}

/* ---- in the checker's context --------------------------------------------------------------- */

/* The floating inputs; their numbers. */
static int niz_checked_floats(const niz_checked *c, niz_t *x, int *number)
{
    int n = 0;
    for (int i = 0; i < c->n; i++)
        if (niz_dtype_is_float(niz_dtype_of(c->x[i]))) {
            x[n] = x[i];
            number[n++] = i;
        }
    return n;
}

static niz_check_report niz_checked_verify(niz_checked *c, niz_recording *r, niz_t *x, int *number,
                                           niz_t y)
{
    niz_check_report report;
    niz_blame blame = {.found = false};
    int n = niz_checked_floats(c, x, number);
    if (!n) return niz_report_error(c->at, "no input is floating, so there is no gradient");
    niz_finding f = niz_verify_gradient(r, n, x, number, y, &c->o);
    if (f.verdict == NIZ_CHECK_ERROR) return niz_report_error(c->at, niz_message(r->z));
    if (f.verdict == NIZ_CHECK_WRONG || f.verdict == NIZ_CHECK_KINK)
        blame = niz_blame_find(r, n, x, y, &f, &c->o);
    niz_report_finding(&report, &f, &blame, c->n, c->inputs, c->at);
    return report;
}

/* The graph in f64; false: not every operation takes that (or an error). */
static bool niz_checked_rewrite(niz_checked *c, niz_t y, niz *other, bool widen,
                                niz_check_report *report)
{
    NIZ_STEP(other);
    niz_recording *to = niz_recording_of(other);
    niz_t *x = to ? niz_arena_alloc(&to->g.arena, sizeof *x * (size_t)c->n) : NULL;
    int *number = to ? niz_arena_alloc(&to->g.arena, sizeof *number * (size_t)c->n) : NULL;
    niz_rewrite_job job = {c->r, to, y, c->n, c->x, widen, x, {0}};
    if (!x || !number || !niz_rewrite_graph(&job)) {
        const char *message = c->r->z->status ? niz_message(c->r->z) : niz_message(other);
        *report = niz_report_error(c->at, message);
        niz_clear_error(other);
        return c->r->z->status != NIZ_OK;
    }
    *report = niz_checked_verify(c, to, x, number, job.new_y);
    return true;
}

static niz_check_report niz_checked_elsewhere(niz_checked *c, niz_t y)
{
    niz_options o = c->r->z->options;
    niz_check_report report;
    o.trap_nan = false;
    o.log = NULL;
    niz *other = niz_open(&o);
    if (!other) return niz_report_error(c->at, "no memory for the checker's context");
    if (!niz_checked_rewrite(c, y, other, true, &report))
        niz_checked_rewrite(c, y, other, false, &report);
    niz_close(other);
    return report;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static niz_check_report niz_checked_run(niz_checked *c)
{
    niz *z = c->r->z;
    NIZ_STEP(z);
    c->x = niz_arena_alloc(&c->r->g.arena, sizeof *c->x * (size_t)(c->n ? c->n : 1));
    niz_t y = c->x ? niz_checked_record(c, 0) : niz_inert(z);
    if (z->status) return niz_report_error(c->at, niz_message(z));
    niz_t *x = c->x;
    uint64_t form = niz_rewrite_form(c->r, y, c->n, x);
    if (z->status) return niz_report_error(c->at, niz_message(z));
    c->x = niz_arena_alloc(&c->r->g.arena, sizeof *c->x * (size_t)c->n);
    bool same = c->x && niz_checked_same_form(c, 0x1p-5, form) &&
                niz_checked_same_form(c, -0x1p-5, form);
    c->x = x;
    if (z->status) return niz_report_error(c->at, niz_message(z));
    niz_check_report report = niz_checked_elsewhere(c, y);
    if (same || report.verdict == NIZ_CHECK_ERROR) return report;
    char where[256];
    niz_place_text(&(niz_place){c->at, NULL, NULL}, where, sizeof where);
    report = niz_report_error(c->at, "gradient checked");
    report.verdict = NIZ_CHECK_BRANCHES;
    niz_report_add(&report, "%s: at a near point the function records another graph: it reads its "
                            "inputs' values (niz_item, niz_read) and branches on them, or makes "
                            "constants of them; the gradient cannot see that", where);
    return report;
}

niz_check_report niz_check_grad_at(niz_at at, niz_check_function *f, void *arg, int n,
                                   const niz_t *inputs, niz_check_options o)
{
    niz *z = n > 0 && inputs ? niz_context_of(n, inputs) : NULL;
    niz_recording *r = niz_recording_of(z);
    if (!f || !z || !r || o.order < 1 || o.order > 2)
        return niz_report_error(at, !f ? "no function was given"
                                    : !z ? "no input was given"
                                    : !r ? "no memory"
                                         : "the order is 1 or 2");
    if (z->status) return niz_report_error(at, niz_message(z));
    for (int i = 0; i < n; i++)
        if (!niz_handle_node(r, at, inputs[i], "an input of the function to check")) break;
    niz_kept kept;
    niz_check_report report;
    if (z->status || !niz_keep(r, &kept)) {
        report = niz_report_error(at, niz_message(z));
        z->status = NIZ_OK;
        z->message[0] = 0;
        return report;
    }
    niz_checked c = {at, f, arg, n, inputs, NULL, o, r, &kept};
    report = niz_checked_run(&c);
    niz_put_back(r, &kept);
    return report;
}
