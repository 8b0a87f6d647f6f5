/* optim.c - one update of the parameters: which, by what gradient, and by which rule.
 *
 * A rule is a record: what it prepares once a step, and how it moves one parameter.  An optimiser's
 * numbers (learning rate, betas, decay, ...) enter the graph as f64 scalars of data, so that a plan
 * serves all their values; what is computed from them (bias corrections) is computed in the graph
 * in f64, and rounded to a parameter's dtype once.  All that is remembered is in states of the
 * context: a copy of a niz_optim, a restored snapshot and a loaded file go on alike.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <niz/grad.h>
#include <string.h>

#include "nn/layer.h"

/* One niz_minimize: the numbers are f64 [] of data. */
typedef struct update {
    niz *z;
    const niz_optim *o;
    niz_t lr, l2, keep;          /* keep = 1 - lr decay */
    niz_t momentum;              /* sgd */
    niz_t beta1, rest1;          /* adam: rest = 1 - beta */
    niz_t beta2, rest2, eps;
    niz_t pace, spread;          /* lr/(1 - beta1^t), √(1 - beta2^t) */
} update;

typedef struct niz_optim_rule {
    const char *name;
    void (*prepare)(update *u);
    niz_t (*move)(const update *u, const char *name, niz_t p, niz_t g); /* the next p */
} niz_optim_rule;

/* ---- what rules are made of ----------------------------------------------------------------- */

static niz_t number(const update *u, double v)
{
    return niz_scalar(u->z, NIZ_F64, v);
}

/* v [] times x, in x's dtype */
static niz_t scaled(niz_t v, niz_t x)
{
    return niz_mul(niz_cast(v, niz_dtype_of(x)), x);
}

/* The state "<optimiser>/<parameter>.<slot>", of p's shape, zeros at first.  The slash makes the
 * name a full one: the scopes of the call are not its own. */
static niz_t slot(const update *u, const char *parameter, const char *what, niz_t p)
{
    char name[1024];
    snprintf(name, sizeof name, "/%s/%s.%s", u->o->name, parameter, what);
    return niz_state(u->z, name, niz_dtype_of(p), niz_shape_of(p), niz_constant_init(0));
}

static niz_t remember(niz_t state, niz_t value)
{
    niz_assign(state, value);
    return value;
}

/* This optimiser's steps so far and this one, f64 [] */
static niz_t count_step(const update *u)
{
    char name[256];
    snprintf(name, sizeof name, "/%s/step", u->o->name);
    niz_t t = niz_state(u->z, name, NIZ_I64, NIZ_SCALAR, niz_constant_init(0));
    return niz_cast(remember(t, niz_add(t, 1)), NIZ_F64);
}

/* ---- the rules ------------------------------------------------------------------------------ */

static void sgd_prepare(update *u)
{
    if (u->o->momentum != 0) u->momentum = number(u, u->o->momentum);
}

static niz_t sgd_move(const update *u, const char *name, niz_t p, niz_t g)
{
    niz_t d = g;
    if (u->o->momentum != 0) {
        niz_t v = slot(u, name, "momentum", p);
        v = remember(v, niz_add(scaled(u->momentum, v), g));
        d = u->o->nesterov ? niz_add(g, scaled(u->momentum, v)) : v;
    }
    return niz_sub(p, scaled(u->lr, d));
}

static void adam_prepare(update *u)
{
    niz_t t = count_step(u);
    u->beta1 = number(u, u->o->beta1);
    u->beta2 = number(u, u->o->beta2);
    u->rest1 = niz_sub(1.0, u->beta1);
    u->rest2 = niz_sub(1.0, u->beta2);
    u->eps = number(u, u->o->eps);
    u->pace = niz_div(u->lr, niz_sub(1.0, niz_pow(u->beta1, t)));
    u->spread = niz_sqrt(niz_sub(1.0, niz_pow(u->beta2, t)));
}

static niz_t adam_move(const update *u, const char *name, niz_t p, niz_t g)
{
    niz_dtype d = niz_dtype_of(p);
    niz_t m = slot(u, name, "m", p), v = slot(u, name, "v", p);
    m = remember(m, niz_add(scaled(u->beta1, m), scaled(u->rest1, g)));
    v = remember(v, niz_add(scaled(u->beta2, v), scaled(u->rest2, niz_square(g))));
    niz_t root = niz_div(niz_sqrt(v), niz_cast(u->spread, d));
    return niz_sub(p, niz_div(scaled(u->pace, m), niz_add(root, niz_cast(u->eps, d))));
}

static const niz_optim_rule sgd = {"sgd", sgd_prepare, sgd_move};
static const niz_optim_rule adam = {"adam", adam_prepare, adam_move};

niz_optim niz_sgd_with(niz_sgd_options o)
{
    return (niz_optim){.rule = &sgd, .name = o.name, .params = o.params, .lr = o.lr,
                       .clip_norm = o.clip_norm, .l2 = o.l2, .momentum = o.momentum,
                       .nesterov = o.nesterov};
}

niz_optim niz_adam_with(niz_adam_options o)
{
    return (niz_optim){.rule = &adam, .name = o.name, .params = o.params, .lr = o.lr,
                       .clip_norm = o.clip_norm, .l2 = o.l2, .beta1 = o.beta1, .beta2 = o.beta2,
                       .eps = o.eps};
}

niz_optim niz_adamw_with(niz_adamw_options o)
{
    return (niz_optim){.rule = &adam, .name = o.name, .params = o.params, .lr = o.lr,
                       .clip_norm = o.clip_norm, .decay = o.decay, .beta1 = o.beta1,
                       .beta2 = o.beta2, .eps = o.eps};
}

/* ---- which parameters ----------------------------------------------------------------------- */

/* * is any characters, ? any one.  On a mismatch the last * takes one character more. */
static bool matches_glob(const char *pattern, const char *name)
{
    const char *star = NULL, *from = NULL;
    while (*name) {
        if (*pattern == '*') {
            star = pattern++;
            from = name;
        } else if (*pattern == '?' || *pattern == *name) {
            pattern++, name++;
        } else if (star) {
            pattern = star + 1;
            name = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*') pattern++;
    return !*pattern;
}

static bool selects(const char *pattern, const char *name)
{
    if (!pattern || !pattern[0]) return true;
    if (strpbrk(pattern, "*?")) return matches_glob(pattern, name);
    size_t n = strlen(pattern);
    if (strncmp(pattern, name, n)) return false;
    return name[n] == 0 || name[n] == '.' || pattern[n - 1] == '.';
}

/* Keeps those of n parameters that are selected; returns how many. */
static int64_t keep_selected(const char *pattern, int64_t n, niz_t *p)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++)
        if (selects(pattern, niz_param_of(p[i]).name)) p[kept++] = p[i];
    return kept;
}

/* ---- the step ------------------------------------------------------------------------------- */

static bool not_negative(double v)
{
    return v >= 0 && isfinite(v);
}

static const char *fault(const niz_optim *o)
{
    if (!o || !o->rule) return "no optimiser: niz_sgd, niz_adam or niz_adamw makes one";
    if (!o->name || !o->name[0] || strlen(o->name) > 100) return ".name has 1 to 100 characters";
    if (!not_negative(o->lr)) return ".lr is at least 0";
    if (!not_negative(o->clip_norm)) return ".clip_norm is at least 0";
    if (!not_negative(o->l2) || !not_negative(o->decay)) return ".l2 and .decay are at least 0";
    if (!not_negative(o->momentum)) return ".momentum is at least 0";
    if (!(o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1))
        return ".beta1 and .beta2 are at least 0 and below 1";
    if (!not_negative(o->eps)) return ".eps is at least 0";
    return NULL;
}

static update prepare(niz *z, const niz_optim *o)
{
    update u = {.z = z, .o = o};
    u.lr = number(&u, o->lr);
    if (o->l2 != 0) u.l2 = number(&u, o->l2);
    if (o->decay != 0) u.keep = niz_sub(1.0, niz_mul(u.lr, number(&u, o->decay)));
    o->rule->prepare(&u);
    return u;
}

/* p is the parameter as it stands, which may be newer than what the loss was computed from. */
static void move(const update *u, const char *name, niz_t g)
{
    niz_t now = niz_find(u->z, name), p = now;
    if (u->o->l2 != 0) g = niz_add(g, scaled(u->l2, p));
    if (u->o->decay != 0) p = scaled(u->keep, p);
    niz_assign(now, u->o->rule->move(u, name, p, g));
}

/* p and g have room for n, the number of parameters that loss reaches. */
static void minimize(niz_at at, const niz_optim *o, niz_t loss, int64_t n, niz_t *p, niz_t *g)
{
    niz *z = loss.z;
    n = keep_selected(o->params, niz_params_of(loss, n, p), p);
    if (!n) {
        niz_fail(z, at, NIZ_E_ARGUMENT, "no parameter that the loss reaches matches \"%s\"",
                 o->params);
        return;
    }
    niz_grad(loss, (int)n, p, g);
    if (o->clip_norm != 0) niz_clip_by_norm((int)n, g, o->clip_norm);
    update u = prepare(z, o);
    for (int64_t i = 0; i < n && !niz_error(z); i++) move(&u, niz_param_of(p[i]).name, g[i]);
}

void niz_minimize_at(niz_at at, const niz_optim *opt, niz_t loss)
{
    niz *z = loss.z;
    NIZ_FUNCTION(z, at, "minimize");
    const char *wrong = fault(opt);
    if (wrong) niz_fail(z, at, NIZ_E_ARGUMENT, "%s", wrong);
    if (!niz_layer_alive(at, loss) || niz_error(z)) return;
    int64_t n = niz_params_of(loss, 0, NULL);
    if (!n && !niz_error(z))
        niz_fail(z, at, NIZ_E_ARGUMENT, "the loss depends on no trainable parameter");
    niz_t *p = niz_error(z) ? NULL : niz_realloc(z, NULL, (size_t)n * 2 * sizeof *p);
    if (!p) return;
    minimize(at, opt, loss, n, p, p + n);
    niz_free(z, p);
}
