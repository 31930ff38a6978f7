/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshot, boundary, deletion (4.7), in this order and never another.
 *
 * Owns       op SNAP and snap_*.
 * Invariants a snapshot holds exactly the transactions up to a durable slot; it is uploaded and read back before
 *            a manifest names it; slots are deleted only after that manifest was seen written; delete last.
 * Happy path wanted -> view (bound to a framed slot, or to the applied state) -> slot durable -> UPLOAD ->
 *            GET_MANIFEST -> CAS_MANIFEST -> grace -> DELETE.
 * Failure    manifest written by another: read it and plan again. Unknown: read it; own nonce -> done, else
 *            again. Leadership lost before the slot was durable: the view is dropped.
 */
#include "core/core_private.h"

enum snap_phase {
    SNAP_IDLE,
    SNAP_FRAME,    /* waiting for a frame to bind a view to */
    SNAP_VIEW,     /* VIEW unanswered */
    SNAP_DURABLE,  /* have a view at snap_pos; its slot is not durable yet */
    SNAP_UPLOAD,   /* UPLOAD unanswered */
    SNAP_MANIFEST, /* GET_MANIFEST unanswered */
    SNAP_CAS,      /* CAS_MANIFEST unanswered */
    SNAP_REREAD,   /* … its outcome is unknown: GET_MANIFEST unanswered */
    SNAP_WAIT,     /* no answer: manifest again at snap_at_ms */
    SNAP_WAIT_CAS, /* the same after a manifest write of unknown outcome */
    SNAP_GRACE,    /* published: DELETE at snap_at_ms */
    SNAP_DELETE,   /* DELETE unanswered */
    SNAP_PAUSE,    /* no view could be had: the next one not before snap_at_ms */
};

static struct hadb_action *act(struct hadb_step *s, enum hadb_action_type type,
                               enum snap_phase phase)
{
    struct hadb_action *action = hadb__act(s, type);
    action->op = HADB_OP_SNAP;
    s->core->snap_phase = (uint8_t)phase;
    return action;
}

static void delete_below(struct hadb_step *s, uint64_t slot)
{
    struct hadb_action *action = act(s, HADB_ACT_DELETE, SNAP_DELETE);
    s->core->snap_delete_slot = slot;
    action->slot = slot;
    action->flag = !hadb__rule(s->core, HADB_RULE_KEEP_SEALS);
}

bool hadb__snap_wants_view(const struct hadb_core *core)
{
    return core->snap_phase == SNAP_FRAME;
}

/* Is a snapshot due, by policy or by request? */
static bool due(const struct hadb_core *core)
{
    uint64_t last = HADB_MAX(core->boundary_slot, core->snap_last_slot);
    if (core->view.slot <= last) {
        return false;
    }
    bool by_policy = core->config.snapshot_slots != 0 && hadb_core_leads(core) &&
                     core->view.slot - last >= core->config.snapshot_slots;
    return core->snap_wanted || by_policy;
}

/* The owner with commits on their way binds the view to the next frame; everybody else takes what is applied. */
static void start(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    bool busy_owner = hadb_core_leads(core) && (core->framing || hadb__has_tail(core));
    if (busy_owner) {
        core->snap_phase = SNAP_FRAME;
    } else if (!hadb__has_tail(core) || !hadb__rule(core, HADB_RULE_SNAPSHOT_DURABLE)) {
        act(s, HADB_ACT_VIEW, SNAP_VIEW);
    }
}

static void upload(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    struct hadb_action *action = act(s, HADB_ACT_UPLOAD, SNAP_UPLOAD);
    action->view = core->snap_view;
    action->pos = core->snap_pos;
    core->snap_view = 0;
}

static void idle(struct hadb_step *s)
{
    if (due(s->core)) {
        start(s);
    } else {
        s->core->snap_wanted = false;
    }
}

void hadb__snap_pump(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    switch ((enum snap_phase)core->snap_phase) {
    case SNAP_IDLE:
        idle(s);
        break;
    case SNAP_PAUSE:
        if (s->now_ms >= core->snap_at_ms) {
            core->snap_phase = SNAP_IDLE;
            idle(s);
        }
        break;
    case SNAP_FRAME: /* no more frames are coming: take the view directly */
        if (!hadb_core_leads(core) || (!core->framing && !hadb__has_tail(core))) {
            core->snap_phase = SNAP_IDLE;
            idle(s); /* in this step: the next one may bring a commit, and so on for ever */
        }
        break;
    case SNAP_DURABLE:
        if (core->view.slot >= core->snap_pos.slot ||
            !hadb__rule(core, HADB_RULE_SNAPSHOT_DURABLE)) {
            upload(s);
        }
        break;
    case SNAP_WAIT:
    case SNAP_WAIT_CAS:
        if (s->now_ms >= core->snap_at_ms) {
            act(s, HADB_ACT_GET_MANIFEST,
                core->snap_phase == SNAP_WAIT ? SNAP_MANIFEST : SNAP_REREAD);
        }
        break;
    case SNAP_GRACE:
        if (s->now_ms >= core->snap_at_ms) {
            delete_below(s, core->snap_delete_slot);
        }
        break;
    case SNAP_VIEW:
    case SNAP_UPLOAD:
    case SNAP_MANIFEST:
    case SNAP_CAS:
    case SNAP_REREAD:
    case SNAP_DELETE:
        break;
    }
}

static void later(struct hadb_step *s, enum snap_phase phase)
{
    struct hadb_core *core = s->core;
    core->snap_phase = (uint8_t)phase;
    core->snap_at_ms = s->now_ms + hadb__backoff_ms(core, 4u + core->snap_attempts);
    if (core->config.jitter && core->snap_attempts < 16) {
        core->snap_attempts++;
    }
}

static void have_view(struct hadb_step *s, uint64_t view, const struct hadb_pos *pos)
{
    struct hadb_core *core = s->core;
    core->snap_wanted = false;
    core->snap_attempts = 0;
    core->snap_view = view;
    core->snap_pos = *pos;
    core->snap_phase = SNAP_DURABLE;
}

void hadb__snap_view(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(core->snap_phase == SNAP_VIEW);
    later(s, SNAP_PAUSE);
    if (ev->result != HADB_R_OK) {
        core->snap_wanted = false;
        return;
    }
    /* A view with transactions above the mark could hold some that are rewound later. */
    bool whole = ev->txid == ev->pos.txid || !hadb__rule(core, HADB_RULE_SNAPSHOT_DURABLE);
    if (!whole || ev->pos.slot <= core->boundary_slot || ev->pos.slot > core->view.slot) {
        hadb__release(s, 0, ev->view);
        return;
    }
    have_view(s, ev->view, &ev->pos);
}

void hadb__snap_framed(struct hadb_step *s, uint64_t view, const struct hadb_pos *pos)
{
    if (view == 0) {
        return;
    }
    if (s->core->snap_phase == SNAP_FRAME) {
        have_view(s, view, pos);
    } else {
        hadb__release(s, 0, view);
    }
}

void hadb__snap_drop(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    if (core->snap_phase == SNAP_FRAME || core->snap_phase == SNAP_DURABLE) {
        hadb__release(s, 0, core->snap_view);
        core->snap_view = 0;
        core->snap_phase = SNAP_IDLE;
    }
}

void hadb__snap_halt(struct hadb_step *s)
{
    hadb__snap_drop(s);
    hadb__release(s, s->core->snap_handle, 0);
    s->core->snap_handle = 0;
}

static void finish(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    hadb__release(s, core->snap_handle, 0);
    core->snap_handle = 0;
    core->snap_attempts = 0;
    core->snap_phase = SNAP_IDLE;
}

void hadb__snap_uploaded(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(core->snap_phase == SNAP_UPLOAD);
    core->snap_last_slot = HADB_MAX(core->snap_last_slot, core->snap_pos.slot);
    core->snap_handle = ev->handle;
    if (ev->result != HADB_R_OK) {
        finish(s); /* tried again after as many slots as it took this time */
    } else if (!hadb__rule(core, HADB_RULE_DELETE_LAST)) {
        delete_below(s, core->snap_pos.slot); /* mutant: deletes what no manifest covers yet */
    } else {
        act(s, HADB_ACT_GET_MANIFEST, SNAP_MANIFEST);
    }
}

static void published(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    core->boundary_slot = HADB_MAX(core->boundary_slot, core->snap_pos.slot);
    core->snap_delete_slot = core->snap_pos.slot;
    finish(s);
    core->snap_phase = SNAP_GRACE;
    core->snap_at_ms = s->now_ms + core->config.grace_ms;
}

void hadb__snap_manifest(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    bool reread = core->snap_phase == SNAP_REREAD;
    HADB_ASSERT(reread || core->snap_phase == SNAP_MANIFEST);
    if (ev->result != HADB_R_OK) {
        later(s, reread ? SNAP_WAIT_CAS : SNAP_WAIT);
        return;
    }
    struct hadb_id own;
    hadb_core_nonce(&core->self, core->snap_nonce, &own);
    bool covers = ev->manifest.boundary_slot >= core->snap_pos.slot; /* else a twin's (4.5) */
    if (reread && covers && hadb__same_id(&own, &ev->manifest.nonce)) {
        published(s);
        return;
    }
    if (covers) {
        finish(s); /* another node's snapshot is as good or better; ours stays unreferenced */
        return;
    }
    struct hadb_action *action = act(s, HADB_ACT_CAS_MANIFEST, SNAP_CAS);
    hadb_core_nonce(&core->self, ++core->snap_nonce, &action->nonce);
    action->handle = core->snap_handle;
    action->slot = core->snap_pos.slot;
    action->term = core->snap_pos.term;
    action->swept_slot = core->swept_slot;
}

void hadb__snap_cas(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(core->snap_phase == SNAP_CAS);
    bool taken_for_done = ev->result == HADB_R_UNKNOWN && !hadb__rule(core, HADB_RULE_CAS_REREAD);
    if (ev->result == HADB_R_OK || taken_for_done) {
        published(s);
    } else if (ev->result == HADB_R_FAILED) {
        finish(s);
    } else if (ev->result == HADB_R_LOST) { /* plan again on the new one */
        act(s, HADB_ACT_GET_MANIFEST, SNAP_MANIFEST);
    } else if (core->snap_attempts == 0 && core->config.jitter) { /* is it ours? */
        core->snap_attempts = 1;
        act(s, HADB_ACT_GET_MANIFEST, SNAP_REREAD);
    } else {
        later(s, SNAP_WAIT_CAS); /* the same, with growing pauses */
    }
}

void hadb__snap_deleted(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(core->snap_phase == SNAP_DELETE);
    if (ev->result == HADB_R_OK) {
        core->swept_slot = HADB_MAX(core->swept_slot, core->snap_delete_slot);
    }
    if (core->snap_handle != 0) { /* mutant of DELETE_LAST: the manifest comes afterwards */
        act(s, HADB_ACT_GET_MANIFEST, SNAP_MANIFEST);
        return;
    }
    core->snap_phase = SNAP_IDLE;
}

void hadb__snap_sweep(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    if (core->snap_phase == SNAP_IDLE && core->swept_slot < core->boundary_slot &&
        core->config.snapshot_slots != 0) {
        core->snap_phase = SNAP_GRACE;
        core->snap_delete_slot = core->boundary_slot;
        core->snap_at_ms = s->now_ms + core->config.grace_ms;
    }
}

uint64_t hadb__snap_deadline(const struct hadb_core *core)
{
    bool timed = core->snap_phase == SNAP_WAIT || core->snap_phase == SNAP_WAIT_CAS ||
                 core->snap_phase == SNAP_GRACE || core->snap_phase == SNAP_PAUSE;
    return timed ? core->snap_at_ms : HADB_NEVER;
}
