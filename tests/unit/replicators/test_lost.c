/* SPDX-License-Identifier: Apache-2.0 */
/* Saving a tail in lost/. Thread: one. */
#include "tests/unit/replicators/peer.h"

#include <jansson.h>

#include "changeset/changeset.h"

#define FILE_BYTES_MAX (80u << 20)

static const struct hadb_tail_save SAVE = {.dir = "/db", .reason = "sealed by \"b\"\n"};

/* Transactions 1 to 3 are history (slot 1 of term 1), 4 to 6 the tail. */
static void open_with_tail(struct peer *peer, void **state)
{
    peer_open(peer, *state);
    for (unsigned i = 1; i <= 6; i++) {
        char key[16];
        snprintf(key, sizeof(key), "key/%u", i);
        put(peer, 1, key, "value");
    }
    struct hadb_pos pos = make_pos(1, 1, 3);
    assert_int_equal(hadb_replicator_mark(&peer->replicator, &pos, NULL), 0);
}

static void read_file(const struct peer *peer, const char *folder, const char *name,
                      struct hadb_buf *out)
{
    char path[HADB_PATH_BYTES_MAX];
    assert_int_equal(hadb_path_join(path, folder, name, NULL), 0);
    struct hadb_error err = {0};
    int r = hadb_fs_read_file(&peer->env.fs, path, FILE_BYTES_MAX, out, &err);
    if (r != 0) {
        fail_msg("%s: %d %s", path, r, err.message);
    }
}

/* Reads entry file @number, its blobs too; appends the transactions to @body; checks chain and header. */
static void read_entry(const struct peer *peer, const char *folder, unsigned number,
                       struct hadb_hash *prev, struct hadb_buf *body)
{
    char name[48];
    snprintf(name, sizeof(name), "tail-%06u.hadbj", number);
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf stored = {0};
    read_file(peer, folder, name, &stored);
    struct hadb_opened opened = {0};
    int r = hadb_entry_open(hadb_buf_slice(&stored), &opened, NULL);
    for (unsigned blob = 0; r == HADB_ABSENT; blob++) {
        snprintf(name, sizeof(name), "tail-%06u-blob-%u", number, blob);
        read_file(peer, folder, name, &stored);
        r = hadb_entry_attach_blob(&opened, hadb_buf_slice(&stored), NULL);
    }
    assert_int_equal(r, 0);
    struct hadb_id db = peer_db();
    assert_true(hadb_id_eq(&opened.entry.db, &db));
    assert_true(hadb_hash_eq(&opened.entry.prev, prev));
    assert_int_equal(hadb_entry_check_data(&opened.entry, hadb_buf_slice(&opened.payload), NULL),
                     0);
    assert_int_equal(hadb_buf_append(body, opened.payload.data, opened.payload.len), 0);
    *prev = opened.hash;
    hadb_opened_deinit(&opened);
}

/* All that was saved is, in order, what @tail holds. */
static void assert_saved(const struct peer *peer, const struct hadb_tail_saved *saved,
                         const struct hadb_buf *tail)
{
    struct hadb_hash prev = make_pos(1, 1, 3).hash;
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf body = {0};
    for (unsigned i = 0; i < saved->files; i++) {
        read_entry(peer, saved->path, i, &prev, &body);
    }
    assert_true(hadb_slice_eq(hadb_buf_slice(&body), hadb_buf_slice(tail)));
}

static json_t *read_report(const struct peer *peer, const char *folder)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf text = {0};
    read_file(peer, folder, "report.json", &text);
    json_error_t error;
    json_t *report = json_loadb((const char *)text.data, text.len, 0, &error);
    if (!report) {
        fail_msg("report: line %d: %s", error.line, error.text);
    }
    return report;
}

static void tail_save__keeps_every_transaction_and_rewinds(void **state)
{
    struct peer peer;
    open_with_tail(&peer, state);
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf tail = {0};
    capture_all(&peer, 3, &tail);
    struct hadb_tail_saved saved;
    assert_int_equal(hadb_replicator_tail_save(&peer.replicator, &SAVE, &saved, NULL), 0);
    assert_int_equal(saved.transactions, 3);
    assert_int_equal(saved.first_txid, 4);
    assert_int_equal(saved.last_txid, 6);
    assert_int_equal(saved.files, 1);
    assert_string_equal(saved.path, "/db/lost/0000000000000001-0000000000000001");
    assert_saved(&peer, &saved, &tail);
    assert_int_equal(peer_position(&peer).last_txid, 3);
    assert_null(value_of(&peer, "key/4"));
    assert_string_equal(value_of(&peer, "key/3"), "value");
    peer_close(&peer);
}

static void tail_save__reports_requests_and_keys(void **state)
{
    struct peer peer;
    open_with_tail(&peer, state);
    struct hadb_request request = delete_request("key/1");
    char id[HADB_ID_TEXT_BYTES];
    hadb_id_format(&request.id, id);
    struct hadb_response response = run(&peer, 2, &request);
    assert_int_equal(response.code, 0);
    struct hadb_tail_saved saved;
    assert_int_equal(hadb_replicator_tail_save(&peer.replicator, &SAVE, &saved, NULL), 0);
    json_t *report = read_report(&peer, saved.path);
    assert_true(json_is_true(json_object_get(report, "complete")));
    assert_string_equal(json_string_value(json_object_get(report, "reason")), "sealed by \"b\"?");
    assert_string_equal(json_string_value(json_object_get(report, "database")), "test");
    assert_int_equal(json_integer_value(json_object_get(report, "saved_unix_ms")), NOW);
    json_t *mark = json_object_get(report, "mark");
    assert_int_equal(json_integer_value(json_object_get(mark, "txid")), 3);
    json_t *txns = json_object_get(report, "transactions");
    assert_int_equal(json_array_size(txns), 4);
    json_t *last = json_array_get(txns, 3);
    assert_int_equal(json_integer_value(json_object_get(last, "txid")), 7);
    assert_int_equal(json_integer_value(json_object_get(last, "term")), 2);
    assert_string_equal(json_string_value(json_object_get(last, "request_id")), id);
    json_t *ops = json_object_get(last, "operations");
    assert_int_equal(json_array_size(ops), 1); /* bookkeeping is left out */
    json_t *op = json_array_get(ops, 0);
    assert_string_equal(json_string_value(json_object_get(op, "op")), "delete");
    assert_string_equal(json_string_value(json_object_get(op, "key")), "key%2F1");
    op = json_array_get(json_object_get(json_array_get(txns, 0), "operations"), 0);
    assert_string_equal(json_string_value(json_object_get(op, "op")), "put");
    assert_int_equal(json_integer_value(json_object_get(op, "value_bytes")), 5);
    json_decref(report);
    peer_close(&peer);
}

static void tail_save__without_a_tail_writes_nothing(void **state)
{
    struct peer peer;
    open_with_tail(&peer, state);
    assert_int_equal(hadb_replicator_tail_save(&peer.replicator, &SAVE, NULL, NULL), 0);
    uint64_t bytes = test_memfs_bytes(peer.disk);
    struct hadb_tail_saved saved;
    memset(&saved, 0xff, sizeof(saved));
    assert_int_equal(hadb_replicator_tail_save(&peer.replicator, &SAVE, &saved, NULL), 0);
    assert_int_equal(saved.transactions, 0);
    assert_string_equal(saved.path, "");
    assert_int_equal(test_memfs_bytes(peer.disk), bytes);
    peer_close(&peer);
}

static void tail_save__never_overwrites_an_earlier_one(void **state)
{
    struct peer peer;
    open_with_tail(&peer, state);
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf first = {0};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf second = {0};
    struct hadb_tail_saved saved[2];
    capture_all(&peer, 3, &first);
    assert_int_equal(hadb_replicator_tail_save(&peer.replicator, &SAVE, &saved[0], NULL), 0);
    put(&peer, 1, "other", "tail");
    capture_all(&peer, 3, &second);
    assert_int_equal(hadb_replicator_tail_save(&peer.replicator, &SAVE, &saved[1], NULL), 0);
    assert_string_equal(saved[1].path, "/db/lost/0000000000000001-0000000000000001.1");
    assert_saved(&peer, &saved[0], &first);
    assert_saved(&peer, &saved[1], &second);
    peer_close(&peer);
}

static void tail_save__splits_at_four_megabytes_and_keeps_larger_transactions_whole(void **state)
{
    struct peer peer;
    open_with_tail(&peer, state);
    put_bytes(&peer, 1, "a", 3u << 20);
    put_bytes(&peer, 1, "b", 3u << 20);
    put_bytes(&peer, 1, "large", 9u << 20);
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf tail = {0};
    capture_all(&peer, 3, &tail);
    struct hadb_tail_saved saved;
    assert_int_equal(hadb_replicator_tail_save(&peer.replicator, &SAVE, &saved, NULL), 0);
    assert_int_equal(saved.files, 3);
    assert_int_equal(saved.transactions, 6);
    assert_saved(&peer, &saved, &tail);
    json_decref(read_report(&peer, saved.path));
    peer_close(&peer);
}

static void tail_save__is_durable_before_the_engine_rewinds(void **state)
{
    struct peer peer;
    open_with_tail(&peer, state);
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf tail = {0};
    capture_all(&peer, 3, &tail);
    /* The engine keeps its own disk; the power of the one with lost/ is cut. */
    struct test_memfs *disk = test_memfs_new(5);
    struct test_memfs *engine_disk = peer.disk;
    peer.env.fs = test_memfs_fs(disk);
    struct hadb_tail_saved saved;
    assert_int_equal(hadb_replicator_tail_save(&peer.replicator, &SAVE, &saved, NULL), 0);
    test_memfs_crash(disk, TEST_MEMFS_DROP);
    assert_saved(&peer, &saved, &tail);
    json_decref(read_report(&peer, saved.path));
    peer.env.fs = test_memfs_fs(engine_disk);
    test_memfs_free(disk);
    peer_close(&peer);
}

/* The n-th file operation fails, for every n: the tail stays, and the next attempt saves all of it. */
static void tail_save__leaves_the_tail_when_the_disk_fails(void **state)
{
    (void)state;
    void *memory = (void *)(uintptr_t) "memory";
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        struct peer peer;
        open_with_tail(&peer, &memory);
        HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf tail = {0};
        capture_all(&peer, 3, &tail);
        struct test_faultfs faulty = {.inner = peer.env.fs, .fail_at = n, .torn = true};
        peer.env.fs = test_faultfs(&faulty);
        struct hadb_error err = {0};
        struct hadb_tail_saved saved;
        int r = hadb_replicator_tail_save(&peer.replicator, &SAVE, &saved, &err);
        hit = faulty.hit;
        assert_int_equal(r, hit ? HADB_EIO : 0);
        assert_int_equal(peer_position(&peer).last_txid, hit ? 6 : 3);
        peer.env.fs = faulty.inner;
        if (hit) {
            assert_non_null(strstr(err.message, "save the tail"));
            assert_int_equal(hadb_replicator_tail_save(&peer.replicator, &SAVE, &saved, NULL), 0);
        }
        assert_saved(&peer, &saved, &tail);
        json_decref(read_report(&peer, saved.path));
        peer_close(&peer);
    }
}

static void tail_save__leaves_the_tail_when_the_disk_is_full(void **state)
{
    struct peer peer;
    open_with_tail(&peer, state);
    put_bytes(&peer, 1, "large", 1u << 20);
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf tail = {0};
    capture_all(&peer, 3, &tail);
    test_memfs_capacity(peer.disk, test_memfs_bytes(peer.disk) + (1u << 19));
    struct hadb_tail_saved saved;
    assert_int_equal(hadb_replicator_tail_save(&peer.replicator, &SAVE, &saved, NULL), HADB_ENOSPC);
    assert_int_equal(peer_position(&peer).last_txid, 7);
    test_memfs_capacity(peer.disk, 1u << 30);
    assert_int_equal(hadb_replicator_tail_save(&peer.replicator, &SAVE, &saved, NULL), 0);
    assert_saved(&peer, &saved, &tail);
    peer_close(&peer);
}

/* A full disk is tried again and again: what an attempt wrote must not fill it further. */
static void tail_save__leaves_nothing_behind_on_a_full_disk(void **state)
{
    struct peer peer;
    open_with_tail(&peer, state);
    unsigned refused = 0;
    struct hadb_tail_saved saved;
    int r = HADB_ENOSPC;
    for (uint64_t room = 0; r == HADB_ENOSPC; room += 64) {
        uint64_t before = test_memfs_bytes(peer.disk);
        test_memfs_capacity(peer.disk, before + room);
        r = hadb_replicator_tail_save(&peer.replicator, &SAVE, &saved, NULL);
        if (r == HADB_ENOSPC) {
            assert_int_equal(test_memfs_bytes(peer.disk), before);
            assert_int_equal(peer_position(&peer).last_txid, 6);
            refused++;
        }
    }
    assert_int_equal(r, 0);
    assert_null(strchr(saved.path, '.')); /* the first folder of this place */
    assert_true(refused > 10);
    peer_close(&peer);
}

static void tail_save__leaves_the_tail_when_memory_runs_out(void **state)
{
    (void)state;
    void *memory = (void *)(uintptr_t) "memory";
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        struct peer peer;
        open_with_tail(&peer, &memory);
        test_alloc_fail_at(n);
        int r = hadb_replicator_tail_save(&peer.replicator, &SAVE, NULL, NULL);
        bool hit = test_alloc_hit();
        test_alloc_reset();
        failed = r != 0;
        assert_true(hit == failed);
        assert_int_equal(r, failed ? HADB_ENOMEM : 0);
        assert_int_equal(peer_position(&peer).last_txid, failed ? 6 : 3);
        peer_close(&peer);
    }
}

static void tail_save__after_it_the_next_term_goes_on_at_the_mark(void **state)
{
    struct peer a;
    open_with_tail(&a, state);
    assert_int_equal(hadb_replicator_tail_save(&a.replicator, &SAVE, NULL, NULL), 0);
    struct hadb_pos sealed = make_pos(2, 1, 3);
    assert_int_equal(hadb_replicator_mark(&a.replicator, &sealed, NULL), 0);
    put(&a, 2, "new", "history");
    assert_int_equal(peer_position(&a).last_txid, 4);
    assert_string_equal(value_of(&a, "new"), "history");
    peer_close(&a);
}

static void tail_save__refuses_a_folder_name_that_is_too_long(void **state)
{
    struct peer peer;
    open_with_tail(&peer, state);
    static char dir[HADB_PATH_BYTES_MAX];
    memset(dir, 'd', sizeof(dir) - 1);
    dir[0] = '/';
    const struct hadb_tail_save save = {.dir = dir, .reason = ""};
    assert_int_equal(hadb_replicator_tail_save(&peer.replicator, &save, NULL, NULL), HADB_ETOOBIG);
    assert_int_equal(peer_position(&peer).last_txid, 6);
    peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_ENGINES(tail_save__keeps_every_transaction_and_rewinds),
        ON_ENGINES(tail_save__reports_requests_and_keys),
        ON_ENGINES(tail_save__without_a_tail_writes_nothing),
        ON_ENGINES(tail_save__never_overwrites_an_earlier_one),
        ON_ENGINES(tail_save__splits_at_four_megabytes_and_keeps_larger_transactions_whole),
        cmocka_unit_test_prestate(tail_save__is_durable_before_the_engine_rewinds,
                                  (void *)(uintptr_t) "memory"),
        cmocka_unit_test(tail_save__leaves_the_tail_when_the_disk_fails),
        ON_ENGINES(tail_save__leaves_nothing_behind_on_a_full_disk),
        cmocka_unit_test_prestate(tail_save__leaves_the_tail_when_the_disk_is_full,
                                  (void *)(uintptr_t) "memory"),
        cmocka_unit_test(tail_save__leaves_the_tail_when_memory_runs_out),
        ON_ENGINES(tail_save__after_it_the_next_term_goes_on_at_the_mark),
        ON_ENGINES(tail_save__refuses_a_folder_name_that_is_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
