/* test_tile.c - contractions and convolutions whose results a nest finishes, against the
 * interpreter, bit for bit: sums of one and of several blocks, odd sizes, batches, results that are
 * read elsewhere, too, and updates in place.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/jit.h"
#include "util.h"

#define ROOM 200000 /* doubles of all outputs of a form */

/* [s] of repeatable numbers of both signs */
static niz_t leaf(niz *z, niz_dtype dtype, niz_shape s, int salt)
{
    int64_t n = niz_shape_count(&s);
    niz_t x = niz_cast(niz_iota(z, NIZ_I64, NIZ_SHAPE(n), 0), dtype);
    x = niz_sin(niz_mul(niz_add(x, (double)salt), 12.9898));
    return niz_reshape_at(NIZ_HERE, x, s);
}

/* ---- forms: each returns its outputs in y ---------------------------------------------------- */

typedef struct sizes {
    int64_t m, n, k;
} sizes;

typedef int form(niz *z, niz_dtype d, sizes s, niz_t *y);

static niz_t product(niz *z, niz_dtype d, sizes s)
{
    return niz_matmul(leaf(z, d, NIZ_SHAPE(s.m, s.k), 1), leaf(z, d, NIZ_SHAPE(s.k, s.n), 2));
}

static int bias_and_relu(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    y[0] = niz_relu(niz_add(product(z, d, s), leaf(z, d, NIZ_SHAPE(s.n), 3)));
    return 1;
}

/* The product itself leaves, and so does the mask. */
static int read_elsewhere(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    y[0] = product(z, d, s);
    y[1] = niz_tanh(y[0]);
    y[2] = niz_where(niz_gt(y[0], 0.0), y[1], 0.5);
    y[3] = niz_sum(y[0], .axis = 1);
    return 4;
}

/* Maps of leaves recorded before the product, rows and columns of it, a transposed residue. */
static int maps_before(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    niz_t decay = niz_mul(leaf(z, d, NIZ_SHAPE(s.m, s.n), 4), 0.9);
    niz_t row = niz_square(leaf(z, d, NIZ_SHAPE(s.m, 1), 5));
    niz_t turned = niz_transpose(leaf(z, d, NIZ_SHAPE(s.n, s.m), 6), 0, 1);
    niz_t x = niz_add(niz_mul(product(z, d, s), row), decay);
    y[0] = niz_add(x, turned);
    y[1] = niz_div(x, 3.0);
    return 2;
}

/* [2, m, k] x [2, n, k]: batches, and k contiguous on both sides. */
static int batches(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    niz_t a = leaf(z, d, NIZ_SHAPE(2, s.m, s.k), 1), b = leaf(z, d, NIZ_SHAPE(2, s.n, s.k), 2);
    niz_t each = leaf(z, d, NIZ_SHAPE(2, 1, s.n), 7);
    y[0] = niz_exp(niz_mul(niz_add(niz_einsum("bik,bjk->bij", a, b), each), 0.1));
    return 1;
}

/* Rows of a tile are two axes of the result: [m, n, 3]. */
static int two_axes(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    niz_t a = leaf(z, d, NIZ_SHAPE(s.m, s.k), 1), b = leaf(z, d, NIZ_SHAPE(s.n, 3, s.k), 2);
    niz_t x = niz_einsum("ik,jck->ijc", a, b);
    y[0] = niz_relu(niz_add(x, leaf(z, d, NIZ_SHAPE(s.n, 3), 8)));
    y[1] = niz_add(x, leaf(z, d, NIZ_SHAPE(3), 9)); /* not evenly spaced along both */
    return 2;
}

static int gradients(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    niz_t x = leaf(z, d, NIZ_SHAPE(s.m, s.k), 1);
    niz_t w = leaf(z, d, NIZ_SHAPE(s.k, s.n), 2), v = leaf(z, d, NIZ_SHAPE(s.n, 4), 3);
    niz_t loss = niz_mean(niz_square(niz_matmul(niz_gelu(niz_matmul(x, w)), v)));
    niz_t of[3] = {x, w, v};
    niz_grad(loss, 3, of, y);
    return 3;
}

/* x [2, k % 7 + 1, 9, n] with a kernel of 3 x 3 */
static int convolution(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    int64_t c = s.k % 7 + 1, out = s.m % 19 + 1;
    niz_t x = leaf(z, d, NIZ_SHAPE(2, c, 9, s.n), 1), w = leaf(z, d, NIZ_SHAPE(out, c, 3, 3), 2);
    niz_t b = leaf(z, d, NIZ_SHAPE(out, 1, 1), 3);
    niz_t h = niz_conv(x, w, .pad = 1);
    y[0] = niz_relu(niz_add(h, b));
    y[1] = niz_tanh(niz_conv(x, w, .stride = 2, .pad = 1));
    niz_t of[2] = {x, w};
    niz_grad(niz_sum(niz_square(niz_add(y[0], niz_sum(y[1])))), 2, of, y + 2);
    y[2] = niz_mul(y[2], 2.0);
    return 4;
}

/* ---- operands that are made while they are packed -------------------------------------------- */

/* Both operands of a product, one a row's factor, the other a column's, and used once more each. */
static int scaled_operands(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    niz_t a = niz_mul(leaf(z, d, NIZ_SHAPE(s.m, s.k), 1), leaf(z, d, NIZ_SHAPE(s.m, 1), 2));
    niz_t b = niz_add(leaf(z, d, NIZ_SHAPE(s.k, s.n), 3), leaf(z, d, NIZ_SHAPE(s.n), 4));
    y[0] = niz_matmul(niz_relu(a), niz_square(b));
    y[1] = niz_tanh(niz_matmul(niz_relu(a), niz_sub(b, 1.0)));
    return 2;
}

/* The same turned around in memory, with an operand that is no element of anything in the result.
 */
static int turned_operands(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    niz_t a = niz_where(niz_gt(leaf(z, d, NIZ_SHAPE(s.k, s.m), 1), 0.0),
                        leaf(z, d, NIZ_SHAPE(s.k, s.m), 2), 0.25);
    niz_t b = niz_mul(leaf(z, d, NIZ_SHAPE(s.n, s.k), 3), leaf(z, d, NIZ_SHAPE(s.k), 4));
    y[0] = niz_matmul(niz_transpose(a, 0, 1), niz_transpose(b, 0, 1));
    y[1] = niz_matmul(b, a);
    return 2;
}

/* Batches whose rows are scattered over memory: [B,T,H,D] as [B,H] products over D and over T. */
static int heads(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    int64_t t = s.m % 30 + 1, e = s.k % 40 + 2;
    niz_shape shape = NIZ_SHAPE(2, t, 3, e);
    niz_t q = niz_mul(leaf(z, d, shape, 1), 0.5), k = niz_relu(leaf(z, d, shape, 2));
    niz_t v = niz_add(leaf(z, d, shape, 3), leaf(z, d, NIZ_SHAPE(e), 4));
    niz_t p = niz_einsum("bthd,bshd->bhts", q, k);
    y[0] = niz_einsum("bhts,bshd->bthd", niz_abs(p), v);
    return 1;
}

/* Several axes are summed or free; some of them are split or in another order, which no panel has.
 */
static int many_axes(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    niz_t a = niz_relu(leaf(z, d, NIZ_SHAPE(s.m, 3, s.n), 1));
    niz_t b = niz_square(leaf(z, d, NIZ_SHAPE(5, 3, s.n), 2));
    y[0] = niz_einsum("ijk,ljk->il", a, b);
    y[1] = niz_einsum("ijk,ljk->jil", a, b);
    y[2] = niz_einsum("ijk,lj->lik", a,
                      niz_slice(niz_abs(leaf(z, d, NIZ_SHAPE(6, 3), 3)), 0, 1, 6, 1));
    y[3] = niz_einsum("ikj,lkj->il", niz_transpose(a, 1, 2), niz_transpose(b, 1, 2));
    return 4;
}

/* Columns that are not evenly spaced in what they are computed from, or in what they are. */
static int uneven_columns(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    niz_t a = niz_mul(leaf(z, d, NIZ_SHAPE(s.m, 3, s.n), 1), leaf(z, d, NIZ_SHAPE(3, 1), 2));
    y[0] = niz_einsum("ijk,ljk->il", a, leaf(z, d, NIZ_SHAPE(5, 3, s.n), 3));
    niz_t b = niz_reshape(niz_relu(leaf(z, d, NIZ_SHAPE(4, 6 * s.n), 4)), NIZ_SHAPE(4, 2, 3 * s.n));
    y[1] = niz_einsum("kij,lkj->il", b, leaf(z, d, NIZ_SHAPE(s.m, 4, 3 * s.n), 5));
    return 2;
}

/* A map of 60 operations, time after time: not all of them fit one nest. */
#define STEP(x) "(" x "*0.25+a)"
#define STEPS5(x) STEP(STEP(STEP(STEP(STEP(x)))))
static const niz_op long_map = {.name = "long_map",
                                .arity = 1,
                                .infer = niz_infer_same_float,
                                .no_gradient = true,
                                .map = STEPS5(STEPS5(STEPS5(STEPS5(STEPS5(STEPS5("a"))))))};

static int long_maps(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    niz_t a = leaf(z, d, NIZ_SHAPE(s.m, s.k), 1);
    for (int i = 0; i < 16; i++) a = niz_apply(&long_map, 1, &a, NULL);
    y[0] = niz_matmul(a, leaf(z, d, NIZ_SHAPE(s.k, s.n), 2));
    return 1;
}

/* As many elements as there are, but some twice: windows of every other element of 4 x 4, whose
 * second half is in another row. */
static int windows(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    niz_t x = niz_mul(leaf(z, d, NIZ_SHAPE(4, 4, s.k), 1), leaf(z, d, NIZ_SHAPE(4, 1, 1), 2));
    x = niz_window(niz_reshape(x, NIZ_SHAPE(16, s.k)), 0, 4, 2, 2); /* [5,k,4] */
    x = niz_slice(x, 0, 0, 4, 1);
    y[0] = niz_einsum("ikj,nk->ijn", x, leaf(z, d, NIZ_SHAPE(s.n, s.k), 3));
    return 1;
}

/* Normalised, clipped and padded; by steps; and again for the gradient of the weights. */
static int convolved(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    int64_t c = s.k % 5 + 1, out = s.m % 19 + 1;
    niz_t x = leaf(z, d, NIZ_SHAPE(2, c, 9, s.n + 2), 1);
    niz_t w = leaf(z, d, NIZ_SHAPE(out, c, 3, 3), 2);
    niz_t h = niz_relu(niz_mul(niz_sub(x, 0.125), leaf(z, d, NIZ_SHAPE(c, 1, 1), 3)));
    y[0] = niz_conv(h, w, .pad = 1);
    y[1] = niz_relu(niz_conv(h, w, .stride = 2, .pad = 2, .dilation = 2));
    niz_t line = niz_square(leaf(z, d, NIZ_SHAPE(2, c, 7 * s.n + 3), 4));
    y[2] = niz_conv(line, leaf(z, d, NIZ_SHAPE(out, c, 2), 5), .stride = 3, .pad = 1);
    niz_t loss = niz_add(niz_sum(niz_square(y[0])), niz_sum(y[2]));
    niz_grad(loss, 1, &w, y + 3);
    return 4;
}

/* Products of one value with itself, each with two panels: more groups than nodes. */
static int squares(niz *z, niz_dtype d, sizes s, niz_t *y)
{
    static const char *const how[] = {"abcd,efgd->abcefg", "abcd,efcd->abef", "abcd,ebcd->ae",
                                      "abcd,aefd->abcef",  "abcd,aecd->abe",  "abcd,abed->abce"};
    niz_t x = niz_param(z, d == NIZ_F32 ? "x" : "x64", d, NIZ_SHAPE(3, 4, 5, 6),
                        niz_normal_init(.std = 1));
    niz_t r = niz_abs(x);
    for (int i = 0; i < NIZ_COUNT(how); i++) y[i] = niz_einsum(how[i], r, r);
    niz_assign(x, niz_mul(r, s.m > 2 ? 0.5 : 0.25));
    return NIZ_COUNT(how);
}

static const struct {
    const char *name;
    form *make;
} forms[] = {
    {"bias and relu", bias_and_relu},
    {"read elsewhere", read_elsewhere},
    {"maps before", maps_before},
    {"batches", batches},
    {"two axes", two_axes},
    {"gradients", gradients},
    {"convolution", convolution},
    {"scaled operands", scaled_operands},
    {"turned operands", turned_operands},
    {"heads", heads},
    {"many axes", many_axes},
    {"convolved", convolved},
    {"uneven columns", uneven_columns},
    {"long maps", long_maps},
    {"windows", windows},
    {"squares", squares},
};

static const sizes all_sizes[] = {
    {2, 2, 1}, {3, 17, 5}, {13, 32, 64}, {25, 40, 400}, {64, 10, 33}, {5, 300, 20}, {70, 33, 800},
};

/* ---- the comparison -------------------------------------------------------------------------- */

static int64_t run_form(niz *z, form *make, niz_dtype d, sizes s, double *out)
{
    NIZ_STEP(z);
    niz_t y[8];
    int n = make(z, d, s, y);
    ck_assert_msg(niz_run(z, n, y) == NIZ_OK, "%s", niz_message(z));
    int64_t at = 0;
    for (int i = 0; i < n; i++) {
        niz_t v = niz_cast(y[i], NIZ_F64);
        niz_shape shape = niz_shape_of(v);
        int64_t count = niz_shape_count(&shape);
        ck_assert_int_le(at + count, ROOM);
        ck_assert_int_eq(niz_read(v, out + at, sizeof *out * (size_t)count), NIZ_OK);
        at += count;
    }
    return at;
}

static void same_bits(niz_dtype d, const char *isa, int threads, int every)
{
    static double p[ROOM], q[ROOM];
    niz *a = util_open_jit(NIZ_JIT_OFF, isa, 1), *b = util_open_jit(NIZ_JIT_SYNC, isa, threads);
    int number = 0;
    for (size_t f = 0; f < NIZ_COUNT(forms); f++)
        for (size_t s = 0; s < NIZ_COUNT(all_sizes); s++) {
            if (number++ % every) continue;
            int64_t n = run_form(a, forms[f].make, d, all_sizes[s], p);
            ck_assert_int_eq(run_form(b, forms[f].make, d, all_sizes[s], q), n);
            for (int64_t i = 0; i < n; i++)
                ck_assert_msg(!memcmp(&p[i], &q[i], sizeof *p),
                              "%s, size %d: %lld is %.17g not %.17g", forms[f].name, (int)s,
                              (long long)i, q[i], p[i]);
        }
    ck_assert_int_eq(niz_statistics(b).plans_refused, 0);
    niz_close(a);
    niz_close(b);
}

START_TEST(finished_tiles_have_the_interpreters_bits)
{
    same_bits(NIZ_F32, NULL, 1, 1);
    same_bits(NIZ_F64, NULL, 3, 1);
}
END_TEST

START_TEST(finished_tiles_have_the_same_bits_on_every_isa)
{
    static const char *const isa[] = {"avx2", "sse2"};
    for (size_t i = 0; i < NIZ_COUNT(isa); i++) same_bits(NIZ_F32, isa[i], 2, 3);
}
END_TEST

/* With everything computed while it is packed that can be, whether or not it pays. */
START_TEST(packed_expressions_have_the_interpreters_bits)
{
    setenv("NIZ_FORCE", "recompute", 1);
    same_bits(NIZ_F32, NULL, 1, 2);
    same_bits(NIZ_F64, NULL, 3, 3);
    unsetenv("NIZ_FORCE");
}
END_TEST

START_TEST(packed_expressions_have_the_same_bits_on_every_isa)
{
    setenv("NIZ_FORCE", "recompute", 1);
    same_bits(NIZ_F32, "avx2", 2, 3);
    same_bits(NIZ_F64, "sse2", 2, 5);
    unsetenv("NIZ_FORCE");
}
END_TEST

/* ---- updates in place ------------------------------------------------------------------------ */

typedef niz_optim optimiser(void);

static niz_optim momentum(void)
{
    return niz_sgd(.lr = .1, .momentum = .9, .l2 = .01);
}

static niz_optim adam(void)
{
    return niz_adam(.lr = .01);
}

/* Two layers of equal size, so that either's update could land in the other's tile. */
static void train(niz *z, optimiser *make, int steps, double *out)
{
    niz_optim opt = make();
    for (int i = 0; i < steps; i++) {
        NIZ_STEP(z);
        niz_t x = leaf(z, NIZ_F32, NIZ_SHAPE(9, 40), i);
        niz_t h = niz_tanh(niz_linear(x, 40, "a"));
        niz_t y = niz_linear(niz_gelu(niz_linear(h, 40, "b")), 3, "c");
        niz_t loss = niz_mean(niz_square(niz_sub(y, 0.25)));
        niz_minimize(&opt, loss);
        out[i] = niz_item(loss);
    }
}

static void updates_same(optimiser *make, int threads)
{
    double p[12], q[12];
    niz *a = util_open_jit(NIZ_JIT_OFF, NULL, 1), *b = util_open_jit(NIZ_JIT_SYNC, NULL, threads);
    train(a, make, NIZ_COUNT(p), p);
    train(b, make, NIZ_COUNT(q), q);
    ck_assert_int_eq(niz_error(b), NIZ_OK);
    for (int i = 0; i < NIZ_COUNT(p); i++)
        ck_assert_msg(p[i] == q[i], "step %d: %.17g and %.17g", i, p[i], q[i]);
    ck_assert(p[11] < p[0]);
    niz_close(a);
    niz_close(b);
}

START_TEST(updates_in_tiles_have_the_same_bits)
{
    updates_same(momentum, 1);
    updates_same(momentum, 2);
    updates_same(adam, 3);
}
END_TEST

/* A parameter that the contraction itself reads must not be overwritten under its hands. */
START_TEST(a_weight_read_by_its_own_update_is_not_overwritten_early)
{
    double p[6], q[6];
    for (int compiled = 0; compiled < 2; compiled++) {
        niz *z = util_open_jit(compiled ? NIZ_JIT_SYNC : NIZ_JIT_OFF, NULL, compiled ? 2 : 1);
        for (int i = 0; i < 6; i++) {
            NIZ_STEP(z);
            niz_t w = niz_param(z, "w", NIZ_F32, NIZ_SHAPE(70, 70), niz_normal_init(.std = .1));
            niz_t next = niz_sub(w, niz_mul(niz_matmul(w, w), 0.1)); /* [70,70] */
            niz_assign(w, next);
            (compiled ? q : p)[i] = niz_item(niz_sum(niz_square(next)));
        }
        niz_close(z);
    }
    for (int i = 0; i < 6; i++) ck_assert_msg(p[i] == q[i], "%d: %.17g and %.17g", i, p[i], q[i]);
}
END_TEST

int main(void)
{
    UTIL_MAIN("tile", finished_tiles_have_the_interpreters_bits,
              finished_tiles_have_the_same_bits_on_every_isa,
              packed_expressions_have_the_interpreters_bits,
              packed_expressions_have_the_same_bits_on_every_isa,
              updates_in_tiles_have_the_same_bits,
              a_weight_read_by_its_own_update_is_not_overwritten_early);
}
