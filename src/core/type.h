/* type.h - element types and shapes.  SPDX-License-Identifier: MIT */
#ifndef NIZ_TYPE_H
#define NIZ_TYPE_H

#include <niz/core.h>
#include <niz/op.h>

static inline bool niz_dtype_is_number(niz_dtype d)
{
    return d <= NIZ_I64;
}

/** "f32[64,784]" */
niz_text niz_type_text(niz_dtype dtype, const niz_shape *shape);

/** The dtype of that name; false if there is none. */
bool niz_dtype_parse(const char *name, size_t length, niz_dtype *out);

/** Why a shape cannot be (negative size, rank, more bytes than an address space), or NULL. */
const char *niz_shape_fault(const niz_shape *s);

/** numpy's rule: trailing sizes equal or 1.  False if they do not fit. */
bool niz_shape_broadcast(const niz_shape *a, const niz_shape *b, niz_shape *out);

/** Row-major strides in elements. */
void niz_shape_strides(const niz_shape *s, int64_t *stride);

/** Maps -rank..rank-1 to 0..rank-1; false if outside. */
bool niz_axis(int rank, int64_t *axis);

#endif
