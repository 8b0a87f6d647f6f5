/* fuse.h - which nodes are computed together, by one kernel.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_FUSE_H
#define NIZ_FUSE_H

#include "passes/pass.h"

#define NIZ_GROUP_NODES 96    /* values of one kernel: a cap on its text and registers */
#define NIZ_GROUP_OPERANDS 32 /* buffers of one kernel */

/** How a node takes part in its group's kernel. */
typedef enum niz_part_of {
    NIZ_PART_ALONE,   /* no nest: a task of its own */
    NIZ_PART_TILE,    /* the contraction or convolution that the group finishes */
    NIZ_PART_ELEMENT, /* a value at every element of a row */
    NIZ_PART_REDUCE,  /* folds a row's elements to one value */
    NIZ_PART_ROW      /* a value once a row */
} niz_part_of;

/** Nodes computed together.  A nest's rows are the last `tail` axes of `domain`, its outer axes the
 *  rest; a flat one has no outer axes and is cut along its row.  In a tile the nest finishes
 *  rectangles of a contraction's or convolution's results, the group's first node. */
typedef struct niz_group {
    bool nest, flat, folds, tile;
    int tail;
    niz_dtype dtype;  /* of all floating values in it */
    niz_shape domain; /* axes of size 1 dropped */
    uint32_t n;       /* nodes */
} niz_group;

typedef struct niz_fusion {
    uint32_t n_groups;
    niz_group *group;   /* in an order in which they can run */
    uint32_t *group_of; /* of each node; NIZ_NONE for views and leaves */
    uint8_t *part;      /* of each node: niz_part_of */
    uint32_t *start;    /* nodes of group g, ascending: member[start[g] .. start[g+1]-1] */
    uint32_t *member;
} niz_fusion;

bool niz_fuse(niz *z, const niz_work *w, const niz_layout_of *layout, niz_fusion *f);
void niz_fusion_free(niz *z, niz_fusion *f);

#endif
