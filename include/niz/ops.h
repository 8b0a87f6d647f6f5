/* niz/ops.h - the operations: the manual.
 *
 * Shapes are written [B,C,H,W]; [*] is any shape.  Operands of elementwise operations broadcast as
 * numpy's do and must be of one dtype (niz_cast changes it); either may be a C number, which takes
 * the tensor's dtype.  Axes may count from the end: -1 is the last.  "floating" is f32 or f64,
 * "number" adds i32 and i64.
 *
 * Options have names: niz_sum(x, .axis = 1, .keepdims = true).  A value without one, niz_sum(x, 1),
 * is an error of clang and a warning of gcc that no -W switches off ("excess elements").
 *
 * A C number that an integer tensor cannot hold, or an integer that no double holds (from 2^53 on),
 * is an error.
 *
 * Arithmetic: every written operation rounds once; nothing is reassociated; the same graph gives
 * the same bits on every machine and any number of threads.  NaN and infinity follow IEEE 754.
 * Errors of a call are reported through the context (see niz/core.h): shapes that do not fit are
 * NIZ_E_SHAPE, dtypes NIZ_E_DTYPE, other arguments NIZ_E_ARGUMENT.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_OPS_H
#define NIZ_OPS_H

#include <niz/op.h>

#include <limits.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- elementwise, one operand --------------------------------------------------------------- */

/** y = -x.  number.  dy/dx = -1. */
NIZ_API niz_t niz_neg_at(niz_at at, niz_t x);
/** y = |x|.  number.  dy/dx = ±1, 0 at 0. */
NIZ_API niz_t niz_abs_at(niz_at at, niz_t x);
/** y = 1, -1, or x where it is 0 or NaN.  number.  dy/dx = 0. */
NIZ_API niz_t niz_sign_at(niz_at at, niz_t x);
/** y = e^x.  floating.  dy/dx = y. */
NIZ_API niz_t niz_exp_at(niz_at at, niz_t x);
/** y = e^x - 1, exact near 0.  floating.  dy/dx = y + 1. */
NIZ_API niz_t niz_expm1_at(niz_at at, niz_t x);
/** y = ln x.  floating.  log(0) = -inf, of negative numbers NaN.  dy/dx = 1/x. */
NIZ_API niz_t niz_log_at(niz_at at, niz_t x);
/** y = ln(1 + x), exact near 0.  floating.  dy/dx = 1/(1 + x). */
NIZ_API niz_t niz_log1p_at(niz_at at, niz_t x);
/** y = √x, correctly rounded.  floating.  dy/dx = 1/(2y). */
NIZ_API niz_t niz_sqrt_at(niz_at at, niz_t x);
/** y = 1/√x, two roundings.  floating.  dy/dx = -y/(2x). */
NIZ_API niz_t niz_rsqrt_at(niz_at at, niz_t x);
/** y = x².  number.  dy/dx = 2x. */
NIZ_API niz_t niz_square_at(niz_at at, niz_t x);
/** y = 1/x.  floating.  dy/dx = -y². */
NIZ_API niz_t niz_reciprocal_at(niz_at at, niz_t x);
/** y = sin x, x in radians, right for every finite x.  floating.  dy/dx = cos x. */
NIZ_API niz_t niz_sin_at(niz_at at, niz_t x);
/** y = cos x, x in radians, right for every finite x.  floating.  dy/dx = -sin x. */
NIZ_API niz_t niz_cos_at(niz_at at, niz_t x);
/** y = tanh x.  floating.  dy/dx = 1 - y². */
NIZ_API niz_t niz_tanh_at(niz_at at, niz_t x);
/** y = 1/(1 + e^-x).  floating.  dy/dx = y (1 - y). */
NIZ_API niz_t niz_sigmoid_at(niz_at at, niz_t x);
/** y = max(x, 0).  number.  dy/dx = 1 where x > 0, else 0. */
NIZ_API niz_t niz_relu_at(niz_at at, niz_t x);
/** y = 2/√π ∫₀ˣ e^-t² dt.  floating.  dy/dx = 2/√π e^-x². */
NIZ_API niz_t niz_erf_at(niz_at at, niz_t x);
/** y = ln(1 + e^x) without overflow.  floating.  dy/dx = sigmoid(x). */
NIZ_API niz_t niz_softplus_at(niz_at at, niz_t x);
/** y = the largest whole number <= x.  floating.  dy/dx = 0. */
NIZ_API niz_t niz_floor_at(niz_at at, niz_t x);
/** y = the smallest whole number >= x.  floating.  dy/dx = 0. */
NIZ_API niz_t niz_ceil_at(niz_at at, niz_t x);
/** y = the nearest whole number, halves to even.  floating.  dy/dx = 0. */
NIZ_API niz_t niz_round_at(niz_at at, niz_t x);
/** y = !x.  bool. */
NIZ_API niz_t niz_not_at(niz_at at, niz_t x);

/** y = x Φ(x) with the normal distribution function Φ: 0.5 x (1 + erf(x/√2)), or with .tanh the
 *  approximation 0.5 x (1 + tanh(√(2/π)(x + 0.044715 x³))).  floating.  (Hendrycks, Gimpel 2016) */
typedef struct niz_gelu_options {
    bool tanh NIZ_DEFAULT(false);
} niz_gelu_options;
NIZ_API niz_t niz_gelu_at(niz_at at, niz_t x, niz_gelu_options o);
/** y = x sigmoid(x).  floating. */
NIZ_API niz_t niz_silu_at(niz_at at, niz_t x);

/* ---- elementwise, two and three operands ---------------------------------------------------- */

/** y = a + b.  number; integers wrap. */
NIZ_API niz_t niz_add_at(niz_at at, niz_arg a, niz_arg b);
/** y = a - b.  number; integers wrap. */
NIZ_API niz_t niz_sub_at(niz_at at, niz_arg a, niz_arg b);
/** y = a b.  number; integers wrap.  dy/da = b. */
NIZ_API niz_t niz_mul_at(niz_at at, niz_arg a, niz_arg b);
/** y = a / b.  number; integers truncate, and a / 0 = 0 for them.  dy/db = -y/b. */
NIZ_API niz_t niz_div_at(niz_at at, niz_arg a, niz_arg b);
/** y = a^b.  floating; C99 edges (pow(x,0) = 1).  dy/da = b a^(b-1) (0 at b = 0), dy/db = y ln a
 *  (0 at a = 0).  Given as a number, a whole exponent up to ±8 becomes products (of 1/a if it is
 *  negative), and ±0.5 is niz_sqrt and niz_rsqrt: of -inf NaN, of -0 their -0 and -inf. */
NIZ_API niz_t niz_pow_at(niz_at at, niz_arg a, niz_arg b);
/** y = max(a, b); NaN if either is; -0 < +0.  number.  At a tie each gets half the derivative. */
NIZ_API niz_t niz_maximum_at(niz_at at, niz_arg a, niz_arg b);
/** y = min(a, b); as niz_maximum. */
NIZ_API niz_t niz_minimum_at(niz_at at, niz_arg a, niz_arg b);
/** y = a < b, bool.  any dtype but bool; false if either is NaN. */
NIZ_API niz_t niz_lt_at(niz_at at, niz_arg a, niz_arg b);
/** y = a <= b, bool; as niz_lt. */
NIZ_API niz_t niz_le_at(niz_at at, niz_arg a, niz_arg b);
/** y = a > b, bool; as niz_lt. */
NIZ_API niz_t niz_gt_at(niz_at at, niz_arg a, niz_arg b);
/** y = a >= b, bool; as niz_lt. */
NIZ_API niz_t niz_ge_at(niz_at at, niz_arg a, niz_arg b);
/** y = a == b, bool.  any dtype; false if either is NaN. */
NIZ_API niz_t niz_eq_at(niz_at at, niz_arg a, niz_arg b);
/** y = a != b, bool.  any dtype; true if either is NaN. */
NIZ_API niz_t niz_ne_at(niz_at at, niz_arg a, niz_arg b);
/** y = a && b.  bool. */
NIZ_API niz_t niz_and_at(niz_at at, niz_arg a, niz_arg b);
/** y = a || b.  bool. */
NIZ_API niz_t niz_or_at(niz_at at, niz_arg a, niz_arg b);
/** y = condition ? a : b.  condition bool; a, b of any one dtype, at least one a tensor (for
 *  two numbers: niz_full_like, niz_number_like).  The derivative selects too: it never multiplies
 *  by zero. */
NIZ_API niz_t niz_where_at(niz_at at, niz_t condition, niz_arg a, niz_arg b);
/** x as another dtype.  Float to integer truncates, saturates, NaN becomes 0; integers wrap; to
 *  bool is x != 0.  dy/dx = 1 between floating dtypes. */
NIZ_API niz_t niz_cast_at(niz_at at, niz_t x, niz_dtype to);
/** y = min(max(x, lo), hi).  number. */
NIZ_API niz_t niz_clamp_at(niz_at at, niz_t x, double lo, double hi);
/** value at every place of x's shape, in x's dtype: a literal. */
NIZ_API niz_t niz_full_like_at(niz_at at, niz_t x, double value);
/** value as a literal of rank 0 in x's dtype. */
NIZ_API niz_t niz_number_like_at(niz_at at, niz_t x, double value);
/** x as a constant: no gradient flows through. */
NIZ_API niz_t niz_stop_gradient_at(niz_at at, niz_t x);

/* ---- reductions ----------------------------------------------------------------------------- */

/** A list of axes: NIZ_AXES(0, 2). */
typedef struct niz_axes {
    int n;
    int axis[NIZ_MAX_RANK];
} niz_axes;
#define NIZ_ALL INT_MIN /* every axis */

/** Over which axes: .axis = 1, or .axes = NIZ_AXES(0, 2); left out: all.  .keepdims leaves reduced
 *  axes with size 1. */
typedef struct niz_reduce_options {
    int axis NIZ_DEFAULT(NIZ_ALL);
    niz_axes axes NIZ_DEFAULT_ZERO;
    bool keepdims NIZ_DEFAULT(false);
} niz_reduce_options;

/** y = Σ x in the fixed order of the manual (blocks of 512, 16 lanes, pairwise).  number.  Sum of
 *  nothing is +0.  gx = gy. */
NIZ_API niz_t niz_sum_at(niz_at at, niz_t x, niz_reduce_options o);
/** y = Σ x / n.  floating.  Of nothing: NaN. */
NIZ_API niz_t niz_mean_at(niz_at at, niz_t x, niz_reduce_options o);
/** y = Π x.  number.  gx_i = gy Π_{j≠i} x_j, right where factors are 0 too. */
NIZ_API niz_t niz_prod_at(niz_at at, niz_t x, niz_reduce_options o);
/** The greatest and least; NaN if any is NaN.  any dtype; of nothing: -inf, +inf or the extreme
 *  integer.  Ties share the derivative evenly. */
NIZ_API niz_t niz_max_at(niz_at at, niz_t x, niz_reduce_options o);
NIZ_API niz_t niz_min_at(niz_at at, niz_t x, niz_reduce_options o);
/** i64 index of the first of the greatest (least) elements along .axis, or of all in row-major
 *  order; a NaN counts as greatest (least).  An empty axis is an error. */
NIZ_API niz_t niz_argmax_at(niz_at at, niz_t x, niz_reduce_options o);
NIZ_API niz_t niz_argmin_at(niz_at at, niz_t x, niz_reduce_options o);
/** y = ln Σ e^x without overflow: max + ln Σ e^(x - max).  floating. */
NIZ_API niz_t niz_logsumexp_at(niz_at at, niz_t x, niz_reduce_options o);
/** Mean of (x - mean)²; .correction (Bessel's) divides by n - 1.  floating. */
typedef struct niz_var_options {
    int axis NIZ_DEFAULT(NIZ_ALL);
    niz_axes axes NIZ_DEFAULT_ZERO;
    bool keepdims NIZ_DEFAULT(false);
    bool correction NIZ_DEFAULT(false);
} niz_var_options;
NIZ_API niz_t niz_var_at(niz_at at, niz_t x, niz_var_options o);
/** y = e^(x - max) / Σ e^(x - max) along axis.  floating. */
NIZ_API niz_t niz_softmax_at(niz_at at, niz_t x, int axis);
/** y = x - logsumexp(x) along axis, computed from the shifted values.  floating. */
NIZ_API niz_t niz_log_softmax_at(niz_at at, niz_t x, int axis);

/* ---- contractions --------------------------------------------------------------------------- */

/** y[batch, m, n] = Σ_k a[batch, m, k] b[batch, n, k]: a's axes are n_batch shared ones, its own,
 *  and n_sum summed ones; b's the same.  The summed index, flattened, goes in blocks of 384; in a
 *  block fused multiply-add in index order; block results added in order.  number. */
NIZ_API niz_t niz_contract_at(niz_at at, niz_t a, niz_t b, int n_batch, int n_sum);
/** numpy's matmul: [.., M, K] x [.., K, N] -> [.., M, N], leading axes broadcast; a vector [K] on
 *  either side loses its axis in the result.  number. */
NIZ_API niz_t niz_matmul_at(niz_at at, niz_t a, niz_t b);
/** Einstein summation of one or two operands: niz_einsum("bij,bjk->bik", a, b).  An axis that
 *  appears twice in one operand, or "...", is refused.  b may be NIZ_NO_TENSOR. */
NIZ_API niz_t niz_einsum_at(niz_at at, const char *spec, niz_t a, niz_t b);
#ifdef __cplusplus
#define NIZ_NO_TENSOR (niz_t())
#else
#define NIZ_NO_TENSOR ((niz_t){NULL, 0, 0})
#endif

/** Convolution (cross-correlation) of x [B, C, spatial...] with w [K, C/groups, size...], one to
 *  three spatial axes: y[b,k,o] = Σ_{c,i} x[b, c, o stride + i dilation - pad] w[k,c,i].  Padding
 *  is zeros, multiplied like data.  The sum over (c, i...) is in w's memory order, as in a
 *  contraction.
 *  floating.  Per-axis sizes go to .strides etc. = {2, 1}; a scalar option serves every axis. */
typedef struct niz_conv_options {
    int64_t stride NIZ_DEFAULT(1), pad NIZ_DEFAULT(0), dilation NIZ_DEFAULT(1),
        groups NIZ_DEFAULT(1);
    /* one axis each; 0: the scalar option */
    int64_t strides[3] NIZ_DEFAULT_ZERO, pads[3] NIZ_DEFAULT_ZERO, dilations[3] NIZ_DEFAULT_ZERO;
} niz_conv_options;
NIZ_API niz_t niz_conv_at(niz_at at, niz_t x, niz_t w, niz_conv_options o);

/* ---- movement: views, no arithmetic --------------------------------------------------------- */

/** The same elements in row-major order with other sizes; one size may be -1: what is left. */
NIZ_API niz_t niz_reshape_at(niz_at at, niz_t x, niz_shape shape);
/** Axis i of the result is axis axes[i] of x. */
NIZ_API niz_t niz_permute_at(niz_at at, niz_t x, niz_axes axes);
/** Swaps two axes. */
NIZ_API niz_t niz_transpose_at(niz_at at, niz_t x, int a, int b);
/** Repeats axes of size 1 and new leading axes, by numpy's rule. */
NIZ_API niz_t niz_broadcast_at(niz_at at, niz_t x, niz_shape shape);
/** x[start : stop : step] along axis, Python's rule for start and stop (NIZ_END: to the end);
 *  step >= 1. */
#define NIZ_END INT64_MAX
NIZ_API niz_t niz_slice_at(niz_at at, niz_t x, int axis, int64_t start, int64_t stop, int64_t step);
/** Element i along axis, which is dropped. */
NIZ_API niz_t niz_select_at(niz_at at, niz_t x, int axis, int64_t i);
/** before and after more elements of value along axis. */
NIZ_API niz_t niz_pad_at(niz_at at, niz_t x, int axis, int64_t before, int64_t after, double value);
/** Reverses axis. */
NIZ_API niz_t niz_flip_at(niz_at at, niz_t x, int axis);
/** n tensors one after another along an axis; all other sizes equal. */
NIZ_API niz_t niz_concat_at(niz_at at, int n, const niz_t *x, int axis);
/** n tensors of one shape along a new axis. */
NIZ_API niz_t niz_stack_at(niz_at at, int n, const niz_t *x, int axis);
/** Sliding windows: axis of size n becomes (n - (size-1) dilation - 1)/stride + 1 positions, and a
 *  new last axis of `size` holds each window: y[.., o, .., i] = x[.., o stride + i dilation, ..] */
NIZ_API niz_t niz_window_at(niz_at at, niz_t x, int axis, int64_t size, int64_t stride,
                            int64_t dilation);
/** A new axis of size 1 at `axis`; dropping one of size 1; axes from `axis` on as one. */
NIZ_API niz_t niz_unsqueeze_at(niz_at at, niz_t x, int axis);
NIZ_API niz_t niz_squeeze_at(niz_at at, niz_t x, int axis);
NIZ_API niz_t niz_flatten_at(niz_at at, niz_t x, int axis);

/* ---- indexing ------------------------------------------------------------------------------- */

/** y[.., i, ..] = x[.., index[.., i, ..], ..] along axis: index (i32 or i64) has x's shape but for
 *  the size of axis.  An index outside the axis is NIZ_E_INDEX when run.  gx = scatter-add. */
NIZ_API niz_t niz_gather_at(niz_at at, niz_t x, int axis, niz_t index);
/** Whole slices: axis of x is replaced by the axes of index (of any shape). */
NIZ_API niz_t niz_take_at(niz_at at, niz_t x, int axis, niz_t index);
/** y = x; y[.., index[.., i, ..], ..] += source[.., i, ..] in row-major order of source. */
NIZ_API niz_t niz_scatter_add_at(niz_at at, niz_t x, int axis, niz_t index, niz_t source);
/** 1 where the new last axis of `classes` equals index, else 0; an index outside gives zeros. */
NIZ_API niz_t niz_one_hot_at(niz_at at, niz_t index, int64_t classes, niz_dtype dtype);

#ifdef __cplusplus
} /* extern "C" */
#endif

/* ---- the macros and overloads --------------------------------------------------------------- */

/* All elementwise operations: for their builders and overloads. */
#define NIZ_UNARY_OPS(X) X(neg) X(abs) X(sign) X(exp) X(expm1) X(log) X(log1p) X(sqrt) X(rsqrt) \
    X(square) X(reciprocal) X(sin) X(cos) X(tanh) X(sigmoid) X(relu) X(erf) X(softplus) X(floor) \
    X(ceil) X(round) X(not)
#define NIZ_BINARY_OPS(X) NIZ_PLAIN_BINARY_OPS(X) X(pow)
#define NIZ_PLAIN_BINARY_OPS(X) X(add) X(sub) X(mul) X(div) X(maximum) X(minimum) X(lt) X(le) \
    X(gt) X(ge) X(eq) X(ne) X(and) X(or)

#ifndef __cplusplus

#define niz_neg(...) niz_neg_at(NIZ_HERE, __VA_ARGS__)
#define niz_abs(...) niz_abs_at(NIZ_HERE, __VA_ARGS__)
#define niz_sign(...) niz_sign_at(NIZ_HERE, __VA_ARGS__)
#define niz_exp(...) niz_exp_at(NIZ_HERE, __VA_ARGS__)
#define niz_expm1(...) niz_expm1_at(NIZ_HERE, __VA_ARGS__)
#define niz_log(...) niz_log_at(NIZ_HERE, __VA_ARGS__)
#define niz_log1p(...) niz_log1p_at(NIZ_HERE, __VA_ARGS__)
#define niz_sqrt(...) niz_sqrt_at(NIZ_HERE, __VA_ARGS__)
#define niz_rsqrt(...) niz_rsqrt_at(NIZ_HERE, __VA_ARGS__)
#define niz_square(...) niz_square_at(NIZ_HERE, __VA_ARGS__)
#define niz_reciprocal(...) niz_reciprocal_at(NIZ_HERE, __VA_ARGS__)
#define niz_sin(...) niz_sin_at(NIZ_HERE, __VA_ARGS__)
#define niz_cos(...) niz_cos_at(NIZ_HERE, __VA_ARGS__)
#define niz_tanh(...) niz_tanh_at(NIZ_HERE, __VA_ARGS__)
#define niz_sigmoid(...) niz_sigmoid_at(NIZ_HERE, __VA_ARGS__)
#define niz_relu(...) niz_relu_at(NIZ_HERE, __VA_ARGS__)
#define niz_erf(...) niz_erf_at(NIZ_HERE, __VA_ARGS__)
#define niz_softplus(...) niz_softplus_at(NIZ_HERE, __VA_ARGS__)
#define niz_floor(...) niz_floor_at(NIZ_HERE, __VA_ARGS__)
#define niz_ceil(...) niz_ceil_at(NIZ_HERE, __VA_ARGS__)
#define niz_round(...) niz_round_at(NIZ_HERE, __VA_ARGS__)
#define niz_not(...) niz_not_at(NIZ_HERE, __VA_ARGS__)
#define niz_add(a, b) niz_add_at(NIZ_HERE, NIZ_ARG(a), NIZ_ARG(b))
#define niz_sub(a, b) niz_sub_at(NIZ_HERE, NIZ_ARG(a), NIZ_ARG(b))
#define niz_mul(a, b) niz_mul_at(NIZ_HERE, NIZ_ARG(a), NIZ_ARG(b))
#define niz_div(a, b) niz_div_at(NIZ_HERE, NIZ_ARG(a), NIZ_ARG(b))
#define niz_pow(a, b) niz_pow_at(NIZ_HERE, NIZ_ARG(a), NIZ_ARG(b))
#define niz_maximum(a, b) niz_maximum_at(NIZ_HERE, NIZ_ARG(a), NIZ_ARG(b))
#define niz_minimum(a, b) niz_minimum_at(NIZ_HERE, NIZ_ARG(a), NIZ_ARG(b))
#define niz_lt(a, b) niz_lt_at(NIZ_HERE, NIZ_ARG(a), NIZ_ARG(b))
#define niz_le(a, b) niz_le_at(NIZ_HERE, NIZ_ARG(a), NIZ_ARG(b))
#define niz_gt(a, b) niz_gt_at(NIZ_HERE, NIZ_ARG(a), NIZ_ARG(b))
#define niz_ge(a, b) niz_ge_at(NIZ_HERE, NIZ_ARG(a), NIZ_ARG(b))
#define niz_eq(a, b) niz_eq_at(NIZ_HERE, NIZ_ARG(a), NIZ_ARG(b))
#define niz_ne(a, b) niz_ne_at(NIZ_HERE, NIZ_ARG(a), NIZ_ARG(b))
#define niz_and(a, b) niz_and_at(NIZ_HERE, NIZ_ARG(a), NIZ_ARG(b))
#define niz_or(a, b) niz_or_at(NIZ_HERE, NIZ_ARG(a), NIZ_ARG(b))
#define niz_where(condition, a, b) niz_where_at(NIZ_HERE, condition, NIZ_ARG(a), NIZ_ARG(b))
#define niz_silu(...) niz_silu_at(NIZ_HERE, __VA_ARGS__)
#define niz_cast(...) niz_cast_at(NIZ_HERE, __VA_ARGS__)
#define niz_clamp(...) niz_clamp_at(NIZ_HERE, __VA_ARGS__)
#define niz_full_like(...) niz_full_like_at(NIZ_HERE, __VA_ARGS__)
#define niz_number_like(...) niz_number_like_at(NIZ_HERE, __VA_ARGS__)
#define niz_stop_gradient(...) niz_stop_gradient_at(NIZ_HERE, __VA_ARGS__)
#define niz_softmax(...) niz_softmax_at(NIZ_HERE, __VA_ARGS__)
#define niz_log_softmax(...) niz_log_softmax_at(NIZ_HERE, __VA_ARGS__)
#define niz_contract(...) niz_contract_at(NIZ_HERE, __VA_ARGS__)
#define niz_matmul(...) niz_matmul_at(NIZ_HERE, __VA_ARGS__)
#define niz_einsum(...) niz_einsum_at(NIZ_HERE, __VA_ARGS__)
#define niz_reshape(...) niz_reshape_at(NIZ_HERE, __VA_ARGS__)
#define niz_permute(...) niz_permute_at(NIZ_HERE, __VA_ARGS__)
#define niz_transpose(...) niz_transpose_at(NIZ_HERE, __VA_ARGS__)
#define niz_broadcast(...) niz_broadcast_at(NIZ_HERE, __VA_ARGS__)
#define niz_slice(...) niz_slice_at(NIZ_HERE, __VA_ARGS__)
#define niz_select(...) niz_select_at(NIZ_HERE, __VA_ARGS__)
#define niz_pad(...) niz_pad_at(NIZ_HERE, __VA_ARGS__)
#define niz_flip(...) niz_flip_at(NIZ_HERE, __VA_ARGS__)
#define niz_concat(...) niz_concat_at(NIZ_HERE, __VA_ARGS__)
#define niz_stack(...) niz_stack_at(NIZ_HERE, __VA_ARGS__)
#define niz_window(...) niz_window_at(NIZ_HERE, __VA_ARGS__)
#define niz_unsqueeze(...) niz_unsqueeze_at(NIZ_HERE, __VA_ARGS__)
#define niz_squeeze(...) niz_squeeze_at(NIZ_HERE, __VA_ARGS__)
#define niz_flatten(...) niz_flatten_at(NIZ_HERE, __VA_ARGS__)
#define niz_gather(...) niz_gather_at(NIZ_HERE, __VA_ARGS__)
#define niz_take(...) niz_take_at(NIZ_HERE, __VA_ARGS__)
#define niz_scatter_add(...) niz_scatter_add_at(NIZ_HERE, __VA_ARGS__)
#define niz_one_hot(...) niz_one_hot_at(NIZ_HERE, __VA_ARGS__)

#define NIZ_AXES(...)                                                                              \
    ((niz_axes){(int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), {__VA_ARGS__}})

/* x alone, or x and options: the tensor is the first of __VA_ARGS__, the rest are options. */
#define NIZ_GELU_DEFAULTS .tanh = false
#define NIZ_REDUCE_DEFAULTS .axis = NIZ_ALL, .keepdims = false
#define NIZ_VAR_DEFAULTS .axis = NIZ_ALL, .keepdims = false, .correction = false
#define NIZ_CONV_DEFAULTS                                                                          \
    .stride = 1, .pad = 0, .dilation = 1, .groups = 1, .strides = {0}, .pads = {0}, .dilations = {0}
#define NIZ_WITH_OPTIONS_(f, T, defaults, x, ...)                                                  \
    f(NIZ_HERE, x, NIZ_OPTIONS(T, defaults, __VA_ARGS__))
#define NIZ_REDUCE_(f, ...)                                                                        \
    NIZ_WITH_OPTIONS_(f, niz_reduce_options, NIZ_REDUCE_DEFAULTS, __VA_ARGS__)
#define niz_gelu(...)                                                                              \
    NIZ_WITH_OPTIONS_(niz_gelu_at, niz_gelu_options, NIZ_GELU_DEFAULTS, __VA_ARGS__, )
#define niz_sum(...) NIZ_REDUCE_(niz_sum_at, __VA_ARGS__, )
#define niz_mean(...) NIZ_REDUCE_(niz_mean_at, __VA_ARGS__, )
#define niz_prod(...) NIZ_REDUCE_(niz_prod_at, __VA_ARGS__, )
#define niz_max(...) NIZ_REDUCE_(niz_max_at, __VA_ARGS__, )
#define niz_min(...) NIZ_REDUCE_(niz_min_at, __VA_ARGS__, )
#define niz_argmax(...) NIZ_REDUCE_(niz_argmax_at, __VA_ARGS__, )
#define niz_argmin(...) NIZ_REDUCE_(niz_argmin_at, __VA_ARGS__, )
#define niz_logsumexp(...) NIZ_REDUCE_(niz_logsumexp_at, __VA_ARGS__, )
#define niz_var(...)                                                                               \
    NIZ_WITH_OPTIONS_(niz_var_at, niz_var_options, NIZ_VAR_DEFAULTS, __VA_ARGS__, )
#define niz_conv(x, ...) NIZ_CONV_(x, __VA_ARGS__, )
#define NIZ_CONV_(x, w, ...)                                                                       \
    niz_conv_at(NIZ_HERE, x, w, NIZ_OPTIONS(niz_conv_options, NIZ_CONV_DEFAULTS, __VA_ARGS__))

#else

#define NIZ_CPP_UNARY(name)                                                                        \
    inline niz_t niz_##name(niz_t x, NIZ_CPP_AT) { return niz_##name##_at(niz_at{file, line}, x); }
#define NIZ_CPP_BINARY(name)                                                                       \
    inline niz_t niz_##name(niz_operand a, niz_operand b, NIZ_CPP_AT)                              \
    {                                                                                              \
        return niz_##name##_at(niz_at{file, line}, a.a, b.a);                                      \
    }
/* Two numbers have no context to compute in. */
#define NIZ_CPP_NUMBERS(name)                                                                      \
    template <class A, class B,                                                                    \
              class = typename std::enable_if<std::is_arithmetic<A>::value &&                      \
                                              std::is_arithmetic<B>::value>::type>                 \
    niz_t niz_##name(A, B) = delete;
#define NIZ_CPP_REDUCE(name, T)                                                                    \
    inline niz_t niz_##name(niz_t x, T o = T(), NIZ_CPP_AT)                                        \
    {                                                                                              \
        return niz_##name##_at(niz_at{file, line}, x, o);                                          \
    }
NIZ_UNARY_OPS(NIZ_CPP_UNARY)
NIZ_BINARY_OPS(NIZ_CPP_BINARY)
NIZ_BINARY_OPS(NIZ_CPP_NUMBERS)
NIZ_CPP_REDUCE(gelu, niz_gelu_options)
NIZ_CPP_REDUCE(sum, niz_reduce_options)
NIZ_CPP_REDUCE(mean, niz_reduce_options)
NIZ_CPP_REDUCE(prod, niz_reduce_options)
NIZ_CPP_REDUCE(max, niz_reduce_options)
NIZ_CPP_REDUCE(min, niz_reduce_options)
NIZ_CPP_REDUCE(argmax, niz_reduce_options)
NIZ_CPP_REDUCE(argmin, niz_reduce_options)
NIZ_CPP_REDUCE(logsumexp, niz_reduce_options)
NIZ_CPP_REDUCE(var, niz_var_options)

inline niz_axes niz_axes_from(std::initializer_list<int> list)
{
    niz_axes a = niz_axes();
    for (int i : list)
        if (a.n < NIZ_MAX_RANK) a.axis[a.n++] = i;
    return a;
}
#define NIZ_AXES(...) niz_axes_from({__VA_ARGS__})

inline niz_t niz_where(niz_t condition, niz_operand a, niz_operand b, NIZ_CPP_AT)
{
    return niz_where_at(niz_at{file, line}, condition, a.a, b.a);
}
inline niz_t niz_conv(niz_t x, niz_t w, niz_conv_options o = niz_conv_options(), NIZ_CPP_AT)
{
    return niz_conv_at(niz_at{file, line}, x, w, o);
}
inline niz_t niz_silu(niz_t x, NIZ_CPP_AT)
{
    return niz_silu_at(niz_at{file, line}, x);
}
inline niz_t niz_cast(niz_t x, niz_dtype to, NIZ_CPP_AT)
{
    return niz_cast_at(niz_at{file, line}, x, to);
}
inline niz_t niz_clamp(niz_t x, double lo, double hi, NIZ_CPP_AT)
{
    return niz_clamp_at(niz_at{file, line}, x, lo, hi);
}
inline niz_t niz_full_like(niz_t x, double value, NIZ_CPP_AT)
{
    return niz_full_like_at(niz_at{file, line}, x, value);
}
inline niz_t niz_number_like(niz_t x, double value, NIZ_CPP_AT)
{
    return niz_number_like_at(niz_at{file, line}, x, value);
}
inline niz_t niz_stop_gradient(niz_t x, NIZ_CPP_AT)
{
    return niz_stop_gradient_at(niz_at{file, line}, x);
}
inline niz_t niz_softmax(niz_t x, int axis, NIZ_CPP_AT)
{
    return niz_softmax_at(niz_at{file, line}, x, axis);
}
inline niz_t niz_log_softmax(niz_t x, int axis, NIZ_CPP_AT)
{
    return niz_log_softmax_at(niz_at{file, line}, x, axis);
}
inline niz_t niz_contract(niz_t a, niz_t b, int n_batch, int n_sum, NIZ_CPP_AT)
{
    return niz_contract_at(niz_at{file, line}, a, b, n_batch, n_sum);
}
inline niz_t niz_matmul(niz_t a, niz_t b, NIZ_CPP_AT)
{
    return niz_matmul_at(niz_at{file, line}, a, b);
}
inline niz_t niz_einsum(const char *spec, niz_t a, niz_t b, NIZ_CPP_AT)
{
    return niz_einsum_at(niz_at{file, line}, spec, a, b);
}
inline niz_t niz_reshape(niz_t x, niz_shape shape, NIZ_CPP_AT)
{
    return niz_reshape_at(niz_at{file, line}, x, shape);
}
inline niz_t niz_permute(niz_t x, niz_axes axes, NIZ_CPP_AT)
{
    return niz_permute_at(niz_at{file, line}, x, axes);
}
inline niz_t niz_transpose(niz_t x, int a, int b, NIZ_CPP_AT)
{
    return niz_transpose_at(niz_at{file, line}, x, a, b);
}
inline niz_t niz_broadcast(niz_t x, niz_shape shape, NIZ_CPP_AT)
{
    return niz_broadcast_at(niz_at{file, line}, x, shape);
}
inline niz_t niz_slice(niz_t x, int axis, int64_t start, int64_t stop, int64_t step, NIZ_CPP_AT)
{
    return niz_slice_at(niz_at{file, line}, x, axis, start, stop, step);
}
inline niz_t niz_select(niz_t x, int axis, int64_t i, NIZ_CPP_AT)
{
    return niz_select_at(niz_at{file, line}, x, axis, i);
}
inline niz_t niz_pad(niz_t x, int axis, int64_t before, int64_t after, double value, NIZ_CPP_AT)
{
    return niz_pad_at(niz_at{file, line}, x, axis, before, after, value);
}
inline niz_t niz_flip(niz_t x, int axis, NIZ_CPP_AT)
{
    return niz_flip_at(niz_at{file, line}, x, axis);
}
inline niz_t niz_concat(int n, const niz_t *x, int axis, NIZ_CPP_AT)
{
    return niz_concat_at(niz_at{file, line}, n, x, axis);
}
inline niz_t niz_stack(int n, const niz_t *x, int axis, NIZ_CPP_AT)
{
    return niz_stack_at(niz_at{file, line}, n, x, axis);
}
inline niz_t niz_window(niz_t x, int axis, int64_t size, int64_t stride, int64_t dilation,
                        NIZ_CPP_AT)
{
    return niz_window_at(niz_at{file, line}, x, axis, size, stride, dilation);
}
inline niz_t niz_unsqueeze(niz_t x, int axis, NIZ_CPP_AT)
{
    return niz_unsqueeze_at(niz_at{file, line}, x, axis);
}
inline niz_t niz_squeeze(niz_t x, int axis, NIZ_CPP_AT)
{
    return niz_squeeze_at(niz_at{file, line}, x, axis);
}
inline niz_t niz_flatten(niz_t x, int axis, NIZ_CPP_AT)
{
    return niz_flatten_at(niz_at{file, line}, x, axis);
}
inline niz_t niz_gather(niz_t x, int axis, niz_t index, NIZ_CPP_AT)
{
    return niz_gather_at(niz_at{file, line}, x, axis, index);
}
inline niz_t niz_take(niz_t x, int axis, niz_t index, NIZ_CPP_AT)
{
    return niz_take_at(niz_at{file, line}, x, axis, index);
}
inline niz_t niz_scatter_add(niz_t x, int axis, niz_t index, niz_t source, NIZ_CPP_AT)
{
    return niz_scatter_add_at(niz_at{file, line}, x, axis, index, source);
}
inline niz_t niz_one_hot(niz_t index, int64_t classes, niz_dtype dtype, NIZ_CPP_AT)
{
    return niz_one_hot_at(niz_at{file, line}, index, classes, dtype);
}
#endif

#endif
