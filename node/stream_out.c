/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 5 of 8, the short cut: the owner's side of streams. See stream.h for the frames.
 *
 * Thread: the loop.
 * Invariants: an entry is streamed when it is sent to storage first, its mark only once it is durable.
 * Failure modes: a follower that reads too slowly loses its stream and catches up from storage.
 */
#include "node/node_private.h"

#include <stdio.h>
#include <stdlib.h>

static void send_frame(struct hadb_outflow *flow, const struct hadb_frame *frame)
{
    uint8_t fixed[HADB_STREAM_FIXED_BYTES_MAX];
    size_t len = hadb__frame_put(frame, fixed);
    /* A failed write closes the stream; closed() will tell. */
    int r = hadb_http_stream_write(flow->http, hadb_slice(fixed, len));
    if (r == 0 && frame->entry.len > 0) {
        hadb_http_stream_write(flow->http, frame->entry);
    }
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct hadb_id));
}

static bool carries(const struct hadb_outflow *flow, const struct hadb_id *uuid)
{
    return flow->dbs_len > 0 &&
           bsearch(uuid, flow->dbs, flow->dbs_len, sizeof *flow->dbs, compare_ids) != NULL;
}

static void flow_free(struct hadb_outflow *flow)
{
    struct hadb_streams *streams = &flow->node->streams;
    struct hadb_outflow **at = &streams->out;
    while (*at != flow) {
        at = &(*at)->next;
    }
    *at = flow->next;
    streams->out_len--;
    hadb_free(flow->dbs);
    hadb_free(flow);
}

static void closed(void *arg, int code)
{
    struct hadb_outflow *flow = arg;
    hadb_log(flow->node->env, HADB_LOG_DEBUG, "stream", NULL, "stream to %s ended: %s", flow->name,
             hadb_code_text(code));
    flow_free(flow);
}

static void send_hello(struct hadb_outflow *flow)
{
    send_frame(flow, &(struct hadb_frame){.type = HADB_FRAME_HELLO, .owner = flow->node->self});
}

static void send_mark(struct hadb_outflow *flow, const struct hadb_id *uuid, uint64_t term,
                      uint64_t slot)
{
    send_frame(flow, &(struct hadb_frame){
                         .type = HADB_FRAME_MARK, .db = *uuid, .term = term, .slot = slot});
}

static void send_poke(struct hadb_outflow *flow, const struct hadb_id *uuid)
{
    send_frame(flow, &(struct hadb_frame){.type = HADB_FRAME_POKE, .db = *uuid});
}

static void send_free(struct hadb_outflow *flow, const struct hadb_db *db)
{
    send_frame(flow, &(struct hadb_frame){
                         .type = HADB_FRAME_FREE, .db = db->uuid, .given_up = db->given_up});
}

/* What became durable before this stream was there is told once; and that another node leads by now: heartbeats
 * of a living process would keep the follower waiting for news for ever. */
static void send_marks(struct hadb_outflow *flow)
{
    for (size_t i = 0; i < flow->dbs_len; i++) {
        struct hadb_db *db = hadb__node_find_uuid(flow->node, &flow->dbs[i]);
        if (db && db->given_up) {
            send_free(flow, db);
        }
        if (db && hadb_core_leads(&db->core)) {
            send_mark(flow, &db->uuid, db->durable.term, db->durable.slot);
        } else {
            send_poke(flow, &flow->dbs[i]);
        }
    }
}

static struct hadb_outflow *flow_new(struct hadb_node *node, struct hadb_http_exchange *exchange,
                                     struct hadb_slice dbs)
{
    struct hadb_outflow *flow = hadb_calloc(1, sizeof *flow);
    struct hadb_id *list = hadb_calloc(HADB_MAX(dbs.len / 16, 1u), sizeof *list);
    if (!flow || !list) {
        hadb_free(flow);
        hadb_free(list);
        return NULL;
    }
    const char *name = hadb_http_request_header(exchange, "Hadb-Node");
    const char *id = hadb_http_request_header(exchange, "Hadb-Node-Id");
    const char *address = hadb_http_request_header(exchange, "Hadb-Node-Address");
    struct hadb_net_address parsed;
    flow->node = node;
    snprintf(flow->name, sizeof flow->name, "%s", name && hadb_name_valid(name) ? name : "");
    if (address && strlen(address) < sizeof flow->address &&
        hadb_net_parse(address, &parsed, NULL) == 0) {
        snprintf(flow->address, sizeof flow->address, "%s", address);
    }
    if (!id || !hadb_id_parse(id, &flow->follower)) {
        flow->follower = (struct hadb_id){0};
    }
    if (dbs.len > 0) {
        memcpy(list, dbs.data, dbs.len);
    }
    flow->dbs = list;
    flow->dbs_len = dbs.len / 16;
    qsort(flow->dbs, flow->dbs_len, sizeof *flow->dbs, compare_ids);
    return flow;
}

void hadb__stream_accept(struct hadb_node *node, struct hadb_http_exchange *exchange,
                         const struct hadb_http_request *request)
{
    struct hadb_streams *streams = &node->streams;
    if (request->body.len % 16 != 0 || request->body.len / 16 > HADB_NODE_DATABASES_MAX) {
        hadb_http_reply_error(exchange, 400, HADB_EPROTO, NULL, 0,
                              "the body must be uuids of databases, 16 bytes each");
        return;
    }
    struct hadb_outflow *flow = streams->stopped || streams->out_len >= HADB_STREAMS_MAX
                                    ? NULL
                                    : flow_new(node, exchange, request->body);
    if (!flow) {
        hadb_http_reply_error(exchange, 503, HADB_EUNAVAIL, NULL, 0, "no more streams");
        return;
    }
    struct hadb_http_stream_options options = {.content_type = "application/octet-stream",
                                               .buffer_bytes_max = HADB_STREAM_BUFFER_BYTES_MAX,
                                               .closed = closed,
                                               .arg = flow};
    flow->http = hadb_http_stream_begin(exchange, &options);
    if (!flow->http) {
        hadb_free(flow->dbs);
        hadb_free(flow);
        return;
    }
    flow->next = streams->out;
    streams->out = flow;
    streams->out_len++;
    send_hello(flow);
    send_marks(flow);
}

void hadb__stream_send_entry(struct hadb_db *db, const struct hadb_obj *obj)
{
    const struct hadb_framed *framed = &obj->framed;
    /* Byte 6 of an object is its kind; only data travels this way. */
    if (framed->blobs_len > 0 || framed->entry.len > HADB_STREAM_ENTRY_BYTES_MAX ||
        framed->entry.len < HADB_ENTRY_HEADER_BYTES || framed->entry.data[6] != HADB_ENTRY_DATA) {
        return;
    }
    for (struct hadb_outflow *flow = db->node->streams.out; flow; flow = flow->next) {
        if (carries(flow, &db->uuid)) {
            HADB_COUNT(&db->node->counters, stream_entries_sent);
            send_frame(flow, &(struct hadb_frame){.type = HADB_FRAME_ENTRY,
                                                  .db = db->uuid,
                                                  .entry = hadb_buf_slice(&framed->entry)});
        }
    }
}

void hadb__stream_send_mark(struct hadb_db *db, uint64_t term, uint64_t slot)
{
    for (struct hadb_outflow *flow = db->node->streams.out; flow; flow = flow->next) {
        if (carries(flow, &db->uuid)) {
            send_mark(flow, &db->uuid, term, slot);
        }
    }
}

void hadb__stream_send_poke(struct hadb_db *db)
{
    for (struct hadb_outflow *flow = db->node->streams.out; flow; flow = flow->next) {
        if (carries(flow, &db->uuid)) {
            send_poke(flow, &db->uuid);
        }
    }
}

void hadb__stream_send_free(struct hadb_db *db)
{
    for (struct hadb_outflow *flow = db->node->streams.out; flow; flow = flow->next) {
        if (carries(flow, &db->uuid)) {
            send_free(flow, db);
        }
    }
}

const struct hadb_id *hadb__stream_follower(struct hadb_db *db)
{
    for (struct hadb_outflow *flow = db->node->streams.out; flow; flow = flow->next) {
        if (carries(flow, &db->uuid) && !hadb_id_is_zero(&flow->follower)) {
            hadb__peers_remember(db->node, &flow->follower, flow->name, flow->address);
            return &flow->follower;
        }
    }
    return NULL;
}

static void on_beat(void *arg)
{
    struct hadb_node *node = arg;
    struct hadb_streams *streams = &node->streams;
    uint64_t now = hadb__now(node);
    bool ok = hadb_hint_heartbeat_ok(&node->peers.hint, now);
    for (struct hadb_outflow *flow = streams->out; ok && flow; flow = flow->next) {
        HADB_COUNT(&node->counters, stream_beats_sent);
        send_frame(flow, &(struct hadb_frame){.type = HADB_FRAME_BEAT});
    }
    hadb_timer_start(&streams->beat, now + hadb_hint_renew_every_ms(&node->peers.hint.config));
}

int hadb__streams_start(struct hadb_node *node, struct hadb_error *err)
{
    int r = hadb_timer_init(&node->streams.beat, node->loop, on_beat, node, err);
    if (r == 0) {
        hadb_timer_start(&node->streams.beat, hadb__now(node));
    }
    return r;
}

void hadb__streams_stop(struct hadb_node *node)
{
    struct hadb_streams *streams = &node->streams;
    streams->stopped = true;
    hadb_timer_deinit(&streams->beat);
    while (streams->out) {
        hadb_http_stream_end(streams->out->http);
        flow_free(streams->out);
    }
}
