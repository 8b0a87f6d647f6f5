/* schedule.c - a topological order that keeps little memory alive.
 *
 * Two orders are made and the one with the lower peak is taken: the recorded one, which for a
 * training step is already good (forward, backward, updates), and a greedy one that prefers nodes
 * which free more than they allocate.  Views have no place of their own in the order: each stands
 * before its first reader.
 *
 * An assignment's value may be written straight into the parameter if everything that reads the old
 * version, and everything that may fail, comes first.  These edges are added wherever the recorded
 * order has them, so they never close a cycle.
 *
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "passes/pass.h"

/* Of each node, by id.  Only "computed" nodes (neither view nor leaf) are ordered. */
typedef struct niz_sched {
    niz *z;
    const niz_work *in;
    niz_layout_of *layout;
    uint32_t *first_user, *user;     /* users of node i: user[first_user[i] .. first_user[i+1]-1] */
    uint32_t *waits;                 /* operands (and extra edges) not yet scheduled */
    uint32_t *readers;               /* users not yet scheduled */
    bool *pinned;                    /* an output: never freed */
    bool *held;                      /* waits until all that may fail is done */
    uint32_t failing;                /* how many of those are left */
    uint32_t *extra_to, *extra_from; /* edges from -> to beyond the operands */
    size_t n_extra, extra_capacity, from_capacity;
    uint32_t *heap;
    int64_t *delta; /* bytes that scheduling the node adds */
    uint32_t n_heap;
    size_t heap_capacity;
} niz_sched;

static bool niz_sched_computed(const niz_sched *s, uint32_t id)
{
    niz_form form = niz_op_form(s->in->g.node[id].op);
    return form != NIZ_FORM_VIEW && form != NIZ_FORM_LEAF;
}

/* ---- edges ---------------------------------------------------------------------------------- */

static bool niz_sched_edge(niz_sched *s, uint32_t from, uint32_t to)
{
    if (!niz_grow(s->z, &s->extra_to, sizeof *s->extra_to, &s->extra_capacity, s->n_extra + 1) ||
        !niz_grow(s->z, &s->extra_from, sizeof *s->extra_from, &s->from_capacity, s->n_extra + 1))
        return false;
    s->extra_from[s->n_extra] = from;
    s->extra_to[s->n_extra++] = to;
    return true;
}

/* Before value is written into parameter `index`: whoever reads the old version.  And whatever may
 * fail, for which the value is held back; that closes no cycle if all of those are recorded first.
 */
static bool niz_sched_guard(niz_sched *s, const niz_reads *reads, uint32_t value, int64_t index)
{
    uint32_t last = NIZ_NONE;
    for (uint32_t r = reads->first[index]; r != NIZ_NONE; r = reads->read[r].next) {
        uint32_t reader = reads->read[r].reader;
        if (reader >= value || reader == last) continue;
        if (!niz_sched_edge(s, reader, value)) return false;
        last = reader;
    }
    if (reads->last_failing != NIZ_NONE && reads->last_failing < value && !s->held[value]) {
        s->held[value] = true;
        s->waits[value]++;
    }
    return true;
}

static bool niz_sched_guards(niz_sched *s)
{
    niz_reads reads;
    if (!niz_reads_find(s->in, s->layout, &reads)) return false;
    bool ok = true;
    for (int i = s->in->n_want; i < s->in->n_out && ok; i++) {
        const niz_node *a = &s->in->g.node[s->in->out[i]];
        uint32_t value = s->layout[s->in->out[i]].root;
        if (niz_sched_computed(s, value)) ok = niz_sched_guard(s, &reads, value, a->attr[0]);
    }
    niz_reads_free(s->z, &reads);
    for (uint32_t id = 0; id < s->in->g.n; id++)
        s->failing += niz_sched_computed(s, id) && s->in->g.node[id].op->may_fail;
    return ok;
}

/* Calls count or fill for every edge (from a computed root to a computed user). */
static void niz_sched_each(niz_sched *s, bool fill)
{
    const niz_graph *g = &s->in->g;
    for (uint32_t id = 0; id < g->n; id++)
        for (int i = 0; niz_sched_computed(s, id) && i < g->node[id].n_arg; i++) {
            uint32_t root = s->layout[g->node[id].arg[i]].root;
            if (!niz_sched_computed(s, root)) continue;
            if (fill)
                s->user[s->first_user[root]++] = id;
            else
                s->first_user[root + 1]++, s->waits[id]++;
        }
    for (size_t e = 0; e < s->n_extra; e++)
        if (fill)
            s->user[s->first_user[s->extra_from[e]]++] = s->extra_to[e];
        else
            s->first_user[s->extra_from[e] + 1]++, s->waits[s->extra_to[e]]++;
}

static bool niz_sched_edges(niz_sched *s)
{
    uint32_t n = s->in->g.n;
    niz_sched_each(s, false);
    for (uint32_t i = 0; i < n; i++) s->first_user[i + 1] += s->first_user[i];
    s->user = niz_realloc(s->z, NULL, sizeof *s->user * ((size_t)s->first_user[n] + 1));
    if (!s->user) return false;
    niz_sched_each(s, true);
    memmove(s->first_user + 1, s->first_user,
            sizeof *s->first_user * n); /* filling moved them on */
    s->first_user[0] = 0;
    return true;
}

/* ---- memory --------------------------------------------------------------------------------- */

static int64_t niz_sched_bytes(const niz_sched *s, uint32_t id)
{
    return s->pinned[id] ? 0 : (int64_t)niz_node_bytes(&s->in->g.node[id]);
}

static void niz_sched_readers(niz_sched *s)
{
    for (uint32_t id = 0; id < s->in->g.n; id++)
        s->readers[id] = s->first_user[id + 1] - s->first_user[id];
    for (size_t e = 0; e < s->n_extra; e++) s->readers[s->extra_from[e]]--; /* these read nothing */
}

/* What scheduling id frees: roots of which it holds all remaining reads. */
static int64_t niz_sched_frees(const niz_sched *s, uint32_t id)
{
    const niz_node *n = &s->in->g.node[id];
    int64_t bytes = 0;
    for (int i = 0; i < n->n_arg; i++) {
        uint32_t root = s->layout[n->arg[i]].root, mine = 0;
        bool seen = false;
        if (!niz_sched_computed(s, root)) continue;
        for (int j = 0; j < n->n_arg; j++) {
            if (s->layout[n->arg[j]].root != root) continue;
            mine++;
            seen = seen || j < i;
        }
        if (!seen && s->readers[root] == mine) bytes += niz_sched_bytes(s, root);
    }
    return bytes;
}

static void niz_sched_read(niz_sched *s, uint32_t id)
{
    const niz_node *n = &s->in->g.node[id];
    for (int i = 0; i < n->n_arg; i++)
        if (niz_sched_computed(s, s->layout[n->arg[i]].root))
            s->readers[s->layout[n->arg[i]].root]--;
}

/* Bytes alive at the worst moment of an order. */
static int64_t niz_sched_peak(niz_sched *s, const uint32_t *order, uint32_t n)
{
    int64_t live = 0, peak = 0;
    niz_sched_readers(s);
    for (uint32_t i = 0; i < n; i++) {
        live += niz_sched_bytes(s, order[i]);
        if (live > peak) peak = live;
        live -= niz_sched_frees(s, order[i]);
        niz_sched_read(s, order[i]);
    }
    return peak;
}

/* ---- the greedy order: a heap of ready nodes ------------------------------------------------- */

/* Nodes that free at least what they take come first, the best of them foremost; the rest stay in
 * recorded order, which keeps related nodes together. */
static bool niz_sched_before(const niz_sched *s, uint32_t a, uint32_t b)
{
    int64_t p = s->delta[a] < 0 ? s->delta[a] : 0, q = s->delta[b] < 0 ? s->delta[b] : 0;
    return p != q ? p < q : a < b;
}

static void niz_sched_push(niz_sched *s, uint32_t id)
{
    uint32_t i = s->n_heap++;
    for (; i && niz_sched_before(s, id, s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = id;
}

static uint32_t niz_sched_pop(niz_sched *s)
{
    uint32_t top = s->heap[0], last = s->heap[--s->n_heap], i = 0;
    for (uint32_t c; (c = 2 * i + 1) < s->n_heap; i = c) {
        if (c + 1 < s->n_heap && niz_sched_before(s, s->heap[c + 1], s->heap[c])) c++;
        if (!niz_sched_before(s, s->heap[c], last)) break;
        s->heap[i] = s->heap[c];
    }
    s->heap[i] = last;
    return top;
}

static void niz_sched_ready(niz_sched *s, uint32_t id)
{
    s->delta[id] = niz_sched_bytes(s, id) - niz_sched_frees(s, id);
    niz_sched_push(s, id);
}

static void niz_sched_release(niz_sched *s)
{
    for (uint32_t id = 0; id < s->in->g.n; id++)
        if (s->held[id] && --s->waits[id] == 0) niz_sched_ready(s, id);
}

static uint32_t niz_sched_greedy(niz_sched *s, uint32_t *order)
{
    uint32_t n = 0;
    niz_sched_readers(s);
    for (uint32_t id = 0; id < s->in->g.n; id++)
        if (niz_sched_computed(s, id) && !s->waits[id]) niz_sched_ready(s, id);
    while (s->n_heap) {
        uint32_t id = order[n++] = niz_sched_pop(s);
        niz_sched_read(s, id);
        if (s->in->g.node[id].op->may_fail && --s->failing == 0) niz_sched_release(s);
        for (uint32_t u = s->first_user[id]; u < s->first_user[id + 1]; u++)
            if (--s->waits[s->user[u]] == 0) niz_sched_ready(s, s->user[u]);
    }
    return n;
}

/* ---- output --------------------------------------------------------------------------------- */

/* Nodes of the output, each after the leaves and views that it reads. */
static void niz_sched_emit(niz_rebuild *b, uint32_t id, uint32_t *stack)
{
    uint32_t n = 0;
    for (stack[n++] = id; n && !b->failed;) {
        uint32_t now = stack[n - 1];
        const niz_node *node = &b->in->g.node[now];
        bool waits = false;
        for (int i = 0; i < node->n_arg && !waits; i++)
            if (b->map[node->arg[i]] == NIZ_NONE) {
                stack[n++] = node->arg[i];
                waits = true;
            }
        if (waits) continue;
        b->map[now] = niz_rebuild_copy(b, now);
        n--;
    }
}

static bool niz_sched_arrays(niz_sched *s)
{
    uint32_t n = s->in->g.n + 2;
    s->layout = niz_realloc(s->z, NULL, sizeof *s->layout * n);
    s->first_user = niz_realloc(s->z, NULL, sizeof *s->first_user * n);
    s->waits = niz_realloc(s->z, NULL, sizeof *s->waits * n);
    s->readers = niz_realloc(s->z, NULL, sizeof *s->readers * n);
    s->pinned = niz_realloc(s->z, NULL, n);
    s->held = niz_realloc(s->z, NULL, n);
    s->heap = niz_realloc(s->z, NULL, sizeof *s->heap * n);
    s->delta = niz_realloc(s->z, NULL, sizeof *s->delta * n);
    if (!s->layout || !s->first_user || !s->waits || !s->readers || !s->pinned || !s->held ||
        !s->heap || !s->delta)
        return false;
    memset(s->first_user, 0, sizeof *s->first_user * n);
    memset(s->waits, 0, sizeof *s->waits * n);
    memset(s->pinned, 0, n);
    memset(s->held, 0, n);
    for (uint32_t id = 0; id < s->in->g.n; id++) niz_view_of(&s->in->g, id, s->layout);
    for (int i = 0; i < s->in->n_out; i++) s->pinned[s->layout[s->in->out[i]].root] = true;
    return true;
}

static void niz_sched_free(niz_sched *s)
{
    void *all[] = {s->layout, s->first_user, s->user,  s->waits,    s->readers,   s->pinned,
                   s->held,   s->heap,       s->delta, s->extra_to, s->extra_from};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) niz_free(s->z, all[i]);
}

/* order[0] recorded, order[1] greedy: the better one, and its length in *n. */
static const uint32_t *niz_sched_choose(niz_sched *s, uint32_t *recorded, uint32_t *greedy,
                                        uint32_t *n)
{
    *n = 0;
    for (uint32_t id = 0; id < s->in->g.n; id++)
        if (niz_sched_computed(s, id)) recorded[(*n)++] = id;
    niz_sched_greedy(s, greedy);
    return niz_sched_peak(s, greedy, *n) < niz_sched_peak(s, recorded, *n) ? greedy : recorded;
}

bool niz_schedule(const niz_pass_env *env, const niz_work *in, niz_work *out)
{
    niz_sched s = {.z = env->z, .in = in};
    niz_rebuild b;
    uint32_t n, count = in->g.n + 1;
    if (!niz_rebuild_begin(&b, in, out, false)) return false;
    uint32_t *orders = niz_realloc(env->z, NULL, sizeof *orders * count * 3);
    if (orders && niz_sched_arrays(&s) && niz_sched_guards(&s) && niz_sched_edges(&s)) {
        const uint32_t *order = niz_sched_choose(&s, orders, orders + count, &n);
        uint32_t *stack = orders + 2 * count;
        for (uint32_t i = 0; i < n && !b.failed; i++) niz_sched_emit(&b, order[i], stack);
        for (int i = 0; i < in->n_out && !b.failed; i++)
            if (b.map[in->out[i]] == NIZ_NONE) niz_sched_emit(&b, in->out[i], stack);
    } else {
        b.failed = true;
    }
    niz_free(env->z, orders);
    niz_sched_free(&s);
    return niz_rebuild_end(&b);
}
