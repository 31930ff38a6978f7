/* SPDX-License-Identifier: Apache-2.0 */
/* What the ways in (kv.c, api_*.c, kv_local.c) share. */
#ifndef HADB_NODE_KV_PRIVATE_H
#define HADB_NODE_KV_PRIVATE_H

#include "node/node_private.h"

/* Checks a request (its type, key, value, ops, range are set) and fills in what @options say. */
int hadb__kv_prepare(struct hadb_db *db, const struct hadb_kv_options *options,
                     struct hadb_req *req, struct hadb_error *err);
/* What the caller learns of a finished request. */
void hadb__kv_result(const struct hadb_req *req, struct hadb_kv_result *out);
/* Posts a request and waits for its answer. HADB_ESTATE on the loop and in callbacks. */
int hadb__req_wait(struct hadb_req *req, struct hadb_error *err);

/* node_api.c: 0; HADB_EINVAL for NULL; HADB_ESTATE in a child of the process that opened the handle. Any thread. */
int hadb__node_usable(const struct hadb_node *node, struct hadb_error *err);
int hadb__db_usable(const struct hadb_db *db, struct hadb_error *err);
/* 0, or HADB_ESTATE on a thread that would wait for itself: the node's loop, or its callbacks. */
int hadb__may_wait(const struct hadb_node *node, struct hadb_error *err);

/* kv_local.c */
struct hadb_local {
    int64_t process; /* const */
    const struct hadb_env *env;
    struct hadb_mutex mu; /* the one writer */
    struct hadb_box box;
    struct hadb_fs_file
        *lock;         /* const; of the node whose data folder this lies in, NULL = of none */
    uint64_t unmarked; /* mu: transactions above the engine's mark */
};
int hadb__local_run(struct hadb_db *db, struct hadb_req *req, struct hadb_error *err);
void hadb__local_close(struct hadb_db *db);

static inline const struct hadb_env *hadb__db_env(const struct hadb_db *db)
{
    return db->local ? db->local->env : db->node->env;
}
#endif
