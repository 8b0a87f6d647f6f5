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

/* A number of this step, f64 [] of data or computed from such, and the same rounded to f32. */
typedef struct number {
    niz_t f64, f32;
} number;

/* One update. */
typedef struct update {
    niz *z;
    niz_at at;
    const niz_optim *o;
    number lr, l2, keep; /* keep = 1 - lr decay */
    number momentum;     /* sgd */
    number beta1, rest1; /* adam: rest = 1 - beta */
    number beta2, rest2;
    number pace, eps;       /* lr s/(1 - beta1^t), .eps s, where s = √(1 - beta2^t) */
    bool again;             /* this optimiser has counted this step before */
    char name[1024];        /* "/<optimiser>/", room for "<parameter>.<slot>" */
    size_t parameter, slot; /* where these two begin */
} update;

typedef struct niz_optim_rule {
    const char *name;
    void (*prepare)(update *u);
    niz_t (*move)(update *u, niz_t p, niz_t g); /* the next p */
} niz_optim_rule;

/* ---- what rules are made of ----------------------------------------------------------------- */

static number known(const update *u, double v)
{
    return (number){.f64 = niz_scalar(u->z, NIZ_F64, v)};
}

static number computed(niz_t v)
{
    return (number){.f64 = v};
}

/* v in x's dtype */
static niz_t rounded(number *v, niz_t x)
{
    if (niz_dtype_of(x) == NIZ_F64) return v->f64;
    if (!v->f32.z) v->f32 = niz_cast(v->f64, NIZ_F32);
    return v->f32;
}

static niz_t scaled(number *v, niz_t x)
{
    return niz_mul(rounded(v, x), x);
}

/* Puts text at its place in u->name; where it ends.  Names that are too long are cut here, but over
 * the length that niz_state refuses. */
static size_t name_put(update *u, size_t at, const char *text)
{
    size_t n = strnlen(text, sizeof u->name - 1 - at);
    memcpy(u->name + at, text, n);
    u->name[at + n] = 0;
    return at + n;
}

/* The state "<optimiser>/<parameter>.<slot>", of p's shape, zeros at first.  The slash before it
 * makes the name a full one: the scopes of the call are not its own. */
static niz_t slot(update *u, const char *what, niz_t p)
{
    name_put(u, u->slot, what);
    return niz_state(u->z, u->name, niz_dtype_of(p), niz_shape_of(p), niz_constant_init(0));
}

static niz_t remember(niz_t state, niz_t value)
{
    niz_assign(state, value);
    return value;
}

/* This optimiser's steps so far and this one, f64 [].  Optimisers that update different parameters
 * by .params count apart, whatever their names. */
static niz_t count_step(update *u)
{
    const char *params = u->o->params;
    size_t end = u->parameter;
    if (params && params[0]) end = name_put(u, name_put(u, end, params), "/");
    name_put(u, end, "step");
    niz_t t = niz_state(u->z, u->name, NIZ_I64, NIZ_SCALAR, niz_constant_init(0));
    u->again = niz_param_is_assigned(t);
    return niz_cast(remember(t, niz_add(t, 1)), NIZ_F64);
}

/* A count of steps is right for a parameter only if each step counted has updated it: two updates
 * in one step under one name are of the same parameters.  m is a state that goes with the count. */
static void check_count(const update *u, niz_t m)
{
    if (niz_param_is_assigned(m) == u->again) return;
    niz_fail(u->z, u->at, NIZ_E_ARGUMENT,
             "two optimisers are named \"%s\" in one step, or one updates different parameters: "
             "give one of them another .name, or minimise the sum of the losses",
             u->o->name);
}

/* ---- the rules ------------------------------------------------------------------------------ */

static void sgd_prepare(update *u)
{
    if (u->o->momentum != 0) u->momentum = known(u, u->o->momentum);
}

static niz_t sgd_move(update *u, niz_t p, niz_t g)
{
    niz_t d = g;
    if (u->o->momentum != 0) {
        niz_t v = slot(u, "momentum", p);
        v = remember(v, niz_add(scaled(&u->momentum, v), g));
        d = u->o->nesterov ? niz_add(g, scaled(&u->momentum, v)) : v;
    }
    return niz_sub(p, scaled(&u->lr, d));
}

/* The rule is p - lr/(1 - beta1^t) m / (√v/s + eps), s = √(1 - beta2^t).  It is computed as
 * p - (lr s/(1 - beta1^t)) m / (√v + eps s): s is in two numbers of the step, not in each element,
 * where √v/s would be a second division, and it is the divider that such a kernel waits for. */
static void adam_prepare(update *u)
{
    niz_t t = count_step(u);
    u->beta1 = known(u, u->o->beta1);
    u->beta2 = known(u, u->o->beta2);
    u->rest1 = computed(niz_sub(1.0, u->beta1.f64));
    u->rest2 = computed(niz_sub(1.0, u->beta2.f64));
    niz_t s = niz_sqrt(niz_sub(1.0, niz_pow(u->beta2.f64, t)));
    niz_t rest = niz_sub(1.0, niz_pow(u->beta1.f64, t));
    u->pace = computed(niz_div(niz_mul(u->lr.f64, s), rest));
    u->eps = computed(niz_mul(known(u, u->o->eps).f64, s));
}

static niz_t adam_move(update *u, niz_t p, niz_t g)
{
    niz_t m = slot(u, "m", p), v = slot(u, "v", p);
    check_count(u, m);
    m = remember(m, niz_add(scaled(&u->beta1, m), scaled(&u->rest1, g)));
    v = remember(v, niz_add(scaled(&u->beta2, v), scaled(&u->rest2, niz_square(g))));
    niz_t root = niz_add(niz_sqrt(v), rounded(&u->eps, p));
    return niz_sub(p, niz_div(scaled(&u->pace, m), root));
}

static const niz_optim_rule sgd = {"sgd", sgd_prepare, sgd_move};
static const niz_optim_rule adam = {"adam", adam_prepare, adam_move};

/* clang-format off */
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
/* clang-format on */

/* ---- which parameters ----------------------------------------------------------------------- */

/* * is any characters, ? any one.  On a mismatch the last * takes one character more. */
static bool matches_glob(const char *pattern, const char *end, const char *name)
{
    const char *star = NULL, *from = NULL;
    while (*name) {
        if (pattern < end && *pattern == '*') {
            star = pattern++;
            from = name;
        } else if (pattern < end && (*pattern == '?' || *pattern == *name)) {
            pattern++, name++;
        } else if (star) {
            pattern = star + 1;
            name = ++from;
        } else {
            return false;
        }
    }
    while (pattern < end && *pattern == '*') pattern++;
    return pattern == end;
}

static bool matches(const char *pattern, const char *end, const char *name)
{
    size_t n = (size_t)(end - pattern);
    if (memchr(pattern, '*', n) || memchr(pattern, '?', n)) return matches_glob(pattern, end, name);
    if (strncmp(pattern, name, n)) return false;
    return name[n] == 0 || name[n] == '.' || pattern[n - 1] == '.';
}

/* list: patterns between commas.  One with ! before it takes out, whatever the others put in; where
 * all of them take out, the rest is in. */
static bool selects(const char *list, const char *name)
{
    bool puts_in = false, in = false;
    for (const char *p = list; p && *p;) {
        const char *end = strchrnul(p, ','), *next = end + (*end == ',');
        while (*p == ' ') p++;
        while (end > p && end[-1] == ' ') end--;
        bool out = p < end && *p == '!';
        p += out;
        bool hit = p < end && matches(p, end, name);
        if (hit && out) return false;
        if (p < end && !out) puts_in = true;
        in = in || hit;
        p = next;
    }
    return in || !puts_in;
}

/* Keeps those of n parameters that are selected; returns how many. */
static int64_t keep_selected(const char *list, int64_t n, niz_t *p)
{
    if (!list || !list[0]) return n;
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++)
        if (selects(list, niz_param_of(p[i]).name)) p[kept++] = p[i];
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
    if (o->rate.z && niz_is_valid(o->rate) &&
        (niz_dtype_of(o->rate) != NIZ_F64 || niz_shape_of(o->rate).rank))
        return ".rate is f64 []";
    return NULL;
}

static void prepare(update *u)
{
    const niz_optim *o = u->o;
    u->parameter = name_put(u, name_put(u, name_put(u, 0, "/"), o->name), "/");
    u->lr = o->rate.z ? computed(o->rate) : known(u, o->lr);
    if (o->l2 != 0) u->l2 = known(u, o->l2);
    if (o->decay != 0)
        u->keep = computed(niz_sub(1.0, niz_mul(u->lr.f64, niz_scalar(u->z, NIZ_F64, o->decay))));
    o->rule->prepare(u);
}

/* p is the parameter as it stands, which may be newer than what the loss was computed from.  A loss
 * of the new version has no gradient through the update: who wants that writes niz_assign. */
static void move(update *u, const char *name, niz_t g)
{
    niz_t now = niz_find(u->z, name), p = now;
    u->slot = name_put(u, name_put(u, u->parameter, name), ".");
    if (u->o->l2 != 0) g = niz_add(g, scaled(&u->l2, p));
    if (u->o->decay != 0) p = scaled(&u->keep, p);
    niz_assign(now, niz_stop_gradient(u->o->rule->move(u, p, g)));
}

/* g is overwritten by what clipping makes of it; empty handles are left out. */
static void update_all(niz *z, niz_at at, const niz_optim *o, int64_t n, const niz_t *p, niz_t *g)
{
    if (o->clip_norm != 0) niz_clip_by_norm((int)n, g, o->clip_norm);
    update u = {.z = z, .at = at, .o = o};
    prepare(&u);
    for (int64_t i = 0; i < n && !niz_error(z); i++)
        if (g[i].z) move(&u, niz_param_of(p[i]).name, g[i]);
}

#define FEW 32 /* parameters for which no memory is asked */

/* p and g have room for n, the number of parameters that loss reaches. */
static void minimize(niz_at at, const niz_optim *o, niz_t loss, int64_t n, niz_t *p, niz_t *g)
{
    niz *z = loss.z;
    n = keep_selected(o->params, n, p);
    if (!n) {
        niz_fail(z, at, NIZ_E_ARGUMENT, "no parameter that the loss reaches matches \"%s\"",
                 o->params);
        return;
    }
    niz_grad(loss, (int)n, p, g);
    if (!niz_error(z)) update_all(z, at, o, n, p, g);
}

void niz_minimize_at(niz_at at, const niz_optim *opt, niz_t loss)
{
    niz *z = loss.z;
    NIZ_FUNCTION(z, at, "minimize");
    const char *wrong = fault(opt);
    if (wrong) niz_fail(z, at, NIZ_E_ARGUMENT, "%s", wrong);
    if (!niz_layer_alive(at, loss) || niz_error(z)) return;
    niz_t few[2 * FEW], *p = few;
    int64_t n = niz_params_of(loss, FEW, few);
    if (!n && !niz_error(z))
        niz_fail(z, at, NIZ_E_ARGUMENT, "the loss depends on no trainable parameter");
    if (niz_error(z)) return;
    if (n > FEW) {
        if (!(p = niz_realloc(z, NULL, (size_t)n * 2 * sizeof *p))) return;
        niz_params_of(loss, n, p);
    }
    if (!niz_error(z)) minimize(at, opt, loss, n, p, p + n);
    if (p != few) niz_free(z, p);
}

static bool update_fits(niz *z, niz_at at, int n, const niz_t *p, const niz_t *g)
{
    bool some = false;
    for (int i = 0; i < n && !niz_error(z); i++) {
        if (!g[i].z) continue;
        some = true;
        if (!niz_layer_alive(at, p[i]) || !niz_layer_alive(at, g[i])) return false;
        niz_param_info of = niz_param_of(p[i]);
        if (!of.name[0] || !of.trainable)
            niz_fail(z, at, NIZ_E_ARGUMENT, "only trainable parameters are updated, not %s%s%s",
                     of.name[0] ? "\"" : "another tensor", of.name, of.name[0] ? "\"" : "");
        else if (!niz_layer_alike(p[i], g[i]))
            niz_fail(z, at, of.dtype == niz_dtype_of(g[i]) ? NIZ_E_SHAPE : NIZ_E_DTYPE,
                     "the gradient of \"%s\", %s, is %s", of.name, niz_describe(p[i]).text,
                     niz_describe(g[i]).text);
        else if (!niz_dtype_is_float(of.dtype))
            niz_fail(z, at, NIZ_E_DTYPE, "\"%s\" is not floating", of.name);
    }
    return some && !niz_error(z);
}

void niz_update_at(niz_at at, const niz_optim *opt, int n, const niz_t *params, const niz_t *grads)
{
    niz *z = niz_context_of(n, params);
    if (!z) return;
    NIZ_FUNCTION(z, at, "update");
    const char *wrong = fault(opt);
    if (wrong) niz_fail(z, at, NIZ_E_ARGUMENT, "%s", wrong);
    if (niz_error(z) || !update_fits(z, at, n, params, grads)) return;
    niz_t *g = niz_realloc(z, NULL, (size_t)n * sizeof *g);
    if (!g) return;
    memcpy(g, grads, (size_t)n * sizeof *g);
    update_all(z, at, opt, n, params, g);
    niz_free(z, g);
}
