/* verify.c - what every graph must satisfy, checked after each pass.
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "core/type.h"
#include "graph/recording.h"

static const char *niz_verify_type(const niz_graph *g, const niz_node *n, char *why, size_t size)
{
    niz_infer f;
    niz_type types[NIZ_MAX_ARITY];
    if (!n->op->infer) return "its record has no .infer";
    niz_attrs attr = niz_node_attrs(n);
    if (!niz_graph_infer(g, &f, n->op, n->n_arg, n->arg, &attr, types)) {
        snprintf(why, size, "its operands are refused: %s", f.why);
        return why;
    }
    if (f.dtype != (niz_dtype)n->dtype || !niz_shape_equal(f.shape, n->shape)) {
        snprintf(why, size, "it should be %s", niz_type_text(f.dtype, f.shape).text);
        return why;
    }
    return NULL;
}

static const char *niz_verify_node(const niz_graph *g, uint32_t id, char *why, size_t size)
{
    const niz_node *n = &g->node[id];
    if (!n->op || !n->shape || n->dtype >= NIZ_N_DTYPES) return "it has no operation, shape or dtype";
    if (niz_shape_fault(n->shape)) return niz_shape_fault(n->shape);
    if (n->op->arity >= 0 && n->n_arg != n->op->arity) return "it has a wrong number of operands";
    for (int i = 0; i < n->n_arg; i++)
        if (n->arg[i] >= id) return "an operand does not come before it";
    return niz_op_form(n->op) == NIZ_FORM_LEAF ? NULL : niz_verify_type(g, n, why, size);
}

const char *niz_verify(const niz_graph *g, char *why, size_t size)
{
    char reason[320];
    for (uint32_t id = 0; id < g->n; id++) {
        const char *fault = niz_verify_node(g, id, reason, sizeof reason);
        if (!fault) continue;
        const niz_node *n = &g->node[id];
        snprintf(why, size, "node %%%u = %s: %s", id, n->op ? n->op->name : "?", fault);
        return why;
    }
    return NULL;
}
