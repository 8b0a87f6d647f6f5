/* batch.c - independent contractions with one weight become one.
 *
 *     y_t = contract(x_t, w) for all t   ->   y = contract(concat(x_t), w), y_t = slice(y)
 *
 * A row of a contraction does not depend on the other rows, so this changes no bit.  What it saves
 * is reading (and packing) w each time; what it costs is a copy of the x_t.  It is done for rows
 * so few that w is larger: 2 rows <= columns, and at most NIZ_BATCH_ROWS of them.
 *
 * Two contractions are independent if as many others lie before them on the longest path (their
 * depth; the inputs of an unrolled network), or after them (their height; the gradients of these).
 * Joining only what is of one depth closes no cycle however much is joined: depth never falls along
 * an edge, and rises at each contraction.  The same holds for heights, in a second round.
 *
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "core/type.h"
#include "ops/families.h"
#include "passes/pass.h"

#define NIZ_BATCH_ROWS 128

typedef struct niz_batch_item {
    uint32_t id, weight, level; /* weight: the second operand */
    int64_t sum;                /* summed axes */
    const niz_shape *x;         /* of the first operand */
} niz_batch_item;

typedef struct niz_batch_state {
    niz_batch_item *item; /* sorted: those of one group stand side by side */
    uint32_t n;
    uint32_t *group, *size; /* of a group's leading node: its first item, how many; size 0: none */
    uint32_t *made;         /* output nodes of one group's operands */
} niz_batch_state;

/* How many contractions lie before each node, or after it, on the longest path. */
static void niz_batch_levels(const niz_graph *g, bool after, uint32_t *level)
{
    memset(level, 0, sizeof *level * g->n);
    for (uint32_t k = 0; k < g->n; k++) {
        uint32_t id = after ? g->n - 1 - k : k;
        const niz_node *n = &g->node[id];
        uint32_t one = niz_op_form(n->op) == NIZ_FORM_CONTRACT;
        for (int i = 0; i < n->n_arg; i++) {
            uint32_t *from = &level[after ? id : n->arg[i]], *to = &level[after ? n->arg[i] : id];
            uint32_t more =
                *from + (after ? one : niz_op_form(g->node[n->arg[i]].op) == NIZ_FORM_CONTRACT);
            if (*to < more) *to = more;
        }
    }
}

/* Rows of x [m.., k..] and w [n.., k..]: few enough? */
static bool niz_batch_pays(const niz_graph *g, const niz_node *n)
{
    const niz_shape *x = g->node[n->arg[0]].shape, *w = g->node[n->arg[1]].shape;
    int64_t sum = n->attr[1], rows = 1, columns = 1;
    if (n->attr[0] || sum == 0 || x->rank == sum) return false;
    for (int i = 0; i < x->rank - sum; i++) rows *= x->dim[i];
    for (int i = 0; i < w->rank - sum; i++) columns *= w->dim[i];
    return rows > 0 && rows <= NIZ_BATCH_ROWS && 2 * rows <= columns;
}

static int niz_batch_order(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int niz_batch_same(const niz_batch_item *a, const niz_batch_item *b)
{
    int c = niz_batch_order(a->weight, b->weight);
    if (!c) c = niz_batch_order(a->level, b->level);
    if (!c) c = niz_batch_order((uint64_t)a->sum, (uint64_t)b->sum);
    if (!c) c = niz_batch_order((uint64_t)a->x->rank, (uint64_t)b->x->rank);
    for (int i = 0; !c && i < a->x->rank; i++)
        c = niz_batch_order((uint64_t)a->x->dim[i], (uint64_t)b->x->dim[i]);
    return c;
}

/* Gradients are recorded from the last step to the first: for heights the last comes first, so
 * that both rounds stack in the order of time. */
static int niz_batch_depths(const void *p, const void *q)
{
    const niz_batch_item *a = p, *b = q;
    int c = niz_batch_same(a, b);
    return c ? c : niz_batch_order(a->id, b->id);
}

static int niz_batch_heights(const void *p, const void *q)
{
    const niz_batch_item *a = p, *b = q;
    int c = niz_batch_same(a, b);
    return c ? c : niz_batch_order(b->id, a->id);
}

static void niz_batch_items(niz_batch_state *s, const niz_graph *g, const uint32_t *level)
{
    for (uint32_t id = 0; id < g->n; id++) {
        const niz_node *n = &g->node[id];
        if (n->op == &niz_op_contract && niz_batch_pays(g, n))
            s->item[s->n++] =
                (niz_batch_item){id, n->arg[1], level[id], n->attr[1], g->node[n->arg[0]].shape};
    }
}

static void niz_batch_groups(niz_batch_state *s, niz_demand *d, bool after)
{
    for (uint32_t i = 0, end; i < s->n; i = end) {
        for (end = i + 1; end < s->n && !niz_batch_same(&s->item[i], &s->item[end]);) end++;
        if (end - i < 2) continue;
        uint32_t lead = s->item[i].id;
        s->group[lead] = i;
        s->size[lead] = end - i;
        for (uint32_t k = i; k < end; k++) {
            d->lead[s->item[k].id] = lead;
            d->late[s->item[k].id] = after;
        }
    }
}

static uint32_t niz_batch_need(const niz_demand *d, uint32_t id, uint32_t i)
{
    const niz_batch_state *s = d->state;
    const niz_graph *g = &d->b.in->g;
    const niz_node *n = &g->node[id];
    if (!s->size[id]) return i < n->n_arg ? n->arg[i] : NIZ_NONE;
    if (i < s->size[id]) return g->node[s->item[s->group[id] + i].id].arg[0];
    return i == s->size[id] ? n->arg[1] : NIZ_NONE;
}

/* Rows [k m, (k + 1) m) of y, which are what node like was. */
static uint32_t niz_batch_slice(niz_rebuild *b, uint32_t like, uint32_t y, int64_t k)
{
    const niz_shape *s = b->in->g.node[like].shape;
    int64_t word[3 * NIZ_MAX_RANK] = {k * s->dim[0]};
    for (int i = 0; i < s->rank; i++) {
        word[s->rank + i] = s->dim[i];
        word[2 * s->rank + i] = 1;
    }
    return niz_rebuild_add(b, like, &niz_op_slice, 1, &y, (niz_attrs){3 * s->rank, word});
}

static void niz_batch_make(niz_demand *d, uint32_t id)
{
    const niz_batch_state *s = d->state;
    niz_rebuild *b = &d->b;
    const niz_node *n = &b->in->g.node[id];
    if (!s->size[id]) {
        b->map[id] = niz_rebuild_copy(b, id);
        return;
    }
    const niz_batch_item *item = &s->item[s->group[id]];
    uint32_t count = s->size[id];
    for (uint32_t k = 0; k < count; k++) s->made[k] = b->map[b->in->g.node[item[k].id].arg[0]];
    uint32_t arg[2] = {niz_rebuild_concat(b, id, count, s->made, 0), b->map[n->arg[1]]};
    uint32_t y =
        arg[0] == NIZ_NONE ? NIZ_NONE : niz_rebuild_add(b, id, n->op, 2, arg, niz_node_attrs(n));
    for (uint32_t k = 0; k < count && y != NIZ_NONE; k++)
        b->map[item[k].id] = niz_batch_slice(b, item[k].id, y, k);
}

static bool niz_batch_arrays(niz_batch_state *s, niz *z, uint32_t n, uint32_t **level)
{
    size_t count = (size_t)n + 1;
    s->item = niz_realloc(z, NULL, count * sizeof *s->item);
    *level = niz_realloc(z, NULL, 4 * count * sizeof **level);
    if (!s->item || !*level) return false;
    s->group = *level + count;
    s->size = s->group + count;
    s->made = s->size + count;
    memset(s->size, 0, count * sizeof *s->size);
    return true;
}

static bool niz_batch_round(const niz_work *in, niz_work *out, bool after)
{
    niz_batch_state s = {.n = 0};
    uint32_t *level = NULL;
    niz_demand d = {.state = &s, .need = niz_batch_need, .make = niz_batch_make};
    niz *z = in->g.z;
    bool ok = niz_batch_arrays(&s, z, in->g.n, &level) && niz_demand_begin(&d, in, out);
    if (ok) {
        niz_batch_levels(&in->g, after, level);
        niz_batch_items(&s, &in->g, level);
        qsort(s.item, s.n, sizeof *s.item, after ? niz_batch_heights : niz_batch_depths);
        niz_batch_groups(&s, &d, after);
        ok = niz_demand_end(&d);
    }
    niz_free(z, s.item);
    niz_free(z, level);
    return ok;
}

bool niz_batch_pass(const niz_pass_env *env, const niz_work *in, niz_work *out)
{
    niz_work half;
    niz_work_init(&half, env->recording);
    bool ok = niz_batch_round(in, &half, false) && niz_batch_round(&half, out, true);
    niz_work_free(&half);
    return ok;
}
