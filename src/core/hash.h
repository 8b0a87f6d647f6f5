/* hash.h - XXH3, inlined: structural hashes, plan keys, file integrity.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_HASH_H
#define NIZ_HASH_H

#define XXH_INLINE_ALL
#include <xxhash.h>

#endif
