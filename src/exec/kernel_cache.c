/* kernel_cache.c - from a kernel's C text to code that can be called, without making anybody wait.
 *
 * Owns the table of the process's kernels: the only global mutable state of the library.  One lock
 * guards it, and one condition tells of every change.  The lock is held for a few instructions at a
 * time, never while files are read, a compiler runs or an object is loaded.
 *
 * A kernel is made once, however many contexts ask: whoever works on it has claimed it.  A claim is
 * given up when its context closes, and then the worker of any other context that wants the kernel
 * takes it over.  `claimed`, `refs` and the lists change under the lock; `object` and `why` are
 * written by the claimant before the state is, which is the only thing read without the lock; and
 * the text is the claimant's until then.
 *
 * A kernel lives as long as somebody holds it: each context that asked, and a claimant.  Then it is
 * unloaded.  So a process whose contexts are closed holds nothing, and a context that drops an old
 * plan gives its code back; opening the same again costs a load from disk, some 0.1 ms.
 *
 * Kernels and what a worker's thread makes come from malloc: they belong to no context, and a
 * context's allocator need not bear two threads.  What belongs to one context is allocated by its
 * own thread through niz_realloc.
 *
 * Each context has worker threads of its own, made when first needed.  They block all signals, so
 * the host's handlers never run on it, and a limit on file sizes is an error code to it, not an
 * end.
 *
 * fork: the child has the table, but no worker and no claimant.  The lock is held across the fork,
 * and no object is being loaded then; the child's handler takes all claims back.  A context that
 * notices it was forked forgets its worker without touching it, and above all without waking or
 * killing what is the parent's.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/kernel_cache.h"

#include "core/context.h"
#include "exec/kernel_disk.h"
#include "exec/kernel_key.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct niz_kernel {
    struct niz_kernel_head head;
    niz_kernel *next; /* in its bucket */
    XXH128_hash_t key;
    int64_t refs;
    bool claimed;
    niz_target target;
    char *text; /* until it is READY or FAILED */
    void *object;
    niz_reason why;
};

/* One context's hold on one kernel. */
typedef struct niz_kernel_use {
    struct niz_kernel_use *next;
    niz_kernel *kernel;
    int64_t requests; /* not yet released */
} niz_kernel_use;

/* A large plan's texts are compiled side by side: by as many as there are processors, within these
 * bounds.  One alone would let a long text hold up a short one. */
#define NIZ_KERNEL_WORKERS_MIN 2
#define NIZ_KERNEL_WORKERS 4

struct niz_kernels {
    niz *z;
    niz_compiler compiler;
    niz_kernel_disk disk;
    niz_kernel_use *first, **end; /* in order of request; changed by the owner, under the lock */
    niz_kernel_counts counts;     /* under the lock */
    niz_reason not_kept;          /* the last one made, on disk; under the lock */
    niz_reason failed;            /* the last that could not be made; under the lock */
    niz_kernel none;              /* what all requests get where there is no compiler */
    pthread_t worker[NIZ_KERNEL_WORKERS];
    int workers, busy, most; /* threads, those that make a kernel, and their bound */
    bool closing;
    pthread_mutex_t storing; /* one worker at a time is on disk */
    int cancel;              /* eventfd that ends a compiler's run */
    uint64_t forks;
};

#define NIZ_KERNEL_BUCKETS 256

static struct niz_kernel_table {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    niz_kernel *bucket[NIZ_KERNEL_BUCKETS];
    int loading;     /* threads inside the loader */
    uint64_t serial; /* of loads */
    uint64_t forks;  /* between this process and the first */
} niz_kernel_table = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void niz_kernel_lock(void)
{
    pthread_mutex_lock(&niz_kernel_table.lock);
}

static void niz_kernel_unlock(void)
{
    pthread_mutex_unlock(&niz_kernel_table.lock);
}

static void niz_kernel_changed(void)
{
    pthread_cond_broadcast(&niz_kernel_table.changed);
}

static void niz_kernel_await(void)
{
    pthread_cond_wait(&niz_kernel_table.changed, &niz_kernel_table.lock);
}

/* ---- the table (under the lock) -------------------------------------------------------------- */

static niz_kernel **niz_kernel_slot(XXH128_hash_t key)
{
    niz_kernel **p = &niz_kernel_table.bucket[key.low64 % NIZ_KERNEL_BUCKETS];
    while (*p && !XXH128_isEqual((*p)->key, key)) p = &(*p)->next;
    return p;
}

/* One holder less.  True: it was the last, the kernel is off the table and the caller's to free. */
static bool niz_kernel_unref(niz_kernel *e)
{
    if (--e->refs) return false;
    *niz_kernel_slot(e->key) = e->next;
    return true;
}

static void niz_kernel_claim(niz_kernel *e)
{
    e->claimed = true;
    e->refs++;
}

static bool niz_kernel_unclaim(niz_kernel *e)
{
    e->claimed = false;
    niz_kernel_changed();
    return niz_kernel_unref(e);
}

/* The end of PENDING; the claim stays. */
static void niz_kernel_settle(niz_kernel *e, niz_kernel_state state, void *object)
{
    free(e->text);
    e->text = NULL;
    e->object = object;
    atomic_store_explicit(&e->head.state, state, memory_order_release);
    niz_kernel_changed();
}

/* ---- loading --------------------------------------------------------------------------------- */

/* A fork in the middle of a load would leave the child with a broken loader, so forks wait for
 * these to be over.  No lock of ours is held inside: the loader runs others' constructors. */
static uint64_t niz_kernel_load_begin(void)
{
    niz_kernel_lock();
    niz_kernel_table.loading++;
    uint64_t serial = ++niz_kernel_table.serial;
    niz_kernel_unlock();
    return serial;
}

static void niz_kernel_load_end(void)
{
    niz_kernel_lock();
    niz_kernel_table.loading--;
    niz_kernel_changed();
    niz_kernel_unlock();
}

static void *niz_kernel_load(int fd, niz_reason *why)
{
    void *object = niz_kernel_object_load(fd, niz_kernel_load_begin(), why);
    niz_kernel_load_end();
    return object;
}

static void *niz_kernel_load_bytes(const niz_kernels *k, const unsigned char *bytes, size_t n,
                                   niz_reason *why)
{
    uint64_t serial = niz_kernel_load_begin();
    const char *scratch = k->compiler.scratch;
    void *object = niz_kernel_object_load_bytes(bytes, n, scratch, serial, why);
    niz_kernel_load_end();
    return object;
}

/* Outside the lock. */
static void niz_kernel_free(niz_kernel *e)
{
    if (e->object) {
        niz_kernel_load_begin();
        dlclose(e->object);
        niz_kernel_load_end();
    }
    free(e->text);
    free(e);
}

/* ---- fork ------------------------------------------------------------------------------------ */

/* A load that does not end is not worth a fork that never returns. */
static void niz_kernel_fork_prepare(void)
{
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 2;
    niz_kernel_lock();
    while (niz_kernel_table.loading)
        if (pthread_cond_timedwait(&niz_kernel_table.changed, &niz_kernel_table.lock, &limit))
            break;
}

/* Claimants are threads of the parent. */
static void niz_kernel_fork_child(void)
{
    struct niz_kernel_table *t = &niz_kernel_table;
    t->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    t->changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    t->loading = 0;
    t->forks++;
    for (int i = 0; i < NIZ_KERNEL_BUCKETS; i++) {
        for (niz_kernel *e = t->bucket[i], *next; e; e = next) {
            next = e->next;
            if (!e->claimed) continue;
            e->claimed = false;
            if (niz_kernel_unref(e)) niz_kernel_free(e);
        }
    }
}

static void niz_kernel_fork_handlers(void)
{
    pthread_atfork(niz_kernel_fork_prepare, niz_kernel_unlock, niz_kernel_fork_child);
}

/* The worker is the parent's, and the eventfd is shared with it: writing to it would cancel there.
 * */
static void niz_kernels_adopt(niz_kernels *k)
{
    if (k->forks == niz_kernel_table.forks) return;
    k->forks = niz_kernel_table.forks;
    k->workers = k->busy = 0;
    pthread_mutex_init(&k->storing, NULL);
    if (k->cancel >= 0) close(k->cancel);
    k->cancel = -1;
}

/* ---- making a kernel (the claimant, outside the lock) ---------------------------------------- */

static int64_t niz_kernel_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* On the thread of whoever asks: a load takes less than a run of the interpreter. */
static bool niz_kernel_from_file(niz_kernels *k, niz_kernel *e)
{
    int fd;
    unsigned char *bytes;
    size_t n;
    niz_kernel_found found = niz_kernel_disk_find(&k->disk, e->key, &fd, &bytes, &n);
    void *object = NULL;
    if (found == NIZ_KERNEL_FOUND) {
        object = niz_kernel_load(fd, &e->why);
        close(fd);
        free(bytes);
    }
    niz_kernel_lock();
    k->counts.damaged += found == NIZ_KERNEL_DAMAGED;
    k->counts.on_disk += object != NULL;
    if (object) niz_kernel_settle(e, NIZ_KERNEL_READY, object);
    niz_kernel_unlock();
    return object != NULL;
}

/* A cache where nothing may be run (noexec) serves all the same, by way of memory.  Writing that
 * memory may meet a limit on file sizes, so it is left to the worker.  Another process may also
 * have filled the cache since it was looked at. */
static bool niz_kernel_from_cached_bytes(niz_kernels *k, niz_kernel *e)
{
    int fd;
    unsigned char *bytes;
    size_t n;
    if (niz_kernel_disk_find(&k->disk, e->key, &fd, &bytes, &n) != NIZ_KERNEL_FOUND) return false;
    void *object = niz_kernel_load_bytes(k, bytes, n, &e->why);
    close(fd);
    free(bytes);
    if (!object) return false;
    niz_kernel_lock();
    k->counts.on_disk++;
    niz_kernel_settle(e, NIZ_KERNEL_READY, object);
    niz_kernel_unlock();
    return true;
}

/* The swap first, the disk after.  Only what has been loaded once is kept. */
static void niz_kernel_compiled(niz_kernels *k, niz_kernel *e, const niz_compiled *c, int64_t begin)
{
    void *object = NULL;
    if (!c->bytes)
        snprintf(e->why.text, sizeof e->why.text, "%s", c->why);
    else if (!niz_kernel_object_whole(c->bytes, c->n))
        snprintf(e->why.text, sizeof e->why.text, "%s: what it made is no whole object",
                 k->compiler.path);
    else
        object = niz_kernel_load_bytes(k, c->bytes, c->n, &e->why);
    niz_kernel_lock();
    k->counts.compile_ns += niz_kernel_now_ns() - begin;
    k->counts.compiled += object != NULL;
    k->counts.failed += object == NULL;
    if (!object) k->failed = e->why;
    niz_kernel_settle(e, object ? NIZ_KERNEL_READY : NIZ_KERNEL_FAILED, object);
    niz_kernel_unlock();
    if (!object) return;
    niz_reason why = {0};
    pthread_mutex_lock(&k->storing);
    bool kept = niz_kernel_disk_store(&k->disk, e->key, c->bytes, c->n, &why);
    pthread_mutex_unlock(&k->storing);
    niz_kernel_lock();
    k->counts.kept += kept;
    k->counts.not_kept += !kept;
    k->not_kept = why;
    niz_kernel_unlock();
}

static void niz_kernel_make(niz_kernels *k, niz_kernel *e)
{
    niz_compiled c;
    int64_t begin = niz_kernel_now_ns();
    if (niz_kernel_from_cached_bytes(k, e)) return;
    niz_compiler_run(&k->compiler, e->target, e->text, k->cancel, &c);
    if (!c.cancelled) niz_kernel_compiled(k, e, &c, begin);
    free(c.bytes);
}

/* ---- the worker ------------------------------------------------------------------------------ */

static niz_kernel *niz_kernels_next(const niz_kernels *k)
{
    for (niz_kernel_use *u = k->first; u; u = u->next)
        if (!u->kernel->claimed && niz_kernel_state_of(u->kernel) == NIZ_KERNEL_PENDING)
            return u->kernel;
    return NULL;
}

static void *niz_kernels_work(void *state)
{
    niz_kernels *k = state;
    bool tidied = false;
    niz_kernel_lock();
    while (!k->closing) {
        niz_kernel *e = niz_kernels_next(k);
        if (!e) {
            niz_kernel_await();
            continue;
        }
        niz_kernel_claim(e);
        k->busy++;
        niz_kernel_unlock();
        niz_kernel_make(k, e);
        if (!tidied) niz_compiler_tidy(&k->compiler);
        tidied = true;
        niz_kernel_lock();
        k->busy--;
        if (!niz_kernel_unclaim(e)) continue;
        niz_kernel_unlock();
        niz_kernel_free(e);
        niz_kernel_lock();
    }
    niz_kernel_unlock();
    return NULL;
}

static bool niz_kernels_hire(niz_kernels *k)
{
    sigset_t all, before;
    if (k->cancel < 0) k->cancel = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (k->cancel < 0) return false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = !pthread_create(&k->worker[k->workers], NULL, niz_kernels_work, k);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    k->workers += ok;
    return ok;
}

static int niz_kernels_most(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < NIZ_KERNEL_WORKERS_MIN ? NIZ_KERNEL_WORKERS_MIN
           : n > NIZ_KERNEL_WORKERS   ? NIZ_KERNEL_WORKERS
                                      : (int)n;
}

/* As many workers as there is work for, one at least. */
static bool niz_kernels_start(niz_kernels *k)
{
    int wanted = k->busy;
    for (niz_kernel_use *u = k->first; u; u = u->next)
        wanted += !u->kernel->claimed && niz_kernel_state_of(u->kernel) == NIZ_KERNEL_PENDING;
    while (k->workers < k->most && (k->workers < wanted || !k->workers))
        if (!niz_kernels_hire(k)) break;
    return k->workers > 0;
}

/* ---- requests -------------------------------------------------------------------------------- */

static niz_kernel *niz_kernel_new(XXH128_hash_t key, const char *text, niz_target t)
{
    niz_kernel *e = calloc(1, sizeof *e);
    char *copy = strdup(text);
    if (!e || !copy) {
        free(e);
        free(copy);
        return NULL;
    }
    e->key = key;
    e->target = t;
    e->text = copy;
    return e;
}

static niz_kernel_use *niz_kernels_use(const niz_kernels *k, XXH128_hash_t key)
{
    niz_kernel_use *u = k->first;
    while (u && !XXH128_isEqual(u->kernel->key, key)) u = u->next;
    return u;
}

/* Puts the table's kernel of fresh's key under u: fresh itself, claimed, if there is none yet. */
static bool niz_kernels_enter(niz_kernels *k, niz_kernel_use *u, niz_kernel *fresh)
{
    niz_kernel_lock();
    niz_kernel **slot = niz_kernel_slot(fresh->key);
    bool is_new = !*slot;
    if (is_new) {
        *slot = fresh;
        niz_kernel_claim(fresh);
    }
    *u = (niz_kernel_use){.kernel = *slot};
    (*slot)->refs++;
    *k->end = u;
    k->end = &u->next;
    k->counts.in_memory += !is_new;
    niz_kernel_changed(); /* it may be one that another context has given up */
    niz_kernel_unlock();
    return is_new;
}

static niz_kernel_use *niz_kernels_add(niz_kernels *k, XXH128_hash_t key, const char *text,
                                       niz_target t)
{
    niz_kernel_use *u = niz_realloc(k->z, NULL, sizeof *u);
    niz_kernel *fresh = u ? niz_kernel_new(key, text, t) : NULL;
    if (!fresh) {
        niz_free(k->z, u);
        return NULL;
    }
    if (!niz_kernels_enter(k, u, fresh)) {
        niz_kernel_free(fresh);
        return u;
    }
    niz_kernel_from_file(k, fresh);
    niz_kernel_lock();
    niz_kernel_unclaim(fresh); /* u holds it still */
    niz_kernel_unlock();
    return u;
}

/* Sees to it that somebody makes a kernel (under the lock).  Without a worker of ours only who has
 * claimed it will. */
static void niz_kernels_assure(niz_kernels *k, niz_kernel *e)
{
    if (niz_kernel_state_of(e) != NIZ_KERNEL_PENDING || niz_kernels_start(k) || e->claimed) return;
    snprintf(e->why.text, sizeof e->why.text, "no thread for the compiler");
    k->counts.failed++;
    niz_kernel_settle(e, NIZ_KERNEL_FAILED, NULL);
}

static void niz_kernels_count(int64_t *count)
{
    niz_kernel_lock();
    ++*count;
    niz_kernel_unlock();
}

niz_kernel *niz_kernel_request(niz_kernels *k, const char *text, niz_target t, niz_kernel_mode mode)
{
    niz_kernels_adopt(k);
    niz_kernels_count(&k->counts.requests);
    if (!k->compiler.path) {
        niz_kernels_count(&k->counts.failed);
        return &k->none;
    }
    XXH128_hash_t key = niz_kernel_key(&k->compiler, t, text);
    niz_kernel_use *u = niz_kernels_use(k, key);
    if (u)
        niz_kernels_count(&k->counts.in_memory);
    else
        u = niz_kernels_add(k, key, text, t);
    if (!u) {
        niz_kernels_count(&k->counts.failed);
        return NULL;
    }
    u->requests++;
    niz_kernel_lock();
    niz_kernels_assure(k, u->kernel);
    niz_kernel_unlock();
    if (mode == NIZ_KERNEL_SYNC) niz_kernel_wait(k, u->kernel);
    return u->kernel;
}

niz_kernel_state niz_kernel_wait(niz_kernels *k, niz_kernel *kernel)
{
    if (niz_kernel_state_of(kernel) != NIZ_KERNEL_PENDING) return niz_kernel_state_of(kernel);
    niz_kernels_adopt(k);
    niz_kernel_lock();
    for (niz_kernels_assure(k, kernel); niz_kernel_state_of(kernel) == NIZ_KERNEL_PENDING;
         niz_kernels_assure(k, kernel))
        niz_kernel_await();
    niz_kernel_unlock();
    return niz_kernel_state_of(kernel);
}

/* Takes *link off the list.  The kernel goes too if nobody else holds it. */
static void niz_kernels_remove(niz_kernels *k, niz_kernel_use **link)
{
    niz_kernel_use *u = *link;
    niz_kernel *e = u->kernel;
    niz_kernel_lock();
    *link = u->next;
    if (k->end == &u->next) k->end = link;
    bool last = niz_kernel_unref(e);
    niz_kernel_unlock();
    if (last) niz_kernel_free(e);
    niz_free(k->z, u);
}

void niz_kernel_release(niz_kernels *k, niz_kernel *kernel)
{
    niz_kernel_use **link = &k->first;
    while (*link && (*link)->kernel != kernel) link = &(*link)->next;
    if (*link && !--(*link)->requests) niz_kernels_remove(k, link);
}

/* ---- asking ---------------------------------------------------------------------------------- */

void *niz_kernel_symbol(const niz_kernel *kernel, const char *name)
{
    if (niz_kernel_state_of(kernel) != NIZ_KERNEL_READY) return NULL;
    return dlsym(kernel->object, name);
}

const char *niz_kernel_why(const niz_kernel *kernel)
{
    if (!kernel) return "no memory";
    return niz_kernel_state_of(kernel) == NIZ_KERNEL_FAILED ? kernel->why.text : "";
}

niz_kernel_counts niz_kernels_counts(niz_kernels *k)
{
    niz_kernel_lock();
    niz_kernel_counts counts = k->counts;
    niz_kernel_unlock();
    return counts;
}

const char *niz_kernels_compiler(const niz_kernels *k)
{
    return k->compiler.path;
}

void niz_kernels_why(niz_kernels *k, char *text, size_t room)
{
    niz_kernel_lock();
    const char *why = *k->compiler.why ? k->compiler.why
                      : k->disk.fd < 0 ? k->disk.why.text
                                       : k->not_kept.text;
    snprintf(text, room, "%s", why);
    niz_kernel_unlock();
}

void niz_kernels_failed(niz_kernels *k, char *text, size_t room)
{
    niz_kernel_lock();
    snprintf(text, room, "%s", k->failed.text);
    niz_kernel_unlock();
}

/* ---- opening and closing --------------------------------------------------------------------- */

niz_kernels *niz_kernels_open(niz *z, const niz_kernel_options *options)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    niz_kernel_options o = options ? *options : (niz_kernel_options){0};
    niz_kernels *k = niz_realloc(z, NULL, sizeof *k);
    if (!k) return NULL;
    pthread_once(&once, niz_kernel_fork_handlers);
    memset(k, 0, sizeof *k);
    k->z = z;
    k->end = &k->first;
    k->cancel = -1;
    k->most = niz_kernels_most();
    k->forks = niz_kernel_table.forks;
    niz_compiler_find(z, &k->compiler);
    if (o.limit_ms) k->compiler.limit_ms = o.limit_ms;
    k->disk.fd = -1;
    pthread_mutex_init(&k->storing, NULL);
    if (k->compiler.path) niz_kernel_disk_open(&k->disk, o.disk_bytes);
    memcpy(k->none.why.text, k->compiler.why, sizeof k->compiler.why);
    atomic_init(&k->none.head.state, NIZ_KERNEL_FAILED);
    return k;
}

static void niz_kernels_stop(niz_kernels *k)
{
    niz_kernel_lock();
    k->closing = true;
    niz_kernel_changed();
    niz_kernel_unlock();
    eventfd_write(k->cancel, 1);
    for (int i = 0; i < k->workers; i++) pthread_join(k->worker[i], NULL);
}

void niz_kernels_close(niz_kernels *k)
{
    if (!k) return;
    niz_kernels_adopt(k);
    if (k->workers) niz_kernels_stop(k);
    pthread_mutex_destroy(&k->storing);
    if (k->cancel >= 0) close(k->cancel);
    while (k->first) niz_kernels_remove(k, &k->first);
    niz_kernel_disk_close(&k->disk);
    niz_compiler_drop(k->z, &k->compiler);
    niz_free(k->z, k);
}
