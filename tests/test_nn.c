/* test_nn.c - layers, losses, optimisers and schedules.
 *
 * The first three training steps of five small models in f64 against PyTorch's (golden.h); layers
 * against sums written out here; what they refuse; what optimisers remember and under which names.
 *
 * SPDX-License-Identifier: MIT */
#include <check.h>
#include <math.h>
#include <niz/grad.h>
#include <niz/nn.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

static niz *z;

static void open_context(void)
{
    z = niz_open(NULL);
    ck_assert_ptr_nonnull(z);
}

static void close_context(void)
{
    ck_assert_msg(!niz_error(z), "%s", niz_message(z));
    niz_close(z);
}

/* The error is of that status and its message contains text; the context works on. */
static void refused(niz_status status, const char *text)
{
    ck_assert_msg(niz_error(z) == status, "status %d: \"%s\"", niz_error(z), niz_message(z));
    ck_assert_msg(strstr(niz_message(z), text) != NULL, "says \"%s\", not \"%s\"", niz_message(z),
                  text);
    niz_clear_error(z);
}

static void close_to(double a, double b, double bound, const char *what)
{
    ck_assert_msg(fabs(a - b) <= bound * (1 + fabs(b)), "%s: %.17g, not %.17g", what, a, b);
}

/* The elements of t as doubles, at most n of them. */
static int64_t values(niz_t t, int64_t n, double *out)
{
    niz_t d = niz_cast(t, NIZ_F64);
    niz_shape s = niz_shape_of(d);
    ck_assert_int_le(niz_shape_count(&s), n);
    ck_assert_msg(!niz_read(d, out, (size_t)niz_shape_count(&s) * sizeof *out), "%s",
                  niz_message(z));
    return niz_shape_count(&s);
}

static void has_values(niz_t t, int64_t n, const double *expected, double bound)
{
    double have[256];
    ck_assert_int_eq(values(t, 256, have), n);
    for (int64_t i = 0; i < n; i++) {
        char what[32];
        snprintf(what, sizeof what, "element %d", (int)i);
        close_to(have[i], expected[i], bound, what);
    }
}

static void has_shape(niz_t t, niz_shape expected)
{
    niz_shape s = niz_shape_of(t);
    ck_assert_msg(niz_shape_equal(&s, &expected), "another shape, of %d axes", s.rank);
}

static niz_t f64(niz_shape shape, const double *data)
{
    return niz_copy_from(z, NIZ_F64, shape, data);
}

/* golden.h's numbers as a tensor */
static niz_t golden_tensor(niz_shape shape, int64_t salt, double scale, double about)
{
    double data[1024];
    int64_t n = niz_shape_count(&shape);
    ck_assert_int_le(n, 1024);
    for (int64_t i = 0; i < n; i++) data[i] = about + golden_value(i, salt, scale);
    return f64(shape, data);
}

/* ---- the golden models ---------------------------------------------------------------------- */

enum { INPUT = 101, TARGET = 202 };

static niz_t input(niz_shape shape)
{
    return golden_tensor(shape, INPUT, 1, 0);
}

static niz_t labels(int64_t n, int32_t classes)
{
    int32_t y[16];
    for (int64_t i = 0; i < n; i++) y[i] = (int32_t)(i * 5 + 3) % classes;
    return niz_copy_from(z, NIZ_I32, NIZ_SHAPE(n), y);
}

static niz_t fnn_loss(void)
{
    niz_t x = niz_relu(niz_linear(input(NIZ_SHAPE(6, 20)), 16, "fc1"));
    return niz_cross_entropy(niz_linear(x, 5, "fc2"), labels(6, 5));
}

static niz_t cnn_loss(void)
{
    niz_t x = niz_conv2d(input(NIZ_SHAPE(4, 2, 8, 8)), 6, 3, "conv1", .pad = 1);
    x = niz_max_pool2d(niz_relu(niz_batch_norm(x, "bn1")), 2);
    x = niz_gelu(niz_conv2d(x, 8, 3, "conv2", .stride = 2, .pad = 1, .groups = 2));
    x = niz_flatten(niz_avg_pool2d(x, 2), 1);
    return niz_cross_entropy(niz_linear(x, 5, "fc"), labels(4, 5));
}

static niz_t head(niz_t y) /* [3,7,6] */
{
    return niz_linear(niz_select(y, 1, -1), 3, "head");
}

static niz_t real_targets(void)
{
    return golden_tensor(NIZ_SHAPE(3, 3), TARGET, 1, 0);
}

static niz_t lstm_loss(void)
{
    return niz_mse(head(niz_lstm(input(NIZ_SHAPE(3, 7, 5)), 6, "rnn")), real_targets());
}

static niz_t gru_loss(void)
{
    return niz_mse(head(niz_gru(input(NIZ_SHAPE(3, 7, 5)), 6, "rnn")), real_targets());
}

static niz_t rnn_loss(void)
{
    double t[9];
    for (int i = 0; i < 9; i++) t[i] = (i * 3 + 1) % 2;
    return niz_binary_cross_entropy(head(niz_rnn(input(NIZ_SHAPE(3, 7, 5)), 6, "rnn")),
                                    f64(NIZ_SHAPE(3, 3), t));
}

static const struct {
    const char *name;
    niz_t (*loss)(void);
} models[] = {{"fnn", fnn_loss}, {"cnn", cnn_loss}, {"lstm", lstm_loss}, {"gru", gru_loss},
              {"rnn", rnn_loss}};

static niz_optim golden_optim(const char *model)
{
    if (!strcmp(model, "fnn")) return niz_sgd(.lr = .1, .momentum = .9, .l2 = 1e-3);
    if (!strcmp(model, "cnn")) return niz_adam(.lr = .01, .l2 = 1e-3);
    if (!strcmp(model, "lstm")) return niz_adamw(.lr = .01, .decay = .05);
    if (!strcmp(model, "gru")) return niz_sgd(.lr = .5, .clip_norm = .1);
    return niz_sgd(.lr = .1, .momentum = .9, .nesterov = true);
}

static niz_shape golden_shape(const golden_param *p)
{
    niz_shape s = {p->rank, {0}};
    for (int i = 0; i < p->rank; i++) s.dim[i] = p->shape[i];
    return s;
}

static void set_golden_params(const golden_model *m)
{
    for (int k = 0; k < m->n_params; k++) {
        const golden_param *p = &m->params[k];
        double data[1024], about = strcmp(p->name, "bn1.weight") ? 0 : 1;
        niz_shape s = golden_shape(p);
        for (int64_t i = 0; i < niz_shape_count(&s); i++)
            data[i] = about + golden_value(i, k + 1, .5);
        ck_assert_int_eq(niz_param_set(z, p->name, NIZ_F64, s, true, data), NIZ_OK);
    }
}

static void gradients_are(const golden_model *m, niz_t loss)
{
    for (int k = 0; k < m->n_params; k++) {
        niz_t p = niz_find(z, m->params[k].name), g;
        niz_grad(loss, 1, &p, &g);
        close_to(niz_item(niz_sum(niz_square(g))), m->params[k].grad_sum_sq, 1e-12,
                 m->params[k].name);
    }
}

static void params_are(const golden_model *m)
{
    NIZ_STEP(z);
    for (int k = 0; k < m->n_params; k++) {
        const golden_param *g = &m->params[k];
        niz_t p = niz_find(z, g->name);
        double data[1024];
        int64_t n = values(p, 1024, data);
        has_shape(p, golden_shape(g));
        close_to(niz_item(niz_sum(p)), g->sum, 1e-12, g->name);
        close_to(niz_item(niz_sum(niz_square(p))), g->sum_sq, 1e-12, g->name);
        for (int i = 0; i < 4 && i < n; i++) close_to(data[i], g->head[i], 1e-12, g->name);
    }
}

static void running_are(const golden_model *m)
{
    NIZ_STEP(z);
    has_values(niz_find(z, "bn1.running_mean"), m->channels, m->running_mean, 1e-12);
    has_values(niz_find(z, "bn1.running_var"), m->channels, m->running_var, 1e-12);
}

START_TEST(test_golden)
{
    const golden_model *m = &golden_models[_i];
    ck_assert_str_eq(m->name, models[_i].name);
    niz_optim opt = golden_optim(m->name);
    set_golden_params(m);
    {
        NIZ_STEP(z);
        niz_t loss = models[_i].loss();
        gradients_are(m, loss);
        niz_clear_error(z); /* and the running statistics that this has moved: begin anew */
    }
    niz_close(z);
    open_context();
    set_golden_params(m);
    for (int step = 0; step < 3; step++) {
        NIZ_STEP(z);
        niz_t loss = models[_i].loss();
        niz_minimize(&opt, loss);
        close_to(niz_item(loss), m->loss[step], 1e-12, "loss");
    }
    params_are(m);
    if (m->channels) running_are(m);
    NIZ_STEP(z);
    close_to(niz_item(models[_i].loss()), m->loss[3], 1e-12, "last loss");
}
END_TEST

/* A second step of one form plans nothing, whatever the learning rate. */
START_TEST(test_rates_are_data)
{
    niz_optim opt = golden_optim(golden_models[_i].name);
    set_golden_params(&golden_models[_i]);
    int64_t planned = 0;
    for (int step = 0; step < 6; step++) {
        NIZ_STEP(z);
        niz_t loss = models[_i].loss();
        niz_minimize(&opt, loss);
        niz_item(loss);
        if (step == 1) planned = niz_statistics(z).plans_made;
        opt.lr *= .7;
        if (opt.l2 != 0) opt.l2 *= .5;
        if (opt.decay != 0) opt.decay *= .5;
        if (opt.clip_norm != 0) opt.clip_norm *= 2;
        if (opt.momentum != 0) opt.momentum *= .9;
        opt.beta1 *= .99;
    }
    ck_assert_int_eq(niz_statistics(z).plans_made, planned);
}
END_TEST

/* ---- layers --------------------------------------------------------------------------------- */

START_TEST(test_linear)
{
    NIZ_STEP(z);
    const double x[] = {1, 2, 3, 4, 5, 6}, w[] = {1, 0, 2, -1, 1, 1}, b[] = {.5, -.5};
    const double y[] = {7.5, 3.5, 16.5, 6.5};
    niz_param_set(z, "fc.weight", NIZ_F64, NIZ_SHAPE(2, 3), true, w);
    niz_param_set(z, "fc.bias", NIZ_F64, NIZ_SHAPE(2), true, b);
    has_values(niz_linear(f64(NIZ_SHAPE(2, 3), x), 2, "fc"), 4, y, 0);
    has_values(niz_linear(f64(NIZ_SHAPE(2, 1, 3), x), 2, "fc"), 4, y, 0);
    has_shape(niz_linear(f64(NIZ_SHAPE(2, 1, 3), x), 2, "fc"), NIZ_SHAPE(2, 1, 2));
    has_shape(niz_linear(f64(NIZ_SHAPE(3), x), 2, "fc"), NIZ_SHAPE(2));
    has_shape(niz_linear(niz_zeros(z, NIZ_F32, NIZ_SHAPE(0, 7)), 4, "no", .no_bias = true),
              NIZ_SHAPE(0, 4));
    ck_assert_int_eq(niz_param_count(z), 3);
    ck_assert_str_eq(niz_param_get(z, 2).name, "no.weight");
    ck_assert_int_eq(niz_param_get(z, 2).dtype, NIZ_F32);
}
END_TEST

START_TEST(test_names_have_scopes)
{
    NIZ_STEP(z);
    niz_t x = niz_zeros(z, NIZ_F32, NIZ_SHAPE(2, 3));
    for (int i = 0; i < 2; i++) {
        NIZ_SCOPE(z, "block%d", i);
        x = niz_linear(x, 3, "fc");
    }
    niz_run(z, 1, &x);
    const char *names[] = {"block0.fc.weight", "block0.fc.bias", "block1.fc.weight",
                           "block1.fc.bias"};
    for (int i = 0; i < 4; i++) ck_assert_str_eq(niz_param_get(z, i).name, names[i]);
    NIZ_SCOPE(z, "net");
    niz_linear(niz_zeros(z, NIZ_F32, NIZ_SCALAR), 3, "fc");
    ck_assert_ptr_nonnull(strstr(niz_message(z), "linear at "));
    ck_assert_ptr_nonnull(strstr(niz_message(z), "test_nn.c:"));
    refused(NIZ_E_SHAPE, "(net/fc): needs [B,C] or [..,C], not a scalar");
}
END_TEST

/* Starting values: their range, and that they depend on the name and the seed alone. */
START_TEST(test_starting_values)
{
    NIZ_STEP(z);
    niz_t x = niz_zeros(z, NIZ_F64, NIZ_SHAPE(1, 100)), y = niz_linear(x, 400, "a");
    niz_t w = niz_find(z, "a.weight");
    NIZ_RUN(z, y, w);
    close_to(niz_item(niz_max(w)), .1, 1e-3, "greatest");
    close_to(niz_item(niz_min(w)), -.1, 1e-3, "least");
    close_to(niz_item(niz_mean(w)), 0, 1e-3, "mean");
    close_to(niz_item(niz_mean(niz_square(w))), .01 / 3, 1e-4, "variance");
    niz_linear(x, 400, "k", .weight = niz_kaiming_normal_init(100), .no_bias = true);
    close_to(niz_item(niz_mean(niz_square(niz_find(z, "k.weight")))), .02, 1e-3, "kaiming");
    niz_linear(x, 4, "c", .weight = niz_constant_init(3), .bias = niz_constant_init(0));
    ck_assert_double_eq(niz_item(niz_min(niz_find(z, "c.weight"))), 3);
    ck_assert_double_eq(niz_item(niz_max(niz_find(z, "c.bias"))), 0);
}
END_TEST

START_TEST(test_initialisers)
{
    niz_init a = niz_kaiming_uniform_init(24), b = niz_kaiming_uniform_init(25, .slope = sqrt(5));
    niz_init c = niz_xavier_uniform_init(2, 4), d = niz_xavier_normal_init(20, 30, .gain = 5 / 3.);
    niz_init e = niz_kaiming_normal_init(8), none = niz_kaiming_uniform_init(0);
    close_to(a.b, .5, 1e-15, "kaiming");
    close_to(b.b, .2, 1e-15, "kaiming, slope");
    close_to(c.b, 1, 1e-15, "xavier");
    close_to(d.b, 1 / 3., 1e-15, "xavier, normal");
    close_to(e.b, .5, 1e-15, "kaiming, normal");
    ck_assert(a.a == -a.b && none.b == 0);
    ck_assert(a.kind == NIZ_INIT_UNIFORM && d.kind == NIZ_INIT_NORMAL);
}
END_TEST

START_TEST(test_layers_refuse)
{
    NIZ_STEP(z);
    niz_t x = niz_zeros(z, NIZ_F32, NIZ_SHAPE(2, 4, 5, 5));
    niz_t i = niz_zeros(z, NIZ_I32, NIZ_SHAPE(2, 4)), v = niz_zeros(z, NIZ_F32, NIZ_SHAPE(2, 4));
    niz_linear(x, 3, NULL), refused(NIZ_E_ARGUMENT, "a layer's name");
    niz_linear(x, 3, ""), refused(NIZ_E_ARGUMENT, "a layer's name");
    niz_linear(i, 3, "l"), refused(NIZ_E_DTYPE, "needs f32 or f64, not i32[2,4]");
    niz_linear(x, -1, "l"), refused(NIZ_E_SHAPE, "negative");
    niz_linear(v, 3, "w"), niz_linear(x, 3, "w"), refused(NIZ_E_SHAPE, "w.weight");
    niz_conv2d(v, 3, 3, "c"), refused(NIZ_E_SHAPE, "conv2d at");
    niz_conv2d(x, 3, 3, "c", .groups = 3), refused(NIZ_E_ARGUMENT, "3 groups");
    niz_conv2d(x, 3, 0, "c"), refused(NIZ_E_ARGUMENT, "window");
    niz_conv2d(x, 3, 7, "c"), refused(NIZ_E_SHAPE, "conv2d at");
    niz_max_pool2d(v, 2), refused(NIZ_E_SHAPE, "needs [B,C,H,W], not f32[2,4]");
    niz_max_pool2d(x, 6), refused(NIZ_E_SHAPE, "does not fit into f32[2,4,5,5]");
    niz_max_pool2d(x, 2, .pad = 2), refused(NIZ_E_ARGUMENT, "padding");
    niz_avg_pool2d(x, 0), refused(NIZ_E_ARGUMENT, "windows of 0");
    niz_dropout(x, 1.5), refused(NIZ_E_ARGUMENT, "1.5");
    niz_dropout(x, NAN), refused(NIZ_E_ARGUMENT, "probability");
    niz_batch_norm(niz_select(x, 0, 0), "b");
    ck_assert_int_eq(niz_error(z), NIZ_OK);
    niz_batch_norm(niz_zeros(z, NIZ_F32, NIZ_SHAPE(1, 4)), "b1"),
        refused(NIZ_E_SHAPE, "more than one element a channel");
    niz_embedding(v, 5, 3, "e"), refused(NIZ_E_DTYPE, "an index is i32 or i64");
    niz_embedding(i, 5, 3, "e", .dtype = NIZ_I32), refused(NIZ_E_DTYPE, "a table is f32 or f64");
    niz_rnn(v, 3, "r"), refused(NIZ_E_SHAPE, "needs [B,T,C]");
    niz_t s = niz_zeros(z, NIZ_F32, NIZ_SHAPE(2, 3, 4));
    niz_rnn(s, 0, "r"), refused(NIZ_E_ARGUMENT, "hidden size");
    niz_rnn(s, 5, "r", .h0 = v), refused(NIZ_E_SHAPE, "h0 is f32[2,5], not f32[2,4]");
    niz_gru(s, 5, "r", .relu = true), refused(NIZ_E_ARGUMENT, ".relu");
    niz_gru(s, 4, "r", .c0 = v), refused(NIZ_E_ARGUMENT, ".c0");
    niz_rnn_cell(v, niz_zeros(z, NIZ_F32, NIZ_SHAPE(3, 4)), "r"), refused(NIZ_E_SHAPE, "h is");
}
END_TEST

START_TEST(test_stale_operands)
{
    niz_t old;
    {
        NIZ_STEP(z);
        old = niz_zeros(z, NIZ_F32, NIZ_SHAPE(2, 3, 4));
    }
    NIZ_STEP(z);
    niz_linear(old, 3, "l"), refused(NIZ_E_STALE, "linear at");
    niz_lstm(old, 3, "l"), refused(NIZ_E_STALE, "lstm at");
    niz_mse(old, old), refused(NIZ_E_STALE, "mse at");
    niz_optim opt = niz_sgd();
    niz_minimize(&opt, old), refused(NIZ_E_STALE, "minimize at");
    niz_linear(NIZ_NO_TENSOR, 3, "l"), niz_dropout(NIZ_NO_TENSOR, .5);
    ck_assert_int_eq(niz_param_count(z), 0);
}
END_TEST

/* Pools written out, over windows of every kind. */
static double pool_of(const double *x, int64_t n, int64_t size, int64_t from, bool max)
{
    double y = max ? -INFINITY : 0;
    for (int64_t i = from; i < from + size; i++) {
        double v = i >= 0 && i < n ? x[i] : max ? -INFINITY : 0;
        y = max ? fmax(y, v) : y + v / (double)size;
    }
    return y;
}

START_TEST(test_pool_1d)
{
    NIZ_STEP(z);
    double x[12], expected[16];
    for (int i = 0; i < 12; i++) x[i] = golden_value(i, 5, -1);
    for (int size = 1; size <= 5; size++)
        for (int stride = 0; stride <= 4; stride++)
            for (int pad = 0; pad <= size / 2; pad++)
                for (int max = 0; max < 2; max++) {
                    int64_t step = stride ? stride : size, n = (12 + 2 * pad - size) / step + 1;
                    for (int64_t i = 0; i < n; i++)
                        expected[i] = pool_of(x, 12, size, i * step - pad, max);
                    niz_t t = f64(NIZ_SHAPE(1, 1, 12), x);
                    niz_t y = max ? niz_max_pool1d(t, size, .stride = stride, .pad = pad)
                                  : niz_avg_pool1d(t, size, .stride = stride, .pad = pad);
                    has_shape(y, NIZ_SHAPE(1, 1, n));
                    has_values(y, n, expected, 1e-15);
                }
}
END_TEST

START_TEST(test_pool_2d)
{
    NIZ_STEP(z);
    niz_t x = niz_reshape(niz_iota(z, NIZ_F64, NIZ_SHAPE(36), 0), NIZ_SHAPE(1, 1, 6, 6));
    const double side[] = {7, 9, 11, 19, 21, 23, 31, 33, 35}, mean[] = {7, 10, 25, 28};
    const double wide[] = {0, 2, 4, 12, 14, 16, 24, 26, 28};
    has_values(niz_max_pool2d(x, 2), 9, side, 0);
    has_values(niz_avg_pool2d(x, 3), 4, mean, 1e-15);
    has_values(niz_max_pool2d(x, 1, .stride = 2), 9, wide, 0);
    has_shape(niz_max_pool3d(niz_zeros(z, NIZ_F32, NIZ_SHAPE(1, 2, 4, 6, 5)), 2),
              NIZ_SHAPE(1, 2, 2, 3, 2));
    has_shape(niz_avg_pool3d(niz_zeros(z, NIZ_F32, NIZ_SHAPE(1, 2, 4, 6, 8)), 2),
              NIZ_SHAPE(1, 2, 2, 3, 4));
}
END_TEST

START_TEST(test_conv_options)
{
    NIZ_STEP(z);
    niz_t x = niz_zeros(z, NIZ_F32, NIZ_SHAPE(2, 4, 9, 9));
    has_shape(niz_conv2d(x, 6, 3, "a", .stride = 2, .pad = 1), NIZ_SHAPE(2, 6, 5, 5));
    has_shape(niz_conv2d(x, 6, 3, "b", .sizes = {1, 5}, .strides = {3, 1}, .dilations = {1, 2}),
              NIZ_SHAPE(2, 6, 3, 1));
    has_shape(niz_find(z, "b.weight"), NIZ_SHAPE(6, 4, 1, 5));
    has_shape(niz_conv2d(x, 6, 3, "c", .groups = 2, .no_bias = true), NIZ_SHAPE(2, 6, 7, 7));
    has_shape(niz_find(z, "c.weight"), NIZ_SHAPE(6, 2, 3, 3));
    has_shape(niz_conv1d(niz_zeros(z, NIZ_F32, NIZ_SHAPE(2, 4, 9)), 3, 2, "d"),
              NIZ_SHAPE(2, 3, 8));
    has_shape(niz_conv3d(niz_zeros(z, NIZ_F32, NIZ_SHAPE(2, 4, 5, 5, 5)), 3, 2, "e"),
              NIZ_SHAPE(2, 3, 4, 4, 4));
    ck_assert_int_eq(niz_param_count(z), 9);
}
END_TEST

START_TEST(test_dropout)
{
    NIZ_STEP(z);
    niz_t x = niz_full(z, NIZ_F64, NIZ_SHAPE(1000, 100), 3);
    niz_t y = niz_dropout(x, .25), other = niz_dropout(x, .25);
    niz_t zeros = niz_mean(niz_cast(niz_eq(y, 0.0), NIZ_F64));
    niz_t differ = niz_mean(niz_cast(niz_ne(y, other), NIZ_F64));
    niz_t g, sum = niz_sum(y);
    niz_grad(sum, 1, &x, &g);
    NIZ_RUN(z, zeros, differ, g, sum);
    close_to(niz_item(zeros), .25, 5e-3, "share of zeros");
    close_to(niz_item(differ), 2 * .25 * .75, 5e-3, "two draws");
    close_to(niz_item(niz_max(y)), 4, 1e-15, "scale");
    close_to(niz_item(niz_mean(y)), 3, 2e-2, "mean");
    close_to(niz_item(niz_max(niz_abs(niz_sub(niz_mul(g, 3.0), y)))), 0, 1e-15, "gradient");
    ck_assert_double_eq(niz_item(niz_max(niz_dropout(x, 1))), 0);
    ck_assert_int_eq(niz_dropout(x, 0).id, x.id);
    niz_set_training(z, false);
    ck_assert_int_eq(niz_dropout(x, .25).id, x.id);
}
END_TEST

START_TEST(test_batch_norm)
{
    const double x[] = {1, 10, 2, 20, 3, 30, 6, 40}; /* [4,2] */
    double y[8], mean[2], var[2];
    for (int c = 0; c < 2; c++) {
        double m = 0, v = 0;
        for (int i = 0; i < 4; i++) m += x[2 * i + c] / 4;
        for (int i = 0; i < 4; i++) v += (x[2 * i + c] - m) * (x[2 * i + c] - m) / 4;
        for (int i = 0; i < 4; i++) y[2 * i + c] = (x[2 * i + c] - m) / sqrt(v + .5);
        mean[c] = .2 * m;
        var[c] = .8 + .2 * v * 4 / 3;
    }
    {
        NIZ_STEP(z);
        niz_t t = niz_batch_norm(f64(NIZ_SHAPE(4, 2), x), "bn", .momentum = .2, .eps = .5);
        has_values(t, 8, y, 1e-14);
    }
    niz_set_training(z, false);
    NIZ_STEP(z);
    has_values(niz_find(z, "bn.running_mean"), 2, mean, 1e-14);
    has_values(niz_find(z, "bn.running_var"), 2, var, 1e-14);
    for (int i = 0; i < 8; i++) y[i] = (x[i] - mean[i % 2]) / sqrt(var[i % 2] + .5);
    has_values(niz_batch_norm(f64(NIZ_SHAPE(4, 2), x), "bn", .eps = .5), 8, y, 1e-14);
    ck_assert(!niz_param_get(z, 2).trainable && niz_param_get(z, 0).trainable);
    has_shape(niz_batch_norm(f64(NIZ_SHAPE(1, 2, 2, 2), x), "bn"), NIZ_SHAPE(1, 2, 2, 2));
}
END_TEST

START_TEST(test_layer_norm)
{
    NIZ_STEP(z);
    const double x[] = {1, 2, 6, -1, 0, 1}, w[] = {1, 2, 3}, b[] = {0, .5, 1};
    double y[6];
    for (int r = 0; r < 2; r++) {
        double m = (x[3 * r] + x[3 * r + 1] + x[3 * r + 2]) / 3, v = 0;
        for (int i = 0; i < 3; i++) v += (x[3 * r + i] - m) * (x[3 * r + i] - m) / 3;
        for (int i = 0; i < 3; i++)
            y[3 * r + i] = (x[3 * r + i] - m) / sqrt(v + 1e-5) * w[i] + b[i];
    }
    niz_param_set(z, "ln.weight", NIZ_F64, NIZ_SHAPE(3), true, w);
    niz_param_set(z, "ln.bias", NIZ_F64, NIZ_SHAPE(3), true, b);
    has_values(niz_layer_norm(f64(NIZ_SHAPE(2, 3), x), "ln"), 6, y, 1e-14);
}
END_TEST

START_TEST(test_embedding)
{
    NIZ_STEP(z);
    const double table[] = {0, 1, 10, 11, 20, 21}, y[] = {20, 21, 0, 1, 20, 21};
    const int64_t index[] = {2, 0, 2};
    const double counts[] = {1, 1, 0, 0, 2, 2};
    niz_param_set(z, "emb.weight", NIZ_F64, NIZ_SHAPE(3, 2), true, table);
    niz_t i = niz_copy_from(z, NIZ_I64, NIZ_SHAPE(3, 1), index), g;
    niz_t e = niz_embedding(i, 3, 2, "emb", .dtype = NIZ_F64), w = niz_find(z, "emb.weight");
    has_shape(e, NIZ_SHAPE(3, 1, 2));
    has_values(e, 6, y, 0);
    niz_grad(niz_sum(e), 1, &w, &g);
    has_values(g, 6, counts, 0);
    niz_t other = niz_embedding(i, 500, 100, "normal"), v = niz_find(z, "normal.weight");
    NIZ_RUN(z, other, v);
    close_to(niz_item(niz_mean(v)), 0, 2e-2, "mean");
    close_to(niz_item(niz_mean(niz_square(v))), 1, 2e-2, "variance");
    const int32_t wrong[] = {3};
    niz_item(niz_sum(niz_embedding(niz_copy_from(z, NIZ_I32, NIZ_SHAPE(1), wrong), 3, 2, "emb",
                                   .dtype = NIZ_F64)));
    refused(NIZ_E_INDEX, "3");
}
END_TEST

/* ---- recurrent layers ----------------------------------------------------------------------- */

/* Copies the parameters of the sequence "seq" to the cell "cell". */
static void share_weights(void)
{
    const char *stems[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    for (int i = 0; i < 4; i++) {
        char from[48], to[48];
        snprintf(from, sizeof from, "seq.%s_l0", stems[i]);
        snprintf(to, sizeof to, "cell.%s", stems[i]);
        for (int64_t k = 0; k < niz_param_count(z); k++) {
            niz_param_info p = niz_param_get(z, k);
            if (strcmp(p.name, from)) continue;
            niz_param_set(z, to, p.dtype, p.shape, true, p.data);
            break;
        }
    }
}

/* One step of net (0 rnn, 1 lstm, 2 gru) by its cell. */
static niz_lstm_state cell_step(int net, niz_t x, niz_lstm_state s)
{
    if (net == 1) return niz_lstm_cell(x, s, "cell");
    return (niz_lstm_state){net ? niz_gru_cell(x, s.h, "cell") : niz_rnn_cell(x, s.h, "cell"), s.c};
}

static double greatest_difference(niz_t a, niz_t b)
{
    return niz_item(niz_max(niz_abs(niz_sub(a, b))));
}

/* A sequence is its cell step by step, from zeros or from a given state. */
START_TEST(test_sequence_is_cells)
{
    enum { B = 2, T = 5, C = 3, H = 4 };
    NIZ_STEP(z);
    niz_t x = input(NIZ_SHAPE(B, T, C)), h, c = NIZ_NO_TENSOR, y, zero;
    zero = niz_zeros(z, NIZ_F64, NIZ_SHAPE(B, H));
    niz_t h0 = _i < 3 ? NIZ_NO_TENSOR : golden_tensor(NIZ_SHAPE(B, H), 3, 1, 0);
    niz_t c0 = _i == 4 ? golden_tensor(NIZ_SHAPE(B, H), 4, 1, 0) : NIZ_NO_TENSOR;
    int net = _i % 3;
    if (net == 0) y = niz_rnn(x, H, "seq", .h0 = h0, .h_out = &h);
    if (net == 1) y = niz_lstm(x, H, "seq", .h0 = h0, .c0 = c0, .h_out = &h, .c_out = &c);
    if (net == 2) y = niz_gru(x, H, "seq", .h0 = h0, .h_out = &h);
    has_shape(y, NIZ_SHAPE(B, T, H));
    NIZ_RUN(z, y, h);
    share_weights();
    niz_lstm_state s = {h0.z ? h0 : zero, c0.z ? c0 : zero};
    for (int t = 0; t < T; t++) {
        s = cell_step(net, niz_select(x, 1, t), s);
        ck_assert_double_le(greatest_difference(s.h, niz_select(y, 1, t)), 1e-15);
    }
    ck_assert_double_le(greatest_difference(s.h, h), 1e-15);
    if (net == 1) ck_assert_double_le(greatest_difference(s.c, c), 1e-15);
}
END_TEST

START_TEST(test_recurrent_forms)
{
    NIZ_STEP(z);
    niz_t x = niz_zeros(z, NIZ_F32, NIZ_SHAPE(2, 3, 4)), h;
    niz_t y = niz_lstm(niz_lstm(x, 5, "rnn"), 5, "rnn", .layer = 1, .no_bias = true);
    has_shape(y, NIZ_SHAPE(2, 3, 5));
    has_shape(niz_find(z, "rnn.weight_ih_l0"), NIZ_SHAPE(20, 4));
    has_shape(niz_find(z, "rnn.weight_ih_l1"), NIZ_SHAPE(20, 5));
    ck_assert_int_eq(niz_param_count(z), 6);
    y = niz_gru(niz_zeros(z, NIZ_F32, NIZ_SHAPE(2, 0, 4)), 5, "empty", .h_out = &h);
    has_shape(y, NIZ_SHAPE(2, 0, 5));
    ck_assert_double_eq(niz_item(niz_sum(h)), 0);
    y = niz_rnn(niz_zeros(z, NIZ_F32, NIZ_SHAPE(1, 200, 2)), 3, "long", .relu = true);
    has_shape(y, NIZ_SHAPE(1, 200, 3));
    ck_assert_double_ge(niz_item(niz_min(y)), 0);
    ck_assert_double_gt(niz_item(niz_max(y)), 0);
}
END_TEST

/* The gradient through a sequence against central differences. */
START_TEST(test_sequence_gradient)
{
    NIZ_STEP(z);
    double data[24];
    for (int i = 0; i < 24; i++) data[i] = golden_value(i, 9, 1);
    niz_t x = f64(NIZ_SHAPE(2, 4, 3), data), g, v = golden_tensor(NIZ_SHAPE(2, 4, 5), 11, 1, 0);
    niz_t loss = niz_sum(niz_mul(niz_gru(x, 5, "gru"), v));
    niz_grad(loss, 1, &x, &g);
    double dx[24];
    values(g, 24, dx);
    for (int i = 0; i < 24; i += 5) {
        double side[2];
        for (int k = 0; k < 2; k++) {
            double old = data[i];
            data[i] += k ? 1e-5 : -1e-5;
            side[k] = niz_item(niz_sum(niz_mul(niz_gru(f64(NIZ_SHAPE(2, 4, 3), data), 5, "gru"),
                                               v)));
            data[i] = old;
        }
        close_to((side[1] - side[0]) / 2e-5, dx[i], 1e-8, "derivative");
    }
}
END_TEST

/* ---- losses --------------------------------------------------------------------------------- */

START_TEST(test_mse)
{
    NIZ_STEP(z);
    const double a[] = {1, 2, 3}, b[] = {2, 0, 3}, each[] = {1, 4, 0};
    niz_t y = f64(NIZ_SHAPE(3), a), t = f64(NIZ_SHAPE(3), b);
    close_to(niz_item(niz_mse(y, t)), 5 / 3., 1e-15, "mean");
    ck_assert_double_eq(niz_item(niz_mse(y, t, .reduction = NIZ_REDUCE_SUM)), 5);
    has_values(niz_mse(y, t, .reduction = NIZ_REDUCE_NONE), 3, each, 0);
    niz_mse(y, f64(NIZ_SHAPE(3, 1), b)), refused(NIZ_E_SHAPE, "the target is f64[3,1]");
    niz_mse(y, niz_zeros(z, NIZ_F32, NIZ_SHAPE(3))), refused(NIZ_E_DTYPE, "the target is f32[3]");
    niz_mse(y, t, .reduction = (niz_reduction)7), refused(NIZ_E_ARGUMENT, "reduction");
}
END_TEST

START_TEST(test_cross_entropy)
{
    NIZ_STEP(z);
    const double x[] = {1, 2, 3, 1000, 0, -1000}, s = log(exp(-2) + exp(-1) + 1);
    const double each[] = {2 + s, 1000};
    const int32_t y[] = {0, 1};
    niz_t l = f64(NIZ_SHAPE(2, 3), x), c = niz_copy_from(z, NIZ_I32, NIZ_SHAPE(2), y);
    has_values(niz_cross_entropy(l, c, .reduction = NIZ_REDUCE_NONE), 2, each, 1e-15);
    close_to(niz_item(niz_cross_entropy(l, c)), (each[0] + each[1]) / 2, 1e-15, "mean");
    double smooth = .9 * (2 + s) + .1 * (1 + s);
    niz_t one = niz_cross_entropy(niz_slice(l, 0, 0, 1, 1), niz_slice(c, 0, 0, 1, 1),
                                  .label_smoothing = .1);
    close_to(niz_item(one), smooth, 1e-15, "smoothed");
    ck_assert_double_eq(niz_item(niz_accuracy(l, c)), 0);
    /* classes along axis 1 of three, and a single sample without a batch */
    niz_t many = niz_reshape(l, NIZ_SHAPE(1, 3, 2));
    has_shape(niz_cross_entropy(many, niz_reshape(c, NIZ_SHAPE(1, 2)),
                                .reduction = NIZ_REDUCE_NONE), NIZ_SHAPE(1, 2));
    niz_t single = niz_cross_entropy(niz_select(l, 0, 0), niz_select(c, 0, 0));
    close_to(niz_item(single), 2 + s, 1e-15, "one sample");
    niz_cross_entropy(l, niz_cast(c, NIZ_F64)), refused(NIZ_E_DTYPE, "classes are i32 or i64");
    niz_cross_entropy(l, niz_reshape(c, NIZ_SHAPE(2, 1))), refused(NIZ_E_SHAPE, "one class a");
    niz_cross_entropy(l, c, .label_smoothing = 2), refused(NIZ_E_ARGUMENT, "label_smoothing");
    const int64_t outside[] = {0, 3};
    niz_item(niz_cross_entropy(l, niz_copy_from(z, NIZ_I64, NIZ_SHAPE(2), outside)));
    refused(NIZ_E_INDEX, "3");
}
END_TEST

START_TEST(test_binary_cross_entropy)
{
    NIZ_STEP(z);
    const double x[] = {-1000, 1000, 1000, 0, 50}, t[] = {0, 1, 0, .25, 1};
    const double each[] = {0, 0, 1000, log(2), log1p(exp(-50))};
    const double slope[] = {0, 0, 1, .25, -exp(-50)};
    niz_t l = f64(NIZ_SHAPE(5), x), g;
    niz_t y = niz_binary_cross_entropy(l, f64(NIZ_SHAPE(5), t), .reduction = NIZ_REDUCE_NONE);
    has_values(y, 5, each, 1e-15);
    niz_grad(niz_sum(y), 1, &l, &g);
    has_values(g, 5, slope, 1e-15);
    double v[5];
    values(y, 5, v);
    ck_assert_double_eq_tol(v[4] / log1p(exp(-50)), 1, 1e-12); /* not cancelled to 0 */
}
END_TEST

START_TEST(test_accuracy)
{
    NIZ_STEP(z);
    const float x[] = {1, 2, 0, 5, 4, 3, 0, 0, 1, 9, 9, 9};
    const int32_t y[] = {1, 0, 1, 0};
    niz_t a = niz_accuracy(niz_copy_from(z, NIZ_F32, NIZ_SHAPE(4, 3), x),
                           niz_copy_from(z, NIZ_I32, NIZ_SHAPE(4), y));
    ck_assert_double_eq(niz_item(a), .75);
    ck_assert_int_eq(niz_dtype_of(a), NIZ_F32);
}
END_TEST

/* ---- optimisers ----------------------------------------------------------------------------- */

static niz_t scalar_param(const char *name, niz_dtype dtype, double start)
{
    return niz_param(z, name, dtype, NIZ_SCALAR, niz_constant_init(start));
}

static double param_value(const char *name)
{
    NIZ_STEP(z);
    return niz_item(niz_find(z, name));
}

START_TEST(test_state_names)
{
    niz_optim a = niz_adam(.lr = .1, .name = "opt"), s = niz_sgd(.lr = .1, .momentum = .5);
    for (int i = 0; i < 2; i++) {
        NIZ_STEP(z);
        NIZ_SCOPE(z, "net");
        niz_t w = niz_param(z, "w", NIZ_F32, NIZ_SHAPE(2, 3), niz_constant_init(1));
        niz_minimize(&a, niz_sum(niz_square(w)));
        niz_minimize(&s, niz_sum(niz_square(w)));
    }
    const char *names[] = {"net.w", "opt/step", "opt/net.w.m", "opt/net.w.v", "sgd/net.w.momentum"};
    ck_assert_int_eq(niz_param_count(z), 5);
    for (int i = 0; i < 5; i++) {
        niz_param_info p = niz_param_get(z, i);
        ck_assert_str_eq(p.name, names[i]);
        ck_assert_int_eq(p.trainable, i == 0);
        ck_assert_int_eq(p.dtype, i == 1 ? NIZ_I64 : NIZ_F32);
    }
    ck_assert_double_eq(param_value("opt/step"), 2);
}
END_TEST

START_TEST(test_selection)
{
    static const struct {
        const char *pattern;
        int moved; /* bits of the parameters below */
    } cases[] = {{NULL, 15}, {"", 15}, {"a", 3}, {"a.w", 1}, {"a.", 3}, {"*.w", 13}, {"?.w", 1},
                 {"*", 15}, {"ab", 4}, {"c*.w", 8}, {"*.*w*", 13}, {"a*", 7},
                 {"!a", 12}, {"!a.w", 14}, {"!*.w", 2}, {"a,ab", 7}, {" a.b , cd ", 10},
                 {"a, !a.b", 1}, {"!a.b,a", 1}, {"!ab,!cd", 3}, {"*,!*.w,", 2}, {"!zz", 15},
                 {",", 15}, {"!", 15}};
    const char *names[] = {"a.w", "a.b", "ab.w", "cd.w"};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        double before[4];
        {
            NIZ_STEP(z);
            niz_t sum = niz_scalar(z, NIZ_F64, 0);
            for (int i = 0; i < 4; i++) sum = niz_add(sum, scalar_param(names[i], NIZ_F64, 0));
            for (int i = 0; i < 4; i++) before[i] = niz_item(niz_find(z, names[i]));
            niz_optim opt = niz_sgd(.lr = 1, .params = cases[k].pattern);
            niz_minimize(&opt, sum);
        }
        for (int i = 0; i < 4; i++)
            ck_assert_double_eq(param_value(names[i]), before[i] - (cases[k].moved >> i & 1));
    }
    NIZ_STEP(z);
    niz_optim none = niz_sgd(.params = "b");
    niz_minimize(&none, niz_square(scalar_param("a.w", NIZ_F64, 0)));
    refused(NIZ_E_ARGUMENT, "no parameter that the loss reaches matches \"b\"");
}
END_TEST

START_TEST(test_minimize_refuses)
{
    NIZ_STEP(z);
    niz_t w = niz_param(z, "w", NIZ_F32, NIZ_SHAPE(2), niz_constant_init(1)), loss = niz_sum(w);
    niz_optim opt = niz_sgd(), bad = opt;
    niz_minimize(&opt, niz_scalar(z, NIZ_F32, 1)), refused(NIZ_E_ARGUMENT, "no trainable param");
    niz_t s = niz_state(z, "s", NIZ_F32, NIZ_SCALAR, niz_constant_init(1));
    niz_minimize(&opt, niz_square(s)), refused(NIZ_E_ARGUMENT, "no trainable parameter");
    niz_minimize(&opt, w), refused(NIZ_E_SHAPE, "minimize at");
    niz_minimize(NULL, loss), refused(NIZ_E_ARGUMENT, "no optimiser");
    bad.lr = -1, niz_minimize(&bad, loss), refused(NIZ_E_ARGUMENT, ".lr");
    bad = niz_adam(.beta2 = 1), niz_minimize(&bad, loss), refused(NIZ_E_ARGUMENT, ".beta");
    bad = niz_adam(.eps = NAN), niz_minimize(&bad, loss), refused(NIZ_E_ARGUMENT, ".eps");
    bad = niz_sgd(.name = ""), niz_minimize(&bad, loss), refused(NIZ_E_ARGUMENT, ".name");
}
END_TEST

/* What no gradient reaches is left alone, decay or not. */
START_TEST(test_stopped_is_not_updated)
{
    {
        NIZ_STEP(z);
        niz_t a = scalar_param("a", NIZ_F32, 1), b = scalar_param("b", NIZ_F32, 1);
        niz_optim opt = niz_adamw(.lr = .1, .decay = .5);
        niz_minimize(&opt, niz_mul(a, niz_stop_gradient(b)));
    }
    ck_assert_double_lt(param_value("a"), 1);
    ck_assert_double_eq(param_value("b"), 1);
}
END_TEST

/* Parameters of two dtypes under one optimiser, with clipping over both. */
START_TEST(test_two_dtypes)
{
    niz_optim opt = niz_sgd(.lr = 1, .clip_norm = 1);
    {
        NIZ_STEP(z);
        niz_t a = scalar_param("a", NIZ_F32, 0), b = scalar_param("b", NIZ_F64, 0);
        niz_t loss = niz_add(niz_mul(niz_cast(a, NIZ_F64), 3.0), niz_mul(b, 4.0));
        niz_minimize(&opt, loss);
        niz_item(loss);
    }
    close_to(param_value("a"), -.6, 1e-6, "f32");
    close_to(param_value("b"), -.8, 1e-6, "f64");
}
END_TEST

START_TEST(test_updates_are_not_dropped)
{
    niz_optim opt = niz_sgd(.lr = .25);
    for (int i = 0; i < 3; i++) {
        NIZ_STEP(z);
        niz_minimize(&opt, niz_square(scalar_param("w", NIZ_F64, 8)));
    }
    ck_assert_double_eq(param_value("w"), 1);
}
END_TEST

/* Two losses recorded before either update: both gradients are taken where the losses were. */
START_TEST(test_two_updates_in_a_step)
{
    niz_optim a = niz_sgd(.lr = .5, .name = "a"), b = niz_sgd(.lr = .25, .name = "b");
    {
        NIZ_STEP(z);
        niz_t w = scalar_param("w", NIZ_F64, 8), one = niz_square(w), two = niz_square(w);
        niz_minimize(&a, one); /* 8 - .5 * 16 = 0 */
        niz_minimize(&b, two); /* 0 - .25 * 16 = -4 */
    }
    ck_assert_double_eq(param_value("w"), -4);
}
END_TEST

/* A snapshot holds the optimiser too: a training restored goes on as the first time. */
START_TEST(test_snapshot_resumes)
{
    niz_optim opt = niz_adam(.lr = .1);
    niz_snapshot *half = NULL;
    double end[2];
    for (int run = 0; run < 2; run++) {
        if (run) ck_assert_int_eq(niz_snapshot_restore(z, half), NIZ_OK);
        for (int i = run ? 3 : 0; i < 6; i++) {
            if (i == 3 && !run) half = niz_snapshot_take(z);
            NIZ_STEP(z);
            niz_t d = niz_sub(scalar_param("w", NIZ_F64, 3), 1.0);
            niz_minimize(&opt, niz_square(d));
        }
        end[run] = param_value("w");
    }
    niz_snapshot_free(z, half);
    ck_assert_double_eq(end[0], end[1]);
    ck_assert_double_eq(param_value("adam/step"), 6);
}
END_TEST

START_TEST(test_clip)
{
    NIZ_STEP(z);
    const double a[] = {3, 0}, b[] = {4}, half[] = {1.5, 0};
    niz_t g[] = {f64(NIZ_SHAPE(2), a), NIZ_NO_TENSOR, f64(NIZ_SHAPE(1), b)};
    niz_t same[] = {g[0], g[2]};
    niz_t norm = niz_clip_by_norm(3, g, 2.5), wide = niz_clip_by_norm(2, same, 7);
    ck_assert_double_eq(niz_item(norm), 5);
    ck_assert_double_eq(niz_item(wide), 5);
    has_values(g[0], 2, half, 1e-6);
    has_values(same[0], 2, a, 0);
    niz_clip_by_norm(2, same, 0), refused(NIZ_E_ARGUMENT, "above 0");
}
END_TEST

/* A loss computed from an updated parameter is not a loss of what made the update: as in PyTorch,
 * an optimiser's step is no function to differentiate.  First (a b)^2, then (a' - 3)^2. */
START_TEST(test_updates_pass_no_gradient)
{
    for (int runs = 0; runs < 2; runs++) {
        niz *c = niz_open(NULL);
        niz_optim first = niz_sgd(.lr = 0.1), second = niz_sgd(.lr = 0.5);
        {
            NIZ_STEP(c);
            niz_t a = niz_param(c, "a", NIZ_F64, NIZ_SCALAR, niz_constant_init(2));
            niz_t b = niz_param(c, "b", NIZ_F64, NIZ_SCALAR, niz_constant_init(1)), p[3];
            niz_t loss = niz_square(niz_mul(a, b));
            niz_minimize(&first, loss); /* a -= 0.1 * 2 a b b: 1.6; b -= 0.1 * 2 a b a: 0.2 */
            if (runs) ck_assert_double_eq(niz_item(loss), 4);
            niz_t other = niz_square(niz_sub(niz_find(c, "a"), 3.0));
            ck_assert_int_eq(niz_params_of(other, 3, p), 1);
            niz_minimize(&second, other); /* a -= 0.5 * 2 (a - 3): 3 */
        }
        ck_assert_msg(!niz_error(c), "%s", niz_message(c));
        ck_assert_double_eq_tol(niz_item(niz_find(c, "a")), 3, 1e-15);
        ck_assert_double_eq_tol(niz_item(niz_find(c, "b")), 0.2, 1e-15);
        niz_close(c);
    }
}
END_TEST

/* An update from given gradients is what niz_minimize makes of its own. */
START_TEST(test_update)
{
    niz_optim opts[] = {niz_sgd(.lr = .1, .momentum = .5, .l2 = .1),
                        niz_adamw(.lr = .1, .clip_norm = .5),
                        niz_adam(.lr = .1, .params = "a")};
    for (int k = 0; k < 3; k++) {
        double end[2][4];
        for (int given = 0; given < 2; given++) {
            niz *kept = z;
            open_context();
            for (int i = 0; i < 3; i++) {
                NIZ_STEP(z);
                niz_t a = scalar_param("a", NIZ_F32, 2), b = scalar_param("b", NIZ_F32, 3);
                niz_t loss = niz_add(niz_square(a), niz_mul(niz_square(b), a));
                if (given) {
                    niz_t p[] = {a, b}, g[2];
                    niz_grad(loss, 2, p, g);
                    if (k == 2) g[1] = NIZ_NO_TENSOR;
                    niz_update(&opts[k], 2, p, g);
                } else {
                    niz_minimize(&opts[k], loss);
                }
            }
            end[given][0] = param_value("a");
            end[given][1] = param_value("b");
            end[given][2] = (double)niz_param_count(z);
            end[given][3] = k ? param_value(k == 1 ? "adamw/step" : "adam/a/step") : 0;
            close_context();
            z = kept;
        }
        for (int i = 0; i < 4; i++) ck_assert_double_eq(end[0][i], end[1][i]);
        ck_assert_double_ne(end[0][0], 2);
    }
}
END_TEST

START_TEST(test_update_refuses)
{
    NIZ_STEP(z);
    niz_optim opt = niz_sgd();
    niz_t a = scalar_param("a", NIZ_F32, 2), g = niz_scalar(z, NIZ_F32, 1), none = NIZ_NO_TENSOR;
    niz_t s = niz_state(z, "s", NIZ_F32, NIZ_SCALAR, niz_constant_init(1));
    niz_t d = niz_cast(g, NIZ_F64), wide = niz_ones(z, NIZ_F32, NIZ_SHAPE(1));
    niz_update(&opt, 1, &g, &g), refused(NIZ_E_ARGUMENT, "update at");
    niz_update(&opt, 1, &s, &g), refused(NIZ_E_ARGUMENT, "not \"s\"");
    niz_update(&opt, 1, &a, &d), refused(NIZ_E_DTYPE, "the gradient of \"a\", f32[], is f64[]");
    niz_update(&opt, 1, &a, &wide), refused(NIZ_E_SHAPE, "is f32[1]");
    niz_update(&opt, 1, &none, &g), ck_assert(!niz_error(z));
    niz_update(NULL, 1, &a, &g), refused(NIZ_E_ARGUMENT, "no optimiser");
    niz_update(&opt, 1, &a, &none);
    niz_update(&opt, 0, NULL, NULL);
    ck_assert(!niz_param_is_assigned(a));
}
END_TEST

/* ---- two optimisers ------------------------------------------------------------------------- */

/* Of different parameters by .params: each counts its own updates, in one step or in two. */
START_TEST(test_selections_count_apart)
{
    for (int apart = 0; apart < 2; apart++) {
        niz *kept = z;
        open_context();
        niz_optim opt[] = {niz_adam(.lr = .1, .params = "D"), niz_adam(.lr = .1, .params = "G"),
                           niz_adam(.lr = .1, .name = "alone", .params = "H")};
        const char *names[] = {"D.w", "G.w", "H.w"};
        for (int i = 0; i < 3; i++) {
            for (int k = 0; k < 3 && apart; k++) {
                NIZ_STEP(z);
                niz_minimize(&opt[k], niz_square(scalar_param(names[k], NIZ_F64, 1)));
            }
            if (apart) continue;
            NIZ_STEP(z);
            niz_t sum = niz_scalar(z, NIZ_F64, 0);
            for (int k = 0; k < 3; k++)
                sum = niz_add(sum, niz_square(scalar_param(names[k], NIZ_F64, 1)));
            for (int k = 0; k < 3; k++) niz_minimize(&opt[k], sum);
        }
        ck_assert_double_eq(param_value("adam/D/step"), 3);
        ck_assert_double_eq(param_value("adam/G/step"), 3);
        for (int k = 0; k < 2; k++) ck_assert_double_eq(param_value(names[k]), param_value("H.w"));
        close_context();
        z = kept;
    }
}
END_TEST

START_TEST(test_one_name_for_two)
{
    niz_optim a = niz_adam(.lr = .1), b = niz_adam(.lr = .2), of_w = niz_adam(.params = "w");
    for (int i = 0; i < 3; i++) {
        NIZ_STEP(z);
        niz_t v = scalar_param("v", NIZ_F64, 1), w = scalar_param("w", NIZ_F64, 1);
        niz_t both = niz_mul(v, w);
        if (i == 0) { /* different parameters under one count */
            niz_minimize(&a, niz_square(v));
            niz_minimize(&b, niz_square(w)), refused(NIZ_E_ARGUMENT, "named \"adam\" in one step");
        } else if (i == 1) { /* one parameter under two */
            niz_minimize(&a, both);
            niz_item(niz_find(z, "v")); /* whether it has run or not */
            niz_minimize(&of_w, both), refused(NIZ_E_ARGUMENT, "another .name");
        } else { /* the same ones again */
            niz_minimize(&a, both);
            niz_minimize(&a, niz_square(niz_mul(niz_find(z, "v"), niz_find(z, "w"))));
        }
    }
    ck_assert_double_eq(param_value("adam/step"), 3);
}
END_TEST

/* ---- schedules ------------------------------------------------------------------------------ */

START_TEST(test_schedules)
{
    ck_assert_double_eq(niz_schedule_step(.8, 0, 10, .5), .8);
    ck_assert_double_eq(niz_schedule_step(.8, 9, 10, .5), .8);
    ck_assert_double_eq(niz_schedule_step(.8, 10, 10, .5), .4);
    ck_assert_double_eq(niz_schedule_step(.8, 35, 10, .5), .1);
    ck_assert_double_eq(niz_schedule_step(.8, 3, 0, .5), .1);
    ck_assert_double_eq(niz_schedule_cosine(2, 0, 100, 1), 2);
    ck_assert_double_eq(niz_schedule_cosine(2, 100, 100, 1), 1);
    ck_assert_double_eq(niz_schedule_cosine(2, 1000, 100, 1), 1);
    ck_assert_double_eq(niz_schedule_cosine(2, 5, 0, 1), 1);
    for (int i = 0; i <= 1000; i++) {
        double y = (1 + cos(3.14159265358979323846 * i / 1000)) / 2;
        ck_assert_double_eq_tol(niz_schedule_cosine(1, i, 1000, 0), y, 3e-16);
    }
    ck_assert_double_eq(niz_schedule_warmup(1, 0, 4), .25);
    ck_assert_double_eq(niz_schedule_warmup(1, 3, 4), 1);
    ck_assert_double_eq(niz_schedule_warmup(1, 9, 4), 1);
    ck_assert_double_eq(niz_schedule_warmup(1, 0, 0), 1);
}
END_TEST

/* ---- memory --------------------------------------------------------------------------------- */

typedef struct budget {
    long left; /* allocations until one fails; negative: none does */
} budget;

static void *counted(void *user, void *p, size_t bytes)
{
    budget *b = user;
    if (!bytes) {
        free(p);
        return NULL;
    }
    if (b->left == 0) return NULL;
    if (b->left > 0) b->left--;
    return realloc(p, bytes);
}

/* Every n-th allocation fails: an error, no crash, and the context works on. */
START_TEST(test_memory)
{
    bool failed = true;
    for (long n = 0; failed; n++) {
        budget b = {n};
        niz *other = niz_open(&(niz_options){.threads = 1, .realloc = counted, .user = &b});
        if (!other) continue;
        niz *kept = z;
        z = other;
        {
            NIZ_STEP(z);
            niz_optim opt = niz_adam(.clip_norm = 1);
            niz_minimize(&opt, rnn_loss());
        }
        failed = niz_error(z) != NIZ_OK;
        if (failed) ck_assert_int_eq(niz_error(z), NIZ_E_MEMORY);
        b.left = -1;
        niz_clear_error(z);
        {
            NIZ_STEP(z);
            ck_assert_double_eq(niz_item(niz_add(niz_scalar(z, NIZ_F32, 1), 1.0)), 2);
        }
        niz_close(z);
        z = kept;
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nn");
    TCase *golden = tcase_create("golden"), *rest = tcase_create("nn");
    tcase_add_checked_fixture(golden, open_context, close_context);
    tcase_add_checked_fixture(rest, open_context, close_context);
    tcase_add_loop_test(golden, test_golden, 0, GOLDEN_MODELS);
    tcase_add_loop_test(golden, test_rates_are_data, 0, GOLDEN_MODELS);
    tcase_add_loop_test(rest, test_sequence_is_cells, 0, 6);
    const TTest *tests[] = {
        test_linear, test_names_have_scopes, test_starting_values, test_initialisers,
        test_layers_refuse, test_stale_operands, test_pool_1d, test_pool_2d, test_conv_options,
        test_dropout, test_batch_norm, test_layer_norm, test_embedding, test_recurrent_forms,
        test_sequence_gradient, test_mse, test_cross_entropy, test_binary_cross_entropy,
        test_accuracy, test_state_names, test_selection, test_minimize_refuses,
        test_stopped_is_not_updated, test_two_dtypes, test_updates_are_not_dropped,
        test_two_updates_in_a_step, test_updates_pass_no_gradient, test_snapshot_resumes,
        test_clip, test_schedules, test_update, test_update_refuses, test_selections_count_apart,
        test_one_name_for_two,
    };
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) tcase_add_test(rest, tests[i]);
    tcase_add_test(rest, test_memory);
    tcase_set_timeout(golden, 300);
    tcase_set_timeout(rest, 300);
    suite_add_tcase(suite, golden);
    suite_add_tcase(suite, rest);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
