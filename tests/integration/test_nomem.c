/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any allocation of a node may fail: it says so or goes on; it never crashes, leaks, or loses what it acknowledged.
 * And once memory is back, whatever could be opened works: the request that met the failure is all it costs.
 *
 * A life has phases, and allocations are counted from the start of one of them: what opening costs grows with the
 * history, so counting from the start would never get beyond it.
 */
#include "tests/integration/cluster.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/support.h"

enum phase { OPEN, WORK, CLOSE, PHASES };
enum { KEPT_MAX = 2000, TRIES_MAX = 120 };

static struct tc tc;
static struct hadb_storage keep; /* the stores outlive their nodes */
static struct hadb_lease keep_lease;
static char kept[KEPT_MAX][24]; /* acknowledged keys */
static unsigned kept_len;

/* What fails, and what came of it. */
static struct {
    enum phase phase;
    uint64_t n; /* 0: nothing fails, only count */
    bool hit;
    uint64_t allocations; /* in the phase */
} plan;

static int setup(void **state)
{
    (void)state;
    tc_init(&tc, true);
    assert_int_equal(hadb_storage_open(tc.store, NULL, &keep, NULL), 0);
    assert_int_equal(hadb_lease_open(tc.lease, NULL, &keep_lease, NULL), 0);
    kept_len = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tc_deinit(&tc);
    hadb_storage_close(&keep);
    hadb_lease_close(&keep_lease);
    return 0;
}

static void begin(enum phase phase)
{
    if (plan.phase == phase) {
        test_alloc_arm(plan.n);
    }
}

static void end(enum phase phase)
{
    if (plan.phase == phase) {
        plan.allocations = test_alloc_count();
        plan.hit = test_alloc_hit();
        test_alloc_arm(0);
    }
}

static struct hadb_slice value(void)
{
    return hadb_slice_str("v");
}

static int put(struct hadb_db *db, const char *key, uint32_t deadline_ms)
{
    struct hadb_kv_options call = {.deadline_ms = deadline_ms};
    int r = hadb_kv_put(db, hadb_slice_str(key), value(), &call, NULL, NULL);
    if (r == 0) {
        assert_true(kept_len < KEPT_MAX);
        snprintf(kept[kept_len++], sizeof kept[0], "%s", key);
    }
    return r;
}

/* Memory is back. */
static void must_go_on(unsigned i, const char *key)
{
    struct hadb_kv_options call = {.deadline_ms = TC_WAIT_MS};
    struct hadb_error err = {0};
    struct hadb_db *db = tc.nodes[i].db;
    int r = hadb_kv_put(db, hadb_slice_str(key), value(), &call, NULL, &err);
    r = r != 0 ? r : hadb_kv_get(db, hadb_slice_str(key), &call, NULL, NULL, &err);
    if (r != 0) {
        struct hadb_db_info info;
        hadb_db_info(db, &info);
        fail_msg("node %u: allocation %lu of phase %d failed once, and since then: %d %s (%s)", i,
                 (unsigned long)plan.n, plan.phase, r, err.message, info.reason);
    }
}

static int open_one(unsigned i)
{
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_db_options db_options = HADB_DB_OPTIONS_INIT;
    char name[8], dir[HADB_PATH_BYTES_MAX + 16];
    snprintf(name, sizeof name, "n%u", i);
    snprintf(dir, sizeof dir, "%s/%s", tc.dir, name);
    options.name = name;
    options.data_dir = dir;
    options.storage_url = tc.store;
    options.lease_url = tc.lease;
    options.listen = "127.0.0.1:0";
    options.ttl_ms = 300;
    db_options.grace_ms = 1;
    int r = hadb_node_open(&options, &tc.nodes[i].node, NULL);
    return r < 0 ? r : hadb_db_open(tc.nodes[i].node, TC_DB, &db_options, &tc.nodes[i].db, NULL);
}

/* A write, reads, the status. */
static void work_alone(const char *key)
{
    struct hadb_kv_options call = {.deadline_ms = 400};
    struct hadb_buf got = {0}, text = {0};
    struct hadb_kv_items items = {0};
    struct hadb_db *db = tc.nodes[0].db;
    put(db, key, 400);
    hadb_kv_get(db, hadb_slice_str(key), &call, &got, NULL, NULL);
    if (hadb_kv_scan(db, NULL, 10, &call, &items, NULL, NULL) == 0) {
        hadb_kv_items_deinit(&items);
    }
    hadb_node_status(tc.nodes[0].node, &text, NULL);
    hadb_buf_deinit(&text);
    hadb_buf_deinit(&got);
}

/* A forwarded write, a snapshot, hand-offs to and fro, another write. */
static void work_together(const char *key)
{
    struct hadb_kv_options call = {.deadline_ms = 400};
    put(tc.nodes[1].db, key, 400);
    hadb_kv_get(tc.nodes[1].db, hadb_slice_str(key), &call, NULL, NULL, NULL);
    hadb_db_snapshot(tc.nodes[0].db, NULL);
    hadb_db_handoff(tc.nodes[0].db, "n1", 200, NULL);
    hadb_db_handoff(tc.nodes[1].db, "n0", 200, NULL);
    put(tc.nodes[0].db, key, 400);
}

/* One life of @len nodes. */
static void live(unsigned len, const char *key)
{
    int r = 0;
    begin(OPEN);
    for (unsigned i = 0; i < len && r == 0; i++) {
        r = open_one(i);
    }
    end(OPEN);
    for (unsigned i = 0; i < len && r == 0; i++) {
        must_go_on(i, "opened");
    }
    begin(WORK);
    if (r == 0 && len == 1) {
        work_alone(key);
    } else if (r == 0) {
        work_together(key);
    }
    end(WORK);
    for (unsigned i = 0; i < len && r == 0; i++) {
        must_go_on(i, "worked");
    }
    begin(CLOSE);
    for (unsigned i = len; i > 0; i--) {
        tc_close(&tc, i - 1, 200);
    }
    end(CLOSE);
}

/* Fails allocation 1, 2, 3 … of @phase, or as many of them as TRIES_MAX allows. */
static void fail_each(unsigned len, enum phase phase, unsigned hits_min)
{
    unsigned hits = 0;
    plan.phase = phase;
    plan.n = 0;
    live(len, "count");
    const uint64_t step = 1 + plan.allocations / TRIES_MAX;
    const uint64_t last = plan.allocations + plan.allocations / 4;
    for (uint64_t n = 1; n <= last; n += step) {
        char key[24];
        plan.n = n;
        snprintf(key, sizeof key, "p%d-%lu", phase, (unsigned long)n);
        live(len, key);
        hits += plan.hit;
    }
    if (hits < hits_min) {
        fail_msg("phase %d: only %u allocations failed", phase, hits);
    }
}

static void expect_kept(void)
{
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    for (unsigned i = 0; i < kept_len; i++) {
        assert_string_equal(tc_get(&tc, 0, kept[i], HADB_READ_LINEARIZABLE), "v");
    }
}

static void a_node__goes_on_after_any_failed_allocation(void **state)
{
    (void)state;
    live(1, "first"); /* with creation and probe */
    fail_each(1, OPEN, 50);
    fail_each(1, WORK, 20);
    fail_each(1, CLOSE, 3);
    expect_kept();
}

static void two_nodes__go_on_after_any_failed_allocation(void **state)
{
    (void)state;
    live(2, "first");
    fail_each(2, OPEN, 50);
    fail_each(2, WORK, 50);
    fail_each(2, CLOSE, 3);
    expect_kept();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_node__goes_on_after_any_failed_allocation, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(two_nodes__go_on_after_any_failed_allocation, setup,
                                        teardown),
    };
    test_alloc_fail_at(0); /* before there are threads */
    return cmocka_run_group_tests_name("nomem", tests, NULL, NULL);
}
