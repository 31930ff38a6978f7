/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns the folders of the local backend: the held root, the chain down to an object, and the question
 * whether they are still the ones that this process knows (see storage_local.c).
 *
 * Thread: any. The mutex guards the memory of folders and is never held over I/O.
 * Invariants: a root is made only before it was ever seen, a folder inside only before we wrote there.
 * Happy path: the root and the folder are known; one stat each, and one more after the write.
 * Failure modes: HADB_EIO with the folder that is not the one it was; HADB_EINVAL for a key that no file can have.
 */
#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/hash.h"
#include "storage/storage_local_private.h"

int hadb__local_enter(struct hadb__local *l, struct hadb_error *err)
{
    hadb_mutex_lock(&l->mu);
    bool entered = l->entered;
    hadb_mutex_unlock(&l->mu);
    if (!entered) {
        struct hadb_fs_held held = {0};
        int r = hadb_fs_hold(l->outer, l->root, &held, err);
        if (r) {
            return r;
        }
        hadb_mutex_lock(&l->mu);
        if (!l->entered) {
            l->held = held;
            l->entered = true;
            held = (struct hadb_fs_held){0};
        }
        hadb_mutex_unlock(&l->mu);
        hadb_fs_release(&held); /* another thread was first */
    }
    return hadb_fs_held_check(&l->held, "storage folder", err);
}

static struct hadb__local_folder *known_slot(struct hadb__local *l, const char *folder,
                                             struct hadb_id *id)
{
    struct hadb_hash hash;
    hadb_sha256(folder, strlen(folder), &hash);
    memcpy(id->b, hash.b, sizeof(id->b));
    return &l->known[hadb_get_u32(hash.b) % LOCAL_KNOWN_FOLDERS_MAX];
}

static int not_the_folder(const char *folder, struct hadb_error *err)
{
    return hadb_fail(err, HADB_EIO,
                     "folder %.120s of the store is gone or another one since this process wrote "
                     "there: put it back, or start again",
                     folder);
}

/* 0 with what @folder is when we know it, HADB_ABSENT when not, HADB_EIO when it is another one by now. */
static int folder_known(struct hadb__local *l, const char *folder, struct hadb_fs_stat *pin,
                        struct hadb_error *err)
{
    struct hadb_id id;
    const struct hadb__local_folder *slot = known_slot(l, folder, &id);
    hadb_mutex_lock(&l->mu);
    bool known = hadb_id_eq(&slot->id, &id);
    *pin = slot->pin;
    hadb_mutex_unlock(&l->mu);
    if (!known) {
        return HADB_ABSENT;
    }
    if (!l->held.held) {
        return 0;
    }
    struct hadb_fs_stat now = {0};
    int r = hadb_fs_stat(l->fs, folder, &now, err);
    return r < 0 && !hadb__local_missing(r, err) ? r
           : r == 0 && hadb_fs_same(&now, pin)   ? 0
                                                 : not_the_folder(folder, err);
}

static int folder_remember(struct hadb__local *l, const char *folder, struct hadb_fs_stat *pin,
                           struct hadb_error *err)
{
    struct hadb__local_folder fresh = {0};
    struct hadb__local_folder *slot = known_slot(l, folder, &fresh.id);
    int r = l->held.held ? hadb_fs_stat(l->fs, folder, &fresh.pin, err) : 0;
    if (r) {
        return r < 0 ? r : not_the_folder(folder, err);
    }
    hadb_mutex_lock(&l->mu);
    *slot = fresh;
    hadb_mutex_unlock(&l->mu);
    *pin = fresh.pin;
    return 0;
}

int hadb__local_confirm(struct hadb__local *l, const char *folder, const struct hadb_fs_stat *pin,
                        struct hadb_error *err)
{
    if (!l->held.held) {
        return 0;
    }
    char path[HADB_PATH_BYTES_MAX];
    struct hadb_fs_stat now = {0};
    int r = hadb_path_join(path, l->root, folder, err);
    if (r == 0 && hadb_fs_stat(l->outer, path, &now, NULL) == 0 && hadb_fs_same(&now, pin)) {
        return 0;
    }
    r = r ? r : hadb_fs_held_check(&l->held, "storage folder", err);
    return r ? r : not_the_folder(folder, err);
}

/*
 * Makes the root durable in all folders above it, which may be as new as itself. One that we may enter but
 * not read, or not write, cannot be synced, and is not one that anybody of ours has made.
 */
static int sync_above_root(struct hadb__local *l, struct hadb_error *err)
{
    char at[HADB_PATH_BYTES_MAX];
    char above[HADB_PATH_BYTES_MAX];
    memcpy(at, l->root, strlen(l->root) + 1);
    while (strcmp(at, "/") != 0) {
        struct hadb_error cause = {0};
        hadb__local_parent(at, above);
        int r = hadb_fs_sync_dir(l->outer, above, &cause);
        if (r && r != HADB_EAUTH && cause.sys_errno != EROFS) {
            return hadb__local_give(err, &cause, r);
        }
        memcpy(at, above, strlen(above) + 1);
    }
    return 0;
}

int hadb__local_ensure_root(struct hadb__local *l, struct hadb_error *err)
{
    hadb_mutex_lock(&l->mu);
    bool seen = l->root_seen || (l->entered && l->held.held);
    bool durable = l->root_durable;
    hadb_mutex_unlock(&l->mu);
    int r = seen ? 0 : hadb_fs_mkdir_all(l->outer, l->root, err);
    if (r == 0) {
        r = hadb__local_enter(l, err);
    }
    if (r == 0 && !durable) {
        r = sync_above_root(l, err);
    }
    if (r == 0) {
        r = hadb_fs_mkdir(l->fs, l->temp_dir, err);
    }
    if (r == 0) {
        r = hadb_fs_mkdir(l->fs, l->lock_dir, err);
    }
    if (r > 0) {
        return hadb_fail(err, HADB_EIO, "storage folder %.120s has vanished, is its disk mounted?",
                         l->root);
    }
    if (r == 0) {
        hadb_mutex_lock(&l->mu);
        l->root_seen = true;
        l->root_durable = true;
        hadb_mutex_unlock(&l->mu);
    }
    return r;
}

/* Makes one folder, and its name durable in the one above, unless we know it. */
static int ensure_level(struct hadb__local *l, const char *at, struct hadb_fs_stat *pin,
                        struct hadb_error *err)
{
    int r = folder_known(l, at, pin, err);
    if (r != HADB_ABSENT) {
        return r;
    }
    char above[HADB_PATH_BYTES_MAX];
    hadb__local_parent(at, above);
    r = hadb_fs_mkdir(l->fs, at, err);
    if (r == 0) {
        r = hadb_fs_sync_dir(l->fs, above, err);
    }
    if (r == 0) {
        r = folder_remember(l, at, pin, err);
    }
    return r > 0 ? not_the_folder(above, err) : r;
}

/* The folders from the root down to @folder. One that we know is not made again: it has lost its objects. */
static int ensure_chain(struct hadb__local *l, const char *folder, struct hadb_fs_stat *pin,
                        struct hadb_error *err)
{
    size_t len = strlen(folder);
    char at[HADB_PATH_BYTES_MAX];
    memcpy(at, folder, len + 1);
    if (strcmp(folder, l->base) == 0) {
        return folder_remember(l, folder, pin, err);
    }
    int r = 0;
    for (size_t i = strlen(l->base) + 1; i <= len && r == 0; i++) {
        if (at[i] == '/' || at[i] == '\0') {
            at[i] = '\0';
            r = ensure_level(l, at, pin, err);
            at[i] = folder[i];
        }
    }
    return r;
}

int hadb__local_ensure_folder(struct hadb__local *l, const char *folder, struct hadb_fs_stat *pin,
                              struct hadb_error *err)
{
    struct hadb_error cause = {0};
    int r = folder_known(l, folder, pin, &cause);
    if (r != HADB_ABSENT) {
        return hadb__local_give(err, &cause, r);
    }
    r = hadb__local_ensure_root(l, &cause);
    if (r == 0) {
        r = ensure_chain(l, folder, pin, &cause);
        if (r < 0 && (cause.sys_errno == ENOTDIR || cause.sys_errno == ENAMETOOLONG)) {
            return hadb_fail(err, HADB_EINVAL, "no file can have this key: %.180s", cause.message);
        }
    }
    return hadb__local_give(err, &cause, r);
}
