/* SPDX-License-Identifier: Apache-2.0 */
/* What a node counts: one list makes the fields, the text of /v1/metrics and the table in the manual.
 * Relaxed atomics; any thread. */
#ifndef HADB_NODE_COUNTERS_H
#define HADB_NODE_COUNTERS_H

#include "hadb/types.h"

/* X(name, what it counts) */
#define HADB_NODE_COUNTERS(X)                                                             \
    X(writes_executed, "mutations that ran on this node as leader")                       \
    X(write_batches, "group commits")                                                     \
    X(writes_deduplicated, "mutations answered from the result of an earlier attempt")    \
    X(writes_forwarded, "attempts to run a mutation on the leader")                       \
    X(writes_rerouted, "mutations that looked for the leader again")                      \
    X(forwards_served, "mutations that came from other nodes")                            \
    X(reads_any, "reads at level any")                                                    \
    X(reads_bookmark, "reads at level bookmark")                                          \
    X(reads_bounded, "reads that name an age")                                            \
    X(reads_linearizable, "linearizable reads")                                           \
    X(log_creates, "first attempts to create a log entry")                                \
    X(log_resends, "later attempts with the same bytes")                                  \
    X(log_entries_durable, "own log entries that became durable")                         \
    X(log_gets, "reads of a log entry")                                                   \
    X(log_lists, "listings of a log: one when a database is opened or restored")          \
    X(manifest_gets, "reads of a manifest")                                               \
    X(entries_applied, "log entries applied as follower")                                 \
    X(stream_entries_sent, "entries handed to followers' streams")                        \
    X(stream_entries_received, "entries received from leaders' streams")                  \
    X(stream_beats_sent, "heartbeats handed to followers' streams")                       \
    X(streams_opened, "streams opened to leaders")                                        \
    X(streams_broken, "streams to leaders that broke")                                    \
    X(lease_renewals, "writes of this node's own lease record")                           \
    X(lease_reads,                                                                        \
      "reads of a lease record: the own one at the start, a leader's without its stream") \
    X(lease_waits, "waits for the change of a leader's lease record")                     \
    X(elections_won, "terms that this node came to own")                                  \
    X(fenced, "terms that were taken from this node")                                     \
    X(handoffs_done, "planned hand-offs from this node")                                  \
    X(snapshots_published, "snapshots in a manifest")                                     \
    X(snapshots_failed, "attempts at a snapshot that failed")                             \
    X(restores, "copies rebuilt from a snapshot")                                         \
    X(tails_saved, "tails that went to lost/")                                            \
    X(requests_expired, "requests whose deadline passed")

struct hadb_node_counters {
#define HADB_X(name, text) uint64_t name;
    HADB_NODE_COUNTERS(HADB_X)
#undef HADB_X
};

#define HADB_COUNT(counters, name) HADB_COUNT_BY(counters, name, 1)
#define HADB_COUNT_BY(counters, name, n) \
    ((void)__atomic_fetch_add(&(counters)->name, (uint64_t)(n), __ATOMIC_RELAXED))
#endif
