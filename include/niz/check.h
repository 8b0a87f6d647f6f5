/* niz/check.h - is a gradient right?  Is an operation?
 *
 *   static niz_t loss(niz *z, int n, const niz_t *x, void *arg)    // the function: builds graph
 *   {
 *       return niz_mean(niz_square(niz_sub(x[0], x[1])));
 *   }
 *
 *   niz_check_report r = niz_check_grad(loss, NULL, 2, inputs, .order = 2);
 *   if (r.verdict != NIZ_CHECK_OK) puts(r.text);
 *
 * The function is recorded where the check is called; its graph is rewritten to f64 and
 * differentiated there, and the result compared with differences of the function's own values.
 * What is compared is the derivative of <g, f(x)> with a random g, along random directions and, for
 * small inputs, along every element; the differences are taken over a range of steps and
 * extrapolated, with an estimate of their error, so that no single step decides.  Both modes of
 * differentiation are compared with each other.  Where left and right slopes differ the function
 * has no derivative and the verdict says so.  If the gradient is wrong, every operation of the
 * graph is checked alone at the values it had, and the last wrong one is named with the user's
 * line.
 *
 * Steps go from 1/16 to a millionth of an element's size (at least a hundredth of the input's
 * median), so a kink closer than a millionth counts as one, and an input whose elements differ by
 * more than about five powers of ten is better split.
 *
 * A gradient check is no test of the operation: forward and backward may be wrong alike.
 * niz_check_op tests a record against its reference too.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_CHECK_H
#define NIZ_CHECK_H

#include <niz/op.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What a check found. */
typedef enum niz_check_verdict {
    NIZ_CHECK_OK,       /* right */
    NIZ_CHECK_WRONG,    /* a derivative (niz_check_op: or a value, a refusal ...) is wrong */
    NIZ_CHECK_KINK,     /* not differentiable here: left and right slopes differ, or one is not
                           finite; move the point */
    NIZ_CHECK_VACUOUS,  /* nothing was checked: the value does not change with this input */
    NIZ_CHECK_BRANCHES, /* another graph is recorded at a near point: values of the inputs decide
                           the graph's form, or were read and became its constants */
    NIZ_CHECK_UNSTEADY, /* no step gave differences that can be relied on: the function is too noisy
                           or too steep here */
    NIZ_CHECK_ERROR     /* the function, a rule or the check itself failed: see the text */
} niz_check_verdict;

/** A check's result: a value, nothing to free. */
typedef struct niz_check_report {
    niz_check_verdict verdict;
    int order;         /* of the derivative that the rest speaks of: 1 or 2 */
    int input;         /* number of the worst input, or -1: a direction through all of them */
    int64_t element;   /* of that input, row-major, or -1 */
    double analytic;   /* the derivative that the rules give there ... */
    double numeric;    /* ... and the one that differences of values give */
    double error;      /* estimate of numeric's error */
    const char *op;    /* the operation to blame, or NULL */
    niz_at at;         /* its line in the user's program */
    int64_t checks;    /* comparisons made */
    char text[4096];   /* all of it in words */
} niz_check_report;

/** A function to check: builds the graph of its value from x[0 .. n-1] and returns it.  It may use
 *  parameters (constants to the check), random draws (which stay as recorded), assignments (which
 *  are dropped).  It is called a few times. */
typedef niz_t niz_check_function(niz *z, int n, const niz_t *x, void *arg);

/** Options of niz_check_grad. */
typedef struct niz_check_options {
    int order NIZ_DEFAULT(1);      /* 2: the gradient's own derivative too */
    int directions NIZ_DEFAULT(4); /* random directions through all inputs */
    int64_t elements NIZ_DEFAULT(64); /* inputs of at most so many elements: each element too */
    double tolerance NIZ_DEFAULT(1e-6); /* relative, where the graph takes f64; one that takes only
                                           f32 is allowed 5,000 times as much */
    uint64_t seed NIZ_DEFAULT(1);
} niz_check_options;

/** Checks the gradient of f with respect to those of the n inputs that are floating; the others are
 *  constants.  The inputs' values are the point to check at; they may be any tensors of a running
 *  step (an f32 input serves as well as an f64 one: the check itself is in f64).
 *
 *  The context stays as it was: no parameter changes, pending assignments stay pending, counters of
 *  steps and draws do not move; parameters that f makes at its first call stay.  An error that f or
 *  a rule makes ends up in the report (NIZ_CHECK_ERROR) and not in the context.  With an error in
 *  the context already, nothing is done but to report it. */
NIZ_API niz_check_report niz_check_grad_at(niz_at at, niz_check_function *f, void *arg, int n,
                                           const niz_t *inputs, niz_check_options o);

/** Tests a record in every way the built-in ones are tested: for each sample, each dtype it takes,
 *  contiguous and strided operands, broadcasting: values against .ref or .ref_tensor within .ulp,
 *  known values, what must be refused (message, line, and that the context works on); derivatives
 *  of order 1 and 2 in both modes; text printed and parsed back; the same bits from every table of
 *  loops and with 1, 2 and 4 threads.  What cannot be tested so (no reference, no sample, neither
 *  rule nor .no_gradient) is NIZ_CHECK_ERROR.  Of a wrong value .element tells which, .numeric the
 *  one expected and .analytic the one computed. */
NIZ_API niz_check_report niz_check_op(const niz_op *op);

/** "wrong", "not differentiable here" ... */
NIZ_API const char *niz_check_verdict_name(niz_check_verdict v);

#ifdef __cplusplus
} /* extern "C" */
#endif

#ifndef __cplusplus

#define NIZ_CHECK_DEFAULTS                                                                         \
    .order = 1, .directions = 4, .elements = 64, .tolerance = 1e-6, .seed = 1
#define niz_check_grad(f, arg, n, ...) /* inputs, options */                                       \
    NIZ_CHECK_GRAD_(f, arg, n, __VA_ARGS__, )
#define NIZ_CHECK_GRAD_(f, arg, n, inputs, ...)                                                    \
    niz_check_grad_at(NIZ_HERE, f, arg, n, inputs,                                                 \
                      NIZ_OPTIONS(niz_check_options, NIZ_CHECK_DEFAULTS, __VA_ARGS__))

#else

inline niz_check_report niz_check_grad(niz_check_function *f, void *arg, int n,
                                       const niz_t *inputs,
                                       niz_check_options o = niz_check_options(), NIZ_CPP_AT)
{
    return niz_check_grad_at(niz_at{file, line}, f, arg, n, inputs, o);
}

#endif

#endif
