/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 4 of 8: frame. Payload in, object out (and blobs, when the body is too large for its object).
 *
 * Thread: any; pure.
 * Invariants: what is framed here opens again in open.c; compressed only if that is smaller.
 * Happy path: check, make room for header and payload at once, compress or copy behind the header, hash the
 *   body, write the header, hash the whole.
 * Failure modes: limits (HADB_ETOOBIG), a wrong header (HADB_EINVAL), memory. Outputs stay untouched.
 */
#include <inttypes.h>

#include "base/error.h"
#include "base/hash.h"
#include "changeset/changeset_private.h"

/* Below it a zstd frame is hardly ever smaller than what it holds. */
#define COMPRESS_BYTES_MIN 64u

static int check_input(const struct hadb_entry *entry, struct hadb_slice payload, int zstd_level,
                       struct hadb_error *err)
{
    if ((entry->flags & HADB_ENTRY_FLAG_BLOB) != 0) {
        return hadb_fail(err, HADB_EINVAL, "the blob flag is set by framing alone");
    }
    const char *fault = hadb__entry_fault(entry);
    if (fault != NULL) {
        return hadb_fail(err, HADB_EINVAL, "entry has %s", fault);
    }
    if (zstd_level < 0 || zstd_level > HADB_ZSTD_LEVEL_MAX) {
        return hadb_fail(err, HADB_EINVAL, "zstd level %d is not in 0..%d", zstd_level,
                         HADB_ZSTD_LEVEL_MAX);
    }
    uint64_t payload_max = hadb_entry_payload_max(entry->kind);
    if (payload.len > payload_max) {
        return hadb_fail(err, HADB_ETOOBIG, "payload of %zu bytes, a %s has at most %" PRIu64,
                         payload.len, hadb_entry_kind_name(entry->kind), payload_max);
    }
    return 0;
}

/* Appends room for a header and the stored form of @payload to @out; out->len moves behind them. */
static int pack(struct hadb_slice payload, int zstd_level, struct hadb_buf *out,
                enum hadb_entry_codec *codec, size_t *stored_len, struct hadb_error *err)
{
    if (hadb_buf_reserve(out, HADB_ENTRY_HEADER_BYTES + payload.len) != 0) {
        return hadb_fail_nomem(err);
    }
    uint8_t *body = out->data + out->len + HADB_ENTRY_HEADER_BYTES;
    *codec = HADB_CODEC_NONE;
    *stored_len = payload.len;
    if (zstd_level > 0 && payload.len >= COMPRESS_BYTES_MIN) {
        size_t packed_len = 0;
        int r = hadb__compress(payload, zstd_level, body, payload.len - 1, &packed_len, err);
        if (r < 0) {
            return r;
        }
        if (r == 0) {
            *codec = HADB_CODEC_ZSTD;
            *stored_len = packed_len;
        }
    }
    if (*codec == HADB_CODEC_NONE && payload.len != 0) {
        memcpy(body, payload.data, payload.len);
    }
    out->len += HADB_ENTRY_HEADER_BYTES + *stored_len;
    return 0;
}

/* Writes the header at @object, whose body lies behind it already, and hashes both. */
static void finish(struct hadb_entry *entry, uint8_t *object, size_t body_len,
                   struct hadb_hash *hash)
{
    entry->stored_bytes = body_len;
    hadb_sha256(object + HADB_ENTRY_HEADER_BYTES, body_len, &entry->body_hash);
    hadb__entry_header_write(entry, object);
    hadb_sha256(object, HADB_ENTRY_HEADER_BYTES + body_len, hash);
}

int hadb_entry_encode(const struct hadb_entry *entry, struct hadb_slice payload, int zstd_level,
                      struct hadb_buf *out, struct hadb_hash *hash, struct hadb_error *err)
{
    HADB_ASSERT(out != NULL && hash != NULL);
    int r = check_input(entry, payload, zstd_level, err);
    if (r != 0) {
        return r;
    }
    struct hadb_entry whole = *entry;
    size_t before = out->len;
    size_t stored_len = 0;
    r = pack(payload, zstd_level, out, &whole.codec, &stored_len, err);
    if (r != 0) {
        return r;
    }
    uint64_t inline_max = hadb_entry_inline_max(entry->kind);
    if (stored_len > inline_max) {
        out->len = before;
        return hadb_fail(err, HADB_ETOOBIG, "body of %zu bytes needs blobs, inside is %" PRIu64,
                         stored_len, inline_max);
    }
    whole.raw_bytes = payload.len;
    finish(&whole, out->data + before, stored_len, hash);
    return 0;
}

/* Cuts the stored payload behind the unused header of framed->blob_bytes into parts and frames the
 * reference to them. */
static int frame_reference(struct hadb_entry *whole, size_t stored_len, struct hadb_framed *framed,
                           struct hadb_error *err)
{
    size_t parts = (stored_len + HADB_OBJECT_BYTES_MAX - 1) / HADB_OBJECT_BYTES_MAX;
    size_t ref_len = HADB_BLOB_REF_BYTES + parts * HADB_BLOB_REF_PART_BYTES;
    HADB_ASSERT(parts >= 1 && parts <= HADB_BLOB_PARTS_MAX);
    if (hadb_buf_reserve(&framed->entry, HADB_ENTRY_HEADER_BYTES + ref_len) != 0) {
        return hadb_fail_nomem(err);
    }
    const uint8_t *blob = framed->blob_bytes.data + HADB_ENTRY_HEADER_BYTES;
    uint8_t *ref = framed->entry.data + HADB_ENTRY_HEADER_BYTES;
    memset(ref, 0, HADB_BLOB_REF_BYTES);
    hadb_put_u64(ref, stored_len);
    hadb_put_u32(ref + 8, (uint32_t)parts);
    for (size_t i = 0; i < parts; i++) {
        size_t part_len = HADB_MIN(stored_len - i * HADB_OBJECT_BYTES_MAX, HADB_OBJECT_BYTES_MAX);
        framed->blobs[i] = hadb_slice(blob + i * HADB_OBJECT_BYTES_MAX, part_len);
        struct hadb_hash part_hash;
        hadb_sha256(framed->blobs[i].data, part_len, &part_hash);
        uint8_t *at = ref + HADB_BLOB_REF_BYTES + i * HADB_BLOB_REF_PART_BYTES;
        hadb_put_u64(at, part_len);
        memcpy(at + 8, part_hash.b, sizeof(part_hash.b));
    }
    framed->blobs_len = parts;
    framed->entry.len = HADB_ENTRY_HEADER_BYTES + ref_len;
    whole->flags |= HADB_ENTRY_FLAG_BLOB;
    finish(whole, framed->entry.data, ref_len, &framed->hash);
    return 0;
}

int hadb_entry_frame(const struct hadb_entry *entry, struct hadb_slice payload, int zstd_level,
                     struct hadb_framed *out, struct hadb_error *err)
{
    HADB_ASSERT(out != NULL);
    int r = check_input(entry, payload, zstd_level, err);
    if (r != 0) {
        return r;
    }
    struct hadb_entry whole = *entry;
    struct hadb_framed framed = {0};
    struct hadb_buf packed = {0};
    size_t stored_len = 0;
    r = pack(payload, zstd_level, &packed, &whole.codec, &stored_len, err);
    if (r != 0) {
        hadb_buf_deinit(&packed);
        return r;
    }
    whole.raw_bytes = payload.len;
    if (stored_len <= hadb_entry_inline_max(entry->kind)) {
        finish(&whole, packed.data, stored_len, &framed.hash);
        framed.entry = packed;
        *out = framed;
        return 0;
    }
    framed.blob_bytes = packed;
    r = frame_reference(&whole, stored_len, &framed, err);
    if (r != 0) {
        hadb_framed_deinit(&framed);
        return r;
    }
    *out = framed;
    return 0;
}

void hadb_framed_deinit(struct hadb_framed *framed)
{
    hadb_buf_deinit(&framed->entry);
    hadb_buf_deinit(&framed->blob_bytes);
    *framed = (struct hadb_framed){0};
}
