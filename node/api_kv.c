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

/* ---- answers ---- */

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

static void request_of(struct hadb_api_op *op, enum hadb_http_method method)
{
    struct hadb_request *out = &op->req.request;
    out->key = hadb_buf_slice(&op->key);
    if (method == HADB_HTTP_PUT) {
        op->req.kind = HADB_REQ_WRITE;
        op->body = hadb_http_take_body(op->exchange);
        out->type = HADB_REQUEST_PUT;
        out->value = hadb_buf_slice(&op->body);
    } else if (method == HADB_HTTP_DELETE) {
        op->req.kind = HADB_REQ_WRITE;
        out->type = HADB_REQUEST_DELETE;
    } else {
        op->req.kind = HADB_REQ_READ;
        out->type = HADB_REQUEST_GET;
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
        r = hadb__api_conditions(request->query, &options, &err);
    }
    if (r == 0 && hadb_buf_reserve(&op->key, key_text.len) < 0) {
        r = hadb_fail_nomem(&err);
    }
    if (r == 0 && !hadb_percent_decode(key_text.data, key_text.len, &op->key)) {
        r = hadb_fail(&err, HADB_EINVAL, "the key is not percent-encoded properly");
    }
    if (r < 0) {
        hadb__api_error(exchange, r, &err);
        hadb__api_op_free(op);
        return;
    }
    request_of(op, request->method);
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

static int scan_limit(const struct hadb_http_request *request, uint64_t *out,
                      struct hadb_error *err)
{
    struct hadb_buf text HADB_CLEANUP(hadb_buf_deinit) = {0};
    int r = hadb_http_query_get(request->query, "limit", &text, err);
    if (r == HADB_ABSENT) {
        *out = HADB_SCAN_LIMIT_DEFAULT;
        return 0;
    }
    const char *cstr = r == 0 ? hadb_buf_cstr(&text) : NULL;
    if (r == 0 && !cstr) {
        return hadb_fail_nomem(err);
    }
    if (r == 0 &&
        (strlen(cstr) != text.len || !hadb_parse_u64(cstr, 1, HADB_SCAN_LIMIT_MAX, out))) {
        return hadb_fail(err, HADB_EINVAL, "query parameter limit: a whole number from 1 to %u",
                         HADB_SCAN_LIMIT_MAX);
    }
    return r;
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
    uint64_t limit = 0;
    bool reverse = false;
    int r = hadb__api_options(exchange, &options, &err);
    r = r < 0 ? r : query_bytes(request, "prefix", &op->prefix, &err);
    r = r < 0 ? r : query_bytes(request, "start", &op->start, &err);
    r = r < 0 ? r : query_bytes(request, "end", &op->end, &err);
    r = r < 0 ? r : scan_limit(request, &limit, &err);
    r = r < 0 ? r : hadb__api_flag(request->query, "reverse", &reverse, &err);
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
                                                      .reverse = reverse}};
    hadb__api_run(op, db, &options, scanned);
}

/* ---- batch ---- */

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
    r = r < 0 ? r : hadb__api_batch_parse(op, request->body, &err);
    if (r < 0) {
        hadb__api_error(exchange, r, &err);
        hadb__api_op_free(op);
        return;
    }
    hadb__api_run(op, db, &options, written);
}
