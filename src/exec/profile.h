/* profile.h - how long each kernel takes: the table of NIZ_STATS=1 and the trace of NIZ_TRACE.
 *
 * Off, it is one comparison a task.  On, each task is timed where it is handed to the threads.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_PROFILE_H
#define NIZ_PROFILE_H

#include "exec/exec.h"

/** Begins a profile if the environment asks for one.  NULL: it does not, or there is no memory. */
niz_profile *niz_profile_open(niz *z);
/** Ends the trace's file and frees all. */
void niz_profile_close(niz_profile *p);

/** Seconds since the profile began. */
double niz_profile_now(const niz_profile *p);
/** A task of `threads` threads ran from `begin` until now. */
void niz_profile_task(niz_profile *p, niz_task *t, const niz_place *place, int threads,
                      double begin);
/** Something else did: "plan", "run". */
void niz_profile_span(niz_profile *p, const char *what, double begin);
/** A line a kernel, the longest first: calls, time, share, GFLOP/s, GB/s. */
void niz_profile_print(const niz_profile *p, FILE *f);

#endif
