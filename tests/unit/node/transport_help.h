/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers of the transport tests: waiting for another thread, raw sockets, whole HTTP answers. */
#ifndef HADB_TESTS_UNIT_NODE_TRANSPORT_HELP_H
#define HADB_TESTS_UNIT_NODE_TRANSPORT_HELP_H
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/thread.h"
#include "node/loop.h"
#include "node/net.h"

#define WAIT_MS_MAX 20000u /* a test that waits longer has failed */

static inline uint64_t in_ms(uint64_t ms)
{
    return hadb_now_ms(hadb_env_host()) + ms;
}

/* A counter that other threads raise and the test waits for. */
struct gate {
    struct hadb_mutex mu;
    struct hadb_cond changed;
    unsigned count; /* mu */
};

static inline void gate_init(struct gate *gate)
{
    memset(gate, 0, sizeof(*gate));
    hadb_mutex_init(&gate->mu, 0);
    hadb_cond_init(&gate->changed);
}

static inline void gate_deinit(struct gate *gate)
{
    hadb_cond_deinit(&gate->changed);
    hadb_mutex_deinit(&gate->mu);
}

static inline void gate_raise(struct gate *gate)
{
    hadb_mutex_lock(&gate->mu);
    gate->count++;
    hadb_cond_broadcast(&gate->changed);
    hadb_mutex_unlock(&gate->mu);
}

static inline bool gate_reached(struct gate *gate, unsigned count, uint64_t ms)
{
    uint64_t deadline = in_ms(ms);
    hadb_mutex_lock(&gate->mu);
    while (gate->count < count && in_ms(0) < deadline) {
        hadb_cond_wait_ms(&gate->changed, &gate->mu, deadline - in_ms(0));
    }
    bool reached = gate->count >= count;
    hadb_mutex_unlock(&gate->mu);
    return reached;
}

static inline void gate_wait(struct gate *gate, unsigned count)
{
    assert_true(gate_reached(gate, count, WAIT_MS_MAX));
}

static inline struct hadb_loop *loop_up(void)
{
    struct hadb_loop *loop = NULL;
    struct hadb_error err = {0};
    if (hadb_loop_start(NULL, &loop, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return loop;
}

static inline void loop_down(struct hadb_loop *loop)
{
    struct hadb_error err = {0};
    if (hadb_loop_stop(loop, in_ms(WAIT_MS_MAX), &err) != 0) {
        fail_msg("%s", err.message);
    }
}

/* ---- raw sockets ---- */

static inline int raw_connect(const char *address)
{
    struct hadb_net_address parsed;
    struct timeval limit = {.tv_sec = WAIT_MS_MAX / 1000};
    int on = 1;
    assert_int_equal(hadb_net_parse(address, &parsed, NULL), 0);
    int fd = socket(parsed.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&parsed.sockaddr, parsed.sockaddr_len), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

/* Sends all of it, or as much as the peer takes; false when it stops taking. */
static inline bool raw_send(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n < 0) {
            return false;
        }
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static inline bool raw_send_str(int fd, const char *text)
{
    return raw_send(fd, text, strlen(text));
}

struct raw_reply {
    unsigned status; /* 0: the connection was closed without an answer */
    struct hadb_buf head, body;
    bool closed; /* the peer closed after it */
    bool timed_out;
};

static inline void raw_reply_deinit(struct raw_reply *reply)
{
    hadb_buf_deinit(&reply->head);
    hadb_buf_deinit(&reply->body);
}

/* One byte at a time: keeps what follows in the socket. False at the end or on a time-out. */
static inline bool raw_byte(int fd, struct hadb_buf *out, struct raw_reply *reply)
{
    char c;
    ssize_t n = recv(fd, &c, 1, 0);
    if (n != 1) {
        reply->closed = n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
        reply->timed_out = !reply->closed;
        return false;
    }
    return hadb_buf_append(out, &c, 1) == 0;
}

static inline const char *raw_header(struct raw_reply *reply, const char *name)
{
    const char *head = hadb_buf_cstr(&reply->head);
    const char *at = head ? strcasestr(head, name) : NULL;
    return at && at[strlen(name)] == ':' ? at + strlen(name) + 2 : NULL;
}

/* Reads one answer with Content-Length. */
static inline struct raw_reply raw_read(int fd)
{
    struct raw_reply reply = {0};
    while (reply.head.len < 4 || memcmp(reply.head.data + reply.head.len - 4, "\r\n\r\n", 4) != 0) {
        if (!raw_byte(fd, &reply.head, &reply)) {
            return reply;
        }
    }
    const char *head = hadb_buf_cstr(&reply.head);
    reply.status = (unsigned)atoi(head + 9);
    if (reply.status == 100) {
        raw_reply_deinit(&reply);
        return raw_read(fd);
    }
    const char *length = raw_header(&reply, "Content-Length");
    size_t left = length ? strtoul(length, NULL, 10) : 0;
    char chunk[65536];
    while (left > 0) {
        ssize_t n = recv(fd, chunk, HADB_MIN(left, sizeof(chunk)), 0);
        if (n <= 0) {
            reply.closed = true;
            break;
        }
        hadb_buf_append(&reply.body, chunk, (size_t)n);
        left -= (size_t)n;
    }
    return reply;
}

/* Reads until the peer closes; true if it did. */
static inline bool raw_drain(int fd, struct hadb_buf *out)
{
    char chunk[65536];
    for (;;) {
        ssize_t n = recv(fd, chunk, sizeof(chunk), 0);
        if (n == 0 || (n < 0 && errno == ECONNRESET)) {
            return true;
        }
        if (n < 0) {
            return false;
        }
        if (out) {
            hadb_buf_append(out, chunk, (size_t)n);
        }
    }
}

static inline bool raw_has(struct hadb_buf *buf, const char *text)
{
    const char *s = hadb_buf_cstr(buf);
    return s && strstr(s, text) != NULL;
}
#endif
