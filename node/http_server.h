/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/1.1 server: libmicrohttpd, run from the event loop, without a thread of its own. It knows nothing
 * of routes or databases: a handler gets whole requests and answers them whenever it likes, in
 * one piece or as a stream.
 *
 * All functions run on the loop thread, unless marked "any thread".
 */
#ifndef HADB_NODE_HTTP_SERVER_H
#define HADB_NODE_HTTP_SERVER_H
#include "node/http.h"
#include "node/loop.h"

/* Limits of a head: 414 for the target, 431 for the rest. The longest key, percent-encoded, fits in a target. */
#define HADB_HTTP_TARGET_BYTES_MAX (224u << 10)
#define HADB_HTTP_HEADER_BYTES_MAX (16u << 10) /* one header, name and value */
#define HADB_HTTP_HEADERS_MAX 128u
#define HADB_HTTP_HEAD_BYTES_MAX (256u << 10) /* request line and headers together */

/* Connections at a time; and what of the process's open files they leave to storage, leases, lingering answers and
 * peers. */
#define HADB_HTTP_CONNECTIONS_MAX 1024u
#define HADB_HTTP_FILES_RESERVED 512u

struct hadb_http_server;
struct hadb_http_exchange; /* one request and its one answer */
struct hadb_http_stream;   /* an answer without end */

enum hadb_http_method {
    HADB_HTTP_OTHER, /* see method_text; answer 405 */
    HADB_HTTP_GET,
    HADB_HTTP_HEAD, /* answer as to GET: the body is left out on the wire */
    HADB_HTTP_PUT,
    HADB_HTTP_POST,
    HADB_HTTP_DELETE,
};

/* A complete request. Path, query and body are exactly the bytes that were sent, not decoded; they live as long
 * as the exchange. */
struct hadb_http_request {
    enum hadb_http_method method;
    const char *method_text; /* valid inside the handler only */
    struct hadb_slice path;  /* before the '?'; starts with '/' or is "*" or whatever was sent */
    struct hadb_slice query; /* behind the '?'; empty when there is none */
    struct hadb_slice body;
};

typedef void (*hadb_http_handler_fn)(void *arg, struct hadb_http_exchange *exchange,
                                     const struct hadb_http_request *request);

struct hadb_http_server_options {
    const char *listen;           /* "127.0.0.1:4280", "[::1]:0"; port 0 = any free one */
    const char *token;            /* bearer token, copied; NULL = none (loopback only) */
    hadb_http_handler_fn handler; /* required */
    /* May this request come without token? Asked before the body is read. NULL = none may. */
    bool (*exempt)(void *arg, enum hadb_http_method method, struct hadb_slice path);
    /* The longest body of such a request, 0 = body_bytes_max; asked before the body is read. NULL = always that. */
    size_t (*body_max)(void *arg, enum hadb_http_method method, struct hadb_slice path);
    void *arg;               /* for handler, exempt and body_max */
    size_t body_bytes_max;   /* one request body, above it 413; 0 = 65 MiB */
    size_t bodies_bytes_max; /* all bodies in memory together, above it 503; 0 = 1 GiB */
    /* Near it a new connection ends the oldest one that is idle, those first that never brought the token; when all
     * are busy clients wait in the backlog. 0 = HADB_HTTP_CONNECTIONS_MAX, or what the open files allow. */
    unsigned connections_max;
    unsigned files_extra; /* … leaving so many more than HADB_HTTP_FILES_RESERVED */
    unsigned
        idle_timeout_s; /* a request that stalls, an idle keep-alive, a client that does not take
                                    * its answer; streams are exempt; 0 = 60 s */
};

/*
 * Starts listening. Returns when connections are accepted. HADB_EAUTH: not a loopback address and no
 * token. HADB_EINVAL: bad address or no handler. HADB_EIO: the system refuses the address. HADB_ENOMEM.
 * Any thread.
 */
int hadb_http_server_start(struct hadb_loop *loop, const struct hadb_http_server_options *options,
                           struct hadb_http_server **out, struct hadb_error *err);
/* "127.0.0.1:41234", with the port really bound; valid until stop. Any thread. */
const char *hadb_http_server_address(const struct hadb_http_server *server);
/* Takes no new connections any more; those that are open go on. Any thread. */
void hadb_http_server_quiesce(struct hadb_http_server *server);
/* Exchanges from their handler until the answer is wholly handed to the system, streams included: 0 is the
 * moment to stop without cutting anybody off. */
size_t hadb_http_server_pending(const struct hadb_http_server *server);
/*
 * Closes all connections: answers are handed to the system as far as it takes them at once; exchanges without answer get their
 * gone callback, streams their closed callback (HADB_ECANCELED). Exchanges may still be answered afterwards
 * (a no-op that frees them). NULL is fine. Any thread, but not from a callback of the server.
 */
void hadb_http_server_stop(struct hadb_http_server *server);

/*
 * An exchange lives from the handler until it is given exactly one answer: hadb_http_reply*() or
 * hadb_http_stream_begin(). That also holds when the client is gone: the answer then only frees the
 * exchange. Answering inside the handler is fine and the fastest way.
 */

/* A header of the request (name in any case), NULL when absent. Inside the handler only; valid until it
 * returns. */
const char *hadb_http_request_header(const struct hadb_http_exchange *exchange, const char *name);
/* All of them in order, while @fn returns true. Inside the handler only. */
void hadb_http_request_headers(const struct hadb_http_exchange *exchange,
                               bool (*fn)(void *arg, const char *name, const char *value),
                               void *arg);
/* Moves the body out of the exchange. */
struct hadb_buf hadb_http_take_body(struct hadb_http_exchange *exchange);
/* fn(arg) runs at most once, when the client closes (or half-closes) its connection, or the server stops,
 * before the answer; in a later turn of the loop, never from inside another call. fn may answer. */
void hadb_http_on_gone(struct hadb_http_exchange *exchange, void (*fn)(void *arg), void *arg);
bool hadb_http_is_gone(const struct hadb_http_exchange *exchange);

/* Answers with a copy of headers and body. Content-Length, Date and Connection are added; a header with an
 * empty value is left out, one with a line break is a broken answer. When memory runs out, or the answer
 * is broken, the connection is closed without one. */
void hadb_http_reply(struct hadb_http_exchange *exchange, unsigned status,
                     const struct hadb_http_header *headers, size_t headers_len,
                     struct hadb_slice body);
/* The same without copying the body: its memory is taken over (empty afterwards), also when the client is gone. */
void hadb_http_reply_take(struct hadb_http_exchange *exchange, unsigned status,
                          const struct hadb_http_header *headers, size_t headers_len,
                          struct hadb_buf *take_body);
/* Answers {"error":"EBUSY","message":"…"}; @code is an enum hadb_code. @headers are added; a 503 gets
 * "Retry-After: 1" unless they bring their own. */
void hadb_http_reply_error(struct hadb_http_exchange *exchange, unsigned status, int code,
                           const struct hadb_http_header *headers, size_t headers_len,
                           const char *message);

struct hadb_http_stream_options {
    const char *content_type;               /* required */
    const struct hadb_http_header *headers; /* more headers; may be NULL */
    size_t headers_len;
    size_t buffer_bytes_max; /* bytes written but not yet taken by the system; 0 = 8 MiB */
    /* The stream has ended without hadb_http_stream_end(): HADB_EIO the peer is gone, HADB_ETOOBIG it
     * reads too slowly, HADB_ECANCELED the server stops, HADB_ENOMEM. Never from inside another call; the stream
     * is invalid from here on. */
    void (*closed)(void *arg, int code);
    void *arg;
};
/* Answers 200 with a body that goes on until hadb_http_stream_end(); consumes the exchange in any case.
 * NULL when the client is gone already or memory ran out; closed will not be called then. */
struct hadb_http_stream *hadb_http_stream_begin(struct hadb_http_exchange *exchange,
                                                const struct hadb_http_stream_options *options);
/* Appends a copy of @data. HADB_ETOOBIG (buffer_bytes_max; nothing of @data is sent) or HADB_ENOMEM: the
 * stream is being closed, closed() will follow; later writes return the same. */
int hadb_http_stream_write(struct hadb_http_stream *stream, struct hadb_slice data);
size_t hadb_http_stream_buffered(const struct hadb_http_stream *stream);
/* Ends the body; what is buffered is still sent. closed() will not be called; the stream is invalid from
 * here on. NULL is fine. */
void hadb_http_stream_end(struct hadb_http_stream *stream);

/* Query strings, on the raw bytes. Finds "name=value" or "name": false when absent; @value is still
 * encoded. @name is compared with the encoded text. The first one of a name counts. Any thread. */
bool hadb_http_query_find(struct hadb_slice query, const char *name, struct hadb_slice *value);
/* The same, decoded into @out (replaced): %XX only, '+' stays '+', %00 is a byte like any other.
 * 0, HADB_ABSENT, HADB_EINVAL (bad escape), HADB_ENOMEM. Any thread. */
int hadb_http_query_get(struct hadb_slice query, const char *name, struct hadb_buf *out,
                        struct hadb_error *err);
/* Cuts the next segment off *@path: "/a/b%2Fc" gives "a", then "b%2Fc", then false. Decode it with
 * hadb_percent_decode(). Any thread. */
bool hadb_http_path_next(struct hadb_slice *path, struct hadb_slice *segment);
#endif
