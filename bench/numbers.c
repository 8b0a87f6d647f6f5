/* numbers.c - the same numbers in every framework.
 *
 * SPDX-License-Identifier: MIT */
#include "numbers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Knuth's 64-bit linear congruential generator; the top 24 bits as [0, 1). */
static double draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 40) / 16777216.0;
}

static void *room(int64_t n, size_t bytes)
{
    void *p = malloc(n ? (size_t)n * bytes : 1);
    if (p) return p;
    fprintf(stderr, "bench: no memory\n");
    exit(1);
}

double *numbers_f64(uint64_t seed, int64_t n, double lo, double hi)
{
    double *v = room(n, sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = lo + (hi - lo) * draw(&seed);
    return v;
}

float *numbers_f32(uint64_t seed, int64_t n, double lo, double hi)
{
    float *v = room(n, sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = (float)(lo + (hi - lo) * draw(&seed));
    return v;
}

int32_t *numbers_i32(uint64_t seed, int64_t n, int count)
{
    int32_t *v = room(n, sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = (int32_t)(draw(&seed) * count);
    return v;
}

/* ---- parameters ------------------------------------------------------------------------------ */

/* FNV-1a */
static uint64_t seed_of(const char *name)
{
    uint64_t h = 14695981039346656037u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 1099511628211u;
    return h;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcmp(name + n - m, end);
}

static void set_param(niz *z, niz_param_info p)
{
    int64_t n = niz_shape_count(&p.shape);
    bool vector = p.shape.rank < 2;
    double bound = !vector                     ? sqrt((double)p.shape.dim[0] / (double)n)
                   : ends_with(p.name, "bias") ? 0.1
                                               : 0.5;
    bool ones = vector && ends_with(p.name, "weight");
    double lo = ones ? 1 : -bound, hi = ones ? 1 : bound;
    void *v = p.dtype == NIZ_F64 ? (void *)numbers_f64(seed_of(p.name), n, lo, hi)
                                 : (void *)numbers_f32(seed_of(p.name), n, lo, hi);
    niz_param_set(z, p.name, p.dtype, p.shape, true, v);
    free(v);
}

void numbers_params(niz *z)
{
    for (int64_t i = 0; i < niz_param_count(z); i++) {
        niz_param_info p = niz_param_get(z, i);
        if (p.trainable) set_param(z, p);
    }
}
