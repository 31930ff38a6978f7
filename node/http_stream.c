/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers without end: a bounded buffer between hadb_http_stream_write() and the connection.
 *
 * Thread: the loop.
 * Invariants: a stream is held by libmicrohttpd (until it frees the response) and by its owner (until
 * hadb_http_stream_end() or closed()), and freed when both let go. The connection is suspended exactly
 * while there is nothing to send.
 * Happy path: begin → write → resume → read_chunk takes the bytes → … → end → the last chunk.
 * Failure modes: peer gone, buffer full, server stops: the socket is shut down, libmicrohttpd drops the
 * connection and closed() tells the owner why.
 */
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "node/http_server_private.h"

#define BUFFER_DEFAULT ((size_t)8 << 20)
#define BUFFER_KEPT_MAX ((size_t)64 << 10) /* memory that an idle stream may keep */
#define CHUNK_BYTES_MAX ((size_t)64 << 10)

struct hadb_http_stream {
    struct hadb_http_server *server;
    struct hadb_http_exchange *exchange; /* NULL once the connection is closed */
    struct hadb_buf buf;                 /* bytes from `taken` on wait */
    size_t taken;
    size_t buffer_bytes_max;
    void (*closed)(void *arg, int code);
    void *arg;
    int failed; /* why it is being closed; 0 = it is not */
    bool ended;
    bool held_by_mhd;
    bool held_by_owner;
};

static void free_if_unheld(struct hadb_http_stream *stream)
{
    if (!stream->held_by_mhd && !stream->held_by_owner) {
        hadb_buf_deinit(&stream->buf);
        hadb_free(stream);
    }
}

static ssize_t read_chunk(void *cls, uint64_t pos, char *out, size_t max)
{
    struct hadb_http_stream *stream = cls;
    (void)pos;
    if (stream->failed) {
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    size_t len = HADB_MIN(stream->buf.len - stream->taken, max);
    if (len == 0) {
        if (stream->ended) {
            return MHD_CONTENT_READER_END_OF_STREAM;
        }
        MHD_suspend_connection(stream->exchange->conn->mhd);
        stream->exchange->suspended = true;
        return 0;
    }
    memcpy(out, stream->buf.data + stream->taken, len);
    stream->taken += len;
    if (stream->taken == stream->buf.len) {
        stream->taken = 0;
        hadb_buf_clear(&stream->buf);
        if (stream->buf.cap > BUFFER_KEPT_MAX) {
            hadb_buf_deinit(&stream->buf);
        }
    }
    return (ssize_t)len;
}

/* libmicrohttpd is done with the response. */
static void on_response_freed(void *cls)
{
    struct hadb_http_stream *stream = cls;
    stream->held_by_mhd = false;
    free_if_unheld(stream);
}

static struct MHD_Response *stream_response(struct hadb_http_stream *stream,
                                            const struct hadb_http_stream_options *options)
{
    const struct hadb_http_header own[] = {{"Content-Type", options->content_type},
                                           {"Connection", "close"}};
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, CHUNK_BYTES_MAX, read_chunk, stream, on_response_freed);
    if (!response) {
        return NULL;
    }
    stream->held_by_mhd = true;
    if (!hadb__http_add_headers(response, own, HADB_LEN(own)) ||
        !hadb__http_add_headers(response, options->headers, options->headers_len)) {
        MHD_destroy_response(response);
        return NULL;
    }
    return response;
}

struct hadb_http_stream *hadb_http_stream_begin(struct hadb_http_exchange *x,
                                                const struct hadb_http_stream_options *options)
{
    HADB_ASSERT(options->content_type && options->closed);
    struct hadb_http_stream *stream = NULL;
    struct MHD_Response *response = NULL;
    if (!x->gone) {
        stream = hadb_calloc(1, sizeof(*stream));
    }
    if (stream) {
        stream->server = x->server;
        stream->buffer_bytes_max =
            options->buffer_bytes_max ? options->buffer_bytes_max : BUFFER_DEFAULT;
        stream->closed = options->closed;
        stream->arg = options->arg;
        stream->held_by_owner = true;
        response = stream_response(stream, options);
        if (!response) {
            stream->held_by_owner = false;
            free_if_unheld(stream);
            stream = NULL;
        }
    }
    if (stream) {
        stream->exchange = x;
        x->stream = stream;
        MHD_set_connection_option(x->conn->mhd, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
    }
    hadb__http_answer(x, 200, response);
    return stream;
}

void hadb__http_stream_fail(struct hadb_http_stream *stream, int code)
{
    if (stream->failed || !stream->exchange) {
        return;
    }
    stream->failed = code;
    if (stream->exchange->conn) {
        shutdown(stream->exchange->conn->fd, SHUT_RDWR); /* also when it is blocked in sending */
    }
    hadb__http_resume(stream->exchange);
    hadb__http_kick(stream->server);
}

void hadb__http_stream_completed(struct hadb_http_stream *stream)
{
    stream->exchange = NULL;
    if (!stream->held_by_owner) {
        return; /* libmicrohttpd still holds it: it frees the response after this */
    }
    stream->held_by_owner = false;
    bool freed_later = stream->held_by_mhd;
    stream->closed(stream->arg, stream->failed ? stream->failed : HADB_EIO);
    if (!freed_later) {
        free_if_unheld(stream);
    }
}

/* Moves the waiting bytes to the front once most of the buffer is behind them. */
static void compact(struct hadb_http_stream *stream)
{
    if (stream->taken > stream->buf.len / 2) {
        size_t left = stream->buf.len - stream->taken;
        memmove(stream->buf.data, stream->buf.data + stream->taken, left);
        stream->buf.len = left;
        stream->taken = 0;
    }
}

int hadb_http_stream_write(struct hadb_http_stream *stream, struct hadb_slice data)
{
    HADB_ASSERT(stream->held_by_owner && !stream->ended);
    if (stream->failed) {
        return stream->failed;
    }
    compact(stream);
    int r = 0;
    if (data.len > stream->buffer_bytes_max -
                       HADB_MIN(hadb_http_stream_buffered(stream), stream->buffer_bytes_max)) {
        r = HADB_ETOOBIG;
    } else {
        r = hadb_buf_append(&stream->buf, data.data, data.len);
    }
    if (r != 0) {
        hadb__http_stream_fail(stream, r);
        return r;
    }
    hadb__http_resume(stream->exchange);
    return 0;
}

size_t hadb_http_stream_buffered(const struct hadb_http_stream *stream)
{
    return stream->buf.len - stream->taken;
}

void hadb_http_stream_end(struct hadb_http_stream *stream)
{
    if (!stream) {
        return;
    }
    HADB_ASSERT(stream->held_by_owner && !stream->ended);
    stream->ended = true;
    stream->held_by_owner = false;
    if (stream->exchange) {
        hadb__http_resume(stream->exchange);
    }
    free_if_unheld(stream);
}
