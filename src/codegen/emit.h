/* emit.h - what the printers of nests share: names, expressions, loads and stores of a strip.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_EMIT_H
#define NIZ_EMIT_H

#include "codegen/nest.h"

typedef struct niz_emitter {
    FILE *f;
    const niz_nest *n;
    int lanes, parts;              /* of a vector; vectors of a strip */
    const char *S, *V, *M, *t, *i; /* scalar, vector and mask types; suffixes f32, i32 */
    bool seen[NIZ_NEST_VALUES];    /* values that the sweep at hand computes */
    int rows, last;                /* that are swept in step; the last stage that sweeps them */
    int row;                       /* the one at hand of those in step ... */
    const char *of;                /* ... and what its names end with: set by niz_emit_row alone */
} niz_emitter;

/** Elements between what a sweep computes and what it fetches into the cache, at least: measured,
 *  from 64 to 1024 is the same. */
#define NIZ_AHEAD 256
/** Rows swept in step at most: their chains of additions hide each other's latency. */
#define NIZ_ROWS_IN_STEP 4

/** The name of value i in a strip's part p: what is wide has one a part, the rest one in all. */
typedef struct niz_name {
    char text[32];
} niz_name;
niz_name niz_emit_name(const niz_emitter *e, uint16_t i, int p);
const char *niz_emit_type(const niz_emitter *e, const niz_nest_value *v);
/** The C type of elements in memory. */
const char *niz_emit_memory(niz_dtype dtype);

/** The names of folds by niz_combine, and what a lane starts as. */
extern const char *const niz_fold_names[];
const char *niz_fold_start(const niz_emitter *e, int combine);

/** Expressions; tail: of the strip's m elements from j on. */
void niz_emit_map(niz_emitter *e, const niz_nest_value *v, int p);
void niz_emit_load(niz_emitter *e, const niz_nest_value *v, int p, bool tail);
void niz_emit_store(niz_emitter *e, const niz_nest_store *s, bool tail);

/** Whether value v is folded by the sweep of that stage; whether there is such a sweep, which marks
 *  e->seen; the statements of one strip of it. */
bool niz_emit_folds_in(const niz_nest_value *v, int stage);
bool niz_emit_has_sweep(niz_emitter *e, int stage);
void niz_emit_strip(niz_emitter *e, int stage, bool tail);

/** Indices of the outer axes from q, and the accesses' pointers. */
void niz_emit_pointers(niz_emitter *e);

/** The body of a nest of columns (columns.c). */
void niz_emit_columns(niz_emitter *e);

#endif
