/* SPDX-License-Identifier: Apache-2.0 */
/* Clock, random source, log, deadlines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "base/env.h"

/* An environment whose clock stands where told and whose log and trace are kept. */
struct fake {
    uint64_t ms;
    unsigned lines, traces;
    enum hadb_log_level level;
    char text[2048], component[32], database[32];
};

static uint64_t fake_ms(void *arg)
{
    return ((struct fake *)arg)->ms;
}

static void fake_random(void *arg, void *out, size_t len)
{
    (void)arg;
    memset(out, 0xab, len);
}

static void fake_log(void *arg, enum hadb_log_level level, const char *component,
                     const char *database, const char *text)
{
    struct fake *f = arg;
    f->lines++;
    f->level = level;
    strncpy(f->component, component, sizeof f->component - 1);
    strncpy(f->database, database ? database : "-", sizeof f->database - 1);
    strncpy(f->text, text, sizeof f->text - 1);
}

static void fake_trace(void *arg, const struct hadb_trace_event *event)
{
    struct fake *f = arg;
    f->traces += event->hop;
}

static struct hadb_env fake_env(struct fake *f)
{
    return (struct hadb_env){.now_ms = fake_ms,
                             .random = fake_random,
                             .log = fake_log,
                             .trace = fake_trace,
                             .arg = f,
                             .log_level = HADB_LOG_INFO};
}

static void env__null_and_zero_members_mean_the_host(void **state)
{
    (void)state;
    struct hadb_env zero = {0};
    assert_ptr_equal(hadb_env_or_host(NULL), hadb_env_host());
    assert_ptr_equal(hadb_env_or_host(&zero), &zero);
    uint64_t before = hadb_now_ms(NULL);
    uint64_t zero_env = hadb_now_ms(&zero);
    uint64_t after = hadb_now_ms(hadb_env_host());
    assert_true(before <= zero_env && zero_env <= after);
    assert_true(hadb_now_unix_ms(&zero) > 1600000000000);
    uint8_t bytes[64] = {0}, none[64] = {0};
    hadb_random(&zero, bytes, sizeof bytes);
    assert_memory_not_equal(bytes, none, sizeof bytes);
}

static void env__nanoseconds_and_milliseconds_are_the_same_clock(void **state)
{
    (void)state;
    uint64_t before = hadb_now_ms(NULL);
    uint64_t ns = hadb_now_ns(NULL);
    uint64_t after = hadb_now_ms(NULL);
    assert_true(before <= ns / 1000000 && ns / 1000000 <= after);
}

static void env__members_that_are_given_are_used(void **state)
{
    (void)state;
    struct fake f = {.ms = 77};
    struct hadb_env env = fake_env(&f);
    assert_int_equal(hadb_now_ms(&env), 77);
    uint8_t byte = 0;
    hadb_random(&env, &byte, 1);
    assert_int_equal(byte, 0xab);
    hadb_trace(&env, &(struct hadb_trace_event){.hop = 6, .what = "create"});
    assert_int_equal(f.traces, 6);
    hadb_trace(NULL, &(struct hadb_trace_event){.hop = 6, .what = "create"});
}

static void log__lines_above_the_level_are_not_made(void **state)
{
    (void)state;
    struct fake f = {0};
    struct hadb_env env = fake_env(&f);
    hadb_log(&env, HADB_LOG_DEBUG, "node", NULL, "x");
    assert_int_equal(f.lines, 0);
    hadb_log(&env, HADB_LOG_INFO, "node", "db1", "role %s", "leader");
    assert_int_equal(f.lines, 1);
    assert_int_equal(f.level, HADB_LOG_INFO);
    assert_string_equal(f.component, "node");
    assert_string_equal(f.database, "db1");
    assert_string_equal(f.text, "role leader");
}

static void log__a_foreign_line_feed_makes_no_second_line(void **state)
{
    (void)state;
    struct fake f = {0};
    struct hadb_env env = fake_env(&f);
    hadb_log(&env, HADB_LOG_ERROR, "node", NULL, "a\nerror forged");
    assert_string_equal(f.text, "a error forged");
}

static void log__the_host_writes_one_line_with_time_level_and_component(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    int saved = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    hadb_log(NULL, HADB_LOG_WARN, "storage", "db1", "slow: %d ms", 12);
    hadb_log(NULL, HADB_LOG_INFO, "storage", "db1", "not at the host's level");
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[1]);
    char line[300] = {0};
    ssize_t len = read(ends[0], line, sizeof line - 1);
    assert_true(len > 24);
    assert_int_equal(read(ends[0], line + len, 1), 0);
    close(ends[0]);
    /* 2026-01-02T03:04:05.678Z warn  storage/db1: slow: 12 ms */
    assert_int_equal(line[10], 'T');
    assert_int_equal(line[19], '.');
    assert_int_equal(line[23], 'Z');
    assert_string_equal(line + 24, " warn  storage/db1: slow: 12 ms\n");
}

static void call__left_counts_down_to_zero_and_not_below(void **state)
{
    (void)state;
    struct fake f = {.ms = 1000};
    struct hadb_env env = fake_env(&f);
    struct hadb_call call = hadb_call_within(&env, 50);
    assert_int_equal(hadb_call_left_ms(&env, &call), 50);
    f.ms = 1049;
    assert_int_equal(hadb_call_left_ms(&env, &call), 1);
    f.ms = 2000;
    assert_int_equal(hadb_call_left_ms(&env, &call), 0);
}

static void call__without_deadline_has_all_the_time(void **state)
{
    (void)state;
    struct hadb_call call = {0};
    assert_true(hadb_call_left_ms(NULL, NULL) == UINT64_MAX);
    assert_true(hadb_call_left_ms(NULL, &call) == UINT64_MAX);
    assert_int_equal(hadb_call_check(NULL, NULL, NULL), 0);
}

/* 0 would mean "none": a deadline at the zero of a virtual clock must stay one. */
static void call__within_never_makes_a_call_without_deadline(void **state)
{
    (void)state;
    struct fake f = {0};
    struct hadb_env env = fake_env(&f);
    assert_true(hadb_call_within(&env, 0).deadline_ms != 0);
    f.ms = 10;
    assert_true(hadb_call_within(&env, UINT64_MAX).deadline_ms == UINT64_MAX);
}

static void call__check_tells_cancelled_from_too_late(void **state)
{
    (void)state;
    struct fake f = {.ms = 5};
    struct hadb_env env = fake_env(&f);
    struct hadb_cancel cancel = {0};
    struct hadb_call call = hadb_call_within(&env, 10);
    call.cancel = &cancel;
    struct hadb_error err = {0};
    assert_int_equal(hadb_call_check(&env, &call, &err), 0);
    f.ms = 15;
    assert_int_equal(hadb_call_check(&env, &call, &err), HADB_ETIMEDOUT);
    assert_int_equal(err.code, HADB_ETIMEDOUT);
    cancel.flag = 1;
    assert_true(hadb_call_cancelled(&call));
    assert_int_equal(hadb_call_check(&env, &call, &err), HADB_ECANCELED);
    assert_int_equal(err.code, HADB_ECANCELED);
}

static void sleep__returns_at_once_when_cancelled(void **state)
{
    (void)state;
    struct hadb_cancel cancel = {.flag = 1};
    struct hadb_call call = {.cancel = &cancel};
    /* An hour: the test's own time-out would end it. */
    hadb_sleep_ms(3600000, &call);
}

static void sleep__lasts_at_least_as_long_as_told(void **state)
{
    (void)state;
    struct hadb_cancel cancel = {0};
    struct hadb_call call = {.cancel = &cancel};
    uint64_t start = hadb_now_ns(NULL);
    hadb_sleep_ms(3, NULL);
    uint64_t middle = hadb_now_ns(NULL);
    hadb_sleep_ms(3, &call);
    /* The second one is measured on a clock of whole milliseconds. */
    assert_true(middle - start >= 3000000);
    assert_true(hadb_now_ns(NULL) - middle >= 2000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(env__null_and_zero_members_mean_the_host),
        cmocka_unit_test(env__nanoseconds_and_milliseconds_are_the_same_clock),
        cmocka_unit_test(env__members_that_are_given_are_used),
        cmocka_unit_test(log__lines_above_the_level_are_not_made),
        cmocka_unit_test(log__a_foreign_line_feed_makes_no_second_line),
        cmocka_unit_test(log__the_host_writes_one_line_with_time_level_and_component),
        cmocka_unit_test(call__left_counts_down_to_zero_and_not_below),
        cmocka_unit_test(call__without_deadline_has_all_the_time),
        cmocka_unit_test(call__within_never_makes_a_call_without_deadline),
        cmocka_unit_test(call__check_tells_cancelled_from_too_late),
        cmocka_unit_test(sleep__returns_at_once_when_cancelled),
        cmocka_unit_test(sleep__lasts_at_least_as_long_as_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
