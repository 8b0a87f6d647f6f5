/* pipeline.c - the order of the passes, and the one driver that runs, verifies, dumps, skips,
 * counts and times them.
 *
 *   recording ── live part ──> simplify ─> merge ─> dead ─> join ─────> batch ─> merge, dead
 *                              changes     drops    drops   changes     one for
 *                              arithmetic  doubles  unused  arithmetic  many
 *                          ──> layout ─> schedule ──> placement, tasks
 *                              copies    memory
 *                              for views order
 *
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/context.h"
#include "passes/pass.h"

const niz_pass niz_pipeline[] = {
    {"simplify", niz_simplify, false, "first: what it removes, the others need not look at"},
    {"merge", niz_merge, false, "after simplify and the derivative rules have made equal nodes"},
    {"dead", niz_dead, false, "after both have left nodes without a user"},
    {"join", niz_join, false, "after dead: a sum that someone else reads as well is not taken apart"},
    {"batch", niz_batch_pass, false, "after join, which brings what is independent to one height"},
    {"merge", niz_merge, false, "again: join and batch may have stacked the same values"},
    {"dead", niz_dead, false, "again: what join has stacked in parts may be stacked at once"},
    {"layout", niz_layout, true, "after the last pass that may add a view"},
    {"schedule", niz_schedule, true, "last: the order of all that is left"},
    {NULL, NULL, false, NULL},
};

/* Whether name is in the comma-separated list of an environment variable. */
bool niz_pipeline_lists(const char *variable, const char *name)
{
    const char *s = getenv(variable);
    size_t n = strlen(name);
    while (s && *s) {
        size_t m = strcspn(s, ",");
        if ((m == n && !memcmp(s, name, n)) || (m == 3 && !memcmp(s, "all", 3))) return true;
        s += m + (s[m] == ',');
    }
    return false;
}

static double niz_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What the graph's verifier cannot know: the outputs. */
static const char *niz_work_fault(const niz_work *w, char *why, size_t size)
{
    for (int i = 0; i < w->n_out; i++) {
        if (w->out[i] >= w->g.n) return "an output is no node";
        if (i >= w->n_want && w->g.node[w->out[i]].op != &niz_op_assign)
            return "an update is no assignment";
    }
    return niz_verify(&w->g, why, size);
}

bool niz_pass_make(const niz_pass_env *env, const niz_pass *pass, const niz_work *in, niz_work *out)
{
    niz_work_init(out, env->recording);
    bool ok = pass->run(env, in, out) && !env->z->status;
    char why[512];
    const char *fault = ok ? niz_work_fault(out, why, sizeof why) : NULL;
    if (fault)
        niz_fail(env->z, (niz_at){0}, NIZ_E_INTERNAL, "the pass %s broke the graph: %s", pass->name,
                 fault);
    if (ok && !fault) return true;
    niz_work_free(out);
    return false;
}

bool niz_pass_run(const niz_pass_env *env, const niz_pass *pass, niz_work *work)
{
    niz_work out;
    bool ok = niz_pass_make(env, pass, work, &out);
    niz_work_free(work);
    if (ok) *work = out;
    return ok;
}

bool niz_pipeline_run(const niz_pass_env *env, niz_work *work, niz_pass_count count[NIZ_MAX_PASSES])
{
    bool stopped = false;
    for (int i = 0; niz_pipeline[i].name; i++) {
        const niz_pass *pass = &niz_pipeline[i];
        count[i] = (niz_pass_count){work->g.n, work->g.n, 0};
        if (!pass->required && (stopped || niz_pipeline_lists("NIZ_SKIP", pass->name))) continue;
        stopped = stopped || niz_pipeline_lists("NIZ_STOP", pass->name);
        double start = niz_seconds();
        if (!niz_pass_run(env, pass, work)) return false;
        count[i].seconds = niz_seconds() - start;
        count[i].nodes_out = work->g.n;
        if (niz_pipeline_lists("NIZ_DUMP", pass->name)) {
            fprintf(stderr, "# after %s: %u nodes, were %u, %.0f us\n", pass->name,
                    count[i].nodes_out, count[i].nodes_in, 1e6 * count[i].seconds);
            niz_graph_text(stderr, &work->g, work->n_out, work->out,
                           (niz_text_options){env->recording, true});
        }
    }
    return true;
}
