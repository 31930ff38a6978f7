/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Renewal of the own record and the judging of another node, with random answers at random times.
 *
 * Asserted: a step at the deadline asks for something or moves the deadline (no spinning), few requests in bad times,
 * recovery in good ones; a dead process is not taken for alive for longer than patience lasts, and one whose
 * heartbeats arrive in time is never taken for dead.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "core/hint.h"

#define TTL_MS 900u
#define RENEW_MS (TTL_MS / 3)
#define PATIENCE_MS (TTL_MS * 102 / 100 + 50)
#define DELAY_MAX_MS (TTL_MS / 5) /* of an answer */

static uint64_t rng;

static uint64_t rnd(uint64_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (rng >> 11) % n;
}

static struct hadb_hint_config config_of(void)
{
    struct hadb_hint_config config = {.ttl_ms = TTL_MS};
    assert_true(hadb_hint_config_fix(&config));
    return config;
}

/* ---- own record ---- */

static struct {
    struct hadb_hint hint;
    uint64_t now_ms, answer_at_ms, sent_ok_ms;
    unsigned asked;
    bool good, writes; /* good: every request is answered well */
} own;

static void own_answer(void)
{
    static const enum hadb_result bad[] = {HADB_R_OK, HADB_R_UNKNOWN, HADB_R_LOST, HADB_R_UNKNOWN};
    enum hadb_result result = own.good ? HADB_R_OK : bad[rnd(4)];
    own.answer_at_ms = UINT64_MAX;
    if (!own.writes) {
        hadb_hint_read_done(&own.hint, result == HADB_R_LOST ? HADB_R_ABSENT : result, own.now_ms);
        return;
    }
    if (result == HADB_R_OK) {
        own.sent_ok_ms = own.hint.sent_at_ms;
    }
    hadb_hint_write_done(&own.hint, result, own.now_ms);
}

static void own_step(void)
{
    bool due = own.answer_at_ms == UINT64_MAX && hadb_hint_deadline(&own.hint) <= own.now_ms;
    enum hadb_hint_do what = hadb_hint_step(&own.hint, own.now_ms);
    if (what == HADB_HINT_NOTHING) {
        assert_true(!due || hadb_hint_deadline(&own.hint) > own.now_ms);
        return;
    }
    assert_true(own.answer_at_ms == UINT64_MAX); /* one at a time */
    own.asked++;
    own.writes = what == HADB_HINT_WRITE;
    own.answer_at_ms = own.now_ms + rnd(own.good ? 5 : DELAY_MAX_MS);
}

static void own_until(uint64_t end_ms)
{
    while (own.now_ms < end_ms) {
        own.now_ms += rnd(8);
        if (!own.good && rnd(200) == 0) {
            hadb_hint_storage(&own.hint, rnd(2), own.now_ms);
        }
        if (own.now_ms >= own.answer_at_ms) {
            own_answer();
        }
        own_step();
        bool ok = own.sent_ok_ms != 0 && own.now_ms < own.sent_ok_ms + TTL_MS * 98 / 100;
        assert_int_equal(hadb_hint_local_ok(&own.hint, own.now_ms), ok);
    }
}

static void hint__renews_again_after_any_bad_time(void **state)
{
    (void)state;
    struct hadb_hint_config config = config_of();
    for (uint64_t seed = 1; seed <= 300; seed++) {
        rng = seed * 0x9E3779B97F4A7C15ull;
        memset(&own, 0, sizeof own);
        own.now_ms = 1000;
        own.answer_at_ms = UINT64_MAX;
        hadb_hint_init(&own.hint, &config);
        for (int i = 0; i < 5; i++) {
            own.good = false;
            own.asked = 0;
            uint64_t bad_ms = 1 + rnd(20000);
            own_until(own.now_ms + bad_ms);
            assert_in_range(own.asked, 0, 4 + 3 * bad_ms / (RENEW_MS / 8));
            own.good = true;
            hadb_hint_storage(&own.hint, true, own.now_ms);
            own_until(own.now_ms + DELAY_MAX_MS + RENEW_MS + 100);
            own.asked = 0;
            own_until(own.now_ms + 10 * RENEW_MS);
            assert_true(hadb_hint_local_ok(&own.hint, own.now_ms));
            assert_in_range(own.asked, 8, 12);
        }
        hadb_hint_close(&own.hint, own.now_ms);
        own_until(own.now_ms + 100);
        assert_int_equal(own.hint.state, HADB_HINT_FREE);
        assert_true(hadb_hint_deadline(&own.hint) == UINT64_MAX);
    }
}

/* ---- another node ---- */

static struct {
    struct hadb_watch watch;
    struct hadb_id id;
    uint64_t now_ms, answer_at_ms, beat_at_ms, counter, died_at_ms, up_since_ms;
    enum hadb_watch_do asked;
    bool alive, stream_up, lease_ok;
    uint64_t seen,
        await_end_ms; /* AWAIT: since when the record has to change, and until when; 0 = none */
} other;

static void other_answer(void)
{
    other.answer_at_ms = UINT64_MAX;
    if (other.asked == HADB_WATCH_READ) {
        bool ok = other.lease_ok && rnd(10) != 0;
        other.seen = ok ? other.counter : other.seen;
        hadb_watch_record(&other.watch, ok ? HADB_R_OK : HADB_R_UNKNOWN, &other.id, other.counter,
                          HADB_HINT_LIVE, other.now_ms);
        return;
    }
    enum hadb_watch_link link = other.alive ? HADB_LINK_CONNECTED : HADB_LINK_REFUSED;
    hadb_watch_connect(&other.watch, rnd(8) ? link : HADB_LINK_NO_ANSWER, other.now_ms);
}

/* It lives or not, whatever can be seen of it. */
static void other_lives(void)
{
    if (!other.alive || other.now_ms < other.beat_at_ms) {
        return;
    }
    other.beat_at_ms = other.now_ms + RENEW_MS;
    other.counter++;
    if (other.stream_up) {
        hadb_watch_alive(&other.watch, other.now_ms);
    }
}

static void other_happens(void)
{
    switch (rnd(300)) {
    case 0:
        if (other.stream_up) {
            other.stream_up = false;
            hadb_watch_stream(&other.watch, false, other.now_ms);
        }
        break;
    case 1:
    case 2:
    case 3:
        if (!other.stream_up && other.alive) {
            other.stream_up = true;
            other.up_since_ms = other.now_ms;
            hadb_watch_stream(&other.watch, true, other.now_ms);
        } else if (!other.stream_up) { /* refused */
            hadb_watch_stream(&other.watch, false, other.now_ms);
        }
        break;
    case 4:
        other.lease_ok = !other.lease_ok;
        break;
    default:
        break;
    }
}

static void other_await(void)
{
    bool failed = !other.lease_ok && rnd(10) == 0, early = rnd(200) == 0;
    bool over = other.now_ms >= other.await_end_ms;
    if (other.await_end_ms != 0 && (failed || early || over || other.seen != other.counter)) {
        other.await_end_ms = 0;
        hadb_watch_changed(&other.watch,
                           failed ? HADB_R_UNKNOWN
                           : over ? HADB_R_ABSENT
                                  : HADB_R_OK,
                           other.now_ms);
    }
}

static void other_step(void)
{
    bool due =
        other.answer_at_ms == UINT64_MAX && hadb_watch_deadline(&other.watch) <= other.now_ms;
    enum hadb_watch_do what = hadb_watch_step(&other.watch, other.now_ms);
    if (what == HADB_WATCH_AWAIT) {
        assert_true(other.await_end_ms == 0);
        other.await_end_ms = other.now_ms + TTL_MS;
        what = hadb_watch_step(&other.watch, other.now_ms);
    }
    if (what != HADB_WATCH_NOTHING) {
        assert_true(other.answer_at_ms == UINT64_MAX); /* one at a time */
        other.asked = what;
        other.answer_at_ms = other.now_ms + rnd(DELAY_MAX_MS);
    } else {
        assert_true(!due || hadb_watch_deadline(&other.watch) > other.now_ms);
    }
}

static void other_until(uint64_t end_ms)
{
    while (other.now_ms < end_ms) {
        other.now_ms += rnd(8);
        other_lives();
        other_happens();
        if (other.now_ms >= other.answer_at_ms) {
            other_answer();
        }
        other_await();
        other_step();
        enum hadb_liveness verdict = hadb_watch_liveness(&other.watch);
        if (other.alive && other.stream_up && other.now_ms > other.up_since_ms) {
            assert_int_equal(verdict, HADB_LIVE_ALIVE);
        }
        /* The last change of its counter may be read as late as one answer and one interval after it died. */
        uint64_t late_ms = other.died_at_ms + PATIENCE_MS + RENEW_MS + DELAY_MAX_MS + 20;
        assert_true(other.alive || other.now_ms < late_ms || verdict != HADB_LIVE_ALIVE);
    }
}

static void watch__verdicts_come_in_time(void **state)
{
    (void)state;
    struct hadb_hint_config config = config_of();
    for (uint64_t seed = 1; seed <= 500; seed++) {
        rng = seed * 0x9E3779B97F4A7C15ull;
        memset(&other, 0, sizeof other);
        other.now_ms = 1000;
        other.answer_at_ms = UINT64_MAX;
        other.alive = other.lease_ok = true;
        memset(&other.id, 7, sizeof other.id);
        config.tells = seed % 2 == 0;
        hadb_watch_init(&other.watch, &config, &other.id, other.now_ms);
        other_until(other.now_ms + rnd(20000));
        other.alive = false;
        other.died_at_ms = other.now_ms;
        bool pause = rnd(2); /* a stopped process keeps its connections */
        if (!pause && other.stream_up) {
            other.stream_up = false;
            hadb_watch_stream(&other.watch, false, other.now_ms);
        }
        other_until(other.now_ms + 10000);
        if (pause) { /* and may go on */
            other.alive = true;
            other.up_since_ms = other.now_ms + RENEW_MS;
            other_until(other.now_ms + 10000);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hint__renews_again_after_any_bad_time),
        cmocka_unit_test(watch__verdicts_come_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
