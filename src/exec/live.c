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
    bool is_assign = n->op == &niz_op_assign;
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
    uint32_t lowest = r->g.n, stale = NIZ_NONE, top = 0;
    for (int i = 0; i < n; i++) {
        live->epoch[out[i]] = live->now;
        if (out[i] < lowest) lowest = out[i];
        if (out[i] >= top) top = out[i] + 1;
    }
    for (uint32_t id = top; id-- > lowest;) {
        if (!niz_live_has(live, id)) continue;
        const niz_node *node = &r->g.node[id];
        niz_leaf_kind leaf = niz_live_leaf(r, id);
        if (leaf == NIZ_LEAF_PARAM && node->version != r->param[node->attr[0]].version) stale = id;
        if (leaf != NIZ_NOT_A_LEAF) continue;
        for (int i = 0; i < node->n_arg; i++) {
            live->epoch[node->arg[i]] = live->now;
            if (node->arg[i] < lowest) lowest = node->arg[i];
        }
    }
    live->lowest = lowest;
    live->top = top;
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

static bool niz_live_push(niz *z, uint32_t **list, size_t *n, size_t *capacity, uint32_t v)
{
    if (!niz_grow(z, list, sizeof **list, capacity, *n + 1)) return false;
    (*list)[(*n)++] = v;
    return true;
}

static bool niz_live_number(niz_recording *r, niz_live *live)
{
    live->n = live->n_data = live->n_literals = 0;
    for (uint32_t id = live->lowest; id < live->top; id++) {
        if (!niz_live_has(live, id)) continue;
        live->number[id] = (uint32_t)live->n;
        niz_leaf_kind leaf = niz_live_leaf(r, id);
        if (!niz_live_push(r->z, &live->id, &live->n, &live->id_capacity, id)) return false;
        if (leaf == NIZ_LEAF_LITERAL &&
            !niz_live_push(r->z, &live->literal, &live->n_literals, &live->literal_capacity,
                           (uint32_t)live->n - 1))
            return false;
        if (leaf != NIZ_LEAF_DATA) continue;
        if (!niz_grow(r->z, &live->data, sizeof *live->data, &live->data_capacity,
                      live->n_data + 1))
            return false;
        live->data[live->n_data++] = r->g.node[id].data;
    }
    return true;
}

bool niz_live_find(niz_recording *r, niz_live *live)
{
    if (!niz_live_begin(r->z, live, r->g.n)) return false;
    if (niz_live_mark(r, live, live->out, live->n_out) != NIZ_NONE) return niz_live_stale(r, live);
    if (!niz_live_number(r, live)) return false;
    /* words for the key: at most two of a signature, one an operand, the outputs */
    size_t words = 4 + (size_t)live->n_out;
    for (size_t i = 0; i < live->n; i++) words += 2u + r->g.node[live->id[i]].n_arg;
    return niz_grow(r->z, &live->words, sizeof *live->words, &live->word_capacity, words);
}

/* ---- the key -------------------------------------------------------------------------------- */

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

XXH128_hash_t niz_live_key(const niz_recording *r, niz_live *live, bool literals_as_data)
{
    uint32_t *w = live->words;
    for (size_t i = 0; i < live->n; i++) {
        const niz_node *n = &r->g.node[live->id[i]];
        switch (niz_live_leaf(r, live->id[i])) {
        case NIZ_LEAF_DATA: w = niz_live_put(w, niz_live_leaf_word(n, 1)); continue;
        case NIZ_LEAF_PARAM:
            w = niz_live_put(w, niz_live_leaf_word(n, 2 + 4 * (uint64_t)n->attr[0]));
            continue;
        case NIZ_LEAF_LITERAL:
            w = niz_live_put(w, literals_as_data ? niz_live_leaf_word(n, 3) : n->sig);
            continue;
        default: break;
        }
        w = niz_live_put(w, n->sig);
        for (int a = 0; a < n->n_arg; a++) *w++ = live->number[n->arg[a]];
    }
    for (int i = 0; i < live->n_out; i++) *w++ = live->number[live->out[i]];
    *w++ = (uint32_t)live->n_want;
    *w++ = (uint32_t)live->n_out;
    *w++ = literals_as_data;
    return XXH3_128bits(live->words, sizeof *w * (size_t)(w - live->words));
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
