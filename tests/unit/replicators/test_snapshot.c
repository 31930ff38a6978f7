/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots out and in. Thread: one. */
#include "tests/unit/replicators/peer.h"

#include "base/alloc.h"
#include "changeset/changeset.h"
#include "changeset/keys.h"

#define OBJECTS_MAX 64u

/* A store of one snapshot in memory that misbehaves where told. */
struct shelf {
    struct {
        struct hadb_snapshot_object name;
        struct hadb_buf bytes;
    } objects[OBJECTS_MAX];
    size_t len;
    uint64_t calls;
    uint64_t fail_at;   /* the n-th call fails; 0 = none */
    bool flip_on_put;   /* keeps other bytes than it was given */
    bool lose_on_put;   /* keeps nothing */
    uint64_t bytes_max; /* of one object */
};

static struct hadb_buf *shelf_find(struct shelf *shelf, const struct hadb_snapshot_object *name)
{
    for (size_t i = 0; i < shelf->len; i++) {
        const struct hadb_snapshot_object *other = &shelf->objects[i].name;
        if (other->part == name->part && other->is_blob == name->is_blob &&
            (!name->is_blob || other->blob == name->blob)) {
            return &shelf->objects[i].bytes;
        }
    }
    return NULL;
}

static int shelf_put(void *arg, const struct hadb_snapshot_object *object, struct hadb_slice bytes,
                     struct hadb_error *err)
{
    struct shelf *shelf = arg;
    if (++shelf->calls == shelf->fail_at) {
        return hadb_fail(err, HADB_EIO, "put failed");
    }
    assert_null(shelf_find(shelf, object));
    assert_true(shelf->len < OBJECTS_MAX);
    shelf->bytes_max = HADB_MAX(shelf->bytes_max, bytes.len);
    if (shelf->lose_on_put) {
        return 0;
    }
    struct hadb_buf copy = {0};
    if (hadb_buf_append(&copy, bytes.data, bytes.len) != 0) {
        return hadb_fail_nomem(err);
    }
    copy.data[copy.len / 2] ^= shelf->flip_on_put ? 1 : 0;
    shelf->objects[shelf->len].name = *object;
    shelf->objects[shelf->len++].bytes = copy;
    return 0;
}

static int shelf_get(void *arg, const struct hadb_snapshot_object *object, struct hadb_buf *out,
                     struct hadb_error *err)
{
    struct shelf *shelf = arg;
    if (++shelf->calls == shelf->fail_at) {
        return hadb_fail(err, HADB_EIO, "get failed");
    }
    struct hadb_buf *bytes = shelf_find(shelf, object);
    if (!bytes) {
        return HADB_ABSENT;
    }
    hadb_buf_clear(out);
    if (hadb_buf_append(out, bytes->data, bytes->len) != 0) {
        return hadb_fail_nomem(err);
    }
    return 0;
}

static struct hadb_snapshot_io shelf_io(struct shelf *shelf)
{
    return (struct hadb_snapshot_io){.put = shelf_put, .get = shelf_get, .arg = shelf};
}

static void shelf_deinit(struct shelf *shelf)
{
    for (size_t i = 0; i < shelf->len; i++) {
        hadb_buf_deinit(&shelf->objects[i].bytes);
    }
    *shelf = (struct shelf){0};
}

/* Snapshot of everything in @peer, all of which becomes history in the next slot. */
static int take(struct peer *peer, struct shelf *shelf, struct hadb_snapshot_ref *ref)
{
    struct hadb_engine_position position = peer_position(peer);
    struct hadb_pos pos = make_pos(position.last_term, position.mark.slot + 1, position.last_txid);
    assert_int_equal(hadb_replicator_mark(&peer->replicator, &pos, NULL), 0);
    void *view = NULL;
    assert_int_equal(hadb_engine_view_open(&peer->engine, &view, NULL, NULL), 0);
    struct hadb_snapshot_io io = shelf_io(shelf);
    int r = hadb_replicator_snapshot(&peer->replicator, view, &pos, &io, ref, NULL);
    hadb_replicator_view_close(&peer->replicator, view);
    return r;
}

static int restore(struct peer *peer, struct shelf *shelf, const struct hadb_snapshot_ref *ref)
{
    struct hadb_snapshot_io io = shelf_io(shelf);
    io.put = NULL;
    return hadb_replicator_restore(&peer->replicator, ref, &io, NULL);
}

static void assert_empty(const struct peer *peer)
{
    struct hadb_engine_position position = peer_position(peer);
    struct hadb_engine_stats stats;
    hadb_engine_stats(&peer->engine, &stats);
    assert_int_equal(position.last_txid, 0);
    assert_int_equal(position.mark.slot, 0);
    assert_int_equal(stats.keys, 0);
}

/* A source with some transactions, its snapshot in three parts or more. */
struct setting {
    struct peer source, target;
    struct shelf shelf;
    struct hadb_snapshot_ref ref;
};

static void setting_open(struct setting *setting, void **state)
{
    memset(setting, 0, sizeof(*setting));
    peer_open(&setting->source, *state);
    peer_open(&setting->target, *state);
    for (unsigned i = 0; i < 600; i++) {
        char key[16];
        snprintf(key, sizeof(key), "key%03u", i);
        put(&setting->source, 1 + i / 300, key, i % 7 ? "value" : "");
    }
    put_bytes(&setting->source, 2, "big1", 5u << 20);
    put_bytes(&setting->source, 2, "big2", 9u << 20);
    put_bytes(&setting->source, 2, "big3", 5u << 20);
    struct hadb_request request = delete_request("key000");
    struct hadb_response response = run(&setting->source, 2, &request);
    assert_int_equal(response.code, 0);
    assert_int_equal(take(&setting->source, &setting->shelf, &setting->ref), 0);
    assert_true(setting->ref.parts >= 3);
}

static void setting_close(struct setting *setting)
{
    shelf_deinit(&setting->shelf);
    peer_close(&setting->source);
    peer_close(&setting->target);
}

static struct hadb_buf *part_bytes(struct setting *setting, uint32_t part)
{
    const struct hadb_snapshot_object name = {.part = part};
    struct hadb_buf *bytes = shelf_find(&setting->shelf, &name);
    assert_non_null(bytes);
    return bytes;
}

static void restore__gives_the_same_database_at_the_same_position(void **state)
{
    struct setting s;
    setting_open(&s, state);
    struct hadb_error err = {0};
    struct hadb_snapshot_io io = shelf_io(&s.shelf);
    int r = hadb_replicator_restore(&s.target.replicator, &s.ref, &io, &err);
    if (r != 0) {
        fail_msg("%d %s", r, err.message);
    }
    struct hadb_hash source = peer_digest(&s.source);
    struct hadb_hash target = peer_digest(&s.target);
    assert_true(hadb_hash_eq(&source, &target));
    assert_true(hadb_hash_eq(&source, &s.ref.digest));
    struct hadb_engine_position position = peer_position(&s.target);
    assert_memory_equal(&position.mark, &s.ref.pos, sizeof(position.mark));
    assert_int_equal(position.last_txid, 604);
    assert_int_equal(s.ref.items, 602 + 604 + 1); /* keys, results, horizon */
    uint64_t bytes = 0;
    for (size_t i = 0; i < s.shelf.len; i++) {
        bytes += s.shelf.objects[i].bytes.len;
    }
    assert_int_equal(s.ref.bytes, bytes);
    /* Later entries apply. */
    put(&s.source, 2, "later", "value");
    ship(&s.source, &s.target);
    assert_string_equal(value_of(&s.target, "later"), "value");
    setting_close(&s);
}

static void restore__is_durable_when_it_returns(void **state)
{
    (void)state;
    void *kv = (void *)(uintptr_t) "kv";
    struct setting s;
    setting_open(&s, &kv);
    assert_int_equal(restore(&s.target, &s.shelf, &s.ref), 0);
    test_memfs_crash(s.target.disk, TEST_MEMFS_DROP);
    peer_reopen(&s.target);
    struct hadb_hash target = peer_digest(&s.target);
    assert_true(hadb_hash_eq(&target, &s.ref.digest));
    setting_close(&s);
}

static void restore__crosses_from_engine_to_engine(void **state)
{
    struct setting s;
    setting_open(&s, state);
    struct peer other;
    peer_open(&other, strcmp(*state, "kv") == 0 ? "memory" : "kv");
    assert_int_equal(restore(&other, &s.shelf, &s.ref), 0);
    struct hadb_hash digest = peer_digest(&other);
    assert_true(hadb_hash_eq(&digest, &s.ref.digest));
    struct hadb_hash export_a;
    struct hadb_hash export_b;
    uint64_t items = 0;
    assert_int_equal(hadb_export_digest(&s.source.engine, NULL, &export_a, &items, NULL), 0);
    assert_int_equal(hadb_export_digest(&other.engine, NULL, &export_b, NULL, NULL), 0);
    assert_true(hadb_hash_eq(&export_a, &export_b));
    assert_int_equal(items, 602);
    peer_close(&other);
    setting_close(&s);
}

static void snapshot__of_an_empty_database_is_one_part(void **state)
{
    struct peer source;
    struct peer target;
    peer_open(&source, *state);
    peer_open(&target, *state);
    struct shelf shelf = {0};
    struct hadb_snapshot_ref ref;
    struct hadb_pos pos = make_pos(3, 0, 0);
    assert_int_equal(hadb_replicator_mark(&source.replicator, &pos, NULL), 0);
    void *view = NULL;
    assert_int_equal(hadb_engine_view_open(&source.engine, &view, NULL, NULL), 0);
    struct hadb_snapshot_io io = shelf_io(&shelf);
    assert_int_equal(hadb_replicator_snapshot(&source.replicator, view, &pos, &io, &ref, NULL), 0);
    hadb_replicator_view_close(&source.replicator, view);
    assert_int_equal(ref.parts, 1);
    assert_int_equal(ref.items, 0);
    assert_int_equal(restore(&target, &shelf, &ref), 0);
    assert_int_equal(peer_position(&target).mark.term, 3);
    shelf_deinit(&shelf);
    peer_close(&source);
    peer_close(&target);
}

/* An engine whose owner deleted its last key still stands at a transaction, and so does its copy. */
static void snapshot__of_a_database_whose_keys_are_all_gone_is_restored(void **state)
{
    struct peer source, target;
    peer_open(&source, *state);
    peer_open(&target, *state);
    struct shelf shelf = {0};
    struct hadb_snapshot_ref ref;
    struct hadb_buf txns = {0};
    const struct hadb_op ops[] = {
        {.type = HADB_OP_PUT, .key = hadb_slice_str("k"), .value = hadb_slice_str("v")},
        {.type = HADB_OP_DELETE, .key = hadb_slice_str("k")}};
    for (size_t i = 0; i < HADB_LEN(ops); i++) {
        assert_int_equal(hadb_txn_encode(1, i + 1, 0, &ops[i], 1, &txns, NULL), 0);
    }
    assert_int_equal(hadb_engine_apply(&source.engine, hadb_buf_slice(&txns), NULL, NULL), 0);
    assert_int_equal(take(&source, &shelf, &ref), 0);
    assert_int_equal(ref.items, 0);
    assert_int_equal(restore(&target, &shelf, &ref), 0);
    assert_int_equal(peer_position(&target).last_txid, 2);
    put(&target, 2, "next", "v"); /* … and history goes on from there */
    if (strcmp(*state, "kv") == 0) {
        peer_reopen(&target);
    }
    assert_int_equal(peer_position(&target).last_txid, 3);
    hadb_buf_deinit(&txns);
    shelf_deinit(&shelf);
    peer_close(&source);
    peer_close(&target);
}

static void snapshot__shows_its_view_whatever_is_written_meanwhile(void **state)
{
    struct peer source;
    peer_open(&source, *state);
    put(&source, 1, "a", "old");
    put(&source, 1, "b", "old");
    struct hadb_pos pos = make_pos(1, 1, 2);
    assert_int_equal(hadb_replicator_mark(&source.replicator, &pos, NULL), 0);
    struct hadb_hash before = peer_digest(&source);
    void *view = NULL;
    assert_int_equal(hadb_engine_view_open(&source.engine, &view, NULL, NULL), 0);
    put(&source, 1, "a", "new");
    put(&source, 1, "c", "new");
    struct shelf shelf = {0};
    struct hadb_snapshot_io io = shelf_io(&shelf);
    struct hadb_snapshot_ref ref;
    assert_int_equal(hadb_replicator_snapshot(&source.replicator, view, &pos, &io, &ref, NULL), 0);
    hadb_replicator_view_close(&source.replicator, view);
    assert_true(hadb_hash_eq(&before, &ref.digest));
    /* A view that shows more than the position is refused: it could be rewound. */
    assert_int_equal(hadb_engine_view_open(&source.engine, &view, NULL, NULL), 0);
    shelf_deinit(&shelf);
    assert_int_equal(hadb_replicator_snapshot(&source.replicator, view, &pos, &io, &ref, NULL),
                     HADB_EINVAL);
    hadb_replicator_view_close(&source.replicator, view);
    shelf_deinit(&shelf);
    peer_close(&source);
}

static void snapshot__fails_when_storage_gives_back_other_bytes(void **state)
{
    struct peer source;
    peer_open(&source, *state);
    put(&source, 1, "a", "value");
    struct shelf shelf = {.flip_on_put = true};
    struct hadb_snapshot_ref ref;
    assert_int_equal(take(&source, &shelf, &ref), HADB_ECORRUPT);
    shelf_deinit(&shelf);
    shelf.lose_on_put = true;
    put(&source, 1, "b", "value");
    assert_int_equal(take(&source, &shelf, &ref), HADB_ECORRUPT);
    shelf_deinit(&shelf);
    peer_close(&source);
}

static void restore__refuses_an_engine_that_is_not_empty(void **state)
{
    struct setting s;
    setting_open(&s, state);
    put(&s.target, 1, "own", "value");
    assert_int_equal(restore(&s.target, &s.shelf, &s.ref), HADB_EINVAL);
    assert_string_equal(value_of(&s.target, "own"), "value");
    assert_int_equal(restore(&s.source, &s.shelf, &s.ref), HADB_EINVAL);
    setting_close(&s);
}

static void restore__says_gap_for_each_part_that_is_absent(void **state)
{
    struct setting s;
    setting_open(&s, state);
    for (uint32_t part = 0; part < s.ref.parts; part++) {
        for (size_t i = 0; i < s.shelf.len; i++) {
            s.shelf.objects[i].name.part += s.shelf.objects[i].name.part == part ? 1000 : 0;
        }
        assert_int_equal(restore(&s.target, &s.shelf, &s.ref), HADB_EGAP);
        assert_empty(&s.target);
        for (size_t i = 0; i < s.shelf.len; i++) {
            s.shelf.objects[i].name.part %= 1000;
        }
    }
    /* The engine is fit for another attempt. */
    assert_int_equal(restore(&s.target, &s.shelf, &s.ref), 0);
    setting_close(&s);
}

static void restore__refuses_parts_that_are_changed_or_cut(void **state)
{
    struct setting s;
    setting_open(&s, state);
    for (uint32_t part = 0; part < s.ref.parts; part++) {
        struct hadb_buf *bytes = part_bytes(&s, part);
        const size_t at[] = {0, 40, HADB_ENTRY_HEADER_BYTES, bytes->len / 2, bytes->len - 1};
        for (size_t i = 0; i < HADB_LEN(at); i++) {
            bytes->data[at[i]] ^= 4;
            assert_int_equal(restore(&s.target, &s.shelf, &s.ref), HADB_ECORRUPT);
            bytes->data[at[i]] ^= 4;
            size_t len = bytes->len;
            bytes->len = at[i];
            assert_int_equal(restore(&s.target, &s.shelf, &s.ref), HADB_ECORRUPT);
            bytes->len = len;
            assert_empty(&s.target);
        }
    }
    setting_close(&s);
}

/* Reads part @part, lets @change change its header, and frames it anew: sound in itself. */
static void reframe(struct setting *setting, uint32_t part,
                    void (*change)(struct hadb_entry *entry))
{
    struct hadb_buf *bytes = part_bytes(setting, part);
    struct hadb_entry entry;
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf payload = {0};
    assert_int_equal(hadb_entry_decode(hadb_buf_slice(bytes), &entry, &payload, NULL, NULL), 0);
    change(&entry);
    struct hadb_hash hash;
    hadb_buf_clear(bytes);
    assert_int_equal(hadb_entry_encode(&entry, hadb_buf_slice(&payload), 1, bytes, &hash, NULL), 0);
}

static void other_db(struct hadb_entry *entry)
{
    entry->db.b[0] ^= 1;
}
static void other_slot(struct hadb_entry *entry)
{
    entry->slot++;
}
static void other_term(struct hadb_entry *entry)
{
    entry->term--;
}
static void other_txid(struct hadb_entry *entry)
{
    entry->last_txid--;
}
static void other_number(struct hadb_entry *entry)
{
    entry->first_txid++;
}
static void other_prev(struct hadb_entry *entry)
{
    entry->prev.b[31] ^= 1;
}
static void other_flag(struct hadb_entry *entry)
{
    entry->flags ^= HADB_ENTRY_FLAG_LAST;
}
static void other_put_id(struct hadb_entry *entry)
{
    entry->put_id.b[3] ^= 1;
}
static void other_kind(struct hadb_entry *entry)
{
    entry->kind = HADB_ENTRY_DATA;
    entry->flags = 0;
    entry->first_txid = 1;
}

/* Each object verifies by itself; only the chain and the reference can tell. */
static void restore__refuses_sound_parts_that_do_not_belong(void **state)
{
    static void (*const changes[])(struct hadb_entry *) = {other_db,     other_slot, other_term,
                                                           other_txid,   other_prev, other_flag,
                                                           other_number, other_kind, other_put_id};
    struct setting s;
    setting_open(&s, state);
    for (size_t i = 0; i < HADB_LEN(changes); i++) {
        for (uint32_t part = 0; part < s.ref.parts; part += s.ref.parts - 1) {
            HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf kept = {0};
            struct hadb_buf *bytes = part_bytes(&s, part);
            if (bytes->len > HADB_ENTRY_INLINE_BYTES_MAX && changes[i] == other_kind) {
                continue; /* too large for a DATA entry */
            }
            assert_int_equal(hadb_buf_append(&kept, bytes->data, bytes->len), 0);
            reframe(&s, part, changes[i]);
            assert_int_equal(restore(&s.target, &s.shelf, &s.ref), HADB_ECORRUPT);
            assert_empty(&s.target);
            hadb_buf_deinit(bytes);
            *bytes = hadb_buf_take(&kept);
        }
    }
    setting_close(&s);
}

static void restore__compares_with_the_reference(void **state)
{
    struct setting s;
    setting_open(&s, state);
    struct hadb_snapshot_ref ref = s.ref;
    ref.digest.b[0] ^= 1;
    assert_int_equal(restore(&s.target, &s.shelf, &ref), HADB_ECORRUPT);
    ref = s.ref;
    ref.last_hash.b[0] ^= 1;
    assert_int_equal(restore(&s.target, &s.shelf, &ref), HADB_ECORRUPT);
    ref = s.ref;
    ref.parts--;
    assert_int_equal(restore(&s.target, &s.shelf, &ref), HADB_ECORRUPT);
    ref.parts = 0;
    assert_int_equal(restore(&s.target, &s.shelf, &ref), HADB_ECORRUPT);
    ref = s.ref;
    ref.parts++;
    assert_int_equal(restore(&s.target, &s.shelf, &ref), HADB_ECORRUPT);
    ref = s.ref;
    ref.pos.hash.b[0] ^= 1;
    assert_int_equal(restore(&s.target, &s.shelf, &ref), HADB_ECORRUPT);
    assert_empty(&s.target);
    ref = s.ref;
    memset(&ref.digest, 0, sizeof(ref.digest)); /* unknown */
    assert_int_equal(restore(&s.target, &s.shelf, &ref), 0);
    setting_close(&s);
}

/* Two parts with swapped keys: each in order by itself, chained, yet not one ordered image. */
static void restore__checks_the_order_of_keys_across_parts(void **state)
{
    struct peer target;
    peer_open(&target, *state);
    struct shelf shelf = {0};
    struct hadb_snapshot_ref ref = {.pos = make_pos(1, 1, 1), .parts = 2};
    ref.last_hash = ref.pos.hash;
    const char *keys[] = {"kb", "ka"};
    for (uint32_t part = 0; part < 2; part++) {
        HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf payload = {0};
        HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf stored = {0};
        const struct hadb_item item = {.key = hadb_slice_str(keys[part]), .version = {1, 1}};
        assert_int_equal(hadb_item_encode(&item, &payload, NULL), 0);
        const struct hadb_entry entry = {.kind = HADB_ENTRY_SNAPSHOT,
                                         .flags = part == 1 ? HADB_ENTRY_FLAG_LAST : 0,
                                         .db = peer_db(),
                                         .term = 1,
                                         .slot = 1,
                                         .first_txid = part,
                                         .last_txid = 1,
                                         .prev = ref.last_hash};
        assert_int_equal(
            hadb_entry_encode(&entry, hadb_buf_slice(&payload), 0, &stored, &ref.last_hash, NULL),
            0);
        const struct hadb_snapshot_object name = {.part = part};
        assert_int_equal(shelf_put(&shelf, &name, hadb_buf_slice(&stored), NULL), 0);
    }
    assert_int_equal(restore(&target, &shelf, &ref), HADB_ECORRUPT);
    assert_empty(&target);
    shelf_deinit(&shelf);
    peer_close(&target);
}

static void restore__refuses_items_above_its_position(void **state)
{
    struct setting s;
    setting_open(&s, state);
    shelf_deinit(&s.shelf);
    s.ref = (struct hadb_snapshot_ref){.pos = make_pos(1, 1, 1), .parts = 1};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf payload = {0};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf stored = {0};
    const struct hadb_item item = {.key = hadb_slice_str("ka"), .version = {1, 2}};
    assert_int_equal(hadb_item_encode(&item, &payload, NULL), 0);
    const struct hadb_entry entry = {.kind = HADB_ENTRY_SNAPSHOT,
                                     .flags = HADB_ENTRY_FLAG_LAST,
                                     .db = peer_db(),
                                     .term = 1,
                                     .slot = 1,
                                     .last_txid = 1,
                                     .prev = s.ref.pos.hash};
    assert_int_equal(
        hadb_entry_encode(&entry, hadb_buf_slice(&payload), 0, &stored, &s.ref.last_hash, NULL), 0);
    const struct hadb_snapshot_object name = {.part = 0};
    assert_int_equal(shelf_put(&s.shelf, &name, hadb_buf_slice(&stored), NULL), 0);
    assert_int_equal(restore(&s.target, &s.shelf, &s.ref), HADB_ECORRUPT);
    assert_empty(&s.target);
    setting_close(&s);
}

/* The largest value there is hardly compresses: its part does not fit into one object. */
static void snapshot__keeps_the_largest_value_in_blobs(void **state)
{
    struct peer source;
    peer_open(&source, *state);
    put(&source, 1, "a", "before");
    put_bytes(&source, 1, "largest", HADB_VALUE_BYTES_MAX);
    put(&source, 1, "z", "after");
    struct shelf shelf = {0};
    struct hadb_snapshot_ref ref;
    assert_int_equal(take(&source, &shelf, &ref), 0);
    peer_close(&source);
    assert_true(shelf.bytes_max <= HADB_OBJECT_BYTES_MAX);
    assert_true(shelf.len > ref.parts);
    struct peer target;
    peer_open(&target, *state);
    for (size_t i = 0; i < shelf.len; i++) {
        if (shelf.objects[i].name.is_blob) {
            shelf.objects[i].name.blob += 5;
            assert_int_equal(restore(&target, &shelf, &ref), HADB_EGAP);
            shelf.objects[i].name.blob -= 5;
            shelf.objects[i].bytes.data[100] ^= 1;
            assert_int_equal(restore(&target, &shelf, &ref), HADB_ECORRUPT);
            shelf.objects[i].bytes.data[100] ^= 1;
            break;
        }
    }
    assert_empty(&target);
    assert_int_equal(restore(&target, &shelf, &ref), 0);
    struct hadb_hash digest = peer_digest(&target);
    assert_true(hadb_hash_eq(&digest, &ref.digest));
    shelf_deinit(&shelf);
    peer_close(&target);
}

static void snapshot_and_restore__report_the_first_failing_call(void **state)
{
    struct setting s;
    setting_open(&s, state);
    struct shelf shelf = {0};
    struct hadb_snapshot_ref ref;
    int r = HADB_EIO;
    for (uint64_t n = 1; r != 0; n++) {
        shelf.fail_at = n;
        r = take(&s.source, &shelf, &ref);
        bool failed = shelf.calls >= n;
        assert_int_equal(r, failed ? HADB_EIO : 0);
        if (failed) {
            shelf_deinit(&shelf);
        }
    }
    assert_int_equal(ref.parts, s.ref.parts);
    for (uint64_t n = 1; n <= ref.parts; n++) {
        shelf.calls = 0;
        shelf.fail_at = n;
        assert_int_equal(restore(&s.target, &shelf, &ref), HADB_EIO);
        assert_empty(&s.target);
    }
    shelf.fail_at = 0;
    assert_int_equal(restore(&s.target, &shelf, &ref), 0);
    shelf_deinit(&shelf);
    setting_close(&s);
}

static void snapshot_and_restore__survive_lack_of_memory(void **state)
{
    struct peer source;
    struct peer target;
    peer_open(&source, *state);
    peer_open(&target, *state);
    put(&source, 1, "a", "value");
    put(&source, 1, "b", "value");
    struct shelf shelf = {0};
    struct hadb_snapshot_ref ref;
    assert_int_equal(take(&source, &shelf, &ref), 0);
    int r = HADB_ENOMEM;
    for (uint64_t n = 1; r != 0; n++) {
        struct shelf scratch = {0};
        struct hadb_snapshot_io io = shelf_io(&scratch);
        void *view = NULL;
        assert_int_equal(hadb_engine_view_open(&source.engine, &view, NULL, NULL), 0);
        test_alloc_fail_at(n);
        struct hadb_snapshot_ref unused;
        r = hadb_replicator_snapshot(&source.replicator, view, &ref.pos, &io, &unused, NULL);
        bool hit = test_alloc_hit();
        test_alloc_reset();
        assert_int_equal(r, hit ? HADB_ENOMEM : 0);
        hadb_replicator_view_close(&source.replicator, view);
        shelf_deinit(&scratch);
    }
    r = HADB_ENOMEM;
    for (uint64_t n = 1; r != 0; n++) {
        test_alloc_fail_at(n);
        r = restore(&target, &shelf, &ref);
        bool hit = test_alloc_hit();
        test_alloc_reset();
        if (r != 0) {
            assert_true(hit);
            assert_int_equal(r, HADB_ENOMEM);
            /* When undoing failed for the same reason, the folder is thrown away. */
            peer_close(&target);
            peer_open(&target, *state);
        }
    }
    struct hadb_hash digest = peer_digest(&target);
    assert_true(hadb_hash_eq(&digest, &ref.digest));
    shelf_deinit(&shelf);
    peer_close(&source);
    peer_close(&target);
}

static void snapshot_store__names_objects_in_one_folder(void **state)
{
    (void)state;
    struct hadb_storage storage = {0};
    assert_int_equal(hadb_storage_open("mem:", NULL, &storage, NULL), 0);
    const struct hadb_call call = {0};
    struct hadb_snapshot_store store = {
        .storage = &storage, .call = &call, .db = peer_db(), .slot = 9, .nonce = make_id(NOW, 9)};
    struct hadb_snapshot_io io = hadb_snapshot_store_io(&store);
    const struct hadb_snapshot_object part = {.part = 2};
    const struct hadb_snapshot_object blob = {.part = 2, .is_blob = true, .blob = 1};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf out = {0};
    struct hadb_error err = {0};
    assert_int_equal(io.get(io.arg, &part, &out, &err), HADB_EGAP);
    assert_non_null(strstr(err.message, "/00000002 is missing"));
    assert_int_equal(io.put(io.arg, &part, hadb_slice_str("part"), NULL), 0);
    assert_int_equal(io.put(io.arg, &blob, hadb_slice_str("blob"), NULL), 0);
    /* The same bytes again are the same write; others are not. */
    assert_int_equal(io.put(io.arg, &part, hadb_slice_str("part"), NULL), 0);
    assert_int_equal(io.put(io.arg, &part, hadb_slice_str("else"), NULL), HADB_ECORRUPT);
    assert_int_equal(io.get(io.arg, &blob, &out, NULL), 0);
    assert_true(hadb_slice_eq(hadb_buf_slice(&out), hadb_slice_str("blob")));
    char key[HADB_OBJECT_KEY_BYTES];
    hadb_key_snapshot_part(&store.db, 9, &store.nonce, 2, key);
    assert_int_equal(hadb_storage_get(&storage, &call, key, &out, NULL, NULL), 0);
    hadb_key_snapshot_part(&store.db, 9, &store.nonce, 0x80000000u + 17, key);
    assert_int_equal(hadb_storage_get(&storage, &call, key, &out, NULL, NULL), 0);
    hadb_storage_close(&storage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_ENGINES(restore__gives_the_same_database_at_the_same_position),
        cmocka_unit_test(restore__is_durable_when_it_returns),
        ON_ENGINES(restore__crosses_from_engine_to_engine),
        ON_ENGINES(snapshot__of_an_empty_database_is_one_part),
        ON_ENGINES(snapshot__of_a_database_whose_keys_are_all_gone_is_restored),
        ON_ENGINES(snapshot__shows_its_view_whatever_is_written_meanwhile),
        ON_ENGINES(snapshot__fails_when_storage_gives_back_other_bytes),
        ON_ENGINES(restore__refuses_an_engine_that_is_not_empty),
        ON_ENGINES(restore__says_gap_for_each_part_that_is_absent),
        ON_ENGINES(restore__refuses_parts_that_are_changed_or_cut),
        ON_ENGINES(restore__refuses_sound_parts_that_do_not_belong),
        ON_ENGINES(restore__compares_with_the_reference),
        ON_ENGINES(restore__checks_the_order_of_keys_across_parts),
        ON_ENGINES(restore__refuses_items_above_its_position),
        ON_ENGINES(snapshot__keeps_the_largest_value_in_blobs),
        ON_ENGINES(snapshot_and_restore__report_the_first_failing_call),
        ON_ENGINES(snapshot_and_restore__survive_lack_of_memory),
        cmocka_unit_test(snapshot_store__names_objects_in_one_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
