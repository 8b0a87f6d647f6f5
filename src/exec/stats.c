/* stats.c - NIZ_STATS=1: what a context has done, to standard error when it closes.
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "core/context.h"
#include "exec/jit.h"
#include "exec/kernel_object.h"
#include "exec/profile.h"

void niz_stats_add(niz_exec *e, const niz_pass_count *count)
{
    for (int i = 0; niz_pipeline[i].name; i++) {
        e->passes[i].nodes_in += count[i].nodes_in;
        e->passes[i].nodes_out += count[i].nodes_out;
        e->passes[i].seconds += count[i].seconds;
    }
}

/* A reason, which may have the compiler's own lines in it. */
static void niz_stats_reason(const char *text)
{
    if (!*text) return;
    fputs("niz: ", stderr);
    for (; *text; text++)
        if (*text != '\n')
            fputc(*text, stderr);
        else if (text[1])
            fputs("\nniz:   ", stderr);
    fputc('\n', stderr);
}

/* Why plans were interpreted, or will be compiled anew next time: nothing else says so. */
static void niz_stats_kernels(niz_kernels *kernels)
{
    char why[sizeof(niz_reason)];
    niz_kernel_counts k = niz_kernels_counts(kernels);
    fprintf(stderr,
            "niz: %lld kernel texts: %lld in memory, %lld on disk, %lld compiled, %lld failed\n",
            (long long)k.requests, (long long)k.in_memory, (long long)k.on_disk,
            (long long)k.compiled, (long long)k.failed);
    niz_kernels_why(kernels, why, sizeof why);
    niz_stats_reason(why);
    niz_kernels_failed(kernels, why, sizeof why);
    niz_stats_reason(why);
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
    if (e->jit) niz_stats_kernels(e->jit->kernels);
}
