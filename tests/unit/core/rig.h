/* SPDX-License-Identifier: Apache-2.0 */
/* A machine under test with short ways to feed it events and to look at its last actions. */
#ifndef HADB_TEST_CORE_RIG_H
#define HADB_TEST_CORE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/core.h"

struct rig {
    struct hadb_core core;
    struct hadb_actions acts;
    uint64_t now_ms;
    uint64_t next_handle;
    bool
        survey_by_hand; /* else each SURVEY finds nothing behind, and the own object as it should be */
};

static inline struct hadb_owner owner_of(int node, int life)
{
    struct hadb_owner owner;
    memset(&owner, 0, sizeof owner);
    owner.node.b[15] = (uint8_t)node;
    owner.incarnation.b[15] = (uint8_t)(node * 16 + life);
    return owner;
}

static inline struct hadb_hash hash_of(int n)
{
    struct hadb_hash hash;
    memset(&hash, 0, sizeof hash);
    hash.b[0] = (uint8_t)n;
    hash.b[1] = (uint8_t)(n >> 8);
    hash.b[31] = 1;
    return hash;
}

static inline struct hadb_core_config rig_config(void)
{
    return (struct hadb_core_config){.rules = HADB_RULES_ALL,
                                     .window = 4,
                                     .poll_min_ms = 10,
                                     .poll_max_ms = 100,
                                     .backoff_min_ms = 10,
                                     .backoff_max_ms = 100,
                                     .suspect_wait_ms = 0,
                                     .silent_wait_ms = 0,
                                     .drain_max_ms = 500,
                                     .give_up_ms = 1000,
                                     .tip_polls_max = 8,
                                     .fast_suspicion = true,
                                     .jitter = true};
}

static inline struct hadb_action *act_of(struct rig *rig, enum hadb_action_type type)
{
    for (uint32_t i = 0; i < rig->acts.len; i++) {
        if (rig->acts.items[i].type == type) {
            return &rig->acts.items[i];
        }
    }
    return NULL;
}

static inline struct hadb_action *must(struct rig *rig, enum hadb_action_type type)
{
    struct hadb_action *action = act_of(rig, type);
    if (action == NULL) {
        fail_msg("expected action %d among %u", (int)type, rig->acts.len);
    }
    return action;
}

#define NONE(rig, type) assert_null(act_of(rig, type))

static inline void feed(struct rig *rig, struct hadb_event ev)
{
    hadb_core_step(&rig->core, &ev, rig->now_ms, &rig->acts);
    if (rig->survey_by_hand || act_of(rig, HADB_ACT_SURVEY) == NULL) {
        return;
    }
    struct hadb_actions before = rig->acts;
    struct hadb_event found = {.type = HADB_EV_SURVEYED, .op = HADB_OP_MAIN};
    found.entry.prev = rig->core.view.hash;
    hadb_core_step(&rig->core, &found, rig->now_ms, &rig->acts);
    struct hadb_actions after = rig->acts;
    rig->acts.len = 0;
    for (uint32_t i = 0; i < before.len; i++) {
        if (before.items[i].type != HADB_ACT_SURVEY) {
            rig->acts.items[rig->acts.len++] = before.items[i];
        }
    }
    for (uint32_t i = 0; i < after.len; i++) {
        rig->acts.items[rig->acts.len++] = after.items[i];
    }
}

static inline void rig_init(struct rig *rig, const struct hadb_core_config *config)
{
    memset(rig, 0, sizeof *rig);
    rig->now_ms = 1000;
    rig->next_handle = 1;
    struct hadb_core_config defaults = rig_config();
    struct hadb_owner self = owner_of(1, 1);
    hadb_core_init(&rig->core, config ? config : &defaults, &self, 7);
}

static inline void tick(struct rig *rig, uint64_t ms)
{
    rig->now_ms += ms;
    feed(rig, (struct hadb_event){.type = HADB_EV_TICK});
}

static inline void answer_get(struct rig *rig, enum hadb_core_op op, enum hadb_result result)
{
    feed(rig, (struct hadb_event){.type = HADB_EV_ENTRY, .op = op, .result = result});
}

static inline struct hadb_entry_info data_entry(struct rig *rig, uint64_t slot, hadb_txid last,
                                                int prev, int hash)
{
    return (struct hadb_entry_info){.kind = HADB_CORE_DATA,
                                    .term = rig->core.view.term,
                                    .slot = slot,
                                    .last_txid = last,
                                    .prev = hash_of(prev),
                                    .hash = hash_of(hash)};
}

static inline void answer_entry(struct rig *rig, enum hadb_core_op op, struct hadb_entry_info entry)
{
    feed(rig, (struct hadb_event){.type = HADB_EV_ENTRY,
                                  .op = op,
                                  .result = HADB_R_OK,
                                  .entry = entry,
                                  .handle = rig->next_handle++});
}

static inline void answer_manifest(struct rig *rig, enum hadb_core_op op, uint64_t boundary)
{
    feed(rig, (struct hadb_event){.type = HADB_EV_MANIFEST,
                                  .op = op,
                                  .result = HADB_R_OK,
                                  .manifest = {.version = 1,
                                               .boundary_slot = boundary,
                                               .boundary_term = 1,
                                               .has_snapshot = boundary > 0}});
}

/* Starts at a position; an empty copy finds no snapshot. */
static inline void rig_start_at(struct rig *rig, uint64_t term, uint64_t slot, hadb_txid txid,
                                hadb_txid last_txid, struct hadb_owner owner)
{
    feed(rig, (struct hadb_event){.type = HADB_EV_START,
                                  .pos = {term, slot, txid, hash_of((int)slot)},
                                  .last_txid = last_txid,
                                  .last_term = term,
                                  .owner = owner});
    if (term == 0 && slot == 0) {
        answer_manifest(rig, HADB_OP_MAIN, 0);
    }
}

static inline void answer_applied(struct rig *rig, enum hadb_result result)
{
    feed(rig, (struct hadb_event){.type = HADB_EV_APPLIED, .op = HADB_OP_MAIN, .result = result});
}

/* Answers FRAME_* with an entry of hash @hash; DATA up to @last. */
static inline void answer_framed(struct rig *rig, const struct hadb_action *frame, hadb_txid last,
                                 int hash)
{
    bool seal = frame->type == HADB_ACT_FRAME_SEAL;
    struct hadb_entry_info entry = {.kind = seal ? HADB_CORE_SEAL : HADB_CORE_DATA,
                                    .reason = frame->reason,
                                    .term = frame->term,
                                    .slot = frame->slot,
                                    .last_txid = last,
                                    .prev = frame->prev,
                                    .hash = hash_of(hash),
                                    .next = frame->owner};
    feed(rig, (struct hadb_event){.type = HADB_EV_FRAMED,
                                  .op = frame->op,
                                  .result = HADB_R_OK,
                                  .entry = entry,
                                  .handle = rig->next_handle++});
}

static inline void answer_created(struct rig *rig, enum hadb_core_op op, enum hadb_result result)
{
    feed(rig, (struct hadb_event){.type = HADB_EV_CREATED, .op = op, .result = result});
}

static inline void commit(struct rig *rig, hadb_txid txid)
{
    feed(rig, (struct hadb_event){.type = HADB_EV_COMMITTED, .txid = txid});
}

static inline void liveness(struct rig *rig, enum hadb_liveness live)
{
    feed(rig,
         (struct hadb_event){.type = HADB_EV_OWNER, .liveness = live, .owner = rig->core.owner});
}

/* From a fresh follower of node 2 in term 1 after slot 5 to the owner of term 2; the seal has hash 90. */
static inline void rig_lead(struct rig *rig)
{
    rig_start_at(rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_get(rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(rig, HADB_OP_MAIN, 0);
    liveness(rig, HADB_LIVE_SILENT);
    tick(rig, 10);
    answer_get(rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_framed(rig, must(rig, HADB_ACT_FRAME_SEAL), 50, 90);
    answer_created(rig, HADB_OP_MAIN, HADB_R_OK);
    answer_applied(rig, HADB_R_OK);
    answer_manifest(rig, HADB_OP_MAIN, 0);
    assert_true(hadb_core_leads(&rig->core));
}

/* A follower of node 2 in term 1 at slot 5 that has seen the tip; @stream: with its owner's stream. */
static inline void rig_tail(struct rig *rig, const struct hadb_core_config *config, bool stream)
{
    rig_init(rig, config);
    rig_start_at(rig, 1, 5, 50, 50, owner_of(2, 1));
    if (stream) {
        feed(rig, (struct hadb_event){.type = HADB_EV_STREAM, .owner = owner_of(2, 1)});
    }
    answer_get(rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(rig, HADB_OP_MAIN, 0);
}

static inline void stream_entry(struct rig *rig, struct hadb_entry_info entry)
{
    feed(rig, (struct hadb_event){.type = HADB_EV_STREAM_ENTRY,
                                  .owner = owner_of(2, 1),
                                  .entry = entry,
                                  .handle = rig->next_handle++});
}

static inline void stream_mark(struct rig *rig, uint64_t term, uint64_t slot)
{
    feed(rig,
         (struct hadb_event){
             .type = HADB_EV_STREAM_MARK, .owner = owner_of(2, 1), .term = term, .slot = slot});
}
#endif
