/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 4 of 8: payloads of the small objects (seal, meta, name) and the items of a snapshot.
 * All integers are little-endian; every payload ends exactly where its last field ends.
 *
 *   seal   0  1  version, 1                 meta   0  1  version, 1
 *          1  1  reason                            1  1  length of the database name
 *          2  1  length of the node name           2  1  length of the engine name
 *          3  1  length of the address             3  1  length of the hash name
 *          4 16  node id of the next owner         4  4  format of the log, 1
 *         20 16  its incarnation                   8  4  page size; 0 = records
 *         36  …  node name, address               12  4  zero
 *                                                 16 16  cluster id
 *   name   0  1  version, 1                       32  8  created, Unix milliseconds
 *          1  7  zero                             40 16  parent uuid; zero = no fork
 *          8 16  database uuid                    56  8  slot of the parent at which it forked
 *                                                 64  …  database, engine, hash name
 *   item   0  4  length of the key
 *          4  4  length of the value
 *          8  8  term                       }  version that the key
 *         16  8  txid                       }  got when it was written last
 *         24  …  key, value
 */
#ifndef HADB_BODY_H
#define HADB_BODY_H

#include "hadb/engine.h"

#define HADB_ADDRESS_BYTES_MAX 255u /* host:port of a node */
#define HADB_SEAL_HEADER_BYTES 36u
#define HADB_META_HEADER_BYTES 64u
#define HADB_NAME_BODY_BYTES 24u
#define HADB_ITEM_HEADER_BYTES 24u
#define HADB_META_FORMAT 1u
#define HADB_META_HASH "sha256"

/* The numbers in storage; enum hadb_seal_reason of core/ has the same. */
enum hadb_seal_reason_stored {
    HADB_SEAL_REASON_GENESIS = 1,
    HADB_SEAL_REASON_FAILOVER = 2,
    HADB_SEAL_REASON_HANDOFF = 3,
    HADB_SEAL_REASON_RESIGN = 4,  /* nobody need be named */
    HADB_SEAL_REASON_RETIRED = 5, /* likewise: the database ends here */
};

/* Ends a term and names the owner of the next one. */
struct hadb_seal {
    unsigned reason;                    /* enum hadb_seal_reason_stored */
    char node[HADB_NAME_BYTES_MAX + 1]; /* "" = nobody: then the rest is zero too */
    struct hadb_id node_id;
    struct hadb_id incarnation;
    char address[HADB_ADDRESS_BYTES_MAX + 1]; /* printable ASCII; may be "" */
};
/* Appends. HADB_EINVAL (bad name, address, reason), HADB_ENOMEM. */
int hadb_seal_encode(const struct hadb_seal *seal, struct hadb_buf *out, struct hadb_error *err);
/* HADB_ECORRUPT, HADB_EVERSION. */
int hadb_seal_decode(struct hadb_slice payload, struct hadb_seal *out, struct hadb_error *err);
/* "genesis", "failover", "hand-off", "resign", "retired"; NULL for an unknown one. */
const char *hadb_seal_reason_name(unsigned reason);

/* What a database is; written once. Its uuid is in the header of the object. */
struct hadb_meta {
    uint32_t format;     /* HADB_META_FORMAT */
    uint32_t page_bytes; /* page formats; 0 = records */
    struct hadb_id cluster;
    char database[HADB_NAME_BYTES_MAX + 1];
    char engine[HADB_NAME_BYTES_MAX + 1];
    char hash[HADB_NAME_BYTES_MAX + 1]; /* HADB_META_HASH */
    int64_t created_unix_ms;
    struct hadb_id parent; /* zero = no fork */
    uint64_t parent_slot;
};
/* Appends. HADB_EINVAL, HADB_ENOMEM. */
int hadb_meta_encode(const struct hadb_meta *meta, struct hadb_buf *out, struct hadb_error *err);
/* HADB_ECORRUPT; HADB_EVERSION also for another format of the log or another hash. */
int hadb_meta_decode(struct hadb_slice payload, struct hadb_meta *out, struct hadb_error *err);

/* What a name points to. */
struct hadb_name {
    struct hadb_id db;
};
/* Appends. HADB_EINVAL (zero uuid), HADB_ENOMEM. */
int hadb_name_encode(const struct hadb_name *name, struct hadb_buf *out, struct hadb_error *err);
/* HADB_ECORRUPT, HADB_EVERSION. */
int hadb_name_decode(struct hadb_slice payload, struct hadb_name *out, struct hadb_error *err);

/* Appends an item of a snapshot. HADB_EINVAL (empty key), HADB_ETOOBIG, HADB_ENOMEM. */
int hadb_item_encode(const struct hadb_item *item, struct hadb_buf *out, struct hadb_error *err);

/* Reads items. Start with {.rest = payload}; for the next part keep last_key (it must stay valid)
 * and set rest again, so that the order is checked over all parts. */
struct hadb_items {
    struct hadb_slice rest;
    struct hadb_slice last_key;
};
/* 0 (slices of *out point into the payload); HADB_END; HADB_ECORRUPT, also when a key is not above
 * the one before it. */
int hadb_items_next(struct hadb_items *items, struct hadb_item *out, struct hadb_error *err);

#endif
