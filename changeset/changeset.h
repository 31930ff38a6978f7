/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 4 of 8: frame. The one container of everything hadb keeps in storage: log entries (DATA, SEAL),
 * parts of snapshots, meta, manifest. Pure functions on bytes; no I/O; any thread.
 *
 * (byte table: entry.c author completes it here; all integers little-endian)
 */
#ifndef HADB_CHANGESET_H
#define HADB_CHANGESET_H
#include "hadb/engine.h"

enum hadb_entry_kind {
    HADB_ENTRY_DATA = 1,     /* body: encoded transactions (hadb/engine.h), one after the other */
    HADB_ENTRY_SEAL = 2,     /* body: struct hadb_seal */
    HADB_ENTRY_SNAPSHOT = 3, /* one part of a base image; body: items in key order; chained parts */
    HADB_ENTRY_META = 4,     /* body: struct hadb_meta */
    HADB_ENTRY_MANIFEST = 5, /* body: struct hadb_manifest */
    HADB_ENTRY_NAME = 6,     /* body: uuid, what names/<name> holds */
};

#define HADB_ENTRY_FLAG_BLOB 1u /* the body is a reference: the real one lies in blob/<put id> */
#define HADB_ENTRY_FLAG_LAST 2u /* last part of a snapshot */

struct hadb_entry {
    enum hadb_entry_kind kind;
    uint16_t flags;
    struct hadb_id db;
    uint64_t term, slot;          /* snapshot: slot it covers, term after it */
    hadb_txid first_txid, last_txid; /* DATA: its transactions; SEAL: both = last of the term; SNAPSHOT: part number, covered txid */
    struct hadb_hash prev;        /* chain hash of the entry before */
    struct hadb_id incarnation;   /* of the writer */
    struct hadb_id put_id;        /* fresh for each object */
    uint64_t pages_after;         /* pages formats only; else 0 */
    uint64_t checksum_after;      /* pages formats only; else 0 */
    int64_t time_unix_ms;         /* advisory, clamped monotone by the writer */
};
#endif
