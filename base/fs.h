/* SPDX-License-Identifier: Apache-2.0 */
/* File system: dispatch over struct hadb_fs (zero = host) and the few compound operations that must be
 * done right once: atomic replace, directory sync, whole-file read with a cap. Any thread. */
#ifndef HADB_BASE_FS_H
#define HADB_BASE_FS_H
#include "base/util.h"
#include "hadb/env.h"

#define HADB_PATH_BYTES_MAX 4096u

struct hadb_fs hadb_fs_host(void);

/*
 * Beyond what struct hadb_fs_ops says: open, list, unlink, rmdir and mkdir answer HADB_ABSENT when the path
 * (open with CREATE and mkdir: its folder) does not exist; rename, link and sync_dir fail then. list
 * stops when @each returns anything but 0 and returns that.  The lock belongs to the handle: opening and closing the file elsewhere does not drop it.
 */

int hadb_fs_open(const struct hadb_fs *fs, const char *path, unsigned flags,
                 struct hadb_fs_file **out, struct hadb_error *err);
void hadb_fs_close(const struct hadb_fs *fs, struct hadb_fs_file *file); /* NULL is fine */
int hadb_fs_read_at(const struct hadb_fs *fs, struct hadb_fs_file *file, uint64_t offset,
                    void *data, size_t len, size_t *out_len, struct hadb_error *err);
int hadb_fs_write_at(const struct hadb_fs *fs, struct hadb_fs_file *file, uint64_t offset,
                     const void *data, size_t len, struct hadb_error *err);
int hadb_fs_sync(const struct hadb_fs *fs, struct hadb_fs_file *file, struct hadb_error *err);
int hadb_fs_truncate(const struct hadb_fs *fs, struct hadb_fs_file *file, uint64_t size,
                     struct hadb_error *err);
int hadb_fs_size(const struct hadb_fs *fs, struct hadb_fs_file *file, uint64_t *out,
                 struct hadb_error *err);
int hadb_fs_rename(const struct hadb_fs *fs, const char *from, const char *to,
                   struct hadb_error *err);
int hadb_fs_link(const struct hadb_fs *fs, const char *from, const char *to,
                 struct hadb_error *err); /* HADB_EXISTS */
int hadb_fs_unlink(const struct hadb_fs *fs, const char *path, struct hadb_error *err);
int hadb_fs_mkdir(const struct hadb_fs *fs, const char *path, struct hadb_error *err);
int hadb_fs_rmdir(const struct hadb_fs *fs, const char *path, struct hadb_error *err);
int hadb_fs_sync_dir(const struct hadb_fs *fs, const char *path, struct hadb_error *err);
int hadb_fs_list(const struct hadb_fs *fs, const char *path,
                 int (*each)(void *arg, const char *name, bool is_dir), void *arg,
                 struct hadb_error *err);
int hadb_fs_lock(const struct hadb_fs *fs, struct hadb_fs_file *file, struct hadb_error *err);

bool hadb_fs_can_hold(const struct hadb_fs *fs); /* has stat, hold and release */
/* HADB_ABSENT; HADB_ENOTSUP for a file system that cannot hold. */
int hadb_fs_stat(const struct hadb_fs *fs, const char *path, struct hadb_fs_stat *out,
                 struct hadb_error *err);
bool hadb_fs_same(const struct hadb_fs_stat *a, const struct hadb_fs_stat *b);

/*
 * A folder that is worked in for long: an unmounted disk leaves an empty folder of the same name, and nobody
 * must take that one for it. Through @fs, paths that start with base() stay in the folder that was held;
 * check() says whether its name still leads there. A file system that cannot hold checks nothing.
 */
struct hadb_fs_held {
    const struct hadb_fs *outer; /* borrowed */
    const char *path;            /* borrowed */
    struct hadb_fs fs;
    struct hadb_fs_stat seen;
    bool held;
};
/* 0, or HADB_ABSENT: no such folder (only from a file system that can hold). */
int hadb_fs_hold(const struct hadb_fs *fs, const char *path, struct hadb_fs_held *out,
                 struct hadb_error *err);
void hadb_fs_release(struct hadb_fs_held *held);                      /* zero is fine */
const char *hadb_fs_base(const struct hadb_fs *fs, const char *path); /* "." or @path */
/* 0, or HADB_EIO "@what PATH is not the one that was opened: is its disk mounted?". One stat. */
int hadb_fs_held_check(const struct hadb_fs_held *held, const char *what, struct hadb_error *err);

/* "nfs", "fuse", …: what @path, or the folder above it that exists, lies on; NULL: a file system of this host, or one
 * that is not known to be shared. Static. */
const char *hadb_fs_network(const struct hadb_fs *fs, const char *path);
/* The same for the type that statfs(2) tells. */
const char *hadb_fs_network_type(long type);

/* Creates the folder and its missing parents, syncing each parent. */
int hadb_fs_mkdir_all(const struct hadb_fs *fs, const char *path, struct hadb_error *err);
/* HADB_ABSENT, HADB_ETOOBIG over @bytes_max, else the whole file in @out (replaced). */
int hadb_fs_read_file(const struct hadb_fs *fs, const char *path, size_t bytes_max,
                      struct hadb_buf *out, struct hadb_error *err);
/* Temporary file beside @path, fsync, rename over @path, fsync of the folder. Any number of threads and
 * processes may replace one file at once; one of them wins. A crash may leave a temporary file. */
int hadb_fs_replace_file(const struct hadb_fs *fs, const char *path, struct hadb_slice data,
                         struct hadb_error *err);
/* A name for a temporary file beside @path that nobody else uses; and whether a name is one of those:
 * listings skip them, and an owner of a folder removes old ones when it opens it. */
int hadb_fs_temp_path(char out[HADB_PATH_BYTES_MAX], const char *path, struct hadb_error *err);
bool hadb_fs_is_temp(const char *name);
/* Removes a folder and all below it. HADB_ABSENT if it was not there. */
int hadb_fs_remove_all(const struct hadb_fs *fs, const char *path, struct hadb_error *err);
/* Calls @each for @path, if it is a folder, and for those above it that exist, the nearest first, until it
 * returns anything but 0; returns that. */
int hadb_fs_each_above(const struct hadb_fs *fs, const char *path,
                       int (*each)(void *arg, const struct hadb_fs *fs, const char *folder,
                                   struct hadb_error *err),
                       void *arg, struct hadb_error *err);
/* a + "/" + b into out; HADB_ETOOBIG over HADB_PATH_BYTES_MAX. */
int hadb_path_join(char out[HADB_PATH_BYTES_MAX], const char *a, const char *b,
                   struct hadb_error *err);
#endif
