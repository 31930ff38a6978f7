/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker pool: owns the worker threads, the round of queues that have work, and the list of finished
 * jobs on its way to the loop.
 *
 * Thread: workers run job->run, the loop runs job->done, any thread submits.
 * Invariants (all under mu): a queue is in the round exactly if it has waiting jobs and none running (`loose`,
 * the queue of jobs without order, is in the round whenever it has waiting jobs); a worker that
 * puts a queue into the round looks at the round again before it sleeps, everybody else wakes one.
 * Happy path: submit → round → a worker takes one job of the first queue → run → finished list → one post
 * to the loop for any number of finished jobs → done.
 * Failure modes: too many waiting jobs are refused (HADB_EBUSY); a job that never returns makes stop time
 * out, and the pool is then left to its last worker, which frees it.
 */
#include "node/pool.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/thread.h"

#define POOL_RANK 800u /* below the loop's: finished jobs are posted under mu */
#define THREADS_MAX 64u
#define THREADS_DEFAULT 4u
#define JOBS_DEFAULT 65536u

struct hadb_pool {
    struct hadb_loop *loop;                  /* const after start */
    size_t jobs_max;                         /* const after start */
    struct hadb_thread threads[THREADS_MAX]; /* the starting and the stopping thread */
    unsigned threads_len;                    /* likewise */

    struct hadb_mutex mu;
    struct hadb_cond work;          /* mu: the round is not empty, or stopping */
    struct hadb_cond changed;       /* mu: alive */
    struct hadb_queue *round_head;  /* mu */
    struct hadb_queue *round_tail;  /* mu */
    struct hadb_queue loose;        /* mu */
    struct hadb_job *finished_head; /* mu */
    struct hadb_job *finished_tail; /* mu */
    struct hadb_loop_task deliver;  /* mu for posting, loop thread for running */
    size_t waiting_len;             /* mu */
    unsigned alive;                 /* mu: workers that have not left */
    bool deliver_posted;            /* mu */
    bool stopping;                  /* mu */
    bool orphaned; /* mu: stop is over, whoever leaves last (worker or delivery) frees the pool */
};

/* ---- everything below up to "the loop's side" needs mu ---- */

static void round_push(struct hadb_pool *pool, struct hadb_queue *queue)
{
    HADB_ASSERT(!queue->ready && queue->head);
    queue->ready = true;
    queue->ready_next = NULL;
    if (pool->round_tail) {
        pool->round_tail->ready_next = queue;
    } else {
        pool->round_head = queue;
    }
    pool->round_tail = queue;
}

static struct hadb_queue *round_pop(struct hadb_pool *pool)
{
    struct hadb_queue *queue = pool->round_head;
    pool->round_head = queue->ready_next;
    if (!pool->round_head) {
        pool->round_tail = NULL;
    }
    queue->ready = false;
    return queue;
}

static struct hadb_job *job_pop(struct hadb_pool *pool, struct hadb_queue *queue)
{
    struct hadb_job *job = queue->head;
    queue->head = job->next;
    if (!queue->head) {
        queue->tail = NULL;
    }
    queue->len--;
    pool->waiting_len--;
    return job;
}

static void finish(struct hadb_pool *pool, struct hadb_job *job, int r)
{
    if (pool->orphaned) {
        return; /* the loop may be gone */
    }
    job->r = r;
    job->next = NULL;
    if (pool->finished_tail) {
        pool->finished_tail->next = job;
    } else {
        pool->finished_head = job;
    }
    pool->finished_tail = job;
    if (!pool->deliver_posted) {
        /* Fails only when the loop stops before the pool, against its contract; stop() delivers then. */
        pool->deliver_posted = hadb_loop_post_task(pool->loop, &pool->deliver) == 0;
    }
}

static void cancel_waiting(struct hadb_pool *pool, struct hadb_queue *queue)
{
    while (queue->head) {
        struct hadb_job *job = job_pop(pool, queue);
        if (job->done) {
            finish(pool, job, HADB_ECANCELED);
        }
    }
}

/* Runs one job of the first queue in the round; gives mu back while it runs. */
static void run_one(struct hadb_pool *pool)
{
    struct hadb_queue *queue = round_pop(pool);
    struct hadb_job *job = job_pop(pool, queue);
    bool serial = queue != &pool->loose;
    bool has_done = job->done != NULL; /* without it, the job may be gone after run */
    if (serial) {
        queue->running = true;
    } else if (queue->head) {
        round_push(pool, queue);
    }
    hadb_mutex_unlock(&pool->mu);
    job->run(job->arg);
    hadb_mutex_lock(&pool->mu);
    if (has_done) {
        finish(pool, job, 0);
    }
    if (!serial) {
        return;
    }
    queue->running = false;
    if (pool->stopping) {
        cancel_waiting(pool, queue);
    } else if (queue->head) {
        round_push(pool, queue);
    }
}

/* ---- workers ---- */

static void pool_free(struct hadb_pool *pool)
{
    hadb_cond_deinit(&pool->changed);
    hadb_cond_deinit(&pool->work);
    hadb_mutex_deinit(&pool->mu);
    hadb_free(pool);
}

/* Frees the pool if nobody is left in it. Takes mu, gives it back. */
static void leave_locked(struct hadb_pool *pool)
{
    bool last = pool->orphaned && pool->alive == 0 && !pool->deliver_posted;
    hadb_mutex_unlock(&pool->mu);
    if (last) {
        pool_free(pool);
    }
}

static void worker_main(void *arg)
{
    struct hadb_pool *pool = arg;
    hadb_mutex_lock(&pool->mu);
    for (;;) {
        while (!pool->round_head && !pool->stopping) {
            hadb_cond_wait(&pool->work, &pool->mu);
        }
        if (pool->stopping) {
            break; /* the round was emptied when stopping was set */
        }
        run_one(pool);
    }
    pool->alive--;
    hadb_cond_broadcast(&pool->changed);
    leave_locked(pool);
}

int hadb_pool_submit(struct hadb_pool *pool, struct hadb_queue *queue, struct hadb_job *job,
                     struct hadb_error *err)
{
    HADB_ASSERT(job->run && (!queue || queue->pool == pool));
    struct hadb_queue *to = queue ? queue : &pool->loose;
    hadb_mutex_lock(&pool->mu);
    if (pool->stopping) {
        hadb_mutex_unlock(&pool->mu);
        return hadb_fail(err, HADB_ECANCELED, "the worker pool is stopping");
    }
    if (pool->waiting_len >= pool->jobs_max) {
        hadb_mutex_unlock(&pool->mu);
        return hadb_fail(err, HADB_EBUSY, "%zu jobs wait for a worker already", pool->jobs_max);
    }
    job->queue = queue;
    job->next = NULL;
    if (to->tail) {
        to->tail->next = job;
    } else {
        to->head = job;
    }
    to->tail = job;
    to->len++;
    pool->waiting_len++;
    if (!to->running) {
        if (!to->ready) {
            round_push(pool, to);
        }
        if (!queue || to->len == 1) {
            hadb_cond_signal(&pool->work);
        }
    }
    hadb_mutex_unlock(&pool->mu);
    return 0;
}

void hadb_queue_init(struct hadb_queue *queue, struct hadb_pool *pool)
{
    *queue = (struct hadb_queue){.pool = pool};
}

void hadb_queue_deinit(struct hadb_queue *queue)
{
    if (!queue->pool) {
        return;
    }
    hadb_mutex_lock(&queue->pool->mu);
    bool idle = queue->len == 0 && !queue->running;
    hadb_mutex_unlock(&queue->pool->mu);
    HADB_ASSERT(idle);
    *queue = (struct hadb_queue){0};
}

size_t hadb_queue_len(struct hadb_queue *queue)
{
    hadb_mutex_lock(&queue->pool->mu);
    size_t len = queue->len;
    hadb_mutex_unlock(&queue->pool->mu);
    return len;
}

/* ---- the loop's side ---- */

static void run_finished(struct hadb_pool *pool)
{
    hadb_mutex_lock(&pool->mu);
    struct hadb_job *job = pool->finished_head;
    pool->finished_head = NULL;
    pool->finished_tail = NULL;
    hadb_mutex_unlock(&pool->mu);
    while (job) {
        struct hadb_job *next = job->next; /* done may free or submit the job */
        job->done(job->arg, job->r);
        job = next;
    }
}

static void deliver(void *arg)
{
    struct hadb_pool *pool = arg;
    hadb_mutex_lock(&pool->mu);
    bool orphaned = pool->orphaned;
    pool->deliver_posted = false; /* what finishes from here on posts again */
    if (orphaned) {
        leave_locked(pool);
        return;
    }
    hadb_mutex_unlock(&pool->mu);
    run_finished(pool);
}

static void deliver_all(void *arg)
{
    run_finished(arg);
}

/* ---- life ---- */

static void set_stopping(struct hadb_pool *pool)
{
    hadb_mutex_lock(&pool->mu);
    pool->stopping = true;
    while (pool->round_head) {
        cancel_waiting(pool, round_pop(pool));
    }
    hadb_cond_broadcast(&pool->work);
    hadb_mutex_unlock(&pool->mu);
}

/* Waits for the workers; false when the time is over. */
static bool wait_for_workers(struct hadb_pool *pool, uint64_t deadline_ms)
{
    const struct hadb_env *env = hadb_loop_env(pool->loop);
    hadb_mutex_lock(&pool->mu);
    for (;;) {
        uint64_t now = hadb_now_ms(env);
        if (pool->alive == 0 || now >= deadline_ms) {
            break;
        }
        hadb_cond_wait_ms(&pool->changed, &pool->mu, deadline_ms - now);
    }
    bool all = pool->alive == 0;
    hadb_mutex_unlock(&pool->mu);
    return all;
}

int hadb_pool_stop(struct hadb_pool *pool, uint64_t deadline_ms, struct hadb_error *err)
{
    if (!pool) {
        return 0;
    }
    set_stopping(pool);
    bool all = wait_for_workers(pool, deadline_ms);
    for (unsigned i = 0; i < pool->threads_len; i++) {
        if (all) {
            hadb_thread_join(&pool->threads[i]);
        } else {
            pthread_detach(pool->threads[i].id);
        }
    }
    if (hadb_loop_call(pool->loop, deliver_all, pool) != 0) {
        run_finished(pool); /* no loop any more: nothing runs beside this */
    }
    hadb_mutex_lock(&pool->mu);
    pool->orphaned = true;
    leave_locked(pool);
    if (!all) {
        return hadb_fail(err, HADB_ETIMEDOUT, "a job of the worker pool did not end in time");
    }
    return 0;
}

static int start_threads(struct hadb_pool *pool, const char *name, unsigned threads_len,
                         struct hadb_error *err)
{
    for (unsigned i = 0; i < threads_len; i++) {
        char thread_name[16];
        int n = snprintf(thread_name, sizeof(thread_name), "%.12s-%u", name, i);
        HADB_ASSERT(n > 0 && n < (int)sizeof(thread_name));
        hadb_mutex_lock(&pool->mu);
        pool->alive++;
        hadb_mutex_unlock(&pool->mu);
        int r = hadb_thread_start(&pool->threads[i], thread_name, worker_main, pool, err);
        if (r != 0) {
            hadb_mutex_lock(&pool->mu);
            pool->alive--;
            hadb_mutex_unlock(&pool->mu);
            return hadb_wrap(err, r, "start worker %u", i);
        }
        pool->threads_len++;
    }
    return 0;
}

int hadb_pool_start(struct hadb_loop *loop, const struct hadb_pool_options *options,
                    struct hadb_pool **out, struct hadb_error *err)
{
    static const struct hadb_pool_options defaults;
    options = options ? options : &defaults;
    const char *name = options->name ? options->name : "hadb-work";
    unsigned threads_len = options->threads_len ? options->threads_len : THREADS_DEFAULT;
    if (threads_len > THREADS_MAX || strlen(name) > 12) {
        return hadb_fail(err, HADB_EINVAL,
                         "a worker pool has 1 to %u threads and a name of at most 12 bytes",
                         THREADS_MAX);
    }
    struct hadb_pool *pool = hadb_calloc(1, sizeof(*pool));
    if (!pool) {
        return hadb_fail_nomem(err);
    }
    pool->loop = loop;
    pool->jobs_max = options->jobs_max ? options->jobs_max : JOBS_DEFAULT;
    pool->deliver.fn = deliver;
    pool->deliver.arg = pool;
    hadb_queue_init(&pool->loose, pool);
    hadb_mutex_init(&pool->mu, POOL_RANK);
    hadb_cond_init(&pool->work);
    hadb_cond_init(&pool->changed);
    int r = start_threads(pool, name, threads_len, err);
    if (r != 0) {
        hadb_pool_stop(pool, UINT64_MAX, NULL);
        return r;
    }
    *out = pool;
    return 0;
}
