/* memory.c - arrays from a context's allocator, with their sizes checked.
 *
 * Every byte of src/data is asked for here or in zlib's hook (source.c), so a test that fails the
 * n-th allocation reaches each of them.
 *
 * SPDX-License-Identifier: MIT */
#include "data/memory.h"

#include <string.h>

void *niz_memory_array(niz *z, void *p, int64_t n, size_t each)
{
    if (n < 0 || (uint64_t)n > PTRDIFF_MAX / each) {
        niz_fail(z, (niz_at){NULL, 0}, NIZ_E_MEMORY, "an array of %lld elements of %zu bytes",
                 (long long)n, each);
        return NULL;
    }
    return niz_realloc(z, p, n ? (size_t)n * each : 1);
}

void *niz_memory_zeroed(niz *z, int64_t n, size_t each)
{
    void *p = niz_memory_array(z, NULL, n, each);
    if (p) memset(p, 0, (size_t)n * each);
    return p;
}

void *niz_memory_grow(niz *z, void *p, int64_t n, int64_t *capacity, size_t each)
{
    if (p && n < *capacity) return p;
    int64_t more = n < 16 ? 16 : n > INT64_MAX / 2 ? INT64_MAX : 2 * n;
    void *grown = niz_memory_array(z, p, more, each);
    if (grown) *capacity = more;
    return grown;
}

char *niz_memory_text(niz *z, const char *a, const char *b, const char *c)
{
    size_t la = strlen(a), lb = strlen(b), lc = strlen(c);
    char *text = niz_realloc(z, NULL, la + lb + lc + 1);
    if (!text) return NULL;
    memcpy(text, a, la);
    memcpy(text + la, b, lb);
    memcpy(text + la + lb, c, lc + 1);
    return text;
}
