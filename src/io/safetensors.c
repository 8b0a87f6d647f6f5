/* safetensors.c - see safetensors.h.  SPDX-License-Identifier: MIT */
#include "io/safetensors.h"

#include <string.h>

const char *const niz_safetensors_counter[3] = {"niz.seed", "niz.train_steps", "niz.eval_steps"};

static const char *const dtypes[NIZ_N_DTYPES] = {
    [NIZ_F32] = "F32", [NIZ_F64] = "F64", [NIZ_I32] = "I32",
    [NIZ_I64] = "I64", [NIZ_U8] = "U8",   [NIZ_BOOL] = "BOOL",
};

const char *niz_safetensors_dtype(niz_dtype d)
{
    return dtypes[d];
}

bool niz_safetensors_dtype_parse(const char *name, niz_dtype *out)
{
    for (int i = 0; i < NIZ_N_DTYPES; i++)
        if (!strcmp(name, dtypes[i])) {
            *out = (niz_dtype)i;
            return true;
        }
    return false;
}

/* The byte after the string that begins at i; bytes if it does not end.  *nul: where \u0000 is. */
static size_t skip_string(const char *text, size_t bytes, size_t i, size_t *nul)
{
    for (i++; i < bytes && text[i] != '"'; i++) {
        if (text[i] != '\\') continue;
        if (bytes - i >= 6 && !memcmp(text + i, "\\u0000", 6)) *nul = i;
        i++;
    }
    return i < bytes ? i + 1 : bytes;
}

const char *niz_safetensors_scan(const char *text, size_t bytes, size_t *where)
{
    size_t nul = bytes, values = 1;
    int depth = 0;
    *where = 0;
    if (!bytes || text[0] != '{') return "does not begin with {";
    for (size_t i = 0; i < bytes;) {
        *where = i;
        char c = text[i];
        i = c == '"' ? skip_string(text, bytes, i, &nul) : i + 1;
        if (nul < bytes) return *where = nul, "has a NUL in a text";
        if (c == '{' || c == '[') depth++;
        if (c == '}' || c == ']') depth--;
        if (depth > 3) return "is nested deeper than tensors are";
        if (c == '{' || c == '[' || c == ',') values++;
        /* the densest tensor there is has a value in 4.8 bytes */
        if (values > bytes / 4 + 16) return "has more values than tensors have";
    }
    return NULL;
}
