/* live.c - what a run has to compute, and the key of its plan.
 *
 * The live part is renumbered from 0 in recording order, so the key does not depend on what else
 * was recorded.  Hashed are: of each node its signature (operation's name, attributes, dtype,
 * shape) and operands; which nodes are outputs.  Never addresses, data, seeds or learning rates.
 *
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "core/context.h"
#include "core/type.h"
#include "exec/exec.h"

niz_leaf_kind niz_live_leaf(const niz_recording *r, uint32_t id)
{
    const niz_node *n = &r->g.node[id];
    bool is_assign = n->flags & NIZ_NODE_ASSIGN;
    if (is_assign && r->param[n->attr[0]].pending == id && !r->hold_assignments)
        return NIZ_NOT_A_LEAF; /* to be committed, even if its value is known */
    if (n->data) return NIZ_LEAF_DATA;
    if (n->op == &niz_op_literal) return NIZ_LEAF_LITERAL;
    if (n->op == &niz_op_param) return NIZ_LEAF_PARAM;
    if (is_assign && r->param[n->attr[0]].version == n->version) return NIZ_LEAF_PARAM;
    return NIZ_NOT_A_LEAF;
}

/* ---- marking -------------------------------------------------------------------------------- */

bool niz_live_begin(niz *z, niz_live *live, uint32_t n)
{
    size_t before = live->epoch_capacity;
    if (!niz_grow(z, &live->number, sizeof *live->number, &live->number_capacity, n) ||
        !niz_grow(z, &live->epoch, sizeof *live->epoch, &live->epoch_capacity, n))
        return false;
    if (live->epoch_capacity > before)
        memset(live->epoch + before, 0, sizeof *live->epoch * (live->epoch_capacity - before));
    if (++live->now == 0) { /* once in four billion runs */
        memset(live->epoch, 0, sizeof *live->epoch * live->epoch_capacity);
        live->now = 1;
    }
    return true;
}

/* Marks what the outputs need; gives the first node that reads an overwritten version. */
static uint32_t niz_live_mark(const niz_recording *r, niz_live *live, const uint32_t *out, int n)
{
    const niz_node *nodes = r->g.node;
    uint32_t lowest = r->g.n, stale = NIZ_NONE, top = 0;
    uint32_t *epoch = live->epoch, now = live->now;
    size_t n_args = 0;
    for (int i = 0; i < n; i++) {
        epoch[out[i]] = now;
        if (out[i] < lowest) lowest = out[i];
        if (out[i] >= top) top = out[i] + 1;
    }
    for (uint32_t id = top; id-- > lowest;) {
        if (epoch[id] != now) continue;
        const niz_node *x = &nodes[id];
        if (niz_live_may_be_leaf(x)) {
            niz_leaf_kind leaf = niz_live_leaf(r, id);
            bool is_param = leaf == NIZ_LEAF_PARAM;
            if (is_param && x->version != r->param[x->attr[0]].version) stale = id;
            if (leaf != NIZ_NOT_A_LEAF) continue;
        }
        n_args += x->n_arg;
        for (int i = 0; i < x->n_arg; i++) {
            uint32_t arg = x->arg[i];
            epoch[arg] = now;
            if (arg < lowest) lowest = arg;
        }
    }
    live->lowest = n ? lowest : 0;
    live->top = top;
    live->n_args = n_args;
    return stale;
}

/* "acc at t.c:31 needs fc1.weight as it was before the update at t.c:29; ..." */
static bool niz_live_stale(niz_recording *r, niz_live *live)
{
    for (int i = 0; i < live->n_out; i++) {
        if (!niz_live_begin(r->z, live, r->g.n)) return false;
        uint32_t id = niz_live_mark(r, live, &live->out[i], 1);
        if (id == NIZ_NONE) continue;
        const niz_node *value = &r->g.node[live->out[i]];
        const niz_param *p = &r->param[r->g.node[id].attr[0]];
        char where[256], update[256];
        niz_place_text(value->place, where, sizeof where);
        niz_place_text(&(niz_place){p->updated_at, NULL, NULL}, update, sizeof update);
        if (!p->updated_at.file)
            niz_fail(r->z, (niz_at){0}, NIZ_E_VERSION,
                     "%s%s needs %s as it was before it was set from outside", value->op->name,
                     where, p->name);
        else
            niz_fail(r->z, (niz_at){0}, NIZ_E_VERSION,
                     "%s%s needs %s as it was before the update%s; read both at once: "
                     "NIZ_RUN(z, loss, it)",
                     value->op->name, where, p->name, update);
        return false;
    }
    return false;
}

/* ---- numbering, and what is hashed ---------------------------------------------------------- */

static uint32_t *niz_live_put(uint32_t *w, uint64_t v)
{
    memcpy(w, &v, sizeof v);
    return w + 2;
}

/* A leaf is the same leaf whatever computed it: only its type counts. */
static uint64_t niz_live_leaf_word(const niz_node *n, uint64_t kind)
{
    return XXH3_64bits_withSeed(n->shape->dim, sizeof(int64_t) * (size_t)n->shape->rank,
                                kind << 16 | (uint64_t)n->dtype << 8 | (uint64_t)n->shape->rank);
}

static uint64_t niz_live_word(const niz_node *n, niz_leaf_kind leaf, bool literals_as_data)
{
    switch (leaf) {
    case NIZ_LEAF_DATA: return niz_live_leaf_word(n, 1);
    case NIZ_LEAF_PARAM: return niz_live_leaf_word(n, 2 + 4 * (uint64_t)n->attr[0]);
    case NIZ_LEAF_LITERAL: return literals_as_data ? niz_live_leaf_word(n, 3) : n->sig;
    default: return n->sig;
    }
}

/* Notes a leaf's value, or which node it is. */
static bool niz_live_note(niz *z, niz_live *live, const niz_node *n, niz_leaf_kind leaf,
                          uint32_t number)
{
    if (leaf == NIZ_LEAF_LITERAL) {
        if (!niz_grow(z, &live->literal, sizeof *live->literal, &live->literal_capacity,
                      live->n_literals + 1))
            return false;
        live->literal[live->n_literals++] = number;
    } else if (leaf == NIZ_LEAF_DATA) {
        if (!niz_grow(z, &live->data, sizeof *live->data, &live->data_capacity, live->n_data + 1))
            return false;
        live->data[live->n_data++] = n->data;
    }
    return true;
}

/* One pass up from the lowest: each live node gets its number and puts its words, two of its
 * signature and one an operand.  Only locals in the loop, and few calls: it is most of what finding a
 * plan costs. */
static bool niz_live_number(niz_recording *r, niz_live *live)
{
    const niz_node *node = r->g.node;
    const uint32_t *epoch = live->epoch, now = live->now, top = live->top;
    uint32_t *number = live->number, *id_of = live->id, n = 0;
    uint32_t *w = live->words;
    for (uint32_t id = live->lowest; id < top; id++) {
        if (epoch[id] != now) continue;
        const niz_node *x = &node[id];
        const uint32_t *arg = x->arg;
        number[id] = n;
        id_of[n++] = id;
        if (niz_live_may_be_leaf(x)) {
            niz_leaf_kind leaf = niz_live_leaf(r, id);
            if (leaf != NIZ_NOT_A_LEAF) {
                w = niz_live_put(w, niz_live_word(x, leaf, false));
                if (!niz_live_note(r->z, live, x, leaf, n - 1)) return false;
                continue;
            }
        }
        w = niz_live_put(w, x->sig);
        for (int a = 0; a < x->n_arg; a++) w[a] = number[arg[a]];
        w += x->n_arg;
    }
    live->n = n;
    live->n_words = (size_t)(w - live->words);
    return true;
}

bool niz_live_find(niz_recording *r, niz_live *live)
{
    if (!niz_live_begin(r->z, live, r->g.n)) return false;
    if (niz_live_mark(r, live, live->out, live->n_out) != NIZ_NONE) return niz_live_stale(r, live);
    size_t nodes = live->top - live->lowest;
    size_t words = 2 * nodes + live->n_args + (size_t)live->n_out + 3;
    live->n_data = live->n_literals = 0;
    return niz_grow(r->z, &live->id, sizeof *live->id, &live->id_capacity, nodes) &&
           niz_grow(r->z, &live->words, sizeof *live->words, &live->word_capacity, words) &&
           niz_live_number(r, live);
}

/* ---- the key -------------------------------------------------------------------------------- */

/* Puts the words of the literals anew, with or without their values. */
static void niz_live_literals(const niz_recording *r, niz_live *live, bool as_data)
{
    uint32_t *w = live->words;
    size_t next = 0;
    for (uint32_t i = 0; i < live->n && next < live->n_literals; i++) {
        const niz_node *n = &r->g.node[live->id[i]];
        if (live->literal[next] == i) {
            niz_live_put(w, niz_live_word(n, NIZ_LEAF_LITERAL, as_data));
            next++;
        }
        w += 2 + (niz_live_leaf(r, live->id[i]) == NIZ_NOT_A_LEAF ? n->n_arg : 0);
    }
}

XXH128_hash_t niz_live_key(const niz_recording *r, niz_live *live, bool literals_as_data)
{
    uint32_t *w = live->words + live->n_words;
    if (literals_as_data) niz_live_literals(r, live, true);
    for (int i = 0; i < live->n_out; i++) *w++ = live->number[live->out[i]];
    *w++ = (uint32_t)live->n_want;
    *w++ = (uint32_t)live->n_out;
    *w++ = literals_as_data;
    XXH128_hash_t key = XXH3_128bits(live->words, sizeof *w * (size_t)(w - live->words));
    if (literals_as_data) niz_live_literals(r, live, false);
    return key;
}

void niz_live_free(niz *z, niz_live *live)
{
    niz_free(z, live->number);
    niz_free(z, live->epoch);
    niz_free(z, live->id);
    niz_free(z, live->data);
    niz_free(z, live->literal);
    niz_free(z, live->words);
    niz_free(z, live->out);
}
