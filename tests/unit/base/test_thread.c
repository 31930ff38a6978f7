/* SPDX-License-Identifier: Apache-2.0 */
/* Mutexes, conditions, threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env.h"
#include "base/thread.h"

struct shared {
    struct hadb_mutex mu;
    struct hadb_cond cond;
    unsigned count; /* mu */
    bool signals_blocked;
};

static void shared_init(struct shared *s)
{
    *s = (struct shared){0};
    hadb_mutex_init(&s->mu, 10);
    hadb_cond_init(&s->cond);
}

static void shared_deinit(struct shared *s)
{
    hadb_cond_deinit(&s->cond);
    hadb_mutex_deinit(&s->mu);
}

static void count_up(void *arg)
{
    struct shared *s = arg;
    for (int i = 0; i < 1000; i++) {
        hadb_mutex_lock(&s->mu);
        s->count++;
        hadb_mutex_unlock(&s->mu);
    }
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    hadb_mutex_lock(&s->mu);
    s->signals_blocked = sigismember(&mask, SIGTERM) == 1;
    hadb_cond_broadcast(&s->cond);
    hadb_mutex_unlock(&s->mu);
}

static void thread__mutex_excludes_and_join_waits(void **state)
{
    (void)state;
    struct shared s;
    shared_init(&s);
    struct hadb_thread threads[4] = {0};
    for (size_t i = 0; i < HADB_LEN(threads); i++) {
        assert_int_equal(
            hadb_thread_start(&threads[i], "a name longer than 15", count_up, &s, NULL), 0);
    }
    for (size_t i = 0; i < HADB_LEN(threads); i++) {
        hadb_thread_join(&threads[i]);
        hadb_thread_join(&threads[i]);
    }
    assert_int_equal(s.count, 4000);
    shared_deinit(&s);
}

static void thread__leaves_signals_to_the_host_program(void **state)
{
    (void)state;
    struct shared s;
    shared_init(&s);
    struct hadb_thread thread = {0};
    assert_int_equal(hadb_thread_start(&thread, "t", count_up, &s, NULL), 0);
    hadb_thread_join(&thread);
    assert_true(s.signals_blocked);
    sigset_t mine;
    pthread_sigmask(SIG_SETMASK, NULL, &mine);
    assert_int_equal(sigismember(&mine, SIGTERM), 0);
    shared_deinit(&s);
}

static void cond__wakes_whoever_waits(void **state)
{
    (void)state;
    struct shared s;
    shared_init(&s);
    struct hadb_thread thread = {0};
    assert_int_equal(hadb_thread_start(&thread, "t", count_up, &s, NULL), 0);
    hadb_mutex_lock(&s.mu);
    while (!s.signals_blocked) {
        assert_true(hadb_cond_wait_ms(&s.cond, &s.mu, 60000));
    }
    assert_int_equal(s.count, 1000);
    hadb_mutex_unlock(&s.mu);
    hadb_thread_join(&thread);
    shared_deinit(&s);
}

static void cond__timed_wait_ends_not_before_its_time(void **state)
{
    (void)state;
    struct shared s;
    shared_init(&s);
    uint64_t start = hadb_now_ns(NULL);
    hadb_mutex_lock(&s.mu);
    while (hadb_cond_wait_ms(&s.cond, &s.mu, 5)) {
        start = hadb_now_ns(NULL); /* woken without a reason: allowed */
    }
    hadb_mutex_unlock(&s.mu);
    assert_true(hadb_now_ns(NULL) - start >= 5000000);
    shared_deinit(&s);
}

static void mutex__ranks_may_be_released_in_any_order(void **state)
{
    (void)state;
    struct hadb_mutex low, high, unranked;
    hadb_mutex_init(&low, 1);
    hadb_mutex_init(&high, 2);
    hadb_mutex_init(&unranked, 0);
    for (int i = 0; i < 2; i++) {
        hadb_mutex_lock(&low);
        hadb_mutex_lock(&high);
        hadb_mutex_lock(&unranked);
        hadb_mutex_unlock(&low);
        hadb_mutex_unlock(&high);
        hadb_mutex_unlock(&unranked);
    }
    hadb_mutex_deinit(&low);
    hadb_mutex_deinit(&high);
    hadb_mutex_deinit(&unranked);
}

#ifndef NDEBUG
static void mutex__descending_ranks_abort(void **state)
{
    (void)state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(STDERR_FILENO); /* the expected message would only frighten */
        signal(SIGABRT, SIG_DFL);
        struct hadb_mutex low, high;
        hadb_mutex_init(&low, 1);
        hadb_mutex_init(&high, 2);
        hadb_mutex_lock(&high);
        hadb_mutex_lock(&low);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thread__mutex_excludes_and_join_waits),
        cmocka_unit_test(thread__leaves_signals_to_the_host_program),
        cmocka_unit_test(cond__wakes_whoever_waits),
        cmocka_unit_test(cond__timed_wait_ends_not_before_its_time),
        cmocka_unit_test(mutex__ranks_may_be_released_in_any_order),
#ifndef NDEBUG
        cmocka_unit_test(mutex__descending_ranks_abort),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
