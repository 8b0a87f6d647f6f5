/* part.h - what every reader of a part asks first.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_DATA_PART_H
#define NIZ_DATA_PART_H

#include <niz/data.h>

/* Whether the context is sound and the part lies within a data set; if not, an error is set. */
bool niz_part_check(niz_at at, niz *z, niz_part part);

#endif
