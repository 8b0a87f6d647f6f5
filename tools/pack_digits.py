#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes src/data/digits_table.c from a table of the UCI digits:

    tools/pack_digits.py digits.csv > src/data/digits_table.c

The table has a header line, then 65 integers a line: 8 x 8 pixels from 0 to 16, row by row, and the
digit. scikit-learn's copy of the test part is one, with its columns named.
"""
import csv
import sys

HEAD = """\
/* digits_table.c - the UCI digits as text; made by tools/pack_digits.py, not to be edited.
 *
 * E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, 1998. UCI Machine Learning
 * Repository, https://doi.org/10.24432/C50P49, licensed under CC BY 4.0
 * (https://creativecommons.org/licenses/by/4.0/). These are the 1797 images of its test part,
 * optdigits.tes, values unchanged, written as one character a pixel.
 *
 * SPDX-License-Identifier: CC-BY-4.0 */
#include "data/digits_table.h"

const char niz_digits_table[NIZ_DIGITS_COUNT][1 + NIZ_DIGITS_PIXELS + 1] = {
"""


def main():
    with open(sys.argv[1], newline="") as f:
        rows = [[int(v) for v in row] for row in list(csv.reader(f))[1:]]
    assert len(rows) == 1797 and all(len(r) == 65 for r in rows)
    assert all(0 <= v <= 16 for r in rows for v in r[:64]) and all(0 <= r[64] <= 9 for r in rows)
    sys.stdout.write(HEAD)
    for *pixels, digit in rows:
        text = "".join(".abcdefghijklmnop"[v] for v in pixels)
        sys.stdout.write(f'    "{digit}{text}",\n')
    sys.stdout.write("};\n")


if __name__ == "__main__":
    main()
