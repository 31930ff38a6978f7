/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol machine of one database: initial state, dispatch of events, deadlines, checks.
 *
 * Owns       the order in which an event is handed to the parts (follower, election, owner, read, …).
 * Thread     whichever calls step; the state belongs to the caller.
 * Invariant  hadb_core_check() after every step.
 * Happy path event -> its part -> hadb__follow / hadb__pump start what became possible.
 * Failure    an event that makes no sense in the present state is a bug of the host and asserted;
 *            a late answer to an action of a lost role only releases what it carries.
 */
#include "core/core_private.h"

/* Which role may follow which; checked at every change. */
static const bool role_allowed[6][6] = {
    [HADB_CORE_FOLLOWER] =
        {[HADB_CORE_CANDIDATE] = true, [HADB_CORE_OWNER] = true, [HADB_CORE_HALTED] = true},
    [HADB_CORE_CANDIDATE] =
        {[HADB_CORE_FOLLOWER] = true, [HADB_CORE_OWNER] = true, [HADB_CORE_HALTED] = true},
    [HADB_CORE_OWNER] =
        {[HADB_CORE_DRAINING] = true, [HADB_CORE_FENCED] = true, [HADB_CORE_HALTED] = true},
    [HADB_CORE_DRAINING] = {[HADB_CORE_OWNER] = true,
                            [HADB_CORE_FOLLOWER] = true,
                            [HADB_CORE_FENCED] = true,
                            [HADB_CORE_HALTED] = true},
    [HADB_CORE_FENCED] = {[HADB_CORE_FOLLOWER] = true, [HADB_CORE_HALTED] = true},
    [HADB_CORE_HALTED] = {false},
};

bool hadb__no_owner(const struct hadb_owner *owner)
{
    static const struct hadb_owner nobody;
    return hadb__same_owner(owner, &nobody);
}

struct hadb_action *hadb__act(struct hadb_step *s, enum hadb_action_type type)
{
    HADB_ASSERT(s->out->len < HADB_ACTIONS_MAX);
    struct hadb_action *action = &s->out->items[s->out->len++];
    memset(action, 0, sizeof *action);
    action->type = type;
    return action;
}

void hadb__release(struct hadb_step *s, uint64_t handle, uint64_t view)
{
    if (handle == 0 && view == 0) {
        return;
    }
    struct hadb_action *action = hadb__act(s, HADB_ACT_RELEASE);
    action->handle = handle;
    action->view = view;
}

void hadb__set_role(struct hadb_step *s, enum hadb_core_role role)
{
    struct hadb_core *core = s->core;
    if (core->role == role) {
        return;
    }
    HADB_ASSERT(role_allowed[core->role][role]);
    core->role = (uint8_t)role;
    struct hadb_action *action = hadb__act(s, HADB_ACT_ROLE);
    action->role = role;
    action->halt = (enum hadb_halt)core->halt;
    action->term = core->view.term;
}

void hadb__set_owner(struct hadb_step *s, const struct hadb_owner *owner)
{
    s->core->owner = *owner;
    s->core->liveness = HADB_LIVE_ALIVE;
    struct hadb_action *action = hadb__act(s, HADB_ACT_OWNER);
    action->owner = *owner;
    action->term = s->core->view.term;
}

void hadb__close_gate(struct hadb_step *s, enum hadb_gate gate)
{
    struct hadb_core *core = s->core;
    if (!core->gate_open) {
        return;
    }
    core->gate_open = false;
    core->gate_closing = true;
    struct hadb_action *action = hadb__act(s, HADB_ACT_GATE);
    action->op = HADB_OP_GATE;
    action->gate = gate;
    action->term = core->view.term;
}

void hadb__halt(struct hadb_step *s, enum hadb_halt reason)
{
    struct hadb_core *core = s->core;
    if (core->role == HADB_CORE_HALTED) {
        return;
    }
    if (core->gate_open) {
        hadb__close_gate(s, HADB_GATE_CLOSED);
    }
    hadb__handoff_fail(s);
    hadb__slots_drop(s);
    hadb__snap_halt(s);
    hadb__stream_clear(s);
    hadb__drop_pending(s);
    hadb__read_fail(s);
    core->halt = (uint8_t)reason;
    core->phase = HADB_PH_IDLE;
    core->seal_at_ms = 0;
    hadb__set_role(s, HADB_CORE_HALTED);
    if (reason != HADB_HALT_STOPPED && reason != HADB_HALT_RETIRED) {
        hadb__give_up(s, true);
    }
}

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators" (2016). */
uint64_t hadb__random_up_to(struct hadb_core *core, uint64_t max)
{
    if (!core->config.jitter || max == 0) {
        return 0;
    }
    uint64_t x = core->rng;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    core->rng = x;
    return (x * 0x2545F4914F6CDD1DULL >> 11) % (max + 1);
}

uint64_t hadb__backoff_ms(struct hadb_core *core, unsigned attempts)
{
    uint64_t bound = core->config.backoff_min_ms;
    for (unsigned i = 0; i < attempts && bound < core->config.backoff_max_ms; i++) {
        bound *= 2;
    }
    bound = HADB_MIN(bound, core->config.backoff_max_ms);
    /* Never zero: an endless loop of immediate attempts would starve everything else. */
    return core->config.jitter ? 1 + hadb__random_up_to(core, bound) : 0;
}

bool hadb__manifest_seen(struct hadb_step *s, const struct hadb_manifest_info *manifest)
{
    struct hadb_core *core = s->core;
    if (manifest->version > core->manifest_version) {
        core->manifest_version = manifest->version;
        core->swept_slot = HADB_MAX(core->swept_slot, manifest->swept_slot);
    }
    core->boundary_slot = HADB_MAX(core->boundary_slot, manifest->boundary_slot);
    return true;
}

void hadb_core_init(struct hadb_core *core, const struct hadb_core_config *config,
                    const struct hadb_owner *self, uint64_t seed)
{
    HADB_ASSERT(config->window >= 1 && config->window <= HADB_WINDOW_MAX);
    HADB_ASSERT(!hadb__no_owner(self));
    memset(core, 0, sizeof *core);
    core->config = *config;
    core->self = *self;
    core->rng = seed ? seed : 1;
    core->role = HADB_CORE_FOLLOWER;
    core->read_open = 1;
    core->next_at_ms = core->retry_at_ms = HADB_NEVER; /* until START */
}

static void start(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(core->next_at_ms == HADB_NEVER && core->role == HADB_CORE_FOLLOWER);
    HADB_ASSERT(ev->last_txid >= ev->pos.txid);
    core->view = ev->pos;
    core->local_txid = ev->last_txid;
    core->tail_term = hadb__has_tail(core) ? ev->last_term : 0;
    hadb__survey_start(core, ev->term, ev->slot);
    core->next_at_ms = s->now_ms;
    core->retry_at_ms = 0;
    struct hadb_action *action = hadb__act(s, HADB_ACT_ROLE);
    action->role = HADB_CORE_FOLLOWER;
    action->term = core->view.term;
    hadb__set_owner(s, &ev->owner);
    bool predecessor =
        hadb__same_id(&ev->owner.node, &core->self.node) && !hadb__no_owner(&ev->owner);
    if (predecessor && !hadb__rule(core, HADB_RULE_NEW_TERM_AT_START)) {
        hadb__own(s); /* mutant: goes on in the term of the process before */
        return;
    }
    core->start_reseal = predecessor; /* 4.12: no patience needed with one's own former life */
    if (predecessor) {
        hadb__arm_seal(s, 0);
    } else if (hadb__no_owner(&ev->owner)) {
        hadb__arm_seal(s, core->config.suspect_wait_ms);
    }
    if (core->view.term == 0 && core->view.slot == 0) {
        hadb__doubt(s, HADB_DOUBT_EMPTY);
    }
}

static void gated(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(core->gate_closing);
    core->gate_closing = false;
    core->local_txid = HADB_MAX(core->local_txid, ev->txid);
    if (hadb__has_tail(core) && core->tail_term == 0) {
        core->tail_term = core->view.term;
    }
}

/* A framed entry is for the owner (DATA, hand-off seal), the candidate (seal), or nobody any more. */
static void framed(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    if (ev->op == HADB_OP_SNAP) {
        hadb__snap_view(s, ev);
        return;
    }
    HADB_ASSERT(ev->op == HADB_OP_FRAME && core->framing);
    core->framing = false;
    if (core->frame_dead) {
        core->frame_dead = false;
        hadb__release(s, ev->handle, ev->view);
    } else if (core->phase == HADB_PH_SEAL_FRAME) {
        hadb__seal_framed(s, ev);
    } else {
        hadb__data_framed(s, ev);
    }
}

static void entry(struct hadb_step *s, const struct hadb_event *ev)
{
    if (ev->op >= HADB_OP_SLOT0) {
        hadb__slot_compared(s, ev);
    } else if (ev->op == HADB_OP_READ) {
        hadb__read_entry(s, ev);
    } else if (s->core->phase == HADB_PH_SEAL_COMPARE) {
        hadb__seal_compared(s, ev);
    } else {
        hadb__follow_entry(s, ev);
    }
}

static void manifest(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    if (ev->op >= HADB_OP_SLOT0 && ev->result != HADB_R_OK) {
        hadb__slot_guarded(s, ev);
        return;
    }
    if (ev->result == HADB_R_ABSENT) {
        hadb__halt(s, HADB_HALT_NO_MANIFEST);
        return;
    }
    if (ev->result == HADB_R_CORRUPT) {
        hadb__halt(s, HADB_HALT_CORRUPT);
        return;
    }
    if (ev->result == HADB_R_OK) {
        if (ev->op == HADB_OP_MAIN && ev->manifest.version < core->manifest_floor) {
            hadb__halt(s, HADB_HALT_ROLLBACK);
            return;
        }
        hadb__manifest_seen(s, &ev->manifest);
    }
    if (ev->op >= HADB_OP_SLOT0) {
        hadb__slot_guarded(s, ev);
    } else if (ev->op == HADB_OP_READ) {
        hadb__read_manifest(s, ev);
    } else if (ev->op == HADB_OP_SNAP) {
        hadb__snap_manifest(s, ev);
    } else if (core->phase == HADB_PH_BOUNDARY) {
        hadb__boundary_checked(s, ev);
    } else {
        hadb__follow_manifest(s, ev);
    }
}

static void created(struct hadb_step *s, const struct hadb_event *ev)
{
    if (ev->op >= HADB_OP_SLOT0) {
        hadb__slot_created(s, ev);
    } else {
        hadb__seal_created(s, ev);
    }
}

static void poke(struct hadb_step *s, const struct hadb_event *ev)
{
    (void)ev;
    if (hadb_core_leads(s->core)) {
        hadb__read_look(s);
    } else {
        s->core->poke = true;
    }
}

static void tick(struct hadb_step *s, const struct hadb_event *ev)
{
    (void)ev;
    hadb__slots_tick(s);
    hadb__handoff_tick(s);
    hadb__read_tick(s);
}

/* Answers that reach a halted machine only free what they carry. */
static void halted(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    if (ev->type == HADB_EV_GATED) {
        core->gate_closing = false;
        core->local_txid = HADB_MAX(core->local_txid, ev->txid);
    } else if (ev->type == HADB_EV_READ) {
        hadb__act(s, HADB_ACT_READ_JOIN)->round = 0;
    } else if (ev->type == HADB_EV_HANDOFF) {
        hadb__act(s, HADB_ACT_HANDOFF_DONE)->result = HADB_R_FAILED;
    } else if (ev->type == HADB_EV_CREATED && ev->op >= HADB_OP_SLOT0) {
        hadb__slot_created(s, ev);
    } else if (ev->type == HADB_EV_ENTRY && ev->op >= HADB_OP_SLOT0) {
        hadb__slot_compared(s, ev);
    } else if (ev->type == HADB_EV_MANIFEST && ev->op >= HADB_OP_SLOT0) {
        hadb__slot_guarded(s, ev);
    } else {
        hadb__release(s, ev->handle, ev->view);
    }
}

static void snapshot_wanted(struct hadb_step *s, const struct hadb_event *ev)
{
    (void)ev;
    s->core->snap_wanted = true;
}

static void local_failed(struct hadb_step *s, const struct hadb_event *ev)
{
    if (ev->result == HADB_R_LATER) {
        hadb__mark_later(s);
    } else {
        hadb__halt(s, ev->result == HADB_R_CORRUPT ? HADB_HALT_CORRUPT : HADB_HALT_LOCAL);
    }
}

static void stop(struct hadb_step *s, const struct hadb_event *ev)
{
    (void)ev;
    hadb__halt(s, HADB_HALT_STOPPED);
}

static void dispatch(struct hadb_step *s, const struct hadb_event *ev)
{
    static void (*const handlers[])(struct hadb_step *s, const struct hadb_event *ev) = {
        [HADB_EV_TICK] = tick,
        [HADB_EV_START] = start,
        [HADB_EV_ENTRY] = entry,
        [HADB_EV_MANIFEST] = manifest,
        [HADB_EV_SURVEYED] = hadb__surveyed,
        [HADB_EV_FRAMED] = framed,
        [HADB_EV_CREATED] = created,
        [HADB_EV_APPLIED] = hadb__follow_applied,
        [HADB_EV_REWOUND] = hadb__follow_rewound,
        [HADB_EV_RESTORED] = hadb__follow_restored,
        [HADB_EV_GATED] = gated,
        [HADB_EV_COMMITTED] = hadb__committed,
        [HADB_EV_READ] = hadb__read,
        [HADB_EV_OWNER] = hadb__liveness,
        [HADB_EV_POKE] = poke,
        [HADB_EV_STREAM] = hadb__stream_state,
        [HADB_EV_STREAM_ENTRY] = hadb__stream_entry,
        [HADB_EV_STREAM_MARK] = hadb__stream_mark,
        [HADB_EV_HANDOFF] = hadb__handoff,
        [HADB_EV_READY] = hadb__handoff_ready,
        [HADB_EV_SNAPSHOT] = snapshot_wanted,
        [HADB_EV_UPLOADED] = hadb__snap_uploaded,
        [HADB_EV_CAS] = hadb__snap_cas,
        [HADB_EV_DELETED] = hadb__snap_deleted,
        [HADB_EV_LOCAL] = local_failed,
        [HADB_EV_PROBE] = hadb__probed,
        [HADB_EV_STOP] = stop,
        [HADB_EV_SEAL_TURN] = hadb__seal_turn,
    };
    if (ev->op == HADB_OP_MAIN) {
        HADB_ASSERT(s->core->main_busy);
        s->core->main_busy = false;
    }
    if (s->core->role == HADB_CORE_HALTED) {
        halted(s, ev);
        return;
    }
    HADB_ASSERT((size_t)ev->type < HADB_LEN(handlers) && handlers[ev->type]);
    handlers[ev->type](s, ev);
}

void hadb_core_step(struct hadb_core *core, const struct hadb_event *event, uint64_t now_ms,
                    struct hadb_actions *actions)
{
    struct hadb_step s = {.core = core, .now_ms = now_ms, .out = actions};
    actions->len = 0;
    dispatch(&s, event);
    if (core->role != HADB_CORE_HALTED) {
        hadb__pump(&s);
        hadb__barred_pump(&s);
        hadb__handoff_pump(&s);
        hadb__read_pump(&s);
        hadb__snap_pump(&s);
        hadb__seal_pump(&s);
        hadb__follow(&s);
    }
    hadb_core_check(core);
}

uint64_t hadb_core_deadline(const struct hadb_core *core)
{
    if (core->role == HADB_CORE_HALTED) {
        return HADB_NEVER;
    }
    uint64_t at = HADB_MIN(hadb__read_deadline(core), hadb__snap_deadline(core));
    at = HADB_MIN(at, hadb__owner_deadline(core));
    return HADB_MIN(at, hadb__follow_deadline(core));
}

void hadb_core_nonce(const struct hadb_owner *self, uint64_t seed, struct hadb_id *out)
{
    /* The incarnation is random, so adding a counter keeps nonces apart between processes. */
    *out = self->incarnation;
    for (int i = 0; i < 8; i++) {
        out->b[i] ^= (uint8_t)(seed >> (8 * i));
    }
}

void hadb_core_check(const struct hadb_core *core)
{
    HADB_ASSERT(core->local_txid >= core->view.txid || !hadb__rule(core, HADB_RULE_PREFIX_ACK));
    bool leads = hadb_core_leads(core);
    HADB_ASSERT(!core->gate_open || leads);
    HADB_ASSERT(!core->stream_ahead || (core->main_busy && core->phase == HADB_PH_GET));
    HADB_ASSERT(!leads || core->phase == HADB_PH_LEAD || core->phase == HADB_PH_ASK_READY ||
                core->phase == HADB_PH_DRAIN);
    HADB_ASSERT(!leads || core->framed_slot >= core->view.slot);
    HADB_ASSERT(core->role == HADB_CORE_HALTED ? core->halt != HADB_HALT_NONE
                                               : core->halt == HADB_HALT_NONE);
    HADB_ASSERT(core->role != HADB_CORE_CANDIDATE || !core->config.never_lead);
}

bool hadb_core_may_lead(const struct hadb_core *core)
{
    return !core->config.never_lead && !core->barred;
}

bool hadb_core_leads(const struct hadb_core *core)
{
    return core->role == HADB_CORE_OWNER || core->role == HADB_CORE_DRAINING;
}

const char *hadb_core_role_name(enum hadb_core_role role)
{
    static const char *const names[] = {"follower", "candidate", "leader",
                                        "draining", "fenced",    "halted"};
    HADB_ASSERT((size_t)role < HADB_LEN(names));
    return names[role];
}

const char *hadb_core_halt_name(enum hadb_halt halt)
{
    static const char *const names[] = {"none",
                                        "corrupt object",
                                        "forked history",
                                        "manifest missing",
                                        "no usable snapshot",
                                        "storage rolled back",
                                        "hole in the log",
                                        "local engine failed",
                                        "database was retired",
                                        "stopped"};
    HADB_ASSERT((size_t)halt < HADB_LEN(names));
    return names[halt];
}
