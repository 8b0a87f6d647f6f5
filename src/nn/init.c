/* init.c - starting values by fan.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <niz/nn.h>

/* A fan of 0 (an empty weight) has no values to start: any finite one will do. */
static double std_of(double gain, double fan)
{
    return fan > 0 ? gain / sqrt(fan) : 0;
}

static niz_init uniform_of(double std)
{
    double b = sqrt(3.0) * std; /* U(±b) has standard deviation b/√3 */
    return niz_uniform_init(.lo = -b, .hi = b);
}

static double kaiming_std(int64_t fan, niz_kaiming_options o)
{
    return std_of(sqrt(2 / (1 + o.slope * o.slope)), (double)fan);
}

niz_init niz_kaiming_uniform_init_with(int64_t fan, niz_kaiming_options o)
{
    return uniform_of(kaiming_std(fan, o));
}

niz_init niz_kaiming_normal_init_with(int64_t fan, niz_kaiming_options o)
{
    return niz_normal_init(.std = kaiming_std(fan, o));
}

static double xavier_std(int64_t fan_in, int64_t fan_out, niz_xavier_options o)
{
    return std_of(o.gain * sqrt(2.0), (double)fan_in + (double)fan_out);
}

niz_init niz_xavier_uniform_init_with(int64_t fan_in, int64_t fan_out, niz_xavier_options o)
{
    return uniform_of(xavier_std(fan_in, fan_out, o));
}

niz_init niz_xavier_normal_init_with(int64_t fan_in, int64_t fan_out, niz_xavier_options o)
{
    return niz_normal_init(.std = xavier_std(fan_in, fan_out, o));
}
