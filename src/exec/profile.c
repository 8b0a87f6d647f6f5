/* profile.c - see profile.h.
 *
 * Arithmetic is counted as people do: two a multiply-add of a contraction, one an instruction of a
 * map.  Traffic is what a kernel must read and write if every buffer passes once; so GB/s above the
 * memory's means that it came from cache.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/profile.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/type.h"

typedef struct niz_profile_row {
    char label[NIZ_LABEL];
    int64_t calls;
    double seconds, flops, bytes;
} niz_profile_row;

struct niz_profile {
    niz *z;
    FILE *trace;
    bool comma;
    struct timespec begin;
    niz_profile_row *row;
    size_t n_rows, capacity;
};

niz_profile *niz_profile_open(niz *z)
{
    const char *stats = secure_getenv("NIZ_STATS"), *trace = secure_getenv("NIZ_TRACE");
    bool counts = stats && *stats && *stats != '0', traces = trace && *trace;
    niz_profile *p = counts || traces ? niz_realloc(z, NULL, sizeof *p) : NULL;
    if (!p) return NULL;
    *p = (niz_profile){.z = z};
    clock_gettime(CLOCK_MONOTONIC, &p->begin);
    if (!traces) return p;
    p->trace = fopen(trace, "w");
    if (p->trace)
        fputs("{\"displayTimeUnit\": \"ns\", \"traceEvents\": [", p->trace);
    else
        niz_remark(z, "NIZ_TRACE: the file cannot be written");
    return p;
}

void niz_profile_close(niz_profile *p)
{
    if (!p) return;
    if (p->trace) {
        fputs("\n]}\n", p->trace);
        fclose(p->trace);
    }
    niz_free(p->z, p->row);
    niz_free(p->z, p);
}

double niz_profile_now(const niz_profile *p)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)(t.tv_sec - p->begin.tv_sec) + 1e-9 * (double)(t.tv_nsec - p->begin.tv_nsec);
}

/* ---- the trace ------------------------------------------------------------------------------- */

static void niz_trace_text(FILE *f, const char *s)
{
    for (; *s; s++)
        if (*s == '"' || *s == '\\')
            fprintf(f, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            fprintf(f, "\\u%04x", (unsigned)*s);
        else
            fputc(*s, f);
}

static void niz_trace_event(niz_profile *p, const char *name, double begin, double end)
{
    fprintf(p->trace, "%s\n{\"ph\": \"X\", \"pid\": 1, \"tid\": 1, \"ts\": %.3f, \"dur\": %.3f, ",
            p->comma ? "," : "", 1e6 * begin, 1e6 * (end - begin));
    fputs("\"name\": \"", p->trace);
    niz_trace_text(p->trace, name);
    p->comma = true;
}

/* Whether the compiler made any of it. */
static bool niz_trace_compiled(const niz_task *t)
{
    const niz_around *a = &t->around;
    return t->kind == NIZ_TASK_NEST || t->kind == NIZ_TASK_CHUNK || a->finish || a->make[0] ||
           a->make[1];
}

static void niz_trace_task(niz_profile *p, const niz_task *t, const niz_place *place, int threads,
                           double begin, double end)
{
    char where[256];
    niz_place_text(place, where, sizeof where);
    niz_trace_event(p, t->label, begin, end);
    fprintf(p->trace, "\", \"args\": {\"compiled\": %s, \"threads\": %d, \"at\": \"",
            niz_trace_compiled(t) ? "true" : "false", threads);
    niz_trace_text(p->trace, where[0] ? where + strlen(" at ") : "");
    fputs("\"}}", p->trace);
}

void niz_profile_span(niz_profile *p, const char *what, double begin)
{
    if (!p || !p->trace) return;
    niz_trace_event(p, what, begin, niz_profile_now(p));
    fputs("\"}", p->trace);
}

/* ---- the table ------------------------------------------------------------------------------- */

/* The row of a task's label, from 1 on; 0 without memory. */
static size_t niz_profile_row_of(niz_profile *p, const niz_task *t)
{
    for (size_t i = 0; i < p->n_rows; i++)
        if (!strcmp(p->row[i].label, t->label)) return i + 1;
    if (!niz_grow(p->z, &p->row, sizeof *p->row, &p->capacity, p->n_rows + 1)) return 0;
    p->row[p->n_rows] = (niz_profile_row){0};
    memcpy(p->row[p->n_rows].label, t->label, strlen(t->label) + 1);
    return ++p->n_rows;
}

void niz_profile_task(niz_profile *p, niz_task *t, const niz_place *place, int threads,
                      double begin)
{
    double end = niz_profile_now(p);
    if (!t->label) return;
    if (!t->row) t->row = (uint32_t)niz_profile_row_of(p, t);
    if (t->row) {
        niz_profile_row *r = &p->row[t->row - 1];
        r->calls++;
        r->seconds += end - begin;
        r->flops += t->flops;
        r->bytes += t->bytes;
    }
    if (p->trace) niz_trace_task(p, t, place, threads, begin, end);
}

static int niz_profile_longer(const void *a, const void *b)
{
    double x = ((const niz_profile_row *)a)->seconds, y = ((const niz_profile_row *)b)->seconds;
    return (x < y) - (x > y);
}

void niz_profile_print(const niz_profile *p, FILE *f)
{
    double all = 0;
    if (!p || !p->n_rows) return;
    qsort(p->row, p->n_rows, sizeof *p->row, niz_profile_longer);
    for (size_t i = 0; i < p->n_rows; i++) all += p->row[i].seconds;
    fprintf(f, "niz: %10s %12s %6s %9s %8s  kernel\n", "calls", "us a call", "share", "GFLOP/s",
            "GB/s");
    for (size_t i = 0; i < p->n_rows; i++) {
        const niz_profile_row *r = &p->row[i];
        fprintf(f, "niz: %10lld %12.2f %5.1f%% %9.2f %8.2f  %s\n", (long long)r->calls,
                1e6 * r->seconds / (double)r->calls, 100 * r->seconds / all,
                1e-9 * r->flops / r->seconds, 1e-9 * r->bytes / r->seconds, r->label);
    }
}
