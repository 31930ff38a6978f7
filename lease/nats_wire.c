/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the connection of the lease store "nats://" (nats.c, driven by nats_pump.c).
 *
 * Thread: any. One connection for all callers, counted; one caller connects, the others wait for it (mutex and
 * condition, neither held over I/O).
 * Invariants: nats.c never reconnects by itself, since it would send later what nobody waits for any more: a broken
 * connection is replaced by the next caller. `sent` is set before a request is handed to nats.c, and stays
 * set whatever nats.c says of it.
 * Happy path: take the connection, subscribe to an inbox, publish, wait for the one answer.
 * Failure modes: enum hadb__http_failure, or one of the flags of struct hadb__nats_reply.
 */
#include "lease/nats_wire.h"

#include <inttypes.h>
#include <nats/nats.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/thread.h"
#include "base/util.h"
#include "lease/nats_pump.h"

#define WAIT_MS_MAX 1000u
#define CANCEL_STEP_MS 20u /* how late a cancel may be noticed */
#define SILENT_MS_MAX \
    4000 /* a connection that leaves a request without an answer and was silent for longer is given up */
#define URL_BYTES 300

struct conn {
    natsConnection *nc;
    struct hadb__nats_pump *pump;
    unsigned refs; /* mu of the owner */
};

struct hadb__nats {
    const struct hadb__net_place *place;
    const struct hadb_env *env;
    struct hadb_mutex mu;
    struct hadb_cond changed;
    struct conn *conn; /* mu; NULL = none, or it was given up */
    bool connecting;   /* mu */
    unsigned current;  /* mu; the host that was reached last */
};

struct hadb__nats_sub {
    struct hadb__nats *nats;
    struct conn *conn;
    natsSubscription *sub;
};

static bool fail(struct hadb__nats_reply *out, enum hadb__http_failure failure, const char *text)
{
    out->failure = failure;
    snprintf(out->text, sizeof(out->text), "%.199s", text);
    return false;
}

/* --- waiting ------------------------------------------------------------------------------------ */

struct wait {
    const struct hadb_env *env;
    const struct hadb_call *call;
    uint64_t since_ms;
    uint64_t idle_ms_max;
};

/* How long may it wait now? 0 when it must end; then the reason is set. */
static int64_t wait_ms(const struct wait *w, struct hadb__nats_reply *out)
{
    uint64_t idle = hadb_now_ms(w->env) - w->since_ms, left = hadb_call_left_ms(w->env, w->call);
    if (hadb_call_cancelled(w->call)) {
        fail(out, HADB__HTTP_CANCELED, "cancelled");
    } else if (left == 0) {
        fail(out, HADB__HTTP_LATE, "the deadline has passed");
    } else if (idle >= w->idle_ms_max) {
        fail(out, HADB__HTTP_IDLE, "no answer came for too long");
    } else {
        uint64_t ms = HADB_MIN(left, w->idle_ms_max - idle);
        return (int64_t)HADB_MIN(ms, w->call && w->call->cancel ? CANCEL_STEP_MS : WAIT_MS_MAX);
    }
    return 0;
}

/* --- connecting --------------------------------------------------------------------------------- */

/* Errors come back from the calls; nats.c would print those that come by themselves. */
static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus status, void *arg)
{
    (void)nc, (void)sub, (void)status, (void)arg;
}

static natsStatus set_user(natsOptions *o, const struct hadb__net_place *place)
{
    if (place->user && place->password) {
        return natsOptions_SetUserInfo(o, place->user, place->password);
    }
    const char *token = place->user ? place->user : place->password;
    return token ? natsOptions_SetToken(o, token) : NATS_OK;
}

/* nats.c checks the name in a certificate only where it is told the name. */
static natsStatus set_tls(natsOptions *o, const struct hadb__net_place *place, const char *host)
{
    char name[256];
    size_t len = strlen(host);
    bool brackets = host[0] == '[';
    snprintf(name, sizeof(name), "%.*s", (int)(brackets ? len - 2 : len), host + brackets);
    natsStatus s = natsOptions_SetSecure(o, true);
    s = s ? s : natsOptions_SetExpectedHostname(o, name);
    s = s || !place->ca ? s : natsOptions_LoadCATrustedCertificates(o, place->ca);
    return s || !place->cert ? s : natsOptions_LoadCertificatesChain(o, place->cert, place->key);
}

static natsStatus set_up(natsOptions *o, const struct hadb__net_place *place, unsigned host,
                         int64_t timeout_ms)
{
    char url[URL_BYTES];
    snprintf(url, sizeof(url), "nats://%s:%" PRIu16, place->hosts[host].name,
             place->hosts[host].port);
    natsStatus s = natsOptions_SetURL(o, url);
    s = s ? s : natsOptions_SetName(o, "hadb");
    s = s ? s : natsOptions_SetTimeout(o, timeout_ms);
    s = s ? s : natsOptions_SetAllowReconnect(o, false);
    s = s ? s : natsOptions_SetIgnoreDiscoveredServers(o, true);
    s = s ? s : natsOptions_SetPingInterval(o, 0); /* its timer would end what the pump reads */
    s = s ? s : natsOptions_SetSendAsap(o, true);
    s = s ? s : natsOptions_SetWriteDeadline(o, place->idle_ms_max);
    s = s ? s : natsOptions_SetErrorHandler(o, on_error, NULL);
    s = s ? s : set_user(o, place);
    return s || !place->tls ? s : set_tls(o, place, place->hosts[host].name);
}

/* What nats.c says of the last failure of this thread, without the line of its source. */
static const char *last_error(natsStatus status)
{
    natsStatus last = NATS_OK;
    const char *text = nats_GetLastError(&last);
    const char *behind = text ? strstr(text, "): ") : NULL;
    return behind && last == status ? behind + 3 : natsStatus_GetText(status);
}

/* A handshake that merely ended is no question of trust: the server may be on its way down. */
static bool is_untrusted(natsStatus status, const char *text)
{
    static const char handshake[] = "SSL handshake error: ";
    if (status == NATS_SECURE_CONNECTION_WANTED || status == NATS_SECURE_CONNECTION_REQUIRED) {
        return true;
    }
    if (status != NATS_SSL_ERROR) {
        return false;
    }
    const char *why = strstr(text, handshake);
    why = why ? why + sizeof(handshake) - 1 : "0";
    bool verdict = why[0] >= '0' && why[0] <= '9'; /* of the check of the certificate */
    return verdict || strstr(why, "alert") || strstr(why, "version") || strstr(why, "cert");
}

static bool connect_to(struct hadb__nats *n, unsigned host, int64_t timeout_ms, struct conn *c,
                       struct hadb__nats_reply *why)
{
    natsOptions *o = NULL;
    natsStatus s = natsOptions_Create(&o);
    s = s ? s : set_up(o, n->place, host, timeout_ms);
    s = s ? s : hadb__nats_pump_use(c->pump, o);
    s = s ? s : natsConnection_Connect(&c->nc, o);
    const char *text = s ? last_error(s) : "";
    if (s == NATS_CONNECTION_AUTH_FAILED) {
        why->refused = true;
        fail(why, HADB__HTTP_FINE, "user, password or token are not accepted");
    } else if (s) {
        fail(why,
             s == NATS_NO_MEMORY     ? HADB__HTTP_NO_MEMORY
             : is_untrusted(s, text) ? HADB__HTTP_UNTRUSTED
                                     : HADB__HTTP_UNREACHABLE,
             text);
    }
    natsOptions_Destroy(o);
    return s == NATS_OK;
}

/* Tries the host that was reached last, then the others; each gets its share of the time that is left. */
static bool connect_any(struct hadb__nats *n, const struct hadb_call *call, unsigned *host,
                        struct conn *c, struct hadb__nats_reply *why)
{
    unsigned first = *host, len = (unsigned)n->place->hosts_len;
    for (unsigned i = 0; i < len; i++) {
        uint64_t left = hadb_call_left_ms(n->env, call);
        if (hadb_call_cancelled(call)) {
            return fail(why, HADB__HTTP_CANCELED, "cancelled");
        }
        if (left == 0) {
            return fail(why, HADB__HTTP_LATE, "the deadline has passed");
        }
        uint64_t share = HADB_MAX(left / (len - i), (uint64_t)1);
        *host = (first + i) % len;
        if (connect_to(n, *host, (int64_t)HADB_MIN(share, (uint64_t)n->place->connect_ms_max), c,
                       why)) {
            return true;
        }
    }
    return false;
}

static void conn_destroy(struct conn *c)
{
    hadb__nats_pump_destroy(c->pump, c->nc);
    hadb_free(c);
}

/* A connection whose pump runs; NULL: @why has a failure. */
static struct conn *conn_make(struct hadb__nats *n, const struct hadb_call *call, unsigned *host,
                              struct hadb__nats_reply *why)
{
    struct hadb_error err = {0};
    struct conn *c = hadb_calloc(1, sizeof(*c));
    int r = c ? hadb__nats_pump_new(n->env, &c->pump, &err) : HADB_ENOMEM;
    if (r == 0 && connect_any(n, call, host, c, why)) {
        r = hadb__nats_pump_start(c->pump, &err);
        if (r == 0) {
            return c;
        }
    }
    if (r) {
        fail(why, HADB__HTTP_NO_MEMORY, c ? err.message : "out of memory");
    }
    if (c) {
        conn_destroy(c);
    }
    return NULL;
}

static void conn_unref(struct hadb__nats *n, struct conn *c)
{
    hadb_mutex_lock(&n->mu);
    bool last = --c->refs == 0;
    hadb_mutex_unlock(&n->mu);
    if (last) {
        conn_destroy(c);
    }
}

/* Lock held. A reference to the living connection, NULL when there is none. @dead then is one to drop. */
static struct conn *conn_living(struct hadb__nats *n, struct conn **dead)
{
    struct conn *c = n->conn;
    if (c && natsConnection_Status(c->nc) != NATS_CONN_STATUS_CONNECTED) {
        *dead = c;
        n->conn = c = NULL;
    }
    if (c) {
        c->refs++;
    }
    return c;
}

/* This caller connects. NULL: @why has a failure. */
static struct conn *conn_new(struct hadb__nats *n, const struct hadb_call *call, unsigned host,
                             struct hadb__nats_reply *why)
{
    struct conn *c = conn_make(n, call, &host, why);
    hadb_mutex_lock(&n->mu);
    n->connecting = false;
    if (c) {
        c->refs = 2; /* the owner's and the caller's */
        n->conn = c;
        n->current = host;
        *why = (struct hadb__nats_reply){0};
    }
    hadb_cond_broadcast(&n->changed);
    hadb_mutex_unlock(&n->mu);
    return c;
}

/* The living connection. While there is none and somebody else connects it waits; @mine: this caller has to. */
static struct conn *conn_wait(struct hadb__nats *n, const struct hadb_call *call, bool *mine,
                              unsigned *host, struct hadb__nats_reply *why)
{
    struct wait w = {.env = n->env, .call = call, .since_ms = hadb_now_ms(n->env)};
    w.idle_ms_max = n->place->connect_ms_max + n->place->idle_ms_max;
    struct conn *c = NULL;
    int64_t ms = 1;
    hadb_mutex_lock(&n->mu);
    while (ms > 0) {
        struct conn *dead = NULL;
        c = conn_living(n, &dead);
        if (dead) {
            hadb_mutex_unlock(&n->mu);
            conn_unref(n, dead);
            hadb_mutex_lock(&n->mu);
            continue;
        }
        *mine = !c && !n->connecting;
        ms = c || *mine ? 0 : wait_ms(&w, why);
        if (ms > 0) {
            hadb_cond_wait_ms(&n->changed, &n->mu, (uint64_t)ms);
        }
    }
    *host = n->current;
    n->connecting = n->connecting || *mine;
    hadb_mutex_unlock(&n->mu);
    return c;
}

static struct conn *conn_take(struct hadb__nats *n, const struct hadb_call *call,
                              struct hadb__nats_reply *why)
{
    bool mine = false;
    unsigned host = 0;
    struct conn *c = conn_wait(n, call, &mine, &host, why);
    return mine ? conn_new(n, call, host, why) : c;
}

/* --- one request -------------------------------------------------------------------------------- */

static bool publish(struct conn *c, const struct hadb__nats_request *request, const char *inbox,
                    struct hadb__nats_reply *out)
{
    natsMsg *message = NULL;
    natsStatus s = natsMsg_Create(&message, request->subject, inbox,
                                  request->payload.len ? request->payload.data : "",
                                  (int)request->payload.len);
    s = s || !request->header ? s
                              : natsMsgHeader_Set(message, request->header, request->header_value);
    if (s) {
        natsMsg_Destroy(message);
        return fail(out, HADB__HTTP_NO_MEMORY, natsStatus_GetText(s));
    }
    if (natsConnection_IsClosed(c->nc)) {
        natsMsg_Destroy(message);
        return fail(out, HADB__HTTP_BROKEN, "the connection ended before the request");
    }
    out->sent = true;
    s = natsConnection_PublishMsg(c->nc, message);
    natsMsg_Destroy(message);
    return s == NATS_OK ? true : fail(out, HADB__HTTP_BROKEN, natsStatus_GetText(s));
}

/* Nobody answers a request that the server does not permit: its word for that comes by itself. */
static void ask_for_permission(struct conn *c, struct hadb__nats_reply *out)
{
    const char *text = NULL;
    if (natsConnection_GetLastError(c->nc, &text) == NATS_NOT_PERMITTED && text) {
        out->refused = true;
        snprintf(out->text, sizeof(out->text), "%.199s", text);
    }
}

static bool receive(struct hadb__nats *n, const struct hadb_call *call, struct conn *c,
                    natsSubscription *sub, struct hadb__nats_reply *out)
{
    const struct wait w = {.env = n->env,
                           .call = call,
                           .since_ms = hadb_now_ms(n->env),
                           .idle_ms_max = n->place->idle_ms_max};
    for (;;) {
        natsMsg *message = NULL;
        int64_t ms = wait_ms(&w, out);
        if (ms == 0) {
            ask_for_permission(c, out);
            return false;
        }
        natsStatus s = natsSubscription_NextMsg(&message, sub, ms);
        if (s == NATS_OK) {
            out->message = message;
            out->body =
                hadb_slice(natsMsg_GetData(message), (size_t)natsMsg_GetDataLength(message));
            return true;
        }
        if (s == NATS_NO_RESPONDERS) {
            out->nobody = true;
            return fail(out, HADB__HTTP_FINE, "nobody answers there");
        }
        if (s != NATS_TIMEOUT) {
            return fail(out, HADB__HTTP_BROKEN, "the connection ended before the answer");
        }
    }
}

static void exchange(struct hadb__nats *n, const struct hadb_call *call, struct conn *c,
                     const struct hadb__nats_request *request, struct hadb__nats_reply *out)
{
    natsInbox *inbox = NULL;
    natsSubscription *sub = NULL;
    natsStatus s = natsInbox_Create(&inbox);
    s = s ? s : natsConnection_SubscribeSync(&sub, c->nc, inbox);
    if (s) {
        fail(out, s == NATS_NO_MEMORY ? HADB__HTTP_NO_MEMORY : HADB__HTTP_BROKEN,
             natsStatus_GetText(s));
    } else if (publish(c, request, inbox, out)) {
        receive(n, call, c, sub, out);
    }
    natsSubscription_Destroy(sub);
    natsInbox_Destroy(inbox);
}

/* A request found no answer: if the server has been silent for long, the next caller connects anew. */
static void conn_doubt(struct hadb__nats *n, struct conn *c)
{
    uint64_t heard_ms = hadb__nats_pump_heard_ms(c->pump), now_ms = hadb_now_ms(n->env);
    hadb_mutex_lock(&n->mu);
    bool drop = n->conn == c && now_ms > heard_ms + SILENT_MS_MAX;
    if (drop) {
        n->conn = NULL;
    }
    hadb_mutex_unlock(&n->mu);
    if (drop) {
        conn_unref(n, c);
    }
}

void hadb__nats_perform(struct hadb__nats *n, const struct hadb_call *call,
                        const struct hadb__nats_request *request, struct hadb__nats_reply *out)
{
    hadb__nats_reply_deinit(out);
    struct conn *c = conn_take(n, call, out);
    if (c) {
        exchange(n, call, c, request, out);
        if (out->failure == HADB__HTTP_LATE || out->failure == HADB__HTTP_IDLE) {
            conn_doubt(n, c);
        }
        conn_unref(n, c);
    }
}

void hadb__nats_reply_deinit(struct hadb__nats_reply *reply)
{
    natsMsg_Destroy(reply->message);
    *reply = (struct hadb__nats_reply){0};
}

/* --- messages that come by themselves ----------------------------------------------------------- */

struct hadb__nats_sub *hadb__nats_subscribe(struct hadb__nats *n, const struct hadb_call *call,
                                            const char *subject, struct hadb__nats_reply *why)
{
    struct hadb__nats_sub *sub = hadb_calloc(1, sizeof(*sub));
    if (!sub) {
        fail(why, HADB__HTTP_NO_MEMORY, "out of memory");
        return NULL;
    }
    sub->nats = n;
    sub->conn = conn_take(n, call, why);
    if (!sub->conn) {
        hadb_free(sub);
        return NULL;
    }
    struct wait w = {.env = n->env, .call = call, .since_ms = hadb_now_ms(n->env)};
    w.idle_ms_max = n->place->idle_ms_max;
    natsStatus s = natsConnection_SubscribeSync(&sub->sub, sub->conn->nc, subject);
    for (bool known = false; s == NATS_OK && !known;) {
        int64_t ms = wait_ms(&w, why);
        if (ms == 0) {
            hadb__nats_unsubscribe(sub);
            return NULL;
        }
        s = natsConnection_FlushTimeout(sub->conn->nc, ms);
        known = s == NATS_OK;
        s = s == NATS_TIMEOUT ? NATS_OK
                              : s; /* of this step; wait_ms() tells when it was the last */
    }
    if (s) {
        fail(why, HADB__HTTP_BROKEN, natsStatus_GetText(s));
        hadb__nats_unsubscribe(sub);
        return NULL;
    }
    return sub;
}

bool hadb__nats_wait(struct hadb__nats_sub *sub, const struct hadb_call *call, uint64_t ms_max)
{
    const struct wait w = {.env = sub->nats->env,
                           .call = call,
                           .since_ms = hadb_now_ms(sub->nats->env),
                           .idle_ms_max = ms_max};
    struct hadb__nats_reply why = {0};
    natsStatus s = NATS_TIMEOUT;
    for (int64_t ms = wait_ms(&w, &why); ms > 0 && s == NATS_TIMEOUT; ms = wait_ms(&w, &why)) {
        natsMsg *message = NULL;
        s = natsSubscription_NextMsg(&message, sub->sub, ms);
        natsMsg_Destroy(message);
    }
    return s == NATS_OK || s == NATS_TIMEOUT;
}

void hadb__nats_unsubscribe(struct hadb__nats_sub *sub)
{
    if (sub) {
        natsSubscription_Destroy(sub->sub);
        conn_unref(sub->nats, sub->conn);
        hadb_free(sub);
    }
}

/* --- opening and closing ------------------------------------------------------------------------ */

int hadb__nats_open(const struct hadb__net_place *place, const struct hadb_env *env,
                    struct hadb__nats **out, struct hadb_error *err)
{
    struct hadb__nats *n = hadb_calloc(1, sizeof(*n));
    if (!n) {
        return hadb_fail_nomem(err);
    }
    *n = (struct hadb__nats){.place = place, .env = env};
    hadb_mutex_init(&n->mu, 0);
    hadb_cond_init(&n->changed);
    *out = n;
    return 0;
}

void hadb__nats_close(struct hadb__nats *n)
{
    if (!n) {
        return;
    }
    if (n->conn) {
        HADB_ASSERT(n->conn->refs == 1);
        conn_unref(n, n->conn);
    }
    hadb_cond_deinit(&n->changed);
    hadb_mutex_deinit(&n->mu);
    hadb_free(n);
}
