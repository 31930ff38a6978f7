/* SPDX-License-Identifier: Apache-2.0 */
/* Storage and disks that misbehave under whole nodes: nothing is lost, nothing happens twice, all is told. */
#include "tests/integration/cluster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/error.h"
#include "base/id.h"
#include "tests/integration/flaky.h"
#include "tests/support/support.h"

static struct tc tc;
static struct flaky flaky[3];

static int setup(void **state)
{
    (void)state;
    tc_init(&tc, true);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        flaky_set(&flaky[i].down, 0);
        flaky_set(&flaky[i].full, 0);
        flaky_set(&flaky[i].hold_replies, -1);
    }
    tc_deinit(&tc);
    return 0;
}

/* As tc_open(), with a storage of its own switches in front of the shared one. */
static int open_flaky(unsigned i, const struct hadb_env *env, bool racy, struct hadb_error *err)
{
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_storage storage;
    char name[16], dir[HADB_PATH_BYTES_MAX + 16];
    flaky_open(&flaky[i], tc.store, &storage);
    flaky_set(&flaky[i].racy, racy);
    snprintf(name, sizeof name, "n%u", i);
    snprintf(dir, sizeof dir, "%s/%s", tc.dir, name);
    options.name = name;
    options.data_dir = dir;
    options.storage = &storage;
    options.lease_url = tc.lease;
    options.listen = "127.0.0.1:0";
    options.ttl_ms = tc.ttl_ms;
    options.window = tc.window;
    options.env = env;
    options.on_event = tc.on_event;
    options.event_arg = tc.event_arg;
    int r = hadb_node_open(&options, &tc.nodes[i].node, err);
    if (r < 0) {
        hadb_storage_close(&storage);
        return r;
    }
    assert_null(storage.ops); /* taken over */
    snprintf(tc.nodes[i].address, sizeof tc.nodes[i].address, "%s",
             hadb_node_address(tc.nodes[i].node));
    return hadb_db_open(tc.nodes[i].node, TC_DB, &tc.db_options, &tc.nodes[i].db, err);
}

static void start(unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        struct hadb_error err = {0};
        if (open_flaky(i, NULL, false, &err) < 0) {
            fail_msg("%s", err.message);
        }
        tc_ready(&tc, i);
    }
}

static int put(unsigned i, const char *key, uint32_t deadline_ms, struct hadb_id *id)
{
    struct hadb_kv_options options = {
        .deadline_ms = deadline_ms, .request_id = *id, .if_absent = true};
    struct hadb_kv_result result;
    struct hadb_error err = {0};
    int r = hadb_kv_put(tc.nodes[i].db, hadb_slice_str(key), hadb_slice_str("x"), &options, &result,
                        &err);
    *id = result.request_id;
    return r;
}

static uint64_t txid(unsigned i)
{
    struct hadb_db_info info;
    hadb_db_info(tc.nodes[i].db, &info);
    return info.txid;
}

static void a_lost_reply_of_storage__neither_loses_nor_repeats_the_write(void **state)
{
    (void)state;
    start(2);
    for (int i = 0; i < 10; i++) {
        char key[16];
        struct hadb_id id = {0};
        snprintf(key, sizeof key, "k%d", i);
        flaky_set(&flaky[0].lose_replies, 1 + i % 3);
        assert_int_equal(put(0, key, 0, &id), 0);
    }
    assert_int_equal(txid(0), 10);
    assert_int_equal(hadb_db_role(tc.nodes[0].db),
                     HADB_ROLE_LEADER); /* and it is not fenced by itself */
    tc_wait_txid(&tc, 1, 10);
    assert_true(tc_metric(&tc, 0, "log_resends") >= 10);
}

static void count_ok(void *arg, int r, struct hadb_slice value, const struct hadb_kv_result *result,
                     const struct hadb_error *err)
{
    (void)value;
    (void)result;
    (void)err;
    __atomic_fetch_add((int *)arg, r == 0 ? 1 : 1000, __ATOMIC_SEQ_CST);
}

static void wait_until(const int *count, int want)
{
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS;
         __atomic_load_n(count, __ATOMIC_SEQ_CST) != want;) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(1);
    }
}

#define READS 8

/* A create whose reply is missing, a write held back behind it, and reads that need a proof. */
static void a_reply_that_never_comes__holds_up_no_linearizable_read(void **state)
{
    (void)state;
    tc.window = 1;
    tc.ttl_ms = 30000;
    start(1);
    static int writes, reads;
    struct hadb_id id = {0};
    assert_int_equal(put(0, "k0", 0, &id), 0);
    writes = reads = 0;
    flaky_set(&flaky[0].hold_replies, 1);
    for (int i = 1; i <= 2; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(hadb_kv_put_async(tc.nodes[0].db, hadb_slice_str(key), hadb_slice_str("x"),
                                           NULL, count_ok, &writes, NULL),
                         0);
        wait_until(&flaky[0].held, 1);
    }
    while (txid(0) < 3) {
        tc_sleep_ms(1);
    }
    int gets = __atomic_load_n(&flaky[0].log_gets, __ATOMIC_SEQ_CST);
    for (int i = 0; i < READS; i++) {
        assert_int_equal(
            hadb_kv_get_async(tc.nodes[0].db, hadb_slice_str("k2"), NULL, count_ok, &reads, NULL),
            0);
    }
    wait_until(&reads, READS);
    wait_until(&writes, 2); /* their slots were found there, or written */
    assert_int_equal(__atomic_load_n(&flaky[0].held, __ATOMIC_SEQ_CST), 1); /* still no answer */
    assert_int_equal(__atomic_load_n(&flaky[0].log_gets, __ATOMIC_SEQ_CST) - gets, 1);
}

static void an_election_whose_seal_is_not_answered__still_ends(void **state)
{
    (void)state;
    start(2);
    struct hadb_id id = {0};
    assert_int_equal(put(0, "k", 0, &id), 0);
    tc_wait_txid(&tc, 1, 1);
    flaky_set(&flaky[1].lose_replies, 2);
    tc_close(&tc, 0, 0);
    assert_int_equal(tc_leader(&tc, 0), 1);
    struct hadb_db_info info;
    hadb_db_info(tc.nodes[1].db, &info);
    assert_int_equal(info.term, 2);
}

static void a_write_during_an_outage__is_unknown_at_its_deadline_and_settled_by_its_id(void **state)
{
    (void)state;
    tc.ttl_ms = 30000;
    start(1);
    struct hadb_id id = {0};
    flaky_set(&flaky[0].down, 1);
    assert_int_equal(put(0, "k", 150, &id), HADB_EUNKNOWN);
    flaky_set(&flaky[0].down, 0);
    assert_int_equal(put(0, "k", 0, &id), 0); /* under another id it would be refused */
    assert_int_equal(txid(0), 1);
    struct hadb_id other = {0};
    assert_int_equal(put(0, "k", 0, &other), HADB_NOT_MET);
}

static void an_unknown_outcome__is_504_over_http(void **state)
{
    (void)state;
    tc.ttl_ms = 30000;
    start(1);
    struct tc_reply reply;
    flaky_set(&flaky[0].down, 1);
    assert_int_equal(tc_http(tc.nodes[0].address, "PUT", "/v1/db/" TC_DB "/kv/k",
                             "Hadb-Deadline-Ms: 150\r\n", "x", 1, &reply),
                     504);
    assert_non_null(strstr(reply.body, "EUNKNOWN"));
    tc_reply_deinit(&reply);
    /* A read that cannot be proven is refused. */
    assert_int_equal(tc_http(tc.nodes[0].address, "GET", "/v1/db/" TC_DB "/kv/k",
                             "Hadb-Deadline-Ms: 150\r\n", NULL, 0, &reply),
                     503);
    char retry[16];
    assert_true(tc_header(&reply, "Retry-After", retry, sizeof retry));
    tc_reply_deinit(&reply);
    flaky_set(&flaky[0].down, 0);
}

/* Waits until @path is answered with @status; its body has @word. */
static void wait_answer(unsigned i, const char *path, int status, const char *word)
{
    struct tc_reply reply = {0};
    bool found = false;
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; !found && tc_now_ms() < end;) {
        int got = tc_http(tc.nodes[i].address, "GET", path, NULL, NULL, 0, &reply);
        found = got == status && strstr(reply.body, word);
        if (!found && tc_now_ms() + 20 >= end) {
            fail_msg("%s: %d %s", path, got, reply.body);
        }
        tc_reply_deinit(&reply);
        tc_sleep_ms(found ? 0 : 10);
    }
    assert_true(found);
}

/* Also on the node that has nothing to write any more when there is room again. */
static void a_full_store__is_shown_until_something_can_be_written(void **state)
{
    (void)state;
    tc.ttl_ms = 500;
    start(2);
    flaky_set(&flaky[0].full, 1);
    flaky_set(&flaky[1].full, 1);
    struct hadb_id id = {0};
    assert_int_equal(put(0, "k", 100, &id), HADB_EUNKNOWN);
    wait_answer(0, "/v1/status", 200,
                "\"storage\":{\"state\":\"failing\",\"error\":\"ENOSPC\",\"message\":\"the store "
                "is full\"");
    wait_answer(0, "/readyz", 503, "the store is full");
    wait_answer(0, "/healthz", 503, "no durable progress: storage fails");
    flaky_set(&flaky[0].full, 0);
    flaky_set(&flaky[1].full, 0);
    for (unsigned i = 0; i < 2; i++) {
        wait_answer(i, "/healthz", 200, "ok");
        wait_answer(i, "/readyz", 200, "ready");
        wait_answer(i, "/v1/status", 200, "\"storage\":{\"state\":\"ok\"}");
    }
    assert_int_equal(put(0, "k", 0, &id), 0);
}

/* The same with a reader alone, who has given up long before. */
static void a_silent_store__that_only_a_reader_met_is_forgotten_without_another(void **state)
{
    (void)state;
    tc.ttl_ms = 30000;
    start(2);
    struct hadb_kv_options options = {.deadline_ms = 50};
    struct hadb_error err;
    struct hadb_buf out HADB_CLEANUP(hadb_buf_deinit) = {0};
    flaky_set(&flaky[1].down, 1);
    assert_int_equal(hadb_kv_get(tc.nodes[1].db, hadb_slice_str("k"), &options, &out, NULL, &err),
                     HADB_EUNAVAIL);
    wait_answer(1, "/readyz", 503, "the store does not answer");
    wait_answer(0, "/readyz", 200, "ready");
    flaky_set(&flaky[1].down, 0);
    wait_answer(1, "/readyz", 200, "ready");
    wait_answer(1, "/healthz", 200, "ok");
}

static void a_leader_without_storage__is_replaced_and_its_write_ends_once(void **state)
{
    (void)state;
    tc.ttl_ms = 500;
    start(2);
    struct hadb_id id = {0};
    assert_int_equal(put(0, "before", 0, &id), 0);
    tc_wait_txid(&tc, 1, 1);
    flaky_set(&flaky[0].down, 1); /* for this node only */
    struct hadb_id lost = {0};
    assert_int_equal(put(0, "lost", 300, &lost), HADB_EUNKNOWN);
    assert_int_equal(tc_leader(&tc, 0), 1);
    struct hadb_id during = {0};
    assert_int_equal(put(1, "during", 0, &during), 0);
    flaky_set(&flaky[0].down, 0);
    /* The old leader finds the seal, keeps its tail aside, and follows. The retry settles the open write. */
    assert_int_equal(put(0, "lost", 0, &lost), 0);
    tc_wait_txid(&tc, 0, 3);
    assert_int_equal(tc_metric(&tc, 0, "fenced"), 1);
    assert_int_equal(tc_metric(&tc, 0, "tails_saved"), 1);
    assert_string_equal(tc_get(&tc, 0, "during", HADB_READ_LINEARIZABLE), "x");
    struct hadb_db_info a, b;
    hadb_db_info(tc.nodes[0].db, &a);
    hadb_db_info(tc.nodes[1].db, &b);
    assert_memory_equal(&a.chain_hash, &b.chain_hash, sizeof a.chain_hash);
    assert_int_equal(b.txid, 3);
}

static void a_corrupt_log_entry__halts_the_follower_and_says_so(void **state)
{
    (void)state;
    start(1);
    struct hadb_id id = {0};
    struct hadb_error err = {0};
    assert_int_equal(put(0, "k", 0, &id), 0);
    /* Both reads of the entry are damaged: the second one is what the machine asks after its doubt. */
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_storage storage;
    char dir[HADB_PATH_BYTES_MAX + 16];
    flaky_open(&flaky[1], tc.store, &storage);
    flaky_set(&flaky[1].corrupt_gets, 1000);
    snprintf(dir, sizeof dir, "%s/n1", tc.dir);
    options.name = "n1";
    options.data_dir = dir;
    options.storage = &storage;
    options.lease_url = tc.lease;
    options.listen = "127.0.0.1:0";
    assert_int_equal(hadb_node_open(&options, &tc.nodes[1].node, &err), 0);
    snprintf(tc.nodes[1].address, sizeof tc.nodes[1].address, "%s",
             hadb_node_address(tc.nodes[1].node));
    assert_int_equal(hadb_db_open(tc.nodes[1].node, TC_DB, NULL, &tc.nodes[1].db, &err), 0);
    assert_int_equal(hadb_db_wait_ready(tc.nodes[1].db, TC_WAIT_MS, &err), HADB_EUNAVAIL);
    assert_non_null(strstr(err.message, "corrupt"));
    assert_int_equal(hadb_db_role(tc.nodes[1].db), HADB_ROLE_HALTED);
    struct tc_reply reply;
    assert_int_equal(tc_http(tc.nodes[1].address, "GET", "/healthz", NULL, NULL, 0, &reply), 503);
    assert_non_null(strstr(reply.body, "corrupt"));
    tc_reply_deinit(&reply);
    assert_string_equal(tc_get(&tc, 0, "k", HADB_READ_LINEARIZABLE), "x"); /* the leader goes on */
}

static void a_manifest_write_without_an_answer__is_looked_up(void **state)
{
    (void)state;
    tc.db_options.grace_ms = 1;
    start(1);
    struct hadb_id id = {0};
    assert_int_equal(put(0, "k", 0, &id), 0);
    flaky_set(&flaky[0].lose_cas, 1);
    assert_int_equal(hadb_db_snapshot(tc.nodes[0].db, NULL), 0);
    uint64_t before = tc_metric(&tc, 0, "storage_delete_many_done");
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS;
         tc_metric(&tc, 0, "storage_delete_many_done") == before;) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(5);
    }
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    assert_int_equal(tc_metric(&tc, 1, "restores"), 1);
    assert_string_equal(tc_get(&tc, 1, "k", HADB_READ_ANY), "x");
}

static void a_store_that_breaks_its_promise__is_never_led_from(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    assert_int_equal(open_flaky(0, NULL, true, &err), 0);
    struct hadb_id id = {0};
    assert_int_equal(put(0, "k", 300, &id), HADB_EUNAVAIL);
    assert_int_equal(hadb_db_role(tc.nodes[0].db), HADB_ROLE_FOLLOWER);
    assert_int_equal(tc_metric(&tc, 0, "elections_won"), 0);
}

/* ---- local disks ---- */

static struct test_faultfs faultfs;

static void a_disk_that_fails_on_the_leader__hands_the_database_to_others(void **state)
{
    (void)state;
    static struct hadb_env env;
    struct hadb_error err = {0};
    tc.ttl_ms = 500;
    env = *hadb_env_host();
    faultfs = (struct test_faultfs){.mask = 1u << TEST_FS_WRITE, .sticky = true};
    env.fs = test_faultfs(&faultfs);
    assert_int_equal(open_flaky(0, &env, false, &err), 0);
    tc_ready(&tc, 0);
    struct hadb_id id = {0};
    assert_int_equal(put(0, "before", 0, &id), 0);
    assert_int_equal(open_flaky(1, NULL, false, &err), 0);
    tc_ready(&tc, 1);
    tc_wait_txid(&tc, 1, 1);
    __atomic_store_n(&faultfs.fail_at, __atomic_load_n(&faultfs.count, __ATOMIC_RELAXED) + 1,
                     __ATOMIC_RELAXED);
    struct hadb_id lost = {0};
    int r = put(0, "lost", 300, &lost);
    assert_true(r == HADB_EUNKNOWN || r == HADB_EUNAVAIL);
    assert_int_equal(hadb_db_role(tc.nodes[0].db), HADB_ROLE_HALTED);
    assert_int_equal(tc_leader(&tc, 0), 1);
    assert_int_equal(put(1, "lost", 0, &lost), 0);
    assert_string_equal(tc_get(&tc, 1, "before", HADB_READ_LINEARIZABLE), "x");
    tc_close(&tc, 0, 0);
}

static struct hadb_env disk_env;

/* Opens node @i on a disk of its own switches. */
static void open_on_disk(unsigned i)
{
    struct hadb_error err = {0};
    disk_env = *hadb_env_host();
    faultfs =
        (struct test_faultfs){.mask = 1u << TEST_FS_WRITE, .sticky = true, .sys_errno = ENOSPC};
    disk_env.fs = test_faultfs(&faultfs);
    if (open_flaky(i, &disk_env, false, &err) != 0) {
        fail_msg("%s", err.message);
    }
    tc_ready(&tc, i);
}

/* The @after-th write from now, and all that follow, find no space; 0: there is space again. */
static void fill_disk(uint64_t after)
{
    uint64_t at = after ? __atomic_load_n(&faultfs.count, __ATOMIC_RELAXED) + after : 0;
    __atomic_store_n(&faultfs.hit, false, __ATOMIC_RELAXED);
    __atomic_store_n(&faultfs.fail_at, at, __ATOMIC_RELAXED);
}

static void wait_hit(void)
{
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_now_ms() < end; tc_sleep_ms(2)) {
        if (__atomic_load_n(&faultfs.hit, __ATOMIC_RELAXED)) {
            return;
        }
    }
    fail_msg("nothing was written");
}

static void a_full_disk_on_the_leader__refuses_writes_until_there_is_space(void **state)
{
    (void)state;
    open_on_disk(0);
    struct hadb_id before = {0}, refused = {0}, after = {0};
    assert_int_equal(put(0, "before", 0, &before), 0);
    fill_disk(1);
    assert_int_equal(put(0, "refused", 0, &refused), HADB_ENOSPC);
    assert_int_equal(put(0, "again", 0, &after), HADB_ENOSPC);
    assert_string_equal(tc_get(&tc, 0, "before", HADB_READ_LINEARIZABLE), "x");
    assert_string_equal(tc_get(&tc, 0, "refused", HADB_READ_LINEARIZABLE), "");
    struct tc_reply reply;
    assert_int_equal(
        tc_http(tc.nodes[0].address, "PUT", "/v1/db/" TC_DB "/kv/k", "", "x", 1, &reply), 503);
    assert_non_null(strstr(reply.body, "ENOSPC"));
    tc_reply_deinit(&reply);
    fill_disk(0);
    assert_int_equal(put(0, "refused", 0, &refused), 0);
    assert_int_equal(hadb_db_role(tc.nodes[0].db), HADB_ROLE_LEADER);
    assert_string_equal(tc_get(&tc, 0, "refused", HADB_READ_LINEARIZABLE), "x");
    tc_close(&tc, 0, 0);
}

/* The commit found space, the engine's mark behind it did not. */
static void a_disk_that_fills_up_behind_a_commit__costs_nothing(void **state)
{
    (void)state;
    open_on_disk(0);
    struct hadb_id first = {0}, second = {0};
    fill_disk(2);
    assert_int_equal(put(0, "first", 0, &first), 0);
    wait_hit();
    assert_int_equal(put(0, "second", 0, &second), HADB_ENOSPC);
    assert_int_equal(hadb_db_role(tc.nodes[0].db), HADB_ROLE_LEADER);
    uint64_t writes = __atomic_load_n(&faultfs.count, __ATOMIC_RELAXED);
    fill_disk(0);
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS;
         __atomic_load_n(&faultfs.count, __ATOMIC_RELAXED) == writes; tc_sleep_ms(2)) {
        assert_true(tc_now_ms() < end); /* the mark follows by itself */
    }
    assert_int_equal(put(0, "second", 0, &second), 0);
    tc_close(&tc, 0, 0);
}

static void a_full_disk_on_a_follower__holds_it_up_until_there_is_space(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    assert_int_equal(open_flaky(0, NULL, false, &err), 0);
    tc_ready(&tc, 0);
    struct hadb_id id = {0}, other = {0};
    assert_int_equal(put(0, "a", 0, &id), 0);
    open_on_disk(1);
    tc_wait_txid(&tc, 1, 1);
    fill_disk(1);
    assert_int_equal(put(0, "b", 0, &other), 0);
    wait_hit();
    assert_string_equal(tc_get(&tc, 1, "a", HADB_READ_ANY), "x");
    assert_int_equal(txid(1), 1);
    assert_int_equal(hadb_db_role(tc.nodes[1].db), HADB_ROLE_FOLLOWER);
    fill_disk(0);
    tc_wait_txid(&tc, 1, 2);
    assert_string_equal(tc_get(&tc, 1, "b", HADB_READ_LINEARIZABLE), "x");
    tc_close(&tc, 1, 0);
}

/* What the disk of the leader could not hold is not lost to the others, and an fsync that fails is the end of
 * this copy only: opened again, it takes what it misses from storage. */
static void a_failed_fsync__costs_one_copy_until_it_is_opened_again(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    tc.ttl_ms = 500;
    tc.db_options.ack = HADB_ACK_BOTH;
    open_on_disk(0);
    __atomic_store_n(&faultfs.mask, 1u << TEST_FS_SYNC, __ATOMIC_RELAXED);
    __atomic_store_n(&faultfs.sys_errno, EIO, __ATOMIC_RELAXED);
    __atomic_store_n(&faultfs.sticky, false, __ATOMIC_RELAXED);
    struct hadb_id before = {0}, during = {0}, after = {0};
    assert_int_equal(put(0, "before", 0, &before), 0);
    assert_int_equal(open_flaky(1, NULL, false, &err), 0);
    tc_ready(&tc, 1);
    fill_disk(1); /* the next fsync fails, once; those after it would lie */
    int r = put(0, "during", 1000, &during);
    assert_true(r == HADB_EUNKNOWN || r == HADB_EUNAVAIL);
    assert_int_equal(hadb_db_role(tc.nodes[0].db), HADB_ROLE_HALTED);
    assert_string_equal(tc_get(&tc, 0, "before", HADB_READ_ANY),
                        "x"); /* the process lives and reads */
    assert_int_equal(tc_leader(&tc, 0), 1);
    assert_int_equal(put(1, "during", 0, &during), 0);
    assert_int_equal(put(1, "after", 0, &after), 0);
    tc_close(&tc, 0, 0);
    open_on_disk(0);
    tc_wait_txid(&tc, 0, txid(1));
    assert_string_equal(tc_get(&tc, 0, "during", HADB_READ_LINEARIZABLE), "x");
    assert_string_equal(tc_get(&tc, 0, "after", HADB_READ_LINEARIZABLE), "x");
    tc_close(&tc, 0, 0);
}

/* ---- a lease that runs out ---- */

struct deaf_lease {
    struct hadb_lease inner;
    int down; /* atomic */
};

static int deaf_read(void *self, const struct hadb_call *call, const char *key,
                     struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    struct deaf_lease *lease = self;
    return __atomic_load_n(&lease->down, __ATOMIC_SEQ_CST)
               ? hadb_fail(err, HADB_ETIMEDOUT, "the lease store does not answer")
               : hadb_lease_read(&lease->inner, call, key, out, tag, err);
}

static int deaf_write(void *self, const struct hadb_call *call, const char *key,
                      struct hadb_slice record, const struct hadb_tag *expected,
                      struct hadb_tag *tag, struct hadb_error *err)
{
    struct deaf_lease *lease = self;
    return __atomic_load_n(&lease->down, __ATOMIC_SEQ_CST)
               ? hadb_fail(err, HADB_ETIMEDOUT, "the lease store does not answer")
               : hadb_lease_write_if_match(&lease->inner, call, key, record, expected, tag, err);
}

static void deaf_close(void *self)
{
    struct deaf_lease *lease = self;
    hadb_lease_close(&lease->inner);
}

static int put_with(unsigned i, const char *key, enum hadb_ack_mode ack, uint32_t deadline_ms)
{
    struct hadb_kv_options options = {.deadline_ms = deadline_ms, .ack = ack};
    return hadb_kv_put(tc.nodes[i].db, hadb_slice_str(key), hadb_slice_str("x"), &options, NULL,
                       NULL);
}

/* Nobody else is there to replace it: what rests on the lease waits for the lease, what rests on storage does not. */
static void writes_on_a_lease_that_ran_out__wait_until_it_is_back(void **state)
{
    (void)state;
    static const struct hadb_lease_ops ops = {.abi = HADB_LEASE_ABI,
                                              .scheme = "deaf",
                                              .read = deaf_read,
                                              .write_if_match = deaf_write,
                                              .close = deaf_close};
    struct deaf_lease deaf = {.down = 0};
    struct hadb_lease lease = {&ops, &deaf};
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_error err = {0};
    assert_int_equal(hadb_lease_open(tc.lease, NULL, &deaf.inner, &err), 0);
    options.name = "n0";
    options.data_dir = tc.dir;
    options.storage_url = tc.store;
    options.lease = &lease;
    options.listen = "127.0.0.1:0";
    options.ttl_ms = tc.ttl_ms;
    if (hadb_node_open(&options, &tc.nodes[0].node, &err) < 0 ||
        hadb_db_open(tc.nodes[0].node, TC_DB, &tc.db_options, &tc.nodes[0].db, &err) < 0) {
        fail_msg("%s", err.message);
    }
    tc_ready(&tc, 0);
    assert_int_equal(put_with(0, "k", HADB_ACK_ASYNC, 0), 0);
    for (int round = 0; round < 2; round++) {
        __atomic_store_n(&deaf.down, 1, __ATOMIC_SEQ_CST);
        int r = 0;
        /* A write that began while the lease was good may be unknown after 50 ms on a busy machine. */
        for (uint64_t end = tc_now_ms() + TC_WAIT_MS;
             (r == 0 || r == HADB_EUNKNOWN) && tc_now_ms() < end;) {
            r = put_with(0, "k", HADB_ACK_ASYNC, 50);
        }
        assert_int_equal(r, HADB_EUNAVAIL); /* surely not done */
        assert_int_equal(put_with(0, "k", HADB_ACK_LOCAL, 50), HADB_EUNAVAIL);
        assert_int_equal(put_with(0, "k", HADB_ACK_DURABLE, 0), 0);
        assert_int_equal(put_with(0, "k", HADB_ACK_BOTH, 0), 0);
        uint64_t before = txid(0);
        __atomic_store_n(&deaf.down, 0, __ATOMIC_SEQ_CST);
        assert_int_equal(put_with(0, "k", round ? HADB_ACK_LOCAL : HADB_ACK_ASYNC, 0), 0);
        assert_int_equal(txid(0), before + 1);
    }
    tc_close(&tc, 0, 0);
}

/* ---- events ---- */

struct heard {
    char roles[512];
    unsigned leaders, fenced;
};

static void hear(void *arg, const struct hadb_node_event *event)
{
    struct heard *heard = arg;
    size_t len = strlen(heard->roles);
    if (event->kind == HADB_EVENT_ROLE) {
        snprintf(heard->roles + len, sizeof heard->roles - len, "%s %s %lu\n", event->database,
                 hadb_role_name(event->role), (unsigned long)event->term);
    } else if (event->kind == HADB_EVENT_LEADER) {
        heard->leaders += event->leader[0] != '\0';
    } else if (event->kind == HADB_EVENT_FENCED) {
        heard->fenced++;
    }
}

static void events__tell_roles_in_order(void **state)
{
    (void)state;
    struct heard heard = {.leaders = 0};
    tc.on_event = hear;
    tc.event_arg = &heard;
    start(1);
    tc_close(&tc, 0, 5000); /* joins the thread that runs them */
    static const char order[] =
        TC_DB " follower 0\n" TC_DB " candidate 0\n" TC_DB " leader 1\n" TC_DB " draining 1\n" TC_DB
              " follower 1\n" TC_DB " halted "; /* in term 1 or 2 */
    assert_memory_equal(heard.roles, order, sizeof order - 1);
    assert_true(heard.leaders >= 1);
    assert_int_equal(heard.fenced, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_lost_reply_of_storage__neither_loses_nor_repeats_the_write),
        T(a_reply_that_never_comes__holds_up_no_linearizable_read),
        T(an_election_whose_seal_is_not_answered__still_ends),
        T(a_write_during_an_outage__is_unknown_at_its_deadline_and_settled_by_its_id),
        T(an_unknown_outcome__is_504_over_http),
        T(a_full_store__is_shown_until_something_can_be_written),
        T(a_silent_store__that_only_a_reader_met_is_forgotten_without_another),
        T(a_leader_without_storage__is_replaced_and_its_write_ends_once),
        T(a_corrupt_log_entry__halts_the_follower_and_says_so),
        T(a_manifest_write_without_an_answer__is_looked_up),
        T(a_store_that_breaks_its_promise__is_never_led_from),
        T(a_disk_that_fails_on_the_leader__hands_the_database_to_others),
        T(a_full_disk_on_the_leader__refuses_writes_until_there_is_space),
        T(a_disk_that_fills_up_behind_a_commit__costs_nothing),
        T(a_full_disk_on_a_follower__holds_it_up_until_there_is_space),
        T(a_failed_fsync__costs_one_copy_until_it_is_opened_again),
        T(writes_on_a_lease_that_ran_out__wait_until_it_is_back),
        T(events__tell_roles_in_order),
    };
    return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
