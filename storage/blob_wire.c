/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the wire format of the blob service (docs/storage-http.md) as its client sees it: building, judging, reading.
 *
 * Thread: any; no state, no I/O.
 * Invariants: there is one PUT, and it has a condition. It is done only with a 2xx that carries a strong tag, refused
 * only with a status that says so, and unknown (HADB_ETIMEDOUT) in every other case: 409, 429, any 5xx, a broken or
 * garbled reply. 404 means absent only in the service's own words, and bytes are an object only if the reply says so: a
 * gateway that lost its way, or a page to log in, must not look like a store. Nothing that decides between done
 * and unknown is allocated after a write was sent.
 * Failure modes: by the outcome rule of include/hadb/storage.h; HADB_ECORRUPT for a listing that is none.
 */
#include "storage/blob_wire.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "storage/key.h"
#include "storage/storage_private.h"

#define TAIL_BYTES (2 * HADB_OBJECT_KEY_BYTES_MAX + 64u)

/* --- digests ------------------------------------------------------------------------------------ */

void hadb__blob_digest(struct hadb_slice body, char out[HADB_BLOB_DIGEST_BYTES])
{
    struct hadb_hash hash;
    uint8_t text[48];
    hadb_sha256(body.data, body.len, &hash);
    int len = EVP_EncodeBlock(text, hash.b, sizeof(hash.b));
    HADB_ASSERT(len == 44);
    snprintf(out, HADB_BLOB_DIGEST_BYTES, "sha-256=:%.44s:", (const char *)text);
}

bool hadb__blob_digest_fits(const char *header, struct hadb_slice body)
{
    char ours[HADB_BLOB_DIGEST_BYTES] = "";
    bool fits = true;
    while (*header) { /* members of a dictionary; of two with one name the last counts */
        header += strspn(header, " \t,");
        size_t len = strcspn(header, ",");
        if (strncmp(header, "sha-256=", 8) == 0) {
            if (!ours[0]) {
                hadb__blob_digest(body, ours);
            }
            size_t value = strcspn(header, ";, \t"); /* without parameters */
            fits = value == strlen(ours) && memcmp(header, ours, value) == 0;
        }
        header += len;
    }
    return fits;
}

/* --- building ----------------------------------------------------------------------------------- */

void hadb__blob_request_deinit(struct hadb__blob_request *q)
{
    hadb__rest_request_deinit(&q->rest);
    hadb_buf_deinit(&q->own_body);
}

static void begin(struct hadb__blob_request *q, enum hadb_storage_op op, const char *method,
                  size_t reply_bytes_max)
{
    *q = (struct hadb__blob_request){.op = op};
    q->rest.http.method = method;
    q->rest.http.writes = hadb_storage_op_writes(op);
    q->rest.http.reply_bytes_max = reply_bytes_max;
}

static void set_body(struct hadb__blob_request *q, struct hadb_slice body, const char *type)
{
    q->rest.http.body = body;
    hadb__blob_digest(body, q->digest);
    hadb__rest_header(&q->rest, "Content-Type", type);
    hadb__rest_header(&q->rest, "Content-Digest", q->digest);
}

static void begin_put(const struct hadb_storage_io *io, struct hadb__blob_request *q)
{
    bool creates = io->type == HADB_IO_CREATE;
    begin(q, creates ? HADB_STORAGE_OP_CREATE : HADB_STORAGE_OP_REPLACE, "PUT",
          HADB_REST_WRITE_REPLY_BYTES_MAX);
    hadb__rest_header(&q->rest, creates ? "If-None-Match" : "If-Match",
                      creates ? "*" : io->expected->s);
    set_body(q, io->body, "application/octet-stream");
}

int hadb__blob_build(const struct hadb__rest *rest, const struct hadb_storage_io *io,
                     struct hadb__blob_request *q, struct hadb_error *err)
{
    char tail[TAIL_BYTES], range[HADB_HTTP_RANGE_BYTES];
    bool ranged = io->type == HADB_IO_GET_RANGE && hadb__http_range(io, range);
    if (io->type == HADB_IO_GET) {
        begin(q, HADB_STORAGE_OP_GET, "GET", HADB_OBJECT_BYTES_MAX);
    } else if (ranged) { /* a service may send the whole object instead */
        begin(q, HADB_STORAGE_OP_GET_RANGE, "GET", HADB_OBJECT_BYTES_MAX);
        memcpy(q->range, range, sizeof(range));
        hadb__rest_header(&q->rest, "Range", q->range);
    } else if (io->type == HADB_IO_HEAD || io->type == HADB_IO_GET_RANGE) {
        begin(q, HADB_STORAGE_OP_HEAD, "HEAD", 0);
    } else {
        begin_put(io, q);
    }
    if (!q->rest.http.writes) {
        hadb__rest_header(&q->rest, "Cache-Control", "no-store");
    }
    int len = snprintf(tail, sizeof(tail), "/%s", io->key);
    HADB_ASSERT(len > 0 && (size_t)len < sizeof(tail));
    return hadb__rest_prepare(rest, io->call, tail, &q->rest, err);
}

int hadb__blob_build_list(const struct hadb__rest *rest, const struct hadb_call *call,
                          const char *prefix, const char *after, size_t max,
                          struct hadb__blob_request *q, struct hadb_error *err)
{
    char tail[TAIL_BYTES];
    begin(q, HADB_STORAGE_OP_LIST, "GET", HADB_BLOB_LISTING_BYTES_MAX);
    hadb__rest_header(&q->rest, "Cache-Control", "no-store");
    /* Made of bytes that mean nothing in a query (storage/key.h). */
    int len = snprintf(tail, sizeof(tail), "?prefix=%s&after=%s&max=%zu", prefix, after, max);
    HADB_ASSERT(len > 0 && (size_t)len < sizeof(tail));
    return hadb__rest_prepare(rest, call, tail, &q->rest, err);
}

int hadb__blob_build_delete(const struct hadb__rest *rest, const struct hadb_call *call,
                            const char *const *keys, size_t len, struct hadb__blob_request *q,
                            struct hadb_error *err)
{
    HADB_ASSERT(len > 0 && len <= HADB_BLOB_DELETE_LEN_MAX);
    begin(q, HADB_STORAGE_OP_DELETE_MANY, "POST", HADB_REST_WRITE_REPLY_BYTES_MAX);
    /* Keys are made of bytes that mean nothing in JSON. */
    int r = hadb_buf_append_str(&q->own_body, "{\"delete\":[");
    for (size_t i = 0; i < len && r == 0; i++) {
        r = hadb_buf_printf(&q->own_body, "%s\"%s\"", i ? "," : "", keys[i]);
    }
    r = r ? r : hadb_buf_append_str(&q->own_body, "]}");
    if (r) {
        return hadb_fail_nomem(err);
    }
    set_body(q, hadb_buf_slice(&q->own_body), "application/json");
    return hadb__rest_prepare(rest, call, "", &q->rest, err);
}

/* --- judging ------------------------------------------------------------------------------------ */

static bool is_put(const struct hadb__blob_request *q)
{
    return q->op == HADB_STORAGE_OP_CREATE || q->op == HADB_STORAGE_OP_REPLACE;
}

static int outcome_of_refusal(const struct hadb__rest *rest, const struct hadb__blob_request *q,
                              const struct hadb__http_reply *reply, struct hadb_error *err)
{
    if (reply->status == 412 && is_put(q)) { /* nothing in its body can change that */
        return q->op == HADB_STORAGE_OP_CREATE ? HADB_EXISTS : HADB_CAS_LOST;
    }
    if (reply->status == 416 && q->op == HADB_STORAGE_OP_GET_RANGE) {
        return 0; /* the object ends before the offset */
    }
    if (hadb__rest_says_absent(reply)) {
        switch (q->op) {
        case HADB_STORAGE_OP_GET:
        case HADB_STORAGE_OP_GET_RANGE:
        case HADB_STORAGE_OP_HEAD:
            return HADB_ABSENT;
        case HADB_STORAGE_OP_REPLACE:
            return HADB_CAS_LOST;
        default:
            break;
        }
    }
    return hadb__rest_refused(rest, reply, q->rest.http.writes, err);
}

/* The media type, without parameters. */
static bool type_is(const struct hadb__http_reply *reply, const char *type)
{
    size_t len = strlen(type);
    return strncasecmp(reply->type, type, len) == 0 &&
           (reply->type[len] == '\0' || strchr("; \t", reply->type[len]));
}

static const char *body_fault(const struct hadb__blob_request *q,
                              const struct hadb__http_reply *reply)
{
    bool lists = q->op == HADB_STORAGE_OP_LIST;
    struct hadb_slice body = hadb_buf_slice(&reply->body);
    if (reply->length < 0 && !reply->chunked) {
        return "without a length: the end of the body cannot be told";
    }
    if (!type_is(reply, lists ? "application/json" : "application/octet-stream")) {
        return lists ? "without a listing: its type is not application/json"
                     : "without an object: its type is not application/octet-stream";
    }
    return hadb__blob_digest_fits(reply->digest, body) ? NULL
                                                       : "with a body that its digest does not fit";
}

static const char *success_fault(const struct hadb__blob_request *q,
                                 const struct hadb__http_reply *reply)
{
    int status = reply->status;
    bool needs_tag = is_put(q) || q->op == HADB_STORAGE_OP_GET || q->op == HADB_STORAGE_OP_HEAD;
    bool fits = status == 200 || (is_put(q) && status == 201) ||
                (q->rest.http.writes && status == 204) ||
                (q->op == HADB_STORAGE_OP_GET_RANGE && status == 206);
    if (!fits) {
        return "does not belong to this request";
    }
    if (needs_tag && !hadb__rest_tag_is_strong(reply->etag)) {
        return "without a strong etag";
    }
    if (q->op == HADB_STORAGE_OP_HEAD) {
        return reply->length < 0 ? "without a length" : NULL;
    }
    return q->rest.http.writes ? NULL : body_fault(q, reply);
}

int hadb__blob_outcome(const struct hadb__rest *rest, const struct hadb__blob_request *q,
                       const struct hadb__http_reply *reply, struct hadb_error *err)
{
    bool writes = q->rest.http.writes;
    int r = 0;
    if (reply->failure != HADB__HTTP_FINE) {
        r = hadb__net_unheard(reply->failure, writes, reply->sent, reply->text, err);
    } else if (reply->status < 200 || reply->status > 299) {
        r = outcome_of_refusal(rest, q, reply, err);
    } else {
        const char *fault = success_fault(q, reply);
        r = fault ? hadb__rest_garbled(reply, writes, fault, err) : 0;
    }
    return hadb__rest_wrap(rest, hadb_storage_op_name(q->op), r, err);
}

/* --- listings ----------------------------------------------------------------------------------- */

struct page {
    const char *prefix, *after;
    size_t max;
    struct hadb_object_list *out;
};

static int add_object(struct page *page, const json_t *object, struct hadb_error *err)
{
    const char *key = json_string_value(json_object_get(object, "key"));
    const json_t *size = json_object_get(object, "size");
    if (!key || !json_is_integer(size) || json_integer_value(size) < 0) {
        return hadb_fail(err, HADB_ECORRUPT, "an object without key or size");
    }
    if (hadb__object_key_check(key, NULL)) {
        return hadb_fail(err, HADB_ECORRUPT, "a name that is no key");
    }
    if (strncmp(key, page->prefix, strlen(page->prefix)) != 0 || strcmp(key, page->after) <= 0) {
        return hadb_fail(err, HADB_ECORRUPT, "%.80s was not asked for, or is not in order", key);
    }
    int r = hadb__object_list_add(page->out, hadb_slice_str(key),
                                  (uint64_t)json_integer_value(size), err);
    page->after = key;
    return r;
}

static int read_page(struct page *page, const json_t *root, struct hadb_error *err)
{
    const json_t *objects = json_object_get(root, "objects");
    const json_t *truncated = json_object_get(root, "truncated");
    if (!json_is_array(objects) || !json_is_boolean(truncated)) {
        return hadb_fail(err, HADB_ECORRUPT,
                         "it has no objects, or does not say whether more follow");
    }
    if (json_array_size(objects) > page->max) {
        return hadb_fail(err, HADB_ECORRUPT, "%zu objects where %zu were asked for",
                         json_array_size(objects), page->max);
    }
    if (json_array_size(objects) == 0 && json_is_true(truncated)) {
        return hadb_fail(err, HADB_ECORRUPT, "an empty page that is not the last one");
    }
    int r = 0;
    for (size_t i = 0; i < json_array_size(objects) && r == 0; i++) {
        r = add_object(page, json_array_get(objects, i), err);
    }
    page->out->truncated = r == 0 && json_is_true(truncated);
    return r;
}

int hadb__blob_list(struct hadb_slice json, const char *prefix, const char *after, size_t max,
                    struct hadb_object_list *out, struct hadb_error *err)
{
    struct page page = {.prefix = prefix, .after = after, .max = max, .out = out};
    json_t *root = json_loadb(json.data, json.len, JSON_REJECT_DUPLICATES, NULL);
    int r = root ? read_page(&page, root, err) : hadb_fail(err, HADB_ECORRUPT, "it is not JSON");
    json_decref(root);
    return hadb_wrap(err, r, "listing");
}
