/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 7 and 8 of 8, without a node: restore to a folder, and verify in memory.
 *
 * Owns       the temporary folder <output>.restoring-<random> while it works.
 * Thread     the caller's; blocks.
 * Invariants the engine stands at the history's position after each entry; @output appears by one rename, when
 *            everything in it is synced.
 * Happy path newest snapshot -> log entries to the tip -> sync -> rename.
 * Failure    the temporary folder goes; nothing else was touched. A start that was collected while reading is
 *            planned again from the newer snapshot.
 */
#include "hadb/restore.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/id.h"
#include "changeset/keys.h"
#include "hadb/executor.h"
#include "hadb/replicator.h"
#include "replicators/history.h"

/* A history that is collected faster than it is read is given up after so many starts. */
#define RESTARTS_MAX 16u
#define PROGRESS_EVERY_MS 200u

struct job {
    const struct hadb_restore_options *options;
    struct hadb_restore_result *result;
    struct hadb__history history;
    struct hadb_engine engine;
    struct hadb_replicator replicator;
    const char *engine_name;        /* "kv" or "memory" */
    char work[HADB_PATH_BYTES_MAX]; /* folder of the engine; "" for memory */
    uint64_t progress_at_ms;
};

static void report(struct job *job, const char *stage)
{
    uint64_t now_ms = hadb_now_ms(job->history.env);
    if (job->options->on_progress == NULL || now_ms < job->progress_at_ms) {
        return;
    }
    job->progress_at_ms = now_ms + PROGRESS_EVERY_MS;
    struct hadb_restore_progress progress = {.stage = stage,
                                             .entries = job->result->entries,
                                             .txid = job->history.pos.txid,
                                             .bytes = job->history.bytes};
    job->options->on_progress(job->options->progress_arg, &progress);
}

static void engine_discard(struct job *job)
{
    hadb_replicator_remove(&job->replicator);
    hadb_engine_close(&job->engine);
    job->replicator = (struct hadb_replicator){0};
    job->engine = (struct hadb_engine){0};
    if (job->work[0] != '\0') {
        hadb_fs_remove_all(&job->history.env->fs, job->work, NULL);
    }
}

static int engine_fresh(struct job *job, struct hadb_error *err)
{
    const struct hadb_env *env = job->history.env;
    const struct hadb_engine_options options = {0};
    engine_discard(job);
    int r = 0;
    if (job->work[0] != '\0') {
        r = hadb_fs_mkdir_all(&env->fs, job->work, err);
    }
    r = r != 0 ? r
               : hadb_engine_open(job->engine_name, job->work, &options, env, &job->engine, err);
    if (r != 0) {
        return r;
    }
    struct hadb_replicator_options bind = {
        .env = env, .database = job->options->database, .db = job->history.db};
    return hadb_replicator_add("journal", &job->engine, &bind, &job->replicator, err);
}

/* The next step when a snapshot is of no use: the newest state before it that does not need it. */
static int around(const struct job *job, const struct hadb_manifest_snapshot *bad, int r,
                  struct hadb_error *err)
{
    const struct hadb_manifest *manifest = &job->history.manifest;
    char advice[96] = "put it back from a copy of the storage";
    uint64_t to = manifest->boundary_slot == 0 ? bad->pos.slot - 1 : 0;
    for (size_t i = 0; i < manifest->snapshots_len; i++) {
        uint64_t slot = manifest->snapshots[i].pos.slot;
        to = slot < bad->pos.slot ? HADB_MAX(to, slot) : to;
    }
    if (to > 0) {
        snprintf(advice, sizeof advice, "put it back from a copy, or hadb restore --to %" PRIu64,
                 to);
    }
    return hadb_advise(err, r, advice);
}

/* Loads the image and stands behind it. */
static int load_snapshot(struct job *job, const struct hadb_manifest_snapshot *snapshot,
                         struct hadb_error *err)
{
    struct hadb_call call = hadb__history_call(&job->history);
    call.deadline_ms =
        0; /* bounded by the number of parts; each request has the backend's own limits */
    struct hadb_snapshot_store store = {
        .storage = job->history.storage, .call = &call, .db = job->history.db};
    if (!hadb_snapshot_name_parse(snapshot->name, &store.slot, &store.nonce)) {
        return hadb_fail(err, HADB_ECORRUPT, "the manifest names a snapshot '%s'", snapshot->name);
    }
    struct hadb_snapshot_ref ref = {.pos = snapshot->pos,
                                    .parts = snapshot->parts,
                                    .bytes = snapshot->bytes,
                                    .last_hash = snapshot->last_hash,
                                    .digest = snapshot->digest};
    struct hadb_snapshot_io io = hadb_snapshot_store_io(&store);
    int r = hadb_replicator_restore(&job->replicator, &ref, &io, err);
    if (r == 0) {
        job->history.pos = snapshot->pos;
        job->history.bytes += snapshot->bytes;
        job->result->snapshots++;
    }
    if (err == NULL || strstr(err->message, snapshot->name) == NULL) {
        hadb_wrap(err, r, "snapshot %s", snapshot->name);
    }
    return r == HADB_ECORRUPT || r == HADB_EGAP ? around(job, snapshot, r, err) : r;
}

static int replay(struct job *job, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_opened_deinit) struct hadb_opened opened = {0};
    for (;;) {
        int r = hadb__history_next(&job->history, &opened, err);
        if (r == HADB_END) {
            return 0;
        }
        if (r != 0) {
            return r;
        }
        bool is_data = opened.entry.kind == HADB_ENTRY_DATA;
        struct hadb_slice body = is_data ? hadb_buf_slice(&opened.payload) : hadb_slice(NULL, 0);
        r = hadb_replicator_apply(&job->replicator, body, &job->history.pos, err);
        HADB_ASSERT(r <= 0); /* a fresh engine has no tail that could diverge */
        if (r != 0) {
            return hadb_wrap(err, r, "slot %" PRIu64, job->history.pos.slot);
        }
        job->result->entries += is_data;
        job->result->seals += !is_data;
        job->result->transactions +=
            is_data ? opened.entry.last_txid - opened.entry.first_txid + 1 : 0;
        report(job, "log");
    }
}

/* The newest one that is not behind the slot that is asked for. */
static const struct hadb_manifest_snapshot *choose_snapshot(const struct job *job)
{
    const struct hadb_manifest *manifest = &job->history.manifest;
    const struct hadb_manifest_snapshot *best = NULL;
    for (size_t i = 0; i < manifest->snapshots_len; i++) {
        const struct hadb_manifest_snapshot *snapshot = &manifest->snapshots[i];
        bool fits = snapshot->pos.slot <= job->history.to_slot;
        if (fits && (best == NULL || snapshot->pos.slot >= best->pos.slot)) {
            best = snapshot;
        }
    }
    return best;
}

/* Slots at or below the boundary may be gone: only the snapshots are left. */
static int collected(const struct job *job, struct hadb_error *err)
{
    uint64_t to = job->history.to_slot;
    const struct hadb_manifest *manifest = &job->history.manifest;
    uint64_t before = 0;
    uint64_t behind = UINT64_MAX;
    for (size_t i = 0; i < manifest->snapshots_len; i++) {
        uint64_t slot = manifest->snapshots[i].pos.slot;
        before = slot <= to ? HADB_MAX(before, slot) : before;
        behind = slot >= to ? HADB_MIN(behind, slot) : behind;
    }
    if (before == 0) {
        return hadb_fail(err, HADB_EINVAL,
                         "slot %" PRIu64 " is collected; the oldest state that is kept is slot "
                         "%" PRIu64,
                         to, behind);
    }
    return hadb_fail(err, HADB_EINVAL,
                     "slot %" PRIu64 " is collected; the nearest that are kept are slots %" PRIu64
                     " and %" PRIu64,
                     to, before, behind);
}

/* Newest snapshot, or the beginning; then the log. HADB_ABSENT: collected meanwhile, start again. */
static int rebuild_once(struct job *job, struct hadb_error *err)
{
    int r = engine_fresh(job, err);
    if (r != 0) {
        return r;
    }
    const struct hadb_manifest_snapshot *snapshot = choose_snapshot(job);
    uint64_t version = job->history.manifest.version;
    job->history.pos = (struct hadb_pos){0};
    job->result->snapshot_slot = 0;
    if (snapshot != NULL) {
        report(job, "snapshot");
        job->result->snapshot_slot = snapshot->pos.slot;
        r = load_snapshot(job, snapshot, err);
    }
    if (r == HADB_EGAP) { /* gone because a newer one replaced it? */
        struct hadb_error ignored;
        if (hadb__history_manifest(&job->history, &ignored) == 0 &&
            job->history.manifest.version != version) {
            return HADB_ABSENT;
        }
    }
    r = r != 0 ? r : replay(job, err);
    bool below = job->history.to_slot < job->history.manifest.boundary_slot;
    if (r == HADB_ABSENT && below) {
        return collected(job, err);
    }
    if (r == 0 && job->options->to_slot_set && job->history.pos.slot < job->history.to_slot) {
        return hadb_fail(err, HADB_EINVAL,
                         "slot %" PRIu64 " lies beyond the end of the log; the last one is "
                         "%" PRIu64,
                         job->history.to_slot, job->history.pos.slot);
    }
    return r;
}

static int rebuild(struct job *job, struct hadb_error *err)
{
    int r = HADB_ABSENT;
    for (unsigned i = 0; i < RESTARTS_MAX && r == HADB_ABSENT; i++) {
        job->result->entries = job->result->seals = job->result->transactions = 0;
        r = rebuild_once(job, err);
    }
    if (r == HADB_ABSENT) {
        r = hadb_fail(err, HADB_EGAP,
                      "slot %" PRIu64 " lies below the boundary, yet no snapshot covers it",
                      job->history.pos.slot + 1);
    }
    return r;
}

static int count_keys(struct job *job, struct hadb_error *err)
{
    static const char space = HADB_SPACE_USER;
    struct hadb_range range = {.prefix = {&space, 1}, .keys_only = true};
    void *view = NULL;
    void *scan = NULL;
    hadb_txid txid;
    int r = hadb_engine_view_open(&job->engine, &view, &txid, err);
    if (r != 0) {
        return r;
    }
    r = hadb_engine_scan_open(&job->engine, view, &range, &scan, err);
    struct hadb_item item;
    while (r == 0 && (r = hadb_engine_scan_next(&job->engine, scan, &item, err)) == 0) {
        job->result->keys++;
    }
    if (scan != NULL) {
        hadb_engine_scan_close(&job->engine, scan);
    }
    r = r == HADB_END
            ? hadb_engine_digest(&job->engine, view, range.prefix, &job->result->digest, err)
            : r;
    hadb_engine_view_close(&job->engine, view);
    return r;
}

static int conclude(struct job *job, struct hadb_error *err)
{
    job->result->uuid = job->history.db;
    job->result->pos = job->history.pos;
    job->result->keys = 0;
    int r = count_keys(job, err);
    job->result->bytes = job->history.bytes;
    return r;
}

static int none(void *arg, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    *(bool *)arg = true;
    return HADB_END;
}

/* Is @folder one that others keep their things in? */
static int in_use(void *arg, const struct hadb_fs *fs, const char *folder, struct hadb_error *err)
{
    static const char *const marks[][2] = {{".tmp", ".lock"}, {"node.id", "lock"}};
    const struct hadb_slice *output = arg;
    for (size_t i = 0; i < HADB_LEN(marks); i++) {
        bool all = true;
        for (size_t j = 0; j < 2; j++) {
            char path[HADB_PATH_BYTES_MAX];
            struct hadb_fs_file *file = NULL;
            all = all && hadb_path_join(path, folder, marks[i][j], NULL) == 0 &&
                  hadb_fs_open(fs, path, HADB_FS_READ, &file, NULL) == 0;
            hadb_fs_close(fs, file);
        }
        if (all) {
            return hadb_fail(
                err, HADB_EINVAL, "output %.140s lies inside %s; choose a folder outside of it",
                (const char *)output->data, i == 0 ? "a store" : "the data folder of a node");
        }
    }
    return 0;
}

/* The output must be new, and nobody else's: a restore never writes over anything. */
static int check_output(const struct hadb_env *env, const char *output, struct hadb_error *err)
{
    if (output == NULL || output[0] == '\0') {
        return hadb_fail(err, HADB_EINVAL, "no output folder is given");
    }
    bool has_entries = false;
    struct hadb_error ignored = {0};
    int r = hadb_fs_list(&env->fs, output, none, &has_entries, &ignored);
    if (has_entries) {
        return hadb_fail(err, HADB_EINVAL, "output %s exists and is not empty; choose a new folder",
                         output);
    }
    struct hadb_fs_file *file = NULL;
    if (r != 0 && hadb_fs_open(&env->fs, output, HADB_FS_READ, &file, NULL) == 0) {
        hadb_fs_close(&env->fs, file);
        return hadb_fail(err, HADB_EINVAL, "output %s exists and is no folder; choose a new one",
                         output);
    }
    struct hadb_slice arg = hadb_slice_str(output);
    return hadb_fs_each_above(&env->fs, output, in_use, &arg, err);
}

static int publish(struct job *job, struct hadb_error *err)
{
    const struct hadb_env *env = job->history.env;
    report(job, "sync");
    int r = hadb_engine_sync(&job->engine, err);
    hadb_replicator_remove(&job->replicator);
    hadb_engine_close(&job->engine);
    job->replicator = (struct hadb_replicator){0};
    job->engine = (struct hadb_engine){0};
    if (r != 0) {
        return r;
    }
    hadb_fs_rmdir(&env->fs, job->options->output, NULL); /* an empty one may be there */
    r = hadb_fs_rename(&env->fs, job->work, job->options->output, err);
    if (r != 0) {
        return r;
    }
    char parent[HADB_PATH_BYTES_MAX];
    snprintf(parent, sizeof parent, "%s/..", job->options->output);
    job->work[0] = '\0'; /* it is the output now */
    return hadb_fs_sync_dir(&env->fs, parent, err);
}

static int check_call(const struct hadb_storage *storage,
                      const struct hadb_restore_options *options, struct hadb_error *err)
{
    if (!storage || !storage->ops || !options || !options->database) {
        return hadb_fail(err, HADB_EINVAL, "an open storage and the name of a database are needed");
    }
    return options->abi == HADB_RESTORE_ABI
               ? 0
               : hadb_fail(err, HADB_EINVAL,
                           "options were not made with HADB_RESTORE_OPTIONS_INIT");
}

int hadb_restore(struct hadb_storage *storage, const struct hadb_restore_options *options,
                 struct hadb_restore_result *result, struct hadb_error *err)
{
    int r = check_call(storage, options, err);
    if (r != 0) {
        return r;
    }
    struct hadb_restore_result found = {0};
    struct job job = {.options = options, .result = &found, .engine_name = "kv"};
    const struct hadb_env *env = hadb_env_or_host(options->env);
    r = check_output(env, options->output, err);
    if (r != 0) {
        return r;
    }
    r = hadb__history_open(&job.history, storage, env, options->database, options->request_ms, err);
    if (options->to_slot_set) {
        job.history.to_slot = options->to_slot;
    }
    if (r == 0) {
        uint32_t random;
        hadb_random(env, &random, sizeof random);
        int len =
            snprintf(job.work, sizeof job.work, "%s.restoring-%08" PRIx32, options->output, random);
        r = (size_t)len >= sizeof job.work ? hadb_fail(err, HADB_ETOOBIG, "output path is too long")
                                           : 0;
    }
    r = r != 0 ? r : rebuild(&job, err);
    r = r != 0 ? r : conclude(&job, err);
    r = r != 0 ? r : publish(&job, err);
    if (r == 0 && result != NULL) {
        *result = found;
    }
    engine_discard(&job);
    hadb__history_deinit(&job.history);
    return r;
}

/* Every snapshot that the manifest names is whole. The last one loaded is the newest one, or nothing. */
static int verify_snapshots(struct job *job, struct hadb_error *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < job->history.manifest.snapshots_len; i++) {
        report(job, "snapshot");
        r = engine_fresh(job, err);
        r = r != 0 ? r : load_snapshot(job, &job->history.manifest.snapshots[i], err);
    }
    return r;
}

int hadb_verify(struct hadb_storage *storage, const struct hadb_restore_options *options,
                struct hadb_restore_result *result, struct hadb_error *err)
{
    int r = check_call(storage, options, err);
    if (r != 0) {
        return r;
    }
    struct hadb_restore_result found = {0};
    struct job job = {.options = options, .result = &found, .engine_name = "memory"};
    r = hadb__history_open(&job.history, storage, options->env, options->database,
                           options->request_ms, err);
    r = r != 0 ? r : hadb__history_seals(&job.history, err);
    r = r != 0 ? r : verify_snapshots(&job, err);
    uint64_t snapshots = found.snapshots;
    r = r != 0 ? r : rebuild(&job, err);
    found.snapshots = snapshots;
    r = r != 0 ? r : conclude(&job, err);
    if (r == 0 && result != NULL) {
        *result = found;
    }
    engine_discard(&job);
    hadb__history_deinit(&job.history);
    return r;
}
