/* SPDX-License-Identifier: Apache-2.0 */
/* Seeded garbage on raw sockets: whatever arrives, in whatever pieces, the server neither crashes nor stops
 * serving the next client, and every answer it gives is HTTP. HADB_TEST_SEED picks another run. */
#include "tests/unit/node/http_rig.h"

#define CONNECTIONS 1500
#define STREAMS_EVERY 50

struct dice {
    uint64_t state;
};

static uint32_t roll(struct dice *dice, uint32_t below)
{
    dice->state = dice->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(dice->state >> 33) % below;
}

static const char *const pieces[] = {
    "GET ",
    "PUT ",
    "HEAD ",
    "/echo",
    "/later/%00",
    "/hold",
    "/stream",
    "*",
    "?a=1&b",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    " HTTP/2.0\r\n",
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "Host: x\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 18446744073709551615\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: upgrade\r\nUpgrade: h2c\r\n",
    "Expect: 100-continue\r\n",
    "Cookie: a=b; c=\"d\r\n",
    "Authorization: Bearer x\r\n",
    " folded\r\n",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "ffffffff\r\n",
    ":",
    "%",
    "hello",
};

/* A request that starts out right and is then damaged, or nothing but pieces and noise. */
static void compose(struct dice *dice, struct hadb_buf *out)
{
    hadb_buf_clear(out);
    if (roll(dice, 3) > 0) {
        hadb_buf_append_str(out, roll(dice, 2) ? "GET /echo HTTP/1.1\r\nHost: x\r\n"
                                               : "PUT /later HTTP/1.1\r\nHost: x\r\n");
    }
    unsigned len = roll(dice, 12);
    for (unsigned i = 0; i < len; i++) {
        if (roll(dice, 6) == 0) {
            uint8_t noise[40];
            size_t noise_len = roll(dice, sizeof(noise));
            for (size_t j = 0; j < noise_len; j++) {
                noise[j] = (uint8_t)roll(dice, 256);
            }
            hadb_buf_append(out, noise, noise_len);
        } else {
            hadb_buf_append_str(out, pieces[roll(dice, HADB_LEN(pieces))]);
        }
    }
    if (roll(dice, 2)) {
        hadb_buf_append_str(out, "\r\n\r\n");
    }
    for (unsigned i = roll(dice, 4); i > 0 && out->len > 0; i--) {
        out->data[roll(dice, (uint32_t)out->len)] ^= (uint8_t)(1u << roll(dice, 8));
    }
}

static bool starts_like_http(struct hadb_buf *got)
{
    return got->len == 0 || (got->len >= 9 && memcmp(got->data, "HTTP/1.1 ", 9) == 0) ||
           (got->len >= 9 && memcmp(got->data, "HTTP/1.0 ", 9) == 0);
}

static void drop_held(void *arg)
{
    struct rig *rig = arg;
    if (rig->held) {
        hadb_http_reply(rig->held, 200, NULL, 0, hadb_slice_str("dropped"));
        rig->held = NULL;
    }
    if (rig->stream) {
        hadb_http_stream_end(rig->stream);
        rig->stream = NULL;
    }
}

/* The rig keeps one exchange and one stream only; a second one must not leak. */
static void handle_garbage(void *arg, struct hadb_http_exchange *x,
                           const struct hadb_http_request *request)
{
    struct rig *rig = arg;
    drop_held(rig);
    handle(rig, x, request);
}

static void one_connection(struct rig *rig, struct dice *dice, struct hadb_buf *text)
{
    struct hadb_buf got = {0};
    compose(dice, text);
    int fd = raw_connect(rig->address);
    size_t cut = text->len && roll(dice, 2) ? roll(dice, (uint32_t)text->len) : text->len;
    raw_send(fd, text->data, cut);
    raw_send(fd, text->data + cut, text->len - cut);
    if (roll(dice, 4) == 0) {
        close(fd); /* leaves at once */
        return;
    }
    shutdown(fd, SHUT_WR); /* the server reads the end and closes in any case */
    if (!raw_drain(fd, &got) || !starts_like_http(&got)) {
        fail_msg("no end, or no HTTP, after: %s", hadb_buf_cstr(text));
    }
    hadb_buf_deinit(&got);
    close(fd);
}

static void garbage__never_stops_the_server(void **state)
{
    (void)state;
    const char *seed_text = getenv("HADB_TEST_SEED");
    struct dice dice = {.state = seed_text ? strtoull(seed_text, NULL, 10) : 20240607};
    struct rig *rig = rig_up((struct hadb_http_server_options){0});
    struct hadb_http_server *server = NULL;
    struct hadb_http_server_options options = {
        .listen = "127.0.0.1:0", .handler = handle_garbage, .arg = rig};
    struct hadb_buf text = {0};
    print_message("seed %llu\n", (unsigned long long)dice.state);
    assert_int_equal(hadb_http_server_start(rig->loop, &options, &server, NULL), 0);
    snprintf(rig->address, sizeof(rig->address), "%s", hadb_http_server_address(server));
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        one_connection(rig, &dice, &text);
        if (i % STREAMS_EVERY == 0) {
            struct raw_reply reply = ask(rig, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_int_equal(reply.status, 200);
            raw_reply_deinit(&reply);
        }
    }
    assert_true(rig->handled > CONNECTIONS / STREAMS_EVERY); /* some of it was a request */
    hadb_loop_call(rig->loop, drop_held, rig);
    hadb_http_server_stop(server);
    hadb_buf_deinit(&text);
    rig_down(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(garbage__never_stops_the_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
