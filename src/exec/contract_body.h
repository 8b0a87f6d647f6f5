/* contract_body.h - a contraction's rectangle for one floating type: operands read, packed or made,
 * and multiplied.
 *
 * Included once a type with T and NAME(f) set; no guard.
 *
 * SPDX-License-Identifier: MIT */

#define NR ((int64_t)(2 * NIZ_VECTOR_BYTES / sizeof(T)))

/* Columns that are made a k after another -> panels.  A part of the k is made for all of them, so
 * that it is still in the first-level cache when its last panel is packed. */
static void NAME(niz_contract_make_across)(const niz_contract_call *c, int64_t col, int64_t cols,
                                           int64_t k0, int64_t n)
{
    const niz_contract_work *w = &c->work;
    niz_make *make = niz_contract_make(c, 1);
    int64_t from = c->entry * c->loop->plan.n_k + k0;
    T *stage = w->made_cols, *panels = w->panels;
    for (int64_t j = 0; j < niz_tile_min(NR, cols); j++) w->col_off[j] = j;
    for (int64_t k = 0; k < niz_tile_min(NIZ_TILE_MAX_NR, n); k++)
        w->b_off[k] = k * NIZ_TILE_STRIDE;
    for (int64_t k = 0, some; k < n; k += some) {
        some = niz_tile_min(NIZ_TILE_MAX_NR, n - k);
        make->run(make, stage, NIZ_TILE_STRIDE, from + k, some, col, cols);
        for (int64_t j = 0; j < cols; j += NR) NAME(niz_tile_pack_panel)
        (stage + j, w->col_off, niz_tile_min(NR, cols - j), w->b_off, false, some,
         panels + j * n + k * NR);
    }
}

/* Columns that are made along k -> panels, one after another. */
static void NAME(niz_contract_make_along)(const niz_contract_call *c, int64_t col, int64_t cols,
                                          int64_t k0, int64_t n)
{
    const niz_contract_work *w = &c->work;
    niz_make *make = niz_contract_make(c, 1);
    int64_t from = c->entry * c->loop->plan.n_cols + col;
    T *stage = w->made_cols, *panels = w->panels;
    for (int64_t j = 0; j < niz_tile_min(NR, cols); j++) w->col_off[j] = j * NIZ_MADE_STRIDE;
    w->b_off[0] = 0;
    for (int64_t j = 0, some; j < cols; j += some) {
        some = niz_tile_min(NR, cols - j);
        make->run(make, stage, NIZ_MADE_STRIDE, from + j, some, k0, n);
        NAME(niz_tile_pack_panel)(stage, w->col_off, some, w->b_off, true, n, panels + j * n);
    }
}

/* Columns that lie near each other: read where they are, but for a rest that fills no vectors. */
static niz_tile_b NAME(niz_contract_near)(const niz_contract_call *c, int64_t col, int64_t cols,
                                          int64_t k0, int64_t n)
{
    const niz_contract_plan *p = &c->loop->plan;
    const T *b = (const T *)(const void *)c->b + col + k0 * p->b_step;
    niz_tile_b t = {b, p->b_step, NR, cols, NULL};
    int64_t rest = cols % NR;
    if (rest % (NR / 2)) {
        t.rest = c->work.panels;
        NAME(niz_tile_pack_rest)(b + (cols - rest), p->b_step, rest, n, c->work.panels);
    }
    return t;
}

static niz_tile_b NAME(niz_contract_columns)(const niz_contract_call *c, int64_t col, int64_t cols,
                                             int64_t k0, int64_t n)
{
    const niz_contract_loop *l = c->loop;
    const niz_contract_work *w = &c->work;
    const niz_contract_plan *p = &l->plan;
    if (p->near) return NAME(niz_contract_near)(c, col, cols, k0, n);
    niz_made made = niz_contract_made(l, 1);
    if (made == NIZ_MADE_ALONG) {
        NAME(niz_contract_make_along)(c, col, cols, k0, n);
    } else if (made == NIZ_MADE_ACROSS) {
        NAME(niz_contract_make_across)(c, col, cols, k0, n);
    } else {
        niz_tile_offsets(&l->k, !p->swap, k0, n, w->b_off);
        bool unit = p->b_step == 1 || (p->b_step == NIZ_TILE_ANY && niz_tile_unit(w->b_off, n));
        for (int64_t j = 0; j < cols; j += NR) NAME(niz_tile_pack_panel)
        ((const T *)(const void *)c->b, w->col_off + j, niz_tile_min(NR, cols - j), w->b_off, unit,
         n, (T *)w->panels + j * n);
    }
    return (niz_tile_b){w->panels, NR, n * NR, cols, NULL};
}

static void NAME(niz_contract_rectangle)(const niz_contract_call *c, niz_tile_y *to, int64_t row,
                                         int64_t rows, int64_t col, int64_t cols)
{
    const niz_contract_loop *l = c->loop;
    const niz_contract_work *w = &c->work;
    const niz_contract_plan *p = &l->plan;
    const T *a = (const T *)(const void *)c->a;
    niz_made made = niz_contract_made(l, 0);
    bool along = made == NIZ_MADE_ALONG, plain = !made && p->row_step != NIZ_TILE_ANY;
    plain = plain && (p->a_step == 1 || (p->a_step != NIZ_TILE_ANY && cols <= NR));
    niz_tile_made of = {.across = made == NIZ_MADE_ACROSS, .stage = w->made_rows};
    niz_tile_a left = {.a = a,
                       .row_off = w->row_off,
                       .k_off = w->a_off,
                       .rows = rows,
                       .row_step = p->row_step,
                       .k_step = p->a_step,
                       .plain = plain,
                       .packed = w->packed_rows};
    if (made) {
        of.make = niz_contract_make(c, 0);
        of.row = row + (along ? c->entry * p->n_rows : 0);
        left.made = &of;
    }
    if (!plain && !made) niz_tile_offsets(niz_contract_rows(l), 0, row, rows, w->row_off);
    if (!p->near && !niz_contract_made(l, 1))
        niz_tile_offsets(niz_contract_cols(l), 0, col, cols, w->col_off);
    if (p->n_k == 0) NAME(niz_tile_zero)(to, rows, cols);
    for (int64_t k0 = 0; k0 < p->n_k; k0 += NIZ_TILE_K) {
        int64_t n = niz_tile_min(NIZ_TILE_K, p->n_k - k0);
        of.k = k0 + (along ? 0 : c->entry * p->n_k);
        if (plain)
            left.a = a + row * p->row_step + k0 * p->a_step;
        else if (!made)
            niz_tile_offsets(&l->k, p->swap, k0, n, w->a_off);
        niz_tile_b right = NAME(niz_contract_columns)(c, col, cols, k0, n);
        to->last = k0 + n == p->n_k;
        NAME(niz_tile_block)(&left, &right, n, to);
        to->first = false;
    }
}

/* All of it, if nothing needs to be prepared. */
static void NAME(niz_contract_whole)(const niz_contract_plan *p, const T *a, const T *b, T *y)
{
    niz_tile_b right = {b, p->b_step, NR, p->n_cols, NULL};
    for (int64_t row = 0, rows; row < p->n_rows; row += rows, a += rows * p->row_step) {
        rows = niz_tile_band_rows(p->n_rows - row);
        NAME(niz_tile_whole)
        (rows, p->n_k, a, p->row_step, p->a_step, &right, y + row * p->n_cols, p->n_cols);
    }
}

#undef NR
