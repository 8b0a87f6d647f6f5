/* type.c - see type.h.  SPDX-License-Identifier: MIT */
#include "core/type.h"

#include <string.h>

static const struct {
    const char *name;
    size_t size;
} niz_dtypes[NIZ_N_DTYPES] = {
    [NIZ_F32] = {"f32", 4}, [NIZ_F64] = {"f64", 8}, [NIZ_I32] = {"i32", 4},
    [NIZ_I64] = {"i64", 8}, [NIZ_U8] = {"u8", 1},   [NIZ_BOOL] = {"bool", 1},
};

const char *niz_dtype_name(niz_dtype d)
{
    return (unsigned)d < NIZ_N_DTYPES ? niz_dtypes[d].name : "?";
}

size_t niz_dtype_size(niz_dtype d)
{
    return (unsigned)d < NIZ_N_DTYPES ? niz_dtypes[d].size : 0;
}

bool niz_dtype_parse(const char *name, size_t length, niz_dtype *out)
{
    for (int d = 0; d < NIZ_N_DTYPES; d++)
        if (strlen(niz_dtypes[d].name) == length && !memcmp(name, niz_dtypes[d].name, length)) {
            *out = (niz_dtype)d;
            return true;
        }
    return false;
}

int64_t niz_shape_count(const niz_shape *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++) n *= s->dim[i];
    return n;
}

bool niz_shape_equal(const niz_shape *a, const niz_shape *b)
{
    if (a == b) return true;
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++) /* of few: shorter than a call of memcmp */
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

niz_text niz_type_text(niz_dtype dtype, const niz_shape *s)
{
    niz_text t;
    int n = snprintf(t.text, sizeof t.text, "%s[", niz_dtype_name(dtype));
    for (int i = 0; i < s->rank && n < (int)sizeof t.text; i++)
        n += snprintf(t.text + n, sizeof t.text - (size_t)n, "%s%lld", i ? "," : "",
                      (long long)s->dim[i]);
    if (n < (int)sizeof t.text) snprintf(t.text + n, sizeof t.text - (size_t)n, "]");
    return t;
}

const char *niz_shape_fault(const niz_shape *s)
{
    if (s->rank < 0 || s->rank > NIZ_MAX_RANK) return "a tensor has 0 to 8 axes";
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++) {
        if (s->dim[i] < 0) return "a size is negative";
        /* zeros count as ones here: a shape that is empty by luck must not hide an absurd one */
        if (__builtin_mul_overflow(n, s->dim[i] ? s->dim[i] : 1, &n) || n > INT64_MAX / 16)
            return "more elements than memory can hold";
    }
    return NULL;
}

bool niz_shape_broadcast(const niz_shape *a, const niz_shape *b, niz_shape *out)
{
    int rank = a->rank > b->rank ? a->rank : b->rank;
    niz_shape y = {.rank = rank};
    for (int i = 1; i <= rank; i++) {
        int64_t p = i <= a->rank ? a->dim[a->rank - i] : 1;
        int64_t q = i <= b->rank ? b->dim[b->rank - i] : 1;
        if (p != q && p != 1 && q != 1) return false;
        y.dim[rank - i] = p == 1 ? q : p;
    }
    *out = y;
    return true;
}

void niz_shape_strides(const niz_shape *s, int64_t *stride)
{
    int64_t step = 1;
    for (int i = s->rank; i-- > 0;) {
        stride[i] = step;
        step *= s->dim[i];
    }
}

bool niz_axis(int rank, int64_t *axis)
{
    if (*axis < 0) *axis += rank;
    return *axis >= 0 && *axis < rank;
}
