/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol machine: rounds of linearizable reads on owner and follower (4.9). */
#include "tests/unit/core/rig.h"

static void read__on_an_idle_owner_asks_once_for_a_whole_round(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    uint64_t round1 = must(&rig, HADB_ACT_READ_JOIN)->round;
    must(&rig, HADB_ACT_GET);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ}); /* began after the request was sent */
    uint64_t round2 = must(&rig, HADB_ACT_READ_JOIN)->round;
    assert_true(round2 > round1);
    NONE(&rig, HADB_ACT_GET);
    answer_get(&rig, HADB_OP_READ, HADB_R_ABSENT);
    assert_int_equal(must(&rig, HADB_ACT_READ_OK)->round, round1);
    must(&rig, HADB_ACT_GET);
    answer_get(&rig, HADB_OP_READ, HADB_R_ABSENT);
    assert_int_equal(must(&rig, HADB_ACT_READ_OK)->round, round2);
}

static void read__rides_on_the_next_slot_under_load(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    struct hadb_action frame = *must(&rig, HADB_ACT_FRAME_DATA);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    uint64_t round = must(&rig, HADB_ACT_READ_JOIN)->round;
    NONE(&rig, HADB_ACT_GET);
    answer_framed(&rig, &frame, 51, 16);
    answer_created(&rig, must(&rig, HADB_ACT_CREATE)->op, HADB_R_OK);
    assert_int_equal(must(&rig, HADB_ACT_READ_OK)->round, round);
}

static void read__of_a_sealed_owner_fails_and_fences(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    struct hadb_entry_info seal = data_entry(&rig, 6, 50, 90, 99);
    seal.kind = HADB_CORE_SEAL;
    seal.next = owner_of(3, 1);
    answer_entry(&rig, HADB_OP_READ, seal);
    must(&rig, HADB_ACT_READ_FAIL);
    NONE(&rig, HADB_ACT_READ_OK);
    assert_int_equal(rig.core.role, HADB_CORE_FENCED);
}

static void read__404_of_a_slot_that_was_sent_needs_the_boundary(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 6);
    answer_get(&rig, HADB_OP_READ, HADB_R_ABSENT);
    NONE(&rig, HADB_ACT_READ_OK);
    must(&rig, HADB_ACT_GET_MANIFEST);
    answer_manifest(&rig, HADB_OP_READ, 0);
    must(&rig, HADB_ACT_READ_OK);
}

static void read__finds_its_own_slot_there_while_the_create_is_unanswered(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    enum hadb_core_op op = must(&rig, HADB_ACT_CREATE)->op;
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    answer_entry(&rig, HADB_OP_READ, data_entry(&rig, 6, 51, 90, 16));
    assert_int_equal(must(&rig, HADB_ACT_DURABLE)->pos.txid, 51);
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 7);
    answer_created(&rig, op, HADB_R_OK); /* the late answer only frees the bytes */
    must(&rig, HADB_ACT_RELEASE);
    NONE(&rig, HADB_ACT_DURABLE);
}

/* With a window of one the second write waits for the first one's create, whose reply does not come. */
static void lead_with_a_slot_held_back(struct rig *rig)
{
    struct hadb_core_config config = rig_config();
    config.window = 1;
    rig_init(rig, &config);
    rig_lead(rig);
    commit(rig, 51);
    answer_framed(rig, must(rig, HADB_ACT_FRAME_DATA), 51, 16);
    commit(rig, 52);
    feed(rig, (struct hadb_event){.type = HADB_EV_READ});
    NONE(rig, HADB_ACT_GET); /* the next slot would prove it */
}

static void read__behind_a_slot_held_back_asks_after_a_while(void **state)
{
    (void)state;
    struct rig rig;
    lead_with_a_slot_held_back(&rig);
    uint64_t round = must(&rig, HADB_ACT_READ_JOIN)->round;
    assert_true(hadb_core_deadline(&rig.core) < rig.now_ms + 100);
    tick(&rig, hadb_core_deadline(&rig.core) - rig.now_ms);
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 6);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ}); /* too late for that request */
    assert_true(must(&rig, HADB_ACT_READ_JOIN)->round > round);
    answer_entry(&rig, HADB_OP_READ, data_entry(&rig, 6, 51, 90, 16));
    assert_int_equal(must(&rig, HADB_ACT_DURABLE)->pos.txid, 51);
    NONE(&rig, HADB_ACT_GET);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 52, 17); /* it leaves, and proves both */
    NONE(&rig, HADB_ACT_GET);
    answer_created(&rig, must(&rig, HADB_ACT_CREATE)->op, HADB_R_OK);
    assert_int_equal(must(&rig, HADB_ACT_READ_OK)->round, round + 1);
}

static void read__404_after_a_while_needs_the_boundary_too(void **state)
{
    (void)state;
    struct rig rig;
    lead_with_a_slot_held_back(&rig);
    tick(&rig, hadb_core_deadline(&rig.core) - rig.now_ms);
    answer_get(&rig, HADB_OP_READ, HADB_R_ABSENT);
    NONE(&rig, HADB_ACT_READ_OK);
    must(&rig, HADB_ACT_GET_MANIFEST);
    answer_manifest(&rig, HADB_OP_READ, 6); /* the slot is collected: others have gone on */
    NONE(&rig, HADB_ACT_READ_OK);
    must(&rig, HADB_ACT_READ_FAIL);
    assert_int_equal(rig.core.role, HADB_CORE_FENCED);
}

/* The slot that carries the proof was sent, and its own reply is the one that is missing. */
static void read__on_a_slot_without_a_reply_asks_after_a_while(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    struct hadb_action frame = *must(&rig, HADB_ACT_FRAME_DATA);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    uint64_t round = must(&rig, HADB_ACT_READ_JOIN)->round;
    answer_framed(&rig, &frame, 51, 16);
    tick(&rig, hadb_core_deadline(&rig.core) - rig.now_ms);
    must(&rig, HADB_ACT_GET);
    answer_entry(&rig, HADB_OP_READ, data_entry(&rig, 6, 51, 90, 16));
    assert_int_equal(must(&rig, HADB_ACT_READ_OK)->round, round);
    NONE(&rig, HADB_ACT_GET);
    assert_true(hadb_core_deadline(&rig.core) == UINT64_MAX);
}

/* Proven meanwhile: the answer of the request is worth no further one. */
static void read__proven_by_a_slot_lets_its_request_go(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    struct hadb_action frame = *must(&rig, HADB_ACT_FRAME_DATA);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    answer_framed(&rig, &frame, 51, 16);
    enum hadb_core_op op = must(&rig, HADB_ACT_CREATE)->op;
    tick(&rig, hadb_core_deadline(&rig.core) - rig.now_ms);
    must(&rig, HADB_ACT_GET);
    answer_created(&rig, op, HADB_R_OK);
    must(&rig, HADB_ACT_READ_OK);
    answer_get(&rig, HADB_OP_READ, HADB_R_ABSENT);
    NONE(&rig, HADB_ACT_GET_MANIFEST);
    NONE(&rig, HADB_ACT_READ_OK);
    assert_true(hadb_core_deadline(&rig.core) == UINT64_MAX);
}

/* A store whose creates take long is not asked before three of them would be over. */
static void read__is_patient_as_long_as_creates_take(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    for (int i = 0; i < 40; i++) {
        commit(&rig, 51 + (hadb_txid)i);
        answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51 + (hadb_txid)i, 16 + i);
        enum hadb_core_op op = must(&rig, HADB_ACT_CREATE)->op;
        rig.now_ms += 80;
        answer_created(&rig, op, HADB_R_OK);
    }
    commit(&rig, 99);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    uint64_t wait = hadb_core_deadline(&rig.core) - rig.now_ms;
    assert_true(wait > 200 && wait < 300);
}

static void read__on_a_follower_needs_a_404_sent_after_it_began(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1)); /* a GET is under way */
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    uint64_t round = must(&rig, HADB_ACT_READ_JOIN)->round;
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    NONE(&rig, HADB_ACT_READ_OK);
    must(&rig, HADB_ACT_GET);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    assert_int_equal(must(&rig, HADB_ACT_READ_OK)->round, round);
}

/* ---- bounded reads ---- */

static uint64_t bounded(struct rig *rig, uint64_t max_lag_ms)
{
    feed(rig, (struct hadb_event){.type = HADB_EV_READ, .max_lag_ms = max_lag_ms});
    return must(rig, HADB_ACT_READ_JOIN)->round;
}

/* A follower that has proven its tip: its GET was sent at 1000, and answered later. */
static void rig_follow_fresh(struct rig *rig)
{
    struct hadb_core_config config = rig_config();
    config.rho_percent = 2;
    rig_init(rig, &config);
    rig_start_at(rig, 1, 5, 50, 50, owner_of(2, 1));
    rig->now_ms += 40;
    answer_get(rig, HADB_OP_MAIN, HADB_R_ABSENT);
    assert_int_not_equal(bounded(rig, 5000), HADB_ROUND_NOW); /* the boundary is not compared yet */
    answer_manifest(rig, HADB_OP_MAIN, 0);
}

static void
bounded_read__counts_from_the_sending_of_the_proof_and_allows_for_its_clock(void **state)
{
    (void)state;
    struct rig rig;
    rig_follow_fresh(&rig);
    rig.now_ms = 1100;
    assert_int_equal(bounded(&rig, 102), HADB_ROUND_NOW); /* 100 ms, and 2 % of that */
    NONE(&rig, HADB_ACT_GET);
    assert_int_not_equal(bounded(&rig, 101), HADB_ROUND_NOW);
}

static void bounded_read__that_is_not_fresh_enough_waits_for_a_proof(void **state)
{
    (void)state;
    struct rig rig;
    rig_follow_fresh(&rig);
    while (act_of(&rig, HADB_ACT_GET)) { /* the read of the rig */
        answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
        answer_manifest(&rig, HADB_OP_MAIN, 0);
    }
    rig.now_ms = 9000;
    uint64_t round = bounded(&rig, 500);
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 6);
    rig.now_ms = 9100;
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    assert_int_equal(must(&rig, HADB_ACT_READ_OK)->round, round);
    assert_int_equal(bounded(&rig, 500), HADB_ROUND_NOW);
}

/* Its owner may have been replaced, or the mark may have been on its way for long. */
static void bounded_read__is_not_impressed_by_the_stream(void **state)
{
    (void)state;
    struct rig rig;
    rig_follow_fresh(&rig);
    feed(&rig, (struct hadb_event){.type = HADB_EV_STREAM, .owner = owner_of(2, 1)});
    rig.now_ms = 9000;
    feed(&rig, (struct hadb_event){
                   .type = HADB_EV_STREAM_MARK, .owner = owner_of(2, 1), .term = 1, .slot = 5});
    assert_int_not_equal(bounded(&rig, 500), HADB_ROUND_NOW);
}

/* A slot that was sent first at 1010 and became durable: nobody had sealed the term by then. */
static void bounded_read__on_an_owner_rests_on_its_last_durable_slot(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    uint64_t sent_ms = rig.now_ms;
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    rig.now_ms += 300;
    answer_created(&rig, HADB_OP_SLOT0, HADB_R_OK);
    must(&rig, HADB_ACT_DURABLE);
    rig.now_ms = sent_ms + 400;
    assert_int_equal(bounded(&rig, 400), HADB_ROUND_NOW);
    assert_int_not_equal(bounded(&rig, 399), HADB_ROUND_NOW);
}

static void bounded_read__on_a_fenced_node_is_unavailable(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    answer_created(&rig, HADB_OP_SLOT0, HADB_R_EXISTS);
    answer_entry(&rig, HADB_OP_SLOT0, data_entry(&rig, 6, 51, 90, 77));
    assert_int_equal(rig.core.role, HADB_CORE_FENCED);
    assert_int_equal(bounded(&rig, 100000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read__on_an_idle_owner_asks_once_for_a_whole_round),
        cmocka_unit_test(read__rides_on_the_next_slot_under_load),
        cmocka_unit_test(read__of_a_sealed_owner_fails_and_fences),
        cmocka_unit_test(read__404_of_a_slot_that_was_sent_needs_the_boundary),
        cmocka_unit_test(read__finds_its_own_slot_there_while_the_create_is_unanswered),
        cmocka_unit_test(read__behind_a_slot_held_back_asks_after_a_while),
        cmocka_unit_test(read__404_after_a_while_needs_the_boundary_too),
        cmocka_unit_test(read__on_a_slot_without_a_reply_asks_after_a_while),
        cmocka_unit_test(read__proven_by_a_slot_lets_its_request_go),
        cmocka_unit_test(read__is_patient_as_long_as_creates_take),
        cmocka_unit_test(read__on_a_follower_needs_a_404_sent_after_it_began),
        cmocka_unit_test(
            bounded_read__counts_from_the_sending_of_the_proof_and_allows_for_its_clock),
        cmocka_unit_test(bounded_read__that_is_not_fresh_enough_waits_for_a_proof),
        cmocka_unit_test(bounded_read__is_not_impressed_by_the_stream),
        cmocka_unit_test(bounded_read__on_an_owner_rests_on_its_last_durable_slot),
        cmocka_unit_test(bounded_read__on_a_fenced_node_is_unavailable),
    };
    return cmocka_run_group_tests_name("core_read", tests, NULL, NULL);
}
