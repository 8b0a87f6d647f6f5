/* price_free.c - libniz's own loops with free arithmetic: compiled with -O3 -ffast-math
 * -ffp-contract=fast for this machine, and with a block of k of any length.
 *
 * Built once for each FREE_K (the block's length, which the contract has at 384); FREE(f) is f with
 * that build's name behind it.
 *
 * SPDX-License-Identifier: MIT */
#if defined(__AVX512F__)
#define NIZ_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define NIZ_VECTOR_BYTES 32
#else
#define NIZ_VECTOR_BYTES 16
#endif
#include "exec/loops_isa.h"
#undef NIZ_ISA_NAME
#define NIZ_ISA_NAME FREE

#include "exec/tile.h"
#undef NIZ_TILE_K
#define NIZ_TILE_K FREE_K

#include "exec/loops_contract.c"
