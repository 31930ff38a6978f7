/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulator: links between nodes, connection attempts, the leader's stream, small messages.
 *
 * A stream is a connection: what arrives on it arrives in order, and once something is lost nothing more
 * arrives until it is noticed. The host behind a process that is gone refuses connections; the host of
 * a process that stands still accepts them; across a cut link nothing answers.
 *
 * Thread: one.
 */
#include "base/util.h"
#include "sim/sim_private.h"

#include <inttypes.h>
#include <string.h>

#define RETRY_MS 20u /* between attempts to open a stream */

bool sim_link_up(const struct sim *s, uint8_t from, uint8_t to)
{
    return s->now >= s->link_cut_until[from][to];
}

static uint64_t trip(struct sim *s)
{
    uint64_t us = sim_around(s, s->draw.net_us);
    return sim_fault(s, SIM_F_BIT_NET_SLOW) ? us * 40 : us;
}

/* ---- connecting ---- */

void sim_connect(struct sim *s, uint8_t n, uint8_t to, bool stream)
{
    struct sim_event ev = {
        .kind = SIM_EV_CONNECT, .node = to, .a = n, .b = stream, .life = s->node[n].life};
    if (sim_link_up(s, n, to)) {
        sim_push(s, trip(s), &ev);
        return;
    }
    sim_push(s, s->draw.ttl_ms * SIM_MS / 5,
             &(struct sim_event){.kind = SIM_EV_LINK,
                                 .node = n,
                                 .a = to,
                                 .b = stream,
                                 .life = s->node[n].life,
                                 .result = HADB_LINK_NO_ANSWER});
}

/* The kernel of the target's host decides; whether its process moves does not matter. */
void sim_connect_arrive(struct sim *s, const struct sim_event *ev)
{
    uint8_t from = (uint8_t)ev->a;
    enum hadb_watch_link link = s->node[ev->node].up ? HADB_LINK_CONNECTED : HADB_LINK_REFUSED;
    uint64_t delay = trip(s);
    if (!sim_link_up(s, ev->node, from)) {
        link = HADB_LINK_NO_ANSWER;
        delay = s->draw.ttl_ms * SIM_MS / 5;
    }
    sim_push(s, delay,
             &(struct sim_event){.kind = SIM_EV_LINK,
                                 .node = from,
                                 .a = ev->node,
                                 .b = ev->b,
                                 .life = ev->life,
                                 .result = (uint32_t)link});
}

/* ---- streams, seen by the follower ---- */

static void stream_say(struct sim *s, uint8_t from, uint8_t to, struct sim_event ev, uint64_t *last)
{
    uint64_t delay = trip(s);
    if (s->now + delay <= *last) {
        delay = *last - s->now + 1;
    }
    *last = s->now + delay;
    ev.kind = SIM_EV_STREAM;
    ev.node = to;
    ev.b = ev.b << 8 | from;
    sim_push(s, delay, &ev);
}

void sim_stream_drop(struct sim *s, uint8_t n)
{
    /* The leader's end notices in its own time. */
    memset(&s->node[n].stream, 0, sizeof s->node[n].stream);
}

void sim_stream_pump(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    if (node->stream.retry_at == 0 || s->now < node->stream.retry_at || node->stopping) {
        return;
    }
    node->stream.retry_at = 0;
    if (node->watching) {
        sim_connect(s, n, sim_owner_node(&node->owner), true);
    }
}

static void stream_retry(struct sim *s, uint8_t n)
{
    s->node[n].stream.retry_at = s->now + sim_around(s, RETRY_MS * SIM_MS);
    sim_arm(s, n);
}

void sim_link_result(struct sim *s, const struct sim_event *ev)
{
    struct sim_node *node = &s->node[ev->node];
    uint8_t to = (uint8_t)ev->a;
    if (!node->watching || sim_owner_node(&node->owner) != to) {
        return;
    }
    if (ev->b == 0) {
        if (node->watch.busy) {
            hadb_watch_connect(&node->watch, (enum hadb_watch_link)ev->result,
                               sim_local_ms(s, node));
            sim_lease_pump(s, ev->node);
            sim_arm(s, ev->node);
        }
        return;
    }
    if (node->stream.conn != 0 || node->stream.retry_at != 0) {
        return;
    }
    if (ev->result != HADB_LINK_CONNECTED) {
        stream_retry(s, ev->node);
        return;
    }
    node->stream.conn = ++s->conns_len;
    node->stream.server = to;
    node->stream.owner = node->owner;
    uint64_t last = 0;
    stream_say(
        s, ev->node, to,
        (struct sim_event){.op = SIM_ST_HELLO, .b = node->stream.conn, .life = s->node[to].life},
        &last);
}

/* The connection ended: by the other side, by a reset, or because nothing came for too long. */
static void stream_lost(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    struct sim_stream old = node->stream;
    sim_stream_drop(s, n);
    if (old.up) {
        hadb_watch_stream(&node->watch, false, sim_local_ms(s, node));
        struct hadb_event ev = {
            .type = HADB_EV_STREAM, .result = HADB_R_FAILED, .owner = old.owner};
        sim_step(s, n, &ev);
    }
    if (node->watching) {
        stream_retry(s, n);
    }
}

static void stream_message(struct sim *s, uint8_t n, const struct sim_event *in)
{
    struct sim_node *node = &s->node[n];
    uint64_t now = sim_local_ms(s, node);
    struct hadb_event ev;
    memset(&ev, 0, sizeof ev);
    ev.owner = node->stream.owner;
    switch ((enum sim_stream_op)in->op) {
    case SIM_ST_WELCOME:
        node->stream.up = true;
        hadb_watch_stream(&node->watch, true, now);
        ev.type = HADB_EV_STREAM;
        break;
    case SIM_ST_ENTRY:
        ev.type = HADB_EV_STREAM_ENTRY;
        ev.entry = s->entries[in->a].info;
        ev.handle = sim_handle_new(s, n, SIM_H_ENTRY, in->a, (struct sim_list){0});
        break;
    case SIM_ST_MARK:
        ev.type = HADB_EV_STREAM_MARK;
        ev.term = in->x;
        ev.slot = in->y;
        break;
    case SIM_ST_BEAT:
        hadb_watch_alive(&node->watch, now);
        sim_lease_pump(s, n);
        return;
    default:
        return;
    }
    uint64_t slot = node->core.view.slot;
    sim_step(s, n, &ev);
    if (node->core.phase == HADB_PH_APPLY && in->op != SIM_ST_WELCOME) {
        sim_saw(s, SIM_S_stream_applied);
    } else if (in->op == SIM_ST_MARK && in->y > slot && node->core.phase == HADB_PH_GET) {
        sim_saw(s, SIM_S_stream_gap);
    }
}

/* A follower asks for the stream of this node's present life. */
static void hello(struct sim *s, const struct sim_event *in)
{
    struct sim_node *node = &s->node[in->node];
    uint8_t from = (uint8_t)(in->b & 255);
    uint32_t conn = in->b >> 8;
    uint64_t last = 0;
    struct sim_event ev = {.op = SIM_ST_CLOSE, .b = conn, .life = s->node[from].life};
    bool serve = hadb_core_leads(&node->core) && s->node[from].stream.conn == conn &&
                 memcmp(&s->node[from].stream.owner, &node->core.self, sizeof node->core.self) == 0;
    if (!serve) {
        stream_say(s, in->node, from, ev, &last);
        return;
    }
    node->conns[from] = conn;
    node->conn_last[from] = 0;
    ev.op = SIM_ST_WELCOME;
    stream_say(s, in->node, from, ev, &node->conn_last[from]);
    ev.op = SIM_ST_MARK;
    ev.x = node->core.view.term;
    ev.y = node->core.view.slot;
    stream_say(s, in->node, from, ev, &node->conn_last[from]);
}

void sim_stream_arrive(struct sim *s, const struct sim_event *in)
{
    uint8_t from = (uint8_t)(in->b & 255);
    struct sim_stream *stream = &s->node[in->node].stream;
    if (in->op == SIM_ST_HELLO) {
        hello(s, in);
        return;
    }
    if (stream->conn != in->b >> 8 || stream->server != from) {
        return; /* of a connection that is over */
    }
    if (!sim_link_up(s, from, in->node)) {
        stream->broken = true;
    }
    if (in->op == SIM_ST_CLOSE) {
        stream_lost(s, in->node);
    } else if (!stream->broken) {
        stream_message(s, in->node, in);
    }
}

/* ---- streams, seen by the leader ---- */

static void to_followers(struct sim *s, uint8_t n, struct sim_event ev)
{
    struct sim_node *node = &s->node[n];
    for (uint8_t f = 0; f < s->draw.nodes; f++) {
        if (node->conns[f] == 0) {
            continue;
        }
        ev.b = node->conns[f];
        ev.life = s->node[f].life;
        stream_say(s, n, f, ev, &node->conn_last[f]);
        if (sim_fault(s, SIM_F_BIT_NET_RESET)) {
            sim_say(s, "stream from n%d to n%d breaks", n, f);
            ev.op = SIM_ST_CLOSE;
            stream_say(s, n, f, ev, &node->conn_last[f]);
            node->conns[f] = 0;
        }
    }
}

void sim_stream_entry(struct sim *s, uint8_t n, uint32_t entry)
{
    to_followers(s, n, (struct sim_event){.op = SIM_ST_ENTRY, .a = entry});
}

void sim_stream_mark(struct sim *s, uint8_t n, const struct hadb_pos *pos)
{
    to_followers(s, n, (struct sim_event){.op = SIM_ST_MARK, .x = pos->term, .y = pos->slot});
}

/*
 * A leader whose follower went away looks whether it still leads: perhaps it slept, was replaced, and
 * nobody would ever ask it for anything again.
 */
static void notice_gone(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    bool gone = false;
    for (uint8_t f = 0; f < s->draw.nodes; f++) {
        if (node->conns[f] != 0 && s->node[f].stream.conn != node->conns[f] && sim_chance(s, 300)) {
            node->conns[f] = 0;
            gone = true;
        }
    }
    if (gone && hadb_core_leads(&node->core)) {
        sim_step_simple(s, n, HADB_EV_POKE);
    }
}

/* Heartbeats out; on the reading side, a connection on which nothing comes is given up. */
void sim_stream_beat(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    if (hadb_core_leads(&node->core) &&
        hadb_hint_heartbeat_ok(&node->hint, sim_local_ms(s, node))) {
        to_followers(s, n, (struct sim_event){.op = SIM_ST_BEAT});
    }
    notice_gone(s, n);
    struct sim_stream *stream = &node->stream;
    if (stream->conn != 0 && (stream->broken || s->node[stream->server].conns[n] != stream->conn) &&
        sim_chance(s, 300)) {
        stream_lost(s, n);
    }
}

void sim_streams_close(struct sim *s, uint8_t n)
{
    to_followers(s, n, (struct sim_event){.op = SIM_ST_CLOSE});
    memset(s->node[n].conns, 0, sizeof s->node[n].conns);
}

void sim_process_gone(struct sim *s, uint8_t n)
{
    sim_streams_close(s, n);
    sim_stream_drop(s, n);
}

/* ---- messages ---- */

static void message(struct sim *s, uint8_t from, uint8_t to, struct sim_event ev)
{
    ev.kind = SIM_EV_NODE_MSG;
    ev.node = to;
    if (sim_link_up(s, from, to)) {
        sim_push(s, trip(s), &ev);
    }
}

void sim_ask_ready(struct sim *s, uint8_t n, uint8_t target)
{
    struct sim_node *node = &s->node[n];
    node->ops[HADB_OP_MAIN].id = 0;
    message(s, n, target, (struct sim_event){.op = SIM_MSG_ASK, .a = n, .y = node->life});
    /* No answer in time is an answer. */
    sim_push(s, s->draw.ttl_ms * SIM_MS / 4,
             &(struct sim_event){.kind = SIM_EV_NODE_MSG,
                                 .node = n,
                                 .op = SIM_MSG_READY,
                                 .life = node->life,
                                 .result = HADB_R_FAILED});
}

static void notify(struct sim *s, uint8_t n, uint8_t to)
{
    message(s, n, to,
            (struct sim_event){
                .op = SIM_MSG_NOTIFY, .life = s->node[to].life, .a = n, .y = s->node[n].life});
}

void sim_notify(struct sim *s, uint8_t n, const struct hadb_owner *owner)
{
    uint8_t to = sim_owner_node(owner);
    if (to != n && s->node[to].up && s->node[to].life == sim_owner_life(owner)) {
        notify(s, n, to);
    }
}

/*
 * A new leader tells every node, until each has heard it or is gone: an owner that was replaced behind
 * a cut link and has nothing to do would never look by itself.
 */
void sim_notify_all(struct sim *s, uint8_t n)
{
    s->node[n].unheard = ((1u << s->draw.nodes) - 1) & ~(1u << n);
    sim_notify_again(s, n);
}

void sim_notify_again(struct sim *s, uint8_t n)
{
    struct sim_node *node = &s->node[n];
    if (!hadb_core_leads(&node->core)) {
        node->unheard = 0;
    }
    for (uint8_t to = 0; to < s->draw.nodes; to++) {
        if (!s->node[to].up) {
            node->unheard &= ~(1u << to); /* it looks when it starts */
        } else if (node->unheard & (1u << to)) {
            notify(s, n, to);
        }
    }
}

void sim_node_msg(struct sim *s, const struct sim_event *ev)
{
    struct sim_node *node = &s->node[ev->node];
    if (ev->op == SIM_MSG_NOTIFY) {
        message(s, ev->node, (uint8_t)ev->a,
                (struct sim_event){.op = SIM_MSG_HEARD, .life = (uint32_t)ev->y, .a = ev->node});
        sim_step_simple(s, ev->node, HADB_EV_POKE);
    } else if (ev->op == SIM_MSG_HEARD) {
        node->unheard &= ~(1u << ev->a);
    } else if (ev->op == SIM_MSG_ASK) {
        /* The position travels as a fact. */
        struct sim_snapshot fact = {.pos = node->core.view};
        bool ready = !node->core.config.never_lead && node->core.role != HADB_CORE_HALTED;
        message(s, ev->node, (uint8_t)ev->a,
                (struct sim_event){.op = SIM_MSG_READY,
                                   .life = (uint32_t)ev->y,
                                   .result = ready ? HADB_R_OK : HADB_R_FAILED,
                                   .a = sim_snapshot_new(s, &fact),
                                   .x = ev->node,
                                   .y = node->life});
    } else if (node->ops[HADB_OP_MAIN].busy && node->ops[HADB_OP_MAIN].type == HADB_ACT_ASK_READY) {
        struct sim_event answer = *ev;
        answer.op = HADB_OP_MAIN;
        sim_answer(s, &answer);
    }
}
