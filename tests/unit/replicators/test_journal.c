/* SPDX-License-Identifier: Apache-2.0 */
/* Capture and apply. Thread: one. */
#include "tests/unit/replicators/peer.h"

/* Two engines; the first has transactions 1 to @len of term 1 in its tail. */
struct two {
    struct peer a, b;
    struct hadb_buf body; /* transactions 1 to len */
};

static void two_open(struct two *two, void **state, unsigned len)
{
    peer_open(&two->a, *state);
    peer_open(&two->b, *state);
    two->body = (struct hadb_buf){0};
    for (unsigned i = 0; i < len; i++) {
        char key[16];
        snprintf(key, sizeof(key), "key%u", i);
        put(&two->a, 1, key, "value");
    }
    capture_all(&two->a, 0, &two->body);
}

static void two_close(struct two *two)
{
    hadb_buf_deinit(&two->body);
    peer_close(&two->a);
    peer_close(&two->b);
}

/* The part of two->body with transactions @first to @last. */
static struct hadb_slice part(const struct two *two, hadb_txid first, hadb_txid last)
{
    struct hadb_slice rest = hadb_buf_slice(&two->body);
    struct hadb_txn txn;
    const uint8_t *start = NULL;
    const uint8_t *end = NULL;
    while (hadb_txn_next(&rest, &txn, NULL) == 0) {
        start = txn.txid == first ? txn.bytes.data : start;
        end = txn.txid == last ? (const uint8_t *)txn.bytes.data + txn.bytes.len : end;
    }
    assert_non_null(start);
    assert_non_null(end);
    return hadb_slice(start, (size_t)(end - start));
}

static int apply(struct peer *peer, struct hadb_slice body, uint64_t term, uint64_t slot,
                 hadb_txid txid)
{
    struct hadb_pos pos = make_pos(term, slot, txid);
    return hadb_replicator_apply(&peer->replicator, body, &pos, NULL);
}

static void assert_at(const struct peer *peer, uint64_t slot, hadb_txid mark, hadb_txid last)
{
    struct hadb_engine_position position = peer_position(peer);
    assert_int_equal(position.mark.slot, slot);
    assert_int_equal(position.mark.txid, mark);
    assert_int_equal(position.last_txid, last);
}

static void assert_same(const struct peer *a, const struct peer *b)
{
    struct hadb_hash digest_a = peer_digest(a);
    struct hadb_hash digest_b = peer_digest(b);
    assert_true(hadb_hash_eq(&digest_a, &digest_b));
}

static void apply__brings_the_follower_to_the_leaders_state(void **state)
{
    struct two two;
    two_open(&two, state, 5);
    assert_int_equal(apply(&two.b, part(&two, 1, 2), 1, 1, 2), 0);
    assert_at(&two.b, 1, 2, 2);
    assert_int_equal(apply(&two.b, part(&two, 3, 5), 1, 2, 5), 0);
    assert_at(&two.b, 2, 5, 5);
    assert_same(&two.a, &two.b);
    struct hadb_pos mark = peer_position(&two.b).mark;
    struct hadb_pos expected = make_pos(1, 2, 5);
    assert_true(hadb_hash_eq(&mark.hash, &expected.hash));
    two_close(&two);
}

static void apply__of_an_equal_tail_moves_only_the_mark(void **state)
{
    struct two two;
    two_open(&two, state, 5);
    assert_int_equal(apply(&two.a, part(&two, 1, 2), 1, 1, 2), 0);
    assert_at(&two.a, 1, 2, 5); /* the tail behind the body stays */
    assert_int_equal(apply(&two.a, part(&two, 3, 5), 1, 2, 5), 0);
    assert_at(&two.a, 2, 5, 5);
    assert_string_equal(value_of(&two.a, "key4"), "value");
    two_close(&two);
}

static void apply__adds_what_lies_beyond_an_equal_tail(void **state)
{
    struct two two;
    two_open(&two, state, 5);
    /* b lost the end of what it had, as after a power cut. */
    assert_int_equal(hadb_engine_apply(&two.b.engine, part(&two, 1, 3), NULL, NULL), 0);
    assert_at(&two.b, 0, 0, 3);
    assert_int_equal(apply(&two.b, hadb_buf_slice(&two.body), 1, 1, 5), 0);
    assert_at(&two.b, 1, 5, 5);
    assert_same(&two.a, &two.b);
    two_close(&two);
}

static void apply__answers_diverged_and_changes_nothing_when_the_tail_differs(void **state)
{
    struct two two;
    two_open(&two, state, 5);
    /* b has the same first two transactions, then one of its own. */
    assert_int_equal(hadb_engine_apply(&two.b.engine, part(&two, 1, 2), NULL, NULL), 0);
    put(&two.b, 1, "own", "value");
    struct hadb_hash before = peer_digest(&two.b);
    assert_int_equal(apply(&two.b, hadb_buf_slice(&two.body), 1, 1, 5), HADB_DIVERGED);
    assert_at(&two.b, 0, 0, 3);
    struct hadb_hash after = peer_digest(&two.b);
    assert_true(hadb_hash_eq(&before, &after));
    /* The equal part alone is history. */
    assert_int_equal(apply(&two.b, part(&two, 1, 2), 1, 1, 2), 0);
    assert_at(&two.b, 1, 2, 3);
    /* Once the tail is undone, the rest applies. */
    assert_int_equal(hadb_engine_rewind(&two.b.engine, NULL), 0);
    assert_int_equal(apply(&two.b, part(&two, 3, 5), 1, 2, 5), 0);
    assert_same(&two.a, &two.b);
    two_close(&two);
}

/* Same operations, another term: not the same transaction. */
static void apply__compares_terms_too(void **state)
{
    struct two two;
    two_open(&two, state, 1);
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf other = {0};
    assert_int_equal(hadb_buf_append(&other, two.body.data, two.body.len), 0);
    hadb_put_u64(other.data + 4, 2);
    assert_int_equal(apply(&two.a, hadb_buf_slice(&other), 2, 1, 1), HADB_DIVERGED);
    two_close(&two);
}

static void apply__compares_a_tail_of_many_megabytes(void **state)
{
    struct two two;
    two_open(&two, state, 1);
    for (unsigned i = 0; i < 5; i++) {
        char key[16];
        snprintf(key, sizeof(key), "big%u", i);
        put_bytes(&two.a, 1, key, 3u << 20);
    }
    hadb_buf_deinit(&two.body);
    capture_all(&two.a, 0, &two.body);
    assert_int_equal(hadb_engine_apply(&two.b.engine, part(&two, 1, 4), NULL, NULL), 0);
    two.body.data[two.body.len - 40] ^= 1; /* in the last one, which b does not have */
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf copy = {0};
    assert_int_equal(hadb_buf_append(&copy, two.body.data, two.body.len), 0);
    assert_int_equal(apply(&two.a, hadb_buf_slice(&copy), 1, 1, 6), HADB_DIVERGED);
    assert_int_equal(apply(&two.b, hadb_buf_slice(&copy), 1, 1, 6), 0);
    assert_at(&two.b, 1, 6, 6);
    two_close(&two);
}

static void apply__refuses_a_gap_a_fork_and_a_jump_of_the_mark(void **state)
{
    struct two two;
    two_open(&two, state, 6);
    assert_int_equal(apply(&two.b, part(&two, 2, 3), 1, 1, 3), HADB_EGAP);
    assert_int_equal(apply(&two.b, part(&two, 1, 3), 1, 1, 3), 0);
    assert_int_equal(apply(&two.b, part(&two, 5, 6), 1, 2, 6), HADB_EGAP);
    /* A body that goes back behind the mark is of another history. */
    assert_int_equal(apply(&two.b, part(&two, 3, 4), 1, 2, 4), HADB_EFORKED);
    /* Inside the tail, yet not right behind the mark: nobody compared what is skipped. */
    assert_int_equal(apply(&two.a, part(&two, 2, 3), 1, 1, 3), HADB_EGAP);
    assert_at(&two.b, 1, 3, 3);
    assert_at(&two.a, 0, 0, 6);
    two_close(&two);
}

static void apply__of_a_covered_entry_changes_nothing(void **state)
{
    struct two two;
    two_open(&two, state, 4);
    assert_int_equal(apply(&two.b, part(&two, 1, 2), 1, 1, 2), 0);
    assert_int_equal(apply(&two.b, part(&two, 3, 4), 1, 2, 4), 0);
    assert_int_equal(apply(&two.b, part(&two, 1, 2), 1, 1, 2), 0);
    assert_int_equal(apply(&two.b, part(&two, 3, 4), 1, 2, 4), 0);
    assert_at(&two.b, 2, 4, 4);
    struct hadb_pos other = make_pos(1, 2, 4);
    other.hash.b[0] ^= 1; /* another entry in the same slot */
    assert_int_equal(hadb_replicator_apply(&two.b.replicator, part(&two, 3, 4), &other, NULL),
                     HADB_EFORKED);
    /* A later slot of an earlier term is nowhere on this history. */
    assert_int_equal(apply(&two.b, part(&two, 3, 4), 0, 3, 4), HADB_EFORKED);
    two_close(&two);
}

static void apply__of_an_empty_body_moves_the_mark_as_a_seal_does(void **state)
{
    struct two two;
    two_open(&two, state, 3);
    assert_int_equal(apply(&two.b, hadb_buf_slice(&two.body), 1, 1, 3), 0);
    assert_int_equal(apply(&two.b, (struct hadb_slice){0}, 2, 1, 3), 0);
    assert_int_equal(peer_position(&two.b).mark.term, 2);
    assert_at(&two.b, 1, 3, 3);
    assert_int_equal(apply(&two.b, (struct hadb_slice){0}, 3, 1, 4), HADB_EGAP);
    /* With a tail: it stays, whoever owns it. */
    assert_int_equal(apply(&two.a, (struct hadb_slice){0}, 2, 0, 0), 0);
    assert_at(&two.a, 0, 0, 3);
    two_close(&two);
}

static void apply__refuses_bodies_that_do_not_hold_together(void **state)
{
    struct two two;
    two_open(&two, state, 3);
    assert_int_equal(apply(&two.b, hadb_buf_slice(&two.body), 1, 1, 2), HADB_ECORRUPT);
    assert_int_equal(apply(&two.b, hadb_buf_slice(&two.body), 1, 1, 4), HADB_ECORRUPT);
    assert_int_equal(apply(&two.b, hadb_buf_slice(&two.body), 0, 1, 3), HADB_ECORRUPT);
    for (size_t len = 1; len < two.body.len; len++) {
        assert_int_equal(apply(&two.b, hadb_slice(two.body.data, len), 1, 1, 3), HADB_ECORRUPT);
    }
    /* A hole, and a term that falls. */
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf body = {0};
    struct hadb_slice first = part(&two, 1, 1);
    struct hadb_slice third = part(&two, 3, 3);
    assert_int_equal(hadb_buf_append(&body, first.data, first.len), 0);
    assert_int_equal(hadb_buf_append(&body, third.data, third.len), 0);
    assert_int_equal(apply(&two.b, hadb_buf_slice(&body), 1, 1, 3), HADB_ECORRUPT);
    hadb_put_u64(two.body.data + 4, 2);
    assert_int_equal(apply(&two.b, hadb_buf_slice(&two.body), 2, 1, 3), HADB_ECORRUPT);
    assert_at(&two.b, 0, 0, 0);
    two_close(&two);
}

static void mark__follows_own_entries_and_never_passes_the_last_commit(void **state)
{
    struct two two;
    two_open(&two, state, 3);
    struct hadb_pos pos = make_pos(1, 1, 2);
    assert_int_equal(hadb_replicator_mark(&two.a.replicator, &pos, NULL), 0);
    assert_int_equal(hadb_replicator_mark(&two.a.replicator, &pos, NULL), 0);
    assert_at(&two.a, 1, 2, 3);
    pos = make_pos(1, 2, 4);
    assert_int_equal(hadb_replicator_mark(&two.a.replicator, &pos, NULL), HADB_EGAP);
    pos = make_pos(2, 2, 1);
    assert_int_equal(hadb_replicator_mark(&two.a.replicator, &pos, NULL), HADB_EFORKED);
    assert_at(&two.a, 1, 2, 3);
    assert_int_equal(hadb_replicator_sync(&two.a.replicator, NULL), 0);
    two_close(&two);
}

static void mark__survives_a_restart_with_the_transactions(void **state)
{
    (void)state;
    void *kv = (void *)(uintptr_t) "kv";
    struct two two;
    two_open(&two, &kv, 4);
    assert_int_equal(apply(&two.b, part(&two, 1, 3), 1, 1, 3), 0);
    assert_int_equal(hadb_replicator_sync(&two.b.replicator, NULL), 0);
    peer_reopen(&two.b);
    assert_at(&two.b, 1, 3, 3);
    assert_int_equal(apply(&two.b, part(&two, 4, 4), 1, 2, 4), 0);
    assert_same(&two.a, &two.b);
    two_close(&two);
}

static void capture__takes_whole_transactions_up_to_the_bound(void **state)
{
    struct two two;
    two_open(&two, state, 4);
    struct hadb_capture capture = {0};
    size_t bytes_max = part(&two, 1, 2).len;
    assert_int_equal(hadb_replicator_capture(&two.a.replicator, 0, bytes_max, true, &capture, NULL),
                     0);
    assert_int_equal(capture.first_txid, 1);
    assert_int_equal(capture.last_txid, 2);
    assert_int_equal(capture.time_unix_ms, NOW);
    assert_null(capture.view); /* there is no picture of transaction 2 any more */
    assert_true(hadb_slice_eq(hadb_buf_slice(&capture.body), part(&two, 1, 2)));
    hadb_replicator_capture_deinit(&two.a.replicator, &capture);
    /* One, even if it is larger than the bound. */
    assert_int_equal(hadb_replicator_capture(&two.a.replicator, 2, 1, false, &capture, NULL), 0);
    assert_int_equal(capture.last_txid, 3);
    hadb_replicator_capture_deinit(&two.a.replicator, &capture);
    assert_int_equal(hadb_replicator_capture(&two.a.replicator, 4, 1, true, &capture, NULL),
                     HADB_END);
    struct hadb_pos pos = make_pos(1, 1, 3);
    assert_int_equal(hadb_replicator_mark(&two.a.replicator, &pos, NULL), 0);
    assert_int_equal(hadb_replicator_capture(&two.a.replicator, 2, 1, true, &capture, NULL),
                     HADB_EINVAL);
    two_close(&two);
}

static void capture__view_shows_exactly_the_last_transaction(void **state)
{
    struct two two;
    two_open(&two, state, 4);
    struct hadb_capture capture = {0};
    assert_int_equal(hadb_replicator_capture(&two.a.replicator, 1, SIZE_MAX, true, &capture, NULL),
                     0);
    assert_int_equal(capture.last_txid, 4);
    assert_non_null(capture.view);
    put(&two.a, 1, "later", "value");
    assert_int_equal(
        hadb_engine_get(&two.a.engine, capture.view, hadb_slice_str("klater"), NULL, NULL, NULL),
        HADB_ABSENT);
    assert_int_equal(
        hadb_engine_get(&two.a.engine, capture.view, hadb_slice_str("kkey3"), NULL, NULL, NULL), 0);
    hadb_replicator_capture_deinit(&two.a.replicator, &capture);
    two_close(&two);
}

/* A commit right after the view was opened, as another thread may do. */
static struct {
    struct peer *peer;
    int (*view_open)(void *self, void **view, hadb_txid *txid, struct hadb_error *err);
    bool armed;
} racing;

static int racing_view_open(void *self, void **view, hadb_txid *txid, struct hadb_error *err)
{
    int r = racing.view_open(self, view, txid, err);
    if (racing.armed) {
        racing.armed = false;
        put(racing.peer, 1, "racing", "value");
    }
    return r;
}

static void capture__stops_at_its_view_when_commits_go_on(void **state)
{
    struct two two;
    two_open(&two, state, 3);
    struct hadb_engine_ops *ops = peer_hook(&two.a);
    racing.peer = &two.a;
    racing.view_open = ops->view_open;
    ops->view_open = racing_view_open;
    racing.armed = true;
    struct hadb_capture capture = {0};
    assert_int_equal(hadb_replicator_capture(&two.a.replicator, 0, SIZE_MAX, true, &capture, NULL),
                     0);
    assert_int_equal(peer_position(&two.a).last_txid, 4);
    assert_int_equal(capture.last_txid, 3);
    assert_non_null(capture.view);
    assert_true(hadb_slice_eq(hadb_buf_slice(&capture.body), hadb_buf_slice(&two.body)));
    hadb_replicator_capture_deinit(&two.a.replicator, &capture);
    /* Nothing was there when the view was opened: the new transaction goes without one. */
    racing.armed = true;
    assert_int_equal(hadb_replicator_capture(&two.a.replicator, 4, SIZE_MAX, true, &capture, NULL),
                     0);
    assert_int_equal(capture.last_txid, 5);
    assert_null(capture.view);
    hadb_replicator_capture_deinit(&two.a.replicator, &capture);
    two_close(&two);
}

static void journal__changes_nothing_when_memory_runs_out(void **state)
{
    struct two two;
    two_open(&two, state, 4);
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        struct hadb_capture capture = {0};
        test_alloc_fail_at(n);
        int r = hadb_replicator_capture(&two.a.replicator, 0, SIZE_MAX, true, &capture, NULL);
        hit = test_alloc_hit();
        test_alloc_reset();
        assert_int_equal(r, hit ? HADB_ENOMEM : 0);
        hadb_replicator_capture_deinit(&two.a.replicator, &capture);
    }
    assert_int_equal(hadb_engine_apply(&two.b.engine, part(&two, 1, 2), NULL, NULL), 0);
    hit = true;
    for (uint64_t n = 1; hit; n++) {
        test_alloc_fail_at(n);
        int r = apply(&two.b, hadb_buf_slice(&two.body), 1, 1, 4);
        hit = test_alloc_hit();
        test_alloc_reset();
        assert_true(r == 0 || (hit && r == HADB_ENOMEM));
        assert_at(&two.b, r == 0 ? 1 : 0, r == 0 ? 4 : 0, r == 0 ? 4 : 2);
        hit = r != 0;
    }
    assert_same(&two.a, &two.b);
    two_close(&two);
}

static struct hadb_trace_event traced[2];
static size_t traced_len;

static void record_trace(void *arg, const struct hadb_trace_event *event)
{
    (void)arg;
    assert_true(traced_len < HADB_LEN(traced));
    traced[traced_len++] = *event;
}

static void journal__traces_hops_three_and_eight(void **state)
{
    struct two two;
    two_open(&two, state, 2);
    two.a.env.trace = record_trace;
    two.b.env.trace = record_trace;
    traced_len = 0;
    ship(&two.a, &two.b);
    two.a.env.trace = NULL;
    two.b.env.trace = NULL;
    assert_int_equal(traced_len, 2);
    assert_int_equal(traced[0].hop, 3);
    assert_string_equal(traced[0].what, "capture");
    assert_int_equal(traced[1].hop, 8);
    assert_string_equal(traced[1].what, "apply");
    assert_string_equal(traced[1].database, "test");
    assert_int_equal(traced[1].slot, 1);
    assert_int_equal(traced[1].txid, 2);
    assert_int_equal(traced[1].bytes, two.body.len);
    two_close(&two);
}

static void factory__names_what_it_has(void **state)
{
    (void)state;
    struct peer peer;
    peer_open(&peer, "memory");
    struct hadb_replicator none = {0};
    struct hadb_executor no_executor = {0};
    struct hadb_error err = {0};
    const struct hadb_replicator_options options = {0};
    assert_int_equal(hadb_replicator_add("pages", &peer.engine, &options, &none, &err),
                     HADB_ENOTSUP);
    assert_non_null(strstr(err.message, "journal"));
    assert_int_equal(hadb_executor_open("sql", &peer.engine, &no_executor, &err), HADB_ENOTSUP);
    hadb_replicator_remove(&none);
    hadb_executor_close(&no_executor);
    peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_ENGINES(apply__brings_the_follower_to_the_leaders_state),
        ON_ENGINES(apply__of_an_equal_tail_moves_only_the_mark),
        ON_ENGINES(apply__adds_what_lies_beyond_an_equal_tail),
        ON_ENGINES(apply__answers_diverged_and_changes_nothing_when_the_tail_differs),
        ON_ENGINES(apply__compares_terms_too),
        ON_ENGINES(apply__compares_a_tail_of_many_megabytes),
        ON_ENGINES(apply__refuses_a_gap_a_fork_and_a_jump_of_the_mark),
        ON_ENGINES(apply__of_a_covered_entry_changes_nothing),
        ON_ENGINES(apply__of_an_empty_body_moves_the_mark_as_a_seal_does),
        ON_ENGINES(apply__refuses_bodies_that_do_not_hold_together),
        ON_ENGINES(mark__follows_own_entries_and_never_passes_the_last_commit),
        cmocka_unit_test(mark__survives_a_restart_with_the_transactions),
        ON_ENGINES(capture__takes_whole_transactions_up_to_the_bound),
        ON_ENGINES(capture__view_shows_exactly_the_last_transaction),
        ON_ENGINES(capture__stops_at_its_view_when_commits_go_on),
        ON_ENGINES(journal__changes_nothing_when_memory_runs_out),
        ON_ENGINES(journal__traces_hops_three_and_eight),
        cmocka_unit_test(factory__names_what_it_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
