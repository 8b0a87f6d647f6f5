/* part.c - parts of a data set.
 *
 * A part is a value that programs may build themselves, so whoever takes one checks it once, here,
 * and may index without a care afterwards.
 *
 * SPDX-License-Identifier: MIT */
#include "data/part.h"

#include <inttypes.h>
#include <string.h>

niz_part niz_all(const niz_dataset *d)
{
    return (niz_part){d, d ? d->count : 0, NULL};
}

/* A data set filled in by a program may have a sample shape that is not what .features says. */
static bool is_sound(const niz_dataset *d)
{
    int64_t n = 1;
    if (d->sample.rank < 0 || d->sample.rank >= NIZ_MAX_RANK) return false;
    for (int i = 0; i < d->sample.rank; i++)
        if (d->sample.dim[i] < 0 || __builtin_mul_overflow(n, d->sample.dim[i], &n)) return false;
    return n == d->features && d->count >= 0 && (d->x || !d->count || !n);
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
    if (!part.of)
        niz_fail(z, at, NIZ_E_ARGUMENT, "there is no data set");
    else if (!is_sound(part.of))
        niz_fail(z, at, NIZ_E_ARGUMENT,
                 "the data set's features, %" PRId64 ", are not the product of its sample's sizes, "
                 "or it has no x",
                 part.of->features);
    else if (!is_within(part, &bad))
        niz_fail(z, at, NIZ_E_ARGUMENT,
                 "the part reaches to sample %" PRId64 " of a data set of %" PRId64, bad,
                 part.of->count);
    else
        return true;
    return false;
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
