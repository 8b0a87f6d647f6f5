/* check.h - the parts of the gradient checker.
 *
 *   grad.c     niz_check_grad: records the user's function, rewrites it, checks, blames, reports
 *   rewrite.c  a recorded graph -> the same in f64, in a context of the checker's own
 *   probe.c    a graph as a function of its leaves: values at moved points, the rules' derivatives
 *   slope.c    the derivative along one direction from values alone, with its error
 *   verify.c   both compared: directions, elements, forward mode, second order
 *   blame.c    every operation alone: which one is wrong
 *   report.c   in words
 *   op.c, op_*.c   niz_check_op
 *
 * Everything runs in a context of its own, so that the user's plans, parameters, pending updates
 * and errors are left alone.  In it a graph is recorded once and run many times: the checker
 * changes the memory of its data leaves and makes the recording forget what it has computed, so all
 * points share one plan.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_CHECK_PARTS_H
#define NIZ_CHECK_PARTS_H

#include <niz/check.h>
#include <niz/grad.h>

#include "core/type.h"
#include "graph/recording.h"

/* ---- probe.c -------------------------------------------------------------------------------- */

/** A leaf that is moved. */
typedef struct niz_probe_in {
    niz_t t;
    int input; /* the user's number of it */
    int64_t n;
    void *data;    /* the leaf's memory */
    double *x;     /* the point */
    double *unit;  /* how far a step of 1 goes in each element */
    double *gx;    /* the derivative of the checked number, by the rules */
    double *along; /* a direction */
} niz_probe_in;

/** A value whose product with .w is part of the checked number. */
typedef struct niz_probe_out {
    niz_t t;
    int64_t n;
    double *w;
    double *y;          /* at the point */
    double *plus, *minus; /* at moved points */
} niz_probe_out;

/** s(x) = Σ_j <w_j, y_j(x)>, a number that depends on all leaves. */
typedef struct niz_probe {
    niz *z;
    niz_recording *r;
    int n_in, n_out;
    niz_probe_in *in;
    niz_probe_out *out;
    niz_t *grad; /* ds/dx: nodes */
    double eps;  /* of the coarsest dtype in it */
    uint64_t random;
} niz_probe;

/** Numbers for tests: the same everywhere. */
uint64_t niz_probe_bits(uint64_t *state);
double niz_probe_uniform(uint64_t *state, double lo, double hi);
/** Of either sign, between 0.5 and 1.5 in size: no share of a sum is lost. */
double niz_probe_sign(uint64_t *state);

/** Element i of a tensor in memory, as a double and back. */
double niz_probe_load(niz_dtype dtype, const void *p, int64_t i);
void niz_probe_store(niz_dtype dtype, void *p, int64_t i, double v);

/** A data leaf of these elements (bytes of dtype; floating ones in dtype `from` are converted). */
niz_t niz_probe_leaf(niz_recording *r, niz_dtype dtype, const niz_shape *shape, niz_dtype from,
                     const void *data);
/** The recording has computed nothing yet: the next run sees the leaves as they are now. */
void niz_probe_forget(niz_recording *r);
/** Runs and reads n floating tensors as doubles. */
bool niz_probe_read(niz_recording *r, int n, const niz_t *t, double *const *out);

/** in[i].t, .input and out[j].t are given; random w (1 for a single number).  Evaluates s and its
 *  gradient at the point.  False: the context's error is set. */
bool niz_probe_begin(niz_probe *p);
/** The values at x + step · along, to out[j].plus or .minus. */
bool niz_probe_move(niz_probe *p, double step, bool minus);
/** .along of every element: random, or none. */
void niz_probe_direct(niz_probe *p, bool random);
/** <ds/dx, along> by the rules. */
double niz_probe_analytic(const niz_probe *p);

/* ---- slope.c -------------------------------------------------------------------------------- */

typedef struct niz_slope {
    double value, error; /* of the derivative along the direction */
    double left, right;  /* one-sided */
    bool finite;         /* enough finite values on both sides */
    bool kink;           /* left and right differ beyond doubt */
    double order;        /* of the difference between `analytic` and central differences */
    double size;         /* of the values that changed: Σ |w y| */
    double last;         /* the difference at the smallest step, and what noise may add to it */
} niz_slope;

/** False: the context's error is set. */
bool niz_slope_find(niz_probe *p, double analytic, niz_slope *s);

/* ---- verify.c ------------------------------------------------------------------------------- */

/** The worst that a comparison found. */
typedef struct niz_finding {
    niz_check_verdict verdict;
    int order;
    int input;
    int64_t element;
    double analytic, numeric, error;
    double left, right;  /* of a kink */
    double shrinks;      /* order of the difference in the step */
    bool modes;          /* reverse and forward mode disagree: they are analytic and numeric */
    bool no_forward;     /* forward mode could not be checked: a rule is missing */
    double worst;        /* largest difference found right, relative */
    int64_t checks;
} niz_finding;

/** Checks y (nodes of r) with respect to the leaves in[].  ERROR: the context's error is set. */
niz_finding niz_verify_gradient(niz_recording *r, int n_in, const niz_t *in, const int *number,
                                niz_t y, const niz_check_options *o);

/* ---- rewrite.c ------------------------------------------------------------------------------ */

/** y as a function of x, from a user's recording to the checker's. */
typedef struct niz_rewrite_job {
    niz_recording *from, *to;
    niz_t y;            /* of from */
    int n;
    const niz_t *x;     /* of from: the inputs */
    bool widen;         /* f32 -> f64 */
    niz_t *new_x, new_y; /* results */
} niz_rewrite_job;
bool niz_rewrite_graph(niz_rewrite_job *job);

/** XXH3 of the graph of y down to x, with the contents of data leaves that do not depend on x. */
uint64_t niz_rewrite_form(niz_recording *r, niz_t y, int n, const niz_t *x);

/* ---- blame.c -------------------------------------------------------------------------------- */

/** The last operation that is wrong alone. */
typedef struct niz_blame {
    bool found;
    const niz_op *op;
    niz_place place;
    niz_finding finding;
} niz_blame;

niz_blame niz_blame_find(niz_recording *r, int n_in, const niz_t *in, niz_t y,
                         const niz_finding *f, const niz_check_options *o);

/* ---- report.c ------------------------------------------------------------------------------- */

void niz_report_add(niz_check_report *r, const char *format, ...) NIZ_PRINTF(2, 3);
/** What was found, in words. */
void niz_report_finding(niz_check_report *r, const niz_finding *f, const niz_blame *b, int n,
                        const niz_t *inputs, niz_at at);
niz_check_report niz_report_error(niz_at at, const char *message);

#endif
