/* csv_text.c - the fields of a text as RFC 4180 has it.
 *
 * Works in place: a field's closing NUL overwrites its delimiter, and removing quotes only makes it
 * shorter.  So the fields stay valid as long as the text, and nothing is allocated here.
 *
 * SPDX-License-Identifier: MIT */
#include "data/csv_text.h"

#include <stddef.h>
#include <string.h>

static bool is_blank(const niz_csv_text *t, char c)
{
    return (c == ' ' || c == '\t') && c != t->separator;
}

static char *refuse(niz_csv_text *t, const char *why)
{
    t->why = why;
    return NULL;
}

/* Goes over the delimiter at p; false if there is none. */
static bool pass_delimiter(niz_csv_text *t, char *p)
{
    bool at_end = p == t->end, crlf = !at_end && p[0] == '\r' && p[1] == '\n';
    if (!at_end && !crlf && *p != '\n' && *p != t->separator) return false;
    t->record_ended = at_end || crlf || *p == '\n';
    t->line += !at_end && t->record_ended;
    t->next = at_end ? p : crlf ? p + 2 : p + 1;
    return true;
}

/* The field that begins after the quote at next. */
static char *quoted_field(niz_csv_text *t)
{
    char *field = t->next + 1, *to = field, *p = field;
    for (;; *to++ = *p++) {
        if (p == t->end) return refuse(t, "a quote is not closed");
        if (!*p) return refuse(t, "a NUL byte");
        t->line += *p == '\n';
        if (*p != '"') continue;
        if (*++p != '"') break; /* else: two quotes are one */
    }
    if (!pass_delimiter(t, p)) return refuse(t, "text after a closing quote");
    *to = '\0';
    return field;
}

static char *plain_field(niz_csv_text *t)
{
    char *field = t->next, *p = field;
    while (p < t->end && *p != t->separator && !strchr("\r\n\"", *p)) p++;
    char *last = p;
    if (!pass_delimiter(t, p))
        return refuse(t, *p == '"'    ? "a quote inside a field that does not begin with one"
                         : *p == '\r' ? "a carriage return without a line feed"
                                      : "a NUL byte");
    while (field < last && is_blank(t, *field)) field++;
    while (field < last && is_blank(t, last[-1])) last--;
    *last = '\0';
    return field;
}

bool niz_csv_text_more(niz_csv_text *t)
{
    while (t->next < t->end) {
        if (*t->next == '\n')
            t->next++;
        else if (t->next[0] == '\r' && t->next[1] == '\n')
            t->next += 2;
        else
            return true;
        t->line++;
    }
    return false;
}

char *niz_csv_text_field(niz_csv_text *t)
{
    return *t->next == '"' ? quoted_field(t) : plain_field(t);
}
