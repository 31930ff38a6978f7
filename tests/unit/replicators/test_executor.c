/* SPDX-License-Identifier: Apache-2.0 */
/* Writes through the key-value executor. Thread: one. */
#include "tests/unit/replicators/peer.h"

#include "replicators/space.h"

#define GROUP_MAX 64u

static int run_group(struct peer *peer, uint64_t term, const struct hadb_request *requests,
                     size_t len, struct hadb_response *responses)
{
    const struct hadb_request *pointers[GROUP_MAX];
    assert_true(len <= GROUP_MAX);
    for (size_t i = 0; i < len; i++) {
        pointers[i] = &requests[i];
    }
    const struct hadb_execute_context context = {
        .term = term, .now_unix_ms = NOW, .now_ms = (uint64_t)NOW};
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
    struct hadb_request request = put_request("b", "1");
    int64_t noted =
        NOW + HADB_REQUEST_AGE_MS_MAX / 4; /* from here on the ten are known to be there */
    request.id = make_id(noted, 1);
    assert_int_equal(run_at(&a, 1, noted, &request).code, 0);
    /* Kept to the last millisecond. */
    int64_t later = noted + HADB_REQUEST_AGE_MS_MAX;
    request.id = make_id(later - 1, 1);
    assert_int_equal(run_at(&a, 1, later - 1, &request).code, 0);
    assert_int_equal(count_results(&a), 12);
    static const unsigned left[] = {9, 6, 5};
    for (uint32_t i = 0; i < 3; i++) {
        request.id = make_id(later, i);
        assert_int_equal(run_at(&a, 1, later, &request).code, 0);
        assert_int_equal(count_results(&a), left[i]);
    }
    assert_int_equal(recorded_results(&a), 5);
    /* What left is refused, never executed again; what stayed still answers. */
    for (uint32_t i = 0; i < 10; i++) {
        struct hadb_response response = run_at(&a, 1, later, &requests[i]);
        assert_int_equal(response.code, HADB_EEXPIRED);
        assert_int_equal(response.state_txid, 15);
        assert_int_equal(response.usable_unix_ms, later);
    }
    request.key = hadb_slice_str("b");
    request.id = make_id(noted, 1);
    assert_true(run_at(&a, 1, later, &request).deduplicated);
    assert_int_equal(peer_position(&a).last_txid, 15);
    /* A follower has the same results and the same horizon, and refuses the same. */
    ship(&a, &b);
    assert_same(&a, &b);
    assert_int_equal(run_at(&b, 2, later, &requests[9]).code, HADB_EEXPIRED);
    assert_true(run_at(&b, 2, later, &request).deduplicated);
    peer_close(&a);
    peer_close(&b);
}

/* A leader whose wall clock is ahead of its clients' keeps their results as long as any other. */
static void results__are_kept_as_long_under_a_clock_that_is_ahead(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    const int64_t ahead = NOW + 3600000;
    struct hadb_request requests[4];
    for (uint32_t i = 0; i < 4; i++) {
        requests[i] = put_request("a", "1");
        requests[i].id = make_id(NOW + i, i);
        assert_int_equal(run_clocks(&peer, 1, ahead + i, i, &requests[i]).code, 0);
    }
    struct hadb_request late = put_request("a", "2"); /* on its way for a while */
    late.id = make_id(NOW - 1, 9);
    assert_int_equal(run_clocks(&peer, 1, ahead + 5, 5, &late).code, 0);
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(run_clocks(&peer, 1, ahead + 10, 10, &requests[i]).deduplicated);
    }
    /* A new leader does not know how long they were kept: it begins to count. */
    late.id = make_id(NOW + 10, 10);
    uint64_t now_ms = 2 * HADB_REQUEST_AGE_MS_MAX;
    assert_int_equal(run_clocks(&peer, 2, ahead, now_ms, &late).code, 0);
    late.id = make_id(NOW + 11, 11);
    now_ms += HADB_REQUEST_AGE_MS_MAX - 1;
    assert_int_equal(run_clocks(&peer, 2, ahead, now_ms, &late).code, 0);
    assert_int_equal(count_results(&peer), 7);
    late.id = make_id(NOW + 12, 12);
    assert_int_equal(run_clocks(&peer, 2, ahead, now_ms + 1, &late).code, 0);
    assert_int_equal(count_results(&peer), 8 - 4);
    peer_close(&peer);
}

/* A clock that was ahead by an hour has raised the horizon into the future. */
static void horizon__in_the_future_says_which_id_would_be_taken(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    const int64_t wrong = NOW + 3600000;
    uint8_t record[HADB__HORIZON_BYTES] = {HADB__HORIZON_VERSION};
    hadb_put_u64(record + HADB__HORIZON_TIME_AT, (uint64_t)wrong);
    const struct hadb_op op = {.type = HADB_OP_PUT,
                               .key = hadb_slice_str("h"),
                               .value = hadb_slice(record, sizeof(record))};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf txn = {0};
    assert_int_equal(hadb_txn_encode(1, 1, NOW, &op, 1, &txn, NULL), 0);
    assert_int_equal(hadb_engine_apply(&peer.engine, hadb_buf_slice(&txn), NULL, NULL), 0);
    struct hadb_request request = put_request("a", "1");
    request.id = make_id(NOW, 1);
    struct hadb_response response = run_clocks(&peer, 1, NOW, 1, &request);
    assert_int_equal(response.code, HADB_EEXPIRED);
    assert_int_equal(response.usable_unix_ms, wrong);
    request.id = make_id(wrong, 1);
    assert_int_equal(run_clocks(&peer, 1, NOW, 1, &request).code, 0);
    request.id = make_id(wrong + HADB_REQUEST_AHEAD_MS_MAX + 1, 2);
    assert_int_equal(run_clocks(&peer, 1, NOW, 1, &request).code, HADB_EEXPIRED);
    peer_close(&peer);
}

/* As above, all in one group: results that leave are those from before the group. */
static void results__leave_in_groups_too(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    const int64_t before = NOW - 2 * HADB_REQUEST_AGE_MS_MAX;
    struct hadb_request old = put_request("a", "1");
    for (uint32_t i = 0; i < 6; i++) {
        old.id = make_id(NOW - HADB_REQUEST_AGE_MS_MAX - 100 + i, i);
        assert_int_equal(run_at(&peer, 1, before, &old).code, 0);
    }
    /* Only with the next write after a while they are known to be there. */
    assert_true(run_at(&peer, 1, before + HADB_REQUEST_AGE_MS_MAX / 2, &old).deduplicated);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_ENGINES(write__gets_the_next_transaction_and_its_version),
        ON_ENGINES(delete__of_an_absent_key_is_done_and_remembered),
        ON_ENGINES(condition__if_absent_refuses_a_key_that_is_there),
        ON_ENGINES(condition__if_version_compares_term_and_transaction),
        ON_ENGINES(retry__is_answered_from_the_database),
        ON_ENGINES(retry__of_a_refused_write_stays_refused),
        cmocka_unit_test(retry__is_answered_after_a_restart),
        ON_ENGINES(retry__is_answered_by_the_next_leader),
        ON_ENGINES(retry__runs_again_when_the_first_run_was_rewound),
        ON_ENGINES(retry__with_another_request_under_the_same_id_is_refused),
        ON_ENGINES(id__outside_the_window_is_refused_and_never_executed),
        ON_ENGINES(results__leave_four_at_a_time_once_they_are_old),
        ON_ENGINES(results__leave_in_groups_too),
        ON_ENGINES(results__are_kept_as_long_under_a_clock_that_is_ahead),
        ON_ENGINES(horizon__in_the_future_says_which_id_would_be_taken),
        ON_ENGINES(results__leave_when_there_are_too_many),
        ON_ENGINES(horizon__that_cannot_be_read_stops_writes),
        ON_ENGINES(batch__is_one_transaction_or_nothing),
        ON_ENGINES(limits__are_checked_before_anything_happens),
        ON_ENGINES(batch__over_the_size_of_a_transaction_is_refused),
        ON_ENGINES(term__below_the_last_transactions_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
