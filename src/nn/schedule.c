/* schedule.c - learning rates as functions of the step.
 *
 * No libm here: its last bits differ between processors, and weights trained with a rate that
 * differs in its last bit differ too.
 *
 * SPDX-License-Identifier: MIT */
#include <niz/nn.h>

/* base^n by squaring */
static double power(double base, int64_t n)
{
    double y = 1;
    for (; n > 0; n /= 2, base *= base)
        if (n % 2) y *= base;
    return y;
}

/* cos(πu), 0 <= u <= 1/2: Taylor's series to the 22nd power, within 1e-16 */
static double cos_pi_first(double u)
{
    double x = 3.14159265358979323846 * u, x2 = x * x, y = 1;
    for (int k = 22; k > 0; k -= 2) y = 1 - y * x2 / (k * (k - 1));
    return y;
}

static double cos_pi(double u)
{
    return u <= 0.5 ? cos_pi_first(u) : -cos_pi_first(1 - u);
}

double niz_schedule_step(double lr, int64_t step, int64_t every, double factor)
{
    return lr * power(factor, step / (every > 1 ? every : 1));
}

double niz_schedule_cosine(double lr, int64_t step, int64_t total, double lowest)
{
    if (step >= total) return lowest;
    double u = step > 0 ? (double)step / (double)total : 0;
    return lowest + (lr - lowest) * (1 + cos_pi(u)) / 2;
}

double niz_schedule_warmup(double lr, int64_t step, int64_t warmup)
{
    return step + 1 < warmup ? lr * (double)(step + 1) / (double)warmup : lr;
}
