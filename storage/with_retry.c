/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns the only loop that repeats storage requests.
 *
 * Thread: any; constant after it was made, every request has its own count.
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

static bool worth_another(const struct hadb__frame *f)
{
    if (f->r >= 0 || f->elsewhere || !f->err.retryable) {
        return false;
    }
    return f->r != HADB_ETIMEDOUT || !hadb_storage_op_writes(f->request.op);
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

static bool retry_after(struct hadb__frame *f)
{
    const struct retry *retry = (const struct retry *)f->w;
    const struct hadb_call *call = f->request.call;
    f->tries++;
    if (f->r >= 0) {
        return false;
    }
    f->wait_ms = pick_wait(retry, f->tries);
    if (!worth_another(f) || f->tries == retry->options.tries_max ||
        f->wait_ms >= hadb_call_left_ms(retry->w.env, call) || hadb_call_cancelled(call)) {
        if (f->tries > 1) {
            hadb_wrap(&f->err, f->r, "after %u tries", f->tries);
        }
        return false;
    }
    hadb_log(retry->w.env, HADB_LOG_DEBUG, "storage", call ? call->database : NULL,
             "%s again in %llu ms: %s", hadb_storage_op_name(f->request.op),
             (unsigned long long)f->wait_ms, f->err.message);
    return true;
}

static void retry_pause(struct hadb__frame *f)
{
    const struct retry *retry = (const struct retry *)f->w;
    retry->options.sleep(retry->options.sleep_arg, f->wait_ms, f->request.call);
}

static const struct hadb__steps retry_steps = {.after = retry_after, .pause = retry_pause};

static const struct hadb_storage_ops retry_ops = {
    HADB__WRAPPER_METHODS,
    .scheme = "with_retry",
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
        hadb__wrapper_new(sizeof(*self), take_inner, env, &retry_ops, &retry_steps, out);
    if (!self) {
        return hadb_fail_nomem(err);
    }
    self->options = o;
    return 0;
}
