/* kernel_object.c - from the bytes of a shared object to code that can be called.
 *
 * dlopen wants a path.  /proc/self/fd/N names an open file itself, so that what was checked is what
 * is loaded, whatever happens to its name, and files without a name can be loaded too.  But the
 * loader takes two objects of one path for the same, and descriptors' numbers come again; so each
 * load spells the path in its own way: the bits of a serial number as "/" and "/./" between its
 * parts.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/kernel_object.h"

#include "exec/files.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- checking -------------------------------------------------------------------------------- */

static bool niz_kernel_object_within(uint64_t offset, uint64_t size, size_t n)
{
    return offset <= n && size <= n - offset;
}

static bool niz_kernel_object_header(const ElfW(Ehdr) *h, size_t n)
{
    const int native = sizeof(ElfW(Addr)) == 8 ? ELFCLASS64 : ELFCLASS32;
    if (memcmp(h->e_ident, ELFMAG, SELFMAG) || h->e_ident[EI_CLASS] != native) return false;
    if (h->e_type != ET_DYN || h->e_phentsize != sizeof(ElfW(Phdr))) return false;
#ifdef __x86_64__
    if (h->e_machine != EM_X86_64) return false;
#endif
    return niz_kernel_object_within(h->e_phoff, (uint64_t)h->e_phnum * h->e_phentsize, n) &&
           niz_kernel_object_within(h->e_shoff, (uint64_t)h->e_shnum * h->e_shentsize, n);
}

bool niz_kernel_object_whole(const unsigned char *bytes, size_t n)
{
    ElfW(Ehdr) h;
    ElfW(Phdr) p;
    bool load = false, dynamic = false;
    if (n < sizeof h) return false;
    memcpy(&h, bytes, sizeof h);
    if (!niz_kernel_object_header(&h, n)) return false;
    for (int i = 0; i < h.e_phnum; i++) {
        memcpy(&p, bytes + h.e_phoff + (size_t)i * sizeof p, sizeof p);
        if (!niz_kernel_object_within(p.p_offset, p.p_filesz, n)) return false;
        load |= p.p_type == PT_LOAD;
        dynamic |= p.p_type == PT_DYNAMIC;
    }
    return load && dynamic;
}

/* ---- loading --------------------------------------------------------------------------------- */

void *niz_kernel_object_load(int fd, uint64_t serial, niz_reason *why)
{
    char path[256] = "/proc/self/fd";
    char *to = path + strlen(path);
    for (; serial; serial >>= 1) to = stpcpy(to, serial & 1 ? "/." : "/");
    snprintf(to, sizeof path - (size_t)(to - path), "/%d", fd);
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const char *said = object ? NULL : dlerror();
    if (!object)
        snprintf(why->text, sizeof why->text, "cannot load: %s", said ? said : "no reason given");
    return object;
}

static void *niz_kernel_object_load_file(int fd, const unsigned char *bytes, size_t n,
                                         uint64_t serial, niz_reason *why)
{
    void *object = NULL;
    if (fd >= 0 && niz_files_write(fd, bytes, n))
        object = niz_kernel_object_load(fd, serial, why);
    else
        snprintf(why->text, sizeof why->text, "no place to load from: %s", strerror(errno));
    if (fd >= 0) close(fd);
    return object;
}

static int niz_kernel_object_nameless(const char *scratch)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/niz-kernel-XXXXXX", scratch);
    if (n < 0 || (size_t)n >= sizeof path) return errno = ENAMETOOLONG, -1;
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path);
    return fd;
}

void *niz_kernel_object_load_bytes(const unsigned char *bytes, size_t n, const char *scratch,
                                   uint64_t serial, niz_reason *why)
{
    int fd = memfd_create("niz-kernel", MFD_CLOEXEC);
    void *object = niz_kernel_object_load_file(fd, bytes, n, serial, why);
    if (object) return object;
    fd = niz_kernel_object_nameless(scratch);
    return niz_kernel_object_load_file(fd, bytes, n, serial, why);
}
