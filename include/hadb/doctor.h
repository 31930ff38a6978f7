/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Doctor: is a storage, is a lease store fit for a cluster, how fast is it, and what would it cost? Without any node.
 */
#ifndef HADB_DOCTOR_H
#define HADB_DOCTOR_H

#include "hadb/lease.h"
#include "hadb/storage.h"

HADB_BEGIN_DECLS

#define HADB_DOCTOR_ABI 1u
#define HADB_DOCTOR_CHECKS_MAX 16u
#define HADB_DOCTOR_LATENCIES_MAX 12u
#define HADB_DOCTOR_ROUNDS_MAX 1000u

enum hadb_doctor_status {
    HADB_DOCTOR_NOT_RUN,
    HADB_DOCTOR_PASSED,
    HADB_DOCTOR_FAILED,
    HADB_DOCTOR_NOTED, /* neither good nor bad, but to be known */
};

/** The cluster that the estimate is about. Zero means the default that is written beside a field. */
struct hadb_doctor_workload {
    uint32_t databases; /* that are written to all the time; 0 = 1. Idle ones cost nothing */
    uint32_t nodes;     /* 0 = 3 */
    uint32_t ttl_ms;    /* 0 = what is recommended from the measured latencies */
    uint32_t batch_interval_ms; /* between two log entries of a database; 0 = 1000 */
    uint32_t snapshot_slots;    /* log entries between two snapshots; 0 = 4096 */
};

struct hadb_doctor_options {
    uint32_t abi;            /* HADB_DOCTOR_ABI */
    const char *storage_url; /* NULL = not examined; one of the two is required */
    const char *lease_url;   /* NULL = not examined */
    struct hadb_doctor_workload workload;
    uint32_t rounds;   /* requests of each kind that are timed; 0 = 100 */
    uint32_t limit_ms; /* for each of the two probes and the measurement; 0 = 60 000 */
    const struct hadb_cancel *cancel; /* may be NULL */
    const struct hadb_env *env;       /* NULL = hadb_env_host() */
};
#define HADB_DOCTOR_OPTIONS_INIT {.abi = HADB_DOCTOR_ABI}

struct hadb_doctor_check {
    const char *name;   /* static, like the next two */
    const char *means;  /* what it means for data when it fails; "" unless it failed */
    const char *remedy; /* what to change then */
    enum hadb_doctor_status status;
    char text[240]; /* what was seen, one line */
};

struct hadb_doctor_latency {
    const char *name; /* static */
    uint32_t count;
    uint32_t p50_us, p99_us, max_us; /* nearest rank: p99 of fewer than 100 is the largest */
};

/** What was found out about the storage, or about the lease store. */
struct hadb_doctor_store {
    bool examined;         /* its URL was given */
    char url[512];         /* without user info and secrets */
    struct hadb_error err; /* code 0 = it answered; else why it could not be asked to the end */
    struct hadb_doctor_check checks[HADB_DOCTOR_CHECKS_MAX];
    size_t checks_len;
    struct hadb_doctor_latency latencies[HADB_DOCTOR_LATENCIES_MAX];
    size_t latencies_len;
    uint32_t caps;  /* storage: HADB_STORAGE_CAP_* */
    bool priced;    /* requests to it are charged for, at HADB_PRICE_*: "s3:" */
    char wrote[80]; /* the beginning of the keys that the examination used; "" = none */
    char left[700]; /* the beginning of those that are still there; "" = all were removed */
    struct hadb_storage_usage usage; /* what the examination has sent; clock_known: its clock */
};

/** Requests of a month of 30 days, and their price (docs/doctor.md has the formula). */
struct hadb_doctor_estimate {
    struct hadb_doctor_workload workload; /* no zeros */
    uint64_t batches;                     /* log entries; one create each */
    uint64_t snapshots;                   /* each a handful of requests */
    uint64_t renewals;                    /* of the lease records of all nodes */
    uint64_t storage_puts, storage_gets;
    uint64_t lease_puts;
    uint64_t storage_cost_nusd; /* 10^-9 dollars; 0 unless storage is priced */
    uint64_t lease_cost_nusd;   /* 0 unless the lease store is priced */
};

struct hadb_doctor_report {
    bool passed; /* everything that was examined answered, and no check failed */
    struct hadb_doctor_store storage, lease;
    struct hadb_doctor_estimate estimate;
    uint32_t ttl_ms;     /* recommended */
    uint32_t ttl_ms_min; /* with less, renewals would miss their deadlines */
    uint32_t window;     /* recommended log slots in flight */
};

/**
 * Examine a storage and a lease store: the conformance probe at full measure, with races of many connections; the
 * time of single requests; an estimate of requests and cost; settings that fit. Writes below "probe/" in the storage
 * and "doctor/" in the lease store, and removes it: in a lease store that has no deletion, three empty records stay.
 *
 * Returns    0 with a report, whatever was found: also when a store could not be reached (report.storage.err)
 * Errors     HADB_EINVAL (options), HADB_ENOMEM
 * Threads    any thread; starts up to 64 threads and joins them; blocks, for minutes at most
 */
HADB_API int hadb_doctor_run(const struct hadb_doctor_options *options,
                             struct hadb_doctor_report *out, struct hadb_error *err);

/** "passed", …: static; "unknown" for another number. Returns it. Errors none. Threads any. */
HADB_API const char *hadb_doctor_status_name(enum hadb_doctor_status status);

HADB_END_DECLS
#endif
