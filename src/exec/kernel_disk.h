/* kernel_disk.h - compiled kernels on disk, kept from process to process.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_KERNEL_DISK_H
#define NIZ_KERNEL_DISK_H

#include "core/hash.h"
#include "exec/kernel_object.h"

#define NIZ_KERNEL_DISK_BYTES ((uint64_t)256 << 20)

typedef struct niz_kernel_disk {
    int fd;         /* the directory; -1: none, and why says the reason */
    uint64_t limit; /* of its size in bytes */
    uint64_t fresh; /* bytes stored here since the size was last looked at */
    bool measured;
    niz_reason why; /* of there being no directory */
} niz_kernel_disk;

/** Opens, and makes where it is missing, $NIZ_CACHE_DIR, else $XDG_CACHE_HOME/niz, else
 *  $HOME/.cache/niz.  limit 0: NIZ_KERNEL_DISK_BYTES. */
void niz_kernel_disk_open(niz_kernel_disk *d, uint64_t limit);
void niz_kernel_disk_close(niz_kernel_disk *d);

typedef enum niz_kernel_found {
    NIZ_KERNEL_ABSENT,
    NIZ_KERNEL_DAMAGED,
    NIZ_KERNEL_FOUND
} niz_kernel_found;

/** A kernel's object: *fd open on a file that was checked through *fd itself, *bytes (malloc) and n
 *  what it holds; the caller closes and frees.  DAMAGED: a file by that name is not what it should
 *  be, or not safely ours; a store will replace it. */
niz_kernel_found niz_kernel_disk_find(const niz_kernel_disk *d, XXH128_hash_t key, int *fd,
                                      unsigned char **bytes, size_t *n);

/** Stores an object and keeps the directory within its limit.  False: why not.  Call it on a thread
 *  that blocks SIGXFSZ, or a file size limit would end the program. */
bool niz_kernel_disk_store(niz_kernel_disk *d, XXH128_hash_t key, const unsigned char *bytes,
                           size_t n, niz_reason *why);

#endif
