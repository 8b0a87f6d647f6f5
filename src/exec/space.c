/* space.c - index spaces with as few axes as possible, in the order that suits a loop.
 *
 * SPDX-License-Identifier: MIT */
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

#define NIZ_COPY_ROW 16 /* shorter rows are copied many in one go */

/* Moves axis `from` to place `to` (from < to); those between move outwards. */
static void niz_space_move(niz_loop_space *s, int from, int to)
{
    for (int d = from; d < to; d++) {
        int64_t dim = s->dim[d];
        s->dim[d] = s->dim[d + 1];
        s->dim[d + 1] = dim;
        for (int b = 0; b < s->n; b++) {
            int64_t stride = s->stride[b][d];
            s->stride[b][d] = s->stride[b][d + 1];
            s->stride[b][d + 1] = stride;
        }
    }
}

/* Elements that an axis goes on by, in whichever buffer that is more. */
static int64_t niz_copy_reach(const niz_loop_space *s, int d)
{
    int64_t x = s->stride[0][d], y = s->stride[1][d];
    if (x < 0) x = -x;
    return x > y ? x : y;
}

/* A copy has no order of its own.  Innermost stays what is contiguous in the result; next to it
 * comes the axis that is contiguous in the source, or else of short rows what brings the next one
 * nearest: what lies between is copied soon, while it is in cache. */
void niz_space_for_copy(niz_loop_space *s)
{
    int inner = s->rank - 1, best = inner - 1;
    for (int d = inner - 1; d >= 0; d--) {
        if (s->stride[0][d] == 1 && s->stride[0][inner] != 1) {
            best = d;
            break;
        }
        if (s->dim[inner] < NIZ_COPY_ROW && niz_copy_reach(s, d) < niz_copy_reach(s, best))
            best = d;
    }
    if (best >= 0) niz_space_move(s, best, inner - 1);
}

int64_t niz_space_count(const niz_loop_space *s)
{
    int64_t n = 1;
    for (int d = 0; d < s->rank; d++) n *= s->dim[d];
    return n;
}
