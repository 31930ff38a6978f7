/* SPDX-License-Identifier: Apache-2.0 */
/* The linearizability checker: histories that are known to be good or bad, and random ones that are good
 * by construction. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/util.h"
#include "sim/linear.h"

#define STEPS 1000000u

static struct lin_op read_op(uint64_t call, uint64_t ret, uint64_t value)
{
    return (struct lin_op){.kind = LIN_READ, .call = call, .ret = ret, .value = value};
}

static struct lin_op write_op(uint64_t call, uint64_t ret, uint64_t value)
{
    return (struct lin_op){.kind = LIN_WRITE, .call = call, .ret = ret, .value = value};
}

static struct lin_op swap_op(uint64_t call, uint64_t ret, uint64_t expect, uint64_t value, bool met)
{
    return (struct lin_op){
        .kind = LIN_SWAP, .call = call, .ret = ret, .expect = expect, .value = value, .met = met};
}

static void linear__accepts_an_empty_history(void **state)
{
    (void)state;
    assert_int_equal(lin_check(NULL, 0, STEPS), LIN_OK);
}

static void linear__accepts_a_sequential_history(void **state)
{
    (void)state;
    struct lin_op ops[] = {read_op(1, 2, 0), write_op(3, 4, 7), read_op(5, 6, 7), write_op(7, 8, 9),
                           read_op(9, 10, 9)};
    assert_int_equal(lin_check(ops, HADB_LEN(ops), STEPS), LIN_OK);
}

static void linear__rejects_a_read_that_misses_an_earlier_write(void **state)
{
    (void)state;
    struct lin_op ops[] = {write_op(1, 2, 7), read_op(3, 4, 0)};
    assert_int_equal(lin_check(ops, HADB_LEN(ops), STEPS), LIN_VIOLATED);
}

static void linear__rejects_a_value_that_was_never_written(void **state)
{
    (void)state;
    struct lin_op ops[] = {write_op(1, 2, 7), read_op(1, 4, 8)};
    assert_int_equal(lin_check(ops, HADB_LEN(ops), STEPS), LIN_VIOLATED);
}

/* Two reads during one write may see old then new, never new then old. */
static void linear__rejects_reads_that_go_backwards(void **state)
{
    (void)state;
    struct lin_op good[] = {write_op(1, 10, 7), read_op(2, 3, 0), read_op(4, 5, 7)};
    struct lin_op bad[] = {write_op(1, 10, 7), read_op(2, 3, 7), read_op(4, 5, 0)};
    assert_int_equal(lin_check(good, HADB_LEN(good), STEPS), LIN_OK);
    assert_int_equal(lin_check(bad, HADB_LEN(bad), STEPS), LIN_VIOLATED);
}

static void linear__lets_an_unanswered_write_take_effect_late_or_never(void **state)
{
    (void)state;
    struct lin_op late[] = {write_op(1, LIN_UNKNOWN, 7), read_op(2, 3, 0), read_op(4, 5, 7)};
    struct lin_op never[] = {write_op(1, LIN_UNKNOWN, 7), read_op(2, 3, 0), read_op(4, 5, 0)};
    struct lin_op early[] = {read_op(1, 2, 7), write_op(3, LIN_UNKNOWN, 7)};
    struct lin_op twice[] = {write_op(1, LIN_UNKNOWN, 7), read_op(2, 3, 7), write_op(4, 5, 8),
                             read_op(6, 7, 7)};
    assert_int_equal(lin_check(late, HADB_LEN(late), STEPS), LIN_OK);
    assert_int_equal(lin_check(never, HADB_LEN(never), STEPS), LIN_OK);
    assert_int_equal(lin_check(early, HADB_LEN(early), STEPS), LIN_VIOLATED);
    assert_int_equal(lin_check(twice, HADB_LEN(twice), STEPS), LIN_VIOLATED);
}

static void linear__checks_both_outcomes_of_a_swap(void **state)
{
    (void)state;
    struct lin_op good[] = {swap_op(1, 2, 0, 5, true), swap_op(3, 4, 0, 6, false),
                            read_op(5, 6, 5)};
    struct lin_op both_won[] = {swap_op(1, 4, 0, 5, true), swap_op(2, 3, 0, 6, true)};
    struct lin_op lost_alone[] = {swap_op(1, 2, 0, 5, false), read_op(3, 4, 0)};
    assert_int_equal(lin_check(good, HADB_LEN(good), STEPS), LIN_OK);
    assert_int_equal(lin_check(both_won, HADB_LEN(both_won), STEPS), LIN_VIOLATED);
    assert_int_equal(lin_check(lost_alone, HADB_LEN(lost_alone), STEPS), LIN_VIOLATED);
}

static void linear__lets_an_unanswered_swap_succeed_or_fail(void **state)
{
    (void)state;
    struct lin_op won[] = {swap_op(1, LIN_UNKNOWN, 0, 5, false), read_op(2, 3, 5)};
    struct lin_op lost[] = {write_op(1, 2, 9), swap_op(3, LIN_UNKNOWN, 0, 5, false),
                            read_op(4, 5, 9)};
    struct lin_op impossible[] = {write_op(1, 2, 9), swap_op(3, LIN_UNKNOWN, 0, 5, false),
                                  read_op(4, 5, 5)};
    assert_int_equal(lin_check(won, HADB_LEN(won), STEPS), LIN_OK);
    assert_int_equal(lin_check(lost, HADB_LEN(lost), STEPS), LIN_OK);
    assert_int_equal(lin_check(impossible, HADB_LEN(impossible), STEPS), LIN_VIOLATED);
}

/* An operation's answer may come at the same moment as another's call: then both orders are fine. */
static void linear__treats_equal_times_as_concurrent(void **state)
{
    (void)state;
    struct lin_op ops[] = {write_op(1, 2, 7), read_op(2, 3, 0)};
    assert_int_equal(lin_check(ops, HADB_LEN(ops), STEPS), LIN_OK);
}

static uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* Operations that take effect at known moments are good; one stale read among them is bad. */
static void linear__tells_random_good_histories_from_spoilt_ones(void **state)
{
    (void)state;
    uint64_t x = 88172645463325252ull;
    for (int round = 0; round < 200; round++) {
        struct lin_op ops[128];
        uint64_t value = 0;
        size_t len = 20 + next_random(&x) % 100;
        for (size_t i = 0; i < len; i++) {
            uint64_t at = 1000 + i * 10;
            uint64_t call = at - next_random(&x) % 40;
            uint64_t ret = at + 1 + next_random(&x) % 40;
            switch (next_random(&x) % 3) {
            case 0:
                ops[i] = read_op(call, ret, value);
                break;
            case 1:
                value = 100 + i;
                ops[i] = write_op(call, next_random(&x) % 8 ? ret : LIN_UNKNOWN, value);
                break;
            default: {
                bool met = next_random(&x) % 2;
                ops[i] = swap_op(call, ret, met ? value : 77777, 100 + i, met);
                value = met ? 100 + i : value;
                break;
            }
            }
        }
        assert_int_equal(lin_check(ops, len, STEPS), LIN_OK);
        ops[len++] = write_op(5000, 5001, 999999);
        ops[len++] = read_op(5002, 5003, 55);
        assert_int_equal(lin_check(ops, len, STEPS), LIN_VIOLATED);
    }
}

static void linear__says_so_when_it_gives_up(void **state)
{
    (void)state;
    struct lin_op ops[] = {write_op(1, 10, 7), write_op(1, 10, 8), read_op(11, 12, 7)};
    assert_int_equal(lin_check(ops, HADB_LEN(ops), 1), LIN_INCONCLUSIVE);
    static struct lin_op many[LIN_OPS_MAX + 1];
    assert_int_equal(lin_check(many, HADB_LEN(many), STEPS), LIN_INCONCLUSIVE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear__accepts_an_empty_history),
        cmocka_unit_test(linear__accepts_a_sequential_history),
        cmocka_unit_test(linear__rejects_a_read_that_misses_an_earlier_write),
        cmocka_unit_test(linear__rejects_a_value_that_was_never_written),
        cmocka_unit_test(linear__rejects_reads_that_go_backwards),
        cmocka_unit_test(linear__lets_an_unanswered_write_take_effect_late_or_never),
        cmocka_unit_test(linear__checks_both_outcomes_of_a_swap),
        cmocka_unit_test(linear__lets_an_unanswered_swap_succeed_or_fail),
        cmocka_unit_test(linear__treats_equal_times_as_concurrent),
        cmocka_unit_test(linear__tells_random_good_histories_from_spoilt_ones),
        cmocka_unit_test(linear__says_so_when_it_gives_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
