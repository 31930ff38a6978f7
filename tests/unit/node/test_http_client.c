/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client: answers, verdicts on failures, cancelling, streaming; against our server and against
 * sockets that misbehave on purpose. */
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

static struct asker asker_up(struct hadb_http_client_options options)
{
    struct asker asker = {.loop = loop_up()};
    assert_int_equal(hadb_http_client_start(asker.loop, &options, &asker.client, NULL), 0);
    return asker;
}

static void asker_down(struct asker *asker)
{
    hadb_http_client_stop(asker->client);
    loop_down(asker->loop);
}

static void copy_header(const struct hadb_http_result *result, const char *name, char *out,
                        size_t size)
{
    const char *value = hadb_http_result_header(result, name);
    snprintf(out, size, "%s", value ? value : "(none)");
}

static void start_asked(void *arg);

static void on_asked_done(void *arg, const struct hadb_http_result *result)
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

static void on_asked_data(void *arg, struct hadb_slice data)
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

static void on_asked_open(void *arg, unsigned status)
{
    struct asked *asked = arg;
    asked->data_status = status;
    gate_raise(&asked->opened);
}

static void start_asked(void *arg)
{
    struct asked *asked = arg;
    asked->inside = true;
    asked->start_r = hadb_http_request(asked->asker->client, &asked->options, &asked->call, NULL);
    asked->inside = false;
    gate_raise(&asked->started);
}

static struct asked *asked_new(struct asker *asker, const char *method, const char *url)
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

static void asked_start(struct asked *asked)
{
    hadb_loop_call(asked->asker->loop, start_asked, asked);
    assert_int_equal(asked->start_r, 0);
}

static void asked_wait(struct asked *asked)
{
    gate_wait(&asked->done, 1);
    assert_false(asked->from_inside);
}

static void asked_free(struct asked *asked)
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

static void cancel_task(void *arg)
{
    struct asked *asked = arg;
    if (asked->done.count == 0) {
        hadb_http_cancel(asked->call);
        hadb_http_cancel(asked->call);
    }
}

static const char *url_of(const char *address, const char *path)
{
    static char url[512];
    snprintf(url, sizeof(url), "http://%s%s", address, path);
    return url;
}

/* ---- sockets that misbehave ---- */

static int fake_listen(char address[HADB_NET_TEXT_BYTES], int backlog)
{
    struct hadb_net_address parsed;
    int fd = -1;
    assert_int_equal(hadb_net_parse("127.0.0.1:0", &parsed, NULL), 0);
    assert_int_equal(hadb_net_listen(&parsed, backlog, &fd, NULL), 0);
    hadb_net_format(&parsed, address);
    return fd;
}

static bool readable(int fd, int ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, ms) == 1;
}

static int fake_accept(int listen_fd)
{
    struct timeval limit = {.tv_sec = WAIT_MS_MAX / 1000};
    assert_true(readable(listen_fd, WAIT_MS_MAX));
    int fd = accept(listen_fd, NULL, NULL);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

/* Reads a request's head and so much body as it announces. */
static void fake_read(int fd, struct hadb_buf *out)
{
    struct raw_reply reply = raw_read(fd); /* the framing is the same */
    if (out) {
        hadb_buf_append(out, reply.head.data, reply.head.len);
        hadb_buf_append(out, reply.body.data, reply.body.len);
    }
    raw_reply_deinit(&reply);
}

#define OK_REPLY "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* ---- answers ---- */

static void client__sends_method_path_headers_and_body_as_given(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){.token = "tok"});
    struct asker asker = asker_up((struct hadb_http_client_options){.token = "tok"});
    static const char *const methods[] = {"PUT", "POST", "GET", "DELETE", "HEAD"};
    for (size_t i = 0; i < HADB_LEN(methods); i++) {
        for (unsigned with_body = 0; with_body < 2; with_body++) {
            struct asked *asked =
                asked_new(&asker, methods[i], url_of(rig->address, "/a%2Fb/../%00+x?k=%26+&z"));
            if (with_body && i < 4) {
                asked->options.body = hadb_slice("b\0dy", 4);
                asked->options.body_copy = true;
            }
            asked_start(asked);
            asked_wait(asked);
            assert_string_equal(asked->message, "");
            assert_int_equal(asked->code, 0);
            assert_int_equal(asked->failure, HADB_HTTP_NO_FAILURE);
            assert_true(asked->sent);
            assert_int_equal(asked->status, 200);
            assert_string_equal(asked->x_method, methods[i]);
            assert_string_equal(asked->x_path, "/a%2Fb/../%00+x");
            assert_string_equal(asked->x_query, "k=%26+&z");
            assert_int_equal(asked->opened.count, 1);
            if (with_body && i < 4) {
                assert_int_equal(asked->body.len, 4);
                assert_memory_equal(asked->body.data, "b\0dy", 4);
            } else {
                assert_int_equal(asked->body.len, 0);
            }
            asked_free(asked);
        }
    }
    asker_down(&asker);
    rig_down(rig);
}

static void client__sends_no_surprises_and_keeps_the_connection(void **state)
{
    (void)state;
    char address[HADB_NET_TEXT_BYTES];
    int listen_fd = fake_listen(address, 8);
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    int fd = -1;
    for (unsigned i = 0; i < 3; i++) {
        struct hadb_http_header headers[] = {{"Hadb-Request-Id", "7"}, {"X-Empty", ""}};
        struct asked *asked = asked_new(&asker, "PUT", url_of(address, "/x"));
        static char body[2000000]; /* curl would like to ask for permission first */
        asked->options.body = hadb_slice(body, sizeof(body));
        asked->options.headers = headers;
        asked->options.headers_len = 2;
        asked_start(asked);
        if (fd < 0) {
            fd = fake_accept(listen_fd);
        }
        struct hadb_buf request = {0};
        fake_read(fd, &request);
        assert_true(raw_has(&request, "PUT /x HTTP/1.1\r\n"));
        assert_true(raw_has(&request, "Hadb-Request-Id: 7\r\n"));
        assert_true(raw_has(&request, "X-Empty:\r\n"));
        assert_true(raw_has(&request, "Content-Length: 2000000\r\n"));
        assert_false(raw_has(&request, "Expect"));
        assert_false(raw_has(&request, "Content-Type"));
        assert_false(raw_has(&request, "Authorization"));
        raw_send_str(fd, i == 1 ? "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n"
                                  "Content-Length: 0\r\n\r\n"
                                : OK_REPLY);
        asked_wait(asked);
        assert_int_equal(asked->status, i == 1 ? 302 : 200);
        hadb_buf_deinit(&request);
        asked_free(asked);
    }
    assert_false(readable(listen_fd, 0)); /* no second connection */
    unsetenv("http_proxy");
    asker_down(&asker);
    close(fd);
    close(listen_fd);
}

static void client__runs_many_at_once_over_a_bounded_number_of_connections(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){.connections_max = 8});
    struct asker asker = asker_up((struct hadb_http_client_options){.host_connections_max = 8});
    struct asked *asked[200];
    char urls[200][512];
    for (unsigned i = 0; i < HADB_LEN(asked); i++) {
        snprintf(urls[i], sizeof(urls[i]), "http://%s/echo/%u", rig->address, i);
        asked[i] = asked_new(&asker, "PUT", urls[i]);
        asked[i]->options.body = hadb_slice_str(urls[i]);
        asked_start(asked[i]);
    }
    for (unsigned i = 0; i < HADB_LEN(asked); i++) {
        asked_wait(asked[i]);
        assert_int_equal(asked[i]->code, 0);
        assert_true(hadb_slice_eq(hadb_buf_slice(&asked[i]->body), hadb_slice_str(urls[i])));
        asked_free(asked[i]);
    }
    asker_down(&asker);
    rig_down(rig);
}

static void client__moves_a_large_body_both_ways(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    size_t len = 64u << 20; /* the largest value */
    uint8_t *body = malloc(len);
    for (size_t i = 0; i < len; i++) {
        body[i] = (uint8_t)(i ^ (i >> 11));
    }
    struct asked *asked = asked_new(&asker, "PUT", url_of(rig->address, "/later"));
    asked->options.body = hadb_slice(body, len);
    asked_start(asked);
    asked_wait(asked);
    assert_int_equal(asked->code, 0);
    assert_int_equal(asked->body.len, len);
    assert_memory_equal(asked->body.data, body, len);
    asked_free(asked);
    free(body);
    asker_down(&asker);
    rig_down(rig);
}

static void client__sees_the_refusal_of_a_body_that_is_too_large(void **state)
{
    (void)state;
    struct rig *rig = rig_up((struct hadb_http_server_options){.body_bytes_max = 1000});
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    static char body[900000]; /* under what the server reads and drops */
    struct asked *asked = asked_new(&asker, "PUT", url_of(rig->address, "/echo"));
    asked->options.body = hadb_slice(body, sizeof(body));
    asked_start(asked);
    asked_wait(asked);
    assert_int_equal(asked->status, 413);
    assert_int_equal(asked->code, 0);
    asked_free(asked);
    asker_down(&asker);
    rig_down(rig);
}

/* ---- verdicts ---- */

static void verdict__refused_connection_is_evidence_and_surely_not_sent(void **state)
{
    (void)state;
    char address[HADB_NET_TEXT_BYTES];
    close(fake_listen(address, 1)); /* a port where nobody listens */
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    struct asked *asked = asked_new(&asker, "PUT", url_of(address, "/x"));
    asked_start(asked);
    asked_wait(asked);
    assert_int_equal(asked->failure, HADB_HTTP_REFUSED);
    assert_int_equal(asked->code, HADB_EUNAVAIL);
    assert_false(asked->sent);
    assert_int_equal(asked->status, 0);
    assert_true(strlen(asked->message) > 0);
    asked_free(asked);
    asker_down(&asker);
}

/* A port that neither takes nor refuses connections: its accept queue is full. Fills at most 16. */
static int black_hole(char address[HADB_NET_TEXT_BYTES], int fillers[16])
{
    struct hadb_net_address parsed;
    int fd = fake_listen(address, 0);
    assert_int_equal(hadb_net_parse(address, &parsed, NULL), 0);
    for (unsigned i = 0; i < 16; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fillers[i], (struct sockaddr *)&parsed.sockaddr, parsed.sockaddr_len);
    }
    return fd;
}

static void black_hole_close(int fd, int fillers[16])
{
    for (unsigned i = 0; i < 16; i++) {
        close(fillers[i]);
    }
    close(fd);
}

static void verdict__connect_timeout_is_no_evidence_and_surely_not_sent(void **state)
{
    (void)state;
    char address[HADB_NET_TEXT_BYTES];
    int fillers[16];
    int fd = black_hole(address, fillers);
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    struct asked *asked = asked_new(&asker, "PUT", url_of(address, "/x"));
    asked->options.connect_timeout_ms = 50;
    asked_start(asked);
    asked_wait(asked);
    assert_int_equal(asked->failure, HADB_HTTP_TIMED_OUT);
    assert_int_equal(asked->code, HADB_EUNAVAIL);
    assert_false(asked->sent);
    asked_free(asked);
    asker_down(&asker);
    black_hole_close(fd, fillers);
}

static void verdict__deadline_while_waiting_for_the_answer_leaves_it_unknown(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    struct asked *asked = asked_new(&asker, "PUT", url_of(rig->address, "/hold"));
    uint64_t start = in_ms(0);
    asked->options.deadline_ms = start + 100;
    rig->reply_when_gone = true;
    asked_start(asked);
    asked_wait(asked);
    assert_int_equal(asked->failure, HADB_HTTP_TIMED_OUT);
    assert_int_equal(asked->code, HADB_ETIMEDOUT);
    assert_true(asked->sent);
    assert_in_range(in_ms(0) - start, 99, 5000);
    gate_wait(&rig->gone_gate, 1); /* and the server knows */
    asked_free(asked);
    asker_down(&asker);
    rig_down(rig);
}

static void verdict__deadline_that_has_passed_sends_nothing(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    struct asked *asked = asked_new(&asker, "PUT", url_of(rig->address, "/echo"));
    asked->options.deadline_ms = 1;
    asked_start(asked);
    asked_wait(asked);
    assert_int_equal(asked->failure, HADB_HTTP_TIMED_OUT);
    assert_int_equal(asked->code, HADB_EUNAVAIL);
    assert_false(asked->sent);
    asked_free(asked);
    asker_down(&asker);
    assert_int_equal(rig->handled, 0);
    rig_down(rig);
}

static void verdict__deadline_holds_while_waiting_for_a_free_connection(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct asker asker = asker_up((struct hadb_http_client_options){.host_connections_max = 1});
    char url[512];
    snprintf(url, sizeof(url), "%s", url_of(rig->address, "/hold"));
    struct asked *first = asked_new(&asker, "PUT", url);
    struct asked *second = asked_new(&asker, "PUT", url);
    rig->reply_when_gone = true;
    asked_start(first);
    gate_wait(&rig->held_gate, 1);
    second->options.deadline_ms = in_ms(100);
    asked_start(second);
    asked_wait(second);
    assert_int_equal(second->failure, HADB_HTTP_TIMED_OUT);
    assert_false(second->sent);
    assert_int_equal(first->done.count, 0);
    hadb_loop_call(asker.loop, cancel_task, first);
    asked_wait(first);
    asked_free(first);
    asked_free(second);
    asker_down(&asker);
    rig_down(rig);
}

static void verdict__connection_that_breaks_after_sending_is_a_reset(void **state)
{
    (void)state;
    char address[HADB_NET_TEXT_BYTES];
    int listen_fd = fake_listen(address, 8);
    static const char *const partial[] = {"", "HTTP/1.1 200 OK\r\nContent-Le",
                                          "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
                                          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                          "5\r\nab"};
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    for (size_t i = 0; i < HADB_LEN(partial); i++) {
        struct asked *asked = asked_new(&asker, "PUT", url_of(address, "/x"));
        asked->options.body = hadb_slice_str("body");
        asked_start(asked);
        int fd = fake_accept(listen_fd);
        fake_read(fd, NULL);
        raw_send_str(fd, partial[i]);
        close(fd);
        asked_wait(asked);
        assert_int_equal(asked->failure, HADB_HTTP_RESET);
        assert_int_equal(asked->code, HADB_EIO);
        assert_true(asked->sent);
        assert_false(readable(listen_fd, 0));
        asked_free(asked);
    }
    asker_down(&asker);
    close(listen_fd);
}

/* Answers one request on a fresh connection and returns that connection. */
static int keep_one(struct asker *asker, int listen_fd, const char *url)
{
    struct asked *asked = asked_new(asker, "GET", url);
    asked_start(asked);
    int fd = fake_accept(listen_fd);
    fake_read(fd, NULL);
    raw_send_str(fd, OK_REPLY);
    asked_wait(asked);
    assert_int_equal(asked->code, 0);
    asked_free(asked);
    return fd;
}

static void verdict__write_on_a_kept_connection_that_breaks_is_never_sent_twice(void **state)
{
    (void)state;
    char address[HADB_NET_TEXT_BYTES];
    int listen_fd = fake_listen(address, 8);
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    const char *url = url_of(address, "/x");
    int fd = keep_one(&asker, listen_fd, url);
    struct asked *asked = asked_new(&asker, "PUT", url);
    asked->options.body = hadb_slice_str("body");
    asked_start(asked);
    fake_read(fd, NULL); /* executed, for all that the client knows */
    close(fd);
    asked_wait(asked);
    assert_int_equal(asked->failure, HADB_HTTP_RESET);
    assert_true(asked->sent);
    if (readable(listen_fd, 0)) { /* at most a connection, on which nothing is sent */
        fd = fake_accept(listen_fd);
        char byte;
        assert_true(recv(fd, &byte, 1, 0) <= 0);
        close(fd);
    }
    asked_free(asked);
    asker_down(&asker);
    close(listen_fd);
}

static void verdict__write_sent_before_the_server_died_is_not_called_unsent(void **state)
{
    (void)state;
    char address[HADB_NET_TEXT_BYTES];
    int listen_fd = fake_listen(address, 8);
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    const char *url = url_of(address, "/x");
    int fd = keep_one(&asker, listen_fd, url);
    struct asked *asked = asked_new(&asker, "PUT", url);
    asked->options.body = hadb_slice_str("body");
    asked_start(asked);
    fake_read(fd, NULL);
    close(listen_fd); /* the process is gone: a fresh connection would be refused */
    close(fd);
    asked_wait(asked);
    assert_true(asked->failure == HADB_HTTP_REFUSED || asked->failure == HADB_HTTP_RESET);
    assert_true(asked->sent);
    assert_int_equal(asked->code, HADB_EIO);
    asked_free(asked);
    asker_down(&asker);
}

static void verdict__read_on_a_kept_connection_that_breaks_is_repeated(void **state)
{
    (void)state;
    char address[HADB_NET_TEXT_BYTES];
    int listen_fd = fake_listen(address, 8);
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    const char *url = url_of(address, "/x");
    int fd = keep_one(&asker, listen_fd, url);
    struct asked *asked = asked_new(&asker, "GET", url);
    asked_start(asked);
    fake_read(fd, NULL);
    close(fd);
    fd = fake_accept(listen_fd);
    fake_read(fd, NULL);
    raw_send_str(fd, OK_REPLY);
    asked_wait(asked);
    assert_int_equal(asked->code, 0);
    asked_free(asked);
    close(fd);
    asker_down(&asker);
    close(listen_fd);
}

static void verdict__answers_that_are_no_http_or_too_big_are_told_apart(void **state)
{
    (void)state;
    char address[HADB_NET_TEXT_BYTES];
    int listen_fd = fake_listen(address, 8);
    static const struct {
        const char *text;
        enum hadb_http_failure failure;
        int code;
    } cases[] = {
        {"SSH-2.0-OpenSSH_9.2\r\n", HADB_HTTP_BROKEN, HADB_EPROTO},
        {"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n", HADB_HTTP_TOO_BIG, HADB_ETOOBIG},
        {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", HADB_HTTP_NO_FAILURE, 0},
    };
    static char filler[101];
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct asked *asked = asked_new(&asker, "PUT", url_of(address, "/x"));
        asked->options.reply_bytes_max = 100;
        asked_start(asked);
        int fd = fake_accept(listen_fd);
        fake_read(fd, NULL);
        raw_send_str(fd, cases[i].text);
        raw_send(fd, filler, i == 1 ? 101 : 100);
        asked_wait(asked);
        assert_int_equal(asked->failure, cases[i].failure);
        assert_int_equal(asked->code, cases[i].code);
        assert_true(asked->sent);
        asked_free(asked);
        close(fd);
    }
    asker_down(&asker);
    close(listen_fd);
}

static void verdict__urls_that_are_none_fail_without_sending(void **state)
{
    (void)state;
    static const char *const urls[] = {"http://", "ftp://127.0.0.1/x", "nonsense://x",
                                       "http://127.0.0.1:99999/", "file:///etc/passwd"};
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    for (size_t i = 0; i < HADB_LEN(urls); i++) {
        struct asked *asked = asked_new(&asker, "GET", urls[i]);
        asked_start(asked);
        asked_wait(asked);
        assert_int_equal(asked->failure, HADB_HTTP_BROKEN);
        assert_int_equal(asked->code, HADB_EINVAL);
        assert_false(asked->sent);
        asked_free(asked);
    }
    struct hadb_http_header bad[] = {{"X-Bad", "a\r\nX-Injected: 1"}};
    struct asked *asked = asked_new(&asker, "GET", "http://127.0.0.1:1/");
    asked->options.headers = bad;
    asked->options.headers_len = 1;
    hadb_loop_call(asker.loop, start_asked, asked);
    assert_int_equal(asked->start_r, HADB_EINVAL);
    asked->done.count = 1; /* for asked_free(): nothing was started */
    asked_free(asked);
    asker_down(&asker);
}

/* ---- cancelling and stopping ---- */

static void cancel__ends_a_request_with_exactly_one_word(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    struct asked *asked = asked_new(&asker, "PUT", url_of(rig->address, "/hold"));
    rig->reply_when_gone = true;
    asked_start(asked);
    gate_wait(&rig->held_gate, 1);
    hadb_loop_call(asker.loop, cancel_task, asked);
    asked_wait(asked);
    assert_int_equal(asked->failure, HADB_HTTP_CANCELED);
    assert_int_equal(asked->code, HADB_ECANCELED);
    gate_wait(&rig->gone_gate, 1);
    asked_free(asked);
    asker_down(&asker);
    rig_down(rig);
}

static void stop__cancels_what_is_under_way_and_what_waits(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct asker asker = asker_up((struct hadb_http_client_options){.host_connections_max = 1});
    char url[512];
    struct asked *asked[3];
    snprintf(url, sizeof(url), "%s", url_of(rig->address, "/hold"));
    rig->reply_when_gone = true;
    for (unsigned i = 0; i < 3; i++) {
        asked[i] = asked_new(&asker, "PUT", url);
        asked_start(asked[i]);
    }
    gate_wait(&rig->held_gate, 1);
    hadb_http_client_stop(asker.client);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(asked[i]->done.count, 1); /* before stop has returned */
        assert_int_equal(asked[i]->failure, HADB_HTTP_CANCELED);
        asked_free(asked[i]);
    }
    loop_down(asker.loop);
    rig_down(rig);
}

static void request__may_be_started_from_on_done(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    char url[512];
    struct asked *chain[20];
    snprintf(url, sizeof(url), "%s", url_of(rig->address, "/echo"));
    for (unsigned i = 0; i < HADB_LEN(chain); i++) {
        chain[i] = asked_new(&asker, "PUT", url);
        if (i > 0) {
            chain[i - 1]->then = chain[i];
        }
    }
    asked_start(chain[0]);
    for (unsigned i = 0; i < HADB_LEN(chain); i++) {
        asked_wait(chain[i]);
        assert_int_equal(chain[i]->code, 0);
        asked_free(chain[i]);
    }
    asker_down(&asker);
    rig_down(rig);
}

/* ---- streaming ---- */

struct feed {
    struct rig *rig;
    const char *text;
    bool end;
};

static void feed_task(void *arg)
{
    struct feed *feed = arg;
    if (feed->text) {
        hadb_http_stream_write(feed->rig->stream, hadb_slice_str(feed->text));
    }
    if (feed->end) {
        hadb_http_stream_end(feed->rig->stream);
        feed->rig->stream = NULL;
    }
}

static void feed(struct rig *rig, const char *text, bool end)
{
    struct feed args = {rig, text, end};
    hadb_loop_call(rig->loop, feed_task, &args);
}

static struct asked *open_stream(struct asker *asker, struct rig *rig)
{
    struct asked *asked = asked_new(asker, "GET", url_of(rig->address, "/stream"));
    asked->options.deadline_ms = 0;
    asked->options.on_data = on_asked_data;
    return asked;
}

static void stream__arrives_piece_by_piece_until_its_end(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    struct asked *asked = open_stream(&asker, rig);
    asked_start(asked);
    gate_wait(&asked->opened, 1); /* before any data */
    assert_int_equal(asked->data_status, 200);
    for (unsigned i = 1; i <= 20; i++) {
        feed(rig, "piece ", false);
        gate_wait(&asked->data, i);
    }
    feed(rig, "end", true);
    asked_wait(asked);
    assert_int_equal(asked->code, 0);
    assert_int_equal(asked->got.len, 20 * 6 + 3);
    assert_int_equal(asked->body.len, 0);
    asked_free(asked);
    asker_down(&asker);
    rig_down(rig);
}

static void stream__silence_longer_than_the_idle_timeout_ends_it(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    struct asked *asked = open_stream(&asker, rig);
    asked->options.idle_timeout_ms = 80;
    asked_start(asked);
    gate_wait(&rig->stream_gate, 1);
    uint64_t last = in_ms(0);
    feed(rig, "x", false);
    asked_wait(asked);
    assert_true(in_ms(0) - last >= 80);
    assert_int_equal(asked->failure, HADB_HTTP_TIMED_OUT);
    assert_int_equal(asked->got.len, 1);
    gate_wait(&rig->closed_gate, 1); /* the server sees it too */
    asked_free(asked);
    asker_down(&asker);
    rig_down(rig);
}

static void stream__server_that_stops_breaks_it(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    struct asked *asked = open_stream(&asker, rig);
    asked_start(asked);
    gate_wait(&asked->opened, 1);
    hadb_http_server_stop(rig->server);
    rig->server = NULL;
    asked_wait(asked);
    assert_int_equal(asked->failure, HADB_HTTP_RESET);
    asked_free(asked);
    asker_down(&asker);
    rig_down(rig);
}

static void stream__may_be_cancelled_and_start_requests_from_inside_on_data(void **state)
{
    (void)state;
    struct rig *rig = rig_up(plain);
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    char url[512];
    snprintf(url, sizeof(url), "%s", url_of(rig->address, "/echo"));
    struct asked *asked = open_stream(&asker, rig);
    struct asked *other = asked_new(&asker, "PUT", url);
    asked->then = other;
    asked->nested = true;
    asked->cancel_on_data = true;
    asked_start(asked);
    gate_wait(&rig->stream_gate, 1);
    feed(rig, "go", false);
    asked_wait(asked);
    asked_wait(other);
    assert_int_equal(asked->failure, HADB_HTTP_CANCELED);
    assert_int_equal(asked->data.count, 1);
    assert_int_equal(other->code, 0);
    asked_free(asked);
    asked_free(other);
    asker_down(&asker);
    rig_down(rig);
}

static void stream__answer_other_than_200_is_collected(void **state)
{
    (void)state;
    char address[HADB_NET_TEXT_BYTES];
    int listen_fd = fake_listen(address, 8);
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    struct asked *asked = asked_new(&asker, "GET", url_of(address, "/stream"));
    asked->options.on_data = on_asked_data;
    asked_start(asked);
    int fd = fake_accept(listen_fd);
    fake_read(fd, NULL);
    raw_send_str(fd, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nX-Path: here\r\n"
                     "Content-Length: 4\r\n\r\nnone");
    asked_wait(asked);
    assert_int_equal(asked->status, 404);
    assert_int_equal(asked->data.count, 0);
    assert_int_equal(asked->opened.count, 1);
    assert_string_equal(asked->x_path, "here");
    assert_memory_equal(asked->body.data, "none", 4);
    asked_free(asked);
    close(fd);
    asker_down(&asker);
    close(listen_fd);
}

/* ---- connect check ---- */

struct check {
    struct asker *asker;
    const char *address;
    struct gate done;
    enum hadb_http_failure failure;
    int r;
};

static void on_checked(void *arg, enum hadb_http_failure failure)
{
    struct check *check = arg;
    check->failure = failure;
    gate_raise(&check->done);
}

static void check_task(void *arg)
{
    struct check *check = arg;
    check->r =
        hadb_http_connect_check(check->asker->client, check->address, 60, on_checked, check, NULL);
}

static enum hadb_http_failure check(struct asker *asker, const char *address)
{
    struct check check = {.asker = asker, .address = address, .failure = HADB_HTTP_BROKEN};
    gate_init(&check.done);
    hadb_loop_call(asker->loop, check_task, &check);
    assert_int_equal(check.r, 0);
    gate_wait(&check.done, 1);
    gate_deinit(&check.done);
    return check.failure;
}

static void connect_check__tells_connected_refused_and_silence_apart(void **state)
{
    (void)state;
    char address[HADB_NET_TEXT_BYTES];
    char silent[HADB_NET_TEXT_BYTES];
    int fillers[16];
    struct asker asker = asker_up((struct hadb_http_client_options){0});
    int listen_fd = fake_listen(address, 8);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(check(&asker, address), HADB_HTTP_NO_FAILURE);
        int fd = fake_accept(listen_fd); /* a fresh connection every time */
        char byte;
        assert_int_equal(recv(fd, &byte, 1, 0), 0); /* nothing is sent, and it is closed */
        close(fd);
    }
    close(listen_fd);
    assert_int_equal(check(&asker, address), HADB_HTTP_REFUSED);
    int fd = black_hole(silent, fillers);
    assert_int_equal(check(&asker, silent), HADB_HTTP_TIMED_OUT);
    black_hole_close(fd, fillers);
    struct check bad = {.asker = &asker, .address = "nonsense"};
    hadb_loop_call(asker.loop, check_task, &bad);
    assert_int_equal(bad.r, HADB_EINVAL);
    asker_down(&asker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client__sends_method_path_headers_and_body_as_given),
        cmocka_unit_test(client__sends_no_surprises_and_keeps_the_connection),
        cmocka_unit_test(client__runs_many_at_once_over_a_bounded_number_of_connections),
        cmocka_unit_test(client__moves_a_large_body_both_ways),
        cmocka_unit_test(client__sees_the_refusal_of_a_body_that_is_too_large),
        cmocka_unit_test(verdict__refused_connection_is_evidence_and_surely_not_sent),
        cmocka_unit_test(verdict__connect_timeout_is_no_evidence_and_surely_not_sent),
        cmocka_unit_test(verdict__deadline_while_waiting_for_the_answer_leaves_it_unknown),
        cmocka_unit_test(verdict__deadline_that_has_passed_sends_nothing),
        cmocka_unit_test(verdict__deadline_holds_while_waiting_for_a_free_connection),
        cmocka_unit_test(verdict__connection_that_breaks_after_sending_is_a_reset),
        cmocka_unit_test(verdict__write_on_a_kept_connection_that_breaks_is_never_sent_twice),
        cmocka_unit_test(verdict__write_sent_before_the_server_died_is_not_called_unsent),
        cmocka_unit_test(verdict__read_on_a_kept_connection_that_breaks_is_repeated),
        cmocka_unit_test(verdict__answers_that_are_no_http_or_too_big_are_told_apart),
        cmocka_unit_test(verdict__urls_that_are_none_fail_without_sending),
        cmocka_unit_test(cancel__ends_a_request_with_exactly_one_word),
        cmocka_unit_test(stop__cancels_what_is_under_way_and_what_waits),
        cmocka_unit_test(request__may_be_started_from_on_done),
        cmocka_unit_test(stream__arrives_piece_by_piece_until_its_end),
        cmocka_unit_test(stream__silence_longer_than_the_idle_timeout_ends_it),
        cmocka_unit_test(stream__server_that_stops_breaks_it),
        cmocka_unit_test(stream__may_be_cancelled_and_start_requests_from_inside_on_data),
        cmocka_unit_test(stream__answer_other_than_200_is_collected),
        cmocka_unit_test(connect_check__tells_connected_refused_and_silence_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
