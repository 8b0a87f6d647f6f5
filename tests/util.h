/* util.h - what the tests of the core share: a suite from a list, seeded numbers, errors, texts, an
 * allocator that counts and refuses.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_TEST_UTIL_H
#define NIZ_TEST_UTIL_H

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <niz.h>

/* ---- running --------------------------------------------------------------------------------- */

static inline int util_run(const char *name, const TTest *const *tests, int n)
{
    Suite *s = suite_create(name);
    TCase *c = tcase_create(name);
    tcase_set_timeout(c, 300); /* two that compile much may run side by side */
    for (int i = 0; i < n; i++) tcase_add_test(c, tests[i]);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* int main(void) { UTIL_MAIN("graph", one_test, another_test); } */
#define UTIL_MAIN(name, ...)                                                                       \
    do {                                                                                           \
        const TTest *const util_tests[] = {__VA_ARGS__};                                           \
        return util_run(name, util_tests, (int)(sizeof util_tests / sizeof *util_tests));          \
    } while (0)

/* Cases of random tests: a few by default, NIZ_FULL=1 many. */
static inline int util_cases(int few, int many)
{
    const char *full = getenv("NIZ_FULL");
    return full && *full && *full != '0' ? many : few;
}

/* ---- random numbers of the tests: splitmix64 ------------------------------------------------- */

typedef struct util_rng {
    uint64_t state;
} util_rng;

static inline uint64_t util_u64(util_rng *r)
{
    uint64_t v = r->state += 0x9E3779B97F4A7C15u;
    v = (v ^ (v >> 30)) * 0xBF58476D1CE4E5B9u;
    v = (v ^ (v >> 27)) * 0x94D049BB133111EBu;
    return v ^ (v >> 31);
}

/* 0 .. n-1 */
static inline int util_below(util_rng *r, int n)
{
    return (int)(util_u64(r) % (uint64_t)n);
}

/* [lo, hi) */
static inline double util_real(util_rng *r, double lo, double hi)
{
    return lo + (hi - lo) * (double)(util_u64(r) >> 11) * 0x1p-53;
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* Status and a part of the message; the error is cleared. */
#define expect_error(z, status, part)                                                              \
    do {                                                                                           \
        ck_assert_msg(niz_error(z) == (status) && strstr(niz_message(z), part),                    \
                      "status %d, not %d; or no \"%s\" in \"%s\"", (int)niz_error(z),              \
                      (int)(status), part, niz_message(z));                                        \
        niz_clear_error(z);                                                                        \
    } while (0)

#define expect_ok(z) ck_assert_msg(niz_error(z) == NIZ_OK, "%s", niz_message(z))

/* "at tests/test_x.c:41", the place of this line. */
static inline const char *util_place(const char *file, int line)
{
    static char text[4][256];
    static int next;
    char *s = text[next++ % 4];
    snprintf(s, sizeof text[0], "at %s:%d", file, line);
    return s;
}

/* ---- texts ----------------------------------------------------------------------------------- */

/* The graph of one output as text, to be freed. */
static inline char *util_text(niz_t y)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    niz_print(f, 1, &y);
    fclose(f);
    return text;
}

static inline int util_count(const char *text, const char *part)
{
    int n = 0;
    for (; (text = strstr(text, part)); text += strlen(part)) n++;
    return n;
}

/* ---- an allocator that counts, and refuses when told ----------------------------------------- */

typedef struct util_memory {
    long live;     /* blocks */
    long asked;    /* requests for memory */
    long large;    /* of them, for a megabyte and more */
    long fail_at;  /* the request that is refused, from 1; 0: none */
    bool fail_all; /* and every later one */
    long failed;
} util_memory;

static inline void *util_realloc(void *user, void *p, size_t bytes)
{
    util_memory *m = user;
    if (!bytes) {
        m->live -= p != NULL;
        free(p);
        return NULL;
    }
    m->asked++;
    m->large += bytes >> 20 != 0;
    if (bytes >> 40) return NULL; /* sanitizers stop the program at these */
    if (m->fail_at && (m->asked == m->fail_at || (m->fail_all && m->asked > m->fail_at))) {
        m->failed++;
        return NULL;
    }
    void *q = realloc(p, bytes);
    m->live += q && !p;
    return q;
}

static inline niz *util_open_counting(util_memory *m)
{
    return niz_open(&(niz_options){.threads = 1, .realloc = util_realloc, .user = m});
}

static inline niz *util_open(void)
{
    return niz_open(&(niz_options){.threads = 1});
}

/* A context with compiled kernels or without; isa NULL: the machine's best. */
static inline niz *util_open_jit(niz_jit_mode jit, const char *isa, int threads)
{
    if (isa)
        setenv("NIZ_ISA", isa, 1);
    else
        unsetenv("NIZ_ISA");
    niz *z = niz_open(&(niz_options){.threads = threads, .jit = jit});
    ck_assert_ptr_nonnull(z);
    NIZ_STEP(z); /* the environment is read when something runs first */
    ck_assert(niz_item(niz_neg(niz_scalar(z, NIZ_F32, 1))) == -1);
    return z;
}

#endif
