/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The signer against the examples that AWS publishes (the SigV4 test suite, and the S3 API reference's
 * "signature calculations for the Authorization header"), and against libcurl's own signer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <curl/curl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/thread.h"
#include "storage/s3_sign.h"
#include "tests/support/support.h"

#define EMPTY_HASH "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* What the two families of examples share. */
static struct hadb__s3_to_sign suite_request(const struct hadb__http_header *headers, size_t len)
{
    return (struct hadb__s3_to_sign){
        .method = "GET",
        .path = "/",
        .query = "",
        .headers = headers,
        .headers_len = len,
        .payload_hash = EMPTY_HASH,
        .date = "20150830T123600Z",
        .region = "us-east-1",
        .service = "service",
        .key_id = "AKIDEXAMPLE",
        .secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    };
}

static struct hadb__s3_to_sign docs_request(const struct hadb__http_header *headers, size_t len)
{
    struct hadb__s3_to_sign request = suite_request(headers, len);
    request.date = "20130524T000000Z";
    request.service = "s3";
    request.key_id = "AKIAIOSFODNN7EXAMPLE";
    request.secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    return request;
}

static void assert_signature(const struct hadb__s3_to_sign *request, const char *names,
                             const char *signature)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf got = {0};
    char want[1024];
    snprintf(
        want, sizeof(want),
        "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request, SignedHeaders=%s, Signature=%s",
        request->key_id, request->date, request->region, request->service, names, signature);
    assert_int_equal(hadb__s3_sign(request, &got), 0);
    assert_string_equal((const char *)got.data, want);
}

static const struct hadb__http_header suite_headers[] = {{"Host", "example.amazonaws.com"},
                                                         {"X-Amz-Date", "20150830T123600Z"}};

static void signature__is_that_of_the_suite_for_a_bare_get_and_post(void **state)
{
    (void)state;
    struct hadb__s3_to_sign request = suite_request(suite_headers, 2);
    assert_signature(&request, "host;x-amz-date",
                     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    request.method = "POST";
    assert_signature(&request, "host;x-amz-date",
                     "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
}

static void signature__does_not_depend_on_the_order_of_the_headers(void **state)
{
    (void)state;
    const struct hadb__http_header turned[] = {suite_headers[1], suite_headers[0]};
    struct hadb__s3_to_sign request = suite_request(turned, 2);
    assert_signature(&request, "host;x-amz-date",
                     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
}

static void signature__covers_the_query_sorted_by_name(void **state)
{
    (void)state;
    static const struct hadb__s3_param params[] = {{"Param2", "value2"}, {"Param1", "value1"}};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf query = {0};
    struct hadb__s3_to_sign request = suite_request(suite_headers, 2);
    assert_int_equal(hadb__s3_query_encode(params, 2, &query), 0);
    request.query = hadb_buf_cstr(&query);
    assert_string_equal(request.query, "Param1=value1&Param2=value2");
    assert_signature(&request, "host;x-amz-date",
                     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
}

static void signature__encodes_the_path_byte_by_byte(void **state)
{
    (void)state;
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf path = {0};
    struct hadb__s3_to_sign request = suite_request(suite_headers, 2);
    assert_int_equal(hadb__s3_path_encode("/\xe1\x88\xb4", &path), 0);
    request.path = hadb_buf_cstr(&path);
    assert_string_equal(request.path, "/%E1%88%B4");
    assert_signature(&request, "host;x-amz-date",
                     "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85");
    request.path = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    assert_signature(&request, "host;x-amz-date",
                     "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f");
}

static void signature__is_that_of_the_s3_reference(void **state)
{
    (void)state;
    static const struct hadb__http_header ranged[] = {
        {"Host", "examplebucket.s3.amazonaws.com"},
        {"Range", "bytes=0-9"},
        {"x-amz-content-sha256", EMPTY_HASH},
        {"x-amz-date", "20130524T000000Z"},
    };
    struct hadb__s3_to_sign request = docs_request(ranged, 4);
    request.path = "/test.txt";
    assert_signature(&request, "host;range;x-amz-content-sha256;x-amz-date",
                     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    const struct hadb__http_header plain[] = {ranged[0], ranged[2], ranged[3]};
    request = docs_request(plain, 3);
    request.query = "lifecycle=";
    assert_signature(&request, "host;x-amz-content-sha256;x-amz-date",
                     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    request.query = "max-keys=2&prefix=J";
    assert_signature(&request, "host;x-amz-content-sha256;x-amz-date",
                     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void signature__is_that_of_the_s3_reference_for_a_put_with_a_body(void **state)
{
    (void)state;
    char hex[65];
    struct hadb_hash hash;
    hadb_sha256("Welcome to Amazon S3.", 21, &hash);
    hadb_hex_encode(hash.b, sizeof(hash.b), hex);
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf path = {0};
    assert_int_equal(hadb__s3_path_encode("/test$file.text", &path), 0);
    const struct hadb__http_header headers[] = {
        {"Date", "Fri, 24 May 2013 00:00:00 GMT"},
        {"Host", "examplebucket.s3.amazonaws.com"},
        {"x-amz-content-sha256", hex},
        {"x-amz-date", "20130524T000000Z"},
        {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
    };
    struct hadb__s3_to_sign request = docs_request(headers, 5);
    request.method = "PUT";
    request.path = hadb_buf_cstr(&path);
    request.payload_hash = hex;
    assert_signature(&request, "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void canonical__headers_lose_blanks_at_the_ends_and_runs_of_them(void **state)
{
    (void)state;
    static const struct hadb__http_header headers[] = {{"Host", "h"},
                                                       {"My-Header1", "  value1 "},
                                                       {"My-Header2", "\"a   b \t c\""},
                                                       {"My-Header", ""}};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf got = {0};
    struct hadb__s3_to_sign request = suite_request(headers, 4);
    assert_int_equal(hadb__s3_canonical(&request, &got), 0);
    assert_string_equal(hadb_buf_cstr(&got),
                        "GET\n/\n\nhost:h\nmy-header:\nmy-header1:value1\nmy-header2:\"a b c\"\n\n"
                        "host;my-header;my-header1;my-header2\n" EMPTY_HASH);
}

static void query__is_sorted_by_encoded_name_then_value(void **state)
{
    (void)state;
    static const struct hadb__s3_param params[] = {{"b", "2"}, {"a", "~ /+&="}, {"b", "10"},
                                                   {"a-", ""}, {"B", ""},       {"\xc3\xa4", "x"}};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf got = {0};
    assert_int_equal(hadb__s3_query_encode(params, HADB_LEN(params), &got), 0);
    assert_string_equal(hadb_buf_cstr(&got), "%C3%A4=x&B=&a=~%20%2F%2B%26%3D&a-=&b=10&b=2");
    hadb_buf_clear(&got);
    assert_int_equal(hadb__s3_query_encode(NULL, 0, &got), 0);
    assert_int_equal(got.len, 0);
}

static void path__keeps_every_slash_and_dot(void **state)
{
    (void)state;
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf got = {0};
    assert_int_equal(hadb__s3_path_encode("//a/../b c/%2F+*~", &got), 0);
    assert_string_equal(hadb_buf_cstr(&got), "//a/../b%20c/%252F%2B%2A~");
}

static void date__is_written_in_utc(void **state)
{
    (void)state;
    char got[HADB_S3_DATE_BYTES];
    hadb__s3_date(1440938160, got);
    assert_string_equal(got, "20150830T123600Z");
    hadb__s3_date(951782399, got);
    assert_string_equal(got, "20000228T235959Z");
    hadb__s3_date(-5, got);
    assert_string_equal(got, "19700101T000000Z");
    hadb__s3_date(INT64_MAX, got);
    assert_string_equal(got, "99991231T235959Z");
}

static void out_of_memory__is_reported_by_every_step(void **state)
{
    (void)state;
    static const struct hadb__s3_param params[] = {{"a", "1"}, {"b", "2"}};
    bool hit = true;
    for (uint64_t n = 1; hit && n < 100; n++) {
        struct hadb_buf authorization = {0}, query = {0}, path = {0};
        struct hadb__s3_to_sign request = suite_request(suite_headers, 2);
        test_alloc_fail_at(n);
        int r = hadb__s3_sign(&request, &authorization);
        r = r ? r : hadb__s3_query_encode(params, 2, &query);
        r = r ? r : hadb__s3_path_encode("/a b", &path);
        hit = test_alloc_hit();
        assert_int_equal(r, hit ? HADB_ENOMEM : 0);
        hadb_buf_deinit(&authorization);
        hadb_buf_deinit(&query);
        hadb_buf_deinit(&path);
        assert_int_equal(test_alloc_live(), 0);
        test_alloc_reset();
    }
    assert_false(hit);
}

/* --- libcurl as the judge ----------------------------------------------------------------------- */

struct listener {
    int fd;
    uint16_t port;
    struct hadb_thread thread;
    char head[8192]; /* thread, until joined */
};

/* Takes one request, keeps its head, and answers that all is well. */
static void listen_once(void *arg)
{
    static const char reply[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    struct listener *l = arg;
    int fd = accept(l->fd, NULL, NULL);
    size_t len = 0;
    while (fd >= 0 && len < sizeof(l->head) - 1 && !strstr(l->head, "\r\n\r\n")) {
        ssize_t got = recv(fd, l->head + len, sizeof(l->head) - 1 - len, 0);
        if (got <= 0) {
            break;
        }
        len += (size_t)got;
    }
    ssize_t sent = send(fd, reply, sizeof(reply) - 1, MSG_NOSIGNAL);
    assert_int_equal(sent, sizeof(reply) - 1);
    close(fd);
}

static void listener_start(struct listener *l)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(l->fd >= 0);
    assert_int_equal(bind(l->fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(l->fd, 1), 0);
    assert_int_equal(getsockname(l->fd, (struct sockaddr *)&at, &len), 0);
    l->port = ntohs(at.sin_port);
    assert_int_equal(hadb_thread_start(&l->thread, "listener", listen_once, l, NULL), 0);
}

/* The value of a header of the request, in memory of this function. */
static const char *header_of(const struct listener *l, const char *name, size_t len)
{
    static char values[16][512];
    static unsigned next;
    for (const char *line = strstr(l->head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, len) == 0 && line[2 + len] == ':') {
            const char *value = line + 3 + len + strspn(line + 3 + len, " ");
            char *out = values[next++ % HADB_LEN(values)];
            snprintf(out, sizeof(values[0]), "%.*s", (int)strcspn(value, "\r\n"), value);
            return out;
        }
    }
    return NULL;
}

/* Lets libcurl sign and send a request; signs the same request ourselves; both must agree. */
static void assert_agrees_with_curl(const char *method, const char *path, const char *query,
                                    const char *const *more)
{
    struct listener l = {0};
    char url[256];
    listener_start(&l);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s%s%s", l.port, path, *query ? "?" : "", query);
    CURL *easy = curl_easy_init();
    struct curl_slist *lines = curl_slist_append(NULL, "x-amz-content-sha256: " EMPTY_HASH);
    for (; *more; more++) {
        lines = curl_slist_append(lines, *more);
    }
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, lines);
    curl_easy_setopt(easy, CURLOPT_AWS_SIGV4, "aws:amz:eu-central-1:s3");
    curl_easy_setopt(easy, CURLOPT_USERPWD, "AKIDEXAMPLE:some/secret+with=signs");
    assert_int_equal(curl_easy_perform(easy), CURLE_OK);
    hadb_thread_join(&l.thread);
    close(l.fd);
    curl_slist_free_all(lines);
    curl_easy_cleanup(easy);

    const char *authorization = header_of(&l, "authorization", 13);
    assert_non_null(authorization);
    struct hadb__http_header headers[HADB_S3_SIGNED_HEADERS_MAX];
    char names[HADB_S3_SIGNED_HEADERS_MAX][64];
    size_t len = 0;
    const char *at = strstr(authorization, "SignedHeaders=") + strlen("SignedHeaders=");
    for (; *at != ','; at += *at == ';') {
        size_t name_len = strcspn(at, ";,");
        snprintf(names[len], sizeof(names[len]), "%.*s", (int)name_len, at);
        headers[len] = (struct hadb__http_header){names[len], header_of(&l, at, name_len)};
        assert_non_null(headers[len].value);
        len++;
        at += name_len;
    }
    struct hadb__s3_to_sign request = {
        .method = method,
        .path = path,
        .query = query,
        .headers = headers,
        .headers_len = len,
        .payload_hash = EMPTY_HASH,
        .date = header_of(&l, "x-amz-date", 10),
        .region = "eu-central-1",
        .service = "s3",
        .key_id = "AKIDEXAMPLE",
        .secret = "some/secret+with=signs",
    };
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf ours = {0};
    assert_int_equal(hadb__s3_sign(&request, &ours), 0);
    assert_string_equal((const char *)ours.data, authorization);
}

static void signature__is_the_one_that_libcurl_makes(void **state)
{
    (void)state;
    static const char *const none[] = {NULL};
    static const char *const create[] = {"If-None-Match: *",
                                         "Content-Type: application/octet-stream", NULL};
    static const char *const token[] = {"x-amz-security-token: AbC/dEf+gh==", "Range: bytes=3-9",
                                        NULL};
    assert_agrees_with_curl("GET", "/bucket/a/key.txt", "", none);
    assert_agrees_with_curl("GET", "/bucket", "list-type=2&prefix=a%2Fb&start-after=a%2Fb%2F0",
                            none);
    assert_agrees_with_curl("PUT", "/bucket/log/0000/0001", "", create);
    assert_agrees_with_curl("GET", "/bucket/k", "", token);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(signature__is_that_of_the_suite_for_a_bare_get_and_post),
        cmocka_unit_test(signature__does_not_depend_on_the_order_of_the_headers),
        cmocka_unit_test(signature__covers_the_query_sorted_by_name),
        cmocka_unit_test(signature__encodes_the_path_byte_by_byte),
        cmocka_unit_test(signature__is_that_of_the_s3_reference),
        cmocka_unit_test(signature__is_that_of_the_s3_reference_for_a_put_with_a_body),
        cmocka_unit_test(canonical__headers_lose_blanks_at_the_ends_and_runs_of_them),
        cmocka_unit_test(query__is_sorted_by_encoded_name_then_value),
        cmocka_unit_test(path__keeps_every_slash_and_dot),
        cmocka_unit_test(date__is_written_in_utc),
        cmocka_unit_test(out_of_memory__is_reported_by_every_step),
        cmocka_unit_test(signature__is_the_one_that_libcurl_makes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
