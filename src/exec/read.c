/* read.c - niz_run, niz_read, niz_item: from handles to values.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "core/context.h"
#include "core/control.h"
#include "core/type.h"
#include "exec/exec.h"
#include "exec/jit.h"
#include "exec/profile.h"

/* ---- state ---------------------------------------------------------------------------------- */

static void niz_exec_free(niz *z, void *state)
{
    niz_exec *e = state;
    niz_stats_print(e);
    niz_pool_close(z, e->pool);
    niz_profile_close(e->profile);
    niz_fns_free(e);
    niz_plans_free(e);
    niz_jit_close(e);
    niz_maps_free(e);
    niz_live_free(z, &e->live);
    niz_free(z, e->arena);
    niz_free(z, e->scratch);
    niz_free(z, e->base);
    niz_free(z, e->literal);
    niz_free(z, e);
}

niz_exec *niz_exec_of(niz *z)
{
    niz_exec *e = z->slot[NIZ_SLOT_EXEC].state;
    if (e || !(e = niz_realloc(z, NULL, sizeof *e))) return e;
    memset(e, 0, sizeof *e);
    e->z = z;
    e->loops = niz_isa_loops();
    e->threads = niz_thread_count(&z->options);
    z->slot[NIZ_SLOT_EXEC] = (niz_slot){e, niz_exec_free};
    e->profile = niz_profile_open(z);
    niz_jit_open(e);
    return e;
}

/* ---- what to compute ------------------------------------------------------------------------ */

static bool niz_run_wants(niz_exec *e, uint32_t id)
{
    niz_live *live = &e->live;
    if (niz_live_has(live, id)) return true;
    if (!niz_grow(e->z, &live->out, sizeof *live->out, &live->out_capacity,
                  (size_t)live->n_out + 1))
        return false;
    live->epoch[id] = live->now;
    live->out[live->n_out++] = id;
    return true;
}

static bool niz_run_is_pending(const niz_recording *r, uint32_t id)
{
    const niz_node *n = &r->g.node[id];
    return n->op == &niz_op_assign && r->param[n->attr[0]].pending == id;
}

/* A parameter's committed values are there to be read, unless this run overwrites them: then the
 * old ones are kept as a value of their own. */
static bool niz_run_is_current(const niz_recording *r, uint32_t id)
{
    const niz_node *n = &r->g.node[id];
    if (niz_live_leaf(r, id) != NIZ_LEAF_PARAM) return false;
    const niz_param *p = &r->param[n->attr[0]];
    return n->version == p->version && (p->pending == NIZ_NONE || r->hold_assignments);
}

/* The wanted nodes that have no value yet, then the pending assignments. */
bool niz_run_collect(niz_exec *e, niz_recording *r, niz_at at, int n, const niz_t *want)
{
    niz_live *live = &e->live;
    live->n_out = 0;
    if (!niz_live_begin(e->z, live, r->g.n)) return false;
    for (int i = 0; i < n; i++) {
        if (!niz_handle_node_of(r, at, "run", want[i], "a wanted value")) return false;
        bool known = r->g.node[want[i].id].data != NULL || niz_run_is_current(r, want[i].id);
        bool committed = !r->hold_assignments && niz_run_is_pending(r, want[i].id);
        if (!known && !committed && !niz_run_wants(e, want[i].id)) return false;
    }
    live->n_want = live->n_out;
    for (size_t i = 0; i < r->n_params && !r->hold_assignments; i++)
        if (r->param[i].pending != NIZ_NONE && !niz_run_wants(e, r->param[i].pending)) return false;
    return true;
}

/* Memory for wanted values, which the nodes own once the run has succeeded. */
static void **niz_run_outputs(niz_exec *e, const niz_recording *r)
{
    const niz_live *live = &e->live;
    void **out = niz_realloc(e->z, NULL, sizeof *out * (size_t)(live->n_want + 1));
    for (int i = 0; out && i < live->n_want; i++) {
        size_t bytes = niz_node_bytes(&r->g.node[live->out[i]]);
        if (!(out[i] = niz_realloc(e->z, NULL, bytes ? bytes : 1))) {
            while (i-- > 0) niz_free(e->z, out[i]);
            niz_free(e->z, out);
            return NULL;
        }
    }
    return out;
}

static void niz_run_keep(niz_exec *e, niz_recording *r, void **out, bool ok)
{
    const niz_live *live = &e->live;
    for (int i = 0; i < live->n_want; i++) {
        niz_node *n = &r->g.node[live->out[i]];
        if (ok) {
            n->data = out[i];
            n->flags |= NIZ_NODE_OWNED;
        } else {
            niz_free(e->z, out[i]);
        }
    }
    for (int i = live->n_want; ok && i < live->n_out; i++) niz_param_committed(r, live->out[i]);
}

bool niz_run_bind(niz_exec *e, const niz_recording *r, const niz_plan *plan, niz_bind *bind)
{
    const niz_live *live = &e->live;
    *bind = (niz_bind){&r->g, live->id, live->data, live->n_data, NULL};
    if (!plan->literals_as_data) return true;
    if (!niz_grow(e->z, &e->literal, sizeof *e->literal, &e->literal_capacity, live->n_literals))
        return false;
    for (size_t i = 0; i < live->n_literals; i++) {
        const niz_node *n = &r->g.node[live->id[live->literal[i]]];
        double v;
        memcpy(&v, n->attr, sizeof v);
        e->literal[i] = niz_constant_bits((niz_dtype)n->dtype, v);
    }
    bind->literal = e->literal;
    return true;
}

/* A fixed function's inputs have no values while it is recorded; parameters it makes may start. */
static bool niz_run_may(niz_recording *r, niz_at at)
{
    if (!r->trace || r->hold_assignments) return true;
    niz_fail_of(r->z, at, "run", NIZ_E_ARGUMENT,
                "nothing can be run or read in a function that is compiled: its inputs have no "
                "values yet");
    return false;
}

niz_status niz_run_at(niz_at at, niz *z, int n, const niz_t *want)
{
    NIZ_CONTROL; /* for what planning computes: constants, folding */
    niz_recording *r = niz_recording_of(z);
    if (!r || z->status) return niz_error(z);
    niz_exec *e = niz_exec_of(z);
    if (!e || !niz_run_may(r, at) || !niz_run_collect(e, r, at, n, want)) return z->status;
    if (!e->live.n_out) return NIZ_OK;
    z->stats.runs++;
    if (!niz_live_find(r, &e->live)) return z->status;
    niz_plan *plan = niz_plan_get(e, r);
    niz_bind bind;
    void **out = plan && niz_run_bind(e, r, plan, &bind) ? niz_run_outputs(e, r) : NULL;
    if (!out) return z->status;
    niz_run_keep(e, r, out, niz_plan_run(e, r, plan, &bind, out));
    niz_free(z, out);
    return z->status;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* The value of a node that has been run; a literal's is put into *constant. */
static const void *niz_read_value(niz_recording *r, const niz_node *n, int64_t *constant)
{
    double v;
    if (n->data) return n->data;
    if (n->op == &niz_op_param || n->op == &niz_op_assign) return r->param[n->attr[0]].data;
    memcpy(&v, n->attr, sizeof v);
    *constant = niz_constant_bits((niz_dtype)n->dtype, v);
    return constant;
}

/* Runs what t needs and gives its value, or NULL (error set). */
static const void *niz_read_run(niz_at at, const char *name, niz_t t, const niz_node **node,
                                int64_t *constant)
{
    niz_recording *r = niz_recording_of(t.z);
    if (!r || t.z->status || !niz_handle_node_of(r, at, name, t, "the value to read")) return NULL;
    if (niz_live_leaf(r, t.id) != NIZ_LEAF_LITERAL && niz_run_at(at, t.z, 1, &t)) return NULL;
    *node = &r->g.node[t.id];
    return niz_read_value(r, *node, constant);
}

niz_status niz_read_at(niz_at at, niz_t t, void *out, size_t bytes)
{
    if (!t.z) return NIZ_E_STALE; /* an empty handle: there is no context to say it */
    NIZ_CONTROL;
    const niz_node *n;
    int64_t constant;
    const void *value = niz_read_run(at, "read", t, &n, &constant);
    if (!value) return niz_error(t.z);
    if (bytes != niz_node_bytes(n))
        return niz_fail_of(t.z, at, "read", NIZ_E_ARGUMENT, "%s has %zu bytes, not %zu",
                           niz_type_text((niz_dtype)n->dtype, n->shape).text, niz_node_bytes(n),
                           bytes);
    if (bytes) memcpy(out, value, bytes);
    return NIZ_OK;
}

double niz_item_at(niz_at at, niz_t t)
{
    NIZ_CONTROL;
    const niz_node *n;
    int64_t constant;
    double v;
    if (niz_is_valid(t)) {
        niz_shape s = niz_shape_of(t);
        if (niz_shape_count(&s) != 1) {
            niz_fail_of(t.z, at, "item", NIZ_E_SHAPE, "needs one element, not %s",
                        niz_type_text(niz_dtype_of(t), &s).text);
            return NAN;
        }
    }
    const void *value = niz_read_run(at, "item", t, &n, &constant);
    if (!value) return NAN;
    if (niz_constant_value((niz_dtype)n->dtype, value, &v)) return v;
    niz_fail_of(t.z, at, "item", NIZ_E_ARGUMENT, "an i64 beyond 2^53 is no double; use niz_read");
    return NAN;
}
