/* SPDX-License-Identifier: Apache-2.0 */
/* Engine contract: one writer, readers in other threads, every picture whole. For TSan as well. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "tests/contract/engine/rig.h"

/*
 * Every transaction writes the same number to PAIRS keys, so a picture is whole if and only if all of
 * them are equal. Extra keys come and go, so that leaves split and merge meanwhile.
 */
enum { PAIRS = 8, TXNS = 1500, READERS = 3 };

struct crew {
    struct rig *rig;
    int stop; /* atomic */
    uint64_t pictures[READERS];
};
struct member {
    struct crew *crew;
    size_t number;
};

static void check_picture(struct rig *rig, void *view, hadb_txid txid, bool reverse)
{
    const struct hadb_range range = {.prefix = hadb_slice_str("pair"), .reverse = reverse};
    void *scan = NULL;
    struct hadb_item item;
    HADB_ASSERT(hadb_engine_scan_open(&rig->engine, view, &range, &scan, NULL) == 0);
    uint64_t first = 0, len = 0;
    int r;
    while ((r = hadb_engine_scan_next(&rig->engine, scan, &item, NULL)) == 0) {
        uint64_t number;
        HADB_ASSERT(item.value.len == sizeof(number));
        memcpy(&number, item.value.data, sizeof(number));
        first = len ? first : number;
        HADB_ASSERT(number == first && item.version.txid <= txid);
        len++;
    }
    HADB_ASSERT(r == HADB_END && (len == PAIRS || (len == 0 && txid == 0)));
    hadb_engine_scan_close(&rig->engine, scan);
}

static void read_loop(void *arg)
{
    struct member *member = arg;
    struct rig *rig = member->crew->rig;
    struct hadb_buf buf = {0};
    hadb_txid seen = 0;
    for (unsigned round = 0; !__atomic_load_n(&member->crew->stop, __ATOMIC_ACQUIRE); round++) {
        void *view = NULL;
        hadb_txid txid = 0;
        HADB_ASSERT(hadb_engine_view_open(&rig->engine, &view, &txid, NULL) == 0);
        check_picture(rig, view, txid, round % 2);
        hadb_engine_view_close(&rig->engine, view);
        struct hadb_engine_position position;
        hadb_engine_position(&rig->engine, &position);
        HADB_ASSERT(position.mark.txid >= seen); /* marks only go forward */
        seen = position.mark.txid;
        int r = hadb_engine_get(&rig->engine, NULL, hadb_slice_str("pair-3"), &buf, NULL, NULL);
        HADB_ASSERT(r == 0 || (r == HADB_ABSENT && seen == 0));
        hadb_buf_clear(&buf);
        r = hadb_engine_tail(&rig->engine, seen, 2000, &buf, NULL);
        HADB_ASSERT(r == 0 || r == HADB_END || r == HADB_EINVAL);
        struct hadb_slice rest = hadb_buf_slice(&buf);
        struct hadb_txn txn;
        while (hadb_txn_next(&rest, &txn, NULL) == 0) {
            HADB_ASSERT(txn.txid > seen);
        }
        HADB_ASSERT(rest.len == 0);
        if (round % 16 == 0) {
            struct hadb_engine_stats stats;
            hadb_engine_stats(&rig->engine, &stats);
            HADB_ASSERT(hadb_engine_sync(&rig->engine, NULL) == 0);
        }
        member->crew->pictures[member->number]++;
    }
    hadb_buf_deinit(&buf);
}

static void encode_step(hadb_txid txid, uint64_t number, struct hadb_buf *out)
{
    struct hadb_op ops[PAIRS + 40];
    char names[PAIRS + 40][16];
    size_t len = 0;
    for (; len < PAIRS; len++) {
        snprintf(names[len], sizeof(names[len]), "pair-%zu", len);
        ops[len] = (struct hadb_op){.type = HADB_OP_PUT,
                                    .key = hadb_slice_str(names[len]),
                                    .value = hadb_slice(&number, sizeof(number))};
    }
    for (; len < HADB_LEN(ops); len++) {
        uint64_t extra = (number * 40 + len * 7919) % 3000;
        snprintf(names[len], sizeof(names[len]), "x%" PRIu64, extra);
        ops[len] = (struct hadb_op){.type = (number / 50) % 2 ? HADB_OP_DELETE : HADB_OP_PUT,
                                    .key = hadb_slice_str(names[len])};
    }
    HADB_ASSERT(hadb_txn_encode(1, txid, 0, ops, len, out, NULL) == 0);
}

static void readers__see_whole_transactions_while_one_writes(void **state)
{
    struct rig *rig = *state;
    rig_close(rig);
    rig->options.segment_bytes_max = 64 << 10; /* kv: roll now and then */
    rig->options.sync_every_ms = 20;
    rig_open(rig);
    struct crew crew = {.rig = rig};
    struct member members[READERS];
    struct hadb_thread threads[READERS] = {{0}};
    for (size_t i = 0; i < READERS; i++) {
        members[i] = (struct member){.crew = &crew, .number = i};
        int r = hadb_thread_start(&threads[i], "reader", read_loop, &members[i], NULL);
        assert_int_equal(r, 0);
    }
    struct hadb_buf txns = {0};
    for (uint64_t number = 1; number <= TXNS; number++) {
        struct hadb_engine_position position;
        hadb_engine_position(&rig->engine, &position);
        hadb_buf_clear(&txns);
        for (hadb_txid i = 1; i <= 1 + number % 3; i++) {
            encode_step(position.last_txid + i, number * 10 + i, &txns);
        }
        assert_int_equal(hadb_engine_apply(&rig->engine, hadb_buf_slice(&txns), NULL, NULL), 0);
        if (number % 7 == 0) {
            rig_mark(rig, position.last_txid);
        }
        if (number % 50 == 0) {
            assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0);
        }
    }
    hadb_buf_deinit(&txns);
    __atomic_store_n(&crew.stop, 1, __ATOMIC_RELEASE);
    for (size_t i = 0; i < READERS; i++) {
        hadb_thread_join(&threads[i]);
        assert_true(crew.pictures[i] > 0);
    }
    struct hadb_hash before, after;
    const struct hadb_slice everything = {0};
    assert_int_equal(hadb_engine_digest(&rig->engine, NULL, everything, &before, NULL), 0);
    rig_reopen(rig);
    assert_int_equal(hadb_engine_digest(&rig->engine, NULL, everything, &after, NULL), 0);
    assert_memory_equal(&before, &after, sizeof(before));
}

int suite_threads(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(readers__see_whole_transactions_while_one_writes, rig_setup,
                                        rig_teardown),
    };
    return cmocka_run_group_tests_name("engine threads", tests, NULL, NULL);
}
