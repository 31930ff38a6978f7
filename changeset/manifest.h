/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 4 of 8: the manifest, the one object of a database that changes (compare-and-swap). Pure; any thread.
 *
 *        0     1  version, 1
 *        1     7  zero
 *        8     8  manifest version: 1, 2, 3 …
 *       16    16  nonce of this write
 *       32     8  boundary slot       DATA slots <= it are covered by a snapshot
 *       40     8  boundary term       term at boundary slot + 1
 *       48     8  swept slot          DATA slots <= it have been deleted
 *       56     8  swept term          last term that was cleaned wholly
 *       64     8  terms floor         terms below it were dropped from the table
 *       72     …  sections, tags strictly ascending, none empty: tag 4, length 4, bytes
 *
 *   tag 1  snapshots   each: name length 1, zero 3, parts 4, bytes 8, time 8, term 8, slot 8, txid 8,
 *                      chain hash 32, hash of the last part 32, digest 32, name
 *   tag 2  terms       each 56: term 8, last slot 8, last txid 8, seal hash 32; terms ascending
 *   tag 3  condemned   each: length 1, name; ascending
 *   other              kept as they are and written back; with bit 31 of the tag set they must be
 *                      understood (HADB_EVERSION): room for levels, forks, labels, time index
 *
 * One picture has one encoding: what decodes is encoded again to the same bytes.
 */
#ifndef HADB_MANIFEST_H
#define HADB_MANIFEST_H

#include "hadb/error.h"

#define HADB_MANIFEST_HEADER_BYTES 72u
#define HADB_MANIFEST_TERM_BYTES 56u
#define HADB_MANIFEST_SNAPSHOT_BYTES 144u /* without the name */
#define HADB_MANIFEST_SNAPSHOTS_MAX 1024u
#define HADB_MANIFEST_TERMS_MAX 4096u /* above it the oldest go and the floor rises */
#define HADB_MANIFEST_CONDEMNED_MAX 2048u
#define HADB_MANIFEST_NAME_BYTES_MAX 127u /* of snapshots and condemned objects */
#define HADB_MANIFEST_SECTIONS_MAX 64u
#define HADB_MANIFEST_TAG_CRITICAL 0x80000000u

struct hadb_manifest_snapshot {
    char name[HADB_MANIFEST_NAME_BYTES_MAX + 1]; /* <slot>-<nonce>, see changeset/keys.h */
    uint32_t parts;                              /* >= 1 */
    uint64_t bytes;                              /* sum of the stored objects */
    int64_t time_unix_ms;
    struct hadb_pos pos;        /* what it covers; where the log goes on */
    struct hadb_hash last_hash; /* chain hash of its last part */
    struct hadb_hash digest;    /* hadb_engine_digest() of the image; zero = unknown */
};

struct hadb_manifest_term {
    uint64_t term, last_slot; /* last DATA slot of the term or before it */
    uint64_t last_txid;
    struct hadb_hash seal_hash; /* of the seal that ended it */
};

struct hadb_manifest_section { /* not known to this release */
    uint32_t tag;
    struct hadb_buf bytes;
};

/* The zero value is empty; hadb_manifest_deinit() frees what it points to. */
struct hadb_manifest {
    uint64_t version;
    struct hadb_id nonce;
    uint64_t boundary_slot, boundary_term;
    uint64_t swept_slot, swept_term;
    uint64_t terms_floor;
    struct hadb_manifest_snapshot *snapshots; /* oldest first, as they were added */
    size_t snapshots_len, snapshots_cap;
    struct hadb_manifest_term *terms; /* ascending */
    size_t terms_len, terms_cap;
    char **condemned; /* ascending; each one allocation */
    size_t condemned_len, condemned_cap;
    struct hadb_manifest_section *sections; /* ascending tags */
    size_t sections_len, sections_cap;
};

void hadb_manifest_deinit(struct hadb_manifest *manifest);
/* Appends. HADB_EINVAL (an invariant above is broken), HADB_ETOOBIG (over HADB_MANIFEST_BYTES_MAX with
 * its object header), HADB_ENOMEM. */
int hadb_manifest_encode(const struct hadb_manifest *manifest, struct hadb_buf *out,
                         struct hadb_error *err);
/* @out is overwritten on success only and then owned. HADB_ECORRUPT, HADB_EVERSION, HADB_ENOMEM. */
int hadb_manifest_decode(struct hadb_slice payload, struct hadb_manifest *out,
                         struct hadb_error *err);
/* A deep copy, by encoding and decoding; @out is overwritten on success only. Errors of encode. */
int hadb_manifest_copy(const struct hadb_manifest *manifest, struct hadb_manifest *out,
                       struct hadb_error *err);

/* Adds behind the others. HADB_EINVAL, HADB_ETOOBIG (HADB_MANIFEST_SNAPSHOTS_MAX), HADB_ENOMEM. */
int hadb_manifest_add_snapshot(struct hadb_manifest *manifest,
                               const struct hadb_manifest_snapshot *snapshot,
                               struct hadb_error *err);
/* Removes number @index and condemns its name. HADB_ETOOBIG, HADB_ENOMEM: nothing changed. */
int hadb_manifest_drop_snapshot(struct hadb_manifest *manifest, size_t index,
                                struct hadb_error *err);
/* The snapshot with the highest slot; NULL when there is none. Borrowed. */
const struct hadb_manifest_snapshot *hadb_manifest_newest(const struct hadb_manifest *manifest);
/* Adds a term above all others; when the table is full the oldest goes and the floor rises.
 * Fine and without effect: a term that is there with the same content, or one below the floor.
 * HADB_EINVAL (contradicts the table, or would have to go in between), HADB_ENOMEM. */
int hadb_manifest_add_term(struct hadb_manifest *manifest, const struct hadb_manifest_term *term,
                           struct hadb_error *err);
/* The table's line of @term; NULL when it is not there. Borrowed. */
const struct hadb_manifest_term *hadb_manifest_find_term(const struct hadb_manifest *manifest,
                                                         uint64_t term);
/* Condemns a name; one that is condemned already is fine. HADB_EINVAL, HADB_ETOOBIG, HADB_ENOMEM. */
int hadb_manifest_condemn(struct hadb_manifest *manifest, const char *name, struct hadb_error *err);
/* Forgets a condemned name once its objects are gone. false when it was not there. */
bool hadb_manifest_absolve(struct hadb_manifest *manifest, const char *name);

#endif
