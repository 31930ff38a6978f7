/* SPDX-License-Identifier: Apache-2.0 */
/* The lease store redis://: its URLs, and what each reply of a server means. The server is made of prepared replies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/url.h"
#include "hadb/lease.h"
#include "tests/support/canned.h"
#include "tests/support/support.h"

#define TAG "0123456789abcdef0123456789abcdef"

struct fixture {
    struct canned server;
    struct hadb_lease s;
    struct hadb_buf got;
    struct hadb_tag tag;
    struct hadb_error err;
};

static void begin(struct fixture *f, const char *user, const char *const *replies)
{
    char url[256];
    *f = (struct fixture){0};
    canned_start(&f->server, replies);
    snprintf(url, sizeof(url), "redis://%s127.0.0.1:%" PRIu16 "/?prefix=p/", user, f->server.port);
    if (hadb_lease_open(url, NULL, &f->s, &f->err)) {
        fail_msg("%s", f->err.message);
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
    return hadb_lease_write_if_match(&f->s, &call, "k", hadb_slice_str("record"), expected, &f->tag,
                                     &f->err);
}

static int get(struct fixture *f)
{
    struct hadb_call call = hadb_call_within(hadb_env_host(), 20000);
    return hadb_lease_read(&f->s, &call, "k", &f->got, &f->tag, &f->err);
}

static int put_after(const char *reply)
{
    struct fixture f;
    const char *const replies[] = {reply, NULL};
    begin(&f, "", replies);
    int r = put(&f, NULL);
    end(&f);
    return r;
}

static int get_after(const char *reply)
{
    struct fixture f;
    const char *const replies[] = {reply, NULL};
    begin(&f, "", replies);
    int r = get(&f);
    end(&f);
    return r;
}

static void write__is_stored_or_lost_by_the_word_of_the_script_alone(void **state)
{
    (void)state;
    assert_int_equal(put_after(":1\r\n"), 0);
    assert_int_equal(put_after(":0\r\n"), HADB_CAS_LOST);
    assert_int_equal(put_after(":2\r\n"), HADB_ETIMEDOUT);
    assert_int_equal(put_after("+OK\r\n"), HADB_ETIMEDOUT);
    assert_int_equal(put_after("$-1\r\n"), HADB_ETIMEDOUT);
    assert_int_equal(put_after("what\r\n"), HADB_ETIMEDOUT);
    assert_int_equal(put_after(":1"), HADB_ETIMEDOUT); /* and the end of the connection */
    assert_int_equal(put_after(""), HADB_ETIMEDOUT);
}

static void refused__write_has_the_code_of_its_reason(void **state)
{
    (void)state;
    static const struct {
        const char *reply;
        int code;
    } cases[] = {
        {"-NOAUTH Authentication required.\r\n", HADB_EAUTH},
        {"-NOPERM this user has no permissions to run the 'evalsha' command\r\n", HADB_EAUTH},
        {"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", HADB_ECORRUPT},
        {"-ERR Error running script (call to f_1): @user_script:1: WRONGTYPE Operation\r\n",
         HADB_ECORRUPT},
        {"-READONLY You can't write against a read only replica.\r\n", HADB_EUNAVAIL},
        {"-LOADING Redis is loading the dataset in memory\r\n", HADB_EUNAVAIL},
        {"-MASTERDOWN Link with MASTER is down\r\n", HADB_EUNAVAIL},
        {"-CLUSTERDOWN The cluster is down\r\n", HADB_EUNAVAIL},
        {"-BUSY Redis is busy running a script.\r\n", HADB_EUNAVAIL},
        {"-MISCONF Redis is configured to save RDB snapshots\r\n", HADB_EUNAVAIL},
        {"-OOM command not allowed when used memory > 'maxmemory'.\r\n", HADB_ENOSPC},
        {"-MOVED 3999 127.0.0.1:6381\r\n", HADB_EINVAL},
        {"-ERR unknown command 'EVALSHA', with args beginning with: \r\n", HADB_EIO},
        /* Proxies say so of commands that they have passed on, perhaps. */
        {"-upstream failure\r\n", HADB_ETIMEDOUT},
        {"-ERR Connection timed out\r\n", HADB_ETIMEDOUT},
        {"-ERR something new\r\n", HADB_ETIMEDOUT},
    };
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        int r = put_after(cases[i].reply);
        if (r != cases[i].code) {
            fail_msg("%s: %d in place of %d", cases[i].reply, r, cases[i].code);
        }
    }
}

static void unknown__script_is_sent_as_text(void **state)
{
    (void)state;
    struct fixture f;
    const char *const replies[] = {"-NOSCRIPT No matching script. Please use EVAL.\r\n", ":1\r\n",
                                   NULL};
    begin(&f, "", replies);
    assert_int_equal(put(&f, NULL), 0);
    hadb_lease_close(&f.s);
    canned_stop(&f.server);
    const char *first = strstr(f.server.asked, "$7\r\nEVALSHA\r\n");
    assert_non_null(first);
    assert_non_null(strstr(first + 1, "$4\r\nEVAL\r\n"));
    assert_non_null(strstr(first + 1, "redis.call('HSET'"));
    free(f.server.asked);
}

static void read__takes_a_record_of_ours_and_nothing_else(void **state)
{
    (void)state;
    struct fixture f;
    const char *const replies[] = {"*2\r\n$32\r\n" TAG "\r\n$6\r\nrecord\r\n", NULL};
    begin(&f, "", replies);
    assert_int_equal(get(&f), 0);
    assert_string_equal(f.tag.s, TAG);
    assert_true(hadb_slice_eq(hadb_buf_slice(&f.got), hadb_slice_str("record")));
    end(&f);
    assert_int_equal(get_after("*2\r\n$-1\r\n$-1\r\n"), HADB_ABSENT);
    assert_int_equal(get_after("*2\r\n$32\r\n" TAG "\r\n$-1\r\n"), HADB_ECORRUPT);
    assert_int_equal(get_after("*2\r\n$-1\r\n$1\r\nx\r\n"), HADB_ECORRUPT);
    assert_int_equal(get_after("*2\r\n$3\r\ntag\r\n$1\r\nx\r\n"), HADB_ECORRUPT);
    assert_int_equal(get_after("*2\r\n:1\r\n:2\r\n"), HADB_ECORRUPT);
    assert_int_equal(get_after("*1\r\n$1\r\nx\r\n"), HADB_ECORRUPT);
    assert_int_equal(get_after("+OK\r\n"), HADB_ECORRUPT);
    assert_int_equal(get_after("-WRONGTYPE Operation\r\n"), HADB_ECORRUPT);
    assert_int_equal(get_after("-LOADING\r\n"), HADB_EUNAVAIL);
    assert_int_equal(get_after("HTTP/1.1 400 Bad Request\r\n\r\n"), HADB_EIO);
    assert_int_equal(get_after(""), HADB_EIO);
}

static void reply__without_end_is_given_up(void **state)
{
    (void)state;
    size_t len = HADB_LEASE_RECORD_BYTES_MAX + 200000;
    char *reply = malloc(len + 1);
    int head = snprintf(reply, len, "*2\r\n$32\r\n" TAG "\r\n$%zu\r\n", 2 * len);
    memset(reply + head, 'x', len - (size_t)head);
    reply[len] = '\0';
    assert_int_equal(get_after(reply), HADB_ETOOBIG);
    assert_int_equal(put_after(reply), HADB_ETIMEDOUT);
    free(reply);
}

static void greeting__that_is_refused_wrote_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *reply;
        int code;
    } cases[] = {
        {"-WRONGPASS invalid username-password pair or user is disabled.\r\n", HADB_EAUTH},
        {"-ERR invalid password\r\n", HADB_EAUTH},
        {"-ERR Client sent AUTH, but no password is set\r\n", HADB_EAUTH},
        {"-ERR max number of clients reached\r\n", HADB_EUNAVAIL},
        {"", HADB_EUNAVAIL}, /* what was sent is no write */
    };
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct fixture f;
        const char *const replies[] = {cases[i].reply, NULL};
        begin(&f, "me:s3cr%40t@", replies);
        assert_int_equal(put(&f, NULL), cases[i].code);
        assert_null(strstr(f.err.message, "s3cr"));
        hadb_lease_close(&f.s);
        canned_stop(&f.server);
        assert_non_null(strstr(f.server.asked, "*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$6\r\ns3cr@t\r\n"));
        assert_null(strstr(f.server.asked, "EVAL"));
        free(f.server.asked);
    }
}

static void database__is_selected_once_for_a_connection(void **state)
{
    (void)state;
    struct canned server;
    struct hadb_lease s = {0};
    struct hadb_error err = {0};
    struct hadb_buf got = {0};
    struct hadb_tag tag;
    char url[128];
    const char *const replies[] = {"+OK\r\n", "*2\r\n$-1\r\n$-1\r\n", "*2\r\n$-1\r\n$-1\r\n", NULL};
    canned_start(&server, replies);
    snprintf(url, sizeof(url), "redis://127.0.0.1:%" PRIu16 "/7", server.port);
    assert_int_equal(hadb_lease_open(url, NULL, &s, &err), 0);
    assert_int_equal(hadb_lease_read(&s, NULL, "k", &got, &tag, &err), HADB_ABSENT);
    assert_int_equal(hadb_lease_read(&s, NULL, "k", &got, &tag, &err), HADB_ABSENT);
    hadb_lease_close(&s);
    canned_stop(&server);
    const char *select = strstr(server.asked, "$6\r\nSELECT\r\n$1\r\n7\r\n");
    assert_non_null(select);
    assert_null(strstr(select + 8, "SELECT"));
    assert_non_null(strstr(server.asked, "hadb/lease/k"));
    free(server.asked);
}

/* The address leads to the master; a kept connection leads to whoever was the master once. */
static void demoted__server_is_left_so_that_the_address_is_looked_up_again(void **state)
{
    (void)state;
    static const char *const words[] = {
        "-READONLY You can't write against a read only replica.\r\n",
        ("-ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -READONLY You "
         "can't write against a read only replica.\r\n"),
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n"};
    for (size_t i = 0; i < HADB_LEN(words); i++) {
        struct fixture f = {0};
        char url[128];
        const char *const replies[] = {"+OK\r\n", ":1\r\n", words[i], "+OK\r\n", ":1\r\n", NULL};
        canned_start(&f.server, replies); /* a new connection shows by its SELECT */
        snprintf(url, sizeof(url), "redis://127.0.0.1:%" PRIu16 "/7", f.server.port);
        assert_int_equal(hadb_lease_open(url, NULL, &f.s, &f.err), 0);
        assert_int_equal(put(&f, NULL), 0);
        assert_int_equal(put(&f, NULL), HADB_EUNAVAIL);
        assert_int_equal(put(&f, NULL), 0);
        end(&f);
    }
}

static void assert_refused(const char *url, const char *says)
{
    struct hadb_lease s = {0};
    struct hadb_error err = {0};
    if (hadb_lease_open(url, NULL, &s, &err) != HADB_EINVAL || !strstr(err.message, says) ||
        strstr(err.message, "s3cret")) {
        fail_msg("%s: '%s' does not say '%s'", url, err.message, says);
    }
}

static void bad__urls_are_refused_with_a_reason(void **state)
{
    (void)state;
    assert_refused("redis://", "must be host");
    assert_refused("redis://:s3cret@", "must be host");
    assert_refused("redis://:s3cret@host:99999", "must be host");
    assert_refused("redis://host:", "must be host");
    assert_refused("redis://ho st", "%-encoded");
    assert_refused("redis://h/x", "number of a database");
    assert_refused("redis://h/1/2", "number of a database");
    assert_refused("redis://a,b", "more than 1 hosts");
    assert_refused("redis://user@host", "needs a password");
    assert_refused("redis://:%zz@host", "-escape");
    assert_refused("redis://h?ttl=5", "unknown parameter 'ttl'");
    assert_refused("redis://h?ca=/x", "TLS, which is off");
    assert_refused("rediss://h?cert=/x", "go together");
    assert_refused("redis://h?prefix=%0a", "control character");
    assert_refused("redis://h?connect_timeout_ms=0", "connect_timeout_ms");
    assert_refused("redis://:s3cret@h?password_file=/etc/hostname", "one of them");
    assert_refused("redis://h?password_file=/nonexistent/x", "is not there");
}

/* A password whose special characters were not escaped falls apart; no part of it may be shown, or asked of a DNS. */
static void password__that_was_not_escaped_is_not_shown(void **state)
{
    (void)state;
    static const char *const urls[] = {
        "redis://user:hush1/hush2@host",
        "redis://:hush1?hush2@host",
        "redis://:hush1#hush2@host",
        "redis://hush1/hush2@host",
        "redis://u:p@hush1/hush2@host",
        "redis://:hush1?a=b&hush2@host",
        "redis://:hush1,hush2/@host",
        "redis://hush1,hush2/x@host",
        "redis://host?prefix=x&ca=http://u:hush1@h",
    };
    for (size_t i = 0; i < HADB_LEN(urls); i++) {
        struct hadb_lease s = {0};
        struct hadb_error err = {0};
        char shown[256];
        assert_int_equal(hadb_lease_open(urls[i], NULL, &s, &err), HADB_EINVAL);
        if (strstr(err.message, "hush")) {
            fail_msg("%s", err.message);
        }
        assert_null(strstr(hadb_url_redact(urls[i], shown, sizeof shown), "hush"));
    }
}

static void password__file_is_read_without_its_end_of_line(void **state)
{
    (void)state;
    char dir[HADB_PATH_BYTES_MAX], path[HADB_PATH_BYTES_MAX + 16], user[64] = "",
                                                                   url[HADB_PATH_BYTES_MAX + 256];
    struct fixture f;
    const char *const replies[] = {"+OK\r\n", ":1\r\n", NULL};
    test_tmp_make(dir);
    snprintf(path, sizeof(path), "%s/secret", dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("from a file\r\n", file);
    fclose(file);
    begin(&f, user, replies);
    hadb_lease_close(&f.s);
    snprintf(url, sizeof(url), "redis://127.0.0.1:%" PRIu16 "?password_file=%s", f.server.port,
             path);
    assert_int_equal(hadb_lease_open(url, NULL, &f.s, &f.err), 0);
    assert_int_equal(put(&f, NULL), 0);
    hadb_lease_close(&f.s);
    canned_stop(&f.server);
    assert_non_null(strstr(f.server.asked, "*2\r\n$4\r\nAUTH\r\n$11\r\nfrom a file\r\n"));
    free(f.server.asked);
    test_tmp_remove(dir);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(write__is_stored_or_lost_by_the_word_of_the_script_alone),
        cmocka_unit_test(refused__write_has_the_code_of_its_reason),
        cmocka_unit_test(unknown__script_is_sent_as_text),
        cmocka_unit_test(read__takes_a_record_of_ours_and_nothing_else),
        cmocka_unit_test(reply__without_end_is_given_up),
        cmocka_unit_test(greeting__that_is_refused_wrote_nothing),
        cmocka_unit_test(database__is_selected_once_for_a_connection),
        cmocka_unit_test(demoted__server_is_left_so_that_the_address_is_looked_up_again),
        cmocka_unit_test(bad__urls_are_refused_with_a_reason),
        cmocka_unit_test(password__that_was_not_escaped_is_not_shown),
        cmocka_unit_test(password__file_is_read_without_its_end_of_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
