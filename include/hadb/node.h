/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Node: one process's place in a cluster. It hosts databases, ships and follows their histories,
 * leads or forwards, and answers over HTTP (hops 1, 5 and 7 of 8).
 *
 * A node owns one data folder, one lease record, one event loop and a handful of threads, however
 * many databases it hosts. Every handle here is opaque and may be used from any thread.
 *
 * fork(): a child gets neither threads nor locks. In it every call on a handle of its parent fails with
 * HADB_ESTATE, and close does nothing. The child holds the data folder's lock with its parent until it calls
 * exec or ends. The library installs no signal handlers, and its threads block all signals.
 *
 * Calls that wait (their doc block says "but a callback") are refused with HADB_ESTATE on the node's callback thread, where
 * they would wait for themselves, and so on its event loop, where functions of a replaced environment, storage or lease
 * store may run. All functions of all headers refuse NULL handles and closed two-word handles with HADB_EINVAL;
 * a node or database that was closed is gone, and must not be used.
 */
#ifndef HADB_NODE_H
#define HADB_NODE_H

#include "hadb/lease.h"
#include "hadb/storage.h"

HADB_BEGIN_DECLS

#define HADB_NODE_ABI 1u
#define HADB_NODE_PORT_DEFAULT 4280u
#define HADB_NODE_DATABASES_MAX 16384u /* databases open on one node */
#define HADB_TOKEN_BYTES_MAX 512u
#define HADB_ADDRESS_BYTES_MAX 255u  /* host:port */
#define HADB_DEADLINE_MS_MAX 600000u /* longest deadline of one request */
#define HADB_DEADLINE_MS_DEFAULT 10000u
#define HADB_SNAPSHOT_FAILURES_MAX 3u /* in a row, on the leader; then GET /healthz answers 503 */

struct hadb_node; /* opaque */
struct hadb_db;   /* opaque: one database on one node */

/** When a write is answered. */
enum hadb_ack_mode {
    HADB_ACK_DEFAULT, /* as the database was opened */
    HADB_ACK_ASYNC,   /* after the commit in memory */
    HADB_ACK_LOCAL,   /* after the fsync on the leader's disk */
    HADB_ACK_DURABLE, /* once it is in storage: nothing is lost whatever dies */
    HADB_ACK_BOTH,    /* after both */
};

enum hadb_role {
    HADB_ROLE_FOLLOWER,
    HADB_ROLE_CANDIDATE, /* the leader is silent or gone: this node tries to take over */
    HADB_ROLE_LEADER,
    HADB_ROLE_DRAINING, /* leader that is handing over */
    HADB_ROLE_FENCED,   /* another node ended this one's term; it will follow again by itself */
    HADB_ROLE_HALTED,   /* cannot go on; the event and the status say why */
    HADB_ROLE_OPENING, /* new to this node, and storage does not answer: asked again until it does */
};

enum hadb_event_kind {
    HADB_EVENT_ROLE,   /* the role of this node for a database changed */
    HADB_EVENT_LEADER, /* the database has another leader (or none that is known) */
    HADB_EVENT_FENCED, /* this node led and was replaced; an unshipped tail went to lost/ */
    HADB_EVENT_HALTED, /* the database stopped on this node */
};

/** Something that happened to a database. Strings are valid during the callback. */
struct hadb_node_event {
    enum hadb_event_kind kind;
    const char *database;
    enum hadb_role role;
    uint64_t term;
    const char *leader;         /* name of the leading node; "" = unknown */
    const char *leader_address; /* host:port; "" = unknown */
    const char *text;           /* one line for people */
};
/* Runs on the node's one callback thread, one event at a time, in order. May call what does not wait: hadb_kv_put_async(),
 * hadb_kv_get_async(), hadb_db_info(), hadb_db_role(), hadb_db_snapshot(), hadb_node_status(), hadb_node_metrics(), names. */
typedef void (*hadb_event_fn)(void *arg, const struct hadb_node_event *event);

/** How to open a node. Zero means the default that is written beside a field. */
struct hadb_node_options {
    uint32_t abi;                 /* HADB_NODE_ABI */
    const char *name;             /* required; [A-Za-z0-9._-], unique in the cluster */
    const char *data_dir;         /* required; created if missing; one process at a time */
    const char *storage_url;      /* required, unless @storage is given; see hadb_storage_open() */
    struct hadb_storage *storage; /* taken over when the node opens (*storage becomes zero) */
    const char *lease_url;        /* required, unless @lease is given; see hadb_lease_open() */
    struct hadb_lease *lease;     /* taken over when the node opens */
    const char *listen;    /* ADDR:PORT, port 0 picks one; NULL = 127.0.0.1:4280; "" = no server */
    const char *advertise; /* host:port that other nodes use; required with a wildcard @listen */
    const char *token;     /* bearer token of all nodes and clients; required beyond loopback */
    uint32_t ttl_ms;       /* a silent node is replaced after this; 0 = 5000 */
    uint32_t worker_threads; /* for blocking calls; 0 = 4; at most 8 */
    uint32_t window;         /* log slots in flight per database; 0 = 2; at most 8 */
    bool never_lead;         /* follow only */
    uint32_t probe_every_ms; /* a leader runs the conformance probe again after this; 0 = 24 h */
    hadb_event_fn on_event;  /* may be NULL */
    void *event_arg;
    const struct hadb_env *env; /* kept until close; NULL = hadb_env_host() */
    /* Names of the databases that will be opened. Until they all are, the node is not ready (GET /readyz), and
     * requests for them are refused as unavailable. NULL = those that the data folder has a copy of are refused so,
     * and the first that is open ends the wait. */
    const char *const *databases;
    size_t databases_len; /* at most HADB_NODE_DATABASES_MAX */
};
#define HADB_NODE_OPTIONS_INIT {.abi = HADB_NODE_ABI}

/** How to open a database. Zero means the default. */
struct hadb_db_options {
    uint32_t abi;           /* HADB_NODE_ABI */
    const char *engine;     /* "kv" (default) or "memory" */
    enum hadb_ack_mode ack; /* of writes that do not say; 0 = HADB_ACK_DURABLE */
    uint32_t
        snapshot_slots; /* the leader publishes a snapshot after so many log entries; 0 = 4096 */
    uint32_t sync_every_ms; /* background fsync of the engine; 0 = 1000 */
    uint32_t grace_ms; /* entries below a snapshot are deleted this long after it; 0 = 60 000 */
    bool never_lead;   /* follow only */
    bool no_fast_suspicion; /* replace a dead leader only after the TTL */
    bool no_snapshots;      /* snapshots only on request */
    bool
        clone_guard; /* machines may be copied while they run: see docs/durability.md; costs requests */
};
#define HADB_DB_OPTIONS_INIT {.abi = HADB_NODE_ABI}

/** What a node knows of a database right now. */
struct hadb_db_info {
    char name[HADB_NAME_BYTES_MAX + 1];
    struct hadb_id uuid;
    enum hadb_role role;
    char leader[HADB_NAME_BYTES_MAX + 1];            /* "" = unknown */
    char leader_address[HADB_ADDRESS_BYTES_MAX + 1]; /* "" = unknown */
    uint64_t term;
    hadb_txid txid;              /* last transaction in the local engine */
    hadb_txid durable_txid;      /* last one known to be in storage */
    hadb_txid applied_txid;      /* last one that readers here can see */
    uint64_t slot;               /* last log slot that is covered */
    struct hadb_hash chain_hash; /* of the last log entry that counts here */
    bool ready;                  /* caught up with the head that was seen last */
    char reason[240];            /* HALTED, OPENING: why, and what to do about it; a leader: why its
                                    snapshots fail (HADB_SNAPSHOT_FAILURES_MAX); "" otherwise */
};

/**
 * Open a node: take the data folder, find out whether the storage keeps its promises (a storage
 * that fails the conformance probe can be followed, never led from), start to listen and to renew
 * the lease record. Databases are opened separately. A storage that does not answer is no failure: the
 * node serves what it has, is not ready, and asks again by itself.
 *
 * @options   copied
 * @out       written only when 0 is returned
 * Returns    0
 * Errors     HADB_EINVAL (names the option), HADB_ELOCKED (the folder is in use), HADB_EIO, HADB_EAUTH,
 *            HADB_ENOTSUP, HADB_EBUSY (the port is taken), HADB_ENOMEM
 * Threads    any thread; may block
 */
HADB_API int hadb_node_open(const struct hadb_node_options *options, struct hadb_node **out,
                            struct hadb_error *err);

/**
 * Close a node and all its databases. What this node leads is handed over or resigned first, as far
 * as @deadline_ms allows; correctness does not depend on it. Accepts NULL.
 *
 * @deadline_ms  longest time to spend, in milliseconds from now; 0 = as short as can be. A call to storage, lease or
 *               disk that does not return is waited for 5 s more, then its memory is left behind
 * Returns    nothing
 * Errors     none
 * Threads    any thread but a callback, where it closes nothing and logs an error; no other call on the node or its
 *            databases may be running
 */
HADB_API void hadb_node_close(struct hadb_node *node, uint32_t deadline_ms);

/**
 * The address that other nodes use, host:port, and the node's name. Valid until close.
 *
 * Returns    a static string of the node; "" when it does not listen
 * Errors     none
 * Threads    any thread
 */
HADB_API const char *hadb_node_address(const struct hadb_node *node);
HADB_API const char *hadb_node_name(const struct hadb_node *node);

/**
 * The JSON text that GET /v1/status answers.
 *
 * @out       replaced
 * Returns    0
 * Errors     HADB_EINVAL, HADB_ESTATE (in a child process), HADB_ENOMEM
 * Threads    any thread; waits for the event loop
 */
HADB_API int hadb_node_status(struct hadb_node *node, struct hadb_buf *out, struct hadb_error *err);

/**
 * The counters that GET /v1/metrics answers: one "name value" per line.
 *
 * @out       replaced
 * Returns    0
 * Errors     HADB_EINVAL, HADB_ESTATE (in a child process), HADB_ENOMEM
 * Threads    any thread; waits for the event loop
 */
HADB_API int hadb_node_metrics(struct hadb_node *node, struct hadb_buf *out,
                               struct hadb_error *err);

/**
 * Would hadb_db_open() take this name and these options? For a program that checks all it was told before it opens
 * anything. NULL options are the defaults.
 *
 * Returns    0
 * Errors     HADB_EINVAL (name, acknowledgement mode), HADB_ENOTSUP (engine)
 * Threads    any thread
 */
HADB_API int hadb_db_check(const char *name, const struct hadb_db_options *options,
                           struct hadb_error *err);

/**
 * Open a database on a node. A name that the storage does not know yet is created; whoever comes
 * first decides, all others follow. An empty or outdated copy is brought up to date in the
 * background. While storage does not answer, a database that was on this node before starts with its
 * copy, and any other waits (HADB_ROLE_OPENING). Damage to its copy or to its objects in storage halts this
 * database (HADB_ROLE_HALTED, with the reason in hadb_db_info()), not the node.
 *
 * @name      [A-Za-z0-9._-], 1 to 64
 * @options   copied; NULL = defaults
 * Returns    0
 * Errors     HADB_EINVAL, HADB_ENOTSUP (engine), HADB_EBUSY (open already), HADB_ENODB (does not exist, and
 *            this node never leads), HADB_EIO, HADB_EAUTH, HADB_EUNAVAIL (the node is closing), HADB_ESTATE (in a
 *            callback), HADB_ENOMEM
 * Threads    any thread but a callback; may block
 */
HADB_API int hadb_db_open(struct hadb_node *node, const char *name,
                          const struct hadb_db_options *options, struct hadb_db **out,
                          struct hadb_error *err);

/**
 * Close a database; a local one (hadb_kv_open_local) too. A node that leads it resigns first, as far as
 * @deadline_ms allows. Accepts NULL.
 *
 * Returns    nothing
 * Errors     none
 * Threads    any thread but a callback, where it closes nothing and logs an error; no other call on the database may be
 *            running
 */
HADB_API void hadb_db_close(struct hadb_db *db, uint32_t deadline_ms);

/**
 * Hand leadership over to another node, or (@to NULL) to whichever takes it. No write is lost; writers
 * on all nodes see a short wait.
 *
 * @to        name of a node; it must host the database
 * Returns    0 the seal that names the successor is in storage, or @to is this node and leads already
 * Errors     HADB_EINVAL (unknown node), HADB_EUNAVAIL (not the leader, successor not ready:
 *            nothing changed), HADB_ETIMEDOUT (@deadline_ms over), HADB_ESTATE (in a callback), HADB_ENOMEM
 * Threads    any thread but a callback; blocks
 */
HADB_API int hadb_db_handoff(struct hadb_db *db, const char *to, uint32_t deadline_ms,
                             struct hadb_error *err);

/** Publish a snapshot soon, on the leader. Returns 0. Errors HADB_EUNAVAIL (not the leader). Threads any. */
HADB_API int hadb_db_snapshot(struct hadb_db *db, struct hadb_error *err);

/** This node's role for the database. Returns the role. Errors none. Threads any. */
HADB_API enum hadb_role hadb_db_role(const struct hadb_db *db);

/** What is known right now. Returns nothing. Errors none. Threads any. */
HADB_API void hadb_db_info(const struct hadb_db *db, struct hadb_db_info *out);

/**
 * Wait until a leader is known and this node has caught up with it.
 *
 * Returns    0
 * Errors     HADB_ETIMEDOUT, HADB_EUNAVAIL (halted; the message says why), HADB_ESTATE (in a callback)
 * Threads    any thread but a callback; blocks
 */
HADB_API int hadb_db_wait_ready(struct hadb_db *db, uint32_t deadline_ms, struct hadb_error *err);

/** "leader", "durable" … as options and status spell them. Returns a static string. Errors none. Threads any. */
HADB_API const char *hadb_role_name(enum hadb_role role);
HADB_API const char *hadb_ack_name(enum hadb_ack_mode ack);
/** The mode of that name. Returns 0. Errors HADB_EINVAL. Threads any. */
HADB_API int hadb_ack_parse(const char *name, enum hadb_ack_mode *out, struct hadb_error *err);

HADB_END_DECLS
#endif
