/* reverse.c - the reverse sweep: from a graph to the graph of its gradients.
 *
 * Ids are a topological order, so one loop from the outputs down to the inputs is all there is: at
 * each node the cotangent gy = ∂loss/∂y is complete, and each operand receives its share
 *
 *     gx_i += gy · ∂y/∂x_i          (.partial, .adjoint or .vjp of the operation's record)
 *
 * What a rule records is graph like any other, so gradients can be differentiated again.  A
 * cotangent that does not exist is absent (NIZ_NONE), never a tensor of zeros.
 *
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "core/type.h"
#include "diff/diff.h"

typedef struct niz_reverse {
    niz_cone cone;
    uint32_t *g; /* the cotangent of node cone.lo + i, or NIZ_NONE */
} niz_reverse;

static void niz_reverse_add(niz_reverse *s, uint32_t id, niz_t g)
{
    uint32_t *sum = &s->g[id - s->cone.lo];
    if (*sum != NIZ_NONE) g = niz_add(niz_handle(s->cone.r, *sum), g);
    *sum = g.id;
}

/* Sums gy over the axes along which x was broadcast. */
static niz_t niz_reverse_unbroadcast(niz_t gy, niz_t x)
{
    niz_shape from = niz_shape_of(gy), to = niz_shape_of(x);
    if (niz_shape_equal(&from, &to)) return gy;
    niz_axes axes = {0};
    int extra = from.rank - to.rank;
    for (int d = 0; d < from.rank; d++)
        if (d < extra || (to.dim[d - extra] == 1 && from.dim[d] != 1)) axes.axis[axes.n++] = d;
    niz_t sum = axes.n ? niz_sum(gy, .axes = axes) : gy;
    return niz_reshape(sum, to);
}

static niz_t niz_reverse_partial(niz_reverse *s, const niz_app *p, int i, niz_t gy)
{
    niz_t d = p->op->partial(p, i);
    return niz_is_valid(d) ? niz_chain(s->cone.r, gy, d) : d;
}

/* The share of operand i: inert if there is none. */
static niz_t niz_reverse_share(niz_reverse *s, const niz_app *p, int i, niz_t gy)
{
    niz_t share = p->op->vjp       ? p->op->vjp(p, i, gy)
                  : p->op->adjoint ? p->op->adjoint(p, i, gy)
                                   : niz_reverse_partial(s, p, i, gy);
    bool broadcasts = niz_op_form(p->op) == NIZ_FORM_MAP && niz_is_valid(share);
    return broadcasts ? niz_reverse_unbroadcast(share, p->x[i]) : share;
}

static void niz_reverse_node(niz_reverse *s, uint32_t id)
{
    niz_recording *r = s->cone.r;
    niz_t x[NIZ_MAX_ARITY];
    niz_app p = niz_app_of(r, id, x);
    bool some = false;
    for (int i = 0; i < p.n; i++) some = some || niz_cone_has(&s->cone, x[i].id);
    if (!some) return;
    if (!p.op->partial && !p.op->adjoint && !p.op->vjp) {
        niz_no_rule(r, id);
        return;
    }
    niz_place_state place = niz_place_begin(r, r->g.node[id].place, p.op);
    niz_t gy = niz_handle(r, s->g[id - s->cone.lo]);
    for (int i = 0; i < p.n && !r->z->status; i++) {
        if (!niz_cone_has(&s->cone, x[i].id)) continue;
        niz_t share = niz_reverse_share(s, &p, i, gy);
        if (niz_is_valid(share)) niz_reverse_add(s, x[i].id, share);
    }
    niz_place_end(r, place);
}

static bool niz_reverse_begin(niz_reverse *s, niz_at at, const char *name, int n_y, const niz_t *y,
                              const niz_t *gy)
{
    NIZ_FUNCTION(s->cone.r->z, at, name); /* one y twice: its cotangents are added here */
    size_t bytes = sizeof *s->g * ((size_t)(s->cone.hi - s->cone.lo) + 1);
    if (!(s->g = niz_realloc(s->cone.r->z, NULL, bytes))) return false;
    memset(s->g, 0xff, bytes);
    for (int i = 0; i < n_y; i++)
        if (niz_cone_has(&s->cone, y[i].id)) niz_reverse_add(s, y[i].id, gy[i]);
    return true;
}

static bool niz_reverse_lives(niz_recording *r, niz_at at, const char *name, const char *of,
                              niz_t t)
{
    if (niz_handle_lives(r, t)) return true;
    char what[64];
    snprintf(what, sizeof what, "%s: %s", name, of);
    return niz_handle_node(r, at, t, what);
}

static bool niz_reverse_types_fit(niz_at at, const char *name, int n, const niz_t *y,
                                  const niz_t *gy)
{
    for (int i = 0; i < n; i++) {
        niz_recording *r = niz_recording_of(y[i].z);
        if (!r || r->z->status || !niz_reverse_lives(r, at, name, "a value", y[i]) ||
            !niz_reverse_lives(r, at, name, "a cotangent", gy[i]))
            return false;
        niz_shape a = niz_shape_of(y[i]), b = niz_shape_of(gy[i]);
        if (niz_shape_equal(&a, &b) && niz_dtype_of(y[i]) == niz_dtype_of(gy[i])) continue;
        niz_fail(r->z, at, niz_dtype_of(y[i]) == niz_dtype_of(gy[i]) ? NIZ_E_SHAPE : NIZ_E_DTYPE,
                 "vjp: the cotangent %s is not of the value's type %s", niz_describe(gy[i]).text,
                 niz_describe(y[i]).text);
        return false;
    }
    return true;
}

/* ---- a variable that is newer than what y was computed from --------------------------------- */

/* Whether one of the y depends on a version of parameter k (in any way at all). */
static bool niz_reverse_uses(const niz_recording *r, int64_t k, uint32_t hi, bool *needed)
{
    for (uint32_t id = hi; id-- > 0;) {
        const niz_node *n = &r->g.node[id];
        if (!needed[id]) continue;
        if ((n->op == &niz_op_param || n->op == &niz_op_assign) && n->attr[0] == k) return true;
        for (int i = 0; i < n->n_arg; i++) needed[n->arg[i]] = true;
    }
    return false;
}

/* The gradient with respect to x is zero; if x is a version of a parameter and y was computed from
 * an older one, that is hardly what is meant: said once a parameter. */
static void niz_reverse_remark(const niz_reverse *s, niz_at at, niz_t x, int n_y, const niz_t *y)
{
    niz_recording *r = s->cone.r;
    const niz_node *n = &r->g.node[x.id];
    if (!r->z->options.log || (n->op != &niz_op_param && n->op != &niz_op_assign)) return;
    niz_param *p = &r->param[n->attr[0]];
    bool *needed = p->newer_reported ? NULL : niz_realloc(r->z, NULL, (size_t)s->cone.hi + 1);
    if (!needed) return;
    memset(needed, 0, (size_t)s->cone.hi + 1);
    for (int i = 0; i < n_y; i++) needed[y[i].id] = true;
    if (niz_reverse_uses(r, n->attr[0], s->cone.hi, needed)) {
        p->newer_reported = true;
        niz_remark(
            r->z,
            "the gradient at %s:%d is zero: the parameter \"%s\" has been assigned since the "
            "value was computed from it; ask for its handle before the update",
            at.file ? at.file : "?", at.line, p->name);
    }
    niz_free(r->z, needed);
}

static void niz_reverse_run(niz_at at, const char *name, int n_y, const niz_t *y, const niz_t *gy,
                            int n_x, const niz_t *x, niz_t *gx)
{
    niz_reverse s = {.g = NULL};
    niz *z = n_y ? niz_context_of(n_y, y) : niz_context_of(n_x, x);
    for (int i = 0; i < n_x; i++) gx[i] = niz_inert(z);
    if (niz_reverse_types_fit(at, name, n_y, y, gy) &&
        niz_cone_find(&s.cone, at, name, n_x, x, n_y, y) &&
        niz_reverse_begin(&s, at, name, n_y, y, gy)) {
        for (uint32_t id = s.cone.hi; id-- > s.cone.lo && !z->status;)
            if (s.g[id - s.cone.lo] != NIZ_NONE) niz_reverse_node(&s, id);
        for (int i = 0; i < n_x && !z->status; i++) {
            uint32_t g = x[i].id < s.cone.hi ? s.g[x[i].id - s.cone.lo] : NIZ_NONE;
            gx[i] = g != NIZ_NONE ? niz_handle(s.cone.r, g) : niz_full_like_at(at, x[i], 0);
            if (g == NIZ_NONE) niz_reverse_remark(&s, at, x[i], n_y, y);
        }
    }
    if (z) niz_free(z, s.g);
    niz_cone_free(&s.cone);
}

void niz_vjp_at(niz_at at, int n_y, const niz_t *y, const niz_t *gy, int n_x, const niz_t *x,
                niz_t *gx)
{
    niz_reverse_run(at, "vjp", n_y, y, gy, n_x, x, gx);
}

void niz_grad_at(niz_at at, niz_t y, int n, const niz_t *x, niz_t *gx)
{
    niz_shape s = niz_shape_of(y);
    for (int i = 0; i < n; i++) gx[i] = niz_inert(y.z);
    if (niz_is_valid(y) && niz_shape_count(&s) != 1) {
        niz_fail(y.z, at, NIZ_E_SHAPE,
                 "grad: needs a value of one element, not %s; niz_sum it, or give niz_vjp a "
                 "cotangent",
                 niz_type_text(niz_dtype_of(y), &s).text);
        return;
    }
    if (niz_is_valid(y) && !niz_dtype_is_float(niz_dtype_of(y))) {
        niz_fail(y.z, at, NIZ_E_DTYPE, "grad: needs f32 or f64, not %s",
                 niz_type_text(niz_dtype_of(y), &s).text);
        return;
    }
    niz_t one = niz_full_like_at(at, y, 1);
    niz_reverse_run(at, "grad", 1, &y, &one, n, x, gx);
}
