/* dropout.c - a random part of the elements set to zero.  SPDX-License-Identifier: MIT */
#include "nn/layer.h"

niz_t niz_dropout_at(niz_at at, niz_t x, double p)
{
    niz *z = x.z;
    NIZ_FUNCTION(z, at, "dropout");
    if (!niz_layer_takes(at, x, 0, NIZ_MAX_RANK, "any shape")) return niz_inert(z);
    if (!(p >= 0 && p <= 1)) {
        niz_fail(z, at, NIZ_E_ARGUMENT, "a probability is 0 to 1, not %g", p);
        return niz_inert(z);
    }
    if (!niz_is_training(z) || p == 0) return x;
    if (p == 1) return niz_full_like(x, 0); /* there is no 1/(1 - p) */
    niz_t keep = niz_bernoulli(z, niz_shape_of(x), 1 - p);
    return niz_where(keep, niz_mul(x, 1 / (1 - p)), 0.0); /* not times zero: that keeps a NaN */
}
