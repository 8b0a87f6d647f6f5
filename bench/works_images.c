/* works_images.c - networks over images: perceptrons, a small convolutional one, a residual one.
 *
 * SPDX-License-Identifier: MIT */
#include "numbers.h"
#include "works.h"

#define CLASSES 10

/* Images of `width` numbers in [0, 1), and labels. */
static void open_images(session *s, int64_t width)
{
    int64_t n = s->w->batch * s->w->batches;
    s->x = numbers_f32(1, n * width, 0, 1);
    s->y = numbers_i32(2, n, CLASSES);
}

static niz_t cross_entropy(session *s, niz_t logits) /* [B,10] */
{
    return niz_cross_entropy(logits, session_y(s, NIZ_SHAPE(s->w->batch)));
}

/* ---- perceptrons ----------------------------------------------------------------------------- */

void works_mlp_open(session *s)
{
    open_images(s, 784);
    s->opt = niz_sgd(.lr = 0.01);
}

niz_t works_mlp(niz_t x) /* [B,784] -> [B,10] */
{
    x = niz_relu(niz_linear(x, 128, "fc1")); /* [B,128] */
    return niz_linear(x, CLASSES, "fc2");
}

static niz_t mlp(session *s)
{
    niz_t x = session_x(s, NIZ_F32, NIZ_SHAPE(s->w->batch, 784));
    return cross_entropy(s, works_mlp(x));
}

static void mlp_adam_open(session *s)
{
    open_images(s, 784);
    s->opt = niz_adam(.lr = 1e-3);
}

static niz_t mlp_adam(session *s)
{
    niz_t x = session_x(s, NIZ_F32, NIZ_SHAPE(s->w->batch, 784));
    x = niz_gelu(niz_linear(x, 512, "fc1")); /* [B,512] */
    x = niz_gelu(niz_linear(x, 512, "fc2")); /* [B,512] */
    return cross_entropy(s, niz_linear(x, CLASSES, "fc3"));
}

/* ---- convolutions ---------------------------------------------------------------------------- */

static void lenet_open(session *s)
{
    open_images(s, 28 * 28);
    s->opt = niz_sgd(.lr = 0.01);
}

static niz_t lenet(session *s)
{
    niz_t x = session_x(s, NIZ_F32, NIZ_SHAPE(s->w->batch, 1, 28, 28));
    x = niz_relu(niz_conv2d(x, 32, 3, "conv1", .pad = 1));
    x = niz_max_pool2d(x, 2); /* [B,32,14,14] */
    x = niz_relu(niz_conv2d(x, 64, 3, "conv2", .pad = 1));
    x = niz_flatten(niz_max_pool2d(x, 2), 1); /* [B,3136] */
    x = niz_relu(niz_linear(x, 128, "fc1"));  /* [B,128] */
    return cross_entropy(s, niz_linear(x, CLASSES, "fc2"));
}

static void resnet_open(session *s)
{
    open_images(s, 3 * 32 * 32);
    s->opt = niz_sgd(.lr = 0.01, .momentum = 0.9);
}

/* x [B,C,H,W] -> [B,K,H/stride,W/stride] */
static niz_t block(niz_t x, int64_t k, int64_t stride, const char *name)
{
    NIZ_SCOPE(x.z, "%s", name);
    niz_t y = niz_conv2d(x, k, 3, "conv1", .pad = 1, .stride = stride, .no_bias = true);
    y = niz_relu(niz_batch_norm(y, "bn1"));
    y = niz_batch_norm(niz_conv2d(y, k, 3, "conv2", .pad = 1, .no_bias = true), "bn2");
    if (stride != 1) {
        x = niz_conv2d(x, k, 1, "skip", .stride = stride, .no_bias = true);
        x = niz_batch_norm(x, "skip_bn");
    }
    return niz_relu(niz_add(x, y));
}

static niz_t resnet(session *s)
{
    niz_t x = session_x(s, NIZ_F32, NIZ_SHAPE(s->w->batch, 3, 32, 32));
    x = niz_conv2d(x, 16, 3, "stem", .pad = 1, .no_bias = true);
    x = niz_relu(niz_batch_norm(x, "stem_bn")); /* [B,16,32,32] */
    x = block(x, 16, 1, "block0");              /* [B,16,32,32] */
    x = block(x, 32, 2, "block1");              /* [B,32,16,16] */
    x = block(x, 64, 2, "block2");              /* [B,64,8,8] */
    x = niz_mean(x, .axes = NIZ_AXES(2, 3));    /* [B,64] */
    return cross_entropy(s, niz_linear(x, CLASSES, "fc"));
}

const work works_images[] = {
    {"mlp1", 1, 1024, 200, works_mlp_open, mlp, session_train},
    {"mlp64", 64, 16, 200, works_mlp_open, mlp, session_train},
    {"mlp_adam128", 128, 8, 30, mlp_adam_open, mlp_adam, session_train},
    {"lenet64", 64, 8, 10, lenet_open, lenet, session_train},
    {"resnet32", 32, 8, 10, resnet_open, resnet, session_train},
    {0},
};
