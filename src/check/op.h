/* op.h - niz_check_op in parts.
 *
 *   op.c        the loop over samples, dtypes and layouts; refusals; what a record must have
 *   op_case.c   operands: shapes, values, and the same values through views
 *   op_value.c  results against the reference and known values, and from every executor
 *   op_rule.c   derivatives, text
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_CHECK_OP_PARTS_H
#define NIZ_CHECK_OP_PARTS_H

#include "check/check.h"

#define NIZ_CASE_OPERANDS 4 /* as many as a sample has shapes for */

/** How operands lie in memory. */
typedef enum niz_case_layout {
    NIZ_LAYOUT_PLAIN,
    NIZ_LAYOUT_PERMUTED, /* axes reversed */
    NIZ_LAYOUT_STRIDED,  /* every second element, the others are poison */
    NIZ_LAYOUT_FLIPPED,
    NIZ_N_LAYOUTS
} niz_case_layout;

/** One application to test. */
typedef struct niz_case {
    const niz_op *op;
    const niz_sample *sample;
    int number; /* of the sample */
    int n;
    niz_shape shape[NIZ_CASE_OPERANDS];
    niz_dtype dtype[NIZ_CASE_OPERANDS];
    double *x[NIZ_CASE_OPERANDS];
    bool exact; /* known inputs that the dtypes hold exactly */
    niz_attrs attr;
    niz_case_layout layout;
    niz_dtype y_dtype; /* of the result */
    niz_shape y_shape;
} niz_case;

#define NIZ_MAX_EXECUTORS 16

typedef struct niz_op_test {
    niz_check_report report;
    const niz_op *op;
    niz *z[NIZ_MAX_EXECUTORS]; /* contexts: tables of loops times threads */
    const char *isa[NIZ_MAX_EXECUTORS];
    int threads[NIZ_MAX_EXECUTORS];
    bool compiled[NIZ_MAX_EXECUTORS];
    int n_executors;
    uint64_t random;
    int64_t derivatives; /* found right */
} niz_op_test;

/** The first failure is kept: "swish f32[2,3] (sample 0): ..."; always false. */
bool niz_op_failed(niz_op_test *t, const niz_case *c, niz_check_verdict verdict,
                   const char *format, ...) NIZ_PRINTF(4, 5);

/* op_case.c */
/** How many choices of shapes there are for a sample, and the i-th. */
int niz_case_shapes(const niz_op *op, const niz_sample *s);
void niz_case_shape(niz_case *c, int i);
/** How many choices of dtypes, and the i-th; false if it repeats another. */
#define NIZ_CASE_DTYPES (NIZ_N_DTYPES * 4)
bool niz_case_dtype(niz_case *c, int i);
/** Draws or copies the operands; false if the dtypes cannot hold them, or without memory. */
bool niz_case_values(niz_op_test *t, niz_case *c);
/** Operand i as a tensor of r, laid out as asked. */
niz_t niz_case_operand(niz_recording *r, const niz_case *c, int i);
bool niz_case_has_layout(const niz_case *c, niz_case_layout layout);
niz_t niz_case_apply(niz_recording *r, const niz_case *c, niz_t *x);

/* op_value.c */
bool niz_op_test_values(niz_op_test *t, niz_case *c);
bool niz_op_same(niz_dtype dtype, const void *a, const void *b, int64_t n, int64_t *where);

/* op_rule.c */
bool niz_op_test_rules(niz_op_test *t, niz_case *c);
bool niz_op_test_text(niz_op_test *t, niz_case *c);

#define NIZ_OP_AT ((niz_at){"niz_check_op", 1})

#endif
