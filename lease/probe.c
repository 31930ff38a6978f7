/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the probe of lease stores: every promise asked, one by one and in races, and the time of each answer.
 *
 * Thread: the caller's, and racers of its own, all joined before a function returns.
 * Invariants: record names carry a random run id; every racer of a round writes its own bytes, and the record
 * afterwards must hold the winner's. A request whose outcome is unknown gives no verdict but that failure.
 * Happy path: HADB_LEASE_PROBE_KEYS records are made in races, and rewritten by all other checks.
 * Failure modes: as in probe.h.
 */
#include "lease/probe.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/gate.h"
#include "base/hash.h"
#include "base/util.h"

#define KEY_BYTES 128u
#define BODY_BYTES 33u
#define PREFIX_BYTES_MAX 32u
#define EMPTY_MS 10000u
#define SAME_WRITES 5u /* of equal bytes, in a row */

struct probe {
    struct hadb_lease *lease;
    const struct hadb_env *env;
    struct hadb_call call;
    struct hadb_lease_probe_options options; /* no zeros */
    char base[KEY_BYTES - 32];
    struct hadb_tag tags[HADB_LEASE_PROBE_KEYS]; /* of the records, as of the last write here */
    struct hadb_lease_probe_result *result;
};

const char *hadb_lease_probe_check_name(enum hadb_lease_probe_check check)
{
    static const char *const names[HADB_LEASE_PROBE_LEN] = {
        [HADB_LEASE_PROBE_RACE] = "race",
        [HADB_LEASE_PROBE_EXISTS] = "exists",
        [HADB_LEASE_PROBE_STALE_TAG] = "stale_tag",
        [HADB_LEASE_PROBE_FRESH_TAG] = "fresh_tag",
        [HADB_LEASE_PROBE_REPLACE_RACE] = "replace_race",
        [HADB_LEASE_PROBE_ABSENT_TAG] = "absent_tag",
        [HADB_LEASE_PROBE_READ_AFTER] = "read_after",
    };
    HADB_ASSERT(check < HADB_LEASE_PROBE_LEN);
    return names[check];
}

const char *hadb_lease_probe_timed_name(enum hadb_lease_probe_timed timed)
{
    static const char *const names[HADB_LEASE_PROBE_TIMED_LEN] = {
        [HADB_LEASE_PROBE_TIMED_READ] = "read",
        [HADB_LEASE_PROBE_TIMED_RENEW] = "renew",
        [HADB_LEASE_PROBE_TIMED_REFUSED] = "create_refused",
        [HADB_LEASE_PROBE_TIMED_RACE] = "race",
    };
    HADB_ASSERT(timed < HADB_LEASE_PROBE_TIMED_LEN);
    return names[timed];
}

static void key_of(const struct probe *p, unsigned i, char out[KEY_BYTES])
{
    snprintf(out, KEY_BYTES, "%s-%u", p->base, i);
}

/* Bytes that no other call makes. */
static struct hadb_slice body_of(const struct probe *p, char out[BODY_BYTES])
{
    uint8_t random[(BODY_BYTES - 1) / 2];
    hadb_random(p->env, random, sizeof(random));
    hadb_hex_encode(random, sizeof(random), out);
    return hadb_slice(out, BODY_BYTES - 1);
}

HADB_PRINTF(4, 5)
static void verdict(struct probe *p, enum hadb_lease_probe_check check, bool passed,
                    const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(p->result->checks[check].text, sizeof(p->result->checks[check].text), fmt, args);
    va_end(args);
    p->result->checks[check].status = passed ? HADB_DOCTOR_PASSED : HADB_DOCTOR_FAILED;
}

static int took(struct probe *p, enum hadb_lease_probe_timed timed, uint64_t us, int r,
                struct hadb_error *err)
{
    return hadb_samples_add(&p->result->of[timed], us) ? hadb_fail_nomem(err) : r;
}

/* *same: the record is there, with these bytes and (unless it is NULL) this tag. 0 or a failure. */
static int look(struct probe *p, const char *key, struct hadb_slice body,
                const struct hadb_tag *tag, bool *same, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    struct hadb_tag now = {0};
    int r = hadb_lease_read(p->lease, &p->call, key, &bytes, &now, err);
    *same = r == 0 && hadb_slice_eq(hadb_buf_slice(&bytes), body) &&
            (!tag || strcmp(tag->s, now.s) == 0);
    return HADB_MIN(r, 0);
}

/* --- races -------------------------------------------------------------------------------------- */

struct race {
    struct probe *p;
    bool creates;
    unsigned rounds;
    struct hadb_gate gate;
};

struct racer {
    struct race *race;
    struct hadb_thread thread;
    struct hadb_error err; /* own thread until joined, like all below */
    int failure;
    bool won;
    uint64_t took_us;
    struct hadb_tag tag;
    char body[BODY_BYTES];
};

/* The record that a round is about: a new one for each race of creators, the first for all others. */
static unsigned record_of(const struct race *race, unsigned round)
{
    return race->creates ? round : 0;
}

static void run_racer(void *arg)
{
    struct racer *me = arg;
    struct probe *p = me->race->p;
    char key[KEY_BYTES];
    for (unsigned round = 0; round < me->race->rounds; round++) {
        unsigned record = record_of(me->race, round);
        key_of(p, record, key);
        if (!hadb_gate_pass(&me->race->gate)) { /* the judge has set the tag of the record … */
            return;
        }
        struct hadb_slice body = body_of(p, me->body);
        uint64_t begin_ns = hadb_now_ns(p->env);
        int r = hadb_lease_write_if_match(p->lease, &p->call, key, body,
                                          me->race->creates ? NULL : &p->tags[record], &me->tag,
                                          &me->err);
        me->took_us = (hadb_now_ns(p->env) - begin_ns) / 1000;
        me->won = r == 0;
        me->failure = HADB_MIN(r, 0);
        if (me->failure) {
            hadb_gate_break(&me->race->gate);
        }
        if (me->failure || !hadb_gate_pass(&me->race->gate)) { /* … and looks at what came of it */
            return;
        }
    }
}

/* One winner, and its bytes are there. The caller is the judge: all racers wait. *fair: so far; the first fault stays. */
static int judge_round(struct race *race, struct racer *racers, unsigned round, bool *fair,
                       struct hadb_error *err)
{
    struct probe *p = race->p;
    enum hadb_lease_probe_check check =
        race->creates ? HADB_LEASE_PROBE_RACE : HADB_LEASE_PROBE_REPLACE_RACE;
    unsigned wins = 0, winner = 0, record = record_of(race, round);
    char key[KEY_BYTES];
    bool same = false;
    int r = 0;
    for (unsigned i = 0; i < p->options.racers && r == 0; i++) {
        winner = racers[i].won ? i : winner;
        wins += racers[i].won;
        r = took(p, HADB_LEASE_PROBE_TIMED_RACE, racers[i].took_us, 0, err);
    }
    key_of(p, record, key);
    p->tags[record] = racers[winner].tag;
    r = r ? r
          : look(p, key, hadb_slice(racers[winner].body, BODY_BYTES - 1), &racers[winner].tag,
                 &same, err);
    bool first = *fair;
    *fair = *fair && wins == 1 && same;
    if (r || !first) {
        return r;
    }
    if (wins != 1) {
        verdict(p, check, false, "round %u: %u of %u racers were told that they won", round + 1,
                wins, p->options.racers);
    } else if (!same) {
        verdict(p, check, false, "round %u: the record does not hold the winner's bytes and tag",
                round + 1);
    }
    return r;
}

static int run_rounds(struct race *race, struct racer *racers, struct hadb_error *err)
{
    bool fair = true;
    int r = 0;
    for (unsigned round = 0; round < race->rounds && r == 0 && (fair || race->creates); round++) {
        if (!hadb_gate_pass(&race->gate) || !hadb_gate_pass(&race->gate)) {
            return 0; /* a racer knows why */
        }
        r = judge_round(race, racers, round, &fair, err);
    }
    if (r == 0 && fair) {
        verdict(race->p, race->creates ? HADB_LEASE_PROBE_RACE : HADB_LEASE_PROBE_REPLACE_RACE,
                true, "%u rounds of %u racers, one winner each", race->rounds,
                race->p->options.racers);
    }
    return r;
}

static int run_race(struct race *race, struct racer *racers, struct hadb_error *err)
{
    unsigned racers_len = race->p->options.racers;
    int r = 0;
    hadb_gate_init(&race->gate, racers_len + 1);
    for (unsigned i = 0; i < racers_len && r == 0; i++) {
        racers[i].race = race;
        r = hadb_thread_start(&racers[i].thread, "hadb-probe", run_racer, &racers[i], err);
    }
    r = r ? r : run_rounds(race, racers, err);
    hadb_gate_break(&race->gate);
    for (unsigned i = 0; i < racers_len; i++) {
        hadb_thread_join(&racers[i].thread);
    }
    hadb_gate_deinit(&race->gate);
    for (unsigned i = 0; i < racers_len && r == 0; i++) {
        r = racers[i].failure;
        if (r && err) {
            *err = racers[i].err;
        }
    }
    return r;
}

static int races(struct probe *p, bool creates, struct hadb_error *err)
{
    struct race race = {.p = p,
                        .creates = creates,
                        .rounds = creates ? HADB_LEASE_PROBE_KEYS : HADB_LEASE_PROBE_SWAPS};
    struct racer *racers = hadb_calloc(p->options.racers, sizeof(*racers));
    if (!racers) {
        return hadb_fail_nomem(err);
    }
    int r = run_race(&race, racers, err);
    hadb_free(racers);
    return r;
}

static int check_race(struct probe *p, struct hadb_error *err)
{
    return races(p, true, err);
}

/* After an unfair race the record may be anybody's: its tag is what a read says now. */
static int check_replace_race(struct probe *p, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    char key[KEY_BYTES];
    key_of(p, 0, key);
    int r = hadb_lease_read(p->lease, &p->call, key, &bytes, &p->tags[0], err);
    if (r == HADB_ABSENT) {
        verdict(p, HADB_LEASE_PROBE_REPLACE_RACE, false, "a record that was written is gone");
        return 0;
    }
    return r ? r : races(p, false, err);
}

/* --- one after the other ------------------------------------------------------------------------ */

static int check_exists(struct probe *p, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf before = {0};
    struct hadb_tag tag = {0};
    char key[KEY_BYTES], body[BODY_BYTES];
    bool same = false, refused = true;
    key_of(p, 0, key);
    int r = hadb_lease_read(p->lease, &p->call, key, &before, &tag, err);
    for (unsigned i = 0; i < p->options.rounds && r == 0 && refused; i++) {
        uint64_t begin_ns = hadb_now_ns(p->env);
        int w =
            hadb_lease_write_if_match(p->lease, &p->call, key, body_of(p, body), NULL, NULL, err);
        r = took(p, HADB_LEASE_PROBE_TIMED_REFUSED, (hadb_now_ns(p->env) - begin_ns) / 1000,
                 HADB_MIN(w, 0), err);
        refused = w == HADB_CAS_LOST;
    }
    r = r ? r : look(p, key, hadb_buf_slice(&before), &tag, &same, err);
    if (r >= 0) {
        verdict(p, HADB_LEASE_PROBE_EXISTS, r == 0 && refused && same, "%s",
                r          ? "a record that was written is gone"
                : !refused ? "a second first write was done"
                : !same    ? "a refused write changed the record"
                           : "the first bytes stay");
    }
    return HADB_MIN(r, 0);
}

static int check_stale_tag(struct probe *p, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    struct hadb_tag old = {0}, now = {0};
    char key[KEY_BYTES], one[BODY_BYTES], two[BODY_BYTES];
    struct hadb_slice mine = body_of(p, one);
    const char *fault = NULL;
    bool same = false;
    key_of(p, 1, key);
    int r = hadb_lease_read(p->lease, &p->call, key, &bytes, &old, err);
    if (r == HADB_ABSENT) {
        fault = "a record that was written is gone";
    }
    r = r || fault ? r : hadb_lease_write_if_match(p->lease, &p->call, key, mine, &old, &now, err);
    if (r == HADB_CAS_LOST) {
        fault = "the tag of now was refused";
    }
    if (r == 0) {
        r = hadb_lease_write_if_match(p->lease, &p->call, key, body_of(p, two), &old, NULL, err);
        fault = r == 0 ? "an outdated tag was accepted" : NULL;
        r = r < 0 ? r : look(p, key, mine, &now, &same, err);
        fault = fault || same ? fault : "a refused write changed the record";
    }
    if (r >= 0) {
        verdict(p, HADB_LEASE_PROBE_STALE_TAG, !fault, "%s",
                fault ? fault : "an outdated tag is refused");
    }
    return HADB_MIN(r, 0);
}

/* Renews as a node does, with equal bytes: no tag may come back. */
static int check_fresh_tag(struct probe *p, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    struct hadb_tag tags[SAME_WRITES + 1] = {0};
    char key[KEY_BYTES], body[BODY_BYTES];
    struct hadb_slice same = body_of(p, body);
    bool fresh = true;
    key_of(p, 1, key);
    int r = hadb_lease_read(p->lease, &p->call, key, &bytes, &tags[0], err);
    for (unsigned i = 0; i < SAME_WRITES && r == 0; i++) {
        r = hadb_lease_write_if_match(p->lease, &p->call, key, same, &tags[i], &tags[i + 1], err);
        for (unsigned k = 0; k <= i && r == 0; k++) {
            fresh = fresh && strcmp(tags[k].s, tags[i + 1].s) != 0;
        }
    }
    if (r >= 0) {
        verdict(p, HADB_LEASE_PROBE_FRESH_TAG, r == 0 && fresh, "%s",
                r        ? "the tag of now was refused"
                : !fresh ? "equal bytes brought an older tag back"
                         : "equal bytes get a new tag");
    }
    return HADB_MIN(r, 0);
}

static int check_absent_tag(struct probe *p, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    struct hadb_tag tag = {0};
    char key[KEY_BYTES], ghost[KEY_BYTES], body[BODY_BYTES];
    key_of(p, 1, key);
    key_of(p, HADB_LEASE_PROBE_KEYS, ghost);
    int r = hadb_lease_read(p->lease, &p->call, key, &bytes, &tag, err);
    if (r == 0) {
        r = hadb_lease_write_if_match(p->lease, &p->call, ghost, body_of(p, body), &tag, NULL, err);
    }
    bool refused = r == HADB_CAS_LOST;
    if (r >= 0) {
        r = hadb_lease_read(p->lease, &p->call, ghost, &bytes, &tag, err);
    }
    if (r >= 0) {
        verdict(p, HADB_LEASE_PROBE_ABSENT_TAG, refused && r == HADB_ABSENT, "%s",
                r == 0     ? "a record came to be by a write that needs an older one"
                : !refused ? "an absent record was replaced"
                           : "nothing to replace");
    }
    return HADB_MIN(r, 0);
}

/* --- written here, read elsewhere; renewals as nodes do them ---------------------------------------- */

struct reading {
    struct probe *p;
    struct hadb_gate gate;
    char body[BODY_BYTES];     /* written before the gate, read behind it */
    struct hadb_tag tag;       /* so is this */
    unsigned missed;           /* reader until joined, like all below */
    struct hadb_samples times; /* of reads */
    struct hadb_error err;
    int failure;
};

static void run_reader(void *arg)
{
    struct reading *reading = arg;
    struct probe *p = reading->p;
    char key[KEY_BYTES];
    key_of(p, 2, key);
    while (reading->failure == 0 && hadb_gate_pass(&reading->gate)) { /* it is written */
        bool same = false;
        uint64_t begin_ns = hadb_now_ns(p->env);
        int r = look(p, key, hadb_slice(reading->body, BODY_BYTES - 1), &reading->tag, &same,
                     &reading->err);
        uint64_t us = (hadb_now_ns(p->env) - begin_ns) / 1000;
        reading->missed += r == 0 && !same;
        if (r == 0 && hadb_samples_add(&reading->times, us)) {
            r = hadb_fail_nomem(&reading->err);
        }
        reading->failure = r;
        if (r || !hadb_gate_pass(&reading->gate)) { /* it is read */
            break;
        }
    }
    hadb_gate_break(&reading->gate);
}

/* *lost: somebody else is said to have written. */
static int renew(struct reading *reading, bool *lost, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    struct probe *p = reading->p;
    char key[KEY_BYTES];
    key_of(p, 2, key);
    int r = hadb_lease_read(p->lease, &p->call, key, &bytes, &reading->tag, err);
    for (unsigned i = 0; i < p->options.rounds && r == 0; i++) {
        struct hadb_tag before = reading->tag;
        uint64_t begin_ns = hadb_now_ns(p->env);
        r = hadb_lease_write_if_match(p->lease, &p->call, key, body_of(p, reading->body), &before,
                                      &reading->tag, err);
        uint64_t us = (hadb_now_ns(p->env) - begin_ns) / 1000;
        r = r ? r : took(p, HADB_LEASE_PROBE_TIMED_RENEW, us, 0, err);
        if (r || !hadb_gate_pass(&reading->gate) || !hadb_gate_pass(&reading->gate)) {
            break;
        }
    }
    *lost = r > 0;
    return HADB_MIN(r, 0);
}

static int check_read_after(struct probe *p, struct hadb_error *err)
{
    struct reading reading = {.p = p};
    struct hadb_thread thread = {0};
    bool lost = false;
    hadb_gate_init(&reading.gate, 2);
    int r = hadb_thread_start(&thread, "hadb-probe", run_reader, &reading, err);
    r = r ? r : renew(&reading, &lost, err);
    hadb_gate_break(&reading.gate);
    hadb_thread_join(&thread);
    hadb_gate_deinit(&reading.gate);
    if (r == 0 && reading.failure) {
        r = reading.failure;
        if (err) {
            *err = reading.err;
        }
    }
    p->result->of[HADB_LEASE_PROBE_TIMED_READ] = reading.times;
    if (r == 0) {
        verdict(p, HADB_LEASE_PROBE_READ_AFTER, !lost && reading.missed == 0,
                "%u of %u renewals were not seen by another thread at once%s", reading.missed,
                p->options.rounds, lost ? ", and the tag of now was refused" : "");
    }
    return r;
}

/* --- all of it ---------------------------------------------------------------------------------- */

static int run_checks(struct probe *p, struct hadb_error *err)
{
    static const struct {
        enum hadb_lease_probe_check check;
        int (*run)(struct probe *p, struct hadb_error *err);
    } checks[] = {
        {HADB_LEASE_PROBE_RACE, check_race},
        {HADB_LEASE_PROBE_EXISTS, check_exists},
        {HADB_LEASE_PROBE_STALE_TAG, check_stale_tag},
        {HADB_LEASE_PROBE_FRESH_TAG, check_fresh_tag},
        {HADB_LEASE_PROBE_REPLACE_RACE, check_replace_race},
        {HADB_LEASE_PROBE_ABSENT_TAG, check_absent_tag},
        {HADB_LEASE_PROBE_READ_AFTER, check_read_after},
    };
    for (size_t i = 0; i < HADB_LEN(checks); i++) {
        int r = checks[i].run(p, err);
        if (r) {
            return hadb_wrap(err, r, "check %s", hadb_lease_probe_check_name(checks[i].check));
        }
        HADB_ASSERT(p->result->checks[checks[i].check].status != HADB_DOCTOR_NOT_RUN);
    }
    return 0;
}

/* What stays is small. A store that fails its checks may refuse this as well. */
static void empty_records(struct probe *p)
{
    struct hadb_call call = hadb_call_within(p->env, EMPTY_MS);
    for (unsigned i = 0; i < HADB_LEASE_PROBE_KEYS; i++) {
        HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
        struct hadb_tag tag = {0};
        char key[KEY_BYTES];
        key_of(p, i, key);
        if (hadb_lease_read(p->lease, &call, key, &bytes, &tag, NULL) == 0) {
            (void)hadb_lease_write_if_match(p->lease, &call, key, (struct hadb_slice){0}, &tag,
                                            NULL, NULL);
        }
    }
}

/* The first question writes nothing, so that a store that cannot be reached is left alone. */
static int check_reachable(struct probe *p, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    struct hadb_tag tag = {0};
    char key[KEY_BYTES];
    key_of(p, 0, key);
    int r = hadb_lease_read(p->lease, &p->call, key, &bytes, &tag, err);
    return r == 0 ? hadb_fail(err, HADB_ECORRUPT, "a record that nobody wrote is there: %s", key)
                  : HADB_MIN(r, 0);
}

int hadb_lease_probe_run(struct hadb_lease *lease, const char *prefix,
                         const struct hadb_lease_probe_options *options, const struct hadb_env *env,
                         struct hadb_lease_probe_result *result, struct hadb_error *err)
{
    struct probe p = {.lease = lease, .env = hadb_env_or_host(env), .result = result};
    uint8_t random[8];
    char hex[2 * sizeof(random) + 1];
    *result = (struct hadb_lease_probe_result){0};
    p.options = options ? *options : (struct hadb_lease_probe_options){0};
    p.options.racers = p.options.racers ? p.options.racers : 16;
    p.options.rounds = p.options.rounds ? p.options.rounds : 100;
    p.options.limit_ms = p.options.limit_ms ? p.options.limit_ms : 60000;
    if (p.options.racers > HADB_LEASE_PROBE_RACERS_MAX ||
        p.options.rounds > HADB_LEASE_PROBE_ROUNDS_MAX || strlen(prefix) > PREFIX_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "options of the lease probe are over their limits");
    }
    hadb_random(p.env, random, sizeof(random));
    hadb_hex_encode(random, sizeof(random), hex);
    snprintf(p.base, sizeof(p.base), "%s/run-%s", prefix, hex);
    p.call = hadb_call_within(p.env, p.options.limit_ms);
    p.call.cancel = p.options.cancel;
    int r = check_reachable(&p, err);
    if (r) {
        return r;
    }
    snprintf(result->left, sizeof(result->left), "%.60s-", p.base);
    r = run_checks(&p, err);
    empty_records(&p);
    return r;
}

void hadb_lease_probe_result_deinit(struct hadb_lease_probe_result *result)
{
    for (size_t i = 0; i < HADB_LEN(result->of); i++) {
        hadb_samples_deinit(&result->of[i]);
    }
    *result = (struct hadb_lease_probe_result){0};
}
