/* SPDX-License-Identifier: Apache-2.0 */
/* A client under test, requests whose results the test can wait for, and sockets that misbehave on purpose. */
#ifndef HADB_TESTS_UNIT_NODE_CLIENT_RIG_H
#define HADB_TESTS_UNIT_NODE_CLIENT_RIG_H
#include "tests/unit/node/http_rig.h"

#include "node/http_client.h"

static const struct hadb_http_server_options plain;

/* ---- a client and one request under way ---- */

struct asker {
    struct hadb_loop *loop;
    struct hadb_http_client *client;
};

struct asked {
    struct asker *asker;
    struct hadb_http_call_options options;
    struct hadb_http_call *call;
    struct gate started, opened, data, done;
    int start_r;
    bool inside;      /* loop thread: hadb_http_request() has not returned */
    bool from_inside; /* a callback came while it had not */
    bool cancel_on_data;
    struct asked *then; /* started from on_done, or from on_data when it is `nested` */
    bool nested;
    unsigned data_status;
    struct hadb_buf got; /* from on_data */
    /* copy of the result */
    int code;
    enum hadb_http_failure failure;
    bool sent;
    unsigned status;
    struct hadb_buf body;
    char message[200], x_path[300], x_query[100], x_method[20];
};

static inline struct asker asker_up(struct hadb_http_client_options options)
{
    struct asker asker = {.loop = loop_up()};
    assert_int_equal(hadb_http_client_start(asker.loop, &options, &asker.client, NULL), 0);
    return asker;
}

static inline void asker_down(struct asker *asker)
{
    hadb_http_client_stop(asker->client);
    loop_down(asker->loop);
}

static inline void copy_header(const struct hadb_http_result *result, const char *name, char *out,
                               size_t size)
{
    const char *value = hadb_http_result_header(result, name);
    snprintf(out, size, "%s", value ? value : "(none)");
}

static inline void start_asked(void *arg);

static inline void on_asked_done(void *arg, const struct hadb_http_result *result)
{
    struct asked *asked = arg;
    asked->from_inside |= asked->inside;
    asked->code = result->code;
    asked->failure = result->failure;
    asked->sent = result->sent;
    asked->status = result->status;
    asked->body = hadb_buf_take(result->body);
    snprintf(asked->message, sizeof(asked->message), "%s", result->message);
    copy_header(result, "x-path", asked->x_path, sizeof(asked->x_path));
    copy_header(result, "X-QUERY", asked->x_query, sizeof(asked->x_query));
    copy_header(result, "X-Method", asked->x_method, sizeof(asked->x_method));
    if (asked->then && !asked->nested) {
        start_asked(asked->then);
    }
    gate_raise(&asked->done);
}

static inline void on_asked_data(void *arg, struct hadb_slice data)
{
    struct asked *asked = arg;
    hadb_buf_append(&asked->got, data.data, data.len);
    if (asked->then && asked->nested) {
        start_asked(asked->then);
        asked->then = NULL;
    }
    if (asked->cancel_on_data) {
        hadb_http_cancel(asked->call);
    }
    gate_raise(&asked->data);
}

static inline void on_asked_open(void *arg, unsigned status)
{
    struct asked *asked = arg;
    asked->data_status = status;
    gate_raise(&asked->opened);
}

static inline void start_asked(void *arg)
{
    struct asked *asked = arg;
    asked->inside = true;
    asked->start_r = hadb_http_request(asked->asker->client, &asked->options, &asked->call, NULL);
    asked->inside = false;
    gate_raise(&asked->started);
}

static inline struct asked *asked_new(struct asker *asker, const char *method, const char *url)
{
    struct asked *asked = calloc(1, sizeof(*asked));
    asked->asker = asker;
    asked->code = 1;
    gate_init(&asked->started);
    gate_init(&asked->opened);
    gate_init(&asked->data);
    gate_init(&asked->done);
    asked->options = (struct hadb_http_call_options){.method = method,
                                                     .url = url,
                                                     .deadline_ms = in_ms(WAIT_MS_MAX),
                                                     .on_open = on_asked_open,
                                                     .on_done = on_asked_done,
                                                     .arg = asked};
    return asked;
}

static inline void asked_start(struct asked *asked)
{
    hadb_loop_call(asked->asker->loop, start_asked, asked);
    assert_int_equal(asked->start_r, 0);
}

static inline void asked_wait(struct asked *asked)
{
    gate_wait(&asked->done, 1);
    assert_false(asked->from_inside);
}

static inline void asked_free(struct asked *asked)
{
    assert_int_equal(asked->done.count, 1); /* exactly once */
    gate_deinit(&asked->started);
    gate_deinit(&asked->opened);
    gate_deinit(&asked->data);
    gate_deinit(&asked->done);
    hadb_buf_deinit(&asked->body);
    hadb_buf_deinit(&asked->got);
    free(asked);
}

static inline void cancel_task(void *arg)
{
    struct asked *asked = arg;
    if (asked->done.count == 0) {
        hadb_http_cancel(asked->call);
        hadb_http_cancel(asked->call);
    }
}

static inline const char *url_of(const char *address, const char *path)
{
    static char url[512];
    snprintf(url, sizeof(url), "http://%s%s", address, path);
    return url;
}

/* ---- sockets that misbehave ---- */

static inline int fake_listen(char address[HADB_NET_TEXT_BYTES], int backlog)
{
    struct hadb_net_address parsed;
    int fd = -1;
    assert_int_equal(hadb_net_parse("127.0.0.1:0", &parsed, NULL), 0);
    assert_int_equal(hadb_net_listen(&parsed, backlog, &fd, NULL), 0);
    hadb_net_format(&parsed, address);
    return fd;
}

static inline bool readable(int fd, int ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, ms) == 1;
}

static inline int fake_accept(int listen_fd)
{
    struct timeval limit = {.tv_sec = WAIT_MS_MAX / 1000};
    assert_true(readable(listen_fd, WAIT_MS_MAX));
    int fd = accept(listen_fd, NULL, NULL);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

/* Reads a request's head and so much body as it announces. */
static inline void fake_read(int fd, struct hadb_buf *out)
{
    struct raw_reply reply = raw_read(fd); /* the framing is the same */
    if (out) {
        hadb_buf_append(out, reply.head.data, reply.head.len);
        hadb_buf_append(out, reply.body.data, reply.body.len);
    }
    raw_reply_deinit(&reply);
}

#define OK_REPLY "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#endif
