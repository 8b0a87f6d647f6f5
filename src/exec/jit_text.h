/* jit_text.h - the functions that a plan needs, and the texts in which they are compiled.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_JIT_TEXT_H
#define NIZ_JIT_TEXT_H

#include "exec/jit.h"

#define NIZ_TEXT_NESTS "niz_k" /* what functions are called, before a number */
#define NIZ_TEXT_CHUNKS "niz_c"

/** A function, once. */
typedef struct niz_function {
    char *body;    /* of malloc: `before`, NAME, and the rest */
    char *comment; /* of malloc, or NULL: what follows its name in the comment above it */
    uint64_t hash;
    uint64_t work; /* about what it costs the compiler */
} niz_function;

/** The functions of one kind. */
typedef struct niz_functions {
    niz *z;
    const char *before, *name; /* all begin with this; and are called so, and a number */
    niz_function *function;
    uint32_t n;
    size_t capacity;
    uint32_t *slot; /* a hash table of functions: number + 1, or 0 */
    uint32_t n_slots;
    uint64_t work, largest; /* of all; of one */
} niz_functions;

/** The number of the function with this text of n bytes, which is taken over; it is new if it is
 *  the last.  NIZ_NONE: no memory. */
uint32_t niz_function_add(niz_functions *s, char *body, size_t n, uint64_t work);
void niz_functions_free(niz_functions *s);

/** Requests the plan's texts, and in sync mode waits for them; false (error set) without memory. */
bool niz_texts_request(niz_exec *e, niz_plan *plan, const niz_functions *nests,
                       const niz_functions *chunks);
/** READY when all are, FAILED when one is. */
niz_kernel_state niz_texts_state(const niz_plan *plan);
/** Finds the tasks' functions; false if one is missing. */
bool niz_texts_resolve(niz_plan *plan);
void niz_texts_drop(niz_exec *e, niz_plan *plan);

#endif
