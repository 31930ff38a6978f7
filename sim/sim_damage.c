/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulator: what an administrator or a broken disk may do to a store, while all processes are down: one object
 * of the log is lost, or the log is set back to an earlier state. The seed ends with that instead of healing.
 *
 * Thread: one. Invariants: only damage that can be noticed is done: a lost object that something behind it
 * proves, a state that all nodes that start again have seen more than (the others stay down).
 * Afterwards nothing may be taken for the end of the log that is none (I4, I6), no read may miss what was
 * durable (I7), and nobody may lead on top of what the store has forgotten.
 */
#include "base/util.h"
#include "sim/sim_private.h"

#include <inttypes.h>

#define WALK_MAX 4096u
#define AFTER_TTLS 10u

struct walk { /* the log above the boundary, in order */
    uint32_t ids[WALK_MAX];
    uint32_t len;
};

static void walk(const struct sim *s, struct walk *w)
{
    const struct sim_manifest *m = &s->manifests[s->manifest];
    uint64_t term = m->snapshot != 0 ? m->info.boundary_term : 0;
    uint64_t slot = m->snapshot != 0 ? m->info.boundary_slot + 1 : 1;
    w->len = 0;
    for (uint32_t id; (id = sim_map_get(&s->store, term, slot)) != 0 && w->len < WALK_MAX;) {
        w->ids[w->len++] = id;
        bool is_seal = s->entries[id].info.kind == HADB_CORE_SEAL;
        term += is_seal;
        slot += !is_seal;
    }
}

/* Does something in the history behind it tell that it was there? */
static bool provable(const struct sim *s, const struct walk *w, uint32_t lost)
{
    const struct hadb_entry_info *missing = &s->entries[w->ids[lost]].info;
    for (uint32_t i = lost + 1; i < w->len; i++) {
        const struct sim_entry *e = &s->entries[w->ids[i]];
        if (e->info.term > missing->term || e->info.kind == HADB_CORE_SEAL ||
            e->info.slot >= missing->slot + HADB_WINDOW_MAX || e->durable_slot >= missing->slot) {
            return true;
        }
    }
    return false;
}

static bool lose_one(struct sim *s, const struct walk *w)
{
    uint32_t able = 0;
    for (uint32_t i = 0; i < w->len; i++) {
        able += provable(s, w, i);
    }
    uint64_t pick = sim_below(s, able);
    for (uint32_t i = 0; i < w->len && able != 0; i++) {
        if (!provable(s, w, i) || pick-- != 0) {
            continue;
        }
        const struct hadb_entry_info *lost = &s->entries[w->ids[i]].info;
        sim_map_set(&s->store, lost->term, lost->slot, 0);
        sim_say(s, "---- the store loses %" PRIu64 "/%" PRIu64, lost->term, lost->slot);
        s->damage = SIM_DAMAGE_HOLE;
        return true;
    }
    return false;
}

static bool has_seen(const struct sim *s, const struct walk *w, uint32_t cut, uint8_t n)
{
    uint32_t own = sim_entry_of(&s->node[n].engine.mark.hash);
    for (uint32_t i = cut; i < w->len; i++) {
        if (w->ids[i] == own) {
            return true;
        }
    }
    return false;
}

static bool set_back(struct sim *s, const struct walk *w)
{
    uint32_t cut = (uint32_t)sim_below(s, w->len);
    bool seen = false;
    s->kept_down = 0;
    for (uint8_t n = 0; n < s->draw.nodes; n++) {
        bool has = has_seen(s, w, cut, n);
        seen |= has;
        s->kept_down |= has ? 0 : 1u << n;
    }
    if (w->len == 0 || !seen) {
        s->kept_down = 0;
        return false;
    }
    const struct hadb_entry_info *first = &s->entries[w->ids[cut]].info;
    for (size_t i = 0; i < s->store.cap; i++) {
        struct sim_place *place = &s->store.places[i];
        if (place->value != 0 && place->term >= first->term && place->slot >= first->slot) {
            place->value = 0;
        }
    }
    sim_say(s, "---- the store forgets everything from %" PRIu64 "/%" PRIu64 " on", first->term,
            first->slot);
    s->damage = SIM_DAMAGE_ROLLBACK;
    return true;
}

bool sim_damage(struct sim *s)
{
    static struct walk w;
    for (uint8_t n = 0; n < s->draw.nodes; n++) {
        sim_node_crash(s, n, true, false);
        s->damaged_life[n] = s->node[n].life;
    }
    walk(s, &w);
    if (!(sim_chance(s, 500) ? lose_one(s, &w) : set_back(s, &w))) {
        return false;
    }
    s->phase = SIM_PH_DAMAGED;
    s->damaged_truth = s->truth_len;
    s->outage_until = s->lease_frozen_until = 0;
    for (uint8_t n = 0; n < s->draw.nodes; n++) {
        s->node[n].store_cut_until = 0;
        sim_node_set_rate(s, n, 1000);
        if (s->damage == SIM_DAMAGE_HOLE && sim_chance(s, 500)) {
            sim_engine_clear(s, &s->node[n].engine);
        }
        sim_push(s, sim_below(s, s->draw.ttl_ms * SIM_MS),
                 &(struct sim_event){.kind = SIM_EV_START, .node = n});
    }
    sim_push(s, AFTER_TTLS * s->draw.ttl_ms * SIM_MS, &(struct sim_event){.kind = SIM_EV_PHASE});
    return true;
}

bool sim_damage_explains(struct sim *s, enum hadb_halt halt)
{
    if (s->phase != SIM_PH_DAMAGED) {
        return false;
    }
    sim_saw(s, s->damage == SIM_DAMAGE_HOLE ? SIM_S_hole_noticed : SIM_S_rollback_noticed);
    return halt == (s->damage == SIM_DAMAGE_HOLE ? HADB_HALT_GAP : HADB_HALT_ROLLBACK) ||
           (s->damage == SIM_DAMAGE_HOLE &&
            halt == HADB_HALT_ROLLBACK); /* its own object is lost */
}

void sim_damage_gate(struct sim *s, uint8_t n)
{
    if (s->phase == SIM_PH_DAMAGED && s->damage == SIM_DAMAGE_ROLLBACK) {
        sim_fail(s, "D10: n%d leads on top of what the store has forgotten", n);
    }
}

void sim_damage_read(struct sim *s, uint8_t n, uint64_t txid)
{
    if (s->phase == SIM_PH_DAMAGED && txid < s->damaged_truth) {
        sim_fail(s, "I7: n%d reads transaction %" PRIu64 " behind a hole, %u were durable", n, txid,
                 s->damaged_truth);
    }
}
