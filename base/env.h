/* SPDX-License-Identifier: Apache-2.0 */
/* Shorthands over struct hadb_env (clock, random, log, trace) and calls with a deadline. Any thread. */
#ifndef HADB_BASE_ENV_H
#define HADB_BASE_ENV_H
#include "base/util.h"
#include "hadb/env.h"

/* NULL becomes hadb_env_host(). */
const struct hadb_env *hadb_env_or_host(const struct hadb_env *env);
uint64_t hadb_now_ms(const struct hadb_env *env);
uint64_t hadb_now_ns(const struct hadb_env *env);
int64_t hadb_now_unix_ms(const struct hadb_env *env);
void hadb_random(const struct hadb_env *env, void *out, size_t len);
/* One line; @database may be NULL. Formats only if the level is on. */
void hadb_log(const struct hadb_env *env, enum hadb_log_level level, const char *component,
              const char *database, const char *fmt, ...) HADB_PRINTF(5, 6);
void hadb_trace(const struct hadb_env *env, const struct hadb_trace_event *event);

struct hadb_call hadb_call_within(const struct hadb_env *env, uint64_t ms); /* deadline now + ms */
bool hadb_call_cancelled(const struct hadb_call *call);
/* Milliseconds left, 0 when over; UINT64_MAX without a deadline. NULL call = no deadline. */
uint64_t hadb_call_left_ms(const struct hadb_env *env, const struct hadb_call *call);
/* 0, or HADB_ECANCELED / HADB_ETIMEDOUT with text when the call must not start any more. */
int hadb_call_check(const struct hadb_env *env, const struct hadb_call *call,
                    struct hadb_error *err);
/* Sleeps on the real clock; returns early when the call is cancelled. For wrappers and mem: latency. */
void hadb_sleep_ms(uint64_t ms, const struct hadb_call *call);
/* Of the process that calls: what holds threads or locks works in the process that made it alone. */
int64_t hadb_process_id(void);
#endif
