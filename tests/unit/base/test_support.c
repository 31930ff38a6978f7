/* SPDX-License-Identifier: Apache-2.0 */
/* The helpers of the tests themselves: a power cut that forgets, faults that hit, numbers that repeat. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "tests/support/memfs.h"
#include "tests/support/support.h"

#define RW (HADB_FS_READ | HADB_FS_WRITE)

static struct hadb_fs_file *must_open(const struct hadb_fs *fs, const char *path, unsigned flags)
{
    struct hadb_fs_file *file = NULL;
    assert_int_equal(hadb_fs_open(fs, path, flags, &file, NULL), 0);
    return file;
}

static void must_write(const struct hadb_fs *fs, struct hadb_fs_file *file, uint64_t offset,
                       const char *text)
{
    assert_int_equal(hadb_fs_write_at(fs, file, offset, text, strlen(text), NULL), 0);
}

static bool exists(const struct hadb_fs *fs, const char *path)
{
    struct hadb_fs_file *file = NULL;
    int r = hadb_fs_open(fs, path, HADB_FS_READ, &file, NULL);
    hadb_fs_close(fs, file);
    return r == 0;
}

static void assert_text(const struct hadb_fs *fs, const char *path, const char *text)
{
    struct hadb_buf buf = {0};
    assert_int_equal(hadb_fs_read_file(fs, path, 10000, &buf, NULL), 0);
    assert_string_equal(hadb_buf_cstr(&buf), text);
    hadb_buf_deinit(&buf);
}

static void memfs__a_power_cut_drops_data_that_was_not_synced(void **state)
{
    (void)state;
    struct test_memfs *m = test_memfs_new(1);
    struct hadb_fs fs = test_memfs_fs(m);
    struct hadb_fs_file *file = must_open(&fs, "a", RW | HADB_FS_CREATE);
    must_write(&fs, file, 0, "synced");
    assert_int_equal(hadb_fs_sync(&fs, file, NULL), 0);
    assert_int_equal(hadb_fs_sync_dir(&fs, "/", NULL), 0);
    must_write(&fs, file, 3, "lost and longer");
    test_memfs_crash(m, TEST_MEMFS_DROP);
    assert_text(&fs, "a", "synced");
    hadb_fs_close(&fs, file);
    test_memfs_free(m);
}

static void memfs__a_kill_keeps_everything(void **state)
{
    (void)state;
    struct test_memfs *m = test_memfs_new(1);
    struct hadb_fs fs = test_memfs_fs(m);
    struct hadb_fs_file *file = must_open(&fs, "a", RW | HADB_FS_CREATE);
    must_write(&fs, file, 0, "never synced");
    test_memfs_crash(m, TEST_MEMFS_KEEP);
    assert_text(&fs, "a", "never synced");
    hadb_fs_close(&fs, file);
    test_memfs_free(m);
}

static void memfs__handles_die_and_locks_go_with_a_crash(void **state)
{
    (void)state;
    struct test_memfs *m = test_memfs_new(1);
    struct hadb_fs fs = test_memfs_fs(m);
    struct hadb_fs_file *old = must_open(&fs, "a", RW | HADB_FS_CREATE);
    assert_int_equal(hadb_fs_lock(&fs, old, NULL), 0);
    test_memfs_crash(m, TEST_MEMFS_KEEP);
    char byte;
    size_t got;
    uint64_t size;
    assert_int_equal(hadb_fs_read_at(&fs, old, 0, &byte, 1, &got, NULL), HADB_EIO);
    assert_int_equal(hadb_fs_write_at(&fs, old, 0, "x", 1, NULL), HADB_EIO);
    assert_int_equal(hadb_fs_sync(&fs, old, NULL), HADB_EIO);
    assert_int_equal(hadb_fs_truncate(&fs, old, 0, NULL), HADB_EIO);
    assert_int_equal(hadb_fs_size(&fs, old, &size, NULL), HADB_EIO);
    struct hadb_fs_file *fresh = must_open(&fs, "a", RW);
    assert_int_equal(hadb_fs_lock(&fs, fresh, NULL), 0);
    hadb_fs_close(&fs, old);
    /* Closing the dead handle did not take the lock of the living one. */
    struct hadb_fs_file *third = must_open(&fs, "a", RW);
    assert_int_equal(hadb_fs_lock(&fs, third, NULL), HADB_ELOCKED);
    hadb_fs_close(&fs, third);
    hadb_fs_close(&fs, fresh);
    test_memfs_free(m);
}

static void memfs__a_new_file_is_lost_until_its_folder_is_synced(void **state)
{
    (void)state;
    struct test_memfs *m = test_memfs_new(1);
    struct hadb_fs fs = test_memfs_fs(m);
    for (int with_sync_dir = 0; with_sync_dir < 2; with_sync_dir++) {
        struct hadb_fs_file *file = must_open(&fs, "a", RW | HADB_FS_CREATE);
        must_write(&fs, file, 0, "text");
        assert_int_equal(hadb_fs_sync(&fs, file, NULL), 0);
        if (with_sync_dir) {
            assert_int_equal(hadb_fs_sync_dir(&fs, "/", NULL), 0);
        }
        hadb_fs_close(&fs, file);
        test_memfs_crash(m, TEST_MEMFS_DROP);
        assert_int_equal(exists(&fs, "a"), with_sync_dir);
    }
    assert_text(&fs, "a", "text");
    test_memfs_free(m);
}

static void memfs__rename_and_unlink_come_back_until_the_folder_is_synced(void **state)
{
    (void)state;
    struct test_memfs *m = test_memfs_new(1);
    struct hadb_fs fs = test_memfs_fs(m);
    assert_int_equal(hadb_fs_replace_file(&fs, "a", hadb_slice_str("A"), NULL), 0);
    assert_int_equal(hadb_fs_replace_file(&fs, "b", hadb_slice_str("B"), NULL), 0);
    assert_int_equal(hadb_fs_rename(&fs, "a", "b", NULL), 0);
    test_memfs_crash(m, TEST_MEMFS_DROP);
    assert_text(&fs, "a", "A");
    assert_text(&fs, "b", "B");
    assert_int_equal(hadb_fs_unlink(&fs, "a", NULL), 0);
    test_memfs_crash(m, TEST_MEMFS_DROP);
    assert_true(exists(&fs, "a"));
    assert_int_equal(hadb_fs_unlink(&fs, "a", NULL), 0);
    assert_int_equal(hadb_fs_sync_dir(&fs, ".", NULL), 0);
    test_memfs_crash(m, TEST_MEMFS_DROP);
    assert_false(exists(&fs, "a"));
    test_memfs_free(m);
}

static void memfs__replace_file_survives_any_crash_whole(void **state)
{
    (void)state;
    struct test_rng rng;
    test_rng_init(&rng, 0);
    for (int round = 0; round < 200; round++) {
        struct test_memfs *m = test_memfs_new(test_rng_next(&rng));
        struct test_faultfs faulty = {.inner = test_memfs_fs(m), .sticky = true, .torn = true};
        struct hadb_fs fs = test_faultfs(&faulty);
        assert_int_equal(hadb_fs_replace_file(&fs, "a", hadb_slice_str("old"), NULL), 0);
        /* Power goes at one of the operations of the second replace. */
        faulty.fail_at = faulty.count + 1 + test_rng_below(&rng, 6);
        int r = hadb_fs_replace_file(&fs, "a", hadb_slice_str("new, longer"), NULL);
        test_memfs_crash(m, TEST_MEMFS_RANDOM);
        faulty.fail_at = 0;
        struct hadb_buf buf = {0};
        assert_int_equal(hadb_fs_read_file(&fs, "a", 100, &buf, NULL), 0);
        const char *text = hadb_buf_cstr(&buf);
        assert_true(strcmp(text, "new, longer") == 0 || (r < 0 && strcmp(text, "old") == 0));
        hadb_buf_deinit(&buf);
        test_memfs_free(m);
    }
}

/* What a torn file may look like: synced bytes stay; the rest is new bytes, cut anywhere. */
static void memfs__torn_files_keep_what_was_synced_and_a_prefix_of_the_rest(void **state)
{
    (void)state;
    bool seen_none = false, seen_some = false, seen_all = false;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct test_memfs *m = test_memfs_new(seed);
        struct hadb_fs fs = test_memfs_fs(m);
        struct hadb_fs_file *file = must_open(&fs, "a", RW | HADB_FS_CREATE);
        must_write(&fs, file, 0, "synced|");
        assert_int_equal(hadb_fs_sync(&fs, file, NULL), 0);
        assert_int_equal(hadb_fs_sync_dir(&fs, "/", NULL), 0);
        must_write(&fs, file, 7, "0123456789");
        hadb_fs_close(&fs, file);
        test_memfs_crash(m, TEST_MEMFS_TORN);
        struct hadb_buf buf = {0};
        assert_int_equal(hadb_fs_read_file(&fs, "a", 100, &buf, NULL), 0);
        assert_true(buf.len >= 7 && buf.len <= 17);
        assert_memory_equal(buf.data, "synced|0123456789", buf.len);
        seen_none |= buf.len == 7;
        seen_some |= buf.len > 7 && buf.len < 17;
        seen_all |= buf.len == 17;
        hadb_buf_deinit(&buf);
        test_memfs_free(m);
    }
    assert_true(seen_none && seen_some && seen_all);
}

/* A later sector may be there while an earlier one is not. */
static void memfs__mixed_files_lose_any_sectors_but_synced_ones(void **state)
{
    (void)state;
    bool seen_gap = false;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct test_memfs *m = test_memfs_new(seed);
        struct hadb_fs fs = test_memfs_fs(m);
        struct hadb_fs_file *file = must_open(&fs, "a", RW | HADB_FS_CREATE);
        uint8_t sectors[4 * 512];
        memset(sectors, 's', 512);
        memset(sectors + 512, 'n', sizeof sectors - 512);
        assert_int_equal(hadb_fs_write_at(&fs, file, 0, sectors, 512, NULL), 0);
        assert_int_equal(hadb_fs_sync(&fs, file, NULL), 0);
        assert_int_equal(hadb_fs_sync_dir(&fs, "/", NULL), 0);
        assert_int_equal(hadb_fs_write_at(&fs, file, 512, sectors + 512, 3 * 512, NULL), 0);
        hadb_fs_close(&fs, file);
        test_memfs_crash(m, TEST_MEMFS_MIXED);
        struct hadb_buf buf = {0};
        assert_int_equal(hadb_fs_read_file(&fs, "a", 4096, &buf, NULL), 0);
        assert_true(buf.len >= 512 && buf.len <= sizeof sectors);
        assert_memory_equal(buf.data, sectors, 512);
        for (size_t i = 512; i < buf.len; i++) {
            assert_true(buf.data[i] == 'n' || buf.data[i] == 0);
        }
        seen_gap |= buf.len > 1024 && buf.data[512] == 0 && buf.data[1024] == 'n';
        hadb_buf_deinit(&buf);
        test_memfs_free(m);
    }
    assert_true(seen_gap);
}

static void memfs__same_seed_same_crash(void **state)
{
    (void)state;
    struct hadb_buf seen[2] = {{0}};
    for (int round = 0; round < 2; round++) {
        struct test_memfs *m = test_memfs_new(42);
        struct hadb_fs fs = test_memfs_fs(m);
        for (int crash = 0; crash < 20; crash++) {
            struct hadb_fs_file *file = must_open(&fs, "a", RW | HADB_FS_CREATE);
            must_write(&fs, file, (uint64_t)crash * 10, "0123456789012345678901234567890");
            hadb_fs_close(&fs, file);
            test_memfs_crash(m, TEST_MEMFS_RANDOM);
            struct hadb_buf buf = {0};
            int r = hadb_fs_read_file(&fs, "a", 10000, &buf, NULL);
            hadb_buf_printf(&seen[round], "%d:%zu,", r, buf.len);
            hadb_buf_deinit(&buf);
        }
        test_memfs_free(m);
    }
    assert_string_equal(hadb_buf_cstr(&seen[0]), hadb_buf_cstr(&seen[1]));
    hadb_buf_deinit(&seen[0]);
    hadb_buf_deinit(&seen[1]);
}

static void memfs__a_full_disk_takes_what_fits(void **state)
{
    (void)state;
    struct test_memfs *m = test_memfs_new(1);
    struct hadb_fs fs = test_memfs_fs(m);
    test_memfs_capacity(m, 10);
    struct hadb_fs_file *file = must_open(&fs, "a", RW | HADB_FS_CREATE);
    must_write(&fs, file, 0, "01234567");
    assert_int_equal(hadb_fs_write_at(&fs, file, 8, "89ab", 4, NULL), HADB_ENOSPC);
    assert_text(&fs, "a", "0123456789");
    assert_int_equal(test_memfs_bytes(m), 10);
    must_write(&fs, file, 0, "overwrite");
    hadb_fs_close(&fs, file);
    test_memfs_free(m);
}

static void memfs__bytes_are_given_back(void **state)
{
    (void)state;
    struct test_memfs *m = test_memfs_new(1);
    struct hadb_fs fs = test_memfs_fs(m);
    assert_int_equal(hadb_fs_replace_file(&fs, "a", hadb_slice_str("12345"), NULL), 0);
    assert_int_equal(hadb_fs_replace_file(&fs, "a", hadb_slice_str("1"), NULL), 0);
    assert_int_equal(test_memfs_bytes(m), 1);
    assert_int_equal(hadb_fs_unlink(&fs, "a", NULL), 0);
    assert_int_equal(hadb_fs_sync_dir(&fs, "/", NULL), 0);
    assert_int_equal(test_memfs_bytes(m), 0);
    test_memfs_free(m);
}

static void memfs__a_folder_cannot_move_into_itself(void **state)
{
    (void)state;
    struct test_memfs *m = test_memfs_new(1);
    struct hadb_fs fs = test_memfs_fs(m);
    struct hadb_error err = {0};
    assert_int_equal(hadb_fs_mkdir_all(&fs, "a/b", NULL), 0);
    assert_int_equal(hadb_fs_rename(&fs, "a", "a/b/c", &err), HADB_EIO);
    assert_int_equal(err.sys_errno, EINVAL);
    test_memfs_free(m);
}

static void faultfs__only_the_nth_of_the_masked_operations_fails(void **state)
{
    (void)state;
    struct test_memfs *m = test_memfs_new(1);
    struct test_faultfs faulty = {
        .inner = test_memfs_fs(m), .mask = 1u << TEST_FS_WRITE, .fail_at = 2, .sys_errno = ENOSPC};
    struct hadb_fs fs = test_faultfs(&faulty);
    struct hadb_fs_file *file = must_open(&fs, "a", RW | HADB_FS_CREATE);
    must_write(&fs, file, 0, "1");
    assert_int_equal(hadb_fs_sync(&fs, file, NULL), 0);
    assert_false(faulty.hit);
    assert_int_equal(hadb_fs_write_at(&fs, file, 1, "22", 2, NULL), HADB_ENOSPC);
    assert_true(faulty.hit);
    must_write(&fs, file, 1, "3");
    assert_text(&fs, "a", "13");
    assert_int_equal(faulty.per_op[TEST_FS_WRITE], 3);
    assert_int_equal(faulty.per_op[TEST_FS_SYNC], 1);
    assert_int_equal(faulty.count, 3);
    hadb_fs_close(&fs, file);
    test_memfs_free(m);
}

static void faultfs__sticky_faults_last_and_torn_writes_leave_half(void **state)
{
    (void)state;
    struct test_memfs *m = test_memfs_new(1);
    struct hadb_fs inner = test_memfs_fs(m);
    struct test_faultfs faulty = {.inner = inner, .fail_at = 2, .sticky = true, .torn = true};
    struct hadb_fs fs = test_faultfs(&faulty);
    struct hadb_fs_file *file = must_open(&fs, "a", RW | HADB_FS_CREATE);
    assert_int_equal(hadb_fs_write_at(&fs, file, 0, "half", 4, NULL), HADB_EIO);
    assert_int_equal(hadb_fs_sync(&fs, file, NULL), HADB_EIO);
    assert_int_equal(hadb_fs_unlink(&fs, "a", NULL), HADB_EIO);
    hadb_fs_close(&fs, file);
    assert_text(&inner, "a", "ha");
    test_memfs_free(m);
}

static void rng__same_seed_same_numbers(void **state)
{
    (void)state;
    struct test_rng a, b;
    test_rng_seed(&a, 7);
    test_rng_seed(&b, 7);
    for (int i = 0; i < 100; i++) {
        assert_true(test_rng_next(&a) == test_rng_next(&b));
    }
    test_rng_seed(&b, 8);
    assert_false(test_rng_next(&a) == test_rng_next(&b));
}

/* The reference implementation's first numbers for the state 1, 2, 3, 4. */
static void rng__is_the_published_generator(void **state)
{
    (void)state;
    struct test_rng rng = {.s = {1, 2, 3, 4}};
    assert_true(test_rng_next(&rng) == 11520u);
    assert_true(test_rng_next(&rng) == 0u);
    assert_true(test_rng_next(&rng) == 1509978240u);
    assert_true(test_rng_next(&rng) == 1215971899390074240u);
}

static void rng__the_environment_sets_the_seed(void **state)
{
    (void)state;
    const char *old = getenv("HADB_TEST_SEED");
    char *saved = old ? strdup(old) : NULL;
    setenv("HADB_TEST_SEED", "12345", 1);
    struct test_rng rng;
    test_rng_init(&rng, 6);
    assert_int_equal(rng.seed, 12345);
    unsetenv("HADB_TEST_SEED");
    test_rng_init(&rng, 6);
    assert_int_equal(rng.seed, 6);
    if (saved) {
        setenv("HADB_TEST_SEED", saved, 1);
        free(saved);
    }
}

static void port__is_one(void **state)
{
    (void)state;
    assert_true(test_port_free() >= 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memfs__a_power_cut_drops_data_that_was_not_synced),
        cmocka_unit_test(memfs__a_kill_keeps_everything),
        cmocka_unit_test(memfs__handles_die_and_locks_go_with_a_crash),
        cmocka_unit_test(memfs__a_new_file_is_lost_until_its_folder_is_synced),
        cmocka_unit_test(memfs__rename_and_unlink_come_back_until_the_folder_is_synced),
        cmocka_unit_test(memfs__replace_file_survives_any_crash_whole),
        cmocka_unit_test(memfs__torn_files_keep_what_was_synced_and_a_prefix_of_the_rest),
        cmocka_unit_test(memfs__mixed_files_lose_any_sectors_but_synced_ones),
        cmocka_unit_test(memfs__same_seed_same_crash),
        cmocka_unit_test(memfs__a_full_disk_takes_what_fits),
        cmocka_unit_test(memfs__bytes_are_given_back),
        cmocka_unit_test(memfs__a_folder_cannot_move_into_itself),
        cmocka_unit_test(faultfs__only_the_nth_of_the_masked_operations_fails),
        cmocka_unit_test(faultfs__sticky_faults_last_and_torn_writes_leave_half),
        cmocka_unit_test(rng__same_seed_same_numbers),
        cmocka_unit_test(rng__is_the_published_generator),
        cmocka_unit_test(rng__the_environment_sets_the_seed),
        cmocka_unit_test(port__is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
