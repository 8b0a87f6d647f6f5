/* hash.h - XXH3, inlined: structural hashes, plan keys, file integrity.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_HASH_H
#define NIZ_HASH_H

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <stdint.h>

/** Two words into a hash: XXH3's own step for 16 bytes, cheaper than a call of it for a few words.
 */
static inline uint64_t niz_mix(uint64_t h, uint64_t a, uint64_t b)
{
    __uint128_t p = (__uint128_t)(a ^ h ^ 0x9E3779B185EBCA87u) * (b ^ 0xC2B2AE3D27D4EB4Fu);
    uint64_t v = (uint64_t)p ^ (uint64_t)(p >> 64) ^ h;
    return v ^ v >> 29;
}

#endif
