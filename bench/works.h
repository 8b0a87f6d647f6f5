/* works.h - the works that are compared: one step of each, as a user of libniz writes it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WORKS_H
#define WORKS_H

#include <niz.h>

typedef struct work work;

/** A work being done. */
typedef struct session {
    niz *z;
    const work *w;
    niz_optim opt;        /* of training */
    int64_t at;           /* which batch of the data is next */
    void *x, *y, *v;      /* data, as the work has it */
    struct niz_fn *fixed; /* of works that record once */
} session;

/** One row of the table of works. */
struct work {
    const char *name;
    int64_t batch, batches;    /* samples in a batch; batches of data, taken in turn */
    int checked;               /* after so many steps the peers' numbers are compared */
    void (*open)(session *s);  /* makes the data, chooses the optimiser */
    niz_t (*loss)(session *s); /* records the forward part */
    double (*step)(session *s, bool check); /* does one step; with check, the number to compare: the
                                               loss of this step, or the norm of a gradient */
};

/* Each ends with {0}.  The last are there if libniz has niz_compile. */
extern const work works_images[], works_sequences[], works_gradients[], works_calls[];

/* What works_calls.c shares with the others. */
#define LSTM14_WIDTH 14
#define LSTM14_VECTORS 24 /* two layers, four gates, three vectors */
void works_mlp_open(session *s);
niz_t works_mlp(niz_t x);
void works_lstm14_open(session *s);
/** Records the gradients: g[i] [14], f64. */
void works_lstm14(session *s, niz_t g[LSTM14_VECTORS]);

/** The work of that name, or NULL. */
const work *work_find(const char *name);
void work_print_names(FILE *f);

/** Opens a context with the shared numbers in its data and
 *  parameters. */
session session_open(const work *w, int threads);
void session_close(session *s);

/** A batch of the session's x or y: `shape` begins with the batch. */
niz_t session_x(session *s, niz_dtype dtype, niz_shape shape);
niz_t session_y(session *s, niz_shape shape);

/** Forward, backward and update, recorded anew: a work's .step. */
double session_train(session *s, bool check);
/** √Σ g² over n tensors, which it reads. */
double session_norm(int n, const niz_t *g);

/** Steps until the compiled kernels are in use; 3 s at most. */
void session_warm_up(session *s);

#endif
