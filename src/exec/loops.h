/* loops.h - the interpreter's inner loops.
 *
 * The files loops_*.c are compiled three times, for x86-64 (SSE2), x86-64-v3 (AVX2, FMA) and
 * x86-64-v4 (AVX-512), and each build gives one table of functions.  isa.c chooses a table once by
 * cpuid; NIZ_ISA lowers the choice.  All three give the same bits (DESIGN §6).
 *
 * A loop knows no node, no context, no thread: it takes buffers with strides (in elements) and a
 * range [begin, end) of its outer index, which others cut into pieces.  Scratch memory is the
 * caller's, one piece a thread, aligned to 64 bytes.  No loop allocates.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_LOOPS_H
#define NIZ_LOOPS_H

#include <niz/core.h>
#include <niz/op.h>

#include "ops/map.h"

/* An index space walked by several buffers: dims outermost first, a stride a buffer and dim.
 * Made by the planner: sizes of 1 dropped, neighbours merged where every buffer allows it. */
#define NIZ_LOOP_MAX_BUFFERS 5
typedef struct niz_loop_space {
    int rank; /* 0: one element */
    int64_t dim[NIZ_MAX_RANK];
    int n; /* buffers */
    int64_t stride[NIZ_LOOP_MAX_BUFFERS][NIZ_MAX_RANK];
} niz_loop_space;

/* map: buffers are the operands, then the result (contiguous).  The range is of the flattened
 * index of the space, in elements.  Scratch: niz_map_scratch(map) bytes. */
typedef struct niz_map_loop {
    const niz_map *map;
    niz_loop_space space;
} niz_map_loop;

/* copy: buffers are source and destination, of one dtype of `bytes` a element; both may be
 * strided, and the dims in any order (niz_space_for_copy).  The range is of the flattened index. */
typedef struct niz_copy_loop {
    int bytes;
    niz_loop_space space;
} niz_copy_loop;

/* reduce: for each index of the space (buffers: x, y) folds n elements of x, stride apart.
 * The range is of the flattened index of the space.  dtype is x's; ARGMAX and ARGMIN write i64,
 * SUM of bool is not asked for.  Order of SUM and PROD: DESIGN §6 (blocks of 512, 16 lanes); an
 * empty sum is +0, an empty product 1; an empty max is -inf (or the least integer). */
typedef struct niz_reduce_loop {
    niz_dtype dtype;
    niz_combine combine;
    int64_t n, stride;
    niz_loop_space space;
} niz_reduce_loop;

/* Finishes results of a contraction or convolution while they lie in cache: `rows` rows from `row`
 * on, columns [col, col + cols) of each, at tile + i * NIZ_TILE_STRIDE.  A contraction's rows are
 * [batch, m], its columns n; a convolution's rows [b, g, k], its columns the positions. */
#define NIZ_TILE_COLS 256
#define NIZ_TILE_STRIDE 272 /* no power of two: else rows of a tile evict each other */
typedef struct niz_finish {
    void (*run)(struct niz_finish *f, const void *tile, int64_t row, int64_t rows, int64_t col,
                int64_t cols);
} niz_finish;

/* Makes an operand of a contraction or convolution while it is packed: rows [row, row + rows) of
 * it, of each the columns [col, col + cols), to out, `stride` elements from row to row.  An operand
 * of a contraction has rows [batch, free] and columns [k], or made across, rows [batch, k] and
 * columns [free]; x of a convolution has its last axis as columns. */
typedef struct niz_make {
    void (*run)(struct niz_make *m, void *out, int64_t stride, int64_t row, int64_t rows,
                int64_t col, int64_t cols);
} niz_make;

typedef enum niz_made { NIZ_MADE_NOT, NIZ_MADE_ALONG, NIZ_MADE_ACROSS } niz_made;

/* What is fused with a loop, NULL where nothing is.  The memory of a made operand is never read. */
typedef struct niz_fused {
    niz_finish *finish;
    niz_make *make[2];
} niz_fused;

/* How a contraction's inner loop goes about it: known once the loop is, and kept with it.  Steps
 * are elements from row to row ..., k to k, if that is always the same. */
typedef struct niz_contract_plan {
    int64_t units;  /* of the range */
    size_t scratch; /* bytes a thread needs */
    bool swap;      /* a single column becomes a single row: the product commutes */
    bool near;      /* columns are read where they lie */
    bool whole;     /* nothing to prepare in a run: one block of k, operands and results in place */
    bool by_rows;   /* cut by rows first: units of columns innermost */
    int64_t n_rows, n_cols, n_k;
    int64_t row_step, col_step, a_step, b_step;
    int64_t unit_rows, unit_cols, row_units, col_units; /* units of one batch entry */
    /* where they are in scratch */
    size_t row_off, col_off, a_off, b_off, panels, packed_rows, tile, made_rows, made_cols;
} niz_contract_plan;

/* contract: y[batch, m, n] = sum over k of a[batch, m, k] * b[batch, n, k], every group of axes
 * with its own dims and strides (m_axes etc. walk (a, y), (b, y), (a, b)).  Order: DESIGN §6: k
 * flattened, blocks of 384, fma in index order from fma(a, b, +0), block results added in order.
 * Integers wrap.  y is contiguous [batch, m, n]; with `finish` it is not touched, and all results
 * go there instead (floating only, no sum of nothing). The range is of plan.units; contract_prepare
 * fills the plan, for its own table, before the first run. */
typedef struct niz_contract_loop {
    niz_dtype dtype;               /* f32, f64, i32, i64 */
    niz_loop_space batch, m, n, k; /* strides: batch (a, b, y); m (a); n (b); k (a, b) */
    bool tiled;                    /* will be run with `finish` */
    niz_made made[2];              /* a, b: will be run with `make` (floating only) */
    niz_contract_plan plan;
} niz_contract_loop;

/* conv: y[b, g, k, o...] = sum over (c, i...) of x[b, g, c, p] * w[g, k, c, i...] where in every
 * spatial dimension q = o * step + i * dilation - lo, the term is in the sum only if q is a
 * multiple of hole, and then p = q / hole; outside 0 <= p < size the factor x is the number 0
 * (padding is data).  The terms in the sum are counted through, in blocks of 384, as in a
 * contraction. x and w may be strided; y is contiguous.  With `finish`: as in a contraction; no
 * hole. */
#define NIZ_CONV_MAX 3
typedef struct niz_conv_loop {
    niz_dtype dtype;
    int spatial;                    /* 1..3 */
    int64_t batch, groups, in, out; /* B G C K */
    int64_t x_size[NIZ_CONV_MAX], w_size[NIZ_CONV_MAX], y_size[NIZ_CONV_MAX];
    int64_t step[NIZ_CONV_MAX], dilation[NIZ_CONV_MAX], lo[NIZ_CONV_MAX], hole[NIZ_CONV_MAX];
    int64_t x_stride[3 + NIZ_CONV_MAX], w_stride[3 + NIZ_CONV_MAX]; /* x: b g c ..., w: g k c ... */
    bool tiled;                                                     /* will be run with `finish` */
    bool made;   /* x: will be run with `make` (floating only, no hole) */
    int threads; /* that units will be shared among: 1 or more */
} niz_conv_loop;

typedef struct niz_loops {
    const char *isa; /* "sse2", "avx2", "avx512" */
    void (*map)(const niz_map_loop *, void *const *buffer, int64_t begin, int64_t end,
                void *scratch);
    void (*copy)(const niz_copy_loop *, const void *x, void *y, int64_t begin, int64_t end);
    void (*reduce)(const niz_reduce_loop *, const void *x, void *y, int64_t begin, int64_t end);
    void (*contract)(const niz_contract_loop *, const void *a, const void *b, void *y,
                     int64_t begin, int64_t end, void *scratch, const niz_fused *fused);
    void (*conv)(const niz_conv_loop *, const void *x, const void *w, void *y, int64_t begin,
                 int64_t end, void *scratch, const niz_fused *fused);
    void (*contract_prepare)(niz_contract_loop *);
    int64_t (*conv_units)(const niz_conv_loop *);
    size_t (*conv_scratch)(const niz_conv_loop *);
    size_t (*map_scratch)(const niz_map *);
} niz_loops;

extern const niz_loops niz_loops_sse2, niz_loops_avx2, niz_loops_avx512;

/** The best table this processor runs, or a lower one named by NIZ_ISA (sse2, avx2, avx512). */
const niz_loops *niz_isa_loops(void);
/** The i-th table this processor runs, best first; NULL after the last. */
const niz_loops *niz_isa_get(int i);

#endif
