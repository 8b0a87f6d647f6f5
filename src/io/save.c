/* save.c - all parameters into a safetensors file.
 *
 * The header names parameters in the order of their making, so that a program that loads them first
 * makes them in that order too.  Their data lie by size of element, the largest first: every tensor
 * is then aligned, which readers that map the file need.
 *
 * SPDX-License-Identifier: MIT */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <niz/io.h>
#include <niz/op.h>
#include <string.h>

#include "io/atomic.h"
#include "io/safetensors.h"

static size_t bytes_of(const niz_param_info *p)
{
    return (size_t)niz_shape_count(&p->shape) * niz_dtype_size(p->dtype);
}

/* Sizes of elements, in the order of their data. */
static const size_t groups[] = {8, 4, 1};
enum { N_GROUPS = sizeof groups / sizeof groups[0] };

/* Where the data of each of n parameters begins. */
static void lay_out(const niz *z, int64_t n, int64_t *offset)
{
    int64_t at = 0;
    for (int g = 0; g < N_GROUPS; g++)
        for (int64_t i = 0; i < n; i++) {
            niz_param_info p = niz_param_get(z, i);
            if (niz_dtype_size(p.dtype) != groups[g]) continue;
            offset[i] = at;
            at += (int64_t)bytes_of(&p);
        }
}

/* ---- the header ----------------------------------------------------------------------------- */

/* Takes item, also when it fails; an item that could not be made is NULL. */
static bool put(cJSON *object, const char *key, cJSON *item)
{
    if (item && object && cJSON_AddItemToObject(object, key, item)) return true;
    cJSON_Delete(item);
    return false;
}

static bool put_number(cJSON *array, int64_t v)
{
    cJSON *item = cJSON_CreateNumber((double)v); /* below 2^53: it is the size of something */
    if (item && array && cJSON_AddItemToArray(array, item)) return true;
    cJSON_Delete(item);
    return false;
}

static bool put_tensor(cJSON *root, const niz_param_info *p, int64_t begin)
{
    cJSON *tensor = cJSON_CreateObject(), *shape = cJSON_CreateArray(),
          *offsets = cJSON_CreateArray();
    bool ok = put(tensor, "dtype", cJSON_CreateString(niz_safetensors_dtype(p->dtype)));
    for (int i = 0; i < p->shape.rank; i++) ok = ok && put_number(shape, p->shape.dim[i]);
    ok = ok && put_number(offsets, begin) && put_number(offsets, begin + (int64_t)bytes_of(p));
    ok = put(tensor, "shape", shape) && ok;
    ok = put(tensor, "data_offsets", offsets) && ok;
    return put(root, p->name, tensor) && ok;
}

static bool put_metadata(cJSON *root, const niz *z, int64_t n)
{
    cJSON *metadata = cJSON_CreateObject();
    niz_counters c = niz_counters_get(z);
    const uint64_t counter[3] = {c.seed, c.train_steps, c.eval_steps};
    bool ok = put(metadata, NIZ_SAFETENSORS_FORMAT, cJSON_CreateString("1"));
    for (int i = 0; i < 3; i++) {
        char text[24];
        snprintf(text, sizeof text, "%" PRIu64, counter[i]);
        ok = ok && put(metadata, niz_safetensors_counter[i], cJSON_CreateString(text));
    }
    for (int64_t i = 0; i < n; i++) {
        niz_param_info p = niz_param_get(z, i);
        char key[1024];
        if (p.trainable) continue;
        int length = snprintf(key, sizeof key, NIZ_SAFETENSORS_STATE "%s", p.name);
        ok = ok && length < (int)sizeof key && put(metadata, key, cJSON_CreateString("1"));
    }
    return put(root, NIZ_SAFETENSORS_METADATA, metadata) && ok;
}

/* The header as text, for cJSON_free; NULL without memory. */
static char *header_text(const niz *z, int64_t n, const int64_t *offset)
{
    cJSON *root = cJSON_CreateObject();
    bool ok = put_metadata(root, z, n);
    for (int64_t i = 0; i < n && ok; i++) {
        niz_param_info p = niz_param_get(z, i);
        ok = put_tensor(root, &p, offset[i]);
    }
    char *text = ok ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    return text;
}

/* ---- the file ------------------------------------------------------------------------------- */

static bool write_header(niz_atomic *a, const char *text)
{
    uint64_t bytes = strlen(text), padded = (bytes + 7) / 8 * 8;
    return niz_atomic_write(a, &padded, sizeof padded) && niz_atomic_write(a, text, bytes) &&
           niz_atomic_write(a, "       ", padded - bytes);
}

static bool write_data(niz_atomic *a, const niz *z, int64_t n)
{
    for (int g = 0; g < N_GROUPS; g++)
        for (int64_t i = 0; i < n; i++) {
            niz_param_info p = niz_param_get(z, i);
            if (niz_dtype_size(p.dtype) != groups[g]) continue;
            if (!niz_atomic_write(a, p.data, bytes_of(&p))) return false;
        }
    return true;
}

/* Names that the format or its readers could not take. */
static bool names_fit(niz *z, niz_at at, const char *path, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!strcmp(niz_param_get(z, i).name, NIZ_SAFETENSORS_METADATA)) {
            niz_fail(z, at, NIZ_E_ARGUMENT, "%s: the format has no room for a parameter \"%s\"",
                     path, NIZ_SAFETENSORS_METADATA);
            return false;
        }
    return true;
}

static void save(niz *z, niz_at at, const char *path)
{
    int64_t n = niz_param_count(z);
    int64_t *offset = niz_realloc(z, NULL, (size_t)(n + 1) * sizeof *offset);
    if (!offset) return;
    lay_out(z, n, offset);
    char *text = header_text(z, n, offset);
    niz_free(z, offset);
    if (!text) {
        niz_fail(z, at, NIZ_E_MEMORY, "%s: no memory for its header", path);
    } else if (strlen(text) > NIZ_SAFETENSORS_HEADER_MAX) {
        niz_fail(z, at, NIZ_E_ARGUMENT, "%s: the names and shapes of %" PRId64
                 " parameters are over %d bytes", path, n, NIZ_SAFETENSORS_HEADER_MAX);
    } else {
        niz_atomic a;
        bool ok = niz_atomic_begin(&a, z, at, path) && write_header(&a, text) &&
                  write_data(&a, z, n);
        niz_atomic_end(&a, ok);
    }
    cJSON_free(text);
}

niz_status niz_save_at(niz_at at, niz *z, const char *path)
{
    if (!z || niz_error(z)) return niz_error(z);
    NIZ_FUNCTION(z, at, "save");
    if (!path || !path[0]) return niz_fail(z, at, NIZ_E_ARGUMENT, "no file name");
    if (niz_run_at(at, z, 0, NULL)) return niz_error(z); /* what is pending */
    if (names_fit(z, at, path, niz_param_count(z))) save(z, at, path);
    return niz_error(z);
}
