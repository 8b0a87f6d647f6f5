/* mnist.c - one epoch of MNIST, 784-128-10 with batches of 64: from the files to trained weights.
 *
 *   mnist DIR [THREADS]
 *
 * DIR has the four IDX files of MNIST, plain or gzipped.  Prints the seconds of loading and of
 * training, and the weights' hash, which threads and compilers do not change.
 *
 * SPDX-License-Identifier: MIT */
#include <niz.h>

#include <stdlib.h>

#include "timing.h"

static niz_t loss_of(niz *z, const niz_batch *b)
{
    niz_t x = niz_from(z, NIZ_F32, NIZ_SHAPE(b->count, 784), b->x);
    niz_t y = niz_from(z, NIZ_I32, NIZ_SHAPE(b->count), b->label);
    x = niz_relu(niz_linear(x, 128, "fc1")); /* [B,128] */
    return niz_cross_entropy(niz_linear(x, 10, "fc2"), y);
}

static double epoch(niz *z, const niz_dataset *d)
{
    niz_optim opt = niz_sgd(.lr = 0.1);
    niz_batches *batches = niz_batches_open(z, niz_all(d), 64, .seed = 1);
    niz_batch b;
    double last = 0;
    int64_t left = niz_batches_count(batches);
    while (niz_batches_next(batches, &b)) {
        NIZ_STEP(z);
        niz_t loss = loss_of(z, &b);
        niz_minimize(&opt, loss);
        if (--left == 0) last = niz_item(loss);
    }
    niz_batches_free(z, batches);
    return last;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) return fprintf(stderr, "usage: mnist DIR [THREADS]\n"), 2;
    double start = timing_ns();
    niz *z = niz_open(&(niz_options){.threads = argc > 2 ? atoi(argv[2]) : 0});
    if (!z) return 1;
    niz_dataset *d = niz_idx_dir(z, argv[1], "train");
    double loaded = timing_ns(), last = d ? epoch(z, d) : 0, end = timing_ns();
    char hash[33];
    niz_param_hash(z, hash);
    bool failed = niz_error(z);
    if (failed)
        fprintf(stderr, "mnist: %s\n", niz_message(z));
    else
        printf("{\"name\": \"mnist\", \"seconds\": %.4f, \"load_s\": %.4f, \"train_s\": %.4f, "
               "\"samples\": %lld, \"last_loss\": %.6f, \"hash\": \"%s\"}\n",
               (end - start) / 1e9, (loaded - start) / 1e9, (end - loaded) / 1e9,
               (long long)d->count, last, hash);
    niz_dataset_free(z, d);
    niz_close(z);
    return failed;
}
