/* SPDX-License-Identifier: Apache-2.0 */
/* Brings threads in step: nobody passes before all members are there, or somebody gave up. Any thread. */
#ifndef HADB_BASE_GATE_H
#define HADB_BASE_GATE_H
#include "base/thread.h"

struct hadb_gate {
    struct hadb_mutex mu;
    struct hadb_cond moved;
    unsigned members; /* const after init */
    unsigned arrived; /* mu */
    unsigned round;   /* mu */
    bool broken;      /* mu */
};

void hadb_gate_init(struct hadb_gate *gate, unsigned members);
void hadb_gate_deinit(struct hadb_gate *gate);
/* Waits until all members are here; false when somebody has given up. */
bool hadb_gate_pass(struct hadb_gate *gate);
void hadb_gate_break(struct hadb_gate *gate);
#endif
