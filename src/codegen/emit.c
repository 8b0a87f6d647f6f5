/* emit.c - nests as C.
 *
 * The text of a kernel depends on what is computed and on the kinds of strides, never on sizes,
 * names or addresses; nothing that a user wrote reaches it.  A strip of 16 elements is a block of
 * straight-line code over named vectors; a row's last, shorter strip is the same code with loads
 * and stores that keep to its elements.
 *
 * The order of a sum leaves a row of 512 a single chain of additions where a vector has 16 lanes,
 * so rows with folds are swept in step, as many as make four chains: strip after strip, the
 * first row's, the second's ...  Names of a row end with its number.
 *
 * SPDX-License-Identifier: MIT */
#include "codegen/emit.h"

#include <string.h>

const char *const niz_fold_names[] = {"sum", "prod", "max", "min"};
static const char *const niz_fold_starts_f32[] = {"-0.0f", "1.0f", "-__builtin_inff()",
                                                  "__builtin_inff()"};
static const char *const niz_fold_starts_f64[] = {"-0.0", "1.0", "-__builtin_inf()",
                                                  "__builtin_inf()"};

const char *niz_fold_start(const niz_emitter *e, int combine)
{
    return e->n->dtype == NIZ_F32 ? niz_fold_starts_f32[combine] : niz_fold_starts_f64[combine];
}

niz_name niz_emit_name(const niz_emitter *e, uint16_t i, int p)
{
    niz_name name;
    if (e->n->value[i].wide)
        snprintf(name.text, sizeof name.text, "e%u_%d", i, p);
    else
        snprintf(name.text, sizeof name.text, "r%u%s", i, e->of);
    return name;
}

const char *niz_emit_type(const niz_emitter *e, const niz_nest_value *v)
{
    return v->dtype == e->n->dtype ? e->V : e->M; /* truth, or an index */
}

/* ---- expressions ----------------------------------------------------------------------------- */

static void niz_emit_constant(niz_emitter *e, double v)
{
    unsigned long long bits = 0;
    float f = (float)v;
    if (e->n->dtype == NIZ_F32)
        memcpy(&bits, &f, sizeof f);
    else
        memcpy(&bits, &v, sizeof v);
    fprintf(e->f, "(%s)niz_splat_%s(0x%llx)", e->V, e->i, bits);
}

static const char *niz_emit_operator(niz_map_code code)
{
    switch (code) {
    case NIZ_MAP_ADD: return "+";
    case NIZ_MAP_SUB: return "-";
    case NIZ_MAP_MUL: return "*";
    case NIZ_MAP_DIV: return "/";
    case NIZ_MAP_AND: return "&";
    case NIZ_MAP_OR: return "|";
    case NIZ_MAP_LT: return "<";
    case NIZ_MAP_LE: return "<=";
    case NIZ_MAP_GT: return ">";
    case NIZ_MAP_GE: return ">=";
    case NIZ_MAP_EQ: return "==";
    case NIZ_MAP_NE: return "!=";
    default: return NULL;
    }
}

static void niz_emit_cast(niz_emitter *e, const niz_nest_value *v, const char *a)
{
    bool from = e->n->value[v->x[0]].dtype == NIZ_BOOL, to = v->dtype == NIZ_BOOL;
    if (from == to)
        fprintf(e->f, "%s", a);
    else if (to)
        fprintf(e->f, "(%s)(%s != 0)", e->M, a);
    else
        fprintf(e->f, "niz_select_%s(%s, niz_splat_%s(1), niz_splat_%s(0))", e->t, a, e->t, e->t);
}

void niz_emit_map(niz_emitter *e, const niz_nest_value *v, int p)
{
    niz_name x[3];
    niz_map_code code = (niz_map_code)v->code;
    int arity = niz_map_arity(code);
    for (int a = 0; a < arity; a++) x[a] = niz_emit_name(e, v->x[a], p);
    const char *op = niz_emit_operator(code), *s = e->t;
    if (op) {
        bool mask = code >= NIZ_MAP_LT && code <= NIZ_MAP_NE;
        fprintf(e->f, mask ? "(%s)(%s %s %s)" : "%s%s %s %s", mask ? e->M : "", x[0].text, op,
                x[1].text);
        return;
    }
    switch (code) {
    case NIZ_MAP_CONST: niz_emit_constant(e, v->constant); return;
    case NIZ_MAP_NEG: fprintf(e->f, "-%s", x[0].text); return;
    case NIZ_MAP_NOT: fprintf(e->f, "~%s", x[0].text); return;
    case NIZ_MAP_CAST: niz_emit_cast(e, v, x[0].text); return;
    case NIZ_MAP_SIGN:
        fprintf(e->f,
                "niz_select_%s((%s)(%s > 0), niz_splat_%s(1), niz_select_%s((%s)(%s < 0), "
                "niz_splat_%s(-1), %s))",
                s, e->M, x[0].text, s, s, e->M, x[0].text, s, x[0].text);
        return;
    case NIZ_MAP_SELECT: s = v->dtype == NIZ_BOOL ? e->i : e->t; break;
    default: break;
    }
    fprintf(e->f, "niz_%s_%s(", code == NIZ_MAP_ROUND ? "rint" : niz_map_code_name(code), s);
    for (int a = 0; a < arity; a++) fprintf(e->f, "%s%s", a ? ", " : "", x[a].text);
    fputc(')', e->f);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static bool niz_emit_is_index(niz_dtype dtype)
{
    return dtype == NIZ_I32 || dtype == NIZ_I64;
}

/* An access' pointer: p for the line at hand of columns, a for the rest. */
static char niz_emit_pointer(const niz_emitter *e, const niz_access *a)
{
    return e->n->kind == NIZ_GROUP_COLUMNS && !a->row ? 'p' : 'a';
}

/* Where the strip's columns, or the row, have their index: in lanes as wide as the nest's.  An
 * index too large for them is outside its axis, so the run has failed before. */
static void niz_emit_load_index(niz_emitter *e, const niz_nest_value *v, int p, bool tail)
{
    const niz_access *a = &e->n->access[v->access];
    char step[24] = "1", m[16] = "m";
    if (!v->wide) {
        fprintf(e->f, "niz_splat_%s(*a%u%s)", e->i, v->access, e->of);
        return;
    }
    if (a->inner != 1) snprintf(step, sizeof step, "s%u", v->access);
    if (!tail) snprintf(m, sizeof m, "%d", e->parts * e->lanes);
    fprintf(e->f, "niz_index_%s_%s(a%u%s + j * %s, %s, %s, %d)", niz_dtype_name(v->dtype), e->t,
            v->access, e->of, step, step, m, p);
}

/* What the primitives of an access are called by. */
static const char *niz_emit_as(const niz_emitter *e, niz_dtype dtype)
{
    static const char *const as[] = {[NIZ_F32] = "f32_", [NIZ_F64] = "f64_", [NIZ_U8] = "u8_",
                                     [NIZ_I32] = "i32_", [NIZ_I64] = "i64_", [NIZ_BOOL] = "mask_"};
    return dtype == e->n->dtype ? "" : as[dtype];
}

void niz_emit_load(niz_emitter *e, const niz_nest_value *v, int p, bool tail)
{
    const niz_access *a = &e->n->access[v->access];
    if (niz_emit_is_index(v->dtype)) {
        niz_emit_load_index(e, v, p, tail);
        return;
    }
    const char *as = niz_emit_as(e, a->dtype);
    char at = niz_emit_pointer(e, a);
    if (!v->wide && v->dtype == NIZ_BOOL)
        fprintf(e->f, "niz_splat_%s(-(*%c%u%s != 0))", e->i, at, v->access, e->of);
    else if (!v->wide)
        fprintf(e->f, "niz_splat_%s(*%c%u%s)", e->t, at, v->access, e->of);
    else if (a->inner == 1 && !tail)
        fprintf(e->f, "niz_%sload_%s(%c%u%s + j + %d)", as, e->t, at, v->access, e->of,
                p * e->lanes);
    else if (a->inner == 1)
        fprintf(e->f, "niz_%spart_load_%s(%c%u%s + j, 1, m, %d)", as, e->t, at, v->access, e->of,
                p);
    else if (tail)
        fprintf(e->f, "niz_%spart_load_%s(%c%u%s + j * s%u, s%u, m, %d)", as, e->t, at, v->access,
                e->of, v->access, v->access, p);
    else
        fprintf(e->f, "niz_%spart_load_%s(%c%u%s + j * s%u, s%u, %d, %d)", as, e->t, at, v->access,
                e->of, v->access, v->access, e->parts * e->lanes, p);
}

/* Whether lanes are in the place that an index says: along the row, or of columns at line i. */
static void niz_emit_hit(niz_emitter *e, const niz_nest_value *v, int p)
{
    niz_name x = niz_emit_name(e, v->x[0], p);
    if (e->n->kind == NIZ_GROUP_COLUMNS)
        fprintf(e->f, "(%s)(niz_splat_%s(i) == %s)", e->M, e->i, x.text);
    else
        fprintf(e->f, "(%s)(niz_places_%s(j, %d) == %s)", e->M, e->t, p, x.text);
}

void niz_emit_store(niz_emitter *e, const niz_nest_store *s, bool tail)
{
    const niz_nest_value *v = &e->n->value[s->value];
    const niz_access *a = &e->n->access[s->access];
    const char *mask = niz_emit_as(e, v->dtype);
    char at = niz_emit_pointer(e, a), m[16] = "m";
    if (!tail) snprintf(m, sizeof m, "%d", e->parts * e->lanes);
    for (int p = 0; p < e->parts; p++) {
        niz_name x = niz_emit_name(e, s->value, p);
        if (a->inner != 1)
            fprintf(e->f, "            niz_%sspread_%s(%c%u%s + j * s%u, s%u, %s, %s, %d);\n", mask,
                    e->t, at, s->access, e->of, s->access, s->access, x.text, m, p);
        else if (tail)
            fprintf(e->f, "            niz_%spart_store_%s(%c%u%s + j, %s, m, %d);\n", mask, e->t,
                    at, s->access, e->of, x.text, p);
        else
            fprintf(e->f, "            niz_%sstore_%s(%c%u%s + j + %d, %s);\n", mask, e->t, at,
                    s->access, e->of, p * e->lanes, x.text);
    }
}

/* ---- one strip ------------------------------------------------------------------------------- */

/* Marks the element values that a stage needs for value i; kept ones of earlier stages are loaded.
 */
static void niz_emit_need(niz_emitter *e, uint16_t i, int stage)
{
    uint16_t stack[NIZ_NEST_VALUES * 3];
    int top = 0;
    for (stack[top++] = i; top;) {
        uint16_t now = stack[--top];
        const niz_nest_value *v = &e->n->value[now];
        if (e->seen[now] || v->row) continue;
        e->seen[now] = true;
        if ((v->keep && v->stage < stage) || v->kind != NIZ_NEST_MAP) continue;
        for (int a = 0; a < niz_map_arity((niz_map_code)v->code); a++) stack[top++] = v->x[a];
    }
}

bool niz_emit_folds_in(const niz_nest_value *v, int stage)
{
    return v->kind == NIZ_NEST_FOLD && v->stage == stage + 1;
}

static bool niz_emit_stores_in(const niz_emitter *e, const niz_nest_store *s, int stage)
{
    const niz_nest_value *v = &e->n->value[s->value];
    return !e->n->access[s->access].row && v->stage <= stage &&
           (v->stage == stage || (v->row && stage + 1 == e->n->n_stages));
}

static void niz_emit_stage_needs(niz_emitter *e, int stage)
{
    memset(e->seen, 0, sizeof e->seen);
    for (int i = 0; i < e->n->n_stores; i++)
        if (niz_emit_stores_in(e, &e->n->store[i], stage))
            niz_emit_need(e, e->n->store[i].value, stage);
    for (int i = 0; i < e->n->n_values; i++) {
        if (niz_emit_folds_in(&e->n->value[i], stage)) niz_emit_need(e, e->n->value[i].x[0], stage);
        if (e->n->value[i].keep && e->n->value[i].stage == stage)
            niz_emit_need(e, (uint16_t)i, stage);
    }
}

/* Where a kept value's strip is in scratch memory. */
static void niz_emit_kept(niz_emitter *e, const niz_nest_value *v, int p)
{
    if (e->n->kind == NIZ_GROUP_COLUMNS)
        fprintf(e->f, "t + (%u * N + i) * %d + %d", v->slot, e->parts * e->lanes, p * e->lanes);
    else
        fprintf(e->f, "t + (%u + %d) * R + j + %d", v->slot * (unsigned)e->rows, e->row,
                p * e->lanes);
}

static void niz_emit_value(niz_emitter *e, int i, int stage, bool tail)
{
    const niz_nest_value *v = &e->n->value[i];
    bool kept = v->keep && v->stage < stage;
    for (int p = 0; p < (v->wide ? e->parts : 1); p++) {
        niz_name name = niz_emit_name(e, (uint16_t)i, p);
        fprintf(e->f, "            const %s %s = ", niz_emit_type(e, v), name.text);
        if (kept) {
            fprintf(e->f, "niz_load_%s(", e->t);
            niz_emit_kept(e, v, p);
            fputc(')', e->f);
        } else if (v->kind == NIZ_NEST_LOAD) {
            niz_emit_load(e, v, p, tail);
        } else if (v->kind == NIZ_NEST_HIT) {
            niz_emit_hit(e, v, p);
        } else {
            niz_emit_map(e, v, p);
        }
        fputs(";\n", e->f);
        if (!v->keep || kept) continue;
        fprintf(e->f, "            niz_store_%s(", e->t);
        niz_emit_kept(e, v, p);
        fprintf(e->f, ", %s);\n", name.text);
    }
}

static void niz_emit_accumulate(niz_emitter *e, int i, bool tail)
{
    const niz_nest_value *v = &e->n->value[i];
    static const char *const how[] = {"%s + x", "%s * x", "niz_max_%s(%s, x)", "niz_min_%s(%s, x)"};
    for (int p = 0; p < e->parts; p++) {
        niz_name x = niz_emit_name(e, v->x[0], p), c;
        snprintf(c.text, sizeof c.text, "c%d_%d%s", i, p, e->of);
        fprintf(e->f, "            { const %s x = ", e->V);
        if (tail && e->n->kind != NIZ_GROUP_COLUMNS) /* lanes are columns there */
            fprintf(e->f, "niz_select_%s(niz_first_%s(m, %d), %s, niz_splat_%s(%s))", e->t, e->t, p,
                    x.text, e->t, niz_fold_start(e, v->code));
        else
            fputs(x.text, e->f);
        fprintf(e->f, "; %s = ", c.text);
        if (v->code <= NIZ_COMBINE_PROD)
            fprintf(e->f, how[v->code], c.text);
        else
            fprintf(e->f, how[v->code], e->t, c.text);
        fputs("; }\n", e->f);
    }
}

/* Whether an access is read ahead: it is walked element by element, and not written. */
static bool niz_emit_is_ahead(const niz_nest *n, int access)
{
    const niz_access *a = &n->access[access];
    for (int i = 0; i < n->n_stores; i++)
        if (n->store[i].access == access) return false;
    /* rows with folds are in cache all the time, and what comes next would drive them out */
    bool rows = n->kind == NIZ_GROUP_ROWS && n->rank && n->n_stages == 1;
    return a->wide && a->inner == 1 && !a->tile && (n->kind == NIZ_GROUP_FLAT || rows);
}

/* Lines of memory that come soon: the machine's own guess ends with each page. */
static void niz_emit_ahead(niz_emitter *e, int stage)
{
    for (int a = 0; stage == e->last && a < e->n->n_accesses; a++)
        if (niz_emit_is_ahead(e->n, a))
            fprintf(e->f, "            __builtin_prefetch(a%d%s + j + f%d);\n", a, e->of, a);
}

/* Whether a value is loaded once for all rows in step. */
static bool niz_emit_is_same(const niz_emitter *e, int i)
{
    const niz_nest_value *v = &e->n->value[i];
    return e->rows > 1 && v->kind == NIZ_NEST_LOAD && v->wide && e->n->access[v->access].same;
}

void niz_emit_strip(niz_emitter *e, int stage, bool tail)
{
    if (!tail) niz_emit_ahead(e, stage);
    for (int i = 0; i < e->n->n_values; i++)
        if (e->seen[i] && !niz_emit_is_same(e, i)) niz_emit_value(e, i, stage, tail);
    for (int i = 0; i < e->n->n_values; i++)
        if (niz_emit_folds_in(&e->n->value[i], stage)) niz_emit_accumulate(e, i, tail);
    for (int i = 0; i < e->n->n_stores; i++)
        if (niz_emit_stores_in(e, &e->n->store[i], stage)) niz_emit_store(e, &e->n->store[i], tail);
}

/* ---- one stage: a row in blocks of 512 ------------------------------------------------------- */

/* What follows is about row u of those in step, and is named after it if there are several. */
static void niz_emit_row(niz_emitter *e, int u)
{
    static const char of[NIZ_ROWS_IN_STEP][4] = {"_0", "_1", "_2", "_3"};
    e->row = u;
    e->of = e->rows > 1 ? of[u] : "";
}

static void niz_emit_fold_begin(niz_emitter *e, int stage)
{
    for (int u = 0; u < e->rows; u++)
        for (int i = 0; i < e->n->n_values; i++)
            for (int p = 0; niz_emit_folds_in(&e->n->value[i], stage) && p < e->parts; p++) {
                niz_emit_row(e, u);
                fprintf(e->f, "        %s c%d_%d%s = niz_splat_%s(%s);\n", e->V, i, p, e->of, e->t,
                        niz_fold_start(e, e->n->value[i].code));
            }
}

/* Where a block's result goes: to each node that is this fold. */
static void niz_emit_partial(const niz_emitter *e, int value)
{
    for (int i = 0; i < e->n->n_stores; i++)
        if (e->n->store[i].partial && e->n->store[i].value == value)
            fprintf(e->f, "a%u[o] = ", e->n->store[i].access);
}

/* The block's lanes folded: to the rows' tree, or in a flat nest to memory. */
static void niz_emit_fold_end(niz_emitter *e, int i)
{
    const niz_nest_value *v = &e->n->value[i];
    const char *name = niz_fold_names[v->code];
    fprintf(e->f, "        { %s l[%d];\n", e->S, 16 * e->rows);
    for (int u = 0; u < e->rows; u++)
        for (int p = 0; p < e->parts; p++) {
            niz_emit_row(e, u);
            fprintf(e->f, "          niz_store_%s(l + %d, c%d_%d%s);\n", e->t,
                    16 * u + p * e->lanes, i, p, e->of);
        }
    fputs("          ", e->f);
    if (e->n->kind == NIZ_GROUP_FLAT) {
        niz_emit_partial(e, i);
        fprintf(e->f, "niz_lanes_%s_%s(l); }\n", name, e->t);
    } else {
        fprintf(e->f, "niz_push_%s_%s(&t%d, l, %d); }\n", name, e->t, i, e->rows);
    }
}

/* One strip of each row; first what is the same for all of them. */
static void niz_emit_strips(niz_emitter *e, int stage, bool tail)
{
    niz_emit_row(e, 0);
    for (int i = 0; i < e->n->n_values; i++)
        if (e->seen[i] && niz_emit_is_same(e, i)) niz_emit_value(e, i, stage, tail);
    for (int u = 0; u < e->rows; u++) {
        niz_emit_row(e, u);
        fputs("            {\n", e->f);
        niz_emit_strip(e, stage, tail);
        fputs("            }\n", e->f);
    }
}

static void niz_emit_blocks(niz_emitter *e, int stage)
{
    niz_emit_stage_needs(e, stage);
    niz_emit_fold_begin(e, stage);
    fputs("        long j = c;\n        for (; j + 16 <= z; j += 16) {\n", e->f);
    niz_emit_strips(e, stage, false);
    fputs("        }\n        if (j < z) {\n            const long m = z - j;\n            "
          "(void)m;\n",
          e->f);
    niz_emit_strips(e, stage, true);
    fputs("        }\n", e->f);
    for (int i = 0; i < e->n->n_values; i++)
        if (niz_emit_folds_in(&e->n->value[i], stage)) niz_emit_fold_end(e, i);
}

/* Row values known before stage `stage` sweeps, and the stores of those that are wanted. */
static void niz_emit_row_values(niz_emitter *e, int stage)
{
    const niz_nest *n = e->n;
    for (int i = 0; i < n->n_values; i++) {
        const niz_nest_value *v = &n->value[i];
        if (!v->row || v->stage != stage || (n->kind == NIZ_GROUP_FLAT && v->kind == NIZ_NEST_FOLD))
            continue;
        fprintf(e->f, "    const %s r%d%s = ", niz_emit_type(e, v), i, e->of);
        if (v->kind == NIZ_NEST_LOAD)
            niz_emit_load(e, v, 0, false);
        else if (v->kind == NIZ_NEST_MAP)
            niz_emit_map(e, v, 0);
        else
            fprintf(e->f, "niz_splat_%s(t%d.s[0][NIZ_ROW_LANE_%s(%d)])", e->t, i, e->t, e->row);
        fprintf(e->f, ";\n    (void)r%d%s;\n", i, e->of);
    }
}

/* The stores of those that are wanted. */
static void niz_emit_row_stores(niz_emitter *e, int stage)
{
    const niz_nest *n = e->n;
    for (int i = 0; i < n->n_stores; i++) {
        const niz_nest_store *s = &n->store[i];
        const niz_nest_value *v = &n->value[s->value];
        if (!n->access[s->access].row || s->partial || v->stage != stage) continue;
        fprintf(e->f,
                v->dtype == NIZ_BOOL ? "    *a%u%s = (signed char)(r%u%s[0] != 0);\n"
                                     : "    *a%u%s = r%u%s[0];\n",
                s->access, e->of, s->value, e->of);
    }
}

bool niz_emit_has_sweep(niz_emitter *e, int stage)
{
    niz_emit_stage_needs(e, stage);
    for (int i = 0; i < e->n->n_values; i++)
        if (e->seen[i] || niz_emit_folds_in(&e->n->value[i], stage)) return true;
    for (int i = 0; i < e->n->n_stores; i++)
        if (niz_emit_stores_in(e, &e->n->store[i], stage)) return true;
    return false;
}

static void niz_emit_rows_values(niz_emitter *e, int stage)
{
    for (int i = 0; stage && i < e->n->n_values; i++)
        if (niz_emit_folds_in(&e->n->value[i], stage - 1))
            fprintf(e->f, "    if (N > 512) niz_total_%s_%s(&t%d);\n",
                    niz_fold_names[e->n->value[i].code], e->t, i);
    for (int u = 0; u < e->rows; u++) {
        niz_emit_row(e, u);
        niz_emit_row_values(e, stage);
    }
    for (int u = 0; u < e->rows; u++) {
        niz_emit_row(e, u);
        niz_emit_row_stores(e, stage);
    }
}

static void niz_emit_trees(niz_emitter *e, int stage)
{
    for (int i = 0; i < e->n->n_values; i++)
        if (niz_emit_folds_in(&e->n->value[i], stage))
            fprintf(e->f, "    niz_tree_%s t%d; t%d.n = 0, t%d.d = 0;\n", e->t, i, i, i);
}

static void niz_emit_stage(niz_emitter *e, int stage)
{
    niz_emit_rows_values(e, stage);
    if (!niz_emit_has_sweep(e, stage)) return;
    niz_emit_trees(e, stage);
    fprintf(e->f,
            "    /* stage %d */\n    for (long c = 0; c < N; c += %d) {\n"
            "        const long z = N - c < %d ? N : c + %d;\n",
            stage, NIZ_FLAT_BLOCK, NIZ_FLAT_BLOCK, NIZ_FLAT_BLOCK);
    niz_emit_blocks(e, stage);
    fputs("    }\n", e->f);
}

/* ---- the kernel ------------------------------------------------------------------------------ */

static bool niz_emit_is_stored(const niz_nest *n, int access)
{
    for (int i = 0; i < n->n_stores; i++)
        if (n->store[i].access == access) return true;
    return false;
}

/* Strides along the axes of the nest. */
static void niz_emit_strides(niz_emitter *e)
{
    const niz_nest *n = e->n;
    int sizes = 1 + (n->kind == NIZ_GROUP_COLUMNS), k = sizes + n->rank;
    for (int a = 0; a < n->n_accesses; a++, k += sizes + n->rank) {
        if (niz_emit_is_ahead(n, a) && !n->rank)
            fprintf(e->f, "    const long f%d = %d;\n", a, NIZ_AHEAD);
        else if (niz_emit_is_ahead(n, a)) /* in the rows that come next; none if it is always one */
            fprintf(e->f, "    const long f%d = %d * n[%d] < %d && n[%d] ? %d : %d * n[%d];\n", a,
                    e->rows, k + n->rank, NIZ_AHEAD, k + n->rank, NIZ_AHEAD, e->rows, k + n->rank);
        if (n->access[a].wide && n->access[a].inner != 1)
            fprintf(e->f, "    const long s%d = n[%d];\n", a, k);
        if (sizes == 2 && !n->access[a].row)
            fprintf(e->f, "    const long l%d = n[%d];\n", a, k + 1);
    }
}

const char *niz_emit_memory(niz_dtype dtype)
{
    static const char *const type[] = {
        [NIZ_F32] = "float",          [NIZ_F64] = "double",         [NIZ_U8] = "unsigned char",
        [NIZ_I32] = "__INT32_TYPE__", [NIZ_I64] = "__INT64_TYPE__", [NIZ_BOOL] = "signed char"};
    return type[dtype];
}

void niz_emit_pointers(niz_emitter *e)
{
    const niz_nest *n = e->n;
    int sizes = 1 + (n->kind == NIZ_GROUP_COLUMNS), k = sizes + n->rank;
    if (e->row == 0) niz_emit_strides(e);
    for (int d = n->rank; d-- > 0;)
        fprintf(e->f,
                d ? "    const long i%d%s = q%s %% n[%d]; q%s /= n[%d];\n"
                  : "    const long i%d%s = q%s;\n",
                d, e->of, e->of, sizes + d, e->of, sizes + d);
    for (int a = 0; a < n->n_accesses; a++, k += sizes + n->rank) {
        const char *type = niz_emit_memory(n->access[a].dtype);
        const char *constant = niz_emit_is_stored(n, a) ? "" : "const ";
        fprintf(e->f, "    %s%s *const a%d%s = (%s%s *)b[%d]", constant, type, a, e->of, constant,
                type, a);
        for (int d = 0; d < n->rank; d++)
            fprintf(e->f, " + i%d%s * n[%d]", d, e->of, k + sizes + d);
        fputs(";\n", e->f);
    }
}

static niz_emitter niz_emit_begin(FILE *f, const niz_nest *n, int vector_bytes)
{
    bool single = n->dtype == NIZ_F32;
    niz_emitter e = {.f = f, .n = n, .lanes = vector_bytes / (single ? 4 : 8)};
    e.parts = 16 / e.lanes;
    e.rows = 1;
    niz_emit_row(&e, 0);
    e.S = single ? "float" : "double";
    e.V = single ? "niz_vf" : "niz_vd";
    e.M = single ? "niz_vi" : "niz_vl";
    e.t = single ? "f32" : "f64";
    e.i = single ? "i32" : "i64";
    return e;
}

static void niz_emit_flat(niz_emitter *e)
{
    niz_emit_pointers(e);
    niz_emit_row_values(e, 0);
    fprintf(e->f,
            "    for (long o = begin; o < end; o++) {\n        const long c = o * %d, "
            "z = N - c < %d ? N : c + %d;\n",
            NIZ_FLAT_BLOCK, NIZ_FLAT_BLOCK, NIZ_FLAT_BLOCK);
    niz_emit_blocks(e, 0);
    fputs("    }\n", e->f);
}

static void niz_emit_rows_in_step(niz_emitter *e, int rows)
{
    e->rows = rows;
    fprintf(e->f, "    for (; o + %d <= end; o += %d) {\n", rows, rows);
    for (int u = 0; u < rows; u++) {
        niz_emit_row(e, u);
        if (e->n->rank) fprintf(e->f, "    long q%s = o + %d;\n", e->of, u);
        niz_emit_pointers(e);
    }
    for (int stage = 0; stage < e->n->n_stages; stage++) niz_emit_stage(e, stage);
    fputs("    }\n", e->f);
}

/* Rows that are left over go one by one: to ask at each strip whether there is a second, a third
 * and a fourth row is dearer. */
static void niz_emit_rows(niz_emitter *e)
{
    int rows = niz_nest_rows(e->n, e->parts);
    for (int stage = 0; stage < e->n->n_stages; stage++)
        if (niz_emit_has_sweep(e, stage)) e->last = stage;
    fputs("    long o = begin;\n", e->f);
    if (rows > 1) niz_emit_rows_in_step(e, rows);
    niz_emit_rows_in_step(e, 1);
}

void niz_nest_emit(FILE *f, const niz_nest *n, int vector_bytes, const char *name)
{
    niz_emitter e = niz_emit_begin(f, n, vector_bytes);
    fprintf(f, "void %s(char *const *b, const long *n, long begin, long end, char *scratch)\n{\n",
            name);
    fprintf(f,
            "    const long N = n[0], R = (N + 15) / 16 * 16;\n    %s *const t = (%s *)scratch;\n"
            "    (void)R, (void)t;\n",
            e.S, e.S);
    if (n->kind == NIZ_GROUP_FLAT)
        niz_emit_flat(&e);
    else if (n->kind == NIZ_GROUP_COLUMNS)
        niz_emit_columns(&e);
    else
        niz_emit_rows(&e);
    fputs("}\n\n", f);
}
