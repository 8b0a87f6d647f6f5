/* works.c - measures one of the works, recorded anew in each step as users write it.
 *
 *   works NAME [THREADS]
 *
 * prints one line of JSON; bench/peer_torch.py and bench/peer_jax.py do the same work from the same
 * numbers, and bench/compare.py sets them side by side.
 *
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "timing.h"
#include "works.h"

static void step(void *state)
{
    session *s = state;
    s->w->step(s, false);
}

static void measure(session *s)
{
    double start = timing_ns(), check = 0;
    check = s->w->step(s, true);
    double first = timing_ns() - start;
    for (int i = 1; i < s->w->checked; i++) check = s->w->step(s, true);
    session_warm_up(s);
    timing_result t = niz_error(s->z) ? (timing_result){0} : timing_blocks(step, s);
    if (niz_error(s->z)) return;
    printf("{\"name\": \"%s\", \"median_us\": %.2f, \"min_us\": %.2f, \"check\": %.9g, "
           "\"first_ms\": %.2f, \"peak_kib\": %ld}\n",
           s->w->name, t.median / 1e3, t.min / 1e3, check, first / 1e6, timing_peak_kib());
}

int main(int argc, char **argv)
{
    const work *w = argc == 2 || argc == 3 ? work_find(argv[1]) : NULL;
    if (!w) {
        fprintf(stderr, "usage: works NAME [THREADS]; names:");
        work_print_names(stderr);
        return 2;
    }
    session s = session_open(w, argc > 2 ? atoi(argv[2]) : 0);
    measure(&s);
    bool failed = niz_error(s.z);
    if (failed) fprintf(stderr, "works: %s\n", niz_message(s.z));
    session_close(&s);
    return failed;
}
