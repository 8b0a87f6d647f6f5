/* test_io.c - saving and loading parameters.
 *
 * Round trips, a file written by hand as another program would, and damage of every kind: cut at
 * every length, every byte of the header changed, random changes, every allocation failing in turn.
 * A load that fails must leave every bit as it was.
 *
 * SPDX-License-Identifier: MIT */
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <niz/io.h>
#include <niz/nn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

static niz *z;
static char dir[64], path[128];

static void begin(void)
{
    strcpy(dir, "/tmp/niz-test-io-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/w.safetensors", dir);
    z = niz_open(NULL);
    ck_assert_ptr_nonnull(z);
}

/* How many names the directory has. */
static int entries(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}

static void end(void)
{
    niz_close(z);
    unlink(path);
    ck_assert_msg(entries() == 0, "files were left behind in %s", dir);
    rmdir(dir);
}

static void refused(niz_status status, const char *text)
{
    ck_assert_msg(niz_error(z) == status, "status %d: \"%s\"", niz_error(z), niz_message(z));
    ck_assert_msg(strstr(niz_message(z), text) != NULL, "says \"%s\", not \"%s\"", niz_message(z),
                  text);
    niz_clear_error(z);
}

/* ---- files ---------------------------------------------------------------------------------- */

static void write_file(const void *data, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, bytes, f), bytes);
    ck_assert_int_eq(fclose(f), 0);
}

static unsigned char *read_file(size_t *bytes)
{
    FILE *f = fopen(path, "rb");
    ck_assert_ptr_nonnull(f);
    fseek(f, 0, SEEK_END);
    *bytes = (size_t)ftell(f);
    rewind(f);
    unsigned char *data = malloc(*bytes + 1);
    ck_assert_uint_eq(fread(data, 1, *bytes, f), *bytes);
    fclose(f);
    return data;
}

/* A file of this header and n bytes of data: 0, 1, 0, 1 ... */
static void write_parts(const char *header, size_t n)
{
    static unsigned char all[70000];
    uint64_t length = strlen(header);
    ck_assert_uint_le(8 + length + n, sizeof all);
    memcpy(all, &length, 8);
    memcpy(all + 8, header, length);
    for (size_t i = 0; i < n; i++) all[8 + length + i] = i % 2;
    write_file(all, 8 + length + n);
}

/* ---- contexts to save ----------------------------------------------------------------------- */

static void set(const char *name, niz_dtype dtype, niz_shape shape, bool trainable,
                const void *data)
{
    ck_assert_msg(!niz_param_set(z, name, dtype, shape, trainable, data), "%s", niz_message(z));
}

/* One parameter of every dtype, sizes that leave the next one unaligned, an empty one. */
static void set_all_dtypes(void)
{
    const float f[] = {1, -0.0f, INFINITY, NAN, 1e-40f};
    const double d[] = {-1.5, 1e300};
    const int32_t i[] = {INT32_MIN, 7};
    const int64_t l[] = {INT64_MAX};
    const uint8_t u[] = {0, 128, 255}, b[] = {0, 1, 1};
    set("f.weight", NIZ_F32, NIZ_SHAPE(5, 1), true, f);
    set("bytes", NIZ_U8, NIZ_SHAPE(3), false, u);
    set("d", NIZ_F64, NIZ_SHAPE(1, 2), true, d);
    set("i", NIZ_I32, NIZ_SHAPE(2), false, i);
    set("b", NIZ_BOOL, NIZ_SHAPE(3), false, b);
    set("opt/step", NIZ_I64, NIZ_SCALAR, false, l);
    set("empty", NIZ_F32, NIZ_SHAPE(4, 0, 2), true, NULL);
    set("state \"q\" \\ \n \xc3\xa9", NIZ_F32, NIZ_SCALAR, false, f);
}

/* Two steps of a small training that draws random numbers. */
static void train(int steps)
{
    niz_optim opt = niz_adam(.lr = .01);
    for (int i = 0; i < steps; i++) {
        NIZ_STEP(z);
        niz_t x = niz_normal(z, NIZ_F32, NIZ_SHAPE(6, 4), 0, 1);
        x = niz_dropout(niz_relu(niz_batch_norm(niz_linear(x, 5, "fc1"), "bn")), .5);
        niz_minimize(&opt, niz_mean(niz_square(niz_linear(x, 2, "fc2"))));
    }
    ck_assert_msg(!niz_error(z), "%s", niz_message(z));
}

/* A new, empty context in place of the old one. */
static void renew(void)
{
    niz_close(z);
    z = niz_open(NULL);
    ck_assert_ptr_nonnull(z);
}

static void same_counters(niz_counters a, niz_counters b)
{
    ck_assert(a.seed == b.seed && a.train_steps == b.train_steps && a.eval_steps == b.eval_steps);
}

/* ---- round trips ---------------------------------------------------------------------------- */

START_TEST(test_every_dtype)
{
    char before[33], after[33];
    set_all_dtypes();
    const niz_counters counters = {UINT64_MAX, 12345678901234567ull, 3};
    niz_counters_set(z, counters);
    niz_param_hash(z, before);
    int64_t n = niz_param_count(z);
    bool trainable[16];
    for (int64_t i = 0; i < n; i++) trainable[i] = niz_param_get(z, i).trainable;
    ck_assert_msg(!niz_save(z, path), "%s", niz_message(z));
    renew();
    ck_assert_msg(!niz_load(z, path), "%s", niz_message(z));
    niz_param_hash(z, after);
    ck_assert_str_eq(before, after);
    ck_assert_int_eq(niz_param_count(z), n);
    for (int64_t i = 0; i < n; i++) ck_assert_int_eq(niz_param_get(z, i).trainable, trainable[i]);
    same_counters(niz_counters_get(z), counters);
    ck_assert_int_eq(niz_load(z, path), NIZ_OK); /* onto what is there */
    niz_param_hash(z, after);
    ck_assert_str_eq(before, after);
}
END_TEST

/* What other readers need: aligned data, a header that ends in blanks at a multiple of 8. */
START_TEST(test_layout)
{
    set_all_dtypes();
    ck_assert_int_eq(niz_save(z, path), NIZ_OK);
    size_t bytes;
    unsigned char *file = read_file(&bytes);
    uint64_t n;
    memcpy(&n, file, 8);
    ck_assert_uint_eq(n % 8, 0);
    file[8 + n - 1] = 0; /* a blank or the last brace: the rest can be searched as a text */
    const char *header = (const char *)file + 8;
    ck_assert_ptr_nonnull(strstr(header, "\"d\":{\"dtype\":\"F64\",\"shape\":[1,2],"
                                         "\"data_offsets\":[0,16]}"));
    ck_assert_ptr_nonnull(strstr(header, "\"opt/step\":{\"dtype\":\"I64\",\"shape\":[],"
                                         "\"data_offsets\":[16,24]}"));
    ck_assert_ptr_nonnull(strstr(header, "\"f.weight\":{\"dtype\":\"F32\",\"shape\":[5,1],"
                                         "\"data_offsets\":[24,44]}"));
    ck_assert_ptr_nonnull(strstr(header, "\"niz.state:bytes\":\"1\""));
    ck_assert_ptr_nonnull(strstr(header, "\"niz.format\":\"1\""));
    free(file);
    ck_assert_int_eq(entries(), 1);
}
END_TEST

/* Training goes on from a file as it would have from memory: same draws, same weights. */
START_TEST(test_training_resumes)
{
    char straight[33], resumed[33];
    niz_seed(z, 5);
    train(3);
    ck_assert_int_eq(niz_save(z, path), NIZ_OK);
    train(3);
    niz_param_hash(z, straight);
    renew();
    ck_assert_int_eq(niz_load(z, path), NIZ_OK);
    train(3);
    niz_param_hash(z, resumed);
    ck_assert_str_eq(straight, resumed);
}
END_TEST

/* What is pending is saved too. */
START_TEST(test_pending_updates)
{
    {
        NIZ_STEP(z);
        niz_t w = niz_param(z, "w", NIZ_F32, NIZ_SCALAR, niz_constant_init(1));
        niz_assign(w, niz_add(w, 1.0));
        ck_assert_int_eq(niz_save(z, path), NIZ_OK);
        w = niz_find(z, "w"); /* the version of before is gone */
        niz_assign(w, niz_mul(w, 9.0));
        ck_assert_int_eq(niz_load(z, path), NIZ_OK);
        ck_assert_double_eq(niz_item(niz_find(z, "w")), 2);
    }
    ck_assert_int_eq(niz_error(z), NIZ_OK);
}
END_TEST

START_TEST(test_empty_context)
{
    ck_assert_int_eq(niz_save(z, path), NIZ_OK);
    ck_assert_int_eq(niz_load(z, path), NIZ_OK);
    ck_assert_int_eq(niz_param_count(z), 0);
}
END_TEST

/* As PyTorch's safetensors writes: blanks at the end, its own metadata, entries sorted by size. */
START_TEST(test_foreign_file)
{
    write_parts("{\"__metadata__\":{\"format\":\"pt\"},"
                "\"bn.batches\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
                "\"fc.bias\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]},"
                "\"fc.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[16,40]}}   ",
                40);
    niz_seed(z, 7);
    ck_assert_msg(!niz_load(z, path), "%s", niz_message(z));
    ck_assert_int_eq(niz_param_count(z), 3);
    ck_assert_uint_eq(niz_counters_get(z).seed, 7);
    ck_assert(!niz_param_get(z, 0).trainable && niz_param_get(z, 1).trainable);
    NIZ_STEP(z);
    niz_t y = niz_linear(niz_zeros(z, NIZ_F32, NIZ_SHAPE(1, 3)), 2, "fc");
    unsigned char bits[8];
    ck_assert_int_eq(niz_read(y, bits, sizeof bits), NIZ_OK);
    for (int i = 0; i < 8; i++) ck_assert_int_eq(bits[i], i % 2);
}
END_TEST

/* ---- what is refused ------------------------------------------------------------------------ */

#define T(name, dtype, shape, offsets)                                                             \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const struct {
    const char *header;
    size_t bytes;
    const char *says;
} damaged[] = {
    {"", 0, "does not begin with {"},
    {"[]", 0, "does not begin with {"},
    {" {}", 0, "does not begin with {"},
    {"{}", 1, "1 bytes after the last tensor"},
    {"{} x", 0, "goes on after its end"},
    {"{", 0, "not JSON"},
    {"{\"a\":", 0, "not JSON"},
    {"{\"a\":1}", 0, "not described by an object"},
    {"{\"a\":{}}", 0, "has no dtype"},
    {"{" T("", "F32", "[1]", "[0,4]") "}", 4, "empty name"},
    {"{" T("a", "F16", "[1]", "[0,2]") "}", 2, "dtype \"F16\" is none of"},
    {"{" T("a", "BF16", "[1]", "[0,2]") "}", 2, "tensor \"a\": dtype \"BF16\""},
    {"{\"a\":{\"dtype\":1,\"shape\":[],\"data_offsets\":[0,4]}}", 4, "dtype is not a text"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "has no shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "has no data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
     "has shape twice"},
    {"{" T("a", "F32", "1", "[0,4]") "}", 4, "shape is not a list"},
    {"{" T("a", "F32", "[-1]", "[0,4]") "}", 4, "axis 0 of shape is no size"},
    {"{" T("a", "F32", "[1,1.5]", "[0,4]") "}", 4, "axis 1 of shape is no size"},
    {"{" T("a", "F32", "[\"1\"]", "[0,4]") "}", 4, "axis 0 of shape is no size"},
    {"{" T("a", "F32", "[1e40]", "[0,4]") "}", 4, "axis 0 of shape is no size"},
    {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "more than 8 axes"},
    {"{" T("a", "F32", "[4294967296,4294967296]", "[0,4]") "}", 4, "more elements than memory"},
    {"{" T("a", "F32", "[0,4294967296,4294967296]", "[0,0]") "}", 0, "more elements than memory"},
    {"{" T("a", "F32", "[1000000000]", "[0,4]") "}", 4, "its shape takes 4000000000 bytes"},
    {"{" T("a", "F32", "[1]", "[0]") "}", 4, "data_offsets are not two"},
    {"{" T("a", "F32", "[1]", "[0,-4]") "}", 4, "data_offsets are not two"},
    {"{" T("a", "F32", "[1]", "[4,0]") "}", 4, "data_offsets 4 to 0"},
    {"{" T("a", "F32", "[1]", "[4,8]") "}", 4, "data_offsets 4 to 8 in data of 4 bytes"},
    {"{" T("a", "F32", "[1]", "[0,9007199254740992]") "}", 4, "in data of 4 bytes"},
    {"{" T("a", "F32", "[2]", "[0,4]") "}", 4, "its shape takes 8 bytes"},
    {"{" T("a", "F32", "[1]", "[4,8]") "}", 8, "its data begin at 4, those before end at 0"},
    {"{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[2,6]") "}", 6,
     "tensor \"b\": its data begin at 2, those before end at 4"},
    {"{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[0,4]") "}", 4,
     "its data begin at 0, those before end at 4"},
    {"{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[8,12]") "}", 12,
     "those before end at 4"},
    {"{" T("a", "F32", "[1]", "[0,4]") "}", 8, "4 bytes after the last tensor"},
    {"{" T("a", "F32", "[1]", "[0,4]") "," T("a", "F32", "[1]", "[4,8]") "}", 8,
     "tensor \"a\": is there twice"},
    {"{" T("a", "BOOL", "[1]", "[0,1]") "," T("x\\u0000y", "BOOL", "[1]", "[1,2]") "}", 2, "NUL"},
    {"{\"__metadata__\":1}", 0, "__metadata__ is no object"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "metadata \"a\" is not a text"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ is there twice"},
    {"{\"__metadata__\":{\"niz.format\":\"2\"}}", 0, "of format \"2\""},
    {"{\"__metadata__\":{\"niz.seed\":\"\"}}", 0, "niz.seed is no number"},
    {"{\"__metadata__\":{\"niz.seed\":\"-1\"}}", 0, "niz.seed is no number"},
    {"{\"__metadata__\":{\"niz.train_steps\":\"18446744073709551616\"}}", 0, "is no number"},
    {"{\"a\":{\"b\":{\"c\":{}}}}", 0, "nested deeper"},
    {"{\"a\":[[[]]]}", 0, "nested deeper"},
    {"{\"a\":[,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,]}", 0, "more values than tensors have"},
};

START_TEST(test_damaged)
{
    char before[33], after[33];
    set("kept", NIZ_F32, NIZ_SHAPE(1), true, &(float){3});
    niz_param_hash(z, before);
    write_parts(damaged[_i].header, damaged[_i].bytes);
    ck_assert_int_ne(niz_load(z, path), NIZ_OK);
    ck_assert_ptr_nonnull(strstr(niz_message(z), "load at "));
    ck_assert_ptr_nonnull(strstr(niz_message(z), path));
    refused(NIZ_E_FORMAT, damaged[_i].says);
    niz_param_hash(z, after);
    ck_assert_str_eq(before, after);
}
END_TEST

START_TEST(test_header_lengths)
{
    const uint64_t lengths[] = {0, 1, 9, 1000, INT64_MAX, UINT64_MAX, UINT64_MAX - 7};
    unsigned char file[16] = {0};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        memcpy(file, &lengths[i], 8);
        write_file(file, sizeof file);
        ck_assert_int_eq(niz_load(z, path), NIZ_E_FORMAT);
        niz_clear_error(z);
    }
    int fd = open(path, O_WRONLY | O_TRUNC); /* as large as it says, but for holes */
    uint64_t large = 1 << 25;
    ck_assert_int_eq(write(fd, &large, 8), 8);
    ck_assert_int_eq(ftruncate(fd, 8 + (off_t)large), 0);
    close(fd);
    niz_load(z, path), refused(NIZ_E_FORMAT, "at most 16777216 are read");
    ck_assert_int_le(niz_statistics(z).bytes_peak, 1 << 16);
}
END_TEST

START_TEST(test_bools)
{
    const unsigned char wrong[] = "{" T("a", "BOOL", "[3]", "[0,3]") "}";
    write_parts((const char *)wrong, 3);
    ck_assert_int_eq(niz_load(z, path), NIZ_OK);
    size_t bytes;
    unsigned char *file = read_file(&bytes);
    file[bytes - 1] = 2;
    write_file(file, bytes);
    free(file);
    niz_load(z, path), refused(NIZ_E_FORMAT, "is no bool");
}
END_TEST

/* A parameter of another type stands in the way: nothing of the file is taken. */
START_TEST(test_other_shapes)
{
    char before[33], after[33];
    write_parts("{" T("new", "F32", "[1]", "[0,4]") "," T("old", "F32", "[2]", "[4,12]") "}", 12);
    set("old", NIZ_F32, NIZ_SHAPE(2, 1), true, (float[]){1, 2});
    niz_param_hash(z, before);
    niz_load(z, path), refused(NIZ_E_SHAPE, "\"old\" is f32[2], the parameter is f32[2,1]");
    niz_param_hash(z, after);
    ck_assert_str_eq(before, after);
    ck_assert_int_eq(niz_param_count(z), 1);
}
END_TEST

START_TEST(test_no_file)
{
    niz_load(z, path), refused(NIZ_E_IO, "No such file");
    niz_load(z, dir), refused(NIZ_E_IO, "not a regular file");
    niz_load(z, NULL), refused(NIZ_E_ARGUMENT, "no file name");
    niz_save(z, ""), refused(NIZ_E_ARGUMENT, "no file name");
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    niz_load(z, path), refused(NIZ_E_IO, "not a regular file"); /* and does not wait */
    unlink(path);
    write_file("", 0);
    niz_load(z, path), refused(NIZ_E_FORMAT, "0 bytes are no safetensors file");
    ck_assert_int_eq(niz_load(NULL, path), NIZ_E_MEMORY);
    ck_assert_int_eq(niz_save(NULL, path), NIZ_E_MEMORY);
}
END_TEST

/* ---- damage by machine ---------------------------------------------------------------------- */

/* Loads the file; if that fails, nothing has changed; if it does not, starts anew. */
static bool load_leaves_whole(const char *before)
{
    char after[33];
    niz_counters counters = niz_counters_get(z);
    if (niz_load(z, path)) {
        ck_assert_msg(niz_error(z) == NIZ_E_FORMAT || niz_error(z) == NIZ_E_SHAPE, "%s",
                      niz_message(z));
        ck_assert(niz_message(z)[0] != 0);
        niz_clear_error(z);
        niz_param_hash(z, after);
        ck_assert_str_eq(before, after);
        same_counters(counters, niz_counters_get(z));
        return false;
    }
    renew();
    set("f.weight", NIZ_F32, NIZ_SHAPE(5, 1), true, (float[]){1, 2, 3, 4, 5});
    return true;
}

static unsigned char *saved(size_t *bytes, uint64_t *header, char hash[33])
{
    set_all_dtypes();
    ck_assert_int_eq(niz_save(z, path), NIZ_OK);
    unsigned char *file = read_file(bytes);
    memcpy(header, file, 8);
    renew();
    set("f.weight", NIZ_F32, NIZ_SHAPE(5, 1), true, (float[]){1, 2, 3, 4, 5});
    niz_param_hash(z, hash);
    return file;
}

START_TEST(test_cut_at_every_length)
{
    size_t bytes;
    uint64_t header;
    char hash[33];
    unsigned char *file = saved(&bytes, &header, hash);
    for (size_t n = 0; n < bytes; n++) {
        write_file(file, n);
        ck_assert_msg(!load_leaves_whole(hash), "%zu bytes of %zu are taken", n, bytes);
    }
    write_file(file, bytes);
    ck_assert(load_leaves_whole(hash));
    free(file);
}
END_TEST

START_TEST(test_every_header_byte)
{
    size_t bytes;
    uint64_t header;
    char hash[33];
    unsigned char *file = saved(&bytes, &header, hash);
    const unsigned char changes[] = {0x01, 0x02, 0x10, 0x20, 0x80, 0xff};
    for (size_t i = 0; i < 8 + header; i++)
        for (size_t k = 0; k < sizeof changes; k++) {
            file[i] ^= changes[k];
            write_file(file, bytes);
            bool taken = load_leaves_whole(hash);
            ck_assert_msg(!taken || i >= 8, "byte %zu of the length", i);
            file[i] ^= changes[k];
        }
    free(file);
}
END_TEST

static uint64_t draw(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return *s >> 33;
}

/* Several bytes changed, dropped or moved, with characters that JSON is made of among them. */
START_TEST(test_random_changes)
{
    size_t bytes;
    uint64_t header, s = 1;
    char hash[33];
    unsigned char *file = saved(&bytes, &header, hash), *copy = malloc(bytes + 64);
    const char likely[] = "{}[]\",:0123456789-.eE \\u";
    for (int round = 0; round < 4000; round++) {
        size_t n = bytes;
        memcpy(copy, file, bytes);
        for (uint64_t k = draw(&s) % 4 + 1; k > 0; k--) {
            size_t at = draw(&s) % (8 + header), length = draw(&s) % 16;
            size_t to = draw(&s) % (8 + header);
            if (length > n - (at > to ? at : to)) continue;
            if (draw(&s) % 3 == 0) memmove(copy + to, copy + at, length);
            else if (draw(&s) % 2) copy[at] = (unsigned char)likely[draw(&s) % (sizeof likely - 1)];
            else memmove(copy + at, copy + at + length, n - at - length), n -= length;
        }
        write_file(copy, n);
        load_leaves_whole(hash);
    }
    free(copy);
    free(file);
}
END_TEST

/* ---- failing systems ------------------------------------------------------------------------ */

START_TEST(test_unwritable)
{
    char elsewhere[128];
    set_all_dtypes();
    snprintf(elsewhere, sizeof elsewhere, "%s/no/such/w.safetensors", dir);
    niz_save(z, elsewhere), refused(NIZ_E_IO, "cannot create");
    snprintf(elsewhere, sizeof elsewhere, "%s/taken", dir);
    ck_assert_int_eq(mkdir(elsewhere, 0700), 0);
    niz_save(z, elsewhere), refused(NIZ_E_IO, "cannot rename");
    ck_assert_int_eq(entries(), 1);
    rmdir(elsewhere);
    if (geteuid() == 0) return; /* to whom every directory is open */
    ck_assert_int_eq(chmod(dir, 0500), 0);
    niz_save(z, path), refused(NIZ_E_IO, "Permission denied");
    chmod(dir, 0700);
}
END_TEST

/* No room for the file: the old one stays. */
START_TEST(test_no_room)
{
    set("w", NIZ_F32, NIZ_SHAPE(1), true, &(float){1});
    ck_assert_int_eq(niz_save(z, path), NIZ_OK);
    size_t before, after;
    unsigned char *old = read_file(&before);
    static float large[5000];
    set("large", NIZ_F32, NIZ_SHAPE(5000), true, large);
    struct rlimit limit, small;
    getrlimit(RLIMIT_FSIZE, &limit);
    small = limit;
    small.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    niz_save(z, path);
    setrlimit(RLIMIT_FSIZE, &limit);
    refused(NIZ_E_IO, "cannot write");
    ck_assert_int_eq(entries(), 1);
    unsigned char *now = read_file(&after);
    ck_assert(before == after && !memcmp(old, now, before));
    free(old);
    free(now);
    ck_assert_int_eq(niz_save(z, path), NIZ_OK);
}
END_TEST

typedef struct budget {
    long left; /* allocations until one fails; negative: none does */
} budget;

static void *counted(void *user, void *p, size_t bytes)
{
    budget *b = user;
    if (!bytes) {
        free(p);
        return NULL;
    }
    if (b->left == 0) return NULL;
    if (b->left > 0) b->left--;
    return realloc(p, bytes);
}

START_TEST(test_memory)
{
    set_all_dtypes();
    ck_assert_int_eq(niz_save(z, path), NIZ_OK);
    budget b = {-1};
    bool failed = true;
    for (long n = 0; failed; n++) {
        char before[33], after[33];
        renew();
        niz_close(z);
        b.left = -1;
        z = niz_open(&(niz_options){.realloc = counted, .user = &b});
        set("f.weight", NIZ_F32, NIZ_SHAPE(5, 1), true, (float[]){1, 2, 3, 4, 5});
        niz_param_hash(z, before);
        b.left = n;
        failed = niz_load(z, path) != NIZ_OK;
        b.left = -1;
        if (!failed) break;
        refused(NIZ_E_MEMORY, "memory");
        niz_param_hash(z, after);
        ck_assert_str_eq(before, after);
        ck_assert_int_eq(niz_param_count(z), 1);
        ck_assert_int_eq(niz_load(z, path), NIZ_OK);
    }
    for (long n = 0; n >= 0; n++) {
        b.left = n;
        bool ok = niz_save(z, path) == NIZ_OK;
        b.left = -1;
        if (ok) break;
        refused(NIZ_E_MEMORY, "memory");
        ck_assert_int_eq(entries(), 1);
        ck_assert_int_eq(niz_load(z, path), NIZ_OK);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("io");
    TCase *all = tcase_create("io");
    tcase_add_checked_fixture(all, begin, end);
    const TTest *tests[] = {
        test_every_dtype, test_layout, test_training_resumes, test_pending_updates,
        test_empty_context, test_foreign_file, test_header_lengths, test_bools, test_other_shapes,
        test_no_file, test_cut_at_every_length, test_every_header_byte, test_random_changes,
        test_unwritable, test_no_room, test_memory,
    };
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) tcase_add_test(all, tests[i]);
    tcase_add_loop_test(all, test_damaged, 0, (int)(sizeof damaged / sizeof damaged[0]));
    tcase_set_timeout(all, 300);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
