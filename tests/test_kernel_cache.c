/* test_kernel_cache.c - the C compiler as a background service, and the kernel cache.
 *
 * Most tests use a compiler of their own, a shell script that notes each of its runs and then
 * copies an object made before, fails, hangs, talks or makes nonsense: quick, and what ran is
 * counted.  New processes are this program again with an argument.  What a machine does not allow
 * (mounts, other users' files, set-user-ID programs) is counted in the last line.
 *
 * SPDX-License-Identifier: MIT */
#include "core/context.h"
#include "exec/kernel_cache.h"
#include "exec/kernel_disk.h"
#include "exec/kernel_key.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Sanitizers: their allocators do not bear a fork of several threads, nor replacing. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED 1
#endif
#ifdef __SANITIZE_THREAD__
#define THREAD_SANITIZED 1
#endif
#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZED 1
#endif
#endif

#define NOBODY 65534

static char root[64], good[80]; /* of all tests: an object whose answer() is 42 */
static char dir[96], cache[112], scratch[112], cc[112];
static niz *z;
static niz_kernels *k;
static int descriptors;
static const niz_target sse2 = {NIZ_ISA_SSE2, false};

static struct shared {
    atomic_int not_run;
    char what[16][80];
} *shared;

static void not_run(const char *what)
{
    int i = shared->not_run++;
    if (i < 16) snprintf(shared->what[i], sizeof shared->what[i], "%s", what);
}

/* ---- files ----------------------------------------------------------------------------------- */

static const char *in(const char *base, const char *name)
{
    static char path[8][512];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], sizeof path[turn], "%s/%s", base, name);
    return path[turn];
}

static size_t read_file(const char *path, unsigned char *data, size_t room)
{
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    size_t n = fread(data, 1, room, f);
    fclose(f);
    return n;
}

static void write_file(const char *path, const void *data, size_t n, mode_t mode)
{
    FILE *f = fopen(path, "wb");
    ck_assert_msg(f != NULL, "%s: %s", path, strerror(errno));
    ck_assert_uint_eq(fwrite(data, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(chmod(path, mode), 0);
}

static int count_names(const char *path, const char *end)
{
    int n = 0;
    DIR *d = opendir(path);
    if (!d) return 0;
    for (struct dirent *e; (e = readdir(d));) {
        size_t all = strlen(e->d_name), tail = strlen(end);
        n += e->d_name[0] != '.' && all >= tail && !strcmp(e->d_name + all - tail, end);
    }
    closedir(d);
    return n;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
    (void)st, (void)type, (void)f;
    return remove(path);
}

static void remove_all(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- compilers ------------------------------------------------------------------------------- */

/* A compiler that notes its run and does this. */
static void compiler(const char *does)
{
    static int version;
    char text[2048];
    int n = snprintf(text, sizeof text,
                     "#!/bin/sh\n# %d\necho run >>'%s/runs'\ngood='%s'\ndir='%s'\n%s\n", version++,
                     dir, good, dir, does);
    ck_assert_int_lt(n, (int)sizeof text);
    unlink(cc);
    write_file(cc, text, (size_t)n, 0700);
    setenv("NIZ_CC", cc, 1);
}

#define COPIES "cp \"$good\" kernel.so"

static int runs(void)
{
    static unsigned char text[1 << 16];
    return (int)read_file(in(dir, "runs"), text, sizeof text) / 4;
}

static void open_with(const niz_kernel_options *o)
{
    k = niz_kernels_open(z, o);
    ck_assert_ptr_nonnull(k);
}

static void close_all(void)
{
    niz_kernels_close(k);
    k = NULL;
}

static void reopen(void)
{
    close_all();
    open_with(NULL);
}

static const char *text_of(int i)
{
    static _Thread_local char text[128];
    snprintf(text, sizeof text, "/* kernel %d */\nint answer(void) { return %d; }\n", i, i);
    return text;
}

static void nap(double seconds)
{
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

/* Until what was compiled is on disk, or not: kernels are ready before. */
static void wait_for_disk(void)
{
    niz_kernel_counts c;
    while (c = niz_kernels_counts(k), c.kept + c.not_kept < c.compiled) nap(0.0001);
}

static niz_kernel *get_for(const char *text, niz_target t)
{
    niz_kernel *e = niz_kernel_request(k, text, t, NIZ_KERNEL_SYNC);
    wait_for_disk();
    return e;
}

static niz_kernel *get(const char *text)
{
    return get_for(text, sse2);
}

static int answer(const niz_kernel *e)
{
    int (*f)(void);
    void *p = niz_kernel_symbol(e, "answer");
    if (!p) return -1;
    memcpy(&f, &p, sizeof f);
    return f();
}

static void expect(const niz_kernel *e, int want)
{
    ck_assert_msg(niz_kernel_state_of(e) == NIZ_KERNEL_READY, "state %d: %s",
                  niz_kernel_state_of(e), niz_kernel_why(e));
    ck_assert_int_eq(answer(e), want);
    ck_assert_str_eq(niz_kernel_why(e), "");
}

static void expect_failed(const niz_kernel *e, const char *why)
{
    ck_assert_int_eq(niz_kernel_state_of(e), NIZ_KERNEL_FAILED);
    ck_assert_msg(strstr(niz_kernel_why(e), why) != NULL, "says \"%s\", not \"%s\"",
                  niz_kernel_why(e), why);
    ck_assert_ptr_null(niz_kernel_symbol(e, "answer"));
    ck_assert_int_eq(niz_error(z), NIZ_OK);
}

static void expect_why(const char *why)
{
    char text[1024];
    niz_kernels_why(k, text, sizeof text);
    ck_assert_msg(strstr(text, why) != NULL && (*why || !*text), "says \"%s\", not \"%s\"", text,
                  why);
}

#define EXPECT_COUNT(name, n) ck_assert_int_eq(niz_kernels_counts(k).name, n)

/* ---- processes ------------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A zombie that nobody reaps does not live. */
static bool alive(pid_t pid)
{
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (!read_file(path, (unsigned char *)text, sizeof text - 1)) return false;
    const char *state = strrchr(text, ')');
    return state && state[2] != 'Z' && state[2] != 'X';
}

/* The number a script wrote into a file; waits for it. */
static pid_t noted_pid(const char *name)
{
    for (int i = 0; i < 1000; i++, nap(0.01)) {
        char text[32] = "";
        size_t n = read_file(in(dir, name), (unsigned char *)text, sizeof text - 1);
        if (n && text[n - 1] == '\n') return (pid_t)atoi(text);
    }
    ck_abort_msg("%s was not written", name);
    return 0;
}

static bool dies(pid_t pid)
{
    for (int i = 0; i < 200 && alive(pid); i++) nap(0.01);
    return !alive(pid);
}

static pid_t start_self(const char *program, const char *mode, const char *arg)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid) return pid;
    execl(program, "test_kernel_cache", mode, arg, (char *)NULL);
    _exit(126);
}

static int end_of(pid_t pid)
{
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int run_self(const char *mode, const char *arg)
{
    return end_of(start_self("/proc/self/exe", mode, arg));
}

/* ---- before and after ------------------------------------------------------------------------ */

static int open_descriptors(void)
{
    return count_names("/proc/self/fd", "");
}

static void begin(void)
{
    snprintf(dir, sizeof dir, "%s/XXXXXX", root);
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(cache, sizeof cache, "%s/cache", dir);
    snprintf(scratch, sizeof scratch, "%s/tmp", dir);
    snprintf(cc, sizeof cc, "%s/cc", dir);
    mkdir(scratch, 0700);
    setenv("NIZ_CACHE_DIR", cache, 1);
    setenv("TMPDIR", scratch, 1);
    unsetenv("NIZ_CC");
    unsetenv("NIZ_CC_TIMEOUT");
    descriptors = open_descriptors();
    z = niz_open(NULL);
    ck_assert_ptr_nonnull(z);
}

/* Nothing is left: no directory of a compiler, no child, no descriptor, no memory, no error. */
static void end(void)
{
    close_all();
    ck_assert_int_eq(niz_error(z), NIZ_OK);
    ck_assert_int_eq(niz_statistics(z).bytes_now, 0);
    niz_close(z);
    ck_assert_msg(count_names(scratch, "") == 0, "files were left behind in %s", scratch);
    ck_assert_int_eq(open_descriptors(), descriptors);
    ck_assert(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    remove_all(dir);
}

/* ---- the real compilers ---------------------------------------------------------------------- */

START_TEST(test_real)
{
    const char *name[] = {"cc", "gcc", "clang"};
    setenv("NIZ_CC", name[_i], 1);
    open_with(NULL);
    if (!niz_kernels_compiler(k)) {
        not_run(name[_i]);
        return;
    }
    ck_assert_int_eq(niz_kernels_compiler(k)[0], '/');
    const char *text = "float fmaf(float, float, float);\n"
                       "int answer(void) { volatile float x = 6; return (int)fmaf(x, 6, x); }\n";
    double t = now();
    for (int isa = NIZ_ISA_SSE2; isa <= NIZ_ISA_AVX512; isa++) {
        niz_target target = {(niz_isa)isa, isa == NIZ_ISA_AVX2};
        niz_kernel *e = get_for(text, target);
        ck_assert_str_eq(niz_kernel_why(e), "");
        if (__builtin_cpu_supports("avx512f") || isa == NIZ_ISA_SSE2) expect(e, 42);
    }
    double compiled = now() - t;
    EXPECT_COUNT(compiled, 3);
    EXPECT_COUNT(kept, 3);
    reopen();
    t = now();
    for (int isa = NIZ_ISA_SSE2; isa <= NIZ_ISA_AVX512; isa++)
        niz_kernel_request(k, text, (niz_target){(niz_isa)isa, isa == NIZ_ISA_AVX2},
                           NIZ_KERNEL_ASYNC);
    EXPECT_COUNT(on_disk, 3);
    printf("%s: a small kernel in %.1f ms, from disk in %.2f ms\n", name[_i], compiled / 3 * 1e3,
           (now() - t) / 3 * 1e3);
    expect_why("");
}
END_TEST

START_TEST(test_found_on_path)
{
    char path[512], here[256];
    ck_assert_ptr_nonnull(getcwd(here, sizeof here));
    ck_assert_int_eq(chdir(dir), 0);
    compiler("tr '\\0' '\\n' </proc/$$/environ >\"$dir/env\"\n" COPIES); /* ./cc */
    unsetenv("NIZ_CC");
    snprintf(path, sizeof path, ".::bin:%s/none:/usr/bin:/bin:", dir);
    setenv("PATH", path, 1);
    open_with(NULL);
    if (!niz_kernels_compiler(k)) not_run("cc in /usr/bin");
    else ck_assert_str_eq(niz_kernels_compiler(k), "/usr/bin/cc");
    setenv("NIZ_CC", "./cc", 1);
    reopen();
    expect_failed(get(text_of(1)), "relative name");
    snprintf(path, sizeof path, "bin:%s:/usr/bin::/bin", dir);
    setenv("PATH", path, 1);
    setenv("NIZ_CC", "cc", 1);
    setenv("CPATH", "/evil", 1);
    reopen();
    ck_assert_str_eq(niz_kernels_compiler(k), cc);
    expect(get(text_of(1)), 42);
    char text[2048] = "", want[512];
    read_file(in(dir, "env"), (unsigned char *)text, sizeof text - 1);
    snprintf(want, sizeof want, "PATH=%s:/usr/bin:/bin\nTMPDIR=%s/niz-cc-", dir, scratch);
    ck_assert_msg(!strncmp(text, want, strlen(want)), "environment: %s", text);
    ck_assert_str_eq(strchr(strstr(text, "TMPDIR="), '\n'), "\nLC_ALL=C\n");
    ck_assert_int_eq(chdir(here), 0);
}
END_TEST

START_TEST(test_no_compiler)
{
    struct { const char *cc, *path, *why; } c[] = {
        {"/nowhere/cc", "/usr/bin", "NIZ_CC=/nowhere/cc is not a program"},
        {"/tmp", "/usr/bin", "NIZ_CC=/tmp is not a program"},
        {"no-such-compiler", "/usr/bin:/bin", "is not on PATH"},
        {"cc -m32", "/usr/bin:/bin", "is not on PATH"},
        {"", "/nowhere", "no cc, gcc or clang"},
        {"", "", "no cc, gcc or clang"},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        setenv("NIZ_CC", c[i].cc, 1);
        setenv("PATH", c[i].path, 1);
        open_with(NULL);
        ck_assert_ptr_null(niz_kernels_compiler(k));
        niz_kernel *e = get(text_of(1));
        expect_failed(e, c[i].why);
        niz_kernel_release(k, e);
        expect_why(c[i].why);
        close_all();
    }
}
END_TEST

START_TEST(test_arguments)
{
    const char *want = "-ffp-contract=off\n-fno-math-errno\n-fno-trapping-math\n-fwrapv\n"
                       "-fno-strict-aliasing\n";
    const char *isa[] = {"-march=x86-64\n", "-march=x86-64-v3\n",
                         "-march=x86-64-v4\n-mprefer-vector-width=512\n"};
    const char *rest = "-shared\n-fPIC\n-nostdlib\n-Wl,-Bsymbolic\n-o\nkernel.so\n-x\nc\n"
                       "kernel.c\n";
    char text[2048], all[2048];
    compiler("printf '%s\\n' \"$@\" >\"$dir/args\"\ncat kernel.c >\"$dir/text\"\n" COPIES);
    setenv("CFLAGS", "-Ofast", 1);
    open_with(NULL);
    for (int i = 0; i < 6; i++) {
        niz_target t = {(niz_isa)(i % 3), i >= 3};
        expect(niz_kernel_request(k, text_of(1), t, NIZ_KERNEL_SYNC), 42);
        text[read_file(in(dir, "args"), (unsigned char *)text, sizeof text - 1)] = 0;
        snprintf(all, sizeof all, "%s\n%s%s%s%s", i < 3 ? "-O2" : "-O1", want, isa[i % 3], rest,
                 i % 3 ? "" : "-lm\n");
#ifdef __x86_64__
        ck_assert_str_eq(text, all);
#endif
    }
    text[read_file(in(dir, "text"), (unsigned char *)text, sizeof text - 1)] = 0;
    ck_assert_str_eq(text, text_of(1));
    ck_assert_int_eq(runs(), 6);
}
END_TEST

START_TEST(test_hostile_names)
{
    char odd[512], evil[256];
    snprintf(evil, sizeof evil, "%s/a b'\"$(touch %%s)`touch x`;&|\n*", dir);
    for (char *p = evil + strlen(dir); (p = strstr(p, "%s"));) memcpy(p, "zz", 2);
    ck_assert_int_eq(mkdir(evil, 0700), 0);
    snprintf(odd, sizeof odd, "%s/tmp", evil);
    ck_assert_int_eq(mkdir(odd, 0700), 0);
    setenv("TMPDIR", odd, 1);
    setenv("NIZ_CACHE_DIR", in(evil, "cache"), 1);
    open_with(NULL);
    const char *real = niz_kernels_compiler(k);
    if (!real) {
        not_run("a real compiler");
        return;
    }
    char link[512];
    snprintf(link, sizeof link, "%s", in(evil, "-cc $(touch zz)"));
    ck_assert_int_eq(symlink(real, link), 0);
    setenv("NIZ_CC", link, 1);
    reopen();
    expect(get("/* $(touch zz) `touch zz` ' \" ; touch zz\n*/ // \\\n"
               "not code\n#define Q \"'; touch zz; '\"\n"
               "int answer(void) { return (int)sizeof Q + 27; }\n"), 42);
    EXPECT_COUNT(kept, 1);
    ck_assert_int_eq(count_names(in(evil, "cache"), ".so"), 1);
    ck_assert_int_eq(count_names(odd, ""), 0);
    ck_assert_int_eq(access("zz", F_OK), -1);
    ck_assert_int_eq(access("x", F_OK), -1);
}
END_TEST

/* ---- hits and misses ------------------------------------------------------------------------- */

START_TEST(test_memory_hit)
{
    compiler(COPIES);
    open_with(NULL);
    niz_kernel *e = get(text_of(1));
    expect(e, 42);
    ck_assert_ptr_eq(get(text_of(1)), e);
    ck_assert_ptr_null(niz_kernel_symbol(e, "question"));
    niz *other = niz_open(NULL);
    niz_kernels *mine = k;
    k = niz_kernels_open(other, NULL);
    ck_assert_ptr_eq(niz_kernel_request(k, text_of(1), sse2, NIZ_KERNEL_ASYNC), e);
    EXPECT_COUNT(in_memory, 1);
    niz_kernels_close(mine); /* the other holds it still */
    expect(e, 42);
    close_all();
    niz_close(other);
    ck_assert_int_eq(runs(), 1);
}
END_TEST

START_TEST(test_release)
{
    compiler(COPIES);
    open_with(NULL);
    for (int i = 0; i < 3; i++) {
        niz_kernel *e = get(text_of(1));
        get(text_of(1));
        niz_kernel *f = get(text_of(2));
        niz_kernel_release(k, e);
        expect(e, 42);
        niz_kernel_release(k, e);
        expect(f, 42);
        niz_kernel_release(k, f);
        niz_kernel_release(k, NULL);
    }
    ck_assert_int_eq(runs(), 2);
    EXPECT_COUNT(on_disk, 4); /* unloaded in between, and found again */
}
END_TEST

START_TEST(test_disk_hit)
{
    compiler(COPIES);
    open_with(NULL);
    ck_assert_int_eq(run_self("--request", "7"), 42);
    ck_assert_int_eq(runs(), 1);
    for (int i = 0; i < 3; i++) ck_assert_int_eq(run_self("--request", "7"), 42);
    ck_assert_int_eq(runs(), 1);
    niz_kernel *e = niz_kernel_request(k, text_of(7), sse2, NIZ_KERNEL_ASYNC);
    expect(e, 42); /* at once */
    ck_assert_int_eq(runs(), 1);
    EXPECT_COUNT(on_disk, 1);
}
END_TEST

START_TEST(test_misses)
{
    compiler(COPIES);
    open_with(NULL);
    expect(get(text_of(1)), 42);
    expect(get(text_of(2)), 42);
    expect(get_for(text_of(1), (niz_target){NIZ_ISA_AVX2, false}), 42);
    expect(get_for(text_of(1), (niz_target){NIZ_ISA_SSE2, true}), 42);
    ck_assert_int_eq(runs(), 4);
    reopen();
    expect(get(text_of(1)), 42);
    ck_assert_int_eq(runs(), 4);
    struct timespec old[2] = {{1000, 0}, {1000, 0}};
    ck_assert_int_eq(utimensat(AT_FDCWD, cc, old, 0), 0); /* the same bytes, another time */
    reopen();
    expect(get(text_of(1)), 42);
    ck_assert_int_eq(runs(), 5);
    compiler("# longer\n" COPIES);
    reopen();
    expect(get(text_of(1)), 42);
    ck_assert_int_eq(runs(), 6);
}
END_TEST

typedef struct pair {
    bool same;
    const char *a, *b;
} pair;

static const pair pairs[] = {
    {true, "int a;", "int a; // mlp.c:41"},
    {true, "int a;", "/* mlp.c:41 */int a;"},
    {true, "int a;", "\n  // x\nint a; \n\n"},
    {true, "int a;\nint b;", "int a;\n\n// x\n   /* y\n z */\n\n\tint b;"},
    {true, "int a;", "int/**/a;"},
    {true, "a\n", "a // x \\\n y\n"},
    {true, "a\n", "a // x \\  \n y\n"},
    {true, "a\nb", "a /\\\n/ x\nb"},
    {true, "a b", "a /\\\n* x *\\\n/ b"},
    {true, "a b", "a /* // */ b"},
    {true, "a\nb", "a // /* x\nb"},
    {true, "a b", "a /***/ b"},
    {true, "a", "a /* never ends"},
    {true, "#define A 1\nA", "#define A /* x */ 1 // y\n\nA"},
    {true, "#define A b\nc", "#define A \\\nb\nc"},
    {true, "a = b / c;", "a = b /* / */ / c;"},
    {true, "a * b", "a /*/ x */ * b"},
    {true, "'\\'' //", "'\\'' /* ' */"},
    {false, "int a;", "int b;"},
    {false, "ab", "a/**/b"},
    {false, "ab", "a b"},
    {false, "\"a // b\"", "\"a // c\""},
    {false, "\"a /* b */\"", "\"a /* c */\""},
    {false, "\"a  b\"", "\"a b\""},
    {false, "\"\\\" // a\"", "\"\\\" // b\""},
    {false, "'\"' + a // \"", "'\"' + b // \""},
    {false, "'\\\\' // x\n+ a", "'\\\\' // x\n+ b"},
    {false, "\"\\\\\" /* */ + a", "\"\\\\\" /* */ + b"},
    {false, "#define A\nb", "#define A b"},
    {false, "#define A(x)", "#define A (x)"},
    {false, "#define A \\\n\nb", "#define A \\\nb"},
    {false, "a // x\nb", "a // x \\\nb"},
    {false, "/**/ a", "/**/ b"},
    {false, "/* x */ a /* y */", "/* x */ c /* y */"},
    {false, "R\"x( /* )x\" a /* b */", "R\"x( /* )x\" c /* b */"},
    {false, "R\"x( // \n)x\" a", "R\"x( //y \n)x\" a"},
    {false, "# error don't // a\nx", "# error don't // a\ny"},
    {false, "", "a"},
};

START_TEST(test_comments)
{
    niz_compiler c = {.path = (char *)"/cc", .size = 1};
    const pair *p = &pairs[_i];
    bool same = XXH128_isEqual(niz_kernel_key(&c, sse2, p->a), niz_kernel_key(&c, sse2, p->b));
    ck_assert_msg(same == p->same, "<%s> and <%s>", p->a, p->b);
}
END_TEST

START_TEST(test_keys)
{
    niz_compiler c[] = {{.path = (char *)"/cc", .size = 1},    {.path = (char *)"/cd", .size = 1},
                        {.path = (char *)"/cc", .size = 2},    {.path = (char *)"/cc", .inode = 1},
                        {.path = (char *)"/cc", .mtime_ns = 1}};
    XXH128_hash_t key[5 * 6];
    for (int i = 0; i < 30; i++)
        key[i] = niz_kernel_key(&c[i / 6], (niz_target){(niz_isa)(i % 3), i % 6 > 2}, "int a;");
    for (int i = 0; i < 30; i++)
        for (int j = 0; j < i; j++)
            ck_assert_msg(!XXH128_isEqual(key[i], key[j]), "%d and %d", i, j);
    char *text = malloc(20001); /* longer than any buffer, a comment at every place */
    memset(text, 'x', 20000);
    text[20000] = 0;
    XXH128_hash_t whole = niz_kernel_key(&c[0], sse2, text);
    for (int i = 0; i < 1100; i++) {
        memcpy(text + i, "\\\n", 2); /* a splice is nothing */
        memcpy(text + 20000 - 2, "//", 2);
        XXH128_hash_t other = niz_kernel_key(&c[0], sse2, text);
        memset(text, 'x', 20000);
        ck_assert(!XXH128_isEqual(whole, other));
    }
    free(text);
}
END_TEST

START_TEST(test_comment_edit_compiles_nothing)
{
    compiler(COPIES);
    open_with(NULL);
    niz_kernel *e = get("/* add at mlp.c:41 */\nint answer(void);\n");
    ck_assert_ptr_eq(get("/* add at mlp.c:42 */\n\nint answer(void); // x\n"), e);
    reopen();
    expect(get("int answer(void);"), 42);
    ck_assert_int_eq(runs(), 1);
}
END_TEST

/* ---- compilers that misbehave ---------------------------------------------------------------- */

typedef struct fault {
    const char *does, *why;
} fault;

static const fault faults[] = {
    {"echo 'kernel.c:1: error: \033[1mboom' >&2; exit 3",
     "/cc: status 3: kernel.c:1: error: ?[1mboom"},
    {"exit 1", "status 1: it says nothing"},
    {"kill -SEGV $$", "ended by signal 11"},
    {"true", "status 0"},
    {": >kernel.so", "status 0"},
    {"echo nonsense >kernel.so", "no whole object"},
    {"head -c 20000 /dev/urandom >kernel.so", "no whole object"},
    {"head -c 100 \"$good\" >kernel.so", "no whole object"},
    {"head -c 9000 \"$good\" >kernel.so", "no whole object"},
    {"mkdir kernel.so", "status 0"},
    {"mkfifo kernel.so", "status 0"},
    {"ln -s \"$good\" kernel.so", "status 0"},
    {"head -c 64 /bin/sh >kernel.so; head -c 20000 /dev/zero >>kernel.so", "no whole object"},
    {"cp /bin/sh kernel.so", "cannot load"},
    {"truncate -s 100G kernel.so", "status 0"},
    {COPIES "; exit 1", "status 1"},
};

START_TEST(test_faults)
{
    compiler(faults[_i].does);
    open_with(NULL);
    expect_failed(get(text_of(1)), faults[_i].why);
    expect_failed(get(text_of(1)), faults[_i].why); /* and is not tried again */
    EXPECT_COUNT(failed, 1);
    EXPECT_COUNT(kept, 0);
    ck_assert_int_eq(runs(), 1);
    ck_assert_int_eq(count_names(cache, ""), 0);
    compiler(COPIES);
    reopen();
    expect(get(text_of(1)), 42);
    if (!strncmp(faults[_i].does, "mkdir", 5)) remove_all(in(scratch, ""));
    mkdir(scratch, 0700);
}
END_TEST

START_TEST(test_warnings)
{
    compiler("i=0; while [ $i -lt 20000 ]; do echo 'warning: warning: warning' >&2; i=$((i+1)); "
             "done; echo talk; cat; " COPIES);
    open_with(NULL);
    expect(get(text_of(1)), 42);
}
END_TEST

START_TEST(test_not_executable_format)
{
    write_file(cc, "\177ELF nonsense", 13, 0700);
    setenv("NIZ_CC", cc, 1);
    open_with(NULL);
    expect_failed(get(text_of(1)), "cannot start");
}
END_TEST

/* Hangs, hangs talking, hangs with children. */
START_TEST(test_hanging)
{
    const char *does[] = {"exec sleep 1000", "while :; do echo talk >&2; done",
                          "sleep 1000 & echo $! >\"$dir/child\"; trap '' TERM INT; sleep 1000"};
    compiler(does[_i]);
    open_with(&(niz_kernel_options){.limit_ms = 300});
    double t = now();
    expect_failed(get(text_of(1)), "killed after 0.3 s");
    ck_assert_double_le(now() - t, 3);
    if (_i == 2) ck_assert(dies(noted_pid("child")));
}
END_TEST

START_TEST(test_time_limit_from_environment)
{
    compiler("exec sleep 1000");
    setenv("NIZ_CC_TIMEOUT", "1", 1);
    open_with(NULL);
    double t = now();
    expect_failed(get(text_of(1)), "killed after 1 s");
    ck_assert(now() - t > 0.9 && now() - t < 4);
}
END_TEST

/* What a compiler leaves running holds nobody up, and does not stay. */
START_TEST(test_straggler)
{
    compiler("sleep 1000 & echo $! >\"$dir/child\"; " COPIES);
    open_with(NULL);
    double t = now();
    expect(get(text_of(1)), 42);
    ck_assert_double_le(now() - t, 3);
    ck_assert(dies(noted_pid("child")));
}
END_TEST

START_TEST(test_close_kills)
{
    compiler("echo $$ >\"$dir/leader\"; sleep 1000 & echo $! >\"$dir/child\"; sleep 1000");
    open_with(NULL);
    niz_kernel *e = niz_kernel_request(k, text_of(1), sse2, NIZ_KERNEL_ASYNC);
    niz_kernel_request(k, text_of(2), sse2, NIZ_KERNEL_ASYNC);
    niz_kernel_request(k, text_of(3), sse2, NIZ_KERNEL_ASYNC); /* waits: there are two workers */
    pid_t leader = noted_pid("leader"), child = noted_pid("child");
    ck_assert_int_eq(niz_kernel_state_of(e), NIZ_KERNEL_PENDING);
    ck_assert_ptr_null(niz_kernel_symbol(e, "answer"));
    ck_assert(alive(leader) && alive(child));
    double t = now();
    close_all();
    ck_assert_double_le(now() - t, 1);
    ck_assert(!alive(leader));
    ck_assert(dies(child));
    ck_assert_int_le(runs(), 2);
}
END_TEST

/* What one context gives up another one takes over. */
START_TEST(test_taken_over)
{
    compiler("if [ -e \"$dir/leader\" ]; then " COPIES "; exit; fi\n"
             "echo $$ >\"$dir/leader\"; sleep 1000");
    open_with(NULL);
    niz_kernel *e = niz_kernel_request(k, text_of(1), sse2, NIZ_KERNEL_ASYNC);
    noted_pid("leader");
    niz *other = niz_open(NULL);
    niz_kernels *second = niz_kernels_open(other, NULL);
    ck_assert_ptr_eq(niz_kernel_request(second, text_of(1), sse2, NIZ_KERNEL_ASYNC), e);
    nap(0.05);
    ck_assert_int_eq(niz_kernel_state_of(e), NIZ_KERNEL_PENDING);
    close_all();
    niz_kernel_wait(second, e);
    expect(e, 42);
    niz_kernels_close(second);
    niz_close(other);
    ck_assert_int_eq(runs(), 2);
}
END_TEST

START_TEST(test_release_while_compiling)
{
    compiler("sleep 0.2; " COPIES);
    open_with(NULL);
    niz_kernel_release(k, niz_kernel_request(k, text_of(1), sse2, NIZ_KERNEL_ASYNC));
    niz_kernel_release(k, niz_kernel_request(k, text_of(2), sse2, NIZ_KERNEL_ASYNC));
    niz_kernel *e = niz_kernel_request(k, text_of(3), sse2, NIZ_KERNEL_ASYNC);
    niz_kernel_wait(k, e);
    expect(e, 42);
}
END_TEST

/* ---- the host program's signals and descriptors ---------------------------------------------- */

static void wait_for_everybody(int s)
{
    (void)s;
    int before = errno;
    while (waitpid(-1, NULL, WNOHANG) > 0) {}
    errno = before;
}

START_TEST(test_sigchld)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN}, now_set;
    struct sigaction no_zombies = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
    struct sigaction handler = {.sa_handler = wait_for_everybody, .sa_flags = SA_RESTART};
    const struct sigaction *how[] = {&ignore, &no_zombies, &handler};
    sigaction(SIGCHLD, how[_i], NULL);
    compiler("(exit 0) & wait $! || exit 1; " COPIES);
    open_with(NULL);
    for (int i = 0; i < 20; i++) expect(get(text_of(i)), 42);
    compiler("echo boom >&2; exit 1");
    reopen();
    expect_failed(get(text_of(30)), "boom");
    compiler("exec sleep 1000");
    close_all();
    open_with(&(niz_kernel_options){.limit_ms = 200});
    expect_failed(get(text_of(31)), "killed after");
    sigaction(SIGCHLD, NULL, &now_set);
    ck_assert(now_set.sa_handler == how[_i]->sa_handler);
    unsetenv("NIZ_CC");
    reopen();
    if (niz_kernels_compiler(k)) expect(get(text_of(32)), 32);
    signal(SIGCHLD, SIG_DFL);
}
END_TEST

START_TEST(test_children_of_the_host)
{
    compiler("sleep 0.1; " COPIES);
    open_with(NULL);
    pid_t pid = fork();
    if (!pid) _exit(7);
    niz_kernel *e = niz_kernel_request(k, text_of(1), sse2, NIZ_KERNEL_ASYNC);
    niz_kernel_wait(k, e);
    expect(e, 42);
    ck_assert_int_eq(end_of(pid), 7);
}
END_TEST

START_TEST(test_descriptors)
{
    int secret = open(in(dir, "secret"), O_RDWR | O_CREAT, 0600); /* not close-on-exec */
    compiler("for f in /proc/$$/fd/*; do echo ${f##*/} $(readlink $f); done >\"$dir/fds\"\n"
             "ps -o pgid= -p $$ | tr -d ' ' >\"$dir/group\"; echo $$ >\"$dir/leader\"\n" COPIES);
    open_with(NULL);
    expect(get(text_of(1)), 42);
    char text[4096];
    text[read_file(in(dir, "fds"), (unsigned char *)text, sizeof text - 1)] = 0;
    ck_assert_msg(strstr(text, "0 /dev/null\n") != NULL, "%s", text);
    ck_assert_msg(!strstr(text, "secret") && !strstr(text, "cache") && !strstr(text, "event"), "%s",
                  text);
    if (!access("/bin/ps", X_OK)) ck_assert_int_eq(noted_pid("group"), noted_pid("leader"));
    ck_assert_int_ne(noted_pid("leader"), getpgrp());
    close(secret);
}
END_TEST

/* Standard descriptors closed by the host: their numbers come to us. */
START_TEST(test_closed_standard_descriptors)
{
    compiler("echo warning >&2; " COPIES);
    pid_t pid = fork();
    if (!pid) {
        for (int i = 0; i < 3; i++)
            if (_i >> i & 1) close(i);
        open_with(NULL);
        int result = answer(get(text_of(1)));
        close_all();
        _exit(result);
    }
    ck_assert_int_eq(end_of(pid), 42);
}
END_TEST

/* ---- fork ------------------------------------------------------------------------------------ */

START_TEST(test_fork_while_compiling)
{
#ifdef THREAD_SANITIZED
    not_run("a fork while compiling, under the thread sanitizer");
    return;
#endif
    compiler("if [ -e \"$dir/leader\" ]; then " COPIES "; exit; fi\n"
             "echo $$ >\"$dir/leader\"; sleep 1000");
    open_with(NULL);
    niz_kernel *e = niz_kernel_request(k, text_of(1), sse2, NIZ_KERNEL_ASYNC);
    pid_t leader = noted_pid("leader"), pid = fork();
    if (!pid) {
        int result = niz_kernel_wait(k, e) == NIZ_KERNEL_READY ? answer(e) : 1;
        close_all();
        _exit(result);
    }
    ck_assert_int_eq(end_of(pid), 42);
    pid = fork();
    if (!pid) {
        close_all();
        _exit(0);
    }
    ck_assert_int_eq(end_of(pid), 0);
    ck_assert(alive(leader));
    ck_assert_int_eq(niz_kernel_state_of(e), NIZ_KERNEL_PENDING);
    close_all();
    ck_assert(!alive(leader));
}
END_TEST

static atomic_bool enough;

static void *keep_requesting(void *state)
{
    niz *mine = niz_open(NULL);
    niz_kernels *all = niz_kernels_open(mine, NULL);
    for (int i = 0; !enough; i++) {
        niz_kernel *e = niz_kernel_request(all, text_of(i % 50), sse2, NIZ_KERNEL_SYNC);
        if (answer(e) != 42) *(int *)state = 1;
        niz_kernel_release(all, e);
    }
    niz_kernels_close(all);
    niz_close(mine);
    return NULL;
}

START_TEST(test_fork_at_any_time)
{
    pthread_t thread[2];
    int wrong = 0;
#ifdef SANITIZED
    not_run("forks at any time, under a sanitizer");
    return;
#endif
    compiler(COPIES);
    for (int i = 0; i < 2; i++) pthread_create(&thread[i], NULL, keep_requesting, &wrong);
    for (int i = 0; i < 60; i++) {
        pid_t pid = fork();
        if (!pid) {
            signal(SIGALRM, SIG_DFL);
            alarm(60);
            open_with(NULL);
            niz_kernel *e = get(text_of(i % 60)), *f = get(text_of(100 + i));
            int result = answer(e) == 42 && answer(f) == 42 ? 0 : 1;
            close_all();
            _exit(result);
        }
        nap(0.001 * (i % 7));
        ck_assert_int_eq(end_of(pid), 0);
    }
    enough = true;
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    ck_assert_int_eq(wrong, 0);
}
END_TEST

/* ---- the directory --------------------------------------------------------------------------- */

/* The cache is off: kernels are compiled and used all the same. */
static void expect_no_cache(const char *why)
{
    compiler(COPIES);
    open_with(NULL);
    expect_why(why);
    expect(get(text_of(1)), 42);
    EXPECT_COUNT(compiled, 1);
    EXPECT_COUNT(kept, 0);
    EXPECT_COUNT(not_kept, 1);
    expect_why(why);
    reopen();
    expect(get(text_of(1)), 42);
    ck_assert_int_eq(runs(), 2);
}

START_TEST(test_directory_mode)
{
    mode_t mode[] = {0777, 0770, 0707, 0755, 0500, 01777, 02700};
    ck_assert_int_eq(mkdir(cache, 0700), 0);
    ck_assert_int_eq(chmod(cache, mode[_i]), 0);
    expect_no_cache("the mode of ");
    chmod(cache, 0700);
    ck_assert_int_eq(count_names(cache, ""), 0);
}
END_TEST

START_TEST(test_directory_is_a_link)
{
    ck_assert_int_eq(mkdir(in(dir, "real"), 0700), 0);
    ck_assert_int_eq(symlink(in(dir, "real"), cache), 0);
    if (_i) setenv("NIZ_CACHE_DIR", in(cache, ""), 1); /* the slash at the end follows links */
    expect_no_cache("no kernel cache: ");
    ck_assert_int_eq(count_names(in(dir, "real"), ""), 0);
}
END_TEST

START_TEST(test_directory_is_somebodys)
{
    if (geteuid()) {
        not_run("a directory of somebody else");
        return;
    }
    ck_assert_int_eq(mkdir(cache, 0700), 0);
    ck_assert_int_eq(chown(cache, NOBODY, NOBODY), 0);
    expect_no_cache("belongs to somebody else");
    unsetenv("NIZ_CACHE_DIR");
    setenv("XDG_CACHE_HOME", cache, 1);
    close_all();
    open_with(NULL);
    expect_why("belongs to somebody else");
    ck_assert_int_eq(count_names(cache, ""), 0);
}
END_TEST

START_TEST(test_directory_is_none)
{
    const char *name[] = {"file", "file/below", "/proc/nowhere/cache", "relative"};
    write_file(in(dir, "file"), "x", 1, 0600);
    setenv("NIZ_CACHE_DIR", _i < 2 ? in(dir, name[_i]) : name[_i], 1);
    expect_no_cache("no kernel cache: ");
}
END_TEST

START_TEST(test_directory_by_default)
{
    unsetenv("NIZ_CACHE_DIR");
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    expect_no_cache("no NIZ_CACHE_DIR");
    setenv("HOME", dir, 1);
    reopen();
    expect(get(text_of(2)), 42);
    ck_assert_int_eq(count_names(in(dir, ".cache/niz"), ".so"), 1);
    setenv("XDG_CACHE_HOME", "relative", 1);
    reopen();
    expect(get(text_of(2)), 42);
    EXPECT_COUNT(on_disk, 1);
    setenv("XDG_CACHE_HOME", in(dir, "xdg"), 1);
    reopen();
    expect(get(text_of(2)), 42);
    ck_assert_int_eq(count_names(in(dir, "xdg/niz"), ".so"), 1);
    struct stat st;
    ck_assert_int_eq(stat(in(dir, "xdg/niz"), &st), 0);
    ck_assert_int_eq(st.st_mode & 07777, 0700);
}
END_TEST

START_TEST(test_directory_vanishes)
{
    compiler(COPIES);
    open_with(NULL);
    remove_all(cache);
    expect(get(text_of(1)), 42);
    EXPECT_COUNT(not_kept, 1);
    expect_why("not kept in the kernel cache");
}
END_TEST

/* A file system of its own for the cache, in a mount namespace of this process. */
static bool mounted(unsigned long flags, const char *options)
{
    mkdir(cache, 0700);
    return !unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
           !mount("tmpfs", cache, "tmpfs", flags, options);
}

START_TEST(test_disk_full)
{
    if (!mounted(0, "size=8k,mode=700")) {
        not_run("a full disk");
        return;
    }
    compiler(COPIES);
    open_with(NULL);
    expect(get(text_of(1)), 42);
    EXPECT_COUNT(not_kept, 1);
    expect_why("not kept in the kernel cache: cannot write: No space");
    ck_assert_int_eq(count_names(cache, ""), 0);
    umount(cache);
}
END_TEST

START_TEST(test_read_only)
{
    char options[] = "mode=700";
    if (!mounted(0, options)) {
        not_run("a read-only disk");
        return;
    }
    compiler(COPIES);
    open_with(NULL);
    expect(get(text_of(1)), 42);
    close_all();
    ck_assert_int_eq(mount("tmpfs", cache, "tmpfs", MS_REMOUNT | MS_RDONLY, options), 0);
    open_with(NULL);
    expect(get(text_of(1)), 42);
    EXPECT_COUNT(on_disk, 1);
    expect(get(text_of(2)), 42);
    EXPECT_COUNT(not_kept, 1);
    expect_why("Read-only");
    close_all();
    umount(cache);
}
END_TEST

START_TEST(test_noexec)
{
    if (!mounted(MS_NOEXEC, "mode=700")) {
        not_run("a noexec disk");
        return;
    }
    compiler(COPIES);
    open_with(NULL);
    expect(get(text_of(1)), 42);
    EXPECT_COUNT(kept, 1);
    reopen();
    expect(get(text_of(1)), 42); /* by way of memory */
    EXPECT_COUNT(on_disk, 1);
    EXPECT_COUNT(damaged, 0);
    ck_assert_int_eq(runs(), 1);
    close_all();
    umount(cache);
}
END_TEST

/* From now on this system call is refused to the process: an older kernel, a container. */
static bool refuse(unsigned call)
{
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof f / sizeof *f, f};
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
           !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

START_TEST(test_no_anonymous_memory)
{
    if (!refuse(SYS_memfd_create)) {
        not_run("a kernel without memfd_create");
        return;
    }
    compiler(COPIES);
    open_with(NULL);
    expect(get(text_of(1)), 42); /* from a file without a name */
    EXPECT_COUNT(compiled, 1);
}
END_TEST

/* Nothing may be loaded from anywhere: the interpreter's work, with the reason. */
START_TEST(test_no_place_to_load_from)
{
    setenv("TMPDIR", cache, 1);
    if (!mounted(MS_NOEXEC, "mode=700") || !refuse(SYS_memfd_create)) {
        not_run("a machine that forbids loading");
        return;
    }
    compiler(COPIES);
    open_with(NULL);
    expect_failed(get(text_of(1)), "cannot load: ");
    EXPECT_COUNT(kept, 0);
    close_all();
    umount(cache);
}
END_TEST

START_TEST(test_no_pidfd)
{
    if (!refuse(SYS_pidfd_open)) {
        not_run("a kernel without pidfd_open");
        return;
    }
    compiler(COPIES);
    open_with(NULL);
    expect(get(text_of(1)), 42);
    close_all();
    compiler("exec sleep 1000");
    open_with(&(niz_kernel_options){.limit_ms = 100});
    expect_failed(get(text_of(2)), "killed after");
}
END_TEST

START_TEST(test_file_size_limit)
{
    struct stat st;
    ck_assert_int_eq(stat(good, &st), 0);
    struct rlimit limit = {(rlim_t)st.st_size + 20, RLIM_INFINITY}, none;
    getrlimit(RLIMIT_FSIZE, &none);
    compiler(COPIES);
    open_with(NULL);
    setrlimit(RLIMIT_FSIZE, &limit);
    niz_kernel *e = get(text_of(1));
    setrlimit(RLIMIT_FSIZE, &none);
    expect(e, 42);
    close_all();
    open_with(NULL);
    limit.rlim_cur = 1000; /* the object does not fit either */
    setrlimit(RLIMIT_FSIZE, &limit);
    e = get(text_of(2));
    setrlimit(RLIMIT_FSIZE, &none);
    ck_assert_int_eq(niz_kernel_state_of(e), NIZ_KERNEL_FAILED);
    ck_assert_int_eq(count_names(cache, ""), 0);
}
END_TEST

START_TEST(test_no_place_to_work)
{
    compiler(COPIES);
    setenv("TMPDIR", in(dir, "nowhere"), 1);
    open_with(NULL);
    expect(get(text_of(1)), 42); /* in /tmp */
}
END_TEST

START_TEST(test_stale_folders)
{
    struct timespec old[2] = {{1000, 0}, {1000, 0}};
    const char *name[] = {"niz-cc-1-1-0", "niz-cc-1-1-1", "niz-other"};
    for (int i = 0; i < 3; i++) {
        char inside[160];
        snprintf(inside, sizeof inside, "%s/%s/kernel.c", scratch, name[i]);
        ck_assert_int_eq(mkdir(in(scratch, name[i]), 0700), 0);
        write_file(inside, "x", 1, 0600);
        if (i != 1) utimensat(AT_FDCWD, in(scratch, name[i]), old, 0);
    }
    compiler(COPIES);
    open_with(NULL);
    expect(get(text_of(1)), 42);
    close_all();
    ck_assert_int_eq(access(in(scratch, name[0]), F_OK), -1);
    ck_assert_int_eq(access(in(scratch, name[1]), F_OK), 0);
    ck_assert_int_eq(access(in(scratch, name[2]), F_OK), 0);
    remove_all(scratch);
}
END_TEST

/* ---- files in the directory ------------------------------------------------------------------ */

static unsigned char whole[1 << 17];
static size_t whole_n;
static char file[512];

/* Compiles kernel i and notes its file and what is in it. */
static void fill(int i)
{
    int before = count_names(cache, ".so");
    expect(get(text_of(i)), 42);
    reopen();
    ck_assert_int_eq(count_names(cache, ".so"), before + 1);
    char name[64];
    niz_compiler c;
    niz_compiler_find(z, &c);
    XXH128_hash_t key = niz_kernel_key(&c, sse2, text_of(i));
    snprintf(name, sizeof name, "%016llx%016llx.so", (unsigned long long)key.high64,
             (unsigned long long)key.low64);
    niz_compiler_drop(z, &c);
    snprintf(file, sizeof file, "%s", in(cache, name));
    whole_n = read_file(file, whole, sizeof whole);
    ck_assert_uint_gt(whole_n, 1000);
}

/* Kernel i's file is there, but is not loaded; the kernel is compiled, its file replaced. */
static void expect_replaced(int i)
{
    static unsigned char bytes[1 << 17];
    struct stat st;
    int before = runs();
    niz_kernel_counts c = niz_kernels_counts(k);
    niz_kernel *e = get(text_of(i));
    expect(e, 42);
    niz_kernel_release(k, e);
    ck_assert_int_eq(runs(), before + 1);
    EXPECT_COUNT(damaged, c.damaged + 1);
    EXPECT_COUNT(on_disk, c.on_disk);
    ck_assert_int_eq(lstat(file, &st), 0);
    ck_assert(S_ISREG(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 0777) == 0600);
    ck_assert_uint_eq(read_file(file, bytes, sizeof bytes), whole_n);
    ck_assert(!memcmp(bytes, whole, whole_n));
}

START_TEST(test_files_not_ours)
{
    compiler(COPIES);
    open_with(NULL);
    fill(1);
    char away[512];
    snprintf(away, sizeof away, "%s", in(dir, "away"));
    switch (_i) {
    case 0: chmod(file, 0666); break;
    case 1: chmod(file, 0620); break;
    case 2:
        if (geteuid()) {
            not_run("a file of somebody else");
            return;
        }
        ck_assert_int_eq(chown(file, NOBODY, NOBODY), 0);
        break;
    case 3:
        ck_assert_int_eq(rename(file, away), 0);
        ck_assert_int_eq(symlink(away, file), 0);
        break;
    case 4:
        unlink(file);
        ck_assert_int_eq(mkfifo(file, 0600), 0);
        break;
    case 5: write_file(file, "", 0, 0600); break;
    }
    write_file(in(cache, "keep.me"), "x", 1, 0600);
    compiler(COPIES "\n# of the same kind");
    close_all();
    compiler(COPIES);
    open_with(NULL);
    /* the compiler is a new file, so its kernels are new too: put the old one under the new name */
    char old[512];
    snprintf(old, sizeof old, "%s", file);
    fill(1);
    unlink(file);
    ck_assert_int_eq(rename(old, file), 0);
    expect_replaced(1);
    if (_i == 3) ck_assert_int_eq(access(away, F_OK), 0);
    ck_assert_int_eq(access(in(cache, "keep.me"), F_OK), 0);
}
END_TEST

START_TEST(test_under_another_name)
{
    compiler(COPIES);
    open_with(NULL);
    fill(2);
    char other[512];
    snprintf(other, sizeof other, "%s", file);
    fill(1);
    ck_assert_int_eq(rename(other, file), 0); /* whole, and another kernel's */
    expect_replaced(1);
}
END_TEST

START_TEST(test_name_is_a_directory)
{
    compiler(COPIES);
    open_with(NULL);
    fill(1);
    unlink(file);
    ck_assert_int_eq(mkdir(file, 0700), 0);
    expect(get(text_of(1)), 42);
    expect(get(text_of(2)), 42);
    EXPECT_COUNT(damaged, 1);
    EXPECT_COUNT(not_kept, 1);
}
END_TEST

static uint64_t seed = 1;

static size_t chance(size_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(seed >> 33) % n;
}

/* In place, at random: cut, grown, a bit, a byte, a stretch overwritten, the seal hit, swapped. */
static size_t damage(unsigned char *bytes, size_t n)
{
    size_t at = chance(n), length = 1 + chance(n - at);
    switch (chance(7)) {
    case 0: return at;
    case 1: memset(bytes + n, (int)chance(256), 64); return n + 1 + chance(64);
    case 2: bytes[at] ^= (unsigned char)(1u << chance(8)); return n;
    case 3: bytes[at] ^= (unsigned char)(1 + chance(255)); return n;
    case 4:
        for (size_t i = 0; i < length; i++) bytes[at + i] = (unsigned char)chance(256);
        bytes[at] ^= (unsigned char)(whole[at] == bytes[at]);
        return n;
    case 5: bytes[n - 1 - chance(48)] ^= (unsigned char)(1u << chance(8)); return n;
    default: memmove(bytes + at, bytes + at + 1, n - at - 1); return n - 1;
    }
}

START_TEST(test_damage)
{
    static unsigned char bytes[1 << 17];
    compiler(COPIES);
    open_with(NULL);
    fill(1);
    for (int i = 0; i < 1000; i++) {
        memcpy(bytes, whole, whole_n);
        size_t n = damage(bytes, whole_n);
        ck_assert(n != whole_n || memcmp(bytes, whole, n));
        write_file(file, bytes, n, 0600);
        niz_kernel *e = get(text_of(1));
        expect(e, 42);
        niz_kernel_release(k, e);
        EXPECT_COUNT(damaged, i + 1);
    }
    expect(get(text_of(1)), 42);
    reopen();
    ck_assert_int_eq(runs(), 1001);
    memset(bytes, 0, sizeof bytes);
    ck_assert_uint_eq(read_file(file, bytes, sizeof bytes), whole_n);
    ck_assert(!memcmp(bytes, whole, whole_n));
}
END_TEST

/* ---- many at once ---------------------------------------------------------------------------- */

#define TEXTS 20

static void *fill_all(void *state)
{
    niz *mine = niz_open(NULL);
    niz_kernels *all = niz_kernels_open(mine, NULL);
    int first = *(int *)state, wrong = 0;
    niz_kernel *e[TEXTS];
    for (int i = 0; i < TEXTS; i++)
        e[i] = niz_kernel_request(all, text_of((first * 7 + i) % TEXTS), sse2,
                                  first % 2 ? NIZ_KERNEL_SYNC : NIZ_KERNEL_ASYNC);
    for (int i = 0; i < TEXTS; i++) {
        niz_kernel_wait(all, e[i]);
        wrong += answer(e[i]) != 42;
    }
    niz_kernels_close(all);
    niz_close(mine);
    *(int *)state = wrong;
    return NULL;
}

START_TEST(test_threads)
{
    pthread_t thread[8];
    int state[8];
    compiler(COPIES);
    open_with(NULL);
    for (int i = 0; i < 8; i++) {
        state[i] = i;
        ck_assert_int_eq(pthread_create(&thread[i], NULL, fill_all, &state[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(thread[i], NULL);
        ck_assert_int_eq(state[i], 0);
    }
    ck_assert_int_eq(runs(), TEXTS);
    ck_assert_int_eq(count_names(cache, ".so"), TEXTS);
    ck_assert_int_eq(count_names(cache, ""), TEXTS);
}
END_TEST

/* Everything in the cache is whole, and nothing is missing: no compiler runs. */
static void expect_full(int n)
{
    int before = runs();
    reopen();
    for (int i = 0; i < n; i++)
        expect(niz_kernel_request(k, text_of(i), sse2, NIZ_KERNEL_ASYNC), 42);
    ck_assert_int_eq(runs(), before);
    EXPECT_COUNT(damaged, 0);
    EXPECT_COUNT(on_disk, n);
}

START_TEST(test_processes)
{
    compiler(COPIES);
    open_with(NULL);
    for (int round = 0; round < 3; round++) {
        pid_t a = start_self("/proc/self/exe", "--fill", "0");
        pid_t b = start_self("/proc/self/exe", "--fill", round ? "3" : "0");
        ck_assert_int_eq(end_of(a), 0);
        ck_assert_int_eq(end_of(b), 0);
        ck_assert_int_eq(count_names(cache, ""), TEXTS);
        expect_full(TEXTS);
        close_all();
        remove_all(cache);
        open_with(NULL);
    }
}
END_TEST

START_TEST(test_killed)
{
    struct timespec old[2] = {{1000, 0}, {1000, 0}};
    compiler(COPIES);
    for (int i = 0; i < 60; i++) {
        pid_t pid = start_self("/proc/self/exe", "--fill", "1");
        nap(0.001 * (double)chance(100));
        kill(pid, SIGKILL);
        end_of(pid);
        if (i % 3 == 2) remove_all(cache);
        open_with(NULL);
        expect(get(text_of(0)), 42);
        for (int j = 0; j < TEXTS; j++) niz_kernel_request(k, text_of(j), sse2, NIZ_KERNEL_ASYNC);
        EXPECT_COUNT(damaged, 0); /* a name shows a whole file or none */
        close_all();
    }
    open_with(NULL);
    write_file(in(cache, "tmp-1-1-0"), "x", 1, 0600);
    write_file(in(cache, "tmp-1-1-1"), "x", 1, 0600);
    utimensat(AT_FDCWD, in(cache, "tmp-1-1-0"), old, 0);
    expect(get(text_of(500)), 42);
    close_all();
    ck_assert_int_eq(access(in(cache, "tmp-1-1-0"), F_OK), -1);
    ck_assert_int_eq(access(in(cache, "tmp-1-1-1"), F_OK), 0);
    nap(0.3); /* the last orphan */
    remove_all(scratch);
}
END_TEST

/* ---- the bound ------------------------------------------------------------------------------- */

static uint64_t cache_bytes(void)
{
    uint64_t sum = 0;
    struct stat st;
    DIR *d = opendir(cache);
    for (struct dirent *e; (e = readdir(d));)
        if (!fstatat(dirfd(d), e->d_name, &st, 0) && S_ISREG(st.st_mode))
            sum += ((uint64_t)st.st_size + 4095) / 4096 * 4096;
    closedir(d);
    return sum;
}

START_TEST(test_bound)
{
    const niz_kernel_options o = {.disk_bytes = 256 << 10};
    compiler(COPIES);
    mkdir(cache, 0700);
    write_file(in(cache, "README"), whole, 5000, 0600);
    open_with(&o);
    uint64_t most = 0;
    for (int i = 0; i < 60; i++) {
        if (i == 10) { /* kernel 0 is old, but in use */
            struct timespec old[2] = {{1000, 0}, {1000, 0}};
            close_all();
            open_with(NULL);
            for (int j = 0; j < 10; j++) get(text_of(j));
            EXPECT_COUNT(on_disk, 10);
            DIR *d = opendir(cache);
            for (struct dirent *e; (e = readdir(d));)
                if (e->d_name[0] != '.') utimensat(dirfd(d), e->d_name, old, 0);
            closedir(d);
            close_all();
            open_with(&o);
            get(text_of(0));
            EXPECT_COUNT(on_disk, 1);
        }
        expect(get(text_of(i)), 42);
        uint64_t bytes = cache_bytes();
        if (bytes > most) most = bytes;
    }
    close_all();
    ck_assert_uint_le(most, o.disk_bytes + o.disk_bytes / 16 + (64 << 10));
    ck_assert_uint_ge(most, o.disk_bytes / 2);
    ck_assert_int_eq(access(in(cache, "README"), F_OK), 0);
    open_with(NULL);
    get(text_of(1));
    EXPECT_COUNT(on_disk, 0);
    get(text_of(59));
    EXPECT_COUNT(on_disk, 1);
}
END_TEST

START_TEST(test_bound_keeps_what_is_used)
{
    struct timespec old[2] = {{1000, 0}, {1000, 0}};
    compiler(COPIES);
    open_with(NULL);
    for (int i = 0; i < 12; i++) expect(get(text_of(i)), 42);
    close_all();
    DIR *d = opendir(cache);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') utimensat(dirfd(d), e->d_name, old, 0);
    closedir(d);
    open_with(&(niz_kernel_options){.disk_bytes = cache_bytes()});
    get(text_of(5));
    EXPECT_COUNT(on_disk, 1);
    expect(get(text_of(100)), 42); /* one too many */
    close_all();
    int left = count_names(cache, ".so");
    ck_assert(left >= 9 && left <= 12);
    open_with(NULL);
    niz_kernel_request(k, text_of(5), sse2, NIZ_KERNEL_ASYNC);
    niz_kernel_request(k, text_of(100), sse2, NIZ_KERNEL_ASYNC);
    EXPECT_COUNT(on_disk, 2);
}
END_TEST

/* ---- raised rights, no memory ---------------------------------------------------------------- */

START_TEST(test_secure)
{
    static unsigned char program[64 << 20];
    if (geteuid()) {
        not_run("a set-user-ID program");
        return;
    }
    size_t n = read_file("/proc/self/exe", program, sizeof program);
    ck_assert_uint_lt(n, sizeof program);
    write_file(in(dir, "self"), program, n, 0700);
    ck_assert_int_eq(chown(in(dir, "self"), NOBODY, NOBODY), 0);
    ck_assert_int_eq(chmod(in(dir, "self"), 04755), 0);
    compiler(COPIES);
    open_with(NULL);
    int result = end_of(start_self(in(dir, "self"), "--secure", ""));
    if (result == 77) not_run("a set-user-ID program");
    else ck_assert_int_eq(result, 0);
    ck_assert_int_eq(runs(), 0);
}
END_TEST

static void *limited(void *user, void *p, size_t bytes)
{
    int *left = user;
    if (!bytes) {
        free(p);
        return NULL;
    }
    return (*left)-- > 0 ? realloc(p, bytes) : NULL;
}

START_TEST(test_no_memory_in_the_context)
{
    compiler(COPIES);
    for (int n = 0;; n++) {
        int left = 1;
        niz *mine = niz_open(&(niz_options){.realloc = limited, .user = &left});
        left = n;
        k = niz_kernels_open(mine, NULL);
        niz_kernel *e = k ? get(text_of(1)) : NULL;
        bool done = niz_kernel_state_of(e) == NIZ_KERNEL_READY;
        ck_assert(done == (niz_error(mine) == NIZ_OK));
        if (!e) ck_assert_str_eq(niz_kernel_why(e), "no memory");
        if (k) niz_kernel_release(k, e);
        close_all();
        ck_assert_int_eq(niz_statistics(mine).bytes_now, 0);
        niz_close(mine);
        if (done) break;
        ck_assert_int_lt(n, 20);
    }
}
END_TEST

#if defined __GLIBC__ && !defined SANITIZED

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

static atomic_int mallocs_left = -1;

static bool malloc_fails(void)
{
    return mallocs_left >= 0 && atomic_fetch_sub(&mallocs_left, 1) <= 0;
}

void *malloc(size_t n)
{
    if (!malloc_fails()) return __libc_malloc(n);
    mallocs_left = 0;
    errno = ENOMEM;
    return NULL;
}

void *calloc(size_t n, size_t size)
{
    if (!malloc_fails()) return __libc_calloc(n, size);
    mallocs_left = 0;
    errno = ENOMEM;
    return NULL;
}

void *realloc(void *p, size_t n)
{
    if (!malloc_fails()) return __libc_realloc(p, n);
    mallocs_left = 0;
    errno = ENOMEM;
    return NULL;
}

/* From the n-th on all fail, on every thread, loader and library included. */
START_TEST(test_no_memory_at_all)
{
    compiler(COPIES);
    bool done = false;
    for (int n = 0; !done; n++) {
        open_with(NULL);
        mallocs_left = n;
        niz_kernel *e = get(text_of(n));
        niz_kernel_state state = niz_kernel_state_of(e);
        done = mallocs_left > 0 && niz_kernels_counts(k).kept;
        close_all();
        mallocs_left = -1;
        ck_assert_int_ne(state, NIZ_KERNEL_PENDING);
        niz_clear_error(z);
        ck_assert_int_lt(n, 500);
    }
    remove_all(scratch); /* emptying a directory needs memory too */
}
END_TEST

START_TEST(test_no_memory_for_a_hit)
{
    compiler(COPIES);
    open_with(NULL);
    expect(get(text_of(1)), 42);
    bool done = false;
    for (int n = 0; !done; n++) {
        reopen();
        mallocs_left = n;
        niz_kernel *e = niz_kernel_request(k, text_of(1), sse2, NIZ_KERNEL_ASYNC);
        done = niz_kernel_state_of(e) == NIZ_KERNEL_READY;
        mallocs_left = -1;
        niz_kernel_wait(k, e);
        niz_clear_error(z);
        ck_assert_int_lt(n, 500);
    }
}
END_TEST
#endif

START_TEST(test_no_descriptors)
{
    struct rlimit limit, before;
    getrlimit(RLIMIT_NOFILE, &before);
    compiler(COPIES);
    bool done = false;
    for (rlim_t n = (rlim_t)descriptors; !done; n++) {
        open_with(NULL);
        limit = (struct rlimit){n, before.rlim_max};
        setrlimit(RLIMIT_NOFILE, &limit);
        niz_kernel *e = get(text_of((int)n));
        niz_kernel_state state = niz_kernel_state_of(e);
        ck_assert_int_ne(state, NIZ_KERNEL_PENDING);
        close_all();
        setrlimit(RLIMIT_NOFILE, &before);
        done = state == NIZ_KERNEL_READY;
        ck_assert_uint_lt(n, 100);
    }
}
END_TEST

/* ---- this program again ---------------------------------------------------------------------- */

static int child_request(const char *number)
{
    z = niz_open(NULL);
    k = niz_kernels_open(z, NULL);
    int result = answer(get(text_of(atoi(number))));
    close_all();
    niz_close(z);
    return result & 255;
}

static int child_fill(const char *first)
{
    int state = atoi(first);
    fill_all(&state);
    return state;
}

/* Raised rights: no environment, no compiler, no cache.  Leaves without the leak checker, which
 * cannot look into such a process. */
static int child_secure(void)
{
    if (!getauxval(AT_SECURE)) _exit(77);
    z = niz_open(NULL);
    k = niz_kernels_open(z, NULL);
    bool good_so_far = !niz_kernels_compiler(k);
    niz_kernel *e = get(text_of(1));
    good_so_far &= niz_kernel_state_of(e) == NIZ_KERNEL_FAILED &&
                   strstr(niz_kernel_why(e), "raised rights") != NULL;
    close_all();
    niz_kernel_disk d;
    niz_kernel_disk_open(&d, 0);
    good_so_far &= d.fd < 0 && strstr(d.why.text, "raised rights") != NULL;
    _exit(good_so_far ? 0 : 1);
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* The object that the scripts copy, made by a real compiler. */
static bool make_good(void)
{
    niz_compiler c;
    niz_compiled made;
    z = niz_open(NULL);
    unsetenv("NIZ_CC");
    niz_compiler_find(z, &c);
    bool ok = niz_compiler_run(&c, sse2, text_of(42), -1, &made);
    FILE *f = ok ? fopen(good, "wb") : NULL;
    if (!ok) printf("%s\n", made.why);
    if (f) ok = fwrite(made.bytes, 1, made.n, f) == made.n;
    if (f) ok &= !fclose(f);
    free(made.bytes);
    niz_compiler_drop(z, &c);
    niz_close(z);
    return ok && f;
}

static void add_loops(TCase *t)
{
    tcase_add_loop_test(t, test_real, 0, 3);
    tcase_add_loop_test(t, test_comments, 0, (int)(sizeof pairs / sizeof *pairs));
    tcase_add_loop_test(t, test_faults, 0, (int)(sizeof faults / sizeof *faults));
    tcase_add_loop_test(t, test_hanging, 0, 3);
    tcase_add_loop_test(t, test_sigchld, 0, 3);
    tcase_add_loop_test(t, test_closed_standard_descriptors, 1, 8);
    tcase_add_loop_test(t, test_directory_mode, 0, 7);
    tcase_add_loop_test(t, test_directory_is_a_link, 0, 2);
    tcase_add_loop_test(t, test_directory_is_none, 0, 4);
    tcase_add_loop_test(t, test_files_not_ours, 0, 6);
}

static Suite *suite(void)
{
    Suite *s = suite_create("kernel cache");
    TCase *all = tcase_create("kernel cache");
    const TTest *tests[] = {
        test_found_on_path, test_no_compiler, test_arguments, test_hostile_names, test_memory_hit,
        test_release, test_disk_hit, test_misses, test_keys, test_comment_edit_compiles_nothing,
        test_warnings, test_not_executable_format, test_time_limit_from_environment,
        test_straggler, test_close_kills, test_taken_over, test_release_while_compiling,
        test_children_of_the_host, test_descriptors, test_fork_while_compiling,
        test_fork_at_any_time, test_directory_is_somebodys, test_directory_by_default,
        test_directory_vanishes, test_disk_full, test_read_only, test_noexec,
        test_no_anonymous_memory, test_no_place_to_load_from, test_no_pidfd,
        test_file_size_limit, test_no_place_to_work, test_stale_folders, test_under_another_name,
        test_name_is_a_directory, test_damage, test_threads, test_processes, test_killed,
        test_bound, test_bound_keeps_what_is_used, test_secure, test_no_memory_in_the_context,
#if defined __GLIBC__ && !defined SANITIZED
        test_no_memory_at_all, test_no_memory_for_a_hit,
#endif
        test_no_descriptors,
    };
    tcase_add_checked_fixture(all, begin, end);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) tcase_add_test(all, tests[i]);
    add_loops(all);
    tcase_set_timeout(all, 600);
    suite_add_tcase(s, all);
    return s;
}

static int run_all(void)
{
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    for (int i = 0; i < shared->not_run && i < 16; i++) printf("not run: %s\n", shared->what[i]);
    printf("%d could not be run on this machine\n", (int)shared->not_run);
    return failed != 0;
}

int main(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[1], "--request")) return child_request(argv[2]);
    if (argc > 2 && !strcmp(argv[1], "--fill")) return child_fill(argv[2]);
    if (argc > 2 && !strcmp(argv[1], "--secure")) return child_secure();
    strcpy(root, "/tmp/niz-test-kernel-XXXXXX");
    if (!mkdtemp(root)) return 1;
    snprintf(good, sizeof good, "%s/good.so", root);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int result = shared == MAP_FAILED ? 1 : make_good() ? run_all() : 77;
    remove_all(root);
    return result;
}
