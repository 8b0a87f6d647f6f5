/* jit.c - the compiled form of a plan.
 *
 * In the scheduled graph one index a row becomes a comparison (choose.c); it is fused into groups
 * (fuse.c), placed again with groups as positions, and each group written as a C function
 * (codegen/emit.c, jit_chunk.c).  The functions are shared out among a few texts (jit_text.c).
 * Until all are compiled the plan runs interpreted; the swap is between two runs and changes no
 * bit.
 *
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "codegen/nest.h"
#include "core/context.h"
#include "core/type.h"
#include "exec/exec.h"
#include "exec/jit_chunk.h"

/* Groups of one task at most: what makes two operands, and what finishes their product. */
#define NIZ_WRITER_SIDES 3

/* One plan's text being written. */
typedef struct niz_writer {
    niz_exec *e;
    const niz_work *w;
    const niz_placement *p;
    const niz_fusion *fusion;
    bool *stored, *in_param; /* of each node: it has a home; that is a parameter */
    niz_chunk_writer chunks;
    uint32_t group; /* the group at hand */
    niz_nest *nest; /* of it */
    niz_functions functions;
} niz_writer;

static const niz_map *niz_writer_map(void *state, uint32_t id)
{
    niz_writer *s = state;
    const niz_node *n = &s->w->g.node[id];
    niz_dtype in[4];
    if (n->n_arg > 4) return NULL;
    for (int i = 0; i < n->n_arg; i++) in[i] = (niz_dtype)s->w->g.node[n->arg[i]].dtype;
    return niz_map_of(s->e, n->op, n->n_arg, in, (niz_dtype)n->dtype);
}

/* What a comment may hold of a user's name: nothing that could end it or the line. */
static void niz_writer_name(FILE *f, const char *name)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+.,/";
    size_t n = strlen(name), skip = n > 60 ? n - 60 : 0; /* the end of a path says most */
    for (const char *c = name + skip; *c; c++) fputc(strchr(plain, *c) ? *c : '_', f);
}

/* The kernel's operations and the user's lines they came from, for the comment above it, which no
 * key counts; NULL without memory. */
static char *niz_writer_comment(const niz_writer *s)
{
    const niz_fusion *f = s->fusion;
    uint32_t g = s->group, n = f->start[g + 1] - f->start[g];
    const niz_group *group = &f->group[g];
    niz_at last = {0};
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    if (!to) return NULL;
    fprintf(to, "%u operations on %s\n *", n, niz_type_text(group->dtype, &group->domain).text);
    for (uint32_t k = f->start[g]; k < f->start[g + 1]; k++) {
        const niz_node *node = &s->w->g.node[f->member[k]];
        niz_at at = node->place ? node->place->at : (niz_at){0};
        if (at.file && (at.line != last.line || !last.file || strcmp(at.file, last.file))) {
            fputs(k > f->start[g] ? "\n * " : " ", to);
            niz_writer_name(to, at.file);
            fprintf(to, ":%d:", at.line);
            last = at;
        }
        fputc(' ', to);
        niz_writer_name(to, node->op->name);
    }
    fclose(to);
    return text;
}

/* The nest's function: written, or found among those of this plan.  NIZ_NONE without memory. */
static uint32_t niz_writer_function(niz_writer *s)
{
    char *body = NULL;
    size_t n = 0;
    uint32_t before = s->functions.n;
    FILE *f = open_memstream(&body, &n);
    if (!f) return NIZ_NONE;
    niz_nest_emit(f, s->nest, niz_jit_vector_bytes(s->e), "NAME");
    if (fclose(f) || !body) return NIZ_NONE;
    uint32_t i = niz_function_add(&s->functions, body, n, n);
    if (s->functions.n > before) s->functions.function[i].comment = niz_writer_comment(s);
    return i;
}

static bool niz_writer_trees(niz_writer *s, niz_lowering *l, const niz_task *nest_task,
                             const niz_address *partial)
{
    const niz_nest *n = s->nest;
    uint32_t origin = nest_task->origin;
    for (int i = 0; i < n->n_stores; i++) {
        const niz_nest_store *store = &n->store[i];
        if (!store->partial) continue;
        uint32_t node = n->access[store->access].node;
        niz_task *t = niz_lower_task(l, origin, 2);
        if (!t || !(t->loop.tree = niz_lower_alloc(l, sizeof *t->loop.tree))) return false;
        t->kind = NIZ_TASK_TREE;
        t->units = 1;
        t->op = s->w->g.node[node].op;
        t->dtype = n->dtype;
        t->count = 1;
        t->loop.tree->combine = (niz_combine)n->value[store->value].code;
        t->loop.tree->n = niz_nest_units(n);
        t->buffer[0] = partial[i];
        t->buffer[1] = niz_lower_root(l, node, 0);
    }
    return true;
}

/* Names a task after the nodes of its groups. */
static bool niz_writer_describe(niz_writer *s, niz_lowering *l, niz_task *t, int n_groups,
                                const uint32_t *group)
{
    const niz_fusion *f = s->fusion;
    uint32_t node[NIZ_WRITER_SIDES * NIZ_GROUP_NODES], n = 0;
    for (int i = 0; i < n_groups; i++)
        for (uint32_t k = f->start[group[i]]; k < f->start[group[i] + 1]; k++)
            node[n++] = f->member[k];
    return niz_lower_describe(l, t, n, node);
}

/* Builds the nest of group g.  False: it does not fit (no error is set), or is wrong. */
static bool niz_writer_build(niz_writer *s, uint32_t g)
{
    niz_nest_env env = {s->w, s->p->layout, s->fusion, s->stored, niz_writer_map, s};
    char why[160];
    s->group = g;
    if (!niz_nest_build(&env, g, s->nest)) return false;
    const char *fault = niz_nest_verify(s->nest, why, sizeof why);
    if (fault) {
        niz_fail(s->e->z, (niz_at){0}, NIZ_E_INTERNAL, "a wrong nest: %s", fault);
        return false;
    }
    if (niz_pipeline_lists("NIZ_DUMP", "nest")) niz_nest_print(stderr, s->nest);
    return true;
}

/* The nest at hand as a function and its arguments. */
static niz_nest_loop *niz_writer_loop(niz_writer *s, niz_lowering *l)
{
    const niz_nest *n = s->nest;
    int64_t argument[NIZ_NEST_ARGUMENTS];
    niz_nest_loop *loop = niz_lower_alloc(l, sizeof *loop);
    if (!loop) return NULL;
    loop->n_buffers = n->n_accesses;
    loop->n_arguments = niz_nest_arguments(n, argument);
    loop->argument = niz_lower_alloc(l, sizeof *argument * (size_t)loop->n_arguments);
    if (!loop->argument || (loop->kernel = niz_writer_function(s)) == NIZ_NONE) return NULL;
    memcpy(loop->argument, argument, sizeof *argument * (size_t)loop->n_arguments);
    return loop;
}

_Static_assert(NIZ_NEST_TILE == NIZ_TILE_STRIDE, "a tile's rows");

/* The nest of group g, around a contraction or convolution.  Its first buffer is the rectangle at
 * hand, the thread's own. */
static niz_nest_loop *niz_writer_around(niz_writer *s, niz_lowering *l, uint32_t g, double *work)
{
    if (!niz_writer_build(s, g)) return NULL;
    const niz_nest *n = s->nest;
    niz_nest_loop *loop = niz_writer_loop(s, l);
    if (!loop) return NULL;
    loop->rank = n->rank;
    loop->step = niz_lower_alloc(l, sizeof *loop->step * (size_t)n->n_accesses);
    loop->buffer = niz_lower_alloc(l, sizeof *loop->buffer * (size_t)n->n_accesses);
    if (!loop->step || !loop->buffer) return NULL;
    for (int a = 0; a < n->n_accesses; a++) {
        const niz_access *x = &n->access[a];
        loop->step[a] = x->inner * (int64_t)niz_dtype_size(x->dtype);
        if (a) loop->buffer[a] = niz_lower_root(l, x->node, x->offset);
    }
    *work += (double)niz_nest_elements(n) * (1 + n->n_values / 4);
    return loop;
}

/* A contraction or convolution with what makes its operands and finishes its results. */
static bool niz_writer_tile(niz_writer *s, niz_lowering *l, uint32_t g)
{
    const niz_fusion *f = s->fusion;
    uint32_t id = niz_fusion_tile(f, g), group[NIZ_WRITER_SIDES];
    niz_around around = {0};
    double work = 0;
    int n = 0;
    for (int i = 0; i < 2; i++) {
        uint32_t panel = niz_fusion_panel(f, id, i);
        if (panel == NIZ_NONE) continue;
        around.made[i] = f->panel[f->group[panel].panel].across ? NIZ_MADE_ACROSS : NIZ_MADE_ALONG;
        if (!(around.make[i] = niz_writer_around(s, l, panel, &work))) return false;
        group[n++] = panel;
    }
    group[n++] = g;
    if (f->group[g].kind == NIZ_GROUP_TILE && !(around.finish = niz_writer_around(s, l, g, &work)))
        return false;
    niz_task *t = niz_lower_tile(l, id, &around);
    if (!t) return false;
    t->work += work;
    return niz_writer_describe(s, l, t, n, group);
}

static bool niz_writer_nest(niz_writer *s, niz_lowering *l, uint32_t g)
{
    niz_address partial[NIZ_NEST_STORES];
    if (!niz_writer_build(s, g)) return false;
    const niz_nest *n = s->nest;
    uint32_t first = s->fusion->member[s->fusion->start[g]];
    niz_nest_loop *loop = niz_writer_loop(s, l);
    if (!loop) return false;
    niz_task *t = niz_lower_task(l, s->w->g.node[first].origin, n->n_accesses);
    if (!t) return false;
    t->kind = NIZ_TASK_NEST;
    t->loop.nest = loop;
    t->units = niz_nest_units(n);
    t->work = (double)niz_nest_elements(n) * (1 + n->n_values / 4);
    for (int a = 0; a < n->n_accesses; a++)
        t->buffer[a] = niz_lower_root(l, n->access[a].node, n->access[a].offset);
    for (int i = 0; i < n->n_stores; i++)
        if (n->store[i].partial) {
            partial[i] = niz_lower_extra(l, t->units * (int64_t)niz_dtype_size(n->dtype));
            t->buffer[n->store[i].access] = partial[i];
        }
    niz_lower_scratch(l, niz_nest_scratch(n, niz_jit_vector_bytes(s->e)));
    return niz_writer_describe(s, l, t, 1, &g) && niz_writer_trees(s, l, t, partial);
}

static bool niz_writer_group(void *state, niz_lowering *l, uint32_t g)
{
    niz_writer *s = state;
    niz_nest_env env = {s->w, s->p->layout, s->fusion, s->stored, niz_writer_map, s};
    switch (s->fusion->group[g].kind) {
    case NIZ_GROUP_CHUNK: return niz_chunk_task(&s->chunks, &env, s->in_param, l, g);
    case NIZ_GROUP_ALONE: /* with panels */
    case NIZ_GROUP_TILE: return niz_writer_tile(s, l, g);
    default: return niz_writer_nest(s, l, g);
    }
}

static bool niz_writer_begin(niz_writer *s)
{
    niz *z = s->e->z;
    s->stored = niz_realloc(z, NULL, s->w->g.n + 1);
    s->in_param = niz_realloc(z, NULL, s->w->g.n + 1);
    s->nest = niz_realloc(z, NULL, sizeof *s->nest);
    if (!s->stored || !s->in_param || !s->nest) return false;
    for (uint32_t id = 0; id < s->w->g.n; id++) {
        s->stored[id] = s->p->place[id].home != NIZ_HOME_NONE;
        s->in_param[id] = s->p->place[id].home == NIZ_HOME_PARAM;
    }
    if (niz_pipeline_lists("NIZ_DUMP", "fuse"))
        niz_fusion_print(stderr, s->w, s->p->layout, s->fusion, s->stored);
    return true;
}

static void niz_writer_end(niz_writer *s)
{
    niz_free(s->e->z, s->stored);
    niz_free(s->e->z, s->in_param);
    niz_free(s->e->z, s->nest);
    niz_chunk_writer_free(&s->chunks);
    niz_functions_free(&s->functions);
}

static bool niz_jit_lower(niz_exec *e, niz_plan *plan, const niz_work *w, const niz_fusion *fusion,
                          const niz_placement *p)
{
    niz_writer s = {.e = e, .w = w, .p = p, .fusion = fusion};
    s.functions = (niz_functions){.z = e->z, .before = "void ", .name = NIZ_TEXT_NESTS};
    niz_chunk_writer_init(&s.chunks, e);
    bool ok = niz_writer_begin(&s) &&
              niz_lower(e, plan, &plan->compiled, w, p,
                        &(niz_lower_options){fusion, niz_writer_group, &s}) &&
              niz_texts_request(e, plan, &s.functions, &s.chunks.functions);
    if (ok && plan->n_texts) {
        plan->next_waiting = e->jit->waiting;
        e->jit->waiting = plan;
        e->z->stats.plans_pending++;
    }
    niz_writer_end(&s);
    return ok;
}

/* Fuses, places and writes a graph whose order stands. */
static bool niz_jit_fuse(niz_exec *e, niz_plan *plan, const niz_work *w)
{
    niz_fusion fusion;
    niz_placement p;
    niz_layout_of *layout = niz_realloc(e->z, NULL, sizeof *layout * (w->g.n + 1));
    if (!layout) return false;
    for (uint32_t id = 0; id < w->g.n; id++) niz_view_of(&w->g, id, layout);
    niz_writer s = {.e = e, .w = w};
    bool ok = niz_fuse(e->z, w, layout, niz_writer_map, &s, niz_pipeline_lists("NIZ_DUMP", "fuse"),
                       &fusion);
    niz_free(e->z, layout);
    if (!ok) return false;
    ok = niz_place_all(&(niz_pass_env){e->z, niz_recording_of(e->z), NULL}, w, &fusion,
                       !e->z->options.trap_nan, &p);
    if (ok) {
        ok = niz_jit_lower(e, plan, w, &fusion, &p);
        niz_placement_free(e->z, &p);
    }
    niz_fusion_free(e->z, &fusion);
    return ok;
}

bool niz_jit_make(niz_exec *e, niz_plan *plan, const niz_work *w)
{
    niz_work chosen;
    bool changes = niz_choose_applies(w), ok = true;
    if (changes)
        ok = niz_pass_make(&(niz_pass_env){e->z, niz_recording_of(e->z), NULL}, &niz_pass_choose, w,
                           &chosen);
    if (ok) {
        ok = niz_jit_fuse(e, plan, changes ? &chosen : w);
        if (changes) niz_work_free(&chosen);
    }
    plan->tried =
        ok || !e->z->status; /* what does not fit a nest's limits is interpreted for good */
    if (ok) return true;
    niz_jit_drop(e, plan);
    niz_free(e->z, plan->compiled.task);
    plan->compiled = (niz_program){0};
    e->z->stats.plans_refused += !e->z->status;
    return !e->z->status;
}

bool niz_jit_at_once(const niz_exec *e)
{
    return e->jit && e->jit->mode == NIZ_KERNEL_SYNC;
}

/* ---- kernels --------------------------------------------------------------------------------- */

static niz_jit_mode niz_jit_wanted(niz *z)
{
    const char *how = secure_getenv("NIZ_JIT");
    if (z->options.trap_nan) return NIZ_JIT_OFF;
    if (z->options.jit != NIZ_JIT_DEFAULT) return z->options.jit;
    if (!how || !*how || !strcmp(how, "async")) return NIZ_JIT_ASYNC;
    if (!strcmp(how, "sync")) return NIZ_JIT_SYNC;
    if (!strcmp(how, "off")) return NIZ_JIT_OFF;
    niz_remark(z, "NIZ_JIT is async, sync or off, not %.40s: async it is", how);
    return NIZ_JIT_ASYNC;
}

bool niz_jit_open(niz_exec *e)
{
    niz_jit_mode mode = niz_jit_wanted(e->z);
    if (mode == NIZ_JIT_OFF) return true;
    niz_jit *j = niz_realloc(e->z, NULL, sizeof *j);
    if (!j) return false;
    *j = (niz_jit){.kernels = niz_kernels_open(e->z, NULL),
                   .mode = mode == NIZ_JIT_SYNC ? NIZ_KERNEL_SYNC : NIZ_KERNEL_ASYNC};
    j->target.isa = niz_compiler_isa(e->loops->isa);
    j->vector_bytes = 16 << j->target.isa; /* sse2, avx2, avx512 */
    e->jit = j;
    if (j->kernels) return true;
    niz_jit_close(e);
    return false;
}

void niz_jit_close(niz_exec *e)
{
    if (!e->jit) return;
    if (e->jit->kernels) niz_kernels_close(e->jit->kernels);
    niz_free(e->z, e->jit);
    e->jit = NULL;
}

int niz_jit_vector_bytes(const niz_exec *e)
{
    return e->jit->vector_bytes;
}

/* Takes what the compiler has done into use.  All plans that wait are looked at, not just the one
 * that is to run: one that never runs again would count as waiting for ever. */
static void niz_jit_settle(niz_exec *e)
{
    for (niz_plan **link = &e->jit->waiting; *link;) {
        niz_plan *plan = *link;
        niz_kernel_state state = niz_texts_state(plan);
        if (state == NIZ_KERNEL_PENDING) {
            link = &plan->next_waiting;
            continue;
        }
        *link = plan->next_waiting;
        e->z->stats.plans_pending--;
        plan->ready = state == NIZ_KERNEL_READY && niz_texts_resolve(plan);
        if (!plan->ready) niz_texts_drop(e, plan); /* the interpreter it is, for good */
    }
}

bool niz_jit_ready(niz_exec *e, const niz_plan *plan)
{
    if (e->jit && e->jit->waiting) niz_jit_settle(e);
    return plan->ready;
}

void niz_jit_drop(niz_exec *e, niz_plan *plan)
{
    if (!e->jit) return;
    niz_plan **link = &e->jit->waiting;
    while (*link && *link != plan) link = &(*link)->next_waiting;
    e->z->stats.plans_pending -= *link != NULL;
    if (*link) *link = plan->next_waiting;
    niz_texts_drop(e, plan);
}
