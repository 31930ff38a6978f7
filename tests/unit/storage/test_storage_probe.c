/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance probe: passes what keeps its promises, finds each promise that is broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/env.h"
#include "storage/probe.h"
#include "storage/probe_measure.h"
#include "storage/wrap.h"
#include "tests/support/support.h"
#include "tests/unit/storage/broken_storage.h"

static size_t count_keys(struct hadb_storage *s)
{
    struct hadb_object_list list = {0};
    assert_int_equal(hadb_storage_list(s, NULL, "", "", HADB_LIST_LEN_MAX, &list, NULL), 0);
    size_t len = list.len;
    hadb_object_list_deinit(&list);
    return len;
}

static void assert_passes(struct hadb_storage *s, const struct hadb_probe_options *options,
                          struct hadb_probe_result *result)
{
    struct hadb_error err = {0};
    int r = hadb_probe_run(s, "probe", options, NULL, result, &err);
    if (r != 0) {
        fail_msg("%d %s", r, err.message);
    }
    for (unsigned i = 0; i < HADB_PROBE_LEN; i++) {
        bool recorded = i == HADB_PROBE_SAME_BYTES || i == HADB_PROBE_DELETE;
        if (result->checks[i].status != (recorded ? HADB_PROBE_RECORDED : HADB_PROBE_PASSED)) {
            fail_msg("%s: %s", hadb_probe_check_name((enum hadb_probe_check)i),
                     result->checks[i].text);
        }
        assert_string_not_equal(result->checks[i].text, "");
    }
    assert_true(result->may_lead);
    assert_int_equal(count_keys(s), 0); /* nothing is left behind */
}

static void probe__passes_a_mem_store_and_learns_its_dialect(void **state)
{
    (void)state;
    struct hadb_storage s = {0};
    struct hadb_probe_result result = {0};
    assert_int_equal(hadb_storage_open("mem:", NULL, &s, NULL), 0);
    assert_passes(&s, NULL, &result);
    assert_string_equal(result.checks[HADB_PROBE_SAME_BYTES].text, "equal bytes get a new tag");
    assert_string_equal(result.checks[HADB_PROBE_DELETE].text,
                        "gone at once, its key is free again");
    hadb_storage_close(&s);
}

static void probe__passes_a_local_store_quickly(void **state)
{
    (void)state;
    struct hadb_storage s = {0};
    struct hadb_probe_result result = {0};
    char dir[HADB_PATH_BYTES_MAX], url[HADB_PATH_BYTES_MAX + 16];
    test_tmp_make(dir);
    snprintf(url, sizeof(url), "file://%s/store", dir);
    assert_int_equal(hadb_storage_open(url, NULL, &s, NULL), 0);
    assert_passes(&s, NULL, &result);
    assert_string_equal(result.checks[HADB_PROBE_SAME_BYTES].text, "equal bytes keep the tag");
    fprintf(stderr, "probe of a local store: %u ms\n", (unsigned)result.took_ms);
    hadb_storage_close(&s);
    test_tmp_remove(dir);
}

static void probe__passes_in_its_full_measure_through_all_wrappers(void **state)
{
    (void)state;
    struct hadb_storage s = {0};
    struct hadb_probe_result result = {0};
    struct hadb_probe_options full = HADB_PROBE_OPTIONS_FULL;
    assert_int_equal(hadb_storage_open("mem:", NULL, &s, NULL), 0);
    assert_int_equal(hadb_storage_with_trace(&s, NULL, NULL, &s, NULL), 0);
    assert_int_equal(hadb_storage_with_breaker(&s, NULL, NULL, &s, NULL), 0);
    assert_int_equal(hadb_storage_with_retry(&s, NULL, NULL, &s, NULL), 0);
    assert_int_equal(hadb_storage_with_prefix(&s, "p", NULL, &s, NULL), 0);
    assert_int_equal(hadb_storage_with_limit(&s, NULL, NULL, &s, NULL), 0);
    assert_passes(&s, &full, &result);
    hadb_storage_close(&s);
}

static void probe__is_not_misled_by_lost_replies(void **state)
{
    (void)state;
    struct hadb_storage s = broken_storage(BROKEN_LOSES_REPLIES);
    struct hadb_probe_result result = {0};
    assert_passes(&s, NULL, &result);
    assert_true(result.may_lead);
    hadb_storage_close(&s);
}

static void probe__finds_each_broken_promise(void **state)
{
    (void)state;
    static const struct {
        enum broken_kind kind;
        enum hadb_probe_check finds;
    } cases[] = {
        {BROKEN_CREATE_CHECKS_THEN_ACTS, HADB_PROBE_RACE},
        {BROKEN_CREATE_OVERWRITES, HADB_PROBE_EXISTS},
        {BROKEN_CREATE_OVERWRITES, HADB_PROBE_RACE},
        {BROKEN_CREATE_LIES, HADB_PROBE_EXISTS},
        {BROKEN_CREATE_LIES, HADB_PROBE_RACE},
        {BROKEN_REPLACE_IGNORES_TAG, HADB_PROBE_STALE_TAG},
        {BROKEN_REPLACE_IGNORES_TAG, HADB_PROBE_REPLACE_RACE},
        {BROKEN_REPLACE_CHECKS_THEN_ACTS, HADB_PROBE_REPLACE_RACE},
        {BROKEN_REPLACE_CREATES, HADB_PROBE_ABSENT_TAG},
        {BROKEN_REPLACE_KEEPS_TAG, HADB_PROBE_STALE_TAG},
        {BROKEN_STALE_ABSENT, HADB_PROBE_ABSENT_FIRST},
        {BROKEN_LATE_VISIBLE, HADB_PROBE_READ_AFTER},
        {BROKEN_TRUNCATES, HADB_PROBE_LARGE},
        {BROKEN_FLIPS, HADB_PROBE_LARGE},
        {BROKEN_RANGE, HADB_PROBE_LARGE},
        {BROKEN_HEAD, HADB_PROBE_LARGE},
        {BROKEN_NO_REPLACE, HADB_PROBE_STALE_TAG},
    };
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct hadb_storage s = broken_storage(cases[i].kind);
        struct hadb_probe_result result = {0};
        struct hadb_error err = {0};
        int r = hadb_probe_run(&s, "probe", NULL, NULL, &result, &err);
        if (r != 0) {
            fail_msg("kind %d: %d %s", (int)cases[i].kind, r, err.message);
        }
        assert_false(result.may_lead);
        if (result.checks[cases[i].finds].status != HADB_PROBE_FAILED) {
            fail_msg("kind %d was not found by %s: %s", (int)cases[i].kind,
                     hadb_probe_check_name(cases[i].finds), result.checks[cases[i].finds].text);
        }
        hadb_storage_close(&s);
    }
}

static void probe__judges_only_what_is_broken(void **state)
{
    (void)state;
    struct hadb_storage s = broken_storage(BROKEN_TRUNCATES);
    struct hadb_probe_result result = {0};
    assert_int_equal(hadb_probe_run(&s, "probe", NULL, NULL, &result, NULL), 0);
    for (unsigned i = 0; i < HADB_PROBE_LEN; i++) {
        assert_int_equal(result.checks[i].status == HADB_PROBE_FAILED, i == HADB_PROBE_LARGE);
    }
    hadb_storage_close(&s);
}

static void probe__gives_no_verdict_on_a_store_that_refuses(void **state)
{
    (void)state;
    struct hadb_storage s = broken_storage(BROKEN_REFUSES);
    struct hadb_probe_result result = {.took_ms = 77};
    struct hadb_error err = {0};
    struct hadb_env quiet = *hadb_env_host();
    quiet.log_level = HADB_LOG_ERROR;
    assert_int_equal(hadb_probe_run(&s, "probe", NULL, &quiet, &result, &err), HADB_EAUTH);
    assert_non_null(strstr(err.message, "probe exists: "));
    assert_int_equal(result.took_ms, 77);
    hadb_storage_close(&s);
}

static void probe__of_a_store_that_must_not_delete_says_so_and_what_it_left(void **state)
{
    (void)state;
    struct hadb_storage s = broken_storage(BROKEN_KEEPS);
    struct hadb_probe_result result = {0};
    struct hadb_env quiet = *hadb_env_host();
    quiet.log_level = HADB_LOG_ERROR;
    assert_int_equal(hadb_probe_run(&s, "probe", NULL, &quiet, &result, NULL), 0);
    assert_true(result.may_lead);
    assert_int_equal(result.checks[HADB_PROBE_DELETE].status, HADB_PROBE_RECORDED);
    assert_non_null(strstr(result.checks[HADB_PROBE_DELETE].text, "refused"));
    assert_non_null(strstr(result.left, "probe/run-"));
    assert_true(count_keys(&s) > 0);
    hadb_storage_close(&s);
}

/* Each race attempt is one sample; nothing else is. */
static void probe__times_what_happens_under_contention(void **state)
{
    (void)state;
    struct hadb_storage s = {0};
    struct hadb_samples samples = {0};
    struct hadb_probe_options options = {.racers = 3, .keys = 4, .race_samples = &samples};
    struct hadb_probe_result result = {0};
    assert_int_equal(hadb_storage_open("mem:?latency_ms=2", NULL, &s, NULL), 0);
    assert_passes(&s, &options, &result);
    assert_int_equal(samples.len, 3 * (4 + 1)); /* creates, and replaces of one key */
    assert_true(hadb_samples_percentile(&samples, 1) >= 2000);
    hadb_samples_deinit(&samples);
    hadb_storage_close(&s);
}

static void measure__has_every_operation_and_leaves_nothing(void **state)
{
    (void)state;
    struct hadb_storage s = {0};
    struct hadb_probe_latencies latencies = {0};
    struct hadb_probe_measure_options options = {.rounds = 10};
    assert_int_equal(hadb_storage_open("mem:?latency_ms=2", NULL, &s, NULL), 0);
    assert_int_equal(hadb_probe_measure(&s, "probe", &options, NULL, &latencies, NULL), 0);
    for (unsigned i = 0; i < HADB_PROBE_TIMED_LEN; i++) {
        bool once_per_ten = i == HADB_PROBE_TIMED_LIST || i == HADB_PROBE_TIMED_DELETE;
        assert_int_equal(latencies.of[i].len, once_per_ten ? 1 : 10);
        assert_in_range(hadb_samples_percentile(&latencies.of[i], 50), 2000, 2000000);
    }
    assert_int_equal(latencies.refused[HADB_PROBE_TIMED_LIST].code, 0);
    hadb_probe_latencies_deinit(&latencies);
    assert_int_equal(count_keys(&s), 0);
    hadb_storage_close(&s);
}

static void measure__notes_what_is_not_allowed_and_goes_on(void **state)
{
    (void)state;
    struct hadb_storage s = broken_storage(BROKEN_KEEPS);
    struct hadb_probe_latencies latencies = {0};
    struct hadb_probe_measure_options options = {.rounds = 2};
    assert_int_equal(hadb_probe_measure(&s, "probe", &options, NULL, &latencies, NULL), 0);
    assert_int_equal(latencies.refused[HADB_PROBE_TIMED_DELETE].code, HADB_EAUTH);
    assert_int_equal(latencies.of[HADB_PROBE_TIMED_DELETE].len, 0);
    assert_int_equal(latencies.of[HADB_PROBE_TIMED_CREATE].len, 2);
    hadb_probe_latencies_deinit(&latencies);
    hadb_storage_close(&s);
}

static void measure__gives_up_on_a_store_that_refuses(void **state)
{
    (void)state;
    struct hadb_storage s = broken_storage(BROKEN_REFUSES);
    struct hadb_probe_latencies latencies = {0};
    assert_int_equal(hadb_probe_measure(&s, "probe", NULL, NULL, &latencies, NULL), HADB_EAUTH);
    hadb_probe_latencies_deinit(&latencies);
    hadb_storage_close(&s);
}

static void probe__can_be_cancelled(void **state)
{
    (void)state;
    struct hadb_storage s = {0};
    struct hadb_cancel flag = {.flag = 1};
    struct hadb_probe_options options = {.cancel = &flag};
    struct hadb_probe_result result = {0};
    assert_int_equal(hadb_storage_open("mem:", NULL, &s, NULL), 0);
    assert_int_equal(hadb_probe_run(&s, "probe", &options, NULL, &result, NULL), HADB_ECANCELED);
    hadb_storage_close(&s);
}

static void probe__refuses_options_over_their_limits(void **state)
{
    (void)state;
    struct hadb_storage s = {0};
    struct hadb_probe_result result = {0};
    struct hadb_probe_options racers = {.racers = HADB_PROBE_RACERS_MAX + 1};
    struct hadb_probe_options keys = {.keys = HADB_PROBE_KEYS_MAX + 1};
    struct hadb_probe_options large = {.large_bytes = HADB_OBJECT_BYTES_MAX + 1};
    assert_int_equal(hadb_storage_open("mem:", NULL, &s, NULL), 0);
    assert_int_equal(hadb_probe_run(&s, "probe", &racers, NULL, &result, NULL), HADB_EINVAL);
    assert_int_equal(hadb_probe_run(&s, "probe", &keys, NULL, &result, NULL), HADB_EINVAL);
    assert_int_equal(hadb_probe_run(&s, "probe", &large, NULL, &result, NULL), HADB_EINVAL);
    assert_int_equal(hadb_probe_run(&s, "../probe", NULL, NULL, &result, NULL), HADB_EINVAL);
    hadb_storage_close(&s);
}

/* Fails the n-th allocation, for every n: no verdict, nothing leaked, threads joined. */
static void probe__survives_failing_allocations(void **state)
{
    (void)state;
    struct hadb_storage s = {0};
    struct hadb_probe_options options = {.racers = 2, .keys = 1, .reads = 1, .large_bytes = 100};
    assert_int_equal(hadb_storage_open("mem:", NULL, &s, NULL), 0);
    bool hit = true;
    for (uint64_t n = 1; hit && n < 1000; n++) {
        struct hadb_probe_result result = {0};
        test_alloc_fail_at(n);
        int r = hadb_probe_run(&s, "probe", &options, NULL, &result, NULL);
        hit = test_alloc_hit();
        test_alloc_reset();
        assert_true(r == HADB_ENOMEM || (r == 0 && result.may_lead));
    }
    assert_false(hit);
    hadb_storage_close(&s);
}

/* --- text form ---------------------------------------------------------------------------------- */

static struct hadb_probe_result sample(void)
{
    struct hadb_probe_result result = {.at_unix_ms = 1700000000123, .took_ms = 45};
    for (unsigned i = 0; i < HADB_PROBE_LEN; i++) {
        bool recorded = i == HADB_PROBE_SAME_BYTES || i == HADB_PROBE_DELETE;
        result.checks[i].status = recorded ? HADB_PROBE_RECORDED : HADB_PROBE_PASSED;
        snprintf(result.checks[i].text, sizeof(result.checks[i].text), "text of %u", i);
    }
    result.may_lead = true;
    return result;
}

static void text__comes_back_as_it_was(void **state)
{
    (void)state;
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf text = {0};
    struct hadb_probe_result in = sample(), out = {0};
    in.checks[HADB_PROBE_LARGE].status = HADB_PROBE_FAILED;
    in.may_lead = false;
    memset(in.checks[0].text, 'x', sizeof(in.checks[0].text) - 1);
    assert_int_equal(hadb_probe_encode(&in, &text), 0);
    assert_int_equal(hadb_probe_decode(hadb_buf_slice(&text), &out, NULL), 0);
    assert_int_equal(out.at_unix_ms, in.at_unix_ms);
    assert_int_equal(out.took_ms, in.took_ms);
    assert_int_equal(out.may_lead, in.may_lead);
    for (unsigned i = 0; i < HADB_PROBE_LEN; i++) {
        assert_int_equal(out.checks[i].status, in.checks[i].status);
        assert_string_equal(out.checks[i].text, in.checks[i].text);
    }
}

static void text__that_is_cut_or_changed_is_refused(void **state)
{
    (void)state;
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf text = {0};
    struct hadb_probe_result in = sample(), out = {0};
    assert_int_equal(hadb_probe_encode(&in, &text), 0);
    for (size_t len = 0; len < text.len; len++) {
        assert_int_equal(hadb_probe_decode(hadb_slice(text.data, len), &out, NULL), HADB_ECORRUPT);
    }
    for (size_t i = 0; i < text.len;
         i++) { /* any byte may change: no crash, and never more rights */
        uint8_t old = text.data[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            text.data[i] = (uint8_t)(old ^ 1u << bit);
            hadb_probe_decode(hadb_buf_slice(&text), &out, NULL);
        }
        text.data[i] = old;
    }
    assert_int_equal(hadb_buf_append_str(&text, "more\n"), 0);
    assert_int_equal(hadb_probe_decode(hadb_buf_slice(&text), &out, NULL), HADB_ECORRUPT);
    assert_int_equal(hadb_probe_decode(hadb_slice_str("hadb-probe 2\n"), &out, NULL),
                     HADB_EVERSION);
    assert_int_equal(hadb_probe_decode(hadb_slice_str("hadb-probe x\n"), &out, NULL),
                     HADB_ECORRUPT);
    assert_int_equal(hadb_probe_decode(hadb_slice_str("hadb-probe 02\n"), &out, NULL),
                     HADB_ECORRUPT); /* one result has one text */
    static char large[HADB_PROBE_TEXT_BYTES_MAX + 1];
    assert_int_equal(hadb_probe_decode(hadb_slice(large, sizeof(large)), &out, NULL), HADB_ETOOBIG);
}

static void result__is_kept_in_the_store_and_can_be_renewed(void **state)
{
    (void)state;
    struct hadb_storage s = {0};
    struct hadb_probe_result in = sample(), out = {0};
    assert_int_equal(hadb_storage_open("mem:", NULL, &s, NULL), 0);
    assert_int_equal(hadb_probe_load(&s, NULL, "probe", "mem-1", &out, NULL), HADB_ABSENT);
    assert_int_equal(hadb_probe_store(&s, NULL, "probe", "mem-1", &in, NULL), 0);
    assert_int_equal(hadb_probe_load(&s, NULL, "probe", "mem-1", &out, NULL), 0);
    assert_int_equal(out.took_ms, 45);
    assert_true(out.may_lead);
    in.took_ms = 46;
    assert_int_equal(hadb_probe_store(&s, NULL, "probe", "mem-1", &in, NULL), 0);
    assert_int_equal(hadb_probe_load(&s, NULL, "probe", "mem-1", &out, NULL), 0);
    assert_int_equal(out.took_ms, 46);
    assert_int_equal(hadb_probe_load(&s, NULL, "probe", "mem-2", &out, NULL), HADB_ABSENT);
    assert_int_equal(
        hadb_storage_create(&s, NULL, "probe/old", hadb_slice_str("hadb-probe 9\n"), NULL, NULL),
        0);
    assert_int_equal(hadb_probe_load(&s, NULL, "probe", "old", &out, NULL), HADB_ABSENT);
    assert_int_equal(
        hadb_storage_create(&s, NULL, "probe/bad", hadb_slice_str("rubbish"), NULL, NULL), 0);
    assert_int_equal(hadb_probe_load(&s, NULL, "probe", "bad", &out, NULL), HADB_ECORRUPT);
    assert_int_equal(hadb_probe_load(&s, NULL, "probe", "../x", &out, NULL), HADB_EINVAL);
    hadb_storage_close(&s);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(probe__passes_a_mem_store_and_learns_its_dialect),
        cmocka_unit_test(probe__passes_a_local_store_quickly),
        cmocka_unit_test(probe__passes_in_its_full_measure_through_all_wrappers),
        cmocka_unit_test(probe__is_not_misled_by_lost_replies),
        cmocka_unit_test(probe__finds_each_broken_promise),
        cmocka_unit_test(probe__judges_only_what_is_broken),
        cmocka_unit_test(probe__gives_no_verdict_on_a_store_that_refuses),
        cmocka_unit_test(probe__of_a_store_that_must_not_delete_says_so_and_what_it_left),
        cmocka_unit_test(probe__times_what_happens_under_contention),
        cmocka_unit_test(measure__has_every_operation_and_leaves_nothing),
        cmocka_unit_test(measure__notes_what_is_not_allowed_and_goes_on),
        cmocka_unit_test(measure__gives_up_on_a_store_that_refuses),
        cmocka_unit_test(probe__can_be_cancelled),
        cmocka_unit_test(probe__refuses_options_over_their_limits),
        cmocka_unit_test(probe__survives_failing_allocations),
        cmocka_unit_test(text__comes_back_as_it_was),
        cmocka_unit_test(text__that_is_cut_or_changed_is_refused),
        cmocka_unit_test(result__is_kept_in_the_store_and_can_be_renewed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
