/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: codes, messages, context. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/error.h"

static void error__fail_sets_code_text_and_default_retryable(void **state)
{
    (void)state;
    struct hadb_error err = {.http_status = 503, .sys_errno = 7};
    assert_int_equal(hadb_fail(&err, HADB_EBUSY, "slot %d", 9), HADB_EBUSY);
    assert_int_equal(err.code, HADB_EBUSY);
    assert_true(err.retryable);
    assert_string_equal(err.message, "slot 9");
    /* Nothing of an older error shines through. */
    assert_int_equal(err.http_status, 0);
    assert_int_equal(err.sys_errno, 0);
}

static void error__fail_takes_retryable_from_the_table(void **state)
{
    (void)state;
    struct hadb_error err = {.retryable = true};
    hadb_fail(&err, HADB_ECORRUPT, "bad");
    assert_false(err.retryable);
}

static void error__every_function_accepts_a_null_err(void **state)
{
    (void)state;
    assert_int_equal(hadb_fail(NULL, HADB_EIO, "x"), HADB_EIO);
    assert_int_equal(hadb_fail_errno(NULL, ENOSPC, "x"), HADB_ENOSPC);
    assert_int_equal(hadb_wrap(NULL, HADB_EIO, "x"), HADB_EIO);
    assert_int_equal(hadb_fail_nomem(NULL), HADB_ENOMEM);
}

static void error__wrap_keeps_the_code_and_puts_context_before_the_text(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    hadb_fail(&err, HADB_EIO, "write 5 bytes");
    err.http_status = 500;
    assert_int_equal(hadb_wrap(&err, HADB_EIO, "ship tx %d", 12), HADB_EIO);
    assert_string_equal(err.message, "ship tx 12: write 5 bytes");
    assert_int_equal(err.http_status, 500);
}

static void error__wrap_passes_outcomes_untouched(void **state)
{
    (void)state;
    struct hadb_error err = {.message = "old"};
    assert_int_equal(hadb_wrap(&err, HADB_ABSENT, "x"), HADB_ABSENT);
    assert_int_equal(hadb_wrap(&err, 0, "x"), 0);
    assert_string_equal(err.message, "old");
}

static void error__wrap_gives_a_text_to_a_bare_code(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    hadb_wrap(&err, HADB_ENOMEM, "open");
    assert_int_equal(err.code, HADB_ENOMEM);
    assert_string_equal(err.message, "open: out of memory");
}

static void error__wrap_may_quote_the_message_it_wraps(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    hadb_fail(&err, HADB_EIO, "inner");
    hadb_fail(&err, HADB_EIO, "outer (%s)", err.message);
    assert_string_equal(err.message, "outer (inner)");
}

static void error__long_messages_are_cut_and_terminated(void **state)
{
    (void)state;
    char text[1000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct hadb_error err;
    memset(&err, 0xff, sizeof err);
    hadb_fail(&err, HADB_EIO, "%s", text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    hadb_wrap(&err, HADB_EIO, "%s", text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    hadb_fail_errno(&err, EIO, "%s", text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

/* The end of a message says what happened and what to do. */
static void error__wrap_cuts_the_context_first(void **state)
{
    (void)state;
    char url[301], reason[151];
    struct hadb_error err;
    memset(url, 'u', sizeof url - 1);
    url[sizeof url - 1] = '\0';
    memset(reason, 'r', sizeof reason - 1);
    reason[sizeof reason - 1] = '\0';
    hadb_fail(&err, HADB_EIO, "%s: do this", reason);
    hadb_wrap(&err, HADB_EIO, "storage %s", url);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_non_null(strstr(err.message, "storage uuu"));
    assert_non_null(strstr(err.message, "u...: rrr"));
    assert_non_null(strstr(err.message, "rrr: do this"));
    hadb_fail(&err, HADB_EIO, "%s%s", reason, reason); /* no room at all: some of both */
    hadb_wrap(&err, HADB_EIO, "storage %s", url);
    assert_non_null(strstr(err.message, "storage uuu"));
    assert_non_null(strstr(err.message, "u...: rrr"));
}

static void error__advice_stands_behind_what_happened(void **state)
{
    (void)state;
    struct hadb_error err;
    char text[300];
    hadb_fail(&err, HADB_EAUTH, "no such key in our records. ");
    assert_int_equal(hadb_advise(&err, HADB_EAUTH, "check it"), HADB_EAUTH);
    assert_string_equal(err.message, "no such key in our records: check it");
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    hadb_fail(&err, HADB_EIO, "%s", text);
    hadb_advise(&err, HADB_EIO, "check it");
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_non_null(strstr(err.message, "x...: check it"));
}

static void error__messages_are_one_line(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    hadb_fail(&err, HADB_EIO, "a\nb\r\x1b[1m");
    assert_string_equal(err.message, "a b  [1m");
    hadb_wrap(&err, HADB_EIO, "c\nd");
    assert_string_equal(err.message, "c d: a b  [1m");
}

static void error__errno_chooses_the_code_and_adds_its_text(void **state)
{
    (void)state;
    static const struct {
        int errno_value, code;
    } rows[] = {{ENOSPC, HADB_ENOSPC}, {EDQUOT, HADB_ENOSPC}, {ENOMEM, HADB_ENOMEM},
                {EACCES, HADB_EAUTH},  {EPERM, HADB_EAUTH},   {EISDIR, HADB_EIO}};
    for (size_t i = 0; i < HADB_LEN(rows); i++) {
        struct hadb_error err = {0};
        assert_int_equal(hadb_fail_errno(&err, rows[i].errno_value, "open f"), rows[i].code);
        assert_int_equal(err.sys_errno, rows[i].errno_value);
        assert_int_equal(strncmp(err.message, "open f: ", 8), 0);
        assert_string_equal(err.message + 8, strerror(rows[i].errno_value));
    }
}

static void error__codes_have_names_and_texts(void **state)
{
    (void)state;
    assert_string_equal(hadb_code_name(HADB_EFENCED), "EFENCED");
    assert_string_equal(hadb_code_text(HADB_ENOMEM), "out of memory");
    assert_string_equal(hadb_code_name(-999), "unknown");
    assert_string_equal(hadb_code_text(0), "unknown");
}

static void error__codes_are_distinct_and_negative(void **state)
{
    (void)state;
    static const int all[] = {
#define HADB_X(name, value, text, retry) HADB_##name,
        HADB_CODES(HADB_X)
#undef HADB_X
    };
    for (size_t i = 0; i < HADB_LEN(all); i++) {
        assert_true(all[i] < 0);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(all[i], all[j]);
        }
    }
}

static void wrap__does_not_say_the_same_twice(void **state)
{
    (void)state;
    struct hadb_error err;
    hadb_fail(&err, HADB_EIO, "log/7: gone");
    hadb_wrap(&err, HADB_EIO, "log/%d", 7);
    assert_string_equal(err.message, "log/7: gone");
    hadb_wrap(&err, HADB_EIO, "log");
    assert_string_equal(err.message, "log: log/7: gone");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrap__does_not_say_the_same_twice),
        cmocka_unit_test(error__fail_sets_code_text_and_default_retryable),
        cmocka_unit_test(error__fail_takes_retryable_from_the_table),
        cmocka_unit_test(error__every_function_accepts_a_null_err),
        cmocka_unit_test(error__wrap_keeps_the_code_and_puts_context_before_the_text),
        cmocka_unit_test(error__wrap_passes_outcomes_untouched),
        cmocka_unit_test(error__wrap_gives_a_text_to_a_bare_code),
        cmocka_unit_test(error__wrap_may_quote_the_message_it_wraps),
        cmocka_unit_test(error__long_messages_are_cut_and_terminated),
        cmocka_unit_test(error__wrap_cuts_the_context_first),
        cmocka_unit_test(error__advice_stands_behind_what_happened),
        cmocka_unit_test(error__messages_are_one_line),
        cmocka_unit_test(error__errno_chooses_the_code_and_adds_its_text),
        cmocka_unit_test(error__codes_have_names_and_texts),
        cmocka_unit_test(error__codes_are_distinct_and_negative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
