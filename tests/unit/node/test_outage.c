/* SPDX-License-Identifier: Apache-2.0 */
/* What counts as an outage of a store, when it is over, and how much of it goes to the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/error.h"
#include "node/node_private.h"

struct fixture {
    struct hadb_node *node; /* env and outages alone */
    struct hadb_env env;
    uint64_t now_ms;
    char log[4096];
    size_t log_len;
};

static uint64_t now_ms(void *arg)
{
    return ((struct fixture *)arg)->now_ms;
}

static void log_line(void *arg, enum hadb_log_level level, const char *component,
                     const char *database, const char *message)
{
    struct fixture *f = arg;
    (void)database;
    f->log_len += (size_t)snprintf(f->log + f->log_len, sizeof f->log - f->log_len, "%d %s: %s\n",
                                   (int)level, component, message);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->env =
        (struct hadb_env){.now_ms = now_ms, .log = log_line, .arg = f, .log_level = HADB_LOG_INFO};
    f->now_ms = 5000;
    f->node = calloc(1, sizeof *f->node);
    f->node->env = &f->env;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    free(f->node);
    free(f);
    return 0;
}

static void storage(struct fixture *f, bool write, int r, const char *message)
{
    struct hadb_error err = {0};
    if (r < 0) {
        hadb_fail(&err, r, "%s", message);
    }
    hadb__storage_said(f->node, write, r, &err);
}

static bool fails(struct fixture *f)
{
    char text[64];
    return hadb__storage_fails(f->node, text, sizeof text);
}

static void an_outage__lasts_from_a_failure_to_an_answer_of_its_kind(void **state)
{
    struct fixture *f = *state;
    storage(f, true, 0, "");
    assert_false(fails(f));
    storage(f, false, HADB_EUNAVAIL, "nobody is there");
    assert_true(fails(f));
    storage(f, false, HADB_ABSENT, ""); /* an outcome is an answer */
    assert_false(fails(f));
    storage(f, true, HADB_ENOSPC, "it is full");
    storage(f, false, 0, "");
    storage(f, false, HADB_ABSENT, "");
    assert_true(fails(f)); /* a full store reads */
    storage(f, true, HADB_EXISTS, "");
    assert_false(fails(f));
    storage(f, false, HADB_EAUTH, "who are you"); /* the next one is not about writes */
    storage(f, false, 0, "");
    assert_false(fails(f));
}

static void an_outage__is_not_what_this_process_lacks_nor_what_an_object_holds(void **state)
{
    struct fixture *f = *state;
    static const int own[] = {HADB_ENOMEM, HADB_EBUSY, HADB_ECANCELED};
    static const int answers[] = {HADB_ECORRUPT, HADB_EVERSION, HADB_ETOOBIG};
    for (size_t i = 0; i < HADB_LEN(own); i++) {
        storage(f, true, own[i], "own");
        assert_false(fails(f));
        storage(f, true, HADB_EIO, "broken");
        storage(f, true, own[i], "own");
        assert_true(fails(f));
        storage(f, true, answers[i], "an answer");
        assert_false(fails(f));
    }
}

static void an_outage__shows_the_last_failure_and_how_long_it_has_lasted(void **state)
{
    struct fixture *f = *state;
    char text[128];
    storage(f, true, HADB_ETIMEDOUT, "no answer");
    f->now_ms += 3999;
    storage(f, false, HADB_EAUTH, "who are you");
    assert_true(hadb__storage_fails(f->node, text, sizeof text));
    assert_string_equal(text, "storage fails for 3 s: who are you");
    assert_int_equal(f->node->outages.storage.why.code, HADB_EAUTH);
    assert_false(hadb__lease_fails(f->node, text, sizeof text));
    struct hadb_error err;
    hadb_fail(&err, HADB_EIO, "the lease is broken");
    hadb__lease_said(f->node, HADB_EIO, &err);
    assert_true(hadb__lease_fails(f->node, text, sizeof text));
    assert_string_equal(text, "the lease store fails for 0 s: the lease is broken");
    hadb__lease_said(f->node, HADB_CAS_LOST, &err);
    assert_false(hadb__lease_fails(f->node, text, sizeof text));
}

static void the_log__has_one_line_for_each_kind_of_failure_and_one_for_the_end(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 3; i++) {
        storage(f, true, HADB_ETIMEDOUT, "no answer");
        storage(f, true, HADB_EUNAVAIL, "nobody is there");
        storage(f, false, 0, "");
    }
    f->now_ms += 250;
    storage(f, true, 0, "");
    storage(f, true, 0, "");
    storage(f, true, HADB_EUNAVAIL, "nobody is there"); /* another one */
    char want[512];
    snprintf(want, sizeof want,
             "%d storage: no answer (ETIMEDOUT): trying again\n"
             "%d storage: nobody is there (EUNAVAIL): trying again\n"
             "%d storage: works again after 250 ms\n"
             "%d storage: nobody is there (EUNAVAIL): trying again\n",
             HADB_LOG_WARN, HADB_LOG_WARN, HADB_LOG_INFO, HADB_LOG_WARN);
    assert_string_equal(f->log, want);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(an_outage__lasts_from_a_failure_to_an_answer_of_its_kind),
        T(an_outage__is_not_what_this_process_lacks_nor_what_an_object_holds),
        T(an_outage__shows_the_last_failure_and_how_long_it_has_lasted),
        T(the_log__has_one_line_for_each_kind_of_failure_and_one_for_the_end),
    };
    return cmocka_run_group_tests_name("outage", tests, NULL, NULL);
}
