/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File system: dispatch to struct hadb_fs, and the compound operations.
 *
 * Thread: any.
 * Invariants: nobody else calls ops->x; a method answers only what struct hadb_fs_ops allows (asserted
 * here); replace_file never shows a half-written file under @path, not even after a power cut.
 * Failure modes: those of the methods; a failed replace_file leaves the old file and removes its
 * temporary one, unless the process dies in between (hadb_fs_is_temp() tells such left-overs).
 */
#include "base/fs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"

#define REMOVE_DEPTH_MAX 64u
#define ABOVE_LEVELS_MAX 64u
#define SHOWN_PATH_BYTES 60u
#define TEMP_INFIX ".tmp."
#define TEMP_RANDOM_BYTES 8u

static struct hadb_fs fs_of(const struct hadb_fs *fs)
{
    if (!fs || !fs->ops) {
        return hadb_fs_host();
    }
    HADB_ASSERT(fs->ops->abi >= 1);
    return *fs;
}

/* Asserts that a method gave one of its documented results: 0, a failure, or @outcome. */
static int checked(int r, int outcome)
{
    HADB_ASSERT(r <= 0 || r == outcome);
    return r;
}

int hadb_fs_open(const struct hadb_fs *fs, const char *path, unsigned flags,
                 struct hadb_fs_file **out, struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    HADB_ASSERT(flags & (HADB_FS_READ | HADB_FS_WRITE));
    *out = NULL;
    int r = f.ops->open(f.self, path, flags, out, err);
    HADB_ASSERT(r <= 0 || r == HADB_ABSENT || (r == HADB_EXISTS && (flags & HADB_FS_EXCL)));
    HADB_ASSERT((r == 0) == (*out != NULL));
    return r;
}

void hadb_fs_close(const struct hadb_fs *fs, struct hadb_fs_file *file)
{
    struct hadb_fs f = fs_of(fs);
    if (file) {
        f.ops->close(f.self, file);
    }
}

int hadb_fs_read_at(const struct hadb_fs *fs, struct hadb_fs_file *file, uint64_t offset,
                    void *data, size_t len, size_t *out_len, struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    int r = checked(f.ops->read_at(f.self, file, offset, data, len, out_len, err), 0);
    HADB_ASSERT(r < 0 || *out_len <= len);
    return r;
}

int hadb_fs_write_at(const struct hadb_fs *fs, struct hadb_fs_file *file, uint64_t offset,
                     const void *data, size_t len, struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    return checked(f.ops->write_at(f.self, file, offset, data, len, err), 0);
}

int hadb_fs_sync(const struct hadb_fs *fs, struct hadb_fs_file *file, struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    return checked(f.ops->sync(f.self, file, err), 0);
}

int hadb_fs_truncate(const struct hadb_fs *fs, struct hadb_fs_file *file, uint64_t size,
                     struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    return checked(f.ops->truncate(f.self, file, size, err), 0);
}

int hadb_fs_size(const struct hadb_fs *fs, struct hadb_fs_file *file, uint64_t *out,
                 struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    return checked(f.ops->size(f.self, file, out, err), HADB_ABSENT);
}

int hadb_fs_rename(const struct hadb_fs *fs, const char *from, const char *to,
                   struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    return checked(f.ops->rename(f.self, from, to, err), 0);
}

int hadb_fs_link(const struct hadb_fs *fs, const char *from, const char *to, struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    return checked(f.ops->link(f.self, from, to, err), HADB_EXISTS);
}

int hadb_fs_unlink(const struct hadb_fs *fs, const char *path, struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    return checked(f.ops->unlink(f.self, path, err), HADB_ABSENT);
}

int hadb_fs_mkdir(const struct hadb_fs *fs, const char *path, struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    return checked(f.ops->mkdir(f.self, path, err), HADB_ABSENT);
}

int hadb_fs_rmdir(const struct hadb_fs *fs, const char *path, struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    return checked(f.ops->rmdir(f.self, path, err), HADB_ABSENT);
}

int hadb_fs_sync_dir(const struct hadb_fs *fs, const char *path, struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    return checked(f.ops->sync_dir(f.self, path, err), 0);
}

int hadb_fs_list(const struct hadb_fs *fs, const char *path,
                 int (*each)(void *arg, const char *name, bool is_dir), void *arg,
                 struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    return f.ops->list(f.self, path, each, arg, err); /* may be whatever @each returned */
}

int hadb_fs_lock(const struct hadb_fs *fs, struct hadb_fs_file *file, struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    return checked(f.ops->lock(f.self, file, err), 0);
}

int hadb_path_join(char out[HADB_PATH_BYTES_MAX], const char *a, const char *b,
                   struct hadb_error *err)
{
    size_t a_len = strlen(a);
    const char *slash = a_len > 0 && a[a_len - 1] == '/' ? "" : "/";
    int len = snprintf(out, HADB_PATH_BYTES_MAX, "%s%s%s", a, slash, b);
    if (len < 0 || (size_t)len >= HADB_PATH_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "path below %.80s is longer than %u bytes", a,
                         HADB_PATH_BYTES_MAX - 1);
    }
    return 0;
}

/* The folder that holds @path: "a/b" -> "a", "/b" -> "/", "b" -> ".". Trailing slashes do not count. */
static int path_parent(char out[HADB_PATH_BYTES_MAX], const char *path, struct hadb_error *err)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') {
        len--;
    }
    while (len > 0 && path[len - 1] != '/') {
        len--;
    }
    while (len > 1 && path[len - 1] == '/') {
        len--;
    }
    if (len >= HADB_PATH_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "path is longer than %u bytes",
                         HADB_PATH_BYTES_MAX - 1);
    }
    if (len == 0) {
        memcpy(out, ".", 2);
        return 0;
    }
    memcpy(out, path, len);
    out[len] = '\0';
    return 0;
}

int hadb_fs_each_above(const struct hadb_fs *fs, const char *path,
                       int (*each)(void *arg, const struct hadb_fs *fs, const char *folder,
                                   struct hadb_error *err),
                       void *arg, struct hadb_error *err)
{
    char at[HADB_PATH_BYTES_MAX], next[HADB_PATH_BYTES_MAX];
    struct hadb_fs_stat here = {0}, above = {0};
    bool can_stat = hadb_fs_can_hold(fs);
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof at) {
        return hadb_fail(err, len ? HADB_ETOOBIG : HADB_EINVAL, "folder name is empty or too long");
    }
    memcpy(at, path, len + 1);
    int r = 0;
    while (r == 0 && can_stat && hadb_fs_stat(fs, at, &here, NULL) != 0 && strcmp(at, "/") != 0 &&
           strcmp(at, ".") != 0) { /* not there yet */
        r = path_parent(next, at, err);
        memcpy(at, next, strlen(next) + 1);
    }
    for (unsigned level = 0; r == 0 && level < ABOVE_LEVELS_MAX; level++) {
        r = each(arg, fs, at, err);
        if (r == 0) { /* by "..", which a symbolic link does not lead astray */
            r = can_stat ? hadb_path_join(next, at, "..", err) : path_parent(next, at, err);
        }
        bool top = can_stat
                       ? hadb_fs_stat(fs, next, &above, NULL) != 0 || hadb_fs_same(&here, &above)
                       : strcmp(at, next) == 0;
        if (r || top) {
            break;
        }
        memcpy(at, next, strlen(next) + 1);
        here = above;
    }
    return r;
}

const char *hadb_fs_network(const struct hadb_fs *fs, const char *path)
{
    struct hadb_fs f = fs_of(fs);
    return f.ops->abi >= 2 && f.ops->network ? f.ops->network(f.self, path) : NULL;
}

bool hadb_fs_can_hold(const struct hadb_fs *fs)
{
    const struct hadb_fs_ops *ops = fs_of(fs).ops;
    return ops->abi >= 3 && ops->stat && ops->hold && ops->release;
}

int hadb_fs_stat(const struct hadb_fs *fs, const char *path, struct hadb_fs_stat *out,
                 struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    if (!hadb_fs_can_hold(fs)) {
        return hadb_fail(err, HADB_ENOTSUP, "this file system cannot tell what %.100s is", path);
    }
    return checked(f.ops->stat(f.self, path, out, err), HADB_ABSENT);
}

bool hadb_fs_same(const struct hadb_fs_stat *a, const struct hadb_fs_stat *b)
{
    return a->device == b->device && a->inode == b->inode;
}

int hadb_fs_hold(const struct hadb_fs *fs, const char *path, struct hadb_fs_held *out,
                 struct hadb_error *err)
{
    struct hadb_fs f = fs_of(fs);
    struct hadb_fs_held held = {.outer = fs, .path = path, .fs = f};
    if (hadb_fs_can_hold(fs)) {
        int r = checked(f.ops->hold(f.self, path, &held.fs, err), HADB_ABSENT);
        if (r) {
            return r;
        }
        held.held = true;
        r = hadb_fs_stat(&held.fs, ".", &held.seen, err);
        if (r) {
            hadb_fs_release(&held);
            return r;
        }
    }
    *out = held;
    return 0;
}

void hadb_fs_release(struct hadb_fs_held *held)
{
    if (held->held) {
        held->fs.ops->release(held->fs.self);
    }
    *held = (struct hadb_fs_held){0};
}

const char *hadb_fs_base(const struct hadb_fs *fs, const char *path)
{
    return hadb_fs_can_hold(fs) ? "." : path;
}

int hadb_fs_held_check(const struct hadb_fs_held *held, const char *what, struct hadb_error *err)
{
    if (!held->held) {
        return 0;
    }
    struct hadb_fs_stat now = {0};
    int r = hadb_fs_stat(held->outer, held->path, &now, NULL);
    if (r == 0 && hadb_fs_same(&now, &held->seen)) {
        return 0;
    }
    /* Its end is enough: the advice behind it must not be cut off when others put their words in front. */
    size_t len = strlen(held->path);
    bool is_long = len > SHOWN_PATH_BYTES;
    return hadb_fail(err, HADB_EIO, "%s %s%s is not the one that was opened: is its disk mounted?",
                     what, is_long ? "..." : "",
                     held->path + (is_long ? len - SHOWN_PATH_BYTES : 0));
}

/* Creates one folder and makes it durable. A parent that may be entered but not read (mode 0711) cannot
 * be synced by anyone but its owner; that is no reason to refuse a folder that exists below it. */
static int mkdir_one(const struct hadb_fs *fs, const char *path, const char *parent,
                     struct hadb_error *err)
{
    int r = hadb_fs_mkdir(fs, path, err);
    if (r != 0) {
        return r;
    }
    r = hadb_fs_sync_dir(fs, parent, err);
    return r == HADB_EAUTH ? 0 : r;
}

/* Goes up while the parent is missing and creates the highest missing folder of @path. Returns 0
 * with *whole telling whether that was @path itself. */
static int mkdir_highest(const struct hadb_fs *fs, const char *path, bool *whole,
                         struct hadb_error *err)
{
    char parent[HADB_PATH_BYTES_MAX];
    char at[HADB_PATH_BYTES_MAX];
    memcpy(at, path, strlen(path) + 1);
    *whole = true;
    for (;;) {
        int r = path_parent(parent, at, err);
        if (r == 0) {
            r = mkdir_one(fs, at, parent, err);
        }
        if (r != HADB_ABSENT) {
            return r;
        }
        if (strcmp(parent, at) == 0) {
            return hadb_fail(err, HADB_EIO, "create folder %s: no such parent", path);
        }
        memcpy(at, parent, sizeof at);
        *whole = false;
    }
}

int hadb_fs_mkdir_all(const struct hadb_fs *fs, const char *path, struct hadb_error *err)
{
    size_t len = strlen(path);
    if (len == 0 || len >= HADB_PATH_BYTES_MAX) {
        return hadb_fail(err, len ? HADB_ETOOBIG : HADB_EINVAL, "folder name is empty or too long");
    }
    /* Each round creates one level; more rounds than levels mean that someone removes them. */
    for (size_t round = 0; round <= len; round++) {
        bool whole = false;
        int r = mkdir_highest(fs, path, &whole, err);
        if (r < 0 || whole) {
            return r;
        }
    }
    int r = hadb_fail(err, HADB_EIO,
                      "create folder %.140s: the folder above it takes none; choose another place",
                      path);
    if (err) {
        err->retryable = false;
    }
    return r;
}

int hadb_fs_read_file(const struct hadb_fs *fs, const char *path, size_t bytes_max,
                      struct hadb_buf *out, struct hadb_error *err)
{
    struct hadb_fs_file *file = NULL;
    int r = hadb_fs_open(fs, path, HADB_FS_READ, &file, err);
    if (r != 0) {
        return r;
    }
    struct hadb_buf buf = {0};
    uint64_t size = 0;
    size_t got = 0;
    r = hadb_fs_size(fs, file, &size, err);
    if (r == 0 && size > bytes_max) {
        r = hadb_fail(err, HADB_ETOOBIG, "%s has %llu bytes, at most %zu are allowed", path,
                      (unsigned long long)size, bytes_max);
    }
    if (r == 0 && hadb_buf_reserve(&buf, (size_t)size) < 0) {
        r = hadb_fail_nomem(err);
    }
    if (r == 0) {
        r = hadb_fs_read_at(fs, file, 0, buf.data, (size_t)size, &got, err);
        hadb_wrap(err, r, "%s", path);
    }
    hadb_fs_close(fs, file);
    if (r != 0) {
        hadb_buf_deinit(&buf);
        return r;
    }
    buf.len = got;
    hadb_buf_deinit(out);
    *out = buf;
    return 0;
}

bool hadb_fs_is_temp(const char *name)
{
    size_t len = strlen(name);
    size_t tail = sizeof TEMP_INFIX - 1 + 2 * TEMP_RANDOM_BYTES;
    uint8_t random[TEMP_RANDOM_BYTES];
    return len > tail && memcmp(name + len - tail, TEMP_INFIX, sizeof TEMP_INFIX - 1) == 0 &&
           hadb_hex_decode(name + len - 2 * TEMP_RANDOM_BYTES, 2 * TEMP_RANDOM_BYTES, random,
                           sizeof random);
}

int hadb_fs_temp_path(char out[HADB_PATH_BYTES_MAX], const char *path, struct hadb_error *err)
{
    /* Random, not a counter or a process id: two containers may share a folder and all numbers. */
    uint8_t random[TEMP_RANDOM_BYTES];
    char hex[2 * TEMP_RANDOM_BYTES + 1];
    hadb_random(NULL, random, sizeof random);
    hadb_hex_encode(random, sizeof random, hex);
    int len = snprintf(out, HADB_PATH_BYTES_MAX, "%s" TEMP_INFIX "%s", path, hex);
    if (len < 0 || (size_t)len >= HADB_PATH_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "path %.80s is too long", path);
    }
    return 0;
}

static int write_temp(const struct hadb_fs *fs, const char *temp, struct hadb_slice data,
                      struct hadb_error *err)
{
    struct hadb_fs_file *file = NULL;
    int r = hadb_fs_open(fs, temp, HADB_FS_WRITE | HADB_FS_CREATE | HADB_FS_EXCL, &file, err);
    if (r > 0) {
        return hadb_fail(err, HADB_EIO, "create %s: %s", temp,
                         r == HADB_ABSENT ? "no such folder" : "name is taken");
    }
    if (r < 0) {
        return r;
    }
    r = data.len ? hadb_fs_write_at(fs, file, 0, data.data, data.len, err) : 0;
    if (r == 0) {
        r = hadb_fs_sync(fs, file, err);
    }
    hadb_fs_close(fs, file);
    if (r < 0) {
        hadb_fs_unlink(fs, temp, NULL);
    }
    return r;
}

int hadb_fs_replace_file(const struct hadb_fs *fs, const char *path, struct hadb_slice data,
                         struct hadb_error *err)
{
    char temp[HADB_PATH_BYTES_MAX];
    char parent[HADB_PATH_BYTES_MAX];
    int r = hadb_fs_temp_path(temp, path, err);
    if (r == 0) {
        r = path_parent(parent, path, err);
    }
    if (r == 0) {
        r = write_temp(fs, temp, data, err);
    }
    if (r < 0) {
        return r;
    }
    r = hadb_fs_rename(fs, temp, path, err);
    if (r < 0) {
        hadb_fs_unlink(fs, temp, NULL);
        return r;
    }
    return hadb_fs_sync_dir(fs, parent, err);
}

/* Names of one folder, gathered before anything is removed: 'd' or 'f', name, NUL. */
static int gather(void *arg, const char *name, bool is_dir)
{
    struct hadb_buf *names = arg;
    int r = hadb_buf_append(names, is_dir ? "d" : "f", 1);
    return r < 0 ? r : hadb_buf_append(names, name, strlen(name) + 1);
}

static int remove_below(const struct hadb_fs *fs, const char *path, unsigned depth,
                        struct hadb_error *err);

static int remove_entries(const struct hadb_fs *fs, const char *path, struct hadb_slice names,
                          unsigned depth, struct hadb_error *err)
{
    /* On the heap: this function recurses. */
    char *child = hadb_malloc(HADB_PATH_BYTES_MAX);
    if (!child) {
        return hadb_fail_nomem(err);
    }
    const char *name = names.data;
    const char *end = name ? name + names.len : NULL;
    int r = 0;
    while (name < end && r == 0) {
        r = hadb_path_join(child, path, name + 1, err);
        if (r == 0) {
            r = *name == 'd' ? remove_below(fs, child, depth + 1, err)
                             : hadb_fs_unlink(fs, child, err);
        }
        r = r == HADB_ABSENT ? 0 : r; /* someone else removed it first: fine */
        name += strlen(name) + 1;
    }
    hadb_free(child);
    return r;
}

static int remove_below(const struct hadb_fs *fs, const char *path, unsigned depth,
                        struct hadb_error *err)
{
    if (depth > REMOVE_DEPTH_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "remove %.80s: folders nest deeper than %u", path,
                         REMOVE_DEPTH_MAX);
    }
    struct hadb_buf names = {0};
    int r = hadb_fs_list(fs, path, gather, &names, err);
    if (r == HADB_ENOMEM) {
        hadb_fail_nomem(err);
    }
    if (r == 0) {
        r = remove_entries(fs, path, hadb_buf_slice(&names), depth, err);
    }
    hadb_buf_deinit(&names);
    return r == 0 ? hadb_fs_rmdir(fs, path, err) : r;
}

int hadb_fs_remove_all(const struct hadb_fs *fs, const char *path, struct hadb_error *err)
{
    return remove_below(fs, path, 0, err);
}
