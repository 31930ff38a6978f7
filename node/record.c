/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: the bytes of a node's lease record; see peers.h for the table.
 *
 * Thread: any; pure. Foreign bytes: lengths and checksum are verified before anything is used.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/id.h"
#include "node/peers.h"

#define MAGIC "HADBNODE"
#define VERSION 1u
#define HEADER_BYTES 60u

void hadb_node_record_deinit(struct hadb_node_record *record)
{
    if (record) {
        hadb_free(record->given_up);
        *record = (struct hadb_node_record){0};
    }
}

int hadb_node_record_encode(const struct hadb_node_record *record, struct hadb_buf *out,
                            struct hadb_error *err)
{
    size_t name_len = strlen(record->name), address_len = strlen(record->address);
    HADB_ASSERT(name_len <= HADB_NAME_BYTES_MAX && address_len <= HADB_ADDRESS_BYTES_MAX);
    HADB_ASSERT(record->given_up_len <= HADB_GIVEN_UP_MAX);
    size_t start = out->len;
    uint8_t head[HEADER_BYTES] = {0};
    memcpy(head, MAGIC, 8);
    head[8] = VERSION;
    head[9] = (uint8_t)record->state;
    head[10] = (uint8_t)name_len;
    head[11] = (uint8_t)address_len;
    hadb_put_u32(head + 12, record->ttl_ms);
    memcpy(head + 16, record->owner.node.b, 16);
    memcpy(head + 32, record->owner.incarnation.b, 16);
    hadb_put_u64(head + 48, record->counter);
    hadb_put_u32(head + 56, (uint32_t)record->given_up_len);
    int r = hadb_buf_append(out, head, sizeof head);
    r = r ? r : hadb_buf_append(out, record->name, name_len);
    r = r ? r : hadb_buf_append(out, record->address, address_len);
    r = r ? r
          : hadb_buf_append(out, record->given_up, record->given_up_len * sizeof(struct hadb_id));
    if (r == 0) {
        uint8_t crc[4];
        hadb_put_u32(crc, hadb_crc32c(0, out->data + start, out->len - start));
        r = hadb_buf_append(out, crc, sizeof crc);
    }
    return r < 0 ? hadb_fail_nomem(err) : 0;
}

static int check(struct hadb_slice bytes, struct hadb_error *err)
{
    const uint8_t *p = bytes.data;
    if (bytes.len < HEADER_BYTES + 4 || memcmp(p, MAGIC, 8) != 0) {
        return hadb_fail(err, HADB_ECORRUPT, "not a node's record");
    }
    if (hadb_get_u32(p + bytes.len - 4) != hadb_crc32c(0, p, bytes.len - 4)) {
        return hadb_fail(err, HADB_ECORRUPT, "a node's record fails its checksum");
    }
    if (p[8] != VERSION) {
        return hadb_fail(err, HADB_EVERSION, "a node's record of version %u", p[8]);
    }
    uint32_t given_up = hadb_get_u32(p + 56);
    if (given_up > HADB_GIVEN_UP_MAX || p[10] > HADB_NAME_BYTES_MAX ||
        (p[9] != HADB_HINT_LIVE && p[9] != HADB_HINT_FREE) ||
        bytes.len != HEADER_BYTES + p[10] + p[11] + given_up * sizeof(struct hadb_id) + 4) {
        return hadb_fail(err, HADB_ECORRUPT, "a node's record with wrong lengths");
    }
    return 0;
}

int hadb_node_record_decode(struct hadb_slice bytes, struct hadb_node_record *out,
                            struct hadb_error *err)
{
    int r = check(bytes, err);
    if (r < 0) {
        return r;
    }
    const uint8_t *p = bytes.data;
    struct hadb_node_record record = {.state = (enum hadb_hint_state)p[9],
                                      .ttl_ms = hadb_get_u32(p + 12),
                                      .counter = hadb_get_u64(p + 48),
                                      .given_up_len = hadb_get_u32(p + 56)};
    memcpy(record.owner.node.b, p + 16, 16);
    memcpy(record.owner.incarnation.b, p + 32, 16);
    memcpy(record.name, p + HEADER_BYTES, p[10]);
    memcpy(record.address, p + HEADER_BYTES + p[10], p[11]);
    if (!hadb_name_valid(record.name) || !hadb_address_valid(record.address) ||
        strlen(record.name) != p[10] || strlen(record.address) != p[11]) {
        return hadb_fail(err, HADB_ECORRUPT, "a node's record with a bad name or address");
    }
    if (record.given_up_len > 0) {
        record.given_up = hadb_calloc(record.given_up_len, sizeof *record.given_up);
        if (!record.given_up) {
            return hadb_fail_nomem(err);
        }
        memcpy(record.given_up, p + HEADER_BYTES + p[10] + p[11],
               record.given_up_len * sizeof *record.given_up);
    }
    *out = record;
    return 0;
}
