/* lower.c - from a placed graph to tasks: one loop a node, with addresses and strides.
 *
 * Views and leaves become addresses; every other node becomes one task of its form.
 *
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "core/type.h"
#include "exec/exec.h"

struct niz_lowering {
    niz_exec *e;
    niz_plan *plan;
    niz_program *program;
    const niz_work *w;
    const niz_placement *p;
    uint32_t *base; /* of each node that owns memory: its index in program->base */
};

void *niz_lower_alloc(niz_lowering *l, size_t bytes)
{
    void *p = niz_arena_alloc(&l->plan->arena, bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

/* ---- addresses ------------------------------------------------------------------------------ */

static const niz_view *niz_lower_view(const niz_lowering *l, uint32_t id)
{
    return &l->p->layout[id].view;
}

niz_address niz_lower_root(const niz_lowering *l, uint32_t root, int64_t element)
{
    size_t size = niz_dtype_size((niz_dtype)l->w->g.node[root].dtype);
    return (niz_address){l->base[root], element * (int64_t)size};
}

static niz_address niz_lower_address(const niz_lowering *l, uint32_t id)
{
    return niz_lower_root(l, l->p->layout[id].root, niz_lower_view(l, id)->offset);
}

/* One base more than the nodes have: memory behind the arena's placed part. */
#define NIZ_EXTRA_BASES 2

niz_address niz_lower_extra(niz_lowering *l, int64_t bytes)
{
    niz_program *p = l->program;
    niz_address a = {(uint32_t)p->n_bases - 1, p->arena_bytes - p->base[p->n_bases - 1].value};
    p->arena_bytes += (bytes + 63) / 64 * 64;
    return a;
}

void niz_lower_scratch(niz_lowering *l, int64_t bytes)
{
    if (bytes > l->program->scratch_bytes) l->program->scratch_bytes = bytes;
}

/* Where each owner's memory comes from; literals go to the plan's constants. */
static bool niz_lower_bases(niz_lowering *l)
{
    const niz_graph *g = &l->w->g;
    niz_program *program = l->program;
    int64_t n_constants = 0;
    program->base = niz_lower_alloc(l, sizeof *program->base * (g->n + NIZ_EXTRA_BASES));
    program->constant = niz_lower_alloc(l, sizeof *program->constant * (g->n + 1));
    if (!program->base || !program->constant) return false;
    for (uint32_t id = 0; id < g->n; id++) {
        const niz_node *n = &g->node[id];
        const niz_place_of *p = &l->p->place[id];
        double v;
        if (niz_op_form(n->op) == NIZ_FORM_VIEW) continue;
        niz_base b = {p->home, p->offset, false};
        if (n->op == &niz_op_param) {
            b = (niz_base){NIZ_HOME_PARAM, n->attr[0], false};
        } else if (n->op == &niz_op_literal) {
            memcpy(&v, n->attr, sizeof v);
            program->constant[n_constants] = niz_constant_bits((niz_dtype)n->dtype, v);
            b = (niz_base){NIZ_HOME_LEAF, n_constants++, true};
        } else if (n->op == &niz_op_data) {
            b.value = n->attr[0];
        }
        l->base[id] = (uint32_t)program->n_bases;
        program->base[program->n_bases++] = b;
    }
    return true;
}

/* ---- one task a form ------------------------------------------------------------------------ */

/* Strides of operand x walked along the axes of shape: 0 where it broadcasts. */
static void niz_lower_broadcast(const niz_view *x, const niz_shape *shape, int64_t *stride)
{
    int skip = shape->rank - x->shape.rank;
    for (int d = 0; d < shape->rank; d++)
        stride[d] = d < skip || (x->shape.dim[d - skip] == 1 && shape->dim[d] != 1)
                        ? 0
                        : x->stride[d - skip];
}

/* A map without instructions. */
static bool niz_lower_copy(niz_lowering *l, const niz_map_loop *map, niz_dtype dtype, niz_task *t)
{
    niz_copy_loop *loop = t->loop.copy = niz_lower_alloc(l, sizeof *loop);
    if (!loop) return false;
    *loop = (niz_copy_loop){(int)niz_dtype_size(dtype), map->space};
    niz_space_for_copy(&loop->space);
    t->kind = NIZ_TASK_COPY;
    return true;
}

static bool niz_lower_map(niz_lowering *l, uint32_t id, niz_task *t)
{
    const niz_node *n = &l->w->g.node[id];
    niz_dtype in[4];
    int64_t stride[NIZ_LOOP_MAX_BUFFERS][NIZ_MAX_RANK];
    if (n->n_arg > 4) return false;
    for (int i = 0; i < n->n_arg; i++) {
        in[i] = (niz_dtype)l->w->g.node[n->arg[i]].dtype;
        niz_lower_broadcast(niz_lower_view(l, n->arg[i]), n->shape, stride[i]);
    }
    niz_shape_strides(n->shape, stride[n->n_arg]);
    niz_map_loop *loop = t->loop.map = niz_lower_alloc(l, sizeof *loop);
    if (!loop || !(loop->map = niz_map_of(l->e, n->op, n->n_arg, in, (niz_dtype)n->dtype)))
        return false;
    niz_space_make(&loop->space, n->shape->rank, n->shape->dim, n->n_arg + 1, stride);
    t->kind = NIZ_TASK_MAP;
    t->units = t->count;
    t->work = (double)t->count * (1 + loop->map->n);
    if (!loop->map->n && n->n_arg == 1) return niz_lower_copy(l, loop, (niz_dtype)n->dtype, t);
    niz_lower_scratch(l, (int64_t)l->e->loops->map_scratch(loop->map));
    return true;
}

static bool niz_lower_reduce(niz_lowering *l, uint32_t id, niz_task *t)
{
    const niz_node *n = &l->w->g.node[id];
    const niz_view *x = niz_lower_view(l, n->arg[0]);
    int axis = (int)n->attr[0];
    int64_t stride[2][NIZ_MAX_RANK];
    for (int d = 0; d < n->shape->rank; d++) stride[0][d] = x->stride[d < axis ? d : d + 1];
    niz_shape_strides(n->shape, stride[1]);
    niz_reduce_loop *loop = t->loop.reduce = niz_lower_alloc(l, sizeof *loop);
    if (!loop) return false;
    loop->dtype = (niz_dtype)l->w->g.node[n->arg[0]].dtype;
    loop->combine = n->op->combine;
    loop->n = x->shape.dim[axis];
    loop->stride = x->stride[axis];
    niz_space_make(&loop->space, n->shape->rank, n->shape->dim, 2, stride);
    t->kind = NIZ_TASK_REDUCE;
    t->units = t->count;
    t->work = (double)t->count * (double)(loop->n + 8);
    return true;
}

/* The axes [from, to) of one or two operands as a space. */
static void niz_lower_group(niz_loop_space *s, const niz_view *a, int from_a, const niz_view *b,
                            int from_b, int n, const int64_t *y_stride)
{
    int64_t stride[3][NIZ_MAX_RANK];
    int buffers = 0;
    if (a) memcpy(stride[buffers++], a->stride + from_a, sizeof(int64_t) * (size_t)n);
    if (b) memcpy(stride[buffers++], b->stride + from_b, sizeof(int64_t) * (size_t)n);
    if (y_stride) memcpy(stride[buffers++], y_stride, sizeof(int64_t) * (size_t)n);
    niz_space_make(s, n, a ? a->shape.dim + from_a : b->shape.dim + from_b, buffers, stride);
}

static bool niz_lower_contract(niz_lowering *l, uint32_t id, niz_task *t)
{
    const niz_node *n = &l->w->g.node[id];
    const niz_view *a = niz_lower_view(l, n->arg[0]), *b = niz_lower_view(l, n->arg[1]);
    int batch = (int)n->attr[0], sum = (int)n->attr[1];
    int m = a->shape.rank - batch - sum, k = b->shape.rank - batch - sum;
    int64_t y_stride[NIZ_MAX_RANK];
    niz_contract_loop *loop = t->loop.contract = niz_lower_alloc(l, sizeof *loop);
    if (!loop) return false;
    niz_shape_strides(n->shape, y_stride);
    loop->dtype = (niz_dtype)n->dtype;
    loop->tiled = t->around.finish != NULL;
    memcpy(loop->made, t->around.made, sizeof loop->made);
    niz_lower_group(&loop->batch, a, 0, b, 0, batch, y_stride);
    niz_lower_group(&loop->m, a, batch, NULL, 0, m, NULL);
    niz_lower_group(&loop->n, NULL, 0, b, batch, k, NULL);
    niz_lower_group(&loop->k, a, batch + m, b, batch + k, sum, NULL);
    t->kind = NIZ_TASK_CONTRACT;
    l->e->loops->contract_prepare(loop);
    t->units = loop->plan.units;
    t->work = (double)t->count * (double)niz_space_count(&loop->k) / 8;
    niz_lower_scratch(l, (int64_t)loop->plan.scratch);
    return true;
}

static bool niz_lower_conv(niz_lowering *l, uint32_t id, niz_task *t)
{
    const niz_node *n = &l->w->g.node[id];
    const niz_view *x = niz_lower_view(l, n->arg[0]), *w = niz_lower_view(l, n->arg[1]);
    int s = n->shape->rank - 3;
    niz_conv_loop *loop = t->loop.conv = niz_lower_alloc(l, sizeof *loop);
    if (!loop) return false;
    *loop = (niz_conv_loop){.dtype = (niz_dtype)n->dtype,
                            .spatial = s,
                            .batch = x->shape.dim[0],
                            .groups = x->shape.dim[1],
                            .in = x->shape.dim[2],
                            .out = w->shape.dim[1],
                            .tiled = t->around.finish != NULL,
                            .made = t->around.made[0] != NIZ_MADE_NOT,
                            .threads = l->e->threads};
    for (int d = 0; d < s; d++) {
        loop->x_size[d] = x->shape.dim[3 + d];
        loop->w_size[d] = w->shape.dim[3 + d];
        loop->y_size[d] = n->shape->dim[3 + d];
        loop->step[d] = n->attr[d];
        loop->dilation[d] = n->attr[s + d];
        loop->lo[d] = n->attr[2 * s + d];
        loop->hole[d] = n->attr[4 * s + d];
    }
    memcpy(loop->x_stride, x->stride, sizeof(int64_t) * (size_t)(3 + s));
    memcpy(loop->w_stride, w->stride, sizeof(int64_t) * (size_t)(3 + s));
    int64_t taps = loop->in;
    for (int d = 0; d < s; d++) taps *= loop->w_size[d];
    t->kind = NIZ_TASK_CONV;
    t->units = l->e->loops->conv_units(loop);
    t->work = (double)t->count * (double)taps / 8;
    niz_lower_scratch(l, (int64_t)l->e->loops->conv_scratch(loop));
    return true;
}

static niz_buffer niz_lower_buffer(const niz_lowering *l, uint32_t id)
{
    const niz_view *v = niz_lower_view(l, id);
    niz_buffer b = {.dtype = (niz_dtype)l->w->g.node[id].dtype, .shape = v->shape};
    memcpy(b.stride, v->stride, sizeof b.stride);
    return b;
}

static bool niz_lower_eval(niz_lowering *l, uint32_t id, niz_task *t)
{
    const niz_node *n = &l->w->g.node[id];
    niz_eval *e = t->loop.eval = niz_lower_alloc(l, sizeof *e);
    niz_buffer *x = niz_lower_alloc(l, sizeof *x * (size_t)(n->n_arg + 1));
    int64_t *attr = niz_arena_copy(&l->plan->arena, n->attr, sizeof *attr * n->n_attr);
    if (!e || !x || !attr) return false;
    for (int i = 0; i < n->n_arg; i++) x[i] = niz_lower_buffer(l, n->arg[i]);
    *e = (niz_eval){.n = n->n_arg,
                    .x = x,
                    .y = niz_lower_buffer(l, id),
                    .attr = {n->n_attr, attr},
                    .end = t->count};
    t->kind = NIZ_TASK_EVAL;
    t->units = n->op->parallel ? t->count : 1;
    t->work = (double)t->count * 4;
    return true;
}

niz_task *niz_lower_task(niz_lowering *l, uint32_t origin, int n_buffers)
{
    niz_program *p = l->program;
    niz_address *buffer = niz_lower_alloc(l, sizeof *buffer * (size_t)n_buffers);
    if (!buffer || !niz_grow(l->e->z, &p->task, sizeof *p->task, &p->task_capacity, p->n_tasks + 1))
        return NULL;
    niz_task *t = &p->task[p->n_tasks++];
    *t = (niz_task){.origin = origin, .n = n_buffers, .buffer = buffer};
    return t;
}

/* ---- what the profile says of a task --------------------------------------------------------- */

static double niz_lower_flops(niz_lowering *l, uint32_t id)
{
    const niz_graph *g = &l->w->g;
    const niz_node *n = &g->node[id];
    double y = (double)niz_shape_count(n->shape), b = n->n_arg > 1 ? 1 : 0;
    const niz_shape *x = n->n_arg ? g->node[n->arg[n->n_arg > 1]].shape : n->shape;
    niz_dtype in[4];
    switch (niz_op_form(n->op)) {
    case NIZ_FORM_REDUCE: return (double)niz_shape_count(x);
    case NIZ_FORM_CONTRACT:
        b = 2;
        for (int d = x->rank - (int)n->attr[1]; d < x->rank; d++) b *= (double)x->dim[d];
        return y * b;
    case NIZ_FORM_CONV: return 2 * y * (double)niz_shape_count(x) / (double)(x->dim[0] * x->dim[1]);
    case NIZ_FORM_MAP:
        for (int i = 0; i < n->n_arg && i < 4; i++) in[i] = (niz_dtype)g->node[n->arg[i]].dtype;
        const niz_map *map = niz_map_of(l->e, n->op, n->n_arg, in, (niz_dtype)n->dtype);
        return map ? y * map->n : 0;
    default: return 0;
    }
}

static bool niz_lower_among(uint32_t id, uint32_t n, const uint32_t *node)
{
    uint32_t i = 0;
    while (i < n && node[i] != id) i++;
    return i < n;
}

/* Each operand from outside once (as often as it is seen, but not more than it is long), and each
 * result that leaves. */
static double niz_lower_traffic(const niz_lowering *l, uint32_t n, const uint32_t *node)
{
    const niz_graph *g = &l->w->g;
    uint32_t seen[NIZ_GROUP_OPERANDS], n_seen = 0;
    double bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        const niz_node *y = &g->node[node[i]];
        if (l->p->place[node[i]].home != NIZ_HOME_NONE) bytes += (double)niz_node_bytes(y);
        for (int a = 0; a < y->n_arg; a++) {
            uint32_t root = l->p->layout[y->arg[a]].root;
            double view = (double)niz_node_bytes(&g->node[y->arg[a]]);
            double all = (double)niz_node_bytes(&g->node[root]);
            if (niz_lower_among(root, n, node) || niz_lower_among(root, n_seen, seen)) continue;
            if (n_seen < NIZ_GROUP_OPERANDS) seen[n_seen++] = root;
            bytes += view < all ? view : all;
        }
    }
    return bytes;
}

bool niz_lower_describe(niz_lowering *l, niz_task *t, uint32_t n, const uint32_t *node)
{
    if (!l->e->profile) return true;
    char *label = niz_lower_alloc(l, NIZ_LABEL);
    if (!label) return false;
    const niz_node *last = &l->w->g.node[node[n - 1]];
    niz_text type = niz_type_text((niz_dtype)last->dtype, last->shape);
    size_t at = 0, room = NIZ_LABEL - 40;
    for (uint32_t i = 0; i < n; i++) {
        const char *name = l->w->g.node[node[i]].op->name;
        t->flops += niz_lower_flops(l, node[i]);
        if (at + strlen(name) < room)
            at += (size_t)snprintf(label + at, NIZ_LABEL - at, "%s%s", i ? "+" : "", name);
        else
            room = 0; /* and no more */
    }
    snprintf(label + at, NIZ_LABEL - at, "%s %.30s", room ? "" : "+...", type.text);
    t->bytes = niz_lower_traffic(l, n, node);
    t->label = label;
    return true;
}

/* What operands are made of, to tell an operation that produced a NaN from one that passed it on.
 */
static bool niz_lower_spans(niz_lowering *l, const niz_node *n, niz_task *t)
{
    if (!l->e->z->options.trap_nan) return true;
    if (!(t->span = niz_lower_alloc(l, sizeof *t->span * (size_t)(n->n_arg + 1)))) return false;
    for (int i = 0; i < n->n_arg; i++) {
        uint32_t root = l->p->layout[n->arg[i]].root;
        const niz_node *x = &l->w->g.node[root];
        t->span[i] = (niz_span){l->base[root], (niz_dtype)x->dtype, niz_shape_count(x->shape)};
    }
    return true;
}

/* A node's task with the buffers of its operands, and more behind them. */
static niz_task *niz_lower_begin(niz_lowering *l, uint32_t id, int more)
{
    const niz_node *n = &l->w->g.node[id];
    niz_task *t = niz_lower_task(l, n->origin, n->n_arg + more);
    if (!t) return NULL;
    t->op = n->op;
    t->dtype = (niz_dtype)n->dtype;
    t->count = niz_shape_count(n->shape);
    for (int i = 0; i < n->n_arg; i++) t->buffer[i] = niz_lower_address(l, n->arg[i]);
    return t;
}

niz_task *niz_lower_tile(niz_lowering *l, uint32_t id, const niz_around *around)
{
    const niz_nest_loop *side[3] = {around->finish, around->make[0], around->make[1]};
    int more = !around->finish;
    for (int i = 0; i < 3; i++) more += side[i] ? side[i]->n_buffers : 0;
    niz_task *t = niz_lower_begin(l, id, more);
    if (!t) return NULL;
    t->around = *around;
    niz_address *next = t->buffer + t->op->arity;
    for (int i = 0; i < 2; i++) /* an address to reckon with, never read */
        if (around->make[i]) t->buffer[i] = niz_lower_extra(l, 0);
    if (!around->finish) *next++ = niz_lower_address(l, id);
    for (int i = 0; i < 3; i++)
        for (int b = 0; side[i] && b < side[i]->n_buffers; b++) *next++ = side[i]->buffer[b];
    bool conv = niz_op_form(t->op) == NIZ_FORM_CONV;
    return (conv ? niz_lower_conv(l, id, t) : niz_lower_contract(l, id, t)) ? t : NULL;
}

static bool niz_lower_node(niz_lowering *l, uint32_t id)
{
    const niz_node *n = &l->w->g.node[id];
    if (!niz_shape_count(n->shape)) return true;
    niz_task *t = niz_lower_begin(l, id, 1);
    if (!t) return false;
    t->buffer[n->n_arg] = niz_lower_address(l, id);
    if (!niz_lower_spans(l, n, t) || !niz_lower_describe(l, t, 1, &id)) return false;
    switch (niz_op_form(n->op)) {
    case NIZ_FORM_MAP: return niz_lower_map(l, id, t);
    case NIZ_FORM_REDUCE: return niz_lower_reduce(l, id, t);
    case NIZ_FORM_CONTRACT: return niz_lower_contract(l, id, t);
    case NIZ_FORM_CONV: return niz_lower_conv(l, id, t);
    default: break;
    }
    if (n->op->eval) return niz_lower_eval(l, id, t);
    niz_fail(l->e->z, (niz_at){0}, NIZ_E_ARGUMENT,
             "the record of %s has neither .map nor .eval nor a form that computes", n->op->name);
    return false;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static bool niz_lower_outputs(niz_lowering *l)
{
    niz_plan *plan = l->plan;
    const niz_work *w = l->w;
    size_t n = (size_t)w->n_out + 1;
    plan->n_out = w->n_out;
    plan->n_want = w->n_want;
    plan->out_bytes = niz_lower_alloc(l, sizeof *plan->out_bytes * n);
    plan->commit_param = niz_lower_alloc(l, sizeof *plan->commit_param * n);
    l->program->commit = niz_lower_alloc(l, sizeof *l->program->commit * n);
    if (!plan->out_bytes || !plan->commit_param || !l->program->commit) return false;
    for (int i = 0; i < w->n_out; i++) {
        const niz_node *node = &w->g.node[w->out[i]];
        plan->out_bytes[i] = (int64_t)niz_node_bytes(node);
        l->program->commit[i].base = NIZ_NONE;
        if (i < w->n_want) continue;
        plan->commit_param[i] = node->attr[0];
        if (l->p->commit_copy[i]) l->program->commit[i] = niz_lower_address(l, w->out[i]);
    }
    return true;
}

static bool niz_lower_nodes(niz_lowering *l)
{
    for (uint32_t id = 0; id < l->w->g.n; id++) {
        niz_form form = niz_op_form(l->w->g.node[id].op);
        if (form != NIZ_FORM_VIEW && form != NIZ_FORM_LEAF && !niz_lower_node(l, id)) return false;
    }
    return true;
}

static bool niz_lower_groups(niz_lowering *l, const niz_lower_options *o)
{
    const niz_fusion *f = o->fusion;
    for (uint32_t g = 0; g < f->n_groups; g++) {
        const niz_group *group = &f->group[g];
        if (!group->n || group->kind == NIZ_GROUP_PANEL) continue; /* others compute it */
        uint32_t first = f->member[f->start[g]];
        bool nest = group->kind != NIZ_GROUP_ALONE || niz_fusion_packs(f, first);
        if (nest ? !o->nest(o->state, l, g) : !niz_lower_node(l, first)) return false;
    }
    return true;
}

bool niz_lower(niz_exec *e, niz_plan *plan, niz_program *program, const niz_work *w,
               const niz_placement *p, const niz_lower_options *o)
{
    niz_lowering l = {e, plan, program, w, p, NULL};
    *program = (niz_program){.arena_bytes = (p->peak + 63) / 64 * 64, .naive_bytes = p->naive};
    l.base = niz_realloc(e->z, NULL, sizeof *l.base * (w->g.n + 1));
    bool ok = l.base && niz_lower_bases(&l) && niz_lower_outputs(&l);
    if (ok)
        program->base[program->n_bases++] = (niz_base){NIZ_HOME_ARENA, program->arena_bytes, false};
    ok = ok && (o ? niz_lower_groups(&l, o) : niz_lower_nodes(&l));
    for (size_t i = 0; i < program->n_tasks; i++)
        if (program->task[i].work > program->most_work) program->most_work = program->task[i].work;
    niz_free(e->z, l.base);
    return ok;
}
