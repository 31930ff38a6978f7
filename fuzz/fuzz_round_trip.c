/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 4 and 7 of 8, forwards: the input chooses what to write (transactions, seal, items, manifest); what is
 * written must be read back the same, through the container, compressed or not.
 */
#include "base/hash.h"
#include "changeset/changeset.h"
#include "fuzz/input.h"

#define OPS_MAX 8u
#define ITEMS_MAX 16u

static void write_txns(struct fuzz_input *in, struct hadb_entry *entry, struct hadb_buf *payload)
{
    entry->first_txid = fuzz_u64(in) >> 1;
    entry->first_txid += entry->first_txid == 0;
    hadb_txid next = entry->first_txid;
    do {
        struct hadb_op ops[OPS_MAX];
        size_t ops_len = fuzz_u8(in) % (OPS_MAX + 1);
        for (size_t i = 0; i < ops_len; i++) {
            bool put = fuzz_u8(in) % 2 == 0;
            ops[i] = (struct hadb_op){.type = put ? HADB_OP_PUT : HADB_OP_DELETE,
                                      .key = fuzz_slice(in, 255)};
            if (put) {
                ops[i].value = fuzz_slice(in, 255);
            }
            if (ops[i].key.len == 0) {
                ops[i].key = hadb_slice_str("k");
            }
        }
        HADB_ASSERT(hadb_txn_encode(fuzz_u64(in), next, (int64_t)fuzz_u64(in), ops, ops_len,
                                    payload, NULL) == 0);
        entry->last_txid = next++;
    } while (in->left != 0 && fuzz_u8(in) % 4 != 0);
}

static void write_seal(struct fuzz_input *in, struct hadb_buf *payload)
{
    struct hadb_seal seal = {.reason = fuzz_u8(in)};
    struct hadb_seal read;
    fuzz_name(in, seal.node, HADB_NAME_BYTES_MAX);
    fuzz_name(in, seal.address, HADB_ADDRESS_BYTES_MAX);
    fuzz_fill(in, &seal.node_id, sizeof(seal.node_id));
    fuzz_fill(in, &seal.incarnation, sizeof(seal.incarnation));
    int r = hadb_seal_encode(&seal, payload, NULL);
    HADB_ASSERT(r == 0 || (r == HADB_EINVAL && payload->len == 0));
    if (r == 0) {
        HADB_ASSERT(hadb_seal_decode(hadb_buf_slice(payload), &read, NULL) == 0);
        HADB_ASSERT(read.reason == seal.reason);
        HADB_ASSERT(strcmp(read.node, seal.node) == 0 && strcmp(read.address, seal.address) == 0);
        HADB_ASSERT(hadb_id_eq(&read.node_id, &seal.node_id));
        HADB_ASSERT(hadb_id_eq(&read.incarnation, &seal.incarnation));
    }
}

static void write_items(struct fuzz_input *in, struct hadb_buf *payload)
{
    struct hadb_item written[ITEMS_MAX];
    size_t len = 0;
    struct hadb_slice last = {0};
    while (len < ITEMS_MAX && in->left != 0) {
        struct hadb_item item = {.key = fuzz_slice(in, 255), .value = fuzz_slice(in, 255)};
        item.version.term = fuzz_u64(in);
        item.version.txid = fuzz_u64(in);
        if (hadb_slice_cmp(last, item.key) >= 0) {
            continue;
        }
        HADB_ASSERT(hadb_item_encode(&item, payload, NULL) == 0);
        last = item.key;
        written[len++] = item;
    }
    struct hadb_items items = {.rest = hadb_buf_slice(payload)};
    for (size_t i = 0; i < len; i++) {
        struct hadb_item item;
        HADB_ASSERT(hadb_items_next(&items, &item, NULL) == 0);
        HADB_ASSERT(hadb_slice_eq(item.key, written[i].key));
        HADB_ASSERT(hadb_slice_eq(item.value, written[i].value));
        HADB_ASSERT(item.version.term == written[i].version.term);
        HADB_ASSERT(item.version.txid == written[i].version.txid);
    }
    HADB_ASSERT(items.rest.len == 0);
}

static void write_manifest(struct fuzz_input *in, struct hadb_buf *payload)
{
    struct hadb_manifest manifest = {.boundary_slot = fuzz_u64(in), .version = fuzz_u64(in)};
    while (in->left != 0) {
        struct hadb_manifest_snapshot snapshot = {.parts = fuzz_u8(in), .pos.slot = fuzz_u8(in)};
        struct hadb_manifest_term term = {.term = fuzz_u8(in), .last_slot = fuzz_u8(in)};
        char name[HADB_MANIFEST_NAME_BYTES_MAX + 1];
        switch (fuzz_u8(in) % 5) {
        case 0:
            fuzz_name(in, snapshot.name, HADB_MANIFEST_NAME_BYTES_MAX);
            (void)hadb_manifest_add_snapshot(&manifest, &snapshot, NULL);
            break;
        case 1:
            (void)hadb_manifest_add_term(&manifest, &term, NULL);
            break;
        case 2:
            if (manifest.snapshots_len != 0) {
                (void)hadb_manifest_drop_snapshot(&manifest,
                                                  snapshot.pos.slot % manifest.snapshots_len, NULL);
            }
            break;
        case 3:
            if (manifest.condemned_len != 0) {
                size_t index = term.last_slot % manifest.condemned_len;
                HADB_ASSERT(hadb_manifest_absolve(&manifest, manifest.condemned[index]));
            }
            break;
        default:
            fuzz_name(in, name, 8);
            for (size_t i = 0; i < manifest.snapshots_len; i++) {
                if (strcmp(manifest.snapshots[i].name, name) == 0) {
                    name[0] = '\0'; /* condemning one that is in use is the caller's mistake */
                }
            }
            (void)hadb_manifest_condemn(&manifest, name, NULL);
            break;
        }
    }
    struct hadb_manifest copy;
    struct hadb_buf again = {0};
    HADB_ASSERT(hadb_manifest_encode(&manifest, payload, NULL) == 0);
    HADB_ASSERT(hadb_manifest_copy(&manifest, &copy, NULL) == 0);
    HADB_ASSERT(hadb_manifest_encode(&copy, &again, NULL) == 0);
    HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(&again), hadb_buf_slice(payload)));
    hadb_buf_deinit(&again);
    hadb_manifest_deinit(&copy);
    hadb_manifest_deinit(&manifest);
}

static void through_the_container(struct hadb_entry *entry, const struct hadb_buf *payload,
                                  int zstd_level)
{
    struct hadb_buf object = {0};
    struct hadb_buf read_payload = {0};
    struct hadb_entry read;
    struct hadb_hash hash;
    struct hadb_hash read_hash;
    struct hadb_slice bytes = hadb_buf_slice(payload);
    HADB_ASSERT(hadb_entry_encode(entry, bytes, zstd_level, &object, &hash, NULL) == 0);
    HADB_ASSERT(
        hadb_entry_decode(hadb_buf_slice(&object), &read, &read_payload, &read_hash, NULL) == 0);
    HADB_ASSERT(hadb_slice_eq(bytes, hadb_buf_slice(&read_payload)));
    HADB_ASSERT(hadb_hash_eq(&hash, &read_hash));
    HADB_ASSERT(read.kind == entry->kind && read.flags == entry->flags);
    HADB_ASSERT(read.term == entry->term && read.slot == entry->slot);
    HADB_ASSERT(read.first_txid == entry->first_txid && read.last_txid == entry->last_txid);
    HADB_ASSERT(read.pages_after == entry->pages_after);
    HADB_ASSERT(read.checksum_after == entry->checksum_after);
    HADB_ASSERT(read.time_unix_ms == entry->time_unix_ms);
    HADB_ASSERT(read.durable_slot == entry->durable_slot);
    HADB_ASSERT(hadb_hash_eq(&read.prev, &entry->prev) && hadb_id_eq(&read.db, &entry->db));
    HADB_ASSERT(hadb_id_eq(&read.put_id, &entry->put_id));
    HADB_ASSERT(hadb_id_eq(&read.incarnation, &entry->incarnation));
    if (entry->kind == HADB_ENTRY_DATA) {
        HADB_ASSERT(hadb_entry_check_data(&read, hadb_buf_slice(&read_payload), NULL) == 0);
    }
    hadb_buf_deinit(&object);
    hadb_buf_deinit(&read_payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in = {.at = data, .left = len};
    struct hadb_buf payload = {0};
    uint8_t what = fuzz_u8(&in);
    int zstd_level = fuzz_u8(&in) % 4;
    struct hadb_entry entry = {.term = fuzz_u64(&in), .slot = fuzz_u64(&in)};
    entry.pages_after = fuzz_u8(&in);
    entry.checksum_after = fuzz_u8(&in);
    entry.time_unix_ms = (int64_t)fuzz_u64(&in);
    fuzz_fill(&in, &entry.prev, sizeof(entry.prev));
    fuzz_fill(&in, &entry.put_id, sizeof(entry.put_id));
    switch (what % 4) {
    case 0:
        entry.kind = HADB_ENTRY_DATA;
        entry.durable_slot = entry.slot / 2;
        write_txns(&in, &entry, &payload);
        break;
    case 1:
        entry.kind = HADB_ENTRY_SEAL;
        write_seal(&in, &payload);
        break;
    case 2:
        entry.kind = HADB_ENTRY_SNAPSHOT;
        entry.flags = what & 4 ? HADB_ENTRY_FLAG_LAST : 0;
        write_items(&in, &payload);
        break;
    default:
        entry.kind = HADB_ENTRY_MANIFEST;
        write_manifest(&in, &payload);
        break;
    }
    through_the_container(&entry, &payload, zstd_level);
    hadb_buf_deinit(&payload);
    return 0;
}
