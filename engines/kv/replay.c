/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a log: find the segments, check that they are one log, hand every record to the engine in order,
 * and decide about the first bad record.
 *
 * Thread: the opener; nothing else runs yet. Memory: one window, at least as big as the biggest record.
 *
 * Happy path: every record of every segment is intact up to the end of the last file. A bad record is the
 * torn end of an interrupted write, and is cut off and reported, if it lies in the last segment and no intact
 * record behind it says that this place was on disk already (a power cut may keep later sectors and lose
 * earlier ones, but not synced ones). Anything else is damage: HADB_ECORRUPT with file and offset, and
 * nothing is changed; so is an end that is full of headers whose records overlap and fail, which no crash leaves and
 * which would take time by the square of its length to look through.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/env.h"
#include "base/error.h"
#include "engines/kv/log_private.h"

#define WINDOW_BYTES (1u << 20)
#define FAILED_TIMES_MAX \
    16u /* what may be checked in vain behind a bad record, in lengths of that rest */

/* A file read front to back through a window. */
struct reader {
    struct hadb__kv_log *log;
    const struct hadb__kv_segment *segment;
    uint64_t size;
    struct hadb_buf window;
    uint64_t window_offset;
    uint64_t failed_bytes; /* of records whose checksum was computed in vain */
};

/* Bytes [offset, offset + len) of the file, which has them. */
static int reader_get(struct reader *reader, uint64_t offset, uint64_t len, const uint8_t **out,
                      struct hadb_error *err)
{
    HADB_ASSERT(offset + len <= reader->size);
    struct hadb_buf *window = &reader->window;
    if (offset < reader->window_offset || offset + len > reader->window_offset + window->len) {
        size_t want = (size_t)HADB_MIN(HADB_MAX(len, WINDOW_BYTES), reader->size - offset);
        hadb_buf_clear(window);
        if (hadb_buf_reserve(window, want) < 0) {
            return hadb_fail_nomem(err);
        }
        size_t got = 0;
        int r = hadb_fs_read_at(&reader->log->env.fs, reader->segment->file, offset, window->data,
                                want, &got, err);
        if (r == 0 && got < want) {
            r = hadb_fail(err, HADB_EIO, "read %zu of %zu bytes: the file shrank", got, want);
        }
        if (r < 0) {
            return r;
        }
        window->len = want;
        reader->window_offset = offset;
    }
    *out = window->data + (offset - reader->window_offset);
    return 0;
}

/* Looks at the record at @offset. 0 with *wrong NULL and the bytes in *out, or *wrong says what is bad. */
static int read_record(struct reader *reader, uint64_t offset, struct hadb__kv_record *record,
                       const uint8_t **out, const char **wrong, struct hadb_error *err)
{
    const uint64_t left = reader->size - offset;
    *out = NULL;
    *wrong = "record header is cut off";
    if (left < HADB__KV_RECORD_HEADER_BYTES) {
        return 0;
    }
    int r = reader_get(reader, offset, HADB__KV_RECORD_HEADER_BYTES, out, err);
    if (r < 0) {
        return r;
    }
    *wrong = hadb__kv_record_header(*out, reader->segment->base + offset, left, record);
    if (*wrong) {
        return 0;
    }
    r = reader_get(reader, offset, hadb__kv_record_bytes(record->len), out, err);
    if (r == 0 && !hadb__kv_record_intact(*out, record, reader->log->seed)) {
        *wrong = "record fails its checksum";
        reader->failed_bytes += hadb__kv_record_bytes(record->len);
    }
    return r;
}

/* What lies behind a bad record: how many intact ones, and below which position all was on disk. */
struct rest {
    uint64_t intact;
    uint64_t synced;
    bool gave_up;
};

static int look_behind(struct reader *reader, uint64_t offset, struct rest *out,
                       struct hadb_error *err)
{
    *out = (struct rest){0};
    uint64_t at = offset + 8;
    const uint64_t failed_max = reader->failed_bytes + FAILED_TIMES_MAX * (reader->size - offset);
    while (!out->gave_up && at < reader->size &&
           reader->size - at >= HADB__KV_RECORD_HEADER_BYTES) {
        struct hadb__kv_record record;
        const uint8_t *bytes;
        const char *wrong;
        int r = read_record(reader, at, &record, &bytes, &wrong, err);
        if (r < 0) {
            return r;
        }
        if (wrong) {
            at += 8;
            out->gave_up = reader->failed_bytes > failed_max;
            continue;
        }
        out->intact++;
        out->synced = HADB_MAX(out->synced, record.synced);
        at += hadb__kv_record_bytes(record.len);
    }
    return 0;
}

static int fail_corrupt(const struct reader *reader, uint64_t offset, const char *wrong,
                        struct hadb_error *err)
{
    char name[HADB__KV_NAME_BYTES];
    hadb__kv_segment_name(reader->segment->number, name);
    return hadb_fail(err, HADB_ECORRUPT,
                     "%.110s/%s at offset %" PRIu64
                     ": %s, and it is not a torn end; " HADB_RESTORE_ADVICE,
                     reader->log->path, name, offset, wrong);
}

/* Adds file, offset and, for damage, the next step to a failure. Returns @r. */
static int fail_at(const struct hadb__kv_log *log, uint64_t number, uint64_t offset, int r,
                   const struct hadb_error *cause, struct hadb_error *err)
{
    char name[HADB__KV_NAME_BYTES];
    hadb__kv_segment_name(number, name);
    hadb_fail(err, r, "%.110s/%s at offset %" PRIu64 ": %.60s%s", log->path, name, offset,
              cause->message, r == HADB_ECORRUPT ? "; " HADB_RESTORE_ADVICE : "");
    if (err) {
        err->sys_errno = cause->sys_errno;
    }
    return r;
}

/* Decides about the bad record at @offset of the last segment: notes the cut, or HADB_ECORRUPT. */
static int judge_end(struct reader *reader, uint64_t offset, const char *wrong,
                     struct hadb_error *err)
{
    struct hadb__kv_log *log = reader->log;
    struct rest rest;
    int r = look_behind(reader, offset, &rest, err);
    if (r < 0) {
        return r;
    }
    if (rest.gave_up || rest.synced > reader->segment->base + offset) {
        return fail_corrupt(reader, offset, wrong, err);
    }
    char name[HADB__KV_NAME_BYTES];
    hadb__kv_segment_name(reader->segment->number, name);
    log->cut_bytes = reader->size - offset;
    int len = snprintf(log->recovery, sizeof(log->recovery),
                       "cut %" PRIu64 " bytes of %s at offset %" PRIu64 ": %s", log->cut_bytes,
                       name, offset, wrong);
    if (rest.intact > 0 && len > 0 && (size_t)len < sizeof(log->recovery)) {
        snprintf(log->recovery + len, sizeof(log->recovery) - (size_t)len,
                 " (%" PRIu64 " unsynced behind it)", rest.intact);
    }
    return 0;
}

/* Hands over the records of one segment. *end is where the intact ones end. */
static int replay_segment(struct reader *reader, bool last, hadb__kv_record_fn each, void *arg,
                          uint64_t *end, struct hadb_error *err)
{
    uint64_t offset = HADB__KV_SEGMENT_HEADER_BYTES;
    while (offset < reader->size) {
        struct hadb__kv_record record;
        const uint8_t *bytes;
        const char *wrong;
        struct hadb_error cause = {0};
        int r = read_record(reader, offset, &record, &bytes, &wrong, &cause);
        if (r == 0 && wrong) {
            r = last ? judge_end(reader, offset, wrong, err)
                     : fail_corrupt(reader, offset, wrong, err);
            *end = offset;
            return r;
        }
        const uint64_t payload_offset = offset + HADB__KV_RECORD_HEADER_BYTES;
        if (r == 0) {
            r = each(arg, reader->segment, &record, payload_offset,
                     hadb_slice(bytes + HADB__KV_RECORD_HEADER_BYTES, record.len), &cause);
        }
        if (r < 0) {
            return fail_at(reader->log, reader->segment->number, offset, r, &cause, err);
        }
        offset += hadb__kv_record_bytes(record.len);
    }
    *end = offset;
    return 0;
}

/* Reads the header and checks that the segment goes on where the one before ended. */
static int check_header(struct hadb__kv_log *log, struct hadb__kv_segment *segment, uint64_t size,
                        uint64_t base, struct hadb_error *err)
{
    uint8_t bytes[HADB__KV_SEGMENT_HEADER_BYTES];
    size_t got = 0;
    if (size < sizeof(bytes)) {
        return hadb_fail(err, HADB_ECORRUPT, "the segment has no header, only %" PRIu64 " bytes",
                         size);
    }
    int r = hadb_fs_read_at(&log->env.fs, segment->file, 0, bytes, sizeof(bytes), &got, err);
    if (r == 0 && got < sizeof(bytes)) {
        r = hadb_fail(err, HADB_EIO, "read %zu of %zu bytes: the file shrank", got, sizeof(bytes));
    }
    struct hadb__kv_segment_header header;
    if (r == 0) {
        r = hadb__kv_segment_header_decode(bytes, &header, err);
    }
    if (r < 0) {
        return r;
    }
    if (log->segments_len == 0) {
        log->db = header.db;
        log->seed = hadb__kv_seed(&header.db);
    }
    if (memcmp(&header.db, &log->db, sizeof(header.db)) != 0) {
        return hadb_fail(err, HADB_ECORRUPT, "the segment belongs to another database");
    }
    if (header.number != segment->number) {
        return hadb_fail(err, HADB_ECORRUPT, "the segment was written as number %" PRIu64,
                         header.number);
    }
    if (header.base != base) {
        return hadb_fail(err, HADB_ECORRUPT,
                         "the segment starts at position %" PRIu64 ", the one before ends at "
                         "%" PRIu64,
                         header.base, base);
    }
    segment->base = base;
    return 0;
}

static int open_segment(struct hadb__kv_log *log, uint64_t number, bool active,
                        struct hadb__kv_segment *out, struct hadb_fs_file **sync_file,
                        struct hadb_error *err)
{
    char name[HADB__KV_NAME_BYTES], path[HADB_PATH_BYTES_MAX];
    hadb__kv_segment_name(number, name);
    *out = (struct hadb__kv_segment){.number = number};
    int r = hadb_path_join(path, log->path, name, err);
    if (r < 0) {
        return r;
    }
    if (active && !log->read_only) {
        return hadb__kv_log_open_active(log, path, &out->file, sync_file, err);
    }
    r = hadb_fs_open(&log->env.fs, path, HADB_FS_READ, &out->file, err);
    return r > 0 ? hadb_fail(err, HADB_EIO, "open %.160s: the file went away", path) : r;
}

/* Opens, checks and replays one segment and adds it to the table. */
static int load_segment(struct hadb__kv_log *log, uint64_t number, bool last,
                        hadb__kv_record_fn each, void *arg, struct hadb_error *err)
{
    struct hadb__kv_segment *segment = hadb_malloc(sizeof(*segment));
    if (!segment) {
        return hadb_fail_nomem(err);
    }
    const struct hadb__kv_segment *before = hadb__kv_log_active(log);
    struct reader reader = {.log = log, .segment = segment};
    struct hadb_error cause = {0};
    int r = open_segment(log, number, last, segment, &log->sync_file, &cause);
    if (r == 0) {
        r = hadb_fs_size(&log->env.fs, segment->file, &reader.size, &cause);
    }
    if (r == 0) {
        r = check_header(log, segment, reader.size, before ? before->base + before->size : 0,
                         &cause);
    }
    if (r == 0 && hadb__kv_log_attach(log, segment) < 0) {
        r = hadb_fail_nomem(&cause);
    }
    if (r < 0) {
        fail_at(log, number, 0, r, &cause, err);
        hadb_fs_close(&log->env.fs, segment->file);
        hadb_free(segment);
        return r;
    }
    r = replay_segment(&reader, last, each, arg, &segment->size, err);
    hadb_buf_deinit(&reader.window);
    return r;
}

/* What lies in the folder. */
struct names {
    struct hadb_buf numbers; /* uint64_t each */
    struct hadb_buf temps;   /* uint64_t each: segments that never got their name */
};

static int gather_name(void *arg, const char *name, bool is_dir)
{
    struct names *names = arg;
    uint8_t be[8];
    size_t len = strlen(name);
    if (is_dir || len < 23 || memcmp(name, "seg-", 4) != 0 || memcmp(name + 20, ".kv", 3) != 0 ||
        !hadb_hex_decode(name + 4, 16, be, 8)) {
        return 0; /* not ours */
    }
    uint64_t number = 0;
    for (size_t i = 0; i < sizeof(be); i++) {
        number = number << 8 | be[i];
    }
    char exact[HADB__KV_NAME_BYTES];
    hadb__kv_segment_name(number, exact);
    if (strncmp(name, exact, 23) != 0) {
        return 0; /* upper case: not ours */
    }
    if (name[23] == '\0') {
        return hadb_buf_append(&names->numbers, &number, sizeof(number));
    }
    if (strcmp(name + 23, ".new") == 0) {
        return hadb_buf_append(&names->temps, &number, sizeof(number));
    }
    return 0;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x > y) - (x < y);
}

static int remove_temps(struct hadb__kv_log *log, const struct hadb_buf *temps,
                        struct hadb_error *err)
{
    const uint64_t *numbers = (const uint64_t *)(const void *)temps->data;
    for (size_t i = 0; i < temps->len / sizeof(*numbers); i++) {
        char name[HADB__KV_NAME_BYTES], path[HADB_PATH_BYTES_MAX];
        hadb__kv_temp_name(numbers[i], name);
        int r = hadb_path_join(path, log->path, name, err);
        if (r == 0) {
            r = hadb_fs_unlink(&log->env.fs, path, err);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int load_segments(struct hadb__kv_log *log, const struct hadb_buf *sorted,
                         hadb__kv_record_fn each, void *arg, struct hadb_error *err)
{
    const uint64_t *numbers = (const uint64_t *)(const void *)sorted->data;
    size_t len = sorted->len / sizeof(*numbers);
    for (size_t i = 0; i < len; i++) {
        if (numbers[i] != i + 1) {
            char name[HADB__KV_NAME_BYTES];
            hadb__kv_segment_name(i + 1, name);
            return hadb_fail(err, HADB_ECORRUPT, "%.150s/%s is missing; " HADB_RESTORE_ADVICE,
                             log->path, name);
        }
        int r = load_segment(log, numbers[i], i + 1 == len, each, arg, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* Cuts what is torn, and makes what was read durable before anybody builds on it. */
static int repair_end(struct hadb__kv_log *log, struct hadb_error *err)
{
    const struct hadb__kv_segment *active = hadb__kv_log_active(log);
    if (log->cut_bytes > 0) {
        hadb_log(&log->env, HADB_LOG_WARN, "kv", NULL, "%s (folder %.120s)", log->recovery,
                 log->path);
    }
    if (log->read_only) {
        return 0;
    }
    int r = 0;
    if (log->cut_bytes > 0) {
        r = hadb_fs_truncate(&log->env.fs, active->file, active->size, err);
    }
    if (r == 0) {
        r = hadb_fs_sync(&log->env.fs, active->file, err);
    }
    return r < 0 ? hadb_wrap(err, r, "repair the end of the log") : 0;
}

static int create_first(struct hadb__kv_log *log, struct hadb_error *err)
{
    if (log->read_only) {
        return hadb_fail(err, HADB_ENODB, "folder %.160s holds no database", log->path);
    }
    hadb_random(&log->env, log->db.b, sizeof(log->db.b));
    log->seed = hadb__kv_seed(&log->db);
    bool named;
    return hadb__kv_log_add(log, 1, 0, &named, err);
}

int hadb__kv_log_replay(struct hadb__kv_log *log, hadb__kv_record_fn each, void *arg,
                        struct hadb_error *err)
{
    struct names names = {0};
    int r = hadb_fs_list(&log->env.fs, log->path, gather_name, &names, err);
    if (r == HADB_ABSENT) {
        r = hadb_fail(err, HADB_ENODB, "there is no folder %.160s", log->path);
    } else if (r == HADB_ENOMEM) {
        r = hadb_fail_nomem(err);
    }
    if (r == 0 && !log->read_only) {
        r = remove_temps(log, &names.temps, err);
    }
    if (r == 0 && names.numbers.len == 0) {
        r = create_first(log, err);
    } else if (r == 0) {
        qsort(names.numbers.data, names.numbers.len / sizeof(uint64_t), sizeof(uint64_t),
              compare_numbers);
        r = load_segments(log, &names.numbers, each, arg, err);
        if (r == 0) {
            r = repair_end(log, err);
        }
        if (r == 0) {
            const struct hadb__kv_segment *active = hadb__kv_log_active(log);
            log->end = log->synced = active->base + active->size;
        }
    }
    hadb_buf_deinit(&names.numbers);
    hadb_buf_deinit(&names.temps);
    return r;
}
