/* contract.c - the general batched contraction, from which every matrix product is made.
 *
 * y[batch.., m.., n..] = Σ_k a[batch.., m.., k..] b[batch.., n.., k..].  It is linear in each
 * operand, and each adjoint is a contraction again, of views with axes permuted.
 *
 * SPDX-License-Identifier: MIT */
#include "ops/families.h"
#include "ops/infer.h"
#include "ops/record.h"

#define POSITIVE .lo = {0.1, 0.1}, .hi = {2, 2}

static bool sizes_differ(niz_infer *f, const char *which, int64_t a, int64_t b)
{
    return niz_infer_fail(f, NIZ_E_SHAPE, "%s sizes differ, %lld and %lld", which, (long long)a,
                          (long long)b);
}

/* batch sum */
static bool contract_infer(niz_infer *f)
{
    const niz_shape *a = f->x[0].shape, *b = f->x[1].shape;
    int least = a->rank < b->rank ? a->rank : b->rank;
    if (!niz_dtype_is_number(f->x[0].dtype))
        return niz_infer_fail(f, NIZ_E_DTYPE, "%s is no number; niz_cast it",
                              niz_dtype_name(f->x[0].dtype));
    if (!niz_infer_one_dtype(f, 0)) return false;
    if (f->attr.n != 2 || f->attr.value[0] < 0 || f->attr.value[1] < 0 ||
        f->attr.value[0] > least || f->attr.value[1] > least - f->attr.value[0])
        return niz_infer_fail(f, NIZ_E_ARGUMENT, "more shared and summed axes than an operand has");
    int batch = (int)f->attr.value[0], sum = (int)f->attr.value[1];
    int m = a->rank - batch - sum, n = b->rank - batch - sum;
    for (int d = 0; d < batch; d++)
        if (a->dim[d] != b->dim[d]) return sizes_differ(f, "batch", a->dim[d], b->dim[d]);
    for (int d = 0; d < sum; d++) {
        int64_t p = a->dim[batch + m + d], q = b->dim[batch + n + d];
        if (p != q) return sizes_differ(f, "inner", p, q);
    }
    if (batch + m + n > NIZ_MAX_RANK)
        return niz_infer_fail(f, NIZ_E_SHAPE, "the result would have %d axes; at most %d",
                              batch + m + n, NIZ_MAX_RANK);
    f->made = (niz_shape){.rank = batch + m + n};
    for (int d = 0; d < batch + m; d++) f->made.dim[d] = a->dim[d];
    for (int d = 0; d < n; d++) f->made.dim[batch + m + d] = b->dim[batch + d];
    f->dtype = f->x[0].dtype;
    f->shape = &f->made;
    return true;
}

/* [batch.., p.., q..] -> [batch.., q.., p..] */
static niz_t swapped(niz_t x, int batch, int p)
{
    int rank = niz_shape_of(x).rank, q = rank - batch - p;
    niz_axes to = {.n = rank};
    for (int d = 0; d < batch; d++) to.axis[d] = d;
    for (int d = 0; d < q; d++) to.axis[batch + d] = batch + p + d;
    for (int d = 0; d < p; d++) to.axis[batch + q + d] = batch + d;
    return niz_permute(x, to);
}

/* ga[m,k] = Σ_n gy[m,n] b[n,k],  gb[n,k] = Σ_m gy[m,n] a[m,k] */
static niz_t contract_adjoint(const niz_app *p, int i, niz_t gy)
{
    int batch = (int)p->attr.value[0], sum = (int)p->attr.value[1];
    int m = niz_shape_of(p->x[0]).rank - batch - sum, n = niz_shape_of(p->x[1]).rank - batch - sum;
    if (i == 0) return niz_contract(gy, swapped(p->x[1], batch, n), batch, n);
    return niz_contract(swapped(gy, batch, m), swapped(p->x[0], batch, m), batch, m);
}

static void contract_ref(const niz_ref *r)
{
    const niz_shape *a = &r->x_shape[0], *b = &r->x_shape[1];
    int batch = (int)r->attr.value[0], sum = (int)r->attr.value[1];
    int64_t B = niz_count_of(a, 0, batch), K = niz_count_of(a, a->rank - sum, a->rank);
    int64_t M = niz_count_of(a, batch, a->rank - sum), N = niz_count_of(b, batch, b->rank - sum);
    for (int64_t i = 0; i < B; i++)
        for (int64_t m = 0; m < M; m++)
            for (int64_t n = 0; n < N; n++) {
                double y = 0;
                for (int64_t k = 0; k < K; k++)
                    y += r->x[0][(i * M + m) * K + k] * r->x[1][(i * N + n) * K + k];
                r->y[(i * M + m) * N + n] = y;
            }
}

const niz_op niz_op_contract = {
    .name = "contract", .arity = 2, .attrs = "batch sum", .infer = contract_infer,
    .form = NIZ_FORM_CONTRACT, .adjoint = contract_adjoint, .ref_tensor = contract_ref, .ulp = 400,
    SAMPLES({.x = {{2, {5, 7}}, {2, {3, 7}}}, .n_attr = 2, .attr = {0, 1}, POSITIVE},
            {.x = {{3, {2, 17, 401}}, {3, {2, 19, 401}}}, .n_attr = 2, .attr = {1, 1}, POSITIVE},
            {.x = {{4, {3, 5, 2, 7}}, {4, {3, 4, 2, 7}}}, .n_attr = 2, .attr = {1, 2}, POSITIVE},
            {.x = {{4, {2, 3, 1, 5}}, {4, {2, 3, 2, 5}}}, .n_attr = 2, .attr = {2, 1}, POSITIVE},
            {.x = {{1, {5}}, {1, {7}}}, .n_attr = 2, POSITIVE},
            {.x = {{1, {601}}, {1, {601}}}, .n_attr = 2, .attr = {0, 1}, POSITIVE},
            {.x = {{2, {1, 1}}, {2, {1, 1}}}, .n_attr = 2, .attr = {0, 1}, POSITIVE},
            {.x = {{0}, {0}}, .n_attr = 2, POSITIVE},
            {.x = {{2, {3, 0}}, {2, {2, 0}}}, .n_attr = 2, .attr = {0, 1}},
            {.x = {{2, {0, 3}}, {2, {2, 3}}}, .n_attr = 2, .attr = {0, 1}},
            {.x = {{3, {0, 2, 3}}, {3, {0, 2, 3}}}, .n_attr = 2, .attr = {1, 1}},
            {.n = 2, .x = {{2, {2, 2}}, {2, {2, 2}}}, .n_attr = 2, .attr = {0, 1},
             .in = VALUES(1, 2, 3, 4, 5, 6, 7, 8), .out = VALUES(17, 23, 39, 53)},
            {.x = {{2, {2, 7}}, {2, {2, 8}}}, .n_attr = 2, .attr = {0, 1},
             .refused = "inner sizes differ, 7 and 8"},
            {.x = {{2, {2, 7}}, {2, {3, 7}}}, .n_attr = 2, .attr = {1, 1},
             .refused = "batch sizes differ, 2 and 3"},
            {.x = {{2, {2, 7}}, {1, {7}}}, .n_attr = 2, .attr = {1, 1}, .refused = "more shared"},
            {.x = {{5, {1, 1, 1, 1, 1}}, {4, {1, 1, 1, 1}}}, .n_attr = 2, .attr = {0, 0},
             .refused = "would have 9 axes"}),
};

const niz_op *const niz_ops_contract[] = {&niz_op_contract, NULL};

niz_t niz_contract_at(niz_at at, niz_t a, niz_t b, int n_batch, int n_sum)
{
    return niz_apply_at(at, &niz_op_contract, 2, (niz_t[]){a, b},
                        &(niz_attrs){2, (int64_t[]){n_batch, n_sum}});
}
