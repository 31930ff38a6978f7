/* SPDX-License-Identifier: Apache-2.0 */
/* A store that fails its conformance probe (4.13): who leads resigns, nobody seals; and copies that cannot be opened. */
#include "tests/unit/core/rig.h"

static void probe(struct rig *rig, enum hadb_result result)
{
    feed(rig, (struct hadb_event){.type = HADB_EV_PROBE, .result = result});
}

/* Answers what is asked: nothing new in the log, no boundary. */
static void settle(struct rig *rig)
{
    while (act_of(rig, HADB_ACT_GET) || act_of(rig, HADB_ACT_GET_MANIFEST)) {
        if (act_of(rig, HADB_ACT_GET)) {
            answer_get(rig, HADB_OP_MAIN, HADB_R_ABSENT);
        } else {
            answer_manifest(rig, HADB_OP_MAIN, 0);
        }
    }
}

static void pass(struct rig *rig, uint64_t ms)
{
    tick(rig, ms);
    settle(rig);
}

static void probe__that_fails_makes_the_owner_resign_without_losing_a_write(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    enum hadb_core_op op = must(&rig, HADB_ACT_CREATE)->op;
    probe(&rig, HADB_R_FAILED);
    assert_int_equal(must(&rig, HADB_ACT_GATE)->gate, HADB_GATE_DRAIN);
    assert_int_equal(rig.core.role, HADB_CORE_DRAINING);
    assert_false(hadb_core_may_lead(&rig.core));
    feed(&rig, (struct hadb_event){.type = HADB_EV_GATED, .op = HADB_OP_GATE, .txid = 51});
    answer_created(&rig, op, HADB_R_OK);
    struct hadb_action *frame = must(&rig, HADB_ACT_FRAME_SEAL);
    assert_int_equal(frame->reason, HADB_SEAL_RESIGN);
    answer_framed(&rig, frame, 51, 91);
    answer_created(&rig, must(&rig, HADB_ACT_CREATE)->op, HADB_R_OK);
    assert_int_equal(rig.core.role, HADB_CORE_FOLLOWER);
    NONE(&rig, HADB_ACT_HANDOFF_DONE); /* nobody had asked for it */
}

/* From the moment of its resignation on, whatever it hears. */
static void probe__that_failed_keeps_a_follower_from_sealing_until_one_passes(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    liveness(&rig, HADB_LIVE_SILENT);
    must(&rig, HADB_ACT_GET); /* armed: a last look before the seal */
    probe(&rig, HADB_R_FAILED);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    settle(&rig);
    liveness(&rig, HADB_LIVE_FREE);
    settle(&rig);
    for (int i = 0; i < 20; i++) {
        pass(&rig, 200);
        NONE(&rig, HADB_ACT_FRAME_SEAL);
        assert_int_equal(rig.core.role, HADB_CORE_FOLLOWER);
        assert_true(hadb_core_deadline(&rig.core) > rig.now_ms); /* and does not spin */
    }
    probe(&rig, HADB_R_OK); /* the owner is still silent, nobody has to say so again */
    settle(&rig);
    for (int i = 0; i < 20 && !act_of(&rig, HADB_ACT_FRAME_SEAL); i++) {
        pass(&rig, 10);
    }
    must(&rig, HADB_ACT_FRAME_SEAL);
}

static void probe__that_failed_before_the_start_keeps_a_new_database_unowned(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    probe(&rig, HADB_R_FAILED);
    rig_start_at(&rig, 0, 0, 0, 0, (struct hadb_owner){0});
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    for (int i = 0; i < 20; i++) {
        pass(&rig, 200);
        NONE(&rig, HADB_ACT_FRAME_SEAL);
    }
    probe(&rig, HADB_R_OK);
    settle(&rig);
    for (int i = 0; i < 20 && !act_of(&rig, HADB_ACT_FRAME_SEAL); i++) {
        pass(&rig, 10);
    }
    assert_int_equal(must(&rig, HADB_ACT_FRAME_SEAL)->reason, HADB_SEAL_GENESIS);
}

static void probe__resignation_that_does_not_flush_is_tried_again_later(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16); /* its create hangs */
    probe(&rig, HADB_R_FAILED);
    feed(&rig, (struct hadb_event){.type = HADB_EV_GATED, .op = HADB_OP_GATE, .txid = 51});
    tick(&rig, 600);
    assert_int_equal(rig.core.role, HADB_CORE_OWNER);
    assert_true(hadb_core_deadline(&rig.core) > rig.now_ms);
    tick(&rig, 600);
    assert_int_equal(rig.core.role, HADB_CORE_DRAINING);
}

static void probe__that_passes_changes_nothing_for_an_owner(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    probe(&rig, HADB_R_OK);
    assert_int_equal(rig.acts.len, 0);
    assert_int_equal(rig.core.role, HADB_CORE_OWNER);
}

static void copy__that_cannot_be_opened_halts_in_place_of_starting(void **state)
{
    (void)state;
    static const struct {
        enum hadb_result result;
        enum hadb_halt halt;
    } rows[] = {{HADB_R_FAILED, HADB_HALT_LOCAL}, {HADB_R_CORRUPT, HADB_HALT_CORRUPT}};
    for (size_t i = 0; i < 2; i++) {
        struct rig rig;
        rig_init(&rig, NULL);
        feed(&rig, (struct hadb_event){.type = HADB_EV_LOCAL, .result = rows[i].result});
        assert_int_equal(must(&rig, HADB_ACT_ROLE)->halt, rows[i].halt);
        assert_true(must(&rig, HADB_ACT_GIVE_UP)->flag);
        NONE(&rig, HADB_ACT_GET);
        assert_true(hadb_core_deadline(&rig.core) == UINT64_MAX);
        feed(&rig, (struct hadb_event){.type = HADB_EV_STOP});
        assert_int_equal(rig.core.halt, rows[i].halt);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probe__that_fails_makes_the_owner_resign_without_losing_a_write),
        cmocka_unit_test(probe__that_failed_keeps_a_follower_from_sealing_until_one_passes),
        cmocka_unit_test(probe__that_failed_before_the_start_keeps_a_new_database_unowned),
        cmocka_unit_test(probe__resignation_that_does_not_flush_is_tried_again_later),
        cmocka_unit_test(probe__that_passes_changes_nothing_for_an_owner),
        cmocka_unit_test(copy__that_cannot_be_opened_halts_in_place_of_starting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
