/* leaf.c - values from outside the graph: literals, host memory, data.
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "core/control.h"
#include "core/type.h"
#include "graph/recording.h"

const niz_op niz_op_literal = {.name = "literal", .form = NIZ_FORM_LEAF, .attrs = "value:f"};
const niz_op niz_op_data = {.name = "data", .form = NIZ_FORM_LEAF};

static bool niz_leaf_fits(niz_recording *r, niz_at at, niz_dtype dtype, const niz_shape *shape)
{
    const char *fault = niz_shape_fault(shape);
    if (fault)
        niz_fail(r->z, at, NIZ_E_SHAPE, "not a shape: %s", fault);
    else if ((unsigned)dtype >= NIZ_N_DTYPES)
        niz_fail(r->z, at, NIZ_E_DTYPE, "%d is not a dtype", (int)dtype);
    else
        return true;
    return false;
}

niz_t niz_from_at(niz_at at, niz *z, niz_dtype dtype, niz_shape shape, const void *data)
{
    niz_recording *r = niz_recording_of(z);
    if (!r || z->status || !niz_leaf_fits(r, at, dtype, &shape)) return niz_inert(z);
    if (!data && niz_shape_count(&shape)) {
        niz_fail(z, at, NIZ_E_ARGUMENT, "no data: the pointer is NULL for %s",
                 niz_type_text(dtype, &shape).text);
        return niz_inert(z);
    }
    niz_t t = niz_leaf(r, at, &niz_op_data, (niz_attrs){0}, dtype, &shape);
    static const char nothing;
    if (t.id != NIZ_NONE) r->g.node[t.id].data = data ? (void *)data : (void *)&nothing;
    return t;
}

/* Small values go to the arena and die with their step there; large ones have their own memory. */
#define NIZ_SMALL_LEAF 256

niz_t niz_copy_from_at(niz_at at, niz *z, niz_dtype dtype, niz_shape shape, const void *data)
{
    niz_t t = niz_from_at(at, z, dtype, shape, data);
    if (t.id == NIZ_NONE) return t;
    niz_recording *r = niz_recording_of(z);
    niz_node *n = &r->g.node[t.id];
    size_t bytes = niz_node_bytes(n);
    bool small = bytes <= NIZ_SMALL_LEAF;
    void *copy = small ? niz_arena_alloc(&r->g.arena, bytes) : niz_realloc(z, NULL, bytes);
    if (!copy) return niz_inert(z);
    if (bytes) memcpy(copy, data, bytes);
    n->data = copy;
    if (!small) n->flags |= NIZ_NODE_OWNED;
    return t;
}

/* Volatile, so that the rounding stays where it is written. */
static float niz_leaf_f32(double value)
{
    NIZ_CONTROL;
    volatile double from = value;
    volatile float to = (float)from;
    return to;
}

niz_t niz_scalar_at(niz_at at, niz *z, niz_dtype dtype, double value)
{
    union {
        float f32;
        double f64;
        int32_t i32;
        int64_t i64;
        uint8_t u8;
    } v = {.f64 = 0};
    bool whole = value >= -0x1p63 && value < 0x1p63 && value == trunc(value);
    switch (dtype) {
    case NIZ_F32: v.f32 = niz_leaf_f32(value); break;
    case NIZ_F64: v.f64 = value; break;
    case NIZ_I32: whole = whole && value >= INT32_MIN && value <= INT32_MAX; break;
    case NIZ_U8: whole = whole && value >= 0 && value <= UINT8_MAX; break;
    default: break;
    }
    if (!niz_dtype_is_float(dtype)) {
        if (!whole && z) {
            niz_fail(z, at, NIZ_E_DTYPE, "the number %g is no %s", value, niz_dtype_name(dtype));
            return niz_inert(z);
        }
        if (dtype == NIZ_I32) v.i32 = (int32_t)value;
        if (dtype == NIZ_I64) v.i64 = (int64_t)value;
        if (dtype == NIZ_U8) v.u8 = (uint8_t)value;
        if (dtype == NIZ_BOOL) v.u8 = value != 0;
    }
    return niz_copy_from_at(at, z, dtype, (niz_shape){0}, &v);
}

/* ---- operands that may be numbers ----------------------------------------------------------- */

bool niz_number_fits(niz *z, niz_at at, const char *name, niz_dtype dtype, double v)
{
    if (niz_dtype_is_float(dtype)) return true;
    double lo = dtype == NIZ_I32 ? INT32_MIN : dtype == NIZ_I64 ? -0x1p53 : 0;
    double hi = dtype == NIZ_I32   ? INT32_MAX
                : dtype == NIZ_I64 ? 0x1p53
                : dtype == NIZ_U8  ? UINT8_MAX
                                   : 1;
    if (v == trunc(v) && v >= lo && v <= hi) return true;
    niz_fail(z, at, NIZ_E_DTYPE, "%s: the number %.17g does not fit a tensor of %s; niz_cast it",
             name, v, niz_dtype_name(dtype));
    return false;
}

bool niz_operands(niz_at at, const char *name, niz_arg a, niz_arg b, niz_t out[2])
{
    const niz_arg arg[2] = {a, b};
    niz_arg tensor = a.is_number ? b : a;
    niz *z = tensor.is_number ? NULL : tensor.t.z;
    niz_recording *r = niz_recording_of(z);
    out[0] = out[1] = niz_inert(z);
    if (!r || z->status || !niz_handle_node(r, at, tensor.t, "an operand")) return false;
    niz_dtype dtype = niz_dtype_of(tensor.t);
    for (int i = 0; i < 2; i++) {
        if (!arg[i].is_number)
            out[i] = arg[i].t;
        else if (!niz_number_fits(z, at, name, dtype, arg[i].number))
            return false;
        else
            out[i] = niz_literal(z, at, dtype, arg[i].number);
    }
    return !z->status;
}
