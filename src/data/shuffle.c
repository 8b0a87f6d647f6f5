/* shuffle.c - random orders: splitmix64 and Fisher-Yates.
 *
 * Only 64-bit integer arithmetic, so the same seed gives the same order everywhere.  A stream is a
 * second key: epochs of one seed differ, and a split never repeats the order of an epoch.
 *
 * SPDX-License-Identifier: MIT */
#include <niz/data.h>

/* Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014 (constants of the
 * finaliser: Stafford's variant 13). */
static uint64_t mix(uint64_t v)
{
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9u;
    v = (v ^ v >> 27) * 0x94d049bb133111ebu;
    return v ^ v >> 31;
}

static uint64_t next(uint64_t *state)
{
    return mix(*state += 0x9e3779b97f4a7c15u);
}

/* A uniform integer in 0 .. n-1, n >= 2: the fewest top bits that can hold it, drawn again when out
 * of range, so without the bias of a remainder. */
static uint64_t below(uint64_t *state, uint64_t n)
{
    int shift = __builtin_clzll(n - 1);
    for (;;) {
        uint64_t v = next(state) >> shift;
        if (v < n) return v;
    }
}

void niz_shuffle(uint64_t seed, uint64_t stream, int64_t n, int64_t *order)
{
    uint64_t state = mix(mix(seed) + stream);
    for (int64_t i = n; i > 1; i--) {
        int64_t j = (int64_t)below(&state, (uint64_t)i), last = order[i - 1];
        order[i - 1] = order[j];
        order[j] = last;
    }
}
