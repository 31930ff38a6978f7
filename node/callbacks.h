/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one thread, named "hadb-callback", on which functions of the application run: events and completions
 * of asynchronous calls, one at a time, in order. Whatever they do, the event loop goes on.
 */
#ifndef HADB_NODE_CALLBACKS_H
#define HADB_NODE_CALLBACKS_H

#include "base/thread.h"

#define HADB_CALLBACKS_MAX 100000u /* waiting to run */

/* Embedded by its owner, who keeps it alive until fn runs; fn may free it. */
struct hadb_callback {
    void (*fn)(void *arg);
    void *arg;
    struct hadb_callback *next; /* mu */
};

struct hadb_callbacks {
    struct hadb_mutex mu;
    struct hadb_cond cond;
    struct hadb_thread thread;
    struct hadb_callback *head, *tail; /* mu */
    size_t len;                        /* mu */
    bool stop;                         /* mu */
    bool started;                      /* owner thread */
};

int hadb_callbacks_start(struct hadb_callbacks *callbacks, struct hadb_error *err);
/* Runs what was posted, then joins. Zero value and twice are fine. Any thread but its own. */
void hadb_callbacks_stop(struct hadb_callbacks *callbacks);
/* Any thread. */
void hadb_callbacks_post(struct hadb_callbacks *callbacks, struct hadb_callback *callback);
size_t hadb_callbacks_len(struct hadb_callbacks *callbacks);
/* Is this its thread? */
bool hadb_callbacks_on(const struct hadb_callbacks *callbacks);
#endif
