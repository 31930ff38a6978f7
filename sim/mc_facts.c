/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model checker: the facts that worlds name by number (objects, transaction lists, snapshots,
 * manifests). A fact is written once and never changes; number 0 means "none".
 *
 * Thread: one. Failure: more different facts than a 16-bit number can name ends the program.
 */
#include "base/util.h"
#include "sim/mc.h"

#include <stdlib.h>
#include <string.h>

#define FACTS_MAX 65535u
#define TABLE_LEN (1u << 18)

struct facts {
    size_t size;
    uint8_t *items;
    uint32_t len;
    uint16_t *table;
};

static struct facts contents = {.size = sizeof(struct mc_content)};
static struct facts lists = {.size = sizeof(struct mc_txs)};
static struct facts snapshots = {.size = sizeof(struct mc_snapshot)};
static struct facts manifests = {.size = sizeof(struct mc_manifest)};

static void *must(void *p)
{
    if (p == NULL) {
        fprintf(stderr, "hadb-mc: out of memory\n");
        exit(2);
    }
    return p;
}

/* FNV-1a over @len bytes: Fowler, Noll, Vo. */
static uint32_t hash_of(const void *data, size_t len)
{
    const uint8_t *b = data;
    uint64_t h = 14695981039346656037ull;
    for (size_t i = 0; i < len; i++) {
        h = (h ^ b[i]) * 1099511628211ull;
    }
    return (uint32_t)(h ^ h >> 32);
}

/* Facts are compared as bytes, so they must be built from zeroed memory. */
static uint16_t put(struct facts *facts, const void *item)
{
    if (facts->items == NULL) {
        facts->items = must(calloc(FACTS_MAX + 1, facts->size));
        facts->table = must(calloc(TABLE_LEN, sizeof *facts->table));
        facts->len = 1;
    }
    uint32_t at = hash_of(item, facts->size) & (TABLE_LEN - 1);
    for (; facts->table[at] != 0; at = (at + 1) & (TABLE_LEN - 1)) {
        uint16_t id = facts->table[at];
        if (memcmp(facts->items + id * facts->size, item, facts->size) == 0) {
            return id;
        }
    }
    if (facts->len > FACTS_MAX) {
        fprintf(stderr, "hadb-mc: more than %u different objects\n", FACTS_MAX);
        exit(2);
    }
    memcpy(facts->items + facts->len * facts->size, item, facts->size);
    facts->table[at] = (uint16_t)facts->len;
    return (uint16_t)facts->len++;
}

static const void *get(const struct facts *facts, uint16_t id)
{
    HADB_ASSERT(id != 0 && id < facts->len);
    return facts->items + id * facts->size;
}

uint16_t mc_content_put(const struct mc_content *content)
{
    return put(&contents, content);
}

const struct mc_content *mc_content_get(uint16_t id)
{
    return get(&contents, id);
}

uint16_t mc_txs_put(const struct mc_txs *txs)
{
    return put(&lists, txs);
}

const struct mc_txs *mc_txs_get(uint16_t id)
{
    return get(&lists, id);
}

uint16_t mc_snapshot_put(const struct mc_snapshot *snapshot)
{
    return put(&snapshots, snapshot);
}

const struct mc_snapshot *mc_snapshot_get(uint16_t id)
{
    return get(&snapshots, id);
}

uint16_t mc_manifest_put(const struct mc_manifest *manifest)
{
    return put(&manifests, manifest);
}

const struct mc_manifest *mc_manifest_get(uint16_t id)
{
    return get(&manifests, id);
}
