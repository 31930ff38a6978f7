/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who else is there: this node's own lease record, what is known of other nodes, and one watcher with one
 * stream for each other process that owns a database here.
 *
 * A record in the lease store, key "node/<name>", little-endian:
 *
 *        0     8  magic "HADBNODE"
 *        8     1  version, 1
 *        9     1  state: 1 live, 2 free
 *       10     1  length of the name
 *       11     1  length of the address
 *       12     4  ttl, milliseconds
 *       16    16  node id
 *       32    16  incarnation
 *       48     8  counter
 *       56     4  number of databases given up
 *       60     …  name, address, uuids of databases given up (16 each)
 *        …     4  CRC-32C of all before
 *
 * Loop thread only, unless marked.
 */
#ifndef HADB_NODE_PEERS_H
#define HADB_NODE_PEERS_H

#include "core/hint.h"
#include "hadb/lease.h"
#include "hadb/node.h"
#include "node/http_client.h"
#include "node/loop.h"
#include "node/pool.h"

#define HADB_NODES_MAX 1024u /* other nodes that one node remembers */
#define HADB_AWAITED_MAX 1u /* nodes whose record is awaited at a time; others are read meanwhile */
#define HADB_GIVEN_UP_MAX 2048u /* databases in one record */
#define HADB_NODE_RECORD_BYTES_MAX (60u + 64u + 255u + 16u * HADB_GIVEN_UP_MAX + 4u)

struct hadb_node;
struct hadb_db;
struct hadb_link;

struct hadb_node_record {
    enum hadb_hint_state state;
    uint32_t ttl_ms;
    struct hadb_owner owner;
    uint64_t counter;
    char name[HADB_NAME_BYTES_MAX + 1];
    char address[HADB_ADDRESS_BYTES_MAX + 1];
    struct hadb_id *given_up; /* owned */
    size_t given_up_len;
};
void hadb_node_record_deinit(struct hadb_node_record *record);
/* Any thread. Appends. */
int hadb_node_record_encode(const struct hadb_node_record *record, struct hadb_buf *out,
                            struct hadb_error *err);
/* Any thread. HADB_ECORRUPT, HADB_EVERSION, HADB_ENOMEM. */
int hadb_node_record_decode(struct hadb_slice bytes, struct hadb_node_record *out,
                            struct hadb_error *err);

/* A node by its id: where it was last. */
struct hadb_known {
    struct hadb_id node;
    char name[HADB_NAME_BYTES_MAX + 1];
    char address[HADB_ADDRESS_BYTES_MAX + 1];
    struct hadb_known *next;
};

/* Another process that owns at least one database here. */
struct hadb_peer {
    struct hadb_node *node;
    struct hadb_owner owner;
    char name[HADB_NAME_BYTES_MAX + 1];
    char address[HADB_ADDRESS_BYTES_MAX + 1]; /* "" = not known yet */
    struct hadb_watch watch;
    enum hadb_liveness told; /* verdict that the databases have */
    struct hadb_timer timer;
    struct hadb_job job;        /* reading its record */
    bool busy;                  /* a read or a check is under way */
    bool doomed;                /* free it when nothing is under way */
    struct hadb_buf read_bytes; /* job */
    struct hadb_tag read_tag;   /* job */
    int read_r;                 /* job */
    /* Being told when its record changes. */
    struct hadb_job await_job;
    bool awaiting;                   /* the job is under way */
    struct hadb_tag await_tag;       /* job: the record as read last */
    struct hadb_cancel await_cancel; /* the job ends soon */
    int await_r;                     /* job */
    struct hadb_error await_err;     /* job */
    struct hadb_id *given_up;        /* its record's list */
    size_t given_up_len;
    bool refuses_token;     /* ours: nothing can be forwarded to it */
    struct hadb_link *link; /* stream.h */
    struct hadb_db *dbs;    /* that it owns, linked by peer_next */
    size_t dbs_len;
    struct hadb_peer *next;
};

struct hadb_peers {
    struct hadb_hint hint;
    struct hadb_timer hint_timer;
    struct hadb_job hint_job;
    bool hint_writes; /* the job writes, not reads */
    struct hadb_tag hint_tag;
    bool hint_tag_valid;
    struct hadb_buf hint_record; /* job */
    int hint_r;                  /* job */
    struct hadb_error hint_err;  /* job */
    bool hint_busy;
    bool unwatched;             /* a database has no watch on its owner, for want of memory */
    struct hadb_error namesake; /* another live node has this one's name; code 0 = none */
    void (*on_free)(void *arg); /* FREE was written */
    void *on_free_arg;
    struct hadb_known *known;
    size_t known_len;
    struct hadb_peer *list;
    /* Where the lease store tells of changes: a thread that waits for them, for all peers in turn. */
    struct hadb_pool *await_pool;
    bool await_failing;
    bool stopped;
};

int hadb__peers_start(struct hadb_node *node, struct hadb_error *err);
/* Writes FREE; on_free runs when that is done. */
void hadb__peers_free_hint(struct hadb_node *node, void (*on_free)(void *arg), void *arg);
/* No timer, request or job starts any more. */
void hadb__peers_stop(struct hadb_node *node);
void hadb__peers_deinit(struct hadb_node *node); /* any thread, once loop and pools are gone */

/* The database has this owner now (another process, or nobody): watched and streamed from here on. */
void hadb__peers_assign(struct hadb_db *db, const struct hadb_owner *owner, const char *name,
                        const char *address);
void hadb__peers_remember(struct hadb_node *node, const struct hadb_id *id, const char *name,
                          const char *address);
const struct hadb_known *hadb__peers_known(struct hadb_node *node, const struct hadb_id *id);
/* What is known of the owner's life, to the machine. */
void hadb__peers_tell(struct hadb_db *db);
/* A sign of life of the owner of @db. */
void hadb__peers_seen(struct hadb_db *db, const struct hadb_owner *owner);
#define HADB_TOKEN_REFUSED "the leader refuses this node's token: give all nodes the same one"
/* It answered 401, or took the token. */
void hadb__peer_token(struct hadb_peer *peer, bool refused);
/* Storage answered, or did not, while there was something to write. */
void hadb__peers_storage(struct hadb_node *node, bool ok);
/* After stream events: act on what the watcher wants, tell its verdict. */
void hadb__peer_step(struct hadb_peer *peer);
bool hadb__peers_local_ok(struct hadb_node *node);
/* Looks a node up by name in the lease store; @done on the loop, with a record to be copied. */
struct hadb_lookup {
    struct hadb_node *node;
    char name[HADB_NAME_BYTES_MAX + 1];
    void (*done)(struct hadb_lookup *lookup);
    void *arg;
    struct hadb_job job;
    int r; /* 0, HADB_ABSENT, failure */
    struct hadb_node_record record;
    struct hadb_error err;
};
/* Frees nothing: the caller owns @lookup. */
void hadb__peers_lookup(struct hadb_lookup *lookup);
#endif
