/* infer.h - typing shared by families of operations.  SPDX-License-Identifier: MIT */
#ifndef NIZ_INFER_H
#define NIZ_INFER_H

#include <niz/op.h>

/** The result's shape: all operands broadcast together. */
bool niz_infer_broadcast(niz_infer *f);
/** Operands first, first+1 ... are of one dtype. */
bool niz_infer_one_dtype(niz_infer *f, int first);
/** bool operands -> bool. */
bool niz_infer_logic(niz_infer *f);

#endif
