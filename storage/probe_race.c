/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the checks of the probe that need more than one thread: races of creators and replacers, and
 * reads in another thread than the write.
 *
 * Thread: the caller's and its own, all joined before a function returns. A gate brings them in step:
 * nobody starts a round before all have arrived, or somebody gave up.
 * Invariants: every racer of a round sends its own bytes; the object afterwards must hold the winner's.
 * Failure modes: a request that fails gives no verdict but the failure; threads that cannot be started too.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/gate.h"
#include "storage/probe_private.h"

/* --- races -------------------------------------------------------------------------------------- */

struct race {
    struct hadb__probe *p;
    const char *name;
    unsigned rounds;
    const struct hadb_tag *tags; /* per round: replace with this tag; NULL = create */
    struct hadb_gate gate;
};

struct racer {
    struct race *race;
    struct hadb_thread thread;
    struct hadb_error err; /* own thread until joined, like all below */
    int failure;           /* first failure; 0 = none */
    bool won[HADB_PROBE_KEYS_MAX];
    uint64_t took_us[HADB_PROBE_KEYS_MAX];
    char bodies[HADB_PROBE_KEYS_MAX][PROBE_BODY_BYTES];
};

static int one_attempt(struct racer *me, unsigned round)
{
    struct race *race = me->race;
    char key[PROBE_KEY_BYTES];
    hadb__probe_key(race->p, race->name, round, key);
    struct hadb_slice body = hadb_slice(me->bodies[round], PROBE_BODY_BYTES);
    uint64_t begin_ns = hadb_now_ns(race->p->env);
    int r = race->tags ? hadb_storage_replace(race->p->storage, &race->p->call, key, body,
                                              &race->tags[round], NULL, &me->err)
                       : hadb__probe_create(race->p, key, body, &me->err);
    me->took_us[round] = (hadb_now_ns(race->p->env) - begin_ns) / 1000;
    me->won[round] = r == 0;
    return HADB_MIN(r, 0);
}

static void run_racer(void *arg)
{
    struct racer *me = arg;
    for (unsigned round = 0; round < me->race->rounds; round++) {
        hadb__probe_body(me->race->p, me->bodies[round]);
        if (!hadb_gate_pass(&me->race->gate)) {
            return;
        }
        me->failure = one_attempt(me, round);
        if (me->failure) {
            hadb_gate_break(&me->race->gate);
            return;
        }
    }
}

/* Runs all rounds; 0 when every racer finished. */
static int run_race(struct race *race, struct racer *racers, struct hadb_error *err)
{
    unsigned racers_len = race->p->options.racers;
    int r = 0;
    hadb_gate_init(&race->gate, racers_len);
    for (unsigned i = 0; i < racers_len && r == 0; i++) {
        racers[i].race = race;
        r = hadb_thread_start(&racers[i].thread, "hadb-probe", run_racer, &racers[i], err);
    }
    if (r) {
        hadb_gate_break(&race->gate);
    }
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

/* One winner per round, and its bytes are there. Notes the verdict. */
static int judge_race(struct race *race, struct racer *racers, enum hadb_probe_check check,
                      struct hadb_error *err)
{
    struct hadb__probe *p = race->p;
    for (unsigned round = 0; round < race->rounds; round++) {
        unsigned wins = 0, winner = 0;
        for (unsigned i = 0; i < p->options.racers; i++) {
            if (racers[i].won[round]) {
                wins++;
                winner = i;
            }
        }
        if (wins != 1) {
            hadb__probe_verdict(p, check, HADB_PROBE_FAILED,
                                "key %u of %u: %u of %u racers were told that they won", round + 1,
                                race->rounds, wins, p->options.racers);
            return 0;
        }
        bool same = false;
        char key[PROBE_KEY_BYTES];
        hadb__probe_key(p, race->name, round, key);
        int r = hadb__probe_same(p, key, hadb_slice(racers[winner].bodies[round], PROBE_BODY_BYTES),
                                 &same, NULL, err);
        if (r) {
            return r;
        }
        if (!same) {
            hadb__probe_verdict(p, check, HADB_PROBE_FAILED,
                                "key %u of %u does not hold the winner's bytes", round + 1,
                                race->rounds);
            return 0;
        }
    }
    hadb__probe_verdict(p, check, HADB_PROBE_PASSED,
                        "%u racers for each of %u keys, one winner each", p->options.racers,
                        race->rounds);
    return 0;
}

static int keep_samples(const struct race *race, const struct racer *racers)
{
    struct hadb_samples *out = race->p->options.race_samples;
    int r = 0;
    for (unsigned i = 0; out && r == 0 && i < race->p->options.racers * race->rounds; i++) {
        r = hadb_samples_add(out, racers[i / race->rounds].took_us[i % race->rounds]);
    }
    return r;
}

static int race_and_judge(struct race *race, enum hadb_probe_check check, struct hadb_error *err)
{
    struct racer *racers = hadb_calloc(race->p->options.racers, sizeof(*racers));
    if (!racers) {
        return hadb_fail_nomem(err);
    }
    int r = run_race(race, racers, err);
    if (r == 0 && keep_samples(race, racers)) {
        r = hadb_fail_nomem(err);
    }
    if (r == 0) {
        r = judge_race(race, racers, check, err);
    }
    hadb_free(racers);
    return r;
}

int hadb__probe_race(struct hadb__probe *p, struct hadb_error *err)
{
    struct race race = {.p = p, .name = "race", .rounds = p->options.keys};
    return race_and_judge(&race, HADB_PROBE_RACE, err);
}

int hadb__probe_replace_race(struct hadb__probe *p, struct hadb_error *err)
{
    struct hadb_tag tags[HADB_PROBE_KEYS_MAX];
    struct race race = {
        .p = p, .name = "swap", .rounds = HADB_MAX(p->options.keys / 4, 1u), .tags = tags};
    for (unsigned i = 0; i < race.rounds; i++) {
        char key[PROBE_KEY_BYTES];
        char body[PROBE_BODY_BYTES];
        bool same = false;
        hadb__probe_key(p, race.name, i, key);
        struct hadb_slice bytes = hadb__probe_body(p, body);
        int r = hadb__probe_create(p, key, bytes, err);
        if (r == 0) {
            r = hadb__probe_same(p, key, bytes, &same, &tags[i], err);
        }
        if (r < 0) {
            return r;
        }
        if (r > 0 || !same) {
            hadb__probe_verdict(p, HADB_PROBE_REPLACE_RACE, HADB_PROBE_FAILED,
                                "a new object did not come back");
            return 0;
        }
    }
    return race_and_judge(&race, HADB_PROBE_REPLACE_RACE, err);
}

/* --- reads in another thread -------------------------------------------------------------------- */

struct reading {
    struct hadb__probe *p;
    const char *name;
    bool absent_first; /* look before the object is there */
    unsigned missed;   /* reader until joined: objects that were not seen, or with other bytes */
    unsigned early;    /* reader until joined: objects that were there before they were made */
    char (*bodies)[PROBE_BODY_BYTES]; /* written before the gate, read after it */
    struct hadb_gate gate;
    struct hadb_error err; /* reader until joined */
    int failure;           /* reader until joined */
};

static int look_early(struct reading *reading, const char *key)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    struct hadb__probe *p = reading->p;
    int r = hadb_storage_get(p->storage, &p->call, key, &bytes, NULL, &reading->err);
    reading->early += r == 0;
    return HADB_MIN(r, 0);
}

static int look(struct reading *reading, const char *key, unsigned i)
{
    struct hadb__probe *p = reading->p;
    struct hadb_object_meta meta = {0};
    bool same = false;
    int r = hadb_storage_head(p->storage, &p->call, key, &meta, &reading->err);
    bool seen = r == 0 && meta.size_bytes == PROBE_BODY_BYTES;
    if (r >= 0) {
        r = hadb__probe_same(p, key, hadb_slice(reading->bodies[i], PROBE_BODY_BYTES), &same, NULL,
                             &reading->err);
    }
    reading->missed += r == 0 && !(same && seen);
    return r;
}

static void run_reader(void *arg)
{
    struct reading *reading = arg;
    char key[PROBE_KEY_BYTES];
    for (unsigned i = 0; i < reading->p->options.reads; i++) {
        hadb__probe_key(reading->p, reading->name, i, key);
        int r = reading->absent_first ? look_early(reading, key) : 0;
        if (r || !hadb_gate_pass(&reading->gate)) { /* now the other thread writes … */
            reading->failure = r;
            break;
        }
        if (!hadb_gate_pass(&reading->gate)) { /* … and has written */
            break;
        }
        reading->failure = look(reading, key, i);
        if (reading->failure) {
            break;
        }
    }
    hadb_gate_break(&reading->gate);
}

static int write_for_reader(struct reading *reading, struct hadb_error *err)
{
    struct hadb__probe *p = reading->p;
    char key[PROBE_KEY_BYTES];
    for (unsigned i = 0; i < p->options.reads; i++) {
        hadb__probe_key(p, reading->name, i, key);
        struct hadb_slice body = hadb__probe_body(p, reading->bodies[i]);
        if (!hadb_gate_pass(&reading->gate)) {
            return 0; /* the reader knows why */
        }
        int r = hadb__probe_create(p, key, body, err);
        if (r < 0) {
            return r;
        }
        if (!hadb_gate_pass(&reading->gate)) {
            return 0;
        }
    }
    return 0;
}

static int read_elsewhere(struct reading *reading, enum hadb_probe_check check,
                          struct hadb_error *err)
{
    struct hadb__probe *p = reading->p;
    struct hadb_thread thread = {0};
    reading->bodies = hadb_calloc(p->options.reads, sizeof(*reading->bodies));
    if (!reading->bodies) {
        return hadb_fail_nomem(err);
    }
    hadb_gate_init(&reading->gate, 2);
    int r = hadb_thread_start(&thread, "hadb-probe", run_reader, reading, err);
    if (r == 0) {
        r = write_for_reader(reading, err);
        if (r) {
            hadb_gate_break(&reading->gate);
        }
    }
    hadb_thread_join(&thread);
    hadb_gate_deinit(&reading->gate);
    hadb_free(reading->bodies);
    if (r == 0 && reading->failure) {
        r = reading->failure;
        if (err) {
            *err = reading->err;
        }
    }
    if (r) {
        return r;
    }
    unsigned bad = reading->missed + reading->early;
    hadb__probe_verdict(p, check, bad ? HADB_PROBE_FAILED : HADB_PROBE_PASSED,
                        "%u of %u objects were not seen by another thread right after create", bad,
                        p->options.reads);
    return 0;
}

int hadb__probe_read_after(struct hadb__probe *p, struct hadb_error *err)
{
    struct reading reading = {.p = p, .name = "read"};
    return read_elsewhere(&reading, HADB_PROBE_READ_AFTER, err);
}

int hadb__probe_absent_first(struct hadb__probe *p, struct hadb_error *err)
{
    struct reading reading = {.p = p, .name = "late", .absent_first = true};
    return read_elsewhere(&reading, HADB_PROBE_ABSENT_FIRST, err);
}
