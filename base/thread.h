/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: mutexes with a rank, conditions with a timed wait on the monotonic clock, named threads. */
#ifndef HADB_BASE_THREAD_H
#define HADB_BASE_THREAD_H
#include <pthread.h>

#include "base/util.h"
#include "hadb/error.h"

#define HADB_MUTEX_HELD_MAX 16u /* ranked locks that one thread may hold at once */

/* A thread takes ranked locks in ascending order only; asserted in builds without NDEBUG. */
struct hadb_mutex {
    pthread_mutex_t mu;
    unsigned rank; /* const after init; 0 = not ranked */
};
struct hadb_cond {
    pthread_cond_t cond;
};
struct hadb_thread {
    pthread_t id;
    bool running; /* owner thread */
};

/* Neither can fail on Linux. */
void hadb_mutex_init(struct hadb_mutex *mutex, unsigned rank);
void hadb_mutex_deinit(struct hadb_mutex *mutex);
void hadb_mutex_lock(struct hadb_mutex *mutex);
void hadb_mutex_unlock(struct hadb_mutex *mutex);

void hadb_cond_init(struct hadb_cond *cond);
void hadb_cond_deinit(struct hadb_cond *cond);
/* May wake without a reason: wait in a loop on the condition itself. */
void hadb_cond_wait(struct hadb_cond *cond, struct hadb_mutex *mutex);
/* As hadb_cond_wait, for at most @ms; false when the time is over. UINT64_MAX waits for ever. */
bool hadb_cond_wait_ms(struct hadb_cond *cond, struct hadb_mutex *mutex, uint64_t ms);
void hadb_cond_signal(struct hadb_cond *cond);
void hadb_cond_broadcast(struct hadb_cond *cond);

/* Starts @fn(@arg) under @name (15 bytes show in ps). The thread blocks all signals, which belong to
 * the host program. HADB_ENOMEM, HADB_EUNAVAIL when the system allows no more threads. */
int hadb_thread_start(struct hadb_thread *thread, const char *name, void (*fn)(void *arg),
                      void *arg, struct hadb_error *err);
/* Waits for its end; accepts the zero value and may be called twice. */
void hadb_thread_join(struct hadb_thread *thread);
#endif
