/* SPDX-License-Identifier: Apache-2.0 */
/* The machine of one database, event by event. */
#include "tests/unit/core/rig.h"

static void follower__applies_the_next_entry_and_looks_again(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    struct hadb_action *get = must(&rig, HADB_ACT_GET);
    assert_int_equal(get->term, 1);
    assert_int_equal(get->slot, 6);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
    struct hadb_action *apply = must(&rig, HADB_ACT_APPLY);
    assert_int_equal(apply->pos.slot, 6);
    assert_int_equal(apply->pos.txid, 53);
    assert_int_equal(rig.core.view.slot, 5);
    answer_applied(&rig, HADB_R_OK);
    assert_int_equal(rig.core.view.slot, 6);
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 7);
    assert_int_equal(must(&rig, HADB_ACT_RELEASE)->handle, 1);
}

static void follower__halts_on_an_entry_that_does_not_link(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 4, 6));
    NONE(&rig, HADB_ACT_APPLY);
    must(&rig, HADB_ACT_GET_MANIFEST);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    assert_int_equal(rig.core.role, HADB_CORE_HALTED);
    assert_int_equal(rig.core.halt, HADB_HALT_FORK);
}

static void follower__restores_when_a_404_lies_below_the_boundary(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 9);
    must(&rig, HADB_ACT_RESTORE);
    feed(&rig, (struct hadb_event){.type = HADB_EV_RESTORED,
                                   .op = HADB_OP_MAIN,
                                   .result = HADB_R_OK,
                                   .pos = {2, 9, 90, hash_of(9)},
                                   .owner = owner_of(3, 1)});
    assert_int_equal(rig.core.view.slot, 9);
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 10);
    assert_memory_equal(&rig.core.owner, &(struct hadb_owner[]){owner_of(3, 1)}[0],
                        sizeof rig.core.owner);
}

/* Item 8: less to read than the log, even while all of the log is still there. */
static void empty_copy__takes_the_newest_snapshot_before_it_asks_for_the_log(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    feed(&rig, (struct hadb_event){.type = HADB_EV_START});
    NONE(&rig, HADB_ACT_GET);
    must(&rig, HADB_ACT_GET_MANIFEST);
    feed(&rig, (struct hadb_event){
                   .type = HADB_EV_MANIFEST, .op = HADB_OP_MAIN, .result = HADB_R_UNKNOWN});
    tick(&rig, 1000); /* asked again */
    must(&rig, HADB_ACT_GET_MANIFEST);
    answer_manifest(&rig, HADB_OP_MAIN, 9);
    must(&rig, HADB_ACT_RESTORE);
    feed(&rig, (struct hadb_event){.type = HADB_EV_RESTORED,
                                   .op = HADB_OP_MAIN,
                                   .result = HADB_R_OK,
                                   .pos = {2, 9, 90, hash_of(9)},
                                   .owner = owner_of(3, 1)});
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 10);
}

static void empty_copy__reads_the_log_if_there_is_no_snapshot(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    feed(&rig, (struct hadb_event){.type = HADB_EV_START});
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    NONE(&rig, HADB_ACT_READ_OK); /* nothing was asked of the log yet */
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 1);
    assert_int_equal(rig.core.fresh_at_ms, 0);
}

static void machine__asks_nothing_before_its_start(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    feed(&rig, (struct hadb_event){.type = HADB_EV_PROBE, .result = HADB_R_OK});
    assert_int_equal(rig.acts.len, 0);
    feed(&rig, (struct hadb_event){.type = HADB_EV_POKE});
    assert_int_equal(rig.acts.len, 0);
    tick(&rig, 1000);
    assert_int_equal(rig.acts.len, 0);
    assert_true(hadb_core_deadline(&rig.core) == UINT64_MAX);
}

static void follower__asks_nothing_while_the_stream_is_up_and_idle(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    feed(&rig, (struct hadb_event){.type = HADB_EV_STREAM, .owner = owner_of(2, 1)});
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    assert_true(hadb_core_deadline(&rig.core) == UINT64_MAX);
}

static void stream__entry_waits_for_the_durable_mark(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    feed(&rig, (struct hadb_event){.type = HADB_EV_STREAM, .owner = owner_of(2, 1)});
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    feed(&rig, (struct hadb_event){.type = HADB_EV_STREAM_ENTRY,
                                   .owner = owner_of(2, 1),
                                   .entry = data_entry(&rig, 6, 53, 5, 6),
                                   .handle = 40});
    NONE(&rig, HADB_ACT_APPLY);
    feed(&rig, (struct hadb_event){
                   .type = HADB_EV_STREAM_MARK, .owner = owner_of(2, 1), .term = 1, .slot = 6});
    assert_int_equal(must(&rig, HADB_ACT_APPLY)->handle, 40);
    /* The next entry arrives while this one is being applied. */
    feed(&rig, (struct hadb_event){.type = HADB_EV_STREAM_ENTRY,
                                   .owner = owner_of(2, 1),
                                   .entry = data_entry(&rig, 7, 54, 6, 7),
                                   .handle = 41});
    NONE(&rig, HADB_ACT_RELEASE);
    answer_applied(&rig, HADB_R_OK);
    NONE(&rig, HADB_ACT_APPLY);
    feed(&rig, (struct hadb_event){
                   .type = HADB_EV_STREAM_MARK, .owner = owner_of(2, 1), .term = 1, .slot = 7});
    assert_int_equal(must(&rig, HADB_ACT_APPLY)->handle, 41);
    NONE(&rig, HADB_ACT_GET);
}

static void stream__of_a_stranger_is_dropped(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    feed(&rig, (struct hadb_event){.type = HADB_EV_STREAM, .owner = owner_of(2, 1)});
    feed(&rig, (struct hadb_event){.type = HADB_EV_STREAM_ENTRY,
                                   .owner = owner_of(2, 2),
                                   .entry = data_entry(&rig, 6, 53, 5, 6),
                                   .handle = 40});
    assert_int_equal(must(&rig, HADB_ACT_RELEASE)->handle, 40);
    feed(&rig, (struct hadb_event){
                   .type = HADB_EV_STREAM_MARK, .owner = owner_of(3, 1), .term = 1, .slot = 9});
    assert_int_equal(rig.core.mark_slot, 0);
}

static void stream__gap_is_read_from_storage(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    feed(&rig, (struct hadb_event){.type = HADB_EV_STREAM, .owner = owner_of(2, 1)});
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    feed(&rig, (struct hadb_event){
                   .type = HADB_EV_STREAM_MARK, .owner = owner_of(2, 1), .term = 1, .slot = 7});
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 6);
}

static void election__needs_one_create_and_one_manifest_read(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    liveness(&rig, HADB_LIVE_SILENT);
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 6); /* tailing: at the tip? */
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    struct hadb_action *frame = must(&rig, HADB_ACT_FRAME_SEAL);
    assert_int_equal(frame->slot, 6);
    assert_int_equal(frame->reason, HADB_SEAL_FAILOVER);
    answer_framed(&rig, frame, 50, 90);
    must(&rig, HADB_ACT_CREATE);
    answer_created(&rig, HADB_OP_MAIN, HADB_R_OK);
    assert_int_equal(must(&rig, HADB_ACT_APPLY)->pos.term, 2);
    answer_applied(&rig, HADB_R_OK);
    must(&rig, HADB_ACT_GET_MANIFEST);
    assert_false(rig.core.gate_open);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    assert_int_equal(must(&rig, HADB_ACT_GATE)->gate, HADB_GATE_OPEN);
    assert_int_equal(rig.core.role, HADB_CORE_OWNER);
    assert_int_equal(rig.core.view.term, 2);
    assert_int_equal(rig.core.view.slot, 5);
}

static void election__is_called_off_by_a_new_entry(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    liveness(&rig, HADB_LIVE_SILENT);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
    answer_applied(&rig, HADB_R_OK);
    must(&rig, HADB_ACT_OWNER_SEEN);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    NONE(&rig, HADB_ACT_FRAME_SEAL);
    assert_int_equal(rig.core.role, HADB_CORE_FOLLOWER);
}

static void election__loser_follows_the_winner(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    liveness(&rig, HADB_LIVE_GONE);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_SEAL), 50, 90);
    answer_created(&rig, HADB_OP_MAIN, HADB_R_EXISTS);
    must(&rig, HADB_ACT_GET);
    struct hadb_entry_info seal = data_entry(&rig, 6, 50, 5, 91);
    seal.kind = HADB_CORE_SEAL;
    seal.next = owner_of(3, 1);
    answer_entry(&rig, HADB_OP_MAIN, seal);
    answer_applied(&rig, HADB_R_OK);
    assert_int_equal(rig.core.role, HADB_CORE_FOLLOWER);
    assert_int_equal(rig.core.view.term, 2);
    assert_memory_equal(&rig.core.owner, &seal.next, sizeof seal.next);
}

static void election__own_seal_found_after_a_lost_reply_counts(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    liveness(&rig, HADB_LIVE_GONE);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_SEAL), 50, 90);
    uint64_t handle = must(&rig, HADB_ACT_CREATE)->handle;
    answer_created(&rig, HADB_OP_MAIN, HADB_R_UNKNOWN);
    tick(&rig, 50);
    assert_int_equal(must(&rig, HADB_ACT_CREATE)->handle, handle); /* the same bytes */
    answer_created(&rig, HADB_OP_MAIN, HADB_R_EXISTS);
    struct hadb_entry_info seal = data_entry(&rig, 6, 50, 5, 90);
    seal.kind = HADB_CORE_SEAL;
    seal.next = rig.core.self;
    answer_entry(&rig, HADB_OP_MAIN, seal);
    must(&rig, HADB_ACT_APPLY);
}

static void election__stray_seal_owns_nothing(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    liveness(&rig, HADB_LIVE_SILENT);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_SEAL), 50, 90);
    answer_created(&rig, HADB_OP_MAIN, HADB_R_OK);
    answer_applied(&rig, HADB_R_OK);
    answer_manifest(&rig, HADB_OP_MAIN, 6); /* slot 6 had been collected */
    must(&rig, HADB_ACT_RESTORE);
    NONE(&rig, HADB_ACT_GATE);
    assert_int_equal(rig.core.role, HADB_CORE_FOLLOWER);
}

static void replica__never_seals(void **state)
{
    (void)state;
    struct rig rig;
    struct hadb_core_config config = rig_config();
    config.never_lead = true;
    rig_init(&rig, &config);
    rig_start_at(&rig, 0, 0, 0, 0, (struct hadb_owner){0});
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    tick(&rig, 100000);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    NONE(&rig, HADB_ACT_FRAME_SEAL);
}

static void owner__acknowledges_in_slot_order(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    enum hadb_core_op first = must(&rig, HADB_ACT_CREATE)->op;
    commit(&rig, 52);
    struct hadb_action *frame = must(&rig, HADB_ACT_FRAME_DATA);
    assert_int_equal(frame->slot, 7);
    assert_memory_equal(&frame->prev, &(struct hadb_hash[]){hash_of(16)}[0], sizeof frame->prev);
    answer_framed(&rig, frame, 52, 17);
    enum hadb_core_op second = must(&rig, HADB_ACT_CREATE)->op;
    answer_created(&rig, second, HADB_R_OK);
    NONE(&rig, HADB_ACT_DURABLE);
    answer_created(&rig, first, HADB_R_OK);
    assert_int_equal(must(&rig, HADB_ACT_DURABLE)->pos.txid, 52);
}

static void owner__batches_what_was_committed_while_the_window_was_full(void **state)
{
    (void)state;
    struct rig rig;
    struct hadb_core_config config = rig_config();
    config.window = 1;
    rig_init(&rig, &config);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    enum hadb_core_op op = must(&rig, HADB_ACT_CREATE)->op;
    for (hadb_txid txid = 52; txid < 100; txid++) {
        commit(&rig, txid);
        NONE(&rig, HADB_ACT_FRAME_DATA);
    }
    answer_created(&rig, op, HADB_R_OK);
    assert_int_equal(must(&rig, HADB_ACT_FRAME_DATA)->txid, 51);
}

static void owner__next_slot_waits_until_it_carries_as_much_as_is_in_flight(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 53);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 53, 16);
    enum hadb_core_op op = must(&rig, HADB_ACT_CREATE)->op;
    commit(&rig, 54);
    NONE(&rig, HADB_ACT_FRAME_DATA);
    commit(&rig, 55);
    NONE(&rig, HADB_ACT_FRAME_DATA);
    struct rig full = rig;
    commit(&full, 56); /* three are in flight, three wait */
    must(&full, HADB_ACT_FRAME_DATA);
    answer_created(&rig, op, HADB_R_OK); /* or nothing is in flight any more */
    must(&rig, HADB_ACT_FRAME_DATA);
}

static void owner__resends_the_same_bytes_until_definite(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    struct hadb_action sent = *must(&rig, HADB_ACT_CREATE);
    assert_true(sent.flag);
    for (int i = 0; i < 5; i++) {
        answer_created(&rig, sent.op, HADB_R_UNKNOWN);
        NONE(&rig, HADB_ACT_DURABLE);
        tick(&rig, 200);
        assert_int_equal(must(&rig, HADB_ACT_CREATE)->handle, sent.handle);
        assert_false(must(&rig, HADB_ACT_CREATE)->flag);
    }
    answer_created(&rig, sent.op, HADB_R_EXISTS);
    must(&rig, HADB_ACT_GET);
    answer_get(&rig, sent.op, HADB_R_ABSENT); /* absence is never final */
    NONE(&rig, HADB_ACT_DURABLE);
    tick(&rig, 200);
    answer_created(&rig, sent.op, HADB_R_EXISTS);
    answer_entry(&rig, sent.op, data_entry(&rig, 6, 51, 90, 16));
    assert_int_equal(must(&rig, HADB_ACT_DURABLE)->pos.txid, 51);
}

static void fenced__closes_the_gate_first_then_saves_its_tail(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    enum hadb_core_op op = must(&rig, HADB_ACT_CREATE)->op;
    answer_created(&rig, op, HADB_R_EXISTS);
    struct hadb_entry_info seal = data_entry(&rig, 6, 50, 90, 99);
    seal.kind = HADB_CORE_SEAL;
    seal.next = owner_of(3, 1);
    answer_entry(&rig, op, seal);
    assert_int_equal(rig.core.role, HADB_CORE_FENCED);
    assert_int_equal(must(&rig, HADB_ACT_GATE)->gate, HADB_GATE_CLOSED);
    NONE(&rig, HADB_ACT_GET); /* a commit may still be on its way */
    feed(&rig, (struct hadb_event){.type = HADB_EV_GATED, .op = HADB_OP_GATE, .txid = 53});
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 6);
    answer_entry(&rig, HADB_OP_MAIN, seal);
    must(&rig, HADB_ACT_GET_MANIFEST); /* is the seal real? */
    NONE(&rig, HADB_ACT_REWIND);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    struct hadb_action *rewind = must(&rig, HADB_ACT_REWIND);
    assert_int_equal(rewind->pos.txid, 50);
    assert_true(rewind->flag);
    feed(&rig, (struct hadb_event){.type = HADB_EV_REWOUND, .op = HADB_OP_MAIN});
    must(&rig, HADB_ACT_APPLY);
    answer_applied(&rig, HADB_R_OK);
    assert_int_equal(rig.core.role, HADB_CORE_FOLLOWER);
    assert_int_equal(rig.core.view.term, 3);
}

static void fenced__write_found_in_the_history_is_acknowledged_not_rewound(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    commit(&rig, 52);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 52, 17);
    enum hadb_core_op second = must(&rig, HADB_ACT_CREATE)->op;
    answer_created(&rig, second, HADB_R_EXISTS);
    struct hadb_entry_info seal = data_entry(&rig, 7, 51, 16, 99);
    seal.kind = HADB_CORE_SEAL;
    seal.next = owner_of(3, 1);
    answer_entry(&rig, second, seal);
    feed(&rig, (struct hadb_event){.type = HADB_EV_GATED, .op = HADB_OP_GATE, .txid = 52});
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 51, 90, 16)); /* slot 6 had made it */
    answer_applied(&rig, HADB_R_OK);
    assert_int_equal(must(&rig, HADB_ACT_DURABLE)->pos.txid, 51);
    answer_entry(&rig, HADB_OP_MAIN, seal);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    assert_int_equal(must(&rig, HADB_ACT_REWIND)->pos.txid, 51);
}

static void restart__seals_the_own_former_term_and_ships_the_tail_first(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 52, owner_of(1, 0)); /* same node, earlier life */
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_SEAL), 50, 90);
    answer_created(&rig, HADB_OP_MAIN, HADB_R_OK);
    answer_applied(&rig, HADB_R_OK);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    struct hadb_action *frame = must(&rig, HADB_ACT_FRAME_DATA);
    assert_int_equal(frame->term, 2);
    assert_int_equal(frame->txid, 50);
}

static void restart__drops_the_tail_that_another_seal_cut_off(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 52, owner_of(1, 0));
    struct hadb_entry_info seal = data_entry(&rig, 6, 50, 5, 99);
    seal.kind = HADB_CORE_SEAL;
    seal.next = owner_of(3, 1);
    answer_entry(&rig, HADB_OP_MAIN, seal);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    must(&rig, HADB_ACT_REWIND);
}

static void handoff__flushes_before_it_seals(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    enum hadb_core_op op = must(&rig, HADB_ACT_CREATE)->op;
    feed(&rig, (struct hadb_event){.type = HADB_EV_HANDOFF, .owner = owner_of(3, 0)});
    must(&rig, HADB_ACT_ASK_READY);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READY,
                                   .op = HADB_OP_MAIN,
                                   .owner = owner_of(3, 1),
                                   .pos = {2, 5, 50, hash_of(90)}});
    assert_int_equal(must(&rig, HADB_ACT_GATE)->gate, HADB_GATE_DRAIN);
    feed(&rig, (struct hadb_event){.type = HADB_EV_GATED, .op = HADB_OP_GATE, .txid = 51});
    NONE(&rig, HADB_ACT_FRAME_SEAL);
    answer_created(&rig, op, HADB_R_OK);
    struct hadb_action *frame = must(&rig, HADB_ACT_FRAME_SEAL);
    assert_int_equal(frame->slot, 7);
    assert_int_equal(frame->reason, HADB_SEAL_HANDOFF);
    answer_framed(&rig, frame, 51, 91);
    answer_created(&rig, must(&rig, HADB_ACT_CREATE)->op, HADB_R_OK);
    assert_int_equal(must(&rig, HADB_ACT_HANDOFF_DONE)->result, HADB_R_OK);
    must(&rig, HADB_ACT_NOTIFY);
    assert_int_equal(rig.core.role, HADB_CORE_FOLLOWER);
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 7);
}

static void handoff__to_a_target_that_is_not_ready_changes_nothing(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    feed(&rig, (struct hadb_event){.type = HADB_EV_HANDOFF, .owner = owner_of(3, 0)});
    feed(&rig,
         (struct hadb_event){.type = HADB_EV_READY, .op = HADB_OP_MAIN, .result = HADB_R_FAILED});
    assert_int_equal(must(&rig, HADB_ACT_HANDOFF_DONE)->result, HADB_R_FAILED);
    assert_int_equal(rig.core.role, HADB_CORE_OWNER);
    assert_true(rig.core.gate_open);
}

static void handoff__that_cannot_flush_in_time_is_called_off(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    feed(&rig, (struct hadb_event){.type = HADB_EV_HANDOFF});
    feed(&rig, (struct hadb_event){.type = HADB_EV_GATED, .op = HADB_OP_GATE, .txid = 51});
    tick(&rig, 600);
    assert_int_equal(must(&rig, HADB_ACT_HANDOFF_DONE)->result, HADB_R_FAILED);
    assert_int_equal(must(&rig, HADB_ACT_GATE)->gate, HADB_GATE_OPEN);
    assert_int_equal(rig.core.role, HADB_CORE_OWNER);
}

static void successor__named_by_a_seal_checks_the_boundary(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    struct hadb_entry_info seal = data_entry(&rig, 6, 50, 5, 91);
    seal.kind = HADB_CORE_SEAL;
    seal.reason = HADB_SEAL_HANDOFF;
    seal.next = rig.core.self;
    answer_entry(&rig, HADB_OP_MAIN, seal);
    answer_applied(&rig, HADB_R_OK);
    NONE(&rig, HADB_ACT_GATE);
    must(&rig, HADB_ACT_GET_MANIFEST);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    assert_int_equal(rig.core.role, HADB_CORE_OWNER);
}

static void snapshot__is_published_before_anything_is_deleted(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    feed(&rig, (struct hadb_event){.type = HADB_EV_SNAPSHOT});
    must(&rig, HADB_ACT_VIEW);
    feed(&rig, (struct hadb_event){.type = HADB_EV_FRAMED,
                                   .op = HADB_OP_SNAP,
                                   .view = 70,
                                   .txid = 50,
                                   .pos = {2, 5, 50, hash_of(90)}});
    assert_int_equal(must(&rig, HADB_ACT_UPLOAD)->view, 70);
    feed(&rig, (struct hadb_event){.type = HADB_EV_UPLOADED, .op = HADB_OP_SNAP, .handle = 71});
    must(&rig, HADB_ACT_GET_MANIFEST);
    answer_manifest(&rig, HADB_OP_SNAP, 0);
    struct hadb_action cas = *must(&rig, HADB_ACT_CAS_MANIFEST);
    assert_int_equal(cas.slot, 5);
    NONE(&rig, HADB_ACT_DELETE);
    feed(&rig,
         (struct hadb_event){.type = HADB_EV_CAS, .op = HADB_OP_SNAP, .result = HADB_R_UNKNOWN});
    NONE(&rig, HADB_ACT_DELETE); /* unknown: nothing is cleaned up meanwhile */
    must(&rig, HADB_ACT_GET_MANIFEST);
    feed(&rig, (struct hadb_event){.type = HADB_EV_MANIFEST,
                                   .op = HADB_OP_SNAP,
                                   .result = HADB_R_OK,
                                   .manifest = {.version = 2,
                                                .boundary_slot = 5,
                                                .boundary_term = 2,
                                                .nonce = cas.nonce,
                                                .has_snapshot = true}});
    assert_int_equal(must(&rig, HADB_ACT_DELETE)->slot, 5);
    assert_false(must(&rig, HADB_ACT_DELETE)->flag);
}

/* One writer, which writes again as soon as it has its answer: each write is framed in the step that finds the snapshot
 * due, and durable in the next one but one. */
static void snapshot__comes_between_the_writes_of_one_writer(void **state)
{
    (void)state;
    struct rig rig;
    struct hadb_core_config config = rig_config();
    bool asked = false;
    config.snapshot_slots = 2;
    rig_init(&rig, &config);
    rig_lead(&rig);
    must(&rig, HADB_ACT_VIEW);
    feed(&rig, (struct hadb_event){.type = HADB_EV_FRAMED,
                                   .op = HADB_OP_SNAP,
                                   .view = 70,
                                   .txid = 51, /* behind a commit: refused, and asked for later */
                                   .pos = {2, 5, 50, hash_of(90)}});
    rig.now_ms += 10000;
    for (hadb_txid txid = 51; txid < 60 && !asked; txid++) {
        commit(&rig, txid);
        struct hadb_action frame = *must(&rig, HADB_ACT_FRAME_DATA);
        answer_framed(&rig, &frame, txid, (int)txid);
        struct hadb_action create = *must(&rig, HADB_ACT_CREATE);
        answer_created(&rig, create.op, HADB_R_OK);
        asked = frame.flag || act_of(&rig, HADB_ACT_VIEW) != NULL;
    }
    assert_true(asked);
}

static void snapshot__view_with_a_tail_is_refused(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    feed(&rig, (struct hadb_event){.type = HADB_EV_SNAPSHOT});
    feed(&rig, (struct hadb_event){.type = HADB_EV_FRAMED,
                                   .op = HADB_OP_SNAP,
                                   .view = 70,
                                   .txid = 51,
                                   .pos = {2, 5, 50, hash_of(90)}});
    assert_int_equal(must(&rig, HADB_ACT_RELEASE)->view, 70);
    NONE(&rig, HADB_ACT_UPLOAD);
}

static void manifest__that_goes_back_halts(void **state)
{
    (void)state;
    struct rig rig;
    struct hadb_core_config config = rig_config();
    config.tip_polls_max = 0;
    rig_init(&rig, &config);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    tick(&rig, 100);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    feed(&rig, (struct hadb_event){.type = HADB_EV_MANIFEST,
                                   .op = HADB_OP_MAIN,
                                   .result = HADB_R_OK,
                                   .manifest = {.version = 0}});
    assert_int_equal(rig.core.halt, HADB_HALT_ROLLBACK);
}

static void storage_outage__is_asked_again_with_pauses(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig.core.config.jitter = true;
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    for (int i = 0; i < 20; i++) {
        answer_get(&rig, HADB_OP_MAIN, HADB_R_UNKNOWN);
        NONE(&rig, HADB_ACT_GET);
        uint64_t at = hadb_core_deadline(&rig.core);
        assert_true(at > rig.now_ms && at <= rig.now_ms + 101);
        liveness(&rig, HADB_LIVE_SILENT); /* wanting to seal does not make it spin */
        NONE(&rig, HADB_ACT_GET);
        tick(&rig, at - rig.now_ms);
        must(&rig, HADB_ACT_GET);
    }
}

static void dirty_owner_without_progress__gives_up_and_takes_it_back(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    enum hadb_core_op op = must(&rig, HADB_ACT_CREATE)->op;
    tick(&rig, 1001);
    assert_true(must(&rig, HADB_ACT_GIVE_UP)->flag);
    answer_created(&rig, op, HADB_R_OK);
    assert_false(must(&rig, HADB_ACT_GIVE_UP)->flag);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follower__applies_the_next_entry_and_looks_again),
        cmocka_unit_test(follower__halts_on_an_entry_that_does_not_link),
        cmocka_unit_test(follower__restores_when_a_404_lies_below_the_boundary),
        cmocka_unit_test(empty_copy__takes_the_newest_snapshot_before_it_asks_for_the_log),
        cmocka_unit_test(empty_copy__reads_the_log_if_there_is_no_snapshot),
        cmocka_unit_test(machine__asks_nothing_before_its_start),
        cmocka_unit_test(follower__asks_nothing_while_the_stream_is_up_and_idle),
        cmocka_unit_test(stream__entry_waits_for_the_durable_mark),
        cmocka_unit_test(stream__of_a_stranger_is_dropped),
        cmocka_unit_test(stream__gap_is_read_from_storage),
        cmocka_unit_test(election__needs_one_create_and_one_manifest_read),
        cmocka_unit_test(election__is_called_off_by_a_new_entry),
        cmocka_unit_test(election__loser_follows_the_winner),
        cmocka_unit_test(election__own_seal_found_after_a_lost_reply_counts),
        cmocka_unit_test(election__stray_seal_owns_nothing),
        cmocka_unit_test(replica__never_seals),
        cmocka_unit_test(owner__acknowledges_in_slot_order),
        cmocka_unit_test(owner__batches_what_was_committed_while_the_window_was_full),
        cmocka_unit_test(owner__next_slot_waits_until_it_carries_as_much_as_is_in_flight),
        cmocka_unit_test(owner__resends_the_same_bytes_until_definite),
        cmocka_unit_test(fenced__closes_the_gate_first_then_saves_its_tail),
        cmocka_unit_test(fenced__write_found_in_the_history_is_acknowledged_not_rewound),
        cmocka_unit_test(restart__seals_the_own_former_term_and_ships_the_tail_first),
        cmocka_unit_test(restart__drops_the_tail_that_another_seal_cut_off),
        cmocka_unit_test(handoff__flushes_before_it_seals),
        cmocka_unit_test(handoff__to_a_target_that_is_not_ready_changes_nothing),
        cmocka_unit_test(handoff__that_cannot_flush_in_time_is_called_off),
        cmocka_unit_test(successor__named_by_a_seal_checks_the_boundary),
        cmocka_unit_test(snapshot__is_published_before_anything_is_deleted),
        cmocka_unit_test(snapshot__comes_between_the_writes_of_one_writer),
        cmocka_unit_test(snapshot__view_with_a_tail_is_refused),
        cmocka_unit_test(manifest__that_goes_back_halts),
        cmocka_unit_test(storage_outage__is_asked_again_with_pauses),
        cmocka_unit_test(dirty_owner_without_progress__gives_up_and_takes_it_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
