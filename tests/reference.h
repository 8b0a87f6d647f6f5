/* reference.h - the orders of DESIGN §6 in the plainest scalar form: what executors must match
 * bit for bit.  Slow; all NaNs count as one value (niz_ref_same_...).
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_TESTS_REFERENCE_H
#define NIZ_TESTS_REFERENCE_H

#include "exec/loops.h"

/* n elements, stride apart. */
float niz_ref_sum_f32(const float *x, int64_t n, int64_t stride);
double niz_ref_sum_f64(const double *x, int64_t n, int64_t stride);
float niz_ref_prod_f32(const float *x, int64_t n, int64_t stride);
double niz_ref_prod_f64(const double *x, int64_t n, int64_t stride);

/* NaN if there is one, -0 < +0; of nothing, -inf and +inf. */
float niz_ref_max_f32(const float *x, int64_t n, int64_t stride);
double niz_ref_max_f64(const double *x, int64_t n, int64_t stride);
float niz_ref_min_f32(const float *x, int64_t n, int64_t stride);
double niz_ref_min_f64(const double *x, int64_t n, int64_t stride);

/* The first of equals, a NaN first of all; 0 of nothing. */
int64_t niz_ref_argmax_f32(const float *x, int64_t n, int64_t stride);
int64_t niz_ref_argmax_f64(const double *x, int64_t n, int64_t stride);
int64_t niz_ref_argmin_f32(const float *x, int64_t n, int64_t stride);
int64_t niz_ref_argmin_f64(const double *x, int64_t n, int64_t stride);

/* The sum of products a[k] * b[k], each n long: one output of a contraction. */
float niz_ref_dot_f32(const float *a, int64_t a_stride, const float *b, int64_t b_stride,
                      int64_t n);
double niz_ref_dot_f64(const double *a, int64_t a_stride, const double *b, int64_t b_stride,
                       int64_t n);

/* Whole loops, as the tables' functions compute them (loops.h). */
void niz_ref_contract_f32(const niz_contract_loop *l, const float *a, const float *b, float *y);
void niz_ref_contract_f64(const niz_contract_loop *l, const double *a, const double *b, double *y);
void niz_ref_conv_f32(const niz_conv_loop *l, const float *x, const float *w, float *y);
void niz_ref_conv_f64(const niz_conv_loop *l, const double *x, const double *w, double *y);

/* The same bits, or two NaNs. */
bool niz_ref_same_f32(float a, float b);
bool niz_ref_same_f64(double a, double b);

/* Where element i, in row-major order, of a space lies in a buffer; how many elements there are. */
int64_t niz_ref_offset(const niz_loop_space *s, int buffer, int64_t i);
int64_t niz_ref_count(const niz_loop_space *s);

#endif
