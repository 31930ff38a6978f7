/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thin wrappers over pthread that check what pthread leaves to luck: lock order, results, signals.
 *
 * Thread: any.
 * Invariants: a ranked lock is taken only while all ranked locks held by the thread have lower ranks, so
 * no cycle of waiting threads can form.
 */
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/error.h"

#ifndef NDEBUG
static _Thread_local unsigned held[HADB_MUTEX_HELD_MAX]; /* ranks, ascending */
static _Thread_local unsigned held_len;

static void rank_push(unsigned rank)
{
    if (rank) {
        HADB_ASSERT(held_len < HADB_MUTEX_HELD_MAX);
        HADB_ASSERT(held_len == 0 || held[held_len - 1] < rank);
        held[held_len++] = rank;
    }
}

static void rank_pop(unsigned rank)
{
    if (!rank) {
        return;
    }
    unsigned at = held_len;
    while (at > 0 && held[at - 1] != rank) {
        at--;
    }
    HADB_ASSERT(at > 0); /* unlocked by the thread that locked it */
    memmove(&held[at - 1], &held[at], (held_len - at) * sizeof held[0]);
    held_len--;
}
#else
static void rank_push(unsigned rank)
{
    (void)rank;
}

static void rank_pop(unsigned rank)
{
    (void)rank;
}
#endif

static void must(int r)
{
    HADB_ASSERT(r == 0);
}

void hadb_mutex_init(struct hadb_mutex *mutex, unsigned rank)
{
    must(pthread_mutex_init(&mutex->mu, NULL));
    mutex->rank = rank;
}

void hadb_mutex_deinit(struct hadb_mutex *mutex)
{
    must(pthread_mutex_destroy(&mutex->mu));
}

void hadb_mutex_lock(struct hadb_mutex *mutex)
{
    rank_push(mutex->rank);
    must(pthread_mutex_lock(&mutex->mu));
}

void hadb_mutex_unlock(struct hadb_mutex *mutex)
{
    rank_pop(mutex->rank);
    must(pthread_mutex_unlock(&mutex->mu));
}

void hadb_cond_init(struct hadb_cond *cond)
{
    pthread_condattr_t attr;
    must(pthread_condattr_init(&attr));
    must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    must(pthread_cond_init(&cond->cond, &attr));
    must(pthread_condattr_destroy(&attr));
}

void hadb_cond_deinit(struct hadb_cond *cond)
{
    must(pthread_cond_destroy(&cond->cond));
}

void hadb_cond_wait(struct hadb_cond *cond, struct hadb_mutex *mutex)
{
    must(pthread_cond_wait(&cond->cond, &mutex->mu));
}

bool hadb_cond_wait_ms(struct hadb_cond *cond, struct hadb_mutex *mutex, uint64_t ms)
{
    struct timespec until;
    must(clock_gettime(CLOCK_MONOTONIC, &until));
    uint64_t seconds = ms / 1000;
    if (seconds > INT32_MAX) {
        hadb_cond_wait(cond, mutex);
        return true;
    }
    until.tv_sec += (time_t)seconds;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    int r = pthread_cond_timedwait(&cond->cond, &mutex->mu, &until);
    HADB_ASSERT(r == 0 || r == ETIMEDOUT);
    return r == 0;
}

void hadb_cond_signal(struct hadb_cond *cond)
{
    must(pthread_cond_signal(&cond->cond));
}

void hadb_cond_broadcast(struct hadb_cond *cond)
{
    must(pthread_cond_broadcast(&cond->cond));
}

struct start {
    void (*fn)(void *arg);
    void *arg;
    char name[16];
};

static void *thread_main(void *arg)
{
    struct start start = *(struct start *)arg;
    hadb_free(arg);
    pthread_setname_np(pthread_self(), start.name); /* for ps and debuggers; may fail in peace */
    start.fn(start.arg);
    return NULL;
}

int hadb_thread_start(struct hadb_thread *thread, const char *name, void (*fn)(void *arg),
                      void *arg, struct hadb_error *err)
{
    struct start *start = hadb_malloc(sizeof *start);
    if (!start) {
        return hadb_fail_nomem(err);
    }
    *start = (struct start){.fn = fn, .arg = arg};
    snprintf(start->name, sizeof start->name, "%s", name);
    sigset_t all, before;
    sigfillset(&all);
    must(pthread_sigmask(SIG_SETMASK, &all, &before));
    int r = pthread_create(&thread->id, NULL, thread_main, start);
    must(pthread_sigmask(SIG_SETMASK, &before, NULL));
    if (r != 0) {
        hadb_free(start);
        return hadb_fail(err, HADB_EUNAVAIL, "start thread %s: no more threads allowed", name);
    }
    thread->running = true;
    return 0;
}

void hadb_thread_join(struct hadb_thread *thread)
{
    if (thread->running) {
        must(pthread_join(thread->id, NULL));
        thread->running = false;
    }
}
