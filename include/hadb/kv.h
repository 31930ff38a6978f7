/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Keys and values of a database: the way in of every write (hop 1 of 8).
 *
 * Any node takes any request: a write that arrives at a follower travels to the leader with its
 * request id, and a retry after a lost answer, also across a failover, is answered from the
 * database itself, so it happens exactly once.
 */
#ifndef HADB_KV_H
#define HADB_KV_H

#include "hadb/engine.h"
#include "hadb/node.h"

HADB_BEGIN_DECLS

#define HADB_BOOKMARK_BYTES_MAX 95u /* text, without NUL */
#define HADB_SCAN_LIMIT_MAX 10000u  /* items of one scan call */
#define HADB_SCAN_LIMIT_DEFAULT 1000u
#define HADB_SCAN_BYTES_MAX (16u << 20) /* keys and values of one scan call; at least one item */
#define HADB_LAG_MS_MAX 3600000u        /* of a bounded read */
#define HADB_BATCH_OPS_MAX 100000u

enum hadb_read_level {
    HADB_READ_DEFAULT,      /* bookmark when one is given, else linearizable */
    HADB_READ_ANY,          /* what this node has, at once */
    HADB_READ_BOOKMARK,     /* a state that covers the bookmark */
    HADB_READ_LINEARIZABLE, /* everything acknowledged before the read began */
    HADB_READ_BOUNDED,      /* everything acknowledged before max_lag_ms ago */
};

/** A position in a database's history, as text. Opaque; hand it back to read your own writes. */
struct hadb_bookmark {
    char s[HADB_BOOKMARK_BYTES_MAX + 1]; /* "" = none */
};

/** Options of one call. NULL or zero: defaults. */
struct hadb_kv_options {
    enum hadb_ack_mode ack;         /* writes */
    enum hadb_read_level read;      /* reads */
    const char *bookmark;           /* reads: state to wait for; NULL = none */
    struct hadb_id request_id;      /* writes: UUIDv7 of this request; zero = a fresh one */
    uint32_t deadline_ms;           /* from now; 0 = 10 000; at most HADB_DEADLINE_MS_MAX */
    bool if_absent;                 /* put: only if the key is absent */
    struct hadb_version if_version; /* put, delete: only if the key has it; txid 0 = no condition */
    uint32_t max_lag_ms; /* reads at level BOUNDED: required, 1 to HADB_LAG_MS_MAX; else 0 */
};

/** What a call learnt besides the value. */
struct hadb_kv_result {
    struct hadb_version version;   /* put, delete: of this write; get: of the value */
    struct hadb_bookmark bookmark; /* a state that covers this answer; names durable state only */
    struct hadb_id request_id;     /* writes: for a retry */
};

/** One operation of a batch. */
struct hadb_kv_op {
    enum hadb_op_type type;
    struct hadb_slice key;
    struct hadb_slice value;
    bool if_absent;
    struct hadb_version if_version; /* txid 0 = no condition */
};

/** Items of a scan; hadb_kv_items_deinit() frees them. */
struct hadb_kv_items {
    struct hadb_item *items;
    size_t len;
    bool more;              /* cut off by limit or size: go on behind the last key */
    struct hadb_buf memory; /* holds keys and values */
};

/*
 * Failures that all writes share: HADB_EUNAVAIL and HADB_EFENCED mean surely not done (no leader before
 * the deadline, overload, replaced before the commit); HADB_EUNKNOWN means that the deadline ended
 * while the outcome was open: repeat the call with result->request_id. HADB_EEXPIRED: an id that the caller
 * chose is too old or from the future; this call did nothing, an earlier one may have. @result may be NULL and
 * is written on every return but HADB_EINVAL. In a callback every blocking call is HADB_ESTATE (hadb/node.h).
 */

/**
 * Store @value under @key.
 *
 * Returns    0; HADB_NOT_MET the condition in @options does not hold (nothing was written)
 * Errors     HADB_EUNAVAIL, HADB_EFENCED, HADB_EUNKNOWN, HADB_ETOOBIG, HADB_EINVAL, HADB_EEXPIRED, HADB_ENOMEM
 * Threads    any thread but a callback; blocks until the deadline at most
 * Durable    as the acknowledgement mode says
 */
HADB_API int hadb_kv_put(struct hadb_db *db, struct hadb_slice key, struct hadb_slice value,
                         const struct hadb_kv_options *options, struct hadb_kv_result *result,
                         struct hadb_error *err);
/**
 * Remove @key. An absent key is fine.
 *
 * Returns    0; HADB_NOT_MET
 * Errors     as hadb_kv_put: HADB_EUNAVAIL, HADB_EFENCED, HADB_EUNKNOWN
 * Threads    as hadb_kv_put
 */
HADB_API int hadb_kv_delete(struct hadb_db *db, struct hadb_slice key,
                            const struct hadb_kv_options *options, struct hadb_kv_result *result,
                            struct hadb_error *err);
/**
 * Do all @ops in one transaction, or none: one condition that does not hold refuses them all.
 *
 * @ops_len   1 to HADB_BATCH_OPS_MAX
 * Returns    0; HADB_NOT_MET
 * Errors     as hadb_kv_put: HADB_ETOOBIG, HADB_EUNAVAIL, HADB_EFENCED, HADB_EUNKNOWN
 * Threads    as hadb_kv_put
 */
HADB_API int hadb_kv_batch(struct hadb_db *db, const struct hadb_kv_op *ops, size_t ops_len,
                           const struct hadb_kv_options *options, struct hadb_kv_result *result,
                           struct hadb_error *err);
/**
 * Read @key.
 *
 * @value     replaced when 0 is returned; may be NULL
 * Returns    0; HADB_ABSENT
 * Errors     HADB_EUNAVAIL (the level cannot be had before the deadline, or this copy is damaged: the database halts
 *            here), HADB_EFORKED (bookmark of another history), HADB_EINVAL, HADB_ECORRUPT and HADB_EIO (a local
 *            database), HADB_ENOMEM
 * Threads    any thread but a callback; blocks until the deadline at most
 */
HADB_API int hadb_kv_get(struct hadb_db *db, struct hadb_slice key,
                         const struct hadb_kv_options *options, struct hadb_buf *value,
                         struct hadb_kv_result *result, struct hadb_error *err);
/**
 * Read the items of @range in key order (or reversed), at most @limit and HADB_SCAN_BYTES_MAX.
 *
 * @limit     0 = HADB_SCAN_LIMIT_DEFAULT; at most HADB_SCAN_LIMIT_MAX
 * @out       written when 0 is returned; all items are of one moment
 * Returns    0
 * Errors     as hadb_kv_get: HADB_EUNAVAIL, HADB_EFORKED, HADB_EINVAL, HADB_ENOMEM
 * Threads    as hadb_kv_get
 */
HADB_API int hadb_kv_scan(struct hadb_db *db, const struct hadb_range *range, size_t limit,
                          const struct hadb_kv_options *options, struct hadb_kv_items *out,
                          struct hadb_kv_result *result, struct hadb_error *err);
/** Free what a scan returned; accepts the zero value. Returns nothing. Errors none. Threads any. */
HADB_API void hadb_kv_items_deinit(struct hadb_kv_items *items);

/* Called once, on the node's callback thread (by a local database: before the call returns). @r, @result
 * and @err as the blocking call returns them; @value is borrowed and empty unless a get found one. */
typedef void (*hadb_kv_fn)(void *arg, int r, struct hadb_slice value,
                           const struct hadb_kv_result *result, const struct hadb_error *err);

/**
 * As hadb_kv_put and hadb_kv_get, without waiting: @done is called later, exactly once, unless an error
 * is returned here. Key and value are copied.
 *
 * Returns    0 accepted
 * Errors     HADB_EINVAL, HADB_ETOOBIG, HADB_EFORKED, HADB_EUNAVAIL (the node is closing), HADB_ENOMEM
 * Threads    any thread, callbacks included; does not block
 */
HADB_API int hadb_kv_put_async(struct hadb_db *db, struct hadb_slice key, struct hadb_slice value,
                               const struct hadb_kv_options *options, hadb_kv_fn done, void *arg,
                               struct hadb_error *err);
HADB_API int hadb_kv_get_async(struct hadb_db *db, struct hadb_slice key,
                               const struct hadb_kv_options *options, hadb_kv_fn done, void *arg,
                               struct hadb_error *err);

/**
 * Open a database in folder @path that is not replicated: the same calls, no node, no storage.
 * ASYNC answers after the commit, every other mode after the fsync. Close with hadb_db_close().
 *
 * @engine    "kv" or "memory"; NULL = "kv"
 * @env       kept until close; NULL = hadb_env_host()
 * Returns    0
 * Errors     HADB_EINVAL, HADB_ELOCKED, HADB_ECORRUPT, HADB_EIO, HADB_ENOTSUP, HADB_ENOMEM
 * Threads    any thread; blocks
 */
HADB_API int hadb_kv_open_local(const char *path, const char *engine, const struct hadb_env *env,
                                struct hadb_db **out, struct hadb_error *err);

/**
 * Versions as text ("term.txid"), the form of the Hadb-Version header.
 *
 * Returns    hadb_version_parse: true when @text is one
 * Errors     none
 * Threads    any thread
 */
#define HADB_VERSION_TEXT_BYTES 42u
HADB_API void hadb_version_format(const struct hadb_version *version,
                                  char out[HADB_VERSION_TEXT_BYTES]);
HADB_API bool hadb_version_parse(const char *text, struct hadb_version *out);

HADB_END_DECLS
#endif
