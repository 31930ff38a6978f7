/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 for the benchmarks: blocking on one socket with poll(), no dependency, next to no work
 * per request, so that the client's cost does not show in the figures.
 *
 * Invariant: after any failure the connection is closed; a later answer to an old request can never be
 * taken for the answer to a new one.
 */
#include "bench/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/stats.h"
#include "hadb/kv.h"

#define HEAD_BYTES_MAX 4096u
#define REPLY_BYTES_MAX (256u << 20)

void bench_http_init(struct bench_http *http, const char *address, const char *token)
{
    *http = (struct bench_http){.fd = -1};
    snprintf(http->address, sizeof http->address, "%s", address);
    snprintf(http->token, sizeof http->token, "%s", token ? token : "");
}

static void drop(struct bench_http *http)
{
    if (http->fd >= 0) {
        close(http->fd);
    }
    http->fd = -1;
    http->len = 0;
}

void bench_http_deinit(struct bench_http *http)
{
    drop(http);
    free(http->data);
    *http = (struct bench_http){.fd = -1};
}

void bench_http_point(struct bench_http *http, const char *address)
{
    drop(http);
    snprintf(http->address, sizeof http->address, "%s", address);
}

/* Waits for the socket; 1 ready, 0 deadline. */
static int wait_for(int fd, short events, uint64_t deadline_ns)
{
    for (;;) {
        uint64_t now_ns = bench_now_ns();
        if (now_ns >= deadline_ns) {
            return 0;
        }
        struct pollfd entry = {.fd = fd, .events = events};
        uint64_t left_ms = (deadline_ns - now_ns + 999999) / 1000000;
        int r = poll(&entry, 1, left_ms > 60000 ? 60000 : (int)left_ms);
        if (r > 0) {
            return 1;
        }
        if (r < 0 && errno != EINTR) {
            return 0;
        }
    }
}

static int open_connection(struct bench_http *http, uint64_t deadline_ns)
{
    char host[64];
    struct sockaddr_in to = {.sin_family = AF_INET};
    snprintf(host, sizeof host, "%s", http->address);
    char *colon = strrchr(host, ':');
    if (colon == NULL) {
        return BENCH_HTTP_REFUSED;
    }
    *colon = '\0';
    to.sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) {
        return BENCH_HTTP_REFUSED;
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    int error = 0;
    socklen_t len = sizeof error;
    bool ok =
        fd >= 0 && (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS);
    ok = ok && wait_for(fd, POLLOUT, deadline_ns) &&
         getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0;
    if (!ok) {
        if (fd >= 0) {
            close(fd);
        }
        return BENCH_HTTP_REFUSED;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    http->fd = fd;
    http->len = 0;
    return 0;
}

static bool send_all(struct bench_http *http, const void *data, size_t len, bool more,
                     uint64_t deadline_ns)
{
    const char *at = data;
    while (len > 0) {
        ssize_t n = send(http->fd, at, len, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            if (!wait_for(http->fd, POLLOUT, deadline_ns)) {
                return false;
            }
        } else {
            return false;
        }
    }
    return true;
}

int bench_http_send(struct bench_http *http, const char *method, const char *path,
                    const char *headers, const void *body, size_t body_len, uint64_t deadline_ns)
{
    if (http->fd < 0 && open_connection(http, deadline_ns) != 0) {
        return BENCH_HTTP_REFUSED;
    }
    char head[HEAD_BYTES_MAX];
    int len = snprintf(head, sizeof head,
                       "%s %s HTTP/1.1\r\nHost: %s\r\n%s%s%sContent-Length: %zu\r\n%s\r\n", method,
                       path, http->address, http->token[0] ? "Authorization: Bearer " : "",
                       http->token, http->token[0] ? "\r\n" : "", body_len, headers ? headers : "");
    if (len < 0 || (size_t)len >= sizeof head) {
        bench_die("a request head of %d bytes is too long", len);
    }
    http->len = 0;
    if (!send_all(http, head, (size_t)len, body_len > 0, deadline_ns) ||
        !send_all(http, body, body_len, false, deadline_ns)) {
        drop(http);
        return BENCH_HTTP_LOST;
    }
    return 0;
}

/* Receives more; false at the end of the connection or the deadline. */
static bool receive_more(struct bench_http *http, uint64_t deadline_ns)
{
    if (http->len + 1 >= http->cap) {
        size_t cap = http->cap ? http->cap * 2 : 16384;
        char *grown = cap <= REPLY_BYTES_MAX ? realloc(http->data, cap) : NULL;
        if (grown == NULL) {
            return false;
        }
        http->data = grown;
        http->cap = cap;
    }
    for (;;) {
        ssize_t n = recv(http->fd, http->data + http->len, http->cap - http->len - 1, 0);
        if (n > 0) {
            http->len += (size_t)n;
            http->data[http->len] = '\0';
            return true;
        }
        if (n == 0 || (errno != EAGAIN && errno != EINTR) ||
            !wait_for(http->fd, POLLIN, deadline_ns)) {
            return false;
        }
    }
}

/* The value of a header, up to the end of its line; NULL when absent. */
static const char *find_header(const char *head, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = strstr(head, "\r\n"); at != NULL; at = strstr(at, "\r\n")) {
        at += 2;
        if (strncasecmp(at, name, len) == 0 && at[len] == ':') {
            at += len + 1;
            return at + strspn(at, " ");
        }
    }
    return NULL;
}

int bench_http_receive(struct bench_http *http, uint64_t deadline_ns, struct bench_reply *out)
{
    *out = (struct bench_reply){0};
    char *end = NULL;
    while (http->fd >= 0 && (http->len == 0 || (end = strstr(http->data, "\r\n\r\n")) == NULL)) {
        if (http->len > HEAD_BYTES_MAX || !receive_more(http, deadline_ns)) {
            drop(http);
        }
    }
    if (http->fd < 0 || sscanf(http->data, "HTTP/1.1 %3d", &out->status) != 1) {
        drop(http);
        return BENCH_HTTP_LOST;
    }
    *end = '\0';
    const char *length = find_header(http->data, "Content-Length");
    const char *version = find_header(http->data, "Hadb-Version");
    const char *connection = find_header(http->data, "Connection");
    bool closes = connection != NULL && strncasecmp(connection, "close", 5) == 0;
    if (version != NULL) {
        char text[HADB_VERSION_TEXT_BYTES];
        struct hadb_version parsed = {0};
        snprintf(text, sizeof text, "%.*s", (int)strcspn(version, "\r\n"), version);
        hadb_version_parse(text, &parsed);
        out->term = parsed.term;
        out->txid = parsed.txid;
    }
    size_t body_at = (size_t)(end - http->data) + 4;
    out->body_len = length ? strtoull(length, NULL, 10) : 0;
    while (length != NULL && http->len < body_at + out->body_len) {
        if (!receive_more(http, deadline_ns)) {
            drop(http);
            return BENCH_HTTP_LOST;
        }
    }
    if (length == NULL) {
        drop(http); /* no body length: this connection's next answer could not be told apart */
        return BENCH_HTTP_LOST;
    }
    out->body = http->data + body_at;
    if (closes) {
        close(http->fd);
        http->fd = -1;
    }
    return out->status;
}

int bench_http_request(struct bench_http *http, const char *method, const char *path,
                       const char *headers, const void *body, size_t body_len, uint64_t deadline_ns,
                       struct bench_reply *out)
{
    *out = (struct bench_reply){0};
    int r = bench_http_send(http, method, path, headers, body, body_len, deadline_ns);
    return r != 0 ? r : bench_http_receive(http, deadline_ns, out);
}
