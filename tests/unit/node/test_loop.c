/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: posting, calling, timers, stopping. */
#include "tests/unit/node/transport_help.h"

#include <pthread.h>

#define POSTERS 8
#define POSTS 2000

struct posted {
    struct hadb_loop_task task;
    struct ledger *ledger;
    unsigned poster, number;
};

struct ledger {
    struct hadb_loop *loop;
    unsigned next[POSTERS]; /* loop thread: the number expected of each poster */
    unsigned wrong;         /* loop thread */
    unsigned off_loop;      /* loop thread */
    struct gate all;
    struct posted *items[POSTERS];
};

static void take(void *arg)
{
    struct posted *posted = arg;
    struct ledger *ledger = posted->ledger;
    ledger->wrong += ledger->next[posted->poster] != posted->number;
    ledger->off_loop += !hadb_loop_on(ledger->loop);
    if (++ledger->next[posted->poster] == POSTS) {
        gate_raise(&ledger->all);
    }
}

struct poster {
    struct ledger *ledger;
    unsigned number;
};

static void *post_many(void *arg)
{
    struct poster *poster = arg;
    struct posted *items = poster->ledger->items[poster->number];
    for (unsigned i = 0; i < POSTS; i++) {
        items[i].task.fn = take;
        items[i].task.arg = &items[i];
        items[i].ledger = poster->ledger;
        items[i].poster = poster->number;
        items[i].number = i;
        int r = i % 2 ? hadb_loop_post_task(poster->ledger->loop, &items[i].task)
                      : hadb_loop_post(poster->ledger->loop, take, &items[i]);
        if (r != 0) {
            return poster;
        }
    }
    return NULL;
}

static void loop__runs_posts_of_many_threads_in_the_order_of_each(void **state)
{
    (void)state;
    struct ledger ledger = {.loop = loop_up()};
    struct poster posters[POSTERS];
    pthread_t threads[POSTERS];
    gate_init(&ledger.all);
    for (unsigned i = 0; i < POSTERS; i++) {
        ledger.items[i] = calloc(POSTS, sizeof(struct posted));
        posters[i] = (struct poster){&ledger, i};
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
    }
    for (unsigned i = 0; i < POSTERS; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    gate_wait(&ledger.all, POSTERS);
    loop_down(ledger.loop);
    assert_int_equal(ledger.wrong, 0);
    assert_int_equal(ledger.off_loop, 0);
    for (unsigned i = 0; i < POSTERS; i++) {
        free(ledger.items[i]);
    }
    gate_deinit(&ledger.all);
}

static void set_true(void *arg)
{
    *(bool *)arg = true;
}

static void loop__call_returns_after_the_function_has_run(void **state)
{
    (void)state;
    struct hadb_loop *loop = loop_up();
    bool ran = false;
    assert_false(hadb_loop_on(loop));
    assert_int_equal(hadb_loop_call(loop, set_true, &ran), 0);
    assert_true(ran);
    loop_down(loop);
}

struct nested {
    struct hadb_loop *loop;
    bool inner;
};

static void call_inner(void *arg)
{
    struct nested *nested = arg;
    hadb_loop_call(nested->loop, set_true, &nested->inner);
}

static void loop__call_from_the_loop_itself_runs_at_once(void **state)
{
    (void)state;
    struct nested nested = {.loop = loop_up()};
    assert_int_equal(hadb_loop_call(nested.loop, call_inner, &nested), 0);
    assert_true(nested.inner);
    loop_down(nested.loop);
}

static void loop__stop_runs_what_was_posted_before(void **state)
{
    (void)state;
    struct hadb_loop *loop = loop_up();
    bool ran[100] = {false};
    for (size_t i = 0; i < HADB_LEN(ran); i++) {
        assert_int_equal(hadb_loop_post(loop, set_true, &ran[i]), 0);
    }
    loop_down(loop);
    for (size_t i = 0; i < HADB_LEN(ran); i++) {
        assert_true(ran[i]);
    }
    assert_int_equal(hadb_loop_stop(NULL, 0, NULL), 0);
}

struct blocker {
    struct gate entered, leave;
    struct hadb_loop *loop;
    int late_post;
};

static void block(void *arg)
{
    struct blocker *blocker = arg;
    gate_raise(&blocker->entered);
    gate_reached(&blocker->leave, 1, WAIT_MS_MAX);
}

static void loop__stop_is_bounded_when_a_function_blocks_and_refuses_later_posts(void **state)
{
    (void)state;
    struct blocker blocker = {.loop = loop_up()};
    struct hadb_error err = {0};
    bool ran = false;
    gate_init(&blocker.entered);
    gate_init(&blocker.leave);
    assert_int_equal(hadb_loop_post(blocker.loop, block, &blocker), 0);
    gate_wait(&blocker.entered, 1);
    assert_int_equal(hadb_loop_stop(blocker.loop, in_ms(20), &err), HADB_ETIMEDOUT);
    assert_int_equal(hadb_loop_post(blocker.loop, set_true, &ran), HADB_ECANCELED);
    assert_int_equal(hadb_loop_call(blocker.loop, set_true, &ran), HADB_ECANCELED);
    gate_raise(&blocker.leave);
    loop_down(blocker.loop); /* allowed again, because the loop was not freed */
    assert_false(ran);
    gate_deinit(&blocker.entered);
    gate_deinit(&blocker.leave);
}

/* ---- timers ---- */

#define TIMERS 500

struct timers {
    struct hadb_loop *loop;
    struct hadb_timer timer[TIMERS];
    uint64_t at_ms[TIMERS];
    struct gate fired;
    unsigned fired_len, early, unordered, wrong; /* loop thread */
    uint64_t last_ms;
};

struct timer_arg {
    struct timers *timers;
    unsigned i;
};
static struct timer_arg timer_args[TIMERS];

static void on_fire(void *arg)
{
    struct timer_arg *which = arg;
    struct timers *timers = which->timers;
    uint64_t at = timers->at_ms[which->i];
    timers->early += in_ms(0) < at;
    timers->unordered += at < timers->last_ms;
    timers->wrong += which->i % 5 == 0 || hadb_timer_active(&timers->timer[which->i]);
    timers->last_ms = at;
    timers->fired_len++;
    gate_raise(&timers->fired);
}

static void start_timers(void *arg)
{
    struct timers *timers = arg;
    uint64_t now = in_ms(0);
    uint32_t seed = 12345;
    for (unsigned i = 0; i < TIMERS; i++) {
        timer_args[i] = (struct timer_arg){timers, i};
        if (hadb_timer_init(&timers->timer[i], timers->loop, on_fire, &timer_args[i], NULL) != 0) {
            abort();
        }
        seed = seed * 1664525u + 1013904223u;
        timers->at_ms[i] = now + 5 + (seed >> 8) % 60;
        hadb_timer_start(&timers->timer[i], timers->at_ms[i] + 3600000);
    }
    for (unsigned i = 0; i < TIMERS; i++) {
        hadb_timer_start(&timers->timer[i], timers->at_ms[i]); /* moves it */
    }
    for (unsigned i = 0; i < TIMERS; i += 5) {
        hadb_timer_stop(&timers->timer[i]);
        hadb_timer_stop(&timers->timer[i]);
    }
}

static void deinit_timers(void *arg)
{
    struct timers *timers = arg;
    for (unsigned i = 0; i < TIMERS; i++) {
        hadb_timer_deinit(&timers->timer[i]);
        hadb_timer_deinit(&timers->timer[i]);
    }
}

static void timer__fire_in_order_never_early_and_not_when_stopped(void **state)
{
    (void)state;
    struct timers *timers = calloc(1, sizeof(*timers));
    timers->loop = loop_up();
    gate_init(&timers->fired);
    hadb_loop_call(timers->loop, start_timers, timers);
    gate_wait(&timers->fired, TIMERS - TIMERS / 5);
    hadb_loop_call(timers->loop, deinit_timers, timers);
    loop_down(timers->loop);
    assert_int_equal(timers->fired_len, TIMERS - TIMERS / 5);
    assert_int_equal(timers->early, 0);
    assert_int_equal(timers->unordered, 0);
    assert_int_equal(timers->wrong, 0);
    gate_deinit(&timers->fired);
    free(timers);
}

struct pair {
    struct hadb_loop *loop;
    struct hadb_timer eager, patient;
    unsigned eager_len;
    struct gate patient_fired;
};

static void on_eager(void *arg)
{
    struct pair *pair = arg;
    pair->eager_len++;
    hadb_timer_start(&pair->eager, 0); /* long past: due again at once */
}

static void on_patient(void *arg)
{
    struct pair *pair = arg;
    hadb_timer_deinit(&pair->eager); /* from inside a callback */
    hadb_timer_deinit(&pair->patient);
    gate_raise(&pair->patient_fired);
}

static void start_pair(void *arg)
{
    struct pair *pair = arg;
    if (hadb_timer_init(&pair->eager, pair->loop, on_eager, pair, NULL) != 0 ||
        hadb_timer_init(&pair->patient, pair->loop, on_patient, pair, NULL) != 0) {
        abort();
    }
    hadb_timer_start(&pair->patient, in_ms(10));
    hadb_timer_start(&pair->eager, 0);
}

static void timer__that_restarts_itself_at_once_does_not_starve_the_others(void **state)
{
    (void)state;
    struct pair pair = {.loop = loop_up()};
    gate_init(&pair.patient_fired);
    hadb_loop_call(pair.loop, start_pair, &pair);
    gate_wait(&pair.patient_fired, 1);
    loop_down(pair.loop);
    assert_true(pair.eager_len > 0);
    gate_deinit(&pair.patient_fired);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loop__runs_posts_of_many_threads_in_the_order_of_each),
        cmocka_unit_test(loop__call_returns_after_the_function_has_run),
        cmocka_unit_test(loop__call_from_the_loop_itself_runs_at_once),
        cmocka_unit_test(loop__stop_runs_what_was_posted_before),
        cmocka_unit_test(loop__stop_is_bounded_when_a_function_blocks_and_refuses_later_posts),
        cmocka_unit_test(timer__fire_in_order_never_early_and_not_when_stopped),
        cmocka_unit_test(timer__that_restarts_itself_at_once_does_not_starve_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
