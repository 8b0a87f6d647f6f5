/* spec.c - see spec.h.  SPDX-License-Identifier: MIT */
#include "graph/spec.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool niz_spec_next(const char **spec, niz_field *f)
{
    const char *s = *spec;
    if (!s) return false;
    while (*s == ' ') s++;
    if (!*s) return false;
    *f = (niz_field){.name = s, .kind = 'i'};
    while (*s && !strchr(" :[", *s)) s++;
    f->length = (int)(s - f->name);
    if (*s == '[') {
        f->list = true;
        s += 2;
    }
    if (*s == ':') {
        f->kind = s[1];
        s += 2;
    }
    *spec = s;
    return true;
}

void niz_spec_count(const char *spec, int *words, int *lists)
{
    niz_field f;
    *words = *lists = 0;
    while (niz_spec_next(&spec, &f)) ++*(f.list ? lists : words);
}

void niz_double_text(double v, char out[32])
{
    if (isnan(v)) {
        strcpy(out, "nan");
        return;
    }
    for (int digits = 6; digits <= 17; digits++) {
        double back;
        snprintf(out, 32, "%.*g", digits, v);
        if (isinf(v)) return;
        /* the locale's decimal point, of one or more bytes, becomes '.' */
        char *bad = out + strspn(out, "+-0123456789eE");
        if (*bad) {
            size_t n = strcspn(bad, "0123456789");
            *bad = '.';
            memmove(bad + 1, bad + n, strlen(bad + n) + 1);
        }
        niz_double_read(out, &back);
        if (!memcmp(&back, &v, sizeof v)) return; /* of the same bits: -0 is not 0 */
    }
}

const char *niz_double_read(const char *s, double *v)
{
    size_t n = strspn(s, "+-0123456789.eExXabcdefABCDEFpPinfINFnaNA");
    const char *dot = memchr(s, '.', n);
    const char *point = localeconv()->decimal_point;
    char text[96];
    if (n + strlen(point) >= sizeof text) return s;
    size_t before = dot ? (size_t)(dot - s) : n;
    snprintf(text, sizeof text, "%.*s%s%.*s", (int)before, s, dot ? point : "",
             dot ? (int)(n - before - 1) : 0, dot ? dot + 1 : "");
    char *end;
    *v = strtod(text, &end);
    size_t used = (size_t)(end - text);
    if (dot && used > before) used -= strlen(point) - 1;
    return s + used;
}
