/* param.c - parameters: found by name, changed only by assignments that a run commits.
 *
 * A parameter has committed values of some version.  Its newest version's node is either a leaf
 * (niz_op_param, the committed version) or an assignment not yet run (niz_op_assign, one later).
 * A node of an older version cannot be computed any more: the run says so.
 *
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "core/hash.h"
#include "core/type.h"
#include "graph/recording.h"

const niz_op niz_op_param = {.name = "param", .form = NIZ_FORM_LEAF, .attrs = "of:p"};

static bool niz_assign_view(niz_attrs attr, const niz_shape *y, niz_view *v)
{
    (void)attr, (void)y, (void)v;
    return true; /* the same elements in the same places */
}

/* Of both modes: the derivative of an assigned value is no assignment. */
static niz_t niz_assign_derivative(const niz_app *p, int i, niz_t g)
{
    (void)p, (void)i;
    return g;
}

const niz_op niz_op_assign = {
    .name = "assign", .arity = 1, .form = NIZ_FORM_VIEW, .attrs = "of:p", .infer = niz_infer_same,
    .view = niz_assign_view, .vjp = niz_assign_derivative, .jvp = niz_assign_derivative,
};

/* ---- finding by name ------------------------------------------------------------------------ */

static size_t niz_name_slot(const niz_recording *r, const char *name)
{
    size_t mask = r->name_table_size - 1, i = XXH3_64bits(name, strlen(name)) & mask;
    while (r->name_table[i] && strcmp(r->param[r->name_table[i] - 1].name, name)) i = (i + 1) & mask;
    return i;
}

niz_param *niz_param_lookup(const niz_recording *r, const char *name)
{
    if (!r->name_table_size) return NULL;
    uint32_t index = r->name_table[niz_name_slot(r, name)];
    return index ? &r->param[index - 1] : NULL;
}

uint32_t niz_param_index(const niz_recording *r, const niz_param *p)
{
    return (uint32_t)(p - r->param);
}

static bool niz_name_table_grow(niz_recording *r)
{
    if (r->n_params < r->name_table_size / 2) return true;
    size_t size = r->name_table_size ? r->name_table_size * 2 : 64;
    uint32_t *fresh = niz_realloc(r->z, NULL, size * sizeof *fresh);
    if (!fresh) return false;
    memset(fresh, 0, size * sizeof *fresh);
    niz_free(r->z, r->name_table);
    r->name_table = fresh;
    r->name_table_size = size;
    for (size_t i = 0; i < r->n_params; i++)
        fresh[niz_name_slot(r, r->param[i].name)] = (uint32_t)i + 1;
    return true;
}

static size_t niz_param_bytes(const niz_param *p)
{
    return (size_t)niz_shape_count(&p->shape) * niz_dtype_size(p->dtype);
}

/* ---- making --------------------------------------------------------------------------------- */

static niz_param *niz_param_add(niz_recording *r, const char *name, niz_dtype dtype,
                                const niz_shape *shape, bool trainable)
{
    size_t bytes = (size_t)niz_shape_count(shape) * niz_dtype_size(dtype);
    if (!niz_name_table_grow(r) ||
        !niz_grow(r->z, &r->param, sizeof *r->param, &r->param_capacity, r->n_params + 1))
        return NULL;
    char *copy = niz_realloc(r->z, NULL, strlen(name) + 1);
    void *data = niz_realloc(r->z, NULL, bytes ? bytes : 1);
    if (!copy || !data) {
        niz_free(r->z, copy);
        niz_free(r->z, data);
        return NULL;
    }
    memset(data, 0, bytes ? bytes : 1);
    strcpy(copy, name);
    size_t slot = niz_name_slot(r, name);
    niz_param *p = &r->param[r->n_params++];
    *p = (niz_param){.name = copy, .dtype = dtype, .shape = *shape, .trainable = trainable,
                     .data = data, .node = NIZ_NONE, .pending = NIZ_NONE};
    r->name_table[slot] = (uint32_t)r->n_params;
    return p;
}

/* Undoes niz_param_add when the values could not be made; p is the newest one. */
static void niz_param_drop(niz_recording *r)
{
    niz_param *p = &r->param[r->n_params - 1];
    r->name_table[niz_name_slot(r, p->name)] = 0;
    niz_free(r->z, p->name);
    niz_free(r->z, p->data);
    r->n_params--;
}

void niz_params_free(niz_recording *r)
{
    for (size_t i = 0; i < r->n_params; i++) {
        niz_free(r->z, r->param[i].name);
        niz_free(r->z, r->param[i].data);
    }
    niz_free(r->z, r->param);
    niz_free(r->z, r->name_table);
}

static niz_t niz_init_value(niz *z, niz_at at, niz_dtype dtype, const niz_shape *shape, niz_init i)
{
    switch (i.kind) {
    case NIZ_INIT_UNIFORM: return niz_uniform_at(at, z, dtype, *shape, i.a, i.b);
    case NIZ_INIT_NORMAL: return niz_normal_at(at, z, dtype, *shape, i.a, i.b);
    default: return niz_full_at(at, z, dtype, *shape, i.a);
    }
}

/* The starting values are a small graph of their own, run at once by the same arithmetic as all
 * else, so that they too are the same bits everywhere.  The draw's key is the parameter's name:
 * it does not depend on what else there is. */
static bool niz_param_initialise(niz_recording *r, niz_at at, const char *name, niz_dtype dtype,
                                 const niz_shape *shape, niz_init init, void *out, size_t bytes)
{
    r->hold_assignments++;
    {
        NIZ_STEP(r->z);
        niz_scope of = *r->scope;
        of.parent = r->scope;
        of.hash = XXH3_64bits(name, strlen(name));
        r->scope = &of;
        r->step[0] = r->step[1] = NIZ_INIT_STEP;
        niz_t v = niz_init_value(r->z, at, dtype, shape, init);
        r->scope = of.parent;
        niz_read_at(at, v, out, bytes);
    }
    r->hold_assignments--;
    return !r->z->status;
}

niz_init niz_normal_init_with(niz_normal_options o)
{
    return (niz_init){NIZ_INIT_NORMAL, o.mean, o.std};
}

niz_init niz_uniform_init_with(niz_uniform_options o)
{
    return (niz_init){NIZ_INIT_UNIFORM, o.lo, o.hi};
}

niz_init niz_constant_init(double value)
{
    return (niz_init){NIZ_INIT_CONSTANT, value, 0};
}

/* ---- asking --------------------------------------------------------------------------------- */

/* The newest version's node: the pending assignment, the leaf of before, or a new leaf. */
static niz_t niz_param_handle(niz_recording *r, niz_at at, niz_param *p)
{
    if (p->node < r->g.n) {
        const niz_node *n = &r->g.node[p->node];
        if (n->generation == p->generation &&
            (p->pending == p->node || n->version == p->version))
            return niz_handle(r, p->node);
    }
    int64_t index = niz_param_index(r, p);
    niz_t t = niz_leaf(r, at, &niz_op_param, (niz_attrs){1, &index}, p->dtype, &p->shape);
    if (t.id == NIZ_NONE) return t;
    r->g.node[t.id].version = p->version;
    p->node = t.id;
    p->generation = t.generation;
    return t;
}

static bool niz_param_same(niz *z, niz_at at, const niz_param *p, niz_dtype dtype,
                           const niz_shape *shape)
{
    if (p->dtype == dtype && niz_shape_equal(&p->shape, shape)) return true;
    niz_fail(z, at, p->dtype == dtype ? NIZ_E_SHAPE : NIZ_E_DTYPE,
             "the parameter \"%s\" is %s, asked for as %s", p->name,
             niz_type_text(p->dtype, &p->shape).text, niz_type_text(dtype, shape).text);
    return false;
}

/* Two lines of a program that use one name in a step are probably a mistake (or weight sharing by
 * intent): said once. */
static void niz_param_note_use(niz_recording *r, niz_at at, niz_param *p)
{
    if (r->function_depth) at = r->place.at;
    bool again = p->asked_in_step == r->running && p->made_at.file;
    if (again && !p->clash_reported && (p->made_at.line != at.line || p->made_at.file != at.file)) {
        p->clash_reported = true;
        niz_remark(r->z, "the parameter \"%s\" is used at %s:%d and at %s:%d in one step", p->name,
                p->made_at.file, p->made_at.line, at.file, at.line);
    }
    p->made_at = at;
    p->asked_in_step = r->running;
}

/* The scopes' prefix and the name, or what is behind its "/"; false if it is empty or too long. */
static bool niz_param_full_name(const niz_recording *r, const char *name, char *out, size_t size)
{
    if (!name) return false;
    bool whole = name[0] == '/';
    size_t n = strnlen(name += whole, size), prefix = 0;
    if (!whole && r->scope->length) prefix = r->scope->length + 1;
    if (!n || prefix + n >= size) return false;
    memcpy(out, r->scope->prefix, prefix);
    memcpy(out + prefix, name, n + 1);
    return true;
}

static niz_t niz_param_named(niz_at at, niz *z, const char *name, niz_dtype dtype, niz_shape shape,
                             niz_init init, bool trainable)
{
    NIZ_FUNCTION(z, at, trainable ? "param" : "state");
    niz_recording *r = niz_recording_of(z);
    if (!r || z->status) return niz_inert(z);
    const char *fault = niz_shape_fault(&shape);
    char full[512];
    bool named = niz_param_full_name(r, name, full, sizeof full);
    if (!named)
        niz_fail(z, at, NIZ_E_ARGUMENT,
                 "a parameter's name has at least one character and with its scopes at most %zu",
                 sizeof full - 1);
    else if (fault || (unsigned)dtype >= NIZ_N_DTYPES)
        niz_fail(z, at, NIZ_E_SHAPE, "parameter \"%s\": %s", full, fault ? fault : "not a dtype");
    if (z->status) return niz_inert(z);
    niz_param *p = niz_param_lookup(r, full);
    if (!p) {
        if (!(p = niz_param_add(r, full, dtype, &shape, trainable))) return niz_inert(z);
        size_t bytes = (size_t)niz_shape_count(&shape) * niz_dtype_size(dtype);
        if (!niz_param_initialise(r, at, full, dtype, &shape, init, p->data, bytes)) {
            niz_param_drop(r);
            return niz_inert(z);
        }
    }
    if (!niz_param_same(z, at, p, dtype, &shape)) return niz_inert(z);
    p->trainable = trainable; /* a file may have brought it before the program said what it is */
    niz_param_note_use(r, at, p);
    return niz_param_handle(r, at, p);
}

niz_t niz_param_at(niz_at at, niz *z, const char *name, niz_dtype dtype, niz_shape shape,
                   niz_init init)
{
    return niz_param_named(at, z, name, dtype, shape, init, true);
}

niz_t niz_state_at(niz_at at, niz *z, const char *name, niz_dtype dtype, niz_shape shape,
                   niz_init init)
{
    return niz_param_named(at, z, name, dtype, shape, init, false);
}

niz_t niz_find_at(niz_at at, niz *z, const char *name)
{
    NIZ_FUNCTION(z, at, "find");
    niz_recording *r = niz_recording_of(z);
    if (!r || z->status) return niz_inert(z);
    niz_param *p = name ? niz_param_lookup(r, name) : NULL;
    if (p) return niz_param_handle(r, at, p);
    niz_fail(z, at, NIZ_E_ARGUMENT, "there is no parameter \"%s\"", name ? name : "");
    return niz_inert(z);
}

/* ---- assigning ------------------------------------------------------------------------------ */

void niz_assign_at(niz_at at, niz_t param, niz_t value)
{
    niz *z = param.z ? param.z : value.z;
    NIZ_FUNCTION(z, at, "assign");
    niz_recording *r = niz_recording_of(z);
    if (!r || z->status) return;
    const niz_node *n = niz_handle_node(r, at, param, "the parameter of an assignment");
    const niz_node *v = n ? niz_handle_node(r, at, value, "the value of an assignment") : NULL;
    if (!v) return;
    if (n->op != &niz_op_param && n->op != &niz_op_assign) {
        niz_fail(z, at, NIZ_E_ARGUMENT, "only parameters can be assigned, not the result of %s",
                 n->op->name);
        return;
    }
    int64_t index = n->attr[0];
    niz_param *p = &r->param[index];
    if (!niz_param_same(z, at, p, (niz_dtype)v->dtype, v->shape)) return;
    const niz_place *place = niz_place_now(r, at);
    if (!place) return;
    uint32_t id = niz_graph_add(&r->g, &(niz_node_spec){&niz_op_assign, 1, &value.id,
                                                        {1, &index}, p->dtype, &p->shape, place,
                                                        true});
    if (id == NIZ_NONE) return;
    z->stats.nodes_recorded++;
    r->g.node[id].version = ++p->newest;
    r->g.node[id].flags |= NIZ_NODE_ASSIGN;
    p->node = p->pending = id;
    p->assigned_in_step = r->running;
    p->generation = r->g.node[id].generation;
}

void niz_param_committed(niz_recording *r, uint32_t assign_node)
{
    const niz_node *n = &r->g.node[assign_node];
    niz_param *p = &r->param[n->attr[0]];
    p->version = n->version;
    p->updated_at = n->place->at;
    if (p->pending == assign_node) p->pending = NIZ_NONE;
}

void niz_param_advance(niz_recording *r, int64_t index, niz_at at)
{
    niz_param *p = &r->param[index];
    p->version = ++p->newest;
    p->updated_at = at;
}

void niz_params_forget(niz_recording *r, uint32_t from_node)
{
    for (size_t i = 0; i < r->n_params; i++) {
        niz_param *p = &r->param[i];
        if (p->pending == NIZ_NONE || p->pending < from_node) continue;
        p->pending = NIZ_NONE;
        p->node = NIZ_NONE;
        p->assigned_in_step = 0;
    }
}

/* ---- from outside --------------------------------------------------------------------------- */

int64_t niz_param_count(const niz *z)
{
    const niz_recording *r = z ? z->slot[NIZ_SLOT_RECORDING].state : NULL;
    return r ? (int64_t)r->n_params : 0;
}

niz_param_info niz_param_get(const niz *z, int64_t i)
{
    if (i < 0 || i >= niz_param_count(z)) return (niz_param_info){.name = ""};
    const niz_recording *r = z->slot[NIZ_SLOT_RECORDING].state;
    const niz_param *p = &r->param[i];
    return (niz_param_info){p->name, p->dtype, p->shape, p->trainable, p->data};
}

/* The number of the parameter behind a handle, or -1. */
static int64_t niz_param_behind(niz_t t)
{
    if (!niz_is_valid(t)) return -1;
    const niz_node *n = &niz_recording_of(t.z)->g.node[t.id];
    return n->op == &niz_op_param || n->op == &niz_op_assign ? n->attr[0] : -1;
}

niz_param_info niz_param_of(niz_t param)
{
    return niz_param_get(param.z, niz_param_behind(param));
}

bool niz_param_is_assigned(niz_t param)
{
    int64_t i = niz_param_behind(param);
    const niz_recording *r = i < 0 ? NULL : niz_recording_of(param.z);
    return r && r->running && r->param[i].assigned_in_step == r->running;
}

/* Marks what a gradient of y flows to, from y down; of each parameter the highest marked node is the
 * newest. */
int64_t niz_params_of(niz_t y, int64_t max, niz_t *params)
{
    niz_recording *r = niz_recording_of(y.z);
    if (!r || y.z->status || !niz_handle_node(r, (niz_at){0}, y, "the value")) return 0;
    uint32_t *newest = niz_realloc(y.z, NULL, sizeof *newest * (r->n_params + 1));
    bool *needed = niz_realloc(y.z, NULL, (size_t)y.id + 1);
    int64_t n = 0;
    if (newest && needed) {
        memset(newest, 0xff, sizeof *newest * (r->n_params + 1));
        memset(needed, 0, (size_t)y.id + 1);
        needed[y.id] = true;
        for (uint32_t id = y.id + 1; id-- > 0;) {
            const niz_node *node = &r->g.node[id];
            bool flows = niz_dtype_is_float((niz_dtype)node->dtype) && !node->op->no_gradient;
            if (!needed[id] || !flows) continue;
            for (int i = 0; i < node->n_arg; i++) needed[node->arg[i]] = true;
            bool is = node->op == &niz_op_param || node->op == &niz_op_assign;
            if (is && newest[node->attr[0]] == NIZ_NONE) newest[node->attr[0]] = id;
        }
        for (size_t i = 0; i < r->n_params; i++)
            if (newest[i] != NIZ_NONE && r->param[i].trainable &&
                niz_dtype_is_float(r->param[i].dtype) && n++ < max)
                params[n - 1] = niz_handle(r, newest[i]);
    }
    niz_free(y.z, newest);
    niz_free(y.z, needed);
    return n;
}

static bool niz_param_can_set(niz_recording *r, const niz_param_info *new)
{
    const niz_at none = {0};
    const char *fault = niz_shape_fault(&new->shape);
    if (!new->name || !new->name[0]) fault = "it has no name";
    if ((unsigned)new->dtype >= NIZ_N_DTYPES) fault = "not a dtype";
    if (!new->data && !fault && niz_shape_count(&new->shape)) fault = "no values were given";
    if (fault) {
        niz_fail(r->z, none, NIZ_E_ARGUMENT, "the parameter \"%s\" cannot be set: %s",
                 new->name ? new->name : "", fault);
        return false;
    }
    const niz_param *p = niz_param_lookup(r, new->name);
    if (!p) return true;
    if (!niz_param_same(r->z, none, p, new->dtype, &new->shape)) return false;
    if (p->pending == NIZ_NONE) return true;
    niz_fail(r->z, none, NIZ_E_ARGUMENT,
             "the parameter \"%s\" has an assignment that no run has committed yet", p->name);
    return false;
}

static void niz_param_overwrite(niz_param *p, const void *data)
{
    if (niz_param_bytes(p)) memcpy(p->data, data, niz_param_bytes(p));
    p->version = ++p->newest;
    p->updated_at = (niz_at){0};
}

niz_status niz_param_set_all(niz *z, int64_t n, const niz_param_info *params)
{
    niz_recording *r = niz_recording_of(z);
    if (!r || z->status) return niz_error(z);
    size_t before = r->n_params;
    for (int64_t i = 0; i < n; i++)
        if (!niz_param_can_set(r, &params[i])) return z->status;
    for (int64_t i = 0; i < n; i++) {
        const niz_param_info *p = &params[i];
        const niz_param *found = niz_param_lookup(r, p->name);
        if (found && niz_param_index(r, found) < before) continue;
        if (found)
            niz_fail(z, (niz_at){0}, NIZ_E_ARGUMENT, "the parameter \"%s\" is given twice", p->name);
        else if (niz_param_add(r, p->name, p->dtype, &p->shape, p->trainable))
            continue;
        while (r->n_params > before) niz_param_drop(r);
        return z->status;
    }
    for (int64_t i = 0; i < n; i++)
        niz_param_overwrite(niz_param_lookup(r, params[i].name), params[i].data);
    return NIZ_OK;
}

niz_status niz_param_set(niz *z, const char *name, niz_dtype dtype, niz_shape shape,
                         bool trainable, const void *data)
{
    return niz_param_set_all(z, 1, &(niz_param_info){name, dtype, shape, trainable, data});
}

void niz_param_hash(const niz *z, char hex[33])
{
    XXH3_state_t s;
    XXH3_INITSTATE(&s);
    XXH3_128bits_reset(&s);
    for (int64_t i = 0; i < niz_param_count(z); i++) {
        niz_param_info p = niz_param_get(z, i);
        int64_t head[2 + NIZ_MAX_RANK] = {p.dtype, p.shape.rank};
        memcpy(head + 2, p.shape.dim, sizeof(int64_t) * (size_t)p.shape.rank);
        XXH3_128bits_update(&s, p.name, strlen(p.name) + 1);
        XXH3_128bits_update(&s, head, sizeof head);
        XXH3_128bits_update(&s, p.data, (size_t)niz_shape_count(&p.shape) * niz_dtype_size(p.dtype));
    }
    XXH128_hash_t h = XXH3_128bits_digest(&s);
    snprintf(hex, 33, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
}

/* ---- snapshots ------------------------------------------------------------------------------ */

struct niz_snapshot {
    niz_counters counters;
    size_t n; /* parameters; those made later are left alone by a restore */
    size_t bytes;
    unsigned char data[];
};

niz_snapshot *niz_snapshot_take(niz *z)
{
    niz_recording *r = niz_recording_of(z);
    if (!r || niz_run_at((niz_at){0}, z, 0, NULL)) return NULL; /* what is pending */
    size_t bytes = 0;
    for (size_t i = 0; i < r->n_params; i++) bytes += niz_param_bytes(&r->param[i]);
    niz_snapshot *s = niz_realloc(z, NULL, sizeof *s + bytes);
    if (!s) return NULL;
    s->counters = r->counters;
    s->n = r->n_params;
    s->bytes = bytes;
    unsigned char *to = s->data;
    for (size_t i = 0; i < s->n; i++) {
        memcpy(to, r->param[i].data, niz_param_bytes(&r->param[i]));
        to += niz_param_bytes(&r->param[i]);
    }
    return s;
}

niz_status niz_snapshot_restore(niz *z, const niz_snapshot *s)
{
    niz_recording *r = niz_recording_of(z);
    if (!r || z->status) return niz_error(z);
    size_t bytes = 0;
    for (size_t i = 0; s && i < s->n && i < r->n_params; i++) bytes += niz_param_bytes(&r->param[i]);
    if (!s || s->n > r->n_params || s->bytes != bytes)
        return niz_fail(z, (niz_at){0}, NIZ_E_ARGUMENT, "not a snapshot of this context");
    const unsigned char *from = s->data;
    for (size_t i = 0; i < s->n; i++) {
        niz_param_info p = niz_param_get(z, (int64_t)i);
        p.data = from;
        if (!niz_param_can_set(r, &p)) return z->status;
    }
    for (size_t i = 0; i < s->n; i++) {
        niz_param_overwrite(&r->param[i], from);
        from += niz_param_bytes(&r->param[i]);
    }
    niz_counters_set(z, s->counters);
    return NIZ_OK;
}

void niz_snapshot_free(niz *z, niz_snapshot *s)
{
    niz_free(z, s);
}
