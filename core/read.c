/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linearizable reads in rounds (4.9): one proof covers every read that began before the proof was sent.
 *
 * Owns       read_open, read_waiting, read_sent, and op READ of an owner.
 * Invariants a round is proven by a request that was first sent after all its reads began: a slot of the owner
 *            that becomes prefix-durable, or a 404 at the first non-durable slot, backed by the boundary
 *            if that slot was ever sent; on a follower a 404 at its tip, backed by the boundary.
 * Happy path under load the next slot proves it for free; an idle owner asks with one GET.
 * Failure    a foreign object: fenced, the reads fail as unavailable. No answer: asked again.
 */
#include "core/core_private.h"

enum read_phase {
    READ_IDLE,
    READ_GET,      /* GET of the first non-durable slot is unanswered */
    READ_MANIFEST, /* … was a 404: is it below the boundary? */
    READ_WAIT,     /* no answer: the GET again at read_at_ms */
    READ_DEAD,     /* leadership was lost while op READ is unanswered */
};

void hadb__read_proven(struct hadb_step *s, uint64_t round)
{
    struct hadb_action *action = hadb__act(s, HADB_ACT_READ_OK);
    action->round = round;
    action->txid = s->core->view.txid;
}

void hadb__read_fail(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    hadb__act(s, HADB_ACT_READ_FAIL);
    core->read_waiting = false;
    core->read_sent = 0;
    core->read_attempts = 0;
    core->read_open++;
    bool unanswered = core->read_phase == READ_GET || core->read_phase == READ_MANIFEST ||
                      core->read_phase == READ_DEAD;
    core->read_phase = unanswered ? READ_DEAD : READ_IDLE;
}

static void join(struct hadb_step *s, uint64_t round)
{
    hadb__act(s, HADB_ACT_READ_JOIN)->round = round;
}

void hadb__read(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    bool leads = hadb_core_leads(core);
    if (core->role == HADB_CORE_FENCED || (!leads && hadb__has_tail(core))) {
        join(s, 0); /* what is here could still be rewound */
        return;
    }
    if (leads && !hadb__rule(core, HADB_RULE_READ_PROOF)) {
        join(s, core->read_open);
        hadb__read_proven(s, core->read_open++);
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
    if (core->read_waiting) {
        core->read_sent = core->read_open++;
        core->read_waiting = false;
    }
    core->read_phase = READ_GET;
    core->read_slot = core->view.slot + 1;
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

static void proven(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    core->read_phase = READ_IDLE;
    core->read_attempts = 0;
    uint64_t round = core->read_sent;
    core->read_sent = 0;
    hadb__read_proven(s, round);
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

/* Something is there: ours (then the slot is durable and the next one is asked), or the term is over. */
static void found(struct hadb_step *s, const struct hadb_hash *hash)
{
    struct hadb_core *core = s->core;
    if (core->read_slot > core->view.slot) {
        struct hadb_slot *w = hadb__slot_find(core, core->read_slot);
        if (w == NULL || !hadb__same_hash(&w->hash, hash)) {
            core->read_phase = READ_IDLE;
            hadb__fence(s);
            return;
        }
        core->read_phase = READ_IDLE;
        hadb__slot_durable(s, w);
        if (!hadb_core_leads(core)) { /* it was the hand-off seal */
            return;
        }
    }
    ask(s);
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
    } else if (ev->result != HADB_R_ABSENT) {
        ask_later(s);
    } else if (core->read_slot <= core->framed_slot && hadb__rule(core, HADB_RULE_READ_BOUNDARY)) {
        core->read_phase = READ_MANIFEST; /* sent once: it may have been written and collected */
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
    if (ev->result != HADB_R_OK) {
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
    return hadb_core_leads(core) && core->read_phase == READ_WAIT ? core->read_at_ms : HADB_NEVER;
}
