/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 7 of 8: open. Stored bytes in, verified header and payload out.
 *
 * Thread: any; a struct hadb_opened belongs to one thread at a time.
 * Invariants: nothing is allocated before header, lengths and hashes are verified; the payload never grows
 *   over what the header declares; blobs are read in order and not kept.
 * Happy path: hadb_entry_open(); if it says HADB_ABSENT, hadb_entry_attach_blob() for each part.
 * Failure modes: damaged or foreign bytes (HADB_ECORRUPT, HADB_EVERSION, HADB_ENOTSUP), memory.
 */
#include <inttypes.h>

#include "base/error.h"
#include "base/hash.h"
#include "changeset/changeset_private.h"

static int read_reference(struct hadb_slice body, struct hadb_opened *out, struct hadb_error *err)
{
    const uint8_t *at = body.data;
    uint64_t total = hadb_get_u64(at);
    size_t parts = hadb_get_u32(at + 8);
    /* The length of the reference was checked with the header. */
    if (parts != (body.len - HADB_BLOB_REF_BYTES) / HADB_BLOB_REF_PART_BYTES ||
        hadb_get_u32(at + 12) != 0) {
        return hadb_fail(err, HADB_ECORRUPT, "blob reference with %zu parts in %zu bytes", parts,
                         body.len);
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < parts; i++) {
        const uint8_t *part = at + HADB_BLOB_REF_BYTES + i * HADB_BLOB_REF_PART_BYTES;
        out->parts[i].bytes = hadb_get_u64(part);
        memcpy(out->parts[i].hash.b, part + 8, sizeof(out->parts[i].hash.b));
        if (out->parts[i].bytes == 0 || out->parts[i].bytes > HADB_OBJECT_BYTES_MAX) {
            return hadb_fail(err, HADB_ECORRUPT, "blob part %zu of %" PRIu64 " bytes", i,
                             out->parts[i].bytes);
        }
        sum += out->parts[i].bytes;
    }
    bool none = out->entry.codec == HADB_CODEC_NONE;
    if (sum != total || (none ? total != out->entry.raw_bytes : total >= out->entry.raw_bytes)) {
        return hadb_fail(err, HADB_ECORRUPT,
                         "blobs of %" PRIu64 " bytes for %" PRIu64 " stored and %" PRIu64 " raw",
                         sum, total, out->entry.raw_bytes);
    }
    out->parts_len = parts;
    return 0;
}

/* Adds @piece to the payload; the first piece decides on room for all. */
static int add_piece(struct hadb_opened *opened, struct hadb_slice piece, uint64_t stored_bytes,
                     bool last, struct hadb_error *err)
{
    if (opened->entry.codec == HADB_CODEC_NONE) {
        if (opened->payload.cap == 0 &&
            hadb_buf_reserve(&opened->payload, (size_t)opened->entry.raw_bytes) != 0) {
            return hadb_fail_nomem(err);
        }
        return hadb_buf_append(&opened->payload, piece.data, piece.len) == 0 ? 0
                                                                             : hadb_fail_nomem(err);
    }
    struct hadb__inflate *inflate = opened->inflate;
    if (inflate == NULL) {
        int r = hadb__inflate_new(piece, stored_bytes, opened->entry.raw_bytes, &opened->payload,
                                  &inflate, err);
        if (r != 0) {
            return r;
        }
        opened->inflate = inflate;
    }
    int r = hadb__inflate_feed(inflate, piece, last, &opened->payload, err);
    if (r == 0 && last) {
        hadb__inflate_free(inflate);
        opened->inflate = NULL;
    }
    return r;
}

int hadb_entry_open(struct hadb_slice stored, struct hadb_opened *out, struct hadb_error *err)
{
    HADB_ASSERT(out != NULL);
    struct hadb_opened opened = {0};
    int r = hadb_entry_peek(stored, &opened.entry, &opened.hash, err);
    if (r != 0) {
        return r;
    }
    struct hadb_slice body = hadb_slice((const uint8_t *)stored.data + HADB_ENTRY_HEADER_BYTES,
                                        stored.len - HADB_ENTRY_HEADER_BYTES);
    bool in_blobs = (opened.entry.flags & HADB_ENTRY_FLAG_BLOB) != 0;
    if (in_blobs) {
        r = read_reference(body, &opened, err);
    } else if (opened.entry.raw_bytes != 0) {
        r = add_piece(&opened, body, body.len, true, err);
    }
    if (r != 0) {
        hadb_opened_deinit(&opened);
        return r;
    }
    *out = opened;
    return in_blobs ? HADB_ABSENT : 0;
}

int hadb_entry_attach_blob(struct hadb_opened *out, struct hadb_slice blob, struct hadb_error *err)
{
    if (out->parts_attached >= out->parts_len) {
        return hadb_fail(err, HADB_EINVAL, "no blob is missing");
    }
    const struct hadb_blob_part *part = &out->parts[out->parts_attached];
    if (blob.len != part->bytes) {
        return hadb_fail(err, HADB_ECORRUPT, "blob part %zu has %zu bytes, its entry says %" PRIu64,
                         out->parts_attached, blob.len, part->bytes);
    }
    struct hadb_hash hash;
    hadb_sha256(blob.data, blob.len, &hash);
    if (!hadb_hash_eq(&hash, &part->hash)) {
        return hadb_fail(err, HADB_ECORRUPT, "blob part %zu does not match its hash",
                         out->parts_attached);
    }
    uint64_t total = 0;
    for (size_t i = 0; i < out->parts_len; i++) {
        total += out->parts[i].bytes;
    }
    bool last = out->parts_attached + 1 == out->parts_len;
    int r = add_piece(out, blob, total, last, err);
    if (r != 0) {
        hadb_opened_deinit(out); /* half a payload is of no use: the next attach is refused */
        return r;
    }
    out->parts_attached++;
    return last ? 0 : HADB_ABSENT;
}

void hadb_opened_deinit(struct hadb_opened *opened)
{
    hadb__inflate_free(opened->inflate);
    hadb_buf_deinit(&opened->payload);
    *opened = (struct hadb_opened){0};
}

int hadb_entry_decode(struct hadb_slice stored, struct hadb_entry *out, struct hadb_buf *payload,
                      struct hadb_hash *hash, struct hadb_error *err)
{
    HADB_ASSERT(out != NULL && payload != NULL);
    struct hadb_opened opened = {0};
    int r = hadb_entry_open(stored, &opened, err);
    if (r < 0) {
        return r;
    }
    *out = opened.entry;
    if (hash != NULL) {
        *hash = opened.hash;
    }
    if (r == 0) {
        hadb_buf_deinit(payload);
        *payload = hadb_buf_take(&opened.payload);
    }
    hadb_opened_deinit(&opened);
    return r;
}
