/* csv_number.c - decimal numbers, whatever the locale.
 *
 * The grammar is checked here: [+-] digits [. digits] [e [+-] digits], with at least one digit
 * before or after the point; so hexadecimal, infinity and the like never reach the conversion.
 * That is strtof's, correctly rounded, with the C locale handed to it rather than set: a program's
 * own locale is neither asked nor touched, in whatever thread.
 *
 * SPDX-License-Identifier: MIT */
#include "data/csv_number.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

/* locale_t is a pointer; its own name would need feature macros wherever the header is read. */
niz_csv_number_locale *niz_csv_number_open(niz *z)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c) niz_fail(z, (niz_at){NULL, 0}, NIZ_E_MEMORY, "no memory for a locale");
    return (niz_csv_number_locale *)c;
}

void niz_csv_number_close(niz_csv_number_locale *c)
{
    if (c) freelocale((locale_t)c);
}

static const char *skip_digits(const char *p)
{
    while (*p >= '0' && *p <= '9') p++;
    return p;
}

static const char *skip_sign(const char *p)
{
    return *p == '+' || *p == '-' ? p + 1 : p;
}

static bool is_number(const char *text)
{
    const char *whole = skip_sign(text), *p = skip_digits(whole);
    bool digits = p > whole;
    if (*p == '.') {
        const char *fraction = p + 1;
        p = skip_digits(fraction);
        digits |= p > fraction;
    }
    if (digits && (*p == 'e' || *p == 'E')) {
        const char *exponent = skip_sign(p + 1);
        p = skip_digits(exponent);
        digits = p > exponent;
    }
    return digits && !*p;
}

static bool is_missing(const char *text)
{
    return !*text || !strcmp(text, "?") || !strcasecmp(text, "na") || !strcasecmp(text, "nan");
}

niz_csv_number_result niz_csv_number_parse(niz_csv_number_locale *c, const char *text,
                                           float *value)
{
    *value = 0;
    if (is_missing(text)) return NIZ_CSV_NUMBER_MISSING;
    if (!is_number(text)) return NIZ_CSV_NUMBER_NONE;
    *value = strtof_l(text, NULL, (locale_t)c);
    return isfinite(*value) ? NIZ_CSV_NUMBER_OK : NIZ_CSV_NUMBER_RANGE;
}
