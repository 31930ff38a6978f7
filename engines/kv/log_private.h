/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kv engine's log: segments on disk, appending, syncing, reading back.
 *
 * Threads: begin, write, publish, take_back and roll belong to the one writer; sync, read and the counters
 * are for any thread. mu guards the fields marked so and is never held over I/O. A file is written through
 * one handle by the writer and synced through another, because a handle serves one thread at a time.
 */
#ifndef HADB_ENGINES_KV_LOG_PRIVATE_H
#define HADB_ENGINES_KV_LOG_PRIVATE_H
#include "base/fs.h"
#include "base/thread.h"
#include "engines/index/index_private.h"
#include "engines/kv/format_private.h"

#define HADB__KV_LOG_RANK 810u /* above the state's lock */
#define HADB__KV_SEGMENT_BYTES_DEFAULT (64u << 20)
#define HADB__KV_NAME_BYTES 32u               /* "seg-" 16 ".kv.new" NUL */
#define HADB__KV_SCRATCH_KEEP_MAX (32u << 10) /* a bigger buffer is given back after use */

/* Where a value lies: the lead of the kv engine's cells. */
struct hadb__kv_ref {
    uint64_t offset; /* in the file */
    uint32_t segment;
    uint32_t crc; /* CRC-32C of the value, seed 0 */
};

struct hadb__kv_segment {
    uint64_t number;
    uint64_t base;             /* position of byte 0 */
    uint64_t size;             /* mu */
    struct hadb_fs_file *file; /* writer; read_at: any */
    uint64_t live_records;     /* writer: keys whose newest version lies here, for compaction */
    uint64_t live_bytes;       /* writer: their keys and values */
};

struct hadb__kv_log {
    struct hadb_env env; /* const after open */
    char *path;          /* const after open: the folder */
    struct hadb_id db;   /* const after open */
    uint32_t seed;       /* const after open */
    bool read_only;      /* const after open */
    uint64_t segment_bytes_max;
    struct hadb_fs_file *lock;

    struct hadb_mutex mu;
    struct hadb_cond synced_cond;
    struct hadb__kv_segment **segments; /* mu; the last one is active; never freed before close */
    size_t segments_len, segments_cap;  /* mu */
    struct hadb_fs_file *sync_file; /* mu: second handle of the active one; used while syncing */
    uint64_t end;                   /* mu: position behind the last published record */
    uint64_t synced;                /* mu: all below is on disk */
    uint64_t last_sync_ms;          /* mu */
    bool syncing;                   /* mu: one thread is in fsync */
    bool poisoned;                  /* mu: a write or fsync failed */
    char poison[160];               /* mu: which one */
    uint64_t syncs, bytes_written;  /* mu */

    struct hadb_buf scratch; /* writer: the record being built */
    uint64_t appended;       /* writer: records since open */
    uint64_t cut_bytes;      /* const after open; 0 = the end was clean */
    char recovery[128];      /* const after open */
};

void hadb__kv_segment_name(uint64_t number, char out[HADB__KV_NAME_BYTES]);
void hadb__kv_temp_name(uint64_t number,
                        char out[HADB__KV_NAME_BYTES]); /* until its header is safe */

/* HADB_ENOTSUP when read-only, HADB_EPOISONED after a failed write. */
int hadb__kv_log_check(struct hadb__kv_log *log, struct hadb_error *err);
/* Creates segment @number with byte 0 at @base, durably, and makes it the active one. On failure nothing
 * was added; *@named tells whether the file may exist under its final name. */
int hadb__kv_log_add(struct hadb__kv_log *log, uint64_t number, uint64_t base, bool *named,
                     struct hadb_error *err);
/* Opens the two handles of the active segment. */
int hadb__kv_log_open_active(struct hadb__kv_log *log, const char *path, struct hadb_fs_file **file,
                             struct hadb_fs_file **sync_file, struct hadb_error *err);
/* Adds an opened segment to the table; takes it on success. HADB_ENOMEM. */
int hadb__kv_log_attach(struct hadb__kv_log *log, struct hadb__kv_segment *take_segment);
struct hadb__kv_segment *
hadb__kv_log_active(struct hadb__kv_log *log); /* NULL when there is none */
struct hadb__kv_segment *hadb__kv_log_segment(struct hadb__kv_log *log, uint64_t number);

/* A record that is being appended. */
struct hadb__kv_append {
    struct hadb__kv_record record;
    struct hadb__kv_segment *segment;
    uint8_t *payload;        /* in the log's scratch; valid until the next begin */
    uint64_t payload_offset; /* in the segment's file */
};
/* Rolls if need be, and makes room to fill in the payload. Until write nothing has happened. */
int hadb__kv_log_begin(struct hadb__kv_log *log, enum hadb__kv_type type, uint8_t flags,
                       uint64_t payload_len, struct hadb__kv_append *out, struct hadb_error *err);
/* Writes it. HADB_ENOSPC and HADB_ENOMEM: taken back, the log goes on. HADB_EIO: poisoned. */
int hadb__kv_log_write(struct hadb__kv_log *log, const struct hadb__kv_append *append,
                       struct hadb_error *err);
/* Makes it part of the log: from here on sync covers it. */
void hadb__kv_log_publish(struct hadb__kv_log *log, const struct hadb__kv_append *append);
/* Takes a written record back; @r is the failure that led here. Returns @r, or HADB_EIO and poisons. */
int hadb__kv_log_take_back(struct hadb__kv_log *log, const struct hadb__kv_append *append, int r,
                           struct hadb_error *err);
/* Makes all that is published durable; joins an fsync that is under way. */
int hadb__kv_log_sync(struct hadb__kv_log *log, struct hadb_error *err);

/* Reads @len bytes at @offset of segment @number to @out and checks them. HADB_ECORRUPT names the place. */
int hadb__kv_log_read(struct hadb__kv_log *log, uint64_t number, uint64_t offset, size_t len,
                      uint32_t crc, uint8_t *out, struct hadb_error *err);

/* Finds the segments, opens them, cuts a torn end and calls @each for every record in order. */
typedef int (*hadb__kv_record_fn)(void *arg, const struct hadb__kv_segment *segment,
                                  const struct hadb__kv_record *record, uint64_t payload_offset,
                                  struct hadb_slice payload, struct hadb_error *err);
int hadb__kv_log_replay(struct hadb__kv_log *log, hadb__kv_record_fn each, void *arg,
                        struct hadb_error *err);

/* Opens folder @path with its lock; no segment yet. */
int hadb__kv_log_open(const char *path, const struct hadb_engine_options *options,
                      const struct hadb_env *env, struct hadb__kv_log *out, struct hadb_error *err);
void hadb__kv_log_close(struct hadb__kv_log *log); /* accepts what a failed open left */

#endif
