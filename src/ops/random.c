/* random.c - random draws and counting: values made from a position, not from memory.
 *
 * Philox 4x32-10 (Salmon, Moraes, Dror, Shaw 2011) maps a key and a counter to 4 words of 32 bits.
 * A draw's operand is i64[4] = (seed, scope, step, ordinal), all data:
 *
 *   key      (seed mod 2^32, seed / 2^32)
 *   counter  (block mod 2^32, block / 2^32, h mod 2^32, h / 2^32)
 *            h = mix(mix(mix(scope) ^ step) ^ ordinal), mix the finaliser of splitmix64
 *   f32      element i: word i mod 4 of block i / 4; its upper 24 bits times 2^-24
 *   f64      element i: words 2 (i mod 2), the lower half, and 2 (i mod 2) + 1 of block i / 2; the
 *            upper 53 of these 64 bits times 2^-53
 *
 * so any part of a draw can be made alone, on any thread.  mix is one-to-one: two draws of one
 * scope and step never share a counter.
 *
 * SPDX-License-Identifier: MIT */
#include "ops/random.h"

#include "ops/families.h"
#include "ops/record.h"

extern const niz_op niz_op_uniform, niz_op_iota;

/* ---- Philox --------------------------------------------------------------------------------- */

/* Known answers (Random123, kat_vectors):
 *   counter 0 0 0 0, key 0 0:  6627e8d5 e169c58d bc57ac4c 9b00dbd8
 *   all bits 1:                408f276d 41c83b0e a20bc7c6 6d5451fd
 *   counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0:
 *                              d16cfe09 94fdcceb 5001e420 24126ea1 */
void niz_random_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
    uint32_t k0 = key[0], k1 = key[1];
    uint32_t a = counter[0], b = counter[1], c = counter[2], d = counter[3];
    for (int round = 0; round < 10; round++) {
        uint64_t p = (uint64_t)0xD2511F53 * a, q = (uint64_t)0xCD9E8D57 * c;
        a = (uint32_t)(q >> 32) ^ b ^ k0;
        b = (uint32_t)q;
        c = (uint32_t)(p >> 32) ^ d ^ k1;
        d = (uint32_t)p;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    out[0] = a, out[1] = b, out[2] = c, out[3] = d;
}

static uint64_t mix(uint64_t v)
{
    v += 0x9E3779B97F4A7C15;
    v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9;
    v = (v ^ v >> 27) * 0x94D049BB133111EB;
    return v ^ v >> 31;
}

/* A draw: what is the same for all its blocks. */
typedef struct draw {
    uint32_t key[2], counter[4];
} draw;

static draw draw_of(uint64_t seed, uint64_t scope, uint64_t step, uint64_t ordinal)
{
    uint64_t h = mix(mix(mix(scope) ^ step) ^ ordinal);
    return (draw){{(uint32_t)seed, (uint32_t)(seed >> 32)},
                  {0, 0, (uint32_t)h, (uint32_t)(h >> 32)}};
}

static void draw_block(draw *d, uint64_t block, uint32_t word[4])
{
    d->counter[0] = (uint32_t)block;
    d->counter[1] = (uint32_t)(block >> 32);
    niz_random_philox(d->key, d->counter, word);
}

/* ---- uniform -------------------------------------------------------------------------------- */

/* The attributes' list of sizes, after `from` words. */
static bool dims_infer(niz_infer *f, int from)
{
    if (f->attr.n < from || f->attr.n - from > NIZ_MAX_RANK)
        return niz_infer_fail(f, NIZ_E_SHAPE, "a tensor has 0 to 8 axes");
    f->made = (niz_shape){.rank = f->attr.n - from};
    for (int d = 0; d < f->made.rank; d++) f->made.dim[d] = f->attr.value[from + d];
    const char *fault = niz_shape_fault(&f->made);
    if (fault) return niz_infer_fail(f, NIZ_E_SHAPE, "%s", fault);
    f->dtype = (niz_dtype)f->attr.value[0];
    f->shape = &f->made;
    return true;
}

/* to:t dims[] */
static bool uniform_infer(niz_infer *f)
{
    if (f->attr.n < 1 || (f->attr.value[0] != NIZ_F32 && f->attr.value[0] != NIZ_F64))
        return niz_infer_fail(f, NIZ_E_DTYPE, "draws are f32 or f64");
    const niz_type *key = &f->x[0];
    if (key->dtype != NIZ_I64 || key->shape->rank != 1 || key->shape->dim[0] != 4)
        return niz_infer_fail(f, NIZ_E_ARGUMENT, "the key of a draw is i64[4]");
    return dims_infer(f, 1);
}

static void uniform_f32(draw *d, float *y, int64_t begin, int64_t end)
{
    uint32_t word[4];
    for (int64_t i = begin; i < end;) {
        draw_block(d, (uint64_t)i / 4, word);
        for (int64_t j = i % 4; j < 4 && i < end; j++, i++) y[i] = (float)(word[j] >> 8) * 0x1p-24f;
    }
}

static void uniform_f64(draw *d, double *y, int64_t begin, int64_t end)
{
    uint32_t word[4];
    for (int64_t i = begin; i < end;) {
        draw_block(d, (uint64_t)i / 2, word);
        for (int64_t j = i % 2; j < 2 && i < end; j++, i++) {
            uint64_t v = word[2 * j] | (uint64_t)word[2 * j + 1] << 32;
            y[i] = (double)(v >> 11) * 0x1p-53;
        }
    }
}

static void uniform_eval(niz_eval *e)
{
    const int64_t *k = e->x[0].data;
    draw d = draw_of((uint64_t)k[0], (uint64_t)k[1], (uint64_t)k[2], (uint64_t)k[3]);
    if (e->y.dtype == NIZ_F32)
        uniform_f32(&d, e->y.data, e->begin, e->end);
    else
        uniform_f64(&d, e->y.data, e->begin, e->end);
}

/* The paper's round with its key schedule written out, and one block an element. */
static uint32_t philox_ref_word(const uint64_t key[2], const uint64_t counter[4], int word)
{
    uint64_t x[4] = {counter[0], counter[1], counter[2], counter[3]};
    for (uint64_t r = 0; r < 10; r++) {
        uint64_t k0 = (key[0] + r * 0x9E3779B9) & UINT32_MAX;
        uint64_t k1 = (key[1] + r * 0xBB67AE85) & UINT32_MAX;
        uint64_t p = x[0] * 0xD2511F53, q = x[2] * 0xCD9E8D57;
        uint64_t next[4] = {q >> 32 ^ x[1] ^ k0, q & UINT32_MAX, p >> 32 ^ x[3] ^ k1,
                            p & UINT32_MAX};
        memcpy(x, next, sizeof x);
    }
    return (uint32_t)x[word];
}

static void uniform_ref(const niz_ref *r)
{
    uint64_t k[4];
    for (int i = 0; i < 4; i++) k[i] = (uint64_t)(int64_t)r->x[0][i];
    uint64_t h = mix(mix(mix(k[1]) ^ k[2]) ^ k[3]), key[2] = {k[0] & UINT32_MAX, k[0] >> 32};
    uint64_t each = r->attr.value[0] == NIZ_F32 ? 4 : 2;
    for (uint64_t i = 0, n = (uint64_t)niz_shape_count(&r->shape); i < n; i++) {
        uint64_t counter[4] = {i / each & UINT32_MAX, i / each >> 32, h & UINT32_MAX, h >> 32};
        int j = (int)(i % each);
        if (each == 4) {
            r->y[i] = floor(philox_ref_word(key, counter, j) / 256.0) / 16777216.0;
        } else {
            double lo = floor(philox_ref_word(key, counter, 2 * j) / 2048.0);
            r->y[i] = (philox_ref_word(key, counter, 2 * j + 1) * 2097152.0 + lo) * 0x1p-53;
        }
    }
}

const niz_op niz_op_uniform = {
    .name = "uniform", .arity = 1, .attrs = "to:t dims[]", .infer = uniform_infer,
    .eval = uniform_eval, .parallel = true, .no_gradient = true, .ref_tensor = uniform_ref,
    SAMPLES({.x = {{1, {4}}}, .n_attr = 2, .attr = {NIZ_F32, 601}, .below = {1000}},
            {.x = {{1, {4}}}, .n_attr = 3, .attr = {NIZ_F64, 17, 19}, .below = {1000}},
            {.x = {{1, {4}}}, .n_attr = 1, .attr = {NIZ_F32}, .below = {3}},
            {.x = {{1, {4}}}, .n_attr = 2, .attr = {NIZ_F64, 0}, .below = {3}},
            {.x = {{1, {4}}}, .n_attr = 2, .attr = {NIZ_I32, 3}, .below = {3},
             .refused = "draws are f32 or f64"},
            {.x = {{1, {3}}}, .n_attr = 2, .attr = {NIZ_F32, 3}, .below = {3},
             .refused = "is i64[4]"}),
};

/* ---- iota ----------------------------------------------------------------------------------- */

/* to:t axis dims[] */
static bool iota_infer(niz_infer *f)
{
    if (f->attr.n < 2 || (uint64_t)f->attr.value[0] > NIZ_I64)
        return niz_infer_fail(f, NIZ_E_DTYPE, "needs a number's dtype");
    int64_t axis = f->attr.value[1];
    if (!dims_infer(f, 2)) return false;
    if (axis < 0 || axis >= f->made.rank)
        return niz_infer_fail(f, NIZ_E_ARGUMENT, "axis %lld is outside the %d axes",
                              (long long)axis, f->made.rank);
    if (f->dtype == NIZ_I32 && f->made.dim[axis] > (int64_t)INT32_MAX + 1)
        return niz_infer_fail(f, NIZ_E_DTYPE, "%lld does not fit i32",
                              (long long)f->made.dim[axis] - 1);
    return true;
}

static void iota_eval(niz_eval *e)
{
    const niz_shape *s = &e->y.shape;
    int64_t axis = e->attr.value[1], n = s->dim[axis];
    int64_t inner = niz_count_of(s, (int)axis + 1, s->rank);
    for (int64_t i = e->begin; i < e->end; i++) {
        int64_t v = i / inner % n;
        switch (e->y.dtype) {
        case NIZ_F32: ((float *)e->y.data)[i] = (float)v; break;
        case NIZ_F64: ((double *)e->y.data)[i] = (double)v; break;
        case NIZ_I32: ((int32_t *)e->y.data)[i] = (int32_t)v; break;
        default: ((int64_t *)e->y.data)[i] = v; break;
        }
    }
}

static void iota_ref(const niz_ref *r)
{
    for (int64_t i = 0, n = niz_shape_count(&r->shape); i < n; i++) {
        int64_t at[NIZ_MAX_RANK];
        niz_unravel(&r->shape, i, at);
        r->y[i] = (double)at[r->attr.value[1]];
    }
}

const niz_op niz_op_iota = {
    .name = "iota", .arity = 0, .attrs = "to:t axis dims[]", .infer = iota_infer,
    .eval = iota_eval, .parallel = true, .no_gradient = true, .ref_tensor = iota_ref,
    SAMPLES({.n_attr = 3, .attr = {NIZ_I32, 0, 601}}, {.n_attr = 5, .attr = {NIZ_F32, 1, 3, 5, 7}},
            {.n_attr = 4, .attr = {NIZ_I64, 1, 3, 0}}, {.n_attr = 3, .attr = {NIZ_F64, 0, 1}},
            {.n_attr = 3, .attr = {NIZ_F64, 1, 1}, .refused = "axis 1 is outside"},
            {.n_attr = 3, .attr = {NIZ_BOOL, 0, 1}, .refused = "a number's dtype"}),
};

const niz_op *const niz_ops_random[] = {&niz_op_uniform, &niz_op_iota, NULL};

/* ---- builders ------------------------------------------------------------------------------- */

/* to:t, more words, dims[]: the number of words, or 0 (reported) if it is no shape. */
static int shape_words(niz *z, niz_at at, niz_dtype dtype, const niz_shape *shape, int n,
                       int64_t *word)
{
    const char *fault = niz_shape_fault(shape);
    if (fault) {
        niz_fail(z, at, NIZ_E_SHAPE, "not a shape: %s", fault);
        return 0;
    }
    word[0] = dtype;
    for (int d = 0; d < shape->rank; d++) word[n + d] = shape->dim[d];
    return n + shape->rank;
}

/* u in [0, 1) */
static niz_t unit(niz *z, niz_at at, niz_dtype dtype, const niz_shape *shape)
{
    int64_t word[1 + NIZ_MAX_RANK];
    int n = shape_words(z, at, dtype, shape, 1, word);
    if (!n) return niz_inert(z);
    if (!niz_dtype_is_float(dtype)) {
        niz_fail(z, at, NIZ_E_DTYPE, "draws are f32 or f64, not %s", niz_dtype_name(dtype));
        return niz_inert(z);
    }
    return niz_apply_one(at, &niz_op_uniform, niz_draw_key(z, at), n, word);
}

static bool is_live(const niz *z)
{
    return z && !z->status;
}

niz_t niz_uniform_at(niz_at at, niz *z, niz_dtype dtype, niz_shape shape, double lo, double hi)
{
    NIZ_FUNCTION(z, at, "uniform");
    if (!is_live(z)) return niz_inert(z);
    if (!(lo <= hi && hi - lo < INFINITY)) {
        niz_fail(z, at, NIZ_E_ARGUMENT, "[%g, %g) is no range", lo, hi);
        return niz_inert(z);
    }
    niz_t u = unit(z, at, dtype, &shape);
    if (hi - lo != 1) u = niz_mul(u, hi - lo);
    if (lo == 0 || lo == hi) return lo == 0 ? u : niz_add(u, lo);
    /* the sum may round up to hi, which is no value of the draw */
    double below = dtype == NIZ_F32 ? nextafterf((float)hi, (float)lo) : nextafter(hi, lo);
    return niz_minimum(niz_add(u, lo), below);
}

/* Box and Muller (1958): mean + std √(-2 ln(1-u)) cos(2πv) */
niz_t niz_normal_at(niz_at at, niz *z, niz_dtype dtype, niz_shape shape, double mean, double std)
{
    NIZ_FUNCTION(z, at, "normal");
    if (!is_live(z)) return niz_inert(z);
    if (!(std >= 0 && std < INFINITY)) {
        niz_fail(z, at, NIZ_E_ARGUMENT, "a standard deviation is at least 0, not %g", std);
        return niz_inert(z);
    }
    niz_t u = unit(z, at, dtype, &shape), v = unit(z, at, dtype, &shape);
    niz_t r = niz_sqrt(niz_mul(niz_log1p(niz_neg(u)), -2));
    niz_t y = niz_mul(r, niz_cos(niz_mul(v, 6.283185307179586)));
    if (std != 1) y = niz_mul(y, std);
    return mean != 0 ? niz_add(y, mean) : y;
}

niz_t niz_bernoulli_at(niz_at at, niz *z, niz_shape shape, double p)
{
    NIZ_FUNCTION(z, at, "bernoulli");
    if (!is_live(z)) return niz_inert(z);
    if (!(p >= 0 && p <= 1)) {
        niz_fail(z, at, NIZ_E_ARGUMENT, "a probability is in 0 .. 1, not %g", p);
        return niz_inert(z);
    }
    return niz_lt(unit(z, at, NIZ_F32, &shape), p);
}

niz_t niz_iota_at(niz_at at, niz *z, niz_dtype dtype, niz_shape shape, int axis)
{
    NIZ_FUNCTION(z, at, "iota");
    if (!is_live(z)) return niz_inert(z);
    int64_t word[2 + NIZ_MAX_RANK];
    int n = shape_words(z, at, dtype, &shape, 2, word);
    if (!n) return niz_inert(z);
    word[1] = axis < 0 ? axis + shape.rank : axis;
    return niz_apply_in(z, at, &niz_op_iota, 0, NULL, &(niz_attrs){n, word});
}
