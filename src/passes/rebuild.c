/* rebuild.c - making a pass's output graph from its input.  SPDX-License-Identifier: MIT */
#include <string.h>

#include "ops/families.h"
#include "passes/pass.h"

void niz_work_init(niz_work *w, niz_recording *r)
{
    *w = (niz_work){0};
    niz_graph_init(&w->g, r->z, &r->ops);
}

void niz_work_free(niz_work *w)
{
    niz_free(w->g.z, w->out);
    niz_graph_free(&w->g);
    w->out = NULL;
}

bool niz_rebuild_begin(niz_rebuild *b, const niz_work *in, niz_work *out, bool merge)
{
    niz *z = in->g.z;
    *b = (niz_rebuild){in, out, NULL, merge, false};
    b->map = niz_realloc(z, NULL, sizeof *b->map * (in->g.n + 1));
    out->out = niz_realloc(z, NULL, sizeof *out->out * (size_t)(in->n_out + 1));
    out->n_out = in->n_out;
    out->n_want = in->n_want;
    if (b->map) memset(b->map, 0xff, sizeof *b->map * (in->g.n + 1));
    if (b->map && out->out) return true;
    niz_free(z, b->map);
    return false;
}

static uint32_t niz_rebuild_put(niz_rebuild *b, uint32_t like, const niz_node_spec *s)
{
    uint32_t before = b->out->g.n, id = niz_graph_add(&b->out->g, s);
    if (id == NIZ_NONE)
        b->failed = true;
    else if (id == before)
        b->out->g.node[id].origin = b->in->g.node[like].origin;
    return id;
}

uint32_t niz_rebuild_copy(niz_rebuild *b, uint32_t id)
{
    const niz_node *n = &b->in->g.node[id];
    uint32_t arg[NIZ_MAX_ARITY];
    for (int i = 0; i < n->n_arg; i++) arg[i] = b->map[n->arg[i]];
    bool is_private = !b->merge || (n->flags & NIZ_NODE_PRIVATE);
    uint32_t made =
        niz_rebuild_put(b, id,
                        &(niz_node_spec){n->op, n->n_arg, arg, niz_node_attrs(n),
                                         (niz_dtype)n->dtype, n->shape, n->place, is_private});
    return made;
}

uint32_t niz_rebuild_add(niz_rebuild *b, uint32_t like, const niz_op *op, int n,
                         const uint32_t *arg, niz_attrs attr)
{
    niz_infer f;
    niz_type types[NIZ_MAX_ARITY];
    if (b->failed) return NIZ_NONE;
    if (!niz_graph_infer(&b->out->g, &f, op, n, arg, &attr, types)) {
        niz_fail(b->in->g.z, (niz_at){0}, NIZ_E_INTERNAL, "a pass made a wrong %s: %s", op->name,
                 f.why);
        b->failed = true;
        return NIZ_NONE;
    }
    return niz_rebuild_put(
        b, like,
        &(niz_node_spec){op, n, arg, attr, f.dtype, f.shape, b->in->g.node[like].place, !b->merge});
}

uint32_t niz_rebuild_try(niz_rebuild *b, uint32_t like, const niz_op *op, int n,
                         const uint32_t *arg, niz_attrs attr)
{
    niz_infer f;
    niz_type types[NIZ_MAX_ARITY];
    const niz_node *was = &b->in->g.node[like];
    if (b->failed || !niz_graph_infer(&b->out->g, &f, op, n, arg, &attr, types) ||
        f.dtype != (niz_dtype)was->dtype || !niz_shape_equal(f.shape, was->shape))
        return NIZ_NONE;
    return niz_rebuild_add(b, like, op, n, arg, attr);
}

uint32_t niz_rebuild_concat(niz_rebuild *b, uint32_t like, uint32_t n, const uint32_t *x,
                            int64_t axis)
{
    uint32_t part[NIZ_MAX_ARITY] = {0}, each = (n - 1) / NIZ_MAX_ARITY + 1, parts = 0;
    if (n == 1) return x[0];
    if (each == 1)
        return niz_rebuild_add(b, like, &niz_op_concat, (int)n, x, (niz_attrs){1, &axis});
    for (uint32_t i = 0; i < n && !b->failed; i += each)
        part[parts++] = niz_rebuild_concat(b, like, n - i < each ? n - i : each, x + i, axis);
    return b->failed ? NIZ_NONE : niz_rebuild_concat(b, like, parts, part, axis);
}

bool niz_rebuild_end(niz_rebuild *b)
{
    for (int i = 0; i < b->in->n_out && !b->failed; i++) b->out->out[i] = b->map[b->in->out[i]];
    niz_free(b->in->g.z, b->map);
    return !b->failed;
}

/* ---- on demand ------------------------------------------------------------------------------ */

bool niz_demand_begin(niz_demand *d, const niz_work *in, niz_work *out)
{
    niz *z = in->g.z;
    size_t n = (size_t)in->g.n + 1;
    if (!niz_rebuild_begin(&d->b, in, out, false)) return false;
    d->late = niz_realloc(z, NULL, n);
    d->lead = niz_realloc(z, NULL, 3 * n * sizeof *d->lead);
    if (!d->late || !d->lead) {
        niz_free(z, d->late);
        niz_free(z, d->lead);
        d->b.failed = true;
        niz_rebuild_end(&d->b);
        return false;
    }
    d->cursor = d->lead + n;
    d->path = d->cursor + n;
    memset(d->cursor, 0, n * sizeof *d->cursor);
    for (uint32_t id = 0; id < in->g.n; id++) {
        niz_form form = niz_op_form(in->g.node[id].op);
        d->lead[id] = id;
        d->late[id] = form == NIZ_FORM_VIEW || form == NIZ_FORM_LEAF;
    }
    return true;
}

/* Makes id after all that it needs: depth first, the path on a stack. */
static void niz_demand_one(niz_demand *d, uint32_t id)
{
    uint32_t n = 0;
    if (d->b.map[id] != NIZ_NONE) return;
    for (d->path[n++] = d->lead[id]; n && !d->b.failed;) {
        uint32_t now = d->path[n - 1], x = d->need(d, now, d->cursor[now]);
        if (x == NIZ_NONE) {
            d->make(d, now);
            n--;
            continue;
        }
        d->cursor[now]++;
        if (d->b.map[x] == NIZ_NONE) d->path[n++] = d->lead[x];
    }
}

bool niz_demand_end(niz_demand *d)
{
    const niz_work *in = d->b.in;
    for (uint32_t id = 0; id < in->g.n && !d->b.failed; id++)
        if (!d->late[id]) niz_demand_one(d, id);
    for (int i = 0; i < in->n_out && !d->b.failed; i++) niz_demand_one(d, in->out[i]);
    niz_free(in->g.z, d->late);
    niz_free(in->g.z, d->lead);
    return niz_rebuild_end(&d->b);
}
