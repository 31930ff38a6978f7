/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One node: opening, closing, its table of databases, its events.
 *
 * Owns       everything that struct hadb_node points to, in the order in which it is opened.
 * Thread     open and close block on the caller's; tables belong to the loop.
 * Invariants one process per data folder; nothing is served before the node is whole; close is bounded in
 *            time: what a stuck call still uses then is left to it.
 * Happy path folder -> stores -> loop, pools, client, callbacks -> server -> probe -> record, streams.
 * Failure    open undoes what it did; close never fails.
 */
#include "node/kv_private.h"
#include "storage/wrap.h"

#include <stdio.h>

#define TTL_DEFAULT_MS 5000u
#define TTL_MS_MIN 100u
#define TTL_MS_MAX 3600000u
#define WORKERS_DEFAULT 4u
#define WORKERS_MAX 8u
#define ENGINE_WORKERS 2u
#define WINDOW_DEFAULT 2u
#define BODY_BYTES_MAX ((size_t)HADB_BATCH_BYTES_MAX + (1u << 20))
#define DRAIN_STEP_MS 2u
#define DRAIN_MS 1000u
#define STOP_MS 5000u /* for calls that do not come back, beyond the caller's deadline */

/* ---- table of databases ---- */

static size_t hash_bytes(const void *data, size_t len)
{
    return hadb_crc32c(0, data, len) % HADB_DB_HASH_LEN;
}

struct hadb_db *hadb__node_find_db(struct hadb_node *node, const char *name)
{
    struct hadb_db *db = node->by_name[hash_bytes(name, strlen(name))];
    while (db && strcmp(db->name, name) != 0) {
        db = db->hash_next[0];
    }
    return db;
}

struct hadb_db *hadb__node_find_uuid(struct hadb_node *node, const struct hadb_id *uuid)
{
    struct hadb_db *db = node->by_uuid[hash_bytes(uuid->b, sizeof uuid->b)];
    while (db && !hadb_id_eq(&db->uuid, uuid)) {
        db = db->hash_next[1];
    }
    return db;
}

int hadb__node_add_db(struct hadb_node *node, struct hadb_db *db, struct hadb_error *err)
{
    if (hadb__node_find_db(node, db->name) || hadb__node_find_uuid(node, &db->uuid)) {
        return hadb_fail(err, HADB_EBUSY, "database %s is open on this node already", db->name);
    }
    if (node->dbs_len >= HADB_NODE_DATABASES_MAX) {
        return hadb_fail(err, HADB_EBUSY, "a node hosts at most %u databases",
                         HADB_NODE_DATABASES_MAX);
    }
    struct hadb_db **name = &node->by_name[hash_bytes(db->name, strlen(db->name))];
    struct hadb_db **uuid = &node->by_uuid[hash_bytes(db->uuid.b, sizeof db->uuid.b)];
    db->hash_next[0] = *name;
    *name = db;
    db->hash_next[1] = *uuid;
    *uuid = db;
    db->next = node->dbs;
    node->dbs = db;
    node->dbs_len++;
    return 0;
}

void hadb__node_remove_db(struct hadb_node *node, struct hadb_db *db)
{
    struct hadb_db **at = &node->by_name[hash_bytes(db->name, strlen(db->name))];
    while (*at != db) {
        at = &(*at)->hash_next[0];
    }
    *at = db->hash_next[0];
    at = &node->by_uuid[hash_bytes(db->uuid.b, sizeof db->uuid.b)];
    while (*at != db) {
        at = &(*at)->hash_next[1];
    }
    *at = db->hash_next[1];
    at = &node->dbs;
    while (*at != db) {
        at = &(*at)->next;
    }
    *at = db->next;
    node->dbs_len--;
}

/* ---- events ---- */

struct told {
    struct hadb_callback callback;
    struct hadb_node *node;
    struct hadb_node_event event;
    char database[HADB_NAME_BYTES_MAX + 1];
    char leader[HADB_NAME_BYTES_MAX + 1];
    char address[HADB_ADDRESS_BYTES_MAX + 1];
    char text[160];
};

static void run_told(void *arg)
{
    struct told *told = arg;
    told->node->on_event(told->node->event_arg, &told->event);
    hadb_free(told);
}

void hadb__node_tell(struct hadb_node *node, const struct hadb_node_event *event)
{
    if (!node->on_event || hadb_callbacks_len(&node->callbacks) >= HADB_CALLBACKS_MAX) {
        return;
    }
    struct told *told = hadb_calloc(1, sizeof *told);
    if (!told) {
        return;
    }
    told->node = node;
    told->event = *event;
    snprintf(told->database, sizeof told->database, "%s", event->database);
    snprintf(told->leader, sizeof told->leader, "%s", event->leader);
    snprintf(told->address, sizeof told->address, "%s", event->leader_address);
    snprintf(told->text, sizeof told->text, "%s", event->text);
    told->event.database = told->database;
    told->event.leader = told->leader;
    told->event.leader_address = told->address;
    told->event.text = told->text;
    told->callback = (struct hadb_callback){.fn = run_told, .arg = told};
    hadb_callbacks_post(&node->callbacks, &told->callback);
}

/* ---- waiting for the loop ---- */

static void countdown_init(struct hadb_countdown *c)
{
    hadb_mutex_init(&c->mu, 0);
    hadb_cond_init(&c->cond);
    c->left = 0;
}

static void countdown_deinit(struct hadb_countdown *c)
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

/* ---- opening ---- */

static int check_options(const struct hadb_node_options *o, struct hadb_error *err)
{
    if (o->abi != HADB_NODE_ABI) {
        return hadb_fail(err, HADB_EINVAL, "options were not made with HADB_NODE_OPTIONS_INIT");
    }
    if (!o->name || !hadb_name_valid(o->name)) {
        return hadb_fail(err, HADB_EINVAL,
                         "name: a node needs one of 1 to %u characters out of A-Z a-z 0-9 . _ -",
                         HADB_NAME_BYTES_MAX);
    }
    if (!o->data_dir || !o->data_dir[0]) {
        return hadb_fail(err, HADB_EINVAL, "data_dir: a node needs a folder of its own");
    }
    if ((!o->storage_url || !o->storage_url[0]) && !o->storage) {
        return hadb_fail(err, HADB_EINVAL, "storage_url: say where the history lives");
    }
    if ((!o->lease_url || !o->lease_url[0]) && !o->lease) {
        return hadb_fail(err, HADB_EINVAL, "lease_url: say where nodes leave their records");
    }
    if (o->ttl_ms != 0 && (o->ttl_ms < TTL_MS_MIN || o->ttl_ms > TTL_MS_MAX)) {
        return hadb_fail(err, HADB_EINVAL, "ttl_ms: %u to %u", TTL_MS_MIN, TTL_MS_MAX);
    }
    if (o->worker_threads > WORKERS_MAX || o->window > HADB_WINDOW_MAX) {
        return hadb_fail(err, HADB_EINVAL, "worker_threads: at most %u; window: at most %u",
                         WORKERS_MAX, HADB_WINDOW_MAX);
    }
    if (o->token && strlen(o->token) > HADB_TOKEN_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "token: at most %u bytes", HADB_TOKEN_BYTES_MAX);
    }
    return 0;
}

static int open_stores(struct hadb_node *node, const struct hadb_node_options *o,
                       struct hadb_error *err)
{
    int r = 0;
    snprintf(node->store_url, sizeof node->store_url, "%s",
             o->storage ? o->storage->ops->scheme : o->storage_url);
    if (o->storage) {
        r = hadb_storage_check(o->storage, err);
    } else {
        r = hadb_wrap(err, hadb_storage_open(o->storage_url, node->env, &node->storage, err),
                      "storage %s", o->storage_url);
    }
    if (r == 0 && o->lease) {
        r = hadb_lease_check(o->lease, err);
    } else if (r == 0) {
        r = hadb_wrap(err, hadb_lease_open(o->lease_url, node->env, &node->lease, err), "lease %s",
                      o->lease_url);
    }
    return r;
}

/* Stores that were handed over become the node's last, when nothing else can fail. */
static int wrap_stores(struct hadb_node *node, const struct hadb_node_options *o,
                       struct hadb_error *err)
{
    struct hadb_storage *inner = o->storage ? o->storage : &node->storage;
    int r = hadb_storage_with_trace(inner, &node->storage_counters, node->env, &node->storage, err);
    if (r == 0) {
        r = hadb_storage_with_retry(&node->storage, NULL, node->env, &node->storage, err);
    }
    if (r == 0 && o->lease) {
        node->lease = *o->lease;
        *o->lease = (struct hadb_lease){0};
    }
    return r;
}

static int start_threads(struct hadb_node *node, const struct hadb_node_options *o,
                         struct hadb_error *err)
{
    struct hadb_pool_options engines = {.name = "hadb-engine", .threads_len = ENGINE_WORKERS};
    struct hadb_pool_options stores = {.name = "hadb-store",
                                       .threads_len =
                                           o->worker_threads ? o->worker_threads : WORKERS_DEFAULT};
    struct hadb_pool_options leases = {.name = "hadb-lease", .threads_len = 1};
    struct hadb_http_client_options client = {.token = node->token};
    int r = hadb_callbacks_start(&node->callbacks, err);
    if (r == 0) {
        r = hadb_loop_start(node->env, &node->loop, err);
    }
    if (r == 0) {
        r = hadb_pool_start(node->loop, &engines, &node->engine_pool, err);
    }
    if (r == 0) {
        r = hadb_pool_start(node->loop, &stores, &node->store_pool, err);
    }
    if (r == 0) {
        r = hadb_pool_start(node->loop, &leases, &node->lease_pool, err);
    }
    if (r == 0) {
        r = hadb_http_client_start(node->loop, &client, &node->client, err);
    }
    return r;
}

static int check_address(const struct hadb_node_options *o, const char *listen,
                         struct hadb_error *err)
{
    struct hadb_net_address address, advertised;
    int r = hadb_net_parse(listen, &address, err);
    if (r < 0) {
        return hadb_wrap(err, r, "listen");
    }
    if (o->advertise && o->advertise[0]) {
        r = hadb_wrap(err, hadb_net_parse(o->advertise, &advertised, err), "advertise");
        if (r == 0 &&
            (hadb_net_is_wildcard(&advertised) || strlen(o->advertise) > HADB_ADDRESS_BYTES_MAX)) {
            r = hadb_fail(err, HADB_EINVAL, "advertise: %s is no address that others can reach",
                          o->advertise);
        }
        return r;
    }
    if (hadb_net_is_wildcard(&address)) {
        return hadb_fail(err, HADB_EINVAL,
                         "listen on %s: say with advertise which address other nodes shall use",
                         listen);
    }
    return 0;
}

static int start_server(struct hadb_node *node, const struct hadb_node_options *o,
                        struct hadb_error *err)
{
    const char *listen = o->listen ? o->listen : "127.0.0.1:4280";
    if (!listen[0]) {
        return 0;
    }
    int r = check_address(o, listen, err);
    if (r < 0) {
        return r;
    }
    struct hadb_http_server_options options = {.listen = listen,
                                               .token = node->token,
                                               .handler = hadb__api_handle,
                                               .exempt = hadb__api_exempt,
                                               .arg = node,
                                               .body_bytes_max = BODY_BYTES_MAX};
    r = hadb_http_server_start(node->loop, &options, &node->server, err);
    if (r < 0) {
        return r;
    }
    const char *own = hadb_http_server_address(node->server);
    snprintf(node->address, sizeof node->address, "%s",
             o->advertise && o->advertise[0] ? o->advertise : own);
    return hadb_folder_write_address(&node->folder, own, err);
}

struct open_on_loop {
    struct hadb_node *node;
    struct hadb_error *err;
    int r;
};

static void start_on_loop(void *arg)
{
    struct open_on_loop *open = arg;
    open->r = hadb__peers_start(open->node, open->err);
    if (open->r == 0) {
        open->r = hadb__streams_start(open->node, open->err);
    }
}

static void node_free(struct hadb_node *node, uint64_t deadline_ms);

static int node_start(struct hadb_node *node, const struct hadb_node_options *o,
                      struct hadb_error *err)
{
    int r = hadb_folder_open(node->env, o->data_dir, &node->folder, err);
    if (r == 0) {
        node->self.node = node->folder.id;
        hadb_id_random(node->env, &node->self.incarnation);
        r = open_stores(node, o, err);
    }
    if (r == 0) {
        r = start_threads(node, o, err);
    }
    if (r == 0) {
        r = start_server(node, o, err);
    }
    if (r == 0) {
        r = wrap_stores(node, o, err);
    }
    if (r == 0) {
        r = hadb__catalog_probe(node, &node->may_lead, err);
    }
    if (r == 0) {
        struct open_on_loop open = {.node = node, .err = err};
        r = hadb_loop_call(node->loop, start_on_loop, &open);
        r = r < 0 ? r : open.r;
    }
    return r;
}

int hadb_node_open(const struct hadb_node_options *options, struct hadb_node **out,
                   struct hadb_error *err)
{
    struct hadb_error own;
    err = err ? err : &own;
    *err = (struct hadb_error){0};
    int r = check_options(options, err);
    if (r < 0) {
        return r;
    }
    struct hadb_node *node = hadb_calloc(1, sizeof *node);
    if (!node) {
        return hadb_fail_nomem(err);
    }
    node->env = hadb_env_or_host(options->env);
    node->ttl_ms = options->ttl_ms ? options->ttl_ms : TTL_DEFAULT_MS;
    node->window = options->window ? options->window : WINDOW_DEFAULT;
    node->never_lead = options->never_lead;
    node->on_event = options->on_event;
    node->event_arg = options->event_arg;
    node->closing = 1; /* not yet */
    countdown_init(&node->stopping);
    snprintf(node->name, sizeof node->name, "%s", options->name);
    if (options->token && options->token[0]) {
        node->token = hadb_strdup(options->token);
        r = node->token ? 0 : hadb_fail_nomem(err);
    }
    r = r < 0 ? r : node_start(node, options, err);
    if (r < 0) {
        node_free(node, hadb_now_ms(node->env) + STOP_MS);
        return r;
    }
    __atomic_store_n(&node->closing, 0, __ATOMIC_RELEASE);
    *out = node;
    return 0;
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
        if (db->state == HADB_DB_OPEN) {
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
        hadb__streams_stop(node);
        hadb__peers_stop(node);
    }
}

/* Hands over what can be handed over; waits no longer than @deadline_ms. The countdown outlives stragglers. */
static void leave(struct hadb_node *node, struct hadb_db *only, uint64_t deadline_ms)
{
    struct hadb_countdown countdown;
    countdown_init(&countdown);
    struct closing closing = {
        .node = node, .only = only, .countdown = &countdown, .deadline_ms = deadline_ms};
    if (hadb_loop_call(node->loop, leave_on_loop, &closing) == 0) {
        /* Every hand-off has its own deadline, so this ends. */
        countdown_wait(&countdown, node->env, UINT64_MAX);
    }
    countdown_deinit(&countdown);
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
    }
    hadb_http_server_stop(node->server);
    hadb_http_client_stop(node->client);
    whole = hadb_pool_stop(node->lease_pool, deadline_ms, NULL) == 0 && whole;
    whole = hadb_pool_stop(node->store_pool, deadline_ms, NULL) == 0 && whole;
    whole = hadb_pool_stop(node->engine_pool, deadline_ms, NULL) == 0 && whole;
    if (whole && node->loop) {
        whole = hadb_loop_stop(node->loop, deadline_ms, NULL) == 0;
    }
    return whole;
}

static void node_free(struct hadb_node *node, uint64_t deadline_ms)
{
    bool whole = stop_threads(node, deadline_ms);
    hadb_callbacks_stop(&node->callbacks);
    if (!whole) {
        hadb_log(node->env, HADB_LOG_ERROR, "node", NULL,
                 "a call to storage does not return: its memory is left behind");
        return;
    }
    hadb__peers_deinit(node);
    hadb_storage_close(&node->storage);
    hadb_lease_close(&node->lease);
    hadb_folder_close(&node->folder);
    countdown_deinit(&node->stopping);
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

void hadb_node_close(struct hadb_node *node, uint32_t deadline_ms)
{
    if (!node) {
        return;
    }
    HADB_ASSERT(!hadb_callbacks_on(&node->callbacks));
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
        countdown_init(&countdown);
        struct closing closing = {.node = node, .countdown = &countdown};
        if (hadb_loop_call(node->loop, free_record_on_loop, &closing) == 0) {
            countdown_wait(&countdown, node->env,
                           HADB_MIN(deadline, hadb_now_ms(node->env) + node->ttl_ms));
        }
        hadb_loop_call(node->loop, stop_modules_on_loop, node); /* record_freed never runs later */
        countdown_deinit(&countdown);
    }
    __atomic_store_n(&node->closing, 1, __ATOMIC_RELEASE);
    uint64_t hard = HADB_MAX(deadline, hadb_now_ms(node->env)) + STOP_MS;
    if (!stop_dbs(node, NULL, hard)) {
        hadb_log(node->env, HADB_LOG_ERROR, "node", NULL,
                 "a call to storage does not return: its memory is left behind");
        return;
    }
    node_free(node, hard);
}

/* ---- databases ---- */

struct start_db {
    struct hadb_db *db;
    const struct hadb_db_options *options;
    struct hadb_error *err;
    int r;
};

static void start_db_on_loop(void *arg)
{
    struct start_db *start = arg;
    start->r = hadb__db_start(start->db, start->options, start->err);
}

int hadb_db_open(struct hadb_node *node, const char *name, const struct hadb_db_options *options,
                 struct hadb_db **out, struct hadb_error *err)
{
    static const struct hadb_db_options defaults = HADB_DB_OPTIONS_INIT;
    options = options ? options : &defaults;
    struct hadb_error own;
    err = err ? err : &own;
    *err = (struct hadb_error){0};
    if (!name || !hadb_name_valid(name)) {
        return hadb_fail(err, HADB_EINVAL,
                         "a database needs a name of 1 to %u characters out of A-Z a-z 0-9 . _ -",
                         HADB_NAME_BYTES_MAX);
    }
    if (options->abi != HADB_NODE_ABI || options->ack > HADB_ACK_BOTH) {
        return hadb_fail(err, HADB_EINVAL, "options were not made with HADB_DB_OPTIONS_INIT");
    }
    struct hadb_db *db = NULL;
    int r = hadb__db_new(node, name, options, &db, err);
    if (r < 0) {
        return r;
    }
    struct start_db start = {.db = db, .options = options, .err = err};
    r = hadb_loop_call(node->loop, start_db_on_loop, &start);
    r = r < 0 ? r : start.r;
    if (r < 0) {
        hadb__db_free(db);
        return r;
    }
    *out = db;
    return 0;
}

void hadb_db_close(struct hadb_db *db, uint32_t deadline_ms)
{
    if (!db) {
        return;
    }
    if (db->local) {
        hadb__local_close(db);
        return;
    }
    struct hadb_node *node = db->node;
    HADB_ASSERT(!hadb_callbacks_on(&node->callbacks));
    uint64_t deadline = hadb_now_ms(node->env) + deadline_ms;
    if (deadline_ms > 0) {
        leave(node, db, deadline);
    }
    uint64_t hard = HADB_MAX(deadline, hadb_now_ms(node->env)) + STOP_MS;
    if (!stop_dbs(node, db, hard)) {
        hadb_log(node->env, HADB_LOG_ERROR, "node", db->name,
                 "a call to storage does not return: its memory is left behind");
    }
}
