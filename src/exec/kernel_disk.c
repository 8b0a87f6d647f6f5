/* kernel_disk.c - compiled kernels on disk, kept from process to process.
 *
 * A file is named by its kernel's key, "<32 hex digits>.so": the object as the compiler made it,
 * then a seal of 48 bytes that loaders do not look at: a mark, the object's length, the key, and
 * the XXH3-128 of all before it.  A file that is cut, altered, or put under another key's name does
 * not match its seal.  The hash finds damage; that nobody else could have made the file is seen to
 * by ownership: the directory is 0700, ours and no link, the file ours and not writable by others.
 *
 * A file comes into being under a temporary name and gets its own by rename, so every name shows a
 * whole file or none, to any number of processes and whenever one is killed, and no lock is needed.
 * It is not synced: what a power cut leaves half-written fails its seal and is compiled anew.
 *
 * The size is looked at on a context's first store and then each time it has stored a sixteenth of
 * the limit.  If the directory has grown beyond the limit, the files not used for longest go until
 * it is down to seven eighths.  A file's time is its last use, to the hour.  Only names as above
 * and temporary ones an hour old are ever removed.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/kernel_disk.h"

#include "exec/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NIZ_KERNEL_DISK_MAX_FILE (64 << 20)
#define NIZ_KERNEL_DISK_HOUR 3600
#define NIZ_KERNEL_DISK_TEMP "tmp-"

typedef struct niz_kernel_seal {
    char mark[8];
    uint64_t n;
    unsigned char key[16];  /* both hashes in XXH's canonical form */
    unsigned char hash[16]; /* of the object and the seal up to here */
} niz_kernel_seal;

_Static_assert(sizeof(niz_kernel_seal) == 48, "the seal has no padding");

/* ---- the directory --------------------------------------------------------------------------- */

static void __attribute__((format(printf, 2, 3)))
niz_kernel_disk_say(niz_kernel_disk *d, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(d->why.text, sizeof d->why.text, format, args);
    va_end(args);
}

/* Makes each missing directory of an absolute path. */
static void niz_kernel_disk_make(char *path)
{
    for (char *p = path + 1; *p; p++) {
        if (*p != '/') continue;
        *p = 0;
        mkdir(path, 0700);
        *p = '/';
    }
    mkdir(path, 0700);
}

/* Opens a directory only if it is safely ours.  A slash at the end would make open follow a link.
 * */
static int niz_kernel_disk_take(niz_kernel_disk *d, char *path)
{
    struct stat st;
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--) path[n - 1] = 0;
    const int how = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = open(path, how);
    if (fd < 0 && errno == ENOENT) {
        niz_kernel_disk_make(path);
        fd = open(path, how);
    }
    if (fd < 0) niz_kernel_disk_say(d, "no kernel cache: %s: %s", path, strerror(errno));
    if (fd < 0 || fstat(fd, &st)) return fd;
    if (st.st_uid == geteuid() && (st.st_mode & 07777) == 0700) return fd;
    close(fd);
    if (st.st_uid != geteuid())
        niz_kernel_disk_say(d, "no kernel cache: %s belongs to somebody else", path);
    else
        niz_kernel_disk_say(d, "no kernel cache: the mode of %s is %o, not 700", path,
                            st.st_mode & 07777);
    return -1;
}

/* Where nobody named a directory, none is made in a home that is not ours: root with a user's HOME
 * would leave one there that the user could never use. */
static bool niz_kernel_disk_ours(niz_kernel_disk *d, const char *base)
{
    struct stat st;
    if (!stat(base, &st) && st.st_uid != geteuid()) {
        niz_kernel_disk_say(d, "no kernel cache: %s belongs to somebody else", base);
        return false;
    }
    return true;
}

static int niz_kernel_disk_choose(niz_kernel_disk *d)
{
    char path[PATH_MAX];
    const char *dir = secure_getenv("NIZ_CACHE_DIR"), *base = secure_getenv("XDG_CACHE_HOME");
    const char *tail = "";
    if (dir && *dir && *dir != '/') {
        niz_kernel_disk_say(d, "no kernel cache: NIZ_CACHE_DIR=%s is a relative name", dir);
        return -1;
    }
    if (!dir || !*dir) {
        tail = base && *base == '/' ? "/niz" : "/.cache/niz";
        dir = base && *base == '/' ? base : secure_getenv("HOME");
        if (!dir || *dir != '/') {
            niz_kernel_disk_say(d, "no kernel cache: no NIZ_CACHE_DIR, XDG_CACHE_HOME or HOME");
            return -1;
        }
        if (!niz_kernel_disk_ours(d, dir)) return -1;
    }
    int n = snprintf(path, sizeof path, "%s%s", dir, tail);
    if (n > 0 && (size_t)n < sizeof path) return niz_kernel_disk_take(d, path);
    niz_kernel_disk_say(d, "no kernel cache: its name is too long");
    return -1;
}

void niz_kernel_disk_open(niz_kernel_disk *d, uint64_t limit)
{
    *d = (niz_kernel_disk){.fd = -1, .limit = limit ? limit : NIZ_KERNEL_DISK_BYTES};
    if (getauxval(AT_SECURE))
        niz_kernel_disk_say(d, "no kernel cache: the program runs with raised rights");
    else
        d->fd = niz_kernel_disk_choose(d);
}

void niz_kernel_disk_close(niz_kernel_disk *d)
{
    if (d->fd >= 0) close(d->fd);
    d->fd = -1;
}

/* ---- finding --------------------------------------------------------------------------------- */

#define NIZ_KERNEL_DISK_NAME 35 /* 32 digits and ".so" */

static void niz_kernel_disk_name(char name[NIZ_KERNEL_DISK_NAME + 1], XXH128_hash_t key)
{
    snprintf(name, NIZ_KERNEL_DISK_NAME + 1, "%016llx%016llx.so", (unsigned long long)key.high64,
             (unsigned long long)key.low64);
}

static bool niz_kernel_disk_is_ours(const char *name)
{
    return strlen(name) == NIZ_KERNEL_DISK_NAME && strspn(name, "0123456789abcdef") == 32 &&
           !strcmp(name + 32, ".so");
}

static void niz_kernel_disk_seal(niz_kernel_seal *s, XXH128_hash_t key, const unsigned char *bytes,
                                 size_t n)
{
    XXH3_state_t h;
    XXH128_canonical_t c;
    memcpy(s->mark, "niz-obj1", 8);
    s->n = n;
    XXH128_canonicalFromHash(&c, key);
    memcpy(s->key, c.digest, 16);
    XXH3_INITSTATE(&h);
    XXH3_128bits_reset(&h);
    XXH3_128bits_update(&h, bytes, n);
    XXH3_128bits_update(&h, s, offsetof(niz_kernel_seal, hash));
    XXH128_canonicalFromHash(&c, XXH3_128bits_digest(&h));
    memcpy(s->hash, c.digest, 16);
}

static bool niz_kernel_disk_sealed(XXH128_hash_t key, const unsigned char *bytes, size_t n)
{
    niz_kernel_seal should;
    if (n < sizeof should) return false;
    niz_kernel_disk_seal(&should, key, bytes, n - sizeof should);
    return !memcmp(&should, bytes + n - sizeof should, sizeof should) &&
           niz_kernel_object_whole(bytes, n - sizeof should);
}

/* Says that a file is in use, if its time does not say so already. */
static void niz_kernel_disk_touch(int fd)
{
    struct stat st;
    const struct timespec now[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
    if (!fstat(fd, &st) && time(NULL) - st.st_mtime > NIZ_KERNEL_DISK_HOUR) futimens(fd, now);
}

niz_kernel_found niz_kernel_disk_find(const niz_kernel_disk *d, XXH128_hash_t key, int *fd,
                                      unsigned char **bytes, size_t *n)
{
    char name[NIZ_KERNEL_DISK_NAME + 1];
    if (d->fd < 0) return NIZ_KERNEL_ABSENT;
    niz_kernel_disk_name(name, key);
    *fd = niz_files_open(d->fd, name);
    if (*fd < 0) return errno == ENOENT ? NIZ_KERNEL_ABSENT : NIZ_KERNEL_DAMAGED;
    *bytes = niz_files_read(*fd, NIZ_KERNEL_DISK_MAX_FILE, n);
    if (*bytes && niz_kernel_disk_sealed(key, *bytes, *n)) {
        *n -= sizeof(niz_kernel_seal);
        niz_kernel_disk_touch(*fd);
        return NIZ_KERNEL_FOUND;
    }
    free(*bytes);
    close(*fd);
    return NIZ_KERNEL_DAMAGED;
}

/* ---- keeping within the limit ---------------------------------------------------------------- */

typedef struct niz_kernel_file {
    char name[NIZ_KERNEL_DISK_NAME + 1];
    uint64_t bytes;
    struct timespec used;
} niz_kernel_file;

typedef struct niz_kernel_files {
    niz_kernel_file *file; /* malloc: the worker's thread */
    size_t n, capacity;
    uint64_t bytes;
} niz_kernel_files;

static bool niz_kernel_disk_list(niz_kernel_files *l, const char *name, const struct stat *st)
{
    if (l->n == l->capacity) {
        size_t more = l->capacity ? l->capacity * 2 : 64;
        niz_kernel_file *file = realloc(l->file, more * sizeof *file);
        if (!file) return false;
        l->file = file;
        l->capacity = more;
    }
    niz_kernel_file *f = &l->file[l->n++];
    memcpy(f->name, name, sizeof f->name);
    f->bytes = ((uint64_t)st->st_size + 4095) & ~(uint64_t)4095;
    f->used = st->st_mtim;
    l->bytes += f->bytes;
    return true;
}

static int niz_kernel_disk_older(const void *a, const void *b)
{
    const niz_kernel_file *x = a, *y = b;
    if (x->used.tv_sec != y->used.tv_sec) return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
    return (x->used.tv_nsec > y->used.tv_nsec) - (x->used.tv_nsec < y->used.tv_nsec);
}

static void niz_kernel_disk_scan(DIR *dir, niz_kernel_files *l)
{
    int fd = dirfd(dir);
    struct stat st;
    for (struct dirent *e; (e = readdir(dir));) {
        bool ours = niz_kernel_disk_is_ours(e->d_name);
        bool temp = !strncmp(e->d_name, NIZ_KERNEL_DISK_TEMP, sizeof NIZ_KERNEL_DISK_TEMP - 1);
        if ((!ours && !temp) || fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW)) continue;
        if (temp && time(NULL) - st.st_mtime > NIZ_KERNEL_DISK_HOUR) unlinkat(fd, e->d_name, 0);
        if (ours && !niz_kernel_disk_list(l, e->d_name, &st)) return; /* the rest another time */
    }
}

static void niz_kernel_disk_measure(niz_kernel_disk *d)
{
    niz_kernel_files l = {0};
    int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir && fd >= 0) close(fd);
    if (!dir) return;
    niz_kernel_disk_scan(dir, &l);
    if (l.bytes > d->limit) {
        qsort(l.file, l.n, sizeof *l.file, niz_kernel_disk_older);
        for (size_t i = 0; i < l.n && l.bytes > d->limit / 8 * 7; i++) {
            unlinkat(fd, l.file[i].name, 0);
            l.bytes -= l.file[i].bytes;
        }
    }
    free(l.file);
    closedir(dir);
    d->measured = true;
    d->fresh = 0;
}

/* ---- storing --------------------------------------------------------------------------------- */

/* A name left by a killed process of the same number, or taken by one in another container, is
 * passed over. */
static int niz_kernel_disk_temp(const niz_kernel_disk *d, char *name, size_t room)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, room, NIZ_KERNEL_DISK_TEMP "%lx-%lx-%x", (long)getpid(),
                 (unsigned long)t.tv_nsec, i);
        int fd = openat(d->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd >= 0 || (errno != EEXIST && errno != EINTR)) return fd;
    }
    return -1;
}

static bool niz_kernel_disk_fail(niz_reason *why, const char *what)
{
    snprintf(why->text, sizeof why->text, "not kept in the kernel cache: cannot %s: %s", what,
             strerror(errno));
    return false;
}

static bool niz_kernel_disk_write(const niz_kernel_disk *d, const char *temp, int fd,
                                  const niz_kernel_seal *s, const unsigned char *bytes,
                                  const char *name, niz_reason *why)
{
    bool ok = niz_files_write(fd, bytes, s->n) && niz_files_write(fd, s, sizeof *s);
    if (!ok) niz_kernel_disk_fail(why, "write");
    if (close(fd) && ok) ok = niz_kernel_disk_fail(why, "close");
    if (ok && renameat(d->fd, temp, d->fd, name)) ok = niz_kernel_disk_fail(why, "rename");
    if (!ok) unlinkat(d->fd, temp, 0);
    return ok;
}

bool niz_kernel_disk_store(niz_kernel_disk *d, XXH128_hash_t key, const unsigned char *bytes,
                           size_t n, niz_reason *why)
{
    char temp[64], name[NIZ_KERNEL_DISK_NAME + 1];
    niz_kernel_seal s;
    if (d->fd < 0) {
        *why = d->why;
        return false;
    }
    int fd = niz_kernel_disk_temp(d, temp, sizeof temp);
    if (fd < 0) return niz_kernel_disk_fail(why, "create a file");
    niz_kernel_disk_name(name, key);
    niz_kernel_disk_seal(&s, key, bytes, n);
    if (!niz_kernel_disk_write(d, temp, fd, &s, bytes, name, why)) return false;
    d->fresh += n;
    if (!d->measured || d->fresh > d->limit / 16) niz_kernel_disk_measure(d);
    return true;
}
