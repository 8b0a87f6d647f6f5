/* niz/core.h - contexts, tensors, steps, parameters, running and reading.
 *
 * A context (niz *) owns everything.  Functions come in two kinds:
 *
 *   builders  return a niz_t and never fail visibly.  The first error sticks in the context, the
 *             result is an inert handle, and later calls on it do nothing.  Ask once, at the end:
 *             if (niz_error(z)) puts(niz_message(z));
 *   actions   (niz_run, niz_read, ...) do something now and return a niz_status as well.
 *
 * The library never exits, aborts or prints.  One context belongs to one thread at a time; several
 * contexts may run at once in several threads.
 *
 * Every builder is a macro that adds the place it was written at (file and line) and calls a
 * function of the same name with _at behind it; other languages call that one.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_CORE_H
#define NIZ_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#if defined(__GNUC__)
#define NIZ_API __attribute__((visibility("default")))
#define NIZ_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#error "libniz's headers need gcc or clang"
#endif

/* An option's default: C++ takes it from the struct, C from the NIZ_..._DEFAULTS macro beside it.
 * Every member has one: NIZ_DEFAULT_ZERO stands behind arrays and structs. */
#ifdef __cplusplus
#define NIZ_DEFAULT(value) = value
#define NIZ_DEFAULT_ZERO {}
extern "C" {
#else
#define NIZ_DEFAULT(value)
#define NIZ_DEFAULT_ZERO
#endif

#define NIZ_VERSION "0.1.0"
#define NIZ_MAX_RANK 8

/* ---- types ---------------------------------------------------------------------------------- */

/** A context: a recording, its parameters, its plans. */
typedef struct niz niz;

/** A tensor: the name of a node in a recording.  A value, freely copied; it dies with its step.
 *  Using it later is a reported error, never a wild pointer. */
typedef struct niz_t {
    niz *z;
    uint32_t id, generation;
} niz_t;

/** Element types.  u8 is for storage: leaf, cast, compare and gather take it. */
typedef enum niz_dtype { NIZ_F32, NIZ_F64, NIZ_I32, NIZ_I64, NIZ_U8, NIZ_BOOL } niz_dtype;
#define NIZ_N_DTYPES 6

/** Sizes, outermost first; row-major.  rank 0 is one number (NIZ_SCALAR); a size may be 0. */
typedef struct niz_shape {
    int rank;
    int64_t dim[NIZ_MAX_RANK];
} niz_shape;

/** Where a call stands in the user's program. */
typedef struct niz_at {
    const char *file;
    int line;
} niz_at;

/** What went wrong.  NIZ_OK is 0. */
typedef enum niz_status {
    NIZ_OK,
    NIZ_E_SHAPE,    /* sizes that do not fit */
    NIZ_E_DTYPE,    /* element types that do not fit */
    NIZ_E_ARGUMENT, /* a value out of range, a missing operand, a wrong name */
    NIZ_E_STALE,    /* a handle whose step has ended, or of another context */
    NIZ_E_VERSION,  /* a value that needs a parameter as it was before an update */
    NIZ_E_RULE,     /* a gradient through an operation that has no derivative rule */
    NIZ_E_INDEX,    /* an index outside its axis, found while running */
    NIZ_E_NAN,      /* trap_nan found a value that is not finite */
    NIZ_E_MEMORY,   /* no memory */
    NIZ_E_IO,       /* a file that cannot be opened, read or written */
    NIZ_E_FORMAT,   /* a file or text that is not what it should be */
    NIZ_E_INTERNAL  /* a bug in libniz: the verifier found a broken graph */
} niz_status;

/** An operand: a tensor or a number.  Made by the macros; two words, so that calls pass it in
 *  registers.  z is the tensor's context or, of a number, one of the marks below. */
typedef struct niz_arg {
    niz *z;
    union {
        double number;
        struct {
            uint32_t id, generation;
        } tensor;
    } is;
} niz_arg;
#define NIZ_ARG_NUMBER ((niz *)1)
#define NIZ_ARG_INEXACT ((niz *)2) /* an integer beyond 2^53 that no double holds: an error */

static inline niz_arg niz_arg_tensor(niz_t t)
{
    niz_arg a;
    a.z = t.z;
    a.is.tensor.id = t.id;
    a.is.tensor.generation = t.generation;
    return a;
}

static inline niz_arg niz_arg_number(double v)
{
    niz_arg a;
    a.z = NIZ_ARG_NUMBER;
    a.is.number = v;
    return a;
}

static inline niz_arg niz_arg_float(float v)
{
    return niz_arg_number((double)v);
}

static inline niz_arg niz_arg_long_double(long double v)
{
    return niz_arg_number((double)v);
}

static inline niz_arg niz_arg_unsigned(unsigned long long v)
{
    niz_arg a = niz_arg_number((double)v);
    while (v >> 53 && !(v & 1)) v >>= 1;
    if (v >> 53) a.z = NIZ_ARG_INEXACT;
    return a;
}

static inline niz_arg niz_arg_integer(long long v)
{
    niz_arg a = niz_arg_unsigned(v < 0 ? 0 - (unsigned long long)v : (unsigned long long)v);
    if (v < 0) a.is.number = -a.is.number;
    return a;
}

/* ---- contexts ------------------------------------------------------------------------------- */

/** When graphs are compiled to kernels by the system's C compiler.  The bits are always the same. */
typedef enum niz_jit_mode {
    NIZ_JIT_DEFAULT, /* as NIZ_JIT=async|sync|off in the environment says, else ASYNC */
    NIZ_JIT_OFF,     /* never */
    NIZ_JIT_ASYNC,   /* those met twice, in the background; they are interpreted meanwhile */
    NIZ_JIT_SYNC     /* all, before their first run */
} niz_jit_mode;

/** Options of a context; niz_open(NULL) takes every default. */
typedef struct niz_options {
    int threads;     /* 0: NIZ_THREADS from the environment, else the number of cores */
    uint64_t seed;   /* of all random draws; see niz_seed */
    bool trap_nan;   /* every run stops at the first operation that yields a NaN or an infinity */
    size_t max_plan_nodes; /* bound of the plan cache, in nodes over all plans (about 1 kB each), with
                              16 more a plan; 0: 200,000 */
    void (*log)(void *user, const char *message); /* rare remarks; NULL: none */
    /* like realloc and free in one: bytes 0 frees.  NULL: the C library's */
    void *(*realloc)(void *user, void *p, size_t bytes);
    void *user; /* given to log and realloc */
    niz_jit_mode jit; /* with trap_nan always OFF */
} niz_options;

/** A new context, or NULL if there is no memory for one. */
NIZ_API niz *niz_open(const niz_options *options);

/** Frees the context and all it owns; z may be NULL.  Within a step or scope the context is closed
 *  at once (it refuses everything) and freed when the last of them ends. */
NIZ_API void niz_close(niz *z);

/** The first error since the context was opened or cleared. */
NIZ_API niz_status niz_error(const niz *z);

/** That error as a sentence with operation, place, shapes; "" if there is none. */
NIZ_API const char *niz_message(const niz *z);

/** Forgets the error and drops the updates pending when it struck, so that the context works on. */
NIZ_API void niz_clear_error(niz *z);

/** Training (the default) or evaluation: read by dropout and batch norm. */
NIZ_API void niz_set_training(niz *z, bool training);
NIZ_API bool niz_is_training(const niz *z);

/** Seeds all random draws and restarts their counters.  Draws are Philox 4x32-10 of (seed, scope,
 *  step, ordinal), so they do not depend on threads, on each other, or on evaluation steps. */
NIZ_API void niz_seed(niz *z, uint64_t seed);

/** Reports an error from code built on libniz: it sticks if it is the first.  Returns status. */
NIZ_API niz_status niz_fail(niz *z, niz_at at, niz_status status, const char *format, ...)
    NIZ_PRINTF(4, 5);

/** Memory from the context's allocator; NULL (and NIZ_E_MEMORY set) if there is none.
 *  bytes 0 frees p. */
NIZ_API void *niz_realloc(niz *z, void *p, size_t bytes);
NIZ_API void niz_free(niz *z, void *p);

/** Counts of what a context has done, for tests and tuning. */
typedef struct niz_stats {
    int64_t steps, runs;
    int64_t nodes_recorded;
    int64_t plans_made, plans_found;  /* a step of a form seen before finds its plan */
    int64_t literals_made_data;       /* graphs whose literals changed and became data */
    int64_t plans_cached, plan_nodes; /* held now */
    int64_t plans_refused;            /* too large for a kernel: interpreted for good */
    int64_t runs_compiled;            /* runs by compiled kernels */
    int64_t plans_pending;            /* plans that still wait for the compiler */
    int64_t bytes_now, bytes_peak;    /* in use; of what is freed, up to 64 MB of large blocks wait for
                                         the next step */
} niz_stats;
NIZ_API niz_stats niz_statistics(const niz *z);

/* ---- steps and scopes ----------------------------------------------------------------------- */

typedef struct niz_step_guard {
    niz *z;
} niz_step_guard;
typedef struct niz_scope_guard {
    niz *z;
} niz_scope_guard;

NIZ_API niz_step_guard niz_step_begin(niz *z);
NIZ_API void niz_step_end(niz_step_guard *guard);
NIZ_API niz_scope_guard niz_scope_begin(niz *z, const char *format, ...) NIZ_PRINTF(2, 3);
NIZ_API void niz_scope_end(niz_scope_guard *guard);

/* NIZ_STEP(z);  begins a recording that ends with the enclosing block, however it is left.  Its
 *   nodes and values end there; updates still pending run first.  Steps nest.  A run commits all
 *   pending updates, those of the outer steps too, and so does the end of a nested step: what an
 *   outer step computes from a parameter as it was before is then NIZ_E_VERSION, so run it first.
 * NIZ_SCOPE(z, "block%d", i);  puts "block3." before parameter names to the end of the block and
 *   "block3" into the place of its nodes. */
#define NIZ_JOIN_(a, b) a##b
#define NIZ_JOIN(a, b) NIZ_JOIN_(a, b)
#ifndef __cplusplus
#define NIZ_STEP(z)                                                                                \
    niz_step_guard NIZ_JOIN(niz_step_, __COUNTER__)                                                \
        __attribute__((cleanup(niz_step_end), unused)) = niz_step_begin(z)
#define NIZ_SCOPE(z, ...)                                                                          \
    niz_scope_guard NIZ_JOIN(niz_scope_, __COUNTER__)                                              \
        __attribute__((cleanup(niz_scope_end), unused)) = niz_scope_begin(z, __VA_ARGS__)
#endif

/* ---- leaves --------------------------------------------------------------------------------- */

/** host memory as a tensor [shape], not copied: it must stay unchanged until the step ends. */
NIZ_API niz_t niz_from_at(niz_at at, niz *z, niz_dtype dtype, niz_shape shape, const void *data);
/** The same, copied now. */
NIZ_API niz_t niz_copy_from_at(niz_at at, niz *z, niz_dtype dtype, niz_shape shape,
                               const void *data);
/** A tensor of one literal value (part of the graph): of i64, between -2^53 and 2^53. */
NIZ_API niz_t niz_full_at(niz_at at, niz *z, niz_dtype dtype, niz_shape shape, double value);
/** One number of rank 0 as data: its value is in no hash, so changing it plans nothing anew.
 *  An i64 from 2^53 on, where a C double is not exact, is an error: niz_copy_from takes it. */
NIZ_API niz_t niz_scalar_at(niz_at at, niz *z, niz_dtype dtype, double value);
/** 0, 1, 2 ... along axis, constant along the others. */
NIZ_API niz_t niz_iota_at(niz_at at, niz *z, niz_dtype dtype, niz_shape shape, int axis);
/** Independent draws: uniform in [lo, hi); normal with mean and standard deviation >= 0; true
 *  with probability p.  dtype floating (bernoulli: bool).  They have no derivative. */
NIZ_API niz_t niz_uniform_at(niz_at at, niz *z, niz_dtype dtype, niz_shape shape, double lo,
                             double hi);
NIZ_API niz_t niz_normal_at(niz_at at, niz *z, niz_dtype dtype, niz_shape shape, double mean,
                            double std);
NIZ_API niz_t niz_bernoulli_at(niz_at at, niz *z, niz_shape shape, double p);

/* ---- parameters ----------------------------------------------------------------------------- */

/** How a new parameter starts. */
typedef struct niz_init {
    enum { NIZ_INIT_CONSTANT, NIZ_INIT_UNIFORM, NIZ_INIT_NORMAL } kind;
    double a, b; /* constant a; uniform in [a, b); normal of mean a, standard deviation b */
} niz_init;

typedef struct niz_normal_options {
    double mean NIZ_DEFAULT(0), std NIZ_DEFAULT(1);
} niz_normal_options;
typedef struct niz_uniform_options {
    double lo NIZ_DEFAULT(0), hi NIZ_DEFAULT(1);
} niz_uniform_options;
NIZ_API niz_init niz_normal_init_with(niz_normal_options o);
NIZ_API niz_init niz_uniform_init_with(niz_uniform_options o);
NIZ_API niz_init niz_constant_init(double value);

/** The parameter of that name (scopes before it), in its current version.  Made by its first call;
 *  afterwards found, and another shape or dtype is an error. */
NIZ_API niz_t niz_param_at(niz_at at, niz *z, const char *name, niz_dtype dtype, niz_shape shape,
                           niz_init init);
/** The same, but no optimiser touches it (running means and the like). */
NIZ_API niz_t niz_state_at(niz_at at, niz *z, const char *name, niz_dtype dtype, niz_shape shape,
                           niz_init init);
/** An existing parameter by its full name; an unknown name is an error. */
NIZ_API niz_t niz_find_at(niz_at at, niz *z, const char *name);
/* A name that begins with "/" is given in full: niz_state(z, "/adam/fc1.weight.m", ...) is
 * "adam/fc1.weight.m" in every scope. */

/** Makes value the next version of param (a handle from niz_param, niz_state or niz_find).  Nothing
 *  is written before the next run, which commits all pending assignments. */
NIZ_API void niz_assign_at(niz_at at, niz_t param, niz_t value);

/** What the context knows of its i-th parameter, 0 <= i < niz_param_count(z), in the order of
 *  their making. */
typedef struct niz_param_info {
    const char *name;
    niz_dtype dtype;
    niz_shape shape;
    bool trainable;
    const void *data; /* the committed values, row-major; until the next run */
} niz_param_info;
NIZ_API int64_t niz_param_count(const niz *z);
NIZ_API niz_param_info niz_param_get(const niz *z, int64_t i);
/** The same of the parameter behind a handle (of niz_param, niz_state, niz_find, niz_params_of);
 *  .name is "" if there is none. */
NIZ_API niz_param_info niz_param_of(niz_t param);
/** Whether the running step has recorded a niz_assign to that parameter, run or not. */
NIZ_API bool niz_param_is_assigned(niz_t param);

/** The trainable parameters of a floating dtype that a gradient of y flows to (not through
 *  niz_stop_gradient, comparisons and the like), in the order of their making: for each the newest
 *  version that y depends on, so that y can be differentiated with respect to it.  Writes the first
 *  max of them to params; returns how many there are (0 after an error). */
NIZ_API int64_t niz_params_of(niz_t y, int64_t max, niz_t *params);

/** Makes or overwrites a parameter with these values, at once.  A pending assignment to it is an
 *  error, and so is another shape. */
NIZ_API niz_status niz_param_set(niz *z, const char *name, niz_dtype dtype, niz_shape shape,
                                 bool trainable, const void *data);
/** The same for n parameters with different names: all of them or, on any error, none.  New ones
 *  are made in the order given. */
NIZ_API niz_status niz_param_set_all(niz *z, int64_t n, const niz_param_info *params);

/** XXH3-128 of all parameters' names, types, shapes and committed bits, as 32 hex digits and a
 *  NUL: updates that are pending are not in it before they have run. */
NIZ_API void niz_param_hash(const niz *z, char hex[33]);

/** All that training changes (parameters, optimiser state, counters of draws), kept in memory.
 *  Runs pending updates first; NULL on error. */
typedef struct niz_snapshot niz_snapshot;
NIZ_API niz_snapshot *niz_snapshot_take(niz *z);
NIZ_API niz_status niz_snapshot_restore(niz *z, const niz_snapshot *s);
NIZ_API void niz_snapshot_free(niz *z, niz_snapshot *s);

/** The counters of random draws: how many steps have drawn anything, in training and in evaluation
 *  (a step takes its number at its first draw).  Saved with a checkpoint, so that a resumed run
 *  draws alike. */
typedef struct niz_counters {
    uint64_t seed, train_steps, eval_steps;
} niz_counters;
NIZ_API niz_counters niz_counters_get(const niz *z);
NIZ_API void niz_counters_set(niz *z, niz_counters c);

/* ---- running and reading -------------------------------------------------------------------- */

/** Computes the n wanted tensors and commits all pending assignments, as one plan.  The values can
 *  then be read to the end of the step, and what is recorded later takes them as leaves. */
NIZ_API niz_status niz_run_at(niz_at at, niz *z, int n, const niz_t *want);

/** The single element of t as a double; runs if need be.  NaN on error.  An i64 beyond 2^53, which
 *  no double holds, is an error. */
NIZ_API double niz_item_at(niz_at at, niz_t t);

/** Copies t, row-major, to out, which has room for exactly bytes; runs if need be. */
NIZ_API niz_status niz_read_at(niz_at at, niz_t t, void *out, size_t bytes);

/** Shape and dtype; of an inert handle: rank 0, NIZ_F32. */
NIZ_API niz_shape niz_shape_of(niz_t t);
NIZ_API niz_dtype niz_dtype_of(niz_t t);
/** Whether t can be used: it is of a running step and no error made it inert. */
NIZ_API bool niz_is_valid(niz_t t);

/* ---- fixed functions ------------------------------------------------------------------------ */

/** The type of a tensor that has no value yet. */
typedef struct niz_type_spec {
    niz_dtype dtype;
    niz_shape shape;
} niz_type_spec;

/** Records a function once: in[0 .. n_in-1] are its inputs; out[0 .. n_out-1] are to be set. */
typedef void niz_fn_body(niz *z, void *arg, const niz_t *in, niz_t *out);

/** A fixed function: a step whose form does not change, recorded and planned once. */
typedef struct niz_fn niz_fn;

/** Records body, as in a step of its own, and plans it; niz_call then runs it with no recording at
 *  all, and gives the bits that recording it each time would give.
 *
 *    static void train(niz *z, void *opt, const niz_t *in, niz_t *out)
 *    {
 *        out[0] = niz_cross_entropy(net(in[0]), in[1]);
 *        niz_minimize(opt, out[0]);
 *    }
 *    niz_type_spec in[] = {{NIZ_F32, NIZ_SHAPE(64, 784)}, {NIZ_I32, NIZ_SHAPE(64)}};
 *    niz_fn *step = niz_compile(z, train, &opt, 2, in, 1);
 *    for (...) niz_call(step, (const void *const[]){images, labels}, (void *const[]){&loss});
 *
 *  Of the calls are: the inputs, the parameters (which body may assign), the states of optimisers,
 *  and random draws, which go on as if each call were a recorded step.  Of the time of niz_compile
 *  is all else that body sees: C numbers, niz_scalar, niz_copy_from, niz_set_training, an
 *  optimiser's numbers; what is to change is an input.  A learning rate is one as
 *  opt->rate = in[2], f64 [] (niz/nn.h).  Memory given to niz_from is read at each call.
 *  arg is handed on to body and not used afterwards.
 *
 *  Scopes around niz_compile apply to the names in body; tensors from around it are refused
 *  (NIZ_E_STALE: give them as inputs), and so is within body what needs values: niz_run, niz_item,
 *  niz_read, NIZ_STEP and niz_call (NIZ_E_ARGUMENT).  Pending assignments run first.  NULL on any
 *  error.  The function is freed by niz_fn_free, or with its context. */
NIZ_API niz_fn *niz_compile_at(niz_at at, niz *z, niz_fn_body *body, void *arg, int n_in,
                               const niz_type_spec *in, int n_out);

/** Runs f: in[i] is the memory of input i (unchanged and row-major, as for niz_from), out[i] where
 *  output i goes, of the size that niz_fn_type tells; out[i] NULL: it is not wanted (out NULL: none
 *  of them).  An output's memory overlaps no other's and no input's.  Assignments pending in a
 *  running step run first; those of f are committed, so that values which that step would compute
 *  from a parameter as it was before are NIZ_E_VERSION.  On an error nothing is committed, and
 *  outputs are undefined: NIZ_E_ARGUMENT (no memory given for an input), NIZ_E_INDEX, NIZ_E_NAN,
 *  NIZ_E_MEMORY. */
NIZ_API niz_status niz_call_at(niz_at at, niz_fn *f, const void *const *in, void *const *out);

/** The type of output i; outside 0 .. n_out-1: f32 []. */
NIZ_API niz_type_spec niz_fn_type(const niz_fn *f, int i);

/** Frees f, which may be NULL. */
NIZ_API void niz_fn_free(niz_fn *f);

/* ---- looking at graphs ---------------------------------------------------------------------- */

/** The graph of the outputs as text, one node a line, which niz_parse reads back. */
NIZ_API niz_status niz_print(FILE *f, int n, const niz_t *outputs);
/** Records the graph of text.  Its data leaves, in order, take the n_in tensors of in; its returned
 *  nodes go to out[0 .. n_out-1].  A mistake is an error with line and column. */
NIZ_API niz_status niz_parse(niz *z, const char *text, int n_in, const niz_t *in, int n_out,
                             niz_t *out);
/** The graph of the outputs in Graphviz's language. */
NIZ_API niz_status niz_dot(FILE *f, int n, const niz_t *outputs);

/** The plan that niz_run would make now: each node in order with its buffer's offset, size and
 *  lifetime; then the peak, and the bytes that one buffer a node would take. */
typedef struct niz_plan_summary {
    int64_t nodes, peak_bytes, naive_bytes;
} niz_plan_summary;
NIZ_API niz_status niz_plan_print(FILE *f, niz *z, int n, const niz_t *want,
                                  niz_plan_summary *summary);

/* ---- dtypes and shapes ---------------------------------------------------------------------- */

NIZ_API const char *niz_dtype_name(niz_dtype d); /* "f32" */
NIZ_API size_t niz_dtype_size(niz_dtype d);      /* bytes of an element */
NIZ_API int64_t niz_shape_count(const niz_shape *s);
NIZ_API bool niz_shape_equal(const niz_shape *a, const niz_shape *b);

#ifdef __cplusplus
} /* extern "C" */
#endif

#ifndef __cplusplus
/* ---- C: the macros -------------------------------------------------------------------------- */

#define NIZ_HERE ((niz_at){__FILE__, __LINE__})

/* Converts an operand once, in text as well as in value: nested calls stay linear in size.  The
 * types are listed so that a pointer is an error. */
#define NIZ_ARG(a) NIZ_ARG_(a, __COUNTER__)
#define NIZ_ARG_(a, n) NIZ_ARG__(a, n)
#define NIZ_ARG__(a, n)                                                                            \
    __extension__({                                                                                \
        __auto_type niz_v##n = a; /* no ( ): clang counts them, and calls nest */                  \
        _Generic(niz_v##n, niz_t: niz_arg_tensor, double: niz_arg_number, float: niz_arg_float,    \
                 long double: niz_arg_long_double, unsigned long: niz_arg_unsigned,                \
                 unsigned long long: niz_arg_unsigned, bool: niz_arg_integer,                      \
                 char: niz_arg_integer, signed char: niz_arg_integer, short: niz_arg_integer,      \
                 int: niz_arg_integer, long: niz_arg_integer, long long: niz_arg_integer,          \
                 unsigned char: niz_arg_integer, unsigned short: niz_arg_integer,                  \
                 unsigned: niz_arg_integer)(niz_v##n);                                             \
    })

/* Defaults first, the user's options after; the warning about overriding is off for this line.
 * Defaults name the struct's last member last, so that an option without a name is one value too
 * many: an error of clang, a warning of gcc (which cannot make it one) that no option turns on. */
#ifdef __clang__
#define NIZ_QUIET_OVERRIDE_                                                                        \
    _Pragma("clang diagnostic ignored \"-Winitializer-overrides\"")                                \
    _Pragma("clang diagnostic error \"-Wexcess-initializers\"")
#else
#define NIZ_QUIET_OVERRIDE_ _Pragma("GCC diagnostic ignored \"-Woverride-init\"")
#endif
#define NIZ_OPTIONS(T, ...) NIZ_OPTIONS_(T, __COUNTER__, __VA_ARGS__)
#define NIZ_OPTIONS_(T, n, ...) NIZ_OPTIONS__(T, n, __VA_ARGS__)
#define NIZ_OPTIONS__(T, n, ...)                                                                   \
    __extension__({                                                                                \
        _Pragma("GCC diagnostic push") NIZ_QUIET_OVERRIDE_ T niz_o##n = {__VA_ARGS__};             \
        _Pragma("GCC diagnostic pop") niz_o##n;                                                    \
    })

#define NIZ_SHAPE(...)                                                                             \
    ((niz_shape){(int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), {__VA_ARGS__}})
#define NIZ_SCALAR ((niz_shape){0, {0}})

/* Commas in braces, (niz_t[]){a, b}, are no ends of arguments: hence the dots. */
#define niz_from(...) niz_from_at(NIZ_HERE, __VA_ARGS__)
#define niz_copy_from(...) niz_copy_from_at(NIZ_HERE, __VA_ARGS__)
#define niz_full(...) niz_full_at(NIZ_HERE, __VA_ARGS__)
#define niz_zeros(...) niz_full_at(NIZ_HERE, __VA_ARGS__, 0)
#define niz_ones(...) niz_full_at(NIZ_HERE, __VA_ARGS__, 1)
#define niz_scalar(...) niz_scalar_at(NIZ_HERE, __VA_ARGS__)
#define niz_iota(...) niz_iota_at(NIZ_HERE, __VA_ARGS__)
#define niz_uniform(...) niz_uniform_at(NIZ_HERE, __VA_ARGS__)
#define niz_normal(...) niz_normal_at(NIZ_HERE, __VA_ARGS__)
#define niz_bernoulli(...) niz_bernoulli_at(NIZ_HERE, __VA_ARGS__)

#define NIZ_NORMAL_DEFAULTS .mean = 0, .std = 1
#define NIZ_UNIFORM_DEFAULTS .lo = 0, .hi = 1
#define niz_normal_init(...)                                                                       \
    niz_normal_init_with(NIZ_OPTIONS(niz_normal_options, NIZ_NORMAL_DEFAULTS, __VA_ARGS__))
#define niz_uniform_init(...)                                                                      \
    niz_uniform_init_with(NIZ_OPTIONS(niz_uniform_options, NIZ_UNIFORM_DEFAULTS, __VA_ARGS__))

#define niz_param(...) niz_param_at(NIZ_HERE, __VA_ARGS__)
#define niz_state(...) niz_state_at(NIZ_HERE, __VA_ARGS__)
#define niz_find(...) niz_find_at(NIZ_HERE, __VA_ARGS__)
#define niz_assign(...) niz_assign_at(NIZ_HERE, __VA_ARGS__)

#define niz_run(...) niz_run_at(NIZ_HERE, __VA_ARGS__)
#define NIZ_RUN(z, ...)                                                                            \
    niz_run_at(NIZ_HERE, z, (int)(sizeof((niz_t[]){__VA_ARGS__}) / sizeof(niz_t)),                 \
               (niz_t[]){__VA_ARGS__})
#define niz_item(...) niz_item_at(NIZ_HERE, __VA_ARGS__)
#define niz_compile(...) niz_compile_at(NIZ_HERE, __VA_ARGS__)
#define niz_call(...) niz_call_at(NIZ_HERE, __VA_ARGS__)
#define niz_read(...) niz_read_at(NIZ_HERE, __VA_ARGS__)

#else
/* ---- C++: the same names as overloads; the place comes from default arguments --------------- */

#include <initializer_list>
#include <type_traits>

#define NIZ_CPP_AT const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define NIZ_HERE (niz_at{__builtin_FILE(), __builtin_LINE()})

/** A tensor or a number. */
struct niz_operand {
    niz_arg a;
    niz_operand(niz_t t) : a(niz_arg_tensor(t)) {}
    template <class T, class = typename std::enable_if<std::is_arithmetic<T>::value>::type>
    niz_operand(T v) : a(niz_of_number(v, std::is_integral<T>(), std::is_signed<T>()))
    {
    }

private:
    template <class T, class S> static niz_arg niz_of_number(T v, std::false_type, S)
    {
        return niz_arg_number(static_cast<double>(v));
    }
    template <class T> static niz_arg niz_of_number(T v, std::true_type, std::true_type)
    {
        return niz_arg_integer(v);
    }
    template <class T> static niz_arg niz_of_number(T v, std::true_type, std::false_type)
    {
        return niz_arg_unsigned(v);
    }
};

struct niz_step_scope {
    niz_step_guard guard;
    explicit niz_step_scope(niz *z) : guard(niz_step_begin(z)) {}
    ~niz_step_scope() { niz_step_end(&guard); }
    niz_step_scope(const niz_step_scope &) = delete;
    niz_step_scope &operator=(const niz_step_scope &) = delete;
};
struct niz_name_scope {
    niz_scope_guard guard;
    explicit niz_name_scope(niz_scope_guard g) : guard(g) {}
    ~niz_name_scope() { niz_scope_end(&guard); }
    niz_name_scope(const niz_name_scope &) = delete;
    niz_name_scope &operator=(const niz_name_scope &) = delete;
};
#define NIZ_STEP(z) niz_step_scope NIZ_JOIN(niz_step_, __COUNTER__)(z)
#define NIZ_SCOPE(z, ...)                                                                          \
    niz_name_scope NIZ_JOIN(niz_scope_, __COUNTER__)(niz_scope_begin(z, __VA_ARGS__))

/* Sizes of any integer types, as v.size(). */
template <class T> inline int64_t niz_size_from(T size)
{
    static_assert(std::is_integral<T>::value || std::is_enum<T>::value, "a size is an integer");
    return static_cast<int64_t>(size);
}
template <class... T> inline niz_shape niz_shape_from(T... sizes)
{
    static_assert(sizeof...(T) <= NIZ_MAX_RANK, "a shape has at most NIZ_MAX_RANK sizes");
    return niz_shape{static_cast<int>(sizeof...(T)), {niz_size_from(sizes)...}};
}
#define NIZ_SHAPE(...) niz_shape_from(__VA_ARGS__)
#define NIZ_SCALAR (niz_shape())

inline niz_t niz_from(niz *z, niz_dtype dtype, niz_shape shape, const void *data, NIZ_CPP_AT)
{
    return niz_from_at(niz_at{file, line}, z, dtype, shape, data);
}
inline niz_t niz_copy_from(niz *z, niz_dtype dtype, niz_shape shape, const void *data, NIZ_CPP_AT)
{
    return niz_copy_from_at(niz_at{file, line}, z, dtype, shape, data);
}
inline niz_t niz_full(niz *z, niz_dtype dtype, niz_shape shape, double value, NIZ_CPP_AT)
{
    return niz_full_at(niz_at{file, line}, z, dtype, shape, value);
}
inline niz_t niz_zeros(niz *z, niz_dtype dtype, niz_shape shape, NIZ_CPP_AT)
{
    return niz_full_at(niz_at{file, line}, z, dtype, shape, 0);
}
inline niz_t niz_ones(niz *z, niz_dtype dtype, niz_shape shape, NIZ_CPP_AT)
{
    return niz_full_at(niz_at{file, line}, z, dtype, shape, 1);
}
inline niz_t niz_scalar(niz *z, niz_dtype dtype, double value, NIZ_CPP_AT)
{
    return niz_scalar_at(niz_at{file, line}, z, dtype, value);
}
inline niz_t niz_iota(niz *z, niz_dtype dtype, niz_shape shape, int axis, NIZ_CPP_AT)
{
    return niz_iota_at(niz_at{file, line}, z, dtype, shape, axis);
}
inline niz_t niz_uniform(niz *z, niz_dtype dtype, niz_shape shape, double lo, double hi,
                         NIZ_CPP_AT)
{
    return niz_uniform_at(niz_at{file, line}, z, dtype, shape, lo, hi);
}
inline niz_t niz_normal(niz *z, niz_dtype dtype, niz_shape shape, double mean, double std,
                        NIZ_CPP_AT)
{
    return niz_normal_at(niz_at{file, line}, z, dtype, shape, mean, std);
}
inline niz_t niz_bernoulli(niz *z, niz_shape shape, double p, NIZ_CPP_AT)
{
    return niz_bernoulli_at(niz_at{file, line}, z, shape, p);
}
inline niz_init niz_normal_init(niz_normal_options o = niz_normal_options())
{
    return niz_normal_init_with(o);
}
inline niz_init niz_uniform_init(niz_uniform_options o = niz_uniform_options())
{
    return niz_uniform_init_with(o);
}
inline niz_t niz_param(niz *z, const char *name, niz_dtype dtype, niz_shape shape, niz_init init,
                       NIZ_CPP_AT)
{
    return niz_param_at(niz_at{file, line}, z, name, dtype, shape, init);
}
inline niz_t niz_state(niz *z, const char *name, niz_dtype dtype, niz_shape shape, niz_init init,
                       NIZ_CPP_AT)
{
    return niz_state_at(niz_at{file, line}, z, name, dtype, shape, init);
}
inline niz_t niz_find(niz *z, const char *name, NIZ_CPP_AT)
{
    return niz_find_at(niz_at{file, line}, z, name);
}
inline void niz_assign(niz_t param, niz_t value, NIZ_CPP_AT)
{
    niz_assign_at(niz_at{file, line}, param, value);
}
inline niz_status niz_run(niz *z, int n, const niz_t *want, NIZ_CPP_AT)
{
    return niz_run_at(niz_at{file, line}, z, n, want);
}
inline niz_status niz_run_list(niz *z, std::initializer_list<niz_t> want, NIZ_CPP_AT)
{
    return niz_run_at(niz_at{file, line}, z, static_cast<int>(want.size()), want.begin());
}
#define NIZ_RUN(z, ...) niz_run_list(z, {__VA_ARGS__})
inline niz_fn *niz_compile(niz *z, niz_fn_body *body, void *arg, int n_in, const niz_type_spec *in,
                           int n_out, NIZ_CPP_AT)
{
    return niz_compile_at(niz_at{file, line}, z, body, arg, n_in, in, n_out);
}
inline niz_status niz_call(niz_fn *f, const void *const *in, void *const *out, NIZ_CPP_AT)
{
    return niz_call_at(niz_at{file, line}, f, in, out);
}
inline double niz_item(niz_t t, NIZ_CPP_AT) { return niz_item_at(niz_at{file, line}, t); }
inline niz_status niz_read(niz_t t, void *out, size_t bytes, NIZ_CPP_AT)
{
    return niz_read_at(niz_at{file, line}, t, out, bytes);
}
#endif

#endif
