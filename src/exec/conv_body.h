/* conv_body.h - a convolution's chunk for one element type: staging, packing, multiplying.
 *
 * Included once a type with T, NAME(f) and CONV_FLOATING set; no guard.  Integers are only staged.
 *
 * SPDX-License-Identifier: MIT */

#define LANES ((int)(NIZ_VECTOR_BYTES / sizeof(T)))
#define NR (2 * LANES)

/* n elements in as few moves as there can be: the last one overlaps the one before. */
NIZ_TILE_INLINE void NAME(niz_conv_copy)(const T *x, int64_t n, T *out)
{
#define MOVE(at, width) memcpy(out + (at), x + (at), (width) * sizeof(T))
    if (n >= LANES) {
        for (int64_t i = 0; i + LANES <= n; i += LANES) MOVE(i, LANES);
        MOVE(n - LANES, LANES);
    } else if (n >= 8 && LANES > 8) {
        MOVE(0, 8), MOVE(n - 8, 8);
    } else if (n >= 4 && LANES > 4) {
        MOVE(0, 4), MOVE(n - 4, 4);
    } else {
        for (int64_t i = 0; i < n; i++) out[i] = x[i];
    }
#undef MOVE
}

/* n positions from p on, `by` apart, of a row of x; zeros where it has none. */
static void NAME(niz_conv_stage_row)(const T *x, int64_t size, int64_t stride, int64_t p,
                                     int64_t by, int64_t n, T *out)
{
    int64_t i = 0, end = p < size ? niz_tile_min(n, niz_tile_ceil(size - p, by)) : 0;
    int64_t begin = p < 0 ? niz_tile_min(n, niz_tile_ceil(-p, by)) : 0;
    for (; i < begin; i++) out[i] = 0;
    if (stride == 1 && by == 1 && i < end) {
        NAME(niz_conv_copy)(x + p + i, end - i, out + i);
        i = end;
    } else {
        for (; i < end; i++) out[i] = x[(p + i * by) * stride];
    }
    for (; i < n; i++) out[i] = 0;
}

/* One channel of one image: the region's plane. */
static void NAME(niz_conv_stage_plane)(const niz_conv_call *c, const T *x, T *out)
{
    const niz_conv_phase *p = c->phase;
    const niz_conv_region *r = &c->region;
    int64_t at[3];
    for (int d = 0; d < 3; d++) at[d] = r->from[d] * p->step[d] - p->lo[d];
    for (int64_t i = 0; i < r->extent[0]; i++)
        for (int64_t j = 0; j < r->extent[1]; j++) {
            int64_t u = at[0] + i, v = at[1] + j;
            bool in = u >= 0 && u < p->x_size[0] && v >= 0 && v < p->x_size[1];
            const T *row = in ? x + u * p->x_stride[0] + v * p->x_stride[1] : x;
            for (int64_t f = 0; f < p->step[2]; f++, out += r->extent[2]) NAME(niz_conv_stage_row)
            (row, in ? p->x_size[2] : 0, p->x_stride[2], at[2] + f, p->step[2], r->extent[2], out);
        }
}

/* The plane where x is made, `line` being the first row of its channel: some rows at a time, and of
 * each only the positions that the region has. */
static void NAME(niz_conv_make_plane)(const niz_conv_call *c, int64_t line, T *out)
{
    const niz_conv_phase *p = c->phase;
    const niz_conv_region *r = &c->region;
    niz_make *make = c->fused->make[0];
    int64_t at[3];
    for (int d = 0; d < 3; d++) at[d] = r->from[d] * p->step[d] - p->lo[d];
    int64_t left = at[2] > 0 ? at[2] : 0, end = at[2] + r->extent[2] * p->step[2];
    int64_t width = niz_tile_min(end, p->x_size[2]) - left;
    int64_t stride = niz_tile_ceil(width > 0 ? width : 1, LANES) * LANES;
    int64_t most = stride < NIZ_CONV_MADE ? NIZ_CONV_MADE / stride : 1;
    for (int64_t i = 0; i < r->extent[0]; i++)
        for (int64_t j = 0, n; j < r->extent[1]; j += n) {
            int64_t u = at[0] + i, v = at[1] + j;
            bool in = u >= 0 && u < p->x_size[0] && v >= 0 && v < p->x_size[1] && width > 0;
            T *row = c->work->made;
            n = in ? niz_tile_min(most, niz_tile_min(r->extent[1] - j, p->x_size[1] - v)) : 1;
            if (in) make->run(make, row, stride, line + u * p->x_size[1] + v, n, left, width);
            for (int64_t k = 0; k < n; k++, row += stride)
                for (int64_t f = 0; f < p->step[2]; f++, out += r->extent[2])
                    NAME(niz_conv_stage_row)
            (row, in ? width : 0, 1, at[2] - left + f, p->step[2], r->extent[2], out);
        }
}

/* Channels [from, from + n) of the chunk's images. */
static void NAME(niz_conv_stage)(const niz_conv_call *c, int64_t from, int64_t n)
{
    const niz_conv_loop *l = c->loop;
    int64_t lines = c->phase->x_size[0] * c->phase->x_size[1];
    for (int64_t b = 0; b < c->region.images; b++)
        for (int64_t i = 0; i < n; i++) {
            int64_t image = c->region.image + b, channel = from + i;
            T *out = (T *)c->work->stage + (b * c->work->channels + i) * c->region.plane;
            const T *x = (const T *)c->x + image * l->x_stride[0] + channel * l->x_stride[2];
            int64_t line = ((image * l->groups + c->group) * l->in + channel) * lines;
            if (l->made)
                NAME(niz_conv_make_plane)(c, line, out);
            else
                NAME(niz_conv_stage_plane)(c, x, out);
        }
}

#if CONV_FLOATING
/* A panel [n, NR] from runs of at most `width` elements a copy. */
NIZ_TILE_INLINE void NAME(niz_conv_copy_runs)(const T *stage, const int64_t *tap, int64_t n,
                                              const niz_conv_run *run, int64_t runs, int width,
                                              T *out)
{
    for (int64_t k = 0; k < n; k++, out += NR) {
        const T *from = stage + tap[k];
        for (int64_t i = 0; i < runs; i++)
            for (int32_t j = 0; j < run[i].length; j += width)
                memcpy(out + run[i].at + j, from + run[i].from + j, (size_t)width * sizeof(T));
    }
}

/* Columns of short runs, but with their terms side by side (a gradient of weights: a few places,
 * and rows of the image to sum over): turned, a run of terms at a time. */
static void NAME(niz_conv_pack_turned)(const niz_conv_work *w, int64_t panel, int64_t columns,
                                       int64_t n, T *out)
{
    for (int64_t k = 0, run; k < n; k += run) {
        run = niz_tile_run(w->tap_off + k, n - k);
        NAME(niz_tile_pack_turned)
        ((const T *)w->stage + w->tap_off[k], w->column + panel * NR, columns, run, out + k * NR);
    }
}

/* Short runs are copied by short vectors: what is written too much costs as what is needed. */
static void NAME(niz_conv_pack)(const niz_conv_call *c, int64_t panel, int64_t columns, int64_t n,
                                T *out)
{
    const niz_conv_work *w = c->work;
    const niz_conv_run *run = w->runs + w->first_run[panel];
    int64_t runs = w->first_run[panel + 1] - w->first_run[panel], longest = 0;
    for (int64_t i = 0; i < runs; i++)
        if (run[i].length > longest) longest = run[i].length;
    if (columns < NR) memset(out, 0, (size_t)n * NR * sizeof(T));
    if (longest < NIZ_CONV_SHORT && w->term_run >= NIZ_CONV_SHORT)
        NAME(niz_conv_pack_turned)(w, panel, columns, n, out);
    else if (longest == 1)
        NAME(niz_conv_copy_runs)(w->stage, w->tap_off, n, run, runs, 1, out);
    else if (longest <= 4 || LANES <= 4)
        NAME(niz_conv_copy_runs)(w->stage, w->tap_off, n, run, runs, LANES < 4 ? LANES : 4, out);
    else if (longest <= 8 || LANES <= 8)
        NAME(niz_conv_copy_runs)(w->stage, w->tap_off, n, run, runs, LANES < 8 ? LANES : 8, out);
    else
        NAME(niz_conv_copy_runs)(w->stage, w->tap_off, n, run, runs, LANES, out);
}

/* The weights of a group as [out, terms], for all its chunks. */
static void NAME(niz_conv_gather_weights)(const niz_conv_call *c)
{
    const niz_conv_work *w = c->work;
    int64_t total = niz_conv_count_terms(c->loop, c->phase);
    for (int64_t k0 = 0; k0 < total; k0 += NIZ_TILE_K) {
        int64_t n = niz_tile_min(NIZ_TILE_K, total - k0);
        niz_conv_find_terms(c, k0, n, 0);
        for (int64_t i = 0; i < c->loop->out; i++) {
            const T *from = (const T *)(const void *)c->w + i * c->loop->w_stride[1];
            T *to = (T *)w->weights + i * total + k0;
            for (int64_t k = 0; k < n; k++) to[k] = from[w->w_off[k]];
        }
    }
}

static void NAME(niz_conv_rectangle)(const niz_conv_call *c, int64_t rows, niz_tile_y to)
{
    const niz_conv_phase *p = c->phase;
    const niz_conv_work *w = c->work;
    int64_t total = niz_conv_count_terms(c->loop, p), columns = c->region.columns;
    int64_t staged = 0, held = 0;
    niz_tile_a left = {.a = c->w,
                       .row_off = w->row_off,
                       .k_off = w->w_off,
                       .rows = rows,
                       .k_step = NIZ_TILE_ANY,
                       .packed = w->packed_rows};
    if (total == 0) {
        NAME(niz_tile_zero)(&to, rows, columns);
        return;
    }
    niz_conv_find_runs(w, columns, NR);
    for (int64_t k0 = 0; k0 < total; k0 += NIZ_TILE_K, to.first = false) {
        int64_t n = niz_tile_min(NIZ_TILE_K, total - k0);
        if ((k0 + n - 1) / p->taps >= staged + held) {
            staged = k0 / p->taps;
            held = niz_tile_min(w->channels, c->loop->in - staged);
            NAME(niz_conv_stage)(c, staged, held);
        }
        niz_conv_find_terms(c, k0, n, staged);
        niz_tile_b right = {w->panels, NR, n * NR, columns, NULL};
        for (int64_t j = 0; j < columns; j += NR) NAME(niz_conv_pack)
        (c, j / NR, niz_tile_min(NR, columns - j), n, (T *)w->panels + j * n);
        to.last = k0 + n == total;
        NAME(niz_tile_block)(&left, &right, n, &to);
    }
}
#endif

#undef LANES
#undef NR
