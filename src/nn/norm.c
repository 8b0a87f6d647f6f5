/* norm.c - normalisation over the batch and over features.
 *
 * SPDX-License-Identifier: MIT */
#include "nn/layer.h"

/* The axes of x [B,C,...] but for the channels'. */
static niz_axes all_but_channels(niz_t x)
{
    niz_axes a = {1, {0}};
    for (int i = 2; i < niz_shape_of(x).rank; i++) a.axis[a.n++] = i;
    return a;
}

/* How many elements a channel has. */
static int64_t channel_count(niz_t x)
{
    niz_shape s = niz_shape_of(x);
    s.dim[1] = 1;
    return niz_shape_count(&s);
}

/* running = (1 - momentum) running + momentum seen; no gradient goes this way. */
static void move(niz_t running, niz_t seen, double momentum)
{
    niz_shape flat = niz_shape_of(running);
    seen = niz_reshape(niz_stop_gradient(seen), flat);
    niz_assign(running, niz_add(niz_mul(running, 1 - momentum), niz_mul(seen, momentum)));
}

typedef struct moments {
    niz_t centred, var; /* x - m [B,C,...], v that can be broadcast against it */
} moments;

/* Of this batch; moves the running ones. */
static moments of_batch(niz_t x, niz_t mean, niz_t var, double momentum)
{
    niz_axes axes = all_but_channels(x);
    double n = (double)channel_count(x);
    niz_t m = niz_mean(x, .axes = axes, .keepdims = true); /* [1,C,1,..] */
    niz_t d = niz_sub(x, m);
    niz_t v = niz_mean(niz_square(d), .axes = axes, .keepdims = true);
    move(mean, m, momentum);
    move(var, niz_mul(v, n / (n - 1)), momentum);
    return (moments){d, v};
}

static moments of_running(niz_t x, niz_t mean, niz_t var)
{
    return (moments){niz_sub(x, niz_layer_channels(mean, x)), niz_layer_channels(var, x)};
}

static bool batch_norm_fits(niz_at at, niz_t x, const char *name)
{
    if (!niz_layer_named(x.z, at, name) ||
        !niz_layer_takes(at, x, 2, NIZ_MAX_RANK, "[B,C] or [B,C,..]"))
        return false;
    if (!niz_is_training(x.z) || channel_count(x) > 1) return true;
    niz_fail(x.z, at, NIZ_E_SHAPE, "training needs more than one element a channel, not %s",
             niz_describe(x).text);
    return false;
}

niz_t niz_batch_norm_at(niz_at at, niz_t x, const char *name, niz_batch_norm_options o)
{
    niz *z = x.z;
    NIZ_LAYER(z, at, "batch_norm", name);
    if (!batch_norm_fits(at, x, name)) return niz_inert(z);
    niz_dtype dtype = niz_dtype_of(x);
    niz_shape c = NIZ_SHAPE(niz_shape_of(x).dim[1]);
    niz_t weight = niz_param(z, "weight", dtype, c, niz_constant_init(1));
    niz_t bias = niz_param(z, "bias", dtype, c, niz_constant_init(0));
    niz_t mean = niz_state(z, "running_mean", dtype, c, niz_constant_init(0));
    niz_t var = niz_state(z, "running_var", dtype, c, niz_constant_init(1));
    moments m = niz_is_training(z) ? of_batch(x, mean, var, o.momentum) : of_running(x, mean, var);
    /* weight / √(v + eps) first: it is small, so x is gone over as few times as can be */
    niz_t scale = niz_mul(niz_layer_channels(weight, x), niz_rsqrt(niz_add(m.var, o.eps)));
    return niz_add(niz_mul(m.centred, scale), niz_layer_channels(bias, x));
}

niz_t niz_layer_norm_at(niz_at at, niz_t x, const char *name, niz_layer_norm_options o)
{
    niz *z = x.z;
    NIZ_LAYER(z, at, "layer_norm", name);
    if (!niz_layer_named(z, at, name) || !niz_layer_takes(at, x, 1, NIZ_MAX_RANK, "[..,C]"))
        return niz_inert(z);
    niz_shape s = niz_shape_of(x), c = NIZ_SHAPE(s.dim[s.rank - 1]);
    niz_t weight = niz_param(z, "weight", niz_dtype_of(x), c, niz_constant_init(1));
    niz_t bias = niz_param(z, "bias", niz_dtype_of(x), c, niz_constant_init(0));
    niz_t d = niz_sub(x, niz_mean(x, .axis = -1, .keepdims = true)); /* [..,C] */
    niz_t v = niz_mean(niz_square(d), .axis = -1, .keepdims = true); /* [..,1] */
    niz_t y = niz_mul(niz_mul(d, niz_rsqrt(niz_add(v, o.eps))), weight);
    return niz_add(y, bias);
}
