/* SPDX-License-Identifier: Apache-2.0 */
/* The kv engine when the disk fails, fills up, forgets at a power cut, or belongs to someone else. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/thread.h"
#include "engines/kv/kv_private.h"
#include "tests/unit/engines/kvrig.h"

enum { STEPS = 2 * KVRIG_STEPS };

/* The states that a history goes through without faults; [0] is the fresh database. */
static struct picture states[STEPS + 1];

/* Steps of one life, with small segments so that the log rolls, an fsync now and then, a restart after
 * step KVRIG_STEPS. *durable is the last step that an fsync stands behind. Stops at the first failure. */
struct life {
    unsigned done;      /* steps that answered 0 */
    unsigned attempted; /* done, or one more */
    unsigned durable;
    int r; /* the failure, or 0 */
};

static int run_step(struct kvrig *rig, unsigned i, struct life *life)
{
    unsigned number = i < KVRIG_STEPS ? i : 2 + i % (KVRIG_STEPS - 2);
    life->attempted = i + 1;
    int r = kvrig_step(rig, number, NULL);
    if (r < 0) {
        return r;
    }
    life->done = i + 1;
    struct kv *kv = rig->engine.self;
    life->durable = kv->log.synced == kv->log.end ? i + 1 : life->durable;
    if (i % 5 == 4) {
        r = hadb_engine_sync(&rig->engine, NULL);
        life->durable = r < 0 ? life->durable : i + 1;
    }
    return r;
}

static struct life run_life(struct kvrig *rig, bool note_states)
{
    struct life life = {0};
    rig->options.segment_bytes_max = 900;
    life.r = kvrig_open(rig, NULL);
    for (unsigned i = 0; i < STEPS && life.r == 0; i++) {
        if (note_states) {
            states[i] = kvrig_picture(rig);
        }
        life.r = run_step(rig, i, &life);
        if (life.r == 0 && i == KVRIG_STEPS) {
            kvrig_close(rig); /* the ingest is finished long since: nothing may be lost */
            life.r = kvrig_open(rig, NULL);
        }
    }
    if (note_states) {
        states[STEPS] = kvrig_picture(rig);
        states[1] = states[0]; /* an ingest without its mark is no state that survives */
    }
    return life;
}

static int note_states(void **state)
{
    (void)state;
    struct kvrig rig;
    kvrig_init(&rig, 1);
    struct life life = run_life(&rig, true);
    assert_int_equal(life.r, 0);
    struct hadb_engine_stats stats;
    hadb_engine_stats(&rig.engine, &stats);
    assert_true(stats.segments > 4);
    kvrig_deinit(&rig);
    return 0;
}

/* What was recovered is a state of the history, not older than the last fsync. Returns its number. */
static unsigned expect_state(const struct picture *got, const struct life *life)
{
    for (unsigned i = life->attempted + 1; i > life->durable; i--) {
        if (kvrig_picture_eq(got, &states[i - 1])) {
            return i - 1;
        }
    }
    fail_msg("recovered transaction %llu, mark %llu; durable was step %u, attempted %u",
             (unsigned long long)got->last_txid, (unsigned long long)got->mark.txid, life->durable,
             life->attempted);
    return 0;
}

/* After whatever happened: opens, holds a state of the history, and keeps what is written then. */
static void expect_recovers(struct kvrig *rig, const struct life *life)
{
    rig->fault.fail_at = 0;
    rig->fault.hit = false;
    kvrig_must_open(rig);
    struct picture got = kvrig_picture(rig);
    expect_state(&got, life);
    /* It was made durable before anybody could see it. */
    kvrig_close(rig);
    test_memfs_crash(rig->memfs, TEST_MEMFS_DROP);
    kvrig_must_open(rig);
    struct picture again = kvrig_picture(rig);
    assert_true(kvrig_picture_eq(&got, &again));
    if (got.last_txid == got.mark.txid && got.keys == 0 && got.mark.slot == 0) {
        return; /* before the first mark: the ingest would come next */
    }
    assert_int_equal(kvrig_put(rig, "after", "all", NULL), 0);
    assert_int_equal(hadb_engine_sync(&rig->engine, NULL), 0);
    got = kvrig_picture(rig);
    test_memfs_crash(rig->memfs, TEST_MEMFS_DROP);
    kvrig_close(rig);
    kvrig_must_open(rig);
    again = kvrig_picture(rig);
    assert_true(kvrig_picture_eq(&got, &again));
}

static void crash__at_any_operation_keeps_a_prefix_that_holds_all_that_was_synced(void **state)
{
    (void)state;
    static const enum test_memfs_crash modes[] = {TEST_MEMFS_DROP,  TEST_MEMFS_KEEP,
                                                  TEST_MEMFS_TORN,  TEST_MEMFS_MIXED,
                                                  TEST_MEMFS_MIXED, TEST_MEMFS_MIXED};
    unsigned ends = 0;
    for (size_t mode = 0; mode < HADB_LEN(modes); mode++) {
        bool hit = true;
        for (uint64_t n = 1; hit; n++) {
            assert_true(n < 2000);
            struct kvrig rig;
            kvrig_init(&rig, n * 31 + mode);
            rig.fault.fail_at = n;
            rig.fault.sticky = true;
            rig.fault.torn = n % 2;
            struct life life = run_life(&rig, false);
            hit = rig.fault.hit;
            assert_int_equal(life.r < 0, hit);
            test_memfs_crash(rig.memfs, modes[mode]);
            kvrig_close(&rig);
            expect_recovers(&rig, &life);
            ends += life.attempted;
            kvrig_deinit(&rig);
        }
    }
    assert_true(ends > 1000); /* it did run */
}

/* Power cuts during the recovery from a power cut. */
static void crash__during_recovery_is_recovered_from(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        bool hit = true;
        for (uint64_t n = 1; hit; n++) {
            assert_true(n < 200);
            struct kvrig rig;
            kvrig_init(&rig, seed);
            rig.fault.fail_at = 40 + seed * 11;
            rig.fault.sticky = rig.fault.torn = true;
            struct life life = run_life(&rig, false);
            assert_true(rig.fault.hit);
            test_memfs_crash(rig.memfs, TEST_MEMFS_RANDOM);
            kvrig_close(&rig);
            rig.fault.hit = false;
            rig.fault.count = 0;
            rig.fault.fail_at = n;
            int r = kvrig_open(&rig, NULL);
            hit = rig.fault.hit;
            assert_int_equal(r < 0, hit);
            test_memfs_crash(rig.memfs, TEST_MEMFS_RANDOM);
            kvrig_close(&rig);
            expect_recovers(&rig, &life);
            kvrig_deinit(&rig);
        }
    }
}

/* One operation fails, the rest of the disk works: as a single EIO. */
static void failure__of_any_operation_poisons_or_changes_nothing(void **state)
{
    (void)state;
    unsigned poisoned = 0;
    for (int torn = 0; torn < 2; torn++) {
        bool hit = true;
        for (uint64_t n = 1; hit; n++) {
            assert_true(n < 2000);
            struct kvrig rig;
            kvrig_init(&rig, n);
            rig.fault.fail_at = n;
            rig.fault.torn = torn;
            struct life life = run_life(&rig, false);
            hit = rig.fault.hit;
            if (life.r < 0 && rig.engine.ops) {
                assert_int_equal(life.r, HADB_EIO);
                struct picture now = kvrig_picture(&rig); /* reads go on, on a whole state */
                assert_true(kvrig_picture_eq(&now, &states[life.done]) || life.done == 1);
                struct hadb_error err = {0};
                struct hadb_pos mark = now.mark;
                int r = kvrig_put(&rig, "more", "of it", &err);
                if (life.done != 1) { /* an unfinished ingest refuses a put anyway */
                    assert_int_equal(r, HADB_EPOISONED);
                    assert_true(strlen(err.message) > 20);
                }
                assert_int_equal(hadb_engine_mark(&rig.engine, &mark, NULL), HADB_EPOISONED);
                assert_int_equal(hadb_engine_rewind(&rig.engine, NULL), HADB_EPOISONED);
                assert_int_equal(hadb_engine_sync(&rig.engine, NULL), HADB_EPOISONED);
                poisoned++;
            }
            kvrig_close(&rig);
            expect_recovers(&rig, &life);
            kvrig_deinit(&rig);
        }
    }
    assert_true(poisoned > 50);
}

/* The disk is full at every byte of what is written; then there is room again. */
static void full_disk__refuses_and_goes_on_when_there_is_room(void **state)
{
    (void)state;
    unsigned refused = 0;
    for (unsigned target = 2; target < STEPS; target += 3) {
        uint64_t room = 0;
        for (bool fits = false; !fits; room += target % 7 + 1) {
            assert_true(room < 2000);
            struct kvrig rig;
            kvrig_init(&rig, target);
            rig.options.segment_bytes_max = 900;
            kvrig_must_open(&rig);
            struct life life = {0};
            for (unsigned i = 0; i < target; i++) {
                assert_int_equal(run_step(&rig, i, &life), 0);
            }
            struct picture before = kvrig_picture(&rig);
            test_memfs_capacity(rig.memfs, test_memfs_bytes(rig.memfs) + room);
            int r = run_step(&rig, target, &life);
            fits = r == 0;
            if (!fits) {
                refused++;
                assert_int_equal(r, HADB_ENOSPC);
                struct picture after = kvrig_picture(&rig);
                assert_true(kvrig_picture_eq(&before, &after));
                if (room % 2) { /* a power cut here finds nothing of it */
                    test_memfs_crash(rig.memfs, TEST_MEMFS_RANDOM);
                    kvrig_close(&rig);
                    test_memfs_capacity(rig.memfs, UINT64_MAX);
                    life.attempted = life.done;
                    expect_recovers(&rig, &life);
                    kvrig_deinit(&rig);
                    continue;
                }
            }
            test_memfs_capacity(rig.memfs, UINT64_MAX);
            for (unsigned i = target + fits; i < STEPS; i++) {
                assert_int_equal(run_step(&rig, i, &life), 0);
            }
            kvrig_close(&rig);
            kvrig_must_open(&rig);
            struct picture end = kvrig_picture(&rig);
            assert_true(kvrig_picture_eq(&end, &states[STEPS]));
            kvrig_deinit(&rig);
        }
    }
    assert_true(refused > 100);
}

static void lock__keeps_a_second_writer_out_until_it_is_closed(void **state)
{
    (void)state;
    char path[HADB_PATH_BYTES_MAX];
    test_tmp_make(path);
    for (int host = 0; host < 2; host++) {
        struct kvrig rig;
        kvrig_init(&rig, 1);
        if (host) {
            rig.env.fs = (struct hadb_fs){0};
        }
        const char *folder = host ? path : KVRIG_FOLDER;
        struct hadb_engine first = {0}, second = {0};
        struct hadb_error err = {0};
        assert_int_equal(hadb_engine_open("kv", folder, NULL, &rig.env, &first, NULL), 0);
        int r = hadb_engine_open("kv", folder, NULL, &rig.env, &second, &err);
        assert_int_equal(r, HADB_ELOCKED);
        assert_non_null(strstr(err.message, folder));
        assert_null(second.ops);
        hadb_engine_close(&first);
        assert_int_equal(hadb_engine_open("kv", folder, NULL, &rig.env, &second, NULL), 0);
        hadb_engine_close(&second);
        kvrig_deinit(&rig);
    }
    test_tmp_remove(path);
}

static void open__names_a_folder_that_cannot_be_one(void **state)
{
    (void)state;
    struct kvrig rig;
    kvrig_init(&rig, 1);
    struct hadb_error err = {0};
    struct hadb_engine engine = {0};
    assert_int_equal(hadb_engine_open("kv", "", NULL, &rig.env, &engine, &err), HADB_EINVAL);
    assert_int_equal(hadb_engine_open("kv", NULL, NULL, &rig.env, &engine, &err), HADB_EINVAL);
    struct hadb_fs_file *file = NULL;
    unsigned flags = HADB_FS_WRITE | HADB_FS_CREATE;
    assert_int_equal(hadb_fs_open(&rig.fault.inner, "/file", flags, &file, NULL), 0);
    hadb_fs_close(&rig.fault.inner, file);
    int r = hadb_engine_open("kv", "/file/db", NULL, &rig.env, &engine, &err);
    assert_true(r < 0);
    assert_non_null(strstr(err.message, "/file"));
    kvrig_deinit(&rig);
}

static void apply__is_one_write_and_no_fsync_whatever_it_carries(void **state)
{
    (void)state;
    struct kvrig rig;
    kvrig_init(&rig, 1);
    kvrig_must_open(&rig);
    struct hadb_buf txns = {0};
    struct hadb_op op = {.type = HADB_OP_PUT, .key = hadb_slice_str("k")};
    for (hadb_txid i = 1; i <= 100; i++) {
        assert_int_equal(hadb_txn_encode(1, i, 0, &op, 1, &txns, NULL), 0);
    }
    uint64_t writes = rig.fault.per_op[TEST_FS_WRITE], syncs = rig.fault.per_op[TEST_FS_SYNC];
    struct hadb_pos mark = {.term = 1, .slot = 1, .txid = 60};
    int r = hadb_engine_apply(&rig.engine, hadb_buf_slice(&txns), &mark, NULL);
    assert_int_equal(r, 0);
    assert_int_equal(rig.fault.per_op[TEST_FS_WRITE], writes + 1);
    assert_int_equal(rig.fault.per_op[TEST_FS_SYNC], syncs);
    assert_int_equal(hadb_engine_sync(&rig.engine, NULL), 0);
    assert_int_equal(hadb_engine_sync(&rig.engine, NULL), 0); /* nothing new: no second fsync */
    assert_int_equal(rig.fault.per_op[TEST_FS_SYNC], syncs + 1);
    hadb_buf_deinit(&txns);
    kvrig_deinit(&rig);
}

static uint64_t fake_now_ms;
static uint64_t read_fake_now(void *arg)
{
    (void)arg;
    return fake_now_ms;
}

static void cadence__syncs_when_the_last_fsync_is_older(void **state)
{
    (void)state;
    struct kvrig rig;
    kvrig_init(&rig, 1);
    rig.env.now_ms = read_fake_now;
    rig.options.sync_every_ms = 100;
    fake_now_ms = 5000;
    kvrig_must_open(&rig);
    uint64_t syncs = rig.fault.per_op[TEST_FS_SYNC];
    static const struct {
        uint64_t now_ms, syncs;
    } rows[] = {{5000, 0}, {5099, 0}, {5100, 1}, {5101, 1}, {5199, 1}, {5200, 2}, {9000, 3}};
    for (size_t i = 0; i < HADB_LEN(rows); i++) {
        fake_now_ms = rows[i].now_ms;
        assert_int_equal(kvrig_put(&rig, "k", "v", NULL), 0);
        assert_int_equal(rig.fault.per_op[TEST_FS_SYNC] - syncs, rows[i].syncs);
    }
    kvrig_deinit(&rig);
}

/* A failed fsync of the cadence does not fail the write that came with it, but every one after. */
static void cadence__poisons_when_its_fsync_fails(void **state)
{
    (void)state;
    struct kvrig rig;
    kvrig_init(&rig, 1);
    rig.env.now_ms = read_fake_now;
    rig.options.sync_every_ms = 100;
    fake_now_ms = 5000;
    kvrig_must_open(&rig);
    rig.fault.mask = 1u << TEST_FS_SYNC;
    rig.fault.count = 0;
    rig.fault.fail_at = 1;
    fake_now_ms = 6000;
    assert_int_equal(kvrig_put(&rig, "a", "1", NULL), 0);
    assert_true(rig.fault.hit);
    assert_int_equal(kvrig_put(&rig, "b", "2", NULL), HADB_EPOISONED);
    assert_true(rig.warnings > 0);
    assert_int_equal(kvrig_picture(&rig).keys, 1);
    kvrig_deinit(&rig);
}

struct syncer {
    struct kvrig *rig;
    int r;
};
static void sync_once(void *arg)
{
    struct syncer *syncer = arg;
    syncer->r = hadb_engine_sync(&syncer->rig->engine, NULL);
}

static void sync__from_many_threads_covers_all_that_was_applied_before(void **state)
{
    (void)state;
    struct kvrig rig;
    kvrig_init(&rig, 9);
    rig.options.segment_bytes_max = 2000;
    kvrig_must_open(&rig);
    for (unsigned round = 0; round < 30; round++) {
        struct syncer syncers[4];
        struct hadb_thread threads[4] = {{0}};
        assert_int_equal(kvrig_put(&rig, "before", "sync", NULL), 0);
        struct picture want = kvrig_picture(&rig);
        for (size_t i = 0; i < HADB_LEN(threads); i++) {
            syncers[i] = (struct syncer){.rig = &rig, .r = 1};
            int r = hadb_thread_start(&threads[i], "sync", sync_once, &syncers[i], NULL);
            assert_int_equal(r, 0);
        }
        for (unsigned i = 0; i < 20; i++) {
            assert_int_equal(kvrig_put(&rig, "beside", "sync", NULL), 0);
        }
        for (size_t i = 0; i < HADB_LEN(threads); i++) {
            hadb_thread_join(&threads[i]);
            assert_int_equal(syncers[i].r, 0);
        }
        test_memfs_crash(rig.memfs, TEST_MEMFS_RANDOM);
        kvrig_close(&rig);
        kvrig_must_open(&rig);
        struct picture got = kvrig_picture(&rig);
        assert_true(got.last_txid >= want.last_txid);
    }
    kvrig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash__at_any_operation_keeps_a_prefix_that_holds_all_that_was_synced),
        cmocka_unit_test(crash__during_recovery_is_recovered_from),
        cmocka_unit_test(failure__of_any_operation_poisons_or_changes_nothing),
        cmocka_unit_test(full_disk__refuses_and_goes_on_when_there_is_room),
        cmocka_unit_test(lock__keeps_a_second_writer_out_until_it_is_closed),
        cmocka_unit_test(open__names_a_folder_that_cannot_be_one),
        cmocka_unit_test(apply__is_one_write_and_no_fsync_whatever_it_carries),
        cmocka_unit_test(cadence__syncs_when_the_last_fsync_is_older),
        cmocka_unit_test(cadence__poisons_when_its_fsync_fails),
        cmocka_unit_test(sync__from_many_threads_covers_all_that_was_applied_before),
    };
    return cmocka_run_group_tests_name("kv faults", tests, note_states, NULL);
}
