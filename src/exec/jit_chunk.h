/* jit_chunk.h - the straight-line kernels of a plan: their tasks and their texts.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_JIT_CHUNK_H
#define NIZ_JIT_CHUNK_H

#include "codegen/chunk.h"
#include "exec/jit.h"

/** A kernel's text, once. */
typedef struct niz_chunk_function {
    char *body; /* of malloc: begins with NIZ_STRAIGHT void NAME */
    uint64_t hash;
    uint64_t work; /* about what it costs the compiler */
} niz_chunk_function;

typedef struct niz_chunk_writer {
    niz_exec *e;
    niz_chunk_code chunk; /* of the group at hand */
    niz_chunk_function *function;
    uint32_t n_functions;
    size_t function_capacity;
    uint32_t *slot; /* a hash table of functions: number + 1, or 0 */
    uint32_t n_slots;
    uint64_t work;
} niz_chunk_writer;

/** The task of chunk g, its text kept if it is new. */
bool niz_chunk_task(niz_chunk_writer *s, const niz_nest_env *env, const bool *in_param,
                    niz_lowering *l, uint32_t g);
/** Requests the texts, in several pieces if there is much; what little there is goes to the end of
 *  `text` instead.  False (error set) without memory. */
bool niz_chunk_request(niz_chunk_writer *s, niz_plan *plan, FILE *text);
void niz_chunk_writer_free(niz_chunk_writer *s);

niz_kernel_state niz_chunk_state(const niz_plan *plan);
/** Finds the tasks' functions; false if one is missing. */
bool niz_chunk_resolve(niz_plan *plan);
void niz_chunk_drop(niz_exec *e, niz_plan *plan);

#endif
