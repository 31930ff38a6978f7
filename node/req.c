/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 1 of 8: route. The life of a request on the loop: limits, deadline, the lists it waits in, its end.
 *
 * Thread: the loop; hadb__req_post() any.
 * Invariants: done() once; a request is in at most one list, and in none while a worker has it.
 * Failure modes: at the deadline a write that may have committed is "unknown", everything else
 * "surely not done".
 */
#include "node/node_private.h"

#include <stdio.h>

/* ---- lists ---- */

void hadb__reqs_add(struct hadb_reqs *list, struct hadb_req *req)
{
    HADB_ASSERT(!req->list);
    req->list = list;
    req->next = NULL;
    req->prev = list->last;
    if (list->last) {
        list->last->next = req;
    } else {
        list->first = req;
    }
    list->last = req;
    list->len++;
}

void hadb__reqs_remove(struct hadb_req *req)
{
    struct hadb_reqs *list = req->list;
    if (!list) {
        return;
    }
    if (req->prev) {
        req->prev->next = req->next;
    } else {
        list->first = req->next;
    }
    if (req->next) {
        req->next->prev = req->prev;
    } else {
        list->last = req->prev;
    }
    list->len--;
    req->list = NULL;
    req->prev = req->next = NULL;
}

/* ---- end ---- */

void hadb__req_finish(struct hadb_req *req, int r, const struct hadb_error *err)
{
    HADB_ASSERT(req->started && !req->finished && !req->in_job && !req->call);
    struct hadb_node *node = req->db->node;
    hadb__reqs_remove(req);
    hadb_timer_deinit(&req->timer);
    hadb_buf_deinit(&req->wire);
    req->finished = true;
    req->r = r;
    if (err) {
        req->err = *err;
    } else if (r < 0 && req->err.code == 0) {
        hadb_fail(&req->err, r, "%s", hadb_code_text(r));
    }
    node->requests_len--;
    node->requests_bytes -= req->bytes;
    req->done(req);
}

void hadb__req_fail(struct hadb_req *req, int code, const char *text)
{
    struct hadb_error err;
    hadb_fail(&err, code, "%s", text);
    hadb__req_finish(req, code, &err);
}

static const char *waited_for(const struct hadb_req *req)
{
    const struct hadb_db *db = req->db;
    if (req->list == &db->waiting) {
        return db->peer ? "the leader did not take it before the deadline"
                        : "no leader before the deadline";
    }
    if (req->list == &db->covers) {
        return req->kind == HADB_REQ_READY
                   ? "not ready before the deadline"
                   : "this node does not have that state before the deadline";
    }
    if (req->list == &db->writes) {
        return "this leader could not begin it before the deadline: its lease has run out, or "
               "its disk is slow";
    }
    return "not done before the deadline";
}

static void on_deadline(void *arg)
{
    struct hadb_req *req = arg;
    struct hadb_db *db = req->db;
    HADB_COUNT(&db->node->counters, requests_expired);
    req->expired = true;
    if (req->in_job) {
        return; /* answered when the worker gives it back */
    }
    if (req->call) {
        hadb_http_cancel(req->call); /* answered in its on_done */
        return;
    }
    bool open = req->maybe_done || (req->kind == HADB_REQ_WRITE && req->list == &db->undurable);
    if (open) {
        hadb__req_fail(req, HADB_EUNKNOWN,
                       "the deadline ended before the outcome was known: retry with the same "
                       "request id");
    } else if (req->kind == HADB_REQ_READY || req->kind == HADB_REQ_HANDOFF) {
        hadb__req_fail(req, HADB_ETIMEDOUT, waited_for(req));
    } else if (db->core.role == HADB_CORE_HALTED) {
        hadb__db_refuse(db, req);
    } else {
        hadb__req_fail(req, HADB_EUNAVAIL, waited_for(req));
    }
}

/* ---- the request id ---- */

#define NEW_IDS_MAX 3u

bool hadb__req_repeated(const struct hadb_req *req)
{
    return !req->own_id || req->maybe_done;
}

/* The clocks of this node and of the leader differ, or one of them was wrong for a while. */
static bool take_new_id(struct hadb_req *req)
{
    if (hadb__req_repeated(req) || req->expired || req->new_ids >= NEW_IDS_MAX ||
        req->response.usable_unix_ms <= 0) {
        return false;
    }
    req->new_ids++;
    hadb_id_v7_at(req->db->node->env, req->response.usable_unix_ms, &req->request.id);
    hadb_response_deinit(&req->response);
    req->response = (struct hadb_response){0};
    req->err = (struct hadb_error){0};
    req->position = (struct hadb_version){0};
    return true;
}

bool hadb__req_id_expired(struct hadb_req *req)
{
    if (take_new_id(req)) {
        hadb__write_route(req);
        return true;
    }
    if (!req->maybe_done) {
        return false;
    }
    hadb__req_fail(
        req, HADB_EUNKNOWN,
        "an earlier attempt may have run, and its result is not kept any more: read to see");
    return true;
}

/* ---- start ---- */

size_t hadb__req_bytes(const struct hadb_request *request)
{
    size_t bytes = request->key.len + request->value.len;
    for (size_t i = 0; i < request->ops_len; i++) {
        bytes += request->ops[i].key.len + request->ops[i].value.len;
    }
    return bytes;
}

static void start_handoff(struct hadb_req *req)
{
    struct hadb_db *db = req->db;
    if (hadb_id_eq(&req->to_node, &db->node->self.node)) { /* asked again, most likely */
        if (hadb_core_leads(&db->core)) {
            hadb__req_finish(req, 0, NULL);
        } else {
            hadb__req_fail(req, HADB_EUNAVAIL, "this node does not lead the database");
        }
        return;
    }
    if (db->handoffs.len > 0) {
        hadb__req_fail(req, HADB_EUNAVAIL, "another hand-off is under way");
        return;
    }
    hadb__reqs_add(&db->handoffs, req);
    struct hadb_event ev = {.type = HADB_EV_HANDOFF, .owner = {.node = req->to_node}};
    if (!hadb__db_event(db, &ev, NULL)) {
        hadb__req_fail(req, HADB_EUNAVAIL, "out of memory");
    }
}

static void route(struct hadb_req *req)
{
    switch (req->kind) {
    case HADB_REQ_WRITE:
        hadb__write_route(req);
        break;
    case HADB_REQ_READ:
        hadb__read_route(req);
        break;
    case HADB_REQ_READY:
        hadb__reqs_add(&req->db->covers, req);
        hadb__covers_check(req->db);
        break;
    case HADB_REQ_HANDOFF:
        start_handoff(req);
        break;
    }
}

void hadb__req_start(struct hadb_req *req)
{
    struct hadb_db *db = req->db;
    struct hadb_node *node = db->node;
    req->started = true;
    req->bytes = hadb__req_bytes(&req->request);
    node->requests_len++;
    node->requests_bytes += req->bytes;
    struct hadb_error err;
    if (hadb_timer_init(&req->timer, node->loop, on_deadline, req, &err) < 0) {
        hadb__req_finish(req, HADB_EUNAVAIL, &err);
    } else if (db->state > HADB_DB_OPEN) {
        hadb__req_fail(req, HADB_EUNAVAIL, "the database is closing");
    } else if (db->state == HADB_DB_OPENING && req->kind != HADB_REQ_READY) {
        hadb__db_refuse(db, req);
    } else if (node->requests_len > HADB_REQUESTS_MAX ||
               node->requests_bytes > HADB_REQUESTS_BYTES_MAX) {
        hadb__req_fail(req, HADB_EUNAVAIL, "too many requests under way on this node");
    } else {
        hadb_timer_start(&req->timer, req->deadline_ms);
        route(req);
    }
}

static void start_posted(void *arg)
{
    hadb__req_start(arg);
}

int hadb__req_post(struct hadb_req *req, struct hadb_error *err)
{
    struct hadb_node *node = req->db->node;
    req->task = (struct hadb_loop_task){.fn = start_posted, .arg = req};
    if (__atomic_load_n(&node->closing, __ATOMIC_ACQUIRE) ||
        hadb_loop_post_task(node->loop, &req->task) < 0) {
        return hadb_fail(err, HADB_EUNAVAIL, "the node is closing");
    }
    return 0;
}
