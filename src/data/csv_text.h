/* csv_text.h - the fields of a text as RFC 4180 has it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_DATA_CSV_TEXT_H
#define NIZ_DATA_CSV_TEXT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct niz_csv_text {
    char *next, *end; /* unread; *end is a NUL */
    char separator;
    int64_t line;     /* of next, from 1 */
    bool record_ended; /* the field read last was its record's last one */
    const char *why;  /* what is wrong, once a field was refused */
} niz_csv_text;

/* Skips empty lines; whether another record follows. */
bool niz_csv_text_more(niz_csv_text *t);

/* The next field, unquoted and ended by a NUL, in place.  NULL: .why says what is wrong. */
char *niz_csv_text_field(niz_csv_text *t);

#endif
