/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: reads. Any node serves any level from its own copy (4.9).
 *
 * Thread: the loop; run_read on a worker, beside the database's writer.
 * Invariants: a linearizable read runs only after a proof that was asked for after it began; nothing but
 * level `any` answers with state that could still be rewound.
 * Happy path: any: read. bookmark: wait until covered, read. linearizable: join a round, proof, read.
 * Failure modes: no proof: asked again while the deadline allows. A bookmark of another history: FORKED. A copy that
 * fails its checksums, or cannot be read: the database halts here, and the read is refused with the reason.
 */
#include "node/node_private.h"

#define RETRY_MS 5u

static void run_read(void *arg)
{
    struct hadb_req *req = arg;
    hadb_executor_execute(&req->box->executor, NULL, &req->request, &req->response, NULL);
}

static void damaged(struct hadb_req *req)
{
    struct hadb_db *db = req->db;
    struct hadb_error err = req->response.error;
    hadb__db_local_failed(db, &err);
    if (db->core.halt == HADB_HALT_LOCAL) {
        hadb__db_refuse(db, req);
    } else { /* it had stopped for another reason, or is closing */
        hadb__req_fail(req, HADB_EUNAVAIL, err.message);
    }
}

static void read_done(void *arg, int r)
{
    struct hadb_req *req = arg;
    struct hadb_db *db = req->db;
    hadb__reqs_remove(req);
    req->in_job = false;
    hadb__job_ends(db, req->box);
    req->box = NULL;
    req->need_txid = req->response.state_txid;
    bool open_state = req->read != HADB_READ_ANY && req->need_txid > db->durable.txid;
    if (r < 0) {
        hadb__req_fail(req, HADB_EUNAVAIL, "the node is closing");
    } else if (hadb__local_failure(req->response.code)) {
        damaged(req);
    } else if (req->response.code < 0) {
        struct hadb_error err = req->response.error;
        hadb__req_finish(req, req->response.code, &err);
    } else if (open_state && req->expired) {
        hadb_response_deinit(&req->response);
        hadb__req_fail(req, HADB_EUNAVAIL, "what was read is not durable yet");
    } else if (open_state) {
        hadb__reqs_add(&db->undurable, req);
    } else {
        if (req->need_txid <= db->durable.txid) {
            req->position = (struct hadb_version){db->durable.term, req->need_txid};
        }
        hadb__req_finish(req, req->response.code, NULL);
    }
    hadb__db_check_stopped(db);
}

static void submit(struct hadb_req *req)
{
    struct hadb_db *db = req->db;
    if (db->swap) {
        hadb__reqs_add(&db->parked, req);
        return;
    }
    if (!db->box) {
        hadb__db_refuse(db, req);
        return;
    }
    req->box = hadb__job_begins(db);
    req->in_job = true;
    hadb__reqs_add(&db->reading, req);
    req->job = (struct hadb_job){.run = run_read, .done = read_done, .arg = req};
    struct hadb_error err;
    if (hadb_pool_submit(db->node->engine_pool, NULL, &req->job, &err) < 0) {
        read_done(req, HADB_ECANCELED);
    }
}

void hadb__reads_unpark(struct hadb_db *db)
{
    while (db->parked.first) {
        struct hadb_req *req = db->parked.first;
        hadb__reqs_remove(req);
        submit(req);
    }
}

/* ---- bookmarks ---- */

/* 1 this copy covers it, 0 not yet, <0 it never will. */
static int covers(const struct hadb_db *db, const struct hadb_version *mark)
{
    if (mark->term > db->durable.term) {
        return 0;
    }
    if (mark->term == db->durable.term) {
        return mark->txid <= db->durable.txid;
    }
    const struct hadb_term *term = hadb_terms_find(&db->terms, mark->term);
    hadb_txid last = term ? term->last_txid : db->durable.txid;
    return mark->txid <= last ? mark->txid <= db->durable.txid : HADB_EFORKED;
}

/* 1 it has left the list. */
static int check_cover(struct hadb_req *req)
{
    struct hadb_db *db = req->db;
    if (req->kind == HADB_REQ_READY) {
        if (hadb__db_ready(db) && (req->bookmark.term == 0 || covers(db, &req->bookmark) == 1)) {
            hadb__req_finish(req, 0, NULL);
            return 1;
        }
        if (db->core.role == HADB_CORE_HALTED) {
            hadb__db_refuse(db, req);
            return 1;
        }
        return 0;
    }
    int r = covers(db, &req->bookmark);
    if (r == 0 && db->core.role == HADB_CORE_HALTED) {
        hadb__db_refuse(db, req);
        return 1;
    }
    if (r == 0) {
        return 0;
    }
    hadb__reqs_remove(req);
    if (r < 0) {
        hadb__req_fail(req, r, "the bookmark is of another history of this database");
    } else {
        submit(req);
    }
    return 1;
}

void hadb__covers_check(struct hadb_db *db)
{
    for (struct hadb_req *req = db->covers.first, *next; req; req = next) {
        next = req->next;
        check_cover(req);
    }
}

/* ---- linearizable ---- */

static void later(struct hadb_req *req)
{
    struct hadb_db *db = req->db;
    if (db->core.role == HADB_CORE_HALTED || db->state != HADB_DB_OPEN) {
        hadb__db_refuse(db, req);
        return;
    }
    hadb__reqs_add(&db->waiting, req);
    if (!hadb_timer_active(&db->route_timer)) {
        hadb_timer_start(&db->route_timer, hadb__now(db->node) + RETRY_MS);
    }
}

void hadb__read_joined(struct hadb_db *db, struct hadb_req *req, uint64_t round)
{
    if (!req) { /* a proof for its own sake */
        db->proof_round = round;
        return;
    }
    if (round == 0) {
        later(req);
        return;
    }
    if (round == HADB_ROUND_NOW) {
        submit(req);
        return;
    }
    req->round = round;
    hadb__reqs_add(&db->rounds, req);
}

void hadb__prove(struct hadb_db *db)
{
    db->unproven = true;
    db->proof_round = 0;
    if (!hadb__db_event(db, &(struct hadb_event){.type = HADB_EV_READ}, NULL)) {
        hadb_timer_start(&db->route_timer, hadb__now(db->node) + RETRY_MS); /* out of memory */
    }
}

void hadb__reads_proven(struct hadb_db *db, uint64_t round)
{
    if (db->unproven && db->proof_round != 0 && db->proof_round <= round) {
        db->unproven = false;
        hadb__lease_back(db);
    }
    for (struct hadb_req *req = db->rounds.first, *next; req; req = next) {
        next = req->next;
        if (req->round <= round) {
            hadb__reqs_remove(req);
            submit(req);
        }
    }
}

void hadb__reads_failed(struct hadb_db *db)
{
    if (db->unproven) { /* asked again, unless the gate closes */
        db->proof_round = 0;
        hadb_timer_start(&db->route_timer, hadb__now(db->node) + RETRY_MS);
    }
    while (db->rounds.first) {
        struct hadb_req *req = db->rounds.first;
        hadb__reqs_remove(req);
        later(req);
    }
}

static void begin(struct hadb_req *req)
{
    struct hadb_event ev = {.type = HADB_EV_READ, .max_lag_ms = req->max_lag_ms};
    if (!hadb__db_event(req->db, &ev, req)) {
        hadb__req_fail(req, HADB_EUNAVAIL, "out of memory");
    }
}

void hadb__read_route(struct hadb_req *req)
{
    struct hadb_db *db = req->db;
    if (db->state != HADB_DB_OPEN) {
        hadb__req_fail(req, HADB_EUNAVAIL, "the database is closing");
        return;
    }
    switch (req->read) {
    case HADB_READ_ANY:
        HADB_COUNT(&db->node->counters, reads_any);
        submit(req);
        break;
    case HADB_READ_BOOKMARK:
        HADB_COUNT(&db->node->counters, reads_bookmark);
        hadb__reqs_add(&db->covers, req);
        check_cover(req);
        break;
    case HADB_READ_BOUNDED:
        HADB_COUNT(&db->node->counters, reads_bounded);
        begin(req);
        break;
    case HADB_READ_DEFAULT:
    case HADB_READ_LINEARIZABLE:
        HADB_COUNT(&db->node->counters, reads_linearizable);
        begin(req);
        break;
    }
}
