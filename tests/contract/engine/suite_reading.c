/* SPDX-License-Identifier: Apache-2.0 */
/* Engine contract: what get, views and scans answer. */
#include <string.h>

#include "base/hash.h"
#include "tests/contract/engine/rig.h"

static void get__answers_value_and_version_of_the_last_write(void **state)
{
    struct rig *rig = *state;
    rig->term = 3;
    rig_apply(rig, "a=1 b=2");
    rig->term = 4;
    rig_apply(rig, "b=three c=");
    for (int round = 0; round < 2; round++) {
        struct hadb_buf value = {0};
        struct hadb_version version = {0};
        int r = hadb_engine_get(&rig->engine, NULL, hadb_slice_str("a"), &value, &version, NULL);
        assert_int_equal(r, 0);
        assert_string_equal(hadb_buf_cstr(&value), "1");
        assert_int_equal(version.term, 3);
        assert_int_equal(version.txid, 1);
        r = hadb_engine_get(&rig->engine, NULL, hadb_slice_str("b"), &value, &version, NULL);
        assert_int_equal(r, 0);
        assert_string_equal(hadb_buf_cstr(&value), "three"); /* replaced, not appended */
        assert_int_equal(version.term, 4);
        assert_int_equal(version.txid, 2);
        r = hadb_engine_get(&rig->engine, NULL, hadb_slice_str("c"), &value, NULL, NULL);
        assert_int_equal(r, 0);
        assert_int_equal(value.len, 0);
        assert_int_equal(hadb_engine_get(&rig->engine, NULL, hadb_slice_str("c"), NULL, NULL, NULL),
                         0);
        hadb_buf_deinit(&value);
        rig_reopen(rig);
    }
}

static void get__is_absent_for_what_was_never_written_or_was_deleted(void **state)
{
    struct rig *rig = *state;
    static const uint8_t big[HADB_ENGINE_KEY_BYTES_MAX + 1];
    rig_apply(rig, "a=1 b=2");
    rig_apply(rig, "-a -never");
    struct hadb_buf value = {0};
    const struct hadb_slice absent[] = {hadb_slice_str("a"),  hadb_slice_str("aa"),
                                        hadb_slice_str("bb"), hadb_slice_str("never"),
                                        hadb_slice(NULL, 0),  hadb_slice(big, sizeof(big))};
    for (size_t i = 0; i < HADB_LEN(absent); i++) {
        int r = hadb_engine_get(&rig->engine, NULL, absent[i], &value, NULL, NULL);
        assert_int_equal(r, HADB_ABSENT);
    }
    hadb_buf_deinit(&value);
    rig_reopen(rig);
    rig_expect(rig, NULL, "b=2");
}

static void apply__lets_the_last_operation_on_a_key_win_within_a_transaction(void **state)
{
    struct rig *rig = *state;
    rig_apply(rig, "a=1 -a b=1 b=2 -c c=3 d=1 -d d=4");
    rig_expect(rig, NULL, "b=2 c=3 d=4");
    rig_reopen(rig);
    rig_expect(rig, NULL, "b=2 c=3 d=4");
}

static void scan__answers_ranges_in_both_directions(void **state)
{
    struct rig *rig = *state;
    rig_apply(rig, "b=2 a=1 ab=3 abc=4 ac=5 c=6");
    static const struct {
        const char *start, *end, *prefix, *forward, *backward;
    } rows[] = {
        {"", "", "", "a=1 ab=3 abc=4 ac=5 b=2 c=6", "c=6 b=2 ac=5 abc=4 ab=3 a=1"},
        {"", "", "ab", "ab=3 abc=4", "abc=4 ab=3"},
        {"", "", "a", "a=1 ab=3 abc=4 ac=5", "ac=5 abc=4 ab=3 a=1"},
        {"", "", "abcd", "", ""},
        {"", "", "x", "", ""},
        {"ab", "", "", "ab=3 abc=4 ac=5 b=2 c=6", "c=6 b=2 ac=5 abc=4 ab=3"},
        {"aba", "", "", "abc=4 ac=5 b=2 c=6", "c=6 b=2 ac=5 abc=4"},
        {"", "b", "", "a=1 ab=3 abc=4 ac=5", "ac=5 abc=4 ab=3 a=1"},
        {"", "a", "", "", ""},
        {"ab", "b", "", "ab=3 abc=4 ac=5", "ac=5 abc=4 ab=3"},
        {"b", "ab", "", "", ""},
        {"b", "b", "", "", ""},
        {"abc", "b", "a", "abc=4 ac=5", "ac=5 abc=4"},
        {"a", "abc", "ab", "ab=3", "ab=3"},
        {"b", "", "a", "", ""},
        {"", "a", "b", "", ""},
        {"c", "", "", "c=6", "c=6"},
        {"d", "", "", "", ""},
    };
    void *view = NULL;
    assert_int_equal(hadb_engine_view_open(&rig->engine, &view, NULL, NULL), 0);
    for (size_t i = 0; i < HADB_LEN(rows); i++) {
        struct hadb_range range = {.start = hadb_slice_str(rows[i].start),
                                   .end = hadb_slice_str(rows[i].end),
                                   .prefix = hadb_slice_str(rows[i].prefix)};
        rig_expect_range(rig, view, &range, rows[i].forward);
        range.reverse = true;
        rig_expect_range(rig, view, &range, rows[i].backward);
    }
    const struct hadb_range keys = {.keys_only = true, .prefix = hadb_slice_str("ab")};
    rig_expect_range(rig, view, &keys, "ab= abc=");
    hadb_engine_view_close(&rig->engine, view);
}

static void scan__copies_its_bounds(void **state)
{
    struct rig *rig = *state;
    rig_apply(rig, "a=1 b=2 c=3");
    char start[] = "b", end[] = "c";
    const struct hadb_range range = {.start = hadb_slice_str(start), .end = hadb_slice_str(end)};
    void *view = NULL, *scan = NULL;
    assert_int_equal(hadb_engine_view_open(&rig->engine, &view, NULL, NULL), 0);
    assert_int_equal(hadb_engine_scan_open(&rig->engine, view, &range, &scan, NULL), 0);
    start[0] = end[0] = 'z';
    struct hadb_item item;
    assert_int_equal(hadb_engine_scan_next(&rig->engine, scan, &item, NULL), 0);
    assert_memory_equal(item.key.data, "b", 1);
    assert_int_equal(item.version.txid, 1);
    assert_int_equal(hadb_engine_scan_next(&rig->engine, scan, &item, NULL), HADB_END);
    hadb_engine_scan_close(&rig->engine, scan);
    hadb_engine_view_close(&rig->engine, view);
}

static void scan__finds_all_keys_below_a_prefix_of_0xff(void **state)
{
    struct rig *rig = *state;
    rig_apply(rig, "a=1 \xfe=2 \xff=3 \xff\xfe=4 \xff\xff=5 \xff\xff\xff=6 \xff\xff\x01=7");
    struct hadb_range range = {.prefix = hadb_slice_str("\xff\xff")};
    rig_expect_range(rig, NULL, &range, "\xff\xff=5 \xff\xff\x01=7 \xff\xff\xff=6");
    range.reverse = true;
    rig_expect_range(rig, NULL, &range, "\xff\xff\xff=6 \xff\xff\x01=7 \xff\xff=5");
    range = (struct hadb_range){.prefix = hadb_slice_str("\xfe")};
    rig_expect_range(rig, NULL, &range, "\xfe=2");
}

static void scan__of_an_empty_engine_is_empty(void **state)
{
    struct rig *rig = *state;
    rig_expect(rig, NULL, "");
    rig_apply(rig, "a=1");
    rig_apply(rig, "-a");
    rig_expect(rig, NULL, "");
    const struct hadb_range backward = {.reverse = true};
    rig_expect_range(rig, NULL, &backward, "");
}

static void view__stays_as_it_was_whatever_is_written(void **state)
{
    struct rig *rig = *state;
    rig_apply(rig, "a=1 b=2");
    void *first = NULL, *second = NULL;
    hadb_txid txid = 0;
    assert_int_equal(hadb_engine_view_open(&rig->engine, &first, &txid, NULL), 0);
    assert_int_equal(txid, 1);
    rig_mark(rig, 1);
    rig_apply(rig, "a=3 c=4 -b");
    assert_int_equal(hadb_engine_view_open(&rig->engine, &second, &txid, NULL), 0);
    assert_int_equal(txid, 2);
    assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0);
    rig_apply(rig, "d=5");
    rig_mark(rig, 2);
    rig_expect(rig, first, "a=1 b=2");
    rig_expect(rig, second, "a=3 c=4");
    rig_expect(rig, NULL, "a=1 b=2 d=5");
    struct hadb_version version;
    int r = hadb_engine_get(&rig->engine, second, hadb_slice_str("a"), NULL, &version, NULL);
    assert_int_equal(r, 0);
    assert_int_equal(version.txid, 2);
    r = hadb_engine_get(&rig->engine, second, hadb_slice_str("b"), NULL, NULL, NULL);
    assert_int_equal(r, HADB_ABSENT);
    hadb_engine_view_close(&rig->engine, first);
    rig_expect(rig, second, "a=3 c=4");
    hadb_engine_view_close(&rig->engine, second);
}

static void append_le(struct hadb_buf *buf, uint64_t number, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)(number >> (8 * i));
        assert_int_equal(hadb_buf_append(buf, &byte, 1), 0);
    }
}

static void append_item(struct hadb_buf *buf, const char *key, const char *value, uint64_t term,
                        hadb_txid txid)
{
    append_le(buf, strlen(key), 4);
    assert_int_equal(hadb_buf_append_str(buf, key), 0);
    append_le(buf, strlen(value), 4);
    assert_int_equal(hadb_buf_append_str(buf, value), 0);
    append_le(buf, term, 8);
    append_le(buf, txid, 8);
}

static void digest__is_the_sha256_of_the_canonical_export(void **state)
{
    struct rig *rig = *state;
    rig_apply(rig, "b=two a=1 pb=x");
    rig->term = 9;
    rig_apply(rig, "pa=");
    struct hadb_buf export = {0};
    append_item(&export, "a", "1", 1, 1);
    append_item(&export, "b", "two", 1, 1);
    append_item(&export, "pa", "", 9, 2);
    append_item(&export, "pb", "x", 1, 1);
    struct hadb_hash want, got;
    hadb_sha256(export.data, export.len, &want);
    int r = hadb_engine_digest(&rig->engine, NULL, hadb_slice(NULL, 0), &got, NULL);
    assert_int_equal(r, 0);
    assert_memory_equal(&got, &want, sizeof(got));

    hadb_buf_clear(&export);
    append_item(&export, "pa", "", 9, 2);
    append_item(&export, "pb", "x", 1, 1);
    hadb_sha256(export.data, export.len, &want);
    void *view = NULL;
    assert_int_equal(hadb_engine_view_open(&rig->engine, &view, NULL, NULL), 0);
    rig_apply(rig, "pa=later");
    r = hadb_engine_digest(&rig->engine, view, hadb_slice_str("p"), &got, NULL);
    assert_int_equal(r, 0);
    assert_memory_equal(&got, &want, sizeof(got));
    r = hadb_engine_digest(&rig->engine, NULL, hadb_slice_str("p"), &got, NULL);
    assert_int_equal(r, 0);
    assert_memory_not_equal(&got, &want, sizeof(got));
    hadb_engine_view_close(&rig->engine, view);
    hadb_buf_deinit(&export);
}

static void stats__count_keys_and_live_bytes(void **state)
{
    struct rig *rig = *state;
    struct hadb_engine_stats stats;
    rig_apply(rig, "aa=1234 bb=1");
    rig_apply(rig, "bb=22 cc=3");
    rig_mark(rig, 2);
    rig_apply(rig, "-aa bb=333");
    hadb_engine_stats(&rig->engine, &stats);
    assert_int_equal(stats.keys, 2);
    assert_int_equal(stats.live_bytes, 5 + 3);
    assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0);
    for (int round = 0; round < 2; round++) {
        hadb_engine_stats(&rig->engine, &stats);
        assert_int_equal(stats.keys, 3);
        assert_int_equal(stats.live_bytes, 6 + 4 + 3);
        assert_int_equal(stats.cut_bytes, 0);
        assert_string_equal(stats.recovery, "");
        assert_true(rig->durable == (stats.disk_bytes > 0));
        assert_true(rig->durable == (stats.segments == 1));
        rig_reopen(rig);
    }
}

int suite_reading(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        T(get__answers_value_and_version_of_the_last_write),
        T(get__is_absent_for_what_was_never_written_or_was_deleted),
        T(apply__lets_the_last_operation_on_a_key_win_within_a_transaction),
        T(scan__answers_ranges_in_both_directions),
        T(scan__copies_its_bounds),
        T(scan__finds_all_keys_below_a_prefix_of_0xff),
        T(scan__of_an_empty_engine_is_empty),
        T(view__stays_as_it_was_whatever_is_written),
        T(digest__is_the_sha256_of_the_canonical_export),
        T(stats__count_keys_and_live_bytes),
    };
#undef T
    return cmocka_run_group_tests_name("engine reading", tests, NULL, NULL);
}
