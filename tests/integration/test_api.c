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

/* A request that is refused with 400, whose message names what is wrong and what is allowed; and nothing is
 * written. */
static void refused(const char *method, const char *path, const char *headers, const char *body,
                    const char *word, const char *allowed)
{
    struct tc_reply reply;
    int got = call(method, path, headers, body, &reply);
    if (got != 400 || !reply.body || !strstr(reply.body, word) || !strstr(reply.body, allowed)) {
        fail_msg("%s %.60s %s %.200s: %d, without '%s' or '%s': %s", method, path,
                 headers ? headers : "", body ? body : "", got, word, allowed,
                 reply.body ? reply.body : "");
    }
    tc_reply_deinit(&reply);
}

#define KV "/v1/db/" TC_DB "/kv/"
#define BATCH "/v1/db/" TC_DB "/batch"
#define SCAN "/v1/db/" TC_DB "/scan"

static void nothing_written(void)
{
    char txid[32];
    tc_status(&tc, 0, "txid", txid, sizeof txid);
    assert_string_equal(txid, "0");
}

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
    expect("GET", KV, NULL, NULL, 400, "EINVAL");
    expect("GET", KV "%zz", NULL, NULL, 400, "EINVAL");
    expect("DELETE", "/v1/status", NULL, NULL, 405, "EINVAL");
    expect("GET", "/v1/db/" TC_DB "/batch", NULL, NULL, 405, "EINVAL");
    expect("POST", "/v1/db/" TC_DB "/forward", NULL, "garbage", 400, "EPROTO");
    expect("POST", "/v1/stream", NULL, "garbage", 400, "EPROTO");
}

/* ---- what is not understood is refused, not ignored ---- */

static void a_batch_with_members_of_wrong_types__is_refused_by_name(void **state)
{
    (void)state;
#define PUT_AND(more) "{\"ops\":[{\"op\":\"put\",\"key\":\"k\",\"value\":\"v\"," more "}]}"
#define ONE(members) "{\"ops\":[{" members "}]}"
    static const struct {
        const char *body, *word, *allowed;
    } cases[] = {
        {PUT_AND("\"if_version\":7"), "if_version", "Hadb-Version"},
        {PUT_AND("\"if_version\":null"), "if_version", "Hadb-Version"},
        {PUT_AND("\"if_version\":\"7\""), "if_version", "Hadb-Version"},
        {PUT_AND("\"if_version\":\"1.0\""), "if_version", "Hadb-Version"},
        {PUT_AND("\"if_version\":\"\""), "if_version", "Hadb-Version"},
        {PUT_AND("\"if_absent\":\"true\""), "if_absent", "true or false"},
        {PUT_AND("\"if_absent\":1"), "if_absent", "true or false"},
        {PUT_AND("\"if_absent\":null"), "if_absent", "true or false"},
        {PUT_AND("\"if_absent\":true,\"if_version\":\"1.1\""), "if_absent and if_version",
         "exclude each other"},
        {PUT_AND("\"key_base64\":\"aw==\""), "key and key_base64", "exclude each other"},
        {PUT_AND("\"value_base64\":\"aw==\""), "value and value_base64", "exclude each other"},
        {PUT_AND("\"ifabsent\":true"), "ifabsent", "if_absent, if_version"},
        {PUT_AND("\"IF_ABSENT\":true"), "IF_ABSENT", "if_absent, if_version"},
        {PUT_AND("\"\":true"), "unknown member ''", "if_absent, if_version"},
        {PUT_AND("\"ttl\":5"), "ttl", "if_absent, if_version"},
        {PUT_AND("\"key\":\"other\""), "duplicate", "key"},
        {PUT_AND("\"if_absent\":false,\"if_absent\":true"), "duplicate", "if_absent"},
        {ONE("\"op\":\"put\",\"key\":7,\"value\":\"v\""), "key", "a string"},
        {ONE("\"op\":\"put\",\"key\":[\"k\"],\"value\":\"v\""), "key", "a string"},
        {ONE("\"op\":\"put\",\"key_base64\":7,\"value\":\"v\""), "key_base64", "base64"},
        {ONE("\"op\":\"put\",\"key_base64\":\"a\",\"value\":\"v\""), "key_base64", "base64"},
        {ONE("\"op\":\"put\",\"value\":\"v\""), "key", "key_base64"},
        {ONE("\"op\":\"put\",\"key\":\"k\""), "value", "value_base64"},
        {ONE("\"op\":\"put\",\"key\":\"k\",\"value\":7"), "value", "a string"},
        {ONE("\"op\":\"put\",\"key\":\"k\",\"value\":null"), "value", "a string"},
        {ONE("\"op\":\"put\",\"key\":\"k\",\"value_base64\":\"!\""), "value_base64", "base64"},
        {ONE("\"op\":\"delete\",\"key\":\"k\",\"value\":\"v\""), "value", "put"},
        {ONE("\"op\":\"delete\",\"key\":\"k\",\"value_base64\":\"\""), "value_base64", "put"},
        {ONE("\"op\":\"delete\",\"key\":\"k\",\"if_absent\":true"), "if_absent", "put"},
        {ONE("\"op\":\"PUT\",\"key\":\"k\",\"value\":\"v\""), "op", "put or delete"},
        {ONE("\"op\":\"merge\",\"key\":\"k\",\"value\":\"v\""), "op", "put or delete"},
        {ONE("\"op\":1,\"key\":\"k\",\"value\":\"v\""), "op", "put or delete"},
        {ONE("\"key\":\"k\",\"value\":\"v\""), "op", "put or delete"},
        {"{\"ops\":[7]}", "operation 0", "object"},
        {"{\"ops\":[{\"op\":\"put\",\"key\":\"k\",\"value\":\"v\"},[]]}", "operation 1", "object"},
        {"{\"ops\":[{\"op\":\"put\",\"key\":\"k\",\"value\":\"v\"}],\"if_absent\":true}",
         "if_absent", "ops"},
        {"{\"ops\":[{\"op\":\"put\",\"key\":\"k\",\"value\":\"v\"}],\"ops\":[]}", "duplicate",
         "ops"},
        {"{\"ops\":[{\"op\":\"put\",\"key\":\"k\",\"value\":\"v\"}]} x", "JSON", "line 1"},
        {"{\"ops\":{}}", "ops", "array"},
        {"{\"ops\":[]}", "ops", "array"},
        {"[]", "object", "ops"},
        {"null", "object", "ops"},
        {"{", "JSON", "line 1"},
        {"", "ops", "put"},
    };
#undef PUT_AND
#undef ONE
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        refused("POST", BATCH, NULL, cases[i].body, cases[i].word, cases[i].allowed);
    }
    nothing_written();
    expect("POST", BATCH, NULL,
           "{\"ops\":[{\"op\":\"put\",\"key\":\"k\",\"value\":\"\\u0000\",\"if_absent\":false}]}",
           200, NULL);
}

static void a_hand_off_with_unknown_members__is_refused_by_name(void **state)
{
    (void)state;
    static const char path[] = "/v1/db/" TC_DB "/handoff";
    refused("POST", path, NULL, "{\"too\":\"n1\"}", "too", "to");
    refused("POST", path, NULL, "{\"to\":\"n0\",\"to\":\"n1\"}", "duplicate", "to");
    refused("POST", path, NULL, "{\"to\":7}", "to", "name");
    refused("POST", path, NULL, "\"n0\"", "object", "to");
}

static void query_parameters_that_are_not_understood__are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *word, *allowed;
    } cases[] = {
        {"PUT", KV "k?if_absen", "if_absen", "if_absent, if_version"},
        {"PUT", KV "k?IF_ABSENT", "IF_ABSENT", "if_absent, if_version"},
        {"PUT", KV "k?bogus=1", "bogus", "if_absent, if_version"},
        {"PUT", KV "k?a=%zz", "'a'", "if_absent, if_version"},
        {"PUT", KV "k?if_absent=%zz", "if_absent", "percent"},
        {"PUT", KV "k?if_absent=no", "if_absent", "true or false"},
        {"PUT", KV "k?if_absent=2", "if_absent", "true or false"},
        {"PUT", KV "k?if_absent&if_absent", "if_absent", "once"},
        {"PUT", KV "k?if_absent=false&if_absent", "if_absent", "once"},
        {"PUT", KV "k?if_version=1.1&if_version=1.2", "if_version", "once"},
        {"PUT", KV "k?if_version", "if_version", "Hadb-Version"},
        {"PUT", KV "k?if_version=", "if_version", "Hadb-Version"},
        {"PUT", KV "k?if_version=1.0", "if_version", "Hadb-Version"},
        {"PUT", KV "k?if_version=1.1%00", "if_version", "Hadb-Version"},
        {"PUT", KV "k?if_absent&if_version=1.1", "if_absent and if_version", "exclude each other"},
        {"PUT", KV "k?if_version=nonsense&if_absent", "if_absent and if_version",
         "exclude each other"},
        {"PUT", KV "k?if_absent&", "empty", "if_absent, if_version"},
        {"PUT", KV "k?&if_absent", "empty", "if_absent, if_version"},
        {"PUT", KV "k?=1", "''", "if_absent, if_version"},
        {"DELETE", KV "k?if_absent", "if_absent", "if_version"},
        {"GET", KV "k?if_version=1.1", "if_version", "none"},
        {"HEAD", KV "k?x", "", ""},
        {"GET", SCAN "?reverse=maybe", "reverse", "true or false"},
        {"GET", SCAN "?reverse&reverse=false", "reverse", "once"},
        {"GET", SCAN "?limit=-1", "limit", "1 to 10000"},
        {"GET", SCAN "?limit=", "limit", "1 to 10000"},
        {"GET", SCAN "?limit", "limit", "1 to 10000"},
        {"GET", SCAN "?limit=5%00", "limit", "1 to 10000"},
        {"GET", SCAN "?limit=99999999999999999999", "limit", "1 to 10000"},
        {"GET", SCAN "?limit=1&limit=2", "limit", "once"},
        {"GET", SCAN "?prefix=%f", "prefix", "percent"},
        {"GET", SCAN "?prefixx=a", "prefixx", "prefix, start, end, limit, reverse"},
        {"POST", BATCH "?if_absent", "if_absent", "none"},
        {"POST", "/v1/db/" TC_DB "/handoff?to=n0", "to", "none"},
        {"GET", "/v1/status?verbose", "verbose", "none"},
        {"GET", "/v1/metrics?x=1", "'x'", "none"},
        {"GET", "/healthz?x=1", "'x'", "none"},
        {"GET", "/readyz?x=1", "'x'", "none"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool body = strcmp(cases[i].method, "PUT") == 0;
        if (strcmp(cases[i].method, "HEAD") == 0) {
            expect("HEAD", cases[i].path, NULL, NULL, 400, NULL);
            continue;
        }
        refused(cases[i].method, cases[i].path, NULL, body ? "x" : NULL, cases[i].word,
                cases[i].allowed);
    }
    nothing_written();
    expect("PUT", KV "k?", NULL, "x", 200, NULL);
    expect("PUT", KV "k?if_absent=false", NULL, "x", 200, NULL);
    expect("PUT", KV "k?if_absent=0", NULL, "x", 200, NULL);
    expect("PUT", KV "k?if_absent=true", NULL, "x", 412, "NOT_MET");
    expect("PUT", KV "k?if_absent=1", NULL, "x", 412, "NOT_MET");
    expect("PUT", KV "k?if_absent=", NULL, "x", 412, "NOT_MET");
    expect("GET", SCAN "?reverse=true&limit=1&prefix=&start=&end=z", NULL, NULL, 200, NULL);
}

static void headers_that_are_not_understood__are_refused_by_name(void **state)
{
    (void)state;
#define ID "01890000-0000-7000-8000-000000000001"
    static const struct {
        const char *method, *headers, *word, *allowed;
    } cases[] = {
        {"PUT", "Hadb-Ack: async\r\nHadb-Ack: durable\r\n", "Hadb-Ack", "once"},
        {"PUT", "Hadb-Ack: durable\r\nhadb-ack: durable\r\n", "Hadb-Ack", "once"},
        {"GET", "Hadb-Read: any\r\nHadb-Read: linearizable\r\n", "Hadb-Read", "once"},
        {"PUT", "Hadb-Request-Id: " ID "\r\nHadb-Request-Id: " ID "\r\n", "Hadb-Request-Id",
         "once"},
        {"PUT", "Hadb-Deadline-Ms: 5\r\nHadb-Deadline-Ms: 6\r\n", "Hadb-Deadline-Ms", "once"},
        {"GET", "Hadb-Bookmark: x\r\nHadb-Bookmark: y\r\n", "Hadb-Bookmark", "once"},
        {"PUT", "Hadb-Acks: async\r\n", "Hadb-Acks", "Hadb-Request-Id, Hadb-Ack, Hadb-Read"},
        {"PUT", "Hadb-Version: 1.1\r\n", "Hadb-Version", "Hadb-Request-Id, Hadb-Ack, Hadb-Read"},
        {"PUT", "Hadb-Ack:\r\n", "acknowledgement", "async, local, durable or both"},
        {"PUT", "Hadb-Ack: DURABLE\r\n", "DURABLE", "async, local, durable or both"},
        {"PUT", "Hadb-Ack: async, durable\r\n", "async, durable", "async, local, durable or both"},
        {"GET", "Hadb-Read:\r\n", "Hadb-Read", "any, bookmark, bounded or linearizable"},
        {"GET", "Hadb-Bookmark:\r\n", "Hadb-Bookmark", "as an answer gave it"},
        {"GET", "Hadb-Bookmark: nonsense\r\n", "bookmark", ""},
        {"PUT", "Hadb-Request-Id:\r\n", "Hadb-Request-Id", "version 7"},
        {"PUT", "Hadb-Deadline-Ms:\r\n", "Hadb-Deadline-Ms", "1 to 600000"},
        {"PUT", "Hadb-Deadline-Ms: 0\r\n", "Hadb-Deadline-Ms", "1 to 600000"},
        {"PUT", "Hadb-Deadline-Ms: -1\r\n", "Hadb-Deadline-Ms", "1 to 600000"},
        {"PUT", "Hadb-Deadline-Ms: soon\r\n", "Hadb-Deadline-Ms", "1 to 600000"},
        {"PUT", "Hadb-Deadline-Ms: 1.5\r\n", "Hadb-Deadline-Ms", "1 to 600000"},
        {"PUT", "Hadb-Deadline-Ms: 600001\r\n", "Hadb-Deadline-Ms", "1 to 600000"},
        {"PUT", "Hadb-Deadline-Ms: 99999999999999999999\r\n", "Hadb-Deadline-Ms", "1 to 600000"},
    };
#undef ID
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        refused(cases[i].method, KV "k", cases[i].headers,
                strcmp(cases[i].method, "PUT") ? NULL : "x", cases[i].word, cases[i].allowed);
    }
    nothing_written();
    /* A bookmark asks for more than level any gives. */
    struct tc_reply reply;
    char bookmark[128], header[256];
    assert_int_equal(call("PUT", KV "k", NULL, "x", &reply), 200);
    assert_true(tc_header(&reply, "Hadb-Bookmark", bookmark, sizeof bookmark));
    tc_reply_deinit(&reply);
    snprintf(header, sizeof header, "Hadb-Bookmark: %s\r\nHadb-Read: any\r\n", bookmark);
    refused("GET", KV "k", header, NULL, "bookmark", "any");
    snprintf(header, sizeof header, "Hadb-Bookmark: %s\r\nHadb-Read: linearizable\r\n", bookmark);
    expect("GET", KV "k", header, NULL, 200, NULL);
}

static void a_method_that_a_path_does_not_take__is_405_with_those_it_takes(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *allow;
    } cases[] = {
        {"PATCH", KV "k", "GET, HEAD, PUT, DELETE"},
        {"POST", KV "k", "GET, HEAD, PUT, DELETE"},
        {"OPTIONS", KV "k", "GET, HEAD, PUT, DELETE"},
        {"get", KV "k", "GET, HEAD, PUT, DELETE"},
        {"PATCH", KV "k?bogus", "GET, HEAD, PUT, DELETE"},
        {"POST", SCAN, "GET, HEAD"},
        {"PUT", BATCH, "POST"},
        {"GET", BATCH, "POST"},
        {"HEAD", BATCH, "POST"},
        {"GET", "/v1/db/" TC_DB "/handoff", "POST"},
        {"GET", "/v1/db/" TC_DB "/forward", "POST"},
        {"GET", "/v1/db/" TC_DB "/ready", "POST"},
        {"GET", "/v1/db/" TC_DB "/poke", "POST"},
        {"GET", "/v1/stream", "POST"},
        {"POST", "/healthz", "GET, HEAD"},
        {"PUT", "/readyz", "GET, HEAD"},
        {"DELETE", "/v1/status", "GET, HEAD"},
        {"OPTIONS", "/v1/metrics", "GET, HEAD"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tc_reply reply;
        char allow[64] = "";
        int status = call(cases[i].method, cases[i].path, NULL, NULL, &reply);
        tc_header(&reply, "Allow", allow, sizeof allow);
        if (status != 405 || strcmp(allow, cases[i].allow) != 0) {
            fail_msg("%s %s: %d, Allow: %s", cases[i].method, cases[i].path, status, allow);
        }
        if (strcmp(cases[i].method, "HEAD") != 0) {
            assert_non_null(strstr(reply.body, "{\"error\":\"EINVAL\",\"message\":\""));
            assert_non_null(strstr(reply.body, cases[i].allow));
        }
        tc_reply_deinit(&reply);
    }
    static const char *const unknown[] = {"/",
                                          "*",
                                          "/v1",
                                          "/v1/status/",
                                          "/V1/status",
                                          "/v1/db/" TC_DB,
                                          "/v1/db/" TC_DB "/scan/x",
                                          "/v1/db/" TC_DB "/KV/x"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        expect("GET", unknown[i], NULL, NULL, 404, "EINVAL");
        expect("PATCH", unknown[i], NULL, NULL, 404, "EINVAL");
    }
}

static void head__answers_as_get_without_the_body(void **state)
{
    (void)state;
    static const char *const paths[] = {KV "k", KV "absent", SCAN, "/v1/status", "/healthz"};
    expect("PUT", KV "k", NULL, "12345", 200, NULL);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct tc_reply head, get;
        char a[64] = "", b[64] = "";
        int status = call("GET", paths[i], NULL, NULL, &get);
        assert_int_equal(call("HEAD", paths[i], NULL, NULL, &head), status);
        assert_int_equal(head.body_len, 0);
        assert_true(tc_header(&head, "Content-Length", a, sizeof a));
        assert_true(tc_header(&get, "Content-Length", b, sizeof b));
        assert_string_equal(a, b);
        tc_header(&head, "Hadb-Version", a, sizeof a);
        tc_header(&get, "Hadb-Version", b, sizeof b);
        assert_string_equal(a, b);
        tc_reply_deinit(&head);
        tc_reply_deinit(&get);
    }
}

/* Messages quote what the client sent: as text where it is text. */
static void messages__are_json_whatever_they_quote(void **state)
{
    (void)state;
    struct tc_reply reply;
    assert_int_equal(call("POST", BATCH, NULL, "{}", &reply), 400);
    assert_null(strchr(reply.body, '?'));
    tc_reply_deinit(&reply);
    assert_int_equal(call("PUT", KV "k", "Hadb-Ack: \xc3\xa9\"\\\r\n", "x", &reply), 400);
    assert_non_null(strstr(reply.body, "'\xc3\xa9\\\"\\\\'"));
    tc_reply_deinit(&reply);
    assert_int_equal(call("PUT", KV "k", "Hadb-Ack: \xff\xc3\r\n", "x", &reply), 400);
    assert_non_null(strstr(reply.body, "'\xef\xbf\xbd\xef\xbf\xbd'")); /* U+FFFD */
    tc_reply_deinit(&reply);
    expect("GET", "/v1/db/\xff/kv/x", NULL, NULL, 404, "ENODB");
}

static void wrong_headers__are_refused(void **state)
{
    (void)state;
    expect("GET", KV "x", "Hadb-Read: sometimes\r\n", NULL, 400, "EINVAL");
    expect("GET", KV "x", "Hadb-Read: bookmark\r\n", NULL, 400, "EINVAL");
    expect("GET", KV "x", "Hadb-Read: bounded\r\n", NULL, 400, "EINVAL");
    expect("GET", KV "x", "Hadb-Max-Lag-Ms: 5\r\n", NULL, 400, "EINVAL");
    expect("GET", KV "x", "Hadb-Read: any\r\nHadb-Max-Lag-Ms: 5\r\n", NULL, 400, "EINVAL");
    expect("GET", KV "x", "Hadb-Read: bounded\r\nHadb-Max-Lag-Ms: 0\r\n", NULL, 400, "EINVAL");
    expect("GET", KV "x", "Hadb-Read: bounded\r\nHadb-Max-Lag-Ms: 3600001\r\n", NULL, 400,
           "EINVAL");
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

/* It follows through storage, but cannot forward: nothing may be routed to it. */
static void a_follower_whose_token_the_leader_refuses__is_not_ready_and_says_why(void **state)
{
    (void)state;
    static const char header[] = "Authorization: Bearer another\r\n";
    struct tc_reply reply;
    tc_deinit(&tc);
    tc_init(&tc, true);
    tc.token = "one";
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    tc.token = "another";
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    at = tc.nodes[1].address;
    int status = 0;
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; status != 503 && tc_now_ms() < end;) {
        status = call("GET", "/readyz", NULL, NULL, &reply);
        if (status == 503) {
            assert_non_null(strstr(reply.body, "token"));
            assert_non_null(strstr(reply.body, "n0"));
            assert_null(strstr(reply.body, "another"));
        }
        tc_reply_deinit(&reply);
        tc_sleep_ms(5);
    }
    assert_int_equal(status, 503);
    static const char *const calls[][2] = {{"PUT", KV "k"}, {"POST", "/v1/db/" TC_DB "/handoff"}};
    for (size_t i = 0; i < 2; i++) {
        char retry[16];
        assert_int_equal(call(calls[i][0], calls[i][1], header, "", &reply), 503);
        assert_non_null(strstr(reply.body, "\"EUNAVAIL\""));
        assert_non_null(strstr(reply.body, "refuses this node's token"));
        assert_true(tc_header(&reply, "Retry-After", retry, sizeof retry));
        tc_reply_deinit(&reply);
    }
    expect("GET", "/healthz", NULL, NULL, 200, NULL);
    assert_int_equal(tc_http(tc.nodes[0].address, "GET", "/readyz", NULL, NULL, 0, &reply), 200);
    tc_reply_deinit(&reply);
    /* The token is right again. */
    tc_close(&tc, 1, 0);
    tc.token = "one";
    tc_open(&tc, 1);
    tc_ready(&tc, 1);
    at = tc.nodes[1].address;
    expect("PUT", KV "k", "Authorization: Bearer one\r\n", "x", 200, NULL);
    expect("GET", "/readyz", NULL, NULL, 200, NULL);
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
        T(a_batch_with_members_of_wrong_types__is_refused_by_name),
        T(a_hand_off_with_unknown_members__is_refused_by_name),
        T(query_parameters_that_are_not_understood__are_refused_by_name),
        T(headers_that_are_not_understood__are_refused_by_name),
        T(a_method_that_a_path_does_not_take__is_405_with_those_it_takes),
        T(head__answers_as_get_without_the_body),
        T(messages__are_json_whatever_they_quote),
        T(wrong_headers__are_refused),
        T(every_ack_mode_and_read_level__works),
        T(a_key_that_is_too_long__is_413),
        T(a_value_that_is_too_long__is_413),
        T(a_large_value__goes_through_blobs_and_back),
        T(malformed_http__never_disturbs_others),
        T(status_health_and_metrics__have_their_form),
        T(a_wrong_token__is_401_except_for_health),
        T(a_follower_whose_token_the_leader_refuses__is_not_ready_and_says_why),
    };
    return cmocka_run_group_tests_name("api", tests, NULL, NULL);
}
