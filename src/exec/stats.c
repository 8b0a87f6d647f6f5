/* stats.c - NIZ_STATS=1: what a context has done, to standard error when it closes.
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "core/context.h"
#include "exec/jit.h"
#include "exec/profile.h"

void niz_stats_add(niz_exec *e, const niz_pass_count *count)
{
    for (int i = 0; niz_pipeline[i].name; i++) {
        e->passes[i].nodes_in += count[i].nodes_in;
        e->passes[i].nodes_out += count[i].nodes_out;
        e->passes[i].seconds += count[i].seconds;
    }
}

void niz_stats_print(niz_exec *e)
{
    const char *wanted = secure_getenv("NIZ_STATS");
    const niz_stats *s = &e->z->stats;
    if (!wanted || !*wanted || *wanted == '0') return;
    fprintf(stderr, "niz: %lld steps, %lld runs, %lld nodes recorded, at most %lld bytes\n",
            (long long)s->steps, (long long)s->runs, (long long)s->nodes_recorded,
            (long long)s->bytes_peak);
    fprintf(stderr, "niz: %lld plans made, %lld found; literals became data in %lld graphs\n",
            (long long)s->plans_made, (long long)s->plans_found, (long long)s->literals_made_data);
    for (int i = 0; niz_pipeline[i].name; i++)
        fprintf(stderr, "niz:   %-10s %8lld -> %8lld nodes  %10.3f ms\n", niz_pipeline[i].name,
                (long long)e->passes[i].nodes_in, (long long)e->passes[i].nodes_out,
                1e3 * e->passes[i].seconds);
    fprintf(stderr, "niz: %lld of %lld runs compiled; %lld plans too large for it\n",
            (long long)s->runs_compiled, (long long)s->runs, (long long)s->plans_refused);
    niz_profile_print(e->profile, stderr);
    if (!e->jit) return;
    niz_kernel_counts k = niz_kernels_counts(e->jit->kernels);
    fprintf(stderr, "niz: %lld kernel texts: %lld in memory, %lld on disk, %lld compiled, %lld failed\n",
            (long long)k.requests, (long long)k.in_memory, (long long)k.on_disk,
            (long long)k.compiled, (long long)k.failed);
}
