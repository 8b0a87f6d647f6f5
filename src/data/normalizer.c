/* normalizer.c - mean and standard deviation of a part, and applying them.
 *
 * A data set that is normalised holds a pointer to its normaliser; dataset.c calls it for each
 * sample that is read.
 *
 * Two sweeps in double: the mean, then the squared distances from it; a one-sweep formula loses the
 * digits that matter when the mean is large.  A feature is constant if its smallest value equals
 * its largest; its computed deviation need not come out as zero.
 *
 * SPDX-License-Identifier: MIT */
#include <niz/op.h>

#include <math.h>

#include "data/dataset.h"
#include "data/memory.h"
#include "data/part.h"

typedef struct fit {
    niz_part part;
    int64_t features, slots; /* slots: features, or 1 over all of them */
    double *mean, *square;   /* [slots] */
    float *lo, *hi;          /* [slots] */
    float *x;                /* [features] of the sample at hand */
} fit;

static const float *row_of(const fit *f, int64_t i)
{
    niz_dataset_row(f->part.of, niz_part_row(f->part, i), f->x);
    return f->x;
}

static int64_t slot_of(const fit *f, int64_t feature)
{
    return f->slots == 1 ? 0 : feature;
}

/* The number of values that go into one slot. */
static double values(const fit *f)
{
    return (double)f->part.count * (double)(f->features / f->slots);
}

static void measure_mean(fit *f)
{
    const float *first = row_of(f, 0);
    for (int64_t s = 0; s < f->slots; s++) f->lo[s] = f->hi[s] = first[s];
    for (int64_t i = 0; i < f->part.count; i++) {
        const float *x = row_of(f, i);
        for (int64_t j = 0; j < f->features; j++) {
            int64_t s = slot_of(f, j);
            f->mean[s] += (double)x[j];
            if (x[j] < f->lo[s]) f->lo[s] = x[j];
            if (x[j] > f->hi[s]) f->hi[s] = x[j];
        }
    }
    for (int64_t s = 0; s < f->slots; s++) f->mean[s] /= values(f);
}

static void measure_square(fit *f)
{
    for (int64_t i = 0; i < f->part.count; i++) {
        const float *x = row_of(f, i);
        for (int64_t j = 0; j < f->features; j++) {
            double distance = (double)x[j] - f->mean[slot_of(f, j)];
            f->square[slot_of(f, j)] += distance * distance;
        }
    }
}

static void conclude(const fit *f, niz_normalizer *n)
{
    for (int64_t s = 0; s < f->slots; s++) {
        bool constant = f->lo[s] == f->hi[s] && isfinite(f->mean[s]);
        n->mean[s] = constant ? f->lo[s] : (float)f->mean[s];
        n->std[s] = constant ? 1.0f : (float)sqrt(f->square[s] / values(f));
        if (n->std[s] == 0) n->std[s] = 1.0f; /* differences below f32's smallest number */
    }
}

static bool make_arrays(niz *z, fit *f, niz_normalizer *n)
{
    f->mean = niz_memory_zeroed(z, f->slots, sizeof *f->mean);
    f->square = niz_memory_zeroed(z, f->slots, sizeof *f->square);
    f->lo = niz_memory_array(z, NULL, f->slots, sizeof *f->lo);
    f->hi = niz_memory_array(z, NULL, f->slots, sizeof *f->hi);
    f->x = niz_memory_array(z, NULL, f->features, sizeof *f->x);
    if (n) n->mean = niz_memory_array(z, NULL, f->slots, sizeof *n->mean);
    if (n) n->std = niz_memory_array(z, NULL, f->slots, sizeof *n->std);
    return f->mean && f->square && f->lo && f->hi && f->x && n && n->mean && n->std;
}

niz_normalizer *niz_normalizer_fit_at(niz_at at, niz *z, niz_normalizer_options o)
{
    NIZ_FUNCTION(z, at, "normalizer_fit");
    if (!niz_part_check(at, z, o.part)) return NULL;
    if (!o.part.count || !o.part.of->features) {
        niz_fail(z, at, NIZ_E_ARGUMENT, "the part is empty");
        return NULL;
    }
    int64_t features = o.part.of->features;
    fit f = {.part = o.part, .features = features, .slots = o.per_feature ? features : 1};
    niz_normalizer *n = niz_memory_zeroed(z, 1, sizeof *n);
    if (make_arrays(z, &f, n)) {
        n->features = features;
        n->per_feature = o.per_feature;
        measure_mean(&f);
        measure_square(&f);
        conclude(&f, n);
    } else {
        niz_normalizer_free(z, n);
        n = NULL;
    }
    niz_free(z, f.mean);
    niz_free(z, f.square);
    niz_free(z, f.lo);
    niz_free(z, f.hi);
    niz_free(z, f.x);
    return n;
}

/* Two loops over vectors. */
static void normalize(const niz_normalizer *n, float *restrict x)
{
    const float *mean = n->mean, *std = n->std;
    if (n->per_feature)
        for (int64_t j = 0; j < n->features; j++) x[j] = (x[j] - mean[j]) / std[j];
    else
        for (int64_t j = 0; j < n->features; j++) x[j] = (x[j] - *mean) / *std;
}

void niz_normalizer_rows(const niz_normalizer *n, int64_t count, float *x)
{
    if (!n) return;
    for (int64_t i = 0; i < count; i++) normalize(n, x + i * n->features);
}

niz_status niz_normalizer_apply_at(niz_at at, niz *z, const niz_normalizer *n, niz_dataset *d)
{
    NIZ_FUNCTION(z, at, "normalizer_apply");
    if (niz_error(z)) return niz_error(z);
    if (!n) return niz_fail(z, at, NIZ_E_ARGUMENT, "there is no normalizer");
    if (!niz_part_check(at, z, niz_all(d))) return niz_error(z);
    if (n->features != d->features)
        return niz_fail(z, at, NIZ_E_SHAPE, "fitted to %lld features, the data set has %lld",
                        (long long)n->features, (long long)d->features);
    if (d->normalizer)
        return niz_fail(z, at, NIZ_E_ARGUMENT, "the data set has a normalizer already");
    d->normalizer = n;
    return NIZ_OK;
}

void niz_normalizer_free(niz *z, niz_normalizer *n)
{
    if (!n) return;
    niz_free(z, n->mean);
    niz_free(z, n->std);
    niz_free(z, n);
}
