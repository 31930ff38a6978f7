/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside hops 5 and 7 of 8: base images. All items of one picture, in key order, in parts of about 8 MiB; each
 * part is an entry that links to the one before, the first to the position that the image covers.
 *
 * Thread: snapshot any; restore the one writer of the engine.
 * Invariants: nothing above the position is ever in an image. A part counts only once it was read back and
 *   equals what was written. What is restored is the whole image or nothing: parts are counted, numbered,
 *   chained and end with the flag LAST; the last hash and the digest are those of the reference.
 * Happy path: scan, encode, put, read back, compare; or get, verify, ingest; then mark and sync.
 * Failure modes: absent parts (HADB_EGAP), anything that does not match (HADB_ECORRUPT), io and engine.
 */
#include <inttypes.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/id.h"
#include "changeset/changeset.h"
#include "replicators/journal.h"

#define INGEST_LEN_MAX 256u /* items handed to the engine at a time */

static_assert(HADB_ITEM_HEADER_BYTES + HADB_ENGINE_KEY_BYTES_MAX + HADB_VALUE_BYTES_MAX <=
                  HADB_ENTRY_RAW_BYTES_MAX,
              "the largest item fits into one part");
static_assert(HADB_SNAPSHOT_PARTS_MAX <= UINT32_MAX / (2 * HADB_BLOB_PARTS_MAX),
              "blobs and parts have numbers of their own");

/* The formula of hadb_engine_digest(), hadb/engine.h. */
static void digest_item(struct hadb_sha256_stream *sha, const struct hadb_item *item)
{
    uint8_t number[16];
    hadb_put_u32(number, (uint32_t)item->key.len);
    hadb_sha256_update(sha, number, 4);
    hadb_sha256_update(sha, item->key.data, item->key.len);
    hadb_put_u32(number, (uint32_t)item->value.len);
    hadb_sha256_update(sha, number, 4);
    hadb_sha256_update(sha, item->value.data, item->value.len);
    hadb_put_u64(number, item->version.term);
    hadb_put_u64(number + 8, item->version.txid);
    hadb_sha256_update(sha, number, 16);
}

/* ---- writing ---- */

struct writer {
    const struct hadb__journal *journal;
    const struct hadb_snapshot_io *io;
    struct hadb_snapshot_ref ref;
    struct hadb_sha256_stream *sha;
    struct hadb_buf payload;   /* items of the part being filled */
    struct hadb_buf read_back; /* one object */
};

static void writer_deinit(struct writer *writer)
{
    hadb_sha256_free(writer->sha);
    hadb_buf_deinit(&writer->payload);
    hadb_buf_deinit(&writer->read_back);
}

static int put_object(struct writer *writer, const struct hadb_snapshot_object *object,
                      struct hadb_slice bytes, struct hadb_error *err)
{
    const struct hadb_snapshot_io *io = writer->io;
    writer->ref.bytes += bytes.len;
    if (io->put_checked) {
        int r = io->put_checked(io->arg, object, bytes, err);
        return hadb_wrap(err, r, "snapshot part %" PRIu32, object->part);
    }
    int r = io->put(io->arg, object, bytes, err);
    r = r != 0 ? r : io->get(io->arg, object, &writer->read_back, err);
    HADB_ASSERT(r <= 0 || r == HADB_ABSENT);
    if (r == HADB_ABSENT || (r == 0 && !hadb_slice_eq(hadb_buf_slice(&writer->read_back), bytes))) {
        r = hadb_fail(err, HADB_ECORRUPT, "storage does not give back what was written");
    }
    return hadb_wrap(err, r, "snapshot part %" PRIu32, object->part);
}

static int put_part(struct writer *writer, bool last, struct hadb_error *err)
{
    struct hadb_snapshot_ref *ref = &writer->ref;
    if (ref->parts == HADB_SNAPSHOT_PARTS_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "snapshot has more than %u parts",
                         HADB_SNAPSHOT_PARTS_MAX);
    }
    struct hadb_entry entry = {
        .kind = HADB_ENTRY_SNAPSHOT,
        .flags = last ? HADB_ENTRY_FLAG_LAST : 0,
        .db = writer->journal->db,
        .term = ref->pos.term,
        .slot = ref->pos.slot,
        .first_txid = ref->parts,
        .last_txid = ref->pos.txid,
        .prev = ref->last_hash,
        .incarnation = writer->journal->incarnation,
        .time_unix_ms = hadb_now_unix_ms(writer->journal->env),
    };
    hadb_id_random(writer->journal->env, &entry.put_id);
    HADB_CLEANUP(hadb_framed_deinit) struct hadb_framed framed = {0};
    int r = hadb_entry_frame(&entry, hadb_buf_slice(&writer->payload), HADB_ZSTD_LEVEL_DEFAULT,
                             &framed, err);
    struct hadb_snapshot_object object = {.part = ref->parts, .is_blob = true};
    for (; r == 0 && object.blob < framed.blobs_len; object.blob++) {
        r = put_object(writer, &object, framed.blobs[object.blob], err);
    }
    object = (struct hadb_snapshot_object){.part = ref->parts};
    r = r != 0 ? r : put_object(writer, &object, hadb_buf_slice(&framed.entry), err);
    if (r == 0) {
        ref->last_hash = framed.hash;
        ref->parts++;
        hadb_buf_clear(&writer->payload);
    }
    return r;
}

static int add_item(struct writer *writer, const struct hadb_item *item, struct hadb_error *err)
{
    if (item->version.txid > writer->ref.pos.txid) {
        return hadb_fail(err, HADB_EINVAL,
                         "the view shows transaction %" PRIu64
                         ", the snapshot is of transaction %" PRIu64,
                         item->version.txid, writer->ref.pos.txid);
    }
    size_t bytes = HADB_ITEM_HEADER_BYTES + item->key.len + item->value.len;
    if (writer->payload.len != 0 && writer->payload.len + bytes > HADB_SNAPSHOT_PART_BYTES_MAX) {
        int r = put_part(writer, false, err);
        if (r != 0) {
            return r;
        }
    }
    digest_item(writer->sha, item);
    writer->ref.items++;
    return hadb_item_encode(item, &writer->payload, err);
}

static int write_items(struct writer *writer, void *view, struct hadb_error *err)
{
    const struct hadb_engine *engine = writer->journal->engine;
    const struct hadb_range all = {0};
    void *scan = NULL;
    int r = hadb_engine_scan_open(engine, view, &all, &scan, err);
    struct hadb_item item;
    while (r == 0 && (r = hadb_engine_scan_next(engine, scan, &item, err)) == 0) {
        r = add_item(writer, &item, err);
    }
    hadb_engine_scan_close(engine, scan);
    r = r == HADB_END ? put_part(writer, true, err) : r;
    return r == 0 && writer->io->finish ? writer->io->finish(writer->io->arg, err) : r;
}

int hadb__journal_snapshot(void *self, void *view, const struct hadb_pos *pos,
                           const struct hadb_snapshot_io *io, struct hadb_snapshot_ref *out,
                           struct hadb_error *err)
{
    struct writer writer = {
        .journal = self,
        .io = io,
        .ref = {.pos = *pos, .last_hash = pos->hash},
        .sha = hadb_sha256_new(),
    };
    int r = writer.sha ? write_items(&writer, view, err) : hadb_fail_nomem(err);
    if (r == 0) {
        hadb_sha256_final(writer.sha, &writer.ref.digest);
        *out = writer.ref;
    }
    writer_deinit(&writer);
    return hadb_wrap(err, r, "snapshot of slot %" PRIu64, pos->slot);
}

/* ---- reading ---- */

struct reader {
    const struct hadb__journal *journal;
    const struct hadb_snapshot_io *io;
    const struct hadb_snapshot_ref *ref;
    uint32_t part;
    struct hadb_hash prev;
    struct hadb_sha256_stream *sha;
    struct hadb_buf stored;
    struct hadb_buf last_key; /* of the part before */
    struct hadb_item batch[INGEST_LEN_MAX];
};

static void reader_deinit(struct reader *reader)
{
    hadb_sha256_free(reader->sha);
    hadb_buf_deinit(&reader->stored);
    hadb_buf_deinit(&reader->last_key);
}

static int get_object(struct reader *reader, const struct hadb_snapshot_object *object,
                      struct hadb_error *err)
{
    int r = reader->io->get(reader->io->arg, object, &reader->stored, err);
    HADB_ASSERT(r <= 0 || r == HADB_ABSENT);
    if (r == HADB_ABSENT) {
        return hadb_fail(err, HADB_EGAP,
                         object->is_blob ? "blob %" PRIu32 " is absent"
                                         : "object %" PRIu32 " is absent",
                         object->is_blob ? object->blob : object->part);
    }
    return r;
}

static int get_part(struct reader *reader, struct hadb_opened *out, struct hadb_error *err)
{
    struct hadb_snapshot_object object = {.part = reader->part};
    int r = get_object(reader, &object, err);
    if (r != 0) {
        return r;
    }
    r = hadb_entry_open(hadb_buf_slice(&reader->stored), out, err);
    object.is_blob = true;
    while (r == HADB_ABSENT) {
        object.blob = (uint32_t)out->parts_attached;
        r = get_object(reader, &object, err);
        r = r != 0 ? r : hadb_entry_attach_blob(out, hadb_buf_slice(&reader->stored), err);
    }
    return r;
}

static int check_part(const struct reader *reader, const struct hadb_opened *opened,
                      struct hadb_error *err)
{
    const struct hadb_entry *entry = &opened->entry;
    const struct hadb_pos *pos = &reader->ref->pos;
    const char *fault = NULL;
    bool is_last = reader->part + 1 == reader->ref->parts;
    if (entry->kind != HADB_ENTRY_SNAPSHOT) {
        fault = "is no part of a snapshot";
    } else if (!hadb_id_eq(&entry->db, &reader->journal->db)) {
        fault = "belongs to another database";
    } else if (entry->term != pos->term || entry->slot != pos->slot ||
               entry->last_txid != pos->txid) {
        fault = "belongs to another position";
    } else if (entry->first_txid != reader->part) {
        fault = "has another number";
    } else if (!hadb_hash_eq(&entry->prev, &reader->prev)) {
        fault = "does not link to the one before";
    } else if (((entry->flags & HADB_ENTRY_FLAG_LAST) != 0) != is_last) {
        fault = is_last ? "is not the last one" : "says that it is the last one";
    } else if (is_last && !hadb_hash_eq(&opened->hash, &reader->ref->last_hash)) {
        fault = "is not the one that the manifest names";
    }
    return fault ? hadb_fail(err, HADB_ECORRUPT, "the part %s", fault) : 0;
}

static int load_item(const struct reader *reader, const struct hadb_item *item,
                     struct hadb_error *err)
{
    if (item->version.txid > reader->ref->pos.txid) {
        return hadb_fail(err, HADB_ECORRUPT,
                         "an item of transaction %" PRIu64 " in an image of transaction %" PRIu64,
                         item->version.txid, reader->ref->pos.txid);
    }
    digest_item(reader->sha, item);
    return 0;
}

static int load_items(struct reader *reader, struct hadb_slice payload, struct hadb_error *err)
{
    struct hadb_items items = {.rest = payload, .last_key = hadb_buf_slice(&reader->last_key)};
    size_t len = 0;
    int r = 0;
    while (r == 0) {
        r = hadb_items_next(&items, &reader->batch[len], err);
        r = r != 0 ? r : load_item(reader, &reader->batch[len], err);
        len += r == 0 ? 1 : 0;
        if (len == INGEST_LEN_MAX || (r == HADB_END && len != 0)) {
            int ingested = hadb_engine_ingest(reader->journal->engine, reader->batch, len, err);
            r = ingested != 0 ? ingested : r;
            len = 0;
        }
    }
    if (r != HADB_END) {
        return r;
    }
    /* The order of keys goes on in the next part, when this payload is gone. */
    struct hadb_buf last_key = {0};
    if (hadb_buf_append(&last_key, items.last_key.data, items.last_key.len) != 0) {
        return hadb_fail_nomem(err);
    }
    hadb_buf_deinit(&reader->last_key);
    reader->last_key = last_key;
    return 0;
}

static int load_part(struct reader *reader, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_opened_deinit) struct hadb_opened opened = {0};
    int r = get_part(reader, &opened, err);
    r = r != 0 ? r : check_part(reader, &opened, err);
    r = r != 0 ? r : load_items(reader, hadb_buf_slice(&opened.payload), err);
    if (r == 0) {
        reader->prev = opened.hash;
    }
    return hadb_wrap(err, r, "snapshot part %" PRIu32 " of %" PRIu32, reader->part,
                     reader->ref->parts);
}

static int load_all(struct reader *reader, struct hadb_error *err)
{
    const struct hadb_snapshot_ref *ref = reader->ref;
    for (; reader->part < ref->parts; reader->part++) {
        int r = load_part(reader, err);
        if (r != 0) {
            return r;
        }
    }
    struct hadb_hash digest;
    hadb_sha256_final(reader->sha, &digest);
    if (!hadb_hash_is_zero(&ref->digest) && !hadb_hash_eq(&digest, &ref->digest)) {
        return hadb_fail(err, HADB_ECORRUPT, "the items are not those that the manifest names");
    }
    return 0;
}

static int check_fresh(const struct hadb_engine *engine, struct hadb_error *err)
{
    struct hadb_engine_position position;
    struct hadb_engine_stats stats;
    hadb_engine_position(engine, &position);
    hadb_engine_stats(engine, &stats);
    if (position.last_txid != 0 || position.mark.slot != 0 || stats.keys != 0) {
        return hadb_fail(err, HADB_EINVAL, "a snapshot is restored into an empty engine only");
    }
    return 0;
}

int hadb__journal_restore(void *self, const struct hadb_snapshot_ref *ref,
                          const struct hadb_snapshot_io *io, struct hadb_error *err)
{
    const struct hadb__journal *journal = self;
    int r = check_fresh(journal->engine, err);
    if (r != 0) {
        return r;
    }
    if (ref->parts == 0 || ref->parts > HADB_SNAPSHOT_PARTS_MAX) {
        return hadb_fail(err, HADB_ECORRUPT, "a snapshot of %" PRIu32 " parts", ref->parts);
    }
    struct reader reader = {
        .journal = journal,
        .io = io,
        .ref = ref,
        .prev = ref->pos.hash,
        .sha = hadb_sha256_new(),
    };
    r = reader.sha ? 0 : hadb_fail_nomem(err);
    /* Of nothing: an image without items is one, too, and its mark needs it. */
    r = r != 0 ? r : hadb_engine_ingest(journal->engine, NULL, 0, err);
    r = r != 0 ? r : load_all(&reader, err);
    reader_deinit(&reader);
    r = r != 0 ? r : hadb_engine_mark(journal->engine, &ref->pos, err);
    if (r != 0) {
        /* Back to empty; if that fails too, the engine says so and its folder is thrown away. */
        (void)hadb_engine_rewind(journal->engine, NULL);
        return hadb_wrap(err, r, "restore slot %" PRIu64, ref->pos.slot);
    }
    return hadb_engine_sync(journal->engine, err);
}
