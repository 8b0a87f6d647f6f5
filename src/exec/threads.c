/* threads.c - handing out ranges to a context's own threads.
 *
 * A job is cut into pieces, which whoever is awake claims one by one: a worker, or the thread that
 * asks.  That one waits only for pieces which are being worked on, never for a worker that has yet
 * to come: with busy cores, after a fork, or where no thread could be made, it does them all
 * itself. Workers start with the first job, look out for the next one for SPIN_NS and then sleep.
 *
 * Not OpenMP: its teams wait for every member at both ends of a region.  On idle cores that is as
 * fast; on cores shared with others (a compiler in the background is enough) a step took up to
 * twenty times as long as on one thread, where this costs at most what the worker would have saved.
 *
 * Every worker has a control word of its own, and gets it back (core/control.h).
 *
 * SPDX-License-Identifier: MIT */
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/context.h"
#include "core/control.h"
#include "exec/exec.h"

/* Longer than most programs take between two steps to gather their data; being called from sleep
 * takes a thread 50 us.  (MNIST: 0.25 s an epoch with 40 us, 0.20 with 200.) */
#define SPIN_NS 200000
#define LINE 64 /* bytes that cores pass to and fro */

typedef struct niz_pool {
    /* number of the job << 32 | end << 16 | begin, of the pieces left: claimed by one exchange,
       which fails if the job is another one by now.  Who asks takes the first and workers the last,
       so that from job to job a core comes to see the same part of the memory. */
    atomic_uint_least64_t ticket;
    char apart[LINE];
    atomic_int done; /* pieces */
    char apart_too[LINE];
    atomic_int asleep;
    atomic_uint call; /* a futex: changes when sleepers are called */
    atomic_bool stop;
    /* of the job: stays as it is until all pieces are done */
    niz_piece *f;
    void *state;
    int64_t units;
    int pieces;
    uint32_t job;
    pid_t process;
    int n_workers;
    pthread_t worker[];
} niz_pool;

int niz_thread_count(const niz_options *o)
{
    const char *s = secure_getenv("NIZ_THREADS");
    long n = o->threads > 0 ? o->threads : s ? strtol(s, NULL, 10) : 0;
    if (n < 1) n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > 256 ? 256 : (int)n;
}

static void niz_piece_run(niz_piece *f, void *state, int piece, int pieces, int64_t units)
{
    int64_t begin = units / pieces * piece + (units % pieces) * piece / pieces;
    int64_t end = units / pieces * (piece + 1) + (units % pieces) * (piece + 1) / pieces;
    NIZ_CONTROL;
    if (begin < end) f(state, piece, begin, end);
}

/* ---- claiming ------------------------------------------------------------------------------- */

static bool niz_ticket_left(uint64_t t)
{
    return (t & 0xffff) < (t >> 16 & 0xffff);
}

static bool niz_pool_has_work(niz_pool *p)
{
    return niz_ticket_left(atomic_load(&p->ticket));
}

/* Does pieces until none is left to claim. */
static void niz_pool_work(niz_pool *p, bool from_end)
{
    uint64_t t = atomic_load_explicit(&p->ticket, memory_order_acquire);
    while (niz_ticket_left(t)) {
        int piece = from_end ? (int)(t >> 16 & 0xffff) - 1 : (int)(t & 0xffff);
        uint64_t rest = from_end ? t - (1 << 16) : t + 1;
        if (!atomic_compare_exchange_weak(&p->ticket, &t, rest)) continue;
        niz_piece_run(p->f, p->state, piece, p->pieces, p->units);
        atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
        t = atomic_load_explicit(&p->ticket, memory_order_acquire);
    }
}

static inline void niz_pause(void)
{
#ifdef __SSE2__
    __builtin_ia32_pause();
#endif
}

/* ---- workers -------------------------------------------------------------------------------- */

static int64_t niz_pool_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Until there is work, for a while. */
static bool niz_pool_look_out(niz_pool *p)
{
    for (int64_t end = niz_pool_now() + SPIN_NS; niz_pool_now() < end;)
        for (int i = 0; i < 32; i++) {
            if (niz_pool_has_work(p) || atomic_load(&p->stop)) return true;
            niz_pause();
        }
    return false;
}

/* The call is read before the last look at the ticket, so that one in between is not slept over. */
static void niz_pool_sleep(niz_pool *p)
{
    unsigned call = atomic_load(&p->call);
    atomic_fetch_add(&p->asleep, 1);
    if (!niz_pool_has_work(p) && !atomic_load(&p->stop))
        syscall(SYS_futex, &p->call, FUTEX_WAIT_PRIVATE, call, NULL, NULL, 0);
    atomic_fetch_sub(&p->asleep, 1);
}

static void niz_pool_call(niz_pool *p, int n)
{
    atomic_fetch_add(&p->call, 1);
    syscall(SYS_futex, &p->call, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static void *niz_pool_worker(void *arg)
{
    niz_pool *p = arg;
    while (!atomic_load(&p->stop)) {
        niz_pool_work(p, true);
        if (!niz_pool_look_out(p)) niz_pool_sleep(p);
    }
    return NULL;
}

/* Signals are for the program's own threads. */
niz_pool *niz_pool_open(niz *z, int threads)
{
    size_t bytes = sizeof(niz_pool) + sizeof(pthread_t) * (size_t)threads;
    niz_pool *p = niz_realloc(z, NULL, bytes);
    if (!p) return NULL;
    memset(p, 0, bytes);
    p->process = getpid();
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (p->n_workers < threads - 1 &&
           !pthread_create(&p->worker[p->n_workers], NULL, niz_pool_worker, p))
        p->n_workers++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return p;
}

/* A forked process has the memory and none of the threads. */
void niz_pool_close(niz *z, niz_pool *p)
{
    if (!p) return;
    atomic_store(&p->stop, true);
    niz_pool_call(p, p->n_workers);
    for (int i = 0; i < p->n_workers && p->process == getpid(); i++)
        pthread_join(p->worker[i], NULL);
    niz_free(z, p);
}

/* ---- jobs ----------------------------------------------------------------------------------- */

static void niz_pool_run(niz_pool *p, int pieces, int64_t units, niz_piece *f, void *state)
{
    p->f = f;
    p->state = state;
    p->units = units;
    p->pieces = pieces;
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    atomic_store(&p->ticket, (uint64_t)++p->job << 32 | (uint64_t)pieces << 16);
    int asleep = atomic_load(&p->asleep);
    if (asleep > 0) niz_pool_call(p, asleep < pieces - 1 ? asleep : pieces - 1);
    niz_pool_work(p, false);
    for (int i = 0; atomic_load_explicit(&p->done, memory_order_acquire) < pieces; i++)
        if (i < 2000)
            niz_pause();
        else
            sched_yield(); /* whoever has the last piece may be waiting for this core */
}

void niz_parallel(niz_pool *pool, int threads, int64_t units, niz_piece *f, void *state)
{
    if (threads > units) threads = units > 0 ? (int)units : 1;
    if (threads < 2)
        niz_piece_run(f, state, 0, 1, units);
    else
        niz_pool_run(pool, threads, units, f, state);
}
