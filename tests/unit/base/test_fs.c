/* SPDX-License-Identifier: Apache-2.0 */
/* Files: each test of the first group runs on the host's file system and on the one in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/thread.h"
#include "tests/support/memfs.h"
#include "tests/support/support.h"

#define RW (HADB_FS_READ | HADB_FS_WRITE)

/* A file system with an empty folder of its own. */
struct place {
    struct hadb_fs fs;
    struct test_memfs *memfs;
    char folder[HADB_PATH_BYTES_MAX];
    char path[4][HADB_PATH_BYTES_MAX]; /* "a".."d" in the folder */
};

static void place_names(struct place *p)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < HADB_LEN(names); i++) {
        assert_int_equal(hadb_path_join(p->path[i], p->folder, names[i], NULL), 0);
    }
}

static int on_host(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->fs = hadb_fs_host();
    test_tmp_make(p->folder);
    place_names(p);
    *state = p;
    return 0;
}

static int on_memfs(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->memfs = test_memfs_new(1);
    p->fs = test_memfs_fs(p->memfs);
    strcpy(p->folder, "/data");
    assert_int_equal(hadb_fs_mkdir(&p->fs, p->folder, NULL), 0);
    place_names(p);
    *state = p;
    return 0;
}

static int leave(void **state)
{
    struct place *p = *state;
    if (p->memfs) {
        test_memfs_free(p->memfs);
    } else {
        test_tmp_remove(p->folder);
    }
    free(p);
    return 0;
}

static struct hadb_fs_file *must_open(struct place *p, const char *path, unsigned flags)
{
    struct hadb_fs_file *file = NULL;
    struct hadb_error err = {0};
    if (hadb_fs_open(&p->fs, path, flags, &file, &err) != 0) {
        fail_msg("open %s: %s", path, err.message);
    }
    return file;
}

static void must_write(struct place *p, const char *path, const char *text)
{
    struct hadb_fs_file *file = must_open(p, path, HADB_FS_WRITE | HADB_FS_CREATE | HADB_FS_TRUNC);
    assert_int_equal(hadb_fs_write_at(&p->fs, file, 0, text, strlen(text), NULL), 0);
    hadb_fs_close(&p->fs, file);
}

static void assert_text(struct place *p, const char *path, const char *text)
{
    struct hadb_buf buf = {0};
    assert_int_equal(hadb_fs_read_file(&p->fs, path, 1000, &buf, NULL), 0);
    assert_int_equal(buf.len, strlen(text));
    assert_memory_equal(hadb_buf_cstr(&buf), text, buf.len);
    hadb_buf_deinit(&buf);
}

static int count_entry(void *arg, const char *name, bool is_dir)
{
    unsigned *counts = arg;
    assert_string_not_equal(name, ".");
    assert_string_not_equal(name, "..");
    counts[is_dir]++;
    return 0;
}

static void fs__reads_back_what_was_written_at_any_offset(void **state)
{
    struct place *p = *state;
    struct hadb_fs_file *file = must_open(p, p->path[0], RW | HADB_FS_CREATE);
    assert_int_equal(hadb_fs_write_at(&p->fs, file, 10, "world", 5, NULL), 0);
    assert_int_equal(hadb_fs_write_at(&p->fs, file, 4, "hello ", 6, NULL), 0);
    uint64_t size = 0;
    assert_int_equal(hadb_fs_size(&p->fs, file, &size, NULL), 0);
    assert_int_equal(size, 15);
    char text[32];
    size_t got = 99;
    assert_int_equal(hadb_fs_read_at(&p->fs, file, 0, text, sizeof text, &got, NULL), 0);
    assert_int_equal(got, 15);
    assert_memory_equal(text, "\0\0\0\0hello world", 15);
    assert_int_equal(hadb_fs_read_at(&p->fs, file, 15, text, sizeof text, &got, NULL), 0);
    assert_int_equal(got, 0);
    assert_int_equal(hadb_fs_read_at(&p->fs, file, 1000, text, sizeof text, &got, NULL), 0);
    assert_int_equal(got, 0);
    assert_int_equal(hadb_fs_sync(&p->fs, file, NULL), 0);
    hadb_fs_close(&p->fs, file);
    hadb_fs_close(&p->fs, NULL);
}

static void fs__truncate_cuts_and_grows_with_zeroes(void **state)
{
    struct place *p = *state;
    struct hadb_fs_file *file = must_open(p, p->path[0], RW | HADB_FS_CREATE);
    assert_int_equal(hadb_fs_write_at(&p->fs, file, 0, "abcdef", 6, NULL), 0);
    assert_int_equal(hadb_fs_truncate(&p->fs, file, 2, NULL), 0);
    assert_int_equal(hadb_fs_truncate(&p->fs, file, 4, NULL), 0);
    char text[8];
    size_t got = 0;
    assert_int_equal(hadb_fs_read_at(&p->fs, file, 0, text, sizeof text, &got, NULL), 0);
    assert_int_equal(got, 4);
    assert_memory_equal(text, "ab\0\0", 4);
    hadb_fs_close(&p->fs, file);
}

static void fs__open_tells_absent_and_exists(void **state)
{
    struct place *p = *state;
    struct hadb_fs_file *file = NULL;
    assert_int_equal(hadb_fs_open(&p->fs, p->path[0], HADB_FS_READ, &file, NULL), HADB_ABSENT);
    must_write(p, p->path[0], "x");
    assert_int_equal(hadb_fs_open(&p->fs, p->path[0], HADB_FS_WRITE | HADB_FS_CREATE | HADB_FS_EXCL,
                                  &file, NULL),
                     HADB_EXISTS);
    assert_null(file);
    char below[HADB_PATH_BYTES_MAX];
    assert_int_equal(hadb_path_join(below, p->path[1], "x", NULL), 0);
    assert_int_equal(hadb_fs_open(&p->fs, below, HADB_FS_WRITE | HADB_FS_CREATE, &file, NULL),
                     HADB_ABSENT);
}

static void fs__open_with_create_keeps_and_with_trunc_empties(void **state)
{
    struct place *p = *state;
    must_write(p, p->path[0], "text");
    hadb_fs_close(&p->fs, must_open(p, p->path[0], RW | HADB_FS_CREATE));
    assert_text(p, p->path[0], "text");
    hadb_fs_close(&p->fs, must_open(p, p->path[0], RW | HADB_FS_TRUNC));
    assert_text(p, p->path[0], "");
}

static void fs__rename_replaces(void **state)
{
    struct place *p = *state;
    must_write(p, p->path[0], "new");
    must_write(p, p->path[1], "old");
    assert_int_equal(hadb_fs_rename(&p->fs, p->path[0], p->path[1], NULL), 0);
    assert_text(p, p->path[1], "new");
    struct hadb_fs_file *file = NULL;
    assert_int_equal(hadb_fs_open(&p->fs, p->path[0], HADB_FS_READ, &file, NULL), HADB_ABSENT);
    struct hadb_error err = {0};
    assert_int_equal(hadb_fs_rename(&p->fs, p->path[0], p->path[1], &err), HADB_EIO);
    assert_int_equal(err.sys_errno, ENOENT);
}

static void fs__link_never_replaces(void **state)
{
    struct place *p = *state;
    must_write(p, p->path[0], "one");
    must_write(p, p->path[1], "two");
    assert_int_equal(hadb_fs_link(&p->fs, p->path[0], p->path[1], NULL), HADB_EXISTS);
    assert_text(p, p->path[1], "two");
    assert_int_equal(hadb_fs_link(&p->fs, p->path[0], p->path[2], NULL), 0);
    assert_int_equal(hadb_fs_unlink(&p->fs, p->path[0], NULL), 0);
    assert_text(p, p->path[2], "one");
    assert_int_equal(hadb_fs_link(&p->fs, p->path[0], p->path[3], NULL), HADB_EIO);
}

static void fs__unlink_and_rmdir_tell_absent(void **state)
{
    struct place *p = *state;
    assert_int_equal(hadb_fs_unlink(&p->fs, p->path[0], NULL), HADB_ABSENT);
    assert_int_equal(hadb_fs_rmdir(&p->fs, p->path[0], NULL), HADB_ABSENT);
    assert_int_equal(hadb_fs_mkdir(&p->fs, p->path[0], NULL), 0);
    assert_true(hadb_fs_unlink(&p->fs, p->path[0], NULL) < 0);
    assert_int_equal(hadb_fs_rmdir(&p->fs, p->path[0], NULL), 0);
}

static void fs__an_unlinked_file_can_still_be_read_by_its_handle(void **state)
{
    struct place *p = *state;
    must_write(p, p->path[0], "text");
    struct hadb_fs_file *file = must_open(p, p->path[0], HADB_FS_READ);
    assert_int_equal(hadb_fs_unlink(&p->fs, p->path[0], NULL), 0);
    char text[4];
    size_t got = 0;
    assert_int_equal(hadb_fs_read_at(&p->fs, file, 0, text, sizeof text, &got, NULL), 0);
    assert_memory_equal(text, "text", 4);
    hadb_fs_close(&p->fs, file);
}

static void fs__mkdir_is_done_when_the_folder_exists_and_fails_on_a_file(void **state)
{
    struct place *p = *state;
    assert_int_equal(hadb_fs_mkdir(&p->fs, p->path[0], NULL), 0);
    assert_int_equal(hadb_fs_mkdir(&p->fs, p->path[0], NULL), 0);
    must_write(p, p->path[1], "x");
    struct hadb_error err = {0};
    assert_int_equal(hadb_fs_mkdir(&p->fs, p->path[1], &err), HADB_EIO);
    assert_int_equal(err.sys_errno, ENOTDIR);
}

static void fs__mkdir_all_makes_the_missing_parents(void **state)
{
    struct place *p = *state;
    char deep[HADB_PATH_BYTES_MAX];
    assert_int_equal(hadb_path_join(deep, p->path[0], "b/c//d/", NULL), 0);
    assert_int_equal(hadb_fs_mkdir_all(&p->fs, deep, NULL), 0);
    assert_int_equal(hadb_fs_mkdir_all(&p->fs, deep, NULL), 0);
    assert_int_equal(hadb_path_join(deep, p->path[0], "b/c/d/file", NULL), 0);
    must_write(p, deep, "x");
    assert_text(p, deep, "x");
    /* A file in the way. */
    assert_int_equal(hadb_path_join(deep, p->path[0], "b/c/d/file/below", NULL), 0);
    struct hadb_error err = {0};
    assert_true(hadb_fs_mkdir_all(&p->fs, deep, &err) < 0);
    assert_int_equal(hadb_fs_mkdir_all(&p->fs, "", NULL), HADB_EINVAL);
}

static void fs__list_shows_each_entry_once(void **state)
{
    struct place *p = *state;
    must_write(p, p->path[0], "x");
    must_write(p, p->path[1], "x");
    assert_int_equal(hadb_fs_mkdir(&p->fs, p->path[2], NULL), 0);
    unsigned counts[2] = {0};
    assert_int_equal(hadb_fs_list(&p->fs, p->folder, count_entry, counts, NULL), 0);
    assert_int_equal(counts[0], 2);
    assert_int_equal(counts[1], 1);
    assert_int_equal(hadb_fs_list(&p->fs, p->path[3], count_entry, counts, NULL), HADB_ABSENT);
    assert_true(hadb_fs_list(&p->fs, p->path[0], count_entry, counts, NULL) < 0);
}

static int stop_at_once(void *arg, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    ++*(int *)arg;
    return HADB_ECANCELED;
}

static void fs__list_stops_and_returns_what_its_visitor_returned(void **state)
{
    struct place *p = *state;
    must_write(p, p->path[0], "x");
    must_write(p, p->path[1], "x");
    int calls = 0;
    assert_int_equal(hadb_fs_list(&p->fs, p->folder, stop_at_once, &calls, NULL), HADB_ECANCELED);
    assert_int_equal(calls, 1);
}

static void fs__read_file_knows_absent_and_too_big(void **state)
{
    struct place *p = *state;
    struct hadb_buf buf = {0};
    assert_int_equal(hadb_fs_read_file(&p->fs, p->path[0], 10, &buf, NULL), HADB_ABSENT);
    must_write(p, p->path[0], "0123456789");
    assert_int_equal(hadb_fs_read_file(&p->fs, p->path[0], 10, &buf, NULL), 0);
    assert_int_equal(buf.len, 10);
    assert_int_equal(hadb_fs_read_file(&p->fs, p->path[0], 9, &buf, NULL), HADB_ETOOBIG);
    assert_int_equal(buf.len, 10);
    hadb_buf_deinit(&buf);
}

static void fs__replace_file_creates_and_replaces_and_leaves_nothing_else(void **state)
{
    struct place *p = *state;
    assert_int_equal(hadb_fs_replace_file(&p->fs, p->path[0], hadb_slice_str("one"), NULL), 0);
    assert_text(p, p->path[0], "one");
    assert_int_equal(hadb_fs_replace_file(&p->fs, p->path[0], hadb_slice_str(""), NULL), 0);
    assert_text(p, p->path[0], "");
    unsigned counts[2] = {0};
    assert_int_equal(hadb_fs_list(&p->fs, p->folder, count_entry, counts, NULL), 0);
    assert_int_equal(counts[0] + counts[1], 1);
}

static void fs__a_failed_replace_keeps_the_old_file_and_no_temporary_one(void **state)
{
    struct place *p = *state;
    must_write(p, p->path[0], "old");
    static const enum test_fs_op until_rename[] = {TEST_FS_OPEN, TEST_FS_WRITE, TEST_FS_SYNC,
                                                   TEST_FS_RENAME};
    for (size_t i = 0; i < HADB_LEN(until_rename); i++) {
        struct test_faultfs faulty = {
            .inner = p->fs, .mask = 1u << until_rename[i], .fail_at = 1, .torn = true};
        struct hadb_fs fs = test_faultfs(&faulty);
        assert_int_equal(hadb_fs_replace_file(&fs, p->path[0], hadb_slice_str("new text"), NULL),
                         HADB_EIO);
        assert_true(faulty.hit);
        assert_text(p, p->path[0], "old");
        unsigned counts[2] = {0};
        assert_int_equal(hadb_fs_list(&p->fs, p->folder, count_entry, counts, NULL), 0);
        assert_int_equal(counts[0], 1);
    }
}

static void fs__replace_file_into_a_missing_folder_fails(void **state)
{
    struct place *p = *state;
    char below[HADB_PATH_BYTES_MAX];
    assert_int_equal(hadb_path_join(below, p->path[0], "file", NULL), 0);
    struct hadb_error err = {0};
    assert_int_equal(hadb_fs_replace_file(&p->fs, below, hadb_slice_str("x"), &err), HADB_EIO);
    assert_non_null(strstr(err.message, "no such folder"));
}

static void fs__remove_all_removes_a_tree(void **state)
{
    struct place *p = *state;
    char deep[HADB_PATH_BYTES_MAX];
    assert_int_equal(hadb_path_join(deep, p->path[0], "x/y", NULL), 0);
    assert_int_equal(hadb_fs_mkdir_all(&p->fs, deep, NULL), 0);
    assert_int_equal(hadb_path_join(deep, p->path[0], "x/file", NULL), 0);
    must_write(p, deep, "x");
    assert_int_equal(hadb_fs_remove_all(&p->fs, p->path[0], NULL), 0);
    assert_int_equal(hadb_fs_remove_all(&p->fs, p->path[0], NULL), HADB_ABSENT);
}

static void fs__a_lock_excludes_every_other_handle_until_closed(void **state)
{
    struct place *p = *state;
    struct hadb_fs_file *one = must_open(p, p->path[0], RW | HADB_FS_CREATE);
    struct hadb_fs_file *two = must_open(p, p->path[0], RW);
    assert_int_equal(hadb_fs_lock(&p->fs, one, NULL), 0);
    assert_int_equal(hadb_fs_lock(&p->fs, one, NULL), 0);
    struct hadb_error err = {0};
    assert_int_equal(hadb_fs_lock(&p->fs, two, &err), HADB_ELOCKED);
    assert_int_equal(err.code, HADB_ELOCKED);
    hadb_fs_close(&p->fs, two);
    /* Unlike a POSIX lock, closing another handle of the file did not drop it. */
    two = must_open(p, p->path[0], RW);
    assert_int_equal(hadb_fs_lock(&p->fs, two, NULL), HADB_ELOCKED);
    hadb_fs_close(&p->fs, one);
    assert_int_equal(hadb_fs_lock(&p->fs, two, NULL), 0);
    hadb_fs_close(&p->fs, two);
}

/* From here on: the host only. */

static void host__a_lock_excludes_another_process(void **state)
{
    struct place *p = *state;
    int go[2], done[2];
    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(done), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(go[1]);
        struct hadb_fs_file *file = NULL;
        int r = hadb_fs_open(&p->fs, p->path[0], RW | HADB_FS_CREATE, &file, NULL);
        r = r ? r : hadb_fs_lock(&p->fs, file, NULL);
        char byte = (char)r;
        if (write(done[1], &byte, 1) != 1 || read(go[0], &byte, 1) < 0) {
            _exit(1);
        }
        _exit(0); /* the lock goes with the process */
    }
    close(done[1]);
    close(go[0]);
    char byte = 1;
    assert_int_equal(read(done[0], &byte, 1), 1);
    assert_int_equal(byte, 0);
    struct hadb_fs_file *file = must_open(p, p->path[0], RW);
    struct hadb_error err = {0};
    assert_int_equal(hadb_fs_lock(&p->fs, file, &err), HADB_ELOCKED);
    assert_string_equal(err.message, "locked by another process");
    close(go[1]);
    int status = 1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(hadb_fs_lock(&p->fs, file, NULL), 0);
    hadb_fs_close(&p->fs, file);
    close(done[0]);
}

static void host__zero_fs_and_null_fs_are_the_host(void **state)
{
    struct place *p = *state;
    struct hadb_fs zero = {0};
    assert_int_equal(hadb_fs_replace_file(&zero, p->path[0], hadb_slice_str("x"), NULL), 0);
    struct hadb_buf buf = {0};
    assert_int_equal(hadb_fs_read_file(NULL, p->path[0], 10, &buf, NULL), 0);
    assert_int_equal(buf.len, 1);
    hadb_buf_deinit(&buf);
}

static void host__descriptors_are_closed_on_exec(void **state)
{
    struct place *p = *state;
    int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(before);
    struct hadb_fs_file *file = must_open(p, p->path[0], RW | HADB_FS_CREATE);
    /* The lowest free number is what open() just gave it. */
    assert_int_equal(fcntl(before, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    hadb_fs_close(&p->fs, file);
    assert_int_equal(fcntl(before, F_GETFD), -1);
}

static void host__files_are_not_for_others(void **state)
{
    struct place *p = *state;
    must_write(p, p->path[0], "x");
    assert_int_equal(hadb_fs_mkdir(&p->fs, p->path[1], NULL), 0);
    struct stat st;
    assert_int_equal(stat(p->path[0], &st), 0);
    assert_int_equal(st.st_mode & 07, 0);
    assert_int_equal(stat(p->path[1], &st), 0);
    assert_int_equal(st.st_mode & 07, 0);
}

static void host__remove_all_removes_a_symbolic_link_not_its_target(void **state)
{
    struct place *p = *state;
    assert_int_equal(hadb_fs_mkdir(&p->fs, p->path[0], NULL), 0);
    must_write(p, p->path[1], "kept");
    char link_path[HADB_PATH_BYTES_MAX];
    assert_int_equal(hadb_path_join(link_path, p->path[0], "link", NULL), 0);
    assert_int_equal(symlink(p->folder, link_path), 0);
    assert_int_equal(hadb_fs_remove_all(&p->fs, p->path[0], NULL), 0);
    assert_text(p, p->path[1], "kept");
}

static void host__errors_name_the_path_and_carry_errno(void **state)
{
    struct place *p = *state;
    struct hadb_fs_file *file = NULL;
    struct hadb_error err = {0};
    assert_int_equal(hadb_fs_open(&p->fs, p->folder, HADB_FS_WRITE, &file, &err), HADB_EIO);
    assert_int_equal(err.sys_errno, EISDIR);
    assert_non_null(strstr(err.message, p->folder));
}

static void host__a_full_disk_is_enospc(void **state)
{
    struct place *p = *state;
    struct hadb_error err = {0};
    struct hadb_fs_file *full = must_open(p, "/dev/full", HADB_FS_WRITE);
    assert_int_equal(hadb_fs_write_at(&p->fs, full, 0, "x", 1, &err), HADB_ENOSPC);
    assert_int_equal(err.code, HADB_ENOSPC);
    hadb_fs_close(&p->fs, full);
}

static void host__open_without_memory_is_enomem_and_leaks_nothing(void **state)
{
    struct place *p = *state;
    struct hadb_fs_file *file = NULL;
    test_alloc_fail_at(1);
    int r = hadb_fs_open(&p->fs, p->path[0], RW | HADB_FS_CREATE, &file, NULL);
    test_alloc_reset();
    assert_int_equal(r, HADB_ENOMEM);
    assert_null(file);
}

static void host__read_and_remove_survive_every_failing_allocation(void **state)
{
    struct place *p = *state;
    char deep[HADB_PATH_BYTES_MAX];
    assert_int_equal(hadb_path_join(deep, p->path[0], "x/y", NULL), 0);
    assert_int_equal(hadb_fs_mkdir_all(&p->fs, deep, NULL), 0);
    must_write(p, p->path[1], "text");
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        struct hadb_buf buf = {0};
        struct hadb_error err = {0};
        test_alloc_fail_at(n);
        int r = hadb_fs_read_file(&p->fs, p->path[1], 10, &buf, &err);
        r = r < 0 ? r : hadb_fs_remove_all(&p->fs, p->path[0], &err);
        hit = test_alloc_hit();
        hadb_buf_deinit(&buf);
        int64_t live = test_alloc_live();
        test_alloc_reset();
        assert_int_equal(r, hit ? HADB_ENOMEM : 0);
        assert_int_equal(err.code, r);
        assert_int_equal(live, 0);
        assert_true(n < 100);
    }
    assert_int_equal(hadb_fs_remove_all(&p->fs, p->path[0], NULL), HADB_ABSENT);
}

static void replace_often(void *arg)
{
    const struct place *p = arg;
    char text[2000];
    for (int i = 0; i < 20; i++) {
        memset(text, 'a' + i, sizeof text);
        int r = hadb_fs_replace_file(&p->fs, p->path[0], hadb_slice(text, sizeof text), NULL);
        HADB_ASSERT(r == 0);
    }
}

static void host__threads_that_replace_one_file_never_tear_it(void **state)
{
    struct place *p = *state;
    struct hadb_thread threads[4] = {0};
    for (size_t i = 0; i < HADB_LEN(threads); i++) {
        assert_int_equal(hadb_thread_start(&threads[i], "replace", replace_often, p, NULL), 0);
    }
    struct hadb_buf buf = {0};
    for (int i = 0; i < 50; i++) {
        int r = hadb_fs_read_file(&p->fs, p->path[0], 3000, &buf, NULL);
        assert_true(r == HADB_ABSENT || r == 0);
        for (size_t at = 0; r == 0 && at < 2000; at++) {
            assert_int_equal(buf.len, 2000);
            assert_int_equal(buf.data[at], buf.data[0]);
        }
    }
    for (size_t i = 0; i < HADB_LEN(threads); i++) {
        hadb_thread_join(&threads[i]);
    }
    unsigned counts[2] = {0};
    assert_int_equal(hadb_fs_list(&p->fs, p->folder, count_entry, counts, NULL), 0);
    assert_int_equal(counts[0], 1);
    hadb_buf_deinit(&buf);
}

static void path__join_adds_one_slash_and_has_a_limit(void **state)
{
    (void)state;
    char out[HADB_PATH_BYTES_MAX];
    assert_int_equal(hadb_path_join(out, "/a", "b", NULL), 0);
    assert_string_equal(out, "/a/b");
    assert_int_equal(hadb_path_join(out, "/", "b", NULL), 0);
    assert_string_equal(out, "/b");
    char longest[HADB_PATH_BYTES_MAX];
    memset(longest, 'x', sizeof longest);
    longest[HADB_PATH_BYTES_MAX - 2] = '\0';
    assert_int_equal(hadb_path_join(out, "a", longest + 1, NULL), 0);
    assert_int_equal(hadb_path_join(out, "a", longest, NULL), HADB_ETOOBIG);
}

static void temp__names_are_recognised(void **state)
{
    (void)state;
    char path[HADB_PATH_BYTES_MAX], other[HADB_PATH_BYTES_MAX];
    assert_int_equal(hadb_fs_temp_path(path, "dir/node.id", NULL), 0);
    assert_int_equal(hadb_fs_temp_path(other, "dir/node.id", NULL), 0);
    assert_string_not_equal(path, other);
    assert_true(hadb_fs_is_temp(strrchr(path, '/') + 1));
    assert_false(hadb_fs_is_temp("node.id"));
    assert_false(hadb_fs_is_temp("node.tmp.0123456789abcdeg"));
    assert_false(hadb_fs_is_temp(".tmp.0123456789abcdef"));
    assert_false(hadb_fs_is_temp(""));
}

#define BOTH(test)                                     \
    {#test " (host)", test, on_host, leave, NULL},     \
    {                                                  \
        #test " (memory)", test, on_memfs, leave, NULL \
    }
#define HOST(test) {#test, test, on_host, leave, NULL}

/* The numbers are those of statfs(2). */
static void network__file_systems_are_known_by_their_type(void **state)
{
    (void)state;
    assert_string_equal(hadb_fs_network_type(0x6969), "nfs");
    assert_string_equal(hadb_fs_network_type((long)0xff534d42u), "cifs");
    assert_string_equal(hadb_fs_network_type((int)0xfe534d42u), "smb"); /* where f_type is an int */
    assert_string_equal(hadb_fs_network_type(0x65735546), "fuse");
    assert_null(hadb_fs_network_type(0xef53));     /* ext4 */
    assert_null(hadb_fs_network_type(0x794c7630)); /* overlayfs */
    assert_null(hadb_fs_network_type(0x01021994)); /* tmpfs */
    assert_null(hadb_fs_network(NULL, "/proc/no/such/folder"));
    assert_null(hadb_fs_network(NULL, ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(fs__reads_back_what_was_written_at_any_offset),
        BOTH(fs__truncate_cuts_and_grows_with_zeroes),
        BOTH(fs__open_tells_absent_and_exists),
        BOTH(fs__open_with_create_keeps_and_with_trunc_empties),
        BOTH(fs__rename_replaces),
        BOTH(fs__link_never_replaces),
        BOTH(fs__unlink_and_rmdir_tell_absent),
        BOTH(fs__an_unlinked_file_can_still_be_read_by_its_handle),
        BOTH(fs__mkdir_is_done_when_the_folder_exists_and_fails_on_a_file),
        BOTH(fs__mkdir_all_makes_the_missing_parents),
        BOTH(fs__list_shows_each_entry_once),
        BOTH(fs__list_stops_and_returns_what_its_visitor_returned),
        BOTH(fs__read_file_knows_absent_and_too_big),
        BOTH(fs__replace_file_creates_and_replaces_and_leaves_nothing_else),
        BOTH(fs__a_failed_replace_keeps_the_old_file_and_no_temporary_one),
        BOTH(fs__replace_file_into_a_missing_folder_fails),
        BOTH(fs__remove_all_removes_a_tree),
        BOTH(fs__a_lock_excludes_every_other_handle_until_closed),
        HOST(host__a_lock_excludes_another_process),
        HOST(host__zero_fs_and_null_fs_are_the_host),
        HOST(host__descriptors_are_closed_on_exec),
        HOST(host__files_are_not_for_others),
        HOST(host__remove_all_removes_a_symbolic_link_not_its_target),
        HOST(host__errors_name_the_path_and_carry_errno),
        HOST(host__a_full_disk_is_enospc),
        HOST(host__open_without_memory_is_enomem_and_leaks_nothing),
        HOST(host__read_and_remove_survive_every_failing_allocation),
        HOST(host__threads_that_replace_one_file_never_tear_it),
        cmocka_unit_test(network__file_systems_are_known_by_their_type),
        cmocka_unit_test(path__join_adds_one_slash_and_has_a_limit),
        cmocka_unit_test(temp__names_are_recognised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
