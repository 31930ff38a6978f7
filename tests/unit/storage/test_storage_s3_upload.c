/* SPDX-License-Identifier: Apache-2.0 */
/* Large objects, created in parts: whole or not at all, once, and nothing is left behind. */
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
#include "storage/wrap.h"
#include "tests/support/support.h"
#include "tests/unit/storage/s3_control.h"

#define LARGE_BYTES ((17u << 20) + 12345) /* two parts */

struct fixture {
    struct hadb_storage s;
    struct hadb_buf got;
    struct hadb_error err;
    uint8_t *bytes;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->bytes = malloc(LARGE_BYTES);
    assert_non_null(f->bytes);
    for (size_t i = 0; i < LARGE_BYTES; i++) {
        f->bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    }
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
    free(f->bytes);
    free(f);
    return 0;
}

static int create(struct fixture *f, const char *key, struct hadb_tag *tag)
{
    f->err = (struct hadb_error){0};
    return hadb_storage_create(&f->s, NULL, key, hadb_slice(f->bytes, LARGE_BYTES), tag, &f->err);
}

static int get(struct fixture *f, const char *key, struct hadb_tag *tag)
{
    return hadb_storage_get(&f->s, NULL, key, &f->got, tag, &f->err);
}

static void assert_holds(struct fixture *f, const char *key)
{
    assert_int_equal(get(f, key, NULL), 0);
    assert_true(hadb_slice_eq(hadb_buf_slice(&f->got), hadb_slice(f->bytes, LARGE_BYTES)));
}

/* Names of the uploads that the server holds, one after the other, each with a blank behind it. */
static const char *uploads(void)
{
    static char text[512];
    json_t *answer = s3_control("{}");
    json_t *names = json_object_get(answer, "uploads");
    text[0] = '\0';
    for (size_t i = 0; i < json_array_size(names); i++) {
        size_t len = strlen(text);
        snprintf(text + len, sizeof(text) - len, "%s ",
                 json_string_value(json_array_get(names, i)));
    }
    json_decref(answer);
    return text;
}

static void fault(const char *method, const char *rest)
{
    s3_tell("{\"fault\": {\"method\": \"%s\", %s}}", method, rest);
}

static void large__object_arrives_whole_with_the_tag_that_a_read_gives(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag made = {""}, read = {""};
    assert_int_equal(create(f, "k", &made), 0);
    assert_int_equal(s3_requests("PUT"), 2);
    assert_holds(f, "k");
    assert_int_equal(get(f, "k", &read), 0);
    assert_string_equal(made.s, read.s);
    assert_int_equal(
        hadb_storage_replace(&f->s, NULL, "k", hadb_slice_str("small"), &made, NULL, &f->err), 0);
    assert_string_equal(uploads(), "");
}

static void parts__are_on_their_way_together(void **state)
{
    struct fixture *f = *state;
    fault("PUT", "\"do\": \"gather\", \"count\": 2, \"times\": 2");
    assert_int_equal(create(f, "k", NULL), 0); /* the server waits for both */
    assert_holds(f, "k");
}

static void object__that_is_there_is_not_sent_again(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(hadb_storage_create(&f->s, NULL, "k", hadb_slice_str("x"), NULL, &f->err), 0);
    long long before = s3_requests("PUT");
    assert_int_equal(create(f, "k", NULL), HADB_EXISTS);
    assert_int_equal(s3_requests("PUT"), before);
    assert_int_equal(s3_requests("POST"), 0);
}

/* It appears between the look and the completion. */
static void object__that_appears_meanwhile_stays_and_the_upload_is_ended(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(hadb_storage_create(&f->s, NULL, "k", hadb_slice_str("x"), NULL, &f->err), 0);
    fault("HEAD", "\"do\": \"status\", \"status\": 404");
    assert_int_equal(create(f, "k", NULL), HADB_EXISTS);
    assert_int_equal(get(f, "k", NULL), 0);
    assert_true(hadb_slice_eq(hadb_buf_slice(&f->got), hadb_slice_str("x")));
    assert_string_equal(uploads(), "");
}

static void failure__before_the_completion_is_surely_not_done(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *method, *rest;
    } faults[] = {
        {"HEAD", "\"do\": \"drop\", \"times\": 2"},
        {"POST", "\"do\": \"drop\", \"times\": 2"},
        {"POST", "\"do\": \"status\", \"status\": 503, \"code\": \"SlowDown\""},
        {"POST", "\"do\": \"status\", \"status\": 200, \"body\": \"<html/>\""},
        {"PUT", "\"do\": \"status\", \"status\": 503, \"code\": \"SlowDown\""},
        {"PUT", "\"do\": \"garbage\""},
        {"PUT", "\"do\": \"no_etag\", \"path\": \"partNumber=1\""},
        {"PUT", "\"do\": \"status\", \"status\": 500, \"path\": \"partNumber=2\""},
    };
    for (size_t i = 0; i < HADB_LEN(faults); i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%zu", i);
        s3_tell("{\"reset\": true}");
        fault(faults[i].method, faults[i].rest);
        int r = create(f, key, NULL);
        if (r != HADB_EUNAVAIL && r != HADB_EIO) {
            fail_msg("fault %zu: %d %s", i, r, f->err.message);
        }
        assert_int_equal(get(f, key, NULL), HADB_ABSENT);
        assert_string_equal(uploads(), "");
        assert_int_equal(create(f, key, NULL), 0);
    }
}

static void part__that_is_refused_for_a_moment_is_mended_by_with_retry(void **state)
{
    struct fixture *f = *state;
    struct hadb_retry_options options = {.tries_max = 3, .wait_ms_min = 1, .wait_ms_max = 2};
    fault("PUT", "\"do\": \"status\", \"status\": 503, \"code\": \"SlowDown\", \"times\": 3");
    assert_int_equal(hadb_storage_with_retry(&f->s, &options, NULL, &f->s, &f->err), 0);
    assert_int_equal(create(f, "k", NULL), 0);
    assert_holds(f, "k");
}

static void completion__without_an_answer_is_unknown_and_sent_once(void **state)
{
    struct fixture *f = *state;
    fault("POST", "\"path\": \"uploadId\", \"do\": \"apply_drop\"");
    assert_int_equal(create(f, "k", NULL), HADB_ETIMEDOUT);
    assert_int_equal(s3_requests("POST"), 2);
    assert_int_equal(create(f, "k", NULL), HADB_EXISTS);
    assert_holds(f, "k");
    static const char *const faults[] = {
        "\"do\": \"drop\"",
        "\"do\": \"status\", \"status\": 409, \"code\": \"ConditionalRequestConflict\"",
        "\"do\": \"status\", \"status\": 200, \"code\": \"InternalError\"",
        "\"do\": \"status\", \"status\": 200, \"body\": \"\"",
        "\"do\": \"status\", \"status\": 500, \"code\": \"InternalError\"",
    };
    for (size_t i = 0; i < HADB_LEN(faults); i++) {
        char rest[160];
        snprintf(rest, sizeof(rest), "\"path\": \"uploadId\", %s", faults[i]);
        fault("POST", rest);
        assert_int_equal(create(f, "other", NULL), HADB_ETIMEDOUT);
        assert_int_equal(get(f, "other", NULL), HADB_ABSENT);
    }
    /* It may be completing yet, so the upload is left alone: age ends it. */
    assert_string_not_equal(uploads(), "");
}

static void completion__may_be_refused_after_200_was_sent(void **state)
{
    struct fixture *f = *state;
    fault("POST", "\"path\": \"uploadId\", \"do\": \"status\", \"status\": 200, \"code\": "
                  "\"PreconditionFailed\"");
    assert_int_equal(create(f, "k", NULL), HADB_EXISTS);
    fault("POST", "\"path\": \"uploadId\", \"do\": \"status\", \"status\": 404, \"code\": "
                  "\"NoSuchUpload\"");
    assert_int_equal(create(f, "k", NULL), HADB_EIO);
}

static void deadline__ends_the_parts_and_nothing_is_written(void **state)
{
    struct fixture *f = *state;
    fault("PUT", "\"do\": \"stall\", \"times\": 2");
    struct hadb_call call = hadb_call_within(NULL, 500);
    assert_int_equal(
        hadb_storage_create(&f->s, &call, "k", hadb_slice(f->bytes, LARGE_BYTES), NULL, &f->err),
        HADB_EUNAVAIL);
    assert_non_null(strstr(f->err.message, "deadline"));
    s3_tell("{\"release\": true}");
    assert_string_equal(uploads(), "");
    assert_int_equal(get(f, "k", NULL), HADB_ABSENT);
}

static void open_sweep(struct fixture *f, const char *prefix)
{
    char url[256];
    hadb_storage_close(&f->s);
    snprintf(url, sizeof(url), "s3://test-bucket/%s?endpoint=%s", prefix, s3_origin());
    assert_int_equal(hadb_storage_open(url, NULL, &f->s, &f->err), 0);
}

/* Ours are those below our prefix; nobody's upload takes a day. */
static void uploads__of_the_past_are_ended_once_and_no_others(void **state)
{
    struct fixture *f = *state;
    open_sweep(f, "sweep");
    s3_tell("{\"upload\": {\"sweep/old\": 90000, \"sweep/young\": 80000, \"sweeper/old\": 90000, "
            "\"sweep/a//b\": 90000}}");
    assert_int_equal(hadb_storage_create(&f->s, NULL, "s", hadb_slice_str("x"), NULL, &f->err), 0);
    assert_string_equal(uploads(), "sweep/a//b sweep/old sweep/young sweeper/old ");
    assert_int_equal(create(f, "k", NULL), 0);
    assert_string_equal(uploads(), "sweep/a//b sweep/young sweeper/old ");
    s3_tell("{\"upload\": {\"sweep/old\": 90000}}");
    assert_int_equal(create(f, "k2", NULL), 0); /* at the start only */
    assert_string_equal(uploads(), "sweep/a//b sweep/old sweep/young sweeper/old ");
}

/* A store that does not mind our clock never tells us that it is wrong: the age counts by its own. */
static void uploads__that_others_are_at_are_left_alone_whatever_our_clock_says(void **state)
{
    struct fixture *f = *state;
    open_sweep(f, "clock");
    s3_tell("{\"set\": {\"clock_offset_s\": -200000, \"check_clock\": false}, "
            "\"upload\": {\"clock/young\": 60, \"clock/old\": 90000}}");
    assert_int_equal(create(f, "k", NULL), 0);
    assert_string_equal(uploads(), "clock/young ");
}

/* To tidy up is a favour: it takes no more of the caller's time than there is. */
static void uploads__of_the_past_that_cannot_be_ended_do_not_hold_up_the_caller(void **state)
{
    struct fixture *f = *state;
    open_sweep(f, "slow");
    for (unsigned i = 0; i < 9; i++) {
        s3_tell("{\"upload\": {\"slow/%u\": 90000}}", i);
    }
    fault("DELETE", "\"do\": \"stall\", \"times\": 9");
    struct hadb_call call = hadb_call_within(NULL, 30000);
    uint64_t from_ms = hadb_now_ms(hadb_env_host());
    assert_int_equal(
        hadb_storage_create(&f->s, &call, "k", hadb_slice(f->bytes, LARGE_BYTES), NULL, &f->err),
        0);
    assert_in_range(hadb_now_ms(hadb_env_host()) - from_ms, 0,
                    15000); /* 9 times 2 s, if each had its own */
    assert_holds(f, "k");
}

static void requests__are_counted_by_what_they_cost(void **state)
{
    struct fixture *f = *state;
    struct hadb_storage_usage before, after;
    struct hadb_object_list list = {0};
    assert_int_equal(create(f, "k", NULL), 0);
    hadb_storage_usage(&f->s, &before);
    assert_int_equal(before.puts, 1 + 1 + 2 + 1); /* list of uploads, begin, parts, complete */
    assert_int_equal(before.gets, 1);
    assert_in_range(before.sent_bytes, LARGE_BYTES, LARGE_BYTES + 4096);
    assert_holds(f, "k");
    assert_int_equal(hadb_storage_list(&f->s, NULL, "", "", 10, &list, &f->err), 0);
    hadb_object_list_deinit(&list);
    assert_int_equal(hadb_storage_create(&f->s, NULL, "k", hadb_slice_str("12345"), NULL, &f->err),
                     HADB_EXISTS);
    assert_int_equal(hadb_storage_with_prefix(&f->s, "p", NULL, &f->s, &f->err), 0);
    hadb_storage_usage(&f->s, &after);
    assert_int_equal(after.puts - before.puts, 2);
    assert_int_equal(after.gets - before.gets, 1);
    assert_int_equal(hadb_storage_cost_nusd(&after) - hadb_storage_cost_nusd(&before),
                     2 * 5000 + 400);
    assert_int_equal(after.sent_bytes - before.sent_bytes, 5);
    assert_in_range(after.received_bytes - before.received_bytes, LARGE_BYTES, LARGE_BYTES + 4096);
}

#define with_fixture(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        with_fixture(large__object_arrives_whole_with_the_tag_that_a_read_gives),
        with_fixture(parts__are_on_their_way_together),
        with_fixture(object__that_is_there_is_not_sent_again),
        with_fixture(object__that_appears_meanwhile_stays_and_the_upload_is_ended),
        with_fixture(failure__before_the_completion_is_surely_not_done),
        with_fixture(part__that_is_refused_for_a_moment_is_mended_by_with_retry),
        with_fixture(completion__without_an_answer_is_unknown_and_sent_once),
        with_fixture(completion__may_be_refused_after_200_was_sent),
        with_fixture(deadline__ends_the_parts_and_nothing_is_written),
        with_fixture(uploads__of_the_past_are_ended_once_and_no_others),
        with_fixture(uploads__that_others_are_at_are_left_alone_whatever_our_clock_says),
        with_fixture(uploads__of_the_past_that_cannot_be_ended_do_not_hold_up_the_caller),
        with_fixture(requests__are_counted_by_what_they_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
