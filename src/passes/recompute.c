/* recompute.c - cheap values are computed again rather than stored.
 *
 * The sweep of fuse.c gives each node one group.  A value that only its own group reads costs no
 * memory traffic; one that later groups read is stored and loaded again.  Here every elementwise
 * value that others read is weighed, readers before what they read: if each of the groups that load
 * it can compute it from what they load anyway, at less than the traffic that this saves, it
 * becomes a member of all of them.  A value that its first group no longer needs leaves it.  Thus a
 * product moves into the sum over columns that alone reads it, and x - mean is computed twice, not
 * stored.
 *
 * Costs are counted in operations on one element by vector code:
 *
 *     a byte loaded      1 while the value fits the second-level cache, else 8
 *     a byte stored      twice as much: the line is read first
 *     + - * < select ..  1;   / and square roots 16;   exp, tanh ... never
 *
 *     a byte of a panel  2: what a tile computes of an operand goes through the first-level cache
 *                        before it is packed
 *
 * which is what AVX-512 measures to: an addition of 4 bytes is 1/32 of a cycle, the caches give a
 * byte in about as much, memory takes ten times as long.
 *
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "passes/fuse.h"

#define NIZ_CACHE_BYTES (1 << 20) /* larger values are memory traffic */
#define NIZ_MEMORY_COST 8
#define NIZ_ROOT_COST 16
#define NIZ_STAGE_COST 2
#define NIZ_AGAIN_GROUPS 4 /* that read a value at most */
#define NIZ_AGAIN_NODES 8  /* computed again for one value at most */
#define NIZ_AGAIN_USERS 32

/* A value being weighed, and what computing it again in one group takes. */
typedef struct niz_again {
    niz *z;
    const niz_work *w;
    const niz_layout_of *layout;
    niz_map_getter *map;
    void *state;
    niz_fusion *f;
    bool always; /* whatever it costs */
    size_t copies_capacity;
    bool *pinned;                /* outputs: in memory anyway */
    uint32_t *first_user, *user; /* readers of root r: user[first_user[r] .. first_user[r+1]-1] */
    uint32_t node[NIZ_AGAIN_NODES];
    int n;
    uint32_t reads, values; /* of these nodes, as a group counts them */
    double cost;
} niz_again;

static bool niz_again_is_map(const niz_again *a, uint32_t id)
{
    return niz_op_form(a->w->g.node[id].op) == NIZ_FORM_MAP;
}

/* ---- who reads ------------------------------------------------------------------------------- */

static bool niz_again_users(niz_again *a)
{
    const niz_graph *g = &a->w->g;
    size_t n = 0;
    for (uint32_t id = 0; id < g->n; id++) n += g->node[id].n_arg;
    a->first_user = niz_realloc(a->z, NULL, sizeof *a->first_user * (g->n + 2));
    a->user = niz_realloc(a->z, NULL, sizeof *a->user * (n + 1));
    a->pinned = niz_realloc(a->z, NULL, g->n + 1);
    if (!a->first_user || !a->user || !a->pinned) return false;
    memset(a->first_user, 0, sizeof *a->first_user * (g->n + 2));
    memset(a->pinned, 0, g->n + 1);
    for (int fill = 0; fill < 2; fill++) {
        for (uint32_t id = 0; id < g->n; id++)
            for (int i = 0; a->f->group_of[id] != NIZ_NONE && i < g->node[id].n_arg; i++) {
                uint32_t root = a->layout[g->node[id].arg[i]].root;
                if (fill)
                    a->user[a->first_user[root + 1]++] = id;
                else
                    a->first_user[root + 2]++;
            }
        for (uint32_t id = 0; !fill && id < g->n; id++)
            a->first_user[id + 2] += a->first_user[id + 1];
    }
    for (int i = 0; i < a->w->n_out; i++) a->pinned[a->layout[a->w->out[i]].root] = true;
    return true;
}

/* Adds group g to those that load r, unless it computes it. */
static bool niz_again_reader(const niz_again *a, uint32_t r, uint32_t g, uint32_t *group, int *n)
{
    int i = 0;
    while (i < *n && group[i] != g) i++;
    if (i < *n || niz_fusion_computes(a->f, r, g)) return true;
    if (a->f->group[g].kind == NIZ_GROUP_CHUNK || *n == NIZ_AGAIN_GROUPS) return false;
    group[(*n)++] = g;
    return true;
}

/* Adds the groups in which u reads r: for operands that are packed, their panels. */
static bool niz_again_readers_of(const niz_again *a, uint32_t r, uint32_t u, uint32_t *group,
                                 int *n)
{
    const niz_node *node = &a->w->g.node[u];
    uint32_t g = a->f->group_of[u];
    if (a->f->panels[u] != NIZ_NONE) {
        for (int i = 0; i < node->n_arg; i++) {
            if (a->layout[node->arg[i]].root != r) continue;
            uint32_t panel = niz_fusion_panel_of(a->f, u, i);
            if (!niz_again_reader(a, r, panel == NIZ_NONE ? g : panel, group, n)) return false;
        }
        return true;
    }
    for (uint32_t copy = a->f->first_copy[u];; copy = a->f->copy[copy].next) {
        if (!niz_again_reader(a, r, g, group, n)) return false;
        if (copy == NIZ_NONE) return true;
        g = a->f->copy[copy].group;
    }
}

/* The groups that load value r; false if they are too many, or have to do with chunks, where values
 * are small and all stand once. */
static bool niz_again_readers(const niz_again *a, uint32_t r, uint32_t group[NIZ_AGAIN_GROUPS],
                              int *n)
{
    *n = 0;
    if (a->f->part[r] == NIZ_PART_CHUNK) return false;
    if (a->first_user[r + 1] - a->first_user[r] > NIZ_AGAIN_USERS) return false;
    for (uint32_t i = a->first_user[r]; i < a->first_user[r + 1]; i++)
        if (!niz_again_readers_of(a, r, a->user[i], group, n)) return false;
    return true;
}

static bool niz_again_is_stored(const niz_again *a, uint32_t r)
{
    uint32_t group[NIZ_AGAIN_GROUPS];
    int n;
    return a->f->group_of[r] == NIZ_NONE || a->pinned[r] || !niz_again_readers(a, r, group, &n) ||
           n;
}

/* ---- what it costs --------------------------------------------------------------------------- */

/* Operations an element; negative: too costly at any price. */
static double niz_again_work(const niz_again *a, uint32_t id)
{
    const niz_map *map = a->map(a->state, id);
    double work = map ? 0 : -1;
    for (int i = 0; map && i < map->n; i++) {
        niz_map_code code = (niz_map_code)map->instr[i].code;
        if (code >= NIZ_MAP_EXP && code <= NIZ_MAP_POW) return -1;
        work += code == NIZ_MAP_DIV || code == NIZ_MAP_SQRT || code == NIZ_MAP_MOD
                    ? NIZ_ROOT_COST
                    : code != NIZ_MAP_CONST;
    }
    return work;
}

static double niz_again_bytes(const niz_again *a, uint32_t id)
{
    double bytes = (double)niz_node_bytes(&a->w->g.node[id]);
    return bytes > NIZ_CACHE_BYTES ? bytes * NIZ_MEMORY_COST : bytes;
}

/* Whether group g loads what operand x is, from memory. */
static bool niz_again_loads(const niz_again *a, uint32_t g, uint32_t x)
{
    uint32_t root = a->layout[x].root;
    for (uint32_t k = a->f->start[g]; k < a->f->start[g + 1]; k++) {
        const niz_node *n = &a->w->g.node[a->f->member[k]];
        for (int i = 0; i < n->n_arg; i++)
            if (a->layout[n->arg[i]].root == root) return true;
    }
    return false;
}

/* Whether node id, computed in group g, could be one of its elements. */
static bool niz_again_fits(const niz_again *a, uint32_t g, uint32_t id)
{
    const niz_group *group = &a->f->group[g];
    return group->kind != NIZ_GROUP_ALONE && a->f->part[id] == NIZ_PART_ELEMENT &&
           niz_again_is_map(a, id) && niz_fuse_is_element(&a->w->g, id, group);
}

/* How often group g computes each element: as often as it would be loaded. */
static double niz_again_times(const niz_again *a, uint32_t g)
{
    const niz_group *group = &a->f->group[g];
    if (group->kind != NIZ_GROUP_PANEL) return 1;
    const niz_panel *panel = &a->f->panel[group->panel];
    bool finished = a->f->group[a->f->group_of[panel->host]].n > 1;
    return (double)niz_panel_times(a->w, panel, finished);
}

/* Instructions and loads of a map. */
static uint32_t niz_again_values(const niz_again *a, uint32_t id)
{
    const niz_map *map = a->map(a->state, id);
    return a->w->g.node[id].n_arg + (map ? (uint32_t)map->n : 0);
}

static bool niz_again_add(niz_again *a, uint32_t g, uint32_t id)
{
    for (int i = 0; i < a->n; i++)
        if (a->node[i] == id) return true;
    double times = niz_again_times(a, g);
    if (a->n == NIZ_AGAIN_NODES || !niz_again_fits(a, g, id)) return false;
    double work = niz_again_work(a, id);
    if (work < 0 && !a->always) return false;
    a->cost += times * work * (double)niz_shape_count(a->w->g.node[id].shape);
    a->reads += a->w->g.node[id].n_arg;
    a->values += niz_again_values(a, id);
    a->node[a->n++] = id;
    return true;
}

/* Operand x of a node that is to be computed in group g: another of its elements, a load, or
 * computed there as well. */
static bool niz_again_operand(niz_again *a, uint32_t g, uint32_t id, uint32_t x)
{
    const niz_group *group = &a->f->group[g];
    const niz_node *n = &a->w->g.node[id];
    const niz_layout_of *l = &a->layout[x];
    const niz_node *root = &a->w->g.node[l->root];
    bool whole = niz_fuse_is_whole(&l->view, &group->domain);
    if (root->op == &niz_op_literal) return true;
    if (niz_fusion_computes(a->f, l->root, g)) {
        if (a->f->part[l->root] == NIZ_PART_ELEMENT || a->f->part[l->root] == NIZ_PART_TILE)
            return whole;
        return group->kind != NIZ_GROUP_FLAT && niz_fuse_is_row(&l->view, n->shape, group);
    }
    if (group->tail > 1 && !niz_fuse_is_even(&l->view, n->shape, group->tail)) return false;
    if (niz_again_is_stored(a, l->root)) {
        if (!niz_again_loads(a, g, x))
            a->cost += niz_again_times(a, g) * niz_again_bytes(a, l->root);
        return true;
    }
    if (whole && niz_again_add(a, g, l->root)) return true;
    a->cost += 3 * niz_again_bytes(a, l->root); /* stored for this, and loaded */
    return true;
}

/* Weighs computing value r in group g, with what it is made of: a->node[0 .. n-1]. */
static bool niz_again_weigh(niz_again *a, uint32_t g, uint32_t r)
{
    const niz_group *group = &a->f->group[g];
    a->n = 0;
    a->reads = a->values = 0;
    if (!niz_again_add(a, g, r)) return false;
    if (group->kind == NIZ_GROUP_PANEL && !group->n)
        a->cost +=
            NIZ_STAGE_COST * niz_again_times(a, g) * (double)niz_node_bytes(&a->w->g.node[r]);
    for (int i = 0; i < a->n; i++) {
        const niz_node *n = &a->w->g.node[a->node[i]];
        for (int k = 0; k < n->n_arg; k++)
            if (!niz_again_operand(a, g, a->node[i], n->arg[k])) return false;
    }
    return group->n + (uint32_t)a->n <= NIZ_GROUP_NODES &&
           group->reads + a->reads <= NIZ_GROUP_READS &&
           group->values + a->values <= NIZ_GROUP_VALUES;
}

/* Whether all of group g's readers of r take it as an element. */
static bool niz_again_taken_whole(const niz_again *a, uint32_t g, uint32_t r)
{
    for (uint32_t k = a->first_user[r]; k < a->first_user[r + 1]; k++) {
        uint32_t u = a->user[k];
        if (!niz_fusion_computes(a->f, u, g)) continue;
        niz_part_of part = (niz_part_of)a->f->part[u];
        if (part != NIZ_PART_ELEMENT && part != NIZ_PART_REDUCE) return false;
        const niz_node *n = &a->w->g.node[u];
        for (int i = 0; i < n->n_arg; i++) {
            const niz_layout_of *l = &a->layout[n->arg[i]];
            if (l->root == r && !niz_fuse_is_whole(&l->view, &a->f->group[g].domain)) return false;
        }
    }
    return true;
}

/* ---- what is done ---------------------------------------------------------------------------- */

static bool niz_again_copy(niz_again *a, uint32_t id, uint32_t g)
{
    niz_fusion *f = a->f;
    if (niz_fusion_computes(f, id, g)) return true;
    if (!niz_grow(a->z, &f->copy, sizeof *f->copy, &a->copies_capacity, (size_t)f->n_copies + 1))
        return false;
    f->copy[f->n_copies] = (niz_copy){g, f->first_copy[id]};
    f->first_copy[id] = f->n_copies++;
    f->group[g].n++;
    f->group[g].reads += a->w->g.node[id].n_arg;
    f->group[g].values += niz_again_values(a, id);
    return true;
}

/* Computes r in all groups that load it, if that is worth it. */
static bool niz_again_value(niz_again *a, uint32_t r)
{
    uint32_t group[NIZ_AGAIN_GROUPS];
    int n;
    if (a->pinned[r] || !niz_again_is_map(a, r) || a->f->part[r] != NIZ_PART_ELEMENT ||
        !niz_again_readers(a, r, group, &n) || n == 0)
        return true;
    a->cost = 0;
    for (int i = 0; i < n; i++)
        if (!niz_again_taken_whole(a, group[i], r) || !niz_again_weigh(a, group[i], r)) return true;
    double loads = 0;
    for (int i = 0; i < n; i++) loads += niz_again_times(a, group[i]);
    if (a->cost >= niz_again_bytes(a, r) * (2 + loads) && !a->always) return true;
    for (int i = 0; i < n; i++) {
        if (!niz_again_weigh(a, group[i], r)) continue; /* as above: to list what it takes */
        for (int k = 0; k < a->n; k++)
            if (!niz_again_copy(a, a->node[k], group[i])) return false;
    }
    return true;
}

/* The first group of r gives it up if nobody there reads it. */
static void niz_again_leave(niz_again *a, uint32_t r)
{
    niz_fusion *f = a->f;
    uint32_t *link = &f->first_copy[r], *first = link;
    if (*link == NIZ_NONE || niz_again_is_stored(a, r)) return;
    for (uint32_t k = a->first_user[r]; k < a->first_user[r + 1]; k++)
        if (niz_fusion_computes(f, a->user[k], f->group_of[r])) return;
    f->group[f->group_of[r]].n--;
    for (; *link != NIZ_NONE; link = &f->copy[*link].next)
        if (f->copy[*link].group < f->copy[*first].group) first = link;
    f->group_of[r] = f->copy[*first].group;
    *first = f->copy[*first].next;
}

bool niz_fuse_recompute(niz *z, const niz_work *w, const niz_layout_of *layout, niz_map_getter *map,
                        void *state, niz_fusion *f)
{
    niz_again a = {.z = z, .w = w, .layout = layout, .map = map, .state = state, .f = f};
    a.always = niz_pipeline_lists("NIZ_FORCE", "recompute");
    if (!a.always && niz_pipeline_lists("NIZ_SKIP", "recompute")) return true;
    bool ok = niz_again_users(&a);
    for (uint32_t id = w->g.n; ok && id-- > 0;) {
        if (f->group_of[id] == NIZ_NONE) continue;
        ok = niz_again_value(&a, id);
        niz_again_leave(&a, id);
    }
    niz_free(z, a.first_user);
    niz_free(z, a.user);
    niz_free(z, a.pinned);
    return ok;
}
