/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kv engine's log: opening the folder, appending records, rolling segments, fsync, reading back.
 *
 * Threads: see log_private.h. Happy path of an append: begin (room in one buffer), the engine fills in the
 * payload, write (one write_at), the engine commits in memory, publish. Sync makes durable what is published;
 * several callers share one fsync.
 *
 * Invariants: a segment gets its name only with a synced header in it; a segment that is not the last was
 * synced as a whole; end and synced never go back; records carry synced, so that replay can tell a write that a
 * power cut tore from damage to what was safe.
 * Failure modes: no space or no memory: the record is cut off again and the log goes on. Any other failed
 * write, and any failed fsync: poisoned, since the kernel may have dropped what it could not write.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/env.h"
#include "base/error.h"
#include "base/hash.h"
#include "engines/kv/log_private.h"

void hadb__kv_segment_name(uint64_t number, char out[HADB__KV_NAME_BYTES])
{
    snprintf(out, HADB__KV_NAME_BYTES, "seg-%016" PRIx64 ".kv", number);
}

void hadb__kv_temp_name(uint64_t number, char out[HADB__KV_NAME_BYTES])
{
    snprintf(out, HADB__KV_NAME_BYTES, "seg-%016" PRIx64 ".kv.new", number);
}

static int lock_folder(struct hadb__kv_log *log, struct hadb_error *err)
{
    char path[HADB_PATH_BYTES_MAX];
    int r = hadb_fs_mkdir_all(&log->env.fs, log->path, err);
    if (r == 0) {
        r = hadb_path_join(path, log->path, "LOCK", err);
    }
    if (r == 0) {
        r = hadb_fs_open(&log->env.fs, path, HADB_FS_READ | HADB_FS_WRITE | HADB_FS_CREATE,
                         &log->lock, err);
    }
    if (r > 0) {
        return hadb_fail(err, HADB_EIO, "open %.160s: the folder went away", path);
    }
    if (r == 0) {
        r = hadb_fs_lock(&log->env.fs, log->lock, err);
    }
    if (r == HADB_ELOCKED) {
        return hadb_fail(err, HADB_ELOCKED,
                         "database folder %.120s is open elsewhere: stop the process that holds "
                         "it, or choose another folder",
                         log->path);
    }
    return r;
}

int hadb__kv_log_open(const char *path, const struct hadb_engine_options *options,
                      const struct hadb_env *env, struct hadb__kv_log *out, struct hadb_error *err)
{
    *out = (struct hadb__kv_log){.env = *env, .read_only = options->read_only};
    out->segment_bytes_max =
        options->segment_bytes_max ? options->segment_bytes_max : HADB__KV_SEGMENT_BYTES_DEFAULT;
    hadb_mutex_init(&out->mu, HADB__KV_LOG_RANK);
    hadb_cond_init(&out->synced_cond);
    out->last_sync_ms = hadb_now_ms(&out->env);
    out->path = hadb_strdup(path);
    if (!out->path) {
        return hadb_fail_nomem(err);
    }
    return out->read_only ? 0 : lock_folder(out, err);
}

void hadb__kv_log_close(struct hadb__kv_log *log)
{
    for (size_t i = 0; i < log->segments_len; i++) {
        hadb_fs_close(&log->env.fs, log->segments[i]->file);
        hadb_free(log->segments[i]);
    }
    hadb_free(log->segments);
    hadb_fs_close(&log->env.fs, log->sync_file);
    hadb_fs_close(&log->env.fs, log->lock);
    hadb_buf_deinit(&log->scratch);
    hadb_free(log->path);
    hadb_cond_deinit(&log->synced_cond);
    hadb_mutex_deinit(&log->mu);
    *log = (struct hadb__kv_log){0};
}

static int check_poison(const struct hadb__kv_log *log, struct hadb_error *err)
{
    return log->poisoned ? hadb_fail(err, HADB_EPOISONED,
                                     "writing stopped after: %s; open again or restore from "
                                     "storage",
                                     log->poison)
                         : 0;
}

int hadb__kv_log_check(struct hadb__kv_log *log, struct hadb_error *err)
{
    if (log->read_only) {
        return hadb_fail(err, HADB_ENOTSUP, "the database was opened for reading only");
    }
    hadb_mutex_lock(&log->mu);
    int r = check_poison(log, err);
    hadb_mutex_unlock(&log->mu);
    return r;
}

/* Notes the first failure. Returns HADB_EIO with that text: the caller's write may or may not be there. */
static int poison(struct hadb__kv_log *log, const char *what, const struct hadb_error *cause,
                  struct hadb_error *err)
{
    hadb_mutex_lock(&log->mu);
    if (!log->poisoned) {
        log->poisoned = true;
        snprintf(log->poison, sizeof(log->poison), "%s: %.100s", what,
                 cause->code ? cause->message : "failed");
    }
    hadb_mutex_unlock(&log->mu);
    hadb_log(&log->env, HADB_LOG_ERROR, "kv", NULL, "poisoned, %s: %s (%.80s)", what,
             cause->message, log->path);
    int r = hadb_fail(err, HADB_EIO, "%s: %.160s", what, cause->message);
    if (err) {
        err->sys_errno = cause->sys_errno;
        err->retryable = false;
    }
    return r;
}

int hadb__kv_log_attach(struct hadb__kv_log *log, struct hadb__kv_segment *take_segment)
{
    hadb_mutex_lock(&log->mu);
    if (log->segments_len == log->segments_cap) {
        size_t cap = HADB_MAX(log->segments_cap * 2, 4u);
        struct hadb__kv_segment **segments =
            hadb_realloc(log->segments, cap * sizeof(struct hadb__kv_segment *));
        if (!segments) {
            hadb_mutex_unlock(&log->mu);
            return HADB_ENOMEM;
        }
        log->segments = segments;
        log->segments_cap = cap;
    }
    log->segments[log->segments_len] = take_segment;
    log->segments_len++;
    hadb_mutex_unlock(&log->mu);
    return 0;
}

struct hadb__kv_segment *hadb__kv_log_active(struct hadb__kv_log *log)
{
    return log->segments_len ? log->segments[log->segments_len - 1] : NULL;
}

struct hadb__kv_segment *hadb__kv_log_segment(struct hadb__kv_log *log, uint64_t number)
{
    hadb_mutex_lock(&log->mu);
    HADB_ASSERT(log->segments_len > 0 && number >= log->segments[0]->number &&
                number - log->segments[0]->number < log->segments_len);
    struct hadb__kv_segment *segment = log->segments[number - log->segments[0]->number];
    hadb_mutex_unlock(&log->mu);
    return segment;
}

/* Writes the header to a file of another name and gives it its own. */
static int create_file(struct hadb__kv_log *log, const char *temp, const char *path,
                       const uint8_t header[HADB__KV_SEGMENT_HEADER_BYTES], bool *named,
                       struct hadb_error *err)
{
    const struct hadb_fs *fs = &log->env.fs;
    struct hadb_fs_file *file = NULL;
    int r = hadb_fs_open(fs, temp, HADB_FS_WRITE | HADB_FS_CREATE | HADB_FS_TRUNC, &file, err);
    if (r > 0) {
        return hadb_fail(err, HADB_EIO, "create %.160s: the folder went away", temp);
    }
    if (r == 0) {
        r = hadb_fs_write_at(fs, file, 0, header, HADB__KV_SEGMENT_HEADER_BYTES, err);
    }
    if (r == 0) {
        r = hadb_fs_sync(fs, file, err);
    }
    hadb_fs_close(fs, file);
    if (r == 0) {
        r = hadb_fs_rename(fs, temp, path, err);
        *named = r != HADB_ENOSPC && r != HADB_ENOMEM; /* after other failures it may be there */
    }
    if (r < 0) {
        hadb_fs_unlink(fs, temp, NULL);
        return r;
    }
    return hadb_fs_sync_dir(fs, log->path, err);
}

int hadb__kv_log_open_active(struct hadb__kv_log *log, const char *path, struct hadb_fs_file **file,
                             struct hadb_fs_file **sync_file, struct hadb_error *err)
{
    const struct hadb_fs *fs = &log->env.fs;
    int r = hadb_fs_open(fs, path, HADB_FS_READ | HADB_FS_WRITE, file, err);
    if (r == 0) {
        r = hadb_fs_open(fs, path, HADB_FS_READ | HADB_FS_WRITE, sync_file, err);
    }
    if (r != 0) {
        hadb_fs_close(fs, *file);
        *file = NULL;
    }
    return r > 0 ? hadb_fail(err, HADB_EIO, "open %.160s: the file went away", path) : r;
}

int hadb__kv_log_add(struct hadb__kv_log *log, uint64_t number, uint64_t base, bool *named,
                     struct hadb_error *err)
{
    char temp[HADB_PATH_BYTES_MAX], path[HADB_PATH_BYTES_MAX];
    uint8_t header[HADB__KV_SEGMENT_HEADER_BYTES];
    hadb__kv_segment_header_encode(
        &(struct hadb__kv_segment_header){.db = log->db,
                                          .number = number,
                                          .base = base,
                                          .time_unix_ms = hadb_now_unix_ms(&log->env)},
        header);
    *named = false;
    HADB_ASSERT(number > 0 && number < UINT32_MAX);
    struct hadb__kv_segment *segment = hadb_calloc(1, sizeof(*segment));
    struct hadb_fs_file *sync_file = NULL;
    int r = segment ? 0 : hadb_fail_nomem(err);
    char name[HADB__KV_NAME_BYTES];
    if (r == 0) {
        hadb__kv_segment_name(number, name);
        r = hadb_path_join(path, log->path, name, err);
    }
    if (r == 0) {
        hadb__kv_temp_name(number, name);
        r = hadb_path_join(temp, log->path, name, err);
    }
    if (r == 0) {
        *segment = (struct hadb__kv_segment){
            .number = number, .base = base, .size = HADB__KV_SEGMENT_HEADER_BYTES};
        r = create_file(log, temp, path, header, named, err);
    }
    if (r == 0) {
        r = hadb__kv_log_open_active(log, path, &segment->file, &sync_file, err);
    }
    if (r == 0 && (r = hadb__kv_log_attach(log, segment)) < 0) {
        hadb_fail_nomem(err);
        hadb_fs_close(&log->env.fs, segment->file);
        hadb_fs_close(&log->env.fs, sync_file);
    }
    if (r < 0) {
        hadb_free(segment);
        return r;
    }
    hadb_mutex_lock(&log->mu);
    while (log->syncing) {
        hadb_cond_wait(&log->synced_cond, &log->mu);
    }
    struct hadb_fs_file *old = log->sync_file;
    log->sync_file = sync_file;
    log->end = log->synced = base + HADB__KV_SEGMENT_HEADER_BYTES;
    log->bytes_written += HADB__KV_SEGMENT_HEADER_BYTES;
    hadb_mutex_unlock(&log->mu);
    hadb_fs_close(&log->env.fs, old);
    return 0;
}

/* Seals the active segment and starts the next. */
static int roll(struct hadb__kv_log *log, struct hadb_error *err)
{
    int r = hadb__kv_log_sync(log, err);
    if (r < 0) {
        return r;
    }
    const struct hadb__kv_segment *active = hadb__kv_log_active(log);
    struct hadb_error cause = {0};
    bool named = false;
    r = hadb__kv_log_add(log, active->number + 1, active->base + active->size, &named, &cause);
    if (r < 0 && (named || (r != HADB_ENOSPC && r != HADB_ENOMEM))) {
        /* If the next segment is there already, going on in this one would fork the log. */
        return poison(log, "start a new segment", &cause, err);
    }
    if (r < 0 && err) {
        *err = cause;
    }
    return r;
}

int hadb__kv_log_begin(struct hadb__kv_log *log, enum hadb__kv_type type, uint8_t flags,
                       uint64_t payload_len, struct hadb__kv_append *out, struct hadb_error *err)
{
    int r = hadb__kv_log_check(log, err);
    if (r < 0) {
        return r;
    }
    if (payload_len > HADB__KV_PAYLOAD_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "%" PRIu64 " bytes in one write, at most %u",
                         payload_len, HADB__KV_PAYLOAD_BYTES_MAX);
    }
    uint64_t bytes = hadb__kv_record_bytes(payload_len);
    struct hadb__kv_segment *active = hadb__kv_log_active(log);
    if (active->size > HADB__KV_SEGMENT_HEADER_BYTES &&
        active->size + bytes > log->segment_bytes_max) {
        r = roll(log, err);
        if (r < 0) {
            return r;
        }
        active = hadb__kv_log_active(log);
    }
    hadb_buf_clear(&log->scratch);
    if (hadb_buf_reserve(&log->scratch, (size_t)bytes) < 0) {
        return hadb_fail_nomem(err);
    }
    log->scratch.len = (size_t)bytes;
    *out = (struct hadb__kv_append){
        .record = {.type = type,
                   .flags = flags,
                   .len = (uint32_t)payload_len,
                   .position = active->base + active->size},
        .segment = active,
        .payload = log->scratch.data + HADB__KV_RECORD_HEADER_BYTES,
        .payload_offset = active->size + HADB__KV_RECORD_HEADER_BYTES,
    };
    return 0;
}

int hadb__kv_log_take_back(struct hadb__kv_log *log, const struct hadb__kv_append *append, int r,
                           struct hadb_error *err)
{
    struct hadb_error cause = {0};
    const struct hadb__kv_segment *segment = append->segment;
    int undone = hadb_fs_truncate(&log->env.fs, segment->file, segment->size, &cause);
    if (undone == 0) {
        /* Or what failed could be back after a power cut. */
        undone = hadb_fs_sync(&log->env.fs, segment->file, &cause);
    }
    return undone < 0 ? poison(log, "take back a failed write", &cause, err) : r;
}

int hadb__kv_log_write(struct hadb__kv_log *log, const struct hadb__kv_append *append,
                       struct hadb_error *err)
{
    struct hadb__kv_record record = append->record;
    hadb_mutex_lock(&log->mu);
    record.synced = log->synced;
    hadb_mutex_unlock(&log->mu);
    hadb__kv_record_seal(log->scratch.data, &record, log->seed);
    struct hadb_error cause = {0};
    int r = hadb_fs_write_at(&log->env.fs, append->segment->file, append->segment->size,
                             log->scratch.data, log->scratch.len, &cause);
    if (r == 0) {
        return 0;
    }
    if (r != HADB_ENOSPC && r != HADB_ENOMEM) {
        return poison(log, "append to the log", &cause, err);
    }
    hadb_fail(err, r, "append %zu bytes to the log: %.160s", log->scratch.len, cause.message);
    if (err) {
        err->sys_errno = cause.sys_errno;
    }
    return hadb__kv_log_take_back(log, append, r, err);
}

void hadb__kv_log_publish(struct hadb__kv_log *log, const struct hadb__kv_append *append)
{
    uint64_t bytes = hadb__kv_record_bytes(append->record.len);
    HADB_ASSERT(bytes == log->scratch.len && append->segment == hadb__kv_log_active(log));
    hadb_mutex_lock(&log->mu);
    append->segment->size += bytes;
    log->end = append->segment->base + append->segment->size;
    log->bytes_written += bytes;
    hadb_mutex_unlock(&log->mu);
    log->appended++;
    if (log->scratch.cap > HADB__KV_SCRATCH_KEEP_MAX) {
        hadb_buf_deinit(&log->scratch);
    }
}

int hadb__kv_log_sync(struct hadb__kv_log *log, struct hadb_error *err)
{
    hadb_mutex_lock(&log->mu);
    const uint64_t target = log->end;
    while (log->synced < target && !log->poisoned) {
        if (log->syncing) {
            hadb_cond_wait(&log->synced_cond, &log->mu);
            continue;
        }
        log->syncing = true;
        const uint64_t end = log->end;
        struct hadb_fs_file *file = log->sync_file;
        hadb_mutex_unlock(&log->mu);
        struct hadb_error cause = {0};
        int r = hadb_fs_sync(&log->env.fs, file, &cause);
        r = r < 0 ? poison(log, "sync the log", &cause, err) : 0;
        const uint64_t now_ms = hadb_now_ms(&log->env);
        hadb_mutex_lock(&log->mu);
        log->syncing = false;
        log->syncs++;
        log->synced = r < 0 ? log->synced : HADB_MAX(log->synced, end);
        log->last_sync_ms = now_ms;
        hadb_cond_broadcast(&log->synced_cond);
        if (r < 0) {
            hadb_mutex_unlock(&log->mu);
            return r;
        }
    }
    int r = check_poison(log, err);
    hadb_mutex_unlock(&log->mu);
    return r;
}

int hadb__kv_log_read(struct hadb__kv_log *log, uint64_t number, uint64_t offset, size_t len,
                      uint32_t crc, uint8_t *out, struct hadb_error *err)
{
    const struct hadb__kv_segment *segment = hadb__kv_log_segment(log, number);
    char name[HADB__KV_NAME_BYTES];
    hadb__kv_segment_name(number, name);
    size_t got = 0;
    int r = hadb_fs_read_at(&log->env.fs, segment->file, offset, out, len, &got, err);
    if (r < 0) {
        return hadb_wrap(err, r, "read %s at offset %" PRIu64, name, offset);
    }
    if (got < len || hadb_crc32c(0, out, len) != crc) {
        return hadb_fail(
            err, HADB_ECORRUPT,
            "%s at offset %" PRIu64 ": %zu bytes %s (folder %.90s); " HADB_RESTORE_ADVICE, name,
            offset, len, got < len ? "are cut off" : "fail their checksum", log->path);
    }
    return 0;
}
