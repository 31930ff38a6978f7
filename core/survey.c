/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 7 of 8: is the first missing object the end of the log, or a hole in it (4.4.1, 4.8)?
 *
 * Owns       survey and own: once per opening, and again after a restore, the follower that meets
 *            its first 404 has the host look around: one listing behind the missing object, and the object
 *            that this node's own position comes from, if nothing has linked to it yet.
 * Invariants nobody seals and no read is proven before that; a hole is only called one if the object was
 *            surely in storage before the listing, is absent in a GET sent after it, and lies above the
 *            boundary of a manifest read after that: on a store that keeps S1 to S4 this cannot be.
 * Happy path 404 -> SURVEY -> nothing behind -> tip.
 * Failure    something behind: GET again, its owner may be at work. Still absent: lost for sure -> GAP;
 *            else it may be what a dead owner never finished (the prefix rule): the tip, as before.
 *            Own object gone or another: the store was rolled back, or forked -> halt.
 */
#include "core/core_private.h"

void hadb__survey_restart(struct hadb_core *core)
{
    core->survey = HADB_SURVEY_DUE;
    core->own = HADB_OWN_PROVEN;
}

void hadb__survey_moved(struct hadb_core *core)
{
    if (core->survey != HADB_SURVEY_DONE) {
        core->survey = HADB_SURVEY_DUE;
    }
    core->own = HADB_OWN_PROVEN; /* the entry links to it */
}

void hadb__survey_start(struct hadb_core *core, uint64_t term, uint64_t slot)
{
    bool is_seal = term + 1 == core->view.term && slot == core->view.slot + 1;
    bool is_data = term == core->view.term && slot == core->view.slot && slot != 0;
    core->survey = HADB_SURVEY_DUE;
    core->own = is_seal ? HADB_OWN_SEAL : is_data ? HADB_OWN_DATA : HADB_OWN_PROVEN;
}

void hadb_core_own_place(const struct hadb_core *core, uint64_t *term, uint64_t *slot)
{
    *term = *slot = 0;
    if (core->own == HADB_OWN_DATA) {
        *term = core->view.term;
        *slot = core->view.slot;
    } else if (core->own == HADB_OWN_SEAL) {
        *term = core->view.term - 1;
        *slot = core->view.slot + 1;
    }
}

bool hadb__survey_absent(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    switch ((enum hadb_survey)core->survey) {
    case HADB_SURVEY_DUE:
        hadb__main_start(s, HADB_PH_SURVEY);
        return true;
    case HADB_SURVEY_LOST:
        hadb__doubt(s, HADB_DOUBT_GAP);
        return true;
    case HADB_SURVEY_HELD:
        core->survey = HADB_SURVEY_DONE;
        return false;
    case HADB_SURVEY_DONE:
        return false;
    }
    return false;
}

/* Does the last object behind the missing one prove that this had been durable? */
static bool proves_loss(const struct hadb_core *core, const struct hadb_event *ev)
{
    uint64_t missing = core->view.slot + 1;
    if (ev->entry.slot < missing) { /* a stray seal of who had not seen the boundary */
        return false;
    }
    return ev->entry.term > core->view.term || /* its seal was made behind it, or is it */
           ev->entry.slot >= missing + HADB_WINDOW_MAX || /* no window reaches so far */
           ev->entry.kind == HADB_CORE_SEAL ||            /* made at the tip, of a flushed term */
           (ev->entry.kind == HADB_CORE_DATA && ev->durable_slot >= missing);
}

static enum hadb_doubt own_doubt(const struct hadb_core *core, const struct hadb_event *ev)
{
    if (core->own == HADB_OWN_PROVEN || !hadb__rule(core, HADB_RULE_OWN_OBJECT)) {
        return HADB_DOUBT_NONE;
    }
    if (ev->own == HADB_R_OK) {
        return hadb__same_hash(&ev->entry.prev, &core->view.hash) ? HADB_DOUBT_NONE
                                                                  : HADB_DOUBT_OWN_FORK;
    }
    return ev->own == HADB_R_ABSENT ? HADB_DOUBT_OWN_ABSENT : HADB_DOUBT_OWN_CORRUPT;
}

void hadb__surveyed(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(core->phase == HADB_PH_SURVEY);
    if (ev->result != HADB_R_OK) {
        hadb__main_later(s);
        return;
    }
    enum hadb_doubt why = own_doubt(core, ev);
    if (why != HADB_DOUBT_NONE) {
        hadb__doubt(s, why);
        return;
    }
    core->own = HADB_OWN_PROVEN;
    if (ev->entry.slot == 0 || !hadb__rule(core, HADB_RULE_GAP_CHECK)) {
        core->survey = HADB_SURVEY_DONE;
        hadb__at_tip(s);
        return;
    }
    core->survey = proves_loss(core, ev) ? HADB_SURVEY_LOST : HADB_SURVEY_HELD;
    hadb__main_start(s, HADB_PH_GET);
}
