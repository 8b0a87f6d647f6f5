/* reference.c - see reference.h.  Written from DESIGN §6, sentence by sentence, not for speed.
 *
 * SPDX-License-Identifier: MIT */
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int64_t niz_ref_count(const niz_loop_space *s)
{
    int64_t n = 1;
    for (int d = 0; d < s->rank; d++) n *= s->dim[d];
    return n;
}

int64_t niz_ref_offset(const niz_loop_space *s, int buffer, int64_t i)
{
    int64_t offset = 0;
    for (int d = s->rank - 1; d >= 0; d--) {
        offset += i % s->dim[d] * s->stride[buffer][d];
        i /= s->dim[d];
    }
    return offset;
}

/* "Element i belongs to block i/512 and lane i mod 16.  A lane starts as its first element and adds
 * the rest in index order; an absent lane is -0.  Lanes fold l += l+8, +4, +2, +1; blocks are added
 * in adjacent pairs, an odd one moving up, until one is left.  Sum of nothing is +0." */
#define FOLD(name, T, OP, ABSENT, NOTHING)                                                         \
    T niz_ref_##name(const T *x, int64_t n, int64_t stride)                                        \
    {                                                                                              \
        int64_t blocks = (n + 511) / 512;                                                          \
        if (n == 0) return NOTHING;                                                                \
        T *value = malloc((size_t)blocks * sizeof(T));                                             \
        if (!value) abort();                                                                       \
        for (int64_t b = 0; b < blocks; b++) {                                                     \
            T lane[16];                                                                            \
            bool present[16] = {false};                                                            \
            for (int l = 0; l < 16; l++) lane[l] = ABSENT;                                         \
            for (int64_t i = b * 512; i < n && i < (b + 1) * 512; i++) {                           \
                int l = (int)(i % 16);                                                             \
                lane[l] = present[l] ? lane[l] OP x[i * stride] : x[i * stride];                   \
                present[l] = true;                                                                 \
            }                                                                                      \
            for (int h = 8; h > 0; h /= 2)                                                         \
                for (int l = 0; l < h; l++) lane[l] = lane[l] OP lane[l + h];                      \
            value[b] = lane[0];                                                                    \
        }                                                                                          \
        while (blocks > 1) {                                                                       \
            for (int64_t b = 0; b + 1 < blocks; b += 2) value[b / 2] = value[b] OP value[b + 1];   \
            if (blocks % 2) value[blocks / 2] = value[blocks - 1];                                 \
            blocks = (blocks + 1) / 2;                                                             \
        }                                                                                          \
        T result = value[0];                                                                       \
        free(value);                                                                               \
        return result;                                                                             \
    }
FOLD(sum_f32, float, +, -0.0f, 0.0f)
FOLD(sum_f64, double, +, -0.0, 0.0)
FOLD(prod_f32, float, *, 1.0f, 1.0f)
FOLD(prod_f64, double, *, 1.0, 1.0)

/* "NaN if an operand is NaN, and -0 < +0": of two zeros the one with the wanted sign. */
#define EXTREME(name, T, BEFORE, NEGATIVE, NOTHING)                                                \
    T niz_ref_##name(const T *x, int64_t n, int64_t stride)                                        \
    {                                                                                              \
        T best = NOTHING;                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                          \
            T v = x[i * stride];                                                                   \
            if (isnan(v)) return v;                                                                \
            if (v BEFORE best) best = v;                                                           \
            if (v == 0 && best == 0 && (signbit(v) != 0) == NEGATIVE) best = v;                    \
        }                                                                                          \
        return best;                                                                               \
    }
EXTREME(max_f32, float, >, 0, -INFINITY)
EXTREME(max_f64, double, >, 0, -(double)INFINITY)
EXTREME(min_f32, float, <, 1, INFINITY)
EXTREME(min_f64, double, <, 1, (double)INFINITY)

#define POSITION(name, T, BEFORE)                                                                  \
    int64_t niz_ref_##name(const T *x, int64_t n, int64_t stride)                                  \
    {                                                                                              \
        int64_t best = 0;                                                                          \
        for (int64_t i = 0; i < n; i++)                                                            \
            if (isnan(x[i * stride])) return i;                                                    \
        for (int64_t i = 1; i < n; i++)                                                            \
            if (x[i * stride] BEFORE x[best * stride]) best = i;                                   \
        return best;                                                                               \
    }
POSITION(argmax_f32, float, >)
POSITION(argmax_f64, double, >)
POSITION(argmin_f32, float, <)
POSITION(argmin_f64, double, <)

/* "The summed index, flattened, in blocks of 384; inside a block fused multiply-add in index order
 * from fma(a, b, +0); block results added in order." */
#define ORDERED(T, FMA, suffix)                                                                    \
    typedef struct ordered_##suffix {                                                              \
        T total, block;                                                                            \
        int64_t n;                                                                                 \
    } ordered_##suffix;                                                                            \
    static void ordered_close_##suffix(ordered_##suffix *s)                                        \
    {                                                                                              \
        s->total = s->n <= 384 ? s->block : s->total + s->block;                                   \
    }                                                                                              \
    static void ordered_add_##suffix(ordered_##suffix *s, T a, T b)                                \
    {                                                                                              \
        bool starts = s->n % 384 == 0;                                                             \
        if (starts && s->n > 0) ordered_close_##suffix(s);                                         \
        s->block = FMA(a, b, starts ? (T)0 : s->block);                                            \
        s->n++;                                                                                    \
    }                                                                                              \
    static T ordered_end_##suffix(ordered_##suffix *s)                                             \
    {                                                                                              \
        if (s->n == 0) return 0;                                                                   \
        ordered_close_##suffix(s);                                                                 \
        return s->total;                                                                           \
    }                                                                                              \
    T niz_ref_dot_##suffix(const T *a, int64_t a_stride, const T *b, int64_t b_stride, int64_t n)  \
    {                                                                                              \
        ordered_##suffix s = {0, 0, 0};                                                            \
        for (int64_t k = 0; k < n; k++)                                                            \
            ordered_add_##suffix(&s, a[k * a_stride], b[k * b_stride]);                            \
        return ordered_end_##suffix(&s);                                                           \
    }                                                                                              \
    void niz_ref_contract_##suffix(const niz_contract_loop *l, const T *a, const T *b, T *y)       \
    {                                                                                              \
        int64_t rows = niz_ref_count(&l->m), cols = niz_ref_count(&l->n);                          \
        int64_t entries = niz_ref_count(&l->batch), terms = niz_ref_count(&l->k);                  \
        for (int64_t i = 0; i < entries * rows * cols; i++) {                                      \
            int64_t e = i / cols / rows, row = i / cols % rows, col = i % cols;                    \
            const T *u = a + niz_ref_offset(&l->batch, 0, e) + niz_ref_offset(&l->m, 0, row);      \
            const T *v = b + niz_ref_offset(&l->batch, 1, e) + niz_ref_offset(&l->n, 0, col);      \
            ordered_##suffix s = {0, 0, 0};                                                        \
            for (int64_t k = 0; k < terms; k++)                                                    \
                ordered_add_##suffix(&s, u[niz_ref_offset(&l->k, 0, k)],                           \
                                     v[niz_ref_offset(&l->k, 1, k)]);                              \
            y[i] = ordered_end_##suffix(&s);                                                       \
        }                                                                                          \
    }                                                                                              \
    void niz_ref_conv_##suffix(const niz_conv_loop *l, const T *x, const T *w, T *y)               \
    {                                                                                              \
        int64_t outputs = l->batch * l->groups * l->out;                                           \
        for (int d = 0; d < l->spatial; d++) outputs *= l->y_size[d];                              \
        for (int64_t j = 0; j < outputs; j++) {                                                    \
            ref_place at = ref_place_of(l, j);                                                     \
            ordered_##suffix s = {0, 0, 0};                                                        \
            for (int64_t t = 0; t < ref_terms(l); t++) {                                           \
                int64_t from, weight;                                                              \
                ref_term kind = ref_term_of(l, &at, t, &from, &weight);                            \
                if (kind == REF_HOLE) continue;                                                    \
                ordered_add_##suffix(&s, kind == REF_PADDING ? (T)0 : x[from], w[weight]);         \
            }                                                                                      \
            y[j] = ordered_end_##suffix(&s);                                                       \
        }                                                                                          \
    }

/* Indices of an output of a convolution. */
typedef struct ref_place {
    int64_t b, g, k, o[NIZ_CONV_MAX];
} ref_place;
typedef enum ref_term { REF_HOLE, REF_PADDING, REF_DATA } ref_term;

static ref_place ref_place_of(const niz_conv_loop *l, int64_t j)
{
    ref_place at;
    for (int d = l->spatial - 1; d >= 0; d--) {
        at.o[d] = j % l->y_size[d];
        j /= l->y_size[d];
    }
    at.k = j % l->out;
    at.g = j / l->out % l->groups;
    at.b = j / l->out / l->groups;
    return at;
}

/* The terms (c, i...), present or not. */
static int64_t ref_terms(const niz_conv_loop *l)
{
    int64_t n = l->in;
    for (int d = 0; d < l->spatial; d++) n *= l->w_size[d];
    return n;
}

/* Term t of an output: what it is, and where its factors lie. */
static ref_term ref_term_of(const niz_conv_loop *l, const ref_place *at, int64_t t, int64_t *from,
                            int64_t *weight)
{
    ref_term kind = REF_DATA;
    *from = at->b * l->x_stride[0] + at->g * l->x_stride[1];
    *weight = at->g * l->w_stride[0] + at->k * l->w_stride[1];
    for (int d = l->spatial - 1; d >= 0; d--) {
        int64_t i = t % l->w_size[d];
        int64_t q = at->o[d] * l->step[d] + i * l->dilation[d] - l->lo[d];
        t /= l->w_size[d];
        if (q % l->hole[d] != 0) return REF_HOLE;
        int64_t p = q / l->hole[d];
        if (p < 0 || p >= l->x_size[d]) kind = REF_PADDING;
        *from += p * l->x_stride[3 + d];
        *weight += i * l->w_stride[3 + d];
    }
    *from += t * l->x_stride[2];
    *weight += t * l->w_stride[2];
    return kind;
}

ORDERED(float, fmaf, f32)
ORDERED(double, fma, f64)

bool niz_ref_same_f32(float a, float b)
{
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

bool niz_ref_same_f64(double a, double b)
{
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}
