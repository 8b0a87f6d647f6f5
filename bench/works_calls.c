/* works_calls.c - works as fixed functions: recorded once, then called.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>

#include "works.h"

/* ---- mlp1_call ------------------------------------------------------------------------------- */

static void mlp_body(niz *z, void *opt, const niz_t *in, niz_t *out)
{
    (void)z;
    out[0] = niz_cross_entropy(works_mlp(in[0]), in[1]);
    niz_minimize(opt, out[0]);
}

static void mlp_open(session *s)
{
    int64_t batch = s->w->batch;
    works_mlp_open(s);
    const niz_type_spec in[] = {{NIZ_F32, NIZ_SHAPE(batch, 784)}, {NIZ_I32, NIZ_SHAPE(batch)}};
    s->fixed = niz_compile(s->z, mlp_body, &s->opt, 2, in, 1);
}

static double mlp(session *s, bool check)
{
    int64_t first = s->at * s->w->batch;
    const void *in[] = {(float *)s->x + first * 784, (int32_t *)s->y + first};
    float loss = 0;
    void *out[] = {&loss};
    if (s->fixed) niz_call(s->fixed, in, check ? out : NULL);
    s->at = (s->at + 1) % s->w->batches;
    return loss;
}

/* ---- lstm14_call ----------------------------------------------------------------------------- */

static void lstm14_body(niz *z, void *arg, const niz_t *in, niz_t *out)
{
    (void)z, (void)in;
    works_lstm14(arg, out); /* its inputs are read where they lie */
}

static void lstm14_open(session *s)
{
    works_lstm14_open(s);
    s->fixed = niz_compile(s->z, lstm14_body, s, 0, NULL, LSTM14_VECTORS);
}

static double lstm14(session *s, bool check)
{
    static double g[LSTM14_VECTORS][LSTM14_WIDTH];
    void *out[LSTM14_VECTORS];
    double sum = 0;
    for (int i = 0; i < LSTM14_VECTORS; i++) out[i] = g[i];
    if (s->fixed) niz_call(s->fixed, NULL, out);
    for (int i = 0; check && i < LSTM14_VECTORS; i++)
        for (int j = 0; j < LSTM14_WIDTH; j++) sum += g[i][j] * g[i][j];
    return sqrt(sum);
}

const work works_calls[] = {
    {"mlp1_call", 1, 1024, 200, mlp_open, NULL, mlp},
    {"lstm14_call", 1, 1, 1, lstm14_open, NULL, lstm14},
    {0},
};
