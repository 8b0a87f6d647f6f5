/* op.c - niz_check_op: a record's samples, in every way.
 *
 * It knows no operation: what to apply, what must come out and what must be refused is in the
 * record.
 *
 * SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <string.h>

#include "check/op.h"
#include "core/context.h"
#include "exec/jit.h"

bool niz_op_failed(niz_op_test *t, const niz_case *c, niz_check_verdict verdict,
                   const char *format, ...)
{
    static const char *const layout[] = {"", ", axes permuted", ", every second element",
                                         ", flipped"};
    if (t->report.verdict != NIZ_CHECK_OK) return false;
    t->report.verdict = verdict;
    niz_report_add(&t->report, "%s", t->op->name);
    for (int k = 0; c && k < c->n; k++)
        niz_report_add(&t->report, "%s %s", k ? "," : "",
                       niz_type_text(c->dtype[k], &c->shape[k]).text);
    if (c) niz_report_add(&t->report, " (sample %d%s)", c->number, layout[c->layout]);
    char why[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    niz_report_add(&t->report, ": %s", why);
    return false;
}

/* ---- executors ------------------------------------------------------------------------------ */

static bool niz_op_executor(niz_op_test *t, const niz_loops *loops, int threads, bool compiled)
{
    if (t->n_executors == NIZ_MAX_EXECUTORS) return true;
    niz *z = niz_open(&(niz_options){.threads = threads, .jit = NIZ_JIT_OFF});
    niz_exec *e = z ? niz_exec_of(z) : NULL;
    bool ok = e != NULL;
    if (ok) e->loops = loops;
    if (ok && compiled) {
        z->options.jit = NIZ_JIT_SYNC;
        ok = niz_jit_open(e);
    }
    if (!ok) {
        niz_close(z);
        return niz_op_failed(t, NULL, NIZ_CHECK_ERROR, "no memory");
    }
    t->isa[t->n_executors] = loops->isa;
    t->threads[t->n_executors] = threads;
    t->compiled[t->n_executors] = compiled;
    t->z[t->n_executors++] = z;
    return true;
}

/* The interpreter on every instruction set with 1, 2 and 4 threads, and compiled kernels on the best
 * (each set wants other kernels: compiling takes most of the time). */
static bool niz_op_executors(niz_op_test *t)
{
    static const int threads[] = {1, 2, 4};
    for (int i = 0; niz_isa_get(i); i++)
        for (int n = 0; n < NIZ_COUNT(threads); n++)
            if (!niz_op_executor(t, niz_isa_get(i), threads[n], false)) return false;
    return niz_op_executor(t, niz_isa_get(0), 2, true);
}

/* ---- refusals ------------------------------------------------------------------------------- */

/* At recording, or for an index outside its axis at running. */
static bool niz_op_refuses(niz_op_test *t, const niz_case *c, char message[1024])
{
    niz *z = t->z[0];
    niz_t x[NIZ_CASE_OPERANDS], y = niz_case_apply(niz_recording_of(z), c, x);
    if (!niz_error(z)) niz_run_at(NIZ_OP_AT, z, 1, &y);
    bool refused = niz_error(z) != NIZ_OK;
    snprintf(message, 1024, "%s", niz_message(z));
    niz_clear_error(z);
    return refused;
}

static bool niz_op_works_on(niz *z)
{
    niz_t one = niz_scalar_at(NIZ_OP_AT, z, NIZ_F64, 1);
    return niz_item_at(NIZ_OP_AT, one) == 1 && !niz_error(z);
}

static bool niz_op_test_message(niz_op_test *t, const niz_case *c, const char *message)
{
    char where[64];
    t->report.checks++;
    snprintf(where, sizeof where, " at %s:%d", NIZ_OP_AT.file, NIZ_OP_AT.line);
    if (!strstr(message, where) || !strstr(message, t->op->name))
        return niz_op_failed(t, c, NIZ_CHECK_WRONG,
                             "the message lacks its name or the caller's line: \"%s\"", message);
    if (niz_op_works_on(t->z[0])) return true;
    return niz_op_failed(t, c, NIZ_CHECK_WRONG, "the context does not work on after \"%s\"",
                         message);
}

static bool niz_op_test_refusal(niz_op_test *t, niz_case *c)
{
    bool said = false;
    char message[1024] = "";
    niz_case_shape(c, 0);
    for (int d = 0; d < NIZ_CASE_DTYPES; d++) {
        NIZ_STEP(t->z[0]);
        if (!niz_case_dtype(c, d) || !niz_case_values(t, c)) continue;
        if (niz_op_refuses(t, c, message)) {
            if (!niz_op_test_message(t, c, message)) return false;
            said = said || strstr(message, c->sample->refused);
        } else if (d == NIZ_F32 || d == NIZ_F64) { /* a refusal may be of the dtypes alone */
            return niz_op_failed(t, c, NIZ_CHECK_WRONG, "is not refused; it should be: \"%s\"",
                                 c->sample->refused);
        }
    }
    if (said) return true;
    return niz_op_failed(t, c, NIZ_CHECK_WRONG, "is refused with \"%s\", not with \"%s\"", message,
                         c->sample->refused);
}

/* ---- samples -------------------------------------------------------------------------------- */

/* Whether the record takes these operands at all; keeps the first message. */
static bool niz_op_takes(niz_op_test *t, const niz_case *c, char message[1024])
{
    niz *z = t->z[0];
    niz_t x[NIZ_CASE_OPERANDS];
    niz_case_apply(niz_recording_of(z), c, x);
    bool takes = !niz_error(z);
    if (!takes && !message[0]) snprintf(message, 1024, "%s", niz_message(z));
    niz_clear_error(z);
    return takes;
}

static bool niz_op_test_layouts(niz_op_test *t, niz_case *c)
{
    for (int l = 0; l < NIZ_N_LAYOUTS; l++) {
        NIZ_STEP(t->z[0]);
        c->layout = (niz_case_layout)l;
        if (niz_case_has_layout(c, c->layout) && !niz_op_test_values(t, c)) return false;
    }
    c->layout = NIZ_LAYOUT_PLAIN;
    NIZ_STEP(t->z[0]);
    return niz_op_test_text(t, c) && niz_op_test_rules(t, c);
}

static bool niz_op_test_sample(niz_op_test *t, niz_case *c)
{
    char message[1024] = "";
    int taken = 0;
    if (c->sample->refused) return niz_op_test_refusal(t, c);
    for (int s = 0, n = niz_case_shapes(c->op, c->sample); s < n; s++) {
        niz_case_shape(c, s);
        for (int d = 0; d < NIZ_CASE_DTYPES; d++) {
            NIZ_STEP(t->z[0]); /* holds the operands' values */
            c->layout = NIZ_LAYOUT_PLAIN;
            if (!niz_case_dtype(c, d) || !niz_case_values(t, c) || !niz_op_takes(t, c, message))
                continue;
            taken++;
            if (!niz_op_test_layouts(t, c)) return false;
        }
    }
    if (taken) return true;
    return niz_op_failed(t, c, NIZ_CHECK_WRONG, "no dtype is taken: %s", message);
}

/* ---- the record ----------------------------------------------------------------------------- */

static const char *niz_op_lacks(const niz_op *op)
{
    if (!op->name || !op->name[0]) return "it has no name";
    if (niz_op_form(op) == NIZ_FORM_LEAF) return "a leaf computes nothing";
    if (!op->infer) return "it has no .infer";
    if (!op->ref && !op->ref_tensor) return "it has no reference: give it .ref or .ref_tensor";
    if (!op->n_samples) return "it has no .samples";
    if (!op->no_gradient && !op->partial && !op->adjoint && !op->vjp)
        return "it has no derivative rule and no .no_gradient";
    return NULL;
}

static void niz_op_test_all(niz_op_test *t)
{
    bool values = false;
    for (int s = 0; s < t->op->n_samples; s++) {
        niz_case c = {.op = t->op, .sample = &t->op->samples[s], .number = s};
        values = values || !c.sample->refused;
        if (!niz_op_test_sample(t, &c)) return;
    }
    if (!values)
        niz_op_failed(t, NULL, NIZ_CHECK_ERROR, "all its samples are refusals");
    else if (!t->op->no_gradient && !t->derivatives)
        niz_op_failed(t, NULL, NIZ_CHECK_ERROR, "no sample checked its derivative");
}

niz_check_report niz_check_op(const niz_op *op)
{
    niz_op_test t = {.op = op, .random = 1};
    t.report = (niz_check_report){.order = 1, .input = -1, .element = -1};
    const char *lacks = op ? niz_op_lacks(op) : "no record";
    if (lacks) {
        niz_check_report r = niz_report_error((niz_at){0}, op && op->name ? op->name : "?");
        niz_report_add(&r, ": %s", lacks);
        return r;
    }
    t.report.op = op->name;
    if (niz_op_executors(&t)) niz_op_test_all(&t);
    for (int e = 0; e < t.n_executors; e++) niz_close(t.z[e]);
    if (t.report.verdict == NIZ_CHECK_OK)
        niz_report_add(&t.report, "%s: right, %lld comparisons, %d executors", op->name,
                       (long long)t.report.checks, t.n_executors);
    return t.report;
}
