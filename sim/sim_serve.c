/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulator: client requests at a node. Writes run where the gate is open, others are forwarded to the
 * leader once; reads run anywhere. No reply rests on state that could be rewound (4.3.4).
 *
 * Owns       the requests that wait at a node: for a durable mark, a read round, or to be caught up.
 * Thread     one.
 * Invariant  a request that was put into the engine is answered OK only when it is durable (or LOCAL and
 *            on disk), and FENCED only by a definite rewind.
 */
#include "base/util.h"
#include "sim/sim_private.h"

#include <string.h>

/* ---- answering ---- */

static void send_reply(struct sim *s, uint8_t n, const struct sim_wait *w)
{
    uint64_t trip = sim_around(s, s->draw.net_us);
    struct sim_event ev = {.kind = SIM_EV_REPLY,
                           .node = n,
                           .a = w->req,
                           .b = w->attempt,
                           .result = w->outcome,
                           .x = w->value,
                           .y = w->txid};
    if (w->via != SIM_NOBODY) {
        if (!sim_link_up(s, n, (uint8_t)w->via) || !s->node[w->via].up) {
            return; /* the forwarding node will never hear of it, nor will the client */
        }
        trip *= 2;
    }
    sim_push(s, trip, &ev);
}

static void reply(struct sim *s, uint8_t n, struct sim_wait *w, enum sim_outcome outcome)
{
    struct sim_req *req = &s->reqs[w->req];
    w->outcome = (uint8_t)outcome;
    if (outcome == SIM_OK && req->kind <= SIM_SWAP && !req->local) {
        if (!req->acked) {
            req->acked = true;
            req->txid = w->txid;
        } else if (req->txid != w->txid) {
            sim_fail(s, "exactly once: request %u was acknowledged as transaction %llu and %llu",
                     w->req, (unsigned long long)req->txid, (unsigned long long)w->txid);
        }
    }
    send_reply(s, n, w);
    memset(w, 0, sizeof *w);
}

static void answer_at_once(struct sim *s, uint8_t n, struct sim_wait w, enum sim_outcome outcome)
{
    reply(s, n, &w, outcome);
}

static struct sim_wait *free_wait(struct sim_node *node)
{
    for (uint32_t i = 0; i < SIM_WAITS_MAX; i++) {
        if (node->waits[i].kind == SIM_W_NONE) {
            return &node->waits[i];
        }
    }
    return NULL;
}

/* Answers when everything that the reply rests on is durable. */
static void answer_when_durable(struct sim *s, uint8_t n, struct sim_wait w,
                                enum sim_outcome outcome)
{
    struct sim_node *node = &s->node[n];
    bool wait = w.txid > node->engine.mark.txid && (s->opt.rules & HADB_RULE_REPLY_DURABLE);
    struct sim_wait *place = wait ? free_wait(node) : NULL;
    w.kind = SIM_W_DURABLE;
    w.outcome = (uint8_t)outcome;
    if (place != NULL) {
        *place = w;
    } else {
        answer_at_once(s, n, w, wait ? SIM_UNKNOWN : outcome);
    }
}

/* ---- writes ---- */

/*
 * A condition that does not hold commits nothing, so no create proves that this node still leads: its
 * answer rests on a read, and needs the proof of a read. @proven: it has been given.
 */
static void execute_write(struct sim *s, uint8_t n, struct sim_wait w, bool proven)
{
    struct sim_node *node = &s->node[n];
    struct sim_engine *e = &node->engine;
    struct sim_req *req = &s->reqs[w.req];
    if (e->txid_of[w.req] != 0) { /* the same id again: answered from the table */
        sim_saw(s, req->first_node == n ? SIM_S_retry_answered_from_table
                                        : SIM_S_retry_answered_by_another_leader);
        w.txid = e->txid_of[w.req];
        answer_when_durable(s, n, w, SIM_OK);
        return;
    }
    if (req->kind == SIM_SWAP && e->kv[req->key] != req->expect) {
        if (!proven) {
            node->joining = w;
            sim_step_simple(s, n, HADB_EV_READ);
            return;
        }
        sim_saw(s, SIM_S_condition_not_met);
        w.txid = e->len;
        answer_when_durable(s, n, w, SIM_NOT_MET);
        return;
    }
    struct sim_wait *place = free_wait(node);
    bool refused =
        place == NULL || (req->local && !hadb_hint_local_ok(&node->hint, sim_local_ms(s, node)));
    if (refused) {
        answer_at_once(s, n, w, SIM_REFUSED);
        return;
    }
    sim_engine_commit(s, e, w.req, node->gate_term);
    req->first_node = n;
    w.txid = e->len;
    w.committed = true;
    if (req->local) {
        sim_engine_flush(s, e);
        req->acked = true;
        answer_at_once(s, n, w, SIM_OK);
    } else {
        w.kind = SIM_W_DURABLE;
        w.outcome = SIM_OK;
        *place = w;
    }
    struct hadb_event ev = {.type = HADB_EV_COMMITTED, .txid = e->len};
    sim_step(s, n, &ev);
}

static void serve_write(struct sim *s, uint8_t n, struct sim_wait w)
{
    struct sim_node *node = &s->node[n];
    if (node->gate == HADB_GATE_OPEN || node->gate == HADB_GATE_DRAIN) {
        execute_write(s, n, w, false); /* draining: this one was under way already */
        return;
    }
    uint8_t owner = sim_owner_node(&node->owner);
    if (w.via != SIM_NOBODY || owner == SIM_NOBODY || owner == n || node->stopping) {
        answer_at_once(s, n, w, SIM_REFUSED);
        return;
    }
    if (!sim_link_up(s, n, owner) || !s->node[owner].up) {
        answer_at_once(s, n, w, SIM_REFUSED); /* no connection: surely not done */
        return;
    }
    sim_push(s, sim_around(s, s->draw.net_us),
             &(struct sim_event){
                 .kind = SIM_EV_REQUEST, .node = owner, .a = w.req, .b = w.attempt, .x = n});
}

/* ---- reads ---- */

static void read_now(struct sim *s, uint8_t n, struct sim_wait w)
{
    struct sim_engine *e = &s->node[n].engine;
    w.value = e->kv[s->reqs[w.req].key];
    w.txid = e->len;
    if (s->reqs[w.req].kind == SIM_READ_BOUNDED) {
        sim_oracle_bounded(s, n, &w);
    }
    answer_when_durable(s, n, w, SIM_OK);
}

static void serve_read(struct sim *s, uint8_t n, struct sim_wait w)
{
    struct sim_node *node = &s->node[n];
    const struct sim_req *req = &s->reqs[w.req];
    if (req->kind == SIM_READ_ANY) {
        w.value = node->engine.kv[req->key];
        w.txid = node->engine.len;
        answer_at_once(s, n, w, SIM_OK);
        return;
    }
    struct sim_wait *place = free_wait(node);
    if (place == NULL || node->stopping) {
        answer_at_once(s, n, w, SIM_REFUSED);
        return;
    }
    if (req->kind == SIM_READ_BOOKMARK) {
        sim_saw(s, SIM_S_bookmark_read);
        if (node->engine.mark.txid >= req->bookmark) {
            read_now(s, n, w);
        } else {
            w.kind = SIM_W_APPLIED;
            *place = w;
        }
        return;
    }
    w.at = s->now;
    node->joining = w;
    struct hadb_event ev = {.type = HADB_EV_READ, .max_lag_ms = req->max_lag_ms};
    sim_step(s, n, &ev);
}

void sim_serve_join(struct sim *s, uint8_t n, uint64_t round)
{
    struct sim_node *node = &s->node[n];
    struct sim_wait *place = free_wait(node);
    if (round == HADB_ROUND_NOW) {
        sim_saw(s, SIM_S_bounded_read_at_once);
        read_now(s, n, node->joining);
        return;
    }
    if (round == 0 || place == NULL) {
        sim_saw(s, SIM_S_read_unavailable);
        answer_at_once(s, n, node->joining, SIM_REFUSED);
        return;
    }
    *place = node->joining;
    place->kind = SIM_W_ROUND;
    place->round = round;
}

void sim_serve_round(struct sim *s, uint8_t n, uint64_t round)
{
    struct sim_node *node = &s->node[n];
    for (uint32_t i = 0; i < SIM_WAITS_MAX; i++) {
        struct sim_wait w = node->waits[i];
        if (w.kind != SIM_W_ROUND || w.round > round) {
            continue;
        }
        memset(&node->waits[i], 0, sizeof w);
        if (s->reqs[w.req].kind != SIM_SWAP) {
            read_now(s, n, w);
        } else if (s->reqs[w.req].expect != node->engine.kv[s->reqs[w.req].key] ||
                   node->engine.txid_of[w.req] != 0) {
            execute_write(s, n, w, true);
        } else { /* it would hold now; committing from within a step of the machine is not possible */
            answer_at_once(s, n, w, SIM_REFUSED);
        }
    }
}

void sim_serve_round_failed(struct sim *s, uint8_t n)
{
    for (uint32_t i = 0; i < SIM_WAITS_MAX; i++) {
        struct sim_wait *w = &s->node[n].waits[i];
        if (w->kind == SIM_W_ROUND) {
            sim_saw(s, SIM_S_read_unavailable);
            reply(s, n, w, SIM_REFUSED);
        }
    }
}

/* ---- what waited ---- */

void sim_serve_durable(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    for (uint32_t i = 0; i < SIM_WAITS_MAX; i++) {
        struct sim_wait *w = &node->waits[i];
        if (w->kind == SIM_W_DURABLE && w->txid <= node->engine.mark.txid) {
            reply(s, n, w, (enum sim_outcome)w->outcome);
        } else if (w->kind == SIM_W_APPLIED && s->reqs[w->req].bookmark <= node->engine.mark.txid) {
            struct sim_wait read = *w;
            memset(w, 0, sizeof *w);
            read_now(s, n, read);
        }
    }
}

void sim_serve_lost(struct sim *s, uint8_t n, uint64_t txid, bool definite)
{
    for (uint32_t i = 0; i < SIM_WAITS_MAX; i++) {
        struct sim_wait *w = &s->node[n].waits[i];
        if (w->kind != SIM_W_DURABLE || w->txid <= txid) {
            continue;
        }
        if (definite) {
            sim_saw(s, SIM_S_write_refused_by_fence);
            s->reqs[w->req].fenced |= w->committed;
        }
        reply(s, n, w, definite ? SIM_REFUSED : SIM_UNKNOWN);
    }
}

void sim_serve_reset(struct sim *s, uint8_t n)
{
    memset(s->node[n].waits, 0, sizeof s->node[n].waits);
}

void sim_serve(struct sim *s, const struct sim_event *ev)
{
    struct sim_wait w = {.req = ev->a, .attempt = ev->b, .via = (uint32_t)ev->x};
    if (s->node[ev->node].core.role == HADB_CORE_HALTED) {
        answer_at_once(s, ev->node, w, SIM_REFUSED);
    } else if (s->reqs[ev->a].kind <= SIM_SWAP) {
        serve_write(s, ev->node, w);
    } else {
        serve_read(s, ev->node, w);
    }
}
