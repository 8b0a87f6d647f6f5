/* kernel_cache.h - from a kernel's C text to code that can be called, without making anybody wait.
 *
 *   request ─ key ─> the process's table ─ no ─> the disk ─ no ─> compiler, in the background
 *                          │ yes                    │ yes                │
 *   state READY  <─────────┴────────────────────────┴────────────────────┘
 *
 * A context opens one niz_kernels and uses it from the thread that uses the context; a kernel's
 * state and symbols may be asked for by any thread.  Nothing here is an error of the user's: where
 * there is no compiler, no cache, or no way to load, kernels are FAILED with a reason and the
 * interpreter does the work.  (Only the context's own allocator failing is an error of the context,
 * as everywhere.)
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_KERNEL_CACHE_H
#define NIZ_KERNEL_CACHE_H

#include "exec/compiler.h"

#include <stdatomic.h>

typedef struct niz_kernels niz_kernels; /* a context's */
typedef struct niz_kernel niz_kernel;   /* one kernel, shared by all contexts of the process */

typedef enum niz_kernel_state {
    NIZ_KERNEL_PENDING, /* interpret meanwhile */
    NIZ_KERNEL_READY,   /* for good */
    NIZ_KERNEL_FAILED   /* for as long as anybody holds it */
} niz_kernel_state;

typedef enum niz_kernel_mode { NIZ_KERNEL_ASYNC, NIZ_KERNEL_SYNC } niz_kernel_mode;

typedef struct niz_kernel_options {
    uint64_t disk_bytes; /* bound of the cache on disk; 0: 256 MB */
    int limit_ms;        /* of one run of the compiler; 0: NIZ_CC_TIMEOUT, else a minute */
} niz_kernel_options;

/** What happened, for statistics and tests.  Requests = memory + disk + compiled + failed + those
 *  pending or cancelled. */
typedef struct niz_kernel_counts {
    int64_t requests;
    int64_t in_memory; /* found in the process's table, in whatever state */
    int64_t on_disk;   /* loaded from the cache on disk */
    int64_t damaged;   /* files on disk that were not what they should be, and were not loaded */
    int64_t compiled, failed;
    int64_t kept, not_kept; /* compiled ones stored on disk, or not */
    int64_t compile_ns;     /* by the worker, loading included */
} niz_kernel_counts;

/** Looks for compiler and cache directory; the environment is read here and not again.  options may
 *  be NULL.  NULL (and the context's error set) if there is no memory. */
niz_kernels *niz_kernels_open(niz *z, const niz_kernel_options *options);

/** Kills a compiler at work, waits for the worker thread (not long) and gives all kernels back. */
void niz_kernels_close(niz_kernels *k);

/** The kernel of this text: a translation unit in plain C11 without #include, of which functions
 *  are found by name.  ASYNC returns at once, with what is in memory or on disk READY; SYNC when
 *  the kernel is READY or FAILED.  The same text gives the same handle; each request wants one
 *  release, or the close does it.  NULL is a kernel without memory, and FAILED to all functions
 *  below. */
niz_kernel *niz_kernel_request(niz_kernels *k, const char *text, niz_target t,
                               niz_kernel_mode mode);
void niz_kernel_release(niz_kernels *k, niz_kernel *kernel);

/** Waits until it is not PENDING, and says what it is. */
niz_kernel_state niz_kernel_wait(niz_kernels *k, niz_kernel *kernel);

/** The beginning of every kernel, so that asking for its state costs one load. */
struct niz_kernel_head {
    _Atomic int state;
};

/** Takes no lock.  What a READY kernel holds may be used without further ado. */
static inline niz_kernel_state niz_kernel_state_of(const niz_kernel *kernel)
{
    const struct niz_kernel_head *head = (const struct niz_kernel_head *)kernel;
    if (!head) return NIZ_KERNEL_FAILED;
    return (niz_kernel_state)atomic_load_explicit(&head->state, memory_order_acquire);
}

/** A function of a READY kernel; NULL if it has none by that name, or is not READY.  Valid until
 *  the kernel is released; keep it, as finding it takes the loader's lock. */
void *niz_kernel_symbol(const niz_kernel *kernel, const char *name);

/** Why it is FAILED; "" if it is not. */
const char *niz_kernel_why(const niz_kernel *kernel);

niz_kernel_counts niz_kernels_counts(niz_kernels *k);

/** The compiler's absolute path, or NULL. */
const char *niz_kernels_compiler(const niz_kernels *k);

/** Why there is no compiler, no cache on disk, or why the last kernel was not kept there; "": all
 *  is well.  Copied to text. */
void niz_kernels_why(niz_kernels *k, char *text, size_t room);
/** Why the last kernel that this context could not make failed, in one line or more; "": none. */
void niz_kernels_failed(niz_kernels *k, char *text, size_t room);

#endif
