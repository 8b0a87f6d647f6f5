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

static void niz_recording_free(niz *z, void *state)
{
    niz_recording *r = state;
    niz_graph_free(&r->g);
    niz_params_free(r);
    niz_op_table_free(&r->ops);
    niz_free(z, r->frame);
    niz_draws_free(r);
    niz_free(z, r);
}

niz_recording *niz_recording_new(niz *z)
{
    niz_recording *r = niz_realloc(z, NULL, sizeof *r);
    if (!r) return NULL;
    *r = (niz_recording){.z = z, .root = {.path = "", .prefix = ""}};
    r->scope = &r->root;
    r->step[0] = r->step[1] = NIZ_NO_STEP;
    r->counters.seed = z->options.seed;
    niz_op_table_init(&r->ops, z);
    niz_graph_init(&r->g, z, &r->ops);
    z->slot[NIZ_SLOT_RECORDING] = (niz_slot){r, niz_recording_free};
    return r;
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

niz_node *niz_handle_node_of(niz_recording *r, niz_at at, const char *name, niz_t t,
                             const char *what)
{
    niz_node *n = t.z == r->z ? (niz_node *)niz_handle_peek(t) : NULL;
    if (n) return n;
    const char *why = "is an empty handle, not a tensor";
    if (t.z == r->z && r->trace && t.id != NIZ_NONE)
        why = "is not a tensor of the function being compiled: give it as an input";
    else if (t.z == r->z)
        why = t.id == NIZ_NONE ? "is a tensor that an earlier error made inert"
                               : "is a tensor of a step that has ended";
    else if (t.z)
        why = "is a tensor of another context";
    else if (t.id == NIZ_NONE) /* niz_inert(NULL) */
        why = "is an empty handle: made from numbers alone, or without a context";
    niz_fail_of(r->z, at, name, NIZ_E_STALE, "%s %s", what, why);
    return NULL;
}

niz_node *niz_handle_node(niz_recording *r, niz_at at, niz_t t, const char *what)
{
    return niz_handle_node_of(r, at, NULL, t, what);
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

niz_text niz_describe(niz_t t)
{
    const niz_node *n = niz_handle_peek(t);
    return n ? niz_type_text((niz_dtype)n->dtype, n->shape) : (niz_text){"no tensor"};
}

/* ---- places --------------------------------------------------------------------------------- */

static bool niz_place_equal(const niz_place *a, const niz_place *b)
{
    return a->at.line == b->at.line && a->at.file == b->at.file && a->scope == b->scope &&
           a->of == b->of;
}

const niz_place *niz_place_now(niz_recording *r, niz_at at)
{
    niz_place here = {at, r->scope, NULL};
    const niz_place *p = r->function_depth ? &r->place : &here;
    uintptr_t mix = (uintptr_t)p->of >> 6 ^ (uintptr_t)p->scope >> 3;
    const niz_place **kept = &r->kept[((uintptr_t)p->at.line ^ mix) % NIZ_KEPT_PLACES];
    if (*kept && niz_place_equal(*kept, p)) return *kept;
    return *kept = niz_arena_copy(&r->g.arena, p, sizeof *p);
}

static void niz_places_forget(niz_recording *r)
{
    memset(r->kept, 0, sizeof r->kept);
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
    niz_guard_begin(z);
    return (niz_function_guard){z};
}

void niz_function_end(niz_function_guard *guard)
{
    if (!guard->z) return;
    niz_recording_of(guard->z)->function_depth--;
    niz_guard_end(guard->z);
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

static niz_status niz_fail_list(niz *z, niz_at at, const char *name, niz_status status,
                                const char *format, va_list args)
{
    char prefix[384];
    niz_error_prefix(z, at, name, prefix, sizeof prefix);
    return niz_context_fail(z, status, prefix, format, args);
}

niz_status niz_fail(niz *z, niz_at at, niz_status status, const char *format, ...)
{
    if (!z || z->status) return status;
    va_list args;
    va_start(args, format);
    niz_fail_list(z, at, NULL, status, format, args);
    va_end(args);
    return status;
}

niz_status niz_fail_of(niz *z, niz_at at, const char *name, niz_status status, const char *format,
                       ...)
{
    if (!z || z->status) return status;
    va_list args;
    va_start(args, format);
    niz_fail_list(z, at, name, status, format, args);
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

/* Says why not, if something is wrong. */
static bool niz_apply_fits(niz_recording *r, niz_at at, const niz_op *op, int n, int n_attr)
{
    if (n == op->arity && op->infer && (unsigned)n_attr <= NIZ_MAX_ATTR && op != &niz_op_assign)
        return true;
    if (op->arity >= 0 ? n != op->arity : n < 1 || n > NIZ_MAX_ARITY)
        niz_fail_of(r->z, at, op->name, NIZ_E_ARGUMENT, "takes %s%d operand%s, not %d",
                    op->arity >= 0 ? "" : "1 to ", op->arity >= 0 ? op->arity : NIZ_MAX_ARITY,
                    op->arity == 1 ? "" : "s", n);
    else if (n_attr < 0 || n_attr > NIZ_MAX_ATTR)
        niz_fail_of(r->z, at, op->name, NIZ_E_ARGUMENT, "has at most %d attributes, not %d",
                    NIZ_MAX_ATTR, n_attr);
    else if (!op->infer)
        niz_fail_of(r->z, at, op->name, NIZ_E_ARGUMENT, "its record has no .infer");
    else if (op == &niz_op_assign)
        niz_fail(r->z, at, NIZ_E_ARGUMENT, "a parameter is assigned by niz_assign");
    else
        return true;
    return false;
}

/* The type of an elementwise result whose operands have all one dtype and one shape, or are
 * numbers: what op->infer would find, without asking. */
static bool niz_apply_alike(const niz_recording *r, const niz_op *op, int n, const uint32_t *arg,
                            niz_dtype *dtype, const niz_shape **shape)
{
    if (!n) return false;
    const niz_node *x = &r->g.node[arg[0]];
    bool fits = op->infer == niz_infer_same_float    ? x->dtype <= NIZ_F64
                : op->infer == niz_infer_same_number ? x->dtype <= NIZ_I64
                                                     : op->infer == niz_infer_same;
    const niz_shape *s = x->shape;
    for (int i = 1; i < n; i++) {
        const niz_node *y = &r->g.node[arg[i]];
        fits = fits && y->dtype == x->dtype && (y->shape == s || !y->shape->rank || !s->rank);
        if (!s->rank) s = y->shape;
    }
    *dtype = (niz_dtype)x->dtype;
    *shape = s;
    return fits;
}

niz_t niz_apply_at(niz_at at, const niz_op *op, int n, const niz_t *x, const niz_attrs *attrs)
{
    return niz_apply_in(niz_context_of(n, x), at, op, n, x, attrs);
}

static niz_t niz_apply_typed(niz_recording *r, niz_at at, niz_node_spec *s)
{
    if (!(s->place = niz_place_now(r, at))) return niz_inert(r->z);
    r->z->stats.nodes_recorded++;
    return niz_handle(r, niz_graph_add(&r->g, s));
}

niz_t niz_apply_in(niz *z, niz_at at, const niz_op *op, int n, const niz_t *x,
                   const niz_attrs *attrs)
{
    niz_attrs attr = {attrs ? attrs->n : 0, attrs ? attrs->value : NULL};
    niz_recording *r = niz_recording_of(z);
    if (!r || z->status) return niz_inert(z);
    if (!niz_apply_fits(r, at, op, n, attr.n)) return niz_inert(z);
    uint32_t arg[NIZ_MAX_ARITY];
    for (int i = 0; i < n; i++) {
        if (!niz_handle_lives(r, x[i])) {
            niz_handle_node_of(r, at, op->name, x[i], (char[]){(char)('a' + i % 26), 0});
            return niz_inert(z);
        }
        arg[i] = x[i].id;
    }
    niz_node_spec s = {op, n, arg, attr, NIZ_F32, NULL, NULL, false};
    if (niz_apply_alike(r, op, n, arg, &s.dtype, &s.shape)) return niz_apply_typed(r, at, &s);
    niz_infer f;
    niz_type types[NIZ_MAX_ARITY];
    if (!niz_graph_infer(&r->g, &f, op, n, arg, &s.attr, types)) return niz_refuse(r, at, &f);
    s.dtype = f.dtype;
    s.shape = f.shape;
    return niz_apply_typed(r, at, &s);
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

niz_step_guard niz_step_begin(niz *z)
{
    niz_recording *r = niz_recording_of(z);
    if (!r) return (niz_step_guard){NULL};
    if (r->trace && !r->hold_assignments)
        niz_fail(z, (niz_at){0}, NIZ_E_ARGUMENT,
                 "a function that is compiled is one step: none can begin in it");
    niz_guard_begin(z);
    if (!niz_grow(z, &r->frame, sizeof *r->frame, &r->frame_capacity, r->n_frames + 1)) {
        r->frames_lost++;
        return (niz_step_guard){z};
    }
    r->frame[r->n_frames++] = (niz_frame){r->g.n, niz_arena_mark(&r->g.arena), r->scope,
                                          r->running, {r->step[0], r->step[1]}, r->n_draws};
    r->running = ++r->steps_begun;
    r->step[0] = r->step[1] = NIZ_NO_STEP;
    z->stats.steps++;
    return (niz_step_guard){z};
}

bool niz_step_has_pending(const niz_recording *r)
{
    for (size_t i = 0; i < r->n_params && r->g.n; i++)
        if (r->param[i].pending != NIZ_NONE) return true;
    return false;
}

static void niz_step_leave(niz_recording *r)
{
    niz *z = r->z;
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
    niz_draws_rewind(r, f->n_draws);
    r->running = f->running;
    memcpy(r->step, f->step, sizeof r->step);
    niz_places_forget(r);
}

void niz_step_end(niz_step_guard *guard)
{
    if (!guard->z) return;
    niz_step_leave(niz_recording_of(guard->z));
    niz_guard_end(guard->z);
}

void niz_clear_error(niz *z)
{
    if (!z || z->closing) return;
    z->status = NIZ_OK;
    z->message[0] = 0;
    niz_recording *r = z->slot[NIZ_SLOT_RECORDING].state;
    if (r) niz_params_forget(r, 0);
}

/* ---- scopes --------------------------------------------------------------------------------- */

#define NIZ_SCOPE_TEXT 1024 /* of one scope with its NUL */
#define NIZ_SCOPE_PATH 4096 /* of all of them */

/* head, text (n bytes), behind it a character */
static char *niz_scope_join(char *out, const char *head, size_t length, char between,
                            const char *text, size_t n, char after)
{
    memcpy(out, head, length);
    if (between) out[length++] = between;
    memcpy(out + length, text, n);
    out[length + n] = after;
    if (after) out[length + n + 1] = 0;
    return out;
}

static const niz_scope *niz_scope_new(niz_recording *r, const char *name, size_t n)
{
    const niz_scope *up = r->scope;
    size_t path = up->length, bytes = path + n + 2; /* the prefix has as many, "." for "/" */
    niz_mark mark = niz_arena_mark(&r->g.arena);
    niz_scope *s = niz_arena_alloc(&r->g.arena, sizeof *s + 2 * bytes);
    if (!s) return NULL;
    char *p = (char *)(s + 1), *q = p + bytes;
    niz_scope_join(p, up->path, path, path ? '/' : 0, name, n, 0);
    niz_scope_join(q, up->prefix, path ? path + 1 : 0, 0, name, n, '.');
    size_t length = path + (path != 0) + n;
    *s = (niz_scope){up, p, q, length, XXH3_64bits(p, length), mark, r->g.n};
    return s;
}

/* A scope that cannot be is its parent over again, so that begin and end still match. */
static const niz_scope *niz_scope_again(niz_recording *r)
{
    niz_scope *s = niz_arena_alloc(&r->g.arena, sizeof *s);
    if (!s) return NULL;
    *s = *r->scope;
    s->parent = r->scope;
    s->nodes = NIZ_NONE; /* it keeps its memory */
    return s;
}

static bool niz_scope_fits(niz_recording *r, int n)
{
    if (n < 0)
        niz_fail(r->z, (niz_at){0}, NIZ_E_ARGUMENT, "a scope's format cannot be printed");
    else if (n >= NIZ_SCOPE_TEXT || r->scope->length + (size_t)n >= NIZ_SCOPE_PATH)
        niz_fail(r->z, (niz_at){0}, NIZ_E_ARGUMENT,
                 "a scope's name has at most %d characters, with those around it %d",
                 NIZ_SCOPE_TEXT - 1, NIZ_SCOPE_PATH - 1);
    else
        return true;
    return false;
}

niz_scope_guard niz_scope_begin(niz *z, const char *format, ...)
{
    niz_recording *r = niz_recording_of(z);
    if (!r) return (niz_scope_guard){NULL};
    char printed[NIZ_SCOPE_TEXT];
    const char *name = printed;
    int n;
    va_list args;
    va_start(args, format);
    if (!strcmp(format, "%s")) { /* as all layers do: printing takes longer than all the rest */
        name = va_arg(args, const char *);
        n = (int)strnlen(name, NIZ_SCOPE_TEXT);
    } else {
        n = vsnprintf(printed, sizeof printed, format, args);
    }
    va_end(args);
    /* an empty name is no scope */
    const niz_scope *s = niz_scope_fits(r, n) && n ? niz_scope_new(r, name, (size_t)n) : NULL;
    if (!s && !(s = niz_scope_again(r))) return (niz_scope_guard){NULL};
    r->scope = s;
    niz_guard_begin(z);
    return (niz_scope_guard){z};
}

static void niz_scope_leave(niz_recording *r)
{
    const niz_scope *s = r->scope;
    if (!s->parent) return;
    r->scope = s->parent;
    if (r->g.n != s->nodes || r->function_depth) return;
    niz_arena_rewind(&r->g.arena, s->mark);
    niz_places_forget(r);
}

void niz_scope_end(niz_scope_guard *guard)
{
    if (!guard->z) return;
    niz_scope_leave(niz_recording_of(guard->z));
    niz_guard_end(guard->z);
}

/* ---- draws ---------------------------------------------------------------------------------- */

/* A step is numbered by its first draw, evaluation's apart from training's, so that neither steps
 * that draw nothing nor steps of evaluation shift the draws of training.  Outside of steps the
 * number is 0.  Bit 63 tells evaluation. */
static uint64_t niz_step_kind(bool training)
{
    return training ? 0 : (uint64_t)1 << 63;
}

uint64_t niz_step_take(niz_recording *r, bool training)
{
    uint64_t *count = training ? &r->counters.train_steps : &r->counters.eval_steps;
    return ++*count | niz_step_kind(training);
}

static uint64_t niz_step_number(niz_recording *r)
{
    bool training = r->z->training;
    uint64_t *step = &r->step[training];
    if (*step != NIZ_NO_STEP) return *step;
    return *step = r->n_frames ? niz_step_take(r, training) : niz_step_kind(training);
}

/* Open addressing.  Entries leave in the reverse order of their coming, so that a slot emptied
 * breaks no chain. */
static uint32_t niz_draws_slot(const niz_recording *r, uint64_t scope, uint64_t step)
{
    uint32_t mask = r->draw_table_size - 1;
    uint32_t i = (uint32_t)((scope ^ step * 0x9E3779B97F4A7C15u) >> 20) & mask;
    for (; r->draw_table[i]; i = (i + 1) & mask) {
        const struct niz_draws *d = &r->draws[r->draw_table[i] - 1];
        if (d->scope == scope && d->step == step) break;
    }
    return i;
}

void niz_draws_rewind(niz_recording *r, size_t n)
{
    while (r->n_draws > n) {
        const struct niz_draws *d = &r->draws[r->n_draws - 1];
        r->draw_table[niz_draws_slot(r, d->scope, d->step)] = 0;
        r->n_draws--;
    }
}

static bool niz_draws_grow(niz_recording *r)
{
    if (!niz_grow(r->z, &r->draws, sizeof *r->draws, &r->draws_capacity, r->n_draws + 1))
        return false;
    if (r->n_draws < r->draw_table_size / 2) return true;
    uint32_t size = r->draw_table_size ? r->draw_table_size * 2 : 64;
    uint32_t *fresh = niz_realloc(r->z, NULL, size * sizeof *fresh);
    if (!fresh) return false;
    memset(fresh, 0, size * sizeof *fresh);
    niz_free(r->z, r->draw_table);
    r->draw_table = fresh;
    r->draw_table_size = size;
    for (size_t i = 0; i < r->n_draws; i++)
        fresh[niz_draws_slot(r, r->draws[i].scope, r->draws[i].step)] = (uint32_t)i + 1;
    return true;
}

void niz_draws_free(niz_recording *r)
{
    niz_free(r->z, r->draws);
    niz_free(r->z, r->draw_table);
}

/* How many draws this scope has made before in this step. */
static bool niz_draw_ordinal(niz_recording *r, uint64_t step, uint64_t *ordinal)
{
    if (!niz_draws_grow(r)) return false;
    uint32_t *slot = &r->draw_table[niz_draws_slot(r, r->scope->hash, step)];
    if (!*slot) {
        r->draws[r->n_draws++] = (struct niz_draws){r->scope->hash, step, 0};
        *slot = (uint32_t)r->n_draws;
    }
    *ordinal = r->draws[*slot - 1].n++;
    return true;
}

/* A fixed function's draw gets the step's number and the seed at each call. */
static bool niz_trace_note(niz_recording *r, niz_t key)
{
    niz_trace *t = r->trace;
    if (key.id == NIZ_NONE ||
        !niz_grow(r->z, &t->key, sizeof(int64_t *), &t->key_capacity, t->n_keys + 1))
        return false;
    t->key[t->n_keys++] = r->g.node[key.id].data;
    return true;
}

niz_t niz_draw_key(niz *z, niz_at at)
{
    niz_recording *r = niz_recording_of(z);
    if (!r || z->status) return niz_inert(z);
    uint64_t step = niz_step_number(r), ordinal;
    if (!niz_draw_ordinal(r, step, &ordinal)) return niz_inert(z);
    int64_t key[4] = {(int64_t)r->counters.seed, (int64_t)r->scope->hash, (int64_t)step,
                      (int64_t)ordinal};
    niz_t t = niz_copy_from_at(at, z, NIZ_I64, (niz_shape){1, {4}}, key);
    bool fixed = r->trace && step == NIZ_TRACE_STEP + z->training;
    return !fixed || niz_trace_note(r, t) ? t : niz_inert(z);
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

/* Running steps take new numbers at their next draws: none is used twice. */
void niz_counters_set(niz *z, niz_counters c)
{
    niz_recording *r = niz_recording_of(z);
    if (!r) return;
    if (r->trace) {
        niz_fail(z, (niz_at){0}, NIZ_E_ARGUMENT,
                 "a function that is compiled cannot set the counters of draws");
        return;
    }
    r->counters = c;
    niz_draws_rewind(r, 0);
    r->step[0] = r->step[1] = NIZ_NO_STEP;
    for (size_t i = 0; i < r->n_frames; i++) {
        r->frame[i].step[0] = r->frame[i].step[1] = NIZ_NO_STEP;
        r->frame[i].n_draws = 0;
    }
}

/* ---- fixed functions ------------------------------------------------------------------------ */

/* The scope at hand, of no parents, in the arena of the graph that will outlive it. */
static const niz_scope *niz_trace_scope(niz_recording *r)
{
    const niz_scope *now = r->scope;
    if (!now->length) return &r->root;
    niz_scope *s = niz_arena_alloc(&r->g.arena, sizeof *s);
    char *path = niz_arena_copy(&r->g.arena, now->path, now->length + 1);
    char *prefix = niz_arena_copy(&r->g.arena, now->prefix, now->length + 2);
    if (!s || !path || !prefix) return NULL;
    *s = (niz_scope){.path = path, .prefix = prefix, .length = now->length, .hash = now->hash};
    return s;
}

bool niz_trace_begin(niz_recording *r, niz_trace *t)
{
    *t = (niz_trace){.around = r->g,
                     .outer = r->trace,
                     .scope = r->scope,
                     .place = {r->function_depth, r->function, r->place},
                     .running = r->running,
                     .step = {r->step[0], r->step[1]},
                     .n_draws = r->n_draws,
                     .n_params = r->n_params};
    t->param = niz_realloc(r->z, NULL, sizeof *t->param * (r->n_params + 1));
    if (!t->param) return false;
    niz_graph_init(&r->g, r->z, &r->ops);
    r->g.generation = t->around.generation + 1;
    const niz_scope *scope = niz_trace_scope(r);
    if (!scope) {
        niz_graph_free(&r->g);
        r->g = t->around;
        niz_free(r->z, t->param);
        return false;
    }
    for (size_t i = 0; i < r->n_params; i++)
        t->param[i] = (struct niz_trace_param){r->param[i].node, r->param[i].generation};
    r->scope = scope;
    r->function_depth = 0;
    r->running = ++r->steps_begun;
    for (int training = 0; training < 2; training++)
        r->step[training] = NIZ_TRACE_STEP + (uint64_t)training;
    r->trace = t;
    niz_places_forget(r);
    return true;
}

void niz_trace_end(niz_recording *r, niz_trace *t, niz_graph *recorded)
{
    niz_params_forget(r, 0);
    for (size_t i = 0; i < r->n_params; i++) {
        bool known = i < t->n_params;
        r->param[i].node = known ? t->param[i].node : NIZ_NONE;
        r->param[i].generation = known ? t->param[i].generation : 0;
    }
    *recorded = r->g;
    r->g = t->around;
    r->g.generation = recorded->generation + 1;
    r->scope = t->scope;
    niz_place_end(r, t->place);
    niz_draws_rewind(r, t->n_draws);
    r->running = t->running;
    memcpy(r->step, t->step, sizeof r->step);
    r->trace = t->outer;
    niz_places_forget(r);
    niz_free(r->z, t->param);
    niz_free(r->z, t->key);
}
