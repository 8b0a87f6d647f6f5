/* context.c - opening and closing, memory, the one sticky error.  SPDX-License-Identifier: MIT */
#include "core/context.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static void *niz_context_realloc(const niz_options *o, void *p, size_t bytes)
{
    if (o->realloc) return o->realloc(o->user, p, bytes);
    if (bytes) return realloc(p, bytes);
    free(p);
    return NULL;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* A size is kept before each piece so that bytes_now is exact whatever the allocator.  It may lie
 * some way into the allocator's block, so that pieces from NIZ_LINES_FROM on begin with a line. */
union niz_header {
    struct {
        size_t bytes, room; /* asked for, and there */
        size_t before;      /* bytes from the allocator's block to here */
    } of;
    max_align_t align;
};

static void niz_header_free(niz *z, niz_header *h)
{
    niz_context_realloc(&z->options, (char *)h - h->of.before, 0);
}

static niz_header *niz_kept_take(niz *z, int i)
{
    niz_header *h = z->kept[i];
    z->kept_bytes -= h->of.room;
    memmove(z->kept + i, z->kept + i + 1, sizeof *z->kept * (size_t)(--z->n_kept - i));
    return h;
}

static void niz_kept_drop_oldest(niz *z)
{
    niz_header_free(z, niz_kept_take(z, 0));
}

/* Keeps a freed block, or gives it back. */
static void niz_kept_put(niz *z, niz_header *h)
{
    if (h->of.room < NIZ_KEPT_FROM || h->of.room > NIZ_KEPT_BYTES) {
        niz_header_free(z, h);
        return;
    }
    while (z->n_kept == NIZ_KEPT || z->kept_bytes + h->of.room > NIZ_KEPT_BYTES)
        niz_kept_drop_oldest(z);
    z->kept[z->n_kept++] = h;
    z->kept_bytes += h->of.room;
}

/* The newest kept block of at least that size, and not much more; NULL if there is none. */
static niz_header *niz_kept_find(niz *z, size_t bytes)
{
    for (int i = z->n_kept; bytes >= NIZ_KEPT_FROM && i-- > 0;)
        if (z->kept[i]->of.room >= bytes && z->kept[i]->of.room / 5 * 4 <= bytes)
            return niz_kept_take(z, i);
    return NULL;
}

/* The header in a block that has just come from the allocator, with what was at its old place in
 * the block it has been moved from. */
static niz_header *niz_header_settle(char *block, size_t held, size_t was, bool lines)
{
    size_t before = lines ? -(uintptr_t)(block + sizeof(niz_header)) % NIZ_LINE : 0;
    if (held && before != was) memmove(block + before, block + was, held);
    niz_header *h = (niz_header *)(block + before);
    h->of.before = before;
    return h;
}

/* From the allocator; rather than fail, without what is kept. */
static niz_header *niz_header_realloc(niz *z, niz_header *h, size_t bytes)
{
    if (bytes > PTRDIFF_MAX - sizeof *h - NIZ_LINE) return NULL;
    size_t was = h ? h->of.before : 0, held = 0;
    if (h) held = sizeof *h + (bytes < h->of.bytes ? bytes : h->of.bytes);
    bool lines = bytes >= NIZ_LINES_FROM || was;
    size_t all = sizeof *h + bytes + (lines ? NIZ_LINE : 0);
    for (;;) {
        char *block = niz_context_realloc(&z->options, h ? (char *)h - was : NULL, all);
        niz_header *fresh = block ? niz_header_settle(block, held, was, lines) : NULL;
        if (fresh) fresh->of.room = bytes;
        if (fresh || !z->n_kept) return fresh;
        niz_kept_drop_oldest(z);
    }
}

void *niz_realloc(niz *z, void *p, size_t bytes)
{
    if (!z) return NULL;
    niz_header *h = p ? (niz_header *)p - 1 : NULL;
    size_t old = h ? h->of.bytes : 0;
    if (!bytes) {
        if (h) niz_kept_put(z, h);
        z->stats.bytes_now -= (int64_t)old;
        return NULL;
    }
    niz_header *fresh = h ? NULL : niz_kept_find(z, bytes);
    if (!fresh) fresh = niz_header_realloc(z, h, bytes);
    if (!fresh) {
        niz_fail(z, (niz_at){0}, NIZ_E_MEMORY, "no memory for %zu bytes", bytes);
        return NULL;
    }
    fresh->of.bytes = bytes;
    z->stats.bytes_now += (int64_t)bytes - (int64_t)old;
    if (z->stats.bytes_now > z->stats.bytes_peak) z->stats.bytes_peak = z->stats.bytes_now;
    return fresh + 1;
}

/* ---- opening and closing --------------------------------------------------------------------- */

niz *niz_open(const niz_options *options)
{
    niz_options o = options ? *options : (niz_options){0};
    niz *z = niz_context_realloc(&o, NULL, sizeof *z);
    if (!z) return NULL;
    memset(z, 0, sizeof *z);
    z->options = o;
    z->training = true;
    return z;
}

static void niz_context_free(niz *z)
{
    for (int i = 0; i < NIZ_N_SLOTS; i++)
        if (z->slot[i].state) z->slot[i].free(z, z->slot[i].state);
    while (z->n_kept) niz_kept_drop_oldest(z);
    niz_context_realloc(&z->options, z, 0);
}

/* The ends of guards that still run touch the context: it stays until the last, and does nothing.
 */
void niz_close(niz *z)
{
    if (!z || z->closing) return;
    if (!z->guards) {
        niz_context_free(z);
        return;
    }
    z->closing = true;
    z->status = NIZ_OK;
    niz_fail(z, (niz_at){0}, NIZ_E_STALE, "the context is closed (niz_close within a step)");
}

void niz_guard_last(niz *z)
{
    niz_context_free(z);
}

void niz_free(niz *z, void *p)
{
    niz_realloc(z, p, 0);
}

bool niz_grow(niz *z, void *array, size_t element, size_t *capacity, size_t n)
{
    if (n <= *capacity) return true;
    size_t more = *capacity ? *capacity * 2 : 16;
    while (more < n) more *= 2;
    void *old, *fresh;
    memcpy(&old, array, sizeof old); /* array is the address of a pointer of any type */
    if (!(fresh = niz_realloc(z, old, more * element))) return false;
    memcpy(array, &fresh, sizeof fresh);
    *capacity = more;
    return true;
}

niz_status niz_error(const niz *z)
{
    return z ? z->status : NIZ_E_MEMORY;
}

const char *niz_message(const niz *z)
{
    return z ? z->message : "no context: niz_open found no memory, or a handle is empty";
}

niz_status niz_context_fail(niz *z, niz_status status, const char *prefix, const char *format,
                            va_list args)
{
    if (z->status) return status;
    z->status = status;
    int n = snprintf(z->message, sizeof z->message, "%s", prefix);
    if (n >= 0 && (size_t)n < sizeof z->message)
        vsnprintf(z->message + n, sizeof z->message - (size_t)n, format, args);
    return status;
}

void niz_remark(niz *z, const char *format, ...)
{
    if (!z->options.log) return;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    z->options.log(z->options.user, text);
}

void niz_set_training(niz *z, bool training)
{
    if (z) z->training = training;
}

bool niz_is_training(const niz *z)
{
    return z && z->training;
}

niz_stats niz_statistics(const niz *z)
{
    return z ? z->stats : (niz_stats){0};
}
