/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bits of a copy that flip while its node runs, and snapshots that fail: found, told, and taken over by a good copy.
 *
 * Every wait is for a state, with a bound.
 */
#include "tests/integration/cluster.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/id.h"
#include "tests/integration/flaky.h"
#include "tests/support/support.h"

static struct tc tc;
static struct flaky flaky;

static int setup(void **state)
{
    int r = tc_setup(state);
    tc.ttl_ms = 500;
    return r;
}

static void says(const char *text, const char *word)
{
    if (!strstr(text, word)) {
        fail_msg("\"%s\" is not in: %s", word, text);
    }
}

static void wait_role(unsigned i, enum hadb_role role)
{
    struct hadb_db_info info;
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_now_ms() < end; tc_sleep_ms(2)) {
        hadb_db_info(tc.nodes[i].db, &info);
        if (info.role == role) {
            return;
        }
    }
    fail_msg("role %s, not %s: %s", hadb_role_name(info.role), hadb_role_name(role), info.reason);
}

static int get(unsigned i, const char *key, enum hadb_read_level level, struct hadb_error *err)
{
    struct hadb_kv_options options = {.read = level, .deadline_ms = 5000};
    return hadb_kv_get(tc.nodes[i].db, hadb_slice_str(key), &options, NULL, NULL, err);
}

static int scan(unsigned i, struct hadb_error *err)
{
    struct hadb_kv_options options = {.read = HADB_READ_ANY, .deadline_ms = 5000};
    struct hadb_kv_items items = {0};
    int r = hadb_kv_scan(tc.nodes[i].db, NULL, 0, &options, &items, NULL, err);
    hadb_kv_items_deinit(&items);
    return r;
}

/* ---- flipping ---- */

static void folder_of(unsigned i, char *out, size_t cap)
{
    char id[HADB_ID_TEXT_BYTES];
    struct hadb_db_info info;
    hadb_db_info(tc.nodes[i].db, &info);
    hadb_id_format(&info.uuid, id);
    snprintf(out, cap, "%s/n%u/db/%s", tc.dir, i, id);
}

/* Flips the byte @behind bytes after the last place of @mark in the first segment of node @i. */
static void flip(unsigned i, const void *mark, size_t len, size_t behind)
{
    char folder[HADB_PATH_BYTES_MAX + 64], pattern[HADB_PATH_BYTES_MAX + 96];
    glob_t found;
    folder_of(i, folder, sizeof folder);
    snprintf(pattern, sizeof pattern, "%s/engine/seg-*.kv", folder);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    FILE *file = fopen(found.gl_pathv[0], "r+b");
    globfree(&found);
    assert_non_null(file);
    static uint8_t bytes[1u << 20];
    size_t got = fread(bytes, 1, sizeof bytes, file), at = got;
    for (size_t k = 0; k + len + behind < got; k++) {
        at = memcmp(bytes + k, mark, len) == 0 ? k : at;
    }
    assert_true(at < got);
    at += behind;
    fseek(file, (long)at, SEEK_SET);
    fputc(bytes[at] ^ 0x20, file);
    fclose(file);
}

static void flip_value(unsigned i, const char *value)
{
    flip(i, value, strlen(value), 0);
}

/* It has stopped at node @i, which everything says, with the file and what to do. */
static void halted_with_the_file(unsigned i)
{
    static const char *const paths[] = {"/readyz", "/healthz"};
    struct hadb_error err = {0};
    struct hadb_db_info info;
    wait_role(i, HADB_ROLE_HALTED);
    hadb_db_info(tc.nodes[i].db, &info);
    says(info.reason, "seg-");
    says(info.reason, "rebuilt from storage");
    says(info.reason, "seg-0000000000000001.kv at offset");
    assert_null(
        strstr(info.reason, "restore this")); /* the engine's step gives way to the node's */
    for (size_t k = 0; k < 2; k++) {
        struct tc_reply reply;
        assert_int_equal(tc_http(tc.nodes[i].address, "GET", paths[k], NULL, NULL, 0, &reply), 503);
        says(reply.body, "seg-");
        says(reply.body, "rebuilt from storage");
        tc_reply_deinit(&reply);
    }
    assert_int_equal(get(i, "k", HADB_READ_LINEARIZABLE, &err), HADB_EUNAVAIL);
    says(err.message, "seg-");
}

/* ---- who finds it ---- */

static void damage_that_a_read_meets_on_the_leader__moves_the_database_to_a_good_copy(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    char folder[HADB_PATH_BYTES_MAX + 64], away[HADB_PATH_BYTES_MAX + 16];
    tc_start(&tc, 2);
    tc_put(&tc, 0, "k", "the value that rots");
    tc_put(&tc, 0, "other", "sound");
    tc_wait_txid(&tc, 1, 2);
    flip_value(0, "the value that rots");
    assert_int_equal(get(0, "k", HADB_READ_LINEARIZABLE, &err), HADB_EUNAVAIL);
    says(err.message, "seg-");
    says(err.message, "rebuilt from storage");
    halted_with_the_file(0);
    assert_int_equal(tc_leader(&tc, 0), 1);
    assert_string_equal(tc_get(&tc, 1, "k", HADB_READ_LINEARIZABLE), "the value that rots");
    tc_put(&tc, 1, "after", "x");

    folder_of(0, folder, sizeof folder);
    tc_close(&tc, 0, 1000);
    tc_open(&tc, 0); /* started again as it is, it is still damaged */
    halted_with_the_file(0);
    tc_close(&tc, 0, 1000);
    snprintf(away, sizeof away, "%s/away", tc.dir);
    assert_int_equal(rename(folder, away), 0);
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    assert_string_equal(tc_get(&tc, 0, "k", HADB_READ_LINEARIZABLE), "the value that rots");
}

static void damage_that_a_scan_meets_on_a_follower__halts_that_copy_alone(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    tc_start(&tc, 2);
    tc_put(&tc, 0, "k", "the value that rots");
    tc_wait_txid(&tc, 1, 1);
    flip_value(1, "the value that rots");
    assert_int_equal(scan(1, &err), HADB_EUNAVAIL);
    says(err.message, "seg-");
    halted_with_the_file(1);
    assert_int_equal(scan(1, &err), HADB_EUNAVAIL); /* and again: the same answer */
    says(err.message, "rebuilt from storage");
    assert_int_equal(hadb_db_role(tc.nodes[0].db), HADB_ROLE_LEADER);
    tc_put(&tc, 0, "after", "x");
}

static void damage_that_a_snapshot_meets__moves_the_database_to_a_good_copy(void **state)
{
    (void)state;
    tc_start(&tc, 2);
    tc_put(&tc, 0, "k", "the value that rots");
    tc_wait_txid(&tc, 1, 1);
    flip_value(0, "the value that rots");
    assert_int_equal(hadb_db_snapshot(tc.nodes[0].db, NULL), 0);
    halted_with_the_file(0);
    assert_int_equal(tc_leader(&tc, 0), 1);
    assert_string_equal(tc_get(&tc, 1, "k", HADB_READ_LINEARIZABLE), "the value that rots");
    assert_int_equal(hadb_db_snapshot(tc.nodes[1].db, NULL), 0);
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_metric(&tc, 1, "snapshots_published") == 0;) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(5);
    }
}

/* The answer that a retry gets is a value of the engine, too. */
static void damage_that_a_write_meets__moves_the_database_and_the_write(void **state)
{
    (void)state;
    struct hadb_kv_options options = {.deadline_ms = 5000};
    struct hadb_kv_result result;
    struct hadb_error err = {0};
    tc_start(&tc, 2);
    hadb_id_v7(hadb_env_host(), &options.request_id);
    struct hadb_slice key = hadb_slice_str("k"), value = hadb_slice_str("x");
    assert_int_equal(hadb_kv_put(tc.nodes[0].db, key, value, &options, &result, &err), 0);
    struct hadb_version first = result.version;
    tc_wait_txid(&tc, 1, 1);
    flip(0, options.request_id.b, sizeof options.request_id.b, sizeof options.request_id.b);
    int r = hadb_kv_put(tc.nodes[0].db, key, value, &options, &result, &err);
    if (r != 0) {
        assert_int_equal(r, HADB_EUNAVAIL);
        says(err.message, "seg-");
    }
    halted_with_the_file(0);
    assert_int_equal(tc_leader(&tc, 0), 1);
    assert_int_equal(hadb_kv_put(tc.nodes[1].db, key, value, &options, &result, &err), 0);
    assert_int_equal(result.version.txid, first.txid); /* once, and answered */
}

/* ---- snapshots that fail for another reason ---- */

static void open_flaky(void)
{
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_storage storage;
    struct hadb_error err = {0};
    char dir[HADB_PATH_BYTES_MAX + 16];
    flaky_open(&flaky, tc.store, &storage);
    snprintf(dir, sizeof dir, "%s/n0", tc.dir);
    options.name = "n0";
    options.data_dir = dir;
    options.storage = &storage;
    options.lease_url = tc.lease;
    options.listen = "127.0.0.1:0";
    options.ttl_ms = tc.ttl_ms;
    assert_int_equal(hadb_node_open(&options, &tc.nodes[0].node, &err), 0);
    snprintf(tc.nodes[0].address, sizeof tc.nodes[0].address, "%s",
             hadb_node_address(tc.nodes[0].node));
    assert_int_equal(hadb_db_open(tc.nodes[0].node, TC_DB, &tc.db_options, &tc.nodes[0].db, &err),
                     0);
    tc_ready(&tc, 0);
}

static int healthz(char *out, size_t cap)
{
    struct tc_reply reply;
    int status = tc_http(tc.nodes[0].address, "GET", "/healthz", NULL, NULL, 0, &reply);
    snprintf(out, cap, "%s", reply.body);
    tc_reply_deinit(&reply);
    return status;
}

/* Writes until /healthz answers @status. */
static void write_until_health(int status, char *text, size_t cap)
{
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; healthz(text, cap) != status; tc_sleep_ms(2)) {
        assert_true(tc_now_ms() < end);
        tc_put(&tc, 0, "k", "x");
    }
}

static void snapshots_that_storage_refuses__turn_health_red_until_one_is_published(void **state)
{
    (void)state;
    char text[512], reason[256];
    struct hadb_db_info info;
    tc.db_options = (struct hadb_db_options)HADB_DB_OPTIONS_INIT;
    tc.db_options.snapshot_slots = 2;
    tc.db_options.grace_ms = 1;
    open_flaky();
    flaky_set(&flaky.refuse_snapshots, 1);
    write_until_health(503, text, sizeof text);
    says(text, "snapshots");
    says(text, "no snapshots today"); /* what storage said */
    assert_true(tc_metric(&tc, 0, "snapshots_failed") >= HADB_SNAPSHOT_FAILURES_MAX);
    tc_status(&tc, 0, "reason", reason, sizeof reason);
    says(reason, "no snapshots today");
    hadb_db_info(tc.nodes[0].db, &info);
    assert_int_equal(info.role, HADB_ROLE_LEADER); /* it is only the log that grows */
    assert_true(info.ready);
    flaky_set(&flaky.refuse_snapshots, 0);
    write_until_health(200, text, sizeof text);
    hadb_db_info(tc.nodes[0].db, &info);
    assert_string_equal(info.reason, "");
    assert_true(tc_metric(&tc, 0, "snapshots_published") >= 1);
}

/* One that fails is no news: the next one is due soon. */
static void a_snapshot_that_fails_once__leaves_health_green(void **state)
{
    (void)state;
    char text[512];
    tc.db_options = (struct hadb_db_options)HADB_DB_OPTIONS_INIT;
    tc.db_options.snapshot_slots = 2;
    open_flaky();
    flaky_set(&flaky.refuse_snapshots, 1);
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_metric(&tc, 0, "snapshots_failed") == 0;) {
        assert_true(tc_now_ms() < end);
        tc_put(&tc, 0, "k", "x");
    }
    flaky_set(&flaky.refuse_snapshots, 0);
    assert_int_equal(healthz(text, sizeof text), 200);
}

/* What storage does not give back as it was written is not this copy's fault. */
static void a_snapshot_that_storage_garbles__is_counted_and_halts_nothing(void **state)
{
    (void)state;
    open_flaky();
    tc_put(&tc, 0, "k", "x");
    flaky_set(&flaky.garble_snapshots, 1);
    assert_int_equal(hadb_db_snapshot(tc.nodes[0].db, NULL), 0);
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_metric(&tc, 0, "snapshots_failed") == 0;) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(2);
    }
    tc_put(&tc, 0, "k", "y");
    assert_int_equal(hadb_db_role(tc.nodes[0].db), HADB_ROLE_LEADER);
}

int main(void)
{
#define T(name) TC_TEST(name, setup, &tc)
    const struct CMUnitTest tests[] = {
        T(damage_that_a_read_meets_on_the_leader__moves_the_database_to_a_good_copy),
        T(damage_that_a_scan_meets_on_a_follower__halts_that_copy_alone),
        T(damage_that_a_snapshot_meets__moves_the_database_to_a_good_copy),
        T(damage_that_a_write_meets__moves_the_database_and_the_write),
        T(snapshots_that_storage_refuses__turn_health_red_until_one_is_published),
        T(a_snapshot_that_storage_garbles__is_counted_and_halts_nothing),
        T(a_snapshot_that_fails_once__leaves_health_green),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
