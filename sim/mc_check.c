/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model checker: what must hold in every world (protocol 4.14).
 *
 * The history is told by the store alone: the snapshot of the manifest, then entry after entry as a
 * reader would walk them. Everything that was promised to somebody is compared with it.
 * I1 holds by the kind of store (one object per key); I4 and part of I2 and I7 are checked where the
 * promise is made (mc_host.c); I9 because no action can write or delete anything else.
 *
 * Thread: one.
 */
#include "base/util.h"
#include "sim/mc.h"

#include <inttypes.h>
#include <string.h>

struct walk {
    uint64_t term, slot;
    struct hadb_hash hash;
    uint8_t owner; /* code of the process that the last seal named; 0 = not known */
    uint32_t seen; /* bit i: write i + 1 is in the history */
};

static void begin(const struct mc_shared *shared, struct walk *walk, struct mc_txs *out)
{
    const struct mc_manifest *manifest = mc_manifest_get(shared->manifest);
    memset(walk, 0, sizeof *walk);
    memset(out, 0, sizeof *out);
    walk->slot = 1;
    if (manifest->snapshot == 0) {
        return;
    }
    const struct mc_snapshot *snapshot = mc_snapshot_get(manifest->snapshot);
    *out = *mc_txs_get(snapshot->txs);
    walk->term = manifest->info.boundary_term;
    walk->slot = manifest->info.boundary_slot + 1;
    walk->hash = snapshot->pos.hash;
    walk->owner = mc_owner_code(&snapshot->owner);
    if (snapshot->pos.slot != manifest->info.boundary_slot ||
        snapshot->pos.term != manifest->info.boundary_term || snapshot->pos.txid != out->len) {
        mc_violate("I5: the boundary does not say what its snapshot holds");
    }
}

static bool take(const struct mc_content *content, const struct hadb_entry_info *info,
                 struct walk *walk, struct mc_txs *out)
{
    if (memcmp(&info->prev, &walk->hash, sizeof info->prev) != 0) {
        mc_violate("I6: the entry at %" PRIu64 "/%" PRIu64 " does not link to the one before",
                   info->term, info->slot);
        return false;
    }
    walk->hash = info->hash;
    if (info->kind == HADB_CORE_SEAL) {
        walk->term++;
        walk->owner = mc_owner_code(&info->next);
        return true;
    }
    struct hadb_owner writer = mc_owner(content->proc, content->incarnation);
    if (walk->owner != 0 && walk->owner != mc_owner_code(&writer)) {
        mc_violate("I2: p%d wrote in term %" PRIu64 ", which it does not own", content->proc,
                   info->term);
        return false;
    }
    const struct mc_txs *txs = mc_txs_get(content->txs);
    for (uint8_t i = 0; i < txs->len; i++) {
        HADB_ASSERT(out->len < MC_TXS_MAX);
        out->id[out->len++] = txs->id[i];
    }
    if (info->last_txid != out->len) {
        mc_violate("I6: transactions are missing at slot %" PRIu64, info->slot);
        return false;
    }
    walk->slot++;
    return true;
}

bool mc_history(const struct mc_shared *shared, struct mc_txs *out)
{
    struct walk walk;
    begin(shared, &walk, out);
    while (walk.term < MC_TERMS_MAX && walk.slot < MC_SLOTS_MAX) {
        uint16_t id = shared->store[walk.term][walk.slot];
        if (id == 0) {
            break;
        }
        struct hadb_entry_info info = mc_info(id);
        if (!take(mc_content_get(id), &info, &walk, out)) {
            return false;
        }
    }
    return mc_run.violation[0] == '\0';
}

static void check_promises(const struct mc_shared *shared, const struct mc_txs *history)
{
    uint32_t seen = 0;
    for (uint8_t i = 0; i < history->len; i++) {
        uint32_t bit = 1u << (history->id[i] - 1);
        if (seen & bit) {
            mc_violate("exactly once: w%d is in the history twice", history->id[i]);
        }
        if (shared->refused & bit) {
            mc_violate("I10: w%d was reported as surely not committed and is in the history",
                       history->id[i]);
        }
        seen |= bit;
    }
    for (uint8_t i = 0; i < shared->acked_len; i++) {
        if (shared->acked[i] == 0) {
            continue;
        }
        if (i >= history->len || history->id[i] != shared->acked[i]) {
            mc_violate("I3: w%d was acknowledged as transaction %d and is not in the history",
                       shared->acked[i], i + 1);
        }
    }
    for (uint8_t i = 0; i < shared->shown_len; i++) {
        if (i < history->len && history->id[i] != shared->shown[i]) {
            mc_violate("I7: w%d was shown by a linearizable read and is not in the history",
                       shared->shown[i]);
        }
    }
}

static void check_proc(const struct mc_world *world, uint8_t p, const struct mc_txs *history)
{
    const struct mc_proc *proc = &world->proc[p];
    if (proc->mark.txid > history->len) {
        mc_violate("I8: p%d holds transaction %" PRIu64 " as durable, the history ends at %d", p,
                   proc->mark.txid, history->len);
        return;
    }
    for (uint64_t i = 0; i < proc->mark.txid && i < proc->txs_len; i++) {
        if (proc->tx[i] != history->id[i]) {
            mc_violate("I8: p%d holds w%d as transaction %" PRIu64 ", the history has w%d", p,
                       proc->tx[i], i + 1, history->id[i]);
            return;
        }
    }
    if (proc->mark.txid > proc->txs_len) {
        mc_violate("I8: the mark of p%d lies above its last transaction", p);
    }
}

enum mc_outcome mc_check(const struct mc_world *world)
{
    struct mc_txs history;
    if (mc_run.config->overwrites > 0) { /* nothing can be promised, except never to bridge a gap */
        return mc_run.violation[0] == '\0' ? MC_DONE : MC_VIOLATION;
    }
    if (mc_run.violation[0] == '\0' && mc_history(&world->shared, &history)) {
        check_promises(&world->shared, &history);
        for (uint8_t p = 0; p < mc_run.config->procs; p++) {
            check_proc(world, p, &history);
        }
    }
    return mc_run.violation[0] == '\0' ? MC_DONE : MC_VIOLATION;
}
