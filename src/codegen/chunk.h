/* chunk.h - the straight-line form of a kernel over values of at most 16 elements.
 *
 *   chunk f64
 *     %0 = load.14 @0          elements, by pointer
 *     %1 = load.1 in 0         one element, by value; of another type by pointer, and converted
 *     %2 = mul.14 %0 %1        one value for all elements of the other
 *     %3 = sum.1 %2
 *     store.14 @1 %2
 *     store.1 out 0 %3
 *
 * Whoever runs the kernel gathers the single elements that it reads into one array and hands out
 * what it leaves in another, so that the text holds neither addresses nor sizes beyond the counts
 * of elements: pieces of a graph that compute alike have one text.  Arrays and pointers are
 * numbered by first use.  Values live in local variables; only what other kernels read is stored.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_CHUNK_H
#define NIZ_CHUNK_H

#include "codegen/nest.h"

typedef enum niz_chunk_kind {
    NIZ_CHUNK_POINTER, /* load of elements, converted if the access is of another number's dtype */
    NIZ_CHUNK_IN,      /* load of one element */
    NIZ_CHUNK_CONST,
    NIZ_CHUNK_LANE, /* one element of another value */
    NIZ_CHUNK_MAP,
    NIZ_CHUNK_FOLD
} niz_chunk_kind;

typedef struct niz_chunk_value {
    uint8_t kind;
    uint8_t code;  /* MAP: niz_map_code; FOLD: niz_combine */
    uint8_t count; /* elements; 1 may stand for more that are equal */
    uint8_t lane;  /* LANE: which; FOLD: of how many */
    niz_dtype dtype;
    uint32_t x[3];   /* operands; of POINTER and IN: x[0] is the access */
    double constant; /* CONST */
} niz_chunk_value;

/** Memory read or written. */
typedef struct niz_chunk_access {
    uint32_t node;  /* whose buffer ... */
    int64_t offset; /* ... and where in it, in elements */
    niz_dtype dtype;
    uint8_t count;
} niz_chunk_access;

typedef struct niz_chunk_store {
    uint32_t value, access;
    uint32_t after; /* as many values */
    bool single;    /* to the array of single elements */
    bool last;      /* after all loads: it may be memory that is read */
} niz_chunk_store;

/** Accesses by kind; of an array only the first n are in use. */
typedef struct niz_chunk_accesses {
    niz_chunk_access *access;
    uint32_t n;
    size_t capacity;
} niz_chunk_accesses;

typedef struct niz_chunk_code {
    niz *z;
    niz_dtype dtype;
    niz_chunk_value *value;
    niz_chunk_store *store;
    niz_chunk_accesses pointer, in, out;
    uint32_t n_values, n_stores;
    size_t value_capacity, store_capacity;
    uint32_t *of;   /* of each node of the graph: its value, if it is in this chunk */
    uint32_t *slot; /* a hash table of loads: value + 1, or 0 */
    uint32_t n_slots;
    size_t of_capacity, slot_capacity;
} niz_chunk_code;

/** Fills c, whose arrays are kept from group to group, with group g; in_param says of a node
 *  whether it is written straight into a parameter.  False: no memory (error set). */
bool niz_chunk_build(const niz_nest_env *env, const bool *in_param, uint32_t g, niz_chunk_code *c);
void niz_chunk_free(niz_chunk_code *c);

/** What is wrong with a chunk, or NULL. */
const char *niz_chunk_verify(const niz_chunk_code *c, char *why, size_t size);
void niz_chunk_print(FILE *f, const niz_chunk_code *c);

/** Writes the kernel as C: `void NAME(char *const *b, const long *n, long begin, long end, char
 *  *t)`: b[0] and b[1] the arrays of single elements read and written, then the pointers. */
void niz_chunk_emit(FILE *f, const niz_chunk_code *c, int vector_bytes, const char *name);
/** What chunks use besides niz_prelude_emit; plain: statements are to be compiled one by one, which
 *  takes a third of the time. */
void niz_chunk_prelude_emit(FILE *f, bool plain);

#endif
