/* prelude.c - the headers that kernels are compiled with, inside the library.
 *
 * The interpreter includes the same files, so both execute one text.  SPDX-License-Identifier: MIT
 */
#include "codegen/chunk.h"

/* Included as well as embedded: a change of theirs builds this file anew, and they are compiled
 * once with all warnings. */
#define NIZ_VECTOR_BYTES 16
#include "codegen/vector.h"
#include "codegen/math.h"
#include "codegen/kernel.h"
#include "codegen/straight.h"

#define NIZ_EMBED(name, file)                                                                      \
    __asm__(".section .rodata\n" #name ":\n.incbin \"" NIZ_CODEGEN_DIR "/" file "\"\n.byte 0\n"    \
            ".previous\n");                                                                        \
    extern const char name[] __attribute__((visibility("hidden")));

NIZ_EMBED(niz_text_of_vector_h, "vector.h")
NIZ_EMBED(niz_text_of_math_h, "math.h")
NIZ_EMBED(niz_text_of_kernel_h, "kernel.h")
NIZ_EMBED(niz_text_of_straight_h, "straight.h")

void niz_prelude_emit(FILE *f, int vector_bytes)
{
    fprintf(f, "#define NIZ_VECTOR_BYTES %d\n", vector_bytes);
    fputs(niz_text_of_vector_h, f);
    fputs(niz_text_of_math_h, f);
    fputs(niz_text_of_kernel_h, f);
    fputc('\n', f);
}

void niz_chunk_prelude_emit(FILE *f, bool plain)
{
    if (plain) fputs("#define NIZ_PLAIN\n", f);
    fputs(niz_text_of_straight_h, f);
    fputc('\n', f);
}
