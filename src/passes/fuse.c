/* fuse.c - grouping nodes into kernels.
 *
 * One sweep over the scheduled nodes.  Groups run in the order they were opened, so a node may join
 * a group only if everything it reads is in that group or an earlier one: no cycle can arise and
 * the sweep is linear.  What a group saves is memory traffic: a value read by its own group only is
 * never stored, and an operand read by several nodes of it is loaded once.
 *
 * A nest computes rows.  Inside it a node may read
 *   - any earlier group's value or leaf, through any view (it is a load);
 *   - an element of its own row, at the same place;
 *   - a row value, at every element of that row.
 *
 * SPDX-License-Identifier: MIT */
#include "passes/fuse.h"

#include <string.h>

#include "core/type.h"

/* Rows longer than this, with nothing beside them, are cut among threads. */
#define NIZ_FLAT_FROM 8192
/* Rows shorter than this waste most of a vector: the interpreter gathers several instead. */
#define NIZ_SHORT_ROW 6

typedef struct niz_fuser {
    niz *z;
    const niz_work *w;
    const niz_layout_of *layout;
    niz_fusion *f;
    size_t group_capacity;
} niz_fuser;

static niz_shape niz_shape_squeezed(const niz_shape *s)
{
    niz_shape t = {0};
    for (int d = 0; d < s->rank; d++)
        if (s->dim[d] != 1) t.dim[t.rank++] = s->dim[d];
    return t;
}

static niz_shape niz_shape_outer(const niz_shape *s)
{
    niz_shape t = *s;
    if (t.rank) t.dim[--t.rank] = 0;
    return t;
}

/* ---- what a node can be --------------------------------------------------------------------- */

static bool niz_fuse_dtypes(const niz_graph *g, const niz_node *n, niz_dtype *dtype)
{
    bool found = false;
    for (int i = -1; i < n->n_arg; i++) {
        niz_dtype d = (niz_dtype)(i < 0 ? n->dtype : g->node[n->arg[i]].dtype);
        if (d == NIZ_BOOL) continue;
        if (!niz_dtype_is_float(d) || (found && d != *dtype)) return false;
        *dtype = d;
        found = true;
    }
    return found;
}

/* The domain that a node would have as the first of a nest. */
static bool niz_fuse_domain(const niz_graph *g, uint32_t id, niz_part_of *part, niz_group *as)
{
    const niz_node *n = &g->node[id];
    if (!niz_fuse_dtypes(g, n, &as->dtype)) return false;
    const niz_shape *s = n->shape;
    *part = NIZ_PART_ELEMENT;
    if (niz_op_form(n->op) == NIZ_FORM_REDUCE) {
        s = g->node[n->arg[0]].shape;
        if (n->op->combine > NIZ_COMBINE_MIN || n->attr[0] != s->rank - 1 ||
            s->dim[s->rank - 1] < 2)
            return false;
        *part = NIZ_PART_REDUCE;
    } else if (niz_op_form(n->op) != NIZ_FORM_MAP) {
        return false;
    }
    as->domain = niz_shape_squeezed(s);
    return as->domain.rank > 0 && niz_shape_count(s) > 0 &&
           as->domain.dim[as->domain.rank - 1] >= NIZ_SHORT_ROW;
}

/* ---- what a node may read inside its group --------------------------------------------------- */

static bool niz_fuse_is_whole(const niz_view *v, const niz_shape *domain)
{
    niz_shape s = niz_shape_squeezed(&v->shape);
    return niz_view_is_contiguous(v) && niz_shape_equal(&s, domain);
}

/* Whether operand view v of a node of shape s is one value a row: walked along s, it steps through
 * the outer axes in row-major order and stands still along the last. */
static bool niz_fuse_is_row(const niz_view *v, const niz_shape *s)
{
    int skip = s->rank - v->shape.rank, last = s->rank - 1;
    int64_t step = 1;
    while (last >= 0 && s->dim[last] == 1) last--; /* the squeezed row axis */
    if (last < 0 || (last >= skip && v->shape.dim[last - skip] != 1)) return false;
    for (int d = last; d-- > 0;) {
        if (s->dim[d] == 1) continue;
        if (d < skip || v->shape.dim[d - skip] != s->dim[d] || v->stride[d - skip] != step)
            return false;
        step *= s->dim[d];
    }
    return v->offset == 0;
}

static bool niz_fuse_reads(const niz_fuser *u, uint32_t group, uint32_t id, niz_part_of part)
{
    const niz_group *g = &u->f->group[group];
    const niz_node *n = &u->w->g.node[id];
    niz_shape outer = niz_shape_outer(&g->domain);
    for (int i = 0; i < n->n_arg; i++) {
        const niz_layout_of *x = &u->layout[n->arg[i]];
        if (u->f->group_of[x->root] != group) continue;
        bool row = u->f->part[x->root] != NIZ_PART_ELEMENT;
        if (row && g->flat) return false; /* its rows are complete only when all threads are done */
        if (part == NIZ_PART_ROW) {
            if (!row || !niz_fuse_is_whole(&x->view, &outer)) return false;
        } else if (row ? part == NIZ_PART_REDUCE || !niz_fuse_is_row(&x->view, n->shape)
                       : !niz_fuse_is_whole(&x->view, &g->domain)) {
            return false;
        }
    }
    return true;
}

/* ---- the sweep ------------------------------------------------------------------------------ */

/* The last group that a node's operands are in, or NIZ_NONE. */
static uint32_t niz_fuse_latest(const niz_fuser *u, uint32_t id)
{
    const niz_node *n = &u->w->g.node[id];
    uint32_t latest = NIZ_NONE;
    for (int i = 0; i < n->n_arg; i++) {
        uint32_t g = u->f->group_of[u->layout[n->arg[i]].root];
        if (g != NIZ_NONE && (latest == NIZ_NONE || g > latest)) latest = g;
    }
    return latest;
}

static bool niz_fuse_has_room(const niz_group *g)
{
    return g->nest && g->n < NIZ_GROUP_NODES;
}

/* Joins node id to a group as element, reduction or row value, if that is legal. */
static bool niz_fuse_join(niz_fuser *u, uint32_t group, uint32_t id, niz_part_of part,
                          const niz_group *as)
{
    niz_group *g = &u->f->group[group];
    if (!niz_fuse_has_room(g) || g->dtype != as->dtype) return false;
    if (!niz_shape_equal(&g->domain, &as->domain)) {
        niz_shape outer = niz_shape_outer(&g->domain);
        if (part != NIZ_PART_ELEMENT || g->flat || !niz_shape_equal(&outer, &as->domain))
            return false;
        part = NIZ_PART_ROW;
    }
    if (!niz_fuse_reads(u, group, id, part)) return false;
    u->f->group_of[id] = group;
    u->f->part[id] = (uint8_t)part;
    g->folds = g->folds || part == NIZ_PART_REDUCE;
    g->n++;
    return true;
}

static bool niz_fuse_open(niz_fuser *u, uint32_t id, niz_part_of part, const niz_group *as)
{
    if (!niz_grow(u->z, &u->f->group, sizeof *u->f->group, &u->group_capacity,
                  (size_t)u->f->n_groups + 1))
        return false;
    niz_group *g = &u->f->group[u->f->n_groups];
    *g = (niz_group){.n = 1};
    if (part != NIZ_PART_ALONE) {
        *g = (niz_group){.nest = true,
                         .dtype = as->dtype,
                         .domain = as->domain,
                         .folds = part == NIZ_PART_REDUCE,
                         .n = 1};
        g->flat = as->domain.rank == 1 && as->domain.dim[0] >= NIZ_FLAT_FROM;
    }
    u->f->group_of[id] = u->f->n_groups++;
    u->f->part[id] = (uint8_t)part;
    return true;
}

/* How many groups back a node looks for one of its domain: keeps the sweep linear. */
#define NIZ_FUSE_LOOK_BACK 16

static bool niz_fuse_node(niz_fuser *u, uint32_t id)
{
    niz_part_of part = NIZ_PART_ALONE;
    niz_group as = {0};
    const niz_node *n = &u->w->g.node[id];
    niz_shape outer = niz_shape_squeezed(n->shape);
    bool can = niz_fuse_domain(&u->w->g, id, &part, &as);
    bool row =
        !can && niz_op_form(n->op) == NIZ_FORM_MAP && niz_fuse_dtypes(&u->w->g, n, &as.dtype);
    uint32_t latest = niz_fuse_latest(u, id), now = u->f->n_groups;
    if (row)
        as.domain = outer, part = NIZ_PART_ELEMENT; /* too small for a nest, but for its rows */
    for (uint32_t back = 1; (can || row) && back <= NIZ_FUSE_LOOK_BACK && back <= now; back++) {
        if (latest != NIZ_NONE && now - back < latest) break;
        if (niz_fuse_join(u, now - back, id, part, &as)) return true;
    }
    return niz_fuse_open(u, id, can ? part : NIZ_PART_ALONE, &as);
}

static bool niz_fuse_members(niz *z, uint32_t n, niz_fusion *f)
{
    f->start = niz_realloc(z, NULL, sizeof *f->start * (f->n_groups + 2));
    f->member = niz_realloc(z, NULL, sizeof *f->member * (n + 1));
    if (!f->start || !f->member) return false;
    uint32_t at = 0;
    for (uint32_t g = 0; g < f->n_groups; g++) {
        f->start[g] = at;
        at += f->group[g].n;
        f->group[g].n = 0;
    }
    f->start[f->n_groups] = at;
    for (uint32_t id = 0; id < n; id++) {
        uint32_t g = f->group_of[id];
        if (g != NIZ_NONE) f->member[f->start[g] + f->group[g].n++] = id;
    }
    return true;
}

bool niz_fuse(niz *z, const niz_work *w, const niz_layout_of *layout, niz_fusion *f)
{
    uint32_t n = w->g.n + 1;
    niz_fuser u = {.z = z, .w = w, .layout = layout, .f = f};
    *f = (niz_fusion){0};
    f->group_of = niz_realloc(z, NULL, sizeof *f->group_of * n);
    f->part = niz_realloc(z, NULL, n);
    bool ok = f->group_of && f->part;
    if (ok) memset(f->group_of, 0xff, sizeof *f->group_of * n);
    for (uint32_t id = 0; id < w->g.n && ok; id++) {
        niz_form form = niz_op_form(w->g.node[id].op);
        if (form != NIZ_FORM_VIEW && form != NIZ_FORM_LEAF) ok = niz_fuse_node(&u, id);
    }
    ok = ok && niz_fuse_members(z, w->g.n, f);
    if (!ok) niz_fusion_free(z, f);
    return ok;
}

void niz_fusion_free(niz *z, niz_fusion *f)
{
    niz_free(z, f->group);
    niz_free(z, f->group_of);
    niz_free(z, f->part);
    niz_free(z, f->start);
    niz_free(z, f->member);
    *f = (niz_fusion){0};
}
