/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request and its answer: reads the head and the body, refuses what is malformed, unauthorised or too big,
 * calls the handler, and brings the answer back to the connection.
 *
 * Thread: the loop.
 * Invariants: an exchange has up to three holders (HADB_HTTP_HELD_*) and is freed when the last one lets go;
 * the connection of an unanswered exchange is suspended, so that libmicrohttpd does not spin on it.
 * Happy path: on_uri → on_request (head) → on_request (body)* → on_request (end) → handler → suspend →
 * hadb_http_reply → resume → on_request again → queue the response → on_completed.
 * Failure modes: the peer closes while suspended (seen by the server's watch): the gone callback is called and
 * the connection resumed to be closed. Refused requests have their body read and dropped up to
 * HADB_HTTP_DISCARD_BYTES_MAX, so that the client sees the answer and keeps its connection; larger ones
 * are answered at once and the connection is closed.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "node/http_server_private.h"

#define BODY_RESERVE_BYTES ((size_t)64 << 10)

static void release(struct hadb_http_exchange *x, unsigned holder)
{
    HADB_ASSERT(x->held & holder);
    x->held &= ~holder;
    if (x->held) {
        return;
    }
    if (x->server) {
        x->server->pending_len -= x->dispatched;
        x->server->bodies_bytes -= x->body_counted;
    }
    if (x->response) {
        MHD_destroy_response(x->response);
    }
    hadb_buf_deinit(&x->body);
    hadb_free(x);
}

/* ---- reading ---- */

void *hadb__http_on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct hadb_http_server *server = cls;
    struct hadb_http_conn *conn =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    size_t len = uri ? strlen(uri) : 0;
    if (conn) {
        conn->requests_len++;
    }
    struct hadb_http_exchange *x = conn ? hadb_malloc(sizeof(*x) + len + 1) : NULL;
    if (!x) {
        return NULL; /* on_request closes the connection */
    }
    memset(x, 0, sizeof(*x));
    x->server = server;
    x->conn = conn;
    x->held = HADB_HTTP_HELD_MHD;
    x->mhd_uri = uri;
    x->uri_len = len;
    memcpy(x->uri, uri ? uri : "", len);
    x->uri[len] = '\0';
    const char *mark = memchr(x->uri, '?', len);
    x->path_len = mark ? (size_t)(mark - x->uri) : len;
    conn->exchange = x;
    return x;
}

static enum MHD_Result queue(struct hadb_http_exchange *x, struct MHD_Connection *mhd,
                             unsigned status, struct MHD_Response *take_response)
{
    x->answered = true;
    if (!take_response) {
        return MHD_NO;
    }
    enum MHD_Result r = MHD_queue_response(mhd, status, take_response);
    MHD_destroy_response(take_response);
    return r;
}

static bool has_header(const struct hadb_http_header *headers, size_t headers_len, const char *name)
{
    for (size_t i = 0; i < headers_len; i++) {
        if (strcasecmp(headers[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* The JSON body of an error with the headers that belong to its status, unless @headers bring their own. */
static struct MHD_Response *error_response(unsigned status, int code, const char *message,
                                           const struct hadb_http_header *headers,
                                           size_t headers_len)
{
    struct hadb_http_header own[2] = {{"Content-Type", "application/json"}};
    size_t own_len = 1;
    struct hadb_buf body = {0};
    struct MHD_Response *response = NULL;
    if (hadb__http_error_json(code, message, &body)) {
        response = MHD_create_response_from_buffer(body.len, body.data, MHD_RESPMEM_MUST_COPY);
    }
    hadb_buf_deinit(&body);
    if (status == 401) {
        own[own_len++] = (struct hadb_http_header){"WWW-Authenticate", "Bearer"};
    } else if (status == 503 && !has_header(headers, headers_len, "Retry-After")) {
        own[own_len++] = (struct hadb_http_header){"Retry-After", "1"};
    }
    if (response && !hadb__http_add_headers(response, own, own_len)) {
        MHD_destroy_response(response);
        response = NULL;
    }
    return response;
}

#define REFUSAL_BYTES_MAX 160

static const char *refusal(const struct hadb_http_exchange *x, char room[REFUSAL_BYTES_MAX])
{
    if (x->refused != 413) {
        return x->refused_text;
    }
    snprintf(room, REFUSAL_BYTES_MAX, "the body is too long: at most %zu bytes are taken here",
             x->body_bytes_max);
    return room;
}

static enum MHD_Result queue_refusal(struct hadb_http_exchange *x, struct MHD_Connection *mhd)
{
    char room[REFUSAL_BYTES_MAX];
    return queue(x, mhd, x->refused,
                 error_response(x->refused, x->refused_code, refusal(x, room), NULL, 0));
}

static enum MHD_Result on_head(struct hadb_http_exchange *x, struct MHD_Connection *mhd,
                               const char *method, const char *version)
{
    x->head_seen = true;
    bool body_follows = hadb__http_check_head(x, mhd, method, version);
    if (x->refused && !body_follows) {
        return queue_refusal(x, mhd); /* libmicrohttpd closes the connection after it */
    }
    return MHD_YES;
}

static void count_body(struct hadb_http_exchange *x)
{
    x->server->bodies_bytes += x->body.cap;
    x->server->bodies_bytes -= x->body_counted;
    x->body_counted = x->body.cap;
}

static void drop_body(struct hadb_http_exchange *x)
{
    hadb_buf_deinit(&x->body);
    count_body(x);
}

/* Room for @len more bytes. The announced length is believed in steps only: announcing costs nothing. */
static int reserve_body(struct hadb_http_exchange *x, size_t len)
{
    size_t need = x->body.len + len;
    if (need <= x->body.cap || x->body_expected <= need) {
        return 0; /* hadb_buf_append() makes the room */
    }
    size_t want = HADB_MIN(x->body_expected, HADB_MAX(need * 4, BODY_RESERVE_BYTES));
    return hadb_buf_reserve(&x->body, want - x->body.len);
}

static enum MHD_Result on_body(struct hadb_http_exchange *x, const char *data, size_t len)
{
    struct hadb_http_server *server = x->server;
    size_t need = x->body.len + len;
    x->body_received += len;
    if (!x->refused) {
        if (len > x->body_bytes_max - x->body.len) {
            hadb__http_refuse(x, 413, HADB_ETOOBIG, NULL);
        } else if (need > x->body.cap && need - x->body.cap > hadb__http_bodies_left(server)) {
            hadb__http_refuse(x, 503, HADB_EBUSY,
                              "too many large requests at once: try again later");
        } else if (reserve_body(x, len) != 0 || hadb_buf_append(&x->body, data, len) != 0) {
            hadb__http_refuse(x, 503, HADB_ENOMEM, "out of memory: try again later");
        }
        count_body(x);
        if (!x->refused) {
            return MHD_YES;
        }
        drop_body(x);
        x->body_received = len;
    }
    if (x->body_received <= HADB_HTTP_DISCARD_BYTES_MAX) {
        return MHD_YES;
    }
    char room[REFUSAL_BYTES_MAX]; /* libmicrohttpd takes no answer before the end of the body */
    hadb__http_send_raw(x->conn, x->refused, x->refused_code, refusal(x, room));
    return MHD_NO;
}

static enum MHD_Result dispatch(struct hadb_http_exchange *x, struct MHD_Connection *mhd,
                                const char *method)
{
    struct hadb_http_server *server = x->server;
    struct hadb_http_request request = {
        .method = x->method,
        .method_text = method,
        .path = hadb_slice(x->uri, x->path_len),
        .query = x->path_len < x->uri_len
                     ? hadb_slice(x->uri + x->path_len + 1, x->uri_len - x->path_len - 1)
                     : hadb_slice("", 0),
        .body = hadb_buf_slice(&x->body),
    };
    x->dispatched = true;
    x->held |= HADB_HTTP_HELD_OWNER;
    server->pending_len++;
    x->in_handler = true;
    server->handler(server->arg, x, &request);
    x->in_handler = false;
    if (x->answered) {
        struct MHD_Response *response = x->response;
        x->response = NULL;
        return queue(x, mhd, x->status, response);
    }
    MHD_suspend_connection(mhd);
    x->suspended = true;
    if (x->conn->hup) {
        hadb__http_peer_gone(x); /* it went while we read the request */
    }
    return MHD_YES;
}

enum MHD_Result hadb__http_on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                      const char *method, const char *version,
                                      const char *upload_data, size_t *upload_data_size,
                                      void **con_cls)
{
    struct hadb_http_exchange *x = *con_cls;
    (void)cls;
    (void)url;
    if (!x || x->gone || x->server->stopping) {
        return MHD_NO;
    }
    if (!x->head_seen) {
        return on_head(x, mhd, method, version);
    }
    if (*upload_data_size > 0) {
        size_t len = *upload_data_size;
        *upload_data_size = 0;
        return on_body(x, upload_data, len);
    }
    if (x->refused) {
        return queue_refusal(x, mhd);
    }
    if (!x->dispatched) {
        return dispatch(x, mhd, method);
    }
    HADB_ASSERT(x->answered); /* resumed: with an answer, or gone (above) */
    struct MHD_Response *response = x->response;
    x->response = NULL;
    return queue(x, mhd, x->status, response);
}

void hadb__http_on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                             enum MHD_RequestTerminationCode code)
{
    struct hadb_http_exchange *x = *con_cls;
    (void)cls;
    (void)mhd;
    (void)code;
    if (!x) {
        return;
    }
    *con_cls = NULL;
    if (x->conn) {
        if (x->conn->hup) {
            hadb__http_poke(x->conn);
        }
        x->conn->unread = !x->dispatched;
        x->conn->countable &= x->dispatched && !x->chunked;
        x->conn->consumed += x->head_len + x->body_received;
        x->conn->exchange = NULL;
        x->conn->since_ms = hadb_now_ms(hadb_loop_env(x->server->loop));
        x->conn = NULL;
        hadb__http_idle(x->server);
    }
    x->suspended = false;
    if (x->stream) {
        hadb__http_stream_completed(x->stream);
        x->stream = NULL;
    }
    bool orphaned = x->server->stopping && (x->held & HADB_HTTP_HELD_OWNER);
    if (orphaned) { /* answered after the server's end, which then only frees it */
        x->server = NULL;
    }
    release(x, HADB_HTTP_HELD_MHD);
}

/* ---- the peer is gone ---- */

static void push_late(struct hadb_http_exchange *x)
{
    struct hadb_http_server *server = x->server;
    if (x->held & HADB_HTTP_HELD_LATE) {
        return;
    }
    x->held |= HADB_HTTP_HELD_LATE;
    x->late_next = NULL;
    if (server->late_tail) {
        server->late_tail->late_next = x;
    } else {
        server->late_head = x;
    }
    server->late_tail = x;
    hadb__http_kick(server);
}

void hadb__http_peer_gone(struct hadb_http_exchange *x)
{
    if (x->stream) {
        hadb__http_stream_fail(x->stream, HADB_EIO);
        return;
    }
    if (x->gone || !(x->held & HADB_HTTP_HELD_OWNER)) {
        return; /* not handed out yet, or answered: libmicrohttpd sees it by itself */
    }
    x->gone = true;
    push_late(x);
}

static void call_gone(struct hadb_http_exchange *x)
{
    if ((x->held & HADB_HTTP_HELD_OWNER) && x->gone_fn) {
        void (*fn)(void *arg) = x->gone_fn;
        x->gone_fn = NULL;
        fn(x->gone_arg);
    }
}

void hadb__http_deliver_late(struct hadb_http_server *server)
{
    while (server->late_head) {
        struct hadb_http_exchange *x = server->late_head;
        server->late_head = x->late_next;
        if (!server->late_head) {
            server->late_tail = NULL;
        }
        call_gone(x);
        hadb__http_resume(x); /* on_request then closes the connection */
        release(x, HADB_HTTP_HELD_LATE);
    }
}

void hadb__http_abandon(struct hadb_http_exchange *x)
{
    if (x->stream) {
        hadb__http_stream_fail(x->stream, HADB_ECANCELED);
        return;
    }
    if (!x->answered && (x->held & HADB_HTTP_HELD_OWNER)) {
        x->gone = true;
        call_gone(x);
    }
    hadb__http_resume(x);
}

void hadb__http_resume(struct hadb_http_exchange *x)
{
    if (x->suspended && x->conn) {
        x->suspended = false;
        MHD_resume_connection(x->conn->mhd);
        hadb__http_kick(x->server);
    }
}

void hadb_http_on_gone(struct hadb_http_exchange *x, void (*fn)(void *arg), void *arg)
{
    HADB_ASSERT(x->held & HADB_HTTP_HELD_OWNER);
    x->gone_fn = fn;
    x->gone_arg = arg;
    if (x->gone && x->server) {
        push_late(x);
    }
}

bool hadb_http_is_gone(const struct hadb_http_exchange *x)
{
    return x->gone;
}

/* ---- the owner's side ---- */

const char *hadb_http_request_header(const struct hadb_http_exchange *x, const char *name)
{
    HADB_ASSERT(x->in_handler);
    return MHD_lookup_connection_value(x->conn->mhd, MHD_HEADER_KIND, name);
}

struct header_walk {
    bool (*fn)(void *arg, const char *name, const char *value);
    void *arg;
};

static enum MHD_Result walk_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    const struct header_walk *walk = cls;
    (void)kind;
    return walk->fn(walk->arg, name, value ? value : "") ? MHD_YES : MHD_NO;
}

void hadb_http_request_headers(const struct hadb_http_exchange *x,
                               bool (*fn)(void *arg, const char *name, const char *value),
                               void *arg)
{
    HADB_ASSERT(x->in_handler);
    struct header_walk walk = {fn, arg};
    MHD_get_connection_values(x->conn->mhd, MHD_HEADER_KIND, walk_header, &walk);
}

struct hadb_buf hadb_http_take_body(struct hadb_http_exchange *x)
{
    HADB_ASSERT(x->held & HADB_HTTP_HELD_OWNER);
    struct hadb_buf body = hadb_buf_take(&x->body);
    if (x->server) {
        count_body(x);
    }
    return body;
}

bool hadb__http_add_headers(struct MHD_Response *response, const struct hadb_http_header *headers,
                            size_t headers_len)
{
    for (size_t i = 0; i < headers_len; i++) {
        if (*headers[i].value == '\0') {
            continue; /* libmicrohttpd knows no empty values */
        }
        if (MHD_add_response_header(response, headers[i].name, headers[i].value) != MHD_YES) {
            return false;
        }
    }
    return true;
}

/* Gives the exchange its answer (NULL = close the connection) and lets go of it. */
void hadb__http_answer(struct hadb_http_exchange *x, unsigned status,
                       struct MHD_Response *take_response)
{
    HADB_ASSERT((x->held & HADB_HTTP_HELD_OWNER) && !x->answered);
    x->answered = true;
    x->status = status;
    x->response = take_response;
    hadb__http_resume(x); /* inside the handler it is not suspended, and dispatch() goes on */
    release(x, HADB_HTTP_HELD_OWNER);
}

static void answer_with(struct hadb_http_exchange *x, unsigned status,
                        struct MHD_Response *response, const struct hadb_http_header *headers,
                        size_t headers_len)
{
    if (response && !hadb__http_add_headers(response, headers, headers_len)) {
        MHD_destroy_response(response);
        response = NULL;
    }
    hadb__http_answer(x, status, response);
}

void hadb_http_reply(struct hadb_http_exchange *x, unsigned status,
                     const struct hadb_http_header *headers, size_t headers_len,
                     struct hadb_slice body)
{
    struct MHD_Response *response = NULL;
    if (!x->gone) {
        response = MHD_create_response_from_buffer(body.len, (void *)(uintptr_t)body.data,
                                                   MHD_RESPMEM_MUST_COPY);
    }
    answer_with(x, status, response, headers, headers_len);
}

void hadb_http_reply_take(struct hadb_http_exchange *x, unsigned status,
                          const struct hadb_http_header *headers, size_t headers_len,
                          struct hadb_buf *take_body)
{
    struct hadb_buf body = hadb_buf_take(take_body);
    struct MHD_Response *response = NULL;
    if (!x->gone) {
        response =
            MHD_create_response_from_buffer_with_free_callback(body.len, body.data, hadb_free);
    }
    if (!response) {
        hadb_buf_deinit(&body);
    }
    answer_with(x, status, response, headers, headers_len);
}

void hadb_http_reply_error(struct hadb_http_exchange *x, unsigned status, int code,
                           const struct hadb_http_header *headers, size_t headers_len,
                           const char *message)
{
    struct MHD_Response *response =
        x->gone ? NULL : error_response(status, code, message, headers, headers_len);
    answer_with(x, status, response, headers, headers_len);
}
