/* source.c - the bytes of a file, plain or gzip, from first to last.
 *
 * Owns the open file and the state of unpacking.  Two invariants keep bad files harmless: memory
 * for the content is no more than the file is long, or twice what has already arrived, so a
 * header's promise alone allocates nothing; and the last read of a gzip file goes through its end,
 * so its checksum has been seen before anyone believes the content.
 *
 * Content goes straight to where it is wanted: a plain file is read there and a gzip file unpacked
 * there; only the first bytes, read to tell which it is, and small pieces are copied.
 *
 * zlib is driven through inflate rather than gzread, which would ignore bytes after the packed data
 * and take its memory elsewhere.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "data/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef NIZ_HAVE_ZLIB
#include <zlib.h>
#endif

#include "data/memory.h"

enum { NIZ_SOURCE_RAW = 1 << 16 };

struct niz_source {
    niz *z;
    niz_at at;
    const char *path;
    int fd;
    bool gzip, ended;  /* ended: all members of a gzip file are unpacked */
    int64_t offset;    /* unpacked bytes handed out */
    int64_t raw_read;  /* bytes read from the file */
    size_t begin, end; /* raw[begin .. end-1] are not yet used */
#ifdef NIZ_HAVE_ZLIB
    bool inflating;
    z_stream stream;
#endif
    unsigned char raw[NIZ_SOURCE_RAW];
};

/* Reads from the file until there are so many bytes or it ends; -1 on failure. */
static int64_t read_file(niz_source *s, unsigned char *to, int64_t bytes)
{
    int64_t done = 0;
    while (done < bytes) {
        ssize_t n = read(s->fd, to + done, (size_t)(bytes - done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            niz_fail(s->z, s->at, NIZ_E_IO, "%s: cannot be read: %s", s->path, strerror(errno));
            return -1;
        }
        if (n == 0) break;
        done += n;
    }
    s->raw_read += done;
    return done;
}

/* Reads until raw is full or the file ends. */
static bool fill(niz_source *s)
{
    int64_t n = read_file(s, s->raw, NIZ_SOURCE_RAW);
    s->begin = 0;
    s->end = n > 0 ? (size_t)n : 0;
    return n >= 0;
}

#ifdef NIZ_HAVE_ZLIB
static voidpf take_memory(voidpf z, uInt n, uInt each)
{
    return niz_memory_array(z, NULL, n, each);
}

static void drop_memory(voidpf z, voidpf p)
{
    niz_free(z, p);
}

static bool start_gzip(niz_source *s)
{
    enum { GZIP_ONLY = 16 }; /* added to the window's bits: refuse zlib's own framing */
    s->stream.zalloc = take_memory;
    s->stream.zfree = drop_memory;
    s->stream.opaque = s->z;
    if (inflateInit2(&s->stream, GZIP_ONLY + MAX_WBITS) == Z_OK) return s->inflating = true;
    niz_fail(s->z, s->at, NIZ_E_MEMORY, "%s: no memory to unpack it", s->path);
    return false;
}

static bool gzip_fails(niz_source *s, const char *why)
{
    niz_fail(s->z, s->at, NIZ_E_FORMAT, "%s: offset %" PRId64 ": damaged gzip data: %s", s->path,
             s->raw_read - (int64_t)(s->end - s->begin), why);
    return false;
}

/* After a member's end: another one, or the end of the file. */
static bool next_member(niz_source *s)
{
    if (s->begin == s->end && !fill(s)) return false;
    if (s->begin == s->end) return s->ended = true;
    inflateReset(&s->stream);
    return true;
}

/* Unpacks some bytes into out and says how many; false on failure. */
static bool unpack(niz_source *s, unsigned char *out, int64_t bytes, int64_t *unpacked)
{
    const uInt most = 1u << 30;
    uInt room = bytes < most ? (uInt)bytes : most;
    if (s->begin == s->end && !fill(s)) return false;
    bool file_ended = s->begin == s->end;
    s->stream.next_in = s->raw + s->begin;
    s->stream.avail_in = (uInt)(s->end - s->begin);
    s->stream.next_out = out;
    s->stream.avail_out = room;
    int rc = inflate(&s->stream, Z_NO_FLUSH);
    s->begin = s->end - s->stream.avail_in;
    *unpacked = room - s->stream.avail_out;
    if (rc == Z_STREAM_END) return next_member(s);
    if (rc == Z_MEM_ERROR) {
        niz_fail(s->z, s->at, NIZ_E_MEMORY, "%s: no memory to unpack it", s->path);
        return false;
    }
    if (rc != Z_OK && rc != Z_BUF_ERROR)
        return gzip_fails(s, s->stream.msg ? s->stream.msg : "not to be unpacked");
    return !file_ended || *unpacked > 0 || gzip_fails(s, "the file ends too early");
}

static int64_t read_gzip(niz_source *s, unsigned char *out, int64_t bytes)
{
    int64_t done = 0, unpacked;
    while (done < bytes && !s->ended) {
        if (!unpack(s, out + done, bytes - done, &unpacked)) return -1;
        done += unpacked;
    }
    return done;
}
#else
static bool start_gzip(niz_source *s)
{
    niz_fail(s->z, s->at, NIZ_E_FORMAT,
             "%s: is a gzip file; this libniz was built without zlib, so unpack it first", s->path);
    return false;
}

static int64_t read_gzip(niz_source *s, unsigned char *out, int64_t bytes)
{
    (void)s, (void)out, (void)bytes;
    return -1;
}
#endif

/* What raw holds, up to bytes of it. */
static int64_t take_raw(niz_source *s, unsigned char *out, int64_t bytes)
{
    size_t n = s->end - s->begin;
    if ((int64_t)n > bytes) n = (size_t)bytes;
    memcpy(out, s->raw + s->begin, n);
    s->begin += n;
    return (int64_t)n;
}

static int64_t read_plain(niz_source *s, unsigned char *out, int64_t bytes)
{
    int64_t done = take_raw(s, out, bytes);
    if (bytes - done >= NIZ_SOURCE_RAW) {
        int64_t n = read_file(s, out + done, bytes - done);
        return n < 0 ? -1 : done + n;
    }
    if (done < bytes && !fill(s)) return -1;
    return done + take_raw(s, out + done, bytes - done);
}

niz_source *niz_source_open(niz_at at, niz *z, const char *path)
{
    niz_source *s = niz_memory_zeroed(z, 1, sizeof *s);
    if (!s) return NULL;
    s->z = z, s->at = at, s->path = path;
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0) {
        niz_fail(z, at, NIZ_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
        niz_source_close(s);
        return NULL;
    }
    bool ok = fill(s);
    s->gzip = ok && s->end >= 2 && s->raw[0] == 0x1f && s->raw[1] == 0x8b;
    if (ok && (!s->gzip || start_gzip(s))) return s;
    niz_source_close(s);
    return NULL;
}

void niz_source_close(niz_source *s)
{
    if (!s) return;
#ifdef NIZ_HAVE_ZLIB
    if (s->inflating) inflateEnd(&s->stream);
#endif
    if (s->fd >= 0) close(s->fd);
    niz_free(s->z, s);
}

int64_t niz_source_read(niz_source *s, void *out, int64_t bytes)
{
    int64_t n = s->gzip ? read_gzip(s, out, bytes) : read_plain(s, out, bytes);
    if (n > 0) s->offset += n;
    return n;
}

int64_t niz_source_offset(const niz_source *s)
{
    return s->offset;
}

/* Bytes that are sure to come: what is left of a plain file. */
static int64_t bytes_left(const niz_source *s)
{
    struct stat st;
    bool known = !s->gzip && fstat(s->fd, &st) == 0 && S_ISREG(st.st_mode);
    return known && st.st_size > s->offset ? st.st_size - s->offset : 0;
}

/* Up to most bytes, in memory for spare more: for what is sure to come and a byte past it, which
 * shows the end; doubled as more arrives. */
static char *read_growing(niz_source *s, int64_t most, int64_t spare, int64_t *bytes)
{
    int64_t left = bytes_left(s), room = left < NIZ_SOURCE_RAW ? NIZ_SOURCE_RAW : left + 1;
    if (room > most) room = most;
    char *p = niz_memory_array(s->z, NULL, room + spare, 1);
    for (*bytes = 0; p;) {
        int64_t n = niz_source_read(s, p + *bytes, room - *bytes);
        if (n < 0) break;
        *bytes += n;
        if (*bytes < room || room == most) return p;
        room = room < most / 2 ? 2 * room : most;
        char *grown = niz_memory_array(s->z, p, room + spare, 1);
        if (!grown) break;
        p = grown;
    }
    niz_free(s->z, p);
    return NULL;
}

void *niz_source_take(niz_source *s, int64_t bytes)
{
    int64_t start = s->offset, got;
    void *p = read_growing(s, bytes, 0, &got);
    if (!p || got == bytes) return p;
    niz_fail(s->z, s->at, NIZ_E_FORMAT,
             "%s: offset %" PRId64 ": the file ends here; its header promises %" PRId64
             " bytes of data, there are %" PRId64,
             s->path, s->offset, bytes, s->offset - start);
    niz_free(s->z, p);
    return NULL;
}

char *niz_source_rest(niz_source *s, int64_t *bytes)
{
    char *p = read_growing(s, INT64_MAX - 1, 1, bytes);
    if (p) p[*bytes] = '\0';
    return p;
}

bool niz_source_expect_end(niz_source *s)
{
    char extra;
    int64_t n = niz_source_read(s, &extra, 1);
    if (n == 1)
        niz_fail(s->z, s->at, NIZ_E_FORMAT,
                 "%s: offset %" PRId64 ": the data end here but the file goes on", s->path,
                 s->offset - 1);
    return n == 0;
}
