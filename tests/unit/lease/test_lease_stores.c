/* SPDX-License-Identifier: Apache-2.0 */
/* Lease stores beyond their contract: names, the file format, damage, faults, locks, processes, URLs. */
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
#include "hadb/lease.h"
#include "tests/support/support.h"

#define HOUR_MS (60 * 60 * 1000)

struct fixture {
    char dir[HADB_PATH_BYTES_MAX];
    char url[HADB_PATH_BYTES_MAX + 16];
    struct hadb_env env;
    struct test_faultfs faultfs;
    int64_t unix_ms;
    uint8_t random_byte; /* 0 = the host's random source */
    struct hadb_lease s;
    struct hadb_tag tag;
    struct hadb_buf got;
    struct hadb_error err;
};

static int64_t fake_unix(void *arg)
{
    return ((struct fixture *)arg)->unix_ms;
}

static void fake_random(void *arg, void *out, size_t len)
{
    struct fixture *f = arg;
    if (f->random_byte) {
        memset(out, f->random_byte, len);
    } else {
        hadb_random(NULL, out, len);
    }
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    test_tmp_make(f->dir);
    snprintf(f->url, sizeof(f->url), "file://%s/leases", f->dir);
    f->unix_ms = 1700000000000;
    f->env = *hadb_env_host();
    f->env.now_unix_ms = fake_unix;
    f->env.random = fake_random;
    f->env.arg = f;
    *state = f;
    return hadb_lease_open(f->url, &f->env, &f->s, &f->err);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hadb_lease_close(&f->s);
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

static int put(struct fixture *f, const char *key, const char *record,
               const struct hadb_tag *expected)
{
    f->err = (struct hadb_error){0};
    return hadb_lease_write_if_match(&f->s, NULL, key, hadb_slice_str(record), expected, &f->tag,
                                     &f->err);
}

static int get(struct fixture *f, const char *key)
{
    f->err = (struct hadb_error){0};
    return hadb_lease_read(&f->s, NULL, key, &f->got, &f->tag, &f->err);
}

static int reopen(struct fixture *f, bool through_faultfs)
{
    hadb_lease_close(&f->s);
    f->env.fs = through_faultfs ? test_faultfs(&f->faultfs) : (struct hadb_fs){0};
    return hadb_lease_open(f->url, &f->env, &f->s, &f->err);
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
    hadb_fs_list(NULL, path_of(f, "leases/.tmp"), count_name, &len, NULL);
    return len;
}

/* --- file --------------------------------------------------------------------------------------- */

/* As when the disk of the folder is unmounted: an empty one has its name. */
static void file__exchanged_folder_is_neither_read_nor_written(void **state)
{
    struct fixture *f = *state;
    char kept[2 * HADB_PATH_BYTES_MAX];
    snprintf(kept, sizeof(kept), "%s", path_of(f, "kept"));
    assert_int_equal(put(f, "node/a", "hello", NULL), 0);
    assert_int_equal(rename(path_of(f, "leases"), kept), 0);
    assert_int_equal(mkdir(path_of(f, "leases"), 0750), 0);
    assert_int_equal(get(f, "node/a"), HADB_EIO);
    assert_non_null(strstr(f->err.message, "is its disk mounted?"));
    assert_int_equal(put(f, "node/b", "hello", NULL), HADB_EIO);
    assert_int_equal(rmdir(path_of(f, "leases")), 0); /* it is empty */
    assert_int_equal(rename(kept, path_of(f, "leases")), 0);
    assert_int_equal(get(f, "node/a"), 0);
    assert_int_equal(put(f, "node/b", "hello", NULL), 0);
}

static void file__has_the_documented_bytes(void **state)
{
    struct fixture *f = *state;
    f->random_byte = 0xab;
    assert_int_equal(put(f, "node/a", "hello", NULL), 0);
    assert_string_equal(f->tag.s, "1-abababababababababababababababab");
    assert_int_equal(hadb_fs_read_file(NULL, path_of(f, "leases/node/a"), 1000, &f->got, NULL), 0);
    static const uint8_t want[] = {
        'h',  'a',  'd',  'b',  'l',  's',  'e',  '1',  1,    0,    0,    0,
        0,    0,    0,    0,    0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab,
        0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 5,    0,    0,    0,
    };
    assert_int_equal(f->got.len, 45);
    assert_memory_equal(f->got.data, want, sizeof(want));
    uint32_t crc = hadb_crc32c(hadb_crc32c(0, want, sizeof(want)), "hello", 5);
    assert_int_equal(hadb_get_u32(f->got.data + 36), crc);
    assert_memory_equal(f->got.data + 40, "hello", 5);
}

static void write_raw(struct fixture *f, const void *data, size_t len)
{
    int fd = open(path_of(f, "leases/a"), O_CREAT | O_WRONLY | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    close(fd);
}

static void file__that_is_cut_or_changed_anywhere_is_named_as_damaged(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[64];
    assert_int_equal(put(f, "a", "hello", NULL), 0);
    struct hadb_tag good = f->tag;
    assert_int_equal(hadb_fs_read_file(NULL, path_of(f, "leases/a"), 64, &f->got, NULL), 0);
    size_t len = f->got.len;
    memcpy(bytes, f->got.data, len);
    for (size_t cut = 0; cut < len; cut++) {
        write_raw(f, bytes, cut);
        assert_int_equal(get(f, "a"), HADB_ECORRUPT);
    }
    for (size_t bit = 0; bit < 8 * len; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        write_raw(f, bytes, len);
        assert_int_equal(get(f, "a"), HADB_ECORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_non_null(strstr(f->err.message, "/leases/a"));
    assert_non_null(strstr(f->err.message, "remove it"));
    assert_int_equal(put(f, "a", "x", &good), HADB_ECORRUPT);
    assert_int_equal(put(f, "a", "x", NULL), HADB_ECORRUPT);
    static uint8_t huge[HADB_LEASE_RECORD_BYTES_MAX + 64];
    write_raw(f, huge, sizeof(huge));
    assert_int_equal(get(f, "a"), HADB_ECORRUPT);
    assert_int_equal(unlink(path_of(f, "leases/a")), 0); /* the advice works */
    assert_int_equal(put(f, "a", "new", NULL), 0);
}

static void write__that_fails_anywhere_leaves_the_old_record_or_the_new(void **state)
{
    struct fixture *f = *state;
    bool hit = true;
    assert_int_equal(put(f, "node/a", "old", NULL), 0);
    struct hadb_tag expected = f->tag;
    for (uint64_t n = 1; hit && n < 100; n++) {
        for (unsigned variant = 0; variant < 4; variant++) {
            f->faultfs = (struct test_faultfs){0};
            assert_int_equal(reopen(f, true), 0);
            f->faultfs.count = 0;
            f->faultfs.fail_at = n;
            f->faultfs.sticky = variant & 1;
            f->faultfs.torn = variant & 2;
            int r = put(f, "node/a", "new", &expected);
            hit = f->faultfs.hit;
            assert_int_equal(reopen(f, false), 0);
            assert_int_equal(get(f, "node/a"), 0);
            bool is_new = f->got.len == 3 && memcmp(f->got.data, "new", 3) == 0;
            assert_true(is_new || memcmp(f->got.data, "old", 3) == 0);
            assert_true(r == HADB_ETIMEDOUT || is_new == (r == 0));
            assert_true(r <= 0);
            if (is_new) { /* back to the start */
                struct hadb_tag now = f->tag;
                assert_int_equal(put(f, "node/a", "old", &now), 0);
                expected = f->tag;
            }
        }
    }
    assert_false(hit);
}

static void leftover__is_removed_at_open_when_older_than_an_hour(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, "warm", "x", NULL), 0);
    assert_int_equal(reopen(f, true), 0);
    f->faultfs.mask = 1u << TEST_FS_RENAME | 1u << TEST_FS_UNLINK;
    f->faultfs.fail_at = 1;
    f->faultfs.sticky = true; /* the process dies before rename() */
    assert_true(put(f, "k", "x", NULL) < 0);
    f->faultfs.fail_at = 0;
    assert_int_equal(temps(f), 1);
    f->unix_ms += HOUR_MS - 1000;
    assert_int_equal(reopen(f, false), 0);
    assert_int_equal(temps(f), 1);
    f->unix_ms += 2000;
    assert_int_equal(reopen(f, false), 0);
    assert_int_equal(temps(f), 0);
}

static void held__lock_holds_up_writers_of_its_key_only(void **state)
{
    struct fixture *f = *state;
    struct hadb_hash hash;
    struct hadb_fs_file *lock = NULL;
    char name[64] = "leases/.lock/";
    assert_int_equal(put(f, "a", "x", NULL), 0);
    struct hadb_tag tag = f->tag;
    hadb_sha256("a", 1, &hash);
    hadb_hex_encode(hash.b, 16, name + strlen(name));
    assert_int_equal(
        hadb_fs_open(NULL, path_of(f, name), HADB_FS_READ | HADB_FS_WRITE, &lock, NULL), 0);
    assert_int_equal(hadb_fs_lock(NULL, lock, NULL), 0); /* as a process that is stopped inside */
    struct hadb_call call = hadb_call_within(NULL, 30);
    assert_int_equal(
        hadb_lease_write_if_match(&f->s, &call, "a", hadb_slice_str("y"), &tag, &f->tag, &f->err),
        HADB_EUNAVAIL);
    assert_non_null(strstr(f->err.message, "locked"));
    assert_int_equal(put(f, "b", "x", NULL), 0);
    assert_int_equal(get(f, "a"), 0); /* readers take no lock */
    hadb_fs_close(NULL, lock);
    assert_int_equal(put(f, "a", "y", &tag), 0);
}

static void key__in_the_way_of_another_is_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, "a", "x", NULL), 0);
    assert_int_equal(put(f, "a/b", "x", NULL), HADB_EINVAL);
    assert_string_not_equal(f->err.message, "");
    assert_int_equal(get(f, "a/b"), HADB_ABSENT);
    assert_int_equal(temps(f), 0);
}

enum { PROCESSES = 4, COUNTS = 10 };

static int child_count(const char *url)
{
    struct hadb_lease s = {0};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    if (hadb_lease_open(url, NULL, &s, NULL) != 0) {
        return 1;
    }
    for (int done = 0; done < COUNTS;) {
        struct hadb_tag tag = {0};
        char record[32];
        int r = hadb_lease_read(&s, NULL, "counter", &bytes, &tag, NULL);
        if (r < 0) {
            return 2;
        }
        int value = r == 0 ? atoi(hadb_buf_cstr(&bytes)) : 0;
        snprintf(record, sizeof(record), "%d", value + 1);
        r = hadb_lease_write_if_match(&s, NULL, "counter", hadb_slice_str(record),
                                      r == 0 ? &tag : NULL, NULL, NULL);
        if (r < 0) {
            return 3;
        }
        done += r == 0;
    }
    hadb_lease_close(&s);
    return 0;
}

static void processes__lose_no_update(void **state)
{
    struct fixture *f = *state;
    pid_t pids[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            _exit(child_count(f->url));
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    assert_int_equal(get(f, "counter"), 0);
    assert_int_equal(atoi(hadb_buf_cstr(&f->got)), PROCESSES * COUNTS);
    assert_true(strncmp(f->tag.s, "40-", 3) == 0); /* one version per write that was stored */
}

/* --- mem, URLs, dispatch ------------------------------------------------------------------------ */

static void mem__without_a_name_is_private_and_with_one_is_shared(void **state)
{
    struct fixture *f = *state;
    struct hadb_lease a = {0}, b = {0}, c = {0}, d = {0};
    assert_int_equal(hadb_lease_open("mem:", NULL, &a, NULL), 0);
    assert_int_equal(hadb_lease_open("mem:", NULL, &b, NULL), 0);
    assert_int_equal(hadb_lease_open("mem:x", NULL, &c, NULL), 0);
    assert_int_equal(hadb_lease_open("mem:x", NULL, &d, NULL), 0);
    struct hadb_slice record = hadb_slice_str("r");
    assert_int_equal(hadb_lease_write_if_match(&a, NULL, "k", record, NULL, NULL, NULL), 0);
    assert_int_equal(hadb_lease_write_if_match(&c, NULL, "k", record, NULL, NULL, NULL), 0);
    assert_int_equal(hadb_lease_read(&b, NULL, "k", &f->got, &f->tag, NULL), HADB_ABSENT);
    hadb_lease_close(&c);
    assert_int_equal(hadb_lease_read(&d, NULL, "k", &f->got, &f->tag, NULL), 0);
    hadb_lease_close(&d);
    assert_int_equal(hadb_lease_open("mem:x", NULL, &c, NULL), 0);
    assert_int_equal(hadb_lease_read(&c, NULL, "k", &f->got, &f->tag, NULL), HADB_ABSENT);
    hadb_lease_close(&a);
    hadb_lease_close(&b);
    hadb_lease_close(&c);
}

static void url__that_is_wrong_is_refused_with_a_reason(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *url;
        int code;
    } cases[] = {
        {NULL, HADB_EINVAL},         {"", HADB_EINVAL},
        {"mem://x", HADB_EINVAL},    {"mem:?a=1", HADB_EINVAL},
        {"file:", HADB_EINVAL},      {"file:///", HADB_EINVAL},
        {"file://h/d", HADB_EINVAL}, {"consul://host", HADB_ENOTSUP},
    };
    struct hadb_lease s = {0};
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        f->err = (struct hadb_error){0};
        assert_int_equal(hadb_lease_open(cases[i].url, NULL, &s, &f->err), cases[i].code);
        assert_string_not_equal(f->err.message, "");
        assert_null(s.ops);
    }
    assert_int_equal(put(f, "k", "x", NULL), 0);
    char url[2 * HADB_PATH_BYTES_MAX];
    snprintf(url, sizeof(url), "file://%s/leases/k", f->dir); /* a file */
    assert_int_equal(hadb_lease_open(url, NULL, &s, &f->err), HADB_EIO);
    assert_non_null(strstr(f->err.message, "/leases/k"));
    f->faultfs = (struct test_faultfs){
        .fail_at = 1, .sys_errno = EACCES, .mask = 1u << TEST_FS_LIST}; /* root may read it all */
    assert_int_equal(reopen(f, true), HADB_EAUTH);
    assert_non_null(strstr(f->err.message, "/leases"));
}

static void table__that_misses_a_required_method_is_refused(void **state)
{
    struct fixture *f = *state;
    struct hadb_error err = {0};
    static const char *const names[] = {"abi", "scheme", "read", "write_if_match", "close"};
    for (size_t i = 0; i < HADB_LEN(names); i++) {
        struct hadb_lease_ops ops = *f->s.ops;
        ops.abi = i == 0 ? 0 : ops.abi;
        ops.scheme = i == 1 ? NULL : ops.scheme;
        ops.read = i == 2 ? NULL : ops.read;
        ops.write_if_match = i == 3 ? NULL : ops.write_if_match;
        ops.close = i == 4 ? NULL : ops.close;
        struct hadb_lease s = {.ops = &ops, .self = f->s.self};
        assert_int_equal(hadb_lease_check(&s, &err), HADB_EINVAL);
        assert_non_null(strstr(err.message, names[i]));
    }
    struct hadb_lease_ops ops = *f->s.ops;
    ops.watch = NULL; /* optional, and then said so */
    struct hadb_lease s = {.ops = &ops, .self = f->s.self};
    assert_int_equal(hadb_lease_check(&s, &err), 0);
    assert_int_equal(hadb_lease_watch(&s, NULL, "k", NULL, &err), HADB_ENOTSUP);
}

static void open__survives_failing_allocations(void **state)
{
    (void)state;
    static const char *const urls[] = {"mem:", "mem:named", "file:///tmp/no-such-folder-of-ours"};
    for (size_t i = 0; i < HADB_LEN(urls); i++) {
        bool hit = true;
        for (uint64_t n = 1; hit && n < 100; n++) {
            struct hadb_lease s = {0};
            test_alloc_fail_at(n);
            int r = hadb_lease_open(urls[i], NULL, &s, NULL);
            hit = test_alloc_hit();
            assert_true(r == (hit ? HADB_ENOMEM : 0));
            hadb_lease_close(&s);
            assert_int_equal(test_alloc_live(), 0);
            test_alloc_reset();
        }
        assert_false(hit);
    }
}

#define lease(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        lease(file__exchanged_folder_is_neither_read_nor_written),
        lease(file__has_the_documented_bytes),
        lease(file__that_is_cut_or_changed_anywhere_is_named_as_damaged),
        lease(write__that_fails_anywhere_leaves_the_old_record_or_the_new),
        lease(leftover__is_removed_at_open_when_older_than_an_hour),
        lease(held__lock_holds_up_writers_of_its_key_only),
        lease(key__in_the_way_of_another_is_refused),
        lease(processes__lose_no_update),
        lease(mem__without_a_name_is_private_and_with_one_is_shared),
        lease(url__that_is_wrong_is_refused_with_a_reason),
        lease(table__that_misses_a_required_method_is_refused),
        lease(open__survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
