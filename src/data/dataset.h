/* dataset.h - making a data set, and reading it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_DATA_DATASET_H
#define NIZ_DATA_DATASET_H

#include <niz/data.h>

/* A data set of so many samples of that shape; its arrays are NULL, to be filled in.  What is
 * filled in is freed with it. */
niz_dataset *niz_dataset_new(niz *z, int64_t count, niz_shape sample);

/* The features of one sample, as f32 and normalised: x [features].  The data set is a sound one. */
void niz_dataset_row(const niz_dataset *d, int64_t row, float *x);

/* Has the processor fetch a sample that niz_dataset_row will soon be asked for. */
void niz_dataset_prefetch(const niz_dataset *d, int64_t row);

/* Copies of n texts, pointers and characters in one block; NULL: the error is set. */
const char *const *niz_dataset_names(niz *z, int64_t n, const char *const *text);

/* [rows, sample...] */
niz_shape niz_dataset_shape(const niz_dataset *d, int64_t rows);

#endif
