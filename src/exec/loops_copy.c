/* loops_copy.c - copies between strided buffers.  Compiled three times.
 *
 * A range of the flattened space is cut into planes: pieces of the two innermost dims that are
 * rectangles.  A plane is copied as rows where both sides have stride 1 (rows of 8 or 16 bytes in
 * one move each), in small square blocks transposed in registers where one side is contiguous along
 * the rows and the other along the columns, and element by element otherwise.  The blocks are what
 * makes transposes fast: every cache line fetched is used up before it leaves the first-level cache.
 * From plane to plane the outer dims are counted on, as a plane may have only four elements.
 *
 * Elements are moved as unsigned integers of their width; no bit of a NaN changes.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/loops_isa.h"

#include <string.h>

#define TILE 16 /* elements: a tile's lines of both sides fit the first-level cache many times */

/* rows x cols elements; strides in elements of the outer (1) and the inner (0) dim. */
typedef struct niz_copy_plane {
    int64_t rows, cols;
    int64_t xs1, xs0, ys1, ys0;
} niz_copy_plane;

static int64_t niz_copy_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- square blocks: y[i][j] = x[j][i] -------------------------------------------------------- */

typedef uint32_t niz_copy_v4 __attribute__((vector_size(16)));
typedef uint64_t niz_copy_v2 __attribute__((vector_size(16)));
typedef niz_copy_v4 niz_copy_v4_mem __attribute__((aligned(4), may_alias));
typedef niz_copy_v2 niz_copy_v2_mem __attribute__((aligned(8), may_alias));

#define BLOCK_u8 4
#define BLOCK_u32 4
#define BLOCK_u64 2

static inline void niz_copy_block_u8(const uint8_t *x, int64_t xs, uint8_t *y, int64_t ys)
{
    for (int i = 0; i < BLOCK_u8; i++)
        for (int j = 0; j < BLOCK_u8; j++) y[i * ys + j] = x[j * xs + i];
}

static inline void niz_copy_block_u32(const uint32_t *x, int64_t xs, uint32_t *y, int64_t ys)
{
    niz_copy_v4 a = *(const niz_copy_v4_mem *)x, b = *(const niz_copy_v4_mem *)(x + xs);
    niz_copy_v4 c = *(const niz_copy_v4_mem *)(x + 2 * xs);
    niz_copy_v4 d = *(const niz_copy_v4_mem *)(x + 3 * xs);
    niz_copy_v4 p = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    niz_copy_v4 q = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    niz_copy_v4 r = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    niz_copy_v4 s = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(niz_copy_v4_mem *)y = __builtin_shufflevector(p, q, 0, 1, 4, 5);
    *(niz_copy_v4_mem *)(y + ys) = __builtin_shufflevector(p, q, 2, 3, 6, 7);
    *(niz_copy_v4_mem *)(y + 2 * ys) = __builtin_shufflevector(r, s, 0, 1, 4, 5);
    *(niz_copy_v4_mem *)(y + 3 * ys) = __builtin_shufflevector(r, s, 2, 3, 6, 7);
}

static inline void niz_copy_block_u64(const uint64_t *x, int64_t xs, uint64_t *y, int64_t ys)
{
    niz_copy_v2 a = *(const niz_copy_v2_mem *)x, b = *(const niz_copy_v2_mem *)(x + xs);
    *(niz_copy_v2_mem *)y = __builtin_shufflevector(a, b, 0, 2);
    *(niz_copy_v2_mem *)(y + ys) = __builtin_shufflevector(a, b, 1, 3);
}

/* ---- planes --------------------------------------------------------------------------------- */

#define PLANE_FUNCTIONS(t, T)                                                                      \
    static void niz_copy_each_##t(const niz_copy_plane *p, const T *x, T *y)                       \
    {                                                                                              \
        const int64_t xs = p->xs0, ys = p->ys0, cols = p->cols;                                    \
        for (int64_t i = 0; i < p->rows; i++, x += p->xs1, y += p->ys1)                            \
            for (int64_t j = 0; j < cols; j++) y[j * ys] = x[j * xs];                              \
    }                                                                                              \
    static void niz_copy_fill_##t(const niz_copy_plane *p, const T *x, T *y)                       \
    {                                                                                              \
        for (int64_t i = 0; i < p->rows; i++, x += p->xs1, y += p->ys1) {                          \
            const T v = *x;                                                                        \
            for (int64_t j = 0; j < p->cols; j++) y[j] = v;                                        \
        }                                                                                          \
    }                                                                                              \
    static void niz_copy_rows_##t(const niz_copy_plane *p, const T *x, T *y)                       \
    {                                                                                              \
        if (p->cols * sizeof(T) == 8) {                                                            \
            for (int64_t i = 0; i < p->rows; i++, x += p->xs1, y += p->ys1) memmove(y, x, 8);      \
            return;                                                                                \
        }                                                                                          \
        if (p->cols * sizeof(T) == 16) {                                                           \
            for (int64_t i = 0; i < p->rows; i++, x += p->xs1, y += p->ys1) memmove(y, x, 16);     \
            return;                                                                                \
        }                                                                                          \
        if (p->cols >= 16) {                                                                       \
            for (int64_t i = 0; i < p->rows; i++, x += p->xs1, y += p->ys1)                        \
                memmove(y, x, (size_t)p->cols * sizeof(T)); /* in place: the same memory */         \
            return;                                                                                \
        }                                                                                          \
        for (int64_t i = 0; i < p->rows; i++, x += p->xs1, y += p->ys1)                            \
            for (int64_t j = 0; j < p->cols; j++) y[j] = x[j];                                     \
    }                                                                                              \
    static void niz_copy_tile_##t(const T *x, int64_t xs, T *y, int64_t ys, int64_t rows,          \
                                  int64_t cols)                                                    \
    {                                                                                              \
        int64_t whole_rows = rows - rows % BLOCK_##t, whole_cols = cols - cols % BLOCK_##t;        \
        for (int64_t j = 0; j < whole_cols; j += BLOCK_##t)                                        \
            for (int64_t i = 0; i < whole_rows; i += BLOCK_##t)                                    \
                niz_copy_block_##t(x + j * xs + i, xs, y + i * ys + j, ys);                        \
        for (int64_t i = 0; i < rows; i++)                                                         \
            for (int64_t j = i < whole_rows ? whole_cols : 0; j < cols; j++)                       \
                y[i * ys + j] = x[j * xs + i];                                                     \
    }                                                                                              \
    static void niz_copy_transpose_##t(const niz_copy_plane *p, const T *x, T *y)                  \
    {                                                                                              \
        for (int64_t i = 0; i < p->rows; i += TILE)                                                \
            for (int64_t j = 0; j < p->cols; j += TILE)                                            \
                niz_copy_tile_##t(x + j * p->xs0 + i, p->xs0, y + i * p->ys1 + j, p->ys1,          \
                                  niz_copy_least(TILE, p->rows - i),                               \
                                  niz_copy_least(TILE, p->cols - j));                              \
    }                                                                                              \
    static void niz_copy_plane_##t(niz_copy_plane p, const T *x, T *y)                             \
    {                                                                                              \
        bool swap = p.ys1 == 1 && p.xs0 == 1 && p.ys0 != 1;                                        \
        if (swap)                                                                                  \
            p = (niz_copy_plane){p.cols, p.rows, p.xs0, p.xs1, p.ys0, p.ys1};                      \
        if (p.ys0 == 1 && p.xs0 == 1)                                                              \
            niz_copy_rows_##t(&p, x, y);                                                           \
        else if (p.ys0 == 1 && p.xs1 == 1 && p.rows > 1)                                           \
            niz_copy_transpose_##t(&p, x, y);                                                      \
        else if (p.ys0 == 1 && p.xs0 == 0)                                                         \
            niz_copy_fill_##t(&p, x, y);                                                           \
        else if (p.rows > p.cols)                                                                  \
            niz_copy_each_##t(                                                                     \
                &(niz_copy_plane){p.cols, p.rows, p.xs0, p.xs1, p.ys0, p.ys1}, x, y);              \
        else                                                                                       \
            niz_copy_each_##t(&p, x, y);                                                           \
    }

PLANE_FUNCTIONS(u8, uint8_t)
PLANE_FUNCTIONS(u32, uint32_t)
PLANE_FUNCTIONS(u64, uint64_t)

static void niz_copy_plane_of(int bytes, const niz_copy_plane *p, const char *x, char *y)
{
    if (bytes == 4)
        niz_copy_plane_u32(*p, (const void *)x, (void *)y);
    else if (bytes == 8)
        niz_copy_plane_u64(*p, (const void *)x, (void *)y);
    else
        niz_copy_plane_u8(*p, (const void *)x, (void *)y);
}

/* ---- walking -------------------------------------------------------------------------------- */

typedef struct niz_copy_walk {
    const niz_loop_space *space;
    const int64_t *xs, *ys;
    niz_copy_plane whole;        /* the two innermost dims */
    int64_t at;                  /* of its elements: how many are done */
    int64_t x, y;                /* where it begins, in elements */
    int64_t index[NIZ_MAX_RANK]; /* of the dims outside */
} niz_copy_walk;

static void niz_copy_begin(niz_copy_walk *w, int64_t begin)
{
    const niz_loop_space *s = w->space;
    int in = s->rank - 1, out = s->rank - 2;
    w->whole = (niz_copy_plane){.rows = 1, .cols = 1, .xs0 = 1, .ys0 = 1};
    if (in >= 0) w->whole.cols = s->dim[in], w->whole.xs0 = w->xs[in], w->whole.ys0 = w->ys[in];
    if (out >= 0) w->whole.rows = s->dim[out], w->whole.xs1 = w->xs[out], w->whole.ys1 = w->ys[out];
    w->at = begin % (w->whole.rows * w->whole.cols);
    begin /= w->whole.rows * w->whole.cols;
    w->x = w->y = 0;
    for (int d = out; d-- > 0; begin /= s->dim[d]) {
        w->index[d] = begin % s->dim[d];
        w->x += w->index[d] * w->xs[d];
        w->y += w->index[d] * w->ys[d];
    }
}

static void niz_copy_next(niz_copy_walk *w)
{
    w->at = 0;
    for (int d = w->space->rank - 2; d-- > 0;) {
        w->x += w->xs[d];
        w->y += w->ys[d];
        if (++w->index[d] < w->space->dim[d]) return;
        w->x -= w->xs[d] * w->space->dim[d];
        w->y -= w->ys[d] * w->space->dim[d];
        w->index[d] = 0;
    }
}

/* Elements [begin, end) of the space; y's offsets are counted from `origin`. */
static void niz_copy_range(niz_copy_walk *w, int bytes, const char *x, char *y, int64_t origin,
                           int64_t begin, int64_t end)
{
    if (begin >= end) return;
    niz_copy_begin(w, begin);
    for (int64_t left = end - begin, n; left > 0; left -= n) {
        niz_copy_plane p = w->whole;
        int64_t row = 0, column = 0, size = p.rows * p.cols;
        if (w->at || left < size) { /* a rectangle: whole rows, or a piece of one */
            row = w->at / p.cols;
            column = w->at % p.cols;
            bool piece = column || left < p.cols;
            p.rows = piece ? 1 : niz_copy_least(p.rows - row, left / p.cols);
            p.cols = piece ? niz_copy_least(p.cols - column, left) : p.cols;
        }
        int64_t from = w->x + row * p.xs1 + column * p.xs0;
        int64_t to = w->y + row * p.ys1 + column * p.ys0 - origin;
        niz_copy_plane_of(bytes, &p, x + from * bytes, y + to * bytes);
        n = p.rows * p.cols;
        if ((w->at += n) == size) niz_copy_next(w);
    }
}

void NIZ_ISA_NAME(niz_copy_run)(const niz_copy_loop *loop, const void *x, void *y, int64_t begin,
                                int64_t end)
{
    const niz_loop_space *s = &loop->space;
    niz_copy_walk w = {.space = s, .xs = s->stride[0], .ys = s->stride[1]};
    niz_copy_range(&w, loop->bytes, x, y, 0, begin, end);
}

void NIZ_ISA_NAME(niz_copy_gather)(int bytes, const niz_loop_space *s, int which, const void *x,
                                   void *y, int64_t begin, int64_t end)
{
    int64_t ys[NIZ_MAX_RANK], count = 1;
    for (int d = s->rank; d-- > 0; count *= s->dim[d]) ys[d] = count;
    niz_copy_walk w = {.space = s, .xs = s->stride[which], .ys = ys};
    niz_copy_range(&w, bytes, x, y, begin, begin, end);
}
