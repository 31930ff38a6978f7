/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the lease store "http(s)://[user:password@|token@]host[:port][/base]": the REST service of docs/lease-http.md,
 * which `hadb lease-server` provides.
 *
 * Thread: any; constant after open but for the pool of connections (base/http.c).
 * Invariants: one write is one PUT with If-Match or If-None-Match, sent once. The tag is the server's ETag, quotes
 * and all, and must be a strong one.
 * Happy path: read = GET; write = PUT; watch = GET that the server holds back until the record changes.
 * Failure modes: by the outcome rule. 404 means absent only in the service's own words: a gateway that lost its way
 * must not look like an empty store.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/rest.h"
#include "base/util.h"
#include "lease/lease_private.h"

#define WAIT_MS_MAX 20000u  /* one GET of a watch is held so long at most */
#define WATCH_PAUSE_MS 200u /* between two GETs where the server does not hold them */

struct http_leases {
    struct hadb__rest rest;
};

/* --- one request -------------------------------------------------------------------------------- */

struct request {
    const char *method;
    const char *key;
    const char *condition, *tag; /* header and value; NULL = none */
    struct hadb_slice body;
    uint64_t wait_ms; /* 0 = answer at once */
    bool writes;
};

static int perform(struct http_leases *l, const struct hadb_call *call,
                   const struct request *request, struct hadb__http_reply *reply,
                   struct hadb_error *err)
{
    char tail[HADB_LEASE_KEY_BYTES_MAX + 40];
    HADB_CLEANUP(hadb__rest_request_deinit)
    struct hadb__rest_request q = {
        .http = {.method = request->method,
                 .body = request->body,
                 .writes = request->writes,
                 .idle_ms_max = (uint32_t)request->wait_ms,
                 .reply_bytes_max = HADB_LEASE_RECORD_BYTES_MAX},
    };
    int at = snprintf(tail, sizeof(tail), "/%s", request->key);
    if (request->wait_ms > 0) {
        at += snprintf(tail + at, sizeof(tail) - (size_t)at, "?wait_ms=%" PRIu64, request->wait_ms);
    }
    HADB_ASSERT((size_t)at < sizeof(tail));
    if (request->condition) {
        hadb__rest_header(&q, request->condition, request->tag);
    }
    if (request->writes) {
        hadb__rest_header(&q, "Content-Type", "application/octet-stream");
    }
    int r = hadb__rest_prepare(&l->rest, call, tail, &q, err);
    if (r == 0) {
        hadb__http_perform(l->rest.http, &q.http, call, reply);
    }
    return r;
}

/* --- what a reply means ------------------------------------------------------------------------- */

/* 0 with a record or a stored one's tag in @reply; HADB_ABSENT, HADB_CAS_LOST. */
static int outcome(const struct http_leases *l, const struct hadb__http_reply *reply, bool writes,
                   struct hadb_error *err)
{
    if (reply->failure != HADB__HTTP_FINE) {
        return hadb__net_unheard(reply->failure, writes, reply->sent, reply->text, err);
    }
    int status = reply->status;
    if (status == 412 && writes) {
        return HADB_CAS_LOST;
    }
    if (hadb__rest_says_absent(reply)) {
        return writes ? HADB_CAS_LOST : HADB_ABSENT;
    }
    if (status < 200 || status > 299) {
        return hadb__rest_refused(&l->rest, reply, writes, err);
    }
    if (status != 200 && !(writes && (status == 201 || status == 204))) {
        return hadb__rest_garbled(reply, writes, "does not belong to this request", err);
    }
    if (!writes && reply->length < 0 && !reply->chunked) {
        return hadb__rest_garbled(reply, writes,
                                  "without a length: the end of the body cannot be told", err);
    }
    return hadb__rest_tag_is_strong(reply->etag)
               ? 0
               : hadb__rest_garbled(reply, writes, "without a strong etag", err);
}

/* --- methods ------------------------------------------------------------------------------------ */

static int http_read(void *self, const struct hadb_call *call, const char *key,
                     struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    struct http_leases *l = self;
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    const struct request request = {.method = "GET", .key = key};
    int r = hadb_call_check(l->rest.env, call, err);
    if (r) {
        return r;
    }
    r = perform(l, call, &request, &reply, err);
    r = r ? r : outcome(l, &reply, false, err);
    if (r == 0) {
        snprintf(tag->s, sizeof(tag->s), "%s", reply.etag);
        hadb_buf_deinit(out);
        *out = hadb_buf_take(&reply.body);
    }
    return hadb__rest_wrap(&l->rest, "read", r, err);
}

static int http_write(void *self, const struct hadb_call *call, const char *key,
                      struct hadb_slice record, const struct hadb_tag *expected,
                      struct hadb_tag *tag, struct hadb_error *err)
{
    struct http_leases *l = self;
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    const struct request request = {.method = "PUT",
                                    .key = key,
                                    .condition = expected ? "If-Match" : "If-None-Match",
                                    .tag = expected ? expected->s : "*",
                                    .body = record,
                                    .writes = true};
    int r = hadb__lease_write_check(l->rest.env, call, err);
    if (r) {
        return r;
    }
    if (expected && !hadb__rest_tag_is_strong(expected->s)) {
        return HADB_CAS_LOST; /* a tag of another store is nobody's here */
    }
    if (hadb_buf_reserve(&reply.body, HADB_REST_WRITE_REPLY_BYTES_MAX)) {
        return hadb_fail_nomem(err);
    }
    r = perform(l, call, &request, &reply, err);
    r = r ? r : outcome(l, &reply, true, err);
    if (r == 0) {
        snprintf(tag->s, sizeof(tag->s), "%s", reply.etag);
    }
    return hadb__rest_wrap(&l->rest, "write", r, err);
}

/* One GET of a watch: HADB_END when nothing has changed yet. */
static int watch_once(struct http_leases *l, const struct hadb_call *call, const char *key,
                      const struct hadb_tag *seen, struct hadb_error *err)
{
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    struct request request = {.method = "GET", .key = key};
    request.condition = seen ? "If-None-Match" : NULL;
    request.tag = seen ? seen->s : NULL;
    request.wait_ms = HADB_MIN(hadb_call_left_ms(l->rest.env, call), (uint64_t)WAIT_MS_MAX);
    request.wait_ms = HADB_MAX(request.wait_ms, (uint64_t)1);
    int r = perform(l, call, &request, &reply, err);
    if (r) {
        return r;
    }
    if (reply.failure == HADB__HTTP_FINE && reply.status == 304 && seen) {
        return HADB_END;
    }
    r = outcome(l, &reply, false, err);
    if (r == HADB_ABSENT) {
        return seen ? 0 : HADB_END;
    }
    return r == 0 && seen && strcmp(reply.etag, seen->s) == 0 ? HADB_END : r;
}

static int http_watch(void *self, const struct hadb_call *call, const char *key,
                      const struct hadb_tag *seen, struct hadb_error *err)
{
    struct http_leases *l = self;
    if (seen && !hadb__rest_tag_is_strong(seen->s)) {
        return 0; /* whatever is there has another tag */
    }
    for (;;) {
        if (hadb_call_cancelled(call)) {
            return hadb_fail(err, HADB_ECANCELED, "watch was cancelled");
        }
        uint64_t start_ms = hadb_now_ms(l->rest.env);
        int r = watch_once(l, call, key, seen, err);
        if (r == 0) {
            return 0;
        }
        uint64_t left = hadb_call_left_ms(l->rest.env, call);
        if (r < 0 && left > 0) {
            return hadb__rest_wrap(&l->rest, "watch", r, err);
        }
        if (left == 0) {
            return HADB_END;
        }
        uint64_t took = hadb_now_ms(l->rest.env) - start_ms;
        if (took < WATCH_PAUSE_MS) {
            hadb_sleep_ms(HADB_MIN(left, WATCH_PAUSE_MS - took), call);
        }
    }
}

static void http_close(void *self)
{
    struct http_leases *l = self;
    hadb__rest_deinit(&l->rest);
    hadb_free(l);
}

static const struct hadb_lease_ops http_ops = {
    .abi = HADB_LEASE_ABI,
    .scheme = "http",
    .read = http_read,
    .write_if_match = http_write,
    .watch = http_watch,
    .close = http_close,
};

/* --- opening ------------------------------------------------------------------------------------ */

int hadb__lease_http_open(const struct hadb_url *url, const struct hadb_env *env,
                          struct hadb_lease *out, struct hadb_error *err)
{
    static const char *const known[] = {HADB_PLACE_PARAMS, NULL};
    static const struct hadb__rest_kind kind = {
        .component = "lease", .service = "lease service", .base = "/v1/lease", .known = known};
    struct http_leases *l = hadb_calloc(1, sizeof(*l));
    if (!l) {
        return hadb_fail_nomem(err);
    }
    int r = hadb__rest_open(url, env, &kind, &l->rest, err);
    if (r) {
        http_close(l);
        return r;
    }
    *out = (struct hadb_lease){.ops = &http_ops, .self = l};
    return 0;
}
