/* SPDX-License-Identifier: Apache-2.0 */
/* The asynchronous path of the S3 backend: one thread, many requests, the same verdicts as the blocking one. */
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
#include "storage/wrap.h"
#include "tests/support/support.h"
#include "tests/unit/storage/s3_control.h"

#define MANY 16u
#define CROWD 200u

/* One request with what it is given and what it gave. */
struct shot {
    struct hadb_storage_io io;
    struct hadb_buf got;
    struct hadb_tag tag;
    struct hadb_object_meta meta;
    char key[32];
    unsigned done; /* how often it was reported */
};

struct fixture {
    struct hadb_storage s;
    struct hadb_error err;
    struct shot shots[CROWD];
    bool driving;
};

static struct fixture *current; /* done has the shot only */

static void on_done(struct hadb_storage_io *io)
{
    struct shot *shot = io->arg;
    shot->done++;
    assert_true(current->driving);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct hadb_object_meta meta;
    assert_non_null(f);
    s3_tell("{\"reset\": true}");
    s3_open("&idle_timeout_ms=5000", NULL, &f->s);
    /* The first blocking call gets the credentials. */
    assert_int_equal(hadb_storage_head(&f->s, NULL, "none", &meta, &f->err), HADB_ABSENT);
    s3_tell("{\"reset\": true}");
    current = f;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    s3_tell("{\"reset\": true}");
    f->driving = true; /* closing reports what still runs */
    hadb_storage_close(&f->s);
    for (size_t i = 0; i < CROWD; i++) {
        hadb_buf_deinit(&f->shots[i].got);
    }
    free(f);
    return 0;
}

static int submit(struct fixture *f, size_t i, enum hadb_storage_io_type type, const char *key,
                  const char *body, const struct hadb_call *call)
{
    struct shot *shot = &f->shots[i];
    snprintf(shot->key, sizeof(shot->key), "%s", key);
    shot->io = (struct hadb_storage_io){.type = type,
                                        .call = call,
                                        .key = shot->key,
                                        .len = 4,
                                        .offset = 2,
                                        .body = hadb_slice_str(body),
                                        .expected = &shot->tag,
                                        .out = &shot->got,
                                        .tag = &shot->tag,
                                        .meta = &shot->meta,
                                        .done = on_done,
                                        .arg = shot};
    shot->done = 0;
    f->err = (struct hadb_error){0};
    return hadb_storage_submit(&f->s, &shot->io, &f->err);
}

/* Until nothing runs, as a loop would: wait for the descriptor, drive. */
static void drive_all(struct fixture *f)
{
    struct pollfd fd = {.fd = hadb_storage_fd(&f->s), .events = POLLIN};
    uint64_t end = hadb_now_ms(NULL) + 20000;
    assert_true(fd.fd >= 0);
    for (;;) {
        f->driving = true;
        size_t running = hadb_storage_drive(&f->s);
        f->driving = false;
        if (running == 0) {
            return;
        }
        assert_true(hadb_now_ms(NULL) < end);
        assert_true(poll(&fd, 1, 20000) == 1);
    }
}

static int run(struct fixture *f, enum hadb_storage_io_type type, const char *key, const char *body)
{
    assert_int_equal(submit(f, 0, type, key, body, NULL), 0);
    drive_all(f);
    assert_int_equal(f->shots[0].done, 1);
    return f->shots[0].io.result;
}

static void every__type_does_what_the_blocking_method_does(void **state)
{
    struct fixture *f = *state;
    struct shot *shot = &f->shots[0];
    assert_int_equal(run(f, HADB_IO_GET, "k", ""), HADB_ABSENT);
    assert_int_equal(run(f, HADB_IO_CREATE, "k", "0123456789"), 0);
    assert_int_equal(run(f, HADB_IO_CREATE, "k", "other"), HADB_EXISTS);
    assert_int_equal(run(f, HADB_IO_GET, "k", ""), 0);
    assert_true(hadb_slice_eq(hadb_buf_slice(&shot->got), hadb_slice_str("0123456789")));
    assert_int_equal(run(f, HADB_IO_GET_RANGE, "k", ""), 0);
    assert_true(hadb_slice_eq(hadb_buf_slice(&shot->got), hadb_slice_str("2345")));
    assert_int_equal(run(f, HADB_IO_HEAD, "k", ""), 0);
    assert_int_equal(shot->meta.size_bytes, 10);
    assert_string_equal(shot->meta.tag.s, shot->tag.s);
    struct hadb_tag old = shot->tag;
    assert_int_equal(run(f, HADB_IO_REPLACE, "k", "new"), 0);
    assert_string_not_equal(shot->tag.s, old.s);
    shot->tag = old;
    assert_int_equal(run(f, HADB_IO_REPLACE, "k", "newer"), HADB_CAS_LOST);
    assert_int_equal(run(f, HADB_IO_HEAD, "absent", ""), HADB_ABSENT);
}

static void many__requests_are_on_their_way_together(void **state)
{
    static char keys[MANY][16]; /* bodies, too: they stay until done */
    struct fixture *f = *state;
    s3_tell("{\"fault\": {\"do\": \"gather\", \"count\": %u, \"times\": %u}}", MANY, MANY);
    for (size_t i = 0; i < MANY; i++) {
        snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
        assert_int_equal(submit(f, i, HADB_IO_CREATE, keys[i], keys[i], NULL), 0);
        assert_int_equal(f->shots[i].done, 0);
    }
    drive_all(f); /* the server answers once all are there */
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(f->shots[i].done, 1);
        if (f->shots[i].io.result != 0) {
            fail_msg("%d %s", f->shots[i].io.result, f->shots[i].io.err.message);
        }
    }
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(submit(f, i, HADB_IO_GET, keys[i], "", NULL), 0);
    }
    drive_all(f);
    for (size_t i = 0; i < MANY; i++) {
        assert_true(hadb_slice_eq(hadb_buf_slice(&f->shots[i].got), hadb_slice_str(keys[i])));
    }
}

/* More than there are connections: the others wait for one of them. */
static void crowd__shares_the_connections_that_there_may_be(void **state)
{
    struct fixture *f = *state;
    json_t *answer = s3_control("{}");
    json_int_t before = json_integer_value(json_object_get(answer, "connections"));
    json_decref(answer);
    for (size_t i = 0; i < CROWD; i++) {
        assert_int_equal(submit(f, i, HADB_IO_GET, "absent", "", NULL), 0);
    }
    drive_all(f);
    for (size_t i = 0; i < CROWD; i++) {
        assert_int_equal(f->shots[i].done, 1);
        assert_int_equal(f->shots[i].io.result, HADB_ABSENT);
    }
    answer = s3_control("{}");
    assert_in_range(json_integer_value(json_object_get(answer, "connections")), before + 2,
                    before + 1 + 64);
    json_decref(answer);
}

static void connection__is_kept_between_requests(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(run(f, HADB_IO_CREATE, "k", "x"), 0);
    json_t *answer = s3_control("{}");
    json_int_t before = json_integer_value(json_object_get(answer, "connections"));
    json_decref(answer);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(run(f, HADB_IO_CREATE, "k", "x"), HADB_EXISTS);
        assert_int_equal(run(f, HADB_IO_GET, "k", ""), 0);
    }
    answer = s3_control("{}");
    assert_int_equal(json_integer_value(json_object_get(answer, "connections")), before + 1);
    json_decref(answer);
}

static void write__without_an_answer_is_unknown_and_never_sent_twice(void **state)
{
    struct fixture *f = *state;
    static const char *const faults[] = {
        "\"do\": \"apply_drop\"",
        "\"do\": \"drop\"",
        "\"do\": \"no_etag\"",
        "\"do\": \"status\", \"status\": 503, \"code\": \"SlowDown\"",
        "\"do\": \"status\", \"status\": 409",
    };
    assert_int_equal(run(f, HADB_IO_CREATE, "kept", "x"), 0); /* there is a connection to break */
    for (size_t i = 0; i < HADB_LEN(faults); i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%zu", i);
        long long before = s3_requests("PUT");
        s3_tell("{\"fault\": {\"method\": \"PUT\", %s}}", faults[i]);
        assert_int_equal(run(f, HADB_IO_CREATE, key, "x"), HADB_ETIMEDOUT);
        assert_int_equal(s3_requests("PUT"), before + 1);
    }
    s3_tell("{\"fault\": {\"method\": \"GET\", \"do\": \"drop\"}}");
    assert_int_equal(run(f, HADB_IO_GET, "kept", ""), 0); /* a read is repeated */
}

static void deadline__cancel_and_idleness_end_a_request_and_leave_a_write_unknown(void **state)
{
    struct fixture *f = *state;
    struct hadb_call call = hadb_call_within(NULL, 200);
    s3_tell("{\"fault\": {\"do\": \"apply_stall\", \"times\": 3}}");
    assert_int_equal(submit(f, 0, HADB_IO_CREATE, "a", "x", &call), 0);
    assert_int_equal(submit(f, 1, HADB_IO_GET, "b", "", &call), 0);
    drive_all(f);
    assert_int_equal(f->shots[0].io.result, HADB_ETIMEDOUT);
    assert_int_equal(f->shots[1].io.result, HADB_ETIMEDOUT);
    assert_non_null(strstr(f->shots[0].io.err.message, "deadline"));
    struct hadb_cancel cancel = {0};
    struct hadb_call other = {.cancel = &cancel};
    assert_int_equal(submit(f, 2, HADB_IO_GET, "c", "", &other), 0);
    __atomic_store_n(&cancel.flag, 1, __ATOMIC_RELAXED);
    drive_all(f);
    assert_int_equal(f->shots[2].io.result, HADB_ECANCELED);
    s3_tell("{\"reset\": true}");
    s3_tell("{\"fault\": {\"do\": \"apply_stall\"}}");
    hadb_storage_close(&f->s);
    s3_open("&idle_timeout_ms=100", NULL, &f->s);
    struct hadb_object_meta meta;
    s3_tell("{\"reset\": true}");
    assert_int_equal(hadb_storage_head(&f->s, NULL, "none", &meta, &f->err), HADB_ABSENT);
    s3_tell("{\"fault\": {\"do\": \"apply_stall\"}}");
    assert_int_equal(run(f, HADB_IO_CREATE, "d", "x"), HADB_ETIMEDOUT);
    assert_non_null(strstr(f->shots[0].io.err.message, "no byte moved"));
}

static void deadline__that_has_passed_sends_nothing(void **state)
{
    struct fixture *f = *state;
    struct hadb_call call = {.deadline_ms = 1};
    assert_int_equal(submit(f, 0, HADB_IO_CREATE, "k", "x", &call), HADB_EUNAVAIL);
    assert_int_equal(submit(f, 0, HADB_IO_GET, "k", "x", &call), HADB_ETIMEDOUT);
    assert_int_equal(s3_requests(NULL), 0);
    assert_int_equal(f->shots[0].done, 0);
}

static void clock__that_differs_is_learnt(void **state)
{
    struct fixture *f = *state;
    s3_tell("{\"set\": {\"clock_offset_s\": 4000}}");
    assert_int_equal(run(f, HADB_IO_CREATE, "k", "x"), 0);
    assert_int_equal(s3_requests("PUT"), 2);
    assert_int_equal(run(f, HADB_IO_GET, "k", ""), 0);
    assert_int_equal(s3_requests("GET"), 1);
}

/* Asking a source blocks, so the blocking path does it. */
static void absent__is_confirmed_where_the_server_does_not_sign_its_answers(void **state)
{
    struct fixture *f = *state;
    s3_tell("{\"set\": {\"request_id\": false}}");
    assert_int_equal(run(f, HADB_IO_HEAD, "a", ""), HADB_ABSENT);
    assert_int_equal(s3_requests("GET"), 1);
    assert_int_equal(run(f, HADB_IO_CREATE, "k", "body"), 0);
    s3_tell(
        "{\"fault\": {\"method\": \"HEAD\", \"do\": \"status\", \"status\": 404, \"body\": \"\"}}");
    assert_int_equal(run(f, HADB_IO_HEAD, "k", ""), HADB_EIO);
    assert_int_equal(run(f, HADB_IO_HEAD, "k", ""), 0);
}

static void credentials__that_are_due_send_the_caller_to_the_blocking_path(void **state)
{
    struct fixture *f = *state;
    struct hadb_object_meta meta;
    hadb_storage_close(&f->s);
    s3_open("", NULL, &f->s);
    assert_int_equal(submit(f, 0, HADB_IO_GET, "k", "", NULL), HADB_EBUSY);
    assert_int_equal(hadb_storage_head(&f->s, NULL, "k", &meta, &f->err), HADB_ABSENT);
    assert_int_equal(run(f, HADB_IO_GET, "k", ""), HADB_ABSENT);
    s3_tell("{\"set\": {\"expired\": [\"TESTKEYID\"]}}");
    assert_int_equal(run(f, HADB_IO_CREATE, "k", "x"), HADB_EAUTH);
    assert_true(f->shots[0].io.err.retryable);
    assert_int_equal(submit(f, 0, HADB_IO_CREATE, "k", "x", NULL), HADB_EBUSY);
    s3_tell("{\"set\": {\"expired\": []}}");
    assert_int_equal(hadb_storage_head(&f->s, NULL, "k", &meta, &f->err), HADB_ABSENT);
    assert_int_equal(run(f, HADB_IO_CREATE, "k", "x"), 0);
}

static void submit_again(struct hadb_storage_io *io)
{
    struct shot *shot = io->arg;
    if (++shot->done < 5) {
        assert_int_equal(hadb_storage_submit(&current->s, io, NULL), 0);
    }
}

static void request__may_be_submitted_again_when_it_is_done(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(submit(f, 0, HADB_IO_GET, "k", "", NULL), 0);
    f->shots[0].io.done = submit_again;
    drive_all(f);
    assert_int_equal(f->shots[0].done, 5);
    assert_int_equal(s3_requests("GET"), 5);
}

static void close__reports_what_still_runs(void **state)
{
    struct fixture *f = *state;
    s3_tell("{\"fault\": {\"do\": \"stall\", \"times\": 2}}");
    assert_int_equal(submit(f, 0, HADB_IO_CREATE, "k", "x", NULL), 0);
    assert_int_equal(submit(f, 1, HADB_IO_GET, "k", "x", NULL), 0);
    uint64_t end = hadb_now_ms(NULL) + 20000;
    while (s3_requests(NULL) < 2 && hadb_now_ms(NULL) < end) {
        f->driving = true;
        (void)hadb_storage_drive(&f->s);
    }
    hadb_storage_close(&f->s);
    assert_int_equal(f->shots[0].done, 1);
    assert_int_equal(f->shots[0].io.result, HADB_ETIMEDOUT);
    assert_int_equal(f->shots[1].done, 1);
    assert_int_equal(f->shots[1].io.result, HADB_ECANCELED);
}

static void backend__without_that_path_says_so(void **state)
{
    struct fixture *f = *state;
    hadb_storage_close(&f->s);
    assert_int_equal(hadb_storage_open("mem:", NULL, &f->s, &f->err), 0);
    assert_int_equal(submit(f, 0, HADB_IO_GET, "k", "", NULL), HADB_ENOTSUP);
    assert_int_equal(hadb_storage_fd(&f->s), -1);
    assert_int_equal(hadb_storage_drive(&f->s), 0);
    assert_int_equal(submit(f, 0, HADB_IO_GET, "bad//key", "", NULL), HADB_ENOTSUP);
}

/* No other memory, whether it succeeds or not; what it held counts, not where. */
static void output__that_is_empty_lends_its_memory(void **state)
{
    struct fixture *f = *state;
    struct hadb_buf *got = &f->shots[0].got;
    assert_int_equal(run(f, HADB_IO_CREATE, "k", "0123456789"), 0);
    assert_int_equal(hadb_buf_reserve(got, 1000), 0);
    const uint8_t *memory = got->data;
    assert_int_equal(run(f, HADB_IO_GET, "k", ""), 0);
    assert_ptr_equal(got->data, memory);
    hadb_buf_clear(got);
    assert_int_equal(run(f, HADB_IO_GET, "absent", ""), HADB_ABSENT);
    assert_ptr_equal(got->data, memory);
    assert_int_equal(got->len, 0);
    assert_int_equal(hadb_storage_get(&f->s, NULL, "k", got, NULL, &f->err), 0);
    assert_ptr_equal(got->data, memory);
    s3_tell("{\"fault\": {\"method\": \"GET\", \"do\": \"truncate\", \"bytes\": 3}}");
    assert_int_equal(run(f, HADB_IO_GET, "k", ""), HADB_EIO); /* not empty: it keeps what it had */
    assert_true(hadb_slice_eq(hadb_buf_slice(got), hadb_slice_str("0123456789")));
    hadb_buf_clear(got);
    s3_tell("{\"fault\": {\"method\": \"GET\", \"do\": \"truncate\", \"bytes\": 3}}");
    assert_int_equal(hadb_storage_get(&f->s, NULL, "k", got, NULL, &f->err), HADB_EIO);
    assert_int_equal(got->len, 0);
    assert_ptr_equal(got->data, memory);
}

static void bad__arguments_are_refused_before_anything_is_sent(void **state)
{
    struct fixture *f = *state;
    struct shot *shot = &f->shots[0];
    assert_int_equal(submit(f, 0, HADB_IO_GET, "bad//key", "", NULL), HADB_EINVAL);
    shot->tag.s[0] = '\0';
    assert_int_equal(submit(f, 0, HADB_IO_REPLACE, "k", "x", NULL), HADB_EINVAL);
    assert_int_equal(s3_requests(NULL), 0);
    assert_int_equal(shot->done, 0);
}

static void out_of_memory__is_never_called_unknown_before_something_was_sent(void **state)
{
    struct fixture *f = *state;
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        char key[16];
        snprintf(key, sizeof(key), "m%u", (unsigned)n);
        long long before = s3_requests("PUT");
        f->shots[0].io.result = 1000;
        test_alloc_fail_at(n);
        int r = submit(f, 0, HADB_IO_CREATE, key, "x", NULL);
        if (r == 0) {
            drive_all(f);
            r = f->shots[0].io.result;
        }
        hit = test_alloc_hit();
        test_alloc_reset();
        long long sent = s3_requests("PUT") - before;
        assert_true(r == 0 || (r == HADB_ENOMEM && sent == 0) ||
                    (r == HADB_ETIMEDOUT && sent == 1));
        assert_true(hit || r == 0);
    }
}

#define with_fixture(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        with_fixture(every__type_does_what_the_blocking_method_does),
        with_fixture(many__requests_are_on_their_way_together),
        with_fixture(crowd__shares_the_connections_that_there_may_be),
        with_fixture(connection__is_kept_between_requests),
        with_fixture(write__without_an_answer_is_unknown_and_never_sent_twice),
        with_fixture(deadline__cancel_and_idleness_end_a_request_and_leave_a_write_unknown),
        with_fixture(deadline__that_has_passed_sends_nothing),
        with_fixture(clock__that_differs_is_learnt),
        with_fixture(absent__is_confirmed_where_the_server_does_not_sign_its_answers),
        with_fixture(credentials__that_are_due_send_the_caller_to_the_blocking_path),
        with_fixture(request__may_be_submitted_again_when_it_is_done),
        with_fixture(close__reports_what_still_runs),
        with_fixture(backend__without_that_path_says_so),
        with_fixture(output__that_is_empty_lends_its_memory),
        with_fixture(bad__arguments_are_refused_before_anything_is_sent),
        with_fixture(out_of_memory__is_never_called_unknown_before_something_was_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
