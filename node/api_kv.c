/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 1 of 8: keys and values over HTTP. Keys are percent-encoded in the path, values are raw bytes.
 *
 * Thread: the loop.
 * Invariants: an operation owns everything that its request borrows, and lives until it is answered.
 */
#include "node/api_private.h"

#include "base/url.h"

#include <stdio.h>

/* ---- operations ---- */

struct hadb_api_op *hadb__api_op_new(struct hadb_node *node, struct hadb_http_exchange *exchange)
{
    struct hadb_api_op *op = hadb_calloc(1, sizeof *op);
    if (!op) {
        hadb__api_error(exchange, HADB_ENOMEM, NULL);
        return NULL;
    }
    op->node = node;
    op->exchange = exchange;
    return op;
}

void hadb__api_op_free(struct hadb_api_op *op)
{
    hadb_response_deinit(&op->req.response);
    hadb_buf_deinit(&op->key);
    hadb_buf_deinit(&op->start);
    hadb_buf_deinit(&op->end);
    hadb_buf_deinit(&op->prefix);
    hadb_buf_deinit(&op->body);
    for (size_t i = 0; i < op->op_bytes_len; i++) {
        hadb_buf_deinit(&op->op_bytes[i]);
    }
    hadb_free(op->op_bytes);
    hadb_free(op->ops);
    json_decref(op->json);
    if (op->lookup) {
        hadb_node_record_deinit(&op->lookup->record);
        hadb_free(op->lookup);
    }
    hadb_free(op);
}

/* ---- headers ---- */

static int bad_header(struct hadb_error *err, const char *name)
{
    return hadb_fail(err, HADB_EINVAL, "header %s is malformed", name);
}

static int read_level(const char *text, enum hadb_read_level *out, struct hadb_error *err)
{
    static const struct {
        const char *name;
        enum hadb_read_level level;
    } levels[] = {{"any", HADB_READ_ANY},
                  {"bookmark", HADB_READ_BOOKMARK},
                  {"linearizable", HADB_READ_LINEARIZABLE}};
    for (size_t i = 0; i < HADB_LEN(levels); i++) {
        if (strcmp(text, levels[i].name) == 0) {
            *out = levels[i].level;
            return 0;
        }
    }
    return hadb_fail(err, HADB_EINVAL, "header Hadb-Read: any, bookmark or linearizable");
}

int hadb__api_options(struct hadb_http_exchange *exchange, struct hadb_kv_options *options,
                      struct hadb_error *err)
{
    *options = (struct hadb_kv_options){.deadline_ms = HADB_DEADLINE_MS_DEFAULT};
    const char *id = hadb_http_request_header(exchange, "Hadb-Request-Id");
    const char *read = hadb_http_request_header(exchange, "Hadb-Read");
    const char *ack = hadb_http_request_header(exchange, "Hadb-Ack");
    const char *deadline = hadb_http_request_header(exchange, "Hadb-Deadline-Ms");
    options->bookmark = hadb_http_request_header(exchange, "Hadb-Bookmark");
    uint64_t ms = HADB_DEADLINE_MS_DEFAULT;
    if (id && (!hadb_id_parse(id, &options->request_id) || !hadb_id_is_v7(&options->request_id))) {
        return hadb_fail(err, HADB_EINVAL, "header Hadb-Request-Id: a UUID of version 7");
    }
    if (deadline && !hadb_parse_u64(deadline, 1, HADB_DEADLINE_MS_MAX, &ms)) {
        return bad_header(err, "Hadb-Deadline-Ms");
    }
    options->deadline_ms = (uint32_t)ms;
    int r = ack ? hadb_ack_parse(ack, &options->ack, err) : 0;
    return r < 0 || !read ? r : read_level(read, &options->read, err);
}

void hadb__api_headers(const struct hadb_req *req, struct hadb_api_headers *out)
{
    struct hadb_kv_result result;
    hadb__kv_result(req, &result);
    out->len = 0;
    if (result.version.txid > 0) {
        hadb_version_format(&result.version, out->version);
        out->list[out->len++] = (struct hadb_http_header){"Hadb-Version", out->version};
    }
    if (result.bookmark.s[0]) {
        out->bookmark = result.bookmark;
        out->list[out->len++] = (struct hadb_http_header){"Hadb-Bookmark", out->bookmark.s};
    }
    if (req->kind == HADB_REQ_WRITE) {
        hadb_id_format(&result.request_id, out->request_id);
        out->list[out->len++] = (struct hadb_http_header){"Hadb-Request-Id", out->request_id};
    }
}

/* ---- answers ---- */

void hadb__api_outcome(struct hadb_api_op *op)
{
    struct hadb_req *req = &op->req;
    struct hadb_api_headers headers;
    hadb__api_headers(req, &headers);
    unsigned status = hadb__api_status(req->r);
    const char *message = req->err.message;
    if (req->r == HADB_ABSENT || req->r == HADB_NOT_MET) {
        static const char absent[] = "{\"error\":\"ABSENT\",\"message\":\"no such key\"}\n";
        static const char not_met[] =
            "{\"error\":\"NOT_MET\",\"message\":\"the condition of the write does not hold\"}\n";
        headers.list[headers.len++] = (struct hadb_http_header){"Content-Type", "application/json"};
        hadb_http_reply(op->exchange, status, headers.list, headers.len,
                        hadb_slice_str(req->r == HADB_ABSENT ? absent : not_met));
    } else {
        if (status == 503) {
            headers.list[headers.len++] = (struct hadb_http_header){"Retry-After", "1"};
        }
        hadb_http_reply_error(op->exchange, status, req->r, headers.list, headers.len,
                              message[0] ? message : hadb_code_text(req->r));
    }
}

static void written(struct hadb_req *req)
{
    struct hadb_api_op *op = req->arg;
    if (req->r != 0) {
        hadb__api_outcome(op);
        hadb__api_op_free(op);
        return;
    }
    struct hadb_api_headers headers;
    struct hadb_buf body = {0};
    hadb__api_headers(req, &headers);
    headers.list[headers.len++] = (struct hadb_http_header){"Content-Type", "application/json"};
    if (hadb_buf_printf(&body, "{\"version\":\"%s\"}\n",
                        req->response.version.txid ? headers.version : "") < 0) {
        hadb_buf_clear(&body);
    }
    hadb_http_reply_take(op->exchange, 200, headers.list, headers.len, &body);
    hadb__api_op_free(op);
}

static void got(struct hadb_req *req)
{
    struct hadb_api_op *op = req->arg;
    if (req->r != 0) {
        hadb__api_outcome(op);
    } else {
        struct hadb_api_headers headers;
        hadb__api_headers(req, &headers);
        headers.list[headers.len++] =
            (struct hadb_http_header){"Content-Type", "application/octet-stream"};
        hadb_http_reply_take(op->exchange, 200, headers.list, headers.len, &req->response.value);
    }
    hadb__api_op_free(op);
}

void hadb__api_run(struct hadb_api_op *op, struct hadb_db *db,
                   const struct hadb_kv_options *options, void (*done)(struct hadb_req *req))
{
    struct hadb_error err;
    int r = hadb__kv_prepare(db, options, &op->req, &err);
    if (r < 0) {
        hadb__api_error(op->exchange, r, &err);
        hadb__api_op_free(op);
        return;
    }
    op->req.done = done;
    op->req.arg = op;
    hadb__req_start(&op->req);
}

/* ---- one key ---- */

static int conditions(const struct hadb_http_request *request, struct hadb_kv_options *options,
                      struct hadb_error *err)
{
    struct hadb_slice value;
    char text[HADB_VERSION_TEXT_BYTES] = "";
    options->if_absent = hadb_http_query_find(request->query, "if_absent", &value) &&
                         !hadb_slice_eq(value, hadb_slice_str("false")) &&
                         !hadb_slice_eq(value, hadb_slice_str("0"));
    if (!hadb_http_query_find(request->query, "if_version", &value)) {
        return 0;
    }
    if (value.len < sizeof text) {
        memcpy(text, value.data, value.len);
    }
    if (!hadb_version_parse(text, &options->if_version) || options->if_version.txid == 0) {
        return hadb_fail(err, HADB_EINVAL, "if_version: a version as Hadb-Version gave it");
    }
    return options->if_absent
               ? hadb_fail(err, HADB_EINVAL, "if_absent and if_version exclude each other")
               : 0;
}

static int request_of(struct hadb_api_op *op, const struct hadb_http_request *request,
                      struct hadb_error *err)
{
    struct hadb_request *out = &op->req.request;
    out->key = hadb_buf_slice(&op->key);
    switch (request->method) {
    case HADB_HTTP_PUT:
        op->req.kind = HADB_REQ_WRITE;
        op->body = hadb_http_take_body(op->exchange);
        out->type = HADB_REQUEST_PUT;
        out->value = hadb_buf_slice(&op->body);
        return 0;
    case HADB_HTTP_DELETE:
        op->req.kind = HADB_REQ_WRITE;
        out->type = HADB_REQUEST_DELETE;
        return 0;
    case HADB_HTTP_GET:
    case HADB_HTTP_HEAD:
        op->req.kind = HADB_REQ_READ;
        out->type = HADB_REQUEST_GET;
        return 0;
    default:
        return hadb_fail(err, HADB_EPROTO, "a key takes PUT, GET, HEAD and DELETE");
    }
}

void hadb__api_kv(struct hadb_node *node, struct hadb_db *db, struct hadb_http_exchange *exchange,
                  const struct hadb_http_request *request, struct hadb_slice key_text)
{
    struct hadb_error err = {0};
    struct hadb_kv_options options;
    struct hadb_api_op *op = hadb__api_op_new(node, exchange);
    if (!op) {
        return;
    }
    int r = hadb__api_options(exchange, &options, &err);
    if (r == 0) {
        r = conditions(request, &options, &err);
    }
    if (r == 0 && !hadb_percent_decode(key_text.data, key_text.len, &op->key)) {
        r = hadb_fail(&err, HADB_EINVAL, "the key is not percent-encoded properly");
    }
    if (r == 0) {
        r = request_of(op, request, &err);
    }
    if (r < 0) {
        hadb__api_error(exchange, r, &err);
        hadb__api_op_free(op);
        return;
    }
    hadb__api_run(op, db, &options, op->req.kind == HADB_REQ_WRITE ? written : got);
}

/* ---- scan ---- */

static json_t *item_json(const struct hadb_item *item)
{
    char version[HADB_VERSION_TEXT_BYTES];
    json_t *object = json_object();
    hadb_version_format(&item->version, version);
    if (!object || hadb__json_set_bytes(object, "key", item->key) < 0 ||
        hadb__json_set_bytes(object, "value", item->value) < 0 ||
        json_object_set_new(object, "version", json_string(version)) < 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static int scan_json(const struct hadb_response *response, struct hadb_buf *out)
{
    json_t *root = json_object(), *items = json_array();
    int r = root && items && json_object_set_new(root, "items", items) == 0 ? 0 : HADB_ENOMEM;
    for (size_t i = 0; r == 0 && i < response->items.len; i++) {
        json_t *item = item_json(&response->items.items[i]);
        r = item && json_array_append_new(items, item) == 0 ? 0 : HADB_ENOMEM;
    }
    if (r == 0 && response->items.more) {
        r = hadb__json_set_bytes(root, "next", hadb_buf_slice(&response->next));
    } else if (r == 0) {
        r = json_object_set_new(root, "next", json_null()) == 0 ? 0 : HADB_ENOMEM;
    }
    char *text = r == 0 ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text) {
        return HADB_ENOMEM;
    }
    r = hadb_buf_append_str(out, text);
    free(text); /* foreign: json_dumps */
    return r;
}

static void scanned(struct hadb_req *req)
{
    struct hadb_api_op *op = req->arg;
    struct hadb_buf body = {0};
    if (req->r == 0 && scan_json(&req->response, &body) < 0) {
        req->r = hadb_fail_nomem(&req->err);
    }
    if (req->r != 0) {
        hadb_buf_deinit(&body);
        hadb__api_outcome(op);
    } else {
        struct hadb_api_headers headers;
        hadb__api_headers(req, &headers);
        headers.list[headers.len++] = (struct hadb_http_header){"Content-Type", "application/json"};
        hadb_http_reply_take(op->exchange, 200, headers.list, headers.len, &body);
    }
    hadb__api_op_free(op);
}

/* A query parameter as bytes; @name "_base64" is not needed: %XX says it all. */
static int query_bytes(const struct hadb_http_request *request, const char *name,
                       struct hadb_buf *out, struct hadb_error *err)
{
    int r = hadb_http_query_get(request->query, name, out, err);
    return r == HADB_ABSENT ? 0 : hadb_wrap(err, r, "%s", name);
}

static int query_flag(const struct hadb_http_request *request, const char *name)
{
    struct hadb_slice value;
    return hadb_http_query_find(request->query, name, &value) &&
           !hadb_slice_eq(value, hadb_slice_str("false")) &&
           !hadb_slice_eq(value, hadb_slice_str("0"));
}

void hadb__api_scan(struct hadb_node *node, struct hadb_db *db, struct hadb_http_exchange *exchange,
                    const struct hadb_http_request *request)
{
    struct hadb_error err = {0};
    struct hadb_kv_options options;
    struct hadb_api_op *op = hadb__api_op_new(node, exchange);
    if (!op) {
        return;
    }
    struct hadb_buf text HADB_CLEANUP(hadb_buf_deinit) = {0};
    uint64_t limit = HADB_SCAN_LIMIT_DEFAULT;
    int r = hadb__api_options(exchange, &options, &err);
    r = r < 0 ? r : query_bytes(request, "prefix", &op->prefix, &err);
    r = r < 0 ? r : query_bytes(request, "start", &op->start, &err);
    r = r < 0 ? r : query_bytes(request, "end", &op->end, &err);
    r = r < 0 ? r : query_bytes(request, "limit", &text, &err);
    if (r == 0 && text.len > 0 &&
        (!hadb_buf_cstr(&text) ||
         !hadb_parse_u64((const char *)text.data, 1, HADB_SCAN_LIMIT_MAX, &limit))) {
        r = hadb_fail(&err, HADB_EINVAL, "limit: 1 to %u", HADB_SCAN_LIMIT_MAX);
    }
    if (r < 0) {
        hadb__api_error(exchange, r, &err);
        hadb__api_op_free(op);
        return;
    }
    op->req.kind = HADB_REQ_READ;
    op->req.request = (struct hadb_request){.type = HADB_REQUEST_SCAN,
                                            .limit = (size_t)limit,
                                            .range = {.start = hadb_buf_slice(&op->start),
                                                      .end = hadb_buf_slice(&op->end),
                                                      .prefix = hadb_buf_slice(&op->prefix),
                                                      .reverse = query_flag(request, "reverse")}};
    hadb__api_run(op, db, &options, scanned);
}

/* ---- batch ---- */

static int batch_op(struct hadb_api_op *op, size_t i, const json_t *item, struct hadb_error *err)
{
    struct hadb_buf *key = &op->op_bytes[2 * i], *value = &op->op_bytes[2 * i + 1];
    const char *what = json_string_value(json_object_get(item, "op"));
    const char *version = json_string_value(json_object_get(item, "if_version"));
    struct hadb_kv_op *out = &op->ops[i];
    bool put = what && strcmp(what, "put") == 0;
    if (!put && !(what && strcmp(what, "delete") == 0)) {
        return hadb_fail(err, HADB_EINVAL, "operation %zu: \"op\" is \"put\" or \"delete\"", i);
    }
    int r = hadb__json_get_bytes(item, "key", key);
    if (r == 0 && put) {
        r = hadb__json_get_bytes(item, "value", value);
    }
    if (r == HADB_ENOMEM) {
        return hadb_fail_nomem(err);
    }
    if (r != 0 || (version && !hadb_version_parse(version, &out->if_version))) {
        return hadb_fail(err, HADB_EINVAL,
                         "operation %zu: \"key\" and \"value\" are strings (or key_base64, "
                         "value_base64), \"if_version\" a version",
                         i);
    }
    out->type = put ? HADB_OP_PUT : HADB_OP_DELETE;
    out->key = hadb_buf_slice(key);
    out->value = hadb_buf_slice(value);
    out->if_absent = json_is_true(json_object_get(item, "if_absent"));
    return 0;
}

static int batch_parse(struct hadb_api_op *op, struct hadb_slice body, struct hadb_error *err)
{
    json_error_t where;
    op->json = body.len ? json_loadb(body.data, body.len, JSON_ALLOW_NUL, &where) : NULL;
    const json_t *list = json_object_get(op->json, "ops");
    size_t len = json_array_size(list);
    if (!json_is_array(list) || len == 0) {
        return hadb_fail(err, HADB_EINVAL, "the body must be {\"ops\":[{\"op\":\"put\",…},…]}");
    }
    if (len > HADB_BATCH_OPS_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "a batch has at most %u operations",
                         HADB_BATCH_OPS_MAX);
    }
    op->ops = hadb_calloc(len, sizeof *op->ops);
    op->op_bytes = hadb_calloc(2 * len, sizeof *op->op_bytes);
    if (!op->ops || !op->op_bytes) {
        return hadb_fail_nomem(err);
    }
    op->op_bytes_len = 2 * len;
    int r = 0;
    for (size_t i = 0; r == 0 && i < len; i++) {
        r = batch_op(op, i, json_array_get(list, i), err);
    }
    op->req.request.ops = op->ops;
    op->req.request.ops_len = len;
    json_decref(op->json);
    op->json = NULL;
    return r;
}

void hadb__api_batch(struct hadb_node *node, struct hadb_db *db,
                     struct hadb_http_exchange *exchange, const struct hadb_http_request *request)
{
    struct hadb_error err = {0};
    struct hadb_kv_options options;
    struct hadb_api_op *op = hadb__api_op_new(node, exchange);
    if (!op) {
        return;
    }
    op->req.kind = HADB_REQ_WRITE;
    op->req.request.type = HADB_REQUEST_BATCH;
    int r = hadb__api_options(exchange, &options, &err);
    r = r < 0 ? r : batch_parse(op, request->body, &err);
    if (r < 0) {
        hadb__api_error(exchange, r, &err);
        hadb__api_op_free(op);
        return;
    }
    hadb__api_run(op, db, &options, written);
}
