/* classes.h - numbering texts in order of first appearance.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_DATA_CLASSES_H
#define NIZ_DATA_CLASSES_H

#include <niz/core.h>

/* Starts zeroed.  The texts are pointed to, not copied. */
typedef struct niz_classes {
    int64_t n;         /* classes */
    const char **text; /* [n] */
    int64_t capacity;
    int32_t *slot;     /* [slots] open addressing: a class, or -1 */
    int64_t slots;     /* a power of two, at least twice n; or 0 */
} niz_classes;

/* The text's class, which may be new; -1: the error is set. */
int32_t niz_classes_find(niz *z, niz_classes *c, const char *text);
void niz_classes_free(niz *z, niz_classes *c);

#endif
