/* call.c - fixed functions: a step that is recorded and planned once, and run as often as wanted.
 *
 *   niz_compile   body ─ a graph of its own (niz_trace) ─> live part ─> a plan of its own
 *   niz_call      pointers of inputs, numbers of draws ─> run.c ─> versions of parameters
 *
 * A call does what recording the same step anew would come to: it takes a step's number for its
 * draws, reads the parameters as they stand, and gives those it assigns a new version.  The graph
 * is kept for its leaves (copied data, keys of draws), for the places in messages, and for its
 * arena, where all lists of a function lie.  The plan is in no cache, so nothing evicts it.
 *
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "core/context.h"
#include "core/control.h"
#include "exec/exec.h"

/* Where an output comes from. */
typedef enum niz_fn_source {
    NIZ_FN_COMPUTED, /* the plan writes it: index is its number there */
    NIZ_FN_AGAIN,    /* the same, where an output before has it already */
    NIZ_FN_INPUT,    /* it is input `index` as it is */
    NIZ_FN_DATA,     /* it is other data, which body brought */
    NIZ_FN_PARAM     /* it is parameter `index` after the run */
} niz_fn_source;

typedef struct niz_fn_output {
    niz_fn_source source;
    int64_t index;
    const void *data;
    niz_type_spec type;
    size_t bytes;
    void *spare; /* where it goes if the caller does not want it; made when that happens first */
} niz_fn_output;

struct niz_fn {
    niz *z;
    niz_fn *next, **link; /* in niz_exec.functions */
    niz_graph g;          /* what was recorded */
    niz_plan *plan;       /* NULL: there is nothing to compute */
    niz_bind bind;
    const void **data; /* bind.data: the inputs' slots are written at each call */
    int n_in, n_out, n_slots, n_commits;
    size_t n_keys;
    struct niz_fn_slot {
        int in;
        size_t slot;
    } * slot;    /* of the inputs that the plan reads */
    bool *needs; /* of each input: it has elements, so it must be given */
    niz_fn_output *out;
    void **result; /* of the plan's outputs */
    struct niz_fn_commit {
        int64_t param;
        niz_at at;
    } * commit;
    struct niz_fn_key {
        int64_t *words; /* seed, scope, step, ordinal */
        bool training;
    } * key;
};

void niz_fn_free(niz_fn *f)
{
    if (!f) return;
    niz *z = f->z;
    if (f->link) *f->link = f->next;
    if (f->link && f->next) f->next->link = f->link;
    if (f->plan) niz_plan_free(niz_exec_of(z), f->plan);
    for (int i = 0; f->out && i < f->n_out; i++) niz_free(z, f->out[i].spare);
    niz_graph_free(&f->g);
    niz_free(z, f);
}

void niz_fns_free(niz_exec *e)
{
    while (e->functions) niz_fn_free(e->functions);
}

static void niz_fn_link(niz_exec *e, niz_fn *f)
{
    f->next = e->functions;
    f->link = &e->functions;
    if (f->next) f->next->link = &f->next;
    e->functions = f;
}

/* What is pending runs first, so that parameters are what the program says they are by now. */
static bool niz_fn_settle(niz_recording *r, niz_at at, const char *name)
{
    if (!niz_step_has_pending(r)) return true;
    if (niz_run_at(at, r->z, 0, NULL)) return false;
    if (!niz_step_has_pending(r)) return true;
    niz_fail_of(r->z, at, name, NIZ_E_ARGUMENT,
                "assignments are pending, which are held back here");
    return false;
}

/* ---- recording ------------------------------------------------------------------------------ */

/* The inputs' nodes, the first of the graph, have this for data until they are given some. */
static const char niz_fn_nothing;

static bool niz_fn_inputs(niz_fn *f, niz_recording *r, niz_at at, const niz_type_spec *type,
                          niz_t *in)
{
    if (!(f->needs = niz_arena_alloc(&r->g.arena, sizeof *f->needs * (size_t)f->n_in)))
        return false;
    for (int i = 0; i < f->n_in && !f->z->status; i++) {
        in[i] = niz_from_at(at, f->z, type[i].dtype, type[i].shape, &niz_fn_nothing);
        f->needs[i] = !f->z->status && niz_shape_count(&type[i].shape) > 0;
    }
    return !f->z->status;
}

static bool niz_fn_has_outputs(const niz_fn *f, niz_at at, const niz_t *out)
{
    for (int i = 0; i < f->n_out && !f->z->status; i++)
        if (!niz_is_valid(out[i]))
            niz_fail_of(f->z, at, "compile", NIZ_E_ARGUMENT,
                        "the function has not set output %d of its %d", i, f->n_out);
    return !f->z->status;
}

static niz_fn_output niz_fn_output_of(const niz_fn *f, const niz_recording *r, const niz_live *live,
                                      const niz_t *out, int i)
{
    uint32_t id = out[i].id;
    const niz_node *n = &r->g.node[id];
    niz_fn_output o = {.type = {(niz_dtype)n->dtype, *n->shape}, .bytes = niz_node_bytes(n)};
    while (o.index < live->n_want && live->out[o.index] != id) o.index++;
    if (o.index < live->n_want) {
        for (int j = 0; j < i; j++)
            if (out[j].id == id) o.source = NIZ_FN_AGAIN;
    } else if (n->op == &niz_op_data) {
        o.source = id < (uint32_t)f->n_in ? NIZ_FN_INPUT : NIZ_FN_DATA;
        o.index = id;
        o.data = n->data;
    } else {
        o.source = NIZ_FN_PARAM;
        o.index = n->attr[0];
    }
    return o;
}

/* The slots of data that are inputs. */
static void niz_fn_find_slots(niz_fn *f, const niz_recording *r, const niz_live *live)
{
    size_t slot = 0;
    for (size_t i = 0; i < live->n; i++) {
        if (niz_live_leaf(r, live->id[i]) != NIZ_LEAF_DATA) continue;
        if (live->id[i] < (uint32_t)f->n_in)
            f->slot[f->n_slots++] = (struct niz_fn_slot){(int)live->id[i], slot};
        slot++;
    }
}

/* Keeps what calls need of the live part and of the recording, which both go on to other things. */
static bool niz_fn_keep(niz_fn *f, niz_recording *r, const niz_live *live, const niz_t *out)
{
    niz_arena *a = &r->g.arena;
    const niz_trace *t = r->trace;
    f->n_commits = live->n_out - live->n_want;
    uint32_t *id = niz_arena_copy(a, live->id, sizeof *id * live->n);
    f->data = niz_arena_copy(a, live->data, sizeof *f->data * live->n_data);
    f->slot = niz_arena_alloc(a, sizeof *f->slot * (size_t)f->n_in);
    f->out = niz_arena_alloc(a, sizeof *f->out * (size_t)f->n_out);
    f->result = niz_arena_alloc(a, sizeof *f->result * (size_t)live->n_want);
    f->commit = niz_arena_alloc(a, sizeof *f->commit * (size_t)f->n_commits);
    f->key = niz_arena_alloc(a, sizeof *f->key * t->n_keys);
    if (!id || !f->data || !f->slot || !f->out || !f->result || !f->commit || !f->key) {
        f->out = NULL;
        return false;
    }
    f->bind = (niz_bind){&f->g, id, f->data, live->n_data, NULL};
    niz_fn_find_slots(f, r, live);
    for (int i = 0; i < f->n_out; i++) f->out[i] = niz_fn_output_of(f, r, live, out, i);
    for (int i = 0; i < f->n_commits; i++) {
        const niz_node *n = &r->g.node[live->out[live->n_want + i]];
        f->commit[i] = (struct niz_fn_commit){n->attr[0], n->place->at};
    }
    for (; f->n_keys < t->n_keys; f->n_keys++) {
        int64_t *words = t->key[f->n_keys];
        f->key[f->n_keys] = (struct niz_fn_key){words, (uint64_t)words[2] != NIZ_TRACE_STEP};
    }
    return true;
}

static bool niz_fn_record(niz_fn *f, niz_exec *e, niz_recording *r, niz_at at, niz_fn_body *body,
                          void *arg, const niz_type_spec *type)
{
    niz_live *live = &e->live;
    niz_t *in = niz_arena_alloc(&r->g.arena, sizeof *in * (size_t)(f->n_in + f->n_out));
    niz_t *out = in ? in + f->n_in : NULL;
    if (!in || !niz_fn_inputs(f, r, at, type, in)) return false;
    for (int i = 0; i < f->n_out; i++) out[i] = niz_inert(NULL);
    body(f->z, arg, in, out);
    if (!niz_fn_has_outputs(f, at, out) || !niz_run_collect(e, r, at, f->n_out, out)) return false;
    if (!live->n_out)
        live->n = live->n_data = 0;
    else if (!niz_live_find(r, live) || !(f->plan = niz_plan_own(e, r)))
        return false;
    return niz_fn_keep(f, r, live, out);
}

static bool niz_fn_may(niz *z, niz_recording *r, niz_at at, niz_fn_body *body, int n_in,
                       const niz_type_spec *in, int n_out)
{
    if (body && n_in >= 0 && n_out >= 0 && (in || !n_in)) return niz_fn_settle(r, at, "compile");
    niz_fail_of(z, at, "compile", NIZ_E_ARGUMENT,
                "needs a function, the types of %d inputs and a number of outputs, not %d", n_in,
                n_out);
    return false;
}

/* Within a guard: body may close the context, which then lives until the end of it. */
static niz_fn *niz_fn_make(niz *z, niz_recording *r, niz_at at, niz_fn_body *body, void *arg,
                           int n_in, const niz_type_spec *in, int n_out)
{
    niz_trace trace;
    niz_exec *e = niz_exec_of(z);
    niz_fn *f = e ? niz_realloc(z, NULL, sizeof *f) : NULL;
    if (!f) return NULL;
    memset(f, 0, sizeof *f);
    f->z = z;
    f->n_in = n_in;
    f->n_out = n_out;
    if (!niz_trace_begin(r, &trace)) {
        niz_free(z, f);
        return NULL;
    }
    bool ok = niz_fn_record(f, e, r, at, body, arg, in);
    niz_trace_end(r, &trace, &f->g);
    if (ok && !z->status) {
        niz_fn_link(e, f);
        return f;
    }
    niz_fn_free(f);
    return NULL;
}

niz_fn *niz_compile_at(niz_at at, niz *z, niz_fn_body *body, void *arg, int n_in,
                       const niz_type_spec *in, int n_out)
{
    NIZ_CONTROL;
    niz_recording *r = niz_recording_of(z);
    if (!r || z->status || !niz_fn_may(z, r, at, body, n_in, in, n_out)) return NULL;
    niz_guard_begin(z);
    niz_fn *f = niz_fn_make(z, r, at, body, arg, n_in, in, n_out);
    return niz_guard_end(z) ? NULL : f;
}

/* ---- calling -------------------------------------------------------------------------------- */

static bool niz_fn_give(niz_fn *f, niz_at at, const void *const *in)
{
    for (int i = 0; i < f->n_in; i++)
        if (f->needs[i] && (!in || !in[i])) {
            niz_fail_of(f->z, at, "call", NIZ_E_ARGUMENT, "no data: input %d is NULL", i);
            return false;
        }
    for (int i = 0; i < f->n_slots; i++) {
        const struct niz_fn_slot *s = &f->slot[i];
        f->data[s->slot] = f->needs[s->in] ? in[s->in] : &niz_fn_nothing;
    }
    return true;
}

/* As a step would that draws what this one draws. */
static void niz_fn_draw(niz_fn *f, niz_recording *r)
{
    uint64_t number[2] = {NIZ_NO_STEP, NIZ_NO_STEP};
    for (size_t i = 0; i < f->n_keys; i++) {
        const struct niz_fn_key *k = &f->key[i];
        uint64_t *n = &number[k->training];
        if (*n == NIZ_NO_STEP) *n = niz_step_take(r, k->training);
        k->words[0] = (int64_t)r->counters.seed;
        k->words[2] = (int64_t)*n;
    }
}

static bool niz_fn_results(niz_fn *f, void *const *out)
{
    for (int i = 0; i < f->n_out; i++) {
        niz_fn_output *o = &f->out[i];
        if (o->source != NIZ_FN_COMPUTED) continue;
        void *to = out && out[i] ? out[i] : o->spare;
        if (!to && !(to = o->spare = niz_realloc(f->z, NULL, o->bytes ? o->bytes : 1)))
            return false;
        f->result[o->index] = to;
    }
    return true;
}

/* The outputs that the plan does not write itself. */
static void niz_fn_copy(const niz_fn *f, const niz_recording *r, const void *const *in,
                        void *const *out)
{
    for (int i = 0; out && i < f->n_out; i++) {
        const niz_fn_output *o = &f->out[i];
        const void *from = NULL;
        if (!out[i] || !o->bytes) continue;
        switch (o->source) {
        case NIZ_FN_COMPUTED: continue;
        case NIZ_FN_AGAIN: from = f->result[o->index]; break;
        case NIZ_FN_INPUT: from = in[o->index]; break;
        case NIZ_FN_DATA: from = o->data; break;
        case NIZ_FN_PARAM: from = r->param[o->index].data; break;
        }
        memcpy(out[i], from, o->bytes);
    }
}

static bool niz_fn_may_call(niz_fn *f, niz_recording *r, niz_at at)
{
    if (r->trace) {
        niz_fail_of(f->z, at, "call", NIZ_E_ARGUMENT,
                    "a fixed function cannot be called in one that is compiled: its inputs have no "
                    "values yet");
        return false;
    }
    return niz_fn_settle(r, at, "call");
}

niz_status niz_call_at(niz_at at, niz_fn *f, const void *const *in, void *const *out)
{
    if (!f) return NIZ_E_ARGUMENT; /* there is no context to say it */
    niz *z = f->z;
    niz_recording *r = niz_recording_of(z);
    if (z->status || !niz_fn_may_call(f, r, at) || !niz_fn_give(f, at, in) ||
        !niz_fn_results(f, out))
        return z->status;
    niz_fn_draw(f, r);
    z->stats.runs++;
    if (f->plan && !niz_plan_run(niz_exec_of(z), r, f->plan, &f->bind, f->result)) return z->status;
    for (int i = 0; i < f->n_commits; i++)
        niz_param_advance(r, f->commit[i].param, f->commit[i].at);
    niz_fn_copy(f, r, in, out);
    return NIZ_OK;
}

niz_type_spec niz_fn_type(const niz_fn *f, int i)
{
    return f && i >= 0 && i < f->n_out ? f->out[i].type : (niz_type_spec){0};
}
