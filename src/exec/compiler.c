/* compiler.c - the system's C compiler: which one, its flags, one run of it.
 *
 * Finding it starts no process: a compiler is known by its path, size, time and inode.  The program
 * it runs as and the programs it starts in turn are all found through absolute names, so the
 * current directory has no say; of the environment it sees a PATH without relative entries, TMPDIR
 * and LC_ALL=C, and none of the many variables by which compilers can be given further flags.  With
 * AT_SECURE there is no compiler: a program that runs with more rights than its user has must start
 * nothing the user chose.
 *
 * A run has a fresh directory 0700 as its current one and as its TMPDIR.  All names in it are
 * plain, whatever the user's directories are called; nothing in it is anybody else's; and what a
 * killed compiler leaves goes with it.  If we are killed ourselves the directory stays, until a
 * later context finds it old.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/compiler.h"

#include "exec/child.h"
#include "exec/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#define NIZ_COMPILER_LIMIT_S 60
#define NIZ_COMPILER_MAX_OBJECT (64 << 20)

/* ---- finding --------------------------------------------------------------------------------- */

static char *niz_compiler_copy(niz *z, const char *s)
{
    char *copy = niz_realloc(z, NULL, strlen(s) + 1);
    return copy ? strcpy(copy, s) : NULL;
}

/* PATH without the entries that depend on the current directory. */
static char *niz_compiler_search(niz *z)
{
    const char *path = secure_getenv("PATH");
    if (!path) path = "/usr/bin:/bin";
    char *search = niz_realloc(z, NULL, strlen(path) + 1);
    if (!search) return NULL;
    char *to = search;
    for (const char *p = path, *end; *p; p = *end ? end + 1 : end) {
        end = strchrnul(p, ':');
        if (*p != '/') continue;
        if (to > search) *to++ = ':';
        memcpy(to, p, (size_t)(end - p));
        to += end - p;
    }
    *to = 0;
    return search;
}

/* Takes the program at this absolute name, if there is one. */
static bool niz_compiler_take(niz *z, niz_compiler *c, const char *path)
{
    struct stat st;
    if (stat(path, &st) || !S_ISREG(st.st_mode)) return false;
    if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS)) return false;
    c->size = (uint64_t)st.st_size;
    c->inode = (uint64_t)st.st_ino;
    c->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    c->path = niz_compiler_copy(z, path);
    return true;
}

static bool niz_compiler_on_path(niz *z, niz_compiler *c, const char *name)
{
    char path[PATH_MAX];
    for (const char *p = c->search, *end; *p; p = *end ? end + 1 : end) {
        end = strchrnul(p, ':');
        int n = snprintf(path, sizeof path, "%.*s/%s", (int)(end - p), p, name);
        if (n > 0 && (size_t)n < sizeof path && niz_compiler_take(z, c, path)) return true;
    }
    return false;
}

static void niz_compiler_choose(niz *z, niz_compiler *c)
{
    const char *wanted = secure_getenv("NIZ_CC");
    if (!wanted || !*wanted) {
        static const char *const names[] = {"cc", "gcc", "clang"};
        for (int i = 0; i < 3; i++)
            if (niz_compiler_on_path(z, c, names[i])) return;
        snprintf(c->why, sizeof c->why, "no C compiler: no cc, gcc or clang on PATH");
    } else if (*wanted == '/') {
        if (niz_compiler_take(z, c, wanted)) return;
        snprintf(c->why, sizeof c->why, "no C compiler: NIZ_CC=%s is not a program", wanted);
    } else if (strchr(wanted, '/')) {
        snprintf(c->why, sizeof c->why, "no C compiler: NIZ_CC=%s is a relative name", wanted);
    } else if (!niz_compiler_on_path(z, c, wanted)) {
        snprintf(c->why, sizeof c->why, "no C compiler: NIZ_CC=%s is not on PATH", wanted);
    }
}

static int niz_compiler_limit_ms(void)
{
    const char *s = secure_getenv("NIZ_CC_TIMEOUT");
    char *end = NULL;
    long seconds = s ? strtol(s, &end, 10) : 0;
    if (!s || end == s || *end || seconds < 1) seconds = NIZ_COMPILER_LIMIT_S;
    return (seconds > 86400 ? 86400 : (int)seconds) * 1000;
}

void niz_compiler_find(niz *z, niz_compiler *c)
{
    *c = (niz_compiler){.limit_ms = niz_compiler_limit_ms()};
    if (getauxval(AT_SECURE)) {
        snprintf(c->why, sizeof c->why, "no C compiler: the program runs with raised rights");
        return;
    }
    const char *scratch = secure_getenv("TMPDIR");
    c->scratch = niz_compiler_copy(z, scratch && *scratch == '/' ? scratch : "/tmp");
    c->search = niz_compiler_search(z);
    if (c->scratch && c->search) niz_compiler_choose(z, c);
    if (!c->path && !*c->why) snprintf(c->why, sizeof c->why, "no C compiler: no memory");
}

void niz_compiler_drop(niz *z, niz_compiler *c)
{
    niz_free(z, c->path);
    niz_free(z, c->search);
    niz_free(z, c->scratch);
    *c = (niz_compiler){0};
}

/* ---- flags ----------------------------------------------------------------------------------- */

niz_isa niz_compiler_isa(const char *name)
{
    return !strcmp(name, "avx512") ? NIZ_ISA_AVX512
           : !strcmp(name, "avx2") ? NIZ_ISA_AVX2
                                   : NIZ_ISA_SSE2;
}

static int niz_compiler_isa_args(niz_isa isa, const char **arg)
{
    int n = 0;
#ifdef __x86_64__
    static const char *const march[] = {"-march=x86-64", "-march=x86-64-v3", "-march=x86-64-v4"};
    arg[n++] = march[isa];
    if (isa == NIZ_ISA_AVX512) arg[n++] = "-mprefer-vector-width=512";
#else
    (void)isa;
    (void)arg;
#endif
    return n;
}

/* -nostdlib: no start files, which a kernel does not need.  memset and the like, which a compiler
 * may call on its own, are found in the program's C library.  Without FMA hardware the builtin is a
 * call of libm's, which the program need not have loaded.  -Bsymbolic: a kernel's calls of its own
 * functions never end in one of the same name in the host program. */
void niz_compiler_args(niz_target t, const char *arg[NIZ_COMPILER_ARGS])
{
    static const char *const first[] = {"-ffp-contract=off", "-fno-math-errno",
                                        "-fno-trapping-math", "-fwrapv", "-fno-strict-aliasing"};
    static const char *const last[] = {"-shared", "-fPIC",      "-nostdlib", "-Wl,-Bsymbolic",
                                       "-o",      "kernel.so", "-x",        "c",
                                       "kernel.c"};
    int n = 0;
    arg[n++] = t.straight_line ? "-O1" : "-O2";
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) arg[n++] = first[i];
    n += niz_compiler_isa_args(t.isa, arg + n);
    for (size_t i = 0; i < sizeof last / sizeof *last; i++) arg[n++] = last[i];
    if (t.isa == NIZ_ISA_SSE2) arg[n++] = "-lm";
    arg[n] = NULL;
}

/* ---- one run --------------------------------------------------------------------------------- */

static void niz_compiler_say_end(const niz_compiler *c, const niz_child *child, niz_compiled *out)
{
    const char *said = child->n_said ? child->said : "it says nothing";
    size_t room = sizeof out->why;
    switch (child->end) {
    case NIZ_CHILD_EXITED:
        snprintf(out->why, room, "%s: status %d: %s", c->path, child->detail, said);
        break;
    case NIZ_CHILD_SIGNALLED:
        snprintf(out->why, room, "%s: ended by signal %d: %s", c->path, child->detail, said);
        break;
    case NIZ_CHILD_GONE: snprintf(out->why, room, "%s: no object: %s", c->path, said); break;
    case NIZ_CHILD_TIMED_OUT:
        snprintf(out->why, room, "%s: killed after %g s: %s", c->path, c->limit_ms / 1000.0, said);
        break;
    case NIZ_CHILD_CANCELLED: snprintf(out->why, room, "%s: cancelled", c->path); break;
    case NIZ_CHILD_NOT_STARTED:
        snprintf(out->why, room, "%s: cannot start: %s", c->path, strerror(child->detail));
    }
}

/* The object, if the compiler made one.  Its status may be unknown (NIZ_CHILD_GONE); an object that
 * is whole is then its only testimony, and the loader checks that. */
static bool niz_compiler_result(const niz_compiler *c, const niz_child *child, int dir,
                                niz_compiled *out)
{
    out->cancelled = child->end == NIZ_CHILD_CANCELLED;
    bool good = child->end == NIZ_CHILD_GONE || (child->end == NIZ_CHILD_EXITED && !child->detail);
    /* its mode follows the umask, but the folder is ours alone */
    int how = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
    int fd = good ? openat(dir, "kernel.so", how) : -1;
    if (fd >= 0) {
        out->bytes = niz_files_read(fd, NIZ_COMPILER_MAX_OBJECT, &out->n);
        close(fd);
    }
    if (!out->bytes) niz_compiler_say_end(c, child, out);
    return out->bytes != NULL;
}

static bool niz_compiler_start(const niz_compiler *c, niz_target t, int cancel,
                               const niz_folder *f, niz_compiled *out)
{
    const char *arg[NIZ_COMPILER_ARGS + 1] = {c->path};
    niz_compiler_args(t, arg + 1);
    size_t room = strlen(c->search) + strlen(f->base) + sizeof f->name + 32;
    char *text = malloc(room), *env[4] = {text, NULL, (char *)"LC_ALL=C", NULL};
    if (!text) {
        snprintf(out->why, sizeof out->why, "no memory for the compiler's environment");
        return false;
    }
    env[1] = text + snprintf(text, room, "PATH=%s", c->search) + 1;
    snprintf(env[1], room - (size_t)(env[1] - text), "TMPDIR=%s/%s", f->base, f->name);
    niz_child child = {.path = c->path, .argv = (char *const *)arg, .env = env, .dir = f->fd,
                       .limit_ms = c->limit_ms, .cancel = cancel};
    niz_child_run(&child);
    free(text);
    return niz_compiler_result(c, &child, f->fd, out);
}

static bool niz_compiler_write(int dir, const char *text)
{
    int fd = openat(dir, "kernel.c", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    bool ok = niz_files_write(fd, text, strlen(text));
    return !close(fd) && ok;
}

/* The first place of TMPDIR, /tmp and /var/tmp that takes the text. */
static bool niz_compiler_folder(const niz_compiler *c, const char *text, niz_folder *f,
                                niz_compiled *out)
{
    const char *base[] = {c->scratch, "/tmp", "/var/tmp"};
    int error = 0;
    for (int i = 0; i < 3; i++) {
        if (niz_folder_make(f, base[i])) {
            if (niz_compiler_write(f->fd, text)) return true;
            error = error ? error : errno;
            niz_folder_remove(f);
        }
        error = error ? error : errno;
    }
    snprintf(out->why, sizeof out->why, "no place for the compiler to work: %s: %s", base[0],
             strerror(error));
    return false;
}

bool niz_compiler_run(const niz_compiler *c, niz_target t, const char *text, int cancel,
                      niz_compiled *out)
{
    niz_folder f;
    memset(out, 0, sizeof *out);
    if (!c->path) {
        snprintf(out->why, sizeof out->why, "%s", c->why);
        return false;
    }
    if (!niz_compiler_folder(c, text, &f, out)) return false;
    bool ok = niz_compiler_start(c, t, cancel, &f, out);
    niz_folder_remove(&f);
    return ok;
}

void niz_compiler_tidy(const niz_compiler *c)
{
    if (c->scratch) niz_folder_sweep(c->scratch);
}
