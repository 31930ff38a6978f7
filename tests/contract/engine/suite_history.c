/* SPDX-License-Identifier: Apache-2.0 */
/* Engine contract: positions, atomic batches, the algebra of tail, mark and rewind. */
#include <stdio.h>
#include <string.h>

#include "tests/contract/engine/rig.h"

static void position__follows_each_step(void **state)
{
    struct rig *rig = *state;
    struct hadb_engine_position position;
    rig_expect_position(rig, 0, 0);
    rig->term = 5;
    rig_apply(rig, "a=1");
    hadb_engine_position(&rig->engine, &position);
    assert_int_equal(position.last_txid, 1);
    assert_int_equal(position.last_term, 5);
    assert_int_equal(position.mark.term, 0);
    rig->term = 6;
    rig_apply(rig, "b=1");
    struct hadb_pos mark = rig_pos(1);
    mark.term = 7;
    assert_int_equal(hadb_engine_mark(&rig->engine, &mark, NULL), 0);
    for (int round = 0; round < 2; round++) {
        hadb_engine_position(&rig->engine, &position);
        assert_memory_equal(&position.mark, &mark, sizeof(mark));
        assert_int_equal(position.last_txid, 2);
        assert_int_equal(position.last_term, 6);
        rig_reopen(rig);
    }
    assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0);
    for (int round = 0; round < 2; round++) {
        hadb_engine_position(&rig->engine, &position);
        assert_memory_equal(&position.mark, &mark, sizeof(mark));
        assert_int_equal(position.last_txid, 1);
        assert_int_equal(position.last_term, 7); /* no tail: the term of the mark */
        rig_reopen(rig);
    }
}

static void apply__takes_several_transactions_in_one_write(void **state)
{
    struct rig *rig = *state;
    struct hadb_buf txns = {0};
    rig_encode(rig, 1, "a=1 b=1", &txns);
    rig_encode(rig, 2, "", &txns); /* a transaction may be empty */
    rig_encode(rig, 3, "-a c=3", &txns);
    assert_int_equal(hadb_engine_apply(&rig->engine, hadb_buf_slice(&txns), NULL, NULL), 0);
    rig_expect(rig, NULL, "b=1 c=3");
    rig_expect_position(rig, 0, 3);
    struct hadb_buf tail = {0};
    assert_int_equal(hadb_engine_tail(&rig->engine, 0, SIZE_MAX, &tail, NULL), 0);
    assert_true(hadb_slice_eq(hadb_buf_slice(&tail), hadb_buf_slice(&txns)));
    hadb_buf_deinit(&tail);
    hadb_buf_deinit(&txns);
}

static void apply__of_nothing_changes_nothing(void **state)
{
    struct rig *rig = *state;
    rig_apply(rig, "a=1");
    assert_int_equal(hadb_engine_apply(&rig->engine, hadb_slice(NULL, 0), NULL, NULL), 0);
    rig_expect_position(rig, 0, 1);
    struct hadb_pos mark = rig_pos(1);
    assert_int_equal(hadb_engine_apply(&rig->engine, hadb_slice(NULL, 0), &mark, NULL), 0);
    rig_expect_position(rig, 1, 1);
    rig_reopen(rig);
    rig_expect_position(rig, 1, 1);
}

/* Refuses @txns with @code, and nothing has changed. */
static void expect_refused(struct rig *rig, struct hadb_slice txns, const struct hadb_pos *mark,
                           int code)
{
    struct hadb_error err = {0};
    int r = hadb_engine_apply(&rig->engine, txns, mark, &err);
    assert_int_equal(r, code);
    assert_int_equal(err.code, code);
    assert_true(strlen(err.message) > 0);
    rig_expect(rig, NULL, "a=1 b=2");
    rig_expect_position(rig, 1, 2);
}

static void apply__refuses_transactions_out_of_order_as_a_whole(void **state)
{
    struct rig *rig = *state;
    rig_apply(rig, "a=1");
    rig_mark(rig, 1);
    rig_apply(rig, "b=2");
    static const hadb_txid wrong[][2] = {{1, 2}, {2, 3}, {4, 5}, {3, 5}, {3, 3}, {3, 2}};
    for (size_t i = 0; i < HADB_LEN(wrong); i++) {
        struct hadb_buf txns = {0};
        rig_encode(rig, wrong[i][0], "a=9", &txns);
        rig_encode(rig, wrong[i][1], "b=9 c=9", &txns);
        expect_refused(rig, hadb_buf_slice(&txns), NULL, HADB_EINVAL);
        hadb_buf_deinit(&txns);
    }
    rig_reopen(rig);
    rig_expect(rig, NULL, "a=1 b=2");
    rig_apply(rig, "c=3");
    rig_expect(rig, NULL, "a=1 b=2 c=3");
}

static void apply__refuses_bytes_that_do_not_decode(void **state)
{
    struct rig *rig = *state;
    rig_apply(rig, "a=1");
    rig_mark(rig, 1);
    rig_apply(rig, "b=2");
    struct hadb_buf txns = {0};
    rig_encode(rig, 3, "a=9 c=9", &txns);
    rig_encode(rig, 4, "a=8", &txns);
    size_t whole = txns.len - (HADB_TXN_HEADER_BYTES + HADB_TXN_OP_BYTES + 2);
    for (size_t len = 1; len < txns.len; len++) {
        if (len != whole) {
            expect_refused(rig, hadb_slice(txns.data, len), NULL, HADB_ECORRUPT);
        }
    }
    hadb_buf_deinit(&txns);
}

static void apply__with_mark_moves_both_or_neither(void **state)
{
    struct rig *rig = *state;
    rig_apply(rig, "a=1");
    rig_mark(rig, 1);
    rig_apply(rig, "b=2");
    struct hadb_buf txns = {0};
    rig_encode(rig, 3, "c=3", &txns);
    rig_encode(rig, 4, "d=4", &txns);
    struct hadb_pos ahead = rig_pos(5), back = rig_pos(0);
    expect_refused(rig, hadb_buf_slice(&txns), &ahead, HADB_EINVAL);
    expect_refused(rig, hadb_buf_slice(&txns), &back, HADB_EINVAL);
    struct hadb_pos mark = rig_pos(3);
    assert_int_equal(hadb_engine_apply(&rig->engine, hadb_buf_slice(&txns), &mark, NULL), 0);
    rig_expect_position(rig, 3, 4);
    rig_reopen(rig);
    rig_expect_position(rig, 3, 4);
    assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0);
    rig_expect(rig, NULL, "a=1 b=2 c=3");
    rig_expect_position(rig, 3, 3);
    hadb_buf_deinit(&txns);
}

static void mark__moves_forward_only_and_not_beyond_the_last_transaction(void **state)
{
    struct rig *rig = *state;
    rig_apply(rig, "a=1");
    rig_apply(rig, "b=2");
    rig_mark(rig, 1);
    struct hadb_pos wrong[5];
    for (size_t i = 0; i < HADB_LEN(wrong); i++) {
        wrong[i] = rig_pos(2);
        wrong[i].slot = 5;
    }
    struct hadb_pos now = rig_pos(1);
    now.slot = 4;
    now.term = 2;
    assert_int_equal(hadb_engine_mark(&rig->engine, &now, NULL), 0); /* a SEAL: no transaction */
    wrong[0].txid = 3;
    wrong[1].txid = 0;
    wrong[2].slot = 3;
    wrong[3].term = 1;
    wrong[4].txid = UINT64_MAX;
    for (size_t i = 0; i < HADB_LEN(wrong); i++) {
        wrong[i].term = i == 3 ? 1 : 2;
        struct hadb_error err = {0};
        assert_int_equal(hadb_engine_mark(&rig->engine, &wrong[i], &err), HADB_EINVAL);
        assert_true(strlen(err.message) > 0);
        struct hadb_engine_position position;
        hadb_engine_position(&rig->engine, &position);
        assert_memory_equal(&position.mark, &now, sizeof(now));
    }
    assert_int_equal(hadb_engine_mark(&rig->engine, &now, NULL), 0); /* where it is: fine */
}

/* The transactions that @after and @bytes_max give, as their numbers. */
static void expect_tail(struct rig *rig, hadb_txid after, size_t bytes_max, hadb_txid first,
                        hadb_txid last)
{
    struct hadb_buf out = {0};
    assert_int_equal(hadb_buf_append_str(&out, "kept"), 0);
    int r = hadb_engine_tail(&rig->engine, after, bytes_max, &out, NULL);
    assert_int_equal(r, first <= last ? 0 : HADB_END);
    assert_memory_equal(out.data, "kept", 4);
    struct hadb_slice rest = hadb_slice(out.data + 4, out.len - 4);
    struct hadb_txn txn;
    while (hadb_txn_next(&rest, &txn, NULL) == 0) {
        assert_int_equal(txn.txid, first);
        assert_int_equal(txn.time_unix_ms, (int64_t)first * 1000);
        first++;
    }
    assert_int_equal(rest.len, 0);
    assert_int_equal(first, last + 1);
    hadb_buf_deinit(&out);
}

static void tail__gives_what_lies_above_the_mark(void **state)
{
    struct rig *rig = *state;
    const size_t one = HADB_TXN_HEADER_BYTES + HADB_TXN_OP_BYTES + 2; /* "k=v" */
    expect_tail(rig, 0, SIZE_MAX, 1, 0);
    for (unsigned i = 0; i < 6; i++) {
        rig_apply(rig, "k=v");
    }
    rig_mark(rig, 2);
    for (int round = 0; round < 2; round++) {
        expect_tail(rig, 2, SIZE_MAX, 3, 6);
        expect_tail(rig, 4, SIZE_MAX, 5, 6);
        expect_tail(rig, 6, SIZE_MAX, 7, 6);
        expect_tail(rig, 99, SIZE_MAX, 100, 99);
        expect_tail(rig, 2, 0, 3, 3); /* at least one */
        expect_tail(rig, 2, one, 3, 3);
        expect_tail(rig, 2, 2 * one - 1, 3, 3);
        expect_tail(rig, 2, 2 * one, 3, 4);
        struct hadb_buf out = {0};
        assert_int_equal(hadb_engine_tail(&rig->engine, 1, SIZE_MAX, &out, NULL), HADB_EINVAL);
        assert_int_equal(out.len, 0);
        rig_reopen(rig);
    }
    rig_mark(rig, 6);
    expect_tail(rig, 6, SIZE_MAX, 7, 6);
}

static void rewind__undoes_the_tail_and_nothing_else(void **state)
{
    struct rig *rig = *state;
    rig_apply(rig, "a=1 b=1 c=1");
    rig_apply(rig, "b=2");
    rig_mark(rig, 2);
    rig_apply(rig, "a=3 d=3 -b");
    rig_apply(rig, "a=4 -d -none e=4");
    rig_apply(rig, "-a d=5 b=5");
    rig_expect(rig, NULL, "b=5 c=1 d=5 e=4");
    assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0);
    for (int round = 0; round < 3; round++) {
        rig_expect(rig, NULL, "a=1 b=2 c=1");
        rig_expect_position(rig, 2, 2);
        expect_tail(rig, 2, SIZE_MAX, 3, 2);
        struct hadb_version version;
        int r = hadb_engine_get(&rig->engine, NULL, hadb_slice_str("b"), NULL, &version, NULL);
        assert_int_equal(r, 0);
        assert_int_equal(version.txid, 2);
        assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0); /* again: nothing to do */
        rig_reopen(rig);
    }
}

static void rewind__is_followed_by_a_different_history(void **state)
{
    struct rig *rig = *state;
    rig_apply(rig, "a=1");
    rig_mark(rig, 1);
    for (unsigned round = 0; round < 4; round++) {
        rig_apply(rig, "a=old b=old");
        rig_apply(rig, "c=old");
        assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0);
    }
    rig->term = 2;
    rig_apply(rig, "a=new d=new");
    rig_mark(rig, 2);
    rig_apply(rig, "e=tail");
    for (int round = 0; round < 2; round++) {
        rig_expect(rig, NULL, "a=new d=new e=tail");
        rig_expect_position(rig, 2, 3);
        expect_tail(rig, 2, SIZE_MAX, 3, 3);
        rig_reopen(rig);
    }
    assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0);
    rig_reopen(rig);
    rig_expect(rig, NULL, "a=new d=new");
}

static void rewind__undoes_big_transactions(void **state)
{
    struct rig *rig = *state;
    enum { OPS = 5000 };
    rig_apply(rig, "k00001=old k04999=old z=z");
    rig_mark(rig, 1);
    static char names[OPS][8];
    static struct hadb_op ops[OPS];
    for (unsigned i = 0; i < OPS; i++) {
        snprintf(names[i], sizeof(names[i]), "k%05u", i);
        ops[i] = (struct hadb_op){.type = i % 7 ? HADB_OP_PUT : HADB_OP_DELETE,
                                  .key = hadb_slice_str(names[i])};
    }
    struct hadb_buf txn = {0};
    assert_int_equal(hadb_txn_encode(1, 2, 0, ops, OPS, &txn, NULL), 0);
    void *view = NULL;
    assert_int_equal(hadb_engine_view_open(&rig->engine, &view, NULL, NULL), 0);
    assert_int_equal(hadb_engine_apply(&rig->engine, hadb_buf_slice(&txn), NULL, NULL), 0);
    struct hadb_engine_stats stats;
    hadb_engine_stats(&rig->engine, &stats);
    assert_int_equal(stats.keys, OPS - (OPS + 6) / 7 + 1);
    rig_expect(rig, view, "k00001=old k04999=old z=z");
    hadb_engine_view_close(&rig->engine, view);
    rig_reopen(rig);
    hadb_engine_stats(&rig->engine, &stats);
    assert_int_equal(stats.keys, OPS - (OPS + 6) / 7 + 1);
    assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0);
    rig_expect(rig, NULL, "k00001=old k04999=old z=z");
    hadb_buf_deinit(&txn);
}

static void sync__may_be_called_at_any_time(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(hadb_engine_sync(&rig->engine, NULL), 0);
    rig_apply(rig, "a=1");
    assert_int_equal(hadb_engine_sync(&rig->engine, NULL), 0);
    assert_int_equal(hadb_engine_sync(&rig->engine, NULL), 0);
    rig_expect(rig, NULL, "a=1");
}

int suite_history(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        T(position__follows_each_step),
        T(apply__takes_several_transactions_in_one_write),
        T(apply__of_nothing_changes_nothing),
        T(apply__refuses_transactions_out_of_order_as_a_whole),
        T(apply__refuses_bytes_that_do_not_decode),
        T(apply__with_mark_moves_both_or_neither),
        T(mark__moves_forward_only_and_not_beyond_the_last_transaction),
        T(tail__gives_what_lies_above_the_mark),
        T(rewind__undoes_the_tail_and_nothing_else),
        T(rewind__is_followed_by_a_different_history),
        T(rewind__undoes_big_transactions),
        T(sync__may_be_called_at_any_time),
    };
#undef T
    return cmocka_run_group_tests_name("engine history", tests, NULL, NULL);
}
