/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every exported function, called with NULL, with closed handles, with lengths that do not fit: a code or nothing, never the end
 * of the process. The list of exports is compared with what is called here, so a new one cannot be forgotten.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "hadb/hadb.h"
#include "tests/support/support.h"

static const char *symbols; /* libhadb.sym */
static const char *called[512];
static size_t called_len;

static void note(const char *name)
{
    assert_true(called_len < 512);
    called[called_len++] = name;
}

/* @name with these arguments is a mistake of the caller, and it is told so. */
#define REFUSED(name, ...)                                                          \
    do {                                                                            \
        struct hadb_error err = {0};                                                \
        note(#name);                                                                \
        int r = name(__VA_ARGS__, &err);                                            \
        if (r != HADB_EINVAL || err.code != HADB_EINVAL || !err.message[0]) {       \
            fail_msg("%s:%d %s: %d %s", __FILE__, __LINE__, #name, r, err.message); \
        }                                                                           \
        assert_int_equal(name(__VA_ARGS__, NULL), HADB_EINVAL);                     \
    } while (0)
/* It is fine, or has no way to say that it is not. */
#define HARMLESS(name, ...) \
    do {                    \
        note(#name);        \
        name(__VA_ARGS__);  \
    } while (0)

static const struct hadb_slice none, nowhere = {.data = NULL, .len = 5};

static struct hadb_slice text(const char *s)
{
    return hadb_slice_str(s);
}

static void node_h__refuses_what_cannot_be(void **state)
{
    (void)state;
    struct hadb_node *node = NULL;
    struct hadb_db *db = NULL;
    struct hadb_buf out = {0};
    struct hadb_db_info info;
    enum hadb_ack_mode mode;
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_db_options bad = {.abi = HADB_NODE_ABI + 1};
    REFUSED(hadb_node_open, NULL, &node);
    REFUSED(hadb_node_open, &options, NULL);
    REFUSED(hadb_node_open, &options, &node); /* without a name */
    options.abi = 0;
    REFUSED(hadb_node_open, &options, &node);
    REFUSED(hadb_node_status, NULL, &out);
    REFUSED(hadb_node_metrics, NULL, &out);
    REFUSED(hadb_db_check, NULL, NULL);
    REFUSED(hadb_db_check, "d", &bad);
    REFUSED(hadb_db_open, NULL, "d", NULL, &db);
    REFUSED(hadb_db_open, NULL, NULL, NULL, &db);
    REFUSED(hadb_db_open, NULL, "d", NULL, NULL);
    REFUSED(hadb_db_handoff, NULL, "n", 10);
    REFUSED(hadb_db_snapshot, NULL);
    REFUSED(hadb_db_wait_ready, NULL, 10);
    REFUSED(hadb_ack_parse, NULL, &mode);
    REFUSED(hadb_ack_parse, "durable", NULL);
    HARMLESS(hadb_node_close, NULL, 0);
    HARMLESS(hadb_db_close, NULL, 0);
    HARMLESS(hadb_db_info, NULL, &info);
    assert_non_null(strstr(info.reason, "NULL"));
    HARMLESS(hadb_db_info, NULL, NULL);
    HARMLESS(hadb_node_address, NULL);
    HARMLESS(hadb_node_name, NULL);
    HARMLESS(hadb_db_role, NULL);
    HARMLESS(hadb_role_name, (enum hadb_role)99);
    HARMLESS(hadb_ack_name, (enum hadb_ack_mode)99);
    HARMLESS(hadb_code_name, 99);
    HARMLESS(hadb_code_text, 99);
    HARMLESS(hadb_buf_deinit, NULL);
    note("hadb_env_host");
    assert_non_null(hadb_env_host());
}

static void done(void *arg, int r, struct hadb_slice value, const struct hadb_kv_result *result,
                 const struct hadb_error *err)
{
    (void)arg;
    (void)r;
    (void)value;
    (void)result;
    (void)err;
    fail();
}

static void kv_calls(struct hadb_db *db)
{
    struct hadb_slice k = text("k"), v = text("v");
    struct hadb_kv_op op = {.type = HADB_OP_PUT, .key = nowhere};
    struct hadb_kv_items items = {0};
    struct hadb_range range = {.prefix = nowhere};
    REFUSED(hadb_kv_put, db, none, v, NULL, NULL);
    REFUSED(hadb_kv_put, db, nowhere, v, NULL, NULL);
    REFUSED(hadb_kv_put, db, k, nowhere, NULL, NULL);
    REFUSED(hadb_kv_delete, db, nowhere, NULL, NULL);
    REFUSED(hadb_kv_get, db, nowhere, NULL, NULL, NULL);
    REFUSED(hadb_kv_batch, db, NULL, 0, NULL, NULL);
    REFUSED(hadb_kv_batch, db, NULL, 1, NULL, NULL);
    REFUSED(hadb_kv_batch, db, &op, 1, NULL, NULL);
    REFUSED(hadb_kv_scan, db, &range, 0, NULL, &items, NULL);
    REFUSED(hadb_kv_scan, db, NULL, 0, NULL, NULL, NULL);
    REFUSED(hadb_kv_put_async, db, nowhere, v, NULL, done, NULL);
    REFUSED(hadb_kv_put_async, db, k, nowhere, NULL, done, NULL);
    REFUSED(hadb_kv_put_async, db, k, v, NULL, NULL, NULL);
    REFUSED(hadb_kv_get_async, db, none, NULL, done, NULL);
    REFUSED(hadb_kv_get_async, db, k, NULL, NULL, NULL);
}

static void kv_h__refuses_what_cannot_be(void **state)
{
    (void)state;
    char dir[HADB_PATH_BYTES_MAX];
    struct hadb_db *db = NULL;
    struct hadb_slice k = text("k"), v = text("v");
    struct hadb_kv_op op = {.type = HADB_OP_PUT, .key = k};
    struct hadb_kv_items items = {0};
    struct hadb_version version;
    char version_text[HADB_VERSION_TEXT_BYTES];
    test_tmp_make(dir);
    REFUSED(hadb_kv_open_local, NULL, NULL, NULL, &db);
    REFUSED(hadb_kv_open_local, "", NULL, NULL, &db);
    REFUSED(hadb_kv_open_local, dir, NULL, NULL, NULL);
    assert_int_equal(hadb_kv_open_local(dir, NULL, NULL, &db, NULL), 0);
    kv_calls(db);
    hadb_db_close(db, 0);
    kv_calls(NULL);
    REFUSED(hadb_kv_put, NULL, k, v, NULL, NULL);
    REFUSED(hadb_kv_delete, NULL, k, NULL, NULL);
    REFUSED(hadb_kv_batch, NULL, &op, 1, NULL, NULL);
    REFUSED(hadb_kv_get, NULL, k, NULL, NULL, NULL);
    REFUSED(hadb_kv_scan, NULL, NULL, 0, NULL, &items, NULL);
    REFUSED(hadb_kv_put_async, NULL, k, v, NULL, done, NULL);
    REFUSED(hadb_kv_get_async, NULL, k, NULL, done, NULL);
    HARMLESS(hadb_kv_items_deinit, NULL);
    HARMLESS(hadb_version_format, NULL, version_text);
    HARMLESS(hadb_version_format, NULL, NULL);
    HARMLESS(hadb_version_parse, NULL, &version);
    HARMLESS(hadb_version_parse, "1.1", NULL);
    test_tmp_remove(dir);
}

static void storage_h_and_lease_h__refuse_what_cannot_be(void **state)
{
    (void)state;
    struct hadb_storage closed = {0}, open = {0};
    struct hadb_lease lease = {0};
    struct hadb_buf out = {0};
    struct hadb_tag tag = {0};
    struct hadb_object_meta meta;
    struct hadb_object_list list = {0};
    const char *const keys[] = {NULL};
    struct hadb_storage_io io = {.type = HADB_IO_GET, .key = "k"};
    struct hadb_storage *handles[] = {NULL, &closed};
    REFUSED(hadb_storage_open, NULL, NULL, &open);
    REFUSED(hadb_storage_open, "mem:misuse", NULL, NULL);
    REFUSED(hadb_lease_open, NULL, NULL, &lease);
    REFUSED(hadb_lease_open, "mem:misuse", NULL, NULL);
    for (size_t i = 0; i < 2; i++) {
        struct hadb_storage *s = handles[i];
        struct hadb_lease *l = i == 0 ? NULL : &lease;
        REFUSED(hadb_storage_check, s);
        REFUSED(hadb_storage_get, s, NULL, "k", &out, NULL);
        REFUSED(hadb_storage_get_range, s, NULL, "k", 0, 1, &out);
        REFUSED(hadb_storage_head, s, NULL, "k", &meta);
        REFUSED(hadb_storage_create, s, NULL, "k", none, NULL);
        REFUSED(hadb_storage_replace, s, NULL, "k", none, &tag, NULL);
        REFUSED(hadb_storage_list, s, NULL, "", "", 1, &list);
        REFUSED(hadb_storage_delete_many, s, NULL, keys, 1);
        REFUSED(hadb_storage_submit, s, &io);
        HARMLESS(hadb_storage_fd, s);
        HARMLESS(hadb_storage_drive, s);
        HARMLESS(hadb_storage_usage, s, NULL);
        HARMLESS(hadb_storage_caps, s);
        HARMLESS(hadb_storage_close, s);
        REFUSED(hadb_lease_check, l);
        REFUSED(hadb_lease_read, l, NULL, "k", &out, &tag);
        REFUSED(hadb_lease_write_if_match, l, NULL, "k", none, NULL, NULL);
        REFUSED(hadb_lease_watch, l, NULL, "k", &tag);
        HARMLESS(hadb_lease_tells, l);
        HARMLESS(hadb_lease_close, l);
    }
    HARMLESS(hadb_object_list_deinit, NULL);
    HARMLESS(hadb_storage_cost_nusd, NULL);
    assert_int_equal(hadb_storage_open("mem:misuse", NULL, &open, NULL), 0);
    assert_int_equal(hadb_lease_open("mem:misuse", NULL, &lease, NULL), 0);
    REFUSED(hadb_storage_get, &open, NULL, "k", NULL, NULL);
    REFUSED(hadb_storage_get, &open, NULL, NULL, &out, NULL);
    REFUSED(hadb_storage_get_range, &open, NULL, "k", 0, 1, NULL);
    REFUSED(hadb_storage_head, &open, NULL, "k", NULL);
    REFUSED(hadb_storage_create, &open, NULL, "k", nowhere, NULL);
    REFUSED(hadb_storage_replace, &open, NULL, "k", none, NULL, NULL);
    REFUSED(hadb_storage_list, &open, NULL, NULL, "", 1, &list);
    REFUSED(hadb_storage_list, &open, NULL, "", "", 0, &list);
    REFUSED(hadb_storage_list, &open, NULL, "", "", 1, NULL);
    REFUSED(hadb_storage_submit, &open, NULL);
    REFUSED(hadb_storage_submit, &open, &io); /* no done, nowhere to put it */
    REFUSED(hadb_storage_delete_many, &open, NULL, NULL, 1);
    REFUSED(hadb_storage_delete_many, &open, NULL, keys, 1);
    REFUSED(hadb_lease_read, &lease, NULL, "k", NULL, &tag);
    REFUSED(hadb_lease_read, &lease, NULL, "k", &out, NULL);
    REFUSED(hadb_lease_write_if_match, &lease, NULL, "k", nowhere, NULL, NULL);
    hadb_storage_close(&open);
    hadb_lease_close(&lease);
}

static void engine_calls(const struct hadb_engine *e)
{
    struct hadb_pos pos = {0};
    struct hadb_buf out = {0};
    struct hadb_range range = {0};
    struct hadb_item item = {0};
    struct hadb_hash hash;
    struct hadb_engine_position position;
    struct hadb_engine_stats stats;
    void *view = NULL, *scan = NULL, *some = &pos;
    REFUSED(hadb_engine_apply, e, none, NULL);
    REFUSED(hadb_engine_mark, e, &pos);
    REFUSED(hadb_engine_sync, e);
    REFUSED(hadb_engine_get, e, NULL, text("k"), &out, NULL);
    REFUSED(hadb_engine_view_open, e, &view, NULL);
    REFUSED(hadb_engine_scan_open, e, some, &range, &scan);
    REFUSED(hadb_engine_scan_next, e, some, &item);
    REFUSED(hadb_engine_tail, e, 0, 1, &out);
    REFUSED(hadb_engine_rewind, e);
    REFUSED(hadb_engine_ingest, e, &item, 1);
    REFUSED(hadb_engine_digest, e, NULL, none, &hash);
    REFUSED(hadb_export_digest, e, NULL, &hash, NULL);
    HARMLESS(hadb_engine_view_close, e, some);
    HARMLESS(hadb_engine_scan_close, e, some);
    HARMLESS(hadb_engine_position, e, &position);
    assert_int_equal(position.last_txid, 0);
    HARMLESS(hadb_engine_position, e, NULL);
    HARMLESS(hadb_engine_stats, e, &stats);
    assert_int_equal(stats.keys, 0);
}

static int take_bytes(void *arg, struct hadb_slice bytes, struct hadb_error *err)
{
    (void)arg;
    (void)bytes;
    (void)err;
    return 0;
}

static void engine_h__refuses_what_cannot_be(void **state)
{
    (void)state;
    struct hadb_engine e = {0};
    struct hadb_buf out = {0};
    struct hadb_slice rest = nowhere;
    struct hadb_txn txn = {0};
    struct hadb_op op = {.type = HADB_OP_PUT, .key = nowhere}, found;
    size_t cursor = 12345;
    void *view = NULL;
    engine_calls(NULL);
    engine_calls(&e);
    REFUSED(hadb_export, NULL, NULL, take_bytes, NULL, NULL);
    REFUSED(hadb_engine_check, NULL);
    REFUSED(hadb_engine_open, NULL, "x", NULL, NULL, &e);
    REFUSED(hadb_engine_open, "kv", NULL, NULL, NULL, &e);
    REFUSED(hadb_engine_open, "memory", NULL, NULL, NULL, NULL);
    assert_int_equal(hadb_engine_open("memory", NULL, NULL, NULL, &e, NULL), 0);
    REFUSED(hadb_engine_apply, &e, nowhere, NULL);
    REFUSED(hadb_engine_mark, &e, NULL);
    REFUSED(hadb_engine_get, &e, NULL, nowhere, &out, NULL);
    REFUSED(hadb_engine_view_open, &e, NULL, NULL);
    REFUSED(hadb_engine_scan_open, &e, NULL, NULL, &view);
    REFUSED(hadb_engine_scan_next, &e, NULL, NULL);
    REFUSED(hadb_engine_tail, &e, 0, 1, NULL);
    REFUSED(hadb_engine_ingest, &e, NULL, 1);
    REFUSED(hadb_engine_digest, &e, NULL, none, NULL);
    REFUSED(hadb_export, &e, NULL, NULL, NULL, NULL);
    REFUSED(hadb_export_digest, &e, NULL, NULL, NULL);
    HARMLESS(hadb_engine_stats, &e, NULL);
    HARMLESS(hadb_engine_close, &e);
    HARMLESS(hadb_engine_close, &e);
    HARMLESS(hadb_engine_close, NULL);
    REFUSED(hadb_txn_encode, 1, 1, 0, NULL, 1, &out);
    REFUSED(hadb_txn_encode, 1, 1, 0, &op, 1, &out);
    REFUSED(hadb_txn_encode, 1, 1, 0, NULL, 0, NULL);
    REFUSED(hadb_txn_next, NULL, &txn);
    REFUSED(hadb_txn_next, &rest, &txn);
    note("hadb_txn_op");
    assert_int_equal(hadb_txn_op(NULL, &cursor, &found), HADB_EINVAL);
    assert_int_equal(hadb_txn_op(&txn, &cursor, &found), HADB_EINVAL);
    assert_int_equal(hadb_txn_op(&txn, NULL, &found), HADB_EINVAL);
}

static void executor_h__refuses_what_cannot_be(void **state)
{
    (void)state;
    struct hadb_engine engine = {0};
    struct hadb_executor closed = {0}, open = {0};
    const struct hadb_executor *handles[] = {NULL, &closed};
    struct hadb_execute_context context = {0};
    struct hadb_request request = {.type = HADB_REQUEST_PUT, .key = text("k")};
    const struct hadb_request *requests[] = {&request};
    struct hadb_response response = {0};
    struct hadb_version version = {0};
    struct hadb_id id;
    struct hadb_bookmark bookmark;
    REFUSED(hadb_executor_open, "kv", NULL, &open);
    REFUSED(hadb_executor_open, "kv", &engine, &open); /* it is closed */
    for (size_t i = 0; i < 2; i++) {
        REFUSED(hadb_executor_execute, handles[i], &context, &request, &response);
        REFUSED(hadb_executor_execute_many, handles[i], &context, requests, 1, &response);
        note("hadb_executor_is_mutation");
        assert_false(hadb_executor_is_mutation(handles[i], &request));
    }
    assert_int_equal(hadb_engine_open("memory", NULL, NULL, NULL, &engine, NULL), 0);
    REFUSED(hadb_executor_open, NULL, &engine, &open);
    REFUSED(hadb_executor_open, "kv", &engine, NULL);
    assert_int_equal(hadb_executor_open("kv", &engine, &open, NULL), 0);
    REFUSED(hadb_executor_execute, &open, NULL, &request, &response);
    REFUSED(hadb_executor_execute, &open, &context, NULL, &response);
    REFUSED(hadb_executor_execute, &open, &context, &request, NULL);
    REFUSED(hadb_executor_execute_many, &open, NULL, requests, 1, &response);
    REFUSED(hadb_executor_execute_many, &open, &context, NULL, 1, &response);
    REFUSED(hadb_executor_execute_many, &open, &context, requests, HADB_GROUP_LEN_MAX + 1,
            &response);
    HARMLESS(hadb_executor_close, &open);
    HARMLESS(hadb_executor_close, &open);
    HARMLESS(hadb_executor_close, NULL);
    HARMLESS(hadb_response_deinit, NULL);
    HARMLESS(hadb_bookmark_format, NULL, NULL, &bookmark);
    assert_string_equal(bookmark.s, "");
    HARMLESS(hadb_bookmark_parse, NULL, &id, &version);
    HARMLESS(hadb_bookmark_parse, "x", NULL, NULL);
    hadb_engine_close(&engine);
}

static void replicator_h__refuses_what_cannot_be(void **state)
{
    (void)state;
    struct hadb_engine engine = {0};
    struct hadb_replicator closed = {0}, made = {0};
    const struct hadb_replicator *handles[] = {NULL, &closed};
    struct hadb_replicator_options options = {0};
    struct hadb_capture capture = {0};
    struct hadb_pos pos = {0};
    struct hadb_tail_save save = {0};
    struct hadb_snapshot_ref ref = {0};
    struct hadb_snapshot_io io = hadb_snapshot_store_io(NULL);
    struct hadb_snapshot_object object = {.part = UINT32_MAX};
    note("hadb_snapshot_store_io");
    assert_int_equal(io.put(io.arg, &object, none, NULL), HADB_EINVAL);
    assert_int_equal(io.get(io.arg, &object, NULL, NULL), HADB_EINVAL);
    REFUSED(hadb_replicator_add, "journal", NULL, &options, &made);
    REFUSED(hadb_replicator_add, "journal", &engine, &options, &made);
    for (size_t i = 0; i < 2; i++) {
        const struct hadb_replicator *r_ = handles[i];
        REFUSED(hadb_replicator_capture, r_, 0, 1, false, &capture);
        REFUSED(hadb_replicator_apply, r_, none, &pos);
        REFUSED(hadb_replicator_mark, r_, &pos);
        REFUSED(hadb_replicator_tail_save, r_, &save, NULL);
        REFUSED(hadb_replicator_snapshot, r_, &pos, &pos, &io, &ref);
        REFUSED(hadb_replicator_restore, r_, &ref, &io);
        REFUSED(hadb_replicator_sync, r_);
        HARMLESS(hadb_replicator_view_close, r_, &pos);
        HARMLESS(hadb_replicator_capture_deinit, r_, NULL);
        HARMLESS(hadb_replicator_capture_deinit, r_, &capture);
    }
    assert_int_equal(hadb_engine_open("memory", NULL, NULL, NULL, &engine, NULL), 0);
    REFUSED(hadb_replicator_add, NULL, &engine, &options, &made);
    REFUSED(hadb_replicator_add, "journal", &engine, NULL, &made);
    REFUSED(hadb_replicator_add, "journal", &engine, &options, NULL);
    assert_int_equal(hadb_replicator_add("journal", &engine, &options, &made, NULL), 0);
    REFUSED(hadb_replicator_capture, &made, 0, 1, false, NULL);
    REFUSED(hadb_replicator_apply, &made, nowhere, &pos);
    REFUSED(hadb_replicator_apply, &made, none, NULL);
    REFUSED(hadb_replicator_mark, &made, NULL);
    REFUSED(hadb_replicator_tail_save, &made, &save, NULL);
    REFUSED(hadb_replicator_snapshot, &made, NULL, NULL, NULL, NULL);
    REFUSED(hadb_replicator_restore, &made, NULL, NULL);
    HARMLESS(hadb_replicator_remove, &made);
    HARMLESS(hadb_replicator_remove, &made);
    HARMLESS(hadb_replicator_remove, NULL);
    hadb_engine_close(&engine);
}

static void restore_h_and_changeset_h__refuse_what_cannot_be(void **state)
{
    (void)state;
    struct hadb_storage storage = {0};
    struct hadb_restore_options options = HADB_RESTORE_OPTIONS_INIT;
    struct hadb_buf out = {0};
    options.database = "d";
    options.output = "/nowhere/at/all";
    REFUSED(hadb_restore, NULL, &options, NULL);
    REFUSED(hadb_verify, &storage, &options, NULL);
    assert_int_equal(hadb_storage_open("mem:misuse", NULL, &storage, NULL), 0);
    REFUSED(hadb_restore, &storage, NULL, NULL);
    REFUSED(hadb_verify, &storage, NULL, NULL);
    options.abi++;
    REFUSED(hadb_restore, &storage, &options, NULL);
    REFUSED(hadb_verify, &storage, &options, NULL);
    options.abi = HADB_RESTORE_ABI;
    options.output = NULL;
    REFUSED(hadb_restore, &storage, &options, NULL);
    options.database = NULL;
    REFUSED(hadb_restore, &storage, &options, NULL);
    REFUSED(hadb_verify, &storage, &options, NULL);
    hadb_storage_close(&storage);
    REFUSED(hadb_inspect, nowhere, false, &out);
    REFUSED(hadb_inspect, none, false, NULL);
    REFUSED(hadb_inspect_file, NULL, false, &out);
    REFUSED(hadb_inspect_file, "x", false, NULL);
}

static void doctor_h__refuses_what_cannot_be(void **state)
{
    (void)state;
    static struct hadb_doctor_report report;
    struct hadb_doctor_options options = HADB_DOCTOR_OPTIONS_INIT;
    REFUSED(hadb_doctor_run, &options, &report); /* neither storage nor lease store */
    options.storage_url = "mem:";
    REFUSED(hadb_doctor_run, NULL, &report);
    REFUSED(hadb_doctor_run, &options, NULL);
    options.rounds = HADB_DOCTOR_ROUNDS_MAX + 1;
    REFUSED(hadb_doctor_run, &options, &report);
    options.rounds = 1;
    options.abi++;
    REFUSED(hadb_doctor_run, &options, &report);
    HARMLESS(hadb_doctor_status_name, (enum hadb_doctor_status)99);
}

/* Runs last. */
static void every_exported_function__was_called(void **state)
{
    (void)state;
    char line[128];
    size_t len = 0;
    FILE *file = fopen(symbols, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '#') {
            continue;
        }
        bool found = false;
        for (size_t i = 0; i < called_len && !found; i++) {
            found = strcmp(called[i], line) == 0;
        }
        if (!found) {
            fail_msg("%s is exported and not called here", line);
        }
        len++;
    }
    fclose(file);
    assert_true(len > 50);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(node_h__refuses_what_cannot_be),
        cmocka_unit_test(kv_h__refuses_what_cannot_be),
        cmocka_unit_test(storage_h_and_lease_h__refuse_what_cannot_be),
        cmocka_unit_test(engine_h__refuses_what_cannot_be),
        cmocka_unit_test(executor_h__refuses_what_cannot_be),
        cmocka_unit_test(replicator_h__refuses_what_cannot_be),
        cmocka_unit_test(restore_h_and_changeset_h__refuse_what_cannot_be),
        cmocka_unit_test(doctor_h__refuses_what_cannot_be),
        cmocka_unit_test(every_exported_function__was_called),
    };
    symbols = argc > 1 ? argv[1] : "include/libhadb.sym";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
