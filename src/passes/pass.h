/* pass.h - a pass is one file and one function over the whole graph, out of place.
 *
 * A pass knows its input graph and builds its output; it neither verifies, prints nor times: the
 * driver (pipeline.c) does that for all.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_PASS_H
#define NIZ_PASS_H

#include "graph/recording.h"

/** A graph on its way through the passes, with what is wanted of it: first n_want values for the
 *  user, then assignments (niz_op_assign nodes) to commit. */
typedef struct niz_work {
    niz_graph g;
    int n_out, n_want;
    uint32_t *out;
} niz_work;

/** What a pass may use besides the graph. */
typedef struct niz_pass_env {
    niz *z;
    niz_recording *recording;
    /* Evaluates a map of literals, of rank 0, by the interpreter's own loops: false if the result
       is no double.  NULL: nothing is folded. */
    bool (*fold)(niz *z, const niz_graph *g, const niz_op *op, int n, const uint32_t *arg,
                 niz_attrs attr, niz_dtype dtype, double *value);
} niz_pass_env;

typedef struct niz_pass {
    const char *name;
    bool (*run)(const niz_pass_env *env, const niz_work *in, niz_work *out);
    bool required; /* executors rely on it: NIZ_SKIP does not skip it */
    const char *why;
} niz_pass;

/** What the driver has seen of a pass. */
typedef struct niz_pass_count {
    uint32_t nodes_in, nodes_out;
    double seconds;
} niz_pass_count;
#define NIZ_MAX_PASSES 16

/** The passes in order, ended by a NULL name: the table of contents. */
extern const niz_pass niz_pipeline[];

/** Runs the pipeline on *work, replacing it.  NIZ_DUMP=name,... prints the graph after those passes
 *  to standard error (all: after each), NIZ_SKIP=name,... leaves passes out, NIZ_STOP=name runs
 *  only the required ones after it.  False (error set) on failure; *work is then freed. */
bool niz_pipeline_run(const niz_pass_env *env, niz_work *work,
                      niz_pass_count count[NIZ_MAX_PASSES]);
/** One pass alone, verified: a graph beside its input, or in its place.  False: error set; out, or
 *  *work, is then freed. */
bool niz_pass_make(const niz_pass_env *env, const niz_pass *pass, const niz_work *in,
                   niz_work *out);
bool niz_pass_run(const niz_pass_env *env, const niz_pass *pass, niz_work *work);

/** Whether a pass (or "nest") is named in one of those variables. */
bool niz_pipeline_lists(const char *variable, const char *name);

void niz_work_init(niz_work *w, niz_recording *r);
void niz_work_free(niz_work *w);

bool niz_simplify(const niz_pass_env *env, const niz_work *in, niz_work *out);
bool niz_merge(const niz_pass_env *env, const niz_work *in, niz_work *out);
bool niz_dead(const niz_pass_env *env, const niz_work *in, niz_work *out);
bool niz_join(const niz_pass_env *env, const niz_work *in, niz_work *out);
bool niz_batch_pass(const niz_pass_env *env, const niz_work *in, niz_work *out);
bool niz_layout(const niz_pass_env *env, const niz_work *in, niz_work *out);
bool niz_schedule(const niz_pass_env *env, const niz_work *in, niz_work *out);

/** For the compiled form alone (choose.c), and whether it would change anything. */
extern const niz_pass niz_pass_choose;
bool niz_choose_applies(const niz_work *w);

/* ---- building the output graph (rebuild.c) -------------------------------------------------- */

typedef struct niz_rebuild {
    const niz_work *in;
    niz_work *out;
    uint32_t *map; /* of each input node: its output node, or NIZ_NONE */
    bool merge;    /* equal nodes become one */
    bool failed;
} niz_rebuild;

bool niz_rebuild_begin(niz_rebuild *b, const niz_work *in, niz_work *out, bool merge);
/** The same node on the rebuilt operands. */
uint32_t niz_rebuild_copy(niz_rebuild *b, uint32_t id);
/** A new node in the output with place and origin of input node `like`. */
uint32_t niz_rebuild_add(niz_rebuild *b, uint32_t like, const niz_op *op, int n,
                         const uint32_t *arg, niz_attrs attr);
/** The same, but a refusal, or a result of another type than `like` has, gives NIZ_NONE and harms
 *  nothing. */
uint32_t niz_rebuild_try(niz_rebuild *b, uint32_t like, const niz_op *op, int n,
                         const uint32_t *arg, niz_attrs attr);
/** Output nodes x joined along an axis; if they are more than a node has operands, in parts. */
uint32_t niz_rebuild_concat(niz_rebuild *b, uint32_t like, uint32_t n, const uint32_t *x,
                            int64_t axis);
/** Maps the outputs and frees the map; false if anything failed. */
bool niz_rebuild_end(niz_rebuild *b);

/** Rebuilding when some nodes become others: what a node needs is made before it, everything else
 *  as early as it was.  Views and leaves stand before their first reader. */
typedef struct niz_demand {
    niz_rebuild b;
    void *state;
    /* The i-th input node that `id` is made from, or NIZ_NONE after the last. */
    uint32_t (*need)(const struct niz_demand *d, uint32_t id, uint32_t i);
    /* Sets b.map[id], and that of what is made along with it. */
    void (*make)(struct niz_demand *d, uint32_t id);
    bool *late;                     /* made only for a reader */
    uint32_t *lead, *cursor, *path; /* lead: the node that is made in place of each */
} niz_demand;

bool niz_demand_begin(niz_demand *d, const niz_work *in, niz_work *out);
/** Makes the whole output; frees all but state. */
bool niz_demand_end(niz_demand *d);

/* ---- where values lie (views.c) -------------------------------------------------------------- */

/** A node's elements: those of `root`'s buffer, seen through view. */
typedef struct niz_layout_of {
    uint32_t root; /* the node that owns the memory: computed or a leaf, never a view */
    niz_view view;
} niz_layout_of;

/** The layout of node id, given those of its operands; false if a view cannot be expressed. */
bool niz_view_of(const niz_graph *g, uint32_t id, niz_layout_of *all);
bool niz_view_is_contiguous(const niz_view *v);

/* ---- readers of parameters (reads.c) --------------------------------------------------------- */

/** Node `reader` reads a parameter through its operand `operand`. */
typedef struct niz_read {
    uint32_t reader, operand, next;
} niz_read;

typedef struct niz_reads {
    uint32_t *first; /* of each parameter: its newest read, a list through next; or NIZ_NONE */
    niz_read *read;
    uint32_t n;
    uint32_t last_failing; /* the highest node whose .eval may fail, or NIZ_NONE */
} niz_reads;

bool niz_reads_find(const niz_work *w, const niz_layout_of *layout, niz_reads *r);
void niz_reads_free(niz *z, niz_reads *r);

/* ---- placement (place.c) --------------------------------------------------------------------- */

typedef enum niz_home {
    NIZ_HOME_NONE,
    NIZ_HOME_ARENA,
    NIZ_HOME_LEAF,
    NIZ_HOME_OUTPUT,
    NIZ_HOME_PARAM
} niz_home;

/** Of each node that owns memory: where it lives and for how long (positions in the schedule). */
typedef struct niz_place_of {
    niz_home home;
    int64_t offset; /* ARENA: in bytes; OUTPUT: which output; PARAM: which parameter */
    int64_t bytes;
    uint32_t first, last; /* computed at first, last read at last */
    uint32_t shares;      /* the operand whose buffer it takes over, or NIZ_NONE */
    bool handed_on;       /* its own buffer is taken over by another */
} niz_place_of;

typedef struct niz_placement {
    niz_layout_of *layout;
    niz_place_of *place;
    bool
        *commit_copy; /* of each output that is an assignment: copied to the parameter at the end */
    int64_t peak, naive;
} niz_placement;

struct niz_fusion;

/** Places all values; with a fusion only those that leave their group have a home, and positions
 * are groups instead of nodes.  in_place: a value may overwrite a dying operand, or its parameter.
 */
bool niz_place_all(const niz_pass_env *env, const niz_work *w, const struct niz_fusion *fusion,
                   bool in_place, niz_placement *p);
void niz_placement_free(niz *z, niz_placement *p);

#endif
