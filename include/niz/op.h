/* niz/op.h - what an operation is, and how to write one.
 *
 * An operation is one constant record.  Built-in ones and yours are alike: the graph, the
 * derivatives, the passes, the interpreter and the tests ask the record and never its name.  A new
 * elementwise operation is about ten lines:
 *
 *   static niz_t swish_d(const niz_app *p, int i)       // dy/dx = s + y (1 - s), s = sigmoid(x)
 *   {
 *       niz_t s = niz_sigmoid(p->x[0]);
 *       (void)i;
 *       return niz_add(s, niz_mul(p->y, niz_sub(1.0, s)));
 *   }
 *   static const niz_op swish = {
 *       .name = "swish", .arity = 1, .infer = niz_infer_same_float,
 *       .map = "a / (1 + EXP(-a))", .partial = swish_d,
 *   };
 *   niz_t y = niz_apply(&swish, 1, &x, NULL);
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_OP_H
#define NIZ_OP_H

#include <niz/core.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct niz_op niz_op;

#define NIZ_MAX_ARITY 64 /* operands of one node: concat has many, the others at most four */
#define NIZ_MAX_ATTR 64  /* attribute words of one node */

/** The few shapes of computation that the compiler knows.  It asks for these, never for names. */
typedef enum niz_form {
    NIZ_FORM_OPAQUE,   /* .eval on contiguous buffers */
    NIZ_FORM_MAP,      /* .map at every element; operands broadcast as numpy's do */
    NIZ_FORM_REDUCE,   /* one axis folded by .combine, in the order of the contract */
    NIZ_FORM_VIEW,     /* the same memory seen otherwise: .view */
    NIZ_FORM_INDEX,    /* moves elements by position or index: .eval with strided operands */
    NIZ_FORM_CONTRACT, /* sum of products over shared axes */
    NIZ_FORM_CONV,     /* a contraction over sliding windows */
    NIZ_FORM_LEAF      /* a value from outside: literal, data, parameter */
} niz_form;

/** How a reduction folds. */
typedef enum niz_combine {
    NIZ_COMBINE_SUM,
    NIZ_COMBINE_PROD,
    NIZ_COMBINE_MAX,
    NIZ_COMBINE_MIN,
    NIZ_COMBINE_ARGMAX,
    NIZ_COMBINE_ARGMIN
} niz_combine;

/** What is known of a tensor before it has a value. */
typedef struct niz_type {
    niz_dtype dtype;
    const niz_shape *shape;
} niz_type;

/** Attributes: axes, sizes, flags, and doubles by their bits.  .attrs of the record names them. */
typedef struct niz_attrs {
    int n;
    const int64_t *value;
} niz_attrs;

/** Typing of an application: from operands and attributes to the result's dtype and shape. */
typedef struct niz_infer {
    const niz_op *op;
    int n;
    const niz_type *x;
    niz_attrs attr;
    niz_dtype dtype;        /* to be set */
    const niz_shape *shape; /* to be set: an operand's, or &made filled in */
    niz_shape made;
    niz_status status;      /* set by niz_infer_fail */
    char why[256];          /* "inner sizes differ, 784 and 728": the operands are added to it */
} niz_infer;

/** Refuses: the reason as printf would print it.  Always false, to be returned. */
NIZ_API bool niz_infer_fail(niz_infer *f, niz_status status, const char *format, ...)
    NIZ_PRINTF(3, 4);

/* Ready-made typing for .map records: operands broadcast together and are of one dtype. */
NIZ_API bool niz_infer_same_float(niz_infer *f);  /* f32 or f64 -> the same */
NIZ_API bool niz_infer_same_number(niz_infer *f); /* and i32, i64 */
NIZ_API bool niz_infer_same(niz_infer *f);        /* every dtype */
NIZ_API bool niz_infer_compare(niz_infer *f);     /* every dtype -> bool */

/** An application in a recording, as a derivative rule sees it. */
typedef struct niz_app {
    const niz_op *op;
    niz_t y; /* the result */
    int n;
    const niz_t *x; /* the operands */
    niz_attrs attr;
} niz_app;

/** A tensor in memory. */
typedef struct niz_buffer {
    niz_dtype dtype;
    niz_shape shape;
    int64_t stride[NIZ_MAX_RANK]; /* in elements; of opaque operations always row-major */
    void *data;
} niz_buffer;

/** An evaluation: y = op(x...).  With .parallel the elements [begin, end) of y in row-major order
 *  are asked for; otherwise begin is 0 and end is all of them. */
typedef struct niz_eval {
    int n;
    const niz_buffer *x;
    niz_buffer y;
    niz_attrs attr;
    int64_t begin, end;
    int64_t bad_index; /* an index operation sets these two when an index is outside its axis */
    bool failed;
} niz_eval;

/** A view: where element (0,...,0) lies in memory, and the strides, all in elements. */
typedef struct niz_view {
    niz_shape shape;
    int64_t stride[NIZ_MAX_RANK];
    int64_t offset;
} niz_view;

/** A case for the tests of a record.  Map records may leave the shapes out: the tests choose
 *  awkward ones.  All members left out mean: any values between -2 and 2. */
typedef struct niz_sample {
    int n;             /* operands, for records of any arity; else arity */
    niz_shape x[4];    /* operands' shapes; rank 0 in all: see above */
    int n_attr;
    int64_t attr[40];
    double lo[4], hi[4]; /* operands are drawn uniformly from [lo, hi] */
    int64_t below[4];    /* operand holds indices 0 .. below-1 (i32 or i64) */
    const double *in;    /* known values: the operands' elements one after another ... */
    const double *out;   /* ... and the result's */
    const char *refused; /* the operation must be refused with a message that contains this */
    bool no_gradient;    /* not differentiable somewhere in [lo, hi]: leave gradients out here */
} niz_sample;

/** A naive evaluation in double precision: the tests' oracle.  Row-major; integers and bools are
 *  doubles too. */
typedef struct niz_ref {
    int n;
    const niz_shape *x_shape;
    const double *const *x;
    niz_attrs attr;
    niz_shape shape;
    double *y;
} niz_ref;

/** The record of an operation.  Nodes, plans and compiled kernels point to it: it must outlive the
 *  context and never change, so make it static const. */
struct niz_op {
    const char *name;
    int arity;         /* operands; -1: any number, all of one dtype */
    const char *attrs; /* names of the attribute words: "axis", "lo[] hi[]" (lists are of one
                          length), "exponent:f" (a double's bits), "to:t" (a dtype) */
    bool (*infer)(niz_infer *);
    niz_form form;     /* left out: MAP if .map is given, else OPAQUE */

    /* what it computes: one of */
    const char *map;           /* an expression in a, b, c, d (§ docs/map.md) */
    niz_combine combine;       /* of form REDUCE */
    /* of form VIEW: v is the operand's and becomes the result's, of shape y; false: these strides
       cannot express it and the operand must be copied first */
    bool (*view)(niz_attrs attr, const niz_shape *y, niz_view *v);
    void (*eval)(niz_eval *); /* forms OPAQUE (row-major operands) and INDEX (any strides) */
    bool parallel;            /* .eval may be called for parts of y */
    bool may_fail;            /* .eval may find an index outside its axis */

    /* its derivative: one of */
    niz_t (*partial)(const niz_app *, int i);           /* dy/dx_i at every element, for .map */
    niz_t (*adjoint)(const niz_app *, int i, niz_t gy); /* for operations linear in x_i */
    niz_t (*vjp)(const niz_app *, int i, niz_t gy);     /* gy -> gx_i */
    niz_t (*jvp)(const niz_app *, int i, niz_t tx);     /* tx_i -> its share of ty */
    bool jointly_linear; /* with .adjoint: f(x + t) = f(x) + f(t) in all operands at once, rather
                            than in each with the others fixed */
    bool no_gradient;    /* piecewise constant (compare, argmax): its derivative is zero, not
                            missing */

    /* how it is tested */
    double (*ref)(const double *x);        /* for .map: one element of every operand */
    void (*ref_tensor)(const niz_ref *);   /* for the others */
    const niz_sample *samples;
    int n_samples;
    double ulp; /* f32 and f64 results may differ by this from the correctly rounded one */
};

#define NIZ_COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/** Applies a record to n operands; attrs may be NULL. */
NIZ_API niz_t niz_apply_at(niz_at at, const niz_op *op, int n, const niz_t *x,
                           const niz_attrs *attrs);
#ifndef __cplusplus
#define niz_apply(...) niz_apply_at(NIZ_HERE, __VA_ARGS__)
#else
}
inline niz_t niz_apply(const niz_op *op, int n, const niz_t *x, const niz_attrs *attrs,
                       NIZ_CPP_AT)
{
    return niz_apply_at(niz_at{file, line}, op, n, x, attrs);
}
extern "C" {
#endif

/** The built-in record of that name, or NULL; and the i-th of all, NULL after the last. */
NIZ_API const niz_op *niz_op_find(const char *name);
NIZ_API const niz_op *niz_op_get(int i);

/** A function made of others: the nodes and errors of the rest of this block carry the caller's
 *  place, and errors this name.  NIZ_FUNCTION(z, at, "linear"); */
typedef struct niz_function_guard {
    niz *z;
} niz_function_guard;
NIZ_API niz_function_guard niz_function_begin(niz *z, niz_at at, const char *name);
NIZ_API void niz_function_end(niz_function_guard *guard);
#ifndef __cplusplus
#define NIZ_FUNCTION(z, at, name)                                                                  \
    niz_function_guard NIZ_JOIN(niz_function_, __COUNTER__)                                        \
        __attribute__((cleanup(niz_function_end), unused)) = niz_function_begin(z, at, name)
#else
}
struct niz_function_scope {
    niz_function_guard guard;
    niz_function_scope(niz *z, niz_at at, const char *name)
        : guard(niz_function_begin(z, at, name))
    {
    }
    ~niz_function_scope() { niz_function_end(&guard); }
    niz_function_scope(const niz_function_scope &) = delete;
    niz_function_scope &operator=(const niz_function_scope &) = delete;
};
#define NIZ_FUNCTION(z, at, name)                                                                  \
    niz_function_scope NIZ_JOIN(niz_function_, __COUNTER__)(z, at, name)
extern "C" {
#endif

/** The inert handle: what a builder returns after an error. */
NIZ_API niz_t niz_inert(niz *z);

/** t's type for messages, "f32[64,784]"; of an inert handle "no tensor". */
typedef struct niz_text {
    char text[192];
} niz_text;
NIZ_API niz_text niz_describe(niz_t t);

static inline bool niz_dtype_is_float(niz_dtype d)
{
    return d == NIZ_F32 || d == NIZ_F64;
}

/** The context of the first operand that has one. */
static inline niz *niz_context_of(int n, const niz_t *x)
{
    for (int i = 0; i < n; i++)
        if (x[i].z) return x[i].z;
    return NULL;
}

#ifdef __cplusplus
}
#endif
#endif
