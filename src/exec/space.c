/* space.c - index spaces with as few axes as possible.  SPDX-License-Identifier: MIT */
#include "exec/exec.h"

static bool niz_space_joins(const niz_loop_space *s, const int64_t *outer, int64_t inner_dim,
                            const int64_t *inner)
{
    for (int b = 0; b < s->n; b++)
        if (outer[b] != inner[b] * inner_dim) return false;
    return true;
}

void niz_space_make(niz_loop_space *s, int rank, const int64_t *dim, int n,
                    int64_t stride[][NIZ_MAX_RANK])
{
    *s = (niz_loop_space){.n = n};
    for (int d = 0; d < rank; d++) {
        int64_t inner[NIZ_LOOP_MAX_BUFFERS], outer[NIZ_LOOP_MAX_BUFFERS];
        if (dim[d] == 1) continue;
        int last = s->rank - 1;
        for (int b = 0; b < n; b++) {
            inner[b] = stride[b][d];
            outer[b] = last >= 0 ? s->stride[b][last] : 0;
        }
        bool join = last >= 0 && niz_space_joins(s, outer, dim[d], inner);
        int at = join ? last : s->rank++;
        s->dim[at] = join ? s->dim[at] * dim[d] : dim[d];
        for (int b = 0; b < n; b++) s->stride[b][at] = inner[b];
    }
}

int64_t niz_space_count(const niz_loop_space *s)
{
    int64_t n = 1;
    for (int d = 0; d < s->rank; d++) n *= s->dim[d];
    return n;
}
