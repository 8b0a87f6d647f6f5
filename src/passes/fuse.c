/* fuse.c - grouping nodes into kernels.
 *
 * One sweep over the scheduled nodes.  Groups run in the order they were opened, so a node may join
 * a group only if everything it reads is in that group or an earlier one: no cycle can arise and
 * the sweep is linear.
 *
 * The cost model.  What a group saves is memory traffic, and every legal join saves some:
 *
 *   - a value that its own group alone reads is never stored:     its bytes twice or more
 *   - an operand read by several nodes of a group is loaded once: its bytes for each further one
 *   - rows stay in the first-level cache between the stages of a kernel: of R in step, with K
 * values kept, R (K + operands) rows are 16-48 KB at the widest rows that are common
 *
 * so the sweep joins wherever it can, newest group first.  It does not join where that would cost:
 * elements that share nothing with a nest of columns (they would be walked in strips for nothing),
 * and what exceeds the caps on nodes, values and buffers (registers, compile time).  What the sweep
 * still leaves stored is weighed against computing it again, in bytes and operations: recompute.c.
 * What later stages of a kernel need is loaded, computed again or kept: nest.c.  NIZ_DUMP=fuse
 * prints groups, bytes saved, and of each node that opened a group who refused it and why.
 *
 * The sweep visits nodes in an order of its own.  Small values that depend on leaves only (a bias
 * correction, a learning rate) come first, so that they keep nothing from joining what is large;
 * so do checks of indices and whole numbers made of leaves, which no nest can hold.
 * Maps of leaves (0.9 * momentum, weight decay) come right before their first reader, and into its
 * group: they have no better place.
 *
 * A tile is a contraction or convolution whose results are finished by a nest while they lie in
 * cache: bias, activation, its derivative's mask, a residual, the optimiser's update.
 *
 * Its operands may be expressions that are computed while they are packed: beside each tile stands
 * an empty panel for every operand that could be (panel.c), and recompute.c decides.
 *
 * A nest computes rows, or columns if its reductions fold an earlier axis than the last.  Inside it
 * a node may read
 *   - any earlier group's value or leaf, through any view (it is a load; a cast's, of any dtype);
 *   - an element at its own place;
 *   - a row's (column's) value, at every element of that row (column).
 *
 * SPDX-License-Identifier: MIT */
#include "passes/fuse.h"

#include <string.h>

#include "core/type.h"
#include "ops/families.h"

/* Rows longer than this, with nothing beside them, are cut among threads. */
#define NIZ_FLAT_FROM 8192
/* Rows shorter than this waste most of a vector: several are gathered as columns of as many lines.
 */
#define NIZ_SHORT_ROW 6

typedef struct niz_fuser {
    niz *z;
    const niz_work *w;
    const niz_layout_of *layout;
    niz_map_getter *map;
    void *state;
    bool explain;
    const char *why; /* the last refusal */
    niz_fusion *f;
    size_t group_capacity, panel_capacity, refusal_capacity;
    niz_reads reads;
    uint32_t *writes; /* of each node: the parameter it is assigned to, or NIZ_NONE */
    uint8_t *light;   /* of each node: niz_light */
    uint32_t *stack;  /* nodes under way */
    niz_chunks chunks;
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

/* The shape of what is left of a group's domain once its axis `fold` is folded. */
static niz_shape niz_group_outer(const niz_group *g)
{
    niz_shape t = {0};
    for (int d = 0; d < g->domain.rank; d++)
        if (d != g->fold) t.dim[t.rank++] = g->domain.dim[d];
    return t;
}

/* ---- what a node can be --------------------------------------------------------------------- */

bool niz_fuse_dtypes(const niz_graph *g, const niz_node *n, niz_dtype *dtype)
{
    bool found = false;
    for (int i = -1; i < n->n_arg; i++) {
        niz_dtype d = (niz_dtype)(i < 0 ? n->dtype : g->node[n->arg[i]].dtype);
        bool loaded = i == 0 && (n->op == &niz_op_choose || (n->op == &niz_op_cast && found));
        if (d == NIZ_BOOL || loaded) continue;
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

/* The group that a node would open as the first of a nest. */
static bool niz_fuse_domain(niz_fuser *u, uint32_t id, niz_part_of *part, niz_group *as)
{
    const niz_graph *g = &u->w->g;
    const niz_node *n = &g->node[id];
    u->why = "its values are not all of one floating type";
    if (!niz_fuse_dtypes(g, n, &as->dtype)) return false;
    const niz_shape *s = n->shape;
    if ((as->tail = niz_fuse_tail(g, n))) {
        *part = NIZ_PART_TILE;
        as->kind = NIZ_GROUP_TILE;
        as->domain = niz_shape_squeezed(s);
        return niz_shape_count(s) > 0;
    }
    u->why = "no nest has operations of this form";
    bool reduce = niz_op_form(n->op) == NIZ_FORM_REDUCE;
    if (reduce) s = g->node[n->arg[0]].shape;
    as->domain = niz_shape_squeezed(s);
    as->tail = 1;
    as->fold = as->domain.rank - 1;
    as->kind = as->domain.rank == 1 && as->domain.dim[0] >= NIZ_FLAT_FROM ? NIZ_GROUP_FLAT
                                                                          : NIZ_GROUP_ROWS;
    if (as->domain.rank > 1 && as->domain.dim[as->domain.rank - 1] < NIZ_SHORT_ROW)
        as->kind = NIZ_GROUP_COLUMNS;
    *part = reduce ? NIZ_PART_REDUCE : NIZ_PART_ELEMENT;
    as->chooses = n->op == &niz_op_choose;
    if (reduce || as->chooses) {
        int64_t axis = n->attr[0];
        if ((reduce && n->op->combine > NIZ_COMBINE_MIN) || s->dim[axis] < 2) return false;
        for (as->fold = 0; axis-- > 0;) as->fold += s->dim[axis] != 1;
        if (as->fold < as->domain.rank - 1) as->kind = NIZ_GROUP_COLUMNS;
    } else if (niz_op_form(n->op) != NIZ_FORM_MAP) {
        return false;
    }
    u->why = as->domain.rank ? "its rows are too short" : "it is one number";
    return as->domain.rank > 0 && niz_shape_count(s) > 0 &&
           (as->kind == NIZ_GROUP_COLUMNS || as->domain.dim[as->domain.rank - 1] >= NIZ_SHORT_ROW);
}

bool niz_fuse_is_element(const niz_graph *g, uint32_t id, const niz_group *group)
{
    niz_dtype dtype = group->dtype;
    niz_shape s = niz_shape_squeezed(g->node[id].shape);
    return niz_fuse_dtypes(g, &g->node[id], &dtype) && dtype == group->dtype &&
           niz_shape_equal(&s, &group->domain);
}

/* ---- what a node may read inside its group --------------------------------------------------- */

bool niz_fuse_is_whole(const niz_view *v, const niz_shape *domain)
{
    niz_shape s = niz_shape_squeezed(&v->shape);
    return niz_view_is_contiguous(v) && niz_shape_equal(&s, domain);
}

/* Whether operand view v of a node of shape s, which is the group's domain but for axes of size 1,
 * is one value a row (or column): walked along s, it stands still along the folded axis and steps
 * through the others in row-major order. */
bool niz_fuse_is_row(const niz_view *v, const niz_shape *s, const niz_group *g)
{
    int skip = s->rank - v->shape.rank, axis = g->domain.rank;
    int64_t step = 1;
    for (int d = s->rank; d-- > 0;) {
        if (s->dim[d] == 1) continue;
        bool still = d < skip || v->shape.dim[d - skip] == 1;
        if (--axis == g->fold) {
            if (!still) return false;
            continue;
        }
        if (still || v->stride[d - skip] != step) return false;
        step *= s->dim[d];
    }
    return v->offset == 0;
}

/* Whether view v, walked along shape s, has its last `tail` axes (of more than one index) evenly
 * spaced, as one axis. */
bool niz_fuse_is_even(const niz_view *v, const niz_shape *s, int tail)
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
    niz_shape outer = niz_group_outer(g);
    for (int i = 0; i < n->n_arg; i++) {
        const niz_layout_of *x = &u->layout[n->arg[i]];
        if (u->f->group_of[x->root] != group) {
            if (g->tail > 1 && !niz_fuse_is_even(&x->view, n->shape, g->tail)) return false;
            continue;
        }
        bool row = u->f->part[x->root] >= NIZ_PART_REDUCE;
        /* a flat nest's rows are complete only when all threads are done */
        if (row && g->kind == NIZ_GROUP_FLAT) return false;
        if (part == NIZ_PART_ROW) {
            if (!row || !niz_fuse_is_whole(&x->view, &outer)) return false;
        } else if (row ? part == NIZ_PART_REDUCE || !niz_fuse_is_row(&x->view, n->shape, g)
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

/* Whether the reader is done with each element of an operand before another value of its group can
 * be written over it. */
static bool niz_fuse_reads_elements(const niz_fuser *u, const niz_read *r)
{
    niz_part_of part = (niz_part_of)u->f->part[r->reader];
    if (part == NIZ_PART_CHUNK)
        return niz_shape_equal(&u->layout[r->operand].view.shape, u->w->g.node[r->reader].shape);
    return part == NIZ_PART_ELEMENT && !u->f->group[u->f->group_of[r->reader]].folds;
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
        bool element = niz_fuse_reads_elements(u, &u->reads.read[r]);
        latest = niz_fuse_later(latest, element ? group : group + 1);
    }
    return latest;
}

/* Instructions and loads of a node, at most. */
static uint32_t niz_fuse_values(const niz_fuser *u, uint32_t id)
{
    const niz_node *n = &u->w->g.node[id];
    const niz_map *map = niz_op_form(n->op) == NIZ_FORM_MAP ? u->map(u->state, id) : NULL;
    return n->n_arg + (map ? (uint32_t)map->n : 2);
}

/* Operands of a node that are not in the group, literals aside. */
static uint32_t niz_fuse_outside(const niz_fuser *u, uint32_t group, uint32_t id)
{
    const niz_node *n = &u->w->g.node[id];
    uint32_t reads = 0;
    for (int i = 0; i < n->n_arg; i++) {
        uint32_t root = u->layout[n->arg[i]].root;
        reads += u->f->group_of[root] != group && u->w->g.node[root].op != &niz_op_literal;
    }
    return reads;
}

static bool niz_fuse_has_room(const niz_fuser *u, uint32_t group, uint32_t id)
{
    const niz_group *g = &u->f->group[group];
    return g->kind != NIZ_GROUP_ALONE && g->n < NIZ_GROUP_NODES &&
           g->values + niz_fuse_values(u, id) <= NIZ_GROUP_VALUES &&
           g->reads + niz_fuse_outside(u, group, id) <= NIZ_GROUP_READS;
}

/* A reduction of an earlier axis, or a choice along it, turns a group of plain elements into
 * columns. */
static bool niz_fuse_turns(const niz_group *g, const niz_group *as)
{
    bool last = g->fold == g->domain.rank - 1 && g->kind != NIZ_GROUP_TILE;
    return as->kind == NIZ_GROUP_COLUMNS && as->fold != g->fold && last && !g->n_rows &&
           !g->chooses;
}

/* How a node that by itself would be `part` of group `as` can stand in g: ALONE if it cannot. */
static niz_part_of niz_fuse_part_in(const niz_group *g, niz_part_of part, const niz_group *as)
{
    if (g->dtype != as->dtype || part == NIZ_PART_TILE) return NIZ_PART_ALONE;
    if (niz_shape_equal(&g->domain, &as->domain)) {
        bool same = g->fold == as->fold && g->kind == as->kind;
        bool sweeps = part == NIZ_PART_REDUCE || as->chooses;
        return !sweeps || same || niz_fuse_turns(g, as) ? part : NIZ_PART_ALONE;
    }
    niz_shape outer = niz_group_outer(g);
    bool rows = g->kind == NIZ_GROUP_ROWS || g->kind == NIZ_GROUP_COLUMNS;
    bool row =
        rows && part == NIZ_PART_ELEMENT && !as->chooses && niz_shape_equal(&outer, &as->domain);
    return row ? NIZ_PART_ROW : NIZ_PART_ALONE;
}

/* A bit for each buffer, that others may have too: whether a group seems to read it. */
static uint64_t niz_fuse_bit(uint32_t root)
{
    return (uint64_t)1 << ((root * 0x9E3779B1u) >> 26);
}

/* Whether node id reads a value of the group, or memory that the group seems to read. */
static bool niz_fuse_shares(const niz_fuser *u, uint32_t group, uint32_t id)
{
    const niz_node *n = &u->w->g.node[id];
    for (int i = 0; i < n->n_arg; i++) {
        uint32_t root = u->layout[n->arg[i]].root;
        bool literal = u->w->g.node[root].op == &niz_op_literal;
        if (!literal && (u->f->group[group].seen & niz_fuse_bit(root))) return true;
    }
    return false;
}

static void niz_fuse_add(niz_fuser *u, uint32_t group, uint32_t id, niz_part_of part)
{
    niz_group *g = &u->f->group[group];
    g->values += niz_fuse_values(u, id);
    g->reads += niz_fuse_outside(u, group, id);
    g->seen |= niz_fuse_bit(id);
    for (int i = 0; i < u->w->g.node[id].n_arg; i++)
        g->seen |= niz_fuse_bit(u->layout[u->w->g.node[id].arg[i]].root);
    u->f->group_of[id] = group;
    u->f->part[id] = (uint8_t)part;
    g->folds = g->folds || part == NIZ_PART_REDUCE;
    g->chooses = g->chooses || u->w->g.node[id].op == &niz_op_choose;
    g->n_rows += part >= NIZ_PART_REDUCE;
    g->n++;
}

static bool niz_fuse_refuse(niz_fuser *u, const char *why)
{
    u->why = why;
    return false;
}

/* Joins node id to a group as element, reduction or row value, if that is legal. */
static bool niz_fuse_join(niz_fuser *u, uint32_t group, uint32_t id, niz_part_of part,
                          const niz_group *as)
{
    niz_group *g = &u->f->group[group];
    if (g->kind == NIZ_GROUP_ALONE || g->kind == NIZ_GROUP_CHUNK || g->kind == NIZ_GROUP_PANEL)
        return niz_fuse_refuse(u, NULL);
    if (!niz_fuse_has_room(u, group, id)) return niz_fuse_refuse(u, "it is full");
    if ((part = niz_fuse_part_in(g, part, as)) == NIZ_PART_ALONE)
        return niz_fuse_refuse(u, g->dtype != as->dtype ? "it is of another type"
                                  : niz_shape_equal(&g->domain, &as->domain)
                                      ? "it folds another axis"
                                      : "it has another shape");
    bool turns = (part == NIZ_PART_REDUCE || as->chooses) && niz_fuse_turns(g, as);
    bool stranger = part != NIZ_PART_REDUCE && g->kind == NIZ_GROUP_COLUMNS;
    if ((turns || stranger) && !niz_fuse_shares(u, group, id))
        return niz_fuse_refuse(u, "they share no operand");
    niz_group before = *g;
    if (turns) g->kind = NIZ_GROUP_COLUMNS, g->fold = as->fold;
    if (!niz_fuse_reads(u, group, id, part)) {
        *g = before;
        return niz_fuse_refuse(u, g->kind == NIZ_GROUP_FLAT
                                      ? "what it reads there is complete only at the group's end"
                                      : "what it reads there is elsewhere in the group's order");
    }
    niz_fuse_add(u, group, id, part);
    return true;
}

/* Notes why node id did not join a group, if that is wanted. */
static bool niz_fuse_note(niz_fuser *u, uint32_t id, uint32_t group, const char *why)
{
    niz_fusion *f = u->f;
    if (!u->explain || !why) return true;
    if (!niz_grow(u->z, &f->refusal, sizeof *f->refusal, &u->refusal_capacity,
                  (size_t)f->n_refusals + 1))
        return false;
    f->refusal[f->n_refusals++] = (niz_refusal){id, group, why};
    return true;
}

static bool niz_fuse_push(niz_fuser *u, niz_group group)
{
    if (!niz_grow(u->z, &u->f->group, sizeof *u->f->group, &u->group_capacity,
                  (size_t)u->f->n_groups + 1))
        return false;
    u->f->group[u->f->n_groups++] = group;
    return true;
}

static bool niz_fuse_open(niz_fuser *u, uint32_t id, niz_part_of part, const niz_group *as)
{
    if (!niz_fuse_push(u, part == NIZ_PART_ALONE ? (niz_group){0} : *as)) return false;
    niz_fuse_add(u, u->f->n_groups - 1, id, part);
    return true;
}

static bool niz_fuse_push_panel(niz_fuser *u, const niz_panel *panel, niz_group group)
{
    niz_fusion *f = u->f;
    if (!niz_grow(u->z, &f->panel, sizeof *f->panel, &u->panel_capacity, (size_t)f->n_panels + 1))
        return false;
    group.panel = f->n_panels;
    f->panel[f->n_panels++] = *panel;
    return niz_fuse_push(u, group);
}

/* Empty panels right behind a tile: so all that they will read is in memory until the tile is done.
 */
static bool niz_fuse_open_panels(niz_fuser *u, uint32_t id)
{
    const niz_node *n = &u->w->g.node[id];
    uint32_t first = u->f->n_groups;
    for (int i = 0; i < n->n_arg; i++) {
        niz_panel panel;
        niz_group group;
        uint32_t root = u->layout[n->arg[i]].root;
        const char *why = NULL;
        if (u->f->group_of[root] == NIZ_NONE || u->f->part[root] != NIZ_PART_ELEMENT) continue;
        bool can = niz_panel_find(u->w, u->layout, id, i, &panel, &group, &why);
        if (can ? !niz_fuse_push_panel(u, &panel, group)
                : !niz_fuse_note(u, root, u->f->group_of[id], why))
            return false;
    }
    if (u->f->n_groups > first) u->f->panels[id] = first;
    return true;
}

/* Whether node id can read what it reads of chunk `group`: whole values and single elements of
 * them. */
static bool niz_fuse_reads_small(const niz_fuser *u, uint32_t group, uint32_t id)
{
    const niz_node *n = &u->w->g.node[id];
    for (int i = 0; i < n->n_arg; i++) {
        const niz_layout_of *x = &u->layout[n->arg[i]];
        if (u->f->group_of[x->root] != group || niz_chunk_is_single(&x->view)) continue;
        if (niz_shape_count(&x->view.shape) != niz_shape_count(u->w->g.node[x->root].shape))
            return false;
    }
    return true;
}

/* Joins a small value to a chunk, if that is legal. */
static bool niz_fuse_join_chunk(niz_fuser *u, uint32_t group, uint32_t id, niz_dtype dtype)
{
    niz_group *g = &u->f->group[group];
    if (g->kind != NIZ_GROUP_CHUNK || g->dtype != dtype || !niz_fuse_reads_small(u, group, id) ||
        !niz_chunks_reach(&u->chunks, g->first, u->chunks.ordinal[id], &g->cut))
        return false;
    u->f->group_of[id] = group;
    u->f->part[id] = NIZ_PART_CHUNK;
    g->n++;
    return true;
}

/* How many groups back a node looks for one of its domain: keeps the sweep linear. */
#define NIZ_FUSE_LOOK_BACK 16
/* Refusals that are noted of a node at most. */
#define NIZ_FUSE_NOTES 3

/* Tries the groups of nodes that joined not long ago, the newest first, down to the last that must
 * not come later.  False without memory. */
static bool niz_fuse_look_back(niz_fuser *u, uint32_t id, niz_part_of part, const niz_group *as,
                               uint32_t latest)
{
    uint32_t now = u->f->n_groups, first = u->f->n_refusals, far = NIZ_FUSE_LOOK_BACK;
    for (uint32_t back = 1; back <= far && back <= now; back++) {
        if (u->f->group[now - back].kind == NIZ_GROUP_PANEL) {
            far++;
            continue;
        }
        bool early = latest != NIZ_NONE && now - back < latest;
        if (!early && niz_fuse_join(u, now - back, id, part, as)) {
            u->f->n_refusals = first;
            return true;
        }
        if (early && (!u->explain || u->f->group[now - back].kind == NIZ_GROUP_ALONE)) break;
        if (u->f->n_refusals - first < NIZ_FUSE_NOTES &&
            !niz_fuse_note(u, id, now - back, early ? "what it reads is computed later" : u->why))
            return false;
        if (early) break;
    }
    return true;
}

/* A nest that itself computes small values only (it reads them in a way no chunk can). */
static bool niz_fuse_is_small_nest(const niz_fuser *u, uint32_t group)
{
    return niz_shape_count(&u->f->group[group].domain) <= NIZ_CHUNK_WIDTH;
}

/* Puts a small value into a chunk. */
static bool niz_fuse_small(niz_fuser *u, uint32_t id, uint32_t latest, niz_dtype dtype)
{
    uint32_t now = u->f->n_groups, far = NIZ_FUSE_LOOK_BACK;
    for (uint32_t back = 1; back <= far && back <= now; back++) {
        far += u->f->group[now - back].kind == NIZ_GROUP_PANEL;
        if (latest != NIZ_NONE && now - back < latest) break;
        if (niz_fuse_join_chunk(u, now - back, id, dtype)) return true;
    }
    if (!niz_fuse_open(u, id, NIZ_PART_CHUNK, &(niz_group){.dtype = dtype})) return false;
    niz_group *g = &u->f->group[now];
    g->kind = NIZ_GROUP_CHUNK;
    g->first = u->chunks.ordinal[id];
    g->cut = NIZ_NONE;
    return true;
}

/* Puts a node into group `best` if that can be, or into one of its domain not far back, or alone.
 */
static bool niz_fuse_node(niz_fuser *u, uint32_t id, uint32_t best)
{
    niz_part_of part = NIZ_PART_ALONE;
    niz_group as = {0};
    const niz_node *n = &u->w->g.node[id];
    bool can = niz_fuse_domain(u, id, &part, &as);
    const char *alone = can ? NULL : u->why;
    bool row =
        !can && niz_op_form(n->op) == NIZ_FORM_MAP && niz_fuse_dtypes(&u->w->g, n, &as.dtype);
    uint32_t latest = niz_fuse_latest(u, id);
    if (row) /* too small for a nest, but for its rows */
        as.domain = niz_shape_squeezed(n->shape), part = NIZ_PART_ELEMENT;
    best = niz_fuse_later(latest, best);
    bool small = u->chunks.ordinal[id] != NIZ_NONE;
    if ((can || row) && best < u->f->n_groups && !(small && niz_fuse_is_small_nest(u, best)) &&
        niz_fuse_join(u, best, id, part, &as))
        return true;
    if (small) return niz_fuse_small(u, id, latest, as.dtype);
    if ((can || row) && !niz_fuse_look_back(u, id, part, &as, latest)) return false;
    if (u->f->group_of[id] != NIZ_NONE) return true;
    return niz_fuse_note(u, id, NIZ_NONE, alone) &&
           niz_fuse_open(u, id, can ? part : NIZ_PART_ALONE, &as) &&
           (!can || part != NIZ_PART_TILE || niz_fuse_open_panels(u, id));
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
        bool whole = n->dtype != NIZ_BOOL && !niz_dtype_is_float((niz_dtype)n->dtype);
        bool no_nest = u->writes[id] == NIZ_NONE && (whole || n->op == &niz_op_inside);
        bool choice = n->op == &niz_op_choose, last = true;
        bool first = !choice && (no_nest || niz_node_bytes(n) <= NIZ_LIGHT_BYTES);
        u->light[id] = NIZ_LIGHT_NO;
        if (!niz_fuse_computes(u, id)) continue;
        for (int i = 0; i < n->n_arg; i++) {
            uint32_t root = u->layout[n->arg[i]].root;
            bool leaf = !niz_fuse_computes(u, root);
            first = first &&
                    (u->light[root] == NIZ_LIGHT_FIRST ||
                     (leaf && (no_nest || niz_node_bytes(&u->w->g.node[root]) <= NIZ_LIGHT_BYTES)));
            last = last && (leaf || u->light[root] != NIZ_LIGHT_NO);
        }
        last = last && (choice || niz_op_form(n->op) == NIZ_FORM_MAP) &&
               u->writes[id] == NIZ_NONE && u->chunks.ordinal[id] == NIZ_NONE;
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

/* A tile that finishes nothing is a plain contraction; a small value alone is interpreted. */
static void niz_fuse_drop_bare(niz_fusion *f)
{
    for (uint32_t g = 0; g < f->n_groups; g++)
        if ((f->group[g].kind == NIZ_GROUP_TILE || f->group[g].kind == NIZ_GROUP_CHUNK) &&
            f->group[g].n == 1)
            f->group[g] = (niz_group){.n = 1};
}

/* Lists of nodes by group, copies included. */
static bool niz_fuse_members(niz *z, uint32_t n, niz_fusion *f)
{
    niz_free(z, f->start);
    niz_free(z, f->member);
    f->start = niz_realloc(z, NULL, sizeof *f->start * (f->n_groups + 2));
    f->member = niz_realloc(z, NULL, sizeof *f->member * (n + f->n_copies + 1));
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
        for (uint32_t c = f->first_copy[id]; c != NIZ_NONE; c = f->copy[c].next) {
            g = f->copy[c].group;
            f->member[f->start[g] + f->group[g].n++] = id;
        }
    }
    return true;
}

/* Whether a node's operands can be walked as one row together with its result. */
static bool niz_fuse_is_flat(const niz_fuser *u, uint32_t id)
{
    const niz_node *n = &u->w->g.node[id];
    niz_shape domain = niz_shape_squeezed(n->shape);
    for (int i = 0; i < n->n_arg; i++) {
        const niz_view *v = &u->layout[n->arg[i]].view;
        if (niz_shape_count(&v->shape) != 1 && !niz_fuse_is_whole(v, &domain)) return false;
    }
    return true;
}

/* Short rows without a fold, gathered with strides, take twice as long as the interpreter's rows:
 * that pays for two nodes and more. */
static void niz_fuse_drop_short_rows(const niz_fuser *u)
{
    for (uint32_t g = 0; g < u->f->n_groups; g++) {
        niz_group *group = &u->f->group[g];
        bool rows = group->kind == NIZ_GROUP_COLUMNS && group->fold == group->domain.rank - 1;
        if (rows && group->n == 1 && !group->n_rows &&
            !niz_fuse_is_flat(u, u->f->member[u->f->start[g]]))
            *group = (niz_group){.n = 1};
    }
}

static bool niz_fuse_arrays(niz_fuser *u)
{
    uint32_t n = u->w->g.n + 1;
    u->f->group_of = niz_realloc(u->z, NULL, sizeof *u->f->group_of * n);
    u->f->first_copy = niz_realloc(u->z, NULL, sizeof *u->f->first_copy * n);
    u->f->panels = niz_realloc(u->z, NULL, sizeof *u->f->panels * n);
    u->f->part = niz_realloc(u->z, NULL, n);
    u->writes = niz_realloc(u->z, NULL, sizeof *u->writes * n);
    u->light = niz_realloc(u->z, NULL, n);
    u->stack = niz_realloc(u->z, NULL, sizeof *u->stack * n);
    if (!u->f->group_of || !u->f->first_copy || !u->f->panels || !u->f->part || !u->writes ||
        !u->light || !u->stack)
        return false;
    memset(u->f->group_of, 0xff, sizeof *u->f->group_of * n);
    memset(u->f->first_copy, 0xff, sizeof *u->f->first_copy * n);
    memset(u->f->panels, 0xff, sizeof *u->f->panels * n);
    memset(u->f->part, 0, n);
    memset(u->writes, 0xff, sizeof *u->writes * n);
    for (int i = u->w->n_want; i < u->w->n_out; i++)
        u->writes[u->layout[u->w->out[i]].root] = (uint32_t)u->w->g.node[u->w->out[i]].attr[0];
    return niz_chunks_mark(u->z, u->w, u->layout, &u->chunks) &&
           niz_reads_find(u->w, u->layout, &u->reads);
}

bool niz_fuse(niz *z, const niz_work *w, const niz_layout_of *layout, niz_map_getter *map,
              void *state, bool explain, niz_fusion *f)
{
    niz_fuser u = {
        .z = z, .w = w, .layout = layout, .map = map, .state = state, .explain = explain, .f = f};
    *f = (niz_fusion){0};
    bool ok = niz_fuse_arrays(&u);
    if (ok) {
        niz_fuse_find_light(&u);
        niz_chunks_number(w, layout, u.light, &u.chunks);
        ok = niz_fuse_sweep(&u) && niz_fuse_members(z, w->g.n, f) &&
             niz_fuse_recompute(z, w, layout, map, state, f);
        niz_fuse_drop_bare(f);
    }
    ok = ok && niz_fuse_members(z, w->g.n, f);
    if (ok) niz_fuse_drop_short_rows(&u);
    niz_reads_free(z, &u.reads);
    niz_free(z, u.writes);
    niz_free(z, u.light);
    niz_free(z, u.stack);
    niz_chunks_free(z, &u.chunks);
    if (!ok) niz_fusion_free(z, f);
    return ok;
}

void niz_fusion_free(niz *z, niz_fusion *f)
{
    niz_free(z, f->group);
    niz_free(z, f->group_of);
    niz_free(z, f->first_copy);
    niz_free(z, f->copy);
    niz_free(z, f->panels);
    niz_free(z, f->panel);
    niz_free(z, f->refusal);
    niz_free(z, f->part);
    niz_free(z, f->start);
    niz_free(z, f->member);
    *f = (niz_fusion){0};
}
