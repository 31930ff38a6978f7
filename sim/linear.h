/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linearizability of one register's history: is there an order of the operations, consistent with real
 * time, in which each one returns what a single register would have returned?
 *
 * Algorithm: Wing and Gong's search with Lowe's memo of (set of linearized operations, state).
 * Histories of several keys are checked key by key, which is exact (linearizability is local).
 * Thread: any; no state is kept.
 */
#ifndef HADB_SIM_LINEAR_H
#define HADB_SIM_LINEAR_H

#include "hadb/types.h"

#define LIN_OPS_MAX 1024u
#define LIN_UNKNOWN \
    UINT64_MAX /* of ret: no answer came; it may take effect at any later time or never */

enum lin_kind {
    LIN_READ,  /* value: what was returned; 0 = absent */
    LIN_WRITE, /* value: what was written */
    LIN_SWAP, /* if the register holds expect: value; met: it did. Never answered: both are possible */
};

struct lin_op {
    enum lin_kind kind;
    bool met;
    uint64_t call, ret; /* real time, call < ret */
    uint64_t value, expect;
};

enum lin_verdict { LIN_OK, LIN_VIOLATED, LIN_INCONCLUSIVE };

/* The register starts at 0. Inconclusive after @steps_max steps, or out of memory, or too many @ops. */
enum lin_verdict lin_check(const struct lin_op *ops, size_t len, uint64_t steps_max);
#endif
