/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulator: the lease store with its faults, each node's own record (struct hadb_hint) and its judgement
 * of the owner (struct hadb_watch).
 *
 * Thread: one. Nothing here may matter for safety, so everything may go wrong: records vanish, go back in
 * time, are frozen, conditional writes ignore their condition.
 */
#include "base/util.h"
#include "sim/sim_private.h"

#include <inttypes.h>
#include <string.h>

/* ---- the store ---- */

static void send(struct sim *s, uint8_t n, enum sim_lease_op op, uint8_t whom)
{
    struct sim_node *node = &s->node[n];
    struct sim_event ev = {.kind = SIM_EV_LEASE,
                           .node = n,
                           .op = (uint8_t)op,
                           .a = whom,
                           .life = node->life,
                           .b = node->lease_tag,
                           .x = node->hint.counter,
                           .y = (uint64_t)node->hint.state << 1 | node->given_up};
    uint64_t trip = sim_around(s, s->draw.store_us);
    if (sim_fault(s, SIM_F_BIT_LEASE_FAIL)) {
        if (sim_chance(s, 500)) { /* carried out, not answered */
            ev.flag = 1;
            sim_push(s, trip / 2, &ev);
        }
        sim_push(s, s->draw.hint.request_max_ms * (uint64_t)SIM_MS,
                 &(struct sim_event){.kind = SIM_EV_LEASE_REPLY,
                                     .node = n,
                                     .op = (uint8_t)op,
                                     .a = whom,
                                     .life = node->life,
                                     .result = HADB_R_UNKNOWN});
        return;
    }
    sim_push(s, trip / 2, &ev);
}

static void misbehave(struct sim *s, uint8_t whom)
{
    struct sim_lease *lease = &s->lease[whom];
    if (sim_fault(s, SIM_F_BIT_LEASE_FORGET)) {
        memset(lease, 0, sizeof *lease);
        sim_saw(s, SIM_S_lease_forgotten);
    } else if (sim_fault(s, SIM_F_BIT_LEASE_ROLLBACK)) {
        *lease = s->lease_past[whom];
    } else if (sim_chance(s, 50)) {
        s->lease_past[whom] = *lease;
    }
}

static enum hadb_result write_record(struct sim *s, const struct sim_event *ev)
{
    struct sim_lease *lease = &s->lease[ev->node];
    bool matches = ev->b == (lease->exists ? lease->tag : 0);
    if (!matches && !sim_fault(s, SIM_F_BIT_LEASE_DOUBLE)) {
        return HADB_R_LOST;
    }
    lease->exists = true;
    lease->tag = (uint32_t)(sim_random(s) >> 33) + 1;
    lease->incarnation = sim_owner(ev->node, ev->life).incarnation;
    lease->counter = ev->x;
    lease->state = (uint8_t)(ev->y >> 1);
    lease->given_up = ev->y & 1;
    return HADB_R_OK;
}

static void await_reply(struct sim *s, const struct sim_event *ev, enum hadb_result result)
{
    sim_push(s, sim_around(s, s->draw.store_us / 2 + 1),
             &(struct sim_event){.kind = SIM_EV_LEASE_REPLY,
                                 .node = ev->node,
                                 .op = SIM_LEASE_AWAIT,
                                 .a = ev->a,
                                 .life = ev->life,
                                 .result = (uint32_t)result});
}

/* Being told when a record changes: b is its tag as it was read, x until when. */
static void await_change(struct sim *s, uint8_t n, uint8_t whom)
{
    struct sim_event ev = {.kind = SIM_EV_LEASE,
                           .node = n,
                           .op = SIM_LEASE_AWAIT,
                           .a = whom,
                           .life = s->node[n].life,
                           .b = s->node[n].seen_tag,
                           .x = s->now + s->draw.ttl_ms * SIM_MS / 2};
    if (sim_fault(s, SIM_F_BIT_LEASE_FAIL)) {
        await_reply(s, &ev, HADB_R_UNKNOWN);
    } else {
        sim_push(s, sim_around(s, s->draw.store_us), &ev);
    }
}

static void await_arrive(struct sim *s, const struct sim_event *ev)
{
    const struct sim_lease *lease =
        s->now < s->lease_frozen_until ? &s->lease_past[ev->a] : &s->lease[ev->a];
    const struct sim_node *node = &s->node[ev->node];
    if (!node->up || node->life != ev->life) {
        return;
    }
    if (ev->b != (lease->exists ? lease->tag : 0)) {
        sim_saw(s, SIM_S_lease_told);
        await_reply(s, ev, HADB_R_OK);
    } else if (s->now >= ev->x) {
        await_reply(s, ev, HADB_R_ABSENT);
    } else {
        sim_push(s, sim_around(s, 4 * s->draw.store_us), ev);
    }
}

void sim_lease_arrive(struct sim *s, const struct sim_event *ev)
{
    uint8_t whom = (uint8_t)ev->a;
    if (ev->op == SIM_LEASE_AWAIT) {
        await_arrive(s, ev);
        return;
    }
    misbehave(s, whom);
    enum hadb_result result = HADB_R_OK;
    const struct sim_lease *lease =
        s->now < s->lease_frozen_until ? &s->lease_past[whom] : &s->lease[whom];
    if (ev->op == SIM_LEASE_WRITE) {
        result = write_record(s, ev);
        lease = &s->lease[whom];
    } else if (!lease->exists) {
        result = HADB_R_ABSENT;
    }
    struct sim_node *node = &s->node[ev->node];
    if (ev->flag != 0 || !node->up || node->life != ev->life) {
        return;
    }
    uint32_t life;
    memcpy(&life, lease->incarnation.b + 10, sizeof life);
    sim_push(s, sim_around(s, s->draw.store_us / 2 + 1),
             &(struct sim_event){.kind = SIM_EV_LEASE_REPLY,
                                 .node = ev->node,
                                 .op = ev->op,
                                 .a = whom,
                                 .life = ev->life,
                                 .result = (uint32_t)result,
                                 .b = lease->exists ? lease->tag : 0,
                                 .x = lease->counter,
                                 .y = (uint64_t)life << 8 | (uint64_t)lease->state << 1 |
                                      lease->given_up});
}

/* ---- the owner of the current term ---- */

void sim_watch_owner(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    uint8_t other = sim_owner_node(&node->owner);
    /* Its own former life is watched, too: after the loss of a disk nobody else may be there to do it. */
    bool self = memcmp(&node->owner, &node->core.self, sizeof node->owner) == 0;
    node->watching = other != SIM_NOBODY && !self;
    node->told = HADB_LIVE_ALIVE;
    sim_stream_drop(s, n);
    if (node->watching) {
        hadb_watch_init(&node->watch, &s->draw.hint, &node->owner.incarnation,
                        sim_local_ms(s, node));
        node->stream.retry_at = s->now;
    }
}

static void tell(struct sim *s, uint8_t n, enum hadb_liveness liveness)
{
    struct sim_node *node = &s->node[n];
    if (node->told == liveness || (s->now < node->alarm_until && s->phase == SIM_PH_SAFETY)) {
        return;
    }
    static const enum sim_sometimes situation[] = {
        [HADB_LIVE_SILENT] = SIM_S_verdict_silent,
        [HADB_LIVE_GONE] = SIM_S_verdict_gone,
        [HADB_LIVE_FREE] = SIM_S_verdict_free,
    };
    if (liveness != HADB_LIVE_ALIVE) {
        sim_saw(s, situation[liveness]);
    }
    node->told = (uint8_t)liveness;
    sim_say(s, "n%d thinks of n%d: %s", n, sim_owner_node(&node->owner),
            liveness == HADB_LIVE_ALIVE    ? "alive"
            : liveness == HADB_LIVE_SILENT ? "silent"
            : liveness == HADB_LIVE_GONE   ? "gone"
                                           : "free");
    struct hadb_event ev = {.type = HADB_EV_OWNER, .liveness = liveness, .owner = node->owner};
    sim_step(s, n, &ev);
}

void sim_lease_pump(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    uint64_t now = sim_local_ms(s, node);
    switch (hadb_hint_step(&node->hint, now)) {
    case HADB_HINT_READ:
        send(s, n, SIM_LEASE_READ_OWN, n);
        break;
    case HADB_HINT_WRITE:
        send(s, n, SIM_LEASE_WRITE, n);
        break;
    case HADB_HINT_NOTHING:
        break;
    }
    if (!node->watching) {
        return;
    }
    enum hadb_watch_do what;
    while ((what = hadb_watch_step(&node->watch, now)) != HADB_WATCH_NOTHING) {
        if (what == HADB_WATCH_READ) {
            send(s, n, SIM_LEASE_READ_OTHER, sim_owner_node(&node->owner));
        } else if (what == HADB_WATCH_AWAIT) {
            await_change(s, n, sim_owner_node(&node->owner));
        } else {
            sim_connect(s, n, sim_owner_node(&node->owner), false);
        }
    }
    tell(s, n, hadb_watch_liveness(&node->watch));
}

void sim_lease_reply(struct sim *s, const struct sim_event *ev)
{
    struct sim_node *node = &s->node[ev->node];
    uint64_t now = sim_local_ms(s, node);
    enum hadb_result result = (enum hadb_result)ev->result;
    if (ev->op == SIM_LEASE_READ_OWN) {
        node->lease_tag = ev->b;
        hadb_hint_read_done(&node->hint, result, now);
    } else if (ev->op == SIM_LEASE_WRITE) {
        node->lease_tag = result == HADB_R_OK ? ev->b : node->lease_tag;
        hadb_hint_write_done(&node->hint, result, now);
    } else if (ev->op == SIM_LEASE_AWAIT) {
        if (node->watching && node->watch.awaiting && sim_owner_node(&node->owner) == ev->a) {
            hadb_watch_changed(&node->watch, result, now);
        }
    } else if (node->watching && node->watch.busy && sim_owner_node(&node->owner) == ev->a) {
        struct hadb_id incarnation = sim_owner((uint8_t)ev->a, (uint32_t)(ev->y >> 8)).incarnation;
        bool given_up = ev->y & 1;
        node->seen_tag = ev->b;
        enum hadb_hint_state state =
            given_up ? HADB_HINT_FREE : (enum hadb_hint_state)(ev->y >> 1 & 3);
        hadb_watch_record(&node->watch, result, &incarnation, ev->x, state, now);
    }
    sim_lease_pump(s, ev->node);
    sim_arm(s, ev->node);
}
