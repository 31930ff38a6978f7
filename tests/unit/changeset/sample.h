/* SPDX-License-Identifier: Apache-2.0 */
/* One fixed, complete example of every kind of object: for unit tests, golden vectors and the fuzz corpus. */
#ifndef HADB_TESTS_CHANGESET_SAMPLE_H
#define HADB_TESTS_CHANGESET_SAMPLE_H

#include "base/buf.h"
#include "changeset/changeset.h"

/* All abort the test program when out of memory or when the library refuses. */

/* Bytes that differ by @seed. */
struct hadb_id sample_id(uint8_t seed);
struct hadb_hash sample_hash(uint8_t seed);

/* Header fields for @kind, every one of them set to something that is not zero where it may be. */
struct hadb_entry sample_entry(enum hadb_entry_kind kind);
/* The payload that belongs to it. */
void sample_payload(enum hadb_entry_kind kind, struct hadb_buf *out);
/* Both, framed: the stored object. */
void sample_object(enum hadb_entry_kind kind, int zstd_level, struct hadb_buf *out,
                   struct hadb_hash *hash);

struct hadb_seal sample_seal(void);
struct hadb_meta sample_meta(void);
/* Snapshots, terms, condemned names and an unknown section; to be freed with hadb_manifest_deinit(). */
void sample_manifest(struct hadb_manifest *out);

/* Writes body hash and header hash of a doctored object again, so that only the doctored field is wrong. */
void sample_reseal(uint8_t *object, size_t len);

/* @len bytes that zstd cannot shrink; same @seed, same bytes. */
void sample_noise(uint64_t seed, size_t len, struct hadb_buf *out);

#endif
