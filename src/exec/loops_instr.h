/* loops_instr.h - one instruction over many elements.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_LOOPS_INSTR_H
#define NIZ_LOOPS_INSTR_H

#include "exec/loops_isa.h"

/** y[i] = code(x[0][i], x[1][i], x[2][i]) for n elements, for every code but CONST.  y may be one
 *  of the operands if their elements are equally wide, else it overlaps none.  Entries of x beyond
 *  the code's operands are not looked at.  No byte outside of the n elements is read or written. */
void NIZ_ISA_NAME(niz_instr_run)(const niz_map_instr *in, void *y, const void *const *x,
                                 int64_t n);

/** y[i] = the value of a CONST. */
void NIZ_ISA_NAME(niz_instr_fill)(const niz_map_instr *in, void *y, int64_t n);

#endif
