/* SPDX-License-Identifier: Apache-2.0 */
/* Wall clocks that differ by more than any window: they may cost a request id, never writes without one (A2). */
#include "tests/integration/cluster.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/id.h"
#include "base/util.h"

#define HOUR_MS INT64_C(3600000)

static struct tc tc;
static pthread_t caller;

struct clock {
    struct hadb_env env;
    int64_t off_ms; /* of the whole node */
    int64_t caller_off_ms;
};
static struct clock clocks[2];

static int64_t shifted(void *arg)
{
    const struct clock *clock = arg;
    int64_t off_ms = pthread_equal(pthread_self(), caller) ? clock->caller_off_ms : clock->off_ms;
    return hadb_env_host()->now_unix_ms(hadb_env_host()->arg) + off_ms;
}

static int setup(void **state)
{
    caller = pthread_self();
    return tc_setup(state);
}

/* Two nodes; node 0 leads. */
static void open_two(int64_t leader_off_ms, int64_t follower_off_ms)
{
    for (unsigned i = 0; i < 2; i++) {
        int64_t off_ms = i == 0 ? leader_off_ms : follower_off_ms;
        clocks[i] =
            (struct clock){.env = *hadb_env_host(), .off_ms = off_ms, .caller_off_ms = off_ms};
        clocks[i].env.now_unix_ms = shifted;
        clocks[i].env.arg = &clocks[i];
        tc.env = &clocks[i].env;
        tc_open(&tc, i);
        tc_ready(&tc, i);
    }
    assert_int_equal(tc_leader(&tc, UINT32_MAX), 0);
}

static int put(unsigned i, const char *key, int64_t id_off_ms, struct hadb_id *id,
               struct hadb_kv_result *result, struct hadb_error *err)
{
    if (hadb_id_is_zero(id)) {
        hadb_id_v7_at(NULL, hadb_now_unix_ms(NULL) + id_off_ms, id);
    }
    struct hadb_kv_options options = {.request_id = *id};
    return hadb_kv_put(tc.nodes[i].db, hadb_slice_str(key), hadb_slice_str("v"), &options, result,
                       err);
}

static void nodes_whose_clocks_differ__take_all_writes(void **state)
{
    (void)state;
    static const int64_t offs[][2] = {
        {-HOUR_MS, 0}, {HOUR_MS, 0}, {0, HOUR_MS}, {0, -24 * HOUR_MS}};
    for (size_t i = 0; i < HADB_LEN(offs); i++) {
        open_two(offs[i][0], offs[i][1]);
        for (int n = 0; n < 20; n++) {
            tc_put(&tc, (unsigned)n % 2, "key", "value");
        }
        tc_wait_txid(&tc, 1, 20);
        tc_deinit(&tc);
        tc_init(&tc, true);
    }
}

/* The id is made before the clock is set back, and judged after. */
static void a_clock_that_is_set_back__costs_no_write(void **state)
{
    (void)state;
    open_two(0, 0);
    clocks[0].caller_off_ms = HOUR_MS;
    clocks[1].caller_off_ms = HOUR_MS;
    tc_put(&tc, 0, "a", "value");
    tc_put(&tc, 1, "b", "value");
    assert_string_equal(tc_get(&tc, 1, "a", HADB_READ_LINEARIZABLE), "value");
}

static void a_clients_id__is_answered_again_whatever_the_leaders_clock_shows(void **state)
{
    (void)state;
    open_two(HOUR_MS, 0);
    struct hadb_id ids[40] = {{{0}}};
    struct hadb_kv_result first[40], again;
    struct hadb_error err = {0};
    char key[8];
    for (unsigned i = 0; i < HADB_LEN(ids); i++) {
        snprintf(key, sizeof key, "k%u", i);
        if (put(i % 2, key, -(int64_t)(i % 7), &ids[i], &first[i], &err) != 0) {
            fail_msg("%s", err.message);
        }
    }
    for (unsigned i = 0; i < HADB_LEN(ids); i++) {
        snprintf(key, sizeof key, "k%u", i);
        assert_int_equal(put((i + 1) % 2, key, 0, &ids[i], &again, &err), 0);
        assert_int_equal(again.version.txid, first[i].version.txid);
    }
}

static void a_clients_id_from_the_future__is_refused_with_what_to_do(void **state)
{
    (void)state;
    open_two(0, 0);
    struct hadb_kv_result result;
    for (unsigned i = 0; i < 2; i++) {
        struct hadb_error err = {0};
        struct hadb_id id = {{0}};
        assert_int_equal(put(i, "key", HOUR_MS, &id, &result, &err), HADB_EEXPIRED);
        assert_non_null(strstr(err.message, "ahead of the leader's clock"));
        assert_non_null(strstr(err.message, "without an id"));
    }
    assert_string_equal(tc_get(&tc, 0, "key", HADB_READ_LINEARIZABLE), "");
}

int main(void)
{
#define T(f) TC_TEST(f, setup, &tc)
    const struct CMUnitTest tests[] = {
        T(nodes_whose_clocks_differ__take_all_writes),
        T(a_clock_that_is_set_back__costs_no_write),
        T(a_clients_id__is_answered_again_whatever_the_leaders_clock_shows),
        T(a_clients_id_from_the_future__is_refused_with_what_to_do),
    };
    return cmocka_run_group_tests_name("clocks", tests, NULL, NULL);
}
