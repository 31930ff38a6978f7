/* SPDX-License-Identifier: Apache-2.0 */
/* What a node may do while its lease record cannot be renewed, and that it is renewed in time (4.6). */
#include "tests/integration/cluster.h"

#include <stdio.h>
#include <string.h>

static struct tc tc;

static int put(enum hadb_ack_mode ack, struct hadb_error *err)
{
    struct hadb_kv_options options = {.ack = ack};
    return hadb_kv_put(tc.nodes[0].db, hadb_slice_str("key"), hadb_slice_str("value"), &options,
                       NULL, err);
}

/* Until the call returns @wanted; the lease store was moved away, or back, just before. */
static void put_until(enum hadb_ack_mode ack, int wanted, struct hadb_error *err)
{
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; put(ack, err) != wanted;) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(10);
    }
}

/*
 * The deadline counts from the sending of the last renewal. After it only what is safe elsewhere is acknowledged;
 * nobody may have been told "done" of a write that a new leader does not have.
 */
static void
a_leader_that_cannot_renew__refuses_local_writes_and_goes_on_with_durable_ones(void **state)
{
    (void)state;
    char lease[HADB_PATH_BYTES_MAX + 16], away[HADB_PATH_BYTES_MAX + 16];
    struct hadb_error err = {0};
    snprintf(lease, sizeof lease, "%s/lease", tc.dir);
    snprintf(away, sizeof away, "%s/away", tc.dir);
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    put_until(HADB_ACK_LOCAL, 0, &err); /* the record is written beside opening */
    assert_int_equal(rename(lease, away), 0);
    FILE *file = fopen(lease, "w"); /* else the folder would be made again */
    assert_non_null(file);
    fclose(file);
    put_until(HADB_ACK_LOCAL, HADB_EUNAVAIL, &err);
    assert_non_null(strstr(err.message, "lease"));
    assert_int_equal(put(HADB_ACK_ASYNC, &err), HADB_EUNAVAIL);
    assert_int_equal(put(HADB_ACK_DURABLE, &err), 0);
    assert_int_equal(put(HADB_ACK_BOTH, &err), 0);
    assert_int_equal(remove(lease), 0);
    assert_int_equal(rename(away, lease), 0);
    put_until(HADB_ACK_LOCAL, 0, &err);
}

static void a_ttl_that_cannot_survive_a_missed_renewal__is_refused_at_the_start(void **state)
{
    (void)state;
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_node *node = NULL;
    struct hadb_error err = {0};
    char dir[HADB_PATH_BYTES_MAX + 16];
    snprintf(dir, sizeof dir, "%s/n0", tc.dir);
    options.name = "n0";
    options.data_dir = dir;
    options.storage_url = tc.store;
    options.lease_url = tc.lease;
    options.listen = "127.0.0.1:0";
    options.ttl_ms = 1;
    assert_int_equal(hadb_node_open(&options, &node, &err), HADB_EINVAL);
    assert_null(node);
    assert_non_null(strstr(err.message, "ttl"));
}

int main(void)
{
#define T(name) TC_TEST(name, tc_setup_files, &tc)
    const struct CMUnitTest tests[] = {
        T(a_leader_that_cannot_renew__refuses_local_writes_and_goes_on_with_durable_ones),
        T(a_ttl_that_cannot_survive_a_missed_renewal__is_refused_at_the_start),
    };
    return cmocka_run_group_tests_name("lease", tests, NULL, NULL);
}
