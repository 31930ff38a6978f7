/* SPDX-License-Identifier: Apache-2.0 */
/* Wrappers over a scripted backend, in both forms: what they send, what they do not, and when. */
#include "tests/unit/storage/wrappers_world.h"

/* --- with_retry --------------------------------------------------------------------------------- */

static void add_retry(struct fixture *f, struct hadb_retry_options options)
{
    options.sleep = fake_sleep;
    options.sleep_arg = f;
    assert_int_equal(hadb_storage_with_retry(&f->s, &options, &f->env, &f->s, &f->err), 0);
}

static void retry__repeats_reads_until_they_answer(void **state)
{
    struct fixture *f = *state;
    script_add(&f->script, HADB_EIO, 1);
    script_add(&f->script, HADB_ETIMEDOUT, 1);
    script_add(&f->script, HADB_EUNAVAIL, 1);
    add_retry(f, (struct hadb_retry_options){0});
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), 0);
    assert_int_equal(script_calls(&f->script), 4);
    assert_memory_equal(f->got.data, "scripted", 8);
}

static void retry__never_repeats_a_write_of_unknown_outcome(void **state)
{
    struct fixture *f = *state;
    script_add(&f->script, HADB_ETIMEDOUT, 3);
    add_retry(f, (struct hadb_retry_options){0});
    assert_int_equal(ask(f, HADB_STORAGE_OP_CREATE, NULL), HADB_ETIMEDOUT);
    assert_int_equal(script_calls(&f->script), 1);
    assert_int_equal(ask(f, HADB_STORAGE_OP_REPLACE, NULL), HADB_ETIMEDOUT);
    assert_int_equal(script_calls(&f->script), 2);
    assert_int_equal(ask(f, HADB_STORAGE_OP_DELETE_MANY, NULL), HADB_ETIMEDOUT);
    assert_int_equal(script_calls(&f->script), 3);
    assert_int_equal(f->sleeps, 0);
}

static void retry__stops_when_a_repeated_write_becomes_unknown(void **state)
{
    struct fixture *f = *state;
    script_add(&f->script, HADB_EUNAVAIL, 1);
    script_add(&f->script, HADB_ETIMEDOUT, 1);
    add_retry(f, (struct hadb_retry_options){0});
    assert_int_equal(ask(f, HADB_STORAGE_OP_CREATE, NULL), HADB_ETIMEDOUT);
    assert_int_equal(script_calls(&f->script), 2);
    assert_non_null(strstr(f->err.message, "after 2 tries"));
}

static void retry__repeats_writes_that_were_surely_not_applied(void **state)
{
    struct fixture *f = *state;
    script_add(&f->script, HADB_EUNAVAIL, 1);
    script_add(&f->script, HADB_EBUSY, 1);
    script_add(&f->script, HADB_EIO, 1);
    script_add(&f->script, HADB_EXISTS, 1);
    add_retry(f, (struct hadb_retry_options){0});
    assert_int_equal(ask(f, HADB_STORAGE_OP_CREATE, NULL), HADB_EXISTS);
    assert_int_equal(script_calls(&f->script), 4);
}

static void retry__leaves_outcomes_and_final_failures_alone(void **state)
{
    struct fixture *f = *state;
    static const struct {
        enum hadb_storage_op op;
        int result;
    } cases[] = {
        {HADB_STORAGE_OP_GET, HADB_ABSENT},     {HADB_STORAGE_OP_HEAD, HADB_ABSENT},
        {HADB_STORAGE_OP_CREATE, HADB_EXISTS},  {HADB_STORAGE_OP_REPLACE, HADB_CAS_LOST},
        {HADB_STORAGE_OP_GET, HADB_EAUTH},      {HADB_STORAGE_OP_LIST, HADB_EPROTO},
        {HADB_STORAGE_OP_CREATE, HADB_EAUTH},   {HADB_STORAGE_OP_CREATE, HADB_ENOSPC},
        {HADB_STORAGE_OP_REPLACE, HADB_ENOMEM}, {HADB_STORAGE_OP_GET, HADB_ECANCELED},
    };
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        script_add(&f->script, cases[i].result, 1);
    }
    add_retry(f, (struct hadb_retry_options){0});
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        assert_int_equal(ask(f, cases[i].op, NULL), cases[i].result);
        assert_int_equal(script_calls(&f->script), i + 1);
    }
}

static void retry__believes_the_adapter_more_than_the_code(void **state)
{
    struct fixture *f = *state;
    script_add(&f->script, HADB_EIO, 1);   /* said to be final */
    script_add(&f->script, HADB_EAUTH, 1); /* said to be worth another try */
    f->script.answers[0].flip_retryable = true;
    f->script.answers[1].flip_retryable = true;
    add_retry(f, (struct hadb_retry_options){0});
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), HADB_EIO);
    assert_int_equal(script_calls(&f->script), 1);
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), 0);
    assert_int_equal(script_calls(&f->script), 3);
}

static void retry__gives_up_after_tries_max_with_the_last_failure(void **state)
{
    struct fixture *f = *state;
    script_add(&f->script, HADB_EIO, 2);
    script_add(&f->script, HADB_EUNAVAIL, 5);
    add_retry(f, (struct hadb_retry_options){.tries_max = 3});
    assert_int_equal(ask(f, HADB_STORAGE_OP_HEAD, NULL), HADB_EUNAVAIL);
    assert_int_equal(script_calls(&f->script), 3);
    assert_int_equal(f->err.code, HADB_EUNAVAIL);
    assert_non_null(strstr(f->err.message, "after 3 tries"));
}

static void retry__waits_with_full_jitter_below_a_doubling_bound(void **state)
{
    struct fixture *f = *state;
    uint64_t most[6] = {0};
    add_retry(f,
              (struct hadb_retry_options){.tries_max = 7, .wait_ms_min = 10, .wait_ms_max = 100});
    for (unsigned round = 0; round < 200; round++) {
        hadb_mutex_lock(&f->script.mu);
        f->script.calls = 0;
        f->script.len = 0;
        hadb_mutex_unlock(&f->script.mu);
        script_add(&f->script, HADB_EIO, 6);
        f->sleeps = 0;
        assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), 0);
        assert_int_equal(f->sleeps, 6);
        for (size_t i = 0; i < 6; i++) {
            most[i] = HADB_MAX(most[i], f->slept_ms[i]);
        }
    }
    static const uint64_t bounds[6] = {10, 20, 40, 80, 100, 100};
    for (size_t i = 0; i < 6; i++) { /* 200 draws: above half of the bound with all but 2^-200 */
        assert_in_range(most[i], bounds[i] / 2, bounds[i]);
    }
}

static void retry__does_not_begin_a_wait_that_passes_the_deadline(void **state)
{
    struct fixture *f = *state;
    script_add(&f->script, HADB_EIO, 60);
    add_retry(f,
              (struct hadb_retry_options){.tries_max = 60, .wait_ms_min = 64, .wait_ms_max = 64});
    struct hadb_call call = hadb_call_within(&f->env, 500);
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, &call), HADB_EIO);
    assert_true(fake_now(f) < call.deadline_ms);
    assert_true(script_calls(&f->script) < 60);
}

static void retry__stops_when_cancelled(void **state)
{
    struct fixture *f = *state;
    struct hadb_cancel flag = {.flag = 1};
    struct hadb_call call = {.cancel = &flag};
    script_add(&f->script, HADB_EIO, 5);
    add_retry(f, (struct hadb_retry_options){0});
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, &call), HADB_EIO);
    assert_int_equal(script_calls(&f->script), 1);
}

/* --- with_breaker ------------------------------------------------------------------------------- */

static void add_breaker(struct fixture *f, uint32_t failures_max, uint32_t open_ms)
{
    struct hadb_breaker_options options = {.failures_max = failures_max, .open_ms = open_ms};
    assert_int_equal(hadb_storage_with_breaker(&f->s, &options, &f->env, &f->s, &f->err), 0);
}

static void breaker__opens_after_failures_in_a_row_and_sends_nothing(void **state)
{
    struct fixture *f = *state;
    script_add(&f->script, HADB_EIO, 2);
    script_add(&f->script, HADB_ABSENT, 1); /* an answer: starts the count anew */
    script_add(&f->script, HADB_ETIMEDOUT, 3);
    add_breaker(f, 3, 100);
    for (unsigned i = 0; i < 5; i++) {
        ask(f, HADB_STORAGE_OP_GET, NULL);
        assert_int_equal(hadb_storage_breaker_state(&f->s), HADB_BREAKER_CLOSED);
    }
    assert_int_equal(ask(f, HADB_STORAGE_OP_CREATE, NULL), HADB_ETIMEDOUT);
    assert_int_equal(hadb_storage_breaker_state(&f->s), HADB_BREAKER_OPEN);
    f->now_ms += 99;
    for (unsigned op = 0; op < HADB_STORAGE_OP_LEN; op++) {
        assert_int_equal(ask(f, (enum hadb_storage_op)op, NULL), HADB_EUNAVAIL);
        assert_true(f->err.retryable);
    }
    assert_int_equal(script_calls(&f->script), 6);
}

static void open_breaker(struct fixture *f)
{
    script_add(&f->script, HADB_EIO, 2);
    add_breaker(f, 2, 100);
    ask(f, HADB_STORAGE_OP_GET, NULL);
    ask(f, HADB_STORAGE_OP_GET, NULL);
    assert_int_equal(hadb_storage_breaker_state(&f->s), HADB_BREAKER_OPEN);
}

static void breaker__closes_when_its_probe_is_answered(void **state)
{
    struct fixture *f = *state;
    open_breaker(f);
    f->now_ms += 100;
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), 0);
    assert_int_equal(hadb_storage_breaker_state(&f->s), HADB_BREAKER_CLOSED);
    assert_non_null(strstr(f->log, "breaker closed"));
}

static void breaker__stays_open_anew_when_its_probe_fails(void **state)
{
    struct fixture *f = *state;
    script_add(&f->script, HADB_EIO, 3);
    add_breaker(f, 2, 100);
    ask(f, HADB_STORAGE_OP_GET, NULL);
    ask(f, HADB_STORAGE_OP_GET, NULL);
    f->now_ms += 100;
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), HADB_EIO);
    assert_int_equal(hadb_storage_breaker_state(&f->s), HADB_BREAKER_OPEN);
    f->now_ms += 99;
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), HADB_EUNAVAIL);
    f->now_ms += 1;
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), 0);
    assert_int_equal(script_calls(&f->script), 4);
}

static void breaker__does_not_count_what_says_nothing_about_the_store(void **state)
{
    struct fixture *f = *state;
    struct hadb_call late = {.deadline_ms = 1};
    script_add(&f->script, HADB_EAUTH, 2);
    script_add(&f->script, HADB_ECANCELED, 2);
    script_add(&f->script, HADB_ENOMEM, 2);
    add_breaker(f, 1, 100);
    for (unsigned i = 0; i < 6; i++) {
        assert_true(ask(f, HADB_STORAGE_OP_GET, NULL) < 0);
    }
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, &late), HADB_ETIMEDOUT);
    assert_int_equal(ask(f, HADB_STORAGE_OP_CREATE, &late), HADB_EUNAVAIL);
    assert_int_equal(script_calls(&f->script), 6);
    assert_int_equal(hadb_storage_breaker_state(&f->s), HADB_BREAKER_CLOSED);
}

static void breaker__lets_exactly_one_probe_in(void **state)
{
    struct fixture *f = *state;
    struct asker probe;
    open_breaker(f);
    f->now_ms += 100;
    script_hold(&f->script, true);
    start(&probe, f, "probe", NULL);
    await(f, 1);
    assert_int_equal(hadb_storage_breaker_state(&f->s), HADB_BREAKER_HALF_OPEN);
    f->now_ms += HADB_BREAKER_PROBE_MS_MAX - 1; /* a slow probe does not let others in */
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), HADB_EUNAVAIL);
    }
    assert_int_equal(script_calls(&f->script), 3);
    script_hold(&f->script, false);
    end(&probe);
    assert_int_equal(probe.result, 0);
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), 0);
}

/* A probe on a dead connection, or one that moves a large body, must not hold up a store that works. */
static void breaker__gives_the_vote_of_a_probe_that_hangs_to_the_next(void **state)
{
    struct fixture *f = *state;
    struct asker hangs, next;
    open_breaker(f);
    f->now_ms += 100;
    script_hold(&f->script, true);
    start(&hangs, f, "hangs", NULL);
    await(f, 1);
    f->now_ms += HADB_BREAKER_PROBE_MS_MAX;
    start(&next, f, "next", NULL);
    await(f, 2);
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), HADB_EUNAVAIL); /* one at a time */
    script_hold(&f->script, false);
    end(&next);
    end(&hangs);
    assert_int_equal(next.result, 0);
    assert_int_equal(hadb_storage_breaker_state(&f->s), HADB_BREAKER_CLOSED);
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), 0);
}

static void breaker__probes_again_after_a_probe_that_said_nothing(void **state)
{
    struct fixture *f = *state;
    script_add(&f->script, HADB_EIO, 2);
    script_add(&f->script, HADB_ECANCELED, 1);
    add_breaker(f, 2, 100);
    ask(f, HADB_STORAGE_OP_GET, NULL);
    ask(f, HADB_STORAGE_OP_GET, NULL);
    f->now_ms += 100;
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), HADB_ECANCELED);
    assert_int_equal(hadb_storage_breaker_state(&f->s), HADB_BREAKER_OPEN);
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), 0);
    assert_int_equal(hadb_storage_breaker_state(&f->s), HADB_BREAKER_CLOSED);
}

static void breaker__is_not_closed_by_a_late_answer_to_an_old_request(void **state)
{
    struct fixture *f = *state;
    struct asker old, failing;
    script_add(&f->script, 0, 1);
    script_add(&f->script, HADB_EIO, 1);
    add_breaker(f, 1, 100);
    script_hold(&f->script, true);
    start(&old, f, "old", NULL);
    await(f, 1);
    start(&failing, f, "failing", NULL);
    await(f, 2);
    script_hold(&f->script, false);
    end(&old);
    end(&failing);
    assert_int_equal(old.result, 0);
    assert_int_equal(failing.result, HADB_EIO);
    /* Whichever came last: the failure alone decides. */
    assert_int_equal(hadb_storage_breaker_state(&f->s), HADB_BREAKER_OPEN);
}

/* --- with_prefix -------------------------------------------------------------------------------- */

static void prefix__is_put_on_and_taken_off(void **state)
{
    struct fixture *f = *state;
    struct hadb_object_list list = {0};
    assert_int_equal(hadb_storage_with_prefix(&f->s, "a/b", &f->env, &f->s, &f->err), 0);
    for (unsigned op = 0; op < HADB_STORAGE_OP_LEN; op++) {
        if (op != HADB_STORAGE_OP_LIST) {
            assert_int_equal(ask(f, (enum hadb_storage_op)op, NULL), 0);
            assert_string_equal(f->script.last_key, "a/b/key");
        }
    }
    f->script.list_key = "a/b/log/1";
    assert_int_equal(hadb_storage_list(&f->s, NULL, "log/", "", 5, &list, &f->err), 0);
    assert_string_equal(f->script.last_key, "a/b/log/");
    assert_string_equal(f->script.last_after, "");
    assert_string_equal(list.items[0].key, "log/1");
    hadb_object_list_deinit(&list);
    assert_int_equal(hadb_storage_list(&f->s, NULL, "", "log/0", 5, &list, &f->err), 0);
    assert_string_equal(f->script.last_key, "a/b/");
    assert_string_equal(f->script.last_after, "a/b/log/0");
    hadb_object_list_deinit(&list);
    assert_int_equal(hadb_storage_caps(&f->s), HADB_STORAGE_CAP_REPLACE | HADB_STORAGE_CAP_SHARED);
}

static void prefix__hides_what_a_bad_listing_shows(void **state)
{
    struct fixture *f = *state;
    struct hadb_object_list list = {0};
    assert_int_equal(hadb_storage_with_prefix(&f->s, "a", &f->env, &f->s, &f->err), 0);
    f->script.list_key = "another/key";
    assert_int_equal(hadb_storage_list(&f->s, NULL, "", "", 5, &list, &f->err), HADB_EPROTO);
    assert_int_equal(list.len, 0);
}

static void prefix__refuses_bad_prefixes_and_keys_that_get_too_long(void **state)
{
    struct fixture *f = *state;
    char key[HADB_OBJECT_KEY_BYTES_MAX + 1];
    static const char *const bad[] = {"", "a/", "/a", "..", "a b", ".hidden"};
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        assert_int_equal(hadb_storage_with_prefix(&f->s, bad[i], &f->env, &f->s, &f->err),
                         HADB_EINVAL);
        assert_non_null(f->s.ops); /* not taken */
    }
    memset(key, 'k', sizeof(key));
    key[HADB_STORAGE_PREFIX_BYTES_MAX + 1] = '\0';
    assert_int_equal(hadb_storage_with_prefix(&f->s, key, &f->env, &f->s, &f->err), HADB_EINVAL);
    assert_int_equal(hadb_storage_with_prefix(&f->s, "a", &f->env, &f->s, &f->err), 0);
    memset(key, 'k', sizeof(key));
    key[HADB_OBJECT_KEY_BYTES_MAX - 1] = '\0';
    assert_int_equal(hadb_storage_get(&f->s, NULL, key, &f->got, NULL, &f->err), HADB_EINVAL);
    key[HADB_OBJECT_KEY_BYTES_MAX - 2] = '\0';
    assert_int_equal(hadb_storage_get(&f->s, NULL, key, &f->got, NULL, &f->err), 0);
}

/* --- with_trace --------------------------------------------------------------------------------- */

static void trace__makes_one_hop_6_event_per_create_that_was_done(void **state)
{
    struct fixture *f = *state;
    struct hadb_call call = {.database = "orders", .txid = 42};
    script_add(&f->script, 0, 1);
    script_add(&f->script, HADB_EXISTS, 1);
    script_add(&f->script, HADB_ETIMEDOUT, 1);
    /* Nested and doubled as it may come: the event does not multiply within one with_trace. */
    assert_int_equal(hadb_storage_with_trace(&f->s, NULL, &f->env, &f->s, &f->err), 0);
    assert_int_equal(hadb_storage_with_prefix(&f->s, "p", &f->env, &f->s, &f->err), 0);
    for (unsigned i = 0; i < 3; i++) {
        ask(f, HADB_STORAGE_OP_CREATE, &call);
    }
    ask(f, HADB_STORAGE_OP_GET, &call);
    ask(f, HADB_STORAGE_OP_REPLACE, &call);
    assert_int_equal(f->events_len, 1);
    assert_int_equal(f->events[0].hop, 6);
    assert_string_equal(f->events[0].what, "create");
    assert_string_equal(f->events[0].database, "orders");
    assert_int_equal(f->events[0].txid, 42);
    assert_int_equal(f->events[0].bytes, 4);
    assert_non_null(strstr(f->log, "orders create p/key: 0, 4 bytes"));
    assert_non_null(strstr(f->log, "orders create p/key: 2, 0 bytes"));
}

static void trace__counts_requests_by_operation_and_outcome(void **state)
{
    struct fixture *f = *state;
    struct hadb_storage_counters live = {0}, read = {0};
    script_add(&f->script, 0, 1);
    script_add(&f->script, HADB_ABSENT, 1);
    script_add(&f->script, HADB_ETIMEDOUT, 1);
    script_add(&f->script, HADB_EAUTH, 1);
    assert_int_equal(hadb_storage_with_trace(&f->s, &live, &f->env, &f->s, &f->err), 0);
    for (unsigned i = 0; i < 4; i++) {
        ask(f, HADB_STORAGE_OP_GET, NULL);
    }
    for (unsigned op = 0; op < HADB_STORAGE_OP_LEN; op++) {
        ask(f, (enum hadb_storage_op)op, NULL);
    }
    hadb_storage_counters_read(&live, &read);
    assert_int_equal(read.op[HADB_STORAGE_OP_GET].done, 2);
    assert_int_equal(read.op[HADB_STORAGE_OP_GET].outcomes, 1);
    assert_int_equal(read.op[HADB_STORAGE_OP_GET].unknown, 1);
    assert_int_equal(read.op[HADB_STORAGE_OP_GET].failed, 1);
    assert_int_equal(read.op[HADB_STORAGE_OP_GET].bytes, 16);
    assert_int_equal(read.op[HADB_STORAGE_OP_CREATE].bytes, 4);
    for (unsigned op = 1; op < HADB_STORAGE_OP_LEN; op++) {
        assert_int_equal(hadb_storage_counters_op(&read, (enum hadb_storage_op)op), 1);
        assert_string_not_equal(hadb_storage_op_name((enum hadb_storage_op)op), "");
    }
    assert_int_equal(hadb_storage_counters_total(&read), 4 + HADB_STORAGE_OP_LEN);
}

/* --- all ---------------------------------------------------------------------------------------- */

static int wrap(struct fixture *f, unsigned which, struct hadb_storage *out)
{
    switch (which) {
    case 0:
        return hadb_storage_with_retry(&f->s, NULL, &f->env, out, &f->err);
    case 1:
        return hadb_storage_with_breaker(&f->s, NULL, &f->env, out, &f->err);
    case 2:
        return hadb_storage_with_prefix(&f->s, "p", &f->env, out, &f->err);
    case 3:
        return hadb_storage_with_trace(&f->s, NULL, &f->env, out, &f->err);
    default:
        return hadb_storage_with_limit(&f->s, NULL, &f->env, out, &f->err);
    }
}

static void wrapper__takes_the_inner_backend_on_success_only(void **state)
{
    struct fixture *f = *state;
    for (unsigned which = 0; which < 5; which++) {
        struct hadb_storage out = {0};
        void *inner = f->s.self;
        test_alloc_fail_at(1);
        int r = wrap(f, which, &out);
        test_alloc_reset();
        assert_int_equal(r, HADB_ENOMEM);
        assert_null(out.ops);
        assert_ptr_equal(f->s.self, inner);
        assert_int_equal(wrap(f, which, &out), 0);
        assert_null(f->s.ops);
        f->s = out; /* the next one goes around it */
    }
    struct hadb_storage closed = {0}, out = {0};
    assert_int_equal(hadb_storage_with_retry(&closed, NULL, &f->env, &out, &f->err), HADB_EINVAL);
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), 0);
    assert_string_equal(f->script.last_key, "p/key");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        BOTH(retry__repeats_reads_until_they_answer),
        BOTH(retry__never_repeats_a_write_of_unknown_outcome),
        BOTH(retry__stops_when_a_repeated_write_becomes_unknown),
        BOTH(retry__repeats_writes_that_were_surely_not_applied),
        BOTH(retry__leaves_outcomes_and_final_failures_alone),
        BOTH(retry__believes_the_adapter_more_than_the_code),
        BOTH(retry__gives_up_after_tries_max_with_the_last_failure),
        BOTH(retry__waits_with_full_jitter_below_a_doubling_bound),
        BOTH(retry__does_not_begin_a_wait_that_passes_the_deadline),
        BOTH(retry__stops_when_cancelled),
        BOTH(breaker__opens_after_failures_in_a_row_and_sends_nothing),
        BOTH(breaker__closes_when_its_probe_is_answered),
        BOTH(breaker__stays_open_anew_when_its_probe_fails),
        BOTH(breaker__does_not_count_what_says_nothing_about_the_store),
        BOTH(breaker__lets_exactly_one_probe_in),
        BOTH(breaker__gives_the_vote_of_a_probe_that_hangs_to_the_next),
        BOTH(breaker__probes_again_after_a_probe_that_said_nothing),
        BOTH(breaker__is_not_closed_by_a_late_answer_to_an_old_request),
        BOTH(prefix__is_put_on_and_taken_off),
        BOTH(prefix__hides_what_a_bad_listing_shows),
        BOTH(prefix__refuses_bad_prefixes_and_keys_that_get_too_long),
        BOTH(trace__makes_one_hop_6_event_per_create_that_was_done),
        BOTH(trace__counts_requests_by_operation_and_outcome),
        BOTH(wrapper__takes_the_inner_backend_on_success_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
