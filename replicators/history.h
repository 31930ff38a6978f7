/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 7 of 8, without a node: reads a database's history from storage, entry by entry, verified.
 * One thread; blocks. For restore and verify.
 */
#ifndef HADB_REPLICATORS_HISTORY_H
#define HADB_REPLICATORS_HISTORY_H

#include "changeset/changeset.h"
#include "hadb/storage.h"

#define HADB_HISTORY_REQUEST_MS_DEFAULT 30000u

struct hadb__history {
    const struct hadb_env *env;
    struct hadb_storage *storage;
    const char *database;
    uint32_t request_ms;
    struct hadb_id db;
    struct hadb_meta meta;
    struct hadb_manifest manifest;
    struct hadb_pos pos; /* behind the last entry that was read */
    uint64_t bytes;      /* read so far */
    uint64_t to_slot;    /* reads no slot behind it */
};

/* Finds the database by name and reads meta and manifest. @out is to be freed even on failure. */
int hadb__history_open(struct hadb__history *history, struct hadb_storage *storage,
                       const struct hadb_env *env, const char *database, uint32_t request_ms,
                       struct hadb_error *err);
void hadb__history_deinit(struct hadb__history *history);
int hadb__history_manifest(struct hadb__history *history,
                           struct hadb_error *err); /* reads it again */
/* Every seal of the manifest's term table is in storage. */
int hadb__history_seals(struct hadb__history *history, struct hadb_error *err);
/* The deadline of one request, from now. */
struct hadb_call hadb__history_call(const struct hadb__history *history);
/*
 * Reads the entry after pos, with its blobs, verifies its place and its link, and moves pos behind it.
 * HADB_END: there is none (the tip), or to_slot is reached. HADB_ABSENT: it lies at or below the boundary by now:
 * start again from a snapshot. HADB_EGAP (also if something lies behind a missing entry), HADB_EFORKED, HADB_ECORRUPT name the object. @out was initialised or is zero.
 */
int hadb__history_next(struct hadb__history *history, struct hadb_opened *out,
                       struct hadb_error *err);
#endif
