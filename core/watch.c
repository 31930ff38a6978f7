/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: is the process that owns a database alive? (4.6)
 *
 * Owns       the verdict about one incarnation of one other node.
 * Invariants only this node's own clock is read, and only since the last observed change; a time-out is never
 *            evidence of death, a refused connection after a broken stream is, the second time.
 * Happy path heartbeats on the stream -> ALIVE, nothing to do.
 *            No stream, and a lease store that tells of changes: READ, AWAIT, READ, … so that a renewal counts from
 *            when it was written, and FREE or a later life is known at once.
 * Failure    stream broken: two connection checks a few ms apart, both refused -> GONE. No stream: read its
 *            record every ttl/3; unchanged for ttl*(1+rho)+margin -> SILENT. Verdicts that proved wrong slow
 *            the next ones down.
 */
#include <string.h>

#include "base/util.h"
#include "core/hint.h"

#define REFUSED_ENOUGH 2u
#define CONNECT_EVERY_MS 3u
#define PAUSE_PARTS 16u /* of ttl/3: between two AWAITs, and the READs they cause, at least */
#define DEAF_MAX 4u     /* AWAITs that failed are spaced ttl/3 * 2^deaf apart */
#define FALSE_ALARMS_MAX \
    10u /* connection checks are spaced 3 ms * 2^false_alarms apart, 3 s at most */

static uint64_t patience_ms(const struct hadb_watch *watch)
{
    return (uint64_t)watch->config.ttl_ms * (100 + watch->config.rho_percent) / 100 +
           watch->config.margin_ms;
}

static void judge(struct hadb_watch *watch, uint64_t now_ms)
{
    if (watch->liveness == HADB_LIVE_FREE) {
        return; /* it said so itself; only a new sign of life takes it back */
    }
    if (now_ms >= watch->alive_at_ms + patience_ms(watch)) {
        watch->liveness = HADB_LIVE_SILENT; /* also after GONE: not every database acts on that */
    } else if (watch->refused >= REFUSED_ENOUGH) {
        watch->liveness = HADB_LIVE_GONE;
    } else {
        watch->liveness = HADB_LIVE_ALIVE;
    }
}

void hadb_watch_init(struct hadb_watch *watch, const struct hadb_hint_config *config,
                     const struct hadb_id *incarnation, uint64_t now_ms)
{
    memset(watch, 0, sizeof *watch);
    watch->config = *config;
    watch->incarnation = *incarnation;
    watch->alive_at_ms = now_ms;
    watch->next_at_ms = now_ms + hadb_hint_renew_every_ms(config);
}

static bool checking_connection(const struct hadb_watch *watch)
{
    return watch->broken && watch->refused < REFUSED_ENOUGH;
}

/* A stream that is silent for longer than this makes its record worth reading: heartbeats come every ttl/3. */
static uint64_t stream_silence_ms(const struct hadb_watch *watch)
{
    return (uint64_t)watch->config.ttl_ms * 2 / 5;
}

static bool may_await(const struct hadb_watch *watch)
{
    return watch->config.tells && watch->record_known && !watch->awaiting;
}

enum hadb_watch_do hadb_watch_step(struct hadb_watch *watch, uint64_t now_ms)
{
    judge(watch, now_ms);
    if (!watch->busy && may_await(watch) && now_ms >= watch->await_at_ms) {
        watch->awaiting = true;
        watch->await_at_ms = now_ms;
        return HADB_WATCH_AWAIT;
    }
    if (watch->busy || now_ms < watch->next_at_ms) {
        return HADB_WATCH_NOTHING;
    }
    watch->busy = true;
    if (checking_connection(watch)) {
        return HADB_WATCH_CONNECT;
    }
    watch->read_at_ms = now_ms;
    /* Where the store tells, reading is only for the case that it does not: a little later than a renewal. */
    watch->next_at_ms = now_ms + (watch->awaiting ? stream_silence_ms(watch)
                                                  : hadb_hint_renew_every_ms(&watch->config));
    return HADB_WATCH_READ;
}

void hadb_watch_alive(struct hadb_watch *watch, uint64_t now_ms)
{
    watch->alive_at_ms = now_ms;
    watch->counter_known = false;
    if (watch->stream_up) { /* a stream is of one process life: no record knows better */
        watch->refused = 0;
        watch->record_known = false;
    }
    if (watch->stream_up && watch->liveness != HADB_LIVE_FREE) {
        watch->next_at_ms = now_ms + stream_silence_ms(watch); /* its record need not be read */
    }
    judge(watch, now_ms);
}

void hadb_watch_stream(struct hadb_watch *watch, bool up, uint64_t now_ms)
{
    watch->stream_up = up;
    if (up) {
        if (watch->refused >= REFUSED_ENOUGH && watch->false_alarms < FALSE_ALARMS_MAX) {
            watch->false_alarms++;
        }
        watch->broken = false;
        watch->refused = 0;
        watch->liveness = HADB_LIVE_ALIVE;
        hadb_watch_alive(watch, now_ms);
    } else if (watch->refused < REFUSED_ENOUGH && !watch->broken) {
        watch->broken = true; /* a refused attempt to open it again does not start the count anew */
        watch->refused = 0;
        watch->next_at_ms = now_ms;
    }
}

void hadb_watch_record(struct hadb_watch *watch, enum hadb_result result,
                       const struct hadb_id *incarnation, uint64_t counter,
                       enum hadb_hint_state state, uint64_t now_ms)
{
    watch->busy = false;
    if (result != HADB_R_OK) {
        judge(watch, now_ms);
        return;
    }
    bool lively = watch->stream_up && now_ms < watch->alive_at_ms + stream_silence_ms(watch);
    watch->record_known = !lively;
    if (memcmp(incarnation, &watch->incarnation, sizeof *incarnation) != 0) {
        if (!lively) {                       /* else the lease store shows the past */
            watch->refused = REFUSED_ENOUGH; /* a later life of that node: this one is over */
        }
    } else if (state == HADB_HINT_FREE) {
        watch->liveness = HADB_LIVE_FREE;
    } else if (watch->liveness == HADB_LIVE_FREE) {
        watch->liveness =
            HADB_LIVE_ALIVE; /* it says so no more; whether it lives is judged below */
    } else if (!watch->counter_known) {
        watch->counter =
            counter; /* written who knows when, maybe before the last heartbeat: no proof of life */
        watch->counter_known = true;
    } else if (counter != watch->counter) {
        watch->counter = counter;
        watch->alive_at_ms = now_ms;
        watch->liveness = HADB_LIVE_ALIVE;
    }
    judge(watch, now_ms);
}

void hadb_watch_changed(struct hadb_watch *watch, enum hadb_result result, uint64_t now_ms)
{
    uint32_t renew_ms = hadb_hint_renew_every_ms(&watch->config);
    watch->awaiting = false;
    if (result == HADB_R_UNKNOWN) {
        watch->await_at_ms = now_ms + ((uint64_t)renew_ms << watch->deaf);
        watch->deaf = (uint8_t)HADB_MIN(watch->deaf + 1u, DEAF_MAX);
        return;
    }
    /* A store that cries wolf is not followed in a loop. */
    uint32_t pause_ms = renew_ms / PAUSE_PARTS;
    watch->deaf = 0;
    watch->await_at_ms = HADB_MAX(now_ms, watch->await_at_ms + pause_ms);
    if (result == HADB_R_OK && watch->record_known) {
        watch->record_known = false; /* to be awaited from what is read now */
        watch->next_at_ms =
            HADB_MIN(watch->next_at_ms, HADB_MAX(now_ms, watch->read_at_ms + pause_ms));
    }
}

void hadb_watch_connect(struct hadb_watch *watch, enum hadb_watch_link link, uint64_t now_ms)
{
    watch->busy = false;
    if (!watch->broken) {
        return; /* the stream is back meanwhile */
    }
    if (link == HADB_LINK_REFUSED) {
        watch->refused++;
        watch->next_at_ms = now_ms + ((uint64_t)CONNECT_EVERY_MS << watch->false_alarms);
    } else { /* it accepts, or nothing answers: no evidence; patience decides */
        watch->broken = false;
        watch->refused = 0;
        watch->next_at_ms = now_ms + hadb_hint_renew_every_ms(&watch->config);
    }
    judge(watch, now_ms);
}

uint64_t hadb_watch_deadline(const struct hadb_watch *watch)
{
    uint64_t silent_at = watch->alive_at_ms + patience_ms(watch);
    uint64_t at = watch->busy ? UINT64_MAX : watch->next_at_ms;
    if (!watch->busy && may_await(watch)) {
        at = HADB_MIN(at, watch->await_at_ms);
    }
    bool may_fall_silent = watch->liveness == HADB_LIVE_ALIVE || watch->liveness == HADB_LIVE_GONE;
    return may_fall_silent ? HADB_MIN(at, silent_at) : at;
}

enum hadb_liveness hadb_watch_liveness(const struct hadb_watch *watch)
{
    return (enum hadb_liveness)watch->liveness;
}
