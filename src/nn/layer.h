/* layer.h - what the layers share: how they begin, what they check, how parameters start.
 *
 * Layers use the public interface only: whoever writes one outside libniz has the same means.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_LAYER_H
#define NIZ_LAYER_H

#include <niz/nn.h>
#include <niz/op.h>

/* Begins a layer: its parameters' names get its name before them, and its nodes and errors carry
 * the caller's place.  The scope comes first, so that the place has it: "linear at t.c:4 (fc1)". */
#define NIZ_LAYER(z, at, what, name)                                                               \
    NIZ_SCOPE(z, "%s", (name) ? (name) : "");                                                      \
    NIZ_FUNCTION(z, at, what)

/** A layer's name can be used; otherwise the error is set. */
bool niz_layer_named(niz *z, niz_at at, const char *name);

/** x is alive, floating, and of lo to hi axes; otherwise the error is set: "needs <form>, not a
 *  scalar". */
bool niz_layer_takes(niz_at at, niz_t x, int lo, int hi, const char *form);

/** x is alive; otherwise the error is set. */
bool niz_layer_alive(niz_at at, niz_t x);

/** Whether a and b are of one shape and dtype. */
bool niz_layer_alike(niz_t a, niz_t b);

/** chosen, or where the user left it out, standard. */
niz_init niz_layer_init(niz_init chosen, niz_init standard);

/** U(±1/√n), the start of most layers' parameters; n = 0 gives zeros. */
niz_init niz_layer_uniform(int64_t n);

/** v [C] as [C,1,1..], to be broadcast against x [B,C,..]. */
niz_t niz_layer_channels(niz_t v, niz_t x);

#endif
