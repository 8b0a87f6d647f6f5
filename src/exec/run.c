/* run.c - running a plan: tasks one after another, each cut into ranges for the threads.
 *
 * All memory is taken before the first task, so a run either computes everything or changes
 * nothing: what may still fail (an index outside its axis, trap_nan) comes before the first write
 * to a parameter.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "core/context.h"
#include "core/control.h"
#include "core/type.h"
#include "codegen/nest.h"
#include "exec/profile.h"

/* Elements' operations below which another thread does not pay: about 8 us. */
#define NIZ_GRAIN 50000.0

typedef struct niz_run_state {
    niz_exec *e;
    const niz_bind *bind;
    const niz_program *program;
    const niz_task *task;
    void *buffer[NIZ_GROUP_OPERANDS + 2 * (NIZ_GROUP_READS + 2)]; /* most with nests around */
    niz_buffer x[NIZ_MAX_ARITY];
    int64_t bad_index;
    bool failed;
} niz_run_state;

static void *niz_run_scratch(const niz_run_state *s, int thread)
{
    return (char *)s->e->scratch + (size_t)thread * s->e->scratch_bytes;
}

/* An opaque or index operation: its own niz_eval a piece, over shared operands. */
static void niz_run_eval(niz_run_state *s, int64_t begin, int64_t end)
{
    const niz_task *t = s->task;
    niz_eval e = *t->loop.eval;
    e.x = s->x;
    e.y.data = s->buffer[t->n - 1];
    if (t->op->parallel) {
        e.begin = begin;
        e.end = end;
    }
    t->op->eval(&e);
    if (e.failed) {
        __atomic_store_n(&s->bad_index, e.bad_index, __ATOMIC_RELAXED);
        __atomic_store_n(&s->failed, true, __ATOMIC_RELAXED);
    }
}

/* NaN if one is; -0 < +0. */
static double niz_run_extreme(double a, double b, niz_combine how)
{
    if (isnan(a) || isnan(b)) return NAN;
    if (a == b) return (how == NIZ_COMBINE_MAX) == !signbit(a) ? a : b;
    return (how == NIZ_COMBINE_MAX) == (a > b) ? a : b;
}

/* Adjacent pairs, an odd one moving up, until one is left (in place). */
#define NIZ_TREE(T, combine)                                                                       \
    for (T *x = partial; n > 1; n = (n + 1) / 2)                                                   \
        for (int64_t i = 0; i < (n + 1) / 2; i++) {                                                \
            T a = x[2 * i], b = 2 * i + 1 < n ? x[2 * i + 1] : a;                                  \
            x[i] = 2 * i + 1 < n ? (combine) : a;                                                  \
        }
#define NIZ_TREE_OF(T)                                                                             \
    switch (how) {                                                                                 \
    case NIZ_COMBINE_SUM: NIZ_TREE(T, a + b) break;                                                \
    case NIZ_COMBINE_PROD: NIZ_TREE(T, (a) * (b)) break;                                           \
    default: NIZ_TREE(T, (T)niz_run_extreme(a, b, how))                                            \
    }

static void niz_run_tree(const niz_task *t, void *partial, void *y)
{
    int64_t n = t->loop.tree->n;
    niz_combine how = t->loop.tree->combine;
    if (t->dtype == NIZ_F32)
        NIZ_TREE_OF(float)
    else
        NIZ_TREE_OF(double)
    memcpy(y, partial, niz_dtype_size(t->dtype));
}

/* ---- nests around a contraction or convolution ----------------------------------------------- */

typedef struct niz_run_nest {
    const niz_nest_loop *nest;
    char *const *origin; /* of the nest's buffers: column 0 */
    char *buffer[NIZ_GROUP_OPERANDS];
    int64_t argument[NIZ_NEST_ARGUMENTS];
} niz_run_nest;

typedef struct niz_run_finish {
    niz_finish base;
    niz_run_nest at;
} niz_run_finish;

typedef struct niz_run_make {
    niz_make base;
    niz_run_nest at;
    int64_t stride; /* that argument says */
} niz_run_make;

static void niz_run_nest_begin(niz_run_nest *r, const niz_nest_loop *n, void *const *origin)
{
    r->nest = n;
    r->origin = (char *const *)origin;
    memcpy(r->argument, n->argument, sizeof *n->argument * (size_t)n->n_arguments);
}

/* Runs it over rows and columns of the whole, of which `tile` has the first row that is wanted; its
 * rows are `apart` bytes from each other. */
static void niz_run_nest_over(niz_run_nest *r, uintptr_t tile, int64_t apart, int64_t row,
                              int64_t rows, int64_t col, int64_t cols)
{
    const niz_nest_loop *n = r->nest;
    r->buffer[0] = (char *)(tile - (uintptr_t)(row * apart)); /* row 0 */
    for (int i = 1; i < n->n_buffers; i++) r->buffer[i] = r->origin[i] + col * n->step[i];
    r->argument[0] = cols;
    n->run(r->buffer, (const long *)r->argument, (long)row, (long)(row + rows), NULL);
}

static void niz_run_finish_rows(niz_finish *base, const void *tile, int64_t row, int64_t rows,
                                int64_t col, int64_t cols)
{
    niz_run_nest *r = &((niz_run_finish *)base)->at;
    niz_run_nest_over(r, (uintptr_t)tile, NIZ_TILE_STRIDE * r->nest->step[0], row, rows, col, cols);
}

/* The outer strides of a made operand's rows: those of a matrix `stride` wide. */
static void niz_run_make_strides(niz_run_make *m, int64_t stride)
{
    int rank = m->at.nest->rank;
    const int64_t *dim = m->at.argument + 1;
    int64_t *outer = m->at.argument + 1 + rank + 1, next = m->stride = stride;
    for (int d = rank; d-- > 0; next *= dim[d]) outer[d] = next;
}

static void niz_run_make_rows(niz_make *base, void *out, int64_t stride, int64_t row, int64_t rows,
                              int64_t col, int64_t cols)
{
    niz_run_make *m = (niz_run_make *)base;
    if (stride != m->stride) niz_run_make_strides(m, stride);
    niz_run_nest_over(&m->at, (uintptr_t)out, stride * m->at.nest->step[0], row, rows, col, cols);
}

typedef struct niz_run_around {
    niz_fused fused;
    niz_run_finish finish;
    niz_run_make make[2];
} niz_run_around;

static const niz_fused *niz_run_around_begin(const niz_run_state *s, niz_run_around *r)
{
    const niz_around *a = &s->task->around;
    void *const *buffer = s->buffer + 2;
    r->fused = (niz_fused){0};
    if (a->finish) {
        r->finish.base.run = niz_run_finish_rows;
        niz_run_nest_begin(&r->finish.at, a->finish, buffer);
        r->fused.finish = &r->finish.base;
    }
    buffer += a->finish ? a->finish->n_buffers : 1;
    for (int i = 0; i < 2; i++) {
        if (!a->make[i]) continue;
        r->make[i].base.run = niz_run_make_rows;
        r->make[i].stride = -1;
        niz_run_nest_begin(&r->make[i].at, a->make[i], buffer);
        r->fused.make[i] = &r->make[i].base;
        buffer += a->make[i]->n_buffers;
    }
    return &r->fused;
}

static bool niz_run_bit(const uint64_t *bit, uint32_t i)
{
    return bit && bit[i / 64] >> i % 64 & 1;
}

/* Single elements on their way into a chunk's array and out of it. */
#define NIZ_RUN_GATHER(T)                                                                          \
    for (uint32_t i = 0; i < c->n_in; i++)                                                         \
        ((T *)x)[i] = niz_run_bit(c->bool_in, i) ? (T)(*(const unsigned char *)NIZ_AT(in[i]) != 0) \
                                                 : *(const T *)NIZ_AT(in[i]);
#define NIZ_RUN_SCATTER(T)                                                                         \
    for (uint32_t i = 0; i < c->n_out; i++)                                                        \
        if (niz_run_bit(c->bool_out, i))                                                           \
            *(unsigned char *)NIZ_AT(out[i]) = ((const T *)y)[i] != 0;                             \
        else                                                                                       \
            *(T *)NIZ_AT(out[i]) = ((const T *)y)[i];
#define NIZ_AT(a) ((char *)base[(a).base] + (a).bytes)

static void niz_run_chunk(niz_run_state *s)
{
    const niz_task *t = s->task;
    const niz_chunk_loop *c = t->loop.chunk;
    const niz_address *in = t->buffer + c->n_pointers, *out = in + c->n_in;
    void *const *base = s->e->base;
    char **b = niz_run_scratch(s, 0), *x = (char *)(b + 2 + c->n_pointers);
    char *y = x + 8 * (size_t)c->n_in;
    NIZ_CONTROL;
    b[0] = x;
    b[1] = y;
    for (uint32_t i = 0; i < c->n_pointers; i++) b[2 + i] = NIZ_AT(t->buffer[i]);
    if (t->dtype == NIZ_F32)
        NIZ_RUN_GATHER(float)
    else
        NIZ_RUN_GATHER(double)
    c->run(b, NULL, 0, 1, NULL);
    if (t->dtype == NIZ_F32) {
        NIZ_RUN_SCATTER(float)
    } else {
        NIZ_RUN_SCATTER(double)
    }
}

static void niz_run_piece(void *state, int thread, int64_t begin, int64_t end)
{
    niz_run_state *s = state;
    const niz_task *t = s->task;
    const niz_loops *f = s->e->loops;
    void *const *b = s->buffer;
    niz_run_around around;
    switch (t->kind) {
    case NIZ_TASK_MAP: f->map(t->loop.map, b, begin, end, niz_run_scratch(s, thread)); break;
    case NIZ_TASK_COPY: f->copy(t->loop.copy, b[0], b[1], begin, end); break;
    case NIZ_TASK_REDUCE: f->reduce(t->loop.reduce, b[0], b[1], begin, end); break;
    case NIZ_TASK_CONTRACT:
        f->contract(t->loop.contract, b[0], b[1], b[2], begin, end, niz_run_scratch(s, thread),
                    niz_run_around_begin(s, &around));
        break;
    case NIZ_TASK_CONV:
        f->conv(t->loop.conv, b[0], b[1], b[2], begin, end, niz_run_scratch(s, thread),
                niz_run_around_begin(s, &around));
        break;
    case NIZ_TASK_EVAL: niz_run_eval(s, begin, end); break;
    case NIZ_TASK_NEST:
        t->loop.nest->run((char *const *)b, (const long *)t->loop.nest->argument, (long)begin,
                          (long)end, niz_run_scratch(s, thread));
        break;
    case NIZ_TASK_TREE: niz_run_tree(t, b[0], b[1]); break;
    case NIZ_TASK_CHUNK: break;
    }
}

/* ---- memory --------------------------------------------------------------------------------- */

/* Begins with a cache line. */
static bool niz_run_grow(niz *z, void **p, size_t *have, size_t need)
{
    if (need <= *have && *p) return true;
    niz_free(z, *p); /* contents are not worth copying */
    *have = 0;
    if (need < NIZ_LINES_FROM) need = NIZ_LINES_FROM;
    if (!(*p = niz_realloc(z, NULL, need))) return false;
    *have = need;
    return true;
}

/* How many threads a task of so much work is worth. */
static int niz_run_threads(const niz_exec *e, double work)
{
    double most = 1 + work / NIZ_GRAIN;
    return most < e->threads ? (int)most : e->threads;
}

static bool niz_run_memory(niz_exec *e, const niz_program *p)
{
    if (!e->pool && niz_run_threads(e, p->most_work) > 1 &&
        !(e->pool = niz_pool_open(e->z, e->threads)))
        return false;
    size_t all = 0, scratch = (size_t)p->scratch_bytes;
    scratch = (scratch + NIZ_LINE - 1) / NIZ_LINE * NIZ_LINE; /* every thread's has its own lines */
    if (scratch > e->scratch_bytes || !e->scratch) {
        e->scratch_bytes = 0;
        if (!niz_run_grow(e->z, &e->scratch, &all, scratch * (size_t)e->threads)) return false;
        e->scratch_bytes = scratch;
    }
    return niz_run_grow(e->z, &e->arena, &e->arena_bytes, (size_t)p->arena_bytes) &&
           niz_grow(e->z, &e->base, sizeof *e->base, &e->base_capacity, p->n_bases + 1);
}

static const void *niz_run_leaf(const niz_bind *bind, const niz_program *p, const niz_base *b)
{
    if (b->constant) return &p->constant[b->value];
    size_t slot = (size_t)b->value;
    return slot < bind->n_data ? bind->data[slot] : &bind->literal[slot - bind->n_data];
}

static void niz_run_bases(niz_exec *e, const niz_recording *r, const niz_program *p,
                          const niz_bind *bind, void *const *out)
{
    for (size_t i = 0; i < p->n_bases; i++) {
        const niz_base *b = &p->base[i];
        switch (b->home) {
        case NIZ_HOME_ARENA: e->base[i] = (char *)e->arena + b->value; break;
        case NIZ_HOME_OUTPUT: e->base[i] = out[b->value]; break;
        case NIZ_HOME_PARAM: e->base[i] = r->param[b->value].data; break;
        default: e->base[i] = (void *)niz_run_leaf(bind, p, b);
        }
    }
}

/* ---- errors found while running ------------------------------------------------------------- */

/* The user's line of a task: places belong to the recording of this run, not to the plan. */
static const niz_place *niz_run_place(const niz_run_state *s)
{
    return s->bind->g->node[s->bind->id[s->task->origin]].place;
}

static bool niz_run_bad_index(const niz_run_state *s)
{
    char where[256];
    /* the operation as recorded: a pass may check its index by another (choose.c) */
    const niz_node *n = &s->bind->g->node[s->bind->id[s->task->origin]];
    niz_place_text(n->place, where, sizeof where);
    niz_fail(s->e->z, (niz_at){0}, NIZ_E_INDEX, "%s%s: the index %lld is outside its axis",
             n->op->name, where, (long long)s->bad_index);
    return false;
}

static bool niz_run_is_finite(niz_dtype dtype, const void *y, int64_t n)
{
    const float *f = y;
    const double *d = y;
    for (int64_t i = 0; i < n && niz_dtype_is_float(dtype); i++)
        if (dtype == NIZ_F32 ? !isfinite(f[i]) : !isfinite(d[i])) return false;
    return true;
}

/* Whether the task made something not finite of operands that all were.  What only
 * moves elements makes nothing. */
static bool niz_run_produced(const niz_run_state *s)
{
    const niz_task *t = s->task;
    const void *y = s->buffer[t->n - 1];
    if (niz_op_form(t->op) == NIZ_FORM_INDEX || niz_run_is_finite(t->dtype, y, t->count))
        return false;
    for (int i = 0; i < t->n - 1; i++) {
        const niz_span *x = &t->span[i];
        if (!niz_run_is_finite(x->dtype, s->e->base[x->base], x->count)) return false;
    }
    return true;
}

static bool niz_run_trap(const niz_run_state *s)
{
    const niz_task *t = s->task;
    if (!niz_run_produced(s)) return true;
    char where[256];
    const niz_place *place = niz_run_place(s);
    niz_place_text(place, where, sizeof where);
    niz_fail(s->e->z, (niz_at){0}, NIZ_E_NAN, "%s%s%s gave a value that is not finite",
             place->of ? "d/" : "", t->op->name, where);
    return false;
}

/* ---- the run -------------------------------------------------------------------------------- */

static void niz_run_pieces(niz_run_state *s, int threads)
{
    const niz_task *t = s->task;
    for (int i = 0; i < t->n; i++)
        s->buffer[i] = (char *)s->e->base[t->buffer[i].base] + t->buffer[i].bytes;
    if (t->kind == NIZ_TASK_EVAL)
        for (int i = 0; i < t->n - 1; i++) {
            s->x[i] = t->loop.eval->x[i];
            s->x[i].data = s->buffer[i];
        }
    niz_parallel(s->e->pool, threads, t->units, niz_run_piece, s);
}

static bool niz_run_task(niz_run_state *s, niz_task *t)
{
    niz_profile *profile = s->e->profile;
    int threads = niz_run_threads(s->e, t->work);
    double begin = profile ? niz_profile_now(profile) : 0;
    s->task = t;
    if (t->kind == NIZ_TASK_CHUNK)
        niz_run_chunk(s);
    else
        niz_run_pieces(s, threads);
    if (profile) niz_profile_task(profile, t, niz_run_place(s), threads, begin);
    if (s->failed) return niz_run_bad_index(s);
    return !s->e->z->options.trap_nan || niz_run_trap(s);
}

bool niz_plan_run(niz_exec *e, niz_recording *r, niz_plan *plan, const niz_bind *bind,
                  void *const *out)
{
    const niz_program *p = niz_jit_ready(e, plan) ? &plan->compiled : &plan->interpreted;
    double begin = e->profile ? niz_profile_now(e->profile) : 0;
    if (!niz_run_memory(e, p)) return false;
    e->z->stats.runs_compiled += p == &plan->compiled;
    niz_run_bases(e, r, p, bind, out);
    niz_run_state s = {.e = e, .bind = bind, .program = p};
    for (size_t i = 0; i < p->n_tasks; i++)
        if (!niz_run_task(&s, &p->task[i])) return false;
    for (int i = plan->n_want; i < plan->n_out; i++) {
        niz_address a = p->commit[i];
        if (a.base == NIZ_NONE || !plan->out_bytes[i]) continue;
        memcpy(r->param[plan->commit_param[i]].data, (char *)e->base[a.base] + a.bytes,
               (size_t)plan->out_bytes[i]);
    }
    niz_profile_span(e->profile, p == &plan->compiled ? "run, compiled" : "run", begin);
    return true;
}
