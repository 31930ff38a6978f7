/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256, HMAC and comparisons of hashes, ids and secrets.
 *
 * Thread: any; a stream belongs to one thread at a time.
 * Why not EVP: an EVP digest allocates and may fail, and hashing must be able to do neither (the chain
 * hash is computed where no failure could be reported). The block functions below are the same code,
 * run without allocation, and cannot fail. They are marked deprecated since OpenSSL 3.0.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/hash.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>

#include "base/alloc.h"
#include "base/util.h"

struct hadb_sha256_stream {
    SHA256_CTX ctx;
};

static void sha256_update(SHA256_CTX *ctx, const void *data, size_t len)
{
    if (len) {
        int ok = SHA256_Update(ctx, data, len);
        HADB_ASSERT(ok == 1);
    }
}

void hadb_sha256(const void *data, size_t len, struct hadb_hash *out)
{
    SHA256_CTX ctx;
    int ok = SHA256_Init(&ctx);
    HADB_ASSERT(ok == 1);
    sha256_update(&ctx, data, len);
    ok = SHA256_Final(out->b, &ctx);
    HADB_ASSERT(ok == 1);
}

/* One of the two passes: the key, padded to a block with @pad, then @data. */
static void hmac_pass(const uint8_t key[SHA256_CBLOCK], uint8_t pad, const void *data, size_t len,
                      uint8_t out[SHA256_DIGEST_LENGTH])
{
    SHA256_CTX ctx;
    uint8_t block[SHA256_CBLOCK];
    for (size_t i = 0; i < sizeof block; i++) {
        block[i] = key[i] ^ pad;
    }
    int ok = SHA256_Init(&ctx);
    HADB_ASSERT(ok == 1);
    sha256_update(&ctx, block, sizeof block);
    sha256_update(&ctx, data, len);
    ok = SHA256_Final(out, &ctx);
    HADB_ASSERT(ok == 1);
    OPENSSL_cleanse(block, sizeof block);
    OPENSSL_cleanse(&ctx, sizeof ctx);
}

void hadb_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                      struct hadb_hash *out)
{
    uint8_t padded[SHA256_CBLOCK] = {0}, inner[SHA256_DIGEST_LENGTH];
    struct hadb_hash hashed;
    if (key_len > sizeof padded) {
        hadb_sha256(key, key_len, &hashed);
        memcpy(padded, hashed.b, sizeof hashed.b);
        OPENSSL_cleanse(&hashed, sizeof hashed);
    } else if (key_len > 0) {
        memcpy(padded, key, key_len);
    }
    hmac_pass(padded, 0x36, data, len, inner);
    hmac_pass(padded, 0x5c, inner, sizeof inner, out->b);
    OPENSSL_cleanse(padded, sizeof padded);
    OPENSSL_cleanse(inner, sizeof inner);
}

struct hadb_sha256_stream *hadb_sha256_new(void)
{
    struct hadb_sha256_stream *s = hadb_malloc(sizeof *s);
    if (s) {
        int ok = SHA256_Init(&s->ctx);
        HADB_ASSERT(ok == 1);
    }
    return s;
}

void hadb_sha256_update(struct hadb_sha256_stream *s, const void *data, size_t len)
{
    sha256_update(&s->ctx, data, len);
}

void hadb_sha256_final(struct hadb_sha256_stream *s, struct hadb_hash *out)
{
    int ok = SHA256_Final(out->b, &s->ctx);
    HADB_ASSERT(ok == 1);
    ok = SHA256_Init(&s->ctx);
    HADB_ASSERT(ok == 1);
}

void hadb_sha256_free(struct hadb_sha256_stream *s)
{
    hadb_free(s);
}

bool hadb_hash_eq(const struct hadb_hash *a, const struct hadb_hash *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

bool hadb_hash_is_zero(const struct hadb_hash *a)
{
    static const struct hadb_hash zero;
    return hadb_hash_eq(a, &zero);
}

bool hadb_id_eq(const struct hadb_id *a, const struct hadb_id *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

bool hadb_id_is_zero(const struct hadb_id *a)
{
    static const struct hadb_id zero;
    return hadb_id_eq(a, &zero);
}

bool hadb_secret_eq(const char *a, const char *b)
{
    /* Hashes of the same length are compared, so that not even the length shows in the time. */
    struct hadb_hash ha, hb;
    hadb_sha256(a, strlen(a), &ha);
    hadb_sha256(b, strlen(b), &hb);
    volatile uint8_t diff = 0;
    for (size_t i = 0; i < sizeof ha.b; i++) {
        diff = (uint8_t)(diff | (ha.b[i] ^ hb.b[i]));
    }
    return diff == 0;
}
