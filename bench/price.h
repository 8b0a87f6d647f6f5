/* price.h - loops with free arithmetic, beside those of the contract.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PRICE_H
#define PRICE_H

#include "exec/loops.h"

/** Σ x and softmax of rows [rows,n], in plain C. */
float price_sum(int64_t n, const float *x);
void price_softmax(int64_t rows, int64_t n, const float *restrict x, float *restrict y);

/* libniz's loops, built with free arithmetic (see niz_loops) */
void niz_reduce_run_free(const niz_reduce_loop *, const void *x, void *y, int64_t begin,
                         int64_t end);
#define PRICE_CONTRACT(k)                                                                          \
    void niz_contract_run_free_##k(const niz_contract_loop *, const void *a, const void *b,        \
                                   void *y, int64_t begin, int64_t end, void *scratch,             \
                                   const niz_fused *fused);                                        \
    void niz_contract_prepare_free_##k(niz_contract_loop *);
PRICE_CONTRACT(256)
PRICE_CONTRACT(512)
PRICE_CONTRACT(4096)

#endif
