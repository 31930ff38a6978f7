/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 7 of 8: what lies in the log behind an object that is missing.
 *
 * Owns       nothing; reads keys, and headers until one is proof.
 * Thread     the caller's; blocks on storage.
 * Invariants what is reported was in storage when it was listed. A listing may leave something out: then less
 *            is proven, never anything wrong.
 * Happy path list pages until the end, or until an object that no window explains.
 * Failure    an error of storage is the answer; an object that cannot be read proves nothing.
 */
#include "replicators/behind.h"

#include <stdio.h>

#include "base/buf.h"
#include "base/error.h"
#include "changeset/keys.h"

#define PAGE_KEYS 1000u
#define PAGES_MAX 100000u /* a store that never ends its listing */

static bool is_behind(const struct hadb_key_parts *parts, uint64_t term, uint64_t slot)
{
    return parts->type == HADB_KEY_LOG && parts->term >= term &&
           parts->slot >= slot + (parts->term == term);
}

static bool is_last(const struct hadb_key_parts *parts, const struct hadb__behind *last)
{
    return parts->term > last->term || (parts->term == last->term && parts->slot > last->slot);
}

/* No window of one leader reaches from the missing object to there. */
static bool beyond_window(const struct hadb__behind *behind, uint64_t term, uint64_t slot)
{
    return behind->slot != 0 && (behind->term > term || behind->slot >= slot + HADB_LOG_WINDOW_MAX);
}

static int list(struct hadb_storage *storage, const struct hadb_call *call,
                const struct hadb_id *db, uint64_t term, uint64_t slot, struct hadb__behind *out,
                struct hadb_error *err)
{
    char prefix[HADB_OBJECT_KEY_BYTES];
    char after[HADB_OBJECT_KEY_BYTES];
    hadb_key_prefix_log(db, prefix);
    hadb_key_log(db, term, slot, after);
    bool more = true;
    for (unsigned page = 0; more && page < PAGES_MAX && !beyond_window(out, term, slot); page++) {
        HADB_CLEANUP(hadb_object_list_deinit) struct hadb_object_list keys = {0};
        int r = hadb_storage_list(storage, call, prefix, after, PAGE_KEYS, &keys, err);
        if (r != 0) {
            return hadb_wrap(err, r, "list %s", prefix);
        }
        for (size_t i = 0; i < keys.len; i++) {
            struct hadb_key_parts parts;
            if (hadb_key_parse(keys.items[i].key, &parts) && is_behind(&parts, term, slot) &&
                is_last(&parts, out)) {
                out->term = parts.term;
                out->slot = parts.slot;
            }
        }
        more = keys.truncated && keys.len > 0;
        if (more) {
            snprintf(after, sizeof after, "%s", keys.items[keys.len - 1].key);
        }
    }
    return 0;
}

/* What one object in the window of the missing one says; one that cannot be read says nothing. */
static int look(struct hadb_storage *storage, const struct hadb_call *call,
                const struct hadb_id *db, uint64_t term, uint64_t slot, struct hadb__behind *out,
                struct hadb_error *err)
{
    char key[HADB_OBJECT_KEY_BYTES];
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf header = {0};
    struct hadb_entry entry;
    hadb_key_log(db, term, slot, key);
    int r = hadb_storage_get_range(storage, call, key, 0, HADB_ENTRY_HEADER_BYTES, &header, err);
    if (r == 0 && hadb_entry_peek(hadb_buf_slice(&header), &entry, NULL, NULL) == 0) {
        out->kind = entry.kind;
        out->durable_slot = HADB_MAX(out->durable_slot, entry.durable_slot);
    }
    return r < 0 ? hadb_wrap(err, r, "%s", key) : 0;
}

int hadb__behind_find(struct hadb_storage *storage, const struct hadb_call *call,
                      const struct hadb_id *db, uint64_t term, uint64_t slot,
                      struct hadb__behind *out, struct hadb_error *err)
{
    *out = (struct hadb__behind){0};
    int r = list(storage, call, db, term, slot, out, err);
    if (r != 0 || out->slot == 0 || beyond_window(out, term, slot)) {
        return r;
    }
    for (uint64_t at = out->slot; r == 0 && at > slot && out->kind != HADB_ENTRY_SEAL; at--) {
        r = look(storage, call, db, term, at, out, err);
        if (hadb__behind_proves(out, term, slot)) {
            break;
        }
    }
    return r;
}

bool hadb__behind_proves(const struct hadb__behind *behind, uint64_t term, uint64_t slot)
{
    if (behind->slot < slot) {
        return false;
    }
    return beyond_window(behind, term, slot) || behind->kind == HADB_ENTRY_SEAL ||
           (behind->kind == HADB_ENTRY_DATA && behind->durable_slot >= slot);
}
