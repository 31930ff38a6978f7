/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulator: facts that are written once (entries, manifests, snapshots, lists of transactions), and
 * maps from a place in the log to one of them.
 *
 * Thread: one. Invariant: an entry's hash names the entry and depends on every field of it.
 */
#include "base/util.h"
#include "sim/sim_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- maps ---- */

static uint64_t place_hash(uint64_t term, uint64_t slot)
{
    uint64_t h = (term * 0x9e3779b97f4a7c15ull) ^ (slot * 0xd6e8feb86659fd93ull);
    return h ^ h >> 29;
}

static struct sim_place *find(const struct sim_map *map, uint64_t term, uint64_t slot)
{
    size_t at = place_hash(term, slot) & (map->cap - 1);
    while ((map->places[at].term != 0 || map->places[at].slot != 0) &&
           (map->places[at].term != term || map->places[at].slot != slot)) {
        at = (at + 1) & (map->cap - 1);
    }
    return &map->places[at];
}

uint32_t sim_map_get(const struct sim_map *map, uint64_t term, uint64_t slot)
{
    return map->cap == 0 ? 0 : find(map, term, slot)->value;
}

void sim_map_set(struct sim_map *map, uint64_t term, uint64_t slot, uint32_t value)
{
    HADB_ASSERT(term != 0 || slot != 0);
    if (map->len * 2 >= map->cap) {
        struct sim_map bigger = {.cap = map->cap ? map->cap * 2 : 64, .len = map->len};
        bigger.places = sim_must(calloc(bigger.cap, sizeof *bigger.places));
        for (size_t i = 0; i < map->cap; i++) {
            if (map->places[i].term != 0 || map->places[i].slot != 0) {
                *find(&bigger, map->places[i].term, map->places[i].slot) = map->places[i];
            }
        }
        free(map->places);
        *map = bigger;
    }
    struct sim_place *place = find(map, term, slot);
    map->len += place->term == 0 && place->slot == 0;
    *place = (struct sim_place){term, slot, value};
}

/* ---- facts ---- */

static void *room(void *items, uint32_t len, uint32_t *cap, size_t size)
{
    if (len < *cap) {
        return items;
    }
    *cap = *cap ? *cap * 2 : 64;
    return sim_must(realloc(items, *cap * size));
}

struct sim_list sim_list_new(struct sim *s, const uint32_t *items, uint32_t len)
{
    struct sim_list list = {s->lists_len, len};
    while (s->lists_len + len >= s->lists_cap) {
        s->lists = room(s->lists, s->lists_cap, &s->lists_cap, sizeof *s->lists);
    }
    memcpy(s->lists + s->lists_len, items, len * sizeof *items);
    s->lists_len += len;
    return list;
}

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9fb21c651e98df25ull;
    return h ^ h >> 31;
}

/* Byte 0 to 3 name the entry, byte 31 is never zero, the rest is mixed from all fields. */
static void hash_entry(const struct sim *s, uint32_t id, const struct hadb_entry_info *info,
                       struct sim_list txs, struct hadb_hash *out)
{
    uint64_t h = mix(id, (uint64_t)info->kind << 8 | (uint64_t)info->reason);
    h = mix(mix(mix(h, info->term), info->slot), info->last_txid);
    for (size_t i = 0; i < sizeof info->prev.b; i++) {
        h = mix(h, info->prev.b[i]);
    }
    for (uint32_t i = 0; i < txs.len; i++) {
        h = mix(h, s->lists[txs.at + i]);
    }
    memset(out, 0, sizeof *out);
    memcpy(out->b, &id, sizeof id);
    memcpy(out->b + 8, &h, sizeof h);
    out->b[31] = 1;
}

uint32_t sim_entry_new(struct sim *s, struct hadb_entry_info *info, struct sim_list txs)
{
    if (s->entries_len == 0) {
        s->entries_len = 1;
    }
    s->entries = room(s->entries, s->entries_len, &s->entries_cap, sizeof *s->entries);
    uint32_t id = s->entries_len++;
    hash_entry(s, id, info, txs, &info->hash);
    memset(&s->entries[id], 0, sizeof s->entries[id]);
    s->entries[id].info = *info;
    s->entries[id].txs = txs;
    return id;
}

uint32_t sim_entry_of(const struct hadb_hash *hash)
{
    uint32_t id;
    memcpy(&id, hash->b, sizeof id);
    return id;
}

uint32_t sim_manifest_new(struct sim *s, const struct sim_manifest *manifest)
{
    if (s->manifests_len == 0) {
        s->manifests_len = 1;
    }
    s->manifests = room(s->manifests, s->manifests_len, &s->manifests_cap, sizeof *s->manifests);
    s->manifests[s->manifests_len] = *manifest;
    return s->manifests_len++;
}

uint32_t sim_snapshot_new(struct sim *s, const struct sim_snapshot *snapshot)
{
    if (s->snapshots_len == 0) {
        s->snapshots_len = 1;
    }
    s->snapshots = room(s->snapshots, s->snapshots_len, &s->snapshots_cap, sizeof *s->snapshots);
    s->snapshots[s->snapshots_len] = *snapshot;
    return s->snapshots_len++;
}

/* ---- owners ---- */

struct hadb_owner sim_owner(uint8_t node, uint32_t life)
{
    struct hadb_owner owner;
    memset(&owner, 0, sizeof owner);
    owner.node.b[0] = (uint8_t)(node + 1);
    owner.incarnation.b[8] = (uint8_t)(node + 1);
    memcpy(owner.incarnation.b + 10, &life, sizeof life);
    return owner;
}

uint8_t sim_owner_node(const struct hadb_owner *owner)
{
    return owner->node.b[0] == 0 ? (uint8_t)SIM_NOBODY : (uint8_t)(owner->node.b[0] - 1);
}

uint32_t sim_owner_life(const struct hadb_owner *owner)
{
    uint32_t life;
    memcpy(&life, owner->incarnation.b + 10, sizeof life);
    return life;
}

/* Who owns the term at @pos: the seal that began it tells. */
struct hadb_owner sim_owner_at(const struct sim *s, const struct hadb_pos *pos)
{
    uint32_t id = sim_entry_of(&pos->hash);
    while (id != 0 && s->entries[id].info.kind != HADB_CORE_SEAL) {
        id = sim_entry_of(&s->entries[id].info.prev);
    }
    return id == 0 ? (struct hadb_owner){0} : s->entries[id].info.next;
}

void sim_entry_words(const struct sim *s, uint32_t entry, char *out, size_t size)
{
    if (entry == 0) {
        snprintf(out, size, "nothing");
        return;
    }
    const struct sim_entry *e = &s->entries[entry];
    if (e->info.kind == HADB_CORE_SEAL) {
        snprintf(out, size, "SEAL #%u %" PRIu64 "/%" PRIu64 " naming n%d.%u", entry, e->info.term,
                 e->info.slot, sim_owner_node(&e->info.next), sim_owner_life(&e->info.next));
    } else {
        snprintf(out, size, "DATA #%u %" PRIu64 "/%" PRIu64 " of %u up to %" PRIu64, entry,
                 e->info.term, e->info.slot, e->txs.len, e->info.last_txid);
    }
}
