/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 5 of 8: the log owner. Orders what was committed into slots, sends them, acknowledges prefixes.
 *
 * Owns       the window of slots in flight, op FRAME while leading, the write gate.
 * Invariants a slot is framed on top of the hash of the one before; a slot counts as durable only with all
 *            earlier ones (4.3.2); what is framed is never framed again, only the same bytes are sent again.
 * Happy path COMMITTED -> FRAME_DATA -> FRAMED -> CREATE -> CREATED -> DURABLE: one create per batch.
 * Failure    unknown outcome: the same bytes again; something is there: compare by content (4.5); foreign: fenced.
 *            No memory to frame, no room for the engine's mark: again after a pause.
 */
#include "core/core_private.h"

#define CREATE_MS_MAX 60000u /* one that took longer counts as this */

struct hadb_slot *hadb__slot_find(struct hadb_core *core, uint64_t slot)
{
    for (unsigned i = 0; i < HADB_WINDOW_MAX; i++) {
        struct hadb_slot *w = &core->window[i];
        if (w->state != HADB_SLOT_FREE && w->state != HADB_SLOT_DEAD && w->slot == slot) {
            return w;
        }
    }
    return NULL;
}

static unsigned in_flight(const struct hadb_core *core)
{
    unsigned len = 0;
    for (unsigned i = 0; i < HADB_WINDOW_MAX; i++) {
        len += core->window[i].state != HADB_SLOT_FREE && core->window[i].state != HADB_SLOT_DEAD;
    }
    return len;
}

bool hadb__window_room(const struct hadb_core *core)
{
    for (unsigned i = 0; i < HADB_WINDOW_MAX; i++) {
        if (core->window[i].state == HADB_SLOT_FREE) {
            return true;
        }
    }
    return false;
}

bool hadb__window_empty(const struct hadb_core *core)
{
    return in_flight(core) == 0;
}

bool hadb__clone_guard(const struct hadb_core *core)
{
    return core->config.clone_guard && hadb__rule(core, HADB_RULE_CLONE_GUARD);
}

/* A clone must not write behind a slot of which it does not know yet whether it was collected. */
static unsigned window(const struct hadb_core *core)
{
    return hadb__clone_guard(core) ? 1 : core->config.window;
}

static struct hadb_slot *free_slot(struct hadb_core *core)
{
    for (unsigned i = 0; i < HADB_WINDOW_MAX; i++) {
        if (core->window[i].state == HADB_SLOT_FREE) {
            return &core->window[i];
        }
    }
    return NULL;
}

/* Not needed any more. While its op is unanswered it stays, dead, and keeps the bytes that are being sent. */
static void slot_free(struct hadb_step *s, struct hadb_slot *w)
{
    if (w->busy) {
        w->state = HADB_SLOT_DEAD;
        return;
    }
    hadb__release(s, w->handle, 0);
    memset(w, 0, sizeof *w);
}

static enum hadb_core_op slot_op(const struct hadb_core *core, const struct hadb_slot *w)
{
    return (enum hadb_core_op)(HADB_OP_SLOT0 + (w - core->window));
}

void hadb__own(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    core->phase = HADB_PH_LEAD;
    core->backoff = 0;
    core->seal_at_ms = 0;
    core->start_reseal = false;
    core->framed_slot = core->view.slot;
    core->framed_txid = core->view.txid;
    core->framed_hash = core->view.hash;
    core->frame_at_ms = core->mark_at_ms = 0;
    core->progress_at_ms = s->now_ms;
    /* Named by another's seal some time ago, or poked on the way: is this term still the last one? */
    bool look = core->poke || core->role == HADB_CORE_FOLLOWER;
    core->poke = false;
    memset(&core->pending, 0, sizeof core->pending);
    hadb__give_up(s, false);
    hadb__set_role(s, HADB_CORE_OWNER);
    hadb__read_own(s);
    if (look) {
        hadb__read_look(s);
    }
    core->gate_open = true;
    struct hadb_action *action = hadb__act(s, HADB_ACT_GATE);
    action->gate = HADB_GATE_OPEN;
    action->term = core->view.term;
    hadb__snap_sweep(s);
}

void hadb__committed(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(ev->txid >= core->local_txid);
    if (!hadb__has_tail(core)) {
        core->progress_at_ms = s->now_ms;
    }
    core->local_txid = ev->txid;
    core->tail_term = core->view.term;
}

/*
 * Group commit: while slots are in flight, the next one leaves only when it carries at least as many
 * transactions as they do; until then waiting costs nobody more than the latency of one create, and every
 * slot carries more. With N busy writers the slots soon carry N / window each.
 */
static bool worth_a_slot(const struct hadb_core *core)
{
    return hadb__window_empty(core) ||
           core->local_txid - core->framed_txid >= core->framed_txid - core->view.txid;
}

void hadb__pump(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    if (!hadb_core_leads(core) || core->framing || core->frame_at_ms != 0 ||
        core->local_txid <= core->framed_txid || in_flight(core) >= window(core) ||
        !hadb__window_room(core) || !worth_a_slot(core)) {
        return;
    }
    core->framing = true;
    struct hadb_action *action = hadb__act(s, HADB_ACT_FRAME_DATA);
    action->op = HADB_OP_FRAME;
    action->term = core->view.term;
    action->slot = core->framed_slot + 1;
    action->prev = core->framed_hash;
    action->txid = core->framed_txid;
    action->durable_slot = core->view.slot;
    action->flag = hadb__snap_wants_view(core);
}

static void send_slot(struct hadb_step *s, struct hadb_slot *w, bool first)
{
    w->state = HADB_SLOT_SENT;
    w->busy = true;
    struct hadb_action *action = hadb__act(s, HADB_ACT_CREATE);
    action->op = slot_op(s->core, w);
    action->handle = w->handle;
    action->term = s->core->view.term;
    action->slot = w->slot;
    action->flag = first;
    if (first) {
        w->at_ms = s->now_ms;
    }
}

/* A create took so long: a moving average, of those whose first request was answered. */
static void measure(struct hadb_core *core, const struct hadb_slot *w, uint64_t now_ms)
{
    uint64_t took_ms = HADB_MIN(now_ms - w->at_ms, CREATE_MS_MAX);
    core->create_ms_x8 += (uint32_t)took_ms - core->create_ms_x8 / 8;
}

/* Nothing has changed, so nothing is lost by asking again; but not in a tight loop. */
static void frame_later(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    core->frame_at_ms = s->now_ms + hadb__backoff_ms(core, core->backoff);
    if (core->config.jitter && core->backoff < 16) {
        core->backoff++;
    }
    if (core->role == HADB_CORE_DRAINING && core->drain_until_ms == 0) {
        hadb__handoff_call_off(s); /* it was the seal, and writers must not wait for memory */
    }
}

void hadb__mark_later(struct hadb_step *s)
{
    if (hadb_core_leads(s->core)) { /* else the next APPLY or REWIND brings a newer one */
        s->core->mark_at_ms = s->now_ms + hadb__backoff_ms(s->core, 4);
    }
}

void hadb__data_framed(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    if (ev->result == HADB_R_LATER) {
        frame_later(s);
        return;
    }
    if (ev->result != HADB_R_OK) {
        hadb__halt(s, HADB_HALT_LOCAL);
        return;
    }
    core->backoff = 0;
    struct hadb_slot *w = free_slot(core);
    HADB_ASSERT(w != NULL && ev->entry.slot == core->framed_slot + 1 && ev->handle != 0);
    *w = (struct hadb_slot){.sealed = ev->entry.kind == HADB_CORE_SEAL,
                            .slot = ev->entry.slot,
                            .last_txid = ev->entry.last_txid,
                            .handle = ev->handle,
                            .hash = ev->entry.hash};
    core->framed_slot = ev->entry.slot;
    core->framed_hash = ev->entry.hash;
    if (!w->sealed) {
        core->framed_txid = ev->entry.last_txid;
        if (core->read_waiting) { /* sent first after those reads began: its success proves them (4.9) */
            w->round = core->read_open++;
            core->read_waiting = false;
        }
        struct hadb_pos pos = {core->view.term, w->slot, w->last_txid, w->hash};
        hadb__snap_framed(s, ev->view, &pos);
    }
    send_slot(s, w, true);
}

void hadb__give_up(struct hadb_step *s, bool flag)
{
    if (s->core->given_up != flag) {
        s->core->given_up = flag;
        hadb__act(s, HADB_ACT_GIVE_UP)->flag = flag;
    }
}

/* Somebody waits for this owner, and it waits for storage. */
static bool stalled(const struct hadb_core *core)
{
    bool sealing = core->role == HADB_CORE_DRAINING && core->drain_until_ms == 0;
    return core->phase == HADB_PH_BOUNDARY ||
           (hadb_core_leads(core) && (sealing || hadb__has_tail(core)));
}

static bool may_give_up(const struct hadb_core *core)
{
    return !core->given_up && core->config.give_up_ms != 0 && stalled(core);
}

static void progress(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    core->progress_at_ms = s->now_ms;
    hadb__give_up(s, false);
    struct hadb_action *action = hadb__act(s, HADB_ACT_DURABLE);
    action->pos = core->view;
}

/* The next slot that may move the view: the one right after it. */
static struct hadb_slot *next_durable(struct hadb_core *core)
{
    struct hadb_slot *w = hadb__slot_find(core, core->view.slot + 1);
    if (w != NULL && w->state == HADB_SLOT_DURABLE) {
        return w;
    }
    for (unsigned i = 0; i < HADB_WINDOW_MAX && !hadb__rule(core, HADB_RULE_PREFIX_ACK); i++) {
        if (core->window[i].state == HADB_SLOT_DURABLE) { /* mutant: any of them will do */
            return &core->window[i];
        }
    }
    return NULL;
}

static void advance(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    bool moved = false;
    bool handed_over = false;
    uint64_t round = 0;
    for (struct hadb_slot *w = next_durable(core); w != NULL && !handed_over;
         w = next_durable(core)) {
        if (w->sealed) {
            handed_over = true;
        } else if (w->slot > core->view.slot) {
            core->view = (struct hadb_pos){core->view.term, w->slot, w->last_txid, w->hash};
            round = HADB_MAX(round, w->round);
            moved = true;
            if (w->attempts == 0 && core->config.jitter) { /* else at_ms is that of a repetition */
                hadb__fresh(s, w->at_ms);
            }
        }
        slot_free(s, w);
    }
    if (moved) {
        progress(s);
    }
    if (round != 0) {
        hadb__read_proven(s, round);
    }
    if (handed_over) {
        hadb__handed_over(s);
    }
}

static void ask_guard(struct hadb_step *s, struct hadb_slot *w)
{
    w->busy = true;
    hadb__act(s, HADB_ACT_GET_MANIFEST)->op = slot_op(s->core, w);
}

void hadb__slot_durable(struct hadb_step *s, struct hadb_slot *w)
{
    if (!hadb__clone_guard(s->core)) {
        w->state = HADB_SLOT_DURABLE;
        advance(s);
    } else if (w->state != HADB_SLOT_GUARD) {
        w->state = HADB_SLOT_GUARD;
        if (!w->busy) { /* else a read has found it before its create was answered */
            ask_guard(s, w);
        }
    }
}

static void send_later(struct hadb_step *s, struct hadb_slot *w)
{
    w->state = HADB_SLOT_WAIT;
    w->at_ms = s->now_ms + hadb__backoff_ms(s->core, w->attempts);
    if (s->core->config.jitter && w->attempts < 16) {
        w->attempts++;
    }
}

/* A read had found the slot there while its own request was unanswered. */
static bool found_by_read(const struct hadb_slot *w)
{
    return w->state == HADB_SLOT_DURABLE || w->state == HADB_SLOT_GUARD;
}

static void found_answered(struct hadb_step *s, struct hadb_slot *w)
{
    if (w->state == HADB_SLOT_GUARD) {
        ask_guard(s, w);
    }
}

void hadb__slot_created(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    struct hadb_slot *w = &core->window[ev->op - HADB_OP_SLOT0];
    HADB_ASSERT(w->busy);
    w->busy = false;
    if (w->state == HADB_SLOT_DEAD) {
        slot_free(s, w);
        return;
    }
    HADB_ASSERT(w->state == HADB_SLOT_SENT || found_by_read(w));
    if (found_by_read(w)) {
        found_answered(s, w);
        return;
    }
    bool taken_for_own =
        (ev->result == HADB_R_EXISTS && !hadb__rule(core, HADB_RULE_COMPARE_CONTENT)) ||
        (ev->result == HADB_R_UNKNOWN && !hadb__rule(core, HADB_RULE_RESEND_UNKNOWN));
    if (ev->result == HADB_R_OK && w->attempts == 0) {
        measure(core, w, s->now_ms);
    }
    if (ev->result == HADB_R_OK || taken_for_own) {
        hadb__slot_durable(s, w);
    } else if (ev->result == HADB_R_EXISTS) {
        w->state = HADB_SLOT_COMPARE;
        w->busy = true;
        struct hadb_action *action = hadb__act(s, HADB_ACT_GET);
        action->op = ev->op;
        action->term = core->view.term;
        action->slot = w->slot;
    } else {
        send_later(s, w);
    }
}

void hadb__slot_compared(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    struct hadb_slot *w = &core->window[ev->op - HADB_OP_SLOT0];
    hadb__release(s, ev->handle, 0);
    HADB_ASSERT(w->busy);
    w->busy = false;
    if (w->state == HADB_SLOT_DEAD) {
        slot_free(s, w);
        return;
    }
    if (found_by_read(w)) {
        found_answered(s, w);
        return;
    }
    HADB_ASSERT(w->state == HADB_SLOT_COMPARE);
    if (ev->result == HADB_R_CORRUPT) {
        hadb__halt(s, HADB_HALT_CORRUPT);
    } else if (ev->result != HADB_R_OK) {
        send_later(s, w); /* absent is not final, no answer is none: the same bytes again */
    } else if (hadb__same_hash(&ev->entry.hash, &w->hash)) {
        hadb__slot_durable(s, w);
    } else {
        hadb__fence(s);
    }
}

/* The manifest, read after the create: a slot at or below the boundary was written before, by a twin (4.5). */
void hadb__slot_guarded(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    struct hadb_slot *w = &core->window[ev->op - HADB_OP_SLOT0];
    HADB_ASSERT(w->busy);
    w->busy = false;
    if (w->state == HADB_SLOT_DEAD) {
        slot_free(s, w);
        return;
    }
    HADB_ASSERT(w->state == HADB_SLOT_GUARD);
    if (ev->result == HADB_R_ABSENT) {
        hadb__halt(s, HADB_HALT_NO_MANIFEST);
    } else if (ev->result == HADB_R_CORRUPT) {
        hadb__halt(s, HADB_HALT_CORRUPT);
    } else if (ev->result != HADB_R_OK) {
        send_later(s, w);
        w->state = HADB_SLOT_GUARD;
    } else if (ev->manifest.boundary_slot < w->slot) {
        w->state = HADB_SLOT_DURABLE;
        advance(s);
    } else {
        hadb__fence(s);
        core->phase = HADB_PH_RESTORE; /* what stands in the collected slots is not the history */
    }
}

void hadb__slots_drop(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    for (unsigned i = 0; i < HADB_WINDOW_MAX; i++) {
        if (core->window[i].state != HADB_SLOT_FREE) {
            slot_free(s, &core->window[i]);
        }
    }
    core->frame_dead = core->framing;
    core->frame_at_ms = core->mark_at_ms = 0;
}

/* Another object stands where ours had to be: the term is over. Gate first, everything else later (4.3.6). */
void hadb__fence(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(hadb_core_leads(core));
    hadb__handoff_fail(s);
    hadb__close_gate(s, HADB_GATE_CLOSED);
    hadb__slots_drop(s);
    hadb__snap_drop(s);
    hadb__read_fail(s);
    hadb__give_up(s, false); /* another one has it */
    hadb__set_role(s, HADB_CORE_FENCED);
    core->phase = HADB_PH_IDLE;
    core->backoff = 0;
    core->poke = true;
    core->next_at_ms = s->now_ms;
    core->retry_at_ms = 0;
    core->tip_checked = false;
}

void hadb__slots_tick(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    if (may_give_up(core) && s->now_ms >= core->progress_at_ms + core->config.give_up_ms) {
        hadb__give_up(s, true);
    }
    if (s->now_ms >= core->frame_at_ms) {
        core->frame_at_ms = 0;
    }
    if (core->mark_at_ms != 0 && s->now_ms >= core->mark_at_ms) {
        core->mark_at_ms = 0;
        hadb__act(s, HADB_ACT_DURABLE)->pos = core->view;
    }
    for (unsigned i = 0; i < HADB_WINDOW_MAX; i++) {
        struct hadb_slot *w = &core->window[i];
        if (w->busy || s->now_ms < w->at_ms) {
            continue;
        }
        if (w->state == HADB_SLOT_WAIT) {
            send_slot(s, w, false);
        } else if (w->state == HADB_SLOT_GUARD) {
            ask_guard(s, w);
        }
    }
}

uint64_t hadb__owner_deadline(const struct hadb_core *core)
{
    uint64_t at = may_give_up(core) ? core->progress_at_ms + core->config.give_up_ms : HADB_NEVER;
    if (!hadb_core_leads(core)) {
        return at;
    }
    if (core->frame_at_ms != 0) {
        at = HADB_MIN(at, core->frame_at_ms);
    }
    if (core->mark_at_ms != 0) {
        at = HADB_MIN(at, core->mark_at_ms);
    }
    for (unsigned i = 0; i < HADB_WINDOW_MAX; i++) {
        const struct hadb_slot *w = &core->window[i];
        if (w->state == HADB_SLOT_WAIT || (w->state == HADB_SLOT_GUARD && !w->busy)) {
            at = HADB_MIN(at, w->at_ms);
        }
    }
    if (core->role == HADB_CORE_DRAINING && core->drain_until_ms != 0 && !core->gate_closing) {
        at = HADB_MIN(at, core->drain_until_ms);
    }
    return HADB_MIN(at, hadb__barred_deadline(core));
}
