/* loops_map.c - the block interpreter of maps.  Compiled three times.
 *
 * A range of the flattened space is walked in blocks of at most NIZ_MAP_BLOCK elements; the whole
 * instruction list runs over one block, each instruction as one loop, before the next block begins.
 * Intermediate values thus never leave the first-level cache, and the price of choosing an
 * instruction is shared by hundreds of elements.
 *
 * Operands are read where they are if the block is contiguous in them, else they are gathered into
 * their slot of the scratch memory.  Three things keep that rare:
 *   - an operand laid out like the result is contiguous in every block;
 *   - where the innermost dim is long, blocks end with it and a stride of 1 there suffices; where
 *     it is short, a block has many whole rows, so the cost of a row is never that of a block;
 *   - an operand that is the same in every row (a bias) or everywhere (a scalar) is gathered once.
 * An operand that is contiguous along the columns (a transposed one) is gathered in panels of
 * PANEL_ROWS rows, so that each cache line of it is fetched once and not once a row.
 * Constants are filled in once.  The last instruction writes to the result directly; a single
 * instruction over contiguous operands is one call for the whole range and runs at the memory's
 * speed.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/loops_instr.h"

#include <string.h>

enum {
    SKEW = 64, /* bytes between slots, so that they start in different cache sets */
    PANEL_ROWS = 16,
    PANEL_COLUMNS = 256
};

typedef struct niz_map_walk {
    const niz_map *map;
    const niz_loop_space *space;
    void *const *buffer;
    char *scratch;
    size_t slot_bytes;
    int64_t end, row;    /* row: elements that blocks must not cross the end of */
    int64_t block;       /* elements of a block at most */
    bool used[4];        /* operands that the instructions read */
    bool dense[4];       /* laid out like the result */
    bool steady[4];      /* what is gathered depends only on where it starts */
    bool crossed[4];     /* contiguous along the columns */
    bool any_crossed;
    int panel_row;       /* of the panels gathered, or -1 */
    int64_t held_at[4];  /* where that was, of what the slot holds */
    int64_t held[4];     /* elements that the slot holds */
    const void *value[4 + NIZ_MAP_LIMIT];
} niz_map_walk;

static size_t niz_map_slot_bytes(const niz_map *map)
{
    return (size_t)map->width * NIZ_MAP_BLOCK + SKEW;
}

static size_t niz_map_panel_bytes(const niz_map *map)
{
    return (size_t)map->width * PANEL_ROWS * PANEL_COLUMNS;
}

/* The slots, then a panel for every operand. */
size_t NIZ_ISA_NAME(niz_map_scratch)(const niz_map *map)
{
    return niz_map_slot_bytes(map) * (size_t)map->n_slots +
           niz_map_panel_bytes(map) * (size_t)map->n_in;
}

static void *niz_map_slot(const niz_map_walk *w, int slot)
{
    return w->scratch + w->slot_bytes * (size_t)slot;
}

static char *niz_map_panel(const niz_map_walk *w, int i)
{
    return w->scratch + w->slot_bytes * (size_t)w->map->n_slots +
           niz_map_panel_bytes(w->map) * (size_t)i;
}

static int64_t niz_map_inner_stride(const niz_map_walk *w, int i)
{
    return w->space->rank ? w->space->stride[i][w->space->rank - 1] : 0;
}

/* ---- setting out ---------------------------------------------------------------------------- */

static void niz_map_find_used(niz_map_walk *w)
{
    const niz_map *map = w->map;
    if (!map->n) w->used[map->result] = true;
    for (int i = 0; i < map->n; i++)
        for (int k = 0; k < niz_map_arity((niz_map_code)map->instr[i].code); k++)
            if (map->instr[i].x[k] < map->n_in) w->used[map->instr[i].x[k]] = true;
}

static bool niz_map_is_dense(const niz_loop_space *s, int i)
{
    int64_t expected = 1;
    for (int d = s->rank; d-- > 0; expected *= s->dim[d])
        if (s->dim[d] != 1 && s->stride[i][d] != expected) return false;
    return true;
}

/* Whether the strides of the dims 0 .. rank-1 are 0. */
static bool niz_map_is_constant(const niz_loop_space *s, int i, int rank)
{
    for (int d = 0; d < rank; d++)
        if (s->dim[d] != 1 && s->stride[i][d] != 0) return false;
    return true;
}

/* Chooses the blocks: of the flattened range if every operand is dense or constant, of whole rows
 * if rows are short, else within a row. */
static void niz_map_choose(niz_map_walk *w, int64_t begin)
{
    const niz_loop_space *s = w->space;
    int64_t inner = s->rank ? s->dim[s->rank - 1] : 1;
    bool flat = true, in_place = true;
    for (int i = 0; i < w->map->n_in; i++) {
        if (!w->used[i]) continue;
        w->dense[i] = niz_map_is_dense(s, i);
        bool constant = niz_map_is_constant(s, i, s->rank);
        flat = flat && (w->dense[i] || constant);
        in_place = in_place && (w->dense[i] || (niz_map_inner_stride(w, i) == 1 && !constant));
    }
    bool rows = !flat && inner * 2 <= NIZ_MAP_BLOCK;
    w->row = flat || rows ? INT64_MAX : inner;
    w->block = rows ? NIZ_MAP_BLOCK / inner * inner : NIZ_MAP_BLOCK;
    if (w->map->n == 1 && in_place && !rows && w->map->instr[0].code != NIZ_MAP_CONST)
        w->block = w->end - begin;
    for (int i = 0; i < w->map->n_in; i++) {
        w->steady[i] = !rows || niz_map_is_constant(s, i, s->rank - 1);
        if (flat || rows || !w->used[i] || s->rank < 2) continue;
        int64_t stride = niz_map_inner_stride(w, i);
        w->crossed[i] = stride != 0 && stride != 1 && s->stride[i][s->rank - 2] == 1;
        w->any_crossed = w->any_crossed || w->crossed[i];
    }
}

/* Constants keep their slots for the whole walk. */
static void niz_map_fill(niz_map_walk *w, int64_t n)
{
    for (int i = 0; i < w->map->n; i++) {
        const niz_map_instr *in = &w->map->instr[i];
        void *y = niz_map_slot(w, in->slot);
        w->value[w->map->n_in + i] = y;
        if (in->code == NIZ_MAP_CONST && n)
            NIZ_ISA_NAME(niz_instr_fill)(in, y, n < NIZ_MAP_BLOCK ? n : NIZ_MAP_BLOCK);
    }
}

/* ---- walking -------------------------------------------------------------------------------- */

static int64_t niz_map_offset(const niz_loop_space *s, int i, int64_t at)
{
    int64_t offset = 0;
    for (int d = s->rank; d-- > 0; at /= s->dim[d]) offset += at % s->dim[d] * s->stride[i][d];
    return offset;
}

/* Makes value[i] the n elements of operand i from `at` on. */
static void niz_map_fetch(niz_map_walk *w, int i, int64_t at, int64_t n)
{
    int bytes = (int)niz_dtype_size(w->map->in[i]);
    const char *x = w->buffer[i];
    if (w->dense[i]) {
        w->value[i] = x + at * bytes;
        return;
    }
    int64_t offset = niz_map_offset(w->space, i, at);
    if (w->row != INT64_MAX && niz_map_inner_stride(w, i) == 1) {
        w->value[i] = x + offset * bytes;
        return;
    }
    if (w->crossed[i] && w->panel_row >= 0) {
        w->value[i] = niz_map_panel(w, i) + w->panel_row * PANEL_COLUMNS * bytes;
        return;
    }
    void *slot = niz_map_slot(w, i);
    w->value[i] = slot;
    if (w->steady[i] && w->held_at[i] == offset && w->held[i] >= n) return;
    NIZ_ISA_NAME(niz_copy_gather)(bytes, w->space, i, x, slot, at, at + n);
    w->held_at[i] = offset;
    w->held[i] = n;
}

static void niz_map_instructions(niz_map_walk *w, void *result, int64_t n)
{
    const niz_map *map = w->map;
    for (int i = 0; i < map->n; i++) {
        const niz_map_instr *in = &map->instr[i];
        const void *x[3] = {w->value[in->x[0]], w->value[in->x[1]], w->value[in->x[2]]};
        void *y = i + 1 < map->n ? niz_map_slot(w, in->slot) : result;
        if (in->code != NIZ_MAP_CONST) NIZ_ISA_NAME(niz_instr_run)(in, y, x, n);
    }
}

static void niz_map_block(niz_map_walk *w, int64_t at, int64_t n)
{
    const niz_map *map = w->map;
    size_t bytes = niz_dtype_size(map->out);
    char *y = (char *)w->buffer[map->n_in] + (size_t)at * bytes;
    for (int i = 0; i < map->n_in; i++)
        if (w->used[i]) niz_map_fetch(w, i, at, n);
    niz_map_instructions(w, y, n);
    if (!map->n || map->instr[map->n - 1].code == NIZ_MAP_CONST)
        memmove(y, w->value[map->result], (size_t)n * bytes);
}

static void niz_map_blocks(niz_map_walk *w, int64_t at, int64_t end)
{
    for (int64_t n; at < end; at += n) {
        n = end - at < w->block ? end - at : w->block;
        if (w->row != INT64_MAX && w->row - at % w->row < n) n = w->row - at % w->row;
        niz_map_block(w, at, n);
    }
}

/* ---- panels --------------------------------------------------------------------------------- */

/* Gathers rows x n elements, the first at `at`, of every crossed operand. */
static void niz_map_gather_panels(niz_map_walk *w, int64_t at, int64_t rows, int64_t n)
{
    niz_copy_loop copy = {.space = {.rank = 2, .dim = {rows, n}, .n = 2}};
    copy.space.stride[0][0] = 1;
    copy.space.stride[1][0] = PANEL_COLUMNS;
    copy.space.stride[1][1] = 1;
    for (int i = 0; i < w->map->n_in; i++) {
        if (!w->crossed[i]) continue;
        copy.bytes = (int)niz_dtype_size(w->map->in[i]);
        copy.space.stride[0][1] = niz_map_inner_stride(w, i);
        const char *x = w->buffer[i];
        NIZ_ISA_NAME(niz_copy_run)(&copy, x + niz_map_offset(w->space, i, at) * copy.bytes,
                                   niz_map_panel(w, i), 0, rows * n);
    }
}

/* Some whole rows from `at` on, panel by panel. */
static void niz_map_rows(niz_map_walk *w, int64_t at, int64_t rows)
{
    for (int64_t c = 0, n; c < w->row; c += n) {
        n = w->row - c < PANEL_COLUMNS ? w->row - c : PANEL_COLUMNS;
        niz_map_gather_panels(w, at + c, rows, n);
        for (w->panel_row = 0; w->panel_row < rows; w->panel_row++)
            niz_map_block(w, at + w->panel_row * w->row + c, n);
    }
    w->panel_row = -1;
}

/* Pieces of rows at the range's ends in blocks, the whole rows between them in panels. */
static void niz_map_crossed(niz_map_walk *w, int64_t at)
{
    int64_t outer = w->space->dim[w->space->rank - 2];
    while (at < w->end) {
        int64_t left = w->row - at % w->row, rows = (w->end - at) / w->row;
        if (left < w->row || rows < 2) {
            int64_t stop = w->end - at < left ? w->end : at + left;
            niz_map_blocks(w, at, stop);
            at = stop;
            continue;
        }
        int64_t plane = outer - at / w->row % outer;
        if (rows > plane) rows = plane;
        if (rows > PANEL_ROWS) rows = PANEL_ROWS;
        niz_map_rows(w, at, rows);
        at += rows * w->row;
    }
}

/* ---- the table's function ------------------------------------------------------------------- */

void NIZ_ISA_NAME(niz_map_run)(const niz_map_loop *loop, void *const *buffer, int64_t begin,
                               int64_t end, void *scratch)
{
    niz_map_walk w = {.map = loop->map, .space = &loop->space, .buffer = buffer,
                      .scratch = scratch, .end = end, .panel_row = -1};
    if (begin >= end) return;
    w.slot_bytes = niz_map_slot_bytes(w.map);
    niz_map_find_used(&w);
    niz_map_choose(&w, begin);
    niz_map_fill(&w, end - begin);
    if (w.any_crossed)
        niz_map_crossed(&w, begin);
    else
        niz_map_blocks(&w, begin, end);
}
