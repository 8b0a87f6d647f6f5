/* files.c - files and folders that must be our own.
 *
 * Everything is opened relative to a directory's descriptor, without following a last link, and
 * then judged by fstat of what was opened: what is checked is what is used, whoever renames things
 * in between.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NIZ_FILES_STALE_S 3600
#define NIZ_FOLDER_PREFIX "niz-cc-"

int niz_files_open(int dir, const char *name)
{
    struct stat st;
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        if (errno != ENOENT) errno = EPERM;
        return -1;
    }
    if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 022))
        return fd;
    close(fd);
    errno = EPERM;
    return -1;
}

unsigned char *niz_files_read(int fd, size_t max, size_t *n)
{
    struct stat st;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) return NULL;
    if (st.st_size <= 0 || (uint64_t)st.st_size > max) return NULL;
    size_t size = (size_t)st.st_size, have = 0;
    unsigned char *bytes = malloc(size);
    while (bytes && have < size) {
        ssize_t r = pread(fd, bytes + have, size - have, (off_t)have);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) break;
        have += (size_t)r;
    }
    if (bytes && have == size) {
        *n = size;
        return bytes;
    }
    free(bytes);
    return NULL;
}

bool niz_files_write(int fd, const void *data, size_t n)
{
    const char *p = data;
    while (n) {
        ssize_t r = write(fd, p, n);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return false;
        p += r;
        n -= (size_t)r;
    }
    return true;
}

/* ---- folders --------------------------------------------------------------------------------- */

/* The folder by this name, if it is one of ours. */
static int niz_folder_open(int parent, const char *name)
{
    struct stat st;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return -1;
    if (!fstat(fd, &st) && st.st_uid == geteuid() && !(st.st_mode & 077)) return fd;
    close(fd);
    errno = EPERM;
    return -1;
}

/* Takes fd over.  Deeper folders stay, and with them this one: nothing of ours makes any. */
static void niz_folder_clear(int parent, int fd, const char *name)
{
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) unlinkat(fd, e->d_name, 0);
    closedir(d);
    unlinkat(parent, name, AT_REMOVEDIR);
}

static void niz_folder_sweep_one(int parent, const char *name)
{
    struct stat st;
    int fd = niz_folder_open(parent, name);
    if (fd < 0) return;
    if (!fstat(fd, &st) && time(NULL) - st.st_mtime > NIZ_FILES_STALE_S)
        niz_folder_clear(parent, fd, name);
    else
        close(fd);
}

void niz_folder_sweep(const char *base)
{
    int parent = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = parent >= 0 ? fdopendir(parent) : NULL;
    if (!d && parent >= 0) close(parent);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));)
        if (!strncmp(e->d_name, NIZ_FOLDER_PREFIX, sizeof NIZ_FOLDER_PREFIX - 1))
            niz_folder_sweep_one(parent, e->d_name);
    closedir(d);
}

/* The name need not be hard to guess: mkdir takes no folder that is there already. */
static bool niz_folder_name(niz_folder *f)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(f->name, sizeof f->name, NIZ_FOLDER_PREFIX "%lx-%lx-%x", (long)getpid(),
                 (unsigned long)t.tv_nsec, i);
        if (!mkdirat(f->parent, f->name, 0700)) return true;
        if (errno != EEXIST) return false;
    }
    return false;
}

bool niz_folder_make(niz_folder *f, const char *base)
{
    f->base = base;
    f->parent = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->parent < 0) return false;
    if (niz_folder_name(f)) {
        f->fd = niz_folder_open(f->parent, f->name);
        if (f->fd >= 0) return true;
        unlinkat(f->parent, f->name, AT_REMOVEDIR);
    }
    int error = errno;
    close(f->parent);
    errno = error;
    return false;
}

void niz_folder_remove(niz_folder *f)
{
    int error = errno;
    niz_folder_clear(f->parent, f->fd, f->name);
    close(f->parent);
    errno = error;
}
