/* recording.h - the graph a user is writing: handles, steps, scopes, places, parameters.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_RECORDING_H
#define NIZ_RECORDING_H

#include "core/context.h"
#include "graph/graph.h"

/* Leaves and assignments: the records that the graph itself needs.  literal has attribute value:f;
 * param and assign have the parameter's index; assign is its operand as the parameter's next
 * version. */
extern const niz_op niz_op_literal, niz_op_data, niz_op_param, niz_op_assign;

typedef struct niz_param {
    char *name;
    niz_dtype dtype;
    niz_shape shape;
    bool trainable;
    void *data;      /* the committed version's values */
    int64_t version; /* of data */
    int64_t newest;  /* the highest version given to any assignment, dropped ones included */
    uint32_t node, generation; /* the newest version's node in the recording, if it still lives */
    uint32_t pending;          /* the newest uncommitted assign node, or NIZ_NONE */
    niz_at updated_at;         /* where the committed version was assigned */
    niz_at made_at;            /* the last place that asked for it by name ... */
    int64_t asked_in_step;     /* ... and in which step */
    int64_t assigned_in_step;
    bool clash_reported, newer_reported;
} niz_param;

typedef struct niz_frame {
    uint32_t nodes;
    niz_mark mark;
    const niz_scope *scope;
    /* of the enclosing step: */
    int64_t running;
    uint64_t step[2];
    size_t n_draws;
} niz_frame;

/** Places of the nodes recorded last, by a hash of their own: a loop over a few lines makes few. */
#define NIZ_KEPT_PLACES 32

/** A step that has drawn nothing yet has no number. */
#define NIZ_NO_STEP (UINT64_MAX - 1)
#define NIZ_INIT_STEP UINT64_MAX /* the number of the steps that start parameters */
#define NIZ_TRACE_STEP                                                                             \
    (UINT64_MAX - 3) /* of a fixed function's draws: this, in training one more */

/** What the place of new nodes was, to be given back. */
typedef struct niz_place_state {
    int depth;
    const char *function;
    niz_place place;
} niz_place_state;

/** A fixed function being recorded: in a graph of its own, so that nothing of the steps around it
 *  is merged with it or taken from them, and which lives on after it. */
typedef struct niz_trace {
    niz_graph around; /* the recording's own graph meanwhile */
    struct niz_trace *outer;
    const niz_scope *scope;
    niz_place_state place;
    int64_t running;
    uint64_t step[2];
    size_t n_draws, n_params;
    struct niz_trace_param {
        uint32_t node, generation;
    } * param;     /* of each parameter, the newest version's node around */
    int64_t **key; /* of each draw, its key in the arena, of which [2] is the step's number */
    size_t n_keys, key_capacity;
} niz_trace;

typedef struct niz_recording {
    niz *z;
    niz_graph g;
    niz_op_table ops;

    niz_frame *frame; /* running steps, outermost first */
    size_t n_frames, frame_capacity;
    int frames_lost; /* steps begun without memory for a frame */

    niz_scope root;
    const niz_scope *scope;

    /* the place of new nodes: the caller's, while a function made of others runs */
    int function_depth;
    const char *function;
    niz_place place;
    const niz_place *kept[NIZ_KEPT_PLACES]; /* in the arena; NULL after each rewind of it */

    niz_param *param;
    size_t n_params, param_capacity;
    uint32_t *name_table; /* open addressing on the hash of names: index + 1 */
    size_t name_table_size;
    int hold_assignments; /* runs of the library's own commit nothing */
    niz_trace *trace;     /* a fixed function is being recorded: nothing of the user's is run */

    niz_counters counters;
    int64_t steps_begun, running; /* the running step is the running-th; 0 outside of steps */
    uint64_t step[2]; /* its number for the draws of [0] evaluation, [1] training */
    struct niz_draws {
        uint64_t scope, step, n;
    } *draws; /* how many draws each scope has made in each running step */
    size_t n_draws, draws_capacity;
    uint32_t *draw_table; /* open addressing on scope and step: index + 1 */
    uint32_t draw_table_size;
} niz_recording;

niz_recording *niz_recording_new(niz *z);

/** The context's recording, made at its first use; NULL without memory (error set). */
static inline niz_recording *niz_recording_of(niz *z)
{
    niz_recording *r = z ? z->slot[NIZ_SLOT_RECORDING].state : NULL;
    return r || !z ? r : niz_recording_new(z);
}

/** Whether a handle is of a node that this recording holds. */
static inline bool niz_handle_lives(const niz_recording *r, niz_t t)
{
    return t.z == r->z && t.id < r->g.n && r->g.node[t.id].generation == t.generation;
}

/** The node of a handle, or NULL (NIZ_E_STALE set, naming what). */
niz_node *niz_handle_node(niz_recording *r, niz_at at, niz_t t, const char *what);
/** niz_handle_node and niz_fail for the operation of that name, where no niz_function_begin has
 *  said it. */
niz_node *niz_handle_node_of(niz_recording *r, niz_at at, const char *name, niz_t t,
                             const char *what);
niz_status niz_fail_of(niz *z, niz_at at, const char *name, niz_status status, const char *format,
                       ...) NIZ_PRINTF(5, 6);
niz_t niz_handle(const niz_recording *r, uint32_t id);

/** The place for a node recorded now by a call at `at`. */
const niz_place *niz_place_now(niz_recording *r, niz_at at);

/** New nodes are derivatives of (or replacements for) node: they take its place. */
niz_place_state niz_place_begin(niz_recording *r, const niz_place *place, const niz_op *of);
void niz_place_end(niz_recording *r, niz_place_state s);

/** "d/tanh at model.c:41 (net/fc1)" without the operation's name: " at ... (...)". */
void niz_place_text(const niz_place *place, char *out, size_t size);

/** niz_apply_at for a context given by name: operations without operands have no other. */
niz_t niz_apply_in(niz *z, niz_at at, const niz_op *op, int n, const niz_t *x,
                   const niz_attrs *attrs);

/** Records a leaf; all but literals are never merged. */
niz_t niz_leaf(niz_recording *r, niz_at at, const niz_op *op, niz_attrs attr, niz_dtype dtype,
               const niz_shape *shape);

/** The key of a new random draw: i64[4] of data (seed, scope, step, ordinal). */
niz_t niz_draw_key(niz *z, niz_at at);

/** Forgets the draws counted since there were n entries in r->draws. */
void niz_draws_rewind(niz_recording *r, size_t n);
void niz_draws_free(niz_recording *r);

/** A literal of rank 0. */
niz_t niz_literal(niz *z, niz_at at, niz_dtype dtype, double value);

/** Whether a tensor of dtype can hold a number (integers exactly); reports one that cannot.  From
 *  2^53 on a double may be another integer rounded, so none of them is one. */
bool niz_number_fits(niz *z, niz_at at, const char *name, niz_dtype dtype, double v);

/** Turns operands into tensors: numbers become literals of the other's dtype.  False if it cannot
 *  (error set).  z: the context, by niz_operands_context. */
bool niz_operands(niz *z, niz_at at, const char *name, niz_arg a, niz_arg b, niz_t out[2]);

static inline bool niz_arg_is_number(niz_arg a)
{
    return a.z == NIZ_ARG_NUMBER || a.z == NIZ_ARG_INEXACT;
}

static inline niz_t niz_arg_handle(niz_arg a)
{
    return (niz_t){a.z, a.is.tensor.id, a.is.tensor.generation};
}

/** The context of the first operand that has one. */
static inline niz *niz_operands_context(niz_arg a, niz_arg b)
{
    niz *z = niz_arg_is_number(a) ? NULL : a.z;
    return z || niz_arg_is_number(b) ? z : b.z;
}

/* parameters: param.c */
void niz_params_free(niz_recording *r);
void niz_params_forget(niz_recording *r, uint32_t from_node);
void niz_param_committed(niz_recording *r, uint32_t assign_node);
/** A parameter has got new values from an assignment at `at` that is in no recording. */
void niz_param_advance(niz_recording *r, int64_t index, niz_at at);
niz_param *niz_param_lookup(const niz_recording *r, const char *name);
uint32_t niz_param_index(const niz_recording *r, const niz_param *p);

/* fixed functions */
/** Begins recording a fixed function; no assignment may be pending.  False: error set, nothing has
 *  begun. */
bool niz_trace_begin(niz_recording *r, niz_trace *t);
/** Ends it, gives its graph away and forgets its pending assignments. */
void niz_trace_end(niz_recording *r, niz_trace *t, niz_graph *recorded);
/** The number of a new step for its draws, in training or evaluation. */
uint64_t niz_step_take(niz_recording *r, bool training);
bool niz_step_has_pending(const niz_recording *r);

/* the verifier: verify.c */
/** What is wrong with a graph, or NULL. */
const char *niz_verify(const niz_graph *g, char *why, size_t size);

/* text: text.c */
typedef struct niz_text_options {
    const niz_recording *recording; /* for parameters' names; may be NULL */
    bool places;
} niz_text_options;
void niz_graph_text(FILE *f, const niz_graph *g, int n_out, const uint32_t *out,
                    niz_text_options o);

#endif
