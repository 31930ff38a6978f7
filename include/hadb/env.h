/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The world as libhadb sees it: clock, random source, file system, log, metrics and trace.
 * The simulator replaces all of it. Zero-filled members mean "the host's default".
 */
#ifndef HADB_ENV_H
#define HADB_ENV_H

#include "hadb/error.h"

HADB_BEGIN_DECLS

enum hadb_log_level {
    HADB_LOG_ERROR, /* someone must act */
    HADB_LOG_WARN,  /* degraded, recovering by itself */
    HADB_LOG_INFO,  /* role and life-cycle changes */
    HADB_LOG_DEBUG,
    HADB_LOG_TRACE, /* the eight hops */
};

struct hadb_fs_file; /* opaque, owned by the fs that opened it */
struct hadb_fs;

/** What a path names: two paths with equal device and inode name one thing. */
struct hadb_fs_stat {
    uint64_t device, inode;
    uint64_t links; /* names that it has */
};

#define HADB_FS_READ 1u
#define HADB_FS_WRITE 2u
#define HADB_FS_CREATE 4u
#define HADB_FS_EXCL 8u
#define HADB_FS_TRUNC 16u

/**
 * File operations. Every method returns 0, HADB_ABSENT (open, size: no such file), HADB_EXISTS
 * (open with EXCL, link), or a failure; EINTR and short transfers are handled inside. open never waits:
 * what is neither file nor folder (a pipe, a device) is HADB_ECORRUPT.
 * Paths are NUL-terminated. All methods are safe from any thread; one file is used by one thread
 * at a time, except read_at, which may run beside anything.
 */
struct hadb_fs_ops {
    uint32_t abi; /* HADB_FS_ABI */
    int (*open)(void *self, const char *path, unsigned flags, struct hadb_fs_file **out,
                struct hadb_error *err);
    void (*close)(void *self, struct hadb_fs_file *file);
    /* Reads up to len bytes; *out_len < len only at the end of the file. */
    int (*read_at)(void *self, struct hadb_fs_file *file, uint64_t offset, void *data, size_t len,
                   size_t *out_len, struct hadb_error *err);
    int (*write_at)(void *self, struct hadb_fs_file *file, uint64_t offset, const void *data,
                    size_t len, struct hadb_error *err);
    int (*sync)(void *self, struct hadb_fs_file *file, struct hadb_error *err); /* data + size */
    int (*truncate)(void *self, struct hadb_fs_file *file, uint64_t size, struct hadb_error *err);
    int (*size)(void *self, struct hadb_fs_file *file, uint64_t *out, struct hadb_error *err);
    int (*rename)(void *self, const char *from, const char *to, struct hadb_error *err);
    int (*link)(void *self, const char *from, const char *to, struct hadb_error *err);
    int (*unlink)(void *self, const char *path, struct hadb_error *err); /* HADB_ABSENT if gone */
    int (*mkdir)(void *self, const char *path, struct hadb_error *err);  /* 0 also if it exists */
    int (*rmdir)(void *self, const char *path, struct hadb_error *err);
    int (*sync_dir)(void *self, const char *path, struct hadb_error *err);
    /* Calls each(arg, name, is_dir) for every entry but . and .., in no particular order. */
    int (*list)(void *self, const char *path, int (*each)(void *arg, const char *name, bool is_dir),
                void *arg, struct hadb_error *err);
    /* Takes an exclusive lock on an open file until it is closed; HADB_ELOCKED if another has it. */
    int (*lock)(void *self, struct hadb_fs_file *file, struct hadb_error *err);
    /* abi 2 */
    /* The network file system that @path lies on ("nfs", static), NULL = none or unknown. Optional. */
    const char *(*network)(void *self, const char *path);
    /* abi 3: all three or none */
    int (*stat)(void *self, const char *path, struct hadb_fs_stat *out, struct hadb_error *err);
    /* Holds a folder: relative paths of *out start there, whatever its name comes to name. HADB_ABSENT. */
    int (*hold)(void *self, const char *folder, struct hadb_fs *out, struct hadb_error *err);
    void (*release)(void *self); /* self of what hold() gave */
};
#define HADB_FS_ABI 3u

struct hadb_fs {
    const struct hadb_fs_ops *ops; /* NULL = the host's file system */
    void *self;
};

/** One trace event of the eight hops (docs/dataflow.md). */
struct hadb_trace_event {
    unsigned hop;     /* 1..8 */
    const char *what; /* "route", "commit", "capture", "frame", "ship", "create", "pull", "apply" */
    const char *database; /* may be NULL */
    uint64_t term, slot;
    hadb_txid txid;
    uint64_t bytes;
    uint64_t took_us;
};

struct hadb_env {
    /* Milliseconds since boot, suspension included (CLOCK_BOOTTIME). */
    uint64_t (*now_ms)(void *arg);
    /* Nanoseconds of the same clock, for measuring only. */
    uint64_t (*now_ns)(void *arg);
    /* Wall clock; never used for a decision about safety. */
    int64_t (*now_unix_ms)(void *arg);
    void (*random)(void *arg, void *out, size_t len);
    /* @text is one finished line without a line feed. May be called from any thread. */
    void (*log)(void *arg, enum hadb_log_level level, const char *component, const char *database,
                const char *text);
    void (*trace)(void *arg, const struct hadb_trace_event *event); /* NULL = no tracing */
    void *arg;
    struct hadb_fs fs;
    enum hadb_log_level log_level; /* lines above it are not formatted */
};

/**
 * The host's environment: CLOCK_BOOTTIME, getrandom, the real file system, logs to stderr at
 * HADB_LOG_WARN. Copy it and replace members to taste.
 *
 * Returns    a static object that is never freed
 * Errors     none
 * Threads    any thread
 */
HADB_API const struct hadb_env *hadb_env_host(void);

HADB_END_DECLS
#endif
