/* SPDX-License-Identifier: Apache-2.0 */
/* Simulator: the names of faults that a seed may have, and of situations that must be met. */
#ifndef HADB_SIM_SIM_NAMES_H
#define HADB_SIM_SIM_NAMES_H

/* ---- faults and other trouble that a seed may have; X(NAME, text) ---- */
#define SIM_FAULTS(X)                                                                     \
    X(STORE_FAIL, "store requests that are not carried out")                              \
    X(STORE_LOST, "store requests that are carried out and never answered")               \
    X(STORE_DELAY, "store requests that are carried out much later")                      \
    X(STORE_TWICE, "store requests that are carried out twice")                           \
    X(STORE_OUTAGE, "times at which the store answers nobody")                            \
    X(STORE_CUT, "times at which one node cannot reach the store")                        \
    X(STORE_SLOW, "slow store requests")                                                  \
    X(LEASE_FAIL, "lease requests without an answer")                                     \
    X(LEASE_FORGET, "lease records that vanish")                                          \
    X(LEASE_ROLLBACK, "lease records that are set back")                                  \
    X(LEASE_DOUBLE, "conditional lease writes that ignore their condition")               \
    X(LEASE_FREEZE, "times at which lease reads show the past")                           \
    X(NET_RESET, "connections that break")                                                \
    X(NET_SLOW, "slow links")                                                             \
    X(NET_CUT, "nodes that cannot reach each other")                                      \
    X(NET_ASYM, "links that are cut in one direction")                                    \
    X(CRASH, "processes that crash and restart")                                          \
    X(UNSYNCED, "local changes that a crash undoes")                                      \
    X(DISK_LOSS, "restarts with an empty disk")                                           \
    X(DISK_FAIL, "local engines that take no more writes until they are opened again")    \
    X(DISK_SLOW, "slow local disks")                                                      \
    X(PAUSE, "processes that stand still for up to ten TTLs")                             \
    X(CLOCK_RATE, "clocks that run at half to double speed")                              \
    X(CLOCK_OFFSET, "clocks that show other times")                                       \
    X(HAND_OFF, "planned hand-offs, also to nobody")                                      \
    X(STOP, "orderly stops")                                                              \
    X(SNAPSHOT, "snapshots on request at any node, and deletion")                         \
    X(LOCAL, "writes that are acknowledged after the local fsync")                        \
    X(ALARM, "suspicions without any reason")                                             \
    X(STORE_CLOG, "times at which the store answers one node, but the answers are stuck") \
    X(STORE_DAMAGE, "answers of the store with a flipped bit or half a body")             \
    X(DISK_STEP, "single steps of the local engine that fail: EIO, disk full")            \
    X(SYNC_LIE, "local fsyncs that do nothing")                                           \
    X(DAMAGE, "a store that loses an object, or is set back, while all nodes are down")

enum sim_fault_bit {
#define HADB_X(name, text) SIM_F_BIT_##name,
    SIM_FAULTS(HADB_X)
#undef HADB_X
        SIM_F_BITS
};
#define SIM_FAULT(name) (1ull << SIM_F_BIT_##name)
#define SIM_FAULTS_ALL ((1ull << SIM_F_BITS) - 1u)
extern const char *const sim_fault_names[SIM_F_BITS];
extern const char *const sim_fault_texts[SIM_F_BITS];

/* ---- situations that must be met sometimes; X(NAME) ---- */
/* clang-format off */
#define SIM_SOMETIMES(X)                                                                          \
    X(fenced) X(fenced_with_tail) X(rewound_definite) X(own_reseal) X(own_reseal_with_tail)       \
    X(tail_shipped_after_restart) X(unknown_create_was_ours) X(unknown_create_was_lost)           \
    X(stray_seal_refused) X(restored) X(restored_from_nothing) X(hand_off_done)                   \
    X(hand_off_called_off) X(resigned) X(named_successor_leads) X(stream_applied) X(stream_gap)   \
    X(snapshot_published) X(manifest_lost) X(manifest_unknown_was_ours) X(slots_deleted)          \
    X(deleted_slot_came_back) X(read_by_owner) X(read_by_follower) X(read_unavailable)            \
    X(bookmark_read) X(bounded_read_at_once) X(retry_answered_from_table)                         \
    X(retry_answered_by_another_leader)                                                           \
    X(write_refused_by_fence) X(condition_not_met) X(verdict_gone) X(verdict_silent)              \
    X(verdict_free) X(candidate_lost_race) X(slots_out_of_order) X(restart_with_empty_disk)       \
    X(restart_undid_commits) X(engine_failed) X(gave_up) X(stopped_orderly) X(local_write_lost)   \
    X(owner_paused_past_ttl) X(lease_forgotten) X(lease_told) X(two_nodes_lead) X(seal_of_unknown_outcome)      \
    X(store_outage) X(hole_noticed) X(rollback_noticed) X(late_answer)                            \
    X(read_asked_for_its_slot) X(halted_by_damage) X(halted_by_failed_step) X(synced_and_lost)
/* clang-format on */

enum sim_sometimes {
#define HADB_X(name) SIM_S_##name,
    SIM_SOMETIMES(HADB_X)
#undef HADB_X
        SIM_S_LEN
};
extern const char *const sim_sometimes_names[SIM_S_LEN];

/* ---- what clients do, and what they hear ---- */
enum sim_req_kind {
    SIM_WRITE,
    SIM_SWAP,
    SIM_READ_LINEAR,
    SIM_READ_BOOKMARK,
    SIM_READ_ANY,
    SIM_READ_BOUNDED
};
enum sim_outcome {
    SIM_PENDING,
    SIM_OK,
    SIM_NOT_MET,
    SIM_REFUSED, /* surely not done */
    SIM_UNKNOWN,
};
#endif
