/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Replicator: how the changes of one engine travel (hops 3 and 8 of 8).
 *
 * On the leader it captures committed transactions into the body of a log entry; on a follower it
 * applies such bodies; it writes and reads snapshots, and saves a tail that lost its place in the
 * history. It knows nothing of leadership. "journal" serves every key-value engine.
 */
#ifndef HADB_REPLICATOR_H
#define HADB_REPLICATOR_H

#include "hadb/engine.h"
#include "hadb/storage.h"

HADB_BEGIN_DECLS

#define HADB_REPLICATOR_ABI 1u
#define HADB_SNAPSHOT_PART_BYTES_MAX \
    (8u << 20) /* items of one part; one larger item fills one alone */
#define HADB_SNAPSHOT_PARTS_MAX (1u << 27)
#define HADB_LOST_FILE_BYTES_MAX (4u << 20) /* transactions of one file; a larger one has its own */
#define HADB_LOST_FOLDERS_MAX 1000u         /* of one position */
#define HADB_LOST_PATH_BYTES_MAX 4096u

/** What a replicator is told once. */
struct hadb_replicator_options {
    const struct hadb_env *env; /* kept; NULL = hadb_env_host() */
    const char *database;       /* for logs; copied; may be NULL */
    struct hadb_id db;          /* uuid of the database */
    struct hadb_id incarnation; /* of this process */
};

/** Committed transactions for one log entry. */
struct hadb_capture {
    struct hadb_buf body;            /* encoded transactions, one after the other; owned */
    hadb_txid first_txid, last_txid; /* all of them, without a gap */
    int64_t time_unix_ms;            /* commit time of the last one, advisory */
    void *view;                      /* a picture at exactly last_txid, or NULL; owned */
};

/** Why and where a tail is saved. */
struct hadb_tail_save {
    const char *dir;    /* folder of the database; files go to <dir>/lost/<term>-<slot>[.<n>]/ */
    const char *reason; /* one line for people, into the report */
};

/** What was saved. */
struct hadb_tail_saved {
    uint64_t transactions; /* 0 = there was no tail; nothing was written */
    hadb_txid first_txid, last_txid;
    uint32_t files;
    char path[HADB_LOST_PATH_BYTES_MAX]; /* the new folder; "" without a tail */
};

/**
 * One object of a snapshot. Part n is an entry; a part with one item that is too large for an object
 * lies in blobs, numbered from 0.
 */
struct hadb_snapshot_object {
    uint32_t part;
    bool is_blob;
    uint32_t blob;
};

/**
 * Where the objects of one snapshot lie. put answers 0 only once the object is there with these
 * bytes; get answers HADB_ABSENT when there is none, or HADB_EGAP and its name in @err.
 * hadb_snapshot_store_io() is the usual one.
 *
 * To write with several objects on their way: put_checked, which takes over what put and get are for, reading the object
 * back and comparing it included. It may return before that is over (@bytes were copied) and may answer with the failure
 * of an earlier object; finish waits for all. Both or none; NULL = put, get.
 */
struct hadb_snapshot_io {
    int (*put)(void *arg, const struct hadb_snapshot_object *object, struct hadb_slice bytes,
               struct hadb_error *err); /* may be NULL for restore */
    int (*get)(void *arg, const struct hadb_snapshot_object *object, struct hadb_buf *out,
               struct hadb_error *err);
    void *arg;
    int (*put_checked)(void *arg, const struct hadb_snapshot_object *object,
                       struct hadb_slice bytes, struct hadb_error *err);
    int (*finish)(void *arg, struct hadb_error *err); /* 0: all objects are there */
};

/** A snapshot as the manifest refers to it. */
struct hadb_snapshot_ref {
    struct hadb_pos pos;        /* what it covers */
    uint32_t parts;             /* >= 1 */
    uint64_t bytes;             /* sum of the stored objects */
    uint64_t items;             /* not in the manifest; written, not read */
    struct hadb_hash last_hash; /* chain hash of the last part */
    struct hadb_hash digest;    /* hadb_engine_digest() of all keys; zero = unknown, not compared */
};

/**
 * Methods of a replicator. apply, mark, tail_save and restore are writes of the engine: one thread at a
 * time; the others may run beside them from any thread. All may block.
 */
struct hadb_replicator_ops {
    uint32_t abi;
    const char *name; /* "journal" */
    int (*add)(const struct hadb_engine *engine, const struct hadb_replicator_options *options,
               void **self, struct hadb_error *err);
    void (*remove)(void *self);
    int (*capture)(void *self, hadb_txid after, size_t bytes_max, bool want_view,
                   struct hadb_capture *out, struct hadb_error *err);
    int (*apply)(void *self, struct hadb_slice body, const struct hadb_pos *pos,
                 struct hadb_error *err);
    int (*mark)(void *self, const struct hadb_pos *pos, struct hadb_error *err);
    int (*tail_save)(void *self, const struct hadb_tail_save *save, struct hadb_tail_saved *out,
                     struct hadb_error *err);
    int (*snapshot)(void *self, void *view, const struct hadb_pos *pos,
                    const struct hadb_snapshot_io *io, struct hadb_snapshot_ref *out,
                    struct hadb_error *err);
    int (*restore)(void *self, const struct hadb_snapshot_ref *ref,
                   const struct hadb_snapshot_io *io, struct hadb_error *err);
    int (*sync)(void *self, struct hadb_error *err);
    void (*view_close)(void *self, void *view);
    /* abi 2 starts here: append only, never reorder */
};

/** Two words; moved, never shared by copy. The zero value is removed. */
struct hadb_replicator {
    const struct hadb_replicator_ops *ops;
    void *self;
};

/**
 * Bind a replicator to an engine.
 *
 * @name      "journal"
 * @engine    kept; stays open and in place until hadb_replicator_remove()
 * @options   copied
 * Returns    0
 * Errors     HADB_ENOTSUP (unknown name), HADB_ENOMEM
 * Threads    any thread
 */
HADB_API int hadb_replicator_add(const char *name, const struct hadb_engine *engine,
                                 const struct hadb_replicator_options *options,
                                 struct hadb_replicator *out, struct hadb_error *err);
/** Unbind; the engine stays open. Accepts the zero value. Returns nothing. Errors none. Threads any, once nothing runs. */
HADB_API void hadb_replicator_remove(struct hadb_replicator *replicator);

/**
 * Take the transactions after @after that are committed locally (hop 3), at least one, then while their
 * sum stays <= @bytes_max.
 *
 * @after      >= txid of the engine's mark
 * @want_view  also open a picture at exactly the last transaction taken; out->view stays NULL when
 *             there is none at that moment (more was committed than taken)
 * @out        overwritten on 0; to be freed with hadb_replicator_capture_deinit()
 * Returns     0; HADB_END nothing is committed after @after
 * Errors      HADB_EINVAL (@after is below the mark), HADB_ECORRUPT, HADB_EIO, HADB_ENOMEM
 * Threads     any thread
 */
HADB_API int hadb_replicator_capture(const struct hadb_replicator *replicator, hadb_txid after,
                                     size_t bytes_max, bool want_view, struct hadb_capture *out,
                                     struct hadb_error *err);
/** Close a view that a capture handed out; NULL is fine. Returns nothing. Errors none. Threads any. */
HADB_API void hadb_replicator_view_close(const struct hadb_replicator *replicator, void *view);
/** Free the body and close the view; accepts the zero value. Returns nothing. Errors none. Threads any. */
HADB_API void hadb_replicator_capture_deinit(const struct hadb_replicator *replicator,
                                             struct hadb_capture *capture);

/**
 * Apply the body of the log entry that follows the mark; @pos is the position behind it (hop 8). The
 * transactions that lie in the local tail are compared with it byte for byte; those beyond it are
 * applied with the mark in one atomic step. An entry that the mark covers already changes nothing. An empty
 * body only moves the mark (a SEAL: same txid, next term). No fsync.
 *
 * Returns    0; HADB_DIVERGED the tail differs: nothing changed, save it (hadb_replicator_tail_save()), apply again
 * Errors     HADB_EGAP (the body does not start right after the mark), HADB_EFORKED (it starts below the
 *            mark, yet its entry does not lie there), HADB_ECORRUPT (not whole consecutive transactions that
 *            end at pos->txid), HADB_ETOOBIG, and those of hadb_engine_apply()
 * Threads    the one writer of the engine
 */
HADB_API int hadb_replicator_apply(const struct hadb_replicator *replicator, struct hadb_slice body,
                                   const struct hadb_pos *pos, struct hadb_error *err);
/**
 * Move the mark of the engine to @pos: own entries that became durable, and seals.
 *
 * Returns    0
 * Errors     HADB_EGAP (pos->txid is above the last local transaction or below the mark), and those of hadb_engine_mark()
 * Threads    the one writer of the engine
 */
HADB_API int hadb_replicator_mark(const struct hadb_replicator *replicator,
                                  const struct hadb_pos *pos, struct hadb_error *err);

/**
 * Save the tail, then undo it: every transaction above the mark goes into DATA entries
 * (tail-NNNNNN.hadbj, chained from the mark) with report.json beside them, which lists transactions,
 * request ids and keys; all is durable before the engine rewinds. Nothing is overwritten: a
 * folder of that name from before gets a sibling with a number. A crash in between leaves the tail in the
 * engine and an extra folder, never neither.
 *
 * @out       overwritten on 0; may be NULL
 * Returns    0 the engine stands at its mark
 * Errors     HADB_EIO, HADB_ENOSPC (the tail is still in the engine), HADB_ETOOBIG (HADB_LOST_FOLDERS_MAX, or a
 *            path that is too long), HADB_ECORRUPT, HADB_ENOMEM, and those of hadb_engine_rewind()
 * Threads    the one writer of the engine
 */
HADB_API int hadb_replicator_tail_save(const struct hadb_replicator *replicator,
                                       const struct hadb_tail_save *save,
                                       struct hadb_tail_saved *out, struct hadb_error *err);

/**
 * Write a snapshot of @view and read every object back. Memory: a few parts, whatever the database's size.
 *
 * @view      a picture at exactly pos->txid, which is durable
 * @out       overwritten on 0
 * Returns    0 all objects are there and verified
 * Errors     HADB_EINVAL (@view shows transactions above pos->txid), HADB_ECORRUPT (what was read back
 *            differs), HADB_ETOOBIG (HADB_SNAPSHOT_PARTS_MAX), HADB_ENOMEM, those of the engine's scan and of @io
 * Threads    any thread
 */
HADB_API int hadb_replicator_snapshot(const struct hadb_replicator *replicator, void *view,
                                      const struct hadb_pos *pos, const struct hadb_snapshot_io *io,
                                      struct hadb_snapshot_ref *out, struct hadb_error *err);
/**
 * Load a snapshot into a fresh engine: verify each part, the chain of parts, the order of keys and the digest,
 * then set the mark and sync. On failure the engine is empty again (the folder is best thrown away).
 *
 * Returns    0 the engine stands at ref->pos, durably
 * Errors     HADB_EINVAL (the engine is not empty), HADB_EGAP (a part or blob is absent: read the manifest
 *            again), HADB_ECORRUPT, HADB_EVERSION, HADB_ENOTSUP, HADB_ENOMEM, those of the engine and of @io
 * Threads    the one writer of the engine
 */
HADB_API int hadb_replicator_restore(const struct hadb_replicator *replicator,
                                     const struct hadb_snapshot_ref *ref,
                                     const struct hadb_snapshot_io *io, struct hadb_error *err);
/** Make all applied so far durable on this host. Returns 0. Errors as hadb_engine_sync. Threads any. */
HADB_API int hadb_replicator_sync(const struct hadb_replicator *replicator, struct hadb_error *err);

/**
 * A snapshot in a StorageBackend: part n is <h4>/<uuid>/snap/<slot>-<nonce>/<n>, blob b of part n is
 * the part number 0x80000000 + 8 n + b of the same folder, so that one listing finds all of it.
 * Fill in, then hand &store to hadb_snapshot_store_io(). Nothing is retried here.
 */
struct hadb_snapshot_store {
    struct hadb_storage *storage;
    const struct hadb_call *call; /* for every request */
    struct hadb_id db;
    uint64_t slot;        /* of the position that it covers */
    struct hadb_id nonce; /* fresh for each attempt */
};
/** The io of @store, which must outlive it. Returns it. Errors none. Threads any. */
HADB_API struct hadb_snapshot_io hadb_snapshot_store_io(struct hadb_snapshot_store *store);

HADB_END_DECLS
#endif
