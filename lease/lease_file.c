/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the lease store "file:///dir": each record is the file dir/key on this host (bytes: lease/record.h).
 *
 *   dir/.tmp/TIME-RANDOM   a record on its way; removed at open when older than an hour
 *   dir/.lock/HASH         one lock file per key
 *
 * The tag is version and nonce, so that equal records never have equal tags.
 *
 * Write: take the lock of the key, read, compare the tag, write and fsync a temporary file, rename().
 * The lock is an OFD lock (which keeps threads of one process apart as well) and per key, so that a process
 * that is stopped inside it holds up only the other writers of that key; readers take no lock.
 * The folder is not fsynced: after a power cut an older record may be back, which for a hint costs time and
 * nothing else. Watch reads the file again every FILE_WATCH_EVERY_MS.
 *
 * The root is held open and every path starts there; a call while the root's path names another folder (an
 * unmounted disk) is HADB_EIO and does nothing.
 *
 * Thread: any; constant after open.
 * Failure modes: HADB_ECORRUPT names a damaged file and what to do; a rename() whose outcome is open is
 * HADB_ETIMEDOUT; every other failure of a write left the record as it was.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/hash.h"
#include "lease/lease_private.h"
#include "lease/record.h"

#define FILE_WATCH_EVERY_MS 20u
#define FILE_TEMP_AGE_MS_MAX (60 * 60 * 1000)
#define FILE_LOCK_TRIES_MAX 20000u /* of 1 to 4 ms, for callers without a deadline */

struct file_leases {
    const struct hadb_env *env; /* const after init, like all below */
    const struct hadb_fs *fs;   /* of the held root */
    struct hadb_fs_held held;
    char *root;
    const char *base; /* root as fs knows it */
    char *temp_dir;
    char *lock_dir;
};

static bool is_missing(int r, const struct hadb_error *cause)
{
    return r == HADB_ABSENT ||
           (r < 0 && (cause->sys_errno == ENOENT || cause->sys_errno == ENOTDIR));
}

/* The record at @path: 0 or HADB_ABSENT. */
static int load(struct file_leases *l, const char *path, struct hadb__lease_record *out,
                struct hadb_error *err)
{
    struct hadb_error cause = {0};
    int r = hadb_fs_read_file(l->fs, path, HADB_LEASE_HEADER_BYTES + HADB_LEASE_RECORD_BYTES_MAX,
                              &out->bytes, &cause);
    if (is_missing(r, &cause)) {
        return HADB_ABSENT;
    }
    if (r == HADB_ETOOBIG || (r == 0 && !hadb__lease_record_decode(out))) {
        return hadb_fail(err, HADB_ECORRUPT,
                         "lease file %.100s%.80s is damaged; remove it, its node writes a new one",
                         l->root, path + strlen(l->base));
    }
    if (r < 0 && err) {
        *err = cause;
    }
    return r;
}

static int check_root(const struct file_leases *l, struct hadb_error *err)
{
    return hadb_fs_held_check(&l->held, "lease folder", err);
}

static int file_read(void *self, const struct hadb_call *call, const char *key,
                     struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    struct file_leases *l = self;
    struct hadb__lease_record record = {0};
    char path[HADB_PATH_BYTES_MAX];
    int r = hadb_call_check(l->env, call, err);
    r = r ? r : check_root(l, err);
    if (r == 0) {
        r = hadb_path_join(path, l->base, key, err);
    }
    if (r == 0) {
        r = load(l, path, &record, err);
    }
    if (r == 0) {
        hadb__lease_record_tag(record.version, record.nonce, tag);
        hadb__lease_record_take(&record, out);
    }
    hadb_buf_deinit(&record.bytes);
    return r;
}

/* The folder of the store and its .tmp and .lock, made at the first write. */
static int ensure_root(struct file_leases *l, struct hadb_error *err)
{
    int r = hadb_fs_mkdir_all(l->fs, l->temp_dir, err);
    return r ? r : hadb_fs_mkdir_all(l->fs, l->lock_dir, err);
}

/* Makes the folder and holds it: from now on another one of that name is not taken for it. */
static int hold_root(struct file_leases *l, const struct hadb_env *env, struct hadb_error *err)
{
    int r = hadb_fs_mkdir_all(&env->fs, l->root, err);
    r = r ? r : hadb_fs_hold(&env->fs, l->root, &l->held, err);
    return r > 0 ? hadb_fail(err, HADB_EIO, "lease folder %.140s went away", l->root) : r;
}

static int lock_open(struct file_leases *l, const char *key, struct hadb_fs_file **out,
                     struct hadb_error *err)
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
        r = ensure_root(l, err);
        r = r ? r : hadb_fs_open(l->fs, path, flags, out, err);
    }
    return r > 0 ? hadb_fail(err, HADB_EIO, "cannot make lock file %s", path) : r;
}

/* Takes the lock of @key, waiting for others; it is held until the file is closed. */
static int lock_key(struct file_leases *l, const struct hadb_call *call, const char *key,
                    struct hadb_fs_file **out, struct hadb_error *err)
{
    int r = lock_open(l, key, out, err);
    if (r) {
        return r;
    }
    for (unsigned tries = 1;; tries++) {
        r = hadb_fs_lock(l->fs, *out, err);
        if (r != HADB_ELOCKED) {
            break;
        }
        if (tries == FILE_LOCK_TRIES_MAX) {
            r = hadb_fail(err, HADB_EBUSY, "lease %.100s is locked by another writer", key);
            break;
        }
        uint8_t dice;
        hadb_random(l->env, &dice, 1);
        hadb_sleep_ms(1 + dice % 4, call);
        r = hadb__lease_write_check(l->env, call, err);
        if (r) {
            r = hadb_wrap(err, r, "lease %.100s is locked by another writer", key);
            break;
        }
    }
    if (r) {
        hadb_fs_close(l->fs, *out);
        *out = NULL;
    }
    return r;
}

/* Does the record on disk have the tag @expected (NULL: is there none)? 0 or HADB_CAS_LOST. */
static int compare(struct file_leases *l, const char *path, const struct hadb_tag *expected,
                   uint64_t *version, struct hadb_error *err)
{
    struct hadb__lease_record now = {0};
    struct hadb_tag tag = {0};
    int r = load(l, path, &now, err);
    if (r == 0) {
        hadb__lease_record_tag(now.version, now.nonce, &tag);
    }
    hadb_buf_deinit(&now.bytes);
    if (r < 0) {
        return r;
    }
    *version = now.version;
    bool match = r == HADB_ABSENT ? !expected : expected && strcmp(tag.s, expected->s) == 0;
    return match ? 0 : HADB_CAS_LOST;
}

/* A whole, fsynced file under a new temporary name. */
static int write_temp(struct file_leases *l, struct hadb_slice bytes,
                      char temp[HADB_PATH_BYTES_MAX], struct hadb_error *err)
{
    uint8_t random[8];
    char name[64];
    struct hadb_fs_file *file = NULL;
    hadb_random(l->env, random, sizeof(random));
    snprintf(name, sizeof(name), "%016" PRIx64 "-%016" PRIx64, (uint64_t)hadb_now_unix_ms(l->env),
             hadb_get_u64(random));
    int r = hadb_path_join(temp, l->temp_dir, name, err);
    if (r) {
        return r;
    }
    r = hadb_fs_open(l->fs, temp, HADB_FS_WRITE | HADB_FS_CREATE | HADB_FS_EXCL, &file, err);
    if (r) {
        return r < 0 ? r : hadb_fail(err, HADB_EIO, "cannot make temporary file %s", temp);
    }
    r = hadb_fs_write_at(l->fs, file, 0, bytes.data, bytes.len, err);
    if (r == 0) {
        r = hadb_fs_sync(l->fs, file, err);
    }
    hadb_fs_close(l->fs, file);
    if (r) {
        hadb_fs_unlink(l->fs, temp, NULL);
    }
    return hadb_wrap(err, r, "write %.100s", temp);
}

/* Renames @temp to @path, making the folder of a key with slashes when it is missing. */
static int rename_in(struct file_leases *l, const char *temp, const char *path,
                     struct hadb_error *err)
{
    char folder[HADB_PATH_BYTES_MAX];
    struct hadb_error cause = {0};
    int r = hadb_fs_rename(l->fs, temp, path, &cause);
    if (is_missing(r, &cause)) {
        size_t len = (size_t)(strrchr(path, '/') - path);
        memcpy(folder, path, len);
        folder[len] = '\0';
        cause = (struct hadb_error){0};
        r = hadb_fs_mkdir_all(l->fs, folder, &cause);
        if (r) {
            hadb_fs_unlink(l->fs, temp, NULL);
            return hadb_fail(err, r == HADB_EIO ? HADB_EINVAL : r, "no file can have this key: %s",
                             cause.message);
        }
        r = hadb_fs_rename(l->fs, temp, path, &cause);
    }
    if (r == 0) {
        return 0;
    }
    bool certain = r != HADB_EIO || is_missing(r, &cause) || cause.sys_errno == EISDIR ||
                   cause.sys_errno == ENAMETOOLONG || cause.sys_errno == EROFS;
    if (certain) {
        hadb_fs_unlink(l->fs, temp, NULL);
    }
    return hadb_fail(err, certain ? r : HADB_ETIMEDOUT, "%s", cause.message);
}

static int write_locked(struct file_leases *l, const struct hadb_call *call, const char *path,
                        struct hadb_slice bytes, const struct hadb_tag *expected,
                        struct hadb_tag *tag, struct hadb_error *err)
{
    struct hadb__lease_record fresh = {0};
    char temp[HADB_PATH_BYTES_MAX];
    int r = compare(l, path, expected, &fresh.version, err);
    if (r) {
        return r;
    }
    fresh.version++;
    r = hadb__lease_record_encode(l->env, bytes, &fresh);
    if (r) {
        hadb_buf_deinit(&fresh.bytes);
        return hadb_fail_nomem(err);
    }
    r = write_temp(l, hadb_buf_slice(&fresh.bytes), temp, err);
    hadb_buf_deinit(&fresh.bytes);
    if (r) {
        return r;
    }
    r = hadb__lease_write_check(l->env, call, err);
    if (r) {
        hadb_fs_unlink(l->fs, temp, NULL);
        return r;
    }
    r = rename_in(l, temp, path, err);
    if (r == 0) {
        hadb__lease_record_tag(fresh.version, fresh.nonce, tag);
    }
    return r;
}

static int file_write(void *self, const struct hadb_call *call, const char *key,
                      struct hadb_slice record, const struct hadb_tag *expected,
                      struct hadb_tag *tag, struct hadb_error *err)
{
    struct file_leases *l = self;
    char path[HADB_PATH_BYTES_MAX];
    struct hadb_fs_file *lock = NULL;
    int r = hadb__lease_write_check(l->env, call, err);
    r = r ? r : check_root(l, err);
    if (r == 0) {
        r = hadb_path_join(path, l->base, key, err);
    }
    if (r == 0) {
        r = lock_key(l, call, key, &lock, err);
    }
    if (r == 0) {
        r = write_locked(l, call, path, record, expected, tag, err);
    }
    hadb_fs_close(l->fs, lock);
    if (r == 0 && check_root(l, err) < 0) { /* written where nobody looks */
        r = hadb_fail(err, HADB_ETIMEDOUT, "lease folder %.140s was exchanged meanwhile", l->root);
    }
    return hadb_wrap(err, r, "lease %.100s", key);
}

/* The tag of @key now; a look needs no deadline, so that a late watch still sees what changed. */
static int file_look(void *self, const struct hadb_call *call, const char *key,
                     struct hadb_tag *tag, struct hadb_error *err)
{
    (void)call;
    struct file_leases *l = self;
    struct hadb__lease_record now = {0};
    char path[HADB_PATH_BYTES_MAX];
    int r = hadb_path_join(path, l->base, key, err);
    r = r ? r : check_root(l, err);
    r = r ? r : load(l, path, &now, err);
    if (r == 0) {
        hadb__lease_record_tag(now.version, now.nonce, tag);
    }
    hadb_buf_deinit(&now.bytes);
    return r;
}

static int file_watch(void *self, const struct hadb_call *call, const char *key,
                      const struct hadb_tag *seen, struct hadb_error *err)
{
    struct file_leases *l = self;
    const struct hadb__lease_poll poll = {
        .env = l->env, .self = l, .look = file_look, .every_ms = FILE_WATCH_EVERY_MS};
    return hadb__lease_poll(&poll, call, key, seen, err);
}

static void file_close(void *self)
{
    struct file_leases *l = self;
    hadb_fs_release(&l->held);
    hadb_free(l->root);
    hadb_free(l->temp_dir);
    hadb_free(l->lock_dir);
    hadb_free(l);
}

static const struct hadb_lease_ops file_ops = {
    .abi = HADB_LEASE_ABI,
    .scheme = "file",
    .read = file_read,
    .write_if_match = file_write,
    .watch = file_watch,
    .close = file_close,
    .watch_every_ms = FILE_WATCH_EVERY_MS,
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

static struct file_leases *leases_new(const char *path, const struct hadb_env *env)
{
    struct file_leases *l = hadb_calloc(1, sizeof(*l));
    if (!l) {
        return NULL;
    }
    l->env = env;
    l->fs = &l->held.fs;
    l->root = join_new(path, "");
    if (l->root) {
        size_t len = strlen(l->root);
        while (len > 1 && l->root[len - 1] == '/') {
            l->root[--len] = '\0';
        }
        l->base = hadb_fs_base(&env->fs, l->root);
        l->temp_dir = join_new(l->base, "/.tmp");
        l->lock_dir = join_new(l->base, "/.lock");
    }
    if (!l->root || !l->temp_dir || !l->lock_dir) {
        file_close(l);
        return NULL;
    }
    return l;
}

/* Removes one left-over of a process that died, if its name says that it is old. */
static int sweep_one(void *arg, const char *name, bool is_dir)
{
    struct file_leases *l = arg;
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
    if (age > FILE_TEMP_AGE_MS_MAX && hadb_path_join(path, l->temp_dir, name, NULL) == 0) {
        hadb_fs_unlink(l->fs, path, NULL);
    }
    return 0;
}

/* Who holds leases writes them: better to hear at open that it cannot be done. */
static int try_write(struct file_leases *l, struct hadb_error *err)
{
    char path[HADB_PATH_BYTES_MAX], temp[HADB_PATH_BYTES_MAX];
    struct hadb_fs_file *file = NULL;
    int r = hadb_path_join(path, l->temp_dir, "open", err);
    r = r ? r : hadb_fs_temp_path(temp, path, err);
    r = r ? r
          : hadb_fs_open(l->fs, temp, HADB_FS_WRITE | HADB_FS_CREATE | HADB_FS_EXCL, &file, err);
    if (r) {
        return r < 0 ? r : hadb_fail(err, HADB_EIO, "cannot make temporary file %s", temp);
    }
    hadb_fs_close(l->fs, file);
    hadb_fs_unlink(l->fs, temp, NULL);
    return 0;
}

int hadb__lease_file_open(const struct hadb_url *url, const struct hadb_env *env,
                          struct hadb_lease *out, struct hadb_error *err)
{
    static const char *const known[] = {NULL};
    int r = hadb_url_params_known(url, known, err);
    if (r) {
        return r;
    }
    size_t room = HADB_PATH_BYTES_MAX - HADB_LEASE_KEY_BYTES_MAX - 64;
    if (url->authority[0] != '\0' || url->path[0] != '/' || url->path[1] == '\0' ||
        strlen(url->path) > room) {
        return hadb_fail(err, HADB_EINVAL,
                         "a file url names an absolute folder of up to %zu bytes: file:///folder",
                         room);
    }
    struct file_leases *l = leases_new(url->path, env);
    if (!l) {
        return hadb_fail_nomem(err);
    }
    r = hold_root(l, env, err);
    r = r ? r : ensure_root(l, err);
    if (r == 0) {
        r = hadb_fs_list(l->fs, l->temp_dir, sweep_one, l, err);
    }
    if (r == 0) {
        r = try_write(l, err);
    }
    if (r < 0) {
        file_close(l);
        return hadb_advise(err, r, "choose a folder that this user may write");
    }
    const char *network = hadb_fs_network(&env->fs, l->root);
    if (network) {
        hadb_log(env, HADB_LOG_WARN, "lease", NULL,
                 "lease folder %s lies on %s: its locks may hold for one host only; keep all nodes "
                 "on one "
                 "host, or use a lease store that is made for several",
                 l->root, network);
    }
    *out = (struct hadb_lease){.ops = &file_ops, .self = l};
    return 0;
}
