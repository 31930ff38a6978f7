/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine of one database among random events, on virtual time.
 *
 * A toy world (log objects that conditional creates make, manifest, rival processes, an engine that is a list of
 * numbers) answers every action exactly once with any result that the contract of core/core.h allows: late, lost,
 * unknown, landing twice or much later. Asserted: no broken invariant, no op asked twice, every handle released once,
 * ticks at the deadline make progress, a sound store halts nobody, only the history is applied, reads are not stale;
 * and whenever the world turns friendly, everything comes to an end: an owner with an open gate, nothing outstanding.
 *
 * Usage: test_core_random [SEEDS [STEPS [FIRST]]]
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/core/random_survey.h"

#define HANDLES_MAX 65536u
#define READS_MAX 32u

static struct {
    struct hadb_core core;
    struct hadb_actions acts;
    struct hadb_core_config config;
    struct {
        bool busy;
        struct hadb_action act;
        bool was_there; /* GET: when asked */
        struct hadb_manifest_info manifest;
    } ops[HADB_OP_END];
    struct {
        bool live;
        struct item item;
    } handles[HANDLES_MAX];
    uint64_t handles_len;
    uint32_t tx[TXS_MAX]; /* engine */
    hadb_txid last;
    struct hadb_pos mark;
    struct hadb_owner mark_owner;
    struct hadb_pos durable;
    struct hadb_owner owner;
    bool owner_told, silent_told, stream_up;
    uint64_t owner_at_ms;
    uint64_t gate_term;
    uint64_t tail_term;
    bool gate_open;
    struct {
        uint64_t round;
        hadb_txid need;
    } reads[READS_MAX];
    unsigned reads_len, handoffs;
    uint64_t snap_version;
    bool given_up, injected;
    unsigned idle_ticks;
} h; /* the host */

/* A definite failure, after which a halt is no surprise. */
static bool broken(void)
{
    bool yes = !fair && rnd(4000) == 0;
    h.injected = h.injected || yes;
    return yes;
}

static bool is_self(const struct hadb_owner *owner)
{
    return same_owner(owner, &h.core.self);
}
/* ---- the host: what actions do ---- */

static uint64_t new_handle(const struct item *item)
{
    assert_true(h.handles_len + 1 < HANDLES_MAX);
    h.handles_len++;
    h.handles[h.handles_len].live = true;
    if (item != NULL) {
        h.handles[h.handles_len].item = *item;
    }
    return h.handles_len;
}
static void free_handle(uint64_t handle)
{
    if (handle != 0) {
        assert_true(handle <= h.handles_len && h.handles[handle].live);
        h.handles[handle].live = false;
    }
}

static void act_read_ok(const struct hadb_action *act)
{
    for (unsigned i = 0; i < h.reads_len;) {
        if (h.reads[i].round > act->round) {
            i++;
            continue;
        }
        assert_true(act->txid >= h.reads[i].need && act->txid <= w.tip.txid);
        h.reads[i] = h.reads[--h.reads_len];
    }
}

static void act_durable(const struct hadb_action *act)
{
    assert_true(act->pos.txid <= w.tip.txid || act->pos.term > w.tip.term);
    h.durable = act->pos;
    for (hadb_txid t = 1; t <= act->pos.txid && t <= w.tip.txid; t++) {
        if (h.tx[t] != w.tx[t]) {
            fail_msg("transaction %u is not that of the history", (unsigned)t);
        }
    }
    if (!act->flag && (fair || rnd(2))) { /* else the engine's mark follows later, or never */
        h.mark = act->pos;
        h.mark_owner = h.owner;
    }
}

static void act_ask(const struct hadb_action *act)
{
    assert_true(act->op > HADB_OP_NONE && act->op < HADB_OP_END);
    assert_false(h.ops[act->op].busy);
    h.ops[act->op].busy = true;
    h.ops[act->op].act = *act;
    h.ops[act->op].was_there = there(act->term, act->slot);
    h.ops[act->op].manifest = w.manifest;
    if (act->type == HADB_ACT_CREATE || act->type == HADB_ACT_APPLY) {
        assert_true(h.handles[act->handle].live);
    } else if (act->type == HADB_ACT_UPLOAD) {
        assert_true(h.handles[act->view].live);
        h.handles[act->view].live = false; /* passed on */
        assert_true(act->pos.slot <= w.tip.slot);
    } else if (act->type == HADB_ACT_CAS_MANIFEST) {
        assert_true(h.handles[act->handle].live);
    } else if (act->type == HADB_ACT_DELETE) {
        assert_true(act->slot <= w.manifest.boundary_slot && !act->flag);
    } else if (act->type == HADB_ACT_GATE) {
        h.gate_open = false;
    }
}

static void carry_out(const struct hadb_action *act, hadb_txid need)
{
    switch (act->type) {
    case HADB_ACT_ROLE:
        if (act->role == HADB_CORE_HALTED && act->halt != HADB_HALT_STOPPED && !h.injected) {
            fail_msg("halted on a sound store: %s", hadb_core_halt_name(act->halt));
        }
        break;
    case HADB_ACT_OWNER:
        h.owner = act->owner;
        h.owner_told = h.silent_told = h.stream_up = false;
        h.owner_at_ms = now_ms;
        break;
    case HADB_ACT_RELEASE:
        free_handle(act->handle);
        free_handle(act->view);
        break;
    case HADB_ACT_DURABLE:
        act_durable(act);
        break;
    case HADB_ACT_READ_JOIN:
        if (act->round != 0) {
            assert_true(h.reads_len < READS_MAX);
            h.reads[h.reads_len].round = act->round;
            h.reads[h.reads_len++].need = need;
        }
        break;
    case HADB_ACT_READ_OK:
        act_read_ok(act);
        break;
    case HADB_ACT_READ_FAIL:
        h.reads_len = 0;
        break;
    case HADB_ACT_HANDOFF_DONE:
        assert_true(h.handoffs > 0);
        h.handoffs--;
        break;
    case HADB_ACT_GIVE_UP:
        assert_true(h.given_up != act->flag);
        h.given_up = act->flag;
        break;
    case HADB_ACT_OWNER_SEEN:
    case HADB_ACT_NOTIFY:
        break;
    case HADB_ACT_GATE:
        if (act->gate == HADB_GATE_OPEN) {
            assert_false(h.ops[HADB_OP_GATE].busy);
            h.gate_open = true;
            h.gate_term = act->term;
            break;
        }
        act_ask(act);
        break;
    default:
        act_ask(act);
    }
}

static void step(struct hadb_event ev)
{
    hadb_txid need = w.tip.txid; /* all of it may have been acknowledged */
    hadb_core_step(&h.core, &ev, now_ms, &h.acts);
    for (uint32_t i = 0; i < h.acts.len; i++) {
        carry_out(&h.acts.items[i], need);
    }
}

static void tick_now(void)
{
    bool due = hadb_core_deadline(&h.core) <= now_ms;
    step((struct hadb_event){.type = HADB_EV_TICK});
    bool moved = !due || h.acts.len > 0 || hadb_core_deadline(&h.core) > now_ms;
    h.idle_ticks = moved ? 0 : h.idle_ticks + 1;
    if (h.idle_ticks > 3) {
        fail_msg("a deadline in the past, and nothing happens: role %d phase %d", h.core.role,
                 h.core.phase);
    }
}

/* ---- the host: answers ---- */

static void reply_get(const struct hadb_action *act, bool was_there, struct hadb_event *ev)
{
    ev->type = HADB_EV_ENTRY;
    bool found = there(act->term, act->slot) && (was_there || fair || rnd(2));
    if (broken()) {
        ev->result = HADB_R_CORRUPT;
    } else if (wild(12)) {
        ev->result = HADB_R_UNKNOWN;
    } else if (!found) {
        ev->result = HADB_R_ABSENT;
    } else {
        const struct item *item = &w.objs[place(act->term, act->slot)].item;
        ev->entry = item->info;
        ev->handle = new_handle(item);
    }
}

static void reply_frame(const struct hadb_action *act, struct hadb_event *ev)
{
    ev->type = HADB_EV_FRAMED;
    struct item item = framed_item(act);
    for (unsigned i = 0; act->type == HADB_ACT_FRAME_DATA && i < BATCH_MAX; i++) {
        if (item.info.last_txid < h.last) {
            item.tx[i] = h.tx[++item.info.last_txid];
        }
    }
    bool nothing = item.info.kind == HADB_CORE_DATA && item.info.last_txid == act->txid;
    bool later = !nothing && wild(20);
    if (nothing || later || broken()) { /* nothing: a term that is lost, and its tail rewound */
        ev->result = later ? HADB_R_LATER : HADB_R_FAILED;
        return;
    }
    ev->entry = item.info;
    ev->handle = new_handle(&item);
    if (act->flag && rnd(2)) {
        ev->view = new_handle(NULL);
    }
}

static void reply_create(const struct hadb_action *act, struct hadb_event *ev)
{
    ev->type = HADB_EV_CREATED;
    struct item item = h.handles[act->handle].item;
    if (wild(15)) { /* never arrived, or arrives much later */
        ev->result = HADB_R_UNKNOWN;
        if (rnd(3) == 0 && w.limbo_len < LIMBO_MAX) {
            w.limbo[w.limbo_len++] = item;
        }
        return;
    }
    bool created = land(&item);
    ev->result = wild(15) ? HADB_R_UNKNOWN : created ? HADB_R_OK : HADB_R_EXISTS;
}

static void reply_apply(const struct hadb_action *act, struct hadb_event *ev)
{
    const struct item *item = &h.handles[act->handle].item;
    ev->type = HADB_EV_APPLIED;
    bool later = wild(20);
    if (later || broken()) {
        ev->result = later ? HADB_R_LATER : rnd(2) ? HADB_R_FAILED : HADB_R_CORRUPT;
        return;
    }
    if (item->info.kind == HADB_CORE_DATA) {
        for (hadb_txid t = item->first; t <= item->info.last_txid && t <= h.last; t++) {
            if (h.tx[t] != item->tx[t - item->first]) {
                ev->result = HADB_R_DIVERGED;
                return;
            }
        }
        assert_true(item->first <= h.last + 1);
        for (hadb_txid t = item->first; t <= item->info.last_txid; t++) {
            h.tx[t] = item->tx[t - item->first];
            h.last = HADB_MAX(h.last, t);
        }
    } else {
        h.mark_owner = item->info.next;
    }
    h.mark = act->pos;
}

static void reply_restore(struct hadb_event *ev)
{
    ev->type = HADB_EV_RESTORED;
    uint64_t slot = w.manifest.boundary_slot;
    if (wild(20)) {
        ev->result = rnd(2) ? HADB_R_UNKNOWN : HADB_R_LATER;
        return;
    }
    assert_true(slot != 0);
    ev->pos = w.at[slot];
    ev->owner = w.owner_at[slot];
    memcpy(h.tx, w.tx, (ev->pos.txid + 1) * sizeof h.tx[0]);
    h.last = ev->pos.txid;
    h.mark = ev->pos;
    h.mark_owner = ev->owner;
}

static void reply_cas(const struct hadb_action *act, struct hadb_event *ev)
{
    ev->type = HADB_EV_CAS;
    if (wild(15)) {
        ev->result = rnd(4) ? HADB_R_UNKNOWN : HADB_R_FAILED;
        return;
    }
    if (w.manifest.version != h.snap_version) {
        ev->result = HADB_R_LOST;
        return;
    }
    assert_true(act->slot > w.manifest.boundary_slot && act->slot <= w.tip.slot);
    w.manifest = (struct hadb_manifest_info){.version = h.snap_version + 1,
                                             .nonce = act->nonce,
                                             .boundary_slot = act->slot,
                                             .boundary_term = act->term,
                                             .swept_slot = act->swept_slot,
                                             .has_snapshot = true};
    ev->result = wild(15) ? HADB_R_UNKNOWN : HADB_R_OK;
}

static void reply_rest(const struct hadb_action *act, struct hadb_event *ev)
{
    switch (act->type) {
    case HADB_ACT_REWIND:
        ev->type = HADB_EV_REWOUND;
        assert_true(act->pos.txid >= h.mark.txid);
        ev->result = wild(10) ? HADB_R_LATER : HADB_R_OK;
        h.last = ev->result == HADB_R_OK ? act->pos.txid : h.last;
        break;
    case HADB_ACT_GATE:
        ev->type = HADB_EV_GATED;
        ev->txid = h.last;
        break;
    case HADB_ACT_VIEW:
        ev->type = HADB_EV_FRAMED;
        ev->result = wild(10) ? HADB_R_FAILED : HADB_R_OK;
        ev->pos = h.mark;
        ev->txid = h.last;
        ev->view = ev->result == HADB_R_OK ? new_handle(NULL) : 0;
        break;
    case HADB_ACT_UPLOAD:
        ev->type = HADB_EV_UPLOADED;
        ev->result = wild(10) ? HADB_R_FAILED : HADB_R_OK;
        ev->handle = ev->result == HADB_R_OK ? new_handle(NULL) : 0;
        break;
    case HADB_ACT_DELETE:
        ev->type = HADB_EV_DELETED;
        delete_data(act->slot);
        ev->result = wild(20) ? HADB_R_UNKNOWN : HADB_R_OK;
        break;
    case HADB_ACT_ASK_READY:
        ev->type = HADB_EV_READY;
        ev->result = wild(40) || fair ? HADB_R_FAILED : HADB_R_OK;
        ev->owner = (struct hadb_owner){act->owner.node, rival().incarnation};
        ev->pos = w.at[w.tip.slot - least(rnd(3), w.tip.slot)];
        ev->pos.term = rnd(8) ? w.tip.term : ev->pos.term;
        break;
    default:
        fail_msg("action %d has no answer", act->type);
    }
}

static void answer(enum hadb_core_op op)
{
    struct hadb_action act = h.ops[op].act;
    struct hadb_event ev = {.op = op};
    h.ops[op].busy = false;
    switch (act.type) {
    case HADB_ACT_GET:
        reply_get(&act, h.ops[op].was_there, &ev);
        break;
    case HADB_ACT_GET_MANIFEST:
        ev.type = HADB_EV_MANIFEST;
        ev.result = wild(12) ? HADB_R_UNKNOWN : HADB_R_OK;
        ev.manifest = wild(30) ? h.ops[op].manifest : w.manifest;
        if (op == HADB_OP_SNAP && ev.result == HADB_R_OK) {
            h.snap_version = ev.manifest.version;
        }
        break;
    case HADB_ACT_SURVEY:
        reply_survey(&act, &ev);
        break;
    case HADB_ACT_FRAME_DATA:
    case HADB_ACT_FRAME_SEAL:
        reply_frame(&act, &ev);
        break;
    case HADB_ACT_CREATE:
        reply_create(&act, &ev);
        break;
    case HADB_ACT_APPLY:
        reply_apply(&act, &ev);
        break;
    case HADB_ACT_RESTORE:
        reply_restore(&ev);
        break;
    case HADB_ACT_CAS_MANIFEST:
        reply_cas(&act, &ev);
        break;
    default:
        reply_rest(&act, &ev);
    }
    step(ev);
}

static enum hadb_core_op some_op(void)
{
    unsigned from = (unsigned)rnd(HADB_OP_END);
    for (unsigned i = 0; i < HADB_OP_END; i++) {
        unsigned op = (from + i) % HADB_OP_END;
        if (h.ops[op].busy) {
            return (enum hadb_core_op)op;
        }
    }
    return HADB_OP_NONE;
}

/* ---- events that come by themselves ---- */

static void commit_one(void)
{
    bool open = h.gate_open || h.ops[HADB_OP_GATE].busy;
    if (!open || h.core.role == HADB_CORE_HALTED) {
        return;
    }
    h.tx[++h.last] = ++numbers;
    h.tail_term = h.gate_term;
    step((struct hadb_event){.type = HADB_EV_COMMITTED, .txid = h.last});
}

static void stream_event(void)
{
    struct hadb_owner from = rnd(16) ? h.owner : rival();
    if (!is_rival(&from)) {
        return;
    }
    struct hadb_event ev = {.type = HADB_EV_STREAM, .owner = from};
    uint64_t choice = rnd(10);
    if (choice == 0 || !h.stream_up) {
        h.stream_up = choice != 0;
        ev.result = h.stream_up ? HADB_R_OK : HADB_R_FAILED;
    } else if (choice < 4) {
        ev.type = HADB_EV_STREAM_MARK;
        ev.term = h.core.view.term + (rnd(8) == 0);
        if (ev.term > w.tip.term || !same_owner(&w.term_owner[ev.term], &from)) {
            return;
        }
        ev.slot = w.term_slot[ev.term] - least(rnd(3), w.term_slot[ev.term]);
    } else {
        ev.type = HADB_EV_STREAM_ENTRY;
        uint64_t slot = h.core.view.slot + 1 + rnd(4);
        const struct item *item = &w.objs[place(h.core.view.term, slot)].item;
        if (w.pend.info.slot == slot && w.pend.info.term == h.core.view.term) {
            item = &w.pend;
        } else if (!w.objs[place(h.core.view.term, slot)].used ||
                   item->info.kind != HADB_CORE_DATA) {
            return;
        }
        if (!same_owner(&w.term_owner[item->info.term], &from)) {
            return;
        }
        ev.entry = item->info;
        ev.handle = new_handle(item);
    }
    step(ev);
}

static void rare_event(void)
{
    struct hadb_owner to = {.node = rnd(3) ? rival().node : (struct hadb_id){{0}}};
    switch (rnd(8)) {
    case 0:
        h.handoffs++;
        step((struct hadb_event){.type = HADB_EV_HANDOFF, .owner = to});
        break;
    case 1:
        step((struct hadb_event){.type = rnd(2) ? HADB_EV_SNAPSHOT : HADB_EV_PROBE,
                                 .result = rnd(8) ? HADB_R_OK : HADB_R_FAILED});
        break;
    case 2:
        h.injected = h.injected || rnd(500) == 0;
        step((struct hadb_event){.type = HADB_EV_LOCAL,
                                 .result = h.injected ? HADB_R_FAILED : HADB_R_LATER});
        break;
    default:
        step((struct hadb_event){.type = HADB_EV_OWNER,
                                 .owner = rnd(16) ? h.owner : rival(),
                                 .liveness = (enum hadb_liveness)rnd(4)});
    }
}

static void one_event(void)
{
    switch (rnd(16)) {
    case 0:
    case 1:
    case 2:
        commit_one();
        break;
    case 3:
    case 4:
        if (h.reads_len < READS_MAX) {
            step((struct hadb_event){.type = HADB_EV_READ});
        }
        break;
    case 5:
        step((struct hadb_event){.type = HADB_EV_POKE});
        break;
    case 6:
    case 7:
    case 8:
        stream_event();
        break;
    case 9:
        rare_event();
        break;
    case 10:
        tick_now();
        break;
    default:
        rivals_act(h.config.never_lead ? &(struct hadb_owner){0} : &h.core.self, &h.core.view);
    }
}

static void pass_time(void)
{
    uint64_t at = hadb_core_deadline(&h.core);
    switch (rnd(40)) {
    case 0:
        now_ms += rnd(3000);
        break;
    case 1:
    case 2:
        now_ms = at != UINT64_MAX ? HADB_MAX(now_ms, at) : now_ms;
        break;
    case 3:
    case 4:
    case 5:
        now_ms += rnd(10);
        break;
    default:
        break;
    }
    if (hadb_core_deadline(&h.core) <= now_ms && rnd(2)) {
        tick_now();
    }
}

static void wild_step(void)
{
    pass_time();
    enum hadb_core_op op = some_op();
    if (op != HADB_OP_NONE && rnd(2)) {
        answer(op);
    } else {
        one_event();
    }
}

/* ---- friendly times ---- */

/* What a host says of an owner that is dead: gone at once, silent in the end; again for each new owner. */
static void tell_liveness(void)
{
    if (!is_rival(&h.owner) && (nobody(&h.owner) || is_self(&h.owner))) {
        return;
    }
    bool silent = now_ms >= h.owner_at_ms + 1000;
    if (h.owner_told && (h.silent_told || !silent)) {
        return;
    }
    h.owner_told = true;
    h.silent_told = silent;
    step((struct hadb_event){.type = HADB_EV_OWNER,
                             .owner = h.owner,
                             .liveness = silent ? HADB_LIVE_SILENT : HADB_LIVE_GONE});
}

static bool quiet(void)
{
    return some_op() == HADB_OP_NONE && h.reads_len == 0 && h.handoffs == 0 &&
           h.core.snap_phase == 0;
}

static bool settled(void)
{
    if (!quiet()) {
        return false;
    }
    if (h.config.never_lead) {
        return h.core.role == HADB_CORE_FOLLOWER && memcmp(&h.core.view, &w.tip, sizeof w.tip) == 0;
    }
    return h.core.role == HADB_CORE_OWNER && h.gate_open && h.core.view.txid == h.last &&
           h.durable.txid == h.last && is_self(&w.owner);
}

static void friendly_until_settled(const char *why)
{
    uint64_t end_ms = now_ms + 30000;
    for (unsigned i = 0; !settled() && h.core.role != HADB_CORE_HALTED; i++) {
        if (now_ms > end_ms || i > 100000) {
            fail_msg("stuck (%s): role %d phase %d main %d poke %d seal %d reads %u snap %d "
                     "handoffs %u at term %u slot %u, tip term %u slot %u",
                     why, h.core.role, h.core.phase, h.core.main_busy, h.core.poke,
                     h.core.seal_at_ms != 0, h.reads_len, h.core.snap_phase, h.handoffs,
                     (unsigned)h.core.view.term, (unsigned)h.core.view.slot, (unsigned)w.tip.term,
                     (unsigned)w.tip.slot);
        }
        enum hadb_core_op op = some_op();
        uint64_t at = hadb_core_deadline(&h.core);
        if (op != HADB_OP_NONE &&
            (at > now_ms || rnd(2))) { /* without jitter a retry is due at once */
            answer(op);
        } else if (at <= now_ms) {
            tick_now();
        } else {
            tell_liveness();
            at = HADB_MIN(hadb_core_deadline(&h.core), now_ms + 100);
            now_ms = HADB_MAX(now_ms, at);
        }
    }
}

static void friendly_times(void)
{
    fair = true;
    h.owner_told = h.silent_told = false;
    h.owner_at_ms = now_ms;
    w.limbo_len = 0;
    if (w.pend.info.slot != 0) {
        land(&w.pend);
        w.pend.info.slot = 0;
    }
    if (hadb_core_leads(&h.core) && h.durable.txid > h.mark.txid) {
        h.mark = h.durable; /* the engine's mark comes after */
        h.mark_owner = h.owner;
    }
    if (h.stream_up) {
        h.stream_up = false;
        step(
            (struct hadb_event){.type = HADB_EV_STREAM, .result = HADB_R_FAILED, .owner = h.owner});
    }
    step((struct hadb_event){.type = HADB_EV_PROBE});
    if (!same_owner(&w.owner, &h.core.self)) {
        step((struct hadb_event){.type = HADB_EV_POKE}); /* from whoever replaced it */
    }
    friendly_until_settled("recovery");
    for (int i = 0; i < 5; i++) {
        commit_one();
        step((struct hadb_event){.type = HADB_EV_READ});
    }
    step((struct hadb_event){.type = HADB_EV_SNAPSHOT});
    friendly_until_settled("work");
    fair = false;
}

/* ---- lives ---- */

static void life_begins(void)
{
    struct hadb_owner self = owner_of(1, 0);
    w.lives++;
    memcpy(self.incarnation.b + 8, &w.lives, sizeof w.lives);
    self.incarnation.b[14] = 1;
    h.config = rig_config();
    h.config.window = 1 + (uint32_t)rnd(HADB_WINDOW_MAX);
    h.config.fast_suspicion = rnd(4) != 0;
    h.config.never_lead = rnd(10) == 0;
    h.config.clone_guard = rnd(4) == 0;
    h.config.snapshot_slots = (uint32_t)(uint64_t[]){0, 3, 20}[rnd(3)];
    h.config.tip_polls_max = rnd(2) ? 8 : 0;
    h.config.jitter = rnd(5) != 0;
    h.config.grace_ms = (uint32_t)rnd(500);
    h.config.give_up_ms = rnd(4) ? 1000 : 0;
    h.config.suspect_wait_ms = (uint32_t)rnd(20);
    h.config.silent_wait_ms = (uint32_t)rnd(50);
    h.config.lag_wait_ms = h.config.lag_wait_max_ms = (uint32_t)rnd(50);
    memset(h.ops, 0, sizeof h.ops);
    memset(&h.durable, 0, sizeof h.durable);
    h.handles_len = h.reads_len = h.handoffs = h.idle_ticks = 0;
    h.gate_open = h.stream_up = h.given_up = h.injected = false;
    hadb_core_init(&h.core, &h.config, &self, rnd(1u << 30) + 1);
    struct hadb_entry_info last = object_of(&h.mark.hash);
    step((struct hadb_event){.type = HADB_EV_START,
                             .pos = h.mark,
                             .term = last.term,
                             .slot = last.slot,
                             .owner = h.mark_owner,
                             .last_txid = h.last,
                             .last_term = h.tail_term});
}

/* Everything is answered, and nothing may be left. */
static void life_stops(void)
{
    step((struct hadb_event){.type = HADB_EV_STOP});
    while (some_op() != HADB_OP_NONE) {
        answer(some_op());
        if (rnd(3) == 0) {
            one_event(); /* a halted machine answers what still comes */
        }
    }
    assert_int_equal(h.core.role, HADB_CORE_HALTED);
    assert_int_equal(h.reads_len, 0);
    assert_int_equal(h.handoffs, 0);
    assert_true(hadb_core_deadline(&h.core) == UINT64_MAX);
    for (uint64_t i = 1; i <= h.handles_len; i++) {
        if (h.handles[i].live) {
            fail_msg("handle %u is never released", (unsigned)i);
        }
    }
}

static void life_ends(void)
{
    if (rnd(2)) {
        life_stops();
    } else { /* a crash: what the disk had not taken is lost */
        h.last = h.mark.txid + rnd(h.last - h.mark.txid + 1);
    }
    if (rnd(8) == 0) { /* an empty disk */
        h.last = 0;
        memset(&h.mark, 0, sizeof h.mark);
        memset(&h.mark_owner, 0, sizeof h.mark_owner);
    }
}

static void world_begins(void)
{
    memset(&w, 0, sizeof w);
    memset(&h, 0, sizeof h);
    w.manifest.version = 1;
    note_tip();
}

static void run(uint64_t seed, uint64_t steps)
{
    rng = seed * 0x9E3779B97F4A7C15ull + 1;
    now_ms = 1000;
    world_begins();
    while (steps > 0) {
        if (world_is_full(h.last)) {
            world_begins();
        }
        life_begins();
        uint64_t left = least(steps, 20 + rnd(rnd(2) ? 200 : 1500));
        steps -= left;
        while (left-- > 0 && h.core.role != HADB_CORE_HALTED) {
            wild_step();
        }
        if (rnd(2) && h.core.role != HADB_CORE_HALTED) {
            friendly_times();
        }
        life_ends();
    }
}

static uint64_t seeds = 6, steps_each = 300000, first_seed = 1;

static void machine__survives_any_order_of_events(void **state)
{
    (void)state;
    for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++) {
        printf("# seed %u, %u steps\n", (unsigned)seed, (unsigned)steps_each);
        run(seed, steps_each);
    }
}

int main(int argc, char **argv)
{
    seeds = argc > 1 ? strtoull(argv[1], NULL, 10) : seeds;
    steps_each = argc > 2 ? strtoull(argv[2], NULL, 10) : steps_each;
    first_seed = argc > 3 ? strtoull(argv[3], NULL, 10) : first_seed;
    const struct CMUnitTest tests[] = {cmocka_unit_test(machine__survives_any_order_of_events)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
