/* atomic.c - see atomic.h.  SPDX-License-Identifier: MIT */
#include "io/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static bool failed(const niz_atomic *a, const char *what)
{
    niz_fail(a->z, a->at, NIZ_E_IO, "%s: cannot %s: %s", a->path, what, strerror(errno));
    return false;
}

/* Names of our own, so that the longest name a directory takes can still be written to. */
static int create(niz_atomic *a, size_t room)
{
    int fd = -1;
    for (int i = 0; fd < 0 && i < 1000; i++) {
        snprintf(a->temp + a->dir, room - a->dir, ".niz-%ld-%d.tmp", (long)getpid(), i);
        fd = open(a->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST && errno != EINTR) break;
    }
    return fd;
}

bool niz_atomic_begin(niz_atomic *a, niz *z, niz_at at, const char *path)
{
    *a = (niz_atomic){.z = z, .at = at, .path = path, .fd = -1};
    const char *slash = strrchr(path, '/');
    a->dir = slash ? (size_t)(slash - path) + 1 : 0;
    size_t room = a->dir + 48;
    if (!(a->temp = niz_realloc(z, NULL, room))) return false;
    memcpy(a->temp, path, a->dir);
    a->fd = create(a, room);
    return a->fd >= 0 || failed(a, "create a file beside it");
}

bool niz_atomic_write(niz_atomic *a, const void *data, size_t bytes)
{
    const char *p = data;
    while (bytes) {
        ssize_t n = write(a->fd, p, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return failed(a, "write");
        p += n;
        bytes -= (size_t)n;
    }
    return true;
}

/* The new name is durable once the directory is; a file system that cannot sync one says EINVAL. */
static bool sync_directory(niz_atomic *a)
{
    if (a->dir) a->temp[a->dir] = 0;
    int fd = open(a->dir ? a->temp : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno == EACCES || failed(a, "open its directory"); /* write-only: fine */
    bool ok = !fsync(fd) || errno == EINVAL || errno == ENOTSUP || failed(a, "sync its directory");
    close(fd);
    return ok;
}

static bool publish(niz_atomic *a)
{
    if (fsync(a->fd)) return failed(a, "sync");
    bool closed = !close(a->fd) || errno == EINTR;
    a->fd = -1;
    if (!closed) return failed(a, "close");
    return !rename(a->temp, a->path) || failed(a, "rename the new file to it");
}

bool niz_atomic_end(niz_atomic *a, bool ok)
{
    bool made = a->fd >= 0, published = made && ok && publish(a);
    if (a->fd >= 0) close(a->fd);
    if (made && !published) unlink(a->temp);
    bool done = published && sync_directory(a);
    niz_free(a->z, a->temp);
    return done;
}
