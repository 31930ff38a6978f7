/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 4 of 8: frame. `.hadbj`, the one container of everything hadb keeps in storage: log entries
 * (DATA, SEAL), parts of snapshots, meta, manifest, names. Pure functions on bytes; no I/O; any thread.
 *
 * All integers are little-endian. An object is a header, then the stored body, and nothing else.
 *
 *   offset  size  field
 *        0     5  magic "HADBJ"
 *        5     1  format version, 1
 *        6     1  kind (enum hadb_entry_kind)
 *        7     1  codec of the payload: 0 none, 1 zstd (exactly one frame that states its size)
 *        8     2  flags: bit 0 BLOB, bit 1 LAST
 *       10     6  zero
 *       16    16  database uuid
 *       32     8  term
 *       40     8  slot
 *       48     8  first txid
 *       56     8  last txid
 *       64    32  prev: hash of the entry before
 *       96    16  incarnation of the writer
 *      112    16  put id, fresh for each object
 *      128     8  pages after  (page formats only, else 0)
 *      136     8  checksum after  (page formats only, else 0)
 *      144     8  time, Unix milliseconds, advisory
 *      152     4  AEAD algorithm: 0 none; anything else is refused by this version
 *      156     4  zero
 *      160    16  AEAD key id
 *      176    24  AEAD nonce
 *      200    16  AEAD tag
 *      216     8  stored length: bytes of the body in this object
 *      224     8  raw length: bytes of the payload after decompression
 *      232     8  durable slot: prefix-durable for the writer when it framed this  (DATA only, else 0)
 *      240    16  zero
 *      256    32  body hash: SHA-256 of the stored body
 *      288    32  header hash: SHA-256 of bytes 0..287
 *      320     …  stored body
 *
 * The payload is the encoded transactions, seal, items … It is the body itself, compressed or not;
 * or, with the flag BLOB, it lies (compressed or not) in blob objects and the body is a reference:
 *
 *        0     8  stored length of the payload: the sum of its parts
 *        8     4  number of parts, 1..8
 *       12     4  zero
 *       16    40  for each part: length 8, SHA-256 32; part n is the object blob/<put id>-<n>
 *
 * The hash of an entry is SHA-256 over all its stored bytes, header and body. It is the link that the
 * next entry carries as prev. Every bit is covered twice: by the header and body hash, which make
 * a single object self-verifying, and by the chain.
 */
#ifndef HADB_CHANGESET_H
#define HADB_CHANGESET_H

#include <assert.h>

#include "changeset/body.h"
#include "changeset/manifest.h"
#include "hadb/engine.h"

#define HADB_ENTRY_VERSION 1u
#define HADB_ENTRY_HEADER_BYTES 320u
#define HADB_ENTRY_RAW_BYTES_MAX (HADB_BATCH_BYTES_MAX + (1u << 20)) /* payload of DATA, SNAPSHOT */
#define HADB_ENTRY_SMALL_BYTES_MAX (64u << 10)                       /* … of SEAL, META, NAME */
#define HADB_LOG_WINDOW_MAX 8u            /* slots that one writer has in flight, at most */
#define HADB_OBJECT_BYTES_MAX (64u << 20) /* one object in storage */
#define HADB_BLOB_PARTS_MAX 8u
#define HADB_BLOB_REF_BYTES 16u
#define HADB_BLOB_REF_PART_BYTES 40u
#define HADB_ZSTD_LEVEL_MAX 19    /* above it decoders would need very large windows */
#define HADB_ZSTD_LEVEL_DEFAULT 1 /* what hop 4 uses when nothing is configured */

static_assert(HADB_ENTRY_RAW_BYTES_MAX <= (uint64_t)HADB_BLOB_PARTS_MAX * HADB_OBJECT_BYTES_MAX,
              "the largest payload fits into its blob parts");

enum hadb_entry_kind {
    HADB_ENTRY_DATA = 1, /* payload: encoded transactions (hadb/engine.h), one after the other */
    HADB_ENTRY_SEAL = 2, /* payload: struct hadb_seal */
    HADB_ENTRY_SNAPSHOT =
        3,               /* one part of a base image; payload: items in key order; chained parts */
    HADB_ENTRY_META = 4, /* payload: struct hadb_meta */
    HADB_ENTRY_MANIFEST = 5, /* payload: struct hadb_manifest */
    HADB_ENTRY_NAME = 6,     /* payload: struct hadb_name, what names/<name> holds */
};

enum hadb_entry_codec { HADB_CODEC_NONE = 0, HADB_CODEC_ZSTD = 1 };

#define HADB_ENTRY_FLAG_BLOB 1u /* the body is a reference; set by hadb_entry_frame() only */
#define HADB_ENTRY_FLAG_LAST 2u /* last part of a snapshot */

struct hadb_entry {
    enum hadb_entry_kind kind;
    uint16_t flags;
    struct hadb_id db;
    uint64_t term, slot; /* SNAPSHOT: term after the slot it covers, that slot; META, NAME: 0 */
    /* DATA: its first and last transaction; SEAL: both the last one of the term that ends;
     * SNAPSHOT: part number from 0, transaction that the image shows; else 0. */
    hadb_txid first_txid, last_txid;
    /* DATA, SEAL: chain hash of the entry before; SNAPSHOT part 0: chain hash of the position it
     * covers, part n: hash of part n-1; else 0. */
    struct hadb_hash prev;
    struct hadb_id incarnation; /* of the writer */
    struct hadb_id put_id;      /* fresh for each object */
    uint64_t pages_after;       /* page formats only; else 0 */
    uint64_t checksum_after;    /* page formats only; else 0 */
    int64_t time_unix_ms;       /* advisory, clamped monotone by the writer */
    /* DATA: every slot of this term up to it was in storage when this entry was framed: one of those
     * that is missing later, above the boundary, was lost; else 0. */
    uint64_t durable_slot;

    /* Filled in by reading; ignored by writing. */
    enum hadb_entry_codec codec;
    uint64_t stored_bytes;      /* body in this object */
    uint64_t raw_bytes;         /* payload */
    struct hadb_hash body_hash; /* of the stored body */
};

/* ---- writing ---- */

/*
 * Frames @payload into one object with the body inside.
 *
 * @zstd_level  0 stores as is; 1..HADB_ZSTD_LEVEL_MAX compresses when that is smaller
 * @out         appended to; untouched on failure
 * Returns      0
 * Errors       HADB_ETOOBIG (payload over the limit of its kind, or body over hadb_entry_inline_max():
 *              use hadb_entry_frame()), HADB_EINVAL, HADB_ENOMEM
 */
int hadb_entry_encode(const struct hadb_entry *entry, struct hadb_slice payload, int zstd_level,
                      struct hadb_buf *out, struct hadb_hash *hash, struct hadb_error *err);

/* A framed entry: what to put into storage. Blobs first, in any order, then the entry itself. */
struct hadb_framed {
    struct hadb_buf entry;                        /* bytes of the object */
    struct hadb_hash hash;                        /* the chain link */
    struct hadb_slice blobs[HADB_BLOB_PARTS_MAX]; /* blob/<put id>-<n>; into blob_bytes */
    size_t blobs_len;                             /* 0 = the body is inside */
    struct hadb_buf blob_bytes;                   /* owns all blobs */
};

/*
 * Frames @payload; a body that is too large for its object goes to blobs (DATA and SNAPSHOT only).
 *
 * Returns    0; *out is to be freed with hadb_framed_deinit()
 * Errors     HADB_ETOOBIG, HADB_EINVAL, HADB_ENOMEM
 */
int hadb_entry_frame(const struct hadb_entry *entry, struct hadb_slice payload, int zstd_level,
                     struct hadb_framed *out, struct hadb_error *err);
void hadb_framed_deinit(struct hadb_framed *framed);

/* ---- reading ---- */

/*
 * Reads and verifies the header alone; the first HADB_ENTRY_HEADER_BYTES are enough. With @hash (may be
 * NULL) @stored must be the whole object: body hash and length are verified and *hash is its chain hash.
 *
 * Returns    0
 * Errors     HADB_ECORRUPT; HADB_EVERSION (written by a newer release); HADB_ENOTSUP (encrypted)
 */
int hadb_entry_peek(struct hadb_slice stored, struct hadb_entry *out, struct hadb_hash *hash,
                    struct hadb_error *err);

struct hadb_blob_part {
    uint64_t bytes;
    struct hadb_hash hash;
};

/* An entry that is being read. The zero value is empty. */
struct hadb_opened {
    struct hadb_entry entry;
    struct hadb_hash hash;                            /* the chain link */
    struct hadb_buf payload;                          /* whole once hadb_entry_open() or the last
                                                         hadb_entry_attach_blob() returned 0 */
    struct hadb_blob_part parts[HADB_BLOB_PARTS_MAX]; /* what to fetch: blob/<put id>-<n> */
    size_t parts_len;                                 /* 0 = the payload was inside */
    size_t parts_attached;
    void *inflate; /* private: decompression under way */
};

/*
 * Verifies a whole object and decodes its payload.
 *
 * @out       to be freed with hadb_opened_deinit() after 0 or HADB_ABSENT
 * Returns    0; HADB_ABSENT the payload lies in out->parts_len blobs: attach them all
 * Errors     HADB_ECORRUPT, HADB_EVERSION, HADB_ENOTSUP, HADB_ENOMEM
 */
int hadb_entry_open(struct hadb_slice stored, struct hadb_opened *out, struct hadb_error *err);
/*
 * Adds blob number out->parts_attached, verified by length and hash; bytes are not kept. After a
 * failure other than of this blob's own bytes (wrong length or hash) the entry must be opened anew.
 *
 * Returns    0 this was the last one, the payload is whole; HADB_ABSENT more to come
 * Errors     HADB_ECORRUPT, HADB_EINVAL (no blob is missing), HADB_ENOMEM
 */
int hadb_entry_attach_blob(struct hadb_opened *out, struct hadb_slice blob, struct hadb_error *err);
void hadb_opened_deinit(struct hadb_opened *opened);

/*
 * hadb_entry_open() in one call, for callers that need no blobs.
 *
 * @payload   replaced; owned by the caller
 * @hash      may be NULL
 * Returns    0; HADB_ABSENT the payload lies in blobs: *out and *hash are set, *payload is not
 * Errors     HADB_ECORRUPT, HADB_EVERSION, HADB_ENOTSUP, HADB_ENOMEM
 */
int hadb_entry_decode(struct hadb_slice stored, struct hadb_entry *out, struct hadb_buf *payload,
                      struct hadb_hash *hash, struct hadb_error *err);

/* ---- helpers ---- */

/*
 * Checks that the payload of a DATA entry is whole transactions, numbered first_txid..last_txid.
 *
 * Returns    0
 * Errors     HADB_ECORRUPT
 */
int hadb_entry_check_data(const struct hadb_entry *entry, struct hadb_slice payload,
                          struct hadb_error *err);
/* Largest body that may lie inside an object of this kind; largest payload. 0 for an unknown kind. */
uint64_t hadb_entry_inline_max(enum hadb_entry_kind kind);
uint64_t hadb_entry_payload_max(enum hadb_entry_kind kind);
/* "data", "seal", …; NULL for an unknown kind. */
const char *hadb_entry_kind_name(enum hadb_entry_kind kind);

#endif
