/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 1 of 8: the HTTP side. One table from method and path to a handler, errors as JSON.
 *
 *   GET  /healthz /readyz /v1/status /v1/metrics
 *   PUT GET HEAD DELETE /v1/db/{db}/kv/{key}     GET HEAD /v1/db/{db}/scan     POST /v1/db/{db}/batch
 *   POST /v1/db/{db}/handoff                      between nodes: POST /v1/stream,
 *                                                 /v1/db/{db}/forward /ready /poke
 *
 * Thread: the loop; a handler never blocks.
 * Invariants: every exchange is answered exactly once; every error has a body {"error","message"}; a handler
 * sees only methods, query parameters and Hadb- headers that its row of the table allows.
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
    char message[sizeof((struct hadb_error *)0)->message + sizeof db->name + 16];
    snprintf(message, sizeof message, "database %s: %s", db->name, why);
    hadb__api_refuse(exchange, HADB_EUNAVAIL, message);
}

static void not_open_yet(const struct hadb_node *node, const char *name,
                         struct hadb_http_exchange *exchange)
{
    char message[200];
    snprintf(message, sizeof message, "database %s is not open on node %s yet", name, node->name);
    hadb__api_refuse(exchange, HADB_EUNAVAIL, message);
}

static void healthz(struct hadb_node *node, struct hadb_http_exchange *exchange)
{
    char text[sizeof((struct hadb_error *)0)->message];
    for (struct hadb_db *db = node->dbs; db; db = db->next) {
        if (db->state == HADB_DB_OPEN && hadb__db_troubled(db, text, sizeof text)) {
            refuse_db(db, exchange, text);
            return;
        }
    }
    if (hadb__storage_fails(node, text, sizeof text) ||
        hadb__lease_fails(node, text, sizeof text)) {
        hadb__api_refuse(exchange, HADB_EUNAVAIL, text);
        return;
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
    if (node->peers.namesake.code) {
        hadb__api_error(exchange, HADB_EUNAVAIL, &node->peers.namesake);
        return;
    }
    if (!node->dbs && node->announced_len == 0 && node->known.len > 0) {
        hadb__api_refuse(exchange, HADB_EUNAVAIL, "no database is open");
        return;
    }
    const char *unopened = hadb__node_unopened(node);
    if (unopened) {
        not_open_yet(node, unopened, exchange);
        return;
    }
    char text[sizeof((struct hadb_error *)0)->message];
    if (hadb__storage_fails(node, text, sizeof text)) {
        hadb__api_refuse(exchange, HADB_EUNAVAIL, text);
        return;
    }
    for (struct hadb_db *db = node->dbs; db; db = db->next) {
        if (db->given_up || !hadb__db_ready(db)) {
            bool known = hadb__db_troubled(db, text, sizeof text);
            refuse_db(db, exchange, known ? text : "has not caught up with a leader yet");
            return;
        }
        if (db->peer && db->peer->refuses_token) {
            char why[128];
            snprintf(why, sizeof why,
                     "leader %s refuses this node's token: give all nodes the same one",
                     db->peer->name);
            refuse_db(db, exchange, why);
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

#define GET (1u << HADB_HTTP_GET)
#define HEAD (1u << HADB_HTTP_HEAD)
#define PUT (1u << HADB_HTTP_PUT)
#define POST (1u << HADB_HTTP_POST)
#define DELETE (1u << HADB_HTTP_DELETE)

#define BODY_SMALL_MAX ((size_t)64 << 10)

typedef void (*node_handler)(struct hadb_node *node, struct hadb_http_exchange *exchange);
typedef void (*db_handler)(struct hadb_node *node, struct hadb_db *db,
                           struct hadb_http_exchange *exchange,
                           const struct hadb_http_request *request);

/* One row for each way to use a path; rows of one path follow each other. */
static const struct route {
    const char *name; /* a whole path, or what stands behind /v1/db/{db}/ */
    unsigned methods;
    const char *params[6]; /* query parameters that it takes */
    size_t body_bytes_max; /* 0 = as the server's */
    node_handler node;     /* one of the three */
    db_handler db;
    bool kv, stream;
} routes[] = {
    {"/healthz", GET | HEAD, {0}, BODY_SMALL_MAX, .node = healthz},
    {"/readyz", GET | HEAD, {0}, BODY_SMALL_MAX, .node = readyz},
    {"/v1/status", GET | HEAD, {0}, BODY_SMALL_MAX, .node = status},
    {"/v1/metrics", GET | HEAD, {0}, BODY_SMALL_MAX, .node = metrics},
    {"/v1/stream", POST, {0}, 0, .stream = true},
    {"kv", GET | HEAD, {0}, BODY_SMALL_MAX, .kv = true},
    {"kv", PUT, {"if_absent", "if_version"}, HADB_VALUE_BYTES_MAX, .kv = true},
    {"kv", DELETE, {"if_version"}, BODY_SMALL_MAX, .kv = true},
    {"scan",
     GET | HEAD,
     {"prefix", "start", "end", "limit", "reverse"},
     BODY_SMALL_MAX,
     .db = hadb__api_scan},
    {"batch", POST, {0}, 0, .db = hadb__api_batch},
    {"handoff", POST, {0}, BODY_SMALL_MAX, .db = hadb__api_handoff},
    {"forward", POST, {0}, 0, .db = hadb__api_forward},
    {"ready", POST, {0}, BODY_SMALL_MAX, .db = hadb__api_ready},
    {"poke", POST, {0}, BODY_SMALL_MAX, .db = hadb__api_poke},
};

/* A path taken apart. */
struct target {
    const struct route *route; /* the first row of its path; NULL = there is no such path */
    struct hadb_slice db;      /* name, as it was sent */
    struct hadb_slice key;     /* kv: percent-encoded */
};

static bool same_path(const struct route *a, const struct route *b)
{
    return b < routes + HADB_LEN(routes) && strcmp(a->name, b->name) == 0;
}

static void find_path(struct hadb_slice path, struct target *out)
{
    struct hadb_slice rest = path, name = path;
    bool of_db = hadb_slice_starts(path, hadb_slice_str("/v1/db/"));
    *out = (struct target){0};
    if (of_db) {
        rest = hadb_slice((const char *)path.data + 6, path.len - 6);
        if (!hadb_http_path_next(&rest, &out->db) || !hadb_http_path_next(&rest, &name)) {
            return;
        }
    }
    for (size_t i = 0; i < HADB_LEN(routes) && !out->route; i++) {
        bool whole = !of_db || rest.len == 0 || routes[i].kv;
        if (whole && hadb_slice_eq(name, hadb_slice_str(routes[i].name)) &&
            of_db == (routes[i].kv || routes[i].db)) {
            out->route = &routes[i];
        }
    }
    /* All that follows is the key, slashes included. */
    if (of_db && rest.len > 0) {
        out->key = hadb_slice((const char *)rest.data + 1, rest.len - 1);
    }
}

/* The row of this method; NULL when the path does not take it. */
static const struct route *find_method(const struct route *first, enum hadb_http_method method)
{
    for (const struct route *route = first; same_path(first, route); route++) {
        if (route->methods & 1u << method) {
            return route;
        }
    }
    return NULL;
}

size_t hadb__api_body_max(void *arg, enum hadb_http_method method, struct hadb_slice path)
{
    struct target target;
    (void)arg;
    find_path(path, &target);
    const struct route *route = target.route ? find_method(target.route, method) : NULL;
    return route ? route->body_bytes_max : BODY_SMALL_MAX;
}

static void wrong_method(struct hadb_http_exchange *exchange, const struct route *first)
{
    static const char *const names[] = {"GET", "HEAD", "PUT", "POST", "DELETE"};
    static const unsigned bits[] = {GET, HEAD, PUT, POST, DELETE};
    char allow[64] = "", message[128];
    size_t len = 0;
    unsigned methods = 0;
    for (const struct route *route = first; same_path(first, route); route++) {
        methods |= route->methods;
    }
    for (size_t i = 0; i < HADB_LEN(names); i++) {
        if (methods & bits[i]) {
            len += (size_t)snprintf(allow + len, sizeof allow - len, "%s%s", len ? ", " : "",
                                    names[i]);
        }
    }
    struct hadb_http_header header = {"Allow", allow};
    snprintf(message, sizeof message, "this path does not take this method: it takes %s", allow);
    hadb_http_reply_error(exchange, 405, HADB_EINVAL, &header, 1, message);
}

static struct hadb_db *find_db(struct hadb_node *node, struct hadb_slice segment,
                               struct hadb_http_exchange *exchange)
{
    char name[HADB_NAME_BYTES_MAX + 1] = "", message[200];
    if (segment.len <= HADB_NAME_BYTES_MAX) {
        memcpy(name, segment.data, segment.len);
        name[segment.len] = '\0';
    }
    struct hadb_db *db = name[0] ? hadb__node_find_db(node, name) : NULL;
    if (!db && hadb__node_expects(node, name)) {
        not_open_yet(node, name, exchange);
    } else if (!db) {
        snprintf(message, sizeof message, "no database '%s' on node %s", name, node->name);
        hadb__api_refuse(exchange, HADB_ENODB, message);
    }
    return db;
}

static void run(struct hadb_node *node, const struct route *route, const struct target *target,
                struct hadb_http_exchange *exchange, const struct hadb_http_request *request)
{
    if (route->node) {
        route->node(node, exchange);
        return;
    }
    if (route->stream) {
        hadb__stream_accept(node, exchange, request);
        return;
    }
    struct hadb_db *db = find_db(node, target->db, exchange);
    if (!db) {
        return;
    }
    if (route->kv) {
        hadb__api_kv(node, db, exchange, request, target->key);
    } else {
        route->db(node, db, exchange, request);
    }
}

void hadb__api_handle(void *arg, struct hadb_http_exchange *exchange,
                      const struct hadb_http_request *request)
{
    struct hadb_node *node = arg;
    struct target target;
    struct hadb_error err;
    find_path(request->path, &target);
    bool of_life = target.route && target.route->node == healthz; /* asks nothing but the loop */
    if (__atomic_load_n(&node->closing, __ATOMIC_ACQUIRE) && !of_life) {
        hadb__api_refuse(exchange, HADB_EUNAVAIL, "the node is starting or closing");
        return;
    }
    if (!target.route) {
        hadb_http_reply_error(exchange, 404, HADB_EINVAL, NULL, 0,
                              "no such path: see /v1/status, /v1/db/{db}/kv/{key}");
        return;
    }
    const struct route *route = find_method(target.route, request->method);
    if (!route) {
        wrong_method(exchange, target.route);
        return;
    }
    int r = hadb__api_check_query(request->query, route->params, &err);
    r = r < 0 ? r : hadb__api_check_headers(exchange, &err);
    if (r < 0) {
        hadb__api_error(exchange, r, &err);
        return;
    }
    run(node, route, &target, exchange, request);
}
