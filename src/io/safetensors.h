/* safetensors.h - what writing and reading the format share.
 *
 *   8 bytes   N, little-endian
 *   N bytes   JSON: { "__metadata__": { "key": "text", ... },
 *                     "name": { "dtype": "F32", "shape": [2,3], "data_offsets": [0,24] }, ... }
 *             padded by blanks so that what follows begins at a multiple of 8
 *   the rest  elements, row-major, little-endian; offsets count from its beginning, and every byte
 *             belongs to just one tensor
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_SAFETENSORS_H
#define NIZ_SAFETENSORS_H

#include <niz/core.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors files are little-endian, and so must the machine be"
#endif

/* A header of 16 MiB has room for 100,000 tensors; a larger one is taken for damage. */
#define NIZ_SAFETENSORS_HEADER_MAX (16 << 20)
#define NIZ_SAFETENSORS_METADATA "__metadata__"

/* libniz's own metadata */
#define NIZ_SAFETENSORS_FORMAT "niz.format"
#define NIZ_SAFETENSORS_STATE "niz.state:"
extern const char *const niz_safetensors_counter[3]; /* in the order of niz_counters */

/** "F32" */
const char *niz_safetensors_dtype(niz_dtype d);
bool niz_safetensors_dtype_parse(const char *name, niz_dtype *out);

/** Looks for what a JSON parser should not be let loose on: text that is no object, nesting deeper
 *  or values more numerous than the format can have, names with a NUL in them.  NULL: nothing; else
 *  what, with its byte in *where. */
const char *niz_safetensors_scan(const char *text, size_t bytes, size_t *where);

#endif
