/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server: whole requests, limits, token, clients that leave, shutdown. */
#include "tests/unit/node/http_rig.h"

#include <pthread.h>

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static const struct hadb_http_server_options plain;

/* ---- requests ---- */

static void request__arrives_whole_and_undecoded(void **state)
{
    (void)state;
    static const char text[] =
        "PUT /v1/a%2Fb%00+%2e%2E/../c?x=%26+y&x=2&z?q HTTP/1.1\r\nHost: x\r\n"
        "hadb-Request-ID: 17\r\nContent-Length: 5\r\n\r\nhe\0lo";
    struct rig *rig = rig_up(plain);
    int fd = raw_connect(rig->address);
    assert_true(raw_send(fd, text, sizeof(text) - 1));
    struct raw_reply reply = raw_read(fd);
    close(fd);
    assert_int_equal(reply.status, 200);
    assert_true(header_is(&reply, "X-Method", "PUT"));
    assert_true(header_is(&reply, "X-Path", "/v1/a%2Fb%00+%2e%2E/../c"));
    assert_true(header_is(&reply, "X-Query", "x=%26+y&x=2&z?q"));
    assert_true(header_is(&reply, "X-Id", "17"));
    assert_int_equal(reply.body.len, 5);
    assert_memory_equal(reply.body.data, "he\0lo", 5);
    raw_reply_deinit(&reply);
    rig_down(rig);
}

static void request__body_keeps_every_byte(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    size_t len = 3u << 20;
    uint8_t *body = malloc(len);
    for (size_t i = 0; i < len; i++) {
        body[i] = (uint8_t)(i * 7 + (i >> 9));
    }
    static const char *const paths[] = {"/echo", "/later"};
    int fd = raw_connect(rig->address);
    for (size_t i = 0; i < HADB_LEN(paths); i++) {
        char head[128];
        snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n",
                 paths[i], len);
        assert_true(raw_send_str(fd, head));
        assert_true(raw_send(fd, body, len));
        struct raw_reply reply = raw_read(fd);
        assert_int_equal(reply.status, 200);
        assert_int_equal(reply.body.len, len);
        assert_memory_equal(reply.body.data, body, len);
        raw_reply_deinit(&reply);
    }
    close(fd);
    free(body);
    rig_down(rig);
}

static void request__chunked_body_is_put_together(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct raw_reply reply = ask(rig, "PUT /echo HTTP/1.1\r\nHost: x\r\n"
                                      "Transfer-Encoding: chunked\r\n\r\n"
                                      "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n");
    assert_int_equal(reply.status, 200);
    assert_int_equal(reply.body.len, 7);
    assert_memory_equal(reply.body.data, "abcdefg", 7);
    raw_reply_deinit(&reply);
    rig_down(rig);
}

static void request__head_and_unknown_methods_are_answered(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    int fd = raw_connect(rig->address);
    raw_send_str(fd, "HEAD /echo HTTP/1.1\r\nHost: x\r\n\r\n" GET("/echo"));
    struct raw_reply head = raw_read(fd);
    struct raw_reply get = raw_read(fd); /* would be shifted if HEAD had a body */
    assert_int_equal(head.status, 200);
    assert_true(header_is(&head, "X-Method", "HEAD"));
    assert_int_equal(get.status, 200);
    struct raw_reply other = ask(rig, "BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(other.status, 405);
    assert_true(raw_has(&other.body, "{\"error\":\"EINVAL\",\"message\":\"unknown method\"}"));
    raw_reply_deinit(&head);
    raw_reply_deinit(&get);
    raw_reply_deinit(&other);
    close(fd);
    rig_down(rig);
}

static void connection__is_kept_and_pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct hadb_buf text = {0};
    int fd = raw_connect(rig->address);
    for (unsigned i = 0; i < 100; i++) {
        hadb_buf_printf(&text, "PUT /%s/%u HTTP/1.1\r\nHost: x\r\nContent-Length: %u\r\n\r\n%0*u",
                        i % 3 ? "later" : "echo", i, 10 + i, (int)(10 + i), i);
    }
    assert_true(raw_send(fd, text.data, text.len));
    for (unsigned i = 0; i < 100; i++) {
        struct raw_reply reply = raw_read(fd);
        assert_int_equal(reply.status, 200);
        assert_int_equal(reply.body.len, 10 + i);
        assert_int_equal(atoi(hadb_buf_cstr(&reply.body)), i);
        raw_reply_deinit(&reply);
    }
    assert_int_equal(rig->handled, 100);
    hadb_buf_deinit(&text);
    close(fd);
    rig_down(rig);
}

struct client {
    struct rig *rig;
    unsigned number, wrong;
};

static void *client_main(void *arg)
{
    struct client *client = arg;
    int fd = raw_connect(client->rig->address);
    for (unsigned i = 0; i < 20; i++) {
        char text[256];
        unsigned value = client->number * 1000 + i;
        snprintf(text, sizeof(text),
                 "PUT /later/x HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n%08u", value);
        raw_send_str(fd, text);
        struct raw_reply reply = raw_read(fd);
        client->wrong += reply.status != 200 || reply.body.len != 8 ||
                         (unsigned)atoi(hadb_buf_cstr(&reply.body)) != value;
        raw_reply_deinit(&reply);
    }
    close(fd);
    return NULL;
}

static void connection__sixty_four_at_once_get_their_own_answers(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct client clients[64];
    pthread_t threads[64];
    for (unsigned i = 0; i < 64; i++) {
        clients[i] = (struct client){rig, i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, client_main, &clients[i]), 0);
    }
    for (unsigned i = 0; i < 64; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(clients[i].wrong, 0);
    }
    rig_down(rig);
}

/* ---- limits ---- */

static void limit__body_too_large_is_413_whether_announced_or_not(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){.body_bytes_max = 1000});
    char body[1024];
    memset(body, 'b', sizeof(body));
    int fd = raw_connect(rig->address);
    raw_send_str(fd, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n");
    raw_send(fd, body, 1001);
    struct raw_reply reply = raw_read(fd);
    assert_int_equal(reply.status, 413);
    assert_true(raw_has(&reply.body, "\"ETOOBIG\""));
    raw_reply_deinit(&reply);
    raw_send_str(fd, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    raw_send(fd, body, 1000);
    reply = raw_read(fd); /* the same connection goes on */
    assert_int_equal(reply.status, 200);
    raw_reply_deinit(&reply);
    close(fd);

    fd = raw_connect(rig->address);
    raw_send_str(fd, "PUT /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "3e9\r\n");
    raw_send(fd, body, 1001);
    raw_send_str(fd, "\r\n0\r\n\r\n");
    reply = raw_read(fd);
    assert_int_equal(reply.status, 413);
    raw_reply_deinit(&reply);
    close(fd);

    reply = ask(rig, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n");
    assert_int_equal(reply.status, 413);
    raw_reply_deinit(&reply);
    reply = ask(rig, "PUT /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                     "Content-Length: 1001\r\n\r\n");
    assert_int_equal(reply.status, 413);
    raw_reply_deinit(&reply);
    assert_int_equal(rig->handled, 1);
    rig_down(rig);
}

static void limit__endless_chunked_body_ends_the_connection(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){.body_bytes_max = 1000});
    static char chunk[65536 + 16];
    int n = snprintf(chunk, sizeof(chunk), "10000\r\n");
    memset(chunk + n, 'c', 65536);
    memcpy(chunk + n + 65536, "\r\n", 2);
    int fd = raw_connect(rig->address);
    raw_send_str(fd, "PUT /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    unsigned sent = 0;
    while (sent < 10000 && raw_send(fd, chunk, (size_t)n + 65536 + 2)) {
        sent++;
    }
    assert_true(sent < 10000); /* cut off, not swallowed for ever */
    close(fd);
    assert_int_equal(rig->handled, 0);
    rig_down(rig);
}

static void limit__bodies_together_are_bounded_with_503(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){.bodies_bytes_max = 100000});
    static char body[90000];
    rig->reply_when_gone = true;
    int fd = raw_connect(rig->address);
    raw_send_str(fd, "PUT /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n");
    raw_send(fd, body, sizeof(body));
    gate_wait(&rig->held_gate, 1);
    int other = raw_connect(rig->address);
    raw_send_str(other, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n");
    raw_send(other, body, sizeof(body));
    struct raw_reply reply = raw_read(other);
    assert_int_equal(reply.status, 503);
    assert_true(raw_has(&reply.body, "\"EBUSY\""));
    assert_non_null(raw_header(&reply, "Retry-After"));
    raw_reply_deinit(&reply);
    close(fd);
    gate_wait(&rig->gone_gate, 1);
    raw_send_str(other, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n");
    raw_send(other, body, sizeof(body));
    reply = raw_read(other);
    /* The exchange that is gone may still be on its way out. */
    assert_true(reply.status == 200 || reply.status == 503);
    raw_reply_deinit(&reply);
    close(other);
    rig_down(rig);
}

static void limit__longest_key_fits_into_the_request_line_and_longer_ones_are_414(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct hadb_buf text = {0};
    hadb_buf_append_str(&text, "PUT /v1/db/some-name/kv/");
    for (unsigned i = 0; i < HADB_KEY_BYTES_MAX; i++) {
        hadb_buf_printf(&text, "%%%02X", i & 0xff);
    }
    hadb_buf_append_str(&text, "?if_absent HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok");
    int fd = raw_connect(rig->address);
    for (unsigned round = 0; round < 3; round++) {
        assert_true(raw_send(fd, text.data, text.len));
        struct raw_reply reply = raw_read(fd);
        /* again on the same connection: its memory was reset */
        assert_int_equal(reply.status, 200);
        assert_true(header_is(&reply, "X-Path", "196628 bytes"));
        assert_true(header_is(&reply, "X-Query", "if_absent"));
        raw_reply_deinit(&reply);
    }
    close(fd);
    hadb_buf_clear(&text);
    hadb_buf_append_str(&text, "GET /");
    for (unsigned i = 0; i < 400000; i++) {
        hadb_buf_append(&text, "k", 1);
    }
    hadb_buf_append_str(&text, " HTTP/1.1\r\nHost: x\r\n\r\n");
    fd = raw_connect(rig->address);
    raw_send(fd, text.data, text.len);
    struct raw_reply reply = raw_read(fd);
    assert_int_equal(reply.status, 414);
    raw_reply_deinit(&reply);
    close(fd);
    hadb_buf_deinit(&text);
    rig_down(rig);
}

static void limit__headers_too_large_are_431(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct hadb_buf text = {0};
    hadb_buf_append_str(&text, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (unsigned i = 0; i < 10000; i++) {
        hadb_buf_printf(&text, "X-Header-%u: some value that takes room\r\n", i);
    }
    hadb_buf_append_str(&text, "\r\n");
    int fd = raw_connect(rig->address);
    raw_send(fd, text.data, text.len);
    struct raw_reply reply = raw_read(fd);
    assert_int_equal(reply.status, 431);
    raw_reply_deinit(&reply);
    close(fd);
    hadb_buf_deinit(&text);
    rig_down(rig);
}

static void limit__connections_above_the_bound_wait_for_a_place(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){.connections_max = 2});
    int first = raw_connect(rig->address);
    int second = raw_connect(rig->address);
    int third = raw_connect(rig->address); /* in the backlog */
    struct pollfd waiting = {.fd = third, .events = POLLIN};
    raw_send_str(first, GET("/echo"));
    raw_send_str(second, GET("/echo"));
    raw_send_str(third, GET("/echo"));
    struct raw_reply a = raw_read(first);
    struct raw_reply b = raw_read(second);
    assert_int_equal(a.status, 200);
    assert_int_equal(b.status, 200);
    assert_int_equal(poll(&waiting, 1, 0), 0);
    close(first);
    struct raw_reply c = raw_read(third);
    assert_int_equal(c.status, 200);
    raw_reply_deinit(&a);
    raw_reply_deinit(&b);
    raw_reply_deinit(&c);
    close(second);
    close(third);
    rig_down(rig);
}

static void limit__client_that_stalls_or_drips_is_cut_off(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){.idle_timeout_s = 1});
    uint64_t start = in_ms(0);
    int silent = raw_connect(rig->address);
    int stalled = raw_connect(rig->address);
    int dripping = raw_connect(rig->address);
    raw_send_str(stalled, "GET / HT");
    for (unsigned i = 0; i < 100 && raw_send_str(dripping, "G"); i++) {
        struct pollfd pause = {.fd = dripping, .events = POLLIN};
        if (poll(&pause, 1, 100) != 0) {
            break; /* answered or closed */
        }
    }
    assert_true(raw_drain(dripping, NULL));
    assert_true(in_ms(0) - start < 8000);
    struct raw_reply reply = raw_read(stalled);
    assert_int_equal(reply.status, 408);
    assert_true(raw_has(&reply.body, "did not arrive in time"));
    raw_reply_deinit(&reply);
    assert_true(raw_drain(silent, NULL));
    close(silent);
    close(stalled);
    close(dripping);
    rig_down(rig);
}

/* ---- token ---- */

static bool exempt_health(void *arg, enum hadb_http_method method, struct hadb_slice path)
{
    (void)arg;
    return method == HADB_HTTP_GET && hadb_slice_eq(path, hadb_slice_str("/healthz"));
}

static void token__missing_or_wrong_is_401_before_the_handler(void **state)
{
    (void)state;
    struct rig *rig =
        rig_up((struct hadb_http_server_options){.token = "s3cret-Token", .exempt = exempt_health});
    static const char *const bad[] = {
        "",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer s3cret-Toke\r\n",
        "Authorization: Bearer s3cret-Token2\r\n",
        "Authorization: Bearer s3cret-token\r\n",
        "Authorization: Basic s3cret-Token\r\n",
        "Authorization: s3cret-Token\r\n",
        "X-Authorization: Bearer s3cret-Token\r\n",
    };
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        char text[512];
        snprintf(text, sizeof(text),
                 "PUT /echo HTTP/1.1\r\nHost: x\r\n%sContent-Length: 3\r\n\r\nabc", bad[i]);
        struct raw_reply reply = ask(rig, text);
        assert_int_equal(reply.status, 401);
        assert_true(raw_has(&reply.body, "{\"error\":\"EAUTH\",\"message\":\""));
        assert_true(header_is(&reply, "WWW-Authenticate", "Bearer"));
        raw_reply_deinit(&reply);
    }
    assert_int_equal(rig->handled, 0);
    static const char *const good[] = {
        "GET /x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret-Token\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\nauthorization: bearer  s3cret-Token\r\n\r\n",
        GET("/healthz"),
    };
    for (size_t i = 0; i < HADB_LEN(good); i++) {
        struct raw_reply reply = ask(rig, good[i]);
        assert_int_equal(reply.status, 200);
        raw_reply_deinit(&reply);
    }
    rig_down(rig);
}

static void token__refusal_of_a_large_body_reaches_the_client(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){.token = "t"});
    static char body[500000];
    int fd = raw_connect(rig->address);
    for (unsigned round = 0; round < 2; round++) {
        raw_send_str(fd, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n");
        raw_send(fd, body, sizeof(body));
        struct raw_reply reply = raw_read(fd);
        assert_int_equal(reply.status, 401);
        raw_reply_deinit(&reply);
    }
    close(fd);
    rig_down(rig);
}

static void server__refuses_to_listen_beyond_loopback_without_token(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    static const char *const open[] = {"0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:0"};
    for (size_t i = 0; i < HADB_LEN(open); i++) {
        struct hadb_http_server *server = NULL;
        struct hadb_error err = {0};
        struct hadb_http_server_options options = {.listen = open[i], .handler = handle};
        assert_int_equal(hadb_http_server_start(rig->loop, &options, &server, &err), HADB_EAUTH);
        assert_non_null(strstr(err.message, open[i]));
        assert_non_null(strstr(err.message, "--token-file"));
        options.token = "";
        assert_int_equal(hadb_http_server_start(rig->loop, &options, &server, &err), HADB_EAUTH);
    }
    struct hadb_http_server *server = NULL;
    struct hadb_http_server_options options = {
        .listen = "0.0.0.0:0", .handler = handle, .arg = rig, .token = "t"};
    assert_int_equal(hadb_http_server_start(rig->loop, &options, &server, NULL), 0);
    hadb_http_server_stop(server);
    options.listen = "nonsense";
    assert_int_equal(hadb_http_server_start(rig->loop, &options, &server, NULL), HADB_EINVAL);
    options.listen = rig->address; /* taken */
    assert_int_equal(hadb_http_server_start(rig->loop, &options, &server, NULL), HADB_EIO);
    rig_down(rig);
}

static void server__listens_on_ipv6(void **state)
{
    (void)state;
    struct hadb_net_address address;
    int fd = -1;
    assert_int_equal(hadb_net_parse("[::1]:0", &address, NULL), 0);
    if (hadb_net_listen(&address, 1, &fd, NULL) != 0) {
        skip(); /* a machine without IPv6 */
    }
    close(fd);
    struct rig *rig = rig_up((struct hadb_http_server_options){.listen = "[::1]:0"});
    assert_memory_equal(rig->address, "[::1]:", 6);
    struct raw_reply reply = ask(rig, GET("/echo"));
    assert_int_equal(reply.status, 200);
    raw_reply_deinit(&reply);
    rig_down(rig);
}

/* ---- malformed ---- */

static void malformed__requests_are_refused_and_the_server_goes_on(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        unsigned status;
    } cases[] = {
#define CASE(text, status) {text, sizeof(text) - 1, status}
        CASE("GARBAGE\r\n\r\n", 400),
        CASE("GET\r\n\r\n", 400),
        CASE("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 tls\r\n\r\n", 400),
        CASE("GET / HTTP/9.9\r\nHost: x\r\n\r\n", 505),
        CASE("GET / HTTQ/1.1\r\nHost: x\r\n\r\n", 400),
        CASE("GET /\r\nHost: x\r\n\r\n", 400),
        CASE("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        CASE("GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        CASE("GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        CASE("GET / HTTP/1.1\r\n\r\n", 400),
        CASE("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        CASE("GET / HTTP/1.1\r\nHost: x\r\nno colon here\r\n\r\n", 400),
        CASE("GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\nabc", 400),
        CASE("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        CASE("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\na", 400),
        CASE("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413),
        CASE("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        CASE("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
             "0\r\n\r\n",
             400),
        CASE("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        CASE("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        CASE("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
             "ffffffffffffffffffff\r\n",
             413),
#undef CASE
    };
    struct rig *rig = rig_up(plain);
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        int fd = raw_connect(rig->address);
        raw_send(fd, cases[i].text, cases[i].len);
        struct raw_reply reply = raw_read(fd);
        if (reply.status != cases[i].status) {
            fail_msg("status %u instead of %u for: %s", reply.status, cases[i].status,
                     cases[i].text);
        }
        assert_true(raw_drain(fd, NULL)); /* and the connection is closed */
        raw_reply_deinit(&reply);
        close(fd);
    }
    assert_int_equal(rig->handled, 0);
    struct raw_reply reply = ask(rig, GET("/echo"));
    assert_int_equal(reply.status, 200);
    raw_reply_deinit(&reply);
    rig_down(rig);
}

/* ---- clients that leave, shutdown ---- */

static void reply_held(void *arg)
{
    struct rig *rig = arg;
    hadb_http_reply(rig->held, 200, NULL, 0, hadb_slice_str("at last"));
    rig->held = NULL;
}

static void exchange__is_answered_from_outside_the_handler(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    int fd = raw_connect(rig->address);
    raw_send_str(fd, GET("/hold") GET("/echo"));
    gate_wait(&rig->held_gate, 1);
    assert_int_equal(rig->handled, 1); /* the second request waits its turn */
    assert_int_equal(hadb_loop_post(rig->loop, reply_held, rig), 0);
    struct raw_reply first = raw_read(fd);
    struct raw_reply second = raw_read(fd);
    assert_int_equal(first.status, 200);
    assert_memory_equal(first.body.data, "at last", 7);
    assert_int_equal(second.status, 200);
    assert_int_equal(rig->gone_gate.count, 0);
    raw_reply_deinit(&first);
    raw_reply_deinit(&second);
    close(fd);
    rig_down(rig);
}

struct leave_case {
    bool reset, half, reply_inside;
};

static void leave(struct leave_case how)
{
    struct rig *rig = rig_up(plain);
    rig->reply_when_gone = how.reply_inside;
    int fd = raw_connect(rig->address);
    raw_send_str(fd, GET("/hold"));
    gate_wait(&rig->held_gate, 1);
    if (how.half) {
        shutdown(fd, SHUT_WR);
    } else {
        if (how.reset) {
            struct linger linger = {.l_onoff = 1};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        }
        close(fd);
    }
    gate_wait(&rig->gone_gate, 1);
    if (!how.reply_inside) {
        assert_int_equal(hadb_loop_call(rig->loop, reply_held, rig), 0);
    }
    if (how.half) {
        struct hadb_buf out = {0};
        assert_true(raw_drain(fd, &out)); /* closed, with nothing sent */
        assert_int_equal(out.len, 0);
        close(fd);
    }
    struct raw_reply reply = ask(rig, GET("/echo"));
    assert_int_equal(reply.status, 200);
    raw_reply_deinit(&reply);
    rig_down(rig);
    /* Exactly once, although the server was stopped as well. */
}

static void exchange__owner_hears_that_the_client_is_gone(void **state)
{
    (void)state;
    leave((struct leave_case){0});
    leave((struct leave_case){.reset = true});
    leave((struct leave_case){.half = true});
    leave((struct leave_case){.reply_inside = true});
    leave((struct leave_case){.reset = true, .reply_inside = true});
}

static void server__stop_tells_owners_and_late_answers_are_harmless(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    int fd = raw_connect(rig->address);
    raw_send_str(fd, "PUT /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
    gate_wait(&rig->held_gate, 1);
    hadb_http_server_stop(rig->server);
    rig->server = NULL;
    gate_wait(&rig->gone_gate, 1);
    assert_true(raw_drain(fd, NULL));
    assert_int_equal(hadb_loop_call(rig->loop, reply_held, rig), 0);
    close(fd);
    rig_down(rig);
}

static void stop_after_reply(void *arg)
{
    struct rig *rig = arg;
    reply_held(rig);
    hadb_http_server_stop(rig->server); /* same turn of the loop */
    rig->server = NULL;
}

static void server__stop_sends_answers_that_were_given_before(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    int fd = raw_connect(rig->address);
    raw_send_str(fd, GET("/hold"));
    gate_wait(&rig->held_gate, 1);
    assert_int_equal(hadb_loop_call(rig->loop, stop_after_reply, rig), 0);
    struct raw_reply reply = raw_read(fd);
    assert_int_equal(reply.status, 200);
    assert_memory_equal(reply.body.data, "at last", 7);
    raw_reply_deinit(&reply);
    close(fd);
    rig_down(rig);
}

static void read_pending(void *arg)
{
    struct rig *rig = arg;
    rig->handled = (unsigned)hadb_http_server_pending(rig->server);
}

/* An answer that the client has read is over a moment later. */
static void wait_for_none_pending(struct rig *rig)
{
    uint64_t deadline = in_ms(WAIT_MS_MAX);
    do {
        hadb_loop_call(rig->loop, read_pending, rig);
    } while (rig->handled > 0 && in_ms(0) < deadline);
    assert_int_equal(rig->handled, 0);
}

static void reply_held_big(void *arg)
{
    struct rig *rig = arg;
    struct hadb_buf body = {0};
    if (hadb_buf_reserve(&body, 32u << 20) != 0) {
        abort();
    }
    memset(body.data, 'x', 32u << 20);
    body.len = 32u << 20;
    hadb_http_reply_take(rig->held, 200, NULL, 0, &body);
    rig->held = NULL;
}

static void server__exchange_is_pending_until_its_answer_is_sent(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    int fd = raw_connect(rig->address);
    raw_send_str(fd, GET("/hold"));
    gate_wait(&rig->held_gate, 1);
    hadb_loop_call(rig->loop, reply_held_big, rig); /* more than the sockets hold */
    struct pollfd begun = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&begun, 1, WAIT_MS_MAX), 1);
    hadb_loop_call(rig->loop, read_pending, rig);
    assert_int_equal(rig->handled, 1);
    struct raw_reply reply = raw_read(fd);
    assert_int_equal(reply.body.len, 32u << 20);
    raw_reply_deinit(&reply);
    wait_for_none_pending(rig);
    close(fd);
    rig_down(rig);
}

static void server__quiesce_takes_no_new_connection_and_serves_the_old(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    int fd = raw_connect(rig->address);
    raw_send_str(fd, GET("/hold"));
    gate_wait(&rig->held_gate, 1);
    hadb_http_server_quiesce(rig->server);
    hadb_http_server_quiesce(rig->server);
    struct hadb_net_address parsed;
    assert_int_equal(hadb_net_parse(rig->address, &parsed, NULL), 0);
    int other = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(other, (struct sockaddr *)&parsed.sockaddr, parsed.sockaddr_len), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(other);
    hadb_loop_call(rig->loop, read_pending, rig);
    assert_int_equal(rig->handled, 1);
    assert_int_equal(hadb_loop_post(rig->loop, reply_held, rig), 0);
    struct raw_reply reply = raw_read(fd);
    assert_int_equal(reply.status, 200);
    raw_reply_deinit(&reply);
    wait_for_none_pending(rig);
    close(fd);
    rig_down(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request__arrives_whole_and_undecoded),
        cmocka_unit_test(request__body_keeps_every_byte),
        cmocka_unit_test(request__chunked_body_is_put_together),
        cmocka_unit_test(request__head_and_unknown_methods_are_answered),
        cmocka_unit_test(connection__is_kept_and_pipelined_requests_are_answered_in_order),
        cmocka_unit_test(connection__sixty_four_at_once_get_their_own_answers),
        cmocka_unit_test(limit__body_too_large_is_413_whether_announced_or_not),
        cmocka_unit_test(limit__endless_chunked_body_ends_the_connection),
        cmocka_unit_test(limit__bodies_together_are_bounded_with_503),
        cmocka_unit_test(limit__longest_key_fits_into_the_request_line_and_longer_ones_are_414),
        cmocka_unit_test(limit__headers_too_large_are_431),
        cmocka_unit_test(limit__connections_above_the_bound_wait_for_a_place),
        cmocka_unit_test(limit__client_that_stalls_or_drips_is_cut_off),
        cmocka_unit_test(token__missing_or_wrong_is_401_before_the_handler),
        cmocka_unit_test(token__refusal_of_a_large_body_reaches_the_client),
        cmocka_unit_test(server__refuses_to_listen_beyond_loopback_without_token),
        cmocka_unit_test(server__listens_on_ipv6),
        cmocka_unit_test(malformed__requests_are_refused_and_the_server_goes_on),
        cmocka_unit_test(exchange__is_answered_from_outside_the_handler),
        cmocka_unit_test(exchange__owner_hears_that_the_client_is_gone),
        cmocka_unit_test(server__stop_tells_owners_and_late_answers_are_harmless),
        cmocka_unit_test(server__stop_sends_answers_that_were_given_before),
        cmocka_unit_test(server__exchange_is_pending_until_its_answer_is_sent),
        cmocka_unit_test(server__quiesce_takes_no_new_connection_and_serves_the_old),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
