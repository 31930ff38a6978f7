/* SPDX-License-Identifier: Apache-2.0 */
/* What the HTTP server refuses, on raw sockets: every refusal is one well-formed answer with a JSON body, and the
 * client sees it, whatever it is still sending. */
#include "tests/unit/node/http_rig.h"

#define LINE "PUT /echo HTTP/1.1\r\nHost: x\r\n"

/* Everything that comes until the server closes, which it must: exactly one answer of this status with a JSON
 * body. */
static void refused(struct rig *rig, const void *text, size_t len, unsigned status)
{
    struct hadb_buf all = {0};
    int fd = raw_connect(rig->address);
    raw_send(fd, text, len);
    if (!raw_drain(fd, &all) || all.len == 0) {
        fail_msg("not closed, or no answer, instead of %u for %.80s", status, (const char *)text);
    }
    close(fd);
    const char *answer = hadb_buf_cstr(&all);
    const char *body = strstr(answer, "\r\n\r\n");
    const char *length = strstr(answer, "Content-Length: ");
    bool good = body && length && length < body && (unsigned)atoi(answer + 9) == status &&
                strncmp(body + 4, "{\"error\":\"", 10) == 0 &&
                strtoul(length + 16, NULL, 10) == strlen(body + 4);
    if (!good) {
        fail_msg("instead of one answer %u for %.80s: %s", status, (const char *)text, answer);
    }
    hadb_buf_deinit(&all);
}

static void alive(struct rig *rig)
{
    struct raw_reply reply = ask(rig, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(reply.status, 200);
    raw_reply_deinit(&reply);
}

static void malformed__requests_get_one_answer_in_json(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        unsigned status;
    } cases[] = {
#define CASE(text, status) {text, sizeof(text) - 1, status}
        CASE("GARBAGE\r\n\r\n", 400),
        CASE("GET / HTTQ/1.1\r\nHost: x\r\n\r\n", 400),
        CASE("GET /\r\nHost: x\r\n\r\n", 400),
        CASE("GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
        CASE("GET / HTTP/9.9\r\nHost: x\r\n\r\n", 505),
        CASE("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        CASE("GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400),
        CASE("GET / HTTP/1.1\r\nHost: x\r\n: no name\r\n\r\n", 400),
        CASE("GET / HTTP/1.1\r\nHost: x\r\n: no name\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n",
             400),
        CASE("GET / HTTP/1.1\r\n folded: first\r\nHost: x\r\n\r\n", 400),
        CASE("GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n folded\r\n\r\n", 400),
        CASE("GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 400),
        CASE("GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\nY: c\r\n\r\n", 400),
        CASE("GET / HTTP/1.1\r\nHost: x\r\nX\0Y: c\r\n\r\n", 400),
        CASE("GET / HTTP/1.1\nHost: x\nX: a\0b\n\n", 400),
        CASE(LINE "Content-Length: 1\0000\r\n\r\na", 400),
        CASE(LINE "Content-Length: abc\r\n\r\nabc", 400),
        CASE(LINE "Content-Length: -5\r\n\r\nabc", 400),
        CASE(LINE "Content-Length: +5\r\n\r\nabcde", 400),
        CASE(LINE "Content-Length: 0x5\r\n\r\nabcde", 400),
        CASE(LINE "Content-Length:\r\n\r\n", 400),
        CASE(LINE "Content-Length: 3, 3\r\n\r\nabc", 400),
        CASE(LINE "Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde", 400),
        CASE(LINE "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
        CASE(LINE "Content-Length: 99999999999999999999\r\n\r\nabc", 413),
        CASE(LINE "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        CASE(LINE "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        CASE(LINE "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        CASE(LINE "Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        CASE(LINE "Transfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n", 400),
        CASE(LINE "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n", 413),
        CASE(LINE "Expect: the unexpected\r\nContent-Length: 1\r\n\r\na", 417),
        CASE(LINE "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400),
#undef CASE
    };
    struct rig *rig = rig_up((struct hadb_http_server_options){0});
    int idle = raw_connect(rig->address); /* must not be taken for the culprit */
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        refused(rig, cases[i].text, cases[i].len, cases[i].status);
        raw_send_str(idle, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
        struct raw_reply reply = raw_read(idle);
        assert_int_equal(reply.status, 200);
        raw_reply_deinit(&reply);
    }
    assert_int_equal(rig->handled, HADB_LEN(cases));
    close(idle);
    alive(rig);
    rig_down(rig);
}

/* What is unusual and clear is taken. */
static void unusual__requests_are_taken(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "\r\nGET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /echo HTTP/1.1\nHost: x\nConnection: close\n\n",
        "GET /echo HTTP/1.0\r\n\r\n",
        "GET /echo HTTP/1.1\r\nhost:x\r\nCONNECTION:  close  \r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: x\r\nEmpty:\r\nBlank:  \r\nTabs:\ta\t\r\nConnection: "
        "close\r\n\r\n",
        LINE "Expect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
        LINE
        "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: x\r\n\r\n",
    };
    struct rig *rig = rig_up((struct hadb_http_server_options){0});
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct raw_reply reply = ask(rig, cases[i]);
        if (reply.status != 200) {
            fail_msg("status %u for %s", reply.status, cases[i]);
        }
        raw_reply_deinit(&reply);
    }
    rig_down(rig);
}

/* libmicrohttpd's own refusals are answered for the right connection, or left alone. */
static void malformed__requests_do_not_disturb_those_that_are_half_sent(void **state)
{
    (void)state;
    static const char half[] = "GET /echo HTTP/1.1\r\nHost: x\r\n";
    static const char body[] =
        "PUT /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na";
    static const char *const bad[] = {
        LINE "Content-Length: abc\r\n\r\nabc", "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /\r\n\r\n", "GET / HTTP/3.0\r\n\r\n", LINE "Transfer-Encoding: chunked\r\n\r\nzz\r\n"};
    struct rig *rig = rig_up((struct hadb_http_server_options){0});
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        int idle = raw_connect(rig->address);
        int first = raw_connect(rig->address);
        int second = raw_connect(rig->address);
        raw_send_str(idle, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
        struct raw_reply reply = raw_read(idle);
        assert_int_equal(reply.status, 200);
        raw_reply_deinit(&reply);
        raw_send_str(first, half);
        raw_send_str(second, body);
        alive(rig); /* by now both were read */
        reply = ask(rig, bad[i]);
        assert_in_range(reply.status, 400, 505);
        raw_reply_deinit(&reply);
        raw_send_str(first, "\r\n");
        raw_send_str(second, "bc\r\n0\r\n\r\n");
        raw_send_str(idle, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
        int all[] = {idle, first, second};
        for (size_t k = 0; k < HADB_LEN(all); k++) {
            reply = raw_read(all[k]);
            assert_int_equal(reply.status, 200);
            raw_reply_deinit(&reply);
            close(all[k]);
        }
    }
    rig_down(rig);
}

/* ---- heads ---- */

static void fill(struct hadb_buf *out, char c, size_t len)
{
    assert_int_equal(hadb_buf_reserve(out, len), 0);
    memset(out->data + out->len, c, len);
    out->len += len;
}

/* A request with so long a target, with headers of so many bytes each. */
static void compose(struct hadb_buf *out, size_t target, size_t header, unsigned headers_len)
{
    hadb_buf_clear(out);
    hadb_buf_append_str(out, "GET /");
    fill(out, 'k', target - 1);
    hadb_buf_append_str(out, " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    for (unsigned i = 0; i < headers_len; i++) {
        hadb_buf_append_str(out, "X: ");
        fill(out, 'v', header - 1);
        hadb_buf_append_str(out, "\r\n");
    }
    hadb_buf_append_str(out, "\r\n");
}

static void limit__heads_are_taken_up_to_their_limits_and_refused_above(void **state)
{
    (void)state;
    static const struct {
        size_t target, header;
        unsigned headers_len, status;
    } cases[] = {
        {HADB_HTTP_TARGET_BYTES_MAX, 10, 1, 200},
        {HADB_HTTP_TARGET_BYTES_MAX + 1, 10, 1, 414},
        {HADB_HTTP_HEAD_BYTES_MAX + 1, 10, 1, 414},
        {400000, 10, 1, 414},
        {5, HADB_HTTP_HEADER_BYTES_MAX, 1, 200},
        {5, HADB_HTTP_HEADER_BYTES_MAX + 1, 1, 431},
        {5, 200000, 1, 431},
        {5, 400000, 1, 431},
        {5, 10, HADB_HTTP_HEADERS_MAX - 2, 200},
        {5, 10, HADB_HTTP_HEADERS_MAX - 1, 431},
        {5, 10, 50000, 431},
        {5, HADB_HTTP_HEADER_BYTES_MAX - 16, 15, 200},
        {5, HADB_HTTP_HEADER_BYTES_MAX, 16, 431},
        {HADB_HTTP_TARGET_BYTES_MAX, 10000, 3, 200},
        {HADB_HTTP_TARGET_BYTES_MAX, 11000, 3, 431},
    };
    struct rig *rig = rig_up((struct hadb_http_server_options){0});
    struct hadb_buf text = {0};
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        compose(&text, cases[i].target, cases[i].header, cases[i].headers_len);
        if (cases[i].status != 200) {
            refused(rig, text.data, text.len, cases[i].status);
            continue;
        }
        int fd = raw_connect(rig->address);
        raw_send(fd, text.data, text.len);
        struct raw_reply reply = raw_read(fd);
        if (reply.status != 200) {
            fail_msg("case %zu: %u", i, reply.status);
        }
        raw_reply_deinit(&reply);
        close(fd);
    }
    alive(rig);
    hadb_buf_deinit(&text);
    rig_down(rig);
}

/* ---- bodies ---- */

static size_t small_below_tiny(void *arg, enum hadb_http_method method, struct hadb_slice path)
{
    (void)arg;
    return method == HADB_HTTP_PUT && hadb_slice_starts(path, hadb_slice_str("/tiny")) ? 10 : 0;
}

static void limit__a_body_may_be_smaller_on_some_paths(void **state)
{
    (void)state;
    struct rig *rig = rig_up(
        (struct hadb_http_server_options){.body_max = small_below_tiny, .body_bytes_max = 1000});
    static const struct {
        const char *text;
        unsigned status;
    } cases[] = {
        {"PUT /tiny HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789", 200},
        {"PUT /tiny HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n0123456789a", 413},
        {"POST /tiny HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n0123456789a", 200},
        {"PUT /tiny HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
         "chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n",
         413},
    };
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct raw_reply reply = ask(rig, cases[i].text);
        assert_int_equal(reply.status, cases[i].status);
        if (reply.status == 413) {
            assert_true(raw_has(&reply.body, "at most 10 bytes are taken here"));
        }
        raw_reply_deinit(&reply);
    }
    rig_down(rig);
}

static void limit__a_body_announced_too_long_is_refused_without_being_taken(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){.body_bytes_max = 1000});
    static const char *const heads[] = {
        LINE "Content-Length: 70000000\r\n\r\n",
        LINE "Expect: 100-continue\r\nContent-Length: 70000000\r\n\r\n",
        LINE "Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n",
    };
    for (size_t i = 0; i < HADB_LEN(heads); i++) {
        refused(rig, heads[i], strlen(heads[i]), 413); /* first the answer: no 100 before it */
    }
    assert_int_equal(rig->handled, 0);
    rig_down(rig);
}

/* A client that sends all before it reads: its connection must not be reset under it. */
static void limit__a_client_that_sends_on_still_sees_its_refusal(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){.body_bytes_max = 1000});
    size_t len = 48u << 20;
    char *body = calloc(1, len), head[128];
    assert_non_null(body);
    for (unsigned round = 0; round < 3; round++) {
        int fd = raw_connect(rig->address);
        snprintf(head, sizeof head, LINE "Content-Length: %zu\r\n\r\n", len);
        raw_send_str(fd, round < 2 ? head : LINE "Transfer-Encoding: chunked\r\n\r\n3000000\r\n");
        assert_true(raw_send(fd, body, len));
        struct raw_reply reply = raw_read(fd);
        assert_int_equal(reply.status, 413);
        assert_true(raw_has(&reply.body, "\"ETOOBIG\""));
        assert_true(raw_drain(fd, NULL));
        raw_reply_deinit(&reply);
        close(fd);
    }
    free(body);
    alive(rig);
    rig_down(rig);
}

static void limit__those_who_never_stop_sending_are_cut_off(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){.body_bytes_max = 1000});
    static char chunk[1u << 20];
    int fd = raw_connect(rig->address);
    raw_send_str(fd, LINE "Content-Length: 99999999999\r\n\r\n");
    unsigned sent = 0;
    while (sent < 2000 && raw_send(fd, chunk, sizeof(chunk))) {
        sent++;
    }
    assert_true(sent < 2000);
    close(fd);
    rig_down(rig);
}

static void server__stops_while_refused_clients_linger(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){.body_bytes_max = 1000});
    int fds[100]; /* more than may linger */
    for (size_t i = 0; i < HADB_LEN(fds); i++) {
        fds[i] = raw_connect(rig->address);
        raw_send_str(fds[i], LINE "Content-Length: 70000000\r\n\r\nbegun");
        struct raw_reply reply = raw_read(fds[i]);
        assert_int_equal(reply.status, 413);
        raw_reply_deinit(&reply);
    }
    rig_down(rig);
    for (size_t i = 0; i < HADB_LEN(fds); i++) {
        close(fds[i]);
    }
}

/* ---- connections ---- */

#define PLAIN "GET /echo HTTP/1.1\r\nHost: x\r\n"
#define TOKEN "Authorization: Bearer sesame\r\n"

/* 16 places; 100 clients that say nothing or half a head, and one that asks, on a connection that it keeps. */
static void crowd(struct rig *rig, int fds[100], int kept)
{
    for (size_t i = 0; i < 100; i++) {
        fds[i] = raw_connect(rig->address);
        if (i % 2) {
            raw_send_str(fds[i], "GET /half HTTP/1.1\r\n");
        }
        if (i % 10 == 0) {
            raw_send_str(kept, PLAIN TOKEN "\r\n");
            struct raw_reply reply = raw_read(kept);
            assert_int_equal(reply.status, 200);
            raw_reply_deinit(&reply);
        }
    }
}

static void limit__idle_connections_give_way_to_others_and_those_with_a_token_stay(void **state)
{
    (void)state;
    struct hadb_http_server_options options = {
        .connections_max = 16, .token = "sesame", .idle_timeout_s = 3600};
    struct rig *rig = rig_up(options);
    int fds[100];
    int kept = raw_connect(rig->address);
    crowd(rig, fds, kept);
    for (int i = 0; i < 20; i++) {
        struct raw_reply reply = ask(rig, PLAIN TOKEN "\r\n");
        assert_int_equal(reply.status, 200);
        raw_reply_deinit(&reply);
    }
    int more[100];
    crowd(rig, more, kept); /* the first hundred have not closed */
    for (size_t i = 0; i < HADB_LEN(fds); i++) {
        close(fds[i]);
        close(more[i]);
    }
    close(kept);
    rig_down(rig);
}

static void release_held(void *arg)
{
    struct rig *rig = arg;
    hadb_http_reply(rig->held, 200, NULL, 0, hadb_slice_str("held"));
}

static void limit__a_request_in_progress_keeps_its_place(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){.connections_max = 16});
    int held = raw_connect(rig->address);
    raw_send_str(held, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    gate_wait(&rig->held_gate, 1);
    int body = raw_connect(rig->address); /* half a body */
    raw_send_str(body, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab");
    struct raw_reply reply = ask(rig, PLAIN "\r\n"); /* comes behind that head */
    raw_reply_deinit(&reply);
    int fds[64];
    for (size_t i = 0; i < HADB_LEN(fds); i++) { /* all of them idle after a request */
        fds[i] = raw_connect(rig->address);
        raw_send_str(fds[i], PLAIN "\r\n");
        reply = raw_read(fds[i]);
        assert_int_equal(reply.status, 200);
        raw_reply_deinit(&reply);
    }
    raw_send_str(body, "cd");
    reply = raw_read(body);
    assert_int_equal(reply.status, 200);
    assert_int_equal(reply.body.len, 4);
    raw_reply_deinit(&reply);
    assert_int_equal(hadb_loop_call(rig->loop, release_held, rig), 0);
    reply = raw_read(held);
    assert_int_equal(reply.status, 200);
    raw_reply_deinit(&reply);
    for (size_t i = 0; i < HADB_LEN(fds); i++) {
        close(fds[i]);
    }
    close(body);
    close(held);
    rig_down(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed__requests_get_one_answer_in_json),
        cmocka_unit_test(unusual__requests_are_taken),
        cmocka_unit_test(malformed__requests_do_not_disturb_those_that_are_half_sent),
        cmocka_unit_test(limit__heads_are_taken_up_to_their_limits_and_refused_above),
        cmocka_unit_test(limit__a_body_may_be_smaller_on_some_paths),
        cmocka_unit_test(limit__a_body_announced_too_long_is_refused_without_being_taken),
        cmocka_unit_test(limit__a_client_that_sends_on_still_sees_its_refusal),
        cmocka_unit_test(limit__those_who_never_stop_sending_are_cut_off),
        cmocka_unit_test(server__stops_while_refused_clients_linger),
        cmocka_unit_test(limit__idle_connections_give_way_to_others_and_those_with_a_token_stay),
        cmocka_unit_test(limit__a_request_in_progress_keeps_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
