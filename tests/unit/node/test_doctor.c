/* SPDX-License-Identifier: Apache-2.0 */
/* What the doctor computes, and a whole examination of stores in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/util.h"
#include "node/doctor.h"

#define MONTH_MS 2592000000ull

static struct hadb_doctor_estimate estimate(struct hadb_doctor_workload w, bool storage, bool lease)
{
    struct hadb_doctor_estimate e = {0};
    hadb__doctor_estimate(&w, storage, lease, &e);
    return e;
}

/* By hand: 10 databases, an entry every second each, 3 nodes, a TTL of 6 s. */
static void estimate__adds_up(void **state)
{
    (void)state;
    struct hadb_doctor_workload w = {.databases = 10,
                                     .nodes = 3,
                                     .ttl_ms = 6000,
                                     .batch_interval_ms = 1000,
                                     .snapshot_slots = 1000};
    struct hadb_doctor_estimate e = estimate(w, true, true);
    assert_int_equal(e.batches, 25920000);
    assert_int_equal(e.snapshots, 25920);
    assert_int_equal(e.renewals, 3 * 1296000);
    uint64_t probes = 3 * 30;
    assert_int_equal(e.storage_puts, 25920000 + 25920 + 25920 * HADB_DOCTOR_SNAPSHOT_PUTS +
                                         probes * HADB_DOCTOR_PROBE_PUTS);
    assert_int_equal(e.storage_gets, 25920000 + 25920 * HADB_DOCTOR_SNAPSHOT_GETS +
                                         probes * HADB_DOCTOR_PROBE_GETS);
    assert_int_equal(e.lease_puts, 3888000);
    assert_int_equal(e.storage_cost_nusd, e.storage_puts * 5000 + e.storage_gets * 400);
    assert_int_equal(e.lease_cost_nusd, 3888000ull * 5000); /* 19.44 dollars */
}

static void estimate__has_no_price_where_requests_are_free(void **state)
{
    (void)state;
    struct hadb_doctor_workload w = {.ttl_ms = 5000};
    assert_int_equal(estimate(w, false, true).storage_cost_nusd, 0);
    assert_int_equal(estimate(w, true, false).lease_cost_nusd, 0);
    assert_true(estimate(w, true, false).storage_cost_nusd > 0);
    assert_true(estimate(w, false, true).lease_cost_nusd > 0);
}

static void estimate__fills_in_what_is_not_given(void **state)
{
    (void)state;
    struct hadb_doctor_workload w = {.ttl_ms = 5000};
    struct hadb_doctor_estimate e = estimate(w, false, false);
    assert_int_equal(e.workload.databases, 1);
    assert_int_equal(e.workload.nodes, 3);
    assert_int_equal(e.workload.batch_interval_ms, 1000);
    assert_int_equal(e.workload.snapshot_slots, 4096);
    assert_int_equal(e.workload.ttl_ms, 5000);
}

/* Leases are per node: more databases do not renew more; nodes do not write more entries. */
static void estimate__grows_with_what_causes_it(void **state)
{
    (void)state;
    struct hadb_doctor_workload few = {.databases = 1, .nodes = 1, .ttl_ms = 3000};
    struct hadb_doctor_workload many = few;
    many.databases = 1000;
    assert_int_equal(estimate(many, true, true).renewals, estimate(few, true, true).renewals);
    assert_int_equal(estimate(many, true, true).batches, 1000 * estimate(few, true, true).batches);
    many = few;
    many.nodes = 5;
    assert_int_equal(estimate(many, true, true).batches, estimate(few, true, true).batches);
    assert_int_equal(estimate(many, true, true).renewals, 5 * estimate(few, true, true).renewals);
    assert_int_equal(estimate(few, true, true).renewals, MONTH_MS / 1000);
}

static void estimate__of_the_largest_numbers_does_not_wrap_around(void **state)
{
    (void)state;
    struct hadb_doctor_workload w = {.databases = UINT32_MAX,
                                     .nodes = UINT32_MAX,
                                     .ttl_ms = 1,
                                     .batch_interval_ms = 1,
                                     .snapshot_slots = 1};
    struct hadb_doctor_estimate e = estimate(w, true, true);
    assert_true(e.batches == UINT32_MAX * MONTH_MS);
    assert_true(e.storage_puts >= e.batches);
    assert_true(e.storage_cost_nusd == UINT64_MAX);
    assert_true(e.lease_cost_nusd == UINT64_MAX);
}

static void ttl__leaves_a_renewal_its_fifth(void **state)
{
    (void)state;
    assert_int_equal(hadb__doctor_ttl_ms_min(0), 1000);
    assert_int_equal(hadb__doctor_ttl_ms_min(200 * 1000), 1000); /* a fifth of 1 s is 200 ms */
    assert_int_equal(hadb__doctor_ttl_ms_min(200 * 1000 + 1), 1500);
    assert_int_equal(hadb__doctor_ttl_ms_min(3 * 1000 * 1000), 15000);
    assert_int_equal(hadb__doctor_ttl_ms_min(UINT32_MAX), HADB_DOCTOR_TTL_MS_MAX);
}

static void ttl__recommended_has_room_to_spare(void **state)
{
    (void)state;
    assert_int_equal(hadb__doctor_ttl_ms(100, false), HADB_DOCTOR_TTL_MS_USUAL);
    assert_int_equal(hadb__doctor_ttl_ms(100, true), HADB_DOCTOR_TTL_MS_PRICED);
    assert_int_equal(hadb__doctor_ttl_ms(150 * 1000, false), 3000);
    assert_int_equal(hadb__doctor_ttl_ms(150 * 1000, true), 5000);
    assert_int_equal(hadb__doctor_ttl_ms(400 * 1000, true), 8000);
    for (uint32_t us = 1; us < 20u * 1000 * 1000; us += 7777) {
        assert_true(hadb__doctor_ttl_ms(us, false) >= hadb__doctor_ttl_ms_min(us));
        assert_true((uint64_t)hadb__doctor_ttl_ms_min(us) * 1000 / 5 >= us);
    }
    assert_int_equal(hadb__doctor_ttl_ms(UINT32_MAX, true), HADB_DOCTOR_TTL_MS_MAX);
}

static void window__grows_with_the_latency_of_a_create(void **state)
{
    (void)state;
    assert_int_equal(hadb__doctor_window(0), 2);
    assert_int_equal(hadb__doctor_window(19999), 2);
    assert_int_equal(hadb__doctor_window(30000), 3);
    assert_int_equal(hadb__doctor_window(100000), 7);
    assert_int_equal(hadb__doctor_window(UINT32_MAX), 8);
}

static void words__are_there_for_every_check_that_can_fail(void **state)
{
    (void)state;
    for (unsigned i = 0; i < HADB_PROBE_LEN; i++) {
        const struct hadb__doctor_words *words = hadb__doctor_storage_words(i);
        bool recorded = i == HADB_PROBE_SAME_BYTES || i == HADB_PROBE_DELETE;
        assert_true(recorded || (words->means && strstr(words->means, "no node leads")));
        assert_true(recorded || words->remedy);
    }
    for (unsigned i = 0; i < HADB_LEASE_PROBE_LEN; i++) {
        const struct hadb__doctor_words *words = hadb__doctor_lease_words(i);
        assert_non_null(strstr(words->means, "never an acknowledged write"));
        assert_non_null(words->remedy);
    }
}

static void doctor__finds_stores_in_memory_fit_but_not_lasting(void **state)
{
    (void)state;
    static struct hadb_doctor_report report;
    struct hadb_error err = {0};
    struct hadb_doctor_options options = HADB_DOCTOR_OPTIONS_INIT;
    options.storage_url = options.lease_url = "mem:?latency_ms=1";
    options.lease_url = "mem:";
    options.rounds = 5;
    assert_int_equal(hadb_doctor_run(&options, &report, &err), 0);
    assert_true(report.passed);
    bool noted = false;
    for (size_t i = 0; i < report.storage.checks_len; i++) {
        const struct hadb_doctor_check *check = &report.storage.checks[i];
        assert_int_not_equal(check->status, HADB_DOCTOR_FAILED);
        noted = noted || (strcmp(check->name, "lasting") == 0 &&
                          check->status == HADB_DOCTOR_NOTED && check->remedy[0]);
    }
    assert_true(noted);
    assert_string_equal(report.storage.left, "");
    assert_int_equal(report.storage.latencies[0].count, 5);
    assert_true(report.storage.latencies[0].p50_us >= 1000);
    assert_int_equal(report.lease.checks_len, HADB_LEASE_PROBE_LEN);
    assert_int_equal(report.estimate.workload.ttl_ms, report.ttl_ms);
}

static void doctor__checks_a_ttl_that_is_given(void **state)
{
    (void)state;
    static struct hadb_doctor_report report;
    struct hadb_doctor_options options = HADB_DOCTOR_OPTIONS_INIT;
    options.lease_url = "mem:";
    options.rounds = 5;
    options.workload.ttl_ms = 100; /* under a second, whatever the latency */
    assert_int_equal(hadb_doctor_run(&options, &report, NULL), 0);
    assert_false(report.passed);
    assert_false(report.storage.examined);
    const struct hadb_doctor_check *last = &report.lease.checks[report.lease.checks_len - 1];
    assert_string_equal(last->name, "ttl");
    assert_int_equal(last->status, HADB_DOCTOR_FAILED);
    assert_string_not_equal(last->means, "");
    assert_int_equal(report.estimate.workload.ttl_ms, 100);
}

static void doctor__can_be_cancelled(void **state)
{
    (void)state;
    static struct hadb_doctor_report report;
    struct hadb_cancel cancel = {.flag = 1};
    struct hadb_doctor_options options = HADB_DOCTOR_OPTIONS_INIT;
    options.storage_url = options.lease_url = "mem:";
    options.cancel = &cancel;
    assert_int_equal(hadb_doctor_run(&options, &report, NULL), 0);
    assert_false(report.passed);
    assert_int_equal(report.storage.err.code, HADB_ECANCELED);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(estimate__adds_up),
        cmocka_unit_test(estimate__has_no_price_where_requests_are_free),
        cmocka_unit_test(estimate__fills_in_what_is_not_given),
        cmocka_unit_test(estimate__grows_with_what_causes_it),
        cmocka_unit_test(estimate__of_the_largest_numbers_does_not_wrap_around),
        cmocka_unit_test(ttl__leaves_a_renewal_its_fifth),
        cmocka_unit_test(ttl__recommended_has_room_to_spare),
        cmocka_unit_test(window__grows_with_the_latency_of_a_create),
        cmocka_unit_test(words__are_there_for_every_check_that_can_fail),
        cmocka_unit_test(doctor__finds_stores_in_memory_fit_but_not_lasting),
        cmocka_unit_test(doctor__checks_a_ttl_that_is_given),
        cmocka_unit_test(doctor__can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
