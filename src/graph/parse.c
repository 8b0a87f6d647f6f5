/* parse.c - reads a graph's text (text.c) back into a recording.
 *
 * Every line is one application, typed and checked like one from a program; the declared type must
 * be the inferred one.  Text is data: a wrong line is an error with its column, never a crash.
 *
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/type.h"
#include "graph/recording.h"
#include "graph/spec.h"

typedef struct niz_parser {
    niz_recording *r;
    const char *line, *s; /* the line's start; where reading is */
    int number;           /* of the line, from 1 */
    int n_in, used_in;
    const niz_t *in;
    niz_t *node; /* by their number in the text */
    size_t n_nodes, capacity;
} niz_parser;

static bool niz_parse_fail(niz_parser *p, const char *what)
{
    if (!p->r->z->status)
        niz_fail(p->r->z, (niz_at){0}, NIZ_E_FORMAT, "graph text, line %d, column %d: %s",
                 p->number, (int)(p->s - p->line) + 1, what);
    return false;
}

static void niz_parse_blank(niz_parser *p)
{
    while (*p->s == ' ' || *p->s == '\t' || *p->s == '\r') p->s++;
}

static bool niz_parse_char(niz_parser *p, char c)
{
    niz_parse_blank(p);
    if (*p->s != c) return false;
    p->s++;
    return true;
}

static bool niz_parse_int(niz_parser *p, int64_t *out)
{
    niz_parse_blank(p);
    if (!strchr("+-0123456789", *p->s) || !*p->s) return niz_parse_fail(p, "a whole number is missing");
    char *end;
    errno = 0;
    *out = strtoll(p->s, &end, 10);
    if (end == p->s) return niz_parse_fail(p, "a whole number is missing");
    if (errno) return niz_parse_fail(p, "a number beyond 64 bits");
    p->s = end;
    return true;
}

/* "%12" as a node already read */
static bool niz_parse_ref(niz_parser *p, niz_t *out)
{
    int64_t i;
    if (!niz_parse_char(p, '%')) return niz_parse_fail(p, "a node such as %3 is missing");
    if (!niz_parse_int(p, &i)) return false;
    if (i < 0 || i >= (int64_t)p->n_nodes)
        return niz_parse_fail(p, "this node has not been defined above");
    *out = p->node[i];
    return true;
}

static bool niz_parse_name(niz_parser *p, const char **name, size_t *length)
{
    niz_parse_blank(p);
    *name = p->s;
    while ((*p->s >= 'a' && *p->s <= 'z') || (*p->s >= 'A' && *p->s <= 'Z') ||
           (*p->s >= '0' && *p->s <= '9') || *p->s == '_')
        p->s++;
    *length = (size_t)(p->s - *name);
    return *length || niz_parse_fail(p, "a name is missing");
}

static int niz_parse_hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool niz_parse_quoted(niz_parser *p, char *out, size_t size)
{
    size_t n = 0;
    if (!niz_parse_char(p, '"')) return niz_parse_fail(p, "a name in quotes is missing");
    while (*p->s && *p->s != '"' && *p->s != '\n' && n + 1 < size) {
        if (*p->s == '\\' && p->s[1] == 'x' && niz_parse_hex(p->s[2]) >= 0 &&
            niz_parse_hex(p->s[3]) >= 0) {
            out[n++] = (char)(niz_parse_hex(p->s[2]) * 16 + niz_parse_hex(p->s[3]));
            p->s += 4;
            continue;
        }
        if (*p->s == '\\' && p->s[1] && p->s[1] != '\n') p->s++;
        out[n++] = *p->s++;
    }
    out[n] = 0;
    return niz_parse_char(p, '"') || niz_parse_fail(p, "the quotes are not closed");
}

/* ---- attributes ----------------------------------------------------------------------------- */

typedef struct niz_parsed_attrs {
    int n;
    int64_t value[NIZ_MAX_ATTR];
    char name[512]; /* of a parameter */
} niz_parsed_attrs;

static bool niz_parse_word(niz_parser *p, char kind, niz_parsed_attrs *a)
{
    if (a->n == NIZ_MAX_ATTR) return niz_parse_fail(p, "too many attributes");
    int64_t *out = &a->value[a->n++];
    const char *name, *end;
    size_t length;
    niz_dtype dtype;
    double v;
    switch (kind) {
    case 'f':
        niz_parse_blank(p);
        end = niz_double_read(p->s, &v);
        if (end == p->s) return niz_parse_fail(p, "a number is missing");
        p->s = end;
        memcpy(out, &v, sizeof v);
        return true;
    case 't':
        if (!niz_parse_name(p, &name, &length)) return false;
        if (!niz_dtype_parse(name, length, &dtype)) return niz_parse_fail(p, "not a dtype");
        *out = dtype;
        return true;
    case 'p': *out = 0; return niz_parse_quoted(p, a->name, sizeof a->name);
    default: return niz_parse_int(p, out);
    }
}

static bool niz_parse_list(niz_parser *p, char kind, niz_parsed_attrs *a, int *length)
{
    int before = a->n;
    if (!niz_parse_char(p, '[')) return niz_parse_fail(p, "[ is missing");
    if (!niz_parse_char(p, ']')) {
        do {
            if (!niz_parse_word(p, kind, a)) return false;
        } while (niz_parse_char(p, ','));
        if (!niz_parse_char(p, ']')) return niz_parse_fail(p, "] is missing");
    }
    if (*length >= 0 && a->n - before != *length)
        return niz_parse_fail(p, "this list is not as long as the one before");
    *length = a->n - before;
    return true;
}

static bool niz_parse_attrs(niz_parser *p, const char *spec, niz_parsed_attrs *a)
{
    niz_field f;
    int length = -1;
    while (niz_spec_next(&spec, &f)) {
        const char *name;
        size_t n;
        if (!niz_parse_name(p, &name, &n)) return false;
        if (n != (size_t)f.length || memcmp(name, f.name, n) || !niz_parse_char(p, '='))
            return niz_parse_fail(p, "another attribute is due here");
        if (f.list ? !niz_parse_list(p, f.kind, a, &length) : !niz_parse_word(p, f.kind, a))
            return false;
    }
    return true;
}

/* ": f32[3,4]" */
static bool niz_parse_type(niz_parser *p, niz_dtype *dtype, niz_shape *shape)
{
    const char *name;
    size_t n;
    *shape = (niz_shape){0};
    if (!niz_parse_char(p, ':')) return niz_parse_fail(p, ": and a type are missing");
    if (!niz_parse_name(p, &name, &n)) return false;
    if (!niz_dtype_parse(name, n, dtype)) return niz_parse_fail(p, "not a dtype");
    if (!niz_parse_char(p, '[')) return niz_parse_fail(p, "[ is missing");
    if (niz_parse_char(p, ']')) return true;
    do {
        if (shape->rank == NIZ_MAX_RANK) return niz_parse_fail(p, "a tensor has at most 8 axes");
        if (!niz_parse_int(p, &shape->dim[shape->rank++])) return false;
    } while (niz_parse_char(p, ','));
    if (!niz_parse_char(p, ']')) return niz_parse_fail(p, "] is missing");
    const char *fault = niz_shape_fault(shape);
    return !fault || niz_parse_fail(p, fault);
}

/* ---- lines ---------------------------------------------------------------------------------- */

/* A few bytes of text must not take gigabytes. */
#define NIZ_PARSE_ELEMENTS ((int64_t)1 << 24)

/* Names in a text are whole, whatever scope it is read in.  One that exists stays as it is. */
static niz_t niz_parse_param(niz_parser *p, niz_at at, const char *name, niz_dtype dtype,
                             niz_shape shape)
{
    char whole[520];
    if (niz_param_lookup(p->r, name)) return niz_find_at(at, p->r->z, name);
    if (niz_shape_count(&shape) > NIZ_PARSE_ELEMENTS) {
        niz_parse_fail(p, "a new parameter of this size is not made from text; make it first");
        return niz_inert(p->r->z);
    }
    snprintf(whole, sizeof whole, "/%s", name);
    return niz_param_at(at, p->r->z, whole, dtype, shape, niz_constant_init(0));
}

static niz_t niz_parse_make(niz_parser *p, niz_at at, const niz_op *op, int n, const niz_t *x,
                            const niz_parsed_attrs *a, niz_dtype dtype, niz_shape shape)
{
    niz *z = p->r->z;
    double v;
    if (op == &niz_op_data) {
        if (p->used_in < p->n_in) return p->in[p->used_in++];
        niz_parse_fail(p, "the text has more data leaves than were given");
        return niz_inert(z);
    }
    if (op == &niz_op_literal) {
        memcpy(&v, a->value, sizeof v);
        return niz_number_fits(z, at, "literal", dtype, v) ? niz_literal(z, at, dtype, v)
                                                           : niz_inert(z);
    }
    if (op == &niz_op_param) return niz_parse_param(p, at, a->name, dtype, shape);
    if (op == &niz_op_assign) {
        niz_t to = niz_find_at(at, z, a->name);
        niz_assign_at(at, to, x[0]);
        return z->status ? niz_inert(z) : niz_find_at(at, z, a->name);
    }
    return niz_apply_in(z, at, op, n, x, &(niz_attrs){a->n, a->value});
}

static bool niz_parse_node(niz_parser *p)
{
    int64_t number;
    const char *name;
    size_t length;
    if (!niz_parse_char(p, '%')) return niz_parse_fail(p, "a node such as %3 is missing");
    if (!niz_parse_int(p, &number)) return false;
    if (number != (int64_t)p->n_nodes) return niz_parse_fail(p, "nodes are numbered 0, 1, 2 ...");
    if (!niz_parse_char(p, '=')) return niz_parse_fail(p, "= is missing");
    if (!niz_parse_name(p, &name, &length)) return false;
    char key[64];
    snprintf(key, sizeof key, "%.*s", (int)length, name);
    const niz_op *op = niz_op_find(key);
    if (!op) op = niz_op_table_find(&p->r->ops, name, length);
    if (!op) return niz_parse_fail(p, "no operation of this name");
    niz_t x[NIZ_MAX_ARITY], y;
    int n = 0;
    for (niz_parse_blank(p); *p->s == '%'; niz_parse_blank(p)) {
        if (n == NIZ_MAX_ARITY) return niz_parse_fail(p, "too many operands");
        if (!niz_parse_ref(p, &x[n++])) return false;
    }
    if (n != op->arity && !(op->arity < 0 && n)) return niz_parse_fail(p, "wrong number of operands");
    niz_parsed_attrs a = {0};
    niz_dtype dtype;
    niz_shape shape;
    if (!niz_parse_attrs(p, op->attrs, &a) || !niz_parse_type(p, &dtype, &shape)) return false;
    y = niz_parse_make(p, (niz_at){"text", p->number}, op, n, x, &a, dtype, shape);
    if (p->r->z->status) return false;
    niz_shape made = niz_shape_of(y);
    if (niz_dtype_of(y) != dtype || !niz_shape_equal(&made, &shape))
        return niz_parse_fail(p, "this is not the type that the operation gives");
    if (!niz_grow(p->r->z, &p->node, sizeof *p->node, &p->capacity, p->n_nodes + 1)) return false;
    p->node[p->n_nodes++] = y;
    return true;
}

static bool niz_parse_return(niz_parser *p, int n_out, niz_t *out)
{
    p->s += strlen("return");
    for (int i = 0; i < n_out; i++)
        if (!niz_parse_ref(p, &out[i])) return false;
    niz_parse_blank(p);
    return !*p->s || *p->s == '\n' || *p->s == '#' || niz_parse_fail(p, "more outputs than asked for");
}

static bool niz_parse_lines(niz_parser *p, const char *text, int n_out, niz_t *out)
{
    for (p->line = text; *p->line; p->number++) {
        p->s = p->line;
        niz_parse_blank(p);
        if (!strncmp(p->s, "return", 6)) return niz_parse_return(p, n_out, out);
        if (*p->s && *p->s != '\n' && *p->s != '#') {
            if (!niz_parse_node(p)) return false;
            niz_parse_blank(p);
            if (*p->s && *p->s != '\n' && *p->s != '#')
                return niz_parse_fail(p, "the line should end here");
        }
        p->line = strchrnul(p->line, '\n');
        if (*p->line) p->line++;
    }
    p->s = p->line;
    return niz_parse_fail(p, "the text ends without a return line");
}

niz_status niz_parse(niz *z, const char *text, int n_in, const niz_t *in, int n_out, niz_t *out)
{
    niz_recording *r = niz_recording_of(z);
    for (int i = 0; i < n_out; i++) out[i] = niz_inert(z);
    if (!r || z->status) return niz_error(z);
    niz_parser p = {.r = r, .number = 1, .n_in = n_in, .in = in};
    bool done = niz_parse_lines(&p, text, n_out, out);
    if (done && p.used_in < n_in)
        niz_fail(z, (niz_at){0}, NIZ_E_FORMAT, "the text has %d data leaves; %d tensors were given",
                 p.used_in, n_in);
    niz_free(z, p.node);
    if (z->status)
        for (int i = 0; i < n_out; i++) out[i] = niz_inert(z);
    return z->status;
}
