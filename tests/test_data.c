/* test_data.c - loaders, splits, normalisers, batches (niz/data.h).
 *
 * Small files are written to a directory of their own and removed with it; the large real ones are
 * read if they lie in $NIZ_TEST_DATA or ../shared/data beside the source tree.
 *
 * Every context here counts its blocks and its peak, so leaks and greed show without a sanitizer,
 * and can be told to refuse the n-th allocation.
 *
 * SPDX-License-Identifier: MIT */
#include <check.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <niz/data.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef NIZ_HAVE_ZLIB
#include <zlib.h>
#endif

/* ---- a context that counts ------------------------------------------------------------------ */

typedef struct counter {
    int64_t blocks;  /* held now */
    size_t largest;  /* request */
    int64_t calls, refuse; /* the call that gets nothing, counted from 1; 0: none */
} counter;

static counter mem;
static niz *z;

static void *counting_realloc(void *user, void *p, size_t bytes)
{
    counter *c = user;
    if (!bytes) {
        c->blocks -= p != NULL;
        free(p);
        return NULL;
    }
    c->calls++;
    if (bytes > c->largest) c->largest = bytes;
    if (c->calls == c->refuse) return NULL;
    void *q = realloc(p, bytes);
    c->blocks += q && !p;
    return q;
}

static char dir[256];

static char *in_dir(const char *name)
{
    static char path[8][512];
    static int turn;
    char *p = path[turn++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static const char *made[] = {
    "f",
    "pipe",
    "h.gz",
    "images",
    "labels",
    "train-images-idx3-ubyte",
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte",
    "t10k-images.idx3-ubyte.gz",
    "t10k-labels.idx1-ubyte",
    "a-train-images-idx3-ubyte",
    "a-train-labels-idx1-ubyte",
    "b-train-images-idx3-ubyte",
    "b-train-labels-idx1-ubyte",
};

static void remove_files(void)
{
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) unlink(in_dir(made[i]));
}

/* The directory outlives a test that fails, so these two run outside of the tests' processes. */
static void make_dir(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/niz-test-data-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_dir(void)
{
    remove_files();
    ck_assert_int_eq(rmdir(dir), 0);
}

static void setup(void)
{
    remove_files();
    mem = (counter){0};
    z = niz_open(&(niz_options){.realloc = counting_realloc, .user = &mem});
    ck_assert_ptr_nonnull(z);
    niz_split(z, niz_all(NULL)); /* a context makes its recording when it is first needed */
    niz_clear_error(z);
}

static void teardown(void)
{
    niz_close(z);
    ck_assert_int_eq(mem.blocks, 0);
}

/* ---- small tools ---------------------------------------------------------------------------- */

static char *put(const char *name, const void *bytes, size_t n)
{
    char *path = in_dir(name);
    unlink(path); /* a truncated file is flushed when it is closed, on ext4: 5 ms each */
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, n, f), n);
    fclose(f);
    return path;
}

static char *put_text(const char *name, const char *text)
{
    return put(name, text, strlen(text));
}

/* An error of that kind with that text in its message; the context is sound again afterwards. */
static void expect_error(niz_status status, const char *part)
{
    ck_assert_msg(niz_error(z) == status, "status %d, not %d: %s", niz_error(z), status,
                  niz_message(z));
    ck_assert_msg(strstr(niz_message(z), part), "no \"%s\" in: %s", part, niz_message(z));
    niz_clear_error(z);
}

static void expect_fine(void)
{
    ck_assert_msg(!niz_error(z), "%s", niz_message(z));
}

/* An error of a damaged file, whatever it says, as long as it names the file. */
static void expect_damage(void)
{
    ck_assert_msg(niz_error(z) == NIZ_E_FORMAT, "%d: %s", niz_error(z), niz_message(z));
    ck_assert_ptr_nonnull(strstr(niz_message(z), dir));
    niz_clear_error(z);
}

static size_t big_endian(unsigned char *to, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) to[i] = (unsigned char)(v >> 8 * (bytes - 1 - i));
    return (size_t)bytes;
}

/* An IDX header; returns its length. */
static size_t idx_header(unsigned char *to, int type, int rank, const uint32_t *size)
{
    unsigned char magic[4] = {0, 0, (unsigned char)type, (unsigned char)rank};
    memcpy(to, magic, 4);
    for (int i = 0; i < rank; i++) big_endian(to + 4 + 4 * i, size[i], 4);
    return 4 + 4 * (size_t)rank;
}

enum { SMALL_N = 5, SMALL_BYTES = 16 + SMALL_N * 6, SMALL_LABEL_BYTES = 8 + SMALL_N };

/* 5 images of 2 x 3, pixel k is 7 k; labels 0 1 2 0 1. */
static void small_images(unsigned char *to)
{
    size_t n = idx_header(to, 8, 3, (uint32_t[]){SMALL_N, 2, 3});
    for (int k = 0; k < SMALL_N * 6; k++) to[n + (size_t)k] = (unsigned char)(7 * k);
}

static void small_labels(unsigned char *to)
{
    size_t n = idx_header(to, 8, 1, (uint32_t[]){SMALL_N});
    for (int k = 0; k < SMALL_N; k++) to[n + (size_t)k] = (unsigned char)(k % 3);
}

static void put_small(const char *images, const char *labels)
{
    unsigned char b[SMALL_BYTES], l[SMALL_LABEL_BYTES];
    small_images(b);
    small_labels(l);
    put(images, b, sizeof b);
    put(labels, l, sizeof l);
}

/* The features of a part as its batches would have them, for free. */
static float *features_of(niz_part p)
{
    float *x = malloc((size_t)(p.count * p.of->features + 1) * sizeof *x);
    ck_assert_ptr_nonnull(x);
    ck_assert_int_eq(niz_part_read(z, p, x), NIZ_OK);
    return x;
}

static void check_small(const niz_dataset *d)
{
    expect_fine();
    ck_assert_ptr_nonnull(d);
    ck_assert_int_eq(d->count, SMALL_N);
    ck_assert_int_eq(d->sample.rank, 2);
    ck_assert_int_eq(d->sample.dim[0], 2);
    ck_assert_int_eq(d->sample.dim[1], 3);
    ck_assert_int_eq(d->features, 6);
    ck_assert_int_eq(d->n_classes, 3);
    ck_assert_ptr_null(d->target);
    ck_assert(!d->x && d->bytes && d->divisor == 255);
    float *x = features_of(niz_all(d));
    for (int k = 0; k < SMALL_N * 6; k++) {
        ck_assert_int_eq(d->bytes[k], 7 * k);
        ck_assert(x[k] == (float)(7 * k) / 255.0f);
    }
    free(x);
    for (int k = 0; k < SMALL_N; k++) ck_assert_int_eq(d->label[k], k % 3);
}

static uint64_t state;

static uint32_t draw(uint32_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % n;
}

#ifdef NIZ_HAVE_ZLIB
/* bytes as a gzip file in memory. */
static size_t gzip(const void *bytes, size_t n, unsigned char *to, size_t room)
{
    z_stream s = {.next_in = (Bytef *)(uintptr_t)bytes, .avail_in = (uInt)n, .next_out = to,
                  .avail_out = (uInt)room};
    ck_assert_int_eq(deflateInit2(&s, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    ck_assert_int_eq(deflate(&s, Z_FINISH), Z_STREAM_END);
    deflateEnd(&s);
    return room - s.avail_out;
}
#endif

/* ---- the digits ----------------------------------------------------------------------------- */

START_TEST(digits_are_the_known_ones)
{
    static const int64_t known[10] = {178, 182, 177, 183, 181, 182, 181, 179, 174, 180};
    static const int first[8] = {0, 0, 5, 13, 9, 1, 0, 0};
    niz_dataset *d = niz_digits(z);
    expect_fine();
    ck_assert_int_eq(d->count, 1797);
    ck_assert_int_eq(d->features, 64);
    ck_assert_int_eq(d->n_classes, 10);
    int64_t counts[10];
    niz_class_counts(niz_all(d), counts);
    for (int c = 0; c < 10; c++) ck_assert_int_eq(counts[c], known[c]);
    for (int j = 0; j < 8; j++) ck_assert(d->x[j] == (float)first[j] / 16.0f);
    double sum = 0;
    for (int64_t i = 0; i < d->count * 64; i++) {
        ck_assert(d->x[i] >= 0 && d->x[i] <= 1);
        sum += (double)d->x[i];
    }
    ck_assert(sum * 16 == 561718); /* of the table's pixels */
    niz_dataset_free(z, d);
}
END_TEST

/* ---- IDX ------------------------------------------------------------------------------------ */

START_TEST(idx_reads_every_element_type)
{
    static const struct {
        int code, bytes;
        niz_dtype dtype;
    } type[] = {{8, 1, NIZ_U8},   {9, 1, NIZ_I32},  {11, 2, NIZ_I32},
                {12, 4, NIZ_I32}, {13, 4, NIZ_F32}, {14, 8, NIZ_F64}};
    static const double value[6] = {0, 1, 127, -1, -128, 100};
    for (int t = 0; t < 6; t++) {
        unsigned char b[128];
        size_t n = idx_header(b, type[t].code, 2, (uint32_t[]){2, 3});
        for (int i = 0; i < 6; i++) {
            float f = (float)value[i];
            uint32_t f32;
            uint64_t f64;
            memcpy(&f32, &f, 4);
            memcpy(&f64, &value[i], 8);
            n += big_endian(b + n, type[t].code == 13   ? f32
                                   : type[t].code == 14 ? f64
                                                        : (uint64_t)(int64_t)value[i],
                            type[t].bytes);
        }
        niz_idx *idx = niz_idx_read(z, put("f", b, n));
        expect_fine();
        ck_assert_int_eq(idx->dtype, type[t].dtype);
        ck_assert_int_eq(idx->shape.rank, 2);
        ck_assert_int_eq(idx->count, 6);
        for (int i = 0; i < 6; i++) {
            double got = idx->dtype == NIZ_U8    ? ((uint8_t *)idx->data)[i]
                         : idx->dtype == NIZ_I32 ? ((int32_t *)idx->data)[i]
                         : idx->dtype == NIZ_F32 ? (double)((float *)idx->data)[i]
                                                 : ((double *)idx->data)[i];
            ck_assert(got == (idx->dtype == NIZ_U8 ? (uint8_t)(int)value[i] : value[i]));
        }
        niz_idx_free(z, idx);
    }
}
END_TEST

START_TEST(idx_reads_every_rank_and_empty_arrays)
{
    for (int rank = 0; rank <= 10; rank++) {
        unsigned char b[64];
        uint32_t size[10] = {2, 1, 1, 1, 1, 1, 1, 1, 1, 1};
        size_t n = idx_header(b, 8, rank, size);
        b[n] = 3, b[n + 1] = 4;
        niz_idx *idx = niz_idx_read(z, put("f", b, n + (rank ? 2 : 1)));
        if (rank <= NIZ_MAX_RANK) {
            expect_fine();
            ck_assert_int_eq(idx->shape.rank, rank);
            ck_assert_int_eq(idx->count, rank ? 2 : 1);
            ck_assert_int_eq(*(uint8_t *)idx->data, 3);
        } else {
            ck_assert_ptr_null(idx);
            expect_error(NIZ_E_FORMAT, "offset 3");
        }
        niz_idx_free(z, idx);
    }
    unsigned char b[64];
    size_t n = idx_header(b, 13, 3, (uint32_t[]){7, 0, 0xffffffff});
    niz_idx *idx = niz_idx_read(z, put("f", b, n));
    expect_fine();
    ck_assert_int_eq(idx->count, 0);
    niz_idx_free(z, idx);
    niz_dataset *d = niz_idx_load(z, in_dir("f"), NULL);
    expect_fine();
    ck_assert_int_eq(d->count, 7);
    ck_assert_int_eq(d->features, 0);
    ck_assert_ptr_null(d->label);
    niz_dataset_free(z, d);
}
END_TEST

START_TEST(idx_refuses_promises)
{
    unsigned char b[64] = {0};
    size_t n = idx_header(b, 14, 3, (uint32_t[]){0xffffffff, 0xffffffff, 0xffffffff});
    ck_assert_ptr_null(niz_idx_read(z, put("f", b, n)));
    expect_error(NIZ_E_FORMAT, "overflow");
    n = idx_header(b, 8, 2, (uint32_t[]){100000, 100000}); /* ten gigabytes in 20 bytes */
    mem.largest = 0;
    ck_assert_ptr_null(niz_idx_read(z, put("f", b, n + 8)));
    ck_assert_uint_le(mem.largest, 200000);
    expect_error(NIZ_E_FORMAT, "offset 20: the file ends here");
    b[2] = 10;
    ck_assert_ptr_null(niz_idx_read(z, put("f", b, n)));
    expect_error(NIZ_E_FORMAT, "offset 2: unknown element type 0x0a");
    ck_assert_ptr_null(niz_idx_read(z, put_text("f", "PNG nonsense")));
    expect_error(NIZ_E_FORMAT, "offset 0: not an IDX file");
    ck_assert_ptr_null(niz_idx_read(z, in_dir("missing")));
    expect_error(NIZ_E_IO, "missing");
    ck_assert_ptr_null(niz_idx_read(z, dir));
    expect_error(NIZ_E_IO, dir);
    ck_assert_ptr_null(niz_idx_read(z, NULL));
    expect_error(NIZ_E_ARGUMENT, "NULL");
}
END_TEST

START_TEST(idx_load_and_what_does_not_fit)
{
    put_small("images", "labels");
    char *images = in_dir("images"), *labels = in_dir("labels");
    niz_dataset *d = niz_idx_load(z, images, labels);
    check_small(d);
    niz_dataset_free(z, d);

    ck_assert_ptr_null(niz_idx_load(z, labels, images));
    expect_error(NIZ_E_FORMAT, "swapped");
    unsigned char b[64];
    small_labels(b);
    b[7] = 4;
    put("labels", b, 12);
    ck_assert_ptr_null(niz_idx_load(z, images, labels));
    expect_error(NIZ_E_FORMAT, "4 labels for 5 images");
    size_t n = idx_header(b, 12, 1, (uint32_t[]){SMALL_N});
    for (int i = 0; i < SMALL_N; i++) n += big_endian(b + n, i == 3 ? 0x7fffffff : 1, 4);
    put("labels", b, n);
    ck_assert_ptr_null(niz_idx_load(z, images, labels));
    expect_error(NIZ_E_FORMAT, "label 3 is 2147483647");
    n = idx_header(b, 9, 1, (uint32_t[]){SMALL_N});
    memset(b + n, 0xff, SMALL_N);
    put("labels", b, n + SMALL_N);
    ck_assert_ptr_null(niz_idx_load(z, images, labels));
    expect_error(NIZ_E_FORMAT, "label 0 is -1");
}
END_TEST

START_TEST(idx_images_of_every_kind)
{
    static const int code[5] = {9, 11, 12, 13, 14}, width[5] = {1, 2, 4, 4, 8};
    static const int value[7] = {-100, 0, 1, 127, -128, 7, 100};
    for (int t = 0; t < 5; t++) {
        unsigned char b[64];
        size_t n = idx_header(b, code[t], 1, (uint32_t[]){7});
        for (int i = 0; i < 7; i++) {
            float f = (float)value[i];
            double g = value[i];
            uint32_t f32;
            uint64_t bits = (uint64_t)value[i];
            memcpy(&f32, &f, 4);
            if (code[t] == 13) bits = f32;
            if (code[t] == 14) memcpy(&bits, &g, 8);
            n += big_endian(b + n, bits, width[t]);
        }
        niz_dataset *d = niz_idx_load(z, put("images", b, n), NULL);
        expect_fine();
        ck_assert_int_eq(d->sample.rank, 0);
        ck_assert_int_eq(d->features, 1);
        ck_assert(!d->bytes && d->x);
        for (int i = 0; i < 7; i++) ck_assert(d->x[i] == (float)value[i]);
        niz_dataset_free(z, d);
    }
    ck_assert_ptr_null(niz_idx_load(z, put("images", "\0\0\x08\0x", 5), NULL));
    expect_error(NIZ_E_FORMAT, "rank 0 is no list of samples");
}
END_TEST

/* Loads the file "images" with the small labels: the small data set, another one of sound sizes, or
 * an error, never anything between. */
static void load_anything(bool may_load, size_t file_bytes)
{
    mem.largest = 0;
    niz_dataset *d = niz_idx_load(z, in_dir("images"), in_dir("labels"));
    ck_assert_uint_le(mem.largest, 200000);
    if (d) {
        expect_fine();
        ck_assert(may_load);
        ck_assert_int_eq(d->count, SMALL_N);
        ck_assert_int_le(d->features * d->count, (int64_t)file_bytes);
        niz_dataset_free(z, d);
    } else {
        expect_damage();
    }
}

START_TEST(idx_cut_changed_and_overlong)
{
    unsigned char b[SMALL_BYTES + 1] = {0};
    put_small("images", "labels");
    small_images(b);
    for (size_t n = 0; n < SMALL_BYTES; n++) {
        put("images", b, n);
        load_anything(false, n);
    }
    put("images", b, SMALL_BYTES + 1);
    load_anything(false, SMALL_BYTES + 1);
    for (int i = 0; i < 16; i++)
        for (int v = 0; v < 256; v++) {
            small_images(b);
            bool same = b[i] == v;
            b[i] = (unsigned char)v;
            put("images", b, SMALL_BYTES);
            load_anything(same || (i == 2 && v == 9), SMALL_BYTES);
        }
    small_images(b);
    put("images", b, SMALL_BYTES);
    unsigned char l[SMALL_LABEL_BYTES];
    for (size_t n = 0; n < SMALL_LABEL_BYTES; n++) {
        small_labels(l);
        put("labels", l, n);
        load_anything(false, SMALL_BYTES);
    }
    for (int i = 0; i < 8; i++)
        for (int v = 0; v < 256; v++) {
            small_labels(l);
            bool same = l[i] == v;
            l[i] = (unsigned char)v;
            put("labels", l, sizeof l);
            load_anything(same || (i == 2 && v == 9), SMALL_BYTES);
        }
}
END_TEST

START_TEST(idx_random_mutations)
{
    put_small("images", "labels");
    for (int round = 0; round < 3000; round++) {
        unsigned char b[SMALL_BYTES + 8] = {0};
        small_images(b);
        for (uint32_t k = draw(6) + 1; k > 0; k--)
            b[draw(3) ? draw(16) : draw(SMALL_BYTES)] = (unsigned char)draw(256);
        put("images", b, draw(4) ? SMALL_BYTES : draw(SMALL_BYTES + 8));
        load_anything(true, SMALL_BYTES + 8);
    }
}
END_TEST

/* An IDX file of bytes that the 64 KB read at first do not cover; its length. */
enum { BIG_N = 300, BIG_BYTES = 16 + BIG_N * 784 };

static unsigned char *big_images(void)
{
    unsigned char *b = malloc(BIG_BYTES + 1);
    ck_assert_ptr_nonnull(b);
    size_t n = idx_header(b, 8, 3, (uint32_t[]){BIG_N, 28, 28});
    for (size_t i = n; i <= BIG_BYTES; i++) b[i] = (unsigned char)draw(256);
    return b;
}

/* The big file as it is now in "images": loaded, in memory for little more than itself. */
static void check_big(const char *path, const unsigned char *b, size_t greed)
{
    mem.largest = 0;
    niz_dataset *d = niz_idx_load(z, path, NULL);
    expect_fine();
    ck_assert_uint_le(mem.largest, greed);
    ck_assert_int_eq(d->count, BIG_N);
    ck_assert_int_eq(memcmp(d->bytes, b + 16, BIG_BYTES - 16), 0);
    niz_dataset_free(z, d);
}

START_TEST(idx_longer_than_what_is_read_at_first)
{
    static const size_t cut[] = {65535, 65536, 65537, 131072, BIG_BYTES - 1};
    unsigned char *b = big_images();
    check_big(put("images", b, BIG_BYTES), b, BIG_BYTES + 100);
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        ck_assert_ptr_null(niz_idx_load(z, put("images", b, cut[i]), NULL));
        char text[64];
        snprintf(text, sizeof text, "offset %zu: the file ends here", cut[i]);
        expect_error(NIZ_E_FORMAT, text);
    }
    ck_assert_ptr_null(niz_idx_load(z, put("images", b, BIG_BYTES + 1), NULL));
    expect_error(NIZ_E_FORMAT, "the data end here but the file goes on");
    big_endian(b + 4, 100000000, 4);
    mem.largest = 0;
    ck_assert_ptr_null(niz_idx_load(z, put("images", b, BIG_BYTES), NULL));
    ck_assert_uint_le(mem.largest, BIG_BYTES + 100);
    expect_error(NIZ_E_FORMAT, "the file ends here");
    free(b);
}
END_TEST

/* A pipe does not say how long it is. */
START_TEST(idx_from_a_pipe)
{
    unsigned char *b = big_images();
    char *path = in_dir("pipe");
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    pid_t child = fork();
    if (!child) {
        FILE *f = fopen(path, "wb");
        _exit(!f || fwrite(b, 1, BIG_BYTES, f) != BIG_BYTES || fclose(f));
    }
    check_big(path, b, 2 * BIG_BYTES);
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    free(b);
}
END_TEST

#ifdef NIZ_HAVE_ZLIB
START_TEST(gzip_longer_than_what_is_read_at_first)
{
    unsigned char *b = big_images(), *packed = malloc(2 * BIG_BYTES);
    ck_assert_ptr_nonnull(packed);
    size_t n = gzip(b, BIG_BYTES, packed, 2 * BIG_BYTES);
    check_big(put("images", packed, n), b, 2 * BIG_BYTES);
    ck_assert_ptr_null(niz_idx_load(z, put("images", packed, n - 9), NULL));
    expect_damage();
    free(packed);
    free(b);
}
END_TEST

START_TEST(gzip_cut_changed_and_overlong)
{
    unsigned char b[SMALL_BYTES], packed[512], c[520];
    put_small("images", "labels");
    small_images(b);
    size_t n = gzip(b, sizeof b, packed, sizeof packed);
    put("images", packed, n);
    niz_dataset *d = niz_idx_load(z, in_dir("images"), in_dir("labels"));
    check_small(d);
    niz_dataset_free(z, d);
    for (size_t cut = 0; cut < n; cut++) {
        put("images", packed, cut);
        load_anything(false, SMALL_BYTES);
    }
    for (size_t i = 0; i < n; i++)
        for (int v = 0; v < 256; v++) {
            memcpy(c, packed, n);
            c[i] = (unsigned char)v;
            put("images", c, n);
            load_anything(true, SMALL_BYTES);
            if (i >= 10 && v % 16 == 0) { /* the checksum sees it, or it made no difference */
                d = niz_idx_load(z, in_dir("images"), in_dir("labels"));
                if (d) check_small(d);
                niz_dataset_free(z, d);
                niz_clear_error(z);
            }
        }
    memcpy(c, packed, n);
    memcpy(c + n, "extra", 5);
    put("images", c, n + 5);
    load_anything(false, SMALL_BYTES);
}
END_TEST

START_TEST(gzip_of_several_members_and_bombs)
{
    unsigned char b[SMALL_BYTES], c[1024];
    small_images(b);
    put_small("images", "labels");
    size_t n = gzip(b, 20, c, sizeof c);
    n += gzip(b, 0, c + n, sizeof c - n);
    n += gzip(b + 20, sizeof b - 20, c + n, sizeof c - n);
    put("images", c, n);
    niz_dataset *d = niz_idx_load(z, in_dir("images"), in_dir("labels"));
    check_small(d);
    niz_dataset_free(z, d);

    idx_header(b, 8, 3, (uint32_t[]){100000, 1000, 100});
    put("images", c, gzip(b, 20, c, sizeof c)); /* ten gigabytes in fewer than 50 bytes */
    mem.largest = 0;
    ck_assert_ptr_null(niz_idx_read(z, in_dir("images")));
    ck_assert_uint_le(mem.largest, 200000);
    expect_error(NIZ_E_FORMAT, "offset 20: the file ends here");
}
END_TEST
#else
START_TEST(gzip_is_refused_without_zlib)
{
    ck_assert_ptr_null(niz_idx_read(z, put_text("f", "\x1f\x8b\x08 and so on")));
    expect_error(NIZ_E_FORMAT, "without zlib");
}
END_TEST
#endif

START_TEST(idx_dir_finds_names)
{
    ck_assert_ptr_null(niz_idx_dir(z, dir, "train"));
    expect_error(NIZ_E_IO, "no train-images-idx3-ubyte");
    put_small("a-train-images-idx3-ubyte", "a-train-labels-idx1-ubyte");
    niz_dataset *d = niz_idx_dir(z, dir, "train");
    check_small(d);
    niz_dataset_free(z, d);
    put_small("b-train-images-idx3-ubyte", "b-train-labels-idx1-ubyte");
    ck_assert_ptr_null(niz_idx_dir(z, dir, "train"));
    expect_error(NIZ_E_ARGUMENT, "b-train-images-idx3-ubyte");
    d = niz_idx_dir(z, dir, "b-train");
    check_small(d);
    niz_dataset_free(z, d);
    put_text("b-train-images-idx3-ubyte", "not read any more");
    put_small("train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    d = niz_idx_dir(z, dir, "train");
    check_small(d);
    niz_dataset_free(z, d);
    put_text("train-images-idx3-ubyte.gz", "the plain one is preferred");
    put_text("t10k-images.idx3-ubyte.gz", "another part");
    d = niz_idx_dir(z, dir, "train");
    check_small(d);
    niz_dataset_free(z, d);
    unlink(in_dir("train-labels-idx1-ubyte"));
    ck_assert_ptr_null(niz_idx_dir(z, dir, "train"));
    expect_error(NIZ_E_IO, "train-labels-idx1-ubyte");
    ck_assert_ptr_null(niz_idx_dir(z, in_dir("nowhere"), "train"));
    expect_error(NIZ_E_IO, "nowhere");
    ck_assert_ptr_null(niz_idx_dir(z, dir, ""));
    expect_error(NIZ_E_ARGUMENT, "missing");
#ifdef NIZ_HAVE_ZLIB
    unsigned char b[SMALL_BYTES], packed[512];
    small_images(b);
    put("t10k-images.idx3-ubyte.gz", packed, gzip(b, sizeof b, packed, sizeof packed));
    put_small("images", "t10k-labels.idx1-ubyte");
    d = niz_idx_dir(z, dir, "test");
    check_small(d);
    niz_dataset_free(z, d);
#endif
}
END_TEST

/* ---- CSV ------------------------------------------------------------------------------------ */

static niz_dataset *csv(const char *text)
{
    return niz_csv_load(z, put_text("f", text));
}

static void check_table(niz_dataset *d, int64_t rows, int64_t features, const float *x)
{
    expect_fine();
    ck_assert_ptr_nonnull(d);
    ck_assert_int_eq(d->count, rows);
    ck_assert_int_eq(d->features, features);
    ck_assert_int_eq(d->sample.rank, 1);
    for (int64_t i = 0; i < rows * features; i++) ck_assert(d->x[i] == x[i]);
}

START_TEST(csv_line_ends_quotes_and_blanks)
{
    static const char *const same[] = {
        "a,b,y\n1,2.5,0\n-3,4e2,1\n",
        "a,b,y\n1,2.5,0\n-3,4e2,1",
        "a,b,y\r\n1,2.5,0\r\n-3,4e2,1\r\n",
        "a,b,y\r\n1,2.5,0\r\n-3,4e2,1",
        "\xef\xbb\xbf\x61,b,y\n1,2.5,0\n-3,4e2,1\n\n\r\n",
        "\n a , b , y \n\n 1 ,\t2.5, 0\n-3,+400.,1\n",
        "\"a\",\"b\",y\n\"1\",\"2.5\",\"0\"\r\n-3,.4e+3,\"1\"",
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        niz_dataset *d = csv(same[i]);
        check_table(d, 2, 2, (float[]){1, 2.5f, -3, 400});
        ck_assert_int_eq(d->n_classes, 2);
        ck_assert_int_eq(d->label[0], 0);
        ck_assert_int_eq(d->label[1], 1);
        ck_assert_ptr_null(d->class_names);
        ck_assert_str_eq(d->feature_names[0], "a");
        ck_assert_str_eq(d->feature_names[1], "b");
        niz_dataset_free(z, d);
    }
}
END_TEST

START_TEST(csv_named_classes)
{
    niz_dataset *d = niz_csv_load(
        z, put_text("f", "kind,\"x \"\"q\"\", m\"\nzebra,1\n\"ant,\nred\",2\nzebra,3\n7,4\n"),
        .target = "kind");
    check_table(d, 4, 1, (float[]){1, 2, 3, 4});
    ck_assert_str_eq(d->feature_names[0], "x \"q\", m");
    ck_assert_int_eq(d->n_classes, 3);
    ck_assert_str_eq(d->class_names[0], "zebra");
    ck_assert_str_eq(d->class_names[1], "ant,\nred");
    ck_assert_str_eq(d->class_names[2], "7");
    static const int want[] = {0, 1, 0, 2};
    for (int i = 0; i < 4; i++) ck_assert_int_eq(d->label[i], want[i]);
    niz_dataset_free(z, d);

    d = csv("a,y\n1,1\n2,-1\n3,1\n");
    expect_fine();
    ck_assert_int_eq(d->n_classes, 2);
    ck_assert_str_eq(d->class_names[1], "-1");
    niz_dataset_free(z, d);
}
END_TEST

START_TEST(csv_many_classes)
{
    size_t room = 2000000, n = 0;
    char *text = malloc(room), name[32];
    ck_assert_ptr_nonnull(text);
    n += (size_t)snprintf(text + n, room - n, "y\n");
    for (int i = 0; i < 70000; i++) {
        if (i == 3000) {
            niz_dataset *d = niz_csv_load(z, put("f", text, n));
            expect_fine();
            ck_assert_int_eq(d->n_classes, 3000);
            ck_assert_int_eq(d->features, 0);
            for (int k = 0; k < 3000; k++) {
                ck_assert_int_eq(d->label[k], k);
                snprintf(name, sizeof name, "class %d", k);
                ck_assert_str_eq(d->class_names[k], name);
            }
            niz_dataset_free(z, d);
        }
        n += (size_t)snprintf(text + n, room - n, "class %d\n", i);
    }
    ck_assert_ptr_null(niz_csv_load(z, put("f", text, n)));
    expect_error(NIZ_E_FORMAT, "more than 65536 classes");
    free(text);
}
END_TEST

START_TEST(csv_options)
{
    niz_dataset *d = niz_csv_load(z, put_text("f", "1;2;0.5\n3;4;-2\n"), .separator = ';',
                                  .header = false, .kind = NIZ_CSV_NUMBERS);
    check_table(d, 2, 2, (float[]){1, 2, 3, 4});
    ck_assert(d->target[0] == 0.5f && d->target[1] == -2);
    ck_assert_ptr_null(d->label);
    ck_assert_ptr_null(d->feature_names);
    ck_assert_int_eq(d->n_classes, 0);
    niz_dataset_free(z, d);

    d = niz_csv_load(z, put_text("f", "1\t2\t5\n3\t4\t6\n"), .separator = '\t', .header = false,
                     .target = "1");
    check_table(d, 2, 2, (float[]){2, 5, 4, 6});
    ck_assert_int_eq(d->label[0], 1);
    ck_assert_int_eq(d->label[1], 3);
    ck_assert_int_eq(d->n_classes, 4);
    niz_dataset_free(z, d);

    d = niz_csv_load(z, put_text("f", "a|b\n1|2\n"), .separator = '|', .kind = NIZ_CSV_UNLABELLED);
    check_table(d, 1, 2, (float[]){1, 2});
    ck_assert_ptr_null(d->label);
    ck_assert_ptr_null(d->target);
    niz_dataset_free(z, d);

    d = csv("a,b,y\n");
    check_table(d, 0, 2, NULL);
    niz_dataset_free(z, d);

    char *f = put_text("f", "a,a,b\n1,2,3\n");
    ck_assert_ptr_null(niz_csv_load(z, f, .target = "c"));
    expect_error(NIZ_E_ARGUMENT, "there is no column c");
    ck_assert_ptr_null(niz_csv_load(z, f, .target = "a"));
    expect_error(NIZ_E_ARGUMENT, "more than one column a");
    ck_assert_ptr_null(niz_csv_load(z, f, .target = "4", .header = false));
    expect_error(NIZ_E_ARGUMENT, "there is no column 4");
    ck_assert_ptr_null(niz_csv_load(z, f, .target = "0", .header = false));
    expect_error(NIZ_E_ARGUMENT, "there is no column 0");
    ck_assert_ptr_null(niz_csv_load(z, f, .separator = 'e'));
    expect_error(NIZ_E_ARGUMENT, "separator");
    ck_assert_ptr_null(niz_csv_load(z, f, .kind = (niz_csv_kind)3));
    expect_error(NIZ_E_ARGUMENT, "kind");
    ck_assert_ptr_null(niz_csv_load(z, NULL));
    expect_error(NIZ_E_ARGUMENT, "NULL");
    ck_assert_ptr_null(niz_csv_load(z, in_dir("missing")));
    expect_error(NIZ_E_IO, "missing");
}
END_TEST

START_TEST(csv_mistakes_have_line_and_column)
{
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"", "line 1: the file has no header"},
        {"\n\n", "line 3: the file has no header"},
        {"a,y\n1,0\n,1\n", "line 3, column 1 (a): the value is missing"},
        {"a,y\n1,0\nNaN,1\n", "line 3, column 1 (a): the value is missing: NaN"},
        {"a,y\n?,0\n", "missing: ?"},
        {"a,y\n1,0\n2,\n", "line 3, column 2 (y): the class label is missing"},
        {"a,y\n1,0\n2,NA\n", "line 3, column 2 (y): the class label is missing: NA"},
        {"a,b,y\n1,2,0\n1,x2,0\n", "line 3, column 2 (b): \"x2\" is not a number"},
        {"a,y\n0x10,0\n", "not a number"},
        {"a,y\ninf,0\n", "not a number"},
        {"a,y\n1e,0\n", "not a number"},
        {"a,y\n.,0\n", "not a number"},
        {"a,y\n1 2,0\n", "not a number"},
        {"a,y\n1e39,0\n", "line 2, column 1 (a): 1e39 is too large for f32"},
        {"a,y\n1,0\n1\n", "line 3, column 2: the line has fewer values than the 2 columns"},
        {"a,y\n1,0\n1,0,0\n", "line 3, column 3: the line has more values than the 2 columns"},
        {"a,y\n1,0\n\"1,0\n", "line 4, column 1: a quote is not closed"},
        {"a,y\n1\"2,0\n", "line 2, column 1: a quote inside a field"},
        {"a,y\n\"1\"2,0\n", "line 2, column 1: text after a closing quote"},
        {"a,y\n1,0\r2,0\n", "line 2, column 2: a carriage return without a line feed"},
        {"a,y\n1,2\n3,1.5\n", "line 3, column 2 (y): 1.5 is not a class label"},
        {"a,y\n1,2\n3,65536\n", "65536 is not a class label"},
        {"a,y\n1,2\n3,1e99\n", "1e99 is not a class label"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_ptr_null(csv(bad[i].text));
        expect_error(NIZ_E_FORMAT, bad[i].part);
    }
    ck_assert_ptr_null(niz_csv_load(z, put("f", "a,y\n1\0,0\n", 9)));
    expect_error(NIZ_E_FORMAT, "line 2, column 1: a NUL byte");
    ck_assert_ptr_null(niz_csv_load(z, put("f", "a,y\n\"1\0\",0\n", 11)));
    expect_error(NIZ_E_FORMAT, "line 2, column 1: a NUL byte");
}
END_TEST

START_TEST(csv_numbers_ignore_the_locale)
{
    static const char *const comma[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "de_DE"};
    for (size_t i = 0; i < 4 && !setlocale(LC_ALL, comma[i]); i++) {}
    niz_dataset *d = csv("a,b,y\n1.5,0.1,0\n16777217,1.17549435e-38,1\n1e-60,3.4028235e38,1");
    check_table(d, 3, 2, (float[]){1.5f, 0.1f, 16777216.0f, 1.17549435e-38f, 0, 3.4028235e38f});
    niz_dataset_free(z, d);
    setlocale(LC_ALL, "C");
}
END_TEST

static const char table[] = "n\xc3\xa4me,\"b \"\"c\"\"\",kind\r\n"
                            "1.5,-2e3,\"x,\ny\"\r\n3,\"4\",zz\n5,6,zz\n";

/* Loads file "f": a table of sound size, or an error with a line. */
static void load_any_table(void)
{
    niz_dataset *d = niz_csv_load(z, in_dir("f"));
    if (!d) {
        ck_assert_ptr_nonnull(strstr(niz_message(z), "line "));
        expect_damage();
        return;
    }
    expect_fine();
    ck_assert_int_le(d->count * (d->features + 1), (int64_t)sizeof table);
    for (int64_t i = 0; i < d->count; i++)
        ck_assert(d->label[i] >= 0 && d->label[i] < d->n_classes);
    for (int64_t i = 0; i < d->count * d->features; i++) ck_assert(isfinite(d->x[i]));
    niz_dataset_free(z, d);
}

START_TEST(csv_cut_and_changed)
{
    char c[sizeof table];
    for (size_t n = 0; n < sizeof table; n++) {
        put("f", table, n);
        load_any_table();
    }
    for (size_t i = 0; i < sizeof table - 1; i++)
        for (int v = 0; v < 256; v++) {
            memcpy(c, table, sizeof c);
            c[i] = (char)v;
            put("f", c, sizeof c - 1);
            load_any_table();
        }
    static const char odd[] = "\",\n\r\t 0123eE+-.;|\0xNAna?";
    for (int round = 0; round < 5000; round++) {
        memcpy(c, table, sizeof c);
        for (uint32_t k = draw(8) + 1; k > 0; k--)
            c[draw(sizeof c - 1)] = draw(4) ? odd[draw(sizeof odd - 1)] : (char)draw(256);
        put("f", c, sizeof c - 1 - (draw(3) ? 0 : draw(20)));
        load_any_table();
    }
}
END_TEST

#ifdef NIZ_HAVE_ZLIB
START_TEST(csv_gzip)
{
    unsigned char packed[512];
    const char *text = "a,y\n1,0\n2,1\n";
    size_t n = gzip(text, strlen(text), packed, sizeof packed);
    niz_dataset *d = niz_csv_load(z, put("h.gz", packed, n));
    check_table(d, 2, 1, (float[]){1, 2});
    niz_dataset_free(z, d);
    for (size_t cut = 2; cut < n; cut++) {
        ck_assert_ptr_null(niz_csv_load(z, put("h.gz", packed, cut)));
        expect_damage();
    }
}
END_TEST
#endif

/* ---- parts ---------------------------------------------------------------------------------- */

static void mark(niz_part p, int *seen)
{
    for (int64_t i = 0; i < p.count; i++) {
        ck_assert(i == 0 || niz_part_row(p, i - 1) < niz_part_row(p, i));
        seen[niz_part_row(p, i)]++;
    }
}

START_TEST(split_is_a_partition)
{
    niz_dataset *d = niz_digits(z);
    for (int round = 0; round < 40; round++) {
        double validation = draw(40) / 100.0, test = draw(50) / 100.0;
        bool stratify = round % 2;
        niz_parts p = niz_split(z, niz_all(d), .validation = validation, .test = test,
                                .seed = (uint64_t)round, .stratify = stratify);
        expect_fine();
        int seen[1797] = {0};
        mark(p.train, seen);
        mark(p.validation, seen);
        mark(p.test, seen);
        for (int i = 0; i < 1797; i++) ck_assert_int_eq(seen[i], 1);
        ck_assert_int_eq(p.validation.count, (int64_t)(1797 * validation + 0.5));
        ck_assert_int_eq(p.test.count, (int64_t)(1797 * test + 0.5));
        int64_t all[10], of_test[10], of_validation[10];
        niz_class_counts(niz_all(d), all);
        niz_class_counts(p.test, of_test);
        niz_class_counts(p.validation, of_validation);
        for (int c = 0; c < 10 && stratify; c++) {
            double share = (double)all[c] / 1797;
            ck_assert(fabs((double)of_test[c] - share * (double)p.test.count) <= 1);
            ck_assert(fabs((double)of_validation[c] - share * (double)p.validation.count) <= 2);
        }
        niz_parts_free(z, &p);
        ck_assert_int_eq(p.train.count, 0);
    }
    niz_dataset_free(z, d);
}
END_TEST

START_TEST(split_follows_its_seed_and_splits_parts)
{
    niz_dataset *d = niz_digits(z);
    niz_parts a = niz_split(z, niz_all(d), .seed = 7), b = niz_split(z, niz_all(d), .seed = 7),
              c = niz_split(z, niz_all(d), .seed = 8);
    size_t bytes = 1797 * sizeof(int64_t);
    ck_assert_int_eq(a.test.count, 180);
    ck_assert_int_eq(memcmp(a.memory, b.memory, bytes), 0);
    ck_assert_int_ne(memcmp(a.memory, c.memory, bytes), 0);
    niz_parts inner = niz_split(z, a.test, .validation = 0, .test = .5);
    expect_fine();
    ck_assert_int_eq(inner.train.count + inner.test.count, a.test.count);
    int seen[1797] = {0};
    mark(a.test, seen);
    for (int64_t i = 0; i < inner.test.count; i++)
        ck_assert_int_eq(seen[niz_part_row(inner.test, i)], 1);
    niz_parts_free(z, &a);
    niz_parts_free(z, &b);
    niz_parts_free(z, &c);
    niz_parts_free(z, &inner);
    niz_dataset_free(z, d);
}
END_TEST

START_TEST(split_refuses)
{
    niz_dataset *d = niz_digits(z);
    static const double bad[][2] = {{-.1, 0}, {0, 1.1}, {NAN, 0},   {.6, .6},
                                    {0, 1},   {.5, .5}, {0, .9999}};
    for (int i = 0; i < 7; i++) {
        niz_parts p = niz_split(z, niz_all(d), .validation = bad[i][0], .test = bad[i][1]);
        ck_assert_int_eq(p.train.count + p.validation.count + p.test.count, 0);
        expect_error(NIZ_E_ARGUMENT, i < 6 ? "fractions" : "none to train on");
    }
    niz_parts p = niz_split(z, niz_all(NULL));
    expect_error(NIZ_E_ARGUMENT, "no data set");
    int64_t outside[2] = {0, 1797};
    p = niz_split(z, ((niz_part){d, 2, outside}));
    ck_assert_ptr_null(p.memory);
    expect_error(NIZ_E_ARGUMENT, "sample 1797 of a data set of 1797");
    float one = 1;
    niz_dataset vast = {.count = INT64_MAX, .features = 1, .x = &one};
    p = niz_split(z, niz_all(&vast));
    ck_assert_ptr_null(p.memory);
    expect_error(NIZ_E_MEMORY, "elements");
    d->label[1000] = 10;
    p = niz_split(z, niz_all(d));
    expect_error(NIZ_E_ARGUMENT, "label 10 of sample 1000");
    d->features = 65;
    p = niz_split(z, niz_all(d));
    expect_error(NIZ_E_ARGUMENT, "features, 65");
    niz_dataset_free(z, d);
}
END_TEST

/* ---- normalising ---------------------------------------------------------------------------- */

static void moments(niz_part p, int64_t feature, double *mean, double *std)
{
    int64_t n = 0, from = feature < 0 ? 0 : feature, to = feature < 0 ? p.of->features : from + 1;
    double sum = 0, square = 0;
    float *x = features_of(p);
    for (int64_t i = 0; i < p.count; i++)
        for (int64_t j = from; j < to; j++, n++) {
            double v = (double)x[i * p.of->features + j];
            sum += v, square += v * v;
        }
    free(x);
    *mean = sum / (double)n;
    *std = sqrt(square / (double)n - *mean * *mean);
}

START_TEST(normalizer_sees_the_training_part_only)
{
    for (int per_feature = 0; per_feature < 2; per_feature++) {
        niz_dataset *d = niz_digits(z);
        niz_parts p = niz_split(z, niz_all(d), .test = .3, .seed = 3);
        niz_normalizer *n = niz_normalizer_fit(z, p.train, .per_feature = per_feature);
        expect_fine();
        ck_assert_int_eq(niz_normalizer_apply(z, n, d), NIZ_OK);
        double mean, std, worst = 0;
        for (int64_t j = per_feature ? 0 : -1; j < (per_feature ? 64 : 0); j++) {
            bool constant = per_feature && n->mean[j] == 0 && n->std[j] == 1;
            moments(p.train, j, &mean, &std);
            ck_assert(fabs(mean) < 1e-5);
            ck_assert(constant ? std == 0 : fabs(std - 1) < 1e-5);
            moments(p.test, j, &mean, &std);
            if (fabs(mean) > worst) worst = fabs(mean);
        }
        ck_assert(worst > 1e-4); /* the test part is not centred: nobody looked at it */
        niz_normalizer_free(z, n);
        niz_parts_free(z, &p);
        niz_dataset_free(z, d);
    }
}
END_TEST

START_TEST(normalizer_by_hand)
{
    float x[] = {1, 0.1f, 1e8f, 3, 0.1f, 1e8f + 8, 5, 0.1f, 1e8f + 16};
    niz_dataset d = {.count = 3, .sample = {1, {3}}, .features = 3, .x = x};
    niz_normalizer *n = niz_normalizer_fit(z, niz_all(&d));
    expect_fine();
    ck_assert(n->mean[0] == 3 && n->mean[1] == 0.1f && n->mean[2] == 1e8f + 8);
    ck_assert(n->std[1] == 1);
    ck_assert(fabs((double)n->std[0] - sqrt(8.0 / 3)) < 1e-6);
    ck_assert(fabs((double)n->std[2] - 8 * sqrt(2.0 / 3)) < 1e-5);
    float row[3] = {3, 7.1f, 1e8f};
    niz_normalizer_rows(n, 1, row);
    ck_assert(row[0] == 0 && row[1] == 7 && row[2] < -1);
    ck_assert_int_eq(niz_normalizer_apply(z, n, &d), NIZ_OK);
    float *read = features_of(niz_all(&d));
    ck_assert(read[1] == 0 && read[4] == 0 && read[7] == 0);
    ck_assert(x[1] == 0.1f && x[4] == 0.1f && x[7] == 0.1f); /* the program's own stay */
    free(read);
    ck_assert_int_eq(niz_normalizer_apply(z, n, &d), NIZ_E_ARGUMENT);
    expect_error(NIZ_E_ARGUMENT, "a normalizer already");
    d.features = d.sample.dim[0] = 1;
    ck_assert_int_eq(niz_normalizer_apply(z, n, &d), NIZ_E_ARGUMENT);
    expect_error(NIZ_E_ARGUMENT, "features, 1, are not as many as its normalizer's");
    d.normalizer = NULL;
    ck_assert_int_eq(niz_normalizer_apply(z, n, &d), NIZ_E_SHAPE);
    expect_error(NIZ_E_SHAPE, "fitted to 3 features, the data set has 1");
    ck_assert_int_eq(niz_normalizer_apply(z, NULL, &d), NIZ_E_ARGUMENT);
    expect_error(NIZ_E_ARGUMENT, "normalizer");
    ck_assert_ptr_null(niz_normalizer_fit(z, ((niz_part){&d, 0, NULL})));
    expect_error(NIZ_E_ARGUMENT, "empty");
    niz_normalizer_free(z, n);
}
END_TEST

/* ---- shuffling and batches ------------------------------------------------------------------ */

START_TEST(shuffle_is_a_permutation)
{
    enum { N = 1000 };
    int64_t a[N], b[N];
    for (int64_t n = 0; n <= N; n = n < 10 ? n + 1 : n * 10) {
        int seen[N] = {0};
        for (int64_t i = 0; i < n; i++) a[i] = b[i] = i;
        niz_shuffle(5, 6, n, a);
        niz_shuffle(5, 6, n, b);
        ck_assert_int_eq(memcmp(a, b, (size_t)n * sizeof *a), 0);
        for (int64_t i = 0; i < n; i++) seen[a[i]]++;
        for (int64_t i = 0; i < n; i++) ck_assert_int_eq(seen[i], 1);
        for (int64_t i = 0; i < n; i++) b[i] = i;
        niz_shuffle(5, 7, n, b);
        ck_assert(n < 10 || memcmp(a, b, (size_t)n * sizeof *a) != 0);
    }
    static const int64_t known[10] = {7, 3, 8, 0, 6, 5, 9, 2, 1, 4};
    for (int64_t i = 0; i < 10; i++) a[i] = i;
    niz_shuffle(1, 0, 10, a);
    for (int i = 0; i < 10; i++) ck_assert_int_eq(a[i], known[i]);
}
END_TEST

START_TEST(shuffle_is_uniform)
{
    int count[24] = {0};
    for (uint64_t s = 0; s < 24000; s++) {
        int64_t o[4] = {0, 1, 2, 3};
        niz_shuffle(s, 1, 4, o);
        int rank = 0;
        for (int i = 0; i < 4; i++) {
            int smaller = 0;
            for (int j = i + 1; j < 4; j++) smaller += o[j] < o[i];
            rank = rank * (4 - i) + smaller;
        }
        count[rank]++;
    }
    double chi = 0;
    for (int i = 0; i < 24; i++) chi += (count[i] - 1000.0) * (count[i] - 1000.0) / 1000.0;
    ck_assert_msg(chi < 49.7, "chi-squared %g with 23 degrees of freedom", chi); /* p = 0.001 */
}
END_TEST

static void walk(niz_batches *b, const niz_dataset *d, int64_t size, int *seen)
{
    niz_batch s;
    int64_t batches = 0;
    float *x = features_of(niz_all(d));
    while (niz_batches_next(b, &s)) {
        batches++;
        ck_assert(s.count == size || (s.count < size && batches == niz_batches_count(b)));
        ck_assert_int_eq(s.shape.rank, d->sample.rank + 1);
        ck_assert_int_eq(s.shape.dim[0], s.count);
        ck_assert_int_eq(s.shape.dim[1], d->sample.dim[0]);
        ck_assert_int_eq(s.label != NULL, d->label != NULL);
        ck_assert_int_eq(s.target != NULL, d->target != NULL);
        for (int64_t i = 0; i < s.count; i++) {
            int64_t row = s.index[i];
            seen[row]++;
            ck_assert_int_eq(memcmp(s.x + i * d->features, x + row * d->features,
                                    (size_t)d->features * sizeof(float)), 0);
            if (s.label) ck_assert_int_eq(s.label[i], d->label[row]);
            if (s.target) ck_assert(s.target[i] == d->target[row]);
        }
    }
    free(x);
    ck_assert_int_eq(batches, niz_batches_count(b));
    ck_assert(!niz_batches_next(b, &s) && s.count == 0 && s.x == NULL);
}

START_TEST(batches_cover_each_sample_once)
{
    niz_dataset *d = niz_digits(z);
    niz_parts p = niz_split(z, niz_all(d), .seed = 2);
    static const int64_t sizes[] = {1, 64, 1437, 5000, INT64_MAX};
    for (int k = 0; k < 5; k++)
        for (int drop = 0; drop < 2; drop++) {
            niz_batches *b = niz_batches_open(z, p.train, sizes[k], .seed = 4, .drop_last = drop);
            expect_fine();
            for (int epoch = 0; epoch < 3; epoch++) {
                int seen[1797] = {0};
                int64_t sum = 0;
                niz_batches_start(b, epoch);
                walk(b, d, sizes[k], seen);
                for (int64_t i = 0; i < p.train.count; i++) {
                    int times = seen[niz_part_row(p.train, i)];
                    ck_assert_int_le(times, 1);
                    sum += times;
                }
                int64_t left_out = drop ? p.train.count % sizes[k] : 0;
                ck_assert_int_eq(sum, p.train.count - left_out);
            }
            niz_batches_free(z, b);
        }
    niz_parts_free(z, &p);
    niz_dataset_free(z, d);
}
END_TEST

START_TEST(batches_follow_seed_and_epoch)
{
    niz_dataset *d = niz_digits(z);
    niz_batches *a = niz_batches_open(z, niz_all(d), 1797, .seed = 4),
                *b = niz_batches_open(z, niz_all(d), 1797, .seed = 4),
                *c = niz_batches_open(z, niz_all(d), 1797, .shuffle = false);
    niz_batch s, t;
    size_t bytes = 1797 * sizeof(int64_t);
    for (int epoch = 3; epoch >= 0; epoch--) { /* the order of asking does not matter */
        niz_batches_start(a, epoch);
        niz_batches_start(b, epoch);
        ck_assert(niz_batches_next(a, &s) && niz_batches_next(b, &t));
        ck_assert_int_eq(memcmp(s.index, t.index, bytes), 0);
        niz_batches_start(b, epoch + 1);
        ck_assert(niz_batches_next(b, &t));
        ck_assert_int_ne(memcmp(s.index, t.index, bytes), 0);
    }
    niz_batches_start(c, 9);
    ck_assert(niz_batches_next(c, &s));
    for (int i = 0; i < 1797; i++) ck_assert_int_eq(s.index[i], i);
    niz_batches_free(z, a);
    niz_batches_free(z, b);
    niz_batches_free(z, c);
    niz_dataset_free(z, d);
}
END_TEST

START_TEST(batches_of_a_programs_own_arrays)
{
    float x[7] = {0, 1, 2, 3, 4, 5, 6}, y[7] = {6, 5, 4, 3, 2, 1, 0};
    int64_t twice[4] = {6, 0, 6, 3};
    niz_dataset d = {.count = 7, .sample = {1, {1}}, .features = 1, .x = x, .target = y};
    niz_batches *b = niz_batches_open(z, ((niz_part){&d, 4, twice}), 3, .shuffle = false);
    expect_fine();
    int seen[7] = {0};
    walk(b, &d, 3, seen);
    ck_assert(seen[6] == 2 && seen[0] == 1 && seen[3] == 1);
    niz_batches_start(b, 1);
    niz_fail(z, NIZ_HERE, NIZ_E_ARGUMENT, "from elsewhere");
    niz_batch s;
    ck_assert(!niz_batches_next(b, &s));
    niz_clear_error(z);
    ck_assert(niz_batches_next(b, &s));
    niz_batches_free(z, b);
    ck_assert_ptr_null(niz_batches_open(z, niz_all(&d), 0));
    expect_error(NIZ_E_ARGUMENT, "batches of 0");
    b = niz_batches_open(z, ((niz_part){&d, 0, NULL}), 3);
    ck_assert(b && !niz_batches_next(b, &s) && niz_batches_count(b) == 0);
    niz_batches_free(z, b);
}
END_TEST

/* ---- bytes and floats ----------------------------------------------------------------------- */

enum { TWIN_N = 203, TWIN_ROWS = 5, TWIN_COLUMNS = 7, TWIN = TWIN_ROWS * TWIN_COLUMNS };

/* The same samples twice: as bytes, and as the floats they stand for. */
typedef struct twins {
    uint8_t bytes[TWIN_N * TWIN];
    float x[TWIN_N * TWIN];
    int32_t label[TWIN_N];
    niz_dataset of_bytes, of_floats;
} twins;

static void make_twins(twins *t, float divisor)
{
    for (int i = 0; i < TWIN_N * TWIN; i++) {
        bool dull = i % TWIN == 3; /* a feature that is nearly constant */
        t->bytes[i] = (uint8_t)(i < 256 ? (uint32_t)i : dull ? 9 : draw(256));
        t->x[i] = (float)t->bytes[i] / divisor;
    }
    for (int i = 0; i < TWIN_N; i++) t->label[i] = (int32_t)draw(3);
    t->of_floats = (niz_dataset){.count = TWIN_N, .sample = {2, {TWIN_ROWS, TWIN_COLUMNS}},
                                 .features = TWIN, .n_classes = 3, .label = t->label};
    t->of_bytes = t->of_floats;
    t->of_floats.x = t->x;
    t->of_bytes.bytes = t->bytes;
    t->of_bytes.divisor = divisor;
}

static void same_bits(const void *a, const void *b, int64_t floats)
{
    ck_assert_int_eq(memcmp(a, b, (size_t)floats * sizeof(float)), 0);
}

static void same_batches(niz_part a, niz_part b, int64_t size, bool shuffle)
{
    niz_batches *of[2] = {niz_batches_open(z, a, size, .seed = 5, .shuffle = shuffle),
                          niz_batches_open(z, b, size, .seed = 5, .shuffle = shuffle)};
    niz_batch s, t;
    for (int64_t epoch = 0; epoch < 2; epoch++) {
        niz_batches_start(of[0], epoch);
        niz_batches_start(of[1], epoch);
        while (niz_batches_next(of[0], &s)) {
            ck_assert(niz_batches_next(of[1], &t));
            ck_assert_int_eq(s.count, t.count);
            same_bits(s.x, t.x, s.count * TWIN);
            same_bits(s.label, t.label, s.count);
        }
        ck_assert(!niz_batches_next(of[1], &t));
    }
    expect_fine();
    niz_batches_free(z, of[0]);
    niz_batches_free(z, of[1]);
}

static void same_parts(niz_part a, niz_part b)
{
    ck_assert_int_eq(a.count, b.count);
    for (int64_t i = 0; i < a.count; i++) ck_assert_int_eq(niz_part_row(a, i), niz_part_row(b, i));
    float *x = features_of(a), *y = features_of(b);
    same_bits(x, y, a.count * TWIN);
    free(x);
    free(y);
    for (int64_t size = 1; size <= 1000; size *= 7)
        for (int shuffle = 0; shuffle < 2; shuffle++) same_batches(a, b, size, shuffle);
}

/* What a normaliser does, written out. */
static void check_arithmetic(const twins *t, const niz_normalizer *n)
{
    float *x = features_of(niz_all(&t->of_bytes));
    for (int i = 0; i < TWIN_N * TWIN; i++) {
        int slot = n->per_feature ? i % TWIN : 0;
        float want = (t->x[i] - n->mean[slot]) / n->std[slot];
        same_bits(&x[i], &want, 1);
    }
    free(x);
}

static void normalize_twins(twins *t, niz_parts a, niz_parts b, bool per_feature)
{
    niz_normalizer *n = niz_normalizer_fit(z, a.train, .per_feature = per_feature),
                   *m = niz_normalizer_fit(z, b.train, .per_feature = per_feature);
    expect_fine();
    same_bits(n->mean, m->mean, per_feature ? TWIN : 1);
    same_bits(n->std, m->std, per_feature ? TWIN : 1);
    niz_normalizer_apply(z, n, &t->of_bytes);
    niz_normalizer_apply(z, m, &t->of_floats);
    check_arithmetic(t, n);
    same_parts(a.train, b.train);
    same_parts(a.test, b.test);
    niz_normalizer *again = niz_normalizer_fit(z, a.train, .per_feature = per_feature);
    ck_assert(fabsf(again->mean[0]) < 1e-5f); /* it measures what batches have */
    niz_normalizer_free(z, again);
    t->of_bytes.normalizer = t->of_floats.normalizer = NULL;
    niz_normalizer_free(z, n);
    niz_normalizer_free(z, m);
}

START_TEST(bytes_and_floats_give_the_same_batches)
{
    static const float divisors[] = {255, 1, 16, 0.3f, -7};
    static twins t;
    for (size_t i = 0; i < sizeof divisors / sizeof *divisors; i++) {
        make_twins(&t, divisors[i]);
        same_parts(niz_all(&t.of_bytes), niz_all(&t.of_floats));
        niz_parts a = niz_split(z, niz_all(&t.of_bytes), .seed = 3),
                  b = niz_split(z, niz_all(&t.of_floats), .seed = 3);
        same_parts(a.validation, b.validation);
        normalize_twins(&t, a, b, false);
        normalize_twins(&t, a, b, true);
        niz_parts_free(z, &a);
        niz_parts_free(z, &b);
    }
}
END_TEST

START_TEST(features_that_are_not_sound)
{
    static twins t;
    make_twins(&t, 255);
    float x[TWIN], mean = 0, std = 1;
    int64_t row = 7;
    niz_part one = {&t.of_bytes, 1, &row};
    ck_assert_int_eq(niz_part_read(z, one, x), NIZ_OK);
    same_bits(x, t.x + row * TWIN, TWIN);
    ck_assert_int_eq(niz_part_read(z, one, NULL), NIZ_E_ARGUMENT);
    expect_error(NIZ_E_ARGUMENT, "nowhere");
    row = TWIN_N;
    ck_assert_int_eq(niz_part_read(z, one, x), NIZ_E_ARGUMENT);
    expect_error(NIZ_E_ARGUMENT, "sample 203");
    row = 0;
    t.of_bytes.x = t.x;
    ck_assert_ptr_null(niz_batches_open(z, one, 1));
    expect_error(NIZ_E_ARGUMENT, "given twice");
    t.of_bytes.x = NULL;
    t.of_bytes.divisor = 0;
    ck_assert_ptr_null(niz_normalizer_fit(z, one));
    expect_error(NIZ_E_ARGUMENT, "without a divisor");
    t.of_bytes.bytes = NULL;
    niz_split(z, niz_all(&t.of_bytes));
    expect_error(NIZ_E_ARGUMENT, "no x and no bytes");
    t.of_floats.normalizer = &(niz_normalizer){.features = TWIN + 1, .mean = &mean, .std = &std};
    ck_assert_ptr_null(niz_batches_open(z, niz_all(&t.of_floats), 1));
    expect_error(NIZ_E_ARGUMENT, "not as many as its normalizer's");
}
END_TEST

/* ---- errors stick, memory fails ------------------------------------------------------------- */

/* Everything in turn, as a program that asks for errors at its end. */
static void whole_program(const char *part_file)
{
    niz_dataset *d = niz_digits(z), *t = niz_csv_load(z, in_dir("f")),
                *m = niz_idx_dir(z, dir, part_file);
    niz_parts p = niz_split(z, niz_all(d));
    niz_normalizer *n = niz_normalizer_fit(z, p.train);
    niz_normalizer_apply(z, n, d);
    niz_normalizer_rows(n, 0, NULL);
    niz_batches *b = niz_batches_open(z, p.train, 64), *c = niz_batches_open(z, niz_all(m), 2);
    niz_batch s;
    for (niz_batches_start(b, 0); niz_batches_next(b, &s);) {}
    for (niz_batches_start(c, 0); niz_batches_next(c, &s);) {}
    ck_assert(!niz_batches_count(b) == !b);
    float x[SMALL_N * 6];
    niz_part_read(z, niz_all(m), x);
    niz_batches_free(z, c);
    niz_batches_free(z, b);
    niz_normalizer_free(z, n);
    niz_parts_free(z, &p);
    niz_dataset_free(z, d);
    niz_dataset_free(z, t);
    niz_dataset_free(z, m);
}

static void put_all(void)
{
    put_text("f", table);
    put_small("images", "t10k-labels.idx1-ubyte");
#ifdef NIZ_HAVE_ZLIB
    unsigned char b[SMALL_BYTES], packed[512];
    small_images(b);
    put("t10k-images.idx3-ubyte.gz", packed, gzip(b, sizeof b, packed, sizeof packed));
#endif
    put_small("train-images-idx3-ubyte", "train-labels-idx1-ubyte");
}

START_TEST(nothing_happens_after_an_error)
{
    put_all();
    niz_fail(z, NIZ_HERE, NIZ_E_INDEX, "the first error");
    int64_t calls = mem.calls, blocks = mem.blocks;
    whole_program("train");
    ck_assert_ptr_null(niz_idx_read(z, in_dir("train-images-idx3-ubyte")));
    ck_assert_int_eq(mem.calls, calls);
    ck_assert_int_eq(mem.blocks, blocks);
    expect_error(NIZ_E_INDEX, "the first error");
    niz_dataset_free(z, NULL);
    niz_idx_free(z, NULL);
    niz_parts_free(z, NULL);
    niz_batches_start(NULL, 0);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    put_all();
    static const char *const parts[] = {"train", "test"};
#ifdef NIZ_HAVE_ZLIB
    const int n_parts = 2;
#else
    const int n_parts = 1;
#endif
    for (int k = 0; k < n_parts; k++) {
        int64_t blocks = mem.blocks, refused = 0;
        for (bool failed = true; failed; refused++) {
            mem.calls = 0;
            mem.refuse = refused + 1;
            whole_program(parts[k]);
            failed = mem.calls >= mem.refuse;
            mem.refuse = 0;
            ck_assert_int_eq(mem.blocks, blocks);
            if (failed)
                expect_error(NIZ_E_MEMORY, "");
            else
                expect_fine();
        }
        ck_assert_int_gt(refused, 40);
    }
}
END_TEST

/* ---- the real files ------------------------------------------------------------------------- */

/* Below $NIZ_TEST_DATA, ../shared/data or, from a build folder, ../../shared/data; NULL: none. */
static const char *real(const char *name)
{
    static char path[1024];
    const char *roots[] = {getenv("NIZ_TEST_DATA"),
#ifdef NIZ_SOURCE_ROOT
                           NIZ_SOURCE_ROOT "/../shared/data",
#endif
                           "../shared/data", "../../shared/data"};
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        if (!roots[i]) continue;
        snprintf(path, sizeof path, "%s/%s", roots[i], name);
        if (access(path, R_OK) == 0) return path;
    }
    return NULL;
}

static void check_counts(niz_dataset *d, int64_t features, int n, const int64_t *known)
{
    int64_t counts[16], sum = 0;
    expect_fine();
    ck_assert_int_eq(d->features, features);
    ck_assert_int_eq(d->n_classes, n);
    niz_class_counts(niz_all(d), counts);
    for (int c = 0; c < n; c++) {
        ck_assert_int_eq(counts[c], known[c]);
        sum += known[c];
    }
    ck_assert_int_eq(d->count, sum);
}

START_TEST(real_tables)
{
    static const struct {
        const char *name;
        int64_t features;
        int n;
        int64_t known[10];
    } tables[] = {
        {"tables/breast_cancer.csv", 30, 2, {212, 357}},
        {"tables/iris.csv", 4, 3, {50, 50, 50}},
        {"tables/wine_data.csv", 13, 3, {59, 71, 48}},
        {"tables/digits.csv", 64, 10, {178, 182, 177, 183, 181, 182, 181, 179, 174, 180}},
    };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        const char *path = real(tables[i].name);
        if (!path) return;
        niz_dataset *d = niz_csv_load(z, path, .target = "target");
        check_counts(d, tables[i].features, tables[i].n, tables[i].known);
        if (tables[i].features == 64) { /* the embedded digits are these */
            niz_dataset *e = niz_digits(z);
            for (int64_t k = 0; k < d->count * 64; k++) ck_assert(d->x[k] == e->x[k] * 16);
            for (int64_t k = 0; k < d->count; k++) ck_assert_int_eq(d->label[k], e->label[k]);
            niz_dataset_free(z, e);
        }
        niz_dataset_free(z, d);
    }
    niz_dataset *d = niz_csv_load(z, real("tables/diabetes.csv"), .kind = NIZ_CSV_NUMBERS);
    expect_fine();
    ck_assert_int_eq(d->count, 442);
    ck_assert_int_eq(d->features, 10);
    ck_assert(d->target[0] == 151 && d->x[0] == 59 && d->x[2] == 32.1f);
    ck_assert_str_eq(d->feature_names[9], "s6");
    niz_dataset_free(z, d);
}
END_TEST

#ifdef NIZ_HAVE_ZLIB
START_TEST(real_mnist)
{
    static const int64_t train[] = {5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949},
                         test[] = {980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009};
    const char *path = real("mnist");
    if (!path) return;
    niz_dataset *d = niz_idx_dir(z, path, "train");
    check_counts(d, 784, 10, train);
    niz_normalizer *n = niz_normalizer_fit(z, niz_all(d), .per_feature = false);
    expect_fine();
    ck_assert(fabs((double)n->mean[0] - 0.1307) < 5e-5);
    ck_assert(fabs((double)n->std[0] - 0.3081) < 5e-5);
    niz_normalizer_free(z, n);
    niz_dataset_free(z, d);
    d = niz_idx_dir(z, path, "test");
    check_counts(d, 784, 10, test);
    niz_dataset_free(z, d);
}
END_TEST

START_TEST(real_faces)
{
    static const int64_t train[] = {200, 125, 320, 320, 203, 293},
                         test[] = {50, 31, 80, 80, 51, 73};
    const char *path = real("faces");
    if (!path) return;
    niz_dataset *d = niz_idx_dir(z, path, "train");
    check_counts(d, 48 * 48, 6, train);
    niz_dataset_free(z, d);
    d = niz_idx_dir(z, path, "faces-test");
    check_counts(d, 48 * 48, 6, test);
    niz_dataset_free(z, d);
}
END_TEST
#endif

int main(void)
{
    Suite *s = suite_create("data");
    TCase *c = tcase_create("data");
    tcase_add_unchecked_fixture(c, make_dir, remove_dir);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 120);
    tcase_add_test(c, digits_are_the_known_ones);
    tcase_add_test(c, idx_reads_every_element_type);
    tcase_add_test(c, idx_reads_every_rank_and_empty_arrays);
    tcase_add_test(c, idx_refuses_promises);
    tcase_add_test(c, idx_load_and_what_does_not_fit);
    tcase_add_test(c, idx_images_of_every_kind);
    tcase_add_test(c, idx_cut_changed_and_overlong);
    tcase_add_test(c, idx_random_mutations);
    tcase_add_test(c, idx_longer_than_what_is_read_at_first);
    tcase_add_test(c, idx_from_a_pipe);
#ifdef NIZ_HAVE_ZLIB
    tcase_add_test(c, gzip_longer_than_what_is_read_at_first);
    tcase_add_test(c, gzip_cut_changed_and_overlong);
    tcase_add_test(c, gzip_of_several_members_and_bombs);
    tcase_add_test(c, csv_gzip);
    tcase_add_test(c, real_mnist);
    tcase_add_test(c, real_faces);
#else
    tcase_add_test(c, gzip_is_refused_without_zlib);
#endif
    tcase_add_test(c, idx_dir_finds_names);
    tcase_add_test(c, csv_line_ends_quotes_and_blanks);
    tcase_add_test(c, csv_named_classes);
    tcase_add_test(c, csv_many_classes);
    tcase_add_test(c, csv_options);
    tcase_add_test(c, csv_mistakes_have_line_and_column);
    tcase_add_test(c, csv_numbers_ignore_the_locale);
    tcase_add_test(c, csv_cut_and_changed);
    tcase_add_test(c, split_is_a_partition);
    tcase_add_test(c, split_follows_its_seed_and_splits_parts);
    tcase_add_test(c, split_refuses);
    tcase_add_test(c, normalizer_sees_the_training_part_only);
    tcase_add_test(c, normalizer_by_hand);
    tcase_add_test(c, shuffle_is_a_permutation);
    tcase_add_test(c, shuffle_is_uniform);
    tcase_add_test(c, batches_cover_each_sample_once);
    tcase_add_test(c, batches_follow_seed_and_epoch);
    tcase_add_test(c, batches_of_a_programs_own_arrays);
    tcase_add_test(c, bytes_and_floats_give_the_same_batches);
    tcase_add_test(c, features_that_are_not_sound);
    tcase_add_test(c, nothing_happens_after_an_error);
    tcase_add_test(c, every_allocation_may_fail);
    tcase_add_test(c, real_tables);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
