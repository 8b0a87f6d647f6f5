/* jit_chunk.h - the straight-line kernels of a plan: their tasks.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_JIT_CHUNK_H
#define NIZ_JIT_CHUNK_H

#include "codegen/chunk.h"
#include "exec/jit_text.h"

typedef struct niz_chunk_writer {
    niz_exec *e;
    niz_chunk_code chunk; /* of the group at hand */
    niz_functions functions;
} niz_chunk_writer;

void niz_chunk_writer_init(niz_chunk_writer *s, niz_exec *e);
/** The task of chunk g, its text kept if it is new. */
bool niz_chunk_task(niz_chunk_writer *s, const niz_nest_env *env, const bool *in_param,
                    niz_lowering *l, uint32_t g);
void niz_chunk_writer_free(niz_chunk_writer *s);

#endif
