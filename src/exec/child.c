/* child.c - another program, run within limits: how libniz calls the C compiler.
 *
 * The program is started by posix_spawn with an argument vector, so no text of a user ever meets a
 * shell.  It gets a process group of its own, default signals, an empty mask, /dev/null as stdin
 * and stdout, a pipe as stderr and no other descriptor: neither ours, which are all close-on-exec,
 * nor those of the host program, which may not be (those stay open to it before glibc 2.34).
 *
 * The host's handling of SIGCHLD is not touched.  Only our own child is waited for, and the case
 * that its status is gone (SIGCHLD ignored, or a handler that waits for everybody) is one of the
 * ends.  The group is killed while its leader is alive or an unreaped zombie: the number cannot
 * have passed to a stranger then.  A leader whose status is gone is not killed for the same reason.
 *
 * SPDX-License-Identifier: MIT */
#include "exec/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef __GLIBC_PREREQ
#define NIZ_CHILD_HAS_CLOSEFROM __GLIBC_PREREQ(2, 34)
#endif

static int64_t niz_child_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- starting -------------------------------------------------------------------------------- */

/* stderr first: the pipe may itself be number 0 or 1 if the host has closed those. */
static int niz_child_files(const niz_child *c, posix_spawn_file_actions_t *files, int pipe)
{
    int error = posix_spawn_file_actions_adddup2(files, pipe, 2);
    if (!error) error = posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDONLY, 0);
    if (!error) error = posix_spawn_file_actions_addopen(files, 1, "/dev/null", O_WRONLY, 0);
    if (!error) error = posix_spawn_file_actions_addfchdir_np(files, c->dir);
#if NIZ_CHILD_HAS_CLOSEFROM
    if (!error) error = posix_spawn_file_actions_addclosefrom_np(files, 3);
#endif
    return error;
}

/* An ignored signal stays ignored in a new program, and a compiler driver that inherits an ignored
 * SIGCHLD cannot wait for its own children. */
static int niz_child_attributes(posix_spawnattr_t *a)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigemptyset(&all);
    for (int s = 1; s < 32; s++)
        if (s != SIGKILL && s != SIGSTOP) sigaddset(&all, s);
    int error = posix_spawnattr_setflags(a, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                                POSIX_SPAWN_SETSIGDEF);
    if (!error) error = posix_spawnattr_setpgroup(a, 0);
    if (!error) error = posix_spawnattr_setsigmask(a, &none);
    if (!error) error = posix_spawnattr_setsigdefault(a, &all);
    return error;
}

static int niz_child_spawn(const niz_child *c, int pipe, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&files);
    if (error) return error;
    if (!(error = posix_spawnattr_init(&attributes))) {
        error = niz_child_files(c, &files, pipe);
        if (!error) error = niz_child_attributes(&attributes);
        if (!error) error = posix_spawn(pid, c->path, &files, &attributes, c->argv, c->env);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&files);
    return error;
}

/* ---- watching -------------------------------------------------------------------------------- */

/* Keeps the beginning and drains the rest, so that a talkative child is never blocked. */
static void niz_child_keep(niz_child *c, const char *text, size_t n)
{
    for (size_t i = 0; i < n && c->n_said + 1 < sizeof c->said; i++) {
        bool plain = (unsigned char)text[i] >= ' ' && text[i] != 127;
        c->said[c->n_said++] = plain || text[i] == '\n' || text[i] == '\t' ? text[i] : '?';
    }
    c->said[c->n_said] = 0;
}

/* What is there now; false at the end of the pipe.  At most so much at a time: the limit must be
 * looked at even if a child never stops talking. */
static bool niz_child_listen(niz_child *c, int pipe)
{
    char text[4096];
    for (int i = 0; i < 16; i++) {
        ssize_t n = read(pipe, text, sizeof text);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 && errno == EAGAIN;
        niz_child_keep(c, text, (size_t)n);
    }
    return true;
}

typedef enum niz_child_life { NIZ_CHILD_RUNS, NIZ_CHILD_ENDED, NIZ_CHILD_UNKNOWN } niz_child_life;

/* Leaves an ended child unreaped, which keeps its number ours. */
static niz_child_life niz_child_look(pid_t pid)
{
    siginfo_t info = {0};
    int r;
    do r = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
    while (r && errno == EINTR);
    return r ? NIZ_CHILD_UNKNOWN : info.si_pid == pid ? NIZ_CHILD_ENDED : NIZ_CHILD_RUNS;
}

/* A descriptor that becomes readable at the child's end; -1 before Linux 5.3 or if forbidden. */
static int niz_child_pidfd(pid_t pid)
{
#ifdef SYS_pidfd_open
    return (int)syscall(SYS_pidfd_open, pid, 0);
#else
    (void)pid;
    return -1;
#endif
}

#define NIZ_CHILD_TICK_MS 5 /* between looks where there is no pidfd */

/* Until the child ends, its time is up, or it is no longer wanted. */
static niz_child_life niz_child_watch(niz_child *c, pid_t pid, int pidfd, int pipe)
{
    int64_t deadline = niz_child_now_ms() + c->limit_ms;
    struct pollfd on[3] = {{pipe, POLLIN, 0}, {pidfd, POLLIN, 0}, {c->cancel, POLLIN, 0}};
    for (;;) {
        niz_child_life life = niz_child_look(pid);
        if (life != NIZ_CHILD_RUNS) return life;
        int64_t left = deadline - niz_child_now_ms();
        c->end = on[2].revents ? NIZ_CHILD_CANCELLED : NIZ_CHILD_TIMED_OUT;
        if (on[2].revents || left <= 0) return NIZ_CHILD_RUNS;
        if (left > INT_MAX) left = INT_MAX;
        if (pidfd < 0 && left > NIZ_CHILD_TICK_MS) left = NIZ_CHILD_TICK_MS;
        for (int i = 0; i < 3; i++) on[i].revents = 0;
        poll(on, 3, (int)left);
        if (on[0].revents && !niz_child_listen(c, pipe)) on[0].fd = -1;
    }
}

/* ---- ending ---------------------------------------------------------------------------------- */

static void niz_child_reap(niz_child *c, pid_t pid, niz_child_life life)
{
    int status;
    pid_t r;
    do r = waitpid(pid, &status, 0);
    while (r < 0 && errno == EINTR);
    if (life == NIZ_CHILD_RUNS) return; /* killed by us: the end is known */
    if (r != pid) {
        c->end = NIZ_CHILD_GONE;
    } else if (WIFEXITED(status)) {
        c->end = NIZ_CHILD_EXITED;
        c->detail = WEXITSTATUS(status);
    } else {
        c->end = NIZ_CHILD_SIGNALLED;
        c->detail = WTERMSIG(status);
    }
}

static void niz_child_follow(niz_child *c, pid_t pid, int pipe)
{
    int pidfd = niz_child_pidfd(pid);
    niz_child_life life = niz_child_watch(c, pid, pidfd, pipe);
    if (life != NIZ_CHILD_UNKNOWN) kill(-pid, SIGKILL); /* it, and what it may have left behind */
    niz_child_listen(c, pipe);
    if (pidfd >= 0) close(pidfd);
    if (life == NIZ_CHILD_UNKNOWN) c->end = NIZ_CHILD_GONE;
    else niz_child_reap(c, pid, life);
}

void niz_child_run(niz_child *c)
{
    int ends[2], error;
    pid_t pid;
    c->n_said = 0;
    c->said[0] = 0;
    c->end = NIZ_CHILD_NOT_STARTED;
    if (pipe2(ends, O_CLOEXEC)) {
        c->detail = errno;
        return;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK); /* this end alone: the child's must block */
    error = niz_child_spawn(c, ends[1], &pid);
    close(ends[1]);
    if (error) c->detail = error;
    else niz_child_follow(c, pid, ends[0]);
    close(ends[0]);
}
