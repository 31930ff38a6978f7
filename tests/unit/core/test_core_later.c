/* SPDX-License-Identifier: Apache-2.0 */
/* The machine of one database when its host has no memory or no space just now (HADB_R_LATER): it asks again. */
#include "tests/unit/core/rig.h"

/* A follower of node 2 in term 1 at slot 5 that has seen the tip. */
static void rig_follow(struct rig *rig)
{
    rig_init(rig, NULL);
    rig_start_at(rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_get(rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(rig, HADB_OP_MAIN, 0);
}

static void later(struct rig *rig, enum hadb_event_type type, enum hadb_core_op op)
{
    feed(rig, (struct hadb_event){.type = type, .op = op, .result = HADB_R_LATER});
}

/* To the machine's own deadline, which lies ahead and not far. */
static void wait_deadline(struct rig *rig)
{
    uint64_t at = hadb_core_deadline(&rig->core);
    assert_true(at > rig->now_ms && at <= rig->now_ms + 200);
    tick(rig, at - rig->now_ms);
}

static void framing__is_asked_for_again_when_there_was_no_memory(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    struct hadb_action first = *must(&rig, HADB_ACT_FRAME_DATA);
    for (unsigned i = 0; i < 3; i++) {
        later(&rig, HADB_EV_FRAMED, HADB_OP_FRAME);
        assert_int_equal(rig.core.role, HADB_CORE_OWNER);
        NONE(&rig, HADB_ACT_FRAME_DATA);
        commit(&rig, 52 + i); /* not before its time */
        NONE(&rig, HADB_ACT_FRAME_DATA);
        wait_deadline(&rig);
        const struct hadb_action *again = must(&rig, HADB_ACT_FRAME_DATA);
        assert_int_equal(again->slot, first.slot);
        assert_int_equal(again->txid, first.txid);
    }
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 54, 6);
    must(&rig, HADB_ACT_CREATE);
}

static void framing__of_a_seal_is_asked_for_again_when_there_was_no_memory(void **state)
{
    (void)state;
    struct rig rig;
    rig_follow(&rig);
    liveness(&rig, HADB_LIVE_SILENT);
    tick(&rig, 10);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    must(&rig, HADB_ACT_FRAME_SEAL);
    later(&rig, HADB_EV_FRAMED, HADB_OP_FRAME);
    assert_int_not_equal(rig.core.role, HADB_CORE_HALTED);
    NONE(&rig, HADB_ACT_GET);
    wait_deadline(&rig);
    must(&rig, HADB_ACT_GET); /* is it still the tip? */
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_SEAL), 50, 90);
    must(&rig, HADB_ACT_CREATE);
}

static void handoff__is_called_off_when_there_is_no_memory_for_its_seal(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    feed(&rig, (struct hadb_event){.type = HADB_EV_HANDOFF});
    feed(&rig, (struct hadb_event){.type = HADB_EV_GATED, .op = HADB_OP_GATE, .txid = 50});
    must(&rig, HADB_ACT_FRAME_SEAL);
    later(&rig, HADB_EV_FRAMED, HADB_OP_FRAME);
    assert_int_equal(rig.core.role, HADB_CORE_OWNER);
    assert_int_equal(must(&rig, HADB_ACT_HANDOFF_DONE)->result, HADB_R_FAILED);
    assert_int_equal(must(&rig, HADB_ACT_GATE)->gate, HADB_GATE_OPEN);
    NONE(&rig, HADB_ACT_FRAME_SEAL);
    commit(&rig, 51);
    wait_deadline(&rig);
    must(&rig, HADB_ACT_FRAME_DATA);
}

static void applying__is_asked_for_again_when_there_was_no_room(void **state)
{
    (void)state;
    struct rig rig;
    rig_follow(&rig);
    tick(&rig, 200);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
    uint64_t handle = must(&rig, HADB_ACT_APPLY)->handle;
    for (unsigned i = 0; i < 3; i++) {
        answer_applied(&rig, HADB_R_LATER);
        assert_int_equal(rig.core.role, HADB_CORE_FOLLOWER);
        assert_int_equal(rig.core.view.slot, 5);
        NONE(&rig, HADB_ACT_RELEASE);
        NONE(&rig, HADB_ACT_APPLY);
        wait_deadline(&rig);
        assert_int_equal(must(&rig, HADB_ACT_APPLY)->handle, handle);
    }
    answer_applied(&rig, HADB_R_OK);
    assert_int_equal(rig.core.view.slot, 6);
}

static void rewinding__is_asked_for_again_when_there_was_no_room(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 52, owner_of(2, 1)); /* a tail of a former life */
    struct hadb_entry_info foreign = data_entry(&rig, 6, 53, 5, 6);
    answer_entry(&rig, HADB_OP_MAIN, foreign);
    answer_applied(&rig, HADB_R_DIVERGED);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    must(&rig, HADB_ACT_REWIND);
    later(&rig, HADB_EV_REWOUND, HADB_OP_MAIN);
    assert_int_not_equal(rig.core.role, HADB_CORE_HALTED);
    NONE(&rig, HADB_ACT_REWIND);
    wait_deadline(&rig);
    must(&rig, HADB_ACT_REWIND);
    feed(&rig, (struct hadb_event){.type = HADB_EV_REWOUND, .op = HADB_OP_MAIN});
    must(&rig, HADB_ACT_APPLY);
}

static void restoring__is_asked_for_again_when_there_was_no_room(void **state)
{
    (void)state;
    struct rig rig;
    rig_follow(&rig);
    tick(&rig, 200);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_CORRUPT);
    answer_manifest(&rig, HADB_OP_MAIN, 9);
    must(&rig, HADB_ACT_RESTORE);
    later(&rig, HADB_EV_RESTORED, HADB_OP_MAIN);
    assert_int_not_equal(rig.core.role, HADB_CORE_HALTED);
    NONE(&rig, HADB_ACT_RESTORE);
    wait_deadline(&rig);
    must(&rig, HADB_ACT_RESTORE);
}

/* The engine's mark could not be written: what is durable is told once more, later. */
static void mark__is_asked_for_again_when_there_was_no_room(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 6);
    answer_created(&rig, must(&rig, HADB_ACT_CREATE)->op, HADB_R_OK);
    must(&rig, HADB_ACT_DURABLE);
    feed(&rig, (struct hadb_event){.type = HADB_EV_LOCAL, .result = HADB_R_LATER});
    assert_int_equal(rig.core.role, HADB_CORE_OWNER);
    NONE(&rig, HADB_ACT_DURABLE);
    wait_deadline(&rig);
    const struct hadb_action *again = must(&rig, HADB_ACT_DURABLE);
    assert_int_equal(again->pos.txid, 51);
    assert_false(again->flag);
    tick(&rig, 1000);
    NONE(&rig, HADB_ACT_DURABLE); /* once */
    feed(&rig, (struct hadb_event){.type = HADB_EV_LOCAL, .result = HADB_R_FAILED});
    assert_int_equal(rig.core.halt, HADB_HALT_LOCAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(framing__is_asked_for_again_when_there_was_no_memory),
        cmocka_unit_test(framing__of_a_seal_is_asked_for_again_when_there_was_no_memory),
        cmocka_unit_test(handoff__is_called_off_when_there_is_no_memory_for_its_seal),
        cmocka_unit_test(applying__is_asked_for_again_when_there_was_no_room),
        cmocka_unit_test(rewinding__is_asked_for_again_when_there_was_no_room),
        cmocka_unit_test(restoring__is_asked_for_again_when_there_was_no_room),
        cmocka_unit_test(mark__is_asked_for_again_when_there_was_no_room),
    };
    return cmocka_run_group_tests_name("core later", tests, NULL, NULL);
}
