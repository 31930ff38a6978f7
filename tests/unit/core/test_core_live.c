/* SPDX-License-Identifier: Apache-2.0 */
/* The machine of one database: that it always goes on, asks no more than it must, and wastes no time at a failover. */
#include "tests/unit/core/rig.h"

static struct hadb_entry_info seal_entry(struct rig *rig, uint64_t slot, hadb_txid txid, int prev,
                                         int hash, struct hadb_owner next)
{
    struct hadb_entry_info seal = data_entry(rig, slot, txid, prev, hash);
    seal.kind = HADB_CORE_SEAL;
    seal.reason = HADB_SEAL_FAILOVER;
    seal.next = next;
    return seal;
}

/* ---- the end of a database ---- */

static struct hadb_entry_info terminal_seal(struct rig *rig, int prev, int hash)
{
    struct hadb_entry_info seal = seal_entry(rig, 6, 50, prev, hash, (struct hadb_owner){0});
    seal.reason = HADB_SEAL_RETIRED;
    return seal;
}

/* It stays unapplied: whoever starts again meets it again, instead of leading a term that nobody owns. */
static void retired__database_halts_and_halts_again_after_a_restart(void **state)
{
    (void)state;
    struct rig rig;
    struct hadb_pos at = {1, 5, 50, hash_of(5)};
    for (int life = 0; life < 2; life++) {
        rig_init(&rig, NULL);
        feed(&rig, (struct hadb_event){.type = HADB_EV_START,
                                       .pos = at,
                                       .last_txid = at.txid,
                                       .last_term = at.term,
                                       .owner = owner_of(2, 1)});
        answer_entry(&rig, HADB_OP_MAIN, terminal_seal(&rig, 5, 90));
        NONE(&rig, HADB_ACT_APPLY);
        answer_manifest(&rig, HADB_OP_MAIN, 0);
        NONE(&rig, HADB_ACT_APPLY);
        assert_int_equal(must(&rig, HADB_ACT_ROLE)->halt, HADB_HALT_RETIRED);
        NONE(&rig, HADB_ACT_GIVE_UP); /* nobody is to take it */
        must(&rig, HADB_ACT_RELEASE);
        at = rig.core.view;
    }
    assert_string_equal(hadb_core_halt_name(HADB_HALT_RETIRED), "database was retired");
}

static void retired__by_a_stray_seal_in_a_collected_slot_is_not_believed(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_entry(&rig, HADB_OP_MAIN, terminal_seal(&rig, 5, 90));
    answer_manifest(&rig, HADB_OP_MAIN, 8);
    must(&rig, HADB_ACT_RESTORE);
}

/* Its owner finds the seal where its next slot had to be: what it had not shipped is saved, then it halts. */
static void retired__owner_saves_its_tail_and_halts(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    answer_created(&rig, HADB_OP_SLOT0, HADB_R_EXISTS);
    struct hadb_entry_info seal = terminal_seal(&rig, 90, 95);
    answer_entry(&rig, HADB_OP_SLOT0, seal);
    feed(&rig, (struct hadb_event){.type = HADB_EV_GATED, .op = HADB_OP_GATE, .txid = 51});
    answer_entry(&rig, HADB_OP_MAIN, seal);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    must(&rig, HADB_ACT_REWIND);
    feed(&rig, (struct hadb_event){.type = HADB_EV_REWOUND, .op = HADB_OP_MAIN});
    must(&rig, HADB_ACT_ROLE);
    assert_int_equal(rig.core.halt, HADB_HALT_RETIRED);
}

/* ---- elections ---- */

/* A killed owner leaves entries in storage that nobody had seen yet: they are older than its death. */
static void election__against_a_process_that_is_gone_outlives_its_last_entries(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, false);
    liveness(&rig, HADB_LIVE_GONE);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
    answer_applied(&rig, HADB_R_OK);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    must(&rig, HADB_ACT_FRAME_SEAL);
}

static void election__against_an_owner_that_gave_up_outlives_its_last_entries(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, false);
    liveness(&rig, HADB_LIVE_FREE);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
    answer_applied(&rig, HADB_R_OK);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    must(&rig, HADB_ACT_FRAME_SEAL);
}

/* The seal that was lost to an entry of a process that is gone is tried again behind that entry. */
static void election__lost_to_a_late_entry_of_a_process_that_is_gone_goes_on(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, false);
    liveness(&rig, HADB_LIVE_GONE);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_SEAL), 50, 90);
    answer_created(&rig, HADB_OP_MAIN, HADB_R_EXISTS);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
    answer_applied(&rig, HADB_R_OK);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    assert_int_equal(must(&rig, HADB_ACT_FRAME_SEAL)->slot, 7);
}

static struct hadb_core_config lag_config(void)
{
    struct hadb_core_config config = rig_config();
    config.lag_wait_ms = 5;
    config.lag_wait_max_ms = 100;
    return config;
}

static void stream_breaks(struct rig *rig)
{
    feed(rig, (struct hadb_event){
                  .type = HADB_EV_STREAM, .result = HADB_R_FAILED, .owner = owner_of(2, 1)});
}

/* Who lacks more of what the owner called durable lets others go first; who lacks nothing does not wait. */
static void election__waits_longer_the_further_behind_it_is_and_never_too_long(void **state)
{
    (void)state;
    static const uint64_t marks[] = {5, 6, 10, 5000};
    static const uint64_t waits[] = {0, 5, 25, 100};
    for (int i = 0; i < 4; i++) {
        struct rig rig;
        struct hadb_core_config config = lag_config();
        rig_tail(&rig, &config, true);
        if (marks[i] > 5) {
            stream_mark(&rig, 1, marks[i]);
            must(&rig, HADB_ACT_GET);
        }
        stream_breaks(&rig);
        liveness(&rig, HADB_LIVE_GONE);
        assert_int_equal(rig.core.seal_at_ms, rig.now_ms + waits[i]);
    }
}

/* Whoever catches up meanwhile is as advanced as anybody. */
static void election__that_was_behind_need_not_wait_once_it_has_caught_up(void **state)
{
    (void)state;
    struct rig rig;
    struct hadb_core_config config = lag_config();
    rig_tail(&rig, &config, true);
    stream_mark(&rig, 1, 7);
    stream_breaks(&rig);
    liveness(&rig, HADB_LIVE_GONE);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
    answer_applied(&rig, HADB_R_OK);
    assert_int_equal(rig.core.seal_at_ms, rig.now_ms + 10);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 7, 54, 6, 7));
    answer_applied(&rig, HADB_R_OK);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    assert_int_equal(must(&rig, HADB_ACT_FRAME_SEAL)->slot, 8);
}

static void election__with_nobody_left_after_a_restore_needs_no_patience(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_start_at(&rig, 1, 5, 50, 50, owner_of(2, 1));
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 9);
    feed(&rig, (struct hadb_event){.type = HADB_EV_RESTORED,
                                   .op = HADB_OP_MAIN,
                                   .pos = {2, 9, 90, hash_of(9)}}); /* resigned at slot 9 */
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    must(&rig, HADB_ACT_FRAME_SEAL);
}

/* Fenced for lack of proof, but nobody sealed: nobody else would, since this node is alive. */
static void fenced__at_the_tip_of_its_own_term_seals_it_and_ships_its_tail(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    commit(&rig, 51);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 51, 16);
    commit(&rig, 52);
    enum hadb_core_op op = HADB_OP_SLOT0;
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), 52, 17);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    answer_get(&rig, HADB_OP_READ, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_READ, 6); /* another one has published a snapshot of slot 6 */
    assert_int_equal(rig.core.role, HADB_CORE_FENCED);
    answer_created(&rig, op, HADB_R_UNKNOWN);
    answer_created(&rig, HADB_OP_SLOT0 + 1, HADB_R_UNKNOWN);
    feed(&rig, (struct hadb_event){.type = HADB_EV_GATED, .op = HADB_OP_GATE, .txid = 52});
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 51, 90, 16));
    answer_applied(&rig, HADB_R_OK);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 6);
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 7);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_SEAL), 51, 91);
    answer_created(&rig, HADB_OP_MAIN, HADB_R_OK);
    answer_applied(&rig, HADB_R_OK);
    answer_manifest(&rig, HADB_OP_MAIN, 6);
    assert_int_equal(rig.core.role, HADB_CORE_OWNER);
    assert_int_equal(must(&rig, HADB_ACT_FRAME_DATA)->txid, 51);
}

/* From suspicion to the open gate: GET, PUT, GET, and no wait in between. */
static void election__asks_storage_three_times_and_never_waits(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, true);
    feed(&rig, (struct hadb_event){
                   .type = HADB_EV_STREAM, .result = HADB_R_FAILED, .owner = owner_of(2, 1)});
    must(&rig, HADB_ACT_GET); /* tailing */
    liveness(&rig, HADB_LIVE_GONE);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_SEAL), 50, 90);
    must(&rig, HADB_ACT_CREATE);
    answer_created(&rig, HADB_OP_MAIN, HADB_R_OK);
    answer_applied(&rig, HADB_R_OK);
    must(&rig, HADB_ACT_GET_MANIFEST);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    assert_int_equal(must(&rig, HADB_ACT_GATE)->gate, HADB_GATE_OPEN);
}

/* The one that was replaced may be asleep, or idle: it must learn that its term is over. */
static void election__tells_the_owner_that_it_replaced(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, false);
    liveness(&rig, HADB_LIVE_SILENT);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_SEAL), 50, 90);
    answer_created(&rig, HADB_OP_MAIN, HADB_R_OK);
    answer_applied(&rig, HADB_R_OK);
    struct hadb_owner old = owner_of(2, 1);
    assert_memory_equal(&must(&rig, HADB_ACT_NOTIFY)->owner, &old, sizeof old);
}

/* An idle owner that slept through its own replacement: a poke makes it look. */
static void owner__looks_when_it_is_poked(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    feed(&rig, (struct hadb_event){.type = HADB_EV_POKE});
    struct hadb_action *get = must(&rig, HADB_ACT_GET);
    assert_int_equal(get->op, HADB_OP_READ);
    assert_int_equal(get->slot, 6);
    feed(&rig, (struct hadb_event){.type = HADB_EV_POKE});
    NONE(&rig, HADB_ACT_GET);
    answer_entry(&rig, HADB_OP_READ, seal_entry(&rig, 6, 50, 90, 99, owner_of(3, 1)));
    assert_int_equal(rig.core.role, HADB_CORE_FENCED);
}

/* The poke came while the seal was on its way, and was about the seal after it. */
static void owner__poked_on_its_way_looks_when_it_leads(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, false);
    liveness(&rig, HADB_LIVE_SILENT);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_SEAL), 50, 90);
    answer_created(&rig, HADB_OP_MAIN, HADB_R_UNKNOWN);
    feed(&rig, (struct hadb_event){.type = HADB_EV_POKE});
    tick(&rig, 100);
    answer_created(&rig, HADB_OP_MAIN, HADB_R_OK);
    answer_applied(&rig, HADB_R_OK);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    assert_int_equal(rig.core.role, HADB_CORE_OWNER);
    assert_int_equal(must(&rig, HADB_ACT_GET)->op, HADB_OP_READ);
}

/* It was named long ago and comes late: others may have sealed its term meanwhile, and told it before. */
static void owner__named_by_another_looks_when_it_leads(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, false);
    feed(&rig, (struct hadb_event){.type = HADB_EV_POKE});
    answer_entry(&rig, HADB_OP_MAIN, seal_entry(&rig, 6, 50, 5, 91, rig.core.self));
    answer_applied(&rig, HADB_R_OK);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    must(&rig, HADB_ACT_GATE);
    assert_int_equal(must(&rig, HADB_ACT_GET)->op, HADB_OP_READ);
}

static void owner__poked_for_nothing_goes_on(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    feed(&rig, (struct hadb_event){.type = HADB_EV_POKE});
    answer_get(&rig, HADB_OP_READ, HADB_R_ABSENT);
    NONE(&rig, HADB_ACT_GET);
    assert_int_equal(rig.core.role, HADB_CORE_OWNER);
    assert_true(hadb_core_deadline(&rig.core) == UINT64_MAX);
}

/* ---- giving up ---- */

static void given_up__is_taken_back_by_whoever_owns_again(void **state)
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
    answer_created(&rig, op, HADB_R_EXISTS);
    answer_entry(&rig, op, seal_entry(&rig, 6, 50, 90, 99, owner_of(3, 1)));
    assert_int_equal(rig.core.role, HADB_CORE_FENCED);
    assert_false(must(&rig, HADB_ACT_GIVE_UP)->flag); /* another one has it: nothing to give up */
}

/* Named by its own seal, but it cannot read the manifest: others must be told. */
static void given_up__when_a_new_owner_cannot_check_the_boundary(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, false);
    liveness(&rig, HADB_LIVE_SILENT);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_framed(&rig, must(&rig, HADB_ACT_FRAME_SEAL), 50, 90);
    answer_created(&rig, HADB_OP_MAIN, HADB_R_OK);
    answer_applied(&rig, HADB_R_OK);
    bool told = false;
    for (uint64_t end = rig.now_ms + 1200; rig.now_ms < end;) {
        feed(&rig, (struct hadb_event){
                       .type = HADB_EV_MANIFEST, .op = HADB_OP_MAIN, .result = HADB_R_UNKNOWN});
        while (act_of(&rig, HADB_ACT_GET_MANIFEST) == NULL) {
            tick(&rig, hadb_core_deadline(&rig.core) - rig.now_ms);
            struct hadb_action *act = act_of(&rig, HADB_ACT_GIVE_UP);
            told = told || (act != NULL && act->flag);
        }
    }
    assert_true(told);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    assert_false(must(&rig, HADB_ACT_GIVE_UP)->flag);
    assert_int_equal(rig.core.role, HADB_CORE_OWNER);
}

/* ---- followers ---- */

/* A read replica cannot replace a silent owner: somebody else may have, and its stream would not say so. */
static void replica__of_a_silent_owner_looks_into_storage(void **state)
{
    (void)state;
    struct rig rig;
    struct hadb_core_config config = rig_config();
    config.never_lead = true;
    rig_tail(&rig, &config, true);
    assert_true(hadb_core_deadline(&rig.core) == UINT64_MAX);
    liveness(&rig, HADB_LIVE_SILENT);
    must(&rig, HADB_ACT_GET);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    assert_true(hadb_core_deadline(&rig.core) <= rig.now_ms + 100); /* … again and again */
    liveness(&rig, HADB_LIVE_ALIVE);
    tick(&rig, 100);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    assert_true(hadb_core_deadline(&rig.core) == UINT64_MAX);
}

/* The owner lost its term and won a later one: its marks are the only news that this follower gets. */
static void follower__that_hears_of_a_later_term_reads_storage(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, true);
    stream_mark(&rig, 3, 7);
    assert_int_equal(must(&rig, HADB_ACT_GET)->term, 1);
}

static void follower__applies_marked_entries_while_storage_is_away(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, true);
    feed(&rig, (struct hadb_event){.type = HADB_EV_POKE});
    answer_get(&rig, HADB_OP_MAIN, HADB_R_UNKNOWN);
    assert_true(rig.core.retry_at_ms > rig.now_ms);
    stream_entry(&rig, data_entry(&rig, 6, 53, 5, 6));
    stream_mark(&rig, 1, 6);
    must(&rig, HADB_ACT_APPLY);
}

static void follower__restored_below_its_tail_of_nothing_does_not_spin(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, false);
    tick(&rig, 200);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
    answer_applied(&rig, HADB_R_DIVERGED); /* with no tail to differ: this copy is broken */
    assert_int_equal(rig.core.role, HADB_CORE_HALTED);
    assert_int_equal(rig.core.halt, HADB_HALT_LOCAL);
}

/* The proof of a read finds an entry first: with a stream, nothing else would ask again. */
static void read__on_a_streaming_follower_is_proven_behind_the_entry_it_found(void **state)
{
    (void)state;
    struct rig rig;
    rig_tail(&rig, NULL, true);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    uint64_t round = must(&rig, HADB_ACT_READ_JOIN)->round;
    must(&rig, HADB_ACT_GET);
    answer_entry(&rig, HADB_OP_MAIN, data_entry(&rig, 6, 53, 5, 6));
    answer_applied(&rig, HADB_R_OK);
    assert_int_equal(must(&rig, HADB_ACT_GET)->slot, 7);
    answer_get(&rig, HADB_OP_MAIN, HADB_R_ABSENT);
    answer_manifest(&rig, HADB_OP_MAIN, 0);
    assert_int_equal(must(&rig, HADB_ACT_READ_OK)->round, round);
}

/* ---- hand-offs ---- */

static void handoff__deadline_does_not_spin_while_the_gate_drains(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    feed(&rig, (struct hadb_event){.type = HADB_EV_HANDOFF});
    tick(&rig, 600); /* a commit is stuck on its disk */
    assert_true(hadb_core_deadline(&rig.core) > rig.now_ms);
    feed(&rig, (struct hadb_event){.type = HADB_EV_GATED, .op = HADB_OP_GATE, .txid = 50});
    must(&rig, HADB_ACT_FRAME_SEAL); /* flushed after all */
}

static void handoff__of_a_machine_that_halts_is_answered(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    feed(&rig, (struct hadb_event){.type = HADB_EV_HANDOFF, .owner = owner_of(3, 0)});
    feed(&rig, (struct hadb_event){.type = HADB_EV_LOCAL});
    assert_int_equal(must(&rig, HADB_ACT_HANDOFF_DONE)->result, HADB_R_FAILED);
}

/* Reads found all slots in storage while the creates are unanswered: there is no room for the seal yet. */
static void handoff__waits_for_room_in_the_window(void **state)
{
    (void)state;
    struct rig rig;
    struct hadb_core_config config = rig_config();
    config.window = HADB_WINDOW_MAX;
    rig_init(&rig, &config);
    rig_lead(&rig);
    hadb_txid last[HADB_WINDOW_MAX]; /* each carries as much as is in flight, else it would wait */
    for (unsigned i = 0; i < HADB_WINDOW_MAX; i++) {
        last[i] = 50 + (1u << i);
        commit(&rig, last[i]);
        answer_framed(&rig, must(&rig, HADB_ACT_FRAME_DATA), last[i], (int)(16 + i));
    }
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    for (unsigned i = 0; i < HADB_WINDOW_MAX; i++) {
        answer_entry(&rig, HADB_OP_READ,
                     data_entry(&rig, 6 + i, last[i], i ? (int)(15 + i) : 90, (int)(16 + i)));
    }
    assert_int_equal(rig.core.view.slot, 5 + HADB_WINDOW_MAX);
    feed(&rig, (struct hadb_event){.type = HADB_EV_HANDOFF});
    feed(&rig, (struct hadb_event){
                   .type = HADB_EV_GATED, .op = HADB_OP_GATE, .txid = last[HADB_WINDOW_MAX - 1]});
    NONE(&rig, HADB_ACT_FRAME_SEAL);
    answer_created(&rig, HADB_OP_SLOT0, HADB_R_OK);
    must(&rig, HADB_ACT_FRAME_SEAL);
}

/* ---- storage outages: how often is asked ---- */

/* Answers every request of the machine with "no answer" for @ms; returns how many there were. */
static unsigned outage(struct rig *rig, uint64_t ms)
{
    unsigned asked = 0;
    struct hadb_action todo[64];
    size_t len = 0;
    uint64_t end = rig->now_ms + ms;
    while (rig->now_ms < end && asked < 100000) {
        for (uint32_t i = 0; i < rig->acts.len; i++) {
            enum hadb_action_type type = rig->acts.items[i].type;
            if (type == HADB_ACT_GET || type == HADB_ACT_GET_MANIFEST || type == HADB_ACT_CREATE ||
                type == HADB_ACT_CAS_MANIFEST || type == HADB_ACT_VIEW) {
                todo[len++] = rig->acts.items[i];
            }
        }
        if (len == 0) {
            uint64_t at = hadb_core_deadline(&rig->core);
            tick(rig, at > end ? end - rig->now_ms : at > rig->now_ms ? at - rig->now_ms : 0);
            continue;
        }
        struct hadb_action act = todo[--len];
        asked++;
        bool view = act.type == HADB_ACT_VIEW;
        bool cas = act.type == HADB_ACT_CAS_MANIFEST;
        feed(rig, (struct hadb_event){.type = act.type == HADB_ACT_GET            ? HADB_EV_ENTRY
                                              : act.type == HADB_ACT_GET_MANIFEST ? HADB_EV_MANIFEST
                                              : cas                               ? HADB_EV_CAS
                                              : view                              ? HADB_EV_FRAMED
                                                                                  : HADB_EV_CREATED,
                                      .op = act.op,
                                      .result = view ? HADB_R_FAILED : HADB_R_UNKNOWN});
    }
    return asked;
}

#define OUTAGE_MS 60000u
#define OUTAGE_ASKED_MAX \
    (OUTAGE_MS / 100u * 4u) /* backoff_max_ms is 100: once per 50 ms on average */

static void read__of_an_owner_in_an_outage_asks_less_and_less(void **state)
{
    (void)state;
    struct rig rig;
    struct hadb_core_config config = rig_config();
    config.backoff_max_ms = 2000;
    rig_init(&rig, &config);
    rig_lead(&rig);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ});
    unsigned asked = outage(&rig, OUTAGE_MS);
    assert_in_range(asked, 10, 200);
    tick(&rig, 5000);
    answer_get(&rig, HADB_OP_READ, HADB_R_ABSENT);
    must(&rig, HADB_ACT_READ_OK);
    feed(&rig, (struct hadb_event){.type = HADB_EV_READ}); /* and the waits are short again */
    answer_get(&rig, HADB_OP_READ, HADB_R_UNKNOWN);
    assert_true(hadb_core_deadline(&rig.core) <= rig.now_ms + 1 + config.backoff_min_ms);
}

static void upload(struct rig *rig)
{
    feed(rig, (struct hadb_event){.type = HADB_EV_SNAPSHOT});
    must(rig, HADB_ACT_VIEW);
    feed(rig, (struct hadb_event){.type = HADB_EV_FRAMED,
                                  .op = HADB_OP_SNAP,
                                  .view = 70,
                                  .txid = 50,
                                  .pos = {2, 5, 50, hash_of(90)}});
    must(rig, HADB_ACT_UPLOAD);
    feed(rig, (struct hadb_event){.type = HADB_EV_UPLOADED, .op = HADB_OP_SNAP, .handle = 71});
    must(rig, HADB_ACT_GET_MANIFEST);
}

/* Reads are answered, writes are not. */
static void snapshot__manifest_write_without_an_answer_pauses(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    upload(&rig);
    unsigned asked = 0;
    for (uint64_t end = rig.now_ms + OUTAGE_MS; rig.now_ms < end && asked < 100000;) {
        if (act_of(&rig, HADB_ACT_GET_MANIFEST) != NULL) {
            answer_manifest(&rig, HADB_OP_SNAP, 0);
        } else if (act_of(&rig, HADB_ACT_CAS_MANIFEST) != NULL) {
            asked++;
            feed(&rig, (struct hadb_event){
                           .type = HADB_EV_CAS, .op = HADB_OP_SNAP, .result = HADB_R_UNKNOWN});
        } else {
            tick(&rig, hadb_core_deadline(&rig.core) - rig.now_ms);
        }
    }
    assert_in_range(asked, 10, OUTAGE_ASKED_MAX);
}

static void snapshot__in_an_outage_asks_less_and_less(void **state)
{
    (void)state;
    struct rig rig;
    struct hadb_core_config config = rig_config();
    config.backoff_max_ms = 2000;
    rig_init(&rig, &config);
    rig_lead(&rig);
    upload(&rig);
    assert_in_range(outage(&rig, OUTAGE_MS), 10, 200);
}

static void snapshot__view_that_fails_is_not_asked_for_at_once(void **state)
{
    (void)state;
    struct rig rig;
    struct hadb_core_config config = rig_config();
    config.snapshot_slots = 1;
    rig_init(&rig, &config);
    rig_lead(&rig);
    must(&rig, HADB_ACT_VIEW);
    assert_in_range(outage(&rig, OUTAGE_MS), 10, OUTAGE_ASKED_MAX);
}

/* The engine's mark follows a little later: the view is asked for again, but not in a loop. */
static void snapshot__view_behind_the_mark_is_asked_for_again_later(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    feed(&rig, (struct hadb_event){.type = HADB_EV_SNAPSHOT});
    feed(&rig, (struct hadb_event){.type = HADB_EV_FRAMED,
                                   .op = HADB_OP_SNAP,
                                   .view = 70,
                                   .txid = 50,
                                   .pos = {1, 4, 49, hash_of(4)}});
    NONE(&rig, HADB_ACT_VIEW);
    uint64_t at = hadb_core_deadline(&rig.core);
    assert_true(at > rig.now_ms && at <= rig.now_ms + 200);
    tick(&rig, at - rig.now_ms);
    must(&rig, HADB_ACT_VIEW);
}

static void snapshot__of_a_machine_that_halts_is_released(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, NULL);
    rig_lead(&rig);
    upload(&rig);
    feed(&rig, (struct hadb_event){.type = HADB_EV_STOP});
    bool released = false;
    for (uint32_t i = 0; i < rig.acts.len; i++) {
        released = released ||
                   (rig.acts.items[i].type == HADB_ACT_RELEASE && rig.acts.items[i].handle == 71);
    }
    assert_true(released);
}

/* Another node moves the boundary on while slots are being deleted: only those count as swept. */
static void snapshot__sweeps_no_further_than_it_deleted(void **state)
{
    (void)state;
    struct rig rig;
    struct hadb_core_config config = rig_config();
    config.grace_ms = 1000;
    rig_init(&rig, &config);
    rig_lead(&rig);
    upload(&rig);
    answer_manifest(&rig, HADB_OP_SNAP, 0);
    must(&rig, HADB_ACT_CAS_MANIFEST);
    feed(&rig, (struct hadb_event){.type = HADB_EV_CAS, .op = HADB_OP_SNAP});
    rig.core.boundary_slot = 9; /* as read from a newer manifest */
    tick(&rig, 1000);
    assert_int_equal(must(&rig, HADB_ACT_DELETE)->slot, 5);
    feed(&rig, (struct hadb_event){.type = HADB_EV_DELETED, .op = HADB_OP_SNAP});
    assert_int_equal(rig.core.swept_slot, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(retired__database_halts_and_halts_again_after_a_restart),
        cmocka_unit_test(retired__by_a_stray_seal_in_a_collected_slot_is_not_believed),
        cmocka_unit_test(retired__owner_saves_its_tail_and_halts),
        cmocka_unit_test(election__against_a_process_that_is_gone_outlives_its_last_entries),
        cmocka_unit_test(election__against_an_owner_that_gave_up_outlives_its_last_entries),
        cmocka_unit_test(election__lost_to_a_late_entry_of_a_process_that_is_gone_goes_on),
        cmocka_unit_test(election__waits_longer_the_further_behind_it_is_and_never_too_long),
        cmocka_unit_test(election__that_was_behind_need_not_wait_once_it_has_caught_up),
        cmocka_unit_test(election__with_nobody_left_after_a_restore_needs_no_patience),
        cmocka_unit_test(fenced__at_the_tip_of_its_own_term_seals_it_and_ships_its_tail),
        cmocka_unit_test(election__asks_storage_three_times_and_never_waits),
        cmocka_unit_test(election__tells_the_owner_that_it_replaced),
        cmocka_unit_test(owner__looks_when_it_is_poked),
        cmocka_unit_test(owner__poked_on_its_way_looks_when_it_leads),
        cmocka_unit_test(owner__named_by_another_looks_when_it_leads),
        cmocka_unit_test(owner__poked_for_nothing_goes_on),
        cmocka_unit_test(given_up__is_taken_back_by_whoever_owns_again),
        cmocka_unit_test(given_up__when_a_new_owner_cannot_check_the_boundary),
        cmocka_unit_test(replica__of_a_silent_owner_looks_into_storage),
        cmocka_unit_test(follower__that_hears_of_a_later_term_reads_storage),
        cmocka_unit_test(follower__applies_marked_entries_while_storage_is_away),
        cmocka_unit_test(follower__restored_below_its_tail_of_nothing_does_not_spin),
        cmocka_unit_test(read__on_a_streaming_follower_is_proven_behind_the_entry_it_found),
        cmocka_unit_test(handoff__deadline_does_not_spin_while_the_gate_drains),
        cmocka_unit_test(handoff__of_a_machine_that_halts_is_answered),
        cmocka_unit_test(handoff__waits_for_room_in_the_window),
        cmocka_unit_test(read__of_an_owner_in_an_outage_asks_less_and_less),
        cmocka_unit_test(snapshot__manifest_write_without_an_answer_pauses),
        cmocka_unit_test(snapshot__in_an_outage_asks_less_and_less),
        cmocka_unit_test(snapshot__view_that_fails_is_not_asked_for_at_once),
        cmocka_unit_test(snapshot__view_behind_the_mark_is_asked_for_again_later),
        cmocka_unit_test(snapshot__of_a_machine_that_halts_is_released),
        cmocka_unit_test(snapshot__sweeps_no_further_than_it_deleted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
