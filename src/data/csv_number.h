/* csv_number.h - decimal numbers, whatever the locale.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_DATA_CSV_NUMBER_H
#define NIZ_DATA_CSV_NUMBER_H

#include <niz/core.h>

typedef enum niz_csv_number_result {
    NIZ_CSV_NUMBER_OK,
    NIZ_CSV_NUMBER_MISSING, /* empty, NA, NaN, ? */
    NIZ_CSV_NUMBER_NONE,    /* some other text */
    NIZ_CSV_NUMBER_RANGE    /* too large for f32 */
} niz_csv_number_result;

/* The C locale; NULL: the error is set. */
typedef struct niz_csv_number_locale niz_csv_number_locale;
niz_csv_number_locale *niz_csv_number_open(niz *z);
void niz_csv_number_close(niz_csv_number_locale *c);

/* The number that the whole text is, as the nearest f32. */
niz_csv_number_result niz_csv_number_parse(niz_csv_number_locale *c, const char *text,
                                           float *value);

#endif
