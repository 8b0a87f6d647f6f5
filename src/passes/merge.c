/* merge.c - equal nodes become one.
 *
 * A recording merges as it goes; what simplify and the derivative rules have made equal since then
 * is merged here.  SPDX-License-Identifier: MIT */
#include "passes/pass.h"

bool niz_merge(const niz_pass_env *env, const niz_work *in, niz_work *out)
{
    niz_rebuild b;
    (void)env;
    if (!niz_rebuild_begin(&b, in, out, true)) return false;
    for (uint32_t id = 0; id < in->g.n && !b.failed; id++) {
        const niz_node *n = &in->g.node[id];
        bool leaf = niz_op_form(n->op) == NIZ_FORM_LEAF;
        bool keep = n->op == &niz_op_assign || (leaf && n->op != &niz_op_literal);
        uint32_t arg[NIZ_MAX_ARITY];
        for (int i = 0; i < n->n_arg; i++) arg[i] = b.map[n->arg[i]];
        uint32_t before = out->g.n;
        b.map[id] =
            niz_graph_add(&out->g, &(niz_node_spec){n->op, n->n_arg, arg, niz_node_attrs(n),
                                                    (niz_dtype)n->dtype, n->shape, n->place, keep});
        if (b.map[id] == NIZ_NONE)
            b.failed = true;
        else if (b.map[id] == before)
            out->g.node[before].origin = n->origin;
    }
    return niz_rebuild_end(&b);
}
