/* SPDX-License-Identifier: Apache-2.0 */
/* Engine contract: snapshot out (view and scan) and in (ingest and mark). */
#include <stdio.h>
#include <string.h>

#include "tests/contract/engine/rig.h"

static struct hadb_item item_of(const char *key, const char *value, uint64_t term, hadb_txid txid)
{
    return (struct hadb_item){.key = hadb_slice_str(key),
                              .value = hadb_slice_str(value),
                              .version = {.term = term, .txid = txid}};
}

static void ingest_two(struct rig *rig)
{
    const struct hadb_item items[] = {item_of("a", "1", 3, 40), item_of("b", "", 4, 41)};
    assert_int_equal(hadb_engine_ingest(&rig->engine, items, 2, NULL), 0);
}

static void ingest__then_mark_is_a_whole_database(void **state)
{
    struct rig *rig = *state;
    ingest_two(rig);
    const struct hadb_item more = item_of("c", "3", 3, 17);
    assert_int_equal(hadb_engine_ingest(&rig->engine, &more, 1, NULL), 0);
    rig_expect(rig, NULL, "a=1 b= c=3"); /* can be checked before the mark */
    rig_expect_position(rig, 0, 0);
    rig_mark(rig, 57);
    for (int round = 0; round < 2; round++) {
        rig_expect_position(rig, 57, 57);
        rig_expect(rig, NULL, "a=1 b= c=3");
        struct hadb_version version;
        int r = hadb_engine_get(&rig->engine, NULL, hadb_slice_str("b"), NULL, &version, NULL);
        assert_int_equal(r, 0);
        assert_int_equal(version.term, 4);
        assert_int_equal(version.txid, 41);
        rig_reopen(rig);
    }
    rig_apply(rig, "d=4"); /* transaction 58 */
    rig_expect_position(rig, 57, 58);
    assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0);
    rig_reopen(rig);
    rig_expect(rig, NULL, "a=1 b= c=3");
    rig_expect_position(rig, 57, 57);
}

static void ingest__without_its_mark_is_gone_after_reopen(void **state)
{
    struct rig *rig = *state;
    ingest_two(rig);
    if (rig->durable) {
        rig_reopen(rig);
    } else {
        assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0);
    }
    for (int round = 0; round < 2; round++) {
        rig_expect(rig, NULL, "");
        rig_expect_position(rig, 0, 0);
        rig_reopen(rig);
    }
    const struct hadb_item item = item_of("z", "26", 1, 1);
    assert_int_equal(hadb_engine_ingest(&rig->engine, &item, 1, NULL), 0);
    rig_mark(rig, 9);
    rig_reopen(rig);
    rig_expect(rig, NULL, "z=26");
    rig_expect_position(rig, 9, 9);
}

static void ingest__is_dropped_by_rewind(void **state)
{
    struct rig *rig = *state;
    ingest_two(rig);
    assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0);
    rig_expect(rig, NULL, "");
    rig_apply(rig, "x=1");
    rig_reopen(rig);
    rig_expect(rig, NULL, "x=1");
    struct hadb_engine_stats stats;
    hadb_engine_stats(&rig->engine, &stats);
    assert_int_equal(stats.live_bytes, 2);
}

static void ingest__of_no_items_makes_an_empty_database_at_a_position(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(hadb_engine_ingest(&rig->engine, NULL, 0, NULL), 0);
    rig_mark(rig, 12);
    rig_reopen(rig);
    rig_expect_position(rig, 12, 12);
    rig_expect(rig, NULL, "");
    rig_apply(rig, "a=13");
    rig_expect_position(rig, 12, 13);
}

static void ingest__needs_an_empty_engine(void **state)
{
    struct rig *rig = *state;
    const struct hadb_item item = item_of("k", "v", 1, 1);
    struct hadb_error err = {0};
    rig_apply(rig, "a=1");
    assert_int_equal(hadb_engine_ingest(&rig->engine, &item, 1, &err), HADB_EINVAL);
    assert_true(strlen(err.message) > 0);
    rig_apply(rig, "-a");
    rig_mark(rig, 2);
    assert_int_equal(hadb_engine_ingest(&rig->engine, &item, 1, NULL), HADB_EINVAL);
    rig_reopen(rig);
    rig_expect(rig, NULL, "");
    rig_expect_position(rig, 2, 2);
}

static void apply__is_refused_until_the_ingest_is_finished(void **state)
{
    struct rig *rig = *state;
    ingest_two(rig);
    struct hadb_buf txn = {0};
    rig_encode(rig, 1, "a=9", &txn);
    assert_int_equal(hadb_engine_apply(&rig->engine, hadb_buf_slice(&txn), NULL, NULL),
                     HADB_EINVAL);
    struct hadb_pos mark = rig_pos(1);
    assert_int_equal(hadb_engine_apply(&rig->engine, hadb_buf_slice(&txn), &mark, NULL),
                     HADB_EINVAL);
    hadb_buf_deinit(&txn);
    rig_expect(rig, NULL, "a=1 b=");
    rig_mark(rig, 50);
    rig_expect(rig, NULL, "a=1 b=");
}

static void ingest__refuses_bad_items_as_a_whole(void **state)
{
    struct rig *rig = *state;
    static uint8_t big[HADB_ENGINE_KEY_BYTES_MAX + 1];
    struct hadb_item items[] = {item_of("a", "1", 1, 1), item_of("", "2", 1, 1)};
    assert_int_equal(hadb_engine_ingest(&rig->engine, items, 2, NULL), HADB_EINVAL);
    items[1].key = hadb_slice(big, sizeof(big));
    assert_int_equal(hadb_engine_ingest(&rig->engine, items, 2, NULL), HADB_ETOOBIG);
    rig_expect(rig, NULL, "");
    rig_apply(rig, "x=1"); /* no ingest has begun */
    rig_expect(rig, NULL, "x=1");
}

static void snapshot__of_a_view_goes_into_another_engine_unchanged(void **state)
{
    struct rig *rig = *state;
    for (unsigned i = 0; i < 40; i++) {
        char words[64];
        snprintf(words, sizeof(words), "k%02u=%u k%02u=x -k%02u", i % 23, i, i % 7, i % 11);
        rig->term = 1 + i / 10;
        rig_apply(rig, words);
    }
    void *view = NULL, *scan = NULL;
    hadb_txid txid = 0;
    assert_int_equal(hadb_engine_view_open(&rig->engine, &view, &txid, NULL), 0);
    rig_apply(rig, "later=1 -k01");
    for (int other = 0; other < 2; other++) {
        struct rig target = {.name = other ? "memory" : "kv", .durable = !other};
        test_tmp_make(target.path);
        rig_open(&target);
        const struct hadb_range all = {0};
        struct hadb_item item;
        int r = hadb_engine_scan_open(&rig->engine, view, &all, &scan, NULL);
        while (r == 0 && (r = hadb_engine_scan_next(&rig->engine, scan, &item, NULL)) == 0) {
            r = hadb_engine_ingest(&target.engine, &item, 1, NULL);
        }
        assert_int_equal(r, HADB_END);
        hadb_engine_scan_close(&rig->engine, scan);
        rig_mark(&target, txid);
        rig_reopen(&target);
        struct hadb_hash want, got;
        r = hadb_engine_digest(&rig->engine, view, hadb_slice(NULL, 0), &want, NULL);
        assert_int_equal(r, 0);
        r = hadb_engine_digest(&target.engine, NULL, hadb_slice(NULL, 0), &got, NULL);
        assert_int_equal(r, 0);
        assert_memory_equal(&want, &got, sizeof(want));
        rig_close(&target);
        test_tmp_remove(target.path);
    }
    hadb_engine_view_close(&rig->engine, view);
}

int suite_ingest(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        T(ingest__then_mark_is_a_whole_database),
        T(ingest__without_its_mark_is_gone_after_reopen),
        T(ingest__is_dropped_by_rewind),
        T(ingest__of_no_items_makes_an_empty_database_at_a_position),
        T(ingest__needs_an_empty_engine),
        T(apply__is_refused_until_the_ingest_is_finished),
        T(ingest__refuses_bad_items_as_a_whole),
        T(snapshot__of_a_view_goes_into_another_engine_unchanged),
    };
#undef T
    return cmocka_run_group_tests_name("engine ingest", tests, NULL, NULL);
}
