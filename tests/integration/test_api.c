/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP side of one node: what is answered to good requests and to bad ones. */
#include "tests/integration/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/id.h"

static struct tc tc;
static const char *at;

static int setup(void **state)
{
    (void)state;
    tc_init(&tc, true);
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    at = tc.nodes[0].address;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tc_deinit(&tc);
    return 0;
}

static int call(const char *method, const char *path, const char *headers, const char *body,
                struct tc_reply *reply)
{
    return tc_http(at, method, path, headers, body, body ? strlen(body) : 0, reply);
}

/* A request of which only status and error matter. */
static void expect(const char *method, const char *path, const char *headers, const char *body,
                   int status, const char *error)
{
    struct tc_reply reply;
    char needle[64];
    int got = call(method, path, headers, body, &reply);
    if (got != status) {
        fail_msg("%s %.60s: %d instead of %d: %s", method, path, got, status,
                 reply.body ? reply.body : "");
    }
    if (error) {
        snprintf(needle, sizeof needle, "{\"error\":\"%s\",\"message\":\"", error);
        if (!reply.body || strncmp(reply.body, needle, strlen(needle)) != 0) {
            fail_msg("%s %.60s: no error %s in %s", method, path, error, reply.body);
        }
    }
    tc_reply_deinit(&reply);
}

#define KV "/v1/db/" TC_DB "/kv/"

static void a_value__comes_back_byte_for_byte_with_its_version(void **state)
{
    (void)state;
    struct tc_reply reply;
    char put[64], got[64], bookmark[128];
    const char body[] = "\0\x01\xff binary \r\n\r\n";
    assert_int_equal(tc_http(at, "PUT", KV "a%2Fb%00c", NULL, body, sizeof body, &reply), 200);
    assert_true(tc_header(&reply, "Hadb-Version", put, sizeof put));
    assert_true(tc_header(&reply, "Hadb-Bookmark", bookmark, sizeof bookmark));
    tc_reply_deinit(&reply);
    assert_int_equal(call("GET", KV "a%2fb%00c", NULL, NULL, &reply), 200);
    assert_int_equal(reply.body_len, sizeof body);
    assert_memory_equal(reply.body, body, sizeof body);
    assert_true(tc_header(&reply, "Hadb-Version", got, sizeof got));
    assert_string_equal(put, got);
    tc_reply_deinit(&reply);
}

static void an_empty_value__is_a_value(void **state)
{
    (void)state;
    struct tc_reply reply;
    expect("PUT", KV "empty", NULL, "", 200, NULL);
    assert_int_equal(call("GET", KV "empty", NULL, NULL, &reply), 200);
    assert_int_equal(reply.body_len, 0);
    tc_reply_deinit(&reply);
}

static void an_absent_key__is_404_and_its_delete_is_200(void **state)
{
    (void)state;
    expect("GET", KV "absent", NULL, NULL, 404, "ABSENT");
    expect("DELETE", KV "absent", NULL, NULL, 200, NULL);
    expect("PUT", KV "gone", NULL, "x", 200, NULL);
    expect("DELETE", KV "gone", NULL, NULL, 200, NULL);
    expect("GET", KV "gone", NULL, NULL, 404, "ABSENT");
}

static void conditions__hold_or_answer_412(void **state)
{
    (void)state;
    struct tc_reply reply;
    char version[64], path[128];
    expect("PUT", KV "cond?if_absent", NULL, "1", 200, NULL);
    expect("PUT", KV "cond?if_absent", NULL, "2", 412, "NOT_MET");
    assert_int_equal(call("GET", KV "cond", NULL, NULL, &reply), 200);
    assert_true(tc_header(&reply, "Hadb-Version", version, sizeof version));
    tc_reply_deinit(&reply);
    snprintf(path, sizeof path, KV "cond?if_version=%s", version);
    expect("PUT", path, NULL, "3", 200, NULL);
    expect("PUT", path, NULL, "4", 412, "NOT_MET"); /* it has another version now */
    expect("DELETE", path, NULL, NULL, 412, "NOT_MET");
    expect("PUT", KV "cond?if_version=nonsense", NULL, "5", 400, "EINVAL");
    assert_int_equal(call("GET", KV "cond", NULL, NULL, &reply), 200);
    assert_string_equal(reply.body, "3");
    tc_reply_deinit(&reply);
}

static void a_repeated_request_id__is_answered_from_the_first_run(void **state)
{
    (void)state;
    struct hadb_id id;
    char text[HADB_ID_TEXT_BYTES], header[80], first[64], second[64];
    struct tc_reply reply;
    hadb_id_v7(hadb_env_host(), &id);
    hadb_id_format(&id, text);
    snprintf(header, sizeof header, "Hadb-Request-Id: %s\r\n", text);
    assert_int_equal(call("PUT", KV "once?if_absent", header, "x", &reply), 200);
    assert_true(tc_header(&reply, "Hadb-Version", first, sizeof first));
    tc_reply_deinit(&reply);
    /* Run again, it would answer 412. */
    assert_int_equal(call("PUT", KV "once?if_absent", header, "x", &reply), 200);
    assert_true(tc_header(&reply, "Hadb-Version", second, sizeof second));
    assert_string_equal(first, second);
    tc_reply_deinit(&reply);
    assert_int_equal(tc_metric(&tc, 0, "writes_deduplicated"), 1);
    expect("PUT", KV "once", "Hadb-Request-Id: not-a-uuid\r\n", "x", 400, "EINVAL");
    /* Far ahead of the leader's clock: never executed. */
    expect("PUT", KV "old", "Hadb-Request-Id: 7f000000-0000-7000-8000-000000000001\r\n", "x", 400,
           "EEXPIRED");
    expect("GET", KV "old", NULL, NULL, 404, "ABSENT");
}

static void a_scan__pages_in_order_and_in_reverse(void **state)
{
    (void)state;
    struct tc_reply reply;
    for (int i = 0; i < 5; i++) {
        char path[64], value[8];
        snprintf(path, sizeof path, KV "s%%2F%d", i);
        snprintf(value, sizeof value, "v%d", i);
        expect("PUT", path, NULL, value, 200, NULL);
    }
    assert_int_equal(tc_http(at, "PUT", KV "s%2F9", NULL, "\xff", 1, &reply), 200);
    tc_reply_deinit(&reply);
    assert_int_equal(call("GET", "/v1/db/" TC_DB "/scan?prefix=s%2F&limit=2", NULL, NULL, &reply),
                     200);
    assert_non_null(
        strstr(reply.body, "{\"items\":[{\"key\":\"s/0\",\"value\":\"v0\",\"version\":\""));
    assert_non_null(strstr(reply.body, "\"key\":\"s/1\""));
    assert_null(strstr(reply.body, "\"key\":\"s/2\""));
    assert_non_null(strstr(reply.body, "\"next\":\""));
    tc_reply_deinit(&reply);
    assert_int_equal(
        call("GET", "/v1/db/" TC_DB "/scan?prefix=s%2F&start=s%2F3", NULL, NULL, &reply), 200);
    assert_null(strstr(reply.body, "s/2"));
    assert_non_null(strstr(reply.body, "\"value_base64\":\"/w==\"")); /* no UTF-8 */
    assert_non_null(strstr(reply.body, "\"next\":null"));
    tc_reply_deinit(&reply);
    assert_int_equal(call("GET", "/v1/db/" TC_DB "/scan?prefix=s%2F&end=s%2F3&reverse&limit=1",
                          NULL, NULL, &reply),
                     200);
    assert_non_null(strstr(reply.body, "\"key\":\"s/2\""));
    assert_null(strstr(reply.body, "\"key\":\"s/1\""));
    tc_reply_deinit(&reply);
    expect("GET", "/v1/db/" TC_DB "/scan?limit=0", NULL, NULL, 400, "EINVAL");
    expect("GET", "/v1/db/" TC_DB "/scan?limit=10001", NULL, NULL, 400, "EINVAL");
}

static void a_batch__happens_whole_or_not_at_all(void **state)
{
    (void)state;
    expect("POST", "/v1/db/" TC_DB "/batch", NULL,
           "{\"ops\":[{\"op\":\"put\",\"key\":\"b1\",\"value\":\"1\"},"
           "{\"op\":\"put\",\"key_base64\":\"YjI=\",\"value_base64\":\"/w==\"},"
           "{\"op\":\"delete\",\"key\":\"b3\"}]}",
           200, NULL);
    expect("GET", KV "b2", NULL, NULL, 200, NULL);
    expect("POST", "/v1/db/" TC_DB "/batch", NULL,
           "{\"ops\":[{\"op\":\"put\",\"key\":\"b4\",\"value\":\"1\"},"
           "{\"op\":\"put\",\"key\":\"b1\",\"value\":\"2\",\"if_absent\":true}]}",
           412, "NOT_MET");
    expect("GET", KV "b4", NULL, NULL, 404, "ABSENT");
    expect("POST", "/v1/db/" TC_DB "/batch", NULL, "{\"ops\":[]}", 400, "EINVAL");
    expect("POST", "/v1/db/" TC_DB "/batch", NULL, "no json", 400, "EINVAL");
    expect("POST", "/v1/db/" TC_DB "/batch", NULL, "", 400, "EINVAL");
    expect("POST", "/v1/db/" TC_DB "/batch", NULL, "{\"ops\":[{\"op\":\"put\",\"key\":\"x\"}]}",
           400, "EINVAL");
    expect("POST", "/v1/db/" TC_DB "/batch", NULL,
           "{\"ops\":[{\"op\":\"put\",\"key\":\"\",\"value\":\"\"}]}", 400, "EINVAL");
    expect("POST", "/v1/db/" TC_DB "/batch", NULL,
           "{\"ops\":[{\"op\":\"put\",\"key_base64\":\"a\",\"value\":\"\"}]}", 400, "EINVAL");
}

static void wrong_names_and_methods__are_named(void **state)
{
    (void)state;
    expect("GET", "/v1/db/nowhere/kv/x", NULL, NULL, 404, "ENODB");
    expect("GET", "/v1/db//kv/x", NULL, NULL, 404, NULL);
    expect("GET", "/v1/nothing", NULL, NULL, 404, "EINVAL");
    expect("POST", KV "x", NULL, "x", 400, "EPROTO");
    expect("GET", KV, NULL, NULL, 400, "EINVAL");
    expect("GET", KV "%zz", NULL, NULL, 400, "EINVAL");
    expect("DELETE", "/v1/status", NULL, NULL, 405, "EINVAL");
    expect("GET", "/v1/db/" TC_DB "/batch", NULL, NULL, 405, "EINVAL");
    expect("POST", "/v1/db/" TC_DB "/forward", NULL, "garbage", 400, "EPROTO");
    expect("POST", "/v1/stream", NULL, "garbage", 400, "EPROTO");
}

static void wrong_headers__are_refused(void **state)
{
    (void)state;
    expect("GET", KV "x", "Hadb-Read: sometimes\r\n", NULL, 400, "EINVAL");
    expect("GET", KV "x", "Hadb-Read: bookmark\r\n", NULL, 400, "EINVAL");
    expect("GET", KV "x", "Hadb-Bookmark: nonsense\r\n", NULL, 400, "EINVAL");
    expect("GET", KV "x", "Hadb-Bookmark: 00000000-0000-4000-8000-000000000001.1.1\r\n", NULL, 400,
           "EFORKED");
    expect("PUT", KV "x", "Hadb-Ack: maybe\r\n", "x", 400, "EINVAL");
    expect("PUT", KV "x", "Hadb-Deadline-Ms: 0\r\n", "x", 400, "EINVAL");
    expect("PUT", KV "x", "Hadb-Deadline-Ms: 600001\r\n", "x", 400, "EINVAL");
    expect("PUT", KV "x", "Hadb-Deadline-Ms: -1\r\n", "x", 400, "EINVAL");
}

static void every_ack_mode_and_read_level__works(void **state)
{
    (void)state;
    static const char *const acks[] = {"async", "local", "durable", "both"};
    static const char *const reads[] = {"any", "linearizable"};
    for (size_t i = 0; i < 4; i++) {
        char header[64];
        snprintf(header, sizeof header, "Hadb-Ack: %s\r\n", acks[i]);
        expect("PUT", KV "ack", header, acks[i], 200, NULL);
    }
    for (size_t i = 0; i < 2; i++) {
        char header[64];
        snprintf(header, sizeof header, "Hadb-Read: %s\r\n", reads[i]);
        expect("GET", KV "ack", header, NULL, 200, NULL);
    }
}

static void a_key_that_is_too_long__is_413(void **state)
{
    (void)state;
    struct hadb_buf path = {0};
    for (int round = 0; round < 2; round++) {
        hadb_buf_clear(&path);
        hadb_buf_append_str(&path, KV);
        for (unsigned i = 0; i < HADB_KEY_BYTES_MAX + (unsigned)round; i++) {
            hadb_buf_append_str(&path, "k");
        }
        expect("PUT", hadb_buf_cstr(&path), NULL, "x", round ? 413 : 200, round ? "ETOOBIG" : NULL);
    }
    hadb_buf_deinit(&path);
}

static void a_value_that_is_too_long__is_413(void **state)
{
    (void)state;
    struct tc_reply reply;
    size_t len = (size_t)HADB_VALUE_BYTES_MAX + 1;
    char *body = calloc(1, len);
    assert_non_null(body);
    assert_int_equal(tc_http(at, "PUT", KV "big", NULL, body, len, &reply), 413);
    assert_non_null(strstr(reply.body, "ETOOBIG"));
    tc_reply_deinit(&reply);
    free(body);
    expect("GET", KV "big", NULL, NULL, 404, "ABSENT");
}

static void a_large_value__goes_through_blobs_and_back(void **state)
{
    (void)state;
    struct tc_reply reply;
    size_t len = 9u << 20;
    char *body = malloc(len);
    assert_non_null(body);
    uint32_t x = 1;
    for (size_t i = 0; i < len; i++) { /* nothing that zstd could shrink */
        x = x * 1664525u + 1013904223u;
        body[i] = (char)(x >> 24);
    }
    uint64_t creates = tc_metric(&tc, 0, "storage_create_done");
    assert_int_equal(tc_http(at, "PUT", KV "large", NULL, body, len, &reply), 200);
    tc_reply_deinit(&reply);
    assert_int_equal(tc_metric(&tc, 0, "storage_create_done") - creates, 2); /* blob and entry */
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    assert_int_equal(tc_http(tc.nodes[1].address, "GET", KV "large", NULL, NULL, 0, &reply), 200);
    assert_int_equal(reply.body_len, len);
    assert_memory_equal(reply.body, body, len);
    tc_reply_deinit(&reply);
    free(body);
}

static void malformed_http__never_disturbs_others(void **state)
{
    (void)state;
    static const char *const garbage[] = {
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "PUT " KV "x HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n",
        "PUT " KV "x HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    };
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        struct tc_reply reply;
        int status = tc_raw(at, garbage[i], strlen(garbage[i]), &reply);
        assert_true(status == 0 || (status >= 400 && status < 600));
        tc_reply_deinit(&reply);
    }
    expect("GET", "/healthz", NULL, NULL, 200, NULL);
    expect("PUT", KV "after", NULL, "x", 200, NULL);
}

static void status_health_and_metrics__have_their_form(void **state)
{
    (void)state;
    struct tc_reply reply;
    char chain[80], uuid[48], txid[16];
    expect("GET", "/healthz", NULL, NULL, 200, NULL);
    expect("GET", "/readyz", NULL, NULL, 200, NULL);
    tc_put(&tc, 0, "k", "v");
    assert_int_equal(call("GET", "/v1/status", NULL, NULL, &reply), 200);
    static const char head[] =
        "{\"node\":\"n0\",\"databases\":[{\"name\":\"" TC_DB "\",\"uuid\":\"";
    assert_memory_equal(reply.body, head, sizeof head - 1);
    tc_reply_deinit(&reply);
    tc_status(&tc, 0, "chain_hash", chain, sizeof chain);
    assert_int_equal(strlen(chain), 64);
    tc_status(&tc, 0, "uuid", uuid, sizeof uuid);
    assert_int_equal(strlen(uuid), 36);
    tc_status(&tc, 0, "durable_txid", txid, sizeof txid);
    assert_string_equal(txid, "1");
    assert_int_equal(call("GET", "/v1/metrics", NULL, NULL, &reply), 200);
    assert_non_null(strstr(reply.body, "\nwrite_batches 1\n"));
    tc_reply_deinit(&reply);
}

static void a_wrong_token__is_401_except_for_health(void **state)
{
    (void)state;
    tc_deinit(&tc);
    tc_init(&tc, true);
    tc.token = "open sesame";
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    at = tc.nodes[0].address;
    expect("GET", "/v1/status", NULL, NULL, 401, "EAUTH");
    expect("PUT", KV "x", "Authorization: Bearer open sesamf\r\n", "x", 401, "EAUTH");
    expect("POST", "/v1/stream", NULL, "", 401, "EAUTH");
    expect("GET", "/healthz", NULL, NULL, 200, NULL);
    expect("PUT", KV "x", "Authorization: Bearer open sesame\r\n", "x", 200, NULL);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_value__comes_back_byte_for_byte_with_its_version),
        T(an_empty_value__is_a_value),
        T(an_absent_key__is_404_and_its_delete_is_200),
        T(conditions__hold_or_answer_412),
        T(a_repeated_request_id__is_answered_from_the_first_run),
        T(a_scan__pages_in_order_and_in_reverse),
        T(a_batch__happens_whole_or_not_at_all),
        T(wrong_names_and_methods__are_named),
        T(wrong_headers__are_refused),
        T(every_ack_mode_and_read_level__works),
        T(a_key_that_is_too_long__is_413),
        T(a_value_that_is_too_long__is_413),
        T(a_large_value__goes_through_blobs_and_back),
        T(malformed_http__never_disturbs_others),
        T(status_health_and_metrics__have_their_form),
        T(a_wrong_token__is_401_except_for_health),
    };
    return cmocka_run_group_tests_name("api", tests, NULL, NULL);
}
