/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns back-pressure: how many requests a store sees at once, and how many may wait for that.
 *
 * Thread: any; the mutex guards the queue and is not held over requests.
 * Invariants: running <= running_max; requests start in order of arrival; nobody waits while there is room.
 * Happy path: room is free, the request goes in. Failure modes: HADB_EBUSY when the queue is full;
 * deadline or cancel while waiting. In all of them nothing was sent.
 */
#include "base/env.h"
#include "base/error.h"
#include "base/thread.h"
#include "storage/wrap.h"
#include "storage/wrapper_private.h"

#define LIMIT_LOOK_MS 10u /* how late a waiting request may notice its cancel flag or deadline */

/* Lives on the stack of the thread that waits. */
struct waiter {
    struct hadb_cond woken;
    bool admitted; /* mu */
    struct waiter *next;
};

struct limit {
    struct hadb__wrapper w;
    struct hadb_limit_options options; /* const after init; no zeros */
    struct hadb_mutex mu;
    uint32_t running, waiting;   /* mu */
    struct waiter *first, *last; /* mu */
};

static void enqueue(struct limit *l, struct waiter *me)
{
    *(l->last ? &l->last->next : &l->first) = me;
    l->last = me;
    l->waiting++;
}

static void leave_queue(struct limit *l, struct waiter *me)
{
    struct waiter *before = NULL;
    for (struct waiter *at = l->first; at != me; at = at->next) {
        HADB_ASSERT(at);
        before = at;
    }
    *(before ? &before->next : &l->first) = me->next;
    l->last = l->last == me ? before : l->last;
    l->waiting--;
}

/* Waits in the queue; 0 = admitted. Lock held, and let go while waiting. */
static int wait_turn(struct limit *l, const struct hadb__request *request, struct hadb_error *err)
{
    struct waiter me = {0};
    int r = 0;
    hadb_cond_init(&me.woken);
    enqueue(l, &me);
    while (!me.admitted && r == 0) {
        hadb_cond_wait_ms(&me.woken, &l->mu, LIMIT_LOOK_MS);
        r = me.admitted ? 0 : hadb__request_check(&l->w, request, err);
    }
    if (r) {
        leave_queue(l, &me);
    }
    hadb_cond_deinit(&me.woken);
    return r;
}

static int enter(struct limit *l, const struct hadb__request *request, struct hadb_error *err)
{
    int r = 0;
    hadb_mutex_lock(&l->mu);
    if (l->running < l->options.running_max) {
        HADB_ASSERT(l->waiting == 0);
        l->running++;
    } else if (l->waiting < l->options.waiting_max) {
        r = wait_turn(l, request, err);
    } else {
        r = hadb_fail(err, HADB_EBUSY, "%u requests run and %u wait, nothing sent",
                      l->options.running_max, l->options.waiting_max);
    }
    hadb_mutex_unlock(&l->mu);
    return r;
}

/* The place goes to whoever has waited longest, without being free in between. */
static void leave(struct limit *l)
{
    hadb_mutex_lock(&l->mu);
    struct waiter *next = l->first;
    if (next) {
        leave_queue(l, next);
        next->admitted = true;
        hadb_cond_signal(&next->woken);
    } else {
        HADB_ASSERT(l->running > 0);
        l->running--;
    }
    hadb_mutex_unlock(&l->mu);
}

static int limit_around(void *self, const struct hadb__request *request, struct hadb_error *err)
{
    struct limit *l = self;
    int r = hadb__request_check(&l->w, request, err);
    if (r == 0) {
        r = enter(l, request, err);
    }
    if (r) {
        return r;
    }
    r = hadb__request_send(&l->w.inner, request, err);
    leave(l);
    return r;
}

static void limit_close(void *self)
{
    struct limit *l = self;
    HADB_ASSERT(l->running == 0 && l->waiting == 0);
    hadb_mutex_deinit(&l->mu);
    hadb__wrapper_close(self);
}

static const struct hadb_storage_ops limit_ops = {
    HADB__WRAPPER_METHODS,
    .scheme = "with_limit",
    .close = limit_close,
};

uint32_t hadb_storage_limit_waiting(const struct hadb_storage *storage)
{
    HADB_ASSERT(storage->ops == &limit_ops);
    struct limit *l = storage->self;
    hadb_mutex_lock(&l->mu);
    uint32_t waiting = l->waiting;
    hadb_mutex_unlock(&l->mu);
    return waiting;
}

int hadb_storage_with_limit(struct hadb_storage *take_inner,
                            const struct hadb_limit_options *options, const struct hadb_env *env,
                            struct hadb_storage *out, struct hadb_error *err)
{
    struct hadb_limit_options o = options ? *options : (struct hadb_limit_options){0};
    o.running_max = o.running_max ? o.running_max : 32;
    o.waiting_max = o.waiting_max ? o.waiting_max : 1024;
    int r = hadb_storage_check(take_inner, err);
    if (r) {
        return r;
    }
    struct limit *self =
        hadb__wrapper_new(sizeof(*self), take_inner, env, &limit_ops, limit_around, out);
    if (!self) {
        return hadb_fail_nomem(err);
    }
    self->options = o;
    hadb_mutex_init(&self->mu, 0);
    return 0;
}
