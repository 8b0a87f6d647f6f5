/* map.c - the parser of the map language (map.h).
 *
 * Three steps over one small array of nodes, children before parents: read the text, give every
 * node a dtype, and emit one instruction a node.  Since children come first, typing is a loop
 * upwards (operands determine results) and one downwards (numbers take what their parent settled
 * on); only reading recurses, to a bounded depth.
 *
 * Invariants: nothing is allocated and nothing is global; the locale has no influence; equal
 * subexpressions become one value; a text either gives a fully typed list or one error.
 *
 * SPDX-License-Identifier: MIT */
#include "ops/map.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define NIZ_MAP_NODES 256 /* of one text, before equal ones are merged */
#define NIZ_MAP_DEPTH 48  /* of nesting */
#define NIZ_MAP_DIGITS 64 /* of one number */

enum { OPERAND = NIZ_MAP_N_CODES, NO_CODE, UNTYPED = NIZ_N_DTYPES };

/* Sets of dtypes, as bits. */
enum {
    FLOATS = 1 << NIZ_F32 | 1 << NIZ_F64,
    INTEGERS = 1 << NIZ_I32 | 1 << NIZ_I64,
    NUMBERS = FLOATS | INTEGERS,
    ORDERED = NUMBERS | 1 << NIZ_U8,
    BOOLS = 1 << NIZ_BOOL,
    ANY = ORDERED | BOOLS
};

/* Every code: its name, the dtypes its operands may have, and whether texts call it as a function
 * (by its name in capitals). */
static const struct {
    const char *name;
    uint8_t types;
    bool called;
} niz_map_about[NIZ_MAP_N_CODES] = {
    [NIZ_MAP_CONST] = {"const", ANY, false},    [NIZ_MAP_NEG] = {"neg", NUMBERS, false},
    [NIZ_MAP_NOT] = {"not", BOOLS, false},      [NIZ_MAP_ADD] = {"add", NUMBERS, false},
    [NIZ_MAP_SUB] = {"sub", NUMBERS, false},    [NIZ_MAP_MUL] = {"mul", NUMBERS, false},
    [NIZ_MAP_DIV] = {"div", NUMBERS, false},    [NIZ_MAP_MOD] = {"mod", INTEGERS, false},
    [NIZ_MAP_LT] = {"lt", ORDERED, false},      [NIZ_MAP_LE] = {"le", ORDERED, false},
    [NIZ_MAP_GT] = {"gt", ORDERED, false},      [NIZ_MAP_GE] = {"ge", ORDERED, false},
    [NIZ_MAP_EQ] = {"eq", ANY, false},          [NIZ_MAP_NE] = {"ne", ANY, false},
    [NIZ_MAP_AND] = {"and", BOOLS, false},      [NIZ_MAP_OR] = {"or", BOOLS, false},
    [NIZ_MAP_SELECT] = {"select", ANY, false},  [NIZ_MAP_ABS] = {"abs", NUMBERS, true},
    [NIZ_MAP_SIGN] = {"sign", NUMBERS, true},   [NIZ_MAP_MAX] = {"max", NUMBERS, true},
    [NIZ_MAP_MIN] = {"min", NUMBERS, true},     [NIZ_MAP_SQRT] = {"sqrt", FLOATS, true},
    [NIZ_MAP_FLOOR] = {"floor", FLOATS, true},  [NIZ_MAP_CEIL] = {"ceil", FLOATS, true},
    [NIZ_MAP_ROUND] = {"round", FLOATS, true},  [NIZ_MAP_TRUNC] = {"trunc", FLOATS, true},
    [NIZ_MAP_FMA] = {"fma", FLOATS, true},      [NIZ_MAP_EXP] = {"exp", FLOATS, true},
    [NIZ_MAP_EXPM1] = {"expm1", FLOATS, true},  [NIZ_MAP_LOG] = {"log", FLOATS, true},
    [NIZ_MAP_LOG1P] = {"log1p", FLOATS, true},  [NIZ_MAP_SIN] = {"sin", FLOATS, true},
    [NIZ_MAP_COS] = {"cos", FLOATS, true},      [NIZ_MAP_TANH] = {"tanh", FLOATS, true},
    [NIZ_MAP_ERF] = {"erf", FLOATS, true},      [NIZ_MAP_POW] = {"pow", FLOATS, true},
    [NIZ_MAP_CAST] = {"cast", ANY, true},
};

static const uint8_t niz_map_arities[NIZ_MAP_N_CODES] = {
#define X(code, n) [NIZ_MAP_##code] = n,
    NIZ_MAP_CODES(X)
#undef X
};

/* Binary operators, longer spellings before their beginnings. */
static const struct {
    const char *text;
    uint8_t level, code;
} niz_map_operators[] = {
    {"||", 1, NIZ_MAP_OR},  {"&&", 2, NIZ_MAP_AND}, {"<=", 3, NIZ_MAP_LE}, {">=", 3, NIZ_MAP_GE},
    {"==", 3, NIZ_MAP_EQ},  {"!=", 3, NIZ_MAP_NE},  {"<", 3, NIZ_MAP_LT},  {">", 3, NIZ_MAP_GT},
    {"+", 4, NIZ_MAP_ADD},  {"-", 4, NIZ_MAP_SUB},  {"*", 5, NIZ_MAP_MUL}, {"/", 5, NIZ_MAP_DIV},
    {"%", 5, NIZ_MAP_MOD},
};
enum { COMPARISON = 3, N_OPERATORS = sizeof niz_map_operators / sizeof niz_map_operators[0] };

typedef struct niz_map_node {
    uint8_t code;  /* niz_map_code or OPERAND */
    uint8_t dtype; /* of its value, or UNTYPED */
    uint8_t value; /* number of the value it was emitted as */
    int16_t x[3];  /* nodes; of OPERAND: its number */
    int column;
    double number;
} niz_map_node;

typedef struct niz_map_parser {
    const char *text;
    int at, depth;
    bool failed;
    char *error;
    size_t error_size;
    niz_map *map;
    int n;
    niz_map_node node[NIZ_MAP_NODES];
} niz_map_parser;

int niz_map_arity(niz_map_code code)
{
    return (unsigned)code < NIZ_MAP_N_CODES ? niz_map_arities[code] : 0;
}

const char *niz_map_code_name(niz_map_code code)
{
    return (unsigned)code < NIZ_MAP_N_CODES ? niz_map_about[code].name : "?";
}

/* The first mistake counts.  Returns 0, a node that is never looked at after a failure. */
static int NIZ_PRINTF(3, 4) niz_map_fail(niz_map_parser *p, int column, const char *format, ...)
{
    if (p->failed) return 0;
    p->failed = true;
    if (!p->error || !p->error_size) return 0;
    int n = snprintf(p->error, p->error_size, "column %d: ", column);
    if (n < 0 || (size_t)n >= p->error_size) return 0;
    va_list list;
    va_start(list, format);
    vsnprintf(p->error + n, p->error_size - (size_t)n, format, list);
    va_end(list);
    return 0;
}

/* ---- reading -------------------------------------------------------------------------------- */

static bool niz_map_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool niz_map_is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static void niz_map_skip(niz_map_parser *p)
{
    while (p->text[p->at] == ' ' || p->text[p->at] == '\t' || p->text[p->at] == '\n') p->at++;
}

static int niz_map_add(niz_map_parser *p, niz_map_node node)
{
    if (p->failed) return 0;
    if (p->n == NIZ_MAP_NODES) return niz_map_fail(p, node.column, "the expression is too long");
    p->node[p->n] = node;
    return p->n++;
}

/* "expected ... here", with what stands there instead. */
static int niz_map_unexpected(niz_map_parser *p, const char *expected)
{
    unsigned char c = (unsigned char)p->text[p->at];
    if (!c) return niz_map_fail(p, p->at + 1, "expected %s, the text ends", expected);
    if (c < 32 || c > 126)
        return niz_map_fail(p, p->at + 1, "expected %s, found byte 0x%02x", expected, c);
    return niz_map_fail(p, p->at + 1, "expected %s, found '%c'", expected, c);
}

static bool niz_map_expect(niz_map_parser *p, char c)
{
    niz_map_skip(p);
    if (p->failed) return false;
    if (p->text[p->at] == c) {
        p->at++;
        return true;
    }
    char expected[] = {'\'', c, '\'', 0};
    niz_map_unexpected(p, expected);
    return false;
}

/* Copies the digits at the text's position to out[*n...]; false if there are too many. */
static bool niz_map_digits(niz_map_parser *p, char *out, int *n)
{
    for (; niz_map_is_digit(p->text[p->at]); p->at++) {
        if (*n == NIZ_MAP_DIGITS) return false;
        out[(*n)++] = p->text[p->at];
    }
    return true;
}

/* The exponent written behind a number, or 0 where there is none; bounded, so that it fits. */
static int niz_map_exponent(niz_map_parser *p)
{
    const char *s = p->text + p->at;
    if (*s != 'e' && *s != 'E') return 0;
    int sign = s[1] == '+' || s[1] == '-';
    if (!niz_map_is_digit(s[1 + sign])) return 0;
    int e = 0;
    for (p->at += 1 + sign; niz_map_is_digit(p->text[p->at]); p->at++)
        if (e < 100000) e = e * 10 + (p->text[p->at] - '0');
    return s[1] == '-' ? -e : e;
}

/* A number.  strtod rounds correctly but reads the locale's decimal point, so it is given the
 * digits as an integer and the point's place as an exponent: 12.5 becomes 125e-1. */
static int niz_map_number(niz_map_parser *p)
{
    char digits[NIZ_MAP_DIGITS + 16];
    int n = 0, column = p->at + 1, fraction = 0;
    bool fits = niz_map_digits(p, digits, &n);
    if (fits && p->text[p->at] == '.') {
        int before = n;
        p->at++;
        fits = niz_map_digits(p, digits, &n);
        fraction = n - before;
    }
    if (!fits) return niz_map_fail(p, column, "a number of more than %d digits", NIZ_MAP_DIGITS);
    if (!n) return niz_map_fail(p, column, "a number without digits");
    snprintf(digits + n, sizeof digits - (size_t)n, "e%d", niz_map_exponent(p) - fraction);
    double value = strtod(digits, NULL);
    if (isinf(value)) return niz_map_fail(p, column, "the number is too large");
    return niz_map_add(p, (niz_map_node){NIZ_MAP_CONST, UNTYPED, 0, {0}, column, value});
}

static int niz_map_expression(niz_map_parser *p);

/* The function of that name, or NO_CODE. */
static int niz_map_function(const char *name, int length)
{
    for (int c = 0; c < NIZ_MAP_N_CODES; c++) {
        const char *known = niz_map_about[c].name;
        int i = 0;
        while (i < length && known[i] && name[i] == (known[i] >= 'a' ? known[i] - 32 : known[i]))
            i++;
        if (i == length && !known[i] && niz_map_about[c].called) return c;
    }
    return NO_CODE;
}

static int niz_map_call(niz_map_parser *p, int code, int column)
{
    niz_map_node node = {(uint8_t)code, UNTYPED, 0, {0}, column, 0};
    if (!niz_map_expect(p, '(')) return 0;
    for (int i = 0; i < niz_map_arities[code]; i++) {
        if (i && !niz_map_expect(p, ',')) return 0;
        node.x[i] = (int16_t)niz_map_expression(p);
    }
    return niz_map_expect(p, ')') ? niz_map_add(p, node) : 0;
}

/* An operand or a call. */
static int niz_map_name(niz_map_parser *p)
{
    const char *s = p->text + p->at;
    int length = 0, column = p->at + 1;
    while (niz_map_is_letter(s[length]) || niz_map_is_digit(s[length])) length++;
    p->at += length;
    if (length == 1 && *s >= 'a' && *s <= 'd') {
        if (*s - 'a' >= p->map->n_in) return niz_map_fail(p, column, "there is no operand %c", *s);
        int16_t i = (int16_t)(*s - 'a');
        return niz_map_add(
            p, (niz_map_node){OPERAND, (uint8_t)p->map->in[i], (uint8_t)i, {i}, column, 0});
    }
    int code = niz_map_function(s, length);
    if (code == NO_CODE)
        return niz_map_fail(p, column, "unknown name %.*s", length < 32 ? length : 32, s);
    return niz_map_call(p, code, column);
}

static int niz_map_primary(niz_map_parser *p)
{
    char c = p->text[p->at];
    if (niz_map_is_letter(c)) return niz_map_name(p);
    if (niz_map_is_digit(c) || c == '.') return niz_map_number(p);
    if (c != '(') return niz_map_unexpected(p, "an operand, a number, a function or '('");
    p->at++;
    int inner = niz_map_expression(p);
    return niz_map_expect(p, ')') ? inner : 0;
}

static int niz_map_unary(niz_map_parser *p)
{
    niz_map_skip(p);
    char c = p->text[p->at];
    if (c != '-' && c != '!') return niz_map_primary(p);
    int column = ++p->at;
    if (++p->depth > NIZ_MAP_DEPTH) return niz_map_fail(p, column, "nested too deeply");
    int x = niz_map_unary(p);
    p->depth--;
    if (p->failed) return 0;
    if (c == '-' && p->node[x].code == NIZ_MAP_CONST) { /* a negative number is a number */
        p->node[x].number = -p->node[x].number;
        p->node[x].column = column;
        return x;
    }
    uint8_t code = c == '-' ? NIZ_MAP_NEG : NIZ_MAP_NOT;
    return niz_map_add(p, (niz_map_node){code, UNTYPED, 0, {(int16_t)x}, column, 0});
}

/* The binary operator at the text's position, or -1. */
static int niz_map_peek(niz_map_parser *p)
{
    niz_map_skip(p);
    for (int i = 0; i < N_OPERATORS; i++) {
        const char *op = niz_map_operators[i].text;
        if (!strncmp(p->text + p->at, op, strlen(op))) return i;
    }
    return -1;
}

/* Operators of this level and those that bind tighter: precedence climbing. */
static int niz_map_binary(niz_map_parser *p, int least)
{
    int left = niz_map_unary(p);
    for (bool compared = false; !p->failed;) {
        int op = niz_map_peek(p);
        if (op < 0 || niz_map_operators[op].level < least) break;
        int level = niz_map_operators[op].level, column = p->at + 1;
        if (level == COMPARISON && compared)
            return niz_map_fail(p, column, "comparisons do not chain: use &&");
        compared = level == COMPARISON;
        p->at += (int)strlen(niz_map_operators[op].text);
        int right = niz_map_binary(p, level + 1);
        niz_map_node node = {niz_map_operators[op].code, UNTYPED, 0, {0}, column, 0};
        node.x[0] = (int16_t)left;
        node.x[1] = (int16_t)right;
        left = niz_map_add(p, node);
    }
    return left;
}

static int niz_map_expression(niz_map_parser *p)
{
    if (p->failed) return 0;
    if (++p->depth > NIZ_MAP_DEPTH) return niz_map_fail(p, p->at + 1, "nested too deeply");
    int x = niz_map_binary(p, 1);
    niz_map_skip(p);
    if (!p->failed && p->text[p->at] == '?') {
        niz_map_node node = {NIZ_MAP_SELECT, UNTYPED, 0, {(int16_t)x}, ++p->at, 0};
        node.x[1] = (int16_t)niz_map_expression(p);
        if (niz_map_expect(p, ':')) node.x[2] = (int16_t)niz_map_expression(p);
        x = niz_map_add(p, node);
    }
    p->depth--;
    return x;
}

/* ---- typing --------------------------------------------------------------------------------- */

static bool niz_map_is_comparison(int code)
{
    return code >= NIZ_MAP_LT && code <= NIZ_MAP_NE;
}

/* The first operand whose dtype counts: a condition's does not. */
static int niz_map_first(const niz_map_node *node)
{
    return node->code == NIZ_MAP_SELECT;
}

/* The one dtype of a node's operands, UNTYPED if all are numbers. */
static int niz_map_unify(niz_map_parser *p, const niz_map_node *node)
{
    int dtype = UNTYPED;
    for (int i = niz_map_first(node); i < niz_map_arities[node->code]; i++) {
        int d = p->node[node->x[i]].dtype;
        if (d == UNTYPED || d == dtype) continue;
        if (dtype != UNTYPED)
            niz_map_fail(p, node->column, "the operands are %s and %s",
                         niz_dtype_name((niz_dtype)dtype), niz_dtype_name((niz_dtype)d));
        dtype = d;
    }
    return dtype;
}

/* Upwards: operands determine results. */
static void niz_map_type_up(niz_map_parser *p)
{
    for (int i = 0; i < p->n && !p->failed; i++) {
        niz_map_node *node = &p->node[i];
        if (node->code == OPERAND || node->code == NIZ_MAP_CONST) continue;
        node->dtype = (uint8_t)niz_map_unify(p, node);
        if (niz_map_about[node->code].types == BOOLS || niz_map_is_comparison(node->code))
            node->dtype = NIZ_BOOL;
        else if (node->code == NIZ_MAP_CAST)
            node->dtype = (uint8_t)p->map->out;
    }
}

/* The dtype that numbers among a node's operands take. */
static int niz_map_demand(niz_map_parser *p, const niz_map_node *node)
{
    if (niz_map_about[node->code].types == BOOLS) return NIZ_BOOL;
    if (!niz_map_is_comparison(node->code)) return node->dtype;
    int other = niz_map_unify(p, node);
    if (other != UNTYPED) return other;
    if (p->map->out == NIZ_BOOL)
        niz_map_fail(p, node->column, "two numbers of no dtype are compared");
    return p->map->out;
}

/* Downwards: numbers take the dtype of the other side, or the result's. */
static void niz_map_type_down(niz_map_parser *p, int root)
{
    if (p->node[root].dtype == UNTYPED) p->node[root].dtype = (uint8_t)p->map->out;
    for (int i = p->n; i-- > 0 && !p->failed;) {
        niz_map_node *node = &p->node[i];
        if (node->code == OPERAND || node->code == NIZ_MAP_CONST) continue;
        int dtype = niz_map_demand(p, node);
        for (int k = niz_map_first(node); k < niz_map_arities[node->code]; k++)
            if (p->node[node->x[k]].dtype == UNTYPED) p->node[node->x[k]].dtype = (uint8_t)dtype;
        niz_map_node *condition = &p->node[node->x[0]];
        if (node->code == NIZ_MAP_SELECT && condition->dtype == UNTYPED)
            condition->dtype = NIZ_BOOL;
    }
}

/* A number must be a value of its dtype; it is rounded to f32 here, once. */
static void niz_map_check_number(niz_map_parser *p, niz_map_node *node)
{
    static const double least[] = {[NIZ_I32] = -0x1p31, [NIZ_I64] = 1 - 0x1p53, [NIZ_BOOL] = 0};
    static const double most[] = {
        [NIZ_I32] = 0x1p31 - 1, [NIZ_I64] = 0x1p53 - 1, [NIZ_U8] = 255, [NIZ_BOOL] = 1};
    niz_dtype d = (niz_dtype)node->dtype;
    double v = node->number;
    if (d == NIZ_F64) return;
    if (d == NIZ_F32) {
        if (fabs(v) >= FLT_MAX + 0x1p103)
            niz_map_fail(p, node->column, "the number is too large for f32");
        else
            node->number = (double)(float)v;
        return;
    }
    if (v != floor(v))
        niz_map_fail(p, node->column, "a fraction as a number of dtype %s", niz_dtype_name(d));
    else if (v < least[d] || v > most[d])
        niz_map_fail(p, node->column, "the number is out of the range of %s", niz_dtype_name(d));
    node->number = v + 0.0; /* integers have no -0 */
}

static void niz_map_check(niz_map_parser *p, niz_map_node *node)
{
    if (node->code == OPERAND) return;
    if (node->code == NIZ_MAP_CONST) {
        niz_map_check_number(p, node);
        return;
    }
    for (int k = 0; k < niz_map_arities[node->code]; k++) {
        int d = p->node[node->x[k]].dtype;
        int allowed = k < niz_map_first(node) ? BOOLS : niz_map_about[node->code].types;
        if (!(allowed >> d & 1))
            niz_map_fail(p, node->column, "%s does not take %s",
                         niz_map_code_name((niz_map_code)node->code),
                         niz_dtype_name((niz_dtype)d));
    }
}

static void niz_map_type(niz_map_parser *p, int root)
{
    niz_map_type_up(p);
    if (p->failed) return;
    niz_map_type_down(p, root);
    for (int i = 0; i < p->n && !p->failed; i++) niz_map_check(p, &p->node[i]);
    niz_dtype found = (niz_dtype)p->node[root].dtype;
    if (found != p->map->out)
        niz_map_fail(p, p->node[root].column, "the expression is %s, the result %s",
                     niz_dtype_name(found), niz_dtype_name(p->map->out));
}

/* ---- emitting ------------------------------------------------------------------------------- */

static bool niz_map_same(const niz_map_instr *a, const niz_map_instr *b)
{
    return a->code == b->code && a->type == b->type && a->dtype == b->dtype &&
           !memcmp(a->x, b->x, sizeof a->x) && !memcmp(&a->value, &b->value, sizeof a->value);
}

/* The instruction of a node, appended unless the list has it already. */
static void niz_map_emit(niz_map_parser *p, niz_map_node *node)
{
    niz_map *map = p->map;
    niz_map_instr in = {.code = node->code, .type = node->dtype, .dtype = node->dtype};
    if (node->code == OPERAND) return;
    for (int k = 0; k < niz_map_arities[node->code]; k++) in.x[k] = p->node[node->x[k]].value;
    if (node->code == NIZ_MAP_CONST)
        in.value = node->number;
    else
        in.type = p->node[node->x[niz_map_first(node)]].dtype;
    if (node->code == NIZ_MAP_CAST && in.type == in.dtype) {
        node->value = in.x[0];
        return;
    }
    int i = 0;
    while (i < map->n && !niz_map_same(&map->instr[i], &in)) i++;
    if (i == NIZ_MAP_LIMIT) {
        niz_map_fail(p, node->column, "more than %d operations", NIZ_MAP_LIMIT);
        return;
    }
    if (i == map->n) map->instr[map->n++] = in;
    node->value = (uint8_t)(map->n_in + i);
}

/* Gives every value a slot.  Constants are filled in before all else, so theirs are their own.  A
 * result never takes the slot of its own operands: their elements may be narrower, and would be
 * overwritten before they are read. */
static void niz_map_place(niz_map *map)
{
    int last[4 + NIZ_MAP_LIMIT] = {0}, owner[4 + NIZ_MAP_LIMIT];
    map->n_slots = map->n_in;
    for (int i = 0; i < map->n; i++)
        if (map->instr[i].code == NIZ_MAP_CONST) map->instr[i].slot = (uint8_t)map->n_slots++;
    int shared = map->n_slots;
    for (int i = 0; i < map->n; i++)
        for (int k = 0; k < niz_map_arities[map->instr[i].code]; k++) last[map->instr[i].x[k]] = i;
    for (int i = 0; i < map->n; i++) {
        if (map->instr[i].code == NIZ_MAP_CONST) continue;
        int slot = shared;
        while (slot < map->n_slots && last[owner[slot]] >= i) slot++;
        if (slot == map->n_slots) map->n_slots++;
        owner[slot] = map->n_in + i;
        map->instr[i].slot = (uint8_t)slot;
    }
}

static void niz_map_finish(niz_map *map, int result)
{
    map->result = result;
    map->width = 1;
    for (int i = 0; i < map->n_in; i++)
        if ((int)niz_dtype_size(map->in[i]) > map->width)
            map->width = (int)niz_dtype_size(map->in[i]);
    for (int i = 0; i < map->n; i++)
        if ((int)niz_dtype_size((niz_dtype)map->instr[i].dtype) > map->width)
            map->width = (int)niz_dtype_size((niz_dtype)map->instr[i].dtype);
    niz_map_place(map);
}

static bool niz_map_start(niz_map_parser *p, int n_in, const niz_dtype *in, niz_dtype out)
{
    niz_map *map = p->map;
    *map = (niz_map){.out = out};
    if (n_in < 0 || n_in > 4 || (unsigned)out >= NIZ_N_DTYPES)
        niz_map_fail(p, 1, "a map has 0 to 4 operands and a result of a known dtype");
    for (int i = 0; i < n_in && !p->failed; i++) {
        if ((unsigned)in[i] >= NIZ_N_DTYPES) niz_map_fail(p, 1, "an operand of no known dtype");
        map->in[i] = in[i];
    }
    if (!p->failed) map->n_in = n_in;
    return !p->failed;
}

bool niz_map_parse(const char *text, int n_in, const niz_dtype *in, niz_dtype out, niz_map *map,
                   char *error, size_t error_size)
{
    niz_map_parser p; /* nodes are written before they are read: clearing 8 KB would be waste */
    p.text = text ? text : "";
    p.at = p.depth = p.n = 0;
    p.failed = false;
    p.error = error;
    p.error_size = error_size;
    p.map = map;
    if (error && error_size) error[0] = 0;
    if (!niz_map_start(&p, n_in, in, out)) return false;
    int root = niz_map_expression(&p);
    if (!p.failed && p.text[p.at]) niz_map_unexpected(&p, "an operator or the end");
    if (!p.failed) niz_map_type(&p, root);
    for (int i = 0; i < p.n && !p.failed; i++) niz_map_emit(&p, &p.node[i]);
    if (!p.failed) niz_map_finish(map, p.node[root].value);
    return !p.failed;
}

/* ---- printing ------------------------------------------------------------------------------- */

/* The shortest decimal that reads back as v, with a point whatever the locale's is. */
static void niz_map_print_number(double v, char *out, size_t size)
{
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    size_t n = 0;
    bool inside = false;
    for (const char *s = text; *s && n + 1 < size; s++) {
        bool plain = niz_map_is_digit(*s) || *s == '-' || *s == '+' || *s == 'e';
        if (plain || !inside) out[n++] = plain ? *s : '.';
        inside = !plain;
    }
    out[n] = 0;
}

static int niz_map_print_instr(const niz_map *map, int i, char *out, size_t size)
{
    const niz_map_instr *in = &map->instr[i];
    char number[40] = "", type[24];
    if (in->code == NIZ_MAP_CONST) niz_map_print_number(in->value, number, sizeof number);
    snprintf(type, sizeof type, in->code == NIZ_MAP_CAST ? "%s.%s" : "%s",
             niz_dtype_name((niz_dtype)in->type), niz_dtype_name((niz_dtype)in->dtype));
    int n = snprintf(out, size, "%%%d = %s.%s%s%s", map->n_in + i,
                     niz_map_code_name((niz_map_code)in->code), type, *number ? " " : "", number);
    for (int k = 0; k < niz_map_arity((niz_map_code)in->code) && n >= 0 && (size_t)n < size; k++)
        n += snprintf(out + n, size - (size_t)n, " %%%d", in->x[k]);
    if (n >= 0 && (size_t)n < size) n += snprintf(out + n, size - (size_t)n, "\n");
    return n;
}

void niz_map_print(const niz_map *map, char *out, size_t size)
{
    if (!size) return;
    out[0] = 0;
    if (!map->n) snprintf(out, size, "%%%d\n", map->result);
    for (int i = 0; i < map->n; i++) {
        int n = niz_map_print_instr(map, i, out, size);
        if (n < 0 || (size_t)n >= size) return;
        out += n;
        size -= (size_t)n;
    }
}
