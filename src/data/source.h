/* source.h - the bytes of a file, plain or gzip, from first to last.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_DATA_SOURCE_H
#define NIZ_DATA_SOURCE_H

#include <niz/core.h>

typedef struct niz_source niz_source;

/* Opens path, which must stay valid as long as the source.  NULL: the error is set, as with all
 * functions here that say failure. */
niz_source *niz_source_open(niz_at at, niz *z, const char *path);
void niz_source_close(niz_source *s);

/* The next bytes; fewer than asked for only at the end; -1 on failure. */
int64_t niz_source_read(niz_source *s, void *out, int64_t bytes);

/* Offset of the next byte, in the unpacked data. */
int64_t niz_source_offset(const niz_source *s);

/* Just so many bytes, in memory that grows as they arrive; NULL on failure or an early end. */
void *niz_source_take(niz_source *s, int64_t bytes);

/* All that is left, ended by a NUL that *bytes does not count. */
char *niz_source_rest(niz_source *s, int64_t *bytes);

/* Whether nothing is left, and a gzip file's checksum is right; if not, fails. */
bool niz_source_expect_end(niz_source *s);

#endif
