/* loops_contract.c - contractions over any strides: y[batch, m, n] = sum over k of a * b.
 *
 * A unit is a block of columns (n) times a block of rows (m) of one batch entry, counted along the
 * axis that is not cut between threads; a range of units is cut into at most three rectangles an
 * entry, so that whoever takes many units packs the columns' operand once for all of them.  How
 * operands lie is asked once a rectangle, by tables of offsets: contiguous columns are copied,
 * contiguous k is turned, anything else is gathered.  The sums themselves are tile.h's.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/tile.h"

/* A unit is small: runs merge them, and many let every thread have a share.  One is long across the
 * axis that is cut first, along which units are counted last. */
#define NIZ_CONTRACT_UNIT_COLS 32
#define NIZ_CONTRACT_UNIT_ROWS 64
#define NIZ_CONTRACT_CUT_COLS 256 /* where rows are cut first */
#define NIZ_CONTRACT_CUT_ROWS 16

/* Tables and panels of one rectangle, in scratch. */
typedef struct niz_contract_work {
    int64_t *row_off, *col_off, *a_off, *b_off;
    void *panels, *packed_rows, *tile;
    void *made_rows, *made_cols; /* what is made of them, on its way into panels */
} niz_contract_work;

/* The loop seen as rows x columns. */
static const niz_loop_space *niz_contract_rows(const niz_contract_loop *l)
{
    return l->plan.swap ? &l->n : &l->m;
}

static const niz_loop_space *niz_contract_cols(const niz_contract_loop *l)
{
    return l->plan.swap ? &l->m : &l->n;
}

/* Whether to cut by rows first.  A core keeps what it touched: every matrix is best cut where its
 * memory is cut in two, so that from kernel to kernel a core finds its own half.  This counts the
 * elements that are in the other one's half, for two cores, and columns packed by both.  What
 * finishes results has matrices like y; say, one read and written. */
static bool niz_contract_cuts_rows(const niz_contract_plan *p, bool tiled)
{
    int64_t m = p->n_rows, n = p->n_cols, k = p->n_k, y = tiled ? 2 * m * n : m * n;
    bool a_outer = p->a_step != NIZ_TILE_ANY && p->row_step > p->a_step;
    bool b_outer = p->b_step != NIZ_TILE_ANY && p->col_step > p->b_step;
    int64_t rows = (a_outer ? 0 : m * k / 4) + n * k / 2 + (p->near ? 0 : n * k / 2);
    int64_t cols = m * k / 2 + (b_outer ? 0 : n * k / 4) + y / 4;
    return rows < cols;
}

/* Where the pieces of scratch begin. */
static void niz_contract_lay_out(niz_contract_plan *p, size_t size, const niz_contract_loop *l)
{
    int64_t k = niz_tile_min(p->n_k, NIZ_TILE_K);
    int64_t cols = niz_tile_min(p->n_cols, NIZ_TILE_COLS);
    int64_t panels = niz_tile_ceil(cols, NIZ_TILE_MAX_NR) * NIZ_TILE_MAX_NR;
    int64_t depth = l->tiled ? niz_tile_depth(p->n_k) : 0;
    int64_t made_rows = l->made[p->swap] ? NIZ_MADE_ROWS * NIZ_MADE_STRIDE : 0;
    int64_t made_cols = l->made[!p->swap] ? NIZ_TILE_MAX_NR * NIZ_MADE_STRIDE : 0;
    size_t word = sizeof(int64_t);
    p->row_off = 0;
    p->col_off = p->row_off + niz_tile_room(niz_tile_min(p->n_rows, NIZ_TILE_ROWS), word);
    p->a_off = p->col_off + niz_tile_room(cols, word);
    p->b_off = p->a_off + niz_tile_room(k, word);
    p->packed_rows = p->b_off + niz_tile_room(k, word);
    p->panels = p->packed_rows + niz_tile_room(k * NIZ_TILE_MAX_R, size);
    p->tile = p->panels + niz_tile_room(k * panels, size);
    p->made_rows = p->tile + niz_tile_room(depth * NIZ_TILE_STRIDE, size);
    p->made_cols = p->made_rows + niz_tile_room(made_rows, size);
    p->scratch = p->made_cols + niz_tile_room(made_cols, size);
}

/* Whether micro-kernels can be let loose on the operands as they lie. */
static bool niz_contract_is_whole(const niz_contract_plan *p, const niz_contract_loop *l)
{
    if (l->dtype != NIZ_F32 && l->dtype != NIZ_F64) return false;
    int64_t lanes = NIZ_VECTOR_BYTES / (int64_t)niz_tile_size(l->dtype);
    bool filled = p->n_cols % lanes == 0 && p->n_cols <= NIZ_TILE_COLS;
    bool plain = p->row_step != NIZ_TILE_ANY &&
                 (p->a_step == 1 || (p->a_step != NIZ_TILE_ANY && p->n_cols <= 2 * lanes));
    return p->near && filled && plain && p->n_k > 0 && p->n_k <= NIZ_TILE_K && !l->tiled &&
           !l->made[p->swap] && l->batch.rank == 0;
}

void NIZ_ISA_NAME(niz_contract_prepare)(niz_contract_loop *l)
{
    int64_t m = niz_tile_count(&l->m), n = niz_tile_count(&l->n);
    bool swap = n == 1 && m > 1;
    size_t size = niz_tile_size(l->dtype);
    niz_contract_plan p = {
        .swap = swap,
        .n_rows = swap ? n : m,
        .n_cols = swap ? m : n,
        .n_k = niz_tile_count(&l->k),
        .row_step = niz_tile_step(swap ? &l->n : &l->m, 0),
        .col_step = niz_tile_step(swap ? &l->m : &l->n, 0),
        .a_step = niz_tile_step(&l->k, swap),
        .b_step = niz_tile_step(&l->k, !swap),
    };
    int64_t apart = p.b_step * (int64_t)size;
    p.near = !l->made[!swap] && p.col_step == 1 && p.b_step != NIZ_TILE_ANY &&
             niz_tile_reads_in_place(p.n_rows, p.n_k, apart);
    p.by_rows = niz_contract_cuts_rows(&p, l->tiled);
    p.unit_rows = p.by_rows ? NIZ_CONTRACT_CUT_ROWS : NIZ_CONTRACT_UNIT_ROWS;
    p.unit_cols = p.by_rows ? NIZ_CONTRACT_CUT_COLS : NIZ_CONTRACT_UNIT_COLS;
    p.row_units = niz_tile_ceil(p.n_rows, p.unit_rows);
    p.col_units = niz_tile_ceil(p.n_cols, p.unit_cols);
    p.whole = niz_contract_is_whole(&p, l);
    p.units = niz_tile_count(&l->batch) * p.row_units * p.col_units;
    niz_contract_lay_out(&p, size, l);
    l->plan = p;
}

static niz_contract_work niz_contract_work_in(const niz_contract_plan *p, char *scratch)
{
    return (niz_contract_work){.row_off = (int64_t *)(void *)(scratch + p->row_off),
                               .col_off = (int64_t *)(void *)(scratch + p->col_off),
                               .a_off = (int64_t *)(void *)(scratch + p->a_off),
                               .b_off = (int64_t *)(void *)(scratch + p->b_off),
                               .panels = scratch + p->panels,
                               .packed_rows = scratch + p->packed_rows,
                               .tile = scratch + p->tile,
                               .made_rows = scratch + p->made_rows,
                               .made_cols = scratch + p->made_cols};
}

/* ---- one rectangle --------------------------------------------------------------------------- */

/* A range of units of one batch entry, under way. */
typedef struct niz_contract_call {
    const niz_contract_loop *loop;
    const niz_fused *fused;
    niz_contract_work work;
    const char *a, *b; /* of the rows, of the columns, at the batch entry */
    char *y;
    int64_t entry;
} niz_contract_call;

/* Where the rows' operand (side 0) or the columns' (1) comes from. */
static niz_made niz_contract_made(const niz_contract_loop *l, int side)
{
    return l->made[side ^ l->plan.swap];
}

static niz_make *niz_contract_make(const niz_contract_call *c, int side)
{
    return c->fused->make[side ^ c->loop->plan.swap];
}

#define T float
#define NAME(f) NIZ_TILE_F32(f)
#include "exec/contract_body.h"
#undef T
#undef NAME

#define T double
#define NAME(f) NIZ_TILE_F64(f)
#include "exec/contract_body.h"
#undef T
#undef NAME

/* ---- integers: sums wrap, so their order is free --------------------------------------------- */

#define INTEGERS(T, U, NAME)                                                                       \
    static void NAME(niz_contract_rectangle)(const niz_contract_call *c, niz_tile_y *to,           \
                                             int64_t row, int64_t rows, int64_t col, int64_t cols) \
    {                                                                                              \
        const niz_contract_loop *l = c->loop;                                                      \
        const niz_contract_work *w = &c->work;                                                     \
        const niz_contract_plan *p = &l->plan;                                                     \
        const T *a = (const T *)(const void *)c->a, *b = (const T *)(const void *)c->b;            \
        T *y = to->y;                                                                              \
        niz_tile_offsets(niz_contract_rows(l), 0, row, rows, w->row_off);                          \
        niz_tile_offsets(niz_contract_cols(l), 0, col, cols, w->col_off);                          \
        NAME(niz_tile_zero)(to, rows, cols);                                                       \
        for (int64_t k0 = 0; k0 < p->n_k; k0 += NIZ_TILE_K) {                                      \
            int64_t n = niz_tile_min(NIZ_TILE_K, p->n_k - k0);                                     \
            niz_tile_offsets(&l->k, p->swap, k0, n, w->a_off);                                     \
            niz_tile_offsets(&l->k, !p->swap, k0, n, w->b_off);                                    \
            for (int64_t i = 0; i < rows; i++)                                                     \
                for (int64_t j = 0; j < cols; j++) {                                               \
                    const T *u = a + w->row_off[i], *v = b + w->col_off[j];                        \
                    U sum = (U)y[i * p->n_cols + j];                                               \
                    for (int64_t q = 0; q < n; q++) sum += (U)u[w->a_off[q]] * (U)v[w->b_off[q]];  \
                    y[i * p->n_cols + j] = (T)sum;                                                 \
                }                                                                                  \
        }                                                                                          \
    }
INTEGERS(int32_t, uint32_t, NIZ_TILE_I32)
INTEGERS(int64_t, uint64_t, NIZ_TILE_I64)

/* ---- units ----------------------------------------------------------------------------------- */

/* Rows [row, row + rows) times columns [col, col + cols): within the tables' sizes. */
static void niz_contract_piece(const niz_contract_call *c, int64_t row, int64_t rows, int64_t col,
                               int64_t cols)
{
    const niz_contract_loop *l = c->loop;
    const niz_contract_plan *p = &l->plan;
    char *y = c->y + (row * p->n_cols + col) * (int64_t)niz_tile_size(l->dtype);
    niz_tile_y to = {.y = y, .row_stride = p->n_cols, .first = true};
    if (l->tiled)
        to = (niz_tile_y){.y = c->work.tile,
                          .row_stride = NIZ_TILE_STRIDE,
                          .first = true,
                          .finish = c->fused->finish,
                          .row = c->entry * p->n_rows + row,
                          .col = col};
    switch (l->dtype) {
    case NIZ_F32: niz_contract_rectangle_f32(c, &to, row, rows, col, cols); break;
    case NIZ_F64: niz_contract_rectangle_f64(c, &to, row, rows, col, cols); break;
    case NIZ_I32: niz_contract_rectangle_i32(c, &to, row, rows, col, cols); break;
    case NIZ_I64: niz_contract_rectangle_i64(c, &to, row, rows, col, cols); break;
    default: break;
    }
}

/* Units of rows [r0, r1) in units of columns [c0, c1). */
static void niz_contract_units_of(const niz_contract_call *c, int64_t r0, int64_t r1, int64_t c0,
                                  int64_t c1)
{
    const niz_contract_plan *p = &c->loop->plan;
    int64_t row_end = niz_tile_min(r1 * p->unit_rows, p->n_rows);
    int64_t col_end = niz_tile_min(c1 * p->unit_cols, p->n_cols);
    int64_t rows = niz_tile_rows(c->loop->tiled, p->n_k);
    for (int64_t col = c0 * p->unit_cols; col < col_end; col += NIZ_TILE_COLS)
        for (int64_t row = r0 * p->unit_rows; row < row_end; row += rows)
            niz_contract_piece(c, row, niz_tile_min(rows, row_end - row), col,
                               niz_tile_min(NIZ_TILE_COLS, col_end - col));
}

/* Units [begin, end) of one batch entry, in lines along the axis that is cut last: the rest of a
 * line, whole lines, a start of one. */
static void niz_contract_entry(const niz_contract_call *c, int64_t begin, int64_t end)
{
    const niz_contract_plan *p = &c->loop->plan;
    bool by_rows = p->by_rows;
    int64_t length = by_rows ? p->col_units : p->row_units;
    if (begin == 0 && end == p->row_units * p->col_units) { /* mostly, and without a division */
        niz_contract_units_of(c, 0, p->row_units, 0, p->col_units);
        return;
    }
    for (int64_t n; begin < end; begin += n) {
        int64_t at = begin % length, line = begin / length, to = length;
        int64_t lines = at == 0 && end - begin >= length ? (end - begin) / length : 1;
        n = lines * length;
        if (at > 0 || end - begin < length) {
            n = niz_tile_min(length - at, end - begin);
            to = at + n;
        }
        if (by_rows)
            niz_contract_units_of(c, line, line + lines, at, to);
        else
            niz_contract_units_of(c, at, to, line, line + lines);
    }
}

void NIZ_ISA_NAME(niz_contract_run)(const niz_contract_loop *l, const void *a, const void *b,
                                    void *y, int64_t begin, int64_t end, void *scratch,
                                    const niz_fused *fused)
{
    const niz_contract_plan *p = &l->plan;
    if (p->whole && begin == 0 && end == p->row_units * p->col_units) {
        const void *left = p->swap ? b : a, *right = p->swap ? a : b;
        if (l->dtype == NIZ_F32)
            niz_contract_whole_f32(p, left, right, y);
        else
            niz_contract_whole_f64(p, left, right, y);
        return;
    }
    niz_contract_call c = {
        .loop = l, .fused = fused, .work = niz_contract_work_in(p, scratch), .y = y};
    int64_t size = (int64_t)niz_tile_size(l->dtype), each = p->row_units * p->col_units;
    c.a = p->swap ? b : a;
    c.b = p->swap ? a : b;
    if (l->batch.rank == 0) {
        niz_contract_entry(&c, begin, end);
        return;
    }
    const char *first_a = c.a, *first_b = c.b;
    for (int64_t next; begin < end; begin = next) {
        int64_t off[2];
        c.entry = begin / each;
        next = niz_tile_min((c.entry + 1) * each, end);
        niz_tile_offsets(&l->batch, p->swap, c.entry, 1, &off[0]);
        niz_tile_offsets(&l->batch, !p->swap, c.entry, 1, &off[1]);
        c.a = first_a + off[0] * size;
        c.b = first_b + off[1] * size;
        c.y = (char *)y + c.entry * p->n_rows * p->n_cols * size;
        niz_contract_entry(&c, begin - c.entry * each, next - c.entry * each);
    }
}
