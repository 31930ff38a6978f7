/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backend that answers what a test wrote down, one result per request in order of arrival (then 0 for
 * ever), remembers what it was asked, and can hold requests back. Safe from any thread. It has the asynchronous path,
 * too: one thread submits and drives.
 */
#ifndef HADB_TESTS_SCRIPT_STORAGE_H
#define HADB_TESTS_SCRIPT_STORAGE_H
#include "base/thread.h"
#include "hadb/storage.h"

#define SCRIPT_LEN_MAX 64u

struct script {
    struct {
        int result;
        bool flip_retryable; /* the adapter knows better than the code */
        int http_status;     /* of a failure */
    } answers[SCRIPT_LEN_MAX];
    size_t len;
    const char *list_key; /* what list answers; NULL = nothing */

    struct hadb_mutex mu;
    struct hadb_cond moved;
    size_t calls;                                   /* mu */
    bool hold;                                      /* mu: requests wait inside */
    unsigned inside;                                /* mu: requests that have not answered yet */
    unsigned inside_max;                            /* mu: most of them at a time */
    unsigned closed;                                /* mu */
    char last_key[HADB_OBJECT_KEY_BYTES_MAX + 1];   /* mu */
    char last_after[HADB_OBJECT_KEY_BYTES_MAX + 1]; /* mu */
    char order[SCRIPT_LEN_MAX + 1]; /* mu: first byte of each key, in order of arrival */
    int fd;                         /* readable while something can be reported */
    struct hadb_storage_io *held[SCRIPT_LEN_MAX]; /* mu: submitted, in order */
    size_t held_len;                              /* mu */
    int refuse;                                   /* what submit answers; 0 = it accepts */
};

void script_init(struct script *script);
void script_deinit(struct script *script);
void script_add(struct script *script, int result, size_t times);
/* A handle on it. */
struct hadb_storage script_storage(struct script *script);
void script_hold(struct script *script, bool hold);
/* Waits until @inside requests are held. */
void script_await(struct script *script, unsigned inside);
size_t script_calls(struct script *script);
#endif
