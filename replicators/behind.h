/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 7 of 8: what lies in the log behind an object that is missing. One listing and a few headers.
 * Any thread; blocks. For nodes that have just started, for restore and verify.
 */
#ifndef HADB_REPLICATORS_BEHIND_H
#define HADB_REPLICATORS_BEHIND_H

#include "changeset/changeset.h"
#include "hadb/storage.h"

struct hadb__behind {
    uint64_t term, slot; /* of the last object that was found; slot 0: there is none */
    enum hadb_entry_kind
        kind; /* if that lies in the same window: SEAL if one was found there; 0 = unknown */
    uint64_t durable_slot; /* … the greatest that the headers there say */
};

/*
 * Lists the log of @db behind @term, @slot. What stands at a lower slot of a later term does not count: that is
 * the stray seal of a node that had not seen the boundary.
 *
 * Returns 0. Errors as hadb_storage_list() and hadb_storage_get_range().
 */
int hadb__behind_find(struct hadb_storage *storage, const struct hadb_call *call,
                      const struct hadb_id *db, uint64_t term, uint64_t slot,
                      struct hadb__behind *out, struct hadb_error *err);
/* Does it prove that @term, @slot was in storage once? If not, a dead leader may have left the hole. */
bool hadb__behind_proves(const struct hadb__behind *behind, uint64_t term, uint64_t slot);
#endif
