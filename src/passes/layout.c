/* layout.c - copies where a consumer cannot read strides.
 *
 * Movement operations cost nothing: their consumers read the operand's memory with other strides.
 * A copy is made only where that is impossible: a reshape that strides cannot express, an opaque
 * operation (row-major operands), a value for the user or a parameter, which need memory of their
 * own.
 *
 * SPDX-License-Identifier: MIT */
#include "ops/families.h"
#include "passes/pass.h"

typedef struct niz_layout_state {
    niz_rebuild b;
    niz_layout_of *layout; /* of output nodes */
    size_t capacity;
} niz_layout_state;

/* Notes the layout of output node id, which is the newest. */
static bool niz_layout_note(niz_layout_state *s, uint32_t id)
{
    niz_graph *g = &s->b.out->g;
    if (id == NIZ_NONE || !niz_grow(g->z, &s->layout, sizeof *s->layout, &s->capacity, g->n)) {
        s->b.failed = true;
        return true;
    }
    return niz_view_of(g, id, s->layout);
}

static uint32_t niz_layout_copy(niz_layout_state *s, uint32_t like, uint32_t x)
{
    uint32_t id = niz_rebuild_add(&s->b, like, &niz_op_copy, 1, &x, (niz_attrs){0});
    niz_layout_note(s, id);
    return id;
}

/* The node again, with operands that it can read. */
static uint32_t niz_layout_node(niz_layout_state *s, uint32_t id)
{
    const niz_node *n = &s->b.in->g.node[id];
    niz_form form = niz_op_form(n->op);
    if (form == NIZ_FORM_OPAQUE)
        for (int i = 0; i < n->n_arg && !s->b.failed; i++) {
            uint32_t x = s->b.map[n->arg[i]];
            if (!niz_view_is_contiguous(&s->layout[x].view))
                s->b.map[n->arg[i]] = niz_layout_copy(s, n->arg[i], x);
        }
    if (s->b.failed) return NIZ_NONE;
    uint32_t made = niz_rebuild_copy(&s->b, id);
    if (made == NIZ_NONE || niz_layout_note(s, made)) return made;
    /* the view cannot be expressed: drop it, copy the operand, and see the copy so */
    niz_graph_rewind(&s->b.out->g, made);
    uint32_t x = niz_layout_copy(s, id, s->b.map[n->arg[0]]);
    if (s->b.failed) return NIZ_NONE;
    uint32_t before = s->b.map[n->arg[0]];
    s->b.map[n->arg[0]] = x;
    made = niz_rebuild_copy(&s->b, id);
    s->b.map[n->arg[0]] = before;
    niz_layout_note(s, made);
    return made;
}

/* Memory of its own for a value that leaves: not a view's, not a leaf's, not another output's. */
static uint32_t niz_layout_own(niz_layout_state *s, uint32_t like, uint32_t x, bool *taken)
{
    const niz_node *n = &s->b.out->g.node[x];
    niz_form form = niz_op_form(n->op);
    if (form != NIZ_FORM_VIEW && form != NIZ_FORM_LEAF && !taken[x]) {
        taken[x] = true;
        return x;
    }
    return niz_layout_copy(s, like, x);
}

static void niz_layout_outputs(niz_layout_state *s)
{
    const niz_work *in = s->b.in;
    niz_work *out = s->b.out;
    bool *taken = niz_realloc(in->g.z, NULL, out->g.n + 1);
    if (!taken) {
        s->b.failed = true;
        return;
    }
    for (uint32_t i = 0; i <= out->g.n; i++) taken[i] = false;
    for (int i = in->n_want; i < in->n_out && !s->b.failed; i++) {
        const niz_node *a = &out->g.node[s->b.map[in->out[i]]];
        uint32_t id = s->b.map[in->out[i]], v = a->arg[0];
        uint32_t own = niz_layout_own(s, in->out[i], v, taken);
        if (own != v && !s->b.failed) {
            /* the assignment of the copy: the first one stays as a plain view for its readers */
            const niz_node *first = &out->g.node[id];
            uint32_t again = niz_graph_add(
                &out->g,
                &(niz_node_spec){&niz_op_assign, 1, &own, niz_node_attrs(first),
                                 (niz_dtype)first->dtype, first->shape, first->place, true});
            if (again != NIZ_NONE) out->g.node[again].origin = in->g.node[in->out[i]].origin;
            niz_layout_note(s, again);
            id = again;
        }
        out->out[i] = id;
    }
    for (int i = 0; i < in->n_want && !s->b.failed; i++)
        out->out[i] = niz_layout_own(s, in->out[i], s->b.map[in->out[i]], taken);
    niz_free(in->g.z, taken);
}

bool niz_layout(const niz_pass_env *env, const niz_work *in, niz_work *out)
{
    niz_layout_state s = {.layout = NULL};
    if (!niz_rebuild_begin(&s.b, in, out, false)) return false;
    for (uint32_t id = 0; id < in->g.n && !s.b.failed; id++) s.b.map[id] = niz_layout_node(&s, id);
    if (!s.b.failed) niz_layout_outputs(&s);
    niz_free(env->z, s.layout);
    niz_free(env->z, s.b.map);
    return !s.b.failed;
}
