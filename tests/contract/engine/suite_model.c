/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engine contract: long random histories against a plain model, and two engines against each other.
 *
 * The model is an array of all possible keys in order. It remembers its state at the mark and the encoded
 * tail; a rewind copies the former back. Views remember a copy of the whole array.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/contract/engine/rig.h"

enum { KEYS = 400, TAIL_MAX = 64, VIEWS = 3, STEPS = 25000 };

struct entry {
    uint32_t seed; /* of the value; 0 = absent */
    uint32_t len;
    uint64_t term;
    hadb_txid txid;
};

struct picture {
    struct entry entries[KEYS];
};

struct model {
    struct picture now, at_mark;
    hadb_txid mark, last;
    uint64_t slot;
    struct {
        struct picture after;
        struct hadb_buf encoded;
    } tail[TAIL_MAX];
    size_t tail_len;
    struct {
        void *handle;
        struct picture picture;
        hadb_txid txid;
    } views[VIEWS];
};

static struct model model;

/* Keys of 3 to 42 bytes whose order is that of their numbers. */
static struct hadb_slice key_of(unsigned number, char buf[64])
{
    size_t len = 3 + (number * 7) % 40;
    memset(buf, 'a' + (int)(number % 26), len);
    buf[0] = (char)(number >> 8);
    buf[1] = (char)(number & 0xff);
    return hadb_slice(buf, len);
}

static struct hadb_slice value_of(const struct entry *entry)
{
    static uint8_t bytes[20000];
    HADB_ASSERT(entry->len <= sizeof(bytes));
    uint32_t x = entry->seed;
    for (size_t i = 0; i < entry->len; i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(x >> 24);
    }
    return hadb_slice(bytes, entry->len);
}

static void assert_item(unsigned number, const struct entry *want, const struct hadb_item *item,
                        bool keys_only)
{
    char buf[64];
    assert_true(hadb_slice_eq(item->key, key_of(number, buf)));
    assert_int_equal(item->version.term, want->term);
    assert_int_equal(item->version.txid, want->txid);
    assert_true(hadb_slice_eq(item->value, keys_only ? hadb_slice(NULL, 0) : value_of(want)));
}

/* Scans numbers lo..hi-1 of @view in one direction. */
static void check_range(struct rig *rig, void *view, const struct picture *picture, unsigned lo,
                        unsigned hi, bool reverse, bool keys_only)
{
    char start[64], end[64];
    struct hadb_range range = {.reverse = reverse, .keys_only = keys_only};
    range.start = lo > 0 ? key_of(lo, start) : hadb_slice(NULL, 0);
    range.end = hi < KEYS ? key_of(hi, end) : hadb_slice(NULL, 0);
    void *scan = NULL;
    assert_int_equal(hadb_engine_scan_open(&rig->engine, view, &range, &scan, NULL), 0);
    for (unsigned i = lo; i < hi; i++) {
        unsigned number = reverse ? hi - 1 - (i - lo) : i;
        if (picture->entries[number].seed) {
            struct hadb_item item;
            assert_int_equal(hadb_engine_scan_next(&rig->engine, scan, &item, NULL), 0);
            assert_item(number, &picture->entries[number], &item, keys_only);
        }
    }
    struct hadb_item item;
    assert_int_equal(hadb_engine_scan_next(&rig->engine, scan, &item, NULL), HADB_END);
    hadb_engine_scan_close(&rig->engine, scan);
}

static void check_now(struct rig *rig)
{
    void *view = NULL;
    hadb_txid txid = 0;
    assert_int_equal(hadb_engine_view_open(&rig->engine, &view, &txid, NULL), 0);
    assert_int_equal(txid, model.last);
    check_range(rig, view, &model.now, 0, KEYS, txid % 2, false);
    hadb_engine_view_close(&rig->engine, view);
    struct hadb_engine_position position;
    hadb_engine_position(&rig->engine, &position);
    assert_int_equal(position.mark.txid, model.mark);
    assert_int_equal(position.mark.slot, model.slot);
    assert_int_equal(position.last_txid, model.last);
}

/* One transaction with random operations, into the model and into @out. */
static void make_txn(struct rig *rig, struct test_rng *rng, struct hadb_buf *out)
{
    static struct hadb_op ops[2000];
    static char keys[2000][64];
    size_t len = test_rng_below(rng, 12);
    if (test_rng_below(rng, 400) == 0) {
        len = 1100 + test_rng_below(rng, 900); /* not in place any more */
    }
    model.last++;
    struct hadb_buf values = {0};
    assert_int_equal(hadb_buf_reserve(&values, 1 + len * (len < 20 ? 20000 : 40)), 0);
    unsigned put_percent = model.last / 300 % 2 ? 35 : 70;
    for (size_t i = 0; i < len; i++) {
        unsigned number = (unsigned)test_rng_below(rng, KEYS);
        struct entry *entry = &model.now.entries[number];
        *entry = (struct entry){0};
        ops[i] = (struct hadb_op){.type = HADB_OP_DELETE, .key = key_of(number, keys[i])};
        if (test_rng_chance(rng, put_percent)) {
            *entry = (struct entry){.seed = 1 + (uint32_t)test_rng_below(rng, 1u << 30),
                                    .len = (uint32_t)test_rng_below(rng, 40),
                                    .term = rig->term,
                                    .txid = model.last};
            if (len < 20 && test_rng_below(rng, 200) == 0) {
                entry->len = (uint32_t)test_rng_below(rng, 20000);
            }
            struct hadb_slice value = value_of(entry);
            ops[i].type = HADB_OP_PUT;
            ops[i].value = hadb_slice(values.data + values.len, value.len);
            assert_true(values.len + value.len <= values.cap); /* it must not move */
            assert_int_equal(hadb_buf_append(&values, value.data, value.len), 0);
        }
    }
    int r = hadb_txn_encode(rig->term, model.last, 0, ops, len, out, NULL);
    assert_int_equal(r, 0);
    hadb_buf_deinit(&values);
}

static void move_mark(hadb_txid txid)
{
    size_t gone = (size_t)(txid - model.mark);
    if (gone > 0) {
        model.at_mark = model.tail[gone - 1].after;
    }
    for (size_t i = 0; i < model.tail_len; i++) {
        if (i < gone) {
            hadb_buf_deinit(&model.tail[i].encoded);
        } else {
            model.tail[i - gone] = model.tail[i];
        }
    }
    model.tail_len -= gone;
    model.mark = txid;
    model.slot++;
}

static struct hadb_pos mark_pos(hadb_txid txid)
{
    struct hadb_pos pos = rig_pos(txid);
    pos.slot = model.slot + 1;
    return pos;
}

static void step_apply(struct rig *rig, struct test_rng *rng)
{
    struct hadb_buf txns = {0};
    size_t len = 1 + test_rng_below(rng, 4);
    for (size_t i = 0; i < len && model.tail_len < TAIL_MAX; i++) {
        struct hadb_buf one = {0};
        make_txn(rig, rng, &one);
        assert_int_equal(hadb_buf_append(&txns, one.data, one.len), 0);
        model.tail[model.tail_len].after = model.now;
        model.tail[model.tail_len].encoded = one;
        model.tail_len++;
    }
    bool with_mark = test_rng_chance(rng, 30) || model.tail_len == TAIL_MAX;
    hadb_txid mark_txid = model.mark + test_rng_below(rng, model.tail_len + 1);
    struct hadb_pos mark = mark_pos(mark_txid);
    int r = hadb_engine_apply(&rig->engine, hadb_buf_slice(&txns), with_mark ? &mark : NULL, NULL);
    assert_int_equal(r, 0);
    if (with_mark) {
        move_mark(mark_txid);
    }
    hadb_buf_deinit(&txns);
}

static void step_mark(struct rig *rig, struct test_rng *rng)
{
    hadb_txid txid = model.mark + test_rng_below(rng, model.tail_len + 1);
    struct hadb_pos mark = mark_pos(txid);
    assert_int_equal(hadb_engine_mark(&rig->engine, &mark, NULL), 0);
    move_mark(txid);
}

static void step_rewind(struct rig *rig)
{
    assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0);
    model.now = model.at_mark;
    model.last = model.mark;
    for (size_t i = 0; i < model.tail_len; i++) {
        hadb_buf_deinit(&model.tail[i].encoded);
    }
    model.tail_len = 0;
    rig->term++;
    check_now(rig);
}

static void step_view(struct rig *rig, struct test_rng *rng)
{
    size_t i = test_rng_below(rng, VIEWS);
    if (model.views[i].handle) {
        check_range(rig, model.views[i].handle, &model.views[i].picture, 0, KEYS,
                    test_rng_chance(rng, 50), false);
        hadb_engine_view_close(&rig->engine, model.views[i].handle);
        model.views[i].handle = NULL;
        return;
    }
    int r = hadb_engine_view_open(&rig->engine, &model.views[i].handle, &model.views[i].txid, NULL);
    assert_int_equal(r, 0);
    assert_int_equal(model.views[i].txid, model.last);
    model.views[i].picture = model.now;
}

static void close_views(struct rig *rig)
{
    for (size_t i = 0; i < VIEWS; i++) {
        hadb_engine_view_close(&rig->engine, model.views[i].handle);
        model.views[i].handle = NULL;
    }
}

static void step_read(struct rig *rig, struct test_rng *rng)
{
    size_t i = test_rng_below(rng, VIEWS);
    void *view = model.views[i].handle;
    const struct picture *picture = view ? &model.views[i].picture : &model.now;
    char buf[64];
    for (unsigned k = 0; k < 4; k++) {
        unsigned number = (unsigned)test_rng_below(rng, KEYS);
        struct hadb_slice key = key_of(number, buf);
        struct hadb_buf value = {0};
        struct hadb_item item = {.key = key};
        int r = hadb_engine_get(&rig->engine, view, key, &value, &item.version, NULL);
        assert_int_equal(r, picture->entries[number].seed ? 0 : HADB_ABSENT);
        if (r == 0) {
            item.value = hadb_buf_slice(&value);
            assert_item(number, &picture->entries[number], &item, false);
        }
        hadb_buf_deinit(&value);
    }
    if (view) {
        unsigned lo = (unsigned)test_rng_below(rng, KEYS), hi = (unsigned)test_rng_below(rng, KEYS);
        check_range(rig, view, picture, lo, HADB_MAX(lo, hi), test_rng_chance(rng, 50),
                    test_rng_chance(rng, 20));
    }
}

static void step_tail(struct rig *rig, struct test_rng *rng)
{
    size_t skip = test_rng_below(rng, model.tail_len + 1);
    size_t bytes_max = test_rng_below(rng, 3000);
    struct hadb_buf want = {0}, got = {0};
    for (size_t i = skip; i < model.tail_len; i++) {
        const struct hadb_buf *encoded = &model.tail[i].encoded;
        if (i > skip && want.len + encoded->len > bytes_max) {
            break;
        }
        assert_int_equal(hadb_buf_append(&want, encoded->data, encoded->len), 0);
    }
    int r = hadb_engine_tail(&rig->engine, model.mark + skip, bytes_max, &got, NULL);
    assert_int_equal(r, want.len ? 0 : HADB_END);
    assert_true(hadb_slice_eq(hadb_buf_slice(&want), hadb_buf_slice(&got)));
    hadb_buf_deinit(&want);
    hadb_buf_deinit(&got);
}

static void step(struct rig *rig, struct test_rng *rng, uint64_t i)
{
    unsigned dice = (unsigned)test_rng_below(rng, 1000);
    if (dice < 400) {
        step_apply(rig, rng);
    } else if (dice < 480) {
        step_mark(rig, rng);
    } else if (dice < 500) {
        step_rewind(rig);
    } else if (dice < 600) {
        step_view(rig, rng);
    } else if (dice < 900) {
        step_read(rig, rng);
    } else if (dice < 960) {
        step_tail(rig, rng);
    } else if (dice < 963) {
        assert_int_equal(hadb_engine_sync(&rig->engine, NULL), 0);
    } else if (dice < 965 && rig->durable) {
        close_views(rig);
        rig_reopen(rig);
        check_now(rig);
    }
    if (i % 500 == 0) {
        check_now(rig);
    }
}

static void clear_model(void)
{
    for (size_t i = 0; i < model.tail_len; i++) {
        hadb_buf_deinit(&model.tail[i].encoded);
    }
    memset(&model, 0, sizeof(model));
}

static void engine__equals_the_model_through_a_random_history(void **state)
{
    struct rig *rig = *state;
    struct test_rng rng;
    test_rng_init(&rng, 21);
    rig_close(rig);
    rig->options.segment_bytes_max = 256 << 10;
    rig_open(rig);
    for (uint64_t i = 0; i < STEPS; i++) {
        step(rig, &rng, i);
    }
    close_views(rig);
    check_now(rig);
    rig_reopen(rig);
    check_now(rig);
    clear_model();
}

static void engines__have_equal_digests_after_the_same_history(void **state)
{
    struct rig *rig = *state;
    struct rig other = {.name = rig->durable ? "memory" : "kv", .durable = !rig->durable};
    test_tmp_make(other.path);
    rig_open(&other);
    struct test_rng rng;
    test_rng_init(&rng, 22);
    struct hadb_buf txn = {0};
    for (unsigned i = 1; i <= 600; i++) {
        rig->term = 1 + i / 100;
        hadb_buf_clear(&txn);
        make_txn(rig, &rng, &txn);
        const struct hadb_pos mark = rig_pos(model.last - model.last % 5);
        const struct hadb_pos *given = model.last % 3 ? NULL : &mark;
        struct hadb_slice bytes = hadb_buf_slice(&txn);
        assert_int_equal(hadb_engine_apply(&rig->engine, bytes, given, NULL), 0);
        assert_int_equal(hadb_engine_apply(&other.engine, bytes, given, NULL), 0);
        if (i % 37 == 0) {
            assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0);
            assert_int_equal(hadb_engine_rewind(&other.engine, NULL), 0);
            struct hadb_engine_position position;
            hadb_engine_position(&rig->engine, &position);
            model.last = position.last_txid;
        }
        if (i % 50 == 0) {
            struct hadb_hash a, b;
            const struct hadb_slice all = {0};
            assert_int_equal(hadb_engine_digest(&rig->engine, NULL, all, &a, NULL), 0);
            assert_int_equal(hadb_engine_digest(&other.engine, NULL, all, &b, NULL), 0);
            assert_memory_equal(&a, &b, sizeof(a));
            rig_reopen(rig);
            rig_reopen(&other);
        }
    }
    hadb_buf_deinit(&txn);
    rig_close(&other);
    test_tmp_remove(other.path);
    clear_model();
}

int suite_model(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(engine__equals_the_model_through_a_random_history,
                                        rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(engines__have_equal_digests_after_the_same_history,
                                        rig_setup, rig_teardown),
    };
    return cmocka_run_group_tests_name("engine model", tests, NULL, NULL);
}
