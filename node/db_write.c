/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 1 and 2 of 8: writes. Routed to the engine here, or to the leader; executed in groups; answered when what
 * they rest on is as durable as was asked.
 *
 * Thread: the loop; run_batch, run_sync, run_mark on a worker, in the database's queue or beside it.
 * Invariants: a commit runs only while the gate is open for the term it was routed for, checked in the queue
 * right before; in DURABLE and BOTH no reply of any kind leaves before all it rests on is durable (4.3.4).
 * Happy path: writes -> one job executes all that wait -> COMMITTED -> … -> DURABLE -> replies.
 * Failure modes: gate closed: routed again. Tail lost: executed again elsewhere under the same request id. Lease run out:
 * ASYNC and LOCAL wait until it is renewed and this node is proven to lead still, or the gate closes.
 */
#include "node/node_private.h"

#define RETRY_MIN_MS 2u
#define RETRY_MAX_MS 50u

/* ---- routing ---- */

static void wait_for_leader(struct hadb_req *req)
{
    struct hadb_db *db = req->db;
    hadb__reqs_add(&db->waiting, req);
    if (req->attempts == 0 || hadb_timer_active(&db->route_timer)) {
        return;
    }
    unsigned doublings = HADB_MIN(req->retries, 8u);
    uint64_t wait = HADB_MIN((uint64_t)RETRY_MIN_MS << doublings, RETRY_MAX_MS);
    hadb_timer_start(&db->route_timer, hadb__now(db->node) + wait);
}

static bool owns(const struct hadb_db *db)
{
    return hadb_id_eq(&db->owner.incarnation, &db->node->self.incarnation);
}

static void trace_route(const struct hadb_req *req)
{
    const struct hadb_env *env = req->db->node->env;
    if (env->trace) {
        struct hadb_trace_event event = {.hop = 1,
                                         .what = "route",
                                         .database = req->db->name,
                                         .term = req->db->owner_term,
                                         .bytes = req->bytes};
        hadb_trace(env, &event);
    }
}

void hadb__write_route(struct hadb_req *req)
{
    struct hadb_db *db = req->db;
    if (db->state != HADB_DB_OPEN) {
        hadb__req_fail(req, req->maybe_done ? HADB_EUNKNOWN : HADB_EUNAVAIL,
                       "the database is closing");
    } else if (__atomic_load_n(&db->gate, __ATOMIC_ACQUIRE) != 0) {
        trace_route(req);
        if (!req->forwarded) {
            req->request.repeated = hadb__req_repeated(req);
        }
        hadb__reqs_add(&db->writes, req);
        hadb__writes_kick(db);
    } else if (req->forwarded && db->owner_term >= req->forwarded_term && !owns(db)) {
        hadb__req_fail(req, HADB_EUNAVAIL, "this node does not lead the database");
    } else if (!req->forwarded && db->peer && db->peer->address[0] && req->attempts == 0) {
        hadb__forward(req);
    } else if (db->core.role == HADB_CORE_HALTED) {
        hadb__db_refuse(db, req);
    } else {
        wait_for_leader(req);
        if (req->forwarded) { /* the sender knows of a term that this node has not read yet */
            hadb__db_event(db, &(struct hadb_event){.type = HADB_EV_POKE}, NULL);
        }
    }
}

void hadb__writes_gated(struct hadb_db *db)
{
    db->unproven = false;
    while (db->writes.first && __atomic_load_n(&db->gate, __ATOMIC_ACQUIRE) == 0) {
        struct hadb_req *req = db->writes.first;
        hadb__reqs_remove(req);
        hadb__write_route(req);
    }
}

void hadb__writes_reroute(struct hadb_db *db)
{
    if (db->state != HADB_DB_OPEN) {
        return;
    }
    hadb_timer_stop(&db->route_timer);
    if (db->unproven && db->proof_round == 0) {
        hadb__prove(db);
    }
    struct hadb_reqs list = db->waiting;
    db->waiting = (struct hadb_reqs){0};
    for (struct hadb_req *req = list.first, *next; req; req = next) {
        next = req->next;
        req->list = NULL;
        req->prev = req->next = NULL;
        req->attempts = 0; /* this time it may be sent */
        if (req->kind == HADB_REQ_READ) {
            hadb__read_route(req);
            continue;
        }
        HADB_COUNT(&db->node->counters, writes_rerouted);
        hadb__write_route(req);
    }
}

/* ---- acknowledgement ---- */

static bool wants_durable(const struct hadb_req *req)
{
    return req->kind == HADB_REQ_READ || req->ack == HADB_ACK_DURABLE || req->ack == HADB_ACK_BOTH;
}

static bool wants_local(const struct hadb_req *req)
{
    return req->kind == HADB_REQ_WRITE && (req->ack == HADB_ACK_LOCAL || req->ack == HADB_ACK_BOTH);
}

/* An answer may rest on this node's lease in place of storage: it has not run out, and did not do so unnoticed. */
static bool lease_holds(struct hadb_db *db)
{
    return hadb__peers_local_ok(db->node) && !db->unproven;
}

static void answer(struct hadb_req *req)
{
    struct hadb_db *db = req->db;
    if (req->need_txid <= db->durable.txid) { /* bookmarks name durable state only */
        req->position = (struct hadb_version){db->durable.term, req->need_txid};
    }
    struct hadb_error *err = req->response.code < 0 ? &req->response.error : NULL;
    hadb__req_finish(req, req->response.code, err);
}

/* 1 answered, 0 has to wait. */
static int try_answer(struct hadb_req *req)
{
    struct hadb_db *db = req->db;
    if (wants_durable(req) && req->need_txid > db->durable.txid) {
        return 0;
    }
    if (wants_local(req) && req->need_txid > db->synced_txid) {
        return 0;
    }
    if (!wants_durable(req) && req->need_txid > db->durable.txid && !lease_holds(db)) {
        return 0; /* until storage has it, the lease is back, or it is lost and goes elsewhere */
    }
    answer(req);
    return 1;
}

static void run_sync(void *arg)
{
    struct hadb_db_sync *sync = arg;
    sync->r = hadb_replicator_sync(&sync->box->replicator, &sync->err);
}

static void sync_kick(struct hadb_db *db);

static void sync_done(void *arg, int r)
{
    struct hadb_db *db = arg;
    struct hadb_db_sync *sync = &db->sync;
    sync->busy = false;
    hadb__job_ends(db, sync->box);
    if (r == 0 && sync->r == 0) {
        db->synced_txid = HADB_MAX(db->synced_txid, sync->txid);
        hadb__undurable_check(db);
        sync_kick(db);
    } else if (r == 0) {
        hadb__db_local_failed(db, &sync->err);
    }
    hadb__db_check_stopped(db);
}

static void sync_run(void *arg)
{
    run_sync(&((struct hadb_db *)arg)->sync);
}

/* Someone waits for the disk of this host, and no fsync that would do is under way. */
static void sync_kick(struct hadb_db *db)
{
    struct hadb_db_sync *sync = &db->sync;
    bool wanted = false;
    for (struct hadb_req *req = db->undurable.first; req && !wanted; req = req->next) {
        wanted = wants_local(req) && req->need_txid > db->synced_txid;
    }
    if (!wanted || sync->busy || db->swap || !db->box || db->state != HADB_DB_OPEN) {
        return;
    }
    sync->busy = true;
    sync->txid = db->txid;
    sync->box = hadb__job_begins(db);
    sync->job = (struct hadb_job){.run = sync_run, .done = sync_done, .arg = db};
    if (hadb_pool_submit(db->node->engine_pool, NULL, &sync->job, &sync->err) < 0) {
        sync->busy = false;
        hadb__job_ends(db, sync->box);
    }
}

void hadb__undurable_check(struct hadb_db *db)
{
    for (struct hadb_req *req = db->undurable.first, *next; req; req = next) {
        next = req->next;
        try_answer(req);
    }
}

void hadb__lease_back(struct hadb_db *db)
{
    hadb__undurable_check(db);
    hadb__writes_kick(db);
}

void hadb__undurable_lost(struct hadb_db *db, bool definite)
{
    struct hadb_reqs list = db->undurable;
    db->undurable = (struct hadb_reqs){0};
    for (struct hadb_req *req = list.first, *next; req; req = next) {
        next = req->next;
        req->list = NULL;
        req->prev = req->next = NULL;
        hadb_response_deinit(&req->response);
        if (req->kind == HADB_REQ_READ) {
            hadb__read_route(req);
            continue;
        }
        req->maybe_done = req->maybe_done || !definite;
        HADB_COUNT(&db->node->counters, writes_rerouted);
        hadb__write_route(req);
    }
}

/* ---- group commit ---- */

static void run_batch(void *arg)
{
    struct hadb_db *db = arg;
    struct hadb_db_batch *batch = &db->batch;
    batch->ran = __atomic_load_n(&db->gate, __ATOMIC_ACQUIRE) == batch->term;
    if (!batch->ran) {
        return;
    }
    const struct hadb_env *env = db->node->env;
    uint64_t began = hadb_now_ns(env);
    batch->context = (struct hadb_execute_context){
        .term = batch->term, .now_unix_ms = hadb_now_unix_ms(env), .now_ms = hadb_now_ms(env)};
    batch->r = hadb_executor_execute_many(&batch->box->executor, &batch->context, batch->requests,
                                          batch->len, batch->responses, &batch->err);
    struct hadb_engine_position at;
    hadb_engine_position(&batch->box->engine, &at);
    batch->last_txid = at.last_txid;
    if (env->trace) {
        struct hadb_trace_event event = {.hop = 2,
                                         .what = "commit",
                                         .database = db->name,
                                         .term = batch->term,
                                         .txid = at.last_txid,
                                         .took_us = (hadb_now_ns(env) - began) / 1000};
        hadb_trace(env, &event);
    }
}

static void executed(struct hadb_req *req, struct hadb_response *response)
{
    struct hadb_db *db = req->db;
    req->response = *response;
    *response = (struct hadb_response){0};
    HADB_COUNT(&db->node->counters, writes_executed);
    if (req->response.deduplicated) {
        HADB_COUNT(&db->node->counters, writes_deduplicated);
    }
    int code = req->response.code;
    if (code == HADB_EIO) { /* it may be there when the engine is opened next */
        hadb__req_fail(req, HADB_EUNKNOWN, req->response.error.message);
        return;
    }
    if (hadb__local_failure(code)) { /* surely not done, and the database has halted */
        hadb__db_refuse(db, req);
        return;
    }
    if (code == HADB_EEXPIRED && !req->forwarded && hadb__req_id_expired(req)) {
        return;
    }
    req->need_txid = req->response.state_txid;
    if (code == 0) {
        req->need_txid = HADB_MAX(req->need_txid, req->response.version.txid);
    }
    if (try_answer(req) == 1) {
        return;
    }
    if (req->expired) {
        hadb__req_fail(req, HADB_EUNKNOWN, "the deadline ended before the write was durable");
        return;
    }
    hadb__reqs_add(&db->undurable, req);
}

/* What the engine said of the group, or of a request that had to read from it; NULL: nothing bad. */
static const struct hadb_error *batch_trouble(const struct hadb_db_batch *batch)
{
    if (hadb__local_failure(batch->r)) {
        return &batch->err;
    }
    for (size_t i = 0; i < batch->len; i++) {
        if (hadb__local_failure(batch->responses[i].code)) {
            return &batch->responses[i].error;
        }
    }
    return NULL;
}

static void batch_done(void *arg, int r)
{
    struct hadb_db *db = arg;
    struct hadb_db_batch *batch = &db->batch;
    bool ran = r == 0 && batch->ran;
    batch->busy = false;
    hadb__job_ends(db, batch->box);
    struct hadb_req *req = batch->first;
    batch->first = NULL;
    if (ran && batch->last_txid > db->txid) {
        db->txid = batch->last_txid;
        db->written_ms = hadb__now(db->node);
        struct hadb_event ev = {.type = HADB_EV_COMMITTED, .txid = batch->last_txid};
        hadb__db_event(db, &ev, NULL);
    }
    const struct hadb_error *trouble = ran ? batch_trouble(batch) : NULL;
    if (trouble) {
        hadb__db_local_failed(db, trouble);
    }
    for (size_t i = 0; req; i++) {
        struct hadb_req *next = req->next;
        req->next = NULL;
        req->in_job = false;
        if (ran) {
            executed(req, &batch->responses[i]);
        } else if (req->expired) {
            hadb__req_fail(req, req->maybe_done ? HADB_EUNKNOWN : HADB_EUNAVAIL,
                           "no leader before the deadline");
        } else {
            hadb__write_route(req);
        }
        req = next;
    }
    sync_kick(db);
    hadb__writes_kick(db);
    hadb__db_check_stopped(db);
}

static bool batch_room(struct hadb_db_batch *batch, size_t len)
{
    if (len <= batch->cap) {
        return true;
    }
    size_t cap = HADB_MIN(HADB_MAX(len, 2 * batch->cap), (size_t)HADB_GROUP_LEN_MAX);
    void *requests = hadb_realloc((void *)batch->requests, cap * sizeof *batch->requests);
    if (requests) {
        batch->requests = requests;
    }
    void *responses = hadb_realloc(batch->responses, cap * sizeof *batch->responses);
    if (responses) {
        batch->responses = responses;
    }
    if (requests && responses) {
        batch->cap = cap;
    }
    return batch->cap >= 1;
}

static void batch_fill(struct hadb_db *db)
{
    struct hadb_db_batch *batch = &db->batch;
    struct hadb_req **last = &batch->first;
    size_t bytes = 0;
    batch->first = NULL;
    batch->len = 0;
    bool holds = lease_holds(db);
    for (struct hadb_req *req = db->writes.first, *next;
         req && batch->len < batch->cap && bytes <= HADB_GROUP_BYTES_MAX; req = next) {
        next = req->next;
        if (!holds && !wants_durable(req)) {
            continue; /* it waits for the lease, or for the new leader */
        }
        hadb__reqs_remove(req);
        bytes += req->bytes;
        req->in_job = true;
        batch->requests[batch->len++] = &req->request;
        *last = req;
        last = &req->next;
    }
    *last = NULL;
}

void hadb__writes_kick(struct hadb_db *db)
{
    struct hadb_db_batch *batch = &db->batch;
    uint64_t term = __atomic_load_n(&db->gate, __ATOMIC_ACQUIRE);
    if (batch->busy || db->writes.len == 0 || term == 0 || !db->box ||
        !batch_room(batch, HADB_MIN(db->writes.len, (size_t)HADB_GROUP_LEN_MAX))) {
        return;
    }
    batch_fill(db);
    if (batch->len == 0) {
        return;
    }
    batch->busy = true;
    batch->term = term;
    batch->ran = false;
    batch->r = 0;
    memset(batch->responses, 0, batch->len * sizeof *batch->responses);
    HADB_COUNT(&db->node->counters, write_batches);
    batch->box = hadb__job_begins(db);
    batch->job = (struct hadb_job){.run = run_batch, .done = batch_done, .arg = db};
    struct hadb_error err;
    if (hadb_pool_submit(db->node->engine_pool, &db->queue, &batch->job, &err) < 0) {
        batch_done(db, HADB_ECANCELED);
    }
}

/* ---- the engine's mark ---- */

static void run_mark(void *arg)
{
    struct hadb_db_mark *mark = &((struct hadb_db *)arg)->mark;
    mark->r = hadb_replicator_mark(&mark->box->replicator, &mark->pos, &mark->err);
}

static void mark_kick(struct hadb_db *db);

/* The machine decides when: DURABLE comes again. */
static void mark_failed(struct hadb_db *db)
{
    struct hadb_db_mark *mark = &db->mark;
    if (hadb__local_result(mark->r) != HADB_R_LATER) {
        hadb__db_local_failed(db, &mark->err);
        return;
    }
    if (mark->marked_slot == mark->pos.slot) { /* else something newer has been marked since */
        mark->marked_slot = mark->pos.slot - 1;
    }
    hadb__db_event(db, &(struct hadb_event){.type = HADB_EV_LOCAL, .result = HADB_R_LATER}, NULL);
}

static void mark_done(void *arg, int r)
{
    struct hadb_db *db = arg;
    struct hadb_db_mark *mark = &db->mark;
    mark->busy = false;
    hadb__job_ends(db, mark->box);
    if (r == 0 && mark->r < 0) {
        mark_failed(db);
    }
    mark_kick(db);
    hadb__db_check_stopped(db);
}

static void mark_kick(struct hadb_db *db)
{
    struct hadb_db_mark *mark = &db->mark;
    if (mark->busy || !mark->wanted || !db->box || mark->wanted_pos.slot <= mark->marked_slot) {
        return;
    }
    mark->busy = true;
    mark->wanted = false;
    mark->pos = mark->wanted_pos;
    mark->marked_slot = mark->pos.slot;
    mark->box = hadb__job_begins(db);
    mark->job = (struct hadb_job){.run = run_mark, .done = mark_done, .arg = db};
    if (hadb_pool_submit(db->node->engine_pool, &db->queue, &mark->job, &mark->err) < 0) {
        mark->busy = false;
        hadb__job_ends(db, mark->box);
    }
}

void hadb__mark_durable(struct hadb_db *db, const struct hadb_pos *pos)
{
    db->mark.wanted = true;
    db->mark.wanted_pos = *pos;
    mark_kick(db);
}
