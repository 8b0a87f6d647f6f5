/* clip.c - gradients scaled back to a norm.  SPDX-License-Identifier: MIT */
#include <math.h>

#include "nn/layer.h"

/* Σ g² in g's dtype, then f64: sums of several dtypes can be added. */
static niz_t square_sum(niz_t g)
{
    return niz_cast(niz_sum(niz_square(g)), NIZ_F64);
}

niz_t niz_clip_by_norm_at(niz_at at, int n, niz_t *grads, double max_norm)
{
    niz *z = niz_context_of(n, grads);
    NIZ_FUNCTION(z, at, "clip_by_norm");
    if (!(max_norm > 0)) niz_fail(z, at, NIZ_E_ARGUMENT, "a norm is above 0, not %g", max_norm);
    niz_t sum = niz_inert(z);
    for (int i = 0, found = 0; i < n && !niz_error(z); i++) {
        if (!grads[i].z) continue;
        if (!niz_layer_takes(at, grads[i], 0, NIZ_MAX_RANK, "gradients")) break;
        niz_t s = square_sum(grads[i]);
        sum = found++ ? niz_add(sum, s) : s;
    }
    niz_t norm = niz_sqrt(sum);
    niz_t room = niz_div(niz_scalar(z, NIZ_F64, max_norm), niz_add(norm, 1e-6));
    niz_t scale = niz_minimum(room, 1.0);
    for (int i = 0; i < n; i++)
        if (grads[i].z) grads[i] = niz_mul(grads[i], niz_cast(scale, niz_dtype_of(grads[i])));
    return norm;
}
