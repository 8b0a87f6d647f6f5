/* memory.h - arrays from a context's allocator, with their sizes checked.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_DATA_MEMORY_H
#define NIZ_DATA_MEMORY_H

#include <niz/core.h>

/* An array of n elements, p grown or shrunk to it; an array of nothing is a byte long, so that NULL
 * always means an error, which is then set.  p stays valid when there is no memory. */
void *niz_memory_array(niz *z, void *p, int64_t n, size_t each);

/* The same, new and zeroed. */
void *niz_memory_zeroed(niz *z, int64_t n, size_t each);

/* Room for one more element after n in an array of *capacity, doubling as needed. */
void *niz_memory_grow(niz *z, void *p, int64_t n, int64_t *capacity, size_t each);

/* a followed by b followed by c. */
char *niz_memory_text(niz *z, const char *a, const char *b, const char *c);

#endif
