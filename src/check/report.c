/* report.c - a finding in words.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "check/check.h"

const char *niz_check_verdict_name(niz_check_verdict v)
{
    static const char *const name[] = {"right",
                                       "wrong",
                                       "not differentiable here",
                                       "nothing was checked",
                                       "values decide the graph's form",
                                       "too noisy to tell",
                                       "error"};
    return (unsigned)v <= NIZ_CHECK_ERROR ? name[v] : "?";
}

void niz_report_add(niz_check_report *r, const char *format, ...)
{
    size_t used = strlen(r->text);
    va_list args;
    va_start(args, format);
    vsnprintf(r->text + used, sizeof r->text - used, format, args);
    va_end(args);
}

niz_check_report niz_report_error(niz_at at, const char *message)
{
    niz_check_report r = {.verdict = NIZ_CHECK_ERROR, .order = 1, .input = -1, .element = -1,
                          .at = at};
    niz_report_add(&r, "%s", message);
    return r;
}

/* ---- parts of a sentence -------------------------------------------------------------------- */

/* What a ratio often means. */
static const char *niz_report_hint(double ratio)
{
    if (fabs(ratio + 1) < 1e-6) return ": the sign";
    if (fabs(ratio - 0.5) < 1e-6 || fabs(ratio - 2) < 1e-6) return ": a factor of two";
    if (ratio == 0) return ": the share of this operand is missing";
    return "";
}

static void niz_report_values(niz_check_report *r, const niz_finding *f)
{
    if (f->verdict == NIZ_CHECK_KINK) {
        niz_report_add(r, "not differentiable here: slope %.9g on the left, %.9g on the right "
                          "(the rule gives %.9g)", f->left, f->right, f->analytic);
        return;
    }
    niz_report_add(r, "reverse %.9g, %s %.9g", f->analytic, f->modes ? "forward" : "numeric",
                   f->numeric);
    if (!f->modes) niz_report_add(r, " ± %.1g", f->error);
    double ratio = f->analytic / f->numeric;
    if (f->verdict == NIZ_CHECK_WRONG && isfinite(ratio))
        niz_report_add(r, " (ratio %.6g%s)", ratio, niz_report_hint(ratio));
    if (f->modes) niz_report_add(r, ": the two modes disagree, so one of the rules is wrong");
}

/* "element 3 at [1,0]" */
static void niz_report_element(niz_check_report *r, int64_t element, const niz_shape *s)
{
    niz_report_add(r, "element %lld", (long long)element);
    if (s->rank < 2) return;
    int64_t below = 1;
    for (int d = 1; d < s->rank; d++) below *= s->dim[d];
    niz_report_add(r, " at ");
    for (int d = 0; d < s->rank; d++) {
        niz_report_add(r, "%c%lld", d ? ',' : '[', (long long)(element / below));
        element %= below;
        if (d + 1 < s->rank) below /= s->dim[d + 1];
    }
    niz_report_add(r, "]");
}

static void niz_report_where(niz_check_report *r, const niz_finding *f, const char *what, int n,
                             const niz_t *inputs)
{
    if (f->order == 2) niz_report_add(r, "second derivative, ");
    if (f->input < 0) {
        niz_report_add(r, "along a random direction: ");
        return;
    }
    niz_shape s = f->input < n ? niz_shape_of(inputs[f->input]) : (niz_shape){0};
    niz_report_add(r, "%s %d", what, f->input);
    if (f->input < n)
        niz_report_add(r, " %s", niz_type_text(niz_dtype_of(inputs[f->input]), &s).text);
    if (f->element >= 0) {
        niz_report_add(r, ", ");
        niz_report_element(r, f->element, &s);
    }
    niz_report_add(r, ": ");
}

static void niz_report_blame(niz_check_report *r, const niz_blame *b)
{
    char where[256];
    niz_place_text(&b->place, where, sizeof where);
    r->op = b->op->name;
    r->at = b->place.at;
    niz_report_add(r, "d/%s%s: ", b->op->name, where);
    niz_report_where(r, &b->finding, "operand", 0, NULL);
    niz_report_values(r, &b->finding);
    niz_report_add(r, "\n  ");
}

/* ---- the whole ------------------------------------------------------------------------------ */

static void niz_report_right(niz_check_report *r, const niz_finding *f)
{
    niz_report_add(r, "right: %lld comparisons, the largest difference %.1g of the value",
                   (long long)f->checks, f->worst);
    if (f->no_forward)
        niz_report_add(r, "; forward mode was not checked: an operation has no .jvp");
}

static void niz_report_vacuous(niz_check_report *r, const niz_finding *f, int n,
                               const niz_t *inputs)
{
    niz_report_where(r, f, "input", n, inputs);
    niz_report_add(r, "the value does not depend on it here, so nothing was checked");
}

void niz_report_finding(niz_check_report *r, const niz_finding *f, const niz_blame *b, int n,
                        const niz_t *inputs, niz_at at)
{
    *r = (niz_check_report){.verdict = f->verdict, .order = f->order, .input = f->input,
                            .element = f->element, .analytic = f->analytic, .numeric = f->numeric,
                            .error = f->error, .at = at, .checks = f->checks};
    if (f->verdict == NIZ_CHECK_OK) {
        niz_report_right(r, f);
        return;
    }
    if (b->found) niz_report_blame(r, b);
    char where[256];
    niz_place_text(&(niz_place){at, NULL, NULL}, where, sizeof where);
    niz_report_add(r, "gradient checked%s: ", where);
    if (f->verdict == NIZ_CHECK_VACUOUS) {
        niz_report_vacuous(r, f, n, inputs);
        return;
    }
    niz_report_where(r, f, "input", n, inputs);
    niz_report_values(r, f);
    if (f->verdict == NIZ_CHECK_WRONG && isfinite(f->shrinks))
        niz_report_add(r, "; the difference goes with step^%.1f (a right one's with step^2)",
                       f->shrinks);
    if (f->verdict == NIZ_CHECK_UNSTEADY)
        niz_report_add(r, "; no step gives differences that can be relied on");
    if (f->verdict == NIZ_CHECK_WRONG && !b->found)
        niz_report_add(r, "\n  every operation alone is right: look for niz_stop_gradient, or for "
                          "values that were read and put back");
}
