/* SPDX-License-Identifier: Apache-2.0 */
/* The probe of lease stores: passes what keeps its promises, finds each promise that is broken. */
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
#include "base/error.h"
#include "base/thread.h"
#include "base/util.h"
#include "lease/probe.h"
#include "tests/support/support.h"

enum kind {
    FINE,
    CREATE_OVERWRITES,       /* a first write is done whatever is there */
    CREATE_CHECKS_THEN_ACTS, /* two may both find nothing there */
    REPLACE_IGNORES_TAG,
    REPLACE_CHECKS_THEN_ACTS,
    REPLACE_CREATES, /* writes over what is not there */
    TAG_OF_BYTES,    /* equal bytes have equal tags */
    READS_STALE,     /* the first read after a write sees what was there before */
    REFUSES,         /* every request is HADB_EAUTH */
    LOSES_REPLIES,   /* every write is done, and unknown */
    KINDS,
};

/* Over a mem store, one lock around everything but the door that stands open. */
struct broken {
    struct hadb_lease inner;
    enum kind kind;
    struct hadb_mutex mu;
    unsigned requests;       /* mu */
    struct hadb_buf old;     /* mu: what was there before the last write … */
    struct hadb_tag old_tag; /* mu: … and its tag; "" = nothing to show */
};

static bool now(struct broken *b, const char *key, struct hadb_buf *out, struct hadb_tag *tag)
{
    return hadb_lease_read(&b->inner, NULL, key, out, tag, NULL) == 0;
}

/* Writes whatever is there. */
static int force(struct broken *b, const char *key, struct hadb_slice record, struct hadb_tag *tag)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    struct hadb_tag is = {0};
    bool there = now(b, key, &bytes, &is);
    return hadb_lease_write_if_match(&b->inner, NULL, key, record, there ? &is : NULL, tag, NULL);
}

/* A tag that is nothing but the bytes. */
static void tag_of(struct hadb_slice record, struct hadb_tag *tag)
{
    uint64_t sum = 1469598103934665603ull;
    for (size_t i = 0; i < record.len; i++) {
        sum = (sum ^ ((const uint8_t *)record.data)[i]) * 1099511628211ull;
    }
    snprintf(tag->s, sizeof(tag->s), "%llx", (unsigned long long)sum);
}

static int by_bytes(struct broken *b, const char *key, struct hadb_slice record,
                    const struct hadb_tag *expected, struct hadb_tag *tag)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    struct hadb_tag is = {0}, shown = {0};
    bool there = now(b, key, &bytes, &is);
    tag_of(hadb_buf_slice(&bytes), &shown);
    if (there != (expected != NULL) || (expected && strcmp(expected->s, shown.s) != 0)) {
        return HADB_CAS_LOST;
    }
    int r = force(b, key, record, tag);
    tag_of(record, tag);
    return r;
}

static int locked_write(struct broken *b, const char *key, struct hadb_slice record,
                        const struct hadb_tag *expected, struct hadb_tag *tag,
                        struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    struct hadb_tag is = {0};
    bool there = now(b, key, &bytes, &is);
    if ((b->kind == CREATE_OVERWRITES && !expected) ||
        (b->kind == REPLACE_IGNORES_TAG && expected && there) ||
        (b->kind == REPLACE_CREATES && expected && !there)) {
        return force(b, key, record, tag);
    }
    if (b->kind == TAG_OF_BYTES) {
        return by_bytes(b, key, record, expected, tag);
    }
    int r = hadb_lease_write_if_match(&b->inner, NULL, key, record, expected, tag, err);
    if (b->kind == READS_STALE && r == 0 && there) {
        hadb_buf_deinit(&b->old);
        b->old = hadb_buf_take(&bytes);
        b->old_tag = is;
    }
    return r;
}

static int broken_write(void *self, const struct hadb_call *call, const char *key,
                        struct hadb_slice record, const struct hadb_tag *expected,
                        struct hadb_tag *tag, struct hadb_error *err)
{
    struct broken *b = self;
    (void)call;
    hadb_mutex_lock(&b->mu);
    b->requests++;
    if (b->kind == (expected ? REPLACE_CHECKS_THEN_ACTS : CREATE_CHECKS_THEN_ACTS)) {
        HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
        struct hadb_tag is = {0};
        bool there = now(b, key, &bytes, &is);
        bool lost = expected ? !there || strcmp(is.s, expected->s) != 0 : there;
        hadb_mutex_unlock(&b->mu);
        if (lost) {
            return HADB_CAS_LOST;
        }
        hadb_sleep_ms(5, NULL); /* the fault itself: the door stands open */
        hadb_mutex_lock(&b->mu);
        int r = force(b, key, record, tag);
        hadb_mutex_unlock(&b->mu);
        return r;
    }
    int r = b->kind == REFUSES ? hadb_fail(err, HADB_EAUTH, "access denied")
                               : locked_write(b, key, record, expected, tag, err);
    if (b->kind == LOSES_REPLIES && r == 0) {
        r = hadb_fail(err, HADB_ETIMEDOUT, "the reply was lost");
    }
    hadb_mutex_unlock(&b->mu);
    return r;
}

static int broken_read(void *self, const struct hadb_call *call, const char *key,
                       struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    struct broken *b = self;
    hadb_mutex_lock(&b->mu);
    b->requests++;
    int r = b->kind == REFUSES ? hadb_fail(err, HADB_EAUTH, "access denied")
                               : hadb_lease_read(&b->inner, call, key, out, tag, err);
    if (r == 0 && b->kind == TAG_OF_BYTES) {
        tag_of(hadb_buf_slice(out), tag);
    }
    if (r == 0 && b->kind == READS_STALE && b->old_tag.s[0] != '\0') {
        hadb_buf_deinit(out);
        *out = hadb_buf_take(&b->old);
        *tag = b->old_tag;
        b->old_tag.s[0] = '\0';
    }
    hadb_mutex_unlock(&b->mu);
    return r;
}

static void broken_close(void *self)
{
    struct broken *b = self;
    hadb_lease_close(&b->inner);
    hadb_buf_deinit(&b->old);
    hadb_mutex_deinit(&b->mu);
    free(b);
}

static const struct hadb_lease_ops broken_ops = {
    .abi = HADB_LEASE_ABI,
    .scheme = "broken",
    .read = broken_read,
    .write_if_match = broken_write,
    .close = broken_close,
};

static struct hadb_lease broken_lease(enum kind kind)
{
    struct broken *b = calloc(1, sizeof(*b));
    assert_non_null(b);
    b->kind = kind;
    hadb_mutex_init(&b->mu, 0);
    assert_int_equal(hadb_lease_open("mem:", NULL, &b->inner, NULL), 0);
    return (struct hadb_lease){.ops = &broken_ops, .self = b};
}

/* --- tests -------------------------------------------------------------------------------------- */

static void probe__passes_what_keeps_its_promises(void **state)
{
    (void)state;
    struct hadb_lease s = broken_lease(FINE);
    struct hadb_lease_probe_options options = {.racers = 8, .rounds = 20};
    struct hadb_lease_probe_result result = {0};
    struct hadb_error err = {0};
    assert_int_equal(hadb_lease_probe_run(&s, "doctor", &options, NULL, &result, &err), 0);
    for (unsigned i = 0; i < HADB_LEASE_PROBE_LEN; i++) {
        if (result.checks[i].status != HADB_DOCTOR_PASSED) {
            fail_msg("%s: %s", hadb_lease_probe_check_name(i), result.checks[i].text);
        }
    }
    assert_int_equal(result.of[HADB_LEASE_PROBE_TIMED_READ].len, 20);
    assert_int_equal(result.of[HADB_LEASE_PROBE_TIMED_RENEW].len, 20);
    assert_int_equal(result.of[HADB_LEASE_PROBE_TIMED_REFUSED].len, 20);
    assert_int_equal(result.of[HADB_LEASE_PROBE_TIMED_RACE].len,
                     8 * (HADB_LEASE_PROBE_KEYS + HADB_LEASE_PROBE_SWAPS));
    hadb_lease_probe_result_deinit(&result);
    hadb_lease_close(&s);
}

/* What it made is empty, and there is no more of it than it says. */
static void probe__leaves_empty_records_alone_and_says_which(void **state)
{
    (void)state;
    struct hadb_lease s = broken_lease(FINE);
    struct hadb_lease_probe_result result = {0};
    assert_int_equal(hadb_lease_probe_run(&s, "doctor", NULL, NULL, &result, NULL), 0);
    for (unsigned i = 0; i <= HADB_LEASE_PROBE_KEYS; i++) {
        HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
        struct hadb_tag tag = {0};
        char key[100];
        snprintf(key, sizeof(key), "%s%u", result.left, i);
        assert_int_equal(hadb_lease_read(&s, NULL, key, &bytes, &tag, NULL),
                         i < HADB_LEASE_PROBE_KEYS ? 0 : HADB_ABSENT);
        assert_int_equal(bytes.len, 0);
    }
    hadb_lease_probe_result_deinit(&result);
    hadb_lease_close(&s);
}

static void probe__finds_each_broken_promise(void **state)
{
    (void)state;
    static const struct {
        enum kind kind;
        enum hadb_lease_probe_check finds;
    } cases[] = {
        {CREATE_OVERWRITES, HADB_LEASE_PROBE_RACE},
        {CREATE_OVERWRITES, HADB_LEASE_PROBE_EXISTS},
        {CREATE_CHECKS_THEN_ACTS, HADB_LEASE_PROBE_RACE},
        {REPLACE_IGNORES_TAG, HADB_LEASE_PROBE_STALE_TAG},
        {REPLACE_IGNORES_TAG, HADB_LEASE_PROBE_REPLACE_RACE},
        {REPLACE_CHECKS_THEN_ACTS, HADB_LEASE_PROBE_REPLACE_RACE},
        {REPLACE_CREATES, HADB_LEASE_PROBE_ABSENT_TAG},
        {TAG_OF_BYTES, HADB_LEASE_PROBE_FRESH_TAG},
        {READS_STALE, HADB_LEASE_PROBE_READ_AFTER},
    };
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct hadb_lease s = broken_lease(cases[i].kind);
        struct hadb_lease_probe_options options = {.racers = 8, .rounds = 5};
        struct hadb_lease_probe_result result = {0};
        struct hadb_error err = {0};
        if (hadb_lease_probe_run(&s, "doctor", &options, NULL, &result, &err) != 0) {
            fail_msg("kind %d: %s", (int)cases[i].kind, err.message);
        }
        if (result.checks[cases[i].finds].status != HADB_DOCTOR_FAILED) {
            fail_msg("kind %d was not found by %s: %s", (int)cases[i].kind,
                     hadb_lease_probe_check_name(cases[i].finds),
                     result.checks[cases[i].finds].text);
        }
        hadb_lease_probe_result_deinit(&result);
        hadb_lease_close(&s);
    }
}

/* A door that is open for racers alone is found by the races alone. */
static void probe__judges_only_what_is_broken(void **state)
{
    (void)state;
    struct hadb_lease s = broken_lease(CREATE_CHECKS_THEN_ACTS);
    struct hadb_lease_probe_options options = {.racers = 8, .rounds = 5};
    struct hadb_lease_probe_result result = {0};
    assert_int_equal(hadb_lease_probe_run(&s, "doctor", &options, NULL, &result, NULL), 0);
    for (unsigned i = 0; i < HADB_LEASE_PROBE_LEN; i++) {
        assert_int_equal(result.checks[i].status == HADB_DOCTOR_FAILED, i == HADB_LEASE_PROBE_RACE);
    }
    hadb_lease_probe_result_deinit(&result);
    hadb_lease_close(&s);
}

static void probe__of_a_store_that_refuses_asks_once_and_writes_nothing(void **state)
{
    (void)state;
    struct hadb_lease s = broken_lease(REFUSES);
    struct hadb_lease_probe_result result = {0};
    struct hadb_error err = {0};
    assert_int_equal(hadb_lease_probe_run(&s, "doctor", NULL, NULL, &result, &err), HADB_EAUTH);
    assert_string_equal(err.message, "access denied");
    assert_string_equal(result.left, "");
    assert_int_equal(((struct broken *)s.self)->requests, 1);
    hadb_lease_probe_result_deinit(&result);
    hadb_lease_close(&s);
}

static void probe__gives_no_verdict_when_outcomes_are_unknown(void **state)
{
    (void)state;
    struct hadb_lease s = broken_lease(LOSES_REPLIES);
    struct hadb_lease_probe_result result = {0};
    struct hadb_error err = {0};
    assert_int_equal(hadb_lease_probe_run(&s, "doctor", NULL, NULL, &result, &err), HADB_ETIMEDOUT);
    assert_non_null(strstr(err.message, "check race: "));
    assert_string_not_equal(result.left, "");
    hadb_lease_probe_result_deinit(&result);
    hadb_lease_close(&s);
}

static void probe__refuses_options_over_their_limits(void **state)
{
    (void)state;
    struct hadb_lease s = broken_lease(FINE);
    struct hadb_lease_probe_result result = {0};
    struct hadb_lease_probe_options racers = {.racers = HADB_LEASE_PROBE_RACERS_MAX + 1};
    struct hadb_lease_probe_options rounds = {.rounds = HADB_LEASE_PROBE_ROUNDS_MAX + 1};
    assert_int_equal(hadb_lease_probe_run(&s, "x", &racers, NULL, &result, NULL), HADB_EINVAL);
    assert_int_equal(hadb_lease_probe_run(&s, "x", &rounds, NULL, &result, NULL), HADB_EINVAL);
    assert_int_equal(((struct broken *)s.self)->requests, 0);
    hadb_lease_close(&s);
}

/* Fails the n-th allocation, for every n: no verdict, nothing leaked, threads joined. */
static void probe__survives_failing_allocations(void **state)
{
    (void)state;
    struct hadb_lease s = {0};
    struct hadb_lease_probe_options options = {.racers = 2, .rounds = 1};
    assert_int_equal(hadb_lease_open("mem:", NULL, &s, NULL), 0);
    bool hit = true;
    for (uint64_t n = 1; hit && n < 2000; n++) {
        struct hadb_lease_probe_result result = {0};
        test_alloc_fail_at(n);
        int r = hadb_lease_probe_run(&s, "doctor", &options, NULL, &result, NULL);
        hit = test_alloc_hit();
        hadb_lease_probe_result_deinit(&result);
        test_alloc_reset();
        assert_true(r == HADB_ENOMEM || r == 0);
    }
    assert_false(hit);
    hadb_lease_close(&s);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(probe__passes_what_keeps_its_promises),
        cmocka_unit_test(probe__leaves_empty_records_alone_and_says_which),
        cmocka_unit_test(probe__finds_each_broken_promise),
        cmocka_unit_test(probe__judges_only_what_is_broken),
        cmocka_unit_test(probe__of_a_store_that_refuses_asks_once_and_writes_nothing),
        cmocka_unit_test(probe__gives_no_verdict_when_outcomes_are_unknown),
        cmocka_unit_test(probe__refuses_options_over_their_limits),
        cmocka_unit_test(probe__survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
