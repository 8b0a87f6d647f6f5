/* tile.h - what contractions and convolutions share: index tables, packing and micro-kernels.
 *
 * Both compute a rectangle of outputs, rows x columns, as sums over k of a[row, k] * b[column, k].
 * The order of each sum is the contract (DESIGN §6): k in blocks of NIZ_TILE_K, in a block fused
 * multiply-add in index order from +0, block results added in order.  A rectangle is walked block
 * of k by block of k; for each, the columns' operand lies in panels [k, NR] (NR is two vectors)
 * and a micro-kernel holds R rows x NR columns of sums in registers over the whole block.  So the
 * accumulators are the contract's own partial sums, and no choice of tiles, ranges or vector width
 * can change a bit.  Lanes of a panel beyond the last column are computed and thrown away.
 *
 * Rows are read where they lie whenever k is contiguous there: a row gives one broadcast a step,
 * and eight streams cost the first-level cache nothing, while packing would be another pass.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_TILE_H
#define NIZ_TILE_H

#include <string.h>

#include "codegen/vector.h"
#include "exec/loops.h"
#include "exec/loops_isa.h"

#define NIZ_TILE_K 384    /* the contract's block: a change changes results */
/* NIZ_TILE_COLS columns are packed at once: 384 KiB of f32, in the second-level cache */
#define NIZ_TILE_ROWS 256 /* rows to a table of offsets */
#define NIZ_TILE_MAX_R 8  /* rows of the largest micro-kernel */
#define NIZ_TILE_MAX_NR 32

#define NIZ_TILE_INLINE static inline __attribute__((always_inline))

static inline int64_t niz_tile_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t niz_tile_ceil(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline size_t niz_tile_size(niz_dtype d)
{
    return d == NIZ_F64 || d == NIZ_I64 ? 8 : 4;
}

/* Bytes of a piece of scratch: pieces lie one after another, each on its own cache lines. */
static inline size_t niz_tile_room(int64_t n, size_t bytes)
{
    return ((size_t)n * bytes + 63) & ~(size_t)63;
}

static inline void *niz_tile_take(char **scratch, int64_t n, size_t bytes)
{
    void *p = *scratch;
    *scratch += niz_tile_room(n, bytes);
    return p;
}

static inline int64_t niz_tile_count(const niz_loop_space *s)
{
    int64_t n = 1;
    for (int d = 0; d < s->rank; d++) n *= s->dim[d];
    return n;
}

/* out[i] = where element begin + i of the space lies in a buffer, for 0 <= i < count. */
static inline void niz_tile_offsets(const niz_loop_space *s, int buffer, int64_t begin,
                                    int64_t count, int64_t *out)
{
    const int64_t *stride = s->stride[buffer];
    int64_t index[NIZ_MAX_RANK], base = 0;
    for (int d = s->rank - 1; d >= 0; d--) {
        index[d] = begin % s->dim[d];
        begin /= s->dim[d];
        if (d < s->rank - 1) base += index[d] * stride[d];
    }
    if (s->rank == 0) {
        if (count > 0) out[0] = 0;
        return;
    }
    int last = s->rank - 1;
    while (count > 0) {
        int64_t run = niz_tile_min(count, s->dim[last] - index[last]);
        for (int64_t i = 0; i < run; i++) out[i] = base + (index[last] + i) * stride[last];
        out += run;
        count -= run;
        index[last] = 0;
        for (int d = last - 1; d >= 0; d--) {
            base += stride[d];
            if (++index[d] < s->dim[d]) break;
            base -= s->dim[d] * stride[d];
            index[d] = 0;
        }
    }
}

/* Whether n offsets are evenly spaced, and how far (n < 2: yes, 1). */
static inline bool niz_tile_even(const int64_t *off, int64_t n, int64_t *step)
{
    *step = n > 1 ? off[1] - off[0] : 1;
    for (int64_t i = 2; i < n; i++)
        if (off[i] - off[i - 1] != *step) return false;
    return true;
}

static inline bool niz_tile_unit(const int64_t *off, int64_t n)
{
    int64_t step;
    return niz_tile_even(off, n, &step) && step == 1;
}

/* The rows' operand in one block of k; a is at the rectangle's base. */
typedef struct niz_tile_a {
    const void *a;
    const int64_t *row_off, *k_off;
    int64_t rows;
    void *packed; /* room for [NIZ_TILE_K, NIZ_TILE_MAX_R] */
} niz_tile_a;

/* The columns' operand in one block of k: panel p, step k at b + p * panel + k * k_stride. */
typedef struct niz_tile_b {
    const void *b;
    int64_t k_stride, panel;
    int64_t cols;
} niz_tile_b;

/* Where the rectangle goes: y + row * row_stride + col_off[col]; without col_off, + col. */
typedef struct niz_tile_y {
    void *y;
    int64_t row_stride;
    const int64_t *col_off;
    bool first; /* of the blocks: stored, not added */
    /* With finish, y is a tile of NIZ_TILE_COLS columns, wide enough for whole panels.  Each band of
     * rows is handed on in the last block; where the first is the last, all lie in one place. */
    niz_finish *finish;
    bool last;
    int64_t row, col; /* of the rectangle, as finish counts them */
} niz_tile_y;

/* Rows that a tile of a rectangle needs. */
static inline int64_t niz_tile_depth(int64_t rows, int64_t n_k)
{
    return n_k <= NIZ_TILE_K ? NIZ_TILE_MAX_R : rows;
}

#if NIZ_VECTOR_BYTES == 64
#define NIZ_TILE_R 8
#define NIZ_TILE_ROWS_R(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7)
#elif NIZ_VECTOR_BYTES == 32
#define NIZ_TILE_R 6
#define NIZ_TILE_ROWS_R(F) F(0) F(1) F(2) F(3) F(4) F(5)
#else
#define NIZ_TILE_R 3
#define NIZ_TILE_ROWS_R(F) F(0) F(1) F(2)
#endif
#define NIZ_TILE_ROWS_4(F) F(0) F(1) F(2) F(3)
#define NIZ_TILE_ROWS_2(F) F(0) F(1)
#define NIZ_TILE_ROWS_1(F) F(0)

/* y = 0: the sum of nothing, +0 where there is a sign. */
#define NIZ_TILE_ZERO(T, NAME)                                                                     \
    static inline void NAME(niz_tile_zero)(const niz_tile_y *to, int64_t rows, int64_t cols)       \
    {                                                                                              \
        for (int64_t i = 0; i < rows; i++)                                                         \
            for (int64_t j = 0; j < cols; j++)                                                     \
                ((T *)to->y)[i * to->row_stride + (to->col_off ? to->col_off[j] : j)] = 0;         \
    }
#define NIZ_TILE_F32(f) f##_f32
#define NIZ_TILE_F64(f) f##_f64
#define NIZ_TILE_I32(f) f##_i32
#define NIZ_TILE_I64(f) f##_i64
NIZ_TILE_ZERO(float, NIZ_TILE_F32)
NIZ_TILE_ZERO(double, NIZ_TILE_F64)
NIZ_TILE_ZERO(int32_t, NIZ_TILE_I32)
NIZ_TILE_ZERO(int64_t, NIZ_TILE_I64)

#define T float
#define V niz_vf
#define NAME(f) NIZ_TILE_F32(f)
#define QUAD 4
#include "exec/tile_body.h"
#undef T
#undef V
#undef NAME
#undef QUAD

#define T double
#define V niz_vd
#define NAME(f) NIZ_TILE_F64(f)
#define QUAD 2
#include "exec/tile_body.h"
#undef T
#undef V
#undef NAME
#undef QUAD

#endif
