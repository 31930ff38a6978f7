/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model checker: every different blob once, without its zeros.
 *
 * A world is five numbers into such pools, so millions of worlds fit into memory and are compared
 * exactly, not by a fingerprint. A blob is kept as a bit map of its non-zero words and those words.
 *
 * Thread: one. Memory: address space is reserved once and touched as it fills; running out of it
 * ends the program with a message (the limits are far above what mc_search() allows).
 */
#include "base/util.h"
#include "sim/mc.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define POOL_BYTES_MAX (1ull << 34)
#define POOL_LEN_MAX (1ull << 28)
#define BLOB_WORDS_MAX 1024u

struct mc_pool {
    size_t words;     /* of a blob */
    size_t map_words; /* of its bit map */
    uint64_t *arena;
    uint64_t arena_len;
    uint64_t *start; /* of each blob, in arena */
    uint64_t len;
    uint64_t *table;    /* tag << 32 | id + 1; open addressing */
    uint64_t table_len; /* a power of two */
};

static void *reserve(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) {
        fprintf(stderr, "hadb-mc: cannot reserve memory\n");
        exit(2);
    }
    return p;
}

struct mc_pool *mc_pool_new(size_t bytes)
{
    HADB_ASSERT(bytes % 8 == 0 && bytes / 8 <= BLOB_WORDS_MAX);
    struct mc_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) {
        fprintf(stderr, "hadb-mc: out of memory\n");
        exit(2);
    }
    pool->words = bytes / 8;
    pool->map_words = (pool->words + 63) / 64;
    pool->arena = reserve(POOL_BYTES_MAX);
    pool->start = reserve(POOL_LEN_MAX * sizeof *pool->start);
    pool->table_len = 1u << 12;
    pool->table = reserve(pool->table_len * sizeof *pool->table);
    return pool;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93ull;
    x ^= x >> 29;
    return x;
}

/* Packs @blob behind the arena's end and returns the number of words. */
static size_t pack(struct mc_pool *pool, const void *blob, uint64_t *hash)
{
    const uint8_t *in = blob;
    uint64_t *map = pool->arena + pool->arena_len;
    uint64_t *out = map + pool->map_words;
    uint64_t h = 0x9e3779b97f4a7c15ull;
    for (size_t m = 0; m < pool->map_words; m++) {
        size_t end = HADB_MIN(pool->words, (m + 1) * 64);
        uint64_t bits = 0;
        for (size_t i = m * 64; i < end; i++) {
            uint64_t word;
            memcpy(&word, in + i * 8, 8);
            *out = word;
            out += word != 0;
            bits |= (uint64_t)(word != 0) << (i & 63);
        }
        map[m] = bits;
    }
    size_t len = (size_t)(out - map);
    for (size_t i = 0; i < len; i++) {
        h = (h ^ map[i]) * 0x9fb21c651e98df25ull;
        h ^= h >> 32;
    }
    *hash = mix(h);
    return len;
}

static void grow(struct mc_pool *pool)
{
    uint64_t new_len = pool->table_len * 4;
    uint64_t *table = reserve(new_len * sizeof *table);
    for (uint64_t i = 0; i < pool->table_len; i++) {
        uint64_t entry = pool->table[i];
        if (entry == 0) {
            continue;
        }
        /* The place is derived from the tag, so blobs need not be hashed again. */
        uint64_t at = mix(entry >> 32) & (new_len - 1);
        while (table[at] != 0) {
            at = (at + 1) & (new_len - 1);
        }
        table[at] = entry;
    }
    munmap(pool->table, pool->table_len * sizeof *pool->table);
    pool->table = table;
    pool->table_len = new_len;
}

static uint64_t end_of(const struct mc_pool *pool, uint64_t id)
{
    return id + 1 < pool->len ? pool->start[id + 1] : pool->arena_len;
}

uint32_t mc_pool_put(struct mc_pool *pool, const void *blob, bool *fresh)
{
    if (pool->len + 1 >= POOL_LEN_MAX ||
        (pool->arena_len + 2 * BLOB_WORDS_MAX) * 8 >= POOL_BYTES_MAX) {
        fprintf(stderr, "hadb-mc: too many worlds for the memory of this program\n");
        exit(2);
    }
    if (pool->len * 2 >= pool->table_len) {
        grow(pool);
    }
    uint64_t hash;
    size_t len = pack(pool, blob, &hash);
    uint64_t tag = hash >> 32;
    uint64_t at = mix(tag) & (pool->table_len - 1);
    const uint64_t *packed = pool->arena + pool->arena_len;
    for (; pool->table[at] != 0; at = (at + 1) & (pool->table_len - 1)) {
        if (pool->table[at] >> 32 != tag) {
            continue;
        }
        uint64_t id = (pool->table[at] & UINT32_MAX) - 1;
        uint64_t start = pool->start[id];
        if (end_of(pool, id) - start == len && memcmp(pool->arena + start, packed, len * 8) == 0) {
            *fresh = false;
            return (uint32_t)id;
        }
    }
    pool->table[at] = tag << 32 | (pool->len + 1);
    pool->start[pool->len] = pool->arena_len;
    pool->arena_len += len;
    *fresh = true;
    return (uint32_t)pool->len++;
}

void mc_pool_get(const struct mc_pool *pool, uint32_t id, void *blob)
{
    HADB_ASSERT(id < pool->len);
    const uint64_t *map = pool->arena + pool->start[id];
    const uint64_t *in = map + pool->map_words;
    uint8_t *out = blob;
    memset(out, 0, pool->words * 8);
    for (size_t m = 0; m < pool->map_words; m++) {
        for (uint64_t bits = map[m]; bits != 0; bits &= bits - 1) {
            size_t i = m * 64 + (size_t)__builtin_ctzll(bits);
            memcpy(out + i * 8, in++, 8);
        }
    }
}

uint64_t mc_pool_len(const struct mc_pool *pool)
{
    return pool->len;
}

uint64_t mc_pool_bytes(const struct mc_pool *pool)
{
    return pool->arena_len * 8 + pool->len * 8 + pool->table_len * 8;
}
