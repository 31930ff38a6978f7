/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 1 of 8 between nodes: writes that followers forward, hand-offs, and the two small questions that
 * go with them.
 *
 * Thread: the loop.
 * Invariants: what was forwarded once is not forwarded again; a hand-off that arrives at a follower goes to
 * the leader once (header Hadb-Hop).
 */
#include "node/api_private.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- forwarded writes ---- */

static void forwarded(struct hadb_req *req)
{
    struct hadb_api_op *op = req->arg;
    struct hadb_buf body = {0};
    struct hadb_error err;
    if (hadb__wire_encode_answer(req, &body, &err) < 0) {
        /* Without an answer the outcome is open for the sender, which is the truth. */
        hadb_buf_deinit(&body);
        hadb__api_error(op->exchange, HADB_EUNKNOWN, &err);
    } else {
        struct hadb_http_header type = {"Content-Type", "application/octet-stream"};
        hadb_http_reply_take(op->exchange, 200, &type, 1, &body);
    }
    hadb__api_op_free(op);
}

void hadb__api_forward(struct hadb_node *node, struct hadb_db *db,
                       struct hadb_http_exchange *exchange, const struct hadb_http_request *request)
{
    (void)request;
    struct hadb_api_op *op = hadb__api_op_new(node, exchange);
    if (!op) {
        return;
    }
    struct hadb_error err;
    uint32_t left_ms = 0;
    op->body = hadb_http_take_body(exchange);
    int r =
        hadb__wire_decode_request(hadb_buf_slice(&op->body), &op->req, &op->ops, &left_ms, &err);
    if (r < 0) {
        hadb__api_error(exchange, r, &err);
        hadb__api_op_free(op);
        return;
    }
    HADB_COUNT(&node->counters, forwards_served);
    op->req.db = db;
    op->req.deadline_ms = hadb__now(node) + HADB_MIN(left_ms, HADB_DEADLINE_MS_MAX);
    op->req.done = forwarded;
    op->req.arg = op;
    hadb__req_start(&op->req);
}

/* ---- hand-off ---- */

static void handed_over(struct hadb_req *req)
{
    struct hadb_api_op *op = req->arg;
    if (req->r == 0) {
        struct hadb_http_header type = {"Content-Type", "application/json"};
        hadb_http_reply(op->exchange, 200, &type, 1, hadb_slice_str("{\"status\":\"done\"}\n"));
    } else {
        hadb__api_error(op->exchange, req->r, &req->err);
    }
    hadb__api_op_free(op);
}

static void relayed(void *arg, const struct hadb_http_result *result)
{
    struct hadb_api_op *op = arg;
    struct hadb_http_header headers[] = {{"Content-Type", "application/json"},
                                         {"Retry-After", result->status == 503 ? "1" : ""}};
    if (result->code == 0 && result->status == 401) { /* not the client's fault */
        hadb__api_refuse(op->exchange, HADB_EUNAVAIL, HADB_TOKEN_REFUSED);
    } else if (result->code == 0) {
        hadb_http_reply(op->exchange, result->status, headers, HADB_LEN(headers),
                        hadb_buf_slice(result->body));
    } else {
        hadb__api_refuse(op->exchange, result->sent ? HADB_EUNKNOWN : HADB_EUNAVAIL,
                         result->message);
    }
    hadb__api_op_free(op);
}

static void relay(struct hadb_req *req)
{
    struct hadb_api_op *op = req->arg;
    struct hadb_db *db = req->db;
    struct hadb_node *node = op->node;
    char url[HADB_ADDRESS_BYTES_MAX + HADB_NAME_BYTES_MAX + 64], left[24];
    uint64_t now = hadb__now(node);
    snprintf(left, sizeof left, "%" PRIu64, req->deadline_ms > now ? req->deadline_ms - now : 1);
    struct hadb_http_header headers[] = {{"Hadb-Hop", "1"}, {"Hadb-Deadline-Ms", left}};
    struct hadb_http_call_options options = {.method = "POST",
                                             .url = url,
                                             .headers = headers,
                                             .headers_len = HADB_LEN(headers),
                                             .body = hadb_buf_slice(&op->body),
                                             .deadline_ms = req->deadline_ms,
                                             .on_done = relayed,
                                             .arg = op};
    if (req->r < 0 || !db->peer || !db->peer->address[0]) {
        hadb__api_refuse(op->exchange, HADB_EUNAVAIL, "no leader is known");
        hadb__api_op_free(op);
        return;
    }
    snprintf(url, sizeof url, "http://%s/v1/db/%s/handoff", db->peer->address, db->name);
    struct hadb_error err;
    int r = hadb_http_request(node->client, &options, NULL, &err);
    if (r < 0) {
        hadb__api_error(op->exchange, r, &err);
        hadb__api_op_free(op);
    }
}

static void looked_up(struct hadb_lookup *lookup)
{
    struct hadb_api_op *op = lookup->arg;
    if (lookup->r == 0) {
        op->req.to_node = lookup->record.owner.node;
        hadb__req_start(&op->req);
        return;
    }
    if (lookup->r == HADB_ABSENT) {
        hadb__api_refuse(op->exchange, HADB_EINVAL, "to: there is no such node");
    } else {
        hadb__api_error(op->exchange, HADB_EUNAVAIL, &lookup->err);
    }
    hadb__api_op_free(op);
}

/* Reads {"to":"NAME"}: 0, HADB_ABSENT for nobody in particular. */
static int read_target(struct hadb_api_op *op, char out[HADB_NAME_BYTES_MAX + 1],
                       struct hadb_error *err)
{
    if (op->body.len == 0) {
        return HADB_ABSENT;
    }
    static const char *const names[] = {"to", NULL};
    int r = hadb__api_json_object(hadb_buf_slice(&op->body), names, "{\"to\":\"NAME\"}", &op->json,
                                  err);
    if (r < 0) {
        return r;
    }
    const json_t *to = json_object_get(op->json, "to");
    if (!to || json_is_null(to)) {
        return HADB_ABSENT;
    }
    const char *name = json_string_value(to);
    if (!name || strlen(name) != json_string_length(to) || !hadb_name_valid(name)) {
        return hadb_fail(err, HADB_EINVAL, "to must be the name of a node");
    }
    snprintf(out, HADB_NAME_BYTES_MAX + 1, "%s", name);
    return 0;
}

static void hand_over(struct hadb_api_op *op, const char *to)
{
    if (!to) {
        const struct hadb_id *follower = hadb__stream_follower(op->req.db);
        op->req.to_node = follower ? *follower : (struct hadb_id){0};
        hadb__req_start(&op->req);
        return;
    }
    op->lookup = hadb_calloc(1, sizeof *op->lookup);
    if (!op->lookup) {
        hadb__api_error(op->exchange, HADB_ENOMEM, NULL);
        hadb__api_op_free(op);
        return;
    }
    op->lookup->node = op->node;
    op->lookup->done = looked_up;
    op->lookup->arg = op;
    snprintf(op->lookup->name, sizeof op->lookup->name, "%s", to);
    hadb__peers_lookup(op->lookup);
}

void hadb__api_handoff(struct hadb_node *node, struct hadb_db *db,
                       struct hadb_http_exchange *exchange, const struct hadb_http_request *request)
{
    (void)request;
    struct hadb_error err;
    struct hadb_kv_options options;
    char to[HADB_NAME_BYTES_MAX + 1];
    struct hadb_api_op *op = hadb__api_op_new(node, exchange);
    if (!op) {
        return;
    }
    op->body = hadb_http_take_body(exchange);
    int r = hadb__api_options(exchange, &options, &err);
    int target = r < 0 ? r : read_target(op, to, &err);
    if (target < 0) {
        hadb__api_error(exchange, target, &err);
        hadb__api_op_free(op);
        return;
    }
    op->req.kind = HADB_REQ_HANDOFF;
    op->req.db = db;
    op->req.deadline_ms = hadb__now(node) + options.deadline_ms;
    op->req.done = handed_over;
    op->req.arg = op;
    if (target == 0 && strcmp(to, node->name) == 0 && hadb_core_leads(&db->core)) {
        op->req.to_node = node->self.node;
        hadb__req_start(&op->req);
    } else if (hadb_core_leads(&db->core)) {
        hand_over(op, target == 0 ? to : NULL);
    } else if (hadb_http_request_header(exchange, "Hadb-Hop")) {
        hadb__api_refuse(exchange, HADB_EUNAVAIL, "this node does not lead the database");
        hadb__api_op_free(op);
    } else {
        op->req.kind = HADB_REQ_READY; /* until a leader is known */
        op->req.done = relay;
        hadb__req_start(&op->req);
    }
}

/* ---- questions between nodes ---- */

static void answer_ready(struct hadb_req *req)
{
    struct hadb_api_op *op = req->arg;
    struct hadb_node *node = op->node;
    struct hadb_db *db = req->db;
    const struct hadb_pos *at = &db->core.view;
    char id[HADB_ID_TEXT_BYTES], incarnation[HADB_ID_TEXT_BYTES];
    struct hadb_buf body = {0};
    hadb_id_format(&node->self.node, id);
    hadb_id_format(&node->self.incarnation, incarnation);
    if (req->r < 0) {
        hadb__api_error(op->exchange, HADB_EUNAVAIL, &req->err);
    } else if (db->core.role != HADB_CORE_FOLLOWER || !hadb_core_may_lead(&db->core)) {
        hadb__api_refuse(op->exchange, HADB_EUNAVAIL, "this node cannot take the database now");
    } else if (hadb_buf_printf(&body,
                               "{\"node_id\":\"%s\",\"incarnation\":\"%s\",\"term\":%" PRIu64
                               ",\"slot\":%" PRIu64 ",\"txid\":%" PRIu64 "}\n",
                               id, incarnation, at->term, at->slot, at->txid) < 0) {
        hadb__api_error(op->exchange, HADB_ENOMEM, NULL);
    } else {
        hadb__api_json(op->exchange, 200, &body);
    }
    hadb__api_op_free(op);
}

/* A leader asks before it drains. The answer waits until this copy has what the leader had when it asked. */
void hadb__api_ready(struct hadb_node *node, struct hadb_db *db,
                     struct hadb_http_exchange *exchange, const struct hadb_http_request *request)
{
    (void)request;
    struct hadb_error err;
    struct hadb_kv_options options;
    struct hadb_api_op *op = hadb__api_op_new(node, exchange);
    if (!op) {
        return;
    }
    int r = hadb__api_options(exchange, &options, &err);
    if (r == 0) {
        op->req.kind = HADB_REQ_READ; /* for the checks of its options */
        op->req.request = (struct hadb_request){.type = HADB_REQUEST_SCAN};
        r = hadb__kv_prepare(db, &options, &op->req, &err);
    }
    if (r < 0) {
        hadb__api_error(exchange, r, &err);
        hadb__api_op_free(op);
        return;
    }
    op->req.kind = HADB_REQ_READY;
    op->req.done = answer_ready;
    op->req.arg = op;
    hadb__db_event(db, &(struct hadb_event){.type = HADB_EV_POKE}, NULL);
    hadb__req_start(&op->req);
}

void hadb__api_poke(struct hadb_node *node, struct hadb_db *db, struct hadb_http_exchange *exchange,
                    const struct hadb_http_request *request)
{
    (void)node;
    (void)request;
    hadb__db_event(db, &(struct hadb_event){.type = HADB_EV_POKE}, NULL);
    struct hadb_http_header type = {"Content-Type", "application/json"};
    hadb_http_reply(exchange, 200, &type, 1, hadb_slice_str("{\"status\":\"ok\"}\n"));
}
