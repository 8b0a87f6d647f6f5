/* jit_chunk.c - the straight-line kernels of a plan: their tasks.  What becomes of their texts is
 * jit_text.c's.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/jit_chunk.h"

#include <stdlib.h>

#include "core/context.h"
#include "core/type.h"

void niz_chunk_writer_init(niz_chunk_writer *s, niz_exec *e)
{
    *s = (niz_chunk_writer){
        .e = e, .functions = {.z = e->z, .before = "NIZ_STRAIGHT void ", .name = NIZ_TEXT_CHUNKS}};
}

void niz_chunk_writer_free(niz_chunk_writer *s)
{
    niz_functions_free(&s->functions);
    s->chunk.z = s->e->z;
    niz_chunk_free(&s->chunk);
}

/* In the compiler's operations. */
static uint64_t niz_chunk_work(const niz_chunk_code *c, int vector_bytes)
{
    uint64_t work = 8;
    int lanes = vector_bytes / (c->dtype == NIZ_F32 ? 4 : 8);
    for (uint32_t i = 0; i < c->n_values; i++) {
        const niz_chunk_value *v = &c->value[i];
        if (v->kind >= NIZ_CHUNK_LANE || v->kind == NIZ_CHUNK_POINTER)
            work += (uint64_t)((v->count + lanes - 1) / lanes);
    }
    return work + c->n_stores;
}

static uint32_t niz_chunk_write(niz_chunk_writer *s)
{
    char *body = NULL;
    size_t n = 0;
    int vector_bytes = niz_jit_vector_bytes(s->e);
    FILE *f = open_memstream(&body, &n);
    if (!f) return NIZ_NONE;
    niz_chunk_emit(f, &s->chunk, vector_bytes, "NAME");
    if (fclose(f) || !body) return NIZ_NONE;
    return niz_function_add(&s->functions, body, n, niz_chunk_work(&s->chunk, vector_bytes));
}

static void niz_chunk_addresses(const niz_lowering *l, const niz_chunk_accesses *a, niz_address *to)
{
    for (uint32_t i = 0; i < a->n; i++)
        to[i] = niz_lower_root(l, a->access[i].node, a->access[i].offset);
}

/* The few single elements that are bool. */
static uint64_t *niz_chunk_bools(niz_lowering *l, const niz_chunk_accesses *a)
{
    uint64_t *bit = NULL;
    for (uint32_t i = 0; i < a->n; i++) {
        if (a->access[i].dtype != NIZ_BOOL) continue;
        if (!bit) bit = niz_lower_alloc(l, sizeof *bit * (a->n / 64 + 1));
        if (!bit) return NULL;
        bit[i / 64] |= (uint64_t)1 << i % 64;
    }
    return bit;
}

bool niz_chunk_task(niz_chunk_writer *s, const niz_nest_env *env, const bool *in_param,
                    niz_lowering *l, uint32_t g)
{
    niz_chunk_code *c = &s->chunk;
    char why[160];
    c->z = s->e->z;
    if (!niz_chunk_build(env, in_param, g, c)) return false;
    const char *fault = niz_chunk_verify(c, why, sizeof why);
    if (fault) {
        niz_fail(s->e->z, (niz_at){0}, NIZ_E_INTERNAL, "a wrong chunk: %s", fault);
        return false;
    }
    if (niz_pipeline_lists("NIZ_DUMP", "chunk")) niz_chunk_print(stderr, c);
    uint32_t first = env->fusion->member[env->fusion->start[g]], n = c->pointer.n;
    niz_task *t = niz_lower_task(l, env->w->g.node[first].origin, (int)(n + c->in.n + c->out.n));
    niz_chunk_loop *loop = niz_lower_alloc(l, sizeof *loop);
    if (!t || !loop) return false;
    *loop = (niz_chunk_loop){.kernel = niz_chunk_write(s),
                             .n_pointers = n,
                             .n_in = c->in.n,
                             .n_out = c->out.n,
                             .bool_in = niz_chunk_bools(l, &c->in),
                             .bool_out = niz_chunk_bools(l, &c->out)};
    if (loop->kernel == NIZ_NONE) return false;
    t->kind = NIZ_TASK_CHUNK;
    t->loop.chunk = loop;
    t->dtype = c->dtype;
    t->units = 1;
    niz_chunk_addresses(l, &c->pointer, t->buffer);
    niz_chunk_addresses(l, &c->in, t->buffer + n);
    niz_chunk_addresses(l, &c->out, t->buffer + n + c->in.n);
    niz_lower_scratch(l, 8 * (int64_t)(2 + n + c->in.n + c->out.n));
    const uint32_t *start = env->fusion->start + g;
    return niz_lower_describe(l, t, start[1] - start[0], env->fusion->member + start[0]) &&
           !s->e->z->status;
}
