/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Planned hand-off (4.10): flush, then seal the own term in favour of a named successor, or of nobody: on
 * request, or because the storage failed its conformance probe (4.13).
 *
 * Owns       the phases ASK_READY and DRAIN.
 * Invariant  the seal is framed only when every local commit is durable and no new one can follow, so that
 *            nothing is left to rewind.
 * Happy path HANDOFF -> ASK_READY -> gate drains -> flush -> FRAME_SEAL -> CREATE -> follower; NOTIFY.
 * Failure    target not ready, drain too slow, no memory for the seal: called off, still owner. Seal lost: fenced, like any owner.
 */
#include "core/core_private.h"

/* A target further behind than this would make writers wait for its catching up. */
#define HANDOFF_LAG_SLOTS_MAX 64u

static void answer(struct hadb_step *s, enum hadb_result result)
{
    hadb__act(s, HADB_ACT_HANDOFF_DONE)->result = result;
}

/* It is over; somebody waits for that unless the machine began it by itself. */
static void done(struct hadb_step *s, enum hadb_result result)
{
    if (!s->core->resigning) {
        answer(s, result);
    }
    s->core->resigning = false;
}

static void drain(struct hadb_step *s, const struct hadb_owner *target)
{
    struct hadb_core *core = s->core;
    core->target = *target;
    core->phase = HADB_PH_DRAIN;
    core->drain_until_ms = s->now_ms + core->config.drain_max_ms;
    hadb__set_role(s, HADB_CORE_DRAINING);
    if (hadb__rule(core, HADB_RULE_DRAIN_BEFORE_SEAL)) {
        hadb__close_gate(s, HADB_GATE_DRAIN);
    }
}

void hadb__handoff(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    if (core->role != HADB_CORE_OWNER || core->phase != HADB_PH_LEAD || core->gate_closing ||
        core->main_busy || hadb__same_id(&ev->owner.node, &core->self.node)) {
        answer(s, HADB_R_FAILED);
        return;
    }
    static const struct hadb_owner nobody;
    if (hadb__same_id(&ev->owner.node, &nobody.node)) {
        drain(s, &nobody);
        return;
    }
    core->phase = HADB_PH_ASK_READY;
    core->main_busy = true;
    struct hadb_action *action = hadb__act(s, HADB_ACT_ASK_READY);
    action->op = HADB_OP_MAIN;
    action->owner = ev->owner;
}

void hadb__handoff_ready(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    if (core->phase != HADB_PH_ASK_READY) {
        return; /* fenced meanwhile */
    }
    bool close =
        ev->pos.term == core->view.term && ev->pos.slot + HANDOFF_LAG_SLOTS_MAX >= core->view.slot;
    if (ev->result != HADB_R_OK || !close || hadb__no_owner(&ev->owner)) {
        core->phase = HADB_PH_LEAD;
        done(s, HADB_R_FAILED);
        return;
    }
    drain(s, &ev->owner);
}

void hadb__handoff_pump(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    if (core->role != HADB_CORE_DRAINING || core->framing || core->drain_until_ms == 0 ||
        core->frame_at_ms != 0) {
        return;
    }
    bool flushed = !core->gate_closing && hadb__window_empty(core) && !hadb__has_tail(core);
    if (!hadb__window_room(core)) {
        return; /* late answers still hold all places */
    }
    if (!flushed && hadb__rule(core, HADB_RULE_DRAIN_BEFORE_SEAL)) {
        return;
    }
    core->drain_until_ms = 0; /* from here on there is no way back, unless it cannot be framed */
    core->progress_at_ms = s->now_ms;
    core->framing = true;
    bool resign = hadb__no_owner(&core->target);
    struct hadb_action *action = hadb__act(s, HADB_ACT_FRAME_SEAL);
    action->op = HADB_OP_FRAME;
    action->term = core->view.term;
    action->slot = core->framed_slot + 1;
    action->prev = core->framed_hash;
    action->txid = core->framed_txid;
    action->owner = core->target;
    action->reason = resign ? HADB_SEAL_RESIGN : HADB_SEAL_HANDOFF;
}

void hadb__handoff_fail(struct hadb_step *s)
{
    if (s->core->role == HADB_CORE_DRAINING || s->core->phase == HADB_PH_ASK_READY) {
        done(s, HADB_R_FAILED);
    }
}

void hadb__handoff_call_off(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(core->role == HADB_CORE_DRAINING);
    core->drain_until_ms = 0;
    core->phase = HADB_PH_LEAD;
    hadb__set_role(s, HADB_CORE_OWNER);
    if (!core->gate_open) {
        core->gate_open = true;
        struct hadb_action *action = hadb__act(s, HADB_ACT_GATE);
        action->gate = HADB_GATE_OPEN;
        action->term = core->view.term;
    }
    done(s, HADB_R_FAILED);
}

void hadb__handoff_tick(struct hadb_step *s)
{
    const struct hadb_core *core = s->core;
    if (core->role == HADB_CORE_DRAINING && core->drain_until_ms != 0 && !core->gate_closing &&
        s->now_ms >= core->drain_until_ms) {
        hadb__handoff_call_off(s);
    }
}

/* The own seal is durable. It is then read and applied like anybody's. */
void hadb__handed_over(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    hadb__close_gate(s, HADB_GATE_CLOSED); /* closed already, except in the mutant */
    hadb__slots_drop(s);
    hadb__snap_drop(s);
    hadb__read_fail(s);
    hadb__give_up(s, false);
    hadb__set_role(s, HADB_CORE_FOLLOWER);
    core->handoff_resign = hadb__no_owner(&core->target);
    core->phase = HADB_PH_IDLE;
    core->poke = true;
    core->retry_at_ms = 0;
    if (!core->handoff_resign) {
        hadb__act(s, HADB_ACT_NOTIFY)->owner = core->target;
    }
    done(s, HADB_R_OK);
}

/* ---- conformance (4.13) ---- */

static bool must_resign(const struct hadb_core *core)
{
    return core->barred && core->role == HADB_CORE_OWNER && core->phase == HADB_PH_LEAD &&
           !core->gate_closing && !core->main_busy;
}

/* Patience that was exhausted meanwhile, or never needed, counts again. */
static void unbarred(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    struct hadb_event liveness = {.owner = core->owner,
                                  .liveness = (enum hadb_liveness)core->liveness};
    if (core->start_reseal) {
        hadb__arm_seal(s, 0);
    } else if (hadb__no_owner(&core->owner)) {
        hadb__arm_seal(s, core->config.suspect_wait_ms);
    } else {
        hadb__liveness(s, &liveness);
    }
}

void hadb__probed(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    bool barred = ev->result != HADB_R_OK;
    bool changed = barred != core->barred;
    core->barred = barred;
    if (changed && !barred) {
        unbarred(s);
    } else if (changed && core->role == HADB_CORE_FOLLOWER) {
        core->seal_at_ms = 0;
    }
}

void hadb__barred_pump(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    static const struct hadb_owner nobody;
    if (must_resign(core) && s->now_ms >= core->resign_at_ms) {
        /* Called off when it does not flush in time: tried again after as long. */
        core->resign_at_ms = s->now_ms + 2 * (uint64_t)core->config.drain_max_ms;
        core->resigning = true;
        drain(s, &nobody);
    }
}

uint64_t hadb__barred_deadline(const struct hadb_core *core)
{
    return must_resign(core) ? core->resign_at_ms : HADB_NEVER;
}
