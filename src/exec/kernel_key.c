/* kernel_key.c - by what a kernel is known.
 *
 * A kernel's comments name the user's lines, and a line added above the model must not compile it
 * anew.  So the key sees the text as a compiler does after its third phase: spliced lines joined,
 * each comment one space, spaces run together, blank lines gone; strings and characters untouched.
 * The other direction is the one that matters for safety: texts that mean different things must
 * differ in what is hashed.  Line ends stay, since directives end with them, and a text with a raw
 * string, in which none of these rules hold, is hashed as it is.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/kernel_key.h"

#include <string.h>

/* ---- the text's characters, spliced lines joined --------------------------------------------- */

/* Compilers forgive blanks between the backslash and the line's end. */
static const char *niz_kernel_key_splice(const char *p)
{
    while (*p == '\\') {
        const char *q = p + 1 + strspn(p + 1, " \t\v\f\r");
        if (*q != '\n') break;
        p = q + 1;
    }
    return p;
}

static char niz_kernel_key_next(const char **p)
{
    const char *q = niz_kernel_key_splice(*p);
    *p = *q ? q + 1 : q;
    return *q;
}

static char niz_kernel_key_peek(const char *p)
{
    return *niz_kernel_key_splice(p);
}

/* ---- what is hashed -------------------------------------------------------------------------- */

typedef struct niz_key_sink {
    XXH3_state_t *hash;
    char held[512]; /* characters not yet hashed */
    size_t n;
    char last;        /* character put, or 0 */
    bool space, line; /* there was one, or the end of one, since */
} niz_key_sink;

static void niz_kernel_key_flush(niz_key_sink *s)
{
    XXH3_128bits_update(s->hash, s->held, s->n);
    s->n = 0;
}

/* What lies between two characters is one line's end, or one space, or nothing. */
static void niz_kernel_key_put(niz_key_sink *s, char c)
{
    if (s->n + 2 > sizeof s->held) niz_kernel_key_flush(s);
    if (s->last && (s->line || s->space)) s->held[s->n++] = s->line ? '\n' : ' ';
    s->line = s->space = false;
    s->held[s->n++] = s->last = c;
}

/* In a literal every character counts. */
static void niz_kernel_key_literal(niz_key_sink *s, const char **p, char quote)
{
    niz_kernel_key_put(s, quote);
    for (char c; (c = niz_kernel_key_peek(*p)) && c != '\n';) {
        niz_kernel_key_next(p);
        niz_kernel_key_put(s, c);
        if (c == quote) return;
        if (c == '\\' && niz_kernel_key_peek(*p) && niz_kernel_key_peek(*p) != '\n')
            niz_kernel_key_put(s, niz_kernel_key_next(p));
    }
}

static void niz_kernel_key_comment(const char **p, bool line)
{
    for (char c = 0, before; niz_kernel_key_peek(*p);) {
        if (line && niz_kernel_key_peek(*p) == '\n') return;
        before = c;
        c = niz_kernel_key_next(p);
        if (!line && before == '*' && c == '/') return;
    }
}

/* False at a raw string. */
static bool niz_kernel_key_text(niz_key_sink *s, const char *p)
{
    for (char c; (c = niz_kernel_key_next(&p));) {
        char ahead = niz_kernel_key_peek(p);
        if (c == '/' && (ahead == '*' || ahead == '/')) {
            niz_kernel_key_next(&p);
            niz_kernel_key_comment(&p, ahead == '/');
            s->space = true;
        } else if (c == '"' && s->last == 'R' && !s->space && !s->line) {
            return false;
        } else if (c == '"' || c == '\'') {
            niz_kernel_key_literal(s, &p, c);
        } else if (c == '\n') {
            s->line = true;
        } else if (strchr(" \t\v\f\r", c)) {
            s->space = true;
        } else {
            niz_kernel_key_put(s, c);
        }
    }
    niz_kernel_key_flush(s);
    return true;
}

/* Everything but the text; each string with its final zero, so that no two lists look the same. */
static void niz_kernel_key_start(XXH3_state_t *h, const niz_compiler *c, niz_target t)
{
    const char *arg[NIZ_COMPILER_ARGS];
    uint64_t number[4] = {NIZ_KERNEL_ABI, c->size, c->inode, (uint64_t)c->mtime_ns};
    XXH3_128bits_reset(h);
    XXH3_128bits_update(h, number, sizeof number);
    XXH3_128bits_update(h, c->path, strlen(c->path) + 1);
    niz_compiler_args(t, arg);
    for (int i = 0; arg[i]; i++) XXH3_128bits_update(h, arg[i], strlen(arg[i]) + 1);
    XXH3_128bits_update(h, "", 1);
}

XXH128_hash_t niz_kernel_key(const niz_compiler *c, niz_target t, const char *text)
{
    XXH3_state_t h;
    niz_key_sink s = {.hash = &h};
    XXH3_INITSTATE(&h);
    niz_kernel_key_start(&h, c, t);
    if (!niz_kernel_key_text(&s, text)) {
        niz_kernel_key_start(&h, c, t);
        XXH3_128bits_update(&h, "raw", 4);
        XXH3_128bits_update(&h, text, strlen(text));
    }
    return XXH3_128bits_digest(&h);
}
