/* layer.c - see layer.h.  SPDX-License-Identifier: MIT */
#include "nn/layer.h"

#include <math.h>
#include <string.h>

#define NIZ_LAYER_NAME_MAX 200

bool niz_layer_named(niz *z, niz_at at, const char *name)
{
    if (name && name[0] && name[0] != '/' && strlen(name) <= NIZ_LAYER_NAME_MAX) return true;
    niz_fail(z, at, NIZ_E_ARGUMENT,
             "a layer's name has 1 to %d characters and does not begin with /", NIZ_LAYER_NAME_MAX);
    return false;
}

bool niz_layer_alive(niz_at at, niz_t x)
{
    if (niz_is_valid(x)) return true;
    niz_stop_gradient_at(at, x); /* whatever uses it says what is wrong with it */
    return false;
}

bool niz_layer_takes(niz_at at, niz_t x, int lo, int hi, const char *form)
{
    if (!niz_layer_alive(at, x)) return false;
    int rank = niz_shape_of(x).rank;
    if (rank < lo || rank > hi)
        niz_fail(x.z, at, NIZ_E_SHAPE, "needs %s, not %s", form,
                 rank ? niz_describe(x).text : "a scalar");
    else if (!niz_dtype_is_float(niz_dtype_of(x)))
        niz_fail(x.z, at, NIZ_E_DTYPE, "needs f32 or f64, not %s; niz_cast changes it",
                 niz_describe(x).text);
    else
        return true;
    return false;
}

bool niz_layer_alike(niz_t a, niz_t b)
{
    niz_shape p = niz_shape_of(a), q = niz_shape_of(b);
    return niz_dtype_of(a) == niz_dtype_of(b) && niz_shape_equal(&p, &q);
}

niz_init niz_layer_init(niz_init chosen, niz_init standard)
{
    return chosen.kind == NIZ_INIT_CONSTANT && isnan(chosen.a) ? standard : chosen;
}

niz_init niz_layer_uniform(int64_t n)
{
    double b = n > 0 ? 1 / sqrt((double)n) : 0;
    return niz_uniform_init(.lo = -b, .hi = b);
}

niz_t niz_layer_channels(niz_t v, niz_t x)
{
    niz_shape s = {niz_shape_of(x).rank - 1, {niz_shape_of(v).dim[0]}};
    for (int i = 1; i < s.rank; i++) s.dim[i] = 1;
    return niz_reshape(v, s);
}
