/* chunk.c - building and checking chunks.  SPDX-License-Identifier: MIT */
#include "codegen/chunk.h"

#include <string.h>

#include "core/context.h"
#include "core/type.h"

typedef struct niz_chunker {
    const niz_nest_env *env;
    const bool *in_param;
    niz_chunk_code *c;
    uint32_t group;
    bool failed;
} niz_chunker;

/* ---- values --------------------------------------------------------------------------------- */

static uint32_t niz_chunk_add(niz_chunker *b, niz_chunk_value v)
{
    niz_chunk_code *c = b->c;
    if (b->failed ||
        !niz_grow(c->z, &c->value, sizeof *c->value, &c->value_capacity, (size_t)c->n_values + 1)) {
        b->failed = true;
        return 0;
    }
    c->value[c->n_values] = v;
    return c->n_values++;
}

static uint32_t niz_chunk_access_add(niz_chunker *b, niz_chunk_accesses *a, niz_chunk_access x)
{
    if (!niz_grow(b->c->z, &a->access, sizeof *a->access, &a->capacity, (size_t)a->n + 1)) {
        b->failed = true;
        return 0;
    }
    a->access[a->n] = x;
    return a->n++;
}

static niz_chunk_accesses *niz_chunk_loads(niz_chunk_code *c, niz_chunk_kind kind)
{
    return kind == NIZ_CHUNK_POINTER ? &c->pointer : &c->in;
}

/* The load of this memory, found or added: as truth, or as a number of the chunk's dtype. */
static uint32_t niz_chunk_load(niz_chunker *b, niz_chunk_access x)
{
    niz_chunk_code *c = b->c;
    niz_dtype dtype = x.dtype == NIZ_BOOL ? NIZ_BOOL : c->dtype;
    niz_chunk_kind kind = x.count > 1 || x.dtype != dtype ? NIZ_CHUNK_POINTER : NIZ_CHUNK_IN;
    uint64_t h = ((uint64_t)x.node << 20 ^ (uint64_t)x.offset) * 0x9e3779b97f4a7c15u;
    uint32_t mask = c->n_slots - 1, i = (uint32_t)(h >> 32) & mask;
    for (; c->slot[i]; i = (i + 1) & mask) {
        const niz_chunk_value *v = &c->value[c->slot[i] - 1];
        const niz_chunk_access *y = &niz_chunk_loads(c, v->kind)->access[v->x[0]];
        if (y->node == x.node && y->offset == x.offset && y->count == x.count)
            return c->slot[i] - 1;
    }
    uint32_t access = niz_chunk_access_add(b, niz_chunk_loads(c, kind), x);
    uint32_t v = niz_chunk_add(b, (niz_chunk_value){
                                      .kind = (uint8_t)kind,
                                      .count = x.count,
                                      .dtype = dtype,
                                      .x = {access},
                                  });
    c->slot[i] = v + 1;
    return v;
}

static uint32_t niz_chunk_constant(niz_chunker *b, niz_dtype dtype, double v)
{
    return niz_chunk_add(
        b, (niz_chunk_value){.kind = NIZ_CHUNK_CONST, .count = 1, .dtype = dtype, .constant = v});
}

/* Element `lane` of a value of this chunk. */
static uint32_t niz_chunk_lane(niz_chunker *b, uint32_t x, int64_t lane)
{
    const niz_chunk_value *v = &b->c->value[x];
    if (v->count == 1) return x;
    return niz_chunk_add(b, (niz_chunk_value){.kind = NIZ_CHUNK_LANE,
                                              .count = 1,
                                              .lane = (uint8_t)lane,
                                              .dtype = v->dtype,
                                              .x = {x}});
}

static uint32_t niz_chunk_operand(niz_chunker *b, uint32_t x)
{
    const niz_graph *g = &b->env->w->g;
    const niz_layout_of *l = &b->env->layout[x];
    bool single = niz_chunk_is_single(&l->view);
    niz_dtype dtype = (niz_dtype)g->node[x].dtype;
    if (b->env->fusion->group_of[l->root] == b->group) {
        uint32_t v = b->c->of[l->root];
        return single ? niz_chunk_lane(b, v, l->view.offset) : v;
    }
    if (g->node[l->root].op == &niz_op_literal && (dtype == b->c->dtype || dtype == NIZ_BOOL)) {
        double v;
        memcpy(&v, g->node[l->root].attr, sizeof v);
        return niz_chunk_constant(b, dtype, v);
    }
    uint8_t count = single ? 1 : (uint8_t)niz_shape_count(&l->view.shape);
    return niz_chunk_load(b, (niz_chunk_access){l->root, l->view.offset, dtype, count});
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static uint32_t niz_chunk_map(niz_chunker *b, const niz_map *map, const uint32_t *x)
{
    uint32_t of[4 + NIZ_MAP_LIMIT];
    memcpy(of, x, sizeof *x * (size_t)map->n_in);
    for (int i = 0; i < map->n && !b->failed; i++) {
        const niz_map_instr *in = &map->instr[i];
        niz_dtype dtype = (niz_dtype)in->dtype;
        if (in->code == NIZ_MAP_CONST) {
            of[map->n_in + i] = niz_chunk_constant(b, dtype, in->value);
            continue;
        }
        if (in->code == NIZ_MAP_CAST && b->c->value[of[in->x[0]]].dtype == dtype) {
            of[map->n_in + i] = of[in->x[0]]; /* its load has converted it */
            continue;
        }
        niz_chunk_value v = {.kind = NIZ_CHUNK_MAP, .code = in->code, .count = 1, .dtype = dtype};
        for (int a = 0; a < niz_map_arity((niz_map_code)in->code); a++) {
            v.x[a] = of[in->x[a]];
            if (b->c->value[v.x[a]].count > 1) v.count = b->c->value[v.x[a]].count;
        }
        of[map->n_in + i] = niz_chunk_add(b, v);
    }
    return of[map->result];
}

static void niz_chunk_keep(niz_chunker *b, uint32_t id, uint32_t value)
{
    niz_chunk_code *c = b->c;
    const niz_node *n = &b->env->w->g.node[id];
    uint8_t count = (uint8_t)niz_shape_count(n->shape);
    if (!niz_grow(c->z, &c->store, sizeof *c->store, &c->store_capacity, (size_t)c->n_stores + 1)) {
        b->failed = true;
        return;
    }
    niz_chunk_store s = {.value = value, .after = c->n_values, .single = count == 1};
    s.last = b->in_param[id];
    s.access = niz_chunk_access_add(b, s.single ? &c->out : &c->pointer,
                                    (niz_chunk_access){id, 0, (niz_dtype)n->dtype, count});
    c->store[c->n_stores++] = s;
}

static bool niz_chunk_node(niz_chunker *b, uint32_t id)
{
    const niz_node *n = &b->env->w->g.node[id];
    uint32_t x[4] = {0}, y;
    for (int i = 0; i < n->n_arg; i++) x[i] = niz_chunk_operand(b, n->arg[i]);
    if (b->failed) return false;
    if (niz_op_form(n->op) == NIZ_FORM_REDUCE) {
        const niz_shape *s = b->env->w->g.node[n->arg[0]].shape;
        y = niz_chunk_add(b, (niz_chunk_value){.kind = NIZ_CHUNK_FOLD,
                                               .code = (uint8_t)n->op->combine,
                                               .count = 1,
                                               .lane = (uint8_t)niz_shape_count(s),
                                               .dtype = (niz_dtype)n->dtype,
                                               .x = {x[0]}});
    } else {
        const niz_map *map = b->env->map(b->env->state, id);
        if (!map) return false;
        y = niz_chunk_map(b, map, x);
    }
    b->c->of[id] = y;
    if (b->env->stored[id]) niz_chunk_keep(b, id, y);
    return !b->failed;
}

/* Room for the loads of n nodes, and for all nodes' values. */
static bool niz_chunk_room(niz_chunk_code *c, uint32_t nodes, uint32_t n)
{
    for (c->n_slots = 16; c->n_slots < 8 * n;) c->n_slots *= 2;
    if (!niz_grow(c->z, &c->of, sizeof *c->of, &c->of_capacity, (size_t)nodes + 1) ||
        !niz_grow(c->z, &c->slot, sizeof *c->slot, &c->slot_capacity, c->n_slots))
        return false;
    memset(c->slot, 0, sizeof *c->slot * c->n_slots);
    return true;
}

bool niz_chunk_build(const niz_nest_env *env, const bool *in_param, uint32_t g, niz_chunk_code *c)
{
    const niz_fusion *f = env->fusion;
    niz_chunker b = {.env = env, .in_param = in_param, .c = c, .group = g};
    c->dtype = f->group[g].dtype;
    c->n_values = c->n_stores = c->pointer.n = c->in.n = c->out.n = 0;
    bool ok = niz_chunk_room(c, env->w->g.n, f->start[g + 1] - f->start[g]);
    for (uint32_t k = f->start[g]; k < f->start[g + 1] && ok; k++)
        ok = niz_chunk_node(&b, f->member[k]);
    return ok && !b.failed;
}

void niz_chunk_free(niz_chunk_code *c)
{
    void *all[] = {c->value, c->store, c->pointer.access, c->in.access, c->out.access,
                   c->of,    c->slot};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) niz_free(c->z, all[i]);
    *c = (niz_chunk_code){0};
}

/* ---- checking and printing ------------------------------------------------------------------- */

static int niz_chunk_arity(const niz_chunk_value *v)
{
    return v->kind == NIZ_CHUNK_MAP ? niz_map_arity((niz_map_code)v->code)
                                    : v->kind == NIZ_CHUNK_FOLD || v->kind == NIZ_CHUNK_LANE;
}

static const char *niz_chunk_fault(const niz_chunk_code *c, uint32_t i)
{
    const niz_chunk_value *v = &c->value[i];
    if (v->dtype != c->dtype && v->dtype != NIZ_BOOL) return "a wrong dtype";
    if (v->count < 1 || v->count > NIZ_CHUNK_WIDTH) return "a wrong count";
    if (v->kind == NIZ_CHUNK_POINTER && v->x[0] >= c->pointer.n) return "no such pointer";
    if (v->kind == NIZ_CHUNK_IN && v->x[0] >= c->in.n) return "no such element";
    for (int a = 0; a < niz_chunk_arity(v); a++) {
        if (v->x[a] >= i) return "an operand does not come before it";
        int count = c->value[v->x[a]].count;
        if (v->kind == NIZ_CHUNK_MAP && count != 1 && count != v->count) return "counts differ";
        if (v->kind == NIZ_CHUNK_FOLD && count != 1 && count != v->lane) return "counts differ";
        if (v->kind == NIZ_CHUNK_LANE && v->lane >= count) return "no such element";
    }
    return NULL;
}

const char *niz_chunk_verify(const niz_chunk_code *c, char *why, size_t size)
{
    for (uint32_t i = 0; i < c->n_values; i++) {
        const char *fault = niz_chunk_fault(c, i);
        if (!fault) continue;
        snprintf(why, size, "value %%%u: %s", i, fault);
        return why;
    }
    for (uint32_t i = 0; i < c->n_stores; i++) {
        const niz_chunk_store *s = &c->store[i];
        const niz_chunk_accesses *a = s->single ? &c->out : &c->pointer;
        if (s->value < c->n_values && s->access < a->n &&
            a->access[s->access].dtype == c->value[s->value].dtype)
            continue;
        snprintf(why, size, "store %u", i);
        return why;
    }
    return NULL;
}

static void niz_chunk_print_value(FILE *f, const niz_chunk_code *c, const niz_chunk_value *v)
{
    static const char *const fold[] = {"sum", "prod", "max", "min"};
    switch ((niz_chunk_kind)v->kind) {
    case NIZ_CHUNK_POINTER: {
        niz_dtype memory = c->pointer.access[v->x[0]].dtype;
        fprintf(f, "load.%d @%u", v->count, v->x[0]);
        if (memory != v->dtype) fprintf(f, " %s", niz_dtype_name(memory));
        return;
    }
    case NIZ_CHUNK_IN: fprintf(f, "load.1 in %u", v->x[0]); return;
    case NIZ_CHUNK_CONST: fprintf(f, "const.1 %g", v->constant); return;
    case NIZ_CHUNK_LANE: fprintf(f, "lane.1 %d %%%u", v->lane, v->x[0]); return;
    case NIZ_CHUNK_FOLD: fprintf(f, "%s.1 %%%u", fold[v->code], v->x[0]); return;
    case NIZ_CHUNK_MAP: break;
    }
    fprintf(f, "%s.%d", niz_map_code_name((niz_map_code)v->code), v->count);
    for (int a = 0; a < niz_chunk_arity(v); a++) fprintf(f, " %%%u", v->x[a]);
}

void niz_chunk_print(FILE *f, const niz_chunk_code *c)
{
    fprintf(f, "chunk %s\n", niz_dtype_name(c->dtype));
    for (uint32_t i = 0; i < c->n_values; i++) {
        fprintf(f, "  %%%u = ", i);
        niz_chunk_print_value(f, c, &c->value[i]);
        fputc('\n', f);
    }
    for (uint32_t i = 0; i < c->n_stores; i++) {
        const niz_chunk_store *s = &c->store[i];
        if (s->single)
            fprintf(f, "  store.1 out %u %%%u\n", s->access, s->value);
        else
            fprintf(f, "  store.%d @%u %%%u\n", c->pointer.access[s->access].count, s->access,
                    s->value);
    }
}
