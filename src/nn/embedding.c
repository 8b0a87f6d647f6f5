/* embedding.c - rows of a table.  SPDX-License-Identifier: MIT */
#include "nn/layer.h"

static bool fits(niz_at at, niz_t index, const char *name, niz_dtype dtype)
{
    niz *z = index.z;
    if (!niz_layer_named(z, at, name) || !niz_layer_alive(at, index)) return false;
    niz_dtype d = niz_dtype_of(index);
    if (d != NIZ_I32 && d != NIZ_I64)
        niz_fail(z, at, NIZ_E_DTYPE, "an index is i32 or i64, not %s", niz_describe(index).text);
    else if (!niz_dtype_is_float(dtype))
        niz_fail(z, at, NIZ_E_DTYPE, "a table is f32 or f64, not %s", niz_dtype_name(dtype));
    else
        return true;
    return false;
}

niz_t niz_embedding_at(niz_at at, niz_t index, int64_t count, int64_t width, const char *name,
                       niz_embedding_options o)
{
    niz *z = index.z;
    NIZ_LAYER(z, at, "embedding", name);
    if (!fits(at, index, name, o.dtype)) return niz_inert(z);
    niz_t weight = niz_param(z, "weight", o.dtype, NIZ_SHAPE(count, width),
                             niz_layer_init(o.weight, niz_normal_init()));
    return niz_take(weight, 0, index); /* [*,width] */
}
