/* conv.c - convolutions with parameters, over one to three axes.  SPDX-License-Identifier: MIT */
#include <string.h>

#include "nn/layer.h"

/* The weight's shape [out, C/groups, size...]; false (error set) if there is none. */
static bool weight_shape(niz_at at, niz_t x, int64_t out, int64_t size, int axes,
                         const niz_conv_layer_options *o, niz_shape *w)
{
    int64_t channels = niz_shape_of(x).dim[1];
    if (o->groups < 1 || channels % o->groups || out % o->groups) {
        niz_fail(x.z, at, NIZ_E_ARGUMENT, "%lld groups do not divide %lld channels into %lld",
                 (long long)o->groups, (long long)channels, (long long)out);
        return false;
    }
    *w = (niz_shape){2 + axes, {out, channels / o->groups}};
    for (int i = 0; i < axes; i++) {
        w->dim[2 + i] = o->sizes[i] ? o->sizes[i] : size;
        if (w->dim[2 + i] >= 1) continue;
        niz_fail(x.z, at, NIZ_E_ARGUMENT, "a window of %lld elements", (long long)w->dim[2 + i]);
        return false;
    }
    return true;
}

/* What one output sums over; the sizes of a shape that niz_param will refuse may overflow. */
static int64_t fan_in(const niz_shape *w)
{
    int64_t n = w->dim[1];
    for (int i = 2; i < w->rank; i++)
        if (__builtin_mul_overflow(n, w->dim[i], &n)) return 0;
    return n;
}

static niz_t convolve(niz_t x, niz_t weight, const niz_conv_layer_options *o)
{
    niz_conv_options c = {.stride = o->stride, .pad = o->pad, .dilation = o->dilation,
                          .groups = o->groups};
    memcpy(c.strides, o->strides, sizeof c.strides);
    memcpy(c.pads, o->pads, sizeof c.pads);
    memcpy(c.dilations, o->dilations, sizeof c.dilations);
    return niz_conv_at(NIZ_HERE, x, weight, c);
}

static niz_t layer(niz_at at, niz_t x, int64_t out, int64_t size, const char *name,
                   niz_conv_layer_options o, int axes, const char *form)
{
    niz *z = x.z;
    niz_shape w;
    if (!niz_layer_named(z, at, name) || !niz_layer_takes(at, x, 2 + axes, 2 + axes, form) ||
        !weight_shape(at, x, out, size, axes, &o, &w))
        return niz_inert(z);
    niz_dtype dtype = niz_dtype_of(x);
    niz_init start = niz_layer_uniform(fan_in(&w));
    niz_t weight = niz_param(z, "weight", dtype, w, niz_layer_init(o.weight, start));
    niz_t y = convolve(x, weight, &o); /* [B,out,...] */
    if (o.no_bias) return y;
    niz_t bias = niz_param(z, "bias", dtype, NIZ_SHAPE(out), niz_layer_init(o.bias, start));
    return niz_add(y, niz_layer_channels(bias, x));
}

niz_t niz_conv1d_at(niz_at at, niz_t x, int64_t out, int64_t size, const char *name,
                    niz_conv_layer_options o)
{
    NIZ_LAYER(x.z, at, "conv1d", name);
    return layer(at, x, out, size, name, o, 1, "[B,C,W]");
}

niz_t niz_conv2d_at(niz_at at, niz_t x, int64_t out, int64_t size, const char *name,
                    niz_conv_layer_options o)
{
    NIZ_LAYER(x.z, at, "conv2d", name);
    return layer(at, x, out, size, name, o, 2, "[B,C,H,W]");
}

niz_t niz_conv3d_at(niz_at at, niz_t x, int64_t out, int64_t size, const char *name,
                    niz_conv_layer_options o)
{
    NIZ_LAYER(x.z, at, "conv3d", name);
    return layer(at, x, out, size, name, o, 3, "[B,C,D,H,W]");
}
