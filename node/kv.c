/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 1 of 8: the key-value calls of the public API. They turn arguments into a request, wait for its answer or
 * let a callback wait.
 *
 * Thread: the application's; the request itself runs on the loop.
 * Invariants: arguments are checked here, before anything is queued; a blocking call lends its own stack
 * and buffers to the request and therefore never returns before done().
 */
#include "node/kv_private.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- checks at the edge ---- */

/* Bytes that are announced and not there. */
static int check_bytes(struct hadb_slice bytes, struct hadb_error *err)
{
    return bytes.data || bytes.len == 0
               ? 0
               : hadb_fail(err, HADB_EINVAL, "%zu bytes of a key, value or bound are at NULL",
                           bytes.len);
}

static int check_key(struct hadb_slice key, struct hadb_error *err)
{
    if (key.len == 0) {
        return hadb_fail(err, HADB_EINVAL, "a key has at least one byte");
    }
    if (key.len > HADB_KEY_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "a key of %zu bytes: at most %u are allowed", key.len,
                         HADB_KEY_BYTES_MAX);
    }
    return check_bytes(key, err);
}

static int check_value(struct hadb_slice value, struct hadb_error *err)
{
    if (value.len > HADB_VALUE_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "a value of %zu bytes: at most %u are allowed",
                         value.len, HADB_VALUE_BYTES_MAX);
    }
    return check_bytes(value, err);
}

static int check_scan(const struct hadb_request *request, struct hadb_error *err)
{
    if (request->limit > HADB_SCAN_LIMIT_MAX) {
        return hadb_fail(err, HADB_EINVAL, "a scan returns at most %u items", HADB_SCAN_LIMIT_MAX);
    }
    int r = check_bytes(request->range.start, err);
    r = r == 0 ? check_bytes(request->range.end, err) : r;
    return r == 0 ? check_bytes(request->range.prefix, err) : r;
}

static int check_ops(const struct hadb_request *request, struct hadb_error *err)
{
    if (request->ops_len == 0 || request->ops_len > HADB_BATCH_OPS_MAX) {
        return hadb_fail(err, request->ops_len ? HADB_ETOOBIG : HADB_EINVAL,
                         "a batch has 1 to %u operations", HADB_BATCH_OPS_MAX);
    }
    if (!request->ops) {
        return hadb_fail(err, HADB_EINVAL, "the operations of a batch are at NULL");
    }
    size_t bytes = 0;
    for (size_t i = 0; i < request->ops_len; i++) {
        const struct hadb_kv_op *op = &request->ops[i];
        if (op->type != HADB_OP_PUT && op->type != HADB_OP_DELETE) {
            return hadb_fail(err, HADB_EINVAL, "operation %zu is neither put nor delete", i);
        }
        int r = check_key(op->key, err);
        if (r == 0) {
            r = check_value(op->value, err);
        }
        if (r < 0) {
            return r;
        }
        bytes += op->key.len + op->value.len + HADB_TXN_OP_BYTES;
    }
    if (bytes > HADB_BATCH_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "a batch of %zu bytes: at most %u are allowed", bytes,
                         HADB_BATCH_BYTES_MAX);
    }
    return 0;
}

static int check_request(const struct hadb_request *request, struct hadb_error *err)
{
    switch (request->type) {
    case HADB_REQUEST_PUT:
    case HADB_REQUEST_DELETE:
    case HADB_REQUEST_GET: {
        int r = check_key(request->key, err);
        return r < 0 ? r : check_value(request->value, err);
    }
    case HADB_REQUEST_BATCH:
        return check_ops(request, err);
    case HADB_REQUEST_SCAN:
        return check_scan(request, err);
    }
    return hadb_fail(err, HADB_EINVAL, "unknown request");
}

static int read_options(const struct hadb_db *db, const struct hadb_kv_options *options,
                        struct hadb_req *req, struct hadb_error *err)
{
    req->ack = options->ack ? options->ack : db->ack;
    req->read = options->read;
    if (options->ack > HADB_ACK_BOTH || options->read > HADB_READ_BOUNDED) {
        return hadb_fail(err, HADB_EINVAL, "unknown acknowledgement mode or read level");
    }
    req->max_lag_ms = options->max_lag_ms;
    if ((options->read == HADB_READ_BOUNDED) != (options->max_lag_ms > 0) ||
        options->max_lag_ms > HADB_LAG_MS_MAX) {
        return hadb_fail(err, HADB_EINVAL,
                         "a read at level bounded, and no other, names a lag of 1 to %u ms",
                         HADB_LAG_MS_MAX);
    }
    if (options->bookmark && options->bookmark[0]) {
        struct hadb_id uuid;
        if (!hadb_bookmark_parse(options->bookmark, &uuid, &req->bookmark)) {
            return hadb_fail(err, HADB_EINVAL, "malformed bookmark");
        }
        if (__atomic_load_n(&db->role, __ATOMIC_ACQUIRE) == HADB_ROLE_OPENING) {
            return hadb_fail(err, HADB_EUNAVAIL,
                             "database %s is opening: storage has not named it yet", db->name);
        }
        if (!hadb_id_eq(&uuid, &db->uuid)) {
            return hadb_fail(err, HADB_EFORKED, "the bookmark is of another database");
        }
        if (req->read == HADB_READ_ANY || req->read == HADB_READ_BOUNDED) {
            return hadb_fail(err, HADB_EINVAL,
                             "a bookmark and a read at level any or bounded contradict each other: "
                             "leave one of them out");
        }
        req->read = req->read == HADB_READ_DEFAULT ? HADB_READ_BOOKMARK : req->read;
    } else if (req->read == HADB_READ_BOOKMARK) {
        return hadb_fail(err, HADB_EINVAL, "a read at level bookmark needs a bookmark");
    }
    req->read = req->read == HADB_READ_DEFAULT ? HADB_READ_LINEARIZABLE : req->read;
    return 0;
}

int hadb__kv_prepare(struct hadb_db *db, const struct hadb_kv_options *options,
                     struct hadb_req *req, struct hadb_error *err)
{
    static const struct hadb_kv_options defaults;
    options = options ? options : &defaults;
    bool write = req->kind == HADB_REQ_WRITE;
    int r = hadb__db_usable(db, err);
    if (r == 0) {
        r = check_request(&req->request, err);
    }
    if (r == 0) {
        r = read_options(db, options, req, err);
    }
    if (r == 0 && options->deadline_ms > HADB_DEADLINE_MS_MAX) {
        r = hadb_fail(err, HADB_EINVAL, "a deadline is at most %u ms", HADB_DEADLINE_MS_MAX);
    }
    if (r < 0) {
        return r;
    }
    const struct hadb_env *env = hadb__db_env(db);
    req->db = db;
    req->deadline_ms =
        hadb_now_ms(env) + (options->deadline_ms ? options->deadline_ms : HADB_DEADLINE_MS_DEFAULT);
    if (write) {
        req->request.id = options->request_id;
        req->own_id = hadb_id_is_zero(&req->request.id);
        if (req->own_id) {
            hadb_id_v7(env, &req->request.id);
        }
        req->request.if_absent = options->if_absent;
        req->request.if_version = options->if_version;
    }
    return 0;
}

void hadb__kv_result(const struct hadb_req *req, struct hadb_kv_result *out)
{
    *out = (struct hadb_kv_result){.version = req->response.version, .request_id = req->request.id};
    if (req->position.txid > 0) {
        hadb_bookmark_format(&req->db->uuid, &req->position, &out->bookmark);
    }
}

/* ---- blocking calls ---- */

struct waiting {
    struct hadb_mutex mu;
    struct hadb_cond cond;
    bool done; /* mu */
};

static void wake(struct hadb_req *req)
{
    struct waiting *waiting = req->arg;
    hadb_mutex_lock(&waiting->mu);
    waiting->done = true;
    hadb_cond_signal(&waiting->cond);
    hadb_mutex_unlock(&waiting->mu);
}

int hadb__req_wait(struct hadb_req *req, struct hadb_error *err)
{
    struct waiting waiting = {.done = false};
    int r = hadb__may_wait(req->db->node, err);
    if (r < 0) {
        return r;
    }
    hadb_mutex_init(&waiting.mu, 0);
    hadb_cond_init(&waiting.cond);
    req->done = wake;
    req->arg = &waiting;
    r = hadb__req_post(req, err);
    if (r == 0) {
        hadb_mutex_lock(&waiting.mu);
        while (!waiting.done) {
            hadb_cond_wait(&waiting.cond, &waiting.mu);
        }
        hadb_mutex_unlock(&waiting.mu);
        r = req->r;
        if (r < 0 && err) {
            *err = req->err;
        }
    }
    hadb_cond_deinit(&waiting.cond);
    hadb_mutex_deinit(&waiting.mu);
    return r;
}

static int run(struct hadb_db *db, struct hadb_req *req, const struct hadb_kv_options *options,
               struct hadb_kv_result *result, struct hadb_error *err)
{
    int r = hadb__kv_prepare(db, options, req, err);
    if (r < 0) {
        return r;
    }
    r = db->local ? hadb__local_run(db, req, err) : hadb__req_wait(req, err);
    if (result) {
        hadb__kv_result(req, result);
    }
    return r;
}

int hadb_kv_put(struct hadb_db *db, struct hadb_slice key, struct hadb_slice value,
                const struct hadb_kv_options *options, struct hadb_kv_result *result,
                struct hadb_error *err)
{
    struct hadb_req req = {.kind = HADB_REQ_WRITE,
                           .request = {.type = HADB_REQUEST_PUT, .key = key, .value = value}};
    int r = run(db, &req, options, result, err);
    hadb_response_deinit(&req.response);
    return r;
}

int hadb_kv_delete(struct hadb_db *db, struct hadb_slice key, const struct hadb_kv_options *options,
                   struct hadb_kv_result *result, struct hadb_error *err)
{
    struct hadb_req req = {.kind = HADB_REQ_WRITE,
                           .request = {.type = HADB_REQUEST_DELETE, .key = key}};
    int r = run(db, &req, options, result, err);
    hadb_response_deinit(&req.response);
    return r;
}

int hadb_kv_batch(struct hadb_db *db, const struct hadb_kv_op *ops, size_t ops_len,
                  const struct hadb_kv_options *options, struct hadb_kv_result *result,
                  struct hadb_error *err)
{
    struct hadb_req req = {.kind = HADB_REQ_WRITE,
                           .request = {.type = HADB_REQUEST_BATCH, .ops = ops, .ops_len = ops_len}};
    if (options && (options->if_absent || options->if_version.txid)) {
        return hadb_fail(err, HADB_EINVAL, "in a batch, conditions belong to its operations");
    }
    int r = run(db, &req, options, result, err);
    hadb_response_deinit(&req.response);
    return r;
}

int hadb_kv_get(struct hadb_db *db, struct hadb_slice key, const struct hadb_kv_options *options,
                struct hadb_buf *value, struct hadb_kv_result *result, struct hadb_error *err)
{
    struct hadb_req req = {.kind = HADB_REQ_READ,
                           .request = {.type = HADB_REQUEST_GET, .key = key}};
    int r = run(db, &req, options, result, err);
    if (r == 0 && value) {
        hadb_buf_deinit(value);
        *value = hadb_buf_take(&req.response.value);
    }
    hadb_response_deinit(&req.response);
    return r;
}

int hadb_kv_scan(struct hadb_db *db, const struct hadb_range *range, size_t limit,
                 const struct hadb_kv_options *options, struct hadb_kv_items *out,
                 struct hadb_kv_result *result, struct hadb_error *err)
{
    struct hadb_req req = {.kind = HADB_REQ_READ,
                           .request = {.type = HADB_REQUEST_SCAN, .limit = limit}};
    if (!out) {
        return hadb_fail_misuse(err, __func__);
    }
    if (range) {
        req.request.range = *range;
    }
    int r = run(db, &req, options, result, err);
    if (r == 0) {
        *out = req.response.items;
        req.response.items = (struct hadb_kv_items){0};
    }
    hadb_response_deinit(&req.response);
    return r;
}

void hadb_kv_items_deinit(struct hadb_kv_items *items)
{
    if (items) {
        hadb_free(items->items);
        hadb_buf_deinit(&items->memory);
        *items = (struct hadb_kv_items){0};
    }
}

/* ---- asynchronous calls ---- */

struct later {
    struct hadb_req req;
    struct hadb_callback callback;
    struct hadb_buf bytes; /* key, then value */
    hadb_kv_fn fn;
    void *arg;
};

static void later_free(struct later *later)
{
    hadb_response_deinit(&later->req.response);
    hadb_buf_deinit(&later->bytes);
    hadb_free(later);
}

static void call_back(void *arg)
{
    struct later *later = arg;
    struct hadb_kv_result result;
    hadb__kv_result(&later->req, &result);
    later->fn(later->arg, later->req.r, hadb_buf_slice(&later->req.response.value), &result,
              &later->req.err);
    later_free(later);
}

static void later_done(struct hadb_req *req)
{
    struct later *later = req->arg;
    later->callback = (struct hadb_callback){.fn = call_back, .arg = later};
    hadb_callbacks_post(&req->db->node->callbacks, &later->callback);
}

static int start(struct hadb_db *db, enum hadb_req_kind kind, enum hadb_request_type type,
                 struct hadb_slice key, struct hadb_slice value,
                 const struct hadb_kv_options *options, hadb_kv_fn done, void *arg,
                 struct hadb_error *err)
{
    const struct hadb_request given = {.type = type, .key = key, .value = value};
    int r = hadb__db_usable(db, err);
    if (r == 0) {
        r = done ? check_request(&given, err) : hadb_fail(err, HADB_EINVAL, "there is no callback");
    }
    if (r < 0) { /* before anything is copied */
        return r;
    }
    struct later *later = hadb_calloc(1, sizeof *later);
    if (!later || hadb_buf_append(&later->bytes, key.data, key.len) < 0 ||
        hadb_buf_append(&later->bytes, value.data, value.len) < 0) {
        if (later) {
            later_free(later);
        }
        return hadb_fail_nomem(err);
    }
    later->fn = done;
    later->arg = arg;
    later->req.kind = kind;
    later->req.request = (struct hadb_request){.type = type};
    later->req.request.key = hadb_slice(later->bytes.data, key.len);
    later->req.request.value = hadb_slice(later->bytes.data + key.len, value.len);
    later->req.done = later_done;
    later->req.arg = later;
    r = hadb__kv_prepare(db, options, &later->req, err);
    if (r == 0 && db->local) {
        later->req.r = hadb__local_run(db, &later->req, &later->req.err);
        call_back(later); /* a local database calls back at once */
        return 0;
    }
    if (r == 0) {
        r = hadb__req_post(&later->req, err);
    }
    if (r < 0) {
        later_free(later);
    }
    return r;
}

int hadb_kv_put_async(struct hadb_db *db, struct hadb_slice key, struct hadb_slice value,
                      const struct hadb_kv_options *options, hadb_kv_fn done, void *arg,
                      struct hadb_error *err)
{
    return start(db, HADB_REQ_WRITE, HADB_REQUEST_PUT, key, value, options, done, arg, err);
}

int hadb_kv_get_async(struct hadb_db *db, struct hadb_slice key,
                      const struct hadb_kv_options *options, hadb_kv_fn done, void *arg,
                      struct hadb_error *err)
{
    return start(db, HADB_REQ_READ, HADB_REQUEST_GET, key, hadb_slice(NULL, 0), options, done, arg,
                 err);
}
