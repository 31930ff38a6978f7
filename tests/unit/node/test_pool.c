/* SPDX-License-Identifier: Apache-2.0 */
/* The worker pool: serial queues, fairness, bounds, stopping with work in flight. */
#include "tests/unit/node/transport_help.h"

#include "base/error.h"
#include "node/pool.h"

static struct hadb_pool *pool_up(struct hadb_loop *loop, unsigned threads_len, size_t jobs_max)
{
    struct hadb_pool_options options = {.threads_len = threads_len, .jobs_max = jobs_max};
    struct hadb_pool *pool = NULL;
    struct hadb_error err = {0};
    if (hadb_pool_start(loop, &options, &pool, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return pool;
}

static void pool_down(struct hadb_pool *pool)
{
    assert_int_equal(hadb_pool_stop(pool, in_ms(WAIT_MS_MAX), NULL), 0);
}

/* ---- order ---- */

#define QUEUES 40
#define JOBS_PER_QUEUE 100

struct lane {
    struct hadb_queue queue;
    int running;   /* atomic: how many workers are in this queue */
    unsigned ran;  /* the worker in the queue */
    unsigned done; /* loop thread */
    unsigned overlaps, run_disorder, done_disorder, off_loop;
    struct hadb_loop *loop;
    struct gate *finished;
};

struct step {
    struct hadb_job job;
    struct lane *lane;
    unsigned number;
};

static void run_step(void *arg)
{
    struct step *step = arg;
    struct lane *lane = step->lane;
    lane->overlaps += __atomic_add_fetch(&lane->running, 1, __ATOMIC_ACQ_REL) != 1;
    lane->run_disorder += lane->ran != step->number;
    lane->ran++;
    __atomic_sub_fetch(&lane->running, 1, __ATOMIC_ACQ_REL);
}

static void done_step(void *arg, int r)
{
    struct step *step = arg;
    struct lane *lane = step->lane;
    lane->off_loop += !hadb_loop_on(lane->loop) || r != 0;
    lane->done_disorder += lane->done != step->number;
    if (++lane->done == JOBS_PER_QUEUE) {
        gate_raise(lane->finished);
    }
}

static void queue__runs_its_jobs_one_by_one_and_reports_them_in_order(void **state)
{
    (void)state;
    struct hadb_loop *loop = loop_up();
    struct hadb_pool *pool = pool_up(loop, 4, 0);
    struct lane *lanes = calloc(QUEUES, sizeof(*lanes));
    struct step *steps = calloc(QUEUES * JOBS_PER_QUEUE, sizeof(*steps));
    struct gate finished;
    gate_init(&finished);
    for (unsigned q = 0; q < QUEUES; q++) {
        hadb_queue_init(&lanes[q].queue, pool);
        lanes[q].loop = loop;
        lanes[q].finished = &finished;
    }
    for (unsigned i = 0; i < JOBS_PER_QUEUE; i++) {
        for (unsigned q = 0; q < QUEUES; q++) {
            struct step *step = &steps[q * JOBS_PER_QUEUE + i];
            *step = (struct step){.job = {.run = run_step, .done = done_step, .arg = step},
                                  .lane = &lanes[q],
                                  .number = i};
            assert_int_equal(hadb_pool_submit(pool, &lanes[q].queue, &step->job, NULL), 0);
        }
    }
    gate_wait(&finished, QUEUES);
    for (unsigned q = 0; q < QUEUES; q++) {
        hadb_queue_deinit(&lanes[q].queue);
        assert_int_equal(lanes[q].ran, JOBS_PER_QUEUE);
        assert_int_equal(lanes[q].overlaps, 0);
        assert_int_equal(lanes[q].run_disorder, 0);
        assert_int_equal(lanes[q].done_disorder, 0);
        assert_int_equal(lanes[q].off_loop, 0);
    }
    pool_down(pool);
    loop_down(loop);
    gate_deinit(&finished);
    free(steps);
    free(lanes);
}

/* ---- blocking jobs that the test releases ---- */

struct held {
    struct hadb_job job;
    struct gate entered, leave, done;
    int r; /* what done was told */
};

static void run_held(void *arg)
{
    struct held *held = arg;
    gate_raise(&held->entered);
    gate_reached(&held->leave, 1, WAIT_MS_MAX);
}

static void done_held(void *arg, int r)
{
    struct held *held = arg;
    held->r = r;
    gate_raise(&held->done);
}

static void held_init(struct held *held)
{
    memset(held, 0, sizeof(*held));
    held->job.run = run_held;
    held->job.done = done_held;
    held->job.arg = held;
    held->r = 1;
    gate_init(&held->entered);
    gate_init(&held->leave);
    gate_init(&held->done);
}

static void held_deinit(struct held *held)
{
    gate_deinit(&held->entered);
    gate_deinit(&held->leave);
    gate_deinit(&held->done);
}

static void pool__runs_jobs_without_queue_beside_each_other(void **state)
{
    (void)state;
    struct hadb_loop *loop = loop_up();
    struct hadb_pool *pool = pool_up(loop, 3, 0);
    struct held held[3];
    for (unsigned i = 0; i < 3; i++) {
        held_init(&held[i]);
        assert_int_equal(hadb_pool_submit(pool, NULL, &held[i].job, NULL), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        gate_wait(&held[i].entered, 1); /* all three are inside at once */
    }
    for (unsigned i = 0; i < 3; i++) {
        gate_raise(&held[i].leave);
        gate_wait(&held[i].done, 1);
        assert_int_equal(held[i].r, 0);
        held_deinit(&held[i]);
    }
    pool_down(pool);
    loop_down(loop);
}

/* ---- fairness: the order in which one worker takes jobs ---- */

struct trace {
    char order[128];
    unsigned len; /* the only worker */
    struct gate done;
};

struct mark {
    struct hadb_job job;
    struct trace *trace;
    char name;
};

static void run_mark(void *arg)
{
    struct mark *mark = arg;
    mark->trace->order[mark->trace->len++] = mark->name;
}

static void done_mark(void *arg, int r)
{
    struct mark *mark = arg;
    (void)r;
    gate_raise(&mark->trace->done);
}

static void pool__gives_every_queue_its_turn_and_loose_jobs_one_more(void **state)
{
    (void)state;
    struct hadb_loop *loop = loop_up();
    struct hadb_pool *pool = pool_up(loop, 1, 0);
    struct hadb_queue queues[2];
    struct trace trace = {.len = 0};
    struct mark marks[3][5];
    struct held held;
    gate_init(&trace.done);
    held_init(&held);
    hadb_queue_init(&queues[0], pool);
    hadb_queue_init(&queues[1], pool);
    assert_int_equal(hadb_pool_submit(pool, NULL, &held.job, NULL), 0);
    gate_wait(&held.entered, 1); /* the only worker is busy: everything below waits */
    for (unsigned q = 0; q < 3; q++) {
        for (unsigned i = 0; i < 5; i++) {
            struct mark *mark = &marks[q][i];
            *mark = (struct mark){.job = {.run = run_mark, .done = done_mark, .arg = mark},
                                  .trace = &trace,
                                  .name = (char)('a' + q)};
            assert_int_equal(hadb_pool_submit(pool, q < 2 ? &queues[q] : NULL, &mark->job, NULL),
                             0);
        }
    }
    assert_int_equal(hadb_queue_len(&queues[0]), 5);
    gate_raise(&held.leave);
    gate_wait(&trace.done, 15);
    assert_int_equal(hadb_queue_len(&queues[0]), 0);
    hadb_queue_deinit(&queues[0]);
    hadb_queue_deinit(&queues[1]);
    pool_down(pool);
    loop_down(loop);
    trace.order[trace.len] = '\0';
    assert_string_equal(trace.order, "abcabcabcabcabc");
    held_deinit(&held);
    gate_deinit(&trace.done);
}

static void pool__refuses_more_waiting_jobs_than_its_bound(void **state)
{
    (void)state;
    struct hadb_loop *loop = loop_up();
    struct hadb_pool *pool = pool_up(loop, 1, 2);
    struct hadb_error err = {0};
    struct held held[4];
    for (unsigned i = 0; i < 4; i++) {
        held_init(&held[i]);
        gate_raise(&held[i].leave);
    }
    held[0].leave.count = 0;
    assert_int_equal(hadb_pool_submit(pool, NULL, &held[0].job, NULL), 0);
    gate_wait(&held[0].entered, 1);
    assert_int_equal(hadb_pool_submit(pool, NULL, &held[1].job, NULL), 0);
    assert_int_equal(hadb_pool_submit(pool, NULL, &held[2].job, NULL), 0);
    assert_int_equal(hadb_pool_submit(pool, NULL, &held[3].job, &err), HADB_EBUSY);
    assert_true(err.retryable);
    gate_raise(&held[0].leave);
    gate_wait(&held[2].done, 1);
    assert_int_equal(hadb_pool_submit(pool, NULL, &held[3].job, NULL), 0); /* room again */
    gate_wait(&held[3].done, 1);
    pool_down(pool);
    loop_down(loop);
    for (unsigned i = 0; i < 4; i++) {
        held_deinit(&held[i]);
    }
}

/* ---- stop ---- */

struct stopper {
    struct hadb_pool *pool;
    int r;
};

static void release_soon(void *arg)
{
    struct held *held = arg;
    gate_raise(&held->leave);
}

static void pool__stop_waits_for_the_running_job_and_cancels_the_others(void **state)
{
    (void)state;
    struct hadb_loop *loop = loop_up();
    struct hadb_pool *pool = pool_up(loop, 1, 0);
    struct hadb_queue queue;
    struct held held[3];
    hadb_queue_init(&queue, pool);
    for (unsigned i = 0; i < 3; i++) {
        held_init(&held[i]);
        held[i].leave.count = i > 0;
    }
    assert_int_equal(hadb_pool_submit(pool, &queue, &held[0].job, NULL), 0);
    gate_wait(&held[0].entered, 1);
    assert_int_equal(hadb_pool_submit(pool, &queue, &held[1].job, NULL), 0);
    assert_int_equal(hadb_pool_submit(pool, NULL, &held[2].job, NULL), 0);
    assert_int_equal(hadb_loop_post(loop, release_soon, &held[0]), 0);
    pool_down(pool);
    /* Depending on who was faster the waiting ones ran or were cancelled; nobody is left without word. */
    assert_int_equal(held[0].r, 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(held[i].done.count, 1);
        assert_true(held[i].r == 0 || held[i].r == HADB_ECANCELED);
        assert_int_equal(held[i].entered.count, held[i].r == 0);
    }
    loop_down(loop);
    for (unsigned i = 0; i < 3; i++) {
        held_deinit(&held[i]);
    }
}

static void stop_on_loop(void *arg)
{
    struct stopper *stopper = arg;
    stopper->r = hadb_pool_stop(stopper->pool, in_ms(WAIT_MS_MAX), NULL);
}

static void pool__stop_on_the_loop_delivers_every_done_before_it_returns(void **state)
{
    (void)state;
    struct hadb_loop *loop = loop_up();
    struct stopper stopper = {.pool = pool_up(loop, 2, 0), .r = 1};
    struct held held[20];
    for (unsigned i = 0; i < HADB_LEN(held); i++) {
        held_init(&held[i]);
        gate_raise(&held[i].leave);
        assert_int_equal(hadb_pool_submit(stopper.pool, NULL, &held[i].job, NULL), 0);
    }
    assert_int_equal(hadb_loop_call(loop, stop_on_loop, &stopper), 0);
    assert_int_equal(stopper.r, 0);
    for (unsigned i = 0; i < HADB_LEN(held); i++) {
        assert_int_equal(held[i].done.count, 1);
    }
    loop_down(loop);
    for (unsigned i = 0; i < HADB_LEN(held); i++) {
        held_deinit(&held[i]);
    }
}

static void pool__stop_is_bounded_when_a_job_does_not_return(void **state)
{
    (void)state;
    struct hadb_loop *loop = loop_up();
    struct hadb_pool *pool = pool_up(loop, 2, 0);
    struct hadb_error err = {0};
    static struct held held; /* outlives the test: its worker may still be leaving */
    held_init(&held);
    assert_int_equal(hadb_pool_submit(pool, NULL, &held.job, NULL), 0);
    gate_wait(&held.entered, 1);
    assert_int_equal(hadb_pool_stop(pool, in_ms(20), &err), HADB_ETIMEDOUT);
    loop_down(loop); /* the late job does not touch the loop any more */
    gate_raise(&held.leave);
    assert_int_equal(held.done.count, 0);
}

static void pool__with_ten_thousand_idle_queues_has_no_more_threads(void **state)
{
    (void)state;
    struct hadb_loop *loop = loop_up();
    struct hadb_pool *pool = pool_up(loop, 0, 0);
    struct hadb_queue *queues = calloc(10000, sizeof(*queues));
    struct held held;
    held_init(&held);
    gate_raise(&held.leave);
    for (unsigned i = 0; i < 10000; i++) {
        hadb_queue_init(&queues[i], pool);
    }
    assert_true(sizeof(queues[0]) <= 64);
    assert_int_equal(hadb_pool_submit(pool, &queues[9999], &held.job, NULL), 0);
    gate_wait(&held.done, 1);
    unsigned threads = 0;
    char line[128];
    FILE *status = fopen("/proc/self/status", "r");
    assert_non_null(status);
    while (fgets(line, sizeof(line), status)) {
        sscanf(line, "Threads: %u", &threads);
    }
    fclose(status);
    assert_in_range(threads, 6,
                    8); /* test, loop, 4 workers; sanitizers and the test above may add one each */
    for (unsigned i = 0; i < 10000; i++) {
        hadb_queue_deinit(&queues[i]);
    }
    pool_down(pool);
    loop_down(loop);
    held_deinit(&held);
    free(queues);
}

static void pool__start_refuses_absurd_options(void **state)
{
    (void)state;
    struct hadb_loop *loop = loop_up();
    struct hadb_pool *pool = NULL;
    struct hadb_pool_options many = {.threads_len = 65};
    struct hadb_pool_options named = {.name = "a-name-too-long"};
    assert_int_equal(hadb_pool_start(loop, &many, &pool, NULL), HADB_EINVAL);
    assert_int_equal(hadb_pool_start(loop, &named, &pool, NULL), HADB_EINVAL);
    assert_int_equal(hadb_pool_stop(NULL, 0, NULL), 0);
    loop_down(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queue__runs_its_jobs_one_by_one_and_reports_them_in_order),
        cmocka_unit_test(pool__runs_jobs_without_queue_beside_each_other),
        cmocka_unit_test(pool__gives_every_queue_its_turn_and_loose_jobs_one_more),
        cmocka_unit_test(pool__refuses_more_waiting_jobs_than_its_bound),
        cmocka_unit_test(pool__stop_waits_for_the_running_job_and_cancels_the_others),
        cmocka_unit_test(pool__stop_on_the_loop_delivers_every_done_before_it_returns),
        cmocka_unit_test(pool__with_ten_thousand_idle_queues_has_no_more_threads),
        cmocka_unit_test(pool__start_refuses_absurd_options),
        cmocka_unit_test(pool__stop_is_bounded_when_a_job_does_not_return),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
