/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Executor: how a request, local or forwarded, runs on an engine (hop 2 of 8).
 *
 * The key-value executor turns a request into a transaction that holds its effects *and* its result
 * under the request id. So a retry, also on another leader, is answered from the database and never
 * runs twice. Key spaces inside the engine, one byte before each key:
 *
 *   'k' + user key           user data
 *   'r' + request id (16)    result of that request (HADB_RESULT_BYTES, or HADB_RESULT_REFUSED_BYTES)
 *   'h'                      horizon: oldest request time that is accepted, and the number of results kept
 *
 * Results leave in the transactions of later requests (up to HADB_PRUNE_LEN_MAX each, oldest id first), once
 * the leader has kept them for HADB_REQUEST_AGE_MS_MAX by its monotonic clock and their ids are as old by its wall
 * clock, or beyond HADB_REQUEST_IDS_MAX; the horizon rises above what left. Both are part of the history, so
 * all nodes agree. An executor remembers for how long there have been results, and nothing else.
 */
#ifndef HADB_EXECUTOR_H
#define HADB_EXECUTOR_H

#include "hadb/kv.h"

HADB_BEGIN_DECLS

#define HADB_EXECUTOR_ABI 1u
#define HADB_SPACE_USER 'k'
#define HADB_SPACE_RESULT 'r'
#define HADB_SPACE_HORIZON 'h'
#define HADB_RESULT_BYTES 16u         /* one result record … */
#define HADB_RESULT_REFUSED_BYTES 40u /* … of a condition that did not hold */
#define HADB_REQUEST_AGE_MS_MAX \
    600000 /* results are kept at least so long, unless there are too many */
#define HADB_REQUEST_AHEAD_MS_MAX \
    600000 /* an id further ahead of the leader's wall clock is refused */
#define HADB_REQUEST_IDS_MAX 1000000u
#define HADB_PRUNE_LEN_MAX 4u
#define HADB_GROUP_LEN_MAX 1024u /* requests of one execute_many call */
#define HADB_GROUP_BYTES_MAX \
    (64u << 20) /* a group above it goes into the engine in several steps */

enum hadb_request_type {
    HADB_REQUEST_PUT = 1,
    HADB_REQUEST_DELETE = 2,
    HADB_REQUEST_BATCH = 3, /* ops, all or nothing; later ones win on the same key */
    HADB_REQUEST_GET = 4,
    HADB_REQUEST_SCAN = 5,
};

/** One request; everything is borrowed. Zero what the type does not use. */
struct hadb_request {
    enum hadb_request_type type;
    struct hadb_id id; /* PUT, DELETE, BATCH: UUIDv7 */
    /* PUT, DELETE, BATCH: an earlier copy of this request may still arrive (a retry; an id that the client
     * chose). Then a condition that does not hold is recorded too, in a transaction of its own, lest
     * that copy run later, when it does hold, after the client was told no. */
    bool repeated;
    struct hadb_slice key;          /* PUT, DELETE, GET */
    struct hadb_slice value;        /* PUT */
    bool if_absent;                 /* PUT: only if there is no such key */
    struct hadb_version if_version; /* PUT, DELETE: only if the key has it; txid 0 = no condition */
    /* BATCH: 1 to HADB_BATCH_OPS_MAX. Conditions are judged on the state before the batch. */
    const struct hadb_kv_op *ops;
    size_t ops_len;
    struct hadb_range range; /* SCAN, in user keys */
    size_t limit;            /* SCAN: 0 = HADB_SCAN_LIMIT_DEFAULT; at most HADB_SCAN_LIMIT_MAX */
    size_t bytes_max; /* SCAN: keys and values; 0 = HADB_SCAN_BYTES_MAX, which is also the most */
    void *view;       /* GET, SCAN: the picture to read; NULL = the newest state */
    hadb_txid view_txid; /* what @view shows */
};

/** The answer. hadb_response_deinit() frees it; the zero value is empty. */
struct hadb_response {
    int code;          /* 0; HADB_ABSENT (GET); HADB_NOT_MET; or a failure, described in .error */
    bool deduplicated; /* the request ran before: this is its stored answer */
    /* 0: of this write, or of the value read; NOT_MET: what the key has now, txid 0 = absent. */
    struct hadb_version version;
    size_t failed_op; /* NOT_MET of a batch: index of the operation whose condition failed */
    /* The answer rests on state up to this transaction: in DURABLE and BOTH it must not leave before that is
     * durable (protocol 4.3.4). 0 = it rests on no state. */
    hadb_txid state_txid;
    struct hadb_buf value;      /* GET */
    struct hadb_kv_items items; /* SCAN: user keys */
    /* SCAN with items.more: start (inclusive) of the next page, or its end (exclusive) in reverse. */
    struct hadb_buf next;
    struct hadb_error error; /* code < 0 */
    /* HADB_EEXPIRED: an id of this time (Unix milliseconds) would have been taken; else 0. */
    int64_t usable_unix_ms;
};

/** What the leader brings to a write. */
struct hadb_execute_context {
    uint64_t term;       /* of the leader; never decreases */
    int64_t now_unix_ms; /* its wall clock; no decision about safety rests on it */
    uint64_t now_ms; /* its monotonic clock: how long results have been kept is measured with it */
};

/**
 * Methods of an executor. Mutations are writes of the engine: one thread at a time. Reads may run beside
 * them from any thread.
 */
struct hadb_executor_ops {
    uint32_t abi;
    const char *name; /* "kv" */
    int (*open)(const struct hadb_engine *engine, void **self, struct hadb_error *err);
    void (*close)(void *self);
    bool (*is_mutation)(void *self, const struct hadb_request *request);
    int (*execute_many)(void *self, const struct hadb_execute_context *context,
                        const struct hadb_request *const *requests, size_t len,
                        struct hadb_response *responses, struct hadb_error *err);
    int (*read)(void *self, const struct hadb_request *request, struct hadb_response *response,
                struct hadb_error *err);
    /* abi 2 starts here: append only, never reorder */
};

/** Two words; moved, never shared by copy. The zero value is closed. */
struct hadb_executor {
    const struct hadb_executor_ops *ops;
    void *self;
};

/**
 * Open the executor of a kind of engines.
 *
 * @name      "kv"
 * @engine    kept; stays open and in place until hadb_executor_close()
 * Returns    0
 * Errors     HADB_ENOTSUP (unknown name), HADB_ENOMEM
 * Threads    any thread
 */
HADB_API int hadb_executor_open(const char *name, const struct hadb_engine *engine,
                                struct hadb_executor *out, struct hadb_error *err);
/** Close; the engine stays open. Accepts the zero value. Returns nothing. Errors none. Threads any, once nothing runs. */
HADB_API void hadb_executor_close(struct hadb_executor *executor);
/** Does the request write? Returns true for PUT, DELETE, BATCH. Errors none. Threads any. */
HADB_API bool hadb_executor_is_mutation(const struct hadb_executor *executor,
                                        const struct hadb_request *request);

/**
 * Run one request. A mutation gets the next txid; when nothing is written (NOT_MET of a request that
 * is not .repeated, a stored answer, a refusal) none is used.
 *
 * @context   required for mutations
 * @response  overwritten; also says what the return value says
 * Returns    0; HADB_ABSENT (GET); HADB_NOT_MET
 * Errors     HADB_EINVAL (malformed, id is no UUIDv7, id was used for another request), HADB_ETOOBIG,
 *            HADB_EEXPIRED (id too old or too far ahead: surely not done now), HADB_ENOMEM, and those of
 *            hadb_engine_apply(), get and scan
 * Threads    mutations: the one writer of the engine; reads: any thread
 */
HADB_API int hadb_executor_execute(const struct hadb_executor *executor,
                                   const struct hadb_execute_context *context,
                                   const struct hadb_request *request,
                                   struct hadb_response *response, struct hadb_error *err);
/**
 * Run mutations in order, as consecutive transactions, each of which sees the ones before; with few
 * writes of the engine (one, up to HADB_GROUP_BYTES_MAX).
 *
 * @len        up to HADB_GROUP_LEN_MAX
 * @responses  @len of them, overwritten; each has its own code
 * Returns     0 every response says what became of its request
 * Errors      those of hadb_engine_apply(), get: requests that had not reached the engine before carry
 *             the same code in their response; HADB_EINVAL (a request is no mutation), HADB_ENOMEM
 * Threads     the one writer of the engine
 */
HADB_API int hadb_executor_execute_many(const struct hadb_executor *executor,
                                        const struct hadb_execute_context *context,
                                        const struct hadb_request *const *requests, size_t len,
                                        struct hadb_response *responses, struct hadb_error *err);
/** Free what a response holds; accepts the zero value. Returns nothing. Errors none. Threads any. */
HADB_API void hadb_response_deinit(struct hadb_response *response);

/* ---- canonical export: what two copies of a database are compared by ---- */

/* Gets the next bytes of the export; anything but 0 stops it and is returned. */
typedef int (*hadb_export_fn)(void *arg, struct hadb_slice bytes, struct hadb_error *err);
/**
 * Write all user keys in key order: for each, key length (4 bytes LE), key, value length (4), value,
 * version (term 8, txid 8). Request results and the horizon are left out.
 *
 * @view      NULL = the newest state
 * @fn        called with pieces of at most about 1 MiB, or one item
 * @items     how many there were; may be NULL
 * Returns    0
 * Errors     HADB_EIO, HADB_ECORRUPT, HADB_ENOMEM, and what @fn returned
 * Threads    any thread
 */
HADB_API int hadb_export(const struct hadb_engine *engine, void *view, hadb_export_fn fn, void *arg,
                         uint64_t *items, struct hadb_error *err);
/** SHA-256 of the export; @items may be NULL. Returns 0. Errors HADB_EIO, HADB_ECORRUPT, HADB_ENOMEM. Threads any. */
HADB_API int hadb_export_digest(const struct hadb_engine *engine, void *view, struct hadb_hash *out,
                                uint64_t *items, struct hadb_error *err);

/**
 * Bookmarks as text: "uuid.term.txid". (Versions: hadb_version_format() in hadb/kv.h.)
 *
 * Returns    hadb_bookmark_parse: true when @text is one
 * Errors     none
 * Threads    any thread
 */
HADB_API void hadb_bookmark_format(const struct hadb_id *db, const struct hadb_version *version,
                                   struct hadb_bookmark *out);
HADB_API bool hadb_bookmark_parse(const char *text, struct hadb_id *db,
                                  struct hadb_version *version);

HADB_END_DECLS
#endif
