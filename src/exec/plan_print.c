/* plan_print.c - the schedule as a table: offsets, sizes, lifetimes, and the peak.
 * SPDX-License-Identifier: MIT */
#include "core/context.h"
#include "core/control.h"
#include "core/type.h"
#include "exec/exec.h"

static void niz_plan_home(FILE *f, const niz_recording *r, const niz_graph *g,
                          const niz_placement *p, uint32_t id)
{
    const niz_place_of *o = &p->place[id];
    uint32_t root = p->layout[id].root;
    switch (o->home) {
    case NIZ_HOME_ARENA:
        fprintf(f, "%10lld %10lld  %u..%u%s", (long long)o->offset, (long long)o->bytes, o->first,
                o->last, o->shares != NIZ_NONE ? " in place" : "");
        break;
    case NIZ_HOME_OUTPUT: fprintf(f, "%10s %10lld  output", "-", (long long)o->bytes); break;
    case NIZ_HOME_PARAM:
        fprintf(f, "%10s %10lld  written into %s", "-", (long long)o->bytes,
                r->param[o->offset].name);
        break;
    case NIZ_HOME_LEAF: fprintf(f, "%10s %10lld  leaf", "-", (long long)o->bytes); break;
    default: fprintf(f, "%10s %10s  view of %%%u", "-", "-", root);
    }
    if (g->node[id].op == &niz_op_param) fprintf(f, " %s", r->param[g->node[id].attr[0]].name);
}

static void niz_plan_table(FILE *f, const niz_recording *r, const niz_work *w,
                           const niz_placement *p)
{
    fprintf(f, "%-6s %-14s %-20s %10s %10s  %s\n", "node", "operation", "type", "offset", "bytes",
            "lifetime");
    for (uint32_t id = 0; id < w->g.n; id++) {
        const niz_node *n = &w->g.node[id];
        fprintf(f, "%%%-5u %-14s %-20s ", id, n->op->name,
                niz_type_text((niz_dtype)n->dtype, n->shape).text);
        niz_plan_home(f, r, &w->g, p, id);
        fputc('\n', f);
    }
    fprintf(f, "peak %lld bytes; one buffer a computed node would take %lld\n", (long long)p->peak,
            (long long)p->naive);
}

niz_status niz_plan_print(FILE *f, niz *z, int n, const niz_t *want, niz_plan_summary *summary)
{
    NIZ_CONTROL;
    niz_recording *r = niz_recording_of(z);
    if (summary) *summary = (niz_plan_summary){0};
    if (!r || z->status) return niz_error(z);
    niz_exec *e = niz_exec_of(z);
    niz_work w;
    niz_placement p;
    niz_pass_count count[NIZ_MAX_PASSES];
    if (!e || !niz_run_collect(e, r, (niz_at){0}, n, want) || !niz_live_find(r, &e->live) ||
        !niz_plan_work(e, r, false, &w, count))
        return z->status;
    if (niz_place_all(&(niz_pass_env){z, r, NULL}, &w, NULL, !z->options.trap_nan, &p)) {
        if (f) niz_plan_table(f, r, &w, &p);
        if (summary) *summary = (niz_plan_summary){(int64_t)w.g.n, p.peak, p.naive};
        niz_placement_free(z, &p);
    }
    niz_work_free(&w);
    return z->status;
}
