/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease store nats:// beside a nats-server, with other hands in its bucket.
 * Usage, through tests/support/with_lease.py: test_lease_nats [plain]     plain: the server has no JetStream
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/env.h"
#include "hadb/lease.h"
#include "tests/support/lease_server.h"

struct fixture {
    char url[1024];
    char bucket[64];
    natsConnection *nc;
    struct hadb_lease s;
    struct hadb_buf got;
    struct hadb_tag tag;
    struct hadb_error err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char server[1024];
    *state = f;
    assert_true(lease_server_url("HADB_TEST_LEASE_URL", f->url, sizeof(f->url)));
    snprintf(server, sizeof(server), "%s", f->url);
    char *slash = strrchr(server, '/');
    snprintf(f->bucket, sizeof(f->bucket), "%s", slash + 1);
    *slash = '\0';
    assert_int_equal(natsConnection_ConnectTo(&f->nc, server), NATS_OK);
    return hadb_lease_open(f->url, NULL, &f->s, &f->err);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hadb_lease_close(&f->s);
    natsConnection_Destroy(f->nc);
    hadb_buf_deinit(&f->got);
    free(f);
    return 0;
}

static int put(struct fixture *f, const char *key, const struct hadb_tag *expected)
{
    struct hadb_call call = hadb_call_within(hadb_env_host(), 10000);
    return hadb_lease_write_if_match(&f->s, &call, key, hadb_slice_str("record"), expected, &f->tag,
                                     &f->err);
}

static int get(struct fixture *f, const char *key)
{
    struct hadb_call call = hadb_call_within(hadb_env_host(), 10000);
    return hadb_lease_read(&f->s, &call, key, &f->got, &f->tag, &f->err);
}

static void ask(struct fixture *f, const char *verb, const char *payload)
{
    char subject[128];
    natsMsg *reply = NULL;
    snprintf(subject, sizeof(subject), "$JS.API.STREAM.%s.KV_%s", verb, f->bucket);
    assert_int_equal(natsConnection_RequestString(&reply, f->nc, subject, payload, 10000), NATS_OK);
    assert_null(strstr(natsMsg_GetData(reply), "\"error\""));
    natsMsg_Destroy(reply);
}

/* What other tools publish into the bucket. */
static void tool_puts(struct fixture *f, const char *key, const char *operation, const char *value)
{
    char subject[128];
    natsMsg *message = NULL, *reply = NULL;
    snprintf(subject, sizeof(subject), "$KV.%s.%s", f->bucket, key);
    assert_int_equal(natsMsg_Create(&message, subject, NULL, value, (int)strlen(value)), NATS_OK);
    if (operation) {
        assert_int_equal(natsMsgHeader_Set(message, "KV-Operation", operation), NATS_OK);
    }
    assert_int_equal(natsConnection_RequestMsg(&reply, f->nc, message, 10000), NATS_OK);
    natsMsg_Destroy(reply);
    natsMsg_Destroy(message);
}

static void deleted__record_is_absent_and_can_be_made_again(void **state)
{
    struct fixture *f = *state;
    static const char *const operations[] = {"DEL", "PURGE"};
    for (size_t i = 0; i < HADB_LEN(operations); i++) {
        assert_int_equal(put(f, "a", NULL), 0);
        struct hadb_tag old = f->tag;
        tool_puts(f, "a", operations[i], "");
        assert_int_equal(get(f, "a"), HADB_ABSENT);
        assert_int_equal(put(f, "a", &old), HADB_CAS_LOST);
        assert_int_equal(put(f, "a", NULL), 0);
        assert_int_equal(put(f, "a", NULL), HADB_CAS_LOST);
        assert_int_equal(get(f, "a"), 0);
        tool_puts(f, "a", "DEL", "");
    }
}

static void foreign__value_is_named_as_such(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, "b", NULL), 0);
    tool_puts(f, "a", NULL, "something else");
    assert_int_equal(get(f, "a"), HADB_ECORRUPT);
    assert_int_equal(put(f, "a", NULL), HADB_CAS_LOST);
}

static void bucket__that_is_removed_under_way_is_made_again(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, "a", NULL), 0);
    struct hadb_tag old = f->tag;
    ask(f, "DELETE", "");
    assert_int_equal(get(f, "a"), HADB_ABSENT);
    assert_int_equal(put(f, "a", NULL), 0);
    ask(f, "DELETE", "");
    assert_int_equal(put(f, "a", &old), HADB_CAS_LOST);
    assert_int_equal(put(f, "a", NULL), 0);
}

static void bucket__with_a_time_to_live_is_refused(void **state)
{
    struct fixture *f = *state;
    char config[256];
    snprintf(config, sizeof(config),
             "{\"name\":\"KV_%s\",\"subjects\":[\"$KV.%s.>\"],\"max_age\":60000000000,"
             "\"duplicate_window\":60000000000,\"max_msgs_per_subject\":1}",
             f->bucket, f->bucket);
    ask(f, "CREATE", config);
    assert_int_equal(get(f, "a"), HADB_EINVAL);
    assert_non_null(strstr(f->err.message, "time-to-live"));
    assert_int_equal(put(f, "a", NULL), HADB_EINVAL);
}

static void bucket__of_ours_has_no_time_to_live_and_one_message_a_key(void **state)
{
    struct fixture *f = *state;
    char subject[128];
    natsMsg *reply = NULL;
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(put(f, "a.b/c", i ? &f->tag : NULL), 0);
    }
    snprintf(subject, sizeof(subject), "$JS.API.STREAM.INFO.KV_%s", f->bucket);
    assert_int_equal(natsConnection_RequestString(&reply, f->nc, subject, "", 10000), NATS_OK);
    assert_non_null(strstr(natsMsg_GetData(reply), "\"max_age\":0,"));
    assert_non_null(strstr(natsMsg_GetData(reply), "\"messages\":1,"));
    natsMsg_Destroy(reply);
}

/* The server says it aside and answers nothing, so the word comes at the deadline. */
static void user__without_rights_is_told_so(void **state)
{
    struct fixture *f = *state;
    hadb_lease_close(&f->s);
    assert_true(lease_server_url("HADB_TEST_WEAK_LEASE_URL", f->url, sizeof(f->url)));
    assert_int_equal(hadb_lease_open(f->url, NULL, &f->s, &f->err), 0);
    struct hadb_call call = hadb_call_within(hadb_env_host(), 500);
    assert_int_equal(hadb_lease_read(&f->s, &call, "a", &f->got, &f->tag, &f->err), HADB_EAUTH);
    assert_non_null(strstr(f->err.message, "ermission"));
    call = hadb_call_within(hadb_env_host(), 500);
    assert_int_equal(
        hadb_lease_write_if_match(&f->s, &call, "a", hadb_slice_str("x"), NULL, NULL, &f->err),
        HADB_EAUTH);
}

static void host__that_is_down_is_passed_over(void **state)
{
    struct fixture *f = *state;
    hadb_lease_close(&f->s);
    char more[1200], *at = strchr(f->url, '@');
    snprintf(more, sizeof(more), "%.*s127.0.0.1:1,%s", (int)(at + 1 - f->url), f->url, at + 1);
    assert_int_equal(hadb_lease_open(more, NULL, &f->s, &f->err), 0);
    assert_int_equal(put(f, "a", NULL), 0);
    assert_int_equal(get(f, "a"), 0);
}

static void bad__urls_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *url, *says;
    } bad[] = {
        {"nats://", "must be host"},
        {"nats://h/a.b", "a bucket has"},
        {"nats://h/a/b", "a bucket has"},
        {"nats://h/b?replicas=6", "replicas"},
        {"nats://h/b?ttl=1", "unknown parameter 'ttl'"},
        {"nats://me:s3cret@h/b?ca=/x", "TLS, which is off"},
        {"nats://me:s3cret@h/b?tls=1&cert=/x", "go together"},
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

static void server__without_jetstream_is_named_as_such(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(get(f, "a"), HADB_EUNAVAIL);
    assert_non_null(strstr(f->err.message, "JetStream"));
    assert_int_equal(put(f, "a", NULL), HADB_EUNAVAIL);
    assert_non_null(strstr(f->err.message, "JetStream"));
}

#define beside(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        beside(deleted__record_is_absent_and_can_be_made_again),
        beside(foreign__value_is_named_as_such),
        beside(bucket__that_is_removed_under_way_is_made_again),
        beside(bucket__with_a_time_to_live_is_refused),
        beside(bucket__of_ours_has_no_time_to_live_and_one_message_a_key),
        beside(user__without_rights_is_told_so),
        beside(host__that_is_down_is_passed_over),
        cmocka_unit_test(bad__urls_are_refused_with_a_reason),
    };
    static const struct CMUnitTest plain[] = {beside(server__without_jetstream_is_named_as_such)};
    return argc > 1 && strcmp(argv[1], "plain") == 0 ? cmocka_run_group_tests(plain, NULL, NULL)
                                                     : cmocka_run_group_tests(tests, NULL, NULL);
}
