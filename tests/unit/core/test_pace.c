/* SPDX-License-Identifier: Apache-2.0 */
/* Thousands of databases of a node that has vanished are sealed at a bounded rate, the busiest first (4.12). */
#include <stdlib.h>

#include "base/util.h"
#include "core/pace.h"
#include "tests/unit/core/rig.h"

#define DBS 3000u

static struct hadb_pace_item items[DBS];

static void pace_start(struct hadb_pace *pace)
{
    hadb_pace_init(pace, 5000);
    hadb_pace_room(pace, items, DBS);
}

static void pace__lets_a_few_pass_at_once(void **state)
{
    (void)state;
    struct hadb_pace pace;
    uint64_t who;
    pace_start(&pace);
    assert_int_equal(hadb_pace_deadline(&pace), UINT64_MAX);
    for (uint64_t i = 0; i < HADB_SEALS_BURST_MAX; i++) {
        hadb_pace_ask(&pace, i, 0);
        assert_true(hadb_pace_next(&pace, 5000, &who));
        assert_int_equal(who, i);
    }
    hadb_pace_ask(&pace, 99, 0);
    assert_false(hadb_pace_next(&pace, 5000, &who));
    assert_int_equal(hadb_pace_deadline(&pace), 5001);
    assert_true(hadb_pace_next(&pace, 5001, &who));
    assert_int_equal(who, 99);
}

static void pace__among_equals_the_first_to_ask_goes_first(void **state)
{
    (void)state;
    struct hadb_pace pace;
    pace_start(&pace);
    for (uint64_t i = 0; i < 50; i++) {
        hadb_pace_ask(&pace, i, 7);
    }
    for (uint64_t i = 0; i < 50; i++) {
        uint64_t who;
        assert_true(hadb_pace_next(&pace, 5000, &who));
        assert_int_equal(who, i);
    }
}

static void pace__a_long_rest_saves_no_more_than_one_burst(void **state)
{
    (void)state;
    struct hadb_pace pace;
    uint64_t who;
    unsigned turns = 0;
    pace_start(&pace);
    for (uint64_t i = 0; i < DBS; i++) {
        hadb_pace_ask(&pace, i, 0);
    }
    while (hadb_pace_next(&pace, UINT64_MAX / 2, &who)) {
        turns++;
    }
    assert_int_equal(turns, HADB_SEALS_BURST_MAX);
}

static void pace__one_who_left_has_no_turn(void **state)
{
    (void)state;
    struct hadb_pace pace;
    pace_start(&pace);
    for (uint64_t i = 0; i < 40; i++) {
        hadb_pace_ask(&pace, i, i * 7 % 40);
    }
    for (uint64_t i = 0; i < 40; i += 3) {
        hadb_pace_cancel(&pace, i);
    }
    hadb_pace_cancel(&pace, 1000);
    uint64_t last = UINT64_MAX;
    uint64_t who;
    unsigned turns = 0;
    for (; hadb_pace_next(&pace, 5000, &who); turns++) {
        assert_true(who % 3 != 0);
        assert_true(who * 7 % 40 < last);
        last = who * 7 % 40;
    }
    assert_int_equal(turns, 26);
}

/* ---- machines of 3000 databases whose node falls silent, with one bucket ---- */

struct world {
    struct hadb_core cores[DBS];
    uint64_t written[DBS];
    uint64_t sealed_at[DBS];
    unsigned order[DBS], sealed;
    struct hadb_pace pace;
};

static void step(struct world *w, unsigned i, struct hadb_event ev, uint64_t now)
{
    struct hadb_actions acts;
    hadb_core_step(&w->cores[i], &ev, now, &acts);
    for (uint32_t a = 0; a < acts.len; a++) {
        const struct hadb_action *act = &acts.items[a];
        if (act->type == HADB_ACT_SEAL_TURN) {
            hadb_pace_ask(&w->pace, i, w->written[i]);
        } else if (act->type == HADB_ACT_GET && act->op == HADB_OP_MAIN) {
            step(w, i,
                 (struct hadb_event){
                     .type = HADB_EV_ENTRY, .op = HADB_OP_MAIN, .result = HADB_R_ABSENT},
                 now);
        } else if (act->type == HADB_ACT_SURVEY) {
            step(w, i, (struct hadb_event){.type = HADB_EV_SURVEYED, .op = act->op}, now);
        } else if (act->type == HADB_ACT_GET_MANIFEST) {
            step(w, i,
                 (struct hadb_event){
                     .type = HADB_EV_MANIFEST, .op = act->op, .manifest = {.version = 1}},
                 now);
        } else if (act->type == HADB_ACT_FRAME_SEAL) {
            assert_true(w->sealed < DBS && w->sealed_at[i] == 0);
            w->sealed_at[i] = now;
            w->order[w->sealed++] = i;
        }
    }
}

static void
three_thousand_databases__are_sealed_at_the_rate_of_the_bucket_the_last_written_first(void **state)
{
    (void)state;
    struct world *w = calloc(1, sizeof *w);
    struct hadb_core_config config = rig_config();
    struct hadb_owner self = owner_of(1, 1);
    uint64_t now = 5000;
    assert_non_null(w);
    hadb_pace_init(&w->pace, now);
    hadb_pace_room(&w->pace, items, DBS);
    config.seal_turns = true;
    for (unsigned i = 0; i < DBS; i++) {
        w->written[i] = i * 7919ull % DBS; /* all different, in no order */
        hadb_core_init(&w->cores[i], &config, &self, i + 1);
        step(w, i,
             (struct hadb_event){.type = HADB_EV_START,
                                 .pos = {1, 5, 50, hash_of(5)},
                                 .last_txid = 50,
                                 .last_term = 1,
                                 .owner = owner_of(2, 1)},
             now);
    }
    for (unsigned i = 0; i < DBS; i++) {
        step(w, i,
             (struct hadb_event){
                 .type = HADB_EV_OWNER, .liveness = HADB_LIVE_SILENT, .owner = owner_of(2, 1)},
             now);
    }
    assert_int_equal(w->sealed, 0);
    for (uint64_t began = now, who; w->sealed < DBS; now++) {
        while (hadb_pace_next(&w->pace, now, &who)) {
            step(w, (unsigned)who, (struct hadb_event){.type = HADB_EV_SEAL_TURN}, now);
        }
        uint64_t most = HADB_SEALS_BURST_MAX + (now - began) * HADB_SEALS_PER_S_MAX / 1000;
        assert_int_equal(w->sealed, HADB_MIN(most, DBS));
    }
    for (unsigned i = 0; i < DBS; i++) {
        assert_int_equal(w->written[w->order[i]], DBS - 1 - i);
    }
    free(w);
}

/* The owner is back, or another one leads, before its turn has come: the turn is not used. */
static void turn__that_comes_too_late_seals_nothing(void **state)
{
    (void)state;
    struct rig rig;
    struct hadb_core_config config = rig_config();
    config.seal_turns = true;
    rig_init(&rig, &config);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    liveness(&rig, HADB_LIVE_SILENT);
    must(&rig, HADB_ACT_SEAL_TURN);
    assert_true(hadb_core_deadline(&rig.core) > rig.now_ms); /* it does not spin meanwhile */
    liveness(&rig, HADB_LIVE_ALIVE);
    feed(&rig, (struct hadb_event){.type = HADB_EV_SEAL_TURN});
    tick(&rig, 10);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    NONE(&rig, HADB_ACT_FRAME_SEAL);
    liveness(&rig, HADB_LIVE_SILENT); /* and the next time it asks again */
    must(&rig, HADB_ACT_SEAL_TURN);
    feed(&rig, (struct hadb_event){.type = HADB_EV_SEAL_TURN});
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    must(&rig, HADB_ACT_FRAME_SEAL);
}

/* A restarted node seals its own terms without patience, but not without a turn. */
static void turn__is_what_a_restarted_node_waits_for_too(void **state)
{
    (void)state;
    struct rig rig;
    struct hadb_core_config config = rig_config();
    config.seal_turns = true;
    rig_init(&rig, &config);
    rig_start_at(&rig, 1, 5, 50, 52, owner_of(1, 0));
    must(&rig, HADB_ACT_SEAL_TURN);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    NONE(&rig, HADB_ACT_FRAME_SEAL);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    feed(&rig, (struct hadb_event){.type = HADB_EV_SEAL_TURN});
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    must(&rig, HADB_ACT_FRAME_SEAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pace__lets_a_few_pass_at_once),
        cmocka_unit_test(pace__among_equals_the_first_to_ask_goes_first),
        cmocka_unit_test(pace__a_long_rest_saves_no_more_than_one_burst),
        cmocka_unit_test(pace__one_who_left_has_no_turn),
        cmocka_unit_test(
            three_thousand_databases__are_sealed_at_the_rate_of_the_bucket_the_last_written_first),
        cmocka_unit_test(turn__that_comes_too_late_seals_nothing),
        cmocka_unit_test(turn__is_what_a_restarted_node_waits_for_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
