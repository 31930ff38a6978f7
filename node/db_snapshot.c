/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: manifest, snapshots, deletion and restore, the blocking half.
 *
 * Thread: a worker. Invariants: a manifest is only written on top of the one that was read; a name is deleted
 * only when a manifest that is already written condemns it, or lies below its boundary; seals stay;
 * a restored copy replaces the old one only when it is whole, and the old tail was saved first.
 * Failure modes: nothing is cleaned up after a failure; whatever is left over is unreferenced.
 */
#include "changeset/keys.h"
#include "node/node_private.h"
#include "node/uploads.h"

#include <inttypes.h>
#include <stdio.h>

/* Objects up to this size may be seals or references to blobs: their header is read before deleting. */
#define SMALL_OBJECT_BYTES 4096u
#define DELETE_LEN_MAX 256u

static int manifest_open(struct hadb_db *db, struct hadb_slice stored, struct hadb_manifest *out,
                         struct hadb_error *err)
{
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_entry entry;
    hadb_key_manifest(&db->uuid, key);
    int r = hadb_entry_decode(stored, &entry, &payload, NULL, err);
    if (r == 0 && (entry.kind != HADB_ENTRY_MANIFEST || !hadb_id_eq(&entry.db, &db->uuid))) {
        r = hadb_fail(err, HADB_ECORRUPT, "the object is not this database's manifest");
    }
    if (r == 0) {
        r = hadb_manifest_decode(hadb_buf_slice(&payload), out, err);
    }
    return hadb_wrap(err, r > 0 ? HADB_ECORRUPT : r, "%s", key);
}

static int manifest_fetch(struct hadb_db *db, struct hadb_buf *stored, struct hadb_tag *tag,
                          struct hadb_error *err)
{
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_call call = hadb__db_call(db, HADB_STORE_READ_MS);
    hadb_key_manifest(&db->uuid, key);
    return hadb_storage_get(&db->node->storage, &call, key, stored, tag, err);
}

static int manifest_get(struct hadb_db *db, struct hadb_manifest *out, struct hadb_error *err)
{
    struct hadb_buf stored HADB_CLEANUP(hadb_buf_deinit) = {0};
    int r = manifest_fetch(db, &stored, NULL, err);
    return r ? r : manifest_open(db, hadb_buf_slice(&stored), out, err);
}

static bool is_corrupt(int r)
{
    return hadb__local_result(r) == HADB_R_CORRUPT;
}

void hadb__job_no_manifest(struct hadb_db_job *job, int r)
{
    struct hadb_event *ev = &job->answer.ev;
    if (r == HADB_ABSENT) {
        char key[HADB_OBJECT_KEY_BYTES];
        hadb_key_manifest(&job->db->uuid, key);
        hadb_fail(&job->err, HADB_ECORRUPT, "storage object %s is missing", key);
        ev->result = HADB_R_ABSENT;
        return;
    }
    ev->result = is_corrupt(r) ? HADB_R_CORRUPT : HADB_R_UNKNOWN;
    hadb_log(job->db->node->env, is_corrupt(r) ? HADB_LOG_ERROR : HADB_LOG_DEBUG, "node",
             job->db->name, "%s", job->err.message);
}

void hadb__job_open_manifest(void *arg)
{
    struct hadb_db_job *job = arg;
    const struct hadb_manifest *m = &job->manifest;
    int r = manifest_open(job->db, hadb_buf_slice(&job->stored), &job->manifest, &job->err);
    if (r < 0) {
        hadb__job_no_manifest(job, r);
        return;
    }
    job->answer.ev.result = HADB_R_OK;
    job->answer.ev.manifest = (struct hadb_manifest_info){.version = m->version,
                                                          .nonce = m->nonce,
                                                          .boundary_slot = m->boundary_slot,
                                                          .boundary_term = m->boundary_term,
                                                          .swept_slot = m->swept_slot,
                                                          .has_snapshot = m->snapshots_len > 0};
}

void hadb__job_get_manifest(void *arg)
{
    struct hadb_db_job *job = arg;
    int r = manifest_fetch(job->db, &job->stored, &job->tag, &job->err);
    if (r == 0) {
        hadb__job_open_manifest(job);
    } else {
        hadb__job_no_manifest(job, r);
    }
}

/* ---- publishing ---- */

void hadb__job_view(void *arg)
{
    struct hadb_db_job *job = arg;
    struct hadb_obj *obj = hadb_obj_new(HADB_OBJ_VIEW);
    if (!obj) {
        return;
    }
    /* On the database's queue: nothing is written between the two calls. */
    struct hadb_engine_position at;
    hadb_engine_position(&job->box->engine, &at);
    int r = hadb_engine_view_open(&job->box->engine, &obj->view, &job->answer.ev.txid, &job->err);
    if (r < 0) {
        job->local = hadb__local_failure(r);
        hadb_obj_unref(obj);
        return;
    }
    job->made_view = obj;
    job->answer.ev.pos = at.mark;
    job->answer.ev.result = HADB_R_OK;
}

void hadb__job_upload(void *arg)
{
    struct hadb_db_job *job = arg;
    struct hadb_db *db = job->db;
    struct hadb_obj *obj = hadb_obj_new(HADB_OBJ_SNAPSHOT);
    if (!obj) {
        return;
    }
    struct hadb_call call = hadb__db_call(db, HADB_STORE_BULK_MS);
    call.cancel = &db->upload_cancel;
    struct hadb_snapshot_store store = {
        .storage = &db->node->storage, .call = &call, .db = db->uuid, .slot = job->act.pos.slot};
    hadb_id_random(db->node->env, &store.nonce);
    struct hadb_snapshot_io io = hadb_snapshot_store_io(&store);
    struct hadb_uploads *uploads = hadb_uploads_begin(db->node->store_pool, &io);
    io.arg = uploads;
    io.put_checked = hadb_uploads_put;
    io.finish = hadb_uploads_finish;
    int r = uploads ? hadb_replicator_snapshot(&job->box->replicator, job->obj->view, &job->act.pos,
                                               &io, &obj->snapshot, &job->err)
                    : hadb_fail_nomem(&job->err);
    /* Whose fault a failure is: the engine's that is read, or the storage's that is written and read back. */
    bool failed = uploads && hadb_uploads_failed(uploads);
    hadb_uploads_end(uploads);
    if (r < 0) {
        job->local = !failed && hadb__local_failure(r);
        hadb_obj_unref(obj);
        return;
    }
    obj->snapshot_nonce = store.nonce;
    obj->snapshot_unix_ms = hadb_now_unix_ms(db->node->env);
    job->made = obj;
    job->answer.ev.result = HADB_R_OK;
}

static int manifest_plan(struct hadb_db_job *job)
{
    struct hadb_manifest *m = &job->manifest;
    const struct hadb_action *act = &job->act;
    const struct hadb_obj *obj = job->obj;
    m->version++;
    m->nonce = act->nonce;
    m->boundary_slot = HADB_MAX(m->boundary_slot, act->slot);
    m->boundary_term = HADB_MAX(m->boundary_term, act->term);
    m->swept_slot = HADB_MAX(m->swept_slot, act->swept_slot);
    uint64_t unswept = hadb_terms_unswept(&job->terms, m->swept_slot);
    unswept = HADB_MIN(unswept, m->boundary_term);
    m->swept_term = unswept > 0 ? HADB_MAX(m->swept_term, unswept - 1) : m->swept_term;
    struct hadb_manifest_snapshot snapshot = {.parts = obj->snapshot.parts,
                                              .bytes = obj->snapshot.bytes,
                                              .time_unix_ms = obj->snapshot_unix_ms,
                                              .pos = obj->snapshot.pos,
                                              .last_hash = obj->snapshot.last_hash,
                                              .digest = obj->snapshot.digest};
    hadb_snapshot_name(obj->snapshot.pos.slot, &obj->snapshot_nonce, snapshot.name);
    for (size_t i = 0; i < job->swept.condemned_len; i++) {
        hadb_manifest_absolve(m, job->swept.condemned[i]);
    }
    int r = hadb_manifest_add_snapshot(m, &snapshot, &job->err);
    while (r == 0 && m->snapshots_len > job->db->snapshots_keep) {
        r = hadb_manifest_drop_snapshot(m, 0, &job->err);
    }
    uint64_t last_term = m->terms_len > 0 ? m->terms[m->terms_len - 1].term : 0;
    for (size_t i = 0; r == 0 && i < job->terms.len; i++) {
        const struct hadb_term *t = &job->terms.items[i];
        if ((m->terms_len > 0 && t->term <= last_term) || t->term >= act->term) {
            continue;
        }
        struct hadb_manifest_term term = {.term = t->term,
                                          .last_slot = t->last_slot,
                                          .last_txid = t->last_txid,
                                          .seal_hash = t->seal_hash};
        r = hadb_manifest_add_term(m, &term, &job->err);
    }
    return r;
}

void hadb__job_cas(void *arg)
{
    struct hadb_db_job *job = arg;
    struct hadb_db *db = job->db;
    struct hadb_event *ev = &job->answer.ev;
    struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_buf stored HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_hash hash;
    struct hadb_entry entry = {.kind = HADB_ENTRY_MANIFEST,
                               .db = db->uuid,
                               .incarnation = db->node->self.incarnation,
                               .time_unix_ms = hadb_now_unix_ms(db->node->env)};
    hadb_id_random(db->node->env, &entry.put_id);
    int r = manifest_plan(job);
    if (r == 0) {
        r = hadb_manifest_encode(&job->manifest, &payload, &job->err);
    }
    if (r == 0) {
        r = hadb_entry_encode(&entry, hadb_buf_slice(&payload), HADB_ZSTD_LEVEL_DEFAULT, &stored,
                              &hash, &job->err);
    }
    if (r < 0) {
        ev->result = HADB_R_FAILED;
        return;
    }
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_call call = hadb__db_call(db, HADB_STORE_WRITE_MS);
    hadb_key_manifest(&db->uuid, key);
    r = hadb_storage_replace(&db->node->storage, &call, key, hadb_buf_slice(&stored), &job->tag,
                             NULL, &job->err);
    ev->result = r == 0 ? HADB_R_OK : r == HADB_CAS_LOST ? HADB_R_LOST : HADB_R_UNKNOWN;
}

/* ---- deleting ---- */

struct doomed {
    char *keys[DELETE_LEN_MAX];
    size_t len;
};

static void doomed_free(struct doomed *d)
{
    for (size_t i = 0; i < d->len; i++) {
        hadb_free(d->keys[i]);
    }
    d->len = 0;
}

static int doomed_flush(struct hadb_db *db, struct doomed *d, struct hadb_error *err)
{
    struct hadb_call call = hadb__db_call(db, HADB_STORE_WRITE_MS);
    int r = d->len == 0 ? 0
                        : hadb_storage_delete_many(&db->node->storage, &call,
                                                   (const char *const *)d->keys, d->len, err);
    doomed_free(d);
    return r;
}

static int doomed_add(struct hadb_db *db, struct doomed *d, const char *key, struct hadb_error *err)
{
    int r = d->len == DELETE_LEN_MAX ? doomed_flush(db, d, err) : 0;
    if (r < 0) {
        return r;
    }
    d->keys[d->len] = hadb_strdup(key);
    if (!d->keys[d->len]) {
        return hadb_fail_nomem(err);
    }
    d->len++;
    return 0;
}

/* 0 it may go; HADB_EXISTS it is a seal and stays. Its blobs go first. */
static int examine(struct hadb_db *db, const struct hadb_object_info *item, bool seals_too,
                   struct doomed *d, struct hadb_error *err)
{
    if (item->size_bytes > SMALL_OBJECT_BYTES) {
        return 0;
    }
    struct hadb_buf stored HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_call call = hadb__db_call(db, HADB_STORE_READ_MS);
    int r = hadb_storage_get(&db->node->storage, &call, item->key, &stored, NULL, err);
    if (r == HADB_ABSENT) {
        return HADB_EXISTS; /* gone already: nothing to do */
    }
    struct hadb_entry entry;
    if (r == 0) {
        r = hadb_entry_peek(hadb_buf_slice(&stored), &entry, NULL, err);
    }
    if (r < 0) {
        return is_corrupt(r) ? HADB_EXISTS : r; /* what cannot be read is not deleted */
    }
    if (entry.kind == HADB_ENTRY_SEAL) {
        return seals_too ? 0 : HADB_EXISTS;
    }
    for (unsigned n = 0; (entry.flags & HADB_ENTRY_FLAG_BLOB) && n < HADB_BLOB_PARTS_MAX; n++) {
        char key[HADB_OBJECT_KEY_BYTES];
        hadb_key_blob(&db->uuid, &entry.put_id, n, key);
        r = doomed_add(db, d, key, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int delete_page(struct hadb_db_job *job, const struct hadb_object_list *page,
                       struct doomed *d)
{
    for (size_t i = 0; i < page->len; i++) {
        struct hadb_key_parts parts;
        if (!hadb_key_parse(page->items[i].key, &parts) || parts.type != HADB_KEY_LOG ||
            parts.slot > job->act.slot) {
            continue;
        }
        int r = examine(job->db, &page->items[i], job->act.flag, d, &job->err);
        if (r == 0) {
            r = doomed_add(job->db, d, page->items[i].key, &job->err);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* All keys below @prefix, page by page, from @after on. */
static int delete_below(struct hadb_db_job *job, const char *prefix, const char *after, bool whole)
{
    struct hadb_db *db = job->db;
    struct doomed d = {.len = 0};
    char last[HADB_OBJECT_KEY_BYTES];
    snprintf(last, sizeof last, "%s", after);
    bool more = true;
    int r = 0;
    while (more && r == 0) {
        struct hadb_object_list page = {0};
        struct hadb_call call = hadb__db_call(db, HADB_STORE_READ_MS);
        r = hadb_storage_list(&db->node->storage, &call, prefix, last, HADB_LIST_LEN_MAX, &page,
                              &job->err);
        if (r == 0 && whole) {
            for (size_t i = 0; r == 0 && i < page.len; i++) {
                r = doomed_add(db, &d, page.items[i].key, &job->err);
            }
        } else if (r == 0) {
            r = delete_page(job, &page, &d);
        }
        more = page.truncated && page.len > 0;
        if (page.len > 0) {
            snprintf(last, sizeof last, "%s", page.items[page.len - 1].key);
        }
        hadb_object_list_deinit(&page);
    }
    if (r == 0) {
        r = doomed_flush(db, &d, &job->err);
    }
    doomed_free(&d);
    return r;
}

/* Terms that were swept before are not listed again. */
static void first_key(const struct hadb_db_job *job, const struct hadb_manifest *m,
                      char out[HADB_OBJECT_KEY_BYTES])
{
    uint64_t term = HADB_MAX(hadb_terms_unswept(&job->terms, m->swept_slot), m->swept_term);
    out[0] = '\0';
    if (term > 0) {
        hadb_key_log(&job->db->uuid, term, m->swept_slot, out);
    }
}

void hadb__job_delete(void *arg)
{
    struct hadb_db_job *job = arg;
    struct hadb_db *db = job->db;
    char prefix[HADB_OBJECT_KEY_BYTES], after[HADB_OBJECT_KEY_BYTES];
    int r = manifest_get(db, &job->manifest, &job->err);
    if (r != 0 || job->manifest.boundary_slot < job->act.slot) {
        return; /* no manifest covers it: not now */
    }
    hadb_key_prefix_log(&db->uuid, prefix);
    first_key(job, &job->manifest, after);
    r = delete_below(job, prefix, after, false);
    for (size_t i = 0; r == 0 && i < job->manifest.condemned_len; i++) {
        char snapshots[HADB_OBJECT_KEY_BYTES], folder[HADB_OBJECT_KEY_BYTES * 2];
        hadb_key_prefix_snapshots(&db->uuid, snapshots);
        snprintf(folder, sizeof folder, "%s%s/", snapshots, job->manifest.condemned[i]);
        r = delete_below(job, folder, "", true);
    }
    if (r == 0) {
        job->answer.ev.result = HADB_R_OK;
    } else {
        hadb_log(db->node->env, HADB_LOG_WARN, "node", db->name, "cleaning up: %s",
                 job->err.message);
    }
}

/* ---- restoring ---- */

/* The owner of the snapshot's term is named by the seal before it, which is never deleted. */
static int restore_terms(struct hadb_db_job *job, const struct hadb_pos *pos)
{
    struct hadb_db *db = job->db;
    const struct hadb_manifest *m = &job->manifest;
    job->terms = (struct hadb_terms){.db = db->uuid};
    for (size_t i = 0; i < m->terms_len && m->terms[i].term < pos->term; i++) {
        struct hadb_term term = {.term = m->terms[i].term,
                                 .last_slot = m->terms[i].last_slot,
                                 .last_txid = m->terms[i].last_txid,
                                 .seal_hash = m->terms[i].seal_hash};
        struct hadb_seal seal = {0};
        if (term.term + 1 == pos->term) {
            char key[HADB_OBJECT_KEY_BYTES];
            struct hadb_buf stored HADB_CLEANUP(hadb_buf_deinit) = {0};
            struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
            struct hadb_call call = hadb__db_call(db, HADB_STORE_READ_MS);
            struct hadb_entry entry;
            struct hadb_hash hash;
            hadb_key_log(&db->uuid, term.term, term.last_slot + 1, key);
            int r = hadb_storage_get(&db->node->storage, &call, key, &stored, NULL, &job->err);
            if (r == 0) {
                r = hadb_entry_decode(hadb_buf_slice(&stored), &entry, &payload, &hash, &job->err);
            }
            if (r == 0 && !hadb_hash_eq(&hash, &term.seal_hash)) {
                r = hadb_fail(&job->err, HADB_ECORRUPT, "%s is not the seal of the manifest", key);
            }
            if (r == 0) {
                r = hadb_seal_decode(hadb_buf_slice(&payload), &seal, &job->err);
            }
            if (r != 0) {
                return r > 0 ? hadb_fail(&job->err, HADB_ECORRUPT, "seal %s is missing", key) : r;
            }
            term.next = (struct hadb_owner){seal.node_id, seal.incarnation};
        }
        int r = hadb_terms_add(&job->terms, &term, seal.node, seal.address, &job->err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int download(struct hadb_db_job *job, const struct hadb_manifest_snapshot *snapshot,
                    const char *path)
{
    struct hadb_db *db = job->db;
    struct hadb_call call = hadb__db_call(db, HADB_STORE_BULK_MS);
    struct hadb_snapshot_store store = {
        .storage = &db->node->storage, .call = &call, .db = db->uuid};
    if (!hadb_snapshot_name_parse(snapshot->name, &store.slot, &store.nonce)) {
        return hadb_fail(&job->err, HADB_ECORRUPT, "snapshot with a bad name: %s", snapshot->name);
    }
    struct hadb_snapshot_io io = hadb_snapshot_store_io(&store);
    struct hadb_snapshot_ref ref = {.pos = snapshot->pos,
                                    .parts = snapshot->parts,
                                    .bytes = snapshot->bytes,
                                    .last_hash = snapshot->last_hash,
                                    .digest = snapshot->digest};
    struct hadb_box *box = NULL;
    const struct hadb_fs *fs = &db->node->env->fs;
    int r = hadb_fs_remove_all(fs, path, &job->err);
    if (r >= 0) {
        r = hadb_fs_held_check(&db->node->folder.held, "data folder", &job->err);
    }
    if (r == 0) { /* not its parents: they are there, unless another folder took their name */
        r = hadb_fs_mkdir(fs, path, &job->err);
        r = r > 0 ? hadb_fail(&job->err, HADB_EIO, "data folder %.140s went away", path) : r;
    }
    if (r == 0) {
        r = hadb__box_open(db, path, &box, &job->err);
    }
    if (r == 0) {
        r = hadb_replicator_restore(&box->replicator, &ref, &io, &job->err);
    }
    if (r == 0 && strcmp(db->engine_name, "memory") == 0) {
        job->new_box = box; /* a volatile copy cannot be opened again: it is swapped in as it is */
        return 0;
    }
    hadb__box_close(box);
    return r;
}

void hadb__job_restore(void *arg)
{
    struct hadb_db_job *job = arg;
    struct hadb_db *db = job->db;
    struct hadb_event *ev = &job->answer.ev;
    char path[HADB_PATH_BYTES_MAX];
    int r = manifest_get(db, &job->manifest, &job->err);
    const struct hadb_manifest_snapshot *newest =
        r == 0 ? hadb_manifest_newest(&job->manifest) : NULL;
    if (r == 0 && !newest) {
        ev->result = HADB_R_ABSENT;
        return;
    }
    if (r == HADB_ABSENT) {
        r = hadb_fail(&job->err, HADB_ECORRUPT, "the manifest is missing");
    }
    if (r == 0) {
        r = hadb_path_join(path, db->paths.tmp, "engine", &job->err);
    }
    if (r == 0) {
        r = restore_terms(job, &newest->pos);
    }
    if (r == 0) {
        r = download(job, newest, path);
    }
    if (r == 0) {
        ev->result = HADB_R_OK;
        ev->pos = newest->pos;
        ev->owner = hadb_terms_owner(&job->terms, newest->pos.term);
        return;
    }
    /* Anything else may be over later: storage, space, memory, a snapshot that was replaced meanwhile. */
    ev->result = is_corrupt(r) ? HADB_R_CORRUPT : HADB_R_UNKNOWN;
    hadb_log(db->node->env, HADB_LOG_WARN, "node", db->name, "restore: %s", job->err.message);
}

static int save_old(struct hadb_db_job *job)
{
    struct hadb_tail_save save = {
        .dir = job->db->paths.dir,
        .reason = "this copy fell behind the log and was replaced by a snapshot"};
    struct hadb_tail_saved *saved = hadb_calloc(1, sizeof *saved);
    if (!saved) {
        return hadb_fail_nomem(&job->err);
    }
    int r = hadb_replicator_tail_save(&job->db->box->replicator, &save, saved, &job->err);
    job->saved = r == 0 ? saved->transactions : 0;
    hadb_free(saved);
    return r;
}

/* Nobody else touches the engine now. */
void hadb__job_swap(void *arg)
{
    struct hadb_db_job *job = arg;
    struct hadb_db *db = job->db;
    const struct hadb_fs *fs = &db->node->env->fs;
    char path[HADB_PATH_BYTES_MAX];
    job->answer.ev.result = HADB_R_FAILED;
    int r = save_old(job);
    if (r == 0) {
        r = hadb_terms_store(fs, db->paths.terms, &job->terms, &job->err);
    }
    if (r == 0 && job->new_box) {
        hadb__box_close(db->box);
        db->box = NULL;
        job->answer.ev.result = HADB_R_OK;
        return;
    }
    if (r == 0) {
        r = hadb_path_join(path, db->paths.tmp, "engine", &job->err);
    }
    if (r < 0) { /* the old copy is still in place */
        job->answer.ev.result =
            hadb__local_result(r) == HADB_R_LATER ? HADB_R_LATER : HADB_R_FAILED;
        return;
    }
    hadb__box_close(db->box);
    db->box = NULL;
    r = hadb_fs_remove_all(fs, db->paths.engine, &job->err);
    if (r >= 0) {
        r = hadb_fs_rename(fs, path, db->paths.engine, &job->err);
    }
    if (r == 0) {
        r = hadb_fs_sync_dir(fs, db->paths.dir, &job->err);
    }
    if (r == 0) {
        r = hadb__box_open(db, db->paths.engine, &job->new_box, &job->err);
    }
    if (r == 0) {
        job->answer.ev.result = HADB_R_OK;
    }
}
