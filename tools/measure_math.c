/* SPDX-License-Identifier: MIT */
/*
 * measure_math.c - how far src/codegen/math.h is from the truth, and how fast it is.
 *
 *     measure_math f32  [-s stride] [-f function] [-i bytes]   error over the floats
 *     measure_math f64  [-n count]  [-f function] [-i bytes]   error against MPFR
 *                       [-a lo -b hi]                          with all inputs from this interval
 *     measure_math hash [-f function] [-i bytes]               bits only, to compare builds
 *     measure_math time [-f function] [-i bytes]               ns an element
 *
 * f32 visits every stride-th of the 2^32 floats (default 61; 1 is all of them, some minutes a
 * function) and compares with the C library's double-precision function, whose own error is below
 * 2^-28 units in a float's last place; the worst input is then measured again with MPFR.  pow, of
 * two arguments, takes 2^32/stride pairs from the generator below.  f64 compares with MPFR at 140
 * bits.  Inputs come from a fixed generator, so that every build sees the same.
 *
 * An ulp is the distance of neighbouring numbers at the true result: 2^(e-23) for floats of
 * exponent e, no smaller than 2^-149 (f64: 2^(e-52), 2^-1074).
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <math.h>
#include <mpfr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../tests/math_isa.h"

enum { BLOCK = 4096, LAST = MATH_POW, PREC = 140 };

typedef int mpfr_1(mpfr_t, const mpfr_t, mpfr_rnd_t);

static const struct {
    double (*f)(double);
    mpfr_1 *mp;
    double lo, hi; /* where most of the f64 inputs are taken from */
} refs[LAST] = {
    [MATH_EXP] = {exp, mpfr_exp, -746, 710},     [MATH_EXPM1] = {expm1, mpfr_expm1, -40, 710},
    [MATH_LOG] = {log, mpfr_log, 0, 4},          [MATH_LOG1P] = {log1p, mpfr_log1p, -1, 4},
    [MATH_SIN] = {sin, mpfr_sin, -100, 100},     [MATH_COS] = {cos, mpfr_cos, -100, 100},
    [MATH_TANH] = {tanh, mpfr_tanh, -20, 20},    [MATH_ERF] = {erf, mpfr_erf, -6, 6},
    [MATH_ERFC] = {erfc, mpfr_erfc, -6, 27},
};

/* The worst of a sweep. */
typedef struct {
    double ulp, x, y, got;
    int64_t count, wrong; /* wrong: an edge that no error in ulp describes, such as NaN for 1 */
    uint64_t hash;
} worst;

static uint64_t state;
static double only_lo, only_hi; /* -a, -b */

/* splitmix64 */
static uint64_t next(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static double uniform(double lo, double hi)
{
    return lo + (hi - lo) * ((double)(next() >> 11) * 0x1p-53);
}

static double f64_of(uint64_t u)
{
    double x;

    memcpy(&x, &u, sizeof x);
    return x;
}

static float f32_of(uint32_t u)
{
    float x;

    memcpy(&x, &u, sizeof x);
    return x;
}

/* A number of random sign and mantissa whose exponent is e. */
static double of_exponent(int e)
{
    double x = ldexp(uniform(1, 2), e);

    return next() & 1 ? x : -x;
}

/* Near a multiple of pi/2 below 2^30. */
static double near_quarter(void)
{
    uint64_t below = 1ull << next() % 30;
    double n = (double)(next() % below);

    return n * M_PI_2 * (1 + uniform(-1, 1) * 0x1p-52);
}

/* An input for function f: its main interval, every exponent, moderate exponents, around
 * 1 and -1, around small multiples of pi/2.  One draw a statement: the order is part of it. */
static double draw(int f)
{
    double one;
    int e;

    if (only_lo < only_hi)
        return uniform(only_lo, only_hi);
    switch (next() % 8) {
    case 0:
        return f64_of(next());
    case 1:
        e = (int)(next() % 64) - 48;
        return of_exponent(e);
    case 2:
        e = -(int)(next() % 54);
        one = next() & 1 ? 1 : -1;
        return one + of_exponent(e - 1);
    case 3:
        return f == MATH_SIN || f == MATH_COS ? near_quarter() : uniform(-2, 2);
    default:
        e = (int)(next() % 41) - 20;
        return f == MATH_POW ? fabs(of_exponent(e)) : uniform(refs[f].lo, refs[f].hi);
    }
}

/* An exponent for x^y: one that keeps the result finite, a small number, any number. */
static double draw_power(double x)
{
    double l = fabs(log(fabs(x)));
    double limit = l > 0 && l < 800 ? 745 / l : 745;

    switch (next() % 8) {
    case 0:
        return f64_of(next());
    case 1:
        return (double)(int)(next() % 41) - 20;
    case 2:
        return uniform(-3, 3);
    default:
        return uniform(-limit, limit);
    }
}

static void mix(worst *w, uint64_t bits)
{
    w->hash = (w->hash ^ bits) * 0x9e3779b97f4a7c15;
    w->hash ^= w->hash >> 29;
}

/* ---- f32 ---------------------------------------------------------------------------------- */

/* The error of y in float ulps; infinity stands for 2^128 where the true value is finite. */
static double ulp_f32(float y, double ref)
{
    double limit = 0x1p128, got = isinf(y) ? copysign(limit, y) : (double)y;

    if (isnan(ref) || isnan(y))
        return isnan(ref) && isnan(y) ? 0 : INFINITY;
    if (fabs(ref) >= limit)
        ref = copysign(limit, ref);
    if (got == ref)
        return signbit(got) == signbit(ref) || got != 0 || ref != 0 ? 0 : INFINITY;
    int e = ref == 0 ? -126 : ilogb(ref);
    return fabs(got - ref) * ldexp(1, 23 - (e < -126 ? -126 : e > 127 ? 127 : e));
}

static double reference(int f, double x, double y)
{
    return f == MATH_POW ? pow(x, y) : refs[f].f(x);
}

static void compare_f32(int f, const float *x, const float *y, const float *z, int n, worst *w)
{
    for (int i = 0; i < n; i++) {
        double u = ulp_f32(z[i], reference(f, x[i], y[i]));
        uint32_t bits;

        memcpy(&bits, &z[i], sizeof bits);
        mix(w, isnan(z[i]) ? 0x7fc00000 : bits);
        w->wrong += isinf(u);
        if (u > w->ulp || (isinf(u) && w->wrong == 1)) {
            w->ulp = u;
            w->x = x[i];
            w->y = y[i];
            w->got = z[i];
        }
    }
    w->count += n;
}

static worst sweep_f32(const math_isa *isa, int f, uint64_t stride)
{
    static float x[BLOCK], y[BLOCK], z[BLOCK];
    worst w = {0};
    uint64_t u = 0;

    state = 1;
    while (u < 1ull << 32) {
        int n = 0;

        for (; n < BLOCK && u < 1ull << 32; n++, u += stride) {
            x[n] = f == MATH_POW ? (float)draw(f) : f32_of((uint32_t)u);
            y[n] = f == MATH_POW ? (float)(draw_power(x[n]) / 7) : 0;
        }
        isa->f32[f](x, y, z, n);
        compare_f32(f, x, y, z, n, &w);
    }
    return w;
}

/* ---- f64 ---------------------------------------------------------------------------------- */

static void exact(int f, double x, double y, mpfr_t ref)
{
    mpfr_t a, b;

    mpfr_inits2(PREC, a, b, (mpfr_ptr)0);
    mpfr_set_d(a, x, MPFR_RNDN);
    mpfr_set_d(b, y, MPFR_RNDN);
    if (f == MATH_POW)
        mpfr_pow(ref, a, b, MPFR_RNDN);
    else
        refs[f].mp(ref, a, MPFR_RNDN);
    mpfr_clears(a, b, (mpfr_ptr)0);
}

/* The error in ulps of a format of so many bits; y is infinite for 2^emax and beyond. */
static double ulp_exact(double y, const mpfr_t ref, int bits, int emin, int emax)
{
    mpfr_t d;
    double u;
    mpfr_exp_t e;

    if (mpfr_nan_p(ref) || isnan(y))
        return mpfr_nan_p(ref) && isnan(y) ? 0 : INFINITY;
    e = mpfr_zero_p(ref) ? emin : mpfr_inf_p(ref) ? emax + 1 : mpfr_get_exp(ref) - 1;
    if (e >= emax)
        return isinf(y) && signbit(y) == mpfr_signbit(ref) ? 0 : INFINITY;
    if (mpfr_zero_p(ref) && y == 0)
        return signbit(y) == mpfr_signbit(ref) ? 0 : INFINITY;
    mpfr_init2(d, PREC);
    if (isinf(y))
        mpfr_set_si_2exp(d, y > 0 ? 1 : -1, emax, MPFR_RNDN);
    else
        mpfr_set_d(d, y, MPFR_RNDN);
    mpfr_sub(d, d, ref, MPFR_RNDA);
    mpfr_mul_2si(d, d, bits - 1 - (e < emin ? emin : e), MPFR_RNDN);
    u = fabs(mpfr_get_d(d, MPFR_RNDN));
    mpfr_clear(d);
    return u;
}

static void compare_f64(int f, const double *x, const double *y, const double *z, int n, worst *w)
{
    mpfr_t ref;

    mpfr_init2(ref, PREC);
    for (int i = 0; i < n; i++) {
        uint64_t bits;
        double u;

        memcpy(&bits, &z[i], sizeof bits);
        mix(w, isnan(z[i]) ? 0x7ff8000000000000 : bits);
        exact(f, x[i], y[i], ref);
        u = ulp_exact(z[i], ref, 53, -1022, 1024);
        w->wrong += isinf(u);
        if (u > w->ulp || (isinf(u) && w->wrong == 1)) {
            w->ulp = u;
            w->x = x[i];
            w->y = y[i];
            w->got = z[i];
        }
    }
    mpfr_clear(ref);
    w->count += n;
}

static worst sweep_f64(const math_isa *isa, int f, int64_t count)
{
    static double x[BLOCK], y[BLOCK], z[BLOCK];
    worst w = {0};

    state = 2;
    while (w.count < count) {
        int n = count - w.count < BLOCK ? (int)(count - w.count) : BLOCK;

        for (int i = 0; i < n; i++) {
            x[i] = draw(f);
            y[i] = f == MATH_POW ? draw_power(x[i]) : 0;
        }
        isa->f64[f](x, y, z, n);
        compare_f64(f, x, y, z, n, &w);
    }
    return w;
}

/* ---- Bits only ---------------------------------------------------------------------------- */

static uint64_t hash_f32(const math_isa *isa, int f, uint64_t stride)
{
    static float x[BLOCK], y[BLOCK], z[BLOCK];
    worst w = {0};
    uint64_t u = 0;

    state = 3;
    while (u < 1ull << 32) {
        int n = 0;

        for (; n < BLOCK && u < 1ull << 32; n++, u += stride) {
            x[n] = f32_of((uint32_t)u);
            if (f >= LAST)
                y[n] = n & 1 ? (float)draw_power(x[n]) : f32_of((uint32_t)next());
        }
        isa->f32[f](x, y, z, n);
        for (int i = 0; i < n; i++) {
            uint32_t bits;

            memcpy(&bits, &z[i], sizeof bits);
            mix(&w, isnan(z[i]) ? 0x7fc00000 : bits);
        }
    }
    return w.hash;
}

static uint64_t hash_f64(const math_isa *isa, int f, int64_t count)
{
    static double x[BLOCK], y[BLOCK], z[BLOCK];
    worst w = {0};

    state = 4;
    for (; w.count < count; w.count += BLOCK) {
        for (int i = 0; i < BLOCK; i++) {
            x[i] = f < LAST || f == MATH_POW ? draw(f) : draw(MATH_POW);
            y[i] = draw_power(x[i]);
        }
        isa->f64[f](x, y, z, BLOCK);
        for (int i = 0; i < BLOCK; i++) {
            uint64_t bits;

            memcpy(&bits, &z[i], sizeof bits);
            mix(&w, isnan(z[i]) ? 0x7ff8000000000000 : bits);
        }
    }
    return w.hash;
}

/* ---- Time --------------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ns an element: the best of many runs over arrays that stay in the first cache. */
static void time_one(const math_isa *isa, int f)
{
    enum { N = 1024 };
    static float x[N], y[N], z[N];
    static double xd[N], yd[N], zd[N];
    double best[2] = {1e9, 1e9};

    state = 5;
    for (int i = 0; i < N; i++) {
        xd[i] = f == MATH_LOG || f == MATH_POW ? uniform(0.01, 10) : uniform(-0.99, 5);
        x[i] = (float)xd[i];
        yd[i] = uniform(-5, 5);
        y[i] = (float)yd[i];
    }
    for (int r = 0; r < 400; r++) {
        double t[3];

        t[0] = seconds();
        isa->f32[f](x, y, z, N);
        t[1] = seconds();
        isa->f64[f](xd, yd, zd, N);
        t[2] = seconds();
        for (int k = 0; k < 2; k++)
            best[k] = fmin(best[k], (t[k + 1] - t[k]) * 1e9 / N);
    }
    printf("%-8s %-7s f32 %6.2f ns   f64 %6.2f ns\n", math_names[f], isa->name, best[0], best[1]);
}

/* ---- Command line ------------------------------------------------------------------------- */

static void report(const char *type, int f, worst w)
{
    mpfr_t ref;
    int f32 = !strcmp(type, "f32");

    mpfr_init2(ref, PREC);
    exact(f, w.x, w.y, ref);
    printf("%-6s %s  %12" PRId64 " inputs  worst %.4f ulp at %a", math_names[f], type, w.count,
           ulp_exact(w.got, ref, f32 ? 24 : 53, f32 ? -126 : -1022, f32 ? 128 : 1024), w.x);
    if (f == MATH_POW)
        printf(", %a", w.y);
    printf("  wrong edges %" PRId64 "  hash %016" PRIx64 "\n", w.wrong, w.hash);
    fflush(stdout);
    mpfr_clear(ref);
}

static void run(const char *what, const math_isa *isa, int f, int64_t stride, int64_t count)
{
    if (!strcmp(what, "time"))
        time_one(isa, f);
    else if (!strcmp(what, "hash"))
        printf("%-8s f32 %016" PRIx64 "  f64 %016" PRIx64 "\n", math_names[f],
               hash_f32(isa, f, (uint64_t)stride), hash_f64(isa, f, count));
    else if (f <= LAST && !strcmp(what, "f32"))
        report(what, f, sweep_f32(isa, f, (uint64_t)stride));
    else if (f <= LAST && !strcmp(what, "f64"))
        report(what, f, sweep_f64(isa, f, count));
    fflush(stdout);
}

static int usage(void)
{
    fprintf(stderr, "usage: measure_math f32|f64|hash|time [-s stride] [-n count] [-f function] "
                    "[-i 16|32|64] [-a lo -b hi]\n");
    return 2;
}

int main(int argc, char **argv)
{
    const math_isa *isa = math_isa_find(64);
    int64_t stride = 61, count = 1000000;
    const char *only = NULL;

    if (argc < 2 || argc % 2)
        return usage();
    if (!isa)
        isa = math_isa_find(32) ? math_isa_find(32) : math_isa_find(16);
    for (int i = 2; i < argc; i += 2) {
        if (!strcmp(argv[i], "-s"))
            stride = atoll(argv[i + 1]);
        else if (!strcmp(argv[i], "-n"))
            count = atoll(argv[i + 1]);
        else if (!strcmp(argv[i], "-f"))
            only = argv[i + 1];
        else if (!strcmp(argv[i], "-a"))
            only_lo = atof(argv[i + 1]);
        else if (!strcmp(argv[i], "-b"))
            only_hi = atof(argv[i + 1]);
        else if (!strcmp(argv[i], "-i"))
            isa = math_isa_find(atoi(argv[i + 1]));
        else
            return usage();
    }
    if (!isa || stride < 1 || count < 1)
        return usage();
    for (int f = 0; f < MATH_COUNT; f++)
        if (!only || !strcmp(only, math_names[f]))
            run(argv[1], isa, f, stride, count);
    return 0;
}
