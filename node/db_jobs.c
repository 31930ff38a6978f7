/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 3 to 8 of 8: the blocking half of the machine's actions on log and engine.
 *
 * Thread: a worker. A job touches its own struct, the engine, and storage; nothing of the loop.
 * Invariants: a result of "unknown" is never turned into a definite one; what was read is verified
 * (hash, database, kind, place) before the machine hears of it.
 * Failure modes: each job fills in the answer that answer_init() prepared as the failing one.
 */
#include "changeset/keys.h"
#include "node/node_private.h"

#include <inttypes.h>
#include <stdio.h>

/* Up to this many bytes of transactions go into one log entry; one larger transaction fills its own. */
#define ENTRY_RAW_BYTES_MAX HADB_ENTRY_INLINE_BYTES_MAX

struct hadb_call hadb__db_call(const struct hadb_db *db, uint32_t ms)
{
    struct hadb_call call = hadb_call_within(db->node->env, ms);
    call.cancel = &db->cancel;
    call.database = db->name;
    return call;
}

static void trace(const struct hadb_db *db, unsigned hop, const char *what,
                  const struct hadb_entry_info *entry, uint64_t bytes, uint64_t began_ns)
{
    const struct hadb_env *env = db->node->env;
    if (env->trace) {
        struct hadb_trace_event event = {.hop = hop,
                                         .what = what,
                                         .database = db->name,
                                         .term = entry->term,
                                         .slot = entry->slot,
                                         .txid = entry->last_txid,
                                         .bytes = bytes,
                                         .took_us = (hadb_now_ns(env) - began_ns) / 1000};
        hadb_trace(env, &event);
    }
}

/* ---- hop 7: pull ---- */

static int fetch_blobs(struct hadb_db *db, struct hadb_opened *opened, struct hadb_error *err)
{
    int r = HADB_ABSENT;
    while (r == HADB_ABSENT) {
        char key[HADB_OBJECT_KEY_BYTES];
        struct hadb_buf blob HADB_CLEANUP(hadb_buf_deinit) = {0};
        struct hadb_call call = hadb__db_call(db, HADB_STORE_WRITE_MS);
        hadb_key_blob(&db->uuid, &opened->entry.put_id, (unsigned)opened->parts_attached, key);
        r = hadb_storage_get(&db->node->storage, &call, key, &blob, NULL, err);
        if (r == HADB_ABSENT) {
            return hadb_fail(err, HADB_ECORRUPT, "blob %s is missing", key);
        }
        if (r == 0) {
            r = hadb_entry_attach_blob(opened, hadb_buf_slice(&blob), err);
        }
    }
    return r;
}

/* What the machine needs to know of an opened entry. */
static int describe(const struct hadb_db *db, const struct hadb_opened *opened,
                    struct hadb_entry_info *out, struct hadb_error *err)
{
    const struct hadb_entry *entry = &opened->entry;
    if (!hadb_id_eq(&entry->db, &db->uuid) ||
        (entry->kind != HADB_ENTRY_DATA && entry->kind != HADB_ENTRY_SEAL)) {
        return hadb_fail(err, HADB_ECORRUPT, "the object is not a log entry of this database");
    }
    *out = (struct hadb_entry_info){.kind = (enum hadb_core_entry)entry->kind,
                                    .term = entry->term,
                                    .slot = entry->slot,
                                    .last_txid = entry->last_txid,
                                    .prev = entry->prev,
                                    .hash = opened->hash};
    if (entry->kind == HADB_ENTRY_DATA) {
        return hadb_entry_check_data(entry, hadb_buf_slice(&opened->payload), err);
    }
    struct hadb_seal seal;
    int r = hadb_seal_decode(hadb_buf_slice(&opened->payload), &seal, err);
    if (r == 0) {
        out->reason = (enum hadb_seal_reason)seal.reason;
        out->next = (struct hadb_owner){seal.node_id, seal.incarnation};
    }
    return r;
}

static int open_entry(struct hadb_db_job *job, struct hadb_obj *obj)
{
    struct hadb_db *db = job->db;
    struct hadb_entry_info *info = &job->answer.ev.entry;
    char key[HADB_OBJECT_KEY_BYTES];
    hadb_key_log(&db->uuid, job->act.term, job->act.slot, key);
    int r = hadb_entry_open(hadb_buf_slice(&job->stored), &obj->opened, &job->err);
    if (r == HADB_ABSENT) {
        r = fetch_blobs(db, &obj->opened, &job->err);
    }
    if (r == 0) {
        r = describe(db, &obj->opened, info, &job->err);
    }
    if (r == 0 && (info->term != job->act.term || info->slot != job->act.slot)) {
        r = hadb_fail(&job->err, HADB_ECORRUPT, "the object belongs to another place in the log");
    }
    if (r == 0) {
        trace(db, 7, "pull", info, job->stored.len, job->began_ns);
    }
    return hadb_wrap(&job->err, r, "%s", key);
}

void hadb__job_not_got(struct hadb_db_job *job, int r)
{
    struct hadb_event *ev = &job->answer.ev;
    if (r == HADB_ABSENT) {
        ev->result = HADB_R_ABSENT;
        return;
    }
    bool corrupt = hadb__local_result(r) == HADB_R_CORRUPT;
    ev->result = corrupt ? HADB_R_CORRUPT : ev->result;
    hadb_log(job->db->node->env, corrupt ? HADB_LOG_ERROR : HADB_LOG_DEBUG, "node", job->db->name,
             "%s", job->err.message);
}

void hadb__job_open(void *arg)
{
    struct hadb_db_job *job = arg;
    struct hadb_obj *obj = hadb_obj_new(HADB_OBJ_ENTRY);
    if (!obj) {
        return;
    }
    int r = open_entry(job, obj);
    if (r == 0) {
        job->answer.ev.result = HADB_R_OK;
        job->made = obj;
        return;
    }
    hadb_obj_unref(obj);
    hadb__job_not_got(job, r);
}

void hadb__job_get(void *arg)
{
    struct hadb_db_job *job = arg;
    struct hadb_db *db = job->db;
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_call call = hadb__db_call(db, HADB_STORE_READ_MS);
    hadb_key_log(&db->uuid, job->act.term, job->act.slot, key);
    int r = hadb_storage_get(&db->node->storage, &call, key, &job->stored, NULL, &job->err);
    if (r == 0) {
        hadb__job_open(job);
    } else {
        hadb__job_not_got(job, r);
    }
}

/* ---- hops 3 and 4: capture and frame ---- */

static int frame(struct hadb_db_job *job, struct hadb_obj *obj, struct hadb_capture *capture)
{
    struct hadb_db *db = job->db;
    const struct hadb_action *act = &job->act;
    struct hadb_event *ev = &job->answer.ev;
    uint64_t began = hadb_now_ns(db->node->env);
    db->frame_unix_ms = HADB_MAX(db->frame_unix_ms, capture->time_unix_ms);
    struct hadb_entry entry = {.kind = HADB_ENTRY_DATA,
                               .db = db->uuid,
                               .term = act->term,
                               .slot = act->slot,
                               .first_txid = capture->first_txid,
                               .last_txid = capture->last_txid,
                               .prev = act->prev,
                               .incarnation = db->node->self.incarnation,
                               .time_unix_ms = db->frame_unix_ms,
                               .durable_slot = act->durable_slot};
    hadb_id_random(db->node->env, &entry.put_id);
    int r = hadb_entry_frame(&entry, hadb_buf_slice(&capture->body), HADB_ZSTD_LEVEL_DEFAULT,
                             &obj->framed, &job->err);
    if (r < 0) {
        return r;
    }
    ev->entry = (struct hadb_entry_info){.kind = HADB_CORE_DATA,
                                         .term = act->term,
                                         .slot = act->slot,
                                         .last_txid = capture->last_txid,
                                         .prev = act->prev,
                                         .hash = obj->framed.hash};
    trace(db, 4, "frame", &ev->entry, obj->framed.entry.len, began);
    return 0;
}

/* Corrupt local state is a local failure; only entries can be corrupt to the machine. */
static void later_or_failed(struct hadb_db_job *job, int r)
{
    job->answer.ev.result = hadb__local_result(r) == HADB_R_LATER ? HADB_R_LATER : HADB_R_FAILED;
}

/* A view that came with the capture becomes an object of its own; without memory it is given up. */
static void keep_view(struct hadb_db_job *job, struct hadb_capture *capture)
{
    if (!capture->view) {
        return;
    }
    struct hadb_obj *view = hadb_obj_new(HADB_OBJ_VIEW);
    if (view) {
        view->view = capture->view;
        capture->view = NULL;
        job->made_view = view; /* box and count: on the loop, see hadb__job_answer() */
    }
}

void hadb__job_frame_data(void *arg)
{
    struct hadb_db_job *job = arg;
    const struct hadb_action *act = &job->act;
    struct hadb_capture capture = {0};
    struct hadb_obj *obj = hadb_obj_new(HADB_OBJ_ENTRY);
    int r = obj ? hadb_replicator_capture(&job->box->replicator, act->txid, ENTRY_RAW_BYTES_MAX,
                                          act->flag, &capture, &job->err)
                : hadb_fail_nomem(&job->err);
    if (r == HADB_END) {
        r = hadb_fail(&job->err, HADB_EGAP, "no transaction after %" PRIu64, act->txid);
    }
    if (r == 0) {
        r = frame(job, obj, &capture);
    }
    if (r == 0) {
        keep_view(job, &capture);
        job->made = obj;
        job->answer.ev.result = HADB_R_OK;
    } else {
        hadb_obj_unref(obj);
        later_or_failed(job, r);
    }
    hadb_replicator_capture_deinit(&job->box->replicator, &capture);
}

void hadb__job_frame_seal(void *arg)
{
    struct hadb_db_job *job = arg;
    struct hadb_db *db = job->db;
    const struct hadb_action *act = &job->act;
    struct hadb_seal seal = {.reason = (unsigned)act->reason,
                             .node_id = act->owner.node,
                             .incarnation = act->owner.incarnation};
    snprintf(seal.node, sizeof seal.node, "%s", job->next_name);
    snprintf(seal.address, sizeof seal.address, "%s", job->next_address);
    struct hadb_entry entry = {.kind = HADB_ENTRY_SEAL,
                               .db = db->uuid,
                               .term = act->term,
                               .slot = act->slot,
                               .first_txid = act->txid,
                               .last_txid = act->txid,
                               .prev = act->prev,
                               .incarnation = db->node->self.incarnation,
                               .time_unix_ms = hadb_now_unix_ms(db->node->env)};
    hadb_id_random(db->node->env, &entry.put_id);
    struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_obj *obj = hadb_obj_new(HADB_OBJ_ENTRY);
    int r = obj ? hadb_seal_encode(&seal, &payload, &job->err) : hadb_fail_nomem(&job->err);
    if (r == 0) {
        r = hadb_entry_frame(&entry, hadb_buf_slice(&payload), 0, &obj->framed, &job->err);
    }
    if (r < 0) {
        hadb_obj_unref(obj);
        later_or_failed(job, r);
        return;
    }
    job->made = obj;
    job->answer.ev.result = HADB_R_OK;
    job->answer.ev.entry = (struct hadb_entry_info){.kind = HADB_CORE_SEAL,
                                                    .reason = act->reason,
                                                    .term = act->term,
                                                    .slot = act->slot,
                                                    .last_txid = act->txid,
                                                    .prev = act->prev,
                                                    .hash = obj->framed.hash,
                                                    .next = act->owner};
}

/* ---- hops 5 and 6: ship and create ---- */

static int create_all(struct hadb_db_job *job, struct hadb_call *call)
{
    struct hadb_db *db = job->db;
    const struct hadb_framed *framed = &job->obj->framed;
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_entry header;
    if (framed->blobs_len > 0) {
        int r = hadb_entry_peek(hadb_buf_slice(&framed->entry), &header, NULL, &job->err);
        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; i < framed->blobs_len; i++) {
        hadb_key_blob(&db->uuid, &header.put_id, (unsigned)i, key);
        int r =
            hadb_storage_create(&db->node->storage, call, key, framed->blobs[i], NULL, &job->err);
        if (r < 0) {
            return r; /* EXISTS is fine: the name belongs to these bytes alone */
        }
    }
    hadb_key_log(&db->uuid, job->act.term, job->act.slot, key);
    return hadb_storage_create(&db->node->storage, call, key, hadb_buf_slice(&framed->entry), NULL,
                               &job->err);
}

void hadb__job_created(struct hadb_db_job *job, int r)
{
    struct hadb_db *db = job->db;
    if (r == 0) {
        job->answer.ev.result = HADB_R_OK;
        struct hadb_entry_info info = {.term = job->act.term, .slot = job->act.slot};
        trace(db, 5, "ship", &info, job->obj->framed.entry.len, job->began_ns);
    } else if (r == HADB_EXISTS) {
        job->answer.ev.result = HADB_R_EXISTS;
    } else {
        hadb_log(db->node->env, job->act.flag ? HADB_LOG_WARN : HADB_LOG_DEBUG, "node", db->name,
                 "log entry %" PRIu64 "/%" PRIu64 " is not in storage yet: %s", job->act.term,
                 job->act.slot, job->err.message);
    }
}

void hadb__job_create(void *arg)
{
    struct hadb_db_job *job = arg;
    struct hadb_call call = hadb__db_call(job->db, HADB_STORE_WRITE_MS);
    hadb__job_created(job, create_all(job, &call));
}

/* ---- hop 8: apply ---- */

/* Entries that came by stream, or were framed here, are decoded only now. */
static int open_obj(struct hadb_db *db, struct hadb_obj *obj, struct hadb_error *err)
{
    if (obj->opened.entry.kind != 0) {
        return 0;
    }
    struct hadb_slice stored =
        obj->stored.len > 0 ? hadb_buf_slice(&obj->stored) : hadb_buf_slice(&obj->framed.entry);
    int r = hadb_entry_open(stored, &obj->opened, err);
    if (r == HADB_ABSENT) {
        r = fetch_blobs(db, &obj->opened, err);
    }
    return r;
}

static int apply_seal(struct hadb_db_job *job)
{
    struct hadb_db *db = job->db;
    const struct hadb_entry_info *entry = &job->act.entry;
    struct hadb_seal seal;
    int r = hadb_seal_decode(hadb_buf_slice(&job->obj->opened.payload), &seal, &job->err);
    if (r < 0) {
        return r;
    }
    struct hadb_term term = {.term = entry->term,
                             .last_slot = entry->slot - 1,
                             .last_txid = entry->last_txid,
                             .seal_hash = entry->hash,
                             .next = entry->next};
    r = hadb_terms_add(&job->terms, &term, seal.node, seal.address, &job->err);
    if (r == 0) {
        r = hadb_terms_store(&db->node->env->fs, db->paths.terms, &job->terms, &job->err);
    }
    if (r == 0) { /* only now may the mark pass the seal */
        r = hadb_replicator_mark(&job->box->replicator, &job->act.pos, &job->err);
    }
    return r;
}

void hadb__job_apply(void *arg)
{
    struct hadb_db_job *job = arg;
    struct hadb_db *db = job->db;
    uint64_t began = hadb_now_ns(db->node->env);
    int r = open_obj(db, job->obj, &job->err);
    bool opened = r == 0;
    if (r == 0 && job->act.entry.kind == HADB_CORE_SEAL) {
        r = apply_seal(job);
    } else if (r == 0) {
        r = hadb_replicator_apply(&job->box->replicator, hadb_buf_slice(&job->obj->opened.payload),
                                  &job->act.pos, &job->err);
    }
    struct hadb_event *ev = &job->answer.ev;
    if (r == 0) {
        ev->result = HADB_R_OK;
        trace(db, 8, "apply", &job->act.entry, job->obj->opened.payload.len, began);
    } else if (r == HADB_DIVERGED) {
        ev->result = HADB_R_DIVERGED;
    } else {
        ev->result = hadb__local_result(r);
        if (!opened && ev->result == HADB_R_FAILED) {
            ev->result = HADB_R_LATER; /* storage does not give its blobs just now */
        }
        bool again = ev->result == HADB_R_LATER;
        hadb_log(db->node->env, again ? HADB_LOG_WARN : HADB_LOG_ERROR, "node", db->name,
                 "log entry %" PRIu64 "/%" PRIu64 " cannot be applied%s: %s", job->act.term,
                 job->act.slot, again ? " now" : "", job->err.message);
    }
}

void hadb__job_rewind(void *arg)
{
    struct hadb_db_job *job = arg;
    struct hadb_db *db = job->db;
    struct hadb_engine_position at;
    hadb_engine_position(&job->box->engine, &at);
    int r = 0;
    /* What is durable is not tail, even if its mark had not reached the engine yet. */
    if (at.mark.term == job->act.pos.term && at.mark.slot < job->act.pos.slot) {
        r = hadb_replicator_mark(&job->box->replicator, &job->act.pos, &job->err);
    }
    struct hadb_tail_save save = {
        .dir = db->paths.dir,
        .reason = "another node ended the term before these transactions were in storage"};
    struct hadb_tail_saved *saved = hadb_calloc(1, sizeof *saved);
    if (r == 0) {
        r = saved ? hadb_replicator_tail_save(&job->box->replicator, &save, saved, &job->err)
                  : hadb_fail_nomem(&job->err);
    }
    if (r == 0) {
        job->saved = saved->transactions;
        job->answer.ev.result = HADB_R_OK;
    } else {
        later_or_failed(job, r);
    }
    hadb_free(saved);
}

/* A barrier: every commit that saw the gate open is behind us. */
void hadb__job_gate(void *arg)
{
    struct hadb_db_job *job = arg;
    struct hadb_engine_position at;
    hadb_engine_position(&job->box->engine, &at);
    job->answer.ev.txid = at.last_txid;
    job->answer.ev.result = HADB_R_OK;
}
