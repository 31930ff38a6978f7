/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client: answers, cancelling, streaming. */
#include "tests/unit/node/client_rig.h"

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
    /* One more than the client may open: at its limit a server ends idle connections to make room. */
    struct rig *rig = rig_up((struct hadb_http_server_options){.connections_max = 9});
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client__sends_method_path_headers_and_body_as_given),
        cmocka_unit_test(client__sends_no_surprises_and_keeps_the_connection),
        cmocka_unit_test(client__runs_many_at_once_over_a_bounded_number_of_connections),
        cmocka_unit_test(client__moves_a_large_body_both_ways),
        cmocka_unit_test(client__sees_the_refusal_of_a_body_that_is_too_large),
        cmocka_unit_test(cancel__ends_a_request_with_exactly_one_word),
        cmocka_unit_test(stop__cancels_what_is_under_way_and_what_waits),
        cmocka_unit_test(request__may_be_started_from_on_done),
        cmocka_unit_test(stream__arrives_piece_by_piece_until_its_end),
        cmocka_unit_test(stream__silence_longer_than_the_idle_timeout_ends_it),
        cmocka_unit_test(stream__server_that_stops_breaks_it),
        cmocka_unit_test(stream__may_be_cancelled_and_start_requests_from_inside_on_data),
        cmocka_unit_test(stream__answer_other_than_200_is_collected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
