/* views.c - which memory a node's elements are, and with which strides.
 * SPDX-License-Identifier: MIT */
#include "core/type.h"
#include "passes/pass.h"

bool niz_view_of(const niz_graph *g, uint32_t id, niz_layout_of *all)
{
    const niz_node *n = &g->node[id];
    niz_layout_of *l = &all[id];
    if (niz_op_form(n->op) == NIZ_FORM_VIEW) {
        *l = all[n->arg[0]];
        if (!n->op->view(niz_node_attrs(n), n->shape, &l->view)) return false;
        l->view.shape = *n->shape;
        return true;
    }
    l->root = id;
    l->view = (niz_view){.shape = *n->shape};
    niz_shape_strides(n->shape, l->view.stride);
    return true;
}

bool niz_view_is_contiguous(const niz_view *v)
{
    int64_t step = 1;
    if (v->offset) return false;
    for (int i = v->shape.rank; i-- > 0;) {
        if (v->shape.dim[i] == 0) return true;
        if (v->shape.dim[i] != 1 && v->stride[i] != step) return false;
        step *= v->shape.dim[i];
    }
    return true;
}
