/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client's verdicts: what is evidence that nobody listens, what may have been executed, what says
 * nothing; and that nothing which may have been executed is sent twice. */
#include "tests/unit/node/client_rig.h"

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
                                          ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                           "5\r\nab")};
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
        cmocka_unit_test(connect_check__tells_connected_refused_and_silence_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
