/* random.h - the generator behind all draws, for its own test.  SPDX-License-Identifier: MIT */
#ifndef NIZ_RANDOM_H
#define NIZ_RANDOM_H

#include <stdint.h>

/** One block of Philox 4x32-10. */
void niz_random_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]);

#endif
