/* tile_body.h - packing and micro-kernels of tile.h for one element type.
 *
 * Included once a type with T (the type), V (a vector of it), NAME(f) and QUAD
 * (elements in 16 bytes) set; no guard.  The sums are named variables: an
 * indexed array of vectors is left in memory by one compiler or the other.
 *
 * SPDX-License-Identifier: MIT */

#define LANES ((int)(NIZ_VECTOR_BYTES / sizeof(T)))
#define NR (2 * LANES)

/* QUAD steps of k of QUAD columns are turned at once, in registers of 16 bytes. */
typedef T NAME(niz_tile_quad) __attribute__((vector_size(16), aligned(sizeof(T)), may_alias));

/* ---- micro-kernels: [R rows, VECS vectors] += a [k, R] * b [k, VECS] -------------------------
 *
 * The empty asm hides that the rows' pointers are evenly spaced: clang would keep one of them and
 * step it from row to row, a chain of additions longer than the multiplications take. */

#define DECLARE1(i)                                                                                \
    const T *a##i = a + (i) * a_row;                                                               \
    __asm__("" : "+r"(a##i));                                                                      \
    V s##i##0 = {0};
#define DECLARE2(i) DECLARE1(i) V s##i##1 = {0};
#define STEP1(i) s##i##0 = NAME(niz_fma)(NAME(niz_splat)(a##i[at]), b0, s##i##0);
#define STEP2(i)                                                                                   \
    {                                                                                              \
        V x = NAME(niz_splat)(a##i[at]);                                                           \
        s##i##0 = NAME(niz_fma)(x, b0, s##i##0);                                                   \
        s##i##1 = NAME(niz_fma)(x, b1, s##i##1);                                                   \
    }
#define STORE1(i) NAME(niz_store)(y + (i) * y_row, s##i##0);
#define STORE2(i) STORE1(i) NAME(niz_store)(y + (i) * y_row + LANES, s##i##1);
#define ADD1(i)                                                                                    \
    NAME(niz_store)(y + (i) * y_row, NAME(niz_load)(y + (i) * y_row) + s##i##0);
#define ADD2(i)                                                                                    \
    ADD1(i)                                                                                        \
    NAME(niz_store)                                                                                \
    (y + (i) * y_row + LANES, NAME(niz_load)(y + (i) * y_row + LANES) + s##i##1);

#define KERNEL(rows, ROWS, vecs, SECOND)                                                           \
    static void NAME(niz_tile_##rows##x##vecs)(int64_t n, const T *a, int64_t a_row, int64_t a_k,  \
                                               const T *b, int64_t b_k, T *y, int64_t y_row,       \
                                               bool first)                                         \
    {                                                                                              \
        ROWS(DECLARE##vecs)                                                                        \
        for (int64_t k = 0, at = 0; k < n; k++, at += a_k) {                                       \
            V b0 = NAME(niz_load)(b);                                                              \
            SECOND                                                                                 \
            ROWS(STEP##vecs)                                                                       \
            b += b_k;                                                                              \
        }                                                                                          \
        if (first) {                                                                               \
            ROWS(STORE##vecs)                                                                      \
        } else {                                                                                   \
            ROWS(ADD##vecs)                                                                        \
        }                                                                                          \
    }
#define SECOND_VECTOR V b1 = NAME(niz_load)(b + LANES);

KERNEL(r, NIZ_TILE_ROWS_R, 1, )
KERNEL(r, NIZ_TILE_ROWS_R, 2, SECOND_VECTOR)
#if NIZ_TILE_R > 4
KERNEL(4, NIZ_TILE_ROWS_4, 1, )
KERNEL(4, NIZ_TILE_ROWS_4, 2, SECOND_VECTOR)
#endif
KERNEL(2, NIZ_TILE_ROWS_2, 1, )
KERNEL(2, NIZ_TILE_ROWS_2, 2, SECOND_VECTOR)
KERNEL(1, NIZ_TILE_ROWS_1, 1, )
KERNEL(1, NIZ_TILE_ROWS_1, 2, SECOND_VECTOR)

typedef void NAME(niz_tile_kernel)(int64_t n, const T *a, int64_t a_row, int64_t a_k, const T *b,
                                   int64_t b_k, T *y, int64_t y_row, bool first);

/* The largest micro-kernel of at most that many rows; *rows becomes its own. */
static inline NAME(niz_tile_kernel) * NAME(niz_tile_choose)(int64_t *rows, bool two)
{
    if (*rows >= NIZ_TILE_R) {
        *rows = NIZ_TILE_R;
        return two ? NAME(niz_tile_rx2) : NAME(niz_tile_rx1);
    }
#if NIZ_TILE_R > 4
    if (*rows >= 4) {
        *rows = 4;
        return two ? NAME(niz_tile_4x2) : NAME(niz_tile_4x1);
    }
#endif
    if (*rows >= 2) {
        *rows = 2;
        return two ? NAME(niz_tile_2x2) : NAME(niz_tile_2x1);
    }
    return two ? NAME(niz_tile_1x2) : NAME(niz_tile_1x1);
}

/* ---- packing --------------------------------------------------------------------------------- */

/* [QUAD columns, QUAD k] -> [k, column]: column j is at x[j], step k goes to out + k * NR. */
NIZ_TILE_INLINE void NAME(niz_tile_turn)(const T *const *x, int64_t k, T *out)
{
    typedef NAME(niz_tile_quad) quad;
    quad a = *(const quad *)(x[0] + k), b = *(const quad *)(x[1] + k);
#define TURN_AT(i) (*(quad *)(out + (i) * NR))
#if QUAD == 4
    quad c = *(const quad *)(x[2] + k), d = *(const quad *)(x[3] + k);
    quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    quad cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    TURN_AT(0) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    TURN_AT(1) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    ab = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    TURN_AT(2) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    TURN_AT(3) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
#else
    TURN_AT(0) = __builtin_shufflevector(a, b, 0, 2);
    TURN_AT(1) = __builtin_shufflevector(a, b, 1, 3);
#endif
#undef TURN_AT
}

/* Columns whose k lies contiguously: w columns at b + col_off[j], from k_off 0 on. */
static void NAME(niz_tile_pack_turned)(const T *b, const int64_t *col_off, int64_t w, int64_t n,
                                       T *out)
{
    int64_t j = 0;
    for (; j + QUAD <= w; j += QUAD) {
        const T *x[QUAD];
        int64_t k = 0;
        for (int i = 0; i < QUAD; i++) x[i] = b + col_off[j + i];
        for (; k + QUAD <= n; k += QUAD) NAME(niz_tile_turn)(x, k, out + k * NR + j);
        for (; k < n; k++)
            for (int i = 0; i < QUAD; i++) out[k * NR + j + i] = x[i][k];
    }
    for (; j < w; j++) {
        const T *x = b + col_off[j];
        for (int64_t k = 0; k < n; k++) out[k * NR + j] = x[k];
    }
}

/* Columns side by side in memory. */
static void NAME(niz_tile_pack_straight)(const T *b, const int64_t *k_off, int64_t w, int64_t n,
                                         T *out)
{
    if (w == NR) {
        for (int64_t k = 0; k < n; k++, out += NR) {
            const T *x = b + k_off[k];
            V lo = NAME(niz_load)(x), hi = NAME(niz_load)(x + LANES);
            NAME(niz_store)(out, lo);
            NAME(niz_store)(out + LANES, hi);
        }
        return;
    }
    for (int64_t k = 0; k < n; k++, out += NR) {
        const T *x = b + k_off[k];
        for (int64_t j = 0; j < w; j++) out[j] = x[j];
    }
}

/* One panel [n, NR] of w columns; what lies beyond them is 0, as stale bits might be slow
 * subnormals. */
static inline void NAME(niz_tile_pack_panel)(const T *b, const int64_t *col_off, int64_t w,
                                      const int64_t *k_off, bool k_unit, int64_t n, T *out)
{
    if (w < NR) memset(out, 0, (size_t)n * NR * sizeof(T));
    if (niz_tile_unit(col_off, w) && (w >= QUAD || !k_unit)) {
        NAME(niz_tile_pack_straight)(b + col_off[0], k_off, w, n, out);
    } else if (k_unit) {
        NAME(niz_tile_pack_turned)(b + k_off[0], col_off, w, n, out);
    } else {
        for (int64_t k = 0; k < n; k++, out += NR)
            for (int64_t j = 0; j < w; j++) out[j] = b[col_off[j] + k_off[k]];
    }
}

/* Rows that cannot be read where they lie -> [n, r]. */
static void NAME(niz_tile_pack_rows)(const T *a, const int64_t *row_off, int64_t r,
                                     const int64_t *k_off, int64_t n, T *out)
{
    if (r == NIZ_TILE_R && niz_tile_unit(row_off, r)) {
        for (int64_t k = 0; k < n; k++)
            memcpy(out + k * NIZ_TILE_R, a + row_off[0] + k_off[k], NIZ_TILE_R * sizeof(T));
        return;
    }
    for (int64_t i = 0; i < r; i++) {
        const T *x = a + row_off[i];
        for (int64_t k = 0; k < n; k++) out[k * r + i] = x[k_off[k]];
    }
}

/* ---- a rectangle in one block of k ----------------------------------------------------------- */

/* A micro-kernel's result that is no row of vectors in y: by way of a tile of its own. */
static void NAME(niz_tile_scatter)(const T *t, int64_t rows, int64_t row, int64_t col, int64_t w,
                                   const niz_tile_y *to)
{
    for (int64_t i = 0; i < rows; i++) {
        T *y = (T *)to->y + (row + i) * to->row_stride;
        for (int64_t j = 0; j < w; j++) {
            T *o = y + (to->col_off ? to->col_off[col + j] : col + j);
            *o = to->first ? t[i * NR + j] : *o + t[i * NR + j];
        }
    }
}

/* Where a panel's w columns lie side by side and fill vectors, the first of them; else -1. */
static inline int64_t NAME(niz_tile_direct)(const niz_tile_y *to, int64_t col, int64_t w)
{
    if (to->finish) return col;
    if (w != NR && w != LANES) return -1;
    if (!to->col_off) return col;
    return niz_tile_unit(to->col_off + col, w) ? to->col_off[col] : -1;
}

static void NAME(niz_tile_band)(int64_t row, int64_t *rows, int64_t n, const T *a, int64_t a_row,
                                int64_t a_k, const niz_tile_b *b, const niz_tile_y *to)
{
    T tile[NIZ_TILE_MAX_R * NR] __attribute__((aligned(64)));
    int64_t y_row = to->finish && to->first && to->last ? 0 : row;
    for (int64_t col = 0; col < b->cols; col += NR) {
        int64_t w = niz_tile_min(NR, b->cols - col), at = NAME(niz_tile_direct)(to, col, w);
        const T *panel = (const T *)b->b + col / NR * b->panel;
        NAME(niz_tile_kernel) *kernel = NAME(niz_tile_choose)(rows, w > LANES);
        if (at >= 0) {
            kernel(n, a, a_row, a_k, panel, b->k_stride, (T *)to->y + y_row * to->row_stride + at,
                   to->row_stride, to->first);
        } else {
            kernel(n, a, a_row, a_k, panel, b->k_stride, tile, NR, true);
            NAME(niz_tile_scatter)(tile, *rows, row, col, w, to);
        }
    }
    if (to->finish && to->last)
        to->finish->run(to->finish, (T *)to->y + y_row * to->row_stride, to->row + row, *rows,
                        to->col, b->cols);
}

/* y [rows, cols] (+)= a [rows, n] * b [n, cols] for the n indices of k that k_off lists. */
static void NAME(niz_tile_block)(const niz_tile_a *a, const niz_tile_b *b, int64_t n,
                                 const niz_tile_y *to)
{
    int64_t k_step, row_step, rows;
    bool k_even = niz_tile_even(a->k_off, n, &k_step) && (k_step == 1 || b->cols <= NR);
    for (int64_t row = 0; row < a->rows; row += rows) {
        const int64_t *off = a->row_off + row;
        rows = a->rows - row;
        NAME(niz_tile_choose)(&rows, true);
        if (k_even && niz_tile_even(off, rows, &row_step)) {
            NAME(niz_tile_band)
            (row, &rows, n, (const T *)a->a + off[0] + a->k_off[0], row_step, k_step, b, to);
        } else {
            NAME(niz_tile_pack_rows)(a->a, off, rows, a->k_off, n, a->packed);
            NAME(niz_tile_band)(row, &rows, n, a->packed, 1, rows, b, to);
        }
    }
}

#undef LANES
#undef NR
#undef DECLARE1
#undef DECLARE2
#undef STEP1
#undef STEP2
#undef STORE1
#undef STORE2
#undef ADD1
#undef ADD2
#undef KERNEL
#undef SECOND_VECTOR
