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

#define NIZ_TILE_K 384 /* the contract's block: a change changes results */
/* NIZ_TILE_COLS columns are packed at once: 384 KiB of f32, in the second-level cache */
#define NIZ_TILE_ROWS 960 /* rows that one packing of columns serves */
#define NIZ_TILE_MAX_R 12 /* rows of the largest micro-kernel */
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
    if (s->rank <= 1) {
        for (int64_t i = 0; i < count; i++) out[i] = s->rank ? (begin + i) * stride[0] : 0;
        return;
    }
    for (int d = s->rank - 1; d >= 0; d--) {
        index[d] = begin % s->dim[d];
        begin /= s->dim[d];
        if (d < s->rank - 1) base += index[d] * stride[d];
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

/* The distance of neighbours in a space, or NIZ_TILE_ANY if it is not always the same. */
#define NIZ_TILE_ANY INT64_MIN
static inline int64_t niz_tile_step(const niz_loop_space *s, int buffer)
{
    return s->rank == 1 ? s->stride[buffer][0] : s->rank == 0 ? 1 : NIZ_TILE_ANY;
}

/* How many offsets from the first on go up by 1. */
static inline int64_t niz_tile_run(const int64_t *off, int64_t n)
{
    int64_t i = n > 0;
    while (i < n && off[i] == off[i - 1] + 1) i++;
    return i;
}

static inline bool niz_tile_unit(const int64_t *off, int64_t n)
{
    int64_t step;
    return niz_tile_even(off, n, &step) && step == 1;
}

/* Rows that are made, some bands at a time: along k, row after row, or across, k after k. */
#define NIZ_MADE_ROWS 48    /* at once; and across, elements from k to k */
#define NIZ_MADE_STRIDE 400 /* along: elements from row to row; no power of two */
typedef struct niz_tile_made {
    niz_make *make;
    bool across;
    int64_t row, k; /* of the block's first element, as make counts them */
    void *stage;    /* room for [NIZ_MADE_ROWS, NIZ_MADE_STRIDE] */
} niz_tile_made;

/* The rows' operand in one block of k; a is at the rectangle's base.  With `plain` it is at the
 * block's first element, rows and k are evenly spaced, and no table is looked at. */
typedef struct niz_tile_a {
    const void *a;
    const int64_t *row_off, *k_off;
    int64_t rows, row_step, k_step; /* k_step NIZ_TILE_ANY: see k_off */
    bool plain;
    void *packed;              /* room for [NIZ_TILE_K, NIZ_TILE_MAX_R] */
    const niz_tile_made *made; /* then all else but `rows` is of no use; or NULL */
} niz_tile_a;

/* The columns' operand in one block of k: panel p, step k at b + p * panel + k * k_stride. */
typedef struct niz_tile_b {
    const void *b;
    int64_t k_stride, panel;
    int64_t cols;
    const void *rest; /* a last panel that fills no vectors, packed, if b is not */
} niz_tile_b;

/* Where the rectangle goes: y + row * row_stride + col_off[col]; without col_off, + col. */
typedef struct niz_tile_y {
    void *y;
    int64_t row_stride;
    const int64_t *col_off;
    bool first; /* of the blocks: stored, not added */
    /* With finish, y is a tile of NIZ_TILE_COLS columns, wide enough for whole panels.  Each band
     * of rows is handed on in the last block; where the first is the last, all lie in one place. */
    niz_finish *finish;
    bool last;
    int64_t row, col; /* of the rectangle, as finish counts them */
} niz_tile_y;

/* Rows of the largest micro-kernel; up to how many there is one of every number, and one of four
 * vectors. */
#if NIZ_VECTOR_BYTES == 64
#define NIZ_TILE_R 12
#define NIZ_TILE_EVERY_R 8
#define NIZ_TILE_WIDE_R 3
#elif NIZ_VECTOR_BYTES == 32
#define NIZ_TILE_R 6
#define NIZ_TILE_EVERY_R 6
#define NIZ_TILE_WIDE_R 2
#else
#define NIZ_TILE_R 3
#define NIZ_TILE_EVERY_R 3
#endif
#define NIZ_TILE_ROWS_1(F) F(0)
#define NIZ_TILE_ROWS_2(F) F(0) F(1)
#define NIZ_TILE_ROWS_3(F) F(0) F(1) F(2)
#define NIZ_TILE_ROWS_4(F) NIZ_TILE_ROWS_3(F) F(3)
#define NIZ_TILE_ROWS_5(F) NIZ_TILE_ROWS_4(F) F(4)
#define NIZ_TILE_ROWS_6(F) NIZ_TILE_ROWS_5(F) F(5)
#define NIZ_TILE_ROWS_7(F) NIZ_TILE_ROWS_6(F) F(6)
#define NIZ_TILE_ROWS_8(F) NIZ_TILE_ROWS_7(F) F(7)
#define NIZ_TILE_ROWS_12(F) NIZ_TILE_ROWS_8(F) F(8) F(9) F(10) F(11)

/* Rows of the next band.  Fewer than four rows take as long as four, which the latency of a
 * multiplication lasts: so a band and a small rest are halved. */
static inline int64_t niz_tile_band_rows(int64_t left)
{
    if (left <= NIZ_TILE_EVERY_R || left == NIZ_TILE_R) return left;
    return left <= 2 * NIZ_TILE_EVERY_R ? (left + 1) / 2 : NIZ_TILE_R;
}

/* How many k of a panel, `bytes` from one to the next, a first-level cache of 8 ways keeps: its
 * sets come again every 4 KB. */
static inline int64_t niz_tile_kept(int64_t bytes)
{
    int64_t step = niz_tile_min(bytes & -bytes, 4096);
    return 8 * 4096 / (step > 0 ? step : 1);
}

/* Whether columns that lie side by side are read where they are, `bytes` from one k to the next,
 * by so many rows.  Near each other: prefetching keeps up, and few pages are touched; but many
 * bands of rows should find the panel in the first-level cache (512 x 512 x 512 packed: 0.90 of the
 * time, 256 x 256 x 256: the same).  Further apart for a few bands, for which packing does not pay,
 * unless all k fall into one set.  (Measured, k = 64 to 384, 2.5 to 8 KB apart: 48 rows in 0.83 to
 * 0.97 of packing's time, 144 in 0.94 to 1.04; with 384 multiples of 4 KB in 1.1 to 1.8.) */
#define NIZ_TILE_NEAR 2048
#define NIZ_TILE_MANY_BANDS 24
#define NIZ_TILE_FEW_BANDS 12
#define NIZ_TILE_FEW_K 128
static inline bool niz_tile_reads_in_place(int64_t rows, int64_t n_k, int64_t bytes)
{
    if (bytes <= NIZ_TILE_NEAR)
        return rows <= NIZ_TILE_MANY_BANDS * NIZ_TILE_R ||
               niz_tile_min(n_k, NIZ_TILE_K) <= niz_tile_kept(bytes);
    bool spread = n_k <= NIZ_TILE_FEW_K || bytes % 4096;
    return rows <= 2 * NIZ_TILE_R || (rows <= NIZ_TILE_FEW_BANDS * NIZ_TILE_R && spread);
}

/* Rows of a rectangle that goes through a tile, and rows that the tile needs for them: with several
 * blocks of k it holds sums under way, which should stay in the second-level cache. */
#define NIZ_TILE_HELD 240
static inline int64_t niz_tile_depth(int64_t n_k)
{
    return n_k <= NIZ_TILE_K ? NIZ_TILE_MAX_R : NIZ_TILE_HELD;
}

static inline int64_t niz_tile_rows(bool tiled, int64_t n_k)
{
    return tiled && n_k > NIZ_TILE_K ? NIZ_TILE_HELD : NIZ_TILE_ROWS;
}

/* How squares of QUAD x QUAD are turned in 16 bytes of a vector: QUAD is 4 (f32) or 2 (f64). */
#if NIZ_VECTOR_BYTES == 64
#define NIZ_TURN_LO_4 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define NIZ_TURN_HI_4 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define NIZ_TURN_LOW_4 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define NIZ_TURN_HIGH_4 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define NIZ_TURN_LO_2 0, 8, 2, 10, 4, 12, 6, 14
#define NIZ_TURN_HI_2 1, 9, 3, 11, 5, 13, 7, 15
#elif NIZ_VECTOR_BYTES == 32
#define NIZ_TURN_LO_4 0, 8, 1, 9, 4, 12, 5, 13
#define NIZ_TURN_HI_4 2, 10, 3, 11, 6, 14, 7, 15
#define NIZ_TURN_LOW_4 0, 1, 8, 9, 4, 5, 12, 13
#define NIZ_TURN_HIGH_4 2, 3, 10, 11, 6, 7, 14, 15
#define NIZ_TURN_LO_2 0, 4, 2, 6
#define NIZ_TURN_HI_2 1, 5, 3, 7
#endif
/* All of two vectors of 16 bytes, and of two of 32. */
#define NIZ_TURN_ALL_2 0, 1, 2, 3
#define NIZ_TURN_ALL_4 NIZ_TURN_ALL_2, 4, 5, 6, 7
#define NIZ_TURN_WIDE_2 NIZ_TURN_ALL_4
#define NIZ_TURN_WIDE_4 NIZ_TURN_ALL_4, 8, 9, 10, 11, 12, 13, 14, 15

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
