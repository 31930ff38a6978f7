/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what clients of our REST services have in common: URL, credentials, requests, and the table of refusals.
 *
 * Thread: any; constant after open but for the pool of connections (base/http.c).
 * Invariants: secrets are wiped when they are freed and part of no message. A write that was refused with 4xx is surely
 * not done, but for 408, 409, 425, 429 and 499, which like 5xx leave it unknown: somebody on the way may have said that.
 * Happy path: open once; prepare, perform, judge.
 * Failure modes: HADB_EINVAL naming the part of the URL; those of base/place.c; HADB_ENOMEM.
 */
#include "base/rest.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/base64.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"

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

static int read_secret(struct hadb__rest *rest, struct hadb_error *err)
{
    struct hadb_buf value = {0}, pair = {0};
    const struct hadb__net_place *place = &rest->place;
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
        rest->authorization = text ? hadb_strdup(text) : NULL;
        r = rest->authorization ? 0 : HADB_ENOMEM;
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
static int read_base(const char *path, struct hadb__rest *rest, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf base = {0};
    char *plain = NULL;
    bool none = strcmp(path, "/") == 0 || !path[0];
    int r = hadb__net_prefix_copy(none ? rest->kind->base : path, &plain, err);
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
    rest->base = text ? hadb_strdup(text) : NULL;
    return rest->base ? 0 : hadb_fail_nomem(err);
}

int hadb__rest_open(const struct hadb_url *url, const struct hadb_env *env,
                    const struct hadb__rest_kind *kind, struct hadb__rest *out,
                    struct hadb_error *err)
{
    bool tls = strcmp(url->scheme, "https") == 0;
    *out = (struct hadb__rest){.env = env, .kind = kind};
    int r = hadb_url_params_known(url, kind->known, err);
    r = r ? r
          : hadb__net_place_open(url, env, kind->component, tls, tls ? 443 : 80, 1, &out->place,
                                 err);
    r = r ? r : read_base(url->path, out, err);
    r = r ? r : read_secret(out, err);
    return r ? r : hadb__http_open(env, &out->http, err);
}

void hadb__rest_deinit(struct hadb__rest *rest)
{
    hadb__http_close(rest->http);
    hadb__net_place_deinit(&rest->place);
    hadb__secret_free(rest->authorization);
    hadb_free(rest->base);
    *rest = (struct hadb__rest){0};
}

/* --- requests ----------------------------------------------------------------------------------- */

void hadb__rest_header(struct hadb__rest_request *q, const char *name, const char *value)
{
    HADB_ASSERT(q->http.headers_len < HADB_REST_HEADERS_MAX);
    q->headers[q->http.headers_len++] = (struct hadb__http_header){name, value};
}

int hadb__rest_prepare(const struct hadb__rest *rest, const struct hadb_call *call,
                       const char *tail, struct hadb__rest_request *q, struct hadb_error *err)
{
    const struct hadb__net_place *place = &rest->place;
    uint64_t left = hadb_call_left_ms(rest->env, call);
    hadb_buf_clear(&q->url);
    if (hadb_buf_printf(&q->url, "%s://%s:%" PRIu16 "%s%s", place->tls ? "https" : "http",
                        place->hosts[0].name, place->hosts[0].port, rest->base, tail) ||
        !hadb_buf_cstr(&q->url)) {
        return hadb_fail_nomem(err);
    }
    if (rest->authorization) {
        hadb__rest_header(q, "Authorization", rest->authorization);
    }
    left = HADB_MIN(left, (uint64_t)HADB_REST_DEADLINE_MS_MAX);
    snprintf(q->deadline, sizeof(q->deadline), "%" PRIu64, HADB_MAX(left, (uint64_t)1));
    hadb__rest_header(q, "Hadb-Deadline-Ms", q->deadline);
    q->http.url = (const char *)q->url.data;
    q->http.headers = q->headers;
    q->http.connect_ms_max = place->connect_ms_max;
    q->http.idle_ms_max += place->idle_ms_max;
    q->http.ca = place->ca;
    q->http.cert = place->cert;
    q->http.key = place->key;
    q->http.direct = place->loopback;
    return 0;
}

void hadb__rest_request_deinit(struct hadb__rest_request *q)
{
    hadb_buf_deinit(&q->url);
}

/* --- what a reply means ------------------------------------------------------------------------- */

void hadb__rest_said(const struct hadb__http_reply *reply, struct hadb__rest_said *out)
{
    *out = (struct hadb__rest_said){0};
    json_t *root = json_loadb(reply->error_body, reply->error_len, JSON_REJECT_DUPLICATES, NULL);
    const char *name = json_string_value(json_object_get(root, "error"));
    const char *text = json_string_value(json_object_get(root, "message"));
    snprintf(out->name, sizeof(out->name), "%.23s", name ? name : reply->refusal);
    snprintf(out->text, sizeof(out->text), "%.159s", text ? text : "");
    json_decref(root);
}

bool hadb__rest_says_absent(const struct hadb__http_reply *reply)
{
    struct hadb__rest_said said;
    if (reply->status != 404) {
        return false;
    }
    hadb__rest_said(reply, &said);
    return strcmp(said.name, "ABSENT") == 0;
}

static int fail_status(const struct hadb__http_reply *reply, const struct hadb__rest_said *said,
                       int code, const char *advice, struct hadb_error *err)
{
    hadb_fail(err, code, "status %d%s%s%s%s", reply->status, said->name[0] ? " " : "", said->name,
              said->text[0] ? ": " : "", said->text);
    if (err) {
        err->http_status = reply->status;
    }
    return advice ? hadb_advise(err, code, advice) : code;
}

/* A request that the service did not like, or somebody who is no such service. */
static int fail_disliked(const struct hadb__rest *rest, const struct hadb__http_reply *reply,
                         const struct hadb__rest_said *said, struct hadb_error *err)
{
    char advice[64];
    snprintf(advice, sizeof(advice), "is this the address of a %s?", rest->kind->service);
    fail_status(reply, said, HADB_EIO, said->name[0] ? NULL : advice, err);
    if (err) { /* what was damaged on the way may arrive whole, what is lacking may come back */
        err->retryable = reply->status == 404 || strcmp(said->name, "BAD_DIGEST") == 0;
    }
    return HADB_EIO;
}

int hadb__rest_refused(const struct hadb__rest *rest, const struct hadb__http_reply *reply,
                       bool writes, struct hadb_error *err)
{
    struct hadb__rest_said said;
    int status = reply->status;
    hadb__rest_said(reply, &said);
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
    return fail_disliked(rest, reply, &said, err);
}

int hadb__rest_garbled(const struct hadb__http_reply *reply, bool writes, const char *what,
                       struct hadb_error *err)
{
    int code = writes ? HADB_ETIMEDOUT : HADB_EIO;
    hadb_fail(err, code, "status %d %s", reply->status, what);
    if (err) {
        err->http_status = reply->status;
    }
    return code;
}

bool hadb__rest_tag_is_strong(const char *etag)
{
    size_t len = strlen(etag);
    return len >= 3 && etag[0] == '"' && etag[len - 1] == '"' && printable(etag) &&
           memchr(etag + 1, '"', len - 1) == etag + len - 1;
}

int hadb__rest_wrap(const struct hadb__rest *rest, const char *what, int r, struct hadb_error *err)
{
    const struct hadb__net_place_host *host = &rest->place.hosts[0];
    return hadb_wrap(err, r, "%s %s at %.60s:%" PRIu16, rest->kind->service, what, host->name,
                     host->port);
}
