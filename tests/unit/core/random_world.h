/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A toy world for machines under random events: log objects that conditional creates make, the history that they
 * link to, a manifest, and rival processes that write, seal, collect and stray. All choices come from one seed.
 */
#ifndef HADB_TEST_CORE_RANDOM_WORLD_H
#define HADB_TEST_CORE_RANDOM_WORLD_H

#include "base/util.h"
#include "tests/unit/core/rig.h"

#define OBJS_MAX 8192u
#define SLOTS_MAX 2048u
#define TERMS_MAX 2048u
#define TXS_MAX 8192u
#define BATCH_MAX 4u
#define LIMBO_MAX 16u
#define RIVALS 2

struct item { /* a log entry with its transactions */
    struct hadb_entry_info info;
    hadb_txid first;
    uint32_t tx[BATCH_MAX];
};

static struct {
    struct {
        struct item item;
        bool used, deleted;
    } objs[OBJS_MAX];
    unsigned objs_len;
    struct hadb_pos tip;
    struct hadb_owner owner; /* of tip.term */
    uint32_t tx[TXS_MAX];    /* history: transaction -> number */
    struct hadb_pos at[SLOTS_MAX];
    struct hadb_owner owner_at[SLOTS_MAX];
    struct hadb_owner term_owner[TERMS_MAX];
    uint64_t term_slot[TERMS_MAX];
    struct hadb_manifest_info manifest;
    struct item pend; /* a rival has framed it; slot 0 = none */
    struct item limbo[LIMBO_MAX];
    unsigned limbo_len;
    int lives;
} w; /* the world */

static uint64_t now_ms, rng, hashes;
static uint32_t numbers;
static bool fair; /* nothing goes wrong, and rivals are dead */

static uint64_t rnd(uint64_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (rng >> 11) % n;
}
static uint64_t least(uint64_t a, uint64_t b) /* arguments of HADB_MIN must not draw */
{
    return HADB_MIN(a, b);
}
static bool wild(unsigned percent)
{
    return !fair && rnd(100) < percent;
}
static struct hadb_hash new_hash(void)
{
    struct hadb_hash hash;
    memset(&hash, 0, sizeof hash);
    hashes++;
    memcpy(hash.b, &hashes, sizeof hashes);
    return hash;
}
static bool same_owner(const struct hadb_owner *a, const struct hadb_owner *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}
static bool nobody(const struct hadb_owner *owner)
{
    return same_owner(owner, &(struct hadb_owner){0});
}
static bool is_rival(const struct hadb_owner *owner)
{
    return owner->node.b[15] > 1;
}
static struct hadb_owner rival(void)
{
    return owner_of(2 + (int)rnd(RIVALS), 1 + (int)rnd(2));
}

/* ---- the world ---- */

static unsigned place(uint64_t term, uint64_t slot)
{
    unsigned i = (unsigned)((term * 1000003u + slot) % OBJS_MAX);
    while (w.objs[i].used &&
           (w.objs[i].item.info.term != term || w.objs[i].item.info.slot != slot)) {
        i = (i + 1) % OBJS_MAX;
    }
    return i;
}
static bool there(uint64_t term, uint64_t slot)
{
    unsigned i = place(term, slot);
    return w.objs[i].used && !w.objs[i].deleted;
}

static void note_tip(void)
{
    w.at[w.tip.slot] = w.tip;
    w.owner_at[w.tip.slot] = w.owner;
    w.term_owner[w.tip.term] = w.owner;
    w.term_slot[w.tip.term] = w.tip.slot;
}

/* Slots may land in any order; the history goes on as far as they link. */
static bool tip_advances(void)
{
    if (!there(w.tip.term, w.tip.slot + 1)) {
        return false;
    }
    const struct item *item = &w.objs[place(w.tip.term, w.tip.slot + 1)].item;
    const struct hadb_entry_info *info = &item->info;
    if (memcmp(&info->prev, &w.tip.hash, sizeof info->prev) != 0) {
        return false;
    }
    w.tip.hash = info->hash;
    if (info->kind == HADB_CORE_SEAL) {
        assert_true(info->last_txid == w.tip.txid);
        w.tip.term++;
        w.owner = info->next;
        w.term_owner[w.tip.term] = w.owner;
        w.term_slot[w.tip.term] = w.tip.slot;
        return true;
    }
    assert_true(item->first == w.tip.txid + 1);
    for (hadb_txid t = item->first; t <= info->last_txid; t++) {
        w.tx[t] = item->tx[t - item->first];
    }
    w.tip.slot++;
    w.tip.txid = info->last_txid;
    note_tip();
    return true;
}

/* Create-if-absent: false if something is there. */
static bool land(const struct item *item)
{
    if (there(item->info.term, item->info.slot)) {
        return false;
    }
    unsigned i = place(item->info.term, item->info.slot);
    w.objs_len += !w.objs[i].used;
    w.objs[i].used = true;
    w.objs[i].deleted = false;
    w.objs[i].item = *item;
    while (tip_advances()) {
    }
    return true;
}

static struct item next_item(enum hadb_core_entry kind)
{
    struct item item = {.info = {.kind = kind,
                                 .term = w.tip.term,
                                 .slot = w.tip.slot + 1,
                                 .last_txid = w.tip.txid,
                                 .prev = w.tip.hash,
                                 .hash = new_hash()}};
    return item;
}

/* A rival ends the term: for itself, for @self, or for nobody. */
static void rival_seals(const struct hadb_owner *self)
{
    struct item seal = next_item(HADB_CORE_SEAL);
    seal.info.reason = w.tip.term == 0 ? HADB_SEAL_GENESIS : HADB_SEAL_FAILOVER;
    seal.info.next = rival();
    if (is_rival(&w.owner) && rnd(3) == 0) {
        seal.info.reason = HADB_SEAL_HANDOFF;
        seal.info.next = *self;
        if (rnd(2) || nobody(self)) {
            seal.info.reason = HADB_SEAL_RESIGN;
            seal.info.next = (struct hadb_owner){0};
        }
    }
    land(&seal);
    w.pend.info.slot = 0;
}

static void rival_writes(const struct hadb_owner *self)
{
    if (!is_rival(&w.owner)) {
        return;
    }
    if (w.pend.info.slot != 0) {
        if (rnd(4) != 0) {
            land(&w.pend);
            w.pend.info.slot = 0;
        } else { /* it died, and its entry never lands */
            rival_seals(self);
        }
        return;
    }
    w.pend = next_item(HADB_CORE_DATA);
    w.pend.first = w.tip.txid + 1;
    for (unsigned n = 1 + (unsigned)rnd(BATCH_MAX), i = 0; i < n; i++) {
        w.pend.tx[i] = ++numbers;
        w.pend.info.last_txid++;
    }
}

static void rival_collects(void)
{
    if (w.tip.slot > w.manifest.boundary_slot && rnd(3) == 0) {
        w.manifest.version++;
        w.manifest.boundary_slot += 1 + rnd(w.tip.slot - w.manifest.boundary_slot);
        w.manifest.boundary_term = w.tip.term;
        w.manifest.has_snapshot = true;
        w.manifest.nonce.b[15] = 99;
    }
}

static void delete_data(uint64_t upto)
{
    for (unsigned i = 0; i < OBJS_MAX; i++) {
        const struct hadb_entry_info *info = &w.objs[i].item.info;
        if (w.objs[i].used && info->kind == HADB_CORE_DATA && info->slot <= upto) {
            w.objs[i].deleted = true;
        }
    }
}

/* A stale rival seals a collected slot at which the machine may still look. */
static void rival_strays(const struct hadb_pos *view)
{
    if (view->slot + 1 > w.manifest.boundary_slot || there(view->term, view->slot + 1)) {
        return;
    }
    struct item seal = next_item(HADB_CORE_SEAL);
    seal.info.term = view->term;
    seal.info.slot = view->slot + 1;
    seal.info.prev = view->hash;
    seal.info.last_txid = view->txid;
    seal.info.reason = HADB_SEAL_FAILOVER;
    seal.info.next = rival();
    land(&seal);
}

/* @self: the machine, which may be named in a seal (zero: it cannot lead); @view: how far it is. */
static void rivals_act(const struct hadb_owner *self, const struct hadb_pos *view)
{
    switch (rnd(12)) {
    case 0:
        if (rnd(8) == 0 || nobody(&w.owner)) {
            rival_seals(self);
        }
        break;
    case 1:
        rival_collects();
        break;
    case 2:
        delete_data(w.manifest.boundary_slot);
        break;
    case 3:
        rival_strays(view);
        break;
    case 4:
        if (w.limbo_len > 0) {
            land(&w.limbo[--w.limbo_len]);
        }
        break;
    default:
        rival_writes(self);
    }
}
static bool world_is_full(hadb_txid last) /* of the machine under test */
{
    return w.objs_len > OBJS_MAX / 2 || w.tip.slot > SLOTS_MAX - 600 ||
           w.tip.term > TERMS_MAX - 600 || last > TXS_MAX - 3000 || w.tip.txid > TXS_MAX - 3000;
}

/* What FRAME_* asks for, without transactions. */
static struct item framed_item(const struct hadb_action *act)
{
    bool seal = act->type == HADB_ACT_FRAME_SEAL;
    return (struct item){.info = {.kind = seal ? HADB_CORE_SEAL : HADB_CORE_DATA,
                                  .reason = act->reason,
                                  .term = act->term,
                                  .slot = act->slot,
                                  .prev = act->prev,
                                  .hash = new_hash(),
                                  .last_txid = act->txid,
                                  .next = act->owner},
                         .first = act->txid + 1};
}
#endif
