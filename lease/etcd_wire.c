/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what the lease store "etcd://" sends: the choice of a member, the token of a user, the verdict on a refusal.
 *
 * Thread: any. The token is under a mutex; the member that answered last is an atomic (relaxed: any will do).
 * Invariants: a write that a member may have seen goes to no other one. A token is asked for once more after a
 * refusal, which is proof that nothing was written; a second refusal counts.
 * Happy path: take the token, send to the member that answered last.
 * Failure modes: by the outcome rule; 5xx and garbled replies to a write are unknown.
 */
#include "lease/etcd_wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/thread.h"
#include "base/util.h"
#include "lease/lease_private.h"

#define URL_BYTES 400
#define TOKEN_BYTES_MAX 4096u
#define WRITE_REPLY_BYTES 4096u /* room that is made before a write leaves */
#define GRPC_INVALID_ARGUMENT 3
#define GRPC_PERMISSION_DENIED 7
#define GRPC_RESOURCE_EXHAUSTED 8
#define GRPC_UNAUTHENTICATED 16

struct hadb__etcd {
    const struct hadb__net_place *place;
    const struct hadb_env *env;
    struct hadb__http *http;
    struct hadb_mutex mu;
    char *token;      /* mu; NULL = none yet */
    unsigned current; /* atomic; index of the member that answered last */
};

/* --- what a refusal means ----------------------------------------------------------------------- */

struct said {
    char text[160];
    int code; /* of gRPC; -1 = the body is not etcd's */
};

static void read_said(const struct hadb__http_reply *reply, struct said *out)
{
    *out = (struct said){.code = -1};
    json_t *root = json_loadb(reply->error_body, reply->error_len, JSON_DISABLE_EOF_CHECK, NULL);
    const char *text = json_string_value(json_object_get(root, "error"));
    const json_t *code = json_object_get(root, "code");
    if (text && json_is_integer(code)) {
        out->code = (int)json_integer_value(code);
        snprintf(out->text, sizeof(out->text), "%.159s", text);
    }
    json_decref(root);
}

static int fail_status(const struct hadb__http_reply *reply, const struct said *said, int code,
                       const char *advice, struct hadb_error *err)
{
    hadb_fail(err, code, "status %d%s%s", reply->status, said->text[0] ? ": " : "", said->text);
    if (err) {
        err->http_status = reply->status;
    }
    return advice ? hadb_advise(err, code, advice) : code;
}

/* Does the refusal say that the token is worth nothing (any more)? Then nothing was done. */
static bool is_token_refused(const struct hadb__http_reply *reply)
{
    struct said said;
    if (reply->failure != HADB__HTTP_FINE || reply->status < 400 || reply->status > 499) {
        return false;
    }
    read_said(reply, &said);
    return said.code == GRPC_UNAUTHENTICATED ||
           (said.code == GRPC_INVALID_ARGUMENT &&
            (strstr(said.text, "user name is empty") || strstr(said.text, "auth store is old")));
}

static int fail_refused(const struct hadb__http_reply *reply, bool writes, struct hadb_error *err)
{
    struct said said;
    int status = reply->status;
    read_said(reply, &said);
    if (said.code == GRPC_RESOURCE_EXHAUSTED) {
        /* That there was no space it also says of a transaction that it has just applied. */
        bool full = strstr(said.text, "space") != NULL;
        int code = !full ? HADB_EUNAVAIL : writes ? HADB_ETIMEDOUT : HADB_ENOSPC;
        return fail_status(reply, &said, code, full ? "compact and defragment the cluster" : NULL,
                           err);
    }
    if (hadb__http_says_nothing(status)) {
        return fail_status(reply, &said, writes ? HADB_ETIMEDOUT : HADB_EUNAVAIL, NULL, err);
    }
    if (said.code == GRPC_UNAUTHENTICATED || said.code == GRPC_PERMISSION_DENIED || status == 401 ||
        status == 403 || strstr(said.text, "auth")) {
        return fail_status(reply, &said, HADB_EAUTH, "check user, password and rights", err);
    }
    if (strstr(said.text, "user name is empty")) {
        return fail_status(reply, &said, HADB_EAUTH, "put user:password@ into the url", err);
    }
    if (said.code < 0) {
        return fail_status(reply, &said, HADB_EIO,
                           "is this an etcd 3.4 or newer with its JSON gateway?", err);
    }
    return fail_status(reply, &said, HADB_EIO, NULL, err);
}

/* --- one request at one member ------------------------------------------------------------------ */

static void send_to(struct hadb__etcd *e, const struct hadb_call *call, unsigned member,
                    const struct hadb__etcd_request *request, const char *token,
                    uint32_t connect_ms_max, struct hadb__http_reply *reply)
{
    const struct hadb__net_place *place = e->place;
    const struct hadb__net_place_host *host = &place->hosts[member];
    char url[URL_BYTES];
    const struct hadb__http_header headers[] = {{"Content-Type", "application/json"},
                                                {"Authorization", token}};
    snprintf(url, sizeof(url), "%s://%s:%" PRIu16 "%s", place->tls ? "https" : "http", host->name,
             host->port, request->path);
    struct hadb__http_request http = {
        .method = "POST",
        .url = url,
        .headers = headers,
        .headers_len = token ? 2 : 1,
        .body = request->body,
        .writes = request->writes,
        .reply_bytes_max = HADB_ETCD_REPLY_BYTES_MAX,
        .connect_ms_max = connect_ms_max,
        .idle_ms_max = request->enough ? UINT32_MAX : place->idle_ms_max,
        .ca = place->ca,
        .cert = place->cert,
        .key = place->key,
        .enough = request->enough,
        .enough_arg = request->enough_arg,
        .direct = place->loopback,
    };
    hadb__http_perform(e->http, &http, call, reply);
}

/* May another member be asked? Only a request that no member can have seen, or that changes nothing. */
static bool may_go_on(const struct hadb__etcd_request *request,
                      const struct hadb__http_reply *reply)
{
    switch (reply->failure) {
    case HADB__HTTP_FINE:
        return reply->status >= 500 && !request->writes;
    case HADB__HTTP_CANCELED:
    case HADB__HTTP_NO_MEMORY:
    case HADB__HTTP_TOO_BIG:
        return false;
    default:
        return !reply->sent || !request->writes;
    }
}

/* Sends to the member that answered last, then to the others in turn. Each that is followed by another one gets
 * its share of the time that is left, so that a member that hangs does not use up all of it. */
static void send_to_any(struct hadb__etcd *e, const struct hadb_call *call,
                        const struct hadb__etcd_request *request, const char *token,
                        struct hadb__http_reply *reply, unsigned *member)
{
    unsigned len = (unsigned)e->place->hosts_len;
    unsigned first = __atomic_load_n(&e->current, __ATOMIC_RELAXED) % len;
    for (unsigned i = 0; i < len; i++) {
        struct hadb_call part = call ? *call : (struct hadb_call){0};
        uint64_t left = hadb_call_left_ms(e->env, call);
        uint64_t share = HADB_MAX(left / (len - i), (uint64_t)1);
        if (i + 1 < len && !request->writes && left != UINT64_MAX) {
            part.deadline_ms = hadb_now_ms(e->env) + share;
        }
        *member = (first + i) % len;
        send_to(e, &part, *member, request, token,
                (uint32_t)HADB_MIN(share, (uint64_t)e->place->connect_ms_max), reply);
        if (!may_go_on(request, reply) || i + 1 == len || hadb_call_check(e->env, call, NULL)) {
            break;
        }
    }
    bool answered = reply->failure == HADB__HTTP_FINE && reply->status < 500;
    __atomic_store_n(&e->current, answered ? *member : (*member + 1) % len, __ATOMIC_RELAXED);
}

/* --- the token ---------------------------------------------------------------------------------- */

static int token_copy(struct hadb__etcd *e, char **out, struct hadb_error *err)
{
    hadb_mutex_lock(&e->mu);
    *out = e->token ? hadb_strdup(e->token) : NULL;
    bool failed = e->token && !*out;
    hadb_mutex_unlock(&e->mu);
    return failed ? hadb_fail_nomem(err) : 0;
}

/* Forgets the token, if it is still this one. */
static void token_drop(struct hadb__etcd *e, const char *token)
{
    hadb_mutex_lock(&e->mu);
    if (e->token && strcmp(e->token, token) == 0) {
        hadb__secret_free(e->token);
        e->token = NULL;
    }
    hadb_mutex_unlock(&e->mu);
}

static int token_keep(struct hadb__etcd *e, const struct hadb__http_reply *reply,
                      struct hadb_error *err)
{
    json_t *root = json_loadb(reply->body.data ? (const char *)reply->body.data : "",
                              reply->body.len, 0, NULL);
    const char *text = json_string_value(json_object_get(root, "token"));
    bool fits = text && text[0] && strlen(text) <= TOKEN_BYTES_MAX &&
                strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                             "-._~+/=") == strlen(text);
    char *token = fits ? hadb_strdup(text) : NULL;
    json_decref(root);
    if (!fits) {
        return hadb_fail(err, HADB_EIO, "the reply to the login has no token");
    }
    if (!token) {
        return hadb_fail_nomem(err);
    }
    hadb_mutex_lock(&e->mu);
    hadb__secret_free(e->token);
    e->token = token;
    hadb_mutex_unlock(&e->mu);
    return 0;
}

static int login(struct hadb__etcd *e, const struct hadb_call *call, struct hadb_error *err)
{
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    json_t *form = json_pack("{s:s, s:s}", "name", e->place->user, "password",
                             e->place->password ? e->place->password : "");
    char *body = form ? json_dumps(form, JSON_COMPACT) : NULL;
    json_decref(form);
    if (!body) {
        return hadb_fail(err, HADB_EINVAL, "user and password must be UTF-8");
    }
    const struct hadb__etcd_request request = {.path = "/v3/auth/authenticate",
                                               .body = hadb_slice_str(body)};
    unsigned member = 0;
    send_to_any(e, call, &request, NULL, &reply, &member);
    memset(body, 0, strlen(body));
    free(body); /* foreign: json_dumps */
    int r = reply.failure != HADB__HTTP_FINE
                ? hadb__net_unheard(reply.failure, false, reply.sent, reply.text, err)
            : reply.status != 200 ? fail_refused(&reply, false, err)
                                  : token_keep(e, &reply, err);
    return hadb_wrap(err, r, "login");
}

/* --- one request -------------------------------------------------------------------------------- */

static int outcome(const struct hadb__etcd_request *request, const struct hadb__http_reply *reply,
                   struct hadb_error *err)
{
    if (reply->failure != HADB__HTTP_FINE) {
        return hadb__net_unheard(reply->failure, request->writes, reply->sent, reply->text, err);
    }
    return reply->status == 200 ? 0 : fail_refused(reply, request->writes, err);
}

/* A login on the way of a write changes nothing: what is unknown about it is surely not a write. */
static int login_result(const struct hadb__etcd_request *request, int r)
{
    return request->writes && (r == HADB_ETIMEDOUT || r == HADB_EIO) ? HADB_EUNAVAIL : r;
}

static int attempt(struct hadb__etcd *e, const struct hadb_call *call,
                   const struct hadb__etcd_request *request, bool fresh,
                   struct hadb__http_reply *reply, unsigned *member, struct hadb_error *err)
{
    char *token = NULL;
    int r = fresh ? login(e, call, err) : 0;
    r = r ? r : token_copy(e, &token, err);
    if (r == 0 && !token && e->place->user) {
        r = login(e, call, err);
        r = r ? r : token_copy(e, &token, err);
    }
    if (r) {
        hadb__secret_free(token);
        int code = login_result(request, r);
        if (err) {
            err->code = code;
            err->retryable = code == HADB_EUNAVAIL || err->retryable;
        }
        return code;
    }
    send_to_any(e, call, request, token, reply, member);
    /* A member that was wiped lets a token of before wait, instead of refusing it. */
    if (token && !request->enough &&
        (reply->failure == HADB__HTTP_LATE || reply->failure == HADB__HTTP_IDLE)) {
        token_drop(e, token);
    }
    hadb__secret_free(token);
    return 0;
}

int hadb__etcd_perform(struct hadb__etcd *e, const struct hadb_call *call,
                       const struct hadb__etcd_request *request, struct hadb__http_reply *reply,
                       struct hadb_error *err)
{
    unsigned member =
        __atomic_load_n(&e->current, __ATOMIC_RELAXED) % (unsigned)e->place->hosts_len;
    int r = 0;
    /* What comes back after a write must find room: its outcome is not to be lost. */
    if (request->writes && hadb_buf_reserve(&reply->body, WRITE_REPLY_BYTES)) {
        return hadb_fail_nomem(err);
    }
    r = attempt(e, call, request, false, reply, &member, err);
    if (r == 0 && e->place->user && is_token_refused(reply)) {
        r = request->writes ? hadb__lease_write_check(e->env, call, err)
                            : hadb_call_check(e->env, call, err);
        r = r ? r : attempt(e, call, request, true, reply, &member, err);
    }
    r = r ? r : outcome(request, reply, err);
    const struct hadb__net_place_host *host = &e->place->hosts[member];
    return hadb_wrap(err, r, "etcd at %.60s:%" PRIu16, host->name, host->port);
}

int hadb__etcd_open(const struct hadb__net_place *place, const struct hadb_env *env,
                    struct hadb__etcd **out, struct hadb_error *err)
{
    struct hadb__etcd *e = hadb_calloc(1, sizeof(*e));
    if (!e) {
        return hadb_fail_nomem(err);
    }
    *e = (struct hadb__etcd){.place = place, .env = env};
    hadb_mutex_init(&e->mu, 0);
    int r = hadb__http_open(env, &e->http, err);
    if (r) {
        hadb__etcd_close(e);
        return r;
    }
    *out = e;
    return 0;
}

void hadb__etcd_close(struct hadb__etcd *e)
{
    if (!e) {
        return;
    }
    hadb__http_close(e->http);
    hadb__secret_free(e->token);
    hadb_mutex_deinit(&e->mu);
    hadb_free(e);
}
