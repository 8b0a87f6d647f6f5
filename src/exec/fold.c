/* fold.c - constants: in memory, and folded by the interpreter's own loops.
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "core/context.h"
#include "core/type.h"
#include "exec/exec.h"

int64_t niz_constant_bits(niz_dtype dtype, double v)
{
    int64_t bits = 0;
    float f = (float)v;
    switch (dtype) {
    case NIZ_F32: memcpy(&bits, &f, sizeof f); break;
    case NIZ_F64: memcpy(&bits, &v, sizeof v); break;
    case NIZ_I32: bits = (int64_t)(uint32_t)(int32_t)v; break;
    case NIZ_I64: bits = (int64_t)v; break;
    default: bits = (int64_t)(uint8_t)v;
    }
    return bits;
}

bool niz_constant_value(niz_dtype dtype, const void *p, double *v)
{
    float f;
    int32_t i;
    int64_t l;
    switch (dtype) {
    case NIZ_F32:
        memcpy(&f, p, sizeof f);
        *v = (double)f;
        return true;
    case NIZ_F64: memcpy(v, p, sizeof *v); return true;
    case NIZ_I32:
        memcpy(&i, p, sizeof i);
        *v = i;
        return true;
    case NIZ_I64:
        memcpy(&l, p, sizeof l);
        *v = (double)l;
        return l >= -((int64_t)1 << 53) && l <= (int64_t)1 << 53;
    default: *v = *(const uint8_t *)p; return true;
    }
}

struct niz_map_entry {
    const niz_op *op;
    int n;
    niz_dtype in[4], out;
    niz_map *map;
};

const niz_map *niz_map_of(niz_exec *e, const niz_op *op, int n, const niz_dtype *in, niz_dtype out)
{
    for (size_t i = 0; i < e->n_maps; i++) {
        const struct niz_map_entry *m = &e->map[i];
        if (m->op == op && m->out == out && !memcmp(m->in, in, sizeof *in * (size_t)n))
            return m->map;
    }
    char why[256];
    struct niz_map_entry m = {.op = op, .n = n, .out = out};
    memcpy(m.in, in, sizeof *in * (size_t)n);
    if (!niz_grow(e->z, &e->map, sizeof *e->map, &e->map_capacity, e->n_maps + 1) ||
        !(m.map = niz_realloc(e->z, NULL, sizeof *m.map)))
        return NULL;
    if (niz_map_parse(op->map, n, in, out, m.map, why, sizeof why)) {
        e->map[e->n_maps++] = m;
        return m.map;
    }
    niz_free(e->z, m.map);
    niz_fail(e->z, (niz_at){0}, NIZ_E_FORMAT, "the .map of the operation %s: %s", op->name, why);
    return NULL;
}

void niz_maps_free(niz_exec *e)
{
    for (size_t i = 0; i < e->n_maps; i++) niz_free(e->z, e->map[i].map);
    niz_free(e->z, e->map);
}

bool niz_fold(niz *z, const niz_graph *g, const niz_op *op, int n, const uint32_t *arg,
              niz_attrs attr, niz_dtype dtype, double *value)
{
    niz_exec *e = niz_exec_of(z);
    niz_dtype in[4];
    int64_t bits[5] = {0};
    void *buffer[5];
    (void)attr;
    if (n > 4) return false;
    for (int i = 0; i < n; i++) {
        const niz_node *x = &g->node[arg[i]];
        double v;
        memcpy(&v, x->attr, sizeof v);
        in[i] = (niz_dtype)x->dtype;
        bits[i] = niz_constant_bits(in[i], v);
        buffer[i] = &bits[i];
    }
    const niz_map *map = niz_map_of(e, op, n, in, dtype);
    /* loops want scratch that begins with a line, as pieces of that size do */
    size_t bytes = map ? e->loops->map_scratch(map) : 0;
    void *scratch =
        map ? niz_realloc(z, NULL, bytes > NIZ_LINES_FROM ? bytes : NIZ_LINES_FROM) : NULL;
    if (!scratch) return false;
    niz_map_loop loop = {.map = map, .space = {.n = n + 1}};
    buffer[n] = &bits[4];
    e->loops->map(&loop, buffer, 0, 1, scratch);
    niz_free(z, scratch);
    /* a literal is below 2^53: see niz_number_fits */
    return niz_constant_value(dtype, &bits[4], value) &&
           (dtype != NIZ_I64 || (*value < 0x1p53 && *value > -0x1p53));
}
