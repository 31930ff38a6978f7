/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker pool: a few threads for everything that blocks (engines, stores), and serial queues on top of
 * them, one per database. Never a thread per queue: an idle queue is 64 bytes and nothing else.
 *
 * Jobs of one queue run in the order of submission, one at a time, on any worker; jobs without a queue
 * run beside each other. Queues with work take turns, one job each; the jobs without a queue count
 * as one more queue in that round. A job's done() runs on the loop; the done()s of one queue come in order.
 */
#ifndef HADB_NODE_POOL_H
#define HADB_NODE_POOL_H
#include "node/loop.h"

struct hadb_pool;

struct hadb_pool_options {
    const char
        *name; /* threads are called NAME-0, NAME-1, …; at most 12 bytes; NULL = "hadb-work" */
    unsigned threads_len; /* 1..64; 0 = 4 */
    size_t jobs_max;      /* jobs waiting in all queues together; 0 = 65536 */
};

/* A job, embedded by its owner, who keeps it alive and leaves it alone from submit until done (or until
 * run has returned, when done is NULL). Zero value + run, done, arg. */
struct hadb_job {
    void (*run)(void *arg);         /* on a worker */
    void (*done)(void *arg, int r); /* on the loop; 0 = run has run, HADB_ECANCELED = it never will;
                                     * may be NULL */
    void *arg;
    struct hadb_job *next;    /* pool's mu */
    struct hadb_queue *queue; /* pool's mu */
    int r;                    /* pool's mu */
};

/* A serial queue, embedded by its owner. */
struct hadb_queue {
    struct hadb_pool *pool;        /* const after init */
    struct hadb_job *head, *tail;  /* pool's mu: waiting jobs */
    struct hadb_queue *ready_next; /* pool's mu: next queue in the round */
    size_t len;                    /* pool's mu: waiting jobs */
    bool running;                  /* pool's mu: a worker is in one of its jobs */
    bool ready;                    /* pool's mu: is in the round */
};

/* Starts the workers. HADB_EINVAL, HADB_ENOMEM, HADB_EIO. Any thread. */
int hadb_pool_start(struct hadb_loop *loop, const struct hadb_pool_options *options,
                    struct hadb_pool **out, struct hadb_error *err);
/*
 * Refuses new jobs, cancels all that wait (their done gets HADB_ECANCELED), waits for the running ones
 * until @deadline_ms at most, delivers every done, joins and frees. All queues must be left alone from
 * here on. HADB_ETIMEDOUT when a job does not return in time: neither its done nor those of the jobs
 * behind it in its queue are called then. NULL is fine. Any thread but a worker's, not from a done; on the
 * loop thread it blocks the loop and calls the done()s itself.
 */
int hadb_pool_stop(struct hadb_pool *pool, uint64_t deadline_ms, struct hadb_error *err);

void hadb_queue_init(struct hadb_queue *queue, struct hadb_pool *pool); /* any thread */
/* The queue has no job any more, neither waiting nor running (asserted): the way to get there is to stop
 * submitting and to wait for the done of the last job. Zero value is fine. Any thread. */
void hadb_queue_deinit(struct hadb_queue *queue);
/* Jobs that wait, the running one not counted. Any thread. */
size_t hadb_queue_len(struct hadb_queue *queue);

/*
 * Hands a job over; @queue NULL = no order. Never blocks, never allocates.
 * HADB_EBUSY: jobs_max are waiting. HADB_ECANCELED: the pool is stopping. In both cases neither run nor
 * done will be called. Any thread, also from run and from done.
 */
int hadb_pool_submit(struct hadb_pool *pool, struct hadb_queue *queue, struct hadb_job *job,
                     struct hadb_error *err);
#endif
