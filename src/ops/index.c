/* index.c - elements chosen by other elements: gather and scatter-add.
 *
 * An index outside its axis is found while running (.may_fail): it is noted, its element skipped,
 * and no memory outside is ever touched.  Where the index is constant along the last axis, as for
 * rows of an embedding, whole rows are moved at once.
 *
 * SPDX-License-Identifier: MIT */
#include "ops/families.h"
#include "ops/infer.h"
#include "ops/record.h"

static bool index_fits(niz_infer *f, const niz_type *x, const niz_type *index, int64_t axis)
{
    if (index->dtype != NIZ_I32 && index->dtype != NIZ_I64)
        return niz_infer_fail(f, NIZ_E_DTYPE, "the index must be i32 or i64, not %s",
                              niz_dtype_name(index->dtype));
    if (f->attr.n != 1 || axis < 0 || axis >= x->shape->rank)
        return niz_infer_fail(f, NIZ_E_ARGUMENT, "axis %lld is outside the %d axes",
                              (long long)axis, x->shape->rank);
    bool fits = x->shape->rank == index->shape->rank;
    for (int d = 0; fits && d < x->shape->rank; d++)
        fits = d == axis || x->shape->dim[d] == index->shape->dim[d];
    if (fits) return true;
    return niz_infer_fail(f, NIZ_E_SHAPE, "sizes of the index other than axis %lld's differ",
                          (long long)axis);
}

static int64_t index_at(const niz_buffer *index, int64_t i)
{
    return index->dtype == NIZ_I64 ? ((const int64_t *)index->data)[i]
                                   : ((const int32_t *)index->data)[i];
}

/* Whether i is one of n; if not, notes it. */
static bool index_inside(niz_eval *e, int64_t i, int64_t n)
{
    if (i >= 0 && i < n) return true;
    if (!e->failed) e->bad_index = i;
    e->failed = true;
    return false;
}

/* Where a row begins in a buffer, without regard to one axis (-1: none). */
static int64_t row_offset(const niz_buffer *b, const niz_row *r, int64_t but)
{
    int64_t offset = 0;
    for (int d = 0; d < b->shape.rank; d++)
        if (d != but) offset += r->at[d] * b->stride[d];
    return offset;
}

/* ---- gather --------------------------------------------------------------------------------- */

static bool gather_infer(niz_infer *f)
{
    int64_t axis = f->attr.n == 1 ? f->attr.value[0] : -1;
    if (!index_fits(f, &f->x[0], &f->x[1], axis)) return false;
    f->dtype = f->x[0].dtype;
    f->shape = f->x[1].shape;
    return true;
}

static void gather_row(niz_eval *e, const niz_row *r)
{
    const niz_buffer *x = &e->x[0], *index = &e->x[1];
    int64_t axis = e->attr.value[0], last = x->shape.rank - 1, n = r->to - r->from;
    int64_t i = row_offset(index, r, -1), from = row_offset(x, r, axis);
    size_t bytes = niz_dtype_size(x->dtype);
    /* along the last axis x stands still if that is the axis of the index */
    int64_t x_step = axis == last ? 0 : x->stride[last];
    int64_t run = index->stride[last] == 0 ? n : 1;
    for (int64_t j = 0; j < n; j += run, i += index->stride[last]) {
        int64_t k = index_at(index, i);
        char *y = (char *)r->y + (size_t)j * bytes;
        if (index_inside(e, k, x->shape.dim[axis]))
            niz_move(y, 1,
                     (const char *)x->data +
                         (from + k * x->stride[axis] + j * x_step) * (int64_t)bytes,
                     x_step, run, bytes);
        else
            memset(y, 0, (size_t)run * bytes);
    }
}

static void gather_eval(niz_eval *e)
{
    niz_rows(e, gather_row);
}

static niz_t gather_adjoint(const niz_app *p, int i, niz_t gy)
{
    if (i == 1) return niz_inert(gy.z);
    return niz_scatter_add(niz_full_like(p->x[0], 0), (int)p->attr.value[0], p->x[1], gy);
}

static void gather_ref(const niz_ref *r)
{
    for (int64_t i = 0, n = niz_shape_count(&r->shape); i < n; i++) {
        int64_t at[NIZ_MAX_RANK];
        niz_unravel(&r->shape, i, at);
        at[r->attr.value[0]] = (int64_t)r->x[1][i];
        r->y[i] = r->x[0][niz_ravel(&r->x_shape[0], at)];
    }
}

const niz_op niz_op_gather = {
    .name = "gather", .arity = 2, .attrs = "axis", .infer = gather_infer, .form = NIZ_FORM_INDEX,
    .eval = gather_eval, .parallel = true, .may_fail = true, .adjoint = gather_adjoint,
    .ref_tensor = gather_ref,
    SAMPLES({.x = {{2, {5, 7}}, {2, {5, 3}}}, .n_attr = 1, .attr = {1}, .below = {0, 7}},
            {.x = {{3, {2, 11, 3}}, {3, {2, 13, 3}}}, .n_attr = 1, .attr = {1}, .below = {0, 11}},
            {.x = {{1, {601}}, {1, {700}}}, .n_attr = 1, .below = {0, 601}},
            {.x = {{1, {1}}, {1, {1}}}, .n_attr = 1, .below = {0, 1}},
            {.x = {{2, {3, 4}}, {2, {0, 4}}}, .n_attr = 1, .below = {0, 3}},
            {.n = 2, .x = {{2, {2, 3}}, {2, {2, 2}}}, .n_attr = 1, .attr = {1}, .below = {0, 3},
             .in = VALUES(1, 2, 3, 4, 5, 6, 2, 0, 1, 1), .out = VALUES(3, 1, 5, 5)},
            {.x = {{2, {2, 3}}, {2, {3, 2}}}, .n_attr = 1, .attr = {1}, .below = {0, 3},
             .refused = "other than axis 1's differ"},
            {.x = {{1, {3}}, {1, {2}}}, .n_attr = 1, .attr = {1}, .below = {0, 3},
             .refused = "axis 1 is outside"},
            {.x = {{1, {3}}, {1, {2}}}, .n_attr = 1, .refused = "must be i32 or i64"}),
};

niz_t niz_gather_at(niz_at at, niz_t x, int axis, niz_t index)
{
    niz *z = x.z ? x.z : index.z;
    NIZ_FUNCTION(z, at, "gather");
    int64_t d = axis;
    if (!niz_usable(z, at, x, "x") || !niz_usable(z, at, index, "the index") ||
        !niz_axis_fits(at, x, niz_shape_of(x).rank, &d))
        return niz_inert(z);
    return niz_apply_at(at, &niz_op_gather, 2, (niz_t[]){x, index}, &(niz_attrs){1, &d});
}

/* ---- scatter_add ---------------------------------------------------------------------------- */

/* x, index, source */
static bool scatter_add_infer(niz_infer *f)
{
    const niz_type *x = &f->x[0], *source = &f->x[2];
    int64_t axis = f->attr.n == 1 ? f->attr.value[0] : -1;
    if (!niz_dtype_is_number(x->dtype))
        return niz_infer_fail(f, NIZ_E_DTYPE, "%s is no number; niz_cast it",
                              niz_dtype_name(x->dtype));
    if (x->dtype != source->dtype)
        return niz_infer_fail(f, NIZ_E_DTYPE, "dtypes differ, %s and %s; niz_cast one of them",
                              niz_dtype_name(x->dtype), niz_dtype_name(source->dtype));
    if (!index_fits(f, x, &f->x[1], axis)) return false;
    if (!niz_shape_equal(f->x[1].shape, source->shape))
        return niz_infer_fail(f, NIZ_E_SHAPE, "index and source are of different shapes");
    f->dtype = x->dtype;
    f->shape = x->shape;
    return true;
}

static void copy_row(niz_eval *e, const niz_row *r)
{
    const niz_buffer *x = &e->x[0];
    size_t bytes = niz_dtype_size(x->dtype);
    int64_t last = x->shape.rank - 1;
    niz_move(r->y, 1, (const char *)x->data + row_offset(x, r, -1) * (int64_t)bytes,
             x->stride[last], r->to - r->from, bytes);
}

/* A row of the source; e->x holds index, source and the real y. */
static void scatter_row(niz_eval *e, const niz_row *r)
{
    const niz_buffer *index = &e->x[0], *source = &e->x[1], *y = &e->x[2];
    int64_t axis = e->attr.value[0], last = y->shape.rank - 1, n = r->to - r->from;
    int64_t i = row_offset(index, r, -1), from = row_offset(source, r, -1);
    int64_t to = row_offset(y, r, axis), y_step = axis == last ? 0 : 1;
    bool whole = index->stride[last] == 0 && axis != last;
    int64_t run = whole ? n : 1;
    for (int64_t j = 0; j < n; j += run, i += index->stride[last]) {
        int64_t k = index_at(index, i);
        if (index_inside(e, k, y->shape.dim[axis]))
            niz_accumulate(y->dtype, y->data, to + k * y->stride[axis] + j * y_step, source->data,
                           from + j * source->stride[last], source->stride[last], run);
    }
}

/* One thread does it all: the order of additions is that of the source. */
static void scatter_add_eval(niz_eval *e)
{
    niz_buffer all[3] = {e->x[1], e->x[2], e->y};
    niz_eval s = {.n = 3, .x = all, .y = e->x[2], .attr = e->attr,
                  .end = niz_shape_count(&e->x[2].shape)};
    niz_shape_strides(&all[2].shape, all[2].stride);
    niz_rows(e, copy_row);
    niz_rows(&s, scatter_row);
    if (s.failed) {
        e->failed = true;
        e->bad_index = s.bad_index;
    }
}

static niz_t scatter_add_vjp(const niz_app *p, int i, niz_t gy)
{
    if (i == 1) return niz_inert(gy.z);
    return i == 0 ? gy : niz_gather(gy, (int)p->attr.value[0], p->x[1]);
}

static niz_t scatter_add_jvp(const niz_app *p, int i, niz_t tx)
{
    if (i == 1) return niz_inert(tx.z);
    if (i == 0) return tx;
    return niz_scatter_add(niz_full_like(p->x[0], 0), (int)p->attr.value[0], p->x[1], tx);
}

static void scatter_add_ref(const niz_ref *r)
{
    for (int64_t i = 0, n = niz_shape_count(&r->shape); i < n; i++) r->y[i] = r->x[0][i];
    for (int64_t i = 0, n = niz_shape_count(&r->x_shape[2]); i < n; i++) {
        int64_t at[NIZ_MAX_RANK];
        niz_unravel(&r->x_shape[2], i, at);
        at[r->attr.value[0]] = (int64_t)r->x[1][i];
        r->y[niz_ravel(&r->shape, at)] += r->x[2][i];
    }
}

const niz_op niz_op_scatter_add = {
    .name = "scatter_add", .arity = 3, .attrs = "axis", .infer = scatter_add_infer,
    .form = NIZ_FORM_INDEX, .eval = scatter_add_eval, .may_fail = true, .vjp = scatter_add_vjp,
    .jvp = scatter_add_jvp, .ref_tensor = scatter_add_ref, .ulp = 400,
    SAMPLES({.x = {{2, {5, 7}}, {2, {5, 3}}, {2, {5, 3}}}, .n_attr = 1, .attr = {1},
             .below = {0, 7}},
            {.x = {{3, {2, 3, 3}}, {3, {2, 13, 3}}, {3, {2, 13, 3}}}, .n_attr = 1, .attr = {1},
             .below = {0, 3}, .lo = {0.1, 0, 0.1}, .hi = {2, 0, 2}},
            {.x = {{1, {11}}, {1, {601}}, {1, {601}}}, .n_attr = 1, .below = {0, 11},
             .lo = {0.1, 0, 0.1}, .hi = {2, 0, 2}},
            {.x = {{1, {1}}, {1, {1}}, {1, {1}}}, .n_attr = 1, .below = {0, 1}},
            {.x = {{2, {3, 4}}, {2, {0, 4}}, {2, {0, 4}}}, .n_attr = 1, .below = {0, 3}},
            {.n = 3, .x = {{1, {3}}, {1, {4}}, {1, {4}}}, .n_attr = 1, .below = {0, 3},
             .in = VALUES(1, 2, 3, 0, 2, 2, 0, 10, 20, 30, 40), .out = VALUES(51, 2, 53)},
            {.x = {{1, {3}}, {1, {4}}, {1, {5}}}, .n_attr = 1, .below = {0, 3},
             .refused = "different shapes"},
            {.x = {{1, {3}}, {1, {4}}, {1, {4}}}, .n_attr = 1, .refused = "must be i32 or i64"}),
};

niz_t niz_scatter_add_at(niz_at at, niz_t x, int axis, niz_t index, niz_t source)
{
    niz_t all[3] = {x, index, source};
    niz *z = niz_context_of(3, all);
    NIZ_FUNCTION(z, at, "scatter_add");
    int64_t d = axis;
    if (!niz_usable(z, at, x, "x") || !niz_usable(z, at, index, "the index") ||
        !niz_usable(z, at, source, "the source") ||
        !niz_axis_fits(at, x, niz_shape_of(x).rank, &d))
        return niz_inert(z);
    return niz_apply_at(at, &niz_op_scatter_add, 3, all, &(niz_attrs){1, &d});
}

/* ---- one index a row: what passes/choose.c makes of both ------------------------------------- */

/* index, a, b: y is a where the place along the axis is the index, else b. */
static bool choose_infer(niz_infer *f)
{
    if (!niz_infer_broadcast(f) || !niz_infer_one_dtype(f, 1)) return false;
    int64_t axis = f->attr.n == 1 ? f->attr.value[0] : -1;
    const niz_shape *index = f->x[0].shape;
    if (axis < 0 || axis >= f->shape->rank || index->rank != f->shape->rank ||
        index->dim[axis] != 1)
        return niz_infer_fail(f, NIZ_E_SHAPE, "axis %lld has not one index", (long long)axis);
    f->dtype = f->x[1].dtype;
    return true;
}

/* Where a row begins in an operand that broadcasts, and its step along the row. */
static int64_t broadcast_offset(const niz_buffer *b, const niz_row *r, int rank, int64_t *step)
{
    int64_t offset = 0;
    *step = 0;
    for (int d = 0; d < b->shape.rank; d++) {
        int e = rank - b->shape.rank + d;
        if (b->shape.dim[d] == 1) continue;
        offset += r->at[e] * b->stride[d];
        if (e == rank - 1) *step = b->stride[d];
    }
    return offset;
}

static void choose_row(niz_eval *e, const niz_row *r)
{
    int rank = e->y.shape.rank, axis = (int)e->attr.value[0];
    int64_t at[3], step[3];
    size_t bytes = niz_dtype_size(e->y.dtype);
    for (int i = 0; i < 3; i++) at[i] = broadcast_offset(&e->x[i], r, rank, &step[i]);
    for (int64_t j = 0; j < r->to - r->from; j++) {
        int64_t place = axis == rank - 1 ? r->from + j : r->at[axis];
        int x = index_at(&e->x[0], at[0] + j * step[0]) == place ? 1 : 2;
        memcpy((char *)r->y + (size_t)j * bytes,
               (const char *)e->x[x].data + (at[x] + j * step[x]) * (int64_t)bytes, bytes);
    }
}

static void choose_eval(niz_eval *e)
{
    niz_rows(e, choose_row);
}

const niz_op niz_op_choose = {
    .name = "choose", .arity = 3, .attrs = "axis", .infer = choose_infer, .form = NIZ_FORM_INDEX,
    .eval = choose_eval, .parallel = true,
};

/* Whether each index is one of n: it fails where one is not, as gather and scatter_add do. */
static bool inside_infer(niz_infer *f)
{
    f->dtype = NIZ_BOOL;
    f->shape = f->x[0].shape;
    return true;
}

static void inside_row(niz_eval *e, const niz_row *r)
{
    const niz_buffer *index = &e->x[0];
    int64_t step = index->shape.rank ? index->stride[index->shape.rank - 1] : 0;
    int64_t i = row_offset(index, r, -1);
    for (int64_t j = 0; j < r->to - r->from; j++, i += step)
        ((char *)r->y)[j] = index_inside(e, index_at(index, i), e->attr.value[0]);
}

/* Whether a buffer's elements lie one after another; sizes of 1 have no step. */
static bool is_dense(const niz_buffer *b)
{
    int64_t step[NIZ_MAX_RANK];
    bool dense = true;
    niz_shape_strides(&b->shape, step);
    for (int d = 0; d < b->shape.rank; d++)
        dense = dense && (b->shape.dim[d] == 1 || b->stride[d] == step[d]);
    return dense;
}

/* Labels are [B,1]: rows of one, for which a loop over rows takes twice as long. */
static void inside_eval(niz_eval *e)
{
    if (is_dense(&e->x[0]))
        for (int64_t i = e->begin; i < e->end; i++)
            ((char *)e->y.data)[i] = index_inside(e, index_at(&e->x[0], i), e->attr.value[0]);
    else
        niz_rows(e, inside_row);
}

const niz_op niz_op_inside = {
    .name = "inside", .arity = 1, .attrs = "n", .infer = inside_infer, .form = NIZ_FORM_INDEX,
    .eval = inside_eval, .parallel = true, .may_fail = true,
};

const niz_op *const niz_ops_index[] = {&niz_op_gather, &niz_op_scatter_add, NULL};
