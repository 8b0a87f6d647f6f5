/* recurrent.c - RNN, LSTM and GRU: whole sequences and single steps.
 *
 * A net is a record: how many gates it has and how one step makes the next state of them.  Inside,
 * time is the first axis: the products with weight_ih for all t are one contraction, gx [T,B,G·H],
 * whose slices by time are contiguous; the hidden states are stacked the same way and given out as
 * a view [B,T,H].
 *
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "nn/layer.h"

typedef struct weights {
    int64_t hidden;
    bool relu;
    niz_t ih, hh;     /* [G·H,C], [G·H,H] */
    niz_t b_ih, b_hh; /* [G·H]; with no_bias NIZ_NO_TENSOR */
} weights;

typedef struct net {
    const char *name, *cell;
    int gates;
    bool split; /* the two products stay apart in step: b_hh cannot be added to gx beforehand */
    niz_lstm_state (*step)(const weights *w, niz_t gx, niz_lstm_state s); /* gx [B,G·H] */
} net;

/* ---- one step ------------------------------------------------------------------------------- */

/* Gate i of g [B,G·H]: [B,H] */
static niz_t gate(const weights *w, niz_t g, int i)
{
    return niz_slice(g, -1, i * w->hidden, (i + 1) * w->hidden, 1);
}

/* x [..,C] times weightᵀ, plus bias if there is one: [..,G·H] */
static niz_t product(niz_t x, niz_t weight, niz_t bias)
{
    niz_t y = niz_contract(x, weight, 0, 1);
    return bias.z ? niz_add(y, bias) : y;
}

static niz_lstm_state rnn_step(const weights *w, niz_t gx, niz_lstm_state s)
{
    niz_t a = niz_add(gx, product(s.h, w->hh, NIZ_NO_TENSOR));
    return (niz_lstm_state){w->relu ? niz_relu(a) : niz_tanh(a), s.c};
}

static niz_lstm_state lstm_step(const weights *w, niz_t gx, niz_lstm_state s)
{
    niz_t a = niz_add(gx, product(s.h, w->hh, NIZ_NO_TENSOR)); /* [B,4H] */
    niz_t i = niz_sigmoid(gate(w, a, 0)), f = niz_sigmoid(gate(w, a, 1));
    niz_t g = niz_tanh(gate(w, a, 2)), o = niz_sigmoid(gate(w, a, 3));
    niz_t c = niz_add(niz_mul(f, s.c), niz_mul(i, g));
    return (niz_lstm_state){niz_mul(o, niz_tanh(c)), c};
}

static niz_lstm_state gru_step(const weights *w, niz_t gx, niz_lstm_state s)
{
    niz_t gh = product(s.h, w->hh, w->b_hh); /* [B,3H] */
    niz_t r = niz_sigmoid(niz_add(gate(w, gx, 0), gate(w, gh, 0)));
    niz_t u = niz_sigmoid(niz_add(gate(w, gx, 1), gate(w, gh, 1)));
    niz_t n = niz_tanh(niz_add(gate(w, gx, 2), niz_mul(r, gate(w, gh, 2))));
    niz_t h = niz_add(n, niz_mul(u, niz_sub(s.h, n))); /* (1 - u) n + u h */
    return (niz_lstm_state){h, s.c};
}

static const net rnn = {"rnn", "rnn_cell", 1, false, rnn_step};
static const net lstm = {"lstm", "lstm_cell", 4, false, lstm_step};
static const net gru = {"gru", "gru_cell", 3, true, gru_step};

/* ---- parameters ----------------------------------------------------------------------------- */

/* A parameter "weight_ih_l0", or with layer -1 "weight_ih" */
static niz_t parameter(niz *z, const char *stem, int layer, niz_dtype dtype, niz_shape shape,
                       niz_init init)
{
    char name[48];
    snprintf(name, sizeof name, layer < 0 ? "%s" : "%s_l%d", stem, layer);
    return niz_param(z, name, dtype, shape, init);
}

/* Made in PyTorch's order. */
static weights parameters(const net *n, niz_t x, int64_t hidden, int layer, bool no_bias)
{
    niz *z = x.z;
    niz_dtype d = niz_dtype_of(x);
    niz_shape s = niz_shape_of(x);
    niz_init start = niz_layer_uniform(hidden);
    int64_t rows = n->gates * hidden;
    weights w = {.hidden = hidden};
    w.ih = parameter(z, "weight_ih", layer, d, NIZ_SHAPE(rows, s.dim[s.rank - 1]), start);
    w.hh = parameter(z, "weight_hh", layer, d, NIZ_SHAPE(rows, hidden), start);
    if (no_bias) return w;
    w.b_ih = parameter(z, "bias_ih", layer, d, NIZ_SHAPE(rows), start);
    w.b_hh = parameter(z, "bias_hh", layer, d, NIZ_SHAPE(rows), start);
    return w;
}

/* What the inputs contribute to the gates, with the biases that can be added here already. */
static niz_t inputs(const net *n, const weights *w, niz_t x)
{
    bool both = w->b_ih.z && !n->split;
    return product(x, w->ih, both ? niz_add(w->b_ih, w->b_hh) : w->b_ih);
}

/* ---- checks --------------------------------------------------------------------------------- */

static bool hidden_fits(niz *z, niz_at at, int64_t hidden)
{
    if (hidden >= 1 && hidden <= INT32_MAX) return true;
    niz_fail(z, at, NIZ_E_ARGUMENT, "a hidden size of %lld", (long long)hidden);
    return false;
}

static bool state_fits(niz_at at, niz_t x, niz_t s, int64_t hidden, const char *what)
{
    if (!niz_layer_alive(at, s)) return false;
    niz_shape want = NIZ_SHAPE(niz_shape_of(x).dim[0], hidden), have = niz_shape_of(s);
    if (niz_shape_equal(&want, &have) && niz_dtype_of(s) == niz_dtype_of(x)) return true;
    niz_fail(x.z, at, NIZ_E_SHAPE, "%s is %s[%lld,%lld], not %s", what,
             niz_dtype_name(niz_dtype_of(x)), (long long)want.dim[0], (long long)hidden,
             niz_describe(s).text);
    return false;
}

static bool options_fit(const net *n, niz *z, niz_at at, const niz_recurrent_options *o)
{
    const char *wrong = o->relu && n != &rnn                 ? ".relu is for rnn"
                        : (o->c0.z || o->c_out) && n != &lstm ? ".c0 and .c_out are for lstm"
                        : o->layer < 0                        ? ".layer is negative"
                                                              : NULL;
    if (wrong) niz_fail(z, at, NIZ_E_ARGUMENT, "%s", wrong);
    return !wrong;
}

/* ---- sequences ------------------------------------------------------------------------------ */

/* x [n,..] into its n slices, by halves: the gradient of a slice is as large as what it was cut
 * from, so cutting all of them from the whole would cost n² in the reverse sweep. */
static void unstack(niz_t x, int64_t n, niz_t *out)
{
    if (n == 1) {
        *out = niz_select(x, 0, 0);
        return;
    }
    int64_t half = n / 2;
    unstack(niz_slice(x, 0, 0, half, 1), half, out);
    unstack(niz_slice(x, 0, half, n, 1), n - half, out + half);
}

/* The starting state; what is not given is zeros.  False (error set) if it does not fit. */
static bool start(const net *n, niz_at at, niz_t x, int64_t hidden, const niz_recurrent_options *o,
                  niz_lstm_state *s)
{
    if (o->h0.z && !state_fits(at, x, o->h0, hidden, "h0")) return false;
    if (o->c0.z && !state_fits(at, x, o->c0, hidden, "c0")) return false;
    niz_shape shape = NIZ_SHAPE(niz_shape_of(x).dim[0], hidden);
    niz_t zero = niz_zeros(x.z, niz_dtype_of(x), shape);
    *s = (niz_lstm_state){o->h0.z ? o->h0 : zero, n == &lstm && o->c0.z ? o->c0 : zero};
    return true;
}

/* gx [T,B,G·H], s before -> y [B,T,H], s after */
static niz_t scan(const net *n, const weights *w, niz_t gx, niz_lstm_state *s)
{
    niz *z = gx.z;
    int64_t T = niz_shape_of(gx).dim[0];
    if (niz_error(z)) return niz_inert(z);
    niz_t *h = niz_realloc(z, NULL, (size_t)T * sizeof *h);
    if (!h) return niz_inert(z);
    unstack(gx, T, h);
    for (int64_t t = 0; t < T; t++) {
        *s = n->step(w, h[t], *s);
        h[t] = s->h; /* what was gx[t] is not needed any more */
    }
    niz_t y = niz_stack((int)T, h, 0); /* [T,B,H] */
    niz_free(z, h);
    return niz_transpose(y, 0, 1);
}

static niz_t sequence(const net *n, niz_at at, niz_t x, int64_t hidden, const char *name,
                      niz_recurrent_options o)
{
    niz *z = x.z;
    niz_lstm_state s;
    if (o.h_out) *o.h_out = niz_inert(z);
    if (o.c_out) *o.c_out = niz_inert(z);
    if (!niz_layer_named(z, at, name) || !niz_layer_takes(at, x, 3, 3, "[B,T,C]") ||
        !hidden_fits(z, at, hidden) || !options_fit(n, z, at, &o) ||
        !start(n, at, x, hidden, &o, &s))
        return niz_inert(z);
    niz_shape shape = niz_shape_of(x);
    weights w = parameters(n, x, hidden, o.layer, o.no_bias);
    w.relu = o.relu;
    if (shape.dim[1] > INT32_MAX) {
        niz_fail(z, at, NIZ_E_SHAPE, "%lld time steps", (long long)shape.dim[1]);
        return niz_inert(z);
    }
    niz_t y = shape.dim[1] == 0 ? niz_zeros(z, niz_dtype_of(x), NIZ_SHAPE(shape.dim[0], 0, hidden))
                                : scan(n, &w, inputs(n, &w, niz_transpose(x, 0, 1)), &s);
    if (o.h_out) *o.h_out = s.h;
    if (o.c_out) *o.c_out = s.c;
    return y;
}

niz_t niz_rnn_at(niz_at at, niz_t x, int64_t hidden, const char *name, niz_recurrent_options o)
{
    NIZ_LAYER(x.z, at, rnn.name, name);
    return sequence(&rnn, at, x, hidden, name, o);
}

niz_t niz_lstm_at(niz_at at, niz_t x, int64_t hidden, const char *name, niz_recurrent_options o)
{
    NIZ_LAYER(x.z, at, lstm.name, name);
    return sequence(&lstm, at, x, hidden, name, o);
}

niz_t niz_gru_at(niz_at at, niz_t x, int64_t hidden, const char *name, niz_recurrent_options o)
{
    NIZ_LAYER(x.z, at, gru.name, name);
    return sequence(&gru, at, x, hidden, name, o);
}

/* ---- cells ---------------------------------------------------------------------------------- */

static niz_lstm_state cell(const net *n, niz_at at, niz_t x, niz_lstm_state s, const char *name,
                           niz_cell_options o)
{
    niz *z = x.z;
    NIZ_LAYER(z, at, n->cell, name);
    niz_lstm_state inert = {niz_inert(z), niz_inert(z)};
    if (!niz_layer_named(z, at, name) || !niz_layer_takes(at, x, 2, 2, "x [B,C]") ||
        !niz_layer_takes(at, s.h, 2, 2, "h [B,H]"))
        return inert;
    int64_t hidden = niz_shape_of(s.h).dim[1];
    if (!hidden_fits(z, at, hidden) || !state_fits(at, x, s.h, hidden, "h") ||
        (n == &lstm && !state_fits(at, x, s.c, hidden, "c")) ||
        !options_fit(n, z, at, &(niz_recurrent_options){.relu = o.relu}))
        return inert;
    weights w = parameters(n, x, hidden, -1, o.no_bias);
    w.relu = o.relu;
    return n->step(&w, inputs(n, &w, x), s);
}

niz_t niz_rnn_cell_at(niz_at at, niz_t x, niz_t h, const char *name, niz_cell_options o)
{
    return cell(&rnn, at, x, (niz_lstm_state){h, h}, name, o).h;
}

niz_t niz_gru_cell_at(niz_at at, niz_t x, niz_t h, const char *name, niz_cell_options o)
{
    return cell(&gru, at, x, (niz_lstm_state){h, h}, name, o).h;
}

niz_lstm_state niz_lstm_cell_at(niz_at at, niz_t x, niz_lstm_state s, const char *name,
                                niz_cell_options o)
{
    return cell(&lstm, at, x, s, name, o);
}
