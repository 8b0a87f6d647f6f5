/* explain.c - what was fused and what was refused, as text: NIZ_DUMP=fuse.
 *
 *   fuse: 14 nodes in 2 groups, 56.0 MB not moved
 *   group 0: rows f32[4096,512], 12 nodes, 56.0 MB not moved
 *     %3 sub, element
 *     %4 max, reduce, stored
 *   group 1: alone
 *     %9 matmul, stored
 *       not in group 0: it has another shape
 *
 * Bytes not moved are those of a kernel a node, less those of the groups: each result stored and
 * each operand loaded, against results that leave and operands from outside, once.
 *
 * SPDX-License-Identifier: MIT */
#include "core/type.h"
#include "passes/fuse.h"

static double niz_explain_operand(const niz_work *w, const niz_layout_of *layout, uint32_t x)
{
    double view = (double)niz_node_bytes(&w->g.node[x]);
    double all = (double)niz_node_bytes(&w->g.node[layout[x].root]);
    return view < all ? view : all;
}

/* Whether an earlier node of the group reads the same memory. */
static bool niz_explain_again(const niz_work *w, const niz_layout_of *layout, const niz_fusion *f,
                              uint32_t g, uint32_t k, int arg)
{
    uint32_t root = layout[w->g.node[f->member[k]].arg[arg]].root;
    for (uint32_t i = f->start[g]; i <= k; i++) {
        const niz_node *n = &w->g.node[f->member[i]];
        for (int a = 0; a < (i < k ? n->n_arg : arg); a++)
            if (layout[n->arg[a]].root == root) return true;
    }
    return false;
}

/* Bytes that group g moves less than its own nodes would, a kernel each. */
static double niz_explain_saved(const niz_work *w, const niz_layout_of *layout, const niz_fusion *f,
                                const bool *stored, uint32_t g)
{
    double saved = 0;
    for (uint32_t k = f->start[g]; k < f->start[g + 1]; k++) {
        uint32_t id = f->member[k];
        const niz_node *n = &w->g.node[id];
        bool mine = f->group_of[id] == g; /* else it is computed here to save a load */
        if (mine && !stored[id]) saved += (double)niz_node_bytes(n);
        for (int a = 0; a < n->n_arg; a++) {
            bool inside = niz_fusion_computes(f, layout[n->arg[a]].root, g) ||
                          niz_fusion_panel(f, id, a) != NIZ_NONE;
            bool loaded = !inside && !niz_explain_again(w, layout, f, g, k, a);
            double bytes = niz_explain_operand(w, layout, n->arg[a]);
            if (mine && !loaded) saved += bytes;
            if (!mine && loaded) saved -= bytes;
        }
    }
    return saved;
}

static void niz_explain_refusals(FILE *out, const niz_fusion *f, uint32_t id)
{
    for (uint32_t r = 0; r < f->n_refusals; r++)
        if (f->refusal[r].node == id && f->refusal[r].group == NIZ_NONE)
            fprintf(out, "      in no nest: %s\n", f->refusal[r].why);
        else if (f->refusal[r].node == id)
            fprintf(out, "      not in group %u: %s\n", f->refusal[r].group, f->refusal[r].why);
}

static void niz_explain_group(FILE *out, const niz_work *w, const niz_fusion *f, const bool *stored,
                              uint32_t g)
{
    static const char *const part[] = {[NIZ_PART_ALONE] = "",
                                       [NIZ_PART_TILE] = ", tile",
                                       [NIZ_PART_ELEMENT] = ", element",
                                       [NIZ_PART_REDUCE] = ", reduce",
                                       [NIZ_PART_ROW] = ", row",
                                       [NIZ_PART_CHUNK] = ""};
    for (uint32_t k = f->start[g]; k < f->start[g + 1]; k++) {
        uint32_t id = f->member[k];
        bool mine = f->group_of[id] == g;
        fprintf(out, "    %%%u %s%s%s\n", id, w->g.node[id].op->name, part[f->part[id]],
                !mine        ? ", again"
                : stored[id] ? ", stored"
                             : "");
        if (mine) niz_explain_refusals(out, f, id);
    }
}

void niz_fusion_print(FILE *out, const niz_work *w, const niz_layout_of *layout,
                      const niz_fusion *f, const bool *stored)
{
    static const char *const kind[] = {
        [NIZ_GROUP_ALONE] = "alone",     [NIZ_GROUP_ROWS] = "rows", [NIZ_GROUP_FLAT] = "flat",
        [NIZ_GROUP_COLUMNS] = "columns", [NIZ_GROUP_TILE] = "tile", [NIZ_GROUP_CHUNK] = "chunk",
        [NIZ_GROUP_PANEL] = "panel"};
    double saved = 0;
    uint32_t nodes = 0, groups = 0;
    for (uint32_t g = 0; g < f->n_groups; g++) {
        saved += niz_explain_saved(w, layout, f, stored, g);
        nodes += f->group[g].n;
        groups += f->group[g].n > 0;
    }
    fprintf(out, "fuse: %u nodes in %u groups, %.0f bytes not moved\n", nodes, groups, saved);
    for (uint32_t g = 0; g < f->n_groups; g++) {
        const niz_group *group = &f->group[g];
        if (!group->n) continue;
        fprintf(out, "  group %u: %s", g, kind[group->kind]);
        if (group->kind != NIZ_GROUP_ALONE)
            fprintf(out, " %s, %u nodes, %.0f bytes not moved",
                    niz_type_text(group->dtype, &group->domain).text, group->n,
                    niz_explain_saved(w, layout, f, stored, g));
        if (group->kind == NIZ_GROUP_PANEL) {
            const niz_panel *p = &f->panel[group->panel];
            fprintf(out, ", packed %s as operand %d of %%%u", p->across ? "across" : "along",
                    p->operand, p->host);
        }
        fputc('\n', out);
        niz_explain_group(out, w, f, stored, g);
    }
}
