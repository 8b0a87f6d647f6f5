/* chunk_emit.c - chunks as C.
 *
 * Each value is a constant of its own: one scalar, or as many vectors ("parts") as its elements
 * fill.  Lanes behind the last element hold anything; only loads, stores and folds keep to the
 * elements.  What is called stands in straight.h; everything else is operators, so that a compiler
 * told not to optimise is left with little to do.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "codegen/chunk.h"
#include "codegen/emit.h"

typedef struct niz_straight {
    FILE *f;
    const niz_chunk_code *c;
    int bytes, lanes;           /* of a vector */
    const char *S, *V, *M, *I;  /* scalar, vector and mask types, and that of a mask's lane */
    const char *t, *i, *suffix; /* f32, i32, "f" */
} niz_straight;

/* ---- operands -------------------------------------------------------------------------------- */

/* A floating number of C, whatever the locale: hexadecimal, so exact. */
static void niz_straight_number(const niz_straight *e, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    int exponent = (int)(bits >> 52 & 0x7ff);
    unsigned long long fraction = bits & 0xfffffffffffffu;
    const char *sign = bits >> 63 ? "-" : "";
    if (isnan(v))
        fprintf(e->f, "(%s)__builtin_nan(\"\")", e->S);
    else if (isinf(v))
        fprintf(e->f, "(%s(%s)__builtin_inf())", sign, e->S);
    else
        fprintf(e->f, "(%s0x%d.%013llxp%d%s)", sign, exponent > 0, fraction,
                exponent   ? exponent - 1023
                : fraction ? -1022
                           : 0,
                e->suffix);
}

/* One element: of a value of count 1. */
static void niz_straight_single(const niz_straight *e, uint32_t x)
{
    const niz_chunk_value *v = &e->c->value[x];
    if (v->kind == NIZ_CHUNK_CONST && v->dtype == NIZ_BOOL)
        fprintf(e->f, "%d", v->constant != 0);
    else if (v->kind == NIZ_CHUNK_CONST)
        niz_straight_number(e, v->constant);
    else if (v->kind == NIZ_CHUNK_IN && v->dtype == NIZ_BOOL)
        fprintf(e->f, "(x[%u] != 0)", v->x[0]);
    else if (v->kind == NIZ_CHUNK_IN)
        fprintf(e->f, "x[%u]", v->x[0]);
    else
        fprintf(e->f, "v%u", x);
}

/* Value x as part p of `count` elements. */
static void niz_straight_operand(const niz_straight *e, uint32_t x, int count, int p)
{
    const niz_chunk_value *v = &e->c->value[x];
    if (v->count > 1) {
        fprintf(e->f, "v%u_%d", x, p);
        return;
    }
    if (count > 1) fprintf(e->f, v->dtype == NIZ_BOOL ? "(-(%s)" : "(", e->I);
    niz_straight_single(e, x);
    if (count > 1) fprintf(e->f, " - (%s){0})", v->dtype == NIZ_BOOL ? e->M : e->V);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static int niz_straight_parts(const niz_straight *e, int count)
{
    return (count + e->lanes - 1) / e->lanes;
}

/* Lanes of part p that are elements, as the builtins of this width take them. */
static void niz_straight_mask(const niz_straight *e, int m)
{
    if (e->bytes == 64) {
        fprintf(e->f, "0x%x", (1u << m) - 1);
        return;
    }
    fprintf(e->f, "(%s){", e->lanes == 8 ? "niz_vi" : "niz_vll");
    for (int l = 0; l < e->lanes; l++) fprintf(e->f, "%s%d", l ? "," : "", -(l < m));
    fputc('}', e->f);
}

/* Elements of part p one by one; C converts them if they are of another type. */
static void niz_straight_gather(const niz_straight *e, const niz_chunk_value *v, int p)
{
    int at = p * e->lanes, m = v->count - at;
    uint32_t b = v->x[0];
    const char *type = niz_emit_memory(e->c->pointer.access[b].dtype);
    if (v->count > 1) fprintf(e->f, "(%s){", e->V);
    for (int l = 0; l < m && l < e->lanes; l++)
        fprintf(e->f, "%s((const %s *)b[%u])[%d]", l ? ", " : "", type, b + 2, at + l);
    if (v->count > 1) fputc('}', e->f);
}

static void niz_straight_load(const niz_straight *e, const niz_chunk_value *v, int p)
{
    int at = p * e->lanes, m = v->count - at;
    uint32_t b = v->x[0];
    const char *letter = e->c->dtype == NIZ_F32 ? "s" : "d";
    if (e->c->pointer.access[b].dtype != v->dtype) {
        niz_straight_gather(e, v, p);
    } else if (v->dtype == NIZ_BOOL) {
        fprintf(e->f, "niz_far_load_%s((const signed char *)b[%u] + %d, %d)", e->i, b + 2, at,
                m < e->lanes ? m : e->lanes);
    } else if (m >= e->lanes) {
        fprintf(e->f, "*(const %s_mem *)((const %s *)b[%u] + %d)", e->V, e->S, b + 2, at);
    } else if (e->bytes == 16) {
        niz_straight_gather(e, v, p);
    } else {
        bool wide = e->bytes == 64;
        fprintf(e->f, "__builtin_ia32_%sp%s%d%s((const %s *)((const %s *)b[%u] + %d), ",
                wide ? "loadu" : "maskload", letter, e->bytes * 8, wide ? "_mask" : "",
                wide ? e->S : e->V, e->S, b + 2, at);
        if (wide) fprintf(e->f, "(%s){0}, ", e->V);
        niz_straight_mask(e, m);
        fputc(')', e->f);
    }
}

static void niz_straight_store_part(const niz_straight *e, const niz_chunk_store *s, int count,
                                    int p)
{
    int at = p * e->lanes, m = count - at;
    uint32_t b = s->access + 2;
    const char *letter = e->c->dtype == NIZ_F32 ? "s" : "d";
    fputs("    ", e->f);
    if (e->c->value[s->value].dtype == NIZ_BOOL) {
        fprintf(e->f, "niz_far_store_%s((signed char *)b[%u] + %d, ", e->i, b, at);
        niz_straight_operand(e, s->value, count, p);
        fprintf(e->f, ", %d);\n", m < e->lanes ? m : e->lanes);
    } else if (m >= e->lanes) {
        fprintf(e->f, "*(%s_mem *)((%s *)b[%u] + %d) = ", e->V, e->S, b, at);
        niz_straight_operand(e, s->value, count, p);
        fputs(";\n", e->f);
    } else if (e->bytes == 16) {
        for (int l = 0; l < m; l++) {
            fprintf(e->f, "((%s *)b[%u])[%d] = ", e->S, b, at + l);
            niz_straight_operand(e, s->value, count, p);
            fprintf(e->f, "[%d];%s", l, l + 1 < m ? " " : "\n");
        }
    } else {
        bool wide = e->bytes == 64;
        fprintf(e->f, "__builtin_ia32_%sp%s%d%s((%s *)((%s *)b[%u] + %d), ",
                wide ? "storeu" : "maskstore", letter, e->bytes * 8, wide ? "_mask" : "",
                wide ? e->S : e->V, e->S, b, at);
        if (!wide) {
            niz_straight_mask(e, m);
            fputs(", ", e->f);
        }
        niz_straight_operand(e, s->value, count, p);
        if (wide) {
            fputs(", ", e->f);
            niz_straight_mask(e, m);
        }
        fputs(");\n", e->f);
    }
}

static void niz_straight_store(const niz_straight *e, const niz_chunk_store *s)
{
    if (s->single) {
        fprintf(e->f, "    y[%u] = ", s->access);
        niz_straight_single(e, s->value);
        fputs(";\n", e->f);
        return;
    }
    int count = e->c->pointer.access[s->access].count;
    for (int p = 0; p < niz_straight_parts(e, count); p++) niz_straight_store_part(e, s, count, p);
}

/* ---- expressions ----------------------------------------------------------------------------- */

static const char *niz_straight_operator(niz_map_code code)
{
    static const char *const text[NIZ_MAP_N_CODES] = {
        [NIZ_MAP_ADD] = "+", [NIZ_MAP_SUB] = "-", [NIZ_MAP_MUL] = "*", [NIZ_MAP_DIV] = "/",
        [NIZ_MAP_AND] = "&", [NIZ_MAP_OR] = "|",  [NIZ_MAP_LT] = "<",  [NIZ_MAP_LE] = "<=",
        [NIZ_MAP_GT] = ">",  [NIZ_MAP_GE] = ">=", [NIZ_MAP_EQ] = "==", [NIZ_MAP_NE] = "!="};
    return text[code];
}

static const char *niz_straight_function(niz_map_code code)
{
    return code == NIZ_MAP_ROUND ? "rint" : niz_map_code_name(code);
}

/* f(part p of each operand). */
static void niz_straight_call(const niz_straight *e, const niz_chunk_value *v, int p)
{
    for (int a = 0; a < niz_map_arity((niz_map_code)v->code); a++) {
        fputs(a ? ", " : "(", e->f);
        niz_straight_operand(e, v->x[a], v->count, p);
    }
    fputc(')', e->f);
}

/* Text with % for the first operand. */
static void niz_straight_with(const niz_straight *e, const niz_chunk_value *v, int p,
                              const char *text)
{
    for (; *text; text++)
        if (*text == '%')
            niz_straight_operand(e, v->x[0], v->count, p);
        else
            fputc(*text, e->f);
}

static void niz_straight_one(const niz_straight *e, const niz_chunk_value *v)
{
    bool was = e->c->value[v->x[0]].dtype == NIZ_BOOL, is = v->dtype == NIZ_BOOL;
    switch ((niz_map_code)v->code) {
    case NIZ_MAP_NEG: niz_straight_with(e, v, 0, "-%"); return;
    case NIZ_MAP_NOT: niz_straight_with(e, v, 0, "!%"); return;
    case NIZ_MAP_SIGN: niz_straight_with(e, v, 0, "% > 0 ? 1 : % < 0 ? -1 : %"); return;
    case NIZ_MAP_CAST: niz_straight_with(e, v, 0, is && !was ? "% != 0" : "%"); return;
    case NIZ_MAP_SELECT:
        niz_straight_with(e, v, 0, "% ? ");
        niz_straight_single(e, v->x[1]);
        fputs(" : ", e->f);
        niz_straight_single(e, v->x[2]);
        return;
    case NIZ_MAP_ABS:
    case NIZ_MAP_SQRT:
        fprintf(e->f, "__builtin_%s%s", v->code == NIZ_MAP_ABS ? "fabs" : "sqrt", e->suffix);
        break;
    default: fprintf(e->f, "niz_one_%s_%s", niz_straight_function((niz_map_code)v->code), e->t);
    }
    niz_straight_call(e, v, 0);
}

static void niz_straight_part(const niz_straight *e, const niz_chunk_value *v, int p)
{
    bool was = e->c->value[v->x[0]].dtype == NIZ_BOOL, is = v->dtype == NIZ_BOOL;
    niz_map_code code = (niz_map_code)v->code;
    const char *name = niz_straight_function(code);
    switch (code) {
    case NIZ_MAP_NEG: niz_straight_with(e, v, p, "-%"); return;
    case NIZ_MAP_NOT: niz_straight_with(e, v, p, "~%"); return;
    case NIZ_MAP_CAST:
        if (was && !is) fprintf(e->f, "niz_far_number_%s", e->t);
        if (is && !was) fprintf(e->f, "(%s)", e->M);
        niz_straight_with(e, v, p, is == was ? "%" : is ? "(% != 0)" : "(%)");
        return;
    case NIZ_MAP_SELECT: fprintf(e->f, "NIZ_NEAR(select_%s)", is ? e->i : e->t); break;
    case NIZ_MAP_MAX:
    case NIZ_MAP_MIN:
    case NIZ_MAP_ABS:
    case NIZ_MAP_SQRT:
    case NIZ_MAP_FMA:
    case NIZ_MAP_FLOOR:
    case NIZ_MAP_CEIL:
    case NIZ_MAP_ROUND:
    case NIZ_MAP_TRUNC: fprintf(e->f, "NIZ_NEAR(%s_%s)", name, e->t); break;
    default: fprintf(e->f, "niz_far_%s_%s", name, e->t);
    }
    niz_straight_call(e, v, p);
}

static void niz_straight_map(const niz_straight *e, const niz_chunk_value *v, int p)
{
    const char *op = niz_straight_operator((niz_map_code)v->code);
    if (!op) {
        if (v->count > 1)
            niz_straight_part(e, v, p);
        else
            niz_straight_one(e, v);
        return;
    }
    bool mask = v->count > 1 && v->code >= NIZ_MAP_LT && v->code <= NIZ_MAP_NE;
    if (mask) fprintf(e->f, "(%s)(", e->M);
    niz_straight_operand(e, v->x[0], v->count, p);
    fprintf(e->f, " %s ", op);
    niz_straight_operand(e, v->x[1], v->count, p);
    if (mask) fputc(')', e->f);
}

/* The elements side by side in memory, then one call. */
static void niz_straight_fold(const niz_straight *e, uint32_t i)
{
    static const char *const name[] = {"sum", "prod", "max", "min"};
    const niz_chunk_value *v = &e->c->value[i];
    fprintf(e->f, "    %s l%u[16];\n", e->S, i);
    for (int p = 0; p < niz_straight_parts(e, v->lane); p++) {
        fprintf(e->f, "    *(%s_mem *)(l%u + %d) = ", e->V, i, p * e->lanes);
        niz_straight_operand(e, v->x[0], 2, p);
        fputs(";\n", e->f);
    }
    fprintf(e->f, "    const %s v%u = niz_fold_%s_%s(l%u, %d);\n", e->S, i, name[v->code], e->t, i,
            v->lane);
}

/* ---- the kernel ------------------------------------------------------------------------------ */

static void niz_straight_lane(const niz_straight *e, uint32_t i)
{
    const niz_chunk_value *v = &e->c->value[i];
    bool mask = v->dtype == NIZ_BOOL;
    fprintf(e->f, "    const %s v%u = v%u_%d[%d]%s;\n", mask ? "int" : e->S, i, v->x[0],
            v->lane / e->lanes, v->lane % e->lanes, mask ? " != 0" : "");
}

static void niz_straight_value(const niz_straight *e, uint32_t i)
{
    const niz_chunk_value *v = &e->c->value[i];
    bool mask = v->dtype == NIZ_BOOL;
    if (v->kind == NIZ_CHUNK_CONST || v->kind == NIZ_CHUNK_IN) return;
    if (v->kind == NIZ_CHUNK_FOLD) {
        niz_straight_fold(e, i);
        return;
    }
    if (v->kind == NIZ_CHUNK_LANE) {
        niz_straight_lane(e, i);
        return;
    }
    for (int p = 0; p < niz_straight_parts(e, v->count); p++) {
        if (v->count == 1)
            fprintf(e->f, "    const %s v%u = ", mask ? "int" : e->S, i);
        else
            fprintf(e->f, "    const %s v%u_%d = ", mask ? e->M : e->V, i, p);
        if (v->kind == NIZ_CHUNK_POINTER)
            niz_straight_load(e, v, p);
        else
            niz_straight_map(e, v, p);
        fputs(";\n", e->f);
    }
}

static void niz_straight_values(const niz_straight *e)
{
    uint32_t s = 0;
    for (uint32_t i = 0; i <= e->c->n_values; i++) {
        for (; s < e->c->n_stores && e->c->store[s].after <= i; s++)
            if (!e->c->store[s].last) niz_straight_store(e, &e->c->store[s]);
        if (i < e->c->n_values) niz_straight_value(e, i);
    }
    for (s = 0; s < e->c->n_stores; s++)
        if (e->c->store[s].last) niz_straight_store(e, &e->c->store[s]);
}

void niz_chunk_emit(FILE *f, const niz_chunk_code *c, int vector_bytes, const char *name)
{
    bool single = c->dtype == NIZ_F32;
    niz_straight e = {.f = f, .c = c, .bytes = vector_bytes};
    e.lanes = vector_bytes / (single ? 4 : 8);
    e.S = single ? "float" : "double";
    e.V = single ? "niz_vf" : "niz_vd";
    e.M = single ? "niz_vi" : "niz_vl";
    e.I = single ? "int" : "long";
    e.t = single ? "f32" : "f64";
    e.i = single ? "i32" : "i64";
    e.suffix = single ? "f" : "";
    fprintf(f,
            "NIZ_STRAIGHT void %s(char *const *b, const long *n, long begin, long end, char "
            "*scratch)\n{\n    const %s *const restrict x = (const %s *)b[0];\n"
            "    %s *const restrict y = (%s *)b[1];\n"
            "    (void)x, (void)y, (void)n, (void)begin, (void)end, (void)scratch;\n",
            name, e.S, e.S, e.S, e.S);
    niz_straight_values(&e);
    fputs("}\n\n", f);
}
