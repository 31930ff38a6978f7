/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 7 of 8, the short cut: the follower's side of streams. One link per owner process; see stream.h.
 *
 * Thread: the loop.
 * Invariants: nothing that arrives here is believed before the machine has matched it with the term's owner;
 * a new stream replaces the old one only once it has said HELLO from the very process expected.
 * Happy path: open -> HELLO -> databases hear "stream up" -> entries, marks, heartbeats.
 * Failure modes: broken: the watcher is told, databases hear "stream down", tried again with growing waits.
 */
#include "node/node_private.h"

#include <stdio.h>
#include <stdlib.h>

#define REOPEN_WAIT_MS 20u /* several databases may come at once */
#define RETRY_MIN_MS 10u
#define RETRY_MAX_MS 1000u

/* One stream, opening or open. */
struct inflow {
    struct hadb_link *link; /* NULL = dropped: wait for its end and free */
    struct hadb_http_call *call;
    struct hadb_buf buf; /* a frame that has not arrived whole */
    struct hadb_buf dbs; /* what was asked for: sorted uuids */
    bool up;
};

struct hadb_link {
    struct hadb_peer *peer;
    struct inflow *current; /* up */
    struct inflow *opening;
    struct hadb_timer timer;
    bool dirty; /* the databases changed */
    unsigned failures;
};

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct hadb_id));
}

static bool carries(const struct inflow *flow, const struct hadb_id *uuid)
{
    return flow && flow->up && flow->dbs.len > 0 &&
           bsearch(uuid, flow->dbs.data, flow->dbs.len / 16, 16, compare_ids) != NULL;
}

static void drop(struct inflow *flow)
{
    if (flow) {
        flow->link = NULL;
        hadb_http_cancel(flow->call);
    }
}

/* ---- what the databases hear ---- */

static void tell_stream(struct hadb_peer *peer, struct hadb_db *db, bool up)
{
    struct hadb_event ev = {
        .type = HADB_EV_STREAM, .result = up ? HADB_R_OK : HADB_R_FAILED, .owner = peer->owner};
    hadb__db_event(db, &ev, NULL);
    if (up && memcmp(&db->mark_owner, &peer->owner, sizeof peer->owner) == 0) {
        struct hadb_event mark = {.type = HADB_EV_STREAM_MARK,
                                  .owner = peer->owner,
                                  .term = db->mark_term,
                                  .slot = db->mark_slot};
        hadb__db_event(db, &mark, NULL);
    }
}

void hadb__link_tell(struct hadb_peer *peer, struct hadb_db *db)
{
    if (peer->link && carries(peer->link->current, &db->uuid)) {
        tell_stream(peer, db, true);
    }
}

static void tell_all(struct hadb_peer *peer, bool up)
{
    struct hadb_node *node = peer->node;
    for (struct hadb_db *db = node->dbs, *next; db; db = next) {
        next = db->next;
        if (db->peer != peer) {
            continue;
        }
        if (up) {
            hadb__link_tell(peer, db);
        } else {
            tell_stream(peer, db, false);
        }
    }
}

/* ---- frames ---- */

static void retry_later(struct hadb_link *link)
{
    uint64_t wait = HADB_MIN((uint64_t)RETRY_MIN_MS << HADB_MIN(link->failures, 8u), RETRY_MAX_MS);
    link->failures++;
    hadb_timer_start(&link->timer, hadb__now(link->peer->node) + wait);
}

static bool on_hello(struct inflow *flow, const struct hadb_owner *who)
{
    struct hadb_link *link = flow->link;
    struct hadb_peer *peer = link->peer;
    uint64_t now = hadb__now(peer->node);
    if (!hadb_id_eq(&who->incarnation, &peer->owner.incarnation)) {
        /* The same node in a later life: the process that is watched is over. */
        if (hadb_id_eq(&who->node, &peer->owner.node) && !peer->watch.busy) {
            peer->watch.busy = true;
            hadb_watch_record(&peer->watch, HADB_R_OK, &who->incarnation, 0, HADB_HINT_LIVE, now);
        }
        return false;
    }
    drop(link->current);
    link->current = flow;
    link->opening = NULL;
    link->failures = 0;
    flow->up = true;
    HADB_COUNT(&peer->node->counters, streams_opened);
    hadb__peer_token(peer, false);
    hadb_watch_stream(&peer->watch, true, now);
    tell_all(peer, true);
    return true;
}

static void on_entry(struct hadb_peer *peer, struct hadb_db *db, struct hadb_slice stored)
{
    struct hadb_obj *obj = hadb_obj_new(HADB_OBJ_ENTRY);
    struct hadb_entry entry;
    struct hadb_hash hash;
    if (!obj || hadb_buf_append(&obj->stored, stored.data, stored.len) < 0 ||
        hadb_entry_peek(stored, &entry, &hash, NULL) < 0 || !hadb_id_eq(&entry.db, &db->uuid) ||
        entry.kind != HADB_ENTRY_DATA) {
        hadb_obj_unref(obj); /* storage has it */
        return;
    }
    HADB_COUNT(&peer->node->counters, stream_entries_received);
    struct hadb_event ev = {.type = HADB_EV_STREAM_ENTRY,
                            .owner = peer->owner,
                            .handle = hadb_objs_add(&db->objs, obj),
                            .entry = {.kind = HADB_CORE_DATA,
                                      .term = entry.term,
                                      .slot = entry.slot,
                                      .last_txid = entry.last_txid,
                                      .prev = entry.prev,
                                      .hash = hash}};
    if (!hadb__db_event(db, &ev, NULL)) {
        hadb_objs_release(&db->objs, ev.handle);
    }
}

static void on_mark(struct hadb_peer *peer, struct hadb_db *db, const struct hadb_frame *frame)
{
    struct hadb_event ev = {.type = HADB_EV_STREAM_MARK,
                            .owner = peer->owner,
                            .term = frame->term,
                            .slot = frame->slot};
    db->mark_owner = peer->owner;
    db->mark_term = ev.term;
    db->mark_slot = ev.slot;
    hadb__db_event(db, &ev, NULL);
}

/* False: not a stream of this protocol. */
static bool on_frame(struct inflow *flow, const struct hadb_frame *frame)
{
    if (!flow->up || frame->type == HADB_FRAME_HELLO) {
        return !flow->up && frame->type == HADB_FRAME_HELLO && on_hello(flow, &frame->owner);
    }
    struct hadb_peer *peer = flow->link->peer;
    struct hadb_db *db =
        frame->type == HADB_FRAME_BEAT ? NULL : hadb__node_find_uuid(peer->node, &frame->db);
    if (!db || db->peer != peer) {
        return true;
    }
    if (frame->type == HADB_FRAME_ENTRY) {
        on_entry(peer, db, frame->entry);
    } else if (frame->type == HADB_FRAME_MARK) {
        on_mark(peer, db, frame);
    } else if (frame->type == HADB_FRAME_POKE) {
        hadb__db_event(db, &(struct hadb_event){.type = HADB_EV_POKE}, NULL);
    } else {
        db->owner_gave_up = frame->given_up;
        hadb__peers_tell(db);
    }
    return true;
}

static void on_data(void *arg, struct hadb_slice data)
{
    struct inflow *flow = arg;
    if (!flow->link) {
        return;
    }
    if (hadb_buf_append(&flow->buf, data.data, data.len) < 0) {
        hadb_http_cancel(flow->call);
        return;
    }
    struct hadb_slice rest = hadb_buf_slice(&flow->buf);
    struct hadb_frame frame;
    int r = 0;
    while (flow->link && (r = hadb__frame_next(&rest, &frame)) == 0) {
        if (!on_frame(flow, &frame)) {
            r = HADB_EPROTO;
            break;
        }
    }
    if (r < 0) {
        hadb_http_cancel(flow->call);
        return;
    }
    if (rest.len > 0) {
        memmove(flow->buf.data, rest.data, rest.len);
    }
    flow->buf.len = rest.len;
    struct hadb_link *link = flow->link;
    if (link && flow->up) {
        struct hadb_peer *peer = link->peer;
        hadb_watch_alive(&peer->watch, hadb__now(peer->node));
        if (peer->told != hadb_watch_liveness(&peer->watch)) {
            hadb__peer_step(peer);
        }
    }
}

/* ---- opening and ending ---- */

static void ended(struct inflow *flow, const struct hadb_http_result *result)
{
    struct hadb_link *link = flow->link;
    struct hadb_peer *peer = link->peer;
    uint64_t now = hadb__now(peer->node);
    bool was_up = link->current == flow;
    if (was_up) {
        link->current = NULL;
        HADB_COUNT(&peer->node->counters, streams_broken);
    } else {
        link->opening = NULL;
    }
    hadb_log(peer->node->env, HADB_LOG_DEBUG, "stream", NULL, "stream from %s ended: %s",
             peer->name, result->message);
    if (result->status == 401) {
        hadb__peer_token(peer, true);
    }
    if (link->current) {
        retry_later(link); /* the old one still serves; the new set is asked for again */
        return;
    }
    retry_later(link);
    if (was_up || result->failure == HADB_HTTP_REFUSED) {
        hadb_watch_stream(&peer->watch, false, now);
    }
    if (was_up) {
        tell_all(peer, false);
    }
    hadb__peer_step(peer);
}

static void on_done(void *arg, const struct hadb_http_result *result)
{
    struct inflow *flow = arg;
    flow->call = NULL;
    if (flow->link) {
        ended(flow, result);
    }
    hadb_buf_deinit(&flow->buf);
    hadb_buf_deinit(&flow->dbs);
    hadb_free(flow);
}

static int ask_for(struct hadb_peer *peer, struct hadb_buf *out)
{
    for (struct hadb_db *db = peer->dbs; db; db = db->peer_next) {
        if (hadb_buf_append(out, db->uuid.b, 16) < 0) {
            return HADB_ENOMEM;
        }
    }
    if (out->len > 0) {
        qsort(out->data, out->len / 16, 16, compare_ids);
    }
    return 0;
}

static void open_flow(struct hadb_link *link)
{
    struct hadb_peer *peer = link->peer;
    struct hadb_node *node = peer->node;
    struct inflow *flow = hadb_calloc(1, sizeof *flow);
    if (!flow || ask_for(peer, &flow->dbs) < 0) {
        hadb_free(flow);
        retry_later(link);
        return;
    }
    flow->link = link;
    char url[HADB_ADDRESS_BYTES_MAX + 32], id[HADB_ID_TEXT_BYTES];
    snprintf(url, sizeof url, "http://%s/v1/stream", peer->address);
    hadb_id_format(&node->self.node, id);
    struct hadb_http_header headers[] = {
        {"Hadb-Node", node->name}, {"Hadb-Node-Id", id}, {"Hadb-Node-Address", node->address}};
    struct hadb_http_call_options options = {
        .method = "POST",
        .url = url,
        .headers = headers,
        .headers_len = HADB_LEN(headers),
        .body = hadb_buf_slice(&flow->dbs),
        .connect_timeout_ms = node->ttl_ms,
        /* heartbeats come every ttl/3: a half-open stream ends */
        .idle_timeout_ms = 2 * node->ttl_ms,
        .on_data = on_data,
        .on_done = on_done,
        .arg = flow};
    link->dirty = false;
    link->opening = flow;
    if (hadb_http_request(node->client, &options, &flow->call, NULL) < 0) {
        link->opening = NULL;
        hadb_buf_deinit(&flow->dbs);
        hadb_free(flow);
        retry_later(link);
    }
}

static void on_timer(void *arg)
{
    struct hadb_link *link = arg;
    if (!link->peer->address[0] || (!link->dirty && link->current) ||
        link->peer->node->peers.stopped) {
        return;
    }
    if (link->opening) {
        drop(link->opening);
        link->opening = NULL;
    }
    open_flow(link);
}

void hadb__link_update(struct hadb_peer *peer)
{
    if (peer->node->peers.stopped || peer->doomed) {
        return;
    }
    if (!peer->link) {
        struct hadb_link *link = hadb_calloc(1, sizeof *link);
        if (!link || hadb_timer_init(&link->timer, peer->node->loop, on_timer, link, NULL) < 0) {
            hadb_free(link);
            return; /* without it, followers read storage */
        }
        link->peer = peer;
        peer->link = link;
    }
    peer->link->dirty = true;
    uint64_t now = hadb__now(peer->node);
    bool first = !peer->link->current && !peer->link->opening && peer->link->failures == 0;
    if (first || !hadb_timer_active(&peer->link->timer)) {
        hadb_timer_start(&peer->link->timer, first ? now : now + REOPEN_WAIT_MS);
    }
}

void hadb__link_close(struct hadb_peer *peer)
{
    struct hadb_link *link = peer->link;
    if (!link) {
        return;
    }
    peer->link = NULL;
    drop(link->current);
    drop(link->opening);
    hadb_timer_deinit(&link->timer);
    hadb_free(link);
}
