/* niz/nn.h - layers, losses, optimisers: compositions of the operations in niz/ops.h.
 *
 *   static niz_t net(niz_t x)                                      // x [B,784]
 *   {
 *       x = niz_relu(niz_linear(x, 128, "fc1"));                   // [B,128]
 *       return niz_linear(x, 10, "fc2");                           // [B,10]
 *   }
 *   niz_optim opt = niz_adam(.lr = 1e-3);
 *   ...
 *   NIZ_STEP(z);
 *   niz_minimize(&opt, niz_cross_entropy(net(x), y));
 *
 * A layer finds its parameters by name and makes them the first time: niz_linear(x, 128, "fc1") has
 * fc1.weight and fc1.bias.  Names, layouts and starting values are PyTorch's, so that weights can
 * travel.  x's dtype, which is floating, becomes the parameters'.  The name is a scope (NIZ_SCOPE):
 * a message says "linear at mlp.c:41 (net/fc1): ...".
 *
 * B is the batch, C channels or features, T time, H the hidden size, K classes.  U(±b) is uniform
 * between -b and b.  Errors: shapes that do not fit are NIZ_E_SHAPE, dtypes NIZ_E_DTYPE, other
 * arguments (no name, a probability outside 0 .. 1) NIZ_E_ARGUMENT; a parameter that exists with
 * another shape is NIZ_E_SHAPE.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_NN_H
#define NIZ_NN_H

#include <niz/ops.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- starting values ------------------------------------------------------------------------ */

/* For niz_param, and for the options .weight and .bias of layers:
 *   niz_linear(x, 128, "fc1", .weight = niz_kaiming_normal_init(784))
 * fan_in is the number of inputs that one output sums over (linear: in; conv: C/groups · size...),
 * fan_out the number of outputs that one input goes to (linear: out; conv: K/groups · size...). */

/* The default of layers' options .weight and .bias, a constant that no parameter starts with: what
 * the layer's own paragraph says. */
#ifdef __cplusplus
#define NIZ_LAYER_INIT {niz_init::NIZ_INIT_CONSTANT, __builtin_nan(""), 0}
#else
#define NIZ_LAYER_INIT {NIZ_INIT_CONSTANT, __builtin_nan(""), 0}
#endif

/** Keeps the variance through layers with (leaky) ReLU: std = √(2 / ((1 + slope²) fan)); uniform is
 *  U(±√3 std).  slope is the leaky ReLU's below 0 (ReLU: 0; √5 gives U(±1/√fan)).  (He, Zhang,
 *  Ren, Sun 2015, "Delving deep into rectifiers") */
typedef struct niz_kaiming_options {
    double slope NIZ_DEFAULT(0);
} niz_kaiming_options;
NIZ_API niz_init niz_kaiming_uniform_init_with(int64_t fan, niz_kaiming_options o);
NIZ_API niz_init niz_kaiming_normal_init_with(int64_t fan, niz_kaiming_options o);

/** Keeps the variance in both directions: std = gain √(2 / (fan_in + fan_out)); uniform is
 *  U(±√3 std).  gain: 1 for linear and sigmoid, 5/3 usual for tanh.  (Glorot, Bengio 2010,
 *  "Understanding the difficulty of training deep feedforward neural networks") */
typedef struct niz_xavier_options {
    double gain NIZ_DEFAULT(1);
} niz_xavier_options;
NIZ_API niz_init niz_xavier_uniform_init_with(int64_t fan_in, int64_t fan_out,
                                              niz_xavier_options o);
NIZ_API niz_init niz_xavier_normal_init_with(int64_t fan_in, int64_t fan_out,
                                             niz_xavier_options o);

/* ---- layers --------------------------------------------------------------------------------- */

/** y = x weightᵀ + bias.  x [.., C], y [.., out]; weight [out,C], bias [out], both U(±1/√C). */
typedef struct niz_linear_options {
    bool no_bias NIZ_DEFAULT(false);
    niz_init weight NIZ_DEFAULT(NIZ_LAYER_INIT), bias NIZ_DEFAULT(NIZ_LAYER_INIT);
} niz_linear_options;
NIZ_API niz_t niz_linear_at(niz_at at, niz_t x, int64_t out, const char *name,
                            niz_linear_options o);

/** Convolution as niz_conv defines it, plus bias[k].  x [B,C,W], [B,C,H,W] or [B,C,D,H,W],
 *  y [B,out,...]: an axis of n elements becomes (n + 2 pad - (size-1) dilation - 1)/stride + 1.
 *  weight [out, C/groups, size...], bias [out], both U(±1/√(C/groups · size...)).  A number serves
 *  every axis; .sizes = {3, 5}, .strides and so on give them apart (0: the one number). */
typedef struct niz_conv_layer_options {
    int64_t stride NIZ_DEFAULT(1), pad NIZ_DEFAULT(0), dilation NIZ_DEFAULT(1),
        groups NIZ_DEFAULT(1);
    int64_t sizes[3] NIZ_DEFAULT_ZERO, strides[3] NIZ_DEFAULT_ZERO, pads[3] NIZ_DEFAULT_ZERO,
        dilations[3] NIZ_DEFAULT_ZERO;
    bool no_bias NIZ_DEFAULT(false);
    niz_init weight NIZ_DEFAULT(NIZ_LAYER_INIT), bias NIZ_DEFAULT(NIZ_LAYER_INIT);
} niz_conv_layer_options;
NIZ_API niz_t niz_conv1d_at(niz_at at, niz_t x, int64_t out, int64_t size, const char *name,
                            niz_conv_layer_options o);
NIZ_API niz_t niz_conv2d_at(niz_at at, niz_t x, int64_t out, int64_t size, const char *name,
                            niz_conv_layer_options o);
NIZ_API niz_t niz_conv3d_at(niz_at at, niz_t x, int64_t out, int64_t size, const char *name,
                            niz_conv_layer_options o);

/** The greatest or the mean of each window of size elements along the last 1, 2 or 3 axes.
 *  x [B,C,...]; an axis of n elements becomes (n + 2 pad - size)/stride + 1; what is left over at
 *  its end is not looked at.  .stride 0: windows side by side (stride = size).  .pad at most
 *  size/2: max pools over the elements that are there, avg counts the padding as zeros and divides
 *  by the whole window (PyTorch's count_include_pad).  Of several equal greatest elements each gets
 *  its share of the derivative. */
typedef struct niz_pool_options {
    int64_t stride NIZ_DEFAULT(0), pad NIZ_DEFAULT(0);
} niz_pool_options;
NIZ_API niz_t niz_max_pool1d_at(niz_at at, niz_t x, int64_t size, niz_pool_options o);
NIZ_API niz_t niz_max_pool2d_at(niz_at at, niz_t x, int64_t size, niz_pool_options o);
NIZ_API niz_t niz_max_pool3d_at(niz_at at, niz_t x, int64_t size, niz_pool_options o);
NIZ_API niz_t niz_avg_pool1d_at(niz_at at, niz_t x, int64_t size, niz_pool_options o);
NIZ_API niz_t niz_avg_pool2d_at(niz_at at, niz_t x, int64_t size, niz_pool_options o);
NIZ_API niz_t niz_avg_pool3d_at(niz_at at, niz_t x, int64_t size, niz_pool_options o);

/** While training (niz_set_training): each element becomes 0 with probability p, else x/(1 - p), so
 *  that its expectation stays.  In evaluation: x itself.  x [*] floating, 0 <= p <= 1.  (Srivastava
 *  and others 2014, "Dropout") */
NIZ_API niz_t niz_dropout_at(niz_at at, niz_t x, double p);

/** y = (x - m) / √(v + eps) · weight + bias, each channel by itself.  x, y [B,C,...] floating;
 *  weight [C] of ones, bias [C] of zeros.  While training m and v are mean and variance of the
 *  channel's elements in this batch, and the states
 *    running_mean [C] = (1 - momentum) running_mean + momentum m           (starts at 0)
 *    running_var  [C] = (1 - momentum) running_var + momentum v n/(n - 1)  (starts at 1)
 *  are assigned, n being the number of elements; it must be at least 2.  In evaluation they are m
 *  and v.  (Ioffe, Szegedy 2015, "Batch normalization") */
typedef struct niz_batch_norm_options {
    double momentum NIZ_DEFAULT(0.1), eps NIZ_DEFAULT(1e-5);
} niz_batch_norm_options;
NIZ_API niz_t niz_batch_norm_at(niz_at at, niz_t x, const char *name, niz_batch_norm_options o);

/** y = (x - m) / √(v + eps) · weight + bias with mean and variance of each row.  x, y [.., C]
 *  floating; weight [C] of ones, bias [C] of zeros.  (Ba, Kiros, Hinton 2016, "Layer
 *  normalization") */
typedef struct niz_layer_norm_options {
    double eps NIZ_DEFAULT(1e-5);
} niz_layer_norm_options;
NIZ_API niz_t niz_layer_norm_at(niz_at at, niz_t x, const char *name, niz_layer_norm_options o);

/** Row index[..] of a table: index [*] i32 or i64, y [*, width]; weight [count,width] of .dtype,
 *  normal(0, 1).  An index outside 0 .. count-1 is NIZ_E_INDEX when run. */
typedef struct niz_embedding_options {
    niz_dtype dtype NIZ_DEFAULT(NIZ_F32);
    niz_init weight NIZ_DEFAULT(NIZ_LAYER_INIT);
} niz_embedding_options;
NIZ_API niz_t niz_embedding_at(niz_at at, niz_t index, int64_t count, int64_t width,
                               const char *name, niz_embedding_options o);

/* ---- recurrent layers ----------------------------------------------------------------------- */

/* Whole sequences: x [B,T,C] -> y [B,T,H], y[:,t] being the hidden state after element t.  With
 * a = x_t weight_ihᵀ + bias_ih and b = h weight_hhᵀ + bias_hh, both [B, G·H] for G gates stacked
 * in the order named, and σ the sigmoid:
 *   rnn   (G = 1)           h' = tanh(a + b)                                     (Elman 1990)
 *   lstm  (G = 4: i f g o)  i, f, o = σ(a + b), g = tanh(a + b), c' = f c + i g, h' = o tanh(c')
 *                           (Hochreiter, Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000)
 *   gru   (G = 3: r z n)    r, z = σ(a + b), n = tanh(a + r b), h' = (1 - z) n + z h
 *                           (Cho and others 2014; reset after the product, as in PyTorch)
 * Parameters, all U(±1/√H): weight_ih_l0 [G·H, C], weight_hh_l0 [G·H, H], bias_ih_l0 [G·H],
 * bias_hh_l0 [G·H].  The products with weight_ih for all t are one contraction. */
typedef struct niz_recurrent_options {
    niz_t h0 NIZ_DEFAULT(NIZ_NO_TENSOR), c0 NIZ_DEFAULT(NIZ_NO_TENSOR); /* [B,H]; else zeros */
    niz_t *h_out NIZ_DEFAULT(NULL), *c_out NIZ_DEFAULT(NULL); /* set to the last state [B,H] */
    int layer NIZ_DEFAULT(0); /* the number in the parameters' names: with y = niz_lstm(x, H, "a"),
                                 niz_lstm(y, H, "a", .layer = 1) is PyTorch's second layer */
    bool relu NIZ_DEFAULT(false); /* rnn: max(a + b, 0) instead of tanh */
    bool no_bias NIZ_DEFAULT(false);
} niz_recurrent_options;
NIZ_API niz_t niz_rnn_at(niz_at at, niz_t x, int64_t hidden, const char *name,
                         niz_recurrent_options o);
NIZ_API niz_t niz_lstm_at(niz_at at, niz_t x, int64_t hidden, const char *name,
                          niz_recurrent_options o);
NIZ_API niz_t niz_gru_at(niz_at at, niz_t x, int64_t hidden, const char *name,
                         niz_recurrent_options o);

/* Cells: one step, x [B,C], state [B,H] -> the next state [B,H].  Parameters as above, without _l0:
 * weight_ih, weight_hh, bias_ih, bias_hh. */
typedef struct niz_cell_options {
    bool relu NIZ_DEFAULT(false), no_bias NIZ_DEFAULT(false);
} niz_cell_options;
typedef struct niz_lstm_state {
    niz_t h, c; /* [B,H] */
} niz_lstm_state;
NIZ_API niz_t niz_rnn_cell_at(niz_at at, niz_t x, niz_t h, const char *name, niz_cell_options o);
NIZ_API niz_t niz_gru_cell_at(niz_at at, niz_t x, niz_t h, const char *name, niz_cell_options o);
NIZ_API niz_lstm_state niz_lstm_cell_at(niz_at at, niz_t x, niz_lstm_state s, const char *name,
                                        niz_cell_options o);

/* ---- losses --------------------------------------------------------------------------------- */

/** What becomes of the losses of the elements (or samples). */
typedef enum niz_reduction { NIZ_REDUCE_MEAN, NIZ_REDUCE_SUM, NIZ_REDUCE_NONE } niz_reduction;
typedef struct niz_loss_options {
    niz_reduction reduction NIZ_DEFAULT(NIZ_REDUCE_MEAN);
} niz_loss_options;

/** Mean of (y - target)².  y, target floating, of one shape (no broadcasting: a [B,1] against a [B]
 *  is a mistake). */
NIZ_API niz_t niz_mse_at(niz_at at, niz_t y, niz_t target, niz_loss_options o);

/** Mean of -ln softmax(logits)[class] over samples, without overflow.  logits [B,K] and classes
 *  [B], or [B,K,...] and [B,...], or [K] and []; classes i32 or i64, one outside 0 .. K-1 is
 *  NIZ_E_INDEX when run.  With label_smoothing s the target is 1 - s + s/K for the class and s/K
 *  for the others (Szegedy and others 2016). */
typedef struct niz_cross_entropy_options {
    niz_reduction reduction NIZ_DEFAULT(NIZ_REDUCE_MEAN);
    double label_smoothing NIZ_DEFAULT(0);
} niz_cross_entropy_options;
NIZ_API niz_t niz_cross_entropy_at(niz_at at, niz_t logits, niz_t classes,
                                   niz_cross_entropy_options o);

/** Mean of -t ln σ(x) - (1 - t) ln(1 - σ(x)) with t = target, computed from the logits x as
 *  t softplus(-x) + (1 - t) softplus(x): no overflow, no cancellation.  x, target floating, of one
 *  shape; targets from 0 to 1. */
NIZ_API niz_t niz_binary_cross_entropy_at(niz_at at, niz_t logits, niz_t target,
                                          niz_loss_options o);

/** The share, f32 [], of samples whose greatest logit is that of their class.  Shapes as in
 *  niz_cross_entropy.  It has no gradient. */
NIZ_API niz_t niz_accuracy_at(niz_at at, niz_t logits, niz_t classes);

/* ---- optimisers ----------------------------------------------------------------------------- */

/** An optimiser: a value.  Its numbers may be changed between steps (opt.lr = ...): they are data,
 *  so nothing is planned anew; only turning one on that was 0 (clip_norm, l2, decay, momentum)
 *  changes the graph.  What it remembers is in the context, as states named
 *  "<name>/<parameter>.<slot>", and so is saved, restored and shared by copies of it.  Two
 *  optimisers of one kind that update the same parameters need different names. */
typedef struct niz_optim {
    const struct niz_optim_rule *rule; /* sgd, adam or adamw */
    const char *name;                  /* of its states */
    const char *params;                /* which parameters; see niz_minimize */
    double lr;                         /* learning rate */
    double clip_norm;                  /* 0: off; else niz_clip_by_norm of all its gradients */
    double l2;                         /* sgd, adam: g += l2 p, first of all */
    double decay;                      /* adamw: p -= lr decay p, first of all */
    double momentum;                   /* sgd */
    bool nesterov;                     /* sgd */
    double beta1, beta2, eps;          /* adam, adamw */
    niz_t rate; /* f64 []: the learning rate as a tensor, in place of lr; see niz_compile */
} niz_optim;

/** g = dloss/dp (+ l2 p);  without momentum p -= lr g;  with it, v starting at 0:
 *    v = momentum v + g,  p -= lr v;  nesterov: p -= lr (g + momentum v).
 *  State: momentum (v).  (Polyak 1964; Nesterov 1983 in the form of Sutskever and others 2013) */
typedef struct niz_sgd_options {
    double lr NIZ_DEFAULT(1e-3), momentum NIZ_DEFAULT(0), l2 NIZ_DEFAULT(0);
    bool nesterov NIZ_DEFAULT(false);
    const char *name NIZ_DEFAULT("sgd"), *params NIZ_DEFAULT(NULL);
    double clip_norm NIZ_DEFAULT(0);
} niz_sgd_options;
NIZ_API niz_optim niz_sgd_with(niz_sgd_options o);

/** t counts this optimiser's updates from 1; g = dloss/dp (+ l2 p);
 *    m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g²,
 *    p -= lr/(1 - beta1^t) · m / (√v / √(1 - beta2^t) + eps).
 *  States: m, v, and for t "<name>/step", i64; with .params "<name>/<params>/step", so that two
 *  optimisers of different parts of a program, .params = "D" and "G", count apart under one name.
 *  A second update of a step under the same count must be of the same parameters: others would skip
 *  counts (NIZ_E_ARGUMENT; give one of two optimisers another name).  Two models that train in steps
 *  of their own need two names as well: nothing tells their counts apart.
 *  (Kingma, Ba 2015, "Adam") */
typedef struct niz_adam_options {
    double lr NIZ_DEFAULT(1e-3), beta1 NIZ_DEFAULT(0.9), beta2 NIZ_DEFAULT(0.999),
        eps NIZ_DEFAULT(1e-8), l2 NIZ_DEFAULT(0);
    const char *name NIZ_DEFAULT("adam"), *params NIZ_DEFAULT(NULL);
    double clip_norm NIZ_DEFAULT(0);
} niz_adam_options;
NIZ_API niz_optim niz_adam_with(niz_adam_options o);

/** Adam with decay apart from the gradient: p -= lr decay p, then as niz_adam.  (Loshchilov, Hutter
 *  2019, "Decoupled weight decay regularization") */
typedef struct niz_adamw_options {
    double lr NIZ_DEFAULT(1e-3), beta1 NIZ_DEFAULT(0.9), beta2 NIZ_DEFAULT(0.999),
        eps NIZ_DEFAULT(1e-8), decay NIZ_DEFAULT(0.01);
    const char *name NIZ_DEFAULT("adamw"), *params NIZ_DEFAULT(NULL);
    double clip_norm NIZ_DEFAULT(0);
} niz_adamw_options;
NIZ_API niz_optim niz_adamw_with(niz_adamw_options o);

/** Records the gradients of loss (floating, one element) and one update of every trainable
 *  parameter that loss reaches and opt->params selects; nothing has run.  .params NULL: all; else
 *  patterns between commas.  One with a * (any characters) or ? (any one) in it selects the full
 *  names that match; else a name and what is below it: "net.fc1" selects net.fc1 and
 *  net.fc1.weight, not net.fc10.weight.  A ! before a pattern takes out what it selects: "!fc1" is
 *  everything but fc1, "net, !*.bias" is net without its biases.
 *  Arithmetic is in the parameter's dtype; the optimiser's numbers are computed in f64 and rounded
 *  to it once.  No gradient flows through an update: a later loss of the same step takes the new
 *  values as they are, as PyTorch does.  (Through niz_assign it does: what learns to learn writes
 *  its own updates.)
 *  NIZ_E_ARGUMENT: loss reaches no parameter, or none that is selected; a number out of range. */
NIZ_API void niz_minimize_at(niz_at at, const niz_optim *opt, niz_t loss);

/** The update that niz_minimize makes of its gradients, from gradients given: accumulated over
 *  batches, penalised, clipped in another way.  grads[i] is of the shape and dtype of params[i], a
 *  trainable parameter (niz_params_of, niz_param or niz_find); each once; where grads[i] is empty
 *  (NIZ_NO_TENSOR) params[i] is left alone.  .clip_norm clips them first.  All of params are
 *  updated, .params only names the count of updates.
 *    int64_t n = niz_params_of(loss, N, p);
 *    niz_grad(loss, (int)n, p, g);
 *    niz_update(&opt, (int)n, p, g);            // niz_minimize(&opt, loss)
 *  NIZ_E_ARGUMENT: not a trainable parameter; a number out of range.  NIZ_E_SHAPE, NIZ_E_DTYPE: a
 *  gradient is not like its parameter. */
NIZ_API void niz_update_at(niz_at at, const niz_optim *opt, int n, const niz_t *params,
                           const niz_t *grads);

/** Scales n gradients, in place, by min(1, max_norm / (norm + 1e-6)), where norm = √Σ g² over all
 *  elements of all of them; returns norm, f64 [].  max_norm is data.  Empty handles are skipped.
 *  (Pascanu, Mikolov, Bengio 2013) */
NIZ_API niz_t niz_clip_by_norm_at(niz_at at, int n, niz_t *grads, double max_norm);

/* ---- schedules ------------------------------------------------------------------------------ */

/* Learning rates as functions of the step, counted from 0:
 *   opt.lr = niz_schedule_cosine(.1, i, n, 0);
 * They are pure, call no libm, and so give the same bits everywhere.  They nest:
 * niz_schedule_warmup(niz_schedule_cosine(.1, i, n, 0), i, 100). */

/** lr · factor^⌊step/every⌋.  every >= 1 (less counts as 1). */
NIZ_API double niz_schedule_step(double lr, int64_t step, int64_t every, double factor);
/** lowest + (lr - lowest) (1 + cos(π min(step/total, 1))) / 2: from lr at step 0 to lowest at step
 *  total and after.  (Loshchilov, Hutter 2017, "SGDR") */
NIZ_API double niz_schedule_cosine(double lr, int64_t step, int64_t total, double lowest);
/** lr · min(1, (step + 1)/warmup): a straight rise that reaches lr at step warmup - 1. */
NIZ_API double niz_schedule_warmup(double lr, int64_t step, int64_t warmup);

#ifdef __cplusplus
} /* extern "C" */
#endif

/* All layers of one kind: for their macros and overloads. */
#define NIZ_CONV_LAYERS(X) X(conv1d) X(conv2d) X(conv3d)
#define NIZ_POOL_LAYERS(X)                                                                         \
    X(max_pool1d) X(max_pool2d) X(max_pool3d) X(avg_pool1d) X(avg_pool2d) X(avg_pool3d)
#define NIZ_RECURRENT_LAYERS(X) X(rnn) X(lstm) X(gru)

#ifndef __cplusplus
/* ---- C: the macros -------------------------------------------------------------------------- */

/* The last fixed argument starts __VA_ARGS__, so that options may be left out. */

#define NIZ_KAIMING_DEFAULTS .slope = 0
#define NIZ_XAVIER_DEFAULTS .gain = 1
#define NIZ_KAIMING_(f, fan, ...)                                                                  \
    f(fan, NIZ_OPTIONS(niz_kaiming_options, NIZ_KAIMING_DEFAULTS, __VA_ARGS__))
#define NIZ_XAVIER_(f, fan_in, fan_out, ...)                                                       \
    f(fan_in, fan_out, NIZ_OPTIONS(niz_xavier_options, NIZ_XAVIER_DEFAULTS, __VA_ARGS__))
#define niz_kaiming_uniform_init(...) NIZ_KAIMING_(niz_kaiming_uniform_init_with, __VA_ARGS__, )
#define niz_kaiming_normal_init(...) NIZ_KAIMING_(niz_kaiming_normal_init_with, __VA_ARGS__, )
#define niz_xavier_uniform_init(...) NIZ_XAVIER_(niz_xavier_uniform_init_with, __VA_ARGS__, )
#define niz_xavier_normal_init(...) NIZ_XAVIER_(niz_xavier_normal_init_with, __VA_ARGS__, )

#define NIZ_LINEAR_DEFAULTS .no_bias = false, .weight = NIZ_LAYER_INIT, .bias = NIZ_LAYER_INIT
#define niz_linear(x, out, ...) /* name, options */ NIZ_LINEAR_(x, out, __VA_ARGS__, )
#define NIZ_LINEAR_(x, out, name, ...)                                                             \
    niz_linear_at(NIZ_HERE, x, out, name,                                                          \
                  NIZ_OPTIONS(niz_linear_options, NIZ_LINEAR_DEFAULTS, __VA_ARGS__))

#define NIZ_CONV_LAYER_DEFAULTS NIZ_CONV_DEFAULTS, .sizes = {0}, NIZ_LINEAR_DEFAULTS
#define NIZ_CONV_LAYER_(f, x, out, size, name, ...)                                                \
    f(NIZ_HERE, x, out, size, name,                                                                \
      NIZ_OPTIONS(niz_conv_layer_options, NIZ_CONV_LAYER_DEFAULTS, __VA_ARGS__))
#define niz_conv1d(x, out, size, ...) /* name, options */                                          \
    NIZ_CONV_LAYER_(niz_conv1d_at, x, out, size, __VA_ARGS__, )
#define niz_conv2d(x, out, size, ...) NIZ_CONV_LAYER_(niz_conv2d_at, x, out, size, __VA_ARGS__, )
#define niz_conv3d(x, out, size, ...) NIZ_CONV_LAYER_(niz_conv3d_at, x, out, size, __VA_ARGS__, )

#define NIZ_POOL_DEFAULTS .stride = 0, .pad = 0
#define NIZ_POOL_(f, x, size, ...)                                                                 \
    f(NIZ_HERE, x, size, NIZ_OPTIONS(niz_pool_options, NIZ_POOL_DEFAULTS, __VA_ARGS__))
#define niz_max_pool1d(x, ...) /* size, options */ NIZ_POOL_(niz_max_pool1d_at, x, __VA_ARGS__, )
#define niz_max_pool2d(x, ...) NIZ_POOL_(niz_max_pool2d_at, x, __VA_ARGS__, )
#define niz_max_pool3d(x, ...) NIZ_POOL_(niz_max_pool3d_at, x, __VA_ARGS__, )
#define niz_avg_pool1d(x, ...) NIZ_POOL_(niz_avg_pool1d_at, x, __VA_ARGS__, )
#define niz_avg_pool2d(x, ...) NIZ_POOL_(niz_avg_pool2d_at, x, __VA_ARGS__, )
#define niz_avg_pool3d(x, ...) NIZ_POOL_(niz_avg_pool3d_at, x, __VA_ARGS__, )

#define niz_dropout(x, p) niz_dropout_at(NIZ_HERE, x, p)

#define NIZ_BATCH_NORM_DEFAULTS .momentum = 0.1, .eps = 1e-5
#define niz_batch_norm(x, ...) /* name, options */ NIZ_BATCH_NORM_(x, __VA_ARGS__, )
#define NIZ_BATCH_NORM_(x, name, ...)                                                              \
    niz_batch_norm_at(NIZ_HERE, x, name,                                                           \
                      NIZ_OPTIONS(niz_batch_norm_options, NIZ_BATCH_NORM_DEFAULTS, __VA_ARGS__))

#define NIZ_LAYER_NORM_DEFAULTS .eps = 1e-5
#define niz_layer_norm(x, ...) /* name, options */ NIZ_LAYER_NORM_(x, __VA_ARGS__, )
#define NIZ_LAYER_NORM_(x, name, ...)                                                              \
    niz_layer_norm_at(NIZ_HERE, x, name,                                                           \
                      NIZ_OPTIONS(niz_layer_norm_options, NIZ_LAYER_NORM_DEFAULTS, __VA_ARGS__))

#define NIZ_EMBEDDING_DEFAULTS .dtype = NIZ_F32, .weight = NIZ_LAYER_INIT
#define niz_embedding(index, count, width, ...) /* name, options */                                \
    NIZ_EMBEDDING_(index, count, width, __VA_ARGS__, )
#define NIZ_EMBEDDING_(index, count, width, name, ...)                                             \
    niz_embedding_at(NIZ_HERE, index, count, width, name,                                          \
                     NIZ_OPTIONS(niz_embedding_options, NIZ_EMBEDDING_DEFAULTS, __VA_ARGS__))

#define NIZ_RECURRENT_DEFAULTS .layer = 0, .relu = false, .no_bias = false
#define NIZ_RECURRENT_(f, x, hidden, name, ...)                                                    \
    f(NIZ_HERE, x, hidden, name,                                                                   \
      NIZ_OPTIONS(niz_recurrent_options, NIZ_RECURRENT_DEFAULTS, __VA_ARGS__))
#define niz_rnn(x, hidden, ...) /* name, options */                                                \
    NIZ_RECURRENT_(niz_rnn_at, x, hidden, __VA_ARGS__, )
#define niz_lstm(x, hidden, ...) NIZ_RECURRENT_(niz_lstm_at, x, hidden, __VA_ARGS__, )
#define niz_gru(x, hidden, ...) NIZ_RECURRENT_(niz_gru_at, x, hidden, __VA_ARGS__, )

#define NIZ_CELL_DEFAULTS .relu = false, .no_bias = false
#define NIZ_CELL_(f, x, h, name, ...)                                                              \
    f(NIZ_HERE, x, h, name, NIZ_OPTIONS(niz_cell_options, NIZ_CELL_DEFAULTS, __VA_ARGS__))
#define niz_rnn_cell(x, h, ...) /* name, options */ NIZ_CELL_(niz_rnn_cell_at, x, h, __VA_ARGS__, )
#define niz_gru_cell(x, h, ...) NIZ_CELL_(niz_gru_cell_at, x, h, __VA_ARGS__, )
#define niz_lstm_cell(x, state, ...) NIZ_CELL_(niz_lstm_cell_at, x, state, __VA_ARGS__, )

#define NIZ_LOSS_DEFAULTS .reduction = NIZ_REDUCE_MEAN
#define NIZ_LOSS_(f, y, target, ...)                                                               \
    f(NIZ_HERE, y, target, NIZ_OPTIONS(niz_loss_options, NIZ_LOSS_DEFAULTS, __VA_ARGS__))
#define niz_mse(y, ...) /* target, options */ NIZ_LOSS_(niz_mse_at, y, __VA_ARGS__, )
#define niz_binary_cross_entropy(logits, ...)                                                      \
    NIZ_LOSS_(niz_binary_cross_entropy_at, logits, __VA_ARGS__, )
#define NIZ_CROSS_ENTROPY_DEFAULTS .reduction = NIZ_REDUCE_MEAN, .label_smoothing = 0
#define niz_cross_entropy(logits, ...) /* classes, options */                                      \
    NIZ_CROSS_ENTROPY_(logits, __VA_ARGS__, )
#define NIZ_CROSS_ENTROPY_(logits, classes, ...)                                                   \
    niz_cross_entropy_at(                                                                          \
        NIZ_HERE, logits, classes,                                                                 \
        NIZ_OPTIONS(niz_cross_entropy_options, NIZ_CROSS_ENTROPY_DEFAULTS, __VA_ARGS__))
#define niz_accuracy(logits, classes) niz_accuracy_at(NIZ_HERE, logits, classes)

#define NIZ_SGD_DEFAULTS                                                                           \
    .lr = 1e-3, .momentum = 0, .l2 = 0, .nesterov = false, .name = "sgd", .params = NULL,          \
    .clip_norm = 0
#define niz_sgd(...) niz_sgd_with(NIZ_OPTIONS(niz_sgd_options, NIZ_SGD_DEFAULTS, __VA_ARGS__))
#define NIZ_ADAM_DEFAULTS                                                                          \
    .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .l2 = 0, .name = "adam",                \
    .params = NULL, .clip_norm = 0
#define niz_adam(...) niz_adam_with(NIZ_OPTIONS(niz_adam_options, NIZ_ADAM_DEFAULTS, __VA_ARGS__))
#define NIZ_ADAMW_DEFAULTS                                                                         \
    .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .decay = 0.01, .name = "adamw",         \
    .params = NULL, .clip_norm = 0
#define niz_adamw(...)                                                                             \
    niz_adamw_with(NIZ_OPTIONS(niz_adamw_options, NIZ_ADAMW_DEFAULTS, __VA_ARGS__))
#define niz_minimize(opt, loss) niz_minimize_at(NIZ_HERE, opt, loss)
#define niz_update(opt, n, params, grads) niz_update_at(NIZ_HERE, opt, n, params, grads)
#define niz_clip_by_norm(n, grads, max_norm) niz_clip_by_norm_at(NIZ_HERE, n, grads, max_norm)

#else
/* ---- C++: the same names as overloads ------------------------------------------------------- */

inline niz_init niz_kaiming_uniform_init(int64_t fan,
                                         niz_kaiming_options o = niz_kaiming_options())
{
    return niz_kaiming_uniform_init_with(fan, o);
}
inline niz_init niz_kaiming_normal_init(int64_t fan, niz_kaiming_options o = niz_kaiming_options())
{
    return niz_kaiming_normal_init_with(fan, o);
}
inline niz_init niz_xavier_uniform_init(int64_t fan_in, int64_t fan_out,
                                        niz_xavier_options o = niz_xavier_options())
{
    return niz_xavier_uniform_init_with(fan_in, fan_out, o);
}
inline niz_init niz_xavier_normal_init(int64_t fan_in, int64_t fan_out,
                                       niz_xavier_options o = niz_xavier_options())
{
    return niz_xavier_normal_init_with(fan_in, fan_out, o);
}
inline niz_t niz_linear(niz_t x, int64_t out, const char *name,
                        niz_linear_options o = niz_linear_options(), NIZ_CPP_AT)
{
    return niz_linear_at(niz_at{file, line}, x, out, name, o);
}
#define NIZ_CPP_CONV_LAYER(f)                                                                      \
    inline niz_t niz_##f(niz_t x, int64_t out, int64_t size, const char *name,                     \
                         niz_conv_layer_options o = niz_conv_layer_options(), NIZ_CPP_AT)          \
    {                                                                                              \
        return niz_##f##_at(niz_at{file, line}, x, out, size, name, o);                            \
    }
NIZ_CONV_LAYERS(NIZ_CPP_CONV_LAYER)
#define NIZ_CPP_POOL_LAYER(f)                                                                      \
    inline niz_t niz_##f(niz_t x, int64_t size, niz_pool_options o = niz_pool_options(),           \
                         NIZ_CPP_AT)                                                               \
    {                                                                                              \
        return niz_##f##_at(niz_at{file, line}, x, size, o);                                       \
    }
NIZ_POOL_LAYERS(NIZ_CPP_POOL_LAYER)
inline niz_t niz_dropout(niz_t x, double p, NIZ_CPP_AT)
{
    return niz_dropout_at(niz_at{file, line}, x, p);
}
inline niz_t niz_batch_norm(niz_t x, const char *name,
                            niz_batch_norm_options o = niz_batch_norm_options(), NIZ_CPP_AT)
{
    return niz_batch_norm_at(niz_at{file, line}, x, name, o);
}
inline niz_t niz_layer_norm(niz_t x, const char *name,
                            niz_layer_norm_options o = niz_layer_norm_options(), NIZ_CPP_AT)
{
    return niz_layer_norm_at(niz_at{file, line}, x, name, o);
}
inline niz_t niz_embedding(niz_t index, int64_t count, int64_t width, const char *name,
                           niz_embedding_options o = niz_embedding_options(), NIZ_CPP_AT)
{
    return niz_embedding_at(niz_at{file, line}, index, count, width, name, o);
}
#define NIZ_CPP_RECURRENT_LAYER(f)                                                                 \
    inline niz_t niz_##f(niz_t x, int64_t hidden, const char *name,                                \
                         niz_recurrent_options o = niz_recurrent_options(), NIZ_CPP_AT)            \
    {                                                                                              \
        return niz_##f##_at(niz_at{file, line}, x, hidden, name, o);                               \
    }
NIZ_RECURRENT_LAYERS(NIZ_CPP_RECURRENT_LAYER)
inline niz_t niz_rnn_cell(niz_t x, niz_t h, const char *name,
                          niz_cell_options o = niz_cell_options(), NIZ_CPP_AT)
{
    return niz_rnn_cell_at(niz_at{file, line}, x, h, name, o);
}
inline niz_t niz_gru_cell(niz_t x, niz_t h, const char *name,
                          niz_cell_options o = niz_cell_options(), NIZ_CPP_AT)
{
    return niz_gru_cell_at(niz_at{file, line}, x, h, name, o);
}
inline niz_lstm_state niz_lstm_cell(niz_t x, niz_lstm_state s, const char *name,
                                    niz_cell_options o = niz_cell_options(), NIZ_CPP_AT)
{
    return niz_lstm_cell_at(niz_at{file, line}, x, s, name, o);
}
inline niz_t niz_mse(niz_t y, niz_t target, niz_loss_options o = niz_loss_options(), NIZ_CPP_AT)
{
    return niz_mse_at(niz_at{file, line}, y, target, o);
}
inline niz_t niz_binary_cross_entropy(niz_t logits, niz_t target,
                                      niz_loss_options o = niz_loss_options(), NIZ_CPP_AT)
{
    return niz_binary_cross_entropy_at(niz_at{file, line}, logits, target, o);
}
inline niz_t niz_cross_entropy(niz_t logits, niz_t classes,
                               niz_cross_entropy_options o = niz_cross_entropy_options(),
                               NIZ_CPP_AT)
{
    return niz_cross_entropy_at(niz_at{file, line}, logits, classes, o);
}
inline niz_t niz_accuracy(niz_t logits, niz_t classes, NIZ_CPP_AT)
{
    return niz_accuracy_at(niz_at{file, line}, logits, classes);
}
inline niz_optim niz_sgd(niz_sgd_options o = niz_sgd_options()) { return niz_sgd_with(o); }
inline niz_optim niz_adam(niz_adam_options o = niz_adam_options()) { return niz_adam_with(o); }
inline niz_optim niz_adamw(niz_adamw_options o = niz_adamw_options()) { return niz_adamw_with(o); }
inline void niz_minimize(const niz_optim *opt, niz_t loss, NIZ_CPP_AT)
{
    niz_minimize_at(niz_at{file, line}, opt, loss);
}
inline void niz_update(const niz_optim *opt, int n, const niz_t *params, const niz_t *grads,
                       NIZ_CPP_AT)
{
    niz_update_at(niz_at{file, line}, opt, n, params, grads);
}
inline niz_t niz_clip_by_norm(int n, niz_t *grads, double max_norm, NIZ_CPP_AT)
{
    return niz_clip_by_norm_at(niz_at{file, line}, n, grads, max_norm);
}
#endif

#endif
