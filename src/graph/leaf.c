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
    NIZ_FUNCTION(z, at, "from");
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
    NIZ_FUNCTION(z, at, "copy_from");
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
    NIZ_FUNCTION(z, at, "scalar");
    niz_recording *r = niz_recording_of(z);
    const niz_shape scalar = {0};
    if (!r || z->status || !niz_leaf_fits(r, at, dtype, &scalar) ||
        !niz_number_fits(z, at, "scalar", dtype, value))
        return niz_inert(z);
    union {
        float f32;
        double f64;
        int32_t i32;
        int64_t i64;
        uint8_t u8;
    } v = {.f64 = 0};
    switch (dtype) {
    case NIZ_F32: v.f32 = niz_leaf_f32(value); break;
    case NIZ_F64: v.f64 = value; break;
    case NIZ_I32: v.i32 = (int32_t)value; break;
    case NIZ_I64: v.i64 = (int64_t)value; break;
    case NIZ_U8:
    case NIZ_BOOL: v.u8 = (uint8_t)value; break;
    }
    return niz_copy_from_at(at, z, dtype, scalar, &v);
}

/* ---- operands that may be numbers ----------------------------------------------------------- */

bool niz_number_fits(niz *z, niz_at at, const char *name, niz_dtype dtype, double v)
{
    if (niz_dtype_is_float(dtype)) return true;
    double lo = dtype == NIZ_I32 ? INT32_MIN : dtype == NIZ_I64 ? 1 - 0x1p53 : 0;
    double hi = dtype == NIZ_I32   ? INT32_MAX
                : dtype == NIZ_I64 ? 0x1p53 - 1
                : dtype == NIZ_U8  ? UINT8_MAX
                                   : 1;
    if (v == trunc(v) && v >= lo && v <= hi) return true;
    niz_fail_of(z, at, name, NIZ_E_DTYPE, "the number %.17g does not fit a tensor of %s; %s", v,
                niz_dtype_name(dtype),
                fabs(v) >= 0x1p53 ? "beyond 2^53 niz_copy_from takes integers" : "niz_cast it");
    return false;
}

/* The number is rounded already: what it was is not known here. */
static bool niz_operand_is_exact(niz *z, niz_at at, const char *name, niz_arg a)
{
    if (a.z != NIZ_ARG_INEXACT) return true;
    niz_fail_of(z, at, name, NIZ_E_ARGUMENT,
                "an integer near %.17g that no double holds; niz_copy_from takes it", a.is.number);
    return false;
}

/* What is not a number is a tensor of this recording; or says why not. */
static bool niz_operand_lives(niz_recording *r, niz_at at, const char *name, niz_arg a,
                              const char *what)
{
    niz_t t = niz_arg_handle(a);
    return niz_arg_is_number(a) || niz_handle_lives(r, t) ||
           niz_handle_node_of(r, at, name, t, what);
}

bool niz_operands(niz *z, niz_at at, const char *name, niz_arg a, niz_arg b, niz_t out[2])
{
    niz_recording *r = niz_recording_of(z);
    out[0] = out[1] = niz_inert(z);
    if (!r || z->status) return false;
    bool a_is_number = niz_arg_is_number(a), b_is_number = niz_arg_is_number(b);
    if (a_is_number && b_is_number) {
        niz_fail_of(z, at, name, NIZ_E_DTYPE,
                    "a and b are numbers, whose dtype is not known; make one of them a tensor with "
                    "niz_number_like or niz_full_like");
        return false;
    }
    if (!niz_operand_lives(r, at, name, a, "a") || !niz_operand_lives(r, at, name, b, "b"))
        return false;
    out[0] = niz_arg_handle(a);
    out[1] = niz_arg_handle(b);
    if (!a_is_number && !b_is_number) return true;
    niz_dtype dtype = (niz_dtype)r->g.node[out[a_is_number].id].dtype;
    niz_arg number = a_is_number ? a : b;
    if (!niz_operand_is_exact(z, at, name, number) ||
        (!niz_dtype_is_float(dtype) && !niz_number_fits(z, at, name, dtype, number.is.number)))
        return false;
    out[b_is_number] = niz_literal(z, at, dtype, number.is.number);
    return !z->status;
}
