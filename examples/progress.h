/* progress.h - a line on the terminal that shows how far a long loop is; nothing elsewhere.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/** Seconds on a clock that only goes forward. */
double progress_clock(void);

typedef struct progress {
    bool shown;         /* stderr is a terminal */
    int64_t done, total;
    double start, next; /* when the loop began, when to draw again */
} progress;

/** The beginning of a loop of total rounds. */
progress progress_start(int64_t total);

/** One round is done. */
void progress_step(progress *p, const char *what);

/** Takes the line away, so that something else can be printed. */
void progress_hide(progress *p);

#endif
