/* SPDX-License-Identifier: Apache-2.0 */
/* The S3 backend over TLS, on a real server with an authority of its own: whom it trusts, and what it sends unsigned. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "hadb/storage.h"

#define BODY_BYTES ((size_t)3 << 20) /* more than is signed over TLS */

/* The URL of the test run, with its ca=FILE replaced by @ca. */
static void open_with(const char *ca, const char *prefix, struct hadb_storage *out)
{
    char url[1024];
    struct hadb_error err = {0};
    const char *given = getenv("HADB_TEST_S3_URL");
    assert_non_null(given); /* run it through tests/support/with_s3.py minio-tls */
    const char *mark = strchr(given, '?'), *end = strstr(given, "&ca=");
    assert_true(mark && end);
    snprintf(url, sizeof(url), "%.*s/%s%.*s%s", (int)(mark - given), given, prefix,
             (int)(end - mark), mark, ca ? ca : end);
    if (hadb_storage_open(url, NULL, out, &err)) {
        fail_msg("%s: %s", url, err.message);
    }
}

static void authority__that_is_not_trusted_ends_it_before_anything_is_sent(void **state)
{
    (void)state;
    HADB_CLEANUP(hadb_storage_close) struct hadb_storage s = {0};
    struct hadb_error err = {0};
    struct hadb_buf got = {0};
    open_with("", "untrusted", &s);
    assert_int_equal(hadb_storage_create(&s, NULL, "k", hadb_slice_str("x"), NULL, &err),
                     HADB_EAUTH);
    assert_non_null(strstr(err.message, "add ca=FILE"));
    assert_false(err.retryable);
    assert_int_equal(hadb_storage_get(&s, NULL, "k", &got, NULL, &err), HADB_EAUTH);
    struct hadb_storage_usage usage;
    hadb_storage_usage(&s, &usage);
    assert_int_equal(usage.puts + usage.gets, 0);
}

static void authority__file_that_is_missing_is_named(void **state)
{
    (void)state;
    HADB_CLEANUP(hadb_storage_close) struct hadb_storage s = {0};
    struct hadb_error err = {0};
    open_with("&ca=/nonexistent/ca.crt", "missing", &s);
    assert_int_equal(hadb_storage_create(&s, NULL, "k", hadb_slice_str("x"), NULL, &err),
                     HADB_EAUTH);
    assert_non_null(strstr(err.message, "/nonexistent/ca.crt"));
}

static void large__body_arrives_unsigned_with_a_checksum_that_the_server_takes(void **state)
{
    (void)state;
    HADB_CLEANUP(hadb_storage_close) struct hadb_storage s = {0};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf got = {0};
    struct hadb_error err = {0};
    uint8_t *bytes = malloc(BODY_BYTES);
    assert_non_null(bytes);
    for (size_t i = 0; i < BODY_BYTES; i++) {
        bytes[i] = (uint8_t)(i * 2654435761u >> 11);
    }
    struct hadb_slice body = hadb_slice(bytes, BODY_BYTES);
    open_with(NULL, "large", &s);
    if (hadb_storage_create(&s, NULL, "k", body, NULL, &err)) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(hadb_storage_create(&s, NULL, "k", body, NULL, &err), HADB_EXISTS);
    assert_int_equal(hadb_storage_get(&s, NULL, "k", &got, NULL, &err), 0);
    assert_true(hadb_slice_eq(hadb_buf_slice(&got), body));
    free(bytes);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(authority__that_is_not_trusted_ends_it_before_anything_is_sent),
        cmocka_unit_test(authority__file_that_is_missing_is_named),
        cmocka_unit_test(large__body_arrives_unsigned_with_a_checksum_that_the_server_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
