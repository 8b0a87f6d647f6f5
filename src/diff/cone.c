/* cone.c - which nodes a derivative has to pass through.  SPDX-License-Identifier: MIT */
#include <string.h>

#include "core/type.h"
#include "diff/diff.h"

static bool niz_cone_handles(niz_cone *c, niz_at at, const char *name, const char *of, int n,
                             const niz_t *t)
{
    for (int i = 0; i < n; i++) {
        bool lives = niz_handle_lives(c->r, t[i]);
        if (lives && niz_dtype_is_float((niz_dtype)c->r->g.node[t[i].id].dtype)) continue;
        char what[64];
        snprintf(what, sizeof what, "%s: %s", name, of);
        const niz_node *node = niz_handle_node(c->r, at, t[i], what);
        if (!node) return false;
        niz_fail(c->r->z, at, NIZ_E_DTYPE, "%s must be f32 or f64, not %s", what,
                 niz_type_text((niz_dtype)node->dtype, node->shape).text);
        return false;
    }
    return true;
}

bool niz_cone_find(niz_cone *c, niz_at at, const char *name, int n_x, const niz_t *x, int n_y,
                   const niz_t *y)
{
    *c = (niz_cone){0};
    niz *z = n_y ? niz_context_of(n_y, y) : niz_context_of(n_x, x);
    if (!(c->r = niz_recording_of(z)) || z->status) return false;
    if (!niz_cone_handles(c, at, name, "a variable", n_x, x) ||
        !niz_cone_handles(c, at, name, "a value", n_y, y))
        return false;
    c->lo = c->r->g.n;
    for (int i = 0; i < n_x; i++)
        if (x[i].id < c->lo) c->lo = x[i].id;
    for (int i = 0; i < n_y; i++)
        if (y[i].id >= c->hi) c->hi = y[i].id + 1;
    if (c->hi < c->lo) c->hi = c->lo;
    size_t n = c->hi - c->lo;
    if (!(c->depends = niz_realloc(z, NULL, n + 1))) return false;
    memset(c->depends, 0, n + 1);
    for (int i = 0; i < n_x; i++)
        if (x[i].id < c->hi) c->depends[x[i].id - c->lo] = true;
    for (uint32_t id = c->lo; id < c->hi; id++) {
        const niz_node *node = &c->r->g.node[id];
        if (!niz_dtype_is_float((niz_dtype)node->dtype) || node->op->no_gradient) continue;
        for (int i = 0; i < node->n_arg; i++)
            if (niz_cone_has(c, node->arg[i])) c->depends[id - c->lo] = true;
    }
    return true;
}

void niz_cone_free(niz_cone *c)
{
    if (c->r) niz_free(c->r->z, c->depends);
}

bool niz_cone_has(const niz_cone *c, uint32_t id)
{
    return id >= c->lo && id < c->hi && c->depends[id - c->lo];
}

niz_app niz_app_of(const niz_recording *r, uint32_t id, niz_t x[NIZ_MAX_ARITY])
{
    const niz_node *n = &r->g.node[id];
    for (int i = 0; i < n->n_arg; i++) x[i] = niz_handle(r, n->arg[i]);
    return (niz_app){n->op, niz_handle(r, id), n->n_arg, x, niz_node_attrs(n)};
}

niz_t niz_chain(niz_recording *r, niz_t a, niz_t d)
{
    const niz_node *n = niz_is_valid(d) ? &r->g.node[d.id] : NULL;
    double v = 0;
    if (n && n->op == &niz_op_literal) memcpy(&v, n->attr, sizeof v);
    if (v == 1) return a;
    if (v == -1) return niz_neg(a);
    return niz_mul(a, d);
}

void niz_no_rule(niz_recording *r, uint32_t id)
{
    const niz_node *n = &r->g.node[id];
    char where[256];
    niz_place_text(n->place, where, sizeof where);
    niz_fail(r->z, (niz_at){0}, NIZ_E_RULE,
             "%s%s has no derivative rule: give its record .partial, .adjoint or .vjp, or use "
             "niz_stop_gradient",
             n->op->name, where);
}
