/* start.c - what comes before the steady state: the first step, compiled kernels, memory.
 *
 *   start first NAME [T0]      one step, then steps until compiled kernels are in use; T0 is the
 *                              process's start in nanoseconds of CLOCK_MONOTONIC
 *   start batches NAME COUNT   steps with COUNT different batch sizes
 *   start memory NAME          50 training steps; resident memory against what it must hold
 *
 * prints one line of JSON; bench/start.py runs it with empty and with full caches.
 *
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "timing.h"
#include "works.h"

#define WAIT_NS 20e9
#define MEMORY_STEPS 50
#define MIB (1 << 20)

/* ---- the first step -------------------------------------------------------------------------- */

/* Milliseconds from t0 until a run used compiled kernels; -1: not within 20 s, or not known. */
static double until_compiled(session *s, double t0)
{
#ifdef BENCH_KERNEL_COUNTS
    while (!niz_statistics(s->z).runs_compiled) {
        s->w->step(s, false);
        if (niz_error(s->z) || timing_ns() - t0 > WAIT_NS) return -1;
    }
    return (timing_ns() - t0) / 1e6;
#else
    double start = timing_ns(); /* libniz does not tell: give it time to compile and to keep */
    while (timing_ns() - start < WAIT_NS / 10 && !niz_error(s->z)) s->w->step(s, false);
    return t0 > 0 ? -1 : 0;
#endif
}

static void first(const work *w, double t0)
{
    double main_ns = timing_ns();
    session s = session_open(w, 0);
    double opened = timing_ns();
    s.w->step(&s, true);
    double stepped = timing_ns(), compiled = until_compiled(&s, t0);
    if (niz_error(s.z)) fprintf(stderr, "start: %s\n", niz_message(s.z));
    printf("{\"name\": \"%s\", \"main_ms\": %.2f, \"opened_ms\": %.2f, \"first_ms\": %.2f, "
           "\"compiled_ms\": %.2f, \"peak_kib\": %ld}\n",
           w->name, (main_ns - t0) / 1e6, (opened - t0) / 1e6, (stepped - t0) / 1e6, compiled,
           timing_peak_kib());
    session_close(&s); /* NIZ_STATS=1 says what was compiled */
}

/* ---- batch sizes ----------------------------------------------------------------------------- */

static void batches(const work *from, int count)
{
    work w = *from;
    session s = session_open(&w, 0);
    for (int i = 0; i < count; i++) {
        w.batch = from->batch - i % from->batch; /* downwards: the data is made for the largest */
        w.batches = 1;
        s.at = 0;
        for (int j = 0; j < 3; j++) w.step(&s, false);
    }
    if (niz_error(s.z)) fprintf(stderr, "start: %s\n", niz_message(s.z));
    printf("{\"name\": \"%s\", \"sizes\": %d}\n", w.name, count);
    session_close(&s);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static int64_t param_bytes(niz *z)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < niz_param_count(z); i++) {
        niz_param_info p = niz_param_get(z, i);
        bytes += niz_shape_count(&p.shape) * (int64_t)niz_dtype_size(p.dtype);
    }
    return bytes;
}

/* What niz_plan_print calls the peak of one training step. */
static int64_t plan_peak(session *s)
{
    NIZ_STEP(s->z);
    niz_plan_summary sum = {0};
    FILE *f = fopen("/dev/null", "w");
    niz_t loss = s->w->loss(s);
    niz_minimize(&s->opt, loss);
    if (f) {
        niz_plan_print(f, s->z, 1, &loss, &sum);
        fclose(f);
    }
    return sum.peak_bytes;
}

static void memory(const work *w)
{
    session s = session_open(w, 0);
    for (int i = 0; i < MEMORY_STEPS; i++) s.w->step(&s, false);
    long peak_kib = timing_peak_kib();
    int64_t params = param_bytes(s.z), plan = plan_peak(&s);
    int64_t data =
        w->batch * w->batches * (784 * (int64_t)sizeof(float) + (int64_t)sizeof(int32_t));
    double bound = 1.5 * (double)(params + data + plan) + 8 * MIB;
    if (niz_error(s.z)) fprintf(stderr, "start: %s\n", niz_message(s.z));
    printf("{\"name\": \"%s\", \"peak_kib\": %ld, \"params_and_state\": %lld, \"data\": %lld, "
           "\"plan_peak\": %lld, \"bound_kib\": %.0f, \"met\": %s}\n",
           w->name, peak_kib, (long long)params, (long long)data, (long long)plan, bound / 1024,
           (double)peak_kib * 1024 <= bound ? "true" : "false");
    session_close(&s);
}

int main(int argc, char **argv)
{
    const work *w = argc > 2 ? work_find(argv[2]) : NULL;
    const char *what = w ? argv[1] : "";
    if (!strcmp(what, "first"))
        first(w, argc > 3 ? atof(argv[3]) : timing_ns());
    else if (!strcmp(what, "batches") && argc > 3)
        batches(w, atoi(argv[3]));
    else if (!strcmp(what, "memory") && w->loss)
        memory(w);
    else
        return fprintf(stderr, "usage: start first|batches|memory NAME [T0|COUNT]\n"), 2;
    return 0;
}
