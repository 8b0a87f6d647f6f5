/* isa.c - which table of loops this processor runs.
 *
 * Asked anew at every call and nothing is kept: a context asks once, and so no lock is needed.  A
 * table is offered only if the processor has every feature that the compiler may use in it; the
 * compilers' builtin knows most of them, and whether the system saves the wide registers.
 *
 * SPDX-License-Identifier: MIT */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#endif
#include "exec/loops.h"

#include <stdlib.h>
#include <string.h>

#ifdef __linux__
#define niz_isa_getenv secure_getenv
#else
#define niz_isa_getenv getenv
#endif

#ifdef __x86_64__
#include <cpuid.h>

/* x86-64-v3 less what the builtin tells: F16C, MOVBE and LZCNT. */
static bool niz_isa_has_rest_of_v3(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 29 & 1) || !(c >> 22 & 1)) return false;
    return __get_cpuid(0x80000001u, &a, &b, &c, &d) && (c >> 5 & 1);
}

static bool niz_isa_has_v3(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
           __builtin_cpu_supports("popcnt") && niz_isa_has_rest_of_v3();
}

static bool niz_isa_has_v4(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
#endif

/* The tables this processor runs, best first; how many. */
static int niz_isa_list(const niz_loops *list[3])
{
    int n = 0;
#ifdef __x86_64__
    bool v3 = niz_isa_has_v3();
    if (v3 && niz_isa_has_v4()) list[n++] = &niz_loops_avx512;
    if (v3) list[n++] = &niz_loops_avx2;
#endif
    list[n++] = &niz_loops_sse2;
    return n;
}

const niz_loops *niz_isa_get(int i)
{
    const niz_loops *list[3];
    int n = niz_isa_list(list);
    return i >= 0 && i < n ? list[i] : NULL;
}

const niz_loops *niz_isa_loops(void)
{
    const niz_loops *list[3];
    int n = niz_isa_list(list);
    const char *wanted = niz_isa_getenv("NIZ_ISA");
    for (int i = 0; wanted && i < n; i++)
        if (!strcmp(list[i]->isa, wanted)) return list[i];
    return list[0]; /* an unknown name, or a table this processor cannot run */
}
