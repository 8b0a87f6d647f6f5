/* split.c - training, validation and test parts.
 *
 * All samples are put into a random order, sorted by class if asked to (stably: random within a
 * class), and every (n/k)-th is taken for test, then likewise for validation from what is left.
 * Taking at even distances from a list sorted by class is what stratifies; the totals are exact.
 * The parts' indices share one block.
 *
 * SPDX-License-Identifier: MIT */
#include <niz/op.h>

#include <inttypes.h>
#include <string.h>

#include "data/memory.h"
#include "data/part.h"

enum { TRAIN, VALIDATION, TEST };

typedef struct split {
    niz_at at;
    niz *z;
    niz_part from;
    int64_t want[3];  /* samples of each part */
    int64_t *order;   /* [count] positions in from, in the order of drawing */
    int64_t *sorted;  /* [count] */
    int64_t *start;   /* [n_classes + 1] where a class begins in sorted */
    uint8_t *part_of; /* [count] by position in from */
} split;

static bool count_parts(split *s, double validation, double test)
{
    int64_t n = s->from.count;
    if (!(validation >= 0 && test >= 0 && validation + test < 1)) { /* so written for NaNs */
        niz_fail(s->z, s->at, NIZ_E_ARGUMENT,
                 "fractions are at least 0 and together less than 1, validation is %g and "
                 "test is %g",
                 validation, test);
        return false;
    }
    s->want[VALIDATION] = (int64_t)((double)n * validation + 0.5);
    s->want[TEST] = (int64_t)((double)n * test + 0.5);
    s->want[TRAIN] = n - s->want[VALIDATION] - s->want[TEST];
    if (s->want[TRAIN] > 0) return true;
    niz_fail(s->z, s->at, NIZ_E_ARGUMENT,
             "of %" PRId64 " samples, %" PRId64 " for validation and %" PRId64
             " for test leave none to train on",
             n, s->want[VALIDATION], s->want[TEST]);
    return false;
}

static int32_t label_of(const split *s, int64_t position)
{
    return s->from.of->label[niz_part_row(s->from, position)];
}

static bool labels_are_good(const split *s)
{
    const niz_dataset *d = s->from.of;
    for (int64_t i = 0; i < s->from.count; i++) {
        int32_t c = label_of(s, i);
        if (c >= 0 && c < d->n_classes) continue;
        niz_fail(s->z, s->at, NIZ_E_ARGUMENT,
                 "label %" PRId32 " of sample %" PRId64 " is not below n_classes, %" PRId64,
                 c, niz_part_row(s->from, i), d->n_classes);
        return false;
    }
    return true;
}

/* A counting sort of order by label, stable. */
static bool sort_by_class(split *s)
{
    int64_t n = s->from.count, classes = s->from.of->n_classes;
    if (!labels_are_good(s)) return false;
    s->sorted = niz_memory_array(s->z, NULL, n, sizeof *s->sorted);
    s->start = niz_memory_zeroed(s->z, classes + 1, sizeof *s->start);
    if (!s->sorted || !s->start) return false;
    for (int64_t i = 0; i < n; i++) s->start[label_of(s, i) + 1]++;
    for (int64_t c = 0; c < classes; c++) s->start[c + 1] += s->start[c];
    for (int64_t i = 0; i < n; i++)
        s->sorted[s->start[label_of(s, s->order[i])]++] = s->order[i];
    memcpy(s->order, s->sorted, (size_t)n * sizeof *s->order);
    return true;
}

/* Moves want[part] of the samples still in TRAIN to part, evenly along order. */
static void take_evenly(split *s, int part, int64_t candidates)
{
    int64_t sum = candidates / 2; /* of want, modulo candidates: a sample is taken at each wrap */
    for (int64_t i = 0; i < s->from.count; i++) {
        if (s->part_of[s->order[i]] != TRAIN) continue;
        sum += s->want[part];
        if (sum < candidates) continue;
        sum -= candidates;
        s->part_of[s->order[i]] = (uint8_t)part;
    }
}

static bool draw(split *s, const niz_split_options *o)
{
    int64_t n = s->from.count;
    s->order = niz_memory_array(s->z, NULL, n, sizeof *s->order);
    s->part_of = s->order ? niz_memory_zeroed(s->z, n, sizeof *s->part_of) : NULL;
    if (!s->part_of) return false;
    for (int64_t i = 0; i < n; i++) s->order[i] = i;
    niz_shuffle(o->seed, UINT64_MAX, n, s->order);
    if (o->stratify && s->from.of->label && !sort_by_class(s)) return false;
    take_evenly(s, TEST, n);
    take_evenly(s, VALIDATION, n - s->want[TEST]);
    return true;
}

static niz_part list(const split *s, int part, int64_t *index)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->from.count; i++)
        if (s->part_of[i] == part) index[n++] = niz_part_row(s->from, i);
    return (niz_part){s->from.of, n, index};
}

niz_parts niz_split_at(niz_at at, niz *z, niz_split_options o)
{
    NIZ_FUNCTION(z, at, "split");
    niz_parts p = {.memory = NULL};
    split s = {.at = at, .z = z, .from = o.part};
    bool ok = niz_part_check(at, z, o.part) && count_parts(&s, o.validation, o.test) &&
              draw(&s, &o);
    if (ok) p.memory = niz_memory_array(z, NULL, o.part.count, sizeof *p.memory);
    if (p.memory) {
        p.train = list(&s, TRAIN, p.memory);
        p.validation = list(&s, VALIDATION, p.memory + p.train.count);
        p.test = list(&s, TEST, p.memory + p.train.count + p.validation.count);
    }
    niz_free(z, s.order);
    niz_free(z, s.sorted);
    niz_free(z, s.start);
    niz_free(z, s.part_of);
    return p;
}

void niz_parts_free(niz *z, niz_parts *parts)
{
    if (!parts) return;
    if (parts->memory) niz_free(z, parts->memory);
    *parts = (niz_parts){.memory = NULL};
}
