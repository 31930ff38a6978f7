/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: the objects of a snapshot on their way.
 *
 * Thread: that of the snapshot; lanes also run on workers, and are given back on the loop. The mutex guards the
 * states of lanes and is not held over requests.
 * Invariants: an object counts only when it was read back and is the same; after a failure nothing more is sent. Nobody
 * waits for a worker to become free: what no worker has begun is done by the thread of the snapshot, so uploads that
 * fill the pool cannot wait for each other.
 * Happy path: put copies the bytes into a free lane -> a worker puts, reads back, compares -> finish.
 * Failure modes: the first failure is what put and finish answer from then on. No memory, no free lane: done here and now.
 */
#include "node/uploads.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/thread.h"

enum lane_state { LANE_FREE, LANE_WAITS, LANE_RUNS };

struct lane {
    struct hadb_job job; /* the pool's while posted */
    struct hadb_uploads *all;
    enum lane_state state; /* mu */
    bool posted;           /* mu: its done has not been called */
    struct hadb_snapshot_object object;
    struct hadb_buf bytes, read_back; /* whoever runs it */
};

struct hadb_uploads {
    struct hadb_pool *pool;        /* const */
    struct hadb_snapshot_io store; /* const; not used after end */
    struct hadb_buf read_back;     /* thread of the snapshot */
    struct hadb_mutex mu;
    struct hadb_cond changed;
    struct lane lanes[HADB_SNAPSHOT_PUTS_MAX - 1]; /* mu: state, posted */
    unsigned refs;                                 /* mu: its owner, and what is posted */
    int r;                                         /* mu: the first failure */
    struct hadb_error err;                         /* mu */
};

/* Gives mu back. */
static void unref_locked(struct hadb_uploads *u)
{
    bool last = --u->refs == 0;
    hadb_mutex_unlock(&u->mu);
    if (!last) {
        return;
    }
    for (size_t i = 0; i < HADB_LEN(u->lanes); i++) {
        hadb_buf_deinit(&u->lanes[i].bytes);
        hadb_buf_deinit(&u->lanes[i].read_back);
    }
    hadb_buf_deinit(&u->read_back);
    hadb_cond_deinit(&u->changed);
    hadb_mutex_deinit(&u->mu);
    hadb_free(u);
}

static int put_and_compare(const struct hadb_snapshot_io *store,
                           const struct hadb_snapshot_object *object, struct hadb_slice bytes,
                           struct hadb_buf *read_back, struct hadb_error *err)
{
    int r = store->put(store->arg, object, bytes, err);
    r = r != 0 ? r : store->get(store->arg, object, read_back, err);
    if (r == HADB_ABSENT || (r == 0 && !hadb_slice_eq(hadb_buf_slice(read_back), bytes))) {
        r = hadb_fail(err, HADB_ECORRUPT, "storage does not give back what was written");
    }
    return r;
}

static void note_locked(struct hadb_uploads *u, int r, const struct hadb_error *err)
{
    if (r != 0 && u->r == 0) {
        u->r = r;
        u->err = *err;
    }
}

/* Lock held, and given back while it runs. The lane waits. */
static void run_locked(struct lane *lane)
{
    struct hadb_uploads *u = lane->all;
    struct hadb_error err = {0};
    lane->state = LANE_RUNS;
    int r = u->r;
    hadb_mutex_unlock(&u->mu);
    if (r == 0) {
        r = put_and_compare(&u->store, &lane->object, hadb_buf_slice(&lane->bytes),
                            &lane->read_back, &err);
    }
    hadb_mutex_lock(&u->mu);
    note_locked(u, r, &err);
    lane->state = LANE_FREE;
    hadb_cond_broadcast(&u->changed);
}

static void on_worker(void *arg)
{
    struct lane *lane = arg;
    hadb_mutex_lock(&lane->all->mu);
    if (lane->state == LANE_WAITS) {
        run_locked(lane);
    }
    hadb_mutex_unlock(&lane->all->mu);
}

static void on_done(void *arg, int r)
{
    struct lane *lane = arg;
    (void)r; /* never begun: its object is done by the thread of the snapshot */
    hadb_mutex_lock(&lane->all->mu);
    lane->posted = false;
    unref_locked(lane->all);
}

static bool hand_over(struct hadb_uploads *u, struct lane *lane,
                      const struct hadb_snapshot_object *object, struct hadb_slice bytes)
{
    hadb_buf_clear(&lane->bytes);
    if (hadb_buf_append(&lane->bytes, bytes.data, bytes.len) != 0) {
        return false;
    }
    lane->object = *object;
    lane->job = (struct hadb_job){.run = on_worker, .done = on_done, .arg = lane};
    hadb_mutex_lock(&u->mu);
    lane->state = LANE_WAITS;
    lane->posted = true;
    u->refs++;
    hadb_mutex_unlock(&u->mu);
    if (hadb_pool_submit(u->pool, NULL, &lane->job, NULL) == 0) {
        return true;
    }
    hadb_mutex_lock(&u->mu);
    lane->state = LANE_FREE;
    lane->posted = false;
    u->refs--;
    hadb_mutex_unlock(&u->mu);
    return false;
}

/* Lock held. */
static struct lane *find(struct hadb_uploads *u, enum lane_state state, bool unposted)
{
    for (size_t i = 0; i < HADB_LEN(u->lanes); i++) {
        if (u->lanes[i].state == state && !(unposted && u->lanes[i].posted)) {
            return &u->lanes[i];
        }
    }
    return NULL;
}

int hadb_uploads_put(void *arg, const struct hadb_snapshot_object *object, struct hadb_slice bytes,
                     struct hadb_error *err)
{
    struct hadb_uploads *u = arg;
    struct hadb_error own = {0};
    hadb_mutex_lock(&u->mu);
    int r = u->r;
    struct lane *lane = find(u, LANE_FREE, true);
    if (r != 0 && err) {
        *err = u->err;
    }
    hadb_mutex_unlock(&u->mu);
    if (r != 0 || (lane && hand_over(u, lane, object, bytes))) {
        return r;
    }
    r = put_and_compare(&u->store, object, bytes, &u->read_back, &own);
    hadb_mutex_lock(&u->mu);
    note_locked(u, r, &own);
    hadb_mutex_unlock(&u->mu);
    if (r != 0 && err) {
        *err = own;
    }
    return r;
}

int hadb_uploads_finish(void *arg, struct hadb_error *err)
{
    struct hadb_uploads *u = arg;
    struct lane *lane;
    hadb_mutex_lock(&u->mu);
    while ((lane = find(u, LANE_WAITS, false)) != NULL) {
        run_locked(lane);
    }
    while (find(u, LANE_RUNS, false) != NULL) {
        hadb_cond_wait(&u->changed, &u->mu);
    }
    int r = u->r;
    if (r != 0 && err) {
        *err = u->err;
    }
    hadb_mutex_unlock(&u->mu);
    return r;
}

bool hadb_uploads_failed(struct hadb_uploads *u)
{
    hadb_mutex_lock(&u->mu);
    bool failed = u->r != 0;
    hadb_mutex_unlock(&u->mu);
    return failed;
}

struct hadb_uploads *hadb_uploads_begin(struct hadb_pool *pool,
                                        const struct hadb_snapshot_io *store)
{
    struct hadb_uploads *u = hadb_calloc(1, sizeof *u);
    if (!u) {
        return NULL;
    }
    u->pool = pool;
    u->store = *store;
    u->refs = 1;
    hadb_mutex_init(&u->mu, 0);
    hadb_cond_init(&u->changed);
    for (size_t i = 0; i < HADB_LEN(u->lanes); i++) {
        u->lanes[i].all = u;
    }
    return u;
}

void hadb_uploads_end(struct hadb_uploads *u)
{
    if (!u) {
        return;
    }
    hadb_mutex_lock(&u->mu);
    note_locked(u, HADB_ECANCELED,
                &(struct hadb_error){.code = HADB_ECANCELED}); /* what waits is not sent */
    hadb_mutex_unlock(&u->mu);
    (void)hadb_uploads_finish(u, NULL);
    hadb_mutex_lock(&u->mu);
    unref_locked(u);
}
