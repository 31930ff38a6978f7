/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulator: processes and their clocks; hands events to the machine and carries out its actions.
 *
 * Owns       start, crash, pause and stop of a process, its timer, the handles that it gave to the machine.
 * Happy path sim_step(event) -> hadb_core_step -> sim_act for each action -> what hint, watch and stream
 *            want now -> timer set for the next deadline.
 * Failure    a process that is gone loses everything but its engine, and of that what was not on disk.
 *
 * Thread: one.
 */
#include "base/util.h"
#include "sim/sim_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TIMER_MIN_US 200u /* nothing happens more often than this at one node without a cause */
#define STOP_TTLS 1u      /* an orderly stop takes no longer */

/* ---- clocks ---- */

static uint64_t local_us(const struct sim *s, const struct sim_node *node)
{
    return node->clock_us + (s->now - node->clock_base_us) * node->rate_permille / 1000;
}

uint64_t sim_local_ms(const struct sim *s, const struct sim_node *node)
{
    return local_us(s, node) / 1000;
}

void sim_node_set_rate(struct sim *s, uint8_t n, uint32_t permille)
{
    struct sim_node *node = &s->node[n];
    node->clock_us = local_us(s, node);
    node->clock_base_us = s->now;
    node->rate_permille = permille;
    if (node->up) {
        node->timer_at = SIM_NEVER;
        sim_arm(s, n);
    }
}

/* How long until @node's clock shows @local_ms, at least. */
static uint64_t wait_for(const struct sim *s, const struct sim_node *node, uint64_t local_ms)
{
    uint64_t now = local_us(s, node);
    uint64_t want = local_ms * 1000;
    if (want <= now) {
        return TIMER_MIN_US;
    }
    uint64_t wait = ((want - now) * 1000 + node->rate_permille - 1) / node->rate_permille;
    return HADB_MAX(wait, TIMER_MIN_US);
}

void sim_arm(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    if (!node->up) {
        return;
    }
    uint64_t at = HADB_MIN(hadb_core_deadline(&node->core), hadb_hint_deadline(&node->hint));
    if (node->watching) {
        at = HADB_MIN(at, hadb_watch_deadline(&node->watch));
    }
    uint64_t wait = at >= SIM_NEVER / 2000 ? SIM_NEVER : wait_for(s, node, at);
    if (node->stream.retry_at != 0) {
        uint64_t retry = node->stream.retry_at > s->now ? node->stream.retry_at - s->now : 0;
        wait = HADB_MIN(wait, HADB_MAX(retry, TIMER_MIN_US));
    }
    if (wait == SIM_NEVER || (node->timer_at != SIM_NEVER && node->timer_at <= s->now + wait)) {
        return; /* set already: when it fires, this is asked again */
    }
    node->timer_at = s->now + wait;
    sim_push(s, wait,
             &(struct sim_event){
                 .kind = SIM_EV_TIMER, .node = n, .life = node->life, .a = ++node->timer_gen});
}

void sim_node_timer(struct sim *s, const struct sim_event *ev)
{
    struct sim_node *node = &s->node[ev->node];
    if (ev->a != node->timer_gen) {
        return;
    }
    node->timer_at = SIM_NEVER;
    if (hadb_core_deadline(&node->core) <= sim_local_ms(s, node)) {
        sim_step_simple(s, ev->node, HADB_EV_TICK);
    }
    sim_stream_pump(s, ev->node);
    sim_lease_pump(s, ev->node);
    sim_arm(s, ev->node);
}

/* ---- handles ---- */

uint64_t sim_handle_new(struct sim *s, uint8_t n, uint8_t kind, uint32_t id, struct sim_list view)
{
    struct sim_node *node = &s->node[n];
    for (uint32_t i = 0; i < SIM_HANDLES_MAX; i++) {
        struct sim_handle *h = &node->handles[i];
        if (h->kind == 0) {
            *h = (struct sim_handle){.id = id, .count = h->count + 1, .view = view, .kind = kind};
            return (uint64_t)h->count << 32 | (i + 1);
        }
    }
    sim_fail(s, "n%d holds more than %u handles", n, SIM_HANDLES_MAX);
    return 0;
}

struct sim_handle *sim_handle_of(struct sim *s, uint8_t n, uint64_t handle, uint8_t kind)
{
    uint64_t i = (handle & UINT32_MAX) - 1;
    struct sim_handle *h = i < SIM_HANDLES_MAX ? &s->node[n].handles[i] : NULL;
    if (h == NULL || h->kind != kind || h->count != handle >> 32) {
        sim_fail(s, "n%d uses a handle that it released", n);
        return NULL;
    }
    return h;
}

void sim_handle_free(struct sim *s, uint8_t n, uint64_t handle)
{
    uint64_t i = (handle & UINT32_MAX) - 1;
    struct sim_handle *h = i < SIM_HANDLES_MAX ? &s->node[n].handles[i] : NULL;
    if (h == NULL || h->kind == 0 || h->count != handle >> 32) {
        sim_fail(s, "n%d releases a handle twice", n);
        return;
    }
    h->kind = 0;
}

uint32_t sim_handles_open(const struct sim_node *node)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < SIM_HANDLES_MAX; i++) {
        open += node->handles[i].kind != 0;
    }
    return open;
}

/* ---- steps ---- */

static void note_situation(struct sim *s, uint8_t n, const struct hadb_core *before)
{
    struct sim_node *node = &s->node[n];
    const struct hadb_core *core = &node->core;
    bool tail = before->local_txid > before->view.txid;
    if (core->role == HADB_CORE_FENCED && before->role != HADB_CORE_FENCED) {
        sim_saw(s, tail ? SIM_S_fenced_with_tail : SIM_S_fenced);
    }
    if (before->phase == HADB_PH_BOUNDARY && core->phase == HADB_PH_RESTORE) {
        sim_saw(s, SIM_S_stray_seal_refused);
    }
    if (before->role == HADB_CORE_CANDIDATE && core->role == HADB_CORE_FOLLOWER &&
        before->phase == HADB_PH_SEAL_COMPARE) {
        sim_saw(s, SIM_S_candidate_lost_race);
    }
    if (hadb_core_leads(core) && !hadb_core_leads(before)) {
        uint8_t others = 0;
        for (uint8_t i = 0; i < s->draw.nodes; i++) {
            others += i != n && s->node[i].up && hadb_core_leads(&s->node[i].core);
        }
        if (others > 0) {
            sim_saw(s, SIM_S_two_nodes_lead);
        }
        if (before->role == HADB_CORE_FOLLOWER) {
            sim_saw(s, SIM_S_named_successor_leads);
        }
    }
}

void sim_step(struct sim *s, uint8_t n, const struct hadb_event *ev)
{
    static struct hadb_actions actions;
    static struct hadb_core before;
    struct sim_node *node = &s->node[n];
    uint64_t now = sim_local_ms(s, node);
    HADB_ASSERT(now >= node->last_ms);
    node->last_ms = now;
    before = node->core;
    hadb_core_step(&node->core, ev, now, &actions);
    sim_note(s, (uint64_t)ev->type << 8 | ev->op, actions.len, node->core.view.slot);
    note_situation(s, n, &before);
    for (uint32_t i = 0; i < actions.len && !s->over; i++) {
        const struct hadb_action *a = &actions.items[i];
        sim_note(s, (uint64_t)a->type << 8 | a->op, a->term << 32 ^ a->slot, a->txid ^ a->pos.txid);
        sim_act(s, n, a);
    }
    if (!s->over) {
        sim_lease_pump(s, n);
        sim_arm(s, n);
    }
}

void sim_step_simple(struct sim *s, uint8_t n, enum hadb_event_type type)
{
    struct hadb_event ev = {.type = type};
    sim_step(s, n, &ev);
}

/* ---- processes ---- */

void sim_node_init(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    sim_engine_init(&node->engine);
    node->rate_permille = 1000;
    node->clock_us = 1000 * SIM_MS; /* never zero, which stands for "no deadline" in many places */
    if (sim_has(s, SIM_FAULT(CLOCK_RATE))) {
        node->rate_permille = (uint32_t)(500 + sim_below(s, 1501));
    }
    if (sim_has(s, SIM_FAULT(CLOCK_OFFSET))) {
        node->clock_us += sim_below(s, 1000000000000ull);
    }
    node->timer_at = SIM_NEVER;
}

static void forget_process(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    for (uint32_t i = 0; i < SIM_HANDLES_MAX; i++) {
        node->handles[i].kind = 0;
    }
    memset(node->ops, 0, sizeof node->ops);
    memset(&node->stream, 0, sizeof node->stream);
    node->unheard = 0;
    node->deferred_len = 0;
    memset(node->create_unknown, 0, sizeof node->create_unknown);
    node->watching = node->stopping = node->given_up = node->cas_unknown = false;
    node->poisoned = node->damaged = false;
    node->gate = HADB_GATE_CLOSED;
    node->snap_manifest = 0;
    node->timer_at = SIM_NEVER;
    sim_serve_reset(s, n);
}

void sim_node_start(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    if (node->up) {
        return;
    }
    forget_process(s, n);
    node->up = true;
    node->paused = false;
    node->life++;
    struct hadb_core_config config = s->draw.core;
    config.never_lead = n >= s->draw.nodes - s->draw.replicas;
    struct hadb_owner self = sim_owner(n, node->life);
    hadb_core_init(&node->core, &config, &self, sim_random(s));
    hadb_hint_init(&node->hint, &s->draw.hint);
    const struct sim_engine *e = &node->engine;
    node->restarted_with_tail = e->len > e->mark.txid;
    sim_say(s,
            "n%d starts its life %u at term %" PRIu64 " slot %" PRIu64 " transaction %" PRIu64
            ", tail %" PRIu64,
            n, node->life, e->mark.term, e->mark.slot, e->mark.txid, e->len - e->mark.txid);
    uint32_t last = sim_entry_of(&e->mark.hash);
    struct hadb_event start = {.type = HADB_EV_START,
                               .pos = e->mark,
                               .term = last != 0 ? s->entries[last].info.term : 0,
                               .slot = last != 0 ? s->entries[last].info.slot : 0,
                               .owner = e->owner,
                               .last_txid = e->len,
                               .last_term = e->tail_term};
    sim_step(s, n, &start);
    sim_push(s, 0, &(struct sim_event){.kind = SIM_EV_HEARTBEAT, .node = n, .life = node->life});
}

void sim_node_crash(struct sim *s, uint8_t n, bool keep_all, bool empty_disk)
{
    struct sim_node *node = &s->node[n];
    if (!node->up) {
        return;
    }
    sim_say(s, "n%d %s%s", n, keep_all ? "exits" : "crashes",
            empty_disk ? ", its disk is lost" : "");
    node->up = node->paused = false;
    sim_process_gone(s, n);
    forget_process(s, n);
    if (empty_disk) {
        sim_saw(s, SIM_S_restart_with_empty_disk);
        sim_engine_clear(s, &node->engine);
    } else {
        sim_engine_crash(s, &node->engine,
                         keep_all || !sim_has(s, SIM_FAULT(UNSYNCED) | SIM_FAULT(SYNC_LIE)));
    }
}

void sim_node_pause(struct sim *s, uint8_t n, uint64_t us)
{
    struct sim_node *node = &s->node[n];
    if (!node->up || node->paused) {
        return;
    }
    sim_say(s, "n%d stands still for %" PRIu64 " ms", n, us / SIM_MS);
    if (hadb_core_leads(&node->core) && us > 2 * s->draw.ttl_ms * SIM_MS) {
        sim_saw(s, SIM_S_owner_paused_past_ttl);
    }
    node->paused = true;
    node->paused_until = s->now + us;
    sim_push(s, us,
             &(struct sim_event){.kind = SIM_EV_RESUME, .node = n, .life = 0, .a = node->life});
}

void sim_node_defer(struct sim *s, const struct sim_event *ev)
{
    struct sim_node *node = &s->node[ev->node];
    if (node->deferred_len == node->deferred_cap) {
        node->deferred_cap = node->deferred_cap ? node->deferred_cap * 2 : 64;
        node->deferred =
            sim_must(realloc(node->deferred, node->deferred_cap * sizeof *node->deferred));
    }
    node->deferred[node->deferred_len++] = *ev;
}

void sim_node_resume(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    if (!node->paused || (s->now < node->paused_until && s->phase == SIM_PH_SAFETY)) {
        return;
    }
    sim_say(s, "n%d goes on", n);
    node->paused = false;
    for (uint32_t i = 0; i < node->deferred_len; i++) {
        sim_push(s, i + 1, &node->deferred[i]); /* in the order in which they came */
    }
    node->deferred_len = 0;
    node->timer_at = SIM_NEVER;
    sim_arm(s, n);
}

/* Orderly: the record says FREE, the machine stops, then the process ends. */
void sim_node_stop(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    if (!node->up || node->paused || node->stopping) {
        return;
    }
    sim_say(s, "n%d is asked to stop", n);
    sim_saw(s, SIM_S_stopped_orderly);
    node->stopping = true;
    hadb_hint_close(&node->hint, sim_local_ms(s, node));
    sim_step_simple(s, n, HADB_EV_STOP);
    sim_serve_lost(s, n, 0, false);
    sim_engine_flush(s, &node->engine);
}

/* The engine reports that it takes no more writes; somebody restarts the process after a while. */
void sim_node_poison(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    if (node->up && !node->paused && !node->stopping && !node->poisoned) {
        sim_say(s, "the engine of n%d fails", n);
        sim_saw(s, SIM_S_engine_failed);
        node->poisoned = true;
        sim_step_simple(s, n, HADB_EV_LOCAL);
        sim_serve_lost(s, n, 0, false);
    }
}

static bool over(struct sim *s, const struct sim_node *node)
{
    if (node->poisoned && (s->phase != SIM_PH_SAFETY || sim_chance(s, 200))) {
        return true;
    }
    return node->stopping && node->hint.state == HADB_HINT_FREE && !node->hint.busy;
}

void sim_node_heartbeat(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    if (over(s, node)) {
        sim_node_crash(s, n, !node->poisoned, false);
        sim_push(s, sim_around(s, s->draw.ttl_ms * SIM_MS),
                 &(struct sim_event){.kind = SIM_EV_START, .node = n});
        return;
    }
    sim_stream_beat(s, n);
    sim_notify_again(s, n);
    if (sim_chance(s, 300)) {
        sim_engine_flush(s, &node->engine); /* the engine's own cadence */
    }
    sim_push(s, s->draw.ttl_ms * SIM_MS / 5,
             &(struct sim_event){.kind = SIM_EV_HEARTBEAT, .node = n, .life = node->life});
}
