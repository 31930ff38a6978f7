/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 4 to 8: the things behind the machine's handles. Owns their memory.
 *
 * Thread: the loop; hadb_obj_new() any.
 * Invariants: an object lives while the machine or a job refers to it; a handle is never used twice.
 */
#include "node/objs.h"

#include "base/alloc.h"
#include "base/buf.h"

struct hadb_obj *hadb_obj_new(enum hadb_obj_type type)
{
    struct hadb_obj *obj = hadb_calloc(1, sizeof *obj);
    if (obj) {
        obj->type = type;
        obj->refs = 1;
    }
    return obj;
}

uint64_t hadb_objs_add(struct hadb_objs *objs, struct hadb_obj *obj)
{
    HADB_ASSERT(obj->handle == 0);
    obj->handle = ++objs->last_handle;
    obj->next = objs->first;
    objs->first = obj;
    objs->len++;
    return obj->handle;
}

struct hadb_obj *hadb_objs_get(struct hadb_objs *objs, uint64_t handle)
{
    struct hadb_obj *obj = objs->first;
    while (obj && obj->handle != handle) {
        obj = obj->next;
    }
    HADB_ASSERT(obj != NULL);
    return obj;
}

void hadb_objs_release(struct hadb_objs *objs, uint64_t handle)
{
    struct hadb_obj **at = &objs->first;
    while (*at && (*at)->handle != handle) {
        at = &(*at)->next;
    }
    struct hadb_obj *obj = *at;
    HADB_ASSERT(obj != NULL);
    *at = obj->next;
    obj->next = NULL;
    obj->handle = 0;
    objs->len--;
    hadb_obj_unref(obj);
}

void hadb_objs_clear(struct hadb_objs *objs)
{
    while (objs->first) {
        hadb_objs_release(objs, objs->first->handle);
    }
}

void hadb_obj_ref(struct hadb_obj *obj)
{
    HADB_ASSERT(obj->refs > 0);
    obj->refs++;
}

void hadb_obj_unref(struct hadb_obj *obj)
{
    if (!obj) {
        return;
    }
    HADB_ASSERT(obj->refs > 0);
    if (--obj->refs > 0) {
        return;
    }
    HADB_ASSERT(obj->handle == 0);
    hadb_framed_deinit(&obj->framed);
    hadb_opened_deinit(&obj->opened);
    hadb_buf_deinit(&obj->stored);
    if (obj->box) {
        hadb_engine_view_close(&obj->box->engine, obj->view);
        HADB_ASSERT(obj->box->refs > 1); /* the database has its own */
        obj->box->refs--;
    }
    hadb_free(obj);
}
