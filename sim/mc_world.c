/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model checker: what can happen next in a world, and making it happen.
 *
 * Moves are: a reply arrives (as things are now, or as they were when the request was sent), is lost;
 * a request that was ever sent reaches the store, once more or late; a deadline passes; somebody pokes,
 * suspects, writes, reads, hands over, asks for a snapshot; a process crashes and restarts.
 * What could happen for ever (faults and client requests) is bounded by the configuration's budgets,
 * so that small configurations can be exhausted.
 *
 * Thread: one. Invariant: the list of moves depends on the world alone.
 */
#include "base/util.h"
#include "sim/mc.h"

#include <string.h>

#define ROUNDS_MAX 300  /* of settling */
#define ATTEMPTS_MAX 12 /* of healing */
#define LOST_DISK 255

struct list {
    struct mc_move *moves;
    size_t len;
};

static void add(struct list *list, enum mc_move_kind kind, uint8_t a, uint8_t b, uint8_t c)
{
    HADB_ASSERT(list->len < MC_MOVES_MAX);
    list->moves[list->len++] = (struct mc_move){(uint8_t)kind, a, b, c};
}

/* ---- listing ---- */

static bool may_delete(const struct mc_shared *shared, uint8_t term, uint8_t slot)
{
    uint16_t id = shared->store[term][slot];
    return id != 0 && slot <= shared->delete_upto &&
           (shared->delete_seals || mc_content_get(id)->info.kind == HADB_CORE_DATA);
}

static bool anything_to_delete(const struct mc_shared *shared)
{
    for (uint8_t t = 0; t < MC_TERMS_MAX; t++) {
        for (uint8_t s = 1; s < MC_SLOTS_MAX; s++) {
            if (may_delete(shared, t, s)) {
                return true;
            }
        }
    }
    return false;
}

static uint16_t stored(const struct mc_shared *shared, const struct mc_op *op)
{
    return shared->store[op->term][op->slot];
}

/* Is there a true answer to this action by now? */
static bool answerable(const struct mc_shared *shared, const struct mc_op *op)
{
    switch ((int)op->wait - 1) {
    case HADB_ACT_GET:
    case HADB_ACT_GET_MANIFEST:
    case HADB_ACT_ASK_READY:
        return true;
    case HADB_ACT_CREATE:
        return op->reply == MC_REPLY_OK || stored(shared, op) != 0;
    case HADB_ACT_CAS_MANIFEST:
        return op->reply == MC_REPLY_OK || op->txs != shared->manifest;
    case HADB_ACT_DELETE:
        return !anything_to_delete(shared);
    default:
        return false;
    }
}

/* Was the truth another when the request was sent? */
static bool has_old_answer(const struct mc_shared *shared, const struct mc_op *op)
{
    return (op->wait == HADB_ACT_GET + 1 && op->what != stored(shared, op)) ||
           (op->wait == HADB_ACT_GET_MANIFEST + 1 && op->what != shared->manifest);
}

static void list_ops(const struct mc_world *world, uint8_t p, struct list *list)
{
    const struct mc_shared *shared = &world->shared;
    for (uint8_t o = HADB_OP_NONE + 1; o < HADB_OP_END; o++) {
        const struct mc_op *op = &world->proc[p].ops[o];
        if (op->wait == 0) {
            continue;
        }
        if (mc_is_local(op->wait)) {
            add(list, MC_M_ANSWER, p, o, 0);
            continue;
        }
        if (answerable(shared, op)) {
            add(list, MC_M_REPLY, p, o, 0);
        }
        if (has_old_answer(shared, op)) {
            add(list, MC_M_REPLY_OLD, p, o, 0);
        }
        if (shared->lost > 0) {
            add(list, MC_M_LOSE, p, o, 0);
        }
    }
}

static bool is_self(const struct mc_proc *proc, const struct hadb_owner *owner)
{
    return memcmp(owner, &proc->core.self, sizeof *owner) == 0;
}

static void list_timers(const struct mc_world *world, uint8_t p, struct list *list)
{
    const struct mc_proc *proc = &world->proc[p];
    const struct hadb_core *core = &proc->core;
    if (hadb_core_deadline(core) <= MC_NOW) {
        add(list, MC_M_TICK, p, 0, 0);
    }
    if (hadb_core_leads(core)) {
        if (world->shared.reads > 0 && core->read_sent == 0 && !core->read_waiting) {
            add(list, MC_M_POKE, p, 0, 0); /* it looks whether it still leads: as a read does */
        }
        return;
    }
    if (core->phase == HADB_PH_IDLE && !core->main_busy && !core->poke) {
        add(list, MC_M_POKE, p, 0, 0);
    }
    if (world->shared.suspects == 0 || mc_owner_code(&core->owner) == 0 ||
        is_self(proc, &core->owner)) {
        return;
    }
    if (core->seal_at_ms == 0) {
        add(list, MC_M_SUSPECT, p, HADB_LIVE_SILENT, 0);
    }
    static const uint8_t others[] = {HADB_LIVE_ALIVE, HADB_LIVE_GONE, HADB_LIVE_FREE};
    for (size_t i = 0; i < HADB_LEN(others) && mc_run.config->verdicts; i++) {
        if (core->liveness != others[i]) { /* a host tells changes only */
            add(list, MC_M_SUSPECT, p, others[i], 0);
        }
    }
}

static void list_clients(const struct mc_world *world, uint8_t p, struct list *list)
{
    const struct mc_proc *proc = &world->proc[p];
    const struct mc_shared *shared = &world->shared;
    const struct mc_config *config = mc_run.config;
    if (proc->gate != HADB_GATE_CLOSED && shared->writes < config->writes &&
        proc->txs_len < MC_TXS_MAX) {
        add(list, MC_M_WRITE, p, 0, 0);
    }
    if (shared->reads > 0 && proc->reads[MC_READS_MAX - 1].round == 0) {
        add(list, MC_M_READ, p, 0, 0);
    }
    if (proc->core.role == HADB_CORE_OWNER && proc->core.phase == HADB_PH_LEAD) {
        for (uint8_t q = 0; q < config->procs && shared->handoffs > 0; q++) {
            if (q != p) {
                add(list, MC_M_HANDOFF, p, q, 0);
            }
        }
        if (shared->resigns > 0) {
            add(list, MC_M_HANDOFF, p, 255, 0);
        }
    }
    if (shared->snapshots > 0 && proc->core.snap_phase == 0 && !proc->core.snap_wanted &&
        proc->core.view.slot > proc->core.boundary_slot) {
        add(list, MC_M_SNAPSHOT, p, 0, 0);
    }
}

static void list_crashes(const struct mc_world *world, uint8_t p, struct list *list)
{
    const struct mc_proc *proc = &world->proc[p];
    const struct mc_shared *shared = &world->shared;
    if (shared->crashes == 0 || proc->incarnation >= 14) {
        return;
    }
    for (uint64_t keep = 0; proc->mark.txid + keep <= proc->txs_len; keep++) {
        add(list, MC_M_CRASH, p, (uint8_t)keep, 0);
    }
    if (shared->disk_losses > 0 && proc->mark.term != 0) {
        add(list, MC_M_CRASH, p, LOST_DISK, 0);
    }
}

/* A copy of the whole machine, memory and disk, starts in the place of another process. */
static void list_clones(const struct mc_world *world, uint8_t p, struct list *list)
{
    for (uint8_t q = 0; q < mc_run.config->procs && world->shared.clones > 0; q++) {
        if (q != p && hadb_core_leads(&world->proc[p].core)) {
            add(list, MC_M_CLONE, p, q, 0);
        }
    }
}

static void list_stream(const struct mc_world *world, uint8_t p, struct list *list)
{
    const struct mc_proc *proc = &world->proc[p];
    const struct mc_shared *shared = &world->shared;
    uint8_t owner = mc_owner_code(&proc->core.owner);
    if (shared->streams == 0 || owner == 0 || is_self(proc, &proc->core.owner)) {
        return;
    }
    if (proc->stream == 0) {
        add(list, MC_M_STREAM, p, 1, 0);
        return;
    }
    add(list, MC_M_STREAM, p, 0, 0);
    for (uint16_t i = 0; i < shared->net_len; i++) {
        const struct mc_content *c = mc_content_get(shared->net[i]);
        struct hadb_owner from = mc_owner(c->proc, c->incarnation);
        if (c->info.kind == HADB_CORE_DATA && mc_owner_code(&from) == proc->stream &&
            c->info.slot > proc->core.view.slot) {
            add(list, MC_M_STREAM_ENTRY, p, (uint8_t)shared->net[i],
                (uint8_t)(shared->net[i] >> 8));
        }
    }
    for (uint8_t t = 0; t < MC_TERMS_MAX; t++) {
        if (shared->term_owner[t] != proc->stream) {
            continue;
        }
        for (uint8_t s = (uint8_t)(proc->core.view.slot + 1); s <= shared->term_mark[t]; s++) {
            add(list, MC_M_STREAM_MARK, p, s, t);
        }
    }
}

/* Is a process waiting for this very object to be created? */
static bool awaited(const struct mc_world *world, uint16_t content)
{
    for (uint8_t p = 0; p < mc_run.config->procs; p++) {
        for (uint8_t o = HADB_OP_NONE + 1; o < HADB_OP_END; o++) {
            const struct mc_op *op = &world->proc[p].ops[o];
            if (op->wait == HADB_ACT_CREATE + 1 && op->what == content) {
                return true;
            }
        }
    }
    return false;
}

static void list_store(const struct mc_world *world, struct list *list)
{
    const struct mc_shared *shared = &world->shared;
    for (uint16_t i = 0; i < shared->net_len; i++) {
        uint16_t id = shared->net[i];
        const struct mc_content *c = mc_content_get(id);
        uint16_t there = shared->store[c->info.term][c->info.slot];
        if (there != 0) {
            if (shared->overwrites > 0 && there != id) {
                add(list, MC_M_LAND, (uint8_t)id, (uint8_t)(id >> 8), 2);
            }
            continue;
        }
        add(list, MC_M_LAND, (uint8_t)id, (uint8_t)(id >> 8), 0);
        if (shared->lost > 0 && awaited(world, id)) {
            add(list, MC_M_LAND, (uint8_t)id, (uint8_t)(id >> 8), 1);
        }
    }
    for (uint8_t i = 0; i < shared->cas_len; i++) {
        add(list, MC_M_LAND_CAS, i, 0, 0);
    }
    for (uint8_t t = 0; t < MC_TERMS_MAX && shared->delete_upto != 0; t++) {
        for (uint8_t s = 1; s <= shared->delete_upto; s++) {
            if (may_delete(shared, t, s)) {
                add(list, MC_M_DELETE, t, s, 0);
            }
        }
    }
}

size_t mc_moves(const struct mc_world *world, struct mc_move *moves)
{
    struct list list = {.moves = moves};
    list_store(world, &list);
    for (uint8_t p = 0; p < mc_run.config->procs; p++) {
        list_ops(world, p, &list);
        if (world->proc[p].core.role == HADB_CORE_HALTED) {
            continue;
        }
        list_timers(world, p, &list);
        list_clients(world, p, &list);
        list_stream(world, p, &list);
        list_crashes(world, p, &list);
        list_clones(world, p, &list);
    }
    return list.len;
}

/* ---- making ---- */

static enum mc_outcome step(struct mc_world *world, uint8_t p, enum hadb_event_type type)
{
    struct hadb_event ev;
    memset(&ev, 0, sizeof ev);
    ev.type = type;
    return mc_step(world, p, &ev);
}

static void fill_entry(struct hadb_event *ev, uint16_t content)
{
    ev->type = HADB_EV_ENTRY;
    if (content == 0) {
        ev->result = HADB_R_ABSENT;
        return;
    }
    ev->entry = mc_info(content);
    ev->handle = content;
}

static void fill_ready(const struct mc_world *world, const struct mc_op *op, struct hadb_event *ev)
{
    const struct mc_proc *target = &world->proc[op->owner - 1];
    ev->type = HADB_EV_READY;
    ev->owner = target->core.self;
    ev->pos = target->core.view;
}

static enum mc_outcome reply(struct mc_world *world, struct mc_move move)
{
    struct mc_proc *proc = &world->proc[move.a];
    struct mc_op op = proc->ops[move.b];
    bool old = move.kind == MC_M_REPLY_OLD;
    struct hadb_event ev;
    memset(&ev, 0, sizeof ev);
    ev.op = (enum hadb_core_op)move.b;
    switch ((int)op.wait - 1) {
    case HADB_ACT_GET:
        fill_entry(&ev, old ? op.what : stored(&world->shared, &op));
        break;
    case HADB_ACT_GET_MANIFEST: {
        uint16_t id = old ? op.what : world->shared.manifest;
        ev.type = HADB_EV_MANIFEST;
        ev.manifest = mc_manifest_get(id)->info;
        if (move.b == HADB_OP_SNAP) {
            proc->snap_manifest = id;
        }
        break;
    }
    case HADB_ACT_CREATE:
        ev.type = HADB_EV_CREATED;
        ev.result = op.reply == MC_REPLY_OK ? HADB_R_OK : HADB_R_EXISTS;
        break;
    case HADB_ACT_CAS_MANIFEST:
        ev.type = HADB_EV_CAS;
        ev.result = op.reply == MC_REPLY_OK ? HADB_R_OK : HADB_R_LOST;
        break;
    case HADB_ACT_DELETE:
        ev.type = HADB_EV_DELETED;
        break;
    case HADB_ACT_ASK_READY:
        fill_ready(world, &op, &ev);
        break;
    default:
        HADB_ASSERT(!"an action on the network");
    }
    memset(&proc->ops[move.b], 0, sizeof op);
    return mc_step(world, move.a, &ev);
}

static enum mc_outcome lose(struct mc_world *world, struct mc_move move)
{
    static const enum hadb_event_type answers[] = {
        [HADB_ACT_GET] = HADB_EV_ENTRY,      [HADB_ACT_GET_MANIFEST] = HADB_EV_MANIFEST,
        [HADB_ACT_CREATE] = HADB_EV_CREATED, [HADB_ACT_CAS_MANIFEST] = HADB_EV_CAS,
        [HADB_ACT_DELETE] = HADB_EV_DELETED, [HADB_ACT_ASK_READY] = HADB_EV_READY,
    };
    struct mc_op *op = &world->proc[move.a].ops[move.b];
    struct hadb_event ev;
    memset(&ev, 0, sizeof ev);
    ev.op = (enum hadb_core_op)move.b;
    ev.type = answers[op->wait - 1];
    ev.result = op->wait == HADB_ACT_ASK_READY + 1 ? HADB_R_FAILED : HADB_R_UNKNOWN;
    world->shared.lost--;
    mc_run.dirty |= MC_DIRTY_SHARED;
    memset(op, 0, sizeof *op);
    return mc_step(world, move.a, &ev);
}

static void land(struct mc_world *world, struct mc_move move)
{
    struct mc_shared *shared = &world->shared;
    uint16_t id = (uint16_t)(move.a | move.b << 8);
    const struct mc_content *c = mc_content_get(id);
    shared->store[c->info.term][c->info.slot] = id;
    mc_run.dirty |= MC_DIRTY_SHARED;
    if (move.c == 2) {
        shared->overwrites--;
    }
    if (move.c == 1) {
        shared->lost--;
        return; /* an older copy came first: the request that is waited for will find it there */
    }
    for (uint8_t p = 0; p < mc_run.config->procs; p++) { /* several only among clones */
        for (uint8_t o = HADB_OP_NONE + 1; o < HADB_OP_END; o++) {
            struct mc_op *op = &world->proc[p].ops[o];
            if (op->wait == HADB_ACT_CREATE + 1 && op->what == id) {
                op->reply = MC_REPLY_OK;
                mc_run.dirty |= 1u << p;
            }
        }
    }
}

/* Writes of the manifest that can never land any more are forgotten. */
static void prune_cas(struct mc_shared *shared)
{
    uint8_t len = 0;
    for (uint8_t i = 0; i < shared->cas_len; i++) {
        if (shared->cas[i].expect == shared->manifest) {
            shared->cas[len++] = shared->cas[i];
        }
    }
    memset(&shared->cas[len], 0, sizeof shared->cas[0] * (size_t)(shared->cas_len - len));
    shared->cas_len = len;
}

static enum mc_outcome land_cas(struct mc_world *world, uint8_t index)
{
    struct mc_shared *shared = &world->shared;
    struct mc_cas cas = shared->cas[index];
    struct mc_txs before;
    struct mc_txs after;
    mc_history(shared, &before);
    uint64_t old = mc_manifest_get(shared->manifest)->info.boundary_slot;
    uint64_t new = mc_manifest_get(cas.next)->info.boundary_slot;
    shared->manifest = cas.next;
    prune_cas(shared);
    mc_run.dirty |= MC_DIRTY_SHARED;
    for (uint8_t p = 0; p < mc_run.config->procs; p++) {
        struct mc_op *op = &world->proc[p].ops[HADB_OP_SNAP];
        if (op->wait == HADB_ACT_CAS_MANIFEST + 1 && op->what == cas.next &&
            op->txs == cas.expect) {
            op->reply = MC_REPLY_OK;
            mc_run.dirty |= 1u << p;
        }
    }
    mc_history(shared, &after);
    if (new < old) {
        mc_violate("I5: the boundary went backwards");
    } else if (memcmp(&before, &after, sizeof before) != 0) {
        mc_violate("I5: the new boundary's snapshot is not a prefix of the history");
    }
    return mc_run.violation[0] == '\0' ? MC_DONE : MC_VIOLATION;
}

static enum mc_outcome delete(struct mc_world *world, struct mc_move move) {
    struct mc_shared *shared = &world->shared; uint16_t *place = &shared->store[move.a][move.b];
    bool seal = mc_content_get(*place)->info.kind == HADB_CORE_SEAL;
    uint64_t boundary = mc_manifest_get(shared->manifest)->info.boundary_slot;
    if (seal && (mc_run.rules & HADB_RULE_KEEP_SEALS)){mc_violate("I5: a seal was deleted");}
if (move.b > boundary && (mc_run.rules & HADB_RULE_DELETE_LAST) &&
    (mc_run.rules & HADB_RULE_CAS_REREAD))
{
    mc_violate("I5: a slot above the boundary was deleted");
}
*place = 0;
mc_run.dirty |= MC_DIRTY_SHARED;
return mc_run.violation[0] == '\0' ? MC_DONE : MC_VIOLATION;
}

static enum mc_outcome write(struct mc_world *world, uint8_t p)
{
    struct mc_proc *proc = &world->proc[p];
    struct hadb_event ev;
    memset(&ev, 0, sizeof ev);
    proc->tx[proc->txs_len] = ++world->shared.writes;
    proc->waiting |= (uint16_t)(1u << proc->txs_len);
    proc->txs_len++;
    proc->tail_term = proc->gate_term;
    mc_run.dirty |= MC_DIRTY_SHARED;
    ev.type = HADB_EV_COMMITTED;
    ev.txid = proc->txs_len;
    return mc_step(world, p, &ev);
}

static enum mc_outcome crash(struct mc_world *world, struct mc_move move)
{
    struct mc_proc *proc = &world->proc[move.a];
    struct mc_shared *shared = &world->shared;
    uint64_t keep = move.b == LOST_DISK ? 0 : proc->mark.txid + move.b;
    if (move.b == LOST_DISK) {
        shared->disk_losses--;
        memset(&proc->mark, 0, sizeof proc->mark);
        memset(&proc->owner, 0, sizeof proc->owner);
    }
    for (uint64_t i = keep; i < proc->txs_len; i++) {
        proc->tx[i] = 0;
    }
    proc->txs_len = (uint8_t)keep;
    if (proc->txs_len <= proc->mark.txid) {
        proc->tail_term = 0;
    }
    proc->incarnation++;
    shared->crashes--;
    mc_run.dirty |= MC_DIRTY_SHARED;
    struct hadb_event start;
    mc_proc_start(world, move.a, &start);
    return mc_step(world, move.a, &start);
}

static enum mc_outcome hand_off(struct mc_world *world, struct mc_move move)
{
    struct hadb_event ev;
    memset(&ev, 0, sizeof ev);
    ev.type = HADB_EV_HANDOFF;
    if (move.b == 255) {
        world->shared.resigns--;
    } else {
        world->shared.handoffs--;
        ev.owner.node = mc_owner(move.b, 0).node;
    }
    mc_run.dirty |= MC_DIRTY_SHARED;
    return mc_step(world, move.a, &ev);
}

static enum mc_outcome stream(struct mc_world *world, struct mc_move move)
{
    struct mc_proc *proc = &world->proc[move.a];
    struct hadb_event ev;
    memset(&ev, 0, sizeof ev);
    world->shared.streams--;
    mc_run.dirty |= MC_DIRTY_SHARED;
    switch (move.kind) {
    case MC_M_STREAM:
        ev.type = HADB_EV_STREAM;
        ev.owner = proc->core.owner;
        if (move.b == 0) {
            ev.result = HADB_R_FAILED;
            ev.owner =
                mc_owner((uint8_t)((proc->stream - 1) / 16), (uint8_t)((proc->stream - 1) % 16));
        }
        proc->stream = move.b ? mc_owner_code(&ev.owner) : 0;
        break;
    case MC_M_STREAM_ENTRY:
        fill_entry(&ev, (uint16_t)(move.b | move.c << 8));
        ev.type = HADB_EV_STREAM_ENTRY;
        break;
    default:
        ev.type = HADB_EV_STREAM_MARK;
        ev.term = move.c;
        ev.slot = move.b;
        break;
    }
    if (move.kind != MC_M_STREAM) {
        ev.owner = mc_owner((uint8_t)((proc->stream - 1) / 16), (uint8_t)((proc->stream - 1) % 16));
    }
    return mc_step(world, move.a, &ev);
}

static enum mc_outcome suspect(struct mc_world *world, struct mc_move move)
{
    struct hadb_event ev;
    memset(&ev, 0, sizeof ev);
    ev.type = HADB_EV_OWNER;
    ev.liveness = (enum hadb_liveness)move.b;
    ev.owner = world->proc[move.a].core.owner;
    if (!mc_run.healing) {
        world->shared.suspects--;
        mc_run.dirty |= MC_DIRTY_SHARED;
    }
    return mc_step(world, move.a, &ev);
}

enum mc_outcome mc_apply(struct mc_world *world, struct mc_move move)
{
    struct mc_shared *shared = &world->shared;
    switch ((enum mc_move_kind)move.kind) {
    case MC_M_REPLY:
    case MC_M_REPLY_OLD:
        return reply(world, move);
    case MC_M_LOSE:
        return lose(world, move);
    case MC_M_ANSWER:
    case MC_M_ANSWER_NO:
        return mc_answer(world, move.a, move.b, move.kind == MC_M_ANSWER);
    case MC_M_LAND:
        land(world, move);
        return MC_DONE;
    case MC_M_LAND_CAS:
        return land_cas(world, move.a);
    case MC_M_DELETE:
        return delete (world, move);
    case MC_M_TICK:
        return step(world, move.a, HADB_EV_TICK);
    case MC_M_POKE:
        if (hadb_core_leads(&world->proc[move.a].core) && !mc_run.healing) {
            shared->reads--;
            mc_run.dirty |= MC_DIRTY_SHARED;
        }
        return step(world, move.a, HADB_EV_POKE);
    case MC_M_SUSPECT:
        return suspect(world, move);
    case MC_M_WRITE:
        return write(world, move.a);
    case MC_M_READ:
        shared->reads--;
        mc_run.dirty |= MC_DIRTY_SHARED;
        return step(world, move.a, HADB_EV_READ);
    case MC_M_CRASH:
        return crash(world, move);
    case MC_M_HANDOFF:
        return hand_off(world, move);
    case MC_M_SNAPSHOT:
        shared->snapshots--;
        mc_run.dirty |= MC_DIRTY_SHARED;
        return step(world, move.a, HADB_EV_SNAPSHOT);
    case MC_M_STREAM:
    case MC_M_STREAM_ENTRY:
    case MC_M_STREAM_MARK:
        return stream(world, move);
    case MC_M_CLONE:
        shared->clones--;
        world->proc[move.b] = world->proc[move.a];
        mc_run.dirty |= MC_DIRTY_SHARED | 1u << move.b;
        return MC_DONE;
    }
    HADB_ASSERT(!"a known move");
    return MC_DONE;
}
