/* kernel_key.h - by what a kernel is known.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_KERNEL_KEY_H
#define NIZ_KERNEL_KEY_H

#include "core/hash.h"
#include "exec/compiler.h"

/** Part of every key.  To be raised when a kernel's arguments or what it may assume change. */
#define NIZ_KERNEL_ABI 1

/** The XXH3-128 of everything an object depends on: the text without comments, the arguments, the
 *  ABI, the compiler.  A text that differs in comments, blank lines or indentation alone has the
 *  same key, so it must not ask for its own line numbers (__LINE__). */
XXH128_hash_t niz_kernel_key(const niz_compiler *c, niz_target t, const char *text);

#endif
