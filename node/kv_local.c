/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A database that is not replicated: engine and executor behind one lock, no node, no loop, no storage.
 *
 * Thread: any; calls block.
 * Invariants: writes run one at a time; every mode but ASYNC is answered after the fsync.
 * Failure modes: those of the engine; after a failed write it is poisoned and says so.
 */
#include "node/kv_private.h"

#include <stdio.h>

#define LOCAL_TERM 1u
#define MARK_EVERY 256u /* the engine keeps undo information of what lies above its mark */

static int mark(struct hadb_local *local, struct hadb_error *err)
{
    struct hadb_engine_position at;
    hadb_engine_position(&local->box.engine, &at);
    if (at.last_txid == at.mark.txid) {
        return 0;
    }
    struct hadb_pos pos = {.term = LOCAL_TERM, .slot = at.last_txid, .txid = at.last_txid};
    local->unmarked = 0;
    return hadb_engine_mark(&local->box.engine, &pos, err);
}

static int write_once(struct hadb_local *local, struct hadb_req *req, struct hadb_error *err)
{
    struct hadb_execute_context context = {.term = LOCAL_TERM,
                                           .now_unix_ms = hadb_now_unix_ms(local->env),
                                           .now_ms = hadb_now_ms(local->env)};
    hadb_mutex_lock(&local->mu);
    int r =
        hadb_executor_execute(&local->box.executor, &context, &req->request, &req->response, err);
    int marked = 0;
    if (r == 0 && ++local->unmarked >= MARK_EVERY) {
        marked = mark(local, err);
    }
    hadb_mutex_unlock(&local->mu);
    if (marked < 0) {
        return marked;
    }
    if (r >= 0 && req->ack != HADB_ACK_ASYNC) {
        int synced = hadb_engine_sync(&local->box.engine, err);
        r = synced < 0 ? hadb_wrap(err, HADB_EUNKNOWN, "fsync") : r;
    }
    return r;
}

int hadb__local_run(struct hadb_db *db, struct hadb_req *req, struct hadb_error *err)
{
    struct hadb_local *local = db->local;
    struct hadb_error own;
    err = err ? err : &own;
    *err = (struct hadb_error){0};
    int r = req->kind == HADB_REQ_WRITE ? write_once(local, req, err)
                                        : hadb_executor_execute(&local->box.executor, NULL,
                                                                &req->request, &req->response, err);
    req->position = (struct hadb_version){LOCAL_TERM, req->response.state_txid};
    return r;
}

/* A folder with a node.id is a node's: takes its lock, so that no node works in it beside us. */
static int lock_node(void *arg, const struct hadb_fs *fs, const char *folder,
                     struct hadb_error *err)
{
    struct hadb_local *local = arg;
    char id[HADB_PATH_BYTES_MAX], path[HADB_PATH_BYTES_MAX];
    struct hadb_fs_file *file = NULL;
    int r = hadb_path_join(id, folder, "node.id", err);
    r = r ? r : hadb_path_join(path, folder, "lock", err);
    r = r ? r : hadb_fs_open(fs, id, HADB_FS_READ, &file, err);
    hadb_fs_close(fs, file);
    r = r ? r : hadb_fs_open(fs, path, HADB_FS_READ | HADB_FS_WRITE, &local->lock, err);
    if (r) {
        return r == HADB_ABSENT ? 0 : r;
    }
    r = hadb_fs_lock(fs, local->lock, err);
    return r == HADB_ELOCKED ? hadb_fail(err, r,
                                         "%.140s is the data folder of a node that runs: stop the "
                                         "node, or choose another folder",
                                         folder)
           : r < 0           ? r
                             : HADB_END;
}

int hadb_kv_open_local(const char *path, const char *engine, const struct hadb_env *env,
                       struct hadb_db **out, struct hadb_error *err)
{
    if (!out) {
        return hadb_fail_misuse(err, __func__);
    }
    struct hadb_db *db = hadb_calloc(1, sizeof *db);
    struct hadb_local *local = hadb_calloc(1, sizeof *local);
    if (!db || !local) {
        hadb_free(db);
        hadb_free(local);
        return hadb_fail_nomem(err);
    }
    db->local = local;
    local->process = hadb_process_id();
    db->ack = HADB_ACK_LOCAL;
    db->state = HADB_DB_STOPPED;
    snprintf(db->engine_name, sizeof db->engine_name, "%s", engine ? engine : "kv");
    local->env = hadb_env_or_host(env);
    hadb_mutex_init(&local->mu, 0);
    int r = path && path[0] ? hadb_fs_each_above(&local->env->fs, path, lock_node, local, err)
                            : hadb_fail(err, HADB_EINVAL, "a local database needs a folder");
    r = r < 0 ? r : hadb_fs_mkdir_all(&local->env->fs, path, err);
    if (r == 0) {
        r = hadb_engine_open(db->engine_name, path, &db->engine_options, local->env,
                             &local->box.engine, err);
    }
    if (r == 0) {
        r = hadb_executor_open("kv", &local->box.engine, &local->box.executor, err);
    }
    if (r < 0) {
        hadb__local_close(db);
        return r;
    }
    *out = db;
    return 0;
}

void hadb__local_close(struct hadb_db *db)
{
    struct hadb_local *local = db->local;
    if (local->box.executor.ops) {
        mark(local, NULL);
        hadb_engine_sync(&local->box.engine, NULL);
    }
    hadb_executor_close(&local->box.executor);
    hadb_engine_close(&local->box.engine);
    hadb_fs_close(&local->env->fs, local->lock);
    hadb_mutex_deinit(&local->mu);
    hadb_free(local);
    hadb_free(db);
}
