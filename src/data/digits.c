/* digits.c - the UCI digits, unpacked from the text that digits_table.c holds.
 *
 * SPDX-License-Identifier: MIT */
#include "data/dataset.h"
#include "data/digits_table.h"
#include "data/memory.h"

static float ink(char c)
{
    return c == '.' ? 0.0f : (float)(c - 'a' + 1);
}

niz_dataset *niz_digits(niz *z)
{
    const int64_t n = NIZ_DIGITS_COUNT, pixels = NIZ_DIGITS_PIXELS;
    if (niz_error(z)) return NULL;
    niz_dataset *d = niz_dataset_new(z, n, (niz_shape){2, {8, 8}});
    if (d) d->x = niz_memory_array(z, NULL, n * pixels, sizeof *d->x);
    if (d) d->label = niz_memory_array(z, NULL, n, sizeof *d->label);
    if (!d || !d->x || !d->label) {
        niz_dataset_free(z, d);
        return NULL;
    }
    d->n_classes = 10;
    for (int64_t i = 0; i < n; i++) {
        const char *row = niz_digits_table[i];
        d->label[i] = row[0] - '0';
        for (int64_t j = 0; j < pixels; j++)
            d->x[i * pixels + j] = ink(row[1 + j]) / 16.0f;
    }
    return d;
}
