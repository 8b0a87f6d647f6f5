/* SPDX-License-Identifier: MIT */
/*
 * test_math.c - src/codegen/math.h against the C library and against itself.
 *
 * Every instruction set this CPU has must give the same bits; one of them (the widest) is held
 * against the C library in the next larger type, within the bounds that docs/math.md documents.
 * tools/measure_math.c is the thorough version of this test.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "math_isa.h"

enum { BLOCK = 1024, LAST = MATH_POW };

/* Worst errors in ulp as docs/math.md has them, rounded up. */
static const struct {
    double f32, f64;
    double (*ref)(double);
    long double (*refl)(long double);
    double lo, hi;
} funcs[LAST + 1] = {
    [MATH_EXP] = {1.0, 1.0, exp, expl, -746, 710},
    [MATH_EXPM1] = {1.1, 1.2, expm1, expm1l, -40, 710},
    [MATH_LOG] = {0.85, 0.9, log, logl, 0, 4},
    [MATH_LOG1P] = {0.85, 0.9, log1p, log1pl, -1, 4},
    [MATH_SIN] = {0.8, 0.8, sin, sinl, -100, 100},
    [MATH_COS] = {0.8, 0.8, cos, cosl, -100, 100},
    [MATH_TANH] = {1.35, 1.4, tanh, tanhl, -20, 20},
    [MATH_ERF] = {1.0, 1.1, erf, erfl, -6, 6},
    [MATH_ERFC] = {0.51, 1.8, erfc, erfcl, -6, 27},
    [MATH_POW] = {0.52, 0.8, NULL, NULL, 0, 8},
};

static const math_isa *widest(void)
{
    for (int bytes = 64; bytes > 16; bytes /= 2)
        if (math_isa_find(bytes))
            return math_isa_find(bytes);
    return math_isa_find(16);
}

static uint64_t state;

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

static double any_f64(void)
{
    uint64_t u = next();
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

static double draw(int f)
{
    switch (next() % 4) {
    case 0:
        return any_f64();
    case 1:
        return ldexp(uniform(-2, 2), (int)(next() % 40) - 36);
    default:
        return uniform(funcs[f > LAST ? LAST : f].lo, funcs[f > LAST ? LAST : f].hi);
    }
}

/* A power that mostly leaves x^y finite. */
static double draw_power(double x)
{
    double l = fabs(log(fabs(x)));
    double limit = l > 0 && l < 800 ? 740 / l : 740;

    return next() % 8 == 0 ? (double)(next() % 9) - 4 : uniform(-limit, limit);
}

/* |y - ref| in units of the last place of a format of so many bits and least exponent. */
static double ulps(long double y, long double ref, int bits, int emin, int emax)
{
    int e;

    if (isnan(y) || isnan(ref))
        return isnan(y) && isnan(ref) ? 0 : INFINITY;
    if (isinf(y))
        y = copysignl(ldexpl(1, emax), y);
    if (fabsl(ref) > ldexpl(1, emax))
        ref = copysignl(ldexpl(1, emax), ref);
    if (y == ref)
        return y == 0 && signbit(y) != signbit(ref) ? INFINITY : 0;
    e = ref == 0 ? emin : ilogbl(ref);
    return (double)ldexpl(fabsl(y - ref), bits - 1 - (e < emin ? emin : e >= emax ? emax - 1 : e));
}

/* ---- Accuracy ----------------------------------------------------------------------------- */

static void check_block_f32(int f, const float *x, const float *y, int n, double *worst)
{
    float z[BLOCK];

    widest()->f32[f](x, y, z, n);
    for (int i = 0; i < n; i++) {
        double ref = f == MATH_POW ? pow(x[i], y[i]) : funcs[f].ref(x[i]);
        double u = ulps(z[i], ref, 24, -126, 128);

        if (!(u <= funcs[f].f32))
            ck_abort_msg("%s of %a, %a: %a is %.3f ulp from %a", math_names[f], x[i], y[i], z[i],
                         u, ref);
        *worst = fmax(*worst, u);
    }
}

/* Floats evenly over all 2^32 patterns: every exponent, both signs, NaN and infinity. */
START_TEST(f32_is_within_bound)
{
    enum { STRIDE = 1009 };
    float x[BLOCK], y[BLOCK];
    double worst = 0;
    uint64_t u = 0;

    state = 1;
    while (u < 1ull << 32) {
        int n = 0;

        for (; n < BLOCK && u < 1ull << 32; n++, u += STRIDE) {
            x[n] = _i == MATH_POW ? (float)draw(_i) : f32_of((uint32_t)u);
            y[n] = _i == MATH_POW ? (float)(draw_power(x[n]) / 7) : 0;
        }
        check_block_f32(_i, x, y, n, &worst);
    }
    printf("%-6s f32  worst %.4f ulp, bound %.2f\n", math_names[_i], worst, funcs[_i].f32);
}
END_TEST

START_TEST(f64_is_within_bound)
{
    double x[BLOCK], y[BLOCK], z[BLOCK], worst = 0;

    state = 2;
    for (int block = 0; block < 300; block++) {
        for (int i = 0; i < BLOCK; i++) {
            x[i] = draw(_i);
            y[i] = draw_power(x[i]);
        }
        widest()->f64[_i](x, y, z, BLOCK);
        for (int i = 0; i < BLOCK; i++) {
            long double ref = _i == MATH_POW ? powl(x[i], y[i]) : funcs[_i].refl(x[i]);
            double u = ulps(z[i], ref, 53, -1022, 1024);

            if (!(u <= funcs[_i].f64))
                ck_abort_msg("%s of %a, %a: %a is %.3f ulp from %La", math_names[_i], x[i], y[i],
                             z[i], u, ref);
            worst = fmax(worst, u);
        }
    }
    printf("%-6s f64  worst %.4f ulp, bound %.2f\n", math_names[_i], worst, funcs[_i].f64);
}
END_TEST

/* ---- Special values ----------------------------------------------------------------------- */

#define INF INFINITY
#define MIN32 0x1p-149
#define MIN64 0x1p-1074

/* Results that both types must have exactly; y is for pow alone. */
static const struct {
    int f;
    double x, y, want;
} specials[] = {
    {MATH_EXP, 0.0, 0, 1},
    {MATH_EXP, -0.0, 0, 1},
    {MATH_EXP, INF, 0, INF},
    {MATH_EXP, -INF, 0, 0},
    {MATH_EXP, NAN, 0, NAN},
    {MATH_EXP, 1e30, 0, INF},
    {MATH_EXP, -1e30, 0, 0},
    {MATH_EXPM1, 0.0, 0, 0.0},
    {MATH_EXPM1, -0.0, 0, -0.0},
    {MATH_EXPM1, INF, 0, INF},
    {MATH_EXPM1, -INF, 0, -1},
    {MATH_EXPM1, -1e30, 0, -1},
    {MATH_EXPM1, 1e30, 0, INF},
    {MATH_EXPM1, NAN, 0, NAN},
    {MATH_EXPM1, MIN32, 0, MIN32},
    {MATH_EXPM1, -MIN32, 0, -MIN32},
    {MATH_LOG, 1, 0, 0.0},
    {MATH_LOG, 0.0, 0, -INF},
    {MATH_LOG, -0.0, 0, -INF},
    {MATH_LOG, -1, 0, NAN},
    {MATH_LOG, -MIN32, 0, NAN},
    {MATH_LOG, -INF, 0, NAN},
    {MATH_LOG, INF, 0, INF},
    {MATH_LOG, NAN, 0, NAN},
    {MATH_LOG1P, 0.0, 0, 0.0},
    {MATH_LOG1P, -0.0, 0, -0.0},
    {MATH_LOG1P, -1, 0, -INF},
    {MATH_LOG1P, -1.5, 0, NAN},
    {MATH_LOG1P, -INF, 0, NAN},
    {MATH_LOG1P, INF, 0, INF},
    {MATH_LOG1P, NAN, 0, NAN},
    {MATH_LOG1P, MIN32, 0, MIN32},
    {MATH_LOG1P, -MIN32, 0, -MIN32},
    {MATH_SIN, 0.0, 0, 0.0},
    {MATH_SIN, -0.0, 0, -0.0},
    {MATH_SIN, INF, 0, NAN},
    {MATH_SIN, -INF, 0, NAN},
    {MATH_SIN, NAN, 0, NAN},
    {MATH_SIN, MIN32, 0, MIN32},
    {MATH_COS, 0.0, 0, 1},
    {MATH_COS, -0.0, 0, 1},
    {MATH_COS, INF, 0, NAN},
    {MATH_COS, -INF, 0, NAN},
    {MATH_COS, NAN, 0, NAN},
    {MATH_COS, MIN32, 0, 1},
    {MATH_TANH, 0.0, 0, 0.0},
    {MATH_TANH, -0.0, 0, -0.0},
    {MATH_TANH, INF, 0, 1},
    {MATH_TANH, -INF, 0, -1},
    {MATH_TANH, 25, 0, 1},
    {MATH_TANH, -1e30, 0, -1},
    {MATH_TANH, NAN, 0, NAN},
    {MATH_TANH, MIN32, 0, MIN32},
    {MATH_ERF, 0.0, 0, 0.0},
    {MATH_ERF, -0.0, 0, -0.0},
    {MATH_ERF, INF, 0, 1},
    {MATH_ERF, -INF, 0, -1},
    {MATH_ERF, 7, 0, 1},
    {MATH_ERF, -1e30, 0, -1},
    {MATH_ERF, NAN, 0, NAN},
    {MATH_ERFC, 0.0, 0, 1},
    {MATH_ERFC, -0.0, 0, 1},
    {MATH_ERFC, INF, 0, 0.0},
    {MATH_ERFC, -INF, 0, 2},
    {MATH_ERFC, 1e30, 0, 0.0},
    {MATH_ERFC, -8, 0, 2},
    {MATH_ERFC, NAN, 0, NAN},
    {MATH_POW, 2, 0.0, 1},
    {MATH_POW, NAN, 0.0, 1},
    {MATH_POW, NAN, -0.0, 1},
    {MATH_POW, INF, 0.0, 1},
    {MATH_POW, 0.0, 0.0, 1},
    {MATH_POW, -0.0, -0.0, 1},
    {MATH_POW, 1, NAN, 1},
    {MATH_POW, 1, INF, 1},
    {MATH_POW, 1, -INF, 1},
    {MATH_POW, -1, INF, 1},
    {MATH_POW, -1, -INF, 1},
    {MATH_POW, -1, NAN, NAN},
    {MATH_POW, 2, NAN, NAN},
    {MATH_POW, NAN, 1, NAN},
    {MATH_POW, 0.0, NAN, NAN},
    {MATH_POW, INF, NAN, NAN},
    {MATH_POW, 0.0, 3, 0.0},
    {MATH_POW, -0.0, 3, -0.0},
    {MATH_POW, 0.0, 2, 0.0},
    {MATH_POW, -0.0, 2, 0.0},
    {MATH_POW, -0.0, 0.5, 0.0},
    {MATH_POW, 0.0, -3, INF},
    {MATH_POW, -0.0, -3, -INF},
    {MATH_POW, -0.0, -2, INF},
    {MATH_POW, -0.0, -0.5, INF},
    {MATH_POW, 0.0, INF, 0.0},
    {MATH_POW, 0.0, -INF, INF},
    {MATH_POW, -0.0, -INF, INF},
    {MATH_POW, 0.0, MIN32, 0.0},
    {MATH_POW, 0.5, INF, 0.0},
    {MATH_POW, 0.5, -INF, INF},
    {MATH_POW, -0.5, INF, 0.0},
    {MATH_POW, -0.5, -INF, INF},
    {MATH_POW, 2, INF, INF},
    {MATH_POW, 2, -INF, 0.0},
    {MATH_POW, -2, INF, INF},
    {MATH_POW, -2, -INF, 0.0},
    {MATH_POW, INF, 2, INF},
    {MATH_POW, INF, -2, 0.0},
    {MATH_POW, INF, MIN32, INF},
    {MATH_POW, INF, INF, INF},
    {MATH_POW, INF, -INF, 0.0},
    {MATH_POW, -INF, 3, -INF},
    {MATH_POW, -INF, 2, INF},
    {MATH_POW, -INF, 0.5, INF},
    {MATH_POW, -INF, -3, -0.0},
    {MATH_POW, -INF, -2, 0.0},
    {MATH_POW, -INF, -0.5, 0.0},
    {MATH_POW, -INF, INF, INF},
    {MATH_POW, -2, 0.5, NAN},
    {MATH_POW, -2, -1.5, NAN},
    {MATH_POW, -2, 3, -8},
    {MATH_POW, -2, 2, 4},
    {MATH_POW, -2, -1, -0.5},
    {MATH_POW, 2, 1e30, INF},
    {MATH_POW, -2, 1e30, INF},
    {MATH_POW, 2, -1e30, 0.0},
    {MATH_POW, 3, 4, 81},
    {MATH_POW, 9, 0.5, 3},
    {MATH_POW, 2, -149, MIN32},
    {MATH_SQRT, -0.0, 0, -0.0},
    {MATH_SQRT, -1, 0, NAN},
    {MATH_SQRT, INF, 0, INF},
    {MATH_MAX, -0.0, 0.0, 0.0},
    {MATH_MAX, 0.0, -0.0, 0.0},
    {MATH_MAX, -0.0, -0.0, -0.0},
    {MATH_MAX, NAN, 1, NAN},
    {MATH_MAX, 1, NAN, NAN},
    {MATH_MAX, -INF, 1, 1},
    {MATH_MAX, 2, 1, 2},
    {MATH_MIN, -0.0, 0.0, -0.0},
    {MATH_MIN, 0.0, -0.0, -0.0},
    {MATH_MIN, 0.0, 0.0, 0.0},
    {MATH_MIN, NAN, 1, NAN},
    {MATH_MIN, 1, NAN, NAN},
    {MATH_MIN, INF, 1, 1},
    {MATH_MIN, 2, 1, 1},
    {MATH_RINT, 2.5, 0, 2},
    {MATH_RINT, -0.5, 0, -0.0},
    {MATH_RINT, 1.5, 0, 2},
    {MATH_FLOOR, -0.0, 0, -0.0},
    {MATH_FLOOR, -0.25, 0, -1},
    {MATH_CEIL, -0.25, 0, -0.0},
    {MATH_TRUNC, -0.75, 0, -0.0},
};

static int same(double a, double b)
{
    return isnan(a) || isnan(b) ? isnan(a) && isnan(b) : a == b && signbit(a) == signbit(b);
}

/* The double subnormals, which a float cannot hold. */
static void check_tiny_f64(const math_isa *isa)
{
    static const int odd[] = {MATH_EXPM1, MATH_LOG1P, MATH_SIN, MATH_TANH};
    double x[2] = {MIN64, -3 * MIN64}, y[2] = {-1074, 2}, z[2];

    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        isa->f64[odd[i]](x, x, z, 2);
        ck_assert_msg(z[0] == x[0] && z[1] == x[1], "%s keeps subnormals", math_names[odd[i]]);
    }
    x[0] = 2;
    isa->f64[MATH_POW](x, y, z, 1);
    ck_assert_msg(z[0] == MIN64, "2^-1074 is %a", z[0]);
    x[0] = -745.0;
    isa->f64[MATH_EXP](x, x, z, 1);
    ck_assert_msg(z[0] == MIN64, "exp(-745) is %a", z[0]);
}

START_TEST(special_values_are_exact)
{
    const math_isa *isa = math_isa_find(16 << _i);

    if (!isa)
        return;
    for (size_t i = 0; i < sizeof specials / sizeof *specials; i++) {
        double x = specials[i].x, y = specials[i].y, z, want = specials[i].want;
        float xf = (float)x, yf = (float)y, zf;

        isa->f32[specials[i].f](&xf, &yf, &zf, 1);
        isa->f64[specials[i].f](&x, &y, &z, 1);
        ck_assert_msg(same(zf, want), "%s f32 %s of %a, %a is %a and not %a", isa->name,
                      math_names[specials[i].f], x, y, zf, want);
        ck_assert_msg(same(z, want), "%s f64 %s of %a, %a is %a and not %a", isa->name,
                      math_names[specials[i].f], x, y, z, want);
    }
    check_tiny_f64(isa);
}
END_TEST

/* ---- Primitives --------------------------------------------------------------------------- */

static double primitive(int f, double x, double y, int single)
{
    switch (f) {
    case MATH_SQRT:
        return single ? sqrtf((float)x) : sqrt(x);
    case MATH_RINT:
        return nearbyint(x);
    case MATH_FLOOR:
        return floor(x);
    case MATH_CEIL:
        return ceil(x);
    case MATH_TRUNC:
        return trunc(x);
    case MATH_ABS:
        return fabs(x);
    case MATH_MAX:
        return isnan(x) || isnan(y) ? NAN : fmax(x, y);
    case MATH_MIN:
        return isnan(x) || isnan(y) ? NAN : fmin(x, y);
    case MATH_COPYSIGN:
        return copysign(x, y);
    default:
        return single ? fmaf((float)x, (float)y, (float)x) : fma(x, y, x);
    }
}

static void check_primitive(const math_isa *isa, int f)
{
    state = 3;
    for (int i = 0; i < 100000; i++) {
        double x = i & 1 ? any_f64() : uniform(-9, 9), y = uniform(-9, 9), z;
        float xf = i & 1 ? f32_of((uint32_t)next()) : (float)x, yf = (float)y, zf;

        isa->f64[f](&x, &y, &z, 1);
        isa->f32[f](&xf, &yf, &zf, 1);
        if (!same(z, primitive(f, x, y, 0)))
            ck_abort_msg("%s f64 %s of %a, %a is %a", isa->name, math_names[f], x, y, z);
        if (!same(zf, primitive(f, xf, yf, 1)))
            ck_abort_msg("%s f32 %s of %a, %a is %a", isa->name, math_names[f], xf, yf, zf);
    }
}

START_TEST(primitives_are_exact)
{
    for (int bytes = 16; bytes <= 64; bytes *= 2)
        if (math_isa_find(bytes))
            check_primitive(math_isa_find(bytes), _i);
}
END_TEST

/* ---- The same bits everywhere ------------------------------------------------------------- */

static void inputs(int f, int block, float *x, float *y, double *xd, double *yd)
{
    for (int i = 0; i < BLOCK; i++) {
        x[i] = f32_of((uint32_t)(block * BLOCK + i) * 9973u);
        xd[i] = draw(f);
        yd[i] = draw_power(i & 1 ? xd[i] : x[i]);
        y[i] = (float)yd[i];
    }
}

static void compare(const math_isa *a, const math_isa *b, int f, int block)
{
    static float x[BLOCK], y[BLOCK], z[2][BLOCK];
    static double xd[BLOCK], yd[BLOCK], zd[2][BLOCK];

    inputs(f, block, x, y, xd, yd);
    a->f32[f](x, y, z[0], BLOCK);
    b->f32[f](x, y, z[1], BLOCK);
    a->f64[f](xd, yd, zd[0], BLOCK);
    b->f64[f](xd, yd, zd[1], BLOCK);
    for (int i = 0; i < BLOCK; i++) {
        if (!same(z[0][i], z[1][i]))
            ck_abort_msg("%s f32 of %a, %a: %s %a, %s %a", math_names[f], x[i], y[i], a->name,
                         z[0][i], b->name, z[1][i]);
        if (!same(zd[0][i], zd[1][i]))
            ck_abort_msg("%s f64 of %a, %a: %s %a, %s %a", math_names[f], xd[i], yd[i], a->name,
                         zd[0][i], b->name, zd[1][i]);
    }
}

START_TEST(instruction_sets_agree)
{
    const math_isa *isa = math_isa_find(16 << _i);

    if (!isa) {
        printf("%d-byte vectors: not on this CPU, not compared\n", 16 << _i);
        return;
    }
    for (int f = 0; f < MATH_COUNT; f++) {
        state = 4;
        for (int block = 0; block < 100; block++)
            compare(math_isa_find(16), isa, f, block);
    }
    printf("%s: same bits as sse2, %d functions, %d inputs each\n", isa->name, MATH_COUNT,
           100 * BLOCK);
}
END_TEST

/* A lane's result may not depend on the others: one at a time gives what all together give. */
START_TEST(lanes_are_independent)
{
    static float x[BLOCK], y[BLOCK], z[BLOCK], one;
    static double xd[BLOCK], yd[BLOCK], zd[BLOCK], oned;
    const math_isa *isa = widest();

    state = 5;
    for (int block = 0; block < 20; block++) {
        inputs(_i, block * 401, x, y, xd, yd);
        isa->f32[_i](x, y, z, BLOCK);
        isa->f64[_i](xd, yd, zd, BLOCK);
        for (int i = 0; i < BLOCK; i++) {
            isa->f32[_i](x + i, y + i, &one, 1);
            isa->f64[_i](xd + i, yd + i, &oned, 1);
            if (!same(one, z[i]) || !same(oned, zd[i]))
                ck_abort_msg("%s depends on its neighbours at %a or %a", math_names[_i], x[i],
                             xd[i]);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("math");
    TCase *tests = tcase_create("math");
    SRunner *runner;
    int failed;

    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, f32_is_within_bound, 0, LAST + 1);
    tcase_add_loop_test(tests, f64_is_within_bound, 0, LAST + 1);
    tcase_add_loop_test(tests, special_values_are_exact, 0, 3);
    tcase_add_loop_test(tests, primitives_are_exact, MATH_SQRT, MATH_COUNT);
    tcase_add_loop_test(tests, instruction_sets_agree, 1, 3);
    tcase_add_loop_test(tests, lanes_are_independent, 0, MATH_COUNT);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
