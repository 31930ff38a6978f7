/* SPDX-License-Identifier: Apache-2.0 */
/* A storage backend that misbehaves on demand, in front of a "mem:" store. Switches may be set from any thread. */
#ifndef HADB_TESTS_FLAKY_H
#define HADB_TESTS_FLAKY_H

#include "hadb/storage.h"

struct flaky {
    struct hadb_storage inner;
    int lose_replies; /* atomic: so many creates of log entries are done, but answered "unknown" */
    int down;         /* atomic: every request times out, nothing is done */
    int full;         /* atomic: nothing can be written; what is there can be read */
    int corrupt_gets; /* atomic: so many reads of log entries return a flipped bit */
    int racy;         /* atomic: a create that finds something says that it was done */
    int lose_cas;     /* atomic: so many replaces of a manifest are done, but answered "unknown" */
    int hold_replies; /* atomic: so many creates of log entries are done, and answered when it is negative */
    int refuse_snapshots; /* atomic: no object of a snapshot can be created */
    int garble_snapshots; /* atomic: objects of snapshots are read with a flipped bit */
    int refuse;     /* atomic: every request is refused, as with credentials that were revoked */
    int asked_down; /* atomic: counts requests while it is down */
    int held;       /* atomic: how many of them wait now */
    int log_gets;   /* atomic: counts reads of log entries */
};
/* Opens @url behind @flaky, which outlives @out. */
void flaky_open(struct flaky *flaky, const char *url, struct hadb_storage *out);
static inline void flaky_set(int *field, int value)
{
    __atomic_store_n(field, value, __ATOMIC_SEQ_CST);
}
#endif
