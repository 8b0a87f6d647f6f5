/* kernel_object.h - from the bytes of a shared object to code that can be called.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_KERNEL_OBJECT_H
#define NIZ_KERNEL_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Why a kernel is not there, for a person to read. */
typedef struct niz_reason {
    char text[1024];
} niz_reason;

/** Whether the bytes are a complete shared object for this machine.  The loader itself trusts what
 *  it is given, and a cut file would end the program with SIGBUS. */
bool niz_kernel_object_whole(const unsigned char *bytes, size_t n);

/** Loads the open file (its bytes are whole).  `serial` must be new at each call in this process.
 *  What comes back is dlopen's: for dlsym, and dlclose in the end.  NULL: why. */
void *niz_kernel_object_load(int fd, uint64_t serial, niz_reason *why);

/** Loads bytes that have no file, or whose file may not be run: from anonymous memory, or if that
 *  is forbidden from a file without a name in `scratch`. */
void *niz_kernel_object_load_bytes(const unsigned char *bytes, size_t n, const char *scratch,
                                   uint64_t serial, niz_reason *why);

#endif
