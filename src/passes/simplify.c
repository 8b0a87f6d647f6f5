/* simplify.c - local rewrites, each with a name, and constant folding.
 *
 * A rewrite looks at one node whose operands are already simplified and gives a node to use in its
 * place.  All but "thin" leave every bit as it was: they use a literal's value only where the
 * result is exact, so a graph whose literals became data gives the same bits.  "thin" is part of
 * the arithmetic contract: it depends on shapes alone.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "core/type.h"
#include "ops/families.h"
#include "passes/pass.h"

typedef struct niz_rewrite {
    niz_rebuild *b;
    const niz_pass_env *env;
    const niz_graph *g; /* the output so far: operands are its nodes */
    uint32_t like;      /* the node of the input that is being rewritten */
    const niz_op *op;
    int n;
    uint32_t arg[NIZ_MAX_ARITY];
    niz_attrs attr;
    niz_dtype dtype;
    const niz_shape *shape;
} niz_rewrite;

static const niz_node *arg_node(const niz_rewrite *w, int i)
{
    return &w->g->node[w->arg[i]];
}

static uint32_t make(niz_rewrite *w, const niz_op *op, int n, const uint32_t *arg, niz_attrs attr)
{
    return niz_rebuild_add(w->b, w->like, op, n, arg, attr);
}

static uint32_t make_dims(niz_rewrite *w, const niz_op *op, uint32_t x, const niz_shape *shape)
{
    return make(w, op, 1, &x, (niz_attrs){shape->rank, shape->dim});
}

static bool has_result_type(const niz_rewrite *w, uint32_t x)
{
    const niz_node *n = &w->g->node[x];
    return n->dtype == w->dtype && niz_shape_equal(n->shape, w->shape);
}

/* Operand i as a literal, seen through a broadcast of it. */
static bool literal_value(const niz_rewrite *w, int i, double *v)
{
    const niz_node *n = arg_node(w, i);
    if (n->op == &niz_op_broadcast) n = &w->g->node[n->arg[0]];
    if (n->op != &niz_op_literal) return false;
    memcpy(v, &n->attr[0], sizeof *v);
    return true;
}

static bool is_literal(const niz_rewrite *w, int i, double value)
{
    double v;
    return literal_value(w, i, &v) && v == value && signbit(v) == signbit(value);
}

/* ---- arithmetic that is exact --------------------------------------------------------------- */

/* x * 1, x / 1 -> x; x * -1 -> -x */
static uint32_t unit_factor(niz_rewrite *w)
{
    bool product = w->op == &niz_op_mul;
    if (!product && w->op != &niz_op_div) return NIZ_NONE;
    for (int i = product ? 0 : 1; i < 2; i++) {
        uint32_t x = w->arg[1 - i];
        if (!has_result_type(w, x)) continue;
        if (is_literal(w, i, 1)) return x;
        if (is_literal(w, i, -1)) return make(w, &niz_op_neg, 1, &x, (niz_attrs){0});
    }
    return NIZ_NONE;
}

/* x - 0, x + -0 -> x (x + 0 is not exact: -0 + 0 = +0; integers have no -0) */
static uint32_t zero_term(niz_rewrite *w)
{
    bool sum = w->op == &niz_op_add, whole = !niz_dtype_is_float(w->dtype);
    if (!sum && w->op != &niz_op_sub) return NIZ_NONE;
    for (int i = sum ? 0 : 1; i < 2; i++) {
        uint32_t x = w->arg[1 - i];
        bool zero = is_literal(w, i, sum ? -0.0 : 0.0) || (whole && is_literal(w, i, 0.0));
        if (zero && has_result_type(w, x)) return x;
    }
    return NIZ_NONE;
}

/* -(-x) -> x; a + -b -> a - b; a - -b -> a + b */
static uint32_t double_negation(niz_rewrite *w)
{
    const niz_op *sub = &niz_op_sub;
    if (w->op == &niz_op_neg && arg_node(w, 0)->op == &niz_op_neg) return arg_node(w, 0)->arg[0];
    if ((w->op != &niz_op_add && w->op != sub) || arg_node(w, 1)->op != &niz_op_neg)
        return NIZ_NONE;
    uint32_t arg[2] = {w->arg[0], arg_node(w, 1)->arg[0]};
    return make(w, w->op == sub ? &niz_op_add : sub, 2, arg, (niz_attrs){0});
}

/* ---- movement -------------------------------------------------------------------------------- */

/* A movement that moves nothing. */
static uint32_t no_movement(niz_rewrite *w)
{
    if (w->n != 1 || niz_op_form(w->op) == NIZ_FORM_REDUCE || !has_result_type(w, w->arg[0]))
        return NIZ_NONE;
    bool same = w->op == &niz_op_reshape || w->op == &niz_op_broadcast || w->op == &niz_op_cast ||
                w->op == &niz_op_stop_gradient;
    if (w->op == &niz_op_permute) {
        same = true;
        for (int i = 0; i < w->attr.n; i++) same = same && w->attr.value[i] == i;
    }
    if (w->op == &niz_op_slice || w->op == &niz_op_pad) same = true; /* the size tells */
    return same ? w->arg[0] : NIZ_NONE;
}

/* reshape of reshape, broadcast of broadcast, permute of permute: one of them does */
static uint32_t movement_twice(niz_rewrite *w)
{
    const niz_node *x = w->n == 1 ? arg_node(w, 0) : NULL;
    if (!x || x->op != w->op) return NIZ_NONE;
    if (w->op == &niz_op_reshape || w->op == &niz_op_broadcast)
        return make_dims(w, w->op, x->arg[0], w->shape);
    if (w->op != &niz_op_permute) return NIZ_NONE;
    int64_t axes[NIZ_MAX_RANK];
    for (int i = 0; i < w->attr.n; i++) axes[i] = x->attr[w->attr.value[i]];
    return make(w, w->op, 1, &x->arg[0], (niz_attrs){w->attr.n, axes});
}

/* broadcast(reshape(x)) of one element -> broadcast(x) */
static uint32_t broadcast_of_one(niz_rewrite *w)
{
    if (w->op != &niz_op_broadcast || arg_node(w, 0)->op != &niz_op_reshape) return NIZ_NONE;
    uint32_t x = arg_node(w, 0)->arg[0];
    if (w->g->node[x].shape->rank) return NIZ_NONE;
    return make_dims(w, w->op, x, w->shape);
}

/* A map needs no broadcast operand: it broadcasts by itself, if another operand has the shape. */
static uint32_t map_broadcasts(niz_rewrite *w)
{
    uint32_t arg[NIZ_MAX_ARITY];
    bool full = false, some = false;
    if (niz_op_form(w->op) != NIZ_FORM_MAP || w->n < 2) return NIZ_NONE;
    for (int i = 0; i < w->n; i++) {
        const niz_node *x = arg_node(w, i);
        bool wide = x->op == &niz_op_broadcast;
        arg[i] = wide ? x->arg[0] : w->arg[i];
        some = some || wide;
        full = full || niz_shape_equal(w->g->node[arg[i]].shape, w->shape);
    }
    return full && some ? niz_rebuild_try(w->b, w->like, w->op, w->n, arg, w->attr) : NIZ_NONE;
}

/* f(broadcast(x)) -> broadcast(f(x)): once for all copies, if f takes the smaller shape */
static uint32_t map_before_broadcast(niz_rewrite *w)
{
    niz_infer f;
    niz_type types[NIZ_MAX_ARITY];
    if (niz_op_form(w->op) != NIZ_FORM_MAP || w->n != 1 || w->op == &niz_op_copy ||
        arg_node(w, 0)->op != &niz_op_broadcast)
        return NIZ_NONE;
    const uint32_t *small = arg_node(w, 0)->arg;
    if (!niz_graph_infer(w->g, &f, w->op, 1, small, &w->attr, types) || f.dtype != w->dtype ||
        !niz_shape_equal(f.shape, w->g->node[small[0]].shape))
        return NIZ_NONE;
    uint32_t x = make(w, w->op, 1, small, w->attr);
    return x == NIZ_NONE ? x : make_dims(w, &niz_op_broadcast, x, w->shape);
}

/* ---- reductions and contractions --------------------------------------------------------------
 */

/* A sum, product or extreme of one element is that element. */
static uint32_t reduce_one(niz_rewrite *w)
{
    bool folds = niz_op_form(w->op) == NIZ_FORM_REDUCE && w->op->combine <= NIZ_COMBINE_MIN;
    if (!folds || arg_node(w, 0)->shape->dim[w->attr.value[0]] != 1) return NIZ_NONE;
    return make_dims(w, &niz_op_reshape, w->arg[0], w->shape);
}

/* Products of the sizes of a contraction operand's own axes. */
static int64_t own_count(const niz_shape *s, int batch, int sum)
{
    int64_t n = 1;
    for (int i = batch; i < s->rank - sum; i++) n *= s->dim[i];
    return n;
}

/* [batch.., own.., sum..] with `free` axes of size 1 in place of its own */
static uint32_t thin_operand(niz_rewrite *w, uint32_t x, int batch, int sum, int free)
{
    const niz_shape *s = w->g->node[x].shape;
    niz_shape t = {.rank = batch + free + sum};
    for (int i = 0; i < t.rank; i++)
        t.dim[i] = i < batch ? s->dim[i] : i < batch + free ? 1 : s->dim[s->rank - (t.rank - i)];
    return make_dims(w, &niz_op_reshape, x, &t);
}

/* Where the axes of node x lie in what it permutes, and that node; or in x itself, if it permutes
 * nothing or the first `kept` axes would change their order. */
static uint32_t native_axes(const niz_rewrite *w, uint32_t x, int kept, int64_t *axis)
{
    const niz_node *n = &w->g->node[x];
    bool permutes = n->op == &niz_op_permute;
    for (int i = 1; i < kept; i++) permutes = permutes && n->attr[i - 1] < n->attr[i];
    for (int i = 0; i < n->shape->rank; i++) axis[i] = permutes ? n->attr[i] : i;
    return permutes ? n->arg[0] : x;
}

/* The sums of y over axis[n - 1], ... axis[from], in this order, given y's axes as they were. */
static uint32_t sum_axes(niz_rewrite *w, uint32_t y, const int64_t *axis, int from, int n)
{
    for (int i = n; i-- > from && y != NIZ_NONE;) {
        int64_t at = axis[i];
        for (int j = i + 1; j < n; j++) at -= axis[j] < axis[i];
        y = make(w, &niz_op_sum, 1, &y, (niz_attrs){1, &at});
    }
    return y;
}

/* A contraction with one (or no) free index on a side is a product and a sum: matrix x vector.  The
 * matrix is walked in its own order, so that a transposed one is summed over columns. */
static uint32_t thin(niz_rewrite *w)
{
    if (w->op != &niz_op_contract || w->attr.value[1] == 0) return NIZ_NONE;
    int batch = (int)w->attr.value[0], sum = (int)w->attr.value[1];
    const niz_shape *sa = arg_node(w, 0)->shape, *sb = arg_node(w, 1)->shape;
    bool thin_a = own_count(sa, batch, sum) == 1, thin_b = own_count(sb, batch, sum) == 1;
    if (!thin_a && !thin_b) return NIZ_NONE;
    int wide = thin_a ? 1 : 0, rank = (wide ? sb : sa)->rank, kept = rank - sum;
    int64_t axis[NIZ_MAX_RANK], back[NIZ_MAX_RANK];
    uint32_t arg[2] = {native_axes(w, w->arg[wide], kept, axis),
                       thin_operand(w, w->arg[1 - wide], batch, sum, kept - batch)};
    for (int i = 0; i < rank; i++) back[axis[i]] = i;
    if (arg[1] != NIZ_NONE && arg[0] != w->arg[wide])
        arg[1] = make(w, &niz_op_permute, 1, &arg[1], (niz_attrs){rank, back});
    if (arg[1] == NIZ_NONE) return NIZ_NONE;
    uint32_t y = sum_axes(w, make(w, &niz_op_mul, 2, arg, (niz_attrs){0}), axis, kept, rank);
    return y == NIZ_NONE ? y : make_dims(w, &niz_op_reshape, y, w->shape);
}

/* The sizes of a contraction operand's batch and own axes, with 1 for the other's own axes. */
static niz_shape outer_operand(const niz_shape *s, int batch, int own, int before, int after)
{
    niz_shape t = {.rank = batch + before + own + after};
    for (int i = 0; i < t.rank; i++) t.dim[i] = 1;
    for (int i = 0; i < batch; i++) t.dim[i] = s->dim[i];
    for (int i = 0; i < own; i++) t.dim[batch + before + i] = s->dim[batch + i];
    return t;
}

/* A contraction over one index, or none, is a product: column x row. */
static uint32_t outer(niz_rewrite *w)
{
    if (w->op != &niz_op_contract) return NIZ_NONE;
    int batch = (int)w->attr.value[0], sum = (int)w->attr.value[1];
    const niz_shape *sa = arg_node(w, 0)->shape, *sb = arg_node(w, 1)->shape;
    for (int i = 1; i <= sum; i++)
        if (sa->dim[sa->rank - i] != 1) return NIZ_NONE;
    int m = sa->rank - batch - sum, n = sb->rank - batch - sum;
    niz_shape a = outer_operand(sa, batch, m, 0, n), b = outer_operand(sb, batch, n, m, 0);
    uint32_t arg[2];
    if ((arg[0] = make_dims(w, &niz_op_reshape, w->arg[0], &a)) == NIZ_NONE ||
        (arg[1] = make_dims(w, &niz_op_reshape, w->arg[1], &b)) == NIZ_NONE)
        return NIZ_NONE;
    return make(w, &niz_op_mul, 2, arg, (niz_attrs){0});
}

/* ---- folding ----------------------------------------------------------------------------------
 */

/* A map of literals, all of rank 0, by the interpreter's own loops. */
static uint32_t fold_literals(niz_rewrite *w)
{
    double v;
    if (!w->env->fold || niz_op_form(w->op) != NIZ_FORM_MAP || w->shape->rank) return NIZ_NONE;
    for (int i = 0; i < w->n; i++)
        if (arg_node(w, i)->op != &niz_op_literal) return NIZ_NONE;
    if (!w->n || !w->env->fold(w->env->z, w->g, w->op, w->n, w->arg, w->attr, w->dtype, &v))
        return NIZ_NONE;
    int64_t bits;
    memcpy(&bits, &v, sizeof bits);
    const niz_node *like = &w->b->in->g.node[w->like];
    uint32_t id = niz_graph_add(
        &w->b->out->g,
        &(niz_node_spec){
            &niz_op_literal, 0, NULL, {1, &bits}, w->dtype, w->shape, like->place, true});
    if (id == NIZ_NONE)
        w->b->failed = true;
    else
        w->b->out->g.node[id].origin = like->origin;
    return id;
}

/* The column of rewrites: the first that fits is taken, and its result is simplified no further
 * but by the later nodes that read it. */
static const struct {
    const char *name;
    uint32_t (*try)(niz_rewrite *);
} niz_rewrites[] = {
    {"fold literals", fold_literals},
    {"unit factor", unit_factor},
    {"zero term", zero_term},
    {"double negation", double_negation},
    {"no movement", no_movement},
    {"movement twice", movement_twice},
    {"broadcast of one", broadcast_of_one},
    {"map broadcasts", map_broadcasts},
    {"map before broadcast", map_before_broadcast},
    {"reduce one", reduce_one},
    {"outer", outer},
    {"thin", thin},
};

static uint32_t niz_simplify_node(niz_rebuild *b, const niz_pass_env *env, uint32_t id)
{
    const niz_node *n = &b->in->g.node[id];
    if (n->op == &niz_op_assign || niz_op_form(n->op) == NIZ_FORM_LEAF)
        return niz_rebuild_copy(b, id);
    niz_rewrite w = {.b = b,
                     .env = env,
                     .g = &b->out->g,
                     .like = id,
                     .op = n->op,
                     .n = n->n_arg,
                     .attr = niz_node_attrs(n),
                     .dtype = (niz_dtype)n->dtype,
                     .shape = n->shape};
    for (int i = 0; i < n->n_arg; i++) w.arg[i] = b->map[n->arg[i]];
    for (size_t i = 0; i < sizeof niz_rewrites / sizeof *niz_rewrites && !b->failed; i++) {
        uint32_t y = niz_rewrites[i].try(&w);
        if (y != NIZ_NONE) return y;
    }
    return b->failed ? NIZ_NONE : niz_rebuild_copy(b, id);
}

bool niz_simplify(const niz_pass_env *env, const niz_work *in, niz_work *out)
{
    niz_rebuild b;
    if (!niz_rebuild_begin(&b, in, out, false)) return false;
    for (uint32_t id = 0; id < in->g.n && !b.failed; id++)
        b.map[id] = niz_simplify_node(&b, env, id);
    return niz_rebuild_end(&b);
}
