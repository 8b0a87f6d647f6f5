/* graph.h - nodes in a dense array, merged when equal.
 *
 * Operands have smaller ids than their users, so the array is a topological order and every
 * algorithm on it is a loop.  The same pure operation on the same operands is the same node
 * (hash-consing).  Recordings and the passes' graphs are both of this kind.
 *
 * Recording is the price of defining by running, so a node costs one bump of the arena (its
 * operands), one look at its newest operand and 80 bytes; operands hand their shape on to the
 * result.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_GRAPH_H
#define NIZ_GRAPH_H

#include <niz/op.h>

#include "core/arena.h"

#define NIZ_NONE UINT32_MAX

/** A scope of names: "net/fc1" in messages, "net.fc1." before parameters. */
typedef struct niz_scope {
    const struct niz_scope *parent;
    const char *path, *prefix;
    size_t length; /* of the path; the prefix, if there is one, has one more */
    uint64_t hash; /* of the path: part of a random draw's counter */
    niz_mark mark;  /* before it, and how many nodes there were: a scope that leaves no node */
    uint32_t nodes; /* behind leaves no memory either */
} niz_scope;

/** Where a node comes from: the user's line, its scope, and for a derivative the operation that it
 *  is the derivative of. */
typedef struct niz_place {
    niz_at at;
    const niz_scope *scope;
    const niz_op *of;
} niz_place;

enum {
    NIZ_NODE_OWNED = 1,   /* .data is this node's to free */
    NIZ_NODE_PRIVATE = 2, /* never merged with an equal one */
    NIZ_NODE_LEAF = 4,    /* of form LEAF */
    NIZ_NODE_ASSIGN = 8,  /* in a recording: niz_op_assign */
};

/* First what finding a plan reads. */
typedef struct niz_node {
    uint64_t sig; /* hash of op name, attributes, dtype, shape */
    const uint32_t *arg;
    void *data;          /* the value of a data leaf, or one computed for the user; else NULL */
    uint32_t generation; /* a handle's must be equal */
    uint8_t dtype, flags, n_arg, n_attr;
    const niz_op *op;
    const niz_shape *shape;
    const int64_t *attr;
    const niz_place *place;
    int64_t version; /* of param and assign: which version of the parameter this is */
    uint32_t user;   /* the first mergeable node whose newest operand this is, or NIZ_NONE */
    uint32_t origin; /* in a plan's graph: the number of the live node it came from */
} niz_node;

/** The operations a context has met, with the hash of their names: an address is in no hash. */
typedef struct niz_op_table {
    niz *z;
    struct {
        const niz_op *op;
        const char *name, *map; /* of the record as it was met: it must not change */
        uint64_t hash;
    } *slot;
    uint32_t capacity, n; /* capacity a power of two */
} niz_op_table;

typedef struct niz_graph {
    niz *z;
    niz_arena arena;
    niz_op_table *ops;
    niz_node *node;
    uint32_t n;
    size_t capacity;
    uint32_t generation;
    struct niz_merge_slot {
        uint32_t hash, id;
    } *table;
    uint32_t table_size; /* a power of two, or 0 */
    uint32_t table_used;
} niz_graph;

void niz_graph_init(niz_graph *g, niz *z, niz_op_table *ops);
void niz_graph_free(niz_graph *g);

/** What a new node is made of. */
typedef struct niz_node_spec {
    const niz_op *op;
    int n;
    const uint32_t *arg;
    niz_attrs attr;
    niz_dtype dtype;
    const niz_shape *shape;
    const niz_place *place;
    bool is_private;
} niz_node_spec;

/** Adds a node, or finds the equal one.  NIZ_NONE if there is no memory (error set). */
uint32_t niz_graph_add(niz_graph *g, const niz_node_spec *s);

/** Types an application (op->infer).  False with f->status and f->why set if it is refused. */
bool niz_graph_infer(const niz_graph *g, niz_infer *f, const niz_op *op, int n, const uint32_t *arg,
                     const niz_attrs *attr, niz_type types[NIZ_MAX_ARITY]);

/** Drops the nodes from id n on (values owned by them are freed); the arena is the caller's. */
void niz_graph_rewind(niz_graph *g, uint32_t n);

void niz_op_table_init(niz_op_table *t, niz *z);
void niz_op_table_free(niz_op_table *t);
const niz_op *niz_op_table_find(const niz_op_table *t, const char *name, size_t length);

/** op->form with its default filled in. */
static inline niz_form niz_op_form(const niz_op *op)
{
    return op->form == NIZ_FORM_OPAQUE && op->map ? NIZ_FORM_MAP : op->form;
}

static inline niz_attrs niz_node_attrs(const niz_node *n)
{
    return (niz_attrs){n->n_attr, n->attr};
}

static inline size_t niz_node_bytes(const niz_node *n)
{
    return (size_t)niz_shape_count(n->shape) * niz_dtype_size((niz_dtype)n->dtype);
}

#endif
