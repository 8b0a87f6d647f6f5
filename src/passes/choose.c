/* choose.c - one index a row: gather and scatter_add as comparisons with the place in the row.
 *
 *   gather(x, i)          sum over the axis of (place == i ? x : -0)     x + -0 is x, also of x =
 * -0 scatter_add(x, i, v)  place == i ? x + v : x
 *
 * These are elementwise and a fold, so they fuse with what is around them: a loss that picks the
 * label's entry of each row, and its gradient.  That the indices are inside is checked by a task of
 * its own (niz_op_inside), which fails as the operation would; a kernel that compares cannot leave
 * its memory, whatever the index.  Only the compiled form gets this pass: alone these nodes are
 * slower than what they replace.
 *
 * A gather from memory is left as it is: to read whole rows for an element each would cost more.
 *
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "ops/families.h"
#include "passes/pass.h"

typedef struct niz_chooser {
    niz_rebuild b;
    niz_layout_of *layout; /* of the input's nodes */
    int64_t *checked;      /* of each index of the input: how many places it is known to be in */
} niz_chooser;

/* Whether the index, operand 1, has one entry a row, and rows can be swept. */
static bool niz_choose_is_one(const niz_graph *g, const niz_node *n)
{
    if (n->op != &niz_op_gather && n->op != &niz_op_scatter_add) return false;
    int64_t axis = n->attr[0], places = g->node[n->arg[0]].shape->dim[axis];
    return niz_dtype_is_float((niz_dtype)n->dtype) && niz_shape_count(n->shape) > 0 &&
           g->node[n->arg[1]].shape->dim[axis] == 1 && places > 1 && places < INT32_MAX;
}

bool niz_choose_applies(const niz_work *w)
{
    uint32_t id = 0;
    while (id < w->g.n && !niz_choose_is_one(&w->g, &w->g.node[id])) id++;
    return id < w->g.n;
}

static bool niz_choose_is_output(const niz_work *w, uint32_t id)
{
    int i = 0;
    while (i < w->n_out && w->out[i] != id) i++;
    return i < w->n_out;
}

/* The rows of x are computed by a map, and in its order. */
static bool niz_choose_is_computed(const niz_chooser *c, uint32_t x)
{
    const niz_layout_of *l = &c->layout[x];
    return niz_op_form(c->b.in->g.node[l->root].op) == NIZ_FORM_MAP &&
           niz_view_is_contiguous(&l->view);
}

static uint32_t niz_choose_literal(niz_chooser *c, uint32_t like, double v)
{
    static const niz_shape one = {0};
    const niz_node *n = &c->b.in->g.node[like];
    int64_t bits;
    memcpy(&bits, &v, sizeof bits);
    uint32_t id = niz_graph_add(
        &c->b.out->g,
        &(niz_node_spec){
            &niz_op_literal, 0, NULL, {1, &bits}, (niz_dtype)n->dtype, &one, n->place, true});
    if (id == NIZ_NONE)
        c->b.failed = true;
    else
        c->b.out->g.node[id].origin = n->origin;
    return id;
}

static void niz_choose_check(niz_chooser *c, uint32_t id)
{
    const niz_graph *g = &c->b.in->g;
    const niz_node *n = &g->node[id];
    uint32_t index = n->arg[1];
    int64_t places = g->node[n->arg[0]].shape->dim[n->attr[0]];
    if (c->checked[index] == places) return;
    niz_rebuild_add(&c->b, id, &niz_op_inside, 1, &c->b.map[index], (niz_attrs){1, &places});
    c->checked[index] = places;
}

static uint32_t niz_choose_gather(niz_chooser *c, uint32_t id)
{
    const niz_node *n = &c->b.in->g.node[id];
    niz_attrs axis = niz_node_attrs(n);
    niz_choose_check(c, id);
    uint32_t none = niz_choose_literal(c, id, -0.0);
    uint32_t arg[3] = {c->b.map[n->arg[1]], c->b.map[n->arg[0]], none};
    uint32_t own = niz_rebuild_add(&c->b, id, &niz_op_choose, 3, arg, axis);
    uint32_t sum = niz_rebuild_add(&c->b, id, &niz_op_sum, 1, &own, axis);
    niz_shape s = *n->shape;
    return niz_rebuild_add(&c->b, id, &niz_op_reshape, 1, &sum, (niz_attrs){s.rank, s.dim});
}

static uint32_t niz_choose_scatter(niz_chooser *c, uint32_t id)
{
    const niz_node *n = &c->b.in->g.node[id];
    niz_choose_check(c, id);
    uint32_t x = c->b.map[n->arg[0]], two[2] = {x, c->b.map[n->arg[2]]};
    uint32_t sum = niz_rebuild_add(&c->b, id, &niz_op_add, 2, two, (niz_attrs){0});
    uint32_t arg[3] = {c->b.map[n->arg[1]], sum, x};
    return niz_rebuild_add(&c->b, id, &niz_op_choose, 3, arg, niz_node_attrs(n));
}

static uint32_t niz_choose_node(niz_chooser *c, uint32_t id)
{
    const niz_node *n = &c->b.in->g.node[id];
    if (!niz_choose_is_one(&c->b.in->g, n)) return niz_rebuild_copy(&c->b, id);
    if (n->op == &niz_op_scatter_add) return niz_choose_scatter(c, id);
    /* what leaves needs memory of its own, and no view */
    if (niz_choose_is_output(c->b.in, id) || !niz_choose_is_computed(c, n->arg[0]))
        return niz_rebuild_copy(&c->b, id);
    return niz_choose_gather(c, id);
}

static bool niz_choose(const niz_pass_env *env, const niz_work *in, niz_work *out)
{
    niz_chooser c = {.layout = NULL};
    size_t n = in->g.n + 1;
    if (!niz_rebuild_begin(&c.b, in, out, false)) return false;
    c.layout = niz_realloc(env->z, NULL, sizeof *c.layout * n);
    c.checked = niz_realloc(env->z, NULL, sizeof *c.checked * n);
    c.b.failed = !c.layout || !c.checked;
    if (c.checked) memset(c.checked, 0, sizeof *c.checked * n);
    for (uint32_t id = 0; id < in->g.n && !c.b.failed; id++) {
        niz_view_of(&in->g, id, c.layout);
        c.b.map[id] = niz_choose_node(&c, id);
    }
    niz_free(env->z, c.layout);
    niz_free(env->z, c.checked);
    return niz_rebuild_end(&c.b);
}

const niz_pass niz_pass_choose = {"choose", niz_choose, true,
                                  "before fuse, which then sees elements and folds"};
