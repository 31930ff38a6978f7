/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the examination of a storage and a lease store: asks, times, judges, recommends.
 *
 * Thread: the caller's, and those of the probes, joined.
 * Invariants: the first request to a store is a read, so that one that cannot be reached, or is not what it is taken for,
 * is not written to; nothing that was found makes the run itself fail; no secret gets into the report.
 * Happy path: storage: read, measure, probe at full measure; lease: probe; then estimate and settings.
 * Failure modes: a store that cannot be asked has .err; HADB_EINVAL for options; HADB_ENOMEM.
 */
#include "node/doctor.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/url.h"
#include "storage/probe_measure.h"
#include "storage/wrap.h"

#define STORAGE_PREFIX "probe"
#define LEASE_PREFIX "doctor"
#define REACH_MS \
    20000u /* of the first request: longer than the usual limits of connecting and idling */
#define REMOVE_MS 10000u
#define TTL_DEFAULT_MS 5000u /* a node's, where no lease store was measured */
#define CLOCK_S_MAX 60       /* a difference that is worth a note */

struct doctor {
    const struct hadb_doctor_options *options;
    const struct hadb_env *env;
    struct hadb_doctor_report *out;
    uint32_t create_p50_us, renew_p99_us;
};

const char *hadb_doctor_status_name(enum hadb_doctor_status status)
{
    static const char *const names[] = {
        [HADB_DOCTOR_NOT_RUN] = "not_run",
        [HADB_DOCTOR_PASSED] = "passed",
        [HADB_DOCTOR_FAILED] = "failed",
        [HADB_DOCTOR_NOTED] = "noted",
    };
    return (size_t)status < HADB_LEN(names) ? names[status] : "unknown";
}

/* One more check; @words may be NULL. */
HADB_PRINTF(5, 6)
static void add_check(struct hadb_doctor_store *store, const char *name,
                      enum hadb_doctor_status status, const struct hadb__doctor_words *words,
                      const char *fmt, ...)
{
    HADB_ASSERT(store->checks_len < HADB_DOCTOR_CHECKS_MAX);
    struct hadb_doctor_check *check = &store->checks[store->checks_len++];
    bool said = words && (status == HADB_DOCTOR_FAILED || status == HADB_DOCTOR_NOTED);
    *check = (struct hadb_doctor_check){
        .name = name,
        .status = status,
        .means = said && words->means ? words->means : "",
        .remedy = said && words->remedy ? words->remedy : "",
    };
    va_list args;
    va_start(args, fmt);
    vsnprintf(check->text, sizeof(check->text), fmt, args);
    va_end(args);
}

static void add_latency(struct hadb_doctor_store *store, const char *name,
                        struct hadb_samples *samples)
{
    HADB_ASSERT(store->latencies_len < HADB_DOCTOR_LATENCIES_MAX);
    if (samples->len > 0) {
        store->latencies[store->latencies_len++] = (struct hadb_doctor_latency){
            .name = name,
            .count = (uint32_t)samples->len,
            .p50_us = hadb_samples_percentile(samples, 50),
            .p99_us = hadb_samples_percentile(samples, 99),
            .max_us = hadb_samples_percentile(samples, 100),
        };
    }
}

/* --- storage ------------------------------------------------------------------------------------ */

/* Is anybody there, and is it what the URL says? One read, of a key that nobody writes. */
static int reach(struct doctor *d, struct hadb_storage *storage, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    struct hadb_call call = hadb_call_within(d->env, REACH_MS);
    call.cancel = d->options->cancel;
    int r = hadb_storage_get(storage, &call, STORAGE_PREFIX "/nothing", &bytes, NULL, err);
    return HADB_MIN(r, 0);
}

static void note_storage_checks(struct hadb_doctor_store *store,
                                const struct hadb_probe_result *result)
{
    static const enum hadb_doctor_status statuses[] = {
        [HADB_PROBE_NOT_RUN] = HADB_DOCTOR_NOT_RUN,
        [HADB_PROBE_PASSED] = HADB_DOCTOR_PASSED,
        [HADB_PROBE_FAILED] = HADB_DOCTOR_FAILED,
        [HADB_PROBE_RECORDED] = HADB_DOCTOR_NOTED,
    };
    for (size_t i = 0; i < HADB_PROBE_LEN; i++) {
        enum hadb_probe_check check = (enum hadb_probe_check)i;
        const char *text = result->checks[i].text;
        bool fine = strncmp(text, "refused", 7) != 0;
        add_check(store, hadb_probe_check_name(check), statuses[result->checks[i].status],
                  check == HADB_PROBE_DELETE && fine ? NULL : hadb__doctor_storage_words(check),
                  "%s", text);
    }
}

/* What is no promise of the contract, but a user has to know. */
static void note_storage_facts(struct hadb_doctor_store *store,
                               const struct hadb_probe_latencies *latencies)
{
    static const struct hadb__doctor_words list = {
        "a node has to list the log once before it leads, to see that nothing is missing: no node "
        "leads",
        "allow s3:ListBucket on the bucket",
    };
    static const struct hadb__doctor_words lasts = {
        "", "for anything but tests use storage outside of the process: file:, s3:"};
    static const struct hadb__doctor_words clock = {
        "", "set the clocks (NTP); requests are signed with the store's time meanwhile"};
    const struct hadb_error *refused = &latencies->refused[HADB_PROBE_TIMED_LIST];
    bool kept = (store->caps & HADB_STORAGE_CAP_DURABLE) && (store->caps & HADB_STORAGE_CAP_SHARED);
    add_check(store, "list", refused->code ? HADB_DOCTOR_FAILED : HADB_DOCTOR_PASSED, &list, "%s",
              refused->code ? refused->message : "keys can be listed");
    add_check(store, "lasting", kept ? HADB_DOCTOR_PASSED : HADB_DOCTOR_NOTED, &lasts, "%s",
              kept ? "outlives the process, other processes see it"
                   : "ends with the process, or is seen by it alone");
    if (store->usage.clock_known) {
        long long offset = (long long)store->usage.clock_offset_s;
        bool far = offset > CLOCK_S_MAX || offset < -CLOCK_S_MAX;
        add_check(store, "clock", far ? HADB_DOCTOR_NOTED : HADB_DOCTOR_PASSED, &clock,
                  "the store's clock is %lld s %s ours", llabs(offset),
                  offset < 0 ? "behind" : "ahead of");
    }
}

static int measure_storage(struct doctor *d, struct hadb_storage *storage,
                           struct hadb_probe_latencies *latencies, struct hadb_error *err)
{
    struct hadb_doctor_store *store = &d->out->storage;
    struct hadb_probe_measure_options options = {.rounds = d->options->rounds,
                                                 .limit_ms = d->options->limit_ms,
                                                 .cancel = d->options->cancel};
    int r = hadb_probe_measure(storage, STORAGE_PREFIX, &options, d->env, latencies, err);
    for (size_t i = 0; i < HADB_PROBE_TIMED_LEN; i++) {
        add_latency(store, hadb_probe_timed_name((enum hadb_probe_timed)i), &latencies->of[i]);
    }
    d->create_p50_us = hadb_samples_percentile(&latencies->of[HADB_PROBE_TIMED_CREATE], 50);
    memcpy(store->left, latencies->left, sizeof(store->left));
    return hadb_wrap(err, r, "measuring");
}

static int probe_storage(struct doctor *d, struct hadb_storage *storage,
                         struct hadb_probe_result *result, struct hadb_error *err)
{
    struct hadb_doctor_store *store = &d->out->storage;
    struct hadb_samples race = {0};
    struct hadb_probe_options options = HADB_PROBE_OPTIONS_FULL;
    options.limit_ms = d->options->limit_ms;
    options.cancel = d->options->cancel;
    options.race_samples = &race;
    int r = hadb_probe_run(storage, STORAGE_PREFIX, &options, d->env, result, err);
    add_latency(store, "race", &race);
    hadb_samples_deinit(&race);
    return r;
}

static int ask_storage(struct doctor *d, struct hadb_storage *storage, struct hadb_error *err)
{
    struct hadb_doctor_store *store = &d->out->storage;
    struct hadb_probe_latencies latencies = {0};
    struct hadb_probe_result result = {0};
    store->caps = hadb_storage_caps(storage);
    int r = reach(d, storage, err);
    if (r == 0) {
        snprintf(store->wrote, sizeof(store->wrote), "%s/run-", STORAGE_PREFIX);
        r = measure_storage(d, storage, &latencies, err);
    }
    if (r == 0) { /* as nodes do: what is asked to slow down asks again */
        r = hadb_storage_with_retry(storage, NULL, d->env, storage, err);
    }
    r = r ? r : probe_storage(d, storage, &result, err);
    if (r == 0) {
        hadb_storage_usage(storage, &store->usage);
        note_storage_checks(store, &result);
        note_storage_facts(store, &latencies);
        memcpy(store->left, result.left[0] ? result.left : store->left, sizeof(store->left));
    }
    hadb_probe_latencies_deinit(&latencies);
    return r;
}

static void examine_storage(struct doctor *d)
{
    struct hadb_doctor_store *store = &d->out->storage;
    struct hadb_storage storage = {0};
    const char *url = d->options->storage_url;
    if (!url) {
        return;
    }
    store->examined = true;
    store->priced = strncmp(url, "s3:", 3) == 0;
    hadb_url_redact(url, store->url, sizeof(store->url));
    struct hadb_error err = {0};
    int r = hadb_storage_open(url, d->env, &storage, &err);
    r = r ? r : ask_storage(d, &storage, &err);
    if (r) {
        store->err = err;
        hadb_storage_usage(&storage, &store->usage);
    }
    hadb_storage_close(&storage);
}

/* --- the lease store ---------------------------------------------------------------------------- */

/* Where the records are objects of a storage they can be removed as such. */
static void remove_records(struct doctor *d, struct hadb_doctor_store *store)
{
    struct hadb_storage storage = {0};
    struct hadb_error err;
    char keys[HADB_LEASE_PROBE_KEYS][sizeof(store->left) + 16];
    const char *names[HADB_LEASE_PROBE_KEYS];
    if (!store->priced || store->left[0] == '\0' ||
        hadb_storage_open(d->options->lease_url, d->env, &storage, &err)) {
        return;
    }
    for (unsigned i = 0; i < HADB_LEASE_PROBE_KEYS; i++) {
        snprintf(keys[i], sizeof(keys[i]), "%s%u", store->left, i);
        names[i] = keys[i];
    }
    struct hadb_call call = hadb_call_within(d->env, REMOVE_MS);
    if (hadb_storage_delete_many(&storage, &call, names, HADB_LEASE_PROBE_KEYS, &err) == 0) {
        store->left[0] = '\0';
    }
    hadb_storage_close(&storage);
}

static void note_lease_checks(struct doctor *d, const struct hadb_lease_probe_result *result)
{
    static const struct hadb__doctor_words ttl = {
        "costs time, never an acknowledged write: living nodes lose their lease, and are replaced",
        "use a longer --ttl-ms"};
    struct hadb_doctor_store *store = &d->out->lease;
    uint32_t given = d->options->workload.ttl_ms;
    for (size_t i = 0; i < HADB_LEASE_PROBE_LEN; i++) {
        enum hadb_lease_probe_check check = (enum hadb_lease_probe_check)i;
        add_check(store, hadb_lease_probe_check_name(check), result->checks[i].status,
                  hadb__doctor_lease_words(check), "%s", result->checks[i].text);
    }
    if (given > 0) {
        uint32_t min = hadb__doctor_ttl_ms_min(d->renew_p99_us);
        add_check(store, "ttl", given < min ? HADB_DOCTOR_FAILED : HADB_DOCTOR_PASSED, &ttl,
                  "a renewal may take a fifth of %u ms; p99 is %u.%03u ms", given,
                  d->renew_p99_us / 1000, d->renew_p99_us % 1000);
    }
}

static int ask_lease(struct doctor *d, struct hadb_lease *lease, struct hadb_error *err)
{
    struct hadb_doctor_store *store = &d->out->lease;
    struct hadb_lease_probe_result result = {0};
    struct hadb_lease_probe_options options = {.rounds = d->options->rounds,
                                               .limit_ms = d->options->limit_ms,
                                               .cancel = d->options->cancel};
    int r = hadb_lease_probe_run(lease, LEASE_PREFIX, &options, d->env, &result, err);
    for (size_t i = 0; i < HADB_LEASE_PROBE_TIMED_LEN; i++) {
        add_latency(store, hadb_lease_probe_timed_name((enum hadb_lease_probe_timed)i),
                    &result.of[i]);
    }
    d->renew_p99_us = hadb_samples_percentile(&result.of[HADB_LEASE_PROBE_TIMED_RENEW], 99);
    snprintf(store->left, sizeof(store->left), "%s", result.left);
    snprintf(store->wrote, sizeof(store->wrote), "%s", result.left);
    if (r == 0) {
        note_lease_checks(d, &result);
    }
    hadb_lease_probe_result_deinit(&result);
    return r;
}

static void examine_lease(struct doctor *d)
{
    struct hadb_doctor_store *store = &d->out->lease;
    struct hadb_lease lease = {0};
    const char *url = d->options->lease_url;
    if (!url) {
        return;
    }
    store->examined = true;
    store->priced = strncmp(url, "s3:", 3) == 0;
    hadb_url_redact(url, store->url, sizeof(store->url));
    struct hadb_error err = {0};
    int r = hadb_lease_open(url, d->env, &lease, &err);
    r = r ? r : ask_lease(d, &lease, &err);
    if (r) {
        store->err = err;
    }
    hadb_lease_close(&lease);
    remove_records(d, store);
}

/* --- all of it ---------------------------------------------------------------------------------- */

static bool is_fine(const struct hadb_doctor_store *store)
{
    bool fine = store->err.code == 0;
    for (size_t i = 0; i < store->checks_len; i++) {
        fine = fine && store->checks[i].status != HADB_DOCTOR_FAILED;
    }
    return fine;
}

static void recommend(struct doctor *d)
{
    struct hadb_doctor_report *out = d->out;
    struct hadb_doctor_workload workload = d->options->workload;
    bool measured = d->renew_p99_us > 0;
    out->ttl_ms_min = hadb__doctor_ttl_ms_min(d->renew_p99_us);
    out->ttl_ms =
        measured ? hadb__doctor_ttl_ms(d->renew_p99_us, out->lease.priced) : TTL_DEFAULT_MS;
    out->window = hadb__doctor_window(d->create_p50_us);
    workload.ttl_ms = workload.ttl_ms ? workload.ttl_ms : out->ttl_ms;
    hadb__doctor_estimate(&workload, out->storage.priced, out->lease.priced, &out->estimate);
    out->passed = is_fine(&out->storage) && is_fine(&out->lease);
}

static int check_options(const struct hadb_doctor_options *o, struct hadb_error *err)
{
    if (o->abi != HADB_DOCTOR_ABI) {
        return hadb_fail(err, HADB_EINVAL, "doctor options have abi %u, not %u", o->abi,
                         HADB_DOCTOR_ABI);
    }
    if (!o->storage_url && !o->lease_url) {
        return hadb_fail(err, HADB_EINVAL, "name a storage, a lease store, or both");
    }
    if (o->rounds > HADB_DOCTOR_ROUNDS_MAX) {
        return hadb_fail(err, HADB_EINVAL, "at most %u rounds", HADB_DOCTOR_ROUNDS_MAX);
    }
    return 0;
}

int hadb_doctor_run(const struct hadb_doctor_options *options, struct hadb_doctor_report *out,
                    struct hadb_error *err)
{
    int r = options && out ? check_options(options, err) : hadb_fail_misuse(err, __func__);
    if (r) {
        return r;
    }
    *out = (struct hadb_doctor_report){0};
    struct doctor d = {.options = options, .env = hadb_env_or_host(options->env), .out = out};
    examine_storage(&d);
    examine_lease(&d);
    recommend(&d);
    bool no_memory = out->storage.err.code == HADB_ENOMEM || out->lease.err.code == HADB_ENOMEM;
    return no_memory ? hadb_fail_nomem(err) : 0;
}
