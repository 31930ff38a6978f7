/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulator: clients. Each has one request under way: it asks a node, is patient for a while, and tries
 * again elsewhere with the same request id until it has a definite answer or gives up.
 *
 * Thread: one. Invariant: a request whose every attempt was surely not done ends as refused; one attempt
 * without a definite answer makes the whole request's outcome unknown.
 */
#include "base/util.h"
#include "sim/sim_private.h"

#include <inttypes.h>

#define ATTEMPTS_MAX 6u
#define HEAL_CLIENT (SIM_CLIENTS_MAX - 1)

void sim_client_kick(struct sim *s, uint8_t c, uint64_t delay_us)
{
    sim_push(s, delay_us, &(struct sim_event){.kind = SIM_EV_CLIENT, .a = c});
}

static void attempt(struct sim *s, uint32_t r, uint64_t delay_us)
{
    struct sim_req *req = &s->reqs[r];
    struct sim_client *client = &s->client[req->client];
    uint64_t trip = delay_us + sim_around(s, s->draw.net_us);
    req->attempts++;
    sim_push(s, trip,
             &(struct sim_event){.kind = SIM_EV_REQUEST,
                                 .node = client->node,
                                 .a = r,
                                 .b = req->attempts,
                                 .x = SIM_NOBODY});
    sim_push(s, delay_us + sim_around(s, s->draw.ttl_ms * SIM_MS * 6 / 10),
             &(struct sim_event){.kind = SIM_EV_TIMEOUT, .a = r, .b = req->attempts});
}

static void choose(struct sim *s, struct sim_req *req)
{
    uint64_t kind = sim_below(s, 100);
    req->kind = kind < 45   ? SIM_WRITE
                : kind < 60 ? SIM_SWAP
                : kind < 80 ? SIM_READ_LINEAR
                : kind < 92 ? SIM_READ_BOOKMARK
                            : SIM_READ_ANY;
    req->key = (uint8_t)sim_below(s, SIM_KEYS - SIM_LOCAL_KEYS);
    if (req->kind == SIM_WRITE && sim_has(s, SIM_FAULT(LOCAL)) && sim_chance(s, 250)) {
        req->local = true;
        req->key = (uint8_t)(SIM_KEYS - 1 - sim_below(s, SIM_LOCAL_KEYS));
    }
}

static uint32_t request(struct sim *s, uint8_t c)
{
    uint32_t r = ++s->reqs_len;
    struct sim_req *req = &s->reqs[r];
    *req = (struct sim_req){.client = c, .call = s->now, .ret = LIN_UNKNOWN, .value = r};
    s->client[c].req = r;
    return r;
}

/* What this client believes to be there: the last write to the key that somebody was told of. */
static uint64_t guess(struct sim *s, uint8_t key)
{
    for (uint32_t i = s->reqs_len; i > 0 && i + 40 > s->reqs_len; i--) {
        const struct sim_req *req = &s->reqs[i];
        if (req->key == key && req->outcome == SIM_OK && req->kind <= SIM_SWAP) {
            return req->value;
        }
    }
    return 0;
}

void sim_client_next(struct sim *s, uint8_t c)
{
    struct sim_client *client = &s->client[c];
    if (client->req != 0 || s->phase >= SIM_PH_QUIET || s->reqs_len + 8 >= SIM_REQS_MAX) {
        return;
    }
    uint32_t r = request(s, c);
    struct sim_req *req = &s->reqs[r];
    choose(s, req);
    if (req->kind == SIM_SWAP) {
        req->expect = guess(s, req->key);
    }
    if (req->kind == SIM_READ_ANY &&
        s->draw.lag_ms != 0) { /* … of the shortest bound to 30 times that */
        req->kind = SIM_READ_BOUNDED;
        req->max_lag_ms = s->draw.lag_ms * (1 + r % 30);
    }
    req->bookmark = req->kind == SIM_READ_BOOKMARK ? client->bookmark : 0;
    if (sim_chance(s, 300)) {
        client->node = (uint8_t)sim_below(s, s->draw.nodes);
    }
    sim_say(s, "client %d: request %u (%s key %d) to n%d", c, r,
            req->kind == SIM_WRITE           ? "write"
            : req->kind == SIM_SWAP          ? "swap"
            : req->kind == SIM_READ_LINEAR   ? "linearizable read"
            : req->kind == SIM_READ_BOOKMARK ? "bookmark read"
            : req->kind == SIM_READ_BOUNDED  ? "bounded read"
                                             : "read",
            req->key, client->node);
    attempt(s, r, 0);
}

uint32_t sim_heal_write(struct sim *s)
{
    uint32_t r = request(s, HEAL_CLIENT);
    s->reqs[r].kind = SIM_WRITE;
    attempt(s, r, 0);
    return r;
}

static void finish(struct sim *s, uint32_t r, enum sim_outcome outcome)
{
    static const char *const words[] = {"pending", "done", "condition not met", "refused",
                                        "unknown"};
    struct sim_req *req = &s->reqs[r];
    req->outcome = (uint8_t)outcome;
    if (outcome == SIM_OK || outcome == SIM_NOT_MET) {
        req->ret = s->now;
    }
    sim_say(s, "client %d: request %u: %s, value %" PRIu64 ", transaction %" PRIu64, req->client, r,
            words[outcome], req->value, req->txid);
    s->client[req->client].req = 0;
    if (req->client != HEAL_CLIENT) {
        sim_client_kick(s, req->client, sim_around(s, s->draw.think_us));
    }
}

static void again(struct sim *s, uint32_t r)
{
    struct sim_req *req = &s->reqs[r];
    struct sim_client *client = &s->client[req->client];
    client->node = (uint8_t)((client->node + 1 + sim_below(s, 2)) % s->draw.nodes);
    if (req->attempts >= ATTEMPTS_MAX && req->client != HEAL_CLIENT) {
        finish(s, r, req->tainted ? SIM_UNKNOWN : SIM_REFUSED);
    } else {
        attempt(s, r, sim_around(s, s->draw.ttl_ms * SIM_MS / 20));
    }
}

static void take_read(struct sim *s, struct sim_req *req, const struct sim_event *ev)
{
    struct sim_client *client = &s->client[req->client];
    req->value = ev->x;
    req->txid = ev->y;
    if (req->kind == SIM_READ_ANY) {
        return;
    }
    if (ev->y < req->bookmark) {
        sim_fail(s, "bookmark: client %d asked for transaction %" PRIu64 " and read %" PRIu64,
                 req->client, req->bookmark, ev->y);
    }
    client->bookmark = HADB_MAX(client->bookmark, ev->y);
}

void sim_client_reply(struct sim *s, const struct sim_event *ev)
{
    struct sim_req *req = &s->reqs[ev->a];
    struct sim_client *client = &s->client[req->client];
    if (client->req != ev->a) {
        return; /* it has its answer, or gave up */
    }
    switch ((enum sim_outcome)ev->result) {
    case SIM_OK:
        if (req->kind > SIM_SWAP) {
            take_read(s, req, ev);
        } else if (!req->local) {
            client->bookmark = HADB_MAX(client->bookmark, ev->y);
        }
        finish(s, ev->a, SIM_OK);
        break;
    case SIM_NOT_MET:
        req->txid = ev->y;
        finish(s, ev->a, SIM_NOT_MET);
        break;
    case SIM_REFUSED:
        if (ev->b == req->attempts) {
            again(s, ev->a);
        }
        break;
    default:
        req->tainted = true;
        if (ev->b == req->attempts) {
            again(s, ev->a);
        }
        break;
    }
}

void sim_client_timeout(struct sim *s, const struct sim_event *ev)
{
    struct sim_req *req = &s->reqs[ev->a];
    if (s->client[req->client].req != ev->a || ev->b != req->attempts) {
        return;
    }
    req->tainted = true;
    again(s, ev->a);
}
