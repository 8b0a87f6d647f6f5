/* plan.c - making plans, and finding them again.
 *
 * A step of a form seen before costs its recording and one look-up: the cache is keyed by the
 * XXH3-128 of the normalised live part.  A form met again with other literals gets a plan in which
 * the literals are data, so that a loop which puts a changing C number into the graph plans twice
 * and no more.  The cache holds so many nodes over all plans; the least recently used go first.
 *
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "core/context.h"
#include "exec/profile.h"

#define NIZ_PLAN_NODES 200000 /* default bound of the cache: about 1 kB a node */
#define NIZ_PLAN_BASE 16      /* what a plan counts for beside its nodes */
#define NIZ_PLAN_CHUNK 1024   /* bytes of a small plan's arena */

/* ---- from the live part to a graph ---------------------------------------------------------- */

static bool niz_plan_node(const niz_recording *r, const niz_live *live, uint32_t i, niz_work *w,
                          bool literals_as_data, int64_t *data, int64_t *literal)
{
    const niz_node *n = &r->g.node[live->id[i]];
    niz_node_spec s = {n->op,    0,        NULL, niz_node_attrs(n), (niz_dtype)n->dtype,
                       n->shape, n->place, true};
    uint32_t arg[NIZ_MAX_ARITY];
    int64_t slot;
    switch (niz_live_leaf(r, live->id[i])) {
    case NIZ_LEAF_DATA:
        slot = (*data)++;
        s.op = &niz_op_data;
        s.attr = (niz_attrs){1, &slot};
        break;
    case NIZ_LEAF_PARAM: s.op = &niz_op_param; break;
    case NIZ_LEAF_LITERAL:
        slot = (int64_t)live->n_data + (*literal)++;
        if (!literals_as_data) break;
        s.op = &niz_op_data;
        s.attr = (niz_attrs){1, &slot};
        break;
    default:
        s.n = n->n_arg;
        for (int a = 0; a < n->n_arg; a++) arg[a] = live->number[n->arg[a]];
        s.arg = arg;
    }
    uint32_t id = niz_graph_add(&w->g, &s);
    if (id == NIZ_NONE) return false;
    w->g.node[id].origin = i;
    return true;
}

bool niz_plan_work(niz_exec *e, niz_recording *r, bool literals_as_data, niz_work *w,
                   niz_pass_count *count)
{
    const niz_live *live = &e->live;
    int64_t data = 0, literal = 0;
    niz_work_init(w, r);
    w->n_out = live->n_out;
    w->n_want = live->n_want;
    w->out = niz_realloc(e->z, NULL, sizeof *w->out * (size_t)(live->n_out + 1));
    bool ok = w->out != NULL;
    for (uint32_t i = 0; i < live->n && ok; i++)
        ok = niz_plan_node(r, live, i, w, literals_as_data, &data, &literal);
    for (int i = 0; i < live->n_out && ok; i++) w->out[i] = live->number[live->out[i]];
    if (!ok) {
        niz_work_free(w);
        return false;
    }
    return niz_pipeline_run(&(niz_pass_env){e->z, r, niz_fold}, w, count);
}

/* The number of the outermost step: initial values are computed in a step within it. */
static int64_t niz_plan_step(const niz_recording *r)
{
    return r->n_frames > 1 ? r->frame[1].running : r->running;
}

/* compile: now, and not when it is met again. */
static niz_plan *niz_plan_make(niz_exec *e, niz_recording *r, XXH128_hash_t key, XXH128_hash_t form,
                               bool literals_as_data, bool compile)
{
    niz_work w;
    niz_placement place;
    niz_pass_count count[NIZ_MAX_PASSES];
    niz_plan *p = niz_realloc(e->z, NULL, sizeof *p);
    if (!p) return NULL;
    double begin = e->profile ? niz_profile_now(e->profile) : 0;
    *p = (niz_plan){.key = key,
                    .form = form,
                    .literals_as_data = literals_as_data,
                    .made = niz_plan_step(r),
                    .nodes = (int64_t)e->live.n + NIZ_PLAN_BASE};
    niz_arena_init(&p->arena, e->z);
    p->arena.smallest = NIZ_PLAN_CHUNK;
    bool ok = niz_plan_work(e, r, literals_as_data, &w, count);
    if (ok) niz_stats_add(e, count);
    if (ok) {
        ok = niz_place_all(&(niz_pass_env){e->z, r, NULL}, &w, NULL, !e->z->options.trap_nan,
                           &place);
        if (ok) {
            ok = niz_lower(e, p, &p->interpreted, &w, &place, NULL);
            niz_placement_free(e->z, &place);
        }
        ok = ok && (!compile || niz_jit_make(e, p, &w));
        niz_work_free(&w);
    }
    niz_profile_span(e->profile, "plan made", begin);
    if (ok && !e->z->status) return p;
    niz_plan_free(e, p);
    return NULL;
}

/* So often a plan must be met within the step that made it: more often than most models have layers
 * of one shape, which one plan initialises, and soon reached by a loop without steps. */
#define NIZ_PLAN_OFTEN 16

/* Whether a plan that is met again is now worth compiling: in another step it is, as initialisation
 * and other plans of one run are met in the step that made them only; there meetings are counted.
 */
static bool niz_plan_met_enough(const niz_recording *r, niz_plan *p)
{
    return p->made != niz_plan_step(r) || ++p->met >= NIZ_PLAN_OFTEN;
}

static bool niz_plan_compile(niz_exec *e, niz_recording *r, niz_plan *p)
{
    niz_work w;
    niz_pass_count count[NIZ_MAX_PASSES];
    if (!e->jit || p->tried || !niz_plan_met_enough(r, p)) return true;
    bool ok = niz_plan_work(e, r, p->literals_as_data, &w, count);
    if (ok) {
        ok = niz_jit_make(e, p, &w) && !e->z->status;
        niz_work_free(&w);
    }
    return ok;
}

void niz_plan_free(niz_exec *e, niz_plan *p)
{
    niz_jit_drop(e, p);
    niz_free(e->z, p->interpreted.task);
    niz_free(e->z, p->compiled.task);
    niz_arena_free(&p->arena);
    niz_free(e->z, p);
}

niz_plan *niz_plan_own(niz_exec *e, niz_recording *r)
{
    XXH128_hash_t key = niz_live_key(r, &e->live, false);
    e->z->stats.plans_made++;
    return niz_plan_make(e, r, key, key, false, e->jit != NULL); /* no cache will meet it again */
}

/* ---- the cache ------------------------------------------------------------------------------ */

/* The list by last use: e->newest ... e->oldest. */
static void niz_plan_unlink(niz_exec *e, niz_plan *p)
{
    *(p->newer ? &p->newer->older : &e->newest) = p->older;
    *(p->older ? &p->older->newer : &e->oldest) = p->newer;
}

static void niz_plan_link(niz_exec *e, niz_plan *p)
{
    p->older = e->newest;
    p->newer = NULL;
    *(e->newest ? &e->newest->newer : &e->oldest) = p;
    e->newest = p;
}

static niz_plan *niz_plan_find(niz_exec *e, XXH128_hash_t key)
{
    niz_plan *p = e->bucket[key.low64 % NIZ_PLAN_BUCKETS];
    while (p && !XXH128_isEqual(p->key, key)) p = p->next;
    if (p) {
        niz_plan_unlink(e, p);
        niz_plan_link(e, p);
    }
    return p;
}

/* Whether a plan of this form with other literals is held. */
static bool niz_plan_has_form(const niz_exec *e, XXH128_hash_t form)
{
    const niz_plan *p = e->form_bucket[form.low64 % NIZ_PLAN_BUCKETS];
    while (p && !XXH128_isEqual(p->form, form)) p = p->next_form;
    return p != NULL;
}

static void niz_plan_drop_oldest(niz_exec *e)
{
    niz_plan *gone = e->oldest;
    niz_plan **p = &e->bucket[gone->key.low64 % NIZ_PLAN_BUCKETS];
    while (*p != gone) p = &(*p)->next;
    *p = gone->next;
    for (p = &e->form_bucket[gone->form.low64 % NIZ_PLAN_BUCKETS]; *p != gone;)
        p = &(*p)->next_form;
    *p = gone->next_form;
    niz_plan_unlink(e, gone);
    e->z->stats.plans_cached--;
    e->z->stats.plan_nodes -= gone->nodes;
    niz_plan_free(e, gone);
}

static void niz_plan_keep(niz_exec *e, niz_plan *p)
{
    size_t bound = e->z->options.max_plan_nodes ? e->z->options.max_plan_nodes : NIZ_PLAN_NODES;
    niz_plan **bucket = &e->bucket[p->key.low64 % NIZ_PLAN_BUCKETS];
    niz_plan **form = &e->form_bucket[p->form.low64 % NIZ_PLAN_BUCKETS];
    e->z->stats.plan_nodes += p->nodes;
    while (e->oldest && (size_t)e->z->stats.plan_nodes > bound) niz_plan_drop_oldest(e);
    p->next = *bucket;
    p->next_form = *form;
    *bucket = *form = p;
    niz_plan_link(e, p);
    e->z->stats.plans_cached++;
}

void niz_plans_free(niz_exec *e)
{
    while (e->oldest) niz_plan_drop_oldest(e);
}

niz_plan *niz_plan_get(niz_exec *e, niz_recording *r)
{
    XXH128_hash_t key = niz_live_key(r, &e->live, false);
    niz_plan *p = niz_plan_find(e, key);
    if (!p) {
        XXH128_hash_t form = niz_live_key(r, &e->live, true);
        bool as_data = e->live.n_literals && niz_plan_has_form(e, form);
        if (as_data) p = niz_plan_find(e, form);
        if (!p) {
            e->z->stats.plans_made++;
            e->z->stats.literals_made_data += as_data;
            p = niz_plan_make(e, r, as_data ? form : key, form, as_data, niz_jit_at_once(e));
            if (p) niz_plan_keep(e, p);
            return p;
        }
    }
    e->z->stats.plans_found++;
    return niz_plan_compile(e, r, p) ? p : NULL;
}
