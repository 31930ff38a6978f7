/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns the circuit breaker: a store in trouble is left alone, and tried by one call at a time.
 *
 *   closed --failures_max in a row--> open --open_ms over, next call--> half open (one probe)
 *   half open --probe done--> closed        half open --probe failed--> open
 *   half open --probe says nothing (cancelled, bad argument)--> open, next call probes
 *
 * Thread: any; the mutex guards the state and is not held over requests.
 * Invariants: time is env's boot-time clock; while half open one request has the vote, and only it moves the state (late
 * results of older requests do not). It loses the vote to the next request after HADB_BREAKER_PROBE_MS_MAX: it may be
 * large, or on a connection that is dead. An answer closes the breaker also then.
 * Failure modes: HADB_EUNAVAIL, nothing sent, while open.
 */
#include <stdio.h>

#include "base/env.h"
#include "base/error.h"
#include "base/thread.h"
#include "storage/wrap.h"
#include "storage/wrapper_private.h"

struct breaker {
    struct hadb__wrapper w;
    struct hadb_breaker_options options; /* const after init; no zeros */
    struct hadb_mutex mu;
    enum hadb_breaker_state state; /* mu */
    uint32_t failures;             /* mu; in a row, while closed */
    uint64_t probe_at_ms; /* mu; when the next request becomes the probe; not while closed */
    uint64_t probes;      /* mu; the number of the one that has the vote */
    char why[160];        /* mu; the failure that opened it */
};

/* The one place where the state changes. Lock held. */
static void move_to(struct breaker *b, enum hadb_breaker_state state, uint64_t probe_at_ms)
{
    static const bool allowed[3][3] = {
        [HADB_BREAKER_CLOSED] = {[HADB_BREAKER_OPEN] = true},
        [HADB_BREAKER_OPEN] = {[HADB_BREAKER_HALF_OPEN] = true},
        [HADB_BREAKER_HALF_OPEN] = {[HADB_BREAKER_CLOSED] = true, [HADB_BREAKER_OPEN] = true},
    };
    HADB_ASSERT(allowed[b->state][state]);
    b->state = state;
    b->failures = 0;
    b->probe_at_ms = probe_at_ms;
}

/* May a request go in? frame->probe: it is the one that decides. */
static int admit(struct breaker *b, struct hadb__frame *f)
{
    uint64_t now_ms = hadb_now_ms(b->w.env);
    hadb_mutex_lock(&b->mu);
    bool in = b->state == HADB_BREAKER_CLOSED;
    if (!in && now_ms >= b->probe_at_ms) {
        if (b->state == HADB_BREAKER_OPEN) {
            move_to(b, HADB_BREAKER_HALF_OPEN, 0);
        }
        b->probe_at_ms = now_ms + HADB_BREAKER_PROBE_MS_MAX;
        f->epoch = ++b->probes;
        in = f->probe = true;
    }
    int r =
        in ? 0
           : hadb_fail(&f->err, HADB_EUNAVAIL,
                       "the store is failing (%s), nothing sent while the breaker is open", b->why);
    hadb_mutex_unlock(&b->mu);
    return r;
}

enum verdict { WELL, TROUBLE, NOTHING_SAID };

/* An answer, even "no", shows that the store is there. Too much to do in this process says nothing of it. */
static enum verdict judge(int r, const struct hadb_error *cause)
{
    if (r >= 0) {
        return WELL;
    }
    if (r == HADB_EBUSY && cause->http_status == 0) {
        return NOTHING_SAID;
    }
    return r == HADB_ETIMEDOUT || r == HADB_EIO || r == HADB_EUNAVAIL || cause->retryable
               ? TROUBLE
               : NOTHING_SAID;
}

static bool settle_probe(struct breaker *b, enum verdict verdict, uint64_t now_ms)
{
    if (verdict == WELL) {
        move_to(b, HADB_BREAKER_CLOSED, 0);
    } else {
        move_to(b, HADB_BREAKER_OPEN, verdict == TROUBLE ? now_ms + b->options.open_ms : now_ms);
    }
    return verdict != NOTHING_SAID;
}

static bool count(struct breaker *b, enum verdict verdict, uint64_t now_ms)
{
    if (b->state != HADB_BREAKER_CLOSED || verdict == NOTHING_SAID) {
        return false;
    }
    b->failures = verdict == WELL ? 0 : b->failures + 1;
    if (b->failures < b->options.failures_max) {
        return false;
    }
    move_to(b, HADB_BREAKER_OPEN, now_ms + b->options.open_ms);
    return true;
}

/* Takes note of a result; logs when the state changed. */
static bool breaker_after(struct hadb__frame *f)
{
    struct breaker *b = (struct breaker *)f->w;
    enum verdict verdict = f->elsewhere ? NOTHING_SAID : judge(f->r, &f->err);
    uint64_t now_ms = hadb_now_ms(b->w.env);
    hadb_mutex_lock(&b->mu);
    bool votes = f->probe && b->state == HADB_BREAKER_HALF_OPEN &&
                 (f->epoch == b->probes || verdict == WELL);
    bool moved = votes ? settle_probe(b, verdict, now_ms) : count(b, verdict, now_ms);
    enum hadb_breaker_state state = b->state;
    if (moved) {
        snprintf(b->why, sizeof b->why, "%.150s", f->err.message);
    }
    hadb_mutex_unlock(&b->mu);
    if (moved && state == HADB_BREAKER_CLOSED) {
        hadb_log(b->w.env, HADB_LOG_INFO, "storage", NULL, "breaker closed, store answers again");
    } else if (moved) {
        hadb_log(b->w.env, HADB_LOG_WARN, "storage", NULL, "breaker open for %u ms: %s",
                 b->options.open_ms, f->err.message);
    }
    return false;
}

static int breaker_before(struct hadb__frame *f)
{
    struct breaker *b = (struct breaker *)f->w;
    int r = hadb__request_check(&b->w, &f->request, &f->err);
    return r ? r : admit(b, f); /* a request that is late says nothing about the store */
}

static void breaker_deinit(void *self)
{
    struct breaker *b = self;
    hadb_mutex_deinit(&b->mu);
}

static const struct hadb__steps breaker_steps = {
    .before = breaker_before, .after = breaker_after, .deinit = breaker_deinit};

static const struct hadb_storage_ops breaker_ops = {
    HADB__WRAPPER_METHODS,
    .scheme = "with_breaker",
};

enum hadb_breaker_state hadb_storage_breaker_state(const struct hadb_storage *storage)
{
    HADB_ASSERT(storage->ops == &breaker_ops);
    struct breaker *b = storage->self;
    hadb_mutex_lock(&b->mu);
    enum hadb_breaker_state state = b->state;
    hadb_mutex_unlock(&b->mu);
    return state;
}

int hadb_storage_with_breaker(struct hadb_storage *take_inner,
                              const struct hadb_breaker_options *options,
                              const struct hadb_env *env, struct hadb_storage *out,
                              struct hadb_error *err)
{
    struct hadb_breaker_options o = options ? *options : (struct hadb_breaker_options){0};
    o.failures_max = o.failures_max ? o.failures_max : 8;
    o.open_ms = o.open_ms ? o.open_ms : 1000;
    int r = hadb_storage_check(take_inner, err);
    if (r) {
        return r;
    }
    struct breaker *self =
        hadb__wrapper_new(sizeof(*self), take_inner, env, &breaker_ops, &breaker_steps, out);
    if (!self) {
        return hadb_fail_nomem(err);
    }
    self->options = o;
    hadb_mutex_init(&self->mu, 0);
    return 0;
}
