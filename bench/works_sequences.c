/* works_sequences.c - networks over sequences of 64 tokens out of 96: what comes next?
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>

#include "numbers.h"
#include "works.h"

#define TOKENS 96
#define T 64  /* tokens in a sequence */
#define C 128 /* width */
#define HEADS 4
#define BLOCKS 4

static void open_tokens(session *s)
{
    int64_t n = s->w->batch * s->w->batches * T;
    s->x = numbers_i32(1, n, TOKENS);
    s->y = numbers_i32(2, n, TOKENS);
    s->opt = niz_adam(.lr = 1e-3);
}

static niz_t embedded(session *s) /* [B,T,C] */
{
    niz_t x = session_x(s, NIZ_I32, NIZ_SHAPE(s->w->batch, T));
    return niz_embedding(x, TOKENS, C, "embed");
}

static niz_t next_token(session *s, niz_t h) /* [B,T,C] */
{
    niz_t logits = niz_reshape(niz_linear(h, TOKENS, "out"), NIZ_SHAPE(-1, TOKENS)); /* [BT,96] */
    return niz_cross_entropy(logits, session_y(s, NIZ_SHAPE(s->w->batch * T)));
}

/* ---- recurrent ------------------------------------------------------------------------------- */

static niz_t lstm(session *s)
{
    return next_token(s, niz_lstm(embedded(s), C, "lstm"));
}

/* A cell as a user writes one: x [B,C], h [B,C] -> the next h. */
static niz_t cell(niz_t x, niz_t h)
{
    niz_t a = niz_linear(x, 3 * C, "x"), b = niz_linear(h, 3 * C, "h"); /* [B,3C] */
    niz_t both = niz_add(niz_slice(a, 1, 0, 2 * C, 1), niz_slice(b, 1, 0, 2 * C, 1));
    niz_t gates = niz_sigmoid(both); /* [B,2C] */
    niz_t r = niz_slice(gates, 1, 0, C, 1), z = niz_slice(gates, 1, C, 2 * C, 1);
    niz_t an = niz_slice(a, 1, 2 * C, 3 * C, 1), bn = niz_slice(b, 1, 2 * C, 3 * C, 1);
    niz_t n = niz_tanh(niz_add(an, niz_mul(r, bn))); /* [B,C] */
    return niz_add(niz_mul(niz_sub(1.0, z), n), niz_mul(z, h));
}

static niz_t gru(session *s)
{
    niz_t x = embedded(s), y[T];
    niz_t h = niz_zeros(s->z, NIZ_F32, NIZ_SHAPE(s->w->batch, C));
    for (int t = 0; t < T; t++) y[t] = h = cell(niz_select(x, 1, t), h);
    return next_token(s, niz_stack(T, y, 1));
}

/* ---- attention ------------------------------------------------------------------------------- */

static void gpt_open(session *s)
{
    open_tokens(s);
    s->opt = niz_adamw(.lr = 1e-3);
}

static niz_t causal(niz *z) /* [T,T]: whether row t may look at column u */
{
    niz_shape square = NIZ_SHAPE(T, T);
    return niz_ge(niz_iota(z, NIZ_I32, square, 0), niz_iota(z, NIZ_I32, square, 1));
}

static niz_t attention(niz_t x, int64_t batch) /* [B,T,C] */
{
    niz_t qkv = niz_linear(x, 3 * C, "qkv");
    qkv = niz_reshape(qkv, NIZ_SHAPE(batch, T, 3, HEADS, C / HEADS));
    qkv = niz_permute(qkv, NIZ_AXES(2, 0, 3, 1, 4)); /* [3,B,heads,T,C/heads] */
    niz_t q = niz_select(qkv, 0, 0), k = niz_select(qkv, 0, 1), v = niz_select(qkv, 0, 2);
    niz_t a = niz_matmul(q, niz_transpose(k, -1, -2)); /* [B,heads,T,T] */
    a = niz_where(causal(x.z), niz_mul(a, 1 / sqrt(C / HEADS)), -INFINITY);
    niz_t y = niz_permute(niz_matmul(niz_softmax(a, -1), v), NIZ_AXES(0, 2, 1, 3));
    return niz_linear(niz_reshape(y, NIZ_SHAPE(batch, T, C)), C, "proj");
}

static niz_t gpt_block(niz_t x, int64_t batch, int i) /* [B,T,C] */
{
    NIZ_SCOPE(x.z, "block%d", i);
    x = niz_add(x, attention(niz_layer_norm(x, "ln1"), batch));
    niz_t y = niz_gelu(niz_linear(niz_layer_norm(x, "ln2"), 4 * C, "up")); /* [B,T,4C] */
    return niz_add(x, niz_linear(y, C, "down"));
}

static niz_t gpt(session *s)
{
    niz_t place = niz_param(s->z, "place", NIZ_F32, NIZ_SHAPE(T, C), niz_normal_init(.std = 0.02));
    niz_t x = niz_add(embedded(s), place);
    for (int i = 0; i < BLOCKS; i++) x = gpt_block(x, s->w->batch, i);
    return next_token(s, niz_layer_norm(x, "ln"));
}

const work works_sequences[] = {
    {"lstm32", 32, 8, 10, open_tokens, lstm, session_train},
    {"gru16", 16, 8, 10, open_tokens, gru, session_train},
    {"gpt8", 8, 8, 10, gpt_open, gpt, session_train},
    {0},
};
