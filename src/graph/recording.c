/* recording.c - the funnel through which every node is recorded, and the steps around it.
 *
 * All errors of builders are made here (niz_apply_at, niz_fail), so that every message has the
 * same parts: operation, the user's line, scope, reason, operands.
 *
 * SPDX-License-Identifier: MIT */
#include "graph/recording.h"

#include <string.h>

#include "core/hash.h"
#include "core/type.h"

#define NIZ_EVAL_STEP ((uint64_t)1 << 63)

static void niz_recording_free(niz *z, void *state)
{
    niz_recording *r = state;
    niz_graph_free(&r->g);
    niz_params_free(r);
    niz_op_table_free(&r->ops);
    niz_free(z, r->frame);
    niz_free(z, r->draws);
    niz_free(z, r);
}

static niz_recording *niz_recording_new(niz *z)
{
    niz_recording *r = niz_realloc(z, NULL, sizeof *r);
    if (!r) return NULL;
    *r = (niz_recording){.z = z, .root = {.path = "", .prefix = ""}};
    r->scope = &r->root;
    r->counters.seed = z->options.seed;
    niz_op_table_init(&r->ops, z);
    niz_graph_init(&r->g, z, &r->ops);
    z->slot[NIZ_SLOT_RECORDING] = (niz_slot){r, niz_recording_free};
    return r;
}

niz_recording *niz_recording_of(niz *z)
{
    if (!z) return NULL;
    niz_recording *r = z->slot[NIZ_SLOT_RECORDING].state;
    return r ? r : niz_recording_new(z);
}

/* ---- handles -------------------------------------------------------------------------------- */

niz_t niz_inert(niz *z)
{
    return (niz_t){z, NIZ_NONE, 0};
}

niz_t niz_handle(const niz_recording *r, uint32_t id)
{
    if (id == NIZ_NONE) return niz_inert(r->z);
    return (niz_t){r->z, id, r->g.node[id].generation};
}

static const niz_node *niz_handle_peek(niz_t t)
{
    const niz_recording *r = t.z ? t.z->slot[NIZ_SLOT_RECORDING].state : NULL;
    if (!r || t.id >= r->g.n || r->g.node[t.id].generation != t.generation) return NULL;
    return &r->g.node[t.id];
}

niz_node *niz_handle_node(niz_recording *r, niz_at at, niz_t t, const char *what)
{
    if (t.z == r->z) {
        niz_node *n = (niz_node *)niz_handle_peek(t);
        if (n) return n;
        niz_fail(r->z, at, NIZ_E_STALE, t.id == NIZ_NONE
                     ? "%s is a tensor that an earlier error made inert"
                     : "%s is a tensor of a step that has ended", what);
    } else {
        niz_fail(r->z, at, NIZ_E_STALE, t.z ? "%s is a tensor of another context"
                                            : "%s is an empty handle, not a tensor", what);
    }
    return NULL;
}

bool niz_is_valid(niz_t t)
{
    return niz_handle_peek(t) != NULL;
}

niz_shape niz_shape_of(niz_t t)
{
    const niz_node *n = niz_handle_peek(t);
    return n ? *n->shape : (niz_shape){0};
}

niz_dtype niz_dtype_of(niz_t t)
{
    const niz_node *n = niz_handle_peek(t);
    return n ? (niz_dtype)n->dtype : NIZ_F32;
}

/* ---- places --------------------------------------------------------------------------------- */

static bool niz_place_equal(const niz_place *a, const niz_place *b)
{
    return a->at.line == b->at.line && a->at.file == b->at.file && a->scope == b->scope &&
           a->of == b->of;
}

const niz_place *niz_place_now(niz_recording *r, niz_at at)
{
    niz_place p = r->function_depth ? r->place : (niz_place){at, r->scope, NULL};
    if (r->kept && niz_place_equal(r->kept, &p)) return r->kept;
    return r->kept = niz_arena_copy(&r->g.arena, &p, sizeof p);
}

niz_place_state niz_place_begin(niz_recording *r, const niz_place *place, const niz_op *of)
{
    niz_place_state s = {r->function_depth, r->function, r->place};
    r->function_depth = 1;
    r->function = NULL;
    r->place = *place;
    if (of && !r->place.of) r->place.of = of;
    return s;
}

void niz_place_end(niz_recording *r, niz_place_state s)
{
    r->function_depth = s.depth;
    r->function = s.function;
    r->place = s.place;
}

void niz_place_text(const niz_place *p, char *out, size_t size)
{
    size_t n = 0;
    out[0] = 0;
    if (p->at.file) n = (size_t)snprintf(out, size, " at %s:%d", p->at.file, p->at.line);
    if (p->scope && p->scope->path[0] && n < size)
        snprintf(out + n, size - n, " (%s)", p->scope->path);
}

niz_function_guard niz_function_begin(niz *z, niz_at at, const char *name)
{
    niz_recording *r = niz_recording_of(z);
    if (!r) return (niz_function_guard){NULL};
    if (r->function_depth++ == 0) {
        r->place = (niz_place){at, r->scope, NULL};
        r->function = name;
    }
    return (niz_function_guard){z};
}

void niz_function_end(niz_function_guard *guard)
{
    if (guard->z) niz_recording_of(guard->z)->function_depth--;
}

/* ---- errors --------------------------------------------------------------------------------- */

/* "matmul at mlp.c:41 (net/fc1): " */
static void niz_error_prefix(niz *z, niz_at at, const char *name, char *out, size_t size)
{
    const niz_recording *r = z->slot[NIZ_SLOT_RECORDING].state;
    niz_place p = {at, r ? r->scope : NULL, NULL};
    if (r && r->function_depth) {
        p = r->place;
        if (r->function) name = r->function;
    }
    char where[256];
    niz_place_text(&p, where, sizeof where);
    if (!name && !where[0])
        out[0] = 0;
    else
        snprintf(out, size, "%s%s%s: ", p.of ? "d/" : "", name ? name : "libniz", where);
}

niz_status niz_fail(niz *z, niz_at at, niz_status status, const char *format, ...)
{
    if (!z || z->status) return status;
    char prefix[384];
    niz_error_prefix(z, at, NULL, prefix, sizeof prefix);
    va_list args;
    va_start(args, format);
    niz_context_fail(z, status, prefix, format, args);
    va_end(args);
    return status;
}

static void niz_message_set(niz *z, niz_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    niz_context_fail(z, status, "", format, args);
    va_end(args);
}

/* An application refused: its reason and its operands. */
static niz_t niz_refuse(niz_recording *r, niz_at at, const niz_infer *f)
{
    char prefix[384], operands[512] = "";
    size_t n = 0;
    niz_error_prefix(r->z, at, f->op->name, prefix, sizeof prefix);
    for (int i = 0; i < f->n && i < 6 && n < sizeof operands; i++)
        n += (size_t)snprintf(operands + n, sizeof operands - n, "%s%c %s", i ? ", " : ": ",
                              'a' + i, niz_type_text(f->x[i].dtype, f->x[i].shape).text);
    niz_message_set(r->z, f->status ? f->status : NIZ_E_ARGUMENT, "%s%s%s", prefix, f->why,
                    operands);
    return niz_inert(r->z);
}

/* ---- recording ------------------------------------------------------------------------------ */

static bool niz_apply_fits(niz_recording *r, niz_at at, const niz_op *op, int n, niz_attrs attr)
{
    if (op->arity >= 0 ? n != op->arity : n < 1 || n > NIZ_MAX_ARITY)
        niz_fail(r->z, at, NIZ_E_ARGUMENT, "%s takes %d operands, not %d", op->name,
                 op->arity >= 0 ? op->arity : NIZ_MAX_ARITY, n);
    else if (attr.n < 0 || attr.n > NIZ_MAX_ATTR)
        niz_fail(r->z, at, NIZ_E_ARGUMENT, "%s has at most %d attributes, not %d", op->name,
                 NIZ_MAX_ATTR, attr.n);
    else if (!op->infer)
        niz_fail(r->z, at, NIZ_E_ARGUMENT, "the record of %s has no .infer", op->name);
    else if (op == &niz_op_assign)
        niz_fail(r->z, at, NIZ_E_ARGUMENT, "a parameter is assigned by niz_assign");
    else
        return true;
    return false;
}

niz_t niz_apply_at(niz_at at, const niz_op *op, int n, const niz_t *x, const niz_attrs *attrs)
{
    return niz_apply_in(niz_context_of(n, x), at, op, n, x, attrs ? *attrs : (niz_attrs){0});
}

niz_t niz_apply_in(niz *z, niz_at at, const niz_op *op, int n, const niz_t *x, niz_attrs attr)
{
    niz_recording *r = niz_recording_of(z);
    if (!r || z->status) return niz_inert(z);
    if (!niz_apply_fits(r, at, op, n, attr)) return niz_inert(z);
    uint32_t arg[NIZ_MAX_ARITY];
    for (int i = 0; i < n; i++) {
        char what[2] = {(char)('a' + i % 26), 0};
        if (x[i].z != z || x[i].id >= r->g.n || r->g.node[x[i].id].generation != x[i].generation)
            if (!niz_handle_node(r, at, x[i], what)) return niz_inert(z);
        arg[i] = x[i].id;
    }
    niz_infer f;
    niz_type types[NIZ_MAX_ARITY];
    if (!niz_graph_infer(&r->g, &f, op, n, arg, attr, types)) return niz_refuse(r, at, &f);
    const niz_place *place = niz_place_now(r, at);
    if (!place) return niz_inert(z);
    z->stats.nodes_recorded++;
    return niz_handle(r, niz_graph_add(&r->g, &(niz_node_spec){op, n, arg, attr, f.dtype, f.shape,
                                                               place, false}));
}

niz_t niz_leaf(niz_recording *r, niz_at at, const niz_op *op, niz_attrs attr, niz_dtype dtype,
               const niz_shape *shape)
{
    const niz_place *place = niz_place_now(r, at);
    if (!place) return niz_inert(r->z);
    r->z->stats.nodes_recorded++;
    bool is_private = op != &niz_op_literal;
    return niz_handle(r, niz_graph_add(&r->g, &(niz_node_spec){op, 0, NULL, attr, dtype, shape,
                                                               place, is_private}));
}

niz_t niz_literal(niz *z, niz_at at, niz_dtype dtype, double value)
{
    niz_recording *r = niz_recording_of(z);
    if (!r || z->status) return niz_inert(z);
    int64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return niz_leaf(r, at, &niz_op_literal, (niz_attrs){1, &bits}, dtype, &(niz_shape){0});
}

/* ---- steps ---------------------------------------------------------------------------------- */

/* Evaluation counts its own steps, so that it never shifts the draws of training. */
static uint64_t niz_step_count(niz_recording *r)
{
    return r->z->training ? ++r->counters.train_steps : ++r->counters.eval_steps | NIZ_EVAL_STEP;
}

niz_step_guard niz_step_begin(niz *z)
{
    niz_recording *r = niz_recording_of(z);
    if (!r) return (niz_step_guard){NULL};
    if (!niz_grow(z, &r->frame, sizeof *r->frame, &r->frame_capacity, r->n_frames + 1)) {
        r->frames_lost++;
        return (niz_step_guard){z};
    }
    r->frame[r->n_frames++] =
        (niz_frame){r->g.n, niz_arena_mark(&r->g.arena), r->scope, r->step};
    r->step = niz_step_count(r);
    z->stats.steps++;
    return (niz_step_guard){z};
}

static bool niz_step_has_pending(const niz_recording *r)
{
    for (size_t i = 0; i < r->n_params; i++)
        if (r->param[i].pending != NIZ_NONE) return true;
    return false;
}

void niz_step_end(niz_step_guard *guard)
{
    niz *z = guard->z;
    niz_recording *r = niz_recording_of(z);
    if (!r) return;
    if (r->frames_lost) {
        r->frames_lost--;
        return;
    }
    if (!z->status && !r->hold_assignments && niz_step_has_pending(r))
        niz_run_at((niz_at){0}, z, 0, NULL);
    const niz_frame *f = &r->frame[--r->n_frames];
    niz_params_forget(r, f->nodes);
    niz_graph_rewind(&r->g, f->nodes);
    niz_arena_rewind(&r->g.arena, f->mark);
    r->g.generation++;
    r->scope = f->scope;
    while (r->n_draws && r->draws[r->n_draws - 1].step == r->step) r->n_draws--;
    r->step = f->step;
    r->kept = NULL;
}

void niz_clear_error(niz *z)
{
    if (!z) return;
    z->status = NIZ_OK;
    z->message[0] = 0;
    niz_recording *r = z->slot[NIZ_SLOT_RECORDING].state;
    if (r) niz_params_forget(r, 0);
}

/* ---- scopes and draws ----------------------------------------------------------------------- */

static const niz_scope *niz_scope_new(niz_recording *r, const char *name)
{
    const niz_scope *up = r->scope;
    size_t n = strlen(name), path = strlen(up->path), prefix = strlen(up->prefix);
    niz_mark mark = niz_arena_mark(&r->g.arena);
    niz_scope *s = niz_arena_alloc(&r->g.arena, sizeof *s);
    char *p = niz_arena_alloc(&r->g.arena, path + n + 2);
    char *q = niz_arena_alloc(&r->g.arena, prefix + n + 2);
    if (!s || !p || !q) return NULL;
    snprintf(p, path + n + 2, "%s%s%s", up->path, path ? "/" : "", name);
    snprintf(q, prefix + n + 2, "%s%s.", up->prefix, name);
    *s = (niz_scope){up, p, q, XXH3_64bits(p, strlen(p)), mark, r->g.n};
    return s;
}

/* A scope without memory is its parent over again, so that begin and end still match. */
niz_scope_guard niz_scope_begin(niz *z, const char *format, ...)
{
    niz_recording *r = niz_recording_of(z);
    if (!r) return (niz_scope_guard){NULL};
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const niz_scope *s = niz_scope_new(r, name);
    niz_scope *same = s ? NULL : niz_arena_alloc(&r->g.arena, sizeof *same);
    if (same) {
        *same = *r->scope;
        same->parent = r->scope;
        same->nodes = NIZ_NONE; /* it keeps its memory */
        s = same;
    }
    if (!s) return (niz_scope_guard){NULL};
    r->scope = s;
    return (niz_scope_guard){z};
}

void niz_scope_end(niz_scope_guard *guard)
{
    niz_recording *r = guard->z ? niz_recording_of(guard->z) : NULL;
    const niz_scope *s = r ? r->scope : NULL;
    if (!s || !s->parent) return;
    r->scope = s->parent;
    if (r->g.n != s->nodes || r->function_depth) return;
    niz_arena_rewind(&r->g.arena, s->mark);
    r->kept = NULL;
}

/* How many draws this scope has made before in this step.  Counts of inner steps lie behind those of
 * outer ones and go with their step. */
static bool niz_draw_ordinal(niz_recording *r, uint64_t *ordinal)
{
    for (size_t i = r->n_draws; i-- > 0;)
        if (r->draws[i].scope == r->scope->hash && r->draws[i].step == r->step) {
            *ordinal = r->draws[i].n++;
            return true;
        }
    if (!niz_grow(r->z, &r->draws, sizeof *r->draws, &r->draws_capacity, r->n_draws + 1))
        return false;
    r->draws[r->n_draws++] = (struct niz_draws){r->scope->hash, r->step, 1};
    *ordinal = 0;
    return true;
}

niz_t niz_draw_key(niz *z, niz_at at)
{
    niz_recording *r = niz_recording_of(z);
    uint64_t ordinal;
    if (!r || z->status || !niz_draw_ordinal(r, &ordinal)) return niz_inert(z);
    int64_t key[4] = {(int64_t)r->counters.seed, (int64_t)r->scope->hash, (int64_t)r->step,
                      (int64_t)ordinal};
    return niz_copy_from_at(at, z, NIZ_I64, (niz_shape){1, {4}}, key);
}

void niz_seed(niz *z, uint64_t seed)
{
    niz_counters_set(z, (niz_counters){.seed = seed});
}

niz_counters niz_counters_get(const niz *z)
{
    const niz_recording *r = z ? z->slot[NIZ_SLOT_RECORDING].state : NULL;
    return r ? r->counters : (niz_counters){.seed = z ? z->options.seed : 0};
}

void niz_counters_set(niz *z, niz_counters c)
{
    niz_recording *r = niz_recording_of(z);
    if (!r) return;
    r->counters = c;
    r->n_draws = 0;
}
