/* compose.c - functions made of other operations, each in its numerically stable form.
 *
 * None of them is a record: the graph holds what they are made of, so their derivatives, their
 * fusion and their checks are those of the parts.  Each checks its own arguments, so that a message
 * names what the user called and what the user gave.
 *
 * SPDX-License-Identifier: MIT */
#include "ops/families.h"
#include "ops/record.h"

extern const niz_op niz_op_pow;

/* Reports and gives the inert handle. */
#define REFUSE(z, at, status, ...) (niz_fail(z, at, status, __VA_ARGS__), niz_inert(z))

static bool floating(niz_at at, niz_t x)
{
    if (!niz_usable(x.z, at, x, "x")) return false;
    if (niz_dtype_is_float(niz_dtype_of(x))) return true;
    niz_fail(x.z, at, NIZ_E_DTYPE, "needs f32 or f64, not %s; niz_cast it: x %s",
             niz_dtype_name(niz_dtype_of(x)), niz_describe(x).text);
    return false;
}

/* ---- constants ------------------------------------------------------------------------------ */

niz_t niz_full_at(niz_at at, niz *z, niz_dtype dtype, niz_shape shape, double value)
{
    NIZ_FUNCTION(z, at, "full");
    if (!z || z->status) return niz_inert(z);
    if ((unsigned)dtype >= NIZ_N_DTYPES)
        return REFUSE(z, at, NIZ_E_DTYPE, "%d is not a dtype", (int)dtype);
    if (!niz_dtype_holds(dtype, value))
        return REFUSE(z, at, NIZ_E_DTYPE, "the number %.17g does not fit %s", value,
                      niz_dtype_name(dtype));
    return niz_broadcast_at(at, niz_literal(z, at, dtype, value), shape);
}

niz_t niz_full_like_at(niz_at at, niz_t x, double value)
{
    NIZ_FUNCTION(x.z, at, "full_like");
    if (!niz_usable(x.z, at, x, "x")) return niz_inert(x.z);
    return niz_full_at(at, x.z, niz_dtype_of(x), niz_shape_of(x), value);
}

niz_t niz_number_like_at(niz_at at, niz_t x, double value)
{
    NIZ_FUNCTION(x.z, at, "number_like");
    if (!niz_usable(x.z, at, x, "x")) return niz_inert(x.z);
    niz_dtype dtype = niz_dtype_of(x);
    if (niz_dtype_holds(dtype, value)) return niz_literal(x.z, at, dtype, value);
    return niz_full_at(at, x.z, dtype, NIZ_SCALAR, value); /* which says why not */
}

/* ---- elementwise ---------------------------------------------------------------------------- */

niz_t niz_gelu_at(niz_at at, niz_t x, niz_gelu_options o)
{
    NIZ_FUNCTION(x.z, at, "gelu");
    if (!floating(at, x)) return niz_inert(x.z);
    niz_t half = niz_mul(x, 0.5);
    if (!o.tanh) return niz_mul(half, niz_add(niz_erf(niz_mul(x, 0.7071067811865476)), 1));
    niz_t cube = niz_mul(niz_mul(niz_square(x), x), 0.044715);
    niz_t t = niz_tanh(niz_mul(niz_add(x, cube), 0.7978845608028654)); /* √(2/π) */
    return niz_mul(half, niz_add(t, 1));
}

niz_t niz_silu_at(niz_at at, niz_t x)
{
    NIZ_FUNCTION(x.z, at, "silu");
    return floating(at, x) ? niz_mul(x, niz_sigmoid(x)) : niz_inert(x.z);
}

niz_t niz_clamp_at(niz_at at, niz_t x, double lo, double hi)
{
    NIZ_FUNCTION(x.z, at, "clamp");
    if (!niz_usable(x.z, at, x, "x")) return niz_inert(x.z);
    return niz_minimum(niz_maximum(x, lo), hi);
}

/* a^n by squaring, n >= 1 */
static niz_t whole_power(niz_t a, int n)
{
    if (n == 1) return a;
    niz_t half = niz_square(whole_power(a, n / 2));
    return n % 2 ? niz_mul(half, a) : half;
}

/* Far cheaper than POW, with few roundings.  Other halves are left to it: a square that underflows
 * times a root, or its derivative over a root of 0, would be wrong.  The reciprocal comes first for
 * the same reason. */
static bool is_simple(double exponent)
{
    return fabs(exponent) == 0.5 || (fabs(exponent) <= 8 && exponent == trunc(exponent));
}

static niz_t simple_power(niz_t a, double exponent)
{
    int n = (int)fabs(exponent);
    if (exponent == 0) return niz_full_like(a, 1);
    if (n == 0) return exponent < 0 ? niz_rsqrt(a) : niz_sqrt(a);
    return whole_power(exponent < 0 ? niz_reciprocal(a) : a, n);
}

niz_t niz_pow_at(niz_at at, niz_arg a, niz_arg b)
{
    niz *z = niz_operands_context(a, b);
    NIZ_FUNCTION(z, at, "pow");
    bool simple = niz_arg_is_number(b) && is_simple(b.is.number) && !niz_arg_is_number(a);
    niz_t x[2] = {niz_arg_handle(a)};
    if (simple && niz_is_valid(x[0]) && niz_dtype_is_float(niz_dtype_of(x[0])))
        return simple_power(x[0], b.is.number);
    if (!niz_operands(z, at, "pow", a, b, x)) return niz_inert(z);
    return niz_apply_at(at, &niz_op_pow, 2, x, NULL);
}

/* ---- reductions ----------------------------------------------------------------------------- */

/* The checks of all reductions over floating x. */
static bool reduces(niz_at at, niz_t x, int axis, const niz_axes *axes, unsigned *mask)
{
    return floating(at, x) && niz_reduce_mask(at, x, axis, axes, mask);
}

/* Elements that fall into one. */
static int64_t fold_count(niz_t x, unsigned mask)
{
    niz_shape s = niz_shape_of(x);
    int64_t n = 1;
    for (int d = 0; d < s.rank; d++)
        if (mask >> d & 1) n *= s.dim[d];
    return n;
}

static niz_t sum_over(niz_t x, unsigned mask, bool keepdims)
{
    return niz_reduce_chain(NIZ_HERE, &niz_op_sum, x, mask, keepdims);
}

static niz_t max_over(niz_t x, unsigned mask)
{
    return niz_reduce_chain(NIZ_HERE, &niz_op_max, x, mask, true);
}

niz_t niz_mean_at(niz_at at, niz_t x, niz_reduce_options o)
{
    NIZ_FUNCTION(x.z, at, "mean");
    unsigned mask;
    if (!reduces(at, x, o.axis, &o.axes, &mask)) return niz_inert(x.z);
    return niz_div(sum_over(x, mask, o.keepdims), (double)fold_count(x, mask));
}

niz_t niz_var_at(niz_at at, niz_t x, niz_var_options o)
{
    NIZ_FUNCTION(x.z, at, "var");
    unsigned mask;
    if (!reduces(at, x, o.axis, &o.axes, &mask)) return niz_inert(x.z);
    double n = (double)fold_count(x, mask), least = n < 1 ? 0 : n - o.correction;
    niz_t mean = niz_div(sum_over(x, mask, true), n);
    return niz_div(sum_over(niz_square(niz_sub(x, mean)), mask, o.keepdims), least);
}

/* The shift is a constant to the derivative, whose value does not depend on it.  An infinite one
 * would make inf - inf: nothing is then shifted. */
niz_t niz_logsumexp_at(niz_at at, niz_t x, niz_reduce_options o)
{
    NIZ_FUNCTION(x.z, at, "logsumexp");
    unsigned mask;
    if (!reduces(at, x, o.axis, &o.axes, &mask)) return niz_inert(x.z);
    niz_t m = niz_stop_gradient(max_over(x, mask));
    m = niz_where(niz_eq(niz_abs(m), INFINITY), niz_number_like(x, 0), m);
    niz_t sum = sum_over(niz_exp(niz_sub(x, m)), mask, true);
    niz_t y = niz_add(niz_log(sum), m);
    if (o.keepdims) return y;
    niz_shape s = niz_shape_of(x), to = {0};
    for (int d = 0; d < s.rank; d++)
        if (!(mask >> d & 1)) to.dim[to.rank++] = s.dim[d];
    return niz_reshape(y, to);
}

/* x - max along axis; false if x or axis do not fit. */
static bool shifted(niz_at at, niz_t x, int axis, niz_t *d, unsigned *mask)
{
    int64_t a = axis;
    if (!floating(at, x) || !niz_axis_fits(at, x, niz_shape_of(x).rank, &a)) return false;
    *mask = 1u << a;
    *d = niz_sub(x, niz_stop_gradient(max_over(x, *mask)));
    return true;
}

niz_t niz_softmax_at(niz_at at, niz_t x, int axis)
{
    NIZ_FUNCTION(x.z, at, "softmax");
    niz_t d;
    unsigned mask;
    if (!shifted(at, x, axis, &d, &mask)) return niz_inert(x.z);
    niz_t e = niz_exp(d);
    return niz_div(e, sum_over(e, mask, true));
}

niz_t niz_log_softmax_at(niz_at at, niz_t x, int axis)
{
    NIZ_FUNCTION(x.z, at, "log_softmax");
    niz_t d;
    unsigned mask;
    if (!shifted(at, x, axis, &d, &mask)) return niz_inert(x.z);
    return niz_sub(d, niz_log(sum_over(niz_exp(d), mask, true)));
}

/* ---- matmul --------------------------------------------------------------------------------- */

static niz_t product_refused(niz_at at, niz_t a, niz_t b, niz_status status, const char *why)
{
    return REFUSE(a.z, at, status, "%s: a %s, b %s", why, niz_describe(a).text, niz_describe(b).text);
}

/* Two operands that can be multiplied and summed; the rest of a message is made here. */
static bool multiplies(niz *z, niz_at at, niz_t a, niz_t b)
{
    char why[96];
    if (!niz_usable(z, at, a, "a") || !niz_usable(z, at, b, "b")) return false;
    niz_dtype p = niz_dtype_of(a), q = niz_dtype_of(b);
    if (p == q && niz_dtype_is_number(p)) return true;
    if (p != q)
        snprintf(why, sizeof why, "dtypes differ, %s and %s; niz_cast one of them",
                 niz_dtype_name(p), niz_dtype_name(q));
    else
        snprintf(why, sizeof why, "%s is no number; niz_cast it", niz_dtype_name(p));
    product_refused(at, a, b, NIZ_E_DTYPE, why);
    return false;
}

/* The leading axes of a matrix; a vector has none. */
static niz_shape batch_of(const niz_shape *s)
{
    niz_shape batch = *s;
    batch.rank = s->rank > 2 ? s->rank - 2 : 0;
    return batch;
}

/* [batch.., p, q] with other leading axes. */
static niz_shape with_batch(niz_shape batch, const niz_shape *s)
{
    for (int d = s->rank > 2 ? s->rank - 2 : 0; d < s->rank; d++)
        batch.dim[batch.rank++] = s->dim[d];
    return batch;
}

/* b [.., K, N] as [.., N, K]; a vector [K] as it is. */
static niz_t columns_first(niz_t b)
{
    return niz_shape_of(b).rank < 2 ? b : niz_transpose(b, -1, -2);
}

/* a [M,K] x b [.., N, K] -> [M, .., N] -> [.., M, N] */
static niz_t one_by_many(niz_t a, niz_t b)
{
    niz_t y = niz_contract(a, b, 0, 1);
    int rank = niz_shape_of(y).rank;
    if (niz_shape_of(a).rank < 2) return y;
    niz_axes to = {.n = rank};
    for (int d = 0; d < rank - 2; d++) to.axis[d] = d + 1;
    to.axis[rank - 1] = rank - 1;
    return niz_permute(y, to);
}

/* A matrix without leading axes takes part as free axes of the other; leading axes are repeated
 * only where the operands' differ. */
static niz_t product(niz_t a, niz_t b, niz_shape batch)
{
    niz_shape s = niz_shape_of(a), t = niz_shape_of(b);
    niz_shape p = batch_of(&s), q = batch_of(&t);
    bool a_plain = niz_shape_count(&p) == 1 && niz_shape_equal(&q, &batch);
    bool b_plain = niz_shape_count(&q) == 1 && niz_shape_equal(&p, &batch);
    if (b_plain)
        return niz_contract(a, columns_first(niz_reshape(b, with_batch(NIZ_SCALAR, &t))), 0, 1);
    if (a_plain) return one_by_many(niz_reshape(a, with_batch(NIZ_SCALAR, &s)), columns_first(b));
    a = niz_broadcast(a, with_batch(batch, &s));
    b = niz_broadcast(b, with_batch(batch, &t));
    return niz_contract(a, columns_first(b), batch.rank, 1);
}

niz_t niz_matmul_at(niz_at at, niz_t a, niz_t b)
{
    niz *z = a.z ? a.z : b.z;
    NIZ_FUNCTION(z, at, "matmul");
    if (!multiplies(z, at, a, b)) return niz_inert(z);
    niz_shape s = niz_shape_of(a), t = niz_shape_of(b);
    if (!s.rank || !t.rank)
        return product_refused(at, a, b, NIZ_E_SHAPE, "a number is no matrix; niz_mul multiplies");
    int64_t k = s.dim[s.rank - 1], l = t.dim[t.rank > 1 ? t.rank - 2 : 0];
    if (k != l) {
        char why[96];
        snprintf(why, sizeof why, "inner sizes differ, %lld and %lld", (long long)k, (long long)l);
        return product_refused(at, a, b, NIZ_E_SHAPE, why);
    }
    niz_shape p = batch_of(&s), q = batch_of(&t), batch;
    if (!niz_shape_broadcast(&p, &q, &batch))
        return product_refused(at, a, b, NIZ_E_SHAPE, "leading axes do not broadcast together");
    return product(a, b, batch);
}

/* ---- einsum --------------------------------------------------------------------------------- */

/* One operand's or the result's axes by their letters. */
typedef struct labels {
    int n;
    char of[NIZ_MAX_RANK + 1];
} labels;

static int label_find(const labels *l, char c)
{
    for (int i = 0; i < l->n; i++)
        if (l->of[i] == c) return i;
    return -1;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Letters up to the end of a part; false if there is anything else or one of them twice. */
static bool labels_read(const char **spec, labels *l)
{
    const char *s = *spec;
    *l = (labels){0};
    for (; *s && *s != ',' && *s != '-'; s++) {
        if (*s == ' ') continue;
        if (!is_letter(*s) || label_find(l, *s) >= 0 || l->n == NIZ_MAX_RANK) return false;
        l->of[l->n++] = *s;
    }
    *spec = s;
    return true;
}

/* Without "->" the result has the letters that occur once, in their order. */
static bool labels_implied(const labels *in, int n, labels *out)
{
    *out = (labels){0};
    for (int c = 'A'; c <= 'z'; c++) {
        bool first = label_find(&in[0], (char)c) >= 0;
        bool second = n > 1 && label_find(&in[1], (char)c) >= 0;
        if (first == second) continue;
        if (out->n == NIZ_MAX_RANK) return false;
        out->of[out->n++] = (char)c;
    }
    return true;
}

/* "bij,bjk->bik": false if it is none. */
static bool einsum_read(const char *spec, int n, labels *in, labels *out)
{
    for (int i = 0; i < n; i++) {
        if (i && *spec++ != ',') return false;
        if (!labels_read(&spec, &in[i])) return false;
    }
    if (!*spec) return labels_implied(in, n, out);
    if (spec[0] != '-' || spec[1] != '>') return false;
    spec += 2;
    if (!labels_read(&spec, out) || *spec) return false;
    for (int i = 0; i < out->n; i++)
        if (label_find(&in[0], out->of[i]) < 0 && (n < 2 || label_find(&in[1], out->of[i]) < 0))
            return false;
    return true;
}

/* Sums over axes that nobody else has. */
static niz_t sum_lonely(niz_t x, labels *l, const labels *other, const labels *out)
{
    labels kept = {0};
    unsigned mask = 0;
    for (int i = 0; i < l->n; i++)
        if (label_find(out, l->of[i]) >= 0 || (other && label_find(other, l->of[i]) >= 0))
            kept.of[kept.n++] = l->of[i];
        else
            mask |= 1u << i;
    *l = kept;
    return sum_over(x, mask, false);
}

static niz_t arranged(niz_t x, const labels *from, const labels *to)
{
    niz_axes order = {.n = to->n};
    for (int i = 0; i < to->n; i++) order.axis[i] = label_find(from, to->of[i]);
    return niz_permute(x, order);
}

/* Letters of l that are (not) in the other operand and (not) in the result. */
static int labels_add(labels *to, const labels *l, const labels *other, const labels *out,
                      bool in_other, bool in_out)
{
    int n = to->n;
    for (int i = 0; i < l->n; i++)
        if ((label_find(other, l->of[i]) >= 0) == in_other &&
            (label_find(out, l->of[i]) >= 0) == in_out && to->n <= NIZ_MAX_RANK)
            to->of[to->n++] = l->of[i];
    return to->n - n;
}

/* Shared letters of the result are batch, shared letters besides are summed.  Either kind goes in
 * a's order. */
static niz_t einsum_pair(niz_t a, niz_t b, const labels *p, const labels *q, const labels *out)
{
    labels left = {0}, right = {0}, y = {0};
    int batch = labels_add(&left, p, q, out, true, true);
    labels_add(&right, p, q, out, true, true);
    labels_add(&left, p, q, out, false, true);
    labels_add(&right, q, p, out, false, true);
    y = left;
    for (int i = batch; i < right.n && y.n < out->n; i++) y.of[y.n++] = right.of[i];
    int sum = labels_add(&left, p, q, out, true, false);
    labels_add(&right, p, q, out, true, false);
    niz_t r = niz_contract(arranged(a, p, &left), arranged(b, q, &right), batch, sum);
    return arranged(r, &y, out);
}

static bool einsum_sizes(niz_at at, const char *spec, int n, const niz_t *x, const labels *in)
{
    for (int i = 0; i < n; i++)
        if (niz_shape_of(x[i]).rank != in[i].n) {
            niz_fail(x[0].z, at, NIZ_E_SHAPE, "\"%s\" gives %d letters to %s", spec, in[i].n,
                     niz_describe(x[i]).text);
            return false;
        }
    for (int i = 0; n > 1 && i < in[0].n; i++) {
        int j = label_find(&in[1], in[0].of[i]);
        if (j < 0 || niz_shape_of(x[0]).dim[i] == niz_shape_of(x[1]).dim[j]) continue;
        niz_fail(x[0].z, at, NIZ_E_SHAPE, "sizes of %c in \"%s\" differ, %lld and %lld: a %s, b %s",
                 in[0].of[i], spec, (long long)niz_shape_of(x[0]).dim[i],
                 (long long)niz_shape_of(x[1]).dim[j], niz_describe(x[0]).text,
                 niz_describe(x[1]).text);
        return false;
    }
    return true;
}

niz_t niz_einsum_at(niz_at at, const char *spec, niz_t a, niz_t b)
{
    niz_t x[2] = {a, b};
    niz *z = niz_context_of(2, x);
    NIZ_FUNCTION(z, at, "einsum");
    int n = b.z ? 2 : 1;
    labels in[2], out;
    if (!niz_usable(z, at, a, "a") || (n == 2 && !multiplies(z, at, a, b))) return niz_inert(z);
    if (!spec || !einsum_read(spec, n, in, &out))
        return REFUSE(z, at, NIZ_E_ARGUMENT,
                      "\"%s\" does not describe %d operands: letters, each once an operand, as in "
                      "\"bij,bjk->bik\"", spec ? spec : "", n);
    if (!einsum_sizes(at, spec, n, x, in)) return niz_inert(z);
    for (int i = 0; i < n; i++)
        x[i] = sum_lonely(x[i], &in[i], n == 2 ? &in[1 - i] : NULL, &out);
    return n == 1 ? arranged(x[0], &in[0], &out) : einsum_pair(x[0], x[1], &in[0], &in[1], &out);
}

/* ---- movement ------------------------------------------------------------------------------- */

niz_t niz_select_at(niz_at at, niz_t x, int axis, int64_t i)
{
    NIZ_FUNCTION(x.z, at, "select");
    int64_t d = axis, k = i;
    if (!niz_usable(x.z, at, x, "x") || !niz_axis_fits(at, x, niz_shape_of(x).rank, &d))
        return niz_inert(x.z);
    niz_shape s = niz_shape_of(x);
    if (k < 0) k += s.dim[d];
    if (k < 0 || k >= s.dim[d])
        return REFUSE(x.z, at, NIZ_E_ARGUMENT, "there is no element %lld along axis %lld: x %s",
                      (long long)i, (long long)d, niz_describe(x).text);
    return niz_squeeze(niz_slice(x, (int)d, k, k + 1, 1), (int)d);
}

niz_t niz_transpose_at(niz_at at, niz_t x, int a, int b)
{
    NIZ_FUNCTION(x.z, at, "transpose");
    if (!niz_usable(x.z, at, x, "x")) return niz_inert(x.z);
    niz_axes to = {.n = niz_shape_of(x).rank};
    int64_t p = a, q = b;
    if (!niz_axis_fits(at, x, to.n, &p) || !niz_axis_fits(at, x, to.n, &q)) return niz_inert(x.z);
    for (int d = 0; d < to.n; d++) to.axis[d] = d;
    to.axis[p] = (int)q;
    to.axis[q] = (int)p;
    return niz_permute(x, to);
}

/* s with another axis of this size before axis d. */
static niz_shape with_axis(niz_shape s, int64_t d, int64_t size)
{
    for (int i = s.rank++; i > d; i--) s.dim[i] = s.dim[i - 1];
    s.dim[d] = size;
    return s;
}

/* A new axis has one place more to be at than there are axes. */
static bool new_axis_fits(niz_at at, niz_t x, int64_t *axis)
{
    int rank = niz_shape_of(x).rank;
    if (rank < NIZ_MAX_RANK) return niz_axis_fits(at, x, rank + 1, axis);
    niz_fail(x.z, at, NIZ_E_SHAPE, "has %d axes already: x %s", rank, niz_describe(x).text);
    return false;
}

niz_t niz_unsqueeze_at(niz_at at, niz_t x, int axis)
{
    NIZ_FUNCTION(x.z, at, "unsqueeze");
    int64_t d = axis;
    if (!niz_usable(x.z, at, x, "x") || !new_axis_fits(at, x, &d)) return niz_inert(x.z);
    return niz_reshape(x, with_axis(niz_shape_of(x), d, 1));
}

niz_t niz_squeeze_at(niz_at at, niz_t x, int axis)
{
    NIZ_FUNCTION(x.z, at, "squeeze");
    int64_t d = axis;
    if (!niz_usable(x.z, at, x, "x") || !niz_axis_fits(at, x, niz_shape_of(x).rank, &d))
        return niz_inert(x.z);
    niz_shape s = niz_shape_of(x);
    if (s.dim[d] != 1)
        return REFUSE(x.z, at, NIZ_E_SHAPE, "axis %lld is of size %lld, not 1: x %s", (long long)d,
                      (long long)s.dim[d], niz_describe(x).text);
    s.rank--;
    for (int i = (int)d; i < s.rank; i++) s.dim[i] = s.dim[i + 1];
    return niz_reshape(x, s);
}

niz_t niz_flatten_at(niz_at at, niz_t x, int axis)
{
    NIZ_FUNCTION(x.z, at, "flatten");
    if (!niz_usable(x.z, at, x, "x")) return niz_inert(x.z);
    niz_shape s = niz_shape_of(x), to = s;
    int64_t d = axis;
    if (!niz_axis_fits(at, x, s.rank ? s.rank : 1, &d)) return niz_inert(x.z);
    to.rank = (int)d + 1;
    to.dim[d] = niz_count_of(&s, (int)d, s.rank);
    return niz_reshape(x, to);
}

/* Joining x_0 [A.., s, B..], x_1 ... along the axis of s puts all of x_0's first: [A.., n s, B..]
 * is [A.., n, s, B..].  Only a new last axis needs every operand reshaped. */
niz_t niz_stack_at(niz_at at, int n, const niz_t *x, int axis)
{
    niz *z = x && n > 0 ? niz_context_of(n, x) : NULL;
    NIZ_FUNCTION(z, at, "stack");
    if (!z || z->status) return niz_inert(z);
    for (int i = 0; i < n; i++) {
        niz_shape s = niz_shape_of(x[i]), first = niz_shape_of(x[0]);
        if (!niz_usable(z, at, x[i], "an operand")) return niz_inert(z);
        if (!niz_shape_equal(&s, &first))
            return REFUSE(z, at, NIZ_E_SHAPE, "operands 0 and %d differ: %s and %s", i,
                          niz_describe(x[0]).text, niz_describe(x[i]).text);
    }
    int64_t d = axis;
    if (!new_axis_fits(at, x[0], &d)) return niz_inert(z);
    niz_shape s = niz_shape_of(x[0]), to = with_axis(s, d, n);
    if (d < s.rank) return niz_reshape(niz_concat(n, x, (int)d), to);
    niz_t *wide = niz_realloc(z, NULL, (size_t)n * sizeof *wide);
    if (!wide) return niz_inert(z);
    for (int i = 0; i < n; i++) wide[i] = niz_unsqueeze(x[i], -1);
    niz_t y = niz_concat(n, wide, -1);
    niz_free(z, wide);
    return y;
}

/* ---- indexing ------------------------------------------------------------------------------- */

/* x as (A,n,B), index as (1,I,1) repeated to (A,I,B): a gather whose index stands still along the
 * rows, which are moved whole. */
niz_t niz_take_at(niz_at at, niz_t x, int axis, niz_t index)
{
    niz *z = x.z ? x.z : index.z;
    NIZ_FUNCTION(z, at, "take");
    int64_t d = axis;
    if (!niz_usable(z, at, x, "x") || !niz_usable(z, at, index, "the index") ||
        !niz_axis_fits(at, x, niz_shape_of(x).rank, &d))
        return niz_inert(z);
    niz_shape s = niz_shape_of(x), i = niz_shape_of(index), to = {.rank = (int)d};
    if (s.rank - 1 + i.rank > NIZ_MAX_RANK)
        return REFUSE(x.z, at, NIZ_E_SHAPE, "the result would have %d axes: x %s, index %s",
                      s.rank - 1 + i.rank, niz_describe(x).text, niz_describe(index).text);
    for (int k = 0; k < d; k++) to.dim[k] = s.dim[k];
    for (int k = 0; k < i.rank; k++) to.dim[to.rank++] = i.dim[k];
    for (int k = (int)d + 1; k < s.rank; k++) to.dim[to.rank++] = s.dim[k];
    int64_t A = niz_count_of(&s, 0, (int)d), B = niz_count_of(&s, (int)d + 1, s.rank);
    int64_t I = niz_shape_count(&i);
    niz_t flat = niz_reshape(x, NIZ_SHAPE(A, s.dim[d], B));
    niz_t rows = niz_broadcast(niz_reshape(index, NIZ_SHAPE(1, I, 1)), NIZ_SHAPE(A, I, B));
    return niz_reshape(niz_gather(flat, 1, rows), to);
}

niz_t niz_one_hot_at(niz_at at, niz_t index, int64_t classes, niz_dtype dtype)
{
    NIZ_FUNCTION(index.z, at, "one_hot");
    if (!niz_usable(index.z, at, index, "the index")) return niz_inert(index.z);
    niz_dtype from = niz_dtype_of(index);
    if (from != NIZ_I32 && from != NIZ_I64)
        return REFUSE(index.z, at, NIZ_E_DTYPE, "the index must be i32 or i64, not %s: index %s",
                      niz_dtype_name(from), niz_describe(index).text);
    if (classes < 0)
        return REFUSE(index.z, at, NIZ_E_ARGUMENT, "%lld classes: index %s", (long long)classes,
                      niz_describe(index).text);
    niz_t class = niz_iota(index.z, from, NIZ_SHAPE(classes), 0);
    return niz_cast(niz_eq(niz_unsqueeze(index, -1), class), dtype);
}
