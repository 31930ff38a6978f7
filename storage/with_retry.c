/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns the only loop that repeats storage requests.
 *
 * Thread: any; constant after it was made, every call has its own loop.
 * Invariants: a write whose outcome is unknown leaves at once, core/ decides what becomes of it; a call
 * never waits past its deadline.
 * Happy path: one request. Failure modes: the last failure of the inner backend, with the number of tries.
 */
#include "base/env.h"
#include "base/error.h"
#include "storage/wrap.h"
#include "storage/wrapper_private.h"

struct retry {
    struct hadb__wrapper w;
    struct hadb_retry_options options; /* const after init; no zeros */
};

static bool worth_another(enum hadb_storage_op op, int r, const struct hadb_error *cause)
{
    if (r >= 0 || !cause->retryable) {
        return false;
    }
    return r != HADB_ETIMEDOUT || !hadb_storage_op_writes(op);
}

/* Full jitter: anything from 0 to the bound, which doubles with each try. */
static uint64_t pick_wait(const struct retry *self, uint32_t tries)
{
    uint64_t bound = self->options.wait_ms_min;
    for (uint32_t i = 1; i < tries && bound < self->options.wait_ms_max; i++) {
        bound *= 2;
    }
    bound = HADB_MIN(bound, (uint64_t)self->options.wait_ms_max);
    uint64_t dice = 0;
    hadb_random(self->w.env, &dice, sizeof(dice));
    return dice % (bound + 1);
}

static int retry_around(void *self, const struct hadb__request *request, struct hadb_error *err)
{
    struct retry *retry = self;
    struct hadb_error cause = {0};
    for (uint32_t tries = 1;; tries++) {
        int r = hadb__request_send(&retry->w.inner, request, &cause);
        if (r >= 0) {
            return r;
        }
        uint64_t wait_ms = pick_wait(retry, tries);
        if (!worth_another(request->op, r, &cause) || tries == retry->options.tries_max ||
            wait_ms >= hadb_call_left_ms(retry->w.env, request->call) ||
            hadb_call_cancelled(request->call)) {
            if (err) {
                *err = cause;
            }
            return tries > 1 ? hadb_wrap(err, r, "after %u tries", tries) : r;
        }
        hadb_log(retry->w.env, HADB_LOG_DEBUG, "storage",
                 request->call ? request->call->database : NULL, "%s again in %llu ms: %s",
                 hadb_storage_op_name(request->op), (unsigned long long)wait_ms, cause.message);
        retry->options.sleep(retry->options.sleep_arg, wait_ms, request->call);
        cause = (struct hadb_error){0};
    }
}

static const struct hadb_storage_ops retry_ops = {
    HADB__WRAPPER_METHODS,
    .scheme = "with_retry",
    .close = hadb__wrapper_close,
};

static void sleep_on_the_clock(void *arg, uint64_t ms, const struct hadb_call *call)
{
    (void)arg;
    hadb_sleep_ms(ms, call);
}

int hadb_storage_with_retry(struct hadb_storage *take_inner,
                            const struct hadb_retry_options *options, const struct hadb_env *env,
                            struct hadb_storage *out, struct hadb_error *err)
{
    struct hadb_retry_options o = options ? *options : (struct hadb_retry_options){0};
    o.tries_max = o.tries_max ? o.tries_max : 5;
    o.wait_ms_min = o.wait_ms_min ? o.wait_ms_min : 10;
    o.wait_ms_max = o.wait_ms_max ? o.wait_ms_max : 2000;
    if (!o.sleep) {
        o.sleep = sleep_on_the_clock;
    }
    int r = hadb_storage_check(take_inner, err);
    if (r) {
        return r;
    }
    struct retry *self =
        hadb__wrapper_new(sizeof(*self), take_inner, env, &retry_ops, retry_around, out);
    if (!self) {
        return hadb_fail_nomem(err);
    }
    self->options = o;
    return 0;
}
