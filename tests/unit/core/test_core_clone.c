/* SPDX-License-Identifier: Apache-2.0 */
/* clone_guard: a process that may be a copy of another one reads the manifest before it believes a slot (4.5). */
#include "tests/unit/core/rig.h"

static void rig_guarded(struct rig *rig, bool guard)
{
    struct hadb_core_config config = rig_config();
    config.clone_guard = guard;
    rig_init(rig, &config);
}

static unsigned count(const struct rig *rig, enum hadb_action_type type)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < rig->acts.len; i++) {
        n += rig->acts.items[i].type == type;
    }
    return n;
}

/* Commits @txid and answers whatever is asked until it is durable; counts the requests to storage. */
static void ship(struct rig *rig, hadb_txid txid, int hash, unsigned *creates, unsigned *manifests)
{
    *creates = *manifests = 0;
    commit(rig, txid);
    answer_framed(rig, must(rig, HADB_ACT_FRAME_DATA), txid, hash);
    *creates += count(rig, HADB_ACT_CREATE);
    *manifests += count(rig, HADB_ACT_GET_MANIFEST);
    answer_created(rig, HADB_OP_SLOT0, HADB_R_OK);
    *creates += count(rig, HADB_ACT_CREATE);
    *manifests += count(rig, HADB_ACT_GET_MANIFEST);
    if (act_of(rig, HADB_ACT_GET_MANIFEST)) {
        NONE(rig, HADB_ACT_DURABLE);
        answer_manifest(rig, must(rig, HADB_ACT_GET_MANIFEST)->op, 0);
        *creates += count(rig, HADB_ACT_CREATE);
        *manifests += count(rig, HADB_ACT_GET_MANIFEST);
    }
    assert_int_equal(must(rig, HADB_ACT_DURABLE)->pos.txid, txid);
}

static void clone_guard__costs_one_manifest_read_for_each_create(void **state)
{
    (void)state;
    for (int guard = 0; guard < 2; guard++) {
        struct rig rig;
        unsigned creates;
        unsigned manifests;
        rig_guarded(&rig, guard);
        rig_lead(&rig);
        for (int i = 1; i <= 3; i++) {
            ship(&rig, 50 + (hadb_txid)i, 90 + i, &creates, &manifests);
            assert_int_equal(creates, 1);
            assert_int_equal(manifests, guard);
        }
    }
}

/* The slot had been written by a twin and collected: nothing is acknowledged, and the snapshot is the history. */
static void clone_guard__of_a_collected_slot_fences_and_restores(void **state)
{
    (void)state;
    struct rig rig;
    rig_guarded(&rig, true);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    answer_created(&rig, HADB_OP_SLOT0, HADB_R_OK);
    answer_manifest(&rig, HADB_OP_SLOT0, 6);
    NONE(&rig, HADB_ACT_DURABLE);
    assert_int_equal(must(&rig, HADB_ACT_GATE)->gate, HADB_GATE_CLOSED);
    assert_int_equal(rig.core.role, HADB_CORE_FENCED);
    feed(&rig, (struct hadb_event){.type = HADB_EV_GATED, .op = HADB_OP_GATE, .txid = 51});
    NONE(&rig, HADB_ACT_GET);
    must(&rig, HADB_ACT_RESTORE);
    feed(&rig, (struct hadb_event){.type = HADB_EV_RESTORED,
                                   .op = HADB_OP_MAIN,
                                   .pos = {2, 6, 51, hash_of(60)},
                                   .owner = rig.core.self});
    assert_int_equal(rig.core.role, HADB_CORE_FOLLOWER);
}

/* What it wrote behind a slot that was collected would stand in the history for ever. */
static void clone_guard__sends_no_slot_before_the_one_before_is_sure(void **state)
{
    (void)state;
    struct rig rig;
    rig_guarded(&rig, true);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    commit(&rig, 55);
    NONE(&rig, HADB_ACT_FRAME_DATA);
    answer_created(&rig, HADB_OP_SLOT0, HADB_R_OK);
    NONE(&rig, HADB_ACT_FRAME_DATA);
    answer_manifest(&rig, HADB_OP_SLOT0, 0);
    must(&rig, HADB_ACT_FRAME_DATA);
}

static void clone_guard__without_an_answer_asks_again(void **state)
{
    (void)state;
    struct rig rig;
    rig_guarded(&rig, true);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    answer_created(&rig, HADB_OP_SLOT0, HADB_R_OK);
    feed(&rig, (struct hadb_event){
                   .type = HADB_EV_MANIFEST, .op = HADB_OP_SLOT0, .result = HADB_R_UNKNOWN});
    NONE(&rig, HADB_ACT_DURABLE);
    assert_true(hadb_core_deadline(&rig.core) <= rig.now_ms + 100);
    tick(&rig, 100);
    assert_int_equal(must(&rig, HADB_ACT_GET_MANIFEST)->op, HADB_OP_SLOT0);
    NONE(&rig, HADB_ACT_CREATE);
    answer_manifest(&rig, HADB_OP_SLOT0, 0);
    must(&rig, HADB_ACT_DURABLE);
}

/* A read meets the slot while its create is unanswered: the guard waits for that answer, the read for the guard. */
static void clone_guard__of_a_slot_that_a_read_found_first_is_asked_once(void **state)
{
    (void)state;
    struct rig rig;
    rig_guarded(&rig, true);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    must(&rig, HADB_ACT_GET);
    answer_entry(&rig, HADB_OP_READ, data_entry(&rig, 6, 51, 90, 16));
    NONE(&rig, HADB_ACT_GET_MANIFEST);
    NONE(&rig, HADB_ACT_GET);
    NONE(&rig, HADB_ACT_READ_OK);
    answer_created(&rig, HADB_OP_SLOT0, HADB_R_OK);
    assert_int_equal(count(&rig, HADB_ACT_GET_MANIFEST), 1);
    answer_manifest(&rig, HADB_OP_SLOT0, 0);
    must(&rig, HADB_ACT_DURABLE);
}

static void clone_guard__proof_of_a_read_compares_the_boundary_always(void **state)
{
    (void)state;
    struct rig rig;
    rig_guarded(&rig, true);
    rig_lead(&rig);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    answer_get(&rig, HADB_OP_READ, HADB_R_ABSENT);
    NONE(&rig, HADB_ACT_READ_OK);
    answer_manifest(&rig, HADB_OP_READ, 0);
    must(&rig, HADB_ACT_READ_OK);
}

/* A twin's late create may stand in a collected slot: whoever reads it there does not take it for the history. */
static void clone_guard__entry_from_storage_is_applied_after_a_look_at_the_boundary(void **state)
{
    (void)state;
    struct rig rig;
    rig_guarded(&rig, true);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 51, 5, 6));
    NONE(&rig, HADB_ACT_APPLY);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    must(&rig, HADB_ACT_APPLY);
    answer_applied(&rig, HADB_R_OK);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 7, 52, 6, 7));
    answer_manifest(&rig, HADB_OP_MAIN, 7);
    NONE(&rig, HADB_ACT_APPLY);
    must(&rig, HADB_ACT_RESTORE);
}

static void clone_guard__unanswered_when_the_machine_halts_frees_its_slot(void **state)
{
    (void)state;
    struct rig rig;
    rig_guarded(&rig, true);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    uint64_t handle = must(&rig, HADB_ACT_CREATE)->handle;
    answer_created(&rig, HADB_OP_SLOT0, HADB_R_OK);
    feed(&rig, (struct hadb_event){.type = HADB_EV_STOP});
    answer_manifest(&rig, HADB_OP_SLOT0, 0);
    assert_int_equal(must(&rig, HADB_ACT_RELEASE)->handle, handle);
    NONE(&rig, HADB_ACT_DURABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clone_guard__costs_one_manifest_read_for_each_create),
        cmocka_unit_test(clone_guard__of_a_collected_slot_fences_and_restores),
        cmocka_unit_test(clone_guard__sends_no_slot_before_the_one_before_is_sure),
        cmocka_unit_test(clone_guard__without_an_answer_asks_again),
        cmocka_unit_test(clone_guard__of_a_slot_that_a_read_found_first_is_asked_once),
        cmocka_unit_test(clone_guard__proof_of_a_read_compares_the_boundary_always),
        cmocka_unit_test(clone_guard__entry_from_storage_is_applied_after_a_look_at_the_boundary),
        cmocka_unit_test(clone_guard__unanswered_when_the_machine_halts_frees_its_slot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
