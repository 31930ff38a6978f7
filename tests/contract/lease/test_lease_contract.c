/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract of LeaseStore (include/hadb/lease.h), run on every store. Each test gets a fresh store.
 * Usage: test_lease_contract mem|file|faultfs|memfs   or with a server: tests/support/with_lease.py KIND
 *        test_lease_contract storage-mem|storage-file     test_lease_contract server
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/thread.h"
#include "lease/lease_private.h"
#include "tests/support/lease_server.h"
#include "tests/support/memfs.h"
#include "tests/support/support.h"

static const char *spec;

struct fixture {
    char dir[HADB_PATH_BYTES_MAX]; /* "" = none */
    char url[HADB_PATH_BYTES_MAX + 64];
    bool over_storage;        /* url is a storage's */
    struct hadb_storage keep; /* keeps a named mem storage alive */
    struct hadb_env env;
    struct test_faultfs faultfs;
    struct test_memfs *memfs;
    struct hadb_lease s;
    struct hadb_buf got;
    struct hadb_tag tag;
    struct hadb_error err;
};

static int open_store(struct fixture *f, struct hadb_lease *out)
{
    if (!f->over_storage) {
        return hadb_lease_open(f->url, &f->env, out, &f->err);
    }
    struct hadb_storage storage = {0};
    int r = hadb_storage_open(f->url, &f->env, &storage, &f->err);
    return r ? r : hadb__lease_over_storage(&storage, &f->env, out, &f->err);
}

static int setup(void **state)
{
    static unsigned serial;
    struct fixture *f = calloc(1, sizeof(*f));
    f->env = *hadb_env_host();
    serial++;
    if (strcmp(spec, "mem") == 0) {
        snprintf(f->url, sizeof(f->url), "mem:leases-%u", serial);
    } else if (strcmp(spec, "server") == 0) {
        lease_server_url("HADB_TEST_LEASE_URL", f->url, sizeof(f->url));
    } else if (strcmp(spec, "storage-mem") == 0) {
        f->over_storage = true;
        snprintf(f->url, sizeof(f->url), "mem:leases-%u", serial);
        assert_int_equal(hadb_storage_open(f->url, &f->env, &f->keep, &f->err), 0);
    } else if (strcmp(spec, "memfs") == 0) {
        f->memfs = test_memfs_new(serial);
        f->env.fs = test_memfs_fs(f->memfs);
        snprintf(f->url, sizeof(f->url), "file:///leases");
    } else {
        f->over_storage = strcmp(spec, "storage-file") == 0;
        HADB_ASSERT(f->over_storage || strcmp(spec, "file") == 0 || strcmp(spec, "faultfs") == 0);
        if (strcmp(spec, "faultfs") == 0) {
            f->env.fs = test_faultfs(&f->faultfs);
        }
        test_tmp_make(f->dir);
        snprintf(f->url, sizeof(f->url), "file://%s/made/later", f->dir);
    }
    *state = f;
    int r = open_store(f, &f->s);
    if (r) {
        fprintf(stderr, "%d %s\n", r, f->err.message);
    }
    return r;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hadb_buf_deinit(&f->got);
    hadb_lease_close(&f->s);
    hadb_storage_close(&f->keep);
    if (f->dir[0] != '\0') {
        test_tmp_remove(f->dir);
    }
    if (f->memfs) {
        test_memfs_free(f->memfs);
    }
    free(f);
    return 0;
}

#define assert_done(f, expr)                                                  \
    do {                                                                      \
        int r_ = (expr);                                                      \
        if (r_ != 0) {                                                        \
            fail_msg("%s: %d %s", #expr, r_, r_ < 0 ? (f)->err.message : ""); \
        }                                                                     \
    } while (0)

static int put(struct fixture *f, const char *key, const char *record,
               const struct hadb_tag *expected)
{
    return hadb_lease_write_if_match(&f->s, NULL, key, hadb_slice_str(record), expected, &f->tag,
                                     &f->err);
}

static void assert_holds(struct fixture *f, const char *key, const char *record,
                         const struct hadb_tag *tag)
{
    struct hadb_tag now = {0};
    assert_done(f, hadb_lease_read(&f->s, NULL, key, &f->got, &now, &f->err));
    assert_true(hadb_slice_eq(hadb_buf_slice(&f->got), hadb_slice_str(record)));
    assert_string_equal(now.s, tag->s);
}

static void assert_absent(struct fixture *f, const char *key)
{
    struct hadb_tag now = {0};
    assert_int_equal(hadb_lease_read(&f->s, NULL, key, &f->got, &now, &f->err), HADB_ABSENT);
}

static void record__that_nobody_wrote_is_absent(void **state)
{
    struct fixture *f = *state;
    assert_absent(f, "node/a");
    assert_done(f, put(f, "node/b", "x", NULL));
    assert_absent(f, "node/a");
}

static void first__write_needs_the_record_to_be_absent(void **state)
{
    struct fixture *f = *state;
    assert_done(f, put(f, "node/a", "one", NULL));
    struct hadb_tag first = f->tag;
    assert_holds(f, "node/a", "one", &first);
    assert_int_equal(put(f, "node/a", "two", NULL), HADB_CAS_LOST);
    assert_holds(f, "node/a", "one", &first);
}

static void write__needs_the_tag_of_now(void **state)
{
    struct fixture *f = *state;
    assert_done(f, put(f, "a", "one", NULL));
    struct hadb_tag first = f->tag;
    assert_done(f, put(f, "a", "two", &first));
    struct hadb_tag second = f->tag;
    assert_int_equal(put(f, "a", "three", &first), HADB_CAS_LOST);
    assert_holds(f, "a", "two", &second);
    assert_done(f, put(f, "a", "", &second));
    assert_holds(f, "a", "", &f->tag);
}

static void write__with_a_tag_to_an_absent_record_loses(void **state)
{
    struct fixture *f = *state;
    assert_done(f, put(f, "a", "x", NULL));
    struct hadb_tag tag = f->tag;
    assert_int_equal(put(f, "b", "x", &tag), HADB_CAS_LOST);
    assert_absent(f, "b");
}

static void equal__bytes_never_have_equal_tags(void **state)
{
    enum { WRITES = 20 };
    struct fixture *f = *state;
    struct hadb_tag tags[WRITES];
    for (size_t i = 0; i < WRITES; i++) {
        assert_done(f, put(f, "a", "same", i ? &tags[i - 1] : NULL));
        tags[i] = f->tag;
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(tags[i].s, tags[k].s);
        }
    }
}

static void records__of_different_keys_are_apart(void **state)
{
    struct fixture *f = *state;
    assert_done(f, put(f, "node/a", "A", NULL));
    struct hadb_tag a = f->tag;
    assert_done(f, put(f, "node/b", "B", NULL));
    struct hadb_tag b = f->tag;
    assert_done(f, put(f, "c", "C", NULL));
    assert_holds(f, "node/a", "A", &a);
    assert_holds(f, "node/b", "B", &b);
}

static void record__of_the_longest_length_comes_back(void **state)
{
    struct fixture *f = *state;
    static uint8_t bytes[HADB_LEASE_RECORD_BYTES_MAX + 1];
    struct test_rng rng;
    test_rng_seed(&rng, 3);
    test_rng_fill(&rng, bytes, sizeof(bytes));
    struct hadb_slice most = hadb_slice(bytes, HADB_LEASE_RECORD_BYTES_MAX);
    assert_done(f, hadb_lease_write_if_match(&f->s, NULL, "a", most, NULL, &f->tag, &f->err));
    assert_done(f, hadb_lease_read(&f->s, NULL, "a", &f->got, &f->tag, &f->err));
    assert_true(hadb_slice_eq(hadb_buf_slice(&f->got), most));
    struct hadb_slice more = hadb_slice(bytes, sizeof(bytes));
    assert_int_equal(hadb_lease_write_if_match(&f->s, NULL, "a", more, &f->tag, &f->tag, &f->err),
                     HADB_ETOOBIG);
}

static void bad__keys_and_tags_are_refused(void **state)
{
    struct fixture *f = *state;
    char longest[HADB_LEASE_KEY_BYTES_MAX + 2];
    memset(longest, 'k', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    const char *bad[] = {"",     "/a",  "a/",  "a//b", "..",   "a/../b", ".tmp/x",
                         "a/.b", "a b", "a\n", "a:b",  "\xff", longest};
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        assert_int_equal(put(f, bad[i], "x", NULL), HADB_EINVAL);
        assert_int_equal(hadb_lease_read(&f->s, NULL, bad[i], &f->got, &f->tag, &f->err),
                         HADB_EINVAL);
        assert_int_equal(hadb_lease_watch(&f->s, NULL, bad[i], NULL, &f->err), HADB_EINVAL);
    }
    struct hadb_tag empty = {0};
    assert_int_equal(put(f, "a", "x", &empty), HADB_EINVAL);
    assert_absent(f, "a");
}

static void late__and_cancelled_calls_do_nothing(void **state)
{
    struct fixture *f = *state;
    struct hadb_cancel flag = {.flag = 1};
    struct hadb_call late = {.deadline_ms = 1}, cancelled = {.cancel = &flag};
    struct hadb_slice x = hadb_slice_str("x");
    /* Surely not written is not "unknown". */
    assert_int_equal(hadb_lease_write_if_match(&f->s, &late, "a", x, NULL, &f->tag, &f->err),
                     HADB_EUNAVAIL);
    assert_int_equal(hadb_lease_write_if_match(&f->s, &cancelled, "a", x, NULL, &f->tag, &f->err),
                     HADB_ECANCELED);
    assert_int_equal(hadb_lease_read(&f->s, &late, "a", &f->got, &f->tag, &f->err), HADB_ETIMEDOUT);
    assert_int_equal(hadb_lease_read(&f->s, &cancelled, "a", &f->got, &f->tag, &f->err),
                     HADB_ECANCELED);
    assert_absent(f, "a");
}

static void another__handle_sees_the_record_at_once(void **state)
{
    struct fixture *f = *state;
    struct hadb_lease other = {0};
    assert_done(f, open_store(f, &other));
    assert_done(f, put(f, "a", "one", NULL));
    struct hadb_tag tag = {0};
    assert_done(f, hadb_lease_read(&other, NULL, "a", &f->got, &tag, &f->err));
    assert_string_equal(tag.s, f->tag.s);
    assert_done(f, hadb_lease_write_if_match(&other, NULL, "a", hadb_slice_str("two"), &tag, &tag,
                                             &f->err));
    assert_holds(f, "a", "two", &tag);
    hadb_lease_close(&other);
    hadb_lease_close(&other); /* twice is fine */
}

enum { RACERS = 8, COUNTS = 10 };

struct racer {
    struct fixture *f;
    struct hadb_lease s;
    struct hadb_thread thread;
    unsigned wins, bad;
};

/* Adds one by compare-and-swap until it has won COUNTS times, through a handle of its own. */
static void count_up(void *arg)
{
    struct racer *me = arg;
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    for (unsigned tries = 0; me->wins < COUNTS && tries < 100000 && !me->bad; tries++) {
        struct hadb_tag tag = {0};
        char record[32];
        int r = hadb_lease_read(&me->s, NULL, "counter", &bytes, &tag, NULL);
        me->bad += r != 0 && r != HADB_ABSENT;
        unsigned value = r == 0 ? (unsigned)atoi(hadb_buf_cstr(&bytes)) : 0;
        snprintf(record, sizeof(record), "%u", value + 1);
        r = hadb_lease_write_if_match(&me->s, NULL, "counter", hadb_slice_str(record),
                                      r == 0 ? &tag : NULL, NULL, NULL);
        me->wins += r == 0;
        me->bad += r != 0 && r != HADB_CAS_LOST;
    }
}

/*
 * What is made with the first record of a place, such as a bucket, is there: while JetStream makes a stream, requests meet
 * nobody, and a nats-server 2.9 that is read from may end.
 */
static void settle_in(struct fixture *f)
{
    assert_done(f, put(f, "first", "", NULL));
}

static void racing__writers_lose_no_update(void **state)
{
    struct fixture *f = *state;
    static struct racer racers[RACERS];
    unsigned bad = 0;
    settle_in(f);
    for (size_t i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){.f = f};
        assert_done(f, open_store(f, &racers[i].s));
    }
    for (size_t i = 0; i < RACERS; i++) {
        assert_done(f,
                    hadb_thread_start(&racers[i].thread, "racer", count_up, &racers[i], &f->err));
    }
    for (size_t i = 0; i < RACERS; i++) {
        hadb_thread_join(&racers[i].thread);
        hadb_lease_close(&racers[i].s);
        bad += racers[i].bad;
    }
    assert_int_equal(bad, 0);
    assert_done(f, hadb_lease_read(&f->s, NULL, "counter", &f->got, &f->tag, &f->err));
    assert_int_equal(atoi(hadb_buf_cstr(&f->got)), RACERS * COUNTS);
}

enum { CREATORS = 16, ROUNDS = 20 };

struct creator {
    struct hadb_lease *s; /* of all creators, or its own */
    pthread_barrier_t *start;
    struct hadb_thread thread;
    unsigned number, bad;
    bool won[ROUNDS];
};

/* Did a write of unknown outcome come to pass? The record says it. */
static int is_mine(struct creator *me, const char *key, const char *record)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    struct hadb_tag tag = {0};
    int r = hadb_lease_read(me->s, NULL, key, &bytes, &tag, NULL);
    if (r) {
        return r;
    }
    return hadb_slice_eq(hadb_buf_slice(&bytes), hadb_slice_str(record)) ? 0 : HADB_CAS_LOST;
}

static void create_all(void *arg)
{
    struct creator *me = arg;
    for (unsigned round = 0; round < ROUNDS; round++) {
        char key[32], record[32];
        snprintf(key, sizeof(key), "race/%u", round);
        snprintf(record, sizeof(record), "creator %u", me->number);
        pthread_barrier_wait(me->start);
        int r =
            hadb_lease_write_if_match(me->s, NULL, key, hadb_slice_str(record), NULL, NULL, NULL);
        r = r == HADB_ETIMEDOUT ? is_mine(me, key, record) : r;
        me->won[round] = r == 0;
        me->bad += r != 0 && r != HADB_CAS_LOST;
    }
}

/* Half of the creators share one handle, the others have their own. */
static void racing__creators_have_one_winner_each_round(void **state)
{
    struct fixture *f = *state;
    static struct creator creators[CREATORS];
    struct hadb_lease own[CREATORS] = {0};
    pthread_barrier_t start;
    settle_in(f);
    assert_int_equal(pthread_barrier_init(&start, NULL, CREATORS), 0);
    for (unsigned i = 0; i < CREATORS; i++) {
        assert_done(f, i % 2 ? open_store(f, &own[i]) : 0);
        creators[i] = (struct creator){.s = i % 2 ? &own[i] : &f->s, .start = &start, .number = i};
    }
    for (unsigned i = 0; i < CREATORS; i++) {
        assert_done(f, hadb_thread_start(&creators[i].thread, "creator", create_all, &creators[i],
                                         &f->err));
    }
    unsigned bad = 0;
    for (unsigned i = 0; i < CREATORS; i++) {
        hadb_thread_join(&creators[i].thread);
        hadb_lease_close(&own[i]);
        bad += creators[i].bad;
    }
    pthread_barrier_destroy(&start);
    assert_int_equal(bad, 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned winners = 0;
        for (unsigned i = 0; i < CREATORS; i++) {
            winners += creators[i].won[round];
        }
        assert_int_equal(winners, 1);
    }
}

static void watch__returns_at_once_when_the_tag_is_another(void **state)
{
    struct fixture *f = *state;
    struct hadb_call call = hadb_call_within(&f->env, 30000);
    assert_done(f, put(f, "a", "one", NULL));
    struct hadb_tag first = f->tag;
    assert_done(f, hadb_lease_watch(&f->s, &call, "a", NULL, &f->err));
    assert_done(f, put(f, "a", "two", &first));
    assert_done(f, hadb_lease_watch(&f->s, &call, "a", &first, &f->err));
    assert_done(f, hadb_lease_watch(&f->s, &call, "gone", &first, &f->err));
}

static void watch__ends_at_its_deadline_or_cancel(void **state)
{
    struct fixture *f = *state;
    struct hadb_call call = hadb_call_within(&f->env, 30);
    assert_done(f, put(f, "a", "one", NULL));
    assert_int_equal(hadb_lease_watch(&f->s, &call, "a", &f->tag, &f->err), HADB_END);
    call = hadb_call_within(&f->env, 1);
    assert_int_equal(hadb_lease_watch(&f->s, &call, "nothing", NULL, &f->err), HADB_END);
    struct hadb_cancel flag = {.flag = 1};
    call = (struct hadb_call){.cancel = &flag};
    assert_int_equal(hadb_lease_watch(&f->s, &call, "a", &f->tag, &f->err), HADB_ECANCELED);
}

struct watcher {
    struct fixture *f;
    struct hadb_tag seen;
    int result;
};

static void watch_once(void *arg)
{
    struct watcher *w = arg;
    struct hadb_call call = hadb_call_within(&w->f->env, 30000);
    w->result = hadb_lease_watch(&w->f->s, &call, "a", &w->seen, NULL);
}

static void watch__wakes_when_the_record_changes(void **state)
{
    struct fixture *f = *state;
    struct hadb_thread thread = {0};
    assert_done(f, put(f, "a", "one", NULL));
    struct watcher w = {.f = f, .seen = f->tag, .result = -1};
    assert_done(f, hadb_thread_start(&thread, "watcher", watch_once, &w, &f->err));
    assert_done(f, put(f, "a", "two", &w.seen));
    hadb_thread_join(&thread);
    assert_int_equal(w.result, 0);
}

static void out_of_memory__changes_nothing(void **state)
{
    struct fixture *f = *state;
    bool hit = true;
    for (uint64_t n = 1; hit && n < 200; n++) {
        char key[32];
        snprintf(key, sizeof(key), "oom/%u", (unsigned)n);
        test_alloc_fail_at(n);
        int r = put(f, key, "record", NULL);
        int got = hadb_lease_read(&f->s, NULL, key, &f->got, &f->tag, &f->err);
        hit = test_alloc_hit();
        test_alloc_reset();
        assert_true(r == 0 || r == HADB_ENOMEM);
        assert_true(got == HADB_ENOMEM || got == (r == 0 ? 0 : HADB_ABSENT));
        got = hadb_lease_read(&f->s, NULL, key, &f->got, &f->tag, &f->err);
        assert_int_equal(got, r == 0 ? 0 : HADB_ABSENT);
    }
    assert_false(hit);
}

#define contract(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        contract(record__that_nobody_wrote_is_absent),
        contract(first__write_needs_the_record_to_be_absent),
        contract(write__needs_the_tag_of_now),
        contract(write__with_a_tag_to_an_absent_record_loses),
        contract(equal__bytes_never_have_equal_tags),
        contract(records__of_different_keys_are_apart),
        contract(record__of_the_longest_length_comes_back),
        contract(bad__keys_and_tags_are_refused),
        contract(late__and_cancelled_calls_do_nothing),
        contract(another__handle_sees_the_record_at_once),
        contract(racing__writers_lose_no_update),
        contract(racing__creators_have_one_winner_each_round),
        contract(watch__returns_at_once_when_the_tag_is_another),
        contract(watch__ends_at_its_deadline_or_cancel),
        contract(watch__wakes_when_the_record_changes),
        contract(out_of_memory__changes_nothing),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s SPEC\n", argv[0]);
        return 2;
    }
    spec = argv[1];
    return cmocka_run_group_tests_name(spec, tests, NULL, NULL);
}
