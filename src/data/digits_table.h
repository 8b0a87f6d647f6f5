/* digits_table.h - the UCI digits as text.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_DATA_DIGITS_TABLE_H
#define NIZ_DATA_DIGITS_TABLE_H

enum { NIZ_DIGITS_COUNT = 1797, NIZ_DIGITS_PIXELS = 64 };

/* One image a row: its digit, then its pixels row by row: '.' is no ink, 'a' is 1, 'p' is 16. */
extern const char niz_digits_table[NIZ_DIGITS_COUNT][1 + NIZ_DIGITS_PIXELS + 1];

#endif
