/* loops_isa.h - names of the functions that are compiled once an instruction set.
 *
 * NIZ_VECTOR_BYTES says which build this is: 16 is sse2 (and any machine that is not x86), 32 is
 * avx2, 64 is avx512.  NIZ_ISA_NAME(f) is f with that name behind it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_LOOPS_ISA_H
#define NIZ_LOOPS_ISA_H

#include "exec/loops.h"

#if NIZ_VECTOR_BYTES == 64
#define NIZ_ISA_NAME(f) f##_avx512
#define NIZ_ISA_TEXT "avx512"
#elif NIZ_VECTOR_BYTES == 32
#define NIZ_ISA_NAME(f) f##_avx2
#define NIZ_ISA_TEXT "avx2"
#elif NIZ_VECTOR_BYTES == 16
#define NIZ_ISA_NAME(f) f##_sse2
#define NIZ_ISA_TEXT "sse2"
#else
#error "define NIZ_VECTOR_BYTES as 16, 32 or 64"
#endif

/* The elements of a loop do not depend on each other: an output that is the very same buffer as an
 * operand is as good as another one. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpass-failed" /* builds without -O3 need not be told */
#define NIZ_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define NIZ_INDEPENDENT _Pragma("GCC ivdep")
#endif

/* The table's functions. */
void NIZ_ISA_NAME(niz_map_run)(const niz_map_loop *, void *const *buffer, int64_t begin,
                               int64_t end, void *scratch);
size_t NIZ_ISA_NAME(niz_map_scratch)(const niz_map *);
void NIZ_ISA_NAME(niz_copy_run)(const niz_copy_loop *, const void *x, void *y, int64_t begin,
                                int64_t end);
void NIZ_ISA_NAME(niz_reduce_run)(const niz_reduce_loop *, const void *x, void *y, int64_t begin,
                                  int64_t end);
void NIZ_ISA_NAME(niz_contract_run)(const niz_contract_loop *, const void *a, const void *b,
                                    void *y, int64_t begin, int64_t end, void *scratch,
                                    const niz_fused *fused);
void NIZ_ISA_NAME(niz_contract_prepare)(niz_contract_loop *);
void NIZ_ISA_NAME(niz_conv_run)(const niz_conv_loop *, const void *x, const void *w, void *y,
                                int64_t begin, int64_t end, void *scratch, const niz_fused *fused);
int64_t NIZ_ISA_NAME(niz_conv_units)(const niz_conv_loop *);
size_t NIZ_ISA_NAME(niz_conv_scratch)(const niz_conv_loop *);

/** Copies the elements [begin, end) of the space, read by its buffer number `which` from x, to
 *  y[0 .. end-begin-1]. */
void NIZ_ISA_NAME(niz_copy_gather)(int bytes, const niz_loop_space *space, int which, const void *x,
                                   void *y, int64_t begin, int64_t end);

#endif
