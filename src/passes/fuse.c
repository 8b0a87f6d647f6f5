/* fuse.c - grouping nodes into kernels.
 *
 * One sweep over the scheduled nodes.  Groups run in the order they were opened, so a node may join
 * a group only if everything it reads is in that group or an earlier one: no cycle can arise and
 * the sweep is linear.  What a group saves is memory traffic: a value read by its own group only is
 * never stored, and an operand read by several nodes of it is loaded once.
 *
 * The sweep visits nodes in an order of its own.  Small values that depend on leaves only (a bias
 * correction, a learning rate) come first, so that they keep nothing from joining what is large.
 * Maps of leaves (0.9 * momentum, weight decay) come right before their first reader, and into its
 * group: they have no better place.
 *
 * A tile is a contraction or convolution whose results are finished by a nest while they lie in
 * cache: bias, activation, its derivative's mask, a residual, the optimiser's update.
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
    niz_reads reads;
    uint32_t *writes; /* of each node: the parameter it is assigned to, or NIZ_NONE */
    uint8_t *light;   /* of each node: niz_light */
    uint32_t *stack;  /* nodes under way */
} niz_fuser;

/* What keeps a node from being visited in scheduled order. */
typedef enum niz_light {
    NIZ_LIGHT_NO,
    NIZ_LIGHT_FIRST, /* small, of leaves and of others like it */
    NIZ_LIGHT_LAST   /* a map of leaves, and of others like it */
} niz_light;
#define NIZ_LIGHT_BYTES 512

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

static int niz_fuse_wide_axes(const niz_shape *s, int from)
{
    int n = 0;
    for (int d = from; d < s->rank; d++) n += s->dim[d] != 1;
    return n;
}

/* Whether a nest can finish this node's results, and how many axes make its rows. */
static int niz_fuse_tail(const niz_graph *g, const niz_node *n)
{
    if (!niz_dtype_is_float((niz_dtype)n->dtype)) return 0;
    if (niz_op_form(n->op) == NIZ_FORM_CONTRACT) {
        const niz_shape *a = g->node[n->arg[0]].shape;
        int64_t sum = 1;
        for (int d = a->rank - (int)n->attr[1]; d < a->rank; d++) sum *= a->dim[d];
        return sum ? niz_fuse_wide_axes(n->shape, a->rank - (int)n->attr[1]) : 0;
    }
    if (niz_op_form(n->op) != NIZ_FORM_CONV) return 0;
    int spatial = n->shape->rank - 3;
    const niz_shape *w = g->node[n->arg[1]].shape;
    for (int d = 0; d < spatial; d++)
        if (n->attr[4 * spatial + d] != 1) return 0; /* its results lie scattered */
    return niz_shape_count(w) ? niz_fuse_wide_axes(n->shape, 3) : 0;
}

/* The domain that a node would have as the first of a nest. */
static bool niz_fuse_domain(const niz_graph *g, uint32_t id, niz_part_of *part, niz_group *as)
{
    const niz_node *n = &g->node[id];
    if (!niz_fuse_dtypes(g, n, &as->dtype)) return false;
    const niz_shape *s = n->shape;
    *part = NIZ_PART_ELEMENT;
    if ((as->tail = niz_fuse_tail(g, n))) {
        *part = NIZ_PART_TILE;
        as->domain = niz_shape_squeezed(s);
        return niz_shape_count(s) > 0;
    }
    as->tail = 1;
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

/* Whether view v, walked along shape s, has its last `tail` axes (of more than one index) evenly
 * spaced, as one axis. */
static bool niz_fuse_is_even(const niz_view *v, const niz_shape *s, int tail)
{
    int skip = s->rank - v->shape.rank, seen = 0;
    int64_t next = 0;
    for (int d = s->rank; d-- > 0 && seen < tail;) {
        if (s->dim[d] == 1) continue;
        bool still = d < skip || v->shape.dim[d - skip] == 1;
        int64_t stride = still ? 0 : v->stride[d - skip];
        if (seen++ && stride != next) return false;
        next = stride * s->dim[d];
    }
    return true;
}

static bool niz_fuse_reads(const niz_fuser *u, uint32_t group, uint32_t id, niz_part_of part)
{
    const niz_group *g = &u->f->group[group];
    const niz_node *n = &u->w->g.node[id];
    niz_shape outer = niz_shape_outer(&g->domain);
    for (int i = 0; i < n->n_arg; i++) {
        const niz_layout_of *x = &u->layout[n->arg[i]];
        if (u->f->group_of[x->root] != group) {
            if (g->tail > 1 && !niz_fuse_is_even(&x->view, n->shape, g->tail)) return false;
            continue;
        }
        bool row = u->f->part[x->root] >= NIZ_PART_REDUCE;
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

static uint32_t niz_fuse_later(uint32_t a, uint32_t b)
{
    return a == NIZ_NONE || (b != NIZ_NONE && b > a) ? b : a;
}

/* The last group that a node's operands are in, or NIZ_NONE. */
static uint32_t niz_fuse_operands(const niz_fuser *u, uint32_t id)
{
    const niz_node *n = &u->w->g.node[id];
    uint32_t latest = NIZ_NONE;
    for (int i = 0; i < n->n_arg; i++)
        latest = niz_fuse_later(latest, u->f->group_of[u->layout[n->arg[i]].root]);
    return latest;
}

/* The last group that must not run after a node: its operands', and if it is written into a
 * parameter in place, those of all who read the old version or may fail. */
static uint32_t niz_fuse_latest(const niz_fuser *u, uint32_t id)
{
    uint32_t latest = niz_fuse_operands(u, id), failing = u->reads.last_failing;
    if (u->writes[id] == NIZ_NONE) return latest;
    if (failing != NIZ_NONE) latest = niz_fuse_later(latest, u->f->group_of[failing]);
    for (uint32_t r = u->reads.first[u->writes[id]]; r != NIZ_NONE; r = u->reads.read[r].next) {
        uint32_t reader = u->reads.read[r].reader, group = u->f->group_of[reader];
        if (group == NIZ_NONE) continue;
        bool element = u->f->part[reader] == NIZ_PART_ELEMENT && !u->f->group[group].folds;
        latest = niz_fuse_later(latest, element ? group : group + 1);
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
    if (!niz_fuse_has_room(g) || g->dtype != as->dtype || part == NIZ_PART_TILE) return false;
    if (g->tile && part != NIZ_PART_ELEMENT) return false;
    if (!niz_shape_equal(&g->domain, &as->domain)) {
        niz_shape outer = niz_shape_outer(&g->domain);
        if (part != NIZ_PART_ELEMENT || g->flat || g->tile || !niz_shape_equal(&outer, &as->domain))
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
                         .tile = part == NIZ_PART_TILE,
                         .tail = as->tail,
                         .n = 1};
        g->flat = !g->tile && as->domain.rank == 1 && as->domain.dim[0] >= NIZ_FLAT_FROM;
    }
    u->f->group_of[id] = u->f->n_groups++;
    u->f->part[id] = (uint8_t)part;
    return true;
}

/* How many groups back a node looks for one of its domain: keeps the sweep linear. */
#define NIZ_FUSE_LOOK_BACK 16

/* Puts a node into group `best` if that can be, or into one of its domain not far back, or alone.
 */
static bool niz_fuse_node(niz_fuser *u, uint32_t id, uint32_t best)
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
    best = niz_fuse_later(latest, best);
    if ((can || row) && best < now && niz_fuse_join(u, best, id, part, &as)) return true;
    for (uint32_t back = 1; (can || row) && back <= NIZ_FUSE_LOOK_BACK && back <= now; back++) {
        if (latest != NIZ_NONE && now - back < latest) break;
        if (niz_fuse_join(u, now - back, id, part, &as)) return true;
    }
    return niz_fuse_open(u, id, can ? part : NIZ_PART_ALONE, &as);
}

/* ---- the order of visits ----------------------------------------------------------------------
 */

static bool niz_fuse_computes(const niz_fuser *u, uint32_t id)
{
    niz_form form = niz_op_form(u->w->g.node[id].op);
    return form != NIZ_FORM_VIEW && form != NIZ_FORM_LEAF;
}

/* Sorts out the nodes that only depend on leaves. */
static void niz_fuse_find_light(niz_fuser *u)
{
    for (uint32_t id = 0; id < u->w->g.n; id++) {
        const niz_node *n = &u->w->g.node[id];
        bool first = niz_node_bytes(n) <= NIZ_LIGHT_BYTES, last = true;
        u->light[id] = NIZ_LIGHT_NO;
        if (!niz_fuse_computes(u, id)) continue;
        for (int i = 0; i < n->n_arg; i++) {
            uint32_t root = u->layout[n->arg[i]].root;
            bool leaf = !niz_fuse_computes(u, root);
            first = first && (u->light[root] == NIZ_LIGHT_FIRST ||
                              (leaf && niz_node_bytes(&u->w->g.node[root]) <= NIZ_LIGHT_BYTES));
            last = last && (leaf || u->light[root] != NIZ_LIGHT_NO);
        }
        last = last && niz_op_form(n->op) == NIZ_FORM_MAP && u->writes[id] == NIZ_NONE;
        u->light[id] = first ? NIZ_LIGHT_FIRST : last ? NIZ_LIGHT_LAST : NIZ_LIGHT_NO;
    }
}

/* Visits a node, after those of its operands that wait for their first reader: they go where the
 * node will probably go. */
static bool niz_fuse_visit(niz_fuser *u, uint32_t id)
{
    uint32_t n = 0, best = niz_fuse_operands(u, id);
    for (u->stack[n++] = id; n;) {
        uint32_t now = u->stack[n - 1], before = n;
        const niz_node *node = &u->w->g.node[now];
        for (int i = 0; i < node->n_arg && n == before; i++) {
            uint32_t root = u->layout[node->arg[i]].root;
            if (niz_fuse_computes(u, root) && u->f->group_of[root] == NIZ_NONE)
                u->stack[n++] = root;
        }
        if (n > before) continue;
        if (u->f->group_of[now] == NIZ_NONE && !niz_fuse_node(u, now, best)) return false;
        n--;
    }
    return true;
}

static bool niz_fuse_sweep(niz_fuser *u)
{
    bool ok = true;
    for (uint32_t id = 0; id < u->w->g.n && ok; id++)
        if (u->light[id] == NIZ_LIGHT_FIRST) ok = niz_fuse_visit(u, id);
    for (uint32_t id = 0; id < u->w->g.n && ok; id++)
        if (u->light[id] == NIZ_LIGHT_NO && niz_fuse_computes(u, id)) ok = niz_fuse_visit(u, id);
    for (uint32_t id = 0; id < u->w->g.n && ok; id++) /* read by nobody but the user */
        if (u->light[id] == NIZ_LIGHT_LAST && u->f->group_of[id] == NIZ_NONE)
            ok = niz_fuse_visit(u, id);
    return ok;
}

/* A tile that finishes nothing is a plain contraction. */
static void niz_fuse_drop_bare_tiles(niz_fusion *f)
{
    for (uint32_t g = 0; g < f->n_groups; g++)
        if (f->group[g].tile && f->group[g].n == 1) f->group[g] = (niz_group){.n = 1};
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

static bool niz_fuse_arrays(niz_fuser *u)
{
    uint32_t n = u->w->g.n + 1;
    u->f->group_of = niz_realloc(u->z, NULL, sizeof *u->f->group_of * n);
    u->f->part = niz_realloc(u->z, NULL, n);
    u->writes = niz_realloc(u->z, NULL, sizeof *u->writes * n);
    u->light = niz_realloc(u->z, NULL, n);
    u->stack = niz_realloc(u->z, NULL, sizeof *u->stack * n);
    if (!u->f->group_of || !u->f->part || !u->writes || !u->light || !u->stack) return false;
    memset(u->f->group_of, 0xff, sizeof *u->f->group_of * n);
    memset(u->f->part, 0, n);
    memset(u->writes, 0xff, sizeof *u->writes * n);
    for (int i = u->w->n_want; i < u->w->n_out; i++)
        u->writes[u->layout[u->w->out[i]].root] = (uint32_t)u->w->g.node[u->w->out[i]].attr[0];
    return niz_reads_find(u->w, u->layout, &u->reads);
}

bool niz_fuse(niz *z, const niz_work *w, const niz_layout_of *layout, niz_fusion *f)
{
    niz_fuser u = {.z = z, .w = w, .layout = layout, .f = f};
    *f = (niz_fusion){0};
    bool ok = niz_fuse_arrays(&u);
    if (ok) {
        niz_fuse_find_light(&u);
        ok = niz_fuse_sweep(&u);
        niz_fuse_drop_bare_tiles(f);
    }
    ok = ok && niz_fuse_members(z, w->g.n, f);
    niz_reads_free(z, &u.reads);
    niz_free(z, u.writes);
    niz_free(z, u.light);
    niz_free(z, u.stack);
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
