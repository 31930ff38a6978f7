/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Format of the kv engine's segments (docs/formats-kv.md). All integers little-endian.
 *
 * A database is one log, cut into segment files seg-<number, 16 hex digits>.kv, numbered 1, 2, 3 … A
 * position in the log counts all bytes of all segments, headers included.
 *
 * Segment header, 64 bytes, written once before the file gets its name:
 *    0  8  magic "hadbkv1\n"
 *    8  4  version, 1
 *   12  4  size of this header, 64
 *   16 16  database id, random; its CRC-32C seeds the checksum of every record
 *   32  8  segment number
 *   40  8  position of this file's byte 0
 *   48  8  creation time, Unix milliseconds, advisory
 *   56  4  zero
 *   60  4  CRC-32C of bytes 0..59
 *
 * Record, at the next multiple of 8:
 *    0  4  CRC-32C of all that follows, padding included, seeded with the database id
 *    4  4  length of the payload, without padding
 *    8  1  type
 *    9  1  flags
 *   10  6  zero
 *   16  8  position of this record
 *   24  8  position below which all was on disk (fsync) when this record was written
 *   32  …  payload, zero-padded to a multiple of 8
 *
 * Payloads
 *   1 APPLY   [mark, if flags & 1] encoded transactions (hadb/engine.h); all or none of them count
 *   2 MARK    mark
 *   3 REWIND  nothing: undo what lies above the mark, or an unfinished ingest
 *   4 INGEST  items: key length 4, value length 4, term 8, txid 8, key, value
 *   5 CLEAN   nothing: written behind the last fsync of an orderly close
 *
 * Mark, 56 bytes: term 8, slot 8, txid 8, hash 32.
 */
#ifndef HADB_ENGINES_KV_FORMAT_PRIVATE_H
#define HADB_ENGINES_KV_FORMAT_PRIVATE_H
#include <assert.h>

#include "base/buf.h"
#include "hadb/engine.h"

enum {
    HADB__KV_SEGMENT_MAGIC = 0,
    HADB__KV_SEGMENT_VERSION = 8,
    HADB__KV_SEGMENT_HEADER_LEN = 12,
    HADB__KV_SEGMENT_DB = 16,
    HADB__KV_SEGMENT_NUMBER = 32,
    HADB__KV_SEGMENT_BASE = 40,
    HADB__KV_SEGMENT_TIME = 48,
    HADB__KV_SEGMENT_ZERO = 56,
    HADB__KV_SEGMENT_CRC = 60,
    HADB__KV_SEGMENT_HEADER_BYTES = 64,
};
static_assert(HADB__KV_SEGMENT_DB == HADB__KV_SEGMENT_HEADER_LEN + 4, "segment header");
static_assert(HADB__KV_SEGMENT_NUMBER == HADB__KV_SEGMENT_DB + 16, "segment header");
static_assert(HADB__KV_SEGMENT_BASE == HADB__KV_SEGMENT_NUMBER + 8, "segment header");
static_assert(HADB__KV_SEGMENT_TIME == HADB__KV_SEGMENT_BASE + 8, "segment header");
static_assert(HADB__KV_SEGMENT_ZERO == HADB__KV_SEGMENT_TIME + 8, "segment header");
static_assert(HADB__KV_SEGMENT_CRC == HADB__KV_SEGMENT_ZERO + 4, "segment header");
static_assert(HADB__KV_SEGMENT_CRC + 4 == HADB__KV_SEGMENT_HEADER_BYTES, "segment header");

enum {
    HADB__KV_RECORD_CRC = 0,
    HADB__KV_RECORD_LEN = 4,
    HADB__KV_RECORD_TYPE = 8,
    HADB__KV_RECORD_FLAGS = 9,
    HADB__KV_RECORD_ZERO = 10,
    HADB__KV_RECORD_POSITION = 16,
    HADB__KV_RECORD_SYNCED = 24,
    HADB__KV_RECORD_HEADER_BYTES = 32,
};
static_assert(HADB__KV_RECORD_POSITION == HADB__KV_RECORD_ZERO + 6, "record header");
static_assert(HADB__KV_RECORD_SYNCED == HADB__KV_RECORD_POSITION + 8, "record header");
static_assert(HADB__KV_RECORD_SYNCED + 8 == HADB__KV_RECORD_HEADER_BYTES, "record header");
static_assert(HADB__KV_SEGMENT_HEADER_BYTES % 8 == 0, "records start at multiples of 8");
static_assert(HADB__KV_RECORD_HEADER_BYTES % 8 == 0, "records start at multiples of 8");

enum hadb__kv_type {
    HADB__KV_APPLY = 1,
    HADB__KV_MARK = 2,
    HADB__KV_REWIND = 3,
    HADB__KV_INGEST = 4,
    HADB__KV_CLEAN = 5,
};
#define HADB__KV_FLAG_MARK 1u
#define HADB__KV_MARK_BYTES 56u
#define HADB__KV_ITEM_BYTES 24u /* head of an ingested item */

#define HADB__KV_VERSION 1u
#define HADB__KV_PAYLOAD_BYTES_MAX (HADB_ENGINE_APPLY_BYTES_MAX + HADB__KV_MARK_BYTES)

struct hadb__kv_segment_header {
    struct hadb_id db;
    uint64_t number;
    uint64_t base;
    int64_t time_unix_ms;
};
void hadb__kv_segment_header_encode(const struct hadb__kv_segment_header *header,
                                    uint8_t out[HADB__KV_SEGMENT_HEADER_BYTES]);
/* HADB_ECORRUPT, HADB_EVERSION. */
int hadb__kv_segment_header_decode(const uint8_t in[HADB__KV_SEGMENT_HEADER_BYTES],
                                   struct hadb__kv_segment_header *out, struct hadb_error *err);
uint32_t hadb__kv_seed(const struct hadb_id *db);

struct hadb__kv_record {
    enum hadb__kv_type type;
    uint8_t flags;
    uint32_t len; /* of the payload */
    uint64_t position;
    uint64_t synced;
};
/* The whole record on disk. */
static inline uint64_t hadb__kv_record_bytes(uint64_t payload_len)
{
    return HADB__KV_RECORD_HEADER_BYTES + ((payload_len + 7) & ~(uint64_t)7);
}
/* Fills in the header before the payload and the padding behind it. @bytes holds the whole record. */
void hadb__kv_record_seal(uint8_t *bytes, const struct hadb__kv_record *record, uint32_t seed);
/* NULL when the header could begin a record of at most @bytes_max at @position, else what is wrong. */
const char *hadb__kv_record_header(const uint8_t *bytes, uint64_t position, uint64_t bytes_max,
                                   struct hadb__kv_record *out);
/* True when the checksum of the whole record holds. */
bool hadb__kv_record_intact(const uint8_t *bytes, const struct hadb__kv_record *record,
                            uint32_t seed);

void hadb__kv_mark_encode(const struct hadb_pos *mark, uint8_t out[HADB__KV_MARK_BYTES]);
void hadb__kv_mark_decode(const uint8_t in[HADB__KV_MARK_BYTES], struct hadb_pos *out);
/* Reads the item at *@rest and moves on. False when it does not hold together. */
bool hadb__kv_item_next(struct hadb_slice *rest, struct hadb_item *out);
uint8_t *hadb__kv_item_encode(const struct hadb_item *item, uint8_t *at); /* behind what it wrote */

#endif
