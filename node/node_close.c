/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Closing a node or one of its databases: hand over, answer what was accepted, stop, free.
 *
 * Thread     close blocks on the caller's; what it waits for happens on the loop.
 * Invariants close is bounded in time: what a stuck call still uses then is left to it.
 * Happy path leave (hand-off or resignation) -> drain requests -> write FREE -> stop databases -> threads -> free.
 * Failure    close never fails; on a thread that it would wait for it does nothing.
 */
#include "node/kv_private.h"

#define DRAIN_STEP_MS 2u
#define DRAIN_MS 1000u

/* ---- waiting for the loop ---- */

void hadb__countdown_init(struct hadb_countdown *c)
{
    hadb_mutex_init(&c->mu, 0);
    hadb_cond_init(&c->cond);
    c->left = 0;
}

void hadb__countdown_deinit(struct hadb_countdown *c)
{
    hadb_cond_deinit(&c->cond);
    hadb_mutex_deinit(&c->mu);
}

static void countdown_add(struct hadb_countdown *c, long n)
{
    hadb_mutex_lock(&c->mu);
    c->left += (size_t)n;
    if (c->left == 0) {
        hadb_cond_broadcast(&c->cond);
    }
    hadb_mutex_unlock(&c->mu);
}

/* False when the time is over. */
static bool countdown_wait(struct hadb_countdown *c, const struct hadb_env *env,
                           uint64_t deadline_ms)
{
    hadb_mutex_lock(&c->mu);
    uint64_t now = hadb_now_ms(env);
    while (c->left > 0 && now < deadline_ms) {
        hadb_cond_wait_ms(&c->cond, &c->mu,
                          deadline_ms == UINT64_MAX ? UINT64_MAX : deadline_ms - now);
        now = hadb_now_ms(env);
    }
    bool done = c->left == 0;
    hadb_mutex_unlock(&c->mu);
    return done;
}

/* ---- closing ---- */

/* One hand-off that a close waits for; the memory is the request's. */
struct leaving {
    struct hadb_req req;
    struct hadb_countdown *countdown;
    bool resigned;
};

static void left(struct hadb_req *req)
{
    struct leaving *leaving = req->arg;
    struct hadb_db *db = req->db;
    bool again = req->r < 0 && !leaving->resigned && db->state == HADB_DB_OPEN &&
                 hadb__now(db->node) < req->deadline_ms && hadb_core_leads(&db->core);
    if (again) { /* the successor was not ready: whoever wants it */
        uint64_t deadline_ms = req->deadline_ms;
        leaving->resigned = true;
        *req = (struct hadb_req){.kind = HADB_REQ_HANDOFF,
                                 .db = db,
                                 .deadline_ms = deadline_ms,
                                 .done = left,
                                 .arg = leaving};
        hadb__req_start(req);
        return;
    }
    countdown_add(leaving->countdown, -1);
    hadb_free(leaving);
}

static void leave_db(struct hadb_db *db, struct hadb_countdown *countdown, uint64_t deadline_ms)
{
    if (!hadb_core_leads(&db->core)) {
        return;
    }
    struct leaving *leaving = hadb_calloc(1, sizeof *leaving);
    if (!leaving) {
        return;
    }
    const struct hadb_id *follower = hadb__stream_follower(db);
    leaving->countdown = countdown;
    leaving->resigned = follower == NULL;
    leaving->req = (struct hadb_req){.kind = HADB_REQ_HANDOFF,
                                     .db = db,
                                     .deadline_ms = deadline_ms,
                                     .done = left,
                                     .arg = leaving};
    if (follower) {
        leaving->req.to_node = *follower;
    }
    countdown_add(countdown, 1);
    hadb__req_start(&leaving->req);
}

struct closing {
    struct hadb_node *node;
    struct hadb_db *only; /* NULL = all */
    struct hadb_countdown *countdown;
    uint64_t deadline_ms;
    size_t requests_len;
};

static void leave_on_loop(void *arg)
{
    struct closing *closing = arg;
    if (closing->only) {
        leave_db(closing->only, closing->countdown, closing->deadline_ms);
        return;
    }
    for (struct hadb_db *db = closing->node->dbs; db; db = db->next) {
        leave_db(db, closing->countdown, closing->deadline_ms);
    }
}

static void db_stopped(struct hadb_db *db, void *arg)
{
    struct hadb_node *node = arg;
    db->next = node->stopped;
    node->stopped = db;
    countdown_add(&node->stopping, -1);
}

static void stop_on_loop(void *arg)
{
    struct closing *closing = arg;
    struct hadb_node *node = closing->node;
    if (closing->only) {
        countdown_add(&node->stopping, 1);
        hadb__db_stop(closing->only, db_stopped, node);
        return;
    }
    for (struct hadb_db *db = node->dbs, *next; db; db = next) {
        next = db->next;
        if (db->state <= HADB_DB_OPEN) {
            countdown_add(&node->stopping, 1);
            hadb__db_stop(db, db_stopped, node);
        }
    }
}

static void take_stopped(void *arg)
{
    struct closing *closing = arg;
    closing->only = closing->node->stopped;
    closing->node->stopped = NULL;
}

static void record_freed(void *arg)
{
    countdown_add(arg, -1);
}

static void free_record_on_loop(void *arg)
{
    struct closing *closing = arg;
    countdown_add(closing->countdown, 1);
    hadb__peers_free_hint(closing->node, record_freed, closing->countdown);
}

static void stop_modules_on_loop(void *arg)
{
    struct hadb_node *node = arg;
    if (node->peers.hint_timer.loop) {
        hadb__probe_stop(node);
        hadb__outages_stop(node);
        hadb__streams_stop(node);
        hadb__peers_stop(node);
        hadb__turns_stop(node);
    }
}

static void stop_store_on_loop(void *arg)
{
    hadb__store_stop(arg);
}

/* Hands over what can be handed over; waits no longer than @deadline_ms. The countdown outlives stragglers. */
static void leave(struct hadb_node *node, struct hadb_db *only, uint64_t deadline_ms)
{
    struct hadb_countdown countdown;
    hadb__countdown_init(&countdown);
    struct closing closing = {
        .node = node, .only = only, .countdown = &countdown, .deadline_ms = deadline_ms};
    if (hadb_loop_call(node->loop, leave_on_loop, &closing) == 0) {
        /* Every hand-off has its own deadline, so this ends. */
        countdown_wait(&countdown, node->env, UINT64_MAX);
    }
    hadb__countdown_deinit(&countdown);
}

static void count_requests(void *arg)
{
    struct closing *closing = arg;
    closing->requests_len = closing->node->requests_len;
}

/* What was accepted before still gets its answer, here or from the new leader. */
static void drain_requests(struct hadb_node *node, uint64_t deadline_ms)
{
    struct closing closing = {.node = node, .requests_len = 1};
    while (closing.requests_len > 0 && hadb_now_ms(node->env) < deadline_ms &&
           hadb_loop_call(node->loop, count_requests, &closing) == 0) {
        if (closing.requests_len > 0) {
            hadb_sleep_ms(DRAIN_STEP_MS, NULL);
        }
    }
}

/* Frees everything but the databases; false when a thread is stuck in a call and memory stays with it. */
static bool stop_threads(struct hadb_node *node, uint64_t deadline_ms)
{
    bool whole = true;
    if (node->loop) {
        hadb_loop_call(node->loop, stop_modules_on_loop, node);
        hadb_loop_call(node->loop, stop_store_on_loop, node);
    }
    hadb_http_server_stop(node->server);
    hadb_http_client_stop(node->client);
    whole = hadb_pool_stop(node->peers.await_pool, deadline_ms, NULL) == 0 && whole;
    whole = hadb_pool_stop(node->lease_pool, deadline_ms, NULL) == 0 && whole;
    whole = hadb_pool_stop(node->store_pool, deadline_ms, NULL) == 0 && whole;
    whole = hadb_pool_stop(node->engine_pool, deadline_ms, NULL) == 0 && whole;
    if (whole && node->loop) {
        whole = hadb_loop_stop(node->loop, deadline_ms, NULL) == 0;
    }
    return whole;
}

void hadb__node_free(struct hadb_node *node, uint64_t deadline_ms)
{
    bool whole = stop_threads(node, deadline_ms);
    hadb_callbacks_stop(&node->callbacks);
    if (!whole) {
        hadb_log(node->env, HADB_LOG_ERROR, "node", NULL,
                 "a call to storage does not return: its memory is left behind");
        return;
    }
    hadb__peers_deinit(node);
    hadb__turns_deinit(node);
    hadb_storage_close(&node->storage);
    hadb_lease_close(&node->lease);
    hadb_folder_known_deinit(&node->known);
    hadb_free(node->announced);
    hadb_folder_close(&node->folder);
    hadb__countdown_deinit(&node->stopping);
    hadb_free(node->token);
    hadb_free(node);
}

/* Stops databases; those that have stopped are freed. */
static bool stop_dbs(struct hadb_node *node, struct hadb_db *only, uint64_t deadline_ms)
{
    struct closing closing = {.node = node, .only = only};
    bool done = hadb_loop_call(node->loop, stop_on_loop, &closing) == 0 &&
                countdown_wait(&node->stopping, node->env, deadline_ms);
    closing.only = NULL;
    hadb_loop_call(node->loop, take_stopped, &closing);
    while (closing.only) {
        struct hadb_db *db = closing.only;
        closing.only = db->next;
        hadb__db_free(db);
    }
    return done;
}

/* A close cannot say that it failed: it says so in the log, and everything stays as it is. */
static bool may_close(const struct hadb_node *node, const char *database)
{
    struct hadb_error err = {0};
    if (hadb__may_wait(node, &err) < 0) {
        hadb_log(node->env, HADB_LOG_ERROR, "node", database, "not closed: %s", err.message);
        return false;
    }
    return true;
}

void hadb_node_close(struct hadb_node *node, uint32_t deadline_ms)
{
    if (!node || hadb__node_usable(node, NULL) < 0) {
        return; /* a child's copy: threads, locks and files are the parent's */
    }
    if (!may_close(node, NULL)) {
        return;
    }
    uint64_t now = hadb_now_ms(node->env);
    uint64_t deadline = now + deadline_ms;
    if (node->server) {
        hadb_http_server_quiesce(node->server);
    }
    if (deadline_ms > 0) {
        leave(node, NULL, deadline);
        __atomic_store_n(&node->closing, 1, __ATOMIC_RELEASE);
        drain_requests(node, HADB_MIN(deadline, hadb_now_ms(node->env) + DRAIN_MS));
        struct hadb_countdown countdown;
        hadb__countdown_init(&countdown);
        struct closing closing = {.node = node, .countdown = &countdown};
        if (hadb_loop_call(node->loop, free_record_on_loop, &closing) == 0) {
            countdown_wait(&countdown, node->env,
                           HADB_MIN(deadline, hadb_now_ms(node->env) + node->ttl_ms));
        }
        hadb_loop_call(node->loop, stop_modules_on_loop, node); /* record_freed never runs later */
        hadb__countdown_deinit(&countdown);
    }
    __atomic_store_n(&node->closing, 1, __ATOMIC_RELEASE);
    uint64_t hard = HADB_MAX(deadline, hadb_now_ms(node->env)) + HADB_STOP_MS;
    if (!stop_dbs(node, NULL, hard)) {
        hadb_log(node->env, HADB_LOG_ERROR, "node", NULL,
                 "a call to storage does not return: its memory is left behind");
        return;
    }
    hadb__node_free(node, hard);
}

void hadb_db_close(struct hadb_db *db, uint32_t deadline_ms)
{
    if (!db || hadb__db_usable(db, NULL) < 0) {
        return;
    }
    if (db->local) {
        hadb__local_close(db);
        return;
    }
    struct hadb_node *node = db->node;
    if (!may_close(node, db->name)) {
        return;
    }
    uint64_t deadline = hadb_now_ms(node->env) + deadline_ms;
    if (deadline_ms > 0) {
        leave(node, db, deadline);
    }
    uint64_t hard = HADB_MAX(deadline, hadb_now_ms(node->env)) + HADB_STOP_MS;
    if (!stop_dbs(node, db, hard)) {
        hadb_log(node->env, HADB_LOG_ERROR, "node", db->name,
                 "a call to storage does not return: its memory is left behind");
    }
}
