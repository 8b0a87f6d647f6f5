/* load.c - parameters from a safetensors file, all or none.
 *
 * Everything that can be wrong is looked for before anything is set: the header's form (scan), its
 * JSON (cJSON), each tensor by itself, all together (names, offsets), against the parameters there
 * are, and the data.  Memory asked for is at most a small multiple of the file's size.
 *
 * SPDX-License-Identifier: MIT */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <niz/io.h>
#include <niz/op.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/safetensors.h"

typedef struct tensor {
    const char *name; /* the header's */
    niz_dtype dtype;
    niz_shape shape;
    int64_t begin, end; /* in the data */
    bool state;
} tensor;

typedef struct load {
    niz *z;
    niz_at at;
    const char *path;
    int fd;
    int64_t file_bytes, header_bytes, data_bytes;
    char *header;
    cJSON *root;
    int64_t n;
    tensor *tensor;   /* in the header's order */
    tensor **by;      /* the same, sorted */
    char *data;
    niz_param_info *param;
    niz_counters counters;
} load;

#define FAIL(l, ...) (niz_fail((l)->z, (l)->at, NIZ_E_FORMAT, __VA_ARGS__), false)
#define FAIL_TENSOR(l, t, what, ...)                                                               \
    FAIL(l, "%s: tensor \"%.200s\": " what, (l)->path, (t)->name, __VA_ARGS__)

/* ---- the file ------------------------------------------------------------------------------- */

static bool fail_io(load *l, const char *what)
{
    niz_fail(l->z, l->at, NIZ_E_IO, "%s: cannot %s: %s", l->path, what, strerror(errno));
    return false;
}

static bool open_file(load *l)
{
    struct stat s;
    l->fd = open(l->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* waits for no pipe */
    if (l->fd < 0) return fail_io(l, "open");
    if (fstat(l->fd, &s)) return fail_io(l, "ask for its size");
    if (!S_ISREG(s.st_mode)) {
        niz_fail(l->z, l->at, NIZ_E_IO, "%s: not a regular file", l->path);
        return false;
    }
    l->file_bytes = s.st_size;
    return true;
}

static bool read_bytes(load *l, void *out, int64_t bytes)
{
    char *p = out;
    while (bytes) {
        ssize_t n = read(l->fd, p, (size_t)bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_io(l, "read");
        if (!n) return FAIL(l, "%s: became shorter while it was read", l->path);
        p += n;
        bytes -= n;
    }
    return true;
}

static bool read_header(load *l)
{
    uint64_t n = 0;
    if (l->file_bytes < 8)
        return FAIL(l, "%s: %" PRId64 " bytes are no safetensors file", l->path, l->file_bytes);
    if (!read_bytes(l, &n, 8)) return false;
    if (n > (uint64_t)l->file_bytes - 8)
        return FAIL(l, "%s: byte 0: a header of %" PRIu64 " bytes in a file of %" PRId64, l->path,
                    n, l->file_bytes);
    if (n > NIZ_SAFETENSORS_HEADER_MAX)
        return FAIL(l, "%s: byte 0: a header of %" PRIu64 " bytes, at most %d are read", l->path,
                    n, NIZ_SAFETENSORS_HEADER_MAX);
    l->header_bytes = (int64_t)n;
    l->data_bytes = l->file_bytes - 8 - l->header_bytes;
    l->header = niz_realloc(l->z, NULL, (size_t)n + 1);
    if (!l->header || !read_bytes(l, l->header, l->header_bytes)) return false;
    l->header[n] = 0;
    return true;
}

static bool parse_header(load *l)
{
    size_t bytes = (size_t)l->header_bytes, where;
    const char *fault = niz_safetensors_scan(l->header, bytes, &where), *end = NULL;
    if (fault) return FAIL(l, "%s: byte %zu: the header %s", l->path, 8 + where, fault);
    l->root = cJSON_ParseWithLengthOpts(l->header, bytes, &end, 0);
    where = end ? (size_t)(end - l->header) : 0;
    if (!l->root) return FAIL(l, "%s: byte %zu: the header is not JSON", l->path, 8 + where);
    while (where < bytes && strchr(" \t\r\n", l->header[where]) && l->header[where]) where++;
    return where == bytes || FAIL(l, "%s: byte %zu: the header goes on after its end", l->path,
                                  8 + where);
}

/* ---- one tensor ----------------------------------------------------------------------------- */

/* A whole number from 0 to 2^53: larger ones a double does not hold. */
static bool whole(const cJSON *item, int64_t *out)
{
    if (!cJSON_IsNumber(item)) return false;
    double v = item->valuedouble;
    if (!(v >= 0 && v <= 0x1p53 && v == floor(v))) return false;
    *out = (int64_t)v;
    return true;
}

static bool read_dtype(load *l, tensor *t, const cJSON *item)
{
    if (!cJSON_IsString(item)) return FAIL_TENSOR(l, t, "%s", "dtype is not a text");
    if (niz_safetensors_dtype_parse(item->valuestring, &t->dtype)) return true;
    return FAIL_TENSOR(l, t, "dtype \"%.40s\" is none of F32, F64, I32, I64, U8, BOOL",
                       item->valuestring);
}

static bool read_shape(load *l, tensor *t, const cJSON *item)
{
    if (!cJSON_IsArray(item)) return FAIL_TENSOR(l, t, "%s", "shape is not a list");
    const cJSON *dim;
    int64_t count = 1, v;
    cJSON_ArrayForEach(dim, item)
    {
        if (t->shape.rank == NIZ_MAX_RANK)
            return FAIL_TENSOR(l, t, "shape has more than %d axes", NIZ_MAX_RANK);
        if (!whole(dim, &v)) return FAIL_TENSOR(l, t, "axis %d of shape is no size", t->shape.rank);
        /* zeros count as ones: an empty tensor may not hide an absurd size either */
        if (__builtin_mul_overflow(count, v ? v : 1, &count) || count > INT64_MAX / 16)
            return FAIL_TENSOR(l, t, "%s", "shape has more elements than memory can hold");
        t->shape.dim[t->shape.rank++] = v;
    }
    return true;
}

static bool read_offsets(load *l, tensor *t, const cJSON *item)
{
    if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != 2 ||
        !whole(cJSON_GetArrayItem(item, 0), &t->begin) ||
        !whole(cJSON_GetArrayItem(item, 1), &t->end))
        return FAIL_TENSOR(l, t, "%s", "data_offsets are not two byte positions");
    if (t->begin <= t->end && t->end <= l->data_bytes) return true;
    return FAIL_TENSOR(l, t, "data_offsets %" PRId64 " to %" PRId64 " in data of %" PRId64 " bytes",
                       t->begin, t->end, l->data_bytes);
}

static bool read_tensor(load *l, tensor *t, const cJSON *item)
{
    static const struct {
        const char *key;
        bool (*read)(load *, tensor *, const cJSON *);
    } field[] = {{"dtype", read_dtype}, {"shape", read_shape}, {"data_offsets", read_offsets}};
    t->name = item->string;
    if (!t->name[0]) return FAIL(l, "%s: a tensor has an empty name", l->path);
    if (!cJSON_IsObject(item)) return FAIL_TENSOR(l, t, "%s", "is not described by an object");
    for (size_t i = 0; i < sizeof field / sizeof field[0]; i++) {
        const cJSON *found = NULL, *part;
        cJSON_ArrayForEach(part, item)
        {
            if (strcmp(part->string, field[i].key)) continue;
            if (found) return FAIL_TENSOR(l, t, "has %s twice", field[i].key);
            found = part;
        }
        if (!found) return FAIL_TENSOR(l, t, "has no %s", field[i].key);
        if (!field[i].read(l, t, found)) return false;
    }
    int64_t need = niz_shape_count(&t->shape) * (int64_t)niz_dtype_size(t->dtype);
    if (t->end - t->begin == need) return true;
    return FAIL_TENSOR(l, t, "its shape takes %" PRId64 " bytes, data_offsets have %" PRId64, need,
                       t->end - t->begin);
}

static bool read_tensors(load *l)
{
    size_t room = (size_t)cJSON_GetArraySize(l->root) + 1;
    l->tensor = niz_realloc(l->z, NULL, room * sizeof *l->tensor);
    l->by = niz_realloc(l->z, NULL, room * sizeof *l->by);
    if (!l->tensor || !l->by) return false;
    const cJSON *item;
    cJSON_ArrayForEach(item, l->root)
    {
        if (!strcmp(item->string, NIZ_SAFETENSORS_METADATA)) continue;
        tensor *t = &l->tensor[l->n];
        memset(t, 0, sizeof *t);
        if (!read_tensor(l, t, item)) return false;
        l->by[l->n++] = t;
    }
    return true;
}

/* ---- all together --------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
    const tensor *p = *(tensor *const *)a, *q = *(tensor *const *)b;
    if (p->begin != q->begin) return p->begin < q->begin ? -1 : 1;
    return p->end < q->end ? -1 : p->end > q->end;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(tensor *const *)a)->name, (*(tensor *const *)b)->name);
}

/* Each byte of the data belongs to just one tensor. */
static bool data_is_covered(load *l)
{
    int64_t next = 0;
    qsort(l->by, (size_t)l->n, sizeof *l->by, by_place);
    for (int64_t i = 0; i < l->n; i++) {
        const tensor *t = l->by[i];
        if (t->begin != next)
            return FAIL_TENSOR(l, t, "its data begin at %" PRId64 ", those before end at %" PRId64,
                               t->begin, next);
        next = t->end;
    }
    return next == l->data_bytes ||
           FAIL(l, "%s: byte %" PRId64 ": %" PRId64 " bytes after the last tensor", l->path,
                8 + l->header_bytes + next, l->data_bytes - next);
}

static bool names_differ(load *l)
{
    qsort(l->by, (size_t)l->n, sizeof *l->by, by_name);
    for (int64_t i = 1; i < l->n; i++)
        if (!by_name(&l->by[i - 1], &l->by[i]))
            return FAIL_TENSOR(l, l->by[i], "%s", "is there twice");
    return true;
}

/* The tensor of that name; .by is sorted by name. */
static tensor *find(const load *l, const char *name)
{
    const tensor key = {.name = name}, *p = &key;
    tensor **found = bsearch(&p, l->by, (size_t)l->n, sizeof *l->by, by_name);
    return found ? *found : NULL;
}

/* "f32[32,784]" */
typedef struct type_text {
    char text[200];
} type_text;

static type_text type_of(niz_dtype dtype, const niz_shape *s)
{
    type_text t;
    size_t n = (size_t)snprintf(t.text, sizeof t.text, "%s[", niz_dtype_name(dtype));
    for (int i = 0; i < s->rank; i++)
        n += (size_t)snprintf(t.text + n, sizeof t.text - n, "%s%" PRId64, i ? "," : "", s->dim[i]);
    snprintf(t.text + n, sizeof t.text - n, "]");
    return t;
}

/* What exists already is of the file's dtypes and shapes. */
static bool parameters_fit(load *l)
{
    for (int64_t i = 0; i < niz_param_count(l->z); i++) {
        niz_param_info p = niz_param_get(l->z, i);
        const tensor *t = find(l, p.name);
        if (!t || (t->dtype == p.dtype && niz_shape_equal(&t->shape, &p.shape))) continue;
        niz_fail(l->z, l->at, NIZ_E_SHAPE, "%s: tensor \"%.200s\" is %s, the parameter is %s",
                 l->path, t->name, type_of(t->dtype, &t->shape).text,
                 type_of(p.dtype, &p.shape).text);
        return false;
    }
    return true;
}

/* ---- metadata ------------------------------------------------------------------------------- */

static bool read_counter(load *l, const cJSON *item, uint64_t *out)
{
    const char *s = item->valuestring;
    uint64_t v = 0;
    bool ok = s[0] != 0;
    for (; ok && *s; s++)
        ok = *s >= '0' && *s <= '9' && !__builtin_mul_overflow(v, (uint64_t)10, &v) &&
             !__builtin_add_overflow(v, (uint64_t)(*s - '0'), &v);
    if (!ok) return FAIL(l, "%s: metadata %s is no number: \"%.40s\"", l->path, item->string,
                         item->valuestring);
    *out = v;
    return true;
}

static bool read_entry(load *l, const cJSON *item)
{
    const char *key = item->string;
    const size_t prefix = sizeof NIZ_SAFETENSORS_STATE - 1;
    uint64_t *counter[3] = {&l->counters.seed, &l->counters.train_steps, &l->counters.eval_steps};
    if (!cJSON_IsString(item))
        return FAIL(l, "%s: metadata \"%.100s\" is not a text", l->path, key);
    if (!strcmp(key, NIZ_SAFETENSORS_FORMAT) && strcmp(item->valuestring, "1"))
        return FAIL(l, "%s: written by a libniz of format \"%.40s\", this one reads 1", l->path,
                    item->valuestring);
    for (int i = 0; i < 3; i++)
        if (!strcmp(key, niz_safetensors_counter[i])) return read_counter(l, item, counter[i]);
    tensor *t = strncmp(key, NIZ_SAFETENSORS_STATE, prefix) ? NULL : find(l, key + prefix);
    if (t) t->state = true;
    return true;
}

static bool read_metadata(load *l)
{
    bool found = false;
    const cJSON *item, *entry;
    cJSON_ArrayForEach(item, l->root)
    {
        if (strcmp(item->string, NIZ_SAFETENSORS_METADATA)) continue;
        if (found) return FAIL(l, "%s: __metadata__ is there twice", l->path);
        if (!cJSON_IsObject(item)) return FAIL(l, "%s: __metadata__ is no object", l->path);
        found = true;
        cJSON_ArrayForEach(entry, item) if (!read_entry(l, entry)) return false;
    }
    return true;
}

/* ---- the data ------------------------------------------------------------------------------- */

/* A bool of another value than 0 and 1 would not be one number to all that reads it. */
static bool bools_are(load *l, const tensor *t)
{
    if (t->dtype != NIZ_BOOL) return true;
    for (int64_t i = t->begin; i < t->end; i++)
        if ((unsigned char)l->data[i] > 1)
            return FAIL_TENSOR(l, t, "byte %" PRId64 " of the file is no bool",
                               8 + l->header_bytes + i);
    return true;
}

static bool read_data(load *l)
{
    l->data = niz_realloc(l->z, NULL, (size_t)l->data_bytes + 1);
    l->param = niz_realloc(l->z, NULL, ((size_t)l->n + 1) * sizeof *l->param);
    if (!l->data || !l->param || !read_bytes(l, l->data, l->data_bytes)) return false;
    for (int64_t i = 0; i < l->n; i++) {
        const tensor *t = &l->tensor[i];
        if (!bools_are(l, t)) return false;
        bool trainable = !t->state && (t->dtype == NIZ_F32 || t->dtype == NIZ_F64);
        l->param[i] =
            (niz_param_info){t->name, t->dtype, t->shape, trainable, l->data + t->begin};
    }
    return true;
}

static void run(load *l)
{
    l->counters = niz_counters_get(l->z);
    if (open_file(l) && read_header(l) && parse_header(l) && read_tensors(l) &&
        data_is_covered(l) && names_differ(l) && read_metadata(l) && parameters_fit(l) &&
        read_data(l) && !niz_param_set_all(l->z, l->n, l->param))
        niz_counters_set(l->z, l->counters);
}

niz_status niz_load_at(niz_at at, niz *z, const char *path)
{
    if (!z || niz_error(z)) return niz_error(z);
    NIZ_FUNCTION(z, at, "load");
    if (!path || !path[0]) return niz_fail(z, at, NIZ_E_ARGUMENT, "no file name");
    if (niz_run_at(at, z, 0, NULL)) return niz_error(z); /* what is pending */
    load l = {.z = z, .at = at, .path = path, .fd = -1};
    run(&l);
    if (l.fd >= 0) close(l.fd);
    cJSON_Delete(l.root);
    niz_free(z, l.header);
    niz_free(z, l.tensor);
    niz_free(z, l.by);
    niz_free(z, l.data);
    niz_free(z, l.param);
    return niz_error(z);
}
