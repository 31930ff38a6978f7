/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backend http:// when its real server dies in the middle, comes back, hangs, or is cut off: what a call may
 * answer, and when. Run through tests/support/with_storage.py KIND.
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
#include "hadb/storage.h"
#include "tests/support/lease_server.h"
#include "tests/support/support.h"

#define SHORT_MS 400u    /* deadline of a call that is to fail */
#define LONG_MS 20000u   /* of one that is not */
#define LATE_MS_MAX 600u /* how far over it an answer may come on a busy machine */
#define BACK_MS_MAX 60000u

struct fixture {
    char url[2048];
    struct hadb_storage s;
    struct hadb_buf got;
    struct hadb_tag tag;
    struct hadb_error err;
};

static const struct hadb_env *env(void)
{
    return hadb_env_host();
}

#define assert_done(f, expr)                                                  \
    do {                                                                      \
        int r_ = (expr);                                                      \
        if (r_ != 0) {                                                        \
            fail_msg("%s: %d %s", #expr, r_, r_ < 0 ? (f)->err.message : ""); \
        }                                                                     \
    } while (0)

static bool open_variable(struct fixture *f, const char *variable)
{
    hadb_storage_close(&f->s);
    if (!lease_server_url(variable, f->url, sizeof(f->url))) {
        return false;
    }
    assert_done(f, hadb_storage_open(f->url, NULL, &f->s, &f->err));
    return true;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    assert_true(open_variable(f, "HADB_TEST_STORAGE_RELAY_URL"));
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hadb_storage_close(&f->s);
    hadb_buf_deinit(&f->got);
    free(f);
    return 0;
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

static int create_within(struct fixture *f, const char *key, const char *body, uint64_t ms)
{
    struct hadb_call call = hadb_call_within(env(), ms);
    int r = hadb_storage_create(&f->s, &call, key, hadb_slice_str(body), &f->tag, &f->err);
    assert_in_time(f, &call, r);
    return r;
}

static int replace_within(struct fixture *f, const char *body, const struct hadb_tag *expected,
                          uint64_t ms)
{
    struct hadb_call call = hadb_call_within(env(), ms);
    int r =
        hadb_storage_replace(&f->s, &call, "k", hadb_slice_str(body), expected, &f->tag, &f->err);
    assert_in_time(f, &call, r);
    return r;
}

static int get_within(struct fixture *f, const char *key, uint64_t ms)
{
    struct hadb_call call = hadb_call_within(env(), ms);
    int r = hadb_storage_get(&f->s, &call, key, &f->got, &f->tag, &f->err);
    assert_in_time(f, &call, r);
    return r;
}

static int list_within(struct fixture *f, uint64_t ms)
{
    struct hadb_object_list list = {0};
    struct hadb_call call = hadb_call_within(env(), ms);
    int r = hadb_storage_list(&f->s, &call, "", "", 10, &list, &f->err);
    assert_in_time(f, &call, r);
    hadb_object_list_deinit(&list);
    return r;
}

static int delete_within(struct fixture *f, const char *key, uint64_t ms)
{
    struct hadb_call call = hadb_call_within(env(), ms);
    int r = hadb_storage_delete_many(&f->s, &call, &key, 1, &f->err);
    assert_in_time(f, &call, r);
    return r;
}

static bool holds(struct fixture *f, const char *body)
{
    return hadb_slice_eq(hadb_buf_slice(&f->got), hadb_slice_str(body));
}

/* A write to a server that is not there may have happened, or surely has not: nothing else may be said. */
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

static void assert_everything_fails_in_time(struct fixture *f, const struct hadb_tag *tag)
{
    assert_not_known(f, replace_within(f, "new", tag, SHORT_MS));
    assert_not_known(f, create_within(f, "fresh", "new", SHORT_MS));
    assert_not_known(f, delete_within(f, "nothing", SHORT_MS));
    assert_read_fails(f, get_within(f, "k", SHORT_MS));
    assert_read_fails(f, list_within(f, SHORT_MS));
}

/* Reads until the server answers again. Each try is typed; the last one is returned: 0 or HADB_ABSENT. */
static int get_again(struct fixture *f, const char *key)
{
    uint64_t end = hadb_now_ms(env()) + BACK_MS_MAX;
    int r = -1;
    while (r < 0 && hadb_now_ms(env()) < end) {
        r = get_within(f, key, 2000);
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

/*
 * After an unknown replacement of "old" by "new" either is there, and compare-and-swap goes on from it. What was on its
 * way may also land as late as now: then "old" was read, and the swap loses to it, once.
 */
static void assert_goes_on(struct fixture *f)
{
    assert_int_equal(get_again(f, "k"), 0);
    bool was_old = holds(f, "old");
    assert_true(was_old || holds(f, "new"));
    struct hadb_tag tag = f->tag;
    int r = replace_within(f, "next", &tag, LONG_MS);
    if (r == HADB_CAS_LOST && was_old) {
        assert_done(f, get_within(f, "k", LONG_MS));
        assert_true(holds(f, "new"));
        tag = f->tag;
        r = replace_within(f, "next", &tag, LONG_MS);
    }
    assert_done(f, r);
    assert_int_equal(replace_within(f, "again", &tag, LONG_MS), HADB_CAS_LOST);
    assert_done(f, get_within(f, "k", LONG_MS));
    assert_true(holds(f, "next"));
}

static struct hadb_tag put_old(struct fixture *f)
{
    assert_done(f, create_within(f, "k", "old", LONG_MS));
    return f->tag;
}

/* --- one fault at a time ------------------------------------------------------------------------ */

static void killed__server_is_a_typed_answer_and_its_return_is_noticed(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = put_old(f);
    lease_server_tell("kill");
    assert_everything_fails_in_time(f, &tag);
    lease_server_tell("start");
    assert_goes_on(f);
}

static void restarted__server_has_kept_what_was_acknowledged(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = put_old(f);
    lease_server_tell("kill");
    lease_server_tell("start");
    assert_done(f, get_within(f, "k", LONG_MS)); /* on a fresh connection: the kept one is dead */
    assert_true(holds(f, "old"));
    assert_string_equal(f->tag.s, tag.s);
    assert_int_equal(create_within(f, "k", "old", LONG_MS), HADB_EXISTS);
    assert_done(f, replace_within(f, "new", &tag, LONG_MS));
}

static void silent__server_ends_each_call_at_its_deadline(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = put_old(f);
    static const char *const faults[][2] = {{"pause", "resume"}, {"freeze", "pass"}};
    for (size_t i = 0; i < HADB_LEN(faults); i++) {
        lease_server_tell(faults[i][0]);
        assert_everything_fails_in_time(f, &tag);
        lease_server_tell(faults[i][1]);
        assert_int_equal(get_again(f, "k"), 0);
    }
    assert_goes_on(f);
}

static void reset__connections_are_typed_and_replaced(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = put_old(f);
    lease_server_tell("cut");
    assert_everything_fails_in_time(f, &tag);
    lease_server_tell("pass");
    assert_goes_on(f);
}

/* The write is applied, its reply is lost. Each test has a connection that is kept from the call before. */
static void lost__reply_to_a_replace_is_unknown(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = put_old(f);
    lease_server_tell("mute");
    int r = replace_within(f, "new", &tag, SHORT_MS);
    lease_server_tell("pass");
    assert_int_equal(r, HADB_ETIMEDOUT);
    assert_int_equal(get_again(f, "k"), 0);
    assert_true(holds(f, "new"));
    assert_int_equal(replace_within(f, "new", &tag, LONG_MS), HADB_CAS_LOST);
}

static void lost__reply_to_a_create_is_unknown_and_the_same_bytes_tell(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(get_within(f, "k", LONG_MS), HADB_ABSENT);
    lease_server_tell("mute");
    int r = create_within(f, "k", "new", SHORT_MS);
    lease_server_tell("pass");
    assert_int_equal(r, HADB_ETIMEDOUT);
    assert_int_equal(get_again(f, "k"), 0);
    assert_int_equal(create_within(f, "k", "new", LONG_MS), HADB_EXISTS);
    assert_done(f, get_within(f, "k", LONG_MS));
    assert_true(holds(f, "new"));
}

static void lost__reply_to_a_deletion_is_unknown(void **state)
{
    struct fixture *f = *state;
    (void)put_old(f);
    lease_server_tell("mute");
    int r = delete_within(f, "k", SHORT_MS);
    lease_server_tell("pass");
    assert_int_equal(r, HADB_ETIMEDOUT);
    assert_int_equal(get_again(f, "k"), HADB_ABSENT);
    assert_done(f, delete_within(f, "k", LONG_MS));
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
    struct hadb_call call = hadb_call_within(env(), LONG_MS);
    call.cancel = &c.flag;
    lease_server_tell("freeze");
    assert_done(f, hadb_thread_start(&c.thread, "cancel", cancel_soon, &c, &f->err));
    uint64_t start = hadb_now_ms(env());
    int r = hadb_storage_replace(&f->s, &call, "k", hadb_slice_str("new"), &tag, NULL, &f->err);
    uint64_t took_ms = hadb_now_ms(env()) - start;
    hadb_thread_join(&c.thread);
    lease_server_tell("pass");
    assert_true(r == HADB_ETIMEDOUT || r == HADB_ECANCELED);
    assert_true(took_ms < 5000);
    assert_goes_on(f);
}

/* --- many writers, many faults ------------------------------------------------------------------ */

enum { WRITERS = 4, WRITES_MIN = 60, SLOTS_MAX = 4096 };

struct writer {
    struct fixture *f;
    struct hadb_thread thread;
    unsigned id;
    const int *stop;          /* atomic */
    unsigned done, bad;       /* done is atomic */
    uint8_t slots[SLOTS_MAX]; /* what was said of each create */
};

enum { NOTHING, ACKNOWLEDGED, REFUSED, UNKNOWN, NOT_SENT };

/* Creates one slot after the other, each of which another writer may have. */
static void fill_slots(void *arg)
{
    struct writer *me = arg;
    for (unsigned slot = 0; slot < SLOTS_MAX && !__atomic_load_n(me->stop, __ATOMIC_RELAXED);
         slot++) {
        struct hadb_call call = hadb_call_within(env(), 1000);
        char key[32], body[32];
        snprintf(key, sizeof(key), "slots/%u", slot);
        snprintf(body, sizeof(body), "writer %u", me->id);
        int r = hadb_storage_create(&me->f->s, &call, key, hadb_slice_str(body), NULL, NULL);
        me->slots[slot] = r == 0                ? ACKNOWLEDGED
                          : r == HADB_EXISTS    ? REFUSED
                          : r == HADB_ETIMEDOUT ? UNKNOWN
                                                : NOT_SENT;
        __atomic_add_fetch(&me->done, r == 0, __ATOMIC_RELAXED);
        me->bad += r != 0 && r != HADB_EXISTS && r != HADB_ETIMEDOUT && r != HADB_EUNAVAIL;
    }
}

static unsigned acknowledged(const struct writer *writers)
{
    unsigned done = 0;
    for (size_t i = 0; i < WRITERS; i++) {
        done += __atomic_load_n(&writers[i].done, __ATOMIC_RELAXED);
    }
    return done;
}

/* Who was told "done" is the one whose bytes are there; who was told "refused" or "not sent" never is. */
static void check_slot(struct fixture *f, const struct writer *writers, unsigned slot)
{
    char key[32];
    snprintf(key, sizeof(key), "slots/%u", slot);
    int r = get_within(f, key, LONG_MS);
    assert_true(r == 0 || r == HADB_ABSENT);
    for (unsigned i = 0; i < WRITERS; i++) {
        char body[32];
        snprintf(body, sizeof(body), "writer %u", i);
        bool its = r == 0 && holds(f, body);
        uint8_t said = writers[i].slots[slot];
        if ((said == ACKNOWLEDGED && !its) || (its && said != ACKNOWLEDGED && said != UNKNOWN)) {
            fail_msg("slot %u: writer %u was told %u, and it is %s", slot, i, said,
                     its ? "there" : "not there");
        }
        assert_true(said != REFUSED || r == 0);
    }
}

/* The server is killed and started again, and connections are cut and muted, under four writers. */
static void broken__servers_and_connections_lose_and_double_nothing(void **state)
{
    struct fixture *f = *state;
    static struct writer writers[WRITERS];
    static const char *const faults[] = {"cut", "pass", "kill", "start", "mute", "pass"};
    int stop = 0;
    for (size_t i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.f = f, .id = (unsigned)i, .stop = &stop};
        assert_done(
            f, hadb_thread_start(&writers[i].thread, "writer", fill_slots, &writers[i], &f->err));
    }
    uint64_t end = hadb_now_ms(env()) + BACK_MS_MAX;
    for (unsigned i = 0;
         (i < 5 * HADB_LEN(faults) || i % HADB_LEN(faults) || acknowledged(writers) < WRITES_MIN) &&
         hadb_now_ms(env()) < end;
         i++) {
        lease_server_tell(faults[i % HADB_LEN(faults)]);
        hadb_sleep_ms(i % 2 ? 60 : 5, NULL); /* how long each state lasts at least */
        unsigned goal = acknowledged(writers) + (i % 2 ? 3 : 0);
        while (acknowledged(writers) < goal && hadb_now_ms(env()) < end) {
            hadb_sleep_ms(2, NULL);
        }
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    unsigned bad = 0;
    for (size_t i = 0; i < WRITERS; i++) {
        hadb_thread_join(&writers[i].thread);
        bad += writers[i].bad;
    }
    lease_server_tell("pass");
    assert_int_equal(bad, 0);
    assert_true(acknowledged(writers) >= WRITES_MIN);
    assert_true(get_again(f, "slots/0") >= 0);
    unsigned counts[NOT_SENT + 1] = {0};
    for (unsigned slot = 0; slot < SLOTS_MAX; slot++) {
        unsigned told = 0;
        for (size_t i = 0; i < WRITERS; i++) {
            counts[writers[i].slots[slot]]++;
            told += writers[i].slots[slot] != NOTHING;
        }
        if (told > 0) {
            check_slot(f, writers, slot);
        }
    }
    print_message("%u acknowledged, %u refused, %u unknown, %u not sent\n", counts[ACKNOWLEDGED],
                  counts[REFUSED], counts[UNKNOWN], counts[NOT_SENT]);
}

/* --- wrong addresses and secrets ---------------------------------------------------------------- */

static void wrong__port_is_unavailable_at_once_and_named(void **state)
{
    struct fixture *f = *state;
    assert_true(open_variable(f, "HADB_TEST_BAD_PORT_STORAGE_URL"));
    uint64_t start = hadb_now_ms(env());
    assert_int_equal(create_within(f, "k", "x", LONG_MS), HADB_EUNAVAIL);
    assert_non_null(strstr(f->err.message, "127.0.0.1"));
    assert_int_equal(get_within(f, "k", LONG_MS), HADB_EUNAVAIL);
    assert_true(hadb_now_ms(env()) - start < 10000);
}

/* The wrapper puts this word into every secret that is wrong. */
#define WRONG "wrong-secret"

static void wrong__token_is_refused_and_not_shown(void **state)
{
    struct fixture *f = *state;
    assert_true(open_variable(f, "HADB_TEST_BAD_AUTH_STORAGE_URL"));
    assert_non_null(strstr(f->url, WRONG));
    assert_int_equal(create_within(f, "k", "x", LONG_MS), HADB_EAUTH);
    assert_null(strstr(f->err.message, WRONG));
    assert_false(f->err.retryable);
    assert_int_equal(get_within(f, "k", LONG_MS), HADB_EAUTH);
    assert_int_equal(list_within(f, LONG_MS), HADB_EAUTH);
    assert_int_equal(delete_within(f, "k", LONG_MS), HADB_EAUTH);
    assert_null(strstr(f->err.message, WRONG));
}

static void wrong__certificate_authority_is_refused(void **state)
{
    struct fixture *f = *state;
    if (!open_variable(f, "HADB_TEST_BAD_CA_STORAGE_URL")) {
        print_message("this server is run without TLS\n");
        return;
    }
    assert_int_equal(create_within(f, "k", "x", LONG_MS), HADB_EAUTH);
    assert_non_null(strstr(f->err.message, "ca="));
    assert_int_equal(get_within(f, "k", LONG_MS), HADB_EAUTH);
    struct hadb_storage_usage usage;
    hadb_storage_usage(&f->s, &usage);
    assert_int_equal(usage.puts + usage.gets, 0);
}

#define fault(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        fault(killed__server_is_a_typed_answer_and_its_return_is_noticed),
        fault(restarted__server_has_kept_what_was_acknowledged),
        fault(silent__server_ends_each_call_at_its_deadline),
        fault(reset__connections_are_typed_and_replaced),
        fault(lost__reply_to_a_replace_is_unknown),
        fault(lost__reply_to_a_create_is_unknown_and_the_same_bytes_tell),
        fault(lost__reply_to_a_deletion_is_unknown),
        fault(cancelled__write_to_a_silent_server_is_unknown_or_not_sent),
        fault(broken__servers_and_connections_lose_and_double_nothing),
        fault(wrong__port_is_unavailable_at_once_and_named),
        fault(wrong__token_is_refused_and_not_shown),
        fault(wrong__certificate_authority_is_refused),
    };
    cmocka_set_test_filter(getenv("HADB_TEST_FILTER")); /* one of them, while looking for a fault */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
