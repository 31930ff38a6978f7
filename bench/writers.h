/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Concurrent writers over HTTP that remember everything: what was acknowledged, when, and with which version.
 *
 * Every write creates a key of its own (?if_absent) under a request id of its own, and is sent again with the same id
 * after 503, 504 and lost connections, until its deadline. So
 *   - a key that is missing at the end although it was acknowledged was lost;
 *   - a retry that is answered 412 ran twice, since only this write makes this key; so did a key whose version at the end is
 *     not the one that was acknowledged.
 */
#ifndef HADB_BENCH_WRITERS_H
#define HADB_BENCH_WRITERS_H
#include "bench/cluster.h"
#include "bench/stats.h"

#define BENCH_WRITERS_MAX 64
#define BENCH_WRITE_MS 15000u  /* deadline of one write, retries included */
#define BENCH_ATTEMPT_MS 5000u /* of one attempt (Hadb-Deadline-Ms) */

enum bench_outcome { BENCH_UNDER_WAY, BENCH_ACKED, BENCH_FAILED, BENCH_TWICE };

struct bench_record {
    uint64_t term, txid; /* version that was acknowledged */
    uint8_t outcome;     /* enum bench_outcome */
};

struct bench_ack {
    uint64_t at_ns, term;
};

struct bench_writer {
    struct bench_writers *all;
    pthread_t thread;
    unsigned index;
    unsigned node; /* where it writes now */
    struct bench_http http;
    struct bench_record *records; /* index = number of the write */
    size_t records_len, records_cap;
};

struct bench_writers {
    struct bench_cluster *cluster; /* const */
    struct bench_writer list[BENCH_WRITERS_MAX];
    unsigned len;
    int stop; /* atomic */
    pthread_mutex_t mu;
    pthread_cond_t acked;
    struct bench_ack *acks; /* mu; in order of time */
    size_t acks_len, acks_cap;
    uint64_t retries, errors, twice; /* mu */
    char first_error[200];           /* mu */
};

void bench_writers_start(struct bench_writers *writers, struct bench_cluster *cluster,
                         unsigned len);
/* Lets writes under way finish; joins the threads. */
void bench_writers_stop(struct bench_writers *writers);
void bench_writers_deinit(struct bench_writers *writers);

/* Waits until @count acknowledgements of a later term than @term have come in; false after @timeout_ms. */
bool bench_writers_wait_term(struct bench_writers *writers, uint64_t term, size_t count,
                             uint64_t timeout_ms);
/* Waits for @count more acknowledgements from now on. */
bool bench_writers_wait_acks(struct bench_writers *writers, size_t count, uint64_t timeout_ms);
/* The longest time without any acknowledgement that touches from_ns..now, in milliseconds: from the last one before to the
 * first one after. */
double bench_writers_gap_ms(struct bench_writers *writers, uint64_t from_ns);
uint64_t bench_writers_acked(const struct bench_writers *writers);

/* What is in the database at the end, against what was acknowledged. */
struct bench_verdict {
    uint64_t lost;    /* acknowledged, and missing or with another value on at least one node */
    uint64_t doubled; /* applied twice */
    uint64_t foreign; /* keys that nobody wrote */
};
/* Deletes the first acknowledged write of writer 0 and repeats the second, behind the history's back. */
void bench_writers_spoil(struct bench_writers *writers);
/* Writers must be stopped and nodes agree. Reads every node. Keys that do not start with 'w' are skipped. */
void bench_writers_check(struct bench_writers *writers, struct bench_verdict *out);
#endif
