/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kv engine on a disk that is really full: a tmpfs of a few MiB in a mount namespace of its own (root, or a user
 * namespace; skipped where neither is to be had), and a limit on the size of files (everywhere). What was answered
 * with 0 is there, whatever failed in between; what was refused is not. Seed printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/fs.h"
#include "hadb/engine.h"
#include "tests/support/support.h"

#define DISK_BYTES (4u << 20)
#define FREE_BYTES (192u << 10)
#define KEYS_MAX 4096u
#define VALUE_BYTES_MAX 6000u

/* What was answered with 0: key i has the length and the first byte of its value. */
struct model {
    struct {
        uint32_t len; /* 0 = absent */
        uint8_t byte;
    } keys[64];
    struct test_rng rng;
    struct hadb_engine engine;
    uint64_t segment_bytes_max;
    char folder[HADB_PATH_BYTES_MAX];
    hadb_txid txid;
};

static bool have_disk;
static char disk[HADB_PATH_BYTES_MAX];

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    if (fd >= 0) {
        ssize_t written = write(fd, text, strlen(text));
        (void)written; /* the mount will tell */
        close(fd);
    }
}

/* A tmpfs at @disk that only this process and its children see. */
static bool mount_disk(void)
{
    char map[64], size[32];
    unsigned user = getuid(), group = getgid();
    if (unshare(CLONE_NEWNS) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
            return false;
        }
        write_text("/proc/self/setgroups", "deny");
        snprintf(map, sizeof map, "%u %u 1", user, user);
        write_text("/proc/self/uid_map", map);
        snprintf(map, sizeof map, "%u %u 1", group, group);
        write_text("/proc/self/gid_map", map);
    }
    snprintf(size, sizeof size, "size=%u", DISK_BYTES);
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("hadb-test", disk, "tmpfs", 0, size) == 0;
}

/* A file that leaves FREE_BYTES of the disk, or none. */
static void ballast(bool there)
{
    char path[HADB_PATH_BYTES_MAX];
    struct statvfs room;
    assert_int_equal(hadb_path_join(path, disk, "ballast", NULL), 0);
    if (!there) {
        assert_int_equal(unlink(path), 0);
        return;
    }
    assert_int_equal(statvfs(disk, &room), 0);
    off_t bytes = (off_t)(room.f_bavail * room.f_bsize) - (off_t)FREE_BYTES;
    assert_true(bytes > (off_t)FREE_BYTES);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(posix_fallocate(fd, 0, bytes), 0);
    close(fd);
}

static int open_it(struct model *m)
{
    const struct hadb_engine_options options = {.segment_bytes_max = m->segment_bytes_max};
    return hadb_engine_open("kv", m->folder, &options, hadb_env_host(), &m->engine, NULL);
}

static void key_of(size_t i, char out[16])
{
    snprintf(out, 16, "key-%zu", i);
}

/* One random write or delete. The model learns it when it is answered with 0. */
static int write_one(struct model *m)
{
    static uint8_t value[VALUE_BYTES_MAX];
    size_t i = test_rng_below(&m->rng, HADB_LEN(m->keys));
    uint32_t len = test_rng_chance(&m->rng, 20)
                       ? 0
                       : (uint32_t)test_rng_below(&m->rng, VALUE_BYTES_MAX - 1) + 1;
    uint8_t byte = (uint8_t)test_rng_next(&m->rng);
    char key[16];
    key_of(i, key);
    memset(value, byte, len);
    const struct hadb_op op = {.type = len ? HADB_OP_PUT : HADB_OP_DELETE,
                               .key = hadb_slice_str(key),
                               .value = hadb_slice(value, len)};
    struct hadb_buf txn = {0};
    assert_int_equal(hadb_txn_encode(1, m->txid + 1, 0, &op, 1, &txn, NULL), 0);
    int r = hadb_engine_apply(&m->engine, hadb_buf_slice(&txn), NULL, NULL);
    hadb_buf_deinit(&txn);
    if (r == 0) {
        m->txid++;
        m->keys[i].len = len;
        m->keys[i].byte = byte;
    }
    return r;
}

static void expect_all(const struct model *m)
{
    struct hadb_engine_position position;
    struct hadb_buf value = {0};
    hadb_engine_position(&m->engine, &position);
    assert_int_equal(position.last_txid, m->txid);
    for (size_t i = 0; i < HADB_LEN(m->keys); i++) {
        char key[16];
        key_of(i, key);
        int r = hadb_engine_get(&m->engine, NULL, hadb_slice_str(key), &value, NULL, NULL);
        assert_int_equal(r, m->keys[i].len ? 0 : HADB_ABSENT);
        if (r == 0) {
            assert_int_equal(value.len, m->keys[i].len);
            for (size_t at = 0; at < value.len; at++) {
                assert_int_equal(value.data[at], m->keys[i].byte);
            }
        }
    }
    hadb_buf_deinit(&value);
}

static void model_init(struct model *m, const char *parent, uint64_t segment_bytes_max)
{
    *m = (struct model){.segment_bytes_max = segment_bytes_max};
    test_rng_init(&m->rng, 0);
    assert_int_equal(hadb_path_join(m->folder, parent, "db", NULL), 0);
    (void)hadb_fs_remove_all(NULL, m->folder, NULL);
    assert_int_equal(hadb_fs_mkdir_all(NULL, m->folder, NULL), 0);
    assert_int_equal(open_it(m), 0);
}

/* Until nothing at all goes in any more: @refused in a row. */
static void fill(struct model *m, unsigned refused_max)
{
    for (unsigned refused = 0; refused < refused_max;) {
        int r = write_one(m);
        assert_true(r == 0 || r == HADB_ENOSPC);
        refused = r == 0 ? 0 : refused + 1;
    }
}

static void a_full_disk__refuses_writes_and_takes_them_again(void **state)
{
    (void)state;
    static const uint64_t segments[] = {0, 64u << 10}; /* one; many, whose creation fails too */
    struct model m;
    if (!have_disk) {
        skip();
    }
    for (size_t i = 0; i < HADB_LEN(segments); i++) {
        model_init(&m, disk, segments[i]);
        for (unsigned round = 0; round < 3; round++) {
            ballast(true);
            hadb_txid before = m.txid;
            fill(&m, 50);
            assert_true(round > 0 || m.txid > before);
            expect_all(&m); /* reads go on */
            ballast(false);
            for (unsigned n = 0; n < 20; n++) {
                assert_int_equal(write_one(&m), 0); /* at once, without opening it again */
            }
            assert_int_equal(hadb_engine_sync(&m.engine, NULL), 0);
            expect_all(&m);
            hadb_engine_close(&m.engine);
            assert_int_equal(open_it(&m), 0);
            expect_all(&m);
            struct hadb_engine_stats stats;
            hadb_engine_stats(&m.engine, &stats);
            assert_int_equal(stats.cut_bytes, 0);
        }
        hadb_engine_close(&m.engine);
        assert_int_equal(hadb_fs_remove_all(NULL, m.folder, NULL), 0);
    }
}

/* The rest of the disk goes to the ballast, byte by byte as far as the engine needs any. */
static void a_full_disk__lets_a_database_be_closed_and_opened(void **state)
{
    (void)state;
    struct model m;
    if (!have_disk) {
        skip();
    }
    ballast(true);
    model_init(&m, disk, 64u << 10);
    fill(&m, 50);
    char path[HADB_PATH_BYTES_MAX];
    assert_int_equal(hadb_path_join(path, disk, "rest", NULL), 0);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    while (write(fd, disk, 1) == 1) {
    }
    close(fd);
    hadb_engine_close(&m.engine); /* its last record has no room */
    assert_int_equal(open_it(&m), 0);
    expect_all(&m);
    assert_int_equal(unlink(path), 0);
    ballast(false);
    assert_int_equal(write_one(&m), 0);
    expect_all(&m);
    hadb_engine_close(&m.engine);
    assert_int_equal(hadb_fs_remove_all(NULL, m.folder, NULL), 0);
}

/* The child tells each write that was answered with 0 through a pipe, and is killed in the middle of refusals. */
static void a_process_that_is_killed_on_a_full_disk__loses_nothing(void **state)
{
    (void)state;
    struct model m;
    int pipe_fd[2];
    if (!have_disk) {
        skip();
    }
    ballast(true);
    model_init(&m, disk, 64u << 10);
    hadb_engine_close(&m.engine);
    assert_int_equal(pipe(pipe_fd), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(pipe_fd[0]);
        if (open_it(&m) != 0) {
            _exit(1);
        }
        for (unsigned refused = 0;;) { /* until it is killed */
            refused += write_one(&m) != 0;
            if (write(pipe_fd[1], &m.keys, sizeof m.keys) != sizeof m.keys ||
                write(pipe_fd[1], &m.txid, sizeof m.txid) != sizeof m.txid ||
                write(pipe_fd[1], &refused, sizeof refused) != sizeof refused) {
                _exit(1);
            }
        }
    }
    close(pipe_fd[1]);
    FILE *in = fdopen(pipe_fd[0], "rb");
    assert_non_null(in);
    unsigned refused = 0;
    bool killed = false;
    while (fread(&m.keys, sizeof m.keys, 1, in) == 1 && fread(&m.txid, sizeof m.txid, 1, in) == 1 &&
           fread(&refused, sizeof refused, 1, in) == 1) {
        if (refused >= 60 && !killed) {
            assert_int_equal(kill(child, SIGKILL), 0);
            killed = true; /* what is in the pipe still counts */
        }
    }
    fclose(in);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(killed && WIFSIGNALED(status));
    assert_int_equal(open_it(&m), 0); /* full as it is */
    struct hadb_engine_position position;
    hadb_engine_position(&m.engine, &position);
    if (position.last_txid == m.txid) { /* else one more was written, and not told any more */
        expect_all(&m);
    }
    assert_in_range(position.last_txid, m.txid, m.txid + 1);
    ballast(false);
    m.txid = position.last_txid;
    assert_int_equal(write_one(&m), 0);
    hadb_engine_close(&m.engine);
    assert_int_equal(hadb_fs_remove_all(NULL, m.folder, NULL), 0);
}

/* Not "no space", so it poisons: reads go on, and when it is opened again all is there. */
static void a_file_over_its_limit__poisons_and_loses_nothing(void **state)
{
    struct model m;
    struct rlimit before;
    model_init(&m, *state, 0);
    for (unsigned n = 0; n < 20; n++) {
        assert_int_equal(write_one(&m), 0);
    }
    struct hadb_engine_stats stats;
    hadb_engine_stats(&m.engine, &stats);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit tight = {.rlim_cur = stats.disk_bytes + 30000, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    int r = 0;
    for (unsigned n = 0; n < KEYS_MAX && r == 0; n++) {
        r = write_one(&m);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(r, HADB_EIO);
    expect_all(&m);
    assert_int_equal(write_one(&m), HADB_EPOISONED);
    hadb_engine_close(&m.engine);
    assert_int_equal(open_it(&m), 0);
    expect_all(&m);
    assert_int_equal(write_one(&m), 0);
    expect_all(&m);
    hadb_engine_close(&m.engine);
}

static int setup(void **state)
{
    static char folder[HADB_PATH_BYTES_MAX];
    test_tmp_make(folder);
    test_tmp_make(disk);
    signal(SIGXFSZ, SIG_IGN); /* write(2) says EFBIG instead */
    have_disk = mount_disk();
    *state = folder;
    return 0;
}

static int teardown(void **state)
{
    if (have_disk) {
        umount(disk);
    }
    test_tmp_remove(disk);
    test_tmp_remove(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk__refuses_writes_and_takes_them_again),
        cmocka_unit_test(a_full_disk__lets_a_database_be_closed_and_opened),
        cmocka_unit_test(a_process_that_is_killed_on_a_full_disk__loses_nothing),
        cmocka_unit_test(a_file_over_its_limit__poisons_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
