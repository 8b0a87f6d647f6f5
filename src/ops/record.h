/* record.h - what the files of records share: samples, coordinates, moving of elements, checks of
 * a builder's arguments.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_RECORD_H
#define NIZ_RECORD_H

#include <math.h>
#include <string.h>

#include "core/type.h"
#include "graph/recording.h"
/* after them: its macros have short names */
#include <niz/ops.h>

#define SAMPLES(...)                                                                               \
    .samples = (const niz_sample[]){__VA_ARGS__},                                                  \
    .n_samples = NIZ_COUNT(((const niz_sample[]){__VA_ARGS__}))
#define VALUES(...) ((const double[]){__VA_ARGS__})

/* ---- coordinates ---------------------------------------------------------------------------- */

/** The coordinates of element i in row-major order, and back. */
static inline void niz_unravel(const niz_shape *s, int64_t i, int64_t at[NIZ_MAX_RANK])
{
    for (int d = s->rank; d-- > 0; i /= s->dim[d]) at[d] = i % s->dim[d];
}

static inline int64_t niz_ravel(const niz_shape *s, const int64_t *at)
{
    int64_t i = 0;
    for (int d = 0; d < s->rank; d++) i = i * s->dim[d] + at[d];
    return i;
}

/** The elements of all axes before (after) one. */
static inline int64_t niz_count_of(const niz_shape *s, int from, int to)
{
    int64_t n = 1;
    for (int d = from; d < to; d++) n *= s->dim[d];
    return n;
}

/** A part of one row of y: its coordinates, elements [from, to) along the last axis. */
typedef struct niz_row {
    int64_t at[NIZ_MAX_RANK]; /* at[rank - 1] is from */
    int64_t from, to;
    void *y;
} niz_row;

/** Does every row, or part of one, in [begin, end) of y.  Rank 0 is one row of one element. */
static inline void niz_rows(niz_eval *e, void (*row)(niz_eval *e, const niz_row *r))
{
    const niz_shape *s = &e->y.shape;
    int last = s->rank - 1;
    int64_t n = s->rank ? s->dim[last] : 1;
    size_t bytes = niz_dtype_size(e->y.dtype);
    if (e->begin >= e->end) return;
    niz_row r = {{0}, 0, 0, NULL};
    niz_unravel(s, e->begin, r.at);
    for (int64_t i = e->begin; i < e->end; i += r.to - r.from) {
        r.from = s->rank ? r.at[last] : 0;
        r.to = n - r.from < e->end - i ? n : r.from + (e->end - i);
        r.y = (char *)e->y.data + (size_t)i * bytes;
        row(e, &r);
        if (s->rank) r.at[last] = 0;
        for (int d = last; d-- > 0;) {
            if (++r.at[d] < s->dim[d]) break;
            r.at[d] = 0;
        }
    }
}

/* ---- elements of any dtype ------------------------------------------------------------------ */

/** Copies n elements, steps in elements. */
static inline void niz_move(void *y, int64_t y_step, const void *x, int64_t x_step, int64_t n,
                            size_t bytes)
{
    if (y_step == 1 && x_step == 1) {
        if (n > 0) memcpy(y, x, (size_t)n * bytes);
        return;
    }
    char *to = y;
    const char *from = x;
    int64_t y_bytes = y_step * (int64_t)bytes, x_bytes = x_step * (int64_t)bytes;
    for (int64_t i = 0; i < n; i++, to += y_bytes, from += x_bytes)
        switch (bytes) {
        case 8: memcpy(to, from, 8); break;
        case 4: memcpy(to, from, 4); break;
        default: *to = *from; break;
        }
}

/** y[at + i] += x[from + i step], numbers; integers wrap. */
static inline void niz_accumulate(niz_dtype dtype, void *y, int64_t at, const void *x, int64_t from,
                                  int64_t step, int64_t n)
{
#define NIZ_ACCUMULATE(T, U)                                                                       \
    for (int64_t i = 0; i < n; i++)                                                                \
        ((T *)y)[at + i] = (T)((U)((T *)y)[at + i] + (U)((const T *)x)[from + i * step])
    switch (dtype) {
    case NIZ_F32: NIZ_ACCUMULATE(float, float); break;
    case NIZ_F64: NIZ_ACCUMULATE(double, double); break;
    case NIZ_I32: NIZ_ACCUMULATE(int32_t, uint32_t); break;
    default: NIZ_ACCUMULATE(int64_t, uint64_t); break;
    }
#undef NIZ_ACCUMULATE
}

/** Whether a dtype can hold a literal: integers exactly; see niz_number_fits. */
static inline bool niz_dtype_holds(niz_dtype dtype, double v)
{
    switch (dtype) {
    case NIZ_I32: return v == trunc(v) && v >= INT32_MIN && v <= INT32_MAX;
    case NIZ_I64: return v == trunc(v) && fabs(v) < 0x1p53;
    case NIZ_U8: return v == trunc(v) && v >= 0 && v <= UINT8_MAX;
    case NIZ_BOOL: return v == 0 || v == 1;
    default: return true;
    }
}

static inline double niz_attr_double(int64_t word)
{
    double v;
    memcpy(&v, &word, sizeof v);
    return v;
}

static inline int64_t niz_attr_of_double(double v)
{
    int64_t word;
    memcpy(&word, &v, sizeof word);
    return word;
}

/* ---- builders ------------------------------------------------------------------------------- */

/** Whether a builder in z can use x: no error so far, and x lives there.  Reports a stale, empty or
 *  foreign handle. */
static inline bool niz_usable(niz *z, niz_at at, niz_t x, const char *what)
{
    niz_recording *r = niz_recording_of(z);
    return r && !z->status && (niz_handle_lives(r, x) || niz_handle_node(r, at, x, what));
}

/** A record of one operand. */
static inline niz_t niz_apply_one(niz_at at, const niz_op *op, niz_t x, int n, const int64_t *attr)
{
    return niz_apply_at(at, op, 1, &x, &(niz_attrs){n, attr});
}

/** Counts an axis from the front: 0 .. rank-1 of so many axes.  Reports one outside. */
static inline bool niz_axis_fits(niz_at at, niz_t x, int rank, int64_t *axis)
{
    int64_t given = *axis;
    if (niz_axis(rank, axis)) return true;
    niz_fail(x.z, at, NIZ_E_ARGUMENT, "axis %lld is outside the %d axes: x %s", (long long)given,
             rank, niz_describe(x).text);
    return false;
}

/** The axes that reduction options name, as bits; false (reported) if they name wrong ones. */
bool niz_reduce_mask(niz_at at, niz_t x, int axis, const niz_axes *axes, unsigned *mask);
/** One-axis reductions of these axes, the innermost first; then sizes of 1 for them if asked. */
niz_t niz_reduce_chain(niz_at at, const niz_op *op, niz_t x, unsigned mask, bool keepdims);
/** x's shape with size 1 along the axes of mask. */
niz_shape niz_reduce_kept(niz_t x, unsigned mask);

#endif
