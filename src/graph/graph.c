/* graph.c - see graph.h.  SPDX-License-Identifier: MIT */
#include "graph/graph.h"

#include <string.h>

#include "core/context.h"
#include "core/hash.h"
#include "core/type.h"

void niz_graph_init(niz_graph *g, niz *z, niz_op_table *ops)
{
    *g = (niz_graph){.z = z, .ops = ops};
    niz_arena_init(&g->arena, z);
}

void niz_graph_free(niz_graph *g)
{
    niz_graph_rewind(g, 0);
    niz_free(g->z, g->node);
    niz_free(g->z, g->table);
    niz_arena_free(&g->arena);
    *g = (niz_graph){.z = g->z};
}

/* ---- operations met ------------------------------------------------------------------------- */

void niz_op_table_init(niz_op_table *t, niz *z)
{
    *t = (niz_op_table){.z = z};
}

void niz_op_table_free(niz_op_table *t)
{
    niz_free(t->z, t->slot);
    *t = (niz_op_table){.z = t->z};
}

static uint32_t niz_op_slot(const niz_op_table *t, const niz_op *op)
{
    uint32_t mask = t->capacity - 1;
    uint32_t i = (uint32_t)(((uintptr_t)op >> 4) * 0x9E3779B97F4A7C15u >> 32) & mask;
    while (t->slot[i].op && t->slot[i].op != op) i = (i + 1) & mask;
    return i;
}

static bool niz_op_table_grow(niz_op_table *t)
{
    niz_op_table more = {.z = t->z, .capacity = t->capacity ? t->capacity * 2 : 128, .n = t->n};
    more.slot = niz_realloc(t->z, NULL, sizeof *more.slot * more.capacity);
    if (!more.slot) return false;
    memset(more.slot, 0, sizeof *more.slot * more.capacity);
    for (uint32_t i = 0; i < t->capacity; i++)
        if (t->slot[i].op) more.slot[niz_op_slot(&more, t->slot[i].op)] = t->slot[i];
    niz_free(t->z, t->slot);
    *t = more;
    return true;
}

const niz_op *niz_op_table_find(const niz_op_table *t, const char *name, size_t length)
{
    for (uint32_t i = 0; i < t->capacity; i++) {
        const char *met = t->slot[i].op ? t->slot[i].name : NULL;
        if (met && strlen(met) == length && !memcmp(met, name, length)) return t->slot[i].op;
    }
    return NULL;
}

/* The first meeting of an operation in this context. */
static uint64_t niz_op_table_add(niz_op_table *t, const niz_op *op)
{
    const niz_op *other = niz_op_find(op->name);
    if (!other || other == op) other = niz_op_table_find(t, op->name, strlen(op->name));
    if (other) {
        niz_fail(t->z, (niz_at){0}, NIZ_E_ARGUMENT,
                 "two different operations have the name \"%s\"; give yours another", op->name);
        return 0;
    }
    if (t->n + 1 > t->capacity / 2 && !niz_op_table_grow(t)) return 0;
    uint32_t i = niz_op_slot(t, op);
    t->slot[i].op = op;
    t->slot[i].name = op->name;
    t->slot[i].map = op->map;
    t->slot[i].hash = XXH3_64bits(op->name, strlen(op->name)) | 1;
    t->n++;
    return t->slot[i].hash;
}

/* The slow half: an operation not met yet, or one whose record has changed. */
static uint64_t niz_op_table_meet(niz_op_table *t, const niz_op *op)
{
    if (!t->capacity || !t->slot[niz_op_slot(t, op)].op) return niz_op_table_add(t, op);
    niz_fail(t->z, (niz_at){0}, NIZ_E_ARGUMENT,
             "the record of \"%s\" is not what it was: a record must outlive the context and never "
             "change",
             op->name);
    return 0;
}

static uint64_t niz_op_table_hash(niz_op_table *t, const niz_op *op)
{
    if (t->capacity) {
        uint32_t i = niz_op_slot(t, op);
        bool same = t->slot[i].name == op->name && t->slot[i].map == op->map;
        if (t->slot[i].op && same) return t->slot[i].hash;
    }
    return niz_op_table_meet(t, op);
}

/* ---- hashes --------------------------------------------------------------------------------- */

/* What a node computes, but for its operands. */
static uint64_t niz_node_sig(uint64_t op_hash, const niz_node_spec *s)
{
    const int64_t *dim = s->shape->dim, *attr = s->attr.value;
    int rank = s->shape->rank, n = s->attr.n;
    uint64_t head = (uint64_t)s->dtype << 16 | (uint64_t)rank << 8 | (uint64_t)n;
    uint64_t h = niz_mix(op_hash, head, rank & 1 ? (uint64_t)dim[0] : 0);
    for (int d = rank & 1; d < rank; d += 2) h = niz_mix(h, (uint64_t)dim[d], (uint64_t)dim[d + 1]);
    for (int i = 0; i < n; i++) h = niz_mix(h, (uint64_t)attr[i], (uint64_t)i);
    return h;
}

static uint32_t niz_node_hash(uint64_t sig, int n, const uint32_t *arg)
{
    uint64_t h = sig;
    for (int i = 0; i < n; i += 2) h = niz_mix(h, arg[i], i + 1 < n ? arg[i + 1] : NIZ_NONE);
    return (uint32_t)(h >> 32);
}

/* There are one or two words of these: a call of memcmp takes longer than comparing them. */
static bool niz_args_equal(const uint32_t *a, const uint32_t *b, int n)
{
    for (int i = 0; i < n; i++)
        if (a[i] != b[i]) return false;
    return true;
}

static bool niz_words_equal(const int64_t *a, const int64_t *b, int n)
{
    for (int i = 0; i < n; i++)
        if (a[i] != b[i]) return false;
    return true;
}

static bool niz_dims_equal(const niz_shape *a, const niz_shape *b)
{
    return a == b || (a->rank == b->rank && niz_words_equal(a->dim, b->dim, a->rank));
}

static bool niz_node_is(const niz_node *n, uint64_t sig, const niz_node_spec *s)
{
    return n->sig == sig && n->op == s->op && n->dtype == s->dtype && n->n_arg == s->n &&
           n->n_attr == s->attr.n && niz_args_equal(n->arg, s->arg, s->n) &&
           niz_dims_equal(n->shape, s->shape) && niz_words_equal(n->attr, s->attr.value, s->attr.n);
}

/* ---- equal nodes --------------------------------------------------------------------------------
 *
 * An equal node has the same newest operand.  A node remembers the first that was made with it as
 * the newest; most have no second, so that a new node is mostly seen to be new by one look at an
 * operand that was just written.  Further ones, and nodes without operands, are in a table (open
 * addressing).
 *
 * There the first slot is near those of the nodes just recorded (users of one operand spread over
 * 1024 slots), so that the part of the table in use stays in the nearest cache; from then on the
 * steps are the hash's own.  The table is a power of two and steps are odd: they come to every
 * slot. */

static uint32_t niz_merge_newest(int n, const uint32_t *arg)
{
    if (!n) return NIZ_NONE;
    uint32_t newest = arg[0];
    for (int i = 1; i < n; i++)
        if (arg[i] > newest) newest = arg[i];
    return newest;
}

static uint32_t niz_merge_first(uint32_t hash, uint32_t newest)
{
    return newest == NIZ_NONE ? hash : newest * 3 + (hash & 1023);
}

static uint32_t niz_merge_next(uint32_t slot, uint32_t hash)
{
    return slot + (hash >> 10 | 1);
}

static bool niz_merge_is_user(const niz_graph *g, uint32_t newest, uint32_t id)
{
    return newest != NIZ_NONE && g->node[newest].user == id;
}

/* The slot of node id, or the empty one where it would be. */
static struct niz_merge_slot *niz_merge_slot_of(const niz_graph *g, uint32_t id, uint32_t newest,
                                                uint32_t *hash)
{
    const niz_node *n = &g->node[id];
    *hash = niz_node_hash(n->sig, n->n_arg, n->arg);
    uint32_t mask = g->table_size - 1, i = niz_merge_first(*hash, newest) & mask;
    while (g->table[i].id != id && g->table[i].id != NIZ_NONE) i = niz_merge_next(i, *hash) & mask;
    return &g->table[i];
}

static void niz_merge_put(niz_graph *g, uint32_t id)
{
    const niz_node *n = &g->node[id];
    uint32_t newest = niz_merge_newest(n->n_arg, n->arg), hash;
    if (niz_merge_is_user(g, newest, id)) return;
    struct niz_merge_slot *slot = niz_merge_slot_of(g, id, newest, &hash);
    *slot = (struct niz_merge_slot){hash, id};
    g->table_used++;
}

/* Entries go in again in the order of their ids, which keeps "last in, first out" true: removing
 * the newest entry is then just emptying its slot. */
static void niz_merge_fill(niz_graph *g)
{
    g->table_used = 0;
    if (g->table_size) memset(g->table, 0xff, sizeof *g->table * g->table_size);
    for (uint32_t id = 0; id < g->n; id++) {
        if (g->node[id].user >= g->n) g->node[id].user = NIZ_NONE;
        if (!(g->node[id].flags & NIZ_NODE_PRIVATE)) niz_merge_put(g, id);
    }
}

static bool niz_merge_grow(niz_graph *g)
{
    uint32_t size = g->table_size ? g->table_size * 2 : 1024;
    struct niz_merge_slot *fresh = niz_realloc(g->z, NULL, sizeof *fresh * size);
    if (!fresh) return false;
    niz_free(g->z, g->table);
    g->table = fresh;
    g->table_size = size;
    niz_merge_fill(g);
    return true;
}

static void niz_merge_remove(niz_graph *g, uint32_t id)
{
    const niz_node *n = &g->node[id];
    uint32_t newest = niz_merge_newest(n->n_arg, n->arg), hash;
    if (niz_merge_is_user(g, newest, id)) {
        g->node[newest].user = NIZ_NONE;
        return;
    }
    niz_merge_slot_of(g, id, newest, &hash)->id = NIZ_NONE;
    g->table_used--;
}

/* ---- nodes ---------------------------------------------------------------------------------- */

/* Equal neighbours share their shape: of an operand, or of the node before. */
static const niz_shape *niz_shape_keep(niz_graph *g, const niz_node_spec *s)
{
    for (int i = 0; i < s->n; i++)
        if (niz_dims_equal(g->node[s->arg[i]].shape, s->shape)) return g->node[s->arg[i]].shape;
    if (g->n && niz_dims_equal(g->node[g->n - 1].shape, s->shape)) return g->node[g->n - 1].shape;
    return niz_arena_copy(&g->arena, s->shape, sizeof *s->shape);
}

static uint32_t niz_node_new(niz_graph *g, const niz_node_spec *s, uint64_t sig)
{
    if (g->n >= g->capacity &&
        !niz_grow(g->z, &g->node, sizeof *g->node, &g->capacity, (size_t)g->n + 1))
        return NIZ_NONE;
    const niz_shape *shape = niz_shape_keep(g, s);
    uint32_t *arg = niz_arena_alloc(&g->arena, sizeof *arg * (size_t)s->n);
    int64_t *attr = s->attr.n ? niz_arena_copy(&g->arena, s->attr.value,
                                               sizeof *attr * (size_t)s->attr.n)
                              : NULL;
    if (!shape || !arg || (s->attr.n && !attr)) return NIZ_NONE;
    for (int i = 0; i < s->n; i++) arg[i] = s->arg[i];
    g->node[g->n] = (niz_node){
        .op = s->op,
        .shape = shape,
        .attr = attr,
        .arg = arg,
        .place = s->place,
        .sig = sig,
        .generation = g->generation,
        .user = NIZ_NONE,
        .origin = NIZ_NONE,
        .dtype = (uint8_t)s->dtype,
        .flags = (uint8_t)((s->is_private ? NIZ_NODE_PRIVATE : 0) |
                           (s->op->form == NIZ_FORM_LEAF ? NIZ_NODE_LEAF : 0)),
        .n_arg = (uint8_t)s->n,
        .n_attr = (uint8_t)s->attr.n,
    };
    return g->n++;
}

/* Finds the equal node in the table, or puts a new one there. */
static uint32_t niz_merge_add(niz_graph *g, const niz_node_spec *s, uint64_t sig, uint32_t newest)
{
    if (g->table_used + 1 > g->table_size / 2 && !niz_merge_grow(g)) return NIZ_NONE;
    uint32_t hash = niz_node_hash(sig, s->n, s->arg), mask = g->table_size - 1;
    uint32_t i = niz_merge_first(hash, newest) & mask;
    for (; g->table[i].id != NIZ_NONE; i = niz_merge_next(i, hash) & mask)
        if (g->table[i].hash == hash && niz_node_is(&g->node[g->table[i].id], sig, s))
            return g->table[i].id;
    uint32_t id = niz_node_new(g, s, sig);
    if (id == NIZ_NONE) return NIZ_NONE;
    g->table[i] = (struct niz_merge_slot){hash, id};
    g->table_used++;
    return id;
}

uint32_t niz_graph_add(niz_graph *g, const niz_node_spec *s)
{
    uint64_t op_hash = niz_op_table_hash(g->ops, s->op);
    if (!op_hash) return NIZ_NONE;
    uint64_t sig = niz_node_sig(op_hash, s);
    if (s->is_private) return niz_node_new(g, s, sig);
    uint32_t newest = niz_merge_newest(s->n, s->arg);
    if (newest == NIZ_NONE) return niz_merge_add(g, s, sig, newest);
    uint32_t user = g->node[newest].user;
    if (user == NIZ_NONE) {
        user = niz_node_new(g, s, sig);
        g->node[newest].user = user;
        return user;
    }
    return niz_node_is(&g->node[user], sig, s) ? user : niz_merge_add(g, s, sig, newest);
}

bool niz_graph_infer(const niz_graph *g, niz_infer *f, const niz_op *op, int n, const uint32_t *arg,
                     const niz_attrs *attr, niz_type types[NIZ_MAX_ARITY])
{
    for (int i = 0; i < n; i++) {
        const niz_node *x = &g->node[arg[i]];
        types[i] = (niz_type){(niz_dtype)x->dtype, x->shape};
    }
    f->op = op;
    f->n = n;
    f->x = types;
    f->attr.n = attr->n;
    f->attr.value = attr->value;
    f->shape = NULL;
    f->status = NIZ_OK;
    f->why[0] = 0;
    if (!op->infer(f)) return false;
    const char *fault = f->shape == &f->made ? niz_shape_fault(f->shape) : NULL;
    return fault ? niz_infer_fail(f, NIZ_E_SHAPE, "%s", fault) : true;
}

/* Where most of a table's nodes go it is emptied and filled again: a slot costs far less to clear
 * than a node to find. */
void niz_graph_rewind(niz_graph *g, uint32_t n)
{
    if (g->n <= n) return;
    bool refill = g->n - n > n + g->table_size / 16;
    while (g->n > n) {
        niz_node *node = &g->node[g->n - 1];
        if (!refill && !(node->flags & NIZ_NODE_PRIVATE)) niz_merge_remove(g, g->n - 1);
        if (node->flags & NIZ_NODE_OWNED) niz_free(g->z, node->data);
        g->n--;
    }
    if (refill) niz_merge_fill(g);
}

bool niz_infer_fail(niz_infer *f, niz_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(f->why, sizeof f->why, format, args);
    va_end(args);
    f->status = status;
    return false;
}
