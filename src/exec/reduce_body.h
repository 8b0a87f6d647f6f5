/* reduce_body.h - one fold of one floating type.  Included with T, V, LANE_BYTES, NAME(f), VOP and
 * SOP (the operation on vectors and numbers), IDENTITY and EMPTY set; no guard.
 *
 * Accumulators are named: an indexed array of vectors may be left in memory.
 *
 * SPDX-License-Identifier: MIT */

#define W (NIZ_VECTOR_BYTES / LANE_BYTES)
#define L NIZ_REDUCE_LANES
#define COLUMNS (NIZ_REDUCE_PANEL / LANE_BYTES)

/* Vectors in flight: of as many blocks side by side as hides the latency. */
#if 16 * LANE_BYTES / NIZ_VECTOR_BYTES > 4
#define EACH(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7)
#define SIDE 1
#else
#define EACH(F) F(0) F(1) F(2) F(3)
#define SIDE (4 * NIZ_VECTOR_BYTES / (16 * LANE_BYTES))
#endif
#define PER_BLOCK (L / W) /* vectors to 16 lanes */

/* Values of blocks, folded in pairs as they come: the binary counter's carries are the pairs. */
typedef struct NAME(niz_reduce_pairs) {
    T level[NIZ_REDUCE_LEVELS];
    int depth;
    uint64_t blocks;
} NAME(niz_reduce_pairs);

static inline void NAME(niz_reduce_push)(NAME(niz_reduce_pairs) *p, T v)
{
    for (uint64_t k = p->blocks++; k & 1; k >>= 1) {
        p->depth--;
        v = SOP(p->level[p->depth], v);
    }
    p->level[p->depth++] = v;
}

static inline T NAME(niz_reduce_last)(NAME(niz_reduce_pairs) *p)
{
    if (p->depth == 0) return EMPTY;
    T v = p->level[--p->depth];
    while (p->depth > 0) {
        p->depth--;
        v = SOP(p->level[p->depth], v);
    }
    return v;
}

/* n <= 16 lanes into one. */
static inline T NAME(niz_reduce_fold)(T *lane, int64_t n)
{
    for (int64_t h = L / 2; h > 0; h /= 2) {
        for (int64_t l = 0; l + h < n; l++) lane[l] = SOP(lane[l], lane[l + h]);
        n = n < h ? n : h;
    }
    return lane[0];
}

/* 16 lanes into one, by whole vectors: what the upper lanes hold after a turn is not used. */
NIZ_VEC T NAME(niz_reduce_fold_all)(const T *lane)
{
#define AT(q) TYPE(niz_load)(lane + (q) * W)
#if PER_BLOCK == 8
    V a = VOP(AT(0), AT(4)), b = VOP(AT(1), AT(5)), c = VOP(AT(2), AT(6)), d = VOP(AT(3), AT(7));
    V v = VOP(VOP(a, c), VOP(b, d));
#elif PER_BLOCK == 4
    V v = VOP(VOP(AT(0), AT(2)), VOP(AT(1), AT(3)));
#elif PER_BLOCK == 2
    V v = VOP(AT(0), AT(1));
#else
    V v = AT(0);
    v = VOP(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
#endif
#if W == 16
    v = VOP(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3));
    v = VOP(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1));
#elif W == 8
    v = VOP(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3));
    v = VOP(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 2, 3, 0, 1));
#elif W == 4
    v = VOP(v, __builtin_shufflevector(v, v, 2, 3, 0, 1));
#endif
#undef AT
    return SOP(v[0], v[1]);
}

/* SIDE blocks of n >= 16 elements, `apart` from each other; only the first `wanted` are folded. */
static void NAME(niz_reduce_blocks)(const T *x, int64_t apart, int64_t n, int wanted, T *out)
{
#define START(q)                                                                                   \
    const T *x##q = x + q / PER_BLOCK * apart + q % PER_BLOCK * W;                                 \
    V s##q = TYPE(niz_load)(x##q);
#define STEP(q) s##q = VOP(s##q, TYPE(niz_load)(x##q + i));
#define KEEP(q) TYPE(niz_store)(lane[q / PER_BLOCK] + q % PER_BLOCK * W, s##q);
    T lane[SIDE][L];
    int64_t i = L;
    EACH(START)
    for (; i + L <= n; i += L) {
        EACH(STEP)
    }
    EACH(KEEP)
    for (int g = 0; g < wanted; g++) {
        for (int64_t l = 0; i + l < n; l++) lane[g][l] = SOP(lane[g][l], x[g * apart + i + l]);
        out[g] = NAME(niz_reduce_fold_all)(lane[g]);
    }
#undef START
#undef STEP
#undef KEEP
}

/* A block of any length and stride. */
static T NAME(niz_reduce_block)(const T *x, int64_t n, int64_t stride)
{
    T lane[L], out[SIDE];
    if (stride == 1 && n >= L) {
        NAME(niz_reduce_blocks)(x, 0, n, 1, out);
        return out[0];
    }
    int64_t present = n < L ? n : L;
    for (int64_t i = 0; i < present; i++) lane[i] = x[i * stride];
    for (int64_t i = L; i < n; i++) lane[i % L] = SOP(lane[i % L], x[i * stride]);
    return NAME(niz_reduce_fold)(lane, present);
}

static T NAME(niz_reduce_line)(const T *x, int64_t n, int64_t stride)
{
    const int64_t block = NIZ_REDUCE_BLOCK;
    NAME(niz_reduce_pairs) p;
    T out[SIDE];
    int64_t i = 0;
    if (n > 0 && n <= block) return NAME(niz_reduce_block)(x, n, stride);
    p.depth = 0;
    p.blocks = 0;
    for (; stride == 1 && i + SIDE * block <= n; i += SIDE * block) {
        NAME(niz_reduce_blocks)(x + i, block, block, SIDE, out);
        for (int g = 0; g < SIDE; g++) NAME(niz_reduce_push)(&p, out[g]);
    }
    for (; i < n; i += block)
        NAME(niz_reduce_push)
        (&p, NAME(niz_reduce_block)(x + i * stride, niz_reduce_min(block, n - i), stride));
    return NAME(niz_reduce_last)(&p);
}

static void NAME(niz_reduce_lines)(const niz_reduce_row *r, const T *x, T *y)
{
    int64_t o = 0;
    if (r->stride == 1 && r->n >= L && r->n <= NIZ_REDUCE_BLOCK)
        for (; o + SIDE <= r->count; o += SIDE) {
            T out[SIDE];
            NAME(niz_reduce_blocks)(x + o * r->x_step, r->x_step, r->n, SIDE, out);
            for (int g = 0; g < SIDE; g++) y[(o + g) * r->y_step] = out[g];
        }
    for (; o < r->count; o++)
        y[o * r->y_step] = NAME(niz_reduce_line)(x + o * r->x_step, r->n, r->stride);
}

/* a[j] = a[j] op b[j] */
static inline void NAME(niz_reduce_onto)(T *a, const T *b, int64_t w)
{
    int64_t j = 0;
    for (; j + W <= w; j += W)
        TYPE(niz_store)(a + j, VOP(TYPE(niz_load)(a + j), TYPE(niz_load)(b + j)));
    for (; j < w; j++) a[j] = SOP(a[j], b[j]);
}

/* a[j] = a[j] op b[j] op b[j + apart] ..., eight of them in this order */
static inline void NAME(niz_reduce_eight)(T *a, const T *b, int64_t apart, int64_t w)
{
#define NEXT(q) s = VOP(s, TYPE(niz_load)(b + q * apart + j));
    int64_t j = 0;
    for (; j + W <= w; j += W) {
        V s = TYPE(niz_load)(a + j);
        NEXT(0) NEXT(1) NEXT(2) NEXT(3) NEXT(4) NEXT(5) NEXT(6) NEXT(7)
        TYPE(niz_store)(a + j, s);
    }
#undef NEXT
    for (; j < w; j++)
        for (int q = 0; q < 8; q++) a[j] = SOP(a[j], b[q * apart + j]);
}

/* One block of a panel of w columns; its value is left in lane[0]. */
static void NAME(niz_reduce_panel_block)(const T *x, int64_t n, int64_t stride, int64_t w,
                                         T lane[L][COLUMNS])
{
    int64_t present = n < L ? n : L, i = L;
    for (int64_t l = 0; l < present; l++) memcpy(lane[l], x + l * stride, (size_t)w * sizeof(T));
    for (; i + 8 * L <= n; i += 8 * L)
        for (int64_t l = 0; l < L; l++)
            NAME(niz_reduce_eight)(lane[l], x + (i + l) * stride, L * stride, w);
    for (; i < n; i++) NAME(niz_reduce_onto)(lane[i % L], x + i * stride, w);
    for (int64_t h = L / 2; h > 0; h /= 2) {
        for (int64_t l = 0; l + h < present; l++) NAME(niz_reduce_onto)(lane[l], lane[l + h], w);
        present = present < h ? present : h;
    }
}

/* level = level op value into value: the earlier blocks stand on the left. */
static inline void NAME(niz_reduce_carry)(T *level, T *value, int64_t w)
{
    NAME(niz_reduce_onto)(level, value, w);
    memcpy(value, level, (size_t)w * sizeof(T));
}

static void NAME(niz_reduce_panel)(const niz_reduce_row *r, const T *x, int64_t w, T *y)
{
    T lane[L][COLUMNS] __attribute__((aligned(64)));
    T level[NIZ_REDUCE_LEVELS][COLUMNS] __attribute__((aligned(64)));
    int depth = 0;
    uint64_t blocks = 0;
    for (int64_t i = 0; i < r->n; i += NIZ_REDUCE_BLOCK) {
        NAME(niz_reduce_panel_block)
        (x + i * r->stride, niz_reduce_min(NIZ_REDUCE_BLOCK, r->n - i), r->stride, w, lane);
        for (uint64_t k = blocks++; k & 1; k >>= 1)
            NAME(niz_reduce_carry)(level[--depth], lane[0], w);
        memcpy(level[depth++], lane[0], (size_t)w * sizeof(T));
    }
    if (depth > 0) memcpy(lane[0], level[--depth], (size_t)w * sizeof(T));
    while (depth > 0) NAME(niz_reduce_carry)(level[--depth], lane[0], w);
    for (int64_t j = 0; j < w; j++) y[j * r->y_step] = lane[0][j];
}

static void NAME(niz_reduce_run)(const niz_reduce_row *r, const void *x, void *y)
{
    if (r->stride == 1 || r->x_step != 1 || r->n == 0 || r->count < W) {
        NAME(niz_reduce_lines)(r, x, y);
        return;
    }
    for (int64_t o = 0; o < r->count; o += COLUMNS)
        NAME(niz_reduce_panel)
        (r, (const T *)x + o, niz_reduce_min(COLUMNS, r->count - o), (T *)y + o * r->y_step);
}

#undef W
#undef L
#undef COLUMNS
#undef EACH
#undef SIDE
#undef PER_BLOCK
