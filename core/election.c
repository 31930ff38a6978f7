/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Election by seal (4.4): one conditional create ends the term and names its successor.
 *
 * Owns       seal_at_ms (when patience is over) and the phases SEAL_FRAME to BOUNDARY.
 * Invariants a seal is only made at the tip of a verified chain, and makes an owner only after a manifest
 *            read that was sent after it shows that its slot had not been collected (4.4.4).
 * Happy path due -> GET says 404 -> frame -> CREATE -> apply the seal -> manifest -> owner of term+1.
 *            That is one PUT and one GET beyond tailing.
 * Failure    another object is there: it is the history, follow it. No definite answer: the same bytes again.
 *            The slot was collected: the seal is a stray one that nobody reads; restore and follow.
 */
#include "core/core_private.h"

void hadb__arm_seal(struct hadb_step *s, uint32_t wait_max_ms)
{
    struct hadb_core *core = s->core;
    bool foreign_tail =
        hadb__has_tail(core) && !core->start_reseal && !hadb__same_owner(&core->owner, &core->self);
    if (!hadb_core_may_lead(core) || core->seal_at_ms != 0 || hadb_core_leads(core) ||
        core->role == HADB_CORE_FENCED || foreign_tail) {
        return;
    }
    core->seal_at_ms = s->now_ms + hadb__random_up_to(core, wait_max_ms);
    core->seal_lag_ms = 0;
    core->backoff = 0;
}

/*
 * The most advanced follower goes first (4.6): it has the least to read before it can write. How far the log
 * reaches is what the owner's stream told last; whoever heard less than others takes itself for advanced, which
 * costs time only.
 */
void hadb__arm_seal_by_lag(struct hadb_step *s, uint32_t wait_max_ms)
{
    struct hadb_core *core = s->core;
    bool armed = core->seal_at_ms != 0;
    hadb__arm_seal(s, wait_max_ms);
    if (armed || core->seal_at_ms == 0 || core->heard_slot <= core->view.slot) {
        return;
    }
    uint64_t lag = HADB_MIN(core->heard_slot - core->view.slot, core->config.lag_wait_max_ms);
    core->seal_lag_ms =
        (uint32_t)HADB_MIN(lag * core->config.lag_wait_ms, core->config.lag_wait_max_ms);
    core->seal_at_ms += core->seal_lag_ms;
}

void hadb__seal_lag_over(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    if (core->seal_at_ms != 0 && core->view.slot >= core->heard_slot) {
        core->seal_at_ms -= core->seal_lag_ms;
        core->seal_lag_ms = 0;
    }
}

static bool patience_over(const struct hadb_core *core, uint64_t now_ms)
{
    return core->seal_at_ms != 0 && now_ms >= core->seal_at_ms && core->role != HADB_CORE_FENCED &&
           hadb_core_may_lead(core);
}

bool hadb__seal_due(const struct hadb_core *core, uint64_t now_ms)
{
    return patience_over(core, now_ms) &&
           (!core->config.seal_turns || core->seal_turn == HADB_TURN_HAVE);
}

/* One database of many: when its patience is over it asks for a turn, which it keeps until it is used or idle. */
void hadb__seal_pump(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    if (core->seal_turn == HADB_TURN_HAVE && core->seal_at_ms == 0) {
        core->seal_turn = HADB_TURN_NONE;
    }
    if (core->config.seal_turns && core->seal_turn == HADB_TURN_NONE &&
        core->role == HADB_CORE_FOLLOWER && patience_over(core, s->now_ms)) {
        core->seal_turn = HADB_TURN_ASKED;
        hadb__act(s, HADB_ACT_SEAL_TURN);
    }
}

void hadb__seal_turn(struct hadb_step *s, const struct hadb_event *ev)
{
    (void)ev;
    HADB_ASSERT(s->core->seal_turn == HADB_TURN_ASKED);
    s->core->seal_turn = HADB_TURN_HAVE;
}

uint64_t hadb__seal_deadline(const struct hadb_core *core)
{
    bool waits = core->config.seal_turns && core->seal_turn == HADB_TURN_ASKED;
    bool armed =
        core->seal_at_ms != 0 && hadb_core_may_lead(core); /* a barred candidate stays armed */
    return armed && !waits ? core->seal_at_ms : HADB_NEVER;
}

void hadb__liveness(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    if (!hadb__same_owner(&ev->owner, &core->owner) || hadb__no_owner(&core->owner)) {
        return;
    }
    if (ev->liveness == HADB_LIVE_SILENT && core->liveness != HADB_LIVE_SILENT) {
        core->next_absent = false; /* what was absent before may have been written before */
    }
    core->liveness = (uint8_t)ev->liveness;
    if (hadb_core_leads(core) || hadb__same_owner(&core->owner, &core->self)) {
        return;
    }
    switch (ev->liveness) {
    case HADB_LIVE_ALIVE:
        core->seal_at_ms = core->start_reseal ? core->seal_at_ms : 0;
        break;
    case HADB_LIVE_GONE:
        if (core->config.fast_suspicion) {
            hadb__arm_seal_by_lag(s, core->config.suspect_wait_ms);
        }
        break;
    case HADB_LIVE_FREE:
        hadb__arm_seal_by_lag(s, core->config.suspect_wait_ms);
        break;
    case HADB_LIVE_SILENT:
        hadb__arm_seal_by_lag(s, core->config.silent_wait_ms);
        break;
    }
    bool waits_for_others = core->liveness != HADB_LIVE_ALIVE && core->seal_at_ms == 0;
    if (waits_for_others && core->next_at_ms == HADB_NEVER) {
        core->backoff = 0;
        core->next_at_ms = s->now_ms; /* its stream, even if up, will not tell of its successor */
    }
}

/* It stays due: another look at the tip after a pause. */
static void seal_later(struct hadb_step *s)
{
    s->core->phase = HADB_PH_IDLE;
    hadb__main_later(s);
    s->core->retry_at_ms = s->core->next_at_ms;
}

void hadb__seal_start(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    if (core->framing) { /* an entry of a lost term is still being framed */
        seal_later(s);
        return;
    }
    hadb__set_role(s, HADB_CORE_CANDIDATE);
    core->seal_turn = HADB_TURN_NONE;
    core->phase = HADB_PH_SEAL_FRAME;
    core->framing = true;
    struct hadb_action *action = hadb__act(s, HADB_ACT_FRAME_SEAL);
    action->op = HADB_OP_FRAME;
    action->term = core->view.term;
    action->slot = core->view.slot + 1;
    action->prev = core->view.hash;
    action->txid = core->view.txid;
    action->owner = core->self;
    action->reason = core->view.term == 0 ? HADB_SEAL_GENESIS : HADB_SEAL_FAILOVER;
}

static void give_way(struct hadb_step *s)
{
    s->core->phase = HADB_PH_IDLE;
    s->core->seal_at_ms = 0;
    hadb__drop_pending(s);
    hadb__set_role(s, HADB_CORE_FOLLOWER);
}

void hadb__seal_framed(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    if (ev->result == HADB_R_LATER) {
        seal_later(s);
        return;
    }
    if (ev->result != HADB_R_OK) {
        hadb__halt(s, HADB_HALT_LOCAL);
        return;
    }
    HADB_ASSERT(ev->entry.kind == HADB_CORE_SEAL && ev->entry.slot == core->view.slot + 1);
    core->pending = ev->entry;
    core->pending_handle = ev->handle;
    hadb__main_start(s, HADB_PH_SEAL_CREATE);
}

void hadb__seal_created(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(core->phase == HADB_PH_SEAL_CREATE);
    bool taken_for_own =
        (ev->result == HADB_R_EXISTS && !hadb__rule(core, HADB_RULE_COMPARE_CONTENT)) ||
        (ev->result == HADB_R_UNKNOWN && !hadb__rule(core, HADB_RULE_RESEND_UNKNOWN));
    if (ev->result == HADB_R_OK || taken_for_own) {
        core->backoff = 0;
        hadb__apply_pending(s);
    } else if (ev->result == HADB_R_EXISTS) {
        hadb__main_start(s, HADB_PH_SEAL_COMPARE);
    } else {
        hadb__main_later(s); /* unknown: the same bytes again (4.5) */
    }
}

void hadb__seal_compared(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    if (ev->result == HADB_R_OK && hadb__same_hash(&ev->entry.hash, &core->pending.hash)) {
        hadb__release(s, ev->handle, 0);
        core->backoff = 0;
        hadb__apply_pending(s);
    } else if (ev->result == HADB_R_OK) {
        give_way(s);
        hadb__accept_stored(s, &ev->entry, ev->handle);
    } else if (ev->result == HADB_R_CORRUPT) {
        hadb__halt(s, HADB_HALT_CORRUPT);
    } else {
        if (ev->result == HADB_R_ABSENT) { /* absence is never final (4.5) */
            core->phase = HADB_PH_SEAL_CREATE;
        }
        hadb__main_later(s);
    }
}

void hadb__named_owner(struct hadb_step *s)
{
    s->core->progress_at_ms = s->now_ms;
    if (hadb__rule(s->core, HADB_RULE_BOUNDARY_CHECK)) {
        hadb__main_start(s, HADB_PH_BOUNDARY);
    } else {
        hadb__own(s);
    }
}

void hadb__boundary_checked(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    if (ev->result != HADB_R_OK) {
        hadb__main_later(s);
    } else if (ev->manifest.boundary_slot >= core->view.slot + 1) {
        if (core->role == HADB_CORE_CANDIDATE) {
            hadb__set_role(s, HADB_CORE_FOLLOWER);
        }
        hadb__stream_clear(s);
        hadb__main_start(s, HADB_PH_RESTORE); /* the seal is a stray one (4.4.4) */
    } else {
        hadb__own(s);
    }
}
