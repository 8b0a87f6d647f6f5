/* linear.c - y = x weightᵀ + bias.  SPDX-License-Identifier: MIT */
#include "nn/layer.h"

niz_t niz_linear_at(niz_at at, niz_t x, int64_t out, const char *name, niz_linear_options o)
{
    niz *z = x.z;
    NIZ_LAYER(z, at, "linear", name);
    if (!niz_layer_named(z, at, name) ||
        !niz_layer_takes(at, x, 1, NIZ_MAX_RANK, "[B,C] or [..,C]"))
        return niz_inert(z);
    niz_shape s = niz_shape_of(x);
    niz_dtype dtype = niz_dtype_of(x);
    int64_t in = s.dim[s.rank - 1];
    niz_init start = niz_layer_uniform(in);
    niz_t weight = niz_param(z, "weight", dtype, NIZ_SHAPE(out, in),
                             niz_layer_init(o.weight, start));
    niz_t y = niz_contract(x, weight, 0, 1); /* [..,out] */
    if (o.no_bias) return y;
    return niz_add(y, niz_param(z, "bias", dtype, NIZ_SHAPE(out), niz_layer_init(o.bias, start)));
}
