/* op_rule.c - a record's derivatives, and its text.  SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "check/op.h"
#include "core/context.h"

#define NIZ_RULE_ELEMENTS 5000 /* larger cases say nothing more about a rule */

/* ---- derivatives ---------------------------------------------------------------------------- */

static niz_t niz_rule_function(niz *z, int n, const niz_t *x, void *arg)
{
    const niz_case *c = arg;
    return niz_apply_in(z, NIZ_OP_AT, c->op, n, x, &c->attr);
}

/* A floating result of floating operands, not too large. */
static bool niz_rule_applies(const niz_case *c)
{
    bool floating = false;
    int64_t n = niz_shape_count(&c->y_shape);
    for (int k = 0; k < c->n; k++) {
        floating = floating || niz_dtype_is_float(c->dtype[k]);
        n += niz_shape_count(&c->shape[k]);
    }
    return floating && niz_dtype_is_float(c->y_dtype) && !c->sample->no_gradient &&
           !c->sample->in && n <= NIZ_RULE_ELEMENTS;
}

bool niz_op_test_rules(niz_op_test *t, niz_case *c)
{
    if (!niz_rule_applies(c)) return true;
    niz_recording *r = niz_recording_of(t->z[0]);
    niz_t x[NIZ_CASE_OPERANDS];
    for (int k = 0; k < c->n; k++) x[k] = niz_case_operand(r, c, k);
    niz_check_options o = {.order = c->op->no_gradient ? 1 : 2, .directions = 2, .elements = 24,
                           .tolerance = 1e-6, .seed = 1};
    niz_check_report g = niz_check_grad_at(NIZ_OP_AT, niz_rule_function, c, c->n, x, o);
    t->report.checks += g.checks;
    if (g.verdict == NIZ_CHECK_OK) t->derivatives++;
    /* no influence at all is right too: of where's other operand, of no elements, of floor */
    if (g.verdict == NIZ_CHECK_OK || g.verdict == NIZ_CHECK_VACUOUS) return true;
    t->report.order = g.order;
    t->report.input = g.input;
    t->report.element = g.element;
    t->report.analytic = g.analytic;
    t->report.numeric = g.numeric;
    t->report.error = g.error;
    return niz_op_failed(t, c, g.verdict, "%s", g.text);
}

/* ---- text ----------------------------------------------------------------------------------- */

static char *niz_text_print(niz_t y)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    niz_status status = niz_print(f, 1, &y);
    if (!fclose(f) && !status) return text;
    free(text);
    return NULL;
}

/* Printed and parsed on the same leaves, an application is the same node again. */
bool niz_op_test_text(niz_op_test *t, niz_case *c)
{
    niz *z = t->z[0];
    niz_t x[NIZ_CASE_OPERANDS], y = niz_case_apply(niz_recording_of(z), c, x), back;
    char *text = niz_text_print(y);
    if (!text) return niz_op_failed(t, c, NIZ_CHECK_ERROR, "cannot be printed: %s", niz_message(z));
    bool parsed = !niz_parse(z, text, c->n, x, 1, &back);
    t->report.checks++;
    bool same = parsed && back.id == y.id;
    if (!parsed)
        niz_op_failed(t, c, NIZ_CHECK_WRONG, "its text is not parsed back: %s\n%s", niz_message(z),
                      text);
    else if (!same)
        niz_op_failed(t, c, NIZ_CHECK_WRONG, "its text is parsed back as another node:\n%s", text);
    free(text);
    return same;
}
