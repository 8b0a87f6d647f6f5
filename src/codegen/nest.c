/* nest.c - building, checking and printing nests.  SPDX-License-Identifier: MIT */
#include "codegen/nest.h"

#include <string.h>

#include "core/type.h"
#include "ops/families.h"

typedef struct niz_builder {
    const niz_nest_env *env;
    niz_nest *n;
    uint32_t group;
    const niz_shape *domain;
    int fold, lane;               /* axes of the domain: swept, and the one that vectors go along */
    uint16_t of[NIZ_GROUP_NODES]; /* value of the group's i-th node ... */
    uint32_t node[NIZ_GROUP_NODES]; /* ... and which node that is */
    int count;
    bool full;
} niz_builder;

/* ---- values --------------------------------------------------------------------------------- */

static bool niz_value_equal(const niz_nest_value *a, const niz_nest_value *b)
{
    return a->kind == b->kind && a->code == b->code && a->dtype == b->dtype && a->row == b->row &&
           a->wide == b->wide && a->access == b->access && !memcmp(a->x, b->x, sizeof a->x) &&
           !memcmp(&a->constant, &b->constant, sizeof a->constant);
}

/* Adds a value, or finds the equal one. */
static uint16_t niz_value_add(niz_builder *b, niz_nest_value v)
{
    niz_nest *n = b->n;
    for (int i = 0; i < n->n_values; i++)
        if (niz_value_equal(&n->value[i], &v)) return (uint16_t)i;
    if (n->n_values == NIZ_NEST_VALUES) {
        b->full = true;
        return 0;
    }
    if (v.stage + 1 > n->n_stages) n->n_stages = v.stage + 1;
    n->value[n->n_values] = v;
    return (uint16_t)n->n_values++;
}

/* Where an access keeps its stride along an axis of the domain; all axes of a tile's rows share one
 * place, where the last one's belongs. */
static int64_t *niz_access_stride(const niz_builder *b, niz_access *a, int axis)
{
    if (b->n->kind != NIZ_GROUP_COLUMNS) return axis < b->n->rank ? &a->outer[axis] : &a->inner;
    if (axis == b->fold) return &a->line;
    if (axis == b->lane) return &a->inner;
    return &a->outer[axis - (axis > b->fold) - (axis > b->lane)];
}

/* Which axes an access walks, given its strides. */
static void niz_access_kind(const niz_builder *b, niz_access *a, bool row)
{
    a->wide = a->inner != 0;
    a->row = row || (b->n->kind == NIZ_GROUP_COLUMNS ? a->line == 0 : !a->wide);
}

/* Node id's memory walked along the axes of shape s: the domain's, or without the folded one (row),
 * and sizes of 1 dropped. */
static niz_access niz_access_of(const niz_builder *b, uint32_t id, const niz_shape *s, bool row)
{
    const niz_layout_of *l = &b->env->layout[id];
    niz_access a = {
        .node = l->root, .offset = l->view.offset, .dtype = (niz_dtype)b->env->w->g.node[id].dtype};
    int skip = s->rank - l->view.shape.rank, axis = 0;
    for (int d = 0; d < s->rank; d++) {
        if (s->dim[d] == 1) continue;
        bool still = d < skip || l->view.shape.dim[d - skip] == 1;
        if (row && axis == b->fold) axis++;
        *niz_access_stride(b, &a, axis++) = still ? 0 : l->view.stride[d - skip];
    }
    niz_access_kind(b, &a, row);
    return a;
}

/* Row-major memory for what is stored of node id. */
static niz_access niz_access_store(const niz_builder *b, uint32_t id, bool row)
{
    niz_access a = {.node = id, .dtype = (niz_dtype)b->env->w->g.node[id].dtype};
    int64_t stride = 1;
    for (int axis = b->domain->rank; axis-- > 0;) {
        if (row && axis == b->fold) continue;
        int64_t *place = niz_access_stride(b, &a, axis);
        if (!*place) *place = stride;
        stride *= b->domain->dim[axis];
    }
    niz_access_kind(b, &a, row);
    return a;
}

static uint16_t niz_access_add(niz_builder *b, niz_access a)
{
    niz_nest *n = b->n;
    for (int i = 0; i < n->n_accesses; i++)
        if (!memcmp(&n->access[i], &a, sizeof a)) return (uint16_t)i;
    if (n->n_accesses == NIZ_NEST_ACCESSES) {
        b->full = true;
        return 0;
    }
    n->access[n->n_accesses] = a;
    return (uint16_t)n->n_accesses++;
}

/* Operand x of a node of shape s, in that dtype: a value of the group, a constant, or a load. */
static uint16_t niz_operand_as(niz_builder *b, uint32_t x, niz_dtype dtype, const niz_shape *s,
                               bool row)
{
    const niz_graph *g = &b->env->w->g;
    uint32_t root = b->env->layout[x].root;
    if (niz_fusion_computes(b->env->fusion, root, b->group))
        for (int i = b->count; i-- > 0;)
            if (b->node[i] == root) return b->of[i];
    niz_nest_value v = {.kind = NIZ_NEST_LOAD, .dtype = dtype, .row = true};
    bool own = g->node[x].dtype == dtype && niz_dtype_is_float(dtype);
    if (g->node[root].op == &niz_op_literal && own) {
        v.kind = NIZ_NEST_MAP;
        v.code = NIZ_MAP_CONST;
        memcpy(&v.constant, g->node[root].attr, sizeof v.constant);
        return niz_value_add(b, v);
    }
    niz_access a = niz_access_of(b, x, s, row);
    v.row = a.row;
    v.wide = a.wide;
    v.access = niz_access_add(b, a);
    return niz_value_add(b, v);
}

/* The same as truth, or as a number of the nest's dtype. */
static uint16_t niz_operand_value(niz_builder *b, uint32_t x, const niz_shape *s, bool row)
{
    bool truth = b->env->w->g.node[x].dtype == NIZ_BOOL;
    return niz_operand_as(b, x, truth ? NIZ_BOOL : b->n->dtype, s, row);
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static void niz_build_map(niz_builder *b, const niz_map *map, const uint16_t *x, uint16_t *result)
{
    uint16_t of[4 + NIZ_MAP_LIMIT];
    memcpy(of, x, sizeof *x * (size_t)map->n_in);
    for (int i = 0; i < map->n; i++) {
        const niz_map_instr *in = &map->instr[i];
        if (in->code == NIZ_MAP_CAST && b->n->value[of[in->x[0]]].dtype == in->dtype) {
            of[map->n_in + i] = of[in->x[0]]; /* its load has converted it */
            continue;
        }
        niz_nest_value v = {.kind = NIZ_NEST_MAP,
                            .code = in->code,
                            .dtype = (niz_dtype)in->dtype,
                            .row = true,
                            .constant = in->code == NIZ_MAP_CONST ? in->value : 0};
        for (int a = 0; a < niz_map_arity((niz_map_code)in->code); a++) {
            const niz_nest_value *o = &b->n->value[v.x[a] = of[in->x[a]]];
            v.row = v.row && o->row;
            v.wide = v.wide || o->wide;
            if (o->stage > v.stage) v.stage = o->stage;
        }
        of[map->n_in + i] = niz_value_add(b, v);
    }
    *result = of[map->result];
}

static uint16_t niz_build_fold(niz_builder *b, const niz_node *n, uint16_t x)
{
    niz_nest_value v = {.kind = NIZ_NEST_FOLD,
                        .code = (uint8_t)n->op->combine,
                        .dtype = (niz_dtype)n->dtype,
                        .row = true,
                        .wide = b->n->kind == NIZ_GROUP_COLUMNS,
                        .x = {x},
                        .stage = (uint16_t)(b->n->value[x].stage + 1)};
    return niz_value_add(b, v);
}

/* index, a, b: a in the index' place, else b. */
static uint16_t niz_build_choice(niz_builder *b, const uint16_t *x)
{
    const niz_nest_value *v = b->n->value;
    niz_nest_value hit = {.kind = NIZ_NEST_HIT,
                          .dtype = NIZ_BOOL,
                          .wide = b->n->kind != NIZ_GROUP_COLUMNS || v[x[0]].wide,
                          .x = {x[0]}};
    niz_nest_value y = {.kind = NIZ_NEST_MAP,
                        .code = NIZ_MAP_SELECT,
                        .dtype = b->n->dtype,
                        .wide = hit.wide || v[x[1]].wide || v[x[2]].wide,
                        .x = {niz_value_add(b, hit), x[1], x[2]}};
    y.stage = v[x[1]].stage > v[x[2]].stage ? v[x[1]].stage : v[x[2]].stage;
    return niz_value_add(b, y);
}

/* A rectangle's rows are those of a matrix. */
static void niz_build_rectangle_rows(const niz_nest *n, niz_access *rectangle)
{
    int64_t stride = NIZ_NEST_TILE;
    for (int d = n->rank; d-- > 0; stride *= n->dim[d]) rectangle->outer[d] = stride;
}

/* The first access of a nest around a contraction: a rectangle of node id. */
static uint16_t niz_build_rectangle(niz_builder *b, uint32_t id)
{
    niz_access tile = {.node = id, .dtype = b->n->dtype, .inner = 1, .wide = true, .tile = true};
    niz_build_rectangle_rows(b->n, &tile);
    return niz_access_add(b, tile);
}

/* The first value of a tile's nest: the contraction's results. */
static void niz_build_tile(niz_builder *b)
{
    uint16_t access = niz_build_rectangle(b, niz_fusion_tile(b->env->fusion, b->group));
    niz_value_add(b,
                  (niz_nest_value){
                      .kind = NIZ_NEST_LOAD, .dtype = b->n->dtype, .wide = true, .access = access});
}

static bool niz_build_node(niz_builder *b, uint32_t id)
{
    const niz_node *n = &b->env->w->g.node[id];
    niz_part_of part = (niz_part_of)b->env->fusion->part[id];
    const niz_shape *s = n->shape;
    uint16_t x[4], result;
    if (part == NIZ_PART_TILE) {
        result = 0; /* niz_build_tile */
    } else if (part == NIZ_PART_REDUCE) {
        s = b->env->w->g.node[n->arg[0]].shape;
        result = niz_build_fold(b, n, niz_operand_value(b, n->arg[0], s, false));
    } else if (n->op == &niz_op_choose) {
        niz_dtype index = (niz_dtype)b->env->w->g.node[n->arg[0]].dtype;
        x[0] = niz_operand_as(b, n->arg[0], index, s, false);
        for (int i = 1; i < 3; i++) x[i] = niz_operand_value(b, n->arg[i], s, false);
        result = niz_build_choice(b, x);
    } else {
        const niz_map *map = b->env->map(b->env->state, id);
        if (!map) return false;
        for (int i = 0; i < n->n_arg; i++)
            x[i] = niz_operand_value(b, n->arg[i], s, part == NIZ_PART_ROW);
        niz_build_map(b, map, x, &result);
    }
    b->node[b->count] = id;
    b->of[b->count++] = result;
    bool here = b->env->fusion->group_of[id] == b->group; /* and not in a group before */
    if (!b->env->stored[id] || !here) return !b->full;
    if (b->n->n_stores == NIZ_NEST_STORES) return false;
    niz_access a = niz_access_store(b, id, part >= NIZ_PART_REDUCE);
    bool partial = b->n->kind == NIZ_GROUP_FLAT && part == NIZ_PART_REDUCE;
    b->n->store[b->n->n_stores++] = (niz_nest_store){result, niz_access_add(b, a), partial};
    return !b->full;
}

/* The outer axes become those along which a panel counts rows. */
static void niz_build_rows(niz_nest *n, const niz_panel *panel)
{
    for (int a = 0; a < n->n_accesses; a++) {
        niz_access *x = &n->access[a];
        int64_t was[NIZ_MAX_RANK];
        memcpy(was, x->outer, sizeof was);
        memset(x->outer, 0, sizeof x->outer);
        for (int i = 0; i < panel->rank; i++) {
            const niz_panel_axis *row = &panel->row[i];
            x->outer[i] = (row->axis < n->rank ? was[row->axis] : x->inner) * row->step;
        }
    }
    n->rank = panel->rank;
    n->row = panel->columns;
    for (int i = 0; i < n->rank; i++) n->dim[i] = panel->row[i].size;
}

/* A panel stores its operand's value in rectangles. */
static void niz_build_panel(niz_builder *b, const niz_panel *panel)
{
    const niz_nest_env *env = b->env;
    uint32_t operand = env->w->g.node[panel->host].arg[panel->operand];
    int i = 0;
    while (b->node[i] != env->layout[operand].root) i++;
    b->n->store[b->n->n_stores++] = (niz_nest_store){b->of[i], 0, false};
    niz_build_rows(b->n, panel);
    niz_build_rectangle_rows(b->n, &b->n->access[0]);
}

/* Takes outer axis d out of the nest. */
static void niz_build_drop(niz_nest *n, int d)
{
    n->rank--;
    for (int e = d; e < n->rank; e++) n->dim[e] = n->dim[e + 1];
    for (int a = 0; a < n->n_accesses; a++) {
        int64_t *outer = n->access[a].outer;
        for (int e = d; e < n->rank; e++) outer[e] = outer[e + 1];
        outer[n->rank] = 0;
    }
}

/* Outer axes that every access walks as one become one. */
static void niz_build_collapse(niz_nest *n)
{
    for (int d = n->rank - 1; d-- > 0;) {
        bool join = true;
        for (int a = 0; a < n->n_accesses && join; a++)
            join = n->access[a].outer[d] == n->access[a].outer[d + 1] * n->dim[d + 1];
        if (!join) continue;
        n->dim[d + 1] *= n->dim[d];
        niz_build_drop(n, d);
    }
}

/* So do the columns and the outer axis before them. */
static void niz_build_collapse_columns(niz_nest *n)
{
    while (n->rank) {
        bool join = true;
        for (int a = 0; a < n->n_accesses && join; a++)
            join = n->access[a].outer[n->rank - 1] == n->access[a].inner * n->columns;
        if (!join) return;
        n->columns *= n->dim[n->rank - 1];
        niz_build_drop(n, n->rank - 1);
    }
}

/* A nest of elements only, walked by all accesses as one long row, is flat; but places in rows
 * stay what they are. */
static void niz_build_flatten(niz_nest *n)
{
    for (int i = 0; i < n->n_values; i++)
        if (n->value[i].kind == NIZ_NEST_HIT) return;
    bool columns = n->kind == NIZ_GROUP_COLUMNS && n->rank == 0;
    bool flat = n->n_stages == 1 && (columns || (n->kind == NIZ_GROUP_ROWS && n->rank == 1));
    for (int a = 0; a < n->n_accesses && flat; a++) {
        const niz_access *x = &n->access[a];
        int64_t step = columns ? x->line : x->inner, next = columns ? x->inner : x->outer[0];
        bool still = x->row && !x->wide && next == 0;
        flat = still || (!x->row && step == 1 && next == n->row);
    }
    if (!flat) return;
    n->row *= columns ? n->columns : n->dim[0];
    n->rank = 0;
    n->kind = NIZ_GROUP_FLAT;
    for (int a = 0; a < n->n_accesses; a++) {
        n->access[a].outer[0] = n->access[a].line = 0;
        n->access[a].inner = n->access[a].row ? 0 : 1;
    }
}

/* Marks what lies at one place for all rows.  Of a single row nothing is said, so that it shares
 * its text with more. */
static void niz_build_same(niz_nest *n)
{
    bool several = false;
    for (int d = 0; d < n->rank; d++) several = several || n->dim[d] > 1;
    for (int a = 0; a < n->n_accesses; a++) {
        bool moves = false;
        for (int d = 0; d < n->rank; d++) moves = moves || (n->dim[d] > 1 && n->access[a].outer[d]);
        n->access[a].same = several && !moves;
    }
}

/* ---- what later stages need ------------------------------------------------------------------ */

/* Operations of one vector: a division blocks its unit for as long as ten others take. */
static int niz_value_work(const niz_nest_value *v)
{
    if (v->kind != NIZ_NEST_MAP) return 1;
    if (v->code >= NIZ_MAP_EXP && v->code <= NIZ_MAP_POW) return 20;
    return v->code == NIZ_MAP_DIV || v->code == NIZ_MAP_SQRT ? 10 : v->code != NIZ_MAP_CONST;
}

/* To compute this much again costs more than a store and a load in the first-level cache. */
#define NIZ_KEEP_WORK 6

/* What it takes a stage to compute each value from memory, from what is kept and from rows' values;
 * shared parts are counted as often as they are used. */
static void niz_build_work(const niz_nest *n, int stage, int *work)
{
    for (int i = 0; i < n->n_values; i++) {
        const niz_nest_value *v = &n->value[i];
        work[i] = v->row ? 0 : niz_value_work(v);
        if (v->row || v->kind != NIZ_NEST_MAP) continue;
        for (int a = 0; a < niz_map_arity((niz_map_code)v->code); a++) work[i] += work[v->x[a]];
        if (work[i] > 1000) work[i] = 1000;
        if (v->keep && v->stage < stage) work[i] = 1;
    }
}

static bool niz_build_can_keep(const niz_nest *n, const niz_nest_value *v)
{
    return v->wide && v->dtype == n->dtype &&
           (n->kind != NIZ_GROUP_COLUMNS || n->row <= NIZ_COLUMN_KEEP);
}

/* Marks what is computed in a stage for value i; costly values of earlier stages are kept. */
static void niz_build_need(niz_nest *n, uint16_t i, int stage, const int *work, bool *seen)
{
    uint16_t stack[NIZ_NEST_VALUES * 3];
    int top = 0;
    for (stack[top++] = i; top;) {
        uint16_t now = stack[--top];
        niz_nest_value *v = &n->value[now];
        if (seen[now] || v->row) continue;
        seen[now] = true;
        if (v->kind != NIZ_NEST_MAP) continue;
        if (v->stage < stage && work[now] >= NIZ_KEEP_WORK && niz_build_can_keep(n, v)) {
            v->keep = true;
            continue;
        }
        for (int a = 0; a < niz_map_arity((niz_map_code)v->code); a++) stack[top++] = v->x[a];
    }
}

static void niz_build_keep(niz_nest *n)
{
    bool seen[NIZ_NEST_VALUES];
    int work[NIZ_NEST_VALUES];
    for (int stage = 1; stage < n->n_stages; stage++) {
        memset(seen, 0, sizeof seen);
        niz_build_work(n, stage, work);
        for (int i = 0; i < n->n_stores; i++)
            if (n->value[n->store[i].value].stage == stage)
                niz_build_need(n, n->store[i].value, stage, work, seen);
        for (int i = 0; i < n->n_values; i++)
            if (n->value[i].kind == NIZ_NEST_FOLD && n->value[i].stage == stage + 1)
                niz_build_need(n, n->value[i].x[0], stage, work, seen);
    }
    for (int i = 0; i < n->n_values; i++)
        if (n->value[i].keep) n->value[i].slot = (uint16_t)n->n_slots++;
}

/* The axis that strips of columns go along: the last, or if short rows are swept the one before. */
static int niz_group_lane(const niz_group *g)
{
    int last = g->domain.rank - 1;
    return g->kind == NIZ_GROUP_COLUMNS && g->fold == last ? last - 1 : last;
}

/* The sizes of columns: the folded axis is the row, one of the others the columns. */
static void niz_build_columns(niz_nest *n, const niz_group *group)
{
    int lane = niz_group_lane(group);
    n->rank = 0;
    n->row = group->domain.dim[group->fold];
    n->columns = group->domain.dim[lane];
    for (int d = 0; d < group->domain.rank; d++)
        if (d != group->fold && d != lane) n->dim[n->rank++] = group->domain.dim[d];
}

bool niz_nest_build(const niz_nest_env *env, uint32_t g, niz_nest *n)
{
    const niz_group *group = &env->fusion->group[g];
    niz_builder b = {.env = env,
                     .n = n,
                     .group = g,
                     .domain = &group->domain,
                     .fold = group->fold,
                     .lane = niz_group_lane(group)};
    memset(n, 0, sizeof *n);
    n->dtype = group->dtype;
    n->kind = group->kind;
    n->rank = group->domain.rank - group->tail;
    n->row = 1;
    for (int d = n->rank; d < group->domain.rank; d++) n->row *= group->domain.dim[d];
    memcpy(n->dim, group->domain.dim, sizeof *n->dim * (size_t)n->rank);
    if (n->kind == NIZ_GROUP_COLUMNS) niz_build_columns(n, group);
    if (n->kind == NIZ_GROUP_TILE) niz_build_tile(&b);
    if (n->kind == NIZ_GROUP_PANEL) niz_build_rectangle(&b, env->fusion->panel[group->panel].host);
    for (uint32_t k = env->fusion->start[g]; k < env->fusion->start[g + 1]; k++)
        if (!niz_build_node(&b, env->fusion->member[k])) return false;
    if (n->kind == NIZ_GROUP_PANEL) niz_build_panel(&b, &env->fusion->panel[group->panel]);
    niz_build_collapse(n);
    if (n->kind == NIZ_GROUP_COLUMNS) niz_build_collapse_columns(n);
    niz_build_flatten(n);
    niz_build_same(n);
    niz_build_keep(n);
    return true;
}

/* ---- arguments ------------------------------------------------------------------------------ */

int niz_nest_arguments(const niz_nest *n, int64_t *out)
{
    int k = 0;
    bool columns = n->kind == NIZ_GROUP_COLUMNS;
    out[k++] = n->row;
    if (columns) out[k++] = n->columns;
    for (int d = 0; d < n->rank; d++) out[k++] = n->dim[d];
    for (int a = 0; a < n->n_accesses; a++) {
        out[k++] = n->access[a].inner;
        if (columns) out[k++] = n->access[a].line;
        for (int d = 0; d < n->rank; d++) out[k++] = n->access[a].outer[d];
    }
    return k;
}

/* Text of a kernel that is larger than this is not repeated for more rows. */
#define NIZ_NEST_LARGE 200

int niz_nest_rows(const niz_nest *n, int parts)
{
    bool folds = false;
    for (int i = 0; i < n->n_values; i++) folds = folds || n->value[i].kind == NIZ_NEST_FOLD;
    int rows = !folds || n->kind != NIZ_GROUP_ROWS || !n->rank ? 1 : parts >= 4 ? 1 : 4 / parts;
    return n->n_values > NIZ_NEST_LARGE ? 1 : rows;
}

int64_t niz_nest_scratch(const niz_nest *n, int vector_bytes)
{
    int64_t size = (int64_t)niz_dtype_size(n->dtype), row = (n->row + 15) / 16 * 16;
    int64_t slot = n->kind == NIZ_GROUP_COLUMNS
                       ? n->row * NIZ_COLUMN_UNIT
                       : row * niz_nest_rows(n, (int)(16 * size / vector_bytes));
    return n->n_slots * slot * size;
}

int64_t niz_nest_units(const niz_nest *n)
{
    int64_t units = 1;
    if (n->kind == NIZ_GROUP_FLAT) units = (n->row + NIZ_FLAT_BLOCK - 1) / NIZ_FLAT_BLOCK;
    if (n->kind == NIZ_GROUP_COLUMNS) units = (n->columns + NIZ_COLUMN_UNIT - 1) / NIZ_COLUMN_UNIT;
    for (int d = 0; d < n->rank; d++) units *= n->dim[d];
    return units;
}

int64_t niz_nest_elements(const niz_nest *n)
{
    int64_t count = n->row * (n->kind == NIZ_GROUP_COLUMNS ? n->columns : 1);
    for (int d = 0; d < n->rank; d++) count *= n->dim[d];
    return count;
}

/* ---- checking and printing ------------------------------------------------------------------- */

static int niz_value_arity(const niz_nest_value *v)
{
    if (v->kind == NIZ_NEST_MAP) return niz_map_arity((niz_map_code)v->code);
    return v->kind != NIZ_NEST_LOAD;
}

/* Whether a load of that dtype in memory may give a value of v's: numbers are converted, truth and
 * an index stay what they are. */
static bool niz_value_can_load(const niz_nest *n, const niz_nest_value *v, niz_dtype memory)
{
    if (v->dtype == n->dtype) return memory != NIZ_BOOL;
    return v->dtype == memory && (v->dtype == NIZ_BOOL || v->row);
}

/* Whether a value may be of its dtype; an index is read by hits alone. */
static bool niz_value_has_dtype(const niz_nest *n, const niz_nest_value *v)
{
    if (v->kind == NIZ_NEST_HIT)
        return v->dtype == NIZ_BOOL && n->value[v->x[0]].row &&
               !niz_dtype_is_float(n->value[v->x[0]].dtype);
    if (v->kind == NIZ_NEST_LOAD) return niz_value_can_load(n, v, n->access[v->access].dtype);
    return v->dtype == n->dtype || v->dtype == NIZ_BOOL;
}

const char *niz_nest_verify(const niz_nest *n, char *why, size_t size)
{
    for (int i = 0; i < n->n_values; i++) {
        const niz_nest_value *v = &n->value[i];
        int arity = niz_value_arity(v);
        const char *fault = v->kind == NIZ_NEST_LOAD && v->access >= n->n_accesses
                                ? "no such access"
                            : niz_value_has_dtype(n, v) ? NULL
                                                        : "a wrong dtype";
        for (int a = 0; a < arity && !fault; a++) {
            const niz_nest_value *x = &n->value[v->x[a]];
            if (v->x[a] >= i)
                fault = "an operand does not come before it";
            else if (x->stage + (v->kind == NIZ_NEST_FOLD) > v->stage)
                fault = "its stage is too early";
            else if (v->row && v->kind == NIZ_NEST_MAP && !x->row)
                fault = "a row value of elements";
            else if (!v->wide && x->wide && v->kind == NIZ_NEST_MAP)
                fault = "one value of many columns";
        }
        if (!fault) continue;
        snprintf(why, size, "value %%%d: %s", i, fault);
        return why;
    }
    return NULL;
}

static const char *niz_value_name(const niz_nest_value *v)
{
    static const char *const fold[] = {"sum", "prod", "max", "min"};
    return v->kind == NIZ_NEST_LOAD  ? "load"
           : v->kind == NIZ_NEST_HIT ? "hit"
           : v->kind == NIZ_NEST_MAP ? niz_map_code_name((niz_map_code)v->code)
                                     : fold[v->code];
}

static const char *niz_nest_what(const niz_nest *n, bool row, bool wide)
{
    if (n->kind != NIZ_GROUP_COLUMNS) return row ? "row" : "element";
    return row ? wide ? "column" : "scalar" : wide ? "element" : "line";
}

void niz_nest_print(FILE *f, const niz_nest *n)
{
    static const char *const kind[] = {"", "rows", "flat", "columns", "tile", "", "panel"};
    fprintf(f, "nest %s %s outer %d\n", niz_dtype_name(n->dtype), kind[n->kind], n->rank);
    for (int i = 0; i < n->n_values; i++) {
        const niz_nest_value *v = &n->value[i];
        int arity = niz_value_arity(v);
        fprintf(f, "  %%%d = %s.%s", i, niz_value_name(v), niz_nest_what(n, v->row, v->wide));
        if (v->kind == NIZ_NEST_LOAD) fprintf(f, " @%u", v->access);
        if (v->kind == NIZ_NEST_LOAD && n->access[v->access].dtype != v->dtype)
            fprintf(f, " %s", niz_dtype_name(n->access[v->access].dtype));
        if (v->kind == NIZ_NEST_MAP && v->code == NIZ_MAP_CONST) fprintf(f, " %g", v->constant);
        for (int a = 0; a < arity; a++) fprintf(f, " %%%u", v->x[a]);
        fprintf(f, "  # stage %u%s\n", v->stage, v->keep ? ", kept" : "");
    }
    for (int i = 0; i < n->n_stores; i++) {
        const niz_access *a = &n->access[n->store[i].access];
        fprintf(f, "  store.%s @%u %%%u\n",
                n->store[i].partial ? "partial" : niz_nest_what(n, a->row, a->wide),
                n->store[i].access, n->store[i].value);
    }
}
