/* check_gradients.c - is a gradient right?
 *
 * Checks a loss written as an expression, a small network, and four operations written as records
 * of their own: one is right, and three have a mistake of the kind that everyone makes once.  The
 * checker passes the first ones and catches the three, naming operation, line, element and values.
 *
 * SPDX-License-Identifier: MIT */
#include <niz.h>
#include <stdio.h>
#include <string.h>

/* ---- a loss and a network ------------------------------------------------------------------- */

/* mean(√(1 + r²) - 1): quadratic near 0, linear far away, so outliers pull little */
static niz_t robust(niz_t a, niz_t t)
{
    niz_t r = niz_sub(a, t);
    return niz_mean(niz_sub(niz_sqrt(niz_add(niz_square(r), 1.0)), 1.0));
}

static niz_t robust_loss(niz *z, int n, const niz_t *x, void *arg)
{
    (void)z, (void)n, (void)arg;
    return robust(x[0], x[1]);
}

/* 5 inputs, 7 hidden units, 3 classes, cross-entropy */
static niz_t network(niz *z, int n, const niz_t *x, void *labels)
{
    niz_t classes = niz_copy_from(z, NIZ_I32, NIZ_SHAPE(4), labels);
    niz_t hidden = niz_tanh(niz_add(niz_matmul(x[0], x[1]), x[2])); /* [4,7] */
    (void)n;
    return niz_cross_entropy(niz_matmul(hidden, x[3]), classes);
}

/* ---- operations of our own ------------------------------------------------------------------ */

/* y = x sigmoid(βx), β = 1.5: dy/dx = s + βy (1 - s) */
static niz_t swish_d(const niz_app *p, int i)
{
    niz_t s = niz_sigmoid(niz_mul(p->x[0], 1.5));
    (void)i;
    return niz_add(s, niz_mul(niz_mul(p->y, 1.5), niz_sub(1.0, s)));
}

static const niz_op swish = {
    .name = "swish", .arity = 1, .infer = niz_infer_same_float,
    .map = "a / (1 + EXP(-1.5 * a))", .partial = swish_d,
};

/* y = ½(a - b)²: the derivative with respect to b has the sign of the one for a */
static niz_t half_square_d(const niz_app *p, int i)
{
    (void)i;
    return niz_sub(p->x[0], p->x[1]);
}

static const niz_op half_square = {
    .name = "half_square", .arity = 2, .infer = niz_infer_same_float,
    .map = "0.5 * (a - b) * (a - b)", .partial = half_square_d,
};

/* y = √(a² + b²): the factor ½ of the square root was kept, the 2 of the square was not */
static niz_t robust_norm_d(const niz_app *p, int i)
{
    return niz_div(niz_mul(p->x[i], 0.5), p->y);
}

static const niz_op robust_norm = {
    .name = "robust_norm", .arity = 2, .infer = niz_infer_same_float,
    .map = "SQRT(a * a + b * b)", .partial = robust_norm_d,
};

/* y = a³: right once, but the 6x of the second derivative is lost behind a stop_gradient */
static niz_t cube_d(const niz_app *p, int i)
{
    (void)i;
    return niz_mul(niz_square(niz_stop_gradient(p->x[0])), 3.0);
}

static const niz_op cube = {
    .name = "cube", .arity = 1, .infer = niz_infer_same_float, .map = "a * a * a",
    .partial = cube_d,
};

/* A function of one or two tensors that ends in the operation given as arg. */
static niz_t with_op(niz *z, int n, const niz_t *x, void *arg)
{
    const niz_op *op = arg;
    (void)z, (void)n;
    niz_t y = niz_apply(op, op->arity, x, NULL);
    return niz_sum(niz_exp(niz_mul(y, 0.3)));
}

/* ---- running the checks --------------------------------------------------------------------- */

static int surprises;

static void say(const char *what, const niz_check_report *r, niz_check_verdict expected)
{
    printf("%-28s %s\n  %s\n\n", what, niz_check_verdict_name(r->verdict), r->text);
    if (r->verdict == expected) return;
    surprises++;
    printf("  this was to be: %s\n\n", niz_check_verdict_name(expected));
}

static void check_loss(niz *z)
{
    NIZ_STEP(z);
    niz_t x[2] = {niz_normal(z, NIZ_F32, NIZ_SHAPE(3, 4), 0, 1),
                  niz_normal(z, NIZ_F32, NIZ_SHAPE(4), 0, 1)};
    niz_check_report r = niz_check_grad(robust_loss, NULL, 2, x, .order = 2);
    say("robust loss", &r, NIZ_CHECK_OK);
}

static void check_network(niz *z)
{
    NIZ_STEP(z);
    static int32_t labels[] = {0, 2, 1, 2};
    niz_t x[4] = {niz_normal(z, NIZ_F32, NIZ_SHAPE(4, 5), 0, 1),
                  niz_normal(z, NIZ_F32, NIZ_SHAPE(5, 7), 0, .5),
                  niz_normal(z, NIZ_F32, NIZ_SHAPE(7), 0, .1),
                  niz_normal(z, NIZ_F32, NIZ_SHAPE(7, 3), 0, .5)};
    niz_check_report r = niz_check_grad(network, labels, 4, x, .order = 2);
    say("a network", &r, NIZ_CHECK_OK);
}

static void check_op(niz *z, const niz_op *op, niz_check_verdict expected)
{
    NIZ_STEP(z);
    niz_t x[2] = {niz_normal(z, NIZ_F32, NIZ_SHAPE(2, 3), 0, 1),
                  niz_normal(z, NIZ_F32, NIZ_SHAPE(3), 0, 1)};
    niz_check_report r = niz_check_grad(with_op, (void *)op, op->arity, x, .order = 2);
    say(op->name, &r, expected);
    if (expected == NIZ_CHECK_WRONG && (!r.op || strcmp(r.op, op->name))) {
        surprises++;
        printf("  %s is to blame, not %s\n\n", op->name, r.op ? r.op : "nothing");
    }
}

int main(void)
{
    niz *z = niz_open(NULL);
    check_loss(z);
    check_network(z);
    check_op(z, &swish, NIZ_CHECK_OK);
    check_op(z, &half_square, NIZ_CHECK_WRONG);
    check_op(z, &robust_norm, NIZ_CHECK_WRONG);
    check_op(z, &cube, NIZ_CHECK_WRONG);
    if (niz_error(z)) {
        surprises++;
        fprintf(stderr, "%s\n", niz_message(z));
    }
    niz_close(z);
    printf(surprises ? "%d surprises\n" : "all as expected: three right, three mistakes caught\n",
           surprises);
    return surprises != 0;
}
