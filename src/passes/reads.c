/* reads.c - who reads each parameter's old version, and who may fail.
 *
 * An assignment may be written straight into its parameter only after all of these; one sweep finds
 * them for all parameters, so that planning stays linear.
 *
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "passes/pass.h"

static bool niz_reads_param(const niz_work *w, const niz_layout_of *layout, uint32_t id, int arg,
                            uint32_t *param)
{
    uint32_t root = layout[w->g.node[id].arg[arg]].root;
    if (w->g.node[root].op != &niz_op_param) return false;
    *param = (uint32_t)w->g.node[root].attr[0];
    return true;
}

static bool niz_reads_computes(const niz_node *n)
{
    niz_form form = niz_op_form(n->op);
    return form != NIZ_FORM_VIEW && form != NIZ_FORM_LEAF;
}

/* One more than the highest parameter that the graph names, and how many operands it has. */
static void niz_reads_count(const niz_work *w, size_t *params, size_t *operands)
{
    *params = *operands = 0;
    for (uint32_t id = 0; id < w->g.n; id++) {
        const niz_node *n = &w->g.node[id];
        if (niz_reads_computes(n)) *operands += n->n_arg;
        if ((n->op == &niz_op_param || n->op == &niz_op_assign) && (size_t)n->attr[0] >= *params)
            *params = (size_t)n->attr[0] + 1;
    }
}

bool niz_reads_find(const niz_work *w, const niz_layout_of *layout, niz_reads *r)
{
    niz *z = w->g.z;
    size_t count, n_params;
    *r = (niz_reads){.last_failing = NIZ_NONE};
    niz_reads_count(w, &n_params, &count);
    r->first = niz_realloc(z, NULL, sizeof *r->first * (n_params + 1));
    r->read = niz_realloc(z, NULL, sizeof *r->read * (count + 1));
    if (!r->first || !r->read) {
        niz_reads_free(z, r);
        return false;
    }
    memset(r->first, 0xff, sizeof *r->first * (n_params + 1));
    for (uint32_t id = 0; id < w->g.n; id++) {
        const niz_node *n = &w->g.node[id];
        uint32_t p;
        if (!niz_reads_computes(n)) continue;
        if (n->op->may_fail) r->last_failing = id;
        for (int i = 0; i < n->n_arg; i++) {
            if (!niz_reads_param(w, layout, id, i, &p)) continue;
            r->read[r->n] = (niz_read){id, n->arg[i], r->first[p]};
            r->first[p] = r->n++;
        }
    }
    return true;
}

void niz_reads_free(niz *z, niz_reads *r)
{
    niz_free(z, r->first);
    niz_free(z, r->read);
    *r = (niz_reads){0};
}
