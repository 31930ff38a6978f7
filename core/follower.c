/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 7 of 8, the deciding half: read the next entry, verify it, apply it, one after the other.
 *
 * Owns       op MAIN while this process does not lead: phases IDLE to RESTORE (SURVEY is core/survey.c's).
 * Invariants the view moves only by an applied entry or a restored snapshot (4.8), so a follower never
 *            rewinds anything but its own unshipped tail; a 404 is the tip only if the boundary says so (4.7).
 * Happy path GET -> entry -> APPLY -> next GET … -> 404 -> manifest -> IDLE until poll, poke or stream.
 * Failure    no answer, no memory, no room: again after a back-off. Corrupt or forked: first ask whether we are behind
 *            the boundary (then restore), else halt. Foreign seal or diverging entry with a tail: REWIND.
 */
#include "core/core_private.h"

static void ask_get(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    struct hadb_action *action = hadb__act(s, HADB_ACT_GET);
    action->op = HADB_OP_MAIN;
    action->term = core->view.term;
    action->slot = core->view.slot + 1;
    if (core->phase == HADB_PH_SEAL_COMPARE) {
        return;
    }
    core->poke = false;
    core->get_sent_ms = s->now_ms;
    if (core->read_waiting) { /* this request is sent after those reads began (4.9) */
        core->read_sent = core->read_open++;
        core->read_waiting = false;
    }
}

static void ask_pending(struct hadb_step *s, enum hadb_action_type type)
{
    struct hadb_core *core = s->core;
    struct hadb_action *action = hadb__act(s, type);
    action->op = HADB_OP_MAIN;
    action->handle = core->pending_handle;
    action->entry = core->pending;
    action->term = core->pending.term;
    action->slot = core->pending.slot;
    if (core->pending.kind == HADB_CORE_SEAL) {
        action->pos = (struct hadb_pos){core->pending.term + 1, core->pending.slot - 1,
                                        core->view.txid, core->pending.hash};
    } else {
        action->pos = (struct hadb_pos){core->pending.term, core->pending.slot,
                                        core->pending.last_txid, core->pending.hash};
    }
}

/* Sends the request that the present phase waits for. */
static void ask(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(!core->main_busy);
    core->main_busy = true;
    switch ((enum hadb_core_phase)core->phase) {
    case HADB_PH_GET:
    case HADB_PH_SEAL_COMPARE:
        ask_get(s);
        break;
    case HADB_PH_TIP_MANIFEST:
    case HADB_PH_FENCE_MANIFEST:
    case HADB_PH_ENTRY_MANIFEST:
    case HADB_PH_BOUNDARY:
        core->manifest_floor = core->manifest_version;
        hadb__act(s, HADB_ACT_GET_MANIFEST)->op = HADB_OP_MAIN;
        break;
    case HADB_PH_APPLY:
        ask_pending(s, HADB_ACT_APPLY);
        break;
    case HADB_PH_SEAL_CREATE:
        ask_pending(s, HADB_ACT_CREATE);
        break;
    case HADB_PH_REWIND: {
        struct hadb_action *action = hadb__act(s, HADB_ACT_REWIND);
        action->op = HADB_OP_MAIN;
        action->pos = core->view;
        action->flag = true;
        break;
    }
    case HADB_PH_SURVEY: {
        struct hadb_action *action = hadb__act(s, HADB_ACT_SURVEY);
        action->op = HADB_OP_MAIN;
        action->term = core->view.term;
        action->slot = core->view.slot + 1;
        hadb_core_own_place(core, &action->pos.term, &action->pos.slot);
        break;
    }
    case HADB_PH_RESTORE:
        hadb__act(s, HADB_ACT_RESTORE)->op = HADB_OP_MAIN;
        break;
    case HADB_PH_IDLE:
    case HADB_PH_SEAL_FRAME:
    case HADB_PH_LEAD:
    case HADB_PH_ASK_READY:
    case HADB_PH_DRAIN:
        HADB_ASSERT(!"this phase sends nothing on op MAIN");
    }
}

void hadb__main_start(struct hadb_step *s, enum hadb_core_phase phase)
{
    s->core->phase = (uint8_t)phase;
    ask(s);
}

void hadb__main_later(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    core->next_at_ms = s->now_ms + hadb__backoff_ms(core, core->backoff);
    if (core->config.jitter && core->backoff < 16) {
        core->backoff++;
    }
}

void hadb__drop_pending(struct hadb_step *s)
{
    hadb__release(s, s->core->pending_handle, 0);
    s->core->pending_handle = 0;
    s->core->pending_known = false;
    memset(&s->core->pending, 0, sizeof s->core->pending);
}

/* Back to waiting; the next look is at once (more may be there) or after the polling interval. */
static void go_idle(struct hadb_step *s, bool at_once)
{
    struct hadb_core *core = s->core;
    core->phase = HADB_PH_IDLE;
    if (at_once) {
        core->backoff = 0;
        core->next_at_ms = s->now_ms;
        return;
    }
    if (core->stream_up && core->liveness == HADB_LIVE_ALIVE) {
        core->next_at_ms = HADB_NEVER; /* the stream tells; an idle database costs nothing */
        return;
    }
    uint64_t wait = core->config.poll_min_ms;
    for (unsigned i = 0; i < core->backoff && wait < core->config.poll_max_ms; i++) {
        wait *= 2;
    }
    core->next_at_ms = s->now_ms + HADB_MIN(wait, core->config.poll_max_ms);
    if (core->config.jitter && core->backoff < 16) {
        core->backoff++;
    }
}

static void start_restore(struct hadb_step *s)
{
    hadb__drop_pending(s);
    hadb__stream_clear(s);
    if (s->core->role == HADB_CORE_CANDIDATE) {
        hadb__set_role(s, HADB_CORE_FOLLOWER);
    }
    hadb__main_start(s, HADB_PH_RESTORE);
}

static bool news_expected(const struct hadb_core *core, uint64_t now_ms)
{
    /* A read whose proof met an entry instead of the tip (read_sent) still needs one. */
    return core->survey != HADB_SURVEY_DONE || core->poke || core->read_waiting ||
           core->read_sent != 0 || now_ms >= core->next_at_ms || hadb__seal_due(core, now_ms) ||
           hadb__stream_behind(core);
}

void hadb__follow(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    if (hadb_core_leads(core) || core->main_busy || core->gate_closing ||
        core->phase == HADB_PH_SEAL_FRAME || core->role == HADB_CORE_HALTED) {
        return;
    }
    if (core->phase != HADB_PH_IDLE) { /* an answer was indefinite: ask again when it is time */
        if (s->now_ms >= core->next_at_ms) {
            ask(s);
        }
        return;
    }
    if (hadb__stream_ready(core)) {
        struct hadb_entry_info entry = {.kind = HADB_CORE_DATA,
                                        .term = core->view.term,
                                        .slot = core->view.slot + 1,
                                        .last_txid = core->stream[0].last_txid,
                                        .prev = core->stream[0].prev,
                                        .hash = core->stream[0].hash};
        uint64_t handle = core->stream[0].handle;
        core->stream[0].handle = 0;
        hadb__stream_advance(s);
        hadb__accept_entry(s, &entry, handle, HADB_FROM_STREAM);
    } else if (s->now_ms >= core->retry_at_ms && news_expected(core, s->now_ms)) {
        hadb__main_start(s, HADB_PH_GET);
    }
}

uint64_t hadb__follow_deadline(const struct hadb_core *core)
{
    if (core->main_busy || core->gate_closing || hadb_core_leads(core) ||
        core->phase == HADB_PH_SEAL_FRAME) {
        return HADB_NEVER;
    }
    if (core->phase != HADB_PH_IDLE) {
        return core->next_at_ms;
    }
    uint64_t at = HADB_MIN(core->next_at_ms, hadb__seal_deadline(core));
    if (core->survey != HADB_SURVEY_DONE || core->poke || core->read_waiting ||
        core->read_sent != 0 || hadb__stream_behind(core)) {
        at = 0;
    }
    return HADB_MAX(at, core->retry_at_ms);
}

/* The next entry is missing, corrupt or foreign: only the boundary tells what that means. */
void hadb__doubt(struct hadb_step *s, enum hadb_doubt why)
{
    s->core->doubt = (uint8_t)why;
    if (why != HADB_DOUBT_NONE) {
        hadb__stream_clear(s);
    }
    hadb__main_start(s, HADB_PH_TIP_MANIFEST);
}

void hadb__at_tip(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    if (hadb__survey_absent(s)) {
        return;
    }
    if (hadb__seal_due(core, s->now_ms)) {
        hadb__seal_start(s); /* the boundary is compared after the seal (4.4.4) */
        return;
    }
    bool prove_reads = core->read_sent != 0 && hadb__rule(core, HADB_RULE_READ_BOUNDARY);
    if (core->read_sent != 0 && !prove_reads) {
        hadb__read_proven(s, core->read_sent);
        core->read_sent = 0;
    }
    if (prove_reads || !core->tip_checked || core->tip_polls >= core->config.tip_polls_max) {
        hadb__doubt(s, HADB_DOUBT_NONE);
        return;
    }
    core->tip_polls++;
    go_idle(s, false);
}

void hadb__follow_entry(struct hadb_step *s, const struct hadb_event *ev)
{
    HADB_ASSERT(s->core->phase == HADB_PH_GET);
    if (ev->result != HADB_R_OK) {
        hadb__stream_missed(s);
    }
    switch (ev->result) {
    case HADB_R_OK: {
        hadb__accept_stored(s, &ev->entry, ev->handle);
        break;
    }
    case HADB_R_ABSENT:
        s->core->next_absent = true;
        hadb__at_tip(s);
        break;
    case HADB_R_CORRUPT:
        hadb__doubt(s, HADB_DOUBT_CORRUPT);
        break;
    default:
        s->core->phase = HADB_PH_IDLE;
        hadb__main_later(s);
        s->core->retry_at_ms = s->core->next_at_ms;
        break;
    }
}

/* Is it what must come next (4.8)? */
static enum hadb_doubt verify(const struct hadb_core *core, const struct hadb_entry_info *entry)
{
    if (entry->term != core->view.term || entry->slot != core->view.slot + 1) {
        return HADB_DOUBT_CORRUPT;
    }
    if (hadb__rule(core, HADB_RULE_CHAIN) && !hadb__same_hash(&entry->prev, &core->view.hash)) {
        return HADB_DOUBT_FORK;
    }
    bool txids_ok = entry->kind == HADB_CORE_SEAL ? entry->last_txid == core->view.txid
                                                  : entry->last_txid > core->view.txid;
    return txids_ok || !hadb__rule(core, HADB_RULE_CHAIN) ? HADB_DOUBT_NONE : HADB_DOUBT_FORK;
}

/*
 * A seal ends the term of this node's tail. If this node's own former life (or this process) made it,
 * the tail may be shipped in the new term (4.3.7); a fenced owner, and any other seal, must drop it.
 */
static bool seal_drops_tail(const struct hadb_core *core, const struct hadb_entry_info *seal)
{
    if (!hadb__has_tail(core)) {
        return false;
    }
    if (hadb__same_owner(&seal->next, &core->self)) {
        return false;
    }
    if (core->role == HADB_CORE_FENCED) {
        return hadb__rule(core, HADB_RULE_REWIND_FOREIGN);
    }
    return !hadb__same_id(&seal->next.node, &core->self.node) &&
           hadb__rule(core, HADB_RULE_REFRAME_OWN_SEAL);
}

static void drop_tail(struct hadb_step *s)
{
    /* "Surely not committed" is only true if the seal is on the history, not a stray one (I10). */
    if (hadb__rule(s->core, HADB_RULE_FENCED_DEFINITE)) {
        hadb__main_start(s, HADB_PH_FENCE_MANIFEST);
    } else {
        hadb__main_start(s, HADB_PH_REWIND);
    }
}

void hadb__accept_stored(struct hadb_step *s, const struct hadb_entry_info *entry, uint64_t handle)
{
    bool known = hadb__stream_overtaken(s, entry);
    hadb__accept_entry(s, entry, handle, known ? HADB_FROM_BOTH : HADB_FROM_STORAGE);
}

/* A terminal seal is never applied, so that a restarted process meets it again and does not lead behind it. */
static bool retired(const struct hadb_core *core)
{
    return core->pending.kind == HADB_CORE_SEAL && core->pending.reason == HADB_SEAL_RETIRED;
}

/* Of these the boundary has to say whether they are on the history: the end of all, and a twin's late create. */
static bool may_be_stray(const struct hadb_core *core)
{
    return retired(core) || (core->pending.kind == HADB_CORE_DATA && hadb__clone_guard(core));
}

void hadb__accept_entry(struct hadb_step *s, const struct hadb_entry_info *entry, uint64_t handle,
                        enum hadb_source source)
{
    struct hadb_core *core = s->core;
    enum hadb_doubt why = verify(core, entry);
    if (why != HADB_DOUBT_NONE) {
        hadb__release(s, handle, 0);
        hadb__doubt(s, why);
        return;
    }
    core->pending = *entry;
    core->pending_handle = handle;
    core->pending_known = source == HADB_FROM_BOTH;
    if (entry->kind == HADB_CORE_SEAL && seal_drops_tail(core, entry)) {
        drop_tail(s);
    } else if (source != HADB_FROM_STREAM && may_be_stray(core)) {
        hadb__main_start(s, HADB_PH_ENTRY_MANIFEST);
    } else {
        hadb__apply_pending(s);
    }
}

void hadb__apply_pending(struct hadb_step *s)
{
    if (retired(s->core)) {
        hadb__halt(s, HADB_HALT_RETIRED);
        return;
    }
    hadb__main_start(s, HADB_PH_APPLY);
}

/* Nothing was hidden below the boundary: now the doubt has its plain meaning. */
static void doubt_confirmed(struct hadb_step *s)
{
    static const enum hadb_halt meaning[] = {[HADB_DOUBT_CORRUPT] = HADB_HALT_CORRUPT,
                                             [HADB_DOUBT_FORK] = HADB_HALT_FORK,
                                             [HADB_DOUBT_GAP] = HADB_HALT_GAP,
                                             [HADB_DOUBT_OWN_ABSENT] = HADB_HALT_ROLLBACK,
                                             [HADB_DOUBT_OWN_CORRUPT] = HADB_HALT_CORRUPT,
                                             [HADB_DOUBT_OWN_FORK] = HADB_HALT_FORK};
    struct hadb_core *core = s->core;
    if (core->doubt == HADB_DOUBT_EMPTY) {
        go_idle(s, true); /* the log is all there is */
        return;
    }
    if (core->doubt != HADB_DOUBT_NONE) {
        hadb__halt(s, meaning[core->doubt]);
        return;
    }
    core->tip_checked = true;
    core->tip_polls = 0;
    hadb__fresh(s, core->get_sent_ms);
    if (core->read_sent != 0) {
        hadb__read_proven(s, core->read_sent);
        core->read_sent = 0;
    }
    if (hadb__same_owner(&core->owner, &core->self)) {
        /* Fenced, but nobody has sealed; nobody else would, for this node is alive. */
        hadb__set_role(s, HADB_CORE_FOLLOWER);
        hadb__arm_seal(s, 0);
    }
    go_idle(s, false);
}

void hadb__follow_manifest(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(core->phase == HADB_PH_TIP_MANIFEST || core->phase == HADB_PH_FENCE_MANIFEST ||
                core->phase == HADB_PH_ENTRY_MANIFEST);
    if (ev->result != HADB_R_OK) {
        hadb__main_later(s);
    } else if (ev->manifest.boundary_slot >= core->view.slot + 1) {
        start_restore(s);
    } else if (core->phase == HADB_PH_FENCE_MANIFEST) {
        hadb__main_start(s, HADB_PH_REWIND);
    } else if (core->phase == HADB_PH_ENTRY_MANIFEST) {
        hadb__apply_pending(s);
    } else if (core->doubt >= HADB_DOUBT_OWN_ABSENT && core->own == HADB_OWN_DATA &&
               ev->manifest.boundary_slot >= core->view.slot) {
        core->own = HADB_OWN_PROVEN; /* collected: the snapshot holds it */
        go_idle(s, true);
    } else {
        doubt_confirmed(s);
    }
}

/*
 * A new entry proves that the owner lives (4.4.1), unless it may well be older than its end: where a stream is up it
 * is what tells of new ones, and storage is read to catch up with what it had told.
 */
static void sign_of_life(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    bool surely_over = core->liveness == HADB_LIVE_FREE ||
                       (core->liveness == HADB_LIVE_GONE && core->config.fast_suspicion);
    bool is_new = !core->pending_known && (core->next_absent || !core->stream_up);
    bool over = surely_over || (!is_new && core->liveness == HADB_LIVE_SILENT);
    if (is_new) {
        hadb__act(s, HADB_ACT_OWNER_SEEN)->owner = core->owner;
    }
    if (over) {
        hadb__arm_seal(s, 0);
        hadb__seal_lag_over(s);
        return;
    }
    core->seal_at_ms = 0;
    if (!core->stream_up) {
        core->liveness = HADB_LIVE_ALIVE;
    }
}

static void data_applied(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    core->view = (struct hadb_pos){core->pending.term, core->pending.slot, core->pending.last_txid,
                                   core->pending.hash};
    if (core->role == HADB_CORE_CANDIDATE) {
        hadb__set_role(s, HADB_CORE_FOLLOWER);
    }
    sign_of_life(s);
    core->next_absent = false;
    if (core->start_reseal) {
        hadb__arm_seal(s, 0);
    }
}

static void seal_applied(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    const struct hadb_entry_info *seal = &core->pending;
    bool same_node = hadb__same_id(&seal->next.node, &core->self.node);
    core->view.term = seal->term + 1;
    core->view.hash = seal->hash;
    core->seal_at_ms = 0;
    core->stream_up = core->next_absent = false;
    core->start_reseal = core->start_reseal && same_node;
    hadb__stream_clear(s);
    bool mine = hadb__same_owner(&seal->next, &core->self);
    bool replaces = mine && seal->reason == HADB_SEAL_FAILOVER && !hadb__no_owner(&core->owner) &&
                    !hadb__same_id(&core->owner.node, &core->self.node);
    if (replaces) {
        hadb__act(s, HADB_ACT_NOTIFY)->owner = core->owner; /* it may only have slept */
    }
    if (core->role == HADB_CORE_FENCED || (core->role == HADB_CORE_CANDIDATE && !mine)) {
        hadb__set_role(s, HADB_CORE_FOLLOWER);
    }
    hadb__set_owner(s, &seal->next);
    if (core->start_reseal) {
        hadb__arm_seal(s, 0);
    } else if (hadb__no_owner(&seal->next)) { /* resigned: anybody else first */
        hadb__arm_seal(s, core->handoff_resign ? core->config.drain_max_ms
                                               : core->config.suspect_wait_ms);
    }
    core->handoff_resign = false;
}

void hadb__follow_applied(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(core->phase == HADB_PH_APPLY);
    if (ev->result == HADB_R_DIVERGED && hadb__has_tail(core)) {
        drop_tail(s);
        return;
    }
    if (ev->result == HADB_R_LATER) {
        hadb__main_later(s);
        return;
    }
    if (ev->result != HADB_R_OK) {
        hadb__halt(s, ev->result == HADB_R_CORRUPT ? HADB_HALT_CORRUPT : HADB_HALT_LOCAL);
        return;
    }
    if (core->pending.kind == HADB_CORE_SEAL) {
        seal_applied(s);
    } else {
        data_applied(s);
    }
    hadb__survey_moved(core);
    core->local_txid = HADB_MAX(core->local_txid, core->view.txid);
    core->tail_term = hadb__has_tail(core) ? core->tail_term : 0;
    struct hadb_action *action = hadb__act(s, HADB_ACT_DURABLE);
    action->pos = core->view;
    action->flag = true;
    bool named =
        core->pending.kind == HADB_CORE_SEAL && hadb__same_owner(&core->owner, &core->self);
    hadb__drop_pending(s);
    if (named && !core->config.never_lead) {
        hadb__named_owner(s);
    } else {
        go_idle(s, !core->stream_up || core->poke);
    }
}

void hadb__follow_rewound(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(core->phase == HADB_PH_REWIND);
    if (ev->result == HADB_R_LATER) {
        hadb__main_later(s);
        return;
    }
    if (ev->result != HADB_R_OK) {
        hadb__halt(s, HADB_HALT_LOCAL);
        return;
    }
    core->local_txid = core->view.txid;
    core->tail_term = 0;
    if (core->role == HADB_CORE_FENCED) {
        hadb__set_role(s, HADB_CORE_FOLLOWER);
    }
    hadb__apply_pending(s);
}

void hadb__follow_restored(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    HADB_ASSERT(core->phase == HADB_PH_RESTORE);
    if (ev->result == HADB_R_UNKNOWN || ev->result == HADB_R_LATER) {
        hadb__main_later(s);
        return;
    }
    if (ev->result != HADB_R_OK) {
        hadb__halt(s, ev->result == HADB_R_FAILED    ? HADB_HALT_LOCAL
                      : ev->result == HADB_R_CORRUPT ? HADB_HALT_CORRUPT
                                                     : HADB_HALT_NO_SNAPSHOT);
        return;
    }
    if (ev->pos.slot <= core->view.slot) { /* it would not get us past the boundary */
        hadb__halt(s, HADB_HALT_NO_SNAPSHOT);
        return;
    }
    core->view = ev->pos;
    core->local_txid = ev->pos.txid;
    core->tail_term = 0;
    core->seal_at_ms = 0;
    core->start_reseal = false;
    core->tip_checked = false;
    hadb__survey_restart(core);
    core->stream_up = core->next_absent = false;
    hadb__stream_clear(s); /* entries that came meanwhile follow the old view */
    if (core->role == HADB_CORE_FENCED) {
        hadb__set_role(s, HADB_CORE_FOLLOWER);
    }
    hadb__set_owner(s, &ev->owner);
    if (hadb__no_owner(&ev->owner)) {
        hadb__arm_seal(s, core->config.suspect_wait_ms);
    }
    struct hadb_action *action = hadb__act(s, HADB_ACT_DURABLE);
    action->pos = core->view;
    action->flag = true;
    go_idle(s, true);
}
