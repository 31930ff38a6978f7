/* SPDX-License-Identifier: Apache-2.0 */
/* The owner's stream and storage beside each other: what is new, what was there before, what is read for a gap. */
#include "tests/unit/core/rig.h"

/* A paused owner leaves an entry that its stream had brought already: no new sign of life. */
static void election__entry_known_from_the_stream_does_not_restart_patience(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, true);
    stream_entry(&rig, data_entry(&rig, 6, 53, 5, 6));
    liveness(&rig, HADB_LIVE_SILENT);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
    answer_applied(&rig, HADB_R_OK);
    NONE(&rig, HADB_ACT_OWNER_SEEN);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    must(&rig, HADB_ACT_FRAME_SEAL);
}

/* The stream had a gap, so the follower finds in storage what its owner wrote before it fell silent. */
static void election__entry_that_the_stream_missed_does_not_restart_patience(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, true);
    stream_entry(&rig, data_entry(&rig, 7, 54, 6, 7));
    liveness(&rig, HADB_LIVE_SILENT);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
    answer_applied(&rig, HADB_R_OK);
    NONE(&rig, HADB_ACT_OWNER_SEEN);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 7, 54, 6, 7));
    answer_applied(&rig, HADB_R_OK);
    NONE(&rig, HADB_ACT_OWNER_SEEN);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    must(&rig, HADB_ACT_FRAME_SEAL);
}

/* What was not there when its owner looked silent, and is there now, was written since. */
static void election__entry_that_was_absent_before_restarts_patience(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, true);
    liveness(&rig, HADB_LIVE_SILENT);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_SEAL), 50, 90);
    answer_created(&rig, HADB_OP_MAIN, HADB_R_EXISTS);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
    answer_applied(&rig, HADB_R_OK);
    must(&rig, HADB_ACT_OWNER_SEEN);
    assert_int_equal(rig.core.seal_at_ms, 0);
}

/* A follower that lost one entry of the stream reads that one from storage, and what the stream brings meanwhile is kept:
 * else each entry would come while the one before is being read, and all of them would be read. */
static void stream__goes_on_while_a_missed_entry_is_read(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, true);
    stream_mark(&rig, 1, 6);
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 6);
    stream_entry(&rig, data_entry(&rig, 7, 54, 6, 7));
    stream_entry(&rig, data_entry(&rig, 8, 55, 7, 8));
    stream_mark(&rig, 1, 8);
    NONE(&rig, HADB_ACT_APPLY);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
    stream_entry(&rig, data_entry(&rig, 9, 56, 8, 9));
    for (uint64_t slot = 6; slot <= 8; slot++) {
        assert_int_equal(rig.core.pending.slot, slot);
        answer_applied(&rig, HADB_R_OK);
        NONE(&rig, HADB_ACT_GET);
    }
    NONE(&rig, HADB_ACT_APPLY); /* 9 is not durable yet */
    stream_mark(&rig, 1, 9);
    assert_int_equal(must(&rig, HADB_ACT_APPLY)->slot, 9);
}

/* What does not link to what storage has is forgotten, and what storage has not is not skipped. */
static void stream__that_ran_ahead_of_another_history_is_forgotten(void **state)
{
    (void)state;
    for (int absent = 0; absent < 2; absent++) {
        struct rig rig;
        rig_tail(&rig, NULL, true);
        stream_mark(&rig, 1, 6);
        stream_entry(&rig, data_entry(&rig, 7, 54, 66, 7));
        stream_mark(&rig, 1, 7);
        if (absent) {
            answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
            must(&rig, HADB_ACT_RELEASE);
            NONE(&rig, HADB_ACT_APPLY);
            assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 6); /* the mark says it is there */
        } else {
            answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
            must(&rig, HADB_ACT_RELEASE);
            answer_applied(&rig, HADB_R_OK);
            assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 7);
        }
        assert_true(rig.core.role == HADB_CORE_FOLLOWER);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(election__entry_known_from_the_stream_does_not_restart_patience),
        cmocka_unit_test(election__entry_that_the_stream_missed_does_not_restart_patience),
        cmocka_unit_test(election__entry_that_was_absent_before_restarts_patience),
        cmocka_unit_test(stream__goes_on_while_a_missed_entry_is_read),
        cmocka_unit_test(stream__that_ran_ahead_of_another_history_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
