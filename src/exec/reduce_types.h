/* reduce_types.h - the folds of one floating type.  Included with T (the type), V (a vector of it),
 * TYPE(f) and LANE_BYTES set; no guard.
 *
 * SPDX-License-Identifier: MIT */

#define NAME(f) TYPE(f##_sum)
#define VOP ADD
#define SOP ADD
#define IDENTITY ((T)-0.0)
#define EMPTY ((T)0)
#include "exec/reduce_body.h"
#undef NAME
#undef VOP
#undef SOP
#undef IDENTITY
#undef EMPTY

#define NAME(f) TYPE(f##_prod)
#define VOP TIMES
#define SOP TIMES
#define IDENTITY ((T)1)
#define EMPTY ((T)1)
#include "exec/reduce_body.h"
#undef NAME
#undef VOP
#undef SOP
#undef IDENTITY
#undef EMPTY

#define NAME(f) TYPE(f##_max)
#define VOP TYPE(niz_max)
#define SOP TYPE(niz_reduce_max)
#define IDENTITY ((T)-INFINITY)
#define EMPTY IDENTITY
#include "exec/reduce_body.h"
#undef NAME
#undef VOP
#undef SOP
#undef IDENTITY
#undef EMPTY

#define NAME(f) TYPE(f##_min)
#define VOP TYPE(niz_min)
#define SOP TYPE(niz_reduce_min)
#define IDENTITY ((T)INFINITY)
#define EMPTY IDENTITY
#include "exec/reduce_body.h"
#undef NAME
#undef VOP
#undef SOP
#undef IDENTITY
#undef EMPTY
