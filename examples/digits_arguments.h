/* digits_arguments.h - the command line of examples/digits.c.
 *
 * SPDX-License-Identifier: MIT */
#ifndef DIGITS_ARGUMENTS_H
#define DIGITS_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct arguments {
    const char *net;   /* "fnn", "cnn" or "rnn" */
    const char *data;  /* directory of IDX files; NULL: the digits inside the library */
    const char *curve; /* SVG file for the loss curves, or NULL */
    const char *save, *load; /* safetensors files, or NULL */
    int64_t epochs, batch;   /* 0 batch, -1 epochs: not given */
    double lr;               /* 0: not given */
    uint64_t seed;
    int threads; /* 0: libniz chooses */
    bool help;
} arguments;

/** Reads the command line.  False: it is wrong, and stderr says how. */
bool arguments_read(arguments *a, int argc, char **argv);

void arguments_print_help(void);

#endif
