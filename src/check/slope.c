/* slope.c - the derivative along a direction, from values alone.
 *
 * Central differences (s(x+h) - s(x-h)) / 2h at steps h = 2^-4, 2^-6 ... 2^-20, each a row of
 * Richardson's scheme, which removes h², h⁴ ... in turn; of all entries the one is taken whose
 * neighbours agree best (Ridders 1982), and their disagreement, with the rounding of the values, is
 * its error.  Large steps are too curved, small ones too noisy, steps across a kink disagree: no
 * one of them decides.
 *
 * The same values give the slopes to the right and to the left.  Their difference, extrapolated to
 * h = 0, is 0 for a differentiable function.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "check/check.h"

#define NIZ_STEPS 9
#define NIZ_FIRST_STEP 0x1p-4
#define NIZ_RATIO 4.0

/* Rows of one extrapolation: the error of a row's first entry is a series in h^first, h^(first +
 * by), ... */
typedef struct niz_tableau {
    int first, by;
    int n; /* columns of `last` */
    double last[NIZ_STEPS];
    double value, error;
} niz_tableau;

static niz_tableau niz_tableau_begin(int first, int by)
{
    return (niz_tableau){.first = first, .by = by, .value = NAN, .error = INFINITY};
}

static void niz_tableau_add(niz_tableau *t, double v, double noise)
{
    double row[NIZ_STEPS] = {v};
    for (int j = 1; j <= t->n && j < NIZ_STEPS; j++) {
        double factor = pow(NIZ_RATIO, t->first + (j - 1) * t->by);
        row[j] = row[j - 1] + (row[j - 1] - t->last[j - 1]) / (factor - 1);
        double error = fmax(fabs(row[j] - row[j - 1]), fabs(row[j] - t->last[j - 1])) + noise;
        if (!(error < t->error)) continue;
        t->error = error;
        t->value = row[j];
    }
    memcpy(t->last, row, sizeof row);
    if (t->n < NIZ_STEPS - 1) t->n++;
}

/* Differences of the checked number over one step, and what rounding may do to them. */
typedef struct niz_step_values {
    double right, left, noise, size;
    bool finite;
} niz_step_values;

static bool niz_slope_step(niz_probe *p, double h, niz_step_values *v)
{
    if (!niz_probe_move(p, h, false) || !niz_probe_move(p, h, true)) return false;
    long double right = 0, left = 0, size = 0;
    for (int j = 0; j < p->n_out; j++) {
        const niz_probe_out *o = &p->out[j];
        for (int64_t i = 0; i < o->n; i++) {
            if (o->plus[i] == o->y[i] && o->minus[i] == o->y[i]) continue;
            right += o->w[i] * ((long double)o->plus[i] - o->y[i]);
            left += o->w[i] * ((long double)o->y[i] - o->minus[i]);
            size += fabsl((long double)o->w[i]) * (fabs(o->plus[i]) + fabs(o->minus[i]));
        }
    }
    v->right = (double)(right / h);
    v->left = (double)(left / h);
    v->size = (double)size / 2;
    v->noise = 4 * p->eps * v->size / h;
    v->finite = isfinite(v->right) && isfinite(v->left);
    return true;
}

/* The order in h of |d(h) - analytic|, where it is above the noise: about 2 for a right derivative,
 * 0 for a wrong one. */
typedef struct niz_order_fit {
    int n;
    double x, y, xx, xy;
} niz_order_fit;

static void niz_order_add(niz_order_fit *f, double h, double difference, double noise)
{
    if (!(fabs(difference) > 10 * noise)) return;
    double x = log(h), y = log(fabs(difference));
    f->n++;
    f->x += x;
    f->y += y;
    f->xx += x * x;
    f->xy += x * y;
}

static double niz_order_of(const niz_order_fit *f)
{
    double d = f->n * f->xx - f->x * f->x;
    return f->n >= 2 && d > 0 ? (f->n * f->xy - f->x * f->y) / d : NAN;
}

/* Small against the slopes, or not known well enough: no kink. */
static bool niz_slope_is_kink(const niz_tableau *jump, const niz_slope *s)
{
    double size = fmax(fabs(s->left), fabs(s->right));
    return fabs(jump->value) > fmax(1e-4 * size, 20 * jump->error);
}

bool niz_slope_find(niz_probe *p, double analytic, niz_slope *s)
{
    niz_tableau central = niz_tableau_begin(2, 2), jump = niz_tableau_begin(1, 2);
    niz_tableau right = niz_tableau_begin(1, 1), left = niz_tableau_begin(1, 1);
    niz_order_fit fit = {0};
    int finite = 0;
    double h = NIZ_FIRST_STEP;
    int steps = p->eps > 0x1p-40 ? NIZ_STEPS / 2 : NIZ_STEPS; /* f32 drowns in noise earlier */
    *s = (niz_slope){.size = 0};
    for (int k = 0; k < steps; k++, h /= NIZ_RATIO) {
        niz_step_values v;
        if (!niz_slope_step(p, h, &v)) return false;
        finite = v.finite ? finite + 1 : 0;
        if (!v.finite) central.n = jump.n = right.n = left.n = 0; /* too far: rows start again */
        if (!v.finite) continue;
        double d = v.right / 2 + v.left / 2;
        niz_tableau_add(&central, d, v.noise);
        niz_tableau_add(&jump, v.right - v.left, 2 * v.noise);
        niz_tableau_add(&right, v.right, v.noise);
        niz_tableau_add(&left, v.left, v.noise);
        niz_order_add(&fit, h, d - analytic, v.noise);
        s->size = fmax(s->size, v.size);
        s->last = fabs(d - analytic) + 10 * v.noise;
    }
    s->finite = finite >= 3;
    s->value = central.value;
    s->error = central.error;
    s->right = right.value;
    s->left = left.value;
    s->order = niz_order_of(&fit);
    s->kink = !s->finite || niz_slope_is_kink(&jump, s);
    return true;
}
