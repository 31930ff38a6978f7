/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does a lease store keep the promises of include/hadb/lease.h, and how long do its answers take? For `hadb doctor`.
 *
 * Nodes do not ask: a lease store that fails costs time, never an acknowledged write (protocol.md 4.6).
 */
#ifndef HADB_LEASE_PROBE_H
#define HADB_LEASE_PROBE_H
#include "base/samples.h"
#include "hadb/doctor.h"
#include "hadb/lease.h"

#define HADB_LEASE_PROBE_RACERS_MAX 64u
#define HADB_LEASE_PROBE_ROUNDS_MAX 1000u
#define HADB_LEASE_PROBE_KEYS \
    3u /* records that a run makes, and leaves: nothing deletes a lease (4.14, I9) */
#define HADB_LEASE_PROBE_SWAPS 8u /* races of replaces, all of one record */

enum hadb_lease_probe_check {
    HADB_LEASE_PROBE_RACE,         /* of many first writes of one record exactly one wins */
    HADB_LEASE_PROBE_EXISTS,       /* a second first write is lost and changes nothing */
    HADB_LEASE_PROBE_STALE_TAG,    /* a write over an older tag is lost and changes nothing */
    HADB_LEASE_PROBE_FRESH_TAG,    /* equal bytes get a tag that was never there before */
    HADB_LEASE_PROBE_REPLACE_RACE, /* of many writes over one tag exactly one wins */
    HADB_LEASE_PROBE_ABSENT_TAG, /* a write over a tag to an absent record is lost, makes nothing */
    HADB_LEASE_PROBE_READ_AFTER, /* another thread reads what was written as soon as it is */
    HADB_LEASE_PROBE_LEN,
};

enum hadb_lease_probe_timed {
    HADB_LEASE_PROBE_TIMED_READ,
    HADB_LEASE_PROBE_TIMED_RENEW,   /* a write over the tag of now: what a node does every ttl/3 */
    HADB_LEASE_PROBE_TIMED_REFUSED, /* a first write of a record that is there */
    HADB_LEASE_PROBE_TIMED_RACE,    /* a write, one of many at the same time */
    HADB_LEASE_PROBE_TIMED_LEN,
};

struct hadb_lease_probe_result {
    struct {
        enum hadb_doctor_status status;
        char text[120]; /* one line for people */
    } checks[HADB_LEASE_PROBE_LEN];
    struct hadb_samples of[HADB_LEASE_PROBE_TIMED_LEN];
    char left[64]; /* the beginning of the records that it made; "" = none */
};

/* Zero members mean the default. */
struct hadb_lease_probe_options {
    uint32_t racers;                  /* 0 = 16; up to 64 */
    uint32_t rounds;                  /* 0 = 100; renewals that are timed; up to 1000 */
    uint32_t limit_ms;                /* 0 = 60000; for all of it */
    const struct hadb_cancel *cancel; /* may be NULL */
};

const char *hadb_lease_probe_check_name(enum hadb_lease_probe_check check); /* "race", …: static */
const char *hadb_lease_probe_timed_name(enum hadb_lease_probe_timed timed); /* "read", …: static */

/*
 * Runs all checks on the records "@prefix/run-<random>-…", whatever fails.
 *
 * Returns    0 with a verdict; HADB_EINVAL; HADB_EIO, HADB_EAUTH, HADB_EUNAVAIL, HADB_ETIMEDOUT, …: the store could not
 *            be asked; HADB_ENOMEM. The caller frees @result in every case.
 * Threads    any; starts up to racers threads and joins them; blocks
 */
int hadb_lease_probe_run(struct hadb_lease *lease, const char *prefix,
                         const struct hadb_lease_probe_options *options, const struct hadb_env *env,
                         struct hadb_lease_probe_result *result, struct hadb_error *err);
void hadb_lease_probe_result_deinit(struct hadb_lease_probe_result *result);
#endif
