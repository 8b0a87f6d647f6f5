/* works_gradients.c - losses that are differentiated, not trained: results are gradients in memory.
 *
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "numbers.h"
#include "works.h"

/* ---- fuse4m: mean(√(1 + (1.5 tanh a - t)²) - 1 + 0.01 log1p(e^-a)) --------------------------- */

#define MANY (1 << 22)

static void fuse_open(session *s)
{
    s->x = numbers_f32(1, MANY, -2, 2);
    s->y = numbers_f32(2, MANY, -2, 2);
}

static double fuse(session *s, bool check)
{
    NIZ_STEP(s->z);
    niz_t a = niz_from(s->z, NIZ_F32, NIZ_SHAPE(MANY), s->x);
    niz_t t = niz_from(s->z, NIZ_F32, NIZ_SHAPE(MANY), s->y), g;
    niz_t r = niz_sub(niz_mul(niz_tanh(a), 1.5), t);
    niz_t robust = niz_sub(niz_sqrt(niz_add(niz_square(r), 1.0)), 1.0);
    niz_t loss = niz_mean(niz_add(robust, niz_mul(niz_log1p(niz_exp(niz_neg(a))), 0.01)));
    niz_grad(loss, 1, &a, &g);
    NIZ_RUN(s->z, loss, g);
    return check ? niz_item(loss) + session_norm(1, &g) : 0;
}

/* ---- softmax2m: the gradient of Σ softmax(layernorm(x))² ------------------------------------- */

#define ROWS 4096
#define COLUMNS 512

static void softmax_open(session *s)
{
    s->x = numbers_f32(1, (int64_t)ROWS * COLUMNS, -2, 2);
}

static double softmax(session *s, bool check)
{
    NIZ_STEP(s->z);
    niz_t x = niz_from(s->z, NIZ_F32, NIZ_SHAPE(ROWS, COLUMNS), s->x), g;
    niz_t d = niz_sub(x, niz_mean(x, .axis = -1, .keepdims = true));
    niz_t var = niz_mean(niz_square(d), .axis = -1, .keepdims = true);
    niz_t y = niz_mul(d, niz_rsqrt(niz_add(var, 1e-5)));
    niz_grad(niz_sum(niz_square(niz_softmax(y, -1))), 1, &x, &g);
    NIZ_RUN(s->z, g);
    return check ? session_norm(1, &g) : 0;
}

/* ---- hvp64: Hessian of a tanh network's loss times a vector ---------------------------------- */

#define HVP_PARAMS 4

static void hvp_open(session *s)
{
    int64_t n = s->w->batch * s->w->batches;
    s->x = numbers_f32(1, n * 784, 0, 1);
    s->y = numbers_i32(2, n, 10);
    s->v = numbers_f32(3, 128 * 784 + 128 + 10 * 128 + 10, -1, 1);
}

static niz_t hvp_loss(session *s)
{
    niz_t x = session_x(s, NIZ_F32, NIZ_SHAPE(s->w->batch, 784));
    x = niz_tanh(niz_linear(x, 128, "fc1"));
    return niz_cross_entropy(niz_linear(x, 10, "fc2"), session_y(s, NIZ_SHAPE(s->w->batch)));
}

static double hvp(session *s, bool check)
{
    NIZ_STEP(s->z);
    niz_t loss = hvp_loss(s), w[HVP_PARAMS], g[HVP_PARAMS], v[HVP_PARAMS], h[HVP_PARAMS];
    const float *at = s->v;
    niz_params_of(loss, HVP_PARAMS, w);
    for (int i = 0; i < HVP_PARAMS; i++) {
        niz_shape shape = niz_shape_of(w[i]);
        v[i] = niz_from(s->z, NIZ_F32, shape, at);
        at += niz_shape_count(&shape);
    }
    niz_grad(loss, HVP_PARAMS, w, g);
    niz_jvp(HVP_PARAMS, w, v, HVP_PARAMS, g, h); /* forward over reverse */
    niz_run(s->z, HVP_PARAMS, h);
    s->at = (s->at + 1) % s->w->batches;
    return check ? session_norm(HVP_PARAMS, h) : 0;
}

/* ---- lstm14: two layers of LSTM cells with elementwise weights, 200 steps, f64 --------------- */

#define WIDTH LSTM14_WIDTH
#define STEPS 200
#define LAYERS 2
#define GATES 4 /* i f g o */

void works_lstm14_open(session *s)
{
    s->x = numbers_f64(1, STEPS * WIDTH, -1, 1);
}

/* Layer k's weights of gate j: w, u and bias, each [14]. */
static void lstm14_weights(niz *z, int k, int j, niz_t w[3])
{
    static const char *const name[] = {"w", "u", "b"};
    NIZ_SCOPE(z, "layer%d", k);
    NIZ_SCOPE(z, "gate%d", j);
    for (int i = 0; i < 3; i++)
        w[i] = niz_param(z, name[i], NIZ_F64, NIZ_SHAPE(WIDTH), niz_uniform_init());
}

/* x w + h u + b */
static niz_t lstm14_gate(const niz_t w[3], niz_t x, niz_t h)
{
    return niz_add(niz_add(niz_mul(w[0], x), niz_mul(w[1], h)), w[2]);
}

static niz_t lstm14_cell(niz_t w[GATES][3], niz_t x, niz_t *h, niz_t *c)
{
    niz_t i = niz_sigmoid(lstm14_gate(w[0], x, *h)), f = niz_sigmoid(lstm14_gate(w[1], x, *h));
    niz_t g = niz_tanh(lstm14_gate(w[2], x, *h)), o = niz_sigmoid(lstm14_gate(w[3], x, *h));
    *c = niz_add(niz_mul(f, *c), niz_mul(i, g));
    return *h = niz_mul(o, niz_tanh(*c));
}

static niz_t lstm14_loss(session *s)
{
    niz_t w[LAYERS][GATES][3], h[LAYERS], c[LAYERS], y = {0};
    for (int k = 0; k < LAYERS; k++) {
        for (int j = 0; j < GATES; j++) lstm14_weights(s->z, k, j, w[k][j]);
        h[k] = c[k] = niz_zeros(s->z, NIZ_F64, NIZ_SHAPE(WIDTH));
    }
    niz_t x = niz_from(s->z, NIZ_F64, NIZ_SHAPE(STEPS, WIDTH), s->x);
    for (int t = 0; t < STEPS; t++) {
        y = niz_select(x, 0, t);
        for (int k = 0; k < LAYERS; k++) y = lstm14_cell(w[k], y, &h[k], &c[k]);
    }
    return niz_mean(niz_square(y));
}

void works_lstm14(session *s, niz_t g[LSTM14_VECTORS])
{
    niz_t loss = lstm14_loss(s), w[LSTM14_VECTORS];
    niz_params_of(loss, LSTM14_VECTORS, w);
    niz_grad(loss, LSTM14_VECTORS, w, g);
}

static double lstm14(session *s, bool check)
{
    NIZ_STEP(s->z);
    niz_t g[LSTM14_VECTORS];
    works_lstm14(s, g);
    niz_run(s->z, LSTM14_VECTORS, g);
    return check ? session_norm(LSTM14_VECTORS, g) : 0;
}

const work works_gradients[] = {
    {"fuse4m", 1, 1, 1, fuse_open, NULL, fuse},
    {"softmax2m", 1, 1, 1, softmax_open, NULL, softmax},
    {"hvp64", 64, 16, 5, hvp_open, hvp_loss, hvp},
    {"lstm14", 1, 1, 1, works_lstm14_open, lstm14_loss, lstm14},
    {0},
};
