/* jit_chunk.c - the straight-line kernels of a plan: their tasks and their texts.
 *
 * Kernels of equal text are one function.  The compiler's time is in proportion to their length, so
 * they are shared out among several texts, which are compiled side by side and found again one by
 * one; where there is very much of it, it is compiled statement by statement, which is three times
 * as fast to compile and, with most of the time spent in functions that are called, not much slower
 * to run.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/jit_chunk.h"

#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/type.h"

/* In the compiler's work, of which it does about 10,000 a second (measured: gcc 12, -O1). */
#define NIZ_CHUNK_FEW 300     /* not worth a text of their own */
#define NIZ_CHUNK_TEXT 2500   /* one text */
#define NIZ_CHUNK_MANY 25000  /* more than this is compiled without optimisation ... */
#define NIZ_CHUNK_LARGE 10000 /* ... in texts of this */

/* ---- tasks ---------------------------------------------------------------------------------- */

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

static bool niz_chunk_rehash(niz_chunk_writer *s)
{
    if (2 * s->n_functions < s->n_slots) return true;
    uint32_t n = s->n_slots ? 2 * s->n_slots : 64;
    uint32_t *slot = niz_realloc(s->e->z, s->slot, sizeof *slot * n);
    if (!slot) return false;
    memset(slot, 0, sizeof *slot * n);
    s->slot = slot;
    s->n_slots = n;
    for (uint32_t f = 0; f < s->n_functions; f++) {
        uint32_t i = (uint32_t)s->function[f].hash & (n - 1);
        while (slot[i]) i = (i + 1) & (n - 1);
        slot[i] = f + 1;
    }
    return true;
}

/* The number of the function with this text, which it takes over.  NIZ_NONE: no memory. */
static uint32_t niz_chunk_function_of(niz_chunk_writer *s, char *body, size_t n)
{
    uint64_t hash = XXH3_64bits(body, n);
    if (niz_chunk_rehash(s) && niz_grow(s->e->z, &s->function, sizeof *s->function,
                                        &s->function_capacity, (size_t)s->n_functions + 1)) {
        uint32_t i = (uint32_t)hash & (s->n_slots - 1);
        while (s->slot[i] && s->function[s->slot[i] - 1].hash != hash)
            i = (i + 1) & (s->n_slots - 1);
        if (!s->slot[i]) {
            uint64_t work = niz_chunk_work(&s->chunk, niz_jit_vector_bytes(s->e));
            s->function[s->n_functions] = (niz_chunk_function){body, hash, work};
            s->work += work;
            s->slot[i] = ++s->n_functions;
            return s->n_functions - 1;
        }
        free(body);
        return s->slot[i] - 1;
    }
    free(body);
    return NIZ_NONE;
}

static uint32_t niz_chunk_write(niz_chunk_writer *s)
{
    char *body = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&body, &n);
    if (!f) return NIZ_NONE;
    niz_chunk_emit(f, &s->chunk, niz_jit_vector_bytes(s->e), "NAME");
    if (fclose(f) || !body) return NIZ_NONE;
    return niz_chunk_function_of(s, body, n);
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

void niz_chunk_writer_free(niz_chunk_writer *s)
{
    for (uint32_t f = 0; f < s->n_functions; f++) free(s->function[f].body);
    niz_free(s->e->z, s->function);
    niz_free(s->e->z, s->slot);
    s->chunk.z = s->e->z;
    niz_chunk_free(&s->chunk);
}

/* ---- texts ---------------------------------------------------------------------------------- */

/* Functions [from, to), numbered within their text so that other plans may have the same one. */
static void niz_chunk_put(const niz_chunk_writer *s, uint32_t from, uint32_t to, FILE *f)
{
    static const char head[] = "NIZ_STRAIGHT void NAME";
    for (uint32_t i = from; i < to; i++)
        fprintf(f, "NIZ_STRAIGHT void niz_c%u%s", i - from, s->function[i].body + strlen(head));
}

static struct niz_kernel *niz_chunk_text(const niz_chunk_writer *s, uint32_t from, uint32_t to)
{
    char *text = NULL;
    size_t n = 0;
    struct niz_kernel *k = NULL;
    niz_target target = s->e->jit->target;
    FILE *f = open_memstream(&text, &n);
    if (!f) return NULL;
    niz_prelude_emit(f, niz_jit_vector_bytes(s->e));
    niz_chunk_prelude_emit(f, s->work > NIZ_CHUNK_MANY);
    niz_chunk_put(s, from, to, f);
    target.straight_line = true;
    if (!fclose(f) && text)
        k = niz_kernel_request(s->e->jit->kernels, text, target, NIZ_KERNEL_ASYNC);
    free(text);
    return k;
}

/* Bounds of the texts, as numbers of functions: about even, and at least two for two compilers. */
static bool niz_chunk_share(const niz_chunk_writer *s, niz_plan *plan)
{
    uint64_t each = s->work > NIZ_CHUNK_MANY ? NIZ_CHUNK_LARGE : NIZ_CHUNK_TEXT, done = 0;
    uint64_t n = (s->work + each - 1) / each;
    if (n < 2) n = 2;
    plan->chunk_first = niz_arena_alloc(&plan->arena, sizeof *plan->chunk_first * (n + 1));
    plan->chunk_text = niz_arena_alloc(&plan->arena, sizeof *plan->chunk_text * n);
    if (!plan->chunk_first || !plan->chunk_text) return false;
    uint32_t texts = 0;
    for (uint32_t f = 0; f < s->n_functions; f++) {
        if (done >= s->work * texts / n) plan->chunk_first[texts++] = f;
        done += s->function[f].work;
    }
    plan->chunk_first[texts] = s->n_functions;
    memset(plan->chunk_text, 0, sizeof *plan->chunk_text * n);
    plan->n_chunk_texts = texts;
    return true;
}

bool niz_chunk_request(niz_chunk_writer *s, niz_plan *plan, FILE *text)
{
    plan->n_chunk_kernels = s->n_functions;
    if (!s->n_functions) return true;
    if (s->work <= NIZ_CHUNK_FEW) {
        niz_chunk_prelude_emit(text, false);
        niz_chunk_put(s, 0, s->n_functions, text);
        return true;
    }
    if (!niz_chunk_share(s, plan)) return false;
    for (uint32_t i = 0; i < plan->n_chunk_texts; i++)
        plan->chunk_text[i] = niz_chunk_text(s, plan->chunk_first[i], plan->chunk_first[i + 1]);
    for (uint32_t i = 0; i < plan->n_chunk_texts && s->e->jit->mode == NIZ_KERNEL_SYNC; i++)
        niz_kernel_wait(s->e->jit->kernels, plan->chunk_text[i]);
    return !s->e->z->status;
}

niz_kernel_state niz_chunk_state(const niz_plan *plan)
{
    niz_kernel_state all = NIZ_KERNEL_READY;
    for (uint32_t i = 0; i < plan->n_chunk_texts; i++) {
        niz_kernel_state state = niz_kernel_state_of(plan->chunk_text[i]);
        if (state == NIZ_KERNEL_FAILED) return state;
        if (state == NIZ_KERNEL_PENDING) all = state;
    }
    return all;
}

static void *niz_chunk_symbol(const niz_plan *plan, uint32_t kernel)
{
    uint32_t text = 0;
    char name[32];
    while (text + 1 < plan->n_chunk_texts && plan->chunk_first[text + 1] <= kernel) text++;
    uint32_t first = plan->n_chunk_texts ? plan->chunk_first[text] : 0;
    snprintf(name, sizeof name, "niz_c%u", kernel - first);
    return niz_kernel_symbol(plan->n_chunk_texts ? plan->chunk_text[text] : plan->text, name);
}

bool niz_chunk_resolve(niz_plan *plan)
{
    for (size_t i = 0; i < plan->compiled.n_tasks; i++) {
        niz_task *t = &plan->compiled.task[i];
        if (t->kind != NIZ_TASK_CHUNK) continue;
        void *f = niz_chunk_symbol(plan, t->loop.chunk->kernel);
        if (!f) return false;
        memcpy(&t->loop.chunk->run, &f, sizeof f);
    }
    return true;
}

void niz_chunk_drop(niz_exec *e, niz_plan *plan)
{
    for (uint32_t i = 0; i < plan->n_chunk_texts && e->jit; i++)
        if (plan->chunk_text[i]) niz_kernel_release(e->jit->kernels, plan->chunk_text[i]);
    plan->n_chunk_texts = 0;
}
