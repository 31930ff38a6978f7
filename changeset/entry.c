/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 4 of 8: the header of an object on bytes (byte table in changeset.h), and what may be in it.
 *
 * Thread: any; pure.
 * Invariants: a header that is read is written again to the same bytes; lengths are checked against the
 *   limits of their kind here, so that nobody allocates on a foreign number.
 * Happy path: magic, version, header hash, then every field.
 * Failure modes: HADB_ECORRUPT (damaged or foreign), HADB_EVERSION (intact, but holds something that this
 *   release does not know), HADB_ENOTSUP (encrypted).
 */
#include <inttypes.h>

#include "base/error.h"
#include "base/hash.h"
#include "changeset/changeset_private.h"

enum {
    AT_MAGIC = 0,
    AT_VERSION = 5,
    AT_KIND = 6,
    AT_CODEC = 7,
    AT_FLAGS = 8,
    AT_ZERO_A = 10,
    AT_DB = 16,
    AT_TERM = 32,
    AT_SLOT = 40,
    AT_FIRST_TXID = 48,
    AT_LAST_TXID = 56,
    AT_PREV = 64,
    AT_INCARNATION = 96,
    AT_PUT_ID = 112,
    AT_PAGES_AFTER = 128,
    AT_CHECKSUM_AFTER = 136,
    AT_TIME = 144,
    AT_AEAD = 152,
    AT_ZERO_B = 156,
    AT_AEAD_KEY = 160,
    AT_AEAD_NONCE = 176,
    AT_AEAD_TAG = 200,
    AT_STORED = 216,
    AT_RAW = 224,
    AT_DURABLE_SLOT = 232,
    AT_ZERO_C = 240,
    AT_BODY_HASH = 256,
    AT_HEADER_HASH = 288,
};
static_assert(AT_ZERO_A + 6 == AT_DB, "zero A");
static_assert(AT_DB + sizeof(struct hadb_id) == AT_TERM, "db");
static_assert(AT_TERM + 8 == AT_SLOT && AT_SLOT + 8 == AT_FIRST_TXID, "term, slot");
static_assert(AT_FIRST_TXID + 8 == AT_LAST_TXID && AT_LAST_TXID + 8 == AT_PREV, "txids");
static_assert(AT_PREV + sizeof(struct hadb_hash) == AT_INCARNATION, "prev");
static_assert(AT_INCARNATION + sizeof(struct hadb_id) == AT_PUT_ID, "incarnation");
static_assert(AT_PUT_ID + sizeof(struct hadb_id) == AT_PAGES_AFTER, "put id");
static_assert(AT_PAGES_AFTER + 8 == AT_CHECKSUM_AFTER && AT_CHECKSUM_AFTER + 8 == AT_TIME, "pages");
static_assert(AT_TIME + 8 == AT_AEAD && AT_AEAD + 4 == AT_ZERO_B, "time, AEAD algorithm");
static_assert(AT_ZERO_B + 4 == AT_AEAD_KEY && AT_AEAD_KEY + 16 == AT_AEAD_NONCE, "AEAD key");
static_assert(AT_AEAD_NONCE + 24 == AT_AEAD_TAG && AT_AEAD_TAG + 16 == AT_STORED, "AEAD tag");
static_assert(AT_STORED + 8 == AT_RAW && AT_RAW + 8 == AT_DURABLE_SLOT, "lengths");
static_assert(AT_DURABLE_SLOT + 8 == AT_ZERO_C && AT_ZERO_C + 16 == AT_BODY_HASH, "zero C");
static_assert(AT_BODY_HASH + sizeof(struct hadb_hash) == AT_HEADER_HASH, "body hash");
static_assert(AT_HEADER_HASH + sizeof(struct hadb_hash) == HADB_ENTRY_HEADER_BYTES, "header hash");

#define FLAGS_KNOWN (HADB_ENTRY_FLAG_BLOB | HADB_ENTRY_FLAG_LAST)

static const char magic[5] = {'H', 'A', 'D', 'B', 'J'};

/* One line per kind: index is the kind. */
static const struct kind_rule {
    const char *name;
    uint64_t inline_max;
    uint64_t payload_max;
    uint16_t flags;
} kinds[] = {
    [HADB_ENTRY_DATA] = {"data", HADB_ENTRY_INLINE_BYTES_MAX, HADB_ENTRY_RAW_BYTES_MAX,
                         HADB_ENTRY_FLAG_BLOB},
    [HADB_ENTRY_SEAL] = {"seal", HADB_ENTRY_SMALL_BYTES_MAX, HADB_ENTRY_SMALL_BYTES_MAX, 0},
    [HADB_ENTRY_SNAPSHOT] = {"snapshot", HADB_OBJECT_BYTES_MAX - HADB_ENTRY_HEADER_BYTES,
                             HADB_ENTRY_RAW_BYTES_MAX, HADB_ENTRY_FLAG_BLOB | HADB_ENTRY_FLAG_LAST},
    [HADB_ENTRY_META] = {"meta", HADB_ENTRY_SMALL_BYTES_MAX, HADB_ENTRY_SMALL_BYTES_MAX, 0},
    [HADB_ENTRY_MANIFEST] = {"manifest", HADB_MANIFEST_BYTES_MAX - HADB_ENTRY_HEADER_BYTES,
                             HADB_MANIFEST_BYTES_MAX - HADB_ENTRY_HEADER_BYTES, 0},
    [HADB_ENTRY_NAME] = {"name", HADB_ENTRY_SMALL_BYTES_MAX, HADB_ENTRY_SMALL_BYTES_MAX, 0},
};

static const struct kind_rule *find_kind(unsigned kind)
{
    return kind < HADB_LEN(kinds) && kinds[kind].name != NULL ? &kinds[kind] : NULL;
}

const char *hadb_entry_kind_name(enum hadb_entry_kind kind)
{
    const struct kind_rule *rule = find_kind((unsigned)kind);
    return rule ? rule->name : NULL;
}

uint64_t hadb_entry_inline_max(enum hadb_entry_kind kind)
{
    const struct kind_rule *rule = find_kind((unsigned)kind);
    return rule ? rule->inline_max : 0;
}

uint64_t hadb_entry_payload_max(enum hadb_entry_kind kind)
{
    const struct kind_rule *rule = find_kind((unsigned)kind);
    return rule ? rule->payload_max : 0;
}

const char *hadb__entry_fault(const struct hadb_entry *entry)
{
    const struct kind_rule *rule = find_kind((unsigned)entry->kind);
    if (rule == NULL) {
        return "unknown kind";
    }
    if ((entry->flags & ~rule->flags) != 0) {
        return "a flag that its kind does not have";
    }
    if (entry->kind == HADB_ENTRY_DATA &&
        (entry->first_txid == 0 || entry->first_txid > entry->last_txid)) {
        return "transaction numbers out of order";
    }
    if (entry->durable_slot != 0 &&
        (entry->kind != HADB_ENTRY_DATA || entry->durable_slot >= entry->slot)) {
        return "a durable slot that cannot be";
    }
    if (entry->kind == HADB_ENTRY_SEAL && entry->first_txid != entry->last_txid) {
        return "a seal with two transaction numbers";
    }
    if (entry->kind == HADB_ENTRY_SNAPSHOT && entry->first_txid > UINT32_MAX) {
        return "a part number over 32 bits";
    }
    return NULL;
}

void hadb__entry_header_write(const struct hadb_entry *entry, uint8_t out[HADB_ENTRY_HEADER_BYTES])
{
    HADB_ASSERT(hadb__entry_fault(entry) == NULL);
    memset(out, 0, HADB_ENTRY_HEADER_BYTES);
    memcpy(out + AT_MAGIC, magic, sizeof(magic));
    out[AT_VERSION] = HADB_ENTRY_VERSION;
    out[AT_KIND] = (uint8_t)entry->kind;
    out[AT_CODEC] = (uint8_t)entry->codec;
    hadb_put_u16(out + AT_FLAGS, entry->flags);
    memcpy(out + AT_DB, entry->db.b, sizeof(entry->db.b));
    hadb_put_u64(out + AT_TERM, entry->term);
    hadb_put_u64(out + AT_SLOT, entry->slot);
    hadb_put_u64(out + AT_FIRST_TXID, entry->first_txid);
    hadb_put_u64(out + AT_LAST_TXID, entry->last_txid);
    memcpy(out + AT_PREV, entry->prev.b, sizeof(entry->prev.b));
    memcpy(out + AT_INCARNATION, entry->incarnation.b, sizeof(entry->incarnation.b));
    memcpy(out + AT_PUT_ID, entry->put_id.b, sizeof(entry->put_id.b));
    hadb_put_u64(out + AT_PAGES_AFTER, entry->pages_after);
    hadb_put_u64(out + AT_CHECKSUM_AFTER, entry->checksum_after);
    hadb_put_u64(out + AT_TIME, (uint64_t)entry->time_unix_ms);
    hadb_put_u64(out + AT_STORED, entry->stored_bytes);
    hadb_put_u64(out + AT_RAW, entry->raw_bytes);
    hadb_put_u64(out + AT_DURABLE_SLOT, entry->durable_slot);
    memcpy(out + AT_BODY_HASH, entry->body_hash.b, sizeof(entry->body_hash.b));
    struct hadb_hash hash;
    hadb_sha256(out, AT_HEADER_HASH, &hash);
    memcpy(out + AT_HEADER_HASH, hash.b, sizeof(hash.b));
}

static void load_fields(const uint8_t *at, struct hadb_entry *out)
{
    *out = (struct hadb_entry){
        .kind = (enum hadb_entry_kind)at[AT_KIND],
        .flags = hadb_get_u16(at + AT_FLAGS),
        .term = hadb_get_u64(at + AT_TERM),
        .slot = hadb_get_u64(at + AT_SLOT),
        .first_txid = hadb_get_u64(at + AT_FIRST_TXID),
        .last_txid = hadb_get_u64(at + AT_LAST_TXID),
        .pages_after = hadb_get_u64(at + AT_PAGES_AFTER),
        .checksum_after = hadb_get_u64(at + AT_CHECKSUM_AFTER),
        .time_unix_ms = (int64_t)hadb_get_u64(at + AT_TIME),
        .codec = (enum hadb_entry_codec)at[AT_CODEC],
        .stored_bytes = hadb_get_u64(at + AT_STORED),
        .raw_bytes = hadb_get_u64(at + AT_RAW),
        .durable_slot = hadb_get_u64(at + AT_DURABLE_SLOT),
    };
    memcpy(out->db.b, at + AT_DB, sizeof(out->db.b));
    memcpy(out->prev.b, at + AT_PREV, sizeof(out->prev.b));
    memcpy(out->incarnation.b, at + AT_INCARNATION, sizeof(out->incarnation.b));
    memcpy(out->put_id.b, at + AT_PUT_ID, sizeof(out->put_id.b));
    memcpy(out->body_hash.b, at + AT_BODY_HASH, sizeof(out->body_hash.b));
}

static bool all_zero(const uint8_t *at, size_t len)
{
    uint8_t any = 0;
    for (size_t i = 0; i < len; i++) {
        any |= at[i];
    }
    return any == 0;
}

static int check_identity(struct hadb_slice stored, struct hadb_error *err)
{
    const uint8_t *at = stored.data;
    if (stored.len < HADB_ENTRY_HEADER_BYTES) {
        return hadb_fail(err, HADB_ECORRUPT, "object of %zu bytes is shorter than its header",
                         stored.len);
    }
    if (memcmp(at + AT_MAGIC, magic, sizeof(magic)) != 0) {
        return hadb_fail(err, HADB_ECORRUPT, "not a hadb object: it does not start with HADBJ");
    }
    if (at[AT_VERSION] != HADB_ENTRY_VERSION) {
        return hadb_fail(err, HADB_EVERSION,
                         "object has format version %u, this release reads version %u",
                         at[AT_VERSION], HADB_ENTRY_VERSION);
    }
    struct hadb_hash hash;
    hadb_sha256(at, AT_HEADER_HASH, &hash);
    if (memcmp(hash.b, at + AT_HEADER_HASH, sizeof(hash.b)) != 0) {
        return hadb_fail(err, HADB_ECORRUPT, "header does not match its hash");
    }
    return 0;
}

/* The header is intact: what this release does not know was written by a newer one. */
static int check_known(const uint8_t *at, struct hadb_error *err)
{
    if (find_kind(at[AT_KIND]) == NULL) {
        return hadb_fail(err, HADB_EVERSION, "object has the unknown kind %u", at[AT_KIND]);
    }
    if (at[AT_CODEC] != HADB_CODEC_NONE && at[AT_CODEC] != HADB_CODEC_ZSTD) {
        return hadb_fail(err, HADB_EVERSION, "object has the unknown codec %u", at[AT_CODEC]);
    }
    unsigned flags = hadb_get_u16(at + AT_FLAGS);
    if ((flags & ~FLAGS_KNOWN) != 0) {
        return hadb_fail(err, HADB_EVERSION, "object has unknown flags 0x%x", flags);
    }
    if (hadb_get_u32(at + AT_AEAD) != 0) {
        return hadb_fail(err, HADB_ENOTSUP, "object is encrypted, which this release cannot read");
    }
    if (!all_zero(at + AT_ZERO_A, AT_DB - AT_ZERO_A) ||
        !all_zero(at + AT_ZERO_B, AT_STORED - AT_ZERO_B) ||
        !all_zero(at + AT_ZERO_C, AT_BODY_HASH - AT_ZERO_C)) {
        return hadb_fail(err, HADB_EVERSION, "object uses header fields that must be zero");
    }
    return 0;
}

static int check_lengths(const struct hadb_entry *entry, struct hadb_error *err)
{
    const struct kind_rule *rule = find_kind((unsigned)entry->kind);
    HADB_ASSERT(rule != NULL);
    if (entry->raw_bytes > rule->payload_max) {
        return hadb_fail(err, HADB_ECORRUPT, "%s claims %" PRIu64 " bytes, at most %" PRIu64,
                         rule->name, entry->raw_bytes, rule->payload_max);
    }
    if ((entry->flags & HADB_ENTRY_FLAG_BLOB) != 0) {
        uint64_t parts = (entry->stored_bytes - HADB_BLOB_REF_BYTES) / HADB_BLOB_REF_PART_BYTES;
        if (entry->stored_bytes < HADB_BLOB_REF_BYTES || parts < 1 || parts > HADB_BLOB_PARTS_MAX ||
            entry->stored_bytes != HADB_BLOB_REF_BYTES + parts * HADB_BLOB_REF_PART_BYTES) {
            return hadb_fail(err, HADB_ECORRUPT, "blob reference of %" PRIu64 " bytes",
                             entry->stored_bytes);
        }
        return 0;
    }
    if (entry->stored_bytes > rule->inline_max) {
        return hadb_fail(err, HADB_ECORRUPT,
                         "%s claims a body of %" PRIu64 " bytes, at most %" PRIu64, rule->name,
                         entry->stored_bytes, rule->inline_max);
    }
    bool stored_raw = entry->stored_bytes == entry->raw_bytes;
    bool shrunk = entry->stored_bytes < entry->raw_bytes;
    if (entry->codec == HADB_CODEC_NONE ? !stored_raw : !shrunk) {
        return hadb_fail(err, HADB_ECORRUPT, "body of %" PRIu64 " bytes for %" PRIu64 " raw bytes",
                         entry->stored_bytes, entry->raw_bytes);
    }
    return 0;
}

static int check_body(struct hadb_slice stored, const struct hadb_entry *entry,
                      struct hadb_error *err)
{
    size_t body_len = stored.len - HADB_ENTRY_HEADER_BYTES;
    if (body_len != entry->stored_bytes) {
        return hadb_fail(err, HADB_ECORRUPT, "body has %zu bytes, the header says %" PRIu64,
                         body_len, entry->stored_bytes);
    }
    struct hadb_hash hash;
    hadb_sha256((const uint8_t *)stored.data + HADB_ENTRY_HEADER_BYTES, body_len, &hash);
    if (!hadb_hash_eq(&hash, &entry->body_hash)) {
        return hadb_fail(err, HADB_ECORRUPT, "body does not match its hash");
    }
    return 0;
}

int hadb_entry_peek(struct hadb_slice stored, struct hadb_entry *out, struct hadb_hash *hash,
                    struct hadb_error *err)
{
    HADB_ASSERT(out != NULL);
    struct hadb_entry entry;
    int r = check_identity(stored, err);
    if (r != 0) {
        return r;
    }
    r = check_known(stored.data, err);
    if (r != 0) {
        return r;
    }
    load_fields(stored.data, &entry);
    const char *fault = hadb__entry_fault(&entry);
    if (fault != NULL) {
        return hadb_fail(err, HADB_ECORRUPT, "header has %s", fault);
    }
    r = check_lengths(&entry, err);
    if (r == 0 && hash != NULL) {
        r = check_body(stored, &entry, err);
    }
    if (r != 0) {
        return r;
    }
    if (hash != NULL) {
        hadb_sha256(stored.data, stored.len, hash);
    }
    *out = entry;
    return 0;
}

int hadb_entry_check_data(const struct hadb_entry *entry, struct hadb_slice payload,
                          struct hadb_error *err)
{
    HADB_ASSERT(entry->kind == HADB_ENTRY_DATA);
    hadb_txid next = entry->first_txid;
    struct hadb_txn txn;
    int r = 0;
    while ((r = hadb_txn_next(&payload, &txn, err)) == 0) {
        if (txn.txid != next || next > entry->last_txid) {
            return hadb_fail(err, HADB_ECORRUPT,
                             "transaction %" PRIu64 " where %" PRIu64 " belongs", txn.txid, next);
        }
        next++;
    }
    if (r != HADB_END) {
        return r;
    }
    if (next - 1 != entry->last_txid) {
        return hadb_fail(err, HADB_ECORRUPT, "transactions end at %" PRIu64 ", not %" PRIu64,
                         next - 1, entry->last_txid);
    }
    return 0;
}
