/* dataset.c - what a data set is made of, how its features are read, and its end.
 *
 * Owns niz_dataset: the struct and every array in it are blocks of their own from the context's
 * allocator.  A data set that a program filled in itself is never freed here.
 *
 * Features are read here and nowhere else, so no other file knows whether they are floats or bytes.
 * A sample is converted, then normalised, while it is in the nearest cache: for images of bytes
 * that is faster than to fetch four times as much memory.
 *
 * SPDX-License-Identifier: MIT */
#include "data/dataset.h"

#include <string.h>

#include "data/memory.h"

niz_dataset *niz_dataset_new(niz *z, int64_t count, niz_shape sample)
{
    niz_dataset *d = niz_memory_zeroed(z, 1, sizeof *d);
    if (!d) return NULL;
    d->count = count;
    d->sample = sample;
    d->features = 1;
    for (int i = 0; i < sample.rank; i++) d->features *= sample.dim[i];
    return d;
}

void niz_dataset_free(niz *z, niz_dataset *d)
{
    if (!d) return;
    niz_free(z, d->x);
    niz_free(z, d->bytes);
    niz_free(z, d->label);
    niz_free(z, d->target);
    niz_free(z, (void *)d->feature_names);
    niz_free(z, (void *)d->class_names);
    niz_free(z, d);
}

/* A loop over vectors; a table of the 256 quotients would be one over single numbers. */
static void divide(int64_t n, const uint8_t *restrict bytes, float divisor, float *restrict x)
{
    for (int64_t i = 0; i < n; i++) x[i] = (float)bytes[i] / divisor;
}

void niz_dataset_row(const niz_dataset *d, int64_t row, float *x)
{
    int64_t n = d->features;
    if (!n) return;
    if (d->bytes)
        divide(n, d->bytes + row * n, d->divisor, x);
    else
        memcpy(x, d->x + row * n, (size_t)n * sizeof *x);
    niz_normalizer_rows(d->normalizer, 1, x);
}

void niz_dataset_prefetch(const niz_dataset *d, int64_t row)
{
    enum { LINE = 64, MOST = 4096 }; /* a longer row's rest is fetched as it is read, in order */
    int64_t bytes = d->features * (int64_t)(d->bytes ? sizeof *d->bytes : sizeof *d->x);
    const char *from = (d->bytes ? (const char *)d->bytes : (const char *)d->x) + row * bytes;
    for (int64_t i = 0; i < bytes && i < MOST; i += LINE) __builtin_prefetch(from + i);
}

const char *const *niz_dataset_names(niz *z, int64_t n, const char *const *text)
{
    size_t pointers = (size_t)n * sizeof(char *), bytes = pointers;
    for (int64_t i = 0; i < n; i++) bytes += strlen(text[i]) + 1;
    const char **names = niz_realloc(z, NULL, bytes ? bytes : 1);
    if (!names) return NULL;
    char *to = (char *)names + pointers;
    for (int64_t i = 0; i < n; i++) {
        size_t length = strlen(text[i]) + 1;
        names[i] = memcpy(to, text[i], length);
        to += length;
    }
    return names;
}

niz_shape niz_dataset_shape(const niz_dataset *d, int64_t rows)
{
    niz_shape s = {d->sample.rank + 1, {rows}};
    for (int i = 0; i < d->sample.rank; i++) s.dim[i + 1] = d->sample.dim[i];
    return s;
}
