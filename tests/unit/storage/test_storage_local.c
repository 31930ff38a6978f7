/* SPDX-License-Identifier: Apache-2.0 */
/* The local backend beyond its contract: what it costs, what it leaves, what it says when things go wrong. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/hash.h"
#include "hadb/storage.h"
#include "tests/support/support.h"

#define HOUR_MS (60 * 60 * 1000)

struct fixture {
    char dir[HADB_PATH_BYTES_MAX];
    char url[HADB_PATH_BYTES_MAX + 16];
    struct hadb_env env;
    struct test_faultfs faultfs;
    int64_t unix_ms;
    struct hadb_storage s;
    struct hadb_buf got;
    struct hadb_error err;
};

static int64_t fake_unix(void *arg)
{
    return ((struct fixture *)arg)->unix_ms;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    test_tmp_make(f->dir);
    snprintf(f->url, sizeof(f->url), "file://%s/store/", f->dir);
    f->unix_ms = 1700000000000;
    f->env = *hadb_env_host();
    f->env.now_unix_ms = fake_unix;
    f->env.arg = f;
    *state = f;
    return hadb_storage_open(f->url, &f->env, &f->s, &f->err);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hadb_storage_close(&f->s);
    hadb_buf_deinit(&f->got);
    test_tmp_remove(f->dir);
    free(f);
    return 0;
}

static const char *path_of(struct fixture *f, const char *name)
{
    static char path[2 * HADB_PATH_BYTES_MAX];
    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    return path;
}

static int create(struct fixture *f, const char *key, const char *body)
{
    f->err = (struct hadb_error){0};
    return hadb_storage_create(&f->s, NULL, key, hadb_slice_str(body), NULL, &f->err);
}

static int reopen(struct fixture *f, bool through_faultfs)
{
    hadb_storage_close(&f->s);
    f->env.fs = through_faultfs ? test_faultfs(&f->faultfs) : (struct hadb_fs){0};
    return hadb_storage_open(f->url, &f->env, &f->s, &f->err);
}

static int count_name(void *arg, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    ++*(unsigned *)arg;
    return 0;
}

static unsigned temps(struct fixture *f)
{
    unsigned len = 0;
    hadb_fs_list(NULL, path_of(f, "store/.tmp"), count_name, &len, NULL);
    return len;
}

static void open__makes_nothing_before_the_first_write(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    struct hadb_object_list list = {0};
    assert_int_equal(hadb_storage_get(&f->s, NULL, "k", &f->got, NULL, NULL), HADB_ABSENT);
    assert_int_equal(hadb_storage_list(&f->s, NULL, "", "", 5, &list, NULL), 0);
    assert_int_equal(stat(path_of(f, "store"), &st), -1);
    assert_int_equal(create(f, "a/b", "x"), 0);
    assert_int_equal(stat(path_of(f, "store/a/b"), &st), 0);
    assert_int_equal(st.st_size, 1);
    assert_int_equal(st.st_nlink, 1); /* settled: the temporary name is gone */
    assert_int_equal(temps(f), 0);
}

static void create__costs_one_file_sync_and_one_folder_sync(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(reopen(f, true), 0);
    assert_int_equal(create(f, "log/1", "x"), 0);
    memset(f->faultfs.per_op, 0, sizeof(f->faultfs.per_op));
    assert_int_equal(create(f, "log/2", "x"), 0);
    assert_int_equal(f->faultfs.per_op[TEST_FS_SYNC], 1);
    assert_int_equal(f->faultfs.per_op[TEST_FS_SYNC_DIR], 1);
    assert_int_equal(f->faultfs.per_op[TEST_FS_MKDIR], 0);
}

static void first__create_of_a_process_syncs_the_chain_of_folders(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a/b/c", "x"), 0);
    assert_int_equal(reopen(f, true), 0);
    /* a and b exist, but whoever made them may have died before they were durable. */
    assert_int_equal(create(f, "a/b/d", "x"), 0);
    unsigned above_root = 0;
    for (const char *c = path_of(f, "store"); *c; c++) {
        above_root += *c == '/';
    }
    /* Those above the root; root for a, a for b, and b for the object. */
    assert_int_equal(f->faultfs.per_op[TEST_FS_SYNC_DIR], above_root + 3);
}

static void tag__is_the_hash_of_the_content(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = {0};
    struct hadb_hash hash;
    char hex[65];
    assert_int_equal(hadb_storage_create(&f->s, NULL, "k", hadb_slice_str("body"), &tag, NULL), 0);
    hadb_sha256("body", 4, &hash);
    hadb_hex_encode(hash.b, sizeof(hash.b), hex);
    assert_string_equal(tag.s, hex);
}

static void leftover__is_removed_at_open_when_older_than_an_hour(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(reopen(f, true), 0);
    assert_int_equal(create(f, "warm", "x"), 0);
    f->faultfs.mask = 1u << TEST_FS_LINK | 1u << TEST_FS_UNLINK;
    f->faultfs.count = 0;
    f->faultfs.fail_at = 1;
    f->faultfs.sticky = true; /* the process dies before link() */
    assert_true(create(f, "k", "x") < 0);
    f->faultfs.fail_at = 0;
    assert_int_equal(temps(f), 1);
    f->unix_ms += HOUR_MS - 1000;
    assert_int_equal(reopen(f, false), 0);
    assert_int_equal(temps(f), 1);
    f->unix_ms += 2000;
    assert_int_equal(reopen(f, false), 0);
    assert_int_equal(temps(f), 0);
    assert_int_equal(create(f, "k", "y"), 0);
}

static void foreign__files_in_tmp_are_left_alone(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "k", "x"), 0);
    int fd = open(path_of(f, "store/.tmp/something-else"), O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    f->unix_ms += 10 * (int64_t)HOUR_MS;
    assert_int_equal(reopen(f, false), 0);
    assert_int_equal(temps(f), 1);
}

static void foreign__files_are_not_listed(void **state)
{
    struct fixture *f = *state;
    struct hadb_object_list list = {0};
    static const char *const names[] = {"store/with space", "store/.hidden", "store/a/b~"};
    assert_int_equal(create(f, "a/key", "x"), 0);
    for (size_t i = 0; i < HADB_LEN(names); i++) {
        int fd = open(path_of(f, names[i]), O_CREAT | O_WRONLY, 0600);
        assert_true(fd >= 0);
        close(fd);
    }
    assert_int_equal(hadb_storage_list(&f->s, NULL, "", "", 10, &list, NULL), 0);
    assert_int_equal(list.len, 1);
    assert_string_equal(list.items[0].key, "a/key");
    hadb_object_list_deinit(&list);
}

static void vanished__folder_is_not_made_anew(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    char away[2 * HADB_PATH_BYTES_MAX];
    assert_int_equal(create(f, "a/1", "x"), 0);
    snprintf(away, sizeof(away), "%s", path_of(f, "away"));
    assert_int_equal(rename(path_of(f, "store"), away), 0); /* as an unmounted disk */
    assert_int_equal(create(f, "a/2", "x"), HADB_EIO);
    assert_non_null(strstr(f->err.message, "not the one that was opened: is its disk mounted?"));
    assert_int_equal(create(f, "b/1", "x"), HADB_EIO);
    assert_int_equal(stat(path_of(f, "store"), &st), -1);
    assert_int_equal(rename(away, path_of(f, "store")), 0);
    assert_int_equal(create(f, "a/2", "x"), 0);
}

/* The path of the store is taken by another folder, as when its disk is unmounted, and given back. */
static void swap_root(struct fixture *f, bool away)
{
    char store[2 * HADB_PATH_BYTES_MAX], kept[2 * HADB_PATH_BYTES_MAX];
    snprintf(store, sizeof(store), "%s", path_of(f, "store"));
    snprintf(kept, sizeof(kept), "%s", path_of(f, "kept"));
    if (away) {
        assert_int_equal(rename(store, kept), 0);
        assert_int_equal(mkdir(store, 0750), 0);
    } else {
        assert_int_equal(rmdir(store), 0); /* nothing was put into it */
        assert_int_equal(rename(kept, store), 0);
    }
}

static void exchanged__store_takes_nothing_and_comes_back_by_itself(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = {0};
    struct hadb_object_meta meta;
    struct hadb_object_list list = {0};
    const char *const keys[] = {"a/1"};
    static const char says[] = "not the one that was opened: is its disk mounted?";
    assert_int_equal(create(f, "a/1", "x"), 0);
    assert_int_equal(hadb_storage_get(&f->s, NULL, "a/1", &f->got, &tag, NULL), 0);
    swap_root(f, true);
    assert_int_equal(create(f, "a/2", "x"), HADB_EIO);
    assert_non_null(strstr(f->err.message, says));
    assert_true(f->err.retryable);
    assert_int_equal(create(f, "a/1", "x"), HADB_EIO); /* not "exists" */
    assert_int_equal(create(f, "new/1", "x"), HADB_EIO);
    assert_int_equal(create(f, "top", "x"), HADB_EIO);
    assert_int_equal(
        hadb_storage_replace(&f->s, NULL, "a/1", hadb_slice_str("y"), &tag, NULL, &f->err),
        HADB_EIO);
    assert_int_equal(hadb_storage_get(&f->s, NULL, "a/1", &f->got, NULL, &f->err), HADB_EIO);
    assert_int_equal(hadb_storage_get(&f->s, NULL, "none", &f->got, NULL, &f->err), HADB_EIO);
    assert_int_equal(hadb_storage_head(&f->s, NULL, "a/1", &meta, &f->err), HADB_EIO);
    assert_int_equal(hadb_storage_list(&f->s, NULL, "", "", 10, &list, &f->err), HADB_EIO);
    assert_int_equal(hadb_storage_delete_many(&f->s, NULL, keys, 1, &f->err), HADB_EIO);
    assert_non_null(strstr(f->err.message, says));
    swap_root(f, false);
    assert_int_equal(create(f, "a/2", "x"), 0);
    assert_int_equal(create(f, "a/1", "x"), HADB_EXISTS);
    assert_int_equal(hadb_storage_get(&f->s, NULL, "a/2", &f->got, NULL, NULL), 0);
}

/* Exchanges the store in the middle of a write: when its body is synced, or its folder. */
struct meddler {
    struct hadb_fs inner;
    struct hadb_fs_ops ops;
    struct fixture *f;
    bool at_body, at_folder;
};

static struct meddler meddler;

static int meddling_sync(void *self, struct hadb_fs_file *file, struct hadb_error *err)
{
    int r = meddler.inner.ops->sync(self, file, err);
    if (meddler.at_body) {
        meddler.at_body = false;
        swap_root(meddler.f, true);
    }
    return r;
}

static int meddling_sync_dir(void *self, const char *path, struct hadb_error *err)
{
    int r = meddler.inner.ops->sync_dir(self, path, err);
    if (meddler.at_folder) {
        meddler.at_folder = false;
        swap_root(meddler.f, true);
    }
    return r;
}

static int meddling_hold(void *self, const char *path, struct hadb_fs *out, struct hadb_error *err)
{
    int r = meddler.inner.ops->hold(self, path, out, err);
    out->ops = &meddler.ops; /* the host's own file handles and folders, our two methods */
    return r;
}

static void meddle(struct fixture *f)
{
    meddler = (struct meddler){.inner = hadb_fs_host(), .f = f};
    meddler.ops = *meddler.inner.ops;
    meddler.ops.sync = meddling_sync;
    meddler.ops.sync_dir = meddling_sync_dir;
    meddler.ops.hold = meddling_hold;
    hadb_storage_close(&f->s);
    f->env.fs = (struct hadb_fs){.ops = &meddler.ops};
    assert_int_equal(hadb_storage_open(f->url, &f->env, &f->s, &f->err), 0);
}

static void exchanged__during_a_write_it_is_unknown_and_never_done(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = {0};
    assert_int_equal(create(f, "a/0", "x"), 0);
    for (int moment = 0; moment < 4; moment++) {
        char key[8];
        snprintf(key, sizeof(key), "a/%d", moment / 2 + 1);
        meddle(f);
        if (moment >= 2) {
            assert_int_equal(hadb_storage_get(&f->s, NULL, "a/0", &f->got, &tag, NULL), 0);
        }
        assert_int_equal(create(f, "a/warm", "x"), moment == 0 ? 0 : HADB_EXISTS);
        assert_int_equal(hadb_storage_delete_many(&f->s, NULL, (const char *[]){"a/warm"}, 1, NULL),
                         0);
        assert_int_equal(create(f, "a/warm", "x"), 0);
        meddler.at_body = moment % 2 == 0;
        meddler.at_folder = !meddler.at_body;
        int r = moment < 2 ? create(f, moment == 0 ? "a/1" : "a/2", "x")
                           : hadb_storage_replace(&f->s, NULL, "a/0", hadb_slice_str("y"), &tag,
                                                  NULL, &f->err);
        assert_false(meddler.at_body || meddler.at_folder);
        assert_int_equal(r, HADB_ETIMEDOUT);
        assert_non_null(strstr(f->err.message, "is its disk mounted?"));
        swap_root(f, false); /* asserts that the other folder stayed empty */
        if (moment < 2) {    /* whoever tries again finds it */
            assert_int_equal(create(f, moment == 0 ? "a/1" : "a/2", "x"), HADB_EXISTS);
        } else {
            assert_int_equal(hadb_storage_get(&f->s, NULL, "a/0", &f->got, NULL, NULL), 0);
            assert_memory_equal(f->got.data, "y", 1);
        }
    }
}

static void exchanged__folder_inside_takes_nothing(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    char away[2 * HADB_PATH_BYTES_MAX];
    snprintf(away, sizeof(away), "%s", path_of(f, "store/away"));
    assert_int_equal(create(f, "a/b/1", "x"), 0);
    assert_int_equal(rename(path_of(f, "store/a"), away), 0);
    assert_int_equal(create(f, "a/b/2", "x"), HADB_EIO);
    assert_non_null(strstr(f->err.message, "put it back"));
    assert_int_equal(create(f, "a/c/1", "x"), HADB_EIO); /* a new folder below the lost one */
    assert_int_equal(stat(path_of(f, "store/a"), &st), -1);
    assert_int_equal(mkdir(path_of(f, "store/a"), 0750), 0);
    assert_int_equal(create(f, "a/b/2", "x"), HADB_EIO);
    assert_int_equal(create(f, "a/c/1", "x"), HADB_EIO);
    assert_int_equal(rmdir(path_of(f, "store/a")), 0);
    assert_int_equal(rename(away, path_of(f, "store/a")), 0);
    assert_int_equal(create(f, "a/b/2", "x"), 0);
    assert_int_equal(create(f, "a/c/1", "x"), 0);
}

static void special__file_in_place_of_an_object_is_damage_and_nobody_waits(void **state)
{
    struct fixture *f = *state;
    struct hadb_object_meta meta;
    assert_int_equal(create(f, "a/1", "x"), 0);
    assert_int_equal(mkfifo(path_of(f, "store/a/2"), 0640), 0);
    assert_int_equal(hadb_storage_get(&f->s, NULL, "a/2", &f->got, NULL, &f->err), HADB_ECORRUPT);
    assert_non_null(strstr(f->err.message, "a/2: its file is a pipe"));
    assert_int_equal(hadb_storage_head(&f->s, NULL, "a/2", &meta, &f->err), HADB_ECORRUPT);
    assert_int_equal(create(f, "a/2", "x"), HADB_ECORRUPT);
    assert_int_equal(temps(f), 0);
}

static void key__below_or_above_another_is_refused_clearly(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a", "x"), 0);
    assert_int_equal(create(f, "a/b", "x"), HADB_EINVAL);
    assert_non_null(strstr(f->err.message, "a/b"));
    assert_int_equal(create(f, "a/b/c", "x"), HADB_EINVAL);
    assert_int_equal(create(f, "c/d", "x"), 0);
    assert_int_equal(create(f, "c", "x"), HADB_EINVAL);
    assert_non_null(strstr(f->err.message, "folder"));
    assert_int_equal(temps(f), 0);
}

static void key__part_too_long_for_a_file_is_refused_or_absent(void **state)
{
    struct fixture *f = *state;
    char key[512] = "log/";
    memset(key + 4, 'x', 300);
    assert_int_equal(create(f, key, "x"), HADB_EINVAL);
    assert_int_equal(hadb_storage_get(&f->s, NULL, key, &f->got, NULL, NULL), HADB_ABSENT);
    strcat(key, "/below");
    assert_int_equal(create(f, key, "x"), HADB_EINVAL);
    assert_int_equal(temps(f), 0);
}

static void foreign__file_that_is_too_large_is_named(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "k", "x"), 0);
    assert_int_equal(truncate(path_of(f, "store/k"), (off_t)HADB_OBJECT_BYTES_MAX + 1), 0);
    assert_int_equal(hadb_storage_get(&f->s, NULL, "k", &f->got, NULL, &f->err), HADB_ECORRUPT);
    assert_non_null(strstr(f->err.message, "k: the file has"));
}

static void held__lock_makes_replace_wait_until_its_deadline(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = {0};
    struct hadb_hash hash;
    struct hadb_fs_file *lock = NULL;
    char name[64] = "store/.lock/";
    assert_int_equal(hadb_storage_create(&f->s, NULL, "m", hadb_slice_str("x"), &tag, NULL), 0);
    hadb_sha256("m", 1, &hash);
    hadb_hex_encode(hash.b, 16, name + strlen(name));
    assert_int_equal(hadb_fs_open(NULL, path_of(f, name),
                                  HADB_FS_READ | HADB_FS_WRITE | HADB_FS_CREATE, &lock, NULL),
                     0);
    assert_int_equal(hadb_fs_lock(NULL, lock, NULL), 0);
    struct hadb_call call = hadb_call_within(NULL, 30);
    struct hadb_slice body = hadb_slice_str("y");
    assert_int_equal(hadb_storage_replace(&f->s, &call, "m", body, &tag, NULL, &f->err),
                     HADB_EUNAVAIL);
    assert_non_null(strstr(f->err.message, "/.lock/"));
    /* Losers and other keys do not need it. */
    struct hadb_tag other = {"x"};
    assert_int_equal(hadb_storage_replace(&f->s, NULL, "m", body, &other, NULL, NULL),
                     HADB_CAS_LOST);
    assert_int_equal(hadb_storage_create(&f->s, NULL, "n", body, &other, NULL), 0);
    assert_int_equal(hadb_storage_replace(&f->s, NULL, "n", body, &other, NULL, NULL), 0);
    hadb_fs_close(NULL, lock);
    assert_int_equal(hadb_storage_replace(&f->s, NULL, "m", body, &tag, NULL, NULL), 0);
}

static void bad__urls_and_folders_are_named_at_open(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {"file:", "file:///", "file:relative", "file://host/dir",
                                      "file:///x?y=1"};
    struct hadb_storage s = {0};
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        assert_int_equal(hadb_storage_open(bad[i], NULL, &s, &f->err), HADB_EINVAL);
        assert_string_not_equal(f->err.message, "");
        assert_null(s.ops);
    }
    assert_int_equal(create(f, "k", "x"), 0);
    char url[2 * HADB_PATH_BYTES_MAX];
    snprintf(url, sizeof(url), "file://%s/store/k", f->dir); /* a file */
    assert_int_equal(hadb_storage_open(url, NULL, &s, &f->err), HADB_EIO);
    assert_non_null(strstr(f->err.message, "/store/k"));
    snprintf(url, sizeof(url), "file://%s/store/k/below", f->dir);
    assert_int_equal(hadb_storage_open(url, NULL, &s, &f->err), HADB_EIO);
    f->faultfs = (struct test_faultfs){
        .fail_at = 1, .sys_errno = EACCES, .mask = 1u << TEST_FS_LIST}; /* root may read it all */
    assert_int_equal(reopen(f, true), HADB_EAUTH);
    assert_non_null(strstr(f->err.message, "/store"));
}

static void full__disk_is_told_and_changes_nothing(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(reopen(f, true), 0);
    assert_int_equal(create(f, "warm", "x"), 0);
    f->faultfs.mask = 1u << TEST_FS_WRITE;
    f->faultfs.count = 0;
    f->faultfs.fail_at = 1;
    f->faultfs.sys_errno = ENOSPC;
    f->faultfs.torn = true;
    assert_int_equal(create(f, "k", "some bytes"), HADB_ENOSPC);
    assert_int_equal(temps(f), 0);
    assert_int_equal(create(f, "k", "some bytes"), 0); /* space is back */
}

/* --- several processes -------------------------------------------------------------------------- */

enum { PROCESSES = 4, KEYS = 12, COUNTS = 5 };

static int child_race(const char *url, int id)
{
    struct hadb_storage s = {0};
    int wins = 0;
    if (hadb_storage_open(url, NULL, &s, NULL) != 0) {
        return 100;
    }
    for (int k = 0; k < KEYS; k++) {
        char key[32], body[32];
        snprintf(key, sizeof(key), "race/%d", k);
        snprintf(body, sizeof(body), "%d", id);
        int r = hadb_storage_create(&s, NULL, key, hadb_slice_str(body), NULL, NULL);
        if (r != 0 && r != HADB_EXISTS) {
            return 101;
        }
        wins += r == 0;
    }
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    for (int done = 0; done < COUNTS;) {
        struct hadb_tag tag;
        char body[32];
        if (hadb_storage_get(&s, NULL, "counter", &bytes, &tag, NULL) != 0) {
            return 102;
        }
        snprintf(body, sizeof(body), "%d by %d", atoi(hadb_buf_cstr(&bytes)) + 1, id);
        int r = hadb_storage_replace(&s, NULL, "counter", hadb_slice_str(body), &tag, NULL, NULL);
        if (r < 0) {
            return 103;
        }
        done += r == 0;
    }
    hadb_storage_close(&s);
    return wins;
}

static void processes__race_as_threads_do(void **state)
{
    struct fixture *f = *state;
    pid_t pids[PROCESSES];
    int wins = 0;
    assert_int_equal(create(f, "counter", "0"), 0);
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            _exit(child_race(f->url, i));
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 100);
        wins += WEXITSTATUS(status);
    }
    assert_int_equal(wins, KEYS);
    assert_int_equal(hadb_storage_get(&f->s, NULL, "counter", &f->got, NULL, NULL), 0);
    assert_int_equal(atoi(hadb_buf_cstr(&f->got)), PROCESSES * COUNTS);
    assert_int_equal(temps(f), 0);
}

#define local(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        local(open__makes_nothing_before_the_first_write),
        local(create__costs_one_file_sync_and_one_folder_sync),
        local(first__create_of_a_process_syncs_the_chain_of_folders),
        local(tag__is_the_hash_of_the_content),
        local(leftover__is_removed_at_open_when_older_than_an_hour),
        local(foreign__files_in_tmp_are_left_alone),
        local(foreign__files_are_not_listed),
        local(vanished__folder_is_not_made_anew),
        local(exchanged__store_takes_nothing_and_comes_back_by_itself),
        local(exchanged__during_a_write_it_is_unknown_and_never_done),
        local(exchanged__folder_inside_takes_nothing),
        local(special__file_in_place_of_an_object_is_damage_and_nobody_waits),
        local(key__below_or_above_another_is_refused_clearly),
        local(key__part_too_long_for_a_file_is_refused_or_absent),
        local(foreign__file_that_is_too_large_is_named),
        local(held__lock_makes_replace_wait_until_its_deadline),
        local(bad__urls_and_folders_are_named_at_open),
        local(full__disk_is_told_and_changes_nothing),
        local(processes__race_as_threads_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
