/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data folder of a node:
 *
 *   node.id           16 bytes as a UUID in text and a line feed; made once, kept for ever
 *   lock              held by one process at a time
 *   node.addr         host:port, written atomically once the server listens
 *   db/<uuid>/engine  the engine's own files
 *   db/<uuid>/terms   term table (terms.h)
 *   db/<uuid>/name    NAME=ENGINE and a line feed: for people, and for a start without storage
 *   db/<uuid>/lost    tails that a replaced leader could not ship
 *   db/<uuid>/tmp     what is being restored; emptied at start
 *
 * Blocking; any thread.
 */
#ifndef HADB_NODE_FOLDER_H
#define HADB_NODE_FOLDER_H

#include "base/fs.h"

struct hadb_folder {
    const struct hadb_env *env;
    char *path;
    struct hadb_id id;
    struct hadb_fs_file *lock;
    struct hadb_fs_held held; /* so that another folder of that name is not taken for ours */
};

/* Makes the folder, takes its lock, reads or makes node.id. HADB_ELOCKED, HADB_ECORRUPT, HADB_EIO, HADB_EAUTH. */
int hadb_folder_open(const struct hadb_env *env, const char *path, struct hadb_folder *out,
                     struct hadb_error *err);
void hadb_folder_close(struct hadb_folder *folder); /* zero value and twice are fine */
/* What the folder had when it was opened: lets a node come up while storage does not answer. Const after that. */
struct hadb_folder_known {
    struct hadb_folder_db {
        char name[HADB_NAME_BYTES_MAX + 1];
        char engine[HADB_NAME_BYTES_MAX + 1];
        struct hadb_id uuid;
    } *items; /* by name */
    size_t len;
};
/* Folders of databases without a readable name file are left out. HADB_EIO, HADB_EAUTH, HADB_ENOMEM. */
int hadb_folder_index(const struct hadb_folder *folder, struct hadb_folder_known *out,
                      struct hadb_error *err);
void hadb_folder_known_deinit(struct hadb_folder_known *known); /* zero value and twice are fine */
/* The one database of that name and engine; NULL when there is none, or more than one. */
const struct hadb_folder_db *hadb_folder_known_find(const struct hadb_folder_known *known,
                                                    const char *name, const char *engine);
int hadb_folder_write_address(const struct hadb_folder *folder, const char *address,
                              struct hadb_error *err);

struct hadb_db_paths { /* each one allocation: a database that is idle should cost little */
    char *dir, *engine, *terms, *lost, *tmp;
};
void hadb_db_paths_deinit(struct hadb_db_paths *paths); /* zero value and twice are fine */
/* Makes the folders of a database and empties tmp. @out is to be freed after 0. */
int hadb_folder_db(const struct hadb_folder *folder, const struct hadb_id *uuid, const char *name,
                   const char *engine, struct hadb_db_paths *out, struct hadb_error *err);
#endif
