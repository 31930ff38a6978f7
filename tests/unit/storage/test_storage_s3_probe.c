/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conformance probe over S3: an honest server passes at full measure, those that ignore conditions or look
 * first and act later do not. Over MinIO (no control address in the environment) only the first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/probe.h"
#include "tests/support/support.h"
#include "tests/unit/storage/s3_control.h"

static void run_probe(const struct hadb_probe_options *options, struct hadb_probe_result *result)
{
    static unsigned serial;
    struct hadb_storage s = {0};
    struct hadb_error err = {0};
    char prefix[32];
    assert_int_equal(hadb_storage_open(getenv("HADB_TEST_S3_URL"), NULL, &s, &err), 0);
    snprintf(prefix, sizeof(prefix), "probe/%x-%u", (unsigned)getpid(), ++serial);
    int r = hadb_probe_run(&s, prefix, options, NULL, result, &err);
    hadb_storage_close(&s);
    if (r) {
        fail_msg("no verdict: %s", err.message);
    }
}

static void probe__of_an_honest_server_passes_at_full_measure(void **state)
{
    (void)state;
    struct hadb_probe_options full = HADB_PROBE_OPTIONS_FULL;
    struct hadb_probe_result result = {0};
    run_probe(&full, &result);
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

static void probe__finds_a_server_that_ignores_conditions(void **state)
{
    (void)state;
    struct hadb_probe_result result = {0};
    s3_tell("{\"set\": {\"ignore_conditions\": true}}");
    run_probe(NULL, &result);
    s3_tell("{\"reset\": true}");
    assert_false(result.may_lead);
    assert_true(failed(&result, HADB_PROBE_RACE));
    assert_true(failed(&result, HADB_PROBE_EXISTS));
    assert_true(failed(&result, HADB_PROBE_STALE_TAG));
    assert_true(failed(&result, HADB_PROBE_ABSENT_TAG));
}

static void probe__finds_a_server_that_looks_first_and_acts_later(void **state)
{
    (void)state;
    struct hadb_probe_result result = {0};
    s3_tell("{\"set\": {\"check_then_act\": true}}");
    run_probe(NULL, &result);
    s3_tell("{\"reset\": true}");
    assert_false(result.may_lead);
    assert_true(failed(&result, HADB_PROBE_RACE));
    assert_true(failed(&result, HADB_PROBE_REPLACE_RACE));
    assert_false(failed(&result, HADB_PROBE_EXISTS)); /* one after the other it looks right */
    assert_false(failed(&result, HADB_PROBE_STALE_TAG));
    assert_false(failed(&result, HADB_PROBE_ABSENT_TAG));
}

int main(void)
{
    static const struct CMUnitTest honest[] = {
        cmocka_unit_test(probe__of_an_honest_server_passes_at_full_measure),
    };
    static const struct CMUnitTest liars[] = {
        cmocka_unit_test(probe__finds_a_server_that_ignores_conditions),
        cmocka_unit_test(probe__finds_a_server_that_looks_first_and_acts_later),
    };
    int failures = cmocka_run_group_tests(honest, NULL, NULL);
    if (getenv("HADB_TEST_S3_CONTROL")) {
        failures += cmocka_run_group_tests(liars, NULL, NULL);
    }
    return failures;
}
