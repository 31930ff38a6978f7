/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of changeset/ share: the header on bytes, and compression. Pure; any thread. */
#ifndef HADB_CHANGESET_PRIVATE_H
#define HADB_CHANGESET_PRIVATE_H

#include "base/buf.h"
#include "changeset/changeset.h"

/* Why @entry must not be written or, once read, is corrupt: a short text; NULL when it is fine. */
const char *hadb__entry_fault(const struct hadb_entry *entry);

/* Writes the header of @entry, whose codec, stored_bytes, raw_bytes and body_hash are set. */
void hadb__entry_header_write(const struct hadb_entry *entry, uint8_t out[HADB_ENTRY_HEADER_BYTES]);

/* Compresses into at most @cap bytes of @out. Returns 0, HADB_ABSENT (does not fit), HADB_ENOMEM. */
int hadb__compress(struct hadb_slice in, int level, uint8_t *out, size_t cap, size_t *out_len,
                   struct hadb_error *err);

/* Decompression of one frame of exactly @raw_bytes, fed piece by piece. */
struct hadb__inflate;
/* @first: the first piece, at least; @stored_bytes: all pieces. Checks what the frame claims before any
 * memory is taken, then reserves @raw_bytes in @out. HADB_ECORRUPT, HADB_ENOMEM. */
int hadb__inflate_new(struct hadb_slice first, uint64_t stored_bytes, uint64_t raw_bytes,
                      struct hadb_buf *out, struct hadb__inflate **inflate, struct hadb_error *err);
/* Appends what @piece holds to @out. @last: the frame must end here. HADB_ECORRUPT, HADB_ENOMEM. */
int hadb__inflate_feed(struct hadb__inflate *inflate, struct hadb_slice piece, bool last,
                       struct hadb_buf *out, struct hadb_error *err);
void hadb__inflate_free(struct hadb__inflate *inflate); /* NULL is fine */

#endif
