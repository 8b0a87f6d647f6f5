/* ops.c - the built-in records, family by family.  SPDX-License-Identifier: MIT */
#include <string.h>

#include "graph/recording.h"
#include "ops/families.h"

const niz_op *const niz_ops_leaf[] = {
    &niz_op_literal, &niz_op_data, &niz_op_param, &niz_op_assign, NULL,
};

static const niz_op *const *const families[] = {
    niz_ops_leaf,     niz_ops_elementwise, niz_ops_movement, niz_ops_reduce,
    niz_ops_contract, niz_ops_conv,        niz_ops_index,    niz_ops_random,
};

const niz_op *niz_op_get(int i)
{
    for (int f = 0; f < NIZ_COUNT(families); f++)
        for (const niz_op *const *op = families[f]; *op; op++)
            if (i-- == 0) return *op;
    return NULL;
}

/* Asked once for every operation that a context meets: a few dozen names, seldom. */
const niz_op *niz_op_find(const char *name)
{
    for (int f = 0; name && f < NIZ_COUNT(families); f++)
        for (const niz_op *const *op = families[f]; *op; op++)
            if ((*op)->name[0] == name[0] && !strcmp((*op)->name, name)) return *op;
    return NULL;
}
