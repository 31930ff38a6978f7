/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 2, 3 and 8 of 8: an engine with the replicator and the executor that are bound to it.
 *
 * Thread: any; blocks. Counting is the loop's.
 * Failure modes: what was opened so far is closed again.
 */
#include "node/node_private.h"

int hadb__box_open(const struct hadb_db *db, const char *path, struct hadb_box **out,
                   struct hadb_error *err)
{
    const struct hadb_env *env = db->node->env;
    struct hadb_box *box = hadb_calloc(1, sizeof *box);
    if (!box) {
        return hadb_fail_nomem(err);
    }
    struct hadb_replicator_options options = {.env = env,
                                              .database = db->name,
                                              .db = db->uuid,
                                              .incarnation = db->node->self.incarnation};
    int r = hadb_engine_open(db->engine_name, path, &db->engine_options, env, &box->engine, err);
    if (r == 0) {
        r = hadb_replicator_add("journal", &box->engine, &options, &box->replicator, err);
    }
    if (r == 0) {
        r = hadb_executor_open("kv", &box->engine, &box->executor, err);
    }
    if (r < 0) {
        hadb__box_close(box);
        return r;
    }
    box->refs = 1;
    *out = box;
    return 0;
}

void hadb__box_close(struct hadb_box *box)
{
    if (!box) {
        return;
    }
    hadb_executor_close(&box->executor);
    hadb_replicator_remove(&box->replicator);
    hadb_engine_close(&box->engine);
    hadb_free(box);
}
