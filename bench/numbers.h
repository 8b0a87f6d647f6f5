/* numbers.h - the same numbers in every framework: bench/peer.py draws them in Python.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <niz.h>

/** n draws of seed, uniform in [lo, hi).  They exit the program without memory. */
float *numbers_f32(uint64_t seed, int64_t n, double lo, double hi);
double *numbers_f64(uint64_t seed, int64_t n, double lo, double hi);
/** n draws of seed from 0 .. count-1. */
int32_t *numbers_i32(uint64_t seed, int64_t n, int count);

/** Gives every trainable parameter values that depend on its name and shape alone: of two and more
 *  axes uniform in ±1/√fan_in; of one axis 1 if it is a weight (of a normalisation), in ±0.1 if a
 *  bias, else in ±0.5. */
void numbers_params(niz *z);

#endif
