/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the gate of the conformance probes: rounds that threads begin together.
 *
 * Thread: any. Invariant: a gate that was broken never opens again. Failure modes: none.
 */
#include "base/gate.h"

void hadb_gate_init(struct hadb_gate *gate, unsigned members)
{
    *gate = (struct hadb_gate){.members = members};
    hadb_mutex_init(&gate->mu, 0);
    hadb_cond_init(&gate->moved);
}

void hadb_gate_deinit(struct hadb_gate *gate)
{
    hadb_cond_deinit(&gate->moved);
    hadb_mutex_deinit(&gate->mu);
}

bool hadb_gate_pass(struct hadb_gate *gate)
{
    hadb_mutex_lock(&gate->mu);
    unsigned round = gate->round;
    gate->arrived++;
    if (gate->arrived == gate->members) {
        gate->arrived = 0;
        gate->round++;
        hadb_cond_broadcast(&gate->moved);
    }
    while (gate->round == round && !gate->broken) {
        hadb_cond_wait(&gate->moved, &gate->mu);
    }
    bool open = !gate->broken;
    hadb_mutex_unlock(&gate->mu);
    return open;
}

void hadb_gate_break(struct hadb_gate *gate)
{
    hadb_mutex_lock(&gate->mu);
    gate->broken = true;
    hadb_cond_broadcast(&gate->moved);
    hadb_mutex_unlock(&gate->mu);
}
