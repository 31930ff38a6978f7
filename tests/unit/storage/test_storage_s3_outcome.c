/* SPDX-License-Identifier: Apache-2.0 */
/* Requests as they are built and signed, and the verdict on every kind of reply: no server, no network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "storage/s3_private.h"
#include "tests/support/support.h"

static char bucket[] = "bucket", prefix[] = "pre/fix", region[] = "eu-central-1";
static char endpoint[] = "https://s3.example", origin[] = "https://bucket.s3.example";
static char host[] = "bucket.s3.example", nothing[] = "";
static const struct hadb__s3_config config = {
    .bucket = bucket,
    .prefix = prefix,
    .region = region,
    .endpoint = endpoint,
    .origin = origin,
    .host = host,
    .base_path = nothing,
    .tls = true,
};
static char key_id[] = "KEYID", secret[] = "SECRET", token[] = "TOKEN";
static const struct hadb__s3_creds creds = {.key_id = key_id, .secret = secret, .token = token};
static const struct hadb_tag some_tag = {"\"abc\""};

static struct hadb__http_reply reply; /* large: not on the stack */

static struct hadb__http_reply *answer(int status, const char *code)
{
    hadb__http_reply_deinit(&reply);
    reply = (struct hadb__http_reply){.sent = true,
                                      .status = status,
                                      .length = 0,
                                      .date_unix_s = -1,
                                      .of_s3 = true,
                                      .etag = "\"tag\""};
    if (code) {
        int len = snprintf(reply.error_body, sizeof(reply.error_body),
                           "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>why</Message>"
                           "<Region>us-west-2</Region></Error>",
                           code);
        reply.error_len = (size_t)len;
    }
    return &reply;
}

static struct hadb__s3_request request_of(enum hadb_storage_op op)
{
    return (struct hadb__s3_request){.op = op, .creates = op == HADB_STORAGE_OP_CREATE};
}

static int outcome(enum hadb_storage_op op, int status, const char *code, struct hadb_error *err)
{
    struct hadb__s3_request q = request_of(op);
    *err = (struct hadb_error){0};
    return hadb__s3_outcome(&config, &q, answer(status, code), err);
}

static bool is_unknown_status(int status)
{
    return status < 200 || status >= 500 || status == 408 || status == 409 || status == 425 ||
           status == 429 || status == 499 ||
           (status < 300 && status != 200 && status != 201 && status != 204);
}

static int put_model(enum hadb_storage_op op, int status)
{
    bool creates = op == HADB_STORAGE_OP_CREATE;
    if (is_unknown_status(status)) {
        return HADB_ETIMEDOUT;
    }
    switch (status) {
    case 200:
    case 201:
    case 204:
        return 0;
    case 401:
    case 403:
        return HADB_EAUTH;
    case 404:
        return creates ? HADB_EIO : HADB_CAS_LOST;
    case 412:
        return creates ? HADB_EXISTS : HADB_CAS_LOST;
    case 413:
        return HADB_ETOOBIG;
    default:
        return status < 400 ? HADB_EINVAL : HADB_EIO;
    }
}

static void put__status_decides_between_done_refused_and_unknown(void **state)
{
    (void)state;
    struct hadb_error err;
    static const enum hadb_storage_op ops[] = {HADB_STORAGE_OP_CREATE, HADB_STORAGE_OP_REPLACE};
    static const char *const codes[] = {NULL, "SomethingNew", "NoSuchKey", "SlowDown",
                                        "InternalError"};
    for (size_t o = 0; o < HADB_LEN(ops); o++) {
        for (int status = 100; status <= 599; status++) {
            for (size_t c = 0; c < HADB_LEN(codes); c++) {
                assert_int_equal(outcome(ops[o], status, codes[c], &err),
                                 put_model(ops[o], status));
                if (err.code) {
                    assert_int_equal(err.http_status, status);
                    assert_non_null(strstr(err.message, "bucket"));
                }
            }
        }
    }
}

static void read__is_absent_only_with_404_and_done_only_with_200(void **state)
{
    (void)state;
    struct hadb_error err;
    static const enum hadb_storage_op ops[] = {HADB_STORAGE_OP_GET, HADB_STORAGE_OP_HEAD,
                                               HADB_STORAGE_OP_LIST, HADB_STORAGE_OP_GET_RANGE,
                                               HADB_STORAGE_OP_DELETE_MANY};
    for (size_t o = 0; o < HADB_LEN(ops); o++) {
        bool ranged = ops[o] == HADB_STORAGE_OP_GET_RANGE;
        bool of_object = o < 2 || ranged;
        for (int status = 100; status <= 599; status++) {
            int r = outcome(ops[o], status, NULL, &err);
            if (status == 200 || (ranged && (status == 206 || status == 416))) {
                assert_int_equal(r, 0);
            } else if (status == 404 && of_object) {
                assert_int_equal(r, HADB_ABSENT);
            } else {
                assert_true(r < 0);
            }
        }
    }
}

/* A gateway that lost its way to the store must not look like a store without objects. */
static void absent__is_believed_only_of_s3_itself(void **state)
{
    (void)state;
    static const enum hadb_storage_op ops[] = {HADB_STORAGE_OP_GET, HADB_STORAGE_OP_GET_RANGE,
                                               HADB_STORAGE_OP_REPLACE};
    static const char page[] = "<html><body>default backend - 404</body></html>";
    for (size_t o = 0; o < HADB_LEN(ops); o++) {
        struct hadb_error err = {0};
        struct hadb__s3_request q = request_of(ops[o]);
        struct hadb__http_reply *r = answer(404, NULL);
        memcpy(r->error_body, page, sizeof(page) - 1);
        r->error_len = sizeof(page) - 1;
        assert_int_equal(hadb__s3_outcome(&config, &q, r, &err), HADB_EIO);
        assert_non_null(strstr(err.message, "not an answer of S3"));
        /* Proxies without a route say nothing at all. */
        r = answer(404, NULL);
        r->of_s3 = false;
        assert_int_equal(hadb__s3_outcome(&config, &q, r, &err), HADB_EIO);
        r = answer(404, "NoSuchKey");
        r->of_s3 = false; /* not all servers have the header */
        assert_int_equal(hadb__s3_outcome(&config, &q, r, &err),
                         ops[o] == HADB_STORAGE_OP_REPLACE ? HADB_CAS_LOST : HADB_ABSENT);
    }
}

/* What S3 said of a write cannot be read: only a status that says it all by itself is believed. */
static void out_of_memory__never_makes_an_unknown_write_definite(void **state)
{
    (void)state;
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        struct hadb_error err = {0};
        struct hadb__s3_request q = request_of(HADB_STORAGE_OP_CREATE);
        struct hadb__http_reply *r = answer(400, "RequestTimeout");
        test_alloc_fail_at(n);
        int got = hadb__s3_outcome(&config, &q, r, &err);
        hit = test_alloc_hit();
        test_alloc_reset();
        assert_int_equal(got, HADB_ETIMEDOUT);
        test_alloc_fail_at(n);
        got = hadb__s3_outcome(&config, &q, answer(412, "PreconditionFailed"), &err);
        test_alloc_reset();
        assert_int_equal(got, HADB_EXISTS);
    }
}

static void put__without_a_tag_in_the_reply_is_unknown(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    struct hadb__s3_request q = request_of(HADB_STORAGE_OP_CREATE);
    struct hadb__http_reply *r = answer(200, NULL);
    r->etag[0] = '\0';
    assert_int_equal(hadb__s3_outcome(&config, &q, r, &err), HADB_ETIMEDOUT);
    q = request_of(HADB_STORAGE_OP_GET);
    assert_int_equal(hadb__s3_outcome(&config, &q, r, &err), HADB_EIO);
    q = request_of(HADB_STORAGE_OP_HEAD);
    assert_int_equal(hadb__s3_outcome(&config, &q, r, &err), HADB_EIO);
}

/* The tag of an upload is read from the body: what could not be sent back in a header is none. */
static void completion__without_a_usable_tag_is_unknown(void **state)
{
    (void)state;
    static const struct {
        const char *tag;
        int want;
    } cases[] = {{"&quot;abc-2&quot;", 0},
                 {"abc-2", 0},
                 {"*", HADB_ETIMEDOUT},
                 {"&quot;a&#10;x-evil: 1&quot;", HADB_ETIMEDOUT},
                 {"&quot;a&quot;,&quot;b&quot;", HADB_ETIMEDOUT},
                 {"\xc3\xa9", HADB_ETIMEDOUT}};
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct hadb_error err = {0};
        struct hadb__s3_request q = request_of(HADB_STORAGE_OP_CREATE);
        struct hadb__http_reply *r = answer(200, NULL);
        q.step = HADB__S3_COMPLETE;
        assert_int_equal(hadb_buf_printf(&r->body,
                                         "<CompleteMultipartUploadResult><ETag>%s</ETag>"
                                         "</CompleteMultipartUploadResult>",
                                         cases[i].tag),
                         0);
        assert_int_equal(hadb__s3_outcome(&config, &q, r, &err), cases[i].want);
    }
}

/* S3 sends blanks while it puts the parts together, so that the connection does not seem idle. */
static void completion__may_begin_with_blanks(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    struct hadb__s3_request q = request_of(HADB_STORAGE_OP_CREATE);
    struct hadb__http_reply *r = answer(200, NULL);
    q.step = HADB__S3_COMPLETE;
    r->etag[0] = '\0';
    assert_int_equal(hadb_buf_append_str(&r->body,
                                         " \r\n\t  <?xml version=\"1.0\"?>\n  "
                                         "<CompleteMultipartUploadResult><ETag>\"t-2\"</ETag>"
                                         "</CompleteMultipartUploadResult>"),
                     0);
    assert_int_equal(hadb__s3_outcome(&config, &q, r, &err), 0);
    assert_string_equal(r->etag, "\"t-2\"");
}

static void get__without_a_length_is_refused(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    struct hadb__s3_request q = request_of(HADB_STORAGE_OP_GET);
    struct hadb__http_reply *r = answer(200, NULL);
    r->length = -1;
    assert_int_equal(hadb__s3_outcome(&config, &q, r, &err), HADB_EIO);
    assert_true(err.retryable);
    r->chunked = true;
    assert_int_equal(hadb__s3_outcome(&config, &q, r, &err), 0);
}

static void broken__write_is_unknown_once_it_was_sent_and_surely_not_done_before(void **state)
{
    (void)state;
    static const enum hadb_storage_op ops[] = {HADB_STORAGE_OP_CREATE, HADB_STORAGE_OP_REPLACE};
    static const int before[] = {
        [HADB__HTTP_UNREACHABLE] = HADB_EUNAVAIL, [HADB__HTTP_UNTRUSTED] = HADB_EAUTH,
        [HADB__HTTP_CANCELED] = HADB_ECANCELED,   [HADB__HTTP_LATE] = HADB_EUNAVAIL,
        [HADB__HTTP_IDLE] = HADB_EUNAVAIL,        [HADB__HTTP_BROKEN] = HADB_EUNAVAIL,
        [HADB__HTTP_TOO_BIG] = HADB_ETOOBIG,      [HADB__HTTP_NO_MEMORY] = HADB_ENOMEM,
    };
    for (size_t o = 0; o < HADB_LEN(ops); o++) {
        for (int f = HADB__HTTP_UNREACHABLE; f <= HADB__HTTP_NO_MEMORY; f++) {
            struct hadb_error err = {0};
            struct hadb__s3_request q = request_of(ops[o]);
            struct hadb__http_reply *r = answer(f % 2 ? 200 : 412, NULL);
            r->failure = (enum hadb__http_failure)f;
            assert_int_equal(hadb__s3_outcome(&config, &q, r, &err), HADB_ETIMEDOUT);
            r->sent = false;
            assert_int_equal(hadb__s3_outcome(&config, &q, r, &err), before[f]);
        }
    }
}

static void broken__read_says_why(void **state)
{
    (void)state;
    static const int want[] = {
        [HADB__HTTP_UNREACHABLE] = HADB_EUNAVAIL, [HADB__HTTP_UNTRUSTED] = HADB_EAUTH,
        [HADB__HTTP_CANCELED] = HADB_ECANCELED,   [HADB__HTTP_LATE] = HADB_ETIMEDOUT,
        [HADB__HTTP_IDLE] = HADB_ETIMEDOUT,       [HADB__HTTP_BROKEN] = HADB_EIO,
        [HADB__HTTP_TOO_BIG] = HADB_ETOOBIG,      [HADB__HTTP_NO_MEMORY] = HADB_ENOMEM,
    };
    for (int f = HADB__HTTP_UNREACHABLE; f <= HADB__HTTP_NO_MEMORY; f++) {
        struct hadb_error err = {0};
        struct hadb__s3_request q = request_of(HADB_STORAGE_OP_GET);
        struct hadb__http_reply *r = answer(200, NULL);
        r->failure = (enum hadb__http_failure)f;
        assert_int_equal(hadb__s3_outcome(&config, &q, r, &err), want[f]);
    }
}

static void refusal__is_typed_by_the_code_of_s3(void **state)
{
    (void)state;
    static const struct {
        enum hadb_storage_op op;
        int status;
        const char *code;
        int want;
        bool retryable;
        const char *says;
    } cases[] = {
        {HADB_STORAGE_OP_CREATE, 403, "AccessDenied", HADB_EAUTH, false, "AccessDenied: why"},
        {HADB_STORAGE_OP_GET, 403, "InvalidAccessKeyId", HADB_EAUTH, false, "InvalidAccessKeyId"},
        {HADB_STORAGE_OP_REPLACE, 400, "ExpiredToken", HADB_EAUTH, false, "ExpiredToken"},
        {HADB_STORAGE_OP_GET, 404, "NoSuchBucket", HADB_EINVAL, false, "no bucket bucket"},
        {HADB_STORAGE_OP_CREATE, 404, "NoSuchBucket", HADB_EINVAL, false, "no bucket bucket"},
        {HADB_STORAGE_OP_REPLACE, 404, "NoSuchBucket", HADB_EINVAL, false, "no bucket bucket"},
        {HADB_STORAGE_OP_CREATE, 301, "PermanentRedirect", HADB_EINVAL, false, "region=us-west-2"},
        {HADB_STORAGE_OP_GET, 307, "TemporaryRedirect", HADB_EINVAL, false, "region=us-west-2"},
        {HADB_STORAGE_OP_GET, 400, "AuthorizationHeaderMalformed", HADB_EINVAL, false,
         "region us-west-2, not eu-central-1"},
        {HADB_STORAGE_OP_GET, 503, "SlowDown", HADB_EUNAVAIL, true, "SlowDown"},
        {HADB_STORAGE_OP_LIST, 429, "TooManyRequests", HADB_EUNAVAIL, true, "TooManyRequests"},
        {HADB_STORAGE_OP_GET, 500, "InternalError", HADB_EIO, true, "InternalError"},
        {HADB_STORAGE_OP_CREATE, 503, "SlowDown", HADB_ETIMEDOUT, true, "SlowDown"},
        {HADB_STORAGE_OP_CREATE, 409, "ConditionalRequestConflict", HADB_ETIMEDOUT, true, "409"},
        {HADB_STORAGE_OP_CREATE, 400, "RequestTimeout", HADB_ETIMEDOUT, true, "RequestTimeout"},
        {HADB_STORAGE_OP_CREATE, 501, "NotImplemented", HADB_ENOTSUP, false, "NotImplemented"},
        {HADB_STORAGE_OP_CREATE, 501, "Other", HADB_ETIMEDOUT, true, "Other"},
        {HADB_STORAGE_OP_CREATE, 400, "EntityTooLarge", HADB_ETOOBIG, false, "EntityTooLarge"},
        {HADB_STORAGE_OP_CREATE, 400, "BadDigest", HADB_EIO, true, "BadDigest"},
        {HADB_STORAGE_OP_CREATE, 400, "InvalidArgument", HADB_EIO, false, "InvalidArgument"},
    };
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct hadb_error err;
        assert_int_equal(outcome(cases[i].op, cases[i].status, cases[i].code, &err), cases[i].want);
        assert_int_equal(err.retryable, cases[i].retryable);
        assert_int_equal(err.http_status, cases[i].status);
        if (!strstr(err.message, cases[i].says)) {
            fail_msg("'%s' does not say '%s'", err.message, cases[i].says);
        }
    }
}

static void redirect__names_the_region_of_the_header(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    struct hadb__s3_request q = request_of(HADB_STORAGE_OP_HEAD);
    struct hadb__http_reply *r = answer(301, NULL);
    strcpy(r->region, "ap-south-1");
    assert_int_equal(hadb__s3_outcome(&config, &q, r, &err), HADB_EINVAL);
    assert_non_null(strstr(err.message, "set region=ap-south-1"));
}

static void advice__is_given_only_for_refusals_that_a_signature_can_mend(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *code;
        int64_t skew_s;
        enum hadb__s3_advice want;
    } cases[] = {
        {403, "RequestTimeTooSkewed", 1000, HADB__S3_LEARN_CLOCK},
        {403, "RequestTimeTooSkewed", -1000, HADB__S3_LEARN_CLOCK},
        {403, "RequestTimeTooSkewed", 0, HADB__S3_SETTLED},
        {403, NULL, 1000, HADB__S3_LEARN_CLOCK}, /* HEAD: no body tells why */
        {403, NULL, 5, HADB__S3_RENEW_CREDENTIALS},
        {403, "AccessDenied", 1000, HADB__S3_SETTLED},
        {400, "ExpiredToken", 1000, HADB__S3_RENEW_CREDENTIALS},
        {403, "InvalidAccessKeyId", 0, HADB__S3_RENEW_CREDENTIALS},
        {403, "SignatureDoesNotMatch", 0, HADB__S3_RENEW_CREDENTIALS},
        {400, NULL, 1000, HADB__S3_SETTLED},
        {503, "SlowDown", 1000, HADB__S3_SETTLED},
        {409, "RequestTimeTooSkewed", 1000, HADB__S3_SETTLED},
        {200, NULL, 1000, HADB__S3_SETTLED},
        {412, NULL, 1000, HADB__S3_SETTLED},
    };
    struct hadb__s3_request q = request_of(HADB_STORAGE_OP_CREATE);
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct hadb__http_reply *r = answer(cases[i].status, cases[i].code);
        r->date_unix_s = 5000 + cases[i].skew_s;
        assert_int_equal(hadb__s3_advise(&q, r, 5000), cases[i].want);
        r->failure = HADB__HTTP_BROKEN;
        assert_int_equal(hadb__s3_advise(&q, r, 5000), HADB__S3_SETTLED);
    }
    struct hadb__http_reply *r = answer(403, "RequestTimeTooSkewed");
    assert_int_equal(hadb__s3_advise(&q, r, 5000), HADB__S3_SETTLED); /* no Date to learn from */
}

static void range__must_be_the_one_that_was_asked_for(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *content_range, *body;
        int want;
        const char *part;
    } cases[] = {
        {206, "bytes 3-5/10", "345", 0, "345"},
        {206, "bytes 3-6/7", "3456", 0, "3456"},
        {206, "bytes 3-5/*", "345", 0, "345"},
        {206, "bytes 2-4/10", "234", HADB_EIO, NULL},
        {206, "bytes 3-5/10", "34", HADB_EIO, NULL},
        {206, "bytes 3-7/10", "34567", HADB_EIO, NULL}, /* more than was asked for */
        {206, "", "345", HADB_EIO, NULL},
        {206, "bytes 3/5-10", "345", HADB_EIO, NULL},
        {206, "bytes 3-2/10", "", HADB_EIO, NULL},
        {206, "bytes 3-99999999999999999999/1", "345", HADB_EIO, NULL},
        {200, "", "0123456789", 0, "3456"},
        {200, "", "0123", 0, "3"},
        {200, "", "01", 0, ""},
        {416, "bytes */2", "", 0, ""},
    };
    const struct hadb_storage_io io = {.type = HADB_IO_GET_RANGE, .offset = 3, .len = 4};
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct hadb_slice part = {0};
        struct hadb_error err = {0};
        struct hadb__http_reply *r = answer(cases[i].status, NULL);
        strcpy(r->content_range, cases[i].content_range);
        assert_int_equal(hadb_buf_append_str(&r->body, cases[i].body), 0);
        assert_int_equal(hadb__http_range_of(&io, r, &part, &err), cases[i].want);
        if (cases[i].part) {
            assert_true(hadb_slice_eq(part, hadb_slice_str(cases[i].part)));
        }
    }
}

static void deletion__counts_what_is_left(void **state)
{
    (void)state;
    static const struct {
        const char *xml;
        int want;
    } cases[] = {
        {"<DeleteResult/>", 0},
        {"<DeleteResult><Error><Key>k</Key><Code>NoSuchKey</Code></Error></DeleteResult>", 0},
        {"<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error></DeleteResult>",
         HADB_EAUTH},
        {"<DeleteResult><Error><Code>InternalError</Code></Error></DeleteResult>", HADB_EIO},
        {"<DeleteResult><Error/></DeleteResult>", HADB_EIO},
        {"<DeleteResult>", HADB_ETIMEDOUT},
        {"", HADB_ETIMEDOUT},
    };
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct hadb_error err = {0};
        struct hadb__http_reply *r = answer(200, NULL);
        assert_int_equal(hadb_buf_append_str(&r->body, cases[i].xml), 0);
        assert_int_equal(hadb__s3_delete_result(&config, r, &err), cases[i].want);
    }
}

/* --- building and signing ----------------------------------------------------------------------- */

static const char *header_of(const struct hadb__s3_request *q, const char *name)
{
    for (size_t i = 0; i < q->headers_len; i++) {
        if (strcmp(q->headers[i].name, name) == 0) {
            return q->headers[i].value;
        }
    }
    return NULL;
}

static void put__always_has_a_condition_and_the_signature_covers_it(void **state)
{
    (void)state;
    struct hadb__s3_request q = {0};
    struct hadb_error err = {0};
    assert_int_equal(hadb__s3_build_put(&config, "k", hadb_slice_str("body"), NULL, &q, &err), 0);
    assert_string_equal(header_of(&q, "If-None-Match"), "*");
    assert_null(header_of(&q, "If-Match"));
    assert_int_equal(hadb__s3_sign_request(&config, &creds, 1440938160, &q, &err), 0);
    assert_non_null(strstr(header_of(&q, "Authorization"), ";if-none-match;"));
    assert_non_null(strstr(header_of(&q, "Authorization"), ";x-amz-security-token,"));
    assert_string_equal(header_of(&q, "x-amz-security-token"), "TOKEN");
    assert_string_equal(header_of(&q, "x-amz-date"), "20150830T123600Z");
    assert_string_equal((char *)q.url.data, "https://bucket.s3.example/pre/fix/k");
    hadb__s3_request_deinit(&q);
    assert_int_equal(hadb__s3_build_put(&config, "k", hadb_slice_str("body"), &some_tag, &q, &err),
                     0);
    assert_string_equal(header_of(&q, "If-Match"), "\"abc\"");
    assert_null(header_of(&q, "If-None-Match"));
    assert_int_equal(hadb__s3_sign_request(&config, &creds, 1440938160, &q, &err), 0);
    assert_non_null(strstr(header_of(&q, "Authorization"), ";if-match;"));
    hadb__s3_request_deinit(&q);
}

static void request__can_be_signed_again(void **state)
{
    (void)state;
    struct hadb__s3_request q = {0};
    struct hadb_error err = {0};
    char first[256];
    assert_int_equal(hadb__s3_build_get(&config, "k", &q, &err), 0);
    assert_int_equal(hadb__s3_sign_request(&config, &creds, 1440938160, &q, &err), 0);
    size_t len = q.headers_len;
    strcpy(first, strstr(header_of(&q, "Authorization"), "Signature="));
    assert_int_equal(hadb__s3_sign_request(&config, &creds, 1440938161, &q, &err), 0);
    assert_int_equal(q.headers_len, len);
    assert_null(strstr(header_of(&q, "Authorization"), first));
    assert_int_equal(hadb__s3_sign_request(&config, &creds, 1440938160, &q, &err), 0);
    assert_non_null(strstr(header_of(&q, "Authorization"), first));
    hadb__s3_request_deinit(&q);
}

static void large__body_over_tls_goes_unsigned_with_a_checksum(void **state)
{
    (void)state;
    struct hadb__s3_request q = {0};
    struct hadb_error err = {0};
    struct hadb__s3_config clear = config;
    size_t len = HADB_S3_SIGNED_BODY_BYTES_MAX + 1;
    uint8_t *zeros = calloc(1, len);
    struct hadb_slice body = hadb_slice(zeros, len);
    clear.tls = false;
    assert_int_equal(hadb__s3_build_put(&config, "k", body, NULL, &q, &err), 0);
    assert_int_equal(hadb__s3_sign_request(&config, &creds, 1440938160, &q, &err), 0);
    assert_string_equal(header_of(&q, "x-amz-content-sha256"), "UNSIGNED-PAYLOAD");
    assert_int_equal(strlen(header_of(&q, "x-amz-checksum-crc32c")), 8);
    hadb__s3_request_deinit(&q);
    assert_int_equal(hadb__s3_build_put(&clear, "k", body, NULL, &q, &err), 0);
    assert_int_equal(hadb__s3_sign_request(&clear, &creds, 1440938160, &q, &err), 0);
    assert_int_equal(strlen(header_of(&q, "x-amz-content-sha256")), 64);
    hadb__s3_request_deinit(&q);
    body.len--;
    assert_int_equal(hadb__s3_build_put(&config, "k", body, NULL, &q, &err), 0);
    assert_null(header_of(&q, "x-amz-checksum-crc32c"));
    hadb__s3_request_deinit(&q);
    free(zeros);
}

static void listing__asks_with_a_sorted_and_encoded_query(void **state)
{
    (void)state;
    struct hadb__s3_request q = {0};
    struct hadb_error err = {0};
    assert_int_equal(hadb__s3_build_list(&config, "pre/fix/", "pre/fix/a b", 17, &q, &err), 0);
    assert_string_equal((char *)q.query.data,
                        "encoding-type=url&list-type=2&max-keys=17&prefix=pre%2Ffix%2F&"
                        "start-after=pre%2Ffix%2Fa%20b");
    assert_string_equal((char *)q.path.data, "/");
    hadb__s3_request_deinit(&q);
    assert_int_equal(hadb__s3_build_list(&config, "", "", 1, &q, &err), 0);
    assert_null(strstr((char *)q.query.data, "start-after"));
    hadb__s3_request_deinit(&q);
}

static void deletion__names_the_keys_and_carries_a_digest(void **state)
{
    (void)state;
    static const char *const keys[] = {"a", "b/c"};
    struct hadb__s3_request q = {0};
    struct hadb_error err = {0};
    assert_int_equal(hadb__s3_build_delete(&config, keys, 2, &q, &err), 0);
    assert_string_equal(q.method, "POST");
    assert_string_equal((char *)q.query.data, "delete=");
    assert_true(hadb_slice_eq(
        q.body, hadb_slice_str("<Delete><Quiet>true</Quiet><Object><Key>pre/fix/a</Key></Object>"
                               "<Object><Key>pre/fix/b/c</Key></Object></Delete>")));
    assert_string_equal(header_of(&q, "Content-MD5"), "X5NCCDN5VvsOinr8Zd4QEQ==");
    hadb__s3_request_deinit(&q);
}

static void long__key_is_refused_when_the_prefix_makes_it_too_long(void **state)
{
    (void)state;
    struct hadb__s3_request q = {0};
    struct hadb_error err = {0};
    char key[HADB_S3_KEY_BYTES_MAX + 1];
    size_t fits = HADB_S3_KEY_BYTES_MAX - strlen(prefix) - 1;
    const char *keys[] = {key};
    memset(key, 'k', sizeof(key));
    key[fits + 1] = '\0';
    assert_int_equal(hadb__s3_build_get(&config, key, &q, &err), HADB_EINVAL);
    assert_int_equal(hadb__s3_build_put(&config, key, hadb_slice_str(""), NULL, &q, &err),
                     HADB_EINVAL);
    assert_int_equal(hadb__s3_build_delete(&config, keys, 1, &q, &err), HADB_EINVAL);
    key[fits] = '\0';
    assert_int_equal(hadb__s3_build_get(&config, key, &q, &err), 0);
    hadb__s3_request_deinit(&q);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(put__status_decides_between_done_refused_and_unknown),
        cmocka_unit_test(read__is_absent_only_with_404_and_done_only_with_200),
        cmocka_unit_test(absent__is_believed_only_of_s3_itself),
        cmocka_unit_test(out_of_memory__never_makes_an_unknown_write_definite),
        cmocka_unit_test(put__without_a_tag_in_the_reply_is_unknown),
        cmocka_unit_test(completion__without_a_usable_tag_is_unknown),
        cmocka_unit_test(completion__may_begin_with_blanks),
        cmocka_unit_test(get__without_a_length_is_refused),
        cmocka_unit_test(broken__write_is_unknown_once_it_was_sent_and_surely_not_done_before),
        cmocka_unit_test(broken__read_says_why),
        cmocka_unit_test(refusal__is_typed_by_the_code_of_s3),
        cmocka_unit_test(redirect__names_the_region_of_the_header),
        cmocka_unit_test(advice__is_given_only_for_refusals_that_a_signature_can_mend),
        cmocka_unit_test(range__must_be_the_one_that_was_asked_for),
        cmocka_unit_test(deletion__counts_what_is_left),
        cmocka_unit_test(put__always_has_a_condition_and_the_signature_covers_it),
        cmocka_unit_test(request__can_be_signed_again),
        cmocka_unit_test(large__body_over_tls_goes_unsigned_with_a_checksum),
        cmocka_unit_test(listing__asks_with_a_sorted_and_encoded_query),
        cmocka_unit_test(deletion__names_the_keys_and_carries_a_digest),
        cmocka_unit_test(long__key_is_refused_when_the_prefix_makes_it_too_long),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    hadb__http_reply_deinit(&reply);
    return failed;
}
