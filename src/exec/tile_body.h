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
 * Twelve rows cannot have a pointer each: a machine has not so many registers.  One pointer serves
 * four rows, at 0, 1, 2 and 3 times the distance between them.  The empty asm hides that all these
 * are evenly spaced: a compiler would keep one and step it from row to row, a chain of additions
 * longer than the multiplications take. */

#define A0 p0[0]
#define A1 p0[r1]
#define A2 p0[r2]
#define A3 p0[r3]
#define A4 p1[0]
#define A5 p1[r1]
#define A6 p1[r2]
#define A7 p1[r3]
#define A8 p2[0]
#define A9 p2[r1]
#define A10 p2[r2]
#define A11 p2[r3]
/* What a row i does with vector v, for all vectors; from 8 on vectors lie side by side. */
#define VECTORS1(F, i) F(i, 0)
#define VECTORS2(F, i) VECTORS1(F, i) F(i, 1)
#define VECTORS4(F, i) VECTORS2(F, i) F(i, 2) F(i, 3)
#define VECTORS8(F, i) VECTORS4(F, i) F(i, 4) F(i, 5) F(i, 6) F(i, 7)
#define VECTORS16(F, i)                                                                            \
    VECTORS8(F, i)                                                                                 \
    F(i, 8) F(i, 9) F(i, 10) F(i, 11) F(i, 12) F(i, 13) F(i, 14) F(i, 15)
#define DECLARE(i, v) V s##i##v = {0};
#define LOAD(i, v) V b##v = NAME(niz_load)(q + v * LANES);
#define FMA(i, v) s##i##v = NAME(niz_fma)(x, b##v, s##i##v);
#define ADD(i, v) s##i##v = NAME(niz_load)(y + (i)*y_row + v * LANES) + s##i##v;
#define STORE(i, v) NAME(niz_store)(y + (i)*y_row + v * LANES, s##i##v);
#define LOAD1 VECTORS1(LOAD, 0)
#define LOAD2 VECTORS2(LOAD, 0)
#define LOAD4 LOAD2 V b2 = NAME(niz_load)(q + panel), b3 = NAME(niz_load)(q + panel + LANES);
#define LOAD8 VECTORS8(LOAD, 0)
#define LOAD16 VECTORS16(LOAD, 0)
#define STEP(i, VECTORS)                                                                           \
    {                                                                                              \
        V x = NAME(niz_splat)(A##i);                                                               \
        VECTORS(FMA, i)                                                                            \
    }
#define DECLARE1(i) VECTORS1(DECLARE, i)
#define DECLARE2(i) VECTORS2(DECLARE, i)
#define DECLARE4(i) VECTORS4(DECLARE, i)
#define DECLARE8(i) VECTORS8(DECLARE, i)
#define DECLARE16(i) VECTORS16(DECLARE, i)
#define STEP1(i) STEP(i, VECTORS1)
#define STEP2(i) STEP(i, VECTORS2)
#define STEP4(i) STEP(i, VECTORS4)
#define STEP8(i) STEP(i, VECTORS8)
#define STEP16(i) STEP(i, VECTORS16)
#define ADD1(i) VECTORS1(ADD, i)
#define ADD2(i) VECTORS2(ADD, i)
#define ADD4(i) VECTORS4(ADD, i)
#define ADD8(i) VECTORS8(ADD, i)
#define ADD16(i) VECTORS16(ADD, i)
#define STORE1(i) VECTORS1(STORE, i)
#define STORE2(i) VECTORS2(STORE, i)
#define STORE4(i) VECTORS4(STORE, i)
#define STORE8(i) VECTORS8(STORE, i)
#define STORE16(i) VECTORS16(STORE, i)
#define PANELS(vecs) ((vecs + 1) / 2)

/* One band of rows, panel after panel; with more than two vectors several panels at a time. */
/* clang-format off */
#define KERNEL(rows, vecs)                                                                         \
    static void NAME(niz_tile_##rows##x##vecs)(int64_t n, const T *a, int64_t a_row, int64_t a_k,  \
                                               const T *b, int64_t b_k, int64_t panels,            \
                                               int64_t panel, T *y, int64_t y_row, bool first)     \
    {                                                                                              \
        int64_t r1 = a_row, r2 = 2 * a_row, r3 = 3 * a_row;                                        \
        for (; panels > 0; panels -= PANELS(vecs)) {                                               \
            const T *p0 = a, *p1 = a + 4 * a_row, *p2 = a + 8 * a_row, *q = b;                     \
            __asm__("" : "+r"(p0), "+r"(p1), "+r"(p2), "+r"(r1), "+r"(r2), "+r"(r3));              \
            NIZ_TILE_ROWS_##rows(DECLARE##vecs)                                                    \
            for (int64_t k = 0; k < n; k++) {                                                      \
                LOAD##vecs                                                                         \
                NIZ_TILE_ROWS_##rows(STEP##vecs)                                                   \
                q += b_k;                                                                          \
                p0 += a_k;                                                                         \
                p1 += a_k;                                                                         \
                p2 += a_k;                                                                         \
            }                                                                                      \
            if (!first) {                                                                          \
                NIZ_TILE_ROWS_##rows(ADD##vecs)                                                    \
            }                                                                                      \
            NIZ_TILE_ROWS_##rows(STORE##vecs)                                                      \
            b += PANELS(vecs) * panel;                                                             \
            y += vecs * LANES;                                                                     \
        }                                                                                          \
    }
/* clang-format on */
#define KERNELS(rows) KERNEL(rows, 1) KERNEL(rows, 2)

typedef void NAME(niz_tile_kernel)(int64_t n, const T *a, int64_t a_row, int64_t a_k, const T *b,
                                   int64_t b_k, int64_t panels, int64_t panel, T *y, int64_t y_row,
                                   bool first);

KERNELS(1)
KERNELS(2)
KERNELS(3)
#if NIZ_TILE_EVERY_R > 3
KERNELS(4)
KERNELS(5)
KERNELS(6)
#endif
#if NIZ_TILE_EVERY_R > 6
KERNELS(7)
KERNELS(8)
KERNELS(12)
#endif

/* By rows - 1, and whether it is of two vectors. */
#define PAIR(rows)                                                                                 \
    {                                                                                              \
        NAME(niz_tile_##rows##x1), NAME(niz_tile_##rows##x2)                                       \
    }
static NAME(niz_tile_kernel) *const NAME(niz_tile_kernels)[NIZ_TILE_R][2] = {
    PAIR(1), PAIR(2), PAIR(3),
#if NIZ_TILE_EVERY_R > 3
    PAIR(4), PAIR(5), PAIR(6),
#endif
#if NIZ_TILE_EVERY_R > 6
    PAIR(7), PAIR(8), [11] = PAIR(12),
#endif
};

/* Few rows by four vectors: two do not hide the latency of a multiplication.  One or two by 16
 * sums, in panels side by side: memory is read in long pieces. */
#ifdef NIZ_TILE_WIDE_R
KERNEL(1, 4)
KERNEL(2, 4)
#if NIZ_TILE_WIDE_R > 2
KERNEL(3, 4)
KERNEL(1, 16)
KERNEL(2, 8)
#endif
static NAME(niz_tile_kernel) *const NAME(niz_tile_wide)[NIZ_TILE_WIDE_R] = {
    NAME(niz_tile_1x4),
    NAME(niz_tile_2x4),
#if NIZ_TILE_WIDE_R > 2
    NAME(niz_tile_3x4),
#endif
};

/* Does what it can of a band's panels; tells how many. */
static int64_t NAME(niz_tile_few_rows)(int64_t rows, int64_t n, const T *a, int64_t a_row,
                                       int64_t a_k, const T *b, int64_t b_k, int64_t panels,
                                       int64_t panel, T *y, int64_t y_row, bool first)
{
    int64_t done = 0, pairs;
#if NIZ_TILE_WIDE_R > 2
    if (rows <= 2 && panel == NR) {
        int64_t each = 8 / rows;
        done = panels / each * each;
        (rows == 1 ? NAME(niz_tile_1x16) : NAME(niz_tile_2x8))(n, a, a_row, a_k, b, b_k, done,
                                                               panel, y, y_row, first);
    }
#endif
    pairs = (panels - done) / 2 * 2;
    NAME(niz_tile_wide)
    [rows - 1](n, a, a_row, a_k, b + done * panel, b_k, pairs, panel, y + done * NR, y_row, first);
    return done + pairs;
}
#endif

/* ---- packing --------------------------------------------------------------------------------- */

/* [QUAD columns, QUAD k] -> [k, column]: column j is at x[j], step k goes to out + k * by. */
NIZ_TILE_INLINE void NAME(niz_tile_turn)(const T *const *x, int64_t k, T *out, int64_t by)
{
    typedef NAME(niz_tile_quad) quad;
    quad a = *(const quad *)(x[0] + k), b = *(const quad *)(x[1] + k);
#define TURN_AT(i) (*(quad *)(out + (i)*by))
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

#if NIZ_VECTOR_BYTES > 16
#if QUAD == 4
#define TURN_ALL NIZ_TURN_ALL_4
#define TURN_WIDE NIZ_TURN_WIDE_4
#else
#define TURN_ALL NIZ_TURN_ALL_2
#define TURN_WIDE NIZ_TURN_WIDE_2
#endif
/* Step k on, QUAD elements of each of LANES / QUAD columns, QUAD columns apart. */
NIZ_TILE_INLINE V NAME(niz_tile_join)(const T *const *x, int64_t k)
{
    typedef NAME(niz_tile_quad) quad;
    typedef T half __attribute__((vector_size(32)));
    half lo =
        __builtin_shufflevector(*(const quad *)(x[0] + k), *(const quad *)(x[QUAD] + k), TURN_ALL);
#if NIZ_VECTOR_BYTES == 32
    return (V)lo;
#else
    half hi = __builtin_shufflevector(*(const quad *)(x[2 * QUAD] + k),
                                      *(const quad *)(x[3 * QUAD] + k), TURN_ALL);
    return (V)__builtin_shufflevector(lo, hi, TURN_WIDE);
#endif
}

/* The same as niz_tile_turn for LANES columns: QUAD x QUAD squares side by side. */
NIZ_TILE_INLINE void NAME(niz_tile_turn_wide)(const T *const *x, int64_t k, T *out)
{
    V a = NAME(niz_tile_join)(x, k), b = NAME(niz_tile_join)(x + 1, k);
#if QUAD == 4
    V c = NAME(niz_tile_join)(x + 2, k), d = NAME(niz_tile_join)(x + 3, k);
    V ab = __builtin_shufflevector(a, b, NIZ_TURN_LO_4),
      cd = __builtin_shufflevector(c, d, NIZ_TURN_LO_4);
    NAME(niz_store)(out, __builtin_shufflevector(ab, cd, NIZ_TURN_LOW_4));
    NAME(niz_store)(out + NR, __builtin_shufflevector(ab, cd, NIZ_TURN_HIGH_4));
    ab = __builtin_shufflevector(a, b, NIZ_TURN_HI_4);
    cd = __builtin_shufflevector(c, d, NIZ_TURN_HI_4);
    NAME(niz_store)(out + 2 * NR, __builtin_shufflevector(ab, cd, NIZ_TURN_LOW_4));
    NAME(niz_store)(out + 3 * NR, __builtin_shufflevector(ab, cd, NIZ_TURN_HIGH_4));
#else
    NAME(niz_store)(out, __builtin_shufflevector(a, b, NIZ_TURN_LO_2));
    NAME(niz_store)(out + NR, __builtin_shufflevector(a, b, NIZ_TURN_HI_2));
#endif
}
#endif

/* Columns whose k lies contiguously: w columns at b + col_off[j], from k_off 0 on. */
static void NAME(niz_tile_pack_turned)(const T *b, const int64_t *col_off, int64_t w, int64_t n,
                                       T *out)
{
    const T *x[NR];
    int64_t j = 0, k = 0;
    for (int64_t i = 0; i < w; i++) x[i] = b + col_off[i];
#if NIZ_VECTOR_BYTES > 16
    for (; j + LANES <= w; j += LANES)
        for (k = 0; k + QUAD <= n; k += QUAD) NAME(niz_tile_turn_wide)(x + j, k, out + k * NR + j);
#endif
    for (; j + QUAD <= w; j += QUAD)
        for (k = 0; k + QUAD <= n; k += QUAD) NAME(niz_tile_turn)(x + j, k, out + k * NR + j, NR);
    for (k = j ? n / QUAD * QUAD : n; k < n; k++) /* the last steps of those above */
        for (int64_t i = 0; i < j; i++) out[k * NR + i] = x[i][k];
    for (; j < w; j++)
        for (k = 0; k < n; k++) out[k * NR + j] = x[j][k];
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

/* Columns side by side that fill no vectors, `apart` from one k to the next. */
NIZ_TILE_INLINE void NAME(niz_tile_pack_rest)(const T *b, int64_t apart, int64_t w, int64_t n,
                                              T *out)
{
    memset(out, 0, (size_t)n * NR * sizeof(T));
    for (int64_t k = 0; k < n; k++, b += apart, out += NR)
        for (int64_t j = 0; j < w; j++) out[j] = b[j];
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

/* Rows side by side in memory: r neighbours a step. */
NIZ_TILE_INLINE void NAME(niz_tile_pack_neighbours)(const T *a, int64_t r, const int64_t *k_off,
                                                    int64_t n, T *out)
{
    for (int64_t k = 0; k < n; k++) memcpy(out + k * r, a + k_off[k], (size_t)r * sizeof(T));
}

/* QUAD rows, n steps of k that lie side by side. */
NIZ_TILE_INLINE void NAME(niz_tile_pack_quad)(const T *const *x, int64_t at, int64_t n, T *out,
                                              int64_t r)
{
    int64_t k = 0;
    for (; k + QUAD <= n; k += QUAD) NAME(niz_tile_turn)(x, at + k, out + k * r, r);
    for (; k < n; k++)
        for (int j = 0; j < QUAD; j++) out[k * r + j] = x[j][at + k];
}

/* Rows that cannot be read where they lie -> [n, r]. */
static void NAME(niz_tile_pack_rows)(const T *a, const int64_t *row_off, int64_t r,
                                     const int64_t *k_off, int64_t n, T *out)
{
    if (niz_tile_unit(row_off, r)) {
        a += row_off[0];
        switch (r) {
        case NIZ_TILE_R: NAME(niz_tile_pack_neighbours)(a, NIZ_TILE_R, k_off, n, out); break;
#if NIZ_TILE_EVERY_R > 6
        case 8: NAME(niz_tile_pack_neighbours)(a, 8, k_off, n, out); break;
        case 7: NAME(niz_tile_pack_neighbours)(a, 7, k_off, n, out); break;
        case 6: NAME(niz_tile_pack_neighbours)(a, 6, k_off, n, out); break;
#endif
#if NIZ_TILE_EVERY_R > 3
        case 5: NAME(niz_tile_pack_neighbours)(a, 5, k_off, n, out); break;
        case 4: NAME(niz_tile_pack_neighbours)(a, 4, k_off, n, out); break;
#endif
        case 2: NAME(niz_tile_pack_neighbours)(a, 2, k_off, n, out); break;
        default: NAME(niz_tile_pack_neighbours)(a, r, k_off, n, out);
        }
    } else {
        int64_t i = 0;
        for (; i + QUAD <= r; i += QUAD) {
            const T *x[QUAD];
            for (int j = 0; j < QUAD; j++) x[j] = a + row_off[i + j];
            for (int64_t k = 0, run; k < n; k += run) {
                run = niz_tile_run(k_off + k, n - k);
                NAME(niz_tile_pack_quad)(x, k_off[k], run, out + k * r + i, r);
            }
        }
        for (; i < r; i++) {
            const T *x = a + row_off[i];
            for (int64_t k = 0; k < n; k++) out[k * r + i] = x[k_off[k]];
        }
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

/* Whole panels whose results are rows of vectors in y: all at once. */
static void NAME(niz_tile_panels)(int64_t rows, int64_t n, const T *a, int64_t a_row, int64_t a_k,
                                  const niz_tile_b *b, int64_t panels, T *y, int64_t y_row,
                                  bool first)
{
    int64_t done = 0;
#ifdef NIZ_TILE_WIDE_R
    if (rows <= NIZ_TILE_WIDE_R)
        done = NAME(niz_tile_few_rows)(rows, n, a, a_row, a_k, b->b, b->k_stride, panels, b->panel,
                                       y, y_row, first);
#endif
    if (panels > done) NAME(niz_tile_kernels)
    [rows - 1][1](n, a, a_row, a_k, (const T *)b->b + done * b->panel, b->k_stride, panels - done,
                  b->panel, y + done * NR, y_row, first);
}

/* A band of rows by columns that fill vectors: stored, row after row of y. */
NIZ_TILE_INLINE void NAME(niz_tile_whole)(int64_t rows, int64_t n, const T *a, int64_t a_row,
                                          int64_t a_k, const niz_tile_b *b, T *y, int64_t y_row)
{
    int64_t panels = b->cols / NR;
    if (panels) NAME(niz_tile_panels)(rows, n, a, a_row, a_k, b, panels, y, y_row, true);
    if (b->cols % NR) NAME(niz_tile_kernels)
    [rows - 1][0](n, a, a_row, a_k, (const T *)b->b + panels * NR, b->k_stride, 1, 0,
                  y + panels * NR, y_row, true);
}

/* The panel of w columns from col on. */
static void NAME(niz_tile_panel)(int64_t row, int64_t rows, int64_t n, const T *a, int64_t a_row,
                                 int64_t a_k, const niz_tile_b *b, int64_t col, int64_t w,
                                 const niz_tile_y *to, T *y)
{
    T tile[NIZ_TILE_MAX_R * NR] __attribute__((aligned(64)));
    int64_t at = NAME(niz_tile_direct)(to, col, w);
    bool rest = b->rest && w != NR && w != LANES;
    const T *panel = rest ? b->rest : (const T *)b->b + col / NR * b->panel;
    NAME(niz_tile_kernel) *kernel = NAME(niz_tile_kernels)[rows - 1][w > LANES];
    int64_t k_stride = rest ? NR : b->k_stride;
    if (at >= 0) {
        kernel(n, a, a_row, a_k, panel, k_stride, 1, 0, y + at, to->row_stride, to->first);
    } else {
        kernel(n, a, a_row, a_k, panel, k_stride, 1, 0, tile, NR, true);
        NAME(niz_tile_scatter)(tile, rows, row, col, w, to);
    }
}

static void NAME(niz_tile_band)(int64_t row, int64_t rows, int64_t n, const T *a, int64_t a_row,
                                int64_t a_k, const niz_tile_b *b, const niz_tile_y *to)
{
    int64_t y_row = to->finish && to->first && to->last ? 0 : row, col = 0;
    T *y = (T *)to->y + y_row * to->row_stride;
    if ((to->finish || !to->col_off) && b->cols >= NR) {
        int64_t panels = b->cols / NR;
        NAME(niz_tile_panels)
        (rows, n, a, a_row, a_k, b, panels, y, to->row_stride, to->first);
        col = panels * NR;
    }
    for (; col < b->cols; col += NR) NAME(niz_tile_panel)
    (row, rows, n, a, a_row, a_k, b, col, niz_tile_min(NR, b->cols - col), to, y);
    if (to->finish && to->last)
        to->finish->run(to->finish, y, to->row + row, rows, to->col, b->cols);
}

/* niz_tile_block with rows that are made. */
static void NAME(niz_tile_made_block)(const niz_tile_a *a, const niz_tile_b *b, int64_t n,
                                      const niz_tile_y *to)
{
    const niz_tile_made *m = a->made;
    int64_t row_step = m->across ? 1 : NIZ_MADE_STRIDE, k_step = m->across ? NIZ_MADE_ROWS : 1;
    T *stage = m->stage;
    for (int64_t row = 0, rows, from = 0, end = 0; row < a->rows; row += rows) {
        rows = niz_tile_band_rows(a->rows - row);
        if (row + rows > end) {
            from = row;
            end = niz_tile_min(row + NIZ_MADE_ROWS, a->rows);
            if (m->across)
                m->make->run(m->make, stage, k_step, m->k, n, m->row + from, end - from);
            else
                m->make->run(m->make, stage, row_step, m->row + from, end - from, m->k, n);
        }
        NAME(niz_tile_band)
        (row, rows, n, stage + (row - from) * row_step, row_step, k_step, b, to);
    }
}

/* y [rows, cols] (+)= a [rows, n] * b [n, cols] for the n indices of k that k_off lists. */
static void NAME(niz_tile_block)(const niz_tile_a *a, const niz_tile_b *b, int64_t n,
                                 const niz_tile_y *to)
{
    if (a->made) {
        NAME(niz_tile_made_block)(a, b, n, to);
        return;
    }
    int64_t k_step = a->k_step, row_step, rows;
    bool k_even = a->plain || k_step != NIZ_TILE_ANY || niz_tile_even(a->k_off, n, &k_step);
    k_even = k_even && (k_step == 1 || b->cols <= NR);
    for (int64_t row = 0; row < a->rows; row += rows) {
        const int64_t *off = a->row_off + row;
        rows = niz_tile_band_rows(a->rows - row);
        if (a->plain) {
            NAME(niz_tile_band)
            (row, rows, n, (const T *)a->a + row * a->row_step, a->row_step, k_step, b, to);
        } else if (k_even && niz_tile_even(off, rows, &row_step)) {
            NAME(niz_tile_band)
            (row, rows, n, (const T *)a->a + off[0] + a->k_off[0], row_step, k_step, b, to);
        } else {
            NAME(niz_tile_pack_rows)(a->a, off, rows, a->k_off, n, a->packed);
            NAME(niz_tile_band)(row, rows, n, a->packed, 1, rows, b, to);
        }
    }
}

#undef TURN_ALL
#undef TURN_WIDE
#undef A0
#undef A1
#undef A2
#undef A3
#undef A4
#undef A5
#undef A6
#undef A7
#undef A8
#undef A9
#undef A10
#undef A11
#undef LANES
#undef NR
#undef VECTORS1
#undef VECTORS2
#undef VECTORS4
#undef VECTORS8
#undef VECTORS16
#undef DECLARE
#undef LOAD
#undef FMA
#undef ADD
#undef STORE
#undef STEP
#undef PANELS
#undef DECLARE1
#undef DECLARE2
#undef DECLARE4
#undef DECLARE8
#undef DECLARE16
#undef LOAD1
#undef LOAD2
#undef LOAD4
#undef LOAD8
#undef LOAD16
#undef STEP1
#undef STEP2
#undef STEP4
#undef STEP8
#undef STEP16
#undef ADD1
#undef ADD2
#undef ADD4
#undef ADD8
#undef ADD16
#undef STORE1
#undef STORE2
#undef STORE4
#undef STORE8
#undef STORE16
#undef KERNEL
#undef KERNELS
#undef PAIR
