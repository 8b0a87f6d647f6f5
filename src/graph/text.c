/* text.c - a graph as text, one node a line, and as a picture.
 *
 *   %0 = param of="fc1.weight" : f32[10,784]  # net mlp.c:12
 *   %1 = data : f32[784]
 *   %7 = mul %3 %5 : f32[32,10]  # d/tanh net/fc1 mlp.c:41
 *   %8 = sum %7 axis=1 : f32[32]
 *   return %8
 *
 * parse.c reads it back.  SPDX-License-Identifier: MIT */
#include <string.h>

#include "core/type.h"
#include "graph/recording.h"
#include "graph/spec.h"

static void niz_text_quoted(FILE *f, const char *s)
{
    fputc('"', f);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            fprintf(f, "\\%c", *s);
        else if ((unsigned char)*s < 32)
            fprintf(f, "\\x%02x", (unsigned char)*s);
        else
            fputc(*s, f);
    }
    fputc('"', f);
}

static void niz_text_word(FILE *f, const niz_recording *r, char kind, int64_t word)
{
    double v;
    char number[32];
    switch (kind) {
    case 'f':
        memcpy(&v, &word, sizeof v);
        niz_double_text(v, number);
        fputs(number, f);
        break;
    case 't': fputs(niz_dtype_name((niz_dtype)word), f); break;
    case 'p':
        niz_text_quoted(f, r && word >= 0 && word < (int64_t)r->n_params ? r->param[word].name : "?");
        break;
    default: fprintf(f, "%lld", (long long)word);
    }
}

static void niz_text_attrs(FILE *f, const niz_recording *r, const niz_node *n)
{
    int words, lists, at = 0;
    const char *spec = n->op->attrs;
    niz_field field;
    niz_spec_count(spec, &words, &lists);
    int length = lists ? (n->n_attr - words) / lists : 0;
    while (niz_spec_next(&spec, &field)) {
        int m = field.list ? length : 1;
        fprintf(f, " %.*s=%s", field.length, field.name, field.list ? "[" : "");
        for (int i = 0; i < m && at < n->n_attr; i++) {
            if (i) fputc(',', f);
            niz_text_word(f, r, field.kind, n->attr[at++]);
        }
        if (field.list) fputc(']', f);
    }
}

static void niz_text_place(FILE *f, const niz_place *p)
{
    if (!p || (!p->at.file && !p->of)) return;
    fputs("  #", f);
    if (p->of) fprintf(f, " d/%s", p->of->name);
    if (p->scope && p->scope->path[0]) fprintf(f, " %s", p->scope->path);
    if (p->at.file) fprintf(f, " %s:%d", p->at.file, p->at.line);
}

/* One line; number[] gives the names of operands, NULL for their ids. */
static void niz_text_node(FILE *f, const niz_graph *g, uint32_t id, const uint32_t *number,
                          niz_text_options o)
{
    const niz_node *n = &g->node[id];
    fprintf(f, "%%%u = %s", number ? number[id] : id, n->op->name);
    for (int i = 0; i < n->n_arg; i++)
        fprintf(f, " %%%u", number ? number[n->arg[i]] : n->arg[i]);
    niz_text_attrs(f, o.recording, n);
    fprintf(f, " : %s", niz_type_text((niz_dtype)n->dtype, n->shape).text);
    if (o.places) niz_text_place(f, n->place);
    fputc('\n', f);
}

void niz_graph_text(FILE *f, const niz_graph *g, int n_out, const uint32_t *out,
                    niz_text_options o)
{
    for (uint32_t id = 0; id < g->n; id++) niz_text_node(f, g, id, NULL, o);
    fputs("return", f);
    for (int i = 0; i < n_out; i++) fprintf(f, " %%%u", out[i]);
    fputc('\n', f);
}

/* ---- the part of a recording that outputs need ---------------------------------------------- */

typedef struct niz_part {
    niz_recording *r;
    uint32_t *number; /* of each node of the recording, or NIZ_NONE */
} niz_part;

static bool niz_part_find(niz_part *p, int n, const niz_t *outputs)
{
    niz *z = niz_context_of(n, outputs);
    niz_recording *r = p->r = niz_recording_of(z);
    if (!r || z->status) return false;
    for (int i = 0; i < n; i++)
        if (!niz_handle_node(r, (niz_at){0}, outputs[i], "an output")) return false;
    size_t bytes = sizeof *p->number * (r->g.n + 1);
    if (!(p->number = niz_realloc(z, NULL, bytes))) return false;
    memset(p->number, 0xff, bytes);
    for (int i = 0; i < n; i++) p->number[outputs[i].id] = 0;
    for (uint32_t id = r->g.n; id-- > 0;)
        if (p->number[id] != NIZ_NONE)
            for (int i = 0; i < r->g.node[id].n_arg; i++) p->number[r->g.node[id].arg[i]] = 0;
    uint32_t next = 0;
    for (uint32_t id = 0; id < r->g.n; id++)
        if (p->number[id] != NIZ_NONE) p->number[id] = next++;
    return true;
}

static niz_status niz_text_done(niz_part *p, FILE *f)
{
    niz_free(p->r->z, p->number);
    return ferror(f) ? niz_fail(p->r->z, (niz_at){0}, NIZ_E_IO, "cannot write the graph") : NIZ_OK;
}

niz_status niz_print(FILE *f, int n, const niz_t *outputs)
{
    niz_part p;
    if (!niz_part_find(&p, n, outputs)) return niz_error(niz_context_of(n, outputs));
    for (uint32_t id = 0; id < p.r->g.n; id++)
        if (p.number[id] != NIZ_NONE)
            niz_text_node(f, &p.r->g, id, p.number, (niz_text_options){p.r, true});
    fputs("return", f);
    for (int i = 0; i < n; i++) fprintf(f, " %%%u", p.number[outputs[i].id]);
    fputc('\n', f);
    return niz_text_done(&p, f);
}

/* Names come from users: what Graphviz would take for syntax is escaped. */
static void niz_dot_node(FILE *f, const niz_part *p, uint32_t id)
{
    const niz_graph *g = &p->r->g;
    const niz_node *n = &g->node[id];
    bool leaf = niz_op_form(n->op) == NIZ_FORM_LEAF;
    fprintf(f, "  n%u [shape=%s,label=\"%s\\n%s", p->number[id], leaf ? "ellipse" : "box",
            n->op->name, niz_type_text((niz_dtype)n->dtype, n->shape).text);
    if (n->op == &niz_op_param) {
        fputs("\\n", f);
        for (const char *s = p->r->param[n->attr[0]].name; *s; s++)
            fputs(*s == '"' ? "\\\"" : *s == '\\' ? "\\\\" : (char[]){*s, 0}, f);
    }
    fputs("\"];\n", f);
    for (int i = 0; i < n->n_arg; i++)
        fprintf(f, "  n%u -> n%u;\n", p->number[n->arg[i]], p->number[id]);
}

niz_status niz_dot(FILE *f, int n, const niz_t *outputs)
{
    niz_part p;
    if (!niz_part_find(&p, n, outputs)) return niz_error(niz_context_of(n, outputs));
    fputs("digraph niz {\n  rankdir=BT;\n", f);
    for (uint32_t id = 0; id < p.r->g.n; id++)
        if (p.number[id] != NIZ_NONE) niz_dot_node(f, &p, id);
    fputs("}\n", f);
    return niz_text_done(&p, f);
}
