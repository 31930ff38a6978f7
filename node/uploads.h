/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of one snapshot on their way to storage, several at a time: on the thread that makes the snapshot, and on as
 * many workers as are free. Each is put, read back and compared. One thread uses it; the workers help.
 */
#ifndef HADB_NODE_UPLOADS_H
#define HADB_NODE_UPLOADS_H
#include "hadb/replicator.h"
#include "node/pool.h"

#define HADB_SNAPSHOT_PUTS_MAX 3u /* objects of a snapshot under way; one on its own thread */

struct hadb_uploads;

/* @store outlives it up to end. NULL: out of memory. */
struct hadb_uploads *hadb_uploads_begin(struct hadb_pool *pool,
                                        const struct hadb_snapshot_io *store);
/* As put_checked and finish of struct hadb_snapshot_io; @arg is the struct hadb_uploads. */
int hadb_uploads_put(void *arg, const struct hadb_snapshot_object *object, struct hadb_slice bytes,
                     struct hadb_error *err);
int hadb_uploads_finish(void *arg, struct hadb_error *err);
/* Has storage failed, or given back something else? */
bool hadb_uploads_failed(struct hadb_uploads *uploads);
/* Waits for what is under way. NULL is fine. */
void hadb_uploads_end(struct hadb_uploads *uploads);
#endif
