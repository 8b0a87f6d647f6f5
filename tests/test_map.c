/* test_map.c - the map language and the loops that run it.
 *
 * The parser: values, precedence, typing, errors with their columns, and noise.  The loops: every
 * code, dtype, size and layout against a scalar evaluation, on every table of this processor, with
 * buffers that are exactly as large as they must be (so a sanitizer sees a byte too many).
 *
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* posix_memalign, setenv */
#endif
#include <check.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "exec/loops.h"

/* ---- the parser ----------------------------------------------------------------------------- */

/* dtypes by a letter each: f d i l u b */
static niz_dtype dtype_of(char letter)
{
    const char *letters = "fdilub";
    return (niz_dtype)(strchr(letters, letter) - letters);
}

/* Parses text with the operands' and, last, the result's dtype given as letters: "ff" is one
 * operand of f32 giving f32. */
static bool parse(const char *text, const char *types, niz_map *map, char error[256])
{
    niz_dtype in[4] = {NIZ_F32};
    int n = (int)strlen(types) - 1;
    for (int i = 0; i < n; i++) in[i] = dtype_of(types[i]);
    return niz_map_parse(text, n, in, dtype_of(types[n]), map, error, 256);
}

static void parses(const char *text, const char *types, const char *expected)
{
    niz_map map;
    char error[256], printed[4096];
    ck_assert_msg(parse(text, types, &map, error), "%s: %s", text, error);
    niz_map_print(&map, printed, sizeof printed);
    ck_assert_str_eq(printed, expected);
}

static void refuses(const char *text, const char *types, const char *expected)
{
    niz_map map;
    char error[256];
    ck_assert_msg(!parse(text, types, &map, error), "%s is accepted", text ? text : "NULL");
    ck_assert_msg(strstr(error, expected) != NULL, "%s: says \"%s\", not \"%s\"",
                  text ? text : "NULL", error, expected);
}

START_TEST(test_values)
{
    parses("a / (1 + EXP(-a))", "ff",
           "%1 = const.f32 1\n%2 = neg.f32 %0\n%3 = exp.f32 %2\n%4 = add.f32 %1 %3\n"
           "%5 = div.f32 %0 %4\n");
    parses("a", "ff", "%0\n");
    parses("a*a", "dd", "%1 = mul.f64 %0 %0\n");
    parses("SQRT(a)", "ff", "%1 = sqrt.f32 %0\n");
}
END_TEST

START_TEST(test_operand_alone)
{
    niz_map map;
    char error[256];
    ck_assert(parse(" b ", "dff", &map, error));
    ck_assert_int_eq(map.n, 0);
    ck_assert_int_eq(map.result, 1);
    ck_assert(parse("2", "f", &map, error));
    ck_assert_int_eq(map.n, 1);
    ck_assert_int_eq(map.result, 0);
}
END_TEST

START_TEST(test_precedence)
{
    parses("a+b*c", "ffff", "%3 = mul.f32 %1 %2\n%4 = add.f32 %0 %3\n");
    parses("a-b-c", "ffff", "%3 = sub.f32 %0 %1\n%4 = sub.f32 %3 %2\n");
    parses("a/b*c", "dddd", "%3 = div.f64 %0 %1\n%4 = mul.f64 %3 %2\n");
    parses("-a*b", "fff", "%2 = neg.f32 %0\n%3 = mul.f32 %2 %1\n");
    parses("a-b < c", "iiib", "%3 = sub.i32 %0 %1\n%4 = lt.i32 %3 %2\n");
}
END_TEST

START_TEST(test_logic)
{
    parses("a || b && !c", "bbbb", "%3 = not.bool %2\n%4 = and.bool %1 %3\n%5 = or.bool %0 %4\n");
    parses("a < b + 1 ? a : b > 0 ? b : 0", "iii",
           "%2 = const.i32 1\n%3 = add.i32 %1 %2\n%4 = lt.i32 %0 %3\n%5 = const.i32 0\n"
           "%6 = gt.i32 %1 %5\n%7 = select.i32 %6 %1 %5\n%8 = select.i32 %4 %0 %7\n");
}
END_TEST

START_TEST(test_equal_subexpressions_are_one)
{
    parses("(a+b)*(a+b) + 2*(a+b) - 2", "fff",
           "%2 = add.f32 %0 %1\n%3 = mul.f32 %2 %2\n%4 = const.f32 2\n%5 = mul.f32 %4 %2\n"
           "%6 = add.f32 %3 %5\n%7 = sub.f32 %6 %4\n");
    parses("a*0 + a*-0", "ff", /* +0 and -0 are two numbers */
           "%1 = const.f32 0\n%2 = mul.f32 %0 %1\n%3 = const.f32 -0\n%4 = mul.f32 %0 %3\n"
           "%5 = add.f32 %2 %4\n");
}
END_TEST

START_TEST(test_numbers_take_a_dtype)
{
    parses("(a > 0 ? 1 : 0) * b", "fdd",
           "%2 = const.f32 0\n%3 = gt.f32 %0 %2\n%4 = const.f64 1\n%5 = const.f64 0\n"
           "%6 = select.f64 %3 %4 %5\n%7 = mul.f64 %6 %1\n");
    parses("1 < 2 ? a : 1.5", "ff",
           "%1 = const.f32 1\n%2 = const.f32 2\n%3 = lt.f32 %1 %2\n%4 = const.f32 1.5\n"
           "%5 = select.f32 %3 %0 %4\n");
    parses("CAST(a) * 0.5", "if", "%1 = cast.i32.f32 %0\n%2 = const.f32 0.5\n%3 = mul.f32 %1 %2\n");
    parses("CAST(a)", "ff", "%0\n");
    parses("a == 255", "ub", "%1 = const.u8 255\n%2 = eq.u8 %0 %1\n");
    parses("a * 0.1", "ff", "%1 = const.f32 0.10000000149011612\n%2 = mul.f32 %0 %1\n");
}
END_TEST

START_TEST(test_refusals)
{
    refuses(NULL, "ff", "column 1: expected an operand");
    refuses("", "ff", "column 1");
    refuses("a +", "ff", "column 4: expected an operand, a number, a function or '(', the text");
    refuses("a b", "fff", "column 3: expected an operator or the end, found 'b'");
    refuses("(a", "ff", "column 3: expected ')'");
    refuses("a)", "ff", "column 2");
    refuses("b + a", "ff", "column 1: there is no operand b");
    refuses("a + exp(a)", "ff", "column 5: unknown name exp");
    refuses("a + MAX(a)", "ff", "column 10: expected ','");
    refuses("MAX(a, a, a)", "ff", "column 9: expected ')'");
    refuses("a + ADD(a)", "ff", "column 5: unknown name ADD");
    refuses("a < a < a", "fb", "column 7: comparisons do not chain");
    refuses("a + \x80", "ff", "column 5: expected an operand");
    refuses("a + \x80", "ff", "found byte 0x80");
    refuses("a ? a : a", "ff", "column 3: select does not take f32");
    refuses("a + .", "ff", "column 5: a number without digits");
    refuses("a + 1e999", "ff", "column 5: the number is too large");
    refuses("a = a", "fb", "column 3");
}
END_TEST

START_TEST(test_type_refusals)
{
    refuses("a + b", "fif", "column 3: the operands are f32 and i32");
    refuses("a + 0.5", "ii", "column 5: a fraction as a number of dtype i32");
    refuses("a + 3000000000", "ii", "column 5: the number is out of the range of i32");
    refuses("a == 256", "ub", "out of the range of u8");
    refuses("a + 9007199254740994", "ll", "out of the range of i64");
    refuses("a * 1e39", "ff", "column 5: the number is too large for f32");
    refuses("a % b", "fff", "column 3: mod does not take f32");
    refuses("a + b", "bbb", "column 3: add does not take bool");
    refuses("a + b", "uuu", "column 3: add does not take u8");
    refuses("a < b", "bbb", "column 3: lt does not take bool");
    refuses("EXP(a)", "ii", "column 1: exp does not take i32");
    refuses("!a", "fb", "column 1: not does not take f32");
    refuses("a < 1", "ff", "column 3: the expression is bool, the result f32");
    refuses("1 < 2", "b", "column 3: two numbers of no dtype");
    refuses("a", "fd", "column 1: the expression is f32, the result f64");
}
END_TEST

START_TEST(test_bounds)
{
    char text[4000];
    memset(text, '(', 3000);
    strcpy(text + 3000, "a");
    refuses(text, "ff", "nested too deeply");
    memset(text, '-', 3000);
    refuses(text, "ff", "nested too deeply");
    for (int i = 0; i < 999; i++) memcpy(text + 4 * i, "a?a:", 5);
    refuses(text, "bb", "nested too deeply");
    for (int i = 0; i < 999; i++) memcpy(text + 2 * i, "a+", 3);
    strcat(text, "a");
    refuses(text, "ff", "the expression is too long");
    for (int i = 0; i < 70; i++) memcpy(text + 2 * i, "a+", 3);
    strcat(text, "a");
    refuses(text, "ff", "more than 64 operations");
    memset(text, '1', 100);
    text[100] = 0;
    refuses(text, "ff", "more than 64 digits");
}
END_TEST

START_TEST(test_arguments)
{
    niz_map map;
    niz_dtype in[5] = {NIZ_F32, NIZ_F32, NIZ_F32, NIZ_F32, NIZ_F32};
    char error[8] = "";
    ck_assert(!niz_map_parse("a", 5, in, NIZ_F32, &map, NULL, 0));
    ck_assert(!niz_map_parse("a", 1, in, (niz_dtype)99, &map, error, 1));
    ck_assert(!niz_map_parse("+", 1, in, NIZ_F32, &map, error, sizeof error));
    ck_assert_str_eq(error, "column ");
    ck_assert_int_eq(niz_map_arity(NIZ_MAP_FMA), 3);
    ck_assert_str_eq(niz_map_code_name(NIZ_MAP_LOG1P), "log1p");
    ck_assert(niz_map_parse("a + 1", 1, in, NIZ_F32, &map, error, sizeof error));
    char small[10];
    niz_map_print(&map, small, sizeof small);
    ck_assert_int_eq((int)strlen(small), 9);
}
END_TEST

/* Numbers are read exactly, also where the decimal point is a comma. */
START_TEST(test_number_bits)
{
    static const struct {
        const char *text;
        double value;
    } known[] = {{"0.1", 0.1},
                 {"0.7071067811865476", 0.7071067811865476},
                 {"1e-320", 1e-320},
                 {"123456789012345678901234567890.5e-10", 12345678901234567890.123456789},
                 {".5", .5},
                 {"2.", 2},
                 {"1.5E+3", 1500},
                 {"1e-99999999", 0},
                 {"3.141592653589793238462643383279502884197", 3.141592653589793}};
    const char *old = setlocale(LC_NUMERIC, NULL);
    for (int german = 0; german < 2; german++) {
        if (german && !setlocale(LC_NUMERIC, "de_DE.UTF-8")) break;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            niz_map map;
            char error[256];
            ck_assert_msg(parse(known[i].text, "d", &map, error), "%s", error);
            ck_assert_msg(map.instr[0].value == known[i].value, "%s", known[i].text);
        }
        parses("a + 0.25", "ff", "%1 = const.f32 0.25\n%2 = add.f32 %0 %1\n");
    }
    setlocale(LC_NUMERIC, old);
}
END_TEST

static uint64_t random_state = 1;
static uint32_t draw(uint32_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 32) * below >> 32);
}

/* Whatever was accepted is well formed; whatever was not says where. */
static void survives(const char *text)
{
    niz_map map;
    char error[256], printed[8192];
    const char *all[] = {"fff", "ddd", "iii", "llb", "bbb", "uub", "fif", "f"};
    if (!parse(text, all[draw(8)], &map, error)) {
        int column = 0;
        ck_assert_int_eq(sscanf(error, "column %d: ", &column), 1);
        ck_assert_int_ge(column, 1);
        ck_assert_int_le(column, (int)strlen(text) + 1);
        return;
    }
    for (int i = 0; i < map.n; i++) {
        for (int k = 0; k < 3; k++) ck_assert_int_lt(map.instr[i].x[k], map.n_in + i + 1);
        ck_assert_int_lt(map.instr[i].slot, map.n_slots);
    }
    ck_assert_int_eq(map.result, map.n ? map.n_in + map.n - 1 : map.result);
    niz_map_print(&map, printed, sizeof printed);
}

static const char *const real_texts[] = {
    "a / (1 + EXP(-a))", "0.5*a*(1+ERF(a*0.7071067811865476))",
    "a > b ? a : b > 0 && !(a == b) ? CAST(a) : 1e-3", "FMA(a, b, MAX(a, b)) % 3",
    "a < 0 || a >= 1 ? LOG1P(ABS(a)) : POW(b, 2.5e+1)"};

START_TEST(test_noise)
{
    static const char *const tokens[] = {
        "a",  "b",  "(", ")", "+", "-", "*",   "/",   "%", "<",    "<=",   "==",    "!",    "!=",
        "&&", "||", "?", ":", ",", "1", "0.5", "1e9", ".", "MAX(", "EXP(", "CAST(", "FMA(", " ",
        "e",  "&",  "=", "\xff"};
    for (int i = 0; i < 100000; i++) {
        char text[256] = "";
        for (uint32_t k = 0, n = draw(i % 4 ? 12 : 40); k < n; k++) {
            char byte[2] = {(char)draw(256), 0};
            strcat(text, draw(20) ? tokens[draw(sizeof tokens / sizeof tokens[0])] : byte);
        }
        survives(text);
    }
}
END_TEST

START_TEST(test_truncations)
{
    for (size_t i = 0; i < sizeof real_texts / sizeof real_texts[0]; i++)
        for (size_t n = 0; n <= strlen(real_texts[i]); n++) {
            char *text = calloc(n + 1, 1);
            memcpy(text, real_texts[i], n);
            for (int k = 0; k < 20; k++) survives(text);
            for (size_t k = 0; k < n; k++) {
                char was = text[k];
                text[k] = (char)draw(256);
                survives(text);
                text[k] = was;
            }
            free(text);
        }
}
END_TEST

/* ---- a scalar evaluation -------------------------------------------------------------------- */

/* A value: floats (f32 too) in f, the others in i. */
typedef struct value {
    double f;
    int64_t i;
} value;

static bool is_float(int d)
{
    return d == NIZ_F32 || d == NIZ_F64;
}

/* v as an integer of dtype d: wraps. */
static int64_t wrap(int d, int64_t v)
{
    if (d == NIZ_I32) return (int32_t)(uint32_t)(uint64_t)v;
    return d == NIZ_U8 ? (int64_t)((uint64_t)v & 255) : v;
}

static value load(int d, const void *p, int64_t i)
{
    value v = {0, 0};
    switch (d) {
    case NIZ_F32: v.f = (double)((const float *)p)[i]; break;
    case NIZ_F64: v.f = ((const double *)p)[i]; break;
    case NIZ_I32: v.i = ((const int32_t *)p)[i]; break;
    case NIZ_I64: v.i = ((const int64_t *)p)[i]; break;
    default: v.i = ((const uint8_t *)p)[i]; break;
    }
    return v;
}

static void store(int d, void *p, int64_t i, value v)
{
    switch (d) {
    case NIZ_F32: ((float *)p)[i] = (float)v.f; break;
    case NIZ_F64: ((double *)p)[i] = v.f; break;
    case NIZ_I32: ((int32_t *)p)[i] = (int32_t)v.i; break;
    case NIZ_I64: ((int64_t *)p)[i] = v.i; break;
    default: ((uint8_t *)p)[i] = (uint8_t)v.i; break;
    }
}

static int64_t saturate(double v, double least, double most, int64_t bottom, int64_t top)
{
    if (isnan(v)) return 0;
    return v <= least ? bottom : v >= most ? top : (int64_t)v;
}

static value cast(int from, int to, value v)
{
    value r = {0, 0};
    if (to == NIZ_F32) r.f = is_float(from) ? (double)(float)v.f : (double)(float)v.i;
    if (to == NIZ_F64) r.f = is_float(from) ? v.f : (double)v.i;
    if (to == NIZ_BOOL) r.i = is_float(from) ? v.f != 0 : v.i != 0;
    if (to == NIZ_I32 || to == NIZ_I64 || to == NIZ_U8) r.i = wrap(to, v.i);
    if (!is_float(from)) return r;
    if (to == NIZ_I32) r.i = saturate(v.f, -0x1p31, 0x1p31, INT32_MIN, INT32_MAX);
    if (to == NIZ_I64) r.i = saturate(v.f, -0x1p63, 0x1p63, INT64_MIN, INT64_MAX);
    if (to == NIZ_U8) r.i = saturate(v.f, 0, 255, 0, 255);
    return r;
}

static double float_max(double a, double b)
{
    if (isnan(a) || isnan(b)) return NAN;
    if (a == b) return signbit(a) ? b : a;
    return a > b ? a : b;
}

static double float_op(int code, int d, double a, double b, double c)
{
    switch (code) {
    case NIZ_MAP_NEG: return -a;
    case NIZ_MAP_ADD: return a + b;
    case NIZ_MAP_SUB: return a - b;
    case NIZ_MAP_MUL: return a * b;
    case NIZ_MAP_DIV: return a / b;
    case NIZ_MAP_ABS: return fabs(a);
    case NIZ_MAP_SIGN: return a == 0 || isnan(a) ? a : a > 0 ? 1 : -1;
    case NIZ_MAP_MAX: return float_max(a, b);
    case NIZ_MAP_MIN: return -float_max(-a, -b);
    case NIZ_MAP_SQRT: return sqrt(a);
    case NIZ_MAP_FLOOR: return floor(a);
    case NIZ_MAP_CEIL: return ceil(a);
    case NIZ_MAP_ROUND: return nearbyint(a);
    case NIZ_MAP_TRUNC: return trunc(a);
    case NIZ_MAP_FMA:
        return d == NIZ_F32 ? (double)fmaf((float)a, (float)b, (float)c) : fma(a, b, c);
    case NIZ_MAP_EXP: return exp(a);
    case NIZ_MAP_EXPM1: return expm1(a);
    case NIZ_MAP_LOG: return log(a);
    case NIZ_MAP_LOG1P: return log1p(a);
    case NIZ_MAP_SIN: return sin(a);
    case NIZ_MAP_COS: return cos(a);
    case NIZ_MAP_TANH: return tanh(a);
    case NIZ_MAP_ERF: return erf(a);
    default: return pow(a, b);
    }
}

static int64_t integer_op(int code, int d, int64_t a, int64_t b)
{
    int64_t least = d == NIZ_I32 ? INT32_MIN : INT64_MIN;
    uint64_t ua = (uint64_t)a, ub = (uint64_t)b;
    switch (code) {
    case NIZ_MAP_NEG: return wrap(d, (int64_t)(0 - ua));
    case NIZ_MAP_ADD: return wrap(d, (int64_t)(ua + ub));
    case NIZ_MAP_SUB: return wrap(d, (int64_t)(ua - ub));
    case NIZ_MAP_MUL: return wrap(d, (int64_t)(ua * ub));
    case NIZ_MAP_DIV: return b == 0 ? 0 : a == least && b == -1 ? least : a / b;
    case NIZ_MAP_MOD: return b == 0 || b == -1 ? 0 : a % b;
    case NIZ_MAP_NOT: return !a;
    case NIZ_MAP_AND: return a && b;
    case NIZ_MAP_OR: return a || b;
    case NIZ_MAP_ABS: return a == least ? least : a < 0 ? -a : a;
    case NIZ_MAP_SIGN: return a > 0 ? 1 : a < 0 ? -1 : 0;
    case NIZ_MAP_MAX: return a > b ? a : b;
    default: return a < b ? a : b;
    }
}

static bool compare(int code, double a, double b)
{
    switch (code) {
    case NIZ_MAP_LT: return a < b;
    case NIZ_MAP_LE: return a <= b;
    case NIZ_MAP_GT: return a > b;
    case NIZ_MAP_GE: return a >= b;
    case NIZ_MAP_EQ: return a == b;
    default: return a != b;
    }
}

static value evaluate_instr(const niz_map_instr *in, const value *x)
{
    value r = {0, 0}, a = x[in->x[0]], b = x[in->x[1]], c = x[in->x[2]];
    int code = in->code;
    if (code == NIZ_MAP_CONST) {
        r.f = in->value;
        if (!is_float(in->dtype)) r.i = (int64_t)in->value;
    } else if (code == NIZ_MAP_SELECT) {
        r = a.i ? b : c;
    } else if (code == NIZ_MAP_CAST) {
        r = cast(in->type, in->dtype, a);
    } else if (code >= NIZ_MAP_LT && code <= NIZ_MAP_NE) {
        double sign = (double)((a.i > b.i) - (a.i < b.i));
        r.i = is_float(in->type) ? compare(code, a.f, b.f) : compare(code, sign, 0);
    } else if (is_float(in->type)) {
        r.f = float_op(code, in->type, a.f, b.f, c.f);
        if (in->type == NIZ_F32) r.f = (double)(float)r.f;
    } else {
        r.i = integer_op(code, in->type, a.i, b.i);
    }
    return r;
}

static value evaluate(const niz_map *map, const value *operands)
{
    value v[4 + NIZ_MAP_LIMIT] = {{0, 0}};
    memcpy(v, operands, sizeof(value) * (size_t)map->n_in);
    for (int i = 0; i < map->n; i++) v[map->n_in + i] = evaluate_instr(&map->instr[i], v);
    return v[map->result];
}

/* ---- running everything --------------------------------------------------------------------- */

enum { CONTIGUOUS, SCALAR, STEP, BACKWARD, TRANSPOSED, OUTER, INNER, ROWS, N_LAYOUTS };

/* Strides of a layout of the space rows x cols; returns the elements of its buffer and where the
 * first one lies. */
static int64_t lay_out(int layout, int64_t rows, int64_t cols, int64_t stride[2], int64_t *first)
{
    static const int64_t factor[N_LAYOUTS] = {1, 0, 2, -1, 1, 1, 1, 1};
    stride[0] = cols * factor[layout];
    stride[1] = factor[layout];
    if (layout == TRANSPOSED) stride[0] = 1, stride[1] = rows;
    if (layout == OUTER) stride[1] = 0, stride[0] = 1;
    if (layout == INNER) stride[0] = 0;
    if (layout == ROWS) stride[0] = cols + 3;
    int64_t last = stride[0] * (rows - 1) + stride[1] * (cols - 1);
    *first = last < 0 ? -last : 0;
    return (last < 0 ? -last : last) + 1;
}

/* Special values mixed with others of all sizes. */
static value draw_value(int d)
{
    static const double special[] = {
        0.0,    -0.0,    1,      -1,      0.5,  -0.5,          1.5, 2.5, INFINITY,  -INFINITY,
        0x1p31, -0x1p31, 0x1p63, -0x1p63, 3e38, 0x1.fffffep30, 255, 256, 1e-42,     0x1p-1060,
        NAN,    254.99,  88.5,   -104,    0x1.fffffcp63,       2147483647.5};
    static const int64_t whole[] = {0, 1, -1, 2, -3, INT32_MIN, INT32_MAX, INT64_MIN, INT64_MAX, 7};
    value v = {0, 0};
    if (is_float(d)) {
        double unit = (double)draw(1u << 31) * 0x1p-30 - 1;
        v.f = draw(3) ? unit * (draw(2) ? 4 : 60) : special[draw(26)];
        if (d == NIZ_F32) v.f = (double)(float)v.f;
    } else if (d == NIZ_BOOL) {
        v.i = draw(2);
    } else {
        v.i = wrap(d, draw(2) ? (int64_t)draw(41) - 20 : whole[draw(10)]);
    }
    return v;
}

typedef struct trial {
    niz_map map;
    niz_map_loop loop;
    void *data[4];
    void *buffer[5];
    int64_t n, first[4];
    double ulps; /* results may differ from the evaluation by this; 0: not at all */
} trial;

static void trial_begin(trial *t, int layout, int64_t rows, int64_t cols)
{
    int n_in = t->map.n_in;
    t->n = rows * cols;
    t->loop = (niz_map_loop){&t->map, {.rank = 2, .dim = {rows, cols}, .n = n_in + 1}};
    for (int i = 0; i < n_in; i++) {
        int64_t *stride = t->loop.space.stride[i];
        int mine = i == 0 ? layout : i == 1 ? CONTIGUOUS : (layout + i) % N_LAYOUTS;
        int64_t count = t->n ? lay_out(mine, rows, cols, stride, &t->first[i]) : 0;
        int d = t->map.in[i];
        if (!t->n) t->first[i] = 0;
        t->data[i] = malloc(niz_dtype_size((niz_dtype)d) * (size_t)count);
        for (int64_t k = 0; k < count; k++) store(d, t->data[i], k, draw_value(d));
        t->buffer[i] = (char *)t->data[i] + (size_t)t->first[i] * niz_dtype_size((niz_dtype)d);
    }
    t->loop.space.stride[n_in][0] = cols;
    t->loop.space.stride[n_in][1] = 1;
    if (rows == 1) { /* as a planner would: sizes of 1 dropped */
        t->loop.space.rank = 1;
        t->loop.space.dim[0] = cols;
        for (int i = 0; i <= n_in; i++)
            t->loop.space.stride[i][0] = t->loop.space.stride[i][1];
    }
}

static void trial_end(trial *t)
{
    for (int i = 0; i < t->map.n_in; i++) free(t->data[i]);
}

static value trial_evaluate(const trial *t, int64_t at)
{
    value x[4] = {{0, 0}};
    const niz_loop_space *s = &t->loop.space;
    for (int i = 0; i < t->map.n_in; i++) {
        int64_t offset = t->first[i], rest = at;
        for (int d = s->rank; d-- > 0; rest /= s->dim[d])
            offset += rest % s->dim[d] * s->stride[i][d];
        x[i] = load(t->map.in[i], t->data[i], offset);
    }
    return evaluate(&t->map, x);
}

static bool same(int d, value a, value b, double ulps)
{
    if (!is_float(d)) return a.i == b.i;
    if (isnan(a.f) || isnan(b.f)) return isnan(a.f) && isnan(b.f);
    if (ulps > 0 && isfinite(a.f)) {
        double unit = d == NIZ_F32 ? 0x1p-23 : 0x1p-52;
        double least = d == NIZ_F32 ? 0x1p-149 : 0x1p-1074;
        double most = d == NIZ_F32 ? 0x1.fffff0p127 : 0x1.fffffffffffe0p1023;
        if (isinf(b.f)) return fabs(a.f) >= most;
        return fabs(a.f - b.f) <= ulps * (fabs(b.f) * unit + least);
    }
    return a.f == b.f && signbit(a.f) == signbit(b.f);
}

/* One table: in three pieces, into a buffer of exactly n elements. */
static void *trial_run(trial *t, const niz_loops *loops)
{
    size_t bytes = niz_dtype_size(t->map.out);
    void *y = malloc(bytes * (size_t)t->n), *scratch = NULL;
    ck_assert_int_eq(posix_memalign(&scratch, 64, loops->map_scratch(&t->map)), 0);
    if (t->n) memset(y, 0x5a, bytes * (size_t)t->n);
    int64_t p = t->n ? draw((uint32_t)t->n + 1) : 0, q = t->n ? draw((uint32_t)t->n + 1) : 0;
    if (draw(2)) p = q = t->n;
    t->buffer[t->map.n_in] = y;
    loops->map(&t->loop, t->buffer, 0, p < q ? p : q, scratch);
    loops->map(&t->loop, t->buffer, p < q ? p : q, p < q ? q : p, scratch);
    loops->map(&t->loop, t->buffer, p < q ? q : p, t->n, scratch);
    free(scratch);
    return y;
}

static void trial_check(trial *t, const char *text)
{
    const niz_loops *loops;
    void *best = NULL;
    int d = t->map.out;
    for (int k = 0; (loops = niz_isa_get(k)) != NULL; k++) {
        void *y = trial_run(t, loops);
        for (int64_t i = 0; i < t->n; i++) {
            value got = load(d, y, i), want = k ? load(d, best, i) : trial_evaluate(t, i);
            if (!same(d, got, want, k ? 0 : t->ulps))
                ck_abort_msg("%s %s at %lld of %lldx%lld: %.17g %lld, expected %.17g %lld (%s)",
                             loops->isa, text, (long long)i, (long long)t->loop.space.dim[0],
                             (long long)t->loop.space.dim[1], got.f, (long long)got.i, want.f,
                             (long long)want.i, niz_dtype_name((niz_dtype)d));
        }
        if (k) free(y);
        else best = y;
    }
    free(best);
}

/* All sizes and layouts of a text. */
static void runs(const char *text, const char *types, double ulps)
{
    static const int64_t sizes[][2] = {
        {1, 0},   {1, 1},   {1, 3},   {3, 1},   {5, 3},   {4, 4},    {1, 16},  {1, 17},  {7, 73},
        {128, 4}, {1, 511}, {1, 512}, {1, 513}, {27, 19}, {500, 3},  {3, 500}, {1, 1500}, {2, 600},
        {37, 261}};
    trial t;
    char error[256];
    ck_assert_msg(parse(text, types, &t.map, error), "%s: %s", text, error);
    t.ulps = ulps;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int layout = 0; layout < N_LAYOUTS; layout++) {
            trial_begin(&t, layout, sizes[s][0], sizes[s][1]);
            trial_check(&t, text);
            trial_end(&t);
        }
}

static void runs_for(const char *text, const char *letters, int operands, double ulps)
{
    for (; *letters; letters++) {
        char types[6] = "";
        memset(types, *letters, (size_t)operands + 1);
        runs(text, types, ulps);
    }
}

START_TEST(test_arithmetic)
{
    runs_for("-a", "fdil", 1, 0);
    runs_for("a+b", "fdil", 2, 0);
    runs_for("a-b", "fdil", 2, 0);
    runs_for("a*b", "fdil", 2, 0);
    runs_for("a/b", "fdil", 2, 0);
    runs_for("a%b", "il", 2, 0);
    runs_for("ABS(a)", "fdil", 1, 0);
    runs_for("SIGN(a)", "fdil", 1, 0);
    runs_for("MAX(a,b)", "fdil", 2, 0);
    runs_for("MIN(a,b)", "fdil", 2, 0);
    runs_for("SQRT(a)", "fd", 1, 0);
    runs_for("FLOOR(a)", "fd", 1, 0);
    runs_for("CEIL(a)", "fd", 1, 0);
    runs_for("ROUND(a)", "fd", 1, 0);
    runs_for("TRUNC(a)", "fd", 1, 0);
    runs_for("FMA(a,b,c)", "fd", 3, 0);
}
END_TEST

START_TEST(test_functions)
{
    runs_for("EXP(a)", "fd", 1, 4);
    runs_for("EXPM1(a)", "fd", 1, 4);
    runs_for("LOG(a)", "fd", 1, 4);
    runs_for("LOG1P(a)", "fd", 1, 4);
    runs_for("SIN(a)", "fd", 1, 4);
    runs_for("COS(a)", "fd", 1, 4);
    runs_for("TANH(a)", "fd", 1, 4);
    runs_for("ERF(a)", "fd", 1, 4);
    runs_for("POW(a,b)", "fd", 2, 4);
}
END_TEST

START_TEST(test_comparisons)
{
    static const char *const texts[] = {"a<b", "a<=b", "a>b", "a>=b", "a==b", "a!=b"};
    static const char *const types[] = {"ffb", "ddb", "iib", "llb", "uub", "bbb"};
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < (i < 4 ? 5 : 6); k++) runs(texts[i], types[k], 0);
}
END_TEST

START_TEST(test_logic_runs)
{
    runs("!a", "bb", 0);
    runs("a&&b", "bbb", 0);
    runs("a||b", "bbb", 0);
    static const char *const types[] = {"bfff", "bddd", "biii", "blll", "buuu", "bbbb"};
    for (int i = 0; i < 6; i++) runs("a?b:c", types[i], 0);
}
END_TEST

START_TEST(test_casts)
{
    const char *letters = "fdilub";
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 6; k++) {
            char types[3] = {letters[i], letters[k], 0};
            runs("CAST(a)", types, 0);
        }
}
END_TEST

START_TEST(test_lists)
{
    runs("1.25", "f", 0);
    runs("7", "l", 0);
    runs("1", "b", 0);
    runs("200", "u", 0);
    runs("a", "dd", 0);
    runs("b", "uii", 0);
    runs("a*2 + b", "fff", 0);
    runs("a < b ? a*a - 1 : FLOOR(b)/3", "ddd", 0);
    runs("CAST(a) + CAST(b)*2 - CAST(c)", "ufid", 0);
}
END_TEST

/* Strides of a tensor whose axes were permuted and some of them broadcast; returns its elements. */
static int64_t scramble(const niz_loop_space *s, int64_t *stride)
{
    int64_t count = 1;
    bool done[NIZ_MAX_RANK] = {false};
    for (int k = 0; k < s->rank; k++) {
        int d = (int)draw((uint32_t)s->rank);
        while (done[d]) d = (d + 1) % s->rank;
        done[d] = true;
        stride[d] = draw(4) ? count : 0;
        if (stride[d]) count *= s->dim[d];
    }
    return count;
}

static void random_space(trial *t)
{
    static const int sizes[] = {2, 3, 5, 8, 17, 40, 300};
    niz_loop_space *s = &t->loop.space;
    *s = (niz_loop_space){.n = t->map.n_in + 1};
    t->n = 1;
    for (int64_t d; s->rank < 5 && t->n * (d = sizes[draw(7)]) < 30000; t->n *= d)
        s->dim[s->rank++] = d;
    for (int i = 0; i < t->map.n_in; i++) {
        int64_t count = scramble(s, s->stride[i]);
        t->first[i] = 0;
        t->buffer[i] = t->data[i] = malloc(niz_dtype_size(t->map.in[i]) * (size_t)count);
        for (int64_t k = 0; k < count; k++)
            store(t->map.in[i], t->data[i], k, draw_value(t->map.in[i]));
    }
    for (int64_t d = s->rank, step = 1; d-- > 0; step *= s->dim[d])
        s->stride[t->map.n_in][d] = step;
}

START_TEST(test_spaces)
{
    static const char *const texts[][2] = {{"a+b", "fff"},
                                           {"a*b - c", "dddd"},
                                           {"a ? b : c", "bfff"},
                                           {"a < b", "uub"},
                                           {"2*a", "ii"}};
    trial t = {.ulps = 0};
    char error[256];
    for (int i = 0; i < 500; i++) {
        ck_assert(parse(texts[i % 5][0], texts[i % 5][1], &t.map, error));
        t.loop.map = &t.map;
        random_space(&t);
        trial_check(&t, texts[i % 5][0]);
        trial_end(&t);
    }
}
END_TEST

/* A list that needs many slots at once, and one that reuses them. */
START_TEST(test_slots)
{
    niz_map map;
    char error[256];
    runs("((a+1)*(a+2)-(a+3)*(a+4))*((a+5)*(a+6)-(a+7)*(a+8))", "ff", 0);
    ck_assert(parse("a+a*a*a*a*a*a*a*a*a*a*a", "ff", &map, error));
    ck_assert_int_le(map.n_slots, 3);
    runs("0.5*a*(1+b*0.7071067811865476)/(1-c*c)", "dddd", 0);
}
END_TEST

/* The output may be an operand's own buffer. */
START_TEST(test_in_place)
{
    const niz_loops *loops;
    niz_map map;
    char error[256], scratch[1 << 16] __attribute__((aligned(64)));
    ck_assert(parse("(a+b)*a - 2", "fff", &map, error));
    ck_assert_uint_le(niz_isa_loops()->map_scratch(&map), sizeof scratch);
    for (int k = 0; (loops = niz_isa_get(k)) != NULL; k++) {
        float a[1500], b[1500];
        for (int i = 0; i < 1500; i++) a[i] = (float)i, b[i] = (float)(3 * i);
        niz_map_loop loop = {&map, {.rank = 1, .dim = {1500}, .n = 3, .stride = {{1}, {1}, {1}}}};
        loops->map(&loop, (void *[]){a, b, a}, 0, 1500, scratch);
        for (int i = 0; i < 1500; i++)
            ck_assert(a[i] == ((float)i + (float)(3 * i)) * (float)i - 2);
    }
}
END_TEST

/* ---- copies and the choice of a table ------------------------------------------------------- */

static void copies(int bytes, const int64_t dim[3], const int order[3])
{
    const niz_loops *loops;
    int64_t n = dim[0] * dim[1] * dim[2], natural[3] = {dim[1] * dim[2], dim[2], 1};
    niz_copy_loop to = {bytes, {.rank = 3, .n = 2}}, back;
    unsigned char *x = malloc((size_t)(n * bytes)), *y = malloc((size_t)(n * bytes));
    unsigned char *z = malloc((size_t)(n * bytes));
    for (int64_t i = 0; i < n * bytes; i++) x[i] = (unsigned char)draw(256);
    for (int d = 2, step = 1; d >= 0; step *= (int)dim[order[d]], d--) {
        to.space.dim[d] = dim[order[d]];
        to.space.stride[0][d] = natural[order[d]];
        to.space.stride[1][d] = step;
    }
    back = to; /* the same pairs of places, the other way */
    memcpy(back.space.stride[0], to.space.stride[1], sizeof to.space.stride[0]);
    memcpy(back.space.stride[1], to.space.stride[0], sizeof to.space.stride[0]);
    for (int k = 0; (loops = niz_isa_get(k)) != NULL; k++) {
        int64_t cut = draw((uint32_t)n + 1);
        memset(y, 0, (size_t)(n * bytes));
        loops->copy(&to, x, y, cut, n);
        loops->copy(&to, x, y, 0, cut);
        for (int64_t i = 0; i < n; i++) {
            int64_t rest = i, at = 0;
            for (int d = 2; d >= 0; rest /= to.space.dim[d], d--)
                at += rest % to.space.dim[d] * to.space.stride[0][d];
            ck_assert_int_eq(memcmp(y + i * bytes, x + at * bytes, (size_t)bytes), 0);
        }
        memset(z, 0, (size_t)(n * bytes));
        loops->copy(&back, y, z, 0, cut);
        loops->copy(&back, y, z, cut, n);
        ck_assert_int_eq(memcmp(x, z, (size_t)(n * bytes)), 0);
    }
    free(x);
    free(y);
    free(z);
}

START_TEST(test_copies)
{
    static const int64_t dims[][3] = {{1, 1, 1}, {2, 3, 5}, {1, 33, 47}, {4, 16, 16}, {3, 70, 17}};
    static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                    {2, 1, 0}, {1, 2, 0}, {2, 0, 1}};
    static const int widths[] = {1, 4, 8};
    for (int w = 0; w < 3; w++)
        for (int d = 0; d < 5; d++)
            for (int o = 0; o < 6; o++) copies(widths[w], dims[d], orders[o]);
}
END_TEST

START_TEST(test_copy_shapes)
{
    const niz_loops *loops = niz_isa_loops();
    int32_t x[4] = {1, 2, 3, 4}, y[12] = {0};
    niz_copy_loop fill = {4, {.rank = 2, .dim = {3, 4}, .n = 2, .stride = {{1, 0}, {4, 1}}}};
    loops->copy(&fill, x, y, 0, 12);
    for (int i = 0; i < 12; i++) ck_assert_int_eq(y[i], x[i / 4]);
    niz_copy_loop flip = {4, {.rank = 1, .dim = {4}, .n = 2, .stride = {{-1}, {1}}}};
    loops->copy(&flip, x + 3, y, 1, 4);
    for (int i = 1; i < 4; i++) ck_assert_int_eq(y[i], x[3 - i]);
    niz_copy_loop one = {4, {.rank = 0, .n = 2}};
    loops->copy(&one, x + 2, y, 0, 1);
    ck_assert_int_eq(y[0], 3);
    loops->copy(&one, NULL, NULL, 0, 0);
}
END_TEST

START_TEST(test_isa)
{
    int n = 0;
    while (niz_isa_get(n)) n++;
    ck_assert_int_ge(n, 1);
    ck_assert_ptr_null(niz_isa_get(-1));
    unsetenv("NIZ_ISA");
    ck_assert_ptr_eq(niz_isa_loops(), niz_isa_get(0));
    setenv("NIZ_ISA", "no such", 1);
    ck_assert_ptr_eq(niz_isa_loops(), niz_isa_get(0));
    for (int i = 0; i < n; i++) {
        setenv("NIZ_ISA", niz_isa_get(i)->isa, 1);
        ck_assert_ptr_eq(niz_isa_loops(), niz_isa_get(i));
    }
    unsetenv("NIZ_ISA");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("map");
    TCase *parser = tcase_create("parser"), *loops = tcase_create("loops");
    const TTest *parsing[] = {test_values, test_operand_alone, test_precedence, test_logic,
                              test_equal_subexpressions_are_one, test_numbers_take_a_dtype,
                              test_refusals, test_type_refusals, test_bounds, test_arguments,
                              test_number_bits, test_noise, test_truncations};
    const TTest *running[] = {test_arithmetic, test_functions, test_comparisons, test_logic_runs,
                              test_casts, test_lists, test_spaces, test_slots, test_in_place,
                              test_copies, test_copy_shapes, test_isa};
    for (size_t i = 0; i < sizeof parsing / sizeof parsing[0]; i++)
        tcase_add_test(parser, parsing[i]);
    for (size_t i = 0; i < sizeof running / sizeof running[0]; i++)
        tcase_add_test(loops, running[i]);
    tcase_set_timeout(parser, 120);
    tcase_set_timeout(loops, 300);
    suite_add_tcase(suite, parser);
    suite_add_tcase(suite, loops);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
