/* SPDX-License-Identifier: Apache-2.0 */
/* A server under test: its handler echoes, answers later, keeps exchanges for the test, or streams. */
#ifndef HADB_TESTS_UNIT_NODE_HTTP_RIG_H
#define HADB_TESTS_UNIT_NODE_HTTP_RIG_H
#include "tests/unit/node/transport_help.h"

#include "base/alloc.h"
#include "base/error.h"
#include "node/http_server.h"
#include "node/pool.h"

struct rig {
    struct hadb_loop *loop;
    struct hadb_pool *pool;
    struct hadb_http_server *server;
    char address[HADB_NET_TEXT_BYTES];
    struct gate held_gate;           /* an exchange was kept */
    struct gate gone_gate;           /* its client went away */
    struct gate stream_gate;         /* a stream was begun */
    struct gate closed_gate;         /* it was closed */
    struct hadb_http_exchange *held; /* loop thread */
    struct hadb_http_stream *stream; /* loop thread */
    size_t stream_bytes_max;
    int closed_code;  /* loop thread, read behind closed_gate */
    unsigned handled; /* loop thread */
    bool reply_when_gone;
};

struct later {
    struct hadb_job job;
    struct hadb_http_exchange *exchange;
    struct hadb_buf body;
};

static void later_run(void *arg)
{
    (void)arg;
}

static void later_done(void *arg, int r)
{
    struct later *later = arg;
    (void)r;
    hadb_http_reply_take(later->exchange, 200, NULL, 0, &later->body);
    free(later);
}

static void on_gone(void *arg)
{
    struct rig *rig = arg;
    if (rig->reply_when_gone) {
        hadb_http_reply(rig->held, 200, NULL, 0, hadb_slice_str("too late"));
        rig->held = NULL;
    }
    gate_raise(&rig->gone_gate);
}

static void on_closed(void *arg, int code)
{
    struct rig *rig = arg;
    rig->closed_code = code;
    rig->stream = NULL;
    gate_raise(&rig->closed_gate);
}

static void echo(struct hadb_http_exchange *x, const struct hadb_http_request *request)
{
    struct hadb_buf path = {0};
    struct hadb_buf query = {0};
    hadb_buf_append(&path, request->path.data, request->path.len);
    hadb_buf_append(&query, request->query.data, request->query.len);
    if (path.len > 4096) { /* more than an answer's headers may hold */
        hadb_buf_clear(&path);
        hadb_buf_printf(&path, "%zu bytes", request->path.len);
    }
    const char *id = hadb_http_request_header(x, "hadb-request-id");
    struct hadb_http_header headers[] = {
        {"X-Method", request->method_text},
        {"X-Path", hadb_buf_cstr(&path)},
        {"X-Query", query.len ? hadb_buf_cstr(&query) : "-"},
        {"X-Id", id ? id : "-"},
    };
    hadb_http_reply(x, 200, headers, HADB_LEN(headers), request->body);
    hadb_buf_deinit(&path);
    hadb_buf_deinit(&query);
}

static void handle(void *arg, struct hadb_http_exchange *x, const struct hadb_http_request *request)
{
    struct rig *rig = arg;
    struct hadb_slice path = request->path;
    struct hadb_slice first;
    rig->handled++;
    if (!hadb_http_path_next(&path, &first)) {
        hadb_http_reply_error(x, 404, HADB_EINVAL, NULL, 0, "no such path");
    } else if (hadb_slice_eq(first, hadb_slice_str("later"))) {
        struct later *later = calloc(1, sizeof(*later));
        later->job.run = later_run;
        later->job.done = later_done;
        later->job.arg = later;
        later->exchange = x;
        later->body = hadb_http_take_body(x);
        if (hadb_pool_submit(rig->pool, NULL, &later->job, NULL) != 0) {
            abort();
        }
    } else if (hadb_slice_eq(first, hadb_slice_str("hold"))) {
        rig->held = x;
        hadb_http_on_gone(x, on_gone, rig);
        gate_raise(&rig->held_gate);
    } else if (hadb_slice_eq(first, hadb_slice_str("stream"))) {
        struct hadb_http_header more[] = {{"X-More", "1"}};
        struct hadb_http_stream_options options = {.content_type = "application/octet-stream",
                                                   .headers = more,
                                                   .headers_len = 1,
                                                   .buffer_bytes_max = rig->stream_bytes_max,
                                                   .closed = on_closed,
                                                   .arg = rig};
        rig->stream = hadb_http_stream_begin(x, &options);
        gate_raise(&rig->stream_gate);
    } else if (request->method == HADB_HTTP_OTHER) {
        hadb_http_reply_error(x, 405, HADB_EINVAL, NULL, 0, "unknown method");
    } else {
        echo(x, request);
    }
}

static inline struct rig *rig_up(struct hadb_http_server_options options)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    struct hadb_error err = {0};
    rig->loop = loop_up();
    gate_init(&rig->held_gate);
    gate_init(&rig->gone_gate);
    gate_init(&rig->stream_gate);
    gate_init(&rig->closed_gate);
    assert_int_equal(hadb_pool_start(rig->loop, NULL, &rig->pool, NULL), 0);
    options.handler = handle;
    options.arg = rig;
    options.listen = options.listen ? options.listen : "127.0.0.1:0";
    if (hadb_http_server_start(rig->loop, &options, &rig->server, &err) != 0) {
        fail_msg("%s", err.message);
    }
    snprintf(rig->address, sizeof(rig->address), "%s", hadb_http_server_address(rig->server));
    return rig;
}

static inline void rig_down(struct rig *rig)
{
    assert_int_equal(hadb_pool_stop(rig->pool, in_ms(WAIT_MS_MAX), NULL), 0);
    hadb_http_server_stop(rig->server);
    loop_down(rig->loop);
    gate_deinit(&rig->held_gate);
    gate_deinit(&rig->gone_gate);
    gate_deinit(&rig->stream_gate);
    gate_deinit(&rig->closed_gate);
    free(rig);
}

/* Sends one request on a fresh connection and returns the answer. */
static inline struct raw_reply ask(struct rig *rig, const char *text)
{
    int fd = raw_connect(rig->address);
    raw_send_str(fd, text);
    struct raw_reply reply = raw_read(fd);
    close(fd);
    return reply;
}

static inline bool header_is(struct raw_reply *reply, const char *name, const char *value)
{
    const char *at = raw_header(reply, name);
    size_t len = strlen(value);
    return at && strncmp(at, value, len) == 0 && at[len] == '\r';
}
#endif
