/* SPDX-License-Identifier: Apache-2.0 */
/* Any allocation of a node may fail: it says so or goes on, it never crashes, leaks, or loses what it acknowledged. */
#include "tests/integration/cluster.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/support.h"

/* Opens a node, writes, reads, closes. What succeeded is told. */
static bool life(struct tc *tc, const char *key)
{
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_node *node = NULL;
    struct hadb_db *db = NULL;
    struct hadb_error err = {0};
    char dir[HADB_PATH_BYTES_MAX + 16];
    snprintf(dir, sizeof dir, "%s/n0", tc->dir);
    options.name = "n0";
    options.data_dir = dir;
    options.storage_url = tc->store;
    options.lease_url = tc->lease;
    options.listen = "127.0.0.1:0";
    struct hadb_kv_options call = {.deadline_ms = 400};
    bool acked = false;
    if (hadb_node_open(&options, &node, &err) == 0) {
        if (hadb_db_open(node, TC_DB, NULL, &db, &err) == 0) {
            acked =
                hadb_kv_put(db, hadb_slice_str(key), hadb_slice_str("v"), &call, NULL, &err) == 0;
            struct hadb_buf value = {0}, text = {0};
            struct hadb_kv_items items = {0};
            hadb_kv_get(db, hadb_slice_str(key), &call, &value, NULL, &err);
            if (hadb_kv_scan(db, NULL, 10, &call, &items, NULL, &err) == 0) {
                hadb_kv_items_deinit(&items);
            }
            hadb_node_status(node, &text, &err);
            hadb_buf_deinit(&text);
            hadb_buf_deinit(&value);
        }
        hadb_node_close(node, 200);
    }
    return acked;
}

static int open_one(struct tc *tc, unsigned i)
{
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_db_options db_options = HADB_DB_OPTIONS_INIT;
    char name[8], dir[HADB_PATH_BYTES_MAX + 16];
    snprintf(name, sizeof name, "n%u", i);
    snprintf(dir, sizeof dir, "%s/%s", tc->dir, name);
    options.name = name;
    options.data_dir = dir;
    options.storage_url = tc->store;
    options.lease_url = tc->lease;
    options.listen = "127.0.0.1:0";
    options.ttl_ms = 300;
    db_options.grace_ms = 1;
    int r = hadb_node_open(&options, &tc->nodes[i].node, NULL);
    return r < 0 ? r : hadb_db_open(tc->nodes[i].node, TC_DB, &db_options, &tc->nodes[i].db, NULL);
}

/* Two nodes: a forwarded write, a snapshot, a hand-off, another write, a restore. */
static bool lives(struct tc *tc, const char *key)
{
    struct hadb_kv_options call = {.deadline_ms = 400};
    struct hadb_slice k = hadb_slice_str(key), v = hadb_slice_str("v");
    bool acked = false;
    if (open_one(tc, 0) == 0 && open_one(tc, 1) == 0) {
        acked = hadb_kv_put(tc->nodes[1].db, k, v, &call, NULL, NULL) == 0;
        hadb_kv_get(tc->nodes[1].db, k, &call, NULL, NULL, NULL);
        hadb_db_snapshot(tc->nodes[0].db, NULL);
        hadb_db_handoff(tc->nodes[0].db, "n1", 200, NULL);
        hadb_db_handoff(tc->nodes[1].db, "n0", 200, NULL);
        acked = hadb_kv_put(tc->nodes[0].db, k, v, &call, NULL, NULL) == 0 || acked;
    }
    tc_close(tc, 1, 0);
    tc_close(tc, 0, 100);
    return acked;
}

static void two_nodes__live_with_any_failed_allocation(void **state)
{
    (void)state;
    struct tc tc;
    struct hadb_storage keep;
    struct hadb_lease keep_lease;
    tc_init(&tc, true);
    assert_int_equal(hadb_storage_open(tc.store, NULL, &keep, NULL), 0);
    assert_int_equal(hadb_lease_open(tc.lease, NULL, &keep_lease, NULL), 0);
    assert_true(lives(&tc, "first"));
    test_alloc_fail_at(0);
    assert_true(lives(&tc, "second"));
    uint64_t len = test_alloc_count();
    test_alloc_reset();
    char acked[512][16];
    unsigned acked_len = 0, hits = 0;
    for (uint64_t n = 1; n <= len; n += 1 + len / 120) {
        char key[16];
        snprintf(key, sizeof key, "k%lu", (unsigned long)n);
        test_alloc_fail_at(n);
        bool done = lives(&tc, key);
        hits += test_alloc_hit();
        test_alloc_reset();
        if (done) {
            assert_true(acked_len < 512);
            snprintf(acked[acked_len++], sizeof acked[0], "%s", key);
        }
    }
    assert_true(hits > 40);
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    for (unsigned i = 0; i < acked_len; i++) {
        assert_string_equal(tc_get(&tc, 0, acked[i], HADB_READ_LINEARIZABLE), "v");
    }
    tc_deinit(&tc);
    hadb_storage_close(&keep);
    hadb_lease_close(&keep_lease);
}

static void a_node__lives_with_any_failed_allocation(void **state)
{
    (void)state;
    struct tc tc;
    struct hadb_storage keep;
    tc_init(&tc, true);
    assert_int_equal(hadb_storage_open(tc.store, NULL, &keep, NULL),
                     0); /* the store outlives a node */
    test_alloc_fail_at(0);
    assert_true(life(&tc, "first")); /* with creation and probe */
    test_alloc_reset();
    test_alloc_fail_at(0);
    assert_true(life(&tc, "second"));
    uint64_t len = test_alloc_count();
    test_alloc_reset();
    assert_true(len > 100);
    char acked[512][16];
    unsigned acked_len = 0, hits = 0;
    for (uint64_t n = 1; n <= len + len / 4; n += 1 + len / 160) {
        char key[16];
        snprintf(key, sizeof key, "k%lu", (unsigned long)n);
        test_alloc_fail_at(n);
        bool done = life(&tc, key);
        hits += test_alloc_hit();
        test_alloc_reset();
        if (done) {
            assert_true(acked_len < 512);
            snprintf(acked[acked_len++], sizeof acked[0], "%s", key);
        }
    }
    assert_true(hits > 50);
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    for (unsigned i = 0; i < acked_len; i++) {
        assert_string_equal(tc_get(&tc, 0, acked[i], HADB_READ_LINEARIZABLE), "v");
    }
    tc_deinit(&tc);
    hadb_storage_close(&keep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node__lives_with_any_failed_allocation),
        cmocka_unit_test(two_nodes__live_with_any_failed_allocation),
    };
    return cmocka_run_group_tests_name("nomem", tests, NULL, NULL);
}
