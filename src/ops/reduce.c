/* reduce.c - one axis folded into one element: sum, prod, max, min, argmax, argmin.
 *
 * A record reduces one axis, which is dropped.  Builders make several axes a chain, the innermost
 * first; the order of additions inside one axis is the executors' contract (blocks of 512, 16
 * lanes).
 *
 * SPDX-License-Identifier: MIT */
#include "ops/families.h"
#include "ops/record.h"

#define POSITIVE .lo = {0.1}, .hi = {2}
#define NEAR_ONE .lo = {0.7}, .hi = {1.4}

static bool axis_infer(niz_infer *f)
{
    const niz_shape *x = f->x[0].shape;
    int64_t axis = f->attr.n == 1 ? f->attr.value[0] : -1;
    if (axis < 0 || axis >= x->rank)
        return niz_infer_fail(f, NIZ_E_ARGUMENT, "axis %lld is outside the %d axes",
                              (long long)axis, x->rank);
    f->made = (niz_shape){.rank = x->rank - 1};
    for (int d = 0; d < f->made.rank; d++) f->made.dim[d] = x->dim[d + (d >= axis)];
    f->dtype = f->x[0].dtype;
    f->shape = &f->made;
    return true;
}

static bool number_infer(niz_infer *f)
{
    if (!niz_dtype_is_number(f->x[0].dtype))
        return niz_infer_fail(f, NIZ_E_DTYPE, "%s is no number; niz_cast it",
                              niz_dtype_name(f->x[0].dtype));
    return axis_infer(f);
}

static bool index_infer(niz_infer *f)
{
    if (!axis_infer(f)) return false;
    if (f->x[0].shape->dim[f->attr.value[0]] == 0)
        return niz_infer_fail(f, NIZ_E_SHAPE, "axis %lld is empty: nothing has an index",
                              (long long)f->attr.value[0]);
    f->dtype = NIZ_I64;
    return true;
}

/* Row y of the reduced axis for the references: elements inner apart. */
static void reduce_ref(const niz_ref *r, double (*fold)(const double *, int64_t n, int64_t step))
{
    const niz_shape *x = &r->x_shape[0];
    int axis = (int)r->attr.value[0];
    int64_t inner = niz_count_of(x, axis + 1, x->rank), n = x->dim[axis];
    for (int64_t i = 0, count = niz_shape_count(&r->shape); i < count; i++)
        r->y[i] = fold(r->x[0] + i / inner * inner * n + i % inner, n, inner);
}

#define REDUCE_REF(name, start, update)                                                            \
    static double name##_fold(const double *x, int64_t n, int64_t step)                            \
    {                                                                                              \
        double y = start;                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                          \
            double v = x[i * step];                                                                \
            update;                                                                                \
        }                                                                                          \
        return y;                                                                                  \
    }                                                                                              \
    static void name##_ref(const niz_ref *r)                                                       \
    {                                                                                              \
        reduce_ref(r, name##_fold);                                                                \
    }

/* y, of the reduced shape, as it lines up with x: size 1 along the reduced axis. */
static niz_t spread(const niz_app *p, niz_t y)
{
    return niz_reshape(y, niz_reduce_kept(p->x[0], 1u << p->attr.value[0]));
}

static niz_t sum_along(const niz_app *p, niz_t x)
{
    return niz_apply_one(NIZ_HERE, &niz_op_sum, x, 1, p->attr.value);
}

/* ---- sum ------------------------------------------------------------------------------------ */

static niz_t sum_adjoint(const niz_app *p, int i, niz_t gy)
{
    (void)i;
    return niz_broadcast(spread(p, gy), niz_shape_of(p->x[0]));
}

REDUCE_REF(sum, 0, y += v)
const niz_op niz_op_sum = {
    .name = "sum", .arity = 1, .attrs = "axis", .infer = number_infer, .form = NIZ_FORM_REDUCE,
    .combine = NIZ_COMBINE_SUM, .adjoint = sum_adjoint, .ref_tensor = sum_ref, .ulp = 40,
    SAMPLES({.x = {{2, {3, 601}}}, .n_attr = 1, .attr = {1}, POSITIVE},
            {.x = {{2, {1153, 3}}}, .n_attr = 1, .attr = {0}, POSITIVE},
            {.x = {{3, {2, 17, 5}}}, .n_attr = 1, .attr = {1}, POSITIVE},
            {.x = {{1, {1}}}, .n_attr = 1}, {.x = {{2, {3, 0}}}, .n_attr = 1, .attr = {1}},
            {.x = {{2, {0, 5}}}, .n_attr = 1, .attr = {1}},
            {.n = 1, .x = {{2, {2, 3}}}, .n_attr = 1, .attr = {1}, .in = VALUES(1, 2, 3, 4, 5, 6),
             .out = VALUES(6, 15)},
            {.x = {{1, {2}}}, .n_attr = 1, .attr = {1}, .refused = "axis 1 is outside"}),
};

/* ---- prod ----------------------------------------------------------------------------------- */

/* Along axis: every element's predecessors (or successors) multiplied, by doubling the distance.
 * A shifted axis is filled with ones. */
static niz_t shifted(niz_t x, int axis, int64_t n, int64_t by, bool back)
{
    niz_t rest = back ? niz_slice(x, axis, by, NIZ_END, 1) : niz_slice(x, axis, 0, n - by, 1);
    return niz_pad(rest, axis, back ? 0 : by, back ? by : 0, 1);
}

static niz_t products_beside(niz_t x, int axis, int64_t n, bool back)
{
    niz_t q = shifted(x, axis, n, 1, back);
    for (int64_t by = 1; by < n - 1; by *= 2) q = niz_mul(q, shifted(q, axis, n, by, back));
    return q;
}

/* dy/dx_i = Π_{j≠i} x_j without a division, so it is right where factors are 0 */
static niz_t prod_others(const niz_app *p)
{
    int axis = (int)p->attr.value[0];
    int64_t n = niz_shape_of(p->x[0]).dim[axis];
    if (n <= 1) return niz_full_like(p->x[0], 1);
    return niz_mul(products_beside(p->x[0], axis, n, false),
                   products_beside(p->x[0], axis, n, true));
}

static niz_t prod_vjp(const niz_app *p, int i, niz_t gy)
{
    (void)i;
    return niz_mul(prod_others(p), spread(p, gy));
}

static niz_t prod_jvp(const niz_app *p, int i, niz_t tx)
{
    (void)i;
    return sum_along(p, niz_mul(prod_others(p), tx));
}

REDUCE_REF(prod, 1, y *= v)
const niz_op niz_op_prod = {
    .name = "prod", .arity = 1, .attrs = "axis", .infer = number_infer, .form = NIZ_FORM_REDUCE,
    .combine = NIZ_COMBINE_PROD, .vjp = prod_vjp, .jvp = prod_jvp, .ref_tensor = prod_ref,
    .ulp = 40,
    SAMPLES({.x = {{2, {3, 601}}}, .n_attr = 1, .attr = {1}, .lo = {0.95}, .hi = {1.05}},
            {.x = {{3, {2, 17, 5}}}, .n_attr = 1, .attr = {1}, NEAR_ONE},
            {.x = {{2, {2, 3}}}, .n_attr = 1, .attr = {0}}, {.x = {{1, {1}}}, .n_attr = 1},
            {.x = {{2, {3, 0}}}, .n_attr = 1, .attr = {1}},
            {.n = 1, .x = {{2, {2, 3}}}, .n_attr = 1, .attr = {1}, .in = VALUES(1, 2, 3, 4, 0, 6),
             .out = VALUES(6, 0)},
            {.x = {{1, {2}}}, .n_attr = 1, .attr = {-1}, .refused = "axis -1 is outside"}),
};

/* ---- max, min: ties share evenly ------------------------------------------------------------ */

/* Where x is the result, and how often it is. */
static niz_t winners(const niz_app *p, niz_t *count)
{
    niz_t wins = niz_eq(p->x[0], spread(p, p->y));
    *count = sum_along(p, niz_where(wins, niz_number_like(p->y, 1), 0));
    return wins;
}

static niz_t extreme_vjp(const niz_app *p, int i, niz_t gy)
{
    niz_t count, wins = winners(p, &count);
    (void)i;
    return niz_where(wins, spread(p, niz_div(gy, count)), 0);
}

static niz_t extreme_jvp(const niz_app *p, int i, niz_t tx)
{
    niz_t count, wins = winners(p, &count);
    (void)i;
    return niz_div(sum_along(p, niz_where(wins, tx, 0)), count);
}

REDUCE_REF(max, -INFINITY, y = isnan(y) || v <= y ? y : v)
const niz_op niz_op_max = {
    .name = "max", .arity = 1, .attrs = "axis", .infer = axis_infer, .form = NIZ_FORM_REDUCE,
    .combine = NIZ_COMBINE_MAX, .vjp = extreme_vjp, .jvp = extreme_jvp, .ref_tensor = max_ref,
    SAMPLES({.x = {{2, {3, 601}}}, .n_attr = 1, .attr = {1}},
            {.x = {{2, {37, 3}}}, .n_attr = 1, .attr = {0}},
            {.x = {{3, {2, 17, 5}}}, .n_attr = 1, .attr = {1}}, {.x = {{1, {1}}}, .n_attr = 1},
            {.x = {{2, {0, 5}}}, .n_attr = 1, .attr = {1}},
            {.n = 1, .x = {{2, {3, 3}}}, .n_attr = 1, .attr = {1},
             .in = VALUES(1, 3, 3, -4, NAN, 6, -1, -2, -3), .out = VALUES(3, NAN, -1)},
            {.n = 1, .x = {{2, {2, 0}}}, .n_attr = 1, .attr = {1}, .in = VALUES(0),
             .out = VALUES(-INFINITY, -INFINITY)},
            {.x = {{0}}, .n_attr = 1, .refused = "axis 0 is outside"}),
};

REDUCE_REF(min, INFINITY, y = isnan(y) || v >= y ? y : v)
const niz_op niz_op_min = {
    .name = "min", .arity = 1, .attrs = "axis", .infer = axis_infer, .form = NIZ_FORM_REDUCE,
    .combine = NIZ_COMBINE_MIN, .vjp = extreme_vjp, .jvp = extreme_jvp, .ref_tensor = min_ref,
    SAMPLES({.x = {{2, {3, 601}}}, .n_attr = 1, .attr = {1}},
            {.x = {{2, {37, 3}}}, .n_attr = 1, .attr = {0}},
            {.x = {{3, {2, 17, 5}}}, .n_attr = 1, .attr = {1}}, {.x = {{1, {1}}}, .n_attr = 1},
            {.x = {{2, {0, 5}}}, .n_attr = 1, .attr = {1}},
            {.n = 1, .x = {{2, {3, 3}}}, .n_attr = 1, .attr = {1},
             .in = VALUES(1, 1, 3, -4, NAN, 6, -1, -2, -3), .out = VALUES(1, NAN, -3)},
            {.x = {{0}}, .n_attr = 1, .refused = "axis 0 is outside"}),
};

/* ---- argmax, argmin ------------------------------------------------------------------------- */

static double arg_fold(const double *x, int64_t n, int64_t step, double sign)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) {
        double v = x[i * step], y = x[best * step];
        if (!isnan(y) && (isnan(v) || sign * v > sign * y)) best = i;
    }
    return (double)best;
}

static double argmax_fold(const double *x, int64_t n, int64_t step)
{
    return arg_fold(x, n, step, 1);
}

static double argmin_fold(const double *x, int64_t n, int64_t step)
{
    return arg_fold(x, n, step, -1);
}

static void argmax_ref(const niz_ref *r)
{
    reduce_ref(r, argmax_fold);
}

static void argmin_ref(const niz_ref *r)
{
    reduce_ref(r, argmin_fold);
}

const niz_op niz_op_argmax = {
    .name = "argmax", .arity = 1, .attrs = "axis", .infer = index_infer, .form = NIZ_FORM_REDUCE,
    .combine = NIZ_COMBINE_ARGMAX, .no_gradient = true, .ref_tensor = argmax_ref,
    SAMPLES({.x = {{2, {3, 601}}}, .n_attr = 1, .attr = {1}},
            {.x = {{3, {2, 37, 5}}}, .n_attr = 1, .attr = {1}}, {.x = {{1, {1}}}, .n_attr = 1},
            {.x = {{2, {0, 5}}}, .n_attr = 1, .attr = {1}},
            {.n = 1, .x = {{2, {3, 3}}}, .n_attr = 1, .attr = {1},
             .in = VALUES(1, 3, 3, -4, NAN, NAN, -INFINITY, -INFINITY, -INFINITY),
             .out = VALUES(1, 1, 0)},
            {.x = {{2, {5, 0}}}, .n_attr = 1, .attr = {1}, .refused = "axis 1 is empty"}),
};

const niz_op niz_op_argmin = {
    .name = "argmin", .arity = 1, .attrs = "axis", .infer = index_infer, .form = NIZ_FORM_REDUCE,
    .combine = NIZ_COMBINE_ARGMIN, .no_gradient = true, .ref_tensor = argmin_ref,
    SAMPLES({.x = {{2, {3, 601}}}, .n_attr = 1, .attr = {1}},
            {.x = {{3, {2, 37, 5}}}, .n_attr = 1, .attr = {1}}, {.x = {{1, {1}}}, .n_attr = 1},
            {.x = {{2, {0, 5}}}, .n_attr = 1, .attr = {1}},
            {.n = 1, .x = {{2, {2, 3}}}, .n_attr = 1, .attr = {1},
             .in = VALUES(4, 3, 3, -4, NAN, 6), .out = VALUES(1, 1)},
            {.x = {{2, {5, 0}}}, .n_attr = 1, .attr = {1}, .refused = "axis 1 is empty"}),
};

const niz_op *const niz_ops_reduce[] = {
    &niz_op_sum, &niz_op_prod, &niz_op_max, &niz_op_min, &niz_op_argmax, &niz_op_argmin, NULL,
};

/* ---- builders ------------------------------------------------------------------------------- */

bool niz_reduce_mask(niz_at at, niz_t x, int axis, const niz_axes *axes, unsigned *mask)
{
    int rank = niz_shape_of(x).rank, n = axes->n;
    *mask = 0;
    if (n < 0 || n > NIZ_MAX_RANK || (n && axis != NIZ_ALL)) {
        niz_fail(x.z, at, NIZ_E_ARGUMENT, n > 0 && n <= NIZ_MAX_RANK
                     ? "either .axis or .axes is given, not both: x %s"
                     : "a list has at most 8 axes: x %s", niz_describe(x).text);
        return false;
    }
    if (!n && axis == NIZ_ALL) *mask = (1u << rank) - 1;
    if (axis != NIZ_ALL) n = 1;
    for (int i = 0; i < n; i++) {
        int64_t a = axis != NIZ_ALL ? axis : axes->axis[i];
        if (!niz_axis_fits(at, x, rank, &a)) return false;
        if (*mask >> a & 1) {
            niz_fail(x.z, at, NIZ_E_ARGUMENT, "axis %d is given twice: x %s", (int)a,
                     niz_describe(x).text);
            return false;
        }
        *mask |= 1u << a;
    }
    return true;
}

niz_shape niz_reduce_kept(niz_t x, unsigned mask)
{
    niz_shape s = niz_shape_of(x);
    for (int d = 0; d < s.rank; d++)
        if (mask >> d & 1) s.dim[d] = 1;
    return s;
}

niz_t niz_reduce_chain(niz_at at, const niz_op *op, niz_t x, unsigned mask, bool keepdims)
{
    niz_t y = x;
    for (int64_t d = niz_shape_of(x).rank; d-- > 0;)
        if (mask >> d & 1) y = niz_apply_one(at, op, y, 1, &d);
    return keepdims ? niz_reshape_at(at, y, niz_reduce_kept(x, mask)) : y;
}

/* Several axes as one, the last: for reductions whose order does not matter.  Ties then share
 * evenly over all of them, which a chain would not give. */
static niz_t joined(niz_at at, niz_t x, unsigned mask, int64_t *axis)
{
    niz_shape s = niz_shape_of(x), to = {0};
    niz_axes order = {0};
    int64_t n = 1;
    for (int taken = 0; taken < 2; taken++)
        for (int d = 0; d < s.rank; d++)
            if ((int)(mask >> d & 1) == taken) order.axis[order.n++] = d;
    for (int d = 0; d < s.rank; d++)
        if (mask >> d & 1)
            n *= s.dim[d];
        else
            to.dim[to.rank++] = s.dim[d];
    *axis = to.rank;
    to.dim[to.rank++] = n;
    return niz_reshape_at(at, niz_permute_at(at, x, order), to);
}

static bool is_one_axis(unsigned mask)
{
    return !(mask & (mask - 1));
}

static niz_t reduced(niz_at at, const niz_op *op, niz_t x, niz_reduce_options o)
{
    NIZ_FUNCTION(x.z, at, op->name);
    unsigned mask;
    if (!niz_usable(x.z, at, x, "x") || !niz_reduce_mask(at, x, o.axis, &o.axes, &mask))
        return niz_inert(x.z);
    bool joins = (op->combine == NIZ_COMBINE_MAX || op->combine == NIZ_COMBINE_MIN);
    if (!joins || is_one_axis(mask)) return niz_reduce_chain(at, op, x, mask, o.keepdims);
    int64_t axis;
    niz_t y = joined(at, x, mask, &axis);
    y = niz_apply_one(at, op, y, 1, &axis);
    return o.keepdims ? niz_reshape_at(at, y, niz_reduce_kept(x, mask)) : y;
}

/* Over all elements the index is into the row-major order. */
static niz_t index_of(niz_at at, const niz_op *op, niz_t x, niz_reduce_options o)
{
    NIZ_FUNCTION(x.z, at, op->name);
    unsigned mask;
    if (!niz_usable(x.z, at, x, "x") || !niz_reduce_mask(at, x, o.axis, &o.axes, &mask))
        return niz_inert(x.z);
    bool all = o.axis == NIZ_ALL && !o.axes.n;
    if (!all && !is_one_axis(mask)) {
        niz_fail(x.z, at, NIZ_E_ARGUMENT, "takes one axis, or all: x %s", niz_describe(x).text);
        return niz_inert(x.z);
    }
    niz_t from = x;
    if (all) {
        niz_shape s = niz_shape_of(x);
        from = niz_reshape_at(at, x, (niz_shape){1, {niz_shape_count(&s)}});
    }
    niz_t y = niz_reduce_chain(at, op, from, all ? 1 : mask, false);
    return o.keepdims ? niz_reshape_at(at, y, niz_reduce_kept(x, mask)) : y;
}

#define REDUCE(name, how)                                                                          \
    niz_t niz_##name##_at(niz_at at, niz_t x, niz_reduce_options o)                                \
    {                                                                                              \
        return how(at, &niz_op_##name, x, o);                                                      \
    }
REDUCE(sum, reduced)
REDUCE(prod, reduced)
REDUCE(max, reduced)
REDUCE(min, reduced)
REDUCE(argmax, index_of)
REDUCE(argmin, index_of)
