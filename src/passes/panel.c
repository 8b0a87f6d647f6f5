/* panel.c - operands of contractions and convolutions that can be computed while they are packed.
 *
 * A panel is a group of elements that no kernel of its own computes: the loop of a contraction asks
 * for rectangles of an operand just before it packs them (niz_make in exec/loops.h), so a factor, a
 * mask or a normalisation applied to an operand is never stored.  What may stand in a panel, and
 * whether it pays, is recompute.c's affair; here is what has a panel at all.
 *
 * The operand is a view of the value that the panel computes, all of it and each element once.  Its
 * rectangles must be rows in that value's memory: what a contraction sums over, or, across, what it
 * leaves free, or a convolution's last axis, are neighbours there and make the columns.  All other
 * axes of the view, in the order in which the operand counts them, are axes of the value or digits
 * of them, as after a reshape that splits one.
 *
 * SPDX-License-Identifier: MIT */
#include "core/type.h"
#include "ops/families.h"
#include "passes/fuse.h"

/* A loop goes through an operand again for so many columns, or rows, of the other one; for fewer
 * rows where results are finished and their sum has several blocks.  (NIZ_TILE_COLS, _ROWS, _HELD
 * and _K of exec/; nothing but an estimate depends on them.) */
#define NIZ_PANEL_COLS 256
#define NIZ_PANEL_ROWS 960
#define NIZ_PANEL_HELD 240
#define NIZ_PANEL_K 384

/* Digits of the domain's axes, the innermost first. */
typedef struct niz_digits {
    int n;
    niz_panel_axis digit[3 * NIZ_MAX_RANK];
} niz_digits;

/* A run of `size` indices, `stride` elements of the value's memory apart, as digits. */
static bool niz_panel_run(const niz_shape *domain, int64_t size, int64_t stride, niz_digits *to)
{
    int axis = domain->rank - 1;
    for (; axis >= 0 && stride > 0 && stride % domain->dim[axis] == 0; axis--)
        stride /= domain->dim[axis];
    if (stride <= 0) return false;
    for (; size > 1; stride = 1, axis--) {
        if (axis < 0 || domain->dim[axis] % stride || to->n == NIZ_COUNT(to->digit)) return false;
        int64_t room = domain->dim[axis] / stride, here = size < room ? size : room;
        if (size % here || room % here) return false;
        to->digit[to->n++] = (niz_panel_axis){axis, here, stride};
        size /= here;
    }
    return true;
}

/* Axes [from, to) of a view as digits, neighbours that are walked as one together. */
static bool niz_panel_digits(const niz_view *v, int from, int to, const niz_shape *domain,
                             niz_digits *digits)
{
    for (int d = to; d > from;) {
        int64_t size = 1, stride = 1;
        for (; d > from; d--) {
            int64_t dim = v->shape.dim[d - 1], step = v->stride[d - 1];
            if (dim == 1) continue;
            if (size > 1 && step != stride * size) break;
            if (size == 1) stride = step;
            size *= dim;
        }
        if (!niz_panel_run(domain, size, stride, digits)) return false;
    }
    return true;
}

/* Whether the digits are all of the domain, each index once: then none of them carries into another
 * axis, where what is computed may lie anywhere. */
static bool niz_panel_covers(const niz_digits *digits, const niz_shape *domain)
{
    int used = 0;
    for (int axis = 0; axis < domain->rank; axis++)
        for (int64_t step = 1; step < domain->dim[axis]; used++) {
            int i = 0;
            while (i < digits->n &&
                   (digits->digit[i].axis != axis || digits->digit[i].step != step))
                i++;
            if (i == digits->n) return false;
            step *= digits->digit[i].size;
        }
    return used == digits->n;
}

/* Whether axes [from, to) of the view can be columns, the others rows. */
static bool niz_panel_lay(const niz_view *v, int from, int to, const niz_shape *domain,
                          niz_panel *panel, niz_group *group)
{
    niz_digits d = {0};
    if (!niz_panel_digits(v, from, to, domain, &d) || d.n == 0) return false;
    int tail = d.n, first = domain->rank - tail;
    panel->columns = 1;
    for (int i = 0; i < tail; i++) { /* neighbours in memory, the innermost first */
        int axis = domain->rank - 1 - i;
        if (d.digit[i].axis != axis || d.digit[i].step != 1) return false;
        if (i < tail - 1 && d.digit[i].size != domain->dim[axis]) return false;
        panel->columns *= d.digit[i].size;
    }
    if (!niz_panel_digits(v, to, v->shape.rank, domain, &d) ||
        !niz_panel_digits(v, 0, from, domain, &d) || !niz_panel_covers(&d, domain) ||
        d.n - tail > NIZ_MAX_RANK)
        return false;
    group->tail = tail;
    panel->rank = d.n - tail;
    for (int i = 0; i < panel->rank; i++) {
        niz_panel_axis row = d.digit[d.n - 1 - i]; /* the outermost first */
        for (int axis = domain->rank - 1; axis > row.axis && row.axis >= first; axis--)
            row.step *= domain->dim[axis]; /* in elements of the tail */
        if (row.axis >= first) row.axis = first;
        panel->row[i] = row;
    }
    return true;
}

static int64_t niz_panel_count(const niz_shape *s, int from, int to)
{
    int64_t n = 1;
    for (int d = from; d < to; d++) n *= s->dim[d];
    return n;
}

static bool niz_panel_of_contraction(const niz_layout_of *layout, const niz_node *n,
                                     niz_panel *panel, niz_group *group)
{
    int batch = (int)n->attr[0], sum = (int)n->attr[1];
    const niz_view *v = &layout[n->arg[panel->operand]].view;
    int split = v->shape.rank - sum;
    if (niz_panel_lay(v, split, v->shape.rank, &group->domain, panel, group)) return true;
    panel->across = true;
    return niz_panel_lay(v, batch, split, &group->domain, panel, group);
}

bool niz_panel_find(const niz_work *w, const niz_layout_of *layout, uint32_t id, int i,
                    niz_panel *panel, niz_group *group, const char **why)
{
    const niz_node *n = &w->g.node[id], *root = &w->g.node[layout[n->arg[i]].root];
    const niz_view *v = &layout[n->arg[i]].view;
    bool conv = niz_op_form(n->op) == NIZ_FORM_CONV;
    *panel = (niz_panel){.host = id, .operand = i};
    *group = (niz_group){.kind = NIZ_GROUP_PANEL, .dtype = (niz_dtype)n->dtype};
    for (int d = 0; d < root->shape->rank; d++)
        if (root->shape->dim[d] != 1) group->domain.dim[group->domain.rank++] = root->shape->dim[d];
    group->fold = group->domain.rank - 1;
    *why = "the weights of a convolution are not computed as they are packed";
    if (conv && i == 1) return false;
    *why = "the contraction reads but a part of it, or some of it twice";
    if (v->offset || niz_shape_count(&v->shape) != niz_shape_count(root->shape)) return false;
    *why = "the contraction reads it in an order that has no rows";
    return conv ? niz_panel_lay(v, v->shape.rank - 1, v->shape.rank, &group->domain, panel, group)
                : niz_panel_of_contraction(layout, n, panel, group);
}

int64_t niz_panel_times(const niz_work *w, const niz_panel *panel, bool finished)
{
    const niz_node *n = &w->g.node[panel->host];
    const niz_shape *other = w->g.node[n->arg[1 - panel->operand]].shape;
    bool conv = niz_op_form(n->op) == NIZ_FORM_CONV; /* of weights [groups, rows, terms ...] */
    int from = conv ? 1 : (int)n->attr[0], to = conv ? 2 : other->rank - (int)n->attr[1];
    bool held = finished && niz_panel_count(other, to, other->rank) > NIZ_PANEL_K;
    int64_t free = niz_panel_count(other, from, to);
    int64_t once = !conv && panel->operand == 0 ? NIZ_PANEL_COLS
                   : held                       ? NIZ_PANEL_HELD
                                                : NIZ_PANEL_ROWS;
    return (free + once - 1) / once;
}
