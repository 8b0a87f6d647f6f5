/* files.h - files and folders that must be our own.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_FILES_H
#define NIZ_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/** Opens a regular file of ours that nobody else can write, for reading; follows no link and waits
 *  for nobody.  -1 and errno; EPERM: there is something by that name, but not such a file. */
int niz_files_open(int dir, const char *name);

/** All bytes of an open regular file, from malloc; NULL if it is empty, longer than max, or cannot
 *  be read. */
unsigned char *niz_files_read(int fd, size_t max, size_t *n);

/** Writes all; false and errno. */
bool niz_files_write(int fd, const void *data, size_t n);

/** A folder 0700 of our own, under a fresh name, for files that do not outlive their use. */
typedef struct niz_folder {
    const char *base; /* where it was made: lives as long as the folder */
    int parent, fd;
    char name[64];
} niz_folder;

/** Makes one in base.  False and errno. */
bool niz_folder_make(niz_folder *f, const char *base);
/** Removes it with the files in it.  Keeps errno. */
void niz_folder_remove(niz_folder *f);
/** Removes such folders of ours in base that are older than an hour: their makers were killed. */
void niz_folder_sweep(const char *base);

#endif
