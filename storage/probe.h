/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conformance probe (protocol.md 4.13): does a store keep the promises that leading rests on?
 *
 * A node runs it at its start, before it may lead, and keeps the passed result in the store itself.
 * A store that fails may still be read by followers.
 */
#ifndef HADB_STORAGE_PROBE_H
#define HADB_STORAGE_PROBE_H
#include "base/samples.h"
#include "hadb/storage.h"

#define HADB_PROBE_VERSION 1u /* of the checks and of the text form */
#define HADB_PROBE_TEXT_BYTES_MAX 4096u
#define HADB_PROBE_RACERS_MAX 64u
#define HADB_PROBE_KEYS_MAX 64u
#define HADB_PROBE_READS_MAX 1000u

enum hadb_probe_check {
    HADB_PROBE_RACE,   /* S1: of many creators of one key exactly one wins, its bytes stay */
    HADB_PROBE_EXISTS, /* S1: a second create says HADB_EXISTS and changes nothing */
    HADB_PROBE_STALE_TAG, /* S4: replace works with the tag of now, says HADB_CAS_LOST with an older one */
    HADB_PROBE_REPLACE_RACE, /* S4: of many replaces with one tag exactly one wins, its bytes stay */
    HADB_PROBE_ABSENT_TAG,   /* S4: replace of an absent key says HADB_CAS_LOST, makes nothing */
    HADB_PROBE_READ_AFTER,   /* S2: another thread sees an object as soon as create returned */
    HADB_PROBE_ABSENT_FIRST, /* S2: an earlier HADB_ABSENT is not remembered (negative cache) */
    HADB_PROBE_LARGE,        /* S3: a large body comes back whole */
    HADB_PROBE_SAME_BYTES,   /* recorded: does replacing by equal bytes change the tag? */
    HADB_PROBE_DELETE,       /* recorded: may be deleted, and is gone at once? */
    HADB_PROBE_LEN,
};

enum hadb_probe_status {
    HADB_PROBE_NOT_RUN,
    HADB_PROBE_PASSED,
    HADB_PROBE_FAILED,
    HADB_PROBE_RECORDED, /* neither good nor bad */
};

struct hadb_probe_result {
    bool may_lead; /* every check but the recorded ones passed */
    struct {
        enum hadb_probe_status status;
        char text[120]; /* one line for people */
    } checks[HADB_PROBE_LEN];
    int64_t at_unix_ms;
    uint64_t took_ms;
    char left[700]; /* the beginning of the keys that could not be removed; "" = none. Not kept */
};

/* Zero members mean the default, which suits a start: light, well under a second on a local folder. */
struct hadb_probe_options {
    uint32_t racers;      /* 0 = 8; threads that create one key at once; up to 64 */
    uint32_t keys;        /* 0 = 2; rounds of that race; up to 64 */
    uint32_t reads;       /* 0 = 2; objects written here and read in another thread; up to 1000 */
    uint32_t large_bytes; /* 0 = 1 MiB */
    uint32_t limit_ms;    /* 0 = 60000; for all of it */
    const struct hadb_cancel *cancel;  /* may be NULL */
    struct hadb_samples *race_samples; /* may be NULL: gets what each attempt in the races took */
};
/* The full measure of protocol.md 4.13, for a new remote store and once a day: seconds and money. */
#define HADB_PROBE_OPTIONS_FULL {.racers = 64, .keys = 20, .reads = 100, .large_bytes = 5u << 20}

/* "race", "exists", ...; "passed", ...: static. */
const char *hadb_probe_check_name(enum hadb_probe_check check);
const char *hadb_probe_status_name(enum hadb_probe_status status);

/*
 * Runs the checks below "@prefix/run-<random>-…" (@prefix follows the rules of a key, up to 512 bytes) and
 * removes what it wrote. All checks are run, whatever fails.
 *
 * Returns    0 with a verdict in *result
 * Errors     HADB_EINVAL; HADB_EIO, HADB_EAUTH, HADB_ETIMEDOUT, … : the store could not be asked, there is
 *            no verdict; HADB_ENOMEM
 * Threads    any; starts up to racers threads of its own and joins them; may block for limit_ms
 */
int hadb_probe_run(struct hadb_storage *storage, const char *prefix,
                   const struct hadb_probe_options *options, const struct hadb_env *env,
                   struct hadb_probe_result *result, struct hadb_error *err);

/*
 * Keeps a result at "@prefix/@version" (@version: what identifies the store and its release, by the rules of
 * a key part). Overwrites an older one by compare-and-swap. Returns 0 or a failure. May block. Any thread.
 */
int hadb_probe_store(struct hadb_storage *storage, const struct hadb_call *call, const char *prefix,
                     const char *version, const struct hadb_probe_result *result,
                     struct hadb_error *err);
/* Reads it back: 0, HADB_ABSENT (also when it is of another HADB_PROBE_VERSION), HADB_ECORRUPT, … */
int hadb_probe_load(struct hadb_storage *storage, const struct hadb_call *call, const char *prefix,
                    const char *version, struct hadb_probe_result *result, struct hadb_error *err);

/* Text form: a line "hadb-probe VERSION", then "name value" lines. Appends to @out. 0 or HADB_ENOMEM. */
int hadb_probe_encode(const struct hadb_probe_result *result, struct hadb_buf *out);
/* 0, HADB_EVERSION, HADB_ECORRUPT, HADB_ETOOBIG. */
int hadb_probe_decode(struct hadb_slice text, struct hadb_probe_result *result,
                      struct hadb_error *err);
#endif
