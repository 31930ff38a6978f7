/* SPDX-License-Identifier: Apache-2.0 */
/* Streaming answers: order, bounds, readers that are slow or leave, shutdown; and cutting queries apart. */
#include "tests/unit/node/http_rig.h"

static const struct hadb_http_server_options plain;

#define GET_STREAM "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"

struct write_args {
    struct rig *rig;
    const void *data;
    size_t len;
    int r;
};

static void write_task(void *arg)
{
    struct write_args *args = arg;
    args->r = hadb_http_stream_write(args->rig->stream, hadb_slice(args->data, args->len));
}

static int stream_write(struct rig *rig, const void *data, size_t len)
{
    struct write_args args = {.rig = rig, .data = data, .len = len};
    hadb_loop_call(rig->loop, write_task, &args);
    return args.r;
}

static void end_task(void *arg)
{
    struct rig *rig = arg;
    hadb_http_stream_end(rig->stream);
    rig->stream = NULL;
}

/* Connects, asks for the stream and reads the head of the answer. */
static int open_stream(struct rig *rig)
{
    int fd = raw_connect(rig->address);
    raw_send_str(fd, GET_STREAM);
    struct raw_reply reply = raw_read(fd);
    assert_int_equal(reply.status, 200);
    assert_true(header_is(&reply, "Content-Type", "application/octet-stream"));
    assert_true(header_is(&reply, "Transfer-Encoding", "chunked"));
    assert_true(header_is(&reply, "X-More", "1"));
    raw_reply_deinit(&reply);
    gate_wait(&rig->stream_gate, 1);
    return fd;
}

/* Takes the chunk framing off @in. */
static bool dechunk(struct hadb_buf *in, struct hadb_buf *out)
{
    const char *p = hadb_buf_cstr(in);
    const char *end = p + in->len;
    for (;;) {
        char *after = NULL;
        size_t len = strtoul(p, &after, 16);
        if (after == p || after + 2 > end) {
            return false;
        }
        p = after + 2;
        if (len == 0) {
            return true; /* the last chunk */
        }
        if (p + len + 2 > end) {
            return false;
        }
        hadb_buf_append(out, p, len);
        p += len + 2;
    }
}

static void stream__delivers_what_is_written_at_once_and_in_order(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    int fd = open_stream(rig);
    struct hadb_buf got = {0};
    struct hadb_buf want = {0};
    struct raw_reply scratch = {0};
    for (unsigned i = 0; i < 50; i++) {
        char text[32];
        int n = snprintf(text, sizeof(text), "<message %u>", i);
        hadb_buf_append(&want, text, (size_t)n);
        assert_int_equal(stream_write(rig, text, (size_t)n), 0);
        while (!raw_has(&got, text)) { /* it arrives although nothing follows */
            assert_true(raw_byte(fd, &got, &scratch));
        }
    }
    hadb_loop_call(rig->loop, end_task, rig);
    assert_true(raw_drain(fd, &got));
    struct hadb_buf plain_text = {0};
    assert_true(dechunk(&got, &plain_text));
    assert_true(hadb_slice_eq(hadb_buf_slice(&plain_text), hadb_buf_slice(&want)));
    assert_int_equal(rig->closed_gate.count, 0); /* the owner ended it */
    hadb_buf_deinit(&plain_text);
    hadb_buf_deinit(&got);
    hadb_buf_deinit(&want);
    close(fd);
    rig_down(rig);
}

static void stream__end_sends_what_is_still_buffered(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){0});
    size_t len = 6u << 20; /* more than the sockets hold */
    char *data = malloc(len);
    for (size_t i = 0; i < len; i++) {
        data[i] = (char)(i * 31 >> 3);
    }
    int fd = open_stream(rig);
    assert_int_equal(stream_write(rig, data, len), 0);
    hadb_loop_call(rig->loop, end_task, rig);
    struct hadb_buf got = {0};
    struct hadb_buf plain_text = {0};
    assert_true(raw_drain(fd, &got));
    assert_true(dechunk(&got, &plain_text));
    assert_int_equal(plain_text.len, len);
    assert_memory_equal(plain_text.data, data, len);
    hadb_buf_deinit(&got);
    hadb_buf_deinit(&plain_text);
    free(data);
    close(fd);
    rig_down(rig);
}

static void stream__slow_reader_is_cut_off_at_the_bound(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    static char block[65536];
    rig->stream_bytes_max = 1u << 20;
    int fd = open_stream(rig); /* and never reads again */
    int r = 0;
    unsigned written = 0;
    while (r == 0 && written < 2000) {
        r = stream_write(rig, block, sizeof(block));
        written++;
    }
    assert_int_equal(r, HADB_ETOOBIG);
    assert_true(written > 16); /* the bound, at least, was buffered */
    gate_wait(&rig->closed_gate, 1);
    assert_int_equal(rig->closed_code, HADB_ETOOBIG);
    struct hadb_buf got = {0};
    struct hadb_buf plain_text = {0};
    assert_true(raw_drain(fd, &got));
    assert_false(dechunk(&got, &plain_text)); /* the reader can tell that it is not the whole */
    hadb_buf_deinit(&got);
    hadb_buf_deinit(&plain_text);
    close(fd);
    rig_down(rig);
}

static void stream__owner_hears_that_the_peer_is_gone(void **state)
{
    (void)state;
    for (unsigned how = 0; how < 3; how++) {
        struct rig *rig = rig_up(plain);
        static char block[65536];
        int fd = open_stream(rig);
        if (how == 1) { /* while the socket is full */
            for (unsigned i = 0; i < 120; i++) {
                assert_int_equal(stream_write(rig, block, sizeof(block)), 0);
            }
        }
        if (how == 2) {
            struct linger linger = {.l_onoff = 1};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        }
        close(fd);
        gate_wait(&rig->closed_gate, 1);
        assert_int_equal(rig->closed_code, HADB_EIO);
        rig_down(rig);
    }
}

static void stream__idle_one_outlives_the_idle_timeout(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){.idle_timeout_s = 1});
    int fd = open_stream(rig);
    int plain_fd = raw_connect(rig->address); /* idle as well: shows when the time-out has struck */
    assert_true(raw_drain(plain_fd, NULL));
    assert_int_equal(rig->closed_gate.count, 0);
    assert_int_equal(stream_write(rig, "x", 1), 0);
    struct hadb_buf got = {0};
    struct raw_reply scratch = {0};
    assert_true(raw_byte(fd, &got, &scratch));
    hadb_buf_deinit(&got);
    close(plain_fd);
    close(fd);
    gate_wait(&rig->closed_gate, 1);
    rig_down(rig);
}

static void stream__server_stop_closes_it(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    int fd = open_stream(rig);
    hadb_http_server_stop(rig->server);
    rig->server = NULL;
    gate_wait(&rig->closed_gate, 1);
    assert_int_equal(rig->closed_code, HADB_ECANCELED);
    assert_true(raw_drain(fd, NULL));
    close(fd);
    rig_down(rig);
}

static void stream_on_held(void *arg)
{
    struct rig *rig = arg;
    struct hadb_http_stream_options options = {
        .content_type = "text/plain", .closed = on_closed, .arg = rig};
    rig->stream = hadb_http_stream_begin(rig->held, &options);
    rig->held = NULL;
}

static void stream__may_begin_later_and_not_for_a_client_that_is_gone(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    int fd = raw_connect(rig->address);
    raw_send_str(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    gate_wait(&rig->held_gate, 1);
    hadb_loop_call(rig->loop, stream_on_held, rig);
    assert_non_null(rig->stream);
    assert_int_equal(stream_write(rig, "hello", 5), 0);
    hadb_loop_call(rig->loop, end_task, rig);
    struct hadb_buf got = {0};
    assert_true(raw_drain(fd, &got));
    assert_true(raw_has(&got, "5\r\nhello\r\n0\r\n"));
    hadb_buf_deinit(&got);
    close(fd);

    fd = raw_connect(rig->address);
    raw_send_str(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    gate_wait(&rig->held_gate, 2);
    close(fd);
    gate_wait(&rig->gone_gate, 1);
    hadb_loop_call(rig->loop, stream_on_held, rig);
    assert_null(rig->stream);
    assert_int_equal(rig->closed_gate.count, 0);
    rig_down(rig);
}

/* ---- queries and paths ---- */

static void query__values_are_found_raw_and_decoded_byte_by_byte(void **state)
{
    (void)state;
    struct hadb_slice query = hadb_slice_str("a=1&key=%00%2f+%26&if_absent&a=2&empty=&x==y&&");
    struct hadb_slice value;
    struct hadb_buf out = {0};
    assert_true(hadb_http_query_find(query, "a", &value));
    assert_true(hadb_slice_eq(value, hadb_slice_str("1")));
    assert_true(hadb_http_query_find(query, "if_absent", &value));
    assert_int_equal(value.len, 0);
    assert_true(hadb_http_query_find(query, "empty", &value));
    assert_int_equal(value.len, 0);
    assert_true(hadb_http_query_find(query, "x", &value));
    assert_true(hadb_slice_eq(value, hadb_slice_str("=y")));
    assert_false(hadb_http_query_find(query, "ke", &value));
    assert_false(hadb_http_query_find(query, "keyy", &value));
    assert_false(hadb_http_query_find(hadb_slice("", 0), "a", &value));
    assert_int_equal(hadb_http_query_get(query, "key", &out, NULL), 0);
    assert_true(hadb_slice_eq(hadb_buf_slice(&out), hadb_slice("\0/+&", 4)));
    assert_int_equal(hadb_http_query_get(query, "none", &out, NULL), HADB_ABSENT);
    static const char *const bad[] = {"k=%", "k=%1", "k=%zz", "k=a%2"};
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        struct hadb_error err = {0};
        assert_int_equal(hadb_http_query_get(hadb_slice_str(bad[i]), "k", &out, &err), HADB_EINVAL);
        assert_non_null(strstr(err.message, "'k'"));
    }
    hadb_buf_deinit(&out);
}

static void path__is_cut_before_it_is_decoded(void **state)
{
    (void)state;
    struct hadb_slice path = hadb_slice_str("/v1//a%2Fb/");
    static const char *const want[] = {"v1", "", "a%2Fb", ""};
    struct hadb_slice segment;
    for (size_t i = 0; i < HADB_LEN(want); i++) {
        assert_true(hadb_http_path_next(&path, &segment));
        assert_true(hadb_slice_eq(segment, hadb_slice_str(want[i])));
    }
    assert_false(hadb_http_path_next(&path, &segment));
    path = hadb_slice_str("*");
    assert_false(hadb_http_path_next(&path, &segment));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream__delivers_what_is_written_at_once_and_in_order),
        cmocka_unit_test(stream__end_sends_what_is_still_buffered),
        cmocka_unit_test(stream__slow_reader_is_cut_off_at_the_bound),
        cmocka_unit_test(stream__owner_hears_that_the_peer_is_gone),
        cmocka_unit_test(stream__idle_one_outlives_the_idle_timeout),
        cmocka_unit_test(stream__server_stop_closes_it),
        cmocka_unit_test(stream__may_begin_later_and_not_for_a_client_that_is_gone),
        cmocka_unit_test(query__values_are_found_raw_and_decoded_byte_by_byte),
        cmocka_unit_test(path__is_cut_before_it_is_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
