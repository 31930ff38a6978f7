/* SPDX-License-Identifier: Apache-2.0 */
/* Every function of hadb/node.h and hadb/kv.h, called where waiting would be for oneself: refused, never stuck. */
#include "tests/integration/cluster.h"

#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "base/fs.h"

static struct tc tc;
static int done; /* atomic: the callback has run */

static int setup(void **state)
{
    (void)state;
    tc_init(&tc, true);
    __atomic_store_n(&done, 0, __ATOMIC_SEQ_CST);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tc_deinit(&tc);
    return 0;
}

static void wait_done(int want)
{
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; __atomic_load_n(&done, __ATOMIC_SEQ_CST) < want;
         tc_sleep_ms(2)) {
        assert_true(tc_now_ms() < end);
    }
}

/* Results of the calls, by name; checked on the test's own thread. */
struct call {
    const char *name;
    int r;
    char message[240];
};
static struct call calls[32];
static size_t calls_len;

#define CALL(expr)                                                        \
    do {                                                                  \
        struct hadb_error err = {0};                                      \
        struct call *call = &calls[calls_len++];                          \
        call->name = #expr;                                               \
        call->r = (expr);                                                 \
        snprintf(call->message, sizeof call->message, "%s", err.message); \
    } while (0)

static void count(void *arg, int r, struct hadb_slice value, const struct hadb_kv_result *result,
                  const struct hadb_error *err)
{
    (void)value;
    (void)result;
    (void)err;
    __atomic_fetch_add((int *)arg, r == 0 ? 1 : 1000, __ATOMIC_SEQ_CST);
}

static void blocking_calls(void)
{
    struct hadb_node *node = tc.nodes[0].node;
    struct hadb_db *db = tc.nodes[0].db, *other = NULL;
    struct hadb_slice k = hadb_slice_str("k"), v = hadb_slice_str("v");
    struct hadb_kv_op op = {.type = HADB_OP_PUT, .key = k, .value = v};
    struct hadb_kv_items items = {0};
    struct hadb_buf value = {0};
    calls_len = 0;
    CALL(hadb_kv_put(db, k, v, NULL, NULL, &err));
    CALL(hadb_kv_delete(db, k, NULL, NULL, &err));
    CALL(hadb_kv_batch(db, &op, 1, NULL, NULL, &err));
    CALL(hadb_kv_get(db, k, NULL, &value, NULL, &err));
    CALL(hadb_kv_scan(db, NULL, 0, NULL, &items, NULL, &err));
    CALL(hadb_db_wait_ready(db, 100, &err));
    CALL(hadb_db_handoff(db, NULL, 100, &err));
    CALL(hadb_db_handoff(db, "n1", 100, &err));
    CALL(hadb_db_open(node, "other", NULL, &other, &err));
}

static void refused(void)
{
    for (size_t i = 0; i < calls_len; i++) {
        if (calls[i].r != HADB_ESTATE || !strstr(calls[i].message, "thread")) {
            fail_msg("%s: %d %s", calls[i].name, calls[i].r, calls[i].message);
        }
    }
}

static void call_all(void *arg, int r, struct hadb_slice value, const struct hadb_kv_result *result,
                     const struct hadb_error *err)
{
    (void)value;
    (void)result;
    (void)err;
    blocking_calls();
    count(arg, r, (struct hadb_slice){0}, NULL, NULL);
}

static void what_blocks__is_refused_in_a_callback(void **state)
{
    (void)state;
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    assert_int_equal(hadb_kv_put_async(tc.nodes[0].db, hadb_slice_str("k"), hadb_slice_str("v"),
                                       NULL, call_all, &done, NULL),
                     0);
    wait_done(1);
    assert_int_equal(done, 1);
    refused();
    assert_string_equal(tc_get(&tc, 0, "k", HADB_READ_LINEARIZABLE),
                        "v"); /* and nothing is stuck */
}

static void call_what_answers(void *arg, int r, struct hadb_slice value,
                              const struct hadb_kv_result *result, const struct hadb_error *error)
{
    (void)value;
    (void)result;
    (void)error;
    struct hadb_node *node = tc.nodes[0].node;
    struct hadb_db *db = tc.nodes[0].db;
    struct hadb_slice k = hadb_slice_str("k"), v = hadb_slice_str("w");
    struct hadb_buf text = {0};
    struct hadb_db_info info;
    calls_len = 0;
    CALL(hadb_node_status(node, &text, &err));
    CALL(hadb_node_metrics(node, &text, &err));
    CALL(hadb_db_check("name", NULL, &err));
    CALL(hadb_db_snapshot(db, &err));
    CALL(hadb_db_role(db) == HADB_ROLE_LEADER ? 0 : -1);
    CALL(strcmp(hadb_node_name(node), "n0"));
    CALL(hadb_node_address(node)[0] ? 0 : -1);
    hadb_db_info(db, &info);
    CALL(info.role == HADB_ROLE_LEADER ? 0 : -1);
    CALL(hadb_kv_put_async(db, k, v, NULL, count, arg, &err));
    CALL(hadb_kv_get_async(db, k, NULL, count, arg, &err));
    hadb_buf_deinit(&text);
    count(arg, r, (struct hadb_slice){0}, NULL, NULL);
}

static void what_does_not_block__works_in_a_callback(void **state)
{
    (void)state;
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    assert_int_equal(hadb_kv_put_async(tc.nodes[0].db, hadb_slice_str("k"), hadb_slice_str("v"),
                                       NULL, call_what_answers, &done, NULL),
                     0);
    wait_done(3);
    assert_int_equal(done, 3);
    for (size_t i = 0; i < calls_len; i++) {
        if (calls[i].r != 0) {
            fail_msg("%s: %d %s", calls[i].name, calls[i].r, calls[i].message);
        }
    }
}

static void call_close(void *arg, int r, struct hadb_slice value,
                       const struct hadb_kv_result *result, const struct hadb_error *err)
{
    (void)value;
    (void)result;
    (void)err;
    hadb_db_close(tc.nodes[0].db, 100);
    hadb_node_close(tc.nodes[0].node, 100);
    count(arg, r, (struct hadb_slice){0}, NULL, NULL);
}

static void a_close_in_a_callback__closes_nothing(void **state)
{
    (void)state;
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    assert_int_equal(
        hadb_kv_get_async(tc.nodes[0].db, hadb_slice_str("k"), NULL, call_close, &done, NULL), 0);
    wait_done(1);
    tc_put(&tc, 0, "k", "v");
    assert_string_equal(tc_get(&tc, 0, "k", HADB_READ_LINEARIZABLE), "v");
}

/* ---- the loop: what the application gives a node (here: its log) runs there, too ---- */

static int armed; /* atomic */

static void log_on_loop(void *arg, enum hadb_log_level level, const char *component,
                        const char *database, const char *text)
{
    (void)arg;
    (void)level;
    (void)database;
    (void)text;
    int expected = 1;
    if (strcmp(component, "role") == 0 &&
        __atomic_compare_exchange_n(&armed, &expected, 0, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST)) {
        blocking_calls();
        hadb_db_close(tc.nodes[0].db, 100);
        hadb_node_close(tc.nodes[0].node, 100);
        __atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
    }
}

static void what_blocks__is_refused_on_the_event_loop(void **state)
{
    (void)state;
    static struct hadb_env env;
    env = *hadb_env_host();
    env.log = log_on_loop;
    env.log_level = HADB_LOG_INFO;
    tc.env = &env;
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    __atomic_store_n(&armed, 1, __ATOMIC_SEQ_CST);
    hadb_db_handoff(tc.nodes[0].db, NULL, 50, NULL); /* a change of roles is logged */
    wait_done(1);
    refused();
    tc_ready(&tc, 0);
    tc_put(&tc, 0, "k", "v");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_does_not_block__works_in_a_callback, setup, teardown),
        cmocka_unit_test_setup_teardown(what_blocks__is_refused_in_a_callback, setup, teardown),
        cmocka_unit_test_setup_teardown(a_close_in_a_callback__closes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(what_blocks__is_refused_on_the_event_loop, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
