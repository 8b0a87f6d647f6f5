/* forward.c - forward mode: tangents from the inputs up, by the same rules as the reverse sweep.
 *
 *     ty = Σ_i ∂y/∂x_i · tx_i        (.partial)
 *     ty = the operation itself       (.adjoint: it is linear, so it is its own derivative)
 *     ty = Σ_i .jvp(i, tx_i)          (otherwise)
 *
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "core/type.h"
#include "diff/diff.h"

typedef struct niz_forward {
    niz_cone cone;
    uint32_t *t; /* the tangent of node cone.lo + i, or NIZ_NONE */
} niz_forward;

static niz_t niz_forward_tangent(const niz_forward *s, niz_t x)
{
    bool has = niz_cone_has(&s->cone, x.id);
    return niz_handle(s->cone.r, has ? s->t[x.id - s->cone.lo] : NIZ_NONE);
}

/* A sum whose terms may be absent. */
static niz_t niz_forward_sum(niz_t a, niz_t b)
{
    return !niz_is_valid(a) ? b : !niz_is_valid(b) ? a : niz_add(a, b);
}

/* f(x with tx_i in place of x_i), or all operands at once where only that is linear. */
static niz_t niz_forward_linear(const niz_app *p, int i, const niz_t *tx)
{
    niz_t x[NIZ_MAX_ARITY];
    for (int j = 0; j < p->n; j++) {
        bool tangent = p->op->jointly_linear || j == i;
        x[j] = !tangent ? p->x[j] : niz_is_valid(tx[j]) ? tx[j] : niz_full_like(p->x[j], 0);
    }
    return niz_apply(p->op, p->n, x, &p->attr);
}

static niz_t niz_forward_share(niz_forward *s, const niz_app *p, int i, const niz_t *tx)
{
    if (p->op->jvp) return p->op->jvp(p, i, tx[i]);
    if (p->op->adjoint) return niz_forward_linear(p, i, tx);
    niz_t d = p->op->partial(p, i);
    return niz_is_valid(d) ? niz_chain(s->cone.r, tx[i], d) : d;
}

static void niz_forward_node(niz_forward *s, uint32_t id)
{
    niz_recording *r = s->cone.r;
    niz_t x[NIZ_MAX_ARITY], tx[NIZ_MAX_ARITY], ty = niz_inert(r->z);
    niz_app p = niz_app_of(r, id, x);
    bool some = false;
    for (int i = 0; i < p.n; i++) {
        tx[i] = niz_forward_tangent(s, x[i]);
        some = some || niz_is_valid(tx[i]);
    }
    if (!some) return;
    if (!p.op->partial && !p.op->adjoint && !p.op->jvp) {
        niz_no_rule(r, id);
        return;
    }
    niz_place_state place = niz_place_begin(r, r->g.node[id].place, p.op);
    for (int i = 0; i < p.n && !r->z->status; i++) {
        if (!niz_is_valid(tx[i])) continue;
        ty = niz_forward_sum(ty, niz_forward_share(s, &p, i, tx));
        if (p.op->adjoint && !p.op->jvp && p.op->jointly_linear) break;
    }
    niz_shape shape = niz_shape_of(p.y), made = niz_shape_of(ty);
    if (niz_is_valid(ty) && !niz_shape_equal(&shape, &made)) ty = niz_broadcast(ty, shape);
    niz_place_end(r, place);
    s->t[id - s->cone.lo] = ty.id;
}

void niz_jvp_at(niz_at at, int n_x, const niz_t *x, const niz_t *tx, int n_y, const niz_t *y,
                niz_t *ty)
{
    niz_forward s = {.t = NULL};
    niz *z = niz_context_of(n_y, y);
    for (int i = 0; i < n_y; i++) ty[i] = niz_inert(z);
    if (!niz_cone_find(&s.cone, at, "jvp", n_x, x, n_y, y)) {
        niz_cone_free(&s.cone);
        return;
    }
    niz_recording *r = s.cone.r;
    size_t bytes = sizeof *s.t * ((size_t)(s.cone.hi - s.cone.lo) + 1);
    if ((s.t = niz_realloc(z, NULL, bytes))) {
        memset(s.t, 0xff, bytes);
        for (int i = 0; i < n_x && !z->status; i++) {
            niz_shape a = niz_shape_of(x[i]), b = niz_shape_of(tx[i]);
            if (!niz_handle_node(r, at, tx[i], "jvp: a tangent")) break;
            if (!niz_shape_equal(&a, &b) || niz_dtype_of(x[i]) != niz_dtype_of(tx[i]))
                niz_fail(z, at,
                         niz_dtype_of(x[i]) == niz_dtype_of(tx[i]) ? NIZ_E_SHAPE : NIZ_E_DTYPE,
                         "jvp: the tangent %s is not of the variable's type %s",
                         niz_type_text(niz_dtype_of(tx[i]), &b).text,
                         niz_type_text(niz_dtype_of(x[i]), &a).text);
            else if (x[i].id < s.cone.hi)
                s.t[x[i].id - s.cone.lo] = tx[i].id;
        }
        for (uint32_t id = s.cone.lo; id < s.cone.hi && !z->status; id++)
            if (s.cone.depends[id - s.cone.lo] && s.t[id - s.cone.lo] == NIZ_NONE)
                niz_forward_node(&s, id);
        for (int i = 0; i < n_y && !z->status; i++) {
            ty[i] = niz_forward_tangent(&s, y[i]);
            if (!niz_is_valid(ty[i])) ty[i] = niz_full_like_at(at, y[i], 0);
        }
    }
    niz_free(z, s.t);
    niz_cone_free(&s.cone);
}
