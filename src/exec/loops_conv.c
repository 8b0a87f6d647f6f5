/* loops_conv.c - convolutions: rows are output channels, columns output positions.
 *
 * Three steps turn the definition in loops.h into tile.h's rectangles:
 *
 *   phases   a hole in the input means that output positions of one residue share one set of taps.
 *            Each residue is a convolution without holes, over every Q-th tap and P-th position.
 *   staging  the part of x that a chunk of columns reads is copied, zeros of the padding included,
 *            so that neither a bound nor a stride is looked at again.  A step along the last axis
 *            is undone here: positions q = 0, step, 2 step ... lie side by side.
 *   panels   then tap (c, i...) of column j lies at column[j] + tap[c, i...]; columns fall into
 *            runs of neighbours, and a row of a panel is a few copies of whole vectors, each
 *            overwriting what the one before wrote too much.  Where columns have few neighbours
 *            and taps many (gradients of weights), panels are turned instead.
 *
 * Weights whose terms do not lie side by side (turned around for a gradient of the input) are
 * gathered once for all chunks of a call.
 *
 * A unit is a block of rows times a chunk of columns: some images, or a part of one.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/tile.h"

#define NIZ_CONV_ROWS 16           /* rows of a unit, at least */
#define NIZ_CONV_UNITS 16          /* fewer chunks than this are cut by rows as well */
#define NIZ_CONV_COLUMNS 64        /* of a chunk that is made smaller for the sake of the threads */
#define NIZ_CONV_SLACK 32          /* elements read and written too far by whole vectors */
#define NIZ_CONV_SHORT 6           /* a shorter run costs more than turning its elements */
#define NIZ_CONV_STAGE (1 << 17)   /* elements staged at once, if one image allows it */
#define NIZ_CONV_WEIGHTS (1 << 17) /* elements of a group's weights gathered at most ... */
#define NIZ_CONV_USES 8            /* ... for at least so many chunks */
#define NIZ_CONV_MADE 8192         /* elements of x that are made at once */

/* One phase, with always three spatial dimensions (size 1 in front): p = o step + i dilation - lo,
 * and strides that go with o and i. */
typedef struct niz_conv_phase {
    int64_t taps, places; /* products of w_size, y_size */
    int64_t x_size[3], w_size[3], y_size[3], step[3], dilation[3], lo[3];
    int64_t x_stride[3], w_stride[3], y_stride[3];
    int64_t w_offset, y_offset;
    int64_t images, pieces; /* a chunk is some images, or with pieces > 1 one of these of one */
    int64_t piece;          /* columns in a piece */
    int64_t chunks, row_blocks, rows; /* units = chunks * row_blocks, of so many rows */
} niz_conv_phase;

/* What a chunk reads of one channel of one image: positions q from the first, [extent] or, in the
 * last dimension, [step, extent]. */
typedef struct niz_conv_region {
    int64_t image, images, column, columns; /* from the image's first column */
    int64_t from[3];                        /* first output index */
    int64_t extent[3];
    int64_t plane; /* elements */
} niz_conv_region;

typedef struct niz_conv_run {
    int32_t at, length; /* in the panel */
    int64_t from;       /* in the stage */
} niz_conv_run;

typedef struct niz_conv_work {
    int64_t *row_off, *col_off, *w_off, *tap_off, *column;
    niz_conv_run *runs;
    int64_t *first_run; /* of each panel */
    void *panels, *packed_rows, *stage, *tile;
    void *made;       /* rows of x, on their way into the stage */
    void *weights;    /* [out, terms] of one group, or NULL: read where they lie */
    int64_t channels; /* that the stage holds */
    int64_t term_run; /* terms side by side in the stage */
} niz_conv_work;

typedef struct niz_conv_call {
    const niz_conv_loop *loop;
    const niz_conv_phase *phase;
    const niz_conv_work *work;
    niz_conv_region region;
    const char *x, *w; /* at the group (x: at the batch's first image) */
    char *y;
    int64_t image_y, place_y; /* strides of y: an image, a channel */
    int64_t group;
    int64_t gathered; /* the group whose weights work->weights has, or -1 */
    const niz_fused *fused;
} niz_conv_call;

/* ---- phases ---------------------------------------------------------------------------------- */

static int64_t niz_conv_gcd(int64_t a, int64_t b)
{
    while (b) {
        int64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* How far apart output positions of one residue lie. */
static int64_t niz_conv_period(const niz_conv_loop *l, int d)
{
    return l->hole[d] / niz_conv_gcd(l->hole[d], l->step[d]);
}

static int64_t niz_conv_phases(const niz_conv_loop *l)
{
    int64_t n = 1;
    for (int d = 0; d < l->spatial; d++) n *= niz_conv_period(l, d);
    return n;
}

/* Dimension d of the loop, at residue first, as dimension e of the phase. */
static void niz_conv_residue(const niz_conv_loop *l, int d, int64_t first, niz_conv_phase *p, int e)
{
    int64_t hole = l->hole[d], period = niz_conv_period(l, d);
    int64_t every = hole / niz_conv_gcd(hole, l->dilation[d]), tap = 0;
    while (tap < every && (first * l->step[d] + tap * l->dilation[d] - l->lo[d]) % hole) tap++;
    bool any = tap < every && tap < l->w_size[d];
    p->x_size[e] = l->x_size[d];
    p->x_stride[e] = l->x_stride[3 + d];
    p->y_size[e] = first < l->y_size[d] ? niz_tile_ceil(l->y_size[d] - first, period) : 0;
    p->y_offset += first * p->y_stride[e];
    p->y_stride[e] *= period;
    p->w_size[e] = any ? niz_tile_ceil(l->w_size[d] - tap, every) : 0;
    p->w_stride[e] = l->w_stride[3 + d] * every;
    p->w_offset += any ? tap * l->w_stride[3 + d] : 0;
    p->step[e] = l->step[d] * period / hole;
    p->dilation[e] = l->dilation[d] * every / hole;
    p->lo[e] = any ? -((first * l->step[d] + tap * l->dilation[d] - l->lo[d]) / hole) : 0;
}

/* Elements that a chunk of so many columns of one image may read of a channel. */
static int64_t niz_conv_plane(const niz_conv_phase *p, int64_t columns)
{
    int64_t plane = 1, inner = p->places;
    bool whole = false;
    for (int d = 0; d < 3; d++) {
        int64_t n = p->y_size[d];
        inner /= n > 0 ? n : 1;
        if (!whole) n = niz_tile_min(n, inner > 1 ? niz_tile_ceil(columns, inner) + 1 : columns);
        whole = whole || n > 1;
        int64_t extent = (n - 1) * p->step[d] + (p->w_size[d] - 1) * p->dilation[d] + 1;
        plane *= d == 2 ? niz_tile_ceil(extent, p->step[2]) * p->step[2] : extent;
    }
    return plane;
}

/* Terms of the sum that makes one output: what k counts through. */
static int64_t niz_conv_count_terms(const niz_conv_loop *l, const niz_conv_phase *p)
{
    return l->in * p->taps;
}

/* Channels that a block of k may touch. */
static int64_t niz_conv_channels(const niz_conv_loop *l, const niz_conv_phase *p)
{
    return niz_tile_min(l->in, (NIZ_TILE_K - 1) / p->taps + 2);
}

/* Chunks of even size, so that the last one is no small rest: whole images while they are small,
 * and then as many as make even shares for the threads. */
static void niz_conv_cut(const niz_conv_loop *l, niz_conv_phase *p)
{
    p->images = p->pieces = 1;
    p->piece = p->places;
    if (p->places > NIZ_TILE_COLS) {
        p->pieces = niz_tile_ceil(p->places, NIZ_TILE_COLS);
        p->piece = niz_tile_ceil(niz_tile_ceil(p->places, p->pieces), NIZ_TILE_MAX_NR);
        p->piece *= NIZ_TILE_MAX_NR;
        p->pieces = niz_tile_ceil(p->places, p->piece);
    } else if (p->places > 0) {
        bool any = niz_conv_count_terms(l, p) > 0;
        int64_t image = any ? niz_conv_plane(p, p->places) * niz_conv_channels(l, p) : 1;
        int64_t most = niz_tile_min(NIZ_TILE_COLS / p->places, NIZ_CONV_STAGE / image);
        int64_t chunks = niz_tile_ceil(l->batch, most > 1 ? most : 1);
        int64_t even = niz_tile_ceil(chunks, l->threads) * l->threads;
        if (l->batch * p->places >= even * NIZ_CONV_COLUMNS) chunks = even;
        p->images = niz_tile_ceil(l->batch, chunks > 0 ? chunks : 1);
    }
    p->chunks = niz_tile_ceil(l->batch, p->images > 0 ? p->images : 1) * p->pieces;
    if (p->places == 0) p->chunks = 0;
}

/* Units of rows: only where chunks are few, as each packs the chunk's panels anew. */
static void niz_conv_cut_rows(const niz_conv_loop *l, niz_conv_phase *p)
{
    int64_t all = p->chunks * l->groups;
    int64_t blocks = all > 0 ? niz_tile_ceil(NIZ_CONV_UNITS, all) : 1;
    blocks = niz_tile_min(blocks, niz_tile_ceil(l->out, NIZ_CONV_ROWS));
    p->rows = niz_tile_ceil(l->out, blocks > 0 ? blocks : 1);
    p->rows = niz_tile_ceil(p->rows, NIZ_TILE_MAX_R) * NIZ_TILE_MAX_R;
    p->row_blocks = p->rows > 0 ? niz_tile_ceil(l->out, p->rows) : 0;
}

static niz_conv_phase niz_conv_make_phase(const niz_conv_loop *l, int64_t number)
{
    niz_conv_phase p = {.taps = 1, .places = 1};
    int64_t y_stride = 1;
    for (int e = 0; e < 3; e++)
        p.x_size[e] = p.w_size[e] = p.y_size[e] = p.step[e] = p.dilation[e] = 1;
    for (int d = l->spatial - 1, e = 2; d >= 0; d--, e--) {
        int64_t period = niz_conv_period(l, d);
        p.y_stride[e] = y_stride;
        y_stride *= l->y_size[d];
        niz_conv_residue(l, d, number % period, &p, e);
        number /= period;
    }
    for (int e = 0; e < 3; e++) p.taps *= p.w_size[e], p.places *= p.y_size[e];
    niz_conv_cut(l, &p);
    niz_conv_cut_rows(l, &p);
    return p;
}

/* Whether a call first copies a group's weights so that the terms of a row lie side by side.  Such
 * rows are read where they are; others - turned around for a gradient of the input, or every Q-th
 * tap of a phase - would be packed for each chunk anew, element by element.  The copy is made once
 * for all chunks, so there must be several, and it must not drive them out of the cache.  Integers
 * read single weights in any case. */
static bool niz_conv_gathers(const niz_conv_loop *l, const niz_conv_phase *p)
{
    int64_t next = 1, weights = l->out * niz_conv_count_terms(l, p);
    bool side_by_side = true;
    for (int d = 2; d >= 0; next *= p->w_size[d--])
        side_by_side = side_by_side && (p->w_size[d] == 1 || p->w_stride[d] == next);
    side_by_side = side_by_side && (l->in == 1 || l->w_stride[2] == next);
    bool floating = l->dtype == NIZ_F32 || l->dtype == NIZ_F64;
    return floating && !side_by_side && weights <= NIZ_CONV_WEIGHTS && p->chunks >= NIZ_CONV_USES;
}

/* ---- a chunk's tables ------------------------------------------------------------------------ */

/* The box of output indices that the chunk's columns span. */
static niz_conv_region niz_conv_make_region(const niz_conv_loop *l, const niz_conv_phase *p,
                                            int64_t chunk)
{
    niz_conv_region r = {0};
    int64_t piece = chunk % p->pieces;
    r.image = chunk / p->pieces * p->images;
    r.images = niz_tile_min(p->images, l->batch - r.image);
    r.column = piece * p->piece;
    r.columns = p->places * r.images;
    if (p->pieces > 1) r.columns = niz_tile_min(p->piece, p->places - r.column);
    int64_t first = r.column, last = p->pieces > 1 ? first + r.columns - 1 : p->places - 1;
    int64_t inner = p->places;
    bool whole = false;
    r.plane = 1;
    for (int d = 0; d < 3; d++) {
        inner /= p->y_size[d];
        int64_t lo = whole ? 0 : first / inner, hi = whole ? p->y_size[d] - 1 : last / inner;
        whole = whole || lo != hi;
        first %= inner;
        last %= inner;
        r.from[d] = lo;
        r.extent[d] = (hi - lo) * p->step[d] + (p->w_size[d] - 1) * p->dilation[d] + 1;
    }
    r.extent[2] = niz_tile_ceil(r.extent[2], p->step[2]);
    r.plane = r.extent[0] * r.extent[1] * r.extent[2] * p->step[2];
    return r;
}

/* Where position q of the region lies in its plane. */
static int64_t niz_conv_place(const niz_conv_region *r, int64_t step, int64_t q0, int64_t q1,
                              int64_t q2)
{
    return ((q0 * r->extent[1] + q1) * step + q2 % step) * r->extent[2] + q2 / step;
}

/* Offsets of the chunk's columns in the stage and in y. */
static void niz_conv_columns(const niz_conv_call *c)
{
    const niz_conv_phase *p = c->phase;
    const niz_conv_region *r = &c->region;
    int64_t row = p->y_size[2], o[3] = {0}, image = r->image, place = r->column, base = 0;
    for (int64_t j = 0; j < r->columns; j++) {
        if (j == 0 || o[2] == row) {
            if (place == p->places) place = 0, image++, base += c->work->channels * r->plane;
            o[0] = place / (p->y_size[1] * row);
            o[1] = place / row % p->y_size[1];
            o[2] = place % row;
        }
        c->work->column[j] = base + niz_conv_place(r, p->step[2], (o[0] - r->from[0]) * p->step[0],
                                                   (o[1] - r->from[1]) * p->step[1],
                                                   (o[2] - r->from[2]) * p->step[2]);
        c->work->col_off[j] = image * c->image_y + p->y_offset + o[0] * p->y_stride[0] +
                              o[1] * p->y_stride[1] + o[2] * p->y_stride[2];
        o[2]++;
        place++;
    }
}

/* The columns' neighbours, a panel of nr at a time. */
static void niz_conv_find_runs(const niz_conv_work *w, int64_t columns, int64_t nr)
{
    niz_conv_run *run = w->runs;
    for (int64_t j = 0; j < columns; j++) {
        if (j % nr == 0) w->first_run[j / nr] = run - w->runs;
        if (j % nr && w->column[j] == w->column[j - 1] + 1) {
            run[-1].length++;
        } else {
            *run++ = (niz_conv_run){(int32_t)(j % nr), 1, w->column[j]};
        }
    }
    w->first_run[niz_tile_ceil(columns, nr)] = run - w->runs;
}

/* For the n terms from k0 on: where the weight lies, and the tap in a stage from `channel` on. */
static void niz_conv_find_terms(const niz_conv_call *c, int64_t k0, int64_t n, int64_t channel)
{
    const niz_conv_phase *p = c->phase;
    int64_t at = k0 / p->taps, i[3], rest = k0 % p->taps;
    i[0] = rest / (p->w_size[1] * p->w_size[2]);
    i[1] = rest / p->w_size[2] % p->w_size[1];
    i[2] = rest % p->w_size[2];
    for (int64_t k = 0; k < n; k++) {
        c->work->w_off[k] = c->gathered >= 0
                                ? k0 + k
                                : p->w_offset + at * c->loop->w_stride[2] + i[0] * p->w_stride[0] +
                                      i[1] * p->w_stride[1] + i[2] * p->w_stride[2];
        c->work->tap_off[k] = (at - channel) * c->region.plane +
                              niz_conv_place(&c->region, p->step[2], i[0] * p->dilation[0],
                                             i[1] * p->dilation[1], i[2] * p->dilation[2]);
        if (++i[2] < p->w_size[2]) continue;
        i[2] = 0;
        if (++i[1] < p->w_size[1]) continue;
        i[1] = 0;
        if (++i[0] < p->w_size[0]) continue;
        i[0] = 0;
        at++;
    }
}

/* ---- staging, packing, multiplying ----------------------------------------------------------- */

#define CONV_FLOATING 1
#define T float
#define NAME(f) NIZ_TILE_F32(f)
#include "exec/conv_body.h"
#undef T
#undef NAME
#define T double
#define NAME(f) NIZ_TILE_F64(f)
#include "exec/conv_body.h"
#undef T
#undef NAME
#undef CONV_FLOATING
#define CONV_FLOATING 0
#define T int32_t
#define NAME(f) NIZ_TILE_I32(f)
#include "exec/conv_body.h"
#undef T
#undef NAME
#define T int64_t
#define NAME(f) NIZ_TILE_I64(f)
#include "exec/conv_body.h"
#undef T
#undef NAME

/* Integers wrap, so their order is free and nobody waits for them: the definition, per output. */
#define NAIVE(T, U, NAME)                                                                          \
    static void NAME(niz_conv_naive)(const niz_conv_call *c, int64_t rows, niz_tile_y to)          \
    {                                                                                              \
        const niz_conv_phase *p = c->phase;                                                        \
        const niz_conv_work *w = c->work;                                                          \
        const niz_conv_loop *l = c->loop;                                                          \
        int64_t total = niz_conv_count_terms(l, p);                                                \
        NAME(niz_tile_zero)(&to, rows, c->region.columns);                                         \
        for (int64_t k0 = 0; k0 < total; k0 += NIZ_TILE_K) {                                       \
            int64_t n = niz_tile_min(NIZ_TILE_K, total - k0), channel = k0 / p->taps;              \
            NAME(niz_conv_stage)(c, channel, niz_tile_min(w->channels, l->in - channel));          \
            niz_conv_find_terms(c, k0, n, channel);                                                \
            for (int64_t i = 0; i < rows; i++)                                                     \
                for (int64_t j = 0; j < c->region.columns; j++) {                                  \
                    const T *x = (const T *)w->stage + w->column[j];                               \
                    const T *u = (const T *)(const void *)c->w + w->row_off[i];                    \
                    T *y = (T *)(void *)c->y + i * c->place_y + w->col_off[j];                     \
                    U sum = (U)*y;                                                                 \
                    for (int64_t k = 0; k < n; k++)                                                \
                        sum += (U)u[w->w_off[k]] * (U)x[w->tap_off[k]];                            \
                    *y = (T)sum;                                                                   \
                }                                                                                  \
        }                                                                                          \
    }
NAIVE(int32_t, uint32_t, NIZ_TILE_I32)
NAIVE(int64_t, uint64_t, NIZ_TILE_I64)

/* ---- units ----------------------------------------------------------------------------------- */

static size_t niz_conv_lay_out(const niz_conv_loop *l, const niz_conv_phase *p, char *base,
                               niz_conv_work *w)
{
    size_t size = niz_tile_size(l->dtype), word = sizeof(int64_t);
    int64_t columns = p->pieces > 1 ? p->piece : p->places * p->images;
    int64_t panels = niz_tile_ceil(columns, NIZ_TILE_MAX_NR) * NIZ_TILE_MAX_NR;
    int64_t terms = niz_conv_count_terms(l, p), k = niz_tile_min(NIZ_TILE_K, terms);
    char *at = base;
    w->channels = p->taps > 0 ? niz_conv_channels(l, p) : 0;
    w->term_run = p->dilation[2] == 1 && p->step[2] == 1 ? p->w_size[2] : 1;
    int64_t stage = 0;
    if (p->taps > 0 && p->places > 0)
        stage = p->images * w->channels * niz_conv_plane(p, niz_tile_min(columns, p->places));
    w->row_off = niz_tile_take(&at, niz_tile_min(p->rows * p->row_blocks, NIZ_TILE_ROWS), word);
    w->col_off = niz_tile_take(&at, columns, word);
    w->column = niz_tile_take(&at, columns, word);
    w->first_run = niz_tile_take(&at, columns + 1, word);
    w->runs = niz_tile_take(&at, columns, sizeof(niz_conv_run));
    w->w_off = niz_tile_take(&at, k, word);
    w->tap_off = niz_tile_take(&at, k, word);
    w->packed_rows = niz_tile_take(&at, k * NIZ_TILE_MAX_R, size);
    w->panels = niz_tile_take(&at, k * panels + NIZ_CONV_SLACK, size);
    w->stage = niz_tile_take(&at, stage + NIZ_CONV_SLACK, size);
    int64_t made = stage + NIZ_CONV_MADE; /* of a row at least what the stage takes of it */
    w->made = niz_tile_take(&at, l->made ? made : 0, size);
    w->weights = niz_conv_gathers(l, p) ? niz_tile_take(&at, l->out * terms, size) : NULL;
    int64_t depth = niz_tile_depth(terms);
    w->tile = niz_tile_take(&at, l->tiled ? depth * NIZ_TILE_STRIDE : 0, size);
    return (size_t)(at - base);
}

/* A chunk's columns are positions of several images: each image's are finished by themselves. */
typedef struct niz_conv_finish {
    niz_finish base;
    const niz_conv_call *call;
} niz_conv_finish;

static void niz_conv_finish_run(niz_finish *base, const void *tile, int64_t row, int64_t rows,
                                int64_t col, int64_t cols)
{
    const niz_conv_call *c = ((const niz_conv_finish *)base)->call;
    const char *at = tile;
    niz_finish *finish = c->fused->finish;
    int64_t size = (int64_t)niz_tile_size(c->loop->dtype), each = c->loop->groups * c->loop->out;
    for (int64_t image = c->region.image, n; cols > 0; image++, cols -= n, col = 0) {
        n = niz_tile_min(cols, c->phase->places - col);
        finish->run(finish, at, image * each + row, rows, col, n);
        at += n * size;
    }
}

static void niz_conv_gather(niz_conv_call *c, int64_t group)
{
    if (!c->work->weights || c->gathered == group) return;
    niz_conv_call all = *c;
    all.w += group * c->loop->w_stride[0] * (int64_t)niz_tile_size(c->loop->dtype);
    all.gathered = -1;
    if (c->loop->dtype == NIZ_F32)
        niz_conv_gather_weights_f32(&all);
    else
        niz_conv_gather_weights_f64(&all);
    c->gathered = group;
}

/* One chunk, rows [row, row_end), at most a table of them at a time. */
static void niz_conv_chunk(niz_conv_call *c, int64_t group, int64_t chunk, int64_t row,
                           int64_t row_end)
{
    const niz_conv_loop *l = c->loop;
    int64_t size = (int64_t)niz_tile_size(l->dtype);
    c->region = niz_conv_make_region(l, c->phase, chunk);
    niz_conv_columns(c);
    niz_conv_gather(c, group);
    int64_t terms = niz_conv_count_terms(l, c->phase);
    int64_t apart = c->gathered >= 0 ? terms : l->w_stride[1];
    for (int64_t rows; row < row_end; row += rows) {
        niz_conv_call part = *c;
        rows = niz_tile_min(niz_tile_rows(l->tiled, terms), row_end - row);
        part.x += group * l->x_stride[1] * size;
        part.group = group;
        part.w = c->gathered >= 0 ? c->work->weights : c->w + group * l->w_stride[0] * size;
        part.w += row * apart * size;
        part.y += (group * l->out + row) * c->place_y * size;
        for (int64_t i = 0; i < rows; i++) c->work->row_off[i] = i * apart;
        niz_conv_finish finish = {{niz_conv_finish_run}, c};
        niz_tile_y to = {
            .y = part.y, .row_stride = c->place_y, .col_off = c->work->col_off, .first = true};
        if (l->tiled)
            to = (niz_tile_y){.y = c->work->tile,
                              .row_stride = NIZ_TILE_STRIDE,
                              .first = true,
                              .finish = &finish.base,
                              .row = group * l->out + row,
                              .col = c->region.column};
        switch (l->dtype) {
        case NIZ_F32: niz_conv_rectangle_f32(&part, rows, to); break;
        case NIZ_F64: niz_conv_rectangle_f64(&part, rows, to); break;
        case NIZ_I32: niz_conv_naive_i32(&part, rows, to); break;
        case NIZ_I64: niz_conv_naive_i64(&part, rows, to); break;
        default: break;
        }
    }
}

/* Units [begin, end) of one phase: (group, chunk, block of rows), rows innermost and merged. */
static void niz_conv_units_of(niz_conv_call *c, int64_t begin, int64_t end)
{
    const niz_conv_phase *p = c->phase;
    while (begin < end) {
        int64_t block = begin % p->row_blocks, chunk = begin / p->row_blocks;
        int64_t n = niz_tile_min(p->row_blocks - block, end - begin);
        niz_conv_chunk(c, chunk / p->chunks, chunk % p->chunks, block * p->rows,
                       niz_tile_min((block + n) * p->rows, c->loop->out));
        begin += n;
    }
}

int64_t NIZ_ISA_NAME(niz_conv_units)(const niz_conv_loop *l)
{
    int64_t units = 0;
    for (int64_t i = 0; i < niz_conv_phases(l); i++) {
        niz_conv_phase p = niz_conv_make_phase(l, i);
        units += p.chunks * p.row_blocks * l->groups;
    }
    return units;
}

size_t NIZ_ISA_NAME(niz_conv_scratch)(const niz_conv_loop *l)
{
    size_t most = 0;
    for (int64_t i = 0; i < niz_conv_phases(l); i++) {
        niz_conv_phase p = niz_conv_make_phase(l, i);
        niz_conv_work w;
        size_t bytes = niz_conv_lay_out(l, &p, NULL, &w);
        if (bytes > most) most = bytes;
    }
    return most;
}

void NIZ_ISA_NAME(niz_conv_run)(const niz_conv_loop *l, const void *x, const void *w, void *y,
                                int64_t begin, int64_t end, void *scratch, const niz_fused *fused)
{
    int64_t places = 1, unit = 0;
    for (int d = 0; d < l->spatial; d++) places *= l->y_size[d];
    for (int64_t i = 0; unit < end; i++) {
        niz_conv_phase p = niz_conv_make_phase(l, i);
        niz_conv_work work;
        niz_conv_call c = {.loop = l,
                           .phase = &p,
                           .work = &work,
                           .x = x,
                           .w = w,
                           .y = y,
                           .image_y = l->groups * l->out * places,
                           .place_y = places,
                           .gathered = -1,
                           .fused = fused};
        int64_t next = unit + p.chunks * p.row_blocks * l->groups;
        if (begin < next) {
            niz_conv_lay_out(l, &p, scratch, &work);
            niz_conv_units_of(&c, (begin > unit ? begin : unit) - unit,
                              niz_tile_min(end, next) - unit);
        }
        unit = next;
    }
}
