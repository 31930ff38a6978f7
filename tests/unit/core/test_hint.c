/* SPDX-License-Identifier: Apache-2.0 */
/* Renewal of the own record, and judging another node's life. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "core/hint.h"

#define TTL_MS 900u

static struct hadb_hint_config config_of(uint32_t ttl_ms)
{
    struct hadb_hint_config config = {.ttl_ms = ttl_ms};
    assert_true(hadb_hint_config_fix(&config));
    return config;
}

static void config__that_cannot_survive_one_missed_renewal_is_refused(void **state)
{
    (void)state;
    struct hadb_hint_config config = {.ttl_ms = 900, .request_max_ms = 400};
    assert_false(hadb_hint_config_fix(&config));
    struct hadb_hint_config zero = {0};
    assert_false(hadb_hint_config_fix(&zero));
}

static void hint__reads_its_tag_then_renews_every_third_of_the_ttl(void **state)
{
    (void)state;
    struct hadb_hint hint;
    struct hadb_hint_config config = config_of(TTL_MS);
    hadb_hint_init(&hint, &config);
    assert_int_equal(hadb_hint_step(&hint, 1000), HADB_HINT_READ);
    hadb_hint_read_done(&hint, HADB_R_ABSENT, 1001);
    assert_int_equal(hadb_hint_step(&hint, 1001), HADB_HINT_WRITE);
    assert_int_equal(hadb_hint_step(&hint, 1002), HADB_HINT_NOTHING); /* one at a time */
    hadb_hint_write_done(&hint, HADB_R_OK, 1010);
    assert_int_equal(hadb_hint_deadline(&hint), 1001 + 300);
    assert_int_equal(hadb_hint_step(&hint, 1300), HADB_HINT_NOTHING);
    assert_int_equal(hadb_hint_step(&hint, 1301), HADB_HINT_WRITE);
}

/* A reply that is delayed by almost the ttl must not lengthen the time in which LOCAL writes are acknowledged. */
static void local_deadline__counts_from_sending(void **state)
{
    (void)state;
    struct hadb_hint hint;
    struct hadb_hint_config config = config_of(TTL_MS);
    hadb_hint_init(&hint, &config);
    assert_false(hadb_hint_local_ok(&hint, 1000));
    hadb_hint_step(&hint, 1000);
    hadb_hint_read_done(&hint, HADB_R_OK, 1000);
    hadb_hint_step(&hint, 1000);
    hadb_hint_write_done(&hint, HADB_R_OK, 1800);
    assert_true(hadb_hint_local_ok(&hint, 1881));
    assert_false(hadb_hint_local_ok(&hint, 1882)); /* 1000 + 900 * 98 % */
}

static void hint__of_unknown_outcome_is_read_again_before_the_next_write(void **state)
{
    (void)state;
    struct hadb_hint hint;
    struct hadb_hint_config config = config_of(TTL_MS);
    hadb_hint_init(&hint, &config);
    hadb_hint_step(&hint, 1000);
    hadb_hint_read_done(&hint, HADB_R_OK, 1000);
    hadb_hint_step(&hint, 1000);
    hadb_hint_write_done(&hint, HADB_R_UNKNOWN, 1010);
    assert_int_equal(hadb_hint_step(&hint, hadb_hint_deadline(&hint)), HADB_HINT_READ);
    hadb_hint_read_done(&hint, HADB_R_OK, 1100);
    assert_int_equal(hadb_hint_step(&hint, 1100), HADB_HINT_WRITE);
}

/* ---- two processes under one name ---- */

static struct hadb_hint_found found_of(int self_life, int node, int life, uint64_t counter)
{
    struct hadb_hint_found found = {.counter = counter, .ttl_ms = TTL_MS, .state = HADB_HINT_LIVE};
    found.self.node.b[0] = 1;
    found.self.incarnation.b[0] = (uint8_t)self_life;
    found.owner.node.b[0] = (uint8_t)node;
    found.owner.incarnation.b[0] = (uint8_t)life;
    return found;
}

static void read_found(struct hadb_hint *hint, struct hadb_hint_found found, uint64_t now_ms)
{
    assert_int_equal(hadb_hint_step(hint, now_ms), HADB_HINT_READ);
    hadb_hint_found(hint, &found, now_ms);
    hadb_hint_read_done(hint, HADB_R_OK, now_ms);
}

static void namesake__that_was_first_and_lives_keeps_the_record(void **state)
{
    (void)state;
    struct hadb_hint hint;
    struct hadb_hint_config config = config_of(TTL_MS);
    hadb_hint_init(&hint, &config);
    for (uint64_t i = 0; i < 20; i++) { /* it is renewed each time this node looks */
        uint64_t now_ms = i == 0 ? 1000 : hadb_hint_deadline(&hint);
        read_found(&hint, found_of(9, 2, 3, 10 + i), now_ms);
        assert_true(hint.yields);
        assert_int_equal(hadb_hint_deadline(&hint),
                         now_ms + 300); /* no more often than a renewal */
    }
    uint64_t stopped_ms = hadb_hint_deadline(&hint);
    while (hint.yields) {
        read_found(&hint, found_of(9, 2, 3, 29), hadb_hint_deadline(&hint));
        assert_true(hadb_hint_deadline(&hint) < stopped_ms + 2 * TTL_MS);
    }
    assert_int_equal(hadb_hint_step(&hint, hadb_hint_deadline(&hint)), HADB_HINT_WRITE);
}

static void namesake__that_left_its_record_costs_no_more_than_the_ttl(void **state)
{
    (void)state;
    struct hadb_hint hint;
    struct hadb_hint_config config = config_of(TTL_MS);
    hadb_hint_init(&hint, &config);
    read_found(&hint, found_of(1, 2, 3, 10), 1000);
    assert_true(hint.yields);
    while (hint.yields) {
        read_found(&hint, found_of(1, 2, 3, 10), hadb_hint_deadline(&hint));
    }
    assert_true(hadb_hint_deadline(&hint) <= 1000 + TTL_MS);
    assert_int_equal(hadb_hint_step(&hint, hadb_hint_deadline(&hint)), HADB_HINT_WRITE);
}

static void record__of_the_own_former_life_or_free_is_taken_over_at_once(void **state)
{
    (void)state;
    struct hadb_hint hint;
    struct hadb_hint_config config = config_of(TTL_MS);
    hadb_hint_init(&hint, &config);
    read_found(&hint, found_of(1, 1, 3, 10), 1000);
    assert_int_equal(hadb_hint_step(&hint, 1000), HADB_HINT_WRITE);
    hadb_hint_init(&hint, &config);
    struct hadb_hint_found left = found_of(1, 2, 3, 10);
    left.state = HADB_HINT_FREE;
    read_found(&hint, left, 1000);
    assert_int_equal(hadb_hint_step(&hint, 1000), HADB_HINT_WRITE);
}

/* A copied data folder: both have renewed, the record changes hands, one of them lets go. */
static void namesakes__that_both_wrote_are_told_apart_by_their_incarnations(void **state)
{
    (void)state;
    for (int rival = 2; rival <= 6; rival += 4) { /* this one is 4 */
        struct hadb_hint hint;
        struct hadb_hint_config config = config_of(TTL_MS);
        hadb_hint_init(&hint, &config);
        hadb_hint_step(&hint, 1000);
        hadb_hint_read_done(&hint, HADB_R_ABSENT, 1000);
        hadb_hint_step(&hint, 1000);
        hadb_hint_write_done(&hint, HADB_R_OK, 1000);
        uint64_t now_ms = 1300;
        for (uint64_t i = 0; i < 3 && !hint.yields; i++) {
            assert_int_equal(hadb_hint_step(&hint, now_ms), HADB_HINT_WRITE);
            hadb_hint_write_done(&hint, HADB_R_LOST, now_ms);
            now_ms = HADB_MAX(now_ms, hadb_hint_deadline(&hint));
            read_found(&hint, found_of(4, 1, rival, 10 + i), now_ms);
        }
        assert_int_equal(hint.yields, rival > 4);
        hadb_hint_close(&hint, now_ms);
        assert_int_equal(hadb_hint_step(&hint, now_ms),
                         hint.yields ? HADB_HINT_NOTHING : HADB_HINT_WRITE);
    }
}

static void hint__stops_when_storage_is_silent_for_longer_than_the_ttl(void **state)
{
    (void)state;
    struct hadb_hint hint;
    struct hadb_hint_config config = config_of(TTL_MS);
    hadb_hint_init(&hint, &config);
    hadb_hint_step(&hint, 1000);
    hadb_hint_read_done(&hint, HADB_R_OK, 1000);
    hadb_hint_storage(&hint, false, 1000);
    hadb_hint_storage(&hint, false, 1500); /* the first moment counts */
    assert_true(hadb_hint_heartbeat_ok(&hint, 1899));
    assert_false(hadb_hint_heartbeat_ok(&hint, 1900));
    assert_int_equal(hadb_hint_step(&hint, 1900), HADB_HINT_NOTHING);
    hadb_hint_storage(&hint, true, 2000);
    assert_int_equal(hadb_hint_step(&hint, hadb_hint_deadline(&hint)), HADB_HINT_WRITE);
}

static void hint__close_writes_free_once(void **state)
{
    (void)state;
    struct hadb_hint hint;
    struct hadb_hint_config config = config_of(TTL_MS);
    hadb_hint_init(&hint, &config);
    hadb_hint_step(&hint, 1000);
    hadb_hint_read_done(&hint, HADB_R_OK, 1000);
    hadb_hint_close(&hint, 1001);
    assert_int_equal(hadb_hint_step(&hint, 1001), HADB_HINT_WRITE);
    assert_int_equal(hint.state, HADB_HINT_FREE);
    hadb_hint_write_done(&hint, HADB_R_OK, 1002);
    assert_true(hadb_hint_deadline(&hint) == UINT64_MAX);
    assert_int_equal(hadb_hint_step(&hint, 9999), HADB_HINT_NOTHING);
}

static void hint__closed_during_a_renewal_writes_free_at_once(void **state)
{
    (void)state;
    struct hadb_hint hint;
    struct hadb_hint_config config = config_of(TTL_MS);
    hadb_hint_init(&hint, &config);
    hadb_hint_step(&hint, 1000);
    hadb_hint_read_done(&hint, HADB_R_OK, 1000);
    assert_int_equal(hadb_hint_step(&hint, 1000), HADB_HINT_WRITE);
    hadb_hint_close(&hint, 1001);
    hadb_hint_write_done(&hint, HADB_R_OK, 1002);
    assert_int_equal(hadb_hint_step(&hint, 1002), HADB_HINT_WRITE);
    assert_int_equal(hint.state, HADB_HINT_FREE);
}

static struct hadb_watch watch_of(struct hadb_id *incarnation)
{
    struct hadb_watch watch;
    struct hadb_hint_config config = config_of(TTL_MS);
    memset(incarnation, 7, sizeof *incarnation);
    hadb_watch_init(&watch, &config, incarnation, 1000);
    return watch;
}

static void watch__two_refusals_after_a_broken_stream_are_enough(void **state)
{
    (void)state;
    struct hadb_id id;
    struct hadb_watch watch = watch_of(&id);
    hadb_watch_stream(&watch, true, 1000);
    hadb_watch_stream(&watch, false, 1100);
    assert_int_equal(hadb_watch_step(&watch, 1100), HADB_WATCH_CONNECT);
    hadb_watch_connect(&watch, HADB_LINK_REFUSED, 1100);
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_ALIVE);
    assert_int_equal(hadb_watch_step(&watch, hadb_watch_deadline(&watch)), HADB_WATCH_CONNECT);
    hadb_watch_connect(&watch, HADB_LINK_REFUSED, 1104);
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_GONE);
}

static void watch__a_timeout_is_no_evidence(void **state)
{
    (void)state;
    struct hadb_id id;
    struct hadb_watch watch = watch_of(&id);
    hadb_watch_stream(&watch, true, 1000);
    hadb_watch_stream(&watch, false, 1100);
    hadb_watch_step(&watch, 1100);
    hadb_watch_connect(&watch, HADB_LINK_REFUSED, 1100);
    hadb_watch_step(&watch, 1110);
    hadb_watch_connect(&watch, HADB_LINK_NO_ANSWER, 1110);
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_ALIVE);
    /* Patience decides: ttl * 1.02 + 50 after the last sign of life. */
    hadb_watch_step(&watch, 1000 + 968 - 1);
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_ALIVE);
    hadb_watch_step(&watch, 1000 + 968);
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_SILENT);
}

static void watch__a_moving_counter_keeps_it_alive_without_a_stream(void **state)
{
    (void)state;
    struct hadb_id id;
    struct hadb_watch watch = watch_of(&id);
    uint64_t now_ms = 1000;
    for (uint64_t counter = 1; counter < 50; counter++) {
        now_ms += 300;
        assert_int_equal(hadb_watch_step(&watch, now_ms), HADB_WATCH_READ);
        hadb_watch_record(&watch, HADB_R_OK, &id, counter, HADB_HINT_LIVE, now_ms);
        assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_ALIVE);
    }
    for (int i = 0; i < 4; i++) { /* the record is still there, but it does not move */
        now_ms += 300;
        hadb_watch_step(&watch, now_ms);
        hadb_watch_record(&watch, HADB_R_OK, &id, 49, HADB_HINT_LIVE, now_ms);
    }
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_SILENT);
}

/* Its record was read in an earlier silence; the counter has moved since, but maybe before the last heartbeat. */
static void watch__second_silence_lasts_one_patience_too(void **state)
{
    (void)state;
    struct hadb_id id;
    struct hadb_watch watch = watch_of(&id);
    hadb_watch_stream(&watch, true, 1000);
    for (uint64_t now_ms = 1000, counter = 70; now_ms < 3000;
         now_ms = hadb_watch_deadline(&watch)) {
        if (hadb_watch_step(&watch, now_ms) == HADB_WATCH_READ) {
            hadb_watch_record(&watch, HADB_R_OK, &id, counter++, HADB_HINT_LIVE, now_ms);
        }
    }
    hadb_watch_alive(&watch, 4000);
    uint64_t now_ms = 4000;
    while (hadb_watch_liveness(&watch) == HADB_LIVE_ALIVE && now_ms < 9000) {
        now_ms = hadb_watch_deadline(&watch);
        if (hadb_watch_step(&watch, now_ms) == HADB_WATCH_READ) {
            hadb_watch_record(&watch, HADB_R_OK, &id, 99, HADB_HINT_LIVE, now_ms);
        }
    }
    assert_int_equal(now_ms, 4000 + 968);
}

static void watch__heartbeats_spare_reading_the_record(void **state)
{
    (void)state;
    struct hadb_id id;
    struct hadb_watch watch = watch_of(&id);
    hadb_watch_stream(&watch, true, 1000);
    for (uint64_t now_ms = 1000; now_ms < 9000; now_ms += 300) {
        hadb_watch_alive(&watch, now_ms);
        assert_int_equal(hadb_watch_step(&watch, now_ms + 1), HADB_WATCH_NOTHING);
    }
}

static void watch__free_and_a_later_life_are_verdicts(void **state)
{
    (void)state;
    struct hadb_id id;
    struct hadb_watch watch = watch_of(&id);
    hadb_watch_step(&watch, 1300);
    hadb_watch_record(&watch, HADB_R_OK, &id, 1, HADB_HINT_FREE, 1300);
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_FREE);
    watch = watch_of(&id);
    struct hadb_id later = id;
    later.b[0] = 1;
    hadb_watch_step(&watch, 1300);
    hadb_watch_record(&watch, HADB_R_OK, &later, 1, HADB_HINT_LIVE, 1300);
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_GONE);
}

static void watch__false_alarms_slow_the_checks_down(void **state)
{
    (void)state;
    struct hadb_id id;
    struct hadb_watch watch = watch_of(&id);
    uint64_t now_ms = 1000;
    uint64_t gap_ms[3];
    for (int i = 0; i < 3; i++) {
        hadb_watch_stream(&watch, true, now_ms);
        hadb_watch_stream(&watch, false, now_ms);
        hadb_watch_step(&watch, now_ms);
        hadb_watch_connect(&watch, HADB_LINK_REFUSED, now_ms);
        gap_ms[i] = hadb_watch_deadline(&watch) - now_ms;
        now_ms += gap_ms[i];
        hadb_watch_step(&watch, now_ms);
        hadb_watch_connect(&watch, HADB_LINK_REFUSED, now_ms);
        assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_GONE);
    }
    assert_true(gap_ms[0] < gap_ms[1] && gap_ms[1] < gap_ms[2]);
}

/* A process that was stopped while its stream stayed open: reading its record for the first time says nothing. */
static void watch__first_reading_of_a_record_is_no_proof_of_life(void **state)
{
    (void)state;
    struct hadb_id id;
    struct hadb_watch watch = watch_of(&id);
    hadb_watch_stream(&watch, true, 1000);
    uint64_t now_ms = 1000;
    while (hadb_watch_liveness(&watch) == HADB_LIVE_ALIVE) {
        now_ms = hadb_watch_deadline(&watch);
        if (hadb_watch_step(&watch, now_ms) == HADB_WATCH_READ) {
            hadb_watch_record(&watch, HADB_R_OK, &id, 41, HADB_HINT_LIVE, now_ms);
        }
    }
    assert_int_equal(now_ms, 1000 + 968); /* ttl * 1.02 + 50 after the last sign of life */
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_SILENT);
}

/* The stream is silent, but the record moves: partitioned from us, not dead. */
static void watch__record_that_moves_while_the_stream_is_silent_is_life(void **state)
{
    (void)state;
    struct hadb_id id;
    struct hadb_watch watch = watch_of(&id);
    hadb_watch_stream(&watch, true, 1000);
    uint64_t now_ms = 1000;
    while (now_ms < 20000) {
        now_ms = hadb_watch_deadline(&watch);
        if (hadb_watch_step(&watch, now_ms) == HADB_WATCH_READ) {
            hadb_watch_record(&watch, HADB_R_OK, &id, now_ms / 300, HADB_HINT_LIVE, now_ms);
        }
        assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_ALIVE);
    }
}

/* Databases that do not act on GONE (a crashed leader's LOCAL tail is precious) wait for SILENT. */
static void watch__gone_becomes_silent_when_patience_is_over(void **state)
{
    (void)state;
    struct hadb_id id;
    struct hadb_watch watch = watch_of(&id);
    hadb_watch_stream(&watch, true, 1000);
    hadb_watch_stream(&watch, false, 1100);
    uint64_t now_ms = 1100;
    bool gone = false;
    for (; hadb_watch_liveness(&watch) != HADB_LIVE_SILENT && now_ms < 9000;
         now_ms = HADB_MAX(now_ms, hadb_watch_deadline(&watch))) {
        enum hadb_watch_do what = hadb_watch_step(&watch, now_ms);
        if (what == HADB_WATCH_CONNECT) {
            hadb_watch_connect(&watch, HADB_LINK_REFUSED, now_ms);
        } else if (what == HADB_WATCH_READ) {
            hadb_watch_record(&watch, HADB_R_OK, &id, 41, HADB_HINT_LIVE, now_ms);
        } else if (hadb_watch_liveness(&watch) == HADB_LIVE_SILENT) {
            break;
        }
        gone = gone || hadb_watch_liveness(&watch) == HADB_LIVE_GONE;
    }
    assert_true(gone);
    assert_int_equal(now_ms, 1000 + 968);
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_SILENT);
}

/* The host tries to open the stream again meanwhile, which is refused as well. */
static void watch__refused_reopening_does_not_start_the_count_anew(void **state)
{
    (void)state;
    struct hadb_id id;
    struct hadb_watch watch = watch_of(&id);
    hadb_watch_stream(&watch, true, 1000);
    hadb_watch_stream(&watch, false, 1100);
    assert_int_equal(hadb_watch_step(&watch, 1100), HADB_WATCH_CONNECT);
    hadb_watch_connect(&watch, HADB_LINK_REFUSED, 1100);
    hadb_watch_stream(&watch, false, 1101);
    assert_int_equal(hadb_watch_step(&watch, 1103), HADB_WATCH_CONNECT);
    hadb_watch_connect(&watch, HADB_LINK_REFUSED, 1104);
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_GONE);
}

/* A lease store that answers every write with "lost" is not asked in a loop. */
static void hint__lost_again_and_again_pauses(void **state)
{
    (void)state;
    struct hadb_hint hint;
    struct hadb_hint_config config = config_of(TTL_MS);
    hadb_hint_init(&hint, &config);
    unsigned asked = 0;
    for (uint64_t now_ms = 1000; now_ms < 11000 && asked < 10000;) {
        enum hadb_hint_do what = hadb_hint_step(&hint, now_ms);
        if (what == HADB_HINT_READ) {
            hadb_hint_read_done(&hint, HADB_R_OK, now_ms);
        } else if (what == HADB_HINT_WRITE) {
            hadb_hint_write_done(&hint, HADB_R_LOST, now_ms);
            asked++;
        } else {
            now_ms = HADB_MAX(now_ms + 1, hadb_hint_deadline(&hint));
        }
    }
    assert_in_range(asked, 10, 10000 / (TTL_MS / 3 / 8) + 2);
}

/* A lease store that shows the past must not declare dead whose heartbeats arrive; and if the stream was
 * silent for a moment, the next heartbeat takes the verdict back. */
static void watch__heartbeats_know_better_than_a_record_of_another_life(void **state)
{
    (void)state;
    struct hadb_id id = {.b = {1}};
    struct hadb_id other = {.b = {2}};
    struct hadb_watch watch = watch_of(&id);
    hadb_watch_stream(&watch, true, 1000);
    hadb_watch_record(&watch, HADB_R_OK, &other, 1, HADB_HINT_LIVE, 1100);
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_ALIVE);
    hadb_watch_record(&watch, HADB_R_OK, &other, 1, HADB_HINT_LIVE, 1500);
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_GONE);
    hadb_watch_alive(&watch, 1550);
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_ALIVE);
}

/* FREE may have meant one database that was given up: while it stands, the record is read on. */
static void watch__free_is_taken_back_although_heartbeats_arrive(void **state)
{
    (void)state;
    struct hadb_id id = {.b = {1}};
    struct hadb_watch watch = watch_of(&id);
    hadb_watch_stream(&watch, true, 1000);
    hadb_watch_record(&watch, HADB_R_OK, &id, 1, HADB_HINT_FREE, 1100);
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_FREE);
    uint64_t counter = 1;
    uint64_t now_ms = 1100;
    for (; now_ms < 3000 && hadb_watch_liveness(&watch) == HADB_LIVE_FREE; now_ms += 50) {
        hadb_watch_alive(&watch, now_ms);
        if (hadb_watch_step(&watch, now_ms) == HADB_WATCH_READ) {
            hadb_watch_record(&watch, HADB_R_OK, &id, counter++, HADB_HINT_LIVE, now_ms);
        }
    }
    assert_int_equal(hadb_watch_liveness(&watch), HADB_LIVE_ALIVE);
}

static void hint__never_renews_more_often_than_thrice_a_ttl(void **state)
{
    (void)state;
    for (uint32_t ttl_ms = 100; ttl_ms < 200; ttl_ms++) {
        struct hadb_hint_config config = config_of(ttl_ms);
        assert_in_range(3 * hadb_hint_renew_every_ms(&config), ttl_ms, ttl_ms + 2);
    }
}

/* ---- a lease store that tells of changes ---- */

struct told {
    struct hadb_watch watch;
    struct hadb_id id;
    uint64_t now_ms, counter, changed_ms; /* the record, and when it changed last */
    enum hadb_hint_state state;
    bool deaf; /* the store fails to tell */
    bool wolf; /* … or says "changed" at once, always */
    bool awaiting;
    uint64_t seen; /* counter that AWAIT compares with */
    unsigned reads, awaits;
};

static struct told told_of(bool tells)
{
    struct told t = {.now_ms = 1000, .counter = 1, .state = HADB_HINT_LIVE, .id = {.b = {1}}};
    struct hadb_hint_config config = config_of(TTL_MS);
    config.tells = tells;
    hadb_watch_init(&t.watch, &config, &t.id, t.now_ms);
    return t;
}

/* One millisecond of a store that answers within it. */
static void told_tick(struct told *t)
{
    t->now_ms++;
    if (t->awaiting && (t->deaf || t->wolf || t->seen != t->counter)) {
        t->awaiting = false;
        hadb_watch_changed(&t->watch, t->deaf ? HADB_R_UNKNOWN : HADB_R_OK, t->now_ms);
    }
    enum hadb_watch_do what;
    for (unsigned i = 0; (what = hadb_watch_step(&t->watch, t->now_ms)) != HADB_WATCH_NOTHING;
         i++) {
        assert_true(i < 4);
        if (what == HADB_WATCH_READ) {
            t->reads++;
            hadb_watch_record(&t->watch, HADB_R_OK, &t->id, t->counter, t->state, t->now_ms);
            t->seen = t->awaiting ? t->seen : t->counter;
        } else {
            assert_int_equal(what, HADB_WATCH_AWAIT);
            assert_false(t->awaiting);
            t->awaiting = true;
            t->awaits++;
        }
    }
    assert_true(hadb_watch_deadline(&t->watch) > t->now_ms);
}

static void told_until(struct told *t, uint64_t end_ms, uint64_t renew_ms)
{
    while (t->now_ms < end_ms) {
        if (renew_ms && t->now_ms % renew_ms == 0) {
            t->counter++;
            t->changed_ms = t->now_ms;
        }
        told_tick(t);
    }
}

/* Without a stream a renewal counts from its writing, not from the next time somebody looks. */
static void watch__that_is_told_of_renewals_loses_no_time_to_reading(void **state)
{
    (void)state;
    for (int tells = 0; tells < 2; tells++) {
        struct told t = told_of(tells);
        told_until(&t, 1700, 270); /* the last renewal is at 1620; it would be read at 1900 */
        assert_int_equal(hadb_watch_liveness(&t.watch), HADB_LIVE_ALIVE);
        while (hadb_watch_liveness(&t.watch) == HADB_LIVE_ALIVE) {
            told_tick(&t);
        }
        uint64_t lost_ms = t.now_ms - (t.changed_ms + 968); /* ttl * 1.02 + 50 */
        if (tells) {
            assert_in_range(lost_ms, 0, 3);
        } else {
            assert_in_range(lost_ms, 200, 300);
        }
    }
}

static void watch__that_is_told_knows_at_once_that_a_record_is_free(void **state)
{
    (void)state;
    struct told t = told_of(true);
    told_until(&t, 1950, 270);
    t.counter++;
    t.state = HADB_HINT_FREE;
    told_until(&t, t.now_ms + 3, 0);
    assert_int_equal(hadb_watch_liveness(&t.watch), HADB_LIVE_FREE);
}

/* One reading per renewal, as without. */
static void watch__that_is_told_reads_no_more_often(void **state)
{
    (void)state;
    struct told t = told_of(true);
    told_until(&t, 1000 + 100 * 300, 300);
    assert_in_range(t.reads, 99, 102);
    assert_in_range(t.awaits, 99, 102);
    struct told quiet = told_of(true); /* … and of a record that does not move, neither */
    told_until(&quiet, 1000 + 100 * 300, 0);
    assert_in_range(quiet.reads, 80, 100);
    assert_int_equal(quiet.awaits, 1);
}

static void watch__whose_store_cannot_tell_just_now_reads_as_before(void **state)
{
    (void)state;
    struct told t = told_of(true);
    t.deaf = true;
    told_until(&t, 1000 + 200 * 300, 270);
    assert_int_equal(hadb_watch_liveness(&t.watch), HADB_LIVE_ALIVE);
    assert_in_range(t.reads, 190, 202);
    assert_in_range(t.awaits, 10, 25); /* tried again, ever less often */
    t.deaf = false;
    told_until(&t, t.now_ms + 16 * 300 + 300, 270);
    t.counter++;
    t.state = HADB_HINT_FREE;
    told_until(&t, t.now_ms + 21, 0);
    assert_int_equal(hadb_watch_liveness(&t.watch), HADB_LIVE_FREE);
}

static void watch__whose_store_cries_wolf_is_not_kept_busy(void **state)
{
    (void)state;
    struct told t = told_of(true);
    t.wolf = true;
    told_until(&t, 1000 + 10 * 300, 270);
    assert_in_range(t.reads, 10, 10 * 17);
    assert_in_range(t.awaits, 10, 10 * 17);
}

static void watch__with_heartbeats_neither_reads_nor_awaits(void **state)
{
    (void)state;
    struct told t = told_of(true);
    told_until(&t, 1400, 270);
    hadb_watch_stream(&t.watch, true, t.now_ms);
    unsigned reads = t.reads, awaits = t.awaits;
    for (int i = 0; i < 20; i++) { /* the AWAIT that was under way comes back, too */
        told_until(&t, t.now_ms + 300, 270);
        hadb_watch_alive(&t.watch, t.now_ms);
    }
    assert_int_equal(t.reads, reads);
    assert_int_equal(t.awaits, awaits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config__that_cannot_survive_one_missed_renewal_is_refused),
        cmocka_unit_test(hint__reads_its_tag_then_renews_every_third_of_the_ttl),
        cmocka_unit_test(local_deadline__counts_from_sending),
        cmocka_unit_test(hint__of_unknown_outcome_is_read_again_before_the_next_write),
        cmocka_unit_test(namesake__that_was_first_and_lives_keeps_the_record),
        cmocka_unit_test(namesake__that_left_its_record_costs_no_more_than_the_ttl),
        cmocka_unit_test(record__of_the_own_former_life_or_free_is_taken_over_at_once),
        cmocka_unit_test(namesakes__that_both_wrote_are_told_apart_by_their_incarnations),
        cmocka_unit_test(hint__stops_when_storage_is_silent_for_longer_than_the_ttl),
        cmocka_unit_test(hint__close_writes_free_once),
        cmocka_unit_test(hint__closed_during_a_renewal_writes_free_at_once),
        cmocka_unit_test(hint__lost_again_and_again_pauses),
        cmocka_unit_test(hint__never_renews_more_often_than_thrice_a_ttl),
        cmocka_unit_test(watch__gone_becomes_silent_when_patience_is_over),
        cmocka_unit_test(watch__refused_reopening_does_not_start_the_count_anew),
        cmocka_unit_test(watch__two_refusals_after_a_broken_stream_are_enough),
        cmocka_unit_test(watch__a_timeout_is_no_evidence),
        cmocka_unit_test(watch__a_moving_counter_keeps_it_alive_without_a_stream),
        cmocka_unit_test(watch__second_silence_lasts_one_patience_too),
        cmocka_unit_test(watch__heartbeats_spare_reading_the_record),
        cmocka_unit_test(watch__first_reading_of_a_record_is_no_proof_of_life),
        cmocka_unit_test(watch__record_that_moves_while_the_stream_is_silent_is_life),
        cmocka_unit_test(watch__free_and_a_later_life_are_verdicts),
        cmocka_unit_test(watch__heartbeats_know_better_than_a_record_of_another_life),
        cmocka_unit_test(watch__free_is_taken_back_although_heartbeats_arrive),
        cmocka_unit_test(watch__false_alarms_slow_the_checks_down),
        cmocka_unit_test(watch__that_is_told_of_renewals_loses_no_time_to_reading),
        cmocka_unit_test(watch__that_is_told_knows_at_once_that_a_record_is_free),
        cmocka_unit_test(watch__that_is_told_reads_no_more_often),
        cmocka_unit_test(watch__whose_store_cannot_tell_just_now_reads_as_before),
        cmocka_unit_test(watch__whose_store_cries_wolf_is_not_kept_busy),
        cmocka_unit_test(watch__with_heartbeats_neither_reads_nor_awaits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
