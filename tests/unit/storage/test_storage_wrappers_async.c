/* SPDX-License-Identifier: Apache-2.0 */
/* What only the asynchronous form of the wrappers has: a descriptor, refusals by submit, ends without an answer. */
#include "tests/unit/storage/wrappers_world.h"

#include <poll.h>

static bool readable(struct fixture *f, int ms)
{
    struct pollfd fd = {.fd = hadb_storage_fd(&f->s), .events = POLLIN};
    assert_true(fd.fd >= 0);
    return poll(&fd, 1, ms) == 1;
}

/* All wrappers in the usual order, on the host's clock. */
static void add_all(struct fixture *f, uint32_t running_max, struct hadb_storage_counters *counters)
{
    struct hadb_limit_options limit = {.running_max = running_max, .waiting_max = 8};
    struct hadb_breaker_options breaker = {.failures_max = 2, .open_ms = 1};
    struct hadb_retry_options retry = {.tries_max = 3, .wait_ms_min = 1, .wait_ms_max = 1};
    assert_int_equal(hadb_storage_with_trace(&f->s, counters, NULL, &f->s, &f->err), 0);
    assert_int_equal(hadb_storage_with_breaker(&f->s, &breaker, NULL, &f->s, &f->err), 0);
    assert_int_equal(hadb_storage_with_limit(&f->s, &limit, NULL, &f->s, &f->err), 0);
    assert_int_equal(hadb_storage_with_retry(&f->s, &retry, NULL, &f->s, &f->err), 0);
    assert_int_equal(hadb_storage_with_prefix(&f->s, "p", NULL, &f->s, &f->err), 0);
    f->real_clock = true;
}

static void submit__asks_for_the_blocking_method_and_leaves_no_trace(void **state)
{
    struct fixture *f = *state;
    struct hadb_storage_counters live = {0};
    add_all(f, 1, &live);
    static const int refusals[] = {HADB_EBUSY, HADB_ENOTSUP};
    for (unsigned i = 0; i < 6; i++) { /* more than there is room, and than the breaker bears */
        f->script.refuse = refusals[i % 2];
        assert_int_equal(ask(f, HADB_STORAGE_OP_CREATE, NULL), refusals[i % 2]);
    }
    assert_int_equal(hadb_storage_counters_total(&live), 0);
    f->async = false; /* the way that was asked for */
    assert_int_equal(ask(f, HADB_STORAGE_OP_CREATE, NULL), 0);
    assert_int_equal(hadb_storage_counters_total(&live), 1);
}

static void submit__gives_the_breakers_probe_back_when_it_must_go_elsewhere(void **state)
{
    struct fixture *f = *state;
    struct hadb_breaker_options options = {.failures_max = 1, .open_ms = 100};
    assert_int_equal(hadb_storage_with_breaker(&f->s, &options, &f->env, &f->s, &f->err), 0);
    script_add(&f->script, HADB_EIO, 1);
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), HADB_EIO);
    assert_int_equal(hadb_storage_breaker_state(&f->s), HADB_BREAKER_OPEN);
    f->now_ms += 100;
    f->script.refuse = HADB_EBUSY;
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), HADB_EBUSY);
    assert_int_equal(hadb_storage_breaker_state(&f->s), HADB_BREAKER_OPEN);
    f->script.refuse = 0;
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), 0); /* it may probe at once */
    assert_int_equal(hadb_storage_breaker_state(&f->s), HADB_BREAKER_CLOSED);
}

static void submit__needs_an_asynchronous_path_inside(void **state)
{
    struct fixture *f = *state;
    struct hadb_storage s;
    struct hadb_object_meta meta;
    struct hadb_storage_io io = {.type = HADB_IO_HEAD,
                                 .key = "k",
                                 .meta = &meta,
                                 .done = (void (*)(struct hadb_storage_io *))abort};
    assert_int_equal(hadb_storage_open("mem:", NULL, &s, &f->err), 0);
    assert_int_equal(hadb_storage_with_limit(&s, NULL, NULL, &s, &f->err), 0);
    assert_int_equal(hadb_storage_with_retry(&s, NULL, NULL, &s, &f->err), 0);
    assert_int_equal(hadb_storage_fd(&s), -1);
    assert_int_equal(hadb_storage_submit(&s, &io, &f->err), HADB_ENOTSUP);
    assert_int_equal(hadb_storage_drive(&s), 0);
    hadb_storage_close(&s);
}

static void submit__fails_cleanly_when_memory_runs_out(void **state)
{
    struct fixture *f = *state;
    struct asker a;
    add_all(f, 4, NULL);
    for (unsigned n = 1; n < 100; n++) {
        test_alloc_fail_at(n);
        start(&a, f, "k", NULL);
        test_alloc_reset();
        if (a.waits) {
            end(&a);
            assert_int_equal(a.result, 0);
            assert_true(n > 5); /* one frame for each wrapper, at least */
            return;
        }
        assert_int_equal(a.result, HADB_ENOMEM);
        assert_int_equal(script_calls(&f->script), 0);
    }
    fail();
}

static void descriptor__is_readable_when_a_pause_is_over(void **state)
{
    struct fixture *f = *state;
    struct asker a;
    struct hadb_retry_options retry = {.tries_max = 4, .wait_ms_min = 50, .wait_ms_max = 50};
    assert_int_equal(hadb_storage_with_retry(&f->s, &retry, NULL, &f->s, &f->err), 0);
    script_add(&f->script, HADB_EIO, 3);
    assert_false(readable(f, 0));
    start(&a, f, "k", NULL);
    unsigned turns = 0;
    for (; a.waits; turns++) {
        assert_true(readable(f, 10000));
        f->driving = true;
        hadb_storage_drive(&f->s);
        f->driving = false;
    }
    assert_int_equal(a.result, 0);
    assert_int_equal(script_calls(&f->script), 4);
    assert_in_range(turns, 4, 12); /* it does not spin */
    assert_false(readable(f, 0));
}

static void descriptor__is_readable_when_another_thread_makes_room(void **state)
{
    struct fixture *f = *state;
    struct asker blocking, async;
    struct hadb_limit_options options = {.running_max = 1, .waiting_max = 1};
    assert_int_equal(hadb_storage_with_limit(&f->s, &options, NULL, &f->s, &f->err), 0);
    assert_true(hadb_storage_fd(&f->s) >= 0);
    script_hold(&f->script, true);
    f->async = false;
    start(&blocking, f, "a", NULL);
    script_await(&f->script, 1);
    f->async = true;
    f->real_clock = true;
    start(&async, f, "b", NULL);
    assert_int_equal(hadb_storage_limit_waiting(&f->s), 1);
    script_hold(&f->script, false);
    hadb_thread_join(&blocking.thread);
    assert_true(readable(f, 10000));
    end(&async);
    assert_int_equal(async.result, 0);
    assert_string_equal(f->script.order, "ab");
}

static void pause__ends_when_the_call_is_cancelled(void **state)
{
    struct fixture *f = *state;
    struct asker a;
    struct hadb_cancel flag = {0};
    struct hadb_call call = {.cancel = &flag};
    struct hadb_retry_options retry = {.wait_ms_min = 3600000, .wait_ms_max = 3600000};
    assert_int_equal(hadb_storage_with_retry(&f->s, &retry, NULL, &f->s, &f->err), 0);
    f->real_clock = true;
    script_add(&f->script, HADB_EIO, 2);
    start(&a, f, "k", &call);
    while (script_calls(&f->script) < 1 || f->script.inside > 0) {
        turn(f);
    }
    assert_true(a.waits); /* but for one in 3.6 million */
    __atomic_store_n(&flag.flag, 1, __ATOMIC_RELEASE);
    end(&a);
    assert_true(a.result < 0);
    assert_in_range(script_calls(&f->script), 1, 2);
}

static void close__ends_what_runs_what_pauses_and_what_waits(void **state)
{
    struct fixture *f = *state;
    struct asker askers[4];
    struct hadb_limit_options limit = {.running_max = 1, .waiting_max = 8};
    struct hadb_retry_options retry = {.wait_ms_min = 3600000, .wait_ms_max = 3600000};
    assert_int_equal(hadb_storage_with_limit(&f->s, &limit, NULL, &f->s, &f->err), 0);
    assert_int_equal(hadb_storage_with_retry(&f->s, &retry, NULL, &f->s, &f->err), 0);
    f->real_clock = true;
    script_add(&f->script, HADB_EIO, 1);
    start(&askers[0], f, "a", NULL); /* fails, and pauses */
    while (f->script.inside > 0 || script_calls(&f->script) < 1) {
        turn(f);
    }
    script_hold(&f->script, true);
    for (size_t i = 1; i < HADB_LEN(askers); i++) { /* one runs, two wait */
        start(&askers[i], f, "b", NULL);
    }
    assert_int_equal(f->script.inside, 1);
    f->driving = true;
    hadb_storage_close(&f->s);
    for (size_t i = 0; i < HADB_LEN(askers); i++) {
        assert_false(askers[i].waits);
        assert_int_equal(askers[i].result, HADB_ECANCELED);
    }
    assert_int_equal(script_calls(&f->script), 2);
}

/* ---- done submits again ---- */

struct chain {
    struct hadb_storage_io io;
    struct fixture *f;
    unsigned left;
    struct hadb_object_meta meta;
};

static void next_link(struct hadb_storage_io *io)
{
    struct chain *c = io->arg;
    assert_int_equal(io->result, 0);
    if (--c->left > 0) {
        assert_int_equal(hadb_storage_submit(&c->f->s, &c->io, &c->f->err), 0);
    }
}

static void done__may_submit_again(void **state)
{
    struct fixture *f = *state;
    struct chain chains[3];
    add_all(f, 2, NULL);
    for (size_t i = 0; i < HADB_LEN(chains); i++) {
        chains[i] = (struct chain){.f = f, .left = 10};
        chains[i].io = (struct hadb_storage_io){.type = HADB_IO_HEAD,
                                                .key = "k",
                                                .meta = &chains[i].meta,
                                                .done = next_link,
                                                .arg = &chains[i]};
        assert_int_equal(hadb_storage_submit(&f->s, &chains[i].io, &f->err), 0);
    }
    while (chains[0].left + chains[1].left + chains[2].left > 0) {
        turn(f);
    }
    assert_int_equal(script_calls(&f->script), 30);
    assert_int_equal(f->script.inside_max, 2);
    assert_int_equal(hadb_storage_drive(&f->s), 0);
}

#define alone(test) cmocka_unit_test_setup_teardown(test, setup_async, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        alone(submit__asks_for_the_blocking_method_and_leaves_no_trace),
        alone(submit__gives_the_breakers_probe_back_when_it_must_go_elsewhere),
        alone(submit__needs_an_asynchronous_path_inside),
        alone(submit__fails_cleanly_when_memory_runs_out),
        alone(descriptor__is_readable_when_a_pause_is_over),
        alone(descriptor__is_readable_when_another_thread_makes_room),
        alone(pause__ends_when_the_call_is_cancelled),
        alone(close__ends_what_runs_what_pauses_and_what_waits),
        alone(done__may_submit_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
