/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulator: what a seed is made of (which faults exist and how often, time constants, sizes), and the
 * trouble that befalls whole nodes while it runs.
 *
 * Thread: one. Every seed draws its own set of faults, so that rare combinations are met and a fault that
 * hides another is sometimes absent.
 */
#include "base/util.h"
#include "sim/sim_private.h"

#include <string.h>

#define DAMAGE_ONE_IN 4u

const char *const sim_fault_names[SIM_F_BITS] = {
#define HADB_X(name, text) #name,
    SIM_FAULTS(HADB_X)
#undef HADB_X
};
const char *const sim_fault_texts[SIM_F_BITS] = {
#define HADB_X(name, text) text,
    SIM_FAULTS(HADB_X)
#undef HADB_X
};
const char *const sim_sometimes_names[SIM_S_LEN] = {
#define HADB_X(name) #name,
    SIM_SOMETIMES(HADB_X)
#undef HADB_X
};

static uint64_t one_of(struct sim *s, const uint64_t *items, size_t len)
{
    return items[sim_below(s, len)];
}
#define ONE_OF(s, ...) \
    one_of(s, (const uint64_t[]){__VA_ARGS__}, sizeof((uint64_t[]){__VA_ARGS__}) / 8)

static void draw_faults(struct sim *s)
{
    for (unsigned i = 0; i < SIM_F_BIT_DAMAGE; i++) {
        bool exists = sim_chance(s, 500);
        s->draw.per_mille[i] = (uint32_t)ONE_OF(s, 5, 20, 60, 150);
        if (exists) {
            s->draw.faults |= 1ull << i;
        }
    }
    if ((s->seed * 0x9e3779b97f4a7c15ull >> 40) % DAMAGE_ONE_IN == 0) { /* the end of these seeds */
        s->draw.faults |= SIM_FAULT(DAMAGE);
    }
    s->draw.faults &= s->opt.faults;
}

void sim_draw(struct sim *s)
{
    struct sim_draw *d = &s->draw;
    draw_faults(s);
    d->ttl_ms = ONE_OF(s, 500, 1000, 3000);
    d->store_us = ONE_OF(s, 1000, 5000, 30000);
    d->net_us = ONE_OF(s, 300, 2000, 10000);
    d->disk_us = ONE_OF(s, 50, 500, 3000);
    d->think_us = d->ttl_ms * ONE_OF(s, 10, 60, 250);
    d->nemesis_us = d->ttl_ms * SIM_MS * ONE_OF(s, 1, 2, 5);
    d->safety_us = d->ttl_ms * SIM_MS * 30;
    d->nodes = s->opt.nodes ? s->opt.nodes : 3;
    d->clients = (uint32_t)(1 + sim_below(s, SIM_CLIENTS_MAX - 1));
    d->replicas = d->nodes > 3 && sim_chance(s, 300) ? 1 : 0;
    uint32_t ttl = (uint32_t)d->ttl_ms;
    d->core = (struct hadb_core_config){
        .rules = s->opt.rules,
        .window = (uint32_t)ONE_OF(s, 1, 2, 4, 8),
        .poll_min_ms = 10,
        .poll_max_ms = ttl / 3,
        .backoff_min_ms = 5,
        .backoff_max_ms = ttl / 4,
        .suspect_wait_ms = (uint32_t)ONE_OF(s, 5, 50),
        .silent_wait_ms = ttl / 5,
        .lag_wait_ms = 2,
        .lag_wait_max_ms = ttl / 5,
        .drain_max_ms = ttl,
        .give_up_ms = ttl * 2,
        .snapshot_slots = (uint32_t)ONE_OF(s, 0, 5, 20),
        .tip_polls_max = (uint32_t)ONE_OF(s, 0, 2, 10),
        .grace_ms = (uint32_t)ONE_OF(s, 1, 100, ttl),
        .fast_suspicion = sim_chance(s, 800),
        .seal_turns = s->seed % 8 == 1,
        .clone_guard = s->seed % 8 == 3, /* draws nothing: the seeds keep their meaning */
        .jitter = true,
    };
    d->lag_ms = (s->seed % 8 | 2) == 3 ? ttl / 20 : 0; /* draws nothing either */
    d->core.rho_percent = 2;
    d->hint =
        (struct hadb_hint_config){.ttl_ms = ttl, .tells = s->seed % 4 == 2}; /* draws nothing */
    bool sound = hadb_hint_config_fix(&d->hint);
    HADB_ASSERT(sound);
}

/* ---- trouble ---- */

void sim_nemesis_later(struct sim *s)
{
    sim_push(s, sim_around(s, s->draw.nemesis_us), &(struct sim_event){.kind = SIM_EV_NEMESIS});
}

/* A span from very short to ten TTLs. */
static uint64_t span(struct sim *s)
{
    static const uint64_t percent[] = {5, 50, 110, 300, 1000};
    return sim_around(s, s->draw.ttl_ms * SIM_MS * one_of(s, percent, HADB_LEN(percent)) / 100);
}

/* The owner is hit more often than chance would have it. */
static uint8_t victim(struct sim *s)
{
    for (uint8_t n = 0; n < s->draw.nodes && sim_chance(s, 700); n++) {
        if (s->node[n].up && hadb_core_leads(&s->node[n].core)) {
            return n;
        }
    }
    return (uint8_t)sim_below(s, s->draw.nodes);
}

static void crash(struct sim *s, uint8_t n)
{
    bool empty = sim_has(s, SIM_FAULT(DISK_LOSS)) && sim_chance(s, 200);
    if (!s->node[n].up) {
        return;
    }
    sim_node_crash(s, n, false, empty);
    sim_push(s, sim_chance(s, 500) ? sim_around(s, 20 * SIM_MS) : span(s),
             &(struct sim_event){.kind = SIM_EV_START, .node = n});
}

static void cut_links(struct sim *s, uint8_t n, bool asymmetric)
{
    uint64_t until = s->now + span(s);
    uint8_t only = (uint8_t)sim_below(s, s->draw.nodes + 1); /* one peer, or all */
    sim_say(s, "links of n%d are cut%s", n, asymmetric ? " in one direction" : "");
    bool outwards = sim_chance(s, 500);
    for (uint8_t m = 0; m < s->draw.nodes; m++) {
        if (m == n || (only < s->draw.nodes && m != only && only != n)) {
            continue;
        }
        if (!asymmetric || outwards) {
            s->link_cut_until[n][m] = until;
        }
        if (!asymmetric || !outwards) {
            s->link_cut_until[m][n] = until;
        }
    }
}

static void hand_off(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    if (!node->up || node->paused) {
        return;
    }
    struct hadb_event ev = {.type = HADB_EV_HANDOFF};
    if (sim_chance(s, 700)) {
        ev.owner.node = sim_owner((uint8_t)sim_below(s, s->draw.nodes), 0).node;
    } else if (node->core.role == HADB_CORE_OWNER) {
        sim_saw(s, SIM_S_resigned);
    }
    sim_say(s, "n%d is asked to hand over to n%d", n, sim_owner_node(&ev.owner));
    sim_step(s, n, &ev);
}

/* Says that the owner is gone although nobody looked. */
static void alarm_falsely(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    if (!node->up || node->paused || !node->watching) {
        return;
    }
    static const uint64_t kinds[] = {HADB_LIVE_SILENT, HADB_LIVE_GONE, HADB_LIVE_FREE};
    struct hadb_event ev = {.type = HADB_EV_OWNER,
                            .liveness = (enum hadb_liveness)one_of(s, kinds, HADB_LEN(kinds)),
                            .owner = node->owner};
    sim_say(s, "n%d is told that the owner is %d", n, ev.liveness);
    node->told = (uint8_t)ev.liveness;
    node->alarm_until = s->now + span(s);
    sim_step(s, n, &ev);
}

static void snapshot(struct sim *s, uint8_t n)
{
    if (s->node[n].up && !s->node[n].paused) {
        sim_step_simple(s, n, HADB_EV_SNAPSHOT);
    }
}

static void strike(struct sim *s, enum sim_fault_bit bit)
{
    uint8_t n = victim(s);
    switch (bit) {
    case SIM_F_BIT_CRASH:
        crash(s, n);
        break;
    case SIM_F_BIT_PAUSE:
        sim_node_pause(s, n, span(s));
        break;
    case SIM_F_BIT_DISK_FAIL:
        sim_node_poison(s, n);
        break;
    case SIM_F_BIT_STOP:
        sim_node_stop(s, n);
        break;
    case SIM_F_BIT_STORE_OUTAGE:
        sim_saw(s, SIM_S_store_outage);
        s->outage_until = s->now + span(s);
        break;
    case SIM_F_BIT_STORE_CUT:
        sim_say(s, "n%d cannot reach the store", n);
        s->node[n].store_cut_until = s->now + span(s);
        break;
    case SIM_F_BIT_STORE_CLOG:
        sim_say(s, "answers of the store to n%d are stuck", n);
        s->node[n].store_clog_until = s->now + span(s);
        break;
    case SIM_F_BIT_NET_CUT:
        cut_links(s, n, false);
        break;
    case SIM_F_BIT_NET_ASYM:
        cut_links(s, n, true);
        break;
    case SIM_F_BIT_LEASE_FREEZE:
        memcpy(s->lease_past, s->lease, sizeof s->lease_past);
        s->lease_frozen_until = s->now + span(s);
        break;
    case SIM_F_BIT_CLOCK_RATE:
        sim_node_set_rate(s, n, (uint32_t)(500 + sim_below(s, 1501)));
        break;
    case SIM_F_BIT_HAND_OFF:
        hand_off(s, n);
        break;
    case SIM_F_BIT_SNAPSHOT:
        snapshot(s, (uint8_t)sim_below(s, s->draw.nodes));
        break;
    case SIM_F_BIT_ALARM:
        alarm_falsely(s, (uint8_t)sim_below(s, s->draw.nodes));
        break;
    default:
        break; /* of the kind that strikes single requests */
    }
}

void sim_nemesis(struct sim *s)
{
    static const uint8_t strikes[] = {
        SIM_F_BIT_CRASH,      SIM_F_BIT_PAUSE,      SIM_F_BIT_STOP,     SIM_F_BIT_STORE_OUTAGE,
        SIM_F_BIT_STORE_CUT,  SIM_F_BIT_NET_CUT,    SIM_F_BIT_NET_ASYM, SIM_F_BIT_LEASE_FREEZE,
        SIM_F_BIT_CLOCK_RATE, SIM_F_BIT_HAND_OFF,   SIM_F_BIT_SNAPSHOT, SIM_F_BIT_ALARM,
        SIM_F_BIT_DISK_FAIL,  SIM_F_BIT_STORE_CLOG,
    };
    if (s->phase != SIM_PH_SAFETY) {
        return;
    }
    uint8_t bit = strikes[sim_below(s, HADB_LEN(strikes))];
    for (int tries = 0; tries < 20 && !sim_has(s, 1ull << bit); tries++) {
        bit = strikes[sim_below(s, HADB_LEN(strikes))];
    }
    if (sim_has(s, 1ull << bit)) {
        strike(s, (enum sim_fault_bit)bit);
    }
    sim_nemesis_later(s);
}
