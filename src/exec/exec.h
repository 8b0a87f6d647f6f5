/* exec.h - plans and how they run.
 *
 *   recording ─ live.c ─> live part, key ─ plan.c ─> plan (found, or passes + lower.c)
 *                                                      │
 *   values, parameters <─ run.c ── tasks over ranges ──┘
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_EXEC_H
#define NIZ_EXEC_H

#include "core/hash.h"
#include "exec/loops.h"
#include "passes/fuse.h"

/* ---- the live part of a recording ----------------------------------------------------------- */

/** What a run needs: nodes that outputs depend on, ending at values that exist already.  Arrays
 *  are kept from run to run. */
typedef struct niz_live {
    uint32_t *number; /* of each live node of the recording: its place in `id` ... */
    uint32_t *epoch;  /* ... if it was marked in this epoch: nothing is cleared between runs */
    uint32_t now;
    size_t number_capacity, epoch_capacity;
    uint32_t *id; /* live nodes, ascending: a topological order */
    size_t n, id_capacity;
    const void **data; /* values of data leaves, in order of first use */
    size_t n_data, data_capacity;
    uint32_t *literal; /* live numbers of literals */
    size_t n_literals, literal_capacity;
    uint32_t *words; /* what is hashed */
    size_t n_words, word_capacity;
    uint32_t *out; /* recording ids: n_want wanted ones, then assignments */
    size_t out_capacity;
    int n_out, n_want;
    uint32_t lowest, top; /* all live ids are in [lowest, top) */
    size_t n_args;        /* operands of live nodes in all */
} niz_live;

typedef enum niz_leaf_kind {
    NIZ_NOT_A_LEAF,
    NIZ_LEAF_DATA,
    NIZ_LEAF_PARAM,
    NIZ_LEAF_LITERAL
} niz_leaf_kind;

/** Whether a node is marked in this epoch. */
static inline bool niz_live_has(const niz_live *live, uint32_t id)
{
    return live->epoch[id] == live->now;
}

/** A new epoch for a recording of n nodes: none is marked.  False (error set) without memory. */
bool niz_live_begin(niz *z, niz_live *live, uint32_t n);

/** Whether a node needs no computing in this recording now. */
niz_leaf_kind niz_live_leaf(const niz_recording *r, uint32_t id);
/** False where niz_live_leaf surely is NIZ_NOT_A_LEAF, as of most nodes. */
static inline bool niz_live_may_be_leaf(const niz_node *n)
{
    return n->data || n->flags & (NIZ_NODE_LEAF | NIZ_NODE_ASSIGN);
}
/** Finds the live part of live->out.  False (error set) without memory, or if a value needs a
 *  parameter's overwritten version. */
bool niz_live_find(niz_recording *r, niz_live *live);
/** XXH3-128 of the live part: with literals' values, or with them as data. */
XXH128_hash_t niz_live_key(const niz_recording *r, niz_live *live, bool literals_as_data);
void niz_live_free(niz *z, niz_live *live);

/* ---- plans ----------------------------------------------------------------------------------- */

/** A buffer's memory: which base, and how many bytes into it. */
typedef struct niz_address {
    uint32_t base;
    int64_t bytes;
} niz_address;

typedef enum niz_task_kind {
    NIZ_TASK_MAP,
    NIZ_TASK_COPY,
    NIZ_TASK_REDUCE,
    NIZ_TASK_CONTRACT,
    NIZ_TASK_CONV,
    NIZ_TASK_EVAL,
    NIZ_TASK_NEST,  /* a compiled kernel */
    NIZ_TASK_CHUNK, /* a compiled kernel without loops */
    NIZ_TASK_TREE   /* combines the partial results of a flat nest's fold */
} niz_task_kind;

/** A compiled kernel and its arguments. */
typedef void niz_nest_function(char *const *buffer, const long *argument, long begin, long end,
                               char *scratch);
typedef struct niz_nest_loop {
    niz_nest_function *run; /* NULL until compiled */
    uint32_t kernel;        /* which of the plan's functions */
    int64_t *argument;
    int n_arguments, n_buffers;
    /* of a nest around another loop: its outer axes, and of each buffer where it lies and bytes
     * from column to column */
    int rank;
    niz_address *buffer;
    int64_t *step;
} niz_nest_loop;

/** Nests around a contraction or convolution: one finishes its results, others make its operands.
 *  NULL: none. */
typedef struct niz_around {
    niz_nest_loop *finish, *make[2];
    niz_made made[2];
} niz_around;

/** A chunk's buffers are its pointers, then the single elements it reads, then those it leaves. */
typedef struct niz_chunk_loop {
    niz_nest_function *run; /* NULL until compiled */
    uint32_t kernel;        /* which of the plan's chunk functions */
    uint32_t n_pointers, n_in, n_out;
    const uint64_t *bool_in, *bool_out; /* a bit an element that is bool; NULL: none */
} niz_chunk_loop;

typedef struct niz_tree_loop {
    niz_combine combine;
    int64_t n; /* partial results */
} niz_tree_loop;

/** One node's work, ready to run: a loop, its buffers (operands, then the result), and how much
 *  there is to share out. */
typedef struct niz_task {
    niz_task_kind kind;
    uint32_t origin; /* number of the live node, for messages */
    int n;           /* buffers */
    niz_address *buffer;
    union {
        niz_map_loop *map;
        niz_copy_loop *copy;
        niz_reduce_loop *reduce;
        niz_contract_loop *contract;
        niz_conv_loop *conv;
        niz_eval *eval; /* x[i].data is filled in at each run */
        niz_nest_loop *nest;
        niz_tree_loop *tree;
        niz_chunk_loop *chunk;
    } loop;
    /* CONTRACT, CONV.  Buffers: two operands; the result, or those of finish; those of make */
    niz_around around;
    const niz_op *op;
    int64_t units;   /* of the range that is cut into pieces */
    double work;     /* about the elements' operations in all */
    niz_dtype dtype; /* of the result, and its elements */
    int64_t count;
    struct niz_span *span; /* with trap_nan: the whole memory of each operand */
    const char *label;     /* with a profile: operations and type; else NULL */
    double flops, bytes;   /* arithmetic and traffic of one run */
    uint32_t row;          /* of the profile's table, from 1 on */
} niz_task;
#define NIZ_LABEL 120 /* of a label, with its NUL */

/** Memory of one dtype: all elements of a base. */
typedef struct niz_span {
    uint32_t base;
    niz_dtype dtype;
    int64_t count;
} niz_span;

/** Where a base's memory comes from at each run. */
typedef struct niz_base {
    niz_home home;
    int64_t value; /* ARENA: offset; OUTPUT: index; PARAM: index; LEAF: slot of data, see below */
    bool constant; /* LEAF: value is an index into constants instead */
} niz_base;

/** Tasks over placed memory: one form of a plan. */
typedef struct niz_program {
    niz_task *task;
    size_t n_tasks, task_capacity;
    niz_base *base;
    size_t n_bases;
    int64_t *constant;   /* literals, eight bytes each, in their own dtype */
    niz_address *commit; /* of assignments: to be copied to the parameter; base NIZ_NONE: no */
    int64_t arena_bytes, scratch_bytes, naive_bytes;
    double most_work; /* of any task */
} niz_program;

/** A compiled function: which of a plan's texts has it, and which of its kind it is there. */
typedef struct niz_symbol {
    uint32_t text, number;
} niz_symbol;

typedef struct niz_plan {
    struct niz_plan *next, *next_form; /* in its buckets */
    struct niz_plan *older, *newer;    /* in the order of their last use */
    XXH128_hash_t key, form;           /* form: literals as data */
    bool literals_as_data;
    int64_t nodes;   /* what it counts for in the cache's bound */
    niz_arena arena; /* all of the below */
    int n_out, n_want;
    int64_t *out_bytes;                /* of outputs */
    int64_t *commit_param;             /* of assignments */
    niz_program interpreted, compiled; /* swapped between runs only */
    struct niz_kernel **text;          /* what compiled needs: those with nests come first */
    niz_symbol *nest, *chunk;          /* of each function: where it is */
    uint32_t n_texts, n_nest_texts, n_chunk_kernels;
    struct niz_plan *next_waiting; /* for the compiler */
    int64_t made;                  /* in which step */
    int met;                       /* how often since, if in that step only */
    bool tried, ready;             /* compiled is made; and can run */
} niz_plan;

#define NIZ_PLAN_BUCKETS 1024

/** Execution's state in a context. */
typedef struct niz_exec {
    niz *z;
    const niz_loops *loops;
    int threads;
    niz_live live;
    niz_plan *bucket[NIZ_PLAN_BUCKETS], *form_bucket[NIZ_PLAN_BUCKETS];
    niz_plan *oldest, *newest;
    void *arena; /* of the running plan: as large as any has needed */
    size_t arena_bytes;
    void *scratch;
    size_t scratch_bytes; /* a thread */
    void **base;
    size_t base_capacity;
    int64_t *literal; /* values of literals that became data */
    size_t literal_capacity;
    struct niz_map_entry *map; /* parsed .map texts by operation and dtypes */
    size_t n_maps, map_capacity;
    struct niz_jit *jit;         /* NULL: off */
    struct niz_profile *profile; /* NULL: off */
    niz_fn *functions;           /* fixed ones, the newest first */
    struct niz_pool *pool;       /* of threads; NULL until several are needed */
    struct niz_pass_total {
        int64_t nodes_in, nodes_out;
        double seconds;
    } passes[NIZ_MAX_PASSES]; /* over all plans made */
} niz_exec;

niz_exec *niz_exec_of(niz *z);

/** Fills e->live.out: the wanted nodes that have no value yet, then the pending assignments. False:
 *  error set. */
bool niz_run_collect(niz_exec *e, niz_recording *r, niz_at at, int n, const niz_t *want);

/** The plan for the live part: found, or made.  NULL: error set. */
niz_plan *niz_plan_get(niz_exec *e, niz_recording *r);
/** A plan for the live part that is in no cache: the caller's.  NULL: error set. */
niz_plan *niz_plan_own(niz_exec *e, niz_recording *r);
/** A graph ready for placement, from the live part, through all passes. */
bool niz_plan_work(niz_exec *e, niz_recording *r, bool literals_as_data, niz_work *work,
                   niz_pass_count *count);
void niz_plan_free(niz_exec *e, niz_plan *p);
void niz_plans_free(niz_exec *e);

/** Tasks, bases and commits of a placed graph: a task a node, or with a fusion a task a group. */
struct niz_lowering;
typedef struct niz_lower_options {
    const niz_fusion *fusion;
    /* makes the tasks of a nest; state is the compiler's */
    bool (*nest)(void *state, struct niz_lowering *l, uint32_t group);
    void *state;
} niz_lower_options;
bool niz_lower(niz_exec *e, niz_plan *plan, niz_program *program, const niz_work *w,
               const niz_placement *p, const niz_lower_options *o);

/* For whoever makes a nest's tasks. */
typedef struct niz_lowering niz_lowering;
typedef struct niz_profile niz_profile;
void *niz_lower_alloc(niz_lowering *l, size_t bytes);
niz_task *niz_lower_task(niz_lowering *l, uint32_t origin, int n_buffers);
/** With a profile: names a task after its nodes' operations and counts its work.  False (error set)
 *  without memory. */
bool niz_lower_describe(niz_lowering *l, niz_task *t, uint32_t n, const uint32_t *node);
/** The task of a contraction or convolution with nests around it, whose buffers are not filled in.
 */
niz_task *niz_lower_tile(niz_lowering *l, uint32_t id, const niz_around *around);
niz_address niz_lower_root(const niz_lowering *l, uint32_t root, int64_t element);
/** Memory beside the arena for a task's own use: an address of `bytes` bytes. */
niz_address niz_lower_extra(niz_lowering *l, int64_t bytes);
void niz_lower_scratch(niz_lowering *l, int64_t bytes);

/** The compiled form of a plan (jit.c): requests its kernels; false (error set) without memory. */
bool niz_jit_make(niz_exec *e, niz_plan *plan, const niz_work *w);
/** Whether plans are compiled when they are made: NIZ_JIT=sync. */
bool niz_jit_at_once(const niz_exec *e);
/** Whether the compiled form can run now. */
bool niz_jit_ready(niz_exec *e, const niz_plan *plan);
void niz_jit_drop(niz_exec *e, niz_plan *plan);

/** The parsed .map of an operation for these dtypes; kept for the context's life. */
const niz_map *niz_map_of(niz_exec *e, const niz_op *op, int n, const niz_dtype *in, niz_dtype out);

void niz_maps_free(niz_exec *e);

/** Folds a map of literals (niz_pass_env.fold). */
bool niz_fold(niz *z, const niz_graph *g, const niz_op *op, int n, const uint32_t *arg,
              niz_attrs attr, niz_dtype dtype, double *value);
/** A double in the memory format of dtype, and back (false if a double cannot hold it). */
int64_t niz_constant_bits(niz_dtype dtype, double v);
bool niz_constant_value(niz_dtype dtype, const void *p, double *v);

/** Frees all fixed functions (call.c). */
void niz_fns_free(niz_exec *e);

/** Counts a pipeline's run; NIZ_STATS=1 prints all counts when the context closes (stats.c). */
void niz_stats_add(niz_exec *e, const niz_pass_count *count);
void niz_stats_print(niz_exec *e);

/** What a plan runs on beside the parameters. */
typedef struct niz_bind {
    const niz_graph *g; /* for messages: task t is about node id[t->origin] of it */
    const uint32_t *id;
    const void *const *data; /* of each slot */
    size_t n_data;
    const int64_t *literal; /* slots from n_data on: literals that became data, eight bytes each */
} niz_bind;

/** Runs a plan: outputs to out[0..n_want-1], parameters committed at the end.  False (error set):
 *  nothing is committed. */
bool niz_plan_run(niz_exec *e, niz_recording *r, niz_plan *plan, const niz_bind *bind,
                  void *const *out);
/** The values that the live part has now, for a plan of it.  False: error set. */
bool niz_run_bind(niz_exec *e, const niz_recording *r, const niz_plan *plan, niz_bind *bind);

/** Runs f on pieces of [0, units) by up to `threads` threads of a pool (one needs none). */
typedef void niz_piece(void *state, int thread, int64_t begin, int64_t end);
void niz_parallel(struct niz_pool *pool, int threads, int64_t units, niz_piece *f, void *state);
/** A pool with room for `threads` threads, the caller's among them.  NULL: error set. */
struct niz_pool *niz_pool_open(niz *z, int threads);
void niz_pool_close(niz *z, struct niz_pool *p);
/** Threads to use, from the options, NIZ_THREADS and the machine. */
int niz_thread_count(const niz_options *o);

/* ---- index spaces (space.c) ------------------------------------------------------------------ */

/** The space of shape, walked by n buffers with these strides (a row of NIZ_MAX_RANK each): sizes
 *  of 1 dropped, neighbouring axes merged where every buffer allows it. */
void niz_space_make(niz_loop_space *s, int rank, const int64_t *dim, int n,
                    int64_t stride[][NIZ_MAX_RANK]);
int64_t niz_space_count(const niz_loop_space *s);
void niz_space_for_copy(niz_loop_space *s);

#endif
