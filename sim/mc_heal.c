/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model checker: the first world, and healing.
 *
 * From any world in which nothing more goes wrong (every request is answered truthfully, deadlines
 * pass, silent owners are suspected) some process must become owner, acknowledge a new write, and the
 * others must follow it: the protocol cannot get stuck.
 *
 * Thread: one. Budgets and bounds of the configuration do not count while healing.
 */
#include "base/util.h"
#include "sim/mc.h"

#include <string.h>

#define ROUNDS_MAX 200  /* answers of one process until it is quiet */
#define ATTEMPTS_MAX 14 /* suspicions or writes until one is acknowledged */

static bool ok(enum mc_outcome outcome)
{
    return outcome == MC_DONE && mc_run.violation[0] == '\0';
}

/* Brings about the truth that the action waits for, and answers it. */
static bool serve(struct mc_world *world, uint8_t p, uint8_t o)
{
    struct mc_shared *shared = &world->shared;
    struct mc_op *op = &world->proc[p].ops[o];
    switch ((int)op->wait - 1) {
    case HADB_ACT_CREATE:
        if (op->reply != MC_REPLY_OK && shared->store[op->term][op->slot] == 0) {
            mc_apply(world,
                     (struct mc_move){MC_M_LAND, (uint8_t)op->what, (uint8_t)(op->what >> 8), 0});
        }
        break;
    case HADB_ACT_CAS_MANIFEST:
        for (uint8_t i = 0; i < shared->cas_len && op->reply != MC_REPLY_OK; i++) {
            if (shared->cas[i].next == op->what && shared->cas[i].expect == op->txs) {
                mc_apply(world, (struct mc_move){MC_M_LAND_CAS, i, 0, 0});
            }
        }
        break;
    case HADB_ACT_DELETE:
        for (uint8_t t = 0; t < MC_TERMS_MAX; t++) {
            for (uint8_t s = 1; s <= shared->delete_upto; s++) {
                uint16_t id = shared->store[t][s];
                if (id != 0 && mc_content_get(id)->info.kind == HADB_CORE_DATA) {
                    mc_apply(world, (struct mc_move){MC_M_DELETE, t, s, 0});
                }
            }
        }
        break;
    default:
        break;
    }
    uint8_t kind = mc_is_local(op->wait) ? MC_M_ANSWER : MC_M_REPLY;
    return ok(mc_apply(world, (struct mc_move){kind, p, o, 0}));
}

static bool settle_one(struct mc_world *world, uint8_t p, bool *moved)
{
    struct mc_proc *proc = &world->proc[p];
    for (int round = 0; round < ROUNDS_MAX; round++) {
        uint8_t o = HADB_OP_NONE + 1;
        while (o < HADB_OP_END && proc->ops[o].wait == 0) {
            o++;
        }
        if (o < HADB_OP_END) {
            if (!serve(world, p, o)) {
                return false;
            }
        } else if (!mc_run.config->deaf && hadb_core_deadline(&proc->core) <= MC_NOW) {
            if (!ok(mc_apply(world, (struct mc_move){MC_M_TICK, p, 0, 0}))) {
                return false;
            }
        } else {
            return true;
        }
        *moved = true;
    }
    mc_violate("stuck: p%d is never quiet although everything is answered", p);
    return false;
}

static bool settle(struct mc_world *world)
{
    bool moved = true;
    for (int round = 0; round < ROUNDS_MAX && moved; round++) {
        moved = false;
        for (uint8_t p = 0; p < mc_run.config->procs; p++) {
            if (!settle_one(world, p, &moved)) {
                return false;
            }
        }
    }
    return !moved;
}

static bool look_around(struct mc_world *world)
{
    for (uint8_t p = 0; p < mc_run.config->procs; p++) {
        if (!hadb_core_leads(&world->proc[p].core) &&
            !ok(mc_apply(world, (struct mc_move){MC_M_POKE, p, 0, 0}))) {
            return false;
        }
    }
    return settle(world);
}

/* All hold the same transactions, and those are the history. */
static bool converged(const struct mc_world *world)
{
    struct mc_txs history;
    if (!mc_history(&world->shared, &history)) {
        return false;
    }
    for (uint8_t p = 0; p < mc_run.config->procs; p++) {
        const struct mc_proc *proc = &world->proc[p];
        if (proc->txs_len != history.len || proc->mark.txid != history.len ||
            memcmp(proc->tx, history.id, history.len) != 0) {
            return false;
        }
    }
    return true;
}

static bool write_acknowledged(struct mc_world *world, uint8_t p)
{
    struct mc_proc *proc = &world->proc[p];
    if (proc->txs_len >= MC_TXS_MAX ||
        !ok(mc_apply(world, (struct mc_move){MC_M_WRITE, p, 0, 0}))) {
        return false;
    }
    uint8_t id = world->shared.writes;
    if (!settle(world)) {
        return false;
    }
    for (uint8_t i = 0; i < world->shared.acked_len; i++) {
        if (world->shared.acked[i] == id) {
            return true;
        }
    }
    return false;
}

/* An owner that was replaced and has nothing to do finds out when it is asked for something. */
static bool wake_zombies(struct mc_world *world, uint8_t owner)
{
    for (uint8_t p = 0; p < mc_run.config->procs; p++) {
        if (p != owner && hadb_core_leads(&world->proc[p].core) &&
            !ok(mc_apply(world, (struct mc_move){MC_M_READ, p, 0, 0}))) {
            return false;
        }
    }
    return settle(world);
}

/* Broken streams make followers look into the store again. */
static bool cut_streams(struct mc_world *world)
{
    for (uint8_t p = 0; p < mc_run.config->procs; p++) {
        if (world->proc[p].stream != 0 &&
            !ok(mc_apply(world, (struct mc_move){MC_M_STREAM, p, 0, 0}))) {
            return false;
        }
    }
    return true;
}

static bool heal(struct mc_world *world)
{
    if (!cut_streams(world) || !settle(world)) {
        return false;
    }
    for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        if (!look_around(world)) {
            return false;
        }
        bool leader = false;
        for (uint8_t p = 0; p < mc_run.config->procs; p++) {
            if (world->proc[p].gate != HADB_GATE_OPEN) {
                continue;
            }
            leader = true;
            if (write_acknowledged(world, p)) {
                return wake_zombies(world, p) && look_around(world) && converged(world) &&
                       mc_check(world) == MC_DONE;
            }
        }
        uint8_t p = (uint8_t)((unsigned)attempt % mc_run.config->procs);
        if (!leader &&
            !ok(mc_apply(world, (struct mc_move){MC_M_SUSPECT, p, HADB_LIVE_SILENT, 0}))) {
            return false;
        }
        if (!settle(world)) {
            return false;
        }
    }
    return false;
}

bool mc_heal(struct mc_world *world)
{
    mc_run.healing = true;
    bool healed = heal(world);
    mc_run.healing = false;
    mc_run.dirty = 0;
    return healed;
}

/* Everybody starts; unless genesis is part of the configuration, process 0 owns term 1 at once. */
enum mc_outcome mc_world_init(struct mc_world *world)
{
    const struct mc_config *config = mc_run.config;
    struct mc_manifest manifest;
    memset(world, 0, sizeof *world);
    memset(&manifest, 0, sizeof manifest);
    manifest.info.version = 1;
    manifest.info.nonce.b[0] = 255;
    world->shared.manifest = mc_manifest_put(&manifest);
    mc_run.healing = !config->genesis;
    for (uint8_t p = 0; p < config->procs; p++) {
        struct hadb_event start;
        bool moved;
        mc_proc_start(world, p, &start);
        if (!ok(mc_step(world, p, &start)) || (!config->genesis && !settle_one(world, p, &moved))) {
            return MC_VIOLATION;
        }
    }
    mc_run.healing = false;
    struct mc_shared *shared = &world->shared;
    shared->crashes = config->crashes;
    shared->lost = config->lost;
    shared->reads = config->reads;
    shared->handoffs = config->handoffs;
    shared->resigns = config->resigns;
    shared->snapshots = config->snapshots;
    shared->suspects = config->suspects;
    shared->disk_losses = config->disk_losses;
    shared->streams = config->streams;
    shared->overwrites = config->overwrites;
    shared->clones = config->clones;
    return MC_DONE;
}
