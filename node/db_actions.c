/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 5 and 7 of 8: what the machine wants is carried out. One case per action; no decision is made here.
 *
 * Thread: the loop.
 * Invariants: every action that names an op is answered exactly once, also when the pool refuses the job;
 * an object is counted while a job works on it.
 */
#include "node/node_private.h"

#include <inttypes.h>
#include <stdio.h>

/* Which event answers which action, and what it says when the job could not run at all. */
static void answer_init(struct hadb_db_job *job)
{
    struct hadb_event *ev = &job->answer.ev;
    *ev = (struct hadb_event){.op = job->act.op, .result = HADB_R_UNKNOWN};
    switch (job->act.type) {
    case HADB_ACT_GET:
        ev->type = HADB_EV_ENTRY;
        break;
    case HADB_ACT_GET_MANIFEST:
        ev->type = HADB_EV_MANIFEST;
        break;
    case HADB_ACT_SURVEY:
        ev->type = HADB_EV_SURVEYED;
        break;
    case HADB_ACT_FRAME_DATA:
    case HADB_ACT_FRAME_SEAL:
    case HADB_ACT_VIEW:
        ev->type = HADB_EV_FRAMED;
        ev->result = HADB_R_FAILED;
        break;
    case HADB_ACT_CREATE:
        ev->type = HADB_EV_CREATED;
        break;
    case HADB_ACT_APPLY:
        ev->type = HADB_EV_APPLIED;
        ev->result = HADB_R_FAILED;
        break;
    case HADB_ACT_REWIND:
        ev->type = HADB_EV_REWOUND;
        ev->result = HADB_R_FAILED;
        break;
    case HADB_ACT_RESTORE:
        ev->type = HADB_EV_RESTORED;
        break;
    case HADB_ACT_GATE:
        ev->type = HADB_EV_GATED;
        break;
    case HADB_ACT_UPLOAD:
        ev->type = HADB_EV_UPLOADED;
        ev->result = HADB_R_FAILED;
        break;
    case HADB_ACT_CAS_MANIFEST:
        ev->type = HADB_EV_CAS;
        break;
    case HADB_ACT_DELETE:
        ev->type = HADB_EV_DELETED;
        break;
    case HADB_ACT_ASK_READY:
        ev->type = HADB_EV_READY;
        ev->result = HADB_R_FAILED;
        break;
    default:
        HADB_ASSERT(!"an action without an answer");
    }
}

/*
 * What the storage's answer says about this node's own ability to write: a create without an answer casts
 * doubt on it, any definite answer of storage ends the doubt.
 */
static void learn_of_storage(struct hadb_db_job *job)
{
    bool answered = job->answer.ev.result != HADB_R_UNKNOWN;
    bool write = job->act.type == HADB_ACT_CREATE || job->act.type == HADB_ACT_CAS_MANIFEST;
    if (answered || job->act.type == HADB_ACT_CREATE) {
        hadb__peers_storage(job->db->node, answered);
    }
    if (answered || job->err.code < 0) {
        hadb__storage_said(job->db->node, write, answered ? 0 : job->err.code, &job->err);
    }
}

static void applied(struct hadb_db_job *job)
{
    struct hadb_db *db = job->db;
    if (job->answer.ev.result != HADB_R_OK) {
        return;
    }
    if (job->act.entry.kind == HADB_CORE_SEAL) {
        hadb_terms_deinit(&db->terms);
        db->terms = job->terms;
        job->terms = (struct hadb_terms){0};
    } else {
        HADB_COUNT(&db->node->counters, entries_applied);
        db->written_ms = hadb__now(db->node);
        db->txid = HADB_MAX(db->txid, job->act.pos.txid);
    }
}

static void tail_gone(struct hadb_db_job *job)
{
    struct hadb_db *db = job->db;
    bool rewound = job->act.type == HADB_ACT_REWIND;
    if (job->saved > 0) {
        HADB_COUNT(&db->node->counters, tails_saved);
        hadb_log(db->node->env, HADB_LOG_WARN, "node", db->name,
                 "%" PRIu64 " transactions that were not in storage yet went to %s", job->saved,
                 db->paths.lost);
    }
    if (job->answer.ev.result != HADB_R_OK) {
        return;
    }
    db->txid = rewound ? job->act.pos.txid : job->answer.ev.pos.txid;
    db->synced_txid = HADB_MIN(db->synced_txid, db->txid);
    if (!rewound) {
        hadb_terms_deinit(&db->terms);
        db->terms = job->terms;
        job->terms = (struct hadb_terms){0};
        db->caught_up = false;
        db->mark.marked_slot = job->answer.ev.pos.slot;
        HADB_COUNT(&db->node->counters, restores);
    }
    hadb__undurable_lost(db, rewound && job->act.flag);
}

static void manifest_read(struct hadb_db_job *job)
{
    if (job->act.op == HADB_OP_SNAP && job->answer.ev.result == HADB_R_OK) {
        hadb_manifest_deinit(&job->db->snap_manifest);
        job->db->snap_manifest = job->manifest;
        job->db->snap_tag = job->tag;
        job->manifest = (struct hadb_manifest){0};
    }
}

/* If the machine halts, at once or after a look at the manifest, this is why. An entry that is fine ends it. */
static void note_trouble(struct hadb_db_job *job)
{
    const struct hadb_event *ev = &job->answer.ev;
    bool entry = job->act.type == HADB_ACT_GET || job->act.type == HADB_ACT_APPLY;
    bool halts = ev->result == HADB_R_FAILED || ev->result == HADB_R_CORRUPT ||
                 (ev->result == HADB_R_ABSENT && job->act.type == HADB_ACT_GET_MANIFEST);
    if (halts && job->err.code != 0 && job->act.type != HADB_ACT_UPLOAD &&
        job->act.type != HADB_ACT_VIEW) {
        job->db->trouble = job->err;
    } else if (entry && ev->result == HADB_R_OK) {
        job->db->trouble = (struct hadb_error){0};
    }
}

/* What the loop has to note before the machine hears of it. */
static void note_result(struct hadb_db_job *job)
{
    struct hadb_db *db = job->db;
    struct hadb_event *ev = &job->answer.ev;
    switch (job->act.type) {
    case HADB_ACT_CREATE:
        learn_of_storage(job);
        break;
    case HADB_ACT_APPLY:
        applied(job);
        break;
    case HADB_ACT_REWIND:
    case HADB_ACT_RESTORE:
        tail_gone(job);
        break;
    case HADB_ACT_GET:
        learn_of_storage(job);
        break;
    case HADB_ACT_SURVEY:
        learn_of_storage(job);
        db->behind_term = ev->entry.term;
        db->behind_slot = ev->entry.slot;
        break;
    case HADB_ACT_GET_MANIFEST:
        learn_of_storage(job);
        manifest_read(job);
        break;
    case HADB_ACT_DELETE:
        if (ev->result == HADB_R_OK) {
            hadb_manifest_deinit(&db->swept);
            db->swept = job->manifest;
            job->manifest = (struct hadb_manifest){0};
        }
        break;
    case HADB_ACT_GATE:
        db->txid = HADB_MAX(db->txid, ev->txid);
        break;
    case HADB_ACT_CAS_MANIFEST:
        if (ev->result != HADB_R_FAILED) { /* that is this node's own */
            learn_of_storage(job);
        }
        if (ev->result == HADB_R_OK) {
            HADB_COUNT(&db->node->counters, snapshots_published);
        }
        break;
    default:
        break;
    }
    note_trouble(job);
    if (job->act.op == HADB_OP_SNAP) {
        hadb__snap_answered(db, job);
    }
    if (job->local) {
        hadb__db_local_failed(db, &job->err);
    }
    if (ev->result == HADB_R_FAILED && job->err.code != 0) {
        hadb_log(db->node->env, HADB_LOG_ERROR, "node", db->name, "%s", job->err.message);
    }
}

void hadb__job_answer(struct hadb_db_job *job)
{
    struct hadb_db *db = job->db;
    note_result(job);
    if (job->made) {
        job->answer.ev.handle = hadb_objs_add(&db->objs, job->made);
        job->made = NULL;
    }
    if (job->made_view) {
        HADB_ASSERT(job->box);
        job->made_view->box = job->box;
        job->box->refs++;
        job->answer.ev.view = hadb_objs_add(&db->objs, job->made_view);
        job->made_view = NULL;
    }
    hadb_obj_unref(job->obj);
    job->obj = NULL;
    hadb_buf_deinit(&job->stored);
    hadb_terms_deinit(&job->terms);
    hadb_manifest_deinit(&job->manifest);
    hadb_manifest_deinit(&job->swept);
    struct hadb_box *box = job->box;
    job->box = NULL;
    job->busy = false;
    hadb__job_ends(db, box);
    hadb__db_event_answer(db, &job->answer);
}

static void swapped(struct hadb_db_job *job)
{
    struct hadb_db *db = job->db;
    db->swap = NULL;
    db->swapping = false;
    if (job->new_box) {
        db->box = job->new_box;
        job->new_box = NULL;
    }
    hadb__job_answer(job);
    hadb__reads_unpark(db);
}

void hadb__job_done(void *arg, int r)
{
    struct hadb_db_job *job = arg;
    struct hadb_db *db = job->db;
    if (r == HADB_ECANCELED) {
        answer_init(job);
    }
    if (job->job.run == hadb__job_swap) {
        swapped(job);
        return;
    }
    /* The download is there: put it in place once nobody reads the old copy any more. */
    if (job->job.run == hadb__job_restore && job->answer.ev.result == HADB_R_OK) {
        db->swap = job;
        hadb__swap_try(db);
        hadb__db_check_stopped(db);
        return;
    }
    hadb__job_answer(job);
}

/* No memory, or no room in the pool's queue, to start it: what can be asked for again is. */
static void answer_later(struct hadb_db_job *job)
{
    enum hadb_action_type type = job->act.type;
    if (type == HADB_ACT_FRAME_DATA || type == HADB_ACT_FRAME_SEAL || type == HADB_ACT_APPLY ||
        type == HADB_ACT_REWIND) {
        job->answer.ev.result = HADB_R_LATER;
    }
}

static void refuse(struct hadb_db_job *job)
{
    answer_init(job);
    answer_later(job);
    job->db->jobs_running++;
    hadb__job_answer(job);
}

/* @with_engine: the job touches the engine, which then stays. */
static void prepare(struct hadb_db_job *job, bool with_engine, void (*run)(void *arg))
{
    struct hadb_db *db = job->db;
    answer_init(job);
    job->err = (struct hadb_error){0};
    job->saved = 0;
    job->local = false;
    job->began_ns = hadb_now_ns(db->node->env);
    if (db->swapping) {
        db->jobs_running++; /* the engine's count is left alone */
        job->box = NULL;
    } else {
        job->box = hadb__job_begins(db);
    }
    if (!with_engine && job->box) {
        job->box->refs--;
        job->box = NULL;
    }
    job->job = (struct hadb_job){.run = run, .done = hadb__job_done, .arg = job};
}

static void submit(struct hadb_db_job *job, struct hadb_queue *queue, struct hadb_pool *pool,
                   bool with_engine, void (*run)(void *arg))
{
    struct hadb_db *db = job->db;
    prepare(job, with_engine, run);
    if (with_engine && (db->swapping || !job->box)) {
        hadb__job_answer(job); /* the engine is being replaced, or lost */
        return;
    }
    if (hadb_pool_submit(pool, queue, &job->job, &job->err) < 0) {
        answer_later(job);
        hadb__job_answer(job);
    }
}

/* One request to storage, without a worker where that can be. */
static void ask_storage(struct hadb_db_job *job, void (*run)(void *arg))
{
    prepare(job, false, run);
    hadb__io_start(job);
}

void hadb__swap_try(struct hadb_db *db)
{
    if (!db->swap || db->swapping || !db->box || db->box->refs > 1 || db->state != HADB_DB_OPEN) {
        return;
    }
    struct hadb_db_job *job = db->swap;
    db->swapping = true;
    job->job = (struct hadb_job){.run = hadb__job_swap, .done = hadb__job_done, .arg = job};
    if (hadb_pool_submit(db->node->engine_pool, &db->queue, &job->job, &job->err) < 0) {
        job->answer.ev.result = HADB_R_UNKNOWN;
        swapped(job);
    }
}

/* ---- actions ---- */

static struct hadb_db_job *job_for(struct hadb_db *db, const struct hadb_action *act)
{
    HADB_ASSERT(act->op > HADB_OP_NONE && act->op < HADB_OP_END);
    struct hadb_db_job *job = &db->jobs[act->op];
    HADB_ASSERT(!job->busy);
    job->busy = true;
    job->act = *act;
    return job;
}

static void take_obj(struct hadb_db_job *job, uint64_t handle)
{
    job->obj = hadb_objs_get(&job->db->objs, handle);
    hadb_obj_ref(job->obj);
}

static void act_create(struct hadb_db *db, const struct hadb_action *act)
{
    struct hadb_db_job *job = job_for(db, act);
    take_obj(job, act->handle);
    if (act->flag) {
        HADB_COUNT(&db->node->counters, log_creates);
        hadb__stream_send_entry(db, job->obj);
    } else if (act->op != HADB_OP_MAIN) {
        HADB_COUNT(&db->node->counters, log_resends);
    }
    ask_storage(job, hadb__job_create);
}

static void act_apply(struct hadb_db *db, const struct hadb_action *act)
{
    struct hadb_db_job *job = job_for(db, act);
    take_obj(job, act->handle);
    db->mark.wanted = false; /* this position lies behind it */
    db->mark.marked_slot = act->pos.slot;
    if (act->entry.kind == HADB_CORE_SEAL &&
        hadb_terms_copy(&db->terms, &job->terms, &job->err) < 0) {
        refuse(job);
        return;
    }
    submit(job, &db->queue, db->node->engine_pool, true, hadb__job_apply);
}

static void act_upload(struct hadb_db *db, const struct hadb_action *act)
{
    struct hadb_db_job *job = job_for(db, act);
    take_obj(job, act->view);
    hadb_objs_release(&db->objs, act->view); /* passed on to the job */
    __atomic_store_n(&db->upload_cancel.flag, db->state != HADB_DB_OPEN, __ATOMIC_RELEASE);
    submit(job, NULL, db->node->store_pool, true, hadb__job_upload);
}

static void act_cas(struct hadb_db *db, const struct hadb_action *act)
{
    struct hadb_db_job *job = job_for(db, act);
    take_obj(job, act->handle);
    struct hadb_error err;
    job->tag = db->snap_tag;
    if (hadb_terms_copy(&db->terms, &job->terms, &err) < 0 ||
        hadb_manifest_copy(&db->snap_manifest, &job->manifest, &err) < 0 ||
        hadb_manifest_copy(&db->swept, &job->swept, &err) < 0) {
        refuse(job);
        return;
    }
    submit(job, NULL, db->node->store_pool, false, hadb__job_cas);
}

static void act_delete(struct hadb_db *db, const struct hadb_action *act)
{
    struct hadb_db_job *job = job_for(db, act);
    struct hadb_error err;
    if (hadb_terms_copy(&db->terms, &job->terms, &err) < 0) {
        refuse(job);
        return;
    }
    submit(job, NULL, db->node->store_pool, false, hadb__job_delete);
}

static void act_restore(struct hadb_db *db, const struct hadb_action *act)
{
    hadb_log(db->node->env, HADB_LOG_INFO, "node", db->name,
             "this copy is older than the log: restoring the newest snapshot");
    __atomic_store_n(&db->upload_cancel.flag, 1, __ATOMIC_RELEASE);
    db->mark.wanted = false;
    submit(job_for(db, act), NULL, db->node->store_pool, false, hadb__job_restore);
}

static void act_rewind(struct hadb_db *db, const struct hadb_action *act)
{
    db->mark.wanted = false; /* the job marks act->pos itself */
    submit(job_for(db, act), &db->queue, db->node->engine_pool, true, hadb__job_rewind);
}

static void act_frame_seal(struct hadb_db *db, const struct hadb_action *act)
{
    struct hadb_node *node = db->node;
    struct hadb_db_job *job = job_for(db, act);
    const struct hadb_known *known = hadb__peers_known(node, &act->owner.node);
    if (hadb_id_eq(&act->owner.node, &node->self.node)) {
        snprintf(job->next_name, sizeof job->next_name, "%s", node->name);
        snprintf(job->next_address, sizeof job->next_address, "%s", node->address);
    } else {
        snprintf(job->next_name, sizeof job->next_name, "%s", known ? known->name : "");
        snprintf(job->next_address, sizeof job->next_address, "%s", known ? known->address : "");
    }
    submit(job, NULL, node->engine_pool, false, hadb__job_frame_seal);
}

static void act_gate(struct hadb_db *db, const struct hadb_action *act)
{
    if (act->gate == HADB_GATE_OPEN) {
        __atomic_store_n(&db->gate, act->term, __ATOMIC_RELEASE);
        hadb__writes_reroute(db);
        hadb__covers_check(db);
        return;
    }
    /* The flag first; then a barrier on the queue, behind every commit that saw it open. */
    __atomic_store_n(&db->gate, 0, __ATOMIC_RELEASE);
    submit(job_for(db, act), &db->queue, db->node->engine_pool, true, hadb__job_gate);
    hadb__writes_gated(db);
}

static void act_durable(struct hadb_db *db, const struct hadb_action *act)
{
    if (!act->flag) {
        HADB_COUNT_BY(&db->node->counters, log_entries_durable, act->pos.slot - db->durable.slot);
    }
    db->durable = act->pos;
    if (!act->flag) {
        hadb__mark_durable(db, &act->pos);
        hadb__stream_send_mark(db, act->pos.term, act->pos.slot);
    }
    hadb__undurable_check(db);
    hadb__covers_check(db);
}

static void act_give_up(struct hadb_db *db, const struct hadb_action *act)
{
    db->given_up = act->flag;
    hadb__stream_send_free(db);
    hadb_log(db->node->env, act->flag ? HADB_LOG_ERROR : HADB_LOG_INFO, "node", db->name,
             act->flag ? "no durable progress: other nodes may take this database"
                       : "durable progress again");
}

static void get_entry(struct hadb_db *db, const struct hadb_action *act)
{
    HADB_COUNT(&db->node->counters, log_gets);
    ask_storage(job_for(db, act), hadb__job_get);
}

static void get_manifest(struct hadb_db *db, const struct hadb_action *act)
{
    HADB_COUNT(&db->node->counters, manifest_gets);
    ask_storage(job_for(db, act), hadb__job_get_manifest);
}

static void survey(struct hadb_db *db, const struct hadb_action *act)
{
    HADB_COUNT(&db->node->counters, log_lists);
    submit(job_for(db, act), NULL, db->node->store_pool, false, hadb__job_survey);
}

static void release(struct hadb_db *db, const struct hadb_action *act)
{
    if (act->handle) {
        hadb_objs_release(&db->objs, act->handle);
    }
    if (act->view) {
        hadb_objs_release(&db->objs, act->view);
        hadb__swap_try(db);
    }
}

static void ask_ready(struct hadb_db *db, const struct hadb_action *act)
{
    struct hadb_db_job *job = job_for(db, act);
    answer_init(job);
    db->jobs_running++;
    hadb__ask_ready(job);
}

static void act_role(struct hadb_db *db, const struct hadb_action *act)
{
    hadb__db_role(db, act);
}

static void act_owner(struct hadb_db *db, const struct hadb_action *act)
{
    hadb__db_owner(db, &act->owner, act->term);
}

static void act_owner_seen(struct hadb_db *db, const struct hadb_action *act)
{
    hadb__peers_seen(db, &act->owner);
}

static void act_frame_data(struct hadb_db *db, const struct hadb_action *act)
{
    /* On the queue: whatever it captures has been reported as committed before its answer is. */
    submit(job_for(db, act), &db->queue, db->node->engine_pool, true, hadb__job_frame_data);
}

static void act_read_ok(struct hadb_db *db, const struct hadb_action *act)
{
    hadb__reads_proven(db, act->round);
}

static void act_read_fail(struct hadb_db *db, const struct hadb_action *act)
{
    (void)act;
    hadb__reads_failed(db);
}

static void act_notify(struct hadb_db *db, const struct hadb_action *act)
{
    hadb__notify(db, &act->owner);
}

static void act_handoff_done(struct hadb_db *db, const struct hadb_action *act)
{
    hadb__db_handoff_done(db, act->result);
}

static void act_view(struct hadb_db *db, const struct hadb_action *act)
{
    submit(job_for(db, act), &db->queue, db->node->engine_pool, true, hadb__job_view);
}

static void act_seal_turn(struct hadb_db *db, const struct hadb_action *act)
{
    (void)act;
    hadb__turn_ask(db);
}

void hadb__db_act(struct hadb_db *db, const struct hadb_action *act, struct hadb_req *read)
{
    static void (*const handlers[])(struct hadb_db *db, const struct hadb_action *act) = {
        [HADB_ACT_ROLE] = act_role,
        [HADB_ACT_OWNER] = act_owner,
        [HADB_ACT_OWNER_SEEN] = act_owner_seen,
        [HADB_ACT_GET] = get_entry,
        [HADB_ACT_GET_MANIFEST] = get_manifest,
        [HADB_ACT_SURVEY] = survey,
        [HADB_ACT_FRAME_DATA] = act_frame_data,
        [HADB_ACT_FRAME_SEAL] = act_frame_seal,
        [HADB_ACT_CREATE] = act_create,
        [HADB_ACT_RELEASE] = release,
        [HADB_ACT_APPLY] = act_apply,
        [HADB_ACT_REWIND] = act_rewind,
        [HADB_ACT_RESTORE] = act_restore,
        [HADB_ACT_GATE] = act_gate,
        [HADB_ACT_DURABLE] = act_durable,
        [HADB_ACT_READ_OK] = act_read_ok,
        [HADB_ACT_READ_FAIL] = act_read_fail,
        [HADB_ACT_ASK_READY] = ask_ready,
        [HADB_ACT_NOTIFY] = act_notify,
        [HADB_ACT_HANDOFF_DONE] = act_handoff_done,
        [HADB_ACT_VIEW] = act_view,
        [HADB_ACT_UPLOAD] = act_upload,
        [HADB_ACT_CAS_MANIFEST] = act_cas,
        [HADB_ACT_DELETE] = act_delete,
        [HADB_ACT_GIVE_UP] = act_give_up,
        [HADB_ACT_SEAL_TURN] = act_seal_turn,
    };
    if (act->type == HADB_ACT_READ_JOIN) {
        hadb__read_joined(db, read, act->round);
        return;
    }
    HADB_ASSERT((size_t)act->type < HADB_LEN(handlers) && handlers[act->type]);
    handlers[act->type](db, act);
}
