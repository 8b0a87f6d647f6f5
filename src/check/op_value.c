/* op_value.c - what a record computes: against its reference, known values, and the same bits from
 * every table of loops and any number of threads.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "check/op.h"
#include "core/context.h"

/* ---- the reference -------------------------------------------------------------------------- */

/* Element i of the result reads this element of operand k, by broadcasting. */
static int64_t niz_ref_index(const niz_shape *y, const niz_shape *x, int64_t i)
{
    int64_t p = 0, step = 1;
    for (int d = y->rank; d-- > 0; i /= y->dim[d]) {
        int e = d - (y->rank - x->rank);
        if (e < 0) continue;
        if (x->dim[e] > 1) p += i % y->dim[d] * step;
        step *= x->dim[e];
    }
    return p;
}

static void niz_ref_map(const niz_case *c, double *const *x, double *y)
{
    for (int64_t i = 0, n = niz_shape_count(&c->y_shape); i < n; i++) {
        double v[NIZ_CASE_OPERANDS];
        for (int k = 0; k < c->n; k++) v[k] = x[k][niz_ref_index(&c->y_shape, &c->shape[k], i)];
        y[i] = c->op->ref(v);
    }
}

static void niz_ref_any(const niz_case *c, double *const *x, double *y)
{
    if (c->op->ref) {
        niz_ref_map(c, x, y);
        return;
    }
    const double *operand[NIZ_CASE_OPERANDS];
    for (int k = 0; k < c->n; k++) operand[k] = x[k];
    niz_ref r = {c->n, c->shape, operand, c->attr, c->y_shape, y};
    c->op->ref_tensor(&r);
}

/* What sums are made of in size: the reference of the operands' absolute values. */
static bool niz_ref_size(niz_op_test *t, const niz_case *c, double *size)
{
    niz_recording *r = niz_recording_of(t->z[0]);
    double *x[NIZ_CASE_OPERANDS];
    for (int k = 0; k < c->n; k++) {
        int64_t n = niz_shape_count(&c->shape[k]);
        if (!(x[k] = niz_arena_alloc(&r->g.arena, sizeof(double) * ((size_t)n + 1)))) return false;
        for (int64_t i = 0; i < n; i++) x[k][i] = fabs(c->x[k][i]);
    }
    niz_ref_any(c, x, size);
    return true;
}

/* ---- comparing ------------------------------------------------------------------------------ */

/* A double as the dtype would hold it: integers truncate and saturate; -inf, the greatest of
 * nothing, is the least bool. */
static double niz_value_as(niz_dtype d, double v)
{
    if (d == NIZ_F32) return (float)v;
    if (d == NIZ_F64) return v;
    if (isnan(v)) return 0;
    if (d == NIZ_BOOL) return v != 0 && v != -INFINITY;
    double lo = d == NIZ_I32 ? INT32_MIN : d == NIZ_I64 ? -0x1p63 : 0;
    double hi = d == NIZ_I32 ? INT32_MAX : d == NIZ_I64 ? 0x1p63 : UINT8_MAX;
    return fmin(fmax(trunc(v), lo), hi);
}

/* The reference rounds too, in f64 it cannot be better than what it is compared with. */
static bool niz_value_fits(niz_dtype d, double got, double expected, double size, double ulp)
{
    double rounded = niz_value_as(d, expected);
    if (got == rounded || (isnan(got) && isnan(rounded))) return true;
    if (!niz_dtype_is_float(d) || ulp == 0 || !isfinite(expected) || !isfinite(got)) return false;
    double scale = fmax(fmax(fabs(expected), size), d == NIZ_F32 ? 0x1p-126 : 0x1p-1022);
    double unit = ldexp(1, ilogb(scale) - (d == NIZ_F32 ? 23 : 52));
    return fabs(got - expected) <= (ulp + (d == NIZ_F32 ? 0.5 : 4)) * unit;
}

static bool niz_value_compare(niz_op_test *t, const niz_case *c, const void *y,
                              const double *expected, const double *size, const char *says)
{
    for (int64_t i = 0, n = niz_shape_count(&c->y_shape); i < n; i++) {
        double got = niz_probe_load(c->y_dtype, y, i);
        t->report.checks++;
        if (niz_value_fits(c->y_dtype, got, expected[i], size ? size[i] : 0, c->op->ulp)) continue;
        t->report.element = i;
        t->report.analytic = got;
        t->report.numeric = expected[i];
        return niz_op_failed(t, c, NIZ_CHECK_WRONG,
                             "element %lld is %.17g, %s %.17g (.ulp is %g)", (long long)i, got,
                             says, expected[i], c->op->ulp);
    }
    return true;
}

/* ---- executors ------------------------------------------------------------------------------ */

/* The same bits, but for NaNs, which are all one value. */
bool niz_op_same(niz_dtype dtype, const void *a, const void *b, int64_t n, int64_t *where)
{
    size_t size = niz_dtype_size(dtype);
    for (int64_t i = 0; i < n; i++) {
        const char *p = (const char *)a + (size_t)i * size, *q = (const char *)b + (size_t)i * size;
        if (!memcmp(p, q, size)) continue;
        if (niz_dtype_is_float(dtype) && isnan(niz_probe_load(dtype, a, i)) &&
            isnan(niz_probe_load(dtype, b, i)))
            continue;
        *where = i;
        return false;
    }
    return true;
}

static bool niz_value_elsewhere(niz_op_test *t, const niz_case *c, int executor, const void *y,
                                void *again, size_t bytes)
{
    niz *z = t->z[executor];
    NIZ_STEP(z);
    niz_t x[NIZ_CASE_OPERANDS];
    niz_t other = niz_case_apply(niz_recording_of(z), c, x);
    int64_t where = 0;
    if (niz_read_at(NIZ_OP_AT, other, again, bytes))
        return niz_op_failed(t, c, NIZ_CHECK_ERROR, "with %s and %d threads: %s", t->isa[executor],
                             t->threads[executor], niz_message(z));
    t->report.checks++;
    if (niz_op_same(c->y_dtype, y, again, niz_shape_count(&c->y_shape), &where)) return true;
    t->report.element = where;
    return niz_op_failed(t, c, NIZ_CHECK_WRONG,
                         "element %lld is %.17g with %s%s and %d threads, but %.17g with %s and %d",
                         (long long)where, niz_probe_load(c->y_dtype, again, where),
                         t->compiled[executor] ? "kernels for " : "", t->isa[executor],
                         t->threads[executor],
                         niz_probe_load(c->y_dtype, y, where), t->isa[0], t->threads[0]);
}

/* ---- all of it ------------------------------------------------------------------------------ */

static bool niz_value_expected(niz_op_test *t, const niz_case *c, const void *y)
{
    niz_recording *r = niz_recording_of(t->z[0]);
    int64_t n = niz_shape_count(&c->y_shape);
    double *expected = niz_arena_alloc(&r->g.arena, sizeof *expected * ((size_t)n + 1));
    double *size = niz_arena_alloc(&r->g.arena, sizeof *size * ((size_t)n + 1));
    if (!expected || !size) return niz_op_failed(t, c, NIZ_CHECK_ERROR, "no memory");
    bool sums = !c->op->ref && c->op->ulp > 0;
    niz_ref_any(c, c->x, expected);
    if (sums && !niz_ref_size(t, c, size))
        return niz_op_failed(t, c, NIZ_CHECK_ERROR, "no memory");
    if (!niz_value_compare(t, c, y, expected, sums ? size : NULL, "the reference says"))
        return false;
    if (!c->exact || !c->sample->out) return true;
    for (int64_t i = 0; i < n; i++) /* a dtype that cannot hold the known value was not meant */
        if (!niz_dtype_is_float(c->y_dtype) && niz_value_as(c->y_dtype, c->sample->out[i]) !=
                                                   c->sample->out[i])
            return true;
    return niz_value_compare(t, c, y, c->sample->out, NULL, "the known value is");
}

bool niz_op_test_values(niz_op_test *t, niz_case *c)
{
    niz_recording *r = niz_recording_of(t->z[0]);
    niz_t x[NIZ_CASE_OPERANDS], y = niz_case_apply(r, c, x);
    c->y_dtype = niz_dtype_of(y);
    c->y_shape = niz_shape_of(y);
    size_t bytes = (size_t)niz_shape_count(&c->y_shape) * niz_dtype_size(c->y_dtype);
    void *value = niz_arena_alloc(&r->g.arena, 2 * bytes + 2 + sizeof(double));
    void *again = (char *)value + (bytes + 8) / 8 * 8;
    if (!value || niz_read_at(NIZ_OP_AT, y, value, bytes))
        return niz_op_failed(t, c, NIZ_CHECK_ERROR, "%s", niz_message(t->z[0]));
    if (!niz_value_expected(t, c, value)) return false;
    for (int e = 1; e < t->n_executors; e++)
        if (!niz_value_elsewhere(t, c, e, value, again, bytes)) return false;
    return true;
}
