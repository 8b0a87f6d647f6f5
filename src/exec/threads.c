/* threads.c - handing out ranges, by OpenMP where there is one.
 *
 * Every worker has a control word of its own, and gets it back (core/control.h).
 *
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <unistd.h>

#include "core/control.h"
#include "exec/exec.h"

#ifdef _OPENMP
#include <omp.h>
#endif

int niz_thread_count(const niz_options *o)
{
    const char *s = secure_getenv("NIZ_THREADS");
    long n = o->threads > 0 ? o->threads : s ? strtol(s, NULL, 10) : 0;
    if (n < 1) n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > 256 ? 256 : (int)n;
}

static void niz_piece_run(niz_piece *f, void *state, int thread, int threads, int64_t units)
{
    int64_t begin = units / threads * thread + (units % threads) * thread / threads;
    int64_t end = units / threads * (thread + 1) + (units % threads) * (thread + 1) / threads;
    NIZ_CONTROL;
    if (begin < end) f(state, thread, begin, end);
}

void niz_parallel(int threads, int64_t units, niz_piece *f, void *state)
{
    if (threads > units) threads = units > 0 ? (int)units : 1;
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        {
            /* fewer threads than asked for may come: each takes several pieces then */
            for (int t = omp_get_thread_num(); t < threads; t += omp_get_num_threads())
                niz_piece_run(f, state, t, threads, units);
        }
        return;
    }
#endif
    for (int t = 0; t < threads; t++) niz_piece_run(f, state, t, threads, units);
}
