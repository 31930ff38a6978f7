/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: one libuv loop on one thread named "hadb-loop", a queue of functions posted to it, and
 * timers. Everything that node/ does without blocking runs here, so none of it needs a lock.
 *
 * Functions marked "any thread" may be called from everywhere; all others on the loop thread only
 * (asserted). A function that runs on the loop never blocks.
 */
#ifndef HADB_NODE_LOOP_H
#define HADB_NODE_LOOP_H
#include "base/env.h"

struct hadb_loop;
typedef void (*hadb_loop_fn)(void *arg);

/* Starts the thread. @env is kept until stop; NULL = the host's. HADB_ENOMEM, HADB_EIO. Any thread. */
int hadb_loop_start(const struct hadb_env *env, struct hadb_loop **out, struct hadb_error *err);
/*
 * Runs what was posted so far, closes the loop, joins the thread and frees @loop. Whoever owns
 * something on the loop (server, client, pool, timers) has stopped it before. Waits until
 * @deadline_ms at most: HADB_ETIMEDOUT when a posted function blocks or a handle was left open; the
 * loop then still exists, refuses posts, and stop may be tried again. NULL is fine.
 * Any thread but the loop's.
 */
int hadb_loop_stop(struct hadb_loop *loop, uint64_t deadline_ms, struct hadb_error *err);

/* Work for the loop, embedded by its owner; posting it needs no memory. Zero value + fn + arg. */
struct hadb_loop_task {
    hadb_loop_fn fn;
    void *arg;
    struct hadb_loop_task *next; /* loop's mu, while posted */
};
/* Runs task->fn(task->arg) on the loop, once per post, in the order of posting (one order for both post
 * functions). The task may be freed or posted again from fn on. HADB_ECANCELED when the loop is
 * stopping: fn will not run. Any thread. */
int hadb_loop_post_task(struct hadb_loop *loop, struct hadb_loop_task *task);
/* The same with a heap-allocated task: HADB_ENOMEM, HADB_ECANCELED. Any thread. */
int hadb_loop_post(struct hadb_loop *loop, hadb_loop_fn fn, void *arg);
/* Runs fn(arg) on the loop and returns when it is done; directly when already on the loop.
 * HADB_ECANCELED when the loop is stopping: fn did not run. Any thread. */
int hadb_loop_call(struct hadb_loop *loop, hadb_loop_fn fn, void *arg);
/* Is this the loop's thread? Any thread. */
bool hadb_loop_on(const struct hadb_loop *loop);
const struct hadb_env *hadb_loop_env(const struct hadb_loop *loop); /* any thread */

/*
 * A timer. The deadline is absolute, on the boot-time clock of the loop's env (hadb_now_ms()), so it
 * holds across suspension of the host. fn runs once, never early, with the timer already
 * idle: it may start it again, stop or deinit others, or deinit and free this one. Timers fire
 * in the order of their deadlines. Cost: O(log n) and no memory per start.
 */
struct hadb_timer {
    struct hadb_loop *loop; /* const after init; NULL = not initialised */
    hadb_loop_fn fn;        /* const after init */
    void *arg;              /* const after init */
    uint64_t at_ms;         /* loop thread */
    uint64_t seq;           /* loop thread: order among equal deadlines */
    size_t slot;            /* loop thread: place in the heap plus one; 0 = idle */
};
/* HADB_ENOMEM. The only step that can fail: it reserves the timer's place. */
int hadb_timer_init(struct hadb_timer *timer, struct hadb_loop *loop, hadb_loop_fn fn, void *arg,
                    struct hadb_error *err);
/* Starts, or moves a timer that is running. A deadline in the past fires in the next turn of the loop. */
void hadb_timer_start(struct hadb_timer *timer, uint64_t at_ms);
void hadb_timer_stop(struct hadb_timer *timer); /* idle or zero value: nothing */
bool hadb_timer_active(const struct hadb_timer *timer);
void hadb_timer_deinit(struct hadb_timer *timer); /* stops; zero value and twice are fine */
#endif
