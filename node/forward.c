/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 1 of 8: a write that arrived at a follower travels to the leader, under its request id, until there is an
 * answer or the deadline ends.
 *
 * Thread: the loop.
 * Invariants: an attempt that may have reached a leader and was not answered makes the outcome open; only an
 * answer to the same request id settles it. A forwarded request is not forwarded again.
 * Happy path: POST /v1/db/{db}/forward -> the leader's answer.
 * Failure modes: refused, 503: surely not done, tried again soon or when the leader changes. Broken, timed out,
 * 504: tried again likewise, but the outcome is open until answered.
 */
#include "node/node_private.h"

#include <jansson.h>

#include <inttypes.h>
#include <stdio.h>

#define LEFT_MARGIN_MS 5u /* the leader gives up a little earlier than its client */

static void url_of(const char *address, const char *database, const char *what, char *out,
                   size_t out_bytes)
{
    /* Names need no percent-encoding. */
    snprintf(out, out_bytes, "http://%s/v1/db/%s/%s", address, database, what);
}

/* No answer that settles it: wait for the next try. */
static void try_again(struct hadb_req *req)
{
    struct hadb_db *db = req->db;
    if (db->state != HADB_DB_OPEN || req->expired) {
        hadb__req_fail(req, req->maybe_done ? HADB_EUNKNOWN : HADB_EUNAVAIL,
                       req->maybe_done
                           ? "the leader did not answer before the deadline: retry with "
                             "the same request id"
                           : "no leader took it before the deadline");
        return;
    }
    /* A leader that changed meanwhile is tried at once. */
    req->attempts = db->owner_term == req->sent_term ? 1 : 0;
    req->retries++;
    hadb__write_route(req);
}

/* Does this answer settle the request? */
static bool settles(const struct hadb_req *req)
{
    return req->r != HADB_EUNAVAIL && req->r != HADB_EFENCED && req->r != HADB_EUNKNOWN;
}

static void answered(struct hadb_req *req, const struct hadb_http_result *result)
{
    struct hadb_error err;
    if (result->status == 200 &&
        hadb__wire_decode_answer(hadb_buf_slice(result->body), req, &err) == 0) {
        if (req->r == HADB_EEXPIRED && hadb__req_id_expired(req)) {
            return;
        }
        if (settles(req)) {
            struct hadb_error why = req->err;
            hadb__req_finish(req, req->r, why.code ? &why : NULL);
            return;
        }
        if (req->r == HADB_EUNAVAIL) { /* it may not lead any more: look at the log */
            hadb__db_event(req->db, &(struct hadb_event){.type = HADB_EV_POKE}, NULL);
        }
        req->maybe_done = req->maybe_done || req->r == HADB_EUNKNOWN;
        req->response = (struct hadb_response){0};
        req->err = (struct hadb_error){0};
        req->position = (struct hadb_version){0};
        try_again(req);
        return;
    }
    if (result->status == 401) {
        if (req->db->peer && req->sent_term == req->db->owner_term) {
            hadb__peer_token(req->db->peer, true);
        }
        hadb__req_fail(req, req->maybe_done ? HADB_EUNKNOWN : HADB_EUNAVAIL, HADB_TOKEN_REFUSED);
        return;
    }
    if (result->status == 200) {
        req->maybe_done = true; /* garbled: it may have run */
    }
    try_again(req);
}

static void on_done(void *arg, const struct hadb_http_result *result)
{
    struct hadb_req *req = arg;
    struct hadb_db *db = req->db;
    req->call = NULL;
    hadb__reqs_remove(req);
    hadb_buf_deinit(&req->wire);
    if (result->code == 0) {
        answered(req, result);
    } else {
        req->maybe_done = req->maybe_done || result->sent;
        hadb_log(db->node->env, HADB_LOG_DEBUG, "forward", db->name, "%s", result->message);
        try_again(req);
    }
    hadb__db_check_stopped(db);
}

void hadb__forward(struct hadb_req *req)
{
    struct hadb_db *db = req->db;
    struct hadb_node *node = db->node;
    uint64_t now = hadb__now(node);
    uint64_t left = req->deadline_ms > now ? req->deadline_ms - now : 0;
    uint32_t left_ms =
        left > 2 * LEFT_MARGIN_MS ? (uint32_t)(left - LEFT_MARGIN_MS) : (uint32_t)left;
    struct hadb_error err;
    req->sent_term = db->owner_term;
    hadb_buf_clear(&req->wire);
    int r = hadb__wire_encode_request(req, left_ms, &req->wire, &err);
    char url[HADB_ADDRESS_BYTES_MAX + HADB_NAME_BYTES_MAX + 64];
    url_of(db->peer->address, db->name, "forward", url, sizeof url);
    struct hadb_http_call_options options = {.method = "POST",
                                             .url = url,
                                             .body = hadb_buf_slice(&req->wire),
                                             .deadline_ms = req->deadline_ms,
                                             .on_done = on_done,
                                             .arg = req};
    if (r == 0) {
        r = hadb_http_request(node->client, &options, &req->call, &err);
    }
    if (r < 0) {
        hadb__req_finish(req, req->maybe_done ? HADB_EUNKNOWN : HADB_EUNAVAIL, &err);
        return;
    }
    HADB_COUNT(&node->counters, writes_forwarded);
    if (node->env->trace) {
        struct hadb_trace_event event = {.hop = 1,
                                         .what = "route",
                                         .database = db->name,
                                         .term = db->owner_term,
                                         .bytes = req->bytes};
        hadb_trace(node->env, &event);
    }
    hadb__reqs_add(&db->forwards, req);
}

void hadb__forwards_cancel(struct hadb_db *db)
{
    for (struct hadb_req *req = db->forwards.first; req; req = req->next) {
        if (req->call && (req->sent_term != db->owner_term || db->state != HADB_DB_OPEN)) {
            hadb_http_cancel(req->call);
        }
    }
}

/* ---- hand-off: is the successor ready? ---- */

static uint64_t field_u64(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_integer(value) && json_integer_value(value) > 0
               ? (uint64_t)json_integer_value(value)
               : 0;
}

static void ready_done(void *arg, const struct hadb_http_result *result)
{
    struct hadb_db_job *job = arg;
    struct hadb_event *ev = &job->answer.ev;
    json_t *reply = result->status == 200
                        ? json_loadb((const char *)result->body->data, result->body->len, 0, NULL)
                        : NULL;
    const char *incarnation = json_string_value(json_object_get(reply, "incarnation"));
    const char *node = json_string_value(json_object_get(reply, "node_id"));
    if (incarnation && node && hadb_id_parse(incarnation, &ev->owner.incarnation) &&
        hadb_id_parse(node, &ev->owner.node) && hadb_id_eq(&ev->owner.node, &job->act.owner.node) &&
        field_u64(reply, "term") > 0) {
        ev->result = HADB_R_OK;
        ev->pos.term = field_u64(reply, "term");
        ev->pos.slot = field_u64(reply, "slot");
        ev->pos.txid = field_u64(reply, "txid");
    }
    json_decref(reply);
    hadb__job_answer(job);
}

void hadb__ask_ready(struct hadb_db_job *job)
{
    struct hadb_db *db = job->db;
    struct hadb_node *node = db->node;
    const struct hadb_known *known = hadb__peers_known(node, &job->act.owner.node);
    char url[HADB_ADDRESS_BYTES_MAX + HADB_NAME_BYTES_MAX + 64], left[24];
    struct hadb_error err;
    struct hadb_bookmark bookmark;
    uint64_t now = hadb__now(node);
    uint64_t deadline_ms =
        db->handoffs.first ? db->handoffs.first->deadline_ms : now + node->ttl_ms;
    struct hadb_version here = {db->durable.term, db->durable.txid};
    hadb_bookmark_format(&db->uuid, &here, &bookmark);
    snprintf(left, sizeof left, "%" PRIu64, deadline_ms > now ? deadline_ms - now : 1);
    struct hadb_http_header headers[] = {{"Hadb-Bookmark", bookmark.s}, {"Hadb-Deadline-Ms", left}};
    url_of(known ? known->address : "", db->name, "ready", url, sizeof url);
    struct hadb_http_call_options options = {.method = "POST",
                                             .url = url,
                                             .headers = headers,
                                             .headers_len = HADB_LEN(headers),
                                             .deadline_ms = deadline_ms,
                                             .on_done = ready_done,
                                             .arg = job};
    if (!known || !known->address[0] || hadb_http_request(node->client, &options, NULL, &err) < 0) {
        hadb__job_answer(job);
    }
}

static void notify_done(void *arg, const struct hadb_http_result *result)
{
    (void)arg;
    (void)result; /* it would have seen the seal by itself, a little later */
}

void hadb__notify(struct hadb_db *db, const struct hadb_owner *owner)
{
    struct hadb_node *node = db->node;
    const struct hadb_known *known = hadb__peers_known(node, &owner->node);
    if (!known || !known->address[0]) {
        return;
    }
    char url[HADB_ADDRESS_BYTES_MAX + HADB_NAME_BYTES_MAX + 64];
    struct hadb_error err;
    url_of(known->address, db->name, "poke", url, sizeof url);
    struct hadb_http_call_options options = {.method = "POST",
                                             .url = url,
                                             .deadline_ms = hadb__now(node) + node->ttl_ms,
                                             .on_done = notify_done};
    if (hadb_http_request(node->client, &options, NULL, &err) < 0) {
        hadb_log(node->env, HADB_LOG_DEBUG, "node", db->name, "%s", err.message);
    }
}
