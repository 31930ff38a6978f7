/* SPDX-License-Identifier: Apache-2.0 */
/* Engine contract: sizes, opening, and running out of memory. */
#include <stdlib.h>
#include <string.h>

#include "tests/contract/engine/rig.h"

static void put_one(struct rig *rig, hadb_txid txid, struct hadb_slice key, struct hadb_slice value)
{
    const struct hadb_op op = {.type = HADB_OP_PUT, .key = key, .value = value};
    struct hadb_buf txn = {0};
    assert_int_equal(hadb_txn_encode(1, txid, 0, &op, 1, &txn, NULL), 0);
    assert_int_equal(hadb_engine_apply(&rig->engine, hadb_buf_slice(&txn), NULL, NULL), 0);
    hadb_buf_deinit(&txn);
}

static void keys__of_every_byte_and_the_longest_length_are_kept(void **state)
{
    struct rig *rig = *state;
    static uint8_t big[HADB_ENGINE_KEY_BYTES_MAX];
    memset(big, 0xab, sizeof(big));
    for (unsigned i = 0; i < 256; i++) {
        uint8_t key = (uint8_t)i;
        put_one(rig, i + 1, hadb_slice(&key, 1), hadb_slice(&key, 1));
    }
    put_one(rig, 257, hadb_slice(big, sizeof(big)), hadb_slice_str("last"));
    put_one(rig, 258, hadb_slice(big, sizeof(big) - 1), hadb_slice_str("shorter"));
    struct hadb_buf value = {0};
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 256; i++) {
            uint8_t key = (uint8_t)i;
            int r = hadb_engine_get(&rig->engine, NULL, hadb_slice(&key, 1), &value, NULL, NULL);
            assert_int_equal(r, 0);
            assert_int_equal(value.len, 1);
            assert_int_equal(value.data[0], i);
        }
        int r =
            hadb_engine_get(&rig->engine, NULL, hadb_slice(big, sizeof(big)), &value, NULL, NULL);
        assert_int_equal(r, 0);
        assert_string_equal(hadb_buf_cstr(&value), "last");
        rig_reopen(rig);
    }
    hadb_buf_deinit(&value);
}

static void values__of_64_mib_are_kept(void **state)
{
    struct rig *rig = *state;
    const size_t len = HADB_VALUE_BYTES_MAX;
    uint8_t *bytes = malloc(len);
    assert_non_null(bytes);
    struct test_rng rng;
    test_rng_seed(&rng, 5);
    test_rng_fill(&rng, bytes, len);
    put_one(rig, 1, hadb_slice_str("big"), hadb_slice(bytes, len));
    put_one(rig, 2, hadb_slice_str("small"), hadb_slice_str("s"));
    rig_reopen(rig);
    struct hadb_buf value = {0};
    int r = hadb_engine_get(&rig->engine, NULL, hadb_slice_str("big"), &value, NULL, NULL);
    assert_int_equal(r, 0);
    assert_int_equal(value.len, len);
    assert_true(memcmp(value.data, bytes, len) == 0);
    hadb_buf_clear(&value);
    r = hadb_engine_tail(&rig->engine, 0, 1, &value, NULL);
    assert_int_equal(r, 0);
    assert_int_equal(value.len, HADB_TXN_HEADER_BYTES + HADB_TXN_OP_BYTES + 3 + len);
    hadb_buf_deinit(&value);
    free(bytes);
    assert_int_equal(hadb_engine_rewind(&rig->engine, NULL), 0);
    rig_expect(rig, NULL, "");
}

static void open__refuses_an_unknown_engine(void **state)
{
    (void)state;
    struct hadb_engine engine = {0};
    struct hadb_error err = {0};
    assert_int_equal(hadb_engine_open("tape", "/tmp", NULL, NULL, &engine, &err), HADB_ENOTSUP);
    assert_non_null(strstr(err.message, "tape"));
    assert_null(engine.ops);
    hadb_engine_close(&engine); /* the zero value is fine */
}

static void read_only__answers_reads_and_refuses_writes(void **state)
{
    struct rig *rig = *state;
    rig_apply(rig, "a=1");
    rig_close(rig);
    rig->options.read_only = true;
    rig_open(rig);
    rig_expect(rig, NULL, rig->durable ? "a=1" : "");
    struct hadb_engine *e = &rig->engine;
    struct hadb_buf txn = {0};
    rig_encode(rig, rig->durable ? 2 : 1, "b=2", &txn);
    const struct hadb_pos mark = rig_pos(0);
    assert_int_equal(hadb_engine_apply(e, hadb_buf_slice(&txn), NULL, NULL), HADB_ENOTSUP);
    assert_int_equal(hadb_engine_mark(e, &mark, NULL), HADB_ENOTSUP);
    assert_int_equal(hadb_engine_rewind(e, NULL), HADB_ENOTSUP);
    assert_int_equal(hadb_engine_ingest(e, NULL, 0, NULL), HADB_ENOTSUP);
    assert_int_equal(hadb_engine_sync(e, NULL), 0);
    hadb_buf_deinit(&txn);
    rig_close(rig);
    rig->options.read_only = false;
    rig_open(rig);
    rig_expect(rig, NULL, rig->durable ? "a=1" : "");
}

/* One step of a history, with what the engine holds after it. */
struct step {
    const char *words; /* applied; NULL: mark, "!": rewind */
    const char *after;
};
static const struct step steps[] = {
    {"a=1 b=1 c=1", "a=1 b=1 c=1"},
    {NULL, "a=1 b=1 c=1"},
    {"a=2 -b d=2 d=3", "a=2 c=1 d=3"},
    {"!", "a=1 b=1 c=1"},
    {"-a -b -c", ""},
    {"e=1", "e=1"},
    {NULL, "e=1"},
};

static uint64_t steps_fail_at; /* the allocation that fails inside the next apply */

static int do_step(struct rig *rig, const struct step *step)
{
    struct hadb_engine_position position;
    hadb_engine_position(&rig->engine, &position);
    if (!step->words) {
        struct hadb_pos mark = rig_pos(position.last_txid);
        return hadb_engine_mark(&rig->engine, &mark, NULL);
    }
    if (strcmp(step->words, "!") == 0) {
        return hadb_engine_rewind(&rig->engine, NULL);
    }
    struct hadb_buf txn = {0};
    test_alloc_reset(); /* the encoding is not what is tested */
    rig_encode(rig, position.last_txid + 1, step->words, &txn);
    struct hadb_slice bytes = hadb_buf_slice(&txn);
    test_alloc_fail_at(steps_fail_at);
    int r = hadb_engine_apply(&rig->engine, bytes, NULL, NULL);
    bool hit = test_alloc_hit();
    test_alloc_reset();
    hadb_buf_deinit(&txn);
    return hit && r == 0 ? HADB_EIO : r; /* a failure that was swallowed would be one */
}
static void writes__change_nothing_when_memory_runs_out(void **state)
{
    (void)state;
    for (size_t target = 0; target < HADB_LEN(steps); target++) {
        int r = HADB_ENOMEM;
        for (uint64_t n = 1; r == HADB_ENOMEM; n++) {
            assert_true(n < 100);
            struct rig *rig = NULL;
            void *fresh = NULL, *view = NULL;
            rig_setup(&fresh);
            rig = fresh;
            steps_fail_at = 0;
            for (size_t i = 0; i < target; i++) {
                assert_int_equal(do_step(rig, &steps[i]), 0);
            }
            const char *before = target ? steps[target - 1].after : "";
            assert_int_equal(hadb_engine_view_open(&rig->engine, &view, NULL, NULL), 0);
            steps_fail_at = n;
            test_alloc_fail_at(n);
            r = do_step(rig, &steps[target]);
            test_alloc_reset();
            assert_true(r == 0 || r == HADB_ENOMEM);
            for (int round = 0; round < 2; round++) {
                rig_expect(rig, NULL, r == 0 ? steps[target].after : before);
                if (round == 0) {
                    rig_expect(rig, view, before);
                    hadb_engine_view_close(&rig->engine, view);
                }
                rig_reopen(rig);
            }
            steps_fail_at = 0;
            for (size_t i = target + (r == 0); i < HADB_LEN(steps); i++) {
                assert_int_equal(do_step(rig, &steps[i]), 0);
            }
            rig_reopen(rig);
            rig_expect(rig, NULL, steps[HADB_LEN(steps) - 1].after);
            rig_teardown(&fresh);
        }
    }
}

/* Everything that reads, once; the first failure wins. */
static int read_all(struct rig *rig)
{
    const struct hadb_range range = {.start = hadb_slice_str("a"), .prefix = hadb_slice_str("k")};
    void *view = NULL, *scan = NULL;
    struct hadb_buf value = {0};
    struct hadb_item item;
    struct hadb_hash hash;
    int r = hadb_engine_get(&rig->engine, NULL, hadb_slice_str("k1"), &value, NULL, NULL);
    hadb_buf_deinit(&value);
    r = r ? r : hadb_engine_view_open(&rig->engine, &view, NULL, NULL);
    r = r ? r : hadb_engine_scan_open(&rig->engine, view, &range, &scan, NULL);
    while (r == 0 && (r = hadb_engine_scan_next(&rig->engine, scan, &item, NULL)) == 0) {
    }
    r = r == HADB_END ? 0 : r;
    hadb_engine_scan_close(&rig->engine, scan);
    hadb_engine_view_close(&rig->engine, view);
    r = r ? r : hadb_engine_tail(&rig->engine, 0, SIZE_MAX, &value, NULL);
    hadb_buf_deinit(&value);
    r = r ? r : hadb_engine_digest(&rig->engine, NULL, hadb_slice(NULL, 0), &hash, NULL);
    return r;
}

static void reads__report_it_when_memory_runs_out(void **state)
{
    struct rig *rig = *state;
    rig_apply(rig, "k1=1 k2=2");
    rig_apply(rig, "k3=3");
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        assert_true(n < 100);
        test_alloc_fail_at(n);
        int r = read_all(rig);
        hit = test_alloc_hit();
        test_alloc_reset();
        assert_int_equal(r, hit ? HADB_ENOMEM : 0);
    }
}

static void open_and_ingest__report_it_when_memory_runs_out(void **state)
{
    struct rig *rig = *state;
    const struct hadb_item items[] = {
        {.key = hadb_slice_str("a"), .value = hadb_slice_str("1"), .version = {1, 1}},
        {.key = hadb_slice_str("b"), .value = hadb_slice_str("2"), .version = {1, 2}},
    };
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        assert_true(n < 100);
        test_alloc_fail_at(n);
        int r = hadb_engine_ingest(&rig->engine, items, 2, NULL);
        hit = test_alloc_hit();
        test_alloc_reset();
        assert_int_equal(r, hit ? HADB_ENOMEM : 0);
        rig_expect(rig, NULL, hit ? "" : "a=1 b=2");
    }
    rig_mark(rig, 2);
    rig_apply(rig, "c=3");
    rig_close(rig);
    hit = true;
    for (uint64_t n = 1; hit; n++) {
        assert_true(n < 200);
        test_alloc_fail_at(n);
        struct hadb_error err = {0};
        int r = hadb_engine_open(rig->name, rig->path, &rig->options, NULL, &rig->engine, &err);
        hit = test_alloc_hit();
        if (hit) {
            assert_int_equal(r, HADB_ENOMEM);
            assert_int_equal(test_alloc_live(), 0);
        }
        test_alloc_reset();
        assert_int_equal(r, hit ? HADB_ENOMEM : 0);
    }
    rig_expect(rig, NULL, rig->durable ? "a=1 b=2 c=3" : "");
}

int suite_limits(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        T(keys__of_every_byte_and_the_longest_length_are_kept),
        T(values__of_64_mib_are_kept),
        cmocka_unit_test(open__refuses_an_unknown_engine),
        T(read_only__answers_reads_and_refuses_writes),
        cmocka_unit_test(writes__change_nothing_when_memory_runs_out),
        T(reads__report_it_when_memory_runs_out),
        T(open_and_ingest__report_it_when_memory_runs_out),
    };
#undef T
    return cmocka_run_group_tests_name("engine limits", tests, NULL, NULL);
}
