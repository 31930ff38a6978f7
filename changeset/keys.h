/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 6 and 7 of 8: names of objects in storage. Pure; any thread. Relative to the store's own prefix.
 *
 *   <h4>/<uuid>/meta
 *   <h4>/<uuid>/manifest
 *   <h4>/<uuid>/log/<term>/<slot>
 *   <h4>/<uuid>/snap/<slot>-<nonce>/<part>
 *   <h4>/<uuid>/blob/<put id>-<n>
 *   names/<database name>
 *   probe/<store version>
 *
 * h4 is the first 16 bits of SHA-256(the 16 bytes of the uuid) as 4 hex digits; it spreads databases over
 * the partitions of a store. The uuid is in its usual form with dashes, as /v1/status shows it. Term and
 * slot are 16 hex digits, part is 8, n is 1 decimal digit, nonce and put id are 32 hex digits. All hex is
 * lower case, so a listing is in order and each object has exactly one name.
 */
#ifndef HADB_KEYS_H
#define HADB_KEYS_H

#include "hadb/types.h"

#define HADB_OBJECT_KEY_BYTES 160   /* the longest key and NUL */
#define HADB_SNAPSHOT_NAME_BYTES 50 /* <slot>-<nonce> and NUL; the name in the manifest */

void hadb_key_meta(const struct hadb_id *db, char out[HADB_OBJECT_KEY_BYTES]);
void hadb_key_manifest(const struct hadb_id *db, char out[HADB_OBJECT_KEY_BYTES]);
void hadb_key_log(const struct hadb_id *db, uint64_t term, uint64_t slot,
                  char out[HADB_OBJECT_KEY_BYTES]);
void hadb_key_snapshot_part(const struct hadb_id *db, uint64_t slot, const struct hadb_id *nonce,
                            uint32_t part, char out[HADB_OBJECT_KEY_BYTES]);
void hadb_key_blob(const struct hadb_id *db, const struct hadb_id *put_id, unsigned n,
                   char out[HADB_OBJECT_KEY_BYTES]);
/* @name must be valid (hadb_name_valid). */
void hadb_key_name(const char *name, char out[HADB_OBJECT_KEY_BYTES]);
/* @version too: replace other characters of a server's version text first. */
void hadb_key_probe(const char *version, char out[HADB_OBJECT_KEY_BYTES]);

/* The name of a snapshot in the manifest and back. */
void hadb_snapshot_name(uint64_t slot, const struct hadb_id *nonce,
                        char out[HADB_SNAPSHOT_NAME_BYTES]);
bool hadb_snapshot_name_parse(const char *name, uint64_t *slot, struct hadb_id *nonce);

/* Prefixes for listing, each with the slash at its end: all of a database, its log, one term of the log,
 * its snapshots, its blobs. */
void hadb_key_prefix_db(const struct hadb_id *db, char out[HADB_OBJECT_KEY_BYTES]);
void hadb_key_prefix_log(const struct hadb_id *db, char out[HADB_OBJECT_KEY_BYTES]);
void hadb_key_prefix_term(const struct hadb_id *db, uint64_t term, char out[HADB_OBJECT_KEY_BYTES]);
void hadb_key_prefix_snapshots(const struct hadb_id *db, char out[HADB_OBJECT_KEY_BYTES]);
void hadb_key_prefix_blobs(const struct hadb_id *db, char out[HADB_OBJECT_KEY_BYTES]);

enum hadb_key_type {
    HADB_KEY_META = 1,
    HADB_KEY_MANIFEST,
    HADB_KEY_LOG,
    HADB_KEY_SNAPSHOT,
    HADB_KEY_BLOB,
    HADB_KEY_NAME,
    HADB_KEY_PROBE,
};

struct hadb_key_parts {
    enum hadb_key_type type;
    struct hadb_id db;
    uint64_t term, slot;              /* LOG; SNAPSHOT: slot */
    struct hadb_id nonce;             /* SNAPSHOT: nonce; BLOB: put id */
    uint32_t part;                    /* SNAPSHOT: part; BLOB: n */
    char name[HADB_OBJECT_KEY_BYTES]; /* NAME, PROBE */
};
/* Takes a key apart; false unless it is exactly what a function above writes. */
bool hadb_key_parse(const char *key, struct hadb_key_parts *out);

#endif
