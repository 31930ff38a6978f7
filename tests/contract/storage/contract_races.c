/* SPDX-License-Identifier: Apache-2.0 */
/* The contract of StorageBackend under many callers: races have one winner, readers see whole objects. */
#include <pthread.h>

#include "base/thread.h"
#include "tests/contract/storage/contract.h"

enum { RACERS = 64, ROUNDS = 20, COUNTERS = 8, COUNTS = 10 };

struct racer {
    struct fixture *f;
    struct hadb_thread thread;
    unsigned id;
    struct hadb_mutex *start;
    pthread_barrier_t *round;
    bool won[ROUNDS];
    unsigned bad; /* results or bodies that the contract does not allow */
};

static void run_racers(struct fixture *f, struct racer *racers, size_t len, void (*fn)(void *))
{
    struct hadb_mutex start; /* held until all threads wait for it */
    pthread_barrier_t round;
    assert_int_equal(pthread_barrier_init(&round, NULL, (unsigned)len), 0);
    hadb_mutex_init(&start, 0);
    hadb_mutex_lock(&start);
    for (size_t i = 0; i < len; i++) {
        racers[i] = (struct racer){.f = f, .id = (unsigned)i, .start = &start, .round = &round};
        assert_done(f, hadb_thread_start(&racers[i].thread, "racer", fn, &racers[i], &f->err));
    }
    hadb_mutex_unlock(&start);
    unsigned bad = 0;
    for (size_t i = 0; i < len; i++) {
        hadb_thread_join(&racers[i].thread);
        bad += racers[i].bad;
    }
    hadb_mutex_deinit(&start);
    pthread_barrier_destroy(&round);
    assert_int_equal(bad, 0);
}

static void await_start(struct racer *me)
{
    hadb_mutex_lock(me->start);
    hadb_mutex_unlock(me->start);
}

/* All at once in each round; every other one through a handle of its own, as another node would. */
static void race_creates(void *arg)
{
    struct racer *me = arg;
    struct hadb_storage own = {0};
    bool shares = me->id % 2 == 0;
    if (!shares) {
        storage_world_open(me->f->world, &own);
    }
    for (unsigned k = 0; k < ROUNDS; k++) {
        char key[32], body[32];
        snprintf(key, sizeof(key), "race/%u", k);
        snprintf(body, sizeof(body), "racer %u", me->id);
        pthread_barrier_wait(me->round);
        int r = hadb_storage_create(shares ? &me->f->s : &own, NULL, key, hadb_slice_str(body),
                                    NULL, NULL);
        me->won[k] = r == 0;
        me->bad += r != 0 && r != HADB_EXISTS;
    }
    hadb_storage_close(&own);
}

static void racing__64_creators_have_exactly_one_winner_in_each_of_20_rounds(void **state)
{
    struct fixture *f = *state;
    static struct racer racers[RACERS];
    run_racers(f, racers, RACERS, race_creates);
    for (unsigned k = 0; k < ROUNDS; k++) {
        unsigned wins = 0, winner = 0;
        for (unsigned i = 0; i < RACERS; i++) {
            if (racers[i].won[k]) {
                wins++;
                winner = i;
            }
        }
        assert_int_equal(wins, 1);
        char key[32], body[32];
        snprintf(key, sizeof(key), "race/%u", k);
        snprintf(body, sizeof(body), "racer %u", winner);
        assert_holds(f, key, body);
    }
}

/* Adds one by compare-and-swap until it has won COUNTS times, through a handle of its own. */
static void count_up(void *arg)
{
    struct racer *me = arg;
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    struct hadb_storage s = {0};
    storage_world_open(me->f->world, &s);
    await_start(me);
    for (unsigned done = 0, tries = 0; done < COUNTS && tries < 100000 && !me->bad; tries++) {
        struct hadb_tag tag;
        char body[32];
        if (hadb_storage_get(&s, NULL, "counter", &bytes, &tag, NULL) != 0) {
            me->bad++;
            break;
        }
        unsigned value = (unsigned)atoi(hadb_buf_cstr(&bytes));
        snprintf(body, sizeof(body), "%u from %u", value + 1, me->id);
        int r = hadb_storage_replace(&s, NULL, "counter", hadb_slice_str(body), &tag, NULL, NULL);
        done += r == 0;
        me->bad += r != 0 && r != HADB_CAS_LOST;
    }
    hadb_storage_close(&s);
}

static void racing__replacers_lose_no_update(void **state)
{
    struct fixture *f = *state;
    static struct racer racers[COUNTERS];
    assert_done(f, create(f, "counter", "0"));
    run_racers(f, racers, COUNTERS, count_up);
    assert_done(f, hadb_storage_get(&f->s, NULL, "counter", &f->got, NULL, &f->err));
    assert_int_equal(atoi(hadb_buf_cstr(&f->got)), COUNTERS * COUNTS);
}

/* Reads while racer 0 replaces: a body is always whole (all bytes alike, length as its byte says). */
static void read_or_replace(void *arg)
{
    struct racer *me = arg;
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    static uint8_t body[26 * 4096];
    await_start(me);
    for (unsigned i = 0; i < 40; i++) {
        struct hadb_tag tag;
        int r = hadb_storage_get(&me->f->s, NULL, "body", &bytes, &tag, NULL);
        size_t letter = r == 0 && bytes.len > 0 ? (size_t)(bytes.data[0] - 'a') : 0;
        me->bad += r != 0 || bytes.len != (letter + 1) * 4096;
        for (size_t k = 0; k < bytes.len; k++) {
            me->bad += bytes.data[k] != bytes.data[0];
        }
        if (me->id == 0) {
            size_t next = (letter + 7) % 26;
            memset(body, (int)('a' + next), sizeof(body));
            me->bad +=
                hadb_storage_replace(&me->f->s, NULL, "body", hadb_slice(body, (next + 1) * 4096),
                                     &tag, NULL, NULL) != 0;
        }
    }
}

static void readers__never_see_a_torn_body(void **state)
{
    struct fixture *f = *state;
    static struct racer racers[5];
    static uint8_t body[4096];
    memset(body, 'a', sizeof(body));
    assert_done(
        f, hadb_storage_create(&f->s, NULL, "body", hadb_slice(body, sizeof(body)), NULL, &f->err));
    run_racers(f, racers, HADB_LEN(racers), read_or_replace);
}

struct handover {
    struct fixture *f;
    struct hadb_mutex mu;
    struct hadb_cond moved;
    unsigned written; /* mu */
    unsigned seen;    /* mu */
    unsigned missed;  /* reader until joined */
};

/* Reads each object through another handle, as soon as it is told that create has returned. */
static void read_after(void *arg)
{
    struct handover *h = arg;
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    struct hadb_storage s = {0};
    storage_world_open(h->f->world, &s);
    for (unsigned i = 0; i < 50; i++) {
        char key[32];
        snprintf(key, sizeof(key), "after/%u", i);
        h->missed += hadb_storage_get(&s, NULL, key, &bytes, NULL, NULL) < 0; /* mostly absent */
        hadb_mutex_lock(&h->mu);
        h->seen = i;
        hadb_cond_broadcast(&h->moved);
        while (h->written <= i) {
            hadb_cond_wait(&h->moved, &h->mu);
        }
        hadb_mutex_unlock(&h->mu);
        struct hadb_object_meta meta;
        h->missed += hadb_storage_head(&s, NULL, key, &meta, NULL) != 0;
        h->missed += hadb_storage_get(&s, NULL, key, &bytes, NULL, NULL) != 0 || bytes.len != 3;
    }
    hadb_storage_close(&s);
}

static void created__object_is_seen_at_once_by_other_threads_and_handles(void **state)
{
    struct fixture *f = *state;
    struct handover h = {.f = f};
    struct hadb_thread reader = {0};
    hadb_mutex_init(&h.mu, 0);
    hadb_cond_init(&h.moved);
    assert_done(f, hadb_thread_start(&reader, "reader", read_after, &h, &f->err));
    for (unsigned i = 0; i < 50; i++) {
        char key[32];
        snprintf(key, sizeof(key), "after/%u", i);
        hadb_mutex_lock(&h.mu);
        while (i > 0 && h.seen < i) {
            hadb_cond_wait(&h.moved, &h.mu);
        }
        hadb_mutex_unlock(&h.mu);
        assert_done(f, create(f, key, "abc"));
        hadb_mutex_lock(&h.mu);
        h.written = i + 1;
        hadb_cond_broadcast(&h.moved);
        hadb_mutex_unlock(&h.mu);
    }
    hadb_thread_join(&reader);
    hadb_cond_deinit(&h.moved);
    hadb_mutex_deinit(&h.mu);
    assert_int_equal(h.missed, 0);
}

int contract_run_races(const char *spec)
{
    static const struct CMUnitTest tests[] = {
        contract(racing__64_creators_have_exactly_one_winner_in_each_of_20_rounds),
        contract(racing__replacers_lose_no_update),
        contract(readers__never_see_a_torn_body),
        contract(created__object_is_seen_at_once_by_other_threads_and_handles),
    };
    return cmocka_run_group_tests_name(spec, tests, NULL, NULL);
}
