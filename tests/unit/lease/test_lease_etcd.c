/* SPDX-License-Identifier: Apache-2.0 */
/* The lease store etcd://: its URLs, its members, and what each reply means. The members are made of prepared replies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/env.h"
#include "hadb/lease.h"
#include "lease/record.h"
#include "tests/support/canned.h"
#include "tests/support/support.h"

#define HEADER "\"header\":{\"cluster_id\":\"1\",\"revision\":\"9\",\"raft_term\":\"2\"}"

struct fixture {
    struct canned server;
    struct hadb_lease s;
    struct hadb_buf got;
    struct hadb_tag tag;
    struct hadb_error err;
};

/* A whole HTTP reply in memory of the test's; up to 8 live at once. */
static const char *http(int status, const char *body)
{
    static char texts[8][4096];
    static unsigned next;
    char *out = texts[next++ % 8];
    int len = snprintf(out, sizeof(texts[0]),
                       "HTTP/1.1 %d Word\r\nContent-Type: application/json\r\n"
                       "Content-Length: %zu\r\n\r\n%s",
                       status, strlen(body), body);
    HADB_ASSERT(len > 0 && (size_t)len < sizeof(texts[0]));
    return out;
}

/* @where has one %u, for the port of the server. */
static void begin(struct fixture *f, const char *where, const char *const *replies)
{
    char url[256];
    *f = (struct fixture){0};
    canned_start(&f->server, replies);
    int at = (int)(strstr(where, "%u") - where);
    snprintf(url, sizeof(url), "%.*s%u%s", at, where, f->server.port, where + at + 2);
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

#define ALONE "etcd://127.0.0.1:%u/p"

static int put(struct fixture *f, const struct hadb_tag *expected)
{
    struct hadb_call call = hadb_call_within(hadb_env_host(), 20000);
    return hadb_lease_write_if_match(&f->s, &call, "k", hadb_slice_str("record"), expected, &f->tag,
                                     &f->err);
}

static int get(struct fixture *f)
{
    struct hadb_call call = hadb_call_within(hadb_env_host(), 20000);
    return hadb_lease_read(&f->s, &call, "k", &f->got, &f->tag, &f->err);
}

static int put_after(const char *reply, bool *retryable)
{
    struct fixture f;
    const char *const replies[] = {reply, NULL};
    begin(&f, ALONE, replies);
    int r = put(&f, NULL);
    *retryable = f.err.retryable;
    end(&f);
    return r;
}

static int get_after(const char *reply)
{
    struct fixture f;
    const char *const replies[] = {reply, NULL};
    begin(&f, ALONE, replies);
    int r = get(&f);
    end(&f);
    return r;
}

static const struct {
    int status;
    const char *body;
    int put, get;
} cases[] = {
    {200, "{" HEADER ",\"succeeded\":true}", 0, HADB_ABSENT},
    {200, "{" HEADER "}", HADB_CAS_LOST, HADB_ABSENT},
    {200, "{\"succeeded\":true}", HADB_ETIMEDOUT, HADB_EIO},
    {200, "{" HEADER ",\"succ", HADB_ETIMEDOUT, HADB_EIO},
    {200, "<html>", HADB_ETIMEDOUT, HADB_EIO},
    {503, "{\"error\":\"etcdserver: no leader\",\"code\":14}", HADB_ETIMEDOUT, HADB_EUNAVAIL},
    {500, "", HADB_ETIMEDOUT, HADB_EUNAVAIL},
    {504, "{\"error\":\"context deadline exceeded\",\"code\":4}", HADB_ETIMEDOUT, HADB_EUNAVAIL},
    {408, "", HADB_ETIMEDOUT, HADB_EUNAVAIL},
    {409, "", HADB_ETIMEDOUT, HADB_EUNAVAIL},
    {429, "", HADB_ETIMEDOUT, HADB_EUNAVAIL},
    {429, "{\"error\":\"etcdserver: too many requests\",\"code\":8}", HADB_EUNAVAIL, HADB_EUNAVAIL},
    {499, "{\"error\":\"context canceled\",\"code\":1}", HADB_ETIMEDOUT, HADB_EUNAVAIL},
    /* etcd looks for room before it applies a transaction and says that there was none behind it. */
    {429, "{\"error\":\"etcdserver: mvcc: database space exceeded\",\"code\":8}", HADB_ETIMEDOUT,
     HADB_ENOSPC},
    {400, "{\"error\":\"etcdserver: user name is empty\",\"code\":3}", HADB_EAUTH, HADB_EAUTH},
    {401, "{\"error\":\"etcdserver: invalid auth token\",\"code\":16}", HADB_EAUTH, HADB_EAUTH},
    {403, "{\"error\":\"etcdserver: permission denied\",\"code\":7}", HADB_EAUTH, HADB_EAUTH},
    {400, "{\"error\":\"unexpected EOF\",\"code\":3}", HADB_EIO, HADB_EIO},
    {404, "404 page not found\n", HADB_EIO, HADB_EIO},
    {301, "", HADB_EIO, HADB_EIO},
};

static void reply__decides_what_a_call_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        bool retryable = false;
        int r = put_after(http(cases[i].status, cases[i].body), &retryable);
        int got = get_after(http(cases[i].status, cases[i].body));
        if (r != cases[i].put || got != cases[i].get) {
            fail_msg("%d %s: write %d, read %d", cases[i].status, cases[i].body, r, got);
        }
        assert_true(retryable || (r != HADB_ETIMEDOUT && r != HADB_EUNAVAIL));
    }
}

static void reply__that_is_cut_leaves_a_write_unknown(void **state)
{
    (void)state;
    bool retryable = false;
    assert_int_equal(put_after("", &retryable), HADB_ETIMEDOUT);
    assert_int_equal(put_after("HTTP/1.1 200 OK\r\nContent-Le", &retryable), HADB_ETIMEDOUT);
    assert_int_equal(
        put_after("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{\"header\":", &retryable),
        HADB_ETIMEDOUT);
    assert_int_equal(put_after("nonsense\r\n\r\n", &retryable), HADB_ETIMEDOUT);
    assert_int_equal(get_after(""), HADB_EIO);
}

/* A range's reply with @value, decoded bytes, at revision 5. */
static const char *range_reply(struct hadb_slice value)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf text = {0}, body = {0};
    assert_int_equal(hadb__base64_encode(value, &text), 0);
    assert_int_equal(hadb_buf_printf(&body,
                                     "{" HEADER
                                     ",\"kvs\":[{\"key\":\"cC9r\",\"mod_revision\":\"5\","
                                     "\"value\":\"%.*s\"}],\"count\":\"1\"}",
                                     (int)text.len, (char *)text.data),
                     0);
    return http(200, hadb_buf_cstr(&body));
}

static void read__takes_a_record_of_ours_and_nothing_else(void **state)
{
    (void)state;
    struct hadb__lease_record record = {0};
    struct fixture f;
    struct hadb_tag tag;
    assert_int_equal(hadb__lease_record_encode(hadb_env_host(), hadb_slice_str("record"), &record),
                     0);
    hadb__lease_record_tag(5, record.nonce, &tag);
    const char *const replies[] = {range_reply(hadb_buf_slice(&record.bytes)), NULL};
    begin(&f, ALONE, replies);
    assert_int_equal(get(&f), 0);
    assert_true(hadb_slice_eq(hadb_buf_slice(&f.got), hadb_slice_str("record")));
    assert_string_equal(f.tag.s, tag.s);
    end(&f);
    record.bytes.data[record.bytes.len - 1] ^= 1;
    assert_int_equal(get_after(range_reply(hadb_buf_slice(&record.bytes))), HADB_ECORRUPT);
    assert_int_equal(get_after(range_reply(hadb_slice_str("something else"))), HADB_ECORRUPT);
    assert_int_equal(get_after(range_reply(hadb_slice_str(""))), HADB_ECORRUPT);
    assert_int_equal(
        get_after(http(200, "{" HEADER ",\"kvs\":[{\"mod_revision\":\"5\",\"value\":\"?\"}]}")),
        HADB_ECORRUPT);
    assert_int_equal(get_after(http(200, "{" HEADER ",\"kvs\":[{\"value\":\"\"}]}")), HADB_EIO);
    hadb_buf_deinit(&record.bytes);
}

static void write__compares_revision_and_nonce(void **state)
{
    (void)state;
    struct fixture f;
    const char *const replies[] = {http(200, "{" HEADER ",\"succeeded\":true}"), NULL};
    struct hadb_tag tag = {"41-000102030405060708090a0b0c0d0eff"};
    begin(&f, ALONE, replies);
    assert_int_equal(put(&f, &tag), 0);
    assert_int_equal(strncmp(f.tag.s, "9-", 2), 0);
    hadb_lease_close(&f.s);
    canned_stop(&f.server);
    assert_non_null(strstr(f.server.asked, "POST /v3/kv/txn HTTP/1.1\r\n"));
    assert_non_null(strstr(f.server.asked, "\"mod_revision\":\"41\""));
    /* base64 of "hadblse1", eight zeros, the nonce; and of the next one: …0eff → …0f00 */
    assert_non_null(strstr(f.server.asked,
                           "\"result\":\"GREATER\","
                           "\"value\":\"aGFkYmxzZTEAAAAAAAAAAAABAgMEBQYHCAkKCwwNDv8=\""));
    assert_non_null(strstr(f.server.asked,
                           "\"result\":\"LESS\","
                           "\"value\":\"aGFkYmxzZTEAAAAAAAAAAAABAgMEBQYHCAkKCwwNDwA=\""));
    free(f.server.asked);
}

static void tag__of_another_store_loses_without_a_request(void **state)
{
    (void)state;
    static const char *const foreign[] = {
        "x",   "5", "5-", "-000102030405060708090a0b0c0d0e0f", "0-000102030405060708090a0b0c0d0e0f",
        "5-zz"};
    struct hadb_lease s = {0};
    assert_int_equal(hadb_lease_open("etcd://127.0.0.1:1/p", NULL, &s, NULL), 0);
    for (size_t i = 0; i < HADB_LEN(foreign); i++) {
        struct hadb_tag tag = {0};
        snprintf(tag.s, sizeof(tag.s), "%s", foreign[i]);
        assert_int_equal(
            hadb_lease_write_if_match(&s, NULL, "k", hadb_slice_str("x"), &tag, NULL, NULL),
            HADB_CAS_LOST);
    }
    hadb_lease_close(&s);
}

/* --- members ------------------------------------------------------------------------------------ */

static void member__that_cannot_be_reached_is_passed_over(void **state)
{
    (void)state;
    struct fixture f;
    char where[128];
    const char *const replies[] = {http(200, "{" HEADER ",\"succeeded\":true}"),
                                   http(200, "{" HEADER "}"), NULL};
    snprintf(where, sizeof(where), "etcd://127.0.0.1:%u,127.0.0.1:%%u/p", test_port_free());
    begin(&f, where, replies);
    assert_int_equal(put(&f, NULL), 0);
    assert_int_equal(get(&f), HADB_ABSENT);
    end(&f);
}

static void member__that_may_have_seen_a_write_is_the_last_to_get_it(void **state)
{
    (void)state;
    struct fixture f;
    struct canned other;
    char where[128];
    const char *const cut[] = {"", NULL};
    const char *const fine[] = {http(200, "{" HEADER "}"), NULL};
    canned_start(&other, fine);
    snprintf(where, sizeof(where), "etcd://127.0.0.1:%%u,127.0.0.1:%u/p", other.port);
    begin(&f, where, cut);
    assert_int_equal(put(&f, NULL), HADB_ETIMEDOUT);
    assert_int_equal(get(&f), HADB_ABSENT); /* the next call goes to the other one */
    hadb_lease_close(&f.s);
    canned_stop(&other);
    assert_null(strstr(other.asked, "/v3/kv/txn"));
    assert_non_null(strstr(other.asked, "/v3/kv/range"));
    free(other.asked);
    end(&f);
}

static void member__that_fails_a_read_leaves_time_for_the_next(void **state)
{
    (void)state;
    struct fixture f;
    struct canned silent;
    char where[128];
    const char *const nothing[] = {NULL}; /* it accepts nothing, the kernel does */
    const char *const replies[] = {http(503, ""), http(200, "{" HEADER "}"), NULL};
    canned_start(&silent, nothing);
    snprintf(where, sizeof(where), "etcd://127.0.0.1:%u,127.0.0.1:%%u,127.0.0.1:%u/p", silent.port,
             test_port_free());
    begin(&f, where, replies);
    struct hadb_call call = hadb_call_within(hadb_env_host(), 1500);
    assert_int_equal(hadb_lease_read(&f.s, &call, "k", &f.got, &f.tag, &f.err), HADB_EUNAVAIL);
    call = hadb_call_within(hadb_env_host(), 1500);
    assert_int_equal(hadb_lease_read(&f.s, &call, "k", &f.got, &f.tag, &f.err), HADB_ABSENT);
    end(&f);
    canned_stop(&silent);
    free(silent.asked);
}

/* --- users -------------------------------------------------------------------------------------- */

#define USER "etcd://me:s3cret@127.0.0.1:%u/p"

static void token__is_kept_and_renewed_once_after_a_refusal(void **state)
{
    (void)state;
    struct fixture f;
    const char *const replies[] = {
        http(200, "{" HEADER ",\"token\":\"first.1\"}"),
        http(200, "{" HEADER "}"),
        http(401, "{\"error\":\"etcdserver: invalid auth token\",\"code\":16}"),
        http(200, "{" HEADER ",\"token\":\"second.2\"}"),
        http(200, "{" HEADER ",\"succeeded\":true}"),
        NULL};
    begin(&f, USER, replies);
    assert_int_equal(get(&f), HADB_ABSENT);
    assert_int_equal(put(&f, NULL), 0);
    hadb_lease_close(&f.s);
    canned_stop(&f.server);
    const char *first = strstr(f.server.asked, "{\"name\":\"me\",\"password\":\"s3cret\"}");
    assert_non_null(first);
    assert_non_null(strstr(first, "Authorization: first.1\r\n"));
    assert_non_null(strstr(first, "Authorization: second.2\r\n"));
    free(f.server.asked);
}

static void login__that_fails_wrote_nothing(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
        int put;
    } logins[] = {
        {400,
         "{\"error\":\"etcdserver: authentication failed, invalid user ID or password\","
         "\"code\":3}",
         HADB_EAUTH},
        {400, "{\"error\":\"etcdserver: authentication is not enabled\",\"code\":9}", HADB_EAUTH},
        {503, "", HADB_EUNAVAIL},
        {200, "{}", HADB_EUNAVAIL},
        {200, "{\"token\":\"bad\\r\\nX: y\"}", HADB_EUNAVAIL},
    };
    for (size_t i = 0; i < HADB_LEN(logins); i++) {
        struct fixture f;
        const char *const replies[] = {http(logins[i].status, logins[i].body), NULL};
        begin(&f, USER, replies);
        int r = put(&f, NULL);
        if (r != logins[i].put) {
            fail_msg("%s: %d %s", logins[i].body, r, f.err.message);
        }
        assert_null(strstr(f.err.message, "s3cret"));
        assert_true(f.err.retryable == (r == HADB_EUNAVAIL));
        end(&f);
    }
}

static void watch__goes_on_when_its_stream_ends_without_a_change(void **state)
{
    (void)state;
    struct fixture f;
    struct hadb__lease_record record = {0};
    assert_int_equal(hadb__lease_record_encode(hadb_env_host(), hadb_slice_str("r"), &record), 0);
    const char *const replies[] = {
        http(200, "{" HEADER "}"),
        http(200, "{\"result\":{\"created\":true,\"canceled\":true}}"),
        http(200, "{" HEADER "}"),
        http(200, "{\"result\":{\"created\":true}}\n{\"result\":{\"events\":[{}]}}"),
        range_reply(hadb_buf_slice(&record.bytes)),
        NULL};
    begin(&f, ALONE, replies);
    struct hadb_call call = hadb_call_within(hadb_env_host(), 20000);
    assert_int_equal(hadb_lease_watch(&f.s, &call, "k", NULL, &f.err), 0);
    hadb_lease_close(&f.s);
    canned_stop(&f.server);
    assert_non_null(strstr(f.server.asked, "\"start_revision\":\"10\""));
    free(f.server.asked);
    hadb_buf_deinit(&record.bytes);
}

static void bad__urls_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *url, *says;
    } bad[] = {
        {"etcd://", "must be host"},
        {"etcd://a,,b", "must be host"},
        {"etcd://a,b,c,d,e,f,g,h,i", "more than 8 hosts"},
        {"etcd://user@host", "go together"},
        {"etcd://:s3cret@host", "go together"},
        {"etcd://h?tls=2", "tls"},
        {"etcds://h?tls=0", "tls"},
        {"etcd://h?ca=/x", "TLS, which is off"},
        {"etcd://h?what=1", "unknown parameter 'what'"},
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
        cmocka_unit_test(reply__decides_what_a_call_answers),
        cmocka_unit_test(reply__that_is_cut_leaves_a_write_unknown),
        cmocka_unit_test(read__takes_a_record_of_ours_and_nothing_else),
        cmocka_unit_test(write__compares_revision_and_nonce),
        cmocka_unit_test(tag__of_another_store_loses_without_a_request),
        cmocka_unit_test(member__that_cannot_be_reached_is_passed_over),
        cmocka_unit_test(member__that_may_have_seen_a_write_is_the_last_to_get_it),
        cmocka_unit_test(member__that_fails_a_read_leaves_time_for_the_next),
        cmocka_unit_test(token__is_kept_and_renewed_once_after_a_refusal),
        cmocka_unit_test(login__that_fails_wrote_nothing),
        cmocka_unit_test(watch__goes_on_when_its_stream_ends_without_a_change),
        cmocka_unit_test(bad__urls_are_refused_with_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
