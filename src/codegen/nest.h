/* nest.h - the loop-level form of a fused kernel, between graph and text.
 *
 *   nest f32 rows outer 1           one index o over rows, elements j inside a row
 *     %0 = load.element @0          element j of row o
 *     %1 = load.row @1              one value for row o
 *     %2 = sub.element %0 %1
 *     %3 = exp.element %2
 *     %4 = sum.row %3               complete when stage 0 has swept the row
 *     %5 = div.element %3 %4        in stage 1
 *     store.element @2 %5
 *
 * In a nest of columns the elements (i, j) of a matrix are swept along i for a strip of columns j
 * at a time, and folds give one value a column:
 *
 *   nest f32 columns outer 0
 *     %0 = load.element @0          element (i, j)
 *     %1 = load.line @1             one value for all columns of line i
 *     %2 = mul.element %0 %1
 *     %3 = sum.column %2            complete when stage 0 has swept the lines
 *     store.column @2 %3
 *
 * An index a row (column) is compared with the place in it:
 *
 *     %0 = load.row @0              i32 or i64
 *     %1 = hit.element %0           true in its place
 *
 * A cast is a load: numbers of another type are converted on their way from memory:
 *
 *     %0 = load.element @0 u8       a value of f32
 *
 * A stage sweeps a row (the lines of a strip) once.  A reduction is complete after its stage, so
 * what reads it belongs to the next one.  Values that a later stage needs are loaded or computed
 * again if that is cheap, and kept in a row-sized piece of scratch memory if not.
 *
 * The nest of a tile finishes rectangles of a contraction: @0 is the rectangle, rows and columns of
 * it are walked as if it were the whole.  The nest of a panel makes rectangles of an operand: @0 is
 * where they go.
 *
 * Sizes and strides are arguments of the kernel, not part of its text: only the kind of each stride
 * along the row (0, 1, other), and whether another row moves it at all, is.  Another batch size or
 * row length compiles nothing new, except from one row to several (what these share is loaded once)
 * and from columns of NIZ_COLUMN_KEEP lines to longer ones.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_NEST_H
#define NIZ_NEST_H

#include "ops/map.h"
#include "passes/fuse.h"

#define NIZ_NEST_VALUES NIZ_GROUP_VALUES
#define NIZ_NEST_ACCESSES NIZ_GROUP_OPERANDS
#define NIZ_NEST_STORES NIZ_GROUP_OPERANDS
#define NIZ_NONE16 UINT16_MAX

typedef enum niz_nest_kind {
    NIZ_NEST_LOAD,
    NIZ_NEST_MAP,
    NIZ_NEST_FOLD,
    NIZ_NEST_HIT /* whether the place in the row, or column, is the index x[0] */
} niz_nest_kind;

/* Elements from row to row of a tile. */
#define NIZ_NEST_TILE 272

/** Memory walked by the kernel. */
typedef struct niz_access {
    uint32_t node;               /* whose buffer, and where in it, the planner knows */
    int64_t offset;              /* in elements */
    int64_t outer[NIZ_MAX_RANK]; /* strides of the outer axes, in elements */
    int64_t inner;               /* along j */
    int64_t line;                /* along i, of columns */
    niz_dtype dtype;             /* in memory: of a load it may be another than the value's */
    bool row;  /* one value a row or column: the axis that is swept is not walked */
    bool wide; /* walked along j */
    bool same; /* for all rows: no outer axis walks it */
    bool tile; /* a tile's results or a panel, rows NIZ_NEST_TILE apart: no buffer of its own */
} niz_access;

typedef struct niz_nest_value {
    niz_nest_kind kind;
    uint8_t code;    /* MAP: niz_map_code; FOLD: niz_combine */
    niz_dtype dtype; /* the nest's, or NIZ_BOOL; of an index i32 or i64 */
    bool row;        /* known outside a sweep: one value a row, or a column */
    bool wide;       /* varies along j: a vector a part of a strip, not one for all */
    uint16_t stage;  /* the first in which it can be known */
    uint16_t access; /* LOAD */
    uint16_t x[3];   /* MAP, FOLD, HIT */
    double constant; /* MAP of NIZ_MAP_CONST */
    bool keep;       /* an element value that a later stage reads back from scratch */
    uint16_t slot;   /* which scratch row, if kept */
} niz_nest_value;

typedef struct niz_nest_store {
    uint16_t value, access;
    bool partial; /* of a flat nest's fold: one result each NIZ_FLAT_BLOCK elements */
} niz_nest_store;

/* A fold of a flat nest leaves the result of each block of the contract's order. */
#define NIZ_FLAT_BLOCK 512

/* Columns of a unit: as many as a kernel of the widest vectors sweeps at once. */
#define NIZ_COLUMN_UNIT 64
/* More lines than this are swept again without what was costly kept. */
#define NIZ_COLUMN_KEEP 1024

typedef struct niz_nest {
    niz_dtype dtype;
    niz_group_kind kind;
    int rank;                       /* of the outer axes */
    int64_t dim[NIZ_MAX_RANK], row; /* their sizes, and how many elements are swept */
    int64_t columns;
    int n_values, n_accesses, n_stores, n_stages, n_slots;
    niz_nest_value value[NIZ_NEST_VALUES];
    niz_access access[NIZ_NEST_ACCESSES];
    niz_nest_store store[NIZ_NEST_STORES];
} niz_nest;

/** What makes a nest of a group: the parsed .map of an operation, and whether a node's value is
 *  read outside the group. */
typedef struct niz_nest_env {
    const niz_work *w;
    const niz_layout_of *layout;
    const niz_fusion *fusion;
    const bool *stored;
    niz_map_getter *map;
    void *state;
} niz_nest_env;

/** Fills nest from the nodes of group g.  False if it does not fit the form's limits. */
bool niz_nest_build(const niz_nest_env *env, uint32_t g, niz_nest *nest);

/** What is wrong with a nest, or NULL. */
const char *niz_nest_verify(const niz_nest *n, char *why, size_t size);

/** As text, one value a line. */
void niz_nest_print(FILE *f, const niz_nest *n);

/** Writes the kernel as C: `void NAME(char *const *b, const long *n, long begin, long end, char
 * *t)`, b a base address an access, n the arguments of niz_nest_arguments, [begin, end) rows (of a
 * flat nest: blocks; of columns: units of NIZ_COLUMN_UNIT), t scratch memory. */
void niz_nest_emit(FILE *f, const niz_nest *n, int vector_bytes, const char *name);
/** What stands once before all kernels of a text: vector.h, math.h and kernel.h. */
void niz_prelude_emit(FILE *f, int vector_bytes);

/** The run-time arguments, and how many: row, of columns how many, outer sizes, then an access's
 *  strides. */
int niz_nest_arguments(const niz_nest *n, int64_t *out);
#define NIZ_NEST_ARGUMENTS (2 + NIZ_MAX_RANK + NIZ_NEST_ACCESSES * (2 + NIZ_MAX_RANK))

/** Rows that a kernel sweeps in step, where a strip of 16 elements is that many vectors. */
int niz_nest_rows(const niz_nest *n, int parts);

/** Bytes of scratch memory a thread, and units of the range. */
int64_t niz_nest_scratch(const niz_nest *n, int vector_bytes);
int64_t niz_nest_units(const niz_nest *n);
/** Elements that a nest computes. */
int64_t niz_nest_elements(const niz_nest *n);

#endif
