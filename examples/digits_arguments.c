/* digits_arguments.c - the command line of examples/digits.c.
 *
 * SPDX-License-Identifier: MIT */
#include "digits_arguments.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void arguments_print_help(void)
{
    puts("usage: digits [options]\n"
         "\n"
         "Trains a network to read digits and reports its accuracy on images it has not seen.\n"
         "\n"
         "  --net fnn|cnn|rnn  fully connected (default), convolutional or recurrent\n"
         "  --data DIR         IDX files as MNIST's, plain or .gz: train-images-idx3-ubyte,\n"
         "                     train-labels-idx1-ubyte, t10k-... (default: 1797 images of 8x8\n"
         "                     that are part of the library)\n"
         "  --epochs N         at most N passes over the training images; it stops earlier when\n"
         "                     the validation loss no longer falls (0: only test)\n"
         "  --batch N          images in one step\n"
         "  --lr F             learning rate at the start\n"
         "  --seed N           of split, order, starting weights and dropout (default 1)\n"
         "  --threads N        (default: NIZ_THREADS, else all cores; results are the same)\n"
         "  --save FILE        write the best weights (safetensors)\n"
         "  --load FILE        start from these weights\n"
         "  --save-curve FILE  draw the loss curves (SVG)\n"
         "  --help             this text");
}

static bool wrong(const char *option, const char *text, const char *wanted)
{
    fprintf(stderr, "digits: --%s takes %s, not '%s'\n", option, wanted, text);
    return false;
}

static bool read_whole(const char *option, const char *text, int64_t lowest, int64_t highest,
                       int64_t *value)
{
    char *end, wanted[80];
    errno = 0;
    long long v = strtoll(text, &end, 10);
    snprintf(wanted, sizeof wanted, "a whole number from %lld to %lld", (long long)lowest,
             (long long)highest);
    if (errno || end == text || *end || v < lowest || v > highest)
        return wrong(option, text, wanted);
    *value = v;
    return true;
}

static bool read_rate(const char *text, double *value)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v) || v <= 0) return wrong("lr", text, "a number above 0");
    *value = v;
    return true;
}

static bool read_option(arguments *a, int option, const char *text)
{
    int64_t v;
    switch (option) {
    case 'n': a->net = text; return true;
    case 'd': a->data = text; return true;
    case 'c': a->curve = text; return true;
    case 'w': a->save = text; return true;
    case 'r': a->load = text; return true;
    case 'e': return read_whole("epochs", text, 0, 100000, &a->epochs);
    case 'b': return read_whole("batch", text, 1, 1000000, &a->batch);
    case 'l': return read_rate(text, &a->lr);
    case 's':
        if (!read_whole("seed", text, 0, INT64_MAX, &v)) return false;
        a->seed = (uint64_t)v;
        return true;
    case 't':
        if (!read_whole("threads", text, 1, 256, &v)) return false;
        a->threads = (int)v;
        return true;
    case 'h': a->help = true; return true;
    default: return false; /* getopt has said what is wrong */
    }
}

bool arguments_read(arguments *a, int argc, char **argv)
{
    static const struct option options[] = {
        {"net", 1, NULL, 'n'},     {"data", 1, NULL, 'd'}, {"epochs", 1, NULL, 'e'},
        {"batch", 1, NULL, 'b'},   {"lr", 1, NULL, 'l'},   {"seed", 1, NULL, 's'},
        {"threads", 1, NULL, 't'}, {"save", 1, NULL, 'w'}, {"load", 1, NULL, 'r'},
        {"save-curve", 1, NULL, 'c'}, {"help", 0, NULL, 'h'}, {NULL, 0, NULL, 0}};
    *a = (arguments){.net = "fnn", .epochs = -1, .seed = 1};
    bool right = true;
    for (int o; right && (o = getopt_long(argc, argv, "", options, NULL)) != -1;)
        right = read_option(a, o, optarg);
    if (right && optind < argc) {
        fprintf(stderr, "digits: '%s' is no option\n", argv[optind]);
        right = false;
    }
    if (!right) fprintf(stderr, "digits --help lists the options\n");
    return right;
}
