/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The S3 backend against a server that fails, lies and dawdles where a script says so. What a write may be
 * called: done, refused, unknown; never the wrong one of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/thread.h"
#include "storage/wrap.h"
#include "tests/support/support.h"
#include "tests/unit/storage/s3_control.h"

struct fixture {
    struct hadb_storage s;
    struct hadb_buf got;
    struct hadb_error err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    s3_tell("{\"reset\": true}");
    s3_open("", NULL, &f->s);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    s3_tell("{\"reset\": true}");
    hadb_storage_close(&f->s);
    hadb_buf_deinit(&f->got);
    free(f);
    return 0;
}

/* Another handle, with parameters of its own, in place of the fixture's. */
static void reopen(struct fixture *f, const char *more)
{
    hadb_storage_close(&f->s);
    s3_open(more, NULL, &f->s);
}

static int create(struct fixture *f, const char *key, const char *body)
{
    return hadb_storage_create(&f->s, NULL, key, hadb_slice_str(body), NULL, &f->err);
}

static int get(struct fixture *f, const char *key)
{
    return hadb_storage_get(&f->s, NULL, key, &f->got, NULL, &f->err);
}

static void assert_holds(struct fixture *f, const char *key, const char *body)
{
    assert_int_equal(get(f, key), 0);
    assert_true(hadb_slice_eq(hadb_buf_slice(&f->got), hadb_slice_str(body)));
}

static void fault(const char *method, const char *rest)
{
    s3_tell("{\"fault\": {\"method\": \"%s\", %s}}", method, rest);
}

static long long connections(void)
{
    json_t *answer = s3_control("{}");
    long long count = (long long)json_integer_value(json_object_get(answer, "connections"));
    json_decref(answer);
    return count;
}

#define assert_says(f, text)                                              \
    do {                                                                  \
        if (!strstr((f)->err.message, (text))) {                          \
            fail_msg("'%s' does not say '%s'", (f)->err.message, (text)); \
        }                                                                 \
    } while (0)

/* --- writes whose reply is lost ------------------------------------------------------------------ */

static void create__that_is_applied_and_not_answered_is_unknown(void **state)
{
    struct fixture *f = *state;
    fault("PUT", "\"do\": \"apply_drop\"");
    assert_int_equal(create(f, "k", "mine"), HADB_ETIMEDOUT);
    assert_true(f->err.retryable);
    assert_int_equal(create(f, "k", "mine"), HADB_EXISTS); /* the caller compares the content */
    assert_holds(f, "k", "mine");
}

static void create__that_is_dropped_is_unknown_and_nothing_is_there(void **state)
{
    struct fixture *f = *state;
    fault("PUT", "\"do\": \"drop\"");
    assert_int_equal(create(f, "k", "mine"), HADB_ETIMEDOUT);
    assert_int_equal(get(f, "k"), HADB_ABSENT);
    assert_int_equal(create(f, "k", "mine"), 0);
}

/* On a kept connection curl would send it again by itself, and the first one may have been applied. */
static void write__is_never_sent_twice_on_a_kept_connection_that_breaks(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag;
    assert_int_equal(create(f, "k", "one"), 0);
    assert_int_equal(hadb_storage_get(&f->s, NULL, "k", &f->got, &tag, &f->err), 0);
    long long before = s3_requests("PUT");
    fault("PUT", "\"do\": \"apply_drop\"");
    assert_int_equal(
        hadb_storage_replace(&f->s, NULL, "k", hadb_slice_str("two"), &tag, NULL, &f->err),
        HADB_ETIMEDOUT);
    assert_int_equal(s3_requests("PUT"), before + 1);
    fault("PUT", "\"do\": \"drop\"");
    assert_int_equal(create(f, "other", "x"), HADB_ETIMEDOUT);
    assert_int_equal(s3_requests("PUT"), before + 2);
    assert_holds(f, "k", "two");
}

static void read__survives_a_kept_connection_that_breaks(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "k", "x"), 0);
    assert_holds(f, "k", "x");
    fault("GET", "\"do\": \"drop\"");
    assert_holds(f, "k", "x");
}

static void create__can_be_applied_after_it_seemed_absent(void **state)
{
    struct fixture *f = *state;
    fault("PUT", "\"do\": \"drop_apply_later\"");
    assert_int_equal(create(f, "k", "late"), HADB_ETIMEDOUT);
    assert_int_equal(get(f, "k"), HADB_ABSENT); /* absence is no proof */
    s3_tell("{\"release\": true}");
    int r = HADB_ABSENT;
    for (uint64_t end = hadb_now_ms(NULL) + 10000; r == HADB_ABSENT && hadb_now_ms(NULL) < end;) {
        r = get(f, "k");
    }
    assert_int_equal(r, 0);
    assert_int_equal(create(f, "k", "late"), HADB_EXISTS);
}

static void conflict__and_server_errors_on_writes_are_unknown(void **state)
{
    struct fixture *f = *state;
    static const char *const faults[] = {
        "\"do\": \"status\", \"status\": 409, \"code\": \"ConditionalRequestConflict\"",
        "\"do\": \"apply_status\", \"status\": 500, \"code\": \"InternalError\"",
        "\"do\": \"status\", \"status\": 503, \"code\": \"SlowDown\"",
        "\"do\": \"apply_status\", \"status\": 502, \"body\": \"<html>bad gateway</html>\"",
        "\"do\": \"apply_status\", \"status\": 202",
        "\"do\": \"no_etag\"",
        "\"do\": \"garbage\"",
        "\"do\": \"inside_headers\"",
    };
    for (size_t i = 0; i < HADB_LEN(faults); i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%zu", i);
        fault("PUT", faults[i]);
        assert_int_equal(create(f, key, "mine"), HADB_ETIMEDOUT);
        int again = create(f, key, "mine");
        assert_true(again == 0 || again == HADB_EXISTS);
        assert_holds(f, key, "mine");
    }
    assert_int_equal(s3_requests("PUT"), 2 * HADB_LEN(faults));
}

static void answer__to_a_put_that_never_ends_is_unknown(void **state)
{
    struct fixture *f = *state;
    reopen(f, "&idle_timeout_ms=100");
    fault("PUT", "\"do\": \"apply_stall\"");
    assert_int_equal(create(f, "k", "x"), HADB_ETIMEDOUT);
    assert_says(f, "no byte moved");
    s3_tell("{\"release\": true}");
    assert_int_equal(create(f, "k", "x"), HADB_EXISTS);
}

/* The verdict is in the status and the first bytes; what follows without end is not waited for. */
static void refusal__that_never_ends_is_judged_by_how_it_begins(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "k", "x"), 0);
    long long before = connections();
    fault("PUT", "\"do\": \"status\", \"status\": 412, \"code\": \"PreconditionFailed\", "
                 "\"endless\": true");
    assert_int_equal(create(f, "k", "y"), HADB_EXISTS);
    assert_holds(f, "k", "x");
    assert_int_equal(connections(), before + 3); /* two are the control's */
    fault("GET", "\"do\": \"status\", \"status\": 503, \"code\": \"SlowDown\", "
                 "\"endless\": true");
    assert_int_equal(get(f, "k"), HADB_EUNAVAIL);
}

/* --- reads --------------------------------------------------------------------------------------- */

static void bursts__of_503_are_survived_by_with_retry_and_typed_without(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "k", "x"), 0);
    fault("GET", "\"do\": \"status\", \"status\": 503, \"code\": \"SlowDown\"");
    assert_int_equal(get(f, "k"), HADB_EUNAVAIL);
    assert_true(f->err.retryable);
    assert_int_equal(f->err.http_status, 503);
    assert_says(f, "SlowDown");
    struct hadb_retry_options options = {.tries_max = 5, .wait_ms_min = 1, .wait_ms_max = 2};
    assert_int_equal(hadb_storage_with_retry(&f->s, &options, NULL, &f->s, &f->err), 0);
    fault("GET", "\"do\": \"status\", \"status\": 503, \"code\": \"SlowDown\", \"times\": 4");
    long long before = s3_requests("GET");
    assert_holds(f, "k", "x");
    assert_int_equal(s3_requests("GET"), before + 5);
    before = s3_requests("PUT");
    fault("PUT", "\"do\": \"status\", \"status\": 503, \"code\": \"SlowDown\"");
    assert_int_equal(create(f, "fresh", "x"), HADB_ETIMEDOUT);
    assert_int_equal(s3_requests("PUT"), before + 1);
}

static void truncated__body_is_refused_and_the_buffer_keeps_what_it_had(void **state)
{
    struct fixture *f = *state;
    static const char body[] = "0123456789";
    assert_int_equal(create(f, "k", body), 0);
    assert_holds(f, "k", body);
    for (size_t cut = 0; cut < sizeof(body) - 1; cut++) {
        char text[64];
        snprintf(text, sizeof(text), "\"do\": \"truncate\", \"bytes\": %zu", cut);
        fault("GET", text);
        assert_int_equal(get(f, "k"), HADB_EIO);
        assert_true(f->err.retryable);
        assert_true(hadb_slice_eq(hadb_buf_slice(&f->got), hadb_slice_str(body)));
        fault("GET", text);
        assert_int_equal(hadb_storage_get_range(&f->s, NULL, "k", 0, 10, &f->got, &f->err),
                         HADB_EIO);
    }
    fault("GET", "\"do\": \"no_length\"");
    assert_int_equal(get(f, "k"), HADB_EIO);
    assert_says(f, "length");
    fault("GET", "\"do\": \"garbage\"");
    assert_int_equal(get(f, "k"), HADB_EIO);
    fault("GET", "\"do\": \"inside_headers\"");
    assert_int_equal(get(f, "k"), HADB_EIO);
    assert_holds(f, "k", body);
}

static void slow__body_arrives_unless_the_deadline_passes_first(void **state)
{
    struct fixture *f = *state;
    reopen(f, "&idle_timeout_ms=1000");
    assert_int_equal(create(f, "k", "0123456789"), 0);
    fault("GET", "\"do\": \"drip\", \"ms\": 5");
    assert_holds(f, "k", "0123456789");
    fault("GET", "\"do\": \"drip\", \"ms\": 500");
    struct hadb_call call = hadb_call_within(NULL, 100);
    assert_int_equal(hadb_storage_get(&f->s, &call, "k", &f->got, NULL, &f->err), HADB_ETIMEDOUT);
    assert_says(f, "deadline");
}

static void silent__server_ends_the_call_by_idleness_or_deadline(void **state)
{
    struct fixture *f = *state;
    reopen(f, "&idle_timeout_ms=100");
    fault("GET", "\"do\": \"stall\"");
    assert_int_equal(get(f, "k"), HADB_ETIMEDOUT);
    assert_says(f, "no byte moved");
    reopen(f, "");
    fault("GET", "\"do\": \"stall\"");
    fault("PUT", "\"do\": \"stall\"");
    struct hadb_call call = hadb_call_within(NULL, 100);
    assert_int_equal(hadb_storage_get(&f->s, &call, "k", &f->got, NULL, &f->err), HADB_ETIMEDOUT);
    call = hadb_call_within(NULL, 100);
    assert_int_equal(hadb_storage_create(&f->s, &call, "k", hadb_slice_str("x"), NULL, &f->err),
                     HADB_ETIMEDOUT);
    s3_tell("{\"release\": true}");
}

struct canceller {
    struct hadb_thread thread;
    struct hadb_cancel cancel;
};

/* Cancels once the server has one more request than before. */
static void cancel_later(void *arg)
{
    struct canceller *c = arg;
    for (uint64_t end = hadb_now_ms(NULL) + 10000; hadb_now_ms(NULL) < end;) {
        if (s3_requests(NULL) > 0) {
            break;
        }
    }
    __atomic_store_n(&c->cancel.flag, 1, __ATOMIC_RELEASE);
}

static int cancelled_call(struct fixture *f, bool writes)
{
    struct canceller c = {0};
    struct hadb_call call = {.cancel = &c.cancel};
    s3_tell("{\"reset\": true}");
    fault(writes ? "PUT" : "GET", "\"do\": \"stall\"");
    assert_int_equal(hadb_thread_start(&c.thread, "canceller", cancel_later, &c, NULL), 0);
    int r = writes ? hadb_storage_create(&f->s, &call, "k", hadb_slice_str("x"), NULL, &f->err)
                   : hadb_storage_get(&f->s, &call, "k", &f->got, NULL, &f->err);
    hadb_thread_join(&c.thread);
    s3_tell("{\"release\": true}");
    return r;
}

static void cancel__ends_a_running_read_and_leaves_a_running_write_unknown(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(cancelled_call(f, false), HADB_ECANCELED);
    assert_int_equal(cancelled_call(f, true), HADB_ETIMEDOUT);
}

/* A proxy that has no route to the store answers 404 as well, without a word; to a HEAD nobody says more. */
static void absent__is_no_word_of_a_proxy(void **state)
{
    struct fixture *f = *state;
    struct hadb_object_meta meta = {0};
    static const char lost[] = "\"do\": \"status\", \"status\": 404, \"body\": \"\", \"times\": 2";
    assert_int_equal(create(f, "k", "x"), 0);
    fault("HEAD", lost);
    fault("GET", lost);
    assert_int_equal(hadb_storage_head(&f->s, NULL, "k", &meta, &f->err), HADB_EIO);
    assert_says(f, "not an answer of S3");
    assert_true(f->err.retryable);
    assert_int_equal(get(f, "k"), HADB_EIO);
    assert_int_equal(hadb_storage_head(&f->s, NULL, "k", &meta, &f->err),
                     HADB_EIO); /* GET: it is */
    assert_int_equal(hadb_storage_head(&f->s, NULL, "k", &meta, &f->err), 0);
    assert_int_equal(meta.size_bytes, 1);
    long long gets = s3_requests("GET");
    assert_int_equal(hadb_storage_head(&f->s, NULL, "a", &meta, &f->err), HADB_ABSENT);
    assert_int_equal(s3_requests("GET"), gets);
    s3_tell("{\"set\": {\"request_id\": false}}"); /* a server that does not sign its answers */
    assert_int_equal(hadb_storage_head(&f->s, NULL, "a", &meta, &f->err), HADB_ABSENT);
    assert_int_equal(s3_requests("GET"), gets + 1);
    assert_int_equal(get(f, "a"), HADB_ABSENT);
}

/* --- dialects ------------------------------------------------------------------------------------ */

static void tag__of_any_dialect_is_sent_back_as_it_came(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *dialect, *starts;
    } cases[] = {{"md5", "\""},
                 {"unquoted", "f9"},
                 {"weak", "W/\""},
                 {"opaque", "\"v0"},
                 {"multipart", "\""}};
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct hadb_tag made = {0}, read = {0}, next = {0};
        struct hadb_object_meta meta = {0};
        const char *key = cases[i].dialect;
        s3_tell("{\"set\": {\"etag\": \"%s\"}}", cases[i].dialect);
        assert_int_equal(
            hadb_storage_create(&f->s, NULL, key, hadb_slice_str("one"), &made, &f->err), 0);
        assert_int_equal(strncmp(made.s, cases[i].starts, strlen(cases[i].starts)), 0);
        assert_int_equal(hadb_storage_get(&f->s, NULL, key, &f->got, &read, &f->err), 0);
        assert_int_equal(hadb_storage_head(&f->s, NULL, key, &meta, &f->err), 0);
        assert_string_equal(made.s, read.s);
        assert_string_equal(made.s, meta.tag.s);
        assert_int_equal(
            hadb_storage_replace(&f->s, NULL, key, hadb_slice_str("two"), &made, &next, &f->err),
            0);
        assert_int_equal(
            hadb_storage_replace(&f->s, NULL, key, hadb_slice_str("no"), &made, NULL, &f->err),
            HADB_CAS_LOST);
        assert_int_equal(
            hadb_storage_replace(&f->s, NULL, key, hadb_slice_str("three"), &next, NULL, &f->err),
            0);
        assert_holds(f, key, "three");
    }
}

/* "If-Match: *" fits whatever is there, a list fits any of its tags: neither may ever be sent. */
static void tag__that_fits_more_than_one_object_is_none(void **state)
{
    struct fixture *f = *state;
    static const char *const tags[] = {"*",   "\"a\", \"b\"", "a,b", "\"a\"\"b\"",
                                       "W/*", "\"a",          "a b", "\"\""};
    for (size_t i = 0; i < HADB_LEN(tags); i++) {
        struct hadb_tag tag = {0};
        char rest[200], quoted[40] = "";
        for (const char *c = tags[i]; *c; c++) {
            size_t len = strlen(quoted);
            snprintf(quoted + len, sizeof(quoted) - len, *c == '"' ? "\\\"" : "%c", *c);
        }
        snprintf(rest, sizeof(rest),
                 "\"do\": \"status\", \"status\": 200, \"body\": \"x\", \"headers\": [[\"ETag\", "
                 "\"%s\"]]",
                 quoted);
        fault("PUT", rest);
        assert_int_equal(hadb_storage_create(&f->s, NULL, "k", hadb_slice_str("x"), NULL, &f->err),
                         HADB_ETIMEDOUT);
        fault("GET", rest);
        assert_int_equal(hadb_storage_get(&f->s, NULL, "k", &f->got, &tag, &f->err), HADB_EIO);
        snprintf(tag.s, sizeof(tag.s), "%s", tags[i]);
        long long sent = s3_requests("PUT");
        assert_int_equal(
            hadb_storage_replace(&f->s, NULL, "k", hadb_slice_str("y"), &tag, NULL, &f->err),
            HADB_EINVAL);
        assert_int_equal(s3_requests("PUT"), sent);
    }
}

static void replace__of_an_absent_key_is_lost_in_both_dialects(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = {"\"x\""};
    for (int status = 404; status <= 412; status += 8) {
        s3_tell("{\"set\": {\"absent_if_match\": %d}}", status);
        assert_int_equal(
            hadb_storage_replace(&f->s, NULL, "k", hadb_slice_str("x"), &tag, NULL, &f->err),
            HADB_CAS_LOST);
    }
}

static void range__is_cut_out_when_the_server_ignores_it(void **state)
{
    struct fixture *f = *state;
    s3_tell("{\"set\": {\"ignore_range\": true}}");
    assert_int_equal(create(f, "k", "0123456789"), 0);
    assert_int_equal(hadb_storage_get_range(&f->s, NULL, "k", 3, 4, &f->got, &f->err), 0);
    assert_true(hadb_slice_eq(hadb_buf_slice(&f->got), hadb_slice_str("3456")));
}

/* --- listings and deletions ---------------------------------------------------------------------- */

static void listing__passes_over_names_that_are_no_keys(void **state)
{
    struct fixture *f = *state;
    HADB_CLEANUP(hadb_storage_close) struct hadb_storage root = {0};
    struct hadb_object_list list = {0};
    char url[256];
    static const char *const plain[] = {"false", "true"};
    s3_tell("{\"put\": {\"foreign/\": \"\", \"foreign/a b\": \"\", \"foreign/b&<>\": \"\", "
            "\"foreign/.hidden\": \"\", \"foreign/k\": \"12\", \"foreign/z\\u00e4\": \"\", "
            "\"foreignish\": \"\"}}");
    snprintf(url, sizeof(url), "s3://test-bucket/foreign?endpoint=%s", s3_origin());
    assert_int_equal(hadb_storage_open(url, NULL, &root, &f->err), 0);
    for (size_t i = 0; i < HADB_LEN(plain); i++) {
        s3_tell("{\"set\": {\"plain_listing\": %s}}", plain[i]);
        for (size_t max = 1; max <= 8; max++) { /* small pages hold only foreign names */
            assert_int_equal(hadb_storage_list(&root, NULL, "", "", max, &list, &f->err), 0);
            assert_int_equal(list.len, 1);
            assert_string_equal(list.items[0].key, "k");
            assert_int_equal(list.items[0].size_bytes, 2);
            hadb_object_list_deinit(&list);
        }
        assert_int_equal(hadb_storage_list(&root, NULL, "", "k", 1, &list, &f->err), 0);
        assert_int_equal(list.len, 0);
        assert_false(list.truncated);
    }
}

static void listing__that_goes_back_or_lies_is_refused(void **state)
{
    struct fixture *f = *state;
    struct hadb_object_list list = {0};
    assert_int_equal(create(f, "a", "x"), 0);
    assert_int_equal(create(f, "b", "x"), 0);
    s3_tell("{\"set\": {\"ignore_start_after\": true}}");
    assert_int_equal(hadb_storage_list(&f->s, NULL, "", "a", 10, &list, &f->err), HADB_ECORRUPT);
    static const char *const lies[] = {
        "<html>login</html>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>other</Key>"
        "<Size>1</Size></Contents></ListBucketResult>",
    };
    for (size_t i = 0; i < HADB_LEN(lies); i++) {
        s3_tell("{\"fault\": {\"method\": \"GET\", \"do\": \"status\", \"status\": 200, \"body\": "
                "\"%s\"}}",
                lies[i]);
        assert_int_equal(hadb_storage_list(&f->s, NULL, "", "", 10, &list, &f->err), HADB_ECORRUPT);
    }
    s3_tell("{\"fault\": {\"method\": \"GET\", \"do\": \"status\", \"status\": 200, \"body\": "
            "\"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>\"}}");
    assert_int_equal(hadb_storage_list(&f->s, NULL, "", "", 10, &list, &f->err), HADB_EIO);
    assert_null(list.items);
}

static void deletion__of_many_goes_in_batches(void **state)
{
    enum { KEYS = 2500 };
    struct fixture *f = *state;
    static char names[KEYS][16];
    static const char *keys[KEYS];
    for (size_t i = 0; i < KEYS; i++) {
        snprintf(names[i], sizeof(names[i]), "k%zu", i);
        keys[i] = names[i];
    }
    assert_int_equal(create(f, names[0], "x"), 0);
    assert_int_equal(create(f, names[KEYS - 1], "x"), 0);
    assert_int_equal(hadb_storage_delete_many(&f->s, NULL, keys, KEYS, &f->err), 0);
    assert_int_equal(s3_requests("POST"), 3);
    assert_int_equal(get(f, names[0]), HADB_ABSENT);
    assert_int_equal(get(f, names[KEYS - 1]), HADB_ABSENT);
    fault("POST",
          "\"do\": \"status\", \"status\": 200, \"body\": \"<DeleteResult><Error><Key>k0</Key>"
          "<Code>AccessDenied</Code></Error></DeleteResult>\"");
    assert_int_equal(hadb_storage_delete_many(&f->s, NULL, keys, 1, &f->err), HADB_EAUTH);
    assert_says(f, "k0");
    fault("POST", "\"do\": \"apply_drop\"");
    assert_int_equal(hadb_storage_delete_many(&f->s, NULL, keys, 1, &f->err), HADB_ETIMEDOUT);
}

/* --- clocks, names, addresses -------------------------------------------------------------------- */

static void clock__that_differs_is_learnt_from_one_refusal(void **state)
{
    struct fixture *f = *state;
    static const int offsets[] = {4000, -4000, 100000000};
    for (size_t i = 0; i < HADB_LEN(offsets); i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%zu", i);
        reopen(f, "");
        s3_tell("{\"reset\": true}");
        s3_tell("{\"set\": {\"clock_offset_s\": %d}}", offsets[i]);
        assert_int_equal(create(f, key, "x"), 0);
        assert_int_equal(s3_requests("PUT"), 2);
        assert_holds(f, key, "x");
        assert_int_equal(s3_requests("GET"), 1);
    }
}

static void clock__is_learnt_where_a_refusal_has_no_body(void **state)
{
    struct fixture *f = *state;
    struct hadb_object_meta meta = {0};
    s3_tell("{\"set\": {\"clock_offset_s\": 4000, \"tell_skew\": false}}");
    assert_int_equal(hadb_storage_head(&f->s, NULL, "k", &meta, &f->err), HADB_ABSENT);
    assert_int_equal(s3_requests("HEAD"), 2);
}

static void wrong__region_bucket_or_right_gives_one_clear_error(void **state)
{
    struct fixture *f = *state;
    HADB_CLEANUP(hadb_storage_close) struct hadb_storage other = {0};
    char url[256];
    s3_tell("{\"set\": {\"region\": \"eu-west-9\"}}");
    assert_int_equal(create(f, "k", "x"), HADB_EINVAL);
    assert_says(f, "set region=eu-west-9");
    reopen(f, "&region=eu-west-9");
    assert_int_equal(create(f, "k", "x"), 0);
    snprintf(url, sizeof(url), "s3://no-such-bucket?region=eu-west-9&endpoint=%s", s3_origin());
    assert_int_equal(hadb_storage_open(url, NULL, &other, &f->err), 0);
    assert_int_equal(hadb_storage_get(&other, NULL, "k", &f->got, NULL, &f->err), HADB_EINVAL);
    assert_says(f, "no bucket no-such-bucket");
    long long before = s3_requests(NULL);
    fault("GET", "\"do\": \"status\", \"status\": 403, \"code\": \"AccessDenied\"");
    assert_int_equal(get(f, "k"), HADB_EAUTH);
    assert_says(f, "AccessDenied");
    assert_int_equal(s3_requests(NULL), before + 1);
    fault("GET", "\"do\": \"status\", \"status\": 301, \"code\": \"PermanentRedirect\", "
                 "\"headers\": [[\"Location\", \"http://127.0.0.1:1/\"], "
                 "[\"x-amz-bucket-region\", \"sa-east-1\"]]");
    assert_int_equal(get(f, "k"), HADB_EINVAL);
    assert_says(f, "set region=sa-east-1");
    assert_int_equal(s3_requests(NULL), before + 2);
}

static void nobody__listens_is_surely_not_done_and_names_the_address(void **state)
{
    struct fixture *f = *state;
    HADB_CLEANUP(hadb_storage_close) struct hadb_storage s = {0};
    char url[128], address[64];
    snprintf(address, sizeof(address), "http://127.0.0.1:%u", test_port_free());
    snprintf(url, sizeof(url), "s3://test-bucket?endpoint=%s", address);
    assert_int_equal(hadb_storage_open(url, NULL, &s, &f->err), 0);
    assert_int_equal(hadb_storage_create(&s, NULL, "k", hadb_slice_str("x"), NULL, &f->err),
                     HADB_EUNAVAIL);
    assert_true(f->err.retryable);
    assert_says(f, address);
    assert_int_equal(hadb_storage_get(&s, NULL, "k", &f->got, NULL, &f->err), HADB_EUNAVAIL);
}

static void connection__is_kept_through_refusals_and_used_by_one_caller_at_a_time(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "k", "x"), 0);
    long long before = connections();
    for (int i = 0; i < 40; i++) {
        assert_int_equal(create(f, "k", "x"), HADB_EXISTS);
        assert_int_equal(get(f, "absent"), HADB_ABSENT);
        assert_holds(f, "k", "x");
    }
    /* connections() itself makes one each time it asks. */
    assert_int_equal(connections(), before + 1);
}

static void virtual__host_style_carries_the_bucket_in_the_name(void **state)
{
    struct fixture *f = *state;
    HADB_CLEANUP(hadb_storage_close) struct hadb_storage s = {0};
    char url[256];
    snprintf(url, sizeof(url), "s3://test-bucket/v?path_style=0&endpoint=http://localhost:%s",
             strrchr(s3_origin(), ':') + 1);
    assert_int_equal(hadb_storage_open(url, NULL, &s, &f->err), 0);
    int r = hadb_storage_create(&s, NULL, "k", hadb_slice_str("x"), NULL, &f->err);
    if (r == HADB_EUNAVAIL && strstr(f->err.message, "resolve")) {
        skip(); /* names below localhost are not resolved here */
    }
    assert_int_equal(r, 0);
    assert_int_equal(hadb_storage_get(&s, NULL, "k", &f->got, NULL, &f->err), 0);
    json_t *answer = s3_control("{}");
    json_t *requests = json_object_get(answer, "requests");
    json_t *last = json_array_get(requests, json_array_size(requests) - 1);
    assert_string_equal(json_string_value(json_object_get(last, "target")), "/v/k");
    json_decref(answer);
}

#define with_fixture(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        with_fixture(create__that_is_applied_and_not_answered_is_unknown),
        with_fixture(create__that_is_dropped_is_unknown_and_nothing_is_there),
        with_fixture(write__is_never_sent_twice_on_a_kept_connection_that_breaks),
        with_fixture(read__survives_a_kept_connection_that_breaks),
        with_fixture(create__can_be_applied_after_it_seemed_absent),
        with_fixture(conflict__and_server_errors_on_writes_are_unknown),
        with_fixture(answer__to_a_put_that_never_ends_is_unknown),
        with_fixture(refusal__that_never_ends_is_judged_by_how_it_begins),
        with_fixture(bursts__of_503_are_survived_by_with_retry_and_typed_without),
        with_fixture(truncated__body_is_refused_and_the_buffer_keeps_what_it_had),
        with_fixture(slow__body_arrives_unless_the_deadline_passes_first),
        with_fixture(silent__server_ends_the_call_by_idleness_or_deadline),
        with_fixture(cancel__ends_a_running_read_and_leaves_a_running_write_unknown),
        with_fixture(absent__is_no_word_of_a_proxy),
        with_fixture(tag__of_any_dialect_is_sent_back_as_it_came),
        with_fixture(tag__that_fits_more_than_one_object_is_none),
        with_fixture(replace__of_an_absent_key_is_lost_in_both_dialects),
        with_fixture(range__is_cut_out_when_the_server_ignores_it),
        with_fixture(listing__passes_over_names_that_are_no_keys),
        with_fixture(listing__that_goes_back_or_lies_is_refused),
        with_fixture(deletion__of_many_goes_in_batches),
        with_fixture(clock__that_differs_is_learnt_from_one_refusal),
        with_fixture(clock__is_learnt_where_a_refusal_has_no_body),
        with_fixture(wrong__region_bucket_or_right_gives_one_clear_error),
        with_fixture(nobody__listens_is_surely_not_done_and_names_the_address),
        with_fixture(connection__is_kept_through_refusals_and_used_by_one_caller_at_a_time),
        with_fixture(virtual__host_style_carries_the_bucket_in_the_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
