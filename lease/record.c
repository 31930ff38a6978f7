/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the bytes around a lease record (table in lease/record.h).
 *
 * Thread: any; no state but the arguments.
 * Happy path: encode before a write, decode and take after a read.
 * Failure modes: false for bytes that no encode made; HADB_ENOMEM.
 */
#include "lease/record.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/hash.h"
#include "base/url.h"
#include "base/util.h"

#define MAGIC "hadblse1"
static_assert(sizeof(MAGIC) - 1 == 8, "the magic has 8 bytes");
static_assert(8 + 8 + 16 + 4 + 4 == HADB_LEASE_HEADER_BYTES, "the table above");

static uint32_t checksum(const uint8_t *bytes, size_t len)
{
    uint32_t crc = hadb_crc32c(0, bytes, 36);
    return hadb_crc32c(crc, bytes + HADB_LEASE_HEADER_BYTES, len - HADB_LEASE_HEADER_BYTES);
}

bool hadb__lease_record_decode(struct hadb__lease_record *out)
{
    const uint8_t *bytes = out->bytes.data;
    size_t len = out->bytes.len;
    if (len < HADB_LEASE_HEADER_BYTES || memcmp(bytes, MAGIC, 8) != 0 ||
        hadb_get_u32(bytes + 32) != len - HADB_LEASE_HEADER_BYTES ||
        hadb_get_u32(bytes + 36) != checksum(bytes, len)) {
        return false;
    }
    out->version = hadb_get_u64(bytes + 8);
    memcpy(out->nonce, bytes + 16, sizeof(out->nonce));
    return true;
}

int hadb__lease_record_encode(const struct hadb_env *env, struct hadb_slice record,
                              struct hadb__lease_record *io)
{
    HADB_ASSERT(io->bytes.len == 0);
    uint8_t header[HADB_LEASE_HEADER_BYTES];
    hadb_random(env, io->nonce, sizeof(io->nonce));
    memcpy(header, MAGIC, 8);
    hadb_put_u64(header + 8, io->version);
    memcpy(header + 16, io->nonce, sizeof(io->nonce));
    hadb_put_u32(header + 32, (uint32_t)record.len);
    hadb_put_u32(header + 36, 0);
    int r = hadb_buf_append(&io->bytes, header, sizeof(header));
    r = r ? r : hadb_buf_append(&io->bytes, record.data, record.len);
    if (r == 0) {
        hadb_put_u32(io->bytes.data + 36, checksum(io->bytes.data, io->bytes.len));
    }
    return r;
}

void hadb__lease_record_take(struct hadb__lease_record *from, struct hadb_buf *out)
{
    HADB_ASSERT(from->bytes.len >= HADB_LEASE_HEADER_BYTES);
    from->bytes.len -= HADB_LEASE_HEADER_BYTES;
    memmove(from->bytes.data, from->bytes.data + HADB_LEASE_HEADER_BYTES, from->bytes.len);
    hadb_buf_deinit(out);
    *out = hadb_buf_take(&from->bytes);
}

void hadb__lease_record_tag(uint64_t version, const uint8_t nonce[16], struct hadb_tag *tag)
{
    char hex[33];
    hadb_hex_encode(nonce, 16, hex);
    snprintf(tag->s, sizeof(tag->s), "%" PRIu64 "-%s", version, hex);
}

bool hadb__lease_record_tag_read(const struct hadb_tag *tag, uint64_t *version, uint8_t nonce[16])
{
    char digits[24];
    const char *dash = strchr(tag->s, '-');
    size_t len = dash ? (size_t)(dash - tag->s) : 0;
    if (!dash || len >= sizeof(digits) || strlen(dash + 1) != 32) {
        return false;
    }
    memcpy(digits, tag->s, len);
    digits[len] = '\0';
    return hadb_parse_u64(digits, 0, UINT64_MAX, version) &&
           hadb_hex_decode(dash + 1, 32, nonce, 16);
}
