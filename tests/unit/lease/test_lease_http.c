/* SPDX-License-Identifier: Apache-2.0 */
/* The lease store http://: what each status means (docs/lease-http.md), what it sends. The service is made of prepared replies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/env.h"
#include "hadb/lease.h"
#include "tests/support/canned.h"
#include "tests/support/support.h"

struct fixture {
    struct canned server;
    struct hadb_lease s;
    struct hadb_buf got;
    struct hadb_tag tag;
    struct hadb_error err;
};

/* A whole reply in memory of the test's; up to 8 live at once. @headers end in CRLF each. */
static const char *http(int status, const char *headers, const char *body)
{
    static char texts[8][4096];
    static unsigned next;
    char *out = texts[next++ % 8];
    int len = snprintf(out, sizeof(texts[0]), "HTTP/1.1 %d Word\r\n%sContent-Length: %zu\r\n\r\n%s",
                       status, headers, strlen(body), body);
    HADB_ASSERT(len > 0 && (size_t)len < sizeof(texts[0]));
    return out;
}

static void begin(struct fixture *f, const char *user, const char *path, const char *const *replies)
{
    char url[256];
    *f = (struct fixture){0};
    canned_start(&f->server, replies);
    snprintf(url, sizeof(url), "http://%s127.0.0.1:%u%s", user, f->server.port, path);
    if (hadb_lease_open(url, NULL, &f->s, &f->err)) {
        fail_msg("%s: %s", url, f->err.message);
    }
}

static void end(struct fixture *f)
{
    hadb_lease_close(&f->s);
    canned_stop(&f->server);
    free(f->server.asked);
    hadb_buf_deinit(&f->got);
}

static int put(struct fixture *f, const struct hadb_tag *expected)
{
    struct hadb_call call = hadb_call_within(hadb_env_host(), 20000);
    return hadb_lease_write_if_match(&f->s, &call, "node/a", hadb_slice_str("record"), expected,
                                     &f->tag, &f->err);
}

static int get(struct fixture *f)
{
    struct hadb_call call = hadb_call_within(hadb_env_host(), 20000);
    return hadb_lease_read(&f->s, &call, "node/a", &f->got, &f->tag, &f->err);
}

static int put_after(const char *reply)
{
    struct fixture f;
    const char *const replies[] = {reply, NULL};
    begin(&f, "", "", replies);
    int r = put(&f, NULL);
    end(&f);
    return r;
}

static int get_after(const char *reply)
{
    struct fixture f;
    const char *const replies[] = {reply, NULL};
    begin(&f, "", "", replies);
    int r = get(&f);
    end(&f);
    return r;
}

#define ETAG "ETag: \"t1\"\r\n"

static const struct {
    int status;
    const char *headers, *body;
    int put, get;
} cases[] = {
    {200, ETAG, "record", 0, 0},
    {201, ETAG, "", 0, HADB_EIO},
    {204, ETAG, "", 0, HADB_EIO},
    {202, ETAG, "", HADB_ETIMEDOUT, HADB_EIO},
    {206, ETAG, "rec", HADB_ETIMEDOUT, HADB_EIO},
    {200, "", "record", HADB_ETIMEDOUT, HADB_EIO},
    {200, "ETag: W/\"t1\"\r\n", "record", HADB_ETIMEDOUT, HADB_EIO},
    {200, "ETag: t1\r\n", "record", HADB_ETIMEDOUT, HADB_EIO},
    {200, "ETag: \"\"\r\n", "record", HADB_ETIMEDOUT, HADB_EIO},
    {200, "ETag: \"a\"b\"\r\n", "record", HADB_ETIMEDOUT, HADB_EIO},
    {412, "", "", HADB_CAS_LOST, HADB_EIO},
    {404, "", "{\"error\":\"ABSENT\",\"message\":\"m\"}", HADB_CAS_LOST, HADB_ABSENT},
    {404, "", "{\"error\":\"NOT_FOUND\",\"message\":\"m\"}", HADB_EIO, HADB_EIO},
    {404, "", "<html>ABSENT</html>", HADB_EIO, HADB_EIO},
    {304, ETAG, "", HADB_EINVAL, HADB_EINVAL},
    {302, "Location: http://127.0.0.1:1/\r\n", "", HADB_EINVAL, HADB_EINVAL},
    {400, "", "{\"error\":\"EINVAL\",\"message\":\"m\"}", HADB_EIO, HADB_EIO},
    {401, "", "", HADB_EAUTH, HADB_EAUTH},
    {403, "", "", HADB_EAUTH, HADB_EAUTH},
    {405, "", "", HADB_EIO, HADB_EIO},
    {413, "", "", HADB_ETOOBIG, HADB_ETOOBIG},
    {428, "", "", HADB_EIO, HADB_EIO},
    {408, "", "", HADB_ETIMEDOUT, HADB_EUNAVAIL},
    {409, "", "", HADB_ETIMEDOUT, HADB_EUNAVAIL},
    {425, "", "", HADB_ETIMEDOUT, HADB_EUNAVAIL},
    {429, "", "", HADB_ETIMEDOUT, HADB_EUNAVAIL},
    {499, "", "", HADB_ETIMEDOUT, HADB_EUNAVAIL},
    {500, "", "", HADB_ETIMEDOUT, HADB_EUNAVAIL},
    {502, "", "", HADB_ETIMEDOUT, HADB_EUNAVAIL},
    {503, "", "{\"error\":\"EUNAVAIL\",\"message\":\"m\"}", HADB_ETIMEDOUT, HADB_EUNAVAIL},
    {504, "", "", HADB_ETIMEDOUT, HADB_EUNAVAIL},
};

static void status__decides_what_a_call_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        int r = put_after(http(cases[i].status, cases[i].headers, cases[i].body));
        int got = get_after(http(cases[i].status, cases[i].headers, cases[i].body));
        if (r != cases[i].put || got != cases[i].get) {
            fail_msg("%d %s%s: write %d, read %d", cases[i].status, cases[i].headers, cases[i].body,
                     r, got);
        }
    }
}

static void reply__that_is_cut_leaves_a_write_unknown(void **state)
{
    (void)state;
    assert_int_equal(put_after(""), HADB_ETIMEDOUT);
    assert_int_equal(put_after("HTTP/1.1 200 OK\r\nETag: \"t\"\r\n"), HADB_ETIMEDOUT);
    assert_int_equal(put_after("HTTP/1.1 200 OK\r\nETag: \"t\"\r\nContent-Length: 9\r\n\r\nab"),
                     HADB_ETIMEDOUT);
    assert_int_equal(get_after("HTTP/1.1 200 OK\r\nETag: \"t\"\r\nContent-Length: 9\r\n\r\nab"),
                     HADB_EIO);
    assert_int_equal(get_after("HTTP/1.1 200 OK\r\nETag: \"t\"\r\n\r\nab"), HADB_EIO);
}

static void record__over_the_limit_is_refused(void **state)
{
    (void)state;
    size_t len = HADB_LEASE_RECORD_BYTES_MAX + 1;
    char *reply = malloc(len + 200);
    int head = snprintf(reply, 200, "HTTP/1.1 200 OK\r\n" ETAG "Content-Length: %zu\r\n\r\n", len);
    memset(reply + head, 'x', len);
    reply[(size_t)head + len] = '\0';
    assert_int_equal(get_after(reply), HADB_ETOOBIG);
    free(reply);
}

/* What was asked when this was called with @user, at @path. To be freed. */
static char *asked(const char *user, const char *path, const struct hadb_tag *expected, bool reads)
{
    struct fixture f;
    const char *const replies[] = {http(200, ETAG, "record"), NULL};
    begin(&f, user, path, replies);
    assert_int_equal(reads ? get(&f) : put(&f, expected), 0);
    assert_string_equal(f.tag.s, "\"t1\"");
    hadb_lease_close(&f.s);
    canned_stop(&f.server);
    hadb_buf_deinit(&f.got);
    return f.server.asked;
}

static void assert_asked(char *take_text, const char *const *words)
{
    for (; *words; words++) {
        if (!strstr(take_text, *words)) {
            fail_msg("'%s' has no '%s'", take_text, *words);
        }
    }
    free(take_text);
}

static void request__is_as_documented(void **state)
{
    (void)state;
    const struct hadb_tag tag = {"\"t0\""};
    assert_asked(asked("", "", NULL, false),
                 (const char *const[]){"PUT /v1/lease/node/a HTTP/1.1\r\n", "If-None-Match: *\r\n",
                                       "Hadb-Deadline-Ms: ", "Content-Length: 6\r\n",
                                       "\r\n\r\nrecord", NULL});
    assert_asked(
        asked("", "/", &tag, false),
        (const char *const[]){"PUT /v1/lease/node/a HTTP/1.1\r\n", "If-Match: \"t0\"\r\n", NULL});
    assert_asked(
        asked("", "/my%20base/x/", NULL, true),
        (const char *const[]){"GET /my%20base/x/node/a HTTP/1.1\r\n", "Hadb-Deadline-Ms: ", NULL});
    assert_asked(asked("a-token@", "", NULL, true),
                 (const char *const[]){"Authorization: Bearer a-token\r\n", NULL});
    assert_asked(asked(":a-token@", "", NULL, true),
                 (const char *const[]){"Authorization: Bearer a-token\r\n", NULL});
    assert_asked(asked("me:pa%3Ass@", "", NULL, true),
                 (const char *const[]){"Authorization: Basic bWU6cGE6c3M=\r\n", NULL});
}

static void tag__of_another_store_loses_without_a_request(void **state)
{
    (void)state;
    static const char *const foreign[] = {"5-abc", "\"", "\"\"", "\"a", "W/\"a\"", "\"a\", \"b\""};
    struct hadb_lease s = {0};
    assert_int_equal(hadb_lease_open("http://127.0.0.1:1", NULL, &s, NULL), 0);
    for (size_t i = 0; i < HADB_LEN(foreign); i++) {
        struct hadb_tag tag = {0};
        snprintf(tag.s, sizeof(tag.s), "%s", foreign[i]);
        assert_int_equal(
            hadb_lease_write_if_match(&s, NULL, "k", hadb_slice_str("x"), &tag, NULL, NULL),
            HADB_CAS_LOST);
        assert_int_equal(hadb_lease_watch(&s, NULL, "k", &tag, NULL), 0);
    }
    hadb_lease_close(&s);
}

static void watch__asks_again_where_the_service_does_not_hold(void **state)
{
    (void)state;
    struct fixture f;
    const struct hadb_tag seen = {"\"t0\""};
    const char *const replies[] = {http(304, "ETag: \"t0\"\r\n", ""),
                                   http(200, "ETag: \"t0\"\r\n", "record"),
                                   http(200, ETAG, "another"), NULL};
    begin(&f, "", "", replies);
    struct hadb_call call = hadb_call_within(hadb_env_host(), 20000);
    assert_int_equal(hadb_lease_watch(&f.s, &call, "k", &seen, &f.err), 0);
    hadb_lease_close(&f.s);
    canned_stop(&f.server);
    assert_non_null(strstr(f.server.asked, "GET /v1/lease/k?wait_ms="));
    assert_non_null(strstr(f.server.asked, "If-None-Match: \"t0\"\r\n"));
    free(f.server.asked);
}

static void bad__urls_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *url, *says;
    } bad[] = {
        {"http://", "must be host"},      {"http://a,b", "more than 1 hosts"},
        {"http://h?ca=/x", "TLS"},        {"https://h?what=1", "unknown parameter 'what'"},
        {"http://s3cret%20x@h", "token"}, {"http://h/%0a", "control character"},
    };
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        struct hadb_lease s = {0};
        struct hadb_error err = {0};
        if (hadb_lease_open(bad[i].url, NULL, &s, &err) != HADB_EINVAL ||
            !strstr(err.message, bad[i].says) || strstr(err.message, "s3cret")) {
            fail_msg("%s: '%s' does not say '%s'", bad[i].url, err.message, bad[i].says);
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(status__decides_what_a_call_answers),
        cmocka_unit_test(reply__that_is_cut_leaves_a_write_unknown),
        cmocka_unit_test(record__over_the_limit_is_refused),
        cmocka_unit_test(request__is_as_documented),
        cmocka_unit_test(tag__of_another_store_loses_without_a_request),
        cmocka_unit_test(watch__asks_again_where_the_service_does_not_hold),
        cmocka_unit_test(bad__urls_are_refused_with_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
