/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the connections of the lease store "redis://". libcurl makes them (names, TLS, time-outs) and carries the
 * bytes, hiredis writes commands and reads replies.
 *
 * Thread: any; a connection belongs to the caller that took it from the pool (mutex), and goes back only when
 * every byte of its last reply was read.
 * Invariants: `sent` is set before the first byte of a command leaves; a command is never sent twice. A kept
 * connection is looked at before it is used, so that one that the server has closed is replaced, not blamed. A
 * server that says that it is no master (any more) is left on all of them: the name may lead to another one now.
 * Happy path: take or make a connection (AUTH, SELECT), send, read one reply, give it back.
 * Failure modes: enum hadb__http_failure, or `refused` with the server's words.
 */
#include "lease/redis_wire.h"

#include <curl/curl.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/thread.h"
#include "base/util.h"
#include "hadb/lease.h"

#define CANCEL_STEP_MS 20u /* how late a cancel may be noticed */
#define POLL_MS_MAX 1000u

struct conn {
    struct conn *next;
    CURLM *multi;
    CURL *easy;
    curl_socket_t fd;
    redisReader *reader;
    char text[CURL_ERROR_SIZE];
};

struct hadb__redis {
    const struct hadb__net_place *place;
    const struct hadb_env *env;
    char url[320];
    char database[12];
    struct hadb_mutex mu;
    struct conn *kept; /* mu; the last one used first */
    size_t kept_len;   /* mu */
};

/* One exchange: what it waits for, and how it went. */
struct exchange {
    const struct hadb__redis *redis;
    const struct hadb_call *call;
    uint64_t moved_ms; /* when the last byte moved */
    uint32_t idle_ms_max;
    struct hadb__redis_reply *out;
};

static void conn_free(struct conn *c)
{
    if (!c) {
        return;
    }
    if (c->reader) {
        redisReaderFree(c->reader);
    }
    if (c->multi && c->easy) {
        curl_multi_remove_handle(c->multi, c->easy);
    }
    if (c->easy) {
        curl_easy_cleanup(c->easy);
    }
    if (c->multi) {
        curl_multi_cleanup(c->multi);
    }
    hadb_free(c);
}

/* --- waiting ------------------------------------------------------------------------------------ */

static bool fail(struct exchange *x, enum hadb__http_failure failure, const char *text)
{
    x->out->failure = failure;
    snprintf(x->out->text, sizeof(x->out->text), "%.199s", text);
    return false;
}

/* How long may it wait now? 0 when it must end; then the reason is set. */
static uint64_t wait_ms(struct exchange *x)
{
    const struct hadb_env *env = x->redis->env;
    uint64_t now = hadb_now_ms(env), left = hadb_call_left_ms(env, x->call);
    if (hadb_call_cancelled(x->call)) {
        fail(x, HADB__HTTP_CANCELED, "cancelled");
    } else if (left == 0) {
        fail(x, HADB__HTTP_LATE, "the deadline has passed");
    } else if (now - x->moved_ms >= x->idle_ms_max) {
        fail(x, HADB__HTTP_IDLE, "no byte moved for too long");
    } else {
        uint64_t wait = HADB_MIN(left, x->idle_ms_max - (now - x->moved_ms));
        return HADB_MIN(wait, x->call && x->call->cancel ? CANCEL_STEP_MS : POLL_MS_MAX);
    }
    return 0;
}

static bool wait_for(struct exchange *x, struct conn *c, short events)
{
    uint64_t ms = wait_ms(x);
    if (ms == 0) {
        return false;
    }
    struct pollfd poller = {.fd = c->fd, .events = events};
    (void)poll(&poller, 1, (int)ms); /* an error shows at the next read or write */
    return true;
}

/* --- connecting --------------------------------------------------------------------------------- */

static bool set_up(const struct hadb__redis *redis, struct conn *c)
{
    const struct hadb__net_place *place = redis->place;
    CURL *easy = c->easy;
    bool ok = curl_easy_setopt(easy, CURLOPT_URL, redis->url) == CURLE_OK;
    curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)place->connect_ms_max);
    curl_easy_setopt(easy, CURLOPT_SSL_ENABLE_ALPN, 0L); /* it is not HTTP that follows */
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, c->text);
    ok = ok && (!place->ca || curl_easy_setopt(easy, CURLOPT_CAINFO, place->ca) == CURLE_OK);
    ok = ok && (!place->cert || curl_easy_setopt(easy, CURLOPT_SSLCERT, place->cert) == CURLE_OK);
    return ok && (!place->key || curl_easy_setopt(easy, CURLOPT_SSLKEY, place->key) == CURLE_OK);
}

static enum hadb__http_failure failure_of(const struct conn *c, CURLcode code)
{
    long sys_errno = 0;
    curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &sys_errno);
    if (code == CURLE_OUT_OF_MEMORY) {
        return HADB__HTTP_NO_MEMORY;
    }
    return hadb__http_untrusted((int)code, sys_errno, c->text) ? HADB__HTTP_UNTRUSTED
                                                               : HADB__HTTP_UNREACHABLE;
}

static bool connect_now(struct exchange *x, struct conn *c)
{
    int running = 1;
    if (curl_multi_add_handle(c->multi, c->easy) != CURLM_OK) {
        return fail(x, HADB__HTTP_NO_MEMORY, "out of memory");
    }
    for (;;) {
        if (curl_multi_perform(c->multi, &running) != CURLM_OK) {
            return fail(x, HADB__HTTP_NO_MEMORY, "out of memory");
        }
        if (running == 0) {
            break;
        }
        uint64_t ms = wait_ms(x);
        if (ms == 0) {
            return false;
        }
        (void)curl_multi_poll(c->multi, NULL, 0, (int)ms, NULL);
    }
    int left = 0;
    CURLMsg *message = curl_multi_info_read(c->multi, &left);
    CURLcode code =
        message && message->msg == CURLMSG_DONE ? message->data.result : CURLE_COULDNT_CONNECT;
    if (code != CURLE_OK) {
        return fail(x, failure_of(c, code), c->text[0] ? c->text : curl_easy_strerror(code));
    }
    c->fd = CURL_SOCKET_BAD;
    curl_easy_getinfo(c->easy, CURLINFO_ACTIVESOCKET, &c->fd);
    if (c->fd == CURL_SOCKET_BAD) {
        return fail(x, HADB__HTTP_UNREACHABLE, "the connection ended at once");
    }
    return true;
}

/* --- one command -------------------------------------------------------------------------------- */

static bool send_all(struct exchange *x, struct conn *c, const char *data, size_t len)
{
    size_t at = 0;
    while (at < len) {
        size_t n = 0;
        x->out->sent = true;
        CURLcode code = curl_easy_send(c->easy, data + at, len - at, &n);
        at += n;
        if (code == CURLE_AGAIN) {
            if (!wait_for(x, c, POLLOUT)) {
                return false;
            }
        } else if (code != CURLE_OK) {
            return fail(x, HADB__HTTP_BROKEN, "the connection broke while the command was sent");
        }
        x->moved_ms = n > 0 ? hadb_now_ms(x->redis->env) : x->moved_ms;
    }
    return true;
}

static bool receive(struct exchange *x, struct conn *c)
{
    char data[16384];
    size_t all = 0;
    void *reply = NULL;
    for (;;) {
        if (redisReaderGetReply(c->reader, &reply) != REDIS_OK) {
            bool memory = c->reader->err == REDIS_ERR_OOM;
            return fail(x, memory ? HADB__HTTP_NO_MEMORY : HADB__HTTP_BROKEN,
                        memory ? "out of memory" : "what came is not the protocol of redis");
        }
        if (reply) {
            x->out->reply = reply;
            return true;
        }
        size_t n = 0;
        CURLcode code = curl_easy_recv(c->easy, data, sizeof(data), &n);
        if (code == CURLE_AGAIN) {
            if (!wait_for(x, c, POLLIN)) {
                return false;
            }
            continue;
        }
        all += n;
        if (code != CURLE_OK || n == 0) {
            return fail(x, HADB__HTTP_BROKEN, "the connection ended before the reply");
        }
        if (all > HADB_REDIS_REPLY_BYTES_MAX) {
            return fail(x, HADB__HTTP_TOO_BIG, "the reply is too big");
        }
        x->moved_ms = hadb_now_ms(x->redis->env);
        if (redisReaderFeed(c->reader, data, n) != REDIS_OK) {
            return fail(x, HADB__HTTP_NO_MEMORY, "out of memory");
        }
    }
}

static bool roundtrip(struct exchange *x, struct conn *c, const struct hadb_slice *args,
                      size_t args_len)
{
    const char *argv[HADB_REDIS_ARGS_MAX];
    size_t lens[HADB_REDIS_ARGS_MAX];
    char *command = NULL;
    HADB_ASSERT(args_len >= 1 && args_len <= HADB_REDIS_ARGS_MAX);
    for (size_t i = 0; i < args_len; i++) {
        argv[i] = args[i].len ? args[i].data : "";
        lens[i] = args[i].len;
    }
    int len = redisFormatCommandArgv(&command, (int)args_len, argv, lens);
    if (len < 0) {
        return fail(x, HADB__HTTP_NO_MEMORY, "out of memory");
    }
    x->moved_ms = hadb_now_ms(x->redis->env);
    bool ok = send_all(x, c, command, (size_t)len) && receive(x, c);
    redisFreeCommand(command);
    return ok;
}

/* --- the pool ----------------------------------------------------------------------------------- */

/* A command of the greeting: the server must say yes. Nothing of the caller's was sent by it. */
static bool greet_with(struct exchange *x, struct conn *c, const struct hadb_slice *args,
                       size_t args_len)
{
    bool ok = roundtrip(x, c, args, args_len);
    x->out->sent = false;
    if (ok && x->out->reply->type == REDIS_REPLY_ERROR) {
        x->out->refused = true;
        ok = fail(x, HADB__HTTP_FINE, x->out->reply->str);
    }
    if (x->out->reply) {
        freeReplyObject(x->out->reply);
        x->out->reply = NULL;
    }
    return ok;
}

static bool greet(struct exchange *x, struct conn *c)
{
    const struct hadb__net_place *place = x->redis->place;
    struct hadb_slice auth[3] = {hadb_slice_str("AUTH")};
    size_t len = 1;
    if (place->user) {
        auth[len++] = hadb_slice_str(place->user);
    }
    auth[len++] = hadb_slice_str(place->password ? place->password : "");
    if (place->password && !greet_with(x, c, auth, len)) {
        return false;
    }
    const struct hadb_slice select[] = {hadb_slice_str("SELECT"),
                                        hadb_slice_str(x->redis->database)};
    return strcmp(x->redis->database, "0") == 0 || greet_with(x, c, select, 2);
}

static struct conn *conn_new(struct exchange *x)
{
    struct conn *c = hadb_calloc(1, sizeof(*c));
    if (c) {
        c->multi = curl_multi_init();
        c->easy = curl_easy_init();
        c->reader = redisReaderCreate();
    }
    if (!c || !c->multi || !c->easy || !c->reader || !set_up(x->redis, c)) {
        conn_free(c);
        fail(x, HADB__HTTP_NO_MEMORY, "out of memory");
        return NULL;
    }
    x->moved_ms = hadb_now_ms(x->redis->env);
    x->idle_ms_max = x->redis->place->connect_ms_max + x->redis->place->idle_ms_max;
    bool ok = connect_now(x, c);
    x->idle_ms_max = x->redis->place->idle_ms_max;
    if (!ok || !greet(x, c)) {
        conn_free(c);
        return NULL;
    }
    return c;
}

/* Nothing may be waiting on a connection that is idle: neither an end nor a byte. */
static bool is_alive(struct conn *c)
{
    char byte;
    size_t n = 0;
    return curl_easy_recv(c->easy, &byte, 1, &n) == CURLE_AGAIN;
}

static struct conn *conn_take(struct hadb__redis *redis)
{
    for (;;) {
        hadb_mutex_lock(&redis->mu);
        struct conn *c = redis->kept;
        if (c) {
            redis->kept = c->next;
            redis->kept_len--;
        }
        hadb_mutex_unlock(&redis->mu);
        if (!c || is_alive(c)) {
            return c;
        }
        conn_free(c);
    }
}

static void conn_give(struct hadb__redis *redis, struct conn *c)
{
    hadb_mutex_lock(&redis->mu);
    bool keep = redis->kept_len < HADB_REDIS_KEPT_MAX;
    if (keep) {
        c->next = redis->kept;
        redis->kept = c;
        redis->kept_len++;
    }
    hadb_mutex_unlock(&redis->mu);
    if (!keep) {
        conn_free(c);
    }
}

static void conn_free_kept(struct hadb__redis *redis)
{
    for (;;) {
        hadb_mutex_lock(&redis->mu);
        struct conn *c = redis->kept;
        redis->kept = c ? c->next : NULL;
        redis->kept_len -= c != NULL;
        hadb_mutex_unlock(&redis->mu);
        if (!c) {
            return;
        }
        conn_free(c);
    }
}

/* Servers before version 7 put their word inside "ERR Error running script". */
static bool is_no_master(const struct redisReply *reply)
{
    return reply->type == REDIS_REPLY_ERROR &&
           (strstr(reply->str, "READONLY") || strstr(reply->str, "MASTERDOWN"));
}

void hadb__redis_perform(struct hadb__redis *redis, const struct hadb_call *call,
                         const struct hadb_slice *args, size_t args_len,
                         struct hadb__redis_reply *out)
{
    hadb__redis_reply_deinit(out);
    struct exchange x = {
        .redis = redis, .call = call, .idle_ms_max = redis->place->idle_ms_max, .out = out};
    struct conn *c = conn_take(redis);
    c = c ? c : conn_new(&x);
    if (!c) {
        return;
    }
    bool whole = roundtrip(&x, c, args, args_len);
    if (whole && !is_no_master(out->reply)) {
        conn_give(redis, c);
        return;
    }
    conn_free(c);
    if (whole) {
        conn_free_kept(redis);
    }
}

void hadb__redis_reply_deinit(struct hadb__redis_reply *reply)
{
    if (reply->reply) {
        freeReplyObject(reply->reply);
    }
    *reply = (struct hadb__redis_reply){0};
}

int hadb__redis_open(const struct hadb__net_place *place, const struct hadb_env *env,
                     unsigned database, struct hadb__redis **out, struct hadb_error *err)
{
    int r = hadb__http_start(err);
    if (r) {
        return r;
    }
    struct hadb__redis *redis = hadb_calloc(1, sizeof(*redis));
    if (!redis) {
        return hadb_fail_nomem(err);
    }
    redis->place = place;
    redis->env = env;
    snprintf(redis->url, sizeof(redis->url), "%s://%s:%" PRIu16, place->tls ? "https" : "http",
             place->hosts[0].name, place->hosts[0].port);
    snprintf(redis->database, sizeof(redis->database), "%u", database);
    hadb_mutex_init(&redis->mu, 0);
    *out = redis;
    return 0;
}

void hadb__redis_close(struct hadb__redis *redis)
{
    if (!redis) {
        return;
    }
    conn_free_kept(redis);
    hadb_mutex_deinit(&redis->mu);
    hadb_free(redis);
}
