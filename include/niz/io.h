/* niz/io.h - parameters on disk.
 *
 *   niz_save(z, "best.safetensors");
 *   ...
 *   niz_load(z, "best.safetensors");
 *
 * The format is safetensors (github.com/huggingface/safetensors), which PyTorch, JAX and others
 * read and write: the header's length as 8 bytes, little-endian; the header, JSON with dtype, shape
 * and data_offsets of every tensor; their elements, row-major.  dtypes F32 F64 I32 I64 U8 BOOL.
 * Under __metadata__ libniz keeps its own: "niz.format" = "1", the counters of random draws
 * "niz.seed", "niz.train_steps", "niz.eval_steps" in decimal, and for each parameter that no
 * optimiser touches "niz.state:<name>" = "1".
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_IO_H
#define NIZ_IO_H

#include <niz/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Writes all parameters (optimisers' states are parameters too) and the counters of random draws,
 *  so that training goes on from the file as it would have from memory.  Updates that are pending
 *  run first.  The file is written under a temporary name in the same directory, synced, renamed,
 *  and the directory synced: path holds the old file or the new one, whole, at every moment, and on
 *  an error the old one; nothing else is left behind.  NIZ_E_IO, with the system's reason. */
NIZ_API niz_status niz_save_at(niz_at at, niz *z, const char *path);

/** Reads parameters from a file of niz_save or another program's.  Those that exist take the file's
 *  values and must have its dtype and shape (else NIZ_E_SHAPE); the others are made, in the order
 *  of the header, trainable if floating and the file does not say otherwise; parameters not in the
 *  file stay.  The counters of random draws are set if the file has them.  Updates that are pending
 *  run first.  All or nothing: everything is checked before anything is set.
 *  NIZ_E_IO: the file cannot be read.  NIZ_E_FORMAT: it is damaged or no such file: cut short or
 *  too long; a header over 16 MiB or not JSON; names twice; sizes that are negative, broken, absurd
 *  or not those of the data; data that overlaps, leaves holes or lies outside; other dtypes (named).
 *  Messages have the file and the byte or the tensor's name. */
NIZ_API niz_status niz_load_at(niz_at at, niz *z, const char *path);

#ifdef __cplusplus
} /* extern "C" */
#endif

#ifndef __cplusplus
#define niz_save(...) niz_save_at(NIZ_HERE, __VA_ARGS__)
#define niz_load(...) niz_load_at(NIZ_HERE, __VA_ARGS__)
#else
inline niz_status niz_save(niz *z, const char *path, NIZ_CPP_AT)
{
    return niz_save_at(niz_at{file, line}, z, path);
}
inline niz_status niz_load(niz *z, const char *path, NIZ_CPP_AT)
{
    return niz_load_at(niz_at{file, line}, z, path);
}
#endif

#endif
