/* join.c - sums of many like terms become one operation.
 *
 *     pad(a) + pad(b) + pad(c)          ->   concat(a, b, c), padded if they do not fill the shape
 *     Σ_t contract(a_t, b_t)            ->   contract(concat(c_t), concat(d_t)), one long sum
 *
 * The first is what the reverse sweep makes of slices (the gates of an LSTM, the steps of a
 * sequence), the second the gradient of a weight that is used in every step.  Both change
 * arithmetic and look at the graph alone:
 * - an element of the concat is the element itself: the zeros that were added to it are not, so -0
 *   stays -0;
 * - the long contraction sums in its own order (blocks of 384 over all terms), the last term first:
 *   the reverse sweep adds the steps from the last to the first, so this is the order of time.
 * What else stands in the sum is added first to last, a joined term at the place of its first.
 *
 * A sum is a tree of additions of one shape whose inner ones nobody else reads.  Contractions are
 * joined where that moves less: the operands copied against the products written and added,
 * K (M + N) <= 2 M N.
 *
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "core/type.h"
#include "ops/families.h"
#include "passes/pass.h"

#define NIZ_JOIN_KINDS 8 /* kinds of terms joined in one sum; more stay as they are */

/* A term of a sum: an input node, and the first term (by index) of those it is joined with. */
typedef struct niz_join_term {
    uint32_t id, kind; /* kind NIZ_NONE: it stays alone */
    int64_t lo;        /* of a pad: where it begins */
} niz_join_term;

typedef struct niz_join_state {
    niz *z;
    const niz_graph *g;
    niz_join_term *term;
    size_t capacity;
    uint32_t n;
    uint32_t *users;
    bool *inner;             /* an addition within a sum */
    uint32_t *first, *count; /* of a sum that is taken apart: its terms; count 0: not one */
    uint32_t *made;          /* output nodes that are stacked */
    niz_join_term *sorted;   /* the terms of one kind */
} niz_join_state;

/* ---- finding sums --------------------------------------------------------------------------- */

static bool niz_join_adds(const niz_graph *g, uint32_t id)
{
    const niz_node *n = &g->node[id];
    return n->op == &niz_op_add && niz_shape_equal(g->node[n->arg[0]].shape, n->shape) &&
           niz_shape_equal(g->node[n->arg[1]].shape, n->shape);
}

/* The one axis along which a pad with +0 pads, or -1. */
static int niz_join_axis(const niz_node *n)
{
    int rank = n->shape->rank, axis = -1;
    if (n->op != &niz_op_pad || n->attr[0]) return -1;
    const int64_t *lo = n->attr + 1, *hi = lo + rank, *gap = hi + rank;
    for (int d = 0; d < rank; d++) {
        if (gap[d] || (axis >= 0 && (lo[d] || hi[d]))) return -1;
        if (lo[d] || hi[d]) axis = d;
    }
    return axis;
}

static bool niz_join_pays(const niz_graph *g, const niz_node *n)
{
    const niz_shape *a = g->node[n->arg[0]].shape, *b = g->node[n->arg[1]].shape;
    int batch = (int)n->attr[0], sum = (int)n->attr[1];
    double M = 1, N = 1, K = 1;
    for (int i = batch; i < a->rank - sum; i++) M *= (double)a->dim[i];
    for (int i = batch; i < b->rank - sum; i++) N *= (double)b->dim[i];
    for (int i = a->rank - sum; i < a->rank; i++) K *= (double)a->dim[i];
    return sum > 0 && K > 0 && K * (M + N) <= 2 * M * N;
}

static bool niz_join_candidate(const niz_join_state *s, uint32_t id)
{
    const niz_node *n = &s->g->node[id];
    if (n->op == &niz_op_contract) return s->users[id] == 1 && niz_join_pays(s->g, n);
    return niz_join_axis(n) >= 0;
}

static bool niz_join_alike(const niz_graph *g, uint32_t x, uint32_t y)
{
    const niz_node *p = &g->node[x], *q = &g->node[y];
    if (p->op != q->op) return false;
    if (p->op == &niz_op_pad) return niz_join_axis(p) == niz_join_axis(q);
    return p->attr[0] == q->attr[0] && p->attr[1] == q->attr[1] &&
           niz_shape_equal(g->node[p->arg[0]].shape, g->node[q->arg[0]].shape) &&
           niz_shape_equal(g->node[p->arg[1]].shape, g->node[q->arg[1]].shape);
}

/* The terms of the sum at root, left to right. */
static bool niz_join_terms(niz_join_state *s, uint32_t root, uint32_t *stack)
{
    uint32_t n = 0;
    for (stack[n++] = root; n;) {
        uint32_t id = stack[--n];
        if (niz_join_adds(s->g, id) && (id == root || s->users[id] == 1)) {
            stack[n++] = s->g->node[id].arg[1];
            stack[n++] = s->g->node[id].arg[0];
            continue;
        }
        if (!niz_grow(s->z, &s->term, sizeof *s->term, &s->capacity, (size_t)s->n + 1))
            return false;
        const niz_node *t = &s->g->node[id];
        int axis = niz_join_axis(t);
        s->term[s->n++] = (niz_join_term){id, NIZ_NONE, axis < 0 ? 0 : t->attr[1 + axis]};
    }
    return true;
}

static int niz_join_by_place(const void *p, const void *q)
{
    const niz_join_term *a = p, *b = q;
    if (a->lo != b->lo) return a->lo < b->lo ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

/* The terms of a kind in the order in which they are stacked; how many. */
static uint32_t niz_join_sort(niz_join_state *s, uint32_t kind, uint32_t end)
{
    uint32_t n = 0;
    if (s->g->node[s->term[kind].id].op == &niz_op_pad) {
        for (uint32_t i = kind; i < end; i++)
            if (s->term[i].kind == kind) s->sorted[n++] = s->term[i];
        qsort(s->sorted, n, sizeof *s->sorted, niz_join_by_place);
        return n;
    }
    for (uint32_t i = end; i-- > kind;)
        if (s->term[i].kind == kind) s->sorted[n++] = s->term[i];
    return n;
}

/* Whether there are several terms of a kind, and if they are pads, each where the last ended. */
static bool niz_join_fits(niz_join_state *s, uint32_t kind, uint32_t end)
{
    uint32_t n = niz_join_sort(s, kind, end);
    const niz_node *first = &s->g->node[s->sorted[0].id];
    if (n < 2 || first->op != &niz_op_pad) return n > 1;
    int axis = niz_join_axis(first);
    for (uint32_t i = 1; i < n; i++) {
        const niz_node *before = &s->g->node[s->sorted[i - 1].id];
        int64_t size = s->g->node[before->arg[0]].shape->dim[axis];
        if (s->sorted[i].lo != s->sorted[i - 1].lo + size) return false;
    }
    return true;
}

/* Sorts the terms from begin on into kinds; false if none are joined. */
static bool niz_join_kinds(niz_join_state *s, uint32_t begin)
{
    uint32_t kind[NIZ_JOIN_KINDS], n = 0;
    bool any = false;
    for (uint32_t i = begin; i < s->n; i++) {
        uint32_t k = 0;
        if (!niz_join_candidate(s, s->term[i].id)) continue;
        while (k < n && !niz_join_alike(s->g, s->term[kind[k]].id, s->term[i].id)) k++;
        if (k == NIZ_JOIN_KINDS) continue;
        if (k == n) kind[n++] = i;
        s->term[i].kind = kind[k];
    }
    for (uint32_t k = 0; k < n; k++) {
        bool fits = niz_join_fits(s, kind[k], s->n);
        any = any || fits;
        for (uint32_t i = kind[k]; i < s->n && !fits; i++)
            if (s->term[i].kind == kind[k]) s->term[i].kind = NIZ_NONE;
    }
    return any;
}

/* Nodes that only the sum at root reads: inner additions, which are no sums of their own, and if
 * the sum is taken apart, nobody makes them, nor the joined terms, unless someone else asks. */
static void niz_join_hide(niz_demand *d, niz_join_state *s, uint32_t root)
{
    uint32_t n = 0, *stack = d->path;
    for (uint32_t i = 0; i < s->count[root]; i++)
        if (s->term[s->first[root] + i].kind != NIZ_NONE)
            d->late[s->term[s->first[root] + i].id] = true;
    for (stack[n++] = root; n;) {
        uint32_t id = stack[--n];
        if (!niz_join_adds(s->g, id) || (id != root && s->users[id] != 1)) continue;
        if (id != root) s->inner[id] = true;
        if (id != root && s->count[root]) d->late[id] = true;
        stack[n++] = s->g->node[id].arg[0];
        stack[n++] = s->g->node[id].arg[1];
    }
}

static bool niz_join_find(niz_demand *d, niz_join_state *s)
{
    for (uint32_t id = s->g->n; id-- > 0;) {
        if (!niz_join_adds(s->g, id) || s->inner[id]) continue;
        s->first[id] = s->n;
        if (!niz_join_terms(s, id, d->path)) return false;
        if (niz_join_kinds(s, s->first[id]))
            s->count[id] = s->n - s->first[id];
        else
            s->n = s->first[id];
        niz_join_hide(d, s, id);
    }
    return true;
}

/* ---- making them ---------------------------------------------------------------------------- */

static uint32_t niz_join_need(const niz_demand *d, uint32_t id, uint32_t i)
{
    const niz_join_state *s = d->state;
    const niz_node *n = &s->g->node[id];
    if (!s->count[id]) return i < n->n_arg ? n->arg[i] : NIZ_NONE;
    if (i / 2 >= s->count[id]) return NIZ_NONE; /* two questions a term */
    const niz_join_term *t = &s->term[s->first[id] + i / 2];
    const niz_node *x = &s->g->node[t->id];
    return t->kind == NIZ_NONE ? t->id : x->arg[i % 2 && x->n_arg > 1];
}

/* s->made[0 .. n) joined; what is itself a concat by this axis is joined part by part, as long as
 * a node has operands enough. */
static uint32_t niz_join_stack(niz_join_state *s, niz_rebuild *b, uint32_t like, uint32_t n,
                               int64_t axis)
{
    const niz_graph *g = &b->out->g;
    uint32_t flat[NIZ_MAX_ARITY], m = 0;
    for (uint32_t i = 0; i < n && m <= NIZ_MAX_ARITY; i++) {
        const niz_node *x = &g->node[s->made[i]];
        bool parts = x->op == &niz_op_concat && x->attr[0] == axis;
        uint32_t k = parts ? x->n_arg : 1;
        if (m + k <= NIZ_MAX_ARITY)
            memcpy(flat + m, parts ? x->arg : &s->made[i], k * sizeof *flat);
        m += k;
    }
    bool fits = m <= NIZ_MAX_ARITY;
    return niz_rebuild_concat(b, like, fits ? m : n, fits ? flat : s->made, axis);
}

static uint32_t niz_join_pads(niz_join_state *s, niz_rebuild *b, uint32_t like, uint32_t n)
{
    const niz_node *first = &s->g->node[s->sorted[0].id];
    const niz_node *last = &s->g->node[s->sorted[n - 1].id];
    int rank = first->shape->rank, axis = niz_join_axis(first);
    int64_t word[1 + 3 * NIZ_MAX_RANK] = {0};
    for (uint32_t i = 0; i < n; i++) s->made[i] = b->map[s->g->node[s->sorted[i].id].arg[0]];
    word[1 + axis] = first->attr[1 + axis];
    word[1 + rank + axis] = last->attr[1 + rank + axis];
    uint32_t y = niz_join_stack(s, b, like, n, axis);
    if (y == NIZ_NONE || (!word[1 + axis] && !word[1 + rank + axis])) return y;
    return niz_rebuild_add(b, like, &niz_op_pad, 1, &y, (niz_attrs){1 + 3 * rank, word});
}

/* Whether all of s->made[0 .. n) are permuted in one way. */
static bool niz_join_permuted(const niz_join_state *s, const niz_graph *g, uint32_t n)
{
    const niz_node *x = &g->node[s->made[0]];
    for (uint32_t i = 0; i < n; i++) {
        const niz_node *y = &g->node[s->made[i]];
        if (y->op != &niz_op_permute || memcmp(x->attr, y->attr, x->n_attr * sizeof *x->attr))
            return false;
    }
    return true;
}

/* The operands of one side stacked along the first summed axis; a permute is done once, after. */
static uint32_t niz_join_side(niz_join_state *s, niz_rebuild *b, uint32_t like, uint32_t n,
                              int side)
{
    const niz_graph *g = &b->out->g;
    const niz_node *y = &s->g->node[s->sorted[0].id];
    for (uint32_t i = 0; i < n; i++) s->made[i] = b->map[s->g->node[s->sorted[i].id].arg[side]];
    int64_t axis = s->g->node[y->arg[side]].shape->rank - y->attr[1], back[NIZ_MAX_RANK];
    if (!niz_join_permuted(s, g, n)) return niz_join_stack(s, b, like, n, axis);
    int rank = g->node[s->made[0]].n_attr;
    memcpy(back, g->node[s->made[0]].attr, (size_t)rank * sizeof *back);
    for (uint32_t i = 0; i < n; i++) s->made[i] = g->node[s->made[i]].arg[0];
    uint32_t x = niz_join_stack(s, b, like, n, back[axis]);
    if (x == NIZ_NONE) return x;
    return niz_rebuild_add(b, like, &niz_op_permute, 1, &x, (niz_attrs){rank, back});
}

static uint32_t niz_join_kind(niz_join_state *s, niz_rebuild *b, uint32_t like, uint32_t kind,
                              uint32_t end)
{
    uint32_t n = niz_join_sort(s, kind, end), arg[2];
    const niz_node *first = &s->g->node[s->sorted[0].id];
    if (first->op == &niz_op_pad) return niz_join_pads(s, b, like, n);
    if ((arg[0] = niz_join_side(s, b, like, n, 0)) == NIZ_NONE ||
        (arg[1] = niz_join_side(s, b, like, n, 1)) == NIZ_NONE)
        return NIZ_NONE;
    return niz_rebuild_add(b, s->sorted[0].id, first->op, 2, arg, niz_node_attrs(first));
}

static void niz_join_make(niz_demand *d, uint32_t id)
{
    niz_join_state *s = d->state;
    niz_rebuild *b = &d->b;
    uint32_t sum = NIZ_NONE, begin = s->first[id], end = begin + s->count[id];
    if (!s->count[id]) {
        b->map[id] = niz_rebuild_copy(b, id);
        return;
    }
    for (uint32_t i = begin; i < end && !b->failed; i++) {
        const niz_join_term *t = &s->term[i];
        if (t->kind != NIZ_NONE && t->kind != i) continue;
        uint32_t x = t->kind == i ? niz_join_kind(s, b, id, i, end) : b->map[t->id];
        uint32_t arg[2] = {sum, x};
        sum = sum == NIZ_NONE || x == NIZ_NONE
                  ? x
                  : niz_rebuild_add(b, id, &niz_op_add, 2, arg, (niz_attrs){0});
    }
    b->map[id] = sum;
}

/* ---- the pass ------------------------------------------------------------------------------- */

static bool niz_join_arrays(niz_join_state *s, const niz_work *in)
{
    size_t n = (size_t)in->g.n + 1;
    s->users = niz_realloc(s->z, NULL, 4 * n * sizeof *s->users);
    s->inner = niz_realloc(s->z, NULL, n);
    s->sorted = niz_realloc(s->z, NULL, n * sizeof *s->sorted);
    if (!s->users || !s->inner || !s->sorted) return false;
    s->first = s->users + n;
    s->count = s->first + n;
    s->made = s->count + n;
    memset(s->users, 0, n * sizeof *s->users);
    memset(s->count, 0, n * sizeof *s->count);
    memset(s->inner, 0, n);
    for (uint32_t id = 0; id < in->g.n; id++)
        for (int i = 0; i < in->g.node[id].n_arg; i++) s->users[in->g.node[id].arg[i]]++;
    for (int i = 0; i < in->n_out; i++) s->users[in->out[i]]++;
    return true;
}

bool niz_join(const niz_pass_env *env, const niz_work *in, niz_work *out)
{
    niz_join_state s = {.z = env->z, .g = &in->g};
    niz_demand d = {.state = &s, .need = niz_join_need, .make = niz_join_make};
    bool ok = niz_join_arrays(&s, in) && niz_demand_begin(&d, in, out);
    if (ok) {
        d.b.failed = !niz_join_find(&d, &s);
        ok = niz_demand_end(&d);
    }
    void *all[] = {s.users, s.inner, s.sorted, s.term};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) niz_free(env->z, all[i]);
    return ok;
}
