/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/1.1 client: libcurl's multi interface on the event loop. Keep-alive, no proxies, no redirects, no
 * hidden retries of anything that may have been executed, no hidden time-outs.
 *
 * All functions run on the loop thread, unless marked "any thread". Callbacks run on the loop thread,
 * never from inside the call that started or cancelled the request.
 */
#ifndef HADB_NODE_HTTP_CLIENT_H
#define HADB_NODE_HTTP_CLIENT_H
#include "node/http.h"
#include "node/loop.h"

struct hadb_http_client;
struct hadb_http_call; /* a request under way; valid until its on_done returns */

struct hadb_http_client_options {
    const char *token; /* sent as bearer token with every request, copied; NULL = none */
    unsigned host_connections_max; /* requests above it wait in order; 0 = 64 */
    unsigned idle_connections_max; /* kept open for reuse, all hosts together; 0 = 128 */
    unsigned idle_timeout_s;       /* not reused after so long; less than the server's; 0 = 20 s */
};

/* HADB_ENOMEM, HADB_EIO. Any thread. */
int hadb_http_client_start(struct hadb_loop *loop, const struct hadb_http_client_options *options,
                           struct hadb_http_client **out, struct hadb_error *err);
/* Cancels all requests (their on_done gets HADB_ECANCELED before this returns) and frees. NULL is
 * fine. Any thread, but not from a callback of the client. */
void hadb_http_client_stop(struct hadb_http_client *client);

/* Why a request failed, as far as it matters for deciding who is alive and what may be repeated. */
enum hadb_http_failure {
    HADB_HTTP_NO_FAILURE, /* a complete answer arrived, whatever its status */
    HADB_HTTP_REFUSED,    /* the host refused the connection: no process listens there (evidence) */
    HADB_HTTP_UNREACHABLE, /* no route, no such name: says nothing about the process */
    HADB_HTTP_TIMED_OUT,   /* deadline, connect or idle time-out: says nothing about the process */
    HADB_HTTP_RESET,       /* an established connection broke before the end of the answer */
    HADB_HTTP_TOO_BIG,     /* the answer exceeds reply_bytes_max */
    HADB_HTTP_CANCELED,    /* hadb_http_cancel() or stop */
    HADB_HTTP_BROKEN,      /* not HTTP, out of memory, bad URL, anything else */
};

struct hadb_http_result {
    int code; /* 0; HADB_EUNAVAIL (failed, surely not sent), HADB_ETIMEDOUT, HADB_EIO (reset), HADB_ETOOBIG,
               * HADB_ECANCELED, HADB_EPROTO, HADB_EINVAL, HADB_ENOMEM */
    enum hadb_http_failure failure;
    bool sent;       /* the request, or part of it, may have reached the server */
    unsigned status; /* 0 when no answer came */
    struct hadb_buf
        *body; /* the answer so far; may be taken with hadb_buf_take(); empty with on_data */
    const struct hadb_http_call *call; /* for hadb_http_result_header() */
    const char *message;               /* one line for logs; "" when code is 0 */
};

struct hadb_http_call_options {
    const char *method; /* "GET", "PUT", …; required; copied */
    const char *url;    /* "http://127.0.0.1:4280/v1/…", already percent-encoded; copied */
    const struct hadb_http_header *headers; /* copied */
    size_t headers_len;
    struct hadb_slice body; /* borrowed until on_done, unless body_copy */
    bool body_copy;
    uint64_t deadline_ms;        /* absolute, boot-time clock; 0 = none (streams only) */
    uint32_t connect_timeout_ms; /* 0 = up to the deadline, at most 10 s */
    uint32_t idle_timeout_ms;    /* no byte of the answer for so long = TIMED_OUT; 0 = none */
    size_t reply_bytes_max;      /* 0 = 65 MiB; does not count with on_data */
    /* When given, a body of status 200 is delivered as it arrives instead of being collected. It may start
     * and cancel requests. */
    void (*on_data)(void *arg, struct hadb_slice data);
    /* Once, right after the status line and headers of the answer, before any on_data. May be NULL. */
    void (*on_open)(void *arg, unsigned status);
    /* Exactly once for every request that was accepted, cancelled ones included. Required. */
    void (*on_done)(void *arg, const struct hadb_http_result *result);
    void *arg;
};

/* Starts a request. @out may be NULL. HADB_EINVAL (no method, URL or on_done), HADB_ENOMEM: nothing was
 * started and on_done will not be called. All else, a bad URL included, is reported by on_done. */
int hadb_http_request(struct hadb_http_client *client, const struct hadb_http_call_options *options,
                      struct hadb_http_call **out, struct hadb_error *err);
/* on_done with HADB_ECANCELED follows (unless the request has just ended on its own); no on_data any more. */
void hadb_http_cancel(struct hadb_http_call *call);
/* A header of the answer (name in any case), NULL when absent. Valid inside on_done. */
const char *hadb_http_result_header(const struct hadb_http_result *result, const char *name);

/*
 * Is there someone behind "host:port"? Opens a fresh connection, sends nothing and closes it.
 * @done gets HADB_HTTP_NO_FAILURE (connected), HADB_HTTP_REFUSED (evidence that the process is gone),
 * HADB_HTTP_TIMED_OUT or HADB_HTTP_UNREACHABLE (no evidence), HADB_HTTP_CANCELED, or HADB_HTTP_BROKEN.
 * HADB_EINVAL (address), HADB_ENOMEM: nothing was started.
 */
int hadb_http_connect_check(struct hadb_http_client *client, const char *address,
                            uint32_t timeout_ms,
                            void (*done)(void *arg, enum hadb_http_failure failure), void *arg,
                            struct hadb_error *err);
#endif
