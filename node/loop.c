/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: owns one uv_loop_t, its thread, the queue of posted tasks and the timer heap.
 *
 * Thread: "hadb-loop" runs all of it; any thread may post.
 * Invariants: mu guards the queue and `stopping`, nothing else, and is never held over a callback. Once
 * `stopping` is set no task enters the queue any more, so the drain that follows is the last one.
 * Happy path: post → one async wake for any number of tasks → drain in order. Timers sit in a binary
 * heap ordered by (deadline, start order); one timerfd on the boot-time clock is armed for the first.
 * Failure modes: no memory or no descriptors at start (typed error); a callback that blocks shows as
 * HADB_ETIMEDOUT at stop, which then leaves the loop to its thread.
 */
#include "node/loop.h"

#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/thread.h"
#include "node/loop_private.h"

#define LOOP_RANK 900u /* a leaf: others post while they hold locks of their own */
#define NS_PER_MS 1000000u

struct hadb_loop {
    const struct hadb_env *env; /* const after start */
    uv_loop_t uv;               /* loop thread */
    uv_async_t wake;            /* uv_async_send() from any thread, while mu is held */
    uv_poll_t timer_poll;       /* loop thread */
    int timer_fd;               /* const after start */
    struct hadb_thread thread;  /* the thread that started it */
    pthread_t id;               /* const after start */

    struct hadb_mutex mu;
    struct hadb_cond changed;    /* mu: `exited` */
    struct hadb_loop_task *head; /* mu */
    struct hadb_loop_task *tail; /* mu */
    bool stopping;               /* mu */
    bool exited;                 /* mu */

    struct hadb_timer **heap; /* loop thread; heap_cap >= timers_len always */
    size_t heap_len;          /* loop thread: timers that run */
    size_t heap_cap;          /* loop thread */
    size_t timers_len;        /* loop thread: timers that are initialised */
    uint64_t timer_seq;       /* loop thread */
    uint64_t armed_ms;        /* loop thread: what timer_fd is armed for; 0 = not armed */
};

/* A posted function that brings its own memory. */
struct heap_task {
    struct hadb_loop_task task;
    hadb_loop_fn fn;
    void *arg;
};

/* A function that another thread waits for. */
struct sync_call {
    struct hadb_loop_task task;
    hadb_loop_fn fn;
    void *arg;
    struct hadb_mutex mu;
    struct hadb_cond changed;
    bool done; /* mu */
};

uv_loop_t *hadb__loop_uv(struct hadb_loop *loop)
{
    HADB_ASSERT(hadb_loop_on(loop));
    return &loop->uv;
}

bool hadb_loop_on(const struct hadb_loop *loop)
{
    return pthread_equal(pthread_self(), loop->id) != 0;
}

const struct hadb_env *hadb_loop_env(const struct hadb_loop *loop)
{
    return loop->env;
}

/* ---- posted tasks ---- */

static struct hadb_loop_task *take_tasks(struct hadb_loop *loop, bool *stopping)
{
    hadb_mutex_lock(&loop->mu);
    struct hadb_loop_task *head = loop->head;
    loop->head = NULL;
    loop->tail = NULL;
    *stopping = loop->stopping;
    hadb_mutex_unlock(&loop->mu);
    return head;
}

static void on_wake(uv_async_t *async)
{
    struct hadb_loop *loop = async->data;
    bool stopping = false;
    struct hadb_loop_task *task = take_tasks(loop, &stopping);
    while (task) {
        struct hadb_loop_task *next = task->next; /* fn may free or repost the task */
        task->fn(task->arg);
        task = next;
    }
    if (stopping && !uv_is_closing((uv_handle_t *)&loop->wake)) {
        uv_close((uv_handle_t *)&loop->wake, NULL);
        uv_close((uv_handle_t *)&loop->timer_poll, NULL);
    }
}

int hadb_loop_post_task(struct hadb_loop *loop, struct hadb_loop_task *task)
{
    HADB_ASSERT(task->fn);
    task->next = NULL;
    hadb_mutex_lock(&loop->mu);
    if (loop->stopping) {
        hadb_mutex_unlock(&loop->mu);
        return HADB_ECANCELED;
    }
    bool first = loop->head == NULL;
    if (first) {
        loop->head = task;
    } else {
        loop->tail->next = task;
    }
    loop->tail = task;
    if (first) {
        uv_async_send(&loop->wake); /* under mu: the handle cannot be closed meanwhile */
    }
    hadb_mutex_unlock(&loop->mu);
    return 0;
}

static void run_heap_task(void *arg)
{
    struct heap_task *task = arg;
    hadb_loop_fn fn = task->fn;
    void *fn_arg = task->arg;
    hadb_free(task);
    fn(fn_arg);
}

int hadb_loop_post(struct hadb_loop *loop, hadb_loop_fn fn, void *arg)
{
    HADB_ASSERT(fn);
    struct heap_task *task = hadb_calloc(1, sizeof(*task));
    if (!task) {
        return HADB_ENOMEM;
    }
    task->fn = fn;
    task->arg = arg;
    task->task.fn = run_heap_task;
    task->task.arg = task;
    int r = hadb_loop_post_task(loop, &task->task);
    if (r != 0) {
        hadb_free(task);
    }
    return r;
}

static void run_sync_call(void *arg)
{
    struct sync_call *call = arg;
    call->fn(call->arg);
    hadb_mutex_lock(&call->mu);
    call->done = true;
    hadb_cond_signal(&call->changed);
    hadb_mutex_unlock(&call->mu);
}

int hadb_loop_call(struct hadb_loop *loop, hadb_loop_fn fn, void *arg)
{
    if (hadb_loop_on(loop)) {
        fn(arg);
        return 0;
    }
    struct sync_call call = {.fn = fn, .arg = arg};
    call.task.fn = run_sync_call;
    call.task.arg = &call;
    hadb_mutex_init(&call.mu, 0);
    hadb_cond_init(&call.changed);
    int r = hadb_loop_post_task(loop, &call.task);
    if (r == 0) {
        hadb_mutex_lock(&call.mu);
        while (!call.done) {
            hadb_cond_wait(&call.changed, &call.mu);
        }
        hadb_mutex_unlock(&call.mu);
    }
    hadb_cond_deinit(&call.changed);
    hadb_mutex_deinit(&call.mu);
    return r;
}

/* ---- timers: a binary heap; timer->slot is its index plus one ---- */

static bool earlier(const struct hadb_timer *a, const struct hadb_timer *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->seq < b->seq;
}

static void place(struct hadb_loop *loop, size_t i, struct hadb_timer *timer)
{
    loop->heap[i] = timer;
    timer->slot = i + 1;
}

static void sift_up(struct hadb_loop *loop, size_t i, struct hadb_timer *timer)
{
    while (i > 0 && earlier(timer, loop->heap[(i - 1) / 2])) {
        place(loop, i, loop->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(loop, i, timer);
}

static void sift_down(struct hadb_loop *loop, size_t i, struct hadb_timer *timer)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= loop->heap_len) {
            break;
        }
        if (child + 1 < loop->heap_len && earlier(loop->heap[child + 1], loop->heap[child])) {
            child++;
        }
        if (!earlier(loop->heap[child], timer)) {
            break;
        }
        place(loop, i, loop->heap[child]);
        i = child;
    }
    place(loop, i, timer);
}

static void heap_remove(struct hadb_loop *loop, struct hadb_timer *timer)
{
    size_t i = timer->slot - 1;
    HADB_ASSERT(i < loop->heap_len && loop->heap[i] == timer);
    struct hadb_timer *last = loop->heap[--loop->heap_len];
    timer->slot = 0;
    if (last == timer) {
        return;
    }
    if (i > 0 && earlier(last, loop->heap[(i - 1) / 2])) {
        sift_up(loop, i, last);
    } else {
        sift_down(loop, i, last);
    }
}

/* Arms the descriptor for the first timer. A timer that was stopped leaves it armed: it then fires for
 * nothing, once, which is cheaper than a system call per stop. */
static void arm(struct hadb_loop *loop)
{
    if (loop->heap_len == 0) {
        return;
    }
    uint64_t at_ms = loop->heap[0]->at_ms;
    if (loop->armed_ms != 0 && loop->armed_ms <= at_ms) {
        return;
    }
    uint64_t now_ns = hadb_now_ns(loop->env);
    uint64_t left_ns = 1; /* 0 would disarm it */
    if (at_ms > now_ns / NS_PER_MS) {
        uint64_t left_ms = at_ms - now_ns / NS_PER_MS;
        left_ns = HADB_MIN(left_ms, (uint64_t)INT32_MAX) * NS_PER_MS - now_ns % NS_PER_MS;
    }
    struct itimerspec spec = {.it_value = {.tv_sec = (time_t)(left_ns / 1000000000u),
                                           .tv_nsec = (long)(left_ns % 1000000000u)}};
    int r = timerfd_settime(loop->timer_fd, 0, &spec, NULL);
    HADB_ASSERT(r == 0); /* fails on wrong arguments only */
    loop->armed_ms = at_ms;
}

static void on_timer_fd(uv_poll_t *poll, int status, int events)
{
    struct hadb_loop *loop = poll->data;
    (void)status;
    (void)events;
    uint64_t expirations;
    ssize_t n = read(loop->timer_fd, &expirations, sizeof(expirations));
    (void)n; /* EAGAIN: armed again in between; the heap decides anyway */
    loop->armed_ms = 0;
    uint64_t now = hadb_now_ms(loop->env);
    uint64_t seq = loop->timer_seq;
    /* Timers started by a callback wait for the next turn. Deadlines are never before the time of their start,
     * so those cannot hide one that is due now. */
    while (loop->heap_len > 0 && loop->heap[0]->at_ms <= now && loop->heap[0]->seq < seq) {
        struct hadb_timer *timer = loop->heap[0];
        heap_remove(loop, timer);
        timer->fn(timer->arg);
    }
    arm(loop);
}

int hadb_timer_init(struct hadb_timer *timer, struct hadb_loop *loop, hadb_loop_fn fn, void *arg,
                    struct hadb_error *err)
{
    HADB_ASSERT(hadb_loop_on(loop) && fn);
    if (loop->timers_len == loop->heap_cap) {
        size_t cap = loop->heap_cap ? loop->heap_cap * 2 : 64;
        struct hadb_timer **heap = hadb_realloc(loop->heap, cap * sizeof(struct hadb_timer *));
        if (!heap) {
            return hadb_fail_nomem(err);
        }
        loop->heap = heap;
        loop->heap_cap = cap;
    }
    loop->timers_len++;
    *timer = (struct hadb_timer){.loop = loop, .fn = fn, .arg = arg};
    return 0;
}

void hadb_timer_start(struct hadb_timer *timer, uint64_t at_ms)
{
    struct hadb_loop *loop = timer->loop;
    HADB_ASSERT(loop && hadb_loop_on(loop));
    uint64_t now = hadb_now_ms(loop->env);
    hadb_timer_stop(timer);
    HADB_ASSERT(loop->heap_len < loop->heap_cap);
    timer->at_ms = HADB_MAX(at_ms, now);
    timer->seq = loop->timer_seq++;
    sift_up(loop, loop->heap_len++, timer);
    arm(loop);
}

void hadb_timer_stop(struct hadb_timer *timer)
{
    if (timer->slot != 0) {
        HADB_ASSERT(hadb_loop_on(timer->loop));
        heap_remove(timer->loop, timer);
    }
}

bool hadb_timer_active(const struct hadb_timer *timer)
{
    return timer->slot != 0;
}

void hadb_timer_deinit(struct hadb_timer *timer)
{
    if (!timer->loop) {
        return;
    }
    HADB_ASSERT(hadb_loop_on(timer->loop));
    hadb_timer_stop(timer);
    HADB_ASSERT(timer->loop->timers_len > 0);
    timer->loop->timers_len--;
    *timer = (struct hadb_timer){0};
}

/* ---- life ---- */

static void loop_main(void *arg)
{
    struct hadb_loop *loop = arg;
    hadb_mutex_lock(&loop->mu); /* published by hadb_loop_start() */
    loop->id = pthread_self();
    hadb_cond_broadcast(&loop->changed);
    hadb_mutex_unlock(&loop->mu);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    hadb_mutex_lock(&loop->mu);
    loop->exited = true;
    hadb_cond_broadcast(&loop->changed);
    hadb_mutex_unlock(&loop->mu);
}

static void loop_free(struct hadb_loop *loop)
{
    hadb_cond_deinit(&loop->changed);
    hadb_mutex_deinit(&loop->mu);
    hadb_free(loop->heap);
    if (loop->timer_fd >= 0) {
        close(loop->timer_fd);
    }
    hadb_free(loop);
}

static int open_handles(struct hadb_loop *loop, struct hadb_error *err)
{
    int r = uv_async_init(&loop->uv, &loop->wake, on_wake);
    if (r != 0) {
        return hadb_fail_errno(err, -r, "create the wake-up of the event loop");
    }
    loop->wake.data = loop;
    r = uv_poll_init(&loop->uv, &loop->timer_poll, loop->timer_fd);
    if (r != 0) {
        uv_close((uv_handle_t *)&loop->wake, NULL);
        uv_run(&loop->uv, UV_RUN_DEFAULT);
        return hadb_fail_errno(err, -r, "create the timer of the event loop");
    }
    loop->timer_poll.data = loop;
    r = uv_poll_start(&loop->timer_poll, UV_READABLE, on_timer_fd);
    HADB_ASSERT(r == 0);
    return 0;
}

static void close_handles(struct hadb_loop *loop)
{
    uv_close((uv_handle_t *)&loop->wake, NULL);
    uv_close((uv_handle_t *)&loop->timer_poll, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

static int start_thread(struct hadb_loop *loop, struct hadb_error *err)
{
    int r = hadb_thread_start(&loop->thread, "hadb-loop", loop_main, loop, err);
    if (r != 0) {
        close_handles(loop);
        return hadb_wrap(err, r, "start the event loop");
    }
    hadb_mutex_lock(&loop->mu);
    while (loop->id == 0) {
        hadb_cond_wait(&loop->changed, &loop->mu);
    }
    hadb_mutex_unlock(&loop->mu);
    return 0;
}

int hadb_loop_start(const struct hadb_env *env, struct hadb_loop **out, struct hadb_error *err)
{
    struct hadb_loop *loop = hadb_calloc(1, sizeof(*loop));
    if (!loop) {
        return hadb_fail_nomem(err);
    }
    loop->env = hadb_env_or_host(env);
    hadb_mutex_init(&loop->mu, LOOP_RANK);
    hadb_cond_init(&loop->changed);
    loop->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (loop->timer_fd < 0) {
        int r = hadb_fail_errno(err, errno, "create the timer of the event loop");
        loop_free(loop);
        return r;
    }
    int r = uv_loop_init(&loop->uv);
    if (r != 0) {
        r = hadb_fail_errno(err, -r, "create the event loop");
        loop_free(loop);
        return r;
    }
    r = open_handles(loop, err);
    if (r == 0) {
        r = start_thread(loop, err);
    }
    if (r != 0) {
        uv_loop_close(&loop->uv);
        loop_free(loop);
        return r;
    }
    *out = loop;
    return 0;
}

/* Milliseconds until @deadline_ms. */
static uint64_t left_ms(const struct hadb_env *env, uint64_t deadline_ms)
{
    uint64_t now = hadb_now_ms(env);
    return deadline_ms > now ? deadline_ms - now : 0;
}

int hadb_loop_stop(struct hadb_loop *loop, uint64_t deadline_ms, struct hadb_error *err)
{
    if (!loop) {
        return 0;
    }
    HADB_ASSERT(!hadb_loop_on(loop));
    hadb_mutex_lock(&loop->mu);
    if (!loop->stopping) {
        loop->stopping = true;
        uv_async_send(&loop->wake);
    }
    while (!loop->exited && left_ms(loop->env, deadline_ms) > 0) {
        hadb_cond_wait_ms(&loop->changed, &loop->mu, left_ms(loop->env, deadline_ms));
    }
    bool exited = loop->exited;
    hadb_mutex_unlock(&loop->mu);
    if (!exited) {
        return hadb_fail(err, HADB_ETIMEDOUT, "the event loop did not end in time");
    }
    hadb_thread_join(&loop->thread);
    int r = uv_loop_close(&loop->uv);
    HADB_ASSERT(r == 0);
    loop_free(loop);
    return 0;
}
