/* arena.h - memory that is given back all at once, or back to a mark.
 *
 * A recording allocates thousands of small pieces and drops them together when its step ends.
 * Chunks are kept after a rewind, so a loop of equal steps allocates nothing after its first.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_ARENA_H
#define NIZ_ARENA_H

#include <niz/core.h>
#include <string.h>

typedef struct niz_chunk {
    struct niz_chunk *next;
    size_t size; /* bytes of data */
    _Alignas(16) unsigned char data[];
} niz_chunk;

typedef struct niz_arena {
    niz *z;
    niz_chunk *first, *now; /* a list; chunks after `now` are empty */
    size_t used;            /* bytes of `now` */
    size_t smallest;        /* bytes of the first chunk; the next are each twice as large */
} niz_arena;

typedef struct niz_mark {
    niz_chunk *chunk;
    size_t used;
} niz_mark;

void niz_arena_init(niz_arena *a, niz *z);
void niz_arena_free(niz_arena *a);

/** The same as niz_arena_alloc where the chunk at hand has no room. */
void *niz_arena_more(niz_arena *a, size_t bytes);

/** bytes aligned to 8, not zeroed; NULL (and the context's error set) if there is no memory. */
static inline void *niz_arena_alloc(niz_arena *a, size_t bytes)
{
    bytes = (bytes + 7) & ~(size_t)7;
    if (!a->now || a->now->size - a->used < bytes) return niz_arena_more(a, bytes);
    void *p = a->now->data + a->used;
    a->used += bytes;
    return p;
}

static inline void *niz_arena_copy(niz_arena *a, const void *p, size_t bytes)
{
    void *q = niz_arena_alloc(a, bytes);
    if (q && bytes) memcpy(q, p, bytes);
    return q;
}

niz_mark niz_arena_mark(const niz_arena *a);
void niz_arena_rewind(niz_arena *a, niz_mark m);

#endif
