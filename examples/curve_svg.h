/* curve_svg.h - curves over epochs as an SVG picture.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CURVE_SVG_H
#define CURVE_SVG_H

#include <stdbool.h>

typedef struct curve {
    const char *name;    /* plain text: no <, > or & */
    const double *value; /* [n], one an epoch */
} curve;

/** Draws n_curves (at most 4) of n values each, values of at least 0, with axes and a legend.
 *  False: the file cannot be written, and errno says why. */
bool curve_svg_write(const char *path, const char *title, int n_curves, const curve *c, int n);

#endif
