/* progress.c - a line on the terminal that shows how far a long loop is; nothing elsewhere.
 *
 * It goes to stderr, so that what a program writes to stdout is the same in every case.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "progress.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define WIDTH 30     /* characters of the bar */
#define INTERVAL 0.1 /* seconds between two drawings */

double progress_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

progress progress_start(int64_t total)
{
    double now = progress_clock();
    return (progress){isatty(STDERR_FILENO) == 1, 0, total, now, now};
}

void progress_step(progress *p, const char *what)
{
    p->done++;
    if (!p->shown) return;
    double now = progress_clock();
    if (now < p->next) return;
    p->next = now + INTERVAL;

    char bar[WIDTH + 1];
    int full = (int)(WIDTH * p->done / p->total);
    for (int i = 0; i < WIDTH; i++) bar[i] = i < full ? '#' : '.';
    bar[WIDTH] = 0;
    long left = (long)((now - p->start) / (double)p->done * (double)(p->total - p->done) + 0.5);
    fprintf(stderr, "\r\033[K%s [%s] %3d %%  %ld:%02ld left", what, bar,
            (int)(100 * p->done / p->total), left / 60, left % 60);
    fflush(stderr);
}

void progress_hide(progress *p)
{
    if (!p->shown) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->next = 0;
}
