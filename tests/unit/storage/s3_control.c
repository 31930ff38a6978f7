/* SPDX-License-Identifier: Apache-2.0 */
/* See s3_control.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/storage/s3_control.h"

struct answer {
    char text[262144];
    size_t len;
};

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct answer *answer = arg;
    size_t len = size * count;
    if (len > sizeof(answer->text) - answer->len) {
        return 0;
    }
    memcpy(answer->text + answer->len, data, len);
    answer->len += len;
    return len;
}

static json_t *send_wish(const char *wish)
{
    static struct answer answer;
    const char *url = getenv("HADB_TEST_S3_CONTROL");
    assert_non_null(url); /* run it through tests/support/with_s3.py */
    CURL *easy = curl_easy_init();
    assert_non_null(easy);
    answer.len = 0;
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, wish);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &answer);
    CURLcode code = curl_easy_perform(easy);
    curl_easy_cleanup(easy);
    if (code != CURLE_OK) {
        fail_msg("the scripted server does not take %s: %s", wish, curl_easy_strerror(code));
    }
    json_t *root = json_loadb(answer.text, answer.len, 0, NULL);
    assert_non_null(root);
    return root;
}

json_t *s3_control(const char *fmt, ...)
{
    char wish[4096];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(wish, sizeof(wish), fmt, args);
    va_end(args);
    assert_in_range(len, 0, sizeof(wish) - 1);
    return send_wish(wish);
}

void s3_tell(const char *fmt, ...)
{
    char wish[4096];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(wish, sizeof(wish), fmt, args);
    va_end(args);
    assert_in_range(len, 0, sizeof(wish) - 1);
    json_decref(send_wish(wish));
}

long long s3_requests(const char *method)
{
    json_t *answer = send_wish("{}");
    json_t *number = method ? json_object_get(json_object_get(answer, "counts"), method)
                            : json_object_get(answer, "total");
    long long count = (long long)json_integer_value(number);
    json_decref(answer);
    return count;
}

const char *s3_origin(void)
{
    static char origin[64];
    const char *url = getenv("HADB_TEST_S3_CONTROL");
    assert_non_null(url);
    snprintf(origin, sizeof(origin), "%.*s", (int)(strstr(url, "/-/") - url), url);
    return origin;
}

void s3_open(const char *more, const struct hadb_env *env, struct hadb_storage *out)
{
    static unsigned serial;
    struct hadb_error err = {0};
    char url[512];
    snprintf(url, sizeof(url), "s3://test-bucket/u%x-%u?endpoint=%s%s", (unsigned)getpid(),
             ++serial, s3_origin(), more);
    if (hadb_storage_open(url, env, out, &err)) {
        fail_msg("%s: %s", url, err.message);
    }
}
