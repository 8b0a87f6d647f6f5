/* place.c - where every value lives: all buffers in one arena, reused as soon as they are dead.
 *
 * Positions are ids of the scheduled graph.  A buffer lives from its node to the last reader of any
 * view of it.  A map whose operand dies with it writes over that operand; an assignment's value is
 * written straight into the parameter where nothing reads the old version later.  Free space is a
 * list of blocks ordered by offset; the smallest that fits is taken.  Values of half a cache line
 * or less share lines, whose free slots are kept by size: thousands of scalars stay together.
 *
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "passes/fuse.h"

#define NIZ_ALIGN 64      /* a cache line, and the widest vector */
#define NIZ_SMALL_SIZES 3 /* 8, 16 and 32 bytes */

typedef struct niz_block {
    int64_t offset, bytes;
} niz_block;

typedef struct niz_placer {
    niz *z;
    const niz_work *w;
    const niz_fusion *f; /* or NULL: every node is a group of its own */
    niz_placement *p;
    uint32_t end;    /* positions: of groups there may be more than nodes, as some are empty */
    uint32_t *order; /* nodes that own memory, by position */
    uint32_t n_order;
    uint32_t last_failing;
    bool in_place;
    niz_block *free; /* ordered by offset, never touching each other */
    size_t n_free, free_capacity;
    struct niz_slots {
        int64_t *offset;
        size_t n, capacity;
    } small[NIZ_SMALL_SIZES]; /* free slots of shared lines */
    uint32_t *dying;          /* roots by their last reader: a list through next_dying */
    uint32_t *next_dying;
    int64_t top; /* end of the arena */
} niz_placer;

static int64_t niz_place_round(int64_t bytes)
{
    for (int64_t small = 8; small < NIZ_ALIGN; small *= 2)
        if (bytes && bytes <= small) return small;
    return (bytes + NIZ_ALIGN - 1) / NIZ_ALIGN * NIZ_ALIGN;
}

/* ---- the arena ------------------------------------------------------------------------------ */

static int64_t niz_block_take(niz_placer *a, int64_t bytes)
{
    size_t best = a->n_free;
    for (size_t i = 0; i < a->n_free; i++)
        if (a->free[i].bytes >= bytes &&
            (best == a->n_free || a->free[i].bytes < a->free[best].bytes))
            best = i;
    if (best < a->n_free) {
        int64_t offset = a->free[best].offset;
        a->free[best].offset += bytes;
        if ((a->free[best].bytes -= bytes) == 0)
            memmove(a->free + best, a->free + best + 1, sizeof *a->free * (--a->n_free - best));
        return offset;
    }
    /* nothing fits: a free block at the end grows into the new space */
    int64_t offset = a->top;
    if (a->n_free && a->free[a->n_free - 1].offset + a->free[a->n_free - 1].bytes == a->top)
        offset = a->free[--a->n_free].offset;
    a->top = offset + bytes;
    return offset;
}

static bool niz_block_give(niz_placer *a, int64_t offset, int64_t bytes)
{
    if (!bytes) return true;
    if (!niz_grow(a->z, &a->free, sizeof *a->free, &a->free_capacity, a->n_free + 1)) return false;
    size_t i = a->n_free;
    while (i && a->free[i - 1].offset > offset) i--;
    bool joins_left = i && a->free[i - 1].offset + a->free[i - 1].bytes == offset;
    bool joins_right = i < a->n_free && offset + bytes == a->free[i].offset;
    if (joins_left && joins_right) {
        a->free[i - 1].bytes += bytes + a->free[i].bytes;
        memmove(a->free + i, a->free + i + 1, sizeof *a->free * (--a->n_free - i));
    } else if (joins_left) {
        a->free[i - 1].bytes += bytes;
    } else if (joins_right) {
        a->free[i].offset = offset;
        a->free[i].bytes += bytes;
    } else {
        memmove(a->free + i + 1, a->free + i, sizeof *a->free * (a->n_free++ - i));
        a->free[i] = (niz_block){offset, bytes};
    }
    return true;
}

/* Which size of slot, or -1. */
static int niz_slot_size(int64_t bytes)
{
    return bytes == 8 ? 0 : bytes == 16 ? 1 : bytes == 32 ? 2 : -1;
}

static bool niz_slot_give(niz_placer *a, int size, int64_t offset)
{
    struct niz_slots *s = &a->small[size];
    if (!niz_grow(a->z, &s->offset, sizeof *s->offset, &s->capacity, s->n + 1)) return false;
    s->offset[s->n++] = offset;
    return true;
}

/* A free slot, or the first of a new line, the others of which become free. */
static bool niz_slot_take(niz_placer *a, int size, int64_t *offset)
{
    struct niz_slots *s = &a->small[size];
    if (s->n) {
        *offset = s->offset[--s->n];
        return true;
    }
    *offset = niz_block_take(a, NIZ_ALIGN);
    for (int64_t at = NIZ_ALIGN; (at -= 8 << size) > 0;)
        if (!niz_slot_give(a, size, *offset + at)) return false;
    return true;
}

static bool niz_arena_take(niz_placer *a, int64_t bytes, int64_t *offset)
{
    int size = niz_slot_size(bytes);
    if (size >= 0) return niz_slot_take(a, size, offset);
    *offset = niz_block_take(a, bytes);
    return true;
}

static bool niz_arena_give(niz_placer *a, int64_t bytes, int64_t offset)
{
    int size = niz_slot_size(bytes);
    return size >= 0 ? niz_slot_give(a, size, offset) : niz_block_give(a, offset, bytes);
}

/* ---- lifetimes ------------------------------------------------------------------------------ */

static bool niz_place_owns(const niz_graph *g, uint32_t id)
{
    return niz_op_form(g->node[id].op) != NIZ_FORM_VIEW;
}

static uint32_t niz_place_time(const niz_placer *a, uint32_t id)
{
    return a->f && a->f->group_of[id] != NIZ_NONE ? a->f->group_of[id] : id;
}

/* The last position at which a node is computed. */
static uint32_t niz_place_last(const niz_placer *a, uint32_t id)
{
    uint32_t last = niz_place_time(a, id);
    for (uint32_t c = a->f ? a->f->first_copy[id] : NIZ_NONE; c != NIZ_NONE; c = a->f->copy[c].next)
        if (a->f->copy[c].group > last) last = a->f->copy[c].group;
    return last;
}

/* What is computed at position `at` reads owner.  Inside one group that needs no memory. */
static void niz_place_read(niz_placer *a, uint32_t owner, uint32_t at)
{
    niz_place_of *p = &a->p->place[owner];
    bool computed = niz_op_form(a->w->g.node[owner].op) != NIZ_FORM_LEAF;
    if (a->f && computed && niz_fusion_computes(a->f, owner, at)) return;
    if (computed) p->home = NIZ_HOME_ARENA;
    if (at > p->last) p->last = at;
}

static void niz_place_reads(niz_placer *a, uint32_t id, uint32_t at)
{
    const niz_node *n = &a->w->g.node[id];
    for (int i = 0; i < n->n_arg; i++)
        if (!a->f || niz_fusion_panel(a->f, id, i) == NIZ_NONE)
            niz_place_read(a, a->p->layout[n->arg[i]].root, at);
}

static void niz_place_lifetimes(niz_placer *a)
{
    const niz_graph *g = &a->w->g;
    for (uint32_t id = 0; id < g->n; id++) {
        const niz_node *n = &g->node[id];
        bool leaf = niz_op_form(n->op) == NIZ_FORM_LEAF;
        uint32_t time = niz_place_time(a, id);
        niz_view_of(g, id, a->p->layout);
        a->p->place[id] = (niz_place_of){.first = time, .last = time, .shares = NIZ_NONE};
        if (!niz_place_owns(g, id)) continue;
        /* in a nest only what somebody outside reads has memory */
        bool inside = a->f && !leaf && a->f->group[time].kind != NIZ_GROUP_ALONE;
        a->p->place[id].home = leaf ? NIZ_HOME_LEAF : inside ? NIZ_HOME_NONE : NIZ_HOME_ARENA;
        a->p->place[id].bytes = (int64_t)niz_node_bytes(n);
        if (!leaf) a->p->naive += niz_place_round(a->p->place[id].bytes);
        niz_place_reads(a, id, time);
        for (uint32_t c = a->f ? a->f->first_copy[id] : NIZ_NONE; c != NIZ_NONE;
             c = a->f->copy[c].next)
            niz_place_reads(a, id, a->f->copy[c].group);
    }
}

/* Sorts the owners of memory by position: with groups, ids are not in that order. */
static bool niz_place_order(niz_placer *a)
{
    uint32_t n = a->w->g.n;
    uint32_t *start = niz_realloc(a->z, NULL, sizeof *start * ((size_t)a->end + 2));
    if (!start) return false;
    memset(start, 0, sizeof *start * ((size_t)a->end + 2));
    for (uint32_t id = 0; id < n; id++) start[a->p->place[id].first + 1]++;
    for (uint32_t i = 0; i < a->end; i++) start[i + 1] += start[i];
    for (uint32_t id = 0; id < n; id++) a->order[start[a->p->place[id].first]++] = id;
    a->n_order = n;
    niz_free(a->z, start);
    return true;
}

/* ---- values that leave ---------------------------------------------------------------------- */

/* Whether user, computed at position `at`, reads its operand element for element as it writes. */
static bool niz_place_same_elements(const niz_placer *a, uint32_t user, uint32_t operand,
                                    uint32_t at)
{
    const niz_graph *g = &a->w->g;
    const niz_layout_of *l = &a->p->layout[operand];
    const niz_view *v = &l->view;
    /* elements may be read twice; row values once, before any is written */
    if (a->f && a->f->group[at].folds && a->f->part[user] != NIZ_PART_ROW) return false;
    /* the first few elements of a buffer are in order as well, but those of other places */
    if (niz_shape_count(&v->shape) != niz_shape_count(g->node[l->root].shape)) return false;
    return niz_op_form(g->node[user].op) == NIZ_FORM_MAP && niz_view_is_contiguous(v) &&
           niz_shape_equal(&v->shape, g->node[user].shape) &&
           niz_dtype_size((niz_dtype)g->node[user].dtype) ==
               niz_dtype_size((niz_dtype)g->node[operand].dtype);
}

/* Whether writing parameter `index` where `writer` is computed spoils nothing: its old version has
 * been read (at the same time only element for element), and nothing later may fail. */
static bool niz_place_param_safe(const niz_placer *a, const niz_reads *reads, uint32_t writer,
                                 int64_t index)
{
    uint32_t at = niz_place_time(a, writer);
    if (reads->last_failing != NIZ_NONE && a->last_failing >= at) return false;
    for (uint32_t r = reads->first[index]; r != NIZ_NONE; r = reads->read[r].next) {
        const niz_read *read = &reads->read[r];
        if (niz_place_last(a, read->reader) > at) return false;
        bool now = a->f ? niz_fusion_computes(a->f, read->reader, at) : read->reader == at;
        if (now && !niz_place_same_elements(a, read->reader, read->operand, at)) return false;
    }
    return true;
}

/* The last position at which something may fail: with groups, ids are not in that order. */
static void niz_place_failing(niz_placer *a)
{
    for (uint32_t id = 0; id < a->w->g.n; id++)
        if (a->w->g.node[id].op->may_fail && niz_place_time(a, id) > a->last_failing)
            a->last_failing = niz_place_time(a, id);
}

static bool niz_place_outputs(niz_placer *a)
{
    niz_reads reads;
    if (!niz_reads_find(a->w, a->p->layout, &reads)) return false;
    niz_place_failing(a);
    for (int i = 0; i < a->w->n_want; i++) {
        niz_place_of *p = &a->p->place[a->w->out[i]];
        p->home = NIZ_HOME_OUTPUT;
        p->offset = i;
    }
    for (int i = a->w->n_want; i < a->w->n_out; i++) {
        uint32_t value = a->p->layout[a->w->out[i]].root;
        int64_t index = a->w->g.node[a->w->out[i]].attr[0];
        niz_place_of *p = &a->p->place[value];
        a->p->commit_copy[i] = !(a->in_place && niz_place_param_safe(a, &reads, value, index));
        if (a->p->commit_copy[i]) {
            p->home = NIZ_HOME_ARENA;
            p->last = a->end;
        } else {
            p->home = NIZ_HOME_PARAM;
            p->offset = index;
        }
    }
    niz_reads_free(a->z, &reads);
    return true;
}

/* ---- offsets -------------------------------------------------------------------------------- */

/* Whether every reader of root's buffer at this position reads it element for element. */
static bool niz_place_read_in_step(const niz_placer *a, uint32_t root, uint32_t at)
{
    const niz_graph *g = &a->w->g;
    uint32_t from = a->f ? a->f->start[at] : at, to = a->f ? a->f->start[at + 1] : at + 1;
    for (uint32_t k = from; k < to; k++) {
        uint32_t id = a->f ? a->f->member[k] : k;
        const niz_node *n = &g->node[id];
        for (int i = 0; i < n->n_arg; i++)
            if (a->p->layout[n->arg[i]].root == root &&
                !niz_place_same_elements(a, id, n->arg[i], at))
                return false;
    }
    return true;
}

/* An operand that dies here and whose elements this map reads one by one. */
static uint32_t niz_place_reusable(const niz_placer *a, uint32_t id)
{
    const niz_node *n = &a->w->g.node[id];
    uint32_t at = niz_place_time(a, id);
    for (int i = 0; a->in_place && i < n->n_arg; i++) {
        uint32_t root = a->p->layout[n->arg[i]].root;
        const niz_place_of *p = &a->p->place[root];
        if (p->home == NIZ_HOME_ARENA && p->last == at && p->first != at && !p->handed_on &&
            p->bytes == a->p->place[id].bytes && niz_place_read_in_step(a, root, at))
            return root;
    }
    return NIZ_NONE;
}

static void niz_place_dies(niz_placer *a, uint32_t root, uint32_t at)
{
    a->next_dying[root] = a->dying[at];
    a->dying[at] = root;
}

static bool niz_place_take(niz_placer *a, uint32_t id)
{
    niz_place_of *p = &a->p->place[id];
    if (p->home != NIZ_HOME_ARENA) return true;
    p->shares = niz_place_reusable(a, id);
    if (p->shares != NIZ_NONE) {
        p->offset = a->p->place[p->shares].offset;
        a->p->place[p->shares].handed_on = true;
    } else if (!niz_arena_take(a, niz_place_round(p->bytes), &p->offset)) {
        return false;
    }
    niz_place_dies(a, id, p->last);
    return true;
}

static bool niz_place_release(niz_placer *a, uint32_t at)
{
    for (uint32_t r = a->dying[at]; r != NIZ_NONE; r = a->next_dying[r]) {
        const niz_place_of *q = &a->p->place[r];
        if (!q->handed_on && !niz_arena_give(a, niz_place_round(q->bytes), q->offset)) return false;
    }
    return true;
}

static bool niz_place_offsets(niz_placer *a)
{
    uint32_t n = a->f ? a->f->n_groups : a->w->g.n, next = 0;
    for (uint32_t at = 0; at < n; at++) {
        for (; next < a->n_order && a->p->place[a->order[next]].first <= at; next++)
            if (!niz_place_take(a, a->order[next])) return false;
        if (!niz_place_release(a, at)) return false;
    }
    a->p->peak = a->top;
    return true;
}

bool niz_place_all(const niz_pass_env *env, const niz_work *w, const niz_fusion *fusion,
                   bool in_place, niz_placement *p)
{
    size_t n = w->g.n + 1;
    niz_placer a = {.z = env->z, .w = w, .f = fusion, .p = p, .in_place = in_place};
    a.end = fusion && fusion->n_groups > w->g.n ? fusion->n_groups : w->g.n;
    *p = (niz_placement){0};
    p->layout = niz_realloc(env->z, NULL, sizeof *p->layout * n);
    p->place = niz_realloc(env->z, NULL, sizeof *p->place * n);
    p->commit_copy = niz_realloc(env->z, NULL, (size_t)w->n_out + 1);
    a.dying = niz_realloc(env->z, NULL, sizeof *a.dying * ((size_t)a.end + 1));
    a.next_dying = niz_realloc(env->z, NULL, sizeof *a.next_dying * n);
    a.order = niz_realloc(env->z, NULL, sizeof *a.order * n);
    bool ok = p->layout && p->place && p->commit_copy && a.dying && a.next_dying && a.order;
    if (ok) {
        memset(a.dying, 0xff, sizeof *a.dying * ((size_t)a.end + 1));
        memset(p->commit_copy, 0, (size_t)w->n_out + 1);
        niz_place_lifetimes(&a);
        ok = niz_place_outputs(&a) && niz_place_order(&a) && niz_place_offsets(&a);
    }
    niz_free(env->z, a.dying);
    niz_free(env->z, a.order);
    niz_free(env->z, a.next_dying);
    niz_free(env->z, a.free);
    for (int i = 0; i < NIZ_SMALL_SIZES; i++) niz_free(env->z, a.small[i].offset);
    if (!ok) niz_placement_free(env->z, p);
    return ok;
}

void niz_placement_free(niz *z, niz_placement *p)
{
    niz_free(z, p->layout);
    niz_free(z, p->place);
    niz_free(z, p->commit_copy);
    *p = (niz_placement){0};
}
