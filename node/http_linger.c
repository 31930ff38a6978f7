/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How connections end that were not read to their end: the answers that libmicrohttpd does not give, or gives badly, and
 * the time that a client needs to see an answer while it still sends.
 *
 * Thread: the loop.
 * Invariants: closing a socket with unread bytes resets the connection, and the client may lose its answer with it. So a
 * duplicate of the socket lives on: it is closed for writing, and what comes is read and dropped until
 * the client closes, LINGER_MS pass or LINGER_BYTES_MAX have come. At most LINGERS_MAX at a time; above that clients are cut off.
 * Failure modes: without memory or descriptors the connection is closed at once.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "node/http_server_private.h"
#include "node/loop_private.h"

#define LINGER_MS 5000u
#define LINGERS_MAX 64u
#define LINGER_BYTES_MAX ((size_t)256 << 20)
#define LINGER_READ_BYTES ((size_t)64 << 10)
#define LINGER_READS_MAX 4 /* in one turn of the loop */

struct hadb_http_linger {
    uv_poll_t poll;
    struct hadb_http_server *server;
    int fd;
    uint64_t until_ms;
    size_t bytes;
    struct hadb_http_linger *prev, *next; /* server->lingers */
};

/* ---- answers past libmicrohttpd ---- */

void hadb__http_send_raw(struct hadb_http_conn *conn, unsigned status, int code,
                         const char *message)
{
    struct hadb_buf body = {0};
    struct hadb_buf text = {0};
    if (hadb__http_error_json(code, message, &body) &&
        hadb_buf_printf(&text,
                        "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\nConnection: close\r\n"
                        "Content-Length: %zu\r\n\r\n",
                        status, MHD_get_reason_phrase_for(status), body.len) == 0 &&
        hadb_buf_append(&text, body.data, body.len) == 0) {
        ssize_t n = send(conn->fd, text.data, text.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)n; /* a courtesy */
    }
    hadb_buf_deinit(&text);
    hadb_buf_deinit(&body);
    shutdown(conn->fd, SHUT_WR); /* nothing may follow it */
    conn->unread = true;
}

/* libmicrohttpd drops a connection without an answer when the very first line is no request at all, or
 * when it never ends. The counters of the socket tell: something came in, nothing went out. */
void hadb__http_answer_broken_start(struct hadb_http_conn *conn)
{
    uint64_t received = 0;
    uint64_t sent = 0;
    if (conn->requests_len > 0 || (conn->hup && !conn->expired) || conn->server->stopping ||
        !hadb_net_traffic(conn->fd, &received, &sent) || received == 0 || sent > 0) {
        return;
    }
    uint64_t now = hadb_now_ms(hadb_loop_env(conn->server->loop));
    if (conn->expired || now >= conn->since_ms + conn->server->idle_timeout_ms) {
        hadb__http_send_raw(conn, 408, HADB_EPROTO,
                            "the request did not arrive in time: send it again");
    } else {
        hadb__http_send_raw(conn, 400, HADB_EPROTO,
                            "malformed request line: send METHOD /path HTTP/1.1");
    }
}

/* Where libmicrohttpd is in a request. */
#define AT_START 1u
#define AT_HEAD 2u
#define AT_BODY 4u

/* Nothing has come in behind its last request. */
static bool idle(const struct hadb_http_conn *conn)
{
    uint64_t received = 0;
    uint64_t sent = 0;
    return conn->countable && hadb_net_traffic(conn->fd, &received, &sent) &&
           received == conn->consumed;
}

static unsigned phase_of(const struct hadb_http_conn *conn)
{
    const struct hadb_http_exchange *x = conn->exchange;
    if (!x) {
        return idle(conn) ? 0 : AT_START;
    }
    return !x->head_seen ? AT_HEAD : !x->dispatched && !x->refused ? AT_BODY : 0;
}

/* The one connection that it can mean; NULL when there are several. */
static struct hadb_http_conn *only_one(struct hadb_http_server *server, unsigned phases)
{
    struct hadb_http_conn *found = NULL;
    for (struct hadb_http_conn *conn = server->conns; conn; conn = conn->next) {
        if (phase_of(conn) & phases) {
            if (found) {
                return NULL;
            }
            found = conn;
        }
    }
    return found;
}

/* Its head is complete, and we have not been asked about it: only its Content-Length can be wrong. */
static struct hadb_http_conn *head_refused(struct hadb_http_server *server)
{
    for (struct hadb_http_conn *conn = server->conns; conn; conn = conn->next) {
        if (phase_of(conn) == AT_HEAD &&
            MHD_get_connection_info(conn->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)) {
            return conn;
        }
    }
    return NULL;
}

/*
 * libmicrohttpd announces its own refusals in its log, and then sends some HTML; after a bad Content-Length it sends its
 * head twice (0.9.75). Where it is certain which connection it means, our answer goes out first and the way is
 * closed for the other one. Else, and should the words of the log change, its own answer stays.
 */
void hadb__http_mhd_refuses(struct hadb_http_server *server, const char *log_line)
{
    static const struct {
        unsigned status, phases;
        int code;
        const char *message;
    } refusals[] = {
        {400, AT_START | AT_HEAD, HADB_EPROTO,
         "malformed request: send METHOD /path HTTP/1.1, then headers as Name: value"},
        {414, AT_START, HADB_ETOOBIG, HADB_HTTP_TARGET_TOO_LONG},
        {431, AT_HEAD, HADB_ETOOBIG, HADB_HTTP_HEAD_TOO_LONG},
        {505, AT_START | AT_HEAD, HADB_EPROTO, "send HTTP/1.1"},
    };
    static const char start[] = "Error processing request (HTTP response code is ";
    if (strncmp(log_line, start, sizeof(start) - 1) != 0) {
        return;
    }
    unsigned status = (unsigned)strtoul(log_line + sizeof(start) - 1, NULL, 10);
    int code = status == 413 ? HADB_ETOOBIG : HADB_EPROTO;
    struct hadb_http_conn *conn = head_refused(server);
    const char *message = "malformed Content-Length: send a decimal number, not too big";
    if (!conn && strstr(log_line, "chunk")) {
        conn = only_one(server, AT_BODY);
        message = "malformed chunked body";
    }
    for (size_t i = 0; !conn && i < HADB_LEN(refusals); i++) {
        if (refusals[i].status == status && !strstr(log_line, "chunk")) {
            conn = only_one(server, refusals[i].phases);
            code = refusals[i].code;
            message = refusals[i].message;
        }
    }
    if (conn) {
        hadb__http_send_raw(conn, status, code, message);
    }
}

/* ---- lingering ---- */

static void on_closed(uv_handle_t *handle)
{
    struct hadb_http_linger *linger = handle->data;
    struct hadb_http_server *server = linger->server;
    close(linger->fd);
    hadb_free(linger);
    hadb__http_handle_closed(server);
}

static void linger_end(struct hadb_http_linger *linger)
{
    struct hadb_http_server *server = linger->server;
    if (linger->prev) {
        linger->prev->next = linger->next;
    } else {
        server->lingers = linger->next;
    }
    if (linger->next) {
        linger->next->prev = linger->prev;
    }
    server->lingers_len--;
    uv_close((uv_handle_t *)&linger->poll, on_closed);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    static char dropped[LINGER_READ_BYTES]; /* loop thread; never read */
    struct hadb_http_linger *linger = poll->data;
    (void)events;
    ssize_t n = status < 0 ? 0 : (ssize_t)sizeof dropped;
    for (int i = 0; i < LINGER_READS_MAX && n == (ssize_t)sizeof dropped; i++) {
        n = recv(linger->fd, dropped, sizeof dropped, MSG_DONTWAIT);
        linger->bytes += n > 0 ? (size_t)n : 0;
    }
    if (n == 0 || linger->bytes > LINGER_BYTES_MAX ||
        (n < 0 && errno != EAGAIN && errno != EINTR)) {
        linger_end(linger);
    }
}

void hadb__http_linger(const struct hadb_http_conn *conn)
{
    struct hadb_http_server *server = conn->server;
    int waiting = 0;
    bool unread = conn->unread || (ioctl(conn->fd, FIONREAD, &waiting) == 0 && waiting > 0);
    if (!unread || conn->hup || server->stopping || server->lingers_len >= LINGERS_MAX) {
        return;
    }
    struct hadb_http_linger *linger = hadb_calloc(1, sizeof *linger);
    int fd = linger ? fcntl(conn->fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (fd < 0 || uv_poll_init(hadb__loop_uv(server->loop), &linger->poll, fd) != 0) {
        if (fd >= 0) {
            close(fd);
        }
        hadb_free(linger);
        return;
    }
    linger->poll.data = linger;
    linger->server = server;
    linger->fd = fd;
    linger->until_ms = hadb_now_ms(hadb_loop_env(server->loop)) + LINGER_MS;
    linger->next = server->lingers;
    if (linger->next) {
        linger->next->prev = linger;
    }
    server->lingers = linger;
    server->lingers_len++;
    server->handles_open++;
    shutdown(fd, SHUT_WR);
    uv_poll_start(&linger->poll, UV_READABLE, on_readable);
}

void hadb__http_linger_sweep(struct hadb_http_server *server, uint64_t now_ms)
{
    for (struct hadb_http_linger *linger = server->lingers, *next; linger; linger = next) {
        next = linger->next;
        if (now_ms >= linger->until_ms) {
            linger_end(linger);
        }
    }
}
