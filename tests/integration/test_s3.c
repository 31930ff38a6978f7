/* SPDX-License-Identifier: Apache-2.0 */
/* A node whose requests to S3 run on its loop: how many at a time, and that they end when it is closed. */
#include "tests/integration/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"
#include "tests/unit/storage/s3_control.h"

#define DATABASES 16u /* four times the workers for storage */

static struct tc tc;

static int setup(void **state)
{
    (void)state;
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_storage storage;
    struct hadb_error err = {0};
    tc_init(&tc, true);
    s3_tell("{\"reset\": true}");
    s3_open("", NULL, &storage);
    options.name = "n0";
    options.data_dir = tc.dir;
    options.storage = &storage;
    options.lease_url = tc.lease;
    options.listen = "";
    if (hadb_node_open(&options, &tc.nodes[0].node, &err) < 0) {
        fail_msg("%s", err.message);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    s3_tell("{\"release\": true}");
    tc_deinit(&tc);
    return 0;
}

static struct hadb_db *open_db(const char *name)
{
    struct hadb_db_options options = HADB_DB_OPTIONS_INIT;
    struct hadb_db *db = NULL;
    struct hadb_error err = {0};
    options.engine = "memory";
    if (hadb_db_open(tc.nodes[0].node, name, &options, &db, &err) < 0 ||
        hadb_db_wait_ready(db, TC_WAIT_MS, &err) < 0) {
        fail_msg("%s: %s", name, err.message);
    }
    return db;
}

/* @arg: how many were acknowledged, and a thousand for each that was not. */
static void count_ok(void *arg, int r, struct hadb_slice value, const struct hadb_kv_result *result,
                     const struct hadb_error *err)
{
    (void)value;
    (void)result;
    (void)err;
    __atomic_fetch_add((int *)arg, r == 0 ? 1 : 1000, __ATOMIC_SEQ_CST);
}

static void begin_write(struct hadb_db *db, int *done)
{
    assert_int_equal(
        hadb_kv_put_async(db, hadb_slice_str("k"), hadb_slice_str("v"), NULL, count_ok, done, NULL),
        0);
}

static void await_count(const int *done, int want)
{
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; __atomic_load_n(done, __ATOMIC_SEQ_CST) < want;) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(1);
    }
    assert_int_equal(__atomic_load_n(done, __ATOMIC_SEQ_CST), want);
}

/* The server answers none of the creates before all of them are there. */
static void many_databases__have_their_creates_on_the_way_together(void **state)
{
    (void)state;
    static int done;
    struct hadb_db *dbs[DATABASES];
    done = 0;
    for (unsigned i = 0; i < DATABASES; i++) {
        char name[16];
        snprintf(name, sizeof name, "db%u", i);
        dbs[i] = open_db(name);
    }
    s3_tell("{\"fault\": {\"method\": \"PUT\", \"path\": \"/log/\", \"do\": \"gather\", "
            "\"count\": %u, \"times\": %u}}",
            DATABASES, DATABASES);
    for (unsigned i = 0; i < DATABASES; i++) {
        begin_write(dbs[i], &done);
    }
    await_count(&done, (int)DATABASES);
}

/* Requests that storage holds back take no worker from others: a commit, a read, an opening. */
static void a_slow_store__holds_up_no_engine(void **state)
{
    (void)state;
    static int done;
    struct hadb_db *dbs[8];
    struct hadb_kv_options any = {.read = HADB_READ_ANY};
    struct hadb_buf got = {0};
    done = 0;
    for (unsigned i = 0; i < 8; i++) {
        char name[16];
        snprintf(name, sizeof name, "db%u", i);
        dbs[i] = open_db(name);
    }
    s3_tell("{\"fault\": {\"method\": \"PUT\", \"path\": \"/log/\", \"do\": \"apply_stall\", "
            "\"times\": 8}}");
    for (unsigned i = 0; i < 8; i++) {
        begin_write(dbs[i], &done);
    }
    for (unsigned i = 0; i < 8; i++) {
        for (uint64_t end = tc_now_ms() + TC_WAIT_MS; got.len == 0;) {
            assert_true(tc_now_ms() < end);
            (void)hadb_kv_get(dbs[i], hadb_slice_str("k"), &any, &got, NULL, NULL);
        }
        hadb_buf_deinit(&got);
    }
    (void)open_db("another"); /* asks storage by a worker, and through it for its seal */
    assert_int_equal(__atomic_load_n(&done, __ATOMIC_SEQ_CST), 0);
    s3_tell("{\"release\": true}");
    await_count(&done, 8); /* unknown, sent again, found there */
}

static uint64_t metric(const char *name)
{
    struct hadb_buf text = {0};
    assert_int_equal(hadb_node_metrics(tc.nodes[0].node, &text, NULL), 0);
    const char *at = hadb_buf_cstr(&text);
    size_t len = strlen(name);
    while (at && !(strncmp(at, name, len) == 0 && at[len] == ' ')) {
        at = strchr(at, '\n');
        at = at ? at + 1 : NULL;
    }
    assert_non_null(at);
    uint64_t value = strtoull(at + len, NULL, 10);
    hadb_buf_deinit(&text);
    return value;
}

/* Submit sends the request to a worker then, which asks for credentials; the write ends once, when they are right. */
static void credentials_that_are_revoked__hold_a_write_up_until_they_are_back(void **state)
{
    (void)state;
    static int done;
    struct hadb_db *db = open_db("revoked");
    struct hadb_buf got = {0};
    done = 0;
    uint64_t failed = metric("storage_create_failed");
    s3_tell("{\"set\": {\"keys\": {}}}");
    begin_write(db, &done);
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; metric("storage_create_failed") < failed + 3;) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(1);
    }
    assert_int_equal(__atomic_load_n(&done, __ATOMIC_SEQ_CST), 0);
    s3_tell("{\"reset\": true}");
    await_count(&done, 1);
    assert_int_equal(hadb_kv_get(db, hadb_slice_str("k"), NULL, &got, NULL, NULL), 0);
    assert_true(hadb_slice_eq(hadb_buf_slice(&got), hadb_slice_str("v")));
    hadb_buf_deinit(&got);
}

/* Three parts; the server answers no two of their first puts before both are there. */
static void parts_of_a_snapshot__are_on_their_way_together(void **state)
{
    (void)state;
    struct hadb_db *db = open_db("parts");
    size_t len = (size_t)6 << 20;
    uint8_t *value = malloc(len);
    assert_non_null(value);
    for (unsigned i = 0; i < 3; i++) {
        char key[8];
        snprintf(key, sizeof key, "k%u", i);
        hadb_env_host()->random(NULL, value, len);
        assert_int_equal(
            hadb_kv_put(db, hadb_slice_str(key), (struct hadb_slice){value, len}, NULL, NULL, NULL),
            0);
    }
    free(value);
    s3_tell("{\"fault\": {\"method\": \"PUT\", \"path\": \"/snap/\", \"do\": \"gather\", "
            "\"count\": 2, \"times\": 2}}");
    assert_int_equal(hadb_db_snapshot(db, NULL), 0);
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; metric("snapshots_published") == 0;) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(2);
    }
}

static void a_node__is_closed_while_its_requests_are_under_way(void **state)
{
    (void)state;
    static int done;
    struct hadb_db *a = open_db("a"), *b = open_db("b");
    done = 0;
    s3_tell("{\"fault\": {\"method\": \"PUT\", \"path\": \"/log/\", \"do\": \"apply_stall\", "
            "\"times\": 2}}");
    begin_write(a, &done);
    begin_write(b, &done);
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS;;) {
        json_t *left = s3_control("{}");
        bool there = json_integer_value(json_object_get(left, "faults_left")) == 0;
        json_decref(left);
        if (there) {
            break;
        }
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(1);
    }
    uint64_t began = tc_now_ms();
    hadb_db_close(a, 0);
    tc_close(&tc, 0, 0);
    assert_true(tc_now_ms() - began < 3000); /* the server would have held them for 30 s */
    await_count(&done, 2000);                /* both are told, and neither was acknowledged */
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(many_databases__have_their_creates_on_the_way_together),
        T(a_slow_store__holds_up_no_engine),
        T(credentials_that_are_revoked__hold_a_write_up_until_they_are_back),
        T(parts_of_a_snapshot__are_on_their_way_together),
        T(a_node__is_closed_while_its_requests_are_under_way),
    };
    return cmocka_run_group_tests_name("s3", tests, NULL, NULL);
}
