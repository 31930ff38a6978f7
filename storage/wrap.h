/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wrappers around a storage backend. Each is a backend itself and owns the one inside.
 *
 * All constructors: *take_inner is taken over (and zeroed) on success only; @out may be @take_inner.
 * @options may be NULL; zero members mean the default. @env NULL = hadb_env_host(); it and whatever
 * options point to outlive the wrapper. Return 0, HADB_EINVAL or HADB_ENOMEM. Any thread.
 *
 * The usual order, from the outside in: prefix, retry, limit, breaker, trace, backend: the limit sees each try, and
 * a try that waits for its turn to be repeated holds no place.
 *
 * All have the asynchronous path (hadb_storage_submit, _fd, _drive) where the backend inside has it, with the rules of
 * the blocking methods, which may run beside it and share its state. A submit that the backend refuses with HADB_EBUSY
 * is not repeated: like HADB_ENOTSUP, at submit or at done, it asks for the blocking method.
 */
#ifndef HADB_STORAGE_WRAP_H
#define HADB_STORAGE_WRAP_H
#include "storage/counters.h"

/*
 * with_retry: tries again after failures that are retryable and proven not applied: reads, and
 * writes that failed with anything but HADB_ETIMEDOUT. A write of unknown outcome is never sent
 * again from here (protocol.md 4.5). Waits are exponential with full jitter; a wait that would pass
 * the deadline is not begun, the last failure is returned instead.
 */
struct hadb_retry_options {
    uint32_t tries_max;   /* 0 = 5; the first try counts */
    uint32_t wait_ms_min; /* 0 = 10; bound of the first wait; doubles with each try */
    uint32_t wait_ms_max; /* 0 = 2000 */
    /* NULL = hadb_sleep_ms; for tests with a clock of their own */
    void (*sleep)(void *arg, uint64_t ms, const struct hadb_call *call);
    void *sleep_arg;
};
int hadb_storage_with_retry(struct hadb_storage *take_inner,
                            const struct hadb_retry_options *options, const struct hadb_env *env,
                            struct hadb_storage *out, struct hadb_error *err);

/*
 * with_breaker: after failures_max failures in a row (those that say that the store is in trouble: retryable
 * or unknown) all calls fail at once with HADB_EUNAVAIL, nothing sent. After open_ms on env's
 * boot-time clock exactly one call is let through as a probe: its success closes the breaker, its failure
 * opens it anew. One that has no answer after HADB_BREAKER_PROBE_MS_MAX is followed by another.
 */
#define HADB_BREAKER_PROBE_MS_MAX 1000u
struct hadb_breaker_options {
    uint32_t failures_max; /* 0 = 8 */
    uint32_t open_ms;      /* 0 = 1000 */
};
enum hadb_breaker_state { HADB_BREAKER_CLOSED, HADB_BREAKER_OPEN, HADB_BREAKER_HALF_OPEN };
int hadb_storage_with_breaker(struct hadb_storage *take_inner,
                              const struct hadb_breaker_options *options,
                              const struct hadb_env *env, struct hadb_storage *out,
                              struct hadb_error *err);
/* State of a breaker; @storage must be one. */
enum hadb_breaker_state hadb_storage_breaker_state(const struct hadb_storage *storage);

/*
 * with_prefix: every key gets "PREFIX/" in front, listings lose it again. @prefix follows the rules
 * of a key, at most HADB_STORAGE_PREFIX_BYTES_MAX bytes. A key that gets too long is HADB_EINVAL.
 */
#define HADB_STORAGE_PREFIX_BYTES_MAX 512u
int hadb_storage_with_prefix(struct hadb_storage *take_inner, const char *prefix,
                             const struct hadb_env *env, struct hadb_storage *out,
                             struct hadb_error *err);

/*
 * with_trace: the only source of hop 6 events: one env->trace "create" per create that was done.
 * Every request is a log line of level trace, and is added to @counters (may be NULL; read it
 * with hadb_storage_counters_read at any time).
 */
int hadb_storage_with_trace(struct hadb_storage *take_inner, struct hadb_storage_counters *counters,
                            const struct hadb_env *env, struct hadb_storage *out,
                            struct hadb_error *err);

/*
 * with_limit: at most running_max requests at a time, at most waiting_max waiting in order of
 * arrival; beyond that HADB_EBUSY at once, nothing sent. A waiting request leaves at its deadline (reads:
 * HADB_ETIMEDOUT, writes: HADB_EUNAVAIL, surely not done) or when cancelled. A store that answers 503 or 429
 * halves the number that may run; it grows back by one for as many answers as may run.
 */
struct hadb_limit_options {
    uint32_t running_max; /* 0 = 32 */
    uint32_t waiting_max; /* 0 = 1024 */
};
int hadb_storage_with_limit(struct hadb_storage *take_inner,
                            const struct hadb_limit_options *options, const struct hadb_env *env,
                            struct hadb_storage *out, struct hadb_error *err);
/* Requests that wait at this moment, and how many may run; @storage must be a limit. */
uint32_t hadb_storage_limit_waiting(const struct hadb_storage *storage);
uint32_t hadb_storage_limit_room(const struct hadb_storage *storage);
#endif
