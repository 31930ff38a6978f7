/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data folder of a node. Owns every path below it.
 *
 * Thread: the one that opens or closes; blocks.
 * Invariants: one process per folder (OFD lock); node.id never changes once it is there; no database is put into
 * another folder that has taken the name of ours (a disk that was unmounted).
 * Failure modes: a folder that is in use, unreadable or of something else is refused with its path.
 */
#include "node/folder.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/id.h"

#include <stdio.h>
#include <stdlib.h>

#define NODE_ID_BYTES_MAX 64u
#define LABEL_BYTES_MAX (2 * HADB_NAME_BYTES_MAX + 3) /* NAME=ENGINE, line feed, NUL */

static int fail_damaged(const char *path, struct hadb_error *err)
{
    return hadb_fail(err, HADB_ECORRUPT,
                     "%s is damaged: put the node's id back, or move the folder away", path);
}

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
        return r == HADB_ETOOBIG ? fail_damaged(path, err) : r;
    }
    if (r == 0) {
        while (text.len > 0 && text.data[text.len - 1] == '\n') {
            text.len--;
        }
        const char *id = hadb_buf_cstr(&text);
        if (!id) {
            return hadb_fail_nomem(err);
        }
        if (strlen(id) != text.len || !hadb_id_parse(id, &folder->id) ||
            hadb_id_is_zero(&folder->id)) {
            return fail_damaged(path, err);
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
        r = r < 0 ? r : hadb_fail(err, HADB_EIO, "cannot open %s", path);
        return hadb_advise(err, r, "choose a data folder that this user may write");
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
    int r = hadb_wrap(err, hadb_fs_mkdir_all(&env->fs, path, err), "data folder %.100s", path);
    r = hadb_advise(err, r, "choose a folder that this user may write");
    const char *network = r == 0 ? hadb_fs_network(&env->fs, path) : NULL;
    if (network) {
        hadb_log(
            env, HADB_LOG_WARN, "node", NULL,
            "data folder %s lies on %s: its lock keeps out processes of this host only, and an "
            "fsync may not hold; use a disk of this host",
            path, network);
    }
    if (r == 0) {
        r = hadb_fs_hold(&env->fs, folder.path, &folder.held, err);
        r = r > 0 ? hadb_fail(err, HADB_EIO, "data folder %.140s went away", path) : r;
    }
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
        hadb_fs_release(&folder->held);
        hadb_free(folder->path);
    }
    *folder = (struct hadb_folder){0};
}

int hadb_folder_write_address(const struct hadb_folder *folder, const char *address,
                              struct hadb_error *err)
{
    char path[HADB_PATH_BYTES_MAX];
    int r = hadb_fs_held_check(&folder->held, "data folder", err);
    r = r < 0 ? r : hadb_path_join(path, folder->path, "node.addr", err);
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
                   const char *engine, struct hadb_db_paths *out, struct hadb_error *err)
{
    char label[HADB_PATH_BYTES_MAX], line[LABEL_BYTES_MAX];
    int len = snprintf(line, sizeof line, "%s=%s\n", name, engine);
    HADB_ASSERT(len > 0 && (size_t)len < sizeof line);
    struct hadb_db_paths paths = {0};
    const struct hadb_fs *fs = &folder->env->fs;
    int r = hadb_fs_held_check(&folder->held, "data folder", err);
    r = r < 0 ? r : db_paths(folder, uuid, &paths, err);
    r = r < 0 ? r : db_folders(fs, &paths, err);
    r = r < 0 ? r : hadb_path_join(label, paths.dir, "name", err);
    r = r < 0 ? r : hadb_fs_replace_file(fs, label, hadb_slice(line, (size_t)len), err);
    if (r < 0) {
        hadb_db_paths_deinit(&paths);
        return r;
    }
    *out = paths;
    return 0;
}

/* ---- what is here already ---- */

struct indexing {
    const struct hadb_folder *folder;
    const char *dir;
    struct hadb_folder_known *known;
    size_t cap;
    struct hadb_error *err;
};

/* 0, or HADB_ABSENT when the file says nothing that can be used. */
static int read_label(const struct hadb_fs *fs, const char *dir, struct hadb_folder_db *out)
{
    char path[HADB_PATH_BYTES_MAX];
    struct hadb_buf text HADB_CLEANUP(hadb_buf_deinit) = {0};
    int r = hadb_path_join(path, dir, "name", NULL);
    r = r < 0 ? r : hadb_fs_read_file(fs, path, LABEL_BYTES_MAX, &text, NULL);
    const char *line = r == 0 ? hadb_buf_cstr(&text) : NULL;
    const char *equals = line ? strchr(line, '=') : NULL;
    if (!equals || equals - line > HADB_NAME_BYTES_MAX) {
        return HADB_ABSENT;
    }
    snprintf(out->name, sizeof out->name, "%.*s", (int)(equals - line), line);
    size_t len = strcspn(equals + 1, "\n");
    if (len > HADB_NAME_BYTES_MAX) {
        return HADB_ABSENT;
    }
    snprintf(out->engine, sizeof out->engine, "%.*s", (int)len, equals + 1);
    return hadb_name_valid(out->name) && hadb_name_valid(out->engine) ? 0 : HADB_ABSENT;
}

static int index_one(void *arg, const char *name, bool is_dir)
{
    struct indexing *in = arg;
    struct hadb_folder_known *known = in->known;
    struct hadb_folder_db item = {0};
    char dir[HADB_PATH_BYTES_MAX];
    if (!is_dir || !hadb_id_parse(name, &item.uuid) ||
        hadb_path_join(dir, in->dir, name, NULL) < 0 ||
        read_label(&in->folder->env->fs, dir, &item) != 0) {
        return 0;
    }
    if (known->len == in->cap) {
        size_t cap = HADB_MAX(16u, in->cap * 2);
        struct hadb_folder_db *items = hadb_realloc(known->items, cap * sizeof *items);
        if (!items) {
            return hadb_fail_nomem(in->err);
        }
        known->items = items;
        in->cap = cap;
    }
    known->items[known->len++] = item;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct hadb_folder_db *x = a, *y = b;
    return strcmp(x->name, y->name);
}

int hadb_folder_index(const struct hadb_folder *folder, struct hadb_folder_known *out,
                      struct hadb_error *err)
{
    char dir[HADB_PATH_BYTES_MAX];
    struct hadb_folder_known known = {0};
    struct indexing in = {.folder = folder, .dir = dir, .known = &known, .err = err};
    int r = hadb_path_join(dir, folder->path, "db", err);
    r = r < 0 ? r : hadb_fs_list(&folder->env->fs, dir, index_one, &in, err);
    if (r < 0) {
        hadb_folder_known_deinit(&known);
        return r;
    }
    if (known.len > 0) {
        qsort(known.items, known.len, sizeof *known.items, by_name);
    }
    *out = known;
    return 0;
}

void hadb_folder_known_deinit(struct hadb_folder_known *known)
{
    hadb_free(known->items);
    *known = (struct hadb_folder_known){0};
}

const struct hadb_folder_db *hadb_folder_known_find(const struct hadb_folder_known *known,
                                                    const char *name, const char *engine)
{
    const struct hadb_folder_db *found = NULL;
    size_t lo = 0, hi = known->len;
    while (lo < hi) { /* the first that is not below @name */
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(known->items[mid].name, name) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    for (; lo < known->len && strcmp(known->items[lo].name, name) == 0; lo++) {
        if (found) {
            return NULL; /* the name moved on once: only storage knows where to */
        }
        found = &known->items[lo];
    }
    return found && strcmp(found->engine, engine) == 0 ? found : NULL;
}
