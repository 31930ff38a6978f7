/* SPDX-License-Identifier: Apache-2.0 */
/* One write through the eight hops, seen from outside: the golden trace, counters, costs when idle. */
#include "tests/integration/cluster.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/thread.h"

/* ---- tracing ---- */

struct trace {
    struct hadb_mutex mu;
    unsigned leader[9], follower[9]; /* events by hop */
    char order[256];                 /* hops of the followed write, in order */
    bool on;
};

static struct trace trace;

static void on_trace(void *arg, const struct hadb_trace_event *event)
{
    (void)arg;
    hadb_mutex_lock(&trace.mu);
    if (trace.on && event->database && strcmp(event->database, TC_DB) == 0) {
        size_t len = strlen(trace.order);
        snprintf(trace.order + len, sizeof trace.order - len, "%u %s\n", event->hop, event->what);
    }
    hadb_mutex_unlock(&trace.mu);
}

static void trace_start(void)
{
    hadb_mutex_lock(&trace.mu);
    trace.order[0] = '\0';
    trace.on = true;
    hadb_mutex_unlock(&trace.mu);
}

static void trace_read(char out[256])
{
    hadb_mutex_lock(&trace.mu);
    snprintf(out, 256, "%s", trace.order);
    hadb_mutex_unlock(&trace.mu);
}

/* The order is golden: a hop that moves, doubles or vanishes is a change of the design. Hop 5 ends after hop 6,
 * which happens inside it; the follower gets the entry by stream, so hop 7 makes no request. */
static void a_write__passes_the_hops_in_order(void **state)
{
    (void)state;
    static struct hadb_env env;
    env = *hadb_env_host();
    env.trace = on_trace;
    struct tc tc;
    char seen[256] = "";
    tc_init(&tc, true);
    tc.env = &env;
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    trace_start();
    tc_put(&tc, 0, "key", "value");
    trace_read(seen);
    assert_string_equal(seen, "1 route\n2 commit\n3 capture\n4 frame\n6 create\n5 ship\n");
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    tc_wait_txid(&tc, 1, 1);
    trace_read(seen);
    assert_non_null(strstr(seen, "7 pull\n8 apply\n"));
    tc_close(&tc, 1, 0);
    tc_deinit(&tc);
}

/* Waits until the entry stream from node 0 to node 1 is up. */
static void wait_stream(struct tc *tc)
{
    uint64_t end = tc_now_ms() + TC_WAIT_MS;
    while (tc_metric(tc, 0, "streams_out") == 0 || tc_metric(tc, 1, "streams_opened") == 0) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(2);
    }
}

static void an_append__costs_exactly_one_create(void **state)
{
    (void)state;
    struct tc tc;
    tc_init(&tc, true);
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    uint64_t before = tc_metric(&tc, 0, "storage_requests");
    uint64_t creates = tc_metric(&tc, 0, "storage_create_done");
    for (int i = 0; i < 20; i++) {
        tc_put(&tc, 0, "key", "value");
    }
    assert_int_equal(tc_metric(&tc, 0, "storage_create_done") - creates, 20);
    assert_int_equal(tc_metric(&tc, 0, "storage_requests") - before, 20);
    tc_deinit(&tc);
}

static void clone_guard__costs_one_manifest_read_per_append_and_off_none(void **state)
{
    (void)state;
    for (int guard = 0; guard < 2; guard++) {
        struct tc tc;
        tc_init(&tc, true);
        tc.db_options.clone_guard = guard;
        tc_open(&tc, 0);
        tc_ready(&tc, 0);
        tc_put(&tc, 0, "first", "value");
        uint64_t creates = tc_metric(&tc, 0, "storage_create_done");
        uint64_t manifests = tc_metric(&tc, 0, "manifest_gets");
        for (int i = 0; i < 5; i++) {
            tc_put(&tc, 0, "key", "value");
        }
        assert_int_equal(tc_metric(&tc, 0, "storage_create_done") - creates, 5);
        assert_int_equal(tc_metric(&tc, 0, "manifest_gets") - manifests, guard ? 5 : 0);
        tc_deinit(&tc);
    }
}

static void an_election__costs_one_create_and_one_manifest_read(void **state)
{
    (void)state;
    struct tc tc;
    tc_init(&tc, true);
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    wait_stream(&tc);
    tc_put(&tc, 0, "key", "value");
    tc_wait_txid(&tc, 1, 1);
    uint64_t creates = tc_metric(&tc, 1, "storage_create_done");
    uint64_t lost = tc_metric(&tc, 1, "storage_create_outcomes");
    uint64_t manifests = tc_metric(&tc, 1, "manifest_gets");
    tc_close(&tc, 0, 0);
    assert_int_equal(tc_leader(&tc, 0), 1);
    assert_int_equal(tc_metric(&tc, 1, "storage_create_done") - creates, 1);
    assert_int_equal(tc_metric(&tc, 1, "storage_create_outcomes") - lost, 0);
    /* One for the boundary check; one at most when the broken stream made it look at the tip before. */
    assert_in_range(tc_metric(&tc, 1, "manifest_gets") - manifests, 1, 2);
    tc_deinit(&tc);
}

static void an_idle_database__makes_no_storage_requests_while_a_stream_is_up(void **state)
{
    (void)state;
    struct tc tc;
    tc_init(&tc, true);
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    wait_stream(&tc);
    tc_put(&tc, 0, "key", "value");
    tc_wait_txid(&tc, 1, 1);
    tc_sleep_ms(300); /* whatever was under way has come back */
    uint64_t leader = tc_metric(&tc, 0, "storage_requests");
    uint64_t follower = tc_metric(&tc, 1, "storage_requests");
    uint64_t beats = tc_metric(&tc, 0, "stream_beats_sent");
    uint64_t end = tc_now_ms() + TC_WAIT_MS;
    while (tc_metric(&tc, 0, "stream_beats_sent") < beats + 6) { /* two ttls */
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(10);
    }
    assert_int_equal(tc_metric(&tc, 0, "storage_requests"), leader);
    assert_int_equal(tc_metric(&tc, 1, "storage_requests"), follower);
    tc_deinit(&tc);
}

static void a_streamed_entry__is_applied_without_a_storage_request(void **state)
{
    (void)state;
    struct tc tc;
    tc_init(&tc, true);
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    wait_stream(&tc);
    uint64_t gets, txid = 0, end = tc_now_ms() + TC_WAIT_MS;
    do { /* what it asks of storage while it opens is over */
        assert_true(tc_now_ms() < end);
        gets = tc_metric(&tc, 1, "log_gets");
        tc_put(&tc, 0, "warm", "up");
        tc_wait_txid(&tc, 1, ++txid);
    } while (tc_metric(&tc, 1, "log_lists") == 0 || tc_metric(&tc, 1, "log_gets") != gets);
    for (int i = 0; i < 10; i++) {
        tc_put(&tc, 0, "key", "value");
        tc_wait_txid(&tc, 1, ++txid);
    }
    assert_int_equal(tc_metric(&tc, 1, "log_gets"), gets);
    assert_true(tc_metric(&tc, 1, "stream_entries_received") >= 10);
    tc_deinit(&tc);
}

/* A node that opens looks around once, when it meets the first missing entry; never again. */
static void an_opening__lists_the_log_exactly_once(void **state)
{
    (void)state;
    struct tc tc;
    tc_init(&tc, true);
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    tc_put(&tc, 0, "key", "value");
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    wait_stream(&tc);
    /* An entry that is created while it lists makes it look again, so none is until then. */
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_metric(&tc, 1, "log_lists") == 0;) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(2);
    }
    for (int i = 0; i < 10; i++) {
        tc_put(&tc, 0, "key", "value");
    }
    tc_wait_txid(&tc, 1, 11);
    assert_int_equal(tc_metric(&tc, 0, "log_lists"), 1);
    assert_int_equal(tc_metric(&tc, 1, "log_lists"), 1);
    tc_close(&tc, 0, 0);
    assert_int_equal(tc_leader(&tc, 0), 1);
    tc_put(&tc, 1, "key", "value");
    assert_int_equal(tc_metric(&tc, 1, "log_lists"), 1);
    tc_deinit(&tc);
}

/* ---- group commit ---- */

#define WRITERS 32
#define WRITES 20

struct writer {
    struct tc *tc;
    struct hadb_thread thread;
    int number;
};

static void write_some(void *arg)
{
    struct writer *writer = arg;
    for (int i = 0; i < WRITES; i++) {
        char key[32];
        snprintf(key, sizeof key, "w%d-%d", writer->number, i);
        tc_put(writer->tc, 0, key, "x");
    }
}

static void concurrent_writers__share_log_entries(void **state)
{
    (void)state;
    struct tc tc;
    static struct writer writers[WRITERS];
    tc_init(&tc, true);
    size_t len = strlen(tc.store);
    snprintf(tc.store + len, sizeof tc.store - len, "?latency_ms=4");
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    uint64_t creates = tc_metric(&tc, 0, "storage_create_done");
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.tc = &tc, .number = i};
        assert_int_equal(
            hadb_thread_start(&writers[i].thread, "writer", write_some, &writers[i], NULL), 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        hadb_thread_join(&writers[i].thread);
    }
    creates = tc_metric(&tc, 0, "storage_create_done") - creates;
    assert_true(creates * 8 <= WRITERS * WRITES);
    struct hadb_db_info info;
    hadb_db_info(tc.nodes[0].db, &info);
    assert_int_equal(info.txid, WRITERS * WRITES);
    assert_int_equal(info.durable_txid, WRITERS * WRITES);
    tc_deinit(&tc);
}

int main(void)
{
    hadb_mutex_init(&trace.mu, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write__passes_the_hops_in_order),
        cmocka_unit_test(an_append__costs_exactly_one_create),
        cmocka_unit_test(clone_guard__costs_one_manifest_read_per_append_and_off_none),
        cmocka_unit_test(an_election__costs_one_create_and_one_manifest_read),
        cmocka_unit_test(an_idle_database__makes_no_storage_requests_while_a_stream_is_up),
        cmocka_unit_test(a_streamed_entry__is_applied_without_a_storage_request),
        cmocka_unit_test(an_opening__lists_the_log_exactly_once),
        cmocka_unit_test(concurrent_writers__share_log_entries),
    };
    return cmocka_run_group_tests_name("hops", tests, NULL, NULL);
}
