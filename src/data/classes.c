/* classes.c - numbering texts in order of first appearance.
 *
 * A hash table of FNV-1a with linear probing, at most half full.  The numbers come from the order
 * of the texts alone, never from the table's.
 *
 * SPDX-License-Identifier: MIT */
#include "data/classes.h"

#include <string.h>

#include "data/memory.h"

static uint64_t hash(const char *text)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h ^ h >> 32;
}

/* The slot that holds text, or the empty one where it belongs. */
static int32_t *probe(const niz_classes *c, const char *text)
{
    uint64_t mask = (uint64_t)c->slots - 1, i = hash(text) & mask;
    while (c->slot[i] >= 0 && strcmp(c->text[c->slot[i]], text) != 0) i = (i + 1) & mask;
    return &c->slot[i];
}

static bool make_room(niz *z, niz_classes *c)
{
    void *text = niz_memory_grow(z, c->text, c->n, &c->capacity, sizeof *c->text);
    if (!text) return false;
    c->text = text;
    if (2 * (c->n + 1) <= c->slots) return true;
    int64_t slots = c->slots ? 2 * c->slots : 32;
    int32_t *slot = niz_memory_array(z, c->slot, slots, sizeof *slot);
    if (!slot) return false;
    c->slot = slot;
    c->slots = slots;
    memset(slot, 0xff, (size_t)slots * sizeof *slot);
    for (int64_t i = 0; i < c->n; i++) *probe(c, c->text[i]) = (int32_t)i;
    return true;
}

int32_t niz_classes_find(niz *z, niz_classes *c, const char *text)
{
    if (!make_room(z, c)) return -1;
    int32_t *slot = probe(c, text);
    if (*slot < 0) {
        *slot = (int32_t)c->n;
        c->text[c->n++] = text;
    }
    return *slot;
}

void niz_classes_free(niz *z, niz_classes *c)
{
    niz_free(z, c->text);
    niz_free(z, c->slot);
}
