/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model checker: the named configurations of the default run, and where each rule is missed.
 *
 * Thread: any; constant data.
 */
#include "base/util.h"
#include "sim/mc.h"

#include <string.h>

/* clang-format off */
const struct mc_config mc_configs[] = {
    {.name = "genesis", .about = "empty store, three processes want to be first",
     .procs = 3, .terms = 3, .slots = 2, .window = 1, .writes = 1, .crashes = 1, .lost = 1,
     .suspects = 1, .genesis = true, .heal = true, .states = 1000000},
    {.name = "election", .about = "wrong suspicions, lost replies, late and double requests",
     .procs = 2, .terms = 3, .slots = 3, .window = 1, .writes = 3, .lost = 2, .suspects = 3,
     .heal = true},
    {.name = "restart", .about = "restarts with every part of the local tail; own and foreign seals",
     .procs = 2, .terms = 4, .slots = 3, .window = 1, .writes = 2, .crashes = 2, .lost = 1,
     .suspects = 2, .heal = true, .states = 1500000},
    {.name = "window", .about = "two slots in flight",
     .procs = 2, .terms = 2, .slots = 3, .window = 2, .writes = 3, .crashes = 1, .lost = 2,
     .suspects = 1},
    {.name = "batch", .about = "entries of several transactions, restarts that keep half of one",
     .procs = 2, .terms = 3, .slots = 3, .window = 1, .writes = 3, .crashes = 1, .lost = 1,
     .suspects = 1, .batch = true, .heal = true},
    {.name = "snapshot", .about = "two snapshots, collected slots, stale candidates",
     .procs = 2, .terms = 3, .slots = 3, .window = 1, .writes = 3, .snapshots = 2, .suspects = 2,
     .states = 2000000},
    {.name = "manifest", .about = "manifest writes with lost replies, racing each other",
     .procs = 2, .terms = 2, .slots = 2, .window = 1, .writes = 2, .snapshots = 2, .lost = 2,
     .suspects = 1, .states = 1500000},
    {.name = "disk", .about = "a process comes back with an empty disk, slots are collected",
     .procs = 2, .terms = 3, .slots = 2, .window = 1, .writes = 2, .snapshots = 1, .crashes = 1,
     .disk_losses = 1, .suspects = 1, .heal = true, .states = 1000000},
    {.name = "read", .about = "linearizable reads on owner and follower",
     .procs = 2, .terms = 3, .slots = 2, .window = 1, .writes = 2, .reads = 2, .suspects = 2,
     .heal = true},
    {.name = "read-snapshot", .about = "linearizable reads while slots are collected",
     .procs = 2, .terms = 3, .slots = 3, .window = 1, .writes = 2, .reads = 1, .snapshots = 1,
     .suspects = 2, .states = 2000000},
    {.name = "read-three", .about = "linearizable reads with three processes",
     .procs = 3, .terms = 3, .slots = 2, .window = 1, .writes = 2, .reads = 1, .suspects = 1},
    {.name = "planned", .about = "hand-offs without any failure: no write is lost",
     .procs = 3, .terms = 4, .slots = 3, .window = 2, .writes = 3, .handoffs = 2, .heal = true,
     .states = 1500000},
    {.name = "hand-off", .about = "a hand-off among suspicions, crashes and lost replies",
     .procs = 2, .terms = 3, .slots = 2, .window = 1, .writes = 2, .handoffs = 1, .crashes = 1,
     .lost = 1, .suspects = 1, .heal = true},
    {.name = "hand-off-three", .about = "the successor crashes, another one takes over",
     .procs = 3, .terms = 3, .slots = 2, .window = 1, .writes = 1, .handoffs = 1, .crashes = 1,
     .suspects = 1, .heal = true},
    {.name = "hand-off-snapshot", .about = "hand-off while slots are collected",
     .procs = 2, .terms = 3, .slots = 2, .window = 1, .writes = 2, .handoffs = 1, .snapshots = 1,
     .suspects = 1, .heal = true},
    {.name = "resign", .about = "giving up leadership with nobody named",
     .procs = 2, .terms = 4, .slots = 2, .window = 1, .writes = 2, .resigns = 1, .handoffs = 1,
     .lost = 1, .suspects = 1, .heal = true},
    {.name = "stream", .about = "entries and marks from the owner's stream, late and double",
     .procs = 2, .terms = 3, .slots = 2, .window = 1, .writes = 2, .streams = 6, .crashes = 1,
     .suspects = 1, .heal = true, .states = 4000000},
    {.name = "stream-three", .about = "streams of three processes",
     .procs = 3, .terms = 2, .slots = 3, .window = 2, .writes = 2, .streams = 5, .suspects = 1,
     .states = 1000000},
    {.name = "stream-snapshot", .about = "streams while slots are collected and restored",
     .procs = 2, .terms = 2, .slots = 3, .window = 1, .writes = 3, .streams = 6, .snapshots = 1,
     .suspects = 1, .lazy = true, .heal = true, .states = 1000000},
    {.name = "lazy", .about = "local work takes time: fenced while framing, applying, draining",
     .procs = 2, .terms = 3, .slots = 2, .window = 1, .writes = 2, .handoffs = 1, .lost = 1,
     .suspects = 2, .lazy = true, .heal = true},
    {.name = "lazy-snapshot", .about = "the same with snapshots, crashes and reads",
     .procs = 2, .terms = 3, .slots = 2, .window = 1, .writes = 2, .snapshots = 1, .crashes = 1,
     .reads = 1, .suspects = 1, .lazy = true, .states = 2000000},
    {.name = "three", .about = "three processes, collected slots, stale candidates",
     .procs = 3, .terms = 3, .slots = 2, .window = 1, .writes = 2, .snapshots = 1, .suspects = 2,
     .states = 2000000},
    {.name = "clone", .about = "a copy of the owner wakes up after its slot was collected",
     .procs = 2, .terms = 3, .slots = 2, .window = 2, .writes = 2, .snapshots = 1, .reads = 1,
     .suspects = 1, .clones = 1, .states = 1500000},
    {.name = "verdicts", .about = "owners said to be silent, gone, free and alive again; poked owners",
     .procs = 2, .terms = 3, .slots = 2, .window = 1, .writes = 2, .reads = 1, .suspects = 4,
     .verdicts = true, .heal = true},
    {.name = "verdicts-three", .about = "the same with a hand-off and streams, three processes",
     .procs = 3, .terms = 3, .slots = 1, .window = 1, .writes = 1, .handoffs = 1, .streams = 2,
     .suspects = 2, .verdicts = true, .heal = true, .states = 1000000},
    {.name = "restart-hand-off", .about = "an owner crashes while it hands over, with any part of its tail",
     .procs = 2, .terms = 3, .slots = 2, .window = 2, .writes = 2, .handoffs = 1, .crashes = 1,
     .suspects = 1, .lazy = true, .heal = true},
    {.name = "restart-window", .about = "two slots in flight, restarts with every part of the tail",
     .procs = 2, .terms = 3, .slots = 2, .window = 2, .writes = 3, .crashes = 2, .suspects = 1,
     .heal = true},
    {.name = "broken-store", .about = "a store that breaks S1: gaps are never bridged",
     .procs = 2, .terms = 3, .slots = 3, .window = 1, .writes = 4, .crashes = 1, .overwrites = 1,
     .suspects = 1},
};
const size_t mc_configs_len = HADB_LEN(mc_configs);

static const char *const shown_by[][2] = {
    {"BOUNDARY_CHECK", "read-snapshot"},
    {"KEEP_SEALS", "read-snapshot"},
    {"PREFIX_ACK", "window"},
    {"COMPARE_CONTENT", "election"},
    {"RESEND_UNKNOWN", "election"},
    {"CHAIN", "broken-store"},
    {"SNAPSHOT_DURABLE", "snapshot"},
    {"READ_PROOF", "read"},
    {"READ_AFTER", "read"},
    {"READ_BOUNDARY", "read-snapshot"},
    {"REPLY_DURABLE", "read"},
    {"REWIND_FOREIGN", "election"},
    {"REFRAME_OWN_SEAL", "restart"},
    {"NEW_TERM_AT_START", "restart"},
    {"DRAIN_BEFORE_SEAL", "planned"},
    {"STREAM_MARK", "stream"},
    {"FENCED_DEFINITE", "read-snapshot"},
    {"DELETE_LAST", "manifest"},
    {"CAS_REREAD", "manifest"},
    {"READ_OWNER_AFTER", "read"},
    {"READ_OWNER_BOUNDARY", "read-snapshot"},
    {"READ_SLOT_AFTER", "read"},
    {"CLONE_GUARD", "clone"},
};

const struct mc_rule mc_rules[] = {
#define HADB_X(name, bit, text) {HADB_RULE_##name, #name, text},
    HADB_RULES(HADB_X)
#undef HADB_X
};
const size_t mc_rules_len = HADB_LEN(mc_rules);
/* clang-format on */

const char *mc_rule_config(const struct mc_rule *rule)
{
    for (size_t i = 0; i < HADB_LEN(shown_by); i++) {
        if (strcmp(shown_by[i][0], rule->name) == 0) {
            return shown_by[i][1];
        }
    }
    return NULL;
}

const struct mc_rule *mc_rule_find(const char *name)
{
    for (size_t i = 0; i < mc_rules_len; i++) {
        if (strcmp(mc_rules[i].name, name) == 0) {
            return &mc_rules[i];
        }
    }
    return NULL;
}

const struct mc_config *mc_config_find(const char *name)
{
    for (size_t i = 0; i < mc_configs_len; i++) {
        if (strcmp(mc_configs[i].name, name) == 0) {
            return &mc_configs[i];
        }
    }
    return NULL;
}
