/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A wrapper over a scripted backend, asked in one of the two forms: blocking, or submitted and driven on this thread.
 * A test that asks through these functions runs in both.
 */
#ifndef HADB_TESTS_WRAPPERS_WORLD_H
#define HADB_TESTS_WRAPPERS_WORLD_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/env.h"
#include "storage/wrap.h"
#include "tests/support/support.h"
#include "tests/unit/storage/script_storage.h"

/* A world with a clock of its own; sleeping moves it. */
struct fixture {
    bool async; /* the form */
    struct script script;
    struct hadb_storage s;
    struct hadb_env env;
    uint64_t now_ms; /* atomic */
    bool real_clock; /* the wrapper has the host's */
    uint64_t slept_ms[SCRIPT_LEN_MAX];
    size_t sleeps;
    struct hadb_trace_event events[8];
    size_t events_len;
    char log[2048];
    struct hadb_buf got;
    struct hadb_error err;
    bool driving;
};

int setup_blocking(void **state);
int setup_async(void **state);
int teardown(void **state);

/* One request of a kind; the same for all kinds. Listings and deletions have one form. */
int ask(struct fixture *f, enum hadb_storage_op op, const struct hadb_call *call);
void fake_sleep(void *arg, uint64_t ms, const struct hadb_call *call);
uint64_t fake_now(void *arg);

/* A request that goes on while the test does something else: on a thread of its own, or submitted. */
struct asker {
    struct fixture *f;
    struct hadb_thread thread;
    const char *key;
    const struct hadb_call *call;
    struct hadb_object_meta meta;
    struct hadb_storage_io io;
    bool waits; /* submitted, and not done */
    int result;
};
void start(struct asker *a, struct fixture *f, const char *key, const struct hadb_call *call);
void end(struct asker *a);
/* Waits until @inside requests are held by the script. */
void await(struct fixture *f, unsigned inside);
/* One turn of the asynchronous form; else nothing. */
void turn(struct fixture *f);

/* A test in both forms. */
#define BOTH(test)                                                                    \
    {#test " (blocking)", test, setup_blocking, teardown, NULL}, /* NOLINT: cmocka */ \
    {                                                                                 \
        #test " (async)", test, setup_async, teardown, NULL                           \
    }
#endif
