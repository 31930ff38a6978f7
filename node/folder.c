/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data folder of a node. Owns every path below it.
 *
 * Thread: the one that opens or closes; blocks.
 * Invariants: one process per folder (OFD lock); node.id never changes once it is there.
 * Failure modes: a folder that is in use, unreadable or of something else is refused with its path.
 */
#include "node/folder.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/id.h"

#define NODE_ID_BYTES_MAX 64u

static int read_or_make_id(struct hadb_folder *folder, struct hadb_error *err)
{
    char path[HADB_PATH_BYTES_MAX];
    int r = hadb_path_join(path, folder->path, "node.id", err);
    if (r < 0) {
        return r;
    }
    const struct hadb_fs *fs = &folder->env->fs;
    struct hadb_buf text HADB_CLEANUP(hadb_buf_deinit) = {0};
    r = hadb_fs_read_file(fs, path, NODE_ID_BYTES_MAX, &text, err);
    if (r < 0) {
        return r;
    }
    if (r == 0) {
        while (text.len > 0 && text.data[text.len - 1] == '\n') {
            text.len--;
        }
        const char *id = hadb_buf_cstr(&text);
        if (!id) {
            return hadb_fail_nomem(err);
        }
        if (!hadb_id_parse(id, &folder->id) || hadb_id_is_zero(&folder->id)) {
            return hadb_fail(err, HADB_ECORRUPT,
                             "%s is damaged: put the node's id back, or move the folder away",
                             path);
        }
        return 0;
    }
    char made[HADB_ID_TEXT_BYTES + 1];
    hadb_id_random(folder->env, &folder->id);
    hadb_id_format(&folder->id, made);
    made[HADB_ID_TEXT_BYTES - 1] = '\n';
    return hadb_fs_replace_file(fs, path, hadb_slice(made, HADB_ID_TEXT_BYTES), err);
}

static int take_lock(struct hadb_folder *folder, struct hadb_error *err)
{
    char path[HADB_PATH_BYTES_MAX];
    int r = hadb_path_join(path, folder->path, "lock", err);
    if (r < 0) {
        return r;
    }
    const struct hadb_fs *fs = &folder->env->fs;
    r = hadb_fs_open(fs, path, HADB_FS_READ | HADB_FS_WRITE | HADB_FS_CREATE, &folder->lock, err);
    if (r != 0) {
        return r < 0 ? r : hadb_fail(err, HADB_EIO, "cannot open %s", path);
    }
    r = hadb_fs_lock(fs, folder->lock, err);
    if (r == HADB_ELOCKED) {
        return hadb_fail(err, HADB_ELOCKED,
                         "data folder %s is in use by another process: stop it or choose another "
                         "folder",
                         folder->path);
    }
    return r;
}

int hadb_folder_open(const struct hadb_env *env, const char *path, struct hadb_folder *out,
                     struct hadb_error *err)
{
    struct hadb_folder folder = {.env = env, .path = hadb_strdup(path)};
    if (!folder.path) {
        return hadb_fail_nomem(err);
    }
    int r = hadb_wrap(err, hadb_fs_mkdir_all(&env->fs, path, err), "data folder %s", path);
    if (r == 0) {
        r = take_lock(&folder, err);
    }
    if (r == 0) {
        r = read_or_make_id(&folder, err);
    }
    if (r < 0) {
        hadb_folder_close(&folder);
        return r;
    }
    *out = folder;
    return 0;
}

void hadb_folder_close(struct hadb_folder *folder)
{
    if (folder->env) {
        hadb_fs_close(&folder->env->fs, folder->lock);
        hadb_free(folder->path);
    }
    *folder = (struct hadb_folder){0};
}

int hadb_folder_write_address(const struct hadb_folder *folder, const char *address,
                              struct hadb_error *err)
{
    char path[HADB_PATH_BYTES_MAX];
    int r = hadb_path_join(path, folder->path, "node.addr", err);
    if (r < 0) {
        return r;
    }
    struct hadb_buf line HADB_CLEANUP(hadb_buf_deinit) = {0};
    if (hadb_buf_printf(&line, "%s\n", address) < 0) {
        return hadb_fail_nomem(err);
    }
    return hadb_fs_replace_file(&folder->env->fs, path, hadb_buf_slice(&line), err);
}

static int db_folders(const struct hadb_fs *fs, const struct hadb_db_paths *paths,
                      struct hadb_error *err)
{
    int r = hadb_fs_remove_all(fs, paths->tmp, err);
    if (r >= 0) {
        r = hadb_fs_mkdir_all(fs, paths->engine, err);
    }
    if (r == 0) {
        r = hadb_fs_mkdir_all(fs, paths->lost, err);
    }
    if (r == 0) {
        r = hadb_fs_mkdir_all(fs, paths->tmp, err);
    }
    return r;
}

int hadb_folder_db(const struct hadb_folder *folder, const struct hadb_id *uuid, const char *name,
                   struct hadb_db_paths *out, struct hadb_error *err)
{
    char id[HADB_ID_TEXT_BYTES];
    char dbs[HADB_PATH_BYTES_MAX], label[HADB_PATH_BYTES_MAX];
    hadb_id_format(uuid, id);
    if (hadb_path_join(dbs, folder->path, "db", err) < 0 ||
        hadb_path_join(out->dir, dbs, id, err) < 0 ||
        hadb_path_join(out->engine, out->dir, "engine", err) < 0 ||
        hadb_path_join(out->terms, out->dir, "terms", err) < 0 ||
        hadb_path_join(out->lost, out->dir, "lost", err) < 0 ||
        hadb_path_join(out->tmp, out->dir, "tmp", err) < 0 ||
        hadb_path_join(label, out->dir, "name", err) < 0) {
        return HADB_ETOOBIG;
    }
    const struct hadb_fs *fs = &folder->env->fs;
    int r = db_folders(fs, out, err);
    if (r < 0) {
        return r;
    }
    return hadb_fs_replace_file(fs, label, hadb_slice_str(name), err);
}
