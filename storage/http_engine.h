/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many requests at a time on one thread, none of which blocks it. The engine has one file descriptor, which is
 * readable when there is something to do: an event loop watches it and calls drive, or a caller that may block
 * waits with hadb__engine_wait. All functions from one thread at a time.
 */
#ifndef HADB_STORAGE_HTTP_ENGINE_H
#define HADB_STORAGE_HTTP_ENGINE_H
#include "base/http.h"

#define HADB_ENGINE_CONNECTIONS_MAX 64u /* further requests wait for one of them */
#define HADB_ENGINE_TASKS_MAX 1024u     /* running or waiting; more are HADB_EBUSY */

struct hadb__engine;
struct hadb__engine_slot;

/* A request that runs; embedded by its owner, who leaves it and all it points to alone until done. */
struct hadb__task {
    struct hadb__http_request request;
    const struct hadb_call *call; /* may be NULL */
    struct hadb__http_reply *reply;
    void (*done)(struct hadb__task *task); /* from drive, once; may start more */
    void *arg;
    struct hadb__engine_slot *slot; /* engine's */
    struct hadb__task *prev, *next; /* engine's */
};

/* 0, HADB_EIO, HADB_ENOMEM. @env outlives it. */
int hadb__engine_open(const struct hadb_env *env, struct hadb__engine **out,
                      struct hadb_error *err);
/* Ends what runs (HADB__HTTP_CANCELED, done is called), closes the connections. NULL is fine. */
void hadb__engine_close(struct hadb__engine *engine);
/* Sends what can be sent at once. 0: done will be called, never from here; HADB_EBUSY, HADB_ENOMEM: it will not. */
int hadb__engine_start(struct hadb__engine *engine, struct hadb__task *task,
                       struct hadb_error *err);
int hadb__engine_fd(const struct hadb__engine *engine);
/* Does what is to do, without blocking. Returns how many requests run or are not reported yet; 0 = none. */
size_t hadb__engine_drive(struct hadb__engine *engine);
/* Blocks until there is something to do, for a second at most. */
void hadb__engine_wait(struct hadb__engine *engine);
#endif
