/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of segments and records (byte tables in format_private.h). Pure functions; any thread; every length
 * is checked before it is used. Failure modes: bytes that do not hold together are reported, never trusted.
 */
#include "engines/kv/format_private.h"

#include <inttypes.h>

#include "base/error.h"
#include "base/hash.h"

static const uint8_t magic[8] = {'h', 'a', 'd', 'b', 'k', 'v', '1', '\n'};
static const uint8_t zeros[8];

void hadb__kv_segment_header_encode(const struct hadb__kv_segment_header *header,
                                    uint8_t out[HADB__KV_SEGMENT_HEADER_BYTES])
{
    memcpy(out + HADB__KV_SEGMENT_MAGIC, magic, sizeof(magic));
    hadb_put_u32(out + HADB__KV_SEGMENT_VERSION, HADB__KV_VERSION);
    hadb_put_u32(out + HADB__KV_SEGMENT_HEADER_LEN, HADB__KV_SEGMENT_HEADER_BYTES);
    memcpy(out + HADB__KV_SEGMENT_DB, header->db.b, sizeof(header->db.b));
    hadb_put_u64(out + HADB__KV_SEGMENT_NUMBER, header->number);
    hadb_put_u64(out + HADB__KV_SEGMENT_BASE, header->base);
    hadb_put_u64(out + HADB__KV_SEGMENT_TIME, (uint64_t)header->time_unix_ms);
    hadb_put_u32(out + HADB__KV_SEGMENT_ZERO, 0);
    hadb_put_u32(out + HADB__KV_SEGMENT_CRC, hadb_crc32c(0, out, HADB__KV_SEGMENT_CRC));
}

int hadb__kv_segment_header_decode(const uint8_t in[HADB__KV_SEGMENT_HEADER_BYTES],
                                   struct hadb__kv_segment_header *out, struct hadb_error *err)
{
    if (memcmp(in + HADB__KV_SEGMENT_MAGIC, magic, sizeof(magic)) != 0) {
        return hadb_fail(err, HADB_ECORRUPT, "this is no kv segment");
    }
    uint32_t version = hadb_get_u32(in + HADB__KV_SEGMENT_VERSION);
    if (version != HADB__KV_VERSION) {
        return hadb_fail(err, HADB_EVERSION,
                         "segment format %" PRIu32 ", this release reads format %u", version,
                         HADB__KV_VERSION);
    }
    if (hadb_get_u32(in + HADB__KV_SEGMENT_CRC) != hadb_crc32c(0, in, HADB__KV_SEGMENT_CRC) ||
        hadb_get_u32(in + HADB__KV_SEGMENT_HEADER_LEN) != HADB__KV_SEGMENT_HEADER_BYTES) {
        return hadb_fail(err, HADB_ECORRUPT, "the segment header fails its checksum");
    }
    memcpy(out->db.b, in + HADB__KV_SEGMENT_DB, sizeof(out->db.b));
    out->number = hadb_get_u64(in + HADB__KV_SEGMENT_NUMBER);
    out->base = hadb_get_u64(in + HADB__KV_SEGMENT_BASE);
    out->time_unix_ms = (int64_t)hadb_get_u64(in + HADB__KV_SEGMENT_TIME);
    return 0;
}

uint32_t hadb__kv_seed(const struct hadb_id *db)
{
    return hadb_crc32c(0, db->b, sizeof(db->b));
}

static uint32_t record_crc(const uint8_t *bytes, uint64_t len, uint32_t seed)
{
    return hadb_crc32c(seed, bytes + HADB__KV_RECORD_LEN, (size_t)(len - HADB__KV_RECORD_LEN));
}

void hadb__kv_record_seal(uint8_t *bytes, const struct hadb__kv_record *record, uint32_t seed)
{
    HADB_ASSERT(record->len <= HADB__KV_PAYLOAD_BYTES_MAX);
    hadb_put_u32(bytes + HADB__KV_RECORD_LEN, record->len);
    bytes[HADB__KV_RECORD_TYPE] = (uint8_t)record->type;
    bytes[HADB__KV_RECORD_FLAGS] = record->flags;
    memset(bytes + HADB__KV_RECORD_ZERO, 0, HADB__KV_RECORD_POSITION - HADB__KV_RECORD_ZERO);
    hadb_put_u64(bytes + HADB__KV_RECORD_POSITION, record->position);
    hadb_put_u64(bytes + HADB__KV_RECORD_SYNCED, record->synced);
    uint64_t all = hadb__kv_record_bytes(record->len);
    uint64_t used = HADB__KV_RECORD_HEADER_BYTES + (uint64_t)record->len;
    memset(bytes + used, 0, (size_t)(all - used));
    hadb_put_u32(bytes + HADB__KV_RECORD_CRC, record_crc(bytes, all, seed));
}

const char *hadb__kv_record_header(const uint8_t *bytes, uint64_t position, uint64_t bytes_max,
                                   struct hadb__kv_record *out)
{
    if (bytes_max < HADB__KV_RECORD_HEADER_BYTES) {
        return "record header is cut off";
    }
    *out = (struct hadb__kv_record){
        .type = bytes[HADB__KV_RECORD_TYPE],
        .flags = bytes[HADB__KV_RECORD_FLAGS],
        .len = hadb_get_u32(bytes + HADB__KV_RECORD_LEN),
        .position = hadb_get_u64(bytes + HADB__KV_RECORD_POSITION),
        .synced = hadb_get_u64(bytes + HADB__KV_RECORD_SYNCED),
    };
    if (out->position != position) {
        return "record header does not name its position";
    }
    if (out->type < HADB__KV_APPLY || out->type > HADB__KV_CLEAN ||
        (out->flags & ~HADB__KV_FLAG_MARK) != 0 || out->synced > position ||
        memcmp(bytes + HADB__KV_RECORD_ZERO, zeros,
               HADB__KV_RECORD_POSITION - HADB__KV_RECORD_ZERO) != 0) {
        return "record header is malformed";
    }
    if (out->len > HADB__KV_PAYLOAD_BYTES_MAX || hadb__kv_record_bytes(out->len) > bytes_max) {
        return "record is cut off";
    }
    return NULL;
}

bool hadb__kv_record_intact(const uint8_t *bytes, const struct hadb__kv_record *record,
                            uint32_t seed)
{
    return hadb_get_u32(bytes + HADB__KV_RECORD_CRC) ==
           record_crc(bytes, hadb__kv_record_bytes(record->len), seed);
}

void hadb__kv_mark_encode(const struct hadb_pos *mark, uint8_t out[HADB__KV_MARK_BYTES])
{
    hadb_put_u64(out, mark->term);
    hadb_put_u64(out + 8, mark->slot);
    hadb_put_u64(out + 16, mark->txid);
    static_assert(sizeof(mark->hash.b) + 24 == HADB__KV_MARK_BYTES, "mark");
    memcpy(out + 24, mark->hash.b, sizeof(mark->hash.b));
}

void hadb__kv_mark_decode(const uint8_t in[HADB__KV_MARK_BYTES], struct hadb_pos *out)
{
    out->term = hadb_get_u64(in);
    out->slot = hadb_get_u64(in + 8);
    out->txid = hadb_get_u64(in + 16);
    memcpy(out->hash.b, in + 24, sizeof(out->hash.b));
}

bool hadb__kv_item_next(struct hadb_slice *rest, struct hadb_item *out)
{
    if (rest->len < HADB__KV_ITEM_BYTES) {
        return false;
    }
    const uint8_t *at = rest->data;
    uint64_t key_len = hadb_get_u32(at), value_len = hadb_get_u32(at + 4);
    if (key_len == 0 || key_len > HADB_ENGINE_KEY_BYTES_MAX || value_len > HADB_VALUE_BYTES_MAX ||
        key_len + value_len > rest->len - HADB__KV_ITEM_BYTES) {
        return false;
    }
    *out = (struct hadb_item){
        .key = hadb_slice(at + HADB__KV_ITEM_BYTES, (size_t)key_len),
        .value = hadb_slice(at + HADB__KV_ITEM_BYTES + key_len, (size_t)value_len),
        .version = {.term = hadb_get_u64(at + 8), .txid = hadb_get_u64(at + 16)},
    };
    size_t used = (size_t)(HADB__KV_ITEM_BYTES + key_len + value_len);
    *rest = hadb_slice(at + used, rest->len - used);
    return true;
}

uint8_t *hadb__kv_item_encode(const struct hadb_item *item, uint8_t *at)
{
    hadb_put_u32(at, (uint32_t)item->key.len);
    hadb_put_u32(at + 4, (uint32_t)item->value.len);
    hadb_put_u64(at + 8, item->version.term);
    hadb_put_u64(at + 16, item->version.txid);
    at += HADB__KV_ITEM_BYTES;
    if (item->key.len) {
        memcpy(at, item->key.data, item->key.len);
    }
    at += item->key.len;
    if (item->value.len) {
        memcpy(at, item->value.data, item->value.len);
    }
    return at + item->value.len;
}
