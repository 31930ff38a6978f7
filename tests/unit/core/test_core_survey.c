/* SPDX-License-Identifier: Apache-2.0 */
/* A hole in the log is not its end, and a store that was rolled back is noticed: core/survey.c, event by event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/core/rig.h"

/* A node that has just started at term 1, slot 5 and has met its first 404; the owner of the term is silent. */
static void start_blind(struct rig *rig)
{
    rig_init(rig, NULL);
    rig->survey_by_hand = true;
    feed(rig, (struct hadb_event){.type = HADB_EV_START,
                                  .term = 1,
                                  .slot = 5,
                                  .pos = {1, 5, 50, hash_of(5)},
                                  .last_txid = 50,
                                  .owner = owner_of(2, 1)});
    feed(rig, (struct hadb_event){
                  .type = HADB_EV_OWNER, .owner = owner_of(2, 1), .liveness = HADB_LIVE_FREE});
    answer_get(rig, HADB_OP_MAIN, HADB_R_ABSENT);
}

static struct hadb_event sound(const struct rig *rig)
{
    return (struct hadb_event){.type = HADB_EV_SURVEYED,
                               .op = HADB_OP_MAIN,
                               .own = HADB_R_OK,
                               .entry = {.prev = rig->core.view.hash}};
}

static void survey(struct rig *rig, enum hadb_core_entry kind, uint64_t term, uint64_t slot,
                   uint64_t durable_slot)
{
    struct hadb_event ev = sound(rig);
    ev.entry.kind = kind;
    ev.entry.term = term;
    ev.entry.slot = slot;
    ev.durable_slot = durable_slot;
    feed(rig, ev);
}

/* Absent again, and not below the boundary: what does the machine make of it? */
static void still_absent(struct rig *rig)
{
    assert_int_equal(must(rig, HADB_ACT_GET)->slot, 6);
    NONE(rig, HADB_ACT_FRAME_SEAL);
    answer_get(rig, HADB_OP_MAIN, HADB_R_ABSENT);
}

/* A survey that finds an object of @kind there, whose owner knew @durable, proves that a slot is missing. */
static void assert_gap_after(enum hadb_core_entry kind, uint64_t term, uint64_t slot,
                             uint64_t durable)
{
    struct rig rig;
    start_blind(&rig);
    survey(&rig, kind, term, slot, durable);
    still_absent(&rig);
    NONE(&rig, HADB_ACT_FRAME_SEAL);
    must(&rig, HADB_ACT_GET_MANIFEST);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    assert_int_equal(rig.core.role, HADB_CORE_HALTED);
    assert_int_equal(rig.core.halt, HADB_HALT_GAP);
}

static void survey__comes_before_the_seal(void **state)
{
    (void)state;
    struct rig rig;
    start_blind(&rig);
    struct hadb_action *action = must(&rig, HADB_ACT_SURVEY);
    assert_int_equal(action->term, 1);
    assert_int_equal(action->slot, 6);
    assert_int_equal(action->pos.term, 1);
    assert_int_equal(action->pos.slot, 5);
    NONE(&rig, HADB_ACT_FRAME_SEAL);
    feed(&rig, sound(&rig));
    must(&rig, HADB_ACT_FRAME_SEAL);
}

static void survey__is_made_once_per_opening(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig.survey_by_hand = true;
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    assert_int_equal(must(&rig, HADB_ACT_SURVEY)->pos.slot, 0); /* the place is not known */
    feed(&rig, sound(&rig));
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    for (int i = 0; i < 30; i++) {
        tick(&rig, 1000);
        if (act_of(&rig, HADB_ACT_GET) != NULL) {
            answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
            NONE(&rig, HADB_ACT_SURVEY);
        }
        if (act_of(&rig, HADB_ACT_GET_MANIFEST) != NULL) {
            answer_manifest(&rig, HADB_OP_MAIN, 0);
        }
    }
}

static void survey__without_an_answer_is_asked_for_again(void **state)
{
    (void)state;
    struct rig rig;
    start_blind(&rig);
    feed(&rig, (struct hadb_event){
                   .type = HADB_EV_SURVEYED, .op = HADB_OP_MAIN, .result = HADB_R_UNKNOWN});
    NONE(&rig, HADB_ACT_FRAME_SEAL);
    tick(&rig, 1000);
    must(&rig, HADB_ACT_SURVEY);
}

static void gap__is_proven_by_a_later_term(void **state)
{
    (void)state;
    assert_gap_after(0, 2, 6, 0);
}

static void gap__is_proven_by_a_slot_that_no_window_reaches(void **state)
{
    (void)state;
    assert_gap_after(0, 1, 6 + HADB_WINDOW_MAX, 0);
}

static void gap__is_proven_by_what_the_owner_knew_to_be_durable(void **state)
{
    (void)state;
    assert_gap_after(HADB_CORE_DATA, 1, 8, 6);
}

static void gap__is_proven_by_a_seal_behind_it(void **state)
{
    (void)state;
    assert_gap_after(HADB_CORE_SEAL, 1, 7, 0);
}

/* Made by a node with an empty disk, which had not seen the boundary; such seals stand below it. */
static void gap__is_not_proven_by_a_stray_seal(void **state)
{
    (void)state;
    struct rig rig;
    start_blind(&rig);
    survey(&rig, HADB_CORE_SEAL, 2, 5, 0);
    still_absent(&rig);
    must(&rig, HADB_ACT_FRAME_SEAL);
}

static void hole__that_a_dead_owner_may_have_left_is_the_end(void **state)
{
    (void)state;
    struct rig rig;
    start_blind(&rig);
    survey(&rig, HADB_CORE_DATA, 1, 6 + HADB_WINDOW_MAX - 1, 5);
    still_absent(&rig);
    assert_int_equal(must(&rig, HADB_ACT_FRAME_SEAL)->slot, 6);
}

static void hole__that_its_owner_fills_meanwhile_is_none(void **state)
{
    (void)state;
    struct rig rig;
    start_blind(&rig);
    survey(&rig, HADB_CORE_DATA, 1, 9, 6);
    must(&rig, HADB_ACT_GET);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
    feed(&rig, (struct hadb_event){.type = HADB_EV_APPLIED, .op = HADB_OP_MAIN});
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 7);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    assert_int_equal(must(&rig, HADB_ACT_SURVEY)->slot,
                     7); /* the first one told of another place */
}

static void hole__below_the_boundary_is_restored_over(void **state)
{
    (void)state;
    struct rig rig;
    start_blind(&rig);
    survey(&rig, 0, 2, 9, 0);
    still_absent(&rig);
    answer_manifest(&rig, HADB_OP_MAIN, 7);
    must(&rig, HADB_ACT_RESTORE);
    feed(&rig, (struct hadb_event){.type = HADB_EV_RESTORED,
                                   .op = HADB_OP_MAIN,
                                   .pos = {2, 7, 70, hash_of(7)},
                                   .owner = owner_of(3, 1)});
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    assert_int_equal(must(&rig, HADB_ACT_SURVEY)->slot,
                     8); /* again, and nothing to see of its own */
    assert_int_equal(act_of(&rig, HADB_ACT_SURVEY)->pos.slot, 0);
}

static void own_object__that_is_gone_means_a_store_that_was_rolled_back(void **state)
{
    (void)state;
    struct rig rig;
    start_blind(&rig);
    struct hadb_event ev = sound(&rig);
    ev.own = HADB_R_ABSENT;
    feed(&rig, ev);
    NONE(&rig, HADB_ACT_FRAME_SEAL);
    answer_manifest(&rig, HADB_OP_MAIN, 4);
    assert_int_equal(rig.core.halt, HADB_HALT_ROLLBACK);
}

static void own_object__of_another_content_means_a_fork(void **state)
{
    (void)state;
    struct rig rig;
    start_blind(&rig);
    struct hadb_event ev = sound(&rig);
    ev.entry.prev = hash_of(77);
    feed(&rig, ev);
    answer_manifest(&rig, HADB_OP_MAIN, 4);
    assert_int_equal(rig.core.halt, HADB_HALT_FORK);
}

static void own_object__that_was_collected_is_no_loss(void **state)
{
    (void)state;
    struct rig rig;
    start_blind(&rig);
    struct hadb_event ev = sound(&rig);
    ev.own = HADB_R_ABSENT;
    feed(&rig, ev);
    answer_manifest(&rig, HADB_OP_MAIN, 5); /* the snapshot holds all that this node has */
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 6);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    assert_int_equal(must(&rig, HADB_ACT_SURVEY)->pos.slot, 0);
    feed(&rig, sound(&rig));
    must(&rig, HADB_ACT_FRAME_SEAL);
}

static void own_object__needs_no_look_once_an_entry_links_to_it(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig.survey_by_hand = true;
    feed(&rig, (struct hadb_event){.type = HADB_EV_START,
                                   .term = 1,
                                   .slot = 5,
                                   .pos = {1, 5, 50, hash_of(5)},
                                   .last_txid = 50,
                                   .owner = owner_of(2, 1)});
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
    feed(&rig, (struct hadb_event){.type = HADB_EV_APPLIED, .op = HADB_OP_MAIN});
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    assert_int_equal(must(&rig, HADB_ACT_SURVEY)->pos.slot, 0);
}

static void reads__are_not_proven_before_the_survey(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig.survey_by_hand = true;
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    if (act_of(&rig, HADB_ACT_SURVEY) == NULL) { /* that GET was older than the read */
        answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    }
    survey(&rig, 0, 2, 9, 0);
    NONE(&rig, HADB_ACT_READ_OK);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    NONE(&rig, HADB_ACT_READ_OK);
    must(&rig, HADB_ACT_READ_FAIL);
    assert_int_equal(rig.core.halt, HADB_HALT_GAP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survey__comes_before_the_seal),
        cmocka_unit_test(survey__is_made_once_per_opening),
        cmocka_unit_test(survey__without_an_answer_is_asked_for_again),
        cmocka_unit_test(gap__is_proven_by_a_later_term),
        cmocka_unit_test(gap__is_proven_by_a_slot_that_no_window_reaches),
        cmocka_unit_test(gap__is_proven_by_what_the_owner_knew_to_be_durable),
        cmocka_unit_test(gap__is_proven_by_a_seal_behind_it),
        cmocka_unit_test(gap__is_not_proven_by_a_stray_seal),
        cmocka_unit_test(hole__that_a_dead_owner_may_have_left_is_the_end),
        cmocka_unit_test(hole__that_its_owner_fills_meanwhile_is_none),
        cmocka_unit_test(hole__below_the_boundary_is_restored_over),
        cmocka_unit_test(own_object__that_is_gone_means_a_store_that_was_rolled_back),
        cmocka_unit_test(own_object__of_another_content_means_a_fork),
        cmocka_unit_test(own_object__that_was_collected_is_no_loss),
        cmocka_unit_test(own_object__needs_no_look_once_an_entry_links_to_it),
        cmocka_unit_test(reads__are_not_proven_before_the_survey),
    };
    return cmocka_run_group_tests_name("core_survey", tests, NULL, NULL);
}
