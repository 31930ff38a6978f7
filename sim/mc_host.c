/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model checker: the host of one process's machine.
 *
 * Owns       a toy engine (list of transactions, durable mark), the table of unanswered actions, and
 *            the ghost state that acknowledgements, refusals and reads leave behind.
 * Invariant  carries out actions in order and adds no decision of its own, as node/ does.
 * Happy path event -> hadb_core_step -> actions: storage requests wait for a move of the network
 *            (mc_world.c); local work is answered at once, or by a move of its own (config.lazy).
 * Failure    what no host may be asked for (a second action on a busy op, a gap in the engine) is a
 *            violation of the machine.
 */
#include "base/util.h"
#include "sim/mc.h"

#include <inttypes.h>
#include <string.h>

#define STEPS_MAX 64 /* local answers that one move may cause, at most */

struct hadb_owner mc_owner(uint8_t proc, uint8_t incarnation)
{
    struct hadb_owner owner;
    memset(&owner, 0, sizeof owner);
    owner.node.b[0] = (uint8_t)(proc + 1);
    owner.incarnation.b[8] = (uint8_t)(proc + 1); /* bytes 0 to 7 count in nonces of the manifest */
    owner.incarnation.b[15] = (uint8_t)(incarnation + 1);
    return owner;
}

uint8_t mc_owner_code(const struct hadb_owner *owner)
{
    if (owner->incarnation.b[8] == 0) {
        return 0;
    }
    return (uint8_t)((owner->incarnation.b[8] - 1) * 16 + owner->incarnation.b[15]);
}

struct hadb_entry_info mc_info(uint16_t content)
{
    struct hadb_entry_info info;
    memcpy(&info, &mc_content_get(content)->info, sizeof info);
    info.hash.b[0] = (uint8_t)content;
    info.hash.b[1] = (uint8_t)(content >> 8);
    info.hash.b[31] = 1;
    return info;
}

/* ---- engine ---- */

static void forget(struct mc_proc *proc, uint8_t len)
{
    for (uint8_t i = len; i < proc->txs_len; i++) {
        proc->tx[i] = 0;
    }
    proc->txs_len = HADB_MIN(proc->txs_len, len);
    proc->waiting &= (uint16_t)((1u << proc->txs_len) - 1);
    if (proc->txs_len <= proc->mark.txid) {
        proc->tail_term = 0;
    }
}

/* Applies a DATA entry; false if the local tail differs from it. */
static bool engine_apply(struct mc_proc *proc, const struct mc_content *content)
{
    const struct mc_txs *txs = mc_txs_get(content->txs);
    uint64_t first = content->info.last_txid - txs->len + 1;
    if (first > (uint64_t)proc->txs_len + 1) {
        mc_violate("I8: an entry was applied over a gap");
        return true;
    }
    for (uint64_t i = 0; i < txs->len && first + i <= proc->txs_len; i++) {
        if (proc->tx[first + i - 1] != txs->id[i]) {
            return false;
        }
    }
    for (uint64_t i = 0; i < txs->len; i++) {
        if (first + i > proc->txs_len) {
            HADB_ASSERT(proc->txs_len < MC_TXS_MAX);
            proc->tx[proc->txs_len++] = txs->id[i];
        }
    }
    return true;
}

static uint16_t engine_view(const struct mc_proc *proc, uint64_t len)
{
    struct mc_txs txs;
    memset(&txs, 0, sizeof txs);
    txs.len = (uint8_t)HADB_MIN(len, proc->txs_len);
    memcpy(txs.id, proc->tx, txs.len);
    return mc_txs_put(&txs);
}

/* ---- framing ---- */

static bool was_sent(const struct mc_shared *shared, uint16_t content)
{
    for (uint16_t i = 0; i < shared->net_len; i++) {
        if (shared->net[i] == content) {
            return true;
        }
    }
    return false;
}

/* Numbers the content; an entry framed again after it was sent has another put id (4.1). */
static uint16_t number(const struct mc_shared *shared, struct mc_content *content)
{
    uint16_t id = mc_content_put(content);
    while (was_sent(shared, id) && content->copy < 4) {
        content->copy++;
        id = mc_content_put(content);
    }
    return id;
}

static uint16_t frame(struct mc_world *world, uint8_t p, const struct mc_op *op,
                      const struct hadb_action *action)
{
    struct mc_proc *proc = &world->proc[p];
    struct mc_content content;
    memset(&content, 0, sizeof content);
    content.proc =
        (uint8_t)(proc->core.self.incarnation.b[8] - 1); /* a clone writes as its model */
    content.incarnation = proc->incarnation;
    content.info.term = action->term;
    content.info.slot = action->slot;
    content.info.prev = action->prev;
    if (op->wait == HADB_ACT_FRAME_SEAL + 1) {
        content.info.kind = HADB_CORE_SEAL;
        content.info.reason = action->reason;
        content.info.last_txid = action->txid;
        content.info.next = action->owner;
    } else {
        struct mc_txs txs;
        memset(&txs, 0, sizeof txs);
        uint64_t after = action->txid;
        while (after + txs.len < proc->txs_len && (mc_run.config->batch || txs.len == 0)) {
            txs.id[txs.len] = proc->tx[after + txs.len];
            txs.len++;
        }
        if (txs.len == 0) {
            return 0;
        }
        content.info.kind = HADB_CORE_DATA;
        content.info.last_txid = after + txs.len;
        content.txs = mc_txs_put(&txs);
    }
    return number(&world->shared, &content);
}

/* ---- answers of local work ---- */

static void answer_framed(struct mc_proc *proc, const struct mc_op *op, struct hadb_event *ev)
{
    ev->type = HADB_EV_FRAMED;
    if (op->wait == HADB_ACT_VIEW + 1) {
        ev->view = engine_view(proc, proc->txs_len);
        ev->pos = proc->mark;
        ev->txid = proc->txs_len;
        return;
    }
    if (op->what == 0) {
        ev->result = HADB_R_FAILED;
        return;
    }
    ev->entry = mc_info(op->what);
    ev->handle = op->what;
    if (op->flag && ev->entry.kind == HADB_CORE_DATA) {
        ev->view = engine_view(proc, ev->entry.last_txid);
        ev->pos.txid = ev->entry.last_txid;
        ev->txid = ev->entry.last_txid;
    }
}

static void answer_apply(struct mc_proc *proc, const struct mc_op *op, struct hadb_event *ev)
{
    const struct mc_content *content = mc_content_get(op->what);
    ev->type = HADB_EV_APPLIED;
    if (memcmp(&content->info.prev, &proc->mark.hash, sizeof proc->mark.hash) != 0) {
        mc_violate("I6: an entry was applied that does not link to the one before");
    }
    if (content->info.kind == HADB_CORE_SEAL) {
        if (proc->txs_len > proc->mark.txid &&
            memcmp(&content->info.next.node, &proc->core.self.node, sizeof proc->core.self.node)) {
            mc_violate("4.3.6: another's seal ended the term, and the tail stays in the database");
        }
        proc->owner = content->info.next;
    } else if (!engine_apply(proc, content)) {
        ev->result = HADB_R_DIVERGED;
        return;
    }
    proc->mark = op->pos;
    if (proc->txs_len <= proc->mark.txid) {
        proc->tail_term = 0;
    }
}

static void answer_rewind(struct mc_world *world, struct mc_proc *proc, const struct mc_op *op,
                          struct hadb_event *ev)
{
    ev->type = HADB_EV_REWOUND;
    for (uint8_t i = 0; i < proc->txs_len; i++) {
        if (!(proc->waiting >> i & 1)) {
            continue;
        }
        if (mc_run.config->suspects + mc_run.config->crashes + mc_run.config->lost == 0) {
            mc_violate("4.10: w%d is lost although nothing failed", proc->tx[i]);
        }
        if (op->flag) {
            world->shared.refused |= 1u << (proc->tx[i] - 1);
            mc_run.dirty |= MC_DIRTY_SHARED;
            mc_trace("client of w%d is told: surely not committed", proc->tx[i]);
        }
    }
    proc->waiting = 0;
    if (op->pos.txid < proc->mark.txid) {
        mc_violate("I8: a rewind goes below the durable mark");
    }
    forget(proc, (uint8_t)op->pos.txid);
}

static void answer_restore(struct mc_world *world, struct mc_proc *proc, struct hadb_event *ev)
{
    ev->type = HADB_EV_RESTORED;
    const struct mc_manifest *manifest = mc_manifest_get(world->shared.manifest);
    if (manifest->snapshot == 0) {
        ev->result = HADB_R_ABSENT;
        return;
    }
    const struct mc_snapshot *snapshot = mc_snapshot_get(manifest->snapshot);
    const struct mc_txs *txs = mc_txs_get(snapshot->txs);
    forget(proc, 0);
    memcpy(proc->tx, txs->id, txs->len);
    proc->txs_len = txs->len;
    proc->mark = snapshot->pos;
    proc->owner = snapshot->owner;
    proc->tail_term = 0;
    proc->waiting = 0;
    ev->pos = snapshot->pos;
    ev->owner = snapshot->owner;
}

/* Who owns the term at @pos: the seal that begins it says so, or the writer of the entry in it. */
static struct hadb_owner owner_at(const struct hadb_pos *pos)
{
    uint16_t id = (uint16_t)(pos->hash.b[0] | pos->hash.b[1] << 8);
    if (id == 0) {
        return (struct hadb_owner){0};
    }
    const struct mc_content *content = mc_content_get(id);
    return content->info.kind == HADB_CORE_SEAL ? content->info.next
                                                : mc_owner(content->proc, content->incarnation);
}

static void answer_upload(const struct mc_op *op, struct hadb_event *ev)
{
    struct mc_snapshot snapshot;
    memset(&snapshot, 0, sizeof snapshot);
    snapshot.pos = op->pos;
    snapshot.owner = owner_at(&op->pos);
    snapshot.txs = op->txs;
    ev->type = HADB_EV_UPLOADED;
    ev->handle = mc_snapshot_put(&snapshot);
}

/* The listing behind a missing object. Of what lies in the same window it tells nothing (durable_slot 0). */
static void answer_survey(const struct mc_world *world, const struct mc_op *op,
                          struct hadb_event *ev)
{
    const struct mc_shared *shared = &world->shared;
    ev->type = HADB_EV_SURVEYED;
    for (uint8_t term = op->term; term < MC_TERMS_MAX; term++) {
        uint8_t from = term == op->term ? (uint8_t)(op->slot + 1) : op->slot;
        for (uint8_t slot = from; slot < MC_SLOTS_MAX; slot++) {
            if (shared->store[term][slot] != 0) {
                ev->entry.term = term;
                ev->entry.slot = slot;
                bool is_seal =
                    mc_content_get(shared->store[term][slot])->info.kind == HADB_CORE_SEAL;
                ev->entry.kind = is_seal ? HADB_CORE_SEAL : ev->entry.kind;
            }
        }
    }
    if (op->pos.slot != 0) {
        uint16_t own = shared->store[op->pos.term][op->pos.slot];
        ev->own = own != 0 ? HADB_R_OK : HADB_R_ABSENT;
        ev->entry.prev = own != 0 ? mc_info(own).hash : (struct hadb_hash){{0}};
    }
}

bool mc_is_local(uint8_t wait)
{
    switch ((int)wait - 1) {
    case HADB_ACT_SURVEY:
    case HADB_ACT_FRAME_DATA:
    case HADB_ACT_FRAME_SEAL:
    case HADB_ACT_APPLY:
    case HADB_ACT_REWIND:
    case HADB_ACT_RESTORE:
    case HADB_ACT_GATE:
    case HADB_ACT_VIEW:
    case HADB_ACT_UPLOAD:
        return true;
    default:
        return false;
    }
}

enum mc_outcome mc_answer(struct mc_world *world, uint8_t p, uint8_t o, bool yes)
{
    struct mc_proc *proc = &world->proc[p];
    struct mc_op op = proc->ops[o];
    struct hadb_event ev;
    memset(&ev, 0, sizeof ev);
    ev.op = (enum hadb_core_op)o;
    memset(&proc->ops[o], 0, sizeof proc->ops[o]);
    switch ((int)op.wait - 1) {
    case HADB_ACT_FRAME_DATA:
    case HADB_ACT_FRAME_SEAL:
    case HADB_ACT_VIEW:
        answer_framed(proc, &op, &ev);
        break;
    case HADB_ACT_APPLY:
        answer_apply(proc, &op, &ev);
        break;
    case HADB_ACT_REWIND:
        answer_rewind(world, proc, &op, &ev);
        break;
    case HADB_ACT_RESTORE:
        answer_restore(world, proc, &ev);
        break;
    case HADB_ACT_UPLOAD:
        answer_upload(&op, &ev);
        break;
    case HADB_ACT_SURVEY:
        answer_survey(world, &op, &ev);
        break;
    case HADB_ACT_GATE:
        ev.type = HADB_EV_GATED;
        ev.txid = proc->txs_len;
        proc->gate = HADB_GATE_CLOSED;
        break;
    default:
        HADB_ASSERT(!"a local action");
    }
    if (!yes) {
        ev.result = HADB_R_FAILED;
    }
    return mc_step(world, p, &ev);
}

/* ---- carrying out actions ---- */

static void acknowledge(struct mc_world *world, uint8_t p, const struct hadb_pos *pos)
{
    struct mc_proc *proc = &world->proc[p];
    struct mc_shared *shared = &world->shared;
    for (uint8_t i = 0; i < proc->txs_len && i < pos->txid; i++) {
        if (!(proc->waiting >> i & 1)) {
            continue;
        }
        proc->waiting &= (uint16_t) ~(1u << i);
        mc_run.dirty |= MC_DIRTY_SHARED;
        mc_trace("client of w%d is told: durable, as transaction %d", proc->tx[i], i + 1);
        if (shared->acked[i] != 0 && shared->acked[i] != proc->tx[i]) {
            mc_violate("I4: transaction %d was acknowledged as w%d and as w%d", i + 1,
                       shared->acked[i], proc->tx[i]);
        }
        shared->acked[i] = proc->tx[i];
        shared->acked_len = (uint8_t)HADB_MAX(shared->acked_len, i + 1);
    }
}

static void act_durable(struct mc_world *world, uint8_t p, const struct hadb_action *action)
{
    struct mc_proc *proc = &world->proc[p];
    if (!action->flag) {
        proc->mark = action->pos;
        uint64_t term = action->pos.term;
        if (term < MC_TERMS_MAX && world->shared.term_mark[term] < action->pos.slot) {
            world->shared.term_mark[term] = (uint8_t)action->pos.slot;
            mc_run.dirty |= MC_DIRTY_SHARED;
        }
    }
    acknowledge(world, p, &action->pos);
    if (proc->txs_len <= proc->mark.txid) {
        proc->tail_term = 0;
    }
}

static void act_gate(struct mc_world *world, uint8_t p, const struct hadb_action *action)
{
    struct mc_proc *proc = &world->proc[p];
    if (action->gate != HADB_GATE_OPEN) {
        if (mc_run.config->lazy) {
            proc->gate = HADB_GATE_DRAIN; /* commits that are under way may still come */
        } else {
            proc->gate = HADB_GATE_CLOSED;
        }
        return;
    }
    proc->gate = HADB_GATE_OPEN;
    proc->gate_term = (uint8_t)action->term;
    uint8_t code = mc_owner_code(&proc->core.self);
    uint8_t *owner = &world->shared.term_owner[action->term % MC_TERMS_MAX];
    if (*owner != 0 && *owner != code) {
        mc_violate("I2: two processes opened their gate for term %" PRIu64, action->term);
    }
    *owner = code;
    mc_run.dirty |= MC_DIRTY_SHARED;
}

/*
 * A read is answered. It ran on the oldest state that READ_OK permits, which is durable; without rule
 * REPLY_DURABLE, which is the host's to keep, it ran on the newest one and did not wait.
 */
static void show(struct mc_world *world, uint8_t p, uint64_t txid, uint8_t need)
{
    struct mc_proc *proc = &world->proc[p];
    struct mc_shared *shared = &world->shared;
    if (!(mc_run.rules & HADB_RULE_REPLY_DURABLE)) {
        txid = proc->txs_len;
    } else if (txid > proc->txs_len || txid > proc->mark.txid) {
        mc_violate("I7: a linearizable read was allowed on a state that is not durable here");
        return;
    }
    mc_trace("a linearizable read returns the state of transaction %" PRIu64, txid);
    if (txid < need) {
        mc_violate("I7: a linearizable read returned transaction %" PRIu64
                   ", but %d was acknowledged or read before it began",
                   txid, need);
    }
    for (uint8_t i = 0; i < txid; i++) {
        if (shared->shown[i] != 0 && shared->shown[i] != proc->tx[i]) {
            mc_violate("I7: two reads saw different writes as transaction %d", i + 1);
        }
        shared->shown[i] = proc->tx[i];
    }
    shared->shown_len = (uint8_t)HADB_MAX(shared->shown_len, txid);
    mc_run.dirty |= MC_DIRTY_SHARED;
}

static void act_read_ok(struct mc_world *world, uint8_t p, const struct hadb_action *action)
{
    struct mc_proc *proc = &world->proc[p];
    for (size_t i = 0; i < MC_READS_MAX; i++) {
        struct mc_read *read = &proc->reads[i];
        if (read->round == 0 || read->round > action->round) {
            continue;
        }
        show(world, p, action->txid, read->need);
        memset(read, 0, sizeof *read);
    }
}

static void act_read_fail(struct mc_proc *proc)
{
    memset(proc->reads, 0, sizeof proc->reads);
}

static void act_read_join(struct mc_world *world, uint8_t p, uint64_t round)
{
    struct mc_proc *proc = &world->proc[p];
    if (round == 0) {
        return;
    }
    for (size_t i = 0; i < MC_READS_MAX; i++) {
        if (proc->reads[i].round == 0) {
            proc->reads[i].round = (uint8_t)round;
            proc->reads[i].need = HADB_MAX(world->shared.acked_len, world->shared.shown_len);
            return;
        }
    }
    HADB_ASSERT(!"room for a read");
}

static void net_add(struct mc_shared *shared, uint16_t content)
{
    if (was_sent(shared, content)) {
        return;
    }
    HADB_ASSERT(shared->net_len < MC_NET_MAX);
    uint16_t at = shared->net_len++;
    for (; at > 0 && shared->net[at - 1] > content; at--) {
        shared->net[at] = shared->net[at - 1];
    }
    shared->net[at] = content;
    mc_run.dirty |= MC_DIRTY_SHARED;
}

static bool in_bounds(const struct hadb_action *action)
{
    const struct mc_config *config = mc_run.config;
    uint64_t terms = mc_run.healing ? MC_TERMS_MAX - 1 : config->terms;
    uint64_t slots = mc_run.healing ? MC_SLOTS_MAX - 1 : config->slots;
    const struct mc_content *content = mc_content_get((uint16_t)action->handle);
    if (content->info.kind == HADB_CORE_SEAL) {
        return action->term + 1 <= terms && action->slot <= slots + 1 &&
               action->slot < MC_SLOTS_MAX;
    }
    return action->term <= terms && action->slot <= slots;
}

static enum mc_outcome act_create(struct mc_world *world, const struct hadb_action *action,
                                  struct mc_op *op)
{
    if (!in_bounds(action)) {
        return MC_PRUNED;
    }
    op->what = (uint16_t)action->handle;
    net_add(&world->shared, op->what);
    return MC_DONE;
}

/* Prepares the manifest that the write would leave. */
static void act_cas(struct mc_world *world, struct mc_proc *proc, const struct hadb_action *action,
                    struct mc_op *op)
{
    struct mc_shared *shared = &world->shared;
    const struct mc_manifest *old = mc_manifest_get(proc->snap_manifest);
    struct mc_manifest new;
    memset(&new, 0, sizeof new);
    new.info.version = old->info.version + 1;
    new.info.nonce = action->nonce;
    new.info.boundary_slot = action->slot;
    new.info.boundary_term = action->term;
    new.info.swept_slot = action->swept_slot;
    new.info.has_snapshot = action->handle != 0 || old->snapshot != 0;
    new.snapshot = action->handle != 0 ? (uint16_t)action->handle : old->snapshot;
    op->what = mc_manifest_put(&new);
    op->txs = proc->snap_manifest;
    struct mc_cas cas = {.expect = proc->snap_manifest, .next = op->what};
    if (cas.expect != shared->manifest) {
        return; /* versions only grow: it can never land */
    }
    for (uint8_t i = 0; i < shared->cas_len; i++) {
        if (memcmp(&shared->cas[i], &cas, sizeof cas) == 0) {
            return;
        }
    }
    HADB_ASSERT(shared->cas_len < MC_CAS_MAX);
    shared->cas[shared->cas_len++] = cas;
    mc_run.dirty |= MC_DIRTY_SHARED;
}

static void act_delete(struct mc_shared *shared, const struct hadb_action *action)
{
    shared->delete_upto = (uint8_t)HADB_MAX(shared->delete_upto, action->slot);
    shared->delete_seals |= action->flag;
    mc_run.dirty |= MC_DIRTY_SHARED;
}

/* An action that is answered later: remembers what was asked. */
static enum mc_outcome ask(struct mc_world *world, uint8_t p, const struct hadb_action *action)
{
    struct mc_proc *proc = &world->proc[p];
    struct mc_shared *shared = &world->shared;
    HADB_ASSERT(action->op > HADB_OP_NONE && action->op < HADB_OP_END);
    struct mc_op *op = &proc->ops[action->op];
    if (op->wait != 0) {
        mc_violate("the machine asked twice on op %d", action->op);
        return MC_VIOLATION;
    }
    op->wait = (uint8_t)(action->type + 1);
    op->flag = action->flag;
    op->term = (uint8_t)action->term;
    op->slot = (uint8_t)action->slot;
    op->pos = action->pos;
    switch (action->type) {
    case HADB_ACT_GET:
        if (action->term >= MC_TERMS_MAX || action->slot >= MC_SLOTS_MAX) {
            return MC_PRUNED;
        }
        op->what = shared->store[action->term][action->slot];
        break;
    case HADB_ACT_GET_MANIFEST:
        op->what = shared->manifest;
        break;
    case HADB_ACT_CREATE:
        return act_create(world, action, op);
    case HADB_ACT_FRAME_DATA:
    case HADB_ACT_FRAME_SEAL:
        op->what = frame(world, p, op, action);
        break;
    case HADB_ACT_APPLY:
        op->what = (uint16_t)action->handle;
        break;
    case HADB_ACT_UPLOAD:
        op->txs = (uint16_t)action->view;
        break;
    case HADB_ACT_CAS_MANIFEST:
        act_cas(world, proc, action, op);
        break;
    case HADB_ACT_DELETE:
        act_delete(shared, action);
        break;
    case HADB_ACT_ASK_READY:
        op->owner = (uint8_t)(action->owner.node.b[0]);
        break;
    default:
        break;
    }
    return MC_DONE;
}

static enum mc_outcome carry_out(struct mc_world *world, uint8_t p,
                                 const struct hadb_action *action)
{
    struct mc_proc *proc = &world->proc[p];
    if (mc_run.trace != NULL) {
        mc_trace_action(p, action);
    }
    switch (action->type) {
    case HADB_ACT_ROLE:
        if (action->role == HADB_CORE_HALTED && mc_run.config->overwrites == 0) {
            mc_violate("p%d halts on a sound store: %s", p, hadb_core_halt_name(action->halt));
        }
        break;
    case HADB_ACT_DURABLE:
        act_durable(world, p, action);
        break;
    case HADB_ACT_READ_JOIN:
        act_read_join(world, p, action->round);
        break;
    case HADB_ACT_READ_OK:
        act_read_ok(world, p, action);
        break;
    case HADB_ACT_READ_FAIL:
        act_read_fail(proc);
        break;
    case HADB_ACT_OWNER:
    case HADB_ACT_OWNER_SEEN:
    case HADB_ACT_RELEASE:
    case HADB_ACT_NOTIFY: /* a poke may come at any time anyway */
    case HADB_ACT_HANDOFF_DONE:
    case HADB_ACT_GIVE_UP:
        break;
    case HADB_ACT_GATE:
        act_gate(world, p, action);
        return action->gate == HADB_GATE_OPEN ? MC_DONE : ask(world, p, action);
    default:
        return ask(world, p, action);
    }
    return MC_DONE;
}

/* Dead bytes of the machine's state must not make two equal worlds look different. */
static void normalize(struct hadb_core *core)
{
    struct hadb_entry_info clean;
    memset(&clean, 0, sizeof clean);
    clean.kind = core->pending.kind;
    clean.reason = core->pending.reason;
    clean.term = core->pending.term;
    clean.slot = core->pending.slot;
    clean.last_txid = core->pending.last_txid;
    clean.prev = core->pending.prev;
    clean.hash = core->pending.hash;
    clean.next = core->pending.next;
    memcpy(&core->pending, &clean, sizeof clean);
    core->fresh_at_ms = core->get_sent_ms = 0; /* the clock stands still */
    core->next_absent = false; /* of patience only, which is nondeterministic here */
}

static enum mc_outcome one_step(struct mc_world *world, uint8_t p, const struct hadb_event *event)
{
    static struct hadb_actions actions;
    mc_run.dirty |= 1u << p;
    hadb_core_step(&world->proc[p].core, event, MC_NOW, &actions);
    enum mc_outcome outcome = MC_DONE;
    for (uint32_t i = 0; i < actions.len && outcome == MC_DONE; i++) {
        outcome = carry_out(world, p, &actions.items[i]);
        if (mc_run.violation[0] != '\0') {
            outcome = MC_VIOLATION;
        }
    }
    normalize(&world->proc[p].core);
    return outcome;
}

enum mc_outcome mc_step(struct mc_world *world, uint8_t p, const struct hadb_event *event)
{
    enum mc_outcome outcome = one_step(world, p, event);
    if (mc_run.config->lazy && !mc_run.healing) {
        return outcome;
    }
    struct mc_proc *proc = &world->proc[p];
    for (uint8_t o = HADB_OP_NONE + 1; outcome == MC_DONE && o < HADB_OP_END; o++) {
        if (mc_is_local(proc->ops[o].wait)) {
            return mc_answer(world, p, o, true); /* which looks again for more */
        }
    }
    return outcome;
}

void mc_proc_start(struct mc_world *world, uint8_t p, struct hadb_event *start)
{
    struct mc_proc *proc = &world->proc[p];
    struct hadb_owner self = mc_owner(p, proc->incarnation);
    memset(proc->ops, 0, sizeof proc->ops);
    memset(proc->reads, 0, sizeof proc->reads);
    proc->waiting = 0;
    proc->snap_manifest = 0;
    proc->gate = HADB_GATE_CLOSED;
    proc->gate_term = 0;
    proc->stream = 0;
    hadb_core_init(&proc->core, &mc_run.core, &self, 1);
    memset(start, 0, sizeof *start);
    start->type = HADB_EV_START;
    start->pos = proc->mark;
    uint16_t last = (uint16_t)(proc->mark.hash.b[0] | proc->mark.hash.b[1] << 8);
    start->term = last != 0 ? mc_content_get(last)->info.term : 0;
    start->slot = last != 0 ? mc_content_get(last)->info.slot : 0;
    start->owner = proc->owner;
    start->last_txid = proc->txs_len;
    start->last_term = proc->tail_term;
}
