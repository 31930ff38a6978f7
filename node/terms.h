/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The term table of one database: how each term ended and who was named to own the next one. It lies in the
 * file `terms` beside the engine, which is replaced and fsynced before the engine's mark passes a
 * seal, so whoever has the mark also knows the owner of its term.
 *
 *        0     8  magic "HADBTERM"
 *        8     4  version, 1
 *       12     4  number of terms
 *       16    16  database uuid
 *       32     8  floor: terms below it are not in the table
 *       40   320  name (64) and address (256) of the last owner, zero-padded
 *      360    88  each: term 8, last slot 8, last txid 8, seal hash 32, next owner: node 16, incarnation 16
 *       …      4  CRC-32C of all before
 *
 * Pure but for load and store, which block. One thread at a time; node/ keeps it on the loop and hands
 * copies to jobs.
 */
#ifndef HADB_NODE_TERMS_H
#define HADB_NODE_TERMS_H

#include "changeset/changeset.h"
#include "core/core.h"

#define HADB_TERMS_MAX HADB_MANIFEST_TERMS_MAX
#define HADB_TERMS_HEADER_BYTES 360u
#define HADB_TERMS_RECORD_BYTES 88u

struct hadb_term {
    uint64_t term, last_slot;
    hadb_txid last_txid;
    struct hadb_hash seal_hash;
    struct hadb_owner next; /* owner of term + 1 */
};

struct hadb_terms {
    struct hadb_id db;
    uint64_t floor;
    struct hadb_term *items; /* ascending and without a gap */
    size_t len, cap;
    char next_name[HADB_NAME_BYTES_MAX + 1]; /* of the last item's next owner; "" = nobody */
    char next_address[HADB_ADDRESS_BYTES_MAX + 1];
};

void hadb_terms_deinit(struct hadb_terms *terms);
int hadb_terms_copy(const struct hadb_terms *terms, struct hadb_terms *out, struct hadb_error *err);
/* Adds the end of a term. What the table has of this term and later ones goes: a copy that was restarted or
 * restored passes them again. The oldest goes when the table is full. HADB_EINVAL (a gap), HADB_ENOMEM. */
int hadb_terms_add(struct hadb_terms *terms, const struct hadb_term *term, const char *next_name,
                   const char *next_address, struct hadb_error *err);
/* NULL when it is not in the table. Borrowed. */
const struct hadb_term *hadb_terms_find(const struct hadb_terms *terms, uint64_t term);
/* The owner of @term: named by the end of the term before. Zero when unknown or nobody. */
struct hadb_owner hadb_terms_owner(const struct hadb_terms *terms, uint64_t term);
/* The first term that may hold DATA above @swept_slot: all terms before it hold nothing but seals. */
uint64_t hadb_terms_unswept(const struct hadb_terms *terms, uint64_t swept_slot);

int hadb_terms_encode(const struct hadb_terms *terms, struct hadb_buf *out, struct hadb_error *err);
/* HADB_ECORRUPT, HADB_EVERSION, HADB_ENOMEM. */
int hadb_terms_decode(struct hadb_slice bytes, const struct hadb_id *db, struct hadb_terms *out,
                      struct hadb_error *err);
/* An absent file is an empty table. HADB_ECORRUPT names the file. */
int hadb_terms_load(const struct hadb_fs *fs, const char *path, const struct hadb_id *db,
                    struct hadb_terms *out, struct hadb_error *err);
int hadb_terms_store(const struct hadb_fs *fs, const char *path, const struct hadb_terms *terms,
                     struct hadb_error *err);
#endif
