/* csv.c - a table of text as a data set.
 *
 * The whole text is read, then gone through once, record by record; features are converted as they
 * are met.  Labels are kept as texts until the last record, because only all of them together tell
 * whether they are numbers or names.  Everything a load holds is in one struct, freed in one place.
 *
 * SPDX-License-Identifier: MIT */
#include <niz/op.h>

#include <inttypes.h>
#include <string.h>

#include "data/classes.h"
#include "data/csv_number.h"
#include "data/csv_text.h"
#include "data/dataset.h"
#include "data/memory.h"
#include "data/source.h"

typedef struct load {
    niz_at at;
    niz *z;
    niz_csv_options o;
    niz_csv_number_locale *locale;
    char *bytes;
    niz_csv_text text;

    int64_t line;       /* where the record at hand begins */
    const char **field; /* [fields] of that record */
    int64_t fields, field_room;
    int64_t columns, target; /* target: a column, or -1 */
    const char **name;  /* [columns] from the header, or NULL */

    int64_t rows;
    float *x;           /* [rows, columns but the target] */
    int64_t x_count, x_room;
    float *number;      /* [rows] of NIZ_CSV_NUMBERS */
    int64_t number_room;
    const char **label; /* [rows] of NIZ_CSV_CLASSES */
    int64_t label_room;
    int64_t largest;    /* label, if all are numbers */
    bool names;         /* a label is a text or negative */
    int64_t odd_line;   /* first label that is a number but no class, or 0 */
    const char *odd;
} load;

#define FAIL_AT_COLUMN(c, i, what, ...)                                                            \
    niz_fail((c)->z, (c)->at, NIZ_E_FORMAT,                                                        \
             "%s: line %" PRId64 ", column %" PRId64 "%s%s%s: " what, (c)->o.path, (c)->line,      \
             (int64_t)(i) + 1, (c)->name ? " (" : "", (c)->name ? (c)->name[i] : "",               \
             (c)->name ? ")" : "", __VA_ARGS__)

/* ---- records -------------------------------------------------------------------------------- */

static bool read_text(load *c)
{
    niz_source *s = niz_source_open(c->at, c->z, c->o.path);
    int64_t bytes;
    c->bytes = s ? niz_source_rest(s, &bytes) : NULL;
    niz_source_close(s);
    if (!c->bytes) return false;
    bool mark = bytes >= 3 && !memcmp(c->bytes, "\xef\xbb\xbf", 3);
    c->text = (niz_csv_text){.next = c->bytes + (mark ? 3 : 0),
                             .end = c->bytes + bytes,
                             .separator = c->o.separator,
                             .line = 1};
    return true;
}

static bool add_field(load *c)
{
    void *room = niz_memory_grow(c->z, c->field, c->fields, &c->field_room, sizeof *c->field);
    if (!room) return false;
    c->field = room;
    c->field[c->fields] = niz_csv_text_field(&c->text);
    if (c->field[c->fields++]) return true;
    niz_fail(c->z, c->at, NIZ_E_FORMAT, "%s: line %" PRId64 ", column %" PRId64 ": %s", c->o.path,
             c->text.line, c->fields, c->text.why);
    return false;
}

/* The next record's fields; once the columns are known, just so many. */
static bool read_record(load *c)
{
    c->line = c->text.line;
    c->fields = 0;
    do {
        if (!add_field(c)) return false;
    } while (!c->text.record_ended && !(c->columns && c->fields > c->columns));
    if (!c->columns || c->fields == c->columns) return true;
    bool more = c->fields > c->columns;
    niz_fail(c->z, c->at, NIZ_E_FORMAT,
             "%s: line %" PRId64 ", column %" PRId64 ": the line has %s values than the %" PRId64
             " columns",
             c->o.path, c->line, more ? c->fields : c->fields + 1, more ? "more" : "fewer",
             c->columns);
    return false;
}

/* ---- columns -------------------------------------------------------------------------------- */

/* A column's number from 1 as a text; -1 if it is none. */
static int64_t column_number(const char *text)
{
    int64_t v = 0;
    for (; *text >= '0' && *text <= '9' && v < INT32_MAX; text++) v = 10 * v + (*text - '0');
    return *text ? -1 : v - 1;
}

/* The column of that name; -1 if there is none, -2 if there are two. */
static int64_t column_named(const load *c, const char *name)
{
    int64_t found = -1;
    for (int64_t i = 0; i < c->columns; i++)
        if (!strcmp(c->name[i], name)) found = found == -1 ? i : -2;
    return found;
}

static bool find_target(load *c)
{
    const char *name = c->o.target;
    c->target = -1;
    if (c->o.kind == NIZ_CSV_UNLABELLED) return true;
    c->target = !name ? c->columns - 1 : c->name ? column_named(c, name) : column_number(name);
    if (c->target >= 0 && c->target < c->columns) return true;
    niz_fail(c->z, c->at, NIZ_E_ARGUMENT, "%s: %s column %s", c->o.path,
             c->target == -2 ? "there is more than one" : "there is no", name);
    return false;
}

/* Keeps the header's fields as names and starts a new array for the records'. */
static bool take_columns(load *c)
{
    if (!niz_csv_text_more(&c->text)) {
        niz_fail(c->z, c->at, NIZ_E_FORMAT, "%s: line %" PRId64 ": the file has no %s", c->o.path,
                 c->text.line, c->o.header ? "header" : "lines");
        return false;
    }
    if (!read_record(c)) return false;
    c->columns = c->fields;
    if (c->o.header) {
        c->name = c->field;
        c->field = NULL;
    }
    return find_target(c);
}

/* ---- values --------------------------------------------------------------------------------- */

static bool parse(load *c, int64_t column, float *value)
{
    const char *text = c->field[column];
    switch (niz_csv_number_parse(c->locale, text, value)) {
    case NIZ_CSV_NUMBER_OK:
        return true;
    case NIZ_CSV_NUMBER_MISSING:
        FAIL_AT_COLUMN(c, column, "the value is missing%s%.20s", *text ? ": " : "", text);
        return false;
    case NIZ_CSV_NUMBER_NONE:
        FAIL_AT_COLUMN(c, column, "\"%.40s\" is not a number", text);
        return false;
    case NIZ_CSV_NUMBER_RANGE:
        FAIL_AT_COLUMN(c, column, "%.40s is too large for f32", text);
    }
    return false;
}

static bool add_number(load *c, float **to, int64_t n, int64_t *room, int64_t column)
{
    float *grown = niz_memory_grow(c->z, *to, n, room, sizeof *grown);
    if (!grown) return false;
    *to = grown;
    return parse(c, column, &grown[n]);
}

/* Notes what a label says about all of them; false: it is missing. */
static bool judge_label(load *c, const char *text)
{
    float v;
    niz_csv_number_result is = niz_csv_number_parse(c->locale, text, &v);
    bool small = v > -NIZ_MAX_CLASSES && v < NIZ_MAX_CLASSES && v == (float)(int32_t)v;
    if (is == NIZ_CSV_NUMBER_NONE || (small && v < 0)) {
        c->names = true;
    } else if (!small && !c->odd_line) {
        c->odd_line = c->line;
        c->odd = text;
    } else if (small && (int64_t)v > c->largest) {
        c->largest = (int64_t)v;
    }
    return is != NIZ_CSV_NUMBER_MISSING;
}

static bool add_label(load *c)
{
    const char *text = c->field[c->target];
    void *room = niz_memory_grow(c->z, c->label, c->rows, &c->label_room, sizeof *c->label);
    if (!room) return false;
    c->label = room;
    c->label[c->rows] = text;
    if (judge_label(c, text)) return true;
    FAIL_AT_COLUMN(c, c->target, "the class label is missing%s%.20s", *text ? ": " : "", text);
    return false;
}

static bool add_row(load *c)
{
    for (int64_t i = 0; i < c->columns; i++) {
        bool ok = i != c->target ? add_number(c, &c->x, c->x_count, &c->x_room, i)
                  : c->o.kind == NIZ_CSV_CLASSES
                      ? add_label(c)
                      : add_number(c, &c->number, c->rows, &c->number_room, i);
        if (!ok) return false;
        c->x_count += i != c->target;
    }
    c->rows++;
    return true;
}

static bool read_rows(load *c)
{
    c->largest = -1;
    if (!c->o.header && !add_row(c)) return false;
    while (niz_csv_text_more(&c->text))
        if (!read_record(c) || !add_row(c)) return false;
    return true;
}

/* ---- the data set --------------------------------------------------------------------------- */

static bool number_labels(load *c, niz_dataset *d)
{
    float v;
    for (int64_t i = 0; i < c->rows; i++) {
        niz_csv_number_parse(c->locale, c->label[i], &v);
        d->label[i] = (int32_t)v;
    }
    d->n_classes = c->largest + 1;
    return true;
}

static bool name_labels(load *c, niz_dataset *d)
{
    niz_classes classes = {0};
    int64_t i = 0;
    for (; i < c->rows && classes.n <= NIZ_MAX_CLASSES; i++) {
        d->label[i] = niz_classes_find(c->z, &classes, c->label[i]);
        if (d->label[i] < 0) break;
    }
    d->n_classes = classes.n;
    if (classes.n > NIZ_MAX_CLASSES)
        niz_fail(c->z, c->at, NIZ_E_FORMAT, "%s: column %" PRId64 " has more than %d classes",
                 c->o.path, c->target + 1, NIZ_MAX_CLASSES);
    else if (i == c->rows)
        d->class_names = niz_dataset_names(c->z, classes.n, classes.text);
    niz_classes_free(c->z, &classes);
    return d->class_names;
}

static bool give_labels(load *c, niz_dataset *d)
{
    bool fraction = c->odd_line && !c->names;
    if (fraction) {
        c->line = c->odd_line;
        FAIL_AT_COLUMN(c, c->target,
                       "%.40s is not a class label; say .kind = NIZ_CSV_NUMBERS for a regression",
                       c->odd);
        return false;
    }
    d->label = niz_memory_array(c->z, NULL, c->rows, sizeof *d->label);
    if (!d->label) return false;
    return c->names ? name_labels(c, d) : number_labels(c, d);
}

/* The array without its spare room, now the data set's. */
static bool give_numbers(load *c, float **from, int64_t n, float **to)
{
    float *fitted = niz_memory_array(c->z, *from, n, sizeof *fitted);
    if (!fitted) return false;
    *from = NULL;
    *to = fitted;
    return true;
}

static bool give_feature_names(load *c, niz_dataset *d)
{
    int64_t n = 0;
    if (!c->name) return true;
    for (int64_t i = 0; i < c->columns; i++)
        if (i != c->target) c->name[n++] = c->name[i];
    d->feature_names = niz_dataset_names(c->z, n, c->name);
    return d->feature_names;
}

static niz_dataset *make_dataset(load *c)
{
    niz_shape sample = {1, {c->columns - (c->target >= 0)}};
    niz_dataset *d = niz_dataset_new(c->z, c->rows, sample);
    bool ok = d && give_numbers(c, &c->x, c->x_count, &d->x);
    if (ok && c->o.kind == NIZ_CSV_CLASSES) ok = give_labels(c, d);
    if (ok && c->o.kind == NIZ_CSV_NUMBERS) ok = give_numbers(c, &c->number, c->rows, &d->target);
    if (ok && give_feature_names(c, d)) return d; /* last: it moves the names used in messages */
    niz_dataset_free(c->z, d);
    return NULL;
}

static bool options_are_good(load *c)
{
    const char *wrong = NULL;
    if (!c->o.path)
        wrong = "the path is NULL";
    else if (!c->o.separator || !strchr(",;|\t", c->o.separator))
        wrong = "the separator is not one of , ; | and tab";
    else if ((unsigned)c->o.kind > NIZ_CSV_UNLABELLED)
        wrong = "the kind is none of niz_csv_kind";
    if (wrong) niz_fail(c->z, c->at, NIZ_E_ARGUMENT, "%s", wrong);
    return !wrong;
}

niz_dataset *niz_csv_load_at(niz_at at, niz *z, niz_csv_options o)
{
    NIZ_FUNCTION(z, at, "csv_load");
    if (niz_error(z)) return NULL;
    load c = {.at = at, .z = z, .o = o};
    niz_dataset *d = NULL;
    if (options_are_good(&c) && (c.locale = niz_csv_number_open(z)) && read_text(&c) &&
        take_columns(&c) && read_rows(&c))
        d = make_dataset(&c);
    niz_csv_number_close(c.locale);
    niz_free(z, c.bytes);
    niz_free(z, c.field);
    niz_free(z, c.name);
    niz_free(z, c.x);
    niz_free(z, c.number);
    niz_free(z, c.label);
    return d;
}
