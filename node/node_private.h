/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One node of a cluster, inside: what all files of node/ share. Loop thread only, unless marked.
 */
#ifndef HADB_NODE_PRIVATE_H
#define HADB_NODE_PRIVATE_H

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/id.h"
#include "base/url.h"
#include "core/pace.h"
#include "hadb/node.h"
#include "node/db.h"
#include "node/db_jobs.h"
#include "node/http_client.h"
#include "node/http_server.h"
#include "node/net.h"
#include "node/outage.h"
#include "node/peers.h"
#include "node/probe.h"
#include "node/stream.h"
#include "storage/counters.h"

#define HADB_STORE_READ_MS 5000u    /* deadline of one read from storage */
#define HADB_STORE_WRITE_MS 15000u  /* … of one create or replace */
#define HADB_STORE_BULK_MS 3600000u /* … of a whole snapshot, up or down */
#define HADB_STOP_MS 5000u /* for calls that do not come back, beyond the caller's deadline */
#define HADB_DB_HASH_LEN 1024u

/* What a request is submitted with at most; larger bodies take so long to sign that a worker does it. */
#define HADB_SUBMIT_BYTES_MAX (256u << 10)

struct hadb_store_watch;

/* Counts things that end on the loop, for a thread that waits. */
struct hadb_countdown {
    struct hadb_mutex mu;
    struct hadb_cond cond;
    size_t left; /* mu */
};

struct hadb_node {
    /* const after open */
    int64_t process; /* a child made by fork() has the handles, but neither threads nor locks */
    const struct hadb_env *env;
    char name[HADB_NAME_BYTES_MAX + 1];
    char address[HADB_ADDRESS_BYTES_MAX + 1]; /* "" = no server */
    struct hadb_owner self;
    struct hadb_folder folder;
    struct hadb_folder_known known; /* databases that were here when the node was opened */
    char (*announced)[HADB_NAME_BYTES_MAX + 1]; /* databases that the application will open */
    size_t announced_len;
    char *token;
    uint32_t window;
    uint32_t ttl_ms;
    bool never_lead;
    char store_url[HADB_URL_SHOWN_BYTES]; /* for messages */
    char store_scheme[32];                /* names the kept result of the probe */
    hadb_event_fn on_event;
    void *event_arg;
    struct hadb_storage storage;
    struct hadb_lease lease;
    struct hadb_loop *loop;
    struct hadb_pool *engine_pool, *store_pool, *lease_pool;
    struct hadb_http_client *client;
    struct hadb_http_server *server;
    struct hadb_callbacks callbacks;
    struct hadb_storage_counters storage_counters; /* atomic */
    struct hadb_node_counters counters;            /* atomic */
    int closing;                                   /* atomic: refuse new requests */
    int store_silent;                              /* atomic: it did not answer when asked last */
    struct hadb_countdown stopping;                /* databases that have not stopped yet */

    /* loop */
    struct hadb_db *dbs;
    struct hadb_db *stopped; /* to be freed by whoever closes */
    size_t dbs_len;
    struct hadb_db *by_name[HADB_DB_HASH_LEN];
    struct hadb_db *by_uuid[HADB_DB_HASH_LEN];
    size_t requests_len; /* under way */
    uint64_t requests_bytes;
    struct hadb_pace pace; /* its items: one for each database */
    struct hadb_timer turn_timer;
    struct hadb_peers peers;
    struct hadb_streams streams;
    struct hadb_prober probe;
    struct hadb_outages outages;
    struct hadb_store_watch *store_watch; /* store.c; NULL = storage has no asynchronous path */
};

/* node.c */
struct hadb_db *hadb__node_find_db(struct hadb_node *node, const char *name);
struct hadb_db *hadb__node_find_uuid(struct hadb_node *node, const struct hadb_id *uuid);
int hadb__node_add_db(struct hadb_node *node, struct hadb_db *db, struct hadb_error *err);
void hadb__node_add_uuid(struct hadb_node *node, struct hadb_db *db); /* once its uuid is known */
void hadb__node_remove_db(struct hadb_node *node, struct hadb_db *db);
/* Not open, but expected to be: it was announced, or (when nothing was) its copy is in the data folder. */
bool hadb__node_expects(const struct hadb_node *node, const char *name);
/* The first announced database that is not open; NULL = all are. */
const char *hadb__node_unopened(struct hadb_node *node);
/* Any thread: copies the event and runs the application's callback later. */
void hadb__node_tell(struct hadb_node *node, const struct hadb_node_event *event);

/* node_close.c; any thread but the loop */
void hadb__countdown_init(struct hadb_countdown *c);
void hadb__countdown_deinit(struct hadb_countdown *c);
void hadb__node_free(struct hadb_node *node, uint64_t deadline_ms);

/* turns.c: whose turn it is to seal */
int hadb__turns_start(struct hadb_node *node, struct hadb_error *err);
void hadb__turns_stop(struct hadb_node *node);
void hadb__turns_deinit(struct hadb_node *node); /* any thread, once the loop is gone */
/* Room for one database more. */
int hadb__turns_reserve(struct hadb_node *node, struct hadb_error *err);
void hadb__turn_ask(struct hadb_db *db);
void hadb__turn_cancel(struct hadb_db *db);

/* store.c: storage as the loop sees it */
int hadb__store_start(struct hadb_node *node, struct hadb_error *err);
void hadb__store_stop(struct hadb_node *node);
/* As hadb_storage_submit(). */
int hadb__store_submit(struct hadb_node *node, struct hadb_storage_io *io, struct hadb_error *err);

/* catalog.c: the uuid of a name, made if need be; blocks; any thread. A retryable failure: no answer. */
int hadb__catalog_open(struct hadb_node *node, const char *name, const char *engine,
                       const struct hadb_cancel *cancel, struct hadb_id *uuid,
                       struct hadb_error *err);

/* status.c */
int hadb__status_json(struct hadb_node *node, struct hadb_buf *out);
int hadb__metrics_text(struct hadb_node *node, struct hadb_buf *out);

/* api.c, api_kv.c, api_peer.c: HTTP */
void hadb__api_handle(void *arg, struct hadb_http_exchange *exchange,
                      const struct hadb_http_request *request);
bool hadb__api_exempt(void *arg, enum hadb_http_method method, struct hadb_slice path);
size_t hadb__api_body_max(void *arg, enum hadb_http_method method, struct hadb_slice path);
void hadb__api_kv(struct hadb_node *node, struct hadb_db *db, struct hadb_http_exchange *exchange,
                  const struct hadb_http_request *request, struct hadb_slice key_text);
void hadb__api_scan(struct hadb_node *node, struct hadb_db *db, struct hadb_http_exchange *exchange,
                    const struct hadb_http_request *request);
void hadb__api_batch(struct hadb_node *node, struct hadb_db *db,
                     struct hadb_http_exchange *exchange, const struct hadb_http_request *request);
void hadb__api_handoff(struct hadb_node *node, struct hadb_db *db,
                       struct hadb_http_exchange *exchange,
                       const struct hadb_http_request *request);
void hadb__api_forward(struct hadb_node *node, struct hadb_db *db,
                       struct hadb_http_exchange *exchange,
                       const struct hadb_http_request *request);
void hadb__api_ready(struct hadb_node *node, struct hadb_db *db,
                     struct hadb_http_exchange *exchange, const struct hadb_http_request *request);
void hadb__api_poke(struct hadb_node *node, struct hadb_db *db, struct hadb_http_exchange *exchange,
                    const struct hadb_http_request *request);
/* HTTP status of a failure, as issue 3 lists them. */
unsigned hadb__api_status(int r);
void hadb__api_error(struct hadb_http_exchange *exchange, int r, const struct hadb_error *err);

static inline uint64_t hadb__now(const struct hadb_node *node)
{
    return hadb_now_ms(node->env);
}
#endif
