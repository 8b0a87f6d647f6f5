/* part.c - parts of a data set.
 *
 * A part is a value that programs may build themselves, so whoever takes one checks it once, here,
 * and may index without a care afterwards.
 *
 * SPDX-License-Identifier: MIT */
#include "data/part.h"

#include <niz/op.h>

#include <inttypes.h>
#include <string.h>

#include "data/dataset.h"

niz_part niz_all(const niz_dataset *d)
{
    return (niz_part){d, d ? d->count : 0, NULL};
}

/* A data set filled in by a program may have a sample shape that is not what .features says. */
static bool sizes_agree(const niz_dataset *d)
{
    int64_t n = 1;
    if (d->sample.rank < 0 || d->sample.rank >= NIZ_MAX_RANK) return false;
    for (int i = 0; i < d->sample.rank; i++)
        if (d->sample.dim[i] < 0 || __builtin_mul_overflow(n, d->sample.dim[i], &n)) return false;
    return n == d->features && d->count >= 0;
}

/* What is wrong with a data set's features; NULL: nothing. */
static const char *flaw_of(const niz_dataset *d)
{
    if (!sizes_agree(d)) return "are not the product of its sample's sizes";
    if (!d->x && !d->bytes && d->count && d->features) return "are missing: no x and no bytes";
    if (d->x && d->bytes) return "are given twice, as x and as bytes";
    if (d->bytes && d->divisor == 0) return "are bytes without a divisor";
    if (d->normalizer && d->normalizer->features != d->features)
        return "are not as many as its normalizer's";
    return NULL;
}

static bool is_within(niz_part p, int64_t *bad)
{
    *bad = p.count;
    if (p.count < 0) return false;
    if (!p.index) return p.count <= p.of->count;
    for (int64_t i = 0; i < p.count; i++) {
        *bad = p.index[i];
        if (*bad < 0 || *bad >= p.of->count) return false;
    }
    return true;
}

bool niz_part_check(niz_at at, niz *z, niz_part part)
{
    int64_t bad;
    if (niz_error(z)) return false;
    const char *flaw = part.of ? flaw_of(part.of) : NULL;
    if (!part.of)
        niz_fail(z, at, NIZ_E_ARGUMENT, "there is no data set");
    else if (flaw)
        niz_fail(z, at, NIZ_E_ARGUMENT, "the data set's features, %" PRId64 ", %s",
                 part.of->features, flaw);
    else if (!is_within(part, &bad))
        niz_fail(z, at, NIZ_E_ARGUMENT,
                 "the part reaches to sample %" PRId64 " of a data set of %" PRId64, bad,
                 part.of->count);
    else
        return true;
    return false;
}

niz_status niz_part_read_at(niz_at at, niz *z, niz_part part, float *x)
{
    NIZ_FUNCTION(z, at, "part_read");
    if (!niz_part_check(at, z, part)) return niz_error(z);
    if (!x && part.count && part.of->features)
        return niz_fail(z, at, NIZ_E_ARGUMENT, "there is nowhere to read to");
    for (int64_t i = 0; i < part.count; i++)
        niz_dataset_row(part.of, niz_part_row(part, i), x + i * part.of->features);
    return NIZ_OK;
}

void niz_class_counts(niz_part part, int64_t *counts)
{
    if (!part.of || !part.of->label) return;
    memset(counts, 0, (size_t)part.of->n_classes * sizeof *counts);
    for (int64_t i = 0; i < part.count; i++) {
        int32_t c = part.of->label[niz_part_row(part, i)];
        if (c >= 0 && c < part.of->n_classes) counts[c]++;
    }
}
