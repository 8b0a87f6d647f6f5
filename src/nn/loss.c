/* loss.c - losses and accuracy.  SPDX-License-Identifier: MIT */
#include "nn/layer.h"

static niz_t reduce(niz_at at, niz_t loss, niz_reduction how)
{
    switch (how) {
    case NIZ_REDUCE_MEAN: return niz_mean(loss);
    case NIZ_REDUCE_SUM: return niz_sum(loss);
    case NIZ_REDUCE_NONE: return loss;
    }
    niz_fail(loss.z, at, NIZ_E_ARGUMENT, "%d is no reduction", (int)how);
    return niz_inert(loss.z);
}

/* y and target are floating and of one type: nothing is broadcast, which hides mistakes here. */
static bool pair_fits(niz_at at, niz_t y, niz_t target)
{
    if (!niz_layer_takes(at, y, 0, NIZ_MAX_RANK, "") || !niz_layer_alive(at, target)) return false;
    if (niz_layer_alike(y, target)) return true;
    bool sizes = niz_dtype_of(y) == niz_dtype_of(target);
    niz_fail(y.z, at, sizes ? NIZ_E_SHAPE : NIZ_E_DTYPE, "the target is %s, not %s like the output",
             niz_describe(target).text, niz_describe(y).text);
    return false;
}

niz_t niz_mse_at(niz_at at, niz_t y, niz_t target, niz_loss_options o)
{
    NIZ_FUNCTION(y.z, at, "mse");
    if (!pair_fits(at, y, target)) return niz_inert(y.z);
    return reduce(at, niz_square(niz_sub(y, target)), o.reduction);
}

niz_t niz_binary_cross_entropy_at(niz_at at, niz_t logits, niz_t target, niz_loss_options o)
{
    niz_t x = logits, t = target;
    NIZ_FUNCTION(x.z, at, "binary_cross_entropy");
    if (!pair_fits(at, x, t)) return niz_inert(x.z);
    niz_t hit = niz_mul(t, niz_softplus(niz_neg(x)));
    niz_t miss = niz_mul(niz_sub(1.0, t), niz_softplus(x));
    return reduce(at, niz_add(hit, miss), o.reduction);
}

/* ---- classes -------------------------------------------------------------------------------- */

/* The axis of the classes in logits [B,K,...] or [K]. */
static int class_axis(niz_t logits)
{
    return niz_shape_of(logits).rank == 1 ? 0 : 1;
}

/* classes has the logits' shape without the axis of the classes, and is an integer. */
static bool classes_fit(niz_at at, niz_t logits, niz_t classes)
{
    niz *z = logits.z;
    if (!niz_layer_takes(at, logits, 1, NIZ_MAX_RANK, "logits [B,K] or [B,K,..]") ||
        !niz_layer_alive(at, classes))
        return false;
    niz_shape l = niz_shape_of(logits), c = niz_shape_of(classes), want = {l.rank - 1, {0}};
    int axis = class_axis(logits);
    for (int i = 0; i < want.rank; i++) want.dim[i] = l.dim[i < axis ? i : i + 1];
    niz_dtype d = niz_dtype_of(classes);
    if (d != NIZ_I32 && d != NIZ_I64)
        niz_fail(z, at, NIZ_E_DTYPE, "classes are i32 or i64, not %s",
                 niz_describe(classes).text);
    else if (!niz_shape_equal(&c, &want))
        niz_fail(z, at, NIZ_E_SHAPE, "logits %s need one class a sample, not %s",
                 niz_describe(logits).text, niz_describe(classes).text);
    else
        return true;
    return false;
}

niz_t niz_cross_entropy_at(niz_at at, niz_t logits, niz_t classes, niz_cross_entropy_options o)
{
    niz *z = logits.z;
    NIZ_FUNCTION(z, at, "cross_entropy");
    if (!classes_fit(at, logits, classes)) return niz_inert(z);
    double s = o.label_smoothing;
    if (!(s >= 0 && s <= 1)) {
        niz_fail(z, at, NIZ_E_ARGUMENT, "label_smoothing is 0 to 1, not %g", s);
        return niz_inert(z);
    }
    int axis = class_axis(logits);
    niz_t p = niz_log_softmax(logits, axis);                        /* [B,K,..] */
    niz_t own = niz_gather(p, axis, niz_unsqueeze(classes, axis));  /* [B,1,..] */
    niz_t loss = niz_neg(niz_squeeze(own, axis));                   /* [B,..] */
    if (s > 0) {
        niz_t all = niz_neg(niz_mean(p, .axis = axis));
        loss = niz_add(niz_mul(loss, 1 - s), niz_mul(all, s));
    }
    return reduce(at, loss, o.reduction);
}

niz_t niz_accuracy_at(niz_at at, niz_t logits, niz_t classes)
{
    niz *z = logits.z;
    NIZ_FUNCTION(z, at, "accuracy");
    if (!classes_fit(at, logits, classes)) return niz_inert(z);
    niz_t best = niz_argmax(logits, .axis = class_axis(logits)); /* [B,..] i64 */
    niz_t hit = niz_eq(best, niz_cast(classes, NIZ_I64));
    return niz_mean(niz_cast(hit, NIZ_F32));
}
