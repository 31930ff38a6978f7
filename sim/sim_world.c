/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulator: virtual time, chance, the trace, and the loop over events.
 *
 * Happy path events in order of time (ties by the seed) until the seed's phases are over: trouble,
 * healing (a leader, an acknowledged write, everybody equal), quiet, idle (no request at all).
 * Failure    the first oracle that objects ends the seed; sim->violation says why.
 *
 * Thread: one.
 */
#include "base/util.h"
#include "sim/sim_private.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define RING_LINES 60u
#define RING_BYTES 200u
#define QUIET_TTLS 4u /* without clients, for snapshots and streams to come to rest */
#define CATCH_UP_MAX 20u
#define IDLE_TTLS 4u /* without any store request */
#define HEAL_TTLS 10u

struct sim_ring {
    char line[RING_LINES][RING_BYTES];
    uint64_t len;
};

void *sim_must(void *p)
{
    if (p == NULL) {
        fprintf(stderr, "hadb-sim: out of memory\n");
        exit(2);
    }
    return p;
}

/* ---- chance: splitmix64 (Steele, Lea, Flood 2014) ---- */

uint64_t sim_random(struct sim *s)
{
    uint64_t z = (s->rng += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t sim_below(struct sim *s, uint64_t n)
{
    return n == 0 ? 0 : sim_random(s) % n;
}

bool sim_chance(struct sim *s, uint64_t per_mille)
{
    return per_mille != 0 && sim_below(s, 1000) < per_mille;
}

bool sim_has(const struct sim *s, uint64_t fault)
{
    return (s->draw.faults & fault) != 0;
}

bool sim_fault(struct sim *s, enum sim_fault_bit bit)
{
    return s->phase == SIM_PH_SAFETY && sim_has(s, 1ull << bit) &&
           sim_chance(s, s->draw.per_mille[bit]);
}

uint64_t sim_around(struct sim *s, uint64_t mean_us)
{
    uint64_t us = mean_us / 2 + sim_below(s, mean_us + 1);
    return sim_chance(s, 20) ? us * 4 : us;
}

/* ---- trace ---- */

void sim_note(struct sim *s, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t h = s->hash;
    h = (h ^ a) * 0x9fb21c651e98df25ull;
    h = (h ^ (h >> 31) ^ b) * 0x9fb21c651e98df25ull;
    h = (h ^ (h >> 29) ^ c) * 0x9fb21c651e98df25ull;
    s->hash = h ^ (h >> 32);
}

void sim_say(struct sim *s, const char *format, ...)
{
    if (!s->opt.verbose && !s->opt.keep_lines) {
        return;
    }
    char text[RING_BYTES];
    va_list args;
    int at = snprintf(text, sizeof text, "%10.3f ", (double)s->now / 1e6);
    va_start(args, format);
    vsnprintf(text + at, sizeof text - (size_t)at, format, args);
    va_end(args);
    if (s->opt.verbose) {
        fprintf(s->opt.out, "%s\n", text);
    }
    memcpy(s->ring->line[s->ring->len++ % RING_LINES], text, sizeof text);
}

void sim_tail(const struct sim *s, FILE *out)
{
    uint64_t from = s->ring->len > RING_LINES ? s->ring->len - RING_LINES : 0;
    for (uint64_t i = from; i < s->ring->len; i++) {
        fprintf(out, "  %s\n", s->ring->line[i % RING_LINES]);
    }
}

void sim_fail(struct sim *s, const char *format, ...)
{
    if (s->violation[0] != '\0') {
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(s->violation, sizeof s->violation, format, args);
    va_end(args);
    s->over = true;
    sim_say(s, "VIOLATION %s", s->violation);
}

void sim_saw(struct sim *s, enum sim_sometimes which)
{
    s->sometimes[which]++;
    sim_say(s, "  (%s)", sim_sometimes_names[which]);
}

/* ---- the queue: a binary heap ---- */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at != b->at ? a->at < b->at : a->tie < b->tie;
}

/* Lets @e rise from the free place @i. */
static void rise(struct sim *s, size_t i, struct sim_event e)
{
    while (i > 0 && before(&e, &s->heap[(i - 1) / 2])) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = e;
}

void sim_push(struct sim *s, uint64_t delay_us, const struct sim_event *ev)
{
    if (s->heap_len == s->heap_cap) {
        s->heap_cap = s->heap_cap ? s->heap_cap * 2 : 1024;
        s->heap = sim_must(realloc(s->heap, s->heap_cap * sizeof *s->heap));
    }
    struct sim_event e = *ev;
    e.at = s->now + delay_us;
    e.tie = sim_random(s);
    rise(s, s->heap_len++, e);
}

/* Answers that are stuck come now: nothing fails any more. */
static void release_answers(struct sim *s)
{
    for (size_t i = 0; i < s->heap_len; i++) {
        struct sim_event e = s->heap[i];
        if (e.kind == SIM_EV_ANSWER) {
            e.at = HADB_MIN(e.at, s->now + s->draw.ttl_ms * SIM_MS);
        }
        rise(s, i, e);
    }
}

static struct sim_event pop(struct sim *s)
{
    struct sim_event top = s->heap[0];
    struct sim_event last = s->heap[--s->heap_len];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= s->heap_len) {
            break;
        }
        if (child + 1 < s->heap_len && before(&s->heap[child + 1], &s->heap[child])) {
            child++;
        }
        if (!before(&s->heap[child], &last)) {
            break;
        }
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

/* ---- phases ---- */

static void phase_after(struct sim *s, uint64_t delay_us)
{
    sim_push(s, delay_us, &(struct sim_event){.kind = SIM_EV_PHASE});
}

static void heal(struct sim *s)
{
    s->phase = SIM_PH_HEALED;
    s->healed_at = s->now;
    s->outage_until = s->lease_frozen_until = 0;
    memset(s->link_cut_until, 0, sizeof s->link_cut_until);
    sim_say(s, "---- healed: nothing fails any more");
    for (uint8_t n = 0; n < s->draw.nodes; n++) {
        struct sim_node *node = &s->node[n];
        node->store_cut_until = node->store_clog_until = 0;
        sim_node_set_rate(s, n, 1000);
        if (node->paused) {
            sim_node_resume(s, n);
        }
        if (!node->up) {
            sim_node_start(s, n);
        }
    }
    release_answers(s);
    s->heal_req = sim_heal_write(s);
    phase_after(s, HEAL_TTLS * s->draw.ttl_ms * SIM_MS);
}

/* A node that slept long reads slot after slot, each with its own request: that may take a while. */
static bool catching_up(const struct sim *s)
{
    bool behind = false;
    for (uint8_t n = 0; n < s->draw.nodes; n++) {
        behind |= sim_store_ahead(s, &s->node[n].core.view);
    }
    return behind;
}

/* Gives it a few more TTLs, at most CATCH_UP_MAX times. */
static bool wait_for_it(struct sim *s)
{
    bool behind = catching_up(s);
    bool wait = behind || s->was_behind; /* one whole span after the last one is there */
    s->was_behind = behind;
    if (!wait || s->waited++ >= CATCH_UP_MAX) {
        return false;
    }
    phase_after(s, QUIET_TTLS * s->draw.ttl_ms * SIM_MS);
    return true;
}

static void next_phase(struct sim *s)
{
    switch ((enum sim_phase)s->phase) {
    case SIM_PH_SAFETY:
        if (!sim_has(s, SIM_FAULT(DAMAGE)) || !sim_damage(s)) {
            heal(s);
        }
        break;
    case SIM_PH_DAMAGED:
        s->over = true;
        break;
    case SIM_PH_HEALED:
        if (s->reqs[s->heal_req].outcome != SIM_OK) {
            if (wait_for_it(s)) {
                break;
            }
            sim_fail(s, "liveness: no write is acknowledged within %u TTLs after healing",
                     HEAL_TTLS);
        }
        s->phase = SIM_PH_QUIET;
        s->was_behind = catching_up(s);
        sim_say(s, "---- quiet: no more client requests");
        phase_after(s, QUIET_TTLS * s->draw.ttl_ms * SIM_MS);
        break;
    case SIM_PH_QUIET:
        if (wait_for_it(s)) {
            break;
        }
        s->phase = SIM_PH_IDLE;
        s->idle_requests = s->store_requests;
        sim_say(s, "---- idle: no store request may follow");
        phase_after(s, IDLE_TTLS * s->draw.ttl_ms * SIM_MS);
        break;
    case SIM_PH_IDLE:
        sim_oracle_end(s);
        s->over = true;
        break;
    }
}

/* ---- dispatch ---- */

/* Events that a process handles: not if it is gone, later if it stands still. */
static bool reaches_process(struct sim *s, const struct sim_event *ev)
{
    const struct sim_node *node = &s->node[ev->node];
    if (ev->life != 0 && (ev->life != node->life || !node->up)) {
        return false;
    }
    if (!node->up) {
        return ev->kind != SIM_EV_TIMER && ev->kind != SIM_EV_ANSWER &&
               ev->kind != SIM_EV_LEASE_REPLY && ev->kind != SIM_EV_LINK &&
               ev->kind != SIM_EV_STREAM && ev->kind != SIM_EV_NODE_MSG &&
               ev->kind != SIM_EV_REQUEST && ev->kind != SIM_EV_HEARTBEAT;
    }
    if (node->paused) {
        sim_node_defer(s, ev);
        return false;
    }
    return true;
}

static bool for_process(uint8_t kind)
{
    return kind == SIM_EV_TIMER || kind == SIM_EV_ANSWER || kind == SIM_EV_LEASE_REPLY ||
           kind == SIM_EV_LINK || kind == SIM_EV_STREAM || kind == SIM_EV_NODE_MSG ||
           kind == SIM_EV_REQUEST || kind == SIM_EV_HEARTBEAT || kind == SIM_EV_TURN;
}

static void dispatch_world(struct sim *s, const struct sim_event *ev)
{
    switch ((enum sim_kind)ev->kind) {
    case SIM_EV_STORE:
        sim_store_arrive(s, ev);
        break;
    case SIM_EV_LEASE:
        sim_lease_arrive(s, ev);
        break;
    case SIM_EV_CONNECT:
        sim_connect_arrive(s, ev);
        break;
    case SIM_EV_REPLY:
        sim_client_reply(s, ev);
        break;
    case SIM_EV_CLIENT:
        sim_client_next(s, (uint8_t)ev->a);
        break;
    case SIM_EV_TIMEOUT:
        sim_client_timeout(s, ev);
        break;
    case SIM_EV_NEMESIS:
        sim_nemesis(s);
        break;
    case SIM_EV_START:
        if (!(s->kept_down >> ev->node & 1)) {
            sim_node_start(s, ev->node);
        }
        break;
    case SIM_EV_RESUME:
        sim_node_resume(s, ev->node);
        break;
    case SIM_EV_PHASE:
        next_phase(s);
        break;
    default:
        HADB_ASSERT(!"an event of the world");
    }
}

static void dispatch_process(struct sim *s, const struct sim_event *ev)
{
    switch ((enum sim_kind)ev->kind) {
    case SIM_EV_TIMER:
        sim_node_timer(s, ev);
        break;
    case SIM_EV_ANSWER:
        sim_answer(s, ev);
        break;
    case SIM_EV_LEASE_REPLY:
        sim_lease_reply(s, ev);
        break;
    case SIM_EV_LINK:
        sim_link_result(s, ev);
        break;
    case SIM_EV_STREAM:
        sim_stream_arrive(s, ev);
        break;
    case SIM_EV_NODE_MSG:
        sim_node_msg(s, ev);
        break;
    case SIM_EV_REQUEST:
        sim_serve(s, ev);
        break;
    case SIM_EV_HEARTBEAT:
        sim_node_heartbeat(s, ev->node);
        break;
    case SIM_EV_TURN:
        sim_step_simple(s, ev->node, HADB_EV_SEAL_TURN);
        break;
    default:
        HADB_ASSERT(!"an event of a process");
    }
}

void sim_run(struct sim *s)
{
    while (!s->over && s->heap_len > 0 && s->steps < s->opt.steps_max) {
        struct sim_event ev = pop(s);
        s->now = ev.at;
        s->steps++;
        if (!for_process(ev.kind)) {
            sim_note(s, ev.at, ev.kind, ev.a);
            dispatch_world(s, &ev);
        } else if (reaches_process(s, &ev)) {
            sim_note(s, ev.at, (uint64_t)ev.kind << 16 | (uint64_t)ev.node << 8 | ev.op, ev.a);
            dispatch_process(s, &ev);
            if (!s->over) {
                sim_oracle_handles(s, ev.node);
            }
        }
    }
}

/* ---- the beginning and the end of a seed ---- */

void sim_init(struct sim *s, uint64_t seed, const struct sim_options *opt, uint64_t *sometimes)
{
    memset(s, 0, sizeof *s);
    s->opt = *opt;
    s->seed = seed;
    s->rng = seed * 0x9e3779b97f4a7c15ull ^ 0x5851f42d4c957f2dull;
    s->sometimes = sometimes;
    s->ring = sim_must(calloc(1, sizeof *s->ring));
    s->reqs = sim_must(calloc(SIM_REQS_MAX + 1, sizeof *s->reqs));
    s->truth_tx = sim_must(calloc(SIM_REQS_MAX + 1, sizeof *s->truth_tx));
    s->truth_at = sim_must(calloc(SIM_REQS_MAX + 1, sizeof *s->truth_at));
    sim_draw(s);
    struct sim_manifest first = {.info = {.version = 1}};
    first.info.nonce.b[0] = 1;
    s->manifest = sim_manifest_new(s, &first);
    for (uint8_t n = 0; n < s->draw.nodes; n++) {
        sim_node_init(s, n);
        sim_push(s, sim_below(s, s->draw.ttl_ms * SIM_MS),
                 &(struct sim_event){.kind = SIM_EV_START, .node = n});
    }
    for (uint8_t c = 0; c < s->draw.clients; c++) {
        sim_client_kick(s, c, s->draw.ttl_ms * SIM_MS / 2);
    }
    sim_nemesis_later(s);
    phase_after(s, s->draw.safety_us);
}

void sim_free(struct sim *s)
{
    for (uint8_t n = 0; n < s->draw.nodes; n++) {
        sim_engine_free(&s->node[n].engine);
        free(s->node[n].deferred);
    }
    free(s->ring);
    free(s->reqs);
    free(s->truth_tx);
    free(s->truth_at);
    free(s->heap);
    free(s->entries);
    free(s->manifests);
    free(s->snapshots);
    free(s->lists);
    free(s->store.places);
    free(s->truth.places);
    free(s->owners.places);
}
