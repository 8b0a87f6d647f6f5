/* atomic.h - a file replaced as a whole or not at all.
 *
 *   niz_atomic a;
 *   bool ok = niz_atomic_begin(&a, z, at, path) && niz_atomic_write(&a, data, bytes) && ...;
 *   niz_atomic_end(&a, ok);
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_ATOMIC_H
#define NIZ_ATOMIC_H

#include <niz/core.h>

typedef struct niz_atomic {
    niz *z;
    niz_at at;
    const char *path;
    size_t dir;   /* length of path's directory with its slash; 0: none */
    char *temp;   /* the temporary name, in that directory */
    int fd;
} niz_atomic;

/** Creates the temporary file.  These return false with the error set: file, what failed, why. */
bool niz_atomic_begin(niz_atomic *a, niz *z, niz_at at, const char *path);
bool niz_atomic_write(niz_atomic *a, const void *data, size_t bytes);

/** With ok: syncs the file, gives it its name, syncs the directory.  Without, or if that fails: the
 *  temporary file is removed.  Called in every case, once. */
bool niz_atomic_end(niz_atomic *a, bool ok);

#endif
