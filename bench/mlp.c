/* mlp.c - one training step of a 784-128-10 network: forward, backward and update (SGD,
 * cross-entropy), recorded anew each time as users write it.
 *
 *   mlp mlp1|mlp64 [THREADS]
 *
 * prints one line of JSON; bench/mlp.py does the same work in PyTorch from the same numbers, and
 * bench/compare.py sets them side by side.
 *
 * SPDX-License-Identifier: MIT */
#include <niz.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "timing.h"

#define SAMPLES 1024
#define PIXELS 784
#define CHECKED_STEPS 200 /* after which both programs' losses are compared */
#define BLOCKS 20
#define BLOCK_NS 50e6 /* about: a block's steps are counted to last so long */

/* ---- the same numbers as in mlp.py ---------------------------------------------------------- */

/* Knuth's 64-bit linear congruential generator; the top 24 bits as [0, 1). */
static float draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(*state >> 40) / 16777216.0f;
}

static float *draw_all(uint64_t seed, int64_t n, float lo, float hi)
{
    float *v = malloc(sizeof *v * (size_t)n);
    if (!v) exit(1);
    for (int64_t i = 0; i < n; i++) v[i] = lo + (hi - lo) * draw(&seed);
    return v;
}

static void set_param(niz *z, const char *name, niz_shape shape, uint64_t seed, int64_t fan_in)
{
    float bound = (float)(1 / sqrt((double)fan_in));
    float *v = draw_all(seed, niz_shape_count(&shape), -bound, bound);
    niz_param_set(z, name, NIZ_F32, shape, true, v);
    free(v);
}

/* ---- the work ------------------------------------------------------------------------------- */

typedef struct work {
    niz *z;
    niz_optim opt;
    int batch, at;        /* at: which batch is next */
    float *image;         /* [SAMPLES,784] */
    int32_t *label;       /* [SAMPLES] */
} work;

static niz_t net(niz_t x)                       /* [B,784] */
{
    x = niz_relu(niz_linear(x, 128, "fc1"));    /* [B,128] */
    return niz_linear(x, 10, "fc2");            /* [B,10] */
}

static niz_t record_step(work *w)
{
    int64_t first = (int64_t)w->at * w->batch;
    w->at = (w->at + 1) % (SAMPLES / w->batch);
    niz_t x = niz_from(w->z, NIZ_F32, NIZ_SHAPE(w->batch, PIXELS), w->image + first * PIXELS);
    niz_t y = niz_from(w->z, NIZ_I32, NIZ_SHAPE(w->batch), w->label + first);
    niz_t loss = niz_cross_entropy(net(x), y);
    niz_minimize(&w->opt, loss);
    return loss;
}

static double step_ns(work *w)
{
    double start = timing_ns();
    {
        NIZ_STEP(w->z);
        record_step(w);
    } /* the update runs here */
    return timing_ns() - start;
}

static double loss_after(work *w, int steps)
{
    double loss = NAN;
    for (int i = 0; i < steps; i++) {
        NIZ_STEP(w->z);
        loss = niz_item(record_step(w));
    }
    return loss;
}

static work work_make(int batch, int threads)
{
    work w = {.z = niz_open(&(niz_options){.threads = threads}), .opt = niz_sgd(.lr = 0.01),
              .batch = batch, .image = draw_all(1, SAMPLES * PIXELS, 0, 1),
              .label = malloc(SAMPLES * sizeof(int32_t))};
    if (!w.z || !w.label) exit(1);
    for (int i = 0; i < SAMPLES; i++) w.label[i] = i % 10;
    set_param(w.z, "fc1.weight", NIZ_SHAPE(128, PIXELS), 2, PIXELS);
    set_param(w.z, "fc1.bias", NIZ_SHAPE(128), 3, PIXELS);
    set_param(w.z, "fc2.weight", NIZ_SHAPE(10, 128), 4, 128);
    set_param(w.z, "fc2.bias", NIZ_SHAPE(10), 5, 128);
    return w;
}

/* The median step of each block. */
static void measure(work *w, double block[BLOCKS])
{
    double once = 0;
    for (int i = 0; i < 10; i++) once = step_ns(w);
    int n = (int)(BLOCK_NS / once) + 5;
    double *ns = malloc(sizeof *ns * (size_t)n);
    if (!ns) exit(1);
    for (int b = 0; b < BLOCKS; b++) {
        for (int i = 0; i < n; i++) ns[i] = step_ns(w);
        block[b] = timing_median(ns, n);
    }
    free(ns);
}

int main(int argc, char **argv)
{
    int batch = argc < 2 ? 0 : !strcmp(argv[1], "mlp1") ? 1 : !strcmp(argv[1], "mlp64") ? 64 : 0;
    if (!batch || argc > 3) {
        fprintf(stderr, "usage: mlp mlp1|mlp64 [THREADS]\n");
        return 2;
    }
    work w = work_make(batch, argc > 2 ? atoi(argv[2]) : 0);
    double block[BLOCKS], loss = loss_after(&w, CHECKED_STEPS);
    measure(&w, block);
    bool failed = niz_error(w.z);
    if (failed) fprintf(stderr, "mlp: %s\n", niz_message(w.z));
    double median = timing_median(block, BLOCKS);
    if (!failed)
        printf("{\"name\": \"%s\", \"median_us\": %.2f, \"min_us\": %.2f, \"loss\": %.6f}\n",
               argv[1], median / 1e3, block[0] / 1e3, loss);
    niz_close(w.z);
    free(w.image);
    free(w.label);
    return failed;
}
