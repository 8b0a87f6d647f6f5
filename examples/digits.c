/* digits.c - trains a network to read handwritten digits.
 *
 * Three networks, a function each, share one training loop: it keeps the weights of the epoch with
 * the lowest validation loss, stops when that no longer falls, and then reads the test images once.
 * Everything printed, but for times in [brackets], depends on the arguments alone: not on the
 * number of threads, nor on the machine.
 *
 * SPDX-License-Identifier: MIT */
#include <niz.h>

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "curve_svg.h"
#include "digits_arguments.h"
#include "progress.h"

/* ---- the networks: images x [B,H,W] -> logits [B,K], one for each class --------------------- */

static niz_t fnn(niz_t x, int64_t classes)
{
    x = niz_flatten(x, 1);                                            /* [B,H*W] */
    x = niz_dropout(niz_relu(niz_linear(x, 128, "fc1")), 0.2);        /* [B,128] */
    return niz_linear(x, classes, "fc2");                             /* [B,K] */
}

static niz_t cnn(niz_t x, int64_t classes)
{
    x = niz_unsqueeze(x, 1);                                          /* [B,1,H,W] */
    x = niz_relu(niz_conv2d(x, 16, 3, "conv1", .pad = 1));            /* [B,16,H,W] */
    x = niz_max_pool2d(x, 2);                                         /* [B,16,H/2,W/2] */
    x = niz_relu(niz_conv2d(x, 32, 3, "conv2", .pad = 1));            /* [B,32,H/2,W/2] */
    x = niz_max_pool2d(x, 2);                                         /* [B,32,H/4,W/4] */
    x = niz_dropout(niz_flatten(x, 1), 0.25);                         /* [B,2*H*W] */
    return niz_linear(x, classes, "fc");                              /* [B,K] */
}

static niz_t rnn(niz_t x, int64_t classes)
{
    x = niz_gru(x, 64, "gru");           /* row by row: H steps of W pixels -> [B,H,64] */
    x = niz_select(x, 1, -1);            /* the state after the last row: [B,64] */
    return niz_linear(niz_dropout(x, 0.2), classes, "fc");            /* [B,K] */
}

typedef struct network {
    const char *name;
    niz_t (*record)(niz_t x, int64_t classes);
    double lr; /* unless the user says otherwise */
    int64_t epochs;
} network;

static const network networks[] = {
    {"fnn", fnn, 3e-3, 60}, {"cnn", cnn, 3e-3, 40}, {"rnn", rnn, 5e-3, 60}};

static const network *network_named(const char *name)
{
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++)
        if (!strcmp(networks[i].name, name)) return &networks[i];
    fprintf(stderr, "digits: --net takes fnn, cnn or rnn, not '%s'\n", name);
    return NULL;
}

/* ---- the images ----------------------------------------------------------------------------- */

typedef struct images {
    niz_dataset *set, *test_set; /* test_set: NULL if one set holds the test images too */
    niz_parts parts;
    niz_part test;
    niz_normalizer *normalizer; /* of both sets */
} images;

static void images_split(niz *z, images *d, const char *dir, uint64_t seed)
{
    if (!dir) {
        d->set = niz_digits(z);
        d->parts = niz_split(z, niz_all(d->set), .validation = 0.15, .test = 0.15, .seed = seed);
        d->test = d->parts.test;
        return;
    }
    d->set = niz_idx_dir(z, dir, "train");
    d->test_set = niz_idx_dir(z, dir, "test");
    d->parts = niz_split(z, niz_all(d->set), .validation = 0.1, .test = 0, .seed = seed);
    d->test = niz_all(d->test_set);
}

/* The normaliser may not see what the network is judged by: it is fitted on the training part. */
static images images_load(niz *z, const char *dir, uint64_t seed)
{
    images d = {0};
    images_split(z, &d, dir, seed);
    if (niz_error(z)) return d;
    if (d.set->sample.rank != 2)
        niz_fail(z, NIZ_HERE, NIZ_E_SHAPE, "images have two axes, those in %s have %d", dir,
                 d.set->sample.rank);
    d.normalizer = niz_normalizer_fit(z, d.parts.train, .per_feature = false);
    niz_normalizer_apply(z, d.normalizer, d.set);
    if (d.test_set) niz_normalizer_apply(z, d.normalizer, d.test_set);
    return d;
}

static void images_free(niz *z, images *d)
{
    niz_parts_free(z, &d->parts);
    niz_dataset_free(z, d->set);
    niz_dataset_free(z, d->test_set);
    niz_normalizer_free(z, d->normalizer);
}

static void images_print(const images *d, const char *dir, uint64_t seed)
{
    printf("%s: images of %lldx%lld in %lld classes: %lld to train, %lld to validate, "
           "%lld to test (seed %llu)\n",
           dir ? dir : "UCI digits", (long long)d->set->sample.dim[0],
           (long long)d->set->sample.dim[1], (long long)d->set->n_classes,
           (long long)d->parts.train.count, (long long)d->parts.validation.count,
           (long long)d->test.count, (unsigned long long)seed);
}

/* ---- one batch, one pass -------------------------------------------------------------------- */

typedef struct score {
    double loss, accuracy; /* means over images */
} score;

/* Batches differ in size, so each counts as many times as it has images. */
static void score_add(score *s, int64_t *n, int64_t count, double loss, double accuracy)
{
    double share = (double)count / (double)(*n += count);
    s->loss += share * (loss - s->loss);
    s->accuracy += share * (accuracy - s->accuracy);
}

typedef struct pass { /* one batch going through the network */
    niz_t logits;         /* [B,K] */
    niz_t loss, accuracy; /* [] */
} pass;

static pass pass_record(niz *z, const network *net, const niz_batch *b, int64_t classes)
{
    niz_t x = niz_from(z, NIZ_F32, b->shape, b->x);                   /* [B,H,W] */
    niz_t y = niz_from(z, NIZ_I32, NIZ_SHAPE(b->count), b->label);    /* [B] */
    niz_t logits = net->record(x, classes);                           /* [B,K] */
    return (pass){logits, niz_cross_entropy(logits, y), niz_accuracy(logits, y)};
}

#define EVALUATION_BATCH 256

/* Counts in confusion[label][answer], of shape [K,K]. */
static void confusion_add(int64_t *confusion, int64_t classes, const niz_batch *b, niz_t logits)
{
    int64_t answer[EVALUATION_BATCH]; /* [B] */
    niz_read(niz_argmax(logits, .axis = 1), answer, sizeof *answer * (size_t)b->count);
    if (niz_error(logits.z)) return;
    for (int64_t i = 0; i < b->count; i++) confusion[b->label[i] * classes + answer[i]]++;
}

/* Loss and accuracy of a part, without training; confusion may be NULL. */
static score evaluate(niz *z, const network *net, niz_part part, int64_t *confusion)
{
    int64_t classes = part.of->n_classes, n = 0;
    score s = {0};
    niz_batch b;
    niz_batches *batches = niz_batches_open(z, part, EVALUATION_BATCH, .shuffle = false);
    niz_set_training(z, false);
    while (niz_batches_next(batches, &b)) {
        NIZ_STEP(z);
        pass p = pass_record(z, net, &b, classes);
        NIZ_RUN(z, p.loss, p.accuracy);
        score_add(&s, &n, b.count, niz_item(p.loss), niz_item(p.accuracy));
        if (confusion) confusion_add(confusion, classes, &b, p.logits);
    }
    niz_set_training(z, true);
    niz_batches_free(z, batches);
    return s;
}

/* ---- training ------------------------------------------------------------------------------- */

#define PATIENCE 12 /* epochs without a lower validation loss before training stops */

typedef struct training {
    niz *z;
    const network *net;
    const arguments *a;
    niz_batches *batches;
    niz_optim opt;
    int64_t epochs, step, steps; /* at most; done; at most */
    double *loss[2];             /* training, validation: [epochs] */
    niz_snapshot *best;
    int64_t best_epoch;
    progress bar;
} training;

static score train_epoch(training *t, int64_t epoch, int64_t classes)
{
    char what[32];
    snprintf(what, sizeof what, "epoch %lld", (long long)epoch + 1);
    score s = {0};
    int64_t n = 0;
    niz_batch b;
    for (niz_batches_start(t->batches, epoch); niz_batches_next(t->batches, &b);) {
        NIZ_STEP(t->z);
        pass p = pass_record(t->z, t->net, &b, classes);
        t->opt.lr = niz_schedule_cosine(t->a->lr, t->step++, t->steps, 0);
        niz_minimize(&t->opt, p.loss);
        NIZ_RUN(t->z, p.loss, p.accuracy); /* and the update, in one go */
        score_add(&s, &n, b.count, niz_item(p.loss), niz_item(p.accuracy));
        progress_step(&t->bar, what);
    }
    progress_hide(&t->bar);
    return s;
}

/* Remembers the weights if they are the best so far. */
static bool keep_best(training *t, int64_t epoch)
{
    const double *loss = t->loss[1];
    if (t->best && !(loss[epoch] < loss[t->best_epoch])) return false;
    niz_snapshot_free(t->z, t->best);
    t->best = niz_snapshot_take(t->z);
    t->best_epoch = epoch;
    if (t->a->save) niz_save(t->z, t->a->save);
    return true;
}

static void draw_curve(const training *t, int64_t epochs)
{
    curve c[2] = {{"training", t->loss[0]}, {"validation", t->loss[1]}};
    if (!curve_svg_write(t->a->curve, "Loss (cross-entropy)", 2, c, (int)epochs))
        niz_fail(t->z, NIZ_HERE, NIZ_E_IO, "cannot write %s: %s", t->a->curve, strerror(errno));
}

static void train_epochs(training *t, const images *d)
{
    for (int64_t e = 0; e < t->epochs && e - t->best_epoch <= PATIENCE; e++) {
        double start = progress_clock();
        score train = train_epoch(t, e, d->set->n_classes);
        score valid = evaluate(t->z, t->net, d->parts.validation, NULL);
        if (niz_error(t->z)) return;
        if (!isfinite(train.loss + valid.loss)) {
            niz_fail(t->z, NIZ_HERE, NIZ_E_NAN, "the loss is not finite: try a smaller --lr");
            return;
        }
        t->loss[0][e] = train.loss;
        t->loss[1][e] = valid.loss;
        bool better = keep_best(t, e);
        printf("epoch %2lld   training: loss %.4f, %6.2f %%   validation: loss %.4f, %6.2f %% %c"
               "   [%.2f s]\n",
               (long long)e + 1, train.loss, 100 * train.accuracy, valid.loss,
               100 * valid.accuracy, better ? '*' : ' ', progress_clock() - start);
        if (t->a->curve) draw_curve(t, e + 1);
    }
    if (t->best && !niz_error(t->z)) niz_snapshot_restore(t->z, t->best);
}

static void train(niz *z, const network *net, const arguments *a, const images *d)
{
    training t = {.z = z, .net = net, .a = a, .epochs = a->epochs,
                  .opt = niz_adamw(.decay = 0.05),
                  .batches = niz_batches_open(z, d->parts.train, a->batch, .seed = a->seed)};
    t.steps = t.epochs * niz_batches_count(t.batches);
    t.bar = progress_start(t.steps);
    t.loss[0] = calloc((size_t)t.epochs + 1, sizeof(double));
    t.loss[1] = calloc((size_t)t.epochs + 1, sizeof(double));
    if (t.loss[0] && t.loss[1])
        train_epochs(&t, d);
    else
        niz_fail(z, NIZ_HERE, NIZ_E_MEMORY, "no memory for %lld epochs", (long long)t.epochs);
    if (!niz_error(z) && t.best) printf("best: epoch %lld\n", (long long)t.best_epoch + 1);
    niz_snapshot_free(z, t.best);
    niz_batches_free(z, t.batches);
    free(t.loss[0]);
    free(t.loss[1]);
}

/* ---- the test ------------------------------------------------------------------------------- */

static void confusion_print(const niz_dataset *set, const int64_t *confusion)
{
    int64_t k = set->n_classes;
    printf("\nrows: the label; columns: what the network read\n    ");
    for (int64_t j = 0; j < k; j++) printf("%6lld", (long long)j);
    for (int64_t i = 0; i < k; i++) {
        printf("\n%4lld", (long long)i);
        for (int64_t j = 0; j < k; j++)
            if (confusion[i * k + j])
                printf("%6lld", (long long)confusion[i * k + j]);
            else
                printf("%6s", ".");
    }
    printf("\n\n");
}

static void test(niz *z, const network *net, const images *d)
{
    const niz_dataset *set = d->test.of;
    int64_t k = set->n_classes, right = 0, *confusion = calloc((size_t)(k * k), sizeof *confusion);
    if (!confusion) {
        niz_fail(z, NIZ_HERE, NIZ_E_MEMORY, "no memory for %lld classes", (long long)k);
        return;
    }
    score s = evaluate(z, net, d->test, confusion);
    if (!niz_error(z)) {
        for (int64_t i = 0; i < k; i++) right += confusion[i * k + i];
        confusion_print(set, confusion);
        printf("test: loss %.4f, accuracy %.2f %% (%lld of %lld)\n", s.loss, 100 * s.accuracy,
               (long long)right, (long long)d->test.count);
        char hash[33];
        niz_param_hash(z, hash);
        printf("weights: %s\n", hash);
    }
    free(confusion);
}

/* ---- the program ---------------------------------------------------------------------------- */

static void defaults(arguments *a, const network *net)
{
    if (a->epochs < 0) a->epochs = a->data ? 10 : net->epochs;
    if (!a->batch) a->batch = a->data ? 64 : 32;
    if (a->lr <= 0) a->lr = net->lr;
}

/* Reads weights, and makes sure that they are this network's: then it finds all its parameters. */
static void load(niz *z, const network *net, const images *d, const char *path)
{
    niz_load(z, path);
    int64_t count = niz_param_count(z);
    NIZ_STEP(z);
    const int64_t *size = d->set->sample.dim;
    net->record(niz_zeros(z, NIZ_F32, NIZ_SHAPE(1, size[0], size[1])), d->set->n_classes);
    if (!niz_error(z) && niz_param_count(z) > count)
        niz_fail(z, NIZ_HERE, NIZ_E_ARGUMENT, "%s does not hold the weights of a %s", path,
                 net->name);
}

static void run(niz *z, const network *net, const arguments *a, images *d)
{
    *d = images_load(z, a->data, a->seed);
    if (!niz_error(z) && a->load) load(z, net, d, a->load);
    if (niz_error(z)) return;
    images_print(d, a->data, a->seed);
    printf("%s: at most %lld epochs, batches of %lld, learning rate %g\n", net->name,
           (long long)a->epochs, (long long)a->batch, a->lr);
    train(z, net, a, d);
    if (!niz_error(z)) test(z, net, d);
}

int main(int argc, char **argv)
{
    arguments a;
    if (!arguments_read(&a, argc, argv)) return 2;
    if (a.help) {
        arguments_print_help();
        return 0;
    }
    const network *net = network_named(a.net);
    if (!net) return 2;
    defaults(&a, net);

    setvbuf(stdout, NULL, _IOLBF, 0); /* a line is seen when it is printed, also in a pipe */
    double start = progress_clock();
    images d = {0};
    niz *z = niz_open(&(niz_options){.threads = a.threads, .seed = a.seed});
    if (z) run(z, net, &a, &d);
    bool failed = !z || niz_error(z);
    if (failed) fprintf(stderr, "digits: %s\n", z ? niz_message(z) : "no memory");
    else printf("[%.2f s]\n", progress_clock() - start);
    if (z) images_free(z, &d);
    niz_close(z);
    if (fflush(stdout)) {
        perror("digits: cannot write");
        failed = true;
    }
    return failed;
}
