/* idx_load.c - a data set from two IDX files, images and labels, given by path or found by name.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include <niz/data.h>
#include <niz/op.h>

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "data/dataset.h"
#include "data/memory.h"

/* ---- two files to a data set ---------------------------------------------------------------- */

/* Element i of an integer file. */
static int64_t integer_at(const niz_idx *idx, int64_t i)
{
    return idx->dtype == NIZ_U8 ? ((const uint8_t *)idx->data)[i] : ((const int32_t *)idx->data)[i];
}

/* Elements of type T as f32 in the same memory, from the first to the last: no T is smaller. */
#define CONVERT(T)                                                                                 \
    for (int64_t i = 0; i < idx->count; i++) {                                                     \
        T from;                                                                                    \
        memcpy(&from, p + i * (int64_t)sizeof from, sizeof from);                                  \
        float to = (float)from;                                                                    \
        memcpy(p + i * (int64_t)sizeof to, &to, sizeof to);                                        \
    }

static void to_floats(niz_idx *idx)
{
    unsigned char *p = idx->data;
    if (idx->dtype == NIZ_I32) CONVERT(int32_t)
    if (idx->dtype == NIZ_F64) CONVERT(double)
}

/* The file's elements become the data set's: bytes as they are, to stand for 0 .. 1; others f32. */
static bool give_elements(niz *z, niz_idx *idx, niz_dataset *d)
{
    if (idx->dtype == NIZ_U8) {
        d->bytes = idx->data;
        d->divisor = 255;
    } else {
        to_floats(idx);
        d->x = niz_memory_array(z, idx->data, idx->count, sizeof *d->x);
    }
    if (!d->bytes && !d->x) return false;
    idx->data = NULL;
    return true;
}

static niz_dataset *load_images(niz_at at, niz *z, const char *path)
{
    niz_idx *idx = niz_idx_read_at(at, z, path);
    if (!idx) return NULL;
    niz_dataset *d = NULL;
    if (idx->shape.rank < 1) {
        niz_fail(z, at, NIZ_E_FORMAT, "%s: offset 3: one number of rank 0 is no list of samples",
                 path);
    } else {
        niz_shape sample = {idx->shape.rank - 1, {0}};
        for (int i = 0; i < sample.rank; i++) sample.dim[i] = idx->shape.dim[i + 1];
        d = niz_dataset_new(z, idx->shape.dim[0], sample);
        if (d && !give_elements(z, idx, d)) {
            niz_dataset_free(z, d);
            d = NULL;
        }
    }
    niz_idx_free(z, idx);
    return d;
}

/* Labels fit the images and are small integers; *n_classes is the largest and one. */
static bool check_labels(niz_at at, niz *z, const char *path, const niz_idx *idx, int64_t count,
                         int64_t *n_classes)
{
    *n_classes = 0;
    if (idx->shape.rank != 1 || (idx->dtype != NIZ_U8 && idx->dtype != NIZ_I32)) {
        niz_fail(z, at, NIZ_E_FORMAT,
                 "%s: offset 2: labels are a list of integers, this is %s of rank %d; are images "
                 "and labels swapped?",
                 path, niz_dtype_name(idx->dtype), idx->shape.rank);
        return false;
    }
    if (idx->count != count) {
        niz_fail(z, at, NIZ_E_FORMAT, "%s: offset 4: %" PRId64 " labels for %" PRId64 " images",
                 path, idx->count, count);
        return false;
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t v = integer_at(idx, i);
        if (v < 0 || v >= NIZ_MAX_CLASSES) {
            niz_fail(z, at, NIZ_E_FORMAT, "%s: label %" PRId64 " is %" PRId64 ", not in 0 .. %d",
                     path, i, v, NIZ_MAX_CLASSES - 1);
            return false;
        }
        if (v >= *n_classes) *n_classes = v + 1;
    }
    return true;
}

static bool load_labels(niz_at at, niz *z, const char *path, niz_dataset *d)
{
    niz_idx *idx = niz_idx_read_at(at, z, path);
    if (!idx) return false;
    if (check_labels(at, z, path, idx, d->count, &d->n_classes))
        d->label = niz_memory_array(z, NULL, d->count, sizeof *d->label);
    if (d->label)
        for (int64_t i = 0; i < d->count; i++) d->label[i] = (int32_t)integer_at(idx, i);
    niz_idx_free(z, idx);
    return d->label;
}

niz_dataset *niz_idx_load_at(niz_at at, niz *z, const char *images_path, const char *labels_path)
{
    NIZ_FUNCTION(z, at, "idx_load");
    niz_dataset *d = load_images(at, z, images_path);
    if (d && (!labels_path || load_labels(at, z, labels_path, d))) return d;
    niz_dataset_free(z, d);
    return NULL;
}

/* ---- names in a directory ------------------------------------------------------------------- */

/* The images file chosen so far.  A name without a prefix wins over one with; of the same name,
 * plain wins over gzip; otherwise two names are one too many. */
typedef struct choice {
    char *name, *rival;
    bool exact;
} choice;

static bool is_gz(const char *name)
{
    size_t n = strlen(name);
    return n > 3 && !strcmp(name + n - 3, ".gz");
}

/* Whether name is [prefix-]part-images-idxN-ubyte[.gz]; *exact: without a prefix. */
static bool names_images(const char *name, const char *part, bool *exact)
{
    const char *images = strstr(name, "-images");
    size_t before = images ? (size_t)(images - name) : 0, n = strlen(part);
    if (before < n || memcmp(images - n, part, n) != 0) return false;
    *exact = before == n;
    if (!*exact && name[before - n - 1] != '-') return false;
    const char *p = images + strlen("-images");
    if ((*p != '-' && *p != '.') || strncmp(p + 1, "idx", 3) != 0) return false;
    p += 4;
    if (*p < '1' || *p > '8' || strncmp(p + 1, "-ubyte", 6) != 0) return false;
    return !p[7] || !strcmp(p + 7, ".gz");
}

static bool same_but_gz(const char *a, const char *b)
{
    size_t la = strlen(a) - (is_gz(a) ? 3 : 0), lb = strlen(b) - (is_gz(b) ? 3 : 0);
    return la == lb && !memcmp(a, b, la);
}

static void replace(niz *z, char **text, const char *by)
{
    niz_free(z, *text);
    *text = by ? niz_memory_text(z, by, "", "") : NULL;
}

static void consider(niz *z, choice *c, const char *name, bool exact)
{
    if (!c->name || (exact && !c->exact)) {
        replace(z, &c->name, name);
        replace(z, &c->rival, NULL);
        c->exact = exact;
    } else if (same_but_gz(c->name, name)) {
        if (is_gz(c->name)) replace(z, &c->name, name);
    } else if (exact == c->exact) {
        replace(z, &c->rival, name);
    }
}

static void scan(niz *z, DIR *dir, const char *part, choice *c)
{
    bool test = !strcmp(part, "test"), exact;
    for (struct dirent *e; !niz_error(z) && (e = readdir(dir));)
        if (names_images(e->d_name, part, &exact) ||
            (test && names_images(e->d_name, "t10k", &exact)))
            consider(z, c, e->d_name, exact);
}

/* Fills c->name; without success the error is set. */
static bool choose_images(niz_at at, niz *z, const char *dir, const char *part, choice *c)
{
    DIR *handle = opendir(dir);
    if (!handle) {
        niz_fail(z, at, NIZ_E_IO, "%s: cannot be opened: %s", dir, strerror(errno));
        return false;
    }
    scan(z, handle, part, c);
    closedir(handle);
    if (niz_error(z)) return false;
    if (!c->name)
        niz_fail(z, at, NIZ_E_IO, "%s: there is no %s-images-idx3-ubyte or %s-images-idx3-ubyte.gz",
                 dir, part, part);
    else if (c->rival)
        niz_fail(z, at, NIZ_E_ARGUMENT, "%s: %s could be %s or %s; say the part in full", dir, part,
                 c->name, c->rival);
    return c->name && !c->rival;
}

/* The labels beside an images file, packed or not as the file is; else the other way. */
static char *labels_beside(niz *z, const char *images_path)
{
    char *path = niz_memory_text(z, images_path, ".gz", "");
    if (!path) return NULL;
    size_t plain = strlen(images_path) - (is_gz(images_path) ? 3 : 0);
    char *kind = path + plain - strlen("-images-idx3-ubyte");
    memcpy(kind, "-labels", 7);
    kind[strlen("-labels-idx")] = '1';
    memcpy(path + plain, is_gz(images_path) ? ".gz" : "", is_gz(images_path) ? 4 : 1);
    if (access(path, F_OK) == 0) return path;
    memcpy(path + plain, is_gz(images_path) ? "" : ".gz", is_gz(images_path) ? 1 : 4);
    return path;
}

niz_dataset *niz_idx_dir_at(niz_at at, niz *z, const char *dir, const char *part)
{
    NIZ_FUNCTION(z, at, "idx_dir");
    if (niz_error(z)) return NULL;
    if (!dir || !part || !*part) {
        niz_fail(z, at, NIZ_E_ARGUMENT, "the directory or the part is missing");
        return NULL;
    }
    choice c = {NULL, NULL, false};
    niz_dataset *d = NULL;
    if (choose_images(at, z, dir, part, &c)) {
        char *images = niz_memory_text(z, dir, "/", c.name);
        char *labels = images ? labels_beside(z, images) : NULL;
        if (labels) d = niz_idx_load_at(at, z, images, labels);
        niz_free(z, labels);
        niz_free(z, images);
    }
    niz_free(z, c.name);
    niz_free(z, c.rival);
    return d;
}
