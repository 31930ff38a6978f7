/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 7 of 8: any bytes as a compressed payload in two blob parts, of an entry whose hashes are right. The first
 * three bytes are the raw length, the fourth says where the parts meet.
 */
#include "base/hash.h"
#include "changeset/changeset.h"
#include "fuzz/input.h"

static void put_part(uint8_t *at, struct hadb_slice part)
{
    struct hadb_hash hash;
    hadb_sha256(part.data, part.len, &hash);
    hadb_put_u64(at, part.len);
    memcpy(at + 8, hash.b, sizeof(hash.b));
}

/* An object that refers to @a and @b; made by framing something harmless and doctoring it. */
static void make_reference(struct hadb_slice a, struct hadb_slice b, uint64_t raw_bytes,
                           struct hadb_buf *out)
{
    struct hadb_entry entry = {.kind = HADB_ENTRY_DATA, .first_txid = 1, .last_txid = 1};
    uint8_t ref[HADB_BLOB_REF_BYTES + 2 * HADB_BLOB_REF_PART_BYTES] = {0};
    struct hadb_hash hash;
    hadb_put_u64(ref, a.len + b.len);
    hadb_put_u32(ref + 8, 2);
    put_part(ref + HADB_BLOB_REF_BYTES, a);
    put_part(ref + HADB_BLOB_REF_BYTES + HADB_BLOB_REF_PART_BYTES, b);
    HADB_ASSERT(hadb_entry_encode(&entry, hadb_slice(ref, sizeof(ref)), 0, out, &hash, NULL) == 0);
    out->data[7] = HADB_CODEC_ZSTD;
    hadb_put_u16(out->data + 8, HADB_ENTRY_FLAG_BLOB);
    hadb_put_u64(out->data + 224, raw_bytes);
    hadb_sha256(out->data, 288, &hash);
    memcpy(out->data + 288, hash.b, sizeof(hash.b));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in = {.at = data, .left = len};
    uint64_t raw_bytes = fuzz_u8(&in);
    raw_bytes |= (uint64_t)fuzz_u8(&in) << 8;
    raw_bytes |= (uint64_t)fuzz_u8(&in) << 16;
    size_t first = fuzz_u8(&in);
    first = HADB_MIN(first, in.left);
    struct hadb_slice a = hadb_slice(in.at, first);
    struct hadb_slice b = hadb_slice(in.at + first, in.left - first);
    struct hadb_buf object = {0};
    struct hadb_opened opened;
    make_reference(a, b, raw_bytes, &object);
    int r = hadb_entry_open(hadb_buf_slice(&object), &opened, NULL);
    HADB_ASSERT(r == HADB_ABSENT || r == HADB_ECORRUPT);
    if (r == HADB_ABSENT) {
        r = hadb_entry_attach_blob(&opened, a, NULL);
        HADB_ASSERT(r == HADB_ABSENT || r == HADB_ECORRUPT);
        int last = hadb_entry_attach_blob(&opened, b, NULL);
        HADB_ASSERT(r == HADB_ABSENT || last == HADB_EINVAL);
        HADB_ASSERT(opened.payload.len <= raw_bytes);
        HADB_ASSERT(last != 0 || opened.payload.len == raw_bytes);
        hadb_opened_deinit(&opened);
    }
    hadb_buf_deinit(&object);
    return 0;
}
