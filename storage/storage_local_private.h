/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the local backend share. */
#ifndef HADB_STORAGE_LOCAL_PRIVATE_H
#define HADB_STORAGE_LOCAL_PRIVATE_H
#include "base/fs.h"
#include "base/thread.h"
#include "hadb/storage.h"

#define LOCAL_KNOWN_FOLDERS_MAX 1024u /* folders that are remembered as durable */

struct hadb__local_folder {
    struct hadb_id id; /* hash of its path, zero = free */
    struct hadb_fs_stat
        pin; /* what had the path when we first wrote there; zero if nobody can tell */
};

struct hadb__local {
    const struct hadb_env *env;  /* const after init */
    const struct hadb_fs *outer; /* const after init; where root is */
    const struct hadb_fs *fs;    /* const after init; of the held root: not before enter() said 0 */
    char *root;                  /* const after init; absolute, no trailing slash */
    const char *base;            /* const after init; root as fs knows it */
    char *temp_dir;              /* const after init; base/.tmp */
    char *lock_dir;              /* const after init; base/.lock */
    struct hadb_mutex mu;
    struct hadb_fs_held held; /* mu, const once entered */
    bool entered;             /* mu; never taken back */
    bool root_durable;        /* mu; we have synced the folders above */
    bool root_seen;           /* mu */
    struct hadb__local_folder known[LOCAL_KNOWN_FOLDERS_MAX]; /* mu */
};

/*
 * Before every use of fs: holds the root once there is one, and says whether its path still leads to it.
 * 0; HADB_ABSENT: no root yet, so no object; HADB_EIO: another folder has the path.
 */
int hadb__local_enter(struct hadb__local *l, struct hadb_error *err);
/* The root and its .tmp and .lock. Only a store that was never there is made. */
int hadb__local_ensure_root(struct hadb__local *l, struct hadb_error *err);
/* Makes the chain of folders down to @folder durable, once, and says what @folder is. */
int hadb__local_ensure_folder(struct hadb__local *l, const char *folder, struct hadb_fs_stat *pin,
                              struct hadb_error *err);
/* After a write, before it is reported: 0 if the path of @folder, from the top, still leads to @pin. */
int hadb__local_confirm(struct hadb__local *l, const char *folder, const struct hadb_fs_stat *pin,
                        struct hadb_error *err);

/* Errors that say that a file cannot be there: no such folder, none of that name, a name too long. */
bool hadb__local_missing(int r, const struct hadb_error *cause);
/* Hands @cause on to @err when @r is a failure; returns @r. */
int hadb__local_give(struct hadb_error *err, const struct hadb_error *cause, int r);
/* HADB_ETIMEDOUT: the change may or may not have reached the disk, so @cause must not look like a no. */
int hadb__local_unknown(struct hadb_error *err, const struct hadb_error *cause, const char *what);
/* Cuts the last part off an absolute path. */
void hadb__local_parent(const char *path, char out[HADB_PATH_BYTES_MAX]);

/* Fsyncs the folder of an object that may not be durable yet; see storage_local.c. */
int hadb__local_settle(const struct hadb__local *l, const char *path, struct hadb_error *err);
/* 0 with file and size, or HADB_ABSENT; *is_folder (may be NULL) says that a folder has that name. */
int hadb__local_open_object(const struct hadb__local *l, const char *path,
                            struct hadb_fs_file **file, uint64_t *size, bool *is_folder,
                            struct hadb_error *err);
/* Bytes of an object, settled: 0 or HADB_ABSENT. */
int hadb__local_read(const struct hadb__local *l, const char *path, uint64_t offset, size_t len,
                     struct hadb_buf *out, struct hadb_error *err);
/* Size and tag of an object, not settled: 0 or HADB_ABSENT. */
int hadb__local_stat(const struct hadb__local *l, const char *path, struct hadb_object_meta *out,
                     struct hadb_error *err);
/* The tag of a body; @tag may be NULL. */
void hadb__local_tag(struct hadb_slice bytes, struct hadb_tag *tag);

/* One page of keys in byte order, read from the folders. Contract as hadb_storage_ops.list. */
int hadb__local_list(const struct hadb__local *l, const struct hadb_call *call, const char *prefix,
                     const char *after, size_t max, struct hadb_object_list *out,
                     struct hadb_error *err);
#endif
