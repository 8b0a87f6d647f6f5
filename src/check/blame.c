/* blame.c - every operation alone, at the operands it had.
 *
 * The last wrong one is named.  For a wrong second derivative the gradient's graph is looked
 * through first: a rule may be wrong because an operation that it records is.
 *
 * SPDX-License-Identifier: MIT */
#include <niz/ops.h>
#include <string.h>

#include "check/check.h"
#include "core/context.h"

typedef struct niz_blamer {
    niz_recording *r;
    const niz_check_options *o;
    bool *moving; /* nodes that depend on the inputs */
    uint32_t n;
    niz_blame b;
} niz_blamer;

/* A copy of an application on leaves that hold its operands' values. */
static niz_t niz_blame_alone(niz_blamer *b, uint32_t id, niz_t *x, int *n_float, niz_t *floats,
                             int *number)
{
    niz_recording *r = b->r;
    const niz_node n = r->g.node[id]; /* the array moves as it grows */
    *n_float = 0;
    for (int i = 0; i < n.n_arg; i++) {
        niz_shape shape = *r->g.node[n.arg[i]].shape;
        niz_dtype dtype = (niz_dtype)r->g.node[n.arg[i]].dtype;
        size_t bytes = niz_node_bytes(&r->g.node[n.arg[i]]);
        void *value = niz_arena_alloc(&r->g.arena, bytes + 1);
        if (!value || niz_read_at((niz_at){0}, niz_handle(r, n.arg[i]), value, bytes))
            return niz_inert(r->z);
        x[i] = niz_from_at((niz_at){0}, r->z, dtype, shape, value);
        if (!niz_dtype_is_float(dtype) || !b->moving[n.arg[i]]) continue;
        number[*n_float] = i;
        floats[(*n_float)++] = x[i];
    }
    niz_place_state s = niz_place_begin(r, n.place, NULL);
    niz_attrs attr = niz_node_attrs(&n);
    niz_t y = niz_apply_in(r->z, n.place->at, n.op, n.n_arg, x, &attr);
    niz_place_end(r, s);
    return y;
}

static niz_finding niz_blame_node(niz_blamer *b, uint32_t id, int order)
{
    NIZ_STEP(b->r->z);
    niz_t x[NIZ_MAX_ARITY], floats[NIZ_MAX_ARITY];
    int number[NIZ_MAX_ARITY], n;
    niz_check_options o = *b->o;
    niz_finding f = {.verdict = NIZ_CHECK_OK};
    niz_t y = niz_blame_alone(b, id, x, &n, floats, number);
    o.order = order;
    if (niz_is_valid(y) && n) f = niz_verify_gradient(b->r, n, floats, number, y, &o);
    if (f.verdict == NIZ_CHECK_ERROR || b->r->z->status) f.verdict = NIZ_CHECK_OK;
    niz_clear_error(b->r->z);
    return f;
}

static bool niz_blame_can(const niz_blamer *b, uint32_t id)
{
    const niz_node *n = &b->r->g.node[id];
    return b->moving[id] && n->n_arg && niz_dtype_is_float((niz_dtype)n->dtype) &&
           !n->op->no_gradient;
}

/* Which nodes depend on the inputs. */
static bool niz_blame_spread(niz_blamer *b, int n_in, const niz_t *in)
{
    b->n = b->r->g.n;
    if (!(b->moving = niz_arena_alloc(&b->r->g.arena, b->n))) return false;
    memset(b->moving, 0, b->n);
    for (int i = 0; i < n_in; i++) b->moving[in[i].id] = true;
    for (uint32_t id = 0; id < b->n; id++)
        for (int i = 0; i < b->r->g.node[id].n_arg; i++)
            if (b->moving[b->r->g.node[id].arg[i]]) b->moving[id] = true;
    return true;
}

/* The nodes that the roots need, from the last down; the first that is as bad as what was found. */
static void niz_blame_search(niz_blamer *b, int n, const niz_t *root, int order,
                             niz_check_verdict verdict)
{
    bool *needed = niz_arena_alloc(&b->r->g.arena, b->n);
    if (!needed) return;
    memset(needed, 0, b->n);
    for (int i = 0; i < n; i++) needed[root[i].id] = true;
    for (uint32_t id = b->n; id-- > 0 && !b->b.found;) {
        if (!needed[id]) continue;
        for (int i = 0; i < b->r->g.node[id].n_arg; i++) needed[b->r->g.node[id].arg[i]] = true;
        if (!niz_blame_can(b, id)) continue;
        niz_finding f = niz_blame_node(b, id, order);
        if (f.verdict != verdict) continue;
        b->b = (niz_blame){true, b->r->g.node[id].op, *b->r->g.node[id].place, f};
    }
}

niz_blame niz_blame_find(niz_recording *r, int n_in, const niz_t *in, niz_t y,
                         const niz_finding *f, const niz_check_options *o)
{
    niz_blamer b = {.r = r, .o = o};
    niz_t *g = niz_arena_alloc(&r->g.arena, sizeof *g * (size_t)n_in);
    if (!g) return b.b;
    if (f->order == 2) niz_grad_at((niz_at){0}, niz_sum(y), n_in, in, g);
    if (r->z->status || !niz_blame_spread(&b, n_in, in)) return b.b;
    if (f->order == 2) niz_blame_search(&b, n_in, g, 1, f->verdict);
    if (!b.b.found) niz_blame_search(&b, 1, &y, f->order, f->verdict);
    return b.b;
}
