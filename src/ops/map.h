/* map.h - the small language of niz_op.map, and what it becomes.
 *
 * A text such as "a / (1 + EXP(-a))" is parsed once for given operand types into a short typed list
 * of instructions.  The interpreter runs the list over blocks of NIZ_MAP_BLOCK elements, the code
 * generator prints it as vector C, the checker can run it on doubles: one meaning, many executors.
 *
 *   expression = or ['?' expression ':' expression]
 *   or, and, comparisons, + -, * / %, unary - and !, calls, ( ), numbers, operands a b c d
 *
 * Arithmetic needs both sides of one dtype; a number takes the other side's, or that of the
 * result where there is none.  A comparison gives bool; ?: takes a bool and selects.  Functions are
 * in capitals: EXP EXPM1 LOG LOG1P SQRT SIN COS TANH ERF POW FLOOR CEIL ROUND TRUNC FMA (floating),
 * ABS MAX MIN SIGN (numbers), CAST(x) to the result's dtype.  ROUND takes halves to even, % is for
 * integers.  u8 is compared, selected and cast; bool is for ! && || ?: == != and casts.  No text of
 * a record reaches the C compiler.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_MAP_H
#define NIZ_MAP_H

#include <niz/core.h>

#define NIZ_MAP_BLOCK 512 /* elements: eight operands of f64 still fit the first-level cache */
#define NIZ_MAP_LIMIT 64  /* instructions of one text */

/* Codes of instructions and how many operands each has. */
#define NIZ_MAP_CODES(X)                                                                           \
    X(CONST, 0) X(NEG, 1) X(NOT, 1) X(ADD, 2) X(SUB, 2) X(MUL, 2) X(DIV, 2) X(MOD, 2)              \
    X(LT, 2) X(LE, 2) X(GT, 2) X(GE, 2) X(EQ, 2) X(NE, 2) X(AND, 2) X(OR, 2) X(SELECT, 3)          \
    X(ABS, 1) X(SIGN, 1) X(MAX, 2) X(MIN, 2) X(SQRT, 1) X(FLOOR, 1) X(CEIL, 1) X(ROUND, 1)         \
    X(TRUNC, 1) X(FMA, 3) X(EXP, 1) X(EXPM1, 1) X(LOG, 1) X(LOG1P, 1) X(SIN, 1) X(COS, 1)          \
    X(TANH, 1) X(ERF, 1) X(POW, 2) X(CAST, 1)

typedef enum niz_map_code {
#define X(code, n) NIZ_MAP_##code,
    NIZ_MAP_CODES(X)
#undef X
    NIZ_MAP_N_CODES
} niz_map_code;

/* Values are numbered: 0..n_in-1 are the operands, then one a instruction in order. */
typedef struct niz_map_instr {
    uint8_t code;  /* niz_map_code */
    uint8_t type;  /* niz_dtype of the operands (of x[1] for SELECT, whose x[0] is bool) */
    uint8_t dtype; /* niz_dtype of the result */
    uint8_t x[3];  /* numbers of the operand values */
    uint8_t slot;  /* where an interpreter keeps the result: see niz_map.n_slots */
    double value;  /* of CONST, exactly a value of dtype */
} niz_map_instr;

typedef struct niz_map {
    int n_in, n;
    niz_dtype in[4];
    niz_dtype out; /* dtype of the result */
    int result;    /* its number: the last value, or an operand if n is 0 (the text "a") */
    int n_slots;   /* blocks of scratch that suffice: operand i has slot i, a constant keeps its
                      slot, others are reused once their last reader is done */
    int width;     /* bytes of the widest dtype of any value */
    niz_map_instr instr[NIZ_MAP_LIMIT];
} niz_map;

/** Parses text for n_in operands of the dtypes in, giving a result of dtype out.  On a mistake
 *  returns false and says in error what is wrong and at which column (from 1). */
bool niz_map_parse(const char *text, int n_in, const niz_dtype *in, niz_dtype out, niz_map *map,
                   char *error, size_t error_size);

/** The instruction list as text, one a line, for tests and dumps: "%2 = exp.f32 %1". */
void niz_map_print(const niz_map *map, char *out, size_t size);

/** Operands of an instruction of that code; its name in lower case. */
int niz_map_arity(niz_map_code code);
const char *niz_map_code_name(niz_map_code code);

#endif
