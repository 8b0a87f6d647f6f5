/* diff.h - what both sweeps share.  SPDX-License-Identifier: MIT */
#ifndef NIZ_DIFF_H
#define NIZ_DIFF_H

#include <niz/grad.h>
#include <niz/ops.h>

#include "graph/recording.h"

/** The nodes between inputs and outputs of a derivative. */
typedef struct niz_cone {
    niz_recording *r;
    uint32_t lo, hi; /* ids [lo, hi) */
    bool *depends;   /* of node lo + i: a floating value that depends on an input */
} niz_cone;

/** Finds which of the nodes up to the highest y depend on the x.  False: error set. */
bool niz_cone_find(niz_cone *c, niz_at at, const char *name, int n_x, const niz_t *x, int n_y,
                   const niz_t *y);
void niz_cone_free(niz_cone *c);
bool niz_cone_has(const niz_cone *c, uint32_t id);

/** The application of node id, with room for its operands. */
niz_app niz_app_of(const niz_recording *r, uint32_t id, niz_t x[NIZ_MAX_ARITY]);

/** a * d, where d is a derivative: nothing is multiplied by a literal 1. */
niz_t niz_chain(niz_recording *r, niz_t a, niz_t d);

/** An operation has no rule: NIZ_E_RULE, naming it and the user's line. */
void niz_no_rule(niz_recording *r, uint32_t id);

#endif
