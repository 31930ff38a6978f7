/* SPDX-License-Identifier: Apache-2.0 */
/* Objects whose hashes hold, whatever else is in them. */
#ifndef HADB_FUZZ_OBJECT_H
#define HADB_FUZZ_OBJECT_H

#include "base/buf.h"
#include "base/hash.h"
#include "changeset/changeset.h"

/* Magic, version, body hash and header hash put right; @len is at least HADB_ENTRY_HEADER_BYTES. */
static inline void fuzz_reseal(uint8_t *object, size_t len)
{
    struct hadb_hash hash;
    memcpy(object, "HADBJ\x01", 6);
    hadb_sha256(object + HADB_ENTRY_HEADER_BYTES, len - HADB_ENTRY_HEADER_BYTES, &hash);
    memcpy(object + 256, hash.b, sizeof(hash.b));
    hadb_sha256(object, 288, &hash);
    memcpy(object + 288, hash.b, sizeof(hash.b));
}

/* … and the stored length; without compression, the raw one. */
static inline void fuzz_reseal_lengths(uint8_t *object, size_t len)
{
    hadb_put_u64(object + 216, len - HADB_ENTRY_HEADER_BYTES);
    if (object[7] == HADB_CODEC_NONE) {
        hadb_put_u64(object + 224, len - HADB_ENTRY_HEADER_BYTES);
    }
    fuzz_reseal(object, len);
}

/* The bytes as they are, with their hashes put right, and with their lengths, too. */
static inline void fuzz_try_object(const uint8_t *data, size_t len,
                                   void (*try_one)(struct hadb_slice object))
{
    try_one(hadb_slice(data, len));
    if (len < HADB_ENTRY_HEADER_BYTES) {
        return;
    }
    struct hadb_buf copy = {0};
    HADB_ASSERT(hadb_buf_append(&copy, data, len) == 0);
    fuzz_reseal(copy.data, len);
    try_one(hadb_buf_slice(&copy));
    fuzz_reseal_lengths(copy.data, len);
    try_one(hadb_buf_slice(&copy));
    hadb_buf_deinit(&copy);
}

#endif
