/* families.h - the records of each file of operations, each list ending with NULL.
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_FAMILIES_H
#define NIZ_FAMILIES_H

#include <niz/op.h>

extern const niz_op *const niz_ops_elementwise[], *const niz_ops_reduce[], *const niz_ops_contract[],
    *const niz_ops_conv[], *const niz_ops_movement[], *const niz_ops_index[],
    *const niz_ops_random[], *const niz_ops_leaf[];

/* Records that other files than their own need by name. */
extern const niz_op niz_op_sum, niz_op_max, niz_op_contract, niz_op_conv, niz_op_reshape,
    niz_op_permute, niz_op_broadcast, niz_op_slice, niz_op_pad, niz_op_flip, niz_op_concat,
    niz_op_mul, niz_op_add, niz_op_sub, niz_op_div, niz_op_neg, niz_op_cast, niz_op_copy,
    niz_op_stop_gradient, niz_op_gather, niz_op_scatter_add;

/* Records that only passes make; they have no derivative. */
extern const niz_op niz_op_choose, niz_op_inside;

#endif
