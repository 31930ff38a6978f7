/* SPDX-License-Identifier: Apache-2.0 */
/* Durations and their percentiles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/samples.h"

static void percentile__of_nothing_is_zero(void **state)
{
    (void)state;
    struct hadb_samples s = {0};
    assert_int_equal(hadb_samples_percentile(&s, 50), 0);
    hadb_samples_deinit(&s);
}

static void percentile__of_one_is_that_one(void **state)
{
    (void)state;
    struct hadb_samples s = {0};
    assert_int_equal(hadb_samples_add(&s, 7), 0);
    assert_int_equal(hadb_samples_percentile(&s, 1), 7);
    assert_int_equal(hadb_samples_percentile(&s, 50), 7);
    assert_int_equal(hadb_samples_percentile(&s, 100), 7);
    hadb_samples_deinit(&s);
}

/* 1..200 in another order: the p-th of a hundred is 2p, by the nearest rank. */
static void percentile__is_the_nearest_rank_in_any_order(void **state)
{
    (void)state;
    struct hadb_samples s = {0};
    for (uint64_t i = 0; i < 200; i++) {
        assert_int_equal(hadb_samples_add(&s, i * 77 % 200 + 1), 0);
    }
    for (unsigned p = 1; p <= 100; p++) {
        assert_int_equal(hadb_samples_percentile(&s, p), 2 * p);
    }
    assert_int_equal(hadb_samples_add(&s, 1000), 0); /* sorted by now: goes on working */
    assert_int_equal(hadb_samples_percentile(&s, 100), 1000);
    hadb_samples_deinit(&s);
}

static void percentile__of_few_is_never_invented(void **state)
{
    (void)state;
    struct hadb_samples s = {0};
    for (uint64_t i = 1; i <= 4; i++) {
        assert_int_equal(hadb_samples_add(&s, i * 10), 0);
    }
    assert_int_equal(hadb_samples_percentile(&s, 25), 10);
    assert_int_equal(hadb_samples_percentile(&s, 26), 20);
    assert_int_equal(hadb_samples_percentile(&s, 50), 20);
    assert_int_equal(hadb_samples_percentile(&s, 51), 30);
    assert_int_equal(hadb_samples_percentile(&s, 99), 40);
    hadb_samples_deinit(&s);
}

static void samples__are_cut_to_what_fits(void **state)
{
    (void)state;
    struct hadb_samples s = {0};
    assert_int_equal(hadb_samples_add(&s, UINT64_MAX), 0);
    assert_true(hadb_samples_percentile(&s, 50) == UINT32_MAX);
    for (unsigned i = 0; i < HADB_SAMPLES_LEN_MAX + 10; i++) {
        assert_int_equal(hadb_samples_add(&s, 1), 0);
    }
    assert_int_equal(s.len, HADB_SAMPLES_LEN_MAX);
    hadb_samples_deinit(&s);
    assert_int_equal(s.len, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentile__of_nothing_is_zero),
        cmocka_unit_test(percentile__of_one_is_that_one),
        cmocka_unit_test(percentile__is_the_nearest_rank_in_any_order),
        cmocka_unit_test(percentile__of_few_is_never_invented),
        cmocka_unit_test(samples__are_cut_to_what_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
