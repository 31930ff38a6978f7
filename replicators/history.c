/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 7 of 8, without a node: a database's history, read from storage alone.
 *
 * Owns       the position of one reader and its picture of the manifest.
 * Thread     the caller's; blocks on storage.
 * Invariants an entry is handed out only if it is of this database, at this place, and links to the one before;
 *            a missing object is the tip only if the boundary lies below it (protocol 4.7), and nothing that
 *            was listed before it was read once more lies behind it.
 * Happy path name -> meta -> manifest -> next, next, … -> HADB_END.
 * Failure    each names the object; HADB_ABSENT means that the start was collected meanwhile.
 */
#include "replicators/history.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/id.h"
#include "changeset/keys.h"
#include "replicators/behind.h"

/* How often, and how long, the owner of an unproven hole is waited for. */
#define HOLE_LOOKS_MAX 20u
#define HOLE_WAIT_MS 50u

struct hadb_call hadb__history_call(const struct hadb__history *history)
{
    struct hadb_call call = hadb_call_within(history->env, history->request_ms);
    call.database = history->database;
    call.txid = history->pos.txid;
    return call;
}

static int get(struct hadb__history *history, const char *key, struct hadb_buf *out,
               struct hadb_error *err)
{
    struct hadb_call call = hadb__history_call(history);
    int r = hadb_storage_get(history->storage, &call, key, out, NULL, err);
    history->bytes += r == 0 ? out->len : 0;
    return hadb_wrap(err, r, "%s", key);
}

/* Reads an object of one of the small kinds and checks that it is of that kind. */
static int get_object(struct hadb__history *history, const char *key, enum hadb_entry_kind kind,
                      struct hadb_buf *payload, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf stored = {0};
    struct hadb_entry entry;
    int r = get(history, key, &stored, err);
    if (r != 0) {
        return r;
    }
    r = hadb_entry_decode(hadb_buf_slice(&stored), &entry, payload, NULL, err);
    if (r == 0 && entry.kind != kind) {
        r = hadb_fail(err, HADB_ECORRUPT, "is a %s object", hadb_entry_kind_name(entry.kind));
    }
    return hadb_wrap(err, r, "%s", key);
}

/* What to do about an object without which nothing goes on. */
static int damaged(int r, struct hadb_error *err)
{
    return r == HADB_ECORRUPT || r == HADB_EGAP
               ? hadb_advise(err, r, "put it back from a copy of the storage")
               : r;
}

static int find(struct hadb__history *history, struct hadb_error *err)
{
    char key[HADB_OBJECT_KEY_BYTES];
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf payload = {0};
    hadb_key_name(history->database, key);
    int r = get_object(history, key, HADB_ENTRY_NAME, &payload, err);
    if (r == HADB_ABSENT) {
        return hadb_fail(err, HADB_ENODB, "there is no database '%s' in this storage (no %s)",
                         history->database, key);
    }
    struct hadb_name name;
    r = r != 0 ? r : hadb_name_decode(hadb_buf_slice(&payload), &name, err);
    if (r != 0) {
        return r;
    }
    history->db = name.db;
    hadb_key_meta(&history->db, key);
    r = get_object(history, key, HADB_ENTRY_META, &payload, err);
    if (r == HADB_ABSENT) {
        return hadb_fail(err, HADB_EGAP, "%s is missing", key);
    }
    return r != 0 ? r : hadb_meta_decode(hadb_buf_slice(&payload), &history->meta, err);
}

int hadb__history_manifest(struct hadb__history *history, struct hadb_error *err)
{
    char key[HADB_OBJECT_KEY_BYTES];
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf payload = {0};
    hadb_key_manifest(&history->db, key);
    int r = get_object(history, key, HADB_ENTRY_MANIFEST, &payload, err);
    if (r == HADB_ABSENT) {
        return hadb_fail(err, HADB_EGAP, "%s is missing", key);
    }
    if (r < 0) {
        return r; /* with the key */
    }
    struct hadb_manifest manifest;
    r = hadb_manifest_decode(hadb_buf_slice(&payload), &manifest, err);
    if (r != 0) {
        return hadb_wrap(err, r, "%s", key);
    }
    hadb_manifest_deinit(&history->manifest);
    history->manifest = manifest;
    return 0;
}

int hadb__history_open(struct hadb__history *history, struct hadb_storage *storage,
                       const struct hadb_env *env, const char *database, uint32_t request_ms,
                       struct hadb_error *err)
{
    *history = (struct hadb__history){
        .env = hadb_env_or_host(env),
        .storage = storage,
        .database = database,
        .request_ms = request_ms ? request_ms : HADB_HISTORY_REQUEST_MS_DEFAULT,
        .to_slot = UINT64_MAX,
    };
    if (database == NULL || !hadb_name_valid(database)) {
        return hadb_fail(err, HADB_EINVAL,
                         "database name '%s': use 1 to %u of A-Z a-z 0-9 . _ -, no dot in front",
                         database ? database : "", HADB_NAME_BYTES_MAX);
    }
    int r = find(history, err);
    r = r != 0 ? r : hadb__history_manifest(history, err);
    return damaged(r, err);
}

void hadb__history_deinit(struct hadb__history *history)
{
    hadb_manifest_deinit(&history->manifest);
    *history = (struct hadb__history){0};
}

/* Something is behind the missing object: how to go on. */
static int gap(const struct hadb__history *history, const char *key,
               const struct hadb__behind *behind, struct hadb_error *err)
{
    const struct hadb_pos *pos = &history->pos;
    bool proven = hadb__behind_proves(behind, pos->term, pos->slot + 1);
    if (pos->slot == 0) {
        return hadb_fail(err, HADB_EGAP,
                         "%s is missing, slot %" PRIu64 " of term %" PRIu64
                         " behind it is there: put it back; nothing before it can be restored",
                         key, behind->slot, behind->term);
    }
    return hadb_fail(err, HADB_EGAP,
                     "%s is missing, slot %" PRIu64 " of term %" PRIu64 " behind it is there%s; %s "
                     "hadb restore --to %" PRIu64,
                     key, behind->slot, behind->term,
                     proven ? "" : ", perhaps unacknowledged writes of a leader that died",
                     proven ? "put it back, or" : "accept the end:", pos->slot);
}

/* The next object is not there: tip, or collected meanwhile? */
static int absent(struct hadb__history *history, struct hadb_error *err)
{
    int r = hadb__history_manifest(history, err);
    if (r != 0) {
        return r;
    }
    return history->manifest.boundary_slot >= history->pos.slot + 1 ? HADB_ABSENT : HADB_END;
}

static int attach_blobs(struct hadb__history *history, struct hadb_opened *out,
                        struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf blob = {0};
    int r = HADB_ABSENT;
    while (r == HADB_ABSENT) {
        char key[HADB_OBJECT_KEY_BYTES];
        hadb_key_blob(&history->db, &out->entry.put_id, (unsigned)out->parts_attached, key);
        r = get(history, key, &blob, err);
        if (r == HADB_ABSENT) { /* blobs go with their slot: only a collected slot may lack them */
            r = absent(history, err);
            return r != HADB_END ? r : hadb_fail(err, HADB_EGAP, "%s is missing", key);
        }
        r = r != 0 ? r : hadb_entry_attach_blob(out, hadb_buf_slice(&blob), err);
        r = r < 0 ? hadb_wrap(err, r, "%s", key) : r;
    }
    return r;
}

static int check(const struct hadb__history *history, const struct hadb_opened *opened,
                 struct hadb_error *err)
{
    const struct hadb_entry *entry = &opened->entry;
    const struct hadb_pos *pos = &history->pos;
    bool is_data = entry->kind == HADB_ENTRY_DATA;
    if (!is_data && entry->kind != HADB_ENTRY_SEAL) {
        return hadb_fail(err, HADB_ECORRUPT, "is no log entry");
    }
    if (!hadb_id_eq(&entry->db, &history->db) || entry->term != pos->term ||
        entry->slot != pos->slot + 1) {
        return hadb_fail(err, HADB_ECORRUPT, "belongs to another place");
    }
    if (!hadb_hash_eq(&entry->prev, &pos->hash)) {
        return hadb_fail(err, HADB_EFORKED, "does not link to the entry before it");
    }
    if (is_data ? entry->first_txid != pos->txid + 1 : entry->last_txid != pos->txid) {
        return hadb_fail(err, HADB_ECORRUPT, "does not go on after transaction %" PRIu64,
                         pos->txid);
    }
    return is_data ? hadb_entry_check_data(entry, hadb_buf_slice(&opened->payload), err) : 0;
}

/* HADB_ABSENT: it is not there, and a listing before that found nothing behind it, or it was collected. */
static int get_next(struct hadb__history *history, const char *key, struct hadb_buf *stored,
                    struct hadb_error *err)
{
    const struct hadb_pos *pos = &history->pos;
    int r = get(history, key, stored, err);
    if (r != HADB_ABSENT) {
        return r;
    }
    struct hadb__behind behind;
    struct hadb_call call = hadb__history_call(history);
    r = hadb__behind_find(history->storage, &call, &history->db, pos->term, pos->slot + 1, &behind,
                          err);
    if (r != 0 || behind.slot == 0) {
        return r != 0 ? r : HADB_ABSENT;
    }
    /* A leader may be at work; one that is alive fills such a hole soon. */
    bool proven = hadb__behind_proves(&behind, pos->term, pos->slot + 1);
    r = get(history, key, stored, err);
    for (unsigned i = 0; r == HADB_ABSENT && !proven && i < HOLE_LOOKS_MAX; i++) {
        hadb_sleep_ms(HOLE_WAIT_MS, &call);
        r = get(history, key, stored, err);
    }
    if (r == HADB_ABSENT) {
        r = absent(history, err);
        r = r == HADB_END ? gap(history, key, &behind, err) : r;
    }
    return r;
}

int hadb__history_seals(struct hadb__history *history, struct hadb_error *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < history->manifest.terms_len; i++) {
        const struct hadb_manifest_term *term = &history->manifest.terms[i];
        char key[HADB_OBJECT_KEY_BYTES];
        HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf stored = {0};
        struct hadb_entry entry;
        struct hadb_hash hash;
        hadb_key_log(&history->db, term->term, term->last_slot + 1, key);
        r = get(history, key, &stored, err);
        if (r == HADB_ABSENT) { /* seals are never collected */
            return hadb_fail(err, HADB_EGAP,
                             "%s is missing, the seal of a term: without it a leader of that term "
                             "that slept could write again; put it back",
                             key);
        }
        r = r != 0 ? r : hadb_entry_peek(hadb_buf_slice(&stored), &entry, &hash, err);
        if (r == 0 && !hadb_hash_eq(&hash, &term->seal_hash)) {
            r = hadb_fail(err, HADB_EFORKED, "is not the seal that the manifest names");
        }
        r = damaged(hadb_wrap(err, r, "%s", key), err);
    }
    return r;
}

/* The next step when the object behind the position is there and of no use. */
static int instead(const struct hadb__history *history, int r, struct hadb_error *err)
{
    char advice[96];
    if (r != HADB_ECORRUPT && r != HADB_EFORKED) {
        return r;
    }
    if (history->pos.slot == 0) {
        return damaged(r, err);
    }
    snprintf(advice, sizeof advice, "put it back from a copy, or hadb restore --to %" PRIu64,
             history->pos.slot);
    return hadb_advise(err, r, advice);
}

int hadb__history_next(struct hadb__history *history, struct hadb_opened *out,
                       struct hadb_error *err)
{
    struct hadb_pos *pos = &history->pos;
    char key[HADB_OBJECT_KEY_BYTES];
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf stored = {0};
    hadb_key_log(&history->db, pos->term, pos->slot + 1, key);
    if (pos->slot >= history->to_slot) {
        return HADB_END;
    }
    int r = get_next(history, key, &stored, err);
    if (r == HADB_ABSENT) {
        return absent(history, err);
    }
    if (r < 0) {
        return r == HADB_ECORRUPT ? instead(history, r, err) : r; /* it names the object */
    }
    hadb_opened_deinit(out);
    r = hadb_entry_open(hadb_buf_slice(&stored), out, err);
    if (r == HADB_ABSENT) {
        r = attach_blobs(history, out, err);
        if (r > 0) {
            return r;
        }
    }
    r = r != 0 ? r : check(history, out, err);
    if (r != 0) {
        return instead(history, hadb_wrap(err, r, "%s", key), err);
    }
    pos->hash = out->hash;
    if (out->entry.kind == HADB_ENTRY_SEAL) {
        pos->term++;
    } else {
        pos->slot++;
        pos->txid = out->entry.last_txid;
    }
    return 0;
}
