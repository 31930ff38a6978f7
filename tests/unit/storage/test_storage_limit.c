/* SPDX-License-Identifier: Apache-2.0 */
/* with_limit over a scripted backend, in both forms: who runs, who waits, who leaves. */
#include "tests/unit/storage/wrappers_world.h"

/* --- with_limit --------------------------------------------------------------------------------- */

static void add_limit(struct fixture *f, uint32_t running_max, uint32_t waiting_max)
{
    struct hadb_limit_options options = {.running_max = running_max, .waiting_max = waiting_max};
    assert_int_equal(hadb_storage_with_limit(&f->s, &options, hadb_env_host(), &f->s, &f->err), 0);
    f->real_clock = true;
}

static void limit__runs_so_many_at_a_time_and_all_in_the_end(void **state)
{
    struct fixture *f = *state;
    struct asker askers[20];
    add_limit(f, 3, 100);
    script_hold(&f->script, true);
    for (size_t i = 0; i < HADB_LEN(askers); i++) {
        start(&askers[i], f, "k", NULL);
    }
    await(f, 3);
    script_hold(&f->script, false);
    for (size_t i = 0; i < HADB_LEN(askers); i++) {
        end(&askers[i]);
        assert_int_equal(askers[i].result, 0);
    }
    assert_int_equal(f->script.inside_max, 3);
    assert_int_equal(script_calls(&f->script), 20);
}

static void await_waiting(struct fixture *f, uint32_t waiting)
{
    while (hadb_storage_limit_waiting(&f->s) != waiting) {
        hadb_sleep_ms(1, NULL); /* the meson time-out bounds it; asynchronous ones wait at once */
    }
}

static void limit__is_busy_when_the_queue_is_full(void **state)
{
    struct fixture *f = *state;
    struct asker running, waiting;
    add_limit(f, 1, 1);
    script_hold(&f->script, true);
    start(&running, f, "a", NULL);
    await(f, 1);
    start(&waiting, f, "b", NULL);
    await_waiting(f, 1);
    assert_int_equal(ask(f, HADB_STORAGE_OP_CREATE, NULL), HADB_EBUSY);
    assert_true(f->err.retryable);
    assert_int_equal(script_calls(&f->script), 1);
    script_hold(&f->script, false);
    end(&running);
    end(&waiting);
    assert_int_equal(waiting.result, 0);
    assert_int_equal(ask(f, HADB_STORAGE_OP_CREATE, NULL), 0);
}

static void limit__starts_in_order_of_arrival(void **state)
{
    struct fixture *f = *state;
    struct asker askers[5];
    static const char *const keys[] = {"a", "b", "c", "d", "e"};
    add_limit(f, 1, 4);
    script_hold(&f->script, true);
    for (size_t i = 0; i < 5; i++) {
        start(&askers[i], f, keys[i], NULL);
        if (i == 0) {
            await(f, 1);
        }
        await_waiting(f, (uint32_t)i);
    }
    script_hold(&f->script, false);
    for (size_t i = 0; i < 5; i++) {
        end(&askers[i]);
    }
    assert_string_equal(f->script.order, "abcde");
}

static void limit__waiters_leave_at_their_deadline_or_cancel(void **state)
{
    struct fixture *f = *state;
    struct asker running, waiting;
    struct hadb_cancel flag = {0};
    struct hadb_call cancellable = {.cancel = &flag};
    add_limit(f, 1, 2);
    script_hold(&f->script, true);
    start(&running, f, "a", NULL);
    await(f, 1);
    struct hadb_call call = hadb_call_within(NULL, 20);
    assert_int_equal(ask(f, HADB_STORAGE_OP_GET, &call), HADB_ETIMEDOUT);
    call = hadb_call_within(NULL, 20);
    assert_int_equal(ask(f, HADB_STORAGE_OP_CREATE, &call), HADB_EUNAVAIL); /* surely not sent */
    start(&waiting, f, "b", &cancellable);
    __atomic_store_n(&flag.flag, 1, __ATOMIC_RELEASE);
    end(&waiting);
    assert_int_equal(waiting.result, HADB_ECANCELED);
    assert_int_equal(script_calls(&f->script), 1);
    script_hold(&f->script, false);
    end(&running);
}

static void add_answers(struct fixture *f, int result, int http_status, size_t len)
{
    for (script_add(&f->script, result, len); len > 0; len--) {
        f->script.answers[f->script.len - len].http_status = http_status;
    }
}

/* Starts @len requests, waits until @inside of them are in the store and the others wait, lets them go. */
static void burst(struct fixture *f, unsigned len, unsigned inside)
{
    struct asker askers[8];
    script_hold(&f->script, true);
    for (size_t i = 0; i < len; i++) {
        start(&askers[i], f, "k", NULL);
    }
    await(f, inside);
    await_waiting(f, len - inside);
    script_hold(&f->script, false);
    for (size_t i = 0; i < len; i++) {
        end(&askers[i]);
    }
}

static void limit__halves_once_for_a_burst_of_503(void **state)
{
    struct fixture *f = *state;
    add_limit(f, 8, 100);
    add_answers(f, HADB_EUNAVAIL, 503, 8);
    burst(f, 8, 8);
    assert_int_equal(hadb_storage_limit_room(&f->s), 4);
    add_answers(f, HADB_ETIMEDOUT, 429, 4); /* a write, state unknown */
    burst(f, 4, 4);
    assert_int_equal(hadb_storage_limit_room(&f->s), 2);
    burst(f, 6, 2);
    assert_in_range(hadb_storage_limit_room(&f->s), 3,
                    4); /* six answers: 2 and 3 of them add one */
}

static void limit__grows_back_one_by_one_and_never_ends_below_one(void **state)
{
    struct fixture *f = *state;
    add_limit(f, 4, 100);
    add_answers(f, HADB_EUNAVAIL, 503, 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), HADB_EUNAVAIL);
    }
    assert_int_equal(hadb_storage_limit_room(&f->s), 1);
    static const uint32_t rooms[] = {2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4};
    for (size_t i = 0; i < HADB_LEN(rooms); i++) {
        assert_int_equal(ask(f, HADB_STORAGE_OP_GET, NULL), 0);
        assert_int_equal(hadb_storage_limit_room(&f->s), rooms[i]);
    }
}

/* Silence, or a breaker that lets nothing through, is no word of the store that it can take more. */
static void limit__grows_by_answers_of_the_store_alone(void **state)
{
    struct fixture *f = *state;
    add_limit(f, 4, 100);
    add_answers(f, HADB_EUNAVAIL, 503, 1);
    add_answers(f, HADB_ETIMEDOUT, 0, 4);
    add_answers(f, HADB_EUNAVAIL, 0, 4);
    for (int i = 0; i < 9; i++) {
        assert_true(ask(f, HADB_STORAGE_OP_GET, NULL) < 0);
    }
    assert_int_equal(hadb_storage_limit_room(&f->s), 2);
    add_answers(f, HADB_EIO, 500, 2); /* it answers: it is not the number that ails it */
    assert_true(ask(f, HADB_STORAGE_OP_GET, NULL) < 0);
    assert_true(ask(f, HADB_STORAGE_OP_GET, NULL) < 0);
    assert_int_equal(hadb_storage_limit_room(&f->s), 3);
}

static void limit__keeps_its_room_through_other_failures(void **state)
{
    struct fixture *f = *state;
    add_limit(f, 4, 100);
    add_answers(f, HADB_EIO, 500, 4);
    for (int i = 0; i < 4; i++) {
        assert_true(ask(f, HADB_STORAGE_OP_GET, NULL) < 0);
    }
    assert_int_equal(hadb_storage_limit_room(&f->s), 4);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        BOTH(limit__runs_so_many_at_a_time_and_all_in_the_end),
        BOTH(limit__is_busy_when_the_queue_is_full),
        BOTH(limit__starts_in_order_of_arrival),
        BOTH(limit__waiters_leave_at_their_deadline_or_cancel),
        BOTH(limit__halves_once_for_a_burst_of_503),
        BOTH(limit__grows_back_one_by_one_and_never_ends_below_one),
        BOTH(limit__grows_by_answers_of_the_store_alone),
        BOTH(limit__keeps_its_room_through_other_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
