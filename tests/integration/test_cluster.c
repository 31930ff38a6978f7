/* SPDX-License-Identifier: Apache-2.0 */
/* Two and three nodes in one process: replication, forwarding, reads, hand-off, restart, restore. */
#include "tests/integration/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/id.h"
#include "base/thread.h"
#include "changeset/changeset.h"
#include "hadb/executor.h"
#include "tests/support/async_storage.h"

static struct tc tc;

static void same_history(unsigned a, unsigned b)
{
    struct hadb_db_info x, y;
    hadb_db_info(tc.nodes[a].db, &x);
    tc_wait_txid(&tc, b, x.txid);
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS;;) {
        hadb_db_info(tc.nodes[a].db, &x);
        hadb_db_info(tc.nodes[b].db, &y);
        if (x.slot == y.slot && x.term == y.term) {
            break;
        }
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(2);
    }
    assert_memory_equal(&x.chain_hash, &y.chain_hash, sizeof x.chain_hash);
}

static void a_write__reaches_every_node(void **state)
{
    (void)state;
    tc_start(&tc, 3);
    struct hadb_kv_result result = tc_put(&tc, 0, "key", "value");
    assert_int_equal(result.version.term, 1);
    tc_wait_txid(&tc, 1, result.version.txid);
    tc_wait_txid(&tc, 2, result.version.txid);
    assert_string_equal(tc_get(&tc, 1, "key", HADB_READ_ANY), "value");
    assert_string_equal(tc_get(&tc, 2, "key", HADB_READ_ANY), "value");
    same_history(0, 1);
    same_history(0, 2);
}

static void a_write_on_a_follower__runs_on_the_leader(void **state)
{
    (void)state;
    tc_start(&tc, 2);
    tc_put(&tc, 1, "key", "from the follower");
    assert_int_equal(tc_metric(&tc, 0, "forwards_served"), 1);
    assert_int_equal(tc_metric(&tc, 1, "writes_forwarded"), 1);
    assert_int_equal(tc_metric(&tc, 1, "writes_executed"), 0);
    assert_string_equal(tc_get(&tc, 0, "key", HADB_READ_LINEARIZABLE), "from the follower");
}

static void a_forwarded_batch__keeps_its_conditions(void **state)
{
    (void)state;
    tc_start(&tc, 2);
    struct hadb_error err;
    struct hadb_kv_op ops[] = {
        {.type = HADB_OP_PUT, .key = hadb_slice_str("a"), .value = hadb_slice_str("1")},
        {.type = HADB_OP_PUT,
         .key = hadb_slice_str("b"),
         .value = hadb_slice_str("2"),
         .if_absent = true},
        {.type = HADB_OP_DELETE, .key = hadb_slice_str("c")},
    };
    assert_int_equal(hadb_kv_batch(tc.nodes[1].db, ops, 3, NULL, NULL, &err), 0);
    assert_int_equal(hadb_kv_batch(tc.nodes[1].db, ops, 3, NULL, NULL, &err), HADB_NOT_MET);
    assert_string_equal(tc_get(&tc, 1, "b", HADB_READ_LINEARIZABLE), "2");
}

static void a_linearizable_read_on_a_follower__sees_the_latest_write(void **state)
{
    (void)state;
    tc_start(&tc, 2);
    for (int i = 0; i < 30; i++) {
        char value[16];
        snprintf(value, sizeof value, "%d", i);
        tc_put(&tc, 0, "counter", value);
        assert_string_equal(tc_get(&tc, 1, "counter", HADB_READ_LINEARIZABLE), value);
    }
}

static void a_bookmark__makes_a_follower_wait_for_the_write(void **state)
{
    (void)state;
    tc_start(&tc, 2);
    for (int i = 0; i < 30; i++) {
        char value[16];
        snprintf(value, sizeof value, "%d", i);
        struct hadb_kv_result result = tc_put(&tc, 0, "counter", value);
        struct hadb_kv_options options = {.bookmark = result.bookmark.s};
        struct hadb_buf got = {0};
        assert_int_equal(
            hadb_kv_get(tc.nodes[1].db, hadb_slice_str("counter"), &options, &got, NULL, NULL), 0);
        assert_int_equal(got.len, strlen(value));
        assert_memory_equal(got.data, value, got.len);
        hadb_buf_deinit(&got);
    }
    assert_int_equal(tc_metric(&tc, 1, "reads_bookmark"), 30);
}

/* The first one asks storage, those that follow within the bound do not; none is older than its bound. */
static void bounded_reads_on_a_follower__ask_storage_once_per_bound(void **state)
{
    (void)state;
    tc_start(&tc, 2);
    tc_put(&tc, 0, "key", "old");
    assert_string_equal(tc_get(&tc, 1, "key", HADB_READ_LINEARIZABLE), "old");
    struct hadb_kv_options options = {.read = HADB_READ_BOUNDED, .max_lag_ms = 60000};
    struct hadb_buf got = {0};
    uint64_t requests = tc_metric(&tc, 1, "log_gets") + tc_metric(&tc, 1, "manifest_gets");
    for (int i = 0; i < 50; i++) {
        assert_int_equal(
            hadb_kv_get(tc.nodes[1].db, hadb_slice_str("key"), &options, &got, NULL, NULL), 0);
    }
    assert_int_equal(tc_metric(&tc, 1, "log_gets") + tc_metric(&tc, 1, "manifest_gets"), requests);
    assert_int_equal(tc_metric(&tc, 1, "reads_bounded"), 50);
    tc_put(&tc, 0, "key", "new");
    options.max_lag_ms = 1;
    tc_sleep_ms(2); /* for the age of the write, nothing waits for it */
    assert_int_equal(hadb_kv_get(tc.nodes[1].db, hadb_slice_str("key"), &options, &got, NULL, NULL),
                     0);
    assert_int_equal(got.len, 3);
    assert_memory_equal(got.data, "new", 3);
    options.bookmark = "x";
    assert_int_equal(hadb_kv_get(tc.nodes[1].db, hadb_slice_str("key"), &options, &got, NULL, NULL),
                     HADB_EINVAL);
    hadb_buf_deinit(&got);
}

static void a_bookmark_of_another_history__is_forked(void **state)
{
    (void)state;
    tc_start(&tc, 1);
    tc_put(&tc, 0, "key", "value");
    struct hadb_db_info info;
    struct hadb_bookmark bookmark;
    struct hadb_error err;
    hadb_db_info(tc.nodes[0].db, &info);
    tc_close(&tc, 0, 5000); /* resigns: term 1 ends with one transaction */
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    hadb_bookmark_format(&info.uuid, &(struct hadb_version){.term = 1, .txid = 2}, &bookmark);
    struct hadb_kv_options options = {.bookmark = bookmark.s};
    assert_int_equal(hadb_kv_get(tc.nodes[0].db, hadb_slice_str("key"), &options, NULL, NULL, &err),
                     HADB_EFORKED);
    hadb_bookmark_format(&info.uuid, &(struct hadb_version){.term = 1, .txid = 1}, &bookmark);
    assert_int_equal(hadb_kv_get(tc.nodes[0].db, hadb_slice_str("key"), &options, NULL, NULL, &err),
                     0);
    /* A position that nobody has reached yet: wait, then say so. */
    hadb_bookmark_format(&info.uuid, &(struct hadb_version){.term = 99, .txid = 1}, &bookmark);
    options.deadline_ms = 50;
    assert_int_equal(hadb_kv_get(tc.nodes[0].db, hadb_slice_str("key"), &options, NULL, NULL, &err),
                     HADB_EUNAVAIL);
}

static void a_request_id__holds_across_a_failover(void **state)
{
    (void)state;
    tc_start(&tc, 2);
    struct hadb_kv_options options = {.if_absent = true};
    struct hadb_kv_result first, second;
    hadb_id_v7(hadb_env_host(), &options.request_id);
    assert_int_equal(hadb_kv_put(tc.nodes[0].db, hadb_slice_str("k"), hadb_slice_str("v"), &options,
                                 &first, NULL),
                     0);
    tc_close(&tc, 0, 0);
    assert_int_equal(tc_leader(&tc, 0), 1);
    assert_int_equal(hadb_kv_put(tc.nodes[1].db, hadb_slice_str("k"), hadb_slice_str("v"), &options,
                                 &second, NULL),
                     0);
    assert_int_equal(first.version.txid, second.version.txid);
    assert_int_equal(first.version.term, second.version.term);
    assert_int_equal(tc_metric(&tc, 1, "writes_deduplicated"), 1);
}

static void a_leader_that_is_gone__is_replaced_before_its_ttl(void **state)
{
    (void)state;
    tc.ttl_ms = 60000;
    tc_start(&tc, 3);
    tc_put(&tc, 0, "key", "value");
    tc_close(&tc, 0, 0); /* its connections are refused from here on */
    uint64_t began = tc_now_ms();
    unsigned leader = tc_leader(&tc, 0);
    assert_true(tc_now_ms() - began < 5000);
    tc_put(&tc, leader == 1 ? 2 : 1, "key", "after");
    assert_string_equal(tc_get(&tc, leader, "key", HADB_READ_LINEARIZABLE), "after");
    same_history(1, 2);
}

static void a_hand_off__moves_leadership_by_name_and_back(void **state)
{
    (void)state;
    tc_start(&tc, 3);
    struct hadb_error err = {0};
    tc_put(&tc, 0, "key", "0");
    assert_int_equal(hadb_db_handoff(tc.nodes[0].db, "n2", 5000, &err), 0);
    assert_int_equal(tc_leader(&tc, 0), 2);
    tc_put(&tc, 0, "key", "1");
    assert_int_equal(hadb_db_handoff(tc.nodes[2].db, "n0", 5000, &err), 0);
    assert_int_equal(tc_leader(&tc, 2), 0);
    tc_put(&tc, 1, "key", "2");
    assert_string_equal(tc_get(&tc, 2, "key", HADB_READ_LINEARIZABLE), "2");
    assert_int_equal(tc_metric(&tc, 0, "fenced") + tc_metric(&tc, 2, "fenced"), 0);
    assert_int_equal(tc_metric(&tc, 0, "tails_saved") + tc_metric(&tc, 2, "tails_saved"), 0);
    same_history(0, 1);
}

static void a_hand_off__is_refused_where_it_makes_no_sense(void **state)
{
    (void)state;
    tc_start(&tc, 2);
    struct hadb_error err;
    assert_int_equal(hadb_db_handoff(tc.nodes[0].db, "nobody", 1000, &err), HADB_EINVAL);
    assert_int_equal(hadb_db_handoff(tc.nodes[1].db, "n0", 1000, &err), HADB_EUNAVAIL);
    assert_int_equal(hadb_db_handoff(tc.nodes[1].db, "n1", 1000, &err), HADB_EUNAVAIL);
    tc_close(&tc, 1, 0);
    assert_int_equal(hadb_db_handoff(tc.nodes[0].db, "n1", 2000, &err), HADB_EUNAVAIL);
    tc_put(&tc, 0, "still", "leads"); /* nothing changed */
}

/* Whoever asks a second time, since the answer was lost, is told what is so. */
static void a_hand_off_to_the_leader__is_done_already_and_costs_no_term(void **state)
{
    (void)state;
    tc_start(&tc, 2);
    struct hadb_error err;
    struct hadb_db_info before, after;
    struct tc_reply reply;
    hadb_db_info(tc.nodes[0].db, &before);
    assert_int_equal(hadb_db_handoff(tc.nodes[0].db, "n0", 1000, &err), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(tc_http(tc.nodes[i].address, "POST", "/v1/db/" TC_DB "/handoff", NULL,
                                 "{\"to\":\"n0\"}", 11, &reply),
                         200);
        assert_string_equal(reply.body, "{\"status\":\"done\"}\n");
        tc_reply_deinit(&reply);
    }
    hadb_db_info(tc.nodes[0].db, &after);
    assert_int_equal(after.term, before.term);
    assert_int_equal(hadb_db_role(tc.nodes[0].db), HADB_ROLE_LEADER);
}

static void a_hand_off_over_http__works_from_any_node(void **state)
{
    (void)state;
    tc_start(&tc, 2);
    struct tc_reply reply;
    const char *follower = tc.nodes[1].address;
    assert_int_equal(
        tc_http(follower, "POST", "/v1/db/" TC_DB "/handoff", NULL, "{\"to\":\"n1\"}", 11, &reply),
        200);
    tc_reply_deinit(&reply);
    assert_int_equal(tc_leader(&tc, 0), 1);
    assert_int_equal(
        tc_http(follower, "POST", "/v1/db/" TC_DB "/handoff", NULL, "{\"to\":7}", 8, &reply), 400);
    tc_reply_deinit(&reply);
    assert_int_equal(tc_http(tc.nodes[0].address, "POST", "/v1/db/" TC_DB "/handoff", NULL,
                             "{\"to\":\"nobody\"}", 15, &reply),
                     400);
    tc_reply_deinit(&reply);
    assert_int_equal(
        tc_http(tc.nodes[0].address, "POST", "/v1/db/" TC_DB "/handoff", NULL, "", 0, &reply), 200);
    tc_reply_deinit(&reply);
    assert_int_equal(tc_leader(&tc, 1), 0);
}

/* ---- writers that go on while leadership moves ---- */

#define WRITERS 6

struct writer {
    struct hadb_thread thread;
    unsigned number;
    unsigned acked, failed;
    bool *stop; /* atomic */
};

static void keep_writing(void *arg)
{
    struct writer *writer = arg;
    while (!__atomic_load_n(writer->stop, __ATOMIC_RELAXED)) {
        char key[32];
        struct hadb_error err = {0};
        snprintf(key, sizeof key, "w%u-%05u", writer->number, writer->acked);
        struct hadb_kv_options options = {.if_absent = true};
        int r = hadb_kv_put(tc.nodes[writer->number % 3].db, hadb_slice_str(key),
                            hadb_slice_str("x"), &options, NULL, &err);
        if (r == 0) {
            writer->acked++;
        } else {
            fprintf(stderr, "writer %u: %d %s\n", writer->number, r, err.message);
            writer->failed++;
        }
    }
}

static void hand_offs_under_load__lose_nothing_and_show_no_error(void **state)
{
    (void)state;
    tc_start(&tc, 3);
    bool stop = false;
    struct writer writers[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.number = i, .stop = &stop};
        assert_int_equal(
            hadb_thread_start(&writers[i].thread, "writer", keep_writing, &writers[i], NULL), 0);
    }
    unsigned leader = 0;
    for (unsigned round = 0; round < 8; round++) {
        char to[8];
        struct hadb_error err = {0};
        unsigned next = (leader + 1) % 3;
        snprintf(to, sizeof to, "n%u", next);
        int r = hadb_db_handoff(tc.nodes[leader].db, to, 5000, &err);
        if (r != 0) {
            fail_msg("hand-off %u: %s", round, err.message);
        }
        leader = tc_leader(&tc, leader);
        assert_int_equal(leader, next);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    unsigned acked = 0;
    for (unsigned i = 0; i < WRITERS; i++) {
        hadb_thread_join(&writers[i].thread);
        assert_int_equal(writers[i].failed, 0);
        acked += writers[i].acked;
    }
    struct hadb_kv_items items = {0};
    struct hadb_range range = {.prefix = hadb_slice_str("w")};
    assert_in_range(acked, 1, HADB_SCAN_LIMIT_MAX);
    assert_int_equal(
        hadb_kv_scan(tc.nodes[1].db, &range, HADB_SCAN_LIMIT_MAX, NULL, &items, NULL, NULL), 0);
    assert_int_equal(items.len, acked);
    hadb_kv_items_deinit(&items);
    same_history(0, 1);
    same_history(0, 2);
}

/* ---- restart and restore ---- */

static void a_restarted_node__has_its_data_and_leads_in_a_new_term(void **state)
{
    (void)state;
    tc_start(&tc, 1);
    tc_put(&tc, 0, "key", "value");
    for (unsigned i = 0; i < 3; i++) {
        tc_close(&tc, 0, i == 0 ? 0 : 5000);
        tc_open(&tc, 0);
        tc_ready(&tc, 0);
        assert_string_equal(tc_get(&tc, 0, "key", HADB_READ_LINEARIZABLE), "value");
        struct hadb_db_info info;
        hadb_db_info(tc.nodes[0].db, &info);
        assert_int_equal(info.txid, 1);
        assert_true(info.term >= 2 + i);
    }
}

static void wait_more(unsigned node, const char *metric, uint64_t than)
{
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_metric(&tc, node, metric) <= than;) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(5);
    }
}

static void publish(unsigned node)
{
    uint64_t before = tc_metric(&tc, node, "snapshots_published");
    assert_int_equal(hadb_db_snapshot(tc.nodes[node].db, NULL), 0);
    wait_more(node, "snapshots_published", before);
}

/* Publishes a snapshot and waits for its deletions. */
static void snapshot(unsigned node)
{
    uint64_t deletes = tc_metric(&tc, node, "storage_delete_many_done");
    publish(node);
    wait_more(node, "storage_delete_many_done", deletes);
}

static void an_empty_follower__restores_the_snapshot_and_follows_on(void **state)
{
    (void)state;
    tc.db_options.grace_ms = 1;
    tc_start(&tc, 1);
    for (int i = 0; i < 50; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        tc_put(&tc, 0, key, "before");
    }
    snapshot(0);
    tc_put(&tc, 0, "after", "the snapshot");
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    assert_int_equal(tc_metric(&tc, 1, "restores"), 1);
    assert_string_equal(tc_get(&tc, 1, "k49", HADB_READ_LINEARIZABLE), "before");
    assert_string_equal(tc_get(&tc, 1, "after", HADB_READ_ANY), "the snapshot");
    same_history(0, 1);
    /* It can lead: it knows the term table. */
    assert_int_equal(hadb_db_handoff(tc.nodes[0].db, "n1", 5000, NULL), 0);
    tc_put(&tc, 0, "led", "by the restored one");
    same_history(1, 0);
}

static void an_empty_follower__takes_the_snapshot_while_all_of_the_log_is_there(void **state)
{
    (void)state;
    tc.db_options.grace_ms = 600000; /* nothing is deleted */
    tc_start(&tc, 1);
    for (int i = 0; i < 50; i++) {
        tc_put(&tc, 0, "k", "before");
    }
    publish(0);
    tc_put(&tc, 0, "after", "the snapshot");
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    assert_string_equal(tc_get(&tc, 1, "after", HADB_READ_LINEARIZABLE), "the snapshot");
    assert_int_equal(tc_metric(&tc, 1, "restores"), 1);
    assert_int_equal(tc_metric(&tc, 1, "entries_applied"), 1);
    same_history(0, 1);
}

static void a_follower_behind_the_boundary__restores_too(void **state)
{
    (void)state;
    tc.db_options.grace_ms = 1;
    tc_start(&tc, 2);
    tc_put(&tc, 0, "old", "value");
    tc_wait_txid(&tc, 1, 1);
    tc_close(&tc, 1, 0);
    for (int i = 0; i < 20; i++) {
        tc_put(&tc, 0, "new", "value");
    }
    snapshot(0);
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    assert_int_equal(tc_metric(&tc, 1, "restores"), 1);
    assert_string_equal(tc_get(&tc, 1, "old", HADB_READ_ANY), "value");
    same_history(0, 1);
    /* And its own copy is whole after a restart. */
    tc_close(&tc, 1, 0);
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    assert_int_equal(tc_metric(&tc, 1, "restores"), 0);
    assert_string_equal(tc_get(&tc, 1, "old", HADB_READ_ANY), "value");
}

static void a_memory_engine__comes_back_from_storage(void **state)
{
    (void)state;
    tc.db_options.engine = "memory";
    tc.db_options.grace_ms = 1;
    tc_start(&tc, 2);
    for (int i = 0; i < 10; i++) {
        tc_put(&tc, 0, "key", "value");
    }
    snapshot(0);
    tc_put(&tc, 0, "tail", "entry");
    tc_close(&tc, 1, 0);
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    assert_string_equal(tc_get(&tc, 1, "key", HADB_READ_ANY), "value");
    assert_string_equal(tc_get(&tc, 1, "tail", HADB_READ_LINEARIZABLE), "entry");
    same_history(0, 1);
}

static void read_manifest(struct hadb_storage *storage, const char *key, struct hadb_manifest *out)
{
    struct hadb_buf stored = {0}, payload = {0};
    struct hadb_entry entry;
    assert_int_equal(hadb_storage_get(storage, NULL, key, &stored, NULL, NULL), 0);
    assert_int_equal(hadb_entry_decode(hadb_buf_slice(&stored), &entry, &payload, NULL, NULL), 0);
    assert_int_equal(hadb_manifest_decode(hadb_buf_slice(&payload), out, NULL), 0);
    hadb_buf_deinit(&stored);
    hadb_buf_deinit(&payload);
}

/* Objects of the snapshots in the store, and names that the manifest still condemns. */
static size_t snapshot_objects(size_t *condemned)
{
    struct hadb_storage storage;
    struct hadb_object_list list = {0};
    size_t len = 0;
    assert_int_equal(hadb_storage_open(tc.store, NULL, &storage, NULL), 0);
    assert_int_equal(hadb_storage_list(&storage, NULL, "", "", HADB_LIST_LEN_MAX, &list, NULL), 0);
    for (size_t i = 0; i < list.len; i++) {
        len += strstr(list.items[i].key, "/snap/") != NULL;
        if (strstr(list.items[i].key, "/manifest")) {
            struct hadb_manifest manifest;
            read_manifest(&storage, list.items[i].key, &manifest);
            *condemned = manifest.condemned_len;
            hadb_manifest_deinit(&manifest);
        }
    }
    hadb_object_list_deinit(&list);
    hadb_storage_close(&storage);
    return len;
}

/* Five terms, then clean-ups in the last one: no term that was cleaned is listed again. */
static void cleaned_terms__are_remembered_in_the_manifest(void **state)
{
    (void)state;
    tc.db_options.grace_ms = 1;
    tc_start(&tc, 1);
    for (int i = 0; i < 4; i++) {
        tc_put(&tc, 0, "key", "value");
        tc_close(&tc, 0, 5000);
        tc_open(&tc, 0);
        tc_ready(&tc, 0);
    }
    for (int i = 0; i < 3; i++) {
        tc_put(&tc, 0, "key", "value");
        snapshot(0);
    }
    struct hadb_storage storage;
    struct hadb_object_list list = {0};
    struct hadb_manifest manifest = {0};
    size_t data = 0;
    assert_int_equal(hadb_storage_open(tc.store, NULL, &storage, NULL), 0);
    assert_int_equal(hadb_storage_list(&storage, NULL, "", "", HADB_LIST_LEN_MAX, &list, NULL), 0);
    for (size_t i = 0; i < list.len; i++) {
        const char *key = list.items[i].key;
        if (strstr(key, "/manifest")) {
            read_manifest(&storage, key, &manifest);
        }
        data += strstr(key, "/log/") != NULL;
    }
    struct hadb_db_info info;
    hadb_db_info(tc.nodes[0].db, &info);
    assert_int_equal(manifest.swept_term, info.term - 1);
    assert_int_equal(manifest.swept_slot,
                     info.slot - 1);   /* the last clean-up is told by the next */
    assert_int_equal(data, info.term); /* nothing but the seals */
    hadb_manifest_deinit(&manifest);
    hadb_object_list_deinit(&list);
    hadb_storage_close(&storage);
}

static void old_snapshots__are_removed_from_storage_and_forgotten(void **state)
{
    (void)state;
    tc.db_options.grace_ms = 1;
    tc_start(&tc, 1);
    for (int i = 0; i < 6; i++) {
        tc_put(&tc, 0, "key", "value");
        snapshot(0);
    }
    /* Two are kept; a condemned one goes with the next clean-up. */
    size_t condemned = 99;
    assert_in_range(snapshot_objects(&condemned), 2, 3);
    assert_in_range(condemned, 0, 2); /* of four that were */
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    same_history(0, 1);
}

static void snapshots_by_policy__keep_the_log_short(void **state)
{
    (void)state;
    tc.db_options.grace_ms = 1;
    tc.db_options.snapshot_slots = 10;
    tc_start(&tc, 1);
    for (int i = 0; i < 60; i++) {
        tc_put(&tc, 0, "key", "value");
    }
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_metric(&tc, 0, "snapshots_published") < 2;) {
        assert_true(tc_now_ms() < end);
        tc_put(&tc, 0, "key", "value");
    }
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    same_history(0, 1);
}

/* ---- opening what cannot be opened ---- */

static int open_named(const char *name, const char *dir, const char *listen, const char *token,
                      struct hadb_error *err)
{
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_node *node = NULL;
    options.name = name;
    options.data_dir = dir;
    options.storage_url = tc.store;
    options.lease_url = tc.lease;
    options.listen = listen;
    options.token = token;
    int r = hadb_node_open(&options, &node, err);
    hadb_node_close(node, 0);
    return r;
}

static void bad_options__are_refused_by_name(void **state)
{
    (void)state;
    struct hadb_error err;
    char dir[HADB_PATH_BYTES_MAX + 16], file[HADB_PATH_BYTES_MAX + 32];
    snprintf(dir, sizeof dir, "%s/x", tc.dir);
    assert_int_equal(open_named("", dir, "127.0.0.1:0", NULL, &err), HADB_EINVAL);
    assert_non_null(strstr(err.message, "name"));
    assert_int_equal(open_named("a/b", dir, "127.0.0.1:0", NULL, &err), HADB_EINVAL);
    assert_int_equal(open_named("a", "", "127.0.0.1:0", NULL, &err), HADB_EINVAL);
    assert_int_equal(open_named("a", dir, "nonsense", NULL, &err), HADB_EINVAL);
    assert_int_equal(open_named("a", dir, "0.0.0.0:0", "t", &err), HADB_EINVAL);
    assert_non_null(strstr(err.message, "advertise"));
    /* A file where the folder should be. */
    snprintf(file, sizeof file, "%s/file", tc.dir);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fclose(f);
    assert_true(open_named("a", file, "127.0.0.1:0", NULL, &err) < 0);
    assert_non_null(strstr(err.message, file));
    snprintf(tc.store, sizeof tc.store, "ftp://nowhere");
    assert_int_equal(open_named("a", dir, "127.0.0.1:0", NULL, &err), HADB_ENOTSUP);
    assert_non_null(strstr(err.message, "ftp"));
}

static void a_second_process_on_one_folder__is_refused(void **state)
{
    (void)state;
    tc_start(&tc, 1);
    struct hadb_error err;
    char dir[HADB_PATH_BYTES_MAX + 16];
    snprintf(dir, sizeof dir, "%s/n0", tc.dir);
    assert_int_equal(open_named("n0", dir, "127.0.0.1:0", NULL, &err), HADB_ELOCKED);
    assert_non_null(strstr(err.message, dir));
    tc_put(&tc, 0, "key", "value"); /* the first one is not disturbed */
}

static void a_taken_port__is_refused(void **state)
{
    (void)state;
    tc_start(&tc, 1);
    struct hadb_error err;
    char dir[HADB_PATH_BYTES_MAX + 16];
    snprintf(dir, sizeof dir, "%s/other", tc.dir);
    assert_true(open_named("other", dir, tc.nodes[0].address, NULL, &err) < 0);
    assert_non_null(strstr(err.message, tc.nodes[0].address));
}

static void a_database__opens_once_and_with_its_own_engine(void **state)
{
    (void)state;
    tc_start(&tc, 1);
    struct hadb_error err;
    struct hadb_db *db = NULL;
    struct hadb_db_options options = HADB_DB_OPTIONS_INIT;
    assert_true(hadb_db_open(tc.nodes[0].node, TC_DB, NULL, &db, &err) < 0);
    options.engine = "memory";
    tc_open(&tc, 1);
    hadb_db_close(tc.nodes[1].db, 0);
    assert_int_equal(hadb_db_open(tc.nodes[1].node, TC_DB, &options, &db, &err), HADB_EINVAL);
    assert_non_null(strstr(err.message, "kv"));
    options.engine = "abacus";
    assert_int_equal(hadb_db_open(tc.nodes[1].node, "other", &options, &db, &err), HADB_ENOTSUP);
    assert_int_equal(hadb_db_open(tc.nodes[1].node, "a/b", NULL, &db, &err), HADB_EINVAL);
    assert_int_equal(hadb_db_open(tc.nodes[1].node, TC_DB, NULL, &tc.nodes[1].db, &err), 0);
    tc_ready(&tc, 1);
}

static void many_databases__share_threads_and_one_stream(void **state)
{
    (void)state;
    tc_start(&tc, 2);
    struct hadb_db *a[40], *b[40];
    for (int i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "db%d", i);
        assert_int_equal(hadb_db_open(tc.nodes[0].node, name, NULL, &a[i], NULL), 0);
        assert_int_equal(hadb_db_wait_ready(a[i], TC_WAIT_MS, NULL), 0);
        assert_int_equal(hadb_db_open(tc.nodes[1].node, name, NULL, &b[i], NULL), 0);
        assert_int_equal(
            hadb_kv_put(a[i], hadb_slice_str("k"), hadb_slice_str(name), NULL, NULL, NULL), 0);
    }
    for (int i = 0; i < 40; i++) {
        struct hadb_buf value = {0};
        assert_int_equal(hadb_kv_get(b[i], hadb_slice_str("k"), NULL, &value, NULL, NULL), 0);
        hadb_buf_deinit(&value);
    }
    unsigned threads = 0;
    FILE *f = fopen("/proc/self/status", "r");
    char line[128];
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        sscanf(line, "Threads: %u", &threads);
    }
    fclose(f);
    assert_in_range(threads - test_async_storage_threads(), 3,
                    2 * 11 + 1); /* two nodes and this one */
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_metric(&tc, 0, "streams_out") != 1;) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(5);
    }
}

static void closing__is_bounded_and_hands_over(void **state)
{
    (void)state;
    tc_start(&tc, 2);
    tc_put(&tc, 0, "key", "value");
    uint64_t began = tc_now_ms();
    tc_close(&tc, 0, 5000);
    assert_true(tc_now_ms() - began < 5000);
    assert_int_equal(tc_leader(&tc, 0), 1);
    assert_int_equal(tc_metric(&tc, 1, "elections_won"), 1);
    struct hadb_db_info info;
    hadb_db_info(tc.nodes[1].db, &info);
    assert_int_equal(info.term, 2);
    tc_put(&tc, 1, "key", "after");
}

int main(void)
{
#define M(name) TC_TEST(name, tc_setup, &tc)
#define F(name) TC_TEST(name, tc_setup_files, &tc)
    const struct CMUnitTest tests[] = {
        M(a_write__reaches_every_node),
        M(a_write_on_a_follower__runs_on_the_leader),
        M(a_forwarded_batch__keeps_its_conditions),
        M(a_linearizable_read_on_a_follower__sees_the_latest_write),
        M(a_bookmark__makes_a_follower_wait_for_the_write),
        F(a_bookmark_of_another_history__is_forked),
        M(bounded_reads_on_a_follower__ask_storage_once_per_bound),
        M(a_request_id__holds_across_a_failover),
        F(a_leader_that_is_gone__is_replaced_before_its_ttl),
        M(a_hand_off__moves_leadership_by_name_and_back),
        M(a_hand_off__is_refused_where_it_makes_no_sense),
        M(a_hand_off_to_the_leader__is_done_already_and_costs_no_term),
        M(a_hand_off_over_http__works_from_any_node),
        F(hand_offs_under_load__lose_nothing_and_show_no_error),
        F(a_restarted_node__has_its_data_and_leads_in_a_new_term),
        M(an_empty_follower__restores_the_snapshot_and_follows_on),
        M(an_empty_follower__takes_the_snapshot_while_all_of_the_log_is_there),
        F(a_follower_behind_the_boundary__restores_too),
        M(a_memory_engine__comes_back_from_storage),
        F(cleaned_terms__are_remembered_in_the_manifest),
        M(old_snapshots__are_removed_from_storage_and_forgotten),
        M(snapshots_by_policy__keep_the_log_short),
        M(bad_options__are_refused_by_name),
        M(a_second_process_on_one_folder__is_refused),
        M(a_taken_port__is_refused),
        M(a_database__opens_once_and_with_its_own_engine),
        M(many_databases__share_threads_and_one_stream),
        M(closing__is_bounded_and_hands_over),
    };
    return cmocka_run_group_tests_name("cluster", tests, NULL, NULL);
}
