/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes around a lease record in stores that keep plain files or objects. Any thread.
 *
 *   offset  bytes
 *    0      8   "hadblse1"
 *    8      8   version, little-endian: 1, 2, 3 … for this key; 0 where nobody counts
 *   16     16   nonce, random for each write: equal records never are equal bytes
 *   32      4   length of the record
 *   36      4   CRC-32C of bytes 0 to 35 and the record
 *   40      …   the record
 */
#ifndef HADB_LEASE_RECORD_H
#define HADB_LEASE_RECORD_H
#include "hadb/env.h"

#define HADB_LEASE_HEADER_BYTES 40u

struct hadb__lease_record {
    uint64_t version;
    uint8_t nonce[16];
    struct hadb_buf bytes; /* header and record */
};

/* Reads version and nonce of out->bytes; false when they are damaged or no lease record. */
bool hadb__lease_record_decode(struct hadb__lease_record *out);
/* Fills io->bytes (empty so far) with a header of io->version and a fresh nonce, and @record. 0 or HADB_ENOMEM. */
int hadb__lease_record_encode(const struct hadb_env *env, struct hadb_slice record,
                              struct hadb__lease_record *io);
/* "VERSION-NONCE": the tag of a record, where the store has none of its own that never comes back. */
void hadb__lease_record_tag(uint64_t version, const uint8_t nonce[16], struct hadb_tag *tag);
/* Reads such a tag; false when it is none. */
bool hadb__lease_record_tag_read(const struct hadb_tag *tag, uint64_t *version, uint8_t nonce[16]);
/* Moves the record alone out of a decoded one into @out, which is replaced. */
void hadb__lease_record_take(struct hadb__lease_record *from, struct hadb_buf *out);
#endif
