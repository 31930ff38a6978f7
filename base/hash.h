/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (OpenSSL, without allocation) and CRC-32C (Castagnoli, reflected; RFC 3720 B.4). Any thread. */
#ifndef HADB_BASE_HASH_H
#define HADB_BASE_HASH_H
#include "hadb/error.h"

void hadb_sha256(const void *data, size_t len, struct hadb_hash *out);

/* HMAC-SHA256 (RFC 2104). @out may be @key; nothing of the key is left on the stack. */
void hadb_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                      struct hadb_hash *out);

struct hadb_sha256_stream; /* heap */
struct hadb_sha256_stream *hadb_sha256_new(void); /* NULL when out of memory */
void hadb_sha256_update(struct hadb_sha256_stream *s, const void *data, size_t len);
void hadb_sha256_final(struct hadb_sha256_stream *s, struct hadb_hash *out); /* restarts s */
void hadb_sha256_free(struct hadb_sha256_stream *s);

uint32_t hadb_crc32c(uint32_t crc, const void *data, size_t len); /* start with 0 */

bool hadb_hash_eq(const struct hadb_hash *a, const struct hadb_hash *b);
bool hadb_hash_is_zero(const struct hadb_hash *a);
bool hadb_id_eq(const struct hadb_id *a, const struct hadb_id *b);
bool hadb_id_is_zero(const struct hadb_id *a);
bool hadb_secret_eq(const char *a, const char *b); /* time independent of where they differ */
#endif
