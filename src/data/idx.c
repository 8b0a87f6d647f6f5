/* idx.c - reading an IDX file: two zero bytes, the element type, the rank, a big-endian 32-bit size
 * for each axis, then the elements, big-endian and row-major.
 *
 * Owns niz_idx.  The product of the sizes is checked for overflow before anything is asked for, and
 * source.c's memory grows with what arrives, so sizes need no further limit.
 *
 * SPDX-License-Identifier: MIT */
#include <niz/data.h>
#include <niz/op.h>

#include <inttypes.h>
#include <string.h>

#include "data/memory.h"
#include "data/source.h"

typedef struct element {
    int code;   /* the third byte of the file */
    int bytes;  /* of an element in the file */
    niz_dtype dtype;
    int width;  /* bytes of an element of dtype */
} element;

static const element elements[] = {
    {0x08, 1, NIZ_U8, 1},  {0x09, 1, NIZ_I32, 4}, {0x0b, 2, NIZ_I32, 4},
    {0x0c, 4, NIZ_I32, 4}, {0x0d, 4, NIZ_F32, 4}, {0x0e, 8, NIZ_F64, 8},
};

static const element *find_element(int code)
{
    for (size_t i = 0; i < sizeof elements / sizeof *elements; i++)
        if (elements[i].code == code) return &elements[i];
    return NULL;
}

typedef struct reader {
    niz_at at;
    niz *z;
    const char *path;
    niz_source *source;
    const element *element;
} reader;

static bool short_header(reader *r, int64_t got)
{
    if (got >= 0)
        niz_fail(r->z, r->at, NIZ_E_FORMAT, "%s: offset %" PRId64 ": the header ends too early",
                 r->path, niz_source_offset(r->source));
    return false;
}

/* The four bytes at the start: element type and rank. */
static bool read_magic(reader *r, int *rank)
{
    unsigned char b[4];
    int64_t got = niz_source_read(r->source, b, 4);
    if (got < 4) return short_header(r, got);
    if (b[0] || b[1]) {
        niz_fail(r->z, r->at, NIZ_E_FORMAT,
                 "%s: offset 0: not an IDX file: it starts with %02x %02x, not 00 00", r->path,
                 b[0], b[1]);
        return false;
    }
    r->element = find_element(b[2]);
    *rank = b[3];
    if (!r->element)
        niz_fail(r->z, r->at, NIZ_E_FORMAT, "%s: offset 2: unknown element type 0x%02x", r->path,
                 b[2]);
    else if (*rank > NIZ_MAX_RANK)
        niz_fail(r->z, r->at, NIZ_E_FORMAT, "%s: offset 3: %d axes are more than %d", r->path,
                 *rank, NIZ_MAX_RANK);
    return r->element && *rank <= NIZ_MAX_RANK;
}

/* The sizes, and the number of elements, of which each will take up to 8 bytes. */
static bool read_sizes(reader *r, int rank, niz_idx *idx)
{
    unsigned char b[4];
    bool empty = false, overflow = false;
    idx->shape.rank = rank;
    idx->count = 1;
    for (int i = 0; i < rank; i++) {
        int64_t got = niz_source_read(r->source, b, 4);
        if (got < 4) return short_header(r, got);
        int64_t size = (int64_t)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
        idx->shape.dim[i] = size;
        empty |= size == 0;
        if (size) overflow |= __builtin_mul_overflow(idx->count, size, &idx->count);
    }
    if (!overflow && idx->count <= INT64_MAX / 8) {
        if (empty) idx->count = 0;
        return true;
    }
    niz_fail(r->z, r->at, NIZ_E_FORMAT, "%s: offset 4: the product of its sizes overflows",
             r->path);
    return false;
}

/* Big-endian elements to this machine's, in place. */
static void swap_bytes(unsigned char *p, int64_t n, int bytes)
{
    if (bytes == 1) return;
    for (int64_t i = 0; i < n; i++, p += bytes) {
        uint64_t v = 0;
        for (int k = 0; k < bytes; k++) v = v << 8 | p[k];
        uint16_t v16 = (uint16_t)v;
        uint32_t v32 = (uint32_t)v;
        memcpy(p, bytes == 2 ? (void *)&v16 : bytes == 4 ? (void *)&v32 : (void *)&v,
               (size_t)bytes);
    }
}

/* 8 and 16 bit integers as 32 bit ones, in place, from the last to the first. */
static void widen(unsigned char *p, int64_t n, int bytes)
{
    while (n-- > 0) {
        int8_t v8;
        int16_t v16;
        memcpy(&v8, p + n * bytes, 1);
        if (bytes == 2) memcpy(&v16, p + n * 2, 2);
        int32_t v = bytes == 2 ? v16 : v8;
        memcpy(p + n * 4, &v, 4);
    }
}

static bool read_data(reader *r, niz_idx *idx)
{
    const element *e = r->element;
    idx->dtype = e->dtype;
    idx->data = niz_source_take(r->source, idx->count * e->bytes);
    if (!idx->data || !niz_source_expect_end(r->source)) return false;
    swap_bytes(idx->data, idx->count, e->bytes);
    if (e->bytes == e->width) return true;
    void *wide = niz_memory_array(r->z, idx->data, idx->count, (size_t)e->width);
    if (!wide) return false;
    idx->data = wide;
    widen(wide, idx->count, e->bytes);
    return true;
}

niz_idx *niz_idx_read_at(niz_at at, niz *z, const char *path)
{
    NIZ_FUNCTION(z, at, "idx_read");
    if (niz_error(z)) return NULL;
    if (!path) {
        niz_fail(z, at, NIZ_E_ARGUMENT, "the path is NULL");
        return NULL;
    }
    reader r = {at, z, path, niz_source_open(at, z, path), NULL};
    if (!r.source) return NULL;
    niz_idx *idx = niz_memory_zeroed(z, 1, sizeof *idx);
    int rank;
    bool ok = idx && read_magic(&r, &rank) && read_sizes(&r, rank, idx) && read_data(&r, idx);
    niz_source_close(r.source);
    if (ok) return idx;
    niz_idx_free(z, idx);
    return NULL;
}

void niz_idx_free(niz *z, niz_idx *idx)
{
    if (!idx) return;
    niz_free(z, idx->data);
    niz_free(z, idx);
}
