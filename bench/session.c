/* session.c - what all works have in common: data in batches, training, warming up.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"
#include "timing.h"
#include "works.h"

#define WARM_STEPS 10
#define WARM_NS 3e9

static const work *const tables[] = {works_images, works_sequences, works_gradients,
#ifdef BENCH_CALL
                                     works_calls
#endif
};

const work *work_find(const char *name)
{
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (const work *w = tables[i]; w->name; w++)
            if (!strcmp(w->name, name)) return w;
    return NULL;
}

void work_print_names(FILE *f)
{
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (const work *w = tables[i]; w->name; w++) fprintf(f, " %s", w->name);
    fprintf(f, "\n");
}

session session_open(const work *w, int threads)
{
    session s = {.z = niz_open(&(niz_options){.threads = threads}), .w = w};
    if (!s.z) exit(1);
    w->open(&s);
    if (w->loss) {
        NIZ_STEP(s.z); /* makes the parameters; nothing is trained */
        w->loss(&s);
    }
    numbers_params(s.z);
    return s;
}

void session_close(session *s)
{
    niz_close(s->z);
    free(s->x);
    free(s->y);
    free(s->v);
}

niz_t session_x(session *s, niz_dtype dtype, niz_shape shape)
{
    size_t bytes = (size_t)niz_shape_count(&shape) * niz_dtype_size(dtype);
    return niz_from(s->z, dtype, shape, (char *)s->x + (size_t)s->at * bytes);
}

niz_t session_y(session *s, niz_shape shape)
{
    return niz_from(s->z, NIZ_I32, shape, (int32_t *)s->y + s->at * niz_shape_count(&shape));
}

double session_train(session *s, bool check)
{
    NIZ_STEP(s->z);
    niz_t loss = s->w->loss(s);
    niz_minimize(&s->opt, loss);
    s->at = (s->at + 1) % s->w->batches;
    return check ? niz_item(loss) : 0; /* the update runs at the end of the step all the same */
}

static double sum_of_squares(niz_t t)
{
    niz_shape shape = niz_shape_of(t);
    int64_t n = niz_shape_count(&shape);
    bool wide = niz_dtype_of(t) == NIZ_F64;
    size_t bytes = (size_t)n * niz_dtype_size(niz_dtype_of(t));
    void *v = malloc(bytes + 1);
    double sum = 0;
    if (!v || niz_read(t, v, bytes)) n = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = wide ? ((double *)v)[i] : ((float *)v)[i];
        sum += x * x;
    }
    free(v);
    return sum;
}

double session_norm(int n, const niz_t *g)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += sum_of_squares(g[i]);
    return sqrt(sum);
}

/* Whether no kernel is waited for any more. */
static bool settled(niz *z)
{
#ifdef BENCH_KERNEL_COUNTS
    return niz_statistics(z).plans_pending == 0;
#else
    const char *mode = getenv("NIZ_JIT"); /* libniz does not tell: async may take the whole time */
    return niz_statistics(z).runs > 0 && !(mode && !strcmp(mode, "async"));
#endif
}

void session_warm_up(session *s)
{
    double start = timing_ns();
    for (int i = 0; i < WARM_STEPS || !settled(s->z); i++) {
        s->w->step(s, false);
        if (timing_ns() - start > WARM_NS || niz_error(s->z)) return;
    }
}
