/* spec.h - reading niz_op.attrs: "to:t axis lo[] hi[]" names the attribute words of a node.
 *
 * Kinds: i (an integer, the default), f (a double's bits), t (a dtype), p (a parameter's index).
 * Fields without [] are one word each and come first; the lists share the rest evenly.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_SPEC_H
#define NIZ_SPEC_H

#include <niz/op.h>

typedef struct niz_field {
    const char *name;
    int length; /* of name */
    char kind;
    bool list;
} niz_field;

/** The next field of *spec, which moves on; false at the end. */
bool niz_spec_next(const char **spec, niz_field *f);

/** How many fields of each sort a spec has. */
void niz_spec_count(const char *spec, int *words, int *lists);

/** A double as the shortest text that reads back to the same bits, whatever the locale; and back:
 *  the end of the number in s, or s if there is none. */
void niz_double_text(double v, char out[32]);
const char *niz_double_read(const char *s, double *v);

#endif
