/* SPDX-License-Identifier: Apache-2.0 */
/* URLs, percent-encoding, numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/url.h"
#include "tests/support/support.h"

static void url__splits_into_its_parts(void **state)
{
    (void)state;
    struct hadb_url url = {0};
    assert_int_equal(hadb_url_parse("S3://bucket.example:9000/a/b?region=eu&n=5", &url, NULL), 0);
    assert_string_equal(url.scheme, "s3");
    assert_string_equal(url.authority, "bucket.example:9000");
    assert_string_equal(url.path, "/a/b");
    assert_int_equal(url.params_len, 2);
    assert_string_equal(hadb_url_param(&url, "region"), "eu");
    assert_string_equal(hadb_url_param(&url, "n"), "5");
    assert_null(hadb_url_param(&url, "N"));
    hadb_url_deinit(&url);
    assert_null(url.text);
    hadb_url_deinit(&url);
    hadb_url_deinit(NULL);
}

static void url__forms_without_authority(void **state)
{
    (void)state;
    static const struct {
        const char *text, *authority, *path;
    } rows[] = {
        {"mem:", "", ""},
        {"mem:NAME", "", "NAME"},
        {"file:///dir", "", "/dir"},
        {"file:rel/dir", "", "rel/dir"},
        {"file:/dir", "", "/dir"},
        {"s3://bucket", "bucket", ""},
        {"s3://bucket?x=1", "bucket", ""},
        {"mem:?latency_ms=2", "", ""},
    };
    for (size_t i = 0; i < HADB_LEN(rows); i++) {
        struct hadb_url url = {0};
        assert_int_equal(hadb_url_parse(rows[i].text, &url, NULL), 0);
        assert_string_equal(url.authority, rows[i].authority);
        assert_string_equal(url.path, rows[i].path);
        hadb_url_deinit(&url);
    }
}

static void url__is_shown_without_its_secrets(void **state)
{
    (void)state;
    static const struct {
        const char *url, *shown;
    } rows[] = {
        {"file:///srv/a@b/store", "file:///srv/a@b/store"},
        {"mem:", "mem:"},
        {"", ""},
        {"nonsense", "nonsense"},
        {"s3://bucket/dir?region=eu", "s3://bucket/dir?region=eu"},
        {"s3://AKIA:hunter2@bucket/dir", "s3://***@bucket/dir"},
        {"s3://AKIA:hun/ter2@bucket/dir", "s3://***@bucket/dir"},
        {"s3://hunter2@host:9000", "s3://***@host:9000"},
        {"redis:u:hunter2@host", "redis:***@host"},
        {"s3://b?secret=hunter2&region=eu", "s3://b?secret=***&region=eu"},
        {"s3://b?AWS_Secret_Access_Key=hunter2", "s3://b?AWS_Secret_Access_Key=***"},
        {"s3://b?access_key=hunter2&token=hunter2", "s3://b?access_key=***&token=***"},
        {"s3://b?s%65cret=hunter2", "s3://b?s%65cret=***"},
        {"s3://b?s%6=hunter2", "s3://b?s%6=***"},
        {"http://h/?password=hunter2&X-Amz-Signature=hunter2&a",
         "http://h/?password=***&X-Amz-Signature=***&a"},
        {"nats://h?password=hun@ter2", "nats://h?password=***"},
        {"s3://b/p?endpoint=http://k:hunter2@h&region=eu", "s3://b/p?endpoint=***&region=eu"},
        {"redis://:hun?ter2@host", "redis://***?***"},
        {"redis://hun?ter2@host=x", "redis://***?***"},
        {"redis://:hun?ter2@host&prefix=x", "redis://***?***&prefix=x"},
    };
    for (size_t i = 0; i < HADB_LEN(rows); i++) {
        char shown[HADB_URL_SHOWN_BYTES];
        assert_string_equal(hadb_url_redact(rows[i].url, shown, sizeof shown), rows[i].shown);
    }
    char small[8];
    assert_string_equal(hadb_url_redact("s3://hunter2@bucket", small, sizeof small), "s3://**");
}

static void url__decodes_escapes_and_keeps_plus(void **state)
{
    (void)state;
    struct hadb_url url = {0};
    assert_int_equal(
        hadb_url_parse("file:///a%20b/%C3%A4%2f%3F?k%3d=v%26w&plus=1+1&empty=&bare", &url, NULL),
        0);
    assert_string_equal(url.path, "/a b/\xc3\xa4/?");
    assert_string_equal(hadb_url_param(&url, "k="), "v&w");
    assert_string_equal(hadb_url_param(&url, "plus"), "1+1");
    assert_string_equal(hadb_url_param(&url, "empty"), "");
    assert_string_equal(hadb_url_param(&url, "bare"), "");
    hadb_url_deinit(&url);
}

static void url__value_may_hold_equals_signs_and_slashes(void **state)
{
    (void)state;
    struct hadb_url url = {0};
    assert_int_equal(hadb_url_parse("s3://b?key=a=b==&u=http://x/?y", &url, NULL), 0);
    assert_string_equal(hadb_url_param(&url, "key"), "a=b==");
    assert_string_equal(hadb_url_param(&url, "u"), "http://x/?y");
    hadb_url_deinit(&url);
}

static void url__refuses_what_is_not_one(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",           "/just/a/path", "dir",          ":x",          "1file:/x",
        "fi_le:/x",   "file:///a b",  "file:///a\n",  "file:///a#b", "file:///%",
        "file:///%2", "file:///%zz",  "file:///a%00", "s3://%g0/x",  "mem:?=1",
        "mem:?a=%x",  "mem:?%1=a",    "mem:?a=1&a=2", "://x",        "file\x7f:/x",
    };
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        struct hadb_url url = {.path = "untouched"};
        struct hadb_error err = {0};
        assert_int_equal(hadb_url_parse(bad[i], &url, &err), HADB_EINVAL);
        assert_int_equal(err.code, HADB_EINVAL);
        assert_string_equal(url.path, "untouched");
    }
}

static void url__messages_do_not_repeat_credentials(void **state)
{
    (void)state;
    struct hadb_url url = {0};
    struct hadb_error err = {0};
    assert_int_equal(hadb_url_parse("s3://user:secret@b/%zz?token=secret", &url, &err),
                     HADB_EINVAL);
    assert_null(strstr(err.message, "secret"));
}

static void url__limits_are_refused_not_overrun(void **state)
{
    (void)state;
    char many[400] = "mem:?";
    for (unsigned i = 0; i < HADB_URL_PARAMS_MAX; i++) {
        char param[16];
        snprintf(param, sizeof param, "p%u=%u&", i, i);
        strcat(many, param);
    }
    struct hadb_url url = {0};
    assert_int_equal(hadb_url_parse(many, &url, NULL), 0);
    assert_int_equal(url.params_len, HADB_URL_PARAMS_MAX);
    hadb_url_deinit(&url);
    strcat(many, "one=more");
    assert_int_equal(hadb_url_parse(many, &url, NULL), HADB_EINVAL);

    static char longest[20000];
    memset(longest, 'x', sizeof longest - 1);
    memcpy(longest, "mem:", 4);
    assert_int_equal(hadb_url_parse(longest, &url, NULL), HADB_EINVAL);
}

static void url__shortest_parameters_fit_their_memory(void **state)
{
    (void)state;
    struct hadb_url url = {0};
    /* Sixteen names of one byte without values: the most NULs for the fewest bytes. */
    assert_int_equal(hadb_url_parse("m:?a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p", &url, NULL), 0);
    assert_int_equal(url.params_len, 16);
    assert_string_equal(hadb_url_param(&url, "p"), "");
    hadb_url_deinit(&url);
}

static void url__out_of_memory_is_an_error(void **state)
{
    (void)state;
    struct hadb_url url = {0};
    test_alloc_fail_at(1);
    int r = hadb_url_parse("mem:", &url, NULL);
    test_alloc_reset();
    assert_int_equal(r, HADB_ENOMEM);
}

static void url__numbers_have_bounds_and_a_fallback(void **state)
{
    (void)state;
    struct hadb_url url = {0};
    struct hadb_error err = {0};
    uint64_t n = 0;
    assert_int_equal(hadb_url_parse("mem:?a=5&b=x&c=101", &url, NULL), 0);
    assert_int_equal(hadb_url_param_u64(&url, "a", 1, 100, 7, &n, &err), 0);
    assert_int_equal(n, 5);
    assert_int_equal(hadb_url_param_u64(&url, "none", 1, 100, 7, &n, &err), 0);
    assert_int_equal(n, 7);
    assert_int_equal(hadb_url_param_u64(&url, "b", 1, 100, 7, &n, &err), HADB_EINVAL);
    assert_non_null(strstr(err.message, "'b'"));
    assert_int_equal(hadb_url_param_u64(&url, "c", 1, 100, 7, &n, &err), HADB_EINVAL);
    assert_int_equal(n, 7);
    hadb_url_deinit(&url);
}

static void url__unknown_parameters_are_named(void **state)
{
    (void)state;
    static const char *const known[] = {"a", "b", NULL};
    struct hadb_url url = {0};
    struct hadb_error err = {0};
    assert_int_equal(hadb_url_parse("mem:?a=1&latencyms=2", &url, NULL), 0);
    assert_int_equal(hadb_url_params_known(&url, known, &err), HADB_EINVAL);
    assert_non_null(strstr(err.message, "'latencyms'"));
    hadb_url_deinit(&url);
    assert_int_equal(hadb_url_parse("mem:?b=1&a=2", &url, NULL), 0);
    assert_int_equal(hadb_url_params_known(&url, known, &err), 0);
    hadb_url_deinit(&url);
}

static void percent__every_byte_round_trips(void **state)
{
    (void)state;
    uint8_t all[256];
    for (int i = 0; i < 256; i++) {
        all[i] = (uint8_t)i;
    }
    struct hadb_buf text = {0}, back = {0};
    assert_int_equal(hadb_percent_encode(hadb_slice(all, sizeof all), &text), 0);
    assert_int_equal(text.len, 66 + 3 * (256 - 66));
    assert_true(hadb_percent_decode((char *)text.data, text.len, &back));
    assert_int_equal(back.len, 256);
    assert_memory_equal(back.data, all, 256);
    hadb_buf_deinit(&text);
    hadb_buf_deinit(&back);
}

static void percent__bad_escapes_add_nothing(void **state)
{
    (void)state;
    static const char *const bad[] = {"%", "ab%2", "%2x", "%-1", "a%%20"};
    struct hadb_buf out = {0};
    hadb_buf_append_str(&out, "kept");
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        assert_false(hadb_percent_decode(bad[i], strlen(bad[i]), &out));
        assert_int_equal(out.len, 4);
    }
    hadb_buf_deinit(&out);
}

static void number__takes_the_whole_string_in_bounds(void **state)
{
    (void)state;
    uint64_t n = 1;
    assert_true(hadb_parse_u64("0", 0, 9, &n));
    assert_int_equal(n, 0);
    assert_true(hadb_parse_u64("18446744073709551615", 0, UINT64_MAX, &n));
    assert_true(n == UINT64_MAX);
    static const char *const bad[] = {"",
                                      " 1",
                                      "1 ",
                                      "+1",
                                      "-1",
                                      "0x1",
                                      "1e3",
                                      "1.0",
                                      "18446744073709551616",
                                      "99999999999999999999"};
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        assert_false(hadb_parse_u64(bad[i], 0, UINT64_MAX, &n));
    }
    assert_false(hadb_parse_u64(NULL, 0, 9, &n));
    assert_false(hadb_parse_u64("10", 0, 9, &n));
    assert_false(hadb_parse_u64("1", 2, 9, &n));
    assert_true(n == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(url__splits_into_its_parts),
        cmocka_unit_test(url__forms_without_authority),
        cmocka_unit_test(url__is_shown_without_its_secrets),
        cmocka_unit_test(url__decodes_escapes_and_keeps_plus),
        cmocka_unit_test(url__value_may_hold_equals_signs_and_slashes),
        cmocka_unit_test(url__refuses_what_is_not_one),
        cmocka_unit_test(url__messages_do_not_repeat_credentials),
        cmocka_unit_test(url__limits_are_refused_not_overrun),
        cmocka_unit_test(url__shortest_parameters_fit_their_memory),
        cmocka_unit_test(url__out_of_memory_is_an_error),
        cmocka_unit_test(url__numbers_have_bounds_and_a_fallback),
        cmocka_unit_test(url__unknown_parameters_are_named),
        cmocka_unit_test(percent__every_byte_round_trips),
        cmocka_unit_test(percent__bad_escapes_add_nothing),
        cmocka_unit_test(number__takes_the_whole_string_in_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
