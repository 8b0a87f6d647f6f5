/* columns.c - nests of columns as C.
 *
 * A strip of columns is a few vectors side by side.  The order of the contract (DESIGN §6) makes
 * line i of a block of 512 part of lane i mod 16: the lanes are swept one after another, each as
 * named accumulators that pass over its lines, so every element is read once and nothing is kept in
 * an indexed array.  Lanes come in the order in which halving folds them - l with l+8, then +4, +2,
 * +1 is "adjacent pairs" of the lanes in bit-reversed order - and so one binary counter of partial
 * results folds lanes and blocks alike.  Of few lines the upper half of the lanes, or three
 * quarters of them ..., are absent; they change nothing and are passed over.  Measured (AVX-512, 4
 * vectors): 90-100 % of a sum in free order from memory, and more than it from the cache, where
 * that one stores its sums for each line.
 *
 * SPDX-License-Identifier: MIT */
#include "codegen/emit.h"

/* Accumulators at once: with their operands they fit the registers. */
#define NIZ_COLUMN_ACCUMULATORS 8
#define NIZ_COLUMN_PARTS 4

static int niz_columns_parts(const niz_emitter *e)
{
    int folds = 0, parts = NIZ_COLUMN_PARTS;
    for (int i = 0; i < e->n->n_values; i++) folds += e->n->value[i].kind == NIZ_NEST_FOLD;
    while (parts > 1 &&
           (parts * folds > NIZ_COLUMN_ACCUMULATORS || parts * e->lanes > NIZ_COLUMN_UNIT))
        parts /= 2;
    return parts;
}

/* ---- values of columns ----------------------------------------------------------------------- */

static void niz_columns_value(niz_emitter *e, int i, bool tail)
{
    const niz_nest_value *v = &e->n->value[i];
    if (v->kind == NIZ_NEST_FOLD)
        fprintf(e->f, "        niz_columns_total_%s_%s(&t%d, %d);\n", niz_fold_names[v->code], e->t,
                i, e->parts);
    for (int p = 0; p < (v->wide ? e->parts : 1); p++) {
        niz_name name = niz_emit_name(e, (uint16_t)i, p);
        fprintf(e->f, "        const %s %s = ", niz_emit_type(e, v), name.text);
        if (v->kind == NIZ_NEST_LOAD)
            niz_emit_load(e, v, p, tail);
        else if (v->kind == NIZ_NEST_MAP)
            niz_emit_map(e, v, p);
        else
            fprintf(e->f, "t%d.s[0][%d]", i, p);
        fprintf(e->f, ";\n        (void)%s;\n", name.text);
    }
}

/* What is known before stage `stage` sweeps, and the stores of what of it is wanted. */
static void niz_columns_values(niz_emitter *e, int stage, bool tail)
{
    const niz_nest *n = e->n;
    for (int i = 0; i < n->n_values; i++)
        if (n->value[i].row && n->value[i].stage == stage) niz_columns_value(e, i, tail);
    for (int i = 0; i < n->n_stores; i++)
        if (n->access[n->store[i].access].row && n->value[n->store[i].value].stage == stage)
            niz_emit_store(e, &n->store[i], tail);
}

/* ---- sweeps ---------------------------------------------------------------------------------- */

/* One line: its pointers, values, accumulations and stores. */
static void niz_columns_line(niz_emitter *e, int stage, bool tail)
{
    const niz_nest *n = e->n;
    for (int a = 0; a < n->n_accesses; a++)
        if (!n->access[a].row)
            fprintf(e->f, "            __typeof__(a%d) p%d = a%d + i * l%d; (void)p%d;\n", a, a, a,
                    a, a);
    niz_emit_strip(e, stage, tail);
}

static bool niz_columns_folds(const niz_emitter *e, int stage)
{
    for (int i = 0; i < e->n->n_values; i++)
        if (niz_emit_folds_in(&e->n->value[i], stage)) return true;
    return false;
}

/* The lanes of each block, one after another. */
static void niz_columns_lanes(niz_emitter *e, int stage, bool tail)
{
    const niz_nest *n = e->n;
    for (int i = 0; i < n->n_values; i++)
        if (niz_emit_folds_in(&n->value[i], stage))
            fprintf(e->f, "        niz_columns_%s t%d; t%d.n = 0, t%d.d = 0;\n", e->t, i, i, i);
    fputs("        for (long c = 0; c < 16 * ((N + 511) / 512); c += niz_lane_step(N)) {\n"
          "            const long f = c / 16 * 512, z = N - f < 512 ? N : f + 512;\n",
          e->f);
    for (int i = 0; i < n->n_values; i++)
        for (int p = 0; niz_emit_folds_in(&n->value[i], stage) && p < e->parts; p++)
            fprintf(e->f, "            %s c%d_%d = niz_splat_%s(%s);\n", e->V, i, p, e->t,
                    niz_fold_start(e, n->value[i].code));
    fputs("            for (long i = f + niz_lane_order[c % 16]; i < z; i += 16) {\n", e->f);
    niz_columns_line(e, stage, tail);
    fputs("            }\n", e->f);
    for (int i = 0; i < n->n_values; i++) {
        if (!niz_emit_folds_in(&n->value[i], stage)) continue;
        fprintf(e->f, "            niz_columns_push_%s_%s(&t%d, %d",
                niz_fold_names[n->value[i].code], e->t, i, e->parts);
        for (int p = 0; p < NIZ_COLUMN_PARTS; p++)
            fprintf(e->f, ", c%d_%d", i, p < e->parts ? p : 0);
        fputs(");\n", e->f);
    }
    fputs("        }\n", e->f);
}

static void niz_columns_stage(niz_emitter *e, int stage, bool tail)
{
    niz_columns_values(e, stage, tail);
    if (!niz_emit_has_sweep(e, stage)) return;
    fprintf(e->f, "        /* stage %d */\n", stage);
    if (niz_columns_folds(e, stage)) {
        niz_columns_lanes(e, stage, tail);
        return;
    }
    fputs("        for (long i = 0; i < N; i++) {\n", e->f);
    niz_columns_line(e, stage, tail);
    fputs("        }\n", e->f);
}

void niz_emit_columns(niz_emitter *e)
{
    int parts = niz_columns_parts(e);
    fprintf(e->f,
            "    const long C = n[1], S = (C + %d) / %d;\n"
            "    for (long o = begin; o < end; o++) {\n"
            "    %s;\n    long j = o %% S * %d;\n    const long y = C - j < %d ? C : j + %d;\n",
            NIZ_COLUMN_UNIT - 1, NIZ_COLUMN_UNIT, e->n->rank ? "long q = o / S" : "(void)S",
            NIZ_COLUMN_UNIT, NIZ_COLUMN_UNIT, NIZ_COLUMN_UNIT);
    niz_emit_pointers(e);
    for (int tail = parts == 1; tail < 2; tail++) {
        e->parts = tail ? 1 : parts;
        int width = e->parts * e->lanes;
        fprintf(e->f,
                tail ? "    for (; j < y; j += %d) {\n        const long m = y - j;\n"
                     : "    for (; j + %d <= y; j += %d) {\n",
                width, width);
        for (int stage = 0; stage < e->n->n_stages; stage++) niz_columns_stage(e, stage, tail);
        fputs("    }\n", e->f);
    }
    fputs("    }\n", e->f);
}
