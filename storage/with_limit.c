/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns back-pressure: how many requests a store sees at once, and how many may wait for that.
 *
 * Thread: any; the mutex guards the queue and is not held over requests.
 * Invariants: 1 <= room <= running_max; no request starts while room or more are running; requests start in order of
 * arrival; nobody waits while there is room.
 * Happy path: room is free, the request goes in. A store that asks to slow down (503, 429) halves the room, once for
 * all requests that were under way together; as many answers in a row as there is room add one place again.
 * Failure modes: HADB_EBUSY when the queue is full; deadline or cancel while waiting. In all of them nothing was sent.
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
    bool admitted;  /* mu */
    uint64_t epoch; /* mu: at which it was admitted */
    struct waiter *next;
};

struct limit {
    struct hadb__wrapper w;
    struct hadb_limit_options options; /* const after init; no zeros */
    struct hadb_mutex mu;
    uint32_t running, waiting;   /* mu */
    uint32_t room;               /* mu: how many may run now */
    uint32_t answered;           /* mu: since the room changed */
    uint64_t epoch;              /* mu: how often it was halved */
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
static int wait_turn(struct limit *l, const struct hadb__request *request, uint64_t *epoch,
                     struct hadb_error *err)
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
    *epoch = me.epoch;
    hadb_cond_deinit(&me.woken);
    return r;
}

static int enter(struct limit *l, const struct hadb__request *request, uint64_t *epoch,
                 struct hadb_error *err)
{
    int r = 0;
    hadb_mutex_lock(&l->mu);
    if (l->running < l->room) {
        HADB_ASSERT(l->waiting == 0);
        l->running++;
        *epoch = l->epoch;
    } else if (l->waiting < l->options.waiting_max) {
        r = wait_turn(l, request, epoch, err);
    } else {
        r = hadb_fail(err, HADB_EBUSY, "%u requests run and %u wait, nothing sent", l->running,
                      l->options.waiting_max);
    }
    hadb_mutex_unlock(&l->mu);
    return r;
}

/* Lock held. What an answer says of the room: halved at most once by the requests of one epoch. */
static void learn(struct limit *l, int r, int http_status, uint64_t epoch)
{
    bool slow_down = r < 0 && (http_status == 503 || http_status == 429);
    bool answered = r >= 0 || http_status != 0; /* not silence, nor a breaker that is open */
    if (slow_down && epoch == l->epoch) {
        l->room = HADB_MAX(l->room / 2, 1u);
        l->answered = 0;
        l->epoch++;
        hadb_log(l->w.env, HADB_LOG_DEBUG, "storage", NULL,
                 "the store asks to slow down: at most %u requests at a time", l->room);
    } else if (answered && !slow_down && l->room < l->options.running_max &&
               ++l->answered >= l->room) {
        l->room++;
        l->answered = 0;
    }
}

/* Places that are free go to whoever has waited longest. */
static void leave(struct limit *l, int r, int http_status, uint64_t epoch)
{
    hadb_mutex_lock(&l->mu);
    HADB_ASSERT(l->running > 0);
    l->running--;
    learn(l, r, http_status, epoch);
    while (l->first && l->running < l->room) {
        struct waiter *next = l->first;
        leave_queue(l, next);
        next->admitted = true;
        next->epoch = l->epoch;
        l->running++;
        hadb_cond_signal(&next->woken);
    }
    hadb_mutex_unlock(&l->mu);
}

static int limit_around(void *self, const struct hadb__request *request, struct hadb_error *err)
{
    struct limit *l = self;
    struct hadb_error own = {0};
    uint64_t epoch = 0;
    err = err ? err : &own;
    int r = hadb__request_check(&l->w, request, err);
    if (r == 0) {
        r = enter(l, request, &epoch, err);
    }
    if (r) {
        return r;
    }
    r = hadb__request_send(&l->w.inner, request, err);
    leave(l, r, r < 0 ? err->http_status : 0, epoch);
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

uint32_t hadb_storage_limit_room(const struct hadb_storage *storage)
{
    HADB_ASSERT(storage->ops == &limit_ops);
    struct limit *l = storage->self;
    hadb_mutex_lock(&l->mu);
    uint32_t room = l->room;
    hadb_mutex_unlock(&l->mu);
    return room;
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
    self->room = o.running_max;
    hadb_mutex_init(&self->mu, 0);
    return 0;
}
