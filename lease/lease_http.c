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
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/base64.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/util.h"
#include "lease/lease_private.h"
#include "lease/place.h"

#define HTTP_BASE "/v1/lease"
#define WAIT_MS_MAX 20000u      /* one GET of a watch is held so long at most */
#define WATCH_PAUSE_MS 200u     /* between two GETs where the server does not hold them */
#define WRITE_REPLY_BYTES 4096u /* room that is made before a write leaves */
#define URL_BYTES (HADB_LEASE_PREFIX_BYTES_MAX * 3 + HADB_LEASE_KEY_BYTES_MAX + 400)

struct http_leases {
    const struct hadb_env *env; /* const after init, like all below */
    struct hadb__lease_place place;
    char *base;          /* begins with a slash, does not end in one; percent-encoded */
    char *authorization; /* value of the header; NULL = none */
    struct hadb__http *http;
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

static void perform(struct http_leases *l, const struct hadb_call *call,
                    const struct request *request, struct hadb__http_reply *reply)
{
    const struct hadb__lease_host *host = &l->place.hosts[0];
    char url[URL_BYTES], deadline[24];
    struct hadb__http_header headers[4];
    size_t len = 0;
    uint64_t left = hadb_call_left_ms(l->env, call);
    int at = snprintf(url, sizeof(url), "%s://%s:%" PRIu16 "%s/%s", l->place.tls ? "https" : "http",
                      host->name, host->port, l->base, request->key);
    if (request->wait_ms > 0) {
        at += snprintf(url + at, sizeof(url) - (size_t)at, "?wait_ms=%" PRIu64, request->wait_ms);
    }
    HADB_ASSERT((size_t)at < sizeof(url));
    if (l->authorization) {
        headers[len++] = (struct hadb__http_header){"Authorization", l->authorization};
    }
    if (request->condition) {
        headers[len++] = (struct hadb__http_header){request->condition, request->tag};
    }
    if (request->writes) {
        headers[len++] = (struct hadb__http_header){"Content-Type", "application/octet-stream"};
    }
    if (left <= UINT32_MAX) {
        snprintf(deadline, sizeof(deadline), "%" PRIu64, HADB_MAX(left, (uint64_t)1));
        headers[len++] = (struct hadb__http_header){"Hadb-Deadline-Ms", deadline};
    }
    struct hadb__http_request http = {
        .method = request->method,
        .url = url,
        .headers = headers,
        .headers_len = len,
        .body = request->body,
        .writes = request->writes,
        .reply_bytes_max = HADB_LEASE_RECORD_BYTES_MAX,
        .connect_ms_max = l->place.connect_ms_max,
        .idle_ms_max = (uint32_t)(l->place.idle_ms_max + request->wait_ms),
        .ca = l->place.ca,
        .cert = l->place.cert,
        .key = l->place.key,
        .direct = l->place.loopback,
    };
    hadb__http_perform(l->http, &http, call, reply);
}

/* --- what a reply means ------------------------------------------------------------------------- */

/* {"error":NAME,"message":TEXT}; "" where the body is something else. */
struct said {
    char name[24];
    char text[160];
};

static void read_said(const struct hadb__http_reply *reply, struct said *out)
{
    *out = (struct said){0};
    json_t *root = json_loadb(reply->error_body, reply->error_len, JSON_REJECT_DUPLICATES, NULL);
    const char *name = json_string_value(json_object_get(root, "error"));
    const char *text = json_string_value(json_object_get(root, "message"));
    snprintf(out->name, sizeof(out->name), "%.23s", name ? name : "");
    snprintf(out->text, sizeof(out->text), "%.159s", text ? text : "");
    json_decref(root);
}

static int fail_status(const struct hadb__http_reply *reply, const struct said *said, int code,
                       const char *advice, struct hadb_error *err)
{
    hadb_fail(err, code, "status %d%s%s%s%s", reply->status, said->name[0] ? " " : "", said->name,
              said->text[0] ? ": " : "", said->text);
    if (err) {
        err->http_status = reply->status;
    }
    return advice ? hadb_advise(err, code, advice) : code;
}

static int outcome_of_refusal(const struct hadb__http_reply *reply, bool writes,
                              struct hadb_error *err)
{
    struct said said;
    int status = reply->status;
    read_said(reply, &said);
    if (status == 412 && writes) {
        return HADB_CAS_LOST;
    }
    if (status == 404 && strcmp(said.name, "ABSENT") == 0) {
        return writes ? HADB_CAS_LOST : HADB_ABSENT;
    }
    if (hadb__http_says_nothing(status)) {
        return fail_status(reply, &said, writes ? HADB_ETIMEDOUT : HADB_EUNAVAIL, NULL, err);
    }
    if (status == 401 || status == 403) {
        return fail_status(reply, &said, HADB_EAUTH, "check the token of the url", err);
    }
    if (status == 413) {
        return fail_status(reply, &said, HADB_ETOOBIG, NULL, err);
    }
    if (status >= 300 && status <= 399) {
        return fail_status(reply, &said, HADB_EINVAL,
                           "redirects are not followed: name the service itself", err);
    }
    return fail_status(reply, &said, HADB_EIO,
                       said.name[0] ? NULL : "is this the address of a lease service?", err);
}

static int garbled(const struct hadb__http_reply *reply, bool writes, const char *what,
                   struct hadb_error *err)
{
    return hadb_fail(err, writes ? HADB_ETIMEDOUT : HADB_EIO, "status %d %s", reply->status, what);
}

static bool is_strong(const char *etag)
{
    size_t len = strlen(etag);
    return len >= 3 && etag[0] == '"' && etag[len - 1] == '"' && !strchr(etag, ' ') &&
           memchr(etag + 1, '"', len - 1) == etag + len - 1;
}

/* 0 with a record or a stored one's tag in @reply; HADB_ABSENT, HADB_CAS_LOST. */
static int outcome(const struct hadb__http_reply *reply, bool writes, struct hadb_error *err)
{
    if (reply->failure != HADB__HTTP_FINE) {
        return hadb__lease_unheard(reply->failure, writes, reply->sent, reply->text, err);
    }
    int status = reply->status;
    if (status < 200 || status > 299) {
        return outcome_of_refusal(reply, writes, err);
    }
    if (status != 200 && !(writes && (status == 201 || status == 204))) {
        return garbled(reply, writes, "does not belong to this request", err);
    }
    if (!writes && reply->length < 0 && !reply->chunked) {
        return garbled(reply, writes, "without a length: the end of the body cannot be told", err);
    }
    return is_strong(reply->etag) ? 0 : garbled(reply, writes, "without a strong etag", err);
}

static int wrap(const struct http_leases *l, const char *what, int r, struct hadb_error *err)
{
    const struct hadb__lease_host *host = &l->place.hosts[0];
    return hadb_wrap(err, r, "lease service %s at %.60s:%" PRIu16, what, host->name, host->port);
}

/* --- methods ------------------------------------------------------------------------------------ */

static int http_read(void *self, const struct hadb_call *call, const char *key,
                     struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    struct http_leases *l = self;
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    const struct request request = {.method = "GET", .key = key};
    int r = hadb_call_check(l->env, call, err);
    if (r) {
        return r;
    }
    perform(l, call, &request, &reply);
    r = outcome(&reply, false, err);
    if (r == 0) {
        snprintf(tag->s, sizeof(tag->s), "%s", reply.etag);
        hadb_buf_deinit(out);
        *out = hadb_buf_take(&reply.body);
    }
    return wrap(l, "read", r, err);
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
    int r = hadb__lease_write_check(l->env, call, err);
    if (r) {
        return r;
    }
    if (expected && !is_strong(expected->s)) {
        return HADB_CAS_LOST; /* a tag of another store is nobody's here */
    }
    if (hadb_buf_reserve(&reply.body, WRITE_REPLY_BYTES)) {
        return hadb_fail_nomem(err);
    }
    perform(l, call, &request, &reply);
    r = outcome(&reply, true, err);
    if (r == 0) {
        snprintf(tag->s, sizeof(tag->s), "%s", reply.etag);
    }
    return wrap(l, "write", r, err);
}

/* One GET of a watch: HADB_END when nothing has changed yet. */
static int watch_once(struct http_leases *l, const struct hadb_call *call, const char *key,
                      const struct hadb_tag *seen, struct hadb_error *err)
{
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    struct request request = {.method = "GET", .key = key};
    request.condition = seen ? "If-None-Match" : NULL;
    request.tag = seen ? seen->s : NULL;
    request.wait_ms = HADB_MIN(hadb_call_left_ms(l->env, call), (uint64_t)WAIT_MS_MAX);
    request.wait_ms = HADB_MAX(request.wait_ms, (uint64_t)1);
    perform(l, call, &request, &reply);
    if (reply.failure == HADB__HTTP_FINE && reply.status == 304 && seen) {
        return HADB_END;
    }
    int r = outcome(&reply, false, err);
    if (r == HADB_ABSENT) {
        return seen ? 0 : HADB_END;
    }
    return r == 0 && seen && strcmp(reply.etag, seen->s) == 0 ? HADB_END : r;
}

static int http_watch(void *self, const struct hadb_call *call, const char *key,
                      const struct hadb_tag *seen, struct hadb_error *err)
{
    struct http_leases *l = self;
    if (seen && !is_strong(seen->s)) {
        return 0; /* whatever is there has another tag */
    }
    for (;;) {
        if (hadb_call_cancelled(call)) {
            return hadb_fail(err, HADB_ECANCELED, "watch was cancelled");
        }
        uint64_t start_ms = hadb_now_ms(l->env);
        int r = watch_once(l, call, key, seen, err);
        if (r == 0) {
            return 0;
        }
        uint64_t left = hadb_call_left_ms(l->env, call);
        if (r < 0 && left > 0) {
            return wrap(l, "watch", r, err);
        }
        if (left == 0) {
            return HADB_END;
        }
        uint64_t took = hadb_now_ms(l->env) - start_ms;
        if (took < WATCH_PAUSE_MS) {
            hadb_sleep_ms(HADB_MIN(left, WATCH_PAUSE_MS - took), call);
        }
    }
}

static void http_close(void *self)
{
    struct http_leases *l = self;
    hadb__http_close(l->http);
    hadb__lease_place_deinit(&l->place);
    hadb__lease_secret_free(l->authorization);
    hadb_free(l->base);
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

static bool printable(const char *text)
{
    for (; *text; text++) {
        if (*text < 0x21 || *text > 0x7e) {
            return false;
        }
    }
    return true;
}

static int read_secret(struct http_leases *l, struct hadb_error *err)
{
    struct hadb_buf value = {0}, pair = {0};
    const struct hadb__lease_place *place = &l->place;
    int r = 0;
    if (place->user && place->password) {
        r = hadb_buf_printf(&pair, "%s:%s", place->user, place->password);
        r = r ? r : hadb_buf_append_str(&value, "Basic ");
        r = r ? r : hadb__base64_encode(hadb_buf_slice(&pair), &value);
    } else if (place->user || place->password) {
        const char *token = place->user ? place->user : place->password;
        if (!printable(token)) {
            return hadb_fail(err, HADB_EINVAL, "a token has printable characters only");
        }
        r = hadb_buf_printf(&value, "Bearer %s", token);
    }
    if (r == 0 && value.len > 0) {
        const char *text = hadb_buf_cstr(&value);
        l->authorization = text ? hadb_strdup(text) : NULL;
        r = l->authorization ? 0 : HADB_ENOMEM;
    }
    struct hadb_buf *bufs[] = {&value, &pair};
    for (size_t i = 0; i < HADB_LEN(bufs); i++) {
        if (bufs[i]->data) {
            memset(bufs[i]->data, 0, bufs[i]->cap);
        }
        hadb_buf_deinit(bufs[i]);
    }
    return r ? hadb_fail_nomem(err) : 0;
}

/* Percent-encodes each part of the path. */
static int read_base(const char *path, struct http_leases *l, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf base = {0};
    char *plain = NULL;
    int r =
        hadb__lease_prefix_copy(strcmp(path, "/") == 0 || !path[0] ? HTTP_BASE : path, &plain, err);
    if (r) {
        return r;
    }
    size_t len = strlen(plain);
    len -= plain[len - 1] == '/';
    for (size_t at = 0; at < len && r == 0;) {
        size_t part = strcspn(plain + at + 1, "/");
        part = HADB_MIN(part, len - at - 1);
        r = hadb_buf_append_str(&base, "/");
        r = r ? r : hadb_percent_encode(hadb_slice(plain + at + 1, part), &base);
        at += part + 1;
    }
    hadb_free(plain);
    const char *text = r ? NULL : hadb_buf_cstr(&base);
    l->base = text ? hadb_strdup(text) : NULL;
    return l->base ? 0 : hadb_fail_nomem(err);
}

static int http_init(struct http_leases *l, const struct hadb_url *url, struct hadb_error *err)
{
    static const char *const known[] = {HADB_LEASE_PLACE_PARAMS, NULL};
    bool tls = strcmp(url->scheme, "https") == 0;
    int r = hadb_url_params_known(url, known, err);
    r = r ? r : hadb__lease_place_open(url, l->env, tls, tls ? 443 : 80, 1, &l->place, err);
    r = r ? r : read_base(url->path, l, err);
    r = r ? r : read_secret(l, err);
    return r ? r : hadb__http_open(l->env, &l->http, err);
}

int hadb__lease_http_open(const struct hadb_url *url, const struct hadb_env *env,
                          struct hadb_lease *out, struct hadb_error *err)
{
    struct http_leases *l = hadb_calloc(1, sizeof(*l));
    if (!l) {
        return hadb_fail_nomem(err);
    }
    l->env = env;
    int r = http_init(l, url, err);
    if (r) {
        http_close(l);
        return r;
    }
    *out = (struct hadb_lease){.ops = &http_ops, .self = l};
    return 0;
}
