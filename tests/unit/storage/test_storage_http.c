/* SPDX-License-Identifier: Apache-2.0 */
/* The backend http://: what each reply means (docs/storage-http.md), what is sent. The service is made of prepared replies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/env.h"
#include "storage/blob_wire.h"
#include "tests/support/canned.h"
#include "tests/support/support.h"

#define CALL_MS 20000u
#define ETAG "ETag: \"t1\"\r\n"
#define OBJECT "Content-Type: application/octet-stream\r\n" ETAG
#define LISTING "Content-Type: application/json\r\n"
#define EMPTY_PAGE "{\"objects\":[],\"truncated\":false}"
/* Of the bytes "object", and of none. */
#define DIGEST "sha-256=:KVjUFtCKpaRy17UJA2y36v1UKt2EUn5moUXqZMtM3HU=:"
#define DIGEST_OF_NONE "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"

struct fixture {
    struct canned server;
    struct hadb_storage s;
    struct hadb_call call;
    struct hadb_buf got;
    struct hadb_tag tag;
    struct hadb_object_meta meta;
    struct hadb_object_list list;
    struct hadb_error err;
};

/* A whole reply in memory of the test's; up to 8 live at once. @headers end in CRLF each. */
static const char *http(int status, const char *headers, const char *body)
{
    static char texts[8][4096];
    static unsigned next;
    char *out = texts[next++ % 8];
    int len = snprintf(out, sizeof(texts[0]), "HTTP/1.1 %d Word\r\n%sContent-Length: %zu\r\n\r\n%s",
                       status, headers, strlen(body), body);
    HADB_ASSERT(len > 0 && (size_t)len < sizeof(texts[0]));
    return out;
}

static void begin(struct fixture *f, const char *user, const char *path, const char *const *replies)
{
    char url[256];
    *f = (struct fixture){.call = hadb_call_within(hadb_env_host(), CALL_MS)};
    canned_start(&f->server, replies);
    snprintf(url, sizeof(url), "http://%s127.0.0.1:%u%s", user, f->server.port, path);
    if (hadb_storage_open(url, NULL, &f->s, &f->err)) {
        fail_msg("%s: %s", url, f->err.message);
    }
}

/* What was asked for, to be freed. */
static char *end(struct fixture *f)
{
    hadb_storage_close(&f->s);
    canned_stop(&f->server);
    hadb_buf_deinit(&f->got);
    hadb_object_list_deinit(&f->list);
    return f->server.asked;
}

static int do_create(struct fixture *f)
{
    return hadb_storage_create(&f->s, &f->call, "a/b", hadb_slice_str("object"), &f->tag, &f->err);
}

static int do_replace(struct fixture *f)
{
    const struct hadb_tag expected = {"\"t0\""};
    return hadb_storage_replace(&f->s, &f->call, "a/b", hadb_slice_str("object"), &expected,
                                &f->tag, &f->err);
}

static int do_get(struct fixture *f)
{
    return hadb_storage_get(&f->s, &f->call, "a/b", &f->got, &f->tag, &f->err);
}

static int do_range(struct fixture *f)
{
    return hadb_storage_get_range(&f->s, &f->call, "a/b", 2, 3, &f->got, &f->err);
}

static int do_head(struct fixture *f)
{
    return hadb_storage_head(&f->s, &f->call, "a/b", &f->meta, &f->err);
}

static int do_list(struct fixture *f)
{
    return hadb_storage_list(&f->s, &f->call, "a/", "a/a", 10, &f->list, &f->err);
}

static int do_delete(struct fixture *f)
{
    static const char *const keys[] = {"a/b", "c"};
    return hadb_storage_delete_many(&f->s, &f->call, keys, HADB_LEN(keys), &f->err);
}

static int after(int (*operation)(struct fixture *), const char *reply)
{
    struct fixture f;
    const char *const replies[] = {reply, NULL};
    begin(&f, "", "", replies);
    int r = operation(&f);
    if (r < 0 && (!f.err.message[0] || strlen(f.err.message) >= sizeof(f.err.message) - 1)) {
        fail_msg("%d without a fitting message: '%s'", r, f.err.message);
    }
    free(end(&f));
    return r;
}

/* --- what a status means ------------------------------------------------------------------------ */

#define SAYS(name) LISTING "Hadb-Error: " name "\r\n"

static const struct {
    int status;
    const char *headers, *body;
    int create, replace, get, list, delete;
} cases[] = {
    {200, OBJECT, "object", 0, 0, 0, HADB_EIO, 0},
    {201, OBJECT, "", 0, 0, HADB_EIO, HADB_EIO, HADB_ETIMEDOUT},
    {204, OBJECT, "", 0, 0, HADB_EIO, HADB_EIO, 0},
    {202, OBJECT, "", HADB_ETIMEDOUT, HADB_ETIMEDOUT, HADB_EIO, HADB_EIO, HADB_ETIMEDOUT},
    {206, OBJECT, "obj", HADB_ETIMEDOUT, HADB_ETIMEDOUT, HADB_EIO, HADB_EIO, HADB_ETIMEDOUT},
    {200, LISTING, EMPTY_PAGE, HADB_ETIMEDOUT, HADB_ETIMEDOUT, HADB_EIO, 0, 0},
    {412, "", "", HADB_EXISTS, HADB_CAS_LOST, HADB_EIO, HADB_EIO, HADB_EIO},
    {404, "", "{\"error\":\"ABSENT\",\"message\":\"m\"}", HADB_EIO, HADB_CAS_LOST, HADB_ABSENT,
     HADB_EIO, HADB_EIO},
    {404, SAYS("ABSENT"), "", HADB_EIO, HADB_CAS_LOST, HADB_ABSENT, HADB_EIO, HADB_EIO},
    {404, SAYS("NOT_FOUND"), "", HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO},
    {404, "", "<html>ABSENT</html>", HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO},
    {410, SAYS("ABSENT"), "", HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO},
    {416, "", "", HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO},
    {302, "Location: http://127.0.0.1:1/\r\n", "", HADB_EINVAL, HADB_EINVAL, HADB_EINVAL,
     HADB_EINVAL, HADB_EINVAL},
    {400, SAYS("EINVAL"), "", HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO},
    {400, SAYS("BAD_DIGEST"), "", HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO},
    {401, "", "", HADB_EAUTH, HADB_EAUTH, HADB_EAUTH, HADB_EAUTH, HADB_EAUTH},
    {403, "", "", HADB_EAUTH, HADB_EAUTH, HADB_EAUTH, HADB_EAUTH, HADB_EAUTH},
    {405, "", "", HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO},
    {413, "", "", HADB_ETOOBIG, HADB_ETOOBIG, HADB_ETOOBIG, HADB_ETOOBIG, HADB_ETOOBIG},
    {428, "", "", HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO, HADB_EIO},
#define UNKNOWN(status) \
    {status, "", "", HADB_ETIMEDOUT, HADB_ETIMEDOUT, HADB_EUNAVAIL, HADB_EUNAVAIL, HADB_ETIMEDOUT}
    UNKNOWN(408),
    UNKNOWN(409),
    UNKNOWN(425),
    UNKNOWN(429), UNKNOWN(499),
    UNKNOWN(500),
    UNKNOWN(501),
    UNKNOWN(502),
    UNKNOWN(503),
    UNKNOWN(504),
    UNKNOWN(507),
    /* Nothing in its body makes a write that a 5xx was said of definite. */
    {503, SAYS("EXISTS"), "{\"error\":\"EXISTS\",\"message\":\"m\"}", HADB_ETIMEDOUT,
     HADB_ETIMEDOUT, HADB_EUNAVAIL, HADB_EUNAVAIL, HADB_ETIMEDOUT},
};

static void status__decides_what_a_call_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        const struct {
            const char *name;
            int (*operation)(struct fixture *);
            int want;
        } each[] = {{"create", do_create, cases[i].create},
                    {"replace", do_replace, cases[i].replace},
                    {"get", do_get, cases[i].get},
                    {"list", do_list, cases[i].list},
                    {"delete", do_delete, cases[i].delete}};
        for (size_t k = 0; k < HADB_LEN(each); k++) {
            bool no_body = cases[i].status == 204;
            const char *reply = no_body ? "HTTP/1.1 204 Word\r\n" ETAG "\r\n"
                                        : http(cases[i].status, cases[i].headers, cases[i].body);
            int r = after(each[k].operation, reply);
            if (r != each[k].want) {
                fail_msg("%d %s%s: %s is %d, not %d", cases[i].status, cases[i].headers,
                         cases[i].body, each[k].name, r, each[k].want);
            }
        }
    }
}

static void tag__must_be_one_that_can_be_sent_back(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "ETag: W/\"t1\"\r\n",
                                      "ETag: t1\r\n",
                                      "ETag: \"\"\r\n",
                                      "ETag: \"a\"b\"\r\n",
                                      "ETag: \"a b\"\r\n",
                                      "ETag: \"a\"\r\nETag: \"b\"\r\n"};
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        char headers[200];
        snprintf(headers, sizeof(headers), "Content-Type: application/octet-stream\r\n%s", bad[i]);
        assert_int_equal(after(do_create, http(201, headers, "")), HADB_ETIMEDOUT);
        assert_int_equal(after(do_replace, http(200, headers, "")), HADB_ETIMEDOUT);
        assert_int_equal(after(do_get, http(200, headers, "object")), HADB_EIO);
        assert_int_equal(after(do_head, http(200, headers, "")), HADB_EIO);
        assert_int_equal(after(do_range, http(200, headers, "object")), 0); /* it needs none */
    }
}

static void reply__that_is_cut_or_too_long_leaves_a_write_unknown(void **state)
{
    (void)state;
    static const char cut[] = "HTTP/1.1 200 OK\r\n" OBJECT "Content-Length: 9\r\n\r\nab";
    static const char endless[] = "HTTP/1.1 200 OK\r\n" OBJECT "\r\nab";
    static const char huge[] = "HTTP/1.1 200 OK\r\n" OBJECT "Content-Length: 99999999999\r\n\r\nab";
    static const char *const broken[] = {"", "HTTP/1.1 200 OK\r\n" ETAG, "SSH-2.0-x\r\n\r\n", cut};
    for (size_t i = 0; i < HADB_LEN(broken); i++) {
        assert_int_equal(after(do_create, broken[i]), HADB_ETIMEDOUT);
        assert_int_equal(after(do_replace, broken[i]), HADB_ETIMEDOUT);
        assert_int_equal(after(do_delete, broken[i]), HADB_ETIMEDOUT);
        assert_int_equal(after(do_get, broken[i]), HADB_EIO);
        assert_int_equal(after(do_list, broken[i]), HADB_EIO);
    }
    assert_int_equal(after(do_get, endless), HADB_EIO);
    assert_int_equal(after(do_create, huge), HADB_ETIMEDOUT);
    assert_int_equal(after(do_get, huge), HADB_ETOOBIG);
    assert_int_equal(after(do_list, huge), HADB_ETOOBIG);
}

static void body__is_an_object_only_if_the_reply_says_so(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "Content-Type: text/html\r\n",
                                      "Content-Type: application/json\r\n",
                                      "Content-Type: application/octet-streams\r\n",
                                      "Content-Type: multipart/byteranges; boundary=x\r\n"};
    char headers[200];
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        snprintf(headers, sizeof(headers), ETAG "%s", bad[i]);
        assert_int_equal(after(do_get, http(200, headers, "object")), HADB_EIO);
        assert_int_equal(after(do_range, http(200, headers, "object")), HADB_EIO);
    }
    assert_int_equal(
        after(do_get, http(200, ETAG "content-type: Application/Octet-Stream ;x=y\r\n", "object")),
        0);
    assert_int_equal(after(do_list, http(200, "Content-Type: text/html\r\n", EMPTY_PAGE)),
                     HADB_EIO);
    assert_int_equal(
        after(do_list, http(200, "Content-Type: application/json; charset=utf-8\r\n", EMPTY_PAGE)),
        0);
}

static void body__that_does_not_fit_its_digest_is_refused(void **state)
{
    (void)state;
    static const char fits[] = OBJECT "Content-Digest: " DIGEST "\r\n";
    static const char differs[] = OBJECT "Content-Digest: " DIGEST_OF_NONE "\r\n";
    assert_int_equal(after(do_get, http(200, fits, "object")), 0);
    assert_int_equal(after(do_get, http(200, fits, "objecT")), HADB_EIO);
    assert_int_equal(after(do_get, http(200, differs, "object")), HADB_EIO);
    assert_int_equal(after(do_range, http(200, differs, "object")), HADB_EIO);
    assert_int_equal(
        after(do_list, http(200, LISTING "Content-Digest: " DIGEST "\r\n", EMPTY_PAGE)), HADB_EIO);
}

static void digest__is_the_member_with_the_right_name(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        bool fits;
    } digests[] = {
        {"", true},
        {DIGEST, true},
        {"  " DIGEST " ", true},
        {"crc32c=:AAAAAA==:, " DIGEST ", x=1", true},
        {DIGEST ";a=b", true},
        {"crc32c=:AAAAAA==:", true}, /* what we do not know says nothing */
        {"sha-512=:AA==:,,,", true},
        {DIGEST_OF_NONE, false},
        {DIGEST ", " DIGEST_OF_NONE, false},
        {DIGEST_OF_NONE ", " DIGEST, true},
        {"sha-256=", false},
        {"sha-256=::", false},
        {"sha-256=:KVjUFtCKpaRy17UJA2y36v1UKt2EUn5moUXqZMtM3HU=", false},
    };
    char text[HADB_BLOB_DIGEST_BYTES];
    hadb__blob_digest(hadb_slice_str("object"), text);
    assert_string_equal(text, DIGEST);
    hadb__blob_digest((struct hadb_slice){0}, text);
    assert_string_equal(text, DIGEST_OF_NONE);
    for (size_t i = 0; i < HADB_LEN(digests); i++) {
        if (hadb__blob_digest_fits(digests[i].header, hadb_slice_str("object")) !=
            digests[i].fits) {
            fail_msg("'%s'", digests[i].header);
        }
    }
}

/* --- ranges and heads --------------------------------------------------------------------------- */

static void range__is_taken_from_whatever_form_of_reply(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *headers, *body;
        int want;
        const char *part;
    } ranges[] = {
        {206, OBJECT "Content-Range: bytes 2-4/6\r\n", "jec", 0, "jec"},
        {206, OBJECT "Content-Range: bytes 2-3/4\r\n", "je", 0, "je"},
        {206, OBJECT "Content-Range: bytes 2-4/*\r\n", "jec", 0, "jec"},
        {206, OBJECT "Content-Range: bytes 1-3/6\r\n", "bje", HADB_EIO, NULL},
        {206, OBJECT, "jec", HADB_EIO, NULL},
        {200, OBJECT, "object", 0, "jec"},
        {200, OBJECT, "o", 0, ""},
        {416, "", "", 0, ""},
        {404, SAYS("ABSENT"), "", HADB_ABSENT, NULL},
    };
    for (size_t i = 0; i < HADB_LEN(ranges); i++) {
        struct fixture f;
        const char *const replies[] = {http(ranges[i].status, ranges[i].headers, ranges[i].body),
                                       NULL};
        begin(&f, "", "", replies);
        assert_int_equal(do_range(&f), ranges[i].want);
        if (ranges[i].part) {
            assert_true(hadb_slice_eq(hadb_buf_slice(&f.got), hadb_slice_str(ranges[i].part)));
        }
        char *asked = end(&f);
        assert_non_null(strstr(asked, "Range: bytes=2-4\r\n"));
        free(asked);
    }
}

static void range__that_cannot_be_asked_for_looks_whether_the_object_is_there(void **state)
{
    (void)state;
    struct fixture f;
    const char *const replies[] = {"HTTP/1.1 200 OK\r\n" OBJECT "Content-Length: 6\r\n\r\n",
                                   "HTTP/1.1 404 No\r\n" SAYS("ABSENT") "Content-Length: 6\r\n\r\n",
                                   NULL};
    begin(&f, "", "", replies);
    assert_int_equal(hadb_storage_get_range(&f.s, &f.call, "k", 1, 0, &f.got, &f.err), 0);
    assert_int_equal(hadb_storage_get_range(&f.s, &f.call, "k", UINT64_MAX - 1, 5, &f.got, &f.err),
                     HADB_ABSENT);
    char *asked = end(&f);
    assert_non_null(strstr(asked, "HEAD /v1/storage/k HTTP/1.1\r\n"));
    assert_null(strstr(asked, "Range:"));
    free(asked);
}

static void head__knows_size_and_tag_and_what_is_absent(void **state)
{
    (void)state;
    struct fixture f;
    const char *const replies[] = {"HTTP/1.1 200 OK\r\n" OBJECT "Content-Length: 67108864\r\n\r\n",
                                   NULL};
    begin(&f, "", "", replies);
    assert_int_equal(do_head(&f), 0);
    assert_int_equal(f.meta.size_bytes, 67108864);
    assert_string_equal(f.meta.tag.s, "\"t1\"");
    free(end(&f));
    assert_int_equal(after(do_head, "HTTP/1.1 404 No\r\nHadb-Error: ABSENT\r\n\r\n"), HADB_ABSENT);
    assert_int_equal(after(do_head, "HTTP/1.1 404 No\r\nContent-Length: 99\r\n\r\n"), HADB_EIO);
    assert_int_equal(after(do_head, "HTTP/1.1 200 OK\r\n" OBJECT "\r\n"), HADB_EIO);
}

/* --- listings ----------------------------------------------------------------------------------- */

static void listing__must_be_what_was_asked_for(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int want;
        const char *keys;
    } pages[] = {
        {EMPTY_PAGE, 0, ""},
        {"{\"objects\":[{\"key\":\"a/b\",\"size\":3},{\"key\":\"a/c\",\"size\":0}],"
         "\"truncated\":true,\"more\":1}",
         0, "a/b=3,a/c=0,+"},
        {"", HADB_ECORRUPT, NULL},
        {"[]", HADB_ECORRUPT, NULL},
        {"<html></html>", HADB_ECORRUPT, NULL},
        {"{\"objects\":[]}", HADB_ECORRUPT, NULL},
        {"{\"truncated\":false}", HADB_ECORRUPT, NULL},
        {"{\"objects\":{},\"truncated\":false}", HADB_ECORRUPT, NULL},
        {"{\"objects\":[],\"truncated\":1}", HADB_ECORRUPT, NULL},
        {"{\"objects\":[],\"truncated\":true}", HADB_ECORRUPT, NULL}, /* it would never end */
        {EMPTY_PAGE "x", HADB_ECORRUPT, NULL},
        {"{\"objects\":[],\"truncated\":false,\"truncated\":true}", HADB_ECORRUPT, NULL},
#define ONE(object) "{\"objects\":[" object "],\"truncated\":false}"
        {ONE("1"), HADB_ECORRUPT, NULL},
        {ONE("{\"key\":\"a/b\"}"), HADB_ECORRUPT, NULL},
        {ONE("{\"size\":1}"), HADB_ECORRUPT, NULL},
        {ONE("{\"key\":\"a/b\",\"size\":-1}"), HADB_ECORRUPT, NULL},
        {ONE("{\"key\":\"a/b\",\"size\":1.5}"), HADB_ECORRUPT, NULL},
        {ONE("{\"key\":\"a/b\",\"size\":99999999999999999999}"), HADB_ECORRUPT, NULL},
        {ONE("{\"key\":\"a/\\u0000\",\"size\":1}"), HADB_ECORRUPT, NULL},
        {ONE("{\"key\":\"a/.b\",\"size\":1}"), HADB_ECORRUPT, NULL},
        {ONE("{\"key\":\"a/b/\",\"size\":1}"), HADB_ECORRUPT, NULL},
        {ONE("{\"key\":\"b\",\"size\":1}"), HADB_ECORRUPT, NULL},   /* another prefix */
        {ONE("{\"key\":\"a/a\",\"size\":1}"), HADB_ECORRUPT, NULL}, /* not after it */
        {ONE("{\"key\":\"a/c\",\"size\":1},{\"key\":\"a/b\",\"size\":1}"), HADB_ECORRUPT, NULL},
        {ONE("{\"key\":\"a/b\",\"size\":1},{\"key\":\"a/b\",\"size\":1}"), HADB_ECORRUPT, NULL},
        {ONE("{\"key\":\"a/b\",\"size\":1},{\"key\":\"a/c\",\"size\":1},"
             "{\"key\":\"a/d\",\"size\":1}"),
         HADB_ECORRUPT, NULL}, /* more than was asked for */
    };
    for (size_t i = 0; i < HADB_LEN(pages); i++) {
        struct hadb_object_list list = {0};
        struct hadb_error err = {0};
        char keys[256] = "";
        int r = hadb__blob_list(hadb_slice_str(pages[i].json), "a/", "a/a", 2, &list, &err);
        if (r != pages[i].want || (r && !strstr(err.message, "listing: "))) {
            fail_msg("%s: %d %s", pages[i].json, r, err.message);
        }
        for (size_t k = 0; r == 0 && k < list.len; k++) {
            size_t at = strlen(keys);
            snprintf(keys + at, sizeof(keys) - at, "%s=%u,", list.items[k].key,
                     (unsigned)list.items[k].size_bytes);
        }
        strcat(keys, r == 0 && list.truncated ? "+" : "");
        assert_string_equal(keys, pages[i].keys ? pages[i].keys : "");
        hadb_object_list_deinit(&list);
    }
}

/* --- what is sent ------------------------------------------------------------------------------- */

static char *asked(const char *user, const char *path, int (*operation)(struct fixture *),
                   const char *reply)
{
    struct fixture f;
    const char *const replies[] = {reply, NULL};
    begin(&f, user, path, replies);
    int r = operation(&f);
    if (r) {
        fail_msg("%d %s", r, f.err.message);
    }
    return end(&f);
}

static void assert_asked(char *take_text, const char *const *words)
{
    for (; *words; words++) {
        if (!strstr(take_text, *words)) {
            fail_msg("'%s' has no '%s'", take_text, *words);
        }
    }
    free(take_text);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void request__is_as_documented(void **state)
{
    (void)state;
    const char *done = http(200, OBJECT, "object"), *page = http(200, LISTING, EMPTY_PAGE);
    assert_asked(asked("", "", do_create, done),
                 WORDS("PUT /v1/storage/a/b HTTP/1.1\r\n", "If-None-Match: *\r\n",
                       "Hadb-Deadline-Ms: ", "Content-Type: application/octet-stream\r\n",
                       "Content-Digest: " DIGEST "\r\n", "Content-Length: 6\r\n",
                       "\r\n\r\nobject"));
    assert_asked(asked("", "/", do_replace, done),
                 WORDS("PUT /v1/storage/a/b HTTP/1.1\r\n", "If-Match: \"t0\"\r\n",
                       "Content-Digest: " DIGEST "\r\n"));
    assert_asked(asked("", "/my%20base/x/", do_get, done),
                 WORDS("GET /my%20base/x/a/b HTTP/1.1\r\n", "Hadb-Deadline-Ms: "));
    assert_asked(asked("", "", do_list, page),
                 WORDS("GET /v1/storage?prefix=a/&after=a/a&max=10 HTTP/1.1\r\n"));
    assert_asked(asked("", "", do_delete, done),
                 WORDS("POST /v1/storage HTTP/1.1\r\n", "Content-Type: application/json\r\n",
                       "Content-Digest: sha-256=:", "\r\n\r\n{\"delete\":[\"a/b\",\"c\"]}"));
    assert_asked(asked("", "?prefix=my/part", do_get, done),
                 WORDS("GET /v1/storage/my/part/a/b HTTP/1.1\r\n"));
    assert_asked(asked("", "/x?prefix=p", do_list, page),
                 WORDS("GET /x?prefix=p/a/&after=p/a/a&max=10 HTTP/1.1\r\n"));
    assert_asked(asked("a-token@", "", do_get, done), WORDS("Authorization: Bearer a-token\r\n"));
    assert_asked(asked("me:pa%3Ass@", "", do_get, done),
                 WORDS("Authorization: Basic bWU6cGE6c3M=\r\n"));
}

static void deletion__of_many_keys_goes_in_batches(void **state)
{
    (void)state;
    enum { KEYS = 2001 };
    static char names[KEYS][8];
    static const char *keys[KEYS];
    struct fixture f;
    /* A body of this length may arrive in pieces: only one batch at a time is looked at. */
    const char *const refused[] = {http(401, "", ""), NULL};
    for (size_t i = 0; i < KEYS; i++) {
        snprintf(names[i], sizeof(names[i]), "k%zu", i);
        keys[i] = names[i];
    }
    begin(&f, "", "", refused);
    int r = hadb_storage_delete_many(&f.s, &f.call, keys, KEYS, &f.err);
    assert_true(r == HADB_EAUTH || r == HADB_ETIMEDOUT); /* and the others are not sent */
    struct hadb_storage_usage usage;
    hadb_storage_usage(&f.s, &usage);
    assert_int_equal(usage.puts, 1);
    assert_true(usage.sent_bytes < 1000 * 10);
    free(end(&f));
}

static void tag__of_another_store_loses_without_a_request(void **state)
{
    (void)state;
    static const char *const foreign[] = {"5-abc",   "\"",           "\"\"",         "\"a",
                                          "W/\"a\"", "\"a\", \"b\"", "\"a\r\nX: y\""};
    struct hadb_storage s = {0};
    assert_int_equal(hadb_storage_open("http://127.0.0.1:1", NULL, &s, NULL), 0);
    for (size_t i = 0; i < HADB_LEN(foreign); i++) {
        struct hadb_tag tag = {0};
        snprintf(tag.s, sizeof(tag.s), "%s", foreign[i]);
        assert_int_equal(hadb_storage_replace(&s, NULL, "k", hadb_slice_str("x"), &tag, NULL, NULL),
                         HADB_CAS_LOST);
    }
    hadb_storage_close(&s);
}

static void usage__counts_what_was_sent(void **state)
{
    (void)state;
    struct fixture f;
    struct hadb_storage_usage usage;
    const char *const replies[] = {http(201, OBJECT, ""), http(200, OBJECT, "object"),
                                   http(200, LISTING, EMPTY_PAGE), NULL};
    begin(&f, "", "", replies);
    assert_int_equal(do_create(&f), 0);
    assert_int_equal(do_get(&f), 0);
    assert_int_equal(do_list(&f), 0);
    hadb_storage_usage(&f.s, &usage);
    assert_int_equal(usage.puts, 2);
    assert_int_equal(usage.gets, 1);
    assert_int_equal(usage.sent_bytes, 6);
    assert_int_equal(usage.received_bytes, 6 + strlen(EMPTY_PAGE));
    free(end(&f));
}

static void error__names_the_service_and_what_to_do(void **state)
{
    (void)state;
    struct fixture f;
    const char *const replies[] = {
        http(404, "", "<html>"), http(401, "", ""),
        http(502, SAYS("ENOSPC"), "{\"error\":\"ENOSPC\",\"message\":\"disk full\"}"), NULL};
    begin(&f, "s3cret@", "", replies);
    assert_int_equal(do_get(&f), HADB_EIO);
    assert_non_null(strstr(f.err.message, "storage service get at 127.0.0.1:"));
    assert_non_null(strstr(f.err.message, "is this the address of a storage service?"));
    assert_true(f.err.retryable);
    assert_int_equal(do_get(&f), HADB_EAUTH);
    assert_non_null(strstr(f.err.message, "check the token of the url"));
    assert_null(strstr(f.err.message, "s3cret"));
    assert_int_equal(do_create(&f), HADB_ETIMEDOUT);
    assert_non_null(strstr(f.err.message, "status 502 ENOSPC: disk full"));
    assert_int_equal(f.err.http_status, 502);
    free(end(&f));
}

/* --- without blocking --------------------------------------------------------------------------- */

struct flight {
    struct hadb_storage_io io;
    struct fixture *f;
    bool done;
};

static void on_done(struct hadb_storage_io *io)
{
    struct flight *flight = io->arg;
    assert_false(flight->done);
    flight->done = true;
}

static void fly(struct fixture *f, struct flight *flight)
{
    flight->io.call = &f->call;
    flight->io.key = "a/b";
    flight->io.done = on_done;
    flight->io.arg = flight;
    flight->done = false;
    if (hadb_storage_submit(&f->s, &flight->io, &f->err)) {
        fail_msg("%s", f->err.message);
    }
    assert_false(flight->done); /* never from inside */
    while (!flight->done) {
        struct pollfd fd = {.fd = hadb_storage_fd(&f->s), .events = POLLIN};
        assert_int_equal(poll(&fd, 1, (int)CALL_MS), 1);
        (void)hadb_storage_drive(&f->s);
    }
}

static void submitted__requests_end_as_blocking_ones_do(void **state)
{
    (void)state;
    struct fixture f;
    const char *const replies[] = {http(201, OBJECT, ""),
                                   http(412, "", ""),
                                   http(503, "", ""),
                                   http(200, OBJECT, "object"),
                                   http(404, SAYS("ABSENT"), ""),
                                   "",
                                   NULL};
    struct flight put = {.io = {.type = HADB_IO_CREATE, .body = hadb_slice_str("object")}};
    struct flight get = {.io = {.type = HADB_IO_GET}};
    begin(&f, "", "", replies);
    put.io.tag = get.io.tag = &f.tag;
    get.io.out = &f.got;
    fly(&f, &put);
    assert_int_equal(put.io.result, 0);
    assert_string_equal(f.tag.s, "\"t1\"");
    fly(&f, &put);
    assert_int_equal(put.io.result, HADB_EXISTS);
    fly(&f, &put);
    assert_int_equal(put.io.result, HADB_ETIMEDOUT);
    assert_int_equal(put.io.err.http_status, 503);
    fly(&f, &get);
    assert_int_equal(get.io.result, 0);
    assert_true(hadb_slice_eq(hadb_buf_slice(&f.got), hadb_slice_str("object")));
    fly(&f, &get);
    assert_int_equal(get.io.result, HADB_ABSENT);
    assert_true(hadb_slice_eq(hadb_buf_slice(&f.got), hadb_slice_str("object")));
    fly(&f, &put);
    assert_int_equal(put.io.result, HADB_ETIMEDOUT);
    struct hadb_storage_usage usage;
    hadb_storage_usage(&f.s, &usage);
    assert_int_equal(usage.puts, 4);
    free(end(&f));
}

static void submitted__requests_that_cannot_start_say_so(void **state)
{
    (void)state;
    struct fixture f;
    const char *const replies[] = {NULL};
    const struct hadb_tag foreign = {"5-abc"};
    const struct hadb_call late = {.deadline_ms = 1};
    begin(&f, "", "", replies);
    struct flight replace = {
        .io = {.type = HADB_IO_REPLACE, .key = "k", .expected = &foreign, .done = on_done}};
    assert_int_equal(hadb_storage_submit(&f.s, &replace.io, &f.err), HADB_EBUSY);
    struct flight create = {
        .io = {.type = HADB_IO_CREATE, .key = "k", .call = &late, .done = on_done}};
    assert_int_equal(hadb_storage_submit(&f.s, &create.io, &f.err), HADB_EUNAVAIL);
    struct flight get = {
        .io = {.type = HADB_IO_GET, .key = "k", .call = &late, .out = &f.got, .done = on_done}};
    assert_int_equal(hadb_storage_submit(&f.s, &get.io, &f.err), HADB_ETIMEDOUT);
    assert_false(replace.done || create.done || get.done);
    free(end(&f));
}

/* --- opening ------------------------------------------------------------------------------------ */

static void bad__urls_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *url, *says;
    } bad[] = {
        {"http://", "must be host"},
        {"http://a,b", "more than 1 hosts"},
        {"http://h?ca=/x", "TLS"},
        {"https://h?what=1", "unknown parameter 'what'"},
        {"http://s3cret%20x@h", "token"},
        {"http://h/%0a", "control character"},
        {"http://h?prefix=/x", "prefix"},
        {"http://h?prefix=", "prefix"},
        {"https://h?cert=/x", "go together"},
    };
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        struct hadb_storage s = {0};
        struct hadb_error err = {0};
        if (hadb_storage_open(bad[i].url, NULL, &s, &err) != HADB_EINVAL ||
            !strstr(err.message, bad[i].says) || strstr(err.message, "s3cret")) {
            fail_msg("%s: '%s' does not say '%s'", bad[i].url, err.message, bad[i].says);
        }
    }
}

static void out_of_memory__while_opening_is_said(void **state)
{
    (void)state;
    bool hit = true;
    for (uint64_t n = 1; hit && n < 200; n++) {
        struct hadb_storage s = {0};
        test_alloc_fail_at(n);
        int r = hadb_storage_open("http://a:b@h/x/y?prefix=p", NULL, &s, NULL);
        hit = test_alloc_hit();
        test_alloc_reset();
        assert_int_equal(r, hit ? HADB_ENOMEM : 0);
        hadb_storage_close(&s);
    }
    assert_false(hit);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(status__decides_what_a_call_answers),
        cmocka_unit_test(tag__must_be_one_that_can_be_sent_back),
        cmocka_unit_test(reply__that_is_cut_or_too_long_leaves_a_write_unknown),
        cmocka_unit_test(body__is_an_object_only_if_the_reply_says_so),
        cmocka_unit_test(body__that_does_not_fit_its_digest_is_refused),
        cmocka_unit_test(digest__is_the_member_with_the_right_name),
        cmocka_unit_test(range__is_taken_from_whatever_form_of_reply),
        cmocka_unit_test(range__that_cannot_be_asked_for_looks_whether_the_object_is_there),
        cmocka_unit_test(head__knows_size_and_tag_and_what_is_absent),
        cmocka_unit_test(listing__must_be_what_was_asked_for),
        cmocka_unit_test(request__is_as_documented),
        cmocka_unit_test(deletion__of_many_keys_goes_in_batches),
        cmocka_unit_test(tag__of_another_store_loses_without_a_request),
        cmocka_unit_test(usage__counts_what_was_sent),
        cmocka_unit_test(error__names_the_service_and_what_to_do),
        cmocka_unit_test(submitted__requests_end_as_blocking_ones_do),
        cmocka_unit_test(submitted__requests_that_cannot_start_say_so),
        cmocka_unit_test(bad__urls_are_refused_with_a_reason),
        cmocka_unit_test(out_of_memory__while_opening_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
