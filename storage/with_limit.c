/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns back-pressure: how many requests a store sees at once, and how many may wait for that.
 *
 * Thread: any; the mutex guards the queue and is not held over requests. Threads and asynchronous requests wait in one
 * queue; whoever gives a place to one of the latter wakes the thread that drives.
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

struct limit {
    struct hadb__wrapper w;
    struct hadb_limit_options options; /* const after init; no zeros */
    struct hadb_mutex mu;
    uint32_t running, waiting;        /* mu */
    uint32_t room;                    /* mu: how many may run now */
    uint32_t answered;                /* mu: since the room changed */
    uint64_t epoch;                   /* mu: how often it was halved */
    struct hadb__frame *first, *last; /* mu: who waits, of both kinds */
    struct hadb__frame *let_in; /* mu: asynchronous ones that have a place and do not know it yet */
    uint32_t parked;            /* mu: asynchronous ones that wait */
    uint64_t look_at_ms;        /* thread of submit and drive */
};

static void enqueue(struct limit *l, struct hadb__frame *f)
{
    f->next = NULL;
    *(l->last ? &l->last->next : &l->first) = f;
    l->last = f;
    l->waiting++;
    l->parked += f->async;
}

static void leave_queue(struct limit *l, struct hadb__frame *f)
{
    struct hadb__frame *before = NULL;
    for (struct hadb__frame *at = l->first; at != f; at = at->next) {
        HADB_ASSERT(at);
        before = at;
    }
    *(before ? &before->next : &l->first) = f->next;
    l->last = l->last == f ? before : l->last;
    l->waiting--;
    l->parked -= f->async;
}

/* Waits in the queue; 0 = let in. Lock held, and let go while waiting. */
static int wait_turn(struct limit *l, struct hadb__frame *f)
{
    struct hadb_cond woken;
    int r = 0;
    hadb_cond_init(&woken);
    f->cond = &woken;
    while (!f->let_in && r == 0) {
        hadb_cond_wait_ms(&woken, &l->mu, HADB_WRAPPER_LOOK_MS);
        r = f->let_in ? 0 : hadb__request_check(&l->w, &f->request, &f->err);
    }
    if (r) {
        leave_queue(l, f);
    }
    hadb_cond_deinit(&woken);
    return r;
}

static int limit_before(struct hadb__frame *f)
{
    struct limit *l = (struct limit *)f->w;
    int r = hadb__request_check(&l->w, &f->request, &f->err);
    if (r) {
        return r;
    }
    hadb_mutex_lock(&l->mu);
    if (l->running < l->room) {
        HADB_ASSERT(l->waiting == 0);
        l->running++;
        f->epoch = l->epoch;
    } else if (l->waiting < l->options.waiting_max) {
        enqueue(l, f);
        r = f->async ? HADB__PARKED : wait_turn(l, f);
    } else {
        r = hadb_fail(&f->err, HADB_EBUSY, "%u requests run and %u wait, nothing sent", l->running,
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

/* Lock held. Places that are free go to whoever has waited longest. True: asynchronous ones must be told. */
static bool let_in(struct limit *l)
{
    bool tell = false;
    while (l->first && l->running < l->room) {
        struct hadb__frame *next = l->first;
        leave_queue(l, next);
        next->let_in = true;
        next->epoch = l->epoch;
        l->running++;
        if (next->cond) {
            hadb_cond_signal(next->cond);
            continue;
        }
        struct hadb__frame **end = &l->let_in;
        while (*end) {
            end = &(*end)->next;
        }
        next->next = NULL;
        *end = next;
        tell = true;
    }
    return tell;
}

static bool limit_after(struct hadb__frame *f)
{
    struct limit *l = (struct limit *)f->w;
    hadb_mutex_lock(&l->mu);
    HADB_ASSERT(l->running > 0);
    l->running--;
    if (!f->elsewhere) {
        learn(l, f->r, f->r < 0 ? f->err.http_status : 0, f->epoch);
    }
    bool tell = let_in(l);
    hadb_mutex_unlock(&l->mu);
    if (tell) {
        hadb__wrapper_wake(&l->w);
    }
    return false;
}

/* Lock held. One that waits no longer: its time is over, or it is cancelled, or the store is closed. */
static struct hadb__frame *overdue(struct limit *l, bool closing)
{
    for (struct hadb__frame *f = l->first; f; f = f->next) {
        int r = 0;
        if (!f->async) {
            continue;
        }
        r = closing ? hadb_fail(&f->err, HADB_ECANCELED, "the store is being closed")
                    : hadb__request_check(&l->w, &f->request, &f->err);
        if (r) {
            leave_queue(l, f);
            f->r = r;
            return f;
        }
    }
    return NULL;
}

static struct hadb__frame *limit_unpark(void *self, bool closing, size_t *parked)
{
    struct limit *l = self;
    uint64_t now_ms = hadb_now_ms(l->w.env);
    hadb_mutex_lock(&l->mu);
    struct hadb__frame *f = l->let_in;
    if (f) {
        l->let_in = f->next;
        f->r = 0;
    } else if (l->parked > 0 && (closing || now_ms >= l->look_at_ms)) {
        f = overdue(l, closing);
        if (!f) {
            l->look_at_ms = now_ms + HADB_WRAPPER_LOOK_MS;
        }
    }
    *parked = l->parked;
    hadb_mutex_unlock(&l->mu);
    return f;
}

static void limit_deinit(void *self)
{
    struct limit *l = self;
    HADB_ASSERT(l->running == 0 && l->waiting == 0);
    hadb_mutex_deinit(&l->mu);
}

static const struct hadb__steps limit_steps = {
    .before = limit_before, .after = limit_after, .unpark = limit_unpark, .deinit = limit_deinit};

static const struct hadb_storage_ops limit_ops = {
    HADB__WRAPPER_METHODS,
    .scheme = "with_limit",
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
        hadb__wrapper_new(sizeof(*self), take_inner, env, &limit_ops, &limit_steps, out);
    if (!self) {
        return hadb_fail_nomem(err);
    }
    self->options = o;
    self->room = o.running_max;
    hadb_mutex_init(&self->mu, 0);
    return 0;
}
