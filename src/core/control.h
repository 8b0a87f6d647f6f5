/* control.h - the processor's control word while libniz computes: rounding to nearest, denormals
 * kept, no traps; and afterwards the program's own again.  So a program linked with -ffast-math
 * gets the same bits.
 *
 *   NIZ_CONTROL;   to the end of the block.  Arithmetic belongs into functions called after it: a
 *                  compiler knows nothing of control words and may move an operation before it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_CONTROL_H
#define NIZ_CONTROL_H

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

typedef struct niz_control {
    unsigned before; /* 0: nothing to be restored */
} niz_control;

static inline niz_control niz_control_begin(void)
{
    niz_control c = {0};
#ifdef __SSE2__
    unsigned now = _mm_getcsr();
    if ((now & 0xffc0u) != 0x1f80u) { /* the lower six bits are flags */
        c.before = now;
        _mm_setcsr(0x1f80u);
    }
#endif
    return c;
}

static inline void niz_control_end(const niz_control *c)
{
    (void)c;
#ifdef __SSE2__
    if (c->before) _mm_setcsr(c->before);
#endif
}

#define NIZ_CONTROL                                                                                \
    niz_control niz_control_here __attribute__((cleanup(niz_control_end), unused)) =               \
        niz_control_begin()

#endif
