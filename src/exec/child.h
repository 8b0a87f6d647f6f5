/* child.h - another program, run within limits.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_CHILD_H
#define NIZ_CHILD_H

#include <stdbool.h>
#include <stddef.h>

typedef enum niz_child_end {
    NIZ_CHILD_EXITED,     /* detail: its exit status */
    NIZ_CHILD_SIGNALLED,  /* detail: the signal that ended it */
    NIZ_CHILD_GONE,       /* it ended, but the host program took or ignores its status */
    NIZ_CHILD_TIMED_OUT,  /* killed at its limit */
    NIZ_CHILD_CANCELLED,  /* killed because `cancel` became readable */
    NIZ_CHILD_NOT_STARTED /* detail: errno */
} niz_child_end;

/** A program to run, and what became of it. */
typedef struct niz_child {
    const char *path; /* absolute */
    char *const *argv, *const *env;
    int dir;      /* descriptor of the directory it runs in */
    int limit_ms; /* it is killed when it has run so long */
    int cancel;   /* descriptor: killed as soon as this is readable; -1: none */

    niz_child_end end;
    int detail;
    char said[4096]; /* the beginning of its stderr, what cannot be printed replaced; a string */
    size_t n_said;
} niz_child;

/** Runs it to its end.  No process of its group is left afterwards. */
void niz_child_run(niz_child *c);

#endif
