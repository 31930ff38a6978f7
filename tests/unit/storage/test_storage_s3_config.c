/* SPDX-License-Identifier: Apache-2.0 */
/* "s3://…": where requests go, and one clear error for each thing that is wrong in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/url.h"
#include "storage/s3_private.h"
#include "tests/support/support.h"

static const char *const *variables; /* name, value, …, NULL */

static const char *getvar(const char *name)
{
    for (const char *const *v = variables; v && *v; v += 2) {
        if (strcmp(v[0], name) == 0) {
            return v[1];
        }
    }
    return NULL;
}

static int open_url(const char *text, struct hadb__s3_config *out, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_url_deinit) struct hadb_url url = {0};
    *err = (struct hadb_error){0};
    int r = hadb_url_parse(text, &url, err);
    return r ? r : hadb__s3_config_open(&url, getvar, out, err);
}

static void url__says_where_requests_go(void **state)
{
    (void)state;
    static const struct {
        const char *url, *origin, *host, *base_path, *prefix, *region;
        bool tls;
    } cases[] = {
        {"s3://bucket?region=eu-central-1", "https://bucket.s3.eu-central-1.amazonaws.com",
         "bucket.s3.eu-central-1.amazonaws.com", "", "", "eu-central-1", true},
        {"s3://bucket/a/b/?region=cn-north-1", "https://bucket.s3.cn-north-1.amazonaws.com.cn",
         "bucket.s3.cn-north-1.amazonaws.com.cn", "", "a/b", "cn-north-1", true},
        {"s3://bucket/a?region=us-west-2&path_style=1", "https://s3.us-west-2.amazonaws.com",
         "s3.us-west-2.amazonaws.com", "/bucket", "a", "us-west-2", true},
        {"s3://buck.et/a?region=us-west-2", "https://s3.us-west-2.amazonaws.com",
         "s3.us-west-2.amazonaws.com", "/buck.et", "a", "us-west-2", true},
        {"s3://bucket/a?endpoint=http://127.0.0.1:9000", "http://127.0.0.1:9000", "127.0.0.1:9000",
         "/bucket", "a", "us-east-1", false},
        {"s3://bucket/a?endpoint=http%3A%2F%2F%5B%3A%3A1%5D%3A9000", "http://[::1]:9000",
         "[::1]:9000", "/bucket", "a", "us-east-1", false},
        {"s3://bucket/a?endpoint=https://store.example:443/", "https://store.example",
         "store.example", "/bucket", "a", "us-east-1", true},
        {"s3://bucket/a?endpoint=https://store.example:8443&path_style=0&region=auto",
         "https://bucket.store.example:8443", "bucket.store.example:8443", "", "a", "auto", true},
    };
    variables = NULL;
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct hadb__s3_config got = {0};
        struct hadb_error err;
        if (open_url(cases[i].url, &got, &err)) {
            fail_msg("%s: %s", cases[i].url, err.message);
        }
        assert_string_equal(got.origin, cases[i].origin);
        assert_string_equal(got.host, cases[i].host);
        assert_string_equal(got.base_path, cases[i].base_path);
        assert_string_equal(got.prefix, cases[i].prefix);
        assert_string_equal(got.region, cases[i].region);
        assert_int_equal(got.tls, cases[i].tls);
        hadb__s3_config_deinit(&got);
    }
}

static void environment__fills_in_what_the_url_leaves_out(void **state)
{
    (void)state;
    static const char *const given[] = {
        "AWS_REGION",  "ap-south-1", "AWS_ENDPOINT_URL_S3", "http://localhost:1", "AWS_CA_BUNDLE",
        "/etc/ca.pem", NULL};
    struct hadb__s3_config got = {0};
    struct hadb_error err;
    variables = given;
    assert_int_equal(open_url("s3://bucket", &got, &err), 0);
    assert_string_equal(got.region, "ap-south-1");
    assert_string_equal(got.origin, "http://localhost:1");
    assert_string_equal(got.ca, "/etc/ca.pem");
    assert_true(got.loopback);
    hadb__s3_config_deinit(&got);
    assert_int_equal(open_url("s3://bucket?region=r&endpoint=https://h&ca=/c&profile=p"
                              "&connect_timeout_ms=5&idle_timeout_ms=6",
                              &got, &err),
                     0);
    assert_string_equal(got.region, "r");
    assert_string_equal(got.origin, "https://h");
    assert_string_equal(got.ca, "/c");
    assert_string_equal(got.profile, "p");
    assert_int_equal(got.connect_ms_max, 5);
    assert_int_equal(got.idle_ms_max, 6);
    assert_false(got.loopback);
    hadb__s3_config_deinit(&got);
    variables = NULL;
}

static void bad__url_is_refused_with_the_part_that_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *url, *says;
    } cases[] = {
        {"s3://", "bucket"},
        {"s3://ab", "bucket"},
        {"s3://a!c", "bucket"},
        {"s3:///prefix", "bucket"},
        {"s3://bucket", "no region"},
        {"s3://bucket?region=", "region must be a name"},
        {"s3://bucket?region=a%2Fb", "region must be a name"},
        {"s3://bucket//x?region=r", "prefix"},
        {"s3://bucket/a/../b?region=r", "prefix"},
        {"s3://bucket?endpoint=ftp://h", "endpoint"},
        {"s3://bucket?endpoint=h:9000", "endpoint"},
        {"s3://bucket?endpoint=", "endpoint"},
        {"s3://bucket?endpoint=http://h/path", "no path"},
        {"s3://bucket?endpoint=http://user:hidden@h", "user"},
        {"s3://bucket?endpoint=http://127.0.0.1:9000&path_style=0", "path_style=1"},
        {"s3://bucket?region=r&path_style=2", "path_style"},
        {"s3://bucket?region=r&idle_timeout_ms=0", "idle_timeout_ms"},
        {"s3://bucket?region=r&regoin=r", "regoin"},
    };
    variables = NULL;
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct hadb__s3_config got = {0};
        struct hadb_error err;
        assert_int_equal(open_url(cases[i].url, &got, &err), HADB_EINVAL);
        if (!strstr(err.message, cases[i].says) || strstr(err.message, "hidden")) {
            fail_msg("%s: '%s' does not say '%s'", cases[i].url, err.message, cases[i].says);
        }
    }
}

static void out_of_memory__leaves_nothing_behind(void **state)
{
    (void)state;
    bool hit = true;
    variables = NULL;
    for (uint64_t n = 1; hit && n < 100; n++) {
        struct hadb__s3_config got = {0};
        struct hadb_error err;
        test_alloc_fail_at(n);
        int r = open_url("s3://bucket/a?endpoint=http://127.0.0.1:9&ca=/c&profile=p", &got, &err);
        hit = test_alloc_hit();
        hadb__s3_config_deinit(&got);
        assert_int_equal(test_alloc_live(), 0);
        test_alloc_reset();
        assert_int_equal(r, hit ? HADB_ENOMEM : 0);
    }
    assert_false(hit);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(url__says_where_requests_go),
        cmocka_unit_test(environment__fills_in_what_the_url_leaves_out),
        cmocka_unit_test(bad__url_is_refused_with_the_part_that_is_wrong),
        cmocka_unit_test(out_of_memory__leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
