/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lease stores whose real server dies, hangs, comes back, forgets, or is cut off: what a call may answer, and
 * when. Time may be lost; the answer must be typed, in time, and never "stored" or "lost" by guess.
 * Run through tests/support/with_lease.py KIND.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/thread.h"
#include "hadb/lease.h"
#include "tests/support/lease_server.h"
#include "tests/support/support.h"

#define SHORT_MS 400u    /* deadline of a call that is to fail */
#define LATE_MS_MAX 600u /* how far over it an answer may come on a busy machine */
#define BACK_MS_MAX 60000u

struct fixture {
    char url[2048];
    struct hadb_lease s;
    struct hadb_buf got;
    struct hadb_tag tag;
    struct hadb_error err;
};

static void open_url(struct fixture *f)
{
    if (hadb_lease_open(f->url, NULL, &f->s, &f->err)) {
        fail_msg("%s", f->err.message);
    }
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    assert_true(lease_server_url("HADB_TEST_LEASE_RELAY_URL", f->url, sizeof(f->url)));
    open_url(f);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hadb_lease_close(&f->s);
    hadb_buf_deinit(&f->got);
    free(f);
    return 0;
}

static const struct hadb_env *env(void)
{
    return hadb_env_host();
}

/* Fails the test when a call of @deadline took much longer than it was given. */
static void assert_in_time(struct fixture *f, const struct hadb_call *call, int r)
{
    uint64_t now = hadb_now_ms(env());
    if (now > call->deadline_ms + LATE_MS_MAX) {
        fail_msg("%" PRIu64 " ms over the deadline: %d %s", now - call->deadline_ms, r,
                 r < 0 ? f->err.message : "");
    }
}

static int put_within(struct fixture *f, const char *record, const struct hadb_tag *expected,
                      uint64_t ms)
{
    struct hadb_call call = hadb_call_within(env(), ms);
    f->err = (struct hadb_error){0};
    int r = hadb_lease_write_if_match(&f->s, &call, "node/a", hadb_slice_str(record), expected,
                                      &f->tag, &f->err);
    assert_in_time(f, &call, r);
    return r;
}

static int get_within(struct fixture *f, uint64_t ms)
{
    struct hadb_call call = hadb_call_within(env(), ms);
    f->err = (struct hadb_error){0};
    int r = hadb_lease_read(&f->s, &call, "node/a", &f->got, &f->tag, &f->err);
    assert_in_time(f, &call, r);
    return r;
}

#define assert_done(f, expr)                                                  \
    do {                                                                      \
        int r_ = (expr);                                                      \
        if (r_ != 0) {                                                        \
            fail_msg("%s: %d %s", #expr, r_, r_ < 0 ? (f)->err.message : ""); \
        }                                                                     \
    } while (0)

/* The write may have happened, or surely has not: nothing else may be said of a server that is not there. */
static void assert_not_known(struct fixture *f, int r)
{
    if (r != HADB_ETIMEDOUT && r != HADB_EUNAVAIL) {
        fail_msg("a write answered %d %s", r, f->err.message);
    }
    assert_true(f->err.retryable);
    assert_true(f->err.message[0] != '\0');
}

static void assert_read_fails(struct fixture *f, int r)
{
    if (r != HADB_ETIMEDOUT && r != HADB_EUNAVAIL && r != HADB_EIO) {
        fail_msg("a read answered %d %s", r, f->err.message);
    }
    assert_true(f->err.retryable);
}

/* Reads until the server answers again. Each try is typed; the last one is returned: 0 or HADB_ABSENT. */
static int get_again(struct fixture *f)
{
    uint64_t end = hadb_now_ms(env()) + BACK_MS_MAX;
    int r = -1;
    while (r < 0 && hadb_now_ms(env()) < end) {
        r = get_within(f, 2000);
        if (r < 0) {
            assert_read_fails(f, r);
            hadb_sleep_ms(10, NULL); /* the pace of trying again, not a wait for something */
        }
    }
    if (r < 0) {
        fail_msg("the server does not come back: %d %s", r, f->err.message);
    }
    return r;
}

static bool holds(struct fixture *f, const char *record)
{
    return hadb_slice_eq(hadb_buf_slice(&f->got), hadb_slice_str(record));
}

/*
 * After an unknown write of "new" over "old": either is there, and compare-and-swap goes on from it. What was on its
 * way may also land as late as now: then "old" was read, and the swap loses to it, once.
 */
static void assert_goes_on(struct fixture *f)
{
    assert_int_equal(get_again(f), 0);
    bool was_old = holds(f, "old");
    assert_true(was_old || holds(f, "new"));
    struct hadb_tag tag = f->tag;
    int r = put_within(f, "next", &tag, 10000);
    if (r == HADB_CAS_LOST && was_old) {
        assert_done(f, get_within(f, 10000));
        assert_true(holds(f, "new"));
        tag = f->tag;
        r = put_within(f, "next", &tag, 10000);
    }
    assert_done(f, r);
    assert_int_equal(put_within(f, "again", &tag, 10000), HADB_CAS_LOST);
    assert_done(f, get_within(f, 10000));
    assert_true(holds(f, "next"));
}

static struct hadb_tag put_old(struct fixture *f)
{
    assert_done(f, put_within(f, "old", NULL, 10000));
    return f->tag;
}

static void killed__server_is_a_typed_answer_and_its_return_is_noticed(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = put_old(f);
    lease_server_tell("kill");
    assert_not_known(f, put_within(f, "new", &tag, SHORT_MS));
    assert_read_fails(f, get_within(f, SHORT_MS));
    assert_not_known(f, put_within(f, "new", &tag, SHORT_MS));
    lease_server_tell("start");
    assert_goes_on(f);
}

/* The kept connection is dead, which is seen before it is used: no call is lost to it. */
static void restarted__server_is_met_on_a_fresh_connection(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = put_old(f);
    lease_server_tell("kill");
    lease_server_tell("start");
    assert_done(f, get_within(f, 20000));
    assert_true(holds(f, "old"));
    assert_string_equal(f->tag.s, tag.s);
    assert_done(f, put_within(f, "new", &tag, 10000));
}

static void paused__server_leaves_a_write_unknown_at_its_deadline(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = put_old(f);
    lease_server_tell("pause");
    int r = put_within(f, "new", &tag, SHORT_MS);
    int got = get_within(f, SHORT_MS);
    lease_server_tell("resume");
    assert_not_known(f, r);
    assert_read_fails(f, got);
    assert_goes_on(f);
}

/* The write is applied and its reply is lost. */
static void lost__reply_is_unknown_and_never_written_twice(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = put_old(f);
    lease_server_tell("mute");
    int r = put_within(f, "new", &tag, SHORT_MS);
    lease_server_tell("pass");
    assert_int_equal(r, HADB_ETIMEDOUT);
    assert_int_equal(get_again(f), 0);
    assert_true(holds(f, "new"));
    assert_int_equal(put_within(f, "again", &tag, 10000), HADB_CAS_LOST);
}

static void lost__reply_to_a_create_is_unknown(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(get_within(f, 10000), HADB_ABSENT);
    lease_server_tell("mute");
    int r = put_within(f, "new", NULL, SHORT_MS);
    lease_server_tell("pass");
    assert_int_equal(r, HADB_ETIMEDOUT);
    assert_int_equal(get_again(f), 0);
    assert_true(holds(f, "new"));
}

static void half__open_connection_ends_at_the_deadline(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = put_old(f);
    lease_server_tell("freeze");
    int r = put_within(f, "new", &tag, SHORT_MS);
    int got = get_within(f, SHORT_MS);
    struct hadb_call call = hadb_call_within(env(), SHORT_MS);
    int watched = hadb_lease_watch(&f->s, &call, "node/a", &tag, NULL);
    assert_in_time(f, &call, watched);
    lease_server_tell("pass");
    assert_not_known(f, r);
    assert_read_fails(f, got);
    assert_true(watched == HADB_END || watched < 0);
    assert_goes_on(f);
}

static void reset__connections_are_typed_and_replaced(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = put_old(f);
    lease_server_tell("cut");
    assert_not_known(f, put_within(f, "new", &tag, SHORT_MS));
    assert_read_fails(f, get_within(f, SHORT_MS));
    lease_server_tell("pass");
    assert_goes_on(f);
}

struct canceller {
    struct hadb_cancel flag;
    struct hadb_thread thread;
};

static void cancel_soon(void *arg)
{
    struct canceller *c = arg;
    hadb_sleep_ms(30, NULL); /* whether before or after the send, the answer must be right */
    __atomic_store_n(&c->flag.flag, 1, __ATOMIC_RELAXED);
}

static void cancelled__write_to_a_silent_server_is_unknown_or_not_sent(void **state)
{
    struct fixture *f = *state;
    struct canceller c = {0};
    struct hadb_tag tag = put_old(f);
    struct hadb_call call = hadb_call_within(env(), 20000);
    call.cancel = &c.flag;
    lease_server_tell("freeze");
    assert_done(f, hadb_thread_start(&c.thread, "cancel", cancel_soon, &c, &f->err));
    uint64_t start = hadb_now_ms(env());
    int r = hadb_lease_write_if_match(&f->s, &call, "node/a", hadb_slice_str("new"), &tag, NULL,
                                      &f->err);
    uint64_t took_ms = hadb_now_ms(env()) - start;
    hadb_thread_join(&c.thread);
    lease_server_tell("pass");
    assert_true(r == HADB_ETIMEDOUT || r == HADB_ECANCELED);
    assert_true(took_ms < 5000);
    assert_goes_on(f);
}

static void forgetful__server_costs_the_record_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = put_old(f);
    lease_server_tell("forget");
    assert_int_equal(get_again(f), HADB_ABSENT);
    assert_int_equal(put_within(f, "new", &tag, 10000), HADB_CAS_LOST);
    assert_int_equal(get_within(f, 10000), HADB_ABSENT);
    assert_done(f, put_within(f, "new", NULL, 10000));
    assert_string_not_equal(f->tag.s, tag.s);
    assert_done(f, get_within(f, 10000));
    assert_true(holds(f, "new"));
}

enum { WRITERS = 4, WRITES_MIN = 40 };

struct writer {
    struct fixture *f;
    struct hadb_thread thread;
    const int *stop; /* atomic */
    unsigned done, unknown, bad;
};

/* Adds one again and again, by compare-and-swap, whatever the connection does. */
static void add_up(void *arg)
{
    struct writer *me = arg;
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    while (!__atomic_load_n(me->stop, __ATOMIC_RELAXED)) {
        struct hadb_call call = hadb_call_within(env(), 1000);
        struct hadb_tag tag = {0};
        char record[32];
        int r = hadb_lease_read(&me->f->s, &call, "counter", &bytes, &tag, NULL);
        if (r < 0) {
            me->bad += r != HADB_ETIMEDOUT && r != HADB_EUNAVAIL && r != HADB_EIO;
            continue;
        }
        unsigned value = r == 0 ? (unsigned)atoi(hadb_buf_cstr(&bytes)) : 0;
        snprintf(record, sizeof(record), "%u", value + 1);
        r = hadb_lease_write_if_match(&me->f->s, &call, "counter", hadb_slice_str(record),
                                      r == 0 ? &tag : NULL, NULL, NULL);
        __atomic_add_fetch(&me->done, r == 0, __ATOMIC_RELAXED);
        me->unknown += r == HADB_ETIMEDOUT;
        me->bad += r < 0 && r != HADB_ETIMEDOUT && r != HADB_EUNAVAIL;
    }
}

/* What was acknowledged counts once; what is unknown counts once at most; nothing else counts. */
static void broken__connections_lose_and_double_nothing(void **state)
{
    struct fixture *f = *state;
    static struct writer writers[WRITERS];
    static const char *const faults[] = {"cut", "pass", "mute", "pass"};
    int stop = 0;
    for (size_t i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.f = f, .stop = &stop};
        assert_done(f,
                    hadb_thread_start(&writers[i].thread, "writer", add_up, &writers[i], &f->err));
    }
    uint64_t end = hadb_now_ms(env()) + BACK_MS_MAX;
    unsigned done = 0;
    for (unsigned i = 0; (done < WRITES_MIN || i < 40) && hadb_now_ms(env()) < end; i++) {
        lease_server_tell(faults[i % HADB_LEN(faults)]);
        hadb_sleep_ms(i % 2 ? 60 : 5, NULL); /* how long each state lasts */
        done = 0;
        for (size_t k = 0; k < WRITERS; k++) {
            done += __atomic_load_n(&writers[k].done, __ATOMIC_RELAXED);
        }
    }
    lease_server_tell("pass");
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    unsigned unknown = 0, bad = 0;
    done = 0;
    for (size_t i = 0; i < WRITERS; i++) {
        hadb_thread_join(&writers[i].thread);
        done += writers[i].done;
        unknown += writers[i].unknown;
        bad += writers[i].bad;
    }
    struct hadb_call call = hadb_call_within(env(), 10000);
    assert_int_equal(bad, 0);
    assert_true(done >= WRITES_MIN);
    assert_done(f, hadb_lease_read(&f->s, &call, "counter", &f->got, &f->tag, &f->err));
    unsigned value = (unsigned)atoi(hadb_buf_cstr(&f->got));
    print_message("%u acknowledged, %u unknown, %u counted\n", done, unknown, value);
    assert_in_range(value, done, done + unknown);
}

/* --- wrong addresses and secrets ---------------------------------------------------------------- */

static bool open_other(struct fixture *f, const char *variable)
{
    hadb_lease_close(&f->s);
    if (!lease_server_url(variable, f->url, sizeof(f->url))) {
        return false;
    }
    open_url(f);
    return true;
}

static void wrong__port_is_unavailable_at_once_and_named(void **state)
{
    struct fixture *f = *state;
    assert_true(open_other(f, "HADB_TEST_BAD_PORT_LEASE_URL"));
    uint64_t start = hadb_now_ms(env());
    assert_int_equal(put_within(f, "x", NULL, 20000), HADB_EUNAVAIL);
    assert_non_null(strstr(f->err.message, "127.0.0.1"));
    assert_int_equal(get_within(f, 20000), HADB_EUNAVAIL);
    assert_true(hadb_now_ms(env()) - start < 10000);
}

/* The wrapper puts this word into every secret that is wrong. */
#define WRONG "wrong-secret"

static void wrong__password_is_refused_and_not_shown(void **state)
{
    struct fixture *f = *state;
    if (!open_other(f, "HADB_TEST_BAD_AUTH_LEASE_URL")) {
        print_message("this server is run without passwords\n");
        return;
    }
    assert_non_null(strstr(f->url, WRONG));
    assert_int_equal(put_within(f, "x", NULL, 20000), HADB_EAUTH);
    assert_null(strstr(f->err.message, WRONG));
    assert_false(f->err.retryable);
    assert_int_equal(get_within(f, 20000), HADB_EAUTH);
    assert_null(strstr(f->err.message, WRONG));
}

static void wrong__certificate_authority_is_refused(void **state)
{
    struct fixture *f = *state;
    if (!open_other(f, "HADB_TEST_BAD_CA_LEASE_URL")) {
        print_message("this server is run without TLS\n");
        return;
    }
    assert_int_equal(put_within(f, "x", NULL, 20000), HADB_EAUTH);
    assert_non_null(strstr(f->err.message, "ca="));
    assert_int_equal(get_within(f, 20000), HADB_EAUTH);
}

#define fault(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        fault(killed__server_is_a_typed_answer_and_its_return_is_noticed),
        fault(restarted__server_is_met_on_a_fresh_connection),
        fault(paused__server_leaves_a_write_unknown_at_its_deadline),
        fault(lost__reply_is_unknown_and_never_written_twice),
        fault(lost__reply_to_a_create_is_unknown),
        fault(half__open_connection_ends_at_the_deadline),
        fault(reset__connections_are_typed_and_replaced),
        fault(cancelled__write_to_a_silent_server_is_unknown_or_not_sent),
        fault(broken__connections_lose_and_double_nothing),
        fault(wrong__port_is_unavailable_at_once_and_named),
        fault(wrong__password_is_refused_and_not_shown),
        fault(wrong__certificate_authority_is_refused),
        fault(forgetful__server_costs_the_record_and_nothing_else),
    };
    cmocka_set_test_filter(getenv("HADB_TEST_FILTER")); /* one of them, while looking for a fault */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
