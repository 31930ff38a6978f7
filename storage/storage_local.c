/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns the backend "file:///dir": each object is the file dir/key on this host.
 *
 *   dir/.tmp/TIME-RANDOM   a body on its way; removed at open when older than an hour
 *   dir/.lock/HASH         one lock file per key that was ever replaced
 *
 * Thread: any. The mutex guards the memory of durable folders and is never held over I/O.
 *
 * Create: write and fsync a temporary file, link() it to its place (atomic, fails if taken), fsync the
 * folder, unlink the temporary name. Replace: the same with rename() in place of link(), under the
 * lock of its key. The lock is an OFD lock, which keeps threads of one process apart as well, so that no
 * second, in-process lock with its own wait is needed; it is per key, so that a process that is stopped
 * inside it holds up nobody but the other writers of that key. The tag is the SHA-256 of the content.
 *
 * Invariants
 * - A name in its place always shows a whole, fsynced body.
 * - What a caller is told (0, EXISTS, a body, a tag) a power cut cannot take back. The temporary name is
 *   unlinked only after the folder was fsynced; so a link count above one says "maybe not durable",
 *   and whoever meets such an object fsyncs the folder before answering.
 * - The chain of folders above an object is fsynced by each process once, before its first write there:
 *   a folder that exists may have been made a moment ago by a process that died.
 *
 * Failure modes: a failure before link() or rename() leaves nothing but perhaps a temporary file; one
 * after it is HADB_ETIMEDOUT (state unknown), never a plain failure. A failed fsync of a body is not
 * repeated: the next try writes a new file.
 *
 * An unmounted disk must not become an empty store: it leaves an empty folder of the same name. The root is
 * held open from the first time that it is seen, and every path starts there, so that nothing gets into
 * another folder. Every call first compares what the root's path names with the folder held (HADB_EIO, nothing
 * done). A create or replace compares once more after its fsyncs, from the top down to the object's folder: what
 * is durable where nobody looks is no success (HADB_ETIMEDOUT). Folders inside are remembered as what they were
 * at the first write (up to LOCAL_KNOWN_FOLDERS_MAX of them) and not made a second time. All of it comes
 * right by itself when the path leads to the same folder again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/hash.h"
#include "storage/storage_local_private.h"
#include "storage/storage_private.h"

#define LOCAL_TEMP_AGE_MS_MAX (60 * 60 * 1000)
#define LOCAL_LOCK_TRIES_MAX 20000u /* of 1 to 4 ms, for callers without a deadline */

/* --- reading ------------------------------------------------------------------------------------ */

/* The path of an object, root entered. HADB_ABSENT: no root, no object. */
static int find(struct hadb__local *l, const struct hadb_call *call, const char *key,
                char path[HADB_PATH_BYTES_MAX], struct hadb_error *err)
{
    int r = hadb_call_check(l->env, call, err);
    if (r == 0) {
        r = hadb__local_enter(l, err);
    }
    return r ? r : hadb_path_join(path, l->base, key, err);
}

static int local_get(void *self, const struct hadb_call *call, const char *key,
                     struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    struct hadb__local *l = self;
    char path[HADB_PATH_BYTES_MAX];
    int r = find(l, call, key, path, err);
    if (r == 0) {
        r = hadb__local_read(l, path, 0, HADB_OBJECT_BYTES_MAX, out, err);
    }
    if (r == 0) {
        hadb__local_tag(hadb_buf_slice(out), tag);
    }
    return hadb_wrap(err, r, "%.100s", key);
}

static int local_get_range(void *self, const struct hadb_call *call, const char *key,
                           uint64_t offset, size_t len, struct hadb_buf *out,
                           struct hadb_error *err)
{
    struct hadb__local *l = self;
    char path[HADB_PATH_BYTES_MAX];
    int r = find(l, call, key, path, err);
    r = r ? r : hadb__local_read(l, path, offset, len, out, err);
    return hadb_wrap(err, r, "%.100s", key);
}

static int local_head(void *self, const struct hadb_call *call, const char *key,
                      struct hadb_object_meta *out, struct hadb_error *err)
{
    struct hadb__local *l = self;
    char path[HADB_PATH_BYTES_MAX];
    struct hadb_object_meta meta = {0};
    int r = find(l, call, key, path, err);
    if (r == 0) {
        r = hadb__local_stat(l, path, &meta, err);
    }
    if (r == 0) {
        r = hadb__local_settle(l, path, err);
    }
    if (r == 0) {
        *out = meta;
    }
    return hadb_wrap(err, r, "%.100s", key);
}

/* --- writing ------------------------------------------------------------------------------------ */

static int fill_temp(struct hadb__local *l, const char *temp, struct hadb_slice body,
                     struct hadb_error *err)
{
    struct hadb_fs_file *file = NULL;
    unsigned flags = HADB_FS_WRITE | HADB_FS_CREATE | HADB_FS_EXCL;
    int r = hadb_fs_open(l->fs, temp, flags, &file, err);
    if (r == HADB_ABSENT) {
        r = hadb__local_ensure_root(l, err);
        r = r ? r : hadb_fs_open(l->fs, temp, flags, &file, err);
    }
    if (r) {
        return r < 0 ? r : hadb_fail(err, HADB_EIO, "cannot make temporary file %s", temp);
    }
    if (body.len > 0) {
        r = hadb_fs_write_at(l->fs, file, 0, body.data, body.len, err);
    }
    if (r == 0) {
        r = hadb_fs_sync(l->fs, file, err);
    }
    hadb_fs_close(l->fs, file);
    if (r) {
        hadb_fs_unlink(l->fs, temp, NULL);
    }
    return hadb_wrap(err, r, "write %.100s", temp);
}

/* A whole, fsynced body under a new temporary name. */
static int write_temp(struct hadb__local *l, struct hadb_slice body, char temp[HADB_PATH_BYTES_MAX],
                      struct hadb_error *err)
{
    uint8_t random[8];
    char name[64];
    hadb_random(l->env, random, sizeof(random));
    snprintf(name, sizeof(name), "%016" PRIx64 "-%016" PRIx64, (uint64_t)hadb_now_unix_ms(l->env),
             hadb_get_u64(random));
    int r = hadb_path_join(temp, l->temp_dir, name, err);
    return r ? r : fill_temp(l, temp, body, err);
}

/* Removes a temporary name. A left-over costs space for an hour, so failing is no failure. */
static void drop_temp(struct hadb__local *l, const char *temp)
{
    struct hadb_error cause = {0};
    if (hadb_fs_unlink(l->fs, temp, &cause) < 0) {
        hadb_log(l->env, HADB_LOG_DEBUG, "storage", NULL, "left over: %s", cause.message);
    }
}

/*
 * Did the kernel refuse for certain? Input/output errors of link() and rename() may come after the fact
 * (a network file system that lost a reply).
 */
static bool refused(int r, const struct hadb_error *cause)
{
    return r != HADB_EIO || cause->sys_errno == ENOENT || cause->sys_errno == ENOTDIR ||
           cause->sys_errno == ENAMETOOLONG || cause->sys_errno == EISDIR ||
           cause->sys_errno == EROFS || cause->sys_errno == EMLINK;
}

/* Links a body to its place. *maybe: the failure leaves open whether it was linked. */
static int link_in(struct hadb__local *l, const char *temp, const char *path,
                   struct hadb_fs_stat *pin, bool *maybe, struct hadb_error *cause)
{
    char folder[HADB_PATH_BYTES_MAX];
    hadb__local_parent(path, folder);
    int r = hadb__local_ensure_folder(l, folder, pin, cause);
    if (r) {
        return r;
    }
    r = hadb_fs_link(l->fs, temp, path, cause);
    *maybe = r < 0 && !refused(r, cause);
    return r;
}

/* Something has the name. The caller may build on that, so it must be durable, and an object. */
static int answer_exists(struct hadb__local *l, const char *path, struct hadb_error *err)
{
    struct hadb_fs_file *file = NULL;
    struct hadb_error cause = {0};
    uint64_t size = 0;
    bool is_folder = false;
    int r = hadb__local_open_object(l, path, &file, &size, &is_folder, &cause);
    hadb_fs_close(l->fs, file);
    if (is_folder) {
        return hadb_fail(err, HADB_EINVAL, "the key names a folder of other objects");
    }
    if (r == HADB_ABSENT) {
        return hadb_fail(err, HADB_EUNAVAIL, "object was there and vanished, nothing written");
    }
    if (r == HADB_ECORRUPT) { /* surely not ours */
        return hadb__local_give(err, &cause, r);
    }
    if (r == 0) {
        r = hadb__local_settle(l, path, &cause);
    }
    return r == 0 ? HADB_EXISTS
                  : hadb__local_unknown(err, &cause, "object is there, durable or not");
}

static int create_from(struct hadb__local *l, const struct hadb_call *call, const char *temp,
                       const char *path, struct hadb_error *err)
{
    char folder[HADB_PATH_BYTES_MAX];
    struct hadb_error cause = {0};
    struct hadb_fs_stat pin = {0};
    bool maybe = false;
    int r = hadb__write_check(l->env, call, &cause);
    if (r == 0) {
        r = link_in(l, temp, path, &pin, &maybe, &cause);
    }
    if (maybe) { /* temp stays: it marks the object as perhaps not durable */
        return hadb__local_unknown(err, &cause, "object may be linked");
    }
    if (r) {
        drop_temp(l, temp);
        if (r < 0 && cause.sys_errno == ENAMETOOLONG) {
            return hadb_fail(err, HADB_EINVAL, "no file can have this key: %.180s", cause.message);
        }
        return r == HADB_EXISTS ? answer_exists(l, path, err) : hadb__local_give(err, &cause, r);
    }
    hadb__local_parent(path, folder);
    r = hadb_fs_sync_dir(l->fs, folder, &cause);
    if (r) {
        return hadb__local_unknown(err, &cause, "object is linked, durable or not");
    }
    drop_temp(l, temp);
    r = hadb__local_confirm(l, folder, &pin, &cause);
    return r ? hadb__local_unknown(err, &cause, "object is where nobody looks") : 0;
}

/* Saves the two fsyncs of a create that cannot win. */
static bool is_taken(struct hadb__local *l, const char *path)
{
    struct hadb_fs_file *file = NULL;
    int r = hadb_fs_open(l->fs, path, HADB_FS_READ, &file, NULL);
    hadb_fs_close(l->fs, file);
    return r == 0;
}

static int local_create(void *self, const struct hadb_call *call, const char *key,
                        struct hadb_slice body, struct hadb_tag *tag, struct hadb_error *err)
{
    struct hadb__local *l = self;
    char path[HADB_PATH_BYTES_MAX];
    char temp[HADB_PATH_BYTES_MAX];
    int r = hadb__write_check(l->env, call, err);
    if (r == 0) {
        r = hadb__local_enter(l, err);
        r = r == HADB_ABSENT ? hadb__local_ensure_root(l, err) : r;
    }
    if (r == 0) {
        r = hadb_path_join(path, l->base, key, err);
    }
    if (r == 0 && is_taken(l, path)) {
        return answer_exists(l, path, err);
    }
    if (r == 0) {
        r = write_temp(l, body, temp, err);
    }
    if (r == 0) {
        r = create_from(l, call, temp, path, err);
    }
    if (r == 0) {
        hadb__local_tag(body, tag);
    }
    return hadb_wrap(err, r, "create %.100s", key);
}

/* Takes the lock of @key, waiting for others; it is held until the file is closed. */
static int lock_key(struct hadb__local *l, const struct hadb_call *call, const char *key,
                    struct hadb_fs_file **out, struct hadb_error *err)
{
    char path[HADB_PATH_BYTES_MAX];
    char name[33];
    struct hadb_hash hash;
    hadb_sha256(key, strlen(key), &hash);
    hadb_hex_encode(hash.b, 16, name);
    int r = hadb_path_join(path, l->lock_dir, name, err);
    if (r) {
        return r;
    }
    unsigned flags = HADB_FS_READ | HADB_FS_WRITE | HADB_FS_CREATE;
    r = hadb_fs_open(l->fs, path, flags, out, err);
    if (r == HADB_ABSENT) {
        r = hadb__local_ensure_root(l, err);
        r = r ? r : hadb_fs_open(l->fs, path, flags, out, err);
    }
    if (r) {
        return r < 0 ? r : hadb_fail(err, HADB_EIO, "cannot make lock file %s", path);
    }
    for (unsigned tries = 1;; tries++) {
        r = hadb_fs_lock(l->fs, *out, err);
        if (r != HADB_ELOCKED) {
            break;
        }
        if (tries == LOCAL_LOCK_TRIES_MAX) {
            r = hadb_fail(err, HADB_EBUSY, "lock file %s is held by another writer", path);
            break;
        }
        uint8_t dice;
        hadb_random(l->env, &dice, 1);
        hadb_sleep_ms(1 + dice % 4, call);
        r = hadb__write_check(l->env, call, err);
        if (r) {
            r = hadb_wrap(err, r, "lock file %s is held by another writer", path);
            break;
        }
    }
    if (r) {
        hadb_fs_close(l->fs, *out);
        *out = NULL;
    }
    return r;
}

/* 0 if the object is there with tag @expected, HADB_CAS_LOST if not. */
static int compare(struct hadb__local *l, const char *path, const struct hadb_tag *expected,
                   struct hadb_error *err)
{
    struct hadb_object_meta now = {0};
    int r = hadb__local_stat(l, path, &now, err);
    if (r < 0) {
        return r;
    }
    return r == 0 && strcmp(now.tag.s, expected->s) == 0 ? 0 : HADB_CAS_LOST;
}

/*
 * Renames a body over the object, lock held. A second name of the body stays until the folder is
 * fsynced, so that readers can tell (link count).
 */
static int rename_in(struct hadb__local *l, const char *temp, const char *path, const char *folder,
                     const struct hadb_fs_stat *pin, struct hadb_error *err)
{
    char mark[HADB_PATH_BYTES_MAX];
    struct hadb_error cause = {0};
    int r = snprintf(mark, sizeof(mark), "%s-m", temp) < (int)sizeof(mark)
                ? hadb_fs_link(l->fs, temp, mark, &cause)
                : hadb_fail(&cause, HADB_ETOOBIG, "path of a temporary file is too long");
    if (r) {
        drop_temp(l, temp);
        return r < 0 ? hadb__local_give(err, &cause, r)
                     : hadb_fail(err, HADB_EIO, "%.200s exists", mark);
    }
    r = hadb_fs_rename(l->fs, temp, path, &cause);
    if (r && refused(r, &cause)) {
        drop_temp(l, mark);
        drop_temp(l, temp);
        return hadb__local_give(err, &cause, r);
    }
    if (r == 0) {
        r = hadb_fs_sync_dir(l->fs, folder, &cause);
    }
    if (r) {
        return hadb__local_unknown(err, &cause, "object may be replaced, durable or not");
    }
    drop_temp(l, mark);
    r = hadb__local_confirm(l, folder, pin, &cause);
    return r ? hadb__local_unknown(err, &cause, "object is where nobody looks") : 0;
}

static int replace_locked(struct hadb__local *l, const struct hadb_call *call, const char *path,
                          struct hadb_slice body, const struct hadb_tag *expected,
                          struct hadb_error *err)
{
    char temp[HADB_PATH_BYTES_MAX];
    char folder[HADB_PATH_BYTES_MAX];
    struct hadb_fs_stat pin = {0};
    hadb__local_parent(path, folder);
    int r = compare(l, path, expected, err);
    if (r == 0) {
        r = hadb__local_ensure_folder(l, folder, &pin, err);
    }
    if (r == 0) {
        r = write_temp(l, body, temp, err);
    }
    if (r) {
        return r;
    }
    r = hadb__write_check(l->env, call, err);
    if (r) {
        drop_temp(l, temp);
        return r;
    }
    return rename_in(l, temp, path, folder, &pin, err);
}

static int local_replace(void *self, const struct hadb_call *call, const char *key,
                         struct hadb_slice body, const struct hadb_tag *expected,
                         struct hadb_tag *tag, struct hadb_error *err)
{
    struct hadb__local *l = self;
    char path[HADB_PATH_BYTES_MAX];
    struct hadb_fs_file *lock = NULL;
    int r = hadb__write_check(l->env, call, err);
    if (r == 0) {
        r = hadb__local_enter(l, err);
        r = r == HADB_ABSENT ? HADB_CAS_LOST : r;
    }
    if (r == 0) {
        r = hadb_path_join(path, l->base, key, err);
    }
    if (r == 0) {
        r = compare(l, path, expected, err); /* losers need no lock */
    }
    if (r == 0) {
        r = lock_key(l, call, key, &lock, err);
    }
    if (r == 0) {
        r = replace_locked(l, call, path, body, expected, err);
    }
    hadb_fs_close(l->fs, lock);
    if (r == 0) {
        hadb__local_tag(body, tag);
    }
    return hadb_wrap(err, r, "replace %.100s", key);
}

/* --- maintenance -------------------------------------------------------------------------------- */

static int local_list(void *self, const struct hadb_call *call, const char *prefix,
                      const char *after, size_t max, struct hadb_object_list *out,
                      struct hadb_error *err)
{
    int r = hadb__local_enter(self, err);
    if (r) {
        return r == HADB_ABSENT ? 0 : hadb_wrap(err, r, "list");
    }
    return hadb__local_list(self, call, prefix, after, max, out, err);
}

/* Removes one object: 0, or HADB_ABSENT when there was none. */
static int remove_object(struct hadb__local *l, const char *path, struct hadb_error *err)
{
    struct hadb_error cause = {0};
    int r = hadb_fs_unlink(l->fs, path, &cause);
    if (hadb__local_missing(r, &cause) || (r < 0 && cause.sys_errno == EISDIR)) {
        return HADB_ABSENT;
    }
    return hadb__local_give(err, &cause, r);
}

static int local_delete_many(void *self, const struct hadb_call *call, const char *const *keys,
                             size_t len, struct hadb_error *err)
{
    struct hadb__local *l = self;
    char path[HADB_PATH_BYTES_MAX];
    char folder[HADB_PATH_BYTES_MAX];
    char dirty[HADB_PATH_BYTES_MAX] = ""; /* folder to fsync before moving on to another */
    int r = hadb__local_enter(l, err);
    if (r) {
        return r == HADB_ABSENT ? 0 : hadb_wrap(err, r, "delete");
    }
    for (size_t i = 0; i < len && r == 0; i++) {
        r = hadb__write_check(l->env, call, err);
        if (r == 0) {
            r = hadb_path_join(path, l->base, keys[i], err);
        }
        if (r) {
            break;
        }
        hadb__local_parent(path, folder);
        if (dirty[0] != '\0' && strcmp(dirty, folder) != 0) {
            r = hadb_fs_sync_dir(l->fs, dirty, err);
            dirty[0] = '\0';
        }
        if (r == 0) {
            r = remove_object(l, path, err);
            if (r == 0) {
                memcpy(dirty, folder, strlen(folder) + 1);
            }
            r = r == HADB_ABSENT ? 0 : r;
        }
    }
    if (r == 0 && dirty[0] != '\0') {
        r = hadb_fs_sync_dir(l->fs, dirty, err);
    }
    return hadb_wrap(err, r, "delete");
}

static uint32_t local_caps(void *self)
{
    (void)self;
    return HADB_STORAGE_CAP_REPLACE | HADB_STORAGE_CAP_DURABLE | HADB_STORAGE_CAP_SHARED;
}

/* --- open and close ----------------------------------------------------------------------------- */

static void local_close(void *self)
{
    struct hadb__local *l = self;
    hadb_fs_release(&l->held);
    hadb_free(l->root);
    hadb_free(l->temp_dir);
    hadb_free(l->lock_dir);
    hadb_mutex_deinit(&l->mu);
    hadb_free(l);
}

/* Removes one left-over of a process that died, if its name says that it is old. */
static int sweep_one(void *arg, const char *name, bool is_dir)
{
    struct hadb__local *l = arg;
    uint8_t time[8];
    char path[HADB_PATH_BYTES_MAX];
    if (is_dir || strlen(name) < 33 || name[16] != '-' || !hadb_hex_decode(name, 16, time, 8)) {
        return 0;
    }
    uint64_t made = 0;
    for (size_t i = 0; i < sizeof(time); i++) {
        made = made << 8 | time[i];
    }
    int64_t age = hadb_now_unix_ms(l->env) - (int64_t)made;
    if (age > LOCAL_TEMP_AGE_MS_MAX && hadb_path_join(path, l->temp_dir, name, NULL) == 0) {
        drop_temp(l, path);
    }
    return 0;
}

static int stop_at_once(void *arg, const char *name, bool is_dir)
{
    (void)arg;
    (void)name;
    (void)is_dir;
    return HADB_END;
}

/* Looks at the folder without making it: unreadable and not-a-folder are told now, not at a write. */
static int look(struct hadb__local *l, struct hadb_error *err)
{
    int r = hadb__local_enter(l, err);
    r = r ? r : hadb_fs_list(l->fs, l->base, stop_at_once, NULL, err);
    if (r == HADB_ABSENT) {
        return 0;
    }
    if (r < 0) {
        return r;
    }
    l->root_seen = true;
    r = hadb_fs_list(l->fs, l->temp_dir, sweep_one, l, err);
    return r == HADB_ABSENT ? 0 : r;
}

static const struct hadb_storage_ops local_ops = {
    .abi = HADB_STORAGE_ABI,
    .scheme = "file",
    .get = local_get,
    .get_range = local_get_range,
    .head = local_head,
    .create = local_create,
    .replace = local_replace,
    .list = local_list,
    .delete_many = local_delete_many,
    .caps = local_caps,
    .close = local_close,
};

static char *join_new(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    char *out = hadb_malloc(a_len + b_len + 1);
    if (out) {
        memcpy(out, a, a_len);
        memcpy(out + a_len, b, b_len + 1);
    }
    return out;
}

static struct hadb__local *local_new(const char *path, const struct hadb_env *env)
{
    struct hadb__local *l = hadb_calloc(1, sizeof(*l));
    if (!l) {
        return NULL;
    }
    l->env = env;
    l->outer = &env->fs;
    l->fs = &l->held.fs;
    hadb_mutex_init(&l->mu, 0);
    l->root = join_new(path, "");
    if (l->root) {
        size_t len = strlen(l->root);
        while (len > 1 && l->root[len - 1] == '/') {
            l->root[--len] = '\0';
        }
        l->base = hadb_fs_base(l->outer, l->root);
        l->temp_dir = join_new(l->base, "/.tmp");
        l->lock_dir = join_new(l->base, "/.lock");
    }
    if (!l->root || !l->temp_dir || !l->lock_dir) {
        local_close(l);
        return NULL;
    }
    return l;
}

int hadb__storage_local_open(const struct hadb_url *url, const struct hadb_env *env,
                             struct hadb_storage *out, struct hadb_error *err)
{
    static const char *const known[] = {NULL};
    int r = hadb_url_params_known(url, known, err);
    if (r) {
        return r;
    }
    size_t room = HADB_PATH_BYTES_MAX - HADB_OBJECT_KEY_BYTES_MAX - 64;
    if (url->authority[0] != '\0' || url->path[0] != '/' || url->path[1] == '\0' ||
        strlen(url->path) > room) {
        return hadb_fail(err, HADB_EINVAL,
                         "a file url names an absolute folder of up to %zu bytes: file:///folder",
                         room);
    }
    struct hadb__local *l = local_new(url->path, env);
    if (!l) {
        return hadb_fail_nomem(err);
    }
    r = look(l, err);
    if (r) {
        local_close(l);
        hadb_wrap(err, r, "storage folder %.140s", url->path);
        return hadb_advise(err, r, "the URL names a folder that this user may enter");
    }
    const char *network = hadb_fs_network(l->outer, l->root);
    if (network) {
        hadb_log(
            env, HADB_LOG_WARN, "storage", NULL,
            "storage folder %s lies on %s: its locks may hold for one host only; keep all nodes on "
            "one host, or use a store that is made for several",
            l->root, network);
    }
    *out = (struct hadb_storage){.ops = &local_ops, .self = l};
    return 0;
}
