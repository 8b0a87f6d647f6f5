/* pool.c - maximum and mean over windows: views and a reduction.
 *
 * Windows side by side that fill their axis are a reshape, [H,W] = [H/s,s,W/s,s]; all others are
 * niz_window's views.  Either way the result is one reduction over the windows' axes.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>

#include "nn/layer.h"

typedef struct pool {
    niz_at at;
    int axes;        /* how many of the last axes are pooled */
    int64_t size, stride, pad;
    const char *form;
    double outside;  /* the value of padding */
    niz_t (*reduce)(niz_at, niz_t, niz_reduce_options);
} pool;

static bool fits(const pool *p, niz_t x)
{
    niz *z = x.z;
    if (!niz_layer_takes(p->at, x, 2 + p->axes, 2 + p->axes, p->form)) return false;
    if (p->size < 1 || p->stride < 1)
        niz_fail(z, p->at, NIZ_E_ARGUMENT, "windows of %lld at a stride of %lld",
                 (long long)p->size, (long long)p->stride);
    else if (p->pad < 0 || p->pad > p->size / 2)
        niz_fail(z, p->at, NIZ_E_ARGUMENT, "padding is 0 to half of the window's %lld, not %lld",
                 (long long)p->size, (long long)p->pad);
    niz_shape s = niz_shape_of(x);
    for (int i = 2; i < s.rank; i++)
        if (s.dim[i] < p->size - 2 * p->pad)
            niz_fail(z, p->at, NIZ_E_SHAPE, "a window of %lld does not fit into %s, padded by %lld",
                     (long long)p->size, niz_describe(x).text, (long long)p->pad);
    return !niz_error(z);
}

static bool tiles(const pool *p, const niz_shape *s)
{
    if (p->stride != p->size || p->pad) return false;
    for (int i = 2; i < s->rank; i++)
        if (s->dim[i] % p->size) return false;
    return true;
}

/* [B,C,H,W] -> [B,C,H/s,s,W/s,s], the windows at axes 3 and 5 */
static niz_t tile(const pool *p, niz_t x, const niz_shape *s, niz_axes *windows)
{
    niz_shape to = {2, {s->dim[0], s->dim[1]}};
    for (int i = 2; i < s->rank; i++) {
        to.dim[to.rank++] = s->dim[i] / p->size;
        windows->axis[windows->n++] = to.rank;
        to.dim[to.rank++] = p->size;
    }
    return niz_reshape(x, to);
}

/* [B,C,H,W] -> [B,C,oh,ow,s,s], the windows at axes 4 and 5 */
static niz_t slide(const pool *p, niz_t x, const niz_shape *s, niz_axes *windows)
{
    for (int i = 2; i < s->rank; i++) {
        if (p->pad) x = niz_pad(x, i, p->pad, p->pad, p->outside);
        x = niz_window(x, i, p->size, p->stride, 1);
        windows->axis[windows->n] = s->rank + windows->n;
        windows->n++;
    }
    return x;
}

static niz_t run(pool p, niz_t x, niz_pool_options o)
{
    p.stride = o.stride ? o.stride : p.size;
    p.pad = o.pad;
    if (!fits(&p, x)) return niz_inert(x.z);
    niz_shape s = niz_shape_of(x);
    niz_reduce_options r = {.axis = NIZ_ALL};
    x = tiles(&p, &s) ? tile(&p, x, &s, &r.axes) : slide(&p, x, &s, &r.axes);
    return p.reduce(p.at, x, r);
}

niz_t niz_max_pool1d_at(niz_at at, niz_t x, int64_t size, niz_pool_options o)
{
    NIZ_FUNCTION(x.z, at, "max_pool1d");
    return run((pool){at, 1, size, 0, 0, "[B,C,W]", -INFINITY, niz_max_at}, x, o);
}

niz_t niz_max_pool2d_at(niz_at at, niz_t x, int64_t size, niz_pool_options o)
{
    NIZ_FUNCTION(x.z, at, "max_pool2d");
    return run((pool){at, 2, size, 0, 0, "[B,C,H,W]", -INFINITY, niz_max_at}, x, o);
}

niz_t niz_max_pool3d_at(niz_at at, niz_t x, int64_t size, niz_pool_options o)
{
    NIZ_FUNCTION(x.z, at, "max_pool3d");
    return run((pool){at, 3, size, 0, 0, "[B,C,D,H,W]", -INFINITY, niz_max_at}, x, o);
}

niz_t niz_avg_pool1d_at(niz_at at, niz_t x, int64_t size, niz_pool_options o)
{
    NIZ_FUNCTION(x.z, at, "avg_pool1d");
    return run((pool){at, 1, size, 0, 0, "[B,C,W]", 0, niz_mean_at}, x, o);
}

niz_t niz_avg_pool2d_at(niz_at at, niz_t x, int64_t size, niz_pool_options o)
{
    NIZ_FUNCTION(x.z, at, "avg_pool2d");
    return run((pool){at, 2, size, 0, 0, "[B,C,H,W]", 0, niz_mean_at}, x, o);
}

niz_t niz_avg_pool3d_at(niz_at at, niz_t x, int64_t size, niz_pool_options o)
{
    NIZ_FUNCTION(x.z, at, "avg_pool3d");
    return run((pool){at, 3, size, 0, 0, "[B,C,D,H,W]", 0, niz_mean_at}, x, o);
}
