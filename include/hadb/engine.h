/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Engine: what a key-value database must offer to be hosted (hops 2 and 8 of 8).
 *
 * An engine knows nothing of replication. It keeps an ordered map of keys to values, applies
 * transactions atomically, and keeps two positions: the *mark* (everything up to it is in the shared
 * history and final) and the last transaction. What lies between is the *tail*: it can be read
 * back, and undone by rewind. A view is a consistent picture at one transaction.
 */
#ifndef HADB_ENGINE_H
#define HADB_ENGINE_H

#include "hadb/env.h"

HADB_BEGIN_DECLS

#define HADB_ENGINE_ABI 1u
/* Engines accept slightly longer keys than users: one byte of key space plus room for ids. */
#define HADB_ENGINE_KEY_BYTES_MAX (HADB_KEY_BYTES_MAX + 64u)
/* Encoded transactions in one apply call. */
#define HADB_ENGINE_APPLY_BYTES_MAX (1u << 30)

/** The version that a key got from the transaction that wrote it last. */
struct hadb_version {
    uint64_t term;
    hadb_txid txid;
};

enum hadb_op_type { HADB_OP_PUT = 1, HADB_OP_DELETE = 2 };

struct hadb_op {
    enum hadb_op_type type;
    struct hadb_slice key;
    struct hadb_slice value; /* empty for HADB_OP_DELETE */
};

/**
 * One encoded transaction, the unit that engines log, tails return and changesets carry.
 * All integers little-endian:
 *
 *   0  4  length of the whole transaction, this field included
 *   4  8  term in which it was committed first
 *  12  8  txid
 *  20  8  commit time, Unix milliseconds, advisory
 *  28  4  number of operations
 *  32  …  operations: type 1, key length 4, value length 4, key, value
 */
#define HADB_TXN_HEADER_BYTES 32u
#define HADB_TXN_OP_BYTES 9u

struct hadb_txn {
    uint64_t term;
    hadb_txid txid;
    int64_t time_unix_ms;
    uint32_t ops_len;
    struct hadb_slice bytes; /* the whole encoded transaction */
};

/**
 * Append an encoded transaction to @out.
 *
 * Returns    0
 * Errors     HADB_ETOOBIG (key, value or batch limit), HADB_EINVAL (empty key, unknown type), HADB_ENOMEM
 * Threads    any thread
 */
HADB_API int hadb_txn_encode(uint64_t term, hadb_txid txid, int64_t time_unix_ms,
                             const struct hadb_op *ops, size_t ops_len, struct hadb_buf *out,
                             struct hadb_error *err);
/**
 * Read the transaction at *@rest and move *@rest behind it. Every length is checked, operations
 * included, so hadb_txn_op() cannot fail later.
 *
 * Returns    0; HADB_END when *@rest is empty
 * Errors     HADB_ECORRUPT
 * Threads    any thread
 */
HADB_API int hadb_txn_next(struct hadb_slice *rest, struct hadb_txn *out, struct hadb_error *err);
/**
 * Iterate operations: start with *@cursor = 0.
 *
 * Returns    0; HADB_END after the last
 * Errors     none
 * Threads    any thread
 */
HADB_API int hadb_txn_op(const struct hadb_txn *txn, size_t *cursor, struct hadb_op *out);

/** A range of keys. Empty slices mean "no bound"; @prefix narrows further. */
struct hadb_range {
    struct hadb_slice start; /* inclusive */
    struct hadb_slice end;   /* exclusive */
    struct hadb_slice prefix;
    bool reverse;   /* from the last key down */
    bool keys_only; /* values are not read; item.value is empty */
};

struct hadb_item {
    struct hadb_slice key;   /* valid until the next call on the same scan */
    struct hadb_slice value; /* likewise */
    struct hadb_version version;
};

struct hadb_engine_options {
    uint32_t sync_every_ms;     /* fsync in apply when the last is older; 0 = only sync() */
    uint64_t segment_bytes_max; /* kv: roll to a new segment above it; 0 = 64 MiB */
    bool read_only;             /* open without lock and without repair; writes are refused */
};

struct hadb_engine_position {
    struct hadb_pos mark; /* final history */
    hadb_txid last_txid;  /* >= mark.txid */
    uint64_t last_term;   /* commit term of last_txid; mark.term when there is no tail */
};

struct hadb_engine_stats {
    uint64_t keys;
    uint64_t live_bytes; /* keys + values that are reachable */
    uint64_t disk_bytes; /* 0 for volatile engines */
    uint64_t segments;
    uint64_t syncs;         /* fsync calls since open */
    uint64_t bytes_written; /* since open */
    uint64_t cut_bytes;     /* torn bytes that were cut off at open */
    char recovery[128];     /* one line about what was cut at open; "" = nothing */
};

/**
 * Methods of an engine. Writers (apply, mark, rewind, ingest) are called by one thread at a time;
 * everything else may run beside them from any thread. A failed write or fsync poisons the engine: all
 * later writes answer HADB_EPOISONED, reads go on.
 */
struct hadb_engine_ops {
    uint32_t abi;
    const char *name; /* "kv", "memory" */
    /* Opens or creates the database in folder @path (ignored by volatile engines).
     * HADB_ELOCKED: another process or handle has it; HADB_ECORRUPT names file and offset. */
    int (*open)(const char *path, const struct hadb_engine_options *options,
                const struct hadb_env *env, void **self, struct hadb_error *err);
    void (*close)(void *self);
    /* Applies encoded transactions (consecutive txids from last_txid+1), each atomic, in one write.
     * @mark, when given, becomes the mark in the same atomic step (followers). No fsync. */
    int (*apply)(void *self, struct hadb_slice txns, const struct hadb_pos *mark,
                 struct hadb_error *err);
    /* Moves the mark forward: mark.txid <= last_txid. Frees the undo information below it. No fsync. */
    int (*mark)(void *self, const struct hadb_pos *mark, struct hadb_error *err);
    /* Makes all applied so far durable on this host. May run beside reads and writes. */
    int (*sync)(void *self, struct hadb_error *err);
    /* HADB_ABSENT, or 0 with value (replaced) and version. @view NULL = newest state. @value may be NULL. */
    int (*get)(void *self, void *view, struct hadb_slice key, struct hadb_buf *value,
               struct hadb_version *version, struct hadb_error *err);
    /* A picture of the newest state; its txid. Stays valid until closed, whatever is written. */
    int (*view_open)(void *self, void **view, hadb_txid *txid, struct hadb_error *err);
    void (*view_close)(void *self, void *view);
    /* Scans @view (required). One thread per scan. Closed before the view. */
    int (*scan_open)(void *self, void *view, const struct hadb_range *range, void **scan,
                     struct hadb_error *err);
    int (*scan_next)(void *self, void *scan, struct hadb_item *out, struct hadb_error *err);
    void (*scan_close)(void *self, void *scan);
    void (*position)(void *self, struct hadb_engine_position *out);
    /* Appends encoded transactions after @after (>= mark.txid) to @out, at least one if there is one,
     * then while the sum stays <= @bytes_max. HADB_END when there is none. */
    int (*tail)(void *self, hadb_txid after, size_t bytes_max, struct hadb_buf *out,
                struct hadb_error *err);
    /* Undoes the whole tail: last_txid = mark.txid. Durable when it returns 0. */
    int (*rewind)(void *self, struct hadb_error *err);
    /* Loads items of a snapshot into an empty engine (in as many calls as wanted); the mark that
     * follows makes it whole and sets last_txid. Until then reads see the items, apply is refused,
     * rewind drops them, and an engine that is reopened is empty again. */
    int (*ingest)(void *self, const struct hadb_item *items, size_t items_len,
                  struct hadb_error *err);
    void (*stats)(void *self, struct hadb_engine_stats *out);
    /* abi 2 starts here: append only, never reorder */
};

/** Two words; moved, never shared by copy. The zero value is closed. */
struct hadb_engine {
    const struct hadb_engine_ops *ops;
    void *self;
};

/**
 * Open an engine by name ("kv", "memory").
 *
 * Returns    0
 * Errors     HADB_ENOTSUP (unknown name), and those of open
 * Threads    any thread
 */
HADB_API int hadb_engine_open(const char *name, const char *path,
                              const struct hadb_engine_options *options, const struct hadb_env *env,
                              struct hadb_engine *out, struct hadb_error *err);
/** Is there an engine of that name in this build? Returns 0. Errors HADB_ENOTSUP (names those there are). Threads any. */
HADB_API int hadb_engine_check(const char *name, struct hadb_error *err);
/** Close an engine; accepts the zero value. Returns nothing. Errors none. Threads any, once nothing else runs. */
HADB_API void hadb_engine_close(struct hadb_engine *engine);

/*
 * Dispatch: each calls the method of the same name and asserts what its caller owes. After a failed write
 * nothing was applied, but for HADB_EIO: then it may or may not be there when the engine is opened next.
 */

/**
 * Apply encoded transactions; @mark (or NULL) becomes the mark with them, or neither happens.
 *
 * Returns    0
 * Errors     HADB_EINVAL (a txid is not last_txid + 1, @mark goes back or lies ahead, an ingest is unfinished),
 *            HADB_ECORRUPT (@txns does not decode), HADB_ETOOBIG, HADB_ENOMEM, HADB_ENOSPC, HADB_EIO,
 *            HADB_EPOISONED, HADB_ENOTSUP (opened read_only)
 * Threads    the one writer
 */
HADB_API int hadb_engine_apply(const struct hadb_engine *engine, struct hadb_slice txns,
                               const struct hadb_pos *mark, struct hadb_error *err);
/** Move the mark forward. Returns 0. Errors as hadb_engine_apply. Threads the one writer. */
HADB_API int hadb_engine_mark(const struct hadb_engine *engine, const struct hadb_pos *mark,
                              struct hadb_error *err);
/** Make all applied so far durable. Returns 0. Errors HADB_EIO, HADB_EPOISONED. Threads any. */
HADB_API int hadb_engine_sync(const struct hadb_engine *engine, struct hadb_error *err);
/**
 * Read one key of @view (NULL = newest state). @value is replaced; @value and @version may be NULL.
 *
 * Returns    0; HADB_ABSENT (also for a key of no or too many bytes)
 * Errors     HADB_ECORRUPT (names file and offset), HADB_EIO, HADB_ENOMEM
 * Threads    any thread
 */
HADB_API int hadb_engine_get(const struct hadb_engine *engine, void *view, struct hadb_slice key,
                             struct hadb_buf *value, struct hadb_version *version,
                             struct hadb_error *err);
/** Open a picture of the newest state; @txid may be NULL. Returns 0. Errors HADB_ENOMEM. Threads any. */
HADB_API int hadb_engine_view_open(const struct hadb_engine *engine, void **view, hadb_txid *txid,
                                   struct hadb_error *err);
/** Close a view, after its scans; NULL is fine. Returns nothing. Errors none. Threads any. */
HADB_API void hadb_engine_view_close(const struct hadb_engine *engine, void *view);
/** Start a scan of @view; @range is copied. Returns 0. Errors HADB_ENOMEM. Threads any, one per scan. */
HADB_API int hadb_engine_scan_open(const struct hadb_engine *engine, void *view,
                                   const struct hadb_range *range, void **scan,
                                   struct hadb_error *err);
/** Next item. Returns 0; HADB_END. Errors HADB_ECORRUPT, HADB_EIO, HADB_ENOMEM. Threads one per scan. */
HADB_API int hadb_engine_scan_next(const struct hadb_engine *engine, void *scan,
                                   struct hadb_item *out, struct hadb_error *err);
/** End a scan; NULL is fine. Returns nothing. Errors none. Threads one per scan. */
HADB_API void hadb_engine_scan_close(const struct hadb_engine *engine, void *scan);
/** Mark and last transaction, as one picture. Returns nothing. Errors none. Threads any. */
HADB_API void hadb_engine_position(const struct hadb_engine *engine,
                                   struct hadb_engine_position *out);
/**
 * Append transactions after @after to @out; see struct hadb_engine_ops.
 *
 * Returns    0; HADB_END (nothing after @after)
 * Errors     HADB_EINVAL (@after is below the mark), HADB_ECORRUPT, HADB_EIO, HADB_ENOMEM
 * Threads    any thread
 */
HADB_API int hadb_engine_tail(const struct hadb_engine *engine, hadb_txid after, size_t bytes_max,
                              struct hadb_buf *out, struct hadb_error *err);
/** Undo the whole tail, durably. Returns 0. Errors as hadb_engine_apply. Threads the one writer. */
HADB_API int hadb_engine_rewind(const struct hadb_engine *engine, struct hadb_error *err);
/** Load snapshot items into an empty engine. Returns 0. Errors as hadb_engine_apply. Threads the one writer. */
HADB_API int hadb_engine_ingest(const struct hadb_engine *engine, const struct hadb_item *items,
                                size_t items_len, struct hadb_error *err);
/** Sizes and counters. Returns nothing. Errors none. Threads any. */
HADB_API void hadb_engine_stats(const struct hadb_engine *engine, struct hadb_engine_stats *out);
/**
 * SHA-256 over the canonical export of all keys that start with @prefix, in key order: for each item
 * key length (4 bytes LE), key, value length (4 bytes LE), value, term (8), txid (8).
 *
 * @view      NULL = newest state
 * Returns    0
 * Errors     HADB_EIO, HADB_ECORRUPT, HADB_ENOMEM
 * Threads    any thread
 */
HADB_API int hadb_engine_digest(const struct hadb_engine *engine, void *view,
                                struct hadb_slice prefix, struct hadb_hash *out,
                                struct hadb_error *err);

HADB_END_DECLS
#endif
