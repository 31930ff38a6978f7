/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The application's thread. Owns the queue of callbacks.
 *
 * Thread: posting from any; running on its own.
 * Invariants: order of posting is order of running; no lock is held while a callback runs.
 * Failure modes: none after the start; a callback that never returns delays close, nothing else.
 */
#include "node/callbacks.h"

static void run(void *arg)
{
    struct hadb_callbacks *callbacks = arg;
    hadb_mutex_lock(&callbacks->mu);
    for (;;) {
        while (!callbacks->head && !callbacks->stop) {
            hadb_cond_wait(&callbacks->cond, &callbacks->mu);
        }
        struct hadb_callback *callback = callbacks->head;
        if (!callback) {
            break;
        }
        callbacks->head = callback->next;
        if (!callbacks->head) {
            callbacks->tail = NULL;
        }
        callbacks->len--;
        hadb_mutex_unlock(&callbacks->mu);
        callback->fn(callback->arg);
        hadb_mutex_lock(&callbacks->mu);
    }
    hadb_mutex_unlock(&callbacks->mu);
}

int hadb_callbacks_start(struct hadb_callbacks *callbacks, struct hadb_error *err)
{
    *callbacks = (struct hadb_callbacks){0};
    hadb_mutex_init(&callbacks->mu, 0);
    hadb_cond_init(&callbacks->cond);
    int r = hadb_thread_start(&callbacks->thread, "hadb-callback", run, callbacks, err);
    if (r < 0) {
        hadb_cond_deinit(&callbacks->cond);
        hadb_mutex_deinit(&callbacks->mu);
        return r;
    }
    callbacks->started = true;
    return 0;
}

void hadb_callbacks_stop(struct hadb_callbacks *callbacks)
{
    if (!callbacks->started) {
        return;
    }
    HADB_ASSERT(!hadb_callbacks_on(callbacks));
    hadb_mutex_lock(&callbacks->mu);
    callbacks->stop = true;
    hadb_cond_broadcast(&callbacks->cond);
    hadb_mutex_unlock(&callbacks->mu);
    hadb_thread_join(&callbacks->thread);
    hadb_cond_deinit(&callbacks->cond);
    hadb_mutex_deinit(&callbacks->mu);
    callbacks->started = false;
}

void hadb_callbacks_post(struct hadb_callbacks *callbacks, struct hadb_callback *callback)
{
    HADB_ASSERT(callbacks->started && callback->fn);
    callback->next = NULL;
    hadb_mutex_lock(&callbacks->mu);
    if (callbacks->tail) {
        callbacks->tail->next = callback;
    } else {
        callbacks->head = callback;
    }
    callbacks->tail = callback;
    callbacks->len++;
    hadb_cond_signal(&callbacks->cond);
    hadb_mutex_unlock(&callbacks->mu);
}

size_t hadb_callbacks_len(struct hadb_callbacks *callbacks)
{
    hadb_mutex_lock(&callbacks->mu);
    size_t len = callbacks->len;
    hadb_mutex_unlock(&callbacks->mu);
    return len;
}

bool hadb_callbacks_on(const struct hadb_callbacks *callbacks)
{
    return callbacks->started && pthread_equal(callbacks->thread.id, pthread_self()) != 0;
}
