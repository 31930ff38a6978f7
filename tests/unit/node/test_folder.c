/* SPDX-License-Identifier: Apache-2.0 */
/* The data folder, and the thread that runs callbacks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/hash.h"
#include "base/id.h"
#include "node/callbacks.h"
#include "node/folder.h"
#include "tests/support/support.h"

#include <stdio.h>

static char dir[HADB_PATH_BYTES_MAX];

static int setup(void **state)
{
    (void)state;
    test_tmp_make(dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_tmp_remove(dir);
    return 0;
}

static void read_file(const char *name, char *out, size_t out_bytes)
{
    char path[HADB_PATH_BYTES_MAX];
    struct hadb_buf bytes = {0};
    struct hadb_fs fs = hadb_fs_host();
    assert_int_equal(hadb_path_join(path, dir, name, NULL), 0);
    assert_int_equal(hadb_fs_read_file(&fs, path, 4096, &bytes, NULL), 0);
    assert_true(bytes.len < out_bytes);
    memcpy(out, bytes.data, bytes.len);
    out[bytes.len] = '\0';
    hadb_buf_deinit(&bytes);
}

static void a_folder__keeps_its_id_over_restarts(void **state)
{
    (void)state;
    struct hadb_folder folder, again;
    assert_int_equal(hadb_folder_open(hadb_env_host(), dir, &folder, NULL), 0);
    struct hadb_id id = folder.id;
    assert_false(hadb_id_is_zero(&id));
    hadb_folder_close(&folder);
    hadb_folder_close(&folder);
    assert_int_equal(hadb_folder_open(hadb_env_host(), dir, &again, NULL), 0);
    assert_true(hadb_id_eq(&id, &again.id));
    hadb_folder_close(&again);
}

static void a_folder_in_use__is_refused(void **state)
{
    (void)state;
    struct hadb_folder folder, second;
    struct hadb_error err;
    assert_int_equal(hadb_folder_open(hadb_env_host(), dir, &folder, NULL), 0);
    assert_int_equal(hadb_folder_open(hadb_env_host(), dir, &second, &err), HADB_ELOCKED);
    assert_non_null(strstr(err.message, "in use"));
    hadb_folder_close(&folder);
    assert_int_equal(hadb_folder_open(hadb_env_host(), dir, &second, &err), 0);
    hadb_folder_close(&second);
}

/* As when the disk of the data folder is unmounted. */
static void an_exchanged_folder__gets_no_database(void **state)
{
    (void)state;
    struct hadb_folder folder;
    struct hadb_db_paths paths = {0};
    struct hadb_id uuid;
    struct hadb_error err = {0};
    char data[HADB_PATH_BYTES_MAX], kept[HADB_PATH_BYTES_MAX];
    hadb_id_random(hadb_env_host(), &uuid);
    assert_int_equal(hadb_path_join(data, dir, "data", NULL), 0);
    assert_int_equal(hadb_path_join(kept, dir, "kept", NULL), 0);
    assert_int_equal(hadb_folder_open(hadb_env_host(), data, &folder, NULL), 0);
    assert_int_equal(rename(data, kept), 0);
    assert_int_equal(mkdir(data, 0750), 0);
    assert_int_equal(hadb_folder_db(&folder, &uuid, "d", "kv", &paths, &err), HADB_EIO);
    assert_non_null(strstr(err.message, "is its disk mounted?"));
    assert_int_equal(hadb_folder_write_address(&folder, "127.0.0.1:1", &err), HADB_EIO);
    assert_int_equal(rmdir(data), 0); /* it is empty */
    assert_int_equal(rename(kept, data), 0);
    assert_int_equal(hadb_folder_db(&folder, &uuid, "d", "kv", &paths, &err), 0);
    hadb_db_paths_deinit(&paths);
    hadb_folder_close(&folder);
}

static void a_damaged_id__is_named(void **state)
{
    (void)state;
    struct hadb_folder folder;
    struct hadb_error err;
    struct hadb_fs fs = hadb_fs_host();
    char path[HADB_PATH_BYTES_MAX];
    static const char zero[] = "01890a5d-ac96-774b-bcce-b302099a8057\0more";
    static const char far_too_long[200] = "01890a5d-ac96-774b-bcce-b302099a8057";
    const struct hadb_slice bad[] = {hadb_slice_str("not an id\n"), hadb_slice(NULL, 0),
                                     hadb_slice(zero, sizeof zero),
                                     hadb_slice(far_too_long, sizeof far_too_long)};
    assert_int_equal(hadb_path_join(path, dir, "node.id", NULL), 0);
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        assert_int_equal(hadb_fs_replace_file(&fs, path, bad[i], NULL), 0);
        assert_int_equal(hadb_folder_open(hadb_env_host(), dir, &folder, &err), HADB_ECORRUPT);
        assert_non_null(strstr(err.message, "node.id is damaged: put the node's id back"));
    }
}

static void an_address__is_written_as_one_line(void **state)
{
    (void)state;
    struct hadb_folder folder;
    char text[64];
    assert_int_equal(hadb_folder_open(hadb_env_host(), dir, &folder, NULL), 0);
    assert_int_equal(hadb_folder_write_address(&folder, "127.0.0.1:4280", NULL), 0);
    read_file("node.addr", text, sizeof text);
    assert_string_equal(text, "127.0.0.1:4280\n");
    hadb_folder_close(&folder);
}

static void a_database__has_its_folders_and_an_empty_tmp(void **state)
{
    (void)state;
    struct hadb_folder folder;
    struct hadb_db_paths paths;
    struct hadb_id uuid = {{1}};
    struct hadb_fs fs = hadb_fs_host();
    char left[HADB_PATH_BYTES_MAX], kept[HADB_PATH_BYTES_MAX];
    struct hadb_buf bytes = {0};
    assert_int_equal(hadb_folder_open(hadb_env_host(), dir, &folder, NULL), 0);
    assert_int_equal(hadb_folder_db(&folder, &uuid, "orders", "kv", &paths, NULL), 0);
    assert_int_equal(hadb_path_join(left, paths.tmp, "half", NULL), 0);
    assert_int_equal(hadb_path_join(kept, paths.lost, "tail", NULL), 0);
    assert_int_equal(hadb_fs_replace_file(&fs, left, hadb_slice_str("x"), NULL), 0);
    assert_int_equal(hadb_fs_replace_file(&fs, kept, hadb_slice_str("x"), NULL), 0);
    hadb_db_paths_deinit(&paths);
    assert_int_equal(hadb_folder_db(&folder, &uuid, "orders", "kv", &paths, NULL), 0);
    assert_int_equal(hadb_fs_read_file(&fs, left, 10, &bytes, NULL), HADB_ABSENT);
    assert_int_equal(hadb_fs_read_file(&fs, kept, 10, &bytes, NULL), 0);
    hadb_buf_deinit(&bytes);
    hadb_db_paths_deinit(&paths);
    hadb_folder_close(&folder);
}

static void make_db(struct hadb_folder *folder, uint8_t id, const char *name, const char *engine)
{
    struct hadb_db_paths paths;
    assert_int_equal(hadb_folder_db(folder, &(struct hadb_id){{id}}, name, engine, &paths, NULL),
                     0);
    hadb_db_paths_deinit(&paths);
}

/* What a start without storage goes by. */
static void databases__are_found_by_name_and_engine(void **state)
{
    (void)state;
    struct hadb_folder folder;
    struct hadb_folder_known known;
    char path[HADB_PATH_BYTES_MAX + 64];
    struct hadb_fs fs = hadb_fs_host();
    assert_int_equal(hadb_folder_open(hadb_env_host(), dir, &folder, NULL), 0);
    make_db(&folder, 1, "orders", "kv");
    make_db(&folder, 2, "users", "memory");
    make_db(&folder, 3, "moved", "kv");
    make_db(&folder, 4, "moved", "kv"); /* restored under its old name once */
    make_db(&folder, 5, "garbage", "kv");
    snprintf(path, sizeof path, "%s/db/05000000-0000-0000-0000-000000000000/name", dir);
    assert_int_equal(hadb_fs_replace_file(&fs, path, hadb_slice_str("\001=\377\n"), NULL), 0);
    snprintf(path, sizeof path, "%s/db/no-uuid", dir);
    assert_int_equal(hadb_fs_mkdir_all(&fs, path, NULL), 0);

    assert_int_equal(hadb_folder_index(&folder, &known, NULL), 0);
    const struct hadb_folder_db *found = hadb_folder_known_find(&known, "orders", "kv");
    assert_null(hadb_folder_known_find(&known, "garbage", "kv"));
    assert_non_null(found);
    assert_int_equal(found->uuid.b[0], 1);
    found = hadb_folder_known_find(&known, "users", "memory");
    assert_non_null(found);
    assert_int_equal(found->uuid.b[0], 2);
    assert_null(hadb_folder_known_find(&known, "users", "kv")); /* another engine */
    assert_null(hadb_folder_known_find(&known, "moved", "kv")); /* which of the two? */
    assert_null(hadb_folder_known_find(&known, "order", "kv"));
    assert_null(hadb_folder_known_find(&known, "zebra", "kv"));
    hadb_folder_known_deinit(&known);
    hadb_folder_known_deinit(&known);
    hadb_folder_close(&folder);
}

/* ---- callbacks ---- */

struct counting {
    struct hadb_callback callback;
    struct hadb_callbacks *callbacks;
    unsigned *next;
    unsigned number, seen;
    bool on_its_thread;
};

static void count(void *arg)
{
    struct counting *c = arg;
    c->seen = (*c->next)++;
    c->on_its_thread = hadb_callbacks_on(c->callbacks);
}

static void callbacks__run_in_order_on_their_thread_before_stop_returns(void **state)
{
    (void)state;
    struct hadb_callbacks callbacks;
    struct counting list[100];
    unsigned next = 0;
    assert_int_equal(hadb_callbacks_start(&callbacks, NULL), 0);
    assert_false(hadb_callbacks_on(&callbacks));
    for (unsigned i = 0; i < 100; i++) {
        list[i] = (struct counting){.callbacks = &callbacks, .next = &next, .number = i};
        list[i].callback = (struct hadb_callback){.fn = count, .arg = &list[i]};
        hadb_callbacks_post(&callbacks, &list[i].callback);
    }
    hadb_callbacks_stop(&callbacks);
    hadb_callbacks_stop(&callbacks);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(list[i].seen, i);
        assert_true(list[i].on_its_thread);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_folder__keeps_its_id_over_restarts),
        T(a_folder_in_use__is_refused),
        T(an_exchanged_folder__gets_no_database),
        T(a_damaged_id__is_named),
        T(an_address__is_written_as_one_line),
        T(a_database__has_its_folders_and_an_empty_tmp),
        T(databases__are_found_by_name_and_engine),
        T(callbacks__run_in_order_on_their_thread_before_stop_returns),
    };
    return cmocka_run_group_tests_name("folder", tests, NULL, NULL);
}
