/* loops.c - the table of one instruction set's loops.  Compiled three times, like loops_*.c.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/loops_isa.h"

const niz_loops NIZ_ISA_NAME(niz_loops) = {
    .isa = NIZ_ISA_TEXT,
    .map = NIZ_ISA_NAME(niz_map_run),
    .copy = NIZ_ISA_NAME(niz_copy_run),
    .reduce = NIZ_ISA_NAME(niz_reduce_run),
    .contract = NIZ_ISA_NAME(niz_contract_run),
    .conv = NIZ_ISA_NAME(niz_conv_run),
    .contract_prepare = NIZ_ISA_NAME(niz_contract_prepare),
    .conv_units = NIZ_ISA_NAME(niz_conv_units),
    .conv_scratch = NIZ_ISA_NAME(niz_conv_scratch),
    .map_scratch = NIZ_ISA_NAME(niz_map_scratch),
};
