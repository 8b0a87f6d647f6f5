/* context.h - what a context is to the library itself.
 *
 * The core knows nobody above it: what a later folder hangs on a context sits in a slot with a
 * function that frees it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_CONTEXT_H
#define NIZ_CONTEXT_H

#include <niz/core.h>
#include <stdarg.h>

typedef enum niz_slot_id { NIZ_SLOT_EXEC, NIZ_SLOT_RECORDING, NIZ_N_SLOTS } niz_slot_id;

/* Freed in the order of their numbers: execution hangs on recordings, not the reverse. */
typedef struct niz_slot {
    void *state;
    void (*free)(niz *z, void *state);
} niz_slot;

/* Large blocks that were freed, kept for the next that wants about as much: what a step computes is
 * freed with it, and fresh pages from the system cost more than filling them. */
#define NIZ_KEPT 8
#define NIZ_KEPT_FROM ((size_t)1 << 20)   /* bytes of a block that is worth it */
#define NIZ_KEPT_BYTES ((size_t)64 << 20) /* of all of them */
typedef union niz_header niz_header;

struct niz {
    niz_options options;
    niz_slot slot[NIZ_N_SLOTS];
    niz_stats stats;
    bool training;
    int guards;   /* running steps, scopes and functions */
    bool closing; /* niz_close came before their ends: the last of them frees */
    niz_status status;
    char message[1024];
    niz_header *kept[NIZ_KEPT]; /* the oldest first */
    int n_kept;
    size_t kept_bytes;
};

/* The beginning of a message, "matmul at mlp.c:41 (net/fc1): ", is the recording's business. */
niz_status niz_context_fail(niz *z, niz_status status, const char *prefix, const char *format,
                            va_list args);

/** What niz_realloc gives begins with a cache line from so many bytes on, whatever the user's
 *  allocator does: kernels read it by vectors of 64 bytes, and where the allocator's own 16 left
 *  each of them on two lines, a matrix times a vector took half as long again. */
#define NIZ_LINE 64
#define NIZ_LINES_FROM 1024

/** Memory of n elements for an array that grows: doubles *capacity until it holds n.  False (and
 *  the error set) if there is none; the array is then as it was. */
bool niz_grow(niz *z, void *array, size_t element, size_t *capacity, size_t n);

/** A guard (step, scope, function) of the context begins or ends.  True: the context is gone. */
static inline void niz_guard_begin(niz *z)
{
    z->guards++;
}
void niz_guard_last(niz *z); /* frees the context that was closed before its guards ended */
static inline bool niz_guard_end(niz *z)
{
    bool gone = --z->guards == 0 && z->closing;
    if (gone) niz_guard_last(z);
    return gone;
}

/** Says a rare remark through the log callback. */
void niz_remark(niz *z, const char *format, ...) NIZ_PRINTF(2, 3);

#endif
