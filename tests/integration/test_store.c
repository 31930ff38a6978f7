/* SPDX-License-Identifier: Apache-2.0 */
/* What a node says of its storage while that does not answer, or refuses, and that it goes on by itself. */
#include "tests/integration/cluster.h"

#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "tests/integration/flaky.h"
#include "tests/support/support.h"

#define DATABASES 24u

static struct tc tc;
static struct flaky flaky;

static int setup(void **state)
{
    (void)state;
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_storage storage;
    struct hadb_error err = {0};
    char dir[HADB_PATH_BYTES_MAX + 16];
    tc_init(&tc, true);
    flaky_open(&flaky, tc.store, &storage);
    snprintf(dir, sizeof dir, "%s/n0", tc.dir);
    options.name = "n0";
    options.data_dir = dir;
    options.storage = &storage;
    options.lease_url = tc.lease;
    options.listen = "127.0.0.1:0";
    if (hadb_node_open(&options, &tc.nodes[0].node, &err) < 0 ||
        hadb_db_open(tc.nodes[0].node, TC_DB, NULL, &tc.nodes[0].db, &err) < 0) {
        fail_msg("%s", err.message);
    }
    snprintf(tc.nodes[0].address, sizeof tc.nodes[0].address, "%s",
             hadb_node_address(tc.nodes[0].node));
    tc_ready(&tc, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    flaky_set(&flaky.down, 0);
    flaky_set(&flaky.refuse, 0);
    tc_deinit(&tc);
    return 0;
}

/* Waits until a path of node 0 answers so, with @text in it. */
static void await_answer(const char *path, int status, const char *text)
{
    struct tc_reply reply = {0};
    bool seen = false;
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; !seen; tc_sleep_ms(2)) {
        if (tc_now_ms() > end) {
            fail_msg("%s: %d %s, not %d with '%s'", path, reply.status, reply.body, status, text);
        }
        tc_reply_deinit(&reply);
        tc_http(tc.nodes[0].address, "GET", path, NULL, NULL, 0, &reply);
        seen = reply.status == status && strstr(reply.body, text);
    }
    tc_reply_deinit(&reply);
}

static void count_ok(void *arg, int r, struct hadb_slice value, const struct hadb_kv_result *result,
                     const struct hadb_error *err)
{
    (void)value;
    (void)result;
    (void)err;
    __atomic_fetch_add((int *)arg, r == 0 ? 1 : 1000, __ATOMIC_SEQ_CST);
}

/* A write that is accepted now, and acknowledged once storage has it; counted in @done then. */
static void begin_write(struct hadb_db *db, int *done)
{
    struct hadb_kv_options options = {.deadline_ms = 30000};
    __atomic_store_n(done, 0, __ATOMIC_SEQ_CST);
    assert_int_equal(hadb_kv_put_async(db, hadb_slice_str("k"), hadb_slice_str("v"), &options,
                                       count_ok, done, NULL),
                     0);
}

static void await_asked(int count)
{
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS;
         __atomic_load_n(&flaky.asked_down, __ATOMIC_SEQ_CST) < count;) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(1);
    }
}

static void outage(int *field, const char *text)
{
    static int done;
    await_answer("/readyz", 200, "ready");
    flaky_set(field, 1);
    begin_write(tc.nodes[0].db, &done);
    await_answer("/readyz", 503, text);
    await_answer("/v1/status", 200, text);
    assert_int_equal(__atomic_load_n(&done, __ATOMIC_SEQ_CST), 0); /* nothing is acknowledged */
    flaky_set(field, 0);
    await_answer("/readyz", 200, "ready");
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; __atomic_load_n(&done, __ATOMIC_SEQ_CST) == 0;) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(1);
    }
    assert_int_equal(__atomic_load_n(&done, __ATOMIC_SEQ_CST), 1);
    assert_string_equal(tc_get(&tc, 0, "k", HADB_READ_LINEARIZABLE), "v");
}

static void storage_that_does_not_answer__makes_the_node_unready_until_it_does(void **state)
{
    (void)state;
    outage(&flaky.down, "does not answer");
}

static void storage_that_refuses__makes_the_node_unready_until_it_does_not(void **state)
{
    (void)state;
    outage(&flaky.refuse, "not with these credentials");
}

/* Eight failures in a row, then four requests a second, of all databases together: whoever comes back is not met by a
 * crowd. */
static void storage_that_does_not_answer__is_left_alone_but_for_a_probe(void **state)
{
    (void)state;
    static int done;
    struct hadb_db *dbs[DATABASES];
    for (unsigned i = 0; i < DATABASES; i++) {
        char name[16];
        struct hadb_error err = {0};
        snprintf(name, sizeof name, "db%u", i);
        if (hadb_db_open(tc.nodes[0].node, name, NULL, &dbs[i], &err) < 0 ||
            hadb_db_wait_ready(dbs[i], TC_WAIT_MS, &err) < 0) {
            fail_msg("%s: %s", name, err.message);
        }
    }
    flaky_set(&flaky.down, 1);
    for (unsigned i = 0; i < DATABASES; i++) {
        begin_write(dbs[i], &done);
    }
    await_asked(8 + DATABASES); /* it is open; what was on its way then has failed, too */
    int asked = __atomic_load_n(&flaky.asked_down, __ATOMIC_SEQ_CST);
    uint64_t began = tc_now_ms();
    await_asked(asked + 4);
    assert_true(tc_now_ms() - began >= 3 * 250); /* between each two of the four probes */
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(storage_that_does_not_answer__makes_the_node_unready_until_it_does),
        T(storage_that_refuses__makes_the_node_unready_until_it_does_not),
        T(storage_that_does_not_answer__is_left_alone_but_for_a_probe),
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
