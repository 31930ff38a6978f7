/* SPDX-License-Identifier: Apache-2.0 */
/* The copy-on-write index against a plain sorted array, with its invariants checked all along. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/thread.h"
#include "engines/index/index_private.h"
#include "tests/support/support.h"

#define KEYS 6000u /* key numbers of the model */

static struct hadb__cell *cell_of(const void *key, size_t len, hadb_txid txid)
{
    struct hadb__cell *cell =
        hadb__cell_new(hadb_slice(NULL, 0), hadb_slice(key, len), hadb_slice(NULL, 0), true,
                       (struct hadb_version){.term = 1, .txid = txid});
    assert_non_null(cell);
    return cell;
}

/* Keys of different lengths whose order is that of their numbers. */
static struct hadb_slice key_of(uint32_t number, uint8_t buf[16])
{
    size_t len = 4 + number % 9;
    memset(buf, 'x', 16);
    for (size_t i = 0; i < 4; i++) {
        buf[i] = (uint8_t)(number >> (24 - 8 * i));
    }
    return hadb_slice(buf, len);
}

/* model[number] is the txid of the key, 0 = absent. */
static void put(struct hadb__index *index, uint64_t *model, uint32_t number, hadb_txid txid)
{
    uint8_t buf[16];
    struct hadb_slice key = key_of(number, buf);
    struct hadb__cell *cell = cell_of(key.data, key.len, txid), *before = NULL;
    assert_int_equal(hadb__index_put(index, cell, &before), 0);
    assert_int_equal(before ? before->txid : 0, model[number]);
    hadb__cell_unref(before);
    hadb__cell_unref(cell);
    model[number] = txid;
}

static void del(struct hadb__index *index, uint64_t *model, uint32_t number)
{
    uint8_t buf[16];
    struct hadb_slice key = key_of(number, buf);
    struct hadb__cell *before = NULL;
    int r = hadb__index_remove(index, key, &before);
    assert_int_equal(r, model[number] ? 0 : HADB_ABSENT);
    assert_int_equal(before ? before->txid : 0, model[number]);
    hadb__cell_unref(before);
    hadb__index_shrink(index, key);
    model[number] = 0;
}

static void assert_intact(const struct hadb__index *index)
{
    const char *wrong = hadb__index_check(index);
    if (wrong) {
        fail_msg("%s", wrong);
    }
}

static void assert_equals(const struct hadb__index *index, const uint64_t *model)
{
    assert_intact(index);
    struct hadb__cursor forward, backward;
    hadb__cursor_init(&forward, index, NULL, false);
    hadb__cursor_init(&backward, index, NULL, true);
    uint64_t len = 0;
    uint8_t buf[16];
    for (uint32_t i = 0; i < KEYS; i++) {
        if (model[i]) {
            struct hadb__cell *cell = hadb__cursor_next(&forward);
            assert_non_null(cell);
            assert_true(hadb_slice_eq(hadb__cell_key(cell), key_of(i, buf)));
            assert_int_equal(cell->txid, model[i]);
            len++;
        }
        if (model[KEYS - 1 - i]) {
            struct hadb__cell *cell = hadb__cursor_next(&backward);
            assert_non_null(cell);
            assert_true(hadb_slice_eq(hadb__cell_key(cell), key_of(KEYS - 1 - i, buf)));
        }
        struct hadb__cell *found = hadb__index_find(index, key_of(i, buf));
        assert_int_equal(found ? found->txid : 0, model[i]);
    }
    assert_null(hadb__cursor_next(&forward));
    assert_null(hadb__cursor_next(&backward));
    assert_int_equal(index->len, len);
}

static void index__equals_a_sorted_array_after_1e5_random_operations(void **state)
{
    (void)state;
    struct test_rng rng;
    test_rng_init(&rng, 11);
    struct hadb__index index = {0};
    static uint64_t model[KEYS];
    memset(model, 0, sizeof(model));
    test_alloc_fail_at(0);
    unsigned put_percent = 50;
    for (unsigned i = 1; i <= 100000; i++) {
        if (i % 10000 == 0) { /* grow, then shrink nearly to nothing, and again */
            put_percent = put_percent >= 50 ? 15 : 85;
            assert_equals(&index, model);
        }
        uint32_t number = (uint32_t)test_rng_below(&rng, KEYS);
        if (test_rng_chance(&rng, put_percent)) {
            put(&index, model, number, i);
        } else {
            del(&index, model, number);
        }
        if (i % 500 == 0) {
            assert_intact(&index);
        }
    }
    for (uint32_t i = 0; i < KEYS; i++) {
        del(&index, model, i);
    }
    assert_null(index.root);
    assert_int_equal(test_alloc_live(), 0);
    test_alloc_reset();
    hadb__index_deinit(&index);
}

static void index__keeps_leaves_full_when_keys_come_in_order(void **state)
{
    (void)state;
    struct hadb__index index = {0};
    static uint64_t model[KEYS];
    memset(model, 0, sizeof(model));
    test_alloc_fail_at(0);
    for (uint32_t i = 0; i < KEYS; i++) {
        put(&index, model, i, i + 1);
    }
    /* One cell per key, full leaves, one separator per leaf, two inner nodes and their root. */
    uint64_t leaves = KEYS / HADB__NODE_SLOTS_MAX + 1;
    assert_true((uint64_t)test_alloc_live() <= KEYS + 2 * leaves + 4);
    test_alloc_reset();
    assert_equals(&index, model);
    hadb__index_deinit(&index);
}

static void index__leaves_shared_pictures_alone(void **state)
{
    (void)state;
    struct test_rng rng;
    test_rng_init(&rng, 12);
    enum { VIEWS = 6 };
    struct hadb__index index = {0}, views[VIEWS] = {{0}};
    static uint64_t model[KEYS], models[VIEWS][KEYS];
    memset(model, 0, sizeof(model));
    memset(models, 0, sizeof(models));
    test_alloc_fail_at(0);
    for (unsigned i = 1; i <= 30000; i++) {
        uint32_t number = (uint32_t)test_rng_below(&rng, KEYS);
        if (test_rng_chance(&rng, i % 8000 < 5000 ? 75 : 20)) {
            put(&index, model, number, i);
        } else {
            del(&index, model, number);
        }
        if (i % 700 == 0) {
            size_t view = test_rng_below(&rng, VIEWS);
            assert_equals(&views[view], models[view]);
            hadb__index_deinit(&views[view]);
            views[view] = hadb__index_share(&index);
            memcpy(models[view], model, sizeof(model));
        }
    }
    assert_equals(&index, model);
    hadb__index_deinit(&index);
    for (size_t i = 0; i < VIEWS; i++) {
        assert_equals(&views[i], models[i]);
        hadb__index_deinit(&views[i]);
    }
    assert_int_equal(test_alloc_live(), 0);
    test_alloc_reset();
}

static void index__copies_only_the_path_when_a_picture_is_shared(void **state)
{
    (void)state;
    struct hadb__index index = {0};
    static uint64_t model[KEYS];
    memset(model, 0, sizeof(model));
    for (uint32_t i = 0; i < KEYS; i++) {
        put(&index, model, i, 1);
    }
    struct hadb__index view = hadb__index_share(&index);
    test_alloc_fail_at(0);
    put(&index, model, 77, 2);
    assert_int_equal(test_alloc_count(), 1 + 3); /* the cell; root, inner node, leaf */
    put(&index, model, 77, 3);
    assert_int_equal(test_alloc_count(), 1 + 3 + 1); /* the path is owned already */
    test_alloc_reset();
    hadb__index_deinit(&view);
    hadb__index_deinit(&index);
}

static void cursor__starts_at_any_bound_in_either_direction(void **state)
{
    (void)state;
    struct test_rng rng;
    test_rng_init(&rng, 13);
    struct hadb__index index = {0};
    static uint64_t model[KEYS];
    memset(model, 0, sizeof(model));
    for (unsigned i = 0; i < 2500; i++) {
        put(&index, model, (uint32_t)test_rng_below(&rng, KEYS), 1);
    }
    for (uint32_t bound = 0; bound < KEYS; bound++) {
        uint8_t buf[16], want[16];
        struct hadb_slice key = key_of(bound, buf);
        for (int reverse = 0; reverse < 2; reverse++) {
            struct hadb__cursor cursor;
            hadb__cursor_init(&cursor, &index, &key, reverse);
            uint32_t at = reverse ? bound - 1 : bound; /* wraps at 0: then nothing is expected */
            while (at < KEYS && !model[at]) {
                at += reverse ? UINT32_MAX : 1;
            }
            struct hadb__cell *cell = hadb__cursor_next(&cursor);
            if (at >= KEYS) {
                assert_null(cell);
            } else {
                assert_non_null(cell);
                assert_true(hadb_slice_eq(hadb__cell_key(cell), key_of(at, want)));
            }
        }
    }
    hadb__index_deinit(&index);
}

static void index__holds_what_it_held_when_memory_runs_out(void **state)
{
    (void)state;
    for (uint32_t keys = 1; keys < KEYS; keys = keys * 3 + 64) {
        for (uint64_t n = 1; n < 20; n++) {
            struct hadb__index index = {0};
            static uint64_t model[KEYS];
            memset(model, 0, sizeof(model));
            for (uint32_t i = 0; i < keys; i++) {
                put(&index, model, (i * 17) % KEYS, 1);
            }
            struct hadb__index view = hadb__index_share(&index);
            uint8_t buf[16];
            struct hadb_slice key = key_of((keys * 17) % KEYS, buf);
            struct hadb__cell *cell = cell_of(key.data, key.len, 2), *before = NULL;
            test_alloc_fail_at(n);
            int r = n % 2 ? hadb__index_put(&index, cell, &before)
                          : hadb__index_remove(&index, key_of(0, buf), &before);
            bool hit = test_alloc_hit();
            test_alloc_reset();
            assert_int_equal(r, hit ? HADB_ENOMEM : 0);
            if (hit) {
                assert_equals(&index, model);
            }
            assert_equals(&view, model);
            assert_intact(&index);
            hadb__cell_unref(before);
            hadb__cell_unref(cell);
            hadb__index_deinit(&index);
            hadb__index_deinit(&view);
        }
    }
}

static void index__undoes_in_reverse_without_memory(void **state)
{
    (void)state;
    struct test_rng rng;
    test_rng_init(&rng, 14);
    struct hadb__index index = {0};
    static uint64_t model[KEYS];
    memset(model, 0, sizeof(model));
    for (unsigned i = 0; i < 3000; i++) {
        put(&index, model, (uint32_t)test_rng_below(&rng, KEYS), 1);
    }
    enum { OPS = 900 };
    for (unsigned round = 0; round < 60; round++) {
        struct hadb__index view = hadb__index_share(&index); /* or every path is owned already */
        struct {
            uint32_t number;
            struct hadb__cell *before;
        } done[OPS];
        uint8_t buf[16];
        uint32_t base = (uint32_t)test_rng_below(&rng, KEYS - 700); /* dense: leaves split, empty */
        for (unsigned i = 0; i < OPS; i++) {
            done[i].number = base + (uint32_t)test_rng_below(&rng, 700);
            done[i].before = NULL;
            struct hadb_slice key = key_of(done[i].number, buf);
            if (test_rng_chance(&rng, 20 + 10 * (round % 7))) {
                struct hadb__cell *cell = cell_of(key.data, key.len, 2 + i);
                assert_int_equal(hadb__index_put(&index, cell, &done[i].before), 0);
                hadb__cell_unref(cell);
            } else {
                int r = hadb__index_remove(&index, key, &done[i].before);
                assert_true(r == 0 || r == HADB_ABSENT);
            }
        }
        test_alloc_fail_at(1);
        for (unsigned i = OPS; i > 0; i--) {
            struct hadb_slice key = key_of(done[i - 1].number, buf);
            struct hadb__cell *after = NULL;
            int r = done[i - 1].before ? hadb__index_put(&index, done[i - 1].before, &after)
                                       : hadb__index_remove(&index, key, &after);
            assert_true(r == 0 || (r == HADB_ABSENT && !done[i - 1].before));
            hadb__cell_unref(after);
            hadb__cell_unref(done[i - 1].before);
        }
        for (unsigned i = 0; i < OPS; i++) {
            hadb__index_shrink(&index, key_of(done[i].number, buf));
        }
        assert_false(test_alloc_hit());
        test_alloc_reset();
        assert_equals(&index, model);
        assert_equals(&view, model);
        hadb__index_deinit(&view);
    }
    hadb__index_deinit(&index);
}

static void walk_and_release(void *arg)
{
    struct hadb__index *view = arg;
    struct hadb__cursor cursor;
    hadb__cursor_init(&cursor, view, NULL, false);
    uint64_t len = 0;
    while (hadb__cursor_next(&cursor)) {
        len++;
    }
    HADB_ASSERT(len == view->len);
    hadb__index_deinit(view);
}

static void index__may_be_released_by_other_threads_while_it_changes(void **state)
{
    (void)state;
    struct test_rng rng;
    test_rng_init(&rng, 15);
    struct hadb__index index = {0};
    static uint64_t model[KEYS];
    memset(model, 0, sizeof(model));
    for (unsigned round = 0; round < 40; round++) {
        struct hadb__index views[3];
        struct hadb_thread threads[3] = {{0}};
        for (size_t i = 0; i < 3; i++) {
            views[i] = hadb__index_share(&index);
            assert_int_equal(
                hadb_thread_start(&threads[i], "walk", walk_and_release, &views[i], NULL), 0);
            for (unsigned k = 0; k < 300; k++) {
                uint32_t number = (uint32_t)test_rng_below(&rng, KEYS);
                if (test_rng_chance(&rng, 60)) {
                    put(&index, model, number, k + 1);
                } else {
                    del(&index, model, number);
                }
            }
        }
        for (size_t i = 0; i < 3; i++) {
            hadb_thread_join(&threads[i]);
        }
    }
    assert_equals(&index, model);
    hadb__index_deinit(&index);
}

static void index__takes_the_longest_keys_and_keys_that_extend_each_other(void **state)
{
    (void)state;
    struct hadb__index index = {0};
    static uint8_t zeros[300], big[HADB_ENGINE_KEY_BYTES_MAX];
    memset(big, 0xff, sizeof(big));
    for (size_t len = 1; len <= sizeof(zeros); len++) {
        struct hadb__cell *before, *cell = cell_of(zeros, len, len);
        assert_int_equal(hadb__index_put(&index, cell, &before), 0);
        hadb__cell_unref(cell);
        cell = cell_of(big, sizeof(big) - len, len);
        assert_int_equal(hadb__index_put(&index, cell, &before), 0);
        hadb__cell_unref(cell);
    }
    assert_intact(&index);
    assert_int_equal(index.len, 600);
    assert_int_equal(hadb__index_find(&index, hadb_slice(zeros, 200))->txid, 200);
    assert_int_equal(hadb__index_find(&index, hadb_slice(big, sizeof(big) - 7))->txid, 7);
    assert_null(hadb__index_find(&index, hadb_slice(big, sizeof(big))));
    hadb__index_deinit(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(index__equals_a_sorted_array_after_1e5_random_operations),
        cmocka_unit_test(index__keeps_leaves_full_when_keys_come_in_order),
        cmocka_unit_test(index__leaves_shared_pictures_alone),
        cmocka_unit_test(index__copies_only_the_path_when_a_picture_is_shared),
        cmocka_unit_test(cursor__starts_at_any_bound_in_either_direction),
        cmocka_unit_test(index__holds_what_it_held_when_memory_runs_out),
        cmocka_unit_test(index__undoes_in_reverse_without_memory),
        cmocka_unit_test(index__may_be_released_by_other_threads_while_it_changes),
        cmocka_unit_test(index__takes_the_longest_keys_and_keys_that_extend_each_other),
    };
    return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
