/* niz/grad.h - derivatives.  They are graphs: nothing is computed here, and the results can be
 * differentiated again.
 *
 *   niz_t g, h;
 *   niz_grad(loss, 1, &w, &g);                          // g = dloss/dw
 *   niz_grad(niz_sum(niz_mul(g, v)), 1, &w, &h);        // h = Hessian v
 *
 * Named as in mathematics: y = f(x), cotangents gy and gx (of the shapes of y and x), tangents ty
 * and tx.  x may be any floating tensors of the recording, not only leaves: what lies before them
 * is constant.  Nothing flows through niz_stop_gradient.  Operations that are piecewise constant
 * (compare, argmax, floor ...) have derivative zero; one that has no rule is NIZ_E_RULE with its
 * name and line.
 *
 * Equal constants are one node: two niz_zeros or niz_full of one dtype and shape cannot be told
 * apart, and a gradient with respect to one of them counts the other's uses too.  Variables are
 * parameters, or leaves made by niz_copy_from, niz_from or niz_scalar, which are never merged.
 *
 * Results are set in every case: after an error they are inert.  Handles of y or x that are of an
 * ended step or another context are NIZ_E_STALE.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_GRAD_H
#define NIZ_GRAD_H

#include <niz/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/** gx[i] = dy/dx[i], i < n, of x[i]'s shape and dtype; y floating with just one element, of any
 *  rank.  An x[i] that y does not depend on gives a tensor of zeros.  One reverse sweep, whatever
 *  n: a small multiple of the cost of y.
 *  NIZ_E_SHAPE: y has not one element.  NIZ_E_DTYPE: y or an x[i] is not floating. */
NIZ_API void niz_grad_at(niz_at at, niz_t y, int n, const niz_t *x, niz_t *gx);

/** Vector times Jacobian, the reverse mode: gx[i] = Σ_j gy[j] · dy[j]/dx[i], i < n_x, j < n_y.
 *  gy[j] has y[j]'s shape and dtype.  niz_grad is this for one y and gy = 1.
 *  NIZ_E_SHAPE, NIZ_E_DTYPE: a gy[j] is not like its y[j], or something is not floating. */
NIZ_API void niz_vjp_at(niz_at at, int n_y, const niz_t *y, const niz_t *gy, int n_x,
                        const niz_t *x, niz_t *gx);

/** Jacobian times vector, the forward mode: ty[j] = Σ_i dy[j]/dx[i] · tx[i], j < n_y, i < n_x.
 *  tx[i] has x[i]'s shape and dtype, ty[j] gets y[j]'s.  One forward sweep, whatever n_y: the
 *  derivative of y in the direction tx.
 *  NIZ_E_SHAPE, NIZ_E_DTYPE: a tx[i] is not like its x[i], or something is not floating. */
NIZ_API void niz_jvp_at(niz_at at, int n_x, const niz_t *x, const niz_t *tx, int n_y,
                        const niz_t *y, niz_t *ty);

#ifdef __cplusplus
} /* extern "C" */
#endif

#ifndef __cplusplus

#define niz_grad(...) niz_grad_at(NIZ_HERE, __VA_ARGS__)
#define niz_vjp(...) niz_vjp_at(NIZ_HERE, __VA_ARGS__)
#define niz_jvp(...) niz_jvp_at(NIZ_HERE, __VA_ARGS__)

#else

inline void niz_grad(niz_t y, int n, const niz_t *x, niz_t *gx, NIZ_CPP_AT)
{
    niz_grad_at(niz_at{file, line}, y, n, x, gx);
}
inline void niz_vjp(int n_y, const niz_t *y, const niz_t *gy, int n_x, const niz_t *x, niz_t *gx,
                    NIZ_CPP_AT)
{
    niz_vjp_at(niz_at{file, line}, n_y, y, gy, n_x, x, gx);
}
inline void niz_jvp(int n_x, const niz_t *x, const niz_t *tx, int n_y, const niz_t *y, niz_t *ty,
                    NIZ_CPP_AT)
{
    niz_jvp_at(niz_at{file, line}, n_x, x, tx, n_y, y, ty);
}

#endif

#endif
