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

void hadb_db_paths_deinit(struct hadb_db_paths *paths)
{
    hadb_free(paths->dir);
    hadb_free(paths->engine);
    hadb_free(paths->terms);
    hadb_free(paths->lost);
    hadb_free(paths->tmp);
    *paths = (struct hadb_db_paths){0};
}

static int below(const char *dir, const char *name, char **out, struct hadb_error *err)
{
    char path[HADB_PATH_BYTES_MAX];
    int r = hadb_path_join(path, dir, name, err);
    if (r < 0) {
        return r;
    }
    *out = hadb_strdup(path);
    return *out ? 0 : hadb_fail_nomem(err);
}

static int db_paths(const struct hadb_folder *folder, const struct hadb_id *uuid,
                    struct hadb_db_paths *out, struct hadb_error *err)
{
    char dbs[HADB_PATH_BYTES_MAX], id[HADB_ID_TEXT_BYTES];
    hadb_id_format(uuid, id);
    int r = hadb_path_join(dbs, folder->path, "db", err);
    r = r < 0 ? r : below(dbs, id, &out->dir, err);
    r = r < 0 ? r : below(out->dir, "engine", &out->engine, err);
    r = r < 0 ? r : below(out->dir, "terms", &out->terms, err);
    r = r < 0 ? r : below(out->dir, "lost", &out->lost, err);
    return r < 0 ? r : below(out->dir, "tmp", &out->tmp, err);
}

int hadb_folder_db(const struct hadb_folder *folder, const struct hadb_id *uuid, const char *name,
                   struct hadb_db_paths *out, struct hadb_error *err)
{
    char label[HADB_PATH_BYTES_MAX];
    struct hadb_db_paths paths = {0};
    const struct hadb_fs *fs = &folder->env->fs;
    int r = db_paths(folder, uuid, &paths, err);
    r = r < 0 ? r : db_folders(fs, &paths, err);
    r = r < 0 ? r : hadb_path_join(label, paths.dir, "name", err);
    r = r < 0 ? r : hadb_fs_replace_file(fs, label, hadb_slice_str(name), err);
    if (r < 0) {
        hadb_db_paths_deinit(&paths);
        return r;
    }
    *out = paths;
    return 0;
}
