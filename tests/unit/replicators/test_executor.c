/* SPDX-License-Identifier: Apache-2.0 */
/* Writes through the key-value executor. Thread: one. */
#include "tests/unit/replicators/peer.h"

#include "replicators/space.h"

#define GROUP_MAX 64u

static int apply_calls;
static int apply_fail_at; /* 0 = never */
static int (*real_apply)(void *self, struct hadb_slice txns, const struct hadb_pos *mark,
                         struct hadb_error *err);

static int counted_apply(void *self, struct hadb_slice txns, const struct hadb_pos *mark,
                         struct hadb_error *err)
{
    if (++apply_calls == apply_fail_at) {
        return hadb_fail(err, HADB_ENOSPC, "no space");
    }
    return real_apply(self, txns, mark, err);
}

static void count_applies(struct peer *peer, int fail_at)
{
    struct hadb_engine_ops *ops = peer_hook(peer);
    real_apply = ops->apply;
    ops->apply = counted_apply;
    apply_calls = 0;
    apply_fail_at = fail_at;
}

static int run_group(struct peer *peer, uint64_t term, const struct hadb_request *requests,
                     size_t len, struct hadb_response *responses)
{
    const struct hadb_request *pointers[GROUP_MAX];
    assert_true(len <= GROUP_MAX);
    for (size_t i = 0; i < len; i++) {
        pointers[i] = &requests[i];
    }
    const struct hadb_execute_context context = {.term = term, .now_unix_ms = NOW};
    return hadb_executor_execute_many(&peer->executor, &context, pointers, len, responses, NULL);
}

static void assert_same(const struct peer *a, const struct peer *b)
{
    struct hadb_hash digest_a = peer_digest(a);
    struct hadb_hash digest_b = peer_digest(b);
    assert_true(hadb_hash_eq(&digest_a, &digest_b));
}

static void assert_version(struct hadb_version version, uint64_t term, hadb_txid txid)
{
    assert_int_equal(version.term, term);
    assert_int_equal(version.txid, txid);
}

static void write__gets_the_next_transaction_and_its_version(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request request = put_request("a", "1");
    struct hadb_response response = run(&peer, 4, &request);
    assert_int_equal(response.code, 0);
    assert_version(response.version, 4, 1);
    assert_int_equal(response.state_txid, 1);
    assert_false(response.deduplicated);
    request = delete_request("a");
    response = run(&peer, 5, &request);
    assert_int_equal(response.code, 0);
    assert_version(response.version, 5, 2);
    assert_null(value_of(&peer, "a"));
    assert_true(hadb_executor_is_mutation(&peer.executor, &request));
    request.type = HADB_REQUEST_SCAN;
    assert_false(hadb_executor_is_mutation(&peer.executor, &request));
    peer_close(&peer);
}

static void delete__of_an_absent_key_is_done_and_remembered(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request request = delete_request("absent");
    struct hadb_response first = run(&peer, 1, &request);
    put(&peer, 1, "absent", "not any more");
    struct hadb_response again = run(&peer, 1, &request);
    assert_int_equal(first.code, 0);
    assert_version(first.version, 1, 1);
    assert_true(again.deduplicated);
    assert_int_equal(again.code, 0);
    assert_version(again.version, 1, 1);
    assert_string_equal(value_of(&peer, "absent"), "not any more");
    peer_close(&peer);
}

static void condition__if_absent_refuses_a_key_that_is_there(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request request = put_request("a", "1");
    request.if_absent = true;
    assert_int_equal(run(&peer, 1, &request).code, 0);
    put(&peer, 1, "b", "other");
    request = put_request("a", "2");
    request.if_absent = true;
    struct hadb_response response = run(&peer, 1, &request);
    assert_int_equal(response.code, HADB_NOT_MET);
    assert_version(response.version, 1, 1);   /* what the key has */
    assert_int_equal(response.state_txid, 2); /* rests on everything there was */
    assert_int_equal(peer_position(&peer).last_txid, 2);
    assert_string_equal(value_of(&peer, "a"), "1");
    peer_close(&peer);
}

static void condition__if_version_compares_term_and_transaction(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    put(&peer, 3, "a", "1");
    struct hadb_request request = put_request("a", "2");
    request.if_version = (struct hadb_version){2, 1}; /* same txid, of a fork */
    struct hadb_response response = run(&peer, 3, &request);
    assert_int_equal(response.code, HADB_NOT_MET);
    assert_version(response.version, 3, 1);
    request.if_version = (struct hadb_version){3, 1};
    request.id = next_id();
    response = run(&peer, 3, &request);
    assert_int_equal(response.code, 0);
    assert_version(response.version, 3, 2);
    request = delete_request("a");
    request.if_version = (struct hadb_version){3, 1};
    assert_int_equal(run(&peer, 3, &request).code, HADB_NOT_MET);
    request.if_version = (struct hadb_version){3, 2};
    request.id = next_id();
    assert_int_equal(run(&peer, 3, &request).code, 0);
    request = put_request("absent", "x");
    request.if_version = (struct hadb_version){3, 2};
    response = run(&peer, 3, &request);
    assert_int_equal(response.code, HADB_NOT_MET);
    assert_version(response.version, 0, 0);
    peer_close(&peer);
}

static void retry__is_answered_from_the_database(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request request = put_request("a", "1");
    request.if_absent = true;
    struct hadb_response first = run(&peer, 1, &request);
    put(&peer, 1, "a", "2");
    struct hadb_response again = run(&peer, 2, &request);
    assert_int_equal(again.code, 0);
    assert_true(again.deduplicated);
    assert_version(again.version, 1, first.version.txid);
    assert_int_equal(again.state_txid, first.version.txid);
    assert_int_equal(peer_position(&peer).last_txid, 2);
    assert_string_equal(value_of(&peer, "a"), "2");
    peer_close(&peer);
}

/* Attempt 2 is judged first; attempt 1 comes when its condition holds, and must not run. */
static void retry__of_a_refused_write_stays_refused(void **state)
{
    struct peer a;
    struct peer b;
    peer_open(&a, *state);
    peer_open(&b, *state);
    put(&a, 1, "lock", "held");
    struct hadb_kv_op ops[2] = {
        {.type = HADB_OP_PUT, .key = hadb_slice_str("x"), .value = hadb_slice_str("1")},
        {.type = HADB_OP_PUT, .key = hadb_slice_str("lock"), .if_absent = true}};
    struct hadb_request second = {
        .type = HADB_REQUEST_BATCH, .id = next_id(), .ops = ops, .ops_len = 2, .repeated = true};
    struct hadb_request first = second;
    first.repeated = false;
    struct hadb_response response = run(&a, 1, &second);
    assert_int_equal(response.code, HADB_NOT_MET);
    assert_int_equal(response.failed_op, 1);
    assert_version(response.version, 1, 1);
    assert_int_equal(response.state_txid, 2); /* recorded */
    assert_false(response.deduplicated);
    struct hadb_request release = delete_request("lock");
    assert_int_equal(run(&a, 1, &release).code, 0);
    ship(&a, &b);
    struct peer *peers[2] = {&a, &b};
    for (size_t i = 0; i < 2; i++) {
        response = run(peers[i], 2, &first);
        assert_int_equal(response.code, HADB_NOT_MET);
        assert_true(response.deduplicated);
        assert_int_equal(response.failed_op, 1);
        assert_version(response.version, 1, 1);
        assert_int_equal(response.state_txid, 2);
        assert_null(value_of(peers[i], "x"));
    }
    peer_close(&a);
    peer_close(&b);
}

static void group__finds_refusals_recorded_in_it(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    put(&peer, 1, "a", "1");
    struct hadb_request requests[3] = {put_request("a", "2"), delete_request("a"), {0}};
    requests[0].if_absent = true;
    requests[0].repeated = true;
    requests[2] = requests[0];
    struct hadb_response responses[3];
    assert_int_equal(run_group(&peer, 1, requests, 3, responses), 0);
    assert_int_equal(responses[0].code, HADB_NOT_MET);
    assert_int_equal(responses[0].state_txid, 2);
    assert_int_equal(responses[1].code, 0);
    assert_int_equal(responses[2].code, HADB_NOT_MET);
    assert_true(responses[2].deduplicated);
    assert_null(value_of(&peer, "a"));
    /* A refusal that the engine does not take is no answer. */
    requests[0].id = next_id();
    requests[0].if_absent = false;
    requests[0].if_version = (struct hadb_version){9, 9};
    count_applies(&peer, 1);
    assert_int_equal(run_group(&peer, 1, requests, 1, responses), HADB_ENOSPC);
    assert_int_equal(responses[0].code, HADB_ENOSPC);
    peer_close(&peer);
}

static void retry__is_answered_after_a_restart(void **state)
{
    (void)state;
    struct peer peer;
    peer_open(&peer, "kv");
    struct hadb_request request = put_request("a", "1");
    assert_int_equal(run(&peer, 1, &request).code, 0);
    put(&peer, 1, "a", "2");
    assert_int_equal(hadb_replicator_sync(&peer.replicator, NULL), 0);
    test_memfs_crash(peer.disk, TEST_MEMFS_DROP);
    peer_reopen(&peer);
    struct hadb_response again = run(&peer, 1, &request);
    assert_true(again.deduplicated);
    assert_version(again.version, 1, 1);
    assert_string_equal(value_of(&peer, "a"), "2");
    peer_close(&peer);
}

static void retry__is_answered_by_the_next_leader(void **state)
{
    struct peer a;
    struct peer b;
    peer_open(&a, *state);
    peer_open(&b, *state);
    struct hadb_kv_op ops[2] = {
        {.type = HADB_OP_PUT, .key = hadb_slice_str("x"), .value = hadb_slice_str("1")},
        {.type = HADB_OP_DELETE, .key = hadb_slice_str("y")}};
    struct hadb_request requests[3] = {
        put_request("a", "1"),
        delete_request("b"),
        {.type = HADB_REQUEST_BATCH, .id = next_id(), .ops = ops, .ops_len = HADB_LEN(ops)}};
    struct hadb_response first[3];
    for (size_t i = 0; i < 3; i++) {
        first[i] = run(&a, 1, &requests[i]);
        assert_int_equal(first[i].code, 0);
    }
    ship(&a, &b);
    for (size_t i = 0; i < 3; i++) {
        struct hadb_response again = run(&b, 2, &requests[i]);
        assert_int_equal(again.code, 0);
        assert_true(again.deduplicated);
        assert_version(again.version, 1, first[i].version.txid);
    }
    assert_int_equal(peer_position(&b).last_txid, 3);
    /* One that the old leader never shipped runs here, once. */
    struct hadb_request lost = put_request("lost", "1");
    assert_int_equal(run(&a, 1, &lost).code, 0);
    struct hadb_response response = run(&b, 2, &lost);
    assert_false(response.deduplicated);
    assert_version(response.version, 2, 4);
    peer_close(&a);
    peer_close(&b);
}

static void retry__runs_again_when_the_first_run_was_rewound(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request request = put_request("a", "1");
    assert_int_equal(run(&peer, 1, &request).code, 0);
    assert_int_equal(hadb_engine_rewind(&peer.engine, NULL), 0);
    struct hadb_response response = run(&peer, 2, &request);
    assert_false(response.deduplicated);
    assert_version(response.version, 2, 1);
    peer_close(&peer);
}

static void retry__with_another_request_under_the_same_id_is_refused(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request request = put_request("a", "1");
    assert_int_equal(run(&peer, 1, &request).code, 0);
    struct hadb_request others[5];
    for (size_t i = 0; i < 5; i++) {
        others[i] = request;
    }
    others[0].value = hadb_slice_str("2");
    others[1].key = hadb_slice_str("b");
    others[2].if_absent = true;
    others[3].type = HADB_REQUEST_DELETE;
    others[3].value = (struct hadb_slice){0};
    others[4].if_version = (struct hadb_version){1, 1};
    for (size_t i = 0; i < 5; i++) {
        struct hadb_response response = run(&peer, 1, &others[i]);
        assert_int_equal(response.code, HADB_EINVAL);
        assert_non_null(strstr(response.error.message, "another request"));
        assert_int_equal(response.state_txid, 1);
    }
    assert_int_equal(peer_position(&peer).last_txid, 1);
    peer_close(&peer);
}

static void id__outside_the_window_is_refused_and_never_executed(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request request = put_request("a", "1");
    request.id = make_id(NOW + HADB_REQUEST_AHEAD_MS_MAX, 1);
    assert_int_equal(run(&peer, 1, &request).code, 0);
    request.id = make_id(NOW + HADB_REQUEST_AHEAD_MS_MAX + 1, 1);
    assert_int_equal(run(&peer, 1, &request).code, HADB_EEXPIRED);
    request.id.b[6] = 0x40; /* version 4 */
    assert_int_equal(run(&peer, 1, &request).code, HADB_EINVAL);
    memset(request.id.b, 0, sizeof(request.id.b));
    assert_int_equal(run(&peer, 1, &request).code, HADB_EINVAL);
    assert_int_equal(peer_position(&peer).last_txid, 1);
    peer_close(&peer);
}

/* How many results are kept, by counting. */
static unsigned count_results(const struct peer *peer)
{
    const struct hadb_range range = {.prefix = hadb_slice_str("r"), .keys_only = true};
    void *view = NULL;
    void *scan = NULL;
    assert_int_equal(hadb_engine_view_open(&peer->engine, &view, NULL, NULL), 0);
    assert_int_equal(hadb_engine_scan_open(&peer->engine, view, &range, &scan, NULL), 0);
    unsigned len = 0;
    struct hadb_item item;
    while (hadb_engine_scan_next(&peer->engine, scan, &item, NULL) == 0) {
        len++;
    }
    hadb_engine_scan_close(&peer->engine, scan);
    hadb_engine_view_close(&peer->engine, view);
    return len;
}

static uint64_t recorded_results(const struct peer *peer)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf record = {0};
    assert_int_equal(hadb_engine_get(&peer->engine, NULL, hadb_slice_str("h"), &record, NULL, NULL),
                     0);
    assert_int_equal(record.len, HADB__HORIZON_BYTES);
    return hadb_get_u64(record.data + HADB__HORIZON_LEN_AT);
}

static void results__leave_four_at_a_time_once_they_are_old(void **state)
{
    struct peer a;
    struct peer b;
    peer_open(&a, *state);
    peer_open(&b, *state);
    struct hadb_request requests[10];
    for (uint32_t i = 0; i < 10; i++) {
        requests[i] = put_request("a", "1");
        requests[i].id = make_id(NOW + i, i);
        assert_int_equal(run_at(&a, 1, NOW + i, &requests[i]).code, 0);
    }
    assert_int_equal(count_results(&a), 10);
    /* Kept to the last millisecond. */
    int64_t later = NOW + HADB_REQUEST_AGE_MS_MAX;
    struct hadb_request request = put_request("b", "1");
    request.id = make_id(later, 1);
    assert_int_equal(run_at(&a, 1, later, &request).code, 0);
    assert_int_equal(count_results(&a), 11);
    later += 7; /* ids of NOW to NOW + 6 are old now */
    request.id = make_id(later, 2);
    assert_int_equal(run_at(&a, 1, later, &request).code, 0);
    assert_int_equal(count_results(&a), 12 - 4);
    request.id = make_id(later, 3);
    assert_int_equal(run_at(&a, 1, later, &request).code, 0);
    assert_int_equal(count_results(&a), 9 - 3);
    assert_int_equal(recorded_results(&a), 6);
    /* What left is refused, never executed again; what stayed still answers. */
    for (uint32_t i = 0; i < 10; i++) {
        struct hadb_response response = run_at(&a, 1, later, &requests[i]);
        assert_int_equal(response.code, i < 7 ? HADB_EEXPIRED : 0);
        assert_int_equal(response.deduplicated, i >= 7);
        assert_int_equal(response.state_txid, i < 7 ? 13 : i + 1);
    }
    assert_int_equal(peer_position(&a).last_txid, 13);
    /* A follower has the same results and the same horizon, and refuses the same. */
    ship(&a, &b);
    assert_same(&a, &b);
    assert_int_equal(run_at(&b, 2, later, &requests[6]).code, HADB_EEXPIRED);
    assert_true(run_at(&b, 2, later, &requests[7]).deduplicated);
    peer_close(&a);
    peer_close(&b);
}

/* As above, all in one group: results that leave are those from before the group. */
static void results__leave_in_groups_too(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    for (uint32_t i = 0; i < 6; i++) {
        struct hadb_request old = put_request("a", "1");
        old.id = make_id(NOW - HADB_REQUEST_AGE_MS_MAX - 100 + i, i);
        assert_int_equal(run_at(&peer, 1, NOW - HADB_REQUEST_AGE_MS_MAX, &old).code, 0);
    }
    struct hadb_request requests[4] = {put_request("b", "1"), put_request("c", "1"),
                                       put_request("d", "1"), put_request("e", "1")};
    /* The first ones raise the horizon above this id. */
    requests[3].id = make_id(NOW - HADB_REQUEST_AGE_MS_MAX - 97, 99);
    struct hadb_response responses[4];
    assert_int_equal(run_group(&peer, 1, requests, 4, responses), 0);
    assert_int_equal(responses[2].code, 0);
    assert_int_equal(responses[3].code, HADB_EEXPIRED);
    assert_int_equal(responses[3].state_txid, 9);
    assert_int_equal(count_results(&peer), 3);
    assert_int_equal(recorded_results(&peer), 3);
    assert_null(value_of(&peer, "e"));
    peer_close(&peer);
}

static void results__leave_when_there_are_too_many(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    put(&peer, 1, "a", "1");
    put(&peer, 1, "b", "1");
    /* As if there were as many as can be. */
    uint8_t record[HADB__HORIZON_BYTES] = {HADB__HORIZON_VERSION};
    hadb_put_u64(record + HADB__HORIZON_LEN_AT, HADB_REQUEST_IDS_MAX);
    const struct hadb_op op = {.type = HADB_OP_PUT,
                               .key = hadb_slice_str("h"),
                               .value = hadb_slice(record, sizeof(record))};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf txn = {0};
    assert_int_equal(hadb_txn_encode(1, 3, NOW, &op, 1, &txn, NULL), 0);
    assert_int_equal(hadb_engine_apply(&peer.engine, hadb_buf_slice(&txn), NULL, NULL), 0);
    put(&peer, 1, "c", "1");
    assert_int_equal(count_results(&peer), 2);
    assert_int_equal(recorded_results(&peer), HADB_REQUEST_IDS_MAX);
    peer_close(&peer);
}

static void horizon__that_cannot_be_read_stops_writes(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    uint8_t record[HADB__HORIZON_BYTES] = {HADB__HORIZON_VERSION + 1};
    const struct hadb_op op = {.type = HADB_OP_PUT,
                               .key = hadb_slice_str("h"),
                               .value = hadb_slice(record, sizeof(record))};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf txn = {0};
    assert_int_equal(hadb_txn_encode(1, 1, NOW, &op, 1, &txn, NULL), 0);
    assert_int_equal(hadb_engine_apply(&peer.engine, hadb_buf_slice(&txn), NULL, NULL), 0);
    struct hadb_request request = put_request("a", "1");
    assert_int_equal(run(&peer, 1, &request).code, HADB_EVERSION);
    assert_int_equal(peer_position(&peer).last_txid, 1);
    peer_close(&peer);
}

static struct hadb_request batch_request(const struct hadb_kv_op *ops, size_t len)
{
    return (struct hadb_request){
        .type = HADB_REQUEST_BATCH, .id = next_id(), .ops = ops, .ops_len = len};
}

static void batch__is_one_transaction_or_nothing(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    put(&peer, 1, "there", "1");
    struct hadb_kv_op ops[4] = {
        {.type = HADB_OP_PUT, .key = hadb_slice_str("a"), .value = hadb_slice_str("1")},
        {.type = HADB_OP_DELETE, .key = hadb_slice_str("there"), .if_version = {1, 1}},
        {.type = HADB_OP_PUT, .key = hadb_slice_str("there"), .if_absent = true},
        {.type = HADB_OP_PUT, .key = hadb_slice_str("b"), .value = hadb_slice_str("1")},
    };
    /* Conditions are judged on the state before: "there" is there, whatever operation 1 does. */
    struct hadb_request request = batch_request(ops, 4);
    struct hadb_response response = run(&peer, 1, &request);
    assert_int_equal(response.code, HADB_NOT_MET);
    assert_int_equal(response.failed_op, 2);
    assert_version(response.version, 1, 1);
    assert_null(value_of(&peer, "a"));
    assert_string_equal(value_of(&peer, "there"), "1");
    assert_int_equal(peer_position(&peer).last_txid, 1);
    ops[2].if_absent = false;
    ops[2].value = hadb_slice_str("2");
    request = batch_request(ops, 4);
    response = run(&peer, 1, &request);
    assert_int_equal(response.code, 0);
    assert_version(response.version, 1, 2);
    assert_string_equal(value_of(&peer, "a"), "1");
    assert_string_equal(value_of(&peer, "there"), "2"); /* the later one wins */
    assert_string_equal(value_of(&peer, "b"), "1");
    assert_true(run(&peer, 1, &request).deduplicated);
    peer_close(&peer);
}

static void limits__are_checked_before_anything_happens(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    static char long_key[HADB_KEY_BYTES_MAX + 1];
    memset(long_key, 'k', sizeof(long_key));
    struct hadb_request request = put_request("", "1");
    assert_int_equal(run(&peer, 1, &request).code, HADB_EINVAL);
    request.key = hadb_slice(long_key, sizeof(long_key));
    assert_int_equal(run(&peer, 1, &request).code, HADB_ETOOBIG);
    request.key.len--;
    assert_int_equal(run(&peer, 1, &request).code, 0);
    request = put_request("a", "1");
    request.value.len = (size_t)HADB_VALUE_BYTES_MAX + 1; /* refused before it is read */
    assert_int_equal(run(&peer, 1, &request).code, HADB_ETOOBIG);
    request = put_request("a", "1");
    request.if_absent = true;
    request.if_version = (struct hadb_version){1, 1};
    assert_int_equal(run(&peer, 1, &request).code, HADB_EINVAL);
    request = delete_request("a");
    request.if_absent = true;
    assert_int_equal(run(&peer, 1, &request).code, HADB_EINVAL);
    request = batch_request(NULL, 0);
    assert_int_equal(run(&peer, 1, &request).code, HADB_EINVAL);
    struct hadb_kv_op op = {.type = (enum hadb_op_type)7, .key = hadb_slice_str("a")};
    request = batch_request(&op, 1);
    assert_int_equal(run(&peer, 1, &request).code, HADB_EINVAL);
    request = batch_request(&op, HADB_BATCH_OPS_MAX + 1);
    assert_int_equal(run(&peer, 1, &request).code, HADB_ETOOBIG);
    op = (struct hadb_kv_op){
        .type = HADB_OP_DELETE, .key = hadb_slice_str("a"), .value = hadb_slice_str("value")};
    request = batch_request(&op, 1);
    assert_int_equal(run(&peer, 1, &request).code, HADB_EINVAL);
    assert_int_equal(peer_position(&peer).last_txid, 1);
    peer_close(&peer);
}

static void batch__over_the_size_of_a_transaction_is_refused(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf value = {0};
    assert_int_equal(hadb_buf_reserve(&value, HADB_VALUE_BYTES_MAX), 0);
    memset(value.data, 'v', HADB_VALUE_BYTES_MAX);
    value.len = HADB_VALUE_BYTES_MAX;
    struct hadb_kv_op ops[4];
    const char *keys[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < 4; i++) {
        ops[i] = (struct hadb_kv_op){
            .type = HADB_OP_PUT, .key = hadb_slice_str(keys[i]), .value = hadb_buf_slice(&value)};
    }
    struct hadb_request requests[2] = {batch_request(ops, 4), put_request("small", "1")};
    struct hadb_response responses[2];
    assert_int_equal(run_group(&peer, 1, requests, 2, responses), 0);
    assert_int_equal(responses[0].code, HADB_ETOOBIG);
    assert_int_equal(responses[1].code, 0); /* the others go on */
    assert_version(responses[1].version, 1, 1);
    peer_close(&peer);
}

static void term__below_the_last_transactions_is_refused(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    put(&peer, 5, "a", "1");
    struct hadb_request request = put_request("a", "2");
    assert_int_equal(run(&peer, 4, &request).code, HADB_EINVAL);
    assert_int_equal(peer_position(&peer).last_txid, 1);
    peer_close(&peer);
}

static void group__is_one_write_of_the_engine(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    count_applies(&peer, 0);
    struct hadb_request requests[GROUP_MAX];
    struct hadb_response responses[GROUP_MAX];
    char keys[GROUP_MAX][8];
    for (unsigned i = 0; i < GROUP_MAX; i++) {
        snprintf(keys[i], sizeof(keys[i]), "%u", i % 16); /* same keys, no conditions */
        requests[i] = put_request(keys[i], "1");
    }
    requests[0].if_absent = true; /* its key is touched by nothing before it */
    assert_int_equal(run_group(&peer, 1, requests, GROUP_MAX, responses), 0);
    assert_int_equal(apply_calls, 1);
    for (unsigned i = 0; i < GROUP_MAX; i++) {
        assert_int_equal(responses[i].code, 0);
        assert_version(responses[i].version, 1, i + 1);
    }
    assert_int_equal(peer_position(&peer).last_txid, GROUP_MAX);
    peer_close(&peer);
}

static void group__conditions_see_the_requests_before(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request requests[5] = {put_request("a", "1"), put_request("a", "2"),
                                       put_request("a", "3"), delete_request("a"),
                                       put_request("a", "4")};
    requests[1].if_absent = true;
    requests[2].if_version = (struct hadb_version){1, 1};
    requests[4].if_absent = true;
    struct hadb_response responses[5];
    assert_int_equal(run_group(&peer, 1, requests, 5, responses), 0);
    assert_int_equal(responses[0].code, 0);
    assert_int_equal(responses[1].code, HADB_NOT_MET);
    assert_version(responses[1].version, 1, 1);
    assert_int_equal(responses[1].state_txid, 1);
    assert_int_equal(responses[2].code, 0);
    assert_version(responses[2].version, 1, 2);
    assert_int_equal(responses[3].code, 0);
    assert_int_equal(responses[4].code, 0);
    assert_version(responses[4].version, 1, 4);
    assert_string_equal(value_of(&peer, "a"), "4");
    peer_close(&peer);
}

static void group__runs_an_id_that_comes_twice_once(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request requests[3] = {put_request("a", "1"), put_request("b", "1"), {0}};
    requests[2] = requests[0];
    struct hadb_response responses[3];
    assert_int_equal(run_group(&peer, 1, requests, 3, responses), 0);
    assert_false(responses[0].deduplicated);
    assert_true(responses[2].deduplicated);
    assert_version(responses[2].version, 1, 1);
    assert_int_equal(peer_position(&peer).last_txid, 2);
    peer_close(&peer);
}

static void group__goes_on_behind_requests_that_are_refused(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request requests[4] = {put_request("a", "1"), batch_request(NULL, 3),
                                       put_request("a", "2"), put_request("b", "1")};
    requests[1].ops_len = HADB_BATCH_OPS_MAX + 1; /* malformed, in front of a search for "a" */
    requests[2].if_absent = true;
    requests[3].id.b[6] = 0;
    struct hadb_response responses[4];
    assert_int_equal(run_group(&peer, 1, requests, 4, responses), 0);
    assert_int_equal(responses[0].code, 0);
    assert_int_equal(responses[1].code, HADB_ETOOBIG);
    assert_int_equal(responses[2].code, HADB_NOT_MET);
    assert_int_equal(responses[3].code, HADB_EINVAL);
    assert_int_equal(peer_position(&peer).last_txid, 1);
    peer_close(&peer);
}

static void group__with_a_read_in_it_is_refused_whole(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request requests[2] = {put_request("a", "1"), {.type = HADB_REQUEST_GET}};
    struct hadb_response responses[2];
    assert_int_equal(run_group(&peer, 1, requests, 2, responses), HADB_EINVAL);
    assert_int_equal(responses[0].code, HADB_EINVAL);
    assert_int_equal(responses[1].code, HADB_EINVAL);
    assert_int_equal(peer_position(&peer).last_txid, 0);
    assert_int_equal(run_group(&peer, 1, requests, 0, NULL), 0);
    peer_close(&peer);
}

/* The engine refuses the second write: what was applied before stays answered, the rest failed. */
static void group__that_the_engine_refuses_fails_what_was_not_applied(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request old = put_request("old", "1");
    assert_int_equal(run(&peer, 1, &old).code, 0);
    count_applies(&peer, 2);
    struct hadb_request requests[7] = {
        put_request("a", "1"), put_request("a", "2"),   put_request("b", "1"), old,
        put_request("", ""),   put_request("old", "2"), put_request("b", "2")};
    requests[1].if_absent = true; /* needs the first one applied */
    requests[5].if_absent = true;
    requests[6].if_absent = true; /* needs the third one applied: fails */
    struct hadb_response responses[7];
    assert_int_equal(run_group(&peer, 1, requests, 7, responses), HADB_ENOSPC);
    assert_int_equal(responses[0].code, 0);
    assert_int_equal(responses[1].code, HADB_NOT_MET);
    assert_int_equal(responses[2].code, HADB_ENOSPC);
    assert_int_equal(responses[3].code, 0);
    assert_true(responses[3].deduplicated);
    assert_int_equal(responses[4].code, HADB_EINVAL);
    assert_int_equal(responses[5].code, HADB_NOT_MET);
    assert_int_equal(responses[6].code, HADB_ENOSPC);
    assert_string_equal(responses[6].error.message, "no space");
    assert_int_equal(peer_position(&peer).last_txid, 2);
    /* The same requests again: those that ran are remembered, the others run now. */
    assert_int_equal(run_group(&peer, 1, requests, 7, responses), 0);
    assert_true(responses[0].deduplicated);
    assert_int_equal(responses[2].code, 0);
    assert_version(responses[2].version, 1, 3);
    assert_int_equal(responses[6].code, HADB_NOT_MET);
    peer_close(&peer);
}

/* ---- against a model, alone and in groups, leader and follower ---- */

#define KEYS 12u

struct model {
    struct hadb_version version[KEYS]; /* txid 0 = absent */
    unsigned value[KEYS];
    hadb_txid last_txid;
};

struct drawn {
    struct hadb_request request;
    struct hadb_kv_op ops[6];
    unsigned op_key[6];
    unsigned op_value[6];
    char values[6][12];
};

static const char *const key_names[KEYS] = {"a",  "b",  "c",  "d",   "e",    "f",
                                            "aa", "ab", "ba", "aaa", "\x01", "\xff"};

static void draw_op(struct test_rng *rng, const struct model *model, struct drawn *drawn, size_t i)
{
    struct hadb_kv_op *op = &drawn->ops[i];
    unsigned key = (unsigned)test_rng_below(rng, KEYS);
    drawn->op_key[i] = key;
    drawn->op_value[i] = (unsigned)test_rng_below(rng, 1000000);
    snprintf(drawn->values[i], sizeof(drawn->values[i]), "%u", drawn->op_value[i]);
    *op = (struct hadb_kv_op){.type = test_rng_chance(rng, 70) ? HADB_OP_PUT : HADB_OP_DELETE,
                              .key = hadb_slice_str(key_names[key])};
    if (op->type == HADB_OP_PUT) {
        op->value = hadb_slice_str(drawn->values[i]);
        op->if_absent = test_rng_chance(rng, 15);
    }
    if (!op->if_absent && test_rng_chance(rng, 15)) {
        /* Usually the version that was current when the group was drawn. */
        op->if_version = model->version[key];
        op->if_version.txid += test_rng_chance(rng, 20) ? 1 : 0;
    }
}

static void draw(struct test_rng *rng, const struct model *model, struct drawn *drawn)
{
    size_t len = test_rng_chance(rng, 30) ? 1 + test_rng_below(rng, 6) : 1;
    for (size_t i = 0; i < len; i++) {
        draw_op(rng, model, drawn, i);
    }
    drawn->request = batch_request(drawn->ops, len);
    if (len == 1 && test_rng_chance(rng, 80)) {
        const struct hadb_kv_op *op = &drawn->ops[0];
        drawn->request = (struct hadb_request){
            .type = op->type == HADB_OP_PUT ? HADB_REQUEST_PUT : HADB_REQUEST_DELETE,
            .id = next_id(),
            .key = op->key,
            .value = op->value,
            .if_absent = op->if_absent,
            .if_version = op->if_version};
    }
    drawn->request.repeated = test_rng_chance(rng, 30);
}

static int model_run(struct model *model, uint64_t term, const struct drawn *drawn)
{
    size_t len = drawn->request.type == HADB_REQUEST_BATCH ? drawn->request.ops_len : 1;
    for (size_t i = 0; i < len; i++) {
        const struct hadb_kv_op *op = &drawn->ops[i];
        struct hadb_version has = model->version[drawn->op_key[i]];
        if ((op->if_absent && has.txid != 0) ||
            (op->if_version.txid != 0 &&
             (has.txid != op->if_version.txid || has.term != op->if_version.term))) {
            model->last_txid += drawn->request.repeated ? 1 : 0; /* recorded */
            return HADB_NOT_MET;
        }
    }
    model->last_txid++;
    for (size_t i = 0; i < len; i++) {
        unsigned key = drawn->op_key[i];
        bool is_put = drawn->ops[i].type == HADB_OP_PUT;
        model->version[key] =
            is_put ? (struct hadb_version){term, model->last_txid} : (struct hadb_version){0};
        model->value[key] = drawn->op_value[i];
    }
    return 0;
}

static void assert_model(struct peer *peer, const struct model *model)
{
    for (unsigned key = 0; key < KEYS; key++) {
        const char *value = value_of(peer, key_names[key]);
        char expected[12];
        snprintf(expected, sizeof(expected), "%u", model->value[key]);
        if (model->version[key].txid == 0) {
            assert_null(value);
        } else {
            assert_non_null(value);
            assert_string_equal(value, expected);
        }
    }
    assert_int_equal(peer_position(peer).last_txid, model->last_txid);
}

static void writes__match_a_simple_model(void **state)
{
    struct test_rng rng;
    test_rng_init(&rng, 20261121);
    struct peer leader;
    struct peer follower;
    peer_open(&leader, *state);
    peer_open(&follower, *state);
    struct model model = {0};
    static struct drawn drawn[GROUP_MAX];
    struct hadb_request requests[GROUP_MAX];
    struct hadb_response responses[GROUP_MAX];
    for (unsigned round = 0; round < 400; round++) {
        uint64_t term = 1 + round / 100;
        size_t len = 1 + test_rng_below(&rng, test_rng_chance(&rng, 50) ? 1 : GROUP_MAX - 1);
        for (size_t i = 0; i < len; i++) {
            bool again = i > 0 && test_rng_chance(&rng, 5);
            if (!again) {
                draw(&rng, &model, &drawn[i]);
            }
            requests[i] = again ? requests[i - 1] : drawn[i].request;
            drawn[i] = again ? drawn[i - 1] : drawn[i];
            if (again && requests[i].type == HADB_REQUEST_BATCH) {
                requests[i].ops = drawn[i - 1].ops;
            }
        }
        assert_int_equal(run_group(&leader, term, requests, len, responses), 0);
        for (size_t i = 0; i < len; i++) {
            bool again = i > 0 && hadb_id_eq(&requests[i].id, &requests[i - 1].id);
            if (again && (responses[i - 1].code == 0 || requests[i].repeated)) {
                assert_true(responses[i].deduplicated);
                assert_int_equal(responses[i].code, responses[i - 1].code);
                assert_int_equal(responses[i].state_txid, responses[i - 1].state_txid);
                assert_memory_equal(&responses[i].version, &responses[i - 1].version,
                                    sizeof(responses[i].version));
                continue;
            }
            assert_int_equal(responses[i].code, model_run(&model, term, &drawn[i]));
            assert_false(responses[i].deduplicated);
            if (responses[i].code == 0) {
                assert_version(responses[i].version, term, model.last_txid);
            }
        }
        if (test_rng_chance(&rng, 20) &&
            peer_position(&leader).last_txid > peer_position(&leader).mark.txid) {
            assert_model(&leader, &model);
            ship(&leader, &follower);
            assert_same(&leader, &follower);
        }
    }
    assert_model(&leader, &model);
    peer_close(&leader);
    peer_close(&follower);
}

static void write__is_whole_or_refused_when_memory_runs_out(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    put(&peer, 1, "there", "1");
    for (uint64_t n = 1;; n++) {
        struct hadb_request requests[3] = {put_request("a", "1"), put_request("there", "2"),
                                           put_request("b", "1")};
        requests[1].if_version = (struct hadb_version){1, 77};
        struct hadb_response responses[3];
        hadb_txid before = peer_position(&peer).last_txid;
        test_alloc_fail_at(n);
        int r = run_group(&peer, 1, requests, 3, responses);
        bool hit = test_alloc_hit();
        test_alloc_reset();
        assert_true(r == 0 || (hit && r == HADB_ENOMEM));
        hadb_txid done = 0;
        for (size_t i = 0; i < 3; i++) {
            int code = responses[i].code;
            assert_true(code == (i == 1 ? HADB_NOT_MET : 0) || (hit && code == HADB_ENOMEM));
            done += code == 0 ? 1 : 0;
        }
        assert_int_equal(peer_position(&peer).last_txid, before + done);
        /* Once there is memory again, each runs exactly once. */
        struct hadb_response again[3];
        assert_int_equal(run_group(&peer, 1, requests, 3, again), 0);
        for (size_t i = 0; i < 3; i += 2) {
            assert_int_equal(again[i].code, 0);
            assert_int_equal(again[i].deduplicated, responses[i].code == 0);
        }
        if (!hit) {
            break;
        }
    }
    assert_string_equal(value_of(&peer, "there"), "1");
    peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_ENGINES(write__gets_the_next_transaction_and_its_version),
        ON_ENGINES(delete__of_an_absent_key_is_done_and_remembered),
        ON_ENGINES(condition__if_absent_refuses_a_key_that_is_there),
        ON_ENGINES(condition__if_version_compares_term_and_transaction),
        ON_ENGINES(retry__is_answered_from_the_database),
        ON_ENGINES(retry__of_a_refused_write_stays_refused),
        ON_ENGINES(group__finds_refusals_recorded_in_it),
        cmocka_unit_test(retry__is_answered_after_a_restart),
        ON_ENGINES(retry__is_answered_by_the_next_leader),
        ON_ENGINES(retry__runs_again_when_the_first_run_was_rewound),
        ON_ENGINES(retry__with_another_request_under_the_same_id_is_refused),
        ON_ENGINES(id__outside_the_window_is_refused_and_never_executed),
        ON_ENGINES(results__leave_four_at_a_time_once_they_are_old),
        ON_ENGINES(results__leave_in_groups_too),
        ON_ENGINES(results__leave_when_there_are_too_many),
        ON_ENGINES(horizon__that_cannot_be_read_stops_writes),
        ON_ENGINES(batch__is_one_transaction_or_nothing),
        ON_ENGINES(limits__are_checked_before_anything_happens),
        ON_ENGINES(batch__over_the_size_of_a_transaction_is_refused),
        ON_ENGINES(term__below_the_last_transactions_is_refused),
        ON_ENGINES(group__is_one_write_of_the_engine),
        ON_ENGINES(group__conditions_see_the_requests_before),
        ON_ENGINES(group__runs_an_id_that_comes_twice_once),
        ON_ENGINES(group__goes_on_behind_requests_that_are_refused),
        ON_ENGINES(group__with_a_read_in_it_is_refused_whole),
        ON_ENGINES(group__that_the_engine_refuses_fails_what_was_not_applied),
        ON_ENGINES(writes__match_a_simple_model),
        ON_ENGINES(write__is_whole_or_refused_when_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
