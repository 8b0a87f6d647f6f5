/* infer.c - ready-made typing: operands broadcast together and are of one dtype.
 * SPDX-License-Identifier: MIT */
#include "ops/infer.h"

#include "core/type.h"

bool niz_infer_broadcast(niz_infer *f)
{
    f->shape = f->x[0].shape;
    for (int i = 1; i < f->n; i++) {
        const niz_shape *s = f->x[i].shape;
        if (s == f->shape || !s->rank) continue;
        if (!f->shape->rank) f->shape = s;
        if (niz_shape_equal(s, f->shape)) continue;
        niz_shape both;
        if (!niz_shape_broadcast(f->shape, s, &both))
            return niz_infer_fail(f, NIZ_E_SHAPE, "shapes do not broadcast together");
        if (niz_shape_equal(&both, s)) {
            f->shape = s;
        } else if (!niz_shape_equal(&both, f->shape)) {
            f->made = both;
            f->shape = &f->made;
        }
    }
    return true;
}

bool niz_infer_one_dtype(niz_infer *f, int first)
{
    for (int i = first + 1; i < f->n; i++)
        if (f->x[i].dtype != f->x[first].dtype)
            return niz_infer_fail(f, NIZ_E_DTYPE, "dtypes differ, %s and %s; niz_cast one of them",
                                  niz_dtype_name(f->x[first].dtype), niz_dtype_name(f->x[i].dtype));
    return true;
}

/* All but the most common case of niz_infer_broadcast is a call. */
static inline bool niz_infer_all(niz_infer *f)
{
    if (!niz_infer_one_dtype(f, 0)) return false;
    f->dtype = f->x[0].dtype;
    f->shape = f->x[0].shape;
    return f->n == 1 || (f->n == 2 && f->x[1].shape == f->shape) || niz_infer_broadcast(f);
}

bool niz_infer_same(niz_infer *f)
{
    return niz_infer_all(f);
}

bool niz_infer_same_number(niz_infer *f)
{
    if (!niz_dtype_is_number(f->x[0].dtype))
        return niz_infer_fail(f, NIZ_E_DTYPE, "%s is no number; niz_cast it",
                              niz_dtype_name(f->x[0].dtype));
    return niz_infer_all(f);
}

bool niz_infer_same_float(niz_infer *f)
{
    if (!niz_dtype_is_float(f->x[0].dtype))
        return niz_infer_fail(f, NIZ_E_DTYPE, "needs f32 or f64, not %s; niz_cast it",
                              niz_dtype_name(f->x[0].dtype));
    return niz_infer_all(f);
}

bool niz_infer_compare(niz_infer *f)
{
    if (!niz_infer_same(f)) return false;
    f->dtype = NIZ_BOOL;
    return true;
}

bool niz_infer_logic(niz_infer *f)
{
    if (f->x[0].dtype != NIZ_BOOL)
        return niz_infer_fail(f, NIZ_E_DTYPE, "needs bool, not %s; compare first",
                              niz_dtype_name(f->x[0].dtype));
    return niz_infer_same(f);
}
