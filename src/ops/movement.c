/* movement.c - operations that move elements and compute nothing.
 *
 * Most are views: the same memory with other sizes and strides (.view).  Padding, joining and
 * folding write new memory (.eval, which reads operands of any strides and writes y row-major).
 * Adjoint pairs: reshape - reshape, permute - inverse permute, broadcast - sum, slice - pad,
 * flip - flip, window - fold, concat - slices.
 *
 * SPDX-License-Identifier: MIT */
#include "ops/families.h"
#include "ops/infer.h"
#include "ops/record.h"

#define NEG_INF_BITS ((int64_t)0xFFF0000000000000)

static niz_t reshape_to(niz_t x, const niz_shape *s)
{
    return niz_reshape_at(NIZ_HERE, x, *s);
}

/* The list of sizes in the attributes as the result's shape. */
static bool dims_infer(niz_infer *f)
{
    if (f->attr.n > NIZ_MAX_RANK)
        return niz_infer_fail(f, NIZ_E_SHAPE, "rank %d is over %d", f->attr.n, NIZ_MAX_RANK);
    f->made = (niz_shape){.rank = f->attr.n};
    for (int d = 0; d < f->attr.n; d++) f->made.dim[d] = f->attr.value[d];
    const char *fault = niz_shape_fault(&f->made);
    if (fault)
        return niz_infer_fail(f, NIZ_E_SHAPE, "cannot be %s: %s",
                              niz_type_text(f->x[0].dtype, &f->made).text, fault);
    f->dtype = f->x[0].dtype;
    f->shape = &f->made;
    return true;
}

/* ---- reshape -------------------------------------------------------------------------------- */

static bool reshape_infer(niz_infer *f)
{
    if (!dims_infer(f)) return false;
    if (niz_shape_count(&f->made) == niz_shape_count(f->x[0].shape)) return true;
    return niz_infer_fail(f, NIZ_E_SHAPE, "%lld elements are not the %lld of %s",
                          (long long)niz_shape_count(f->x[0].shape),
                          (long long)niz_shape_count(&f->made),
                          niz_type_text(f->dtype, &f->made).text);
}

/* Neighbouring axes that lie regularly in memory are merged; the new sizes are then dealt out from
 * the last, and each must divide what is left of its group. */
static bool reshape_view(niz_attrs attr, const niz_shape *y, niz_view *v)
{
    int64_t size[NIZ_MAX_RANK + 1] = {1}, step[NIZ_MAX_RANK + 1] = {1}, run = 1;
    int n = 0;
    (void)attr;
    if (!niz_shape_count(y)) {
        niz_shape_strides(y, v->stride);
        v->shape = *y;
        return true;
    }
    for (int d = 0; d < v->shape.rank; d++) {
        if (v->shape.dim[d] == 1) continue;
        bool merge = n && step[n] == v->shape.dim[d] * v->stride[d];
        if (!merge) size[++n] = 1;
        size[n] *= v->shape.dim[d];
        step[n] = v->stride[d];
    }
    niz_view to = {.shape = *y, .offset = v->offset};
    for (int d = y->rank; d-- > 0; run = to.stride[d] * y->dim[d]) {
        to.stride[d] = run;
        if (y->dim[d] == 1) continue;
        while (n && size[n] == 1) n--;
        if (size[n] % y->dim[d]) return false;
        to.stride[d] = step[n];
        size[n] /= y->dim[d];
        step[n] *= y->dim[d];
    }
    *v = to;
    return true;
}

static niz_t reshape_adjoint(const niz_app *p, int i, niz_t gy)
{
    niz_shape s = niz_shape_of(p->x[i]);
    return reshape_to(gy, &s);
}

static void reshape_ref(const niz_ref *r)
{
    for (int64_t i = 0, n = niz_shape_count(&r->shape); i < n; i++) r->y[i] = r->x[0][i];
}

const niz_op niz_op_reshape = {
    .name = "reshape", .arity = 1, .attrs = "dims[]", .infer = reshape_infer,
    .form = NIZ_FORM_VIEW, .view = reshape_view, .adjoint = reshape_adjoint,
    .ref_tensor = reshape_ref,
    SAMPLES({.x = {{2, {6, 35}}}, .n_attr = 3, .attr = {7, 10, 3}},
            {.x = {{3, {1, 13, 1}}}, .n_attr = 4, .attr = {1, 1, 13, 1}},
            {.x = {{1, {1}}}, .n_attr = 0}, {.x = {{0}}, .n_attr = 2, .attr = {1, 1}},
            {.x = {{2, {0, 5}}}, .n_attr = 3, .attr = {7, 0, 3}},
            {.n = 1, .x = {{2, {2, 3}}}, .n_attr = 1, .attr = {6}, .in = VALUES(1, 2, 3, 4, 5, 6),
             .out = VALUES(1, 2, 3, 4, 5, 6)},
            {.x = {{2, {2, 3}}}, .n_attr = 1, .attr = {7}, .refused = "6 elements are not the 7"},
            {.x = {{1, {4}}}, .n_attr = 2, .attr = {-2, -2}, .refused = "negative"}),
};

static bool shape_complete(niz_at at, niz_t x, niz_shape *s)
{
    int open = -1;
    int64_t rest = 1, count;
    niz_shape from = niz_shape_of(x);
    if (s->rank < 0 || s->rank > NIZ_MAX_RANK) {
        niz_fail(x.z, at, NIZ_E_SHAPE, "a tensor has 0 to 8 axes, not %d: x %s", s->rank,
                 niz_describe(x).text);
        return false;
    }
    for (int d = 0; d < s->rank; d++) {
        if (s->dim[d] == -1 && open < 0)
            open = d;
        else if (__builtin_mul_overflow(rest, s->dim[d], &rest))
            rest = 0;
    }
    if (open < 0) return true;
    count = niz_shape_count(&from);
    if (rest > 0 && count % rest == 0) {
        s->dim[open] = count / rest;
        return true;
    }
    niz_fail(x.z, at, NIZ_E_SHAPE, "no size for -1 makes %s of the %lld elements: x %s",
             niz_type_text(niz_dtype_of(x), s).text, (long long)count, niz_describe(x).text);
    return false;
}

niz_t niz_reshape_at(niz_at at, niz_t x, niz_shape shape)
{
    NIZ_FUNCTION(x.z, at, "reshape");
    if (!niz_usable(x.z, at, x, "x") || !shape_complete(at, x, &shape)) return niz_inert(x.z);
    niz_shape from = niz_shape_of(x);
    if (niz_shape_equal(&from, &shape)) return x;
    return niz_apply_one(at, &niz_op_reshape, x, shape.rank, shape.dim);
}

/* ---- permute -------------------------------------------------------------------------------- */

static bool permute_infer(niz_infer *f)
{
    const niz_shape *x = f->x[0].shape;
    unsigned seen = 0;
    if (f->attr.n != x->rank)
        return niz_infer_fail(f, NIZ_E_ARGUMENT, "%d axes are given for rank %d", f->attr.n,
                              x->rank);
    f->made = (niz_shape){.rank = x->rank};
    for (int d = 0; d < x->rank; d++) {
        int64_t a = f->attr.value[d];
        if (a < 0 || a >= x->rank || seen >> a & 1)
            return niz_infer_fail(f, NIZ_E_ARGUMENT, "axis %lld is outside or given twice",
                                  (long long)a);
        seen |= 1u << a;
        f->made.dim[d] = x->dim[a];
    }
    f->dtype = f->x[0].dtype;
    f->shape = &f->made;
    return true;
}

static bool permute_view(niz_attrs attr, const niz_shape *y, niz_view *v)
{
    niz_view from = *v;
    for (int d = 0; d < y->rank; d++) v->stride[d] = from.stride[attr.value[d]];
    v->shape = *y;
    return true;
}

static niz_t permute_adjoint(const niz_app *p, int i, niz_t gy)
{
    int64_t back[NIZ_MAX_RANK];
    (void)i;
    for (int d = 0; d < p->attr.n; d++) back[p->attr.value[d]] = d;
    return niz_apply_one(NIZ_HERE, &niz_op_permute, gy, p->attr.n, back);
}

static void permute_ref(const niz_ref *r)
{
    for (int64_t i = 0, n = niz_shape_count(&r->shape); i < n; i++) {
        int64_t at[NIZ_MAX_RANK], from[NIZ_MAX_RANK];
        niz_unravel(&r->shape, i, at);
        for (int d = 0; d < r->shape.rank; d++) from[r->attr.value[d]] = at[d];
        r->y[i] = r->x[0][niz_ravel(&r->x_shape[0], from)];
    }
}

const niz_op niz_op_permute = {
    .name = "permute", .arity = 1, .attrs = "axes[]", .infer = permute_infer,
    .form = NIZ_FORM_VIEW, .view = permute_view, .adjoint = permute_adjoint,
    .ref_tensor = permute_ref,
    SAMPLES({.x = {{3, {3, 5, 7}}}, .n_attr = 3, .attr = {2, 0, 1}},
            {.x = {{4, {2, 1, 3, 5}}}, .n_attr = 4, .attr = {3, 1, 0, 2}},
            {.x = {{2, {0, 5}}}, .n_attr = 2, .attr = {1, 0}},
            {.n = 1, .x = {{2, {2, 3}}}, .n_attr = 2, .attr = {1, 0},
             .in = VALUES(1, 2, 3, 4, 5, 6), .out = VALUES(1, 4, 2, 5, 3, 6)},
            {.x = {{2, {2, 3}}}, .n_attr = 2, .attr = {0, 0}, .refused = "given twice"},
            {.x = {{2, {2, 3}}}, .n_attr = 1, .attr = {0}, .refused = "for rank 2"}),
};

niz_t niz_permute_at(niz_at at, niz_t x, niz_axes axes)
{
    NIZ_FUNCTION(x.z, at, "permute");
    if (!niz_usable(x.z, at, x, "x")) return niz_inert(x.z);
    int rank = niz_shape_of(x).rank;
    if (axes.n < 0 || axes.n > NIZ_MAX_RANK) axes.n = 0;
    int64_t word[NIZ_MAX_RANK];
    bool moves = axes.n != rank;
    for (int d = 0; d < axes.n; d++) {
        word[d] = axes.axis[d];
        if (!niz_axis_fits(at, x, rank, &word[d])) return niz_inert(x.z);
        if (word[d] != d) moves = true;
    }
    return moves ? niz_apply_one(at, &niz_op_permute, x, axes.n, word) : x;
}

/* ---- broadcast ------------------------------------------------------------------------------ */

static bool broadcast_infer(niz_infer *f)
{
    const niz_shape *x = f->x[0].shape;
    niz_shape both;
    if (!dims_infer(f)) return false;
    if (x->rank <= f->made.rank && niz_shape_broadcast(x, &f->made, &both) &&
        niz_shape_equal(&both, &f->made))
        return true;
    return niz_infer_fail(f, NIZ_E_SHAPE, "does not broadcast to %s",
                          niz_type_text(f->dtype, &f->made).text);
}

static bool broadcast_view(niz_attrs attr, const niz_shape *y, niz_view *v)
{
    niz_view from = *v;
    int more = y->rank - from.shape.rank;
    (void)attr;
    for (int d = 0; d < y->rank; d++) {
        bool repeats = d < more || from.shape.dim[d - more] != y->dim[d];
        v->stride[d] = repeats ? 0 : from.stride[d - more];
    }
    v->shape = *y;
    return true;
}

/* Sums over what was repeated, innermost axis first; axes of size 1 come and go by a reshape. */
static niz_t broadcast_adjoint(const niz_app *p, int i, niz_t gy)
{
    niz_shape x = niz_shape_of(p->x[i]), y = niz_shape_of(gy);
    int more = y.rank - x.rank;
    for (int64_t d = y.rank; d-- > 0;)
        if (d < more ? y.dim[d] != 1 : x.dim[d - more] != y.dim[d])
            gy = niz_apply_one(NIZ_HERE, &niz_op_sum, gy, 1, &d);
    return reshape_to(gy, &x);
}

static void broadcast_ref(const niz_ref *r)
{
    const niz_shape *x = &r->x_shape[0];
    int more = r->shape.rank - x->rank;
    for (int64_t i = 0, n = niz_shape_count(&r->shape); i < n; i++) {
        int64_t at[NIZ_MAX_RANK], from[NIZ_MAX_RANK];
        niz_unravel(&r->shape, i, at);
        for (int d = 0; d < x->rank; d++) from[d] = x->dim[d] == 1 ? 0 : at[d + more];
        r->y[i] = r->x[0][niz_ravel(x, from)];
    }
}

const niz_op niz_op_broadcast = {
    .name = "broadcast", .arity = 1, .attrs = "dims[]", .infer = broadcast_infer,
    .form = NIZ_FORM_VIEW, .view = broadcast_view, .adjoint = broadcast_adjoint,
    .ref_tensor = broadcast_ref,
    SAMPLES({.x = {{2, {1, 7}}}, .n_attr = 3, .attr = {3, 5, 7}},
            {.x = {{0}}, .n_attr = 2, .attr = {2, 3}},
            {.x = {{3, {3, 1, 1}}}, .n_attr = 4, .attr = {1, 3, 5, 2}},
            {.x = {{2, {1, 3}}}, .n_attr = 2, .attr = {0, 3}},
            {.x = {{2, {1, 2}}}, .n_attr = 2, .attr = {601, 2}},
            {.n = 1, .x = {{2, {2, 1}}}, .n_attr = 2, .attr = {2, 3}, .in = VALUES(1, 2),
             .out = VALUES(1, 1, 1, 2, 2, 2)},
            {.x = {{1, {2}}}, .n_attr = 1, .attr = {3}, .refused = "does not broadcast to"},
            {.x = {{2, {1, 2}}}, .n_attr = 1, .attr = {2}, .refused = "does not broadcast to"}),
};

niz_t niz_broadcast_at(niz_at at, niz_t x, niz_shape shape)
{
    NIZ_FUNCTION(x.z, at, "broadcast");
    if (!niz_usable(x.z, at, x, "x")) return niz_inert(x.z);
    niz_shape from = niz_shape_of(x);
    const char *fault = niz_shape_fault(&shape);
    if (fault) {
        niz_fail(x.z, at, NIZ_E_SHAPE, "not a shape: %s", fault);
        return niz_inert(x.z);
    }
    if (niz_shape_equal(&from, &shape)) return x;
    return niz_apply_one(at, &niz_op_broadcast, x, shape.rank, shape.dim);
}

/* ---- slice and pad: each the other's adjoint ------------------------------------------------ */

/* start[] size[] step[], all axes */
static bool slice_infer(niz_infer *f)
{
    const niz_shape *x = f->x[0].shape;
    if (f->attr.n != 3 * x->rank)
        return niz_infer_fail(f, NIZ_E_ARGUMENT, "needs start, size, step of all %d axes", x->rank);
    f->made = (niz_shape){.rank = x->rank};
    for (int d = 0; d < x->rank; d++) {
        int64_t start = f->attr.value[d], size = f->attr.value[x->rank + d];
        int64_t step = f->attr.value[2 * x->rank + d], last;
        bool fits = start >= 0 && size >= 0 && step >= 1 && start <= x->dim[d] &&
                    (size == 0 || (!__builtin_mul_overflow(size - 1, step, &last) &&
                                   last < x->dim[d] - start));
        if (!fits)
            return niz_infer_fail(f, NIZ_E_ARGUMENT,
                                  "%lld elements from %lld on by %lld are outside axis %d",
                                  (long long)size, (long long)start, (long long)step, d);
        f->made.dim[d] = size;
    }
    f->dtype = f->x[0].dtype;
    f->shape = &f->made;
    return true;
}

static bool slice_view(niz_attrs attr, const niz_shape *y, niz_view *v)
{
    for (int d = 0; d < y->rank; d++) {
        if (y->dim[d]) v->offset += attr.value[d] * v->stride[d];
        v->stride[d] *= attr.value[2 * y->rank + d];
    }
    v->shape = *y;
    return true;
}

static niz_t slice_adjoint(const niz_app *p, int i, niz_t gy)
{
    niz_shape x = niz_shape_of(p->x[i]);
    int64_t word[1 + 3 * NIZ_MAX_RANK], *lo = word + 1, *hi = lo + x.rank, *gap = hi + x.rank;
    word[0] = niz_attr_of_double(0);
    for (int d = 0; d < x.rank; d++) {
        int64_t start = p->attr.value[d], size = p->attr.value[x.rank + d];
        int64_t step = p->attr.value[2 * x.rank + d];
        lo[d] = start;
        hi[d] = x.dim[d] - start - (size ? (size - 1) * step + 1 : 0);
        gap[d] = step - 1;
    }
    return niz_apply_one(NIZ_HERE, &niz_op_pad, gy, 1 + 3 * x.rank, word);
}

static void slice_ref(const niz_ref *r)
{
    int rank = r->shape.rank;
    for (int64_t i = 0, n = niz_shape_count(&r->shape); i < n; i++) {
        int64_t at[NIZ_MAX_RANK];
        niz_unravel(&r->shape, i, at);
        for (int d = 0; d < rank; d++)
            at[d] = r->attr.value[d] + at[d] * r->attr.value[2 * rank + d];
        r->y[i] = r->x[0][niz_ravel(&r->x_shape[0], at)];
    }
}

const niz_op niz_op_slice = {
    .name = "slice", .arity = 1, .attrs = "start[] size[] step[]", .infer = slice_infer,
    .form = NIZ_FORM_VIEW, .view = slice_view, .adjoint = slice_adjoint, .ref_tensor = slice_ref,
    SAMPLES({.x = {{1, {13}}}, .n_attr = 3, .attr = {2, 4, 3}},
            {.x = {{2, {5, 11}}}, .n_attr = 6, .attr = {1, 0, 3, 6, 1, 2}},
            {.x = {{2, {4, 3}}}, .n_attr = 6, .attr = {4, 0, 0, 3, 1, 1}},
            {.x = {{1, {1000}}}, .n_attr = 3, .attr = {7, 600, 1}},
            {.x = {{0}}},
            {.n = 1, .x = {{1, {5}}}, .n_attr = 3, .attr = {1, 2, 3}, .in = VALUES(0, 1, 2, 3, 4),
             .out = VALUES(1, 4)},
            {.x = {{1, {5}}}, .n_attr = 3, .attr = {1, 3, 2}, .refused = "outside axis 0"},
            {.x = {{1, {5}}}, .n_attr = 3, .attr = {-1, 3, 1}, .refused = "outside axis 0"},
            {.x = {{1, {5}}}, .n_attr = 3, .attr = {0, 1, 0}, .refused = "outside axis 0"}),
};

/* Slices one axis whole elsewhere. */
static niz_t slice_axis(niz_at at, niz_t x, int axis, int64_t start, int64_t size, int64_t step)
{
    niz_shape s = niz_shape_of(x);
    int64_t word[3 * NIZ_MAX_RANK];
    if (start == 0 && size == s.dim[axis] && (step == 1 || size <= 1)) return x;
    for (int d = 0; d < s.rank; d++) {
        word[d] = d == axis ? start : 0;
        word[s.rank + d] = d == axis ? size : s.dim[d];
        word[2 * s.rank + d] = d == axis ? step : 1;
    }
    return niz_apply_one(at, &niz_op_slice, x, 3 * s.rank, word);
}

/* Python's rule: negative ones count from the end, and what lies outside is cut off. */
static int64_t slice_bound(int64_t i, int64_t n)
{
    if (i < 0) i += n;
    return i < 0 ? 0 : i > n ? n : i;
}

niz_t niz_slice_at(niz_at at, niz_t x, int axis, int64_t start, int64_t stop, int64_t step)
{
    NIZ_FUNCTION(x.z, at, "slice");
    if (!niz_usable(x.z, at, x, "x")) return niz_inert(x.z);
    niz_shape s = niz_shape_of(x);
    int64_t d = axis;
    if (!niz_axis_fits(at, x, s.rank, &d)) return niz_inert(x.z);
    if (step < 1) {
        niz_fail(x.z, at, NIZ_E_ARGUMENT, "a step is at least 1, not %lld: x %s", (long long)step,
                 niz_describe(x).text);
        return niz_inert(x.z);
    }
    start = slice_bound(start, s.dim[d]);
    stop = slice_bound(stop, s.dim[d]);
    int64_t size = stop > start ? (stop - start - 1) / step + 1 : 0;
    return slice_axis(at, x, (int)d, start, size, size <= 1 ? 1 : step);
}

/* value lo[] hi[] gap[]: gap elements come between neighbours. */
static bool pad_infer(niz_infer *f)
{
    const niz_shape *x = f->x[0].shape;
    if (f->attr.n != 1 + 3 * x->rank)
        return niz_infer_fail(f, NIZ_E_ARGUMENT, "needs lo, hi, gap of all %d axes", x->rank);
    const int64_t *lo = f->attr.value + 1, *hi = lo + x->rank, *gap = hi + x->rank;
    double value = niz_attr_double(f->attr.value[0]);
    if (!niz_dtype_holds(f->x[0].dtype, value))
        return niz_infer_fail(f, NIZ_E_DTYPE, "the number %g does not fit %s", value,
                              niz_dtype_name(f->x[0].dtype));
    f->made = (niz_shape){.rank = x->rank};
    for (int d = 0; d < x->rank; d++) {
        int64_t n = x->dim[d] ? x->dim[d] - 1 : 0;
        if (lo[d] < 0 || hi[d] < 0 || gap[d] < 0)
            return niz_infer_fail(f, NIZ_E_ARGUMENT, "padding is not negative: axis %d", d);
        if (__builtin_mul_overflow(n, gap[d], &n) || __builtin_add_overflow(n, x->dim[d], &n) ||
            __builtin_add_overflow(n, lo[d], &n) || __builtin_add_overflow(n, hi[d], &n))
            return niz_infer_fail(f, NIZ_E_SHAPE, "more elements than memory can hold");
        f->made.dim[d] = n;
    }
    f->dtype = f->x[0].dtype;
    f->shape = &f->made;
    return true;
}

/* The padding as an element, by its bytes. */
static void pad_element(niz_dtype dtype, double value, void *out)
{
    float f32 = (float)value;
    int32_t i32 = dtype == NIZ_I32 ? (int32_t)value : 0;
    int64_t i64 = dtype == NIZ_I64 ? (int64_t)value : 0;
    uint8_t u8 = dtype == NIZ_U8 || dtype == NIZ_BOOL ? (uint8_t)value : 0;
    switch (dtype) {
    case NIZ_F32: memcpy(out, &f32, sizeof f32); break;
    case NIZ_F64: memcpy(out, &value, sizeof value); break;
    case NIZ_I32: memcpy(out, &i32, sizeof i32); break;
    case NIZ_I64: memcpy(out, &i64, sizeof i64); break;
    default: memcpy(out, &u8, sizeof u8); break;
    }
}

/* Where the outer coordinates of a row of y lie in x; false if they are padding. */
static bool pad_source(const niz_eval *e, const niz_row *r, int64_t *offset)
{
    int rank = e->y.shape.rank;
    const int64_t *lo = e->attr.value + 1, *gap = lo + 2 * rank;
    *offset = 0;
    for (int d = 0; d < rank - 1; d++) {
        int64_t p = r->at[d] - lo[d], every = gap[d] + 1;
        if (p < 0 || p % every || p / every >= e->x[0].shape.dim[d]) return false;
        *offset += p / every * e->x[0].stride[d];
    }
    return true;
}

static void pad_row(niz_eval *e, const niz_row *r)
{
    const niz_buffer *x = &e->x[0];
    int rank = e->y.shape.rank, last = rank - 1;
    size_t bytes = niz_dtype_size(x->dtype);
    unsigned char value[8];
    int64_t offset, lo = rank ? e->attr.value[1 + last] : 0;
    int64_t every = rank ? e->attr.value[1 + 2 * rank + last] + 1 : 1;
    int64_t n = rank ? x->shape.dim[last] : 1, stride = rank ? x->stride[last] : 1;
    pad_element(x->dtype, niz_attr_double(e->attr.value[0]), value);
    bool inside = pad_source(e, r, &offset);
    /* elements [i, end) of x's row lie in the part asked for */
    int64_t i = r->from > lo ? (r->from - lo + every - 1) / every : 0;
    int64_t end = r->to > lo ? (r->to - lo + every - 1) / every : 0;
    if (end > n) end = n;
    if (!inside || i >= end) {
        niz_move(r->y, 1, value, 0, r->to - r->from, bytes);
        return;
    }
    int64_t first = lo + i * every - r->from, after = first + (end - i - 1) * every + 1;
    char *y = r->y;
    if (every > 1)
        niz_move(y, 1, value, 0, r->to - r->from, bytes);
    else {
        niz_move(y, 1, value, 0, first, bytes);
        niz_move(y + (size_t)after * bytes, 1, value, 0, r->to - r->from - after, bytes);
    }
    const char *from = (const char *)x->data + (offset + i * stride) * (int64_t)bytes;
    niz_move(y + (size_t)first * bytes, every, from, stride, end - i, bytes);
}

static void pad_eval(niz_eval *e)
{
    niz_rows(e, pad_row);
}

static niz_t pad_vjp(const niz_app *p, int i, niz_t gy)
{
    niz_shape x = niz_shape_of(p->x[i]);
    const int64_t *lo = p->attr.value + 1, *gap = lo + 2 * x.rank;
    int64_t word[3 * NIZ_MAX_RANK];
    for (int d = 0; d < x.rank; d++) {
        word[d] = lo[d];
        word[x.rank + d] = x.dim[d];
        word[2 * x.rank + d] = gap[d] + 1;
    }
    return niz_apply_one(NIZ_HERE, &niz_op_slice, gy, 3 * x.rank, word);
}

/* The padding does not depend on x. */
static niz_t pad_jvp(const niz_app *p, int i, niz_t tx)
{
    int64_t word[1 + 3 * NIZ_MAX_RANK];
    (void)i;
    memcpy(word, p->attr.value, sizeof *word * (size_t)p->attr.n);
    word[0] = niz_attr_of_double(0);
    return niz_apply_one(NIZ_HERE, &niz_op_pad, tx, p->attr.n, word);
}

static void pad_ref(const niz_ref *r)
{
    int rank = r->shape.rank;
    const int64_t *lo = r->attr.value + 1, *gap = lo + 2 * rank;
    for (int64_t i = 0, n = niz_shape_count(&r->shape); i < n; i++)
        r->y[i] = niz_attr_double(r->attr.value[0]);
    for (int64_t i = 0, n = niz_shape_count(&r->x_shape[0]); i < n; i++) {
        int64_t at[NIZ_MAX_RANK];
        niz_unravel(&r->x_shape[0], i, at);
        for (int d = 0; d < rank; d++) at[d] = lo[d] + at[d] * (gap[d] + 1);
        r->y[niz_ravel(&r->shape, at)] = r->x[0][i];
    }
}

const niz_op niz_op_pad = {
    .name = "pad", .arity = 1, .attrs = "value:f lo[] hi[] gap[]", .infer = pad_infer,
    .form = NIZ_FORM_INDEX, .eval = pad_eval, .parallel = true, .vjp = pad_vjp, .jvp = pad_jvp,
    .ref_tensor = pad_ref,
    SAMPLES({.x = {{1, {7}}}, .n_attr = 4, .attr = {0, 2, 3, 0}},
            {.x = {{2, {3, 5}}}, .n_attr = 7, .attr = {0, 1, 0, 0, 2, 2, 1}},
            {.x = {{3, {2, 1, 3}}}, .n_attr = 10, .attr = {0, 0, 1, 1, 0, 1, 0, 3, 3, 0}},
            {.x = {{1, {601}}}, .n_attr = 4, .attr = {0x3FF0000000000000, 1, 0, 1}},
            {.x = {{2, {0, 3}}}, .n_attr = 7, .attr = {0, 2, 0, 1, 0, 5, 0}},
            {.x = {{0}}, .n_attr = 1},
            {.n = 1, .x = {{1, {2}}}, .n_attr = 4, .attr = {NEG_INF_BITS, 1, 0, 1},
             .in = VALUES(5, 6), .out = VALUES(-INFINITY, 5, -INFINITY, 6)},
            {.x = {{1, {2}}}, .n_attr = 4, .attr = {0, -1, 0, 0}, .refused = "not negative"},
            {.x = {{1, {2}}}, .n_attr = 3, .attr = {0, 1, 0}, .refused = "of all 1 axes"}),
};

niz_t niz_pad_at(niz_at at, niz_t x, int axis, int64_t before, int64_t after, double value)
{
    NIZ_FUNCTION(x.z, at, "pad");
    if (!niz_usable(x.z, at, x, "x")) return niz_inert(x.z);
    int rank = niz_shape_of(x).rank;
    int64_t d = axis, word[1 + 3 * NIZ_MAX_RANK] = {niz_attr_of_double(value)};
    if (!niz_axis_fits(at, x, rank, &d)) return niz_inert(x.z);
    if (before == 0 && after == 0) return x;
    word[1 + d] = before;
    word[1 + rank + d] = after;
    return niz_apply_one(at, &niz_op_pad, x, 1 + 3 * rank, word);
}

/* ---- flip ----------------------------------------------------------------------------------- */

static bool flip_infer(niz_infer *f)
{
    unsigned seen = 0;
    for (int i = 0; i < f->attr.n; i++) {
        int64_t a = f->attr.value[i];
        if (a < 0 || a >= f->x[0].shape->rank || seen >> a & 1)
            return niz_infer_fail(f, NIZ_E_ARGUMENT, "axis %lld is outside or given twice",
                                  (long long)a);
        seen |= 1u << a;
    }
    f->dtype = f->x[0].dtype;
    f->shape = f->x[0].shape;
    return true;
}

static bool flip_view(niz_attrs attr, const niz_shape *y, niz_view *v)
{
    for (int i = 0; i < attr.n; i++) {
        int64_t a = attr.value[i];
        if (y->dim[a]) v->offset += (y->dim[a] - 1) * v->stride[a];
        v->stride[a] = -v->stride[a];
    }
    return true;
}

static niz_t flip_adjoint(const niz_app *p, int i, niz_t gy)
{
    (void)i;
    return niz_apply_one(NIZ_HERE, &niz_op_flip, gy, p->attr.n, p->attr.value);
}

static void flip_ref(const niz_ref *r)
{
    for (int64_t i = 0, n = niz_shape_count(&r->shape); i < n; i++) {
        int64_t at[NIZ_MAX_RANK];
        niz_unravel(&r->shape, i, at);
        for (int k = 0; k < r->attr.n; k++) {
            int64_t a = r->attr.value[k];
            at[a] = r->shape.dim[a] - 1 - at[a];
        }
        r->y[i] = r->x[0][niz_ravel(&r->shape, at)];
    }
}

const niz_op niz_op_flip = {
    .name = "flip", .arity = 1, .attrs = "axes[]", .infer = flip_infer, .form = NIZ_FORM_VIEW,
    .view = flip_view, .adjoint = flip_adjoint, .ref_tensor = flip_ref,
    SAMPLES({.x = {{2, {3, 5}}}, .n_attr = 1, .attr = {0}},
            {.x = {{3, {3, 1, 7}}}, .n_attr = 3, .attr = {2, 0, 1}},
            {.x = {{2, {2, 0}}}, .n_attr = 1, .attr = {1}},
            {.n = 1, .x = {{1, {3}}}, .n_attr = 1, .attr = {0}, .in = VALUES(1, 2, 3),
             .out = VALUES(3, 2, 1)},
            {.x = {{1, {3}}}, .n_attr = 1, .attr = {1}, .refused = "outside or given twice"}),
};

niz_t niz_flip_at(niz_at at, niz_t x, int axis)
{
    NIZ_FUNCTION(x.z, at, "flip");
    if (!niz_usable(x.z, at, x, "x")) return niz_inert(x.z);
    int64_t d = axis;
    if (!niz_axis_fits(at, x, niz_shape_of(x).rank, &d)) return niz_inert(x.z);
    return niz_apply_one(at, &niz_op_flip, x, 1, &d);
}

/* ---- concat --------------------------------------------------------------------------------- */

static bool concat_infer(niz_infer *f)
{
    const niz_shape *x = f->x[0].shape;
    int64_t axis = f->attr.n == 1 ? f->attr.value[0] : -1, sum = 0;
    if (axis < 0 || axis >= x->rank)
        return niz_infer_fail(f, NIZ_E_ARGUMENT, "axis %lld is outside the %d axes",
                              (long long)axis, x->rank);
    if (!niz_infer_one_dtype(f, 0)) return false;
    f->made = *x;
    for (int i = 0; i < f->n; i++) {
        const niz_shape *s = f->x[i].shape;
        bool fits = s->rank == x->rank;
        for (int d = 0; fits && d < x->rank; d++) fits = d == axis || s->dim[d] == x->dim[d];
        if (!fits)
            return niz_infer_fail(f, NIZ_E_SHAPE, "sizes other than axis %lld's differ",
                                  (long long)axis);
        if (__builtin_add_overflow(sum, s->dim[axis], &sum))
            return niz_infer_fail(f, NIZ_E_SHAPE, "more elements than memory can hold");
    }
    f->made.dim[axis] = sum;
    f->dtype = f->x[0].dtype;
    f->shape = &f->made;
    return true;
}

/* Elements [from, to) along the last axis of one operand, at coordinates at[] of it. */
static void concat_copy(const niz_buffer *x, const int64_t *at, int64_t from, int64_t n, void *y)
{
    int last = x->shape.rank - 1;
    int64_t offset = from * x->stride[last];
    size_t bytes = niz_dtype_size(x->dtype);
    for (int d = 0; d < last; d++) offset += at[d] * x->stride[d];
    niz_move(y, 1, (const char *)x->data + offset * (int64_t)bytes, x->stride[last], n, bytes);
}

static void concat_row(niz_eval *e, const niz_row *r)
{
    int64_t axis = e->attr.value[0], before = 0;
    bool along = axis == e->y.shape.rank - 1;
    int64_t at[NIZ_MAX_RANK];
    memcpy(at, r->at, sizeof at);
    for (int i = 0; i < e->n; i++) {
        const niz_buffer *x = &e->x[i];
        int64_t n = x->shape.dim[axis], from = r->from - before, to = r->to - before;
        if (along) {
            from = from < 0 ? 0 : from;
            to = to > n ? n : to;
            char *y = (char *)r->y + (before + from - r->from) * (int64_t)niz_dtype_size(x->dtype);
            if (from < to) concat_copy(x, at, from, to - from, y);
        } else if (r->at[axis] - before < n) {
            at[axis] = r->at[axis] - before;
            concat_copy(x, at, r->from, r->to - r->from, r->y);
            return;
        }
        before += n;
    }
}

static void concat_eval(niz_eval *e)
{
    niz_rows(e, concat_row);
}

static niz_t concat_adjoint(const niz_app *p, int i, niz_t gy)
{
    int axis = (int)p->attr.value[0];
    int64_t before = 0;
    for (int k = 0; k < i; k++) before += niz_shape_of(p->x[k]).dim[axis];
    return slice_axis(NIZ_HERE, gy, axis, before, niz_shape_of(p->x[i]).dim[axis], 1);
}

static void concat_ref(const niz_ref *r)
{
    int64_t axis = r->attr.value[0];
    for (int64_t i = 0, n = niz_shape_count(&r->shape); i < n; i++) {
        int64_t at[NIZ_MAX_RANK];
        int k = 0;
        niz_unravel(&r->shape, i, at);
        while (at[axis] >= r->x_shape[k].dim[axis]) at[axis] -= r->x_shape[k++].dim[axis];
        r->y[i] = r->x[k][niz_ravel(&r->x_shape[k], at)];
    }
}

const niz_op niz_op_concat = {
    .name = "concat", .arity = -1, .attrs = "axis", .infer = concat_infer, .form = NIZ_FORM_INDEX,
    .eval = concat_eval, .parallel = true, .adjoint = concat_adjoint, .jointly_linear = true,
    .ref_tensor = concat_ref,
    SAMPLES({.n = 3, .x = {{2, {3, 2}}, {2, {3, 7}}, {2, {3, 1}}}, .n_attr = 1, .attr = {1}},
            {.n = 2, .x = {{3, {2, 3, 5}}, {3, {2, 1, 5}}}, .n_attr = 1, .attr = {1}},
            {.n = 4, .x = {{1, {1}}, {1, {0}}, {1, {601}}, {1, {2}}}, .n_attr = 1, .attr = {0}},
            {.n = 1, .x = {{2, {2, 2}}}, .n_attr = 1, .attr = {0}},
            {.n = 2, .x = {{2, {0, 2}}, {2, {0, 3}}}, .n_attr = 1, .attr = {1}},
            {.n = 2, .x = {{2, {2, 1}}, {2, {2, 2}}}, .n_attr = 1, .attr = {1},
             .in = VALUES(1, 2, 3, 4, 5, 6), .out = VALUES(1, 3, 4, 2, 5, 6)},
            {.n = 2, .x = {{2, {2, 1}}, {2, {3, 2}}}, .n_attr = 1, .attr = {1},
             .refused = "sizes other than axis 1's differ"},
            {.n = 2, .x = {{1, {2}}, {1, {3}}}, .n_attr = 1, .attr = {1}, .refused = "outside"}),
};

/* More tensors than a node has operands: joined in parts. */
static niz_t concat_many(niz_at at, int n, const niz_t *x, int64_t axis)
{
    niz_t part[NIZ_MAX_ARITY];
    if (n == 1) return x[0];
    if (n <= NIZ_MAX_ARITY)
        return niz_apply_at(at, &niz_op_concat, n, x, &(niz_attrs){1, &axis});
    int each = (n - 1) / NIZ_MAX_ARITY + 1, parts = 0;
    for (int i = 0; i < n; i += each)
        part[parts++] = concat_many(at, n - i < each ? n - i : each, x + i, axis);
    return concat_many(at, parts, part, axis);
}

niz_t niz_concat_at(niz_at at, int n, const niz_t *x, int axis)
{
    niz *z = x && n > 0 ? niz_context_of(n, x) : NULL;
    NIZ_FUNCTION(z, at, "concat");
    if (!z || z->status) return niz_inert(z);
    for (int i = 0; i < n; i++)
        if (!niz_usable(z, at, x[i], "an operand")) return niz_inert(z);
    int64_t d = axis;
    if (!niz_axis_fits(at, x[0], niz_shape_of(x[0]).rank, &d)) return niz_inert(z);
    return concat_many(at, n, x, d);
}

/* ---- window and fold: each the other's adjoint ---------------------------------------------- */

/* How many windows of that size fit n elements, or -1. */
static int64_t window_count(int64_t n, int64_t size, int64_t stride, int64_t dilation)
{
    int64_t extent;
    if (size < 1 || stride < 1 || dilation < 1) return -1;
    if (__builtin_mul_overflow(size - 1, dilation, &extent)) return -1;
    return extent >= n ? -1 : (n - extent - 1) / stride + 1;
}

/* axis size stride dilation */
static bool window_infer(niz_infer *f)
{
    const niz_shape *x = f->x[0].shape;
    const int64_t *w = f->attr.value;
    if (f->attr.n != 4 || w[0] < 0 || w[0] >= x->rank)
        return niz_infer_fail(f, NIZ_E_ARGUMENT, "the axis is outside the %d axes", x->rank);
    if (x->rank == NIZ_MAX_RANK)
        return niz_infer_fail(f, NIZ_E_SHAPE, "the windows would be axis %d", NIZ_MAX_RANK + 1);
    int64_t n = window_count(x->dim[w[0]], w[1], w[2], w[3]);
    if (n < 0)
        return niz_infer_fail(f, NIZ_E_ARGUMENT,
                              "no window of size %lld, stride %lld, dilation %lld fits axis %lld",
                              (long long)w[1], (long long)w[2], (long long)w[3], (long long)w[0]);
    f->made = *x;
    f->made.dim[w[0]] = n;
    f->made.dim[f->made.rank++] = w[1];
    f->dtype = f->x[0].dtype;
    f->shape = &f->made;
    return true;
}

static bool window_view(niz_attrs attr, const niz_shape *y, niz_view *v)
{
    int64_t axis = attr.value[0], stride = v->stride[axis];
    v->stride[axis] = stride * attr.value[2];
    v->stride[y->rank - 1] = stride * attr.value[3];
    v->shape = *y;
    return true;
}

extern const niz_op niz_op_window, niz_op_fold;

static niz_t window_adjoint(const niz_app *p, int i, niz_t gy)
{
    const int64_t *w = p->attr.value;
    int64_t word[4] = {w[0], niz_shape_of(p->x[i]).dim[w[0]], w[2], w[3]};
    return niz_apply_one(NIZ_HERE, &niz_op_fold, gy, 4, word);
}

static void window_ref(const niz_ref *r)
{
    const int64_t *w = r->attr.value;
    for (int64_t i = 0, n = niz_shape_count(&r->shape); i < n; i++) {
        int64_t at[NIZ_MAX_RANK];
        niz_unravel(&r->shape, i, at);
        at[w[0]] = at[w[0]] * w[2] + at[r->shape.rank - 1] * w[3];
        r->y[i] = r->x[0][niz_ravel(&r->x_shape[0], at)];
    }
}

const niz_op niz_op_window = {
    .name = "window", .arity = 1, .attrs = "axis size stride dilation", .infer = window_infer,
    .form = NIZ_FORM_VIEW, .view = window_view, .adjoint = window_adjoint,
    .ref_tensor = window_ref,
    SAMPLES({.x = {{1, {13}}}, .n_attr = 4, .attr = {0, 3, 1, 1}},
            {.x = {{3, {2, 11, 3}}}, .n_attr = 4, .attr = {1, 3, 2, 2}},
            {.x = {{2, {5, 7}}}, .n_attr = 4, .attr = {1, 2, 3, 1}},
            {.x = {{2, {0, 4}}}, .n_attr = 4, .attr = {1, 4, 1, 1}},
            {.n = 1, .x = {{1, {4}}}, .n_attr = 4, .attr = {0, 2, 1, 1}, .in = VALUES(1, 2, 3, 4),
             .out = VALUES(1, 2, 2, 3, 3, 4)},
            {.x = {{1, {4}}}, .n_attr = 4, .attr = {0, 5, 1, 1}, .refused = "no window of size 5"},
            {.x = {{1, {4}}}, .n_attr = 4, .attr = {1, 2, 1, 1}, .refused = "outside"}),
};

niz_t niz_window_at(niz_at at, niz_t x, int axis, int64_t size, int64_t stride, int64_t dilation)
{
    NIZ_FUNCTION(x.z, at, "window");
    if (!niz_usable(x.z, at, x, "x")) return niz_inert(x.z);
    int64_t word[4] = {axis, size, stride, dilation};
    if (!niz_axis_fits(at, x, niz_shape_of(x).rank, word)) return niz_inert(x.z);
    return niz_apply_one(at, &niz_op_window, x, 4, word);
}

/* axis n stride dilation: windows (the last axis) added up at the places they came from.  Every
 * element starts as +0 and takes its contributions in order of their window. */
static bool fold_infer(niz_infer *f)
{
    const niz_shape *x = f->x[0].shape;
    const int64_t *w = f->attr.value;
    if (!niz_dtype_is_number(f->x[0].dtype))
        return niz_infer_fail(f, NIZ_E_DTYPE, "%s is no number; niz_cast it",
                              niz_dtype_name(f->x[0].dtype));
    if (f->attr.n != 4 || w[0] < 0 || w[0] >= x->rank - 1)
        return niz_infer_fail(f, NIZ_E_ARGUMENT, "the axis is outside the %d axes", x->rank - 1);
    if (window_count(w[1], x->dim[x->rank - 1], w[2], w[3]) != x->dim[w[0]])
        return niz_infer_fail(f, NIZ_E_SHAPE, "not the windows of %lld elements by %lld",
                              (long long)w[1], (long long)w[2]);
    f->made = *x;
    f->made.rank--;
    f->made.dim[f->made.rank] = 0;
    f->made.dim[w[0]] = w[1];
    f->dtype = f->x[0].dtype;
    f->shape = &f->made;
    return true;
}

/* Adds to n elements of y, which lie `step` apart in x, whatever windows hold place p. */
static void fold_place(const niz_eval *e, int64_t offset, int64_t step, int64_t p, int64_t n,
                       void *y)
{
    const niz_buffer *x = &e->x[0];
    const int64_t *w = e->attr.value, axis = w[0], stride = w[2], dilation = w[3];
    int last = x->shape.rank - 1;
    int64_t back = p - (x->shape.dim[last] - 1) * dilation;
    int64_t o = back > 0 ? (back - 1) / stride + 1 : 0;
    for (; o < x->shape.dim[axis] && o * stride <= p; o++) {
        int64_t i = p - o * stride;
        if (i % dilation) continue;
        niz_accumulate(x->dtype, y, 0, x->data,
                       offset + o * x->stride[axis] + i / dilation * x->stride[last], step, n);
    }
}

static void fold_row(niz_eval *e, const niz_row *r)
{
    const niz_buffer *x = &e->x[0];
    int64_t axis = e->attr.value[0], offset = 0, last = e->y.shape.rank - 1;
    size_t bytes = niz_dtype_size(x->dtype);
    memset(r->y, 0, (size_t)(r->to - r->from) * bytes);
    for (int d = 0; d < last; d++)
        if (d != axis) offset += r->at[d] * x->stride[d];
    if (axis != last) {
        fold_place(e, offset + r->from * x->stride[last], x->stride[last], r->at[axis],
                   r->to - r->from, r->y);
        return;
    }
    for (int64_t p = r->from; p < r->to; p++)
        fold_place(e, offset, 0, p, 1, (char *)r->y + (size_t)(p - r->from) * bytes);
}

static void fold_eval(niz_eval *e)
{
    niz_rows(e, fold_row);
}

static niz_t fold_adjoint(const niz_app *p, int i, niz_t gy)
{
    niz_shape x = niz_shape_of(p->x[i]);
    const int64_t *w = p->attr.value;
    int64_t word[4] = {w[0], x.dim[x.rank - 1], w[2], w[3]};
    return niz_apply_one(NIZ_HERE, &niz_op_window, gy, 4, word);
}

static void fold_ref(const niz_ref *r)
{
    const niz_shape *x = &r->x_shape[0];
    const int64_t *w = r->attr.value;
    for (int64_t i = 0, n = niz_shape_count(&r->shape); i < n; i++) r->y[i] = 0;
    for (int64_t i = 0, n = niz_shape_count(x); i < n; i++) {
        int64_t at[NIZ_MAX_RANK];
        niz_unravel(x, i, at);
        at[w[0]] = at[w[0]] * w[2] + at[x->rank - 1] * w[3];
        r->y[niz_ravel(&r->shape, at)] += r->x[0][i];
    }
}

const niz_op niz_op_fold = {
    .name = "fold", .arity = 1, .attrs = "axis n stride dilation", .infer = fold_infer,
    .form = NIZ_FORM_INDEX, .eval = fold_eval, .parallel = true, .adjoint = fold_adjoint,
    .ref_tensor = fold_ref, .ulp = 8,
    SAMPLES({.x = {{2, {11, 3}}}, .n_attr = 4, .attr = {0, 13, 1, 1}},
            {.x = {{4, {2, 4, 3, 3}}}, .n_attr = 4, .attr = {1, 11, 2, 2}},
            {.x = {{3, {5, 2, 2}}}, .n_attr = 4, .attr = {1, 7, 3, 1}},
            {.x = {{3, {0, 1, 4}}}, .n_attr = 4, .attr = {1, 4, 1, 1}},
            {.n = 1, .x = {{2, {3, 2}}}, .n_attr = 4, .attr = {0, 4, 1, 1},
             .in = VALUES(1, 2, 3, 4, 5, 6), .out = VALUES(1, 5, 9, 6)},
            {.x = {{2, {3, 2}}}, .n_attr = 4, .attr = {0, 5, 1, 1}, .refused = "not the windows"},
            {.x = {{1, {3}}}, .n_attr = 4, .attr = {0, 4, 1, 1}, .refused = "outside"}),
};

/* ---- copy, stop_gradient -------------------------------------------------------------------- */

static niz_t copy_adjoint(const niz_app *p, int i, niz_t gy)
{
    (void)p, (void)i;
    return gy;
}

static double copy_ref(const double *x)
{
    return x[0];
}

const niz_op niz_op_copy = {
    .name = "copy", .arity = 1, .infer = niz_infer_same, .map = "a", .adjoint = copy_adjoint,
    .ref = copy_ref, SAMPLES({0}),
};

static bool stop_gradient_view(niz_attrs attr, const niz_shape *y, niz_view *v)
{
    (void)attr, (void)y, (void)v;
    return true;
}

const niz_op niz_op_stop_gradient = {
    .name = "stop_gradient", .arity = 1, .infer = niz_infer_same, .form = NIZ_FORM_VIEW,
    .view = stop_gradient_view, .no_gradient = true, .ref_tensor = reshape_ref,
    SAMPLES({.x = {{2, {3, 5}}}}, {.x = {{0}}}, {.x = {{2, {0, 5}}}}),
};

niz_t niz_stop_gradient_at(niz_at at, niz_t x)
{
    return niz_apply_at(at, &niz_op_stop_gradient, 1, &x, NULL);
}

const niz_op *const niz_ops_movement[] = {
    &niz_op_reshape, &niz_op_permute, &niz_op_broadcast, &niz_op_slice, &niz_op_pad,
    &niz_op_flip, &niz_op_concat, &niz_op_window, &niz_op_fold, &niz_op_copy,
    &niz_op_stop_gradient, NULL,
};
