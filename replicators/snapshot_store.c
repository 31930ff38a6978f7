/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8, for snapshots: where their objects lie in a StorageBackend.
 *
 * Thread: any that may block. Invariants: an object of one name has one content; names carry a nonce, so
 *   nobody else writes them. Happy path: one create, one get. Failure modes: those of the storage; a
 *   name that is taken by other bytes (HADB_ECORRUPT). Retrying is left to with_retry and the caller.
 */
#include <inttypes.h>

#include "base/buf.h"
#include "base/error.h"
#include "changeset/changeset.h"
#include "changeset/keys.h"
#include "hadb/replicator.h"

#define BLOB_NUMBERS 0x80000000u

static int object_key(const struct hadb_snapshot_store *store,
                      const struct hadb_snapshot_object *object, char out[HADB_OBJECT_KEY_BYTES],
                      struct hadb_error *err)
{
    if (!store || !object || object->part >= HADB_SNAPSHOT_PARTS_MAX ||
        object->blob >= HADB_BLOB_PARTS_MAX) {
        return hadb_fail(err, HADB_EINVAL, "a snapshot has no such object");
    }
    uint32_t number = object->part;
    if (object->is_blob) {
        number = BLOB_NUMBERS + number * HADB_BLOB_PARTS_MAX + object->blob;
    }
    hadb_key_snapshot_part(&store->db, store->slot, &store->nonce, number, out);
    return 0;
}

static int store_get(void *arg, const struct hadb_snapshot_object *object, struct hadb_buf *out,
                     struct hadb_error *err)
{
    const struct hadb_snapshot_store *store = arg;
    char key[HADB_OBJECT_KEY_BYTES];
    int r = object_key(store, object, key, err);
    r = r < 0 ? r : hadb_storage_get(store->storage, store->call, key, out, NULL, err);
    return r == HADB_ABSENT ? hadb_fail(err, HADB_EGAP, "%s is missing", key) : r;
}

static int store_put(void *arg, const struct hadb_snapshot_object *object, struct hadb_slice bytes,
                     struct hadb_error *err)
{
    const struct hadb_snapshot_store *store = arg;
    char key[HADB_OBJECT_KEY_BYTES];
    int r = object_key(store, object, key, err);
    r = r < 0 ? r : hadb_storage_create(store->storage, store->call, key, bytes, NULL, err);
    if (r != HADB_EXISTS) {
        return r;
    }
    /* An earlier attempt of ours whose reply was lost, or a clone: content decides. */
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf there = {0};
    r = hadb_storage_get(store->storage, store->call, key, &there, NULL, err);
    if (r == HADB_ABSENT || (r == 0 && !hadb_slice_eq(hadb_buf_slice(&there), bytes))) {
        return hadb_fail(err, HADB_ECORRUPT, "object %s holds something else", key);
    }
    return r;
}

struct hadb_snapshot_io hadb_snapshot_store_io(struct hadb_snapshot_store *store)
{
    return (struct hadb_snapshot_io){.put = store_put, .get = store_get, .arg = store};
}
