/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linearizable reads in rounds (4.9): one proof covers every read that began before the proof was sent.
 *
 * Owns       read_open, read_waiting, read_proven, read_sent, and op READ of an owner.
 * Invariants a round is proven by a request that was first sent after all its reads began: a slot of the owner
 *            that becomes prefix-durable, or a 404 at the first non-durable slot, backed by the boundary
 *            if that slot was ever sent; on a follower a 404 at its tip, backed by the boundary.
 * Happy path under load the next slot proves it for free; an idle owner asks with one GET.
 * Failure    the slot that would prove it is held back, or its reply is missing: asked after a while. A foreign
 *            object: fenced, the reads fail as unavailable. No answer: asked again.
 */
#include "core/core_private.h"

/* A slot that is to prove a round may take as long as so many usual creates before a GET is sent. */
#define READ_PATIENCE_CREATES 3u
#define READ_PATIENCE_MIN_MS 10u
#define READ_PATIENCE_MAX_MS 1000u

enum read_phase {
    READ_IDLE,
    READ_GET,      /* GET of the first non-durable slot is unanswered */
    READ_MANIFEST, /* … was a 404: is it below the boundary? */
    READ_WAIT,     /* no answer: the GET again at read_at_ms */
    READ_DEAD,     /* leadership was lost while op READ is unanswered */
};

static bool unproven(const struct hadb_core *core)
{
    return core->read_waiting || core->read_open - 1 > core->read_proven;
}

/* From now on a slot of its own has a while to prove what is open. */
static void be_patient(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    uint64_t usual_ms = (uint64_t)core->create_ms_x8 * READ_PATIENCE_CREATES / 8;
    uint64_t ms = HADB_MIN(HADB_MAX(usual_ms, READ_PATIENCE_MIN_MS), READ_PATIENCE_MAX_MS);
    core->read_at_ms = unproven(core) ? s->now_ms + (core->config.jitter ? ms : 0) : 0;
}

void hadb__read_proven(struct hadb_step *s, uint64_t round)
{
    struct hadb_core *core = s->core;
    struct hadb_action *action = hadb__act(s, HADB_ACT_READ_OK);
    action->round = round;
    action->txid = core->view.txid;
    core->read_proven = HADB_MAX(core->read_proven, round);
    if (core->read_phase == READ_WAIT && !unproven(core)) {
        core->read_phase = READ_IDLE; /* nobody needs that answer any more */
        core->read_sent = 0;
        core->read_attempts = 0;
    }
    if (hadb_core_leads(core) && core->read_phase == READ_IDLE) {
        be_patient(s);
    }
}

void hadb__read_fail(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    hadb__act(s, HADB_ACT_READ_FAIL);
    core->read_waiting = false;
    core->read_sent = 0;
    core->read_attempts = 0;
    core->read_at_ms = 0;
    core->read_proven = core->read_open++;
    bool unanswered = core->read_phase == READ_GET || core->read_phase == READ_MANIFEST ||
                      core->read_phase == READ_DEAD;
    core->read_phase = unanswered ? READ_DEAD : READ_IDLE;
}

/* The open round waits for a proof of this owner. */
static void await(struct hadb_step *s)
{
    bool first = !unproven(s->core);
    s->core->read_waiting = true;
    if (first && s->core->read_phase == READ_IDLE) {
        be_patient(s);
    }
}

void hadb__read_look(struct hadb_step *s)
{
    await(s); /* a round without members: its proof tells */
}

void hadb__read_own(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    core->read_waiting = core->read_waiting || core->read_sent != 0;
    core->read_sent = 0;
    be_patient(s);
}

static void join(struct hadb_step *s, uint64_t round)
{
    hadb__act(s, HADB_ACT_READ_JOIN)->round = round;
}

/* The newest slot in flight. */
static struct hadb_slot *last_sent(struct hadb_core *core)
{
    struct hadb_slot *last = NULL;
    for (uint64_t slot = core->view.slot + 1; slot <= core->framed_slot; slot++) {
        struct hadb_slot *w = hadb__slot_find(core, slot);
        last = w != NULL ? w : last;
    }
    return last;
}

/* The mutants of an owner: what was sent before the read began proves it. True: it joined. */
static bool join_too_late(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    if (!hadb__rule(core, HADB_RULE_READ_PROOF)) {
        join(s, core->read_open);
        hadb__read_proven(s, core->read_open++);
        return true;
    }
    if (!hadb__rule(core, HADB_RULE_READ_OWNER_AFTER) && core->read_sent > core->read_proven) {
        join(s, core->read_sent);
        return true;
    }
    struct hadb_slot *w = last_sent(core);
    if (!hadb__rule(core, HADB_RULE_READ_SLOT_AFTER) && w != NULL) {
        w->round = core->read_open++;
        join(s, w->round);
        return true;
    }
    return false;
}

/*
 * Bounded reads (4.9): only a proof that was asked for here tells how fresh the state is. What the owner says on
 * its stream does not: it may have been replaced, or its words may have been long on their way.
 */
void hadb__fresh(struct hadb_step *s, uint64_t sent_ms)
{
    bool from_sending = hadb__rule(s->core, HADB_RULE_FRESH_FROM_SENDING);
    s->core->fresh_at_ms = HADB_MAX(s->core->fresh_at_ms, from_sending ? sent_ms : s->now_ms);
}

static bool fresh_enough(const struct hadb_core *core, uint64_t now_ms, uint64_t max_lag_ms)
{
    if (max_lag_ms == 0 || core->fresh_at_ms == 0) {
        return false;
    }
    uint64_t age_ms = now_ms - core->fresh_at_ms;
    return age_ms + age_ms * core->config.rho_percent / 100 <= max_lag_ms;
}

void hadb__read(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    bool leads = hadb_core_leads(core);
    if (core->role == HADB_CORE_FENCED || (!leads && hadb__has_tail(core))) {
        join(s, 0); /* what is here could still be rewound */
        return;
    }
    if (fresh_enough(core, s->now_ms, ev->max_lag_ms)) {
        join(s, HADB_ROUND_NOW);
        return;
    }
    if (leads) {
        if (!join_too_late(s)) {
            join(s, core->read_open);
            await(s);
        }
        return;
    }
    if (core->read_sent != 0 && !hadb__rule(core, HADB_RULE_READ_AFTER)) {
        join(s, core->read_sent); /* mutant: rides on a request that is already under way */
        return;
    }
    core->read_waiting = true;
    join(s, core->read_open);
}

static void ask(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    core->read_open += core->read_waiting; /* whoever reads from now on began too late for this */
    core->read_waiting = false;
    core->read_sent = core->read_open - 1;
    core->read_phase = READ_GET;
    core->read_at_ms = 0;
    core->read_slot = core->view.slot + 1;
    core->get_sent_ms = s->now_ms;
    struct hadb_action *action = hadb__act(s, HADB_ACT_GET);
    action->op = HADB_OP_READ;
    action->term = core->view.term;
    action->slot = core->read_slot;
}

void hadb__read_pump(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    if (!hadb_core_leads(core)) {
        return;
    }
    if (core->read_phase == READ_WAIT && s->now_ms >= core->read_at_ms) {
        ask(s);
        return;
    }
    /* A slot that is yet to be framed will prove the open round by itself. */
    bool slot_will_prove =
        (core->framing && core->phase != HADB_PH_DRAIN) || core->local_txid > core->framed_txid;
    if (core->read_phase == READ_IDLE && core->read_waiting && !slot_will_prove) {
        ask(s);
    }
}

/* Patience is over: the slot is held back by those before it, or its own reply does not come. */
void hadb__read_tick(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    if (hadb_core_leads(core) && core->read_phase == READ_IDLE && unproven(core) &&
        s->now_ms >= core->read_at_ms) {
        ask(s);
    }
}

static void proven(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    uint64_t round = core->read_sent;
    core->read_phase = READ_IDLE;
    core->read_attempts = 0;
    core->read_sent = 0;
    hadb__fresh(s, core->get_sent_ms);
    hadb__read_proven(s, round);
}

/* No proof. What was asked for joins the open round, unless a slot in flight, or proven, carries it. */
static void not_proven(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    uint64_t carried = core->read_proven;
    for (unsigned i = 0; i < HADB_WINDOW_MAX; i++) {
        carried =
            HADB_MAX(carried, core->window[i].state != HADB_SLOT_DEAD ? core->window[i].round : 0);
    }
    core->read_waiting = core->read_waiting || core->read_sent > carried;
    core->read_phase = READ_IDLE;
    core->read_attempts = 0;
    core->read_sent = 0;
    be_patient(s);
}

static void ask_later(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    core->read_phase = READ_WAIT;
    core->read_at_ms = s->now_ms + hadb__backoff_ms(core, core->read_attempts);
    if (core->config.jitter && core->read_attempts < 16) {
        core->read_attempts++;
    }
}

/* Something is there: ours (then the slot is durable, and may be the proof itself), or the term is over. */
static void found(struct hadb_step *s, const struct hadb_hash *hash)
{
    struct hadb_core *core = s->core;
    if (core->read_slot > core->view.slot) {
        struct hadb_slot *w = hadb__slot_find(core, core->read_slot);
        core->read_phase = READ_IDLE;
        if (w == NULL || !hadb__same_hash(&w->hash, hash)) {
            hadb__fence(s);
            return;
        }
        hadb__slot_durable(s, w);
        if (!hadb_core_leads(core)) { /* it was the hand-off seal */
            return;
        }
        if (core->read_slot > core->view.slot) { /* its guard is not done */
            ask_later(s);
            return;
        }
    }
    not_proven(s);
}

/* Was the slot ever sent, by this process or by a twin? Then it may have been written and collected. */
static bool maybe_collected(const struct hadb_core *core)
{
    return core->read_slot <= core->framed_slot || hadb__clone_guard(core);
}

void hadb__read_entry(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    hadb__release(s, ev->handle, 0);
    if (core->read_phase == READ_DEAD) {
        core->read_phase = READ_IDLE;
        return;
    }
    HADB_ASSERT(core->read_phase == READ_GET && hadb_core_leads(core));
    if (ev->result == HADB_R_OK) {
        found(s, &ev->entry.hash);
    } else if (ev->result == HADB_R_CORRUPT) {
        hadb__halt(s, HADB_HALT_CORRUPT);
    } else if (core->read_sent <= core->read_proven) {
        not_proven(s); /* a slot was quicker */
    } else if (ev->result != HADB_R_ABSENT) {
        ask_later(s);
    } else if (maybe_collected(core) && hadb__rule(core, HADB_RULE_READ_OWNER_BOUNDARY)) {
        core->read_phase = READ_MANIFEST; /* it may have been written and collected */
        hadb__act(s, HADB_ACT_GET_MANIFEST)->op = HADB_OP_READ;
    } else {
        proven(s);
    }
}

void hadb__read_manifest(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    if (core->read_phase == READ_DEAD) {
        core->read_phase = READ_IDLE;
        return;
    }
    HADB_ASSERT(core->read_phase == READ_MANIFEST && hadb_core_leads(core));
    if (core->read_slot <= core->view.slot || core->read_sent <= core->read_proven) {
        not_proven(s); /* the slot was on its way, and is there now */
    } else if (ev->result != HADB_R_OK) {
        ask_later(s);
    } else if (ev->manifest.boundary_slot < core->read_slot) {
        proven(s);
    } else {
        core->read_phase = READ_IDLE;
        hadb__fence(
            s); /* others know more of this term than its owner: look before serving anything */
    }
}

uint64_t hadb__read_deadline(const struct hadb_core *core)
{
    bool asks = core->read_phase == READ_WAIT || (core->read_phase == READ_IDLE && unproven(core));
    return hadb_core_leads(core) && asks ? core->read_at_ms : HADB_NEVER;
}
