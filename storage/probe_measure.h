/* SPDX-License-Identifier: Apache-2.0 */
/* How long one request takes, operation by operation, without contention: for `hadb doctor`. Any thread; blocks. */
#ifndef HADB_STORAGE_PROBE_MEASURE_H
#define HADB_STORAGE_PROBE_MEASURE_H
#include "base/samples.h"
#include "hadb/storage.h"

#define HADB_PROBE_ROUNDS_MAX 1000u

enum hadb_probe_timed {
    HADB_PROBE_TIMED_GET,
    HADB_PROBE_TIMED_ABSENT, /* a get that finds nothing: how a follower asks for the next slot */
    HADB_PROBE_TIMED_HEAD,
    HADB_PROBE_TIMED_CREATE,
    HADB_PROBE_TIMED_REFUSED, /* a create of a key that is taken */
    HADB_PROBE_TIMED_REPLACE,
    HADB_PROBE_TIMED_LIST,   /* every tenth round */
    HADB_PROBE_TIMED_DELETE, /* of the objects of ten rounds */
    HADB_PROBE_TIMED_LEN,
};

struct hadb_probe_latencies {
    struct hadb_samples of[HADB_PROBE_TIMED_LEN];
    struct hadb_error refused[HADB_PROBE_TIMED_LEN]; /* list, delete: not allowed; .code 0 = fine */
    char left[700]; /* the beginning of the keys that could not be removed; "" = none */
};

/* Zero members mean the default. */
struct hadb_probe_measure_options {
    uint32_t rounds;                  /* 0 = 100, up to 1000; each six requests */
    uint32_t body_bytes;              /* 0 = 4096 */
    uint32_t limit_ms;                /* 0 = 60000: then what there is will do */
    const struct hadb_cancel *cancel; /* may be NULL */
};

const char *hadb_probe_timed_name(enum hadb_probe_timed timed); /* "get", …: static */

/*
 * Asks @rounds times, one request after the other, below "@prefix/run-<random>-…", and removes what it wrote. Says
 * nothing about promises: a store that breaks them is measured, too.
 *
 * Returns    0; HADB_EINVAL; HADB_EIO, HADB_EAUTH, HADB_ETIMEDOUT, …: a request failed; HADB_ENOMEM. What was measured
 *            until then is in @out, which the caller frees in every case.
 */
int hadb_probe_measure(struct hadb_storage *storage, const char *prefix,
                       const struct hadb_probe_measure_options *options, const struct hadb_env *env,
                       struct hadb_probe_latencies *out, struct hadb_error *err);
void hadb_probe_latencies_deinit(struct hadb_probe_latencies *latencies);
#endif
