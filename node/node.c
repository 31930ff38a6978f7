/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One node: opening it, its table of databases, its events.
 *
 * Owns       everything that struct hadb_node points to, in the order in which it is opened.
 * Thread     open blocks on the caller's; tables belong to the loop.
 * Invariants one process per data folder; nothing is served before the node is whole; nothing is made on disk before
 *            all that the caller can have got wrong is known to be right.
 * Happy path storage -> loop, pools, client, callbacks -> server -> lease -> folder -> probe -> record, streams.
 * Failure    open undoes what it did; a storage that does not answer is no failure (probe.c, opening.c).
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
#define BREAKER_OPEN_MS \
    250u /* a burst of broken connections looks like a store in trouble: not long */
#define FILES_PER_DATABASE \
    4u /* kept open: lock, newest segment, and while one ends its successor */
#define BODY_BYTES_MAX ((size_t)HADB_BATCH_BYTES_MAX + (1u << 20))

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
    if (hadb__node_find_db(node, db->name)) {
        return hadb_fail(err, HADB_EBUSY, "database %s is open on this node already", db->name);
    }
    if (node->dbs_len >= HADB_NODE_DATABASES_MAX) {
        return hadb_fail(err, HADB_EBUSY, "a node hosts at most %u databases",
                         HADB_NODE_DATABASES_MAX);
    }
    int r = hadb__turns_reserve(node, err);
    if (r < 0) {
        return r;
    }
    struct hadb_db **name = &node->by_name[hash_bytes(db->name, strlen(db->name))];
    db->hash_next[0] = *name;
    *name = db;
    db->next = node->dbs;
    node->dbs = db;
    node->dbs_len++;
    return 0;
}

void hadb__node_add_uuid(struct hadb_node *node, struct hadb_db *db)
{
    HADB_ASSERT(!hadb_id_is_zero(&db->uuid) && !hadb__node_find_uuid(node, &db->uuid));
    struct hadb_db **uuid = &node->by_uuid[hash_bytes(db->uuid.b, sizeof db->uuid.b)];
    db->hash_next[1] = *uuid;
    *uuid = db;
}

void hadb__node_remove_db(struct hadb_node *node, struct hadb_db *db)
{
    struct hadb_db **at = &node->by_name[hash_bytes(db->name, strlen(db->name))];
    while (*at != db) {
        at = &(*at)->hash_next[0];
    }
    *at = db->hash_next[0];
    at = &node->by_uuid[hash_bytes(db->uuid.b, sizeof db->uuid.b)];
    while (*at && *at != db) { /* one that storage has not named yet is not in it */
        at = &(*at)->hash_next[1];
    }
    if (*at) {
        *at = db->hash_next[1];
    }
    at = &node->dbs;
    while (*at != db) {
        at = &(*at)->next;
    }
    *at = db->next;
    node->dbs_len--;
    hadb__turn_cancel(db);
}

/* ---- databases that are not open yet ---- */

bool hadb__node_expects(const struct hadb_node *node, const char *name)
{
    for (size_t i = 0; i < node->announced_len; i++) {
        if (strcmp(node->announced[i], name) == 0) {
            return true;
        }
    }
    for (size_t i = 0; node->announced_len == 0 && i < node->known.len; i++) {
        if (strcmp(node->known.items[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

const char *hadb__node_unopened(struct hadb_node *node)
{
    for (size_t i = 0; i < node->announced_len; i++) {
        if (!hadb__node_find_db(node, node->announced[i])) {
            return node->announced[i];
        }
    }
    return NULL;
}

static int announce(struct hadb_node *node, const struct hadb_node_options *o,
                    struct hadb_error *err)
{
    if (o->databases_len == 0) {
        return 0;
    }
    node->announced = hadb_calloc(o->databases_len, sizeof *node->announced);
    if (!node->announced) {
        return hadb_fail_nomem(err);
    }
    for (size_t i = 0; i < o->databases_len; i++) {
        snprintf(node->announced[i], sizeof node->announced[i], "%s", o->databases[i]);
    }
    node->announced_len = o->databases_len;
    return 0;
}

/* ---- events ---- */

struct told {
    struct hadb_callback callback;
    struct hadb_node *node;
    struct hadb_node_event event;
    char database[HADB_NAME_BYTES_MAX + 1];
    char leader[HADB_NAME_BYTES_MAX + 1];
    char address[HADB_ADDRESS_BYTES_MAX + 1];
    char text[sizeof((struct hadb_error *)0)->message + 64];
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
    if (o->databases_len > HADB_NODE_DATABASES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "databases: at most %u", HADB_NODE_DATABASES_MAX);
    }
    for (size_t i = 0; i < o->databases_len; i++) {
        int r = hadb_db_check(o->databases[i], NULL, err);
        if (r < 0) {
            return hadb_wrap(err, r, "databases");
        }
    }
    return 0;
}

static int open_storage(struct hadb_node *node, const struct hadb_node_options *o,
                        struct hadb_error *err)
{
    hadb_url_redact(o->storage ? o->storage->ops->scheme : o->storage_url, node->store_url,
                    sizeof node->store_url);
    return o->storage ? hadb_storage_check(o->storage, err)
                      : hadb_storage_open(o->storage_url, node->env, &node->storage, err);
}

static int open_lease(struct hadb_node *node, const struct hadb_node_options *o,
                      struct hadb_error *err)
{
    return o->lease ? hadb_lease_check(o->lease, err)
                    : hadb_lease_open(o->lease_url, node->env, &node->lease, err);
}

/* Stores that were handed over become the node's last, when nothing else can fail. */
static int wrap_stores(struct hadb_node *node, const struct hadb_node_options *o,
                       struct hadb_error *err)
{
    struct hadb_storage *inner = o->storage ? o->storage : &node->storage;
    snprintf(node->store_scheme, sizeof node->store_scheme, "%s", inner->ops->scheme);
    struct hadb_breaker_options breaker = {.open_ms = BREAKER_OPEN_MS};
    int r = hadb_storage_with_trace(inner, &node->storage_counters, node->env, &node->storage, err);
    if (r == 0) {
        r = hadb_storage_with_breaker(&node->storage, &breaker, node->env, &node->storage, err);
    }
    if (r == 0) {
        r = hadb_storage_with_limit(&node->storage, NULL, node->env, &node->storage, err);
    }
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
    struct hadb_http_server_options options = {
        .listen = listen,
        .token = node->token,
        .handler = hadb__api_handle,
        .exempt = hadb__api_exempt,
        .body_max = hadb__api_body_max,
        .arg = node,
        .body_bytes_max = BODY_BYTES_MAX,
        .files_extra = (unsigned)o->databases_len * FILES_PER_DATABASE,
    };
    r = hadb_http_server_start(node->loop, &options, &node->server, err);
    if (r < 0) {
        return r;
    }
    const char *own = hadb_http_server_address(node->server);
    snprintf(node->address, sizeof node->address, "%s",
             o->advertise && o->advertise[0] ? o->advertise : own);
    return 0;
}

static int take_folder(struct hadb_node *node, const struct hadb_node_options *o,
                       struct hadb_error *err)
{
    int r = hadb_folder_open(node->env, o->data_dir, &node->folder, err);
    if (r == 0) {
        r = hadb_folder_index(&node->folder, &node->known, err);
    }
    if (r == 0 && node->server) {
        r = hadb_folder_write_address(&node->folder, hadb_http_server_address(node->server), err);
    }
    node->self.node = node->folder.id;
    hadb_id_random(node->env, &node->self.incarnation);
    return r;
}

struct open_on_loop {
    struct hadb_node *node;
    struct hadb_error *err;
    int r;
};

static void start_on_loop(void *arg)
{
    struct open_on_loop *open = arg;
    open->r = hadb__store_start(open->node, open->err);
    if (open->r == 0) {
        open->r = hadb__peers_start(open->node, open->err);
    }
    if (open->r == 0) {
        open->r = hadb__streams_start(open->node, open->err);
    }
    if (open->r == 0) {
        open->r = hadb__turns_start(open->node, open->err);
    }
    if (open->r == 0) {
        open->r = hadb__outages_start(open->node, open->err);
    }
    if (open->r == 0) {
        open->r = hadb__probe_start(open->node, open->err);
    }
}

/* A thread that waits for news of leaders' records, where the lease store tells of them. */
static int start_awaits(struct hadb_node *node, struct hadb_error *err)
{
    struct hadb_pool_options awaits = {.name = "hadb-watch", .threads_len = HADB_AWAITED_MAX};
    return hadb_lease_tells(&node->lease)
               ? hadb_pool_start(node->loop, &awaits, &node->peers.await_pool, err)
               : 0;
}

static int node_start(struct hadb_node *node, const struct hadb_node_options *o,
                      struct hadb_error *err)
{
    int r = announce(node, o, err);
    if (r == 0) {
        r = open_storage(node, o, err); /* reads the URL; makes nothing yet */
    }
    if (r == 0) {
        r = start_threads(node, o, err);
    }
    if (r == 0) {
        r = start_server(node, o, err);
    }
    if (r == 0) {
        r = open_lease(node, o, err);
    }
    if (r == 0) {
        r = take_folder(node, o, err);
    }
    if (r == 0) {
        r = wrap_stores(node, o, err);
    }
    if (r == 0) {
        r = start_awaits(node, err);
    }
    if (r == 0) {
        r = hadb__probe_at_open(node, err);
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
    int r = options && out ? check_options(options, err) : hadb_fail_misuse(err, __func__);
    if (r < 0) {
        return r;
    }
    struct hadb_node *node = hadb_calloc(1, sizeof *node);
    if (!node) {
        return hadb_fail_nomem(err);
    }
    node->process = hadb_process_id();
    node->env = hadb_env_or_host(options->env);
    node->ttl_ms = options->ttl_ms ? options->ttl_ms : TTL_DEFAULT_MS;
    node->window = options->window ? options->window : WINDOW_DEFAULT;
    node->never_lead = options->never_lead;
    node->probe.every_ms =
        options->probe_every_ms ? options->probe_every_ms : HADB_PROBE_EVERY_MS_DEFAULT;
    node->on_event = options->on_event;
    node->event_arg = options->event_arg;
    node->closing = 1; /* not yet */
    hadb__countdown_init(&node->stopping);
    snprintf(node->name, sizeof node->name, "%s", options->name);
    if (options->token && options->token[0]) {
        node->token = hadb_strdup(options->token);
        r = node->token ? 0 : hadb_fail_nomem(err);
    }
    r = r < 0 ? r : node_start(node, options, err);
    if (r < 0) {
        hadb__node_free(node, hadb_now_ms(node->env) + HADB_STOP_MS);
        return r;
    }
    __atomic_store_n(&node->closing, 0, __ATOMIC_RELEASE);
    *out = node;
    return 0;
}
