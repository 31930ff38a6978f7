/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the HTTP server share: http_server.c (daemon, event loop, connections), http_exchange.c
 * (requests and answers), http_stream.c. Loop thread only.
 */
#ifndef HADB_NODE_HTTP_SERVER_PRIVATE_H
#define HADB_NODE_HTTP_SERVER_PRIVATE_H
#include <microhttpd.h>
#include <uv.h>

#include "node/http_server.h"
#include "node/net.h"

#define HADB_HTTP_DISCARD_BYTES_MAX \
    (1u << 20) /* body of a refused request that is read and dropped */

/* Who still holds an exchange. It is freed when nobody does. */
#define HADB_HTTP_HELD_MHD 1u   /* the connection works on it */
#define HADB_HTTP_HELD_OWNER 2u /* the handler's side owes an answer */
#define HADB_HTTP_HELD_LATE 4u  /* it waits in server->late */

struct hadb_http_conn {
    struct hadb_http_server *server;
    struct MHD_Connection *mhd;
    int fd;
    struct hadb_http_exchange *exchange; /* the request in progress; NULL between requests */
    struct hadb_http_conn *prev, *next;  /* server->conns */
    uint64_t since_ms;                   /* when it was opened, or the last request ended */
    uint64_t requests_len;
    uint64_t consumed; /* bytes of all requests so far … */
    bool countable;    /* … if none of them was chunked or broken off */
    bool hup;          /* the peer has closed, or half-closed */
    bool unread;       /* the last request was not read to its end */
    bool expired;      /* shut down: too slow, or to make room */
    bool trusted;      /* a request on it brought the token (or needed none at all) */
};

struct hadb_http_exchange {
    struct hadb_http_server *server; /* NULL once the server has stopped */
    struct hadb_http_conn *conn;     /* NULL once the connection is gone or has moved on */
    unsigned held;
    enum hadb_http_method method;
    struct hadb_buf body;
    size_t body_counted;   /* its share of server->bodies_bytes */
    size_t body_bytes_max; /* of this method and path */
    size_t body_expected;  /* as announced; 0 = not */
    size_t body_received;  /* bytes read, dropped ones included */
    unsigned refused;      /* status of a refusal; 0 = fine so far */
    int refused_code;
    const char *refused_text; /* static; 413 makes its own */
    size_t head_len;
    bool chunked;
    bool head_seen;
    bool in_handler;
    bool dispatched;
    bool suspended;
    bool gone;
    bool answered;
    struct MHD_Response *response; /* the answer, not yet queued; NULL with answered = close */
    unsigned status;
    struct hadb_http_stream *stream;
    void (*gone_fn)(void *arg);
    void *gone_arg;
    struct hadb_http_exchange *late_next;
    const char *mhd_uri; /* where libmicrohttpd has it: only compared */
    size_t uri_len, path_len;
    char uri[]; /* as sent, NUL-terminated */
};

struct hadb_http_server {
    struct hadb_loop *loop;
    struct MHD_Daemon *mhd;
    char address[HADB_NET_TEXT_BYTES]; /* const after start */
    char *token;                       /* const after start */
    hadb_http_handler_fn handler;
    bool (*exempt)(void *arg, enum hadb_http_method method, struct hadb_slice path);
    size_t (*body_max)(void *arg, enum hadb_http_method method, struct hadb_slice path);
    void *arg;
    size_t body_bytes_max, bodies_bytes_max;
    uint64_t idle_timeout_ms;

    uv_poll_t mhd_poll;   /* libmicrohttpd's epoll descriptor */
    uv_poll_t watch_poll; /* ours: only for peers that close */
    uv_prepare_t prepare; /* answers given in this turn, before the loop sleeps */
    uv_timer_t timer;     /* libmicrohttpd's time-outs */
    struct hadb_timer sweep;
    unsigned handles_open;
    int watch_fd;

    bool kicked; /* something was answered or resumed: run libmicrohttpd */
    bool in_turn;
    bool quiesced;
    bool stopping;
    struct hadb_http_conn *conns;
    unsigned conns_len, expired_len; /* … of which this many are on their way out */
    unsigned conns_max;              /* const after start */
    struct hadb_http_linger *lingers;
    unsigned lingers_len;
    struct hadb_http_exchange *late_head, *late_tail; /* gone callbacks that are due */
    size_t bodies_bytes;
    size_t pending_len; /* exchanges from dispatch until they are freed */
};

/* http_server.c */
void hadb__http_kick(struct hadb_http_server *server);
void hadb__http_poke(struct hadb_http_conn *conn);
/* A connection has become idle: at the limit the oldest such one gives its place to who waits. */
void hadb__http_idle(struct hadb_http_server *server);

void hadb__http_handle_closed(struct hadb_http_server *server); /* one that handles_open counts */

/* http_linger.c */
struct hadb_http_linger;
/* libmicrohttpd is about to close @conn: lets the client see its answer first, if it may still be sending. */
void hadb__http_linger(const struct hadb_http_conn *conn);
void hadb__http_linger_sweep(struct hadb_http_server *server, uint64_t now_ms);
void hadb__http_answer_broken_start(struct hadb_http_conn *conn);
/* Answers past libmicrohttpd, which must not send anything of its own any more, and closes for writing. */
void hadb__http_send_raw(struct hadb_http_conn *conn, unsigned status, int code,
                         const char *message);
/* libmicrohttpd has logged this. */
void hadb__http_mhd_refuses(struct hadb_http_server *server, const char *log_line);

/* http_head.c */
#define HADB_HTTP_TARGET_TOO_LONG "the request target is longer than 224 KiB"
#define HADB_HTTP_HEAD_TOO_LONG                                                                   \
    "the headers are too long: one has at most 16 KiB, a request at most 128 of them, its whole " \
    "head "                                                                                       \
    "at most 256 KiB"
/* Finds method and limits of @x, and refuses it when its head says so; false: then answer at once and close,
 * true: its body is read first (and dropped, when refused). */
bool hadb__http_check_head(struct hadb_http_exchange *x, struct MHD_Connection *mhd,
                           const char *method, const char *version);
void hadb__http_refuse(struct hadb_http_exchange *x, unsigned status, int code, const char *text);
size_t hadb__http_bodies_left(const struct hadb_http_server *server);

/* http_exchange.c: callbacks of libmicrohttpd */
void *hadb__http_on_uri(void *cls, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result hadb__http_on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                      const char *method, const char *version,
                                      const char *upload_data, size_t *upload_data_size,
                                      void **con_cls);
void hadb__http_on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                             enum MHD_RequestTerminationCode code);
/* http_exchange.c: for the others */
void hadb__http_peer_gone(struct hadb_http_exchange *exchange);
void hadb__http_deliver_late(struct hadb_http_server *server);
void hadb__http_abandon(struct hadb_http_exchange *exchange); /* the server stops */
void hadb__http_resume(struct hadb_http_exchange *exchange);
bool hadb__http_add_headers(struct MHD_Response *response, const struct hadb_http_header *headers,
                            size_t headers_len);
void hadb__http_answer(struct hadb_http_exchange *exchange, unsigned status,
                       struct MHD_Response *take_response);
/* {"error":"…","message":"…"} appended to @out; false when out of memory. */
bool hadb__http_error_json(int code, const char *message, struct hadb_buf *out);

/* http_stream.c */
void hadb__http_stream_fail(struct hadb_http_stream *stream, int code);
void hadb__http_stream_completed(struct hadb_http_stream *stream);
#endif
