/* fuse.h - which nodes are computed together, by one kernel.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_FUSE_H
#define NIZ_FUSE_H

#include <stdio.h>

#include "ops/map.h"
#include "passes/pass.h"

#define NIZ_GROUP_NODES 96   /* nodes of one kernel: a cap on its text and registers */
#define NIZ_GROUP_VALUES 640 /* and on its instructions and loads */
#define NIZ_GROUP_READS 32   /* operands from outside */
#define NIZ_GROUP_OPERANDS (NIZ_GROUP_READS + NIZ_GROUP_NODES) /* buffers: and each node stored */

/** How a node takes part in its group's kernel. */
typedef enum niz_part_of {
    NIZ_PART_ALONE,   /* no nest: a task of its own */
    NIZ_PART_TILE,    /* the contraction or convolution that the group finishes */
    NIZ_PART_ELEMENT, /* a value at every element of the domain */
    NIZ_PART_REDUCE,  /* folds the elements along the domain's axis `fold` to one value */
    NIZ_PART_ROW,     /* such a value: once a row, or once a column */
    NIZ_PART_CHUNK    /* in straight-line code */
} niz_part_of;

/** What kernel computes a group. */
typedef enum niz_group_kind {
    NIZ_GROUP_ALONE,   /* one node, by the interpreter's loop */
    NIZ_GROUP_ROWS,    /* swept along the last axis: folds give one value a row */
    NIZ_GROUP_FLAT,    /* one long row, cut among threads */
    NIZ_GROUP_COLUMNS, /* swept along an earlier axis: folds give one value a column */
    NIZ_GROUP_TILE,    /* rectangles of results of one contraction or convolution */
    NIZ_GROUP_CHUNK,   /* straight-line code over values of few elements: no domain */
    NIZ_GROUP_PANEL    /* elements of an operand, computed while a tile's loop packs them */
} niz_group_kind;

/** One of the axes along which rows of a panel are counted: all of an axis of the domain, or with
 *  `step` > 1 or fewer indices a digit of it.  Axis `rank - tail` stands for all of the tail. */
typedef struct niz_panel_axis {
    int axis;
    int64_t size, step;
} niz_panel_axis;

/** How a panel's elements become an operand (panel.c). */
typedef struct niz_panel {
    uint32_t host; /* the contraction or convolution ... */
    int operand;   /* ... and which of its operands */
    bool across;   /* a contraction's: columns are its free axes, not those summed */
    int rank;      /* of the rows */
    niz_panel_axis row[NIZ_MAX_RANK];
    int64_t columns;
} niz_panel;

/** Nodes computed together. */
typedef struct niz_group {
    niz_group_kind kind;
    bool folds, chooses;    /* has reductions; compares indices with places along `fold` */
    niz_dtype dtype;        /* of all floating values in it */
    niz_shape domain;       /* axes of size 1 dropped */
    int fold;               /* the axis of the domain that is swept: the last but in COLUMNS */
    int tail;               /* in a TILE or PANEL a row is that many axes, in others the last */
    uint32_t n, n_rows;     /* nodes; those that are no elements */
    uint32_t values, reads; /* at most so many of each */
    uint32_t first, cut;    /* of a CHUNK: see niz_chunks_reach */
    uint32_t panel;         /* of a PANEL: which */
    uint64_t seen;          /* bits of its nodes and of what they read */
} niz_group;

/** Another group that computes a node, too. */
typedef struct niz_copy {
    uint32_t group, next;
} niz_copy;

/** Why a node that opened a group did not join another; group NIZ_NONE: could not join any. */
typedef struct niz_refusal {
    uint32_t node, group;
    const char *why;
} niz_refusal;

typedef struct niz_fusion {
    uint32_t n_groups, n_copies, n_panels;
    niz_group *group;     /* in an order in which they can run; one may have lost all its nodes */
    uint32_t *group_of;   /* of each node: the first group that computes it, and stores it if it is
                             stored; NIZ_NONE for views and leaves */
    uint32_t *panels;     /* of each node: its first panel group, if any; the second follows */
    uint32_t *first_copy; /* of each node: the others, a list through next; or NIZ_NONE */
    niz_copy *copy;
    niz_panel *panel;
    uint8_t *part;   /* of each node: niz_part_of, the same in all its groups */
    uint32_t *start; /* nodes of group g, ascending: member[start[g] .. start[g+1]-1] */
    uint32_t *member;
    niz_refusal *refusal; /* if they are wanted: in the order of the sweep */
    uint32_t n_refusals;
} niz_fusion;

/** The parsed .map of a node, or NULL without memory. */
typedef const niz_map *niz_map_getter(void *state, uint32_t node);

/** Groups w's nodes; map(state, node) tells what they cost.  explain: notes refusals. */
bool niz_fuse(niz *z, const niz_work *w, const niz_layout_of *layout, niz_map_getter *map,
              void *state, bool explain, niz_fusion *f);
/** Groups, their nodes, the bytes they save and refusals, as text.  stored: nodes with memory. */
void niz_fusion_print(FILE *out, const niz_work *w, const niz_layout_of *layout,
                      const niz_fusion *f, const bool *stored);
void niz_fusion_free(niz *z, niz_fusion *f);

/** Whether group g computes node id. */
static inline bool niz_fusion_computes(const niz_fusion *f, uint32_t id, uint32_t g)
{
    if (f->group_of[id] == g) return true;
    for (uint32_t c = f->first_copy[id]; c != NIZ_NONE; c = f->copy[c].next)
        if (f->copy[c].group == g) return true;
    return false;
}

/** Lets groups compute what is cheap instead of loading it (recompute.c).  False (error set)
 * without memory. */
bool niz_fuse_recompute(niz *z, const niz_work *w, const niz_layout_of *layout, niz_map_getter *map,
                        void *state, niz_fusion *f);

/** Whether a view is all of a group's domain in row-major order; one value a row or column of it,
 *  for a node of shape s; evenly spaced along its last `tail` axes. */
bool niz_fuse_is_whole(const niz_view *v, const niz_shape *domain);
bool niz_fuse_is_row(const niz_view *v, const niz_shape *s, const niz_group *g);
bool niz_fuse_is_even(const niz_view *v, const niz_shape *s, int tail);
/** Whether an elementwise node could be an element of the group. */
bool niz_fuse_is_element(const niz_graph *g, uint32_t id, const niz_group *group);

/** The group that could make operand i of node id while it is packed, or NIZ_NONE. */
static inline uint32_t niz_fusion_panel_of(const niz_fusion *f, uint32_t id, int i)
{
    uint32_t g = f->panels[id];
    for (; g != NIZ_NONE && g < f->n_groups; g++) {
        const niz_group *p = &f->group[g];
        if (p->kind != NIZ_GROUP_PANEL || f->panel[p->panel].host != id) break;
        if (f->panel[p->panel].operand == i) return g;
    }
    return NIZ_NONE;
}

/** The group that does so, or NIZ_NONE: the operand lies in memory. */
static inline uint32_t niz_fusion_panel(const niz_fusion *f, uint32_t id, int i)
{
    uint32_t g = niz_fusion_panel_of(f, id, i);
    return g != NIZ_NONE && f->group[g].n ? g : NIZ_NONE;
}

/** Whether a node has an operand that is made so. */
static inline bool niz_fusion_packs(const niz_fusion *f, uint32_t id)
{
    return niz_fusion_panel(f, id, 0) != NIZ_NONE || niz_fusion_panel(f, id, 1) != NIZ_NONE;
}

/** The contraction or convolution of tile g. */
static inline uint32_t niz_fusion_tile(const niz_fusion *f, uint32_t g)
{
    uint32_t k = f->start[g];
    while (f->part[f->member[k]] != NIZ_PART_TILE) k++;
    return f->member[k];
}

/** The panel of operand i of contraction or convolution id, and the group that it would be: false,
 *  and why in words, if its elements cannot be made row by row. */
bool niz_panel_find(const niz_work *w, const niz_layout_of *layout, uint32_t id, int i,
                    niz_panel *panel, niz_group *group, const char **why);
/** How often each of its elements is computed, about; finished: by a nest behind it. */
int64_t niz_panel_times(const niz_work *w, const niz_panel *panel, bool finished);

/** The dtype of all floating operands and of the result; false if there are others than bool and
 *  one floating dtype.  An index does not count, nor does the operand of a cast to a floating
 *  dtype: it is loaded, as no group that computes it can be the reader's. */
bool niz_fuse_dtypes(const niz_graph *g, const niz_node *n, niz_dtype *dtype);

/* ---- small values (chunk.c) ------------------------------------------------------------------ */

#define NIZ_CHUNK_WIDTH 16 /* elements: the lanes of the summation order */

/** The nodes that may stand in straight-line code, numbered in the order in which they are grouped.
 */
typedef struct niz_chunks {
    uint32_t n;
    uint32_t *ordinal; /* of each node: its number, or NIZ_NONE */
    uint32_t *at;      /* of each number: operations before it */
    uint64_t *hash;    /* of each number: of what it computes from what */
} niz_chunks;

/** Finds them; false (error set) without memory.  Then numbers them: first those marked in first.
 */
bool niz_chunks_mark(niz *z, const niz_work *w, const niz_layout_of *layout, niz_chunks *c);
void niz_chunks_number(const niz_work *w, const niz_layout_of *layout, const uint8_t *first,
                       niz_chunks *c);
void niz_chunks_free(niz *z, niz_chunks *c);
/** Whether a chunk whose first node is number `first` still takes number `ordinal`.  *cut is
 *  NIZ_NONE until the chunk's end is known. */
bool niz_chunks_reach(const niz_chunks *c, uint32_t first, uint32_t ordinal, uint32_t *cut);
/** Whether all elements of a view are one. */
bool niz_chunk_is_single(const niz_view *v);

#endif
