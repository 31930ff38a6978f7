/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles: what a protocol machine refers to by number. Entry bytes, views and snapshot references live here;
 * the machine holds one reference until it releases the handle, a job under way holds another.
 *
 * Loop thread only; jobs use the objects that were handed to them and leave counts alone.
 */
#ifndef HADB_NODE_OBJS_H
#define HADB_NODE_OBJS_H

#include "changeset/changeset.h"
#include "hadb/executor.h"
#include "hadb/replicator.h"

/* One opened engine with what is bound to it. Counted, so that a restore can wait for its readers. */
struct hadb_box {
    struct hadb_engine engine;
    struct hadb_replicator replicator;
    struct hadb_executor executor;
    unsigned refs; /* loop */
};

enum hadb_obj_type { HADB_OBJ_ENTRY = 1, HADB_OBJ_VIEW, HADB_OBJ_SNAPSHOT };

struct hadb_obj {
    uint64_t handle; /* 0 = not in the table any more */
    enum hadb_obj_type type;
    unsigned refs;
    struct hadb_obj *next;

    struct hadb_framed framed;         /* ENTRY that this process framed */
    struct hadb_opened opened;         /* ENTRY that was read: decoded payload */
    struct hadb_buf stored;            /* ENTRY that came on the stream: not decoded yet */
    struct hadb_box *box;              /* VIEW: counted */
    void *view;                        /* VIEW */
    struct hadb_snapshot_ref snapshot; /* SNAPSHOT */
    struct hadb_id snapshot_nonce;
    int64_t snapshot_unix_ms;
};

struct hadb_objs {
    struct hadb_obj *first; /* few: window, stream buffer, a view, a reference */
    uint64_t last_handle;
    size_t len;
};

/* A fresh object that is in no table yet, one reference, the caller's. NULL when out of memory. Any thread. */
struct hadb_obj *hadb_obj_new(enum hadb_obj_type type);
/* Into the table: the caller's reference becomes the machine's. Returns the handle. */
uint64_t hadb_objs_add(struct hadb_objs *objs, struct hadb_obj *obj);
struct hadb_obj *hadb_objs_get(struct hadb_objs *objs, uint64_t handle); /* asserted to be there */
void hadb_objs_release(struct hadb_objs *objs, uint64_t handle); /* the machine's reference */
void hadb_objs_clear(struct hadb_objs *objs);                    /* all machine's references */
void hadb_obj_ref(struct hadb_obj *obj);
void hadb_obj_unref(struct hadb_obj *obj); /* NULL is fine */
#endif
