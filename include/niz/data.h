/* niz/data.h - data sets: loading, splitting, normalising, mini-batches.
 *
 *   niz *z = niz_open(NULL);
 *   niz_dataset *d = niz_digits(z);                       // or niz_csv_load, niz_idx_load ...
 *   niz_parts p = niz_split(z, niz_all(d), .validation = .15, .test = .15, .seed = 1);
 *   niz_normalizer *n = niz_normalizer_fit(z, p.train);   // sees the training part only
 *   niz_normalizer_apply(z, n, d);                        // d's batches are normalised from here
 *   niz_batches *b = niz_batches_open(z, p.train, 64, .seed = 1);
 *   for (int epoch = 0; epoch < 10; epoch++) {
 *       niz_batch s;
 *       for (niz_batches_start(b, epoch); niz_batches_next(b, &s);) {
 *           NIZ_STEP(z);
 *           niz_t x = niz_from(z, NIZ_F32, s.shape, s.x);                   // [count,8,8]
 *           niz_t y = niz_from(z, NIZ_I32, NIZ_SHAPE(s.count), s.label);    // [count]
 *           ...
 *       }
 *   }
 *   niz_batches_free(z, b), niz_normalizer_free(z, n), niz_parts_free(z, &p);
 *   niz_dataset_free(z, d), niz_close(z);
 *
 * Errors stick in the context, as everywhere.  A function that finds an error there does nothing;
 * a function that fails sets one and returns NULL or an empty value, which every other function
 * here takes without harm.  So a program may do all of the above and ask niz_error once.
 * A loader gives the whole data set or nothing.  A damaged file is NIZ_E_FORMAT and a message with
 * file and byte offset, or line and column; a file that cannot be read is NIZ_E_IO.  No more memory
 * is asked for than the file's length or what has been read from it justifies, whatever its header
 * promises.
 *
 * What is random here is a function of its seed alone, the same on every machine.
 * Free what you were given before niz_close, with the context it came from.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_DATA_H
#define NIZ_DATA_H

#include <niz/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- data sets ------------------------------------------------------------------------------ */

/** Labels are below this. */
#define NIZ_MAX_CLASSES 65536

/** Samples in memory.  Loaders make one; a program may as well fill in its own around arrays it
 *  has: the functions below only read it (niz_normalizer_apply sets .normalizer) and keep no more
 *  than a pointer to it.
 *
 *  The features are floats, x, or bytes as they lie in an image file: just one of x and bytes is
 *  given.  Batches, normalisers and niz_part_read make the same f32 numbers of either, a sample at
 *  a time, so a byte stays a byte in memory: the numbers are x or bytes / divisor, normalised if
 *  there is a normaliser.  Just one of label and target is given, or neither. */
typedef struct niz_dataset {
    int64_t count;    /* samples */
    niz_shape sample; /* shape of one sample: [8,8] for an image, [4] for a row of a table; rank
                         at most NIZ_MAX_RANK - 1 */
    int64_t features; /* numbers in one sample: the product of .sample */
    float *x;         /* [count, sample...], row-major; or NULL: */
    uint8_t *bytes;   /* [count, sample...], each of which stands for */
    float divisor;    /* bytes / divisor: 255 for values in [0, 1]; not 0 where there are bytes */
    const struct niz_normalizer *normalizer; /* what the features go through, or NULL */
    int64_t n_classes; /* labels are 0 .. n_classes-1; 0 without labels */
    int32_t *label;   /* [count], or NULL */
    float *target;    /* [count] for regression, or NULL */
    const char *const *feature_names; /* [features], or NULL */
    const char *const *class_names;   /* [n_classes], or NULL: a class is called by its number */
} niz_dataset;

/** Frees a data set that a loader made; d may be NULL. */
NIZ_API void niz_dataset_free(niz *z, niz_dataset *d);

/** Optical recognition of handwritten digits (E. Alpaydin, C. Kaynak; UCI repository, CC BY 4.0):
 *  the 1797 images of its test part, inside the library.  sample [8,8], ink / 16 so that values lie
 *  in [0, 1]; 10 classes. */
NIZ_API niz_dataset *niz_digits(niz *z);

/* ---- IDX files ------------------------------------------------------------------------------ */

/** An IDX file's content, ready for niz_from(z, dtype, shape, data). */
typedef struct niz_idx {
    niz_dtype dtype; /* u8, i32, f32 and f64 as in the file; 8 and 16 bit signed become i32 */
    niz_shape shape; /* rank 0 to NIZ_MAX_RANK */
    int64_t count;   /* elements: the product of .shape */
    void *data;      /* row-major, this machine's byte order */
} niz_idx;

/** Reads an IDX file, plain or gzip (if libniz was built with zlib; else a gzip file is
 *  NIZ_E_FORMAT).  Bytes after the data are an error. */
NIZ_API niz_idx *niz_idx_read_at(niz_at at, niz *z, const char *path);
NIZ_API void niz_idx_free(niz *z, niz_idx *idx);

/** Images and labels as a data set.  images [count, sample...] of any element type; unsigned bytes
 *  stay bytes with divisor 255, so that values lie in [0, 1], others become floats, x.  labels
 *  [count] of an integer type, 0 .. NIZ_MAX_CLASSES-1; n_classes is the largest and one.
 *  labels_path NULL: a data set without labels. */
NIZ_API niz_dataset *niz_idx_load_at(niz_at at, niz *z, const char *images_path,
                                     const char *labels_path);

/** The same for files named as MNIST's are: in dir, part-images-idx3-ubyte and
 *  part-labels-idx1-ubyte, with or without .gz (plain is preferred), "." for the dash before idx.
 *  Part "test" also finds t10k-....  If there is none, names that end so after a dash count too:
 *  faces-train-images-idx3-ubyte.gz; if several do, it is NIZ_E_ARGUMENT: say the part in full,
 *  "faces-train". */
NIZ_API niz_dataset *niz_idx_dir_at(niz_at at, niz *z, const char *dir, const char *part);

/* ---- CSV files ------------------------------------------------------------------------------ */

typedef enum niz_csv_kind {
    NIZ_CSV_CLASSES,   /* the target column holds class labels */
    NIZ_CSV_NUMBERS,   /* the target column holds numbers: regression */
    NIZ_CSV_UNLABELLED /* no target column: every column is a feature */
} niz_csv_kind;

typedef struct niz_csv_options {
    const char *target NIZ_DEFAULT(NULL);   /* name of the target column, or without a header its
                                               number counted from 1; NULL: the last column */
    niz_csv_kind kind NIZ_DEFAULT(NIZ_CSV_CLASSES);
    char separator NIZ_DEFAULT(',');        /* one of , ; | and tab */
    bool header NIZ_DEFAULT(true);          /* the first line holds the columns' names */
    const char *path NIZ_DEFAULT(NULL);     /* set by niz_csv_load */
} niz_csv_options;

/** A table as a data set: niz_csv_load(z, "iris.csv", .target = "species").  One line a sample,
 *  sample [columns but the target].
 *
 *  Text is as in RFC 4180: fields may be quoted, "" in quotes is a quote, quoted fields may hold
 *  separators and line ends; lines end with LF or CRLF, the last one also with the file.  Besides:
 *  blanks around an unquoted field do not count, empty lines are skipped, a byte order mark of
 *  UTF-8 at the start is skipped, and a gzip file is taken as niz_idx_read takes it.  Numbers are
 *  decimal with a point, whatever the locale.
 *
 *  Class labels are the numbers themselves if all of them are integers from 0 to NIZ_MAX_CLASSES-1;
 *  n_classes is the largest and one.  If any is not a number or is negative, every text is a class,
 *  numbered in order of first appearance, and class_names has them.  A column of numbers with a
 *  fraction is an error that names NIZ_CSV_NUMBERS.
 *
 *  NIZ_E_FORMAT, with line and column: a missing value (empty, NA, NaN, ?), text that is no number,
 *  a number too large for f32, a line with too few or too many fields, a misplaced quote.
 *  NIZ_E_ARGUMENT: a target column that is not there or twice, a wrong separator. */
NIZ_API niz_dataset *niz_csv_load_at(niz_at at, niz *z, niz_csv_options options);

/* ---- parts of a data set -------------------------------------------------------------------- */

/** Some samples of a data set, or all: a view, valid while both are.  Programs may build their
 *  own; an index out of range is NIZ_E_ARGUMENT where the part is used. */
typedef struct niz_part {
    const niz_dataset *of;
    int64_t count;
    const int64_t *index; /* [count] samples of .of; NULL: 0 .. count-1 */
} niz_part;

/** All samples; of NULL (a loader that failed): none. */
NIZ_API niz_part niz_all(const niz_dataset *d);

/** The part's i-th sample as a sample of the data set. */
static inline int64_t niz_part_row(niz_part p, int64_t i)
{
    return p.index ? p.index[i] : i;
}

/** The part's features, as its batches would have them: x [part.count, sample...]. */
NIZ_API niz_status niz_part_read_at(niz_at at, niz *z, niz_part part, float *x);

/** How many samples of each class the part has; counts [n_classes].  Labels outside are left
 *  out. */
NIZ_API void niz_class_counts(niz_part part, int64_t *counts);

typedef struct niz_split_options {
    double validation NIZ_DEFAULT(0.1); /* fractions of the samples, together below 1 */
    double test NIZ_DEFAULT(0.1);
    uint64_t seed NIZ_DEFAULT(0);
    bool stratify NIZ_DEFAULT(true); /* keep the classes' shares in each part; no effect without
                                        labels */
    niz_part part NIZ_DEFAULT_ZERO;  /* set by niz_split */
} niz_split_options;

/** Parts that have no sample in common and together have all. */
typedef struct niz_parts {
    niz_part train, validation, test;
    int64_t *memory; /* what .index of all three points into */
} niz_parts;

/** Draws test and validation samples; training has the rest: niz_split(z, niz_all(d), .test = .2).
 *  Their numbers are the fractions of part.count, rounded to nearest.  Each part is in the order of
 *  the part it was drawn from.  Stratified, a class has its exact share of test within one sample
 *  and of validation within two.  NIZ_E_ARGUMENT: fractions that are negative or leave nothing to
 *  train on.  On error all parts are empty. */
NIZ_API niz_parts niz_split_at(niz_at at, niz *z, niz_split_options options);

/** Frees the index lists and empties the parts. */
NIZ_API void niz_parts_free(niz *z, niz_parts *parts);

/* ---- normalising ---------------------------------------------------------------------------- */

/** x becomes (x - mean) / std. */
typedef struct niz_normalizer {
    int64_t features;
    bool per_feature;
    float *mean, *std; /* [features] if per_feature, else [1] */
} niz_normalizer;

typedef struct niz_normalizer_options {
    bool per_feature NIZ_DEFAULT(true); /* false: one mean and std over all, usual for images */
    niz_part part NIZ_DEFAULT_ZERO;     /* set by niz_normalizer_fit */
} niz_normalizer_options;

/** Measures mean and standard deviation (of the population: divided by count) of a part, which
 *  should be the training part: niz_normalizer_fit(z, p.train, .per_feature = false).  Summed in
 *  double, in the part's order, of the features as niz_part_read gives them.  A constant feature
 *  gets std 1, so it becomes 0.  An empty part is NIZ_E_ARGUMENT. */
NIZ_API niz_normalizer *niz_normalizer_fit_at(niz_at at, niz *z, niz_normalizer_options options);

/** Normalises d, all parts of it with it: what is read of d from here on (niz_part_read, batches)
 *  goes through n, which must live as long.  The data set's own numbers stay as they are, so
 *  d->normalizer = NULL takes it back.  NIZ_E_SHAPE if d has another number of features than what
 *  was fitted; NIZ_E_ARGUMENT if it has a normaliser. */
NIZ_API niz_status niz_normalizer_apply_at(niz_at at, niz *z, const niz_normalizer *n,
                                           niz_dataset *d);

/** The same for rows that are in no data set: x [count, features], in place. */
NIZ_API void niz_normalizer_rows(const niz_normalizer *n, int64_t count, float *x);
NIZ_API void niz_normalizer_free(niz *z, niz_normalizer *n);

/* ---- shuffling and mini-batches ------------------------------------------------------------- */

/** Puts order [n] into a random order that depends on seed, stream and n alone.  Fisher-Yates from
 *  the end; the draws are splitmix64's, started at mix(mix(seed) + stream), taken from the top bits
 *  and drawn again when out of range. */
NIZ_API void niz_shuffle(uint64_t seed, uint64_t stream, int64_t n, int64_t *order);

/** Walks through a part in mini-batches. */
typedef struct niz_batches niz_batches;

/** One mini-batch, gathered.  Valid until the next call with the same niz_batches. */
typedef struct niz_batch {
    int64_t count;        /* samples: the batch size; fewer in the last one of an epoch */
    niz_shape shape;      /* [count, sample...] */
    const float *x;       /* of that shape */
    const int32_t *label; /* [count], or NULL as in the data set */
    const float *target;  /* [count], or NULL */
    const int64_t *index; /* [count] which samples of the data set these are */
} niz_batch;

typedef struct niz_batches_options {
    uint64_t seed NIZ_DEFAULT(0);
    bool shuffle NIZ_DEFAULT(true);    /* false: in the part's order, for validation and test */
    bool drop_last NIZ_DEFAULT(false); /* leave out a last batch that is not full */
    niz_part part NIZ_DEFAULT_ZERO;    /* set by niz_batches_open */
    int64_t size NIZ_DEFAULT(0);       /* set by niz_batches_open */
} niz_batches_options;

/** niz_batches_open(z, part, 64, .seed = 1): batches of 64.  The data set, its normaliser and the
 *  part's index list must outlive it.  It is at the start of epoch 0.  NIZ_E_ARGUMENT: a size below
 *  1. */
NIZ_API niz_batches *niz_batches_open_at(niz_at at, niz *z, niz_batches_options options);

/** How many batches an epoch has; 0 for NULL. */
NIZ_API int64_t niz_batches_count(const niz_batches *b);

/** Starts an epoch.  Its order depends on seed and epoch alone, so that a training that is resumed
 *  at epoch 7 sees what it would have seen. */
NIZ_API void niz_batches_start(niz_batches *b, int64_t epoch);

/** The next batch; false at the end of the epoch, and when the context has an error, so that a
 *  training loop ends there. */
NIZ_API bool niz_batches_next(niz_batches *b, niz_batch *batch);
NIZ_API void niz_batches_free(niz *z, niz_batches *b);

#ifdef __cplusplus
} /* extern "C" */
#endif

#ifndef __cplusplus
/* ---- C: the macros -------------------------------------------------------------------------- */

#define niz_idx_read(...) niz_idx_read_at(NIZ_HERE, __VA_ARGS__)
#define niz_idx_load(...) niz_idx_load_at(NIZ_HERE, __VA_ARGS__)
#define niz_idx_dir(...) niz_idx_dir_at(NIZ_HERE, __VA_ARGS__)
#define niz_part_read(...) niz_part_read_at(NIZ_HERE, __VA_ARGS__)
#define niz_normalizer_apply(...) niz_normalizer_apply_at(NIZ_HERE, __VA_ARGS__)

/* The last fixed argument starts __VA_ARGS__ as a member, so that options may be left out. */
#define NIZ_CSV_DEFAULTS                                                                           \
    .target = NULL, .kind = NIZ_CSV_CLASSES, .separator = ',', .header = true
#define niz_csv_load(z, ...) /* path, options */                                                   \
    niz_csv_load_at(NIZ_HERE, z,                                                                   \
                    NIZ_OPTIONS(niz_csv_options, NIZ_CSV_DEFAULTS, .path = __VA_ARGS__))

#define NIZ_SPLIT_DEFAULTS .validation = 0.1, .test = 0.1, .seed = 0, .stratify = true
#define niz_split(z, ...) /* part, options */                                                      \
    niz_split_at(NIZ_HERE, z,                                                                      \
                 NIZ_OPTIONS(niz_split_options, NIZ_SPLIT_DEFAULTS, .part = __VA_ARGS__))

#define NIZ_NORMALIZER_DEFAULTS .per_feature = true
#define niz_normalizer_fit(z, ...) /* part, options */                                             \
    niz_normalizer_fit_at(                                                                         \
        NIZ_HERE, z,                                                                               \
        NIZ_OPTIONS(niz_normalizer_options, NIZ_NORMALIZER_DEFAULTS, .part = __VA_ARGS__))

#define NIZ_BATCHES_DEFAULTS .seed = 0, .shuffle = true, .drop_last = false
#define niz_batches_open(z, of, ...) /* part, size, options */                                     \
    niz_batches_open_at(NIZ_HERE, z,                                                               \
                        NIZ_OPTIONS(niz_batches_options, NIZ_BATCHES_DEFAULTS, .part = of,         \
                                    .size = __VA_ARGS__))

#else
/* ---- C++: the same names as overloads ------------------------------------------------------- */

inline niz_idx *niz_idx_read(niz *z, const char *path, NIZ_CPP_AT)
{
    return niz_idx_read_at(niz_at{file, line}, z, path);
}
inline niz_dataset *niz_idx_load(niz *z, const char *images_path, const char *labels_path,
                                 NIZ_CPP_AT)
{
    return niz_idx_load_at(niz_at{file, line}, z, images_path, labels_path);
}
inline niz_dataset *niz_idx_dir(niz *z, const char *dir, const char *part, NIZ_CPP_AT)
{
    return niz_idx_dir_at(niz_at{file, line}, z, dir, part);
}
inline niz_dataset *niz_csv_load(niz *z, const char *path,
                                 niz_csv_options o = niz_csv_options(), NIZ_CPP_AT)
{
    o.path = path;
    return niz_csv_load_at(niz_at{file, line}, z, o);
}
inline niz_status niz_part_read(niz *z, niz_part part, float *x, NIZ_CPP_AT)
{
    return niz_part_read_at(niz_at{file, line}, z, part, x);
}
inline niz_parts niz_split(niz *z, niz_part part, niz_split_options o = niz_split_options(),
                           NIZ_CPP_AT)
{
    o.part = part;
    return niz_split_at(niz_at{file, line}, z, o);
}
inline niz_normalizer *niz_normalizer_fit(niz *z, niz_part part,
                                          niz_normalizer_options o = niz_normalizer_options(),
                                          NIZ_CPP_AT)
{
    o.part = part;
    return niz_normalizer_fit_at(niz_at{file, line}, z, o);
}
inline niz_status niz_normalizer_apply(niz *z, const niz_normalizer *n, niz_dataset *d, NIZ_CPP_AT)
{
    return niz_normalizer_apply_at(niz_at{file, line}, z, n, d);
}
inline niz_batches *niz_batches_open(niz *z, niz_part part, int64_t size,
                                     niz_batches_options o = niz_batches_options(), NIZ_CPP_AT)
{
    o.part = part;
    o.size = size;
    return niz_batches_open_at(niz_at{file, line}, z, o);
}
#endif

#endif
