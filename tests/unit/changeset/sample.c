/* SPDX-License-Identifier: Apache-2.0 */
/* One fixed example of every kind of object. Thread: any. Failure modes: aborts. */
#include "tests/unit/changeset/sample.h"

#include "base/hash.h"
#include "changeset/keys.h"

struct hadb_id sample_id(uint8_t seed)
{
    struct hadb_id id;
    for (size_t i = 0; i < sizeof(id.b); i++) {
        id.b[i] = (uint8_t)(seed + i);
    }
    return id;
}

struct hadb_hash sample_hash(uint8_t seed)
{
    struct hadb_hash hash;
    for (size_t i = 0; i < sizeof(hash.b); i++) {
        hash.b[i] = (uint8_t)(seed ^ (i * 7));
    }
    return hash;
}

struct hadb_entry sample_entry(enum hadb_entry_kind kind)
{
    struct hadb_entry entry = {
        .kind = kind,
        .db = sample_id(0x10),
        .term = 3,
        .slot = 0x2a,
        .prev = sample_hash(0x55),
        .incarnation = sample_id(0x40),
        .put_id = sample_id(0x80),
        .time_unix_ms = 1700000000123,
    };
    switch (kind) {
    case HADB_ENTRY_DATA:
        entry.first_txid = 100;
        entry.last_txid = 102;
        entry.durable_slot = 0x27;
        break;
    case HADB_ENTRY_SEAL:
        entry.first_txid = 102;
        entry.last_txid = 102;
        break;
    case HADB_ENTRY_SNAPSHOT:
        entry.flags = HADB_ENTRY_FLAG_LAST;
        entry.first_txid = 1;
        entry.last_txid = 102;
        break;
    default:
        entry.prev = (struct hadb_hash){{0}};
        entry.term = 0;
        entry.slot = 0;
        break;
    }
    return entry;
}

static void data_payload(struct hadb_buf *out)
{
    const struct hadb_op first[] = {
        {.type = HADB_OP_PUT, .key = hadb_slice_str("apple"), .value = hadb_slice_str("red")},
        {.type = HADB_OP_DELETE, .key = hadb_slice_str("pear")},
    };
    const struct hadb_op second[] = {
        {.type = HADB_OP_PUT, .key = hadb_slice("\x00\xff\\", 3), .value = {0}},
    };
    HADB_ASSERT(hadb_txn_encode(3, 100, 1700000000001, first, 2, out, NULL) == 0);
    HADB_ASSERT(hadb_txn_encode(3, 101, 1700000000002, second, 1, out, NULL) == 0);
    HADB_ASSERT(hadb_txn_encode(3, 102, 1700000000003, NULL, 0, out, NULL) == 0);
}

static void items_payload(struct hadb_buf *out)
{
    const struct hadb_item items[] = {
        {.key = hadb_slice_str("a"),
         .value = hadb_slice_str("1"),
         .version = {.term = 1, .txid = 7}},
        {.key = hadb_slice_str("a\x01"), .value = {0}, .version = {.term = 2, .txid = 9}},
        {.key = hadb_slice_str("b"),
         .value = hadb_slice_str("the same the same the same the same the same the same"),
         .version = {.term = 3, .txid = 102}},
    };
    for (size_t i = 0; i < HADB_LEN(items); i++) {
        HADB_ASSERT(hadb_item_encode(&items[i], out, NULL) == 0);
    }
}

struct hadb_seal sample_seal(void)
{
    return (struct hadb_seal){
        .reason = HADB_SEAL_REASON_FAILOVER,
        .node = "node-b",
        .node_id = sample_id(0x21),
        .incarnation = sample_id(0x31),
        .address = "127.0.0.1:4280",
    };
}

struct hadb_meta sample_meta(void)
{
    return (struct hadb_meta){
        .format = HADB_META_FORMAT,
        .cluster = sample_id(0x61),
        .database = "orders",
        .engine = "kv",
        .hash = HADB_META_HASH,
        .created_unix_ms = 1699999999999,
        .parent = sample_id(0x71),
        .parent_slot = 12,
    };
}

void sample_manifest(struct hadb_manifest *out)
{
    static const uint8_t future[] = {0xde, 0xad, 0xbe, 0xef, 0x00};
    *out = (struct hadb_manifest){
        .version = 9,
        .nonce = sample_id(0x90),
        .boundary_slot = 40,
        .boundary_term = 3,
        .swept_slot = 20,
        .swept_term = 1,
        .terms_floor = 1,
    };
    for (uint8_t i = 1; i <= 2; i++) {
        struct hadb_manifest_snapshot snapshot = {
            .parts = i,
            .bytes = 1000u * i,
            .time_unix_ms = 1700000000000 + i,
            .pos = {.term = 2 + i / 2, .slot = 20u * i, .txid = 50u * i, .hash = sample_hash(i)},
            .last_hash = sample_hash((uint8_t)(0x10 + i)),
            .digest = sample_hash((uint8_t)(0x20 + i)),
        };
        struct hadb_id nonce = sample_id((uint8_t)(0xa0 + i));
        hadb_snapshot_name(snapshot.pos.slot, &nonce, snapshot.name);
        HADB_ASSERT(hadb_manifest_add_snapshot(out, &snapshot, NULL) == 0);
        struct hadb_manifest_term term = {
            .term = i, .last_slot = 15u * i, .last_txid = 40u * i, .seal_hash = sample_hash(i)};
        HADB_ASSERT(hadb_manifest_add_term(out, &term, NULL) == 0);
    }
    HADB_ASSERT(hadb_manifest_condemn(out, "0000000000000005-old", NULL) == 0);
    HADB_ASSERT(hadb_manifest_condemn(out, "0000000000000001-older", NULL) == 0);
    /* There is no call that adds a section of the future; this is what decoding one leaves. */
    struct hadb_manifest plain = *out;
    struct hadb_buf bytes = {0};
    HADB_ASSERT(hadb_manifest_encode(&plain, &bytes, NULL) == 0);
    uint8_t section[8];
    hadb_put_u32(section, 77);
    hadb_put_u32(section + 4, sizeof(future));
    HADB_ASSERT(hadb_buf_append(&bytes, section, sizeof(section)) == 0);
    HADB_ASSERT(hadb_buf_append(&bytes, future, sizeof(future)) == 0);
    HADB_ASSERT(hadb_manifest_decode(hadb_buf_slice(&bytes), out, NULL) == 0);
    hadb_manifest_deinit(&plain);
    hadb_buf_deinit(&bytes);
}

void sample_payload(enum hadb_entry_kind kind, struct hadb_buf *out)
{
    struct hadb_seal seal = sample_seal();
    struct hadb_meta meta = sample_meta();
    struct hadb_name name = {.db = sample_id(0x10)};
    struct hadb_manifest manifest;
    switch (kind) {
    case HADB_ENTRY_DATA:
        data_payload(out);
        return;
    case HADB_ENTRY_SEAL:
        HADB_ASSERT(hadb_seal_encode(&seal, out, NULL) == 0);
        return;
    case HADB_ENTRY_SNAPSHOT:
        items_payload(out);
        return;
    case HADB_ENTRY_META:
        HADB_ASSERT(hadb_meta_encode(&meta, out, NULL) == 0);
        return;
    case HADB_ENTRY_MANIFEST:
        sample_manifest(&manifest);
        HADB_ASSERT(hadb_manifest_encode(&manifest, out, NULL) == 0);
        hadb_manifest_deinit(&manifest);
        return;
    case HADB_ENTRY_NAME:
        HADB_ASSERT(hadb_name_encode(&name, out, NULL) == 0);
        return;
    default:
        HADB_ASSERT(!"unknown kind");
    }
}

void sample_object(enum hadb_entry_kind kind, int zstd_level, struct hadb_buf *out,
                   struct hadb_hash *hash)
{
    struct hadb_entry entry = sample_entry(kind);
    struct hadb_buf payload = {0};
    sample_payload(kind, &payload);
    HADB_ASSERT(hadb_entry_encode(&entry, hadb_buf_slice(&payload), zstd_level, out, hash, NULL) ==
                0);
    hadb_buf_deinit(&payload);
}

void sample_reseal(uint8_t *object, size_t len)
{
    struct hadb_hash hash;
    HADB_ASSERT(len >= HADB_ENTRY_HEADER_BYTES);
    hadb_sha256(object + HADB_ENTRY_HEADER_BYTES, len - HADB_ENTRY_HEADER_BYTES, &hash);
    memcpy(object + 256, hash.b, sizeof(hash.b));
    hadb_sha256(object, 288, &hash);
    memcpy(object + 288, hash.b, sizeof(hash.b));
}

void sample_noise(uint64_t seed, size_t len, struct hadb_buf *out)
{
    HADB_ASSERT(hadb_buf_reserve(out, len) == 0);
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 0; i < len; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out->data[out->len++] = (uint8_t)(x >> 32);
    }
}
