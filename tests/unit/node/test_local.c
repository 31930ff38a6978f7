/* SPDX-License-Identifier: Apache-2.0 */
/* A database without a node: the same calls on a folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/fs.h"
#include "hadb/kv.h"
#include "node/folder.h"
#include "tests/support/support.h"

static char dir[HADB_PATH_BYTES_MAX];
static struct hadb_db *db;

static int setup(void **state)
{
    (void)state;
    test_tmp_make(dir);
    return hadb_kv_open_local(dir, NULL, NULL, &db, NULL);
}

static int teardown(void **state)
{
    (void)state;
    hadb_db_close(db, 0);
    db = NULL;
    test_tmp_remove(dir);
    return 0;
}

static void reopen(void)
{
    hadb_db_close(db, 0);
    db = NULL;
    assert_int_equal(hadb_kv_open_local(dir, "kv", NULL, &db, NULL), 0);
}

static void expect(const char *key, const char *value)
{
    struct hadb_buf got = {0};
    int r = hadb_kv_get(db, hadb_slice_str(key), NULL, &got, NULL, NULL);
    assert_int_equal(r, value ? 0 : HADB_ABSENT);
    if (value) {
        assert_true(hadb_slice_eq(hadb_buf_slice(&got), hadb_slice_str(value)));
    }
    hadb_buf_deinit(&got);
}

static void writes__are_there_after_a_restart(void **state)
{
    (void)state;
    for (int i = 0; i < 600; i++) { /* past some marks */
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        struct hadb_kv_options options = {.ack = i % 2 ? HADB_ACK_ASYNC : HADB_ACK_DURABLE};
        assert_int_equal(
            hadb_kv_put(db, hadb_slice_str(key), hadb_slice_str("v"), &options, NULL, NULL), 0);
    }
    assert_int_equal(hadb_kv_delete(db, hadb_slice_str("k7"), NULL, NULL, NULL), 0);
    reopen();
    expect("k0", "v");
    expect("k599", "v");
    expect("k7", NULL);
    struct hadb_db_info info;
    hadb_db_info(db, &info);
    assert_int_equal(info.txid, 601);
    assert_int_equal(hadb_db_role(db), HADB_ROLE_LEADER);
}

static void conditions_ids_batches_and_scans__work_as_on_a_node(void **state)
{
    (void)state;
    struct hadb_kv_options options = {.if_absent = true};
    struct hadb_kv_result result;
    assert_int_equal(
        hadb_kv_put(db, hadb_slice_str("a"), hadb_slice_str("1"), &options, &result, NULL), 0);
    options.request_id = result.request_id; /* the same request again */
    assert_int_equal(
        hadb_kv_put(db, hadb_slice_str("a"), hadb_slice_str("1"), &options, &result, NULL), 0);
    options.request_id = (struct hadb_id){{0}};
    assert_int_equal(
        hadb_kv_put(db, hadb_slice_str("a"), hadb_slice_str("2"), &options, NULL, NULL),
        HADB_NOT_MET);
    struct hadb_kv_op ops[] = {
        {.type = HADB_OP_PUT, .key = hadb_slice_str("b"), .value = hadb_slice_str("2")},
        {.type = HADB_OP_PUT, .key = hadb_slice_str("c"), .value = hadb_slice_str("3")},
        {.type = HADB_OP_DELETE, .key = hadb_slice_str("a")},
    };
    assert_int_equal(hadb_kv_batch(db, ops, 3, NULL, NULL, NULL), 0);
    struct hadb_kv_items items = {0};
    struct hadb_range range = {.reverse = true};
    assert_int_equal(hadb_kv_scan(db, &range, 1, NULL, &items, NULL, NULL), 0);
    assert_int_equal(items.len, 1);
    assert_true(items.more);
    assert_true(hadb_slice_eq(items.items[0].key, hadb_slice_str("c")));
    hadb_kv_items_deinit(&items);
}

static void bad_arguments__are_refused_before_anything_happens(void **state)
{
    (void)state;
    struct hadb_error err;
    struct hadb_kv_options late = {.deadline_ms = HADB_DEADLINE_MS_MAX + 1};
    struct hadb_kv_options mark = {.read = HADB_READ_BOOKMARK};
    static char big[HADB_KEY_BYTES_MAX + 1];
    struct hadb_kv_items items;
    memset(big, 'k', sizeof big);
    assert_int_equal(hadb_kv_put(db, hadb_slice("", 0), hadb_slice_str("v"), NULL, NULL, &err),
                     HADB_EINVAL);
    assert_int_equal(
        hadb_kv_put(db, hadb_slice(big, sizeof big), hadb_slice_str("v"), NULL, NULL, &err),
        HADB_ETOOBIG);
    assert_int_equal(hadb_kv_put(db, hadb_slice_str("k"),
                                 hadb_slice(big, (size_t)HADB_VALUE_BYTES_MAX + 1), NULL, NULL,
                                 &err),
                     HADB_ETOOBIG);
    assert_int_equal(hadb_kv_put(db, hadb_slice_str("k"), hadb_slice_str("v"), &late, NULL, &err),
                     HADB_EINVAL);
    assert_int_equal(hadb_kv_get(db, hadb_slice_str("k"), &mark, NULL, NULL, &err), HADB_EINVAL);
    assert_int_equal(hadb_kv_batch(db, NULL, 0, NULL, NULL, &err), HADB_EINVAL);
    assert_int_equal(hadb_kv_scan(db, NULL, HADB_SCAN_LIMIT_MAX + 1, NULL, &items, NULL, &err),
                     HADB_EINVAL);
    assert_int_equal(hadb_db_handoff(db, NULL, 100, &err), HADB_EUNAVAIL);
    assert_int_equal(hadb_kv_open_local("", NULL, NULL, &db, &err), HADB_EINVAL);
}

static void a_second_handle__is_refused(void **state)
{
    (void)state;
    struct hadb_db *second = NULL;
    struct hadb_error err;
    assert_int_equal(hadb_kv_open_local(dir, "kv", NULL, &second, &err), HADB_ELOCKED);
    assert_int_equal(hadb_kv_open_local(dir, "abacus", NULL, &second, &err), HADB_ENOTSUP);
    assert_null(second);
}

struct answer {
    int r;
    unsigned calls;
    char value[16];
};

static void answered(void *arg, int r, struct hadb_slice value, const struct hadb_kv_result *result,
                     const struct hadb_error *err)
{
    struct answer *answer = arg;
    (void)result;
    (void)err;
    answer->r = r;
    answer->calls++;
    snprintf(answer->value, sizeof answer->value, "%.*s", (int)value.len, (const char *)value.data);
}

static void asynchronous_calls__call_back_once(void **state)
{
    (void)state;
    struct answer put = {.r = 1}, get = {.r = 1}, absent = {.r = 1};
    assert_int_equal(
        hadb_kv_put_async(db, hadb_slice_str("k"), hadb_slice_str("v"), NULL, answered, &put, NULL),
        0);
    assert_int_equal(hadb_kv_get_async(db, hadb_slice_str("k"), NULL, answered, &get, NULL), 0);
    assert_int_equal(hadb_kv_get_async(db, hadb_slice_str("no"), NULL, answered, &absent, NULL), 0);
    assert_int_equal(put.r + get.r, 0);
    assert_int_equal(put.calls + get.calls + absent.calls, 3);
    assert_string_equal(get.value, "v");
    assert_int_equal(absent.r, HADB_ABSENT);
}

/* The data folder of a node that runs, and everything in it, is the node's. */
static void a_folder_of_a_running_node__is_refused(void **state)
{
    (void)state;
    static const char *const inside[] = {".", "new", "db/x/engine"};
    struct hadb_folder folder;
    struct hadb_error err = {0};
    char data[HADB_PATH_BYTES_MAX], path[HADB_PATH_BYTES_MAX];
    struct hadb_db *local = NULL;
    assert_int_equal(hadb_path_join(data, dir, "node", NULL), 0);
    assert_int_equal(hadb_folder_open(hadb_env_host(), data, &folder, NULL), 0);
    for (size_t i = 0; i < HADB_LEN(inside); i++) {
        assert_int_equal(hadb_path_join(path, data, inside[i], NULL), 0);
        assert_int_equal(hadb_kv_open_local(path, "kv", NULL, &local, &err), HADB_ELOCKED);
        assert_non_null(strstr(err.message, "stop the node"));
        assert_true(i == 0 || hadb_fs_list(NULL, path, NULL, NULL, NULL) == HADB_ABSENT);
    }
    hadb_folder_close(&folder);
    assert_int_equal(hadb_kv_open_local(path, "kv", NULL, &local, &err), 0);
    assert_int_equal(hadb_folder_open(hadb_env_host(), data, &folder, NULL), HADB_ELOCKED);
    hadb_db_close(local, 0);
    assert_int_equal(hadb_folder_open(hadb_env_host(), data, &folder, NULL), 0);
    hadb_folder_close(&folder);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(writes__are_there_after_a_restart),
        T(conditions_ids_batches_and_scans__work_as_on_a_node),
        T(bad_arguments__are_refused_before_anything_happens),
        T(a_second_handle__is_refused),
        T(asynchronous_calls__call_back_once),
        T(a_folder_of_a_running_node__is_refused),
    };
    return cmocka_run_group_tests_name("local", tests, NULL, NULL);
}
