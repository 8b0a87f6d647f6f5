/* conv.c - the general convolution, closed under differentiation.
 *
 * y[b,g,k,o..] = Σ_{c,i..} x[b,g,c,p..] w[g,k,c,i..] where, along every spatial axis,
 * q = o stride + i dilation - lo and p = q / hole: a term is in the sum only if hole divides q, and
 * x is 0 outside its sizes.  lo and hi are the padding; negative ones crop.  hole > 1 is the spread
 * input of a transposed convolution.
 *
 * Written as an equation between positions, o stride + i dilation = p hole + lo, the three roles
 * are alike: solving it for p gives the gradient of x, for i that of w, and each is a convolution
 * again.
 *
 * SPDX-License-Identifier: MIT */
#include "ops/families.h"
#include "ops/infer.h"
#include "ops/record.h"

#define SPATIAL_MAX 3
#define FAR ((int64_t)1 << 58) /* sizes and padding stay so small that sums do not overflow */
#define POSITIVE .lo = {0.1, 0.1}, .hi = {2, 2}

/* One spatial axis. */
typedef struct conv_axis {
    int64_t stride, dilation, lo, hi, hole;
} conv_axis;

static conv_axis conv_axis_of(niz_attrs attr, int d)
{
    int n = attr.n / 5;
    const int64_t *v = attr.value + d;
    return (conv_axis){v[0], v[n], v[2 * n], v[3 * n], v[4 * n]};
}

static void conv_axis_set(int64_t *word, int n, int d, conv_axis a)
{
    word[d] = a.stride;
    word[n + d] = a.dilation;
    word[2 * n + d] = a.lo;
    word[3 * n + d] = a.hi;
    word[4 * n + d] = a.hole;
}

/* How far n elements reach that lie `step` apart. */
static int64_t conv_extent(int64_t n, int64_t step)
{
    return n ? (n - 1) * step + 1 : 0;
}

/* The size of y along one axis, or -1 if the numbers cannot be. */
static int64_t conv_out(conv_axis a, int64_t n, int64_t k)
{
    if (a.stride < 1 || a.dilation < 1 || a.hole < 1 || a.stride > FAR) return -1;
    if (a.lo < -FAR || a.lo > FAR || a.hi < -FAR || a.hi > FAR) return -1;
    if (n > FAR / a.hole || k > FAR / a.dilation) return -1;
    int64_t room = a.lo + conv_extent(n, a.hole) + a.hi - conv_extent(k, a.dilation);
    return room < 0 ? 0 : room / a.stride + 1;
}

/* The hi that makes y exactly `out` long. */
static int64_t conv_hi(conv_axis a, int64_t n, int64_t k, int64_t out)
{
    return (out - 1) * a.stride + conv_extent(k, a.dilation) - a.lo - conv_extent(n, a.hole);
}

static bool conv_sizes(niz_infer *f)
{
    const niz_shape *x = f->x[0].shape, *w = f->x[1].shape;
    if (x->dim[1] != w->dim[0])
        return niz_infer_fail(f, NIZ_E_SHAPE, "group counts differ, %lld and %lld",
                              (long long)x->dim[1], (long long)w->dim[0]);
    if (x->dim[2] != w->dim[2])
        return niz_infer_fail(f, NIZ_E_SHAPE, "channel counts differ, %lld and %lld",
                              (long long)x->dim[2], (long long)w->dim[2]);
    f->made = (niz_shape){x->rank, {x->dim[0], x->dim[1], w->dim[1]}};
    for (int d = 3; d < x->rank; d++) {
        f->made.dim[d] = conv_out(conv_axis_of(f->attr, d - 3), x->dim[d], w->dim[d]);
        if (f->made.dim[d] < 0)
            return niz_infer_fail(f, NIZ_E_ARGUMENT,
                                  "stride, dilation or padding of spatial axis %d is out of range",
                                  d - 3);
    }
    return true;
}

/* stride[] dilation[] lo[] hi[] hole[]; x (B,G,C,..), w (G,K,C,..) */
static bool conv_infer(niz_infer *f)
{
    const niz_shape *x = f->x[0].shape, *w = f->x[1].shape;
    int spatial = x->rank - 3;
    if (!niz_dtype_is_float(f->x[0].dtype))
        return niz_infer_fail(f, NIZ_E_DTYPE, "needs f32 or f64, not %s; niz_cast it",
                              niz_dtype_name(f->x[0].dtype));
    if (!niz_infer_one_dtype(f, 0)) return false;
    if (spatial < 1 || spatial > SPATIAL_MAX || w->rank != x->rank)
        return niz_infer_fail(f, NIZ_E_SHAPE, "operands have 4 to 6 axes, both as many");
    if (f->attr.n != 5 * spatial)
        return niz_infer_fail(f, NIZ_E_ARGUMENT, "needs stride, dilation, lo, hi, hole of %d axes",
                              spatial);
    if (!conv_sizes(f)) return false;
    f->dtype = f->x[0].dtype;
    f->shape = &f->made;
    return true;
}

/* x's first three axes in another order. */
static niz_t reordered(niz_t x, int a, int b, int c)
{
    niz_axes to = {.n = niz_shape_of(x).rank, .axis = {a, b, c}};
    for (int d = 3; d < to.n; d++) to.axis[d] = d;
    return niz_permute(x, to);
}

static niz_t conv(niz_t x, niz_t w, int n, const int64_t *word)
{
    return niz_apply(&niz_op_conv, 2, ((niz_t[]){x, w}), (&(niz_attrs){5 * n, word}));
}

/* gx[b,g,c,p] = Σ_{k,i} gy[b,g,k,o] w[g,k,c,i]: with the kernel reversed, i' = size - 1 - i,
 * o stride = p hole + i' dilation - (dilation (size - 1) - lo) */
static niz_t conv_gx(const niz_app *p, niz_t gy)
{
    niz_shape x = niz_shape_of(p->x[0]), w = niz_shape_of(p->x[1]), y = niz_shape_of(gy);
    int64_t word[5 * SPATIAL_MAX], flip[SPATIAL_MAX];
    int n = x.rank - 3;
    for (int d = 0; d < n; d++) {
        conv_axis a = conv_axis_of(p->attr, d);
        int64_t size = w.dim[3 + d];
        conv_axis b = {a.hole, a.dilation, a.dilation * (size - 1) - a.lo, 0, a.stride};
        b.hi = conv_hi(b, y.dim[3 + d], size, x.dim[3 + d]);
        conv_axis_set(word, n, d, b);
        flip[d] = 3 + d;
    }
    niz_t reversed = niz_apply_one(NIZ_HERE, &niz_op_flip, p->x[1], n, flip); /* (G,K,C,..) */
    return conv(gy, reordered(reversed, 0, 2, 1), n, word);                   /* (B,G,C,..) */
}

/* gw[g,k,c,i] = Σ_{b,o} x[b,g,c,p] gy[b,g,k,o]: gy is the kernel, images are the channels, and
 * p hole = i dilation + o stride - lo */
static niz_t conv_gw(const niz_app *p, niz_t gy)
{
    niz_shape x = niz_shape_of(p->x[0]), w = niz_shape_of(p->x[1]), y = niz_shape_of(gy);
    int64_t word[5 * SPATIAL_MAX];
    int n = x.rank - 3;
    for (int d = 0; d < n; d++) {
        conv_axis a = conv_axis_of(p->attr, d);
        conv_axis b = {a.dilation, a.stride, a.lo, 0, a.hole};
        b.hi = conv_hi(b, x.dim[3 + d], y.dim[3 + d], w.dim[3 + d]);
        conv_axis_set(word, n, d, b);
    }
    niz_t images = reordered(p->x[0], 2, 1, 0);           /* (C,G,B,..) */
    niz_t kernel = reordered(gy, 1, 2, 0);                /* (G,K,B,..) */
    return reordered(conv(images, kernel, n, word), 1, 2, 0); /* (C,G,K,..) -> (G,K,C,..) */
}

static niz_t conv_adjoint(const niz_app *p, int i, niz_t gy)
{
    return i == 0 ? conv_gx(p, gy) : conv_gw(p, gy);
}

/* The term of y at y_at and w at w_at; both have the same axes but for the first three. */
static double conv_ref_term(const niz_ref *r, const int64_t *y_at, const int64_t *w_at)
{
    const niz_shape *x = &r->x_shape[0];
    int64_t x_at[NIZ_MAX_RANK] = {y_at[0], y_at[1], w_at[2]};
    for (int d = 3; d < x->rank; d++) {
        conv_axis a = conv_axis_of(r->attr, d - 3);
        int64_t q = y_at[d] * a.stride + w_at[d] * a.dilation - a.lo;
        if (q < 0 || q % a.hole || q / a.hole >= x->dim[d]) return 0;
        x_at[d] = q / a.hole;
    }
    return r->x[0][niz_ravel(x, x_at)] * r->x[1][niz_ravel(&r->x_shape[1], w_at)];
}

static void conv_ref(const niz_ref *r)
{
    const niz_shape *w = &r->x_shape[1];
    for (int64_t i = 0, n = niz_shape_count(&r->shape); i < n; i++) {
        int64_t y_at[NIZ_MAX_RANK], w_at[NIZ_MAX_RANK];
        niz_unravel(&r->shape, i, y_at);
        r->y[i] = 0;
        for (int64_t j = 0, taps = niz_shape_count(w); j < taps; j++) {
            niz_unravel(w, j, w_at);
            if (w_at[0] == y_at[1] && w_at[1] == y_at[2]) r->y[i] += conv_ref_term(r, y_at, w_at);
        }
    }
}

const niz_op niz_op_conv = {
    .name = "conv", .arity = 2, .attrs = "stride[] dilation[] lo[] hi[] hole[]",
    .infer = conv_infer, .form = NIZ_FORM_CONV, .adjoint = conv_adjoint, .ref_tensor = conv_ref,
    .ulp = 400,
    SAMPLES({.x = {{4, {2, 1, 3, 11}}, {4, {1, 5, 3, 3}}}, .n_attr = 5, .attr = {1, 1, 1, 1, 1},
             POSITIVE},
            {.x = {{4, {1, 2, 3, 13}}, {4, {2, 1, 3, 4}}}, .n_attr = 5, .attr = {3, 2, 2, 1, 1},
             POSITIVE},
            {.x = {{4, {2, 1, 1, 5}}, {4, {1, 3, 1, 3}}}, .n_attr = 5, .attr = {2, 1, 1, 2, 3},
             POSITIVE},
            {.x = {{4, {1, 1, 2, 9}}, {4, {1, 2, 2, 2}}}, .n_attr = 5, .attr = {2, 3, -1, -2, 2},
             POSITIVE},
            {.x = {{5, {2, 1, 2, 7, 6}}, {5, {1, 3, 2, 3, 2}}}, .n_attr = 10,
             .attr = {2, 1, 1, 2, 1, 0, 1, 1, 1, 1}, POSITIVE},
            {.x = {{5, {1, 3, 1, 5, 5}}, {5, {3, 2, 1, 3, 3}}}, .n_attr = 10,
             .attr = {1, 2, 2, 1, 2, 1, 2, 0, 2, 1}, POSITIVE},
            {.x = {{6, {1, 1, 2, 3, 4, 5}}, {6, {1, 2, 2, 2, 1, 3}}}, .n_attr = 15,
             .attr = {1, 2, 1, 1, 1, 1, 0, 0, 1, 1, 0, 1, 1, 1, 2}, POSITIVE},
            {.x = {{4, {1, 1, 140, 5}}, {4, {1, 2, 140, 3}}}, .n_attr = 5, .attr = {1, 1, 0, 0, 1},
             POSITIVE},
            {.x = {{4, {1, 1, 1, 2}}, {4, {1, 1, 1, 5}}}, .n_attr = 5, .attr = {1, 1, 0, 0, 1}},
            {.x = {{4, {0, 1, 2, 5}}, {4, {1, 3, 2, 3}}}, .n_attr = 5, .attr = {1, 1, 0, 0, 1}},
            {.x = {{4, {2, 1, 0, 5}}, {4, {1, 3, 0, 3}}}, .n_attr = 5, .attr = {1, 1, 0, 0, 1}},
            {.n = 2, .x = {{4, {1, 1, 1, 3}}, {4, {1, 1, 1, 2}}}, .n_attr = 5,
             .attr = {1, 1, 1, 0, 1}, .in = VALUES(1, 2, 3, 10, 1), .out = VALUES(1, 12, 23)},
            {.x = {{4, {1, 1, 3, 5}}, {4, {1, 2, 4, 3}}}, .n_attr = 5, .attr = {1, 1, 0, 0, 1},
             .refused = "channel counts differ, 3 and 4"},
            {.x = {{4, {1, 1, 3, 5}}, {4, {2, 2, 3, 3}}}, .n_attr = 5, .attr = {1, 1, 0, 0, 1},
             .refused = "group counts differ, 1 and 2"},
            {.x = {{4, {1, 1, 3, 5}}, {4, {1, 2, 3, 3}}}, .n_attr = 5, .attr = {0, 1, 0, 0, 1},
             .refused = "out of range"},
            {.x = {{3, {1, 3, 5}}, {3, {2, 3, 3}}}, .refused = "4 to 6 axes"}),
};

const niz_op *const niz_ops_conv[] = {&niz_op_conv, NULL};

/* ---- the builder: x (B,C,..), w (K,C/groups,..) --------------------------------------------- */

static bool conv_refuse(niz_at at, niz_t x, niz_t w, niz_status status, const char *why)
{
    niz_fail(x.z, at, status, "%s: x %s, w %s", why, niz_describe(x).text, niz_describe(w).text);
    return false;
}

static bool conv_channels_fit(niz_at at, niz_t x, niz_t w, int64_t groups)
{
    niz_shape a = niz_shape_of(x), b = niz_shape_of(w);
    char why[128];
    if (niz_dtype_of(x) != niz_dtype_of(w))
        return conv_refuse(at, x, w, NIZ_E_DTYPE, "dtypes differ; niz_cast one of them");
    if (a.rank < 3 || a.rank > 2 + SPATIAL_MAX || b.rank != a.rank)
        return conv_refuse(at, x, w, NIZ_E_SHAPE, "needs x [B,C,..], w [K,C/groups,..] with one "
                                                  "to three spatial axes");
    if (groups < 1 || a.dim[1] % groups || b.dim[0] % groups) {
        snprintf(why, sizeof why, "%lld groups do not divide %lld and %lld channels",
                 (long long)groups, (long long)a.dim[1], (long long)b.dim[0]);
        return conv_refuse(at, x, w, NIZ_E_ARGUMENT, why);
    }
    if (b.dim[1] == a.dim[1] / groups) return true;
    snprintf(why, sizeof why, "x has %lld channels a group, w takes %lld",
             (long long)(a.dim[1] / groups), (long long)b.dim[1]);
    return conv_refuse(at, x, w, NIZ_E_SHAPE, why);
}

/* Scalar options go to every axis that has none of its own. */
static bool conv_options_fit(niz_at at, niz_t x, niz_t w, niz_conv_options *o)
{
    niz_shape a = niz_shape_of(x), b = niz_shape_of(w);
    for (int d = 0; d < a.rank - 2; d++) {
        if (!o->strides[d]) o->strides[d] = o->stride;
        if (!o->pads[d]) o->pads[d] = o->pad;
        if (!o->dilations[d]) o->dilations[d] = o->dilation;
        if (o->strides[d] < 1 || o->dilations[d] < 1 || o->pads[d] < 0)
            return conv_refuse(at, x, w, NIZ_E_ARGUMENT,
                               "stride and dilation are at least 1, pad at least 0");
        if (o->pads[d] > FAR / 4 || b.dim[2 + d] > FAR / 4 / o->dilations[d])
            return conv_refuse(at, x, w, NIZ_E_ARGUMENT, "pad or dilation is out of range");
        int64_t reach = conv_extent(b.dim[2 + d], o->dilations[d]);
        if (!reach || reach > a.dim[2 + d] + 2 * o->pads[d])
            return conv_refuse(at, x, w, NIZ_E_SHAPE,
                               "the kernel is empty or larger than the padded input");
    }
    return true;
}

/* One axis as two: [.., n, ..] -> [.., groups, n/groups, ..] */
static niz_shape split(niz_shape s, int axis, int64_t groups)
{
    niz_shape y = {.rank = s.rank + 1};
    for (int d = 0; d < y.rank; d++) y.dim[d] = s.dim[d > axis ? d - 1 : d];
    y.dim[axis] = groups;
    y.dim[axis + 1] = s.dim[axis] / groups;
    return y;
}

niz_t niz_conv_at(niz_at at, niz_t x, niz_t w, niz_conv_options o)
{
    niz *z = x.z ? x.z : w.z;
    NIZ_FUNCTION(z, at, "conv");
    if (!niz_usable(z, at, x, "x") || !niz_usable(z, at, w, "w") ||
        !conv_channels_fit(at, x, w, o.groups) || !conv_options_fit(at, x, w, &o))
        return niz_inert(z);
    niz_shape s = niz_shape_of(x), size = niz_shape_of(w);
    int64_t word[5 * SPATIAL_MAX];
    int n = s.rank - 2;
    for (int d = 0; d < n; d++) {
        int64_t pad = o.pads[d];
        conv_axis_set(word, n, d, (conv_axis){o.strides[d], o.dilations[d], pad, pad, 1});
    }
    niz_t y = conv(niz_reshape(x, split(s, 1, o.groups)),   /* (B,G,C/G,..) */
                   niz_reshape(w, split(size, 0, o.groups)), n, word); /* (G,K/G,C/G,..) */
    niz_shape wide = niz_shape_of(y), to = {.rank = s.rank, .dim = {s.dim[0], size.dim[0]}};
    for (int d = 0; d < n; d++) to.dim[2 + d] = wide.dim[3 + d];
    return niz_reshape(y, to); /* (B,K,..) */
}
