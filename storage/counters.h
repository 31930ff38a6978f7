/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests counted by operation and outcome: what the mem backend and with_trace keep, and what tests
 * and metrics read. Fields of live counters are only touched through these functions (relaxed
 * atomics: each number is exact, a reading is not a consistent cut). Any thread.
 */
#ifndef HADB_STORAGE_COUNTERS_H
#define HADB_STORAGE_COUNTERS_H
#include "hadb/storage.h"

enum hadb_storage_op {
    HADB_STORAGE_OP_GET,
    HADB_STORAGE_OP_GET_RANGE,
    HADB_STORAGE_OP_HEAD,
    HADB_STORAGE_OP_CREATE,
    HADB_STORAGE_OP_REPLACE,
    HADB_STORAGE_OP_LIST,
    HADB_STORAGE_OP_DELETE_MANY,
    HADB_STORAGE_OP_LEN,
};

struct hadb_storage_counters {
    struct hadb_storage_op_counters {
        uint64_t done;     /* result 0 */
        uint64_t outcomes; /* HADB_ABSENT, HADB_EXISTS, HADB_CAS_LOST */
        uint64_t unknown;  /* HADB_ETIMEDOUT */
        uint64_t failed;   /* every other failure */
        uint64_t bytes;    /* body bytes moved by requests that were done */
        uint64_t took_us;  /* sum over all requests */
    } op[HADB_STORAGE_OP_LEN];
};

/* "get", "get_range", ...: static. */
const char *hadb_storage_op_name(enum hadb_storage_op op);
/* Does the operation change the store? */
bool hadb_storage_op_writes(enum hadb_storage_op op);

/* Counts one finished request with result @r. */
void hadb_storage_counters_add(struct hadb_storage_counters *live, enum hadb_storage_op op, int r,
                               uint64_t bytes, uint64_t took_us);
/* Copies live counters. */
void hadb_storage_counters_read(const struct hadb_storage_counters *live,
                                struct hadb_storage_counters *out);
/* Requests of one operation, and of all. */
uint64_t hadb_storage_counters_op(const struct hadb_storage_counters *read,
                                  enum hadb_storage_op op);
uint64_t hadb_storage_counters_total(const struct hadb_storage_counters *read);

/*
 * What reached a "mem:" store, through every handle of its name, since it was made.
 * Returns 0; HADB_ENOTSUP if @storage is not a mem backend itself (a wrapper is not).
 */
int hadb_storage_mem_counters(const struct hadb_storage *storage, struct hadb_storage_counters *out,
                              struct hadb_error *err);
#endif
