/* arena.c - see arena.h.  SPDX-License-Identifier: MIT */
#include "core/arena.h"

#define FIRST_CHUNK ((size_t)16 << 10)
#define LAST_CHUNK ((size_t)1 << 20)

void niz_arena_init(niz_arena *a, niz *z)
{
    *a = (niz_arena){.z = z, .smallest = FIRST_CHUNK};
}

void niz_arena_free(niz_arena *a)
{
    for (niz_chunk *c = a->first, *next; c; c = next) {
        next = c->next;
        niz_free(a->z, c);
    }
    niz_arena_init(a, a->z);
}

/* Moves on to a chunk with room for bytes: an empty one kept from before, or a new one, each twice
 * as large as the last. */
static bool niz_arena_grow(niz_arena *a, size_t bytes)
{
    niz_chunk *after = a->now, *c = after ? after->next : a->first;
    if (c && c->size >= bytes) {
        a->now = c;
        a->used = 0;
        return true;
    }
    size_t size = after ? after->size * 2 : a->smallest;
    if (size > LAST_CHUNK) size = LAST_CHUNK;
    if (size < bytes) size = bytes;
    niz_chunk *fresh = niz_realloc(a->z, NULL, sizeof *fresh + size);
    if (!fresh) return false;
    fresh->size = size;
    fresh->next = c;
    if (after)
        after->next = fresh;
    else
        a->first = fresh;
    a->now = fresh;
    a->used = 0;
    return true;
}

void *niz_arena_more(niz_arena *a, size_t bytes)
{
    if (!niz_arena_grow(a, bytes)) return NULL;
    a->used = bytes;
    return a->now->data;
}

niz_mark niz_arena_mark(const niz_arena *a)
{
    return (niz_mark){a->now, a->used};
}

void niz_arena_rewind(niz_arena *a, niz_mark m)
{
    a->now = m.chunk;
    a->used = m.used;
}
