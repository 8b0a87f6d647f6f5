/* record.c - what defining by running costs: recording a graph, finding its plan again, and
 * whether memory stays the same over many steps.
 *
 * It looks inside libniz (src/exec): finding a plan is a part of niz_run that has no name outside.
 *
 * SPDX-License-Identifier: MIT */
#include <niz.h>

#include <stdlib.h>
#include <unistd.h>

#include "exec/exec.h"
#include "timing.h"

#define OPERATIONS 10000 /* recorded in a round */
#define ROUNDS 301

/* ---- recording and finding ------------------------------------------------------------------ */

/* Operations with one operand, with two tensors and with a number in turn; no two are equal. */
static niz_t record_chain(niz_t x, niz_t w, int n)
{
    for (int i = 0; i + 3 <= n; i += 3) {
        x = niz_tanh(x);
        x = niz_mul(x, w);
        x = niz_add(x, 0.5);
    }
    return n % 3 ? niz_neg(x) : x; /* 10,000 is 3 * 3333 and one more */
}

typedef struct cost { /* nanoseconds a node, of each round */
    double record[ROUNDS], live[ROUNDS], plan[ROUNDS], again[ROUNDS];
} cost;

/* The part of niz_run that comes before the plan runs.  False: something failed. */
static bool find_plan(niz *z, niz_t y, double *live_ns, double *plan_ns, double *nodes)
{
    niz_exec *e = niz_exec_of(z);
    niz_recording *r = niz_recording_of(z);
    double start = timing_ns();
    if (!niz_run_collect(e, r, NIZ_HERE, 1, &y) || !niz_live_find(r, &e->live)) return false;
    double found = timing_ns();
    if (!niz_plan_get(e, r)) return false;
    *nodes = (double)e->live.n;
    *plan_ns = (timing_ns() - found) / *nodes;
    *live_ns = (found - start) / *nodes;
    return true;
}

static bool round_measure(niz *z, const float *data, cost *c, int i, double *nodes)
{
    NIZ_STEP(z);
    niz_t x = niz_from(z, NIZ_F32, NIZ_SHAPE(8), data);     /* [8] */
    niz_t w = niz_from(z, NIZ_F32, NIZ_SHAPE(8), data + 8); /* [8] */
    double start = timing_ns();
    niz_t y = record_chain(x, w, OPERATIONS);
    c->record[i] = (timing_ns() - start) / OPERATIONS;
    start = timing_ns();
    record_chain(x, w, OPERATIONS); /* every node is found equal to one that exists */
    c->again[i] = (timing_ns() - start) / OPERATIONS;
    return find_plan(z, y, &c->live[i], &c->plan[i], nodes);
}

static void report(const char *what, double *ns, const char *goal)
{
    double median = timing_median(ns, ROUNDS);
    printf("%-34s %8.1f %8.1f   %s\n", what, median, ns[0], goal);
}

static bool measure_recording(void)
{
    float data[16];
    for (int i = 0; i < 16; i++) data[i] = 0.1f * (float)i;
    static cost c;
    double nodes = 0, sum[ROUNDS];
    niz *z = niz_open(NULL);
    bool ok = z && round_measure(z, data, &c, 0, &nodes); /* makes the plan */
    int64_t plans = ok ? niz_statistics(z).plans_made : 0;
    for (int i = 0; i < ROUNDS && ok; i++) ok = round_measure(z, data, &c, i, &nodes);
    if (ok && niz_statistics(z).plans_made != plans) {
        fprintf(stderr, "record: the plan was made again, not found\n");
        ok = false;
    }
    if (z && niz_error(z)) fprintf(stderr, "record: %s\n", niz_message(z));
    niz_close(z);
    if (!ok) return false;
    for (int i = 0; i < ROUNDS; i++) sum[i] = c.live[i] + c.plan[i];
    printf("%.0f nodes, %d rounds; ns a node        median      min   goal\n", nodes, ROUNDS);
    report("recording", c.record, "<= 30");
    report("recording a node that exists", c.again, "");
    report("finding the plan", sum, "<= 5");
    report("  its live part, renumbered", c.live, "");
    report("  its key, and the plan", c.plan, "");
    return true;
}

/* ---- memory --------------------------------------------------------------------------------- */

static long resident_kib(void)
{
    long pages = 0, skipped;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &skipped, &pages) != 2) pages = 0;
    if (f) fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void train_step(niz *z, const niz_optim *opt, const float *data)
{
    NIZ_STEP(z);
    niz_t x = niz_from(z, NIZ_F32, NIZ_SHAPE(8, 16), data);           /* [8,16] */
    niz_t h = niz_tanh(niz_linear(x, 32, "fc1"));                     /* [8,32] */
    niz_t y = niz_linear(niz_dropout(h, 0.1), 4, "fc2");              /* [8,4] */
    niz_minimize(opt, niz_mean(niz_square(niz_sub(y, 0.5))));
}

static bool measure_memory(void)
{
    float data[8 * 16];
    for (int i = 0; i < 8 * 16; i++) data[i] = (float)(i % 7) - 3;
    niz *z = niz_open(NULL);
    if (!z) return false;
    printf("\n%-22s %16s %16s\n", "memory after", "libniz bytes", "process KiB");
    for (int i = 1; i <= 10000; i++) {
        niz_optim opt = niz_adam(.lr = 1e-3 / i);
        train_step(z, &opt, data);
        if (i == 100 || i == 1000 || i == 10000)
            printf("%6d steps           %16lld %16ld\n", i, (long long)niz_statistics(z).bytes_now,
                   resident_kib());
    }
    bool ok = !niz_error(z);
    if (!ok) fprintf(stderr, "record: %s\n", niz_message(z));
    niz_close(z);
    return ok;
}

int main(void)
{
    return measure_recording() && measure_memory() ? 0 : 1;
}
