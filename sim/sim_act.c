/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulator: what a machine asks for, and how it is answered. Storage requests go to sim_store.c; local
 * work takes a little time and is done when it is answered, so that a crash in between loses it.
 *
 * Thread: one. Invariant: one unanswered action per op; a second one is a violation.
 */
#include "base/util.h"
#include "sim/sim_private.h"

#include <inttypes.h>
#include <string.h>

#define STEP_PER_MILLE 50u /* of the drawn rate: each one ends a process */
#define BATCH_MAX 8u       /* transactions of one entry, at most; drawn anew for each */

void sim_answer_later(struct sim *s, uint8_t n, enum hadb_core_op op, enum hadb_result result,
                      uint32_t a, uint64_t delay_us)
{
    sim_push(s, delay_us,
             &(struct sim_event){.kind = SIM_EV_ANSWER,
                                 .node = n,
                                 .op = (uint8_t)op,
                                 .life = s->node[n].life,
                                 .result = result,
                                 .a = a});
}

/* ---- framing ---- */

static uint32_t frame(struct sim *s, uint8_t n, const struct sim_op *op,
                      const struct hadb_action *action)
{
    struct sim_engine *e = &s->node[n].engine;
    struct hadb_entry_info info;
    memset(&info, 0, sizeof info);
    info.term = op->term;
    info.slot = op->slot;
    info.prev = op->prev;
    if (op->type == HADB_ACT_FRAME_SEAL) {
        info.kind = HADB_CORE_SEAL;
        info.reason = action->reason;
        info.last_txid = action->txid;
        info.next = action->owner;
        return sim_entry_new(s, &info, (struct sim_list){0});
    }
    if (action->txid >= e->len) {
        sim_fail(s, "n%d frames an entry of nothing", n);
        return 0;
    }
    uint64_t most = 1 + sim_below(s, BATCH_MAX);
    uint32_t len = (uint32_t)HADB_MIN(e->len - action->txid, most);
    info.kind = HADB_CORE_DATA;
    info.last_txid = action->txid + len;
    uint32_t id = sim_entry_new(s, &info, sim_list_new(s, e->txs + action->txid, len));
    s->entries[id].durable_slot = action->durable_slot;
    return id;
}

/* ---- answering local work ---- */

static void answer_framed(struct sim *s, uint8_t n, const struct sim_op *op, struct hadb_event *ev)
{
    struct sim_engine *e = &s->node[n].engine;
    ev->type = HADB_EV_FRAMED;
    if (op->type == HADB_ACT_VIEW) {
        ev->view = sim_handle_new(s, n, SIM_H_VIEW, 0, sim_list_new(s, e->txs, e->len));
        ev->pos = e->mark;
        ev->txid = e->len;
        return;
    }
    ev->entry = s->entries[op->id].info;
    ev->handle = sim_handle_new(s, n, SIM_H_ENTRY, op->id, (struct sim_list){0});
    bool view = op->flag && ev->entry.kind == HADB_CORE_DATA && ev->entry.last_txid <= e->len;
    if (view) {
        ev->txid = ev->pos.txid = ev->entry.last_txid;
        ev->view = sim_handle_new(s, n, SIM_H_VIEW, 0,
                                  sim_list_new(s, e->txs, (uint32_t)ev->entry.last_txid));
    }
}

static void answer_apply(struct sim *s, uint8_t n, const struct sim_op *op, struct hadb_event *ev)
{
    struct sim_engine *e = &s->node[n].engine;
    const struct hadb_entry_info *info = &s->entries[op->id].info;
    ev->type = HADB_EV_APPLIED;
    if (memcmp(&info->prev, &e->mark.hash, sizeof info->prev) != 0) {
        sim_fail(s, "I6: n%d applied an entry that does not link to the one before", n);
    }
    bool foreign =
        memcmp(&info->next.node, &s->node[n].core.self.node, sizeof info->next.node) != 0;
    if (info->kind == HADB_CORE_SEAL && foreign && e->len > e->mark.txid) {
        sim_fail(s, "4.3.6: another's seal ended the term, and n%d keeps its tail", n);
    }
    bool own_tail = e->len > e->mark.txid;
    bool former_life = sim_owner_node(&e->owner) == n;
    ev->result = sim_engine_apply(s, e, op->id, &op->pos);
    if (info->kind == HADB_CORE_SEAL && !foreign && former_life) {
        sim_saw(s, own_tail ? SIM_S_own_reseal_with_tail : SIM_S_own_reseal);
    }
}

static void answer_rewind(struct sim *s, uint8_t n, const struct sim_op *op, struct hadb_event *ev)
{
    struct sim_engine *e = &s->node[n].engine;
    ev->type = HADB_EV_REWOUND;
    if (op->pos.txid < e->mark.txid) {
        sim_fail(s, "I8: n%d rewinds below its durable mark", n);
    }
    for (uint64_t t = op->pos.txid; t < e->len; t++) {
        if (s->reqs[e->txs[t]].local && s->reqs[e->txs[t]].acked) {
            sim_saw(s, SIM_S_local_write_lost);
        }
    }
    sim_serve_lost(s, n, op->pos.txid, op->flag);
    if (op->flag) {
        sim_saw(s, SIM_S_rewound_definite);
    }
    sim_engine_rewind(s, e, op->pos.txid);
}

static void answer_restore(struct sim *s, uint8_t n, const struct sim_event *in,
                           struct hadb_event *ev)
{
    ev->type = HADB_EV_RESTORED;
    ev->result = (enum hadb_result)in->result;
    if (ev->result != HADB_R_OK) {
        return;
    }
    const struct sim_snapshot *snapshot = &s->snapshots[in->a];
    sim_saw(s, s->node[n].engine.len != 0 ? SIM_S_restored : SIM_S_restored_from_nothing);
    sim_serve_lost(s, n, 0, false);
    sim_engine_restore(s, &s->node[n].engine, snapshot);
    ev->pos = snapshot->pos;
    ev->owner = snapshot->owner;
}

static void answer_upload(struct sim *s, uint8_t n, const struct sim_op *op, struct hadb_event *ev)
{
    struct sim_handle *view = sim_handle_of(s, n, op->handle, SIM_H_VIEW);
    ev->type = HADB_EV_UPLOADED;
    if (view == NULL) {
        return;
    }
    struct sim_snapshot snapshot = {
        .pos = op->pos, .owner = sim_owner_at(s, &op->pos), .txs = view->view};
    sim_handle_free(s, n, op->handle);
    if (ev->result == HADB_R_OK) {
        ev->handle = sim_handle_new(s, n, SIM_H_SNAPSHOT, sim_snapshot_new(s, &snapshot),
                                    (struct sim_list){0});
    }
}

/* ---- answering storage ---- */

static void answer_entry(struct sim *s, uint8_t n, const struct sim_event *in,
                         struct hadb_event *ev)
{
    ev->type = HADB_EV_ENTRY;
    if (ev->result == HADB_R_OK) {
        ev->entry = s->entries[in->a].info;
        ev->handle = sim_handle_new(s, n, SIM_H_ENTRY, in->a, (struct sim_list){0});
    }
    bool *unknown = &s->node[n].create_unknown[in->op];
    if (*unknown && ev->result == HADB_R_OK && in->op >= HADB_OP_SLOT0) {
        struct sim_handle *own =
            sim_handle_of(s, n, s->node[n].core.window[in->op - HADB_OP_SLOT0].handle, SIM_H_ENTRY);
        sim_saw(s, own != NULL && own->id == in->a ? SIM_S_unknown_create_was_ours
                                                   : SIM_S_unknown_create_was_lost);
        *unknown = false;
    }
}

static void answer_created(struct sim *s, uint8_t n, const struct sim_event *in,
                           struct hadb_event *ev)
{
    struct sim_node *node = &s->node[n];
    ev->type = HADB_EV_CREATED;
    if (ev->result == HADB_R_UNKNOWN) {
        node->create_unknown[in->op] = true;
        if (in->op == HADB_OP_MAIN) {
            sim_saw(s, SIM_S_seal_of_unknown_outcome);
        }
    }
    if (ev->result == HADB_R_OK && in->op >= HADB_OP_SLOT0 &&
        node->core.window[in->op - HADB_OP_SLOT0].slot > node->core.view.slot + 1) {
        sim_saw(s, SIM_S_slots_out_of_order);
    }
    hadb_hint_storage(&node->hint, ev->result != HADB_R_UNKNOWN, sim_local_ms(s, node));
}

static void answer_manifest(struct sim *s, uint8_t n, const struct sim_event *in,
                            struct hadb_event *ev)
{
    struct sim_node *node = &s->node[n];
    ev->type = HADB_EV_MANIFEST;
    if (ev->result != HADB_R_OK) {
        return;
    }
    ev->manifest = s->manifests[in->a].info;
    if (in->op == HADB_OP_SNAP) {
        node->snap_manifest = in->a;
        if (node->cas_unknown) {
            struct hadb_id own;
            hadb_core_nonce(&node->core.self, node->core.snap_nonce, &own);
            if (memcmp(&own, &ev->manifest.nonce, sizeof own) == 0) {
                sim_saw(s, SIM_S_manifest_unknown_was_ours);
            }
            node->cas_unknown = false;
        }
    }
}

static void answer_survey(struct sim *s, const struct sim_event *in, const struct sim_op *op,
                          struct hadb_event *ev)
{
    ev->type = HADB_EV_SURVEYED;
    if (ev->result != HADB_R_OK) {
        return;
    }
    if (in->a != 0) {
        const struct sim_entry *last = &s->entries[in->a];
        ev->entry.term = last->info.term;
        ev->entry.slot = last->info.slot;
        ev->entry.kind = HADB_CORE_DATA;
        for (uint64_t slot = op->slot + 1; slot < op->slot + HADB_WINDOW_MAX; slot++) {
            uint32_t id = sim_map_get(&s->store, op->term, slot);
            const struct sim_entry *e = &s->entries[id];
            if (id == 0) {
                continue;
            }
            bool is_seal = e->info.kind == HADB_CORE_SEAL;
            ev->entry.kind = is_seal ? HADB_CORE_SEAL : ev->entry.kind;
            ev->durable_slot = HADB_MAX(ev->durable_slot, e->durable_slot);
        }
    }
    if (op->pos.slot != 0) {
        ev->own = in->b != 0 ? HADB_R_OK : HADB_R_ABSENT;
        ev->entry.prev = in->b != 0 ? s->entries[in->b].info.hash : (struct hadb_hash){{0}};
    }
}

static void answer_cas(struct sim *s, uint8_t n, struct hadb_event *ev)
{
    ev->type = HADB_EV_CAS;
    if (ev->result == HADB_R_LOST) {
        sim_saw(s, SIM_S_manifest_lost);
    } else if (ev->result == HADB_R_UNKNOWN) {
        s->node[n].cas_unknown = true;
    }
}

static void answer_ready(struct sim *s, const struct sim_event *in, struct hadb_event *ev)
{
    ev->type = HADB_EV_READY;
    if (ev->result == HADB_R_OK) { /* what the target said when it was asked */
        ev->owner = sim_owner((uint8_t)in->x, (uint32_t)in->y);
        ev->pos = s->snapshots[in->a].pos;
    }
}

/* Steps of the engine: a failed one changes nothing, and the machine stops. */
static bool step_failed(struct sim *s, const struct sim_event *in, const struct sim_op *op,
                        struct hadb_event *ev)
{
    static const enum hadb_event_type answers[] = {
        [HADB_ACT_FRAME_DATA] = HADB_EV_FRAMED, [HADB_ACT_FRAME_SEAL] = HADB_EV_FRAMED,
        [HADB_ACT_APPLY] = HADB_EV_APPLIED,     [HADB_ACT_REWIND] = HADB_EV_REWOUND,
        [HADB_ACT_RESTORE] = HADB_EV_RESTORED,
    };
    bool engine = (size_t)op->type < HADB_LEN(answers) && answers[op->type] != HADB_EV_TICK;
    if (!engine || !sim_fault(s, SIM_F_BIT_DISK_STEP) || !sim_chance(s, STEP_PER_MILLE)) {
        return false;
    }
    sim_say(s, "a step of the engine of n%d fails", in->node);
    sim_saw(s, SIM_S_halted_by_failed_step);
    s->node[in->node].poisoned = true;
    ev->type = answers[op->type];
    ev->result = HADB_R_FAILED;
    return true;
}

static void fill(struct sim *s, const struct sim_event *in, const struct sim_op *op,
                 struct hadb_event *ev)
{
    uint8_t n = in->node;
    switch (op->type) {
    case HADB_ACT_GET:
        answer_entry(s, n, in, ev);
        break;
    case HADB_ACT_GET_MANIFEST:
        answer_manifest(s, n, in, ev);
        break;
    case HADB_ACT_SURVEY:
        answer_survey(s, in, op, ev);
        break;
    case HADB_ACT_CREATE:
        answer_created(s, n, in, ev);
        break;
    case HADB_ACT_CAS_MANIFEST:
        answer_cas(s, n, ev);
        break;
    case HADB_ACT_DELETE:
        ev->type = HADB_EV_DELETED;
        break;
    case HADB_ACT_FRAME_DATA:
    case HADB_ACT_FRAME_SEAL:
    case HADB_ACT_VIEW:
        answer_framed(s, n, op, ev);
        break;
    case HADB_ACT_APPLY:
        answer_apply(s, n, op, ev);
        break;
    case HADB_ACT_REWIND:
        answer_rewind(s, n, op, ev);
        break;
    case HADB_ACT_RESTORE:
        answer_restore(s, n, in, ev);
        break;
    case HADB_ACT_UPLOAD:
        answer_upload(s, n, op, ev);
        break;
    case HADB_ACT_GATE:
        ev->type = HADB_EV_GATED;
        ev->txid = s->node[n].engine.len;
        s->node[n].gate = HADB_GATE_CLOSED;
        break;
    case HADB_ACT_ASK_READY:
        answer_ready(s, in, ev);
        break;
    default:
        HADB_ASSERT(!"an action that is answered");
    }
}

void sim_answer(struct sim *s, const struct sim_event *in)
{
    struct sim_node *node = &s->node[in->node];
    struct sim_op op = node->ops[in->op];
    HADB_ASSERT(op.busy);
    node->ops[in->op].busy = false;
    struct hadb_event ev;
    memset(&ev, 0, sizeof ev);
    ev.op = (enum hadb_core_op)in->op;
    ev.result = (enum hadb_result)in->result;
    if (!step_failed(s, in, &op, &ev)) {
        fill(s, in, &op, &ev);
    }
    if (!s->over) {
        sim_step(s, in->node, &ev);
    }
}

/* ---- actions ---- */

static void act_role(struct sim *s, uint8_t n, const struct hadb_action *action)
{
    sim_say(s, "n%d is %s in term %" PRIu64 "%s%s", n, hadb_core_role_name(action->role),
            action->term, action->halt ? ": " : "",
            action->halt ? hadb_core_halt_name(action->halt) : "");
    bool expected = action->halt == HADB_HALT_STOPPED ||
                    (action->halt == HADB_HALT_LOCAL && s->node[n].poisoned) ||
                    (action->halt != HADB_HALT_NONE && sim_damage_explains(s, action->halt));
    if (action->halt == HADB_HALT_CORRUPT && s->node[n].damaged) {
        sim_saw(s, SIM_S_halted_by_damage);
        s->node[n].poisoned = expected = true; /* somebody starts it again */
    }
    if (action->role == HADB_CORE_HALTED && !expected) {
        sim_fail(s, "n%d halts on a sound store: %s", n, hadb_core_halt_name(action->halt));
    }
    if (action->role != HADB_CORE_OWNER && action->role != HADB_CORE_DRAINING) {
        sim_streams_close(s, n);
    }
}

static void act_durable(struct sim *s, uint8_t n, const struct hadb_action *action)
{
    struct sim_node *node = &s->node[n];
    sim_oracle_durable(s, n, &action->pos);
    if (!action->flag) {
        sim_engine_mark(&node->engine, &action->pos);
        sim_stream_mark(s, n, &action->pos);
        if (node->restarted_with_tail) {
            node->restarted_with_tail = false;
            sim_saw(s, SIM_S_tail_shipped_after_restart);
        }
    }
    sim_serve_durable(s, n);
}

static void act_gate(struct sim *s, uint8_t n, const struct hadb_action *action)
{
    struct sim_node *node = &s->node[n];
    if (action->gate == HADB_GATE_OPEN) {
        node->gate = HADB_GATE_OPEN;
        node->gate_term = action->term;
        sim_oracle_gate(s, n, action->term);
        sim_damage_gate(s, n);
        sim_notify_all(s, n);
    } else {
        /* A commit that is under way may still come before the answer. */
        node->gate = sim_chance(s, 500) ? HADB_GATE_DRAIN : HADB_GATE_CLOSED;
    }
}

static void act_stream(struct sim *s, uint8_t n, const struct hadb_action *action,
                       struct sim_op *op)
{
    struct sim_handle *h = sim_handle_of(s, n, action->handle, SIM_H_ENTRY);
    if (h == NULL) {
        return;
    }
    op->id = h->id;
    if (action->flag && s->entries[h->id].info.kind == HADB_CORE_DATA) {
        sim_stream_entry(s, n, h->id);
    }
}

static void act_cas(struct sim *s, uint8_t n, const struct hadb_action *action, struct sim_op *op)
{
    struct sim_node *node = &s->node[n];
    const struct sim_manifest *old = &s->manifests[node->snap_manifest];
    struct sim_handle *h = sim_handle_of(s, n, action->handle, SIM_H_SNAPSHOT);
    struct sim_manifest new = {.snapshot = h ? h->id : 0};
    new.info.version = old->info.version + 1;
    new.info.nonce = action->nonce;
    new.info.boundary_slot = action->slot;
    new.info.boundary_term = action->term;
    new.info.swept_slot = action->swept_slot;
    new.info.has_snapshot = true;
    op->id = sim_manifest_new(s, &new);
    op->txid = node->snap_manifest; /* what is expected to be there */
}

static void ask(struct sim *s, uint8_t n, const struct hadb_action *action)
{
    struct sim_node *node = &s->node[n];
    struct sim_op *op = &node->ops[action->op];
    if (op->busy) {
        sim_fail(s, "n%d asks twice on op %d", n, action->op);
        return;
    }
    *op = (struct sim_op){.busy = true,
                          .type = action->type,
                          .gate = action->gate,
                          .flag = action->flag,
                          .term = action->term,
                          .slot = action->slot,
                          .handle = action->handle,
                          .txid = action->txid,
                          .prev = action->prev,
                          .pos = action->pos};
    uint64_t local = sim_around(s, s->draw.disk_us);
    if (sim_fault(s, SIM_F_BIT_DISK_SLOW)) {
        local *= 50;
    }
    switch (action->type) {
    case HADB_ACT_FRAME_DATA:
    case HADB_ACT_FRAME_SEAL:
        op->id = frame(s, n, op, action);
        sim_answer_later(s, n, action->op, HADB_R_OK, 0, local);
        break;
    case HADB_ACT_APPLY: {
        struct sim_handle *h = sim_handle_of(s, n, action->handle, SIM_H_ENTRY);
        op->id = h ? h->id : 0;
        sim_answer_later(s, n, action->op, HADB_R_OK, 0, local);
        break;
    }
    case HADB_ACT_REWIND:
    case HADB_ACT_GATE:
    case HADB_ACT_VIEW:
        sim_answer_later(s, n, action->op, HADB_R_OK, 0, local);
        break;
    case HADB_ACT_UPLOAD:
        op->handle = action->view;
        sim_answer_later(s, n, action->op,
                         sim_fault(s, SIM_F_BIT_STORE_FAIL) ? HADB_R_FAILED : HADB_R_OK, 0,
                         local + sim_around(s, s->draw.store_us * 4));
        break;
    case HADB_ACT_ASK_READY:
        sim_ask_ready(s, n, sim_owner_node(&action->owner));
        break;
    case HADB_ACT_CREATE:
        act_stream(s, n, action, op);
        sim_store_ask(s, n, action->op);
        break;
    case HADB_ACT_CAS_MANIFEST:
        act_cas(s, n, action, op);
        sim_store_ask(s, n, action->op);
        break;
    case HADB_ACT_GET:
        if (action->op == HADB_OP_READ && node->core.framed_slot >= action->slot) {
            sim_saw(s, SIM_S_read_asked_for_its_slot);
        }
        sim_store_ask(s, n, action->op);
        break;
    default:
        sim_store_ask(s, n, action->op);
        break;
    }
}

static void act_small(struct sim *s, uint8_t n, const struct hadb_action *action)
{
    struct sim_node *node = &s->node[n];
    switch (action->type) {
    case HADB_ACT_OWNER:
        node->owner = action->owner;
        sim_watch_owner(s, n);
        break;
    case HADB_ACT_OWNER_SEEN:
        if (node->watching && memcmp(&node->watch.incarnation, &action->owner.incarnation,
                                     sizeof node->watch.incarnation) == 0) {
            hadb_watch_alive(&node->watch, sim_local_ms(s, node));
        }
        break;
    case HADB_ACT_RELEASE:
        if (action->handle != 0) {
            sim_handle_free(s, n, action->handle);
        }
        if (action->view != 0) {
            sim_handle_free(s, n, action->view);
        }
        break;
    case HADB_ACT_NOTIFY:
        sim_notify(s, n, &action->owner);
        break;
    case HADB_ACT_HANDOFF_DONE:
        sim_saw(s, action->result != HADB_R_OK ? SIM_S_hand_off_called_off : SIM_S_hand_off_done);
        break;
    case HADB_ACT_GIVE_UP:
        node->given_up = action->flag;
        if (action->flag && !node->stopping) {
            sim_saw(s, SIM_S_gave_up);
        }
        break;
    default:
        HADB_ASSERT(!"an action without an answer");
    }
}

void sim_act(struct sim *s, uint8_t n, const struct hadb_action *action)
{
    struct sim_node *node = &s->node[n];
    switch (action->type) {
    case HADB_ACT_ROLE:
        act_role(s, n, action);
        break;
    case HADB_ACT_DURABLE:
        act_durable(s, n, action);
        break;
    case HADB_ACT_READ_JOIN:
        sim_serve_join(s, n, action->round);
        break;
    case HADB_ACT_READ_OK:
        if (action->txid > node->engine.len) {
            sim_fail(s, "I7: n%d lets a read run on a state that it does not have", n);
        }
        sim_damage_read(s, n, action->txid);
        sim_saw(s, hadb_core_leads(&node->core) ? SIM_S_read_by_owner : SIM_S_read_by_follower);
        sim_serve_round(s, n, action->round);
        break;
    case HADB_ACT_READ_FAIL:
        sim_serve_round_failed(s, n);
        break;
    case HADB_ACT_SEAL_TURN: /* behind other databases of this node */
        sim_push(s, sim_below(s, s->draw.ttl_ms * SIM_MS),
                 &(struct sim_event){.kind = SIM_EV_TURN, .node = n, .life = node->life});
        break;
    case HADB_ACT_GATE:
        act_gate(s, n, action);
        if (action->gate != HADB_GATE_OPEN) {
            ask(s, n, action);
        }
        break;
    case HADB_ACT_OWNER:
    case HADB_ACT_OWNER_SEEN:
    case HADB_ACT_RELEASE:
    case HADB_ACT_NOTIFY:
    case HADB_ACT_HANDOFF_DONE:
    case HADB_ACT_GIVE_UP:
        act_small(s, n, action);
        break;
    default:
        ask(s, n, action);
        break;
    }
}
