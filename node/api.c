/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 1 of 8: the HTTP side. One table from method and path to a handler, errors as JSON.
 *
 *   GET  /healthz /readyz /v1/status /v1/metrics
 *   PUT GET HEAD DELETE /v1/db/{db}/kv/{key}     GET /v1/db/{db}/scan     POST /v1/db/{db}/batch
 *   POST /v1/db/{db}/handoff                      between nodes: POST /v1/stream,
 *                                                 /v1/db/{db}/forward /ready /poke
 *
 * Thread: the loop; a handler never blocks.
 * Invariants: every exchange is answered exactly once; every error has a body {"error","message"}.
 */
#include "node/api_private.h"

#include <stdio.h>

unsigned hadb__api_status(int r)
{
    switch (r) {
    case 0:
        return 200;
    case HADB_ABSENT:
    case HADB_ENODB:
        return 404;
    case HADB_NOT_MET:
        return 412;
    case HADB_EINVAL:
    case HADB_EPROTO:
    case HADB_EEXPIRED:
    case HADB_EFORKED:
        return 400;
    case HADB_EAUTH:
        return 401;
    case HADB_ETOOBIG:
        return 413;
    case HADB_EUNKNOWN:
    case HADB_ETIMEDOUT:
        return 504;
    default:
        return 503; /* refused, surely not done */
    }
}

void hadb__api_error(struct hadb_http_exchange *exchange, int r, const struct hadb_error *err)
{
    unsigned status = hadb__api_status(r);
    struct hadb_http_header retry = {"Retry-After", "1"};
    hadb_http_reply_error(exchange, status, r, &retry, status == 503 ? 1 : 0,
                          err && err->message[0] ? err->message : hadb_code_text(r));
}

void hadb__api_refuse(struct hadb_http_exchange *exchange, int r, const char *message)
{
    struct hadb_error err;
    hadb_fail(&err, r, "%s", message);
    hadb__api_error(exchange, r, &err);
}

bool hadb__api_exempt(void *arg, enum hadb_http_method method, struct hadb_slice path)
{
    (void)arg;
    return (method == HADB_HTTP_GET || method == HADB_HTTP_HEAD) &&
           (hadb_slice_eq(path, hadb_slice_str("/healthz")) ||
            hadb_slice_eq(path, hadb_slice_str("/readyz")));
}

void hadb__api_json(struct hadb_http_exchange *exchange, unsigned status,
                    struct hadb_buf *take_body)
{
    struct hadb_http_header type = {"Content-Type", "application/json"};
    hadb_http_reply_take(exchange, status, &type, 1, take_body);
}

/* ---- the node ---- */

static void refuse_db(struct hadb_db *db, struct hadb_http_exchange *exchange, const char *why)
{
    char message[sizeof((struct hadb_error *)0)->message];
    snprintf(message, sizeof message, "database %s: %s", db->name, why);
    hadb__api_refuse(exchange, HADB_EUNAVAIL, message);
}

static void healthz(struct hadb_node *node, struct hadb_http_exchange *exchange)
{
    for (struct hadb_db *db = node->dbs; db; db = db->next) {
        if (db->core.role == HADB_CORE_HALTED || db->given_up) {
            const char *why = hadb__db_why(db);
            refuse_db(db, exchange, why[0] ? why : "no durable progress");
            return;
        }
    }
    struct hadb_http_header type = {"Content-Type", "application/json"};
    hadb_http_reply(exchange, 200, &type, 1, hadb_slice_str("{\"status\":\"ok\"}\n"));
}

static void readyz(struct hadb_node *node, struct hadb_http_exchange *exchange)
{
    if (!node->probe.may_lead && !node->never_lead) {
        hadb__api_error(exchange, HADB_EUNAVAIL, &node->probe.why);
        return;
    }
    for (struct hadb_db *db = node->dbs; db; db = db->next) {
        if (!hadb__db_ready(db)) {
            const char *why = hadb__db_why(db);
            refuse_db(db, exchange, why[0] ? why : "has not caught up with a leader yet");
            return;
        }
    }
    struct hadb_http_header type = {"Content-Type", "application/json"};
    hadb_http_reply(exchange, 200, &type, 1, hadb_slice_str("{\"status\":\"ready\"}\n"));
}

static void status(struct hadb_node *node, struct hadb_http_exchange *exchange)
{
    struct hadb_buf body = {0};
    int r = hadb__status_json(node, &body);
    if (r < 0) {
        hadb__api_error(exchange, r, NULL);
        return;
    }
    hadb__api_json(exchange, 200, &body);
}

static void metrics(struct hadb_node *node, struct hadb_http_exchange *exchange)
{
    struct hadb_buf body = {0};
    int r = hadb__metrics_text(node, &body);
    if (r < 0) {
        hadb_buf_deinit(&body);
        hadb__api_error(exchange, r, NULL);
        return;
    }
    struct hadb_http_header type = {"Content-Type", "text/plain; charset=utf-8"};
    hadb_http_reply_take(exchange, 200, &type, 1, &body);
}

/* ---- routing ---- */

typedef void (*node_handler)(struct hadb_node *node, struct hadb_http_exchange *exchange);
typedef void (*db_handler)(struct hadb_node *node, struct hadb_db *db,
                           struct hadb_http_exchange *exchange,
                           const struct hadb_http_request *request);

static const struct {
    const char *path;
    node_handler handler;
} node_routes[] = {
    {"/healthz", healthz},
    {"/readyz", readyz},
    {"/v1/status", status},
    {"/v1/metrics", metrics},
};

static const struct {
    const char *what;
    enum hadb_http_method method;
    db_handler handler;
} db_routes[] = {
    {"scan", HADB_HTTP_GET, hadb__api_scan},        {"batch", HADB_HTTP_POST, hadb__api_batch},
    {"handoff", HADB_HTTP_POST, hadb__api_handoff}, {"forward", HADB_HTTP_POST, hadb__api_forward},
    {"ready", HADB_HTTP_POST, hadb__api_ready},     {"poke", HADB_HTTP_POST, hadb__api_poke},
};

static void no_such_path(struct hadb_http_exchange *exchange)
{
    hadb_http_reply_error(exchange, 404, HADB_EINVAL, NULL, 0,
                          "no such path: see /v1/status, /v1/db/{db}/kv/{key}");
}

static void wrong_method(struct hadb_http_exchange *exchange)
{
    hadb_http_reply_error(exchange, 405, HADB_EINVAL, NULL, 0,
                          "this path does not take this method");
}

static struct hadb_db *find_db(struct hadb_node *node, struct hadb_slice segment,
                               struct hadb_http_exchange *exchange)
{
    char name[HADB_NAME_BYTES_MAX + 1] = "";
    if (segment.len <= HADB_NAME_BYTES_MAX) {
        memcpy(name, segment.data, segment.len);
        name[segment.len] = '\0';
    }
    struct hadb_db *db = name[0] ? hadb__node_find_db(node, name) : NULL;
    if (!db) {
        char message[200];
        snprintf(message, sizeof message, "no database %s on node %s", name, node->name);
        hadb__api_refuse(exchange, HADB_ENODB, message);
    }
    return db;
}

static void route_db(struct hadb_node *node, struct hadb_http_exchange *exchange,
                     const struct hadb_http_request *request, struct hadb_slice rest)
{
    struct hadb_slice name, what;
    if (!hadb_http_path_next(&rest, &name) || !hadb_http_path_next(&rest, &what)) {
        no_such_path(exchange);
        return;
    }
    struct hadb_db *db = find_db(node, name, exchange);
    if (!db) {
        return;
    }
    if (hadb_slice_eq(what, hadb_slice_str("kv"))) {
        /* All that follows is the key, slashes included. */
        if (rest.len > 0 && *(const char *)rest.data == '/') {
            rest = hadb_slice((const char *)rest.data + 1, rest.len - 1);
        }
        hadb__api_kv(node, db, exchange, request, rest);
        return;
    }
    for (size_t i = 0; i < HADB_LEN(db_routes); i++) {
        if (!hadb_slice_eq(what, hadb_slice_str(db_routes[i].what)) || rest.len > 0) {
            continue;
        }
        if (request->method != db_routes[i].method) {
            wrong_method(exchange);
        } else {
            db_routes[i].handler(node, db, exchange, request);
        }
        return;
    }
    no_such_path(exchange);
}

void hadb__api_handle(void *arg, struct hadb_http_exchange *exchange,
                      const struct hadb_http_request *request)
{
    struct hadb_node *node = arg;
    struct hadb_slice path = request->path;
    if (__atomic_load_n(&node->closing, __ATOMIC_ACQUIRE)) {
        hadb__api_refuse(exchange, HADB_EUNAVAIL, "the node is starting or closing");
        return;
    }
    for (size_t i = 0; i < HADB_LEN(node_routes); i++) {
        if (hadb_slice_eq(path, hadb_slice_str(node_routes[i].path))) {
            if (request->method == HADB_HTTP_GET || request->method == HADB_HTTP_HEAD) {
                node_routes[i].handler(node, exchange);
            } else {
                wrong_method(exchange);
            }
            return;
        }
    }
    if (hadb_slice_eq(path, hadb_slice_str("/v1/stream"))) {
        if (request->method == HADB_HTTP_POST) {
            hadb__stream_accept(node, exchange, request);
        } else {
            wrong_method(exchange);
        }
        return;
    }
    struct hadb_slice prefix = hadb_slice_str("/v1/db");
    if (hadb_slice_starts(path, hadb_slice_str("/v1/db/"))) {
        route_db(node, exchange, request,
                 hadb_slice((const char *)path.data + prefix.len, path.len - prefix.len));
        return;
    }
    no_such_path(exchange);
}
