/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long results have been kept, measured by the leader's monotonic clock: wall clocks jump, and differ between
 * the node that made an id and the leader that prunes its result.
 *
 * Owns       a few notes: when a group of writes began, and up to which transaction there were results then.
 * Thread     the one writer of the engine.
 * Invariants within a term transactions only grow, so what a note names is at least as old as the note. A new term
 *            (another leader, or a rewind, in between) begins without notes, and keeps results longer.
 */
#include "replicators/kv_private.h"

/* So many notes reach back further than HADB_REQUEST_AGE_MS_MAX. */
#define NOTE_EVERY_MS (2 * HADB_REQUEST_AGE_MS_MAX / HADB__KV_AGES_LEN)

static void forget_first(struct hadb__kv_ages *ages)
{
    for (unsigned i = 1; i < ages->len; i++) {
        ages->notes[i - 1] = ages->notes[i];
    }
    ages->len--;
}

hadb_txid hadb__kv_ages_note(struct hadb__kv_ages *ages, const struct hadb_execute_context *context,
                             hadb_txid last_txid)
{
    if (context->term != ages->term) {
        *ages = (struct hadb__kv_ages){.term = context->term};
    }
    if (ages->len == 0 || context->now_ms >= ages->notes[ages->len - 1].at_ms + NOTE_EVERY_MS) {
        if (ages->len == HADB__KV_AGES_LEN) {
            forget_first(ages);
        }
        ages->notes[ages->len].at_ms = context->now_ms;
        ages->notes[ages->len++].txid = last_txid;
    }
    hadb_txid kept = 0;
    for (unsigned i = 0; i < ages->len; i++) {
        if (ages->notes[i].at_ms + HADB_REQUEST_AGE_MS_MAX <= context->now_ms) {
            kept = ages->notes[i].txid;
        }
    }
    return kept;
}
