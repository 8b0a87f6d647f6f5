/* jit_text.c - the functions that a plan needs, and the texts in which they are compiled.
 *
 * Functions of equal text are one.  A text is one run of the compiler and one entry of the cache.
 * Starting the compiler costs about what a small kernel does, so there is no text a kernel; but as
 * its time is in proportion to what it compiles, large plans are shared out among several texts,
 * which are compiled side by side.  How, is a matter of the plan alone, never of the machine's
 * processors, so that all machines and all runs find each other's texts.
 *
 * A plan with very much straight-line code has it compiled statement by statement, which is three
 * times as fast to compile and, with most of the time spent in functions that are called, not much
 * slower to run.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/jit_text.h"

#include <stdlib.h>
#include <string.h>

#include "codegen/chunk.h"
#include "core/context.h"

/* Of nests, in bytes: the compiler does about 80 a millisecond, and starts in 20 (gcc 12, -O2). */
#define NIZ_TEXT_NEST 12000   /* one text ... */
#define NIZ_TEXT_NESTS_MOST 8 /* ... but no more of them than this */

/* Of chunks, in operations, of which it does about 10 a millisecond (-O1). */
#define NIZ_TEXT_FEW 300     /* not worth a text of their own */
#define NIZ_TEXT_CHUNK 2500  /* one text */
#define NIZ_TEXT_MANY 25000  /* more than this is compiled without optimisation ... */
#define NIZ_TEXT_LARGE 10000 /* ... in texts of this */

/* ---- functions ------------------------------------------------------------------------------- */

static bool niz_functions_rehash(niz_functions *s)
{
    if (2 * s->n < s->n_slots) return true;
    uint32_t n = s->n_slots ? 2 * s->n_slots : 64;
    uint32_t *slot = niz_realloc(s->z, s->slot, sizeof *slot * n);
    if (!slot) return false;
    memset(slot, 0, sizeof *slot * n);
    s->slot = slot;
    s->n_slots = n;
    for (uint32_t f = 0; f < s->n; f++) {
        uint32_t i = (uint32_t)s->function[f].hash & (n - 1);
        while (slot[i]) i = (i + 1) & (n - 1);
        slot[i] = f + 1;
    }
    return true;
}

uint32_t niz_function_add(niz_functions *s, char *body, size_t n, uint64_t work)
{
    uint64_t hash = XXH3_64bits(body, n);
    if (!niz_functions_rehash(s) ||
        !niz_grow(s->z, &s->function, sizeof *s->function, &s->capacity, (size_t)s->n + 1)) {
        free(body);
        return NIZ_NONE;
    }
    uint32_t i = (uint32_t)hash & (s->n_slots - 1);
    while (s->slot[i] && s->function[s->slot[i] - 1].hash != hash) i = (i + 1) & (s->n_slots - 1);
    if (s->slot[i]) {
        free(body);
        return s->slot[i] - 1;
    }
    s->function[s->n] = (niz_function){.body = body, .hash = hash, .work = work};
    s->work += work;
    if (work > s->largest) s->largest = work;
    s->slot[i] = ++s->n;
    return s->n - 1;
}

void niz_functions_free(niz_functions *s)
{
    for (uint32_t f = 0; f < s->n; f++) {
        free(s->function[f].body);
        free(s->function[f].comment);
    }
    niz_free(s->z, s->function);
    niz_free(s->z, s->slot);
}

/* The functions of one text. */
static void niz_functions_put(const niz_functions *s, const niz_symbol *symbol, uint32_t text,
                              FILE *f)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (symbol[i].text != text) continue;
        const niz_function *x = &s->function[i];
        uint32_t number = symbol[i].number;
        if (x->comment) fprintf(f, "/* %s%u: %s */\n", s->name, number, x->comment);
        fprintf(f, "%s%s%u%s", s->before, s->name, number,
                x->body + strlen(s->before) + strlen("NAME"));
    }
}

/* ---- sharing them out ------------------------------------------------------------------------ */

typedef struct niz_share {
    uint64_t work;
    uint32_t function;
} niz_share;

static int niz_share_larger(const void *a, const void *b)
{
    const niz_share *x = a, *y = b;
    if (x->work != y->work) return x->work > y->work ? -1 : 1;
    return x->function < y->function ? -1 : x->function > y->function;
}

/* From the largest down, each to the text that has least so far. */
static void niz_share_out(const niz_share *share, uint32_t n_functions, uint64_t *load, uint32_t n,
                          uint32_t first, niz_symbol *symbol)
{
    for (uint32_t f = 0; f < n_functions; f++) {
        uint32_t least = 0;
        for (uint32_t t = 1; t < n; t++)
            if (load[t] < load[least]) least = t;
        load[least] += share[f].work;
        symbol[share[f].function].text = first + least;
    }
}

/* Numbers functions within their text, so that other plans may have the same one. */
static void niz_share_number(niz_symbol *symbol, uint32_t n_functions, uint64_t *count, uint32_t n,
                             uint32_t first)
{
    memset(count, 0, sizeof *count * n);
    for (uint32_t f = 0; f < n_functions; f++)
        symbol[f].number = (uint32_t)count[symbol[f].text - first]++;
}

/* Which of the n texts from `first` on each function is in; NULL without memory. */
static niz_symbol *niz_functions_share(const niz_functions *s, niz_plan *plan, uint32_t first,
                                       uint32_t n)
{
    niz_symbol *symbol = niz_arena_alloc(&plan->arena, sizeof *symbol * (s->n + 1));
    niz_share *share = niz_realloc(s->z, NULL, sizeof *share * (s->n + 1));
    uint64_t *load = niz_realloc(s->z, NULL, sizeof *load * (n + 1));
    if (symbol && share && load) {
        for (uint32_t f = 0; f < s->n; f++) share[f] = (niz_share){s->function[f].work, f};
        qsort(share, s->n, sizeof *share, niz_share_larger);
        memset(load, 0, sizeof *load * n);
        niz_share_out(share, s->n, load, n, first, symbol);
        niz_share_number(symbol, s->n, load, n, first);
    }
    bool ok = share && load;
    niz_free(s->z, share);
    niz_free(s->z, load);
    return ok ? symbol : NULL;
}

/* A power of two, of about equal length, so that two compilers or four end together.  More texts
 * than there are functions as large as the largest would not end sooner. */
static uint32_t niz_texts_of_nests(const niz_functions *s)
{
    uint64_t each = s->largest > NIZ_TEXT_NEST ? s->largest : NIZ_TEXT_NEST;
    uint32_t n = s->n > 0;
    while (n && n < NIZ_TEXT_NESTS_MOST && 3 * s->work > 4 * each * n) n *= 2;
    return n < s->n ? n : s->n;
}

static uint32_t niz_texts_of_chunks(const niz_functions *s)
{
    uint64_t each = s->work > NIZ_TEXT_MANY ? NIZ_TEXT_LARGE : NIZ_TEXT_CHUNK;
    uint32_t n = (uint32_t)((s->work + each - 1) / each);
    if (n < 2) n = 2; /* for two compilers */
    return n < s->n ? n : s->n;
}

/* ---- requesting ------------------------------------------------------------------------------ */

/* Few chunks go with the first nests, optimised as those are. */
static bool niz_texts_join(const niz_functions *chunks)
{
    return chunks->n && chunks->work <= NIZ_TEXT_FEW;
}

/* NIZ_DUMP=kernel: the C text but for what all texts begin with. */
static void niz_text_dump(const char *text)
{
    if (niz_pipeline_lists("NIZ_DUMP", "kernel")) fputs(text, stderr);
}

/* Text t of the plan; NULL without memory. */
static struct niz_kernel *niz_text_request(niz_exec *e, const niz_plan *plan,
                                           const niz_functions *nests, const niz_functions *chunks,
                                           uint32_t t)
{
    char *text = NULL;
    size_t n = 0;
    struct niz_kernel *k = NULL;
    niz_target target = e->jit->target;
    FILE *f = open_memstream(&text, &n);
    if (!f) return NULL;
    niz_prelude_emit(f, niz_jit_vector_bytes(e));
    fflush(f);
    size_t n_prelude = n;
    bool straight = t >= plan->n_nest_texts;
    niz_functions_put(nests, plan->nest, t, f);
    if (straight || (!t && niz_texts_join(chunks)))
        niz_chunk_prelude_emit(f, chunks->work > NIZ_TEXT_MANY);
    niz_functions_put(chunks, plan->chunk, t, f);
    target.straight_line = straight;
    if (!fclose(f) && text) {
        if (!straight) niz_text_dump(text + n_prelude);
        k = niz_kernel_request(e->jit->kernels, text, target, NIZ_KERNEL_ASYNC);
    }
    free(text);
    return k;
}

/* All are requested before the first is waited for. */
static bool niz_texts_start(niz_exec *e, niz_plan *plan, const niz_functions *nests,
                            const niz_functions *chunks, uint32_t n)
{
    if (!(plan->text = niz_arena_alloc(&plan->arena, sizeof *plan->text * (n + 1)))) return false;
    for (; plan->n_texts < n && !e->z->status; plan->n_texts++)
        plan->text[plan->n_texts] = niz_text_request(e, plan, nests, chunks, plan->n_texts);
    for (uint32_t i = 0; i < plan->n_texts && e->jit->mode == NIZ_KERNEL_SYNC; i++)
        niz_kernel_wait(e->jit->kernels, plan->text[i]);
    return !e->z->status;
}

bool niz_texts_request(niz_exec *e, niz_plan *plan, const niz_functions *nests,
                       const niz_functions *chunks)
{
    bool join = niz_texts_join(chunks);
    uint32_t n = niz_texts_of_nests(nests), m = join ? 0 : niz_texts_of_chunks(chunks);
    if (join && !n) n = 1;
    plan->n_nest_texts = n;
    plan->n_chunk_kernels = chunks->n;
    plan->nest = niz_functions_share(nests, plan, 0, n);
    plan->chunk = niz_functions_share(chunks, plan, join ? 0 : n, join ? 1 : m);
    return plan->nest && plan->chunk && niz_texts_start(e, plan, nests, chunks, n + m);
}

/* ---- once they are compiled ------------------------------------------------------------------ */

niz_kernel_state niz_texts_state(const niz_plan *plan)
{
    niz_kernel_state all = NIZ_KERNEL_READY;
    for (uint32_t i = 0; i < plan->n_texts; i++) {
        niz_kernel_state state = niz_kernel_state_of(plan->text[i]);
        if (state == NIZ_KERNEL_FAILED) return state;
        if (state == NIZ_KERNEL_PENDING) all = state;
    }
    return all;
}

static bool niz_texts_find(const niz_plan *plan, const char *kind, niz_symbol s,
                           niz_nest_function **run)
{
    char name[32];
    snprintf(name, sizeof name, "%s%u", kind, s.number);
    void *f = niz_kernel_symbol(plan->text[s.text], name);
    memcpy(run, &f, sizeof f);
    return f != NULL;
}

static bool niz_texts_find_nest(const niz_plan *plan, niz_nest_loop *nest)
{
    return !nest || niz_texts_find(plan, NIZ_TEXT_NESTS, plan->nest[nest->kernel], &nest->run);
}

bool niz_texts_resolve(niz_plan *plan)
{
    for (size_t i = 0; i < plan->compiled.n_tasks; i++) {
        niz_task *t = &plan->compiled.task[i];
        if (t->kind == NIZ_TASK_CHUNK) {
            niz_chunk_loop *chunk = t->loop.chunk;
            if (!niz_texts_find(plan, NIZ_TEXT_CHUNKS, plan->chunk[chunk->kernel], &chunk->run))
                return false;
            continue;
        }
        if (!niz_texts_find_nest(plan, t->kind == NIZ_TASK_NEST ? t->loop.nest : NULL) ||
            !niz_texts_find_nest(plan, t->around.finish) ||
            !niz_texts_find_nest(plan, t->around.make[0]) ||
            !niz_texts_find_nest(plan, t->around.make[1]))
            return false;
    }
    return true;
}

void niz_texts_drop(niz_exec *e, niz_plan *plan)
{
    for (uint32_t i = 0; i < plan->n_texts; i++)
        if (plan->text[i]) niz_kernel_release(e->jit->kernels, plan->text[i]);
    plan->n_texts = 0;
}
