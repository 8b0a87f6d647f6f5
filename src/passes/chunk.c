/* chunk.c - small values: which may stand in straight-line code, and where that code is cut.
 *
 * Thousands of nodes of a few elements each (scalars, an unrolled recurrence) are computed by
 * kernels without loops.  A kernel may not grow without bound, since the compiler's time must stay
 * linear; and where a graph repeats itself, so should the cuts, for then the pieces have the same
 * text and are compiled once.  So a cut depends on what stands around it and never on a count from
 * the beginning: of all places between the least and the greatest size the one with the highest
 * hash of the nodes before it is taken.  After a few pieces the cuts fall at the same places of
 * each period, whatever its length.
 *
 * SPDX-License-Identifier: MIT */
#include "passes/fuse.h"

#include <string.h>

#include "core/hash.h"
#include "core/type.h"

/* Operations of one kernel: gcc takes about 0.1 ms for each. */
#define NIZ_CHUNK_LEAST 400
#define NIZ_CHUNK_MOST 800
/* Nodes whose hashes make a place's, and how far back an operand's place counts as its shape. */
#define NIZ_CHUNK_WINDOW 8
#define NIZ_CHUNK_NEAR 32

/* ---- which ----------------------------------------------------------------------------------- */

static bool niz_chunk_is_small(const niz_shape *s)
{
    int64_t n = niz_shape_count(s);
    return n >= 1 && n <= NIZ_CHUNK_WIDTH;
}

bool niz_chunk_is_single(const niz_view *v)
{
    for (int d = 0; d < v->shape.rank; d++)
        if (v->shape.dim[d] != 1 && v->stride[d]) return false;
    return true;
}

/* Its elements side by side in order, wherever the first lies. */
static bool niz_chunk_is_line(const niz_view *v)
{
    niz_view from_start = *v;
    from_start.offset = 0;
    return niz_view_is_contiguous(&from_start);
}

/* All elements in order, or one value for all. */
static bool niz_chunk_can_read(const niz_view *v, int64_t count)
{
    return niz_chunk_is_single(v) || (niz_chunk_is_line(v) && niz_shape_count(&v->shape) == count);
}

static bool niz_chunk_can(const niz_work *w, const niz_layout_of *layout, uint32_t id)
{
    const niz_node *n = &w->g.node[id];
    int64_t count = niz_shape_count(n->shape);
    niz_form form = niz_op_form(n->op);
    if (!niz_chunk_is_small(n->shape) || n->n_arg > 4) return false;
    if (form == NIZ_FORM_REDUCE) {
        const niz_shape *s = w->g.node[n->arg[0]].shape;
        if (n->op->combine > NIZ_COMBINE_MIN || count != 1 || !niz_chunk_is_small(s) ||
            s->dim[n->attr[0]] != niz_shape_count(s))
            return false;
        count = niz_shape_count(s);
    } else if (form != NIZ_FORM_MAP || !n->op->map) {
        return false;
    }
    niz_dtype dtype;
    if (!niz_fuse_dtypes(&w->g, n, &dtype)) return false;
    bool numbers =
        n->n_arg > 0; /* of nothing else: as part of a text, another 1 / batch another text */
    for (int i = 0; i < n->n_arg; i++) {
        if (!niz_chunk_can_read(&layout[n->arg[i]].view, count)) return false;
        numbers = numbers && w->g.node[layout[n->arg[i]].root].op == &niz_op_literal;
    }
    return !numbers;
}

bool niz_chunks_mark(niz *z, const niz_work *w, const niz_layout_of *layout, niz_chunks *c)
{
    *c = (niz_chunks){0};
    size_t n = (size_t)w->g.n + 1;
    c->ordinal = niz_realloc(z, NULL, sizeof *c->ordinal * n);
    c->at = niz_realloc(z, NULL, sizeof *c->at * n);
    c->hash = niz_realloc(z, NULL, sizeof *c->hash * n);
    if (!c->ordinal || !c->at || !c->hash) return false;
    for (uint32_t id = 0; id < w->g.n; id++)
        c->ordinal[id] = niz_chunk_can(w, layout, id) ? 0 : NIZ_NONE;
    return true;
}

void niz_chunks_free(niz *z, niz_chunks *c)
{
    niz_free(z, c->ordinal);
    niz_free(z, c->at);
    niz_free(z, c->hash);
    *c = (niz_chunks){0};
}

/* ---- where ----------------------------------------------------------------------------------- */

/* What makes this node like those at the same place of other periods.  The hash is the same in
 * every process: kernels are found again on disk. */
static uint64_t niz_chunk_hash(const niz_chunks *c, const niz_work *w, const niz_layout_of *layout,
                               uint32_t id)
{
    const niz_node *n = &w->g.node[id];
    uint64_t word[4 + NIZ_MAX_RANK] = {n->dtype, (uint64_t)niz_shape_count(n->shape)};
    int k = 2;
    for (int i = 0; i < n->n_arg; i++) {
        uint32_t root = layout[n->arg[i]].root, from = c->ordinal[root];
        uint32_t back = from == NIZ_NONE ? NIZ_NONE : c->ordinal[id] - from;
        word[k++] = back <= NIZ_CHUNK_NEAR ? back : w->g.node[root].op == &niz_op_literal ? 64 : 65;
    }
    uint64_t seed = XXH3_64bits(n->op->name, strlen(n->op->name));
    return XXH3_64bits_withSeed(word, sizeof *word * (size_t)k, seed);
}

static uint32_t niz_chunk_weight(const niz_node *n)
{
    return n->op->map ? 1 + (uint32_t)strlen(n->op->map) / 16 : 4;
}

void niz_chunks_number(const niz_work *w, const niz_layout_of *layout, const uint8_t *first,
                       niz_chunks *c)
{
    uint32_t at = 0;
    for (int round = 0; round < 2; round++)
        for (uint32_t id = 0; id < w->g.n; id++) {
            if (c->ordinal[id] == NIZ_NONE || first[id] == (round == 1)) continue;
            c->ordinal[id] = c->n;
            c->at[c->n] = at;
            c->hash[c->n++] = niz_chunk_hash(c, w, layout, id);
            at += niz_chunk_weight(&w->g.node[id]);
        }
    c->at[c->n] = at;
}

/* The hash of the nodes right before a place. */
static uint64_t niz_chunk_place(const niz_chunks *c, uint32_t ordinal)
{
    uint64_t h = 0;
    for (uint32_t i = 1; i <= NIZ_CHUNK_WINDOW && i <= ordinal; i++)
        h = (h ^ c->hash[ordinal - i]) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

/* Where a kernel that begins with node `first` ends. */
static uint32_t niz_chunks_cut(const niz_chunks *c, uint32_t first)
{
    uint32_t cut = first + 1;
    uint64_t best = 0;
    for (uint32_t i = cut; i <= c->n && c->at[i] - c->at[first] < NIZ_CHUNK_MOST; i++) {
        bool small = c->at[i] - c->at[first] < NIZ_CHUNK_LEAST;
        uint64_t h = small ? 0 : niz_chunk_place(c, i);
        if (small || h > best) cut = i;
        if (h > best) best = h;
    }
    return cut;
}

bool niz_chunks_reach(const niz_chunks *c, uint32_t first, uint32_t ordinal, uint32_t *cut)
{
    if (ordinal < first || c->at[ordinal] - c->at[first] < NIZ_CHUNK_LEAST) return true;
    if (*cut == NIZ_NONE) *cut = niz_chunks_cut(c, first);
    return ordinal < *cut;
}
