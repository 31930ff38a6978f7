/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conformance probe over http://: an honest service passes at full measure, those that ignore conditions or look
 * first and act later do not. Run through tests/support/with_storage.py; only its scripted server has liars.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "storage/probe.h"
#include "tests/support/lease_server.h"

/* The verdict on the service that the variable @name leads to; false when there is none. */
static bool probe(const char *name, const struct hadb_probe_options *options,
                  struct hadb_probe_result *result)
{
    char url[1024];
    struct hadb_storage s = {0};
    struct hadb_error err = {0};
    if (!lease_server_url(name, url, sizeof(url))) {
        return false;
    }
    assert_int_equal(hadb_storage_open(url, NULL, &s, &err), 0);
    int r = hadb_probe_run(&s, "probe", options, NULL, result, &err);
    hadb_storage_close(&s);
    if (r) {
        fail_msg("no verdict: %s", err.message);
    }
    return true;
}

static void probe__of_an_honest_service_passes_at_full_measure(void **state)
{
    (void)state;
    struct hadb_probe_options full = HADB_PROBE_OPTIONS_FULL;
    struct hadb_probe_result result = {0};
    assert_true(probe("HADB_TEST_STORAGE_URL", &full, &result));
    for (int i = 0; i < HADB_PROBE_LEN; i++) {
        printf("%s: %s: %s\n", hadb_probe_check_name((enum hadb_probe_check)i),
               hadb_probe_status_name(result.checks[i].status), result.checks[i].text);
    }
    assert_true(result.may_lead);
}

static bool failed(const struct hadb_probe_result *result, enum hadb_probe_check check)
{
    return result->checks[check].status == HADB_PROBE_FAILED;
}

static void probe__finds_a_service_that_ignores_conditions(void **state)
{
    (void)state;
    struct hadb_probe_result result = {0};
    if (!probe("HADB_TEST_IGNORES_STORAGE_URL", NULL, &result)) {
        skip();
    }
    assert_false(result.may_lead);
    assert_true(failed(&result, HADB_PROBE_RACE));
    assert_true(failed(&result, HADB_PROBE_EXISTS));
    assert_true(failed(&result, HADB_PROBE_STALE_TAG));
    assert_true(failed(&result, HADB_PROBE_ABSENT_TAG));
}

static void probe__finds_a_service_that_looks_first_and_acts_later(void **state)
{
    (void)state;
    struct hadb_probe_result result = {0};
    if (!probe("HADB_TEST_RACES_STORAGE_URL", NULL, &result)) {
        skip();
    }
    assert_false(result.may_lead);
    assert_true(failed(&result, HADB_PROBE_RACE));
    assert_true(failed(&result, HADB_PROBE_REPLACE_RACE));
    assert_false(failed(&result, HADB_PROBE_EXISTS)); /* one after the other it looks right */
    assert_false(failed(&result, HADB_PROBE_STALE_TAG));
    assert_false(failed(&result, HADB_PROBE_ABSENT_TAG));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(probe__of_an_honest_service_passes_at_full_measure),
        cmocka_unit_test(probe__finds_a_service_that_ignores_conditions),
        cmocka_unit_test(probe__finds_a_service_that_looks_first_and_acts_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
