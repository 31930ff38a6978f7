/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Restore and verify: what storage alone gives back, without any node.
 */
#ifndef HADB_RESTORE_H
#define HADB_RESTORE_H

#include "hadb/engine.h"
#include "hadb/storage.h"

HADB_BEGIN_DECLS

#define HADB_RESTORE_ABI 1u

/** How far a restore or a verification has come; called on the caller's thread, a few times per second at most. */
struct hadb_restore_progress {
    const char *stage; /* "snapshot", "log", "sync" */
    uint64_t entries;  /* log entries done */
    hadb_txid txid;    /* last transaction done */
    uint64_t bytes;    /* read from storage */
};
typedef void (*hadb_restore_progress_fn)(void *arg, const struct hadb_restore_progress *progress);

struct hadb_restore_options {
    uint32_t abi;         /* HADB_RESTORE_ABI */
    const char *database; /* required: its name */
    const char *output;   /* restore: folder to be made; must not exist, or be empty */
    uint32_t request_ms;  /* deadline of one storage request; 0 = 30 000 */
    hadb_restore_progress_fn on_progress; /* may be NULL */
    void *progress_arg;
    const struct hadb_env *env; /* NULL = hadb_env_host() */
    bool to_slot_set;           /* restore the state behind to_slot; false = the latest */
    uint64_t to_slot;
};
#define HADB_RESTORE_OPTIONS_INIT {.abi = HADB_RESTORE_ABI}

/** What was found. */
struct hadb_restore_result {
    struct hadb_id uuid;
    struct hadb_pos pos;     /* last entry of the history */
    uint64_t snapshot_slot;  /* where the log was taken up; 0 = from the beginning */
    uint64_t snapshots;      /* verified (verify: all that the manifest names) */
    uint64_t entries, seals; /* log entries read */
    uint64_t transactions;   /* in those entries */
    uint64_t bytes;          /* read from storage */
    uint64_t keys;           /* user keys at the end */
    struct hadb_hash digest; /* hadb_engine_digest() over all user keys at the end */
};

/**
 * Rebuild a database in a new folder: a snapshot, the newest one if it may be, then the log up to its end or to
 * the slot that is asked for. Every hash is
 * verified from the first to the last entry. Works in a temporary folder beside @output and renames
 * it at the very end, so @output is whole or not there. hadb_kv_open_local() opens it.
 *
 * @storage   borrowed; must not be used to write the same database to a wrong place: it is only read
 * Returns    0
 * Errors     HADB_EINVAL (output exists, bad name, a slot that cannot be had: the nearest ones are named), HADB_ENODB
 *            (no database of that name), HADB_EGAP (an object of the history is missing; what lies behind it
 *            and the last slot before it are named), HADB_EFORKED (an object does not link), HADB_ECORRUPT, HADB_EVERSION (each
 *            names the object), HADB_EIO, HADB_ENOSPC, HADB_EAUTH, HADB_ETIMEDOUT, HADB_ENOMEM
 * Threads    any thread; blocks
 */
HADB_API int hadb_restore(struct hadb_storage *storage, const struct hadb_restore_options *options,
                          struct hadb_restore_result *result, struct hadb_error *err);

/**
 * Read everything that the manifest and the log of a database refer to, and verify every hash, every
 * link and the digests of all snapshots. Needs memory for one copy of the database. Changes nothing.
 *
 * @options   output, to_slot are not used
 * Returns    0 all is well
 * Errors     as hadb_restore: HADB_ENODB, HADB_EGAP, HADB_EFORKED, HADB_ECORRUPT, HADB_EVERSION, HADB_EIO, HADB_ENOMEM
 * Threads    any thread; blocks
 */
HADB_API int hadb_verify(struct hadb_storage *storage, const struct hadb_restore_options *options,
                         struct hadb_restore_result *result, struct hadb_error *err);

HADB_END_DECLS
#endif
