/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulator: the store. It keeps S1 to S4 of protocol 4.0 and nothing more: a request may be lost before
 * it arrives, be carried out and not answered, arrive much later or twice, or find nobody.
 *
 * Thread: one. Invariant: a create never replaces, a manifest is only written over the one expected;
 * a request is carried out in one moment.
 */
#include "base/util.h"
#include "sim/sim_private.h"

#include <inttypes.h>

#define DAMAGE_PER_MILLE 50u /* of the drawn rate: each one ends a process */
#define DELAY_TTLS 12u       /* a late request arrives within so many TTLs */

enum { ANSWERS = 1, SILENT = 2 }; /* sim_event.flag: does this copy of the request answer? */

static bool reachable(const struct sim *s, uint8_t n)
{
    return s->now >= s->outage_until && s->now >= s->node[n].store_cut_until;
}

static void send(struct sim *s, uint8_t n, enum hadb_core_op o, uint8_t flag, uint64_t delay_us)
{
    const struct sim_op *op = &s->node[n].ops[o];
    sim_push(s, delay_us,
             &(struct sim_event){.kind = SIM_EV_STORE,
                                 .node = n,
                                 .op = (uint8_t)o,
                                 .flag = flag,
                                 .life = s->node[n].life,
                                 .result = (uint32_t)op->type,
                                 .a = op->id,
                                 .own_term = op->pos.term,
                                 .own_slot = op->pos.slot,
                                 .b = (uint32_t)op->txid | (op->flag ? 1u << 31 : 0),
                                 .x = op->term,
                                 .y = op->slot});
}

void sim_store_ask(struct sim *s, uint8_t n, enum hadb_core_op o)
{
    const struct sim_op *op = &s->node[n].ops[o];
    bool changes = op->type == HADB_ACT_CREATE || op->type == HADB_ACT_CAS_MANIFEST ||
                   op->type == HADB_ACT_DELETE;
    uint64_t trip = sim_around(s, s->draw.store_us);
    uint64_t deadline = s->draw.ttl_ms * SIM_MS / 2;
    s->store_requests++;
    if (s->phase >= SIM_PH_QUIET) {
        sim_say(s, "n%d sends a store request: action %d on op %d, %" PRIu64 "/%" PRIu64, n,
                op->type, o, op->term, op->slot);
    }
    if (sim_fault(s, SIM_F_BIT_STORE_SLOW)) {
        trip += sim_around(s, deadline);
    }
    if (!reachable(s, n) || sim_fault(s, SIM_F_BIT_STORE_FAIL)) {
        sim_answer_later(s, n, o, HADB_R_UNKNOWN, 0, sim_chance(s, 500) ? trip : deadline);
        return;
    }
    if (sim_fault(s, SIM_F_BIT_STORE_LOST)) {
        send(s, n, o, SILENT, trip / 2);
        sim_answer_later(s, n, o, HADB_R_UNKNOWN, 0, sim_chance(s, 500) ? trip : deadline);
        return;
    }
    if (changes && sim_fault(s, SIM_F_BIT_STORE_DELAY)) {
        send(s, n, o, SILENT, sim_below(s, DELAY_TTLS * s->draw.ttl_ms * SIM_MS));
        sim_answer_later(s, n, o, HADB_R_UNKNOWN, 0, sim_below(s, deadline));
        return;
    }
    if (changes && sim_fault(s, SIM_F_BIT_STORE_TWICE)) { /* either copy may come first */
        send(s, n, o, SILENT,
             sim_below(s, sim_chance(s, 500) ? trip : DELAY_TTLS * s->draw.ttl_ms * SIM_MS));
    }
    send(s, n, o, ANSWERS, trip / 2);
}

/* ---- carrying out ---- */

static enum hadb_result create(struct sim *s, const struct sim_event *ev)
{
    struct sim_entry *e = &s->entries[ev->a];
    char words[120];
    if (sim_map_get(&s->store, e->info.term, e->info.slot) != 0) {
        return HADB_R_EXISTS;
    }
    sim_map_set(&s->store, e->info.term, e->info.slot, ev->a);
    if (e->was_deleted) {
        sim_saw(s, SIM_S_deleted_slot_came_back);
    }
    e->was_stored = true;
    sim_entry_words(s, ev->a, words, sizeof words);
    sim_say(s, "store: %s created%s", words, ev->flag == SILENT ? ", answer lost" : "");
    return HADB_R_OK;
}

static enum hadb_result write_manifest(struct sim *s, const struct sim_event *ev)
{
    uint32_t expected = ev->b & ~(1u << 31);
    if (s->manifest != expected) {
        return HADB_R_LOST;
    }
    sim_oracle_manifest(s, ev->a);
    s->manifest = ev->a;
    sim_say(s, "store: manifest version %" PRIu64 ", boundary %" PRIu64,
            s->manifests[ev->a].info.version, s->manifests[ev->a].info.boundary_slot);
    sim_saw(s, SIM_S_snapshot_published);
    return HADB_R_OK;
}

/* Deletes DATA up to a slot; sometimes only a part of it. Seals stay, unless a mutant asks for them. */
static enum hadb_result delete_slots(struct sim *s, const struct sim_event *ev)
{
    bool seals_too = ev->b >> 31;
    bool all = true;
    uint64_t boundary = s->manifests[s->manifest].info.boundary_slot;
    for (size_t i = 0; i < s->store.cap; i++) {
        struct sim_place *place = &s->store.places[i];
        if (place->value == 0 || place->slot > ev->y) {
            continue;
        }
        struct sim_entry *e = &s->entries[place->value];
        if (e->info.kind == HADB_CORE_SEAL && !seals_too) {
            continue;
        }
        if (ev->flag == SILENT && sim_chance(s, 500)) {
            all = false;
            continue;
        }
        if (place->slot > boundary && (s->opt.rules & HADB_RULE_DELETE_LAST) &&
            (s->opt.rules & HADB_RULE_CAS_REREAD)) {
            sim_fail(s, "I5: slot %" PRIu64 " above the boundary %" PRIu64 " is deleted",
                     place->slot, boundary);
        }
        e->was_deleted = true;
        place->value = 0;
        sim_saw(s, SIM_S_slots_deleted);
    }
    return all ? HADB_R_OK : HADB_R_UNKNOWN;
}

static void answer_two(struct sim *s, const struct sim_event *ev, enum hadb_result result,
                       uint32_t a, uint32_t b)
{
    struct sim_node *node = &s->node[ev->node];
    if (ev->flag == SILENT || !node->up || node->life != ev->life) {
        return;
    }
    uint64_t trip = sim_around(s, s->draw.store_us / 2 + 1);
    if (!reachable(s, ev->node)) { /* the way back is cut */
        result = HADB_R_UNKNOWN;
        trip = s->draw.ttl_ms * SIM_MS / 2;
    }
    if (s->now < node->store_clog_until) {
        trip += node->store_clog_until - s->now;
        sim_saw(s, SIM_S_late_answer);
    }
    bool reads = ev->result == HADB_ACT_GET || ev->result == HADB_ACT_GET_MANIFEST ||
                 ev->result == HADB_ACT_RESTORE;
    if (reads && result == HADB_R_OK && sim_fault(s, SIM_F_BIT_STORE_DAMAGE) &&
        sim_chance(s, DAMAGE_PER_MILLE)) {
        result = HADB_R_CORRUPT;
        node->damaged = true;
    }
    sim_push(s, trip,
             &(struct sim_event){.kind = SIM_EV_ANSWER,
                                 .node = ev->node,
                                 .op = ev->op,
                                 .life = node->life,
                                 .result = result,
                                 .a = a,
                                 .b = b});
}

/* The last object behind the missing one. */
static uint32_t last_behind(const struct sim *s, uint64_t term, uint64_t slot)
{
    uint32_t found = 0;
    for (size_t i = 0; i < s->store.cap; i++) {
        const struct sim_place *place = &s->store.places[i];
        const struct hadb_entry_info *last = &s->entries[found].info;
        bool behind =
            place->value != 0 && place->term >= term && place->slot >= slot + (place->term == term);
        if (behind && (found == 0 || place->term > last->term ||
                       (place->term == last->term && place->slot > last->slot))) {
            found = place->value;
        }
    }
    return found;
}

static void answer(struct sim *s, const struct sim_event *ev, enum hadb_result result, uint32_t a)
{
    answer_two(s, ev, result, a, 0);
}

void sim_store_arrive(struct sim *s, const struct sim_event *ev)
{
    if (s->phase == SIM_PH_DAMAGED && ev->life <= s->damaged_life[ev->node]) {
        return; /* sent before the damage; nothing comes back */
    }
    switch ((enum hadb_action_type)ev->result) {
    case HADB_ACT_GET: {
        uint32_t id = sim_map_get(&s->store, ev->x, ev->y);
        answer(s, ev, id != 0 ? HADB_R_OK : HADB_R_ABSENT, id);
        break;
    }
    case HADB_ACT_GET_MANIFEST:
        answer(s, ev, HADB_R_OK, s->manifest);
        break;
    case HADB_ACT_SURVEY:
        answer_two(s, ev, HADB_R_OK, last_behind(s, ev->x, ev->y),
                   ev->own_slot != 0 ? sim_map_get(&s->store, ev->own_term, ev->own_slot) : 0);
        break;
    case HADB_ACT_CREATE:
        answer(s, ev, create(s, ev), 0);
        break;
    case HADB_ACT_CAS_MANIFEST:
        answer(s, ev, write_manifest(s, ev), 0);
        break;
    case HADB_ACT_DELETE:
        answer(s, ev, delete_slots(s, ev), 0);
        break;
    case HADB_ACT_RESTORE: {
        uint32_t snapshot = s->manifests[s->manifest].snapshot;
        answer(s, ev, snapshot != 0 ? HADB_R_OK : HADB_R_ABSENT, snapshot);
        break;
    }
    default:
        HADB_ASSERT(!"a storage request");
    }
}

bool sim_store_ahead(const struct sim *s, const struct hadb_pos *pos)
{
    return s->manifests[s->manifest].info.boundary_slot > pos->slot ||
           sim_map_get(&s->store, pos->term, pos->slot + 1) != 0;
}

/* Walks the history as a reader would: snapshot, then entry after entry. */
uint32_t sim_store_history(const struct sim *s, uint32_t *reqs, uint32_t max)
{
    const struct sim_manifest *m = &s->manifests[s->manifest];
    uint64_t term = 0;
    uint64_t slot = 1;
    uint32_t len = 0;
    if (m->snapshot != 0) {
        const struct sim_list *txs = &s->snapshots[m->snapshot].txs;
        for (; len < txs->len && len < max; len++) {
            reqs[len] = s->lists[txs->at + len];
        }
        term = m->info.boundary_term;
        slot = m->info.boundary_slot + 1;
    }
    for (uint32_t id; (id = sim_map_get(&s->store, term, slot)) != 0;) {
        const struct sim_entry *e = &s->entries[id];
        if (e->info.kind == HADB_CORE_SEAL) {
            term++;
            continue;
        }
        slot++;
        for (uint32_t i = 0; i < e->txs.len && len < max; i++) {
            reqs[len++] = s->lists[e->txs.at + i];
        }
    }
    return len;
}
