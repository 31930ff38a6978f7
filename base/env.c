/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's clock, random source and log, and shorthands over any struct hadb_env.
 *
 * Thread: any; the host environment is constant.
 * Invariants: the only clock that decisions may use counts suspension (CLOCK_BOOTTIME); a missing member
 * of an environment means the host's; a log line is written in one piece.
 * Failure modes: a host without clock or random source is a broken invariant.
 */
#include "base/env.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"

#define LOG_LINE_BYTES_MAX 1024u
#define SLEEP_STEP_MS 5u /* how late a cancel may be noticed */

static struct timespec clock_now(clockid_t id)
{
    struct timespec ts;
    int r = clock_gettime(id, &ts);
    HADB_ASSERT(r == 0);
    return ts;
}

static uint64_t host_now_ms(void *arg)
{
    (void)arg;
    struct timespec ts = clock_now(CLOCK_BOOTTIME);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint64_t host_now_ns(void *arg)
{
    (void)arg;
    struct timespec ts = clock_now(CLOCK_BOOTTIME);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int64_t host_now_unix_ms(void *arg)
{
    (void)arg;
    struct timespec ts = clock_now(CLOCK_REALTIME);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void host_random(void *arg, void *out, size_t len)
{
    (void)arg;
    uint8_t *bytes = out;
    while (len > 0) {
        ssize_t got = getrandom(bytes, len, 0);
        if (got < 0) {
            HADB_ASSERT(errno == EINTR);
            continue;
        }
        bytes += got;
        len -= (size_t)got;
    }
}

static void host_log(void *arg, enum hadb_log_level level, const char *component,
                     const char *database, const char *text)
{
    (void)arg;
    static const char *const names[] = {"error", "warn ", "info ", "debug", "trace"};
    struct timespec ts = clock_now(CLOCK_REALTIME);
    struct tm tm;
    char when[32];
    if (!gmtime_r(&ts.tv_sec, &tm) || strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
        when[0] = '\0';
    }
    char line[LOG_LINE_BYTES_MAX + 256];
    int len = snprintf(line, sizeof line - 1, "%s.%03ldZ %s %s%s%s: %s", when, ts.tv_nsec / 1000000,
                       (size_t)level < HADB_LEN(names) ? names[level] : "?    ", component,
                       database ? "/" : "", database ? database : "", text);
    if (len < 0) {
        return;
    }
    size_t size = HADB_MIN((size_t)len, sizeof line - 2);
    line[size++] = '\n';
    /* One write, so that lines of several threads and processes do not mix. */
    ssize_t written = write(STDERR_FILENO, line, size);
    (void)written;
}

static const struct hadb_env host = {
    .now_ms = host_now_ms,
    .now_ns = host_now_ns,
    .now_unix_ms = host_now_unix_ms,
    .random = host_random,
    .log = host_log,
    .log_level = HADB_LOG_WARN,
};

const struct hadb_env *hadb_env_host(void)
{
    return &host;
}

const struct hadb_env *hadb_env_or_host(const struct hadb_env *env)
{
    return env ? env : &host;
}

uint64_t hadb_now_ms(const struct hadb_env *env)
{
    return env && env->now_ms ? env->now_ms(env->arg) : host_now_ms(NULL);
}

uint64_t hadb_now_ns(const struct hadb_env *env)
{
    return env && env->now_ns ? env->now_ns(env->arg) : host_now_ns(NULL);
}

int64_t hadb_now_unix_ms(const struct hadb_env *env)
{
    return env && env->now_unix_ms ? env->now_unix_ms(env->arg) : host_now_unix_ms(NULL);
}

void hadb_random(const struct hadb_env *env, void *out, size_t len)
{
    if (env && env->random) {
        env->random(env->arg, out, len);
    } else {
        host_random(NULL, out, len);
    }
}

void hadb_log(const struct hadb_env *env, enum hadb_log_level level, const char *component,
              const char *database, const char *fmt, ...)
{
    env = hadb_env_or_host(env);
    if (level > env->log_level) {
        return;
    }
    char text[LOG_LINE_BYTES_MAX];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (len < 0) {
        return;
    }
    for (char *c = text; *c; c++) {
        if ((unsigned char)*c < 0x20) {
            *c = ' '; /* a foreign line feed must not forge a second line */
        }
    }
    if (env->log) {
        env->log(env->arg, level, component, database, text);
    } else {
        host_log(NULL, level, component, database, text);
    }
}

void hadb_trace(const struct hadb_env *env, const struct hadb_trace_event *event)
{
    HADB_ASSERT(event->hop >= 1 && event->hop <= 8);
    if (env && env->trace) {
        env->trace(env->arg, event);
    }
}

struct hadb_call hadb_call_within(const struct hadb_env *env, uint64_t ms)
{
    uint64_t deadline = 0;
    if (__builtin_add_overflow(hadb_now_ms(env), ms, &deadline)) {
        deadline = UINT64_MAX;
    }
    /* 0 would mean "no deadline"; a virtual clock may stand at 0. */
    return (struct hadb_call){.deadline_ms = deadline ? deadline : 1};
}

bool hadb_call_cancelled(const struct hadb_call *call)
{
    /* Acquire: what the canceller wrote before setting the flag is visible to whoever sees it. */
    return call && call->cancel && __atomic_load_n(&call->cancel->flag, __ATOMIC_ACQUIRE) != 0;
}

uint64_t hadb_call_left_ms(const struct hadb_env *env, const struct hadb_call *call)
{
    if (!call || call->deadline_ms == 0) {
        return UINT64_MAX;
    }
    uint64_t now = hadb_now_ms(env);
    return call->deadline_ms > now ? call->deadline_ms - now : 0;
}

int hadb_call_check(const struct hadb_env *env, const struct hadb_call *call,
                    struct hadb_error *err)
{
    if (hadb_call_cancelled(call)) {
        return hadb_fail(err, HADB_ECANCELED, "cancelled before it started");
    }
    if (hadb_call_left_ms(env, call) == 0) {
        return hadb_fail(err, HADB_ETIMEDOUT, "deadline passed before it started");
    }
    return 0;
}

static void sleep_exactly(uint64_t ms)
{
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR) {
    }
}

void hadb_sleep_ms(uint64_t ms, const struct hadb_call *call)
{
    if (!call || !call->cancel) {
        sleep_exactly(ms);
        return;
    }
    uint64_t now = host_now_ms(NULL);
    uint64_t end = ms > UINT64_MAX - now ? UINT64_MAX : now + ms;
    while (now < end && !hadb_call_cancelled(call)) {
        sleep_exactly(HADB_MIN(end - now, SLEEP_STEP_MS));
        now = host_now_ms(NULL);
    }
}

int64_t hadb_process_id(void)
{
    return getpid();
}
